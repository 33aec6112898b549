/* Kernel IR expressions: hash-consing, folding and simplification.
 *
 * Every distinct expression is one node, so equality is pointer equality. The constructors fold
 * constants and apply the obvious identities; i64 arithmetic goes to kernel_index.c. Floats are
 * folded only where IEEE arithmetic gives the same bits at run time. */
#include "ir/kernel_internal.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ir/code.h"
#include "ir/support/map.h"
#include "ir/support/str.h"

const KOpInfo kop_info[KO_COUNT] = {
    [KO_NONE] = {.name = "none"},
#define KOP(name, args, class, doc) [KO_##name] = {#name, args, KC_##class, doc},
#include "ir/kops.def"
#undef KOP
};

struct KCtx {
    Arena *arena;
    const KExpr **slot; /* open addressing */
    uint32_t n_slots, n_exprs, n_vars, n_bufs;
    pthread_mutex_t *lock; /* NULL: one thread */
};

KCtx *kctx_create(Arena *a) {
    KCtx *k = arena_new(a, KCtx);
    k->arena = a;
    return k;
}

void kctx_share(KCtx *k) {
    if (k->lock) return;
    k->lock = arena_new(k->arena, pthread_mutex_t);
    pthread_mutex_init(k->lock, NULL);
}

Arena *kctx_arena(const KCtx *k) {
    return k->arena;
}

uint32_t kctx_n_exprs(const KCtx *k) {
    return k->n_exprs;
}

uint32_t kctx_n_vars(const KCtx *k) {
    return k->n_vars;
}

KVar *kvar_new(KCtx *k, KVarKind kind, DType t, const char *name, int64_t lo, int64_t hi) {
    KVar *v = arena_new(k->arena, KVar);
    *v = (KVar){
        .id = k->n_vars++, .kind = kind, .dtype = t, .name = intern(name), .lo = lo, .hi = hi};
    return v;
}

KBuf *kbuf_new(KCtx *k, KMem mem, DType t, const char *name, const KExpr *n_elems) {
    KBuf *b = arena_new(k->arena, KBuf);
    *b =
        (KBuf){.id = k->n_bufs++, .name = intern(name), .dtype = t, .mem = mem, .n_elems = n_elems};
    return b;
}

/* ---- interning ------------------------------------------------------------------------------- */

static uint64_t node_hash(KOp op, DType t, uint64_t payload, const KExpr *const *arg, int n) {
    uint64_t h = ((uint64_t)op << 8 | (uint64_t)t) * UINT64_C(0x9e3779b97f4a7c15) ^ payload;
    h = (h ^ h >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    for (int i = 0; i < n; i++) h = (h ^ arg[i]->id ^ h >> 29) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 32;
}

static bool same_node(const KExpr *e, KOp op, DType t, uint64_t payload, const KExpr *const *arg,
                      int n) {
    uint64_t own;
    memcpy(&own, &e->u, sizeof own);
    return e->op == op && e->dtype == t && e->n_args == n && own == payload &&
           (n == 0 || !memcmp(e->arg, arg, sizeof *arg * (size_t)n));
}

static void grow_table(KCtx *k) {
    uint32_t n = k->n_slots ? k->n_slots * 2 : 1024;
    const KExpr **slot = arena_array(k->arena, const KExpr *, n);
    for (uint32_t i = 0; i < k->n_slots; i++) {
        if (!k->slot[i]) continue;
        uint32_t at = (uint32_t)k->slot[i]->hash & (n - 1);
        while (slot[at]) at = (at + 1) & (n - 1);
        slot[at] = k->slot[i];
    }
    k->slot = slot;
    k->n_slots = n;
}

static const KExpr *find_or_make(KCtx *k, KOp op, DType t, uint64_t payload,
                                 const KExpr *const *arg, int n) {
    if (k->n_exprs * 2 >= k->n_slots) grow_table(k);
    uint64_t hash = node_hash(op, t, payload, arg, n);
    uint32_t at = (uint32_t)hash & (k->n_slots - 1);
    for (; k->slot[at]; at = (at + 1) & (k->n_slots - 1))
        if (k->slot[at]->hash == hash && same_node(k->slot[at], op, t, payload, arg, n))
            return k->slot[at];
    KExpr *e = arena_alloc(k->arena, sizeof(KExpr) + sizeof *arg * (size_t)n);
    e->op = op;
    e->dtype = t;
    e->n_args = (uint8_t)n;
    e->id = k->n_exprs++;
    e->hash = hash;
    memcpy(&e->u, &payload, sizeof payload);
    for (int i = 0; i < n; i++) {
        e->arg[i] = arg[i];
        e->var_mask |= arg[i]->var_mask;
    }
    if (op == KO_var) e->var_mask = UINT64_C(1) << (e->u.var->id % 64);
    kernel_set_range(e);
    k->slot[at] = e;
    return e;
}

/* The one node of this op, dtype, payload and operands; nothing is simplified here. */
static const KExpr *cons(KCtx *k, KOp op, DType t, uint64_t payload, const KExpr *const *arg,
                         int n) {
    if (k->lock) pthread_mutex_lock(k->lock);
    const KExpr *e = find_or_make(k, op, t, payload, arg, n);
    if (k->lock) pthread_mutex_unlock(k->lock);
    return e;
}

static uint64_t bits_of(double v) {
    uint64_t b;
    memcpy(&b, &v, sizeof b);
    return b;
}

static const KExpr *cons1(KCtx *k, KOp op, DType t, const KExpr *a) {
    return cons(k, op, t, 0, &a, 1);
}

const KExpr *kernel_cons2(KCtx *k, KOp op, DType t, const KExpr *a, const KExpr *b) {
    const KExpr *arg[2] = {a, b};
    return cons(k, op, t, 0, arg, 2);
}

/* v as an integer of dtype t wraps to. */
static int64_t wrap_int(DType t, int64_t v) {
    if (t == DT_BOOL) return v != 0;
    int bits = dtype_info[t].bits;
    if (bits >= 64) return v;
    uint64_t u = (uint64_t)v << (64 - bits);
    return dtype_info[t].kind == DK_SINT ? (int64_t)u >> (64 - bits) : (int64_t)(u >> (64 - bits));
}

const KExpr *k_const_i(KCtx *k, DType t, int64_t v) {
    return cons(k, KO_const_i, t, (uint64_t)wrap_int(t, v), NULL, 0);
}

const KExpr *k_int(KCtx *k, int64_t v) {
    return k_const_i(k, DT_I64, v);
}

const KExpr *k_bool(KCtx *k, bool v) {
    return k_const_i(k, DT_BOOL, v);
}

/* Nearest value with `keep` fewer significand bits and exponents from `least`; ties to even. */
static double round_to(double v, int significand_bits, int least, double largest) {
    if (!isfinite(v) || v == 0) return v;
    int e;
    frexp(v, &e);
    int ulp = e - significand_bits;
    if (ulp < least) ulp = least;
    double r = ldexp(rint(ldexp(v, -ulp)), ulp);
    return fabs(r) > largest ? copysign(INFINITY, v) : r;
}

const KExpr *k_const_f(KCtx *k, DType t, double v) {
    if (t == DT_F32) v = (float)v;
    if (t == DT_F16) v = round_to(v, 11, -24, 65504.0);
    if (t == DT_BF16) v = round_to(v, 8, -133, 3.38953138925153547e38);
    if (v != v) v = NAN;
    return cons(k, KO_const_f, t, bits_of(v), NULL, 0);
}

const KExpr *k_const(KCtx *k, DType t, double v) {
    if (dtype_is_float(t)) return k_const_f(k, t, v);
    if (dtype_is_code(t)) return k_const_i(k, t, code_of(t, v));
    BUG_IF(dtype_is_complex(t) && v != 0, "the only constant of %s is 0", dtype_info[t].name);
    int64_t lo, hi;
    kernel_dtype_range(t, &lo, &hi);
    if (v >= 9223372036854775808.0) return k_const_i(k, t, t == DT_U64 ? -1 : hi);
    if (v <= -9223372036854775808.0) return k_const_i(k, t, lo);
    return k_const_i(k, t, (int64_t)v < lo ? lo : (int64_t)v > hi ? hi : (int64_t)v);
}

const KExpr *k_var(KCtx *k, KVar *v) {
    if (v->dtype == DT_I64 && v->lo == v->hi) return k_int(k, v->lo);
    uint64_t payload = 0;
    memcpy(&payload, &v, sizeof v);
    return cons(k, KO_var, v->dtype, payload, NULL, 0);
}

bool k_is_int(const KExpr *e, int64_t *value) {
    if (e->op != KO_const_i) return false;
    *value = e->u.i;
    return true;
}

bool k_is_value(const KExpr *e, double value) {
    if (e->op == KO_const_i) return (double)e->u.i == value && (int64_t)value == e->u.i;
    return e->op == KO_const_f && bits_of(e->u.f) == bits_of(value);
}

/* ---- integer folding ------------------------------------------------------------------------- */

static bool fold_int(KOp op, DType t, int64_t a, int64_t b, int64_t *r) {
    int bits = dtype_info[t].bits;
    bool is_unsigned = dtype_info[t].kind == DK_UINT;
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    bool less = is_unsigned ? ua < ub : a < b;
    switch ((int)op) {
    case KO_add: *r = (int64_t)(ua + ub); return true;
    case KO_sub: *r = (int64_t)(ua - ub); return true;
    case KO_mul: *r = (int64_t)(ua * ub); return true;
    case KO_div:
        *r = !b ? 0 : is_unsigned ? (int64_t)(ua / ub) : b == -1 ? (int64_t)(0 - ua) : a / b;
        return true;
    case KO_rem: *r = !b ? 0 : is_unsigned ? (int64_t)(ua % ub) : b == -1 ? 0 : a % b; return true;
    case KO_fdiv:
        *r = !b ? 0 : is_unsigned ? (int64_t)(ua / ub) : kernel_floor_div(a, b);
        return true;
    case KO_fmod:
        *r = !b ? 0 : is_unsigned ? (int64_t)(ua % ub) : kernel_floor_mod(a, b);
        return true;
    case KO_min: *r = less ? a : b; return true;
    case KO_max: *r = less || a == b ? b : a; return true;
    case KO_and: *r = a & b; return true;
    case KO_or: *r = a | b; return true;
    case KO_xor: *r = a ^ b; return true;
    case KO_shl: *r = ub >= (uint64_t)bits ? 0 : (int64_t)(ua << ub); return true;
    case KO_shr:
        if (is_unsigned)
            *r = ub >= (uint64_t)bits ? 0 : (int64_t)(ua >> ub);
        else
            *r = a >> (ub >= (uint64_t)bits ? 63 : ub);
        return true;
    case KO_eq: *r = a == b; return true;
    case KO_ne: *r = a != b; return true;
    case KO_lt: *r = less; return true;
    case KO_le: *r = less || a == b; return true;
    default: return false;
    }
}

/* f32 and f64 arithmetic at compile time gives the bits of run time: both are IEEE. */
static bool fold_float(KOp op, DType t, double a, double b, double *r) {
    float x = (float)a, y = (float)b;
    bool single = t == DT_F32;
    if (!single && t != DT_F64) return false;
    switch ((int)op) {
    case KO_add: *r = single ? (double)(x + y) : a + b; return true;
    case KO_sub: *r = single ? (double)(x - y) : a - b; return true;
    case KO_mul: *r = single ? (double)(x * y) : a * b; return true;
    case KO_div: *r = single ? (double)(x / y) : a / b; return true;
    case KO_min: *r = a < b ? a : b; return true;
    case KO_max: *r = a > b ? a : b; return true;
    default: return false;
    }
}

static bool fold_float_cmp(KOp op, double a, double b, bool *r) {
    switch ((int)op) {
    case KO_eq: *r = a == b; return true;
    case KO_ne: *r = a != b; return true;
    case KO_lt: *r = a < b; return true;
    case KO_le: *r = a <= b; return true;
    default: return false;
    }
}

/* ---- binary ---------------------------------------------------------------------------------- */

static const KExpr *simplify_bool(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    int64_t c;
    if (k_is_int(a, &c)) {
        const KExpr *t = a;
        a = b;
        b = t;
    }
    if (a == b && op != KO_xor) return a;
    if (!k_is_int(b, &c)) return NULL;
    if (op == KO_and) return c ? a : b;
    if (op == KO_or) return c ? b : a;
    return c ? k_not(k, a) : a;
}

static const KExpr *simplify_compare(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    if (a->dtype != DT_I64)
        return a == b && dtype_is_int(a->dtype) ? k_bool(k, op == KO_eq || op == KO_le) : NULL;
    int64_t lo, hi;
    kernel_difference_range(k, a, b, &lo, &hi);
    bool is_known = !kernel_is_unbounded(lo) && !kernel_is_unbounded(hi);
    if (a == b) return k_bool(k, op == KO_eq || op == KO_le);
    if (op == KO_lt && !kernel_is_unbounded(hi) && hi < 0) return k_bool(k, true);
    if (op == KO_lt && !kernel_is_unbounded(lo) && lo >= 0) return k_bool(k, false);
    if (op == KO_le && !kernel_is_unbounded(hi) && hi <= 0) return k_bool(k, true);
    if (op == KO_le && !kernel_is_unbounded(lo) && lo > 0) return k_bool(k, false);
    if ((op == KO_eq || op == KO_ne) && is_known && (lo > 0 || hi < 0))
        return k_bool(k, op == KO_ne);
    return NULL;
}

static const KExpr *simplify_index(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    switch ((int)op) {
    case KO_add: return kernel_i64_sum(k, a, b, 1);
    case KO_sub: return kernel_i64_sum(k, a, b, -1);
    case KO_mul: return kernel_i64_mul(k, a, b);
    case KO_fdiv: return kernel_i64_fdiv(k, a, b);
    case KO_fmod: return kernel_i64_fmod(k, a, b);
    case KO_div:
    case KO_rem:
        if (a->lo >= 0 && b->lo >= 1)
            return op == KO_div ? kernel_i64_fdiv(k, a, b) : kernel_i64_fmod(k, a, b);
        return NULL;
    case KO_min:
    case KO_max: {
        int64_t lo, hi;
        kernel_difference_range(k, a, b, &lo, &hi);
        if (a == b) return a;
        if (!kernel_is_unbounded(hi) && hi <= 0) return op == KO_min ? a : b;
        if (!kernel_is_unbounded(lo) && lo >= 0) return op == KO_min ? b : a;
        return a->id > b->id ? kernel_cons2(k, op, DT_I64, b, a) : NULL;
    }
    default: return NULL;
    }
}

static const KExpr *simplify_float(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    if (op == KO_mul && k_is_value(b, 1.0)) return a;
    if (op == KO_mul && k_is_value(a, 1.0)) return b;
    if (op == KO_sub && k_is_value(b, 0.0)) return a;
    if (op == KO_div && b->op == KO_const_f && (a->dtype == DT_F32 || a->dtype == DT_F64)) {
        int e;
        double inverse = 1.0 / b->u.f;
        bool power_of_two =
            isfinite(b->u.f) && fabs(frexp(b->u.f, &e)) == 0.5 && e > -120 && e < 120;
        if (power_of_two) return k_mul(k, a, k_const_f(k, a->dtype, inverse));
    }
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 2.0) return k_mul(k, a, a);
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 1.0) return a;
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 3.0 && dtype_bytes(a->dtype) >= 4)
        return k_mul(k, k_mul(k, a, a), a);
    return NULL;
}

const KExpr *k_binary(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    BUG_IF(a->dtype != b->dtype, "%s of %s and %s", kop_info[op].name, dtype_info[a->dtype].name,
           dtype_info[b->dtype].name);
    bool compares = kop_info[op].class == KC_CMP;
    DType t = compares ? DT_BOOL : a->dtype;
    const KExpr *r = NULL;
    if (a->op == KO_const_i && b->op == KO_const_i) {
        int64_t v;
        if (fold_int(op, a->dtype, a->u.i, b->u.i, &v)) return k_const_i(k, t, v);
    } else if (a->op == KO_const_f && b->op == KO_const_f) {
        double v;
        bool truth;
        if (compares && fold_float_cmp(op, a->u.f, b->u.f, &truth)) return k_bool(k, truth);
        if (!compares && fold_float(op, t, a->u.f, b->u.f, &v)) return k_const_f(k, t, v);
    }
    if (compares)
        r = simplify_compare(k, op, a, b);
    else if (t == DT_BOOL)
        r = simplify_bool(k, op, a, b);
    else if (t == DT_I64)
        r = simplify_index(k, op, a, b);
    else if (dtype_is_float(t))
        r = simplify_float(k, op, a, b);
    return r ? r : kernel_cons2(k, op, t, a, b);
}

/* ---- the other constructors ------------------------------------------------------------------ */

/* A constant rounded to a whole number (exact in every float type), NULL for other operations. */
static const KExpr *fold_rounding(KCtx *k, KOp op, const KExpr *a) {
    switch ((int)op) {
    case KO_floor: return k_const_f(k, a->dtype, floor(a->u.f));
    case KO_ceil: return k_const_f(k, a->dtype, ceil(a->u.f));
    case KO_trunc: return k_const_f(k, a->dtype, trunc(a->u.f));
    default: return NULL;
    }
}

const KExpr *k_unary(KCtx *k, KOp op, const KExpr *a) {
    if (a->dtype == DT_I64 && op == KO_neg) return kernel_i64_mul(k, a, k_int(k, -1));
    if (op == KO_not && a->op == KO_not) return a->arg[0];
    if (a->op == KO_const_i) {
        if (op == KO_neg) return k_const_i(k, a->dtype, (int64_t)(0 - (uint64_t)a->u.i));
        if (op == KO_not) return k_const_i(k, a->dtype, a->dtype == DT_BOOL ? !a->u.i : ~a->u.i);
        if (op == KO_abs) return a->u.i < 0 ? k_unary(k, KO_neg, a) : a;
    }
    if (op == KO_neg && a->op == KO_const_f) return k_const_f(k, a->dtype, -a->u.f);
    const KExpr *rounded = a->op == KO_const_f ? fold_rounding(k, op, a) : NULL;
    if (rounded) return rounded;
    if (op == KO_abs && a->dtype == DT_I64 && a->lo >= 0) return a;
    if (op == KO_not && a->dtype == DT_BOOL &&
        dtype_is_int(a->n_args ? a->arg[0]->dtype : DT_NONE)) {
        if (a->op == KO_lt) return k_le(k, a->arg[1], a->arg[0]);
        if (a->op == KO_le) return k_lt(k, a->arg[1], a->arg[0]);
        if (a->op == KO_eq) return k_ne(k, a->arg[0], a->arg[1]);
        if (a->op == KO_ne) return k_eq(k, a->arg[0], a->arg[1]);
    }
    return cons1(k, op, a->dtype, a);
}

const KExpr *k_ternary(KCtx *k, KOp op, const KExpr *a, const KExpr *b, const KExpr *c) {
    const KExpr *arg[3] = {a, b, c};
    if (op == KO_select) {
        BUG_IF(b->dtype != c->dtype || a->dtype != DT_BOOL, "select of %s ? %s : %s",
               dtype_info[a->dtype].name, dtype_info[b->dtype].name, dtype_info[c->dtype].name);
        int64_t cond;
        if (b == c) return b;
        if (k_is_int(a, &cond)) return cond ? b : c;
        if (a->op == KO_not) return k_select(k, a->arg[0], c, b);
        if (b->dtype == DT_BOOL && k_is_value(b, 1) && k_is_value(c, 0)) return a;
        return cons(k, op, b->dtype, 0, arg, 3);
    }
    return cons(k, op, a->dtype, 0, arg, 3);
}

/* A cast from or to a code. */
static const KExpr *cast_code(KCtx *k, DType t, const KExpr *a) {
    if (a->op == KO_const_i && dtype_is_code(a->dtype))
        return k_cast(k, t, k_const_f(k, DT_F32, code_value(a->dtype, (uint8_t)a->u.i)));
    if (a->op == KO_const_f) return k_const(k, t, a->u.f);
    return cons1(k, KO_cast, t, a);
}

const KExpr *k_cast(KCtx *k, DType t, const KExpr *a) {
    if (a->dtype == t) return a;
    BUG_IF(dtype_is_complex(t) || dtype_is_complex(a->dtype), "cast of %s to %s",
           dtype_info[a->dtype].name, dtype_info[t].name);
    if (dtype_is_code(t) || dtype_is_code(a->dtype)) return cast_code(k, t, a);
    if (a->op == KO_const_f && dtype_is_small_int(t)) a = k_cast(k, DT_I32, a);
    if (a->op == KO_const_i && dtype_is_float(t))
        return k_const_f(k, t, a->dtype == DT_U64 ? (double)(uint64_t)a->u.i : (double)a->u.i);
    if (a->op == KO_const_i && t == DT_BOOL) return k_bool(k, a->u.i != 0);
    if (a->op == KO_const_i) return k_const_i(k, t, a->u.i);
    if (a->op == KO_const_f && t == DT_BOOL) return k_bool(k, a->u.f != 0);
    if (a->op == KO_const_f && dtype_is_float(t)) return k_const_f(k, t, a->u.f);
    if (a->op == KO_const_f) return k_const(k, t, a->u.f != a->u.f ? 0.0 : trunc(a->u.f));
    /* i64 of a narrower integer of an i64 whose range fits it */
    if (t == DT_I64 && a->op == KO_cast && a->arg[0]->dtype == DT_I64 && dtype_is_int(a->dtype)) {
        int64_t lo, hi;
        kernel_dtype_range(a->dtype, &lo, &hi);
        if (a->arg[0]->lo >= lo && a->arg[0]->hi <= hi) return a->arg[0];
    }
    return cons1(k, KO_cast, t, a);
}

const KExpr *k_bitcast(KCtx *k, DType t, const KExpr *a) {
    if (a->dtype == t) return a;
    BUG_IF(dtype_bytes(t) != dtype_bytes(a->dtype), "bitcast changes the width");
    if (a->op == KO_bitcast) return k_bitcast(k, t, a->arg[0]);
    return cons1(k, KO_bitcast, t, a);
}

/* ---- strings --------------------------------------------------------------------------------- */

const KExpr *k_str_len(KCtx *k, const KExpr *s) {
    if (s->op == KO_const_i) return k_int(k, 0);
    if (s->op == KO_str_of) return s->arg[1];
    if (s->op == KO_str_sub) return s->arg[2];
    return cons1(k, KO_str_len, DT_I64, s);
}

const KExpr *k_str_byte(KCtx *k, const KExpr *s, const KExpr *i) {
    return kernel_cons2(k, KO_str_byte, DT_U8, s, i);
}

const KExpr *k_str_sub(KCtx *k, const KExpr *s, const KExpr *from, const KExpr *n_bytes) {
    const KExpr *arg[3] = {s, from, n_bytes};
    return cons(k, KO_str_sub, DT_STR, 0, arg, 3);
}

const KExpr *k_str_of(KCtx *k, const KExpr *first, const KExpr *n_bytes) {
    BUG_IF(first->dtype != DT_U8 || (first->op != KO_load && first->op != KO_at),
           "str_of needs the place of its first byte");
    return kernel_cons2(k, KO_str_of, DT_STR, first, n_bytes);
}

static const KExpr *rebuild_text(KCtx *k, KOp op, const KExpr *const *args) {
    switch ((int)op) {
    case KO_str_len: return k_str_len(k, args[0]);
    case KO_str_byte: return k_str_byte(k, args[0], args[1]);
    case KO_str_sub: return k_str_sub(k, args[0], args[1], args[2]);
    case KO_str_of: return k_str_of(k, args[0], args[1]);
    default: BUG("'%s' is not of class TEXT", kop_info[op].name);
    }
}

/* ---- complex numbers ------------------------------------------------------------------------- */

static const KExpr *part_of(KCtx *k, KOp op, const KExpr *a) {
    BUG_IF(!dtype_is_complex(a->dtype), "%s of %s", kop_info[op].name, dtype_info[a->dtype].name);
    if (a->op == KO_complex) return a->arg[op == KO_im];
    if (k_is_value(a, 0)) return k_const_f(k, dtype_part(a->dtype), 0);
    return cons1(k, op, dtype_part(a->dtype), a);
}

const KExpr *k_re(KCtx *k, const KExpr *a) {
    return part_of(k, KO_re, a);
}

const KExpr *k_im(KCtx *k, const KExpr *a) {
    return part_of(k, KO_im, a);
}

const KExpr *k_complex(KCtx *k, const KExpr *re, const KExpr *im) {
    BUG_IF((re->dtype != DT_F32 && re->dtype != DT_F64) || im->dtype != re->dtype,
           "complex of %s and %s", dtype_info[re->dtype].name, dtype_info[im->dtype].name);
    if (re->op == KO_re && im->op == KO_im && re->arg[0] == im->arg[0]) return re->arg[0];
    return kernel_cons2(k, KO_complex, re->dtype == DT_F64 ? DT_C128 : DT_C64, re, im);
}

static const KExpr *rebuild_pair(KCtx *k, KOp op, const KExpr *const *args) {
    return op == KO_complex ? k_complex(k, args[0], args[1]) : part_of(k, op, args[0]);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t pointer_payload(const void *p) {
    uint64_t payload = 0;
    memcpy(&payload, &p, sizeof p);
    return payload;
}

const KExpr *k_load(KCtx *k, KBuf *b, const KExpr *index) {
    return cons(k, KO_load, b->dtype, pointer_payload(b), &index, 1);
}

const KExpr *k_load_if(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred) {
    int64_t c;
    if (k_is_int(pred, &c)) return c ? k_load(k, b, index) : k_const(k, b->dtype, 0);
    const KExpr *arg[2] = {index, pred};
    return cons(k, KO_load, b->dtype, pointer_payload(b), arg, 2);
}

int word_parts(DType t) {
    switch ((int)t) {
    case DT_U8:
    case DT_I8: return 4;
    case DT_BF16:
    case DT_U16:
    case DT_I16: return 2;
    default: return 0;
    }
}

const KExpr *k_load_word(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred) {
    int64_t c = 1;
    BUG_IF(!word_parts(b->dtype), "a word of '%s', whose elements are no parts of one", b->name);
    if (pred && k_is_int(pred, &c) && !c) return k_const(k, DT_I32, 0);
    const KExpr *arg[2] = {index, pred};
    return cons(k, KO_load, DT_I32, pointer_payload(b), arg, pred && !k_is_int(pred, &c) ? 2 : 1);
}

const KExpr *k_load_half(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred) {
    const KExpr *arg[2] = {index, pred};
    BUG_IF(b->dtype != DT_C128, "half an element of '%s'", b->name);
    return cons(k, KO_load, DT_U64, pointer_payload(b), arg, pred ? 2 : 1);
}

const KExpr *k_load_like(KCtx *k, const KExpr *e, KBuf *b, const KExpr *const *args) {
    const KExpr *pred = e->n_args == 2 ? args[1] : NULL;
    if (k_is_word(e)) return k_load_word(k, b, args[0], pred);
    return pred ? k_load_if(k, b, args[0], pred) : k_load(k, b, args[0]);
}

bool k_is_word(const KExpr *e) {
    if (e->dtype != DT_I32 || (e->op != KO_load && e->op != KO_at)) return false;
    return word_parts(e->op == KO_load ? e->u.buf->dtype : ktensor_dtype(e->u.tensor)) > 0;
}

/* A predicate that always holds is none. */
static const KExpr *at_node(KCtx *k, DType type, KTensor *t, const KExpr *const *args, int n) {
    if (n && args[n - 1]->dtype == DT_BOOL && k_is_value(args[n - 1], 1)) n--;
    return cons(k, KO_at, type, pointer_payload(t), args, n);
}

const KExpr *k_at_word(KCtx *k, KTensor *t, const KExpr *const *index, int rank) {
    return at_node(k, DT_I32, t, index, rank);
}

const KExpr *k_at(KCtx *k, KTensor *t, const KExpr *const *index, int rank) {
    return at_node(k, ktensor_dtype(t), t, index, rank);
}

const KExpr *k_rebuild(KCtx *k, const KExpr *e, const KExpr *const *args) {
    if (e->n_args == 0) return e;
    switch ((int)e->op) {
    case KO_load: return k_load_like(k, e, e->u.buf, args);
    case KO_at: return at_node(k, e->dtype, e->u.tensor, args, e->n_args);
    case KO_cast: return k_cast(k, e->dtype, args[0]);
    case KO_bitcast: return k_bitcast(k, e->dtype, args[0]);
    default: break;
    }
    if (kop_info[e->op].class == KC_TEXT) return rebuild_text(k, e->op, args);
    if (kop_info[e->op].class == KC_PAIR) return rebuild_pair(k, e->op, args);
    if (e->n_args == 1) return k_unary(k, e->op, args[0]);
    if (e->n_args == 2) return k_binary(k, e->op, args[0], args[1]);
    return k_ternary(k, e->op, args[0], args[1], args[2]);
}

const KExpr *k_exact(KCtx *k, KOp op, DType t, const KExpr *const *args, int n) {
    return cons(k, op, t, 0, args, n);
}
