/* Which convolutions are computed by Winograd's filtering, with which tiles: a model of the cost.
 *
 * Before:  y[n, o, h, w] = sum over c, ky, kx of x[n, c, h+ky-1, w+kx-1] * w[o, c, ky, kx]
 * After:   the same, with a schedule `winograd w4_t12x2_v16` and weights' = G w G^T
 *
 * Counted are cycles of one core: products by register tiles, the transforms of patches and
 * results, and bytes that come from beyond the L2 cache. Requires layouts and constant weights. */
#include "passes/choose_winograd.h"

#include <stdlib.h>
#include <stdio.h>

#include "ir/scratch.h"
#include "ir/winograd.h"
#include "passes/pass.h"

static int64_t blocks(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

/* Cycles of one step of the reduction in a register tile: two FMAs or two loads each cycle, and
 * eight sums at least to hide an FMA's latency. */
static double step_cycles(int64_t rows, int64_t vecs) {
    double fma = (double)(rows * vecs) / 2, load = (double)(rows + vecs) / 2;
    double cycles = fma > load ? fma : load;
    return (cycles < 4 ? 4 : cycles) + 0.15;
}

static double products_cycles(const Winograd *w, int64_t n_vecs) {
    double cycles = 0;
    for (int er = 0; er < 2; er++)
        for (int ev = 0; ev < 2; ev++) {
            int64_t r = er ? w->n_tiles % w->rows : w->rows, v = ev ? n_vecs % w->n_vecs : w->n_vecs;
            int64_t count = (er ? r > 0 : w->n_tiles / w->rows) * (ev ? v > 0 : n_vecs / w->n_vecs);
            if (count && r && v) cycles += (double)count * step_cycles(r, v);
        }
    return cycles * (double)w->form.ic * (w->m + 2) * (w->m + 2);
}

static void choose_tile(Winograd *w, const Target *t, int64_t n_vecs) {
    Winograd best = *w;
    double least = 1e300;
    for (w->n_vecs = 1; w->n_vecs <= 4 && w->n_vecs <= n_vecs; w->n_vecs++)
        for (w->rows = 1; w->rows <= 14 && w->rows <= w->n_tiles; w->rows++) {
            int used = w->rows * w->n_vecs + w->n_vecs + (t->n_vector_regs <= 16 ? 1 : 2);
            double cycles = products_cycles(w, n_vecs);
            if (used > t->n_vector_regs || cycles >= least * 0.999) continue;
            least = cycles;
            best = *w;
        }
    *w = best;
}

/* Strips whose patches and products stay in the L2 cache, or all patches at once where that moves
 * less from beyond it. */
static void choose_strips(Winograd *w, const Target *t, int lanes) {
    int64_t n_xi = (w->m + 2) * (w->m + 2), ic = blocks(w->form.ic, lanes) * lanes;
    int64_t oc = blocks(w->form.oc, lanes) * lanes, width = w->n_vecs * lanes;
    int64_t tile_bytes = n_xi * (ic + width) * 4, weight_bytes = n_xi * ic * oc * 4;
    int64_t fit = t->l2_bytes / 2 / tile_bytes / w->rows * w->rows;
    int64_t even = blocks(blocks(w->n_tiles, MOST_SLOTS), w->rows) * w->rows;
    w->strip = fit < w->rows ? w->rows : fit < even ? fit : even;
    int64_t n_strips = blocks(w->n_tiles, w->strip), n_blocks = blocks(oc, width);
    int64_t patch_bytes = n_xi * ic * w->n_tiles * 4;
    bool stays = weight_bytes <= t->l2_bytes / 2;
    int64_t by_strips = stays ? weight_bytes : weight_bytes * n_strips;
    w->whole = by_strips > weight_bytes + patch_bytes * (2 + n_blocks);
    if (w->whole) w->strip = w->n_tiles;
    w->n_slots = slots_for(w->whole ? n_blocks : n_strips);
}

static long env(const char *n, long d) { const char *v = getenv(n); return v ? atol(v) : d; }
static double winograd_cycles(const Winograd *w, int lanes) {
    double in = (double)(w->n_tiles * blocks(w->form.ic, lanes));
    double out = (double)(w->n_tiles * blocks(w->form.oc, lanes));
    return products_cycles(w, blocks(w->form.oc, lanes)) + (in + out) * (w->m == 4 ? 120 : 50);
}

static double direct_cycles(const WinogradForm *f, int lanes) {
    return (double)(f->n * blocks(f->oc, lanes) * f->h * f->w * f->ic * 9) / 2 / 0.85;
}

bool choose_winograd(DefProgram *p, Stage *s) {
    const Target *t = p->m->target;
    int lanes = target_lanes(t, 4);
    Winograd best = {.m = 0}, w = {.m = 0};
    if (!p->m->winograd || !winograd_match(p, s, &w.form)) return false;
    if (!winograd_fits_layout(s, &w.form, lanes)) return false;
    double least = direct_cycles(&w.form, lanes), direct = least;
    for (w.m = 2; w.m <= 4; w.m += 2) {
        winograd_count_tiles(&w);
        choose_tile(&w, t, blocks(w.form.oc, lanes));
        w.rows = env("WROWS", w.rows); w.n_vecs = env("WVECS", w.n_vecs);
        choose_strips(&w, t, lanes);
        if (getenv("WSTRIP")) { w.whole = 0; w.strip = blocks(env("WSTRIP", 0), w.rows) * w.rows; if (w.strip >= w.n_tiles) w.strip = blocks(w.n_tiles, w.rows) * w.rows; w.n_slots = slots_for(blocks(w.n_tiles, w.strip)); }
        if (getenv("WWHOLE")) { w.whole = 1; w.strip = w.n_tiles; w.n_slots = slots_for(blocks(blocks(w.form.oc, lanes), w.n_vecs)); }
        fprintf(stderr, "m %d rows %d vecs %d whole %d strip %ld slots %ld\n", w.m, w.rows, w.n_vecs, w.whole, w.strip, w.n_slots);
        double cycles = winograd_cycles(&w, lanes);
        if (getenv("WM") && atoi(getenv("WM")) == w.m) cycles = 1;
        if (cycles >= least) continue;
        least = cycles;
        best = w;
    }
    if (!best.m) return false;
    Schedule *sch = arena_new(p->arena, Schedule);
    *sch = (Schedule){.vec_axis = 1, .lanes = lanes, .n_vecs = best.n_vecs, .row_axis = {-1, -1},
                      .rows = {1, best.rows}, .unroll = 1};
    sch->winograd = arena_copy(p->arena, &best, sizeof best);
    s->schedule = sch;
    Stage *g = winograd_define_weights(p, s, sch->winograd);
    if (!evaluate_stage(p, g)) BUG("weights could not be transformed");
    stage_remove(p, g);
    winograd_add_scratch(p, s, sch->winograd);
    pass_trace("choose_schedules", s->node, "%s, %.2f of the direct cycles",
               schedule_text(p->m->scratch, sch), least / direct);
    return true;
}
