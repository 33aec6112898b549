/* Importers of operators on images and signals: sampling, regions, Fourier transforms. */
#include <string.h>

#include "frontend/onnx/build.h"

/* Opset 16 has two spatial axes and says so in the names of the modes. */
bool import_grid_sample_16(Call *c) {
    const char *mode = call_string(c, "mode", "bilinear");
    bool is_nearest = !strcmp(mode, "nearest"), is_linear = !strcmp(mode, "bilinear");
    if (!is_nearest && !is_linear && strcmp(mode, "bicubic")) {
        diag_error(c->im->d, c->loc, "mode is '%s', which GridSample-16 does not have", mode);
        return false;
    }
    Node *n = call_node(c, OP_GridSample, c->in, 2, 1);
    node_set_string(n, "mode", is_nearest ? "nearest" : is_linear ? "linear" : "cubic");
    return call_copy_attrs(c, n, "mode") && call_finish(c, n);
}

/* Before opset 16 regions were not shifted by half a pixel. */
bool import_roi_align_10(Call *c) {
    Node *n = call_node(c, OP_RoiAlign, c->in, 3, 1);
    node_set_string(n, "coordinate_transformation_mode", "output_half_pixel");
    return call_copy_attrs(c, n, "") && call_finish(c, n);
}

/* ---- signals --------------------------------------------------------------------------------- */

/* Files leave off the last axis of a real signal, as onnxruntime allows. */
bool import_stft(Call *c) {
    Value *x = c->in[0];
    DType t = x->dtype;
    if (build_has_shape(c, x) && x->shape.rank == 2) c->in[0] = build_unsqueeze(c, x, 2);
    c->in[0]->dtype = t;
    return import_same(c);
}

/* Opset 17 has the axis as an attribute, whose default is the first after the batch. */
bool import_dft_17(Call *c) {
    Value *in[] = {c->in[0], call_in(c, 1), call_i64(c, call_int(c, "axis", 1))};
    return call_same(c, in, 3, "axis");
}
