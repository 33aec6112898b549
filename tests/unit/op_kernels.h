/* What the tests of renderers share: a kernel for every primitive and dtype, and values at the
 * edges. */
#ifndef SMELT_TESTS_UNIT_OP_KERNELS_H
#define SMELT_TESTS_UNIT_OP_KERNELS_H

#include <math.h>
#include <string.h>

#include "ir/half.h"
#include "ir/kernel.h"

enum { OP_N = 400, MAX_OP_KERNELS = 1200 };

typedef struct OpKernel {
    KOp op;
    DType from, to;
    Kernel *kn; /* x, y, z, out: OP_N elements each */
} OpKernel;

typedef struct OpKernels {
    OpKernel at[MAX_OP_KERNELS];
    int n;
} OpKernels;

static inline KBuf *op_param(KCtx *k, Kernel *kn, DType t, const char *name, bool written) {
    KBuf *b = kbuf_new(k, MEM_PARAM, t, name, k_int(k, OP_N));
    b->written = written;
    b->noalias = true;
    b->index = kn->n_params;
    return kn->params[kn->n_params++] = b;
}

/* out[i] = op(x[i], y[i], z[i]); casts and bitcasts go from x's dtype to `to`. */
static inline void op_add_kernel(OpKernels *o, KCtx *k, KOp op, DType from, DType to) {
    Arena *a = kctx_arena(k);
    Kernel *kn = arena_new(a, Kernel);
    kn->name = arena_printf(a, "k%d_%s_%s_%s", o->n, kop_info[op].name, dtype_info[from].name,
                            dtype_info[to].name);
    kn->params = arena_array(a, KBuf *, 4);
    KBuf *x = op_param(k, kn, op == KO_select ? DT_BOOL : from, "x", false),
         *y = op_param(k, kn, from, "y", false);
    KBuf *z = op_param(k, kn, from, "z", false), *out = op_param(k, kn, to, "out", true);
    KBuild b;
    kb_begin(&b, k, &kn->body);
    const KExpr *i = kb_for(&b, LOOP_VECTOR, "i", k_int(k, OP_N)), *v;
    const KExpr *arg[3] = {k_load(k, x, i), k_load(k, y, i), k_load(k, z, i)};
    if (op == KO_cast)
        v = k_cast(k, to, arg[0]);
    else if (op == KO_bitcast)
        v = k_bitcast(k, to, arg[0]);
    else if (op == KO_load)
        v = k_load_if(k, y, k_add(k, i, k_int(k, 200)), k_lt(k, i, k_int(k, OP_N - 200)));
    else if (kop_info[op].n_args == 1)
        v = k_unary(k, op, arg[0]);
    else if (kop_info[op].n_args == 2)
        v = k_binary(k, op, arg[0], arg[1]);
    else if (op == KO_dot2_bf) /* the floats' bits as words */
        v = k_ternary(k, op, arg[0], k_bitcast(k, DT_I32, arg[1]), k_bitcast(k, DT_I32, arg[2]));
    else
        v = k_ternary(k, op, arg[0], arg[1], arg[2]);
    kb_store(&b, out, i, v);
    kb_end(&b);
    o->at[o->n++] = (OpKernel){op, from, to, kn};
}

/* Does this op exist for operands of this dtype? */
static inline bool op_has_dtype(KOp op, DType t) {
    bool is_float = dtype_is_float(t), is_int = dtype_is_int(t), is_bool = t == DT_BOOL;
    switch ((int)op) {
    case KO_ldexp: return t == DT_F32 || t == DT_F64;
    case KO_dot2_bf: return t == DT_F32;
    case KO_fma:
    case KO_sqrt:
    case KO_floor:
    case KO_ceil:
    case KO_trunc:
    case KO_rint: return is_float;
    case KO_fdiv:
    case KO_fmod:
    case KO_shl:
    case KO_shr: return is_int;
    case KO_and:
    case KO_or:
    case KO_xor:
    case KO_not: return is_int || is_bool;
    case KO_dot4_us:
    case KO_dot4_ss:
    case KO_dot2_ss:
    case KO_root16: return t == DT_I32;
    case KO_eq:
    case KO_ne:
    case KO_lt:
    case KO_le:
    case KO_select:
    case KO_load: return true;
    case KO_min:
    case KO_max: return true;
    default: return is_float || is_int;
    }
}

static inline void op_add_all(OpKernels *o, KCtx *k) {
    o->n = 0;
    for (int op = KO_load; op < KO_str_len; op++) /* strings have tests of their own */
        for (int t = DT_F32; t <= DT_BOOL; t++) {
            bool converts = op == KO_cast || op == KO_bitcast;
            for (int to = DT_F32; converts && to <= DT_BOOL; to++) {
                bool fits = dtype_info[to].bits == dtype_info[t].bits && to != DT_BOOL;
                if (to != t && (op == KO_cast || fits))
                    op_add_kernel(o, k, (KOp)op, (DType)t, (DType)to);
            }
            if (converts || op == KO_at || !op_has_dtype((KOp)op, (DType)t)) continue;
            op_add_kernel(o, k, (KOp)op, (DType)t,
                          kop_info[op].class == KC_CMP ? DT_BOOL : (DType)t);
        }
}

/* i-th value at the edges of t, as bits in memory; every pair of the first 20 meets once. */
static inline void op_fill(DType t, int which, void *out) {
    static const double floats[20] = {
        0,     -0.0,  1,    -1,           0.5,          -2.5,    1.5,    127.5, 128,      -128.5,
        65504, 65520, 1e-7, 2147483647.0, 2147483648.0, -9.3e18, 1.9e19, 1e39,  INFINITY, NAN};
    static const int64_t ints[20] = {0,    1,   -1,    2,         -2,        3,        7,
                                     -7,   8,   31,    32,        63,        64,       127,
                                     -128, 255, 32767, INT32_MAX, INT64_MIN, INT64_MAX};
    for (int i = 0; i < OP_N; i++) {
        int at = which == 0 ? i / 20 : which == 1 ? i % 20 : (i * 7 + 3) % 20;
        double f = floats[at];
        int64_t v = ints[at];
        if (t == DT_I32 && v == INT64_MIN) v = INT32_MIN;
        if (t == DT_I16 && v == INT64_MIN) v = INT16_MIN;
        switch (t) {
        case DT_F32: ((float *)out)[i] = (float)f; break;
        case DT_F64: ((double *)out)[i] = f; break;
        case DT_F16: ((uint16_t *)out)[i] = half_from_float((float)f); break;
        case DT_BF16: ((uint16_t *)out)[i] = bfloat_from_float((float)f); break;
        case DT_BOOL: ((uint8_t *)out)[i] = v & 1; break;
        default:
            if (dtype_bytes(t) == 1) ((uint8_t *)out)[i] = (uint8_t)v;
            if (dtype_bytes(t) == 2) ((uint16_t *)out)[i] = (uint16_t)v;
            if (dtype_bytes(t) == 4) ((uint32_t *)out)[i] = (uint32_t)v;
            if (dtype_bytes(t) == 8) ((uint64_t *)out)[i] = (uint64_t)v;
        }
    }
}

/* Equal bits, any NaN for any NaN. */
static inline bool op_same(DType t, const void *a, const void *b, int i) {
    size_t n = (size_t)dtype_bytes(t);
    const char *p = (const char *)a + n * (size_t)i, *q = (const char *)b + n * (size_t)i;
    if (!memcmp(p, q, n)) return true;
    if (t == DT_F32) {
        float x, y;
        memcpy(&x, p, n), memcpy(&y, q, n);
        return x != x && y != y;
    }
    if (t == DT_F64) {
        double x, y;
        memcpy(&x, p, n), memcpy(&y, q, n);
        return x != x && y != y;
    }
    if (t == DT_F16 || t == DT_BF16) {
        uint16_t x, y;
        memcpy(&x, p, n), memcpy(&y, q, n);
        float u = t == DT_F16 ? float_from_half(x) : float_from_bfloat(x);
        float v = t == DT_F16 ? float_from_half(y) : float_from_bfloat(y);
        return u != u && v != v;
    }
    return false;
}

#endif
