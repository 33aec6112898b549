/* share_memory: tensors that are the bytes of another tensor under another shape or at an offset.
 *
 * Before:  r[i] = at(x; i / 4, i mod 4)            After:  r is x
 * Before:  c = concatenation of a, b along axis 1  After:  a and b are parts of c, not copied
 * Before:  y[i] = i mod 2 == 0 ? even[i / 2] : odd[i / 2]
 * After:   even and odd are every other element of y, along an axis that lies across memory
 *
 * Requires definitions and layouts. Leaves KTensor.alias and Stage.is_alias. A view that the caller
 * reads (a model output) hands its own memory to what it views. Not done: sharing between tensors
 * whose order in memory differs. */
#include <string.h>

#include "ir/schedule.h"
#include "passes/pass.h"

static bool is_ours(const KTensor *t) {
    return t->def && t->def->form != FORM_REGION && !t->alias && !t->data && !t->is_input &&
           !t->is_output;
}

static bool is_program_output(const DefProgram *p, const KTensor *t) {
    for (uint32_t i = 0; i < p->outputs.n; i++)
        if (p->outputs.at[i] == t) return true;
    return false;
}

static bool is_written_in(const DefProgram *p, const KTensor *t) {
    const Stage *s = t->def;
    return s && s->owner == p && (s->prev || s->next || p->first == s);
}

static bool is_var(const KExpr *e, const KVar *v) {
    return e->op == KO_var && e->u.var == v;
}

/* Is the symbol's value there before stage s? */
static bool is_found_before(const KVar *v, const void *user) {
    for (const Stage *s = user; s; s = s->next) {
        for (int i = 0; i < s->n_sizes; i++)
            if (s->sizes[i] == v) return false;
        for (int i = 0; i < s->n_outs; i++)
            for (int a = 0; a < s->outs[i]->rank; a++)
                if (is_var(s->outs[i]->dims[a], v)) return false;
    }
    return true;
}

/* Can t's memory be that of `whole`, which is reserved when t is made? Its size, or a bound, has to
 * be known there. */
static bool is_size_known(KCtx *k, const KTensor *t, const KTensor *whole) {
    const KExpr *n = tensor_n_elems(k, whole);
    if (!k_is_unbounded(k, n)) return true;
    n = k_upper_bound_given(k, n, is_found_before, t->def);
    return n->op != KO_const_i || n->u.i != INT64_MAX;
}

/* Element for element at the same place in memory? */
static bool is_same_memory(KCtx *k, const Stage *s) {
    const KTensor *from = s->body->u.tensor, *to = s->out;
    if (s->view && tensor_is_dense(k, from) && tensor_is_dense(k, to)) return true;
    const KExpr *index[MAX_RANK];
    stage_own_index(k, s, index);
    return tensor_n_elems(k, from) == tensor_n_elems(k, to) && !to->layout.has_halo &&
           tensor_flat_index(k, from, s->body->arg) == tensor_flat_index(k, to, index);
}

static bool share_view(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    if (s->form != FORM_MAP || s->body->op != KO_at || at_pred(s->body)) return false;
    KTensor *from = s->body->u.tensor, *to = s->out;
    if (from->dtype != to->dtype || !is_same_memory(k, s)) return false;
    if (!is_program_output(p, to)) {
        to->alias = from;
    } else {
        if (!is_ours(from) || !is_written_in(p, from) || is_program_output(p, from)) return false;
        if (!is_size_known(k, from, to)) return false;
        from->alias = to;
    }
    s->is_alias = true;
    pass_trace("share_memory", s->node, "a view costs nothing");
    return true;
}

/* A view of what does not lie in the order of its index: a dense copy of that, which the view then
 * is. So the copy runs along the axes of both, and not along those of the view, where each index
 * would be a quotient of several. */
static bool straighten_view(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    if (s->form != FORM_MAP || !s->view || s->body->op != KO_at || at_pred(s->body)) return false;
    KTensor *from = s->body->u.tensor;
    if (tensor_is_dense(k, from) || !tensor_is_dense(k, s->out) || is_same_memory(k, s))
        return false;
    if (from->dtype != s->out->dtype || from->alias || from->window) return false;
    KTensor *copy = program_add_tensor(p, from->name, from->dtype, from->rank, from->dims);
    program_add_copy(p, s, copy, from, s->node);
    s->body = k_at(k, copy, s->body->arg, s->body->n_args);
    return true;
}

/* ---- concatenation in place ------------------------------------------------------------------ */

enum {
    MAX_PARTS = 512,
    LEAST_STRETCH = 1024, /* bytes of a part that lies in one piece */
    LARGE_DIM = 4096      /* what a free size counts as */
};

typedef struct Concat {
    int axis, n;
    KTensor *part[MAX_PARTS];
    int64_t start[MAX_PARTS];
} Concat;

/* Does pred hold for all indices from start to end (nothing else than these bounds in it)? */
static bool holds_within(KCtx *k, const KExpr *pred, const KExpr *index, int64_t start,
                         const KExpr *end) {
    if (!pred || pred == k_lt(k, index, end) || pred == k_le(k, k_int(k, start), index))
        return true;
    return pred->op == KO_and && holds_within(k, pred->arg[0], index, start, end) &&
           holds_within(k, pred->arg[1], index, start, end);
}

/* Is e a read of a whole tensor (all of it, not broadcast, not masked) at the stage's own index,
 * shifted by -start along `axis`, and does it end at `end` there? */
static bool is_part(KCtx *k, const Stage *s, const KExpr *e, int axis, int64_t start,
                    const KExpr *end) {
    if (e->op != KO_at || e->u.tensor->rank != s->out->rank) return false;
    for (int i = 0; i < s->out->rank; i++) {
        const KExpr *own = k_var(k, s->axis[i]), *n = s->out->dims[i];
        if (i == axis) {
            own = k_sub(k, own, k_int(k, start));
            n = k_sub(k, end, k_int(k, start));
        }
        bool is_unit = k_is_value(n, 1) && k_is_value(e->arg[i], 0);
        if (e->u.tensor->dims[i] != n || (e->arg[i] != own && !is_unit)) return false;
    }
    return holds_within(k, at_pred(e), k_var(k, s->axis[axis]), start, end);
}

/* select(axis < end0, part0, select(axis < end1, part1, ... partN)) */
static bool match_concat(KCtx *k, const Stage *s, Concat *c) {
    const KExpr *e = s->body;
    int64_t start = 0, end;
    *c = (Concat){.axis = -1};
    if (s->form != FORM_MAP) return false;
    for (;; e = e->arg[2]) {
        const KExpr *part = e->op == KO_select ? e->arg[1] : e;
        if (c->n == MAX_PARTS) return false;
        if (e->op == KO_select) {
            const KExpr *cond = e->arg[0];
            if (cond->op != KO_lt || cond->arg[0]->op != KO_var || !k_is_int(cond->arg[1], &end))
                return false;
            int axis = -1;
            for (int a = 0; a < s->out->rank; a++)
                if (cond->arg[0]->u.var == s->axis[a]) axis = a;
            if (axis < 0 || (c->axis >= 0 && axis != c->axis)) return false;
            c->axis = axis;
        }
        if (c->axis < 0) return false;
        const KExpr *until = e->op == KO_select ? e->arg[0]->arg[1] : s->out->dims[c->axis];
        if (!is_part(k, s, part, c->axis, start, until)) return false;
        c->part[c->n] = part->u.tensor;
        c->start[c->n++] = start;
        if (e->op != KO_select) break;
        start = end;
    }
    return c->n > 1;
}

/* Axes stored before `axis` have extent 1, so that a part is one stretch of memory. */
static bool parts_are_contiguous(const KTensor *t, int axis) {
    for (int i = 0; i < t->rank; i++) {
        int at = tensor_axis_at(t, i);
        if (at == axis) return true;
        if (!k_is_value(t->dims[at], 1) ||
            (t->layout.has_halo && (t->layout.halo[at][0] || t->layout.halo[at][1])))
            return false;
    }
    return false;
}

/* Is part i ours to write into out, once, with its elements in the same order? */
static bool can_write_into(const DefProgram *p, KTensor *const *part, int i, const KTensor *out) {
    const KTensor *t = part[i];
    const Layout *a = &t->layout, *b = &out->layout;
    for (int j = 0; j < i; j++)
        if (part[j] == t) return false;
    return is_ours(t) && is_written_in(p, t) && !is_program_output(p, t) &&
           is_size_known(p->m->k, t, out) && t->dtype == out->dtype && !a->permuted &&
           !b->permuted && a->block == b->block &&
           (a->block <= 1 || a->block_axis == b->block_axis);
}

/* Does anybody take t for memory under another shape? */
static bool has_views(const DefProgram *p, const KTensor *t) {
    bool found = tensor_has_aliases(p, t);
    for (uint32_t i = 0; i < t->users.n; i++) found |= t->users.at[i]->view;
    return found;
}

static bool part_can_move(DefProgram *p, const Concat *c, int i, const KTensor *out, bool apart) {
    const Layout *a = &c->part[i]->layout, *b = &out->layout;
    if (!can_write_into(p, c->part, i, out)) return false;
    if (apart && (c->part[i]->dense_only || has_views(p, c->part[i]))) return false;
    if (b->block > 1 && b->block_axis == c->axis && c->start[i] % b->block) return false;
    /* a part takes on the halo of the whole, never the other way round; tensors that lie in it
     * have their places already */
    bool has_aliases = tensor_has_aliases(p, c->part[i]);
    for (int d = 0; d < out->rank; d++)
        for (int end = 0; end < 2; end++)
            if (a->halo[d][end] > b->halo[d][end] ||
                (has_aliases && a->halo[d][end] != b->halo[d][end]))
                return false;
    return true;
}

static bool halo_along(const KTensor *t, int axis) {
    return t->layout.halo[axis][0] || t->layout.halo[axis][1];
}

/* Places part i in the whole as one stretch of it. */
static void place_stretch(KCtx *k, const Concat *c, int i, KTensor *t, KTensor *out) {
    const KExpr *index[MAX_RANK];
    /* the part's first stored element: where its halo begins */
    for (int a = 0; a < out->rank; a++)
        index[a] = k_int(k, a == c->axis ? c->start[i] : -(int64_t)out->layout.halo[a][0]);
    t->layout = out->layout;
    t->alias_offset = tensor_flat_index(k, out, index);
    t->alias = out;
}

/* Places part i in the whole as a stretch of it for each index of the axes before. */
static void place_stretches(Arena *a, const Concat *c, int i, KTensor *t, KTensor *out) {
    Phase *phase = arena_new(a, Phase);
    for (int axis = 0; axis < out->rank; axis++) phase->step[axis] = 1;
    phase->first[c->axis] = c->start[i];
    t->layout = out->layout;
    t->phase = phase;
    t->alias = out;
}

/* Bytes of the least stretch of a part, for one index of the axes before; large where that is not
 * known. */
static int64_t least_stretch(const Concat *c, const KTensor *out) {
    int64_t least = INT64_MAX;
    for (int i = 0; i < c->n; i++) {
        int64_t bytes = dtype_bytes(out->dtype);
        for (int a = out->rank - 1; a >= c->axis; a--) {
            int64_t n = k_guess(c->part[i]->dims[a], LARGE_DIM);
            bytes = bytes < LARGE_DIM * LARGE_DIM ? bytes * n : bytes;
        }
        if (bytes < least) least = bytes;
    }
    return least;
}

/* Can the parts be stretches that lie apart from each other, with other parts between? */
static bool may_lie_apart(const Concat *c, const KTensor *out) {
    int inner = tensor_contiguous_axis(out);
    if (inner < 0 || out->layout.permuted || least_stretch(c, out) < LEAST_STRETCH) return false;
    return inner != c->axis || out->layout.block > 1;
}

/* Parts written in place become aliases; what remains (inputs, constants, repeated parts) is copied
 * by a map of its own into its part of the output. */
static bool share_concat(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    static Concat c; /* large; one pass runs at a time */
    if (!match_concat(k, s, &c) || halo_along(s->out, c.axis)) return false;
    bool apart = !parts_are_contiguous(s->out, c.axis);
    if (apart && !may_lie_apart(&c, s->out)) return false;
    bool blocked_axis = s->out->layout.block > 1 && s->out->layout.block_axis == c.axis;
    for (int i = 0; i < c.n; i++)
        if (blocked_axis && c.start[i] % s->out->layout.block) return false;
    int n_moved = 0;
    for (int i = 0; i < c.n; i++) n_moved += part_can_move(p, &c, i, s->out, apart);
    if (apart && !n_moved) return false;
    for (int i = 0; i < c.n; i++) {
        KTensor *t = c.part[i];
        if (!part_can_move(p, &c, i, s->out, apart)) {
            KTensor *copy = program_add_tensor(p, t->name, t->dtype, t->rank, t->dims);
            copy->layout = s->out->layout;
            program_add_copy(p, s, copy, t, s->node);
            t = copy;
        }
        if (apart)
            place_stretches(p->arena, &c, i, t, s->out);
        else
            place_stretch(k, &c, i, t, s->out);
    }
    s->is_alias = true;
    pass_trace("share_memory", s->node, "%d parts produced in place%s", n_moved,
               apart ? ", apart from each other" : "");
    return true;
}

/* ---- phases in place ------------------------------------------------------------------------- */

typedef struct Phases {
    int n;
    KTensor *part[MOST_PHASES];
    Phase at[MOST_PHASES];
} Phases;

/* Does pred say no more than that e's indices end with its tensor? */
static bool is_end(const KExpr *e, const KExpr *pred) {
    if (!pred) return true;
    if (pred->op == KO_and) return is_end(e, pred->arg[0]) && is_end(e, pred->arg[1]);
    for (int i = 0; i < e->u.tensor->rank; i++)
        if (pred->op == KO_lt && pred->arg[0] == e->arg[i] && pred->arg[1] == e->u.tensor->dims[i])
            return true;
    return false;
}

/* Is e a read of all of a tensor, at the stage's own index over the steps, which it fills in? */
static bool is_phase(KCtx *k, const Stage *s, const KExpr *e, Phase *at) {
    if (e->op != KO_at || e->u.tensor->rank != s->out->rank || !is_end(e, at_pred(e))) return false;
    for (int i = 0; i < s->out->rank; i++) {
        const KExpr *own = k_var(k, s->axis[i]);
        at->step[i] = 1;
        at->first[i] = 0;
        if (e->arg[i] == own || k_is_value(s->out->dims[i], 1)) continue;
        if (e->arg[i]->op != KO_fdiv || e->arg[i]->arg[0] != own ||
            !k_is_int(e->arg[i]->arg[1], &at->step[i]))
            return false;
    }
    return true;
}

/* axis mod step == first and .., which it fills in. */
static bool is_residue(KCtx *k, const Stage *s, const KExpr *c, Phase *at) {
    if (c->op == KO_and) return is_residue(k, s, c->arg[0], at) && is_residue(k, s, c->arg[1], at);
    if (c->op != KO_eq || c->arg[0]->op != KO_fmod || c->arg[0]->arg[0]->op != KO_var) return false;
    for (int i = 0; i < s->out->rank; i++)
        if (c->arg[0]->arg[0]->u.var == s->axis[i])
            return k_is_value(c->arg[0]->arg[1], (double)at->step[i]) &&
                   k_is_int(c->arg[1], &at->first[i]);
    return false;
}

static bool is_same_phase(const Phase *a, const Phase *b, int rank) {
    for (int i = 0; i < rank; i++)
        if (a->step[i] != b->step[i] || a->first[i] != b->first[i]) return false;
    return true;
}

/* The one phase that is not yet there. */
static bool find_last(const Phases *x, int rank, Phase *last) {
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= last->step[i];
    if (count != x->n + 1) return false;
    for (int64_t f = 0; f < count; f++) {
        bool found = false;
        int64_t rest = f;
        for (int i = rank - 1; i >= 0; i--) {
            last->first[i] = rest % last->step[i];
            rest /= last->step[i];
        }
        for (int i = 0; i < x->n; i++) found |= is_same_phase(&x->at[i], last, rank);
        if (!found) return true;
    }
    return false;
}

/* select(residues0, part0, select(residues1, part1, ... partN)), as split_phases leaves it */
static bool match_phases(KCtx *k, const Stage *s, Phases *x) {
    x->n = 0;
    if (s->form != FORM_MAP) return false;
    for (const KExpr *e = s->body;; e = e->arg[2]) {
        const KExpr *part = e->op == KO_select ? e->arg[1] : e;
        Phase *at = &x->at[x->n];
        if (x->n == MOST_PHASES || !is_phase(k, s, part, at)) return false;
        if (e->op == KO_select ? !is_residue(k, s, e->arg[0], at) : !find_last(x, s->out->rank, at))
            return false;
        x->part[x->n++] = part->u.tensor;
        if (e->op != KO_select) return x->n > 1;
    }
}

static bool phase_can_move(DefProgram *p, const Phases *x, int i, const KTensor *out) {
    const KTensor *t = x->part[i];
    return can_write_into(p, x->part, i, out) && !t->layout.has_halo && !tensor_has_aliases(p, t);
}

/* The phases write rows of the whole in steps, if the elements of a vector stay neighbours. */
static bool share_phases(DefProgram *p, Stage *s) {
    static Phases x; /* large; one pass runs at a time */
    if (!match_phases(p->m->k, s, &x)) return false;
    int inner = tensor_contiguous_axis(s->out);
    if (inner < 0 || x.at[0].step[inner] > 1) return false;
    for (int i = 0; i < x.n; i++)
        if (!phase_can_move(p, &x, i, s->out)) return false;
    for (int i = 0; i < x.n; i++) {
        x.part[i]->phase = arena_copy(p->arena, &x.at[i], sizeof x.at[i]);
        x.part[i]->alias = s->out;
    }
    s->is_alias = true;
    pass_trace("share_memory", s->node, "%d phases produced in place", x.n);
    return true;
}

static void share_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first; s && pass_may_rewrite(); s = s->next) {
        *changed |= straighten_view(p, s);
        if (!share_view(p, s) && !share_concat(p, s) && !share_phases(p, s)) continue;
        pass_count_rewrite();
        *changed = true;
    }
}

bool pass_share_memory(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, share_program, &changed);
    return changed;
}
