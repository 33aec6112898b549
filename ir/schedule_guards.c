/* What is outside for all of a tile of a contraction.
 *
 * A window beyond the border of what it reads, without a halo: dilation 12 on a map of 16. Of the
 * predicate, a part that is the same for all rows of the tile becomes a branch around the steps of
 * its tap; one that grows with the row is asked of the tile's last or first row, and stays. */
#include <string.h>

#include "ir/schedule_contract.h"

/* q for the row of the tile that it is most likely true for; NULL where that is not known. */
static const KExpr *for_any_row(Contract *c, const KExpr *q) {
    KCtx *k = c->k;
    const KExpr *base, *coeff;
    int64_t step;
    if (q->op != KO_le && q->op != KO_lt) return NULL;
    const KExpr *room = k_sub(k, q->arg[1], q->arg[0]);
    if (k_uses_var(k, q, c->s->axis[c->sch->vec_axis])) return NULL;
    for (int i = 0; i < 2; i++) {
        if (c->rows[i] <= 1) continue;
        KVar *row = c->s->axis[c->sch->row_axis[i]];
        if (!k_uses_var(k, q, row)) continue;
        if (!k_linear_in(k, room, row, &base, &coeff) || !k_is_int(coeff, &step)) return NULL;
        const KExpr *at = k_add(k, c->row_start[i], k_int(k, step > 0 ? c->rows[i] - 1 : 0));
        q = k_subst(k, q, &row, &at, 1);
    }
    return q;
}

/* One of the terms of the predicate: a guard, or what is left of it. */
static const KExpr *split_term(Contract *c, const KExpr *q) {
    KCtx *k = c->k;
    int red = -1;
    bool by_row = k_uses_var(k, q, c->s->axis[c->sch->vec_axis]);
    for (int r = 0; r < c->s->n_red; r++)
        if (k_uses_var(k, q, c->s->red[r])) red = r;
    for (int i = 0; i < 2; i++)
        by_row |= c->rows[i] > 1 && k_uses_var(k, q, c->s->axis[c->sch->row_axis[i]]);
    const KExpr *any = by_row ? for_any_row(c, q) : q;
    if (red < 0 || !any || c->n_guards == MAX_GUARDS) return q;
    c->guard[c->n_guards++] = (Guard){any, red};
    return by_row ? q : k_bool(k, true);
}

static const KExpr *split_predicate(Contract *c, const KExpr *pred) {
    if (pred->op != KO_and) return split_term(c, pred);
    const KExpr *left = split_predicate(c, pred->arg[0]);
    return k_and(c->k, left, split_predicate(c, pred->arg[1]));
}

void contract_find_guards(Contract *c) {
    const KExpr *arg[MAX_RANK + 1], *lhs = c->s->lhs;
    c->lhs = lhs;
    c->n_guards = 0;
    if (!c->sch->skips || lhs->op != KO_at || !at_pred(lhs)) return;
    int n = lhs->u.tensor->rank;
    memcpy(arg, lhs->arg, sizeof arg[0] * (size_t)n);
    arg[n] = split_predicate(c, at_pred(lhs));
    c->lhs = k_at(c->k, lhs->u.tensor, arg, n + 1);
}

int contract_open_guards(Contract *c, int r, const Binding *red) {
    KCtx *k = c->k;
    Binding bound = c->outer;
    int n = 0;
    for (int i = 0; i < 2; i++)
        if (c->sch->row_axis[i] >= 0)
            binding_add(&bound, c->s->axis[c->sch->row_axis[i]], c->row_start[i]);
    for (int i = 0; i < red->n; i++) binding_add(&bound, red->var[i], red->by[i]);
    for (int i = 0; i < c->n_guards; i++) {
        if (c->guard[i].red != r) continue;
        const KExpr *cond = k_subst(k, c->guard[i].cond, bound.var, bound.by, bound.n);
        cond = expr_open(c->p, cond); /* places that were looked up are read here */
        if (k_is_value(cond, 1)) continue;
        kb_if(c->b, cond);
        n++;
    }
    return n;
}
