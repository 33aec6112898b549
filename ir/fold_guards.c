/* Steps of a reduction that add nothing: a window's taps beyond the border.
 *
 *   acc = max(acc, 0 <= i + ky & 0 <= j + kx ? x[i + ky, j + kx if ..] : -inf)
 *
 * A condition that all lanes share needs no mask: without it the step does nothing, so it is asked
 * around what it guards, as soon as its reduction axes are known:
 *
 *   for ky { if 0 <= i + ky { for kx { acc = max(acc, 0 <= j + kx ? x[..] : -inf) } } }        */
#include "ir/schedule_rows.h"

typedef struct Guards {
    KCtx *k;
    const Stage *s;
    const KVar *lane; /* conditions on it stay masks */
    FoldGuards *found;
    const KExpr *pred;
} Guards;

typedef struct Assumed {
    const KExpr *term, *value;
} Assumed;

static const KExpr *assume_term(KCtx *k, const KExpr *e, void *user) {
    const Assumed *a = user;
    (void)k;
    return e == a->term ? a->value : e;
}

static void note_pred(const KExpr *e, void *user) {
    Guards *g = user;
    if (e->op == KO_at && at_pred(e) && !g->pred) g->pred = at_pred(e);
}

/* How many reduction axes have to be open before the term is known. */
static int depth_of(const Guards *g, const KExpr *term) {
    for (int i = g->s->n_red; i > 0; i--)
        if (k_uses_var(g->k, term, g->s->red[i - 1])) return i;
    return 0;
}

/* A term that makes the element neutral where it does not hold becomes a guard. */
static void note_terms(Guards *g, const KExpr *pred) {
    KCtx *k = g->k;
    const Stage *s = g->s;
    if (pred->op == KO_and) {
        note_terms(g, pred->arg[0]);
        note_terms(g, pred->arg[1]);
        return;
    }
    if (pred->lo == pred->hi || (g->lane && k_uses_var(k, pred, g->lane))) return;
    Assumed no = {pred, k_bool(k, false)}, yes = {pred, k_bool(k, true)};
    if (k_rewrite(k, g->found->body, assume_term, &no) != fold_neutral(k, s->fold, s->acc->dtype))
        return;
    const KExpr **at = &g->found->at[depth_of(g, pred)];
    *at = *at ? k_and(k, *at, pred) : pred;
    g->found->body = k_rewrite(k, g->found->body, assume_term, &yes);
}

FoldGuards fold_guards(KCtx *k, const Stage *s, const KExpr *body, const KVar *lane) {
    FoldGuards found = {.body = body};
    Guards g = {.k = k, .s = s, .lane = lane, .found = &found};
    k_visit(k, body, note_pred, &g);
    if (g.pred && s->init == fold_neutral(k, s->fold, s->acc->dtype)) note_terms(&g, g.pred);
    return found;
}
