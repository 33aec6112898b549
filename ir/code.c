/* Casts to and from the types that are stored as another one, as integer arithmetic: see code.h.
 *
 * A small float is sign, exponent, mantissa. Its magnitude m, moved to the place of an f32's
 * exponent and mantissa, is an f32 whose exponent is short of 127 - bias: one exact product repairs
 * that, for subnormal codes too. The way back rounds an f32's (or f64's) bits at the code's last
 * one; below the least normal code, adding a number whose last bit is that of the code does the
 * same. */
#include "ir/code.h"

#include <math.h>
#include <string.h>

#include "ir/math_build.h"
#include "ir/pairs.h"

/* Codes are magnitudes, without the sign bit, unless the format has no -0: then nan is the whole
 * byte. */
typedef struct CodeFormat {
    int bits, mantissa, bias;
    int largest;         /* finite */
    int over;            /* what is beyond */
    int nan;             /* 0: there is none */
    bool has_inf, is_uz; /* uz: no -0; the byte of -0 is the NaN */
} CodeFormat;

static const CodeFormat formats[DT_COUNT] = {
    [DT_F8E4M3FN] = {8, 3, 7, 0x7e, 0x7f, 0x7f, false, false},
    [DT_F8E4M3FNUZ] = {8, 3, 8, 0x7f, 0x80, 0x80, false, true},
    [DT_F8E5M2] = {8, 2, 15, 0x7b, 0x7c, 0x7e, true, false},
    [DT_F8E5M2FNUZ] = {8, 2, 16, 0x7f, 0x80, 0x80, false, true},
    [DT_F6E2M3] = {6, 3, 1, 0x1f, 0x1f, 0, false, false},
    [DT_F6E3M2] = {6, 2, 3, 0x1f, 0x1f, 0, false, false},
    [DT_F4E2M1] = {4, 1, 1, 0x07, 0x07, 0, false, false},
};

enum { E8M0_BIAS = 127, E8M0_NAN = 255 };

static const CodeFormat *format_of(DType t) {
    BUG_IF(!formats[t].bits, "%s is no small float", dtype_info[t].name);
    return &formats[t];
}

static int sign_of(const CodeFormat *f) {
    return 1 << (f->bits - 1);
}

/* ---- in C ------------------------------------------------------------------------------------ */

double code_value(DType t, uint8_t code) {
    if (t == DT_F8E8M0) return code == E8M0_NAN ? NAN : ldexp(1, code - E8M0_BIAS);
    const CodeFormat *f = format_of(t);
    int sign = sign_of(f), m = code & (sign - 1);
    if (f->is_uz && code == f->nan) return NAN;
    double v;
    if (!f->is_uz && f->nan && m > f->largest)
        v = f->has_inf && m == f->over ? INFINITY : NAN;
    else if (m >> f->mantissa)
        v = ldexp((m & ((1 << f->mantissa) - 1)) + (1 << f->mantissa),
                  (m >> f->mantissa) - f->bias - f->mantissa);
    else
        v = ldexp(m, 1 - f->bias - f->mantissa);
    return code & sign ? -v : v;
}

static uint8_t power_code(double v) {
    if (v != v) return E8M0_NAN;
    int e;
    float single = fabsf((float)v);
    if (isinf(single)) return E8M0_NAN - 1;
    if (single == 0) return 0;
    float part = frexpf(single, &e); /* part 2^e, part in [1/2, 1) */
    int code = e - (part == 0.5f) + E8M0_BIAS;
    return (uint8_t)(code < 0 ? 0 : code >= E8M0_NAN ? E8M0_NAN - 1 : code);
}

uint8_t code_of(DType t, double v) {
    if (t == DT_F8E8M0) return power_code(v);
    const CodeFormat *f = format_of(t);
    int sign = signbit(v) ? sign_of(f) : 0, e;
    if (v != v) return (uint8_t)(f->is_uz ? f->nan : f->nan ? f->nan | sign : sign ^ sign_of(f));
    if (isinf(v)) return (uint8_t)(f->is_uz ? f->over : f->over | sign);
    frexp(v, &e);
    if (--e < 1 - f->bias) e = 1 - f->bias; /* subnormal codes share the least exponent */
    /* an exponent that rounding increases carries into its field by itself */
    double size = v == 0 ? 0 : nearbyint(ldexp(fabs(v), f->mantissa - e));
    double m = size == 0 ? 0 : size + ldexp(e + f->bias - 1, f->mantissa);
    int code = m > f->largest ? f->over : (int)m;
    return (uint8_t)(f->is_uz && !code ? 0 : code | sign);
}

double code_largest(DType t) {
    if (t == DT_F8E8M0) return 0x1p127;
    return code_value(t, (uint8_t)format_of(t)->largest);
}

/* ---- as expressions -------------------------------------------------------------------------- */

/* c: the code as i32; the f32 that it stands for. */
static E decode_power(const MathGen *m, E c) {
    KCtx *k = m->k;
    E v = from_bits(m, k_shl(k, c, ilit(m, 23)));
    v = pick(m, k_eq(k, c, ilit(m, 0)), lit(m, 0x1p-127), v);
    return pick(m, k_eq(k, c, ilit(m, E8M0_NAN)), lit(m, NAN), v);
}

static E decode(KCtx *k, DType t, E byte) {
    MathGen gen = math_gen(k, DT_F32, (MathUnits){0}), *m = &gen;
    E c = k_cast(k, DT_I32, byte);
    if (t == DT_F8E8M0) return decode_power(m, c);
    const CodeFormat *f = format_of(t);
    E size = k_and(k, c, ilit(m, sign_of(f) - 1));
    E moved = k_shl(k, size, ilit(m, 23 - f->mantissa));
    E v = bits(m, mul(m, from_bits(m, moved), lit(m, ldexp(1, 127 - f->bias))));
    if (f->has_inf) /* exponent all ones: infinity where the mantissa is 0, else NaN */
        v = pick(m, k_lt(k, ilit(m, f->largest), size), k_or(k, moved, ilit(m, 0x7f800000)), v);
    else if (f->nan && !f->is_uz)
        v = pick(m, k_eq(k, size, ilit(m, f->nan)), ilit(m, 0x7fc00000), v);
    E sign = k_shl(k, k_and(k, c, ilit(m, sign_of(f))), ilit(m, 32 - f->bits));
    v = k_or(k, v, sign);
    if (f->is_uz) v = pick(m, k_eq(k, c, ilit(m, f->nan)), ilit(m, 0x7fc00000), v);
    return from_bits(m, v);
}

/* The exponent field of |x|, one more when there is a mantissa; 2^-127, a subnormal f32, is 0. */
static E encode_power(const MathGen *m, E x) {
    KCtx *k = m->k;
    E a = bits(m, mag(m, x)), up = k_shr(k, k_add(k, a, ilit(m, 0x7fffff)), ilit(m, 23));
    up = pick(m, k_le(k, a, ilit(m, 0x400000)), ilit(m, 0), k_min(k, up, ilit(m, E8M0_NAN - 1)));
    up = pick(m, k_lt(k, ilit(m, 0x7f800000), a), ilit(m, E8M0_NAN), up);
    return k_cast(k, DT_U8, up);
}

/* x in m's format; the code as u8. */
static E encode(const MathGen *m, const CodeFormat *f, E x) {
    KCtx *k = m->k;
    E a = bits(m, mag(m, x));
    int drop = m->mantissa - f->mantissa;
    E odd = k_and(k, k_shr(k, a, ilit(m, drop)), ilit(m, 1));
    E up = k_add(k, k_add(k, a, odd), ilit(m, (INT64_C(1) << (drop - 1)) - 1));
    E size = k_sub(k, k_shr(k, up, ilit(m, drop)), ilit(m, (m->bias - f->bias) << f->mantissa));
    double least = ldexp(1, 1 - f->bias), aligned = ldexp(least, drop);
    E low = k_sub(k, bits(m, add(m, mag(m, x), lit(m, aligned))), bits(m, lit(m, aligned)));
    size = pick(m, lt(m, mag(m, x), lit(m, least)), low, size);
    size = pick(m, k_lt(k, ilit(m, f->largest), size), ilit(m, f->over), size);
    E is_minus = k_lt(k, bits(m, x), ilit(m, 0)), sign = ilit(m, sign_of(f)), none = ilit(m, 0);
    E code = k_or(k, size, pick(m, is_minus, sign, none));
    if (f->is_uz) code = pick(m, k_eq(k, size, none), none, code);
    E nan = f->is_uz  ? ilit(m, f->nan)
            : f->nan ? k_or(k, ilit(m, f->nan), pick(m, is_minus, sign, none))
                     : pick(m, is_minus, none, sign);
    return k_cast(k, DT_U8, pick(m, k_ne(k, x, x), nan, code));
}

static E encode_as(KCtx *k, DType t, E x) {
    bool is_wide = x->dtype == DT_F64 || (dtype_is_int(x->dtype) && dtype_bytes(x->dtype) > 2);
    DType in = is_wide && t != DT_F8E8M0 ? DT_F64 : DT_F32;
    MathGen m = math_gen(k, in, (MathUnits){0});
    x = k_cast(k, in, x);
    return t == DT_F8E8M0 ? encode_power(&m, x) : encode(&m, format_of(t), x);
}

/* The low bits of x, which is stored in whole bytes, sign-extended where t is signed. */
static E low_bits(KCtx *k, DType t, E x) {
    DType stored = dtype_stored(t);
    int n = dtype_info[t].bits;
    if (dtype_is_float(x->dtype)) x = k_cast(k, DT_I32, x);
    x = k_cast(k, stored, x);
    if (!dtype_is_signed(t)) return k_and(k, x, k_const_i(k, stored, (1 << n) - 1));
    E by = k_const_i(k, stored, 8 - n);
    return k_shr(k, k_shl(k, x, by), by);
}

const KExpr *code_cast(KCtx *k, DType t, const KExpr *a) {
    DType from = a->dtype;
    if (from == t) return a;
    if (dtype_stored(from) != from) {
        a = k_bitcast(k, dtype_stored(from), a);
        if (dtype_is_code(from)) a = decode(k, from, a);
    }
    if (dtype_stored(t) == t) return k_cast(k, t, a);
    return k_bitcast(k, t, dtype_is_code(t) ? encode_as(k, t, a) : low_bits(k, t, a));
}

/* ---- everything else takes the stored type --------------------------------------------------- */

static void store_buf(KCtx *k, KBuf *b) {
    if (!b) return;
    if (b->n_elems) b->n_elems = k_mul(k, b->n_elems, k_int(k, dtype_stored_count(b->dtype)));
    b->dtype = dtype_stored(b->dtype);
}

/* Operands are rewritten before their users, so that most nodes have been rebuilt by themselves. */
static const KExpr *store_node(KCtx *k, const KExpr *e, void *user) {
    (void)user;
    DType t = e->dtype;
    if (e->op == KO_load) {
        store_buf(k, e->u.buf);
        if (e->u.buf->dtype == t || k_is_word(e)) return e;
        return k_load_like(k, e, e->u.buf, e->arg);
    }
    if (dtype_stored(t) == t) return e;
    switch ((int)e->op) {
    case KO_const_i: return k_const_i(k, dtype_stored(t), e->u.i);
    case KO_bitcast: return k_bitcast(k, dtype_stored(t), e->arg[0]);
    case KO_var:
        e->u.var->dtype = dtype_stored(t);
        return k_var(k, e->u.var);
    default: BUG("%s of %s is left", kop_info[e->op].name, dtype_info[t].name);
    }
}

static void store_places(KCtx *k, KBlock *b) {
    for (KStmt *s = b->first; s; s = s->next) {
        if (s->var) s->var->dtype = dtype_stored(s->var->dtype);
        store_buf(k, s->buf);
        for (uint32_t i = 0; s->callee && i < s->callee->n_params; i++)
            store_buf(k, s->args[i].buf);
        store_places(k, &s->body);
        store_places(k, &s->other);
    }
}

/* Of a block whose c128 are split. */
static void store_block(KCtx *k, KBlock *b) {
    store_places(k, b);
    kblock_rewrite(k, b, store_node, NULL);
}

void kblock_store_codes(KCtx *k, KBlock *b) {
    kblock_split_pairs(k, b);
    store_block(k, b);
}

static void store_kernel(KCtx *k, Kernel *kn) {
    for (uint32_t i = 0; i < kn->n_params; i++) store_buf(k, kn->params[i]);
    store_block(k, &kn->body);
}

void kernel_store_codes(KCtx *k, Kernel *kn) {
    kblock_split_pairs(k, &kn->body);
    store_kernel(k, kn);
}

/* Everything is split before any buffer has another type. */
void kmodule_store_codes(KModule *m) {
    KCtx *k = m->k;
    for (uint32_t i = 0; i < m->n_kernels; i++) kblock_split_pairs(k, &m->kernels[i]->body);
    kblock_split_pairs(k, &m->entry);
    for (uint32_t i = 0; i < m->n_inputs; i++) store_buf(k, m->inputs[i].buf);
    for (uint32_t i = 0; i < m->n_outputs; i++) store_buf(k, m->outputs[i].buf);
    for (uint32_t i = 0; i < m->n_consts; i++) store_buf(k, m->consts[i]);
    for (uint32_t i = 0; i < m->n_kernels; i++) store_kernel(k, m->kernels[i]);
    store_block(k, &m->entry);
}
