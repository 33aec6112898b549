/* What a contraction costs under a schedule.
 *
 * A tile of rows x vectors does, in each step of its reduction, rows*vectors multiply-adds, loads
 * `vectors` vectors of the right factor and broadcasts `rows` elements of the left one. The step
 * takes as long as the busiest of: multiply-add ports, load ports, the front end, and the latency
 * of one accumulator. A tile costs its steps and what surrounds them (init, store, a mispredicted
 * end of the loop); a stage costs its tiles, those of the remainders included. All in cycles of one
 * core, from the numbers of ir/targets.def. */
#include "ir/schedule_cost.h"

#include <stdlib.h>

enum {
    MOST_NEAR = 7,           /* taps of a row, that are written out */
    ALL_TAPS_START = 6,      /* cycles before a tile of all taps, */
    ALL_TAPS_OVERLAP = 4,    /* most of which the tile before it takes where it can */
    SECOND_LEVEL_BYTES = 32, /* what the second level of cache gives in a cycle */
    STREAM_BYTES = 64,       /* and what lies behind it: most of the time for it is hidden */
    FAR_BYTES = 10,          /* weights that are read once, in one stretch, come at this rate, */
    MORE_PERCENT = 6,        /* and in several at once so much faster, */
    STREAM_ROWS = 4,         /* more rows than that leave time to ask for them early */
    LARGE = 1 << 20,         /* sizes of which nothing is known: rows, */
    SOME = 256,              /* and others */
};

typedef struct Reads {
    int64_t bytes;
    int64_t free; /* what a size counts as that is neither known nor guessed */
    bool is_const;
} Reads;

static void note_read(const KExpr *e, void *user) {
    Reads *r = user;
    if (e->op == KO_var && e->u.var->kind == KV_SYMBOL) r->is_const = false;
    if (e->op != KO_at) return;
    int64_t bytes = dtype_bytes(e->u.tensor->dtype);
    for (int i = 0; i < e->u.tensor->rank; i++)
        bytes = saturated_product(bytes, k_guess(e->u.tensor->dims[i], r->free));
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

bool cost_slides(KCtx *k, const Stage *s, const Schedule *sch, int axis, bool *skips) {
    Window w = {k, s->red[axis], s->red_extent[axis], s, sch, false, false};
    k_visit(k, s->lhs, note_window, &w);
    *skips = w.skips;
    return w.slides;
}

/* Sets taps: those of the innermost axis that neighbours along the rows have in common; 1 where
 * there are none, or too many to write out. */
static void set_shared_taps(KCtx *k, const Stage *s, const Schedule *sch, Sizes *z) {
    int last = s->n_red - 1;
    int64_t taps;
    z->taps = 1;
    if (last < 1 || !k_is_int(s->red_extent[last], &taps) || taps > MOST_NEAR) return;
    if (cost_slides(k, s, sch, last, &z->skips)) z->taps = taps;
}

int schedule_group_period(const Schedule *sch) {
    return sch->group / (int)common_divisor(sch->group, sch->lanes);
}

Sizes cost_sizes(KCtx *k, const Stage *s, const Schedule *sch) {
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
            z.batch = saturated_product(z.batch, k_guess(s->out->dims[i], 1));
    }
    for (int r = 0; r < s->n_red; r++)
        z.steps = saturated_product(z.steps, k_guess(s->red_extent[r], SOME));
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

double cost_step(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows, int64_t vecs,
                 int chains) {
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
    bool is_near =
        saturated_product(z->rows[0], z->rows[1]) > rows || z->right_bytes <= t->l1_bytes / 2;
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

double cost_tile(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows, int64_t vecs) {
    int chains = schedule_chains(t, sch, rows, vecs);
    double sums = (double)(rows * vecs) * chains;
    double around = (sch->all_taps ? ALL_TAPS_START : 20) + 1.5 * sums;
    return (double)z->steps * cost_step(t, z, sch, rows, vecs, chains) +
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

bool cost_is_stream(const Target *t, const Sizes *z) {
    bool is_far = z->is_const && z->right_bytes > t->l2_bytes / 4;
    return is_far && saturated_product(z->rows[0], z->rows[1]) <= STREAM_ROWS;
}

bool cost_is_cut(const Schedule *sch) {
    return sch->panel && sch->panel < sch->n_vecs;
}

/* Vectors that tiles compute. The last tile along a free axis is whole, under a mask, and the axis
 * may end soon: the words of a text do. */
static int64_t whole_vecs(const Sizes *z, const Schedule *sch) {
    if (!z->is_free_vec) return z->vecs;
    int64_t some = SOME / sch->lanes, tiles = (some + sch->n_vecs - 1) / sch->n_vecs;
    return (z->vecs + some - 1) / some * tiles * sch->n_vecs;
}

double cost_stage(const Target *t, const Sizes *z, const Schedule *sch) {
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
            count = saturated_product(count, of->n);
        }
        if (count) cycles += (double)count * cost_tile(t, z, sch, size[0] * size[1], size[2]);
    }
    /* a left factor that the second level does not keep is read again for each vector tile */
    int64_t sweeps = (z->vecs + sch->n_vecs - 1) / sch->n_vecs;
    double passes = sch->rows_outer || z->is_shared ? 1 : (double)sweeps;
    double streamed = z->left_bytes > t->l2_bytes / 2 ? passes * (double)z->left_bytes : 0;
    cycles *= (double)z->batch * schedule_taken_share(z->tap_rows, z->n_tap_rows, sch);
    cycles += streamed / STREAM_BYTES;
    if (!cost_is_stream(t, z)) return cycles;
    double memory = (double)z->right_bytes / FAR_BYTES;
    if (cost_is_cut(sch)) memory /= 1 + MORE_PERCENT / 100.0;
    return largest(cycles, memory) + 0.4 * (cycles < memory ? cycles : memory);
}

double cost_rows(const Target *t, const Sizes *of, const Schedule *sch, int64_t n) {
    Sizes z = *of;
    double cycles = 0, bytes = (double)z.steps * (double)(sch->n_vecs * t->vector_bytes);
    double memory = z.right_bytes > t->l2_bytes ? bytes / FAR_BYTES : 0;
    z.rows[1] = n;
    z.is_fetched = true;
    int64_t tile = sch->rows[1], few = schedule_rest_rows(1, sch->rows[1]);
    if (cost_is_cut(sch) && n <= tile && n <= STREAM_ROWS) memory /= 1 + MORE_PERCENT / 100.0;
    for (int64_t left = n; left > 0; left -= left < tile ? few : tile) {
        double one = cost_tile(t, &z, sch, left < tile ? few : tile, sch->n_vecs);
        cycles += largest(one, memory) + 0.4 * (one < memory ? one : memory);
        memory = 0;
        z.is_fetched = false;
    }
    return cycles * (double)((z.vecs + sch->n_vecs - 1) / sch->n_vecs) * (double)z.batch;
}

double schedule_contract_cycles(DefProgram *p, const Stage *s, const Target *t,
                                const Schedule *sch) {
    Sizes z = cost_sizes(p->m->k, s, sch);
    return cost_stage(t, &z, sch);
}

double schedule_near_cycles(DefProgram *p, const Stage *s, const Target *t, const Schedule *sch) {
    Sizes z = cost_sizes(p->m->k, s, sch);
    z.left_bytes = 0;
    return cost_stage(t, &z, sch);
}
