/* Importers of neural-network layers: normalisations, dropout, resizing. */
#include <string.h>

#include "frontend/onnx/import.h"

static bool refuse_training(Call *c) {
    diag_unsupported(c->im->d, c->loc,
                     "training mode is not supported; export the model for inference");
    return false;
}

/* Up to opset 13 further outputs mean training. */
bool import_batch_norm_7(Call *c) {
    for (int i = 1; i < c->n_out; i++)
        if (call_wants(c, i)) return refuse_training(c);
    if (call_int(c, "spatial", 1) == 0) {
        diag_unsupported(c->im->d, c->loc, "spatial = 0 is not supported; 1 is");
        return false;
    }
    c->n_out = 1;
    return call_same(c, c->in, c->n_in, "momentum spatial");
}

bool import_batch_norm(Call *c) {
    if (call_int(c, "training_mode", 0)) return refuse_training(c);
    return call_same(c, c->in, c->n_in, "momentum training_mode");
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

/* In inference nothing is dropped: the output is the input, and the mask, if anyone asks, all true.
 * Before opset 12 the mask was undefined then; ONNX Runtime gives all false. */
bool import_dropout(Call *c) {
    Value *training = call_in(c, 2);
    int n = 0;
    int64_t on = 0;
    if (training && !(value_ints(c->m, training, &on, 1, &n) && n == 1 && !on))
        return refuse_training(c);
    c->out[0] = call_op(c, OP_Identity, 1, c->in[0]);
    if (!call_wants(c, 1)) return true;
    DType t = c->version < 10 ? call_float_type(c->in[0]) : DT_BOOL;
    Shape one = shape_ints(c->m->k, (int64_t[]){1}, 1);
    Value *yes = graph_add_const(c->g, "", t, one, call_scalar(c, t, c->version >= 12)->data,
                                 (uint64_t)dtype_bytes(t));
    Value *mask = call_op(c, OP_ConstantOfShape, 1, call_op(c, OP_Shape, 1, c->in[0]));
    node_set_attr(mask->def, (Attr){.name = "value", .kind = AT_TENSOR, .tensor = yes});
    mask->dtype = t;
    c->out[1] = mask;
    return true;
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

bool import_upsample_7(Call *c) {
    const Onnx__AttributeProto *a = call_attr(c, "scales");
    int64_t n = (int64_t)a->n_floats;
    const void *bytes = arena_copy(c->m->arena, a->floats, a->n_floats * sizeof(float));
    return old_resize(c, graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &n, 1), bytes,
                                         a->n_floats * sizeof(float)));
}
