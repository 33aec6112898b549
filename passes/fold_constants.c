/* fold_constants: computes at compile time what does not depend on inputs.
 *
 * Before:  %1 = Shape(%0)                    %0: f32[1, 3, h, w]
 *          %2 = Gather(%1, const {1})        content {3}
 *          %4 = Transpose(const %3)
 * After:   uses of %2 read const {3}, those of %4 a constant that was transposed
 *
 * Requires shapes. Leaves shapes; constants replaced what was known and nothing dead is left.
 * It does not fold what would only make the library larger: an Expand or ConstantOfShape beyond
 * SPLAT_BYTES stays an instruction, and bytes that become i32 stay bytes, as codes of quantized
 * constants with more than one element do. What costs more than reading it, as a ScatterND at
 * expanded indices or the softmax of a table, is folded up to GROWN_BYTES, and all that up to
 * GROWN_TOTAL; of a chain of these the last one only. Random numbers are not constants. */
#include "passes/fold.h"

#include <string.h>

#include "passes/pass.h"

#define FOLD_LIMIT_BYTES (UINT64_C(256) << 20)
enum { SPLAT_BYTES = 64 << 10, MOVED_BYTES = 64 << 10, WIDENED_ELEMS = 64 };
enum { GROWN_BYTES = 4 << 20, GROWN_TOTAL = 64 << 20, MOST_DEPTH = 64 };

/* ---- contents -------------------------------------------------------------------------------- */

/* A constant with the elements of v, whose contents are all constant; NULL when they are not. */
static Value *const_from_content(Module *m, const Value *v) {
    int64_t n, e;
    if (!v->content || !shape_count_int(v->shape, &n) || n > MAX_CONTENT) return NULL;
    for (int64_t i = 0; i < n; i++)
        if (!v->content[i] || !k_is_int(v->content[i], &e)) return NULL;
    int width = dtype_bytes(v->dtype);
    uint8_t *bytes = arena_alloc(m->arena, (size_t)(n ? n : 1) * (size_t)width);
    for (int64_t i = 0; i < n; i++) {
        k_is_int(v->content[i], &e);
        memcpy(bytes + i * width, &e, (size_t)width); /* the low bytes: hosts are little-endian */
    }
    return graph_add_const(v->graph, v->name, v->dtype, v->shape, bytes,
                           (uint64_t)n * (uint64_t)width);
}

static bool fold_contents(Module *m, Node *n) {
    bool changed = false;
    for (int i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (!v || !value_has_uses(v) || !dtype_is_int(v->dtype)) continue;
        Value *by = const_from_content(m, v);
        if (!by) continue;
        changed = true;
        if (m->on_trial) {
            v->data = by->data;
            v->data_bytes = by->data_bytes;
        } else {
            value_replace_uses(v, by);
        }
    }
    return changed;
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static uint64_t tensor_bytes(const Value *v) {
    int64_t n;
    if (v->dtype == DT_NONE || v->shape.rank < 0 || !shape_count_int(v->shape, &n))
        return UINT64_MAX;
    uint64_t width = (uint64_t)dtype_bytes(v->dtype);
    return width && (uint64_t)n > UINT64_MAX / width ? UINT64_MAX : (uint64_t)n * width;
}

static bool has_const_inputs(const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !value_is_const(n->in[i])) return false;
    return true;
}

/* Bytes as i32: weights of integer products, which read them as bytes (use_integers). */
static bool widens_bytes(const Node *n, uint64_t out_elems) {
    const Value *x = n->n_in ? n->in[0] : NULL;
    bool is_byte = x && (x->dtype == DT_I8 || x->dtype == DT_U8);
    return is_byte && n->out[0] && n->out[0]->dtype == DT_I32 && out_elems > WIDENED_ELEMS;
}

/* A quantized constant with one element: a factor or an addend, which functions of one byte
 * (tabulate_bytes) have to see. A bias (i32) is added before its scale, so it stays. */
static bool decodes_one(const Node *n) {
    int64_t elems;
    const Value *x = n->n_in ? n->in[0] : NULL;
    return x && dtype_bytes(x->dtype) <= 2 && shape_count_int(x->shape, &elems) && elems == 1;
}

/* Sequences, strings and control flow are not evaluated; nor is what grows without need. */
static bool may_evaluate(const Node *n, uint64_t limit_bytes) {
    uint64_t in_elems = 0, in_bytes = 0, out_bytes = 0, out_elems = 0;
    if (op_has(n->op, OPF_NONDET | OPF_CONTROL)) return false;
    if (op_has(n->op, OPF_DECODES) && !decodes_one(n)) return false;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) in_bytes += n->in[i]->data_bytes;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && n->in[i]->data_bytes)
            in_elems += n->in[i]->data_bytes / (uint64_t)dtype_bytes(n->in[i]->dtype);
    for (int i = 0; i < n->n_out; i++) {
        const Value *v = n->out[i];
        if (!v || !value_has_uses(v)) continue;
        uint64_t bytes = tensor_bytes(v);
        if (v->type != VT_TENSOR || v->dtype == DT_STR || bytes > limit_bytes) return false;
        out_bytes += bytes;
        out_elems += bytes / (uint64_t)dtype_bytes(v->dtype);
    }
    /* large weights that only move or widen are left to where they are packed: one copy, not two */
    bool grows = out_bytes > in_bytes;
    if ((op_has(n->op, OPF_MOVEMENT) || grows) && out_bytes > MOVED_BYTES) return false;
    if (widens_bytes(n, out_elems)) return false;
    return out_bytes <= limit_bytes && (out_bytes <= SPLAT_BYTES || out_elems / 2 <= in_elems);
}

/* evaluate_node leaves bytes in the outputs; their uses move to constants proper. */
static void detach_outputs(Node *n) {
    for (int i = 0; i < n->n_out; i++) {
        Value *v = n->out[i];
        if (!v || !v->data) continue;
        const void *data = v->data;
        v->data = NULL;
        if (!value_has_uses(v)) continue;
        Value *by = graph_add_const(v->graph, v->name, v->dtype, v->shape, data, v->data_bytes);
        by->content = v->content;
        value_replace_uses(v, by);
    }
}

static bool is_used(const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && value_has_uses(n->out[i])) return true;
    return false;
}

bool fold_node(Module *m, Node *n, uint64_t limit_bytes) {
    bool changed = fold_contents(m, n);
    if (!is_used(n) || !has_const_inputs(n) || !may_evaluate(n, limit_bytes)) return changed;
    if (!evaluate_node(m, n)) return changed;
    if (!m->on_trial) detach_outputs(n);
    return true;
}

/* ---- what grows ------------------------------------------------------------------------------ */

typedef struct Growth {
    Module *m;
    uint8_t *derived; /* node ids: it depends on constants only, and may be evaluated */
    uint8_t *covered; /* it was evaluated for a node that is folded */
    uint64_t total;   /* bytes that were evaluated, of nodes on the way, too */
} Growth;

static uint64_t used_bytes(const Node *n) {
    uint64_t total = 0;
    for (int i = 0; i < n->n_out && total <= GROWN_BYTES; i++) {
        const Value *v = n->out[i];
        if (!v) continue;
        total += v->type == VT_TENSOR && v->dtype != DT_STR ? tensor_bytes(v) : GROWN_BYTES + 1;
    }
    return total;
}

static bool is_derived(const Growth *g, const Node *n) {
    if (op_has(n->op, OPF_NONDET | OPF_CONTROL | OPF_DECODES) || !n->n_in) return false;
    for (int i = 0; i < n->n_in; i++) {
        const Value *v = n->in[i];
        if (!v || value_is_const(v)) continue;
        if (!v->def || v->graph != n->out[0]->graph || !g->derived[v->def->id]) return false;
    }
    return n->out[0] && used_bytes(n) <= GROWN_BYTES;
}

/* Leaves bytes in the outputs of n, and of the nodes that it depends on; false where these are too
 * many or too large. */
static bool evaluate_chain(Growth *g, Node *n, int depth) {
    g->total += used_bytes(n);
    if (depth > MOST_DEPTH || g->total > GROWN_TOTAL) return false;
    for (int i = 0; i < n->n_in; i++) {
        Value *v = n->in[i];
        if (!v || v->data) continue;
        g->covered[v->def->id] = true;
        if (!evaluate_chain(g, v->def, depth + 1)) return false;
    }
    return evaluate_node(g->m, n);
}

static bool fold_grown(Growth *g, Node *n) {
    if (op_has(n->op, OPF_MOVEMENT | OPF_ELTWISE | OPF_VIEW | OPF_SHAPE_ONLY) || !is_used(n) ||
        !g->derived[n->id] || g->covered[n->id] || !evaluate_chain(g, n, 0))
        return false;
    detach_outputs(n);
    return true;
}

static bool fold_growing(Module *m, Graph *graph) {
    Growth g = {m, arena_array(m->scratch, uint8_t, m->n_nodes),
                arena_array(m->scratch, uint8_t, m->n_nodes), 0};
    bool changed = false;
    for (Node *n = graph->first; n; n = n->next) g.derived[n->id] = is_derived(&g, n);
    for (Node *n = graph->last; n; n = n->prev) changed |= fold_grown(&g, n);
    for (Node *n = graph->first; n; n = n->next)
        for (int i = 0; g.derived[n->id] && i < n->n_out; i++) {
            if (!n->out[i]) continue;
            n->out[i]->data = NULL;
            n->out[i]->data_bytes = 0;
        }
    return changed;
}

/* ---- the pass -------------------------------------------------------------------------------- */

static bool fold_graph(Module *m, Graph *g) {
    bool changed = false;
    for (Node *n = g->first; n; n = n->next) {
        bug_context("fold_constants", n->loc);
        changed |= fold_node(m, n, FOLD_LIMIT_BYTES);
        for (uint32_t i = 0; i < n->attrs.n; i++)
            if (n->attrs.at[i].graph) changed |= fold_graph(m, n->attrs.at[i].graph);
    }
    return changed;
}

bool pass_fold_constants(Module *m) {
    bool changed = fold_graph(m, m->main);
    changed |= graph_drop_dead(m->main);
    if (!fold_growing(m, m->main)) return changed;
    graph_drop_dead(m->main);
    return true;
}
