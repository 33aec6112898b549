/* Windows of a group in blocks (block_stages.c): which tensors only the group reads, how much of
 * them a block needs, and which may take over another one's memory.
 *
 *   s = scores;  e = exp(s - max)         e lies in s's window: it is the last that reads s, and
 *                                         each of its elements reads its own only */
#include <string.h>

#include "passes/block_stages.h"

bool group_is_private(const Group *g, const KTensor *t) {
    return stages_own(g->p, g->stages, g->n, t);
}

double group_row_bytes(const Group *g, int m) {
    const KTensor *t = g->stages[m]->out;
    double n = dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++) n *= group_extent(t->dims[i]);
    for (int a = 0; a < g->n_axes; a++) n /= group_extent(g->extent[a]);
    return n;
}

/* May member m, a map, write over member of's tensor: is it the last that reads it, each element
 * for its own? */
static bool can_replace(const Group *g, int m, int of) {
    const Stage *s = g->stages[m];
    const KTensor *t = g->stages[of]->out, *out = s->out;
    if (s->form != FORM_MAP || t->rank != out->rank || t->dtype != out->dtype ||
        !group_is_private(g, t) || !group_is_private(g, out))
        return false;
    if (memcmp(g->axis[m], g->axis[of], (size_t)g->n_axes)) return false;
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i] != out->dims[i]) return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (group_member_of(g, t->users.at[u]->out) > m) return false;
    return map_reads_own(g->k, s, t);
}

void group_find_replaced(const Group *g, int8_t *replaced) {
    for (int m = 0; m < g->n; m++) {
        replaced[m] = -1;
        for (int of = 0; of < m && replaced[m] < 0; of++) {
            bool taken = false;
            for (int other = 0; other < m; other++) taken |= replaced[other] == of;
            if (!taken && can_replace(g, m, of)) replaced[m] = (int8_t)of;
        }
    }
}

void group_set_windows(const Group *g, const Blocks *blocks) {
    int8_t replaced[MAX_MEMBERS];
    group_find_replaced(g, replaced);
    for (int m = 0; m < g->n; m++) {
        KTensor *t = g->stages[m]->out;
        if (!group_is_private(g, t)) continue;
        RowWindow *w = arena_new(g->p->arena, RowWindow);
        w->of = blocks;
        w->row_axis = g->is_whole ? -1 : g->axis[m][g->n_axes - 1];
        for (int a = 0; a < g->n_axes; a++)
            if (g->axis[m][a] != w->row_axis) w->fixed[g->axis[m][a]] = true;
        t->window = w;
    }
    for (int m = 0; m < g->n; m++)
        if (replaced[m] >= 0) g->stages[m]->out->alias = g->stages[replaced[m]]->out;
}
