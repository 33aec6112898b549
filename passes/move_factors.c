/* move_factors: what scales whole rows of a contraction's operand scales the smaller operand
 * instead.
 *
 * Before:  z[c, h, w] = x[c, h, w] * s[c];  y[o, h, w] = sum_c z[c, h, w] * v[o, c]
 * After:   y[o, h, w] = sum_c x[c, h, w] * (v[o, c] * s[c])
 *
 * So the product costs one multiplication for each weight rather than one for each element, and a
 * large tensor is read once less and never written: the gates of squeeze-and-excitation, the scale
 * of an RMS normalization (whose weights are then constants, multiplied while compiling). As with a
 * BatchNormalization folded into weights, the products are rounded in another order.
 *
 * Requires definitions, after fusion. Takes a factor that is one read, from a map that only this
 * contraction reads, at a place that no row of the result moves; floats. Borders stay outside: zero
 * padding times an infinite factor would become NaN. Not done: factors of several readers. */
#include "passes/pass.h"

/* Elements of the scaled tensor to products of the smaller operand: where that is weights without
 * windows, which are packed anyway, and elsewhere. Scaled weights are no constants any more, which
 * filtering and matrix units want. */
static const double LEAST_RATIO = 1.5, LEAST_RATIO_OF_OTHERS = 8;

enum { SOME = 256 }; /* a free size of which nothing is known */

/* Which variables of a stage an expression uses. */
typedef struct Uses {
    const Module *m;
    KCtx *k;
    const Stage *s;
} Uses;

/* What an axis counts. A batch of any size is one of both operands and makes no difference. */
static double extent(const KExpr *e) {
    return (double)k_guess(e, SOME);
}

/* Elements of the space that those axes of s span which e or f (or NULL) use. */
static double span(const Uses *u, const KExpr *e, const KExpr *f) {
    const Stage *s = u->s;
    double n = 1;
    for (int i = 0; i < s->out->rank; i++)
        if (k_uses_var(u->k, e, s->axis[i]) || (f && k_uses_var(u->k, f, s->axis[i])))
            n *= extent(s->out->dims[i]);
    for (int i = 0; i < s->n_red; i++)
        if (k_uses_var(u->k, e, s->red[i]) || (f && k_uses_var(u->k, f, s->red[i])))
            n *= extent(s->red_extent[i]);
    return n;
}

static bool is_constant_read(const KExpr *e) {
    return e->op == KO_at && e->u.tensor->data;
}

static double least_ratio(const Uses *u, const KExpr *other) {
    int n_long = 0;
    for (int i = 0; i < u->s->n_red; i++) n_long += !k_is_value(u->s->red_extent[i], 1);
    bool is_plain = n_long <= 1 && is_constant_read(other) && !u->m->precision;
    return is_plain ? LEAST_RATIO : LEAST_RATIO_OF_OTHERS;
}

static double n_elements(const KTensor *t) {
    double n = 1;
    for (int i = 0; i < t->rank; i++) n *= extent(t->dims[i]);
    return n;
}

/* Is it worth it to multiply `other` by `factor` instead of the operand read at `place`? */
static bool pays(const Uses *u, const KExpr *place, const KExpr *other, const KExpr *factor) {
    if (other->op != KO_at || at_pred(other)) return false;
    if (is_constant_read(other) && is_constant_read(factor) &&
        span(u, other, factor) == span(u, other, NULL))
        return true;
    return n_elements(place->u.tensor) >= least_ratio(u, other) * span(u, other, factor);
}

/* The map whose result this operand is, if the contraction is all that reads it, once. */
static Stage *scaled_operand(const Stage *s, const KExpr *e, const KExpr *other) {
    if (e->op != KO_at || at_pred(e)) return NULL;
    KTensor *t = e->u.tensor;
    Stage *map = t->def;
    if (!map || map->form != FORM_MAP || map->owner != s->owner || map->body->op != KO_mul)
        return NULL;
    if (t->n_users != 1 || t->dense_only || t->is_output || !dtype_is_float(t->dtype)) return NULL;
    return other->op == KO_at && other->u.tensor == t ? NULL : map;
}

/* Takes one factor of the operand *e over to *other; false when there is none. */
static bool move_factor(DefProgram *p, Stage *s, const KExpr **e, const KExpr **other) {
    KCtx *k = p->m->k;
    Uses u = {p->m, k, s};
    Stage *map = scaled_operand(s, *e, *other);
    for (int side = 0; map && side < 2; side++) {
        const KExpr *factor = map->body->arg[side], *rest = map->body->arg[1 - side];
        if (factor->op != KO_at || at_pred(factor)) continue;
        factor = k_subst(k, factor, map->axis, (*e)->arg, map->out->rank);
        if (!pays(&u, *e, *other, factor) || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        pass_trace("move_factors", map->node,
                   "a factor of its %d elements goes to the other operand",
                   (int)span(&u, *e, NULL));
        stage_forget_reads(s);
        stage_forget_reads(map);
        map->body = rest;
        *other = k_mul(k, *other, factor);
        stage_note_reads(map);
        if (rest->op == KO_at) {
            stage_inline(p, s, map);
            stage_forget_reads(map);
            stage_remove(p, map);
        }
        stage_note_reads(s);
        return true;
    }
    return false;
}

static void move_in_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first; s; s = s->next) {
        if (s->form != FORM_CONTRACT) continue;
        *changed |= move_factor(p, s, &s->lhs, &s->rhs) || move_factor(p, s, &s->rhs, &s->lhs);
    }
}

bool pass_move_factors(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, move_in_program, &changed);
    return changed;
}
