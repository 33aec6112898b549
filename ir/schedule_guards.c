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

/* ---- what is left of the steps --------------------------------------------------------------- */

/* Does the term ask only where this row's tap is? */
static bool asks_row(KCtx *k, const KExpr *term, const KVar *row, const KVar *tap) {
    const uint64_t both = k_var(k, (KVar *)row)->var_mask | k_var(k, (KVar *)tap)->var_mask;
    return k_uses_var(k, term, row) && k_uses_var(k, term, tap) && !(term->var_mask & ~both);
}

/* The terms of the predicate that ask where this row's tap is; NULL: none do. */
static const KExpr *terms_of(KCtx *k, const KExpr *pred, const KVar *row, const KVar *tap) {
    if (pred->op != KO_and) return asks_row(k, pred, row, tap) ? pred : NULL;
    const KExpr *a = terms_of(k, pred->arg[0], row, tap);
    const KExpr *b = terms_of(k, pred->arg[1], row, tap);
    return a && b ? k_and(k, a, b) : a ? a : b;
}

/* The rows at which each tap is inside, one stretch of them. */
static void find_rows(KCtx *k, const KExpr *inside, KVar *row, KVar *tap, TapRows *of) {
    for (int j = 0; j < of->n_taps; j++) {
        const KExpr *at = k_int(k, j), *here = k_subst(k, inside, &tap, &at, 1);
        of->first[j] = of->n_rows;
        of->end[j] = 0;
        for (int64_t i = 0; i < of->n_rows; i++) {
            const KExpr *place = k_int(k, i);
            if (k_is_value(k_subst(k, here, &row, &place, 1), 0)) continue;
            if (!of->end[j]) of->first[j] = i;
            of->end[j] = i + 1;
        }
    }
}

int schedule_tap_rows(KCtx *k, const Stage *s, const Schedule *sch, TapRows *out) {
    enum { MOST_ROWS = 512 };
    const KExpr *pred = sch->skips ? at_pred(s->lhs) : NULL;
    int n = 0;
    for (int a = 0; a < s->out->rank && pred; a++)
        for (int r = 0; r < s->n_red; r++) {
            int64_t taps;
            TapRows of = {.axis = a};
            if (a == sch->vec_axis || !k_is_int(s->out->dims[a], &of.n_rows)) continue;
            if (!k_is_int(s->red_extent[r], &taps) || taps > MOST_SEEN || of.n_rows > MOST_ROWS)
                continue;
            const KExpr *inside = terms_of(k, pred, s->axis[a], s->red[r]);
            if (!inside || n == MAX_TAP_AXES) continue;
            of.n_taps = (int)taps;
            find_rows(k, inside, s->axis[a], s->red[r], &of);
            out[n++] = of;
        }
    return n;
}

static double tap_share(const TapRows *of, int64_t tile) {
    int64_t taken = 0;
    for (int64_t from = 0; from < of->n_rows; from += tile) {
        int64_t end = from + tile < of->n_rows ? from + tile : of->n_rows;
        for (int j = 0; j < of->n_taps; j++)
            if (of->first[j] < end && from < of->end[j]) taken += end - from;
    }
    return (double)taken / (double)(of->n_rows * of->n_taps);
}

double schedule_taken_share(const TapRows *of, int n, const Schedule *sch) {
    double share = 1;
    for (int i = 0; i < n; i++) {
        int axis = of[i].axis;
        bool is_inner = axis == sch->row_axis[1], is_row = is_inner || axis == sch->row_axis[0];
        bool is_joined = sch->n_joined && is_row; /* tiles go on from row to row */
        if (!is_joined && !schedule_is_joined(sch, axis))
            share *= tap_share(&of[i], is_row ? sch->rows[is_inner] : 1);
    }
    return share;
}
