/* The rules of simplify, one small function each; the table at the end says which operator each is
 * for and in which order they are tried.
 *
 * A rule gives the value that replaces out[0] of its node, or NULL. New nodes go in front of n and
 * are inferred at once. Rules that compute weights do so in double and round once to the weight's
 * type, so that a folded weight is the nearest float to its exact value. */
#include <math.h>
#include <string.h>

#include "passes/simplify.h"

/* Is v a constant whose every element equals x? Large constants are not looked at. */
static bool is_all(const Value *v, double x) {
    int64_t n;
    if (!v || !value_is_const(v) || v->dtype == DT_STR || !shape_count_int(v->shape, &n) || n > 64)
        return false;
    for (int64_t i = 0; i < n; i++)
        if (value_const_float(v, i) != x) return false;
    return n > 0;
}

static bool same_type(const Value *a, const Value *b) {
    return a->dtype == b->dtype && shape_equal(a->shape, b->shape);
}

/* The node that defines v if v is used once, by this operator's output and nothing else. */
static Node *sole_def(const Value *v, OpId op) {
    return v && v->def && v->def->op == op && v->users.n == 1 && !v->is_output ? v->def : NULL;
}

static Value *inferred(Module *m, Value *v) {
    if (!op_info[v->def->op].infer(m, v->def)) BUG("simplify made a node that cannot be inferred");
    return v;
}

/* ---- nodes that do nothing ------------------------------------------------------------------- */

static Value *drop_identity(Module *m, Node *n) {
    (void)m;
    return n->in[0];
}

/* In inference the mask is all true; training_mode asks for random numbers and stays. */
static Value *drop_dropout(Module *m, Node *n) {
    (void)m;
    if (n->n_out > 1 && n->out[1] && value_has_uses(n->out[1])) return NULL;
    if (n->n_in > 2 && n->in[2] && !is_all(n->in[2], 0)) return NULL;
    return n->in[0];
}

static Value *drop_cast_to_same(Module *m, Node *n) {
    (void)m;
    return n->in[0]->dtype == n->out[0]->dtype ? n->in[0] : NULL;
}

static Value *drop_reshape_to_same(Module *m, Node *n) {
    (void)m;
    return same_type(n->in[0], n->out[0]) ? n->in[0] : NULL;
}

/* Slices only shorten: an equal, constant shape is all of the input, unless it runs backwards. */
static Value *drop_full_slice(Module *m, Node *n) {
    int64_t step[MAX_RANK];
    int n_steps = 0;
    if (!shape_is_const(n->out[0]->shape) || !same_type(n->in[0], n->out[0])) return NULL;
    if (n->n_in > 4 && n->in[4] && !value_ints(m, n->in[4], step, MAX_RANK, &n_steps)) return NULL;
    for (int i = 0; i < n_steps; i++)
        if (step[i] != 1) return NULL;
    return n->in[0];
}

static Value *drop_single_concat(Module *m, Node *n) {
    (void)m;
    return n->n_in == 1 ? n->in[0] : NULL;
}

static Value *drop_same_expand(Module *m, Node *n) {
    (void)m;
    return shape_is_const(n->out[0]->shape) && same_type(n->in[0], n->out[0]) ? n->in[0] : NULL;
}

/* x * 1, x / 1: exact for every x. x + 0 is not (-0 + 0 is +0), except with -0, and for integers.
 */
static Value *drop_neutral(Module *m, Node *n) {
    (void)m;
    bool scales = n->op == OP_Mul || n->op == OP_Div;
    for (int i = 0; i < 2; i++) {
        if (i == 0 && (n->op == OP_Div || n->op == OP_Sub)) continue;
        Value *x = n->in[1 - i], *c = n->in[i];
        if (!is_all(c, scales) || !same_type(x, n->out[0])) continue;
        bool negative = signbit(value_const_float(c, 0)) != 0;
        if (!scales && dtype_is_float(x->dtype) && negative != (n->op == OP_Add)) continue;
        return x;
    }
    return NULL;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static void transpose_perm(const Node *n, int64_t *perm) {
    const int64_t *p;
    int rank = n->in[0]->shape.rank, count = attr_ints(n, "perm", &p);
    for (int i = 0; i < rank; i++) perm[i] = count ? p[i] : rank - 1 - i;
}

static Value *fold_transpose(Module *m, Node *n) {
    int64_t perm[MAX_RANK], inner[MAX_RANK];
    int rank = n->in[0]->shape.rank;
    bool moves = false;
    transpose_perm(n, perm);
    for (int i = 0; i < rank; i++) moves |= perm[i] != i;
    if (!moves) return n->in[0];
    Node *below = n->in[0]->def;
    if (!below || below->op != OP_Transpose) return NULL;
    transpose_perm(below, inner);
    for (int i = 0; i < rank; i++) perm[i] = inner[perm[i]];
    Value *v = graph_op(n->graph, n, OP_Transpose, n->loc, 1, below->in[0]);
    node_set_ints(v->def, "perm", perm, rank);
    return inferred(m, v);
}

/* Cast(Cast(x: t0 -> t1) -> t2) where t1 holds every value of t0. */
static bool cast_is_exact(DType from, DType to) {
    if (from == to) return true;
    if (from == DT_BOOL) return to != DT_BOOL && to != DT_STR;
    if (from == DT_STR || to == DT_STR || to == DT_BOOL || dtype_is_code(to)) return false;
    if (dtype_is_code(from)) return to == DT_F32 || to == DT_F64;
    if (dtype_is_float(from)) return dtype_is_float(to) && dtype_bytes(to) > dtype_bytes(from);
    if (dtype_is_float(to))
        return dtype_bytes(from) * 2 <= dtype_bytes(to) && to != DT_BF16 && to != DT_F16;
    bool sign_fits = !dtype_is_signed(from) || dtype_is_signed(to);
    int need = dtype_info[from].bits + (!dtype_is_signed(from) && dtype_is_signed(to));
    return sign_fits && dtype_info[to].bits >= need;
}

static Value *fold_double_cast(Module *m, Node *n) {
    Node *below = n->in[0]->def;
    if (!below || below->op != OP_Cast) return NULL;
    Value *x = below->in[0];
    if (!cast_is_exact(x->dtype, n->in[0]->dtype)) return NULL;
    if (x->dtype == n->out[0]->dtype) return x;
    node_set_input(n, 0, x);
    return inferred(m, n->out[0]);
}

static bool is_view(const Node *n) {
    return n && (n->op == OP_Reshape || n->op == OP_Flatten || n->op == OP_Squeeze ||
                 n->op == OP_Unsqueeze);
}

/* A view of a view reads the first one's input. Only Reshape can take any input shape, and its
 * shape must not copy dims of the input (0) that it does not have any more: it is given as a
 * constant. */
static Value *fold_double_view(Module *m, Node *n) {
    Node *below = n->in[0]->def;
    int64_t dims[MAX_RANK];
    int rank = n->out[0]->shape.rank;
    if (!is_view(below)) return NULL;
    for (int i = 0; i < rank; i++)
        if (!shape_dim_int(n->out[0]->shape, i, &dims[i]) || !dims[i]) return NULL;
    Value *shape = graph_const_ints(n->graph, "", dims, rank);
    Value *v = graph_op(n->graph, n, OP_Reshape, n->loc, 2, below->in[0], shape);
    return inferred(m, v);
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static Value *fold_pow(Module *m, Node *n) {
    Value *x = n->in[0];
    if (!dtype_is_float(x->dtype) || !same_type(x, n->out[0])) return NULL;
    if (is_all(n->in[1], 1)) return x;
    if (is_all(n->in[1], 2)) return inferred(m, graph_op(n->graph, n, OP_Mul, n->loc, 2, x, x));
    return NULL; /* 0.5 is not Sqrt: pow(-inf, 0.5) is +inf and pow(-0, 0.5) is +0 */
}

/* x / 2^k = x * 2^-k, exactly, as long as 2^-k is a normal number of the type. */
static Value *fold_div_by_power_of_two(Module *m, Node *n) {
    Value *c = n->in[1];
    if ((n->out[0]->dtype != DT_F32 && n->out[0]->dtype != DT_F64) || !value_is_const(c))
        return NULL;
    int64_t count;
    if (!shape_count_int(c->shape, &count) || count != 1) return NULL;
    int e;
    double v = value_const_float(c, 0);
    if (fabs(frexp(v, &e)) != 0.5 || e < -120 || e > 120) return NULL;
    Value *by = graph_const_scalar(n->graph, c->dtype, 1 / v);
    by->shape = c->shape;
    return inferred(m, graph_op(n->graph, n, OP_Mul, n->loc, 2, n->in[0], by));
}

/* ---- constants into weights ------------------------------------------------------------------ */

static bool is_const_of(const Value *v, DType t, int64_t count) {
    int64_t n;
    return v && value_is_const(v) && v->dtype == t && shape_count_int(v->shape, &n) && n == count;
}

static void store_float(DType t, void *at, int64_t i, double v) {
    if (t == DT_F64)
        memcpy((char *)at + i * 8, &v, 8);
    else
        memcpy((char *)at + i * 4, &(float){(float)v}, 4);
}

/* A constant of n_elems floats to be filled in with store_float. */
static void *float_bytes(Module *m, DType t, int64_t n_elems) {
    return arena_alloc(m->arena, (size_t)n_elems * (size_t)dtype_bytes(t));
}

/* BatchNormalization's constants as out = x * scale + shift, in double. False when they are not
 * known. */
static bool batch_norm_affine(Module *m, const Node *n, int64_t *channels, double **scale,
                              double **shift) {
    const Value *x = n->in[0];
    if (attr_int(n, "training_mode", 0) || (x->dtype != DT_F32 && x->dtype != DT_F64)) return false;
    for (int i = 1; i < n->n_out; i++)
        if (n->out[i] && value_has_uses(n->out[i])) return false;
    if (x->shape.rank < 2 || !shape_dim_int(x->shape, 1, channels)) return false;
    for (int i = 1; i < 5; i++)
        if (!is_const_of(n->in[i], x->dtype, *channels)) return false;
    double epsilon = (float)attr_float(n, "epsilon", 1e-5);
    *scale = arena_array(m->scratch, double, *channels);
    *shift = arena_array(m->scratch, double, *channels);
    for (int64_t c = 0; c < *channels; c++) {
        (*scale)[c] =
            value_const_float(n->in[1], c) / sqrt(value_const_float(n->in[4], c) + epsilon);
        (*shift)[c] = value_const_float(n->in[2], c) - value_const_float(n->in[3], c) * (*scale)[c];
    }
    return true;
}

/* The axis of a contraction's weight that runs over output channels, or -1. */
static int weight_channel_axis(const Node *n) {
    switch (n->op) {
    case OP_Conv: return 0;
    case OP_ConvTranspose: return attr_int(n, "group", 1) == 1 ? 1 : -1;
    case OP_Gemm: return attr_int(n, "transB", 0) ? 0 : 1;
    default: return -1;
    }
}

/* The weight with channel c times scale[c]. */
static Value *scaled_weight(Module *m, const Node *conv, int axis, int64_t channels,
                            const double *scale) {
    Value *w = conv->in[1];
    int64_t n, inner = 1, dim;
    shape_count_int(w->shape, &n);
    for (int i = axis + 1; i < w->shape.rank; i++) {
        shape_dim_int(w->shape, i, &dim);
        inner *= dim;
    }
    void *bytes = float_bytes(m, w->dtype, n);
    for (int64_t i = 0; i < n; i++)
        store_float(w->dtype, bytes, i, value_const_float(w, i) * scale[i / inner % channels]);
    return graph_add_const(conv->graph, w->name, w->dtype, w->shape, bytes, w->data_bytes);
}

/* bias[c] * scale[c] + shift[c]; Gemm's bias carries beta, which stays an attribute of value 1. */
static Value *affine_bias(Module *m, const Node *conv, int64_t channels, const double *scale,
                          const double *shift) {
    Value *w = conv->in[1], *b = conv->n_in > 2 ? conv->in[2] : NULL;
    void *bytes = float_bytes(m, w->dtype, channels);
    for (int64_t c = 0; c < channels; c++)
        store_float(w->dtype, bytes, c, (b ? value_const_float(b, c) * scale[c] : 0) + shift[c]);
    return graph_add_const(conv->graph, b ? b->name : w->name, w->dtype,
                           shape_ints(m->k, &channels, 1), bytes,
                           (uint64_t)channels * (uint64_t)dtype_bytes(w->dtype));
}

/* The contraction that makes v, when scale and shift of its channels can go into its constants. */
static Node *scalable_def(const Value *v, int64_t channels) {
    Node *n = v->def;
    if (!n || v->users.n != 1 || v->is_output || weight_channel_axis(n) < 0) return NULL;
    Value *w = n->in[1], *b = n->n_in > 2 ? n->in[2] : NULL;
    int64_t dim;
    if (!value_is_const(w) || w->dtype != v->dtype || !shape_is_const(w->shape)) return NULL;
    if (!shape_dim_int(w->shape, weight_channel_axis(n), &dim) || dim != channels) return NULL;
    if (b && (b->shape.rank != 1 || !is_const_of(b, v->dtype, channels))) return NULL;
    if (n->op == OP_Gemm && (attr_float(n, "alpha", 1) != 1 || attr_float(n, "beta", 1) != 1))
        return NULL;
    return n;
}

static void set_weights(Node *n, Value *w, Value *b) {
    node_set_input(n, 1, w);
    if (n->n_in > 2)
        node_set_input(n, 2, b);
    else
        node_add_input(n, b);
}

static Value *fold_batch_norm_into_weights(Module *m, Node *n) {
    int64_t channels;
    double *scale, *shift;
    if (!n->in[0]->def || !batch_norm_affine(m, n, &channels, &scale, &shift)) return NULL;
    Node *conv = scalable_def(n->in[0], channels);
    if (!conv) return NULL;
    Value *w = scaled_weight(m, conv, weight_channel_axis(conv), channels, scale);
    set_weights(conv, w, affine_bias(m, conv, channels, scale, shift));
    return conv->out[0];
}

/* A constant of shape [channels, 1, 1, ...] that broadcasts over a tensor of this rank. */
static Value *channel_const(Module *m, Node *n, int rank, int64_t channels, const double *v) {
    DType t = n->in[0]->dtype;
    int64_t dims[MAX_RANK];
    void *bytes = float_bytes(m, t, channels);
    for (int64_t c = 0; c < channels; c++) store_float(t, bytes, c, v[c]);
    for (int i = 0; i < rank - 1; i++) dims[i] = i ? 1 : channels;
    return graph_add_const(n->graph, n->in[1]->name, t, shape_ints(m->k, dims, rank - 1), bytes,
                           (uint64_t)channels * (uint64_t)dtype_bytes(t));
}

static Value *fold_batch_norm_to_mul_add(Module *m, Node *n) {
    int64_t channels;
    double *scale, *shift;
    if (!batch_norm_affine(m, n, &channels, &scale, &shift)) return NULL;
    int rank = n->in[0]->shape.rank;
    Value *a = channel_const(m, n, rank, channels, scale),
          *b = channel_const(m, n, rank, channels, shift);
    Value *scaled = inferred(m, graph_op(n->graph, n, OP_Mul, n->loc, 2, n->in[0], a));
    return inferred(m, graph_op(n->graph, n, OP_Add, n->loc, 2, scaled, b));
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Zeros around the spatial axes that a Pad adds before a Conv. */
static bool is_zero_pad(Module *m, const Node *pad, int64_t *pads, int rank) {
    int n_pads;
    if (strcmp(attr_string(pad, "mode", "constant"), "constant") || (pad->n_in > 3 && pad->in[3]))
        return false;
    if (pad->n_in > 2 && pad->in[2] && !is_all(pad->in[2], 0)) return false;
    if (!value_ints(m, pad->in[1], pads, 2 * MAX_RANK, &n_pads) || n_pads != 2 * rank) return false;
    for (int i = 0; i < 2 * rank; i++)
        if (pads[i] < 0 || pads[i] > INT32_MAX) return false;
    return !pads[0] && !pads[1] && !pads[rank] && !pads[rank + 1];
}

static Value *fold_pad_into_conv(Module *m, Node *n) {
    Node *pad = sole_def(n->in[0], OP_Pad);
    int64_t around[2 * MAX_RANK], pads[2 * MAX_RANK];
    int rank = n->in[0]->shape.rank, spatial = rank - 2;
    const int64_t *own;
    if (!pad || strcmp(attr_string(n, "auto_pad", "NOTSET"), "NOTSET") ||
        !is_zero_pad(m, pad, around, rank))
        return NULL;
    int n_own = attr_ints(n, "pads", &own);
    for (int i = 0; i < spatial; i++) {
        pads[i] = around[2 + i] + (n_own ? own[i] : 0);
        pads[spatial + i] = around[rank + 2 + i] + (n_own ? own[spatial + i] : 0);
    }
    node_set_ints(n, "pads", pads, 2 * spatial);
    node_set_input(n, 0, pad->in[0]);
    return inferred(m, n->out[0]);
}

/* ---- reductions ------------------------------------------------------------------------------ */

/* max f(x) = f(max x) where f never falls: one f for each result. Not of nothing, where the largest
 * is -inf. */
static Value *sink_monotone(Module *m, Node *n) {
    Node *below = n->in[0]->def;
    int64_t count;
    if (!below || !op_has(below->op, OPF_MONOTONE) || below->n_in != 1 ||
        !sole_def(n->in[0], below->op) || !shape_count_int(n->in[0]->shape, &count) || !count)
        return NULL;
    Value *v = n->n_in > 1 && n->in[1]
                   ? graph_op(n->graph, n, n->op, n->loc, 2, below->in[0], n->in[1])
                   : graph_op(n->graph, n, n->op, n->loc, 1, below->in[0]);
    node_set_int(v->def, "keepdims", attr_int(n, "keepdims", 1));
    node_set_int(v->def, "noop_with_empty_axes", attr_int(n, "noop_with_empty_axes", 0));
    return inferred(m, graph_op(n->graph, n, below->op, below->loc, 1, inferred(m, v)));
}

/* ---- the table ------------------------------------------------------------------------------- */

#define RULE(op, name)                                                                             \
    { OP_##op, #name, name }
const SimplifyRule simplify_rules[] = {
    RULE(Identity, drop_identity),
    RULE(Dropout, drop_dropout),
    RULE(Cast, drop_cast_to_same),
    RULE(Cast, fold_double_cast),
    RULE(Reshape, drop_reshape_to_same),
    RULE(Flatten, drop_reshape_to_same),
    RULE(Squeeze, drop_reshape_to_same),
    RULE(Unsqueeze, drop_reshape_to_same),
    RULE(Reshape, fold_double_view),
    RULE(Flatten, fold_double_view),
    RULE(Squeeze, fold_double_view),
    RULE(Unsqueeze, fold_double_view),
    RULE(Slice, drop_full_slice),
    RULE(Concat, drop_single_concat),
    RULE(Expand, drop_same_expand),
    RULE(Tile, drop_same_expand),
    RULE(Mul, drop_neutral),
    RULE(Div, drop_neutral),
    RULE(Add, drop_neutral),
    RULE(Sub, drop_neutral),
    RULE(Transpose, fold_transpose),
    RULE(Pow, fold_pow),
    RULE(Div, fold_div_by_power_of_two),
    RULE(BatchNormalization, fold_batch_norm_into_weights),
    RULE(BatchNormalization, fold_batch_norm_to_mul_add),
    RULE(Conv, fold_pad_into_conv),
    RULE(NonMaxSuppression, limit_to_rows_read),
    RULE(ReduceMax, sink_monotone),
    RULE(ReduceMin, sink_monotone),
};
#undef RULE
const int n_simplify_rules = sizeof simplify_rules / sizeof *simplify_rules;
