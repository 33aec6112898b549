/* Dot products of bytes in groups of channels, for dot_products.c.
 *
 *     x[0, j // 4 * 4 + c, ..]*w[j, c, ..]     c < 4
 *
 * Where words do not straddle groups, each lane reads the word of its own group. Other groups are
 * joined until they are whole vectors of the result, and each multiplies the inputs of its
 * neighbours by zeros:
 *
 *     x[0, j // 48 * 48 + c, ..]*(j // 24 % 2 == c // 24 ? w[j, c % 24, ..] : 0)     c < 48 */
#include "passes/dot_products.h"
#include "passes/pass.h"
#include "passes/vector_reads.h"

/* base = (j // n_out)*n_in */
static bool find_group_sizes(Dot *d, const KExpr *base) {
    const KVar *j = d->s->axis[d->axes.vec_axis];
    d->n_in = d->n_out = 1;
    if (base->op == KO_mul && k_is_int(base->arg[1], &d->n_in)) base = base->arg[0];
    if (base->op == KO_fdiv && k_is_int(base->arg[1], &d->n_out)) base = base->arg[0];
    return base->op == KO_var && base->u.var == j && d->n_in > 1;
}

/* There is one axis of x along which the vector axis and a whole axis of the sum choose channels.
 */
bool dot_find_groups(Dot *d) {
    const KExpr *at = d->x.at, *base, *coeff;
    KVar *j = d->s->axis[d->axes.vec_axis];
    d->group_axis = -1;
    for (int a = 0; a < at->u.tensor->rank; a++) {
        if (!k_uses_var(d->k, at->arg[a], j)) continue;
        if (d->group_axis >= 0) return false;
        d->group_axis = a;
    }
    if (d->group_axis < 0 || (d->x.inside && k_uses_var(d->k, d->x.inside, j))) return false;
    for (d->group_red = 0; d->group_red < d->s->n_red; d->group_red++) {
        const KVar *red = d->s->red[d->group_red];
        int64_t extent;
        if (!k_uses_var(d->k, at->arg[d->group_axis], red)) continue;
        return k_linear_in(d->k, at->arg[d->group_axis], (KVar *)red, &base, &coeff) &&
               k_is_value(coeff, 1) && find_group_sizes(d, base) &&
               k_is_int(d->s->red_extent[d->group_red], &extent) && extent == d->n_in;
    }
    return false;
}

/* Joins groups so that each is a whole number of vectors; false where that cannot be. */
static bool join_groups(Dot *d) {
    enum { MOST = 16 }; /* times the products */
    KCtx *k = d->k;
    int64_t n = d->axes.lanes / common_divisor(d->n_out, d->axes.lanes), n_out = n * d->n_out, all;
    const KExpr *j = k_var(k, d->s->axis[d->axes.vec_axis]), *arg[MAX_RANK + 1];
    KVar *old = d->s->red[d->group_red];
    const KTensor *x = d->x.at->u.tensor;
    bool fits = k_is_int(d->s->out->dims[d->axes.vec_axis], &all) && all % n_out == 0 && n <= MOST;
    bool in_place = tensor_contiguous_axis(x) == d->group_axis && n * d->n_in % 4 == 0 &&
                    (x->layout.block <= 1 || x->layout.block % 4 == 0);
    if (!fits || !in_place || at_pred(d->w.at) || d->w.zero) return false;
    KVar *red = kvar_new(k, KV_AXIS, DT_I64, old->name, 0, n * d->n_in - 1);
    const KExpr *c = k_var(k, red), *n_in = k_int(k, d->n_in);
    const KExpr *in_group = k_fmod(k, c, n_in), *which = k_fdiv(k, c, n_in);
    const KExpr *own = k_fmod(k, k_fdiv(k, j, k_int(k, d->n_out)), k_int(k, n));
    int rank = d->w.at->u.tensor->rank;
    for (int i = 0; i < rank; i++) arg[i] = k_subst(k, d->w.at->arg[i], &old, &in_group, 1);
    arg[rank] = k_eq(k, own, which);
    d->w.at = k_at(k, d->w.at->u.tensor, arg, rank + 1);
    rank = d->x.at->n_args;
    for (int i = 0; i < rank; i++) arg[i] = k_subst(k, d->x.at->arg[i], &old, &c, 1);
    const KExpr *first = k_mul(k, k_fdiv(k, j, k_int(k, n_out)), k_int(k, n * d->n_in));
    arg[d->group_axis] = k_add(k, first, c);
    d->x.at = k_at(k, d->x.at->u.tensor, arg, rank);
    d->n_out = n_out;
    d->n_in *= n;
    d->s->red[d->group_red] = red;
    d->s->red_extent[d->group_red] = k_int(k, d->n_in);
    return true;
}

bool dot_choose_group_axis(Dot *d) {
    for (int i = 0; i < 2; i++) {
        if (dot_choose_axis(d) && d->in_place && d->red == d->group_red) {
            const KExpr *at = d->x.at, *arg[MAX_RANK + 1];
            KVar *group = kvar_new(d->k, KV_AXIS, DT_I64, "group", 0, (d->extent + 3) / 4 - 1);
            const KExpr *first = k_mul(d->k, k_var(d->k, group), k_int(d->k, 4));
            for (int a = 0; a < at->n_args; a++)
                arg[a] = k_subst(d->k, at->arg[a], &d->s->red[d->red], &first, 1);
            const KExpr *word = k_at_word(d->k, at->u.tensor, arg, at->n_args);
            if (reads_lanes(d->k, d->s, word, &d->axes)) return true;
        }
        if (!i && !join_groups(d)) return false;
    }
    BUG("joined groups of channels are not read in words");
}
