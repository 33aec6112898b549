/* split_phases: a contraction whose taps depend on the position modulo a stride, by phases.
 *
 * Before:  y: f32[1, 8, 16] = contract [i, j, k] over [c < 4, t < 4] {
 *            lhs = x[0, c, (k + 1 - t) // 2 if (k + 1 - t) mod 2 == 0 & ...]       ConvTranspose
 *            rhs = w[c, j, t]
 *          }
 * After:   even: f32[1, 8, 8] = contract [i, j, k] over [c < 4, t < 2] {
 *            lhs = x[0, c, k + t - 1 if ...]
 *            rhs = w[c, j, 3 - t*2]
 *          }
 *          odd: ...
 *          y: f32[1, 8, 16] = map [i, j, k] {
 *            value = k mod 2 == 0 ? even[i, j, k // 2] : odd[...]
 *          }
 *
 * Where both factors of a product count only if axis + .. - tap*d is a multiple of s, the axis is
 * q*s + r and for each r only every s-th tap remains (every s/gcd(s, d)-th). So each phase is an
 * ordinary convolution of its own taps, which no product with zero is part of, and everything after
 * this pass treats it as one. Along several axes there is a phase for each combination. `finish`
 * goes into each phase. share_memory lets the phases be written in place, one element in s of y's
 * rows.
 *
 * A tap that the position tells altogether is no axis to sum over. Where what is read has one
 * element along an axis, 0 <= k - t & k - t < 1 says that t is k (the first layer of most
 * generators):
 *
 * Before:  contract [.., k] over [c < 100, t < 4] {
 *            lhs = x[0, c, 0 if 0 <= k - t & k - t < 1]
 *            rhs = w[c, j, t]
 *          }
 * After:   contract [.., k] over [c < 100] { lhs = x[0, c, 0]  rhs = w[c, j, k] }
 *
 * Requires definitions after fusion and before layouts. Left alone: strides with more than
 * MOST_PHASES phases together (conv_transpose_lower defines those over two axes each). */
#include "passes/pass.h"

enum { MOST_TAPS = 256 };

/* An axis that is split, and the reduction axis that goes with it. */
typedef struct Split {
    int axis, red; /* red is -1 where all taps meet the same residues (dilation 2, stride 2) */
    int64_t stride;
    bool descends; /* taps are taken from the last to the first, so that what is read ascends */
    const KExpr *rest; /* what has to be 0: rem(.. axis .. red ..) */
} Split;

typedef struct Splits {
    KCtx *k;
    const Stage *s;
    Split at[MAX_RANK];
    int n;
    bool ok;
} Splits;

/* ---- which axes ------------------------------------------------------------------------------ */

static int position_of(KCtx *k, const KExpr *e, KVar *const *vars, int n) {
    int at = -1;
    for (int i = 0; i < n; i++)
        if (k_uses_var(k, e, vars[i])) at = at < 0 ? i : n;
    return at;
}

/* (axis + .. red ..) mod stride == 0 among the predicates. */
static void note_split(const KExpr *e, void *user) {
    Splits *x = user;
    const Stage *s = x->s;
    const KExpr *base, *coeff;
    int64_t stride, step = 0;
    if (e->op != KO_eq || e->arg[0]->op != KO_fmod || !k_is_value(e->arg[1], 0)) return;
    const KExpr *p = e->arg[0]->arg[0];
    int axis = position_of(x->k, p, s->axis, s->out->rank),
        red = position_of(x->k, p, s->red, s->n_red);
    if (axis < 0) return;
    bool is_known = axis < s->out->rank && red < s->n_red && k_is_int(e->arg[0]->arg[1], &stride) &&
                    k_linear_in(x->k, p, s->axis[axis], &base, &coeff) && k_is_value(coeff, 1);
    if (is_known && red >= 0)
        is_known = k_linear_in(x->k, p, s->red[red], &base, &coeff) && k_is_int(coeff, &step);
    x->ok &= is_known;
    if (!is_known) return;
    for (int i = 0; i < x->n; i++) {
        if (x->at[i].axis != axis && (red < 0 || x->at[i].red != red)) continue;
        x->ok &= x->at[i].axis == axis && x->at[i].red == red && x->at[i].stride == stride;
        return;
    }
    x->at[x->n++] = (Split){axis, red, stride, step < 0, e};
}

static bool find_splits(DefProgram *p, const Stage *s, Splits *x) {
    *x = (Splits){.k = p->m->k, .s = s, .ok = true};
    if (s->form != FORM_CONTRACT || s->dot) return false;
    k_visit(x->k, s->lhs, note_split, x);
    k_visit(x->k, s->rhs, note_split, x);
    int64_t n_phases = 1, n;
    for (int i = 0; i < x->n && x->ok; i++) {
        int red = x->at[i].red;
        n_phases *= x->at[i].stride;
        x->ok = n_phases <= MOST_PHASES &&
                (red < 0 || (k_is_int(s->red_extent[red], &n) && n <= MOST_TAPS));
    }
    return x->n && x->ok;
}

/* ---- one phase ------------------------------------------------------------------------------- */

/* The taps that meet residue r: the first, how far apart they are, and how many. */
typedef struct Taps {
    int64_t first, step, n;
} Taps;

static bool find_taps(KCtx *k, const Stage *s, const Split *x, const KExpr *axis, Taps *t) {
    int64_t n = 0, last = 0;
    *t = (Taps){.step = 1};
    if (!k_is_int(s->red_extent[x->red], &n)) return false;
    for (int64_t i = 0; i < n; i++) {
        KVar *const var[] = {s->axis[x->axis], s->red[x->red]};
        const KExpr *by[] = {axis, k_int(k, i)}, *meets = k_subst(k, x->rest, var, by, 2);
        if (k_is_value(meets, 0)) continue;
        if (!k_is_value(meets, 1)) return false;
        if (t->n == 0) t->first = i;
        if (t->n == 1) t->step = i - last;
        if (t->n > 1 && i - last != t->step) return false;
        last = i;
        t->n++;
    }
    return true;
}

typedef struct Parts {
    DefProgram *p;
    Stage *s;        /* that is split */
    const Splits *x;
    KTensor *tensor[MOST_PHASES];
    int64_t residue[MOST_PHASES][MAX_RANK]; /* by split */
    int n;
} Parts;

/* The split of an axis, or (axis -1) of a reduction axis. */
static const Split *split_of(const Splits *x, int axis, int red) {
    for (int i = 0; i < x->n; i++)
        if (axis < 0 ? x->at[i].red == red : x->at[i].axis == axis) return &x->at[i];
    return NULL;
}

/* Binds axes and taps of s to those of phase `into`, which it fills in; false where a phase is not
 * a convolution of evenly spaced taps. A phase without taps becomes a map. */
static bool bind_phase(const Parts *a, const int64_t *residue, Stage *into, Binding *b) {
    KCtx *k = a->p->m->k;
    const Stage *s = a->s;
    bool is_empty = false;
    const KExpr *at[MAX_RANK];
    stage_own_index(k, into, at);
    for (int i = 0; i < s->out->rank; i++) {
        const Split *x = split_of(a->x, i, -1);
        const KExpr *own = at[i];
        if (x) own = k_add(k, k_mul(k, own, k_int(k, x->stride)), k_int(k, residue[x - a->x->at]));
        binding_add(b, s->axis[i], own);
        if (!x || x->red >= 0) continue;
        const KExpr *meets = k_subst(k, x->rest, &s->axis[i], &own, 1);
        if (!k_is_value(meets, 0) && !k_is_value(meets, 1)) return false;
        is_empty |= k_is_value(meets, 0);
    }
    for (int i = 0; i < s->n_red; i++) {
        const Split *x = split_of(a->x, -1, i);
        Taps t = {0, 1, 0};
        const KExpr *extent = s->red_extent[i];
        if (x && !find_taps(k, s, x, b->by[x->axis], &t)) return false;
        if (x) extent = k_int(k, t.n);
        is_empty |= x && !t.n;
        KVar *var = kvar_new(k, KV_AXIS, DT_I64, s->red[i]->name, 0,
                             x ? (t.n ? t.n - 1 : 0) : s->red[i]->hi);
        const KExpr *own = x && t.n < 2 ? k_int(k, 0) : k_var(k, var);
        if (x && x->descends) own = k_sub(k, k_int(k, t.n - 1), own);
        if (x) own = k_add(k, k_mul(k, own, k_int(k, t.step)), k_int(k, t.first));
        into->red[into->n_red] = var;
        into->red_extent[into->n_red++] = extent;
        binding_add(b, s->red[i], own);
    }
    if (is_empty) into->form = FORM_MAP;
    return true;
}

static void note_rest(const KExpr *e, void *user) {
    bool *found = user;
    *found |= e->op == KO_fmod && !k_is_value(e->arg[0], 0);
}

/* Does a test of a remainder remain? */
static bool has_rest(KCtx *k, const KExpr *e) {
    bool found = false;
    if (e->op == KO_at && at_pred(e)) k_visit(k, at_pred(e), note_rest, &found);
    return found;
}

static const KExpr *in_phase(KCtx *k, const Binding *b, const KExpr *e) {
    return k_subst(k, e, b->var, b->by, b->n);
}

/* Defines the phase of these residues in front of s; false where that gains nothing. */
static bool add_phase(Parts *a, const int64_t *residue) {
    KCtx *k = a->p->m->k;
    Stage *s = a->s;
    const KExpr *dims[MAX_RANK];
    Binding b = {.n = 0};
    for (int i = 0; i < s->out->rank; i++) {
        const Split *x = split_of(a->x, i, -1);
        dims[i] = s->out->dims[i];
        if (!x) continue;
        int64_t up = x->stride - 1 - residue[x - a->x->at];
        dims[i] = k_fdiv(k, k_add(k, dims[i], k_int(k, up)), k_int(k, x->stride));
        if (k_is_value(dims[i], 0)) return true; /* nothing of it in so small a result */
    }
    KTensor *t = program_add_tensor(a->p, s->out->name, s->out->dtype, s->out->rank, dims);
    Stage *into = program_add_stage(a->p, s, FORM_CONTRACT, t, s->node);
    a->tensor[a->n] = t;
    for (int i = 0; i < a->x->n; i++) a->residue[a->n][i] = residue[i];
    a->n++;
    if (!bind_phase(a, residue, into, &b)) return false;
    into->init = s->init;
    into->fold = s->fold;
    if (into->form == FORM_MAP) {
        binding_add(&b, s->acc, s->init);
        into->n_red = 0;
        into->body = in_phase(k, &b, s->finish);
        return true;
    }
    into->lhs = in_phase(k, &b, s->lhs);
    into->rhs = in_phase(k, &b, s->rhs);
    into->acc = kvar_new(k, s->acc->kind, s->acc->dtype, s->acc->name, s->acc->lo, s->acc->hi);
    binding_add(&b, s->acc, k_var(k, into->acc));
    into->finish = in_phase(k, &b, s->finish);
    return !has_rest(k, into->lhs) && !has_rest(k, into->rhs);
}

/* ---- taps that are told ---------------------------------------------------------------------- */

typedef struct Told {
    KCtx *k;
    const Stage *s;
    const KExpr *pred; /* all of the read's */
    int red;           /* that is told; -1: none yet */
    const KExpr *tap;
} Told;

static bool has_term(const KExpr *pred, const KExpr *term) {
    if (pred == term) return true;
    return pred->op == KO_and && (has_term(pred->arg[0], term) || has_term(pred->arg[1], term));
}

/* term is e < 1 and there is 0 <= e: then e is 0, and the reduction axis of which it is a multiple
 * by 1 or -1, and something else, is known. */
static void solve_term(Told *t, const KExpr *term) {
    const KExpr *zero = k_int(t->k, 0), *base, *coeff;
    int64_t n;
    if (term->op != KO_lt || !k_is_value(term->arg[1], 1)) return;
    const KExpr *e = term->arg[0];
    if (e->lo < 0 && !has_term(t->pred, k_le(t->k, zero, e))) return;
    for (int r = 0; r < t->s->n_red; r++) {
        if (!k_uses_var(t->k, e, t->s->red[r]) ||
            !k_linear_in(t->k, e, t->s->red[r], &base, &coeff))
            continue;
        const KExpr *tap = k_is_value(coeff, -1)  ? base
                           : k_is_value(coeff, 1) ? k_sub(t->k, zero, base)
                                                  : NULL;
        if (!tap || !k_is_int(t->s->red_extent[r], &n) || n < 2 || tap->lo < 0 || tap->hi >= n)
            continue;
        t->red = r;
        t->tap = tap;
        return;
    }
}

static void solve_terms(Told *t, const KExpr *pred) {
    if (pred->op == KO_and) {
        solve_terms(t, pred->arg[0]);
        if (t->red < 0) solve_terms(t, pred->arg[1]);
    } else {
        solve_term(t, pred);
    }
}

/* One reduction axis less, if a tap is told. */
static bool drop_told_tap(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    if (s->form != FORM_CONTRACT || s->dot || s->lhs->op != KO_at || !at_pred(s->lhs))
        return false;
    Told t = {k, s, at_pred(s->lhs), -1, NULL};
    solve_terms(&t, t.pred);
    if (t.red < 0 || s->n_red < 2 || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    pass_trace("split_phases", s->node, "'%s' is told by the position", s->red[t.red]->name);
    s->lhs = k_subst(k, s->lhs, &s->red[t.red], &t.tap, 1);
    s->rhs = k_subst(k, s->rhs, &s->red[t.red], &t.tap, 1);
    s->n_red--;
    for (int r = t.red; r < s->n_red; r++) {
        s->red[r] = s->red[r + 1];
        s->red_extent[r] = s->red_extent[r + 1];
    }
    return true;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* The element of y that a stage with these axes defines, from the phase it belongs to. */
static const KExpr *interleaved(const Parts *a, const Stage *y) {
    KCtx *k = a->p->m->k;
    const KExpr *value = NULL;
    for (int f = a->n - 1; f >= 0; f--) {
        const KExpr *index[MAX_RANK + 1], *own = NULL, *inside = NULL;
        stage_own_index(k, y, index);
        for (int i = 0; i < y->out->rank; i++) {
            const Split *x = split_of(a->x, i, -1);
            if (!x) continue;
            const KExpr *stride = k_int(k, x->stride);
            const KExpr *is_own =
                k_eq(k, k_fmod(k, index[i], stride), k_int(k, a->residue[f][x - a->x->at]));
            own = own ? k_and(k, own, is_own) : is_own;
            index[i] = k_fdiv(k, index[i], stride);
            /* Where the stride does not divide the size, the last phases end earlier. */
            if (index[i]->hi < a->tensor[f]->dims[i]->lo) continue;
            const KExpr *low = k_lt(k, index[i], a->tensor[f]->dims[i]);
            inside = inside ? k_and(k, inside, low) : low;
        }
        index[y->out->rank] = inside;
        const KExpr *part = k_at(k, a->tensor[f], index, y->out->rank + (inside != NULL));
        value = value ? k_select(k, own, part, value) : part;
    }
    return value;
}

/* y becomes the map that puts the phases together. Where it has to be dense and its channels fill
 * vectors, that is a tensor of its own, so that it may have another layout, and y a copy. */
static void put_together(const Parts *a) {
    KCtx *k = a->p->m->k;
    Stage *s = a->s;
    KTensor *y = s->out;
    int64_t channels;
    Stage *m = s;
    int lanes = target_lanes(a->p->m->target, dtype_bytes(y->dtype));
    bool apart =
        y->dense_only && y->rank > 2 && k_is_int(y->dims[1], &channels) && channels >= lanes;
    if (apart) {
        KTensor *t = program_add_tensor(a->p, y->name, y->dtype, y->rank, y->dims);
        m = program_add_stage(a->p, s, FORM_MAP, t, s->node);
    }
    const KExpr *body = interleaved(a, m), *index[MAX_RANK];
    if (apart) {
        m->body = body;
        for (int i = 0; i < y->rank; i++)
            index[i] = k_is_value(y->dims[i], 1) ? k_int(k, 0) : k_var(k, s->axis[i]);
        body = k_at(k, m->out, index, y->rank);
    }
    s->form = FORM_MAP;
    s->movement = apart;
    s->body = body;
    s->lhs = s->rhs = s->finish = s->init = NULL;
    s->acc = NULL;
    s->n_red = 0;
}

static bool split(DefProgram *p, Stage *s) {
    static Splits x; /* large; one pass runs at a time */
    static Parts a;
    if (!find_splits(p, s, &x) || !pass_may_rewrite()) return false;
    a = (Parts){.p = p, .s = s, .x = &x};
    Stage *before = s->prev;
    int64_t residue[MAX_RANK] = {0}, n_phases = 1;
    for (int i = 0; i < x.n; i++) n_phases *= x.at[i].stride;
    bool ok = true;
    for (int64_t f = 0; f < n_phases && ok; f++) {
        int64_t rest = f;
        for (int i = x.n - 1; i >= 0; i--) {
            residue[i] = rest % x.at[i].stride;
            rest /= x.at[i].stride;
        }
        ok = add_phase(&a, residue);
    }
    if (!ok || !a.n) {
        for (Stage *added = s->prev; added != before; added = s->prev) stage_remove(p, added);
        return false;
    }
    pass_count_rewrite();
    pass_trace("split_phases", s->node, "%d phases", a.n);
    put_together(&a);
    return true;
}

static void split_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first; s; s = s->next) {
        while (drop_told_tap(p, s)) *changed = true;
        *changed |= split(p, s);
    }
}

bool pass_split_phases(Module *m) {
    bool changed = false;
    program_visit(m->defs, split_program, &changed);
    return changed;
}
