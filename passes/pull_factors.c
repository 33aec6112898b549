/* pull_factors: what every term of a contraction is multiplied or divided by is left to its store.
 *
 * Before:  p[i,j] = e[i,j] / z[i];  o[i,d] = sum_j p[i,j] * v[j,d]
 * After:   o[i,d] = (sum_j e[i,j] * v[j,d]) / z[i]
 *
 * So the probabilities of an attention are never written, and a scale that an exporter multiplies q
 * and k by costs nothing. A sum that nothing else reads becomes its reciprocal: one division for a
 * row instead of one for each element. Called by fuse_stages for each contraction. The quotient of
 * a softmax is taken, whose terms are at most 1 and whose divisor is their sum, and constants of
 * moderate size: then no sum overflows that would not have before. The order of rounding changes.
 */
#include "passes/pull_factors.h"

#include <math.h>

typedef struct Pull {
    DefProgram *p;
    KCtx *k;
    Stage *s;           /* the contraction */
    const KExpr **side; /* its factor: &s->lhs or &s->rhs */
    Stage *map;         /* what computes the factor, for s alone */
} Pull;

static bool is_moderate(const KExpr *e) {
    return e->op == KO_const_f && fabs(e->u.f) >= 1e-4 && fabs(e->u.f) <= 1e4;
}

/* Is e a read of a fold of this kind over what is exactly read by `term` (at the fold's element and
 * its reduction axes)? Gives the folded expression. */
static const KExpr *folded_by(const KExpr *e, KOp fold) {
    const Stage *s = e->op == KO_at ? e->u.tensor->def : NULL;
    if (!s || s->form != FORM_REDUCE || s->fold != fold || at_pred(e)) return NULL;
    return s->body;
}

/* Is it exp(x - m), with m the largest x? Then it is at most 1. */
static bool is_power_below_peak(const KExpr *e) {
    if (e->op != KO_exp || e->arg[0]->op != KO_sub) return false;
    const KExpr *x = e->arg[0]->arg[0], *peak = folded_by(e->arg[0]->arg[1], KO_max);
    return x->op == KO_at && peak && peak->op == KO_at && peak->u.tensor == x->u.tensor;
}

/* term / total: the quotient of a softmax? */
static bool is_softmax(const KExpr *term, const KExpr *total) {
    const KExpr *sum = folded_by(total, KO_add);
    if (!sum || term->op != KO_at || sum->op != KO_at || sum->u.tensor != term->u.tensor)
        return false;
    const Stage *powers = term->u.tensor->def;
    return powers && powers->form == FORM_MAP && is_power_below_peak(powers->body);
}

/* Is e, an expression over s's axes, the same in all terms of the sum? */
static bool is_common(const Pull *u, const KExpr *e) {
    for (int r = 0; r < u->s->n_red; r++)
        if (k_uses_var(u->k, e, u->s->red[r])) return false;
    return true;
}

/* Splits the map's body into term op common; false when it is nothing that may be pulled. */
static bool split_body(const Pull *u, const KExpr **term, const KExpr **common) {
    const KExpr *body = u->map->body;
    if (body->op != KO_mul && body->op != KO_div) return false;
    bool swap = body->op == KO_mul && body->arg[0]->op == KO_const_f;
    *term = body->arg[swap];
    *common = body->arg[!swap];
    if (is_moderate(*common)) return true;
    return body->op == KO_div && is_softmax(*term, *common);
}

static bool pull_from(Pull *u) {
    const KExpr *at = *u->side, *term, *common;
    KTensor *t = at->op == KO_at ? at->u.tensor : NULL;
    u->map = t ? t->def : NULL;
    if (!u->map || u->map->form != FORM_MAP || u->map->owner != u->p || at_pred(at)) return false;
    if (t->n_users != 1 || t->dense_only || !dtype_is_float(t->dtype)) return false;
    if (t->dtype != u->s->acc->dtype || !split_body(u, &term, &common)) return false;
    KOp op = u->map->body->op;
    const KExpr *left = k_subst(u->k, common, u->map->axis, at->arg, t->rank);
    if (!is_common(u, left)) return false;
    stage_forget_reads(u->s);
    stage_forget_reads(u->map);
    u->map->body = term;
    const KExpr *acc = k_var(u->k, u->s->acc), *scaled = k_binary(u->k, op, acc, left);
    u->s->finish = k_subst(u->k, u->s->finish, &u->s->acc, &scaled, 1);
    stage_note_reads(u->map);
    stage_note_reads(u->s);
    return true;
}

/* ---- one division for a row ----
 *
 *     z[i] = sum_j e[i,j];  finish = acc / z[i]      becomes
 *     z[i] = 1 / sum_j e[i,j];  finish = acc * z[i]
 *
 * Sums of a softmax's powers only, which are 1 or more: no reciprocal overflows. */

typedef struct Divisor {
    const KExpr *read; /* at(z) */
    bool other_use;    /* z is read in another way than to divide by it */
} Divisor;

static bool divides_by_sum(const KExpr *e) {
    const KExpr *terms = e->op == KO_div ? folded_by(e->arg[1], KO_add) : NULL;
    if (!terms || terms->op != KO_at || e->arg[1]->u.tensor->dtype != e->dtype) return false;
    const Stage *powers = terms->u.tensor->def;
    return powers && powers->form == FORM_MAP && is_power_below_peak(powers->body);
}

static void note_divisor(const KExpr *e, void *user) {
    Divisor *d = user;
    if (divides_by_sum(e) && !d->read) d->read = e->arg[1];
}

static const KExpr *multiply_instead(KCtx *k, const KExpr *e, void *user) {
    const Divisor *d = user;
    return e->op == KO_div && e->arg[1] == d->read ? k_mul(k, e->arg[0], d->read) : e;
}

static void note_other_use(const KExpr *e, void *user) {
    Divisor *d = user;
    for (int i = 0; i < e->n_args; i++)
        if (e->arg[i]->op == KO_at && e->arg[i]->u.tensor == d->read->u.tensor)
            d->other_use |= e->arg[i] != d->read || e->op != KO_div || i != 1;
}

static bool divide_once(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Divisor d = {0};
    k_visit(k, s->finish, note_divisor, &d);
    if (!d.read) return false;
    KTensor *z = d.read->u.tensor;
    k_visit(k, s->finish, note_other_use, &d);
    if (d.other_use || z->n_users != 1 || z->dense_only || z->def->owner != p) return false;
    s->finish = k_rewrite(k, s->finish, multiply_instead, &d);
    z->def->finish = k_div(k, k_const(k, z->dtype, 1), z->def->finish);
    return true;
}

bool pull_factors(DefProgram *p, Stage *s) {
    Pull u = {.p = p, .k = p->m->k, .s = s};
    bool changed = false;
    if (s->form != FORM_CONTRACT || !s->n_red) return false;
    u.side = &s->lhs;
    changed |= pull_from(&u);
    u.side = &s->rhs;
    changed |= pull_from(&u);
    changed |= divide_once(p, s);
    return changed;
}
