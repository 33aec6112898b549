/* Importers of Resize and its forerunner Upsample.
 *
 * The graph IR's Resize takes sizes known only while running as elements of an integer tensor. So
 * that scales may be run-time values, too, sizes are computed from them here, by nodes that fold
 * away where everything is known:  sizes = i64(floor(f32(dims) * scales)).  The aspect ratio that
 * keep_aspect_ratio_policy asks for is computed the same way:
 *   factor = min or max of f32(sizes) / f32(dims)    sizes = i64(floor(f32(dims) * factor + 1/2))
 */
#include <string.h>

#include "frontend/onnx/import.h"

static bool is_known(Call *c, const char *attr, const char *text, const char *const *known, int n) {
    for (int i = 0; i < n; i++)
        if (!strcmp(text, known[i])) return true;
    diag_error(c->im->d, c->loc, "%s is '%s', which %s-%d does not have", attr, text, c->row->type,
               c->row->since);
    return false;
}

/* An empty roi, scales or sizes is how opset 11 leaves an input out. */
static Value *unless_empty(Value *v) {
    int64_t n;
    bool is_empty = v && v->shape.rank >= 0 && shape_count_int(v->shape, &n) && n == 0;
    return is_empty ? NULL : v;
}

static Value *cast_to(Call *c, Value *v, DType t) {
    Node *n = call_node(c, OP_Cast, &v, 1, 1);
    node_set_int(n, "to", dtype_info[t].onnx);
    n->out[0]->dtype = t;
    return n->out[0];
}

/* The dims of x that scales and sizes speak of, as f32. */
static Value *listed_dims(Call *c) {
    const int64_t *axes;
    int n_axes = call_ints(c, "axes", &axes);
    Value *dims = call_op(c, OP_Shape, 1, c->in[0]);
    if (n_axes > 0) dims = call_op(c, OP_Gather, 2, dims, call_list(c, axes, n_axes));
    return cast_to(c, dims, DT_F32);
}

/* floor(dims * scales + shift) as sizes */
static Value *scaled_sizes(Call *c, Value *dims, Value *scales, double shift) {
    Value *e = call_op(c, OP_Mul, 2, dims, scales);
    if (shift != 0) e = call_op(c, OP_Add, 2, e, call_scalar(c, DT_F32, shift));
    return cast_to(c, call_op(c, OP_Floor, 1, e), DT_I64);
}

/* Scales and sizes of one factor for all axes: the result is not larger, or smaller, than asked. */
static void keep_aspect(Call *c, bool not_larger, Value **scales, Value **sizes) {
    Value *dims = listed_dims(c);
    Value *ratios = call_op(c, OP_Div, 2, cast_to(c, *sizes, DT_F32), dims);
    Value *factor = call_op(c, not_larger ? OP_ReduceMin : OP_ReduceMax, 1, ratios);
    *scales = call_op(c, OP_Expand, 2, factor, call_op(c, OP_Shape, 1, ratios));
    *sizes = scaled_sizes(c, dims, factor, 0.5);
}

bool import_resize(Call *c) {
    static const char *const modes[] = {"nearest", "linear", "cubic"}, *const policies[] = {
                                                                           "stretch", "not_larger",
                                                                           "not_smaller"};
    Value *in[4] = {c->in[0], unless_empty(call_in(c, 1)), unless_empty(call_in(c, 2)),
                    unless_empty(call_in(c, 3))};
    const char *policy = call_string(c, "keep_aspect_ratio_policy", policies[0]);
    if (!in[2] == !in[3]) {
        diag_error(c->im->d, c->loc, "exactly one of scales and sizes has to be given");
        return false;
    }
    if (!is_known(c, "mode", call_string(c, "mode", "nearest"), modes, 3) ||
        !is_known(c, "keep_aspect_ratio_policy", policy, policies, 3))
        return false;
    if (strcmp(call_string(c, "coordinate_transformation_mode", ""), "tf_crop_and_resize"))
        in[1] = NULL;
    bool follow = in[2] && !value_is_const(in[2]);
    if (follow) in[3] = scaled_sizes(c, listed_dims(c), in[2], 0);
    if (!in[2] && strcmp(policy, policies[0]))
        keep_aspect(c, !strcmp(policy, policies[1]), &in[2], &in[3]);
    Node *n = call_node(c, OP_Resize, in, 4, 1);
    if (follow) node_set_int(n, "sizes_follow", 1);
    return call_copy_attrs(c, n, "keep_aspect_ratio_policy") && call_finish(c, n);
}

/* Resize-10 and Upsample measure from the corner: asymmetric coordinates; nearest is the pixel
 * below or, where an axis shrinks, above. */
static bool old_resize(Call *c, Value *scales) {
    static const char *const modes[] = {"nearest", "linear", "bilinear"};
    const char *mode = call_string(c, "mode", "nearest");
    if (!is_known(c, "mode", mode, modes, 3)) return false;
    bool follow = !value_is_const(scales);
    Value *in[] = {c->in[0], NULL, scales, NULL};
    if (follow) in[3] = scaled_sizes(c, listed_dims(c), scales, 0);
    Node *n = call_node(c, OP_Resize, in, follow ? 4 : 3, 1);
    if (follow) node_set_int(n, "sizes_follow", 1);
    node_set_string(n, "mode", strcmp(mode, "nearest") ? "linear" : "nearest");
    node_set_string(n, "coordinate_transformation_mode", "asymmetric");
    node_set_string(n, "nearest_mode", "simple");
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
