/* Rules of Gradient for windows and movement (gradient.h).
 *
 *   Conv         by x, a ConvTranspose of g with the same weights; by w, a Conv of x with g as
 *                weights, batch and channels exchanged, strides and dilations too; by b, sums
 *   AveragePool  the same as a depthwise Conv, by x: each g divided by what its window counts
 *   MaxPool      g goes where the operator's second output says the maxima were
 *   movement     the operator once more, of the elements' positions, says where each came from
 *
 * Window sizes have to be known, since a stride's remainder decides how ConvTranspose ends. */
#include "frontend/onnx/build.h"
#include "frontend/onnx/gradient.h"
#include "ir/ops/window.h"

/* Each element of g is added to the element of x whose row-major position is beside it. */
static void scatter(Tape *t, Value *x, Value *positions, Value *g) {
    Call *c = t->c;
    int64_t all = -1;
    Value *zeros = build_reshape(c, grad_full_like(t, x, 0), &all, 1);
    Value *y = call_op(c, OP_ScatterElements, 3, zeros, build_reshape(c, positions, &all, 1),
                       build_reshape(c, g, &all, 1));
    node_set_string(y->def, "reduction", "add");
    grad_add(t, x, grad_reshape_like(t, y, x));
}

static Node *repeated(Tape *t, const Node *n, Value *first, int n_out) {
    Value **in = arena_array(t->c->im->arena, Value *, n->n_in);
    for (int i = 0; i < n->n_in; i++) in[i] = i ? n->in[i] : first;
    Node *copy = call_node(t->c, n->op, in, n->n_in, n_out);
    for (uint32_t i = 0; i < n->attrs.n; i++) node_set_attr(copy, n->attrs.at[i]);
    return copy;
}

bool grad_movement_rule(Tape *t, const Node *n, int out, Value *g) {
    Call *c = t->c;
    Value *x = n->in[0], *size = grad_op1(t, OP_Size, x);
    Value *positions = call_op(c, OP_Range, 3, call_i64(c, 0), size, call_i64(c, 1));
    Node *copy = repeated(t, n, grad_reshape_like(t, positions, x), n->n_out);
    for (int i = 0; i < n->n_out; i++) copy->out[i]->dtype = DT_I64;
    scatter(t, x, copy->out[out], g);
    return true;
}

bool grad_max_pool_rule(Tape *t, const Node *n, Value *g) {
    if (attr_int(n, "storage_order", 0)) return grad_refuse(t, n, " in column order");
    Node *copy = repeated(t, n, n->in[0], 2);
    copy->out[0]->dtype = n->out[0]->dtype;
    copy->out[1]->dtype = DT_I64;
    scatter(t, n->in[0], copy->out[1], g);
    return true;
}

bool grad_global_pool_rule(Tape *t, const Node *n, Value *g) {
    Value *x = n->in[0];
    Value *count = grad_op2(t, OP_Div, grad_op1(t, OP_Size, x), grad_op1(t, OP_Size, n->out[0]));
    Value *share = grad_op2(t, OP_Div, g, call_cast(t->c, count, g->dtype));
    grad_add(t, x, grad_op2(t, OP_Expand, share, grad_op1(t, OP_Shape, x)));
    return true;
}

/* ---- windows --------------------------------------------------------------------------------- */

/* The geometry of n; false after a message where it is not known. */
static bool window_of(Tape *t, const Node *n, Window *w) {
    int rank = n->in[0]->shape.rank;
    int64_t dim;
    bool known = !node_attr(n, "auto_pad");
    for (int i = 2; i < rank; i++)
        known &=
            shape_dim_int(n->in[0]->shape, i, &dim) && shape_dim_int(n->out[0]->shape, i, &dim);
    if (!known) return grad_refuse(t, n, " of symbolic sizes");
    window_load(n, rank - 2, w);
    return true;
}

static void set_window(Node *n, const Window *w, const int64_t *stride, const int64_t *dilation) {
    node_set_ints(n, "strides", stride, w->n);
    node_set_ints(n, "dilations", dilation, w->n);
    node_set_ints(n, "pads", w->pad, 2 * w->n);
}

/* The derivative by n's input of a Conv with these weights. */
static Value *back_through(Tape *t, const Node *n, const Window *w, Value *g, Value *weights,
                           int64_t group) {
    int64_t ends[MAX_RANK], in, out;
    bool known = true;
    for (int i = 0; i < w->n; i++) {
        known &= shape_dim_int(n->in[0]->shape, i + 2, &in) &&
                 shape_dim_int(n->out[0]->shape, i + 2, &out);
        /* what no window covers at the end: ConvTranspose fills it up with zeros */
        ends[i] =
            in + w->pad[i] + w->pad[w->n + i] - (out - 1) * w->stride[i] - window_extent(w, i);
    }
    BUG_IF(!known, "a window's size is not known any more");
    Value *in_values[2] = {g, weights};
    Node *y = call_node(t->c, OP_ConvTranspose, in_values, 2, 1);
    set_window(y, w, w->stride, w->dilation);
    node_set_ints(y, "kernel_shape", w->kernel, w->n);
    node_set_ints(y, "output_padding", ends, w->n);
    node_set_int(y, "group", group);
    y->out[0]->dtype = g->dtype;
    return y->out[0];
}

/* x[N, G*C, ..] as [C, G*N, ..], which a Conv with groups reads as batch and channels. */
static Value *exchanged(Tape *t, Value *x, int64_t group) {
    Call *c = t->c;
    int rank = x->shape.rank;
    int64_t perm[MAX_RANK] = {2, 1, 0}, split[MAX_RANK] = {0, group, -1}, merged[MAX_RANK];
    Value *shape = grad_op1(t, OP_Shape, x), *head[2], *tail[2];
    for (int i = 3; i <= rank; i++) perm[i] = i;
    head[0] = call_list(c, split, 3);
    head[1] = build_slice(c, shape, 2, rank, 0);
    Value *parts = build_reshape_to(c, x, head, 2);
    Value *turned = build_transpose(c, parts, perm, rank + 1);
    merged[0] = 0;
    merged[1] = -1;
    tail[0] = call_list(c, merged, 2);
    tail[1] = head[1];
    return build_reshape_to(c, turned, tail, 2);
}

static Value *by_weights(Tape *t, const Node *n, const Window *w, Value *g, int64_t group) {
    Call *c = t->c;
    int64_t perm[MAX_RANK], size, kernel[MAX_RANK];
    for (int i = 0; i < w->n + 2; i++) perm[i] = i < 2 ? 1 - i : i;
    Value *in[2] = {exchanged(t, n->in[0], group), build_transpose(c, g, perm, w->n + 2)};
    Node *y = call_node(c, OP_Conv, in, 2, 1);
    set_window(y, w, w->dilation, w->stride);
    for (int i = 0; i < w->n; i++)
        kernel[i] = shape_dim_int(n->out[0]->shape, i + 2, &size) ? size : 1;
    node_set_ints(y, "kernel_shape", kernel, w->n);
    node_set_int(y, "group", group);
    y->out[0]->dtype = g->dtype;
    Value *v = build_transpose(c, y->out[0], perm, w->n + 2);
    for (int i = 0; i < w->n; i++) v = build_slice(c, v, 0, w->kernel[i], i + 2);
    v->dtype = g->dtype;
    return v;
}

bool grad_conv_rule(Tape *t, const Node *n, Value *g) {
    Window w;
    int64_t axes[MAX_RANK], group = attr_int(n, "group", 1), n_axes = 0;
    Value *bias = n->n_in > 2 ? n->in[2] : NULL;
    if (!window_of(t, n, &w)) return false;
    if (grad_is_wanted(t, n->in[0]))
        grad_add(t, n->in[0], back_through(t, n, &w, g, n->in[1], group));
    if (grad_is_wanted(t, n->in[1])) grad_add(t, n->in[1], by_weights(t, n, &w, g, group));
    for (int i = 0; i < w.n + 2; i++)
        if (i != 1) axes[n_axes++] = i;
    if (bias && grad_is_wanted(t, bias)) {
        Value *sum = build_reduce(t->c, OP_ReduceSum, g, axes, (int)n_axes);
        grad_add(t, bias, grad_reshape_like(t, sum, bias));
    }
    return true;
}

bool grad_average_pool_rule(Tape *t, const Node *n, Value *g) {
    Window w;
    int64_t channels, ones[MAX_RANK] = {0, 1};
    if (!window_of(t, n, &w)) return false;
    if (!shape_dim_int(n->in[0]->shape, 1, &channels) || attr_int(n, "ceil_mode", 0))
        return grad_refuse(t, n, " of these windows");
    /* what each window counts: the pool of ones is the share of those inside of it */
    int64_t elements = 1;
    for (int i = 0; i < w.n; i++) elements *= w.kernel[i];
    Value *share = call_scalar(t->c, g->dtype, 1 / (double)elements);
    if (!attr_int(n, "count_include_pad", 0)) {
        Node *inside = repeated(t, n, grad_full_like(t, n->in[0], 1), 1);
        node_set_int(inside, "count_include_pad", 1);
        inside->out[0]->dtype = g->dtype;
        share = grad_op2(t, OP_Div, share, inside->out[0]);
    }
    ones[0] = channels;
    for (int i = 0; i < w.n; i++) ones[i + 2] = w.kernel[i];
    Value *weights =
        grad_op2(t, OP_Expand, call_scalar(t->c, g->dtype, 1), call_list(t->c, ones, w.n + 2));
    Value *spread = back_through(t, n, &w, grad_op2(t, OP_Mul, g, share), weights, channels);
    grad_add(t, n->in[0], spread);
    return true;
}
