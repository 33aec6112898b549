/* Importers of Resize, its forerunner Upsample, and onnxruntime's operator of that name. */
#include <string.h>

#include "frontend/onnx/build.h"

static bool is_mode(Call *c, const char *text, const char *const *known, int n) {
    for (int i = 0; i < n; i++)
        if (!strcmp(text, known[i])) return true;
    diag_error(c->im->d, c->loc, "mode is '%s', which %s-%d does not have", text, c->row->type,
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

/* Resize-10 and Upsample measure from the corner: asymmetric coordinates; nearest is the pixel
 * below or, where an axis shrinks, above. */
static bool old_resize(Call *c, Value *scales) {
    static const char *const modes[] = {"nearest", "linear", "bilinear"};
    const char *mode = call_string(c, "mode", "nearest");
    if (!is_mode(c, mode, modes, 3)) return false;
    Value *in[] = {c->in[0], NULL, scales};
    Node *n = call_node(c, OP_Resize, in, 3, 1);
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

/* Of com.microsoft.nchwc: whole scales, and what is nearest lies below. */
bool import_nchwc_upsample(Call *c) {
    static const char *const modes[] = {"nearest", "linear"};
    const char *mode = call_string(c, "mode", "nearest");
    const int64_t *scales;
    double factor[4];
    int n = call_ints(c, "scales", &scales);
    if (!is_mode(c, mode, modes, 2)) return false;
    if (n != 4) {
        diag_error(c->im->d, c->loc, "scales has %d entries, must have 4", n < 0 ? 0 : n);
        return false;
    }
    for (int i = 0; i < n; i++) factor[i] = (double)scales[i];
    bool nearest = !strcmp(mode, "nearest");
    Value *y = call_op(c, OP_Resize, 3, c->in[0], NULL, build_const(c, DT_F32, factor, n));
    node_set_string(y->def, "mode", mode);
    node_set_string(y->def, "coordinate_transformation_mode",
                    nearest ? "asymmetric"
                            : call_string(c, "coordinate_transformation_mode", "asymmetric"));
    if (nearest) node_set_string(y->def, "nearest_mode", "floor");
    return call_result(c, y);
}
