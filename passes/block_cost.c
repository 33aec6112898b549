/* How many rows a block of a group has (block_stages.c), and what the group saves.
 *
 * Windows of a block fill half the second level of cache at most. Saved are the bytes that windows
 * keep from being written and read; against them stands what each block reads again, the
 * contractions' right factors where that cache does not keep them: large ones, and all of them
 * where together they have no room beside the windows. */
#include <math.h>

#include "ir/scratch.h"
#include "passes/block_stages.h"

enum {
    MOST_ROWS = 64,  /* of a block */
    LEAST_ROWS = 28, /* fewer read the other factors too often */
    LEAST_BLOCKS = 4 /* fewer leave threads without work, where there is much */
};

/* Bytes of a contraction's other factor that every block reads again. */
static double panel_bytes(const Group *g, int m) {
    const Stage *s = g->stages[m];
    double n = dtype_bytes(s->rhs->dtype);
    for (int i = 0; i < s->out->rank; i++) {
        bool shared = false;
        for (int a = 0; a < g->n_axes; a++) shared |= g->axis[m][a] == i;
        if (!shared && k_uses_var(g->k, s->rhs, s->axis[i])) n *= group_extent(s->out->dims[i]);
    }
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(g->k, s->rhs, s->red[r])) n *= group_extent(s->red_extent[r]);
    return n;
}

/* How many such factors there are: a head's own keys, or weights that all indices share. */
static double n_panels(const Group *g, int m) {
    double n = 1;
    for (int a = 0; a + 1 < g->n_axes; a++)
        if (k_uses_var(g->k, g->stages[m]->rhs, g->stages[m]->axis[g->axis[m][a]]))
            n *= group_extent(g->extent[a]);
    return n;
}

/* Model cycles of all tiles, when rows are cut into blocks of `rows`. */
static double tiles_cost(const Group *g, int64_t rows) {
    double cost = 0, n = group_extent(g->extent[g->n_axes - 1]);
    int64_t full = (int64_t)n / rows, rest = (int64_t)n % rows;
    for (int m = 0; m < g->n; m++) {
        Stage *s = g->stages[m];
        if (s->form != FORM_CONTRACT) continue;
        Schedule sch = *s->schedule;
        int row = g->axis[m][g->n_axes - 1];
        double columns = group_extent(s->out->dims[sch.vec_axis]), depth = 1;
        for (int r = 0; r < s->n_red; r++) depth *= group_extent(s->red_extent[r]);
        double one = schedule_contract_rows(g->p->m->target, &sch, row, rows) * (double)full;
        if (rest) one += schedule_contract_rows(g->p->m->target, &sch, row, rest);
        cost += one * depth * (columns / (sch.n_vecs * sch.lanes));
    }
    return cost;
}

static double outer_indices(const Group *g) {
    double n = 1;
    for (int a = 0; a + 1 < g->n_axes; a++) n *= group_extent(g->extent[a]);
    return n;
}

int64_t group_choose_rows(const Group *g) {
    double bytes = 0, best = 1e300, n = group_extent(g->extent[g->n_axes - 1]);
    double outer = outer_indices(g);
    int8_t replaced[MAX_MEMBERS];
    group_find_replaced(g, replaced);
    for (int m = 0; m < g->n; m++)
        if (group_is_private(g, g->stages[m]->out) && replaced[m] < 0)
            bytes += group_row_bytes(g, m);
    double room = g->p->m->target->l2_bytes / 2.0 / (bytes < 1 ? 1 : bytes);
    int64_t most = room > MOST_ROWS ? MOST_ROWS : room < LEAST_ROWS ? LEAST_ROWS : (int64_t)room;
    if ((double)most > n) most = (int64_t)n;
    if (outer * ceil(n / (double)most) < MOST_SLOTS) {
        int64_t fewer = (int64_t)ceil(outer * n / MOST_SLOTS);
        most = most < LEAST_ROWS || fewer > most ? most : fewer > LEAST_ROWS ? fewer : LEAST_ROWS;
    }
    int64_t rows = most;
    for (int64_t r = most; r >= 1 && r > most / 2; r--) {
        double cost = tiles_cost(g, r);
        if (cost >= best * 0.99) continue;
        best = cost;
        rows = r;
    }
    return rows;
}

/* Of a tensor that others need, too: what members read of it while it is in the cache. */
static double bytes_read_again(const Group *g, int m) {
    const KTensor *t = g->stages[m]->out;
    double row = group_row_bytes(g, m), all = row * outer_indices(g),
           cache = g->p->m->target->l2_bytes;
    int n_readers = 0;
    for (uint32_t u = 0; u < t->users.n; u++)
        n_readers += group_member_of(g, t->users.at[u]->out) >= 0;
    all *= group_extent(g->extent[g->n_axes - 1]);
    return row > cache / 2 || all < cache ? 0 : all * n_readers;
}

/* Does e, of member m, depend on the last shared axis? Then it is another in each block. */
static bool uses_shared(const Group *g, int m, const KExpr *e) {
    return k_uses_var(g->k, e, g->stages[m]->axis[g->axis[m][g->n_axes - 1]]);
}

/* What member m reads again in each block. */
static double other_factor(const Group *g, int m) {
    const Stage *s = g->stages[m];
    return s->form != FORM_CONTRACT || uses_shared(g, m, s->rhs) ? 0 : panel_bytes(g, m);
}

double group_bytes_saved(const Group *g, int64_t rows) {
    double saved = 0, again = 0, work = 0, n = group_extent(g->extent[g->n_axes - 1]);
    double cache = g->p->m->target->l2_bytes, panels = 0;
    double n_blocks = ceil(n / (double)rows), outer = outer_indices(g);
    for (int m = 0; m < g->n; m++) work += schedule_stage_work(g->stages[m]);
    if (n_blocks * outer < LEAST_BLOCKS && work > MOST_SLOTS * PARALLEL_GRAIN) return 0;
    for (int m = 0; m < g->n; m++) panels += other_factor(g, m);
    for (int m = 0; m < g->n; m++) {
        const KTensor *t = g->stages[m]->out;
        if (group_is_private(g, t))
            saved += group_row_bytes(g, m) * n * outer * (1 + t->users.n);
        else if (g->is_whole)
            saved += bytes_read_again(g, m);
        double panel = other_factor(g, m);
        if (panel > 0 && (panel > cache / 4 || panels > cache / 2))
            again += panel * (n_blocks * outer - n_panels(g, m));
    }
    return saved - again;
}
