/* The contraction template: GEMM, convolution, depthwise convolution and everything between.
 *
 *   parallel for tile                     batch axes, vector tiles, row tiles; rows innermost
 *     acc[rows][vecs][lanes] := init      registers
 *     for reduction axes                  order of the stage; blocked axes split by their block
 *       prefetch                          a line of the next panel of a large right factor
 *       for rows, vecs (unrolled), lanes (vector)
 *         acc := fma(lhs, rhs, acc)
 *     for rows, vecs (unrolled), lanes (vector)
 *       out := finish(acc)
 *
 * A reduction whose panel outgrows the caches is cut into parts; the sums of a group of row tiles
 * wait in memory from part to part, so the order of additions is that of the whole:
 *
 *   parallel for tile                     batch axes, vector tiles, groups of row tiles
 *     for part, row tile of the group
 *       acc := part == 0 ? init : sums    ... the loops above over this part ...
 *       sums, or in the last part out, := acc
 *
 * Remainders of the tiled axes get their own copy of the inner loops. When lhs does not depend on
 * the vector axis it is a broadcast; when both sides do (depthwise) both are vector loads. In a
 * grouped convolution it depends on it, but is the same for the channels of a group: a tile stays
 * inside of one, or its lanes choose between what a few groups read. Sizes of tiles and parts come
 * from schedule_choice.c. */
#include "ir/schedule_contract.h"

#include "ir/winograd.h"

/* ---- which axes ------------------------------------------------------------------------------ */

int tensor_contiguous_axis(const KTensor *t) {
    if (t->layout.block > 1) return t->layout.block_axis;
    if (t->rank == 0) return -1;
    for (int i = t->rank - 1; i >= 0; i--) {
        int axis = t->layout.permuted ? t->layout.order[i] : i;
        if (!k_is_value(t->dims[axis], 1)) return axis;
    }
    return t->layout.permuted ? t->layout.order[t->rank - 1] : t->rank - 1;
}

typedef struct Groups {
    const KVar *var;
    int64_t size; /* common divisor of what the variable is divided by; 0: it is nowhere divided */
} Groups;

int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* var // c is the same for a group of neighbours: a constant as far as they are concerned. */
static const KExpr *drop_group(KCtx *k, const KExpr *e, void *user) {
    Groups *g = user;
    int64_t c;
    if (e->op != KO_fdiv || e->arg[0]->op != KO_var || e->arg[0]->u.var != g->var ||
        !k_is_int(e->arg[1], &c) || c <= 1)
        return e;
    g->size = common_divisor(c, g->size);
    return k_int(k, 0);
}

/* How many neighbours along the axis read the same of the left factor: Schedule.group. */
static int left_group(KCtx *k, const Stage *s, int axis) {
    Groups g = {s->axis[axis], 0};
    if (!k_uses_var(k, s->lhs, g.var)) return 0;
    const KExpr *rest = k_rewrite(k, s->lhs, drop_group, &g);
    return k_uses_var(k, rest, g.var) || g.size > INT16_MAX ? 1 : (int)g.size;
}

/* Does a window of the left factor go along the axis? */
static bool has_window(KCtx *k, const Stage *s, int axis) {
    for (int i = 0; s->lhs->op == KO_at && i < s->lhs->u.tensor->rank; i++)
        for (int r = 0; r < s->n_red; r++)
            if (k_uses_var(k, s->lhs->arg[i], s->axis[axis]) &&
                k_uses_var(k, s->lhs->arg[i], s->red[r]))
                return true;
    return false;
}

/* Rows are tiles of the inner axis. Where that counts images or sentences, a free number, which may
 * be 1, and windows go along the outer one, the tiles are of that. */
static void tile_windows(KCtx *k, const Stage *s, Schedule *out) {
    int64_t n;
    int outer = out->row_axis[0], inner = out->row_axis[1];
    if (outer < 0) return;
    const KExpr *extent = s->out->dims[inner];
    bool is_count = !k_is_int(extent, &n) && !k_is_guessed(extent) && !has_window(k, s, inner);
    if (!is_count || !has_window(k, s, outer)) return;
    out->row_axis[0] = -1;
    out->row_axis[1] = outer;
}

bool schedule_contract_axes(DefProgram *p, const Stage *s, const Target *t, Schedule *out) {
    KCtx *k = p->m->k;
    int elem = dtype_bytes(s->acc->dtype),
        axis = s->form == FORM_CONTRACT ? tensor_contiguous_axis(s->out) : -1;
    *out = (Schedule){.vec_axis = -1,
                      .lanes = 1,
                      .n_vecs = 1,
                      .row_axis = {-1, -1},
                      .rows = {1, 1},
                      .unroll = 1,
                      .parts = 1,
                      .row_tiles = 1};
    if (axis < 0) return false;
    out->lanes = target_lanes(t, elem);
    if (s->out->layout.block > 1 && s->out->layout.block % out->lanes) return false;
    if (!k_uses_var(k, s->rhs, s->axis[axis])) return false;
    out->vec_axis = axis;
    out->group = left_group(k, s, axis);
    int n_rows = 0;
    for (int i = s->out->rank - 1; i >= 0 && n_rows < 2; i--) {
        bool in_lhs = k_uses_var(k, s->lhs, s->axis[i]), in_rhs = k_uses_var(k, s->rhs, s->axis[i]);
        if (i == axis || !in_lhs || in_rhs || k_is_value(s->out->dims[i], 1)) continue;
        out->row_axis[1 - n_rows++] = i;
    }
    tile_windows(k, s, out);
    return true;
}

const char *schedule_text(Arena *a, const Schedule *s) {
    if (s->winograd) return winograd_text(a, s);
    if (s->matrix) return arena_printf(a, "m%dx%dx%d", s->rows[0], s->rows[1], s->n_vecs);
    return arena_printf(a, "t%dx%dx%d_v%d", s->rows[0], s->rows[1], s->n_vecs, s->lanes);
}
/* ---- tiles and their remainders -------------------------------------------------------------- */

typedef struct TiledAxis {
    int axis, tile;
    const KExpr *extent, *n_tiles; /* remainder tile included */
    int64_t n_full, rest;          /* rest -1: the extent is symbolic */
    const KExpr *n_whole;          /* tiles that are whole, where these may be fewer than fit */
    const KExpr *at;               /* index of this tile */
    const KExpr *first;            /* element of the axis where the first tile begins */
    int64_t last; /* the last element there is, where no tile goes beyond it; -1: not told */
} TiledAxis;

static TiledAxis tiled_axis(KCtx *k, int axis, int tile, const KExpr *extent) {
    TiledAxis t = {.axis = axis, .tile = tile, .extent = extent, .rest = -1, .first = k_int(k, 0)};
    t.last = -1;
    int64_t n;
    const KExpr *up = k_add(k, extent, k_int(k, tile - 1));
    t.n_tiles = k_fdiv(k, up, k_int(k, tile));
    if (k_is_int(extent, &n)) {
        t.n_full = n / tile;
        t.rest = n % tile;
    }
    return t;
}

/* Where the remainder is one of sch->shared_rests, the last whole tile is among the rest. */
static void share_rests(KCtx *k, const Schedule *sch, TiledAxis *t) {
    if (t->rest >= 0 || !sch->shared_rests) return;
    const KExpr *tile = k_int(k, t->tile), *fit = k_fdiv(k, t->extent, tile);
    const KExpr *bits = k_shr(k, k_int(k, sch->shared_rests), k_fmod(k, t->extent, tile));
    const KExpr *shared = k_min(k, k_and(k, bits, k_int(k, 1)), fit);
    t->n_whole = k_sub(k, fit, shared);
    t->n_tiles = k_sub(k, t->n_tiles, shared);
}

/* Calls emit for the full tiles and for the remainder, each under its own condition. */
static void emit_split(Contract *c, TiledAxis *row, TiledAxis *vec, int level);

static void emit_row_part(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    if (level == 2)
        contract_tile(c);
    else
        emit_split(c, row, vec, level);
}

/* The tile of `size` rows at `start` rows from where the tiles begin. */
static void set_tile(Contract *c, const TiledAxis *row, int which, const KExpr *start, int size) {
    if (which >= 2) return;
    const KExpr *at = k_add(c->k, row[which].first, start);
    int64_t last = row[which].last - (size - 1);
    c->row_start[which] = last < 0 ? at : kb_let_within(c->b, "row", at, last);
    c->rows[which] = size;
}

/* Rows of this axis that a tile's sums have room for: a free rest is done by a few at once, the
 * last of which may lie beyond the tile. */
static int sums_rows(const TiledAxis *t, int which) {
    int few = t->rest < 0 ? schedule_rest_rows(which, t->tile) : 1;
    return (t->tile + few - 1) / few * few;
}

/* Rows of a symbolic extent beyond the last whole tile, from `start` on, in tiles of a few: the
 * last of them ends behind the extent. A matrix unit's end with it, the others are single rows. */
static void emit_rest_rows(Contract *c, TiledAxis *row, TiledAxis *vec, int level,
                           const KExpr *start) {
    KCtx *k = c->k;
    TiledAxis *t = &row[level];
    const KExpr *rest = k_sub(k, t->extent, start), *first = start, *sums_at = c->sums_at;
    const KExpr *last = k_sub(k, k_add(k, t->first, t->extent), k_int(k, 1));
    int others = level ? c->rows[0] : sums_rows(&row[1], 1);
    int64_t row_sums = (int64_t)others * c->n_vecs * c->sch->lanes;
    bool exact = c->sch->matrix != NULL;
    int few = level < 2 ? schedule_rest_rows(level, t->tile) : t->tile;
    for (int size = few; size; size = size > 1 && exact ? 1 : 0) {
        const KExpr *n = k_int(k, size), *up = exact ? rest : k_add(k, rest, k_int(k, size - 1));
        const KExpr *i = kb_for(c->b, LOOP_SERIAL, "r", k_fdiv(k, up, n));
        const KExpr *done = k_mul(k, i, n);
        set_tile(c, row, level, k_add(k, first, done), size);
        if (level < 2 && !exact) c->last_row[level] = last;
        if (c->sums)
            c->sums_at = k_add(
                k, sums_at, k_mul(k, k_add(k, k_sub(k, first, start), done), k_int(k, row_sums)));
        emit_row_part(c, row, vec, level + 1);
        kb_end(c->b);
        if (level < 2) c->last_row[level] = NULL;
        first = k_add(k, first, k_sub(k, rest, k_fmod(k, rest, n)));
        rest = k_fmod(k, rest, n);
    }
    c->sums_at = sums_at;
}

static void emit_symbolic_rows(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    KCtx *k = c->k;
    TiledAxis *t = &row[level];
    const KExpr *tile = k_int(k, t->tile), *start = k_mul(k, t->at, tile);
    kb_if(c->b,
          t->n_whole ? k_lt(k, t->at, t->n_whole) : k_le(k, k_add(k, start, tile), t->extent));
    set_tile(c, row, level, start, t->tile);
    emit_row_part(c, row, vec, level + 1);
    kb_else(c->b);
    emit_rest_rows(c, row, vec, level, start);
    kb_end(c->b);
}

static void emit_split(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    KCtx *k = c->k;
    TiledAxis *t = &row[level];
    if (t->rest < 0 && t->tile > 1) {
        emit_symbolic_rows(c, row, vec, level);
        return;
    }
    if (t->rest <= 0) {
        set_tile(c, row, level, k_mul(k, t->at, k_int(k, t->tile)), t->tile);
        emit_row_part(c, row, vec, level + 1);
        return;
    }
    if (t->n_full) {
        kb_if(c->b, k_lt(k, t->at, k_int(k, t->n_full)));
        const KExpr *at = kb_let_within(c->b, "t", t->at, t->n_full - 1);
        set_tile(c, row, level, k_mul(k, at, k_int(k, t->tile)), t->tile);
        emit_row_part(c, row, vec, level + 1);
        kb_else(c->b);
    }
    set_tile(c, row, level, k_int(k, t->n_full * t->tile), (int)t->rest);
    emit_row_part(c, row, vec, level + 1);
    if (t->n_full) kb_end(c->b);
}

/* The vector axis: full tiles, then a last tile with the vectors that remain. */
static void emit_vector_part(Contract *c, TiledAxis *row, TiledAxis *vec) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    int64_t n;
    if (!k_is_int(vec->extent, &n)) {
        c->vec_start = k_mul(k, vec->at, k_int(k, vec->tile));
        c->n_vecs = sch->n_vecs;
        if (sch->mask_right) { /* masks only where the last tile sticks out */
            const KExpr *n_full = k_fdiv(k, vec->extent, k_int(k, vec->tile));
            kb_if(c->b, k_lt(k, vec->at, n_full));
            c->masked = false;
            emit_split(c, row, vec, 0);
            kb_else(c->b);
        }
        c->masked = true;
        emit_split(c, row, vec, 0);
        if (sch->mask_right) kb_end(c->b);
        return;
    }
    int64_t n_full = n / vec->tile, rest = n % vec->tile;
    if (n_full) {
        if (rest) kb_if(c->b, k_lt(k, vec->at, k_int(k, n_full)));
        const KExpr *at = rest ? kb_let_within(c->b, "n", vec->at, n_full - 1) : vec->at;
        c->vec_start = k_mul(k, at, k_int(k, vec->tile));
        c->n_vecs = sch->n_vecs;
        c->masked = false;
        emit_split(c, row, vec, 0);
        if (rest) kb_else(c->b);
    }
    if (rest) {
        c->vec_start = k_int(k, n_full * vec->tile);
        c->n_vecs = (int)((rest + sch->lanes - 1) / sch->lanes);
        c->masked = rest % sch->lanes != 0; /* what finish reads along the axis may end there */
        emit_split(c, row, vec, 0);
        if (n_full) kb_end(c->b);
    }
}

/* The rows that the part has of a row axis. */
static TiledAxis row_tiles(const Contract *c, int which) {
    int axis = c->sch->row_axis[which];
    bool is_cut = c->cut && axis >= 0 && c->cut->row_axis == axis;
    const KExpr *extent = which      ? schedule_row_extent(c->k, c->s, c->sch)
                          : axis < 0 ? k_int(c->k, 1)
                                     : c->s->out->dims[axis];
    TiledAxis row = tiled_axis(c->k, axis, c->sch->rows[which], is_cut ? c->cut->rows : extent);
    if (which) share_rests(c->k, c->sch, &row);
    if (is_cut) row.first = c->cut->first;
    if (is_cut && c->cut->inside) row.last = extent->hi - 1;
    return row;
}

/* Computes the part's right factor for the vector tile. */
static void emit_wide(Contract *c, const TiledAxis *vec) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    const Stage *s = c->s;
    int64_t n, width = (int64_t)sch->n_vecs * sch->lanes, steps = contract_steps(c, 0);
    Binding bound = c->outer, red = {.n = 0};
    k_is_int(s->red_extent[0], &n);
    n /= c->n_parts;
    c->wide = kb_alloc(c->b, MEM_STACK, s->rhs->dtype, "wide", n * steps * width);
    bool in_copies = c->copies_axis == 0 && n % sch->unroll == 0;
    const KExpr *copies = k_int(k, in_copies ? sch->unroll : 1);
    const KExpr *first = k_mul(k, c->part, k_int(k, n));
    const KExpr *step = kb_for(c->b, LOOP_SERIAL, "k", k_fdiv(k, k_int(k, n), copies));
    step = k_add(k, k_mul(k, step, copies), kb_for(c->b, LOOP_UNROLL, "k", copies));
    binding_add(&red, s->red[0], k_add(k, first, step));
    for (int r = 1; r < s->n_red; r++)
        binding_add(&red, s->red[r], kb_for(c->b, LOOP_SERIAL, "k", s->red_extent[r]));
    const KExpr *v = kb_for(c->b, LOOP_UNROLL, "v", k_int(k, sch->n_vecs));
    const KExpr *lane = kb_for(c->b, LOOP_VECTOR, "l", k_int(k, sch->lanes));
    const KExpr *at = k_add(k, k_mul(k, v, k_int(k, sch->lanes)), lane);
    const KExpr *start = k_mul(k, vec->at, k_int(k, vec->tile));
    binding_add(&bound, s->axis[sch->vec_axis], k_add(k, start, at));
    for (int r = 0; r < red.n; r++) binding_add(&bound, red.var[r], red.by[r]);
    kb_store(c->b, c->wide, k_add(k, k_mul(k, contract_step_in_part(c, &red), k_int(k, width)), at),
             expr_open(c->p, k_subst(k, s->rhs, bound.var, bound.by, bound.n)));
    for (int i = 0; i < s->n_red + 3; i++) kb_end(c->b);
}

/* The parts of the reduction, and in each the tiles of rows (or vectors) of group `group`. */
static void emit_parts(Contract *c, TiledAxis *row, TiledAxis *vec, const KExpr *group) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    int64_t width = (int64_t)sch->n_vecs * sch->lanes;
    int64_t tile = (int64_t)sums_rows(&row[0], 0) * sums_rows(&row[1], 1) * width;
    bool streams = sch->vec_tiles > 1; /* a group of vector tiles, that is */
    int together = streams ? sch->vec_tiles : sch->row_tiles;
    const KExpr *all = streams ? vec->n_tiles : k_mul(k, row[0].n_tiles, row[1].n_tiles);
    const KExpr *most = k_int(k, together), *first = k_mul(k, group, most);
    const KExpr *n = k_min(k, most, k_sub(k, all, first));
    if (c->n_parts > 1)
        c->sums = kb_alloc(c->b, MEM_STACK, c->s->acc->dtype, "sums", tile * together);
    c->part = kb_for(c->b, LOOP_SERIAL, "part", k_int(k, c->n_parts));
    if (sch->widens) emit_wide(c, vec);
    c->row_tile = kb_for(c->b, LOOP_SERIAL, "tile", n);
    c->n_row_tiles = most;
    c->sums_at = k_mul(k, c->row_tile, k_int(k, tile));
    const KExpr *extent[] = {row[0].n_tiles, row[1].n_tiles}, *at[2];
    const KExpr *which = k_add(k, first, c->row_tile);
    if (streams) vec->at = kb_let_within(c->b, "t", which, all->hi - 1);
    kb_unflatten(c->b, "t", streams ? k_int(k, 0) : which, extent, 2, at);
    for (int i = 0; i < 2; i++) row[i].at = at[i];
    emit_vector_part(c, row, vec);
    kb_end(c->b);
    kb_end(c->b);
}

/* The row tiles of strip `strip`: of the outer row axis, or where that has one tile, of the
 * inner. */
static void emit_strip(Contract *c, TiledAxis *row, TiledAxis *vec, const KExpr *strip) {
    KCtx *k = c->k;
    int cut = k_is_value(row[0].n_tiles, 1);
    const KExpr *strips = k_int(k, c->sch->strips), *n = row[cut].n_tiles;
    const KExpr *from = k_fdiv(k, k_mul(k, strip, n), strips);
    const KExpr *to = k_fdiv(k, k_mul(k, k_add(k, strip, k_int(k, 1)), n), strips);
    from = kb_let_within(c->b, "from", from, n->hi - 1);
    const KExpr *t = kb_for(c->b, LOOP_SERIAL, "t", k_sub(k, to, from));
    row[cut].at = kb_let_within(c->b, "t", k_add(k, from, t), n->hi - 1);
    if (!cut) row[1].at = kb_for(c->b, LOOP_SERIAL, "t", row[1].n_tiles);
    if (cut) row[0].at = k_int(k, 0);
    /* a strip may have one tile more, which asks for what lies behind the next panel */
    c->row_tile = cut ? t : k_add(k, k_mul(k, t, row[1].n_tiles), row[1].at);
    c->n_row_tiles = k_fdiv(k, n, strips);
    if (!cut) c->n_row_tiles = k_mul(k, c->n_row_tiles, row[1].n_tiles);
    emit_vector_part(c, row, vec);
    if (!cut) kb_end(c->b);
    kb_end(c->b);
}

/* Extents of the parallel index: axes that are not tiled (listed in batch), then vector tiles and
 * row tiles or groups of them, or strips of rows and vector tiles, the last varying fastest.
 * Returns how many. */
static int tile_extents(const Contract *c, const TiledAxis *row, const TiledAxis *vec,
                        const KExpr **extent, int *batch, int *n_batch) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    int n = 0;
    *n_batch = 0;
    for (int i = 0; i < c->s->out->rank; i++) {
        if (i == sch->vec_axis || i == sch->row_axis[0] || i == sch->row_axis[1]) continue;
        if (schedule_is_joined(sch, i) || (c->cut && c->cut->at[i])) continue;
        batch[(*n_batch)++] = i;
        extent[n++] = c->s->out->dims[i];
    }
    if (c->strips > 1) {
        extent[n++] = k_int(k, c->strips);
        extent[n++] = vec->n_tiles;
        return n;
    }
    if (sch->vec_tiles > 1) {
        extent[n++] = k_fdiv(k, k_add(k, vec->n_tiles, k_int(k, sch->vec_tiles - 1)),
                             k_int(k, sch->vec_tiles));
        return n;
    }
    const KExpr *n_vec = c->cut && c->cut->n_vec ? c->cut->n_vec : vec->n_tiles;
    if (!sch->rows_outer) extent[n++] = n_vec;
    if (c->n_parts > 1 || sch->widens) {
        const KExpr *tiles = k_mul(k, row[0].n_tiles, row[1].n_tiles);
        const KExpr *up = k_add(k, tiles, k_int(k, sch->row_tiles - 1));
        extent[n++] = k_fdiv(k, up, k_int(k, sch->row_tiles));
    } else {
        extent[n++] = row[0].n_tiles;
        extent[n++] = row[1].n_tiles;
    }
    if (sch->rows_outer) extent[n++] = n_vec;
    return n;
}

/* One loop over all tiles, whose number is divided into their indices. Where it is serial and that
 * would be divisions by numbers that are not constant: a loop for each index. Returns how many. */
static int open_tiles(KBuild *b, KLoopMark mark, const KExpr *const *extent, int n,
                      const KExpr **index) {
    KCtx *k = b->k;
    const KExpr *total = k_int(k, 1);
    int n_loops = 0;
    int64_t constant;
    for (int i = 0; i < n; i++) total = k_mul(k, total, extent[i]);
    if (mark == LOOP_SERIAL && !k_is_int(total, &constant)) {
        for (int i = 0; i < n; i++) {
            index[i] = k_int(k, 0);
            if (k_is_value(extent[i], 1)) continue;
            index[i] = kb_for(b, LOOP_SERIAL, "t", extent[i]);
            n_loops++;
        }
        return n_loops;
    }
    kb_unflatten(b, "t", kb_for(b, mark, "tile", total), extent, n, index);
    return 1;
}

void schedule_open_contract(DefProgram *p, const Stage *s, const Schedule *sch,
                            const StagePart *part, KBuild *b) {
    Contract c = contract_begin(p, s, sch, b);
    KCtx *k = p->m->k;
    const KExpr *extent[MAX_RANK + 3], *index[MAX_RANK + 3];
    c.cut = part;
    if (!part) c.strips = sch->strips;
    c.fills_halo = !part && schedule_fills_halo(s);
    TiledAxis row[2] = {row_tiles(&c, 0), row_tiles(&c, 1)},
              vec =
                  tiled_axis(k, sch->vec_axis, sch->n_vecs * sch->lanes,
                             part && part->cut_axis == sch->vec_axis ? part->cut
                                                                     : s->out->dims[sch->vec_axis]);
    int batch[MAX_RANK], n_batch, n = tile_extents(&c, row, &vec, extent, batch, &n_batch);
    double work = 1;
    for (int i = 0; i < s->out->rank; i++) work *= (double)s->out->dims[i]->hi;
    for (int i = 0; i < s->n_red; i++) work *= (double)s->red_extent[i]->hi;
    bool is_small = work < PARALLEL_MACS * p->m->target->gflops;
    KLoopMark mark = is_small || part ? LOOP_SERIAL : LOOP_PARALLEL;
    int n_loops = open_tiles(b, mark, extent, n, index);
    for (int i = 0; i < n_batch; i++) binding_add(&c.outer, s->axis[batch[i]], index[i]);
    for (int i = 0; part && i < s->out->rank; i++)
        if (part->at[i]) binding_add(&c.outer, s->axis[i], part->at[i]);
    bool rows_first = sch->rows_outer || c.strips > 1;
    const KExpr **rows_at = &index[n_batch + !rows_first];
    vec.at = index[rows_first ? n - 1 : n_batch];
    if (part && part->vec_from)
        vec.at = kb_let_index(b, "t", k_add(k, part->vec_from, vec.at), vec.n_tiles);
    if (c.strips > 1) {
        emit_strip(&c, row, &vec, rows_at[0]);
    } else if (c.n_parts > 1 || sch->widens) {
        emit_parts(&c, row, &vec, sch->vec_tiles > 1 ? vec.at : rows_at[0]);
    } else {
        row[0].at = rows_at[0];
        row[1].at = rows_at[1];
        c.row_tile = k_add(k, k_mul(k, row[0].at, row[1].n_tiles), row[1].at);
        c.n_row_tiles = k_mul(k, row[0].n_tiles, row[1].n_tiles);
        emit_vector_part(&c, row, &vec);
    }
    while (n_loops--) kb_end(b);
}
