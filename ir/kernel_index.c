/* Index arithmetic: i64 expressions as linear forms.
 *
 * A sum is kept as constant * atom terms, atoms sorted by id, the constant last. That makes equal
 * addresses equal pointers, cancels differences and lets floored division and remainder by
 * constants resolve against the ranges of loop variables: (i*64 + j) / 64 is i where j is in [0,
 * 64), and (x / 16) * 16 + x mod 16 is x. No rule applies where a bound is unknown: index
 * arithmetic is assumed not to overflow, data is not. */
#include <string.h>

#include "ir/kernel_internal.h"

/* ---- linear forms of i64 expressions --------------------------------------------------------- */

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
    return coeff == 1 ? atom : kernel_cons2(k, KO_mul, DT_I64, atom, k_int(k, coeff));
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
            else if (high->op == KO_fmod && high->arg[0] == quotient &&
                     high->arg[1]->op == KO_const_i)
                merged = k_fmod(k, x, k_int(k, kernel_sat_mul(high->arg[1]->u.i, c)));
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
        sum = sum ? kernel_cons2(k, KO_add, DT_I64, sum, t) : t;
    }
    if (!sum) return k_int(k, l->constant);
    return l->constant ? kernel_cons2(k, KO_add, DT_I64, sum, k_int(k, l->constant)) : sum;
}

const KExpr *kernel_i64_sum(KCtx *k, const KExpr *a, const KExpr *b, int64_t coeff_b) {
    Linear l = {.n = 0};
    if (linear_add(&l, a, 1) && linear_add(&l, b, coeff_b)) return linear_build(k, &l);
    return kernel_cons2(k, KO_add, DT_I64, a, linear_term(k, b, coeff_b));
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
        if (n >= 31) return kernel_cons2(k, KO_mul, DT_I64, a, b);
    }
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && f[j]->id < f[j - 1]->id; j--) {
            const KExpr *t = f[j];
            f[j] = f[j - 1];
            f[j - 1] = t;
        }
    const KExpr *p = f[0];
    for (int i = 1; i < n; i++) p = kernel_cons2(k, KO_mul, DT_I64, p, f[i]);
    return p;
}

const KExpr *kernel_i64_mul(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t c;
    if (k_is_int(a, &c)) {
        const KExpr *t = a;
        a = b;
        b = t;
    }
    if (k_is_int(b, &c)) {
        Linear l = {.n = 0};
        if (linear_add(&l, a, c)) return linear_build(k, &l);
        return kernel_cons2(k, KO_mul, DT_I64, a, b);
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
                fits = linear_add(&out, kernel_i64_mul(k, l.term[i].atom, other), l.term[i].coeff);
            if (fits) return linear_build(k, &out);
        }
    }
    return linear_term(k, product(k, a, b), factor);
}

/* e = c * quotient + rest, the terms of rest not divisible by c; false when e is not bounded enough
 * for no-overflow reasoning. */
static bool split_multiple(KCtx *k, const KExpr *e, int64_t c, const KExpr **quotient,
                           const KExpr **rest) {
    Linear l = {.n = 0}, q = {.n = 0}, r = {.n = 0};
    if (!linear_add(&l, e, 1)) return false;
    for (int i = 0; i < l.n; i++) {
        bool whole = l.term[i].coeff % c == 0;
        linear_add_atom(whole ? &q : &r, l.term[i].atom,
                        whole ? l.term[i].coeff / c : l.term[i].coeff);
    }
    q.constant = kernel_floor_div(l.constant, c);
    r.constant = kernel_floor_mod(l.constant, c);
    *quotient = linear_build(k, &q);
    *rest = linear_build(k, &r);
    return !kernel_is_unbounded((*quotient)->lo) && !kernel_is_unbounded((*quotient)->hi) &&
           !kernel_is_unbounded((*rest)->lo) && !kernel_is_unbounded((*rest)->hi);
}

/* e = g * quotient + rest with 0 <= rest < g for a divisor g of c, 1 < g < c: what lies below g
 * does not matter when e is divided by c. 0 when there is none. */
static int64_t split_digit(KCtx *k, const KExpr *e, int64_t c, const KExpr **quotient,
                           const KExpr **rest) {
    Linear l = {.n = 0};
    if (!linear_add(&l, e, 1)) return 0;
    for (int i = 0; i < l.n; i++) {
        int64_t g = c, coeff = l.term[i].coeff;
        while (coeff) { /* Euclid's */
            int64_t next = g % coeff;
            g = coeff;
            coeff = next;
        }
        if (g < 0) g = -g;
        if (g > 1 && g < c && split_multiple(k, e, g, quotient, rest) && (*rest)->lo >= 0 &&
            (*rest)->hi < g)
            return g;
    }
    return 0;
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

const KExpr *kernel_i64_fdiv(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t ca, c;
    if (k_is_int(b, &c)) {
        if (k_is_int(a, &ca)) return k_int(k, kernel_floor_div(ca, c));
        if (c == 1) return a;
        const KExpr *q, *r;
        if (c > 0 && split_multiple(k, a, c, &q, &r)) {
            if (r->lo >= 0 && r->hi < c) return q;
            if (!k_is_value(q, 0)) return kernel_i64_sum(k, q, k_fdiv(k, r, b), 1);
        }
        int64_t c2, g = c > 0 ? split_digit(k, a, c, &q, &r) : 0;
        if (g) return k_fdiv(k, q, k_int(k, c / g));
        if (c > 0 && a->op == KO_fdiv && k_is_int(a->arg[1], &c2) && c2 > 0 &&
            kernel_sat_mul(c, c2) < INT64_MAX)
            return k_fdiv(k, a->arg[0], k_int(k, c * c2));
        /* (x mod (n*c)) / c = (x / c) mod n */
        if (c > 0 && a->op == KO_fmod && k_is_int(a->arg[1], &c2) && c2 > 0 && c2 % c == 0)
            return k_fmod(k, k_fdiv(k, a->arg[0], b), k_int(k, c2 / c));
    } else if (b->lo >= 1) {
        const KExpr *rest, *q = split_symbolic(k, a, b, &rest);
        if (q) return q;
    }
    return kernel_cons2(k, KO_fdiv, DT_I64, a, b);
}

const KExpr *kernel_i64_fmod(KCtx *k, const KExpr *a, const KExpr *b) {
    int64_t ca, c;
    if (k_is_int(b, &c)) {
        if (k_is_int(a, &ca)) return k_int(k, kernel_floor_mod(ca, c));
        if (c == 1) return k_int(k, 0);
        if (c > 0 && a->lo >= 0 && a->hi < c) return a;
        const KExpr *q, *r;
        if (c > 0 && split_multiple(k, a, c, &q, &r)) {
            if (r->lo >= 0 && r->hi < c) return r;
            if (r != a) return k_fmod(k, r, b);
        }
        int64_t c2, g = c > 0 ? split_digit(k, a, c, &q, &r) : 0;
        if (g) return kernel_i64_sum(k, r, k_fmod(k, q, k_int(k, c / g)), g);
        if (c > 0 && a->op == KO_fmod && k_is_int(a->arg[1], &c2) && c2 > 0 && c2 % c == 0)
            return k_fmod(k, a->arg[0], b);
    } else if (b->lo >= 1) {
        const KExpr *rest, *q = split_symbolic(k, a, b, &rest);
        if (q) return rest;
    }
    return kernel_cons2(k, KO_fmod, DT_I64, a, b);
}

/* Range of a - b through the linear form, so that common terms cancel. */
void kernel_difference_range(KCtx *k, const KExpr *a, const KExpr *b, int64_t *lo, int64_t *hi) {
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (a->dtype != DT_I64) return;
    const KExpr *d = kernel_i64_sum(k, a, b, -1);
    *lo = d->lo;
    *hi = d->hi;
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
