/* shorten_powers: the powers of an attention's softmax without what is too small to count.
 *
 * Before:  m[i] = max_j x[i,j];  e[i,j] = exp(x[i,j] - m[i]);  s[i] = sum_j e[i,j];
 *          y[i,d] = sum_j e[i,j] * v[j,d] / s[i]
 * After:   e[i,j] = exp_neg(x[i,j] - m[i])      0 below the normal numbers; a quarter less work
 *
 * The largest power of a row is 1, so nothing is lost beside it. Masks that add -100 make powers
 * that are subnormal, and a processor needs a hundred cycles for each operation with one.
 *
 * Requires definitions. Only powers that end in sums: read by folds with addition and by
 * contractions, directly or through products and quotients that nobody else reads. A softmax that
 * the model gives away, or takes the logarithm of, keeps all its bits. */
#include "passes/pass.h"

enum { MOST_STEPS = 4 }; /* maps between powers and sums */

/* Does read `x` of the tensor that `peak` folds lie among the elements of the fold at `at`? */
static bool is_in_row(KCtx *k, const Stage *peak, const KExpr *x, const KExpr *at) {
    const KExpr *folded = peak->body;
    if (folded->op != KO_at || folded->u.tensor != x->u.tensor || folded->n_args != x->n_args)
        return false;
    for (int i = 0; i < x->n_args; i++) {
        bool is_any = false;
        for (int r = 0; r < peak->n_red; r++)
            is_any |= folded->arg[i]->op == KO_var && folded->arg[i]->u.var == peak->red[r];
        if (is_any) continue;
        const KExpr *own = k_subst(k, folded->arg[i], peak->axis, at->arg, peak->out->rank);
        if (own != x->arg[i]) return false;
    }
    return true;
}

/* Is it exp(x - m) with m the largest x of the row, so that it is at most 1? */
static bool is_power(KCtx *k, const KExpr *e) {
    if (e->op != KO_exp || e->arg[0]->op != KO_sub) return false;
    const KExpr *x = e->arg[0]->arg[0], *m = e->arg[0]->arg[1];
    const Stage *peak = m->op == KO_at && !at_pred(m) ? m->u.tensor->def : NULL;
    return peak && peak->form == FORM_REDUCE && peak->fold == KO_max && x->op == KO_at &&
           !at_pred(x) && peak->finish->op == KO_var && is_in_row(k, peak, x, m);
}

static bool ends_in_sums(const KTensor *t, int steps);

/* Is t added up by s, or a factor of what is? */
static bool adds_up(const Stage *s, const KTensor *t, int steps) {
    if (s->form == FORM_CONTRACT) return true;
    if (s->form == FORM_REDUCE)
        return s->fold == KO_add && s->body->op == KO_at && s->body->u.tensor == t;
    if (s->form != FORM_MAP || (s->body->op != KO_mul && s->body->op != KO_div)) return false;
    const KExpr *e = s->body->arg[0];
    return e->op == KO_at && e->u.tensor == t && ends_in_sums(s->out, steps - 1);
}

static bool ends_in_sums(const KTensor *t, int steps) {
    if (!steps || t->is_output || t->dense_only || !t->users.n) return false;
    if (t->n_users != t->users.n) return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (!adds_up(t->users.at[u], t, steps)) return false;
    return true;
}

static void shorten_in_program(DefProgram *p, void *user) {
    KCtx *k = p->m->k;
    bool *changed = user;
    for (Stage *s = p->first; s; s = s->next) {
        if (s->form != FORM_MAP || !is_power(k, s->body) || !ends_in_sums(s->out, MOST_STEPS))
            continue;
        if (!pass_may_rewrite()) continue;
        pass_count_rewrite();
        pass_trace("shorten_powers", s->node, "powers of at most 1, for sums");
        s->body = k_unary(k, KO_exp_neg, s->body->arg[0]);
        *changed = true;
    }
}

bool pass_shorten_powers(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, shorten_in_program, &changed);
    return changed;
}
