/* choose_schedules: register tiles for contractions, and operands packed for them.
 *
 * Before:  y[m, n] = sum_k x[m, k] * w[k, n]
 * After:   w'[k, n] = w[k, n], stored as [n / nt][k][n mod nt];  y = sum x * w', schedule t6x4_v16
 *
 * The right factor is materialised in the order in which the template reads it: at compile time
 * when it is constant, otherwise by a stage of its own, unless it can be read in place. What is
 * read once (the keys of a single query) is not worth that. Requires layouts. Leaves
 * Stage.schedule; a contraction without one is opened by rows. */
#include <string.h>

#include "ir/schedule.h"
#include "passes/blas.h"
#include "passes/choose_matrix.h"
#include "passes/choose_winograd.h"
#include "passes/code_words.h"
#include "passes/distances.h"
#include "passes/dot_blocks.h"
#include "passes/integers.h"
#include "passes/order_taps.h"
#include "passes/pass.h"
#include "passes/tune_winograd.h"
#include "passes/vector_reads.h"

static void swap_factors(Stage *s) {
    const KExpr *t = s->lhs;
    s->lhs = s->rhs;
    s->rhs = t;
}

typedef struct OnlyConst {
    bool is_const;
} OnlyConst;

static void note_not_const(const KExpr *e, void *user) {
    OnlyConst *c = user;
    if (e->op == KO_at && !e->u.tensor->data) c->is_const = false;
    if (e->op == KO_var && e->u.var->kind == KV_SYMBOL) c->is_const = false;
}

static bool reads_only_constants(KCtx *k, const KExpr *e) {
    OnlyConst c = {true};
    k_visit(k, e, note_not_const, &c);
    return c.is_const;
}

/* Elements of the result that share an element of the right factor; INT64_MAX where their number is
 * free or very large. */
static int64_t n_rows(KCtx *k, const Stage *s, const Schedule *sch) {
    int64_t n = 1, dim;
    for (int i = 0; i < s->out->rank; i++) {
        if (i == sch->vec_axis || k_uses_var(k, s->rhs, s->axis[i])) continue;
        if (!k_is_int(s->out->dims[i], &dim) || __builtin_mul_overflow(n, dim, &n))
            return INT64_MAX;
    }
    return n;
}

/* Does a window move over e, so that packing would repeat its elements? */
static bool is_window(KCtx *k, const Stage *s, const KExpr *e) {
    for (int i = 0; e->op == KO_at && i < e->u.tensor->rank; i++)
        for (int r = 0; r < s->n_red; r++)
            if (e->arg[i]->op == KO_add && k_uses_var(k, e->arg[i], s->red[r]) &&
                !k_is_value(s->red_extent[r], 1))
                return true;
    return false;
}

/* May the right factor, whose rows end within a vector or anywhere, be read in place under a mask?
 * Packing it costs more where few rows share it or its elements are in several windows, more where
 * each row computes it again. */
static bool fits_mask(DefProgram *p, const Stage *s, const Schedule *sch) {
    enum { MASKING_BYTES = 64, MASKED_ROWS = 32, COMPUTED_ROWS = 2 };
    KCtx *k = p->m->k;
    const Target *t = p->m->target;
    bool is_read = s->rhs->op == KO_at;
    int64_t n, most = is_read ? MASKED_ROWS : COMPUTED_ROWS;
    if (!reads_rows(k, s, s->rhs, sch)) return false;
    bool is_shared = n_rows(k, s, sch) > most;
    if (k_is_int(s->out->dims[sch->vec_axis], &n))
        return t->vector_bytes >= MASKING_BYTES && n >= sch->lanes && !is_shared;
    int least = is_read ? dtype_bytes(s->rhs->dtype) : 1;
    return t->mask_bytes && least >= t->mask_bytes && (!is_shared || is_window(k, s, s->rhs));
}

/* Does each step of a long sum go to another page, or nearly so, of a right factor that many rows
 * share? If it is a part of longer rows, as the values of one of several heads are, few of these
 * lines stay in the first level of cache at once, since they share its sets; rows of some powers of
 * two share those of the second level, too. */
static bool strides_far(DefProgram *p, const Stage *s, const Schedule *sch) {
    enum { FAR_BYTES = 1024, MANY_STEPS = 256, MANY_ROWS = 64 };
    KCtx *k = p->m->k;
    const KExpr *base, *by;
    int64_t step, n, width;
    if (s->rhs->op != KO_at || at_pred(s->rhs) || s->n_red != 1) return false;
    const KTensor *t = s->rhs->u.tensor;
    bool is_known = k_linear_in(k, tensor_flat_index(k, t, s->rhs->arg), s->red[0], &base, &by) &&
                    k_is_int(by, &step) && k_is_int(s->red_extent[0], &n) &&
                    k_is_int(s->out->dims[sch->vec_axis], &width);
    if (!is_known || n < MANY_STEPS || n_rows(k, s, sch) < MANY_ROWS || step < 1) return false;
    int64_t apart = step * dtype_bytes(t->dtype);
    return (step >= 2 * width && apart >= FAR_BYTES) ||
           n > lines_kept(p->m->target->l2_bytes, 16, apart);
}

/* The variables of e that index it: axes first (the vector axis last of them), then reduction axes.
 */
static int factor_vars(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch, KVar **var,
                       const KExpr **extent, int *vec_at) {
    int n = 0;
    for (int i = 0; i < s->out->rank; i++)
        if (i != sch->vec_axis && k_uses_var(k, e, s->axis[i])) {
            var[n] = s->axis[i];
            extent[n++] = s->out->dims[i];
        }
    *vec_at = n;
    var[n] = s->axis[sch->vec_axis];
    extent[n++] = s->out->dims[sch->vec_axis];
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(k, e, s->red[r])) {
            var[n] = s->red[r];
            extent[n++] = s->red_extent[r];
        }
    return n;
}

/* ---- weights that are smaller than what they stand for ----
 *
 *     rhs = (f32(w[j, k // 32, k // 2 % 16] >> t[k % 2] & 15u8) - 8.0)*scale[j, k // 32]
 *
 * Packed, these codes of 4 bits would take 8 times their bytes. Their arithmetic stays in the loop
 * instead, and each constant that the vector axis j indexes is laid out in blocks of that axis, so
 * that lanes are neighbours in memory. */

enum { EXPANDED_BYTES = 64 << 10, EXPANSION = 4, MOST_EXPANSION = 16, FEW_ROWS = 4 };
enum { MOST_COPIES = 8 };

typedef struct Blocked {
    DefProgram *p;
    Stage *s;
    KVar *lane;
    int block;
    uint64_t bytes; /* of the constants read */
    uint64_t codes; /* of those whose elements are bytes: packed codes of 2 bits and more */
    bool fits;      /* lanes index each constant in one axis at most, and by themselves */
    struct {
        KTensor *from, *to;
    } copy[MOST_COPIES]; /* that were made; a constant may be read at several places */
    int n_copies;
} Blocked;

/* The axis of e that the lane variable indexes, -1 when it does not. */
static int lane_axis(Blocked *b, const KExpr *e) {
    int axis = -1;
    for (int i = 0; i < e->n_args; i++) {
        if (!k_uses_var(b->p->m->k, e->arg[i], b->lane)) continue;
        b->fits &= axis < 0 && i < e->u.tensor->rank && e->arg[i]->op == KO_var;
        axis = i;
    }
    return axis;
}

static void see_constant(const KExpr *e, void *user) {
    Blocked *b = user;
    if (e->op != KO_at) return;
    b->fits &= e->u.tensor->layout.block <= 1 && e->u.tensor->data;
    b->bytes += e->u.tensor->data_bytes;
    if (dtype_bytes(e->u.tensor->dtype) == 1) b->codes += e->u.tensor->data_bytes;
    lane_axis(b, e);
}

static KTensor *blocked_copy(Blocked *b, KTensor *t, int axis) {
    KCtx *k = b->p->m->k;
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < b->n_copies; i++)
        if (b->copy[i].from == t && b->copy[i].to->layout.block_axis == axis) return b->copy[i].to;
    KTensor *copy = program_add_tensor(b->p, "packed", t->dtype, t->rank, t->dims);
    copy->layout.permuted = true;
    /* a tile's lanes of all steps lie one behind the other */
    for (int i = 0; i < t->rank; i++)
        copy->layout.order[i] = (int8_t)(i > axis ? i : i ? i - 1 : axis);
    copy->layout.block_axis = (int8_t)axis;
    copy->layout.block = (int16_t)b->block;
    Stage *pack = program_add_stage(b->p, b->s, FORM_MAP, copy, b->s->node);
    for (int i = 0; i < t->rank; i++) index[i] = k_var(k, pack->axis[i]);
    pack->body = k_at(k, t, index, t->rank);
    if (!evaluate_stage(b->p, pack)) BUG("constant operand could not be packed");
    stage_remove(b->p, pack);
    if (b->n_copies < MOST_COPIES) {
        b->copy[b->n_copies].from = t;
        b->copy[b->n_copies++].to = copy;
    }
    return copy;
}

static const KExpr *read_blocked(KCtx *k, const KExpr *e, void *user) {
    Blocked *b = user;
    int axis = e->op == KO_at ? lane_axis(b, e) : -1;
    if (axis < 0 || e->n_args > e->u.tensor->rank) return e;
    return k_at(k, blocked_copy(b, e->u.tensor, axis), e->arg, e->n_args);
}

/* Keeps a constant factor of n_elems elements in its smaller form; false when it has none. */
static bool keep_small(DefProgram *p, Stage *s, Schedule *sch, int64_t n_elems) {
    Blocked b = {.p = p, .s = s, .lane = s->axis[sch->vec_axis], .fits = true};
    b.block = schedule_panel_width(sch);
    uint64_t expanded = (uint64_t)n_elems * (uint64_t)dtype_bytes(s->rhs->dtype);
    if (expanded > EXPANDED_BYTES && s->rhs->op != KO_at) separate_runs(p, s, b.lane);
    k_visit(p->m->k, s->rhs, see_constant, &b);
    if (s->term) k_visit(p->m->k, s->term, see_constant, &b);
    /* weights that are read for a few rows only cost what they weigh */
    bool is_few = n_rows(p->m->k, s, sch) <= FEW_ROWS;
    uint64_t least = is_few || s->run ? EXPANSION / 2 : EXPANSION;
    bool is_large = expanded > EXPANDED_BYTES && expanded > least * b.bytes;
    if (!b.fits || b.block <= 1 || !is_large || expanded > MOST_EXPANSION * b.codes) return false;
    int per_word = read_code_words(p, s);
    int64_t extent;
    int last = s->n_red - 1;
    while (last > 0 && k_is_value(s->red_extent[last], 1)) last--;
    if (per_word && k_is_int(s->red_extent[last], &extent) && extent % per_word == 0)
        sch->unroll = per_word;
    s->rhs = k_rewrite(p->m->k, s->rhs, read_blocked, &b);
    if (s->term) s->term = k_rewrite(p->m->k, s->term, read_blocked, &b);
    return true;
}

/* What is packed of a factor: 16-bit floats stay such, and are widened where they are read. */
static const KExpr *stored_factor(const KExpr *e) {
    bool is_wide = e->op == KO_cast && e->dtype == DT_F32;
    return is_wide && (e->arg[0]->dtype == DT_BF16 || e->arg[0]->dtype == DT_F16) ? e->arg[0] : e;
}

KTensor *packed_tensor(DefProgram *p, const Stage *s, const Schedule *sch, KVar **var, int *n,
                       const KExpr **extent) {
    int vec_at;
    *n = factor_vars(p->m->k, s, s->rhs, sch, var, extent, &vec_at);
    if (*n > MAX_RANK) return NULL;
    KTensor *packed = program_add_tensor(p, "packed", stored_factor(s->rhs)->dtype, *n, extent);
    Layout *l = &packed->layout;
    l->permuted = true;
    /* shared axes, vector blocks, reduction in loop order, then the block's lanes */
    for (int i = 0; i < *n; i++) l->order[i] = (int8_t)i;
    l->block_axis = (int8_t)vec_at;
    l->block = (int16_t)schedule_panel_width(sch);
    return packed;
}

/* The stage that makes packed[var..] = e; of constants it has run already and is NULL. */
static Stage *add_pack(DefProgram *p, Stage *s, KTensor *packed, const KExpr *e, KVar **var,
                       bool is_const) {
    KCtx *k = p->m->k;
    const KExpr *index[MAX_RANK];
    Stage *pack = program_add_stage(p, s, FORM_MAP, packed, s->node);
    for (int i = 0; i < packed->rank; i++) index[i] = k_var(k, pack->axis[i]);
    pack->body = k_subst(k, e, var, index, packed->rank);
    if (!is_const) return pack;
    if (!evaluate_stage(p, pack)) BUG("constant operand could not be packed");
    stage_remove(p, pack);
    return NULL;
}

/* e, a product that has to be packed in each run. A factor of it that is constant, and has as many
 * elements, is packed at compile time: weights times a gate are then one loop over memory. */
static const KExpr *pack_constant_factor(DefProgram *p, Stage *s, const Schedule *sch,
                                         const KExpr *e, KVar **var, int n) {
    KCtx *k = p->m->k;
    const KExpr *extent[MAX_RANK + MAX_RED], *index[MAX_RANK];
    KTensor *packed = e->op == KO_mul ? packed_tensor(p, s, sch, var, &n, extent) : NULL;
    for (int side = 0; packed && side < 2; side++) {
        const KExpr *c = e->arg[side];
        bool fits = c->op == KO_at && !at_pred(c) && reads_only_constants(k, c);
        for (int i = 0; i < n; i++) fits &= extent[i]->op == KO_const_i && k_uses_var(k, c, var[i]);
        if (!fits) continue;
        add_pack(p, s, packed, c, var, true);
        for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
        return k_mul(k, k_at(k, packed, index, n), e->arg[1 - side]);
    }
    return e;
}

/* Materialises s->rhs as a tensor in the template's reading order. */
static bool pack_factor(DefProgram *p, Stage *s, Schedule *sch) {
    KCtx *k = p->m->k;
    KVar *var[MAX_RANK + MAX_RED];
    const KExpr *extent[MAX_RANK + MAX_RED], *index[MAX_RANK];
    int vec_at, n = factor_vars(k, s, s->rhs, sch, var, extent, &vec_at);
    if (n > MAX_RANK) return false;
    bool is_const =
        reads_only_constants(k, s->rhs); /* and of a size known: packed at compile time */
    for (int i = 0; i < n; i++) is_const &= extent[i]->op == KO_const_i;
    int64_t n_elems = 1, dim;
    for (int i = 0; is_const && i < n; i++)
        if (!k_is_int(extent[i], &dim) || __builtin_mul_overflow(n_elems, dim, &n_elems))
            n_elems = 0;
    if (is_const && keep_small(p, s, sch, n_elems)) return true;
    if (schedule_panel_width(sch) <= 1) return false;
    const KExpr *stored = stored_factor(s->rhs);
    KTensor *packed = packed_tensor(p, s, sch, var, &n, extent);
    if (!is_const) stored = pack_constant_factor(p, s, sch, stored, var, n);
    add_pack(p, s, packed, stored, var, is_const);
    for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
    s->rhs = k_cast(k, s->rhs->dtype, k_at(k, packed, index, n));
    return true;
}

/* A left factor that is made of constants, or of some and zeros, is computed at compile time: what a
 * step reads of it, an element for each row, lies together. */
static void pack_left_constant(DefProgram *p, Stage *s, const Schedule *sch) {
    KCtx *k = p->m->k;
    KVar *var[MAX_RANK + MAX_RED];
    const KExpr *extent[MAX_RANK + MAX_RED], *index[MAX_RANK];
    int64_t bytes = dtype_bytes(s->lhs->dtype), dim;
    int n = 0;
    bool is_plain = s->lhs->op == KO_at && !at_pred(s->lhs);
    if (is_plain || k_uses_var(k, s->lhs, s->axis[sch->vec_axis])) return;
    if (!reads_only_constants(k, s->lhs)) return;
    for (int i = 0; i < s->n_red + s->out->rank; i++) {
        bool is_axis = i >= s->n_red;
        KVar *v = is_axis ? s->axis[i - s->n_red] : s->red[i];
        if (!k_uses_var(k, s->lhs, v)) continue;
        var[n] = v;
        extent[n++] = is_axis ? s->out->dims[i - s->n_red] : s->red_extent[i];
    }
    for (int i = 0; i < n; i++)
        if (!k_is_int(extent[i], &dim) || __builtin_mul_overflow(bytes, dim, &bytes)) return;
    if (n > MAX_RANK || !n || bytes > EXPANDED_BYTES) return;
    KTensor *packed = program_add_tensor(p, "packed", s->lhs->dtype, n, extent);
    add_pack(p, s, packed, s->lhs, var, true);
    for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
    s->lhs = k_at(k, packed, index, n);
}

/* Without elements, or sums of nothing: there is nothing to speed up and no operand to read. */
static bool is_empty(const Stage *s) {
    bool empty = false;
    for (int i = 0; i < s->out->rank; i++) empty |= k_is_value(s->out->dims[i], 0);
    for (int i = 0; i < s->n_red; i++) empty |= k_is_value(s->red_extent[i], 0);
    return empty;
}

/* Does any element of this factor go into more than one element of the result? */
static bool is_reused(KCtx *k, const Stage *s, const KExpr *factor) {
    for (int i = 0; i < s->out->rank; i++)
        if (!k_uses_var(k, factor, s->axis[i]) && !k_is_value(s->out->dims[i], 1)) return true;
    return false;
}

/* Takes the axis of the sum that chooses a channel of the group, which is to be written out, behind
 * all others but the innermost one; false where there is none, or too much of it. */
static bool order_channels(KCtx *k, Stage *s, const Schedule *sch) {
    const KExpr *at = s->lhs, *extent;
    int axis = -1, red = -1, to = s->n_red > 1 ? s->n_red - 2 : 0;
    int64_t n;
    if (at->op != KO_at) return false;
    for (int i = 0; i < at->u.tensor->rank; i++)
        if (k_uses_var(k, at->arg[i], s->axis[sch->vec_axis])) axis = i;
    for (int r = 0; r < s->n_red && axis >= 0; r++)
        if (k_uses_var(k, at->arg[axis], s->red[r])) red = r;
    if (red < 0 || red > to || !k_is_int(s->red_extent[red], &n) || n < 2 || n > sch->lanes)
        return false;
    KVar *var = s->red[red];
    extent = s->red_extent[red];
    for (; red < to; red++) {
        s->red[red] = s->red[red + 1];
        s->red_extent[red] = s->red_extent[red + 1];
    }
    s->red[to] = var;
    s->red_extent[to] = extent;
    return true;
}

/* How lanes read a left factor that depends on the vector axis; false where they cannot. Groups
 * that are no whole vectors: each lane reads what its own group has, by a permutation if that is a
 * pattern of few elements, otherwise by blending what the groups read; where these are many,
 * vectors are as narrow as the groups. */
static bool fit_groups(KCtx *k, Stage *s, Schedule *sch) {
    enum { MOST_BLENDED = 8 };
    if (sch->group == 0) return true;
    if (sch->group == 1) return reads_vectors(k, s, s->lhs, sch) || reads_lanes(k, s, s->lhs, sch);
    if (sch->group % sch->lanes == 0) return true;
    if (reads_lanes(k, s, s->lhs, sch)) {
        sch->group = 1;
        sch->permutes = order_channels(k, s, sch);
        return true;
    }
    if (schedule_groups_at(sch->group - 1, sch->lanes, sch->group) <= MOST_BLENDED && !s->dot) {
        sch->blends = true;
        return true;
    }
    while (sch->group % sch->lanes) sch->lanes /= 2;
    return sch->lanes > 1;
}

static void keep_schedule(DefProgram *p, Stage *s, const Schedule *sch, const char *more) {
    s->schedule = arena_copy(p->arena, sch, sizeof *sch);
    for (const Schedule *few = sch; few->few; few = few->few)
        pass_trace("choose_schedules", s->node, "%s for at most %d rows",
                   schedule_text(p->m->scratch, few->few), few->few_rows);
    pass_trace("choose_schedules", s->node, "%s%s", schedule_text(p->m->scratch, sch), more);
}

/* A right factor of codes, with scales for each block of them: all constants lie in the order in
 * which a vector tile reads them. */
static void schedule_blocks_of_codes(DefProgram *p, Stage *s, Schedule *sch) {
    Blocked b = {.p = p, .s = s, .lane = s->axis[sch->vec_axis], .fits = true};
    b.block = schedule_panel_width(sch);
    const KExpr **parts[] = {&s->rhs, &s->term};
    for (int i = 0; i < 2 && b.block > 1; i++)
        *parts[i] = k_rewrite(p->m->k, *parts[i], read_blocked, &b);
    schedule_contract_few(p, s, p->m->target, sch);
    keep_schedule(p, s, sch, "");
}

/* The variables of a left factor that is a permutation of a tensor's elements: axes, then reduction
 * axes, in the stage's order. 0 for any other factor. */
static int permuted_vars(KCtx *k, const Stage *s, KVar **var, const KExpr **extent) {
    const KExpr *x = s->lhs;
    int n = 0, n_vars = 0;
    if (x->op != KO_at || at_pred(x)) return 0;
    for (int i = 0; i < x->n_args; i++) {
        if (x->arg[i]->op != KO_var && x->arg[i]->op != KO_const_i) return 0;
        n_vars += x->arg[i]->op == KO_var;
    }
    for (int i = 0; i < s->out->rank + s->n_red; i++) {
        bool is_axis = i < s->out->rank;
        KVar *v = is_axis ? s->axis[i] : s->red[i - s->out->rank];
        if (!k_uses_var(k, x, v)) continue;
        if (n == MAX_RANK) return 0;
        extent[n] = is_axis ? s->out->dims[i] : s->red_extent[i - s->out->rank];
        var[n++] = v;
    }
    return n == n_vars ? n : 0;
}

/* Tiles go along the inner one of two row axes, where a free number may be 1. A left factor that
 * has them the other way around (sentences of a batch, for a net that goes from word to word) is
 * therefore copied to lie like the result, so that they are one: with a multiple of its elements
 * in products, that is little. */
static void turn_rows(DefProgram *p, Stage *s, const Schedule *sch) {
    enum { LEAST_COLUMNS = 32 };
    KCtx *k = p->m->k;
    KVar *var[MAX_RANK];
    const KExpr *extent[MAX_RANK], *index[MAX_RANK];
    int64_t columns, inner;
    if (sch->row_axis[1] < 0 || !k_is_int(s->out->dims[sch->vec_axis], &columns)) return;
    const KExpr *rows = s->out->dims[sch->row_axis[1]];
    bool is_free = !k_is_int(rows, &inner) && !k_is_guessed(rows);
    if (!is_free || columns < LEAST_COLUMNS || !schedule_left_parts_rows(p, s, sch)) return;
    int n = permuted_vars(k, s, var, extent);
    if (!n) return;
    KTensor *turned = program_add_tensor(p, "rows", s->lhs->dtype, n, extent);
    Stage *copy = program_add_stage(p, s, FORM_MAP, turned, s->node);
    for (int i = 0; i < n; i++) index[i] = k_var(k, copy->axis[i]);
    copy->body = k_subst(k, s->lhs, var, index, n);
    for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
    s->lhs = k_at(k, turned, index, n);
}

/* Rows of axes that are one, and whether taps outside are left out. */
static void fill_rows(DefProgram *p, const Stage *s, Schedule *sch) {
    KCtx *k = p->m->k;
    schedule_contract_join(p, s, sch);
    sch->skips = !s->addend && s->lhs->op == KO_at && at_pred(s->lhs) &&
                 at_pred_beyond_halo(k, s->lhs, 0) && s->acc->dtype == DT_F32 &&
                 constants_are_finite(k, s->rhs);
}

bool contract_axes(DefProgram *p, Stage *s, Schedule *sch) {
    if (!schedule_contract_axes(p, s, p->m->target, sch) || sch->group) return false;
    fill_rows(p, s, sch);
    return true;
}

/* Takes the template with these axes unless reading would cost more than it saves. */
static bool use_template(DefProgram *p, Stage *s, Schedule *sch) {
    KCtx *k = p->m->k;
    if (!fit_groups(k, s, sch)) return false;
    if (!s->addend && choose_matrix(p, s, sch)) return true;
    pack_left_constant(p, s, sch);
    bool is_const = reads_only_constants(k, s->rhs);
    bool in_place = !is_const && reads_vectors(k, s, s->rhs, sch) && !strides_far(p, s, sch);
    sch->mask_right = !is_const && !in_place && fits_mask(p, s, sch);
    in_place |= sch->mask_right;
    if (!in_place && !is_const && !is_reused(k, s, s->rhs)) return false;
    if (is_const) turn_rows(p, s, sch);
    fill_rows(p, s, sch);
    order_taps(p, s, sch);
    if (!tune_contract(p, s, in_place, sch)) schedule_contract_tile(p, s, p->m->target, sch);
    if (!in_place && !pack_factor(p, s, sch)) return false;
    if (!in_place) schedule_contract_few(p, s, p->m->target, sch);
    if (is_const) schedule_contract_widen(k, s, sch);
    if (in_place) schedule_contract_stream(k, s, p->m->target, sch);
    keep_schedule(p, s, sch, in_place ? ", right factor in place" : "");
    return true;
}

/* Many rows share what is made of the codes, and have larger tiles without sums of runs; of a free
 * number of rows there may be one, which waits for that. */
static bool gains_by_runs(KCtx *k, const Stage *s, const Schedule *sch) {
    enum { MOST_ROWS = 6 };
    int64_t n = n_rows(k, s, sch);
    return n <= MOST_ROWS || n == INT64_MAX;
}

static void schedule_contract(DefProgram *p, Stage *s) {
    Schedule sch;
    bool is_integer = s->acc->dtype == DT_I32 && !is_empty(s);
    if (is_integer && !use_dot_products(p, s) && !use_tap_products(p, s)) sum_as_float(p, s);
    if (s->n_red == 0 || is_empty(s) || p->m->target->vector_bytes <= 0) return;
    if (!is_integer && !s->addend && !use_bfloat_products(p, s) &&
        reads_only_constants(p->m->k, s->rhs)) {
        if (choose_winograd(p, s)) return;
        if (use_block_products(p, s, &sch)) {
            schedule_blocks_of_codes(p, s, &sch);
            return;
        }
    }
    bool fits = schedule_contract_axes(p, s, p->m->target, &sch), is_swapped = !fits;
    if (fits && !s->addend) use_block_sums(p, s, gains_by_runs(p->m->k, s, &sch));
    if (is_swapped) {
        swap_factors(s);
        fits = schedule_contract_axes(p, s, p->m->target, &sch);
    }
    if ((!fits || !use_template(p, s, &sch)) && is_swapped) swap_factors(s);
}

static void schedule_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        bool is_distance = contract_distances(p, s);
        if (s->form != FORM_CONTRACT) continue;
        bool is_taken = p->m->blas && !is_distance && !is_empty(s) && blas_take_contract(p, s);
        if (!is_taken) schedule_contract(p, s);
        if (is_distance && !s->schedule) reduce_distances(p, s);
        *changed |= is_taken || s->schedule != NULL;
    }
}

/* What products were made of before they were scheduled, and nobody else reads (values of which
 * they take the bytes). */
static void drop_unread(DefProgram *p, void *user) {
    (void)user;
    for (Stage *s = p->last, *prev; s; s = prev) {
        prev = s->prev;
        if (s->form != FORM_MAP || s->is_alias || s->out->n_users || s->out->alias) continue;
        stage_forget_reads(s);
        stage_remove(p, s);
    }
}

static void store_halves(DefProgram *p, void *user) {
    *(bool *)user |= dot_store_halves(p);
}

bool pass_choose_schedules(Module *m) {
    bool changed = false;
    program_visit(m->defs, schedule_program, &changed);
    if (!changed) return false;
    program_count_users(m->defs);
    if (m->target->dot2) program_visit(m->defs, store_halves, &changed);
    program_visit(m->defs, drop_unread, NULL);
    return changed;
}
