/* Topological order of nodes, and the search for a short cycle when there is none.
 *
 * A depth-first walk over "needs" edges with an explicit stack, started from each node in file
 * order. When it meets a node that is still open, the stack holds a cycle; breadth-first searches
 * from a few of its nodes look for a shorter one, which is easier to read. */
#include "frontend/onnx/order.h"

#include <string.h>

#include "ir/support/str.h"

/* needs[start[i] .. start[i+1]) are the nodes that node i needs. */
typedef struct Needs {
    uint32_t n;
    uint32_t *start, *needs;
} Needs;

static bool is_sorted(const OrderEdges *edges) {
    for (uint32_t i = 0; i < edges->n; i++)
        if (edges->at[i].from >= edges->at[i].to) return false;
    return true;
}

static Needs group_edges(Arena *scratch, uint32_t n, const OrderEdges *edges) {
    Needs g = {n, arena_array(scratch, uint32_t, (size_t)n + 1),
               arena_array(scratch, uint32_t, edges->n)};
    uint32_t *fill = arena_array(scratch, uint32_t, (size_t)n + 1);
    for (uint32_t i = 0; i < edges->n; i++) g.start[edges->at[i].to + 1]++;
    for (uint32_t i = 0; i < n; i++) g.start[i + 1] += g.start[i];
    for (uint32_t i = 0; i < edges->n; i++) {
        OrderEdge e = edges->at[i];
        g.needs[g.start[e.to] + fill[e.to]++] = e.from;
    }
    return g;
}

/* The shortest cycle through node `from`, as a path of needs; its length, 0 when there is none
 * shorter than `below`. */
static uint32_t search_cycle(Arena *scratch, const Needs *g, uint32_t from, uint32_t below,
                             uint32_t *path) {
    uint32_t *prev = arena_array(scratch, uint32_t, g->n); /* index + 1 */
    uint32_t *queue = arena_array(scratch, uint32_t, g->n);
    uint32_t head = 0, tail = 0;
    queue[tail++] = from;
    while (head < tail) {
        uint32_t i = queue[head++];
        for (uint32_t k = g->start[i]; k < g->start[i + 1]; k++) {
            uint32_t to = g->needs[k];
            if (to == from) {
                uint32_t length = 1;
                for (uint32_t at = i; at != from; at = prev[at] - 1) length++;
                if (length >= below) return 0;
                uint32_t fill = length;
                for (uint32_t at = i; at != from; at = prev[at] - 1) path[--fill] = at;
                path[0] = from;
                return length;
            }
            if (prev[to]) continue;
            prev[to] = i + 1;
            queue[tail++] = to;
        }
    }
    return 0;
}

static void add_node(StrBuf *b, Onnx__NodeProto *const *node, uint32_t i) {
    const char *name = node[i]->name, *op = node[i]->op_type;
    strbuf_printf(b, "'%.60s' (%.60s #%u)", name ? name : "", op ? op : "?", (unsigned)i);
}

/* cycle[] goes against the data; printed with it. */
static void report_cycle(Onnx__NodeProto *const *node, const uint32_t *cycle, uint32_t n,
                         SrcLoc where, Diag *d) {
    enum { SHOWN = 8 };
    StrBuf b = {0};
    for (uint32_t i = 0; i < n && i < SHOWN; i++) {
        add_node(&b, node, cycle[n - 1 - i]);
        strbuf_add(&b, " -> ");
    }
    if (n > SHOWN) strbuf_printf(&b, "(%u more) -> ", (unsigned)(n - SHOWN));
    add_node(&b, node, cycle[n - 1]);
    if (n == 1)
        diag_error(d, where, "a node needs its own output: %s", strbuf_text(&b));
    else
        diag_error(d, where, "a cycle of %u nodes: %s", (unsigned)n, strbuf_text(&b));
    strbuf_free(&b);
}

static void report_shortest(Arena *scratch, Onnx__NodeProto *const *node, const Needs *g,
                            const uint32_t *cycle, uint32_t n, SrcLoc where, Diag *d) {
    enum { SEARCHES = 4 };
    uint32_t *best = arena_array(scratch, uint32_t, n), *path = arena_array(scratch, uint32_t, n);
    uint32_t best_n = n;
    memcpy(best, cycle, n * sizeof *best);
    for (uint32_t k = 0; k < SEARCHES && k < n; k++) {
        uint32_t length = search_cycle(scratch, g, cycle[(uint64_t)k * n / SEARCHES], best_n, path);
        if (!length) continue;
        best_n = length;
        memcpy(best, path, length * sizeof *best);
    }
    report_cycle(node, best, best_n, where, d);
}

uint32_t *order_nodes(OnnxModel *m, Arena *scratch, Onnx__NodeProto **node, uint32_t n,
                      const OrderEdges *edges, SrcLoc where, Diag *d) {
    uint32_t *order = arena_array(m->arena, uint32_t, n ? n : 1);
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    if (is_sorted(edges)) return order;

    enum { UNSEEN, OPEN, DONE };
    Needs g = group_edges(scratch, n, edges);
    uint8_t *state = arena_array(scratch, uint8_t, n);
    uint32_t *stack = arena_array(scratch, uint32_t, n), *next = arena_array(scratch, uint32_t, n);
    uint32_t n_done = 0;
    for (uint32_t root = 0; root < n; root++) {
        uint32_t depth = 0;
        if (state[root] != UNSEEN) continue;
        state[root] = OPEN;
        stack[depth++] = root;
        while (depth) {
            uint32_t i = stack[depth - 1], k = g.start[i] + next[i]++;
            if (k == g.start[i + 1]) {
                state[i] = DONE;
                order[n_done++] = i;
                depth--;
                continue;
            }
            uint32_t need = g.needs[k];
            if (state[need] == OPEN) {
                uint32_t first = depth - 1;
                while (stack[first] != need) first--;
                report_shortest(scratch, node, &g, stack + first, depth - first, where, d);
                return NULL;
            }
            if (state[need] == DONE) continue;
            state[need] = OPEN;
            stack[depth++] = need;
        }
    }
    return order;
}
