/* Gradient of ai.onnx.preview.training: reverse-mode differentiation of the graph IR.
 *
 * The nodes that lead from xs to y are in the graph already, decomposed into the graph's own
 * operators. Where the node is given other values than those that xs and zs name, they are copied
 * with these in their place. Shapes are inferred up to here, since a broadcast operand's derivative
 * is summed over the axes that were broadcast. Then the nodes are visited backwards:
 *
 *     y = f(a, b)     da += dy * df/da     db += dy * df/db
 *
 * vjp() has the rule of each operator. An operator without a rule on the way from xs to y, control
 * flow, and a Gradient inside of a subgraph are refused. If y is no scalar, its elements' sum is
 * differentiated. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/gradient.h"
#include "ir/infer.h"

/* ---- small steps ----------------------------------------------------------------------------- */

Value *grad_op1(Tape *t, OpId op, Value *a) {
    return call_op(t->c, op, 1, a);
}

Value *grad_op2(Tape *t, OpId op, Value *a, Value *b) {
    return call_op(t->c, op, 2, a, b);
}

static Value *number(Tape *t, const Value *like, double v) {
    return call_scalar(t->c, like->dtype, v);
}

Value *grad_full_like(Tape *t, Value *x, double v) {
    return grad_op2(t, OP_Expand, number(t, x, v), grad_op1(t, OP_Shape, x));
}

Value *grad_reshape_like(Tape *t, Value *v, Value *x) {
    return build_reshape_as(t->c, v, grad_op1(t, OP_Shape, x));
}

/* Exchanges the last two axes. */
static Value *transposed(Tape *t, Value *v) {
    int64_t perm[MAX_RANK];
    int rank = v->shape.rank;
    for (int i = 0; i < rank; i++) perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    Value *y = grad_op1(t, OP_Transpose, v);
    node_set_ints(y->def, "perm", perm, rank);
    y->shape = shape_copy(t->c->m->arena, v->shape);
    y->shape.dims[rank - 1] = v->shape.dims[rank - 2];
    y->shape.dims[rank - 2] = v->shape.dims[rank - 1];
    return y;
}

static Value *sum_along(Tape *t, Value *v, int64_t axis) {
    return grad_op2(t, OP_ReduceSum, v, call_list(t->c, &axis, 1));
}

/* v, of shape `from`, summed over the axes along which an operand of x's shape was broadcast. */
static Value *sum_to(Tape *t, Value *v, Shape from, Value *x) {
    int64_t axes[MAX_RANK];
    int n = 0, lead = from.rank - x->shape.rank;
    for (int i = 0; i < from.rank; i++)
        if (i < lead || (k_is_value(x->shape.dims[i - lead], 1) && !k_is_value(from.dims[i], 1)))
            axes[n++] = i;
    if (n == 0) return v;
    Value *sum = grad_op2(t, OP_ReduceSum, v, call_list(t->c, axes, n));
    return lead ? grad_reshape_like(t, sum, x) : sum;
}

bool grad_is_wanted(const Tape *t, const Value *v) {
    return v && v->id < t->n && t->depends[v->id];
}

void grad_add(Tape *t, Value *v, Value *g) {
    if (!grad_is_wanted(t, v)) return;
    Value **sum = &t->grad[v->id];
    *sum = *sum ? grad_op2(t, OP_Add, *sum, g) : g;
}

static void add_broadcast(Tape *t, const Node *n, Value *v, Value *g) {
    if (grad_is_wanted(t, v)) grad_add(t, v, sum_to(t, g, n->out[0]->shape, v));
}

bool grad_refuse(Tape *t, const Node *n, const char *why) {
    diag_unsupported(t->c->im->d, t->c->loc, "the derivative of %s%s is not supported",
                     op_info[n->op].name, why);
    return false;
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* dy/dx of an operator with one input, times g; NULL when it has no rule here. */
static Value *unary_rule(Tape *t, const Node *n, Value *g) {
    Value *x = n->in[0], *y = n->out[0], *one = number(t, y, 1);
    switch ((int)n->op) {
    case OP_Abs: return grad_op2(t, OP_Mul, g, grad_op1(t, OP_Sign, x));
    case OP_Clip:
        return call_op(t->c, OP_Where, 3, grad_op2(t, OP_Equal, x, y), g, number(t, g, 0));
    case OP_Cos: return grad_op1(t, OP_Neg, grad_op2(t, OP_Mul, g, grad_op1(t, OP_Sin, x)));
    case OP_Erf: {
        Value *bell = grad_op1(t, OP_Exp, grad_op1(t, OP_Neg, grad_op2(t, OP_Mul, x, x)));
        return grad_op2(t, OP_Mul, grad_op2(t, OP_Mul, g, bell), number(t, g, 1.1283791670955126));
    }
    case OP_Exp: return grad_op2(t, OP_Mul, g, y);
    case OP_Identity: return g;
    case OP_LeakyRelu: {
        Value *less = grad_op2(t, OP_Mul, g, number(t, g, attr_float(n, "alpha", (double)0.01f)));
        return call_op(t->c, OP_Where, 3, grad_op2(t, OP_Less, x, number(t, x, 0)), less, g);
    }
    case OP_Log: return grad_op2(t, OP_Div, g, x);
    case OP_Neg: return grad_op1(t, OP_Neg, g);
    case OP_Reciprocal:
        return grad_op1(t, OP_Neg, grad_op2(t, OP_Mul, g, grad_op2(t, OP_Mul, y, y)));
    case OP_Relu:
        return call_op(t->c, OP_Where, 3, grad_op2(t, OP_Greater, x, number(t, x, 0)), g,
                       number(t, g, 0));
    case OP_Sigmoid:
        return grad_op2(t, OP_Mul, grad_op2(t, OP_Mul, g, y), grad_op2(t, OP_Sub, one, y));
    case OP_Sin: return grad_op2(t, OP_Mul, g, grad_op1(t, OP_Cos, x));
    case OP_Softplus: return grad_op2(t, OP_Mul, g, grad_op1(t, OP_Sigmoid, x));
    case OP_Sqrt: return grad_op2(t, OP_Div, g, grad_op2(t, OP_Add, y, y));
    case OP_Tanh:
        return grad_op2(t, OP_Mul, g, grad_op2(t, OP_Sub, one, grad_op2(t, OP_Mul, y, y)));
    case OP_Flatten:
    case OP_Reshape:
    case OP_Squeeze:
    case OP_Unsqueeze: return grad_reshape_like(t, g, x);
    default: return NULL;
    }
}

/* d of Pow: b a^(b-1) and y log(a) */
static void pow_rule(Tape *t, const Node *n, Value *g) {
    Value *a = n->in[0], *b = n->in[1];
    Value *less = grad_op2(t, OP_Pow, a, grad_op2(t, OP_Sub, b, number(t, b, 1)));
    add_broadcast(t, n, a, grad_op2(t, OP_Mul, g, grad_op2(t, OP_Mul, b, less)));
    if (grad_is_wanted(t, b))
        add_broadcast(
            t, n, b,
            grad_op2(t, OP_Mul, g, grad_op2(t, OP_Mul, n->out[0], grad_op1(t, OP_Log, a))));
}

/* Operators that broadcast their operands. False when n is none of them. */
static bool binary_rule(Tape *t, const Node *n, Value *g) {
    Value *a = n->in[0], *b = n->n_in > 1 ? n->in[1] : NULL, *zero = number(t, g, 0), *ratio;
    switch ((int)n->op) {
    case OP_Add: add_broadcast(t, n, a, g), add_broadcast(t, n, b, g); return true;
    case OP_Sub:
        add_broadcast(t, n, a, g);
        add_broadcast(t, n, b, grad_op1(t, OP_Neg, g));
        return true;
    case OP_Mul:
        add_broadcast(t, n, a, grad_op2(t, OP_Mul, g, b));
        add_broadcast(t, n, b, grad_op2(t, OP_Mul, g, a));
        return true;
    case OP_Div:
        ratio = grad_op2(t, OP_Div, g, b);
        add_broadcast(t, n, a, ratio);
        add_broadcast(t, n, b, grad_op1(t, OP_Neg, grad_op2(t, OP_Mul, ratio, n->out[0])));
        return true;
    case OP_Pow: pow_rule(t, n, g); return true;
    case OP_Sum:
        for (int i = 0; i < n->n_in; i++) add_broadcast(t, n, n->in[i], g);
        return true;
    case OP_Mean:
        g = grad_op2(t, OP_Div, g, number(t, g, n->n_in));
        for (int i = 0; i < n->n_in; i++) add_broadcast(t, n, n->in[i], g);
        return true;
    case OP_Where:
        add_broadcast(t, n, n->in[1], call_op(t->c, OP_Where, 3, a, g, zero));
        add_broadcast(t, n, n->in[2], call_op(t->c, OP_Where, 3, a, zero, g));
        return true;
    case OP_Expand: add_broadcast(t, n, a, g); return true;
    default: return false;
    }
}

/* One operand of a product: g times the other one, transposed, summed over broadcast batch axes. */
static void product_rule(Tape *t, Value *v, Value *left, Value *right, Shape batch) {
    if (!grad_is_wanted(t, v)) return;
    Shape full = shape_copy(t->c->m->arena, batch);
    for (int i = 1; i <= 2; i++) full.dims[full.rank - i] = v->shape.dims[v->shape.rank - i];
    grad_add(t, v, sum_to(t, grad_op2(t, OP_MatMul, left, right), full, v));
}

static bool matmul_rule(Tape *t, const Node *n, Value *g) {
    Value *a = n->in[0], *b = n->in[1];
    if (a->shape.rank < 2 || b->shape.rank < 2) return grad_refuse(t, n, " with a vector");
    product_rule(t, a, g, transposed(t, b), n->out[0]->shape);
    product_rule(t, b, transposed(t, a), g, n->out[0]->shape);
    return true;
}

/* y = alpha A' B' + beta c, with A' and B' perhaps transposed: of A' it is alpha g B'^T. */
static void gemm_rule(Tape *t, const Node *n, Value *g) {
    Value *a = n->in[0], *b = n->in[1], *c = n->n_in > 2 ? n->in[2] : NULL;
    bool flip_a = attr_int(n, "transA", 0) != 0, flip_b = attr_int(n, "transB", 0) != 0;
    Value *scaled = grad_op2(t, OP_Mul, g, number(t, g, attr_float(n, "alpha", 1)));
    scaled->shape = n->out[0]->shape;
    Value *g_t = transposed(t, scaled);
    grad_add(t, a,
             flip_a ? grad_op2(t, OP_MatMul, flip_b ? transposed(t, b) : b, g_t)
                    : grad_op2(t, OP_MatMul, scaled, flip_b ? b : transposed(t, b)));
    grad_add(t, b,
             flip_b ? grad_op2(t, OP_MatMul, g_t, flip_a ? transposed(t, a) : a)
                    : grad_op2(t, OP_MatMul, flip_a ? a : transposed(t, a), scaled));
    if (c) add_broadcast(t, n, c, grad_op2(t, OP_Mul, g, number(t, g, attr_float(n, "beta", 1))));
}

/* Every element that was summed gets the sum's derivative, of a mean its share. */
static void sum_rule(Tape *t, const Node *n, Value *g) {
    Value *x = n->in[0], *axes = n->n_in > 1 ? n->in[1] : NULL;
    if (axes && !attr_int(n, "keepdims", 1)) g = grad_op2(t, OP_Unsqueeze, g, axes);
    if (!axes && !attr_int(n, "keepdims", 1))
        g = grad_op2(t, OP_Reshape, g, call_list(t->c, NULL, 0));
    if (n->op == OP_ReduceMean) {
        Value *count =
            grad_op2(t, OP_Div, grad_op1(t, OP_Size, x), grad_op1(t, OP_Size, n->out[0]));
        Value *as = grad_op1(t, OP_Cast, count);
        node_set_int(as->def, "to", dtype_info[g->dtype].onnx);
        as->dtype = g->dtype;
        g = grad_op2(t, OP_Div, g, as);
    }
    grad_add(t, x, grad_op2(t, OP_Expand, g, grad_op1(t, OP_Shape, x)));
}

static void softmax_rule(Tape *t, const Node *n, Value *g) {
    Value *y = n->out[0];
    int64_t axis = attr_int(n, "axis", -1);
    if (n->op == OP_Softmax) {
        Value *mean = sum_along(t, grad_op2(t, OP_Mul, g, y), axis);
        grad_add(t, n->in[0], grad_op2(t, OP_Mul, grad_op2(t, OP_Sub, g, mean), y));
    } else {
        Value *share = grad_op2(t, OP_Mul, grad_op1(t, OP_Exp, y), sum_along(t, g, axis));
        grad_add(t, n->in[0], grad_op2(t, OP_Sub, g, share));
    }
}

static void transpose_rule(Tape *t, const Node *n, Value *g) {
    const int64_t *perm;
    int64_t back[MAX_RANK];
    int rank = n->in[0]->shape.rank, given = attr_ints(n, "perm", &perm);
    for (int i = 0; i < rank; i++) back[given ? perm[i] : rank - 1 - i] = i;
    Value *y = grad_op1(t, OP_Transpose, g);
    node_set_ints(y->def, "perm", back, rank);
    grad_add(t, n->in[0], y);
}

/* What was read is added to where it was read from. */
static bool gather_rule(Tape *t, const Node *n, Value *g) {
    Value *x = n->in[0], *index = n->in[1];
    int64_t axis = attr_int(n, "axis", 0), last = -1;
    bool whole = n->op == OP_Gather;
    if (whole && axis != 0 && axis != -x->shape.rank) return grad_movement_rule(t, n, 0, g);
    if (whole) index = grad_op2(t, OP_Unsqueeze, index, call_list(t->c, &last, 1));
    Value *y = call_op(t->c, whole ? OP_ScatterND : OP_ScatterElements, 3, grad_full_like(t, x, 0),
                       index, g);
    if (!whole) node_set_int(y->def, "axis", axis);
    node_set_string(y->def, "reduction", "add");
    grad_add(t, x, y);
    return true;
}

static bool concat_rule(Tape *t, const Node *n, Value *g) {
    int axis = shape_axis(attr_int(n, "axis", 0), n->out[0]->shape.rank);
    int64_t *sizes = arena_array(t->c->im->arena, int64_t, n->n_in);
    for (int i = 0; i < n->n_in; i++)
        if (!shape_dim_int(n->in[i]->shape, axis, &sizes[i]))
            return grad_refuse(t, n, " of symbolic sizes");
    Value *in[] = {g, call_list(t->c, sizes, n->n_in)};
    Node *parts = call_node(t->c, OP_Split, in, 2, n->n_in);
    node_set_int(parts, "axis", axis);
    for (int i = 0; i < n->n_in; i++) {
        parts->out[i]->dtype = g->dtype;
        grad_add(t, n->in[i], parts->out[i]);
    }
    return true;
}

static void cast_rule(Tape *t, const Node *n, Value *g) {
    Value *y = grad_op1(t, OP_Cast, g);
    node_set_int(y->def, "to", dtype_info[n->in[0]->dtype].onnx);
    y->dtype = n->in[0]->dtype;
    grad_add(t, n->in[0], y);
}

/* Hands g, the derivative by n's output, on to n's inputs. */
static bool vjp(Tape *t, const Node *n, Value *g) {
    if (binary_rule(t, n, g)) return true;
    switch ((int)n->op) {
    case OP_AveragePool: return grad_average_pool_rule(t, n, g);
    case OP_Cast: cast_rule(t, n, g); return true;
    case OP_Concat: return concat_rule(t, n, g);
    case OP_Conv: return grad_conv_rule(t, n, g);
    case OP_DepthToSpace:
    case OP_Slice:
    case OP_SpaceToDepth:
    case OP_Split:
    case OP_Tile: return grad_movement_rule(t, n, 0, g);
    case OP_Gather:
    case OP_GatherElements: return gather_rule(t, n, g);
    case OP_Gemm: gemm_rule(t, n, g); return true;
    case OP_GlobalAveragePool: return grad_global_pool_rule(t, n, g);
    case OP_LogSoftmax:
    case OP_Softmax: softmax_rule(t, n, g); return true;
    case OP_MatMul: return matmul_rule(t, n, g);
    case OP_MaxPool: return grad_max_pool_rule(t, n, g);
    case OP_ReduceMean:
    case OP_ReduceSum: sum_rule(t, n, g); return true;
    case OP_Transpose: transpose_rule(t, n, g); return true;
    default: break;
    }
    Value *dx = unary_rule(t, n, g);
    if (!dx) return grad_refuse(t, n, "");
    grad_add(t, n->in[0], dx);
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Marks what depends on xs, through floats. */
static void mark_dependents(Tape *t, Value *const *xs, int n_xs) {
    for (int i = 0; i < n_xs; i++) t->depends[xs[i]->id] = true;
    for (const Node *n = t->c->g->first; n; n = n->next) {
        bool any = false;
        for (int i = 0; i < n->n_in; i++)
            any |= n->in[i] && n->in[i]->id < t->n && t->depends[n->in[i]->id];
        for (int i = 0; any && i < n->n_out; i++)
            if (n->out[i] && dtype_is_float(n->out[i]->dtype)) t->depends[n->out[i]->id] = true;
    }
}

static bool has_control_flow(const Graph *g) {
    for (const Node *n = g->first; n; n = n->next)
        if (op_has(n->op, OPF_CONTROL)) return true;
    return false;
}

/* The value of a name, NULL after a message. */
static Value *named(Call *c, ProtobufCBinaryData name) {
    bool known;
    const char *text = intern_data(name);
    Value *v = scope_find(c->im, c->scope, text, c->loc, &known);
    if (v && v != c->im->poison) return v;
    if (!known) diag_error(c->im->d, c->loc, "there is no tensor '%s' before this node", text);
    return NULL;
}

/* Copies of the nodes of the graph that depend on the first n of `from`, with `to` in their place:
 * what y is then. by: the copies, by id. */
static Value *copy_with(Call *c, Value *const *from, Value *const *to, int n, Value *y) {
    uint32_t n_values = c->m->n_values;
    Value **by = arena_array(c->im->arena, Value *, n_values);
    const Node *last = c->g->last;
    for (int i = 0; i < n; i++) by[from[i]->id] = to[i];
    for (const Node *node = c->g->first; node; node = node == last ? NULL : node->next) {
        Value **in = arena_array(c->im->arena, Value *, node->n_in);
        bool any = false;
        for (int i = 0; i < node->n_in; i++) {
            in[i] = node->in[i];
            if (in[i] && by[in[i]->id]) in[i] = by[in[i]->id], any = true;
        }
        if (!any) continue;
        Node *copy = call_node(c, node->op, in, node->n_in, node->n_out);
        for (uint32_t i = 0; i < node->attrs.n; i++) node_set_attr(copy, node->attrs.at[i]);
        for (int i = 0; i < node->n_out; i++) {
            if (!node->out[i]) continue;
            copy->out[i]->dtype = node->out[i]->dtype;
            if (!by[node->out[i]->id]) by[node->out[i]->id] = copy->out[i];
        }
    }
    return by[y->id] ? by[y->id] : y;
}

static bool differentiate(Call *c, Value *const *xs, int n_xs, Value *y) {
    if (!infer_graph(c->m, c->g)) return false;
    Tape tape = {.c = c, .n = c->m->n_values}, *t = &tape;
    t->grad = arena_array(c->im->arena, Value *, t->n);
    t->depends = arena_array(c->im->arena, bool, t->n);
    mark_dependents(t, xs, n_xs);
    const Node *last = c->g->last;
    if (y->id < t->n) t->grad[y->id] = grad_full_like(t, y, 1);
    for (const Node *n = last; n; n = n->prev) {
        Value *out = n->out[0];
        for (int i = 1; i < n->n_out; i++) {
            Value *more = n->out[i] && n->out[i]->id < t->n ? t->grad[n->out[i]->id] : NULL;
            if (more && n->op != OP_Split) return grad_refuse(t, n, " by a further output");
            if (more && !grad_movement_rule(t, n, i, more)) return false;
        }
        if (!out || out->id >= t->n || !t->grad[out->id] || !t->depends[out->id]) continue;
        bool is_x = false;
        for (int i = 0; i < n_xs; i++) is_x |= xs[i] == out;
        if (!is_x && !vjp(t, n, t->grad[out->id])) return false;
    }
    for (int i = 0; i < n_xs && i < c->n_out; i++) {
        Value *g = t->grad[xs[i]->id];
        c->out[i] = grad_op1(t, OP_Identity, g ? g : grad_full_like(t, xs[i], 0));
    }
    return true;
}

bool import_gradient(Call *c) {
    const Onnx__AttributeProto *xs = call_attr(c, "xs"), *zs = call_attr(c, "zs");
    int n_xs = (int)xs->n_strings, n = n_xs + (zs ? (int)zs->n_strings : 0);
    if (c->scope->around || c->scope->function || has_control_flow(c->g)) {
        diag_unsupported(c->im->d, c->loc,
                         "derivatives in models with control flow are not supported");
        return false;
    }
    if (c->n_in != n || c->n_out > n_xs) {
        diag_error(c->im->d, c->loc, "xs and zs name %d tensors, but there are %d inputs", n,
                   c->n_in);
        return false;
    }
    Value **from = arena_array(c->im->arena, Value *, n);
    Value *y = named(c, call_attr(c, "y")->s);
    bool good = y != NULL, same = true;
    for (int i = 0; i < n; i++) {
        from[i] = named(c, i < n_xs ? xs->strings[i] : zs->strings[i - n_xs]);
        good &= from[i] && c->in[i];
        same &= from[i] == c->in[i];
    }
    if (!good) return false;
    if (!same) y = copy_with(c, from, c->in, n, y);
    return differentiate(c, c->in, n_xs, y);
}
