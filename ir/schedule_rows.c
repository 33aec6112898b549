/* Row-wise opening: maps, reductions and scans, alone or in groups that share outer axes.
 *
 * A stage's loops follow its output's memory: axes in layout order, a blocked axis split into
 * blocks (in place) and lanes (innermost). Leading loops are flattened into one parallel index
 * until what is left per iteration is worth it; the innermost contiguous loop is vectorised, its
 * remainder is a narrower vector. A reduction whose input is contiguous along a reduced axis keeps
 * several vectors of partial results and folds them by halves at the end. */
#include <string.h>

#include "ir/schedule_rows.h"

enum { INNER_ELEMS = 4096, FLAT_CHUNK = 2048 };

/* Lanes of one vector; what no lane holds is never widened. */
static int element_lanes(const Rows *r, DType t) {
    return dtype_is_wide(t) || r->across ? 1 : target_lanes(r->p->m->target, dtype_bytes(t));
}

/* ---- loops of a stage ------------------------------------------------------------------------ */

RowNest rows_nest(KCtx *k, const Stage *s, const StagePart *part) {
    RowNest nest = {.n = 0};
    const Layout *l = &s->out->layout;
    for (int i = 0; i < s->out->rank; i++) {
        int axis = l->permuted ? l->order[i] : i;
        if (part && part->at[axis]) {
            nest.index[axis] = part->at[axis];
            continue;
        }
        if (s->form == FORM_SCAN && axis == s->scan_axis) continue;
        bool blocked = l->block > 1 && axis == l->block_axis;
        if (blocked && part && part->block) {
            nest.index[axis] = k_mul(k, part->block, k_int(k, l->block));
            continue;
        }
        const KExpr *extent =
            part && part->cut && part->cut_axis == axis ? part->cut : s->out->dims[axis];
        if (blocked)
            extent = k_fdiv(k, k_add(k, extent, k_int(k, l->block - 1)), k_int(k, l->block));
        if (!k_is_value(extent, 1))
            nest.loop[nest.n++] = (RowLoop){axis, blocked ? l->block : 1, extent};
    }
    if (l->block > 1 && !(part && part->at[l->block_axis]))
        nest.loop[nest.n++] = (RowLoop){l->block_axis, 1, k_int(k, l->block)};
    return nest;
}

void rows_bind(KCtx *k, RowNest *nest, const RowLoop *loop, const KExpr *at) {
    const KExpr *part = k_mul(k, at, k_int(k, loop->step));
    const KExpr *old = nest->index[loop->axis];
    nest->index[loop->axis] = old ? k_add(k, old, part) : part;
}

/* Flattens loops [0, n_flat) into one loop and binds them. */
static void open_flat(Rows *r, RowNest *nest, int n_flat, KLoopMark mark) {
    const KExpr *extent[MAX_RANK + 1], *index[MAX_RANK + 1], *total = k_int(r->k, 1);
    if (!n_flat) return;
    for (int i = 0; i < n_flat; i++) {
        extent[i] = nest->loop[i].extent;
        total = k_mul(r->k, total, extent[i]);
    }
    const KExpr *t = kb_for(r->b, mark, "row", total);
    kb_unflatten(r->b, "i", t, extent, n_flat, index);
    for (int i = 0; i < n_flat; i++) rows_bind(r->k, nest, &nest->loop[i], index[i]);
    memmove(nest->loop, nest->loop + n_flat, sizeof nest->loop[0] * (size_t)(nest->n - n_flat));
    nest->n -= n_flat;
}

static double guessed_extent(const KExpr *e) {
    int64_t n = k_guess(e, -1);
    return n < 0 ? k_most(e) : (double)n;
}

/* ---- element expressions --------------------------------------------------------------------- */

static const KExpr *read_local(KCtx *k, const KExpr *e, void *user) {
    const Rows *r = user;
    if (e->op != KO_at) return e;
    for (int i = 0; i < r->n_local; i++)
        if (e->u.tensor == r->local[i]) {
            const KExpr *zero = k_int(k, 0), *pred = at_pred(e);
            return pred ? k_load_if(k, r->local_buf[i], zero, pred)
                        : k_load(k, r->local_buf[i], zero);
        }
    return e;
}

const KExpr *rows_expr(Rows *r, const Stage *s, const RowNest *nest, const KExpr *e) {
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < s->out->rank; i++)
        index[i] = nest->index[i] ? nest->index[i] : k_int(r->k, 0);
    e = k_subst(r->k, e, s->axis, index, s->out->rank);
    if (r->n_local) e = k_rewrite(r->k, e, read_local, r);
    return expr_open(r->p, e);
}

void rows_store(Rows *r, const Stage *s, const RowNest *nest, const KExpr *value) {
    const KExpr *index[MAX_RANK], *offset;
    for (int i = 0; i < r->n_local; i++)
        if (s->out == r->local[i]) {
            kb_store(r->b, r->local_buf[i], k_int(r->k, 0), value);
            return;
        }
    for (int i = 0; i < s->out->rank; i++)
        index[i] = nest->index[i] ? nest->index[i] : k_int(r->k, 0);
    KTensor *root = tensor_root(r->k, s->out, &offset);
    kb_store(r->b, root->buf, k_add(r->k, tensor_flat_index(r->k, s->out, index), offset), value);
}

/* ---- one element ----------------------------------------------------------------------------- */

/* Asks what guards the steps from reduction axis i on; returns how many blocks that opened. */
static int open_guard(Rows *r, const Stage *s, const RowNest *nest, const FoldGuards *g, int i,
                      const KExpr *const *red) {
    if (!g->at[i]) return 0;
    const KExpr *cond = k_subst(r->k, rows_expr(r, s, nest, g->at[i]), s->red, red, i);
    if (k_is_value(cond, 1)) return 0;
    kb_if(r->b, cond);
    return 1;
}

static void open_fold_serial(Rows *r, const Stage *s, const RowNest *nest) {
    KCtx *k = r->k;
    const KExpr *zero = k_int(k, 0), *red[MAX_RED];
    KBuf *acc = kb_alloc(r->b, MEM_REG, s->acc->dtype, "acc", 1);
    kb_store(r->b, acc, zero, s->init);
    const KExpr *body = fold_body(k, s);
    int lane = tensor_contiguous_axis(s->out);
    FoldGuards guards = fold_guards(k, s, body, lane < 0 ? NULL : s->axis[lane]);
    int depth = open_guard(r, s, nest, &guards, 0, red);
    for (int i = 0; i < s->n_red; i++) {
        int64_t n;
        bool small = k_is_int(s->red_extent[i], &n) && n <= 4 && s->n_red <= 3;
        red[i] = kb_for(r->b, small ? LOOP_UNROLL : LOOP_SERIAL, s->red[i]->name, s->red_extent[i]);
        depth += 1 + open_guard(r, s, nest, &guards, i + 1, red);
    }
    body = k_subst(k, rows_expr(r, s, nest, guards.body), s->red, red, s->n_red);
    kb_store(r->b, acc, zero, k_binary(k, s->fold, k_load(k, acc, zero), body));
    for (int i = 0; i < depth; i++) kb_end(r->b);
    const KExpr *value = k_load(k, acc, zero);
    rows_store(r, s, nest, rows_expr(r, s, nest, k_subst(k, s->finish, &s->acc, &value, 1)));
}

/* The lanes of a blocked axis may stick out of the dim: what the element reads may end there. */
const KExpr *rows_inside(Rows *r, const Stage *s, const RowNest *nest) {
    int axis = s->out->layout.block_axis;
    if (s->out->layout.block <= 1 || !nest->index[axis]) return k_bool(r->k, true);
    return k_lt(r->k, nest->index[axis], s->out->dims[axis]);
}

static void open_element(Rows *r, const Stage *s, RowNest *nest) {
    const KExpr *inside = rows_inside(r, s, nest);
    bool guarded = !k_is_value(inside, 1);
    if (guarded) kb_if(r->b, inside);
    if (s->form == FORM_MAP)
        rows_store(r, s, nest, rows_expr(r, s, nest, s->body));
    else if (s->form == FORM_SCAN)
        open_scan_element(r, s, nest);
    else
        open_fold_serial(r, s, nest);
    if (guarded) kb_end(r->b);
}

/* ---- what fills no vector -------------------------------------------------------------------- */

static void note_least_bytes(const KExpr *e, void *user) {
    int *least = user, bytes = dtype_bytes(e->dtype);
    if (e->op == KO_at && bytes < *least) *least = bytes;
}

/* Can lanes be masked off in all loads and stores of this stage? */
static bool can_mask(const Rows *r, const Stage *s) {
    const KExpr *parts[] = {s->body, s->lhs, s->rhs, s->finish};
    int least = dtype_bytes(s->out->dtype), mask = r->p->m->target->mask_bytes;
    if (dtype_is_wide(s->out->dtype) || s->form == FORM_SCAN) return false;
    for (int i = 0; i < 4; i++)
        if (parts[i]) k_visit(r->k, parts[i], note_least_bytes, &least);
    return mask && mask <= least;
}

static RowsRest open_rest(Rows *r, const KExpr *n, int lanes, bool is_vector, bool is_masked) {
    RowsRest rest = {.depth = 1, .is_vector = is_vector};
    rest.at = kb_for(r->b, is_vector ? LOOP_VECTOR : LOOP_SERIAL, "l",
                     is_masked ? k_int(r->k, lanes) : n);
    if (is_masked) {
        kb_if(r->b, k_lt(r->k, rest.at, n));
        rest.depth++;
    }
    return rest;
}

RowsRest rows_open_rest(Rows *r, const Stage *s, const KExpr *n, int lanes) {
    int64_t known;
    bool is_known = k_is_int(n, &known), is_vector = is_known ? known > 1 : can_mask(r, s);
    return open_rest(r, n, lanes, is_vector, is_vector && !is_known);
}

RowsRest rows_open_masked(Rows *r, const Stage *s, const KExpr *n, int lanes) {
    return can_mask(r, s) ? open_rest(r, n, lanes, true, true) : rows_open_rest(r, s, n, lanes);
}

void rows_close_rest(Rows *r, const RowsRest *rest) {
    for (int i = 0; i < rest->depth; i++) kb_end(r->b);
}

/* ---- one stage ------------------------------------------------------------------------------- */

/* n vectors from element `start` of the loop on, of which each `copies` are written out. */
static void open_vectors(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *loop,
                         int lanes, const KExpr *start, const KExpr *n, int copies) {
    KCtx *k = r->k;
    RowNest inner = *nest;
    const KExpr *width = k_int(k, lanes), *v = k_int(k, 0);
    const KExpr *c = kb_for(r->b, LOOP_SERIAL, "c", k_fdiv(k, n, k_int(k, copies)));
    if (copies > 1) v = kb_for(r->b, LOOP_UNROLL, "v", k_int(k, copies));
    const KExpr *l = kb_for(r->b, LOOP_VECTOR, "l", width);
    const KExpr *at = k_add(k, k_mul(k, c, k_int(k, (int64_t)lanes * copies)), k_mul(k, v, width));
    rows_bind(k, &inner, loop, k_add(k, start, k_add(k, at, l)));
    open_element(r, s, &inner);
    for (int i = 0; i < 2 + (copies > 1); i++) kb_end(r->b);
}

/* The innermost loop: whole vectors, then what fills none. What is divided by 3 begins again after
 * three vectors, in which the places of all lanes are known. */
static void open_vector_loop(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *loop,
                             int lanes) {
    KCtx *k = r->k;
    const KExpr *width = k_int(k, lanes), *n_full = k_fdiv(k, loop->extent, width);
    int64_t n;
    int period = loop->step == 1 ? lane_period(k, s, loop->axis, lanes) : 1;
    if (!k_is_int(n_full, &n) || period < 1) period = 1;
    int64_t whole = period > 1 ? n / period * period : 0, rest = period > 1 ? n - whole : 0;
    const KExpr *zero = k_int(k, 0);
    if (period == 1 && !k_is_value(n_full, 0))
        open_vectors(r, s, nest, loop, lanes, zero, n_full, 1);
    if (whole) open_vectors(r, s, nest, loop, lanes, zero, k_int(k, whole), period);
    if (rest)
        open_vectors(r, s, nest, loop, lanes, k_int(k, whole * lanes), k_int(k, rest), (int)rest);
    const KExpr *tail = k_fmod(k, loop->extent, width);
    if (k_is_value(tail, 0)) return;
    RowNest inner = *nest;
    RowsRest last = rows_open_rest(r, s, tail, lanes);
    rows_bind(k, &inner, loop, k_add(k, k_mul(k, n_full, width), last.at));
    open_element(r, s, &inner);
    rows_close_rest(r, &last);
}

/* Lanes along the innermost loop when it is worth it: the loop is contiguous in the output and
 * the element is not a scan. */
static bool can_vectorise(const Stage *s, const RowNest *nest) {
    if (!nest->n || s->form == FORM_SCAN) return false;
    return nest->loop[nest->n - 1].axis == tensor_contiguous_axis(s->out) &&
           (nest->loop[nest->n - 1].extent->hi > 1);
}

void rows_store_fold(Rows *r, const RowFold *of) {
    const Stage *s = of->fold.s;
    const KExpr *value = k_load(r->k, of->acc, k_int(r->k, 0));
    const KExpr *finish = k_subst(r->k, s->finish, &s->acc, &value, 1);
    rows_store(r, s, &of->nest, rows_expr(r, s, &of->nest, finish));
}

static void open_fold_along(Rows *r, const Fold *f, const RowNest *nest, int lanes) {
    const Stage *s = f->s;
    const KExpr *inside = rows_inside(r, s, nest);
    bool guarded = !k_is_value(inside, 1);
    if (guarded) kb_if(r->b, inside);
    RowFold of = {.fold = *f, .nest = *nest};
    fold_lanes(r, &of, 1, lanes);
    rows_store_fold(r, &of);
    if (guarded) kb_end(r->b);
}

/* The innermost loop in parts between cuts, so that no lane divides or asks for conditions. */
static void open_parts(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *loop,
                       int lanes) {
    int64_t cut[MAX_CUTS + 1], end;
    int n = loop->step == 1 ? lane_cuts(r->k, s, loop->axis, lanes, cut) : 0;
    if (!n || nest->index[loop->axis] || !k_is_int(loop->extent, &end)) {
        open_vector_loop(r, s, nest, loop, lanes);
        return;
    }
    cut[n] = end;
    for (int i = 0; i <= n; i++) {
        int64_t from = i ? cut[i - 1] : 0;
        RowNest part = *nest;
        RowLoop rest = {loop->axis, 1, k_int(r->k, cut[i] - from)};
        part.index[loop->axis] = k_int(r->k, from);
        open_vector_loop(r, s, &part, &rest, lanes);
    }
}

/* What is left of a stage inside of the loops over rows. */
typedef struct Core {
    Fold fold;
    int lanes;
    bool along, columns, vector, folds;
    const RowLoop *inner;
} Core;

static void open_core(Rows *r, const Stage *s, const Core *c, RowNest *nest) {
    if (c->along)
        open_fold_along(r, &c->fold, nest, c->lanes);
    else if (c->columns)
        open_scan_columns(r, s, nest, c->inner, c->lanes);
    else if (c->vector && c->folds && open_windows(r, &c->fold, nest, c->lanes))
        return;
    else if (c->vector && c->folds && fold_fits_columns(&c->fold, c->inner))
        fold_columns(r, &c->fold, nest, c->inner, c->lanes);
    else if (c->vector)
        open_parts(r, s, nest, c->inner, c->lanes);
    else
        open_element(r, s, nest);
}

static int block_along(const Stage *s, int axis) {
    const Layout *l = &s->out->layout;
    return l->block > 1 && l->block_axis == axis ? l->block : 1;
}

/* A quotient that changes every few rows, as a Resize's `k // 2`, costs a row less than to ask
 * which of so many parts it is in; so does one that changes often, where each part is a copy of the
 * code. */
int row_cuts(KCtx *k, const Stage *s, int axis, int64_t *cut) {
    enum { LEAST_ROWS = 4, MOST_PARTS = 16 };
    int n = stage_cuts(k, s, axis, CUT_ALL, cut);
    int64_t n_rows;
    bool rare = block_along(s, axis) > 1 || !k_is_int(s->out->dims[axis], &n_rows) ||
                (n + 1) * LEAST_ROWS <= n_rows;
    return n && n < MOST_PARTS && rare ? n : stage_cuts(k, s, axis, CUT_CONDITIONS, cut);
}

/* A stage's rows in parts along one axis, between cuts (which 0 and the dim stand around). */
typedef struct RowParts {
    Rows *r;
    const Stage *s;
    const Core *core;
    const RowNest *nest;
    int axis, n_cuts;
    int64_t cut[MAX_CUTS + 2];
} RowParts;

/* The axis of rows along which the element changes its form most often, -1: none. */
static int cut_axis(RowParts *parts) {
    KCtx *k = parts->r->k;
    const Stage *s = parts->s;
    const Core *c = parts->core;
    bool folds = s->form == FORM_REDUCE;
    int found = -1;
    for (int i = 0; i < s->out->rank && c->vector; i++) {
        int64_t at[MAX_CUTS], end;
        const KExpr *index = parts->nest->index[i];
        bool is_lane = c->inner->axis == i && block_along(s, i) == 1;
        if (!index || is_lane || !index->var_mask || !k_is_int(s->out->dims[i], &end)) continue;
        int n = folds ? fold_cuts(k, s, i, at) : row_cuts(k, s, i, at);
        if (folds ? !n : n <= parts->n_cuts) continue; /* of a window's axes the innermost one */
        parts->n_cuts = n;
        found = i;
        for (int j = 0; j < n; j++) parts->cut[j + 1] = at[j];
        parts->cut[n + 1] = end;
    }
    return found;
}

static void open_row_part(void *user, int i) {
    const RowParts *parts = user;
    Rows *r = parts->r;
    KCtx *k = r->k;
    int block = block_along(parts->s, parts->axis);
    const KExpr *from = k_int(k, parts->cut[i]), *size = k_int(k, block);
    const KExpr *at = k_fdiv(k, k_sub(k, parts->nest->index[parts->axis], from), size);
    at = kb_let_within(r->b, "at", at, (parts->cut[i + 1] - parts->cut[i] - 1) / block);
    RowNest part = *parts->nest;
    part.index[parts->axis] = k_add(k, k_mul(k, at, size), from);
    open_core(r, parts->s, parts->core, &part);
}

void open_parts_by_halves(KBuild *b, const KExpr *index, const int64_t *cut, int first, int end,
                          OpenPart *open, void *user) {
    KCtx *k = b->k;
    if (end - first == 1) {
        open(user, first);
        return;
    }
    int middle = first + (end - first) / 2;
    kb_if(b, k_lt(k, index, k_int(k, cut[middle])));
    open_parts_by_halves(b, index, cut, first, middle, open, user);
    kb_else(b);
    open_parts_by_halves(b, index, cut, middle, end, open, user);
    kb_end(b);
}

/* A row asks once which part of the axis it is in. */
static void open_row(Rows *r, const Stage *s, const Core *c, const RowNest *nest) {
    RowParts parts = {.r = r, .s = s, .core = c, .nest = nest};
    parts.axis = cut_axis(&parts);
    if (parts.axis < 0) {
        RowNest whole = *nest;
        open_core(r, s, c, &whole);
        return;
    }
    open_parts_by_halves(r->b, nest->index[parts.axis], parts.cut, 0, parts.n_cuts + 1,
                         open_row_part, &parts);
}

typedef struct NarrowGather {
    KCtx *k;
    const KVar *axis;
    bool in_index, found;
} NarrowGather;

/* Reads of less than a word at a place that was read, too, for each step of the axis: no machine
 * gathers those, and taking indices out of vectors costs more than one after the other. Tables of
 * constants are permutations. */
static void note_narrow_gather(const KExpr *e, void *user) {
    NarrowGather *f = user;
    if (e->op != KO_at || !k_uses_var(f->k, e, f->axis)) return;
    if (f->in_index) f->found = true;
    if (f->in_index || e->dtype == DT_STR || dtype_bytes(e->dtype) >= 4 || e->u.tensor->data)
        return;
    NarrowGather index = {f->k, f->axis, true, false};
    for (int i = 0; i < e->u.tensor->rank; i++)
        k_visit(f->k, e->arg[i], note_narrow_gather, &index);
    f->found |= index.found;
}

static bool gathers_narrow(KCtx *k, const Stage *s, const RowNest *nest) {
    if (s->form != FORM_MAP || !nest->n) return false;
    NarrowGather f = {k, s->axis[nest->loop[nest->n - 1].axis], false, false};
    k_visit(k, s->body, note_narrow_gather, &f);
    return f.found;
}

int rows_lanes_along(KCtx *k, const Stage *s, const Fold *f, const RowNest *nest, int lanes) {
    int along = fold_row_lanes(k, f, lanes);
    if (!along || !nest->n) return along;
    const RowLoop *inner = &nest->loop[nest->n - 1];
    bool by_columns = can_vectorise(s, nest) && (fold_reads_columns(k, f, inner, lanes) ||
                                                 fold_has_windows(k, f, nest, lanes));
    return by_columns ? 0 : along;
}

int rows_fold_in_row(Rows *r, const Stage *s, RowNest nest, RowFold *of) {
    KCtx *k = r->k;
    if (s->form != FORM_REDUCE || nest.n || gathers_narrow(k, s, &nest)) return 0;
    *of = (RowFold){.fold = fold_of(k, s), .nest = nest};
    if (!k_is_value(rows_inside(r, s, &nest), 1)) return 0;
    return rows_lanes_along(k, s, &of->fold, &nest, element_lanes(r, s->acc->dtype));
}

void rows_open_stage(Rows *r, const Stage *s, RowNest nest) {
    KCtx *k = r->k;
    int n_loops = 0;
    Core c = {.lanes = element_lanes(r, s->acc ? s->acc->dtype : s->out->dtype)};
    if (gathers_narrow(k, s, &nest)) c.lanes = 1;
    c.folds = s->form == FORM_REDUCE || s->form == FORM_CONTRACT;
    if (c.folds) c.fold = fold_of(k, s);
    int along = c.folds ? rows_lanes_along(k, s, &c.fold, &nest, c.lanes) : 0;
    if (along) c.lanes = along;
    c.along = along > 0;
    c.columns = s->form == FORM_SCAN && scan_fits_columns(s, &nest, c.lanes);
    if (s->form == FORM_SCAN && !c.columns && scan_fits_rows(s, &nest)) {
        c.columns = true;
        c.lanes = 1;
    }
    c.vector = (!c.along && c.lanes > 1 && can_vectorise(s, &nest)) || c.columns;
    c.inner = c.vector ? &nest.loop[nest.n - 1] : NULL;
    for (int i = 0; i < nest.n - c.vector; i++, n_loops++)
        rows_bind(k, &nest, &nest.loop[i], kb_for(r->b, LOOP_SERIAL, "i", nest.loop[i].extent));
    open_row(r, s, &c, &nest);
    while (n_loops--) kb_end(r->b);
}

/* ---- flat maps ------------------------------------------------------------------------------- */

typedef struct FlatCheck {
    KCtx *k;
    const Stage *s;
    bool is_flat;
} FlatCheck;

static void note_not_flat(const KExpr *e, void *user) {
    FlatCheck *c = user;
    const KTensor *t = e->op == KO_at ? e->u.tensor : NULL;
    if (e->op == KO_var && e->u.var->kind == KV_AXIS) return; /* judged where it is used */
    if (!t) {
        for (int i = 0; i < e->n_args; i++)
            if (e->arg[i]->op == KO_var && e->arg[i]->u.var->kind == KV_AXIS) c->is_flat = false;
        return;
    }
    bool constant = !e->var_mask, same = t->rank == c->s->out->rank && e->n_args == t->rank;
    for (int i = 0; same && i < t->rank; i++)
        same = stage_axis_of(c->s, e->arg[i]) == i && t->dims[i] == c->s->out->dims[i];
    same &= !memcmp(&t->layout, &c->s->out->layout, sizeof t->layout) && !t->layout.has_halo &&
            !t->phase;
    if (!same && !constant) c->is_flat = false;
}

/* A map all of whose reads are at its own element, in the same memory order: one loop over memory.
 */
static bool is_flat_map(KCtx *k, const Stage *s) {
    if (s->form != FORM_MAP || s->out->layout.has_halo || s->out->phase) return false;
    FlatCheck c = {k, s, true};
    k_visit(k, s->body, note_not_flat, &c);
    return c.is_flat && !(s->body->op == KO_var);
}

typedef struct FlatRead {
    DefProgram *p;
    const KExpr *at;
} FlatRead;

static const KExpr *read_flat(KCtx *k, const KExpr *e, void *user) {
    const FlatRead *f = user;
    const KExpr *offset;
    if (e->op != KO_at) return e;
    KTensor *root = tensor_root(k, e->u.tensor, &offset);
    if (!e->var_mask) return expr_open(f->p, e);
    return k_load(k, root->buf, k_add(k, f->at, offset));
}

static void flat_element(Rows *r, const Stage *s, const KExpr *at) {
    FlatRead f = {r->p, at};
    const KExpr *offset;
    KTensor *root = tensor_root(r->k, s->out, &offset);
    kb_store(r->b, root->buf, k_add(r->k, at, offset), k_rewrite(r->k, s->body, read_flat, &f));
}

/* Chunks of whole vectors, for threads to share; what fills no vector belongs to the last chunk. */
static void open_flat_map(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    int lanes = element_lanes(r, s->out->dtype);
    const KExpr *n = tensor_n_elems(k, s->out), *width = k_int(k, lanes), *size = n;
    const KExpr *start = k_int(k, 0), *last = k_bool(k, true), *tail = k_fmod(k, n, width);
    bool is_shared = k_most(n) >= PARALLEL_GRAIN;
    if (is_shared) {
        const KExpr *n_chunks =
            k_fdiv(k, k_add(k, n, k_int(k, FLAT_CHUNK - 1)), k_int(k, FLAT_CHUNK));
        const KExpr *c = kb_for(r->b, LOOP_PARALLEL, "chunk", n_chunks);
        start = k_mul(k, c, k_int(k, FLAT_CHUNK));
        size = k_min(k, k_int(k, FLAT_CHUNK), k_sub(k, n, start));
        last = k_le(k, k_sub(k, n_chunks, k_int(k, 1)), c);
    }
    const KExpr *n_vecs = k_fdiv(k, size, width);
    if (!k_is_value(n_vecs, 0)) {
        const KExpr *v = kb_for(r->b, LOOP_SERIAL, "v", n_vecs);
        const KExpr *l = kb_for(r->b, LOOP_VECTOR, "l", width);
        flat_element(r, s, k_add(k, start, k_add(k, k_mul(k, v, width), l)));
        kb_end(r->b);
        kb_end(r->b);
    }
    if (!k_is_value(tail, 0)) {
        bool is_guarded = !k_is_value(last, 1);
        if (is_guarded) kb_if(r->b, last);
        RowsRest rest = rows_open_rest(r, s, tail, lanes);
        flat_element(r, s, k_add(k, k_sub(k, n, tail), rest.at));
        rows_close_rest(r, &rest);
        if (is_guarded) kb_end(r->b);
    }
    if (is_shared) kb_end(r->b);
}

/* ---- groups ---------------------------------------------------------------------------------- */

double schedule_stage_work(const Stage *s) {
    double work = 1;
    for (int i = 0; i < s->out->rank; i++) work *= k_most(s->out->dims[i]);
    for (int i = 0; i < s->n_red; i++) work *= k_most(s->red_extent[i]);
    return work;
}

/* How many leading loops make the parallel index: until the rest is a good grain. The innermost
 * loop belongs to the rest, unless lanes are along what each element folds. */
static int flat_loops(const Rows *r, const Stage *s, const RowNest *nest) {
    double inner = 1;
    int n = nest->n, lanes = element_lanes(r, s->acc ? s->acc->dtype : s->out->dtype);
    bool folds = s->form == FORM_REDUCE || s->form == FORM_CONTRACT, along = false;
    if (folds) {
        Fold f = fold_of(r->k, s);
        along = rows_lanes_along(r->k, s, &f, nest, lanes) > 0;
    }
    for (int i = 0; i < s->n_red && folds; i++) inner *= guessed_extent(s->red_extent[i]);
    if (n && !along) inner *= guessed_extent(nest->loop[--n].extent);
    while (n > 0 && inner * guessed_extent(nest->loop[n - 1].extent) <= INNER_ELEMS)
        inner *= guessed_extent(nest->loop[--n].extent);
    return n;
}

/* A map along one axis of memory that is not flat (a part of a Concat, a Slice): chunks of it, for
 * threads to share. Of one that changes its form on the way the parts are opened one by one. */
static bool open_chunks(Rows *r, const Stage *s, const RowNest *nest, KLoopMark mark) {
    KCtx *k = r->k;
    int64_t cut[MAX_CUTS];
    int lanes = gathers_narrow(k, s, nest) ? 1 : element_lanes(r, s->out->dtype);
    if (mark != LOOP_PARALLEL || s->form != FORM_MAP || nest->n != 1 || !can_vectorise(s, nest))
        return false;
    const RowLoop *loop = &nest->loop[0];
    if (loop->step != 1 || lane_cuts(k, s, loop->axis, lanes, cut)) return false;
    const KExpr *size = k_int(k, FLAT_CHUNK), *whole = k_fdiv(k, loop->extent, size);
    const KExpr *rest = k_fmod(k, loop->extent, size), *one = k_int(k, 1);
    bool has_rest = !k_is_value(rest, 0);
    const KExpr *all = has_rest ? k_add(k, whole, k_min(k, rest, one)) : whole;
    const KExpr *chunk = kb_for(r->b, mark, "chunk", all);
    if (has_rest) kb_if(r->b, k_lt(k, chunk, whole));
    for (int i = 0; i < 1 + has_rest; i++) {
        RowNest part = *nest;
        RowLoop inside = {loop->axis, 1, i ? rest : size};
        part.index[loop->axis] = k_mul(k, i ? whole : chunk, size);
        if (i) kb_else(r->b);
        open_vector_loop(r, s, &part, &inside, lanes);
    }
    if (has_rest) kb_end(r->b);
    kb_end(r->b);
    return true;
}

void rows_open_single(Rows *r, const Stage *s) {
    if (is_flat_map(r->k, s)) {
        open_flat_map(r, s);
        return;
    }
    if (open_transposed(r, s) || open_few_columns(r, s) || open_stretches(r, s)) return;
    if (open_fold_rows(r, s)) return;
    RowNest nest = rows_nest(r->k, s, NULL);
    int n_flat = flat_loops(r, s, &nest);
    KLoopMark mark = schedule_stage_work(s) >= PARALLEL_GRAIN ? LOOP_PARALLEL : LOOP_SERIAL;
    if (open_chunks(r, s, &nest, mark)) return;
    if (!n_flat && nest.n == 1) r->outermost = mark;
    open_flat(r, &nest, n_flat, mark);
    rows_open_stage(r, s, nest);
    if (n_flat) kb_end(r->b);
}
