/* Steps of a reduction that add nothing: a window's taps beyond the border.
 *
 *   acc = max(acc, 0 <= i + ky & 0 <= j + kx ? x[i + ky, j + kx if ..] : -inf)
 *
 * A condition that all lanes share needs no mask: without it the step does nothing, so it is asked
 * around what it guards, as soon as its reduction axes are known:
 *
 *   for ky { if 0 <= i + ky { for kx { acc = max(acc, 0 <= j + kx ? x[..] : -inf) } } }
 *
 * Rows between the borders need not ask: there it holds for all steps, and the loops over rows end
 * where that begins and ends. */
#include "ir/schedule_rows.h"

typedef struct Guards {
    KCtx *k;
    const Stage *s;
    const KVar *lane; /* conditions on it stay masks */
    FoldGuards *found;
    const KExpr *pred;
} Guards;

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
    const KExpr *without = k_replace(k, g->found->body, pred, k_bool(k, false));
    if (without != fold_neutral(k, s->fold, s->acc->dtype)) return;
    const KExpr **at = &g->found->at[depth_of(g, pred)];
    *at = *at ? k_and(k, *at, pred) : pred;
    g->found->body = k_replace(k, g->found->body, pred, k_bool(k, true));
}

FoldGuards fold_guards(KCtx *k, const Stage *s, const KExpr *body, const KVar *lane) {
    FoldGuards found = {.body = body};
    Guards g = {.k = k, .s = s, .lane = lane, .found = &found};
    k_visit(k, body, note_pred, &g);
    if (g.pred && s->init == fold_neutral(k, s->fold, s->acc->dtype)) note_terms(&g, g.pred);
    return found;
}

/* ---- where they hold ------------------------------------------------------------------------- */

/* Does the condition hold for all steps at lo..hi of the axis? */
static bool holds_within(KCtx *k, const KExpr *cond, KVar *axis, int64_t lo, int64_t hi) {
    const KExpr *at = k_var(k, kvar_new(k, KV_AXIS, DT_I64, axis->name, 0, hi - lo));
    at = k_add(k, at, k_int(k, lo));
    return k_is_value(k_subst(k, cond, &axis, &at, 1), 1);
}

/* The largest part of the axis where cond holds, if little is beside it: cuts at its ends. */
static int inner_range(KCtx *k, const KExpr *cond, KVar *axis, int64_t extent, int64_t *cut) {
    enum { MOST_BORDER = 4 };
    int n = 0;
    for (int64_t beside = 1; beside <= 2 * MOST_BORDER && beside < extent; beside++)
        for (int64_t low = 0; low <= beside; low++) {
            int64_t end = extent - (beside - low);
            if (!holds_within(k, cond, axis, low, end - 1)) continue;
            if (low > 0) cut[n++] = low;
            if (end < extent) cut[n++] = end;
            return n;
        }
    return 0;
}

int fold_cuts(KCtx *k, const Stage *s, int axis, int64_t *cut) {
    int64_t extent, steps = 1, n;
    const KExpr *cond = NULL;
    if (s->form != FORM_REDUCE || !k_is_int(s->out->dims[axis], &extent)) return 0;
    for (int i = 0; i < s->n_red; i++) {
        if (!k_is_int(s->red_extent[i], &n) || n > SMALL_WINDOW) return 0;
        steps *= n;
        if (steps > SMALL_WINDOW) return 0;
    }
    FoldGuards guards = fold_guards(k, s, s->body, NULL);
    for (int i = 0; i <= s->n_red; i++)
        if (guards.at[i] && k_uses_var(k, guards.at[i], s->axis[axis]))
            cond = cond ? k_and(k, cond, guards.at[i]) : guards.at[i];
    return cond ? inner_range(k, cond, s->axis[axis], extent, cut) : 0;
}
