/* assign_layouts: copies for stages that would read a tensor unfavourably as it lies. */
#include "ir/winograd.h"
#include "passes/assign_layouts.h"
#include "passes/halos.h"
#include "passes/integers.h"

/* ---- windows ----
 *
 * A contraction that reads an input of the model beyond its border: the input gets a copy that can
 * have a halo. One whose result is too narrow for blocks of channels, with a window over blocked
 * ones: its vectors lie along the last axis, where it reads a dense copy in place. One that
 * multiplies channels one by one, with a result in blocks, would gather each vector from a dense
 * tensor: its copy is in blocks, too, and so is that of one which Winograd's filtering may take, and
 * of one that sums bytes in groups of channels, which become words only where channels are
 * neighbours. */
typedef struct CopyRead {
    DefProgram *p;
    const Stage *s;
    KTensor *t;
    bool in_blocks; /* should the copy be? */
} CopyRead;

static bool is_reach_known(KCtx *k, const Stage *s, const KExpr *at) {
    int64_t reach[2];
    for (int a = 0; a < at->u.tensor->rank; a++)
        if (!halo_reach(k, s, at, a, reach)) return false;
    return true;
}

/* Could lanes lie along the last axis, neighbours of the result reading neighbours? */
static bool walks_rows(DefProgram *p, const Stage *s, const KExpr *at) {
    const KExpr *base, *coeff;
    const Target *target = p->m->target;
    int last = s->out->rank - 1, least = dtype_bytes(s->out->dtype);
    int64_t n;
    if (!k_is_int(s->out->dims[last], &n)) { /* masks end its rows */
        if (!target->mask_bytes || least < target->mask_bytes) return false;
        n = k_guess(s->out->dims[last], target_lanes(target, least));
    }
    return layout_fills_lanes(p, s->out, n) &&
           k_linear_in(p->m->k, at->arg[at->u.tensor->rank - 1], s->axis[last], &base, &coeff) &&
           k_is_value(coeff, 1);
}

/* Does the window have several taps, so that an element is read for several of the result? */
static bool has_taps(KCtx *k, const Stage *s, const KExpr *at) {
    for (int a = 2; a < at->u.tensor->rank; a++)
        for (int r = 0; r < s->n_red; r++)
            if (k_uses_var(k, at->arg[a], s->red[r]) && !k_is_value(s->red_extent[r], 1))
                return true;
    return false;
}

/* Does another phase of the same convolution read it, too? Then they share a copy. */
static bool has_siblings(const Stage *s) {
    return (s->next && s->next->node == s->node && layout_is_windowed(s->next)) ||
           (s->prev && s->prev->node == s->node && layout_is_windowed(s->prev));
}

/* Does a depthwise convolution with lanes along channels read its own channel where these are no
 * neighbours? */
static bool gathers_channels(KCtx *k, const Stage *s, const KExpr *at) {
    return s->out->layout.block > 1 && s->out->layout.block_axis == 1 &&
           at->u.tensor->layout.block <= 1 && at->arg[1] == k_var(k, s->axis[1]) &&
           layout_is_depthwise(k, s);
}

/* Does a convolution of bytes in groups, with lanes along channels, read those of a group where they
 * are no neighbours? dot_groups.c takes four of them for a word. */
static bool gathers_words(const DefProgram *p, const Stage *s, const KExpr *at) {
    KCtx *k = p->m->k;
    const Target *t = p->m->target;
    return (t->dot4 || t->dot2) && s->out->layout.block > 1 && s->out->layout.block_axis == 1 &&
           at->u.tensor->layout.block <= 1 && k_uses_var(k, at->arg[1], s->axis[1]) &&
           match_int_factor(k, s->lhs, &(IntFactor){0});
}

/* Could a convolution with a result in blocks be filtered by Winograd if it read whole blocks? */
static bool filters_blocks(DefProgram *p, const Stage *s, const KExpr *at) {
    WinogradForm f;
    int lanes = s->out->layout.block;
    return p->m->winograd && lanes > 1 && at->u.tensor->layout.block <= 1 &&
           s->out->dtype == DT_F32 && at->u.tensor->dtype == DT_F32 && winograd_match(p, s, &f) &&
           f.channels % lanes == 0;
}

static void note_copy_read(const KExpr *e, void *user) {
    CopyRead *c = user;
    if (e->op != KO_at || e->u.tensor->rank < 3 || e->u.tensor->data) return;
    KCtx *k = c->p->m->k;
    c->in_blocks = gathers_channels(k, c->s, e) || gathers_words(c->p, c->s, e);
    bool narrow = e->u.tensor->layout.block > 1 && c->s->out->layout.block <= 1;
    bool border = at_pred(e) && !layout_is_free(e->u.tensor);
    bool wanted = border || (narrow && (has_taps(k, c->s, e) || has_siblings(c->s)) &&
                             walks_rows(c->p, c->s, e));
    c->in_blocks |= border && filters_blocks(c->p, c->s, e);
    if (c->in_blocks || (wanted && is_reach_known(k, c->s, e))) c->t = e->u.tensor;
}

typedef struct Redirect {
    KTensor *from, *to;
} Redirect;

static const KExpr *redirect_read(KCtx *k, const KExpr *e, void *user) {
    const Redirect *r = user;
    return e->op == KO_at && e->u.tensor == r->from ? k_at(k, r->to, e->arg, e->n_args) : e;
}

const KExpr *layout_redirect(KCtx *k, const KExpr *e, KTensor *from, KTensor *to) {
    Redirect r = {from, to};
    return k_rewrite(k, e, redirect_read, &r);
}

/* The copy of t that another stage of the same node reads: phases share one. */
static KTensor *earlier_copy(const Stage *s, const KTensor *t) {
    for (const Stage *c = s->prev; c && c->node == s->node; c = c->prev)
        if (c->form == FORM_MAP && c->movement && c->body->op == KO_at && c->body->u.tensor == t &&
            c->out->rank == t->rank && !c->out->value)
            return c->out;
    return NULL;
}

bool layout_copy_for_window(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    CopyRead b = {p, s, NULL, false};
    k_visit(k, s->lhs, note_copy_read, &b);
    if (!b.t) return false;
    /* bytes become words, but for channels one by one */
    if (!b.in_blocks && match_int_factor(k, s->lhs, &(IntFactor){0})) return false;
    if (layout_is_free(b.t) && b.t->def->form == FORM_MAP && b.t->users.n == 1 && !b.in_blocks) {
        b.t->layout.block = 0; /* nobody else wants blocks */
        return true;
    }
    KTensor *copy = b.in_blocks ? NULL : earlier_copy(s, b.t);
    if (!copy) {
        copy = program_add_tensor(p, b.t->name, b.t->dtype, b.t->rank, b.t->dims);
        if (b.in_blocks) {
            copy->layout.block_axis = s->out->layout.block_axis;
            copy->layout.block = s->out->layout.block;
        }
        program_add_copy(p, s, copy, b.t, s->node);
    }
    s->lhs = layout_redirect(k, s->lhs, b.t, copy);
    return true;
}

/* ---- parts of blocks ----
 *
 * A convolution that multiplies channels one by one and reads those of a part that begins within a
 * block would put each vector together of two at every tap: it gets a copy of the part. */
typedef struct PartRead {
    KCtx *k;
    const Stage *s;
    const KExpr *at;
} PartRead;

static void note_part_read(const KExpr *e, void *user) {
    PartRead *r = user;
    const KExpr *base, *coeff;
    int64_t from;
    if (e->op != KO_at || e->u.tensor->layout.block <= 1 || e->u.tensor->rank != r->s->out->rank)
        return;
    if (e->u.tensor->layout.block_axis == 1 &&
        k_linear_in(r->k, e->arg[1], r->s->axis[1], &base, &coeff) && k_is_value(coeff, 1) &&
        k_is_int(base, &from) && from % e->u.tensor->layout.block)
        r->at = e;
}

static const KExpr *read_part(KCtx *k, const KExpr *e, void *user) {
    const PartRead *r = user;
    const KExpr *index[MAX_RANK + 1];
    if (e != r->at) return e;
    for (int i = 0; i < e->n_args; i++) index[i] = e->arg[i];
    index[1] = k_var(k, r->s->axis[1]);
    return k_at(k, r->s->prev->out, index, e->n_args);
}

bool layout_copy_part(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    PartRead r = {k, s, NULL};
    const KExpr *index[MAX_RANK], *dims[MAX_RANK], *base, *coeff;
    if (s->out->layout.block <= 1 || !k_uses_var(k, s->rhs, s->axis[1])) return false;
    k_visit(k, s->lhs, note_part_read, &r);
    if (!r.at) return false;
    KTensor *t = r.at->u.tensor;
    for (int i = 0; i < t->rank; i++) dims[i] = t->dims[i];
    dims[1] = s->out->dims[1];
    KTensor *part = program_add_tensor(p, t->name, t->dtype, t->rank, dims);
    part->layout.block_axis = 1;
    part->layout.block = t->layout.block;
    k_linear_in(k, r.at->arg[1], s->axis[1], &base, &coeff);
    Stage *copy = program_add_copy(p, s, part, t, s->node);
    for (int i = 0; i < t->rank; i++) index[i] = k_var(k, copy->axis[i]);
    index[1] = k_add(k, index[1], base);
    copy->body = k_at(k, t, index, t->rank);
    s->lhs = k_rewrite(k, s->lhs, read_part, &r);
    pass_trace("assign_layouts", s->node, "reads a copy of its part of the channels");
    return true;
}
