/* Contractions of bf16 factors in f32 as dot products of two, for choose_schedules.
 *
 * Before:  contract over [c < 64, ky, kx], acc f32     lhs = f32(x[0, c, ..])  of bf16
 *                                                      rhs = f32(w[j, c, ky, kx])
 * After:   contract over [c < 32, ky, kx], dot2_bf     lhs = word(x[0, c*2, ..])
 *                                                      rhs = w[j, c*2, ..] | w[j, c*2 + 1, ..] << 16
 *
 * On machines that have the instruction. Only where words of x are read as they lie: making them
 * would cost what is gained. Layouts have to be known. */
#include "passes/dot_products.h"
#include "passes/pass.h"

/* f32(x[..]) of bf16 elements. */
static bool match_bfloat(const KExpr *e, IntFactor *f) {
    if (e->op != KO_cast || e->dtype != DT_F32 || e->arg[0]->op != KO_at) return false;
    *f = (IntFactor){.at = e->arg[0], .inside = at_pred(e->arg[0])};
    return e->arg[0]->dtype == DT_BF16;
}

/* Is one factor a bf16 tensor that is the same for all lanes, and the other one constant? Swaps
 * them if need be. */
static bool find_bfloats(Dot *d) {
    Stage *s = d->s;
    for (int i = 0; i < 2; i++) {
        const KExpr *lhs = s->lhs;
        if (schedule_contract_axes(d->p, s, d->p->m->target, &d->axes) && d->axes.lanes > 1 &&
            match_bfloat(s->lhs, &d->x) && match_bfloat(s->rhs, &d->w) && !d->w.inside &&
            d->w.at->u.tensor->data && !k_uses_var(d->k, lhs, s->axis[d->axes.vec_axis]))
            return true;
        s->lhs = s->rhs;
        s->rhs = lhs;
    }
    return false;
}

bool use_bfloat_products(DefProgram *p, Stage *s) {
    Dot d = {.p = p, .k = p->m->k, .s = s, .op = KO_dot2_bf, .parts = 2};
    if (!p->m->target->dot2_bf16 || s->fold != KO_add || s->run || s->acc->dtype != DT_F32)
        return false;
    if (!find_bfloats(&d) || !dot_choose_axis(&d) || !d.in_place) return false;
    dot_use_words(&d, false, false);
    return true;
}
