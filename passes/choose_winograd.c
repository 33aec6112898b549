/* Which convolutions are computed by Winograd's filtering, with which tiles: a model of the cost.
 *
 * Before:  y[n, o, h, w] = sum over c, ky, kx of x[n, c, h+ky-1, w+kx-1] * w[o, c, ky, kx]
 * After:   the same, with a schedule `winograd w4_t12x2_v16` and weights' = G w G^T
 *
 * Counted are cycles of one core: products by register tiles, the transforms of patches and
 * results, and bytes that come from beyond the L2 cache. Requires layouts and constant weights. */
#include "passes/choose_winograd.h"

#include <inttypes.h>

#include "ir/scratch.h"
#include "ir/winograd.h"
#include "passes/pass.h"
#include "passes/tune_winograd.h"

static int64_t blocks(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* ---- what it costs, in cycles of one core ---------------------------------------------------- */

/* Measured on the layers of ResNet-50 and VGG-16. What the first touch of weights costs is not
 * hidden behind arithmetic; a strip's second touch comes from the next cache. Rates are bytes a
 * cycle. */
static const double FROM_MEMORY = 6, NEXT_CACHE = 12, STREAMED = 8, FROM_L2 = 48;
static const double OTHER_CORE = 4, OTHER_NEAR = 16; /* patches in another core's cache */
static const double HIDDEN = 4;                      /* of a stream of weights, behind sums */
static const double ASKING = 0.1;                    /* of a stream's time, even if it is hidden */
static const double WEIGHTS_FROM_L2 = 0.25;          /* cycles for a vector of them */
static const double ARITHMETIC = 0.85; /* of the peak, in register tiles that are large enough */
static const int64_t SMALL_MODEL = 25000000; /* bytes of weights that a cache keeps between runs */
static const double FOR_ONE_THREAD = 8192;   /* cycles that are not worth dealing out */
static const double FOR_TWO_THREADS = 32768; /* cycles that always are */
static const double IDLE_SLOT = 0.005;       /* what a slot without work counts for */
static const double IDLE_THREAD = 0.25;      /* and a second thread without */
static const double LEAVING_OUT = 1.12;      /* time of a step where others are left out */
static const double WORTH_IT = 0.92; /* of the direct cycles: a model's errors must not lose time */

/* One step of the reduction in a register tile: two FMAs or two loads each cycle, where load ports are
 * never as full, and eight sums at least to hide an FMA's latency. */
static double step_cycles(int64_t rows, int64_t vecs) {
    double fma = (double)(rows * vecs) / 2, load = 1.15 * (double)(rows + vecs) / 2;
    double cycles = fma > load ? fma : load;
    return (cycles < 4 ? 4 : cycles) + 0.15 + WEIGHTS_FROM_L2 * (double)vecs;
}

static double products_cycles(const Winograd *w, int64_t n_vecs) {
    double cycles = 0;
    for (int er = 0; er < 2; er++)
        for (int ev = 0; ev < 2; ev++) {
            int64_t r = er ? w->n_tiles % w->rows : w->rows,
                    v = ev ? n_vecs % w->n_vecs : w->n_vecs;
            int64_t count = (er ? r > 0 : w->n_tiles / w->rows) * (ev ? v > 0 : n_vecs / w->n_vecs);
            if (count && r && v) cycles += (double)count * step_cycles(r, v);
        }
    return cycles * (double)(w->form.ic * (w->n_xi - 1) + w->form.ic_last) / ARITHMETIC;
}

/* What is waited for of a stream of weights: they are asked for while products of those before are
 * summed, which hides them unless a strip's sums take more bytes a cycle than come. */
static double visible_share(const Winograd *w, int lanes) {
    double uses = (double)w->strip / w->rows;
    double demand = w->n_vecs * lanes * 4 / (step_cycles(w->rows, w->n_vecs) * uses);
    double share = (demand - HIDDEN) / (STREAMED - HIDDEN);
    return share < ASKING ? ASKING : share < 1 ? share : 1;
}

/* Cycles for bytes that come from beyond the L2 cache although they were touched before. Weights
 * come in one long stream, which the machine foresees. Patches that slots share are in the other
 * cores' caches. */
static double again_cycles(const Winograd *w, const Target *t, int lanes) {
    int64_t n_xi = w->n_xi, width = w->n_vecs * lanes;
    int64_t ic = blocks(w->form.ic, lanes) * lanes, oc = blocks(w->form.oc, lanes) * lanes;
    int64_t weights = n_xi * ic * oc * 4, patches = n_xi * ic * w->n_tiles * 4;
    int64_t in = n_xi * ic * w->strip * 4, out = n_xi * width * w->strip * 4,
            room = t->l2_bytes / 2;
    double again = 0, stream = weights > SMALL_MODEL / 2 ? FROM_MEMORY : STREAMED;
    double more = (double)((weights - room) * (blocks(w->n_tiles, w->strip) - 1));
    if (in + out > room) again += (double)(patches * (1 + blocks(oc, width)));
    if (out > room) again += 2 * (double)(n_xi * oc * w->n_tiles * 4);
    double moved = !w->whole ? 0 : (double)patches / (in + out > room ? OTHER_CORE : OTHER_NEAR);
    double waits = more > 0 ? more / stream * visible_share(w, lanes) : 0;
    return again / NEXT_CACHE + moved + waits;
}

/* What counts of bytes from beyond the L2 cache. Lines have fewer products for them than planes,
 * and their tiles lie one behind the other: measured, they are waited for as far as a step's sums ask
 * for more bytes than come. */
static double counted_share(const Winograd *w, int lanes) {
    if (!w->form.is_line) return 1;
    double uses = blocks(w->strip, w->rows), bytes = w->rows * 4 + w->n_vecs * lanes * 4 / uses;
    double share = bytes / step_cycles(w->rows, w->n_vecs) / STREAMED;
    return share < ASKING ? ASKING : share < 1 ? share : 1;
}

/* The transforms take so many instructions, and more where few registers hold a patch. */
static double transform_cycles(const Winograd *w, const Target *t, int64_t n_vecs) {
    int n = w->form.is_line ? 16 : w->patch == 6 ? 100 : 48;
    return (double)(w->n_tiles * n_vecs) * n * (t->n_vector_regs < 32 ? 1.5 : 1);
}

static double patches_cycles(const Winograd *w, const Target *t, int lanes) {
    return transform_cycles(w, t, blocks(w->form.ic, lanes));
}

static int64_t weight_bytes(const Winograd *w) {
    return w->n_xi * w->form.ic * w->form.oc * 4;
}

static double winograd_cycles(const Winograd *w, const Target *t, int lanes, double touch) {
    return products_cycles(w, blocks(w->form.oc, lanes)) + patches_cycles(w, t, lanes) +
           transform_cycles(w, t, blocks(w->form.oc, lanes)) +
           counted_share(w, lanes) * ((double)weight_bytes(w) / touch + again_cycles(w, t, lanes));
}

/* Of the direct loops' steps, those that are not left out as outside for all of a tile. */
static double taken_share(DefProgram *p, Stage *s) {
    enum { ROWS = 11 }; /* of a tile, about */
    Schedule axes;
    TapRows of[MAX_TAP_AXES];
    if (!contract_axes(p, s, &axes)) return 1;
    axes.rows[0] = 1;
    axes.rows[1] = ROWS;
    double share = schedule_taken_share(of, schedule_tap_rows(p->m->k, s, &axes, of), &axes);
    return share < 1 ? share * LEAVING_OUT : 1;
}

static double direct_cycles(const WinogradForm *f, int lanes, double touch, double share) {
    double sums =
        (double)(f->n * f->h * f->w * blocks(f->oc, lanes)) * (double)(f->n_taps * f->ic) / 2;
    return sums * share / ARITHMETIC + (double)(f->n_taps * f->ic * f->oc * 4) / touch;
}

/* Bytes a cycle at which weights come the first time. */
static double first_touch(const DefProgram *p, const Target *t) {
    int64_t n_bytes = 0;
    while (p->parent) p = p->parent;
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (p->tensors.at[i]->value) n_bytes += (int64_t)p->tensors.at[i]->data_bytes;
    if (n_bytes < t->l2_bytes / 4)
        return FROM_L2; /* transformed weights take some four times that */
    return n_bytes > SMALL_MODEL ? FROM_MEMORY : NEXT_CACHE;
}

/* Where sizes are free and those that are guessed make fewer strips, slots share channels, too. */
enum { FEW_STRIPS = 4 };

/* ---- the best of what is possible ------------------------------------------------------------ */

static bool fits_registers(const Winograd *w, const Target *t) {
    int used = w->rows * w->n_vecs + w->n_vecs + (t->n_vector_regs <= 16 ? 1 : 2);
    return used <= t->n_vector_regs;
}

enum { MOST_TRIED = 1024 }; /* filters, register tiles and strips; fewer are possible */

typedef struct Search {
    const Target *t;
    int lanes;
    double touch, least;
    Winograd best;
    WinogradCost *tried; /* all that fits, for those who measure; NULL: nobody does */
    int n_tried;
} Search;

/* Of two threads' time, how much more the busier one has than its half: 0 to 1. */
static double imbalance(const Winograd *w, int64_t n_items, int64_t n_vecs) {
    int64_t first = (w->n_slots + 1) / 2 * n_items / w->n_slots;
    int64_t each = w->whole ? w->n_vecs : w->strip, all = w->whole ? n_vecs : w->n_tiles;
    double share = (double)(first * each < all ? first * each : all) / (double)all;
    return 2 * (share < 0.5 ? 1 - share : share) - 1;
}

static void consider(Search *s, Winograd *w) {
    int64_t n_blocks = blocks(blocks(w->form.oc, s->lanes), w->n_vecs);
    double cycles = winograd_cycles(w, s->t, s->lanes, s->touch);
    w->prefetch = weight_bytes(w) > s->t->l2_bytes / 2;
    int64_t n_strips = blocks(w->n_tiles, w->strip);
    bool has_free_strips = w->form.is_free && !w->whole;
    w->n_slots = has_free_strips ? MOST_SLOTS : slots_for(w->whole ? n_blocks : n_strips);
    w->groups = 1;
    if (has_free_strips && n_strips < FEW_STRIPS) {
        w->groups = n_blocks < FEW_STRIPS ? n_blocks : FEW_STRIPS;
        cycles += (double)(w->groups - 1) * patches_cycles(w, s->t, s->lanes);
    }
    if (cycles < FOR_ONE_THREAD && !w->form.is_free) w->n_slots = 1;
    cycles *= 1 + IDLE_SLOT * (double)(MOST_SLOTS - w->n_slots);
    if (cycles >= FOR_TWO_THREADS) {
        int64_t n_vecs = blocks(w->form.oc, s->lanes);
        cycles *=
            1 + IDLE_THREAD * imbalance(w, w->whole ? n_blocks : n_strips * w->groups, n_vecs);
    }
    if (s->tried && s->n_tried < MOST_TRIED) {
        s->tried[s->n_tried] = (WinogradCost){*w, cycles, s->n_tried};
        s->n_tried++;
    }
    if (cycles >= s->least * 0.999) return;
    s->least = cycles;
    s->best = *w;
}

/* Strips of some register tiles, enough of them for the slots; or all tiles as one. */
static void try_strips(Search *s, Winograd *w) {
    static const int sizes[] = {1, 2, 3, 4, 6, 8};
    for (int i = 0; i < (int)(sizeof sizes / sizeof sizes[0]); i++) {
        w->strip = (int64_t)sizes[i] * w->rows;
        w->whole = false;
        if (i == 0 || blocks(w->n_tiles, w->strip) >= MOST_SLOTS) consider(s, w);
    }
    if (w->form.is_free && !(w->form.is_line && w->form.is_known)) return;
    w->strip = w->n_tiles;
    w->whole = true;
    consider(s, w);
}

static void search_tiles(Search *s, Winograd *w) {
    int64_t n_vecs = blocks(w->form.oc, s->lanes);
    winograd_count_tiles(w);
    if (w->patch > MOST_PATCH) return;
    for (w->n_vecs = 1; w->n_vecs <= 4 && w->n_vecs <= n_vecs; w->n_vecs++)
        for (w->rows = 1; w->rows <= 16 && w->rows <= w->n_tiles; w->rows++)
            if (fits_registers(w, s->t)) try_strips(s, w);
}

static void search(Search *s, Winograd *w) {
    if (!w->form.is_line)
        for (w->m = 2; w->m <= 4; w->m += 2) search_tiles(s, w);
    else
        for (int taps = 2; taps <= 4; taps++)
            if (winograd_cut_line(w, taps)) search_tiles(s, w);
}

/* The filter to take: what is known or measured, otherwise what the model found; NULL for none. */
static const Winograd *decide(DefProgram *p, Stage *s, Search *found) {
    const Winograd *best = found->best.m ? &found->best : NULL, *taken;
    bool is_tuned = tune_winograd(p, s, found->tried, found->n_tried, found->lanes, best, &taken);
    return is_tuned ? taken : best;
}

bool choose_winograd(DefProgram *p, Stage *s) {
    const Target *t = p->m->target;
    int lanes = target_lanes(t, 4);
    Winograd w = {.m = 0};
    if (!p->m->winograd || !winograd_match(p, s, &w.form)) return false;
    if (!winograd_fits_layout(s, &w.form, lanes)) return false;
    double touch = first_touch(p, t),
           direct = direct_cycles(&w.form, lanes, touch, taken_share(p, s));
    Search found = {.t = t, .lanes = lanes, .touch = touch, .least = direct * WORTH_IT};
    if (p->m->tuner) found.tried = arena_array(p->m->scratch, WinogradCost, MOST_TRIED);
    search(&found, &w);
    const Winograd *best = decide(p, s, &found);
    if (!best) return false;
    Schedule *sch = arena_new(p->arena, Schedule);
    winograd_fill_schedule(sch, lanes, arena_copy(p->arena, best, sizeof *best));
    s->schedule = sch;
    Stage *g = winograd_define_weights(p, s, sch->winograd);
    if (!evaluate_stage(p, g)) BUG("weights could not be transformed");
    stage_remove(p, g);
    winograd_add_scratch(p, s, sch->winograd);
    pass_trace("choose_schedules", s->node,
               "%s, %s of %" PRId64 " tiles, %.2f of the direct cycles",
               schedule_text(p->m->scratch, sch), best->whole ? "one strip" : "strips", best->strip,
               winograd_cycles(best, t, lanes, touch) / direct);
    return true;
}
