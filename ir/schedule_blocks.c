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
 * in the cache from one member to the next. The slots, not the threads, own that memory: which
 * thread runs a slot changes nothing. The last block may have fewer rows; it gets a copy of the
 * loops. */
#include "ir/schedule.h"
#include "ir/scratch.h"

typedef struct BlockLoop {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Blocks *g;
    const KExpr *outer[MAX_RANK]; /* indices of the shared axes before the rows */
} BlockLoop;

static StagePart member_part(const BlockLoop *l, int m, const KExpr *rows) {
    const Blocks *g = l->g;
    StagePart part = {.row_axis = g->axis[m][g->n_axes - 1], .first = g->first, .rows = rows};
    for (int a = 0; a + 1 < g->n_axes; a++) part.at[g->axis[m][a]] = l->outer[a];
    return part;
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
    int n_local = 0;
    const KExpr *r = kb_for(l->b, LOOP_SERIAL, "row", rows);
    for (int m = from; m < to; m++) {
        part[m - from] = member_part(l, m, rows);
        part[m - from].at[part[m - from].row_axis] = k_add(l->k, g->first, r);
        if (is_row_scalar(g, g->stages[m]->out, from, to)) local[n_local++] = g->stages[m]->out;
    }
    schedule_open_row(l->p, g->stages + from, part, to - from, local, n_local, l->b);
    kb_end(l->b);
}

/* All members, for `rows` rows from the block's first. */
static void open_block(BlockLoop *l, const KExpr *rows) {
    const Blocks *g = l->g;
    for (int m = 0, end; m < g->n; m = end) {
        end = m + 1;
        if (is_tiled(g->stages[m])) {
            StagePart part = member_part(l, m, rows);
            schedule_open_contract(l->p, g->stages[m], g->stages[m]->schedule, &part, l->b);
            continue;
        }
        while (end < g->n && !is_tiled(g->stages[end])) end++;
        open_rows(l, m, end, rows);
    }
}

static int64_t last_index(const KExpr *extent) {
    return extent->hi == INT64_MAX ? INT64_MAX : extent->hi < 1 ? 0 : extent->hi - 1;
}

/* The block of this index: whole, or what remains of the rows. */
static void open_split(BlockLoop *l, Blocks *g, const KExpr *block) {
    KCtx *k = l->k;
    const KExpr *n = g->extent[g->n_axes - 1], *rows = k_int(k, g->rows);
    const KExpr *n_full = k_fdiv(k, n, rows), *rest = k_fmod(k, n, rows);
    bool has_rest = !k_is_value(rest, 0), has_full = n_full->hi > 0, has_both = has_rest && has_full;
    if (has_both) kb_if(l->b, k_lt(k, block, n_full));
    if (has_full) {
        const KExpr *at = has_both ? kb_let_within(l->b, "b", block, last_index(n_full)) : block;
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
    def_unflatten(k, open_slots(b, g, total), extent, g->n_axes, index);
    for (int a = 0; a < g->n_axes; a++)
        index[a] = k_is_value(extent[a], 1) ? k_int(k, 0)
                                            : kb_let_within(b, "b", index[a], last_index(extent[a]));
    for (int a = 0; a < last; a++) l.outer[a] = index[a];
    open_split(&l, g, index[last]);
    if (g->n_slots > 1) kb_end(b);
    kb_end(b);
    g->slot = g->first = k_int(k, 0);
}
