/* Distances between the rows of two matrices: CDist, nearest neighbours, kernels of SVMs.
 *
 *   reduce [i, j] over [k] { value = (a[i, k] - b[j, k])*(a[i, k] - b[j, k])  fold add f32 }
 *   contract [i, j] over [k] { lhs = a[i, k]  rhs = b[j, k]  fold squares f32 }
 *
 * A sum that walks memory would read both rows again for each element, and then fold a vector into
 * one number. As a contraction whose step is acc + (lhs - rhs)^2 it has the register tiles and the
 * packed factor of a product, at two operations a step. (|a|^2 + |b|^2 - 2ab would be one, and
 * loses the digits of points that lie near each other.) */
#include "passes/distances.h"

/* Is there an axis of the result that only `a` depends on? */
static bool has_own_axis(KCtx *k, const Stage *s, const KExpr *a, const KExpr *b) {
    for (int i = 0; i < s->out->rank; i++)
        if (!k_is_value(s->out->dims[i], 1) && k_uses_var(k, a, s->axis[i]) &&
            !k_uses_var(k, b, s->axis[i]))
            return true;
    return false;
}

bool contract_distances(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    if (s->form != FORM_REDUCE || s->fold != KO_add || !s->n_red) return false;
    if (s->acc->dtype != DT_F32 && s->acc->dtype != DT_F64) return false;
    bool square = s->body->op == KO_mul && s->body->arg[0] == s->body->arg[1];
    if (!square && s->body->op != KO_abs) return false;
    const KExpr *d = s->body->arg[0];
    if (d->op != KO_sub || !has_own_axis(k, s, d->arg[0], d->arg[1]) ||
        !has_own_axis(k, s, d->arg[1], d->arg[0]))
        return false;
    s->form = FORM_CONTRACT;
    s->addend = square ? ADD_SQUARE : ADD_MAGNITUDE;
    s->lhs = d->arg[0];
    s->rhs = d->arg[1];
    s->body = NULL;
    return true;
}

void reduce_distances(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    const KExpr *d = k_sub(k, s->lhs, s->rhs);
    s->form = FORM_REDUCE;
    s->body = s->addend == ADD_SQUARE ? k_mul(k, d, d) : k_abs(k, d);
    s->addend = ADD_PRODUCT;
    s->lhs = s->rhs = NULL;
}
