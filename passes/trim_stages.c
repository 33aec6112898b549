/* trim_stages: elements that nobody reads, and taps that see nothing, are not computed.
 *
 * Before:  y: f32[1, 16, 14, 14] = contract [i, j, k, l] ...
 *          z: f32[1, 16, 4, 4] = reduce [i, j, k, l] over [x < 3, y < 3] {
 *            value = y[0, j, k*3 + x, l*3 + y]
 *          }
 * After:   y: f32[1, 16, 12, 12] = ...                 a pooling that ends before the border does
 *
 * From the last stage to the first: the least and the largest index that any reader has along an
 * axis are where the axis begins and ends, so that what is spared goes on upwards. Slices, strides,
 * pools that do not come out even, and nets whose head reads the last step only give such axes;
 * where an axis begins later, readers count from there. Where a window is wider than what it looks
 * at (dilation 24 on a map of 16), some taps only ever meet its border: the first and last indices
 * of a reduction axis at which the predicate is never true. Their products are zeros, if the
 * weights are finite.
 *
 * Requires definitions after fusion and before layouts. It leaves alone what programs, regions and
 * callers read, axes of free size, and what would be less than a tenth of the elements: sizes that
 * fit register tiles are worth that. */
#include "passes/pass.h"

enum {
    LEAST_SPARED = 10, /* the part of the elements below which an axis stays as it is */
    MOST_TAPS = 64,
    WHOLE = -1, /* an axis of free size stays as it is */
};

/* ---- elements -------------------------------------------------------------------------------- */

typedef struct Hull {
    KTensor *t;
    int64_t begin[MAX_RANK], end[MAX_RANK]; /* of what is read; both WHOLE: of free size */
} Hull;

static void note_read(const KExpr *e, void *user) {
    Hull *h = user;
    if (e->op != KO_at || e->u.tensor != h->t) return;
    for (int i = 0; i < h->t->rank; i++) {
        int64_t lo = e->arg[i]->lo, hi = e->arg[i]->hi;
        if (lo < h->begin[i]) h->begin[i] = lo > 0 ? lo : 0;
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

typedef struct Divisor {
    KCtx *k;
    const KVar *axis;
    bool any;
} Divisor;

static void note_division(const KExpr *e, void *user) {
    Divisor *d = user;
    if (e->op == KO_fdiv || e->op == KO_fmod) d->any |= k_uses_var(d->k, e, d->axis);
}

/* May the axis begin later? Not that of a contraction's weights, whose first ones would be left
 * out: layouts and schedules know weights that are read from 0 on. Nor one that is divided, as the
 * channels of a grouped convolution. */
static bool may_begin_later(KCtx *k, const Stage *s, int i) {
    Divisor d = {k, s->axis[i], false};
    if (s->form == FORM_CONTRACT && k_uses_var(k, s->rhs, s->axis[i])) return false;
    stage_visit(k, s, note_division, &d);
    return !d.any;
}

/* What reads the trimmed tensor counts from where it begins now. */
static const KExpr *shift_read(KCtx *k, const KExpr *e, void *user) {
    const Hull *h = user;
    const KExpr *arg[MAX_RANK + 1];
    if (e->op != KO_at || e->u.tensor != h->t) return e;
    for (int i = 0; i < e->n_args; i++)
        arg[i] = i < h->t->rank && h->begin[i] > 0 ? k_sub(k, e->arg[i], k_int(k, h->begin[i]))
                                                   : e->arg[i];
    return k_at(k, h->t, arg, e->n_args);
}

/* Leaves of s->out what is in the hull, and gives its axes their ranges, on which what reads of it
 * depends. */
static void cut(DefProgram *p, Stage *s, Hull *h) {
    KCtx *k = p->m->k;
    KTensor *t = s->out;
    Renaming r = {.n = 0};
    bool shifts = false;
    const KExpr **dims = arena_copy(p->arena, t->dims, sizeof *dims * (size_t)t->rank);
    for (int i = 0; i < t->rank; i++) {
        int64_t n = h->end[i] - h->begin[i];
        if (h->end[i] == WHOLE || k_is_value(dims[i], (double)n)) continue;
        KVar *axis = kvar_new(k, KV_AXIS, DT_I64, s->axis[i]->name, 0, n - 1);
        dims[i] = k_int(k, n);
        r.from[r.n] = s->axis[i];
        r.to[r.n++] = k_add(k, k_var(k, axis), k_int(k, h->begin[i]));
        s->axis[i] = axis;
        shifts |= h->begin[i] > 0;
    }
    t->dims = dims;
    t->buf->n_elems = tensor_n_elems(k, t);
    stage_rewrite(p, s, rename_axis, &r);
    for (uint32_t i = 0; shifts && i < t->users.n; i++)
        stage_rewrite(p, t->users.at[i], shift_read, h);
}

static bool trim(DefProgram *p, Stage *s) {
    KTensor *t = s->out;
    Hull h = {.t = t};
    double all = 1, read = 1;
    if (!can_trim(p, s)) return false;
    for (int i = 0; i < t->rank; i++) h.begin[i] = INT64_MAX;
    for (uint32_t i = 0; i < t->users.n; i++) stage_visit(p->m->k, t->users.at[i], note_read, &h);
    for (int i = 0; i < t->rank; i++) {
        int64_t n;
        if (!k_is_int(t->dims[i], &n)) {
            h.begin[i] = h.end[i] = WHOLE;
            continue;
        }
        if (n < 1 || h.end[i] < 1) return false;
        if (h.end[i] > n) h.end[i] = n;
        if (h.begin[i] >= h.end[i]) return false;
        if (h.begin[i] > 0 && !may_begin_later(p->m->k, s, i)) h.begin[i] = 0;
        all *= (double)n;
        read *= (double)(h.end[i] - h.begin[i]);
    }
    if ((all - read) * LEAST_SPARED < all || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    pass_trace("trim_stages", s->node, "%.0f of %.0f elements", read, all);
    cut(p, s, &h);
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
