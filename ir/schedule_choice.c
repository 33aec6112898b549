/* Which schedule of a contraction costs least: tiles that fit the registers, and the loops around
 * them.
 *
 * Memory decides what is not in the tile: a panel of the right factor that outgrows a share of the
 * second level of cache is cut into parts; one that comes from beyond it is prefetched; and where
 * the right factor stays in that cache while the left one does not, rows become the outer loop. */
#include "ir/schedule_cost.h"

#include <stdlib.h>

enum {
    MAX_VECS = 8,
    MAX_ROWS = 14,      /* along the inner row axis */
    MAX_OUTER_ROWS = 4, /* along the other */
    SUMS_BYTES = 32768, /* of partial sums, on the stack */
    WIDE_BYTES = 32768, /* of a right factor that is computed on the way, there as well */
    MOST_STRIPS = 8,
    LEAST_STRIP = 3,        /* tiles of rows in a strip */
    LEAST_ASKING = 3,       /* tiles of rows that ask for lines which may be near */
    MOST_TAPS = 25,         /* of a depthwise convolution that is written out */
    PANEL = 2,              /* vectors of each panel where several are read at once */
    MOST_STRIDE = 1792,     /* bytes from one turn to the next: of more, nothing is fetched ahead */
    RUN_COPIES = 8,         /* of the innermost body in a run, whose codes share words */
    READS_IN_BRANCHES = 16, /* of the left factor in a body with branches around: each has a
                             * register for its address there */
    LEAST_BYTES = 4096,     /* smaller weights have one kernel for any number of rows */
    MAX_CANDIDATES = MAX_VECS * MAX_ROWS * MAX_OUTER_ROWS,
};

static int64_t known(const KExpr *e, int64_t otherwise) {
    int64_t n;
    return k_is_int(e, &n) ? n : otherwise;
}

/* ---- loops around the tile ------------------------------------------------------------------- */

/* Copies of the innermost body: a divisor of its extent, no more than lines can be fetched ahead
 * for. None for the taps of a window that slides along the rows: the copies would read the same
 * elements, and keep them in registers for that. */
static int copies(KCtx *k, const Stage *s, const Schedule *sch, int axis, int64_t extent,
                  int elem) {
    bool skips;
    int64_t step_bytes = s->run ? 0 : (int64_t)schedule_panel_width(sch) * elem;
    int reads = sch->skips ? sch->rows[0] * sch->rows[1] : 0; /* with branches around them */
    if (cost_slides(k, s, sch, axis, &skips)) return 1;
    for (int n = s->run ? RUN_COPIES : 4; n > 1; n--)
        if (extent % n == 0 && n * step_bytes <= MOST_STRIDE && n * reads <= READS_IN_BRANCHES)
            return n;
    return 1;
}

static int64_t row_tiles(const Sizes *z, const Schedule *sch) {
    int64_t n = 1;
    for (int i = 0; i < 2; i++)
        n = saturated_product(n, (z->rows[i] + sch->rows[i] - 1) / sch->rows[i]);
    return n;
}

/* Into how many equal parts to cut `units` steps of the outermost reduction loop so that a panel of
 * this many bytes fits; 1 when that is not possible. */
static int find_parts(int64_t units, int64_t panel_bytes, int64_t fit) {
    int64_t least = (panel_bytes + fit - 1) / fit;
    for (int64_t n = least; n <= 2 * least && n <= units; n++)
        if (units % n == 0) return (int)n;
    return 1;
}

/* Row tiles that share a part of a panel: as many as keep their sums near. */
static int tiles_together(int64_t tiles, int64_t tile_bytes) {
    int64_t most = SUMS_BYTES / tile_bytes > 1 ? SUMS_BYTES / tile_bytes : 1;
    int64_t groups = (tiles + most - 1) / most;
    return (int)((tiles + groups - 1) / groups);
}

static int64_t bytes_of_tile(const Schedule *sch, int elem) {
    return (int64_t)sch->rows[0] * sch->rows[1] * sch->n_vecs * sch->lanes * elem;
}

/* Strips of rows, where reading the right factor once for each costs less than what threads would
 * otherwise exchange: the tensor that is made, and the left factor. All of them have to stay in the
 * second level of cache, so that each strip but the first finds the right factor there. */
static void set_strips(const Target *t, const Sizes *z, Schedule *sch) {
    int64_t outer = (z->rows[0] + sch->rows[0] - 1) / sch->rows[0];
    int64_t tiles = outer > 1 ? outer : (z->rows[1] + sch->rows[1] - 1) / sch->rows[1];
    int64_t made = saturated_product(saturated_product(z->rows[0], z->rows[1]),
                                     z->vecs * sch->lanes * z->elem);
    sch->strips = 1;
    if (sch->parts > 1 || sch->rows_outer || sch->prefetch || z->batch > 1 || z->is_free) return;
    if (z->vecs <= sch->n_vecs || z->right_bytes > t->l2_bytes / 4) return;
    if (made > t->l2_bytes / 2 || z->left_bytes > t->l2_bytes / 2) return;
    if (z->right_bytes + z->left_bytes + made > t->l2_bytes / 2) return;
    if (made < z->right_bytes && z->left_bytes < z->right_bytes - made) return;
    while (sch->strips < MOST_STRIPS && sch->strips * 2 * LEAST_STRIP <= tiles) sch->strips *= 2;
}

/* Which remainders of the inner rows take less time together with the last whole tile: of 14 rows
 * in tiles of 6, 8 are done by fours rather than 2. */
static void share_rests(const Target *t, const Sizes *z, Schedule *sch) {
    int tile = sch->rows[1], by = schedule_rest_rows(1, tile);
    sch->shared_rests = 0;
    if (!z->is_free_row[1] || sch->parts > 1 || tile == by) return;
    double whole = cost_tile(t, z, sch, (int64_t)sch->rows[0] * tile, sch->n_vecs);
    double few = cost_tile(t, z, sch, (int64_t)sch->rows[0] * by, sch->n_vecs);
    for (int rest = 1; rest < tile; rest++) {
        int alone = (rest + by - 1) / by, together = (rest + tile + by - 1) / by;
        if (together * few < whole + alone * few) sch->shared_rests |= 1 << rest;
    }
}

/* Weights that few rows wait for come in several streams where no near cache holds them, of panels
 * as wide as those for many rows mostly are, so that two versions of a model can share them. What
 * the second level may hold from the last call or step comes fastest in one. */
static void set_panel(const Target *t, const Sizes *z, Schedule *sch, int64_t tiles) {
    bool is_behind = cost_is_stream(t, z) && z->right_bytes > t->l2_bytes;
    bool is_wide = sch->n_vecs > PANEL && !(sch->n_vecs % PANEL);
    if (is_behind && tiles == 1 && !sch->panel && is_wide) sch->panel = PANEL;
}

/* Everything but the tile. */
static void set_loops(KCtx *k, const Stage *s, const Target *t, const Sizes *z, Schedule *sch) {
    int blocks[MAX_RED], last = schedule_contract_blocks(k, s, blocks);
    int64_t extent = known(s->red_extent[last], 0), first = known(s->red_extent[0], 0);
    int64_t tiles = row_tiles(z, sch), fit = t->l2_bytes / 8;
    int64_t panel = saturated_product(z->steps, (int64_t)sch->n_vecs * sch->lanes * z->elem);
    int64_t turns = blocks[last] > 1 && extent > blocks[last] ? blocks[last] : extent;
    set_panel(t, z, sch, tiles);
    sch->unroll = extent ? copies(k, s, sch, last, turns, z->elem) : 1;
    sch->parts = sch->row_tiles = 1;
    int64_t unit = blocks[0] > 1 ? blocks[0] : last == 0 ? sch->unroll : 1;
    if (tiles > 1 && first && first % unit == 0 && panel > fit + fit / 2)
        sch->parts = find_parts(first / unit, panel, fit);
    if (sch->parts > 1) sch->row_tiles = tiles_together(tiles, bytes_of_tile(sch, z->elem));
    /* rows of the result that go into memory go there as a whole */
    int64_t made = saturated_product(saturated_product(z->rows[0], z->rows[1]),
                                     z->vecs * sch->lanes * z->elem);
    bool writes = made > t->l2_bytes && z->left_bytes <= made / 8 && s->out->layout.block <= 1;
    bool streams = z->left_bytes > t->l2_bytes / 2 || (writes && !z->is_free);
    /* a panel that the first level does not keep comes from the second one either way; rows of dense
     * tensors are streams, which cost little to read again */
    bool is_second = panel > t->l1_bytes && s->out->layout.block > 1;
    int64_t most = t->l2_bytes / (is_second ? 2 : 4);
    sch->rows_outer = sch->parts == 1 && z->vecs > sch->n_vecs && streams &&
                      z->right_bytes <= most && !z->is_shared;
    bool is_far = z->is_const && z->right_bytes > t->l2_bytes / 4;
    bool comes_alone = cost_is_stream(t, z) && (z->right_bytes <= t->l2_bytes || cost_is_cut(sch));
    sch->prefetch = is_far && !sch->rows_outer && !comes_alone;
    /* registers for sums, a step's vectors and what neighbours share */
    int64_t values = sch->blends ? sch->n_vecs : 1, kept = (sch->n_vecs + values) * z->taps;
    kept += (int64_t)sch->rows[0] * sch->rows[1] * sch->n_vecs;
    sch->near_taps = z->taps > 1 && (sch->n_vecs == 1 || sch->blends) && !z->is_shared &&
                     !sch->skips && sch->parts == 1 && kept < t->n_vector_regs;
    /* several rows of a map leave no registers for what taps share */
    sch->all_taps = z->is_shared && sch->rows[0] == 1 && z->steps <= MOST_TAPS && sch->parts == 1;
    if (sch->all_taps) sch->unroll = 1;
    share_rests(t, z, sch);
    set_strips(t, z, sch);
    /* what the first level does not keep may come from anywhere: other layers were here since */
    bool may_be_far = z->is_const && z->right_bytes > t->l1_bytes && tiles >= LEAST_ASKING;
    sch->prefetch |= may_be_far && !z->is_free && !sch->rows_outer;
}

/* ---- candidates ------------------------------------------------------------------------------ */

typedef struct Candidate {
    Schedule sch;
    double cycles;
    int at; /* in order of making: sorting is stable */
} Candidate;

static int by_cycles(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->cycles != y->cycles) return x->cycles < y->cycles ? -1 : 1;
    return x->at - y->at;
}

/* Do accumulators, a step's vectors, a broadcast and perhaps products fit the register file? Taps
 * that are written out (a depthwise window) are on their way a row of them at a time. */
static bool fits(const Target *t, const Sizes *z, const Schedule *sch) {
    int sums = sch->rows[0] * sch->rows[1] * sch->n_vecs * (1 + z->has_runs);
    int others = (t->n_vector_regs <= 16 ? 1 : 2) + z->is_pairs + 2 * z->has_runs;
    if (z->is_shared && z->steps <= MOST_TAPS) others += (int)z->taps;
    return sums + sch->n_vecs + others <= t->n_vector_regs;
}

/* Does a tile of its vectors stay inside of a group of the vector axis? */
static bool fits_group(const Schedule *sch) {
    int vecs = sch->n_vecs, group = sch->group;
    if (sch->blends) return vecs == 1 || vecs % schedule_group_period(sch) == 0;
    return !group || (group == 1 ? vecs == 1 : group % (vecs * sch->lanes) == 0);
}

int schedule_contract_candidates(DefProgram *p, const Stage *s, const Target *t,
                                 const Schedule *axes, Schedule *out, int max) {
    Sizes z = cost_sizes(p->m->k, s, axes);
    Candidate *all = xmalloc(MAX_CANDIDATES * sizeof *all);
    int n = 0;
    for (int v = 1; v <= MAX_VECS && v <= z.vecs; v++)
        for (int r1 = 1; r1 <= MAX_ROWS && r1 <= z.rows[1]; r1++)
            for (int r0 = 1; r0 <= MAX_OUTER_ROWS && r0 <= z.rows[0]; r0++) {
                Schedule sch = *axes;
                sch.n_vecs = v;
                sch.rows[0] = r0;
                sch.rows[1] = r1;
                /* several outer rows only where the inner axis is short */
                if (!fits(t, &z, &sch) || !fits_group(&sch) || (r0 > 1 && r1 < z.rows[1])) continue;
                set_loops(p->m->k, s, t, &z, &sch);
                all[n] = (Candidate){sch, cost_stage(t, &z, &sch), n};
                n++;
            }
    qsort(all, (size_t)n, sizeof *all, by_cycles);
    for (int i = 0; i < n && i < max; i++) out[i] = all[i].sch;
    free(all);
    return n;
}

void schedule_contract_tile(DefProgram *p, const Stage *s, const Target *t, Schedule *sch) {
    Schedule axes = *sch;
    int n = schedule_contract_candidates(p, s, t, &axes, sch, 1);
    BUG_IF(!n, "no tile fits the registers");
}

/* ---- a right factor that is read as it lies -------------------------------------------------- */

void schedule_contract_stream(KCtx *k, const Stage *s, const Target *t, Schedule *sch) {
    enum { STEPS = 8, LEAST_STEPS = 4, MOST_STEPS = 16, STRETCH_BYTES = 4096, LEAST_GROUPS = 4 };
    enum { FAR_ROW_BYTES = 8192 }; /* from one row to the next: nearer ones are fetched ahead */
    int blocks[MAX_RED];
    int64_t n_vec, steps, tiles, elem = dtype_bytes(s->rhs->dtype);
    Sizes z = cost_sizes(k, s, sch);
    int last = schedule_contract_blocks(k, s, blocks), best = 0;
    if (s->n_red != 1 || last || blocks[0] > 1 || sch->matrix || sch->group || z.batch > 1) return;
    if (sch->rows_outer || sch->parts > 1 || row_tiles(&z, sch) > 1) return;
    if (!k_is_int(s->out->dims[sch->vec_axis], &n_vec) || !k_is_int(s->red_extent[0], &steps))
        return;
    if (z.is_free || z.right_bytes <= t->l2_bytes / 2 || n_vec * elem < FAR_ROW_BYTES) return;
    tiles = (n_vec + (int64_t)sch->n_vecs * sch->lanes - 1) / ((int64_t)sch->n_vecs * sch->lanes);
    for (int n = LEAST_STEPS; n <= MOST_STEPS; n++)
        if (steps % n == 0 && (!best || abs(n - STEPS) <= abs(best - STEPS))) best = n;
    int64_t together = STRETCH_BYTES / (sch->n_vecs * sch->lanes * elem);
    if (together > tiles / LEAST_GROUPS) together = tiles / LEAST_GROUPS;
    if (!best || together < 2) return;
    sch->vec_tiles = (int)together;
    sch->parts = (int)(steps / best);
    sch->row_tiles = 1;
    sch->unroll = best;
    sch->strips = 1;
}

/* ---- a right factor that takes arithmetic ---------------------------------------------------- */

/* Do lanes read e as neighbours, with a whole panel of memory behind each part of it? */
typedef struct PanelReads {
    int width;
    bool fits;
} PanelReads;

static void note_panel_read(const KExpr *e, void *user) {
    PanelReads *r = user;
    if (e->op != KO_at) return;
    const KTensor *t = e->u.tensor;
    r->fits &= t->data && !at_pred(e) && (t->layout.block == r->width || t->rank == 0);
}

void schedule_contract_widen(KCtx *k, const Stage *s, Schedule *sch) {
    int blocks[MAX_RED];
    int64_t first = 0, n_vec, inner = 1, extent;
    Sizes z = cost_sizes(k, s, sch);
    PanelReads reads = {schedule_panel_width(sch), true};
    if (s->rhs->op == KO_at || sch->matrix || sch->winograd || sch->group || z.batch > 1) return;
    int last = schedule_contract_blocks(k, s, blocks);
    k_visit(k, s->rhs, note_panel_read, &reads);
    int width = sch->n_vecs * sch->lanes;
    if (!reads.fits || reads.width != width || row_tiles(&z, sch) < 2) return;
    for (int r = 0; r < s->n_red; r++) {
        if (!k_is_int(s->red_extent[r], &extent)) return;
        if (r)
            inner = saturated_product(inner, extent);
        else
            first = extent;
    }
    int64_t unit = blocks[0] > 1 ? blocks[0] : last == 0 ? sch->unroll : 1;
    if (!k_is_int(s->out->dims[sch->vec_axis], &n_vec) || first % unit) return;
    int64_t bytes = saturated_product(saturated_product(first, inner), width * z.elem);
    int parts = bytes > WIDE_BYTES ? find_parts(first / unit, bytes, WIDE_BYTES) : 1;
    if (bytes / parts > 2 * WIDE_BYTES) return;
    sch->widens = true;
    sch->parts = parts;
    sch->row_tiles = tiles_together(row_tiles(&z, sch), bytes_of_tile(sch, z.elem));
    sch->strips = 1;
    sch->shared_rests = 0;
    sch->rows_outer = false;
}

/* ---- few rows of a free number --------------------------------------------------------------- */

/* The best schedule for from..to rows over the panels of `of`; false where that is hardly better
 * than `of` itself. */
static bool choose_few(KCtx *k, const Stage *s, const Target *t, const Sizes *z, const Schedule *of,
                       int64_t from, int64_t to, Schedule *out) {
    int panel = of->panel ? of->panel : of->n_vecs;
    double best = 0;
    for (int64_t n = from; n <= to; n++) best += 0.97 * cost_rows(t, z, of, n);
    bool found = false;
    for (int v = panel; v <= MAX_VECS && v <= z->vecs; v += panel)
        for (int r = 1; r <= MAX_ROWS && r <= to; r++) {
            Schedule sch = *of;
            Sizes few = *z;
            double cycles = 0;
            sch.n_vecs = v;
            sch.rows[1] = r;
            sch.panel = panel;
            few.rows[1] = to;
            bool leaves_rest = r % schedule_rest_rows(1, r); /* of which fours are not the end */
            if (!fits(t, z, &sch) || !fits_group(&sch) || leaves_rest) continue;
            set_loops(k, s, t, &few, &sch);
            for (int64_t n = from; n <= to; n++) cycles += cost_rows(t, z, &sch, n);
            if (cycles >= best) continue;
            best = cycles;
            *out = sch;
            found = true;
        }
    return found;
}

void schedule_contract_few(DefProgram *p, const Stage *s, const Target *t, Schedule *sch) {
    enum { NARROW = 4, SMALL_MAP = 16 }; /* of small maps, some may be narrow */
    static const int counts[] = {24, 8, NARROW, 1, 0}, widths[] = {NARROW, 0};
    KCtx *k = p->m->k;
    int64_t known_rows;
    if (sch->row_axis[1] < 0 || sch->rows[1] <= 1) return;
    if (k_is_int(schedule_row_extent(k, s, sch), &known_rows)) return;
    Sizes z = cost_sizes(k, s, sch);
    if (!z.is_const || z.is_shared || z.right_bytes < LEAST_BYTES) return;
    if (z.is_guessed && z.rows[1] > SMALL_MAP) return;
    const int *most = z.is_guessed ? widths : counts;
    Schedule *of = sch;
    for (int i = 0; most[i]; i++) {
        Schedule few;
        if (!choose_few(k, s, t, &z, of, most[i + 1] + 1, most[i], &few)) continue;
        few.few_rows = 0;
        of->few = arena_copy(p->arena, &few, sizeof few);
        of->few_rows = most[i];
        of = of->few;
    }
}

/* Loops around the tile: none. A block is all there is. */
static void drop_loops(Schedule *sch) {
    sch->n_joined = sch->shared_rests = 0;
    sch->parts = sch->row_tiles = sch->strips = 1;
    sch->rows_outer = sch->prefetch = sch->widens = false;
}

void schedule_few_in_block(Schedule *few, const Schedule *sch) {
    for (int i = 0; i < 2; i++) few->row_axis[i] = sch->row_axis[i];
    drop_loops(few);
}

double schedule_contract_rows(const Target *t, Schedule *sch, int row_axis, int64_t n) {
    Sizes z = {.steps = 1, .elem = 4};
    double best = 1e300;
    sch->row_axis[0] = -1;
    sch->row_axis[1] = row_axis;
    sch->rows[0] = 1;
    drop_loops(sch);
    for (int r = 1; r <= MAX_ROWS && r <= n; r++) {
        Schedule tried = *sch;
        tried.rows[1] = r;
        tried.unroll = 1;
        tried.all_taps = tried.near_taps = false;
        if (r > 1 && !fits(t, &z, &tried)) continue;
        double cost = (double)(n / r) * (cost_step(t, &z, &tried, r, sch->n_vecs, 1) + 0.15);
        if (n % r) cost += cost_step(t, &z, &tried, n % r, sch->n_vecs, 1) + 0.15;
        if (cost >= best * 0.999) continue;
        best = cost;
        sch->rows[1] = r;
    }
    return best;
}
