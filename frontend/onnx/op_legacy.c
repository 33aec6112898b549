/* Importers of forms that ended before opset 8, and of operators that ONNX dropped early and old
 * files still have (Affine, Crop, ImageScaler ...).
 *
 * Old attributes and what becomes of them:
 *   consumed_inputs   which inputs may be overwritten: says nothing about values, ignored
 *   broadcast, axis   the second operand's first dim lies at `axis` of the first operand: it gets
 *                     trailing dims of 1, and broadcasts like numpy then
 *   is_test           see import_dropout and import_batch_norm_7
 * Ranks are often unknown while importing, so shapes are put together from Shape, Size and Concat,
 * whose elements infer_shapes knows. */
#include <string.h>

#include "frontend/onnx/import.h"

static Value *one_int(Call *c, int64_t v) {
    return call_list(c, &v, 1);
}

static Value *concat(Call *c, Value *const *parts, int n) {
    Node *joined = call_node(c, OP_Concat, parts, n, 1);
    node_set_int(joined, "axis", 0);
    return joined->out[0];
}

/* v's rank as a list of one. */
static Value *rank_of(Call *c, const Value *v) {
    return call_op(c, OP_Shape, 1, call_op(c, OP_Shape, 1, v));
}

/* A list of `count` (a list of one) ones. */
static Value *ones(Call *c, Value *count) {
    Value *list = call_op(c, OP_ConstantOfShape, 1, count);
    node_set_attr(list->def, (Attr){.name = "value", .kind = AT_TENSOR, .tensor = one_int(c, 1)});
    list->dtype = DT_I64;
    return list;
}

/* v with as many dims of 1 behind its own as `count` says. */
static Value *with_trailing(Call *c, Value *v, Value *count) {
    Value *parts[] = {call_op(c, OP_Shape, 1, v), ones(c, count)};
    return call_op(c, OP_Reshape, 2, v, concat(c, parts, 2));
}

bool import_first(Call *c) {
    return call_same(c, c->in, c->n_in, "consumed_inputs");
}

/* ---- broadcast and axis ---------------------------------------------------------------------- */

/* b, whose first dim lies at the attribute `axis` of a, in a form that numpy's rule understands. */
static Value *aligned(Call *c, Value *a, Value *b) {
    const Onnx__AttributeProto *axis = call_attr(c, "axis");
    if (!call_int(c, "broadcast", 0) || !axis || axis->i == -1) return b;
    Value *first = one_int(c, axis->i), *rank = rank_of(c, a);
    if (axis->i < 0) first = call_op(c, OP_Add, 2, first, rank);
    Value *end = call_op(c, OP_Add, 2, first, rank_of(c, b));
    return with_trailing(c, b, call_op(c, OP_Sub, 2, rank, end));
}

bool import_broadcast_1(Call *c) {
    Value *in[] = {c->in[0], aligned(c, c->in[0], c->in[1])};
    return call_same(c, in, 2, "axis broadcast consumed_inputs");
}

/* The slope is one number or has one for each channel, axis 1. */
bool import_prelu_1(Call *c) {
    Value *behind = call_op(c, OP_Sub, 2, rank_of(c, c->in[0]), one_int(c, 2));
    behind = call_op(c, OP_Max, 2, behind, one_int(c, 0));
    Value *parts[] = {one_int(c, -1), ones(c, behind)};
    Value *in[] = {c->in[0], call_op(c, OP_Reshape, 2, c->in[1], concat(c, parts, 2))};
    return call_same(c, in, 2, "consumed_inputs");
}

bool import_gemm_1(Call *c) {
    return call_same(c, c->in, 3, "broadcast");
}

/* ---- attributes that changed their form ------------------------------------------------------ */

/* The type's name in capitals. */
bool import_cast_1(Call *c) {
    const char *to = call_string(c, "to", "");
    for (int t = 1; onnx_type_name(t); t++) {
        if (strcmp(onnx_type_name(t), to)) continue;
        if (import_dtype(c->im, t, c->loc, "to") == DT_NONE) return false;
        Node *n = call_node(c, OP_Cast, c->in, 1, 1);
        node_set_int(n, "to", t);
        return call_finish(c, n);
    }
    diag_error(c->im->d, c->loc, "to is '%s', which is no element type", to);
    return false;
}

bool import_concat_1(Call *c) {
    Node *n = call_node(c, OP_Concat, c->in, c->n_in, 1);
    node_set_int(n, "axis", call_int(c, "axis", 1));
    return call_finish(c, n);
}

bool import_reshape_1(Call *c) {
    Value *in[] = {c->in[0], call_ints_input(c, "shape")};
    if (in[1]) return call_same(c, in, 2, "shape consumed_inputs");
    diag_error(c->im->d, c->loc, "attribute 'shape' is missing");
    return false;
}

/* Inputs: how many copies, along which axis. repeats = [1, .., tiles, .., 1] */
bool import_tile_1(Call *c) {
    Value *part[3], *list = one_int(c, -1), *of[2];
    for (int i = 0; i < 2; i++) {
        Value *whole = call_op(c, OP_Cast, 1, c->in[i + 1]);
        node_set_int(whole->def, "to", dtype_info[DT_I64].onnx);
        whole->dtype = DT_I64;
        of[i] = call_op(c, OP_Reshape, 2, whole, list);
    }
    part[0] = ones(c, of[1]);
    part[1] = of[0];
    Value *before = call_op(c, OP_Add, 2, of[1], one_int(c, 1));
    part[2] = ones(c, call_op(c, OP_Sub, 2, rank_of(c, c->in[0]), before));
    return call_result(c, call_op(c, OP_Tile, 2, c->in[0], concat(c, part, 3)));
}

/* Its defaults had fewer digits. */
bool import_selu_1(Call *c) {
    Node *n = call_node(c, OP_Selu, c->in, 1, 1);
    node_set_float(n, "alpha", call_float(c, "alpha", (double)1.6732f));
    node_set_float(n, "gamma", call_float(c, "gamma", (double)1.0507f));
    return call_finish(c, n);
}

/* LpPool and GlobalLpPool: p was a float. */
bool import_lp_pool_1(Call *c) {
    double p = call_float(c, "p", 2);
    OpId op = op_from_name("", c->row->type);
    bool lacks_shape = op == OP_LpPool && !call_attr(c, "kernel_shape");
    if (lacks_shape || p < 1 || p > 1000 || p != (double)(int64_t)p) {
        diag_unsupported(c->im->d, c->loc, "%s",
                         lacks_shape ? "kernel_shape has to be given"
                                     : "p has to be a whole number");
        return false;
    }
    Node *n = call_node(c, op, c->in, 1, 1);
    node_set_int(n, "p", (int64_t)p);
    return call_copy_attrs(c, n, "p") && call_finish(c, n);
}

/* The older meaning has no list of axes: each image, or each channel of it, by itself; and the
 * variance may be left alone. */
bool import_mean_variance_1(Call *c) {
    static const int64_t per_channel[] = {2, 3}, across[] = {1, 2, 3};
    bool all = call_int(c, "across_channels", 0) != 0;
    Value *x = c->in[0], *axes = all ? call_list(c, across, 3) : call_list(c, per_channel, 2);
    Value *centred = call_op(c, OP_Sub, 2, x, call_op(c, OP_ReduceMean, 2, x, axes));
    if (!call_int(c, "normalize_variance", 1)) return call_result(c, centred);
    Value *variance = call_op(c, OP_ReduceMean, 2, call_op(c, OP_Mul, 2, centred, centred), axes);
    Value *spread = call_op(c, OP_Add, 2, call_op(c, OP_Sqrt, 1, variance),
                            call_scalar(c, call_float_type(x), 1e-9));
    return call_result(c, call_op(c, OP_Div, 2, centred, spread));
}

/* ---- operators that are gone ----------------------------------------------------------------- */

static Value *scaled(Call *c, Value *x, const char *attr, double otherwise) {
    double by = call_float(c, attr, otherwise);
    return by == 1 ? x : call_op(c, OP_Mul, 2, x, call_scalar(c, call_float_type(x), by));
}

/* Affine: alpha * x + beta; Scale: scale * x */
bool import_affine(Call *c) {
    Value *y = scaled(c, c->in[0], c->row->type[0] == 'S' ? "scale" : "alpha", 1);
    double beta = call_float(c, "beta", 0);
    if (beta != 0) y = call_op(c, OP_Add, 2, y, call_scalar(c, call_float_type(y), beta));
    return call_result(c, y == c->in[0] ? call_op(c, OP_Identity, 1, y) : y);
}

/* alpha * tanh(beta * x) */
bool import_scaled_tanh(Call *c) {
    Value *t = call_op(c, OP_Tanh, 1, scaled(c, c->in[0], "beta", 1));
    return call_result(c, scaled(c, t, "alpha", 1));
}

/* alpha * log(1 + e^(beta * x)) */
bool import_parametric_softplus(Call *c) {
    Value *t = call_op(c, OP_Softplus, 1, scaled(c, c->in[0], "beta", 1));
    return call_result(c, scaled(c, t, "alpha", 1));
}

/* scale * x[n, c, h, w] + bias[c] */
bool import_image_scaler(Call *c) {
    const Onnx__AttributeProto *bias = call_attr(c, "bias");
    Value *y = scaled(c, c->in[0], "scale", 1);
    if (bias && bias->n_floats) {
        int64_t dims[] = {(int64_t)bias->n_floats, 1, 1};
        uint64_t n_bytes = bias->n_floats * sizeof(float);
        Value *b = graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, dims, 3),
                                   arena_copy(c->m->arena, bias->floats, n_bytes), n_bytes);
        DType t = call_float_type(y);
        if (t != DT_F32) {
            b = call_op(c, OP_Cast, 1, b);
            node_set_int(b->def, "to", dtype_info[t].onnx);
            b->dtype = t;
        }
        y = call_op(c, OP_Add, 2, y, b);
    }
    return call_result(c, y == c->in[0] ? call_op(c, OP_Identity, 1, y) : y);
}

/* border: left, top, right, bottom; with scale (height, width) the part of that size at left, top.
 */
bool import_crop(Call *c) {
    static const int64_t axes[] = {2, 3};
    const int64_t *border, *scale;
    int n_scale = call_ints(c, "scale", &scale);
    if (call_ints(c, "border", &border) != 4 || (n_scale >= 0 && n_scale != 2)) {
        diag_error(c->im->d, c->loc, "border has to have 4 elements, and scale 2");
        return false;
    }
    int64_t start[] = {border[1], border[0]}, size[2] = {0};
    if (n_scale == 2) memcpy(size, scale, sizeof size);
    for (int i = 0; i < 2; i++)
        if (start[i] < 0 || border[2 + i] < 0 || size[i] < 0 || start[i] > INT32_MAX ||
            size[i] > INT32_MAX) {
            diag_error(c->im->d, c->loc, "border and scale have to be at least 0");
            return false;
        }
    Value *first = call_list(c, start, 2), *last;
    if (n_scale == 2) {
        last = call_list(c, (int64_t[]){start[0] + size[0], start[1] + size[1]}, 2);
    } else {
        Value *dims = call_op(c, OP_Shape, 1, c->in[0]);
        node_set_int(dims->def, "start", 2);
        node_set_int(dims->def, "end", 4);
        last = call_op(c, OP_Sub, 2, dims, call_list(c, (int64_t[]){border[3], border[2]}, 2));
    }
    return call_result(c, call_op(c, OP_Slice, 4, c->in[0], first, last, call_list(c, axes, 2)));
}

/* Slice-10 without steps. */
bool import_dynamic_slice(Call *c) {
    Node *n = call_node(c, OP_Slice, c->in, c->n_in, 1);
    return call_finish(c, n);
}

/* Where the fillers have their shape from: an attribute, the dims or the elements of the input. */
static Value *filler_shape(Call *c) {
    Value *own = call_ints_input(c, "shape"), *extra = call_ints_input(c, "extra_shape");
    if (call_in(c, 0))
        own = call_int(c, "input_as_shape", 0) ? c->in[0] : call_op(c, OP_Shape, 1, c->in[0]);
    Value *parts[] = {own, extra};
    if (own) return extra ? concat(c, parts, 2) : own;
    diag_error(c->im->d, c->loc, "neither an input nor the attribute 'shape' says the shape");
    return NULL;
}

bool import_constant_fill(Call *c) {
    Value *dims = filler_shape(c);
    DType t = import_dtype(c->im, call_int(c, "dtype", dtype_info[DT_F32].onnx), c->loc, "dtype");
    if (!dims || t == DT_NONE) return false;
    Value *v = graph_add_const(c->g, "", t, shape_ints(c->m->k, (int64_t[]){1}, 1),
                               call_scalar(c, t, call_float(c, "value", 0))->data,
                               (uint64_t)dtype_bytes(t));
    Value *y = call_op(c, OP_ConstantOfShape, 1, dims);
    node_set_attr(y->def, (Attr){.name = "value", .kind = AT_TENSOR, .tensor = v});
    y->dtype = t;
    return call_result(c, y);
}

bool import_given_tensor_fill(Call *c) {
    const Onnx__AttributeProto *a = call_attr(c, "values");
    Value *dims = filler_shape(c);
    if (!dims) return false;
    int64_t n = a ? (int64_t)a->n_floats : 0;
    uint64_t n_bytes = (uint64_t)n * sizeof(float);
    Value *v = graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &n, 1),
                               arena_copy(c->m->arena, a ? a->floats : NULL, n_bytes), n_bytes);
    return call_result(c, call_op(c, OP_Reshape, 2, v, dims));
}
