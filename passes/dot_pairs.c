/* Elements of 16 bits for dot products of pairs, for dot_products.c.
 *
 * Before:  contract over [c < 64, ky, kx]        lhs = i32(x[0, c, ..]) - 3
 * After:   halves[i, j, k, l] = i16(i32(x[i, j, k, l]) - 3)
 *          contract over [c < 32, ky, kx], dot2_ss   lhs = word(halves[0, c*2, ..])
 *
 * A broadcast of two neighbours then is one load, as that of four bytes is where the machine
 * multiplies bytes. The tensor lies like x, with zeros for a halo, and serves every contraction
 * that reads x with this zero point. */
#include <string.h>

#include "passes/dot_products.h"
#include "passes/pass.h"

/* What stage s, over x's elements, makes of one of them. */
static const KExpr *half_of(const Dot *d, const Stage *s) {
    const KExpr *index[MAX_RANK];
    KTensor *x = d->x.at->u.tensor;
    stage_own_index(d->k, s, index);
    const KExpr *v = k_cast(d->k, DT_I32, k_at(d->k, x, index, x->rank));
    return k_cast(d->k, DT_I16, d->x.zero ? k_sub(d->k, v, d->x.zero) : v);
}

/* The tensor that an earlier contraction asked for; NULL when none did. */
static KTensor *find_halves(const Dot *d) {
    const KTensor *x = d->x.at->u.tensor;
    for (Stage *s = d->p->first; s && s != d->s; s = s->next)
        if (s->form == FORM_MAP && s->out->dtype == DT_I16 && s->out->rank == x->rank &&
            s->body == half_of(d, s))
            return s->out;
    return NULL;
}

static KTensor *make_halves(const Dot *d) {
    KTensor *x = d->x.at->u.tensor;
    KTensor *halves = program_add_tensor(d->p, "halves", DT_I16, x->rank, x->dims);
    Stage *make = program_add_stage(d->p, d->s, FORM_MAP, halves, d->s->node);
    make->body = half_of(d, make);
    halves->layout = x->layout;
    halves->layout.halo_value = 0;
    return halves;
}

const KExpr *dot_pair_in_place(Dot *d) {
    KTensor *halves = find_halves(d);
    if (!halves) halves = make_halves(d);
    const KExpr *first = k_mul(d->k, k_var(d->k, d->group), k_int(d->k, 2)), *arg[MAX_RANK + 1];
    int rank = halves->rank;
    for (int i = 0; i < rank; i++)
        arg[i] = k_subst(d->k, d->x.at->arg[i], &d->s->red[d->red], &first, 1);
    if (d->x.inside) arg[rank++] = d->x.inside;
    return k_at_word(d->k, halves, arg, rank);
}
