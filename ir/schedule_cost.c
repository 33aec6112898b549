/* What a contraction costs under a schedule, and which schedule costs least.
 *
 * A tile of rows x vectors does, in each step of its reduction, rows*vectors multiply-adds, loads
 * `vectors` vectors of the right factor and broadcasts `rows` elements of the left one. The step
 * takes as long as the busiest of: multiply-add ports, load ports, the front end, and the latency
 * of one accumulator. A tile costs its steps and what surrounds them (init, store, a mispredicted
 * end of the loop); a stage costs its tiles, those of the remainders included. All in cycles of one
 * core, from the numbers of ir/targets.def.
 *
 * Memory decides what is not in the tile: a panel of the right factor that outgrows a share of the
 * second level of cache is cut into parts; one that comes from beyond it is prefetched; and where
 * the right factor stays in that cache while the left one does not, rows become the outer loop. */
#include "ir/schedule.h"

#include <stdlib.h>

enum {
    MAX_VECS = 8,
    MAX_ROWS = 14,      /* along the inner row axis */
    MAX_OUTER_ROWS = 4, /* along the other */
    SUMS_BYTES = 32768, /* of partial sums, on the stack */
    WIDE_BYTES = 32768, /* of a right factor that is computed on the way, there as well */
    MOST_STRIPS = 8,
    LEAST_STRIP = 3,         /* tiles of rows in a strip */
    LEAST_ASKING = 3,        /* tiles of rows that ask for lines which may be near */
    MOST_NEAR = 7,           /* of a row, that are written out */
    MOST_TAPS = 25,          /* of a depthwise convolution that is written out */
    ALL_TAPS_START = 6,      /* cycles before such a tile, */
    ALL_TAPS_OVERLAP = 4,    /* most of which the tile before it takes where it can */
    SECOND_LEVEL_BYTES = 32, /* what the second level of cache gives in a cycle */
    STREAM_BYTES = 64,       /* and what lies behind it: most of the time for it is hidden */
    FAR_BYTES = 10,          /* weights that are read once, in one stretch, come at this rate, */
    MORE_PERCENT = 6,        /* and in several at once so much faster, */
    PANEL = 2,               /* vectors each; */
    STREAM_ROWS = 4,         /* more rows than that leave time to ask for them early */
    RUN_COPIES = 8,          /* of the innermost body in a run, whose codes share words */
    READS_IN_BRANCHES = 16,  /* of the left factor in a body with branches around: each has a
                              * register for its address there */
    LEAST_BYTES = 4096,      /* smaller weights have one kernel for any number of rows */
    LARGE = 1 << 20,         /* sizes of which nothing is known: rows, */
    SOME = 256,              /* and others */
    MAX_CANDIDATES = MAX_VECS * MAX_ROWS * MAX_OUTER_ROWS,
};

/* Sizes of a stage as the model sees them; what is symbolic counts as large. */
typedef struct Sizes {
    int64_t vecs, rows[2], batch, steps;
    int64_t right_bytes, left_bytes;
    int64_t taps;        /* of the innermost axis that neighbours share; 1: none */
    bool skips;          /* rows are further apart than taps, as with a stride of two */
    bool is_shared;      /* both factors are vectors */
    bool is_const;       /* the right factor is made of constants */
    bool is_free_row[2]; /* there are more or fewer rows in each call, outer and inner */
    bool is_free;        /* of either */
    bool is_free_vec;    /* and of lanes */
    bool is_guessed;     /* and how many there probably are is known */
    bool is_fetched;     /* and what brings it to the first level of cache is counted elsewhere */
    int elem;
    bool is_pairs;    /* a step is a multiplication of pairs and an addition */
    bool has_runs;    /* with sums of their own: each sum takes two registers */
    double right_ops; /* what a vector of the right factor takes besides loads, in such a stage */
    int n_tap_rows;   /* axes with taps that tiles may leave out */
    TapRows tap_rows[MAX_TAP_AXES];
} Sizes;

typedef struct Reads {
    int64_t bytes;
    int64_t free; /* what a size counts as that is neither known nor guessed */
    bool is_const;
} Reads;

static int64_t product(int64_t a, int64_t b) {
    int64_t c;
    return __builtin_mul_overflow(a, b, &c) ? INT64_MAX : c;
}

static int64_t known(const KExpr *e, int64_t otherwise) {
    int64_t n;
    return k_is_int(e, &n) ? n : otherwise;
}

static void note_read(const KExpr *e, void *user) {
    Reads *r = user;
    if (e->op == KO_var && e->u.var->kind == KV_SYMBOL) r->is_const = false;
    if (e->op != KO_at) return;
    int64_t bytes = dtype_bytes(e->u.tensor->dtype);
    for (int i = 0; i < e->u.tensor->rank; i++)
        bytes = product(bytes, k_guess(e->u.tensor->dims[i], r->free));
    r->bytes = r->bytes > INT64_MAX - bytes ? INT64_MAX : r->bytes + bytes;
    r->is_const &= e->u.tensor->data != NULL;
}

/* Operations of vectors in e. Indices of its reads are none. */
static void note_operation(const KExpr *e, void *user) {
    *(double *)user += e->dtype != DT_I64 && kop_info[e->op].class == KC_ARITH;
}

typedef struct Window {
    KCtx *k;
    KVar *red;
    const KExpr *extent; /* of red */
    const Stage *s;
    const Schedule *sch;
    bool slides, skips; /* skips: rows are further apart than taps */
} Window;

/* Do neighbouring rows read at some of the places that e walks over with the reduction? Rows
 * further apart (heads within a row of a matrix) do not. */
static bool index_slides(Window *w, const KExpr *e, int row_axis) {
    KVar *row = w->s->axis[row_axis];
    const KExpr *base, *by_row, *by_red;
    int64_t step, tap, extent;
    if (!k_uses_var(w->k, e, w->red) || !k_uses_var(w->k, e, row)) return false;
    bool is_known = k_linear_in(w->k, e, row, &base, &by_row) && k_is_int(by_row, &step) &&
                    k_linear_in(w->k, e, w->red, &base, &by_red) && k_is_int(by_red, &tap) &&
                    k_is_int(w->extent, &extent) && extent < INT32_MAX;
    w->skips |= is_known && llabs(step) > llabs(tap);
    return !is_known || tap > INT32_MAX || tap < -INT32_MAX || llabs(step) < llabs(tap) * extent;
}

static void note_window(const KExpr *e, void *user) {
    Window *w = user;
    for (int i = 0; e->op == KO_at && i < e->n_args; i++)
        for (int r = 0; r < 2; r++)
            w->slides |=
                w->sch->row_axis[r] >= 0 && index_slides(w, e->arg[i], w->sch->row_axis[r]);
}

/* Sets taps: those of the innermost axis that neighbours along the rows have in common; 1 where
 * there are none, or too many to write out. */
static void set_shared_taps(KCtx *k, const Stage *s, const Schedule *sch, Sizes *z) {
    int last = s->n_red - 1;
    int64_t taps;
    z->taps = 1;
    if (last < 1 || !k_is_int(s->red_extent[last], &taps) || taps > MOST_NEAR) return;
    Window w = {k, s->red[last], s->red_extent[last], s, sch, false, false};
    k_visit(k, s->lhs, note_window, &w);
    if (w.slides) z->taps = taps;
    z->skips = w.skips;
}

int schedule_group_period(const Schedule *sch) {
    return sch->group / (int)common_divisor(sch->group, sch->lanes);
}

static Sizes sizes_of(KCtx *k, const Stage *s, const Schedule *sch) {
    Sizes z = {.batch = 1, .steps = 1, .elem = dtype_bytes(s->acc->dtype), .rows = {1, 1}};
    Reads left = {.free = 1, .is_const = true}, right;
    for (int i = 0; i < s->out->rank; i++) {
        bool is_row = i == sch->row_axis[1];
        const KExpr *extent = is_row ? schedule_row_extent(k, s, sch) : s->out->dims[i];
        int64_t n = k_guess(extent, LARGE), number;
        if (schedule_is_joined(sch, i)) continue;
        bool is_any_row = is_row || i == sch->row_axis[0];
        bool is_free = is_any_row && !k_is_int(extent, &number);
        z.is_free |= is_free;
        z.is_guessed |= is_free && k_is_guessed(extent);
        if (is_any_row) z.is_free_row[is_row] = is_free;
        /* where rows are known, the other free size is the batch, of which one counts there too */
        if (is_free && n == LARGE) left.free = SOME;
        if (i == sch->vec_axis) {
            z.vecs = (n + sch->lanes - 1) / sch->lanes;
            z.is_free_vec = !k_is_int(extent, &number) && !k_is_guessed(extent);
        } else if (is_any_row)
            z.rows[is_row] = n;
        else
            z.batch = product(z.batch, k_guess(s->out->dims[i], 1));
    }
    for (int r = 0; r < s->n_red; r++) z.steps = product(z.steps, k_guess(s->red_extent[r], SOME));
    right = left;
    k_visit(k, s->lhs, note_read, &left);
    k_visit(k, s->rhs, note_read, &right);
    z.is_pairs = s->dot == KO_dot2_ss;
    z.has_runs = s->run != NULL;
    if (s->run) k_visit(k, s->rhs, note_operation, &z.right_ops);
    z.is_shared = sch->group == 1 && !sch->permutes;
    set_shared_taps(k, s, sch, &z);
    z.is_const = right.is_const;
    z.left_bytes = left.bytes;
    z.right_bytes = right.bytes;
    z.n_tap_rows = schedule_tap_rows(k, s, sch, z.tap_rows);
    return z;
}

/* ---- cycles ---------------------------------------------------------------------------------- */

static double largest(double a, double b) {
    return a > b ? a : b;
}

static double smallest(double a, double b) {
    return a < b ? a : b;
}

int schedule_chains(const Target *t, const Schedule *sch, int64_t rows, int64_t vecs) {
    int64_t sums = rows * vecs, busy = (int64_t)t->fma_latency * t->fma_ports;
    bool fits_registers = sums * sch->unroll <= t->n_vector_regs / 2;
    /* the rest of larger tiles has other tiles to overlap with, and sums its rows as they do */
    bool is_row = sch->rows[0] * sch->rows[1] == 1;
    return is_row && sch->parts <= 1 && sums < busy && fits_registers ? sch->unroll : 1;
}

/* Elements of the left factor that a step of so many rows reads, on average. */
static double read_places(const Sizes *z, const Schedule *sch, int64_t rows) {
    if (!sch->near_taps) return (double)rows;
    double taps = (double)z->taps, inner = (double)sch->rows[1];
    return (double)rows * (1 + (taps - 1) / inner) / taps;
}

/* What n permutations or blends of vectors cost beside so many multiply-adds, in multiply-adds:
 * vectors of 64 bytes have them on the same ports, others on one of their own. */
static double moves(const Target *t, double n, double fmas) {
    if (t->vector_bytes >= 64) return n;
    return largest(0, n * t->fma_ports - fmas);
}

/* Blends for one place of the left factor and so many vectors, in instructions. Where tiles do not
 * begin with groups, which lanes are blended is not known before it runs: vectors in which groups
 * end have all blends, one instruction each on machines with masks. */
static double blends_of(const Target *t, const Schedule *sch, int64_t vecs) {
    int period = schedule_group_period(sch);
    bool is_known = sch->n_vecs % period == 0;
    int n = 0, most = 0, n_mixed = 0;
    for (int v = 0; v < period; v++) {
        int here = schedule_groups_at((int64_t)v * sch->lanes, sch->lanes, sch->group) - 1;
        n += here;
        n_mixed += here > 0;
        if (here > most) most = here;
    }
    double each = t->mask_bytes == 1 ? 1.0 : 2.5;
    each = is_known ? (double)n : n_mixed * most * each;
    return each / period * (double)vecs;
}

/* One step of the reduction of a tile. */
static double step_cycles(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows,
                          int64_t vecs, int chains) {
    double unroll = sch->unroll, fmas = (double)(rows * vecs), loads = (double)(rows + vecs);
    /* a broadcast that is used once is part of its multiply-add, but not of pairs */
    bool is_part = vecs == 1 && !z->is_pairs;
    double others = (double)vecs + (is_part ? 0 : (double)rows) + 3.0 / unroll;
    others += z->right_ops * (double)vecs;
    /* taps that are all written out overlap with those of the next tile */
    double latency = (double)t->fma_latency / (sch->all_taps ? 2 : chains);
    double line = (double)(vecs * t->vector_bytes);
    double instructions = fmas;
    if (z->is_pairs) { /* two instructions, of which only the second one waits for the sum */
        instructions *= 2;
        fmas *= 2.0 * t->fma_ports / t->add_ports;
        latency = 1;
    } else if (!t->fma) { /* two instructions */
        instructions = fmas *= 2;
        latency *= 2;
    }
    /* neighbouring taps read mostly the same */
    if (z->is_shared) loads = (double)(rows * vecs) * (sch->all_taps ? 0.5 : 1) + (double)vecs;
    if (sch->near_taps) { /* what is loaded is kept for all taps of an element */
        double reads = read_places(z, sch, rows);
        loads = reads + (double)vecs;
        others = (double)vecs + reads;
    }
    if (sch->blends) {
        double reads = read_places(z, sch, rows), blends = reads * blends_of(t, sch, vecs);
        loads += blends;
        others += blends;
        fmas += moves(t, blends, fmas);
    }
    if (sch->permutes) fmas += moves(t, read_places(z, sch, rows), fmas);
    /* load ports are never as full as multiply-add ports */
    double cycles = largest(fmas / t->fma_ports, 1.15 * loads / t->load_ports);
    cycles = largest(largest(cycles, latency), (instructions + others) / t->issue);
    /* what only one tile of rows reads was not read before */
    bool is_near = product(z->rows[0], z->rows[1]) > rows || z->right_bytes <= t->l1_bytes / 2;
    double again = sch->rows_outer ? (double)z->right_bytes : (double)z->steps * line;
    if (z->is_fetched || (is_near && again <= t->l1_bytes / 2)) return cycles;
    /* a panel that each tile of rows reads from the second level again: at most at its rate, and
     * some of that time shows in any case */
    double second = line + (double)(rows * z->elem);
    return largest(cycles, line / SECOND_LEVEL_BYTES) + 0.1 * second / SECOND_LEVEL_BYTES;
}

/* What the next tile does while this one ends, which it can where the machine looks so far ahead
 * that it sees the whole of a tile and has registers for both. Measured, in cycles: 24 to 28 of
 * tiles that keep the multiply-add ports busy, fewer of those that wait for their sums. Of taps that
 * are written out there is no branch to wait for either: 29 cycles for 5 sums of 9 taps, 85 for 14;
 * strides of two wait for what brings them twice as much. */
static double overlap_cycles(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows,
                             int64_t vecs) {
    double sums = (double)(rows * vecs), left = t->n_vector_regs - 2 - sums;
    double instructions = (double)z->steps * (sums + (double)(rows + vecs));
    if (left <= 0 || instructions >= t->window || sch->near_taps) return 0;
    if (sch->all_taps) return z->skips ? 0 : ALL_TAPS_OVERLAP;
    double cycles = smallest(28, smallest(2 * sums, 3.5 * left));
    return cycles * smallest(1, 3 * (1 - instructions / t->window));
}

/* A tile: its steps, and around them a start, a store and a mispredicted branch for each part. */
static double tile_cycles(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows,
                          int64_t vecs) {
    int chains = schedule_chains(t, sch, rows, vecs);
    double sums = (double)(rows * vecs) * chains;
    double around = (sch->all_taps ? ALL_TAPS_START : 20) + 1.5 * sums;
    return (double)z->steps * step_cycles(t, z, sch, rows, vecs, chains) +
           sch->parts * (around - overlap_cycles(t, z, sch, rows, vecs));
}

typedef struct Tiles {
    int64_t n, size;
} Tiles;

/* The tiles of an axis: whole ones and the rest, which goes by `few` rows where that is not 0. */
static void tiles_of(int64_t all, int64_t tile, int few, int shared_rests, Tiles t[2]) {
    int64_t whole = all / tile, rest = all % tile;
    if (few && whole && (shared_rests >> rest & 1)) {
        whole--;
        rest += tile;
    }
    t[0] = (Tiles){whole, tile};
    t[1] = few ? (Tiles){(rest + few - 1) / few, few} : (Tiles){rest > 0, rest};
}

/* Weights that are not near and that few rows wait for. */
static bool is_stream(const Target *t, const Sizes *z) {
    bool is_far = z->is_const && z->right_bytes > t->l2_bytes / 4;
    return is_far && product(z->rows[0], z->rows[1]) <= STREAM_ROWS;
}

/* Does a tile read several panels at once? */
static bool is_cut(const Schedule *sch) {
    return sch->panel && sch->panel < sch->n_vecs;
}

/* Vectors that tiles compute. The last tile along a free axis is whole, under a mask, and the axis
 * may end soon: the words of a text do. */
static int64_t whole_vecs(const Sizes *z, const Schedule *sch) {
    if (!z->is_free_vec) return z->vecs;
    int64_t some = SOME / sch->lanes, tiles = (some + sch->n_vecs - 1) / sch->n_vecs;
    return (z->vecs + some - 1) / some * tiles * sch->n_vecs;
}

static double stage_cycles(const Target *t, const Sizes *z, const Schedule *sch) {
    double cycles = 0;
    Tiles tiles[3][2];
    for (int i = 0; i < 2; i++) {
        int few = z->is_free_row[i] ? schedule_rest_rows(i, sch->rows[i]) : 0;
        tiles_of(z->rows[i], sch->rows[i], few, i ? sch->shared_rests : 0, tiles[i]);
    }
    tiles_of(whole_vecs(z, sch), sch->n_vecs, 0, 0, tiles[2]);
    for (int which = 0; which < 8; which++) { /* whole tiles and the rests of three axes */
        int64_t size[3], count = 1;
        for (int i = 0; i < 3; i++) {
            const Tiles *of = &tiles[i][which >> i & 1];
            size[i] = of->size;
            count = product(count, of->n);
        }
        if (count) cycles += (double)count * tile_cycles(t, z, sch, size[0] * size[1], size[2]);
    }
    /* a left factor that the second level does not keep is read again for each vector tile */
    int64_t sweeps = (z->vecs + sch->n_vecs - 1) / sch->n_vecs;
    double passes = sch->rows_outer || z->is_shared ? 1 : (double)sweeps;
    double streamed = z->left_bytes > t->l2_bytes / 2 ? passes * (double)z->left_bytes : 0;
    cycles *= (double)z->batch * schedule_taken_share(z->tap_rows, z->n_tap_rows, sch);
    cycles += streamed / STREAM_BYTES;
    if (!is_stream(t, z)) return cycles;
    double memory = (double)z->right_bytes / FAR_BYTES;
    if (is_cut(sch)) memory /= 1 + MORE_PERCENT / 100.0;
    return largest(cycles, memory) + 0.4 * (cycles < memory ? cycles : memory);
}

double schedule_contract_cycles(DefProgram *p, const Stage *s, const Target *t,
                                const Schedule *sch) {
    Sizes z = sizes_of(p->m->k, s, sch);
    return stage_cycles(t, &z, sch);
}

double schedule_near_cycles(DefProgram *p, const Stage *s, const Target *t, const Schedule *sch) {
    Sizes z = sizes_of(p->m->k, s, sch);
    z.left_bytes = 0;
    return stage_cycles(t, &z, sch);
}

/* ---- loops around the tile ------------------------------------------------------------------- */

/* Copies of the innermost body: a divisor of its extent. None for the taps of a window that slides
 * along the rows: the copies would read the same elements, and keep them in registers for that. */
static int copies(KCtx *k, const Stage *s, const Schedule *sch, int axis, int64_t extent) {
    Window w = {k, s->red[axis], s->red_extent[axis], s, sch, false, false};
    k_visit(k, s->lhs, note_window, &w);
    for (int n = s->run ? RUN_COPIES : 4; n > 1 && !w.slides; n--)
        if (extent % n == 0) return n;
    return 1;
}

static int64_t row_tiles(const Sizes *z, const Schedule *sch) {
    int64_t n = 1;
    for (int i = 0; i < 2; i++) n = product(n, (z->rows[i] + sch->rows[i] - 1) / sch->rows[i]);
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
    int64_t made = product(product(z->rows[0], z->rows[1]), z->vecs * sch->lanes * z->elem);
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
    double whole = tile_cycles(t, z, sch, (int64_t)sch->rows[0] * tile, sch->n_vecs);
    double few = tile_cycles(t, z, sch, (int64_t)sch->rows[0] * by, sch->n_vecs);
    for (int rest = 1; rest < tile; rest++) {
        int alone = (rest + by - 1) / by, together = (rest + tile + by - 1) / by;
        if (together * few < whole + alone * few) sch->shared_rests |= 1 << rest;
    }
}

/* Everything but the tile. */
static void set_loops(KCtx *k, const Stage *s, const Target *t, const Sizes *z, Schedule *sch) {
    int blocks[MAX_RED], last = schedule_contract_blocks(k, s, blocks);
    int64_t extent = known(s->red_extent[last], 0), first = known(s->red_extent[0], 0);
    int64_t tiles = row_tiles(z, sch), fit = t->l2_bytes / 8;
    int64_t panel = product(z->steps, (int64_t)sch->n_vecs * sch->lanes * z->elem);
    int64_t turns = blocks[last] > 1 && extent > blocks[last] ? blocks[last] : extent;
    sch->unroll = extent ? copies(k, s, sch, last, turns) : 1;
    while (sch->skips && sch->unroll % 2 == 0 &&
           sch->unroll * sch->rows[0] * sch->rows[1] > READS_IN_BRANCHES)
        sch->unroll /= 2;
    sch->parts = sch->row_tiles = 1;
    int64_t unit = blocks[0] > 1 ? blocks[0] : last == 0 ? sch->unroll : 1;
    if (tiles > 1 && first && first % unit == 0 && panel > fit + fit / 2)
        sch->parts = find_parts(first / unit, panel, fit);
    if (sch->parts > 1) sch->row_tiles = tiles_together(tiles, bytes_of_tile(sch, z->elem));
    /* rows of the result that go into memory go there as a whole */
    int64_t made = product(product(z->rows[0], z->rows[1]), z->vecs * sch->lanes * z->elem);
    bool writes = made > t->l2_bytes && z->left_bytes <= made / 8 && s->out->layout.block <= 1;
    bool streams = z->left_bytes > t->l2_bytes / 2 || (writes && !z->is_free);
    /* a panel that the first level does not keep comes from the second one either way; rows of dense
     * tensors are streams, which cost little to read again */
    bool is_second = panel > t->l1_bytes && s->out->layout.block > 1;
    int64_t most = t->l2_bytes / (is_second ? 2 : 4);
    sch->rows_outer = sch->parts == 1 && z->vecs > sch->n_vecs && streams &&
                      z->right_bytes <= most && !z->is_shared;
    bool is_far = z->is_const && z->right_bytes > t->l2_bytes / 4;
    bool streams_right = is_stream(t, z), is_wide = sch->n_vecs > PANEL && !(sch->n_vecs % PANEL);
    /* as wide as those for many rows mostly are, so that two versions of a model can share them */
    if (streams_right && tiles == 1 && !sch->panel && is_wide) sch->panel = PANEL;
    sch->prefetch = is_far && !sch->rows_outer && !(streams_right && is_cut(sch));
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
    Sizes z = sizes_of(p->m->k, s, axes);
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
                all[n] = (Candidate){sch, stage_cycles(t, &z, &sch), n};
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
    Sizes z = sizes_of(k, s, sch);
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
    Sizes z = sizes_of(k, s, sch);
    PanelReads reads = {schedule_panel_width(sch), true};
    if (s->rhs->op == KO_at || sch->matrix || sch->winograd || sch->group || z.batch > 1) return;
    int last = schedule_contract_blocks(k, s, blocks);
    k_visit(k, s->rhs, note_panel_read, &reads);
    int width = sch->n_vecs * sch->lanes;
    if (!reads.fits || reads.width != width || row_tiles(&z, sch) < 2) return;
    for (int r = 0; r < s->n_red; r++) {
        if (!k_is_int(s->red_extent[r], &extent)) return;
        if (r)
            inner = product(inner, extent);
        else
            first = extent;
    }
    int64_t unit = blocks[0] > 1 ? blocks[0] : last == 0 ? sch->unroll : 1;
    if (!k_is_int(s->out->dims[sch->vec_axis], &n_vec) || first % unit) return;
    int64_t bytes = product(product(first, inner), width * z.elem);
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

/* Cycles of n rows, which the schedule does in whole tiles and the rest by fours. While the first
 * of them use a panel it comes from memory; arithmetic hides most of that, but not all. */
static double rows_cycles(const Target *t, const Sizes *of, const Schedule *sch, int64_t n) {
    Sizes z = *of;
    double cycles = 0, bytes = (double)z.steps * (double)(sch->n_vecs * t->vector_bytes);
    double memory = z.right_bytes > t->l2_bytes ? bytes / FAR_BYTES : 0;
    z.rows[1] = n;
    z.is_fetched = true;
    int64_t tile = sch->rows[1], few = schedule_rest_rows(1, sch->rows[1]);
    if (is_cut(sch) && n <= tile && n <= STREAM_ROWS) memory /= 1 + MORE_PERCENT / 100.0;
    for (int64_t left = n; left > 0; left -= left < tile ? few : tile) {
        double one = tile_cycles(t, &z, sch, left < tile ? few : tile, sch->n_vecs);
        cycles += largest(one, memory) + 0.4 * (one < memory ? one : memory);
        memory = 0;
        z.is_fetched = false;
    }
    return cycles * (double)((z.vecs + sch->n_vecs - 1) / sch->n_vecs) * (double)z.batch;
}

/* The best schedule for from..to rows over the panels of `of`; false where that is hardly better
 * than `of` itself. */
static bool choose_few(KCtx *k, const Stage *s, const Target *t, const Sizes *z, const Schedule *of,
                       int64_t from, int64_t to, Schedule *out) {
    int panel = of->panel ? of->panel : of->n_vecs;
    double best = 0;
    for (int64_t n = from; n <= to; n++) best += 0.97 * rows_cycles(t, z, of, n);
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
            for (int64_t n = from; n <= to; n++) cycles += rows_cycles(t, z, &sch, n);
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
    Sizes z = sizes_of(k, s, sch);
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
        double cost = (double)(n / r) * (step_cycles(t, &z, &tried, r, sch->n_vecs, 1) + 0.15);
        if (n % r) cost += step_cycles(t, &z, &tried, n % r, sch->n_vecs, 1) + 0.15;
        if (cost >= best * 0.999) continue;
        best = cost;
        sch->rows[1] = r;
    }
    return best;
}
