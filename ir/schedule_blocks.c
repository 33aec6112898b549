/* Stages in blocks: contractions and row-wise stages that hand rows to each other.
 *
 *   parallel for slot
 *     for the slot's share of blocks       a block: one index of the shared axes, some rows
 *       contraction                        its tiles of these rows
 *       for row                            the row-wise stages between, as one loop over rows
 *         reductions, maps
 *       contraction
 *
 * What only the group reads has room for one block in each slot (KTensor.window), so that it stays
 * in the cache from one member to the next. A whole group has no rows to cut: a block is one index
 * of the shared axes. The slots, not the threads, own that memory: which thread runs a slot changes
 * nothing. The last block may have fewer rows; it gets a copy of the loops. */
#include "ir/schedule.h"
#include "ir/scratch.h"

typedef struct BlockLoop {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Blocks *g;
    const KExpr *outer[MAX_RANK]; /* indices of the shared axes before the rows */
    const KExpr *cut;             /* elements that count in this block, NULL: all */
} BlockLoop;

static StagePart member_part(const BlockLoop *l, int m, const KExpr *rows) {
    const Blocks *g = l->g;
    StagePart part = {.row_axis = g->axis[m][g->n_axes - 1], .first = g->first, .rows = rows};
    for (int a = 0; a + 1 < g->n_axes; a++) part.at[g->axis[m][a]] = l->outer[a];
    if (g->is_whole) {
        part.at[part.row_axis] = g->first;
        part.row_axis = -1;
    }
    part.cut = l->cut;
    part.cut_axis = l->cut ? g->cut_axis[m] : -1;
    part.cut_red = l->cut ? g->cut_red[m] : -1;
    return part;
}

/* Member m, with its reduction axes as far as they count here. */
static const Stage *cut_member(const BlockLoop *l, int m) {
    const Stage *s = l->g->stages[m];
    if (!l->cut || l->g->cut_red[m] < 0) return s;
    Stage *copy = arena_copy(l->p->arena, s, sizeof *s);
    copy->red_extent[l->g->cut_red[m]] = l->cut;
    return copy;
}

static bool is_tiled(const Stage *s) {
    return s->form == FORM_CONTRACT && s->schedule;
}

/* Is t one element for each row, that only members from..to-1 read? */
static bool is_row_scalar(const Blocks *g, const KTensor *t, int from, int to) {
    const Stage *s = t->def;
    if (!t->window || s->form != FORM_REDUCE) return false;
    for (int a = 0; a < t->rank; a++)
        if (!t->window->fixed[a] && a != t->window->row_axis && !k_is_value(t->dims[a], 1))
            return false;
    for (uint32_t u = 0; u < t->users.n; u++) {
        bool inside = false;
        for (int m = from; m < to; m++) inside |= g->stages[m] == t->users.at[u];
        if (!inside) return false;
    }
    return true;
}

/* Row-wise members from..to-1 for each row of the block. */
static void open_rows(BlockLoop *l, int from, int to, const KExpr *rows) {
    const Blocks *g = l->g;
    KTensor **local = arena_array(l->p->arena, KTensor *, to - from);
    StagePart *part = arena_array(l->p->arena, StagePart, to - from);
    Stage **stages = arena_array(l->p->arena, Stage *, to - from);
    int n_local = 0;
    const KExpr *r = g->is_whole ? k_int(l->k, 0) : kb_for(l->b, LOOP_SERIAL, "row", rows);
    for (int m = from; m < to; m++) {
        part[m - from] = member_part(l, m, rows);
        stages[m - from] = (Stage *)cut_member(l, m);
        if (!g->is_whole) part[m - from].at[part[m - from].row_axis] = k_add(l->k, g->first, r);
        if (is_row_scalar(g, g->stages[m]->out, from, to)) local[n_local++] = g->stages[m]->out;
    }
    schedule_open_row(l->p, stages, part, to - from, local, n_local, l->b);
    if (!g->is_whole) kb_end(l->b);
}

/* Whole tiles of vectors up to the limit of the block's last row: there is one tile at least. */
static const KExpr *block_cut(const BlockLoop *l, const KExpr *rows) {
    const Blocks *g = l->g;
    const Stage *s = g->stages[0];
    const KExpr *at[MAX_RANK], *n = s->out->dims[s->schedule->vec_axis], *one = k_int(l->k, 1);
    int64_t extent, width = (int64_t)s->schedule->n_vecs * s->schedule->lanes;
    for (int i = 0; i < s->out->rank; i++) at[i] = k_int(l->k, 0);
    for (int a = 0; a + 1 < g->n_axes; a++) at[g->axis[0][a]] = l->outer[a];
    at[g->axis[0][g->n_axes - 1]] = k_sub(l->k, k_add(l->k, g->first, rows), one);
    const KExpr *limit = k_subst(l->k, g->limit, s->axis, at, s->out->rank);
    const KExpr *tile = k_int(l->k, width), *up = k_add(l->k, limit, k_int(l->k, width - 1));
    const KExpr *n_tiles = k_max(l->k, k_fdiv(l->k, up, tile), one);
    if (k_is_int(n, &extent) && extent % width == 0) {
        const KExpr *most = k_fdiv(l->k, n, tile);
        const KExpr *t = kb_let_within(l->b, "n", k_min(l->k, n_tiles, most), extent / width);
        return k_mul(l->k, t, tile);
    }
    return kb_let_within(l->b, "n", k_min(l->k, k_mul(l->k, n_tiles, tile), n), n->hi);
}

/* A contraction's tiles; of a free number of rows by the schedules for few of them, where it has
 * such: a batch of any size has one row mostly. */
static void open_tiles(BlockLoop *l, int m, const Schedule *sch, const KExpr *rows) {
    int64_t n;
    bool has_few = sch->few && !k_is_int(rows, &n);
    if (has_few) {
        Schedule few = *sch->few;
        schedule_few_in_block(&few, sch);
        kb_if(l->b, k_le(l->k, rows, k_int(l->k, sch->few_rows)));
        open_tiles(l, m, &few, rows);
        kb_else(l->b);
    }
    StagePart part = member_part(l, m, rows);
    schedule_open_contract(l->p, cut_member(l, m), sch, &part, l->b);
    if (has_few) kb_end(l->b);
}

/* All members, for `rows` rows from the block's first. */
static void open_block(BlockLoop *l, const KExpr *rows) {
    const Blocks *g = l->g;
    l->cut = g->limit ? block_cut(l, rows) : NULL;
    for (int m = 0, end; m < g->n; m = end) {
        end = m + 1;
        if (is_tiled(g->stages[m])) {
            open_tiles(l, m, g->stages[m]->schedule, rows);
            continue;
        }
        while (end < g->n && !is_tiled(g->stages[end])) end++;
        open_rows(l, m, end, rows);
    }
}

/* The block of this index: whole, or what remains of the rows. */
static void open_split(BlockLoop *l, Blocks *g, const KExpr *block) {
    KCtx *k = l->k;
    const KExpr *n = g->extent[g->n_axes - 1], *rows = k_int(k, g->rows);
    const KExpr *n_full = k_fdiv(k, n, rows), *rest = k_fmod(k, n, rows);
    bool has_rest = !k_is_value(rest, 0), has_full = n_full->hi > 0,
         has_both = has_rest && has_full;
    if (has_both) kb_if(l->b, k_lt(k, block, n_full));
    if (has_full) {
        const KExpr *at = has_both ? kb_let_index(l->b, "b", block, n_full) : block;
        g->first = k_mul(k, at, rows);
        open_block(l, rows);
    }
    if (has_both) kb_else(l->b);
    g->first = k_mul(k, n_full, rows);
    if (has_rest) open_block(l, rest);
    if (has_both) kb_end(l->b);
}

/* Opens the loops down to one block; its place in the list of all blocks. */
static const KExpr *open_slots(KBuild *b, Blocks *g, const KExpr *n_blocks) {
    const KExpr *item;
    if (g->n_slots > 1)
        kb_slots(b, g->n_slots, n_blocks, &g->slot, &item);
    else
        item = kb_for(b, LOOP_SERIAL, "item", n_blocks);
    return item;
}

void schedule_open_blocks(DefProgram *p, Blocks *g, KBuild *b) {
    KCtx *k = p->m->k;
    BlockLoop l = {.p = p, .k = k, .b = b, .g = g};
    const KExpr *extent[MAX_RANK], *index[MAX_RANK], *total = k_int(k, 1);
    int last = g->n_axes - 1;
    for (int a = 0; a < last; a++) extent[a] = g->extent[a];
    extent[last] = k_fdiv(k, k_add(k, g->extent[last], k_int(k, g->rows - 1)), k_int(k, g->rows));
    for (int a = 0; a < g->n_axes; a++) total = k_mul(k, total, extent[a]);
    kb_unflatten(b, "b", open_slots(b, g, total), extent, g->n_axes, index);
    for (int a = 0; a < last; a++) l.outer[a] = index[a];
    open_split(&l, g, index[last]);
    if (g->n_slots > 1) kb_end(b);
    kb_end(b);
    g->slot = g->first = k_int(k, 0);
}
