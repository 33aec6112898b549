/* Importers of neural-network layers: normalisations, dropout, resizing. */
#include <string.h>

#include "frontend/onnx/import.h"

/* Mean and variance of each channel of the batch: x as [n, c, rest], folded over n
 * and rest. */
static void batch_statistics(Call *c, Value **mean, Value **variance) {
    Value *axes = call_list(c, (int64_t[]){0, 2}, 2);
    Value *flat = call_op(c, OP_Reshape, 2, c->in[0], call_list(c, (int64_t[]){0, 0, -1}, 3));
    Value *kept = call_op(c, OP_ReduceMean, 2, flat, axes);
    Value *centred = call_op(c, OP_Sub, 2, flat, kept);
    *mean = call_op(c, OP_Squeeze, 2, kept, axes);
    *variance = call_op(c, OP_ReduceMean, 2, call_op(c, OP_Mul, 2, centred, centred), axes);
    node_set_int((*variance)->def, "keepdims", 0);
}

/* Before opset 9, with spatial = 0, parameters have an element for each (channel, position). */
static bool batch_norm_each(Call *c) {
    Value *x = c->in[0];
    Value *epsilon = call_scalar(c, call_float_type(x), call_float(c, "epsilon", (double)1e-5f));
    Value *spread = call_op(c, OP_Sqrt, 1, call_op(c, OP_Add, 2, c->in[4], epsilon));
    Value *y = call_op(c, OP_Div, 2, call_op(c, OP_Sub, 2, x, c->in[3]), spread);
    y = call_op(c, OP_Add, 2, call_op(c, OP_Mul, 2, y, c->in[1]), c->in[2]);
    return call_result(c, y);
}

/* Up to opset 13 further outputs mean training: running mean and variance, and those of the
 * batch. */
bool import_batch_norm_7(Call *c) {
    bool training = false;
    int n_out = c->n_out;
    for (int i = 1; i < n_out; i++) training |= call_wants(c, i);
    c->n_out = training && n_out > 1 ? (n_out < 3 ? n_out : 3) : 1;
    if (call_int(c, "spatial", 1) == 0) {
        if (!training) return batch_norm_each(c);
        diag_unsupported(c->im->d, c->loc, "training with spatial = 0 is not supported");
        return false;
    }
    Node *n = call_node(c, OP_BatchNormalization, c->in, 5, c->n_out);
    if (!call_copy_attrs(c, n, "spatial is_test consumed_inputs")) return false;
    if (training) node_set_int(n, "training_mode", 1);
    call_finish(c, n);
    c->n_out = n_out;
    if (n_out > 3) {
        Value *variance;
        batch_statistics(c, &c->out[3], &variance);
        if (n_out > 4) c->out[4] = variance;
    }
    return true;
}

/* Opset 18 has one scale and bias for each group instead of each channel:
 *   scale[G] -> [G, 1] -> [G, C/G] -> [C] */
static Value *per_channel(Call *c, Value *v, Value *width, int64_t groups) {
    Value *column = call_op(c, OP_Unsqueeze, 2, v, call_list(c, (int64_t[]){1}, 1));
    Value *in[] = {call_list(c, &groups, 1), width};
    Node *dims = call_node(c, OP_Concat, in, 2, 1);
    node_set_int(dims, "axis", 0);
    Value *wide = call_op(c, OP_Expand, 2, column, dims->out[0]);
    return call_op(c, OP_Reshape, 2, wide, call_list(c, (int64_t[]){-1}, 1));
}

bool import_group_norm_18(Call *c) {
    int64_t groups = call_int(c, "num_groups", 1);
    if (groups < 1) {
        diag_error(c->im->d, c->loc, "num_groups is %lld, but has to be at least 1",
                   (long long)groups);
        return false;
    }
    Value *channels = call_op(c, OP_Shape, 1, c->in[0]);
    node_set_int(channels->def, "start", 1);
    node_set_int(channels->def, "end", 2);
    Value *width = call_op(c, OP_Div, 2, channels, call_list(c, &groups, 1));
    Value *in[] = {c->in[0], per_channel(c, c->in[1], width, groups),
                   per_channel(c, c->in[2], width, groups)};
    return call_same(c, in, 3, "");
}

/* (x - mean) / (sqrt(mean of (x - mean)^2) + 1e-9), where f16 would take 1e-9 for 0: it is widened.
 */
bool import_mean_variance(Call *c) {
    DType given = call_float_type(c->in[0]), wide = given == DT_F64 ? DT_F64 : DT_F32;
    Value *x = call_cast(c, c->in[0], wide), *axes = call_ints_input(c, "axes");
    if (!axes) axes = call_list(c, (int64_t[]){0, 2, 3}, 3);
    Value *centred = call_op(c, OP_Sub, 2, x, call_op(c, OP_ReduceMean, 2, x, axes));
    Value *variance = call_op(c, OP_ReduceMean, 2, call_op(c, OP_Mul, 2, centred, centred), axes);
    Value *spread =
        call_op(c, OP_Add, 2, call_op(c, OP_Sqrt, 1, variance), call_scalar(c, wide, 1e-9));
    return call_result(c, call_cast(c, call_op(c, OP_Div, 2, centred, spread), given));
}

/* ---- resizing --------------------------------------------------------------------------- */

static bool is_mode(Call *c, const char *mode, const char *const *known, int n) {
    for (int i = 0; i < n; i++)
        if (!strcmp(mode, known[i])) return true;
    diag_error(c->im->d, c->loc, "mode is '%s', which %s-%d does not have", mode, c->row->type,
               c->row->since);
    return false;
}

/* An empty roi, scales or sizes is how opset 11 leaves an input out. */
static Value *unless_empty(Value *v) {
    int64_t n;
    bool is_empty = v && v->shape.rank >= 0 && shape_count_int(v->shape, &n) && n == 0;
    return is_empty ? NULL : v;
}

bool import_resize(Call *c) {
    static const char *const modes[] = {"nearest", "linear", "cubic"};
    Value *in[4] = {c->in[0], unless_empty(call_in(c, 1)), unless_empty(call_in(c, 2)),
                    unless_empty(call_in(c, 3))};
    if (!in[2] == !in[3]) {
        diag_error(c->im->d, c->loc, "exactly one of scales and sizes has to be given");
        return false;
    }
    if (!is_mode(c, call_string(c, "mode", "nearest"), modes, 3)) return false;
    if (strcmp(call_string(c, "coordinate_transformation_mode", ""), "tf_crop_and_resize"))
        in[1] = NULL;
    return call_same(c, in, 4, "");
}

/* Shrinking by constant scales: the old Resize takes the next pixel up there, the last one
 * otherwise. */
static bool only_shrinks(const Value *scales) {
    int64_t n;
    bool shrinks = false;
    if (!value_is_const(scales) || !dtype_is_float(scales->dtype) ||
        !shape_count_int(scales->shape, &n))
        return false;
    for (int64_t i = 0; i < n; i++) {
        double s = value_const_float(scales, i);
        if (s > 1) return false;
        shrinks |= s < 1;
    }
    return shrinks;
}

/* Resize-10 and Upsample measure from the corner: asymmetric coordinates. */
static bool old_resize(Call *c, Value *scales) {
    static const char *const modes[] = {"nearest", "linear", "bilinear"};
    const char *mode = call_string(c, "mode", "nearest");
    if (!is_mode(c, mode, modes, 3)) return false;
    Value *in[] = {c->in[0], NULL, scales};
    Node *n = call_node(c, OP_Resize, in, 3, 1);
    node_set_string(n, "mode", strcmp(mode, "nearest") ? "linear" : "nearest");
    node_set_string(n, "coordinate_transformation_mode", "asymmetric");
    node_set_string(n, "nearest_mode", only_shrinks(scales) ? "ceil" : "floor");
    return call_finish(c, n);
}

bool import_resize_10(Call *c) {
    return old_resize(c, c->in[1]);
}

static bool upsample(Call *c, const float *scales, int64_t n) {
    uint64_t n_bytes = (uint64_t)n * sizeof *scales;
    const void *bytes = arena_copy(c->m->arena, scales, n_bytes);
    return old_resize(
        c, graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &n, 1), bytes, n_bytes));
}

bool import_upsample_7(Call *c) {
    const Onnx__AttributeProto *a = call_attr(c, "scales");
    return upsample(c, a->floats, (int64_t)a->n_floats);
}

/* Images only, [n, c, h, w]. */
bool import_upsample_1(Call *c) {
    float scales[] = {1, 1, (float)call_float(c, "height_scale", 1),
                      (float)call_float(c, "width_scale", 1)};
    return upsample(c, scales, 4);
}
