/* Resize: what the node says. resize_lower.c has its definition.
 *
 * Sizes come from the input `sizes` or, as floor(dim * scale), from `scales`. The importer adds
 * sizes to scales that are no constants (attribute sizes_follow), so that a size known only while
 * running is an element of an integer tensor, and it resolves keep_aspect_ratio_policy; where both
 * inputs are there, sizes say how large and scales say where to sample. */
#include "ir/ops/resize.h"

#include <math.h>
#include <string.h>

static const char *const mode_names[] = {"nearest", "linear", "cubic"};
static const char *const xy_names[] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
static const char *const near_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                         "simple"};

/* ---- infer ----------------------------------------------------------------------------------- */

static bool one_of(Module *m, const Node *n, const char *attr, const char *const *names, int count,
                   int *at) {
    const char *text = attr_string(n, attr, names[0]);
    for (*at = 0; *at < count; (*at)++)
        if (!strcmp(text, names[*at])) return true;
    diag_error(m->diag, n->loc, "attribute %s has an unknown value", attr);
    return false;
}

static bool resize_attributes(Module *m, const Node *n, Resize *r) {
    *r = (Resize){.mode = 0};
    if (!one_of(m, n, "mode", mode_names, N_MODES, &r->mode) ||
        !one_of(m, n, "coordinate_transformation_mode", xy_names, N_XY, &r->xy) ||
        !one_of(m, n, "nearest_mode", near_names, N_NEAR, &r->near))
        return false;
    r->antialias = attr_int(n, "antialias", 0) && r->mode != MODE_NEAREST;
    r->exclude_outside = attr_int(n, "exclude_outside", 0) != 0;
    r->cubic_a = (float)attr_float(n, "cubic_coeff_a", -0.75);
    r->extrapolation = (float)attr_float(n, "extrapolation_value", 0.0);
    return true;
}

/* floor(dim * scale). Symbolic dims need a scale that is a short binary fraction. */
static bool scaled_dim(Module *m, const Node *n, const KExpr *dim, float scale, const KExpr **out) {
    int64_t extent;
    if (!(scale > 0) || !(scale <= 0x1p30f)) {
        diag_error(m->diag, n->loc, "a scale is %g, must be positive and at most 2^30",
                   (double)scale);
        return false;
    }
    if (k_is_int(dim, &extent)) {
        float product = (float)extent * scale;
        if (product < 0x1p62f) {
            *out = k_int(m->k, (int64_t)product);
            return true;
        }
        diag_error(m->diag, n->loc, "a dim of %lld times %g is too large", (long long)extent,
                   (double)scale);
        return false;
    }
    int64_t denominator = 1;
    while (denominator < 1 << 16 && scale != floorf(scale)) {
        scale *= 2;
        denominator *= 2;
    }
    if (scale != floorf(scale)) {
        diag_unsupported(m->diag, n->loc,
                         "a symbolic dim scaled by a long fraction; fix the dim with --dim");
        return false;
    }
    *out = k_fdiv(m->k, k_mul(m->k, dim, k_int(m->k, (int64_t)scale)), k_int(m->k, denominator));
    return true;
}

/* Input i is a float vector of this length. */
static bool is_vector(Module *m, const Node *n, int i, int count) {
    int64_t length;
    if (!infer_dtype(m, n, i, CLASS_FLOAT)) return false;
    if (shape_count_int(n->in[i]->shape, &length) && length == count) return true;
    diag_error(m->diag, n->loc, "input %d (%s) must have %d elements", i, i == 1 ? "roi" : "scales",
               count);
    return false;
}

/* Element `at` of input i as an f32; NULL when it is known only while running. */
static const KExpr *element(Module *m, const Node *n, int i, int at) {
    if (!value_is_const(n->in[i])) return NULL;
    return k_const_f(m->k, DT_F32, value_const_float(n->in[i], at));
}

static bool is_given(const Node *n, int i) {
    int64_t length;
    return has_in(n, i) && !(shape_count_int(n->in[i]->shape, &length) && length == 0);
}

static bool sized_axes(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    const KExpr **sizes;
    int n_sizes;
    int64_t size;
    if (!infer_exprs(m, n, 3, MAX_RANK, &sizes, &n_sizes)) return false;
    if (n_sizes != count) {
        diag_error(m->diag, n->loc, "sizes has %d elements for %d axes", n_sizes, count);
        return false;
    }
    for (int i = 0; i < count; i++) {
        const KExpr *dim = n->in[0]->shape.dims[axes[i]];
        if (k_is_int(sizes[i], &size) && (size < 0 || size > INT64_C(1) << 40)) {
            diag_error(m->diag, n->loc, "sizes[%d] is %lld", i, (long long)size);
            return false;
        }
        ResizeAxis *a = &r->axis[axes[i]];
        a->size = sizes[i];
        a->scale = is_given(n, 2)
                       ? element(m, n, 2, i)
                       : k_div(m->k, k_cast(m->k, DT_F32, sizes[i]), k_cast(m->k, DT_F32, dim));
    }
    return true;
}

/* Scales that are read while running. */
static bool read_scales(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    KCtx *k = m->k;
    int64_t length;
    if (!infer_dtype(m, n, 2, CLASS_FLOAT)) return false;
    if (!shape_count_int(n->in[2]->shape, &length) || length != count) {
        diag_error(m->diag, n->loc, "input 2 (scales) must have %d elements", count);
        return false;
    }
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        const KExpr *dim = k_cast(k, DT_F32, n->in[0]->shape.dims[axes[i]]);
        a->scale = k_cast(k, DT_F32, value_read_number(m, n->in[2], i));
        infer_rule(m, n, k_lt(k, k_const_f(k, DT_F32, 0), a->scale));
        a->size = k_cast(k, DT_I64, k_floor(k, k_mul(k, dim, a->scale)));
    }
    return true;
}

static bool scaled_axes(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    if (!value_is_const(n->in[2])) return read_scales(m, n, r, axes, count);
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        a->scale = element(m, n, 2, i);
        if (!a->scale) {
            diag_unsupported(m->diag, n->loc, "input 2 (scales) must be a constant without sizes");
            return false;
        }
        float scale = (float)a->scale->u.f;
        if (!scaled_dim(m, n, n->in[0]->shape.dims[axes[i]], scale, &a->size)) return false;
    }
    return true;
}

/* The axes that scales, sizes and roi speak of. */
static bool resize_axes(Module *m, const Node *n, int *axes, int *count) {
    const int64_t *listed;
    bool is_in[MAX_RANK];
    int rank = n->in[0]->shape.rank;
    *count = attr_ints(n, "axes", &listed);
    if (*count == 0) {
        *count = rank;
        for (int i = 0; i < rank; i++) axes[i] = i;
        return true;
    }
    if (!infer_axes(m, n, listed, *count, rank, is_in)) return false;
    for (int i = 0; i < *count; i++) axes[i] = shape_axis(listed[i], rank);
    return true;
}

/* What is known of one listed axis besides its size and scale; false after a message. */
static bool finish_axis(Module *m, const Node *n, const Resize *r, ResizeAxis *a,
                        const KExpr *dim) {
    if (r->xy == XY_CROP) {
        a->roi_start = element(m, n, 1, a->at);
        a->roi_end = element(m, n, 1, a->n + a->at);
    }
    bool is_whole = r->xy != XY_CROP ||
                    (a->roi_start && k_is_value(a->roi_start, 0.0) && k_is_value(a->roi_end, 1.0));
    bool is_one = !is_given(n, 2) || (a->scale && k_is_value(a->scale, 1.0));
    a->is_kept = is_whole && a->size == dim && is_one;
    if (a->scale && is_given(n, 2)) a->length = k_mul(m->k, k_cast(m->k, DT_F32, dim), a->scale);
    if (a->is_kept || !k_is_value(dim, 0) || k_is_value(a->size, 0)) return true;
    diag_error(m->diag, n->loc, "an axis is empty: there is nothing to sample");
    return false;
}

/* Beyond so many taps for an element, axes are resized one after the other. */
enum { MAX_TAPS = 64 };

bool resize_plan(Module *m, const Node *n, Resize *r) {
    int axes[MAX_RANK], count, taps = 1;
    Shape in = n->in[0]->shape;
    if (!resize_attributes(m, n, r) || !resize_axes(m, n, axes, &count)) return false;
    for (int i = 0; i < in.rank; i++)
        r->axis[i] = (ResizeAxis){.is_kept = true, .size = in.dims[i]};
    if (!is_given(n, 2) && !is_given(n, 3)) {
        diag_error(m->diag, n->loc, "exactly one of scales and sizes must be given");
        return false;
    }
    if (r->xy == XY_CROP && !is_given(n, 1)) {
        diag_error(m->diag, n->loc, "tf_crop_and_resize needs the input roi");
        return false;
    }
    if (is_given(n, 2) && !is_vector(m, n, 2, count)) return false;
    if (r->xy == XY_CROP && !is_vector(m, n, 1, 2 * count)) return false;
    if (!(is_given(n, 3) ? sized_axes(m, n, r, axes, count) : scaled_axes(m, n, r, axes, count)))
        return false;
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        a->at = i;
        a->n = count;
        if (!finish_axis(m, n, r, a, in.dims[axes[i]])) return false;
        bool is_single = a->is_kept || r->mode == MODE_NEAREST;
        if (taps <= MAX_TAPS) taps *= is_single ? 1 : r->mode == MODE_LINEAR ? 2 : 4;
    }
    r->separate = r->antialias || taps > MAX_TAPS;
    return true;
}

/* Scales that turned out to be constants need no sizes. */
static void drop_sizes(Node *n) {
    if (!attr_int(n, "sizes_follow", 0) || !has_in(n, 3) || !value_is_const(n->in[2])) return;
    node_set_input(n, 3, NULL);
    node_drop_attr(n, "sizes_follow");
}

bool resize_infer(Module *m, Node *n) {
    Resize r;
    drop_sizes(n);
    if (!infer_dtype(m, n, 0, CLASS_SCALAR) || !resize_plan(m, n, &r)) return false;
    if (r.mode != MODE_NEAREST && !infer_dtype(m, n, 0, CLASS_NUMBER)) return false;
    Shape out = shape_make(m->arena, n->in[0]->shape.rank);
    for (int i = 0; i < out.rank; i++) out.dims[i] = r.axis[i].size;
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}
