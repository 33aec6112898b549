/* Short ways to build decompositions: see build.h.
 *
 * The shape of a value is asked for by importers that read ONNX's or a vendor's operator in one of
 * several forms that differ by rank only. Its makers are inferred there and then, in the order of
 * their dependence, control flow with its bodies; no constant is folded, and infer_shapes visits
 * them again. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "ir/infer.h"
#include "ir/support/arena.h"

/* ---- arithmetic ------------------------------------------------------------------------------ */

Value *build_add(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Add, 2, a, b);
}

Value *build_sub(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Sub, 2, a, b);
}

Value *build_mul(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Mul, 2, a, b);
}

Value *build_div(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Div, 2, a, b);
}

Value *build_add_optional(Call *c, Value *v, Value *x) {
    return x ? build_add(c, v, x) : v;
}

Value *build_scaled(Call *c, Value *v, double factor) {
    return factor == 1 ? v : build_mul(c, v, call_scalar(c, call_float_type(v), factor));
}

Value *build_where(Call *c, Value *condition, Value *a, Value *b) {
    return call_op(c, OP_Where, 3, condition, a, b);
}

Value *build_softmax(Call *c, Value *v, int64_t axis) {
    Value *y = call_op(c, OP_Softmax, 1, v);
    node_set_int(y->def, "axis", axis);
    return y;
}

Value *build_reduce(Call *c, OpId op, Value *v, const int64_t *axes, int n) {
    return call_op(c, op, 2, v, call_list(c, axes, n));
}

/* ---- constants ------------------------------------------------------------------------------- */

Value *build_one(Call *c, int64_t v) {
    return call_list(c, &v, 1);
}

Value *build_const(Call *c, DType t, const double *v, int n) {
    int count = n < 0 ? 1 : n;
    size_t width = (size_t)dtype_bytes(t);
    uint8_t *bytes = arena_alloc(c->m->arena, width * (size_t)count);
    for (int i = 0; i < count; i++)
        memcpy(bytes + width * (size_t)i, call_scalar(c, t, v[i])->data, width);
    Shape shape = shape_ints(c->m->k, (int64_t[]){count}, n < 0 ? 0 : 1);
    return graph_add_const(c->g, "", t, shape, bytes, width * (size_t)count);
}

/* ---- movement -------------------------------------------------------------------------------- */

Value *build_transpose(Call *c, Value *v, const int64_t *perm, int n) {
    Node *t = call_node(c, OP_Transpose, &v, 1, 1);
    node_set_ints(t, "perm", perm, n);
    return t->out[0];
}

Value *build_swap_last(Call *c, Value *v, int rank) {
    int64_t perm[MAX_RANK];
    for (int i = 0; i < rank; i++) perm[i] = i;
    perm[rank - 1] = rank - 2;
    perm[rank - 2] = rank - 1;
    return build_transpose(c, v, perm, rank);
}

Value *build_reshape(Call *c, Value *v, const int64_t *dims, int n) {
    return call_op(c, OP_Reshape, 2, v, call_list(c, dims, n));
}

Value *build_reshape_to(Call *c, Value *v, Value *const *dims, int n) {
    return call_op(c, OP_Reshape, 2, v, build_concat(c, dims, n, 0));
}

Value *build_reshape_as(Call *c, Value *v, Value *dims) {
    Value *y = call_op(c, OP_Reshape, 2, v, dims);
    node_set_int(y->def, "allowzero", 1);
    y->dtype = v->dtype;
    return y;
}

Value *build_unsqueeze(Call *c, Value *v, int64_t axis) {
    return call_op(c, OP_Unsqueeze, 2, v, build_one(c, axis));
}

Value *build_squeeze(Call *c, Value *v, int64_t axis) {
    return call_op(c, OP_Squeeze, 2, v, build_one(c, axis));
}

Value *build_concat(Call *c, Value *const *v, int n, int64_t axis) {
    if (n == 1) return v[0];
    Node *k = call_node(c, OP_Concat, v, n, 1);
    node_set_int(k, "axis", axis);
    return k->out[0];
}

Value *build_slice(Call *c, Value *v, int64_t from, int64_t to, int64_t axis) {
    return build_slice_at(c, v, build_one(c, from), build_one(c, to), axis);
}

Value *build_slice_at(Call *c, Value *v, Value *from, Value *to, int64_t axis) {
    return call_op(c, OP_Slice, 4, v, from, to, build_one(c, axis));
}

Value *build_gather(Call *c, Value *v, Value *indices, int64_t axis) {
    Value *y = call_op(c, OP_Gather, 2, v, indices);
    node_set_int(y->def, "axis", axis);
    return y;
}

void build_split(Call *c, Value *v, int n, int64_t axis, Value **part) {
    Node *s = call_node(c, OP_Split, &v, 1, n);
    node_set_int(s, "axis", axis);
    node_set_int(s, "num_outputs", n);
    for (int i = 0; i < n; i++) {
        part[i] = s->out[i];
        part[i]->dtype = v->dtype;
    }
}

Value *build_dim(Call *c, Value *v, int64_t axis) {
    Value *s = call_op(c, OP_Shape, 1, v);
    node_set_int(s->def, "start", axis);
    if (axis != -1) node_set_int(s->def, "end", axis + 1);
    return s;
}

Value *build_iota(Call *c, Value *count) {
    return call_op(c, OP_Range, 3, call_i64(c, 0), build_squeeze(c, count, 0), call_i64(c, 1));
}

/* ---- the call's own results ------------------------------------------------------------------ */

bool build_same(Call *c, OpId op, Value *const *in, int n_in, const char *but) {
    while (n_in > 0 && !in[n_in - 1]) n_in--;
    Node *n = call_node(c, op, in, n_in, c->n_out);
    return call_copy_attrs(c, n, but) && call_finish(c, n);
}

bool build_needs(Call *c, const int *inputs) {
    for (; *inputs >= 0; inputs++) {
        if (call_in(c, *inputs)) continue;
        diag_error(c->im->d, c->loc, "input %d is required and may not be left out", *inputs);
        return false;
    }
    return true;
}

/* ---- shapes while importing ------------------------------------------------------------------ */

static bool has_shape(const Value *v) {
    return v->shape.rank >= 0 && v->dtype != DT_NONE;
}

static bool can_infer(const Node *n) {
    bool is_control = op_has(n->op, OPF_CONTROL);
    if (n->n_in < op_info[n->op].in_lo) return false;
    for (int i = 0; i < op_info[n->op].in_lo && !is_control; i++)
        if (!n->in[i]) return false;
    return true;
}

/* Does v come from g or a graph around it? */
static bool is_visible(const Value *v, const Graph *g) {
    while (g && g != v->graph) g = g->parent;
    return g != NULL;
}

/* A value without a shape that `body` takes from graph g or from around it. Graphs nest as deep as
 * the check of the file allows. */
static Value *next_captured(const Graph *body, const Graph *g) {
    for (uint32_t i = 0; i < body->outputs.n; i++) {
        Value *v = body->outputs.at[i];
        if (!has_shape(v) && is_visible(v, g)) return v;
    }
    for (const Node *n = body->first; n; n = n->next) {
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && !has_shape(n->in[i]) && is_visible(n->in[i], g)) return n->in[i];
        for (uint32_t i = 0; i < n->attrs.n; i++) {
            Value *v =
                n->attrs.at[i].kind == AT_GRAPH ? next_captured(n->attrs.at[i].graph, g) : NULL;
            if (v) return v;
        }
    }
    return NULL;
}

/* A value without a shape that n or its bodies read, NULL when all have one. */
static Value *next_unknown(const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !has_shape(n->in[i])) return n->in[i];
    for (uint32_t i = 0; i < n->attrs.n; i++) {
        Value *v =
            n->attrs.at[i].kind == AT_GRAPH ? next_captured(n->attrs.at[i].graph, n->graph) : NULL;
        if (v) return v;
    }
    return NULL;
}

static bool gave_shapes(const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && !has_shape(n->out[i])) return false;
    return true;
}

/* Depth first, with the path on a stack of its own: graphs may be thousands of nodes deep. */
static bool infer_value(Call *c, Value *v) {
    VEC(Node *) path = {0};
    if (!v->def) return has_shape(v);
    vec_push(c->im->arena, &path, v->def);
    while (path.n) {
        Node *n = path.at[path.n - 1];
        if (!can_infer(n)) return false;
        Value *unknown = next_unknown(n);
        if (unknown) {
            if (!unknown->def) return false;
            vec_push(c->im->arena, &path, unknown->def);
            continue;
        }
        if (!op_info[n->op].infer(c->m, n) || !gave_shapes(n)) return false;
        path.n--;
    }
    return has_shape(v);
}

bool build_has_shape(Call *c, Value *v) {
    return has_shape(v) || infer_value(c, v);
}

const Shape *build_shape(Call *c, Value *v, const char *what) {
    if (v->shape.rank >= 0 || build_has_shape(c, v)) return &v->shape;
    diag_unsupported(c->im->d, c->loc,
                     "the shape of %s does not follow from the model's inputs, and the form of the "
                     "operator depends on it",
                     what);
    return NULL;
}

int build_rank(Call *c, Value *v, const char *what) {
    const Shape *s = build_shape(c, v, what);
    return s ? s->rank : -1;
}
