/* Folds of a few tensors that a Concat put side by side, as maps.
 *
 * Before:  r[i] = fold add over [j < 2] of (j < 1 ? a[i] : b[i])*s[j]
 * After:   r[i] = a[i]*s[0] + b[i]*s[1]
 *
 * Branches of a network that are stacked and summed, as those of selective kernels are, need
 * neither the stack nor a loop over it, and the sum may end in the store of the last branch. Only
 * folds whose terms choose between tensors by the folded axis are written out: others have their
 * lanes. */
#include "passes/pass.h"
#include "passes/spell_folds.h"

enum { MAX_TERMS = 8, MAX_SPELT_NODES = 200 };

typedef struct Choice {
    KCtx *k;
    const Stage *s;
    bool found;
    int n_nodes;
} Choice;

/* By the folded axis and nothing else: the border of a window hangs on other axes, too. */
static void note_choice(const KExpr *e, void *user) {
    Choice *c = user;
    c->n_nodes++;
    if (e->op != KO_select || e->dtype == DT_I64) return;
    bool by_axis = false;
    for (int i = 0; i < c->s->out->rank; i++)
        by_axis |= k_uses_var(c->k, e->arg[0], c->s->axis[i]);
    c->found |= !by_axis && k_uses_var(c->k, e->arg[0], c->s->red[0]);
}

static bool is_short_choice(KCtx *k, const Stage *s, int64_t *n) {
    if (s->form != FORM_REDUCE || s->n_red != 1 || !k_is_int(s->red_extent[0], n)) return false;
    if (*n < 1 || *n > MAX_TERMS || s->body->dtype != s->acc->dtype) return false;
    Choice c = {k, s, false, 0};
    k_visit(k, s->body, note_choice, &c);
    return c.found && c.n_nodes * *n <= MAX_SPELT_NODES;
}

bool spell_fold(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    int64_t n;
    if (!is_short_choice(k, s, &n) || !pass_may_rewrite()) return false;
    const KExpr *value = s->fold == KO_add && k_is_value(s->init, 0) ? NULL : s->init;
    for (int64_t i = 0; i < n; i++) {
        const KExpr *at = k_int(k, i);
        const KExpr *term = k_subst(k, s->body, &s->red[0], &at, 1);
        value = value ? k_binary(k, s->fold, value, term) : term;
    }
    stage_forget_reads(s);
    s->body = k_subst(k, s->finish, &s->acc, &value, 1);
    s->form = FORM_MAP;
    s->finish = s->init = NULL;
    s->acc = NULL;
    s->n_red = 0;
    stage_note_reads(s);
    pass_count_rewrite();
    pass_trace("fuse_stages", s->node, "a fold of %d tensors is written out", (int)n);
    return true;
}
