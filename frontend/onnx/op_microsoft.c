/* Importers of com.microsoft's arithmetic: activations, normalisations, fused contractions and
 * operators that are ONNX's under another name. ONNX Runtime's optimizer and exporters write them;
 * each is a combination of ONNX's own, which the compiler fuses again where that pays. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/microsoft.h"

/* ---- activations ----------------------------------------------------------------------------- */

/* x * sigmoid(alpha x) */
static Value *swish(Call *c, Value *x, double alpha) {
    return build_mul(c, x, call_op(c, OP_Sigmoid, 1, build_scaled(c, x, alpha)));
}

static Value *gelu(Call *c, Value *x, const char *approximate) {
    Value *y = call_op(c, OP_Gelu, 1, x);
    node_set_string(y->def, "approximate", approximate);
    return y;
}

bool import_ms_gelu(Call *c) {
    return call_result(c, gelu(c, c->in[0], "none"));
}

bool import_ms_bias_gelu(Call *c) {
    return call_result(c, gelu(c, build_add(c, c->in[0], c->in[1]), "none"));
}

bool import_ms_fast_gelu(Call *c) {
    return call_result(c, gelu(c, build_add_optional(c, c->in[0], call_in(c, 1)), "tanh"));
}

bool import_ms_quick_gelu(Call *c) {
    return call_result(c, swish(c, c->in[0], call_float(c, "alpha", 1.702)));
}

/* One half of x + bias, times gelu of the other. */
bool import_ms_bias_split_gelu(Call *c) {
    Value *half[2];
    build_split(c, build_add(c, c->in[0], c->in[1]), 2, -1, half);
    return call_result(c, build_mul(c, half[0], gelu(c, half[1], "none")));
}

bool import_ms_bias_add(Call *c) {
    return call_result(c, build_add(c, build_add(c, c->in[0], c->in[1]), c->in[2]));
}

/* What a fused activation is called, and which of its parameters it has: `names` are the graph
 * operator's attributes in the order of the file's. */
static const struct {
    const char *name;
    OpId op;
    const char *names[2];
} fused_activations[] = {
    {"Elu", OP_Elu, {"alpha", NULL}},
    {"Gelu", OP_Gelu, {NULL, NULL}},
    {"HardSigmoid", OP_HardSigmoid, {"alpha", "beta"}},
    {"HardSwish", OP_HardSwish, {NULL, NULL}},
    {"LeakyRelu", OP_LeakyRelu, {"alpha", NULL}},
    {"Relu", OP_Relu, {NULL, NULL}},
    {"Selu", OP_Selu, {"alpha", "gamma"}},
    {"Sigmoid", OP_Sigmoid, {NULL, NULL}},
    {"Softplus", OP_Softplus, {NULL, NULL}},
    {"Softsign", OP_Softsign, {NULL, NULL}},
    {"Tanh", OP_Tanh, {NULL, NULL}},
    {"ThresholdedRelu", OP_ThresholdedRelu, {"alpha", NULL}},
};

/* NULL after a message. The empty name is no activation. */
static Value *activate(Call *c, Value *v, const char *name, const double *params, int n_params) {
    if (!*name) return v;
    if (!strcmp(name, "Clip") && n_params == 2)
        return call_op(c, OP_Clip, 3, v, call_scalar(c, call_float_type(v), params[0]),
                       call_scalar(c, call_float_type(v), params[1]));
    for (size_t i = 0; i < sizeof fused_activations / sizeof *fused_activations; i++) {
        if (strcmp(fused_activations[i].name, name)) continue;
        Value *y = call_op(c, fused_activations[i].op, 1, v);
        const char *const *attr = fused_activations[i].names;
        for (int k = 0; k < 2 && k < n_params && attr[k]; k++)
            node_set_float(y->def, attr[k], params[k]);
        return y;
    }
    diag_unsupported(c->im->d, c->loc, "activation '%s' with %d parameters is not supported", name,
                     n_params);
    return NULL;
}

/* ---- contractions ---------------------------------------------------------------------------- */

static int activation_params(const Call *c, double out[2]) {
    const Onnx__AttributeProto *a = call_attr(c, "activation_params");
    int n = a ? (int)a->n_floats : 0;
    for (int i = 0; i < n && i < 2; i++) out[i] = (double)a->floats[i];
    return n;
}

/* Channels, the last axis of a layout like NHWC, moved to where ONNX has them, and back. */
Value *ms_channels_first(Call *c, Value *v, int rank) {
    int64_t perm[MAX_RANK] = {0, rank - 1};
    for (int i = 2; i < rank; i++) perm[i] = i - 1;
    return build_transpose(c, v, perm, rank);
}

Value *ms_channels_last(Call *c, Value *v, int rank) {
    int64_t perm[MAX_RANK] = {0};
    for (int i = 1; i + 1 < rank; i++) perm[i] = i + 1;
    perm[rank - 1] = 1;
    return build_transpose(c, v, perm, rank);
}

Value *ms_fused_conv(Call *c, Value *x, Value *w, Value *z) {
    double params[2];
    Value *in[] = {x, w, call_in(c, 2)};
    Node *conv = call_node(c, OP_Conv, in, in[2] ? 3 : 2, 1);
    if (!call_copy_attrs(c, conv, "activation activation_params")) return NULL;
    Value *y = build_add_optional(c, conv->out[0], z);
    int n = activation_params(c, params);
    return activate(c, y, call_string(c, "activation", ""), params, n);
}

bool import_ms_fused_conv(Call *c) {
    Value *y = ms_fused_conv(c, c->in[0], c->in[1], call_in(c, 3));
    return y && call_result(c, y);
}

/* x and z and the result with channels last; weights as ONNX has them. */
bool import_ms_nhwc_conv(Call *c) {
    int rank = build_rank(c, c->in[1], "the weights");
    if (rank < 0) return false;
    if (rank < 3) {
        diag_error(c->im->d, c->loc, "the weights have rank %d, but must have at least 3", rank);
        return false;
    }
    Value *z = call_in(c, 3), *x = ms_channels_first(c, c->in[0], rank);
    Value *y = ms_fused_conv(c, x, c->in[1], z ? ms_channels_first(c, z, rank) : NULL);
    return y && call_result(c, ms_channels_last(c, y, rank));
}

bool import_ms_nhwc_max_pool(Call *c) {
    const int64_t *kernel;
    int rank = call_ints(c, "kernel_shape", &kernel) + 2;
    if (rank > MAX_RANK) {
        diag_error(c->im->d, c->loc, "kernel_shape has too many entries");
        return false;
    }
    Value *x = ms_channels_first(c, c->in[0], rank);
    Node *pool = call_node(c, OP_MaxPool, &x, 1, 1);
    if (!call_copy_attrs(c, pool, "")) return false;
    return call_result(c, ms_channels_last(c, pool->out[0], rank));
}

/* pads (begin of each axis, then end) as an input, constant in the models that have it. */
bool import_ms_conv_transpose_pads(Call *c) {
    int64_t pads[2 * MAX_RANK];
    int n = 0;
    Value *given = call_in(c, 2), *in[] = {c->in[0], c->in[1], call_in(c, 3)};
    if (given && !value_ints(c->m, given, pads, 2 * MAX_RANK, &n)) {
        diag_unsupported(c->im->d, c->loc, "pads that are computed are not supported");
        return false;
    }
    Node *conv = call_node(c, OP_ConvTranspose, in, in[2] ? 3 : 2, 1);
    if (given) node_set_ints(conv, "pads", pads, n);
    return call_copy_attrs(c, conv, "") && call_finish(c, conv);
}

bool import_ms_fused_gemm(Call *c) {
    const char *name = call_string(c, "activation", "");
    double params[2] = {call_float(c, "activation_alpha", 0), 0};
    const char *second = !strcmp(name, "Selu") ? "activation_gamma" : "activation_beta";
    int n = call_attr(c, "activation_alpha") ? 1 : 0;
    if (n && call_attr(c, second)) params[1] = call_float(c, second, 0), n = 2;
    Node *gemm = call_node(c, OP_Gemm, c->in, c->n_in, 1);
    if (!call_copy_attrs(c, gemm, "activation activation_alpha activation_beta activation_gamma"))
        return false;
    Value *y = activate(c, gemm->out[0], name, params, n);
    return y && call_result(c, y);
}

/* One operand as MatMul wants it. batch: [M, batch..., K] has to become [batch..., M, K]. */
static Value *matmul_operand(Call *c, Value *v, bool swap, bool batch, const char *what) {
    if (!swap && !batch) return v;
    int64_t perm[MAX_RANK];
    int rank = build_rank(c, v, what), n = 0;
    if (rank < 2) return rank < 0 ? NULL : v; /* a vector has nothing to transpose */
    if (batch) {
        for (int i = 1; i + 1 < rank; i++) perm[n++] = i;
        perm[n++] = 0;
    } else {
        for (; n < rank - 1; n++) perm[n] = n;
    }
    perm[n] = rank - 1;
    if (swap) {
        int64_t last = perm[n];
        perm[n] = perm[n - 1];
        perm[n - 1] = last;
    }
    return build_transpose(c, v, perm, rank);
}

bool import_ms_fused_matmul(Call *c) {
    Value *a = matmul_operand(c, c->in[0], call_int(c, "transA", 0), call_int(c, "transBatchA", 0),
                              "input 0");
    Value *b = matmul_operand(c, c->in[1], call_int(c, "transB", 0), call_int(c, "transBatchB", 0),
                              "input 1");
    if (!a || !b) return false;
    Value *y = build_scaled(c, call_op(c, OP_MatMul, 2, a, b), call_float(c, "alpha", 1));
    const char *name = call_string(c, "activation", "");
    double params[2] = {call_float(c, "activation_alpha", 0), call_float(c, "activation_beta", 0)};
    int n = call_attr(c, "activation_alpha") ? 1 + (call_attr(c, "activation_beta") != NULL) : 0;
    if (!strcmp(name, "Softmax"))
        return call_result(c, build_softmax(c, y, call_int(c, "activation_axis", -1)));
    y = activate(c, y, name, params, n);
    return y && call_result(c, y);
}

/* ---- normalisations -------------------------------------------------------------------------- */

/* 1 / sqrt(mean of x^2 over the last axis + epsilon) */
static Value *root_spread(Call *c, Value *x, double epsilon) {
    Value *square = call_cast(c, x, DT_F32);
    square = build_mul(c, square, square);
    Value *mean = build_reduce(c, OP_ReduceMean, square, (int64_t[]){-1}, 1);
    mean = build_add(c, mean, call_scalar(c, DT_F32, epsilon));
    return call_op(c, OP_Reciprocal, 1, call_op(c, OP_Sqrt, 1, mean));
}

/* The exporters' name for RMSNormalization, in ONNX's own domain. */
bool import_simplified_layer_norm(Call *c) {
    int64_t axis = call_int(c, "axis", -1);
    double epsilon = call_float(c, "epsilon", 1e-5);
    if (call_wants(c, 1) && axis != -1) {
        diag_unsupported(c->im->d, c->loc, "its second output is supported for axis = -1 only");
        return false;
    }
    Value *y = call_op(c, OP_RMSNormalization, 2, c->in[0], c->in[1]);
    node_set_int(y->def, "axis", axis);
    node_set_float(y->def, "epsilon", epsilon);
    if (call_wants(c, 1)) c->out[1] = root_spread(c, c->in[0], epsilon);
    return call_result(c, y);
}

/* Layer normalisation of the last axis of s, with its statistics where the call wants them. */
static void finish_layer_norm(Call *c, Value *s, Value *gamma, Value *beta, bool statistics) {
    Value *in[] = {s, gamma, beta};
    bool more = statistics && (call_wants(c, 1) || call_wants(c, 2));
    Node *n = call_node(c, OP_LayerNormalization, in, beta ? 3 : 2, more ? 3 : 1);
    node_set_int(n, "axis", -1);
    node_set_float(n, "epsilon", call_float(c, "epsilon", 1e-12));
    c->out[0] = n->out[0];
    for (int i = 1; i < n->n_out; i++) {
        n->out[i]->dtype = DT_F32;
        if (call_wants(c, i))
            c->out[i] = n->out[i];
        else
            n->out[i] = NULL;
    }
}

/* x, skip, gamma, beta, bias: outputs are the result, mean, spread and the sum x + skip + bias. */
bool import_ms_skip_layer_norm(Call *c) {
    Value *s = build_add(c, c->in[0], c->in[1]);
    s = build_add_optional(c, s, call_in(c, 4));
    finish_layer_norm(c, s, c->in[2], call_in(c, 3), true);
    if (call_wants(c, 3)) c->out[3] = s;
    return true;
}

/* x, skip, gamma, bias */
bool import_ms_skip_simplified_layer_norm(Call *c) {
    double epsilon = call_float(c, "epsilon", 1e-12);
    Value *s = build_add(c, c->in[0], c->in[1]);
    s = build_add_optional(c, s, call_in(c, 3));
    Value *y = call_op(c, OP_RMSNormalization, 2, s, c->in[2]);
    node_set_int(y->def, "axis", -1);
    node_set_float(y->def, "epsilon", epsilon);
    if (call_wants(c, 1)) {
        diag_unsupported(c->im->d, c->loc, "there is no mean in this normalization");
        return false;
    }
    if (call_wants(c, 2)) c->out[2] = root_spread(c, s, epsilon);
    if (call_wants(c, 3)) c->out[3] = s;
    return call_result(c, y);
}

/* input_ids, segment_ids, word, position and segment embeddings, gamma, beta, mask, position_ids */
bool import_ms_embed_layer_norm(Call *c) {
    if (!build_needs(c, (int[]){0, 2, 3, 5, 6, -1})) return false;
    Value *ids = c->in[0], *segments = call_in(c, 1), *mask = call_in(c, 7);
    Value *positions = call_in(c, 8), *place;
    Value *sum = build_gather(c, c->in[2], ids, 0);
    if (positions)
        place = build_gather(c, c->in[3], positions, 0);
    else
        place = build_slice_at(c, c->in[3], build_one(c, 0), build_dim(c, ids, 1), 0);
    sum = build_add(c, sum, place);
    if (segments && call_in(c, 4)) sum = build_add(c, sum, build_gather(c, c->in[4], segments, 0));
    finish_layer_norm(c, sum, c->in[5], c->in[6], false);
    if (call_wants(c, 2)) c->out[2] = sum;
    if (!call_wants(c, 1)) return true;
    if (mask) { /* how many words there are */
        Value *one = call_scalar(c, DT_I32, 1);
        Value *is_word = call_cast(c, call_op(c, OP_Equal, 2, mask, one), DT_I32);
        Value *count = build_reduce(c, OP_ReduceSum, is_word, (int64_t[]){1}, 1);
        c->out[1] = build_squeeze(c, count, 1);
    } else {
        Value *zero = call_scalar(c, DT_I32, 0);
        c->out[1] = call_op(c, OP_Expand, 2, zero, build_dim(c, ids, 0));
    }
    return true;
}

/* x, gamma, beta, skip, bias: channels last by default; an activation of 1 is x * sigmoid(x). */
bool import_ms_group_norm(Call *c) {
    bool last = call_int(c, "channels_last", 1) != 0;
    Value *x = c->in[0], *skip = call_in(c, 3);
    int rank = build_rank(c, x, "input 0");
    if (rank < 3) {
        if (rank >= 0) diag_error(c->im->d, c->loc, "input 0 has rank %d, but must have 4", rank);
        return false;
    }
    DType t = call_float_type(x);
    if (last) x = ms_channels_first(c, x, rank);
    if (skip) {
        int skip_rank = build_rank(c, skip, "the skip input");
        if (skip_rank == 2) {
            skip = build_unsqueeze(c, build_unsqueeze(c, skip, -1), -1);
        } else if (skip_rank == rank) {
            if (last) skip = ms_channels_first(c, skip, rank);
        } else {
            if (skip_rank >= 0)
                diag_error(c->im->d, c->loc, "the skip input has rank %d, but must have 2 or %d",
                           skip_rank, rank);
            return false;
        }
        x = build_add(c, x, skip);
        if (call_in(c, 4))
            x = build_add(c, x, build_reshape(c, c->in[4], (int64_t[]){-1, 1, 1}, 3));
    }
    if (call_wants(c, 1)) c->out[1] = last ? ms_channels_last(c, x, rank) : x;
    Value *y = call_op(c, OP_GroupNormalization, 3, x, call_cast(c, c->in[1], t),
                       call_cast(c, c->in[2], t));
    node_set_int(y->def, "num_groups", call_int(c, "groups", 1));
    node_set_float(y->def, "epsilon", call_float(c, "epsilon", 1e-5));
    if (call_int(c, "activation", 0)) y = swish(c, y, 1);
    return call_result(c, last ? ms_channels_last(c, y, rank) : y);
}

/* ---- ONNX's operators in another domain ------------------------------------------------------ */

bool import_ms_same(Call *c) {
    OpId op = op_from_name("", c->row->type);
    BUG_IF(op == OP_NONE, "ops_microsoft.def imports %s as ONNX's, which the graph lacks",
           c->row->type);
    return build_same(c, op, c->in, c->n_in, "");
}

static Value *as_scalar(Call *c, Value *v) {
    return build_reshape(c, v, NULL, 0);
}

bool import_ms_range(Call *c) {
    Value *delta = call_in(c, 2);
    DType t = c->in[0]->dtype;
    if (!delta) {
        if (t == DT_NONE) {
            diag_unsupported(c->im->d, c->loc, "its element type is not known: give a delta");
            return false;
        }
        delta = call_scalar(c, t, 1);
    }
    return call_result(c, call_op(c, OP_Range, 3, as_scalar(c, c->in[0]), as_scalar(c, c->in[1]),
                                  as_scalar(c, delta)));
}

bool import_ms_pad(Call *c) {
    Value *in[] = {c->in[0], build_reshape(c, c->in[1], (int64_t[]){-1}, 1), call_in(c, 2)};
    if (in[2]) in[2] = as_scalar(c, in[2]);
    return build_same(c, OP_Pad, in, 3, "");
}

bool import_ms_expand_dims(Call *c) {
    Value *axis = call_cast(c, build_reshape(c, c->in[1], (int64_t[]){1}, 1), DT_I64);
    return call_result(c, call_op(c, OP_Unsqueeze, 2, c->in[0], axis));
}

/* Sums of bytes in 32 bits, signed for signed ones. */
bool import_ms_reduce_sum_integer(Call *c) {
    DType t = c->in[0]->dtype == DT_U8 ? DT_U32 : DT_I32;
    Value *in[] = {call_cast(c, c->in[0], t), call_ints_input(c, "axes")};
    return build_same(c, OP_ReduceSum, in, 2, "axes");
}

/* Distances between the rows of a [M, N] and of b [K, N], as sums of squared differences. */
bool import_ms_cdist(Call *c) {
    const char *metric = call_string(c, "metric", "sqeuclidean");
    bool root = !strcmp(metric, "euclidean");
    if (!root && strcmp(metric, "sqeuclidean")) {
        diag_unsupported(c->im->d, c->loc,
                         "metric '%s' is not supported; euclidean and sqeuclidean are", metric);
        return false;
    }
    Value *a = build_unsqueeze(c, c->in[0], 1), *b = build_unsqueeze(c, c->in[1], 0);
    Value *axis = call_list(c, (int64_t[]){-1}, 1);
    Value *y = call_op(c, OP_ReduceSumSquare, 2, build_sub(c, a, b), axis);
    node_set_int(y->def, "keepdims", 0);
    return call_result(c, root ? call_op(c, OP_Sqrt, 1, y) : y);
}

/* Softmax of data + bias over the axes from `axis` on; the bias lacks the batch axes in front of
 * it, or (inner broadcast) those between its batch axes and `axis`. */
bool import_ms_bias_softmax(Call *c) {
    Value *x = c->in[0], *bias = c->in[1];
    int64_t axis = call_int(c, "axis", 1);
    int rank = build_rank(c, x, "input 0"), bias_rank = build_rank(c, bias, "the bias");
    if (rank < 0 || bias_rank < 0) return false;
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank || bias_rank > rank) {
        diag_error(c->im->d, c->loc, "axis %lld does not fit inputs of ranks %d and %d",
                   (long long)axis, rank, bias_rank);
        return false;
    }
    for (; call_int(c, "is_inner_broadcast", 0) && bias_rank < rank; bias_rank++)
        bias = build_unsqueeze(c, bias, axis - (rank - bias_rank));
    Value *sum = build_add(c, x, bias), *flat = call_op(c, OP_Flatten, 1, sum);
    node_set_int(flat->def, "axis", axis);
    Value *y = build_softmax(c, flat, -1);
    return call_result(c, build_reshape_as(c, y, call_op(c, OP_Shape, 1, sum)));
}

/* ONNX's Unique over all elements, in the order of their first appearances, without their
 * places. */
bool import_ms_unique(Call *c) {
    static const int from[] = {0, 2, 3};
    Node *n = call_node(c, OP_Unique, &c->in[0], 1, 4);
    node_set_int(n, "sorted", 0);
    for (int i = 0; i < 3; i++)
        if (call_wants(c, i)) c->out[i] = n->out[from[i]];
    return true;
}
