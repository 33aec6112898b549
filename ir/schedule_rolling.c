/* Stages that roll: convolutions, pools and maps whose rows need several rows of each other.
 *
 *   parallel for slot                    from `first` on in order by one thread
 *     zeros into the column halos of the windows
 *     for the slot's share of blocks       a block: a few rows of the last member
 *       for each member                    its rows that this block needs and the last one did not
 *         zeros into the halo's rows, where they are reached
 *         its tiles of these rows, or its loops row by row
 *       a depthwise member goes with the one before from tile to tile of channels, and so do
 *       sums of rows with what makes these
 *
 * What only the group reads has a window that rolls (RowWindow.ring): room for the rows that one
 * block needs, row i in place i & (ring - 1), so that rows which the next block needs again stay
 * where they are. A thread that does slot after slot goes on in the window of its first one, so
 * only that one's first block makes all rows that it needs, also those that another thread makes in
 * a window of its own. Each row is made as it would be without the group: same tiles, same order of
 * sums, same bits. */
#include "ir/schedule.h"

enum { MOST_TOGETHER = 3 };

typedef struct Roll {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Blocks *g;
    const KExpr *slot;   /* whose blocks these are; windows are those of Blocks.slot */
    const KExpr *outer;  /* index of the shared axis before the rows, where there is one */
    const KExpr *first;  /* row of the last member where the block begins */
    const KExpr *starts; /* nothing of the windows counts yet */
} Roll;

static int row_axis(const Blocks *g, int m) {
    return g->axis[m][g->n_axes - 1];
}

/* ---- halos ----------------------------------------------------------------------------------- */

/* One loop nest over the window's places and the axes that are not shared; of `axis` only the halo
 * on one side. */
static void clear_side(Roll *l, const KTensor *t, int axis, int side) {
    KCtx *k = l->k;
    const Layout *lay = &t->layout;
    int depth = l->b->depth, last = t->rank - 1;
    const KExpr *place = kb_for(l->b, LOOP_SERIAL, "h", k_int(k, t->window->ring));
    const KExpr *flat = k_add(k, k_mul(k, l->g->slot, k_int(k, t->window->ring)), place);
    for (int i = 0; i < t->rank; i++) {
        int a = tensor_axis_at(t, i);
        if (t->window->fixed[a] || a == t->window->row_axis) continue;
        const KExpr *all = tensor_stored_dim(k, t, a);
        const KExpr *n = a == axis ? k_int(k, lay->halo[a][side]) : all;
        bool is_vector = i == last && lay->block <= 1 && n->hi <= 16;
        const KExpr *at = kb_for(l->b, is_vector ? LOOP_VECTOR : LOOP_SERIAL, "h", n);
        if (a == axis && side) at = k_add(k, at, k_sub(k, all, n));
        flat = k_add(k, k_mul(k, flat, all), at);
    }
    if (lay->block > 1) {
        const KExpr *lane = kb_for(l->b, LOOP_VECTOR, "l", k_int(k, lay->block));
        flat = k_add(k, k_mul(k, flat, k_int(k, lay->block)), lane);
    }
    kb_store(l->b, t->buf, flat, k_const(k, t->dtype, lay->halo_value));
    while (l->b->depth > depth) kb_end(l->b);
}

static bool is_column(const KTensor *t, int axis) {
    return axis != t->window->row_axis && !t->window->fixed[axis];
}

/* Halos beside the rows are the same in every place, and stay. */
static void clear_columns(Roll *l, const KTensor *t) {
    if (!t->window || !t->layout.has_halo) return;
    for (int a = 0; a < t->rank; a++)
        for (int side = 0; side < 2; side++)
            if (is_column(t, a) && t->layout.halo[a][side]) clear_side(l, t, a, side);
}

/* Is there any halo to clear beside the rows? */
static bool has_columns(const Blocks *g) {
    for (int m = 0; m < g->n; m++) {
        const KTensor *t = g->stages[m]->out;
        for (int a = 0; t->window && t->layout.has_halo && a < t->rank; a++)
            if (is_column(t, a) && t->layout.halo[a][0] + t->layout.halo[a][1]) return true;
    }
    return false;
}

/* A whole place: the halo's row `row`. */
static void clear_row(Roll *l, const KTensor *t, const KExpr *row) {
    KCtx *k = l->k;
    const KExpr *place_size = tensor_ring_row(k, t);
    int lanes = target_lanes(l->p->m->target, dtype_bytes(t->dtype));
    const KExpr *place = k_and(k, row, k_int(k, t->window->ring - 1));
    const KExpr *start = k_add(k, k_mul(k, l->g->slot, k_int(k, t->window->ring)), place);
    const KExpr *zero = k_const(k, t->dtype, t->layout.halo_value), *size = k_int(k, lanes);
    start = k_mul(k, start, place_size);
    const KExpr *n_vectors = k_fdiv(k, place_size, size), *whole = k_mul(k, n_vectors, size);
    const KExpr *rest = k_sub(k, place_size, whole);
    if (n_vectors->hi > 0) {
        const KExpr *c = kb_for(l->b, LOOP_SERIAL, "c", n_vectors);
        const KExpr *lane = kb_for(l->b, LOOP_VECTOR, "l", size);
        kb_store(l->b, t->buf, k_add(k, start, k_add(k, k_mul(k, c, size), lane)), zero);
        kb_end(l->b);
        kb_end(l->b);
    }
    if (rest->hi > 0) {
        bool is_known = rest->lo == rest->hi;
        const KExpr *lane = kb_for(l->b, is_known ? LOOP_VECTOR : LOOP_SERIAL, "l", rest);
        kb_store(l->b, t->buf, k_add(k, start, k_add(k, whole, lane)), zero);
        kb_end(l->b);
    }
}

/* The halo's rows among lo..end-1, those before the tensor when the window is new. */
static void clear_rows(Roll *l, const KTensor *t, const KExpr *lo, const KExpr *end) {
    KCtx *k = l->k;
    if (!t->window || !t->layout.has_halo) return;
    const KExpr *zero = k_int(k, 0), *n = t->dims[t->window->row_axis];
    const uint16_t *halo = t->layout.halo[t->window->row_axis];
    if (halo[0] && lo->lo < 0) {
        kb_if(l->b, k_and(k, l->starts, k_lt(k, lo, zero)));
        const KExpr *h = kb_for(l->b, LOOP_SERIAL, "h", k_int(k, halo[0]));
        clear_row(l, t, k_sub(k, h, k_int(k, halo[0])));
        kb_end(l->b);
        kb_end(l->b);
    }
    if (halo[1] && end->hi > n->lo) {
        const KExpr *above = k_min(k, k_sub(k, end, n), k_int(k, halo[1]));
        const KExpr *h = kb_for(l->b, LOOP_SERIAL, "h", k_max(k, above, zero));
        clear_row(l, t, k_add(k, n, h));
        kb_end(l->b);
    }
}

/* ---- members --------------------------------------------------------------------------------- */

static StagePart part_of(const Roll *l, int m) {
    StagePart part = {.row_axis = row_axis(l->g, m), .cut_axis = -1, .cut_red = -1};
    part.inside = true;
    if (l->g->n_axes > 1) part.at[l->g->axis[m][0]] = l->outer;
    return part;
}

/* A member that is no register tile: row by row. */
static void open_by_rows(Roll *l, int m, StagePart part) {
    Stage *s = l->g->stages[m];
    int axis = part.row_axis;
    const KExpr *r = kb_for(l->b, LOOP_SERIAL, "row", part.rows);
    const KExpr *row = k_add(l->k, part.first, r);
    part.row_axis = -1;
    part.at[axis] = kb_let_within(l->b, "row", row, s->out->dims[axis]->hi - 1);
    schedule_open_row(l->p, &s, &part, 1, NULL, 0, l->b);
    kb_end(l->b);
}

/* The rows of member m that the block is the first to need; zeros into those of them that are
 * halo. */
static StagePart rows_of_member(Roll *l, int m) {
    KCtx *k = l->k;
    const Blocks *g = l->g;
    const Stage *s = g->stages[m];
    const RowSpan *span = &g->span[m];
    const KExpr *extent = s->out->dims[row_axis(g, m)], *scale = k_int(k, span->scale);
    const KExpr *at = k_mul(k, l->first, scale), *lo = k_add(k, at, k_int(k, span->lo));
    const KExpr *made = k_add(k, at, k_int(k, span->hi)); /* what is made ends here */
    const KExpr *end = k_add(k, made, k_int(k, g->rows * span->scale));
    int64_t height = extent->hi, most = g->rows * span->scale + span->hi - span->lo;
    const KExpr *begin = span->hi > span->lo ? k_select(k, l->starts, lo, made) : lo;
    const KExpr *from = k_min(k, k_max(k, begin, k_int(k, 0)), extent);
    from = kb_let_within(l->b, "from", from, height);
    const KExpr *n = k_max(k, k_sub(k, k_min(k, end, extent), from), k_int(k, 0));
    n = kb_let_within(l->b, "n", n, most < height ? most : height);
    clear_rows(l, s->out, lo, end);
    StagePart part = part_of(l, m);
    part.first = from;
    part.rows = n;
    return part;
}

static bool is_tiled(const Stage *s) {
    return s->form == FORM_CONTRACT && s->schedule;
}

static int64_t vector_tiles(const Stage *s) {
    int64_t n, tile = (int64_t)s->schedule->n_vecs * s->schedule->lanes;
    return k_is_int(s->out->dims[s->schedule->vec_axis], &n) ? (n + tile - 1) / tile : 0;
}

typedef struct Follows {
    const Stage *s, *of;
    int axis; /* of s, at which it reads what `of` has along its vectors */
    bool reads, ok;
} Follows;

static void note_followed(const KExpr *e, void *user) {
    Follows *f = user;
    if (e->op != KO_at || e->u.tensor != f->of->out) return;
    f->reads = true;
    f->ok &= stage_axis_of(f->s, e->arg[f->of->schedule->vec_axis]) == f->axis;
}

bool schedule_is_followed(KCtx *k, const Stage *s, const Stage *next) {
    if (!is_tiled(s) || !is_tiled(next) || vector_tiles(s) < 2 || vector_tiles(next) < 2)
        return false;
    Follows f = {next, s, next->schedule->vec_axis, false, true};
    stage_visit(k, next, note_followed, &f);
    return f.reads && f.ok && next->schedule->lanes == s->schedule->lanes &&
           s->schedule->n_vecs % next->schedule->n_vecs == 0;
}

/* Does next sum rows of what s makes, each block of channels by itself? Pools have no need to: what
 * makes their rows may have reasons to go through all channels of a tile of rows at once. */
static bool is_summed(KCtx *k, const Stage *s, const Stage *next) {
    const Layout *lay = &next->out->layout;
    bool sums_rows = next->form == FORM_REDUCE && next->fold == KO_add && next->n_red == 1;
    if (!sums_rows || !is_tiled(s) || !vector_tiles(s) || lay->block != s->schedule->lanes)
        return false;
    Follows f = {next, s, lay->block_axis, false, true};
    stage_visit(k, next, note_followed, &f);
    return f.reads && f.ok;
}

static bool reads(KCtx *k, const Stage *s, const Stage *of) {
    Follows f = {s, of, -1, false, true};
    stage_visit(k, s, note_followed, &f);
    return f.reads;
}

/* Member m goes on with n vectors of channels from `from` on, which the member before it made. */
static void open_followed(Roll *l, int m, StagePart part, const KExpr *from, const KExpr *n) {
    KCtx *k = l->k;
    const Stage *s = l->g->stages[m];
    if (is_tiled(s)) {
        const KExpr *each = k_int(k, s->schedule->n_vecs), *up = k_int(k, s->schedule->n_vecs - 1);
        part.vec_from = k_fdiv(k, from, each);
        part.n_vec = k_fdiv(k, k_add(k, n, up), each);
        schedule_open_contract(l->p, s, s->schedule, &part, l->b);
        return;
    }
    int64_t all;
    k_is_int(s->out->dims[s->out->layout.block_axis], &all);
    int64_t last = (all - 1) / s->out->layout.block;
    const KExpr *i = kb_for(l->b, LOOP_SERIAL, "block", n);
    part.block = kb_let_within(l->b, "block", k_add(k, from, i), last);
    open_by_rows(l, m, part);
    kb_end(l->b);
}

/* Members m .. m + n - 1, tile by tile of m's vectors. */
static void open_together(Roll *l, int m, int n) {
    KCtx *k = l->k;
    const Stage *s = l->g->stages[m];
    int64_t vecs = s->schedule->n_vecs, all;
    StagePart part[MOST_TOGETHER];
    for (int i = 0; i < n; i++) part[i] = rows_of_member(l, m + i);
    k_is_int(s->out->dims[s->schedule->vec_axis], &all);
    all = (all + s->schedule->lanes - 1) / s->schedule->lanes;
    const KExpr *t = kb_for(l->b, LOOP_SERIAL, "c", k_int(k, vector_tiles(s)));
    const KExpr *from = k_mul(k, t, k_int(k, vecs));
    const KExpr *n_vecs = k_min(k, k_int(k, vecs), k_sub(k, k_int(k, all), from));
    part[0].vec_from = t;
    part[0].n_vec = k_int(k, 1);
    schedule_open_contract(l->p, s, s->schedule, &part[0], l->b);
    for (int i = 1; i < n; i++) open_followed(l, m + i, part[i], from, n_vecs);
    kb_end(l->b);
}

/* How many members from m on go from tile to tile together. */
static int count_together(const Roll *l, int m) {
    Stage *const *s = l->g->stages + m;
    int left = l->g->n - m, n = 1;
    if (left > n && schedule_is_followed(l->k, s[0], s[1])) n = 2;
    if (left > n && is_summed(l->k, s[n - 1], s[n]) && (n < 2 || !reads(l->k, s[2], s[0]))) n++;
    return n;
}

/* Opens member m, perhaps with the next ones; how many these are. */
static int open_members(Roll *l, int m) {
    int n = count_together(l, m);
    if (n > 1) {
        open_together(l, m, n);
        return n;
    }
    const Stage *s = l->g->stages[m];
    StagePart part = rows_of_member(l, m);
    if (is_tiled(s))
        schedule_open_contract(l->p, s, s->schedule, &part, l->b);
    else
        open_by_rows(l, m, part);
    return 1;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Opens the loop over the slot's share of the blocks; which of all blocks this is. */
static const KExpr *open_share(Roll *l, const KExpr *n_items) {
    KCtx *k = l->k;
    const Blocks *g = l->g;
    const KExpr *n_slots = k_int(k, g->n_slots), *one = k_int(k, 1), *from = k_int(k, 0);
    const KExpr *to = n_items, *start = from;
    if (g->n_slots > 1) {
        start = kb_let(l->b, "start", k_fdiv(k, k_mul(k, g->slot, n_items), n_slots));
        from = kb_let(l->b, "from", k_fdiv(k, k_mul(k, l->slot, n_items), n_slots));
        to = k_fdiv(k, k_mul(k, k_add(k, l->slot, one), n_items), n_slots);
    }
    const KExpr *i = kb_for(l->b, LOOP_SERIAL, "i", k_sub(k, to, from));
    const KExpr *item = kb_let_index(l->b, "item", k_add(k, from, i), n_items);
    l->starts = k_eq(k, item, start);
    return item;
}

void schedule_open_rolling(DefProgram *p, Blocks *g, KBuild *b) {
    KCtx *k = p->m->k;
    Roll l = {.p = p, .k = k, .b = b, .g = g};
    int last = g->n_axes - 1, depth = b->depth;
    const KExpr *up = k_add(k, g->extent[last], k_int(k, g->rows - 1));
    const KExpr *extent[] = {g->extent[0], k_int(k, 1)}, *index[2];
    extent[last] = k_fdiv(k, up, k_int(k, g->rows));
    l.slot = g->slot;
    if (g->n_slots > 1) l.slot = kb_for_ranges(b, "slot", k_int(k, g->n_slots), &g->slot);
    if (has_columns(g)) {
        if (g->n_slots > 1) kb_if(b, k_eq(k, l.slot, g->slot));
        for (int m = 0; m < g->n; m++) clear_columns(&l, g->stages[m]->out);
        if (g->n_slots > 1) kb_end(b);
    }
    const KExpr *item = open_share(&l, last ? k_mul(k, extent[0], extent[1]) : extent[0]);
    kb_unflatten(b, "b", item, extent, g->n_axes, index);
    if (last) {
        l.outer = index[0];
        l.starts = k_or(k, l.starts, k_eq(k, index[1], k_int(k, 0)));
    }
    l.first = k_mul(k, index[last], k_int(k, g->rows));
    for (int m = 0; m < g->n;) m += open_members(&l, m);
    while (b->depth > depth) kb_end(b);
    g->slot = k_int(k, 0);
}
