/* Whether stages should roll together (roll_stages.c), with how many rows and slots.
 *
 * Saved is what the windows keep from going through what lies behind the second level of cache:
 * their tensors are written once and read by each reader, as far as they are larger than that
 * cache keeps anyway. Against it stand the rows that each slot but the first makes once more, what
 * a block costs beside its tiles, and weights that each block reads again. All in cycles of one
 * core. */
#include <math.h>

#include "ir/scratch.h"
#include "passes/roll_stages.h"

enum {
    MOST_ROWS = 16,        /* of the last member in a block */
    BEHIND_BYTES = 10,     /* what lies behind the second level of cache gives in a cycle */
    SECOND_LEVEL_BYTES = 32,
    MEMBER_CYCLES = 150,   /* of a block, beside its tiles */
    LEAST_GAIN = 20000     /* cycles */
};

static double row_count(const Roll *g, int m) {
    return (double)g->stages[m]->out->dims[g->row[m]]->hi;
}

static double batch_of(const Roll *g) {
    int64_t n;
    if (!g->has_batch) return 1;
    return k_is_int(g->stages[0]->out->dims[0], &n) ? (double)n : 4;
}

/* Bytes of one row of member m's tensor. */
static double row_bytes(const Roll *g, int m) {
    const KTensor *t = g->stages[m]->out;
    const Layout *l = &t->layout;
    double n = dtype_bytes(t->dtype);
    for (int i = 1; i < t->rank; i++) {
        if (i == g->row[m]) continue;
        int64_t dim = t->dims[i]->hi;
        if (l->block > 1 && l->block_axis == i) dim = (dim + l->block - 1) / l->block * l->block;
        n *= (double)(dim + (l->has_halo ? l->halo[i][0] + l->halo[i][1] : 0));
    }
    return n;
}

/* Cycles of all of member m's rows, for one index of the batch. */
static double member_cycles(const Roll *g, int m) {
    const Stage *s = g->stages[m];
    const Target *t = g->p->m->target;
    if (s->form == FORM_CONTRACT)
        return schedule_contract_cycles(g->p, s, t, s->schedule) / (g->has_batch ? batch_of(g) : 1);
    double work = schedule_stage_work(s);
    if (g->has_batch) work /= (double)s->out->dims[0]->hi;
    return work / target_lanes(t, dtype_bytes(s->out->dtype)) * 1.5;
}

/* Bytes of the right factors of member m, which every block reads. */
static double weight_bytes(const Roll *g, int m) {
    const Stage *s = g->stages[m];
    if (s->form != FORM_CONTRACT) return 0;
    double n = dtype_bytes(s->rhs->dtype);
    for (int i = 0; i < s->out->rank; i++)
        if (k_uses_var(g->k, s->rhs, s->axis[i])) n *= (double)s->out->dims[i]->hi;
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(g->k, s->rhs, s->red[r])) n *= (double)s->red_extent[r]->hi;
    return n;
}

/* Bytes that the windows keep out of the memory behind the second level of cache. */
static double bytes_saved(const Roll *g, const RollPlan *plan) {
    double cache = g->p->m->target->l2_bytes, saved = 0;
    for (int m = 0; m < plan->n; m++) {
        if (!plan->has_window[m]) continue;
        double bytes = row_bytes(g, m) * row_count(g, m);
        double beyond = (bytes - cache / 4) / (cache / 2);
        saved += bytes * (beyond < 0 ? 0 : beyond > 1 ? 1 : beyond) *
                 (1 + g->stages[m]->out->users.n);
    }
    return saved;
}

/* Cycles that each slot but the first spends on rows which another slot makes, too. */
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
    for (int m = 0; m < plan->n; m++)
        if (plan->has_window[m]) bytes += row_bytes(g, m) * (double)ring_of(plan, m, rows);
    return bytes;
}

/* What blocks of `rows` rows cost beside their tiles. */
static double blocks_cycles(const Roll *g, const RollPlan *plan, int64_t rows) {
    double n_blocks = ceil(row_count(g, plan->n - 1) / (double)rows), each = 0;
    for (int m = 0; m < plan->n; m++) {
        double weights = weight_bytes(g, m);
        each += MEMBER_CYCLES;
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

/* Slots: as many as make little twice. */
static int choose_slots(const Roll *g, const RollPlan *plan, double cycles, double again) {
    double n_items = ceil(row_count(g, plan->n - 1) / (double)plan->rows) * batch_of(g);
    double macs = cycles * g->p->m->target->fma_ports; /* of vectors */
    if (macs < PARALLEL_GRAIN) return 1;
    int n = n_items < MOST_SLOTS ? (int)n_items : MOST_SLOTS;
    while (n > 2 && again * (n - 1) > 0.04 * cycles * batch_of(g)) n -= n > 4 ? 2 : 1;
    return n < 1 ? 1 : n;
}

bool roll_weigh(const Roll *g, RollPlan *plan) {
    double cycles = 0, batch = batch_of(g);
    for (int m = 0; m < plan->n; m++) cycles += member_cycles(g, m);
    double saved = bytes_saved(g, plan) * batch / BEHIND_BYTES;
    if (saved < LEAST_GAIN) return false;
    double blocks = choose_rows(g, plan) * batch;
    if (!plan->rows) return false;
    double again = again_cycles(g, plan);
    plan->n_slots = choose_slots(g, plan, cycles, again);
    for (int m = 0; m < plan->n; m++) plan->ring[m] = ring_of(plan, m, plan->rows);
    plan->gain = saved - blocks - again * (plan->n_slots - 1);
    return plan->gain > LEAST_GAIN && plan->gain > 0.02 * cycles * batch;
}
