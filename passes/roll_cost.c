/* Whether stages should roll together (roll_stages.c), with how many rows and slots.
 *
 * A stage takes the time of its arithmetic or that of its memory, whichever is longer. Windows keep
 * tensors out of what lies behind the second level of cache, so stages that are slow for their
 * memory become faster. Against it stand the rows that each thread but the first makes once more,
 * what a block costs beside its tiles, and weights that each block reads again. All in cycles of
 * one core. */
#include <math.h>

#include "ir/scratch.h"
#include "passes/roll_stages.h"

enum {
    MOST_ROWS = 16,    /* of the last member in a block */
    BEHIND_BYTES = 13, /* what lies behind the second level of cache gives in a cycle */
    SECOND_LEVEL_BYTES = 32,
    /* vector operations of a transcendental function, division included */
    FUNCTION_OPERATIONS = 28,
    MEMBER_CYCLES = 150, /* of a block, beside its tiles */
    LEAST_SLOTS = 4,
    LEAST_GAIN = 5000 /* cycles */
};

/* What is chosen for what free sizes are taken for is right for any. */
static double extent(const KExpr *e) {
    return (double)k_guess(e, 1);
}

static double row_count(const Roll *g, int m) {
    return extent(g->stages[m]->out->dims[g->row[m]]);
}

static double batch_of(const Roll *g) {
    return extent(g->stages[0]->out->dims[0]);
}

/* Bytes of one row of member m's tensor. */
static double row_bytes(const Roll *g, int m) {
    const KTensor *t = g->stages[m]->out;
    const Layout *l = &t->layout;
    double n = dtype_bytes(t->dtype);
    for (int i = 1; i < t->rank; i++) {
        if (i == g->row[m]) continue;
        int64_t dim = k_guess(t->dims[i], 1);
        if (l->block > 1 && l->block_axis == i) dim = (dim + l->block - 1) / l->block * l->block;
        n *= (double)(dim + (l->has_halo ? l->halo[i][0] + l->halo[i][1] : 0));
    }
    return n;
}

typedef struct Operations {
    double cycles; /* of one vector */
    int fma_ports;
} Operations;

static void note_operation(const KExpr *e, void *user) {
    Operations *o = user;
    KClass class = kop_info[e->op].class;
    if (e->dtype == DT_I64 || e->dtype == DT_BOOL) return; /* indices and borders */
    if (class == KC_MATH) o->cycles += FUNCTION_OPERATIONS / (double)o->fma_ports;
    if (class == KC_ARITH || class == KC_CONV) o->cycles += 1.0 / o->fma_ports;
}

/* Cycles of an expression for one vector of elements. */
static double expr_cycles(const Roll *g, const KExpr *e) {
    Operations o = {.fma_ports = g->p->m->target->fma_ports};
    k_visit(g->k, e, note_operation, &o);
    return o.cycles;
}

/* Cycles of all of member m's rows, for one index of the batch, with all it needs in the near
 * caches. */
static double member_cycles(const Roll *g, int m) {
    const Stage *s = g->stages[m];
    const Target *t = g->p->m->target;
    double vectors = 1.0 / target_lanes(t, dtype_bytes(s->out->dtype)), steps = 1;
    for (int i = 1; i < s->out->rank; i++) vectors *= extent(s->out->dims[i]);
    for (int i = 0; i < s->n_red; i++) steps *= extent(s->red_extent[i]);
    if (s->form == FORM_MAP) return vectors * (1 + expr_cycles(g, s->body));
    double finish = vectors * expr_cycles(g, s->finish);
    if (s->form == FORM_REDUCE) return finish + vectors * steps * (1 + expr_cycles(g, s->body));
    return fmax(0, finish - vectors) + schedule_near_cycles(g->p, s, t, s->schedule) / batch_of(g);
}

/* Bytes of the right factors of member m, which every block reads. */
static double weight_bytes(const Roll *g, int m) {
    const Stage *s = g->stages[m];
    if (s->form != FORM_CONTRACT) return 0;
    double n = dtype_bytes(s->rhs->dtype);
    for (int i = 0; i < s->out->rank; i++)
        if (k_uses_var(g->k, s->rhs, s->axis[i])) n *= extent(s->out->dims[i]);
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(g->k, s->rhs, s->red[r])) n *= extent(s->red_extent[r]);
    return n;
}

/* ---- what is saved --------------------------------------------------------------------------- */

typedef struct Traffic {
    const Roll *g;
    const RollPlan *plan;
    double apart, together; /* bytes from and to what lies behind the second level of cache */
} Traffic;

/* The share of so many bytes that the second level does not keep. */
static double share_beyond(const Target *t, double bytes) {
    double beyond = (bytes - t->l2_bytes / 4.0) / (t->l2_bytes / 2.0);
    return beyond < 0 ? 0 : beyond > 1 ? 1 : beyond;
}

static double tensor_bytes(const KTensor *t) {
    double bytes = dtype_bytes(t->dtype);
    for (int i = 1; i < t->rank; i++) bytes *= fmax(1, extent(t->dims[i]));
    return bytes;
}

/* What a member reads of another is near, whether that has a window or not. */
static void note_traffic(Traffic *f, const KTensor *t, bool is_read) {
    double bytes = tensor_bytes(t);
    bytes *= share_beyond(f->g->p->m->target, bytes) * (is_read ? 1 : 2);
    f->apart += bytes;
    for (int m = 0; m < f->plan->n; m++)
        if ((is_read || f->plan->has_window[m]) && f->g->stages[m]->out == t) return;
    f->together += bytes;
}

/* A stage is as slow as its arithmetic or its memory, whichever is slower, and a little of the
 * other shows. */
static double stage_time(double cycles, double bytes) {
    double memory = bytes / BEHIND_BYTES;
    return fmax(cycles, memory) + fmin(cycles, memory) / 6;
}

/* Cycles that member m takes less, for one index of the batch. What is written is read before. */
static double member_saves(const Roll *g, const RollPlan *plan, int m) {
    KTensor *read[256];
    int n = stage_reads(g->p, g->stages[m], read, 256);
    Traffic f = {.g = g, .plan = plan};
    double cycles = member_cycles(g, m);
    note_traffic(&f, g->stages[m]->out, false);
    for (int i = 0; i < n; i++)
        if (!read[i]->data) note_traffic(&f, read[i], true);
    return stage_time(cycles, f.apart) - stage_time(cycles, f.together);
}

/* ---- what it costs --------------------------------------------------------------------------- */

/* Cycles that are spent on rows which another slot makes, too, where a thread does not go on from
 * the slot before. */
static double again_cycles(const Roll *g, const RollPlan *plan) {
    double cycles = 0;
    for (int m = 0; m < plan->n; m++) {
        double rows = (double)(plan->span[m].hi - plan->span[m].lo);
        if (rows > 0) cycles += member_cycles(g, m) * fmin(1, rows / row_count(g, m));
    }
    return cycles;
}

/* Room for the rows that a block of `rows` needs of member m: a power of two. */
static int64_t ring_of(const RollPlan *plan, int m, int64_t rows) {
    int64_t need = plan->span[m].scale * rows + plan->span[m].hi - plan->span[m].lo, ring = 1;
    while (ring < need) ring *= 2;
    return ring;
}

static double window_bytes(const Roll *g, const RollPlan *plan, int64_t rows) {
    double bytes = 0;
    for (int m = 0; m + 1 < plan->n; m++) /* what has none is read again by another member */
        bytes += row_bytes(g, m) * (double)(plan->has_window[m] ? ring_of(plan, m, rows)
                                                                : plan->span[m].scale * rows);
    return bytes;
}

/* Cycles for which the member behind m, which goes with it from tile to tile of channels, waits for
 * its rows: none where the new ones of a tile are still in the first level of cache. */
static double followed_cycles(const Roll *g, const RollPlan *plan, int m, int64_t rows) {
    const Stage *s = g->stages[m];
    const Target *t = g->p->m->target;
    if (m + 1 >= plan->n || !schedule_is_followed(g->k, s, g->stages[m + 1])) return 0;
    double tile = s->schedule->n_vecs * s->schedule->lanes;
    double share = fmin(1, tile / extent(s->out->dims[s->schedule->vec_axis]));
    double bytes = row_bytes(g, m) * (double)(plan->span[m].scale * rows);
    return bytes * share <= t->l1_bytes * 0.75 ? 0 : bytes / SECOND_LEVEL_BYTES / 2;
}

/* What blocks of `rows` rows cost beside their tiles. */
static double blocks_cycles(const Roll *g, const RollPlan *plan, int64_t rows) {
    double n_blocks = ceil(row_count(g, plan->n - 1) / (double)rows), each = 0;
    for (int m = 0; m < plan->n; m++) {
        double weights = weight_bytes(g, m);
        each += MEMBER_CYCLES + followed_cycles(g, plan, m, rows);
        if (weights > g->p->m->target->l1_bytes / 2.0) each += weights / SECOND_LEVEL_BYTES / 2;
    }
    return n_blocks * each;
}

/* Rows of a block: as cheap as possible while windows and weights have room in the second level. */
static double choose_rows(const Roll *g, RollPlan *plan) {
    double best = INFINITY, weights = 0, room = g->p->m->target->l2_bytes / 2.0;
    int64_t most = (int64_t)row_count(g, plan->n - 1);
    for (int m = 0; m < plan->n; m++) weights += weight_bytes(g, m);
    for (int64_t rows = 1; rows <= MOST_ROWS && rows <= most; rows++) {
        double bytes = window_bytes(g, plan, rows) + weights, cycles = blocks_cycles(g, plan, rows);
        if (bytes > room) break;
        cycles += (double)g->n * bytes / room * 1000; /* of two that cost the same, the smaller */
        if (cycles >= best) continue;
        best = cycles;
        plan->rows = rows;
    }
    return best;
}

/* Slots: as many as make little twice, but enough for some threads. */
static int choose_slots(const Roll *g, const RollPlan *plan, double cycles, double again) {
    double n_items = ceil(row_count(g, plan->n - 1) / (double)plan->rows) * batch_of(g);
    double macs = cycles * g->p->m->target->fma_ports; /* of vectors */
    if (macs < PARALLEL_GRAIN) return 1;
    int n = n_items < MOST_SLOTS ? (int)n_items : MOST_SLOTS;
    while (n > LEAST_SLOTS && again * (n - 1) > 0.04 * cycles * batch_of(g)) n--;
    return n < 1 ? 1 : n;
}

bool roll_weigh(const Roll *g, RollPlan *plan) {
    double cycles = 0, batch = batch_of(g);
    for (int m = 0; m < plan->n; m++) cycles += member_cycles(g, m);
    double saved = 0;
    for (int m = 0; m < plan->n; m++) saved += member_saves(g, plan, m) * batch;
    if (saved < LEAST_GAIN) return false;
    double blocks = choose_rows(g, plan) * batch;
    if (!plan->rows) return false;
    double again = again_cycles(g, plan);
    plan->n_slots = choose_slots(g, plan, cycles, again);
    for (int m = 0; m < plan->n; m++) plan->ring[m] = ring_of(plan, m, plan->rows);
    plan->gain = saved - blocks - (plan->n_slots > 1 ? again : 0); /* for two threads */
    return plan->gain > LEAST_GAIN && plan->gain > 0.02 * cycles * batch;
}
