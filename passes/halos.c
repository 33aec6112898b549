/* See halos.h. An index of a window is a sum of variables times positive numbers,
 *
 *     $1 = i*2 + kx - 1      i < (h + 1) // 2,  kx < 3,  read in a tensor of h rows
 *
 * so its least value has all of them at 0 and its largest all at their ends. (x // 2)*2 is x at
 * most, which makes that h + 1 - 2 + 2 - 1 = h here: one row behind the last. */
#include "passes/halos.h"

#include <string.h>

/* coeff * (extent - 1), from above. */
static const KExpr *last_step(KCtx *k, const KExpr *extent, const KExpr *coeff) {
    bool is_floor = extent->op == KO_fdiv && extent->arg[1] == coeff;
    return k_sub(k, is_floor ? extent->arg[0] : k_mul(k, extent, coeff), coeff);
}

/* Takes v, which runs to extent, out of both ends of an index. */
static bool span_var(KCtx *k, KVar *v, const KExpr *extent, const KExpr **lo, const KExpr **hi) {
    const KExpr *base, *coeff;
    int64_t c;
    if (!k_uses_var(k, *lo, v)) return true;
    if (!k_linear_in(k, *lo, v, &base, &coeff) || !k_is_int(coeff, &c) || c < 0) return false;
    *lo = base;
    if (!k_linear_in(k, *hi, v, &base, &coeff)) return false;
    *hi = k_add(k, base, last_step(k, extent, coeff));
    return true;
}

static bool span_of(KCtx *k, const Stage *s, const KExpr *e, const KExpr **lo, const KExpr **hi) {
    *lo = *hi = e;
    for (int i = 0; i < s->out->rank; i++)
        if (!span_var(k, s->axis[i], s->out->dims[i], lo, hi)) return false;
    for (int i = 0; i < s->n_red; i++)
        if (!span_var(k, s->red[i], s->red_extent[i], lo, hi)) return false;
    return true;
}

bool halo_reach(KCtx *k, const Stage *s, const KExpr *at, int axis, int64_t reach[2]) {
    const KExpr *e = at->arg[axis], *dim = at->u.tensor->dims[axis], *lo, *hi;
    int64_t n;
    reach[0] = reach[1] = 0;
    if (k_is_int(dim, &n)) {
        if (e->lo == INT64_MIN || e->hi == INT64_MAX) return false;
        if (e->lo < 0) reach[0] = -e->lo;
        if (e->hi >= n) reach[1] = e->hi - n + 1;
        return true;
    }
    if (!s || !span_of(k, s, e, &lo, &hi)) return false;
    const KExpr *beyond = k_add(k, k_sub(k, hi, dim), k_int(k, 1));
    if (lo->lo == INT64_MIN || beyond->hi == INT64_MAX) return false;
    if (lo->lo < 0) reach[0] = -lo->lo;
    if (beyond->hi > 0) reach[1] = beyond->hi;
    return true;
}

/* Is c of the form 0 <= index[a] or index[a] < dims[a], and the halo along a wide enough? */
static bool is_covered(KCtx *k, const Stage *s, const KExpr *at, const KExpr *c) {
    const KTensor *t = at->u.tensor;
    int64_t n, reach[2];
    for (int a = 0; a < t->rank; a++) {
        bool is_lower = c->op == KO_le && k_is_value(c->arg[0], 0) && c->arg[1] == at->arg[a];
        bool is_upper = c->op == KO_lt && c->arg[0] == at->arg[a] && c->arg[1] == t->dims[a];
        if ((!is_lower && !is_upper) || k_is_int(t->dims[a], &n)) continue;
        if (halo_reach(k, s, at, a, reach) && reach[0] <= t->layout.halo[a][0] &&
            reach[1] <= t->layout.halo[a][1])
            return true;
    }
    return false;
}

static const KExpr *uncovered(KCtx *k, const Stage *s, const KExpr *at, const KExpr *pred) {
    if (pred->op != KO_and) return is_covered(k, s, at, pred) ? NULL : pred;
    const KExpr *a = uncovered(k, s, at, pred->arg[0]), *b = uncovered(k, s, at, pred->arg[1]);
    return !a ? b : !b ? a : k_and(k, a, b);
}

static const KExpr *drop_in_read(KCtx *k, const KExpr *e, void *user) {
    const Stage *s = user;
    if (e->op != KO_at || !at_pred(e) || k_is_word(e)) return e;
    const Layout *l = &e->u.tensor->layout;
    if (l->has_halo && l->halo_value) return e;
    const KExpr *pred = uncovered(k, s, e, at_pred(e));
    if (pred == at_pred(e)) return e;
    const KExpr *arg[MAX_RANK + 1];
    int rank = e->u.tensor->rank;
    memcpy(arg, e->arg, sizeof arg[0] * (size_t)rank);
    arg[rank] = pred;
    return k_at(k, e->u.tensor, arg, rank + (pred != NULL));
}

const KExpr *drop_covered(KCtx *k, const Stage *s, const KExpr *e) {
    return k_rewrite(k, e, drop_in_read, (void *)s);
}
