/* Kernel IR expressions: hash-consing, folding and simplification.
 *
 * Index arithmetic (i64) is kept as a linear form: a sum of constant * atom, atoms sorted by id, the
 * constant last. That makes equal addresses equal pointers, cancels differences and lets floored
 * division and remainder by constants resolve against the ranges of loop variables. Floats are only
 * folded where IEEE arithmetic gives the same bits at run time. */
#include "ir/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
};

KCtx *kctx_create(Arena *a) {
    KCtx *k = arena_new(a, KCtx);
    k->arena = a;
    return k;
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
    *v = (KVar){.id = k->n_vars++, .kind = kind, .dtype = t, .name = intern(name), .lo = lo, .hi = hi};
    return v;
}

KBuf *kbuf_new(KCtx *k, KMem mem, DType t, const char *name, const KExpr *n_elems) {
    KBuf *b = arena_new(k->arena, KBuf);
    *b = (KBuf){.id = k->n_bufs++, .name = intern(name), .dtype = t, .mem = mem, .n_elems = n_elems};
    return b;
}

/* ---- ranges ------------------------------------------------------------------------------------ */

static int64_t sat_add(int64_t a, int64_t b) {
    int64_t r;
    if (a == INT64_MIN || b == INT64_MIN) return INT64_MIN;
    if (a == INT64_MAX || b == INT64_MAX) return INT64_MAX;
    if (__builtin_add_overflow(a, b, &r)) return a > 0 ? INT64_MAX : INT64_MIN;
    return r;
}

static int64_t sat_mul(int64_t a, int64_t b) {
    int64_t r;
    if (a == 0 || b == 0) return 0;
    if (a == INT64_MIN || a == INT64_MAX || b == INT64_MIN || b == INT64_MAX ||
        __builtin_mul_overflow(a, b, &r))
        return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
    return r;
}

static int64_t floor_div(int64_t a, int64_t b) {
    if (b == 0) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t floor_mod(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t r = a % b;
    return r && (r < 0) != (b < 0) ? r + b : r;
}

static bool is_unbounded(int64_t v) {
    return v == INT64_MIN || v == INT64_MAX;
}

static void dtype_range(DType t, int64_t *lo, int64_t *hi) {
    int bits = dtype_info[t].bits;
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (t == DT_BOOL) {
        *lo = 0;
        *hi = 1;
    } else if (dtype_info[t].kind == DK_UINT && bits < 64) {
        *lo = 0;
        *hi = (INT64_C(1) << bits) - 1;
    } else if (dtype_info[t].kind == DK_SINT && bits < 64) {
        *lo = -(INT64_C(1) << (bits - 1));
        *hi = (INT64_C(1) << (bits - 1)) - 1;
    }
}

static void mul_range(const KExpr *a, const KExpr *b, int64_t *lo, int64_t *hi) {
    int64_t p[4] = {sat_mul(a->lo, b->lo), sat_mul(a->lo, b->hi), sat_mul(a->hi, b->lo),
                    sat_mul(a->hi, b->hi)};
    *lo = *hi = p[0];
    for (int i = 1; i < 4; i++) {
        if (p[i] < *lo) *lo = p[i];
        if (p[i] > *hi) *hi = p[i];
    }
}

/* Fills e->lo, e->hi from the operands' ranges; only i64 and bool get more than the dtype's. */
static void set_range(KExpr *e) {
    dtype_range(e->dtype, &e->lo, &e->hi);
    const KExpr *a = e->n_args > 0 ? e->arg[0] : NULL, *b = e->n_args > 1 ? e->arg[1] : NULL;
    if (e->op == KO_const_i) {
        e->lo = e->hi = e->u.i;
    } else if (e->op == KO_var && e->dtype == DT_I64) {
        e->lo = e->u.var->lo;
        e->hi = e->u.var->hi;
    } else if (e->op == KO_cast && e->dtype == DT_I64 && dtype_is_int(a->dtype) && a->dtype != DT_U64) {
        e->lo = a->lo;
        e->hi = a->hi;
    } else if (e->op == KO_cast && e->dtype == DT_I64 && a->dtype == DT_BOOL) {
        e->lo = 0;
        e->hi = 1;
    }
    if (e->dtype != DT_I64 || !a) return;
    int64_t c;
    switch ((int)e->op) {
    case KO_add:
        e->lo = sat_add(a->lo, b->lo);
        e->hi = sat_add(a->hi, b->hi);
        break;
    case KO_mul: mul_range(a, b, &e->lo, &e->hi); break;
    case KO_fdiv:
        if (k_is_int(b, &c) && c > 0) {
            e->lo = is_unbounded(a->lo) ? a->lo : floor_div(a->lo, c);
            e->hi = is_unbounded(a->hi) ? a->hi : floor_div(a->hi, c);
        } else if (a->lo >= 0 && b->lo >= 1) {
            e->lo = 0;
            e->hi = a->hi;
        }
        break;
    case KO_fmod:
        if (b->lo >= 1) {
            e->lo = 0;
            e->hi = is_unbounded(b->hi) ? b->hi : b->hi - 1;
            if (a->lo >= 0 && a->hi < e->hi) e->hi = a->hi;
        }
        break;
    case KO_min:
        e->lo = a->lo < b->lo ? a->lo : b->lo;
        e->hi = a->hi < b->hi ? a->hi : b->hi;
        break;
    case KO_max:
        e->lo = a->lo > b->lo ? a->lo : b->lo;
        e->hi = a->hi > b->hi ? a->hi : b->hi;
        break;
    case KO_select:
        e->lo = b->lo < e->arg[2]->lo ? b->lo : e->arg[2]->lo;
        e->hi = b->hi > e->arg[2]->hi ? b->hi : e->arg[2]->hi;
        break;
    default: break;
    }
}

void k_range(const KExpr *e, int64_t *lo, int64_t *hi) {
    *lo = e->lo;
    *hi = e->hi;
}

/* ---- interning --------------------------------------------------------------------------------- */

static uint64_t node_hash(KOp op, DType t, uint64_t payload, const KExpr *const *arg, int n) {
    uint64_t h = ((uint64_t)op << 8 | (uint64_t)t) * UINT64_C(0x9e3779b97f4a7c15) ^ payload;
    h = (h ^ h >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    for (int i = 0; i < n; i++) h = (h ^ arg[i]->id ^ h >> 29) * UINT64_C(0x94d049bb133111eb);
    return h ^ h >> 32;
}

static bool same_node(const KExpr *e, KOp op, DType t, uint64_t payload, const KExpr *const *arg, int n) {
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

/* The one node of this op, dtype, payload and operands; nothing is simplified here. */
static const KExpr *cons(KCtx *k, KOp op, DType t, uint64_t payload, const KExpr *const *arg, int n) {
    if (k->n_exprs * 2 >= k->n_slots) grow_table(k);
    uint64_t hash = node_hash(op, t, payload, arg, n);
    uint32_t at = (uint32_t)hash & (k->n_slots - 1);
    for (; k->slot[at]; at = (at + 1) & (k->n_slots - 1))
        if (k->slot[at]->hash == hash && same_node(k->slot[at], op, t, payload, arg, n)) return k->slot[at];
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
    set_range(e);
    k->slot[at] = e;
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

static const KExpr *cons2(KCtx *k, KOp op, DType t, const KExpr *a, const KExpr *b) {
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
    int64_t lo, hi;
    dtype_range(t, &lo, &hi);
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

/* ---- linear forms of i64 expressions -------------------------------------------------------------- */

enum { MAX_TERMS = 64 };

typedef struct Linear {
    struct {
        int64_t coeff;
        const KExpr *atom;
    } term[MAX_TERMS];
    int n;
    int64_t constant;
} Linear;

static int64_t wrap_mul(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

static int64_t wrap_add(int64_t a, int64_t b) {
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static bool linear_add_atom(Linear *l, const KExpr *atom, int64_t coeff) {
    if (!coeff) return true;
    int at = 0;
    while (at < l->n && l->term[at].atom->id < atom->id) at++;
    if (at < l->n && l->term[at].atom == atom) {
        l->term[at].coeff = wrap_add(l->term[at].coeff, coeff);
        if (!l->term[at].coeff) {
            memmove(&l->term[at], &l->term[at + 1], sizeof l->term[0] * (size_t)(l->n - at - 1));
            l->n--;
        }
        return true;
    }
    if (l->n == MAX_TERMS) return false;
    memmove(&l->term[at + 1], &l->term[at], sizeof l->term[0] * (size_t)(l->n - at));
    l->term[at].coeff = coeff;
    l->term[at].atom = atom;
    l->n++;
    return true;
}

/* l += coeff * e; false when there are too many terms. Stored sums are left-leaning, so this loops
 * over the spine and recurses only into single terms. */
static bool linear_add(Linear *l, const KExpr *e, int64_t coeff) {
    for (;;) {
        if (e->op == KO_add) {
            if (!linear_add(l, e->arg[1], coeff)) return false;
            e = e->arg[0];
        } else if (e->op == KO_mul && e->arg[1]->op == KO_const_i) {
            coeff = wrap_mul(coeff, e->arg[1]->u.i);
            e = e->arg[0];
        } else if (e->op == KO_const_i) {
            l->constant = wrap_add(l->constant, wrap_mul(coeff, e->u.i));
            return true;
        } else {
            return linear_add_atom(l, e, coeff);
        }
    }
}

static const KExpr *linear_term(KCtx *k, const KExpr *atom, int64_t coeff) {
    return coeff == 1 ? atom : cons2(k, KO_mul, DT_I64, atom, k_int(k, coeff));
}

/* floor(x/c)*c + x mod c = x, also for the digits of a mixed-radix number. True when it merged. */
static bool linear_merge_digits(KCtx *k, Linear *l) {
    for (int i = 0; i < l->n; i++) {
        const KExpr *low = l->term[i].atom;
        if (low->op != KO_fmod || low->arg[1]->op != KO_const_i) continue;
        const KExpr *x = low->arg[0];
        int64_t c = low->arg[1]->u.i, coeff = l->term[i].coeff;
        const KExpr *quotient = k_fdiv(k, x, low->arg[1]);
        for (int j = 0; j < l->n; j++) {
            const KExpr *high = l->term[j].atom, *merged = NULL;
            if (l->term[j].coeff != wrap_mul(coeff, c)) continue;
            if (high == quotient)
                merged = x;
            else if (high->op == KO_fmod && high->arg[0] == quotient && high->arg[1]->op == KO_const_i)
                merged = k_fmod(k, x, k_int(k, sat_mul(high->arg[1]->u.i, c)));
            if (!merged) continue;
            int64_t cj = l->term[j].coeff;
            linear_add_atom(l, low, -coeff);
            linear_add_atom(l, high, -cj);
            linear_add(l, merged, coeff);
            return true;
        }
    }
    return false;
}

static const KExpr *linear_build(KCtx *k, Linear *l) {
    while (linear_merge_digits(k, l)) {
    }
    const KExpr *sum = NULL;
    for (int i = 0; i < l->n; i++) {
        const KExpr *t = linear_term(k, l->term[i].atom, l->term[i].coeff);
        sum = sum ? cons2(k, KO_add, DT_I64, sum, t) : t;
    }
    if (!sum) return k_int(k, l->constant);
    return l->constant ? cons2(k, KO_add, DT_I64, sum, k_int(k, l->constant)) : sum;
}

static const KExpr *i64_sum(KCtx *k, const KExpr *a, const KExpr *b, int64_t coeff_b) {
    Linear l = {.n = 0};
    if (linear_add(&l, a, 1) && linear_add(&l, b, coeff_b)) return linear_build(k, &l);
    return cons2(k, KO_add, DT_I64, a, linear_term(k, b, coeff_b));
}

/* Splits constant factors off: e = factor * rest. */
static const KExpr *split_factor(const KExpr *e, int64_t *factor) {
    if (e->op == KO_mul && e->arg[1]->op == KO_const_i) {
        *factor = wrap_mul(*factor, e->arg[1]->u.i);
        return e->arg[0];
    }
    return e;
}

/* Product of two non-constants: factors sorted by id, left-leaning. */
static const KExpr *product(KCtx *k, const KExpr *a, const KExpr *b) {
    const KExpr *f[32];
    int n = 0;
    const KExpr *side[2] = {a, b};
    for (int s = 0; s < 2; s++) {
        const KExpr *e = side[s];
        while (e->op == KO_mul && n < 30) {
            f[n++] = e->arg[1];
            e = e->arg[0];
        }
        f[n++] = e;
        if (n >= 31) return cons2(k, KO_mul, DT_I64, a, b);
    }
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && f[j]->id < f[j - 1]->id; j--) {
            const KExpr *t = f[j];
            f[j] = f[j - 1];
            f[j - 1] = t;
        }
    const KExpr *p = f[0];
    for (int i = 1; i < n; i++) p = cons2(k, KO_mul, DT_I64, p, f[i]);
    return p;
}

static const KExpr *i64_mul(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t c;
    if (k_is_int(a, &c)) {
        const KExpr *t = a;
        a = b;
        b = t;
    }
    if (k_is_int(b, &c)) {
        Linear l = {.n = 0};
        if (linear_add(&l, a, c)) return linear_build(k, &l);
        return cons2(k, KO_mul, DT_I64, a, b);
    }
    int64_t factor = 1;
    a = split_factor(a, &factor);
    b = split_factor(b, &factor);
    /* distribute over sums with a constant part, so that (n + 1) * m and n * m + m are one */
    if (a->op == KO_add || b->op == KO_add) {
        const KExpr *sum = a->op == KO_add ? a : b, *other = a->op == KO_add ? b : a;
        Linear l = {.n = 0}, out = {.n = 0};
        if (linear_add(&l, sum, factor)) {
            bool fits = linear_add(&out, other, l.constant);
            for (int i = 0; fits && i < l.n; i++)
                fits = linear_add(&out, i64_mul(k, l.term[i].atom, other), l.term[i].coeff);
            if (fits) return linear_build(k, &out);
        }
    }
    return linear_term(k, product(k, a, b), factor);
}

/* e = c * quotient + rest, the terms of rest not divisible by c; false when e is not bounded enough
 * for no-overflow reasoning. */
static bool split_multiple(KCtx *k, const KExpr *e, int64_t c, const KExpr **quotient, const KExpr **rest) {
    Linear l = {.n = 0}, q = {.n = 0}, r = {.n = 0};
    if (!linear_add(&l, e, 1)) return false;
    for (int i = 0; i < l.n; i++) {
        bool whole = l.term[i].coeff % c == 0;
        linear_add_atom(whole ? &q : &r, l.term[i].atom, whole ? l.term[i].coeff / c : l.term[i].coeff);
    }
    q.constant = floor_div(l.constant, c);
    r.constant = floor_mod(l.constant, c);
    *quotient = linear_build(k, &q);
    *rest = linear_build(k, &r);
    return !is_unbounded((*quotient)->lo) && !is_unbounded((*quotient)->hi) &&
           !is_unbounded((*rest)->lo) && !is_unbounded((*rest)->hi);
}

/* Removes factor d from the product e: e = d * result; NULL when it is not one. */
static const KExpr *divide_product(KCtx *k, const KExpr *e, const KExpr *d) {
    int64_t fe = 1, fd = 1;
    e = split_factor(e, &fe);
    d = split_factor(d, &fd);
    if (fd == 0 || fe % fd) return NULL;
    if (e == d) return k_int(k, fe / fd);
    const KExpr *f[32], *g[32];
    int n = 0, m = 0;
    for (; e->op == KO_mul && n < 30; e = e->arg[0]) f[n++] = e->arg[1];
    f[n++] = e;
    if (d->op == KO_const_i) {
        m = 0;
    } else {
        for (; d->op == KO_mul && m < 30; d = d->arg[0]) g[m++] = d->arg[1];
        g[m++] = d;
    }
    for (int i = 0; i < m; i++) {
        int j = 0;
        while (j < n && f[j] != g[i]) j++;
        if (j == n) return NULL;
        f[j] = f[--n];
    }
    const KExpr *p = k_int(k, fe / fd);
    for (int i = 0; i < n; i++) p = k_mul(k, p, f[i]);
    return p;
}

/* Terms of e divided by a symbolic d; the rest must lie in [0, d). NULL when that is not known. */
static const KExpr *split_symbolic(KCtx *k, const KExpr *e, const KExpr *d, const KExpr **rest) {
    Linear l = {.n = 0}, q = {.n = 0}, r = {.n = 0};
    if (d->lo < 1 || !linear_add(&l, e, 1)) return NULL;
    r.constant = l.constant;
    for (int i = 0; i < l.n; i++) {
        const KExpr *part = divide_product(k, linear_term(k, l.term[i].atom, l.term[i].coeff), d);
        if (part)
            linear_add(&q, part, 1);
        else
            linear_add_atom(&r, l.term[i].atom, l.term[i].coeff);
    }
    *rest = linear_build(k, &r);
    if ((*rest)->lo < 0 || (*rest)->hi >= d->lo) return NULL;
    return linear_build(k, &q);
}

static const KExpr *i64_fdiv(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t ca, c;
    if (k_is_int(b, &c)) {
        if (k_is_int(a, &ca)) return k_int(k, floor_div(ca, c));
        if (c == 1) return a;
        const KExpr *q, *r;
        if (c > 0 && split_multiple(k, a, c, &q, &r)) {
            if (r->lo >= 0 && r->hi < c) return q;
            if (!k_is_value(q, 0)) return i64_sum(k, q, k_fdiv(k, r, b), 1);
        }
        int64_t c2;
        if (c > 0 && a->op == KO_fdiv && k_is_int(a->arg[1], &c2) && c2 > 0 && sat_mul(c, c2) < INT64_MAX)
            return k_fdiv(k, a->arg[0], k_int(k, c * c2));
        /* (x mod (n*c)) / c = (x / c) mod n */
        if (c > 0 && a->op == KO_fmod && k_is_int(a->arg[1], &c2) && c2 > 0 && c2 % c == 0)
            return k_fmod(k, k_fdiv(k, a->arg[0], b), k_int(k, c2 / c));
    } else if (b->lo >= 1) {
        const KExpr *rest, *q = split_symbolic(k, a, b, &rest);
        if (q) return q;
    }
    return cons2(k, KO_fdiv, DT_I64, a, b);
}

static const KExpr *i64_fmod(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t ca, c;
    if (k_is_int(b, &c)) {
        if (k_is_int(a, &ca)) return k_int(k, floor_mod(ca, c));
        if (c == 1) return k_int(k, 0);
        if (c > 0 && a->lo >= 0 && a->hi < c) return a;
        const KExpr *q, *r;
        if (c > 0 && split_multiple(k, a, c, &q, &r)) {
            if (r->lo >= 0 && r->hi < c) return r;
            if (r != a) return k_fmod(k, r, b);
        }
        int64_t c2;
        if (c > 0 && a->op == KO_fmod && k_is_int(a->arg[1], &c2) && c2 > 0 && c2 % c == 0)
            return k_fmod(k, a->arg[0], b);
    } else if (b->lo >= 1) {
        const KExpr *rest, *q = split_symbolic(k, a, b, &rest);
        if (q) return rest;
    }
    return cons2(k, KO_fmod, DT_I64, a, b);
}

/* Range of a - b through the linear form, so that common terms cancel. */
static void difference_range(KCtx *k, const KExpr *a, const KExpr *b, int64_t *lo, int64_t *hi) {
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (a->dtype != DT_I64) return;
    const KExpr *d = i64_sum(k, a, b, -1);
    *lo = d->lo;
    *hi = d->hi;
}

/* ---- integer folding -------------------------------------------------------------------------------- */

static bool fold_int(KOp op, DType t, int64_t a, int64_t b, int64_t *r) {
    int bits = dtype_info[t].bits;
    bool is_unsigned = dtype_info[t].kind == DK_UINT;
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    bool less = is_unsigned ? ua < ub : a < b;
    switch ((int)op) {
    case KO_add: *r = (int64_t)(ua + ub); return true;
    case KO_sub: *r = (int64_t)(ua - ub); return true;
    case KO_mul: *r = (int64_t)(ua * ub); return true;
    case KO_div: *r = !b ? 0 : is_unsigned ? (int64_t)(ua / ub) : b == -1 ? (int64_t)(0 - ua) : a / b; return true;
    case KO_rem: *r = !b ? 0 : is_unsigned ? (int64_t)(ua % ub) : b == -1 ? 0 : a % b; return true;
    case KO_fdiv: *r = !b ? 0 : is_unsigned ? (int64_t)(ua / ub) : floor_div(a, b); return true;
    case KO_fmod: *r = !b ? 0 : is_unsigned ? (int64_t)(ua % ub) : floor_mod(a, b); return true;
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

/* ---- binary ---------------------------------------------------------------------------------------- */

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
    if (a->dtype != DT_I64) return a == b && dtype_is_int(a->dtype) ? k_bool(k, op == KO_eq || op == KO_le) : NULL;
    int64_t lo, hi;
    difference_range(k, a, b, &lo, &hi);
    bool is_known = !is_unbounded(lo) && !is_unbounded(hi);
    if (a == b) return k_bool(k, op == KO_eq || op == KO_le);
    if (op == KO_lt && !is_unbounded(hi) && hi < 0) return k_bool(k, true);
    if (op == KO_lt && !is_unbounded(lo) && lo >= 0) return k_bool(k, false);
    if (op == KO_le && !is_unbounded(hi) && hi <= 0) return k_bool(k, true);
    if (op == KO_le && !is_unbounded(lo) && lo > 0) return k_bool(k, false);
    if ((op == KO_eq || op == KO_ne) && is_known && (lo > 0 || hi < 0)) return k_bool(k, op == KO_ne);
    return NULL;
}

static const KExpr *simplify_index(KCtx *k, KOp op, const KExpr *a, const KExpr *b) {
    switch ((int)op) {
    case KO_add: return i64_sum(k, a, b, 1);
    case KO_sub: return i64_sum(k, a, b, -1);
    case KO_mul: return i64_mul(k, a, b);
    case KO_fdiv: return i64_fdiv(k, a, b);
    case KO_fmod: return i64_fmod(k, a, b);
    case KO_div:
    case KO_rem:
        if (a->lo >= 0 && b->lo >= 1) return op == KO_div ? i64_fdiv(k, a, b) : i64_fmod(k, a, b);
        return NULL;
    case KO_min:
    case KO_max: {
        int64_t lo, hi;
        difference_range(k, a, b, &lo, &hi);
        if (a == b) return a;
        if (!is_unbounded(hi) && hi <= 0) return op == KO_min ? a : b;
        if (!is_unbounded(lo) && lo >= 0) return op == KO_min ? b : a;
        return a->id > b->id ? cons2(k, op, DT_I64, b, a) : NULL;
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
        bool power_of_two = isfinite(b->u.f) && fabs(frexp(b->u.f, &e)) == 0.5 && e > -120 && e < 120;
        if (power_of_two) return k_mul(k, a, k_const_f(k, a->dtype, inverse));
    }
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 2.0) return k_mul(k, a, a);
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 1.0) return a;
    if (op == KO_pow && b->op == KO_const_f && b->u.f == 3.0) return NULL;
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
    return r ? r : cons2(k, op, t, a, b);
}

/* ---- the other constructors --------------------------------------------------------------------------- */

const KExpr *k_unary(KCtx *k, KOp op, const KExpr *a) {
    if (a->dtype == DT_I64 && op == KO_neg) return i64_mul(k, a, k_int(k, -1));
    if (op == KO_not && a->op == KO_not) return a->arg[0];
    if (a->op == KO_const_i) {
        if (op == KO_neg) return k_const_i(k, a->dtype, (int64_t)(0 - (uint64_t)a->u.i));
        if (op == KO_not) return k_const_i(k, a->dtype, a->dtype == DT_BOOL ? !a->u.i : ~a->u.i);
        if (op == KO_abs) return a->u.i < 0 ? k_unary(k, KO_neg, a) : a;
    }
    if (op == KO_neg && a->op == KO_const_f) return k_const_f(k, a->dtype, -a->u.f);
    if (op == KO_abs && a->dtype == DT_I64 && a->lo >= 0) return a;
    if (op == KO_not && a->dtype == DT_BOOL && dtype_is_int(a->n_args ? a->arg[0]->dtype : DT_NONE)) {
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
        BUG_IF(b->dtype != c->dtype || a->dtype != DT_BOOL, "select of %s ? %s : %s", dtype_info[a->dtype].name,
               dtype_info[b->dtype].name, dtype_info[c->dtype].name);
        int64_t cond;
        if (b == c) return b;
        if (k_is_int(a, &cond)) return cond ? b : c;
        if (a->op == KO_not) return k_select(k, a->arg[0], c, b);
        if (b->dtype == DT_BOOL && k_is_value(b, 1) && k_is_value(c, 0)) return a;
        return cons(k, op, b->dtype, 0, arg, 3);
    }
    return cons(k, op, a->dtype, 0, arg, 3);
}

const KExpr *k_cast(KCtx *k, DType t, const KExpr *a) {
    if (a->dtype == t) return a;
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
        dtype_range(a->dtype, &lo, &hi);
        if (a->arg[0]->lo >= lo && a->arg[0]->hi <= hi) return a->arg[0];
    }
    return cons1(k, KO_cast, t, a);
}

const KExpr *k_bitcast(KCtx *k, DType t, const KExpr *a) {
    if (a->dtype == t) return a;
    BUG_IF(dtype_info[t].bits != dtype_info[a->dtype].bits, "bitcast changes the width");
    if (a->op == KO_bitcast) return k_bitcast(k, t, a->arg[0]);
    return cons1(k, KO_bitcast, t, a);
}

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

const KExpr *k_at(KCtx *k, KTensor *t, const KExpr *const *index, int rank) {
    return cons(k, KO_at, ktensor_dtype(t), pointer_payload(t), index, rank);
}

const KExpr *k_rebuild(KCtx *k, const KExpr *e, const KExpr *const *args) {
    if (e->n_args == 0) return e;
    switch ((int)e->op) {
    case KO_load:
        return e->n_args == 2 ? k_load_if(k, e->u.buf, args[0], args[1]) : k_load(k, e->u.buf, args[0]);
    case KO_at: return cons(k, KO_at, e->dtype, pointer_payload(e->u.tensor), args, e->n_args);
    case KO_cast: return k_cast(k, e->dtype, args[0]);
    case KO_bitcast: return k_bitcast(k, e->dtype, args[0]);
    default: break;
    }
    if (e->n_args == 1) return k_unary(k, e->op, args[0]);
    if (e->n_args == 2) return k_binary(k, e->op, args[0], args[1]);
    return k_ternary(k, e->op, args[0], args[1], args[2]);
}

const KExpr *k_exact(KCtx *k, KOp op, DType t, const KExpr *const *args, int n) {
    return cons(k, op, t, 0, args, n);
}

/* ---- walks ------------------------------------------------------------------------------------------------ */

/* Memo of one walk: expression id to a result. */
typedef struct Memo {
    const KExpr **key, **value;
    uint32_t n, cap;
} Memo;

static uint32_t memo_slot(const Memo *m, const KExpr *e) {
    uint32_t i = (e->id * 2654435761u) & (m->cap - 1);
    while (m->key[i] && m->key[i] != e) i = (i + 1) & (m->cap - 1);
    return i;
}

static void memo_put(Memo *m, const KExpr *e, const KExpr *value) {
    if ((m->n + 1) * 2 > m->cap) {
        Memo wider = {.cap = m->cap ? m->cap * 2 : 64};
        wider.key = xmalloc(sizeof *wider.key * wider.cap);
        wider.value = xmalloc(sizeof *wider.value * wider.cap);
        for (uint32_t i = 0; i < m->cap; i++)
            if (m->key[i]) memo_put(&wider, m->key[i], m->value[i]);
        free(m->key);
        free(m->value);
        *m = wider;
    }
    uint32_t i = memo_slot(m, e);
    m->n += !m->key[i];
    m->key[i] = e;
    m->value[i] = value;
}

static const KExpr *memo_get(const Memo *m, const KExpr *e) {
    return m->cap ? m->value[memo_slot(m, e)] : NULL;
}

static void memo_free(Memo *m) {
    free(m->key);
    free(m->value);
}

static const KExpr *rewrite_below(KCtx *k, Memo *m, const KExpr *e, KRewrite *fn, void *user) {
    const KExpr *known = memo_get(m, e);
    if (known) return known;
    const KExpr *args[256], *r = e;
    bool changed = false;
    for (int i = 0; i < e->n_args; i++) {
        args[i] = rewrite_below(k, m, e->arg[i], fn, user);
        changed |= args[i] != e->arg[i];
    }
    if (changed) r = k_rebuild(k, e, args);
    r = fn(k, r, user);
    memo_put(m, e, r);
    return r;
}

const KExpr *k_rewrite(KCtx *k, const KExpr *e, KRewrite *fn, void *user) {
    Memo m = {0};
    const KExpr *r = rewrite_below(k, &m, e, fn, user);
    memo_free(&m);
    return r;
}

static void visit_below(Memo *m, const KExpr *e, void (*fn)(const KExpr *, void *), void *user) {
    if (memo_get(m, e)) return;
    memo_put(m, e, e);
    for (int i = 0; i < e->n_args; i++) visit_below(m, e->arg[i], fn, user);
    fn(e, user);
}

void k_visit(KCtx *k, const KExpr *e, void (*fn)(const KExpr *e, void *user), void *user) {
    (void)k;
    Memo m = {0};
    visit_below(&m, e, fn, user);
    memo_free(&m);
}

typedef struct Subst {
    KVar *const *var;
    const KExpr *const *by;
    int n;
    uint64_t mask;
} Subst;

static const KExpr *subst_below(KCtx *k, Memo *m, const KExpr *e, const Subst *s) {
    if (!(e->var_mask & s->mask)) return e;
    if (e->op == KO_var) {
        for (int i = 0; i < s->n; i++)
            if (e->u.var == s->var[i]) return s->by[i];
        return e;
    }
    const KExpr *known = memo_get(m, e);
    if (known) return known;
    const KExpr *args[256];
    bool changed = false;
    for (int i = 0; i < e->n_args; i++) {
        args[i] = subst_below(k, m, e->arg[i], s);
        changed |= args[i] != e->arg[i];
    }
    const KExpr *r = changed ? k_rebuild(k, e, args) : e;
    memo_put(m, e, r);
    return r;
}

const KExpr *k_subst(KCtx *k, const KExpr *e, KVar *const *var, const KExpr *const *by, int n) {
    Subst s = {var, by, n, 0};
    bool changes = false;
    for (int i = 0; i < n; i++) {
        s.mask |= UINT64_C(1) << (var[i]->id % 64);
        changes |= by[i]->op != KO_var || by[i]->u.var != var[i];
    }
    if (!changes) return e;
    Memo m = {0};
    const KExpr *r = subst_below(k, &m, e, &s);
    memo_free(&m);
    return r;
}

static bool finds_var(Memo *m, const KExpr *e, const KVar *v) {
    if (!(e->var_mask & UINT64_C(1) << (v->id % 64))) return false;
    if (e->op == KO_var) return e->u.var == v;
    if (memo_get(m, e)) return false;
    for (int i = 0; i < e->n_args; i++)
        if (finds_var(m, e->arg[i], v)) return true;
    memo_put(m, e, e);
    return false;
}

bool k_uses_var(KCtx *k, const KExpr *e, const KVar *v) {
    (void)k;
    Memo m = {0};
    bool r = finds_var(&m, e, v);
    memo_free(&m);
    return r;
}

bool k_linear_in(KCtx *k, const KExpr *e, KVar *v, const KExpr **base, const KExpr **coeff) {
    Linear l = {.n = 0}, rest = {.n = 0}, slope = {.n = 0};
    if (e->dtype != DT_I64 || !linear_add(&l, e, 1)) return false;
    rest.constant = l.constant;
    for (int i = 0; i < l.n; i++) {
        const KExpr *atom = l.term[i].atom;
        if (!k_uses_var(k, atom, v)) {
            linear_add_atom(&rest, atom, l.term[i].coeff);
            continue;
        }
        const KExpr *by = atom->op == KO_var ? k_int(k, 1) : divide_product(k, atom, k_var(k, v));
        if (!by || k_uses_var(k, by, v) || !linear_add(&slope, by, l.term[i].coeff)) return false;
    }
    *base = linear_build(k, &rest);
    *coeff = linear_build(k, &slope);
    return true;
}
