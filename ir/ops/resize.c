/* Resize: what the node says. resize_lower.c has its definition.
 *
 * Sizes come from the input `sizes` or, as floor(dim * scale), from `scales`; both, and roi, may be
 * read while running. keep_aspect_ratio_policy makes one factor of all listed sizes. */
#include "ir/ops/resize.h"

#include <math.h>
#include <string.h>

static const char *const mode_names[] = {"nearest", "linear", "cubic"};
static const char *const xy_names[] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
static const char *const near_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                         "simple"};
static const char *const policy_names[] = {"stretch", "not_larger", "not_smaller"};

/* ---- infer ----------------------------------------------------------------------------------- */

static bool one_of(Module *m, const Node *n, const char *attr, const char *const *names, int count,
                   int *at) {
    const char *text = attr_string(n, attr, names[0]);
    for (*at = 0; *at < count; (*at)++)
        if (!strcmp(text, names[*at])) return true;
    diag_error(m->diag, n->loc, "attribute %s has the unknown value '%s'", attr, text);
    return false;
}

static bool resize_attributes(Module *m, const Node *n, Resize *r) {
    *r = (Resize){.mode = 0};
    if (!one_of(m, n, "mode", mode_names, N_MODES, &r->mode) ||
        !one_of(m, n, "coordinate_transformation_mode", xy_names, N_XY, &r->xy) ||
        !one_of(m, n, "nearest_mode", near_names, N_NEAR, &r->near) ||
        !one_of(m, n, "keep_aspect_ratio_policy", policy_names, N_POLICIES, &r->policy))
        return false;
    r->antialias = attr_int(n, "antialias", 0) && r->mode != MODE_NEAREST;
    r->exclude_outside = attr_int(n, "exclude_outside", 0) != 0;
    r->cubic_a = (float)attr_float(n, "cubic_coeff_a", -0.75);
    r->extrapolation = (float)attr_float(n, "extrapolation_value", 0.0);
    return true;
}

/* floor(dim * scale); a symbolic dim times a short binary fraction stays integer arithmetic. */
static const KExpr *scaled_dim(KCtx *k, const KExpr *dim, const KExpr *scale) {
    int64_t extent, denominator = 1;
    double factor = scale->op == KO_const_f ? scale->u.f : 0.5 / (1 << 16);
    while (denominator < 1 << 16 && factor != floor(factor)) {
        factor *= 2;
        denominator *= 2;
    }
    if (factor == floor(factor) && !k_is_int(dim, &extent))
        return k_fdiv(k, k_mul(k, dim, k_int(k, (int64_t)factor)), k_int(k, denominator));
    const KExpr *size = k_cast(k, DT_I64, k_floor(k, k_mul(k, k_cast(k, DT_F32, dim), scale)));
    return k_max(k, size, k_int(k, 0)); /* so that the range is known */
}

static bool check_scale(Module *m, const Node *n, const KExpr *scale, const KExpr *dim) {
    KCtx *k = m->k;
    int64_t extent;
    if (scale->op != KO_const_f) {
        const KExpr *is_positive = k_lt(k, k_const_f(k, DT_F32, 0), scale);
        const KExpr *is_small = k_le(k, scale, k_const_f(k, DT_F32, 0x1p30));
        infer_rule(m, n, k_and(k, is_positive, is_small));
        return true;
    }
    double v = scale->u.f;
    if (!(v > 0) || !(v <= 0x1p30)) {
        diag_error(m->diag, n->loc, "a scale is %g, must be positive and at most 2^30", v);
        return false;
    }
    if (!k_is_int(dim, &extent) || (double)extent * v < 0x1p62) return true;
    diag_error(m->diag, n->loc, "a dim of %lld times %g is too large", (long long)extent, v);
    return false;
}

/* One factor for all listed axes, so that the result is not larger (or not smaller) than asked for.
 */
static void keep_aspect(KCtx *k, Shape in, Resize *r, const int *axes, int count) {
    const KExpr *factor = NULL;
    for (int i = 0; i < count; i++) {
        const KExpr *ratio = r->axis[axes[i]].scale;
        factor = !factor                          ? ratio
                 : r->policy == POLICY_NOT_LARGER ? k_min(k, factor, ratio)
                                                  : k_max(k, factor, ratio);
    }
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        a->scale = factor;
        a->length = k_mul(k, factor, k_cast(k, DT_F32, in.dims[axes[i]]));
        const KExpr *size = k_floor(k, k_add(k, a->length, k_const_f(k, DT_F32, 0.5)));
        a->size = k_max(k, k_cast(k, DT_I64, size), k_int(k, 0));
    }
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

static const KExpr *element(Module *m, const Node *n, int i, int at) {
    return k_cast(m->k, DT_F32, value_read_number(m, n->in[i], at));
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
        a->scale = k_div(m->k, k_cast(m->k, DT_F32, sizes[i]), k_cast(m->k, DT_F32, dim));
    }
    if (r->policy != POLICY_STRETCH) keep_aspect(m->k, n->in[0]->shape, r, axes, count);
    return true;
}

static bool scaled_axes(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    if (!is_vector(m, n, 2, count)) return false;
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        const KExpr *dim = n->in[0]->shape.dims[axes[i]];
        a->scale = element(m, n, 2, i);
        if (!check_scale(m, n, a->scale, dim)) return false;
        a->size = scaled_dim(m->k, dim, a->scale);
        a->length = k_mul(m->k, k_cast(m->k, DT_F32, dim), a->scale);
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

/* The region and whether anything changes at all along the i-th of the listed axes. */
static bool finish_axis(Module *m, const Node *n, const Resize *r, ResizeAxis *a, int i, int count,
                        const KExpr *dim) {
    bool is_whole = r->xy != XY_CROP;
    if (!is_whole) {
        a->roi_start = element(m, n, 1, i);
        a->roi_end = element(m, n, 1, count + i);
        is_whole = k_is_value(a->roi_start, 0.0) && k_is_value(a->roi_end, 1.0);
    }
    a->is_kept = is_whole && a->size == dim && (!a->length || k_is_value(a->scale, 1.0));
    if (a->is_kept || k_is_value(a->size, 0)) return true;
    const KExpr *zero = k_int(m->k, 0);
    if (!a->length) /* a scale makes nothing of nothing */
        infer_rule(m, n, k_or(m->k, k_lt(m->k, zero, dim), k_eq(m->k, a->size, zero)));
    if (!k_is_value(dim, 0)) return true;
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
    if (is_given(n, 2) == is_given(n, 3)) {
        diag_error(m->diag, n->loc, "exactly one of scales and sizes must be given");
        return false;
    }
    if (r->xy == XY_CROP && !is_given(n, 1)) {
        diag_error(m->diag, n->loc, "tf_crop_and_resize needs the input roi");
        return false;
    }
    if (r->xy == XY_CROP && !is_vector(m, n, 1, 2 * count)) return false;
    if (!(is_given(n, 3) ? sized_axes(m, n, r, axes, count) : scaled_axes(m, n, r, axes, count)))
        return false;
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        if (!finish_axis(m, n, r, a, i, count, in.dims[axes[i]])) return false;
        bool is_single = a->is_kept || r->mode == MODE_NEAREST;
        if (taps <= MAX_TAPS) taps *= is_single ? 1 : r->mode == MODE_LINEAR ? 2 : 4;
    }
    r->separate = r->antialias || taps > MAX_TAPS;
    return true;
}

bool resize_infer(Module *m, Node *n) {
    Resize r;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !resize_plan(m, n, &r)) return false;
    if (r.mode != MODE_NEAREST && !infer_dtype(m, n, 0, CLASS_SCALAR | CLASS_COMPLEX)) return false;
    if (r.xy == XY_CROP && !infer_dtype(m, n, 0, CLASS_SCALAR | CLASS_COMPLEX)) return false;
    Shape out = shape_make(m->arena, n->in[0]->shape.rank);
    for (int i = 0; i < out.rank; i++) out.dims[i] = r.axis[i].size;
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}
