/* trim_stages: elements that nobody reads, and taps that see nothing, are not computed.
 *
 * Before:  y: f32[1, 16, 14, 14] = contract [i, j, k, l] ...
 *          z: f32[1, 16, 4, 4] = reduce [i, j, k, l] over [x < 3, y < 3] {
 *            value = y[0, j, k*3 + x, l*3 + y]
 *          }
 * After:   y: f32[1, 16, 12, 12] = ...                 a pooling that ends before the border does
 *
 * From the last stage to the first: the largest index that any reader has along an axis is where
 * the axis ends, so that what is spared goes on upwards. Slices, strides and pools that do not come
 * out even give such axes. Where a window is wider than what it looks at (dilation 24 on a map of
 * 16), some taps only ever meet its border: the first and last indices of a reduction axis at which
 * the predicate is never true. Their products are zeros, if the weights are finite.
 *
 * Requires definitions after fusion and before layouts. It cuts the end of axes only, and leaves
 * alone what programs, regions and callers read, axes of free size, and what would be
 * less than a tenth of the elements: sizes that fit register tiles are worth that. */
#include "passes/pass.h"

enum {
    LEAST_SPARED = 10, /* the part of the elements below which an axis stays as it is */
    MOST_TAPS = 64,
    WHOLE = -1, /* an axis of free size stays as it is */
};

/* ---- elements -------------------------------------------------------------------------------- */

typedef struct Hull {
    const KTensor *t;
    int64_t end[MAX_RANK]; /* of what is read */
} Hull;

static void note_read(const KExpr *e, void *user) {
    Hull *h = user;
    if (e->op != KO_at || e->u.tensor != h->t) return;
    for (int i = 0; i < h->t->rank; i++) {
        int64_t hi = e->arg[i]->hi;
        if (hi == INT64_MAX || hi >= h->end[i]) h->end[i] = hi == INT64_MAX ? hi : hi + 1;
    }
}

static bool can_trim(const DefProgram *p, const Stage *s) {
    const KTensor *t = s->out;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    if (t->is_output || t->dense_only || t->alias || s->view || !t->users.n) return false;
    for (uint32_t i = 0; i < t->users.n; i++) {
        const Stage *u = t->users.at[i];
        if (u->owner != p || u->view || u->form == FORM_PROGRAM || u->form == FORM_REGION)
            return false;
    }
    for (uint32_t i = 0; i < p->outputs.n; i++)
        if (p->outputs.at[i] == t) return false;
    return true;
}

typedef struct Renaming {
    const KVar *from[MAX_RANK];
    const KExpr *to[MAX_RANK];
    int n;
} Renaming;

static const KExpr *rename_axis(KCtx *k, const KExpr *e, void *user) {
    const Renaming *r = user;
    (void)k;
    for (int i = 0; e->op == KO_var && i < r->n; i++)
        if (e->u.var == r->from[i]) return r->to[i];
    return e;
}

/* Gives s->out these extents (but WHOLE), and its axes their ranges, on which what reads of it
 * depends. */
static void cut(DefProgram *p, Stage *s, const int64_t *end) {
    KCtx *k = p->m->k;
    KTensor *t = s->out;
    Renaming r = {.n = 0};
    const KExpr **dims = arena_copy(p->arena, t->dims, sizeof *dims * (size_t)t->rank);
    for (int i = 0; i < t->rank; i++) {
        if (end[i] == WHOLE || k_is_value(dims[i], (double)end[i])) continue;
        KVar *axis = kvar_new(k, KV_AXIS, DT_I64, s->axis[i]->name, 0, end[i] - 1);
        dims[i] = k_int(k, end[i]);
        r.from[r.n] = s->axis[i];
        r.to[r.n++] = k_var(k, axis);
        s->axis[i] = axis;
    }
    t->dims = dims;
    t->buf->n_elems = tensor_n_elems(k, t);
    stage_rewrite(p, s, rename_axis, &r);
}

static bool trim(DefProgram *p, Stage *s) {
    KTensor *t = s->out;
    Hull h = {.t = t};
    double all = 1, read = 1;
    if (!can_trim(p, s)) return false;
    for (uint32_t i = 0; i < t->users.n; i++) stage_visit(p->m->k, t->users.at[i], note_read, &h);
    for (int i = 0; i < t->rank; i++) {
        int64_t n;
        if (!k_is_int(t->dims[i], &n)) {
            h.end[i] = WHOLE;
            continue;
        }
        if (n < 1 || h.end[i] < 1) return false;
        if (h.end[i] > n) h.end[i] = n;
        all *= (double)n;
        read *= (double)h.end[i];
    }
    if ((all - read) * LEAST_SPARED < all || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    pass_trace("trim_stages", s->node, "%.0f of %.0f elements", read, all);
    cut(p, s, h.end);
    return true;
}

/* ---- taps ------------------------------------------------------------------------------------ */

/* Is the predicate true for some element, where the reduction axis has this index? */
static bool sees(KCtx *k, const KExpr *pred, KVar *red, int64_t index) {
    const KExpr *at = k_int(k, index);
    return !k_is_value(k_subst(k, pred, &red, &at, 1), 0);
}

static bool trim_axis(KCtx *k, Stage *s, int r, const KExpr *pred) {
    int64_t n, first = 0;
    if (!k_is_int(s->red_extent[r], &n) || n < 2 || n > MOST_TAPS ||
        !k_uses_var(k, pred, s->red[r]))
        return false;
    int64_t end = n;
    while (first < end && !sees(k, pred, s->red[r], first)) first++;
    while (end > first && !sees(k, pred, s->red[r], end - 1)) end--;
    if (first == end || end - first == n) return false;
    KVar *var = kvar_new(k, KV_AXIS, DT_I64, s->red[r]->name, 0, end - first - 1);
    const KExpr *moved = k_add(k, k_var(k, var), k_int(k, first));
    s->lhs = k_subst(k, s->lhs, &s->red[r], &moved, 1);
    s->rhs = k_subst(k, s->rhs, &s->red[r], &moved, 1);
    s->red[r] = var;
    s->red_extent[r] = k_int(k, end - first);
    return true;
}

static bool trim_taps(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    bool changed = false;
    if (s->form != FORM_CONTRACT || s->lhs->op != KO_at || !at_pred(s->lhs)) return false;
    for (int r = 0; r < s->n_red && at_pred(s->lhs); r++) {
        Stage old = *s;
        if (!trim_axis(k, s, r, at_pred(s->lhs))) continue;
        if ((!changed && !constants_are_finite(k, s->rhs)) || !pass_may_rewrite()) {
            *s = old;
            return changed;
        }
        pass_count_rewrite();
        changed = true;
    }
    return changed;
}

static void trim_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first; s; s = s->next) *changed |= trim_taps(p, s);
    for (Stage *s = p->last; s; s = s->prev) *changed |= trim(p, s);
}

bool pass_trim_stages(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, trim_program, &changed);
    return changed;
}
