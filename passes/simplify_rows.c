/* A rule of simplify: NonMaxSuppression selects no more boxes than anybody reads.
 *
 * Detectors keep the best 100 or 300 boxes by a Slice behind the suppression, which without a limit
 * of its own looks at every box. With one batch and one class the rows of its result are in the
 * order of the selection, so the first K of them do not depend on what would follow: K becomes the
 * limit. The rows are followed through views, casts, and Slice and Gather along other axes. */
#include "passes/simplify.h"

enum { MOST_STEPS = 16 }; /* nodes one behind the other */

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The first rows of in[0] that a Slice reads: 0 where it takes all of them, -1 where unknown. */
static int64_t rows_of_slice(Module *m, const Node *n) {
    int64_t start[MAX_RANK], end[MAX_RANK], axis[MAX_RANK], step[MAX_RANK];
    int count, n_end, n_axes, n_steps, rank = n->in[0]->shape.rank;
    if (!value_ints(m, n->in[1], start, MAX_RANK, &count) ||
        !value_ints(m, n->in[2], end, MAX_RANK, &n_end) || n_end != count)
        return -1;
    for (int i = 0; i < count; i++) {
        axis[i] = i;
        step[i] = 1;
    }
    if (n->n_in > 3 && n->in[3] && !value_ints(m, n->in[3], axis, MAX_RANK, &n_axes)) return -1;
    if (n->n_in > 4 && n->in[4] && !value_ints(m, n->in[4], step, MAX_RANK, &n_steps)) return -1;
    for (int i = 0; i < count; i++) {
        if (axis[i] != 0 && axis[i] != -rank) continue;
        return start[i] >= 0 && end[i] > 0 && step[i] > 0 ? end[i] : -1;
    }
    return 0;
}

/* The same of a Gather, whose indices have to be constant where they are along the rows. */
static int64_t rows_of_gather(Module *m, const Node *n) {
    int64_t axis = attr_int(n, "axis", 0), index[MAX_RANK], last = 0;
    int count;
    if (axis != 0 && axis != -n->in[0]->shape.rank) return 0;
    if (!value_ints(m, n->in[1], index, MAX_RANK, &count) || !count) return -1;
    for (int i = 0; i < count; i++) {
        if (index[i] < 0) return -1;
        last = most(last, index[i] + 1);
    }
    return last;
}

/* How many of v's first rows are read, by whatever; -1: all, or nobody knows. */
static int64_t rows_read(Module *m, const Value *v, int steps) {
    int64_t rows = 0;
    if (v->is_output || steps == MOST_STEPS) return -1;
    for (uint32_t i = 0; i < v->users.n; i++) {
        const Node *n = v->users.at[i];
        int64_t here = -1;
        bool is_view = op_has(n->op, OPF_VIEW) && n->out[0]->shape.rank > 0 &&
                       n->out[0]->shape.dims[0] == v->shape.dims[0];
        if (n->in[0] != v) return -1;
        if (n->op == OP_Slice) here = rows_of_slice(m, n);
        if (n->op == OP_Gather) here = n->in[1] != v ? rows_of_gather(m, n) : -1;
        if (is_view || n->op == OP_Cast) here = 0;
        if (here == 0) here = rows_read(m, n->out[0], steps + 1);
        if (here < 0) return -1;
        rows = most(rows, here);
    }
    return rows;
}

Value *limit_to_rows_read(Module *m, Node *n) {
    const Value *scores = n->in[1];
    int64_t limit, rows;
    int count;
    if (n->n_in < 3 || !n->in[2] || !value_ints(m, n->in[2], &limit, 1, &count) || count != 1)
        return NULL;
    if (!k_is_value(scores->shape.dims[0], 1) || !k_is_value(scores->shape.dims[1], 1)) return NULL;
    rows = rows_read(m, n->out[0], 0);
    if (rows < 1 || rows >= limit) return NULL;
    node_set_input(n, 2, graph_const_ints(n->graph, "limit", &rows, 1));
    return n->out[0];
}
