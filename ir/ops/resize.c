/* Resize: nearest, linear and cubic sampling along any axes.
 *
 * Each resized axis maps an output index to 1, 2 or 4 taps: an input index, clamped into the axis,
 * and a weight. The output is the nested weighted sum over the axes' taps; with nearest it is one
 * copy. Coordinates are f32, in onnxruntime's order of operations, because a coordinate that lands
 * on the other side of .5 picks another pixel. They are written once, as expressions over the
 * output index; where the sizes are constants they are evaluated here and become small tables, so
 * that no float arithmetic on indices is left in the loops. */
#include "ir/ops/common.h"

#include <assert.h>
#include <math.h>
#include <string.h>

typedef enum { MODE_NEAREST, MODE_LINEAR, MODE_CUBIC, N_MODES } Mode;
typedef enum {
    XY_HALF_PIXEL,
    XY_HALF_PIXEL_SYMMETRIC,
    XY_PYTORCH,
    XY_ALIGN,
    XY_ASYMMETRIC,
    XY_TF_NN,
    XY_CROP,
    N_XY,
} Xy;
typedef enum { NEAR_PREFER_FLOOR, NEAR_PREFER_CEIL, NEAR_FLOOR, NEAR_CEIL, N_NEAR } Near;
typedef enum { POLICY_STRETCH, POLICY_NOT_LARGER, POLICY_NOT_SMALLER, N_POLICIES } Policy;

static const char *const mode_names[] = {"nearest", "linear", "cubic"};
static const char *const xy_names[] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize"};
static const char *const near_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                         "ceil"};
static const char *const policy_names[] = {"stretch", "not_larger", "not_smaller"};

typedef struct ResizeAxis {
    bool is_kept;              /* the axis is copied as it is */
    const KExpr *size, *scale; /* output extent, f32 factor */
    float roi_start, roi_end;  /* XY_CROP */
} ResizeAxis;

typedef struct Resize {
    int mode, xy, near, policy;
    bool exclude_outside;
    float cubic_a, extrapolation;
    ResizeAxis axis[MAX_RANK];
} Resize;

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
        !one_of(m, n, "nearest_mode", near_names, N_NEAR, &r->near) ||
        !one_of(m, n, "keep_aspect_ratio_policy", policy_names, N_POLICIES, &r->policy))
        return false;
    if (attr_int(n, "antialias", 0)) {
        diag_unsupported(m->diag, n->loc,
                         "antialias is not supported; export the model without it");
        return false;
    }
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

/* One factor for all listed axes, so that the result is not larger (or not smaller) than asked for.
 */
static bool keep_aspect(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    float factor = 0;
    for (int i = 0; i < count; i++) {
        int64_t had, wanted;
        if (!k_is_int(n->in[0]->shape.dims[axes[i]], &had) ||
            !k_is_int(r->axis[axes[i]].size, &wanted)) {
            diag_unsupported(m->diag, n->loc,
                             "keep_aspect_ratio_policy with symbolic dims; fix them with --dim");
            return false;
        }
        if (had == 0) {
            diag_error(m->diag, n->loc, "axis %d is empty", axes[i]);
            return false;
        }
        float ratio = (float)wanted / (float)had;
        bool is_better = r->policy == POLICY_NOT_LARGER ? ratio < factor : ratio > factor;
        if (i == 0 || is_better) factor = ratio;
    }
    for (int i = 0; i < count; i++) {
        int64_t had;
        k_is_int(n->in[0]->shape.dims[axes[i]], &had);
        r->axis[axes[i]].size = k_int(m->k, (int64_t)roundf(factor * (float)had));
        r->axis[axes[i]].scale = k_const_f(m->k, DT_F32, factor);
    }
    return true;
}

static bool float_inputs(Module *m, const Node *n, int i, int count, double *v) {
    int64_t length;
    if (!infer_dtype(m, n, i, CLASS_FLOAT)) return false;
    if (!value_is_const(n->in[i])) {
        diag_unsupported(m->diag, n->loc, "input %d (%s) must be a constant", i,
                         i == 1 ? "roi" : "scales");
        return false;
    }
    if (!shape_count_int(n->in[i]->shape, &length) || length != count) {
        diag_error(m->diag, n->loc, "input %d (%s) must have %d elements", i,
                   i == 1 ? "roi" : "scales", count);
        return false;
    }
    for (int j = 0; j < count; j++) v[j] = value_const_float(n->in[i], j);
    return true;
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
        r->axis[axes[i]].size = sizes[i];
        r->axis[axes[i]].scale =
            k_div(m->k, k_cast(m->k, DT_F32, sizes[i]), k_cast(m->k, DT_F32, dim));
    }
    return r->policy == POLICY_STRETCH || keep_aspect(m, n, r, axes, count);
}

static bool scaled_axes(Module *m, const Node *n, Resize *r, const int *axes, int count) {
    double v[MAX_RANK];
    if (!float_inputs(m, n, 2, count, v)) return false;
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        a->scale = k_const_f(m->k, DT_F32, v[i]);
        if (!scaled_dim(m, n, n->in[0]->shape.dims[axes[i]], (float)v[i], &a->size)) return false;
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

/* An axis of 2^n or fewer taps is read in one expression. */
enum { MAX_TAPS = 64 };

static bool resize_plan(Module *m, const Node *n, Resize *r) {
    int axes[MAX_RANK], count, taps = 1;
    double roi[2 * MAX_RANK];
    Shape in = n->in[0]->shape;
    if (!resize_attributes(m, n, r) || !resize_axes(m, n, axes, &count)) return false;
    for (int i = 0; i < in.rank; i++)
        r->axis[i] = (ResizeAxis){.is_kept = true, .size = in.dims[i]};
    if (is_given(n, 2) == is_given(n, 3)) {
        diag_error(m->diag, n->loc, "exactly one of scales and sizes must be given");
        return false;
    }
    if (!(is_given(n, 3) ? sized_axes(m, n, r, axes, count) : scaled_axes(m, n, r, axes, count)))
        return false;
    if (r->xy == XY_CROP && !(is_given(n, 1) && float_inputs(m, n, 1, 2 * count, roi))) {
        if (!is_given(n, 1)) diag_error(m->diag, n->loc, "tf_crop_and_resize needs the input roi");
        return false;
    }
    for (int i = 0; i < count; i++) {
        ResizeAxis *a = &r->axis[axes[i]];
        if (r->xy == XY_CROP) {
            a->roi_start = (float)roi[i];
            a->roi_end = (float)roi[count + i];
        }
        bool is_whole = r->xy != XY_CROP || (a->roi_start == 0.0f && a->roi_end == 1.0f);
        a->is_kept = is_whole && a->size == in.dims[axes[i]] &&
                     (!is_given(n, 2) || k_is_value(a->scale, 1.0));
        if (!a->is_kept && k_is_value(in.dims[axes[i]], 0) && !k_is_value(a->size, 0)) {
            diag_error(m->diag, n->loc, "axis %d is empty: there is nothing to sample", axes[i]);
            return false;
        }
        taps *= a->is_kept || r->mode == MODE_NEAREST ? 1 : r->mode == MODE_LINEAR ? 2 : 4;
        if (taps > MAX_TAPS) {
            diag_unsupported(m->diag, n->loc, "%s sampling along this many axes",
                             mode_names[r->mode]);
            return false;
        }
    }
    return true;
}

bool resize_infer(Module *m, Node *n) {
    Resize r;
    if (!infer_dtype(m, n, 0, CLASS_SCALAR) || !resize_plan(m, n, &r)) return false;
    if (r.mode != MODE_NEAREST && !infer_dtype(m, n, 0, CLASS_NUMBER)) return false;
    Shape out = shape_make(m->arena, n->in[0]->shape.rank);
    for (int i = 0; i < out.rank; i++) out.dims[i] = r.axis[i].size;
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* ---- taps as expressions over the output index ----------------------------------------------- */

typedef struct Taps {
    const KExpr *index[4], *weight[4]; /* i64 inside the axis, f32 */
    const KExpr *outside;              /* bool: the extrapolation value is asked for; NULL: never */
    int n;
} Taps;

static const KExpr *f32(KCtx *k, double v) {
    return k_const_f(k, DT_F32, v);
}

/* The input coordinate of output index x (f32). */
static const KExpr *coordinate(KCtx *k, const Resize *r, const ResizeAxis *a, const KExpr *x,
                               const KExpr *dim) {
    const KExpr *had = k_cast(k, DT_F32, dim), *size = k_cast(k, DT_F32, a->size),
                *half = f32(k, 0.5), *one = f32(k, 1);
    const KExpr *is_long = k_lt(k, k_int(k, 1), a->size), *last = k_sub(k, had, one);
    const KExpr *steps = k_sub(k, size, one);
    const KExpr *scaled = k_div(k, k_add(k, x, half), a->scale), *center = k_sub(k, scaled, half);
    switch ((Xy)r->xy) {
    case XY_HALF_PIXEL: return center;
    case XY_HALF_PIXEL_SYMMETRIC: {
        const KExpr *adjust = k_div(k, size, k_mul(k, a->scale, had));
        const KExpr *offset = k_mul(k, k_div(k, had, f32(k, 2)), k_sub(k, one, adjust));
        const KExpr *wide_half = k_const_f(k, DT_F64, 0.5),
                    *wide = k_add(k, k_cast(k, DT_F64, x), wide_half);
        wide = k_add(k, k_cast(k, DT_F64, offset), k_div(k, wide, k_cast(k, DT_F64, a->scale)));
        return k_cast(k, DT_F32, k_sub(k, wide, wide_half)); /* onnxruntime's only one in f64 */
    }
    case XY_PYTORCH: return k_select(k, is_long, center, f32(k, 0));
    case XY_ALIGN: return k_select(k, is_long, k_div(k, k_mul(k, x, last), steps), f32(k, 0));
    case XY_ASYMMETRIC: return k_div(k, x, a->scale);
    case XY_TF_NN: return scaled;
    case XY_CROP: {
        const KExpr *start = f32(k, a->roi_start), *end = f32(k, a->roi_end);
        const KExpr *span = k_div(k, k_mul(k, k_mul(k, x, k_sub(k, end, start)), last), steps);
        const KExpr *middle = k_mul(k, k_mul(k, half, k_add(k, start, end)), last);
        return k_select(k, is_long, k_add(k, k_mul(k, start, last), span), middle);
    }
    case N_XY: break;
    }
    BUG("coordinate mode %d", r->xy);
}

static const KExpr *clamp_index(KCtx *k, const KExpr *i, const KExpr *dim) {
    return k_max(k, k_min(k, i, k_sub(k, dim, k_int(k, 1))), k_int(k, 0));
}

static const KExpr *nearest_index(KCtx *k, int near, const KExpr *x) {
    const KExpr *low = k_floor(k, x), *rest = k_sub(k, x, low), *up = k_add(k, low, f32(k, 1)),
                *half = f32(k, 0.5);
    switch ((Near)near) {
    case NEAR_PREFER_FLOOR: return k_select(k, k_lt(k, half, rest), up, low);
    case NEAR_PREFER_CEIL: return k_select(k, k_le(k, half, rest), up, low);
    case NEAR_FLOOR: return low;
    case NEAR_CEIL: return k_ceil(k, x);
    case N_NEAR: break;
    }
    BUG("nearest mode %d", near);
}

/* Cubic kernel at distance 1 + s (outer taps) and s (inner taps), s in [0, 1]. */
static const KExpr *cubic_outer(KCtx *k, double a, const KExpr *s) {
    const KExpr *t = k_add(k, s, f32(k, 1));
    const KExpr *e = k_sub(k, k_mul(k, f32(k, a), t), f32(k, 5 * a));
    e = k_add(k, k_mul(k, e, t), f32(k, 8 * a));
    return k_sub(k, k_mul(k, e, t), f32(k, 4 * a));
}

static const KExpr *cubic_inner(KCtx *k, double a, const KExpr *s) {
    const KExpr *e = k_sub(k, k_mul(k, f32(k, a + 2), s), f32(k, a + 3));
    return k_add(k, k_mul(k, k_mul(k, e, s), s), f32(k, 1));
}

static void cubic_taps(KCtx *k, const Resize *r, const KExpr *x, const KExpr *dim, Taps *t) {
    double a = r->cubic_a;
    const KExpr *base = k_floor(k, x), *s = k_sub(k, x, base), *far = k_sub(k, f32(k, 1), s),
                *sum = f32(k, 0);
    const KExpr *weight[4] = {cubic_outer(k, a, s), cubic_inner(k, a, s), cubic_inner(k, a, far),
                              cubic_outer(k, a, far)};
    base = k_cast(k, DT_I64, base);
    t->n = 4;
    for (int i = 0; i < 4; i++) {
        const KExpr *at = k_add(k, base, k_int(k, i - 1));
        t->index[i] = clamp_index(k, at, dim);
        t->weight[i] = r->exclude_outside
                           ? k_select(k, k_eq(k, at, t->index[i]), weight[i], f32(k, 0))
                           : weight[i];
        sum = k_add(k, sum, t->weight[i]);
    }
    for (int i = 0; r->exclude_outside && i < 4; i++) t->weight[i] = k_div(k, t->weight[i], sum);
}

static Taps axis_taps(KCtx *k, const Resize *r, const ResizeAxis *a, const KExpr *i,
                      const KExpr *dim) {
    Taps t = {.n = 1};
    const KExpr *x = coordinate(k, r, a, k_cast(k, DT_F32, i), dim), *zero = f32(k, 0);
    const KExpr *last = k_sub(k, k_cast(k, DT_F32, dim), f32(k, 1));
    if (r->xy == XY_CROP) t.outside = k_or(k, k_lt(k, x, zero), k_lt(k, last, x));
    if (r->mode == MODE_CUBIC) {
        cubic_taps(k, r, x, dim, &t);
    } else if (r->mode == MODE_NEAREST) {
        t.index[0] = clamp_index(k, k_cast(k, DT_I64, nearest_index(k, r->near, x)), dim);
    } else {
        x = k_max(k, zero, k_min(k, last, x));
        const KExpr *low = k_floor(k, x);
        t.n = 2;
        t.index[0] = clamp_index(k, k_cast(k, DT_I64, low), dim);
        t.index[1] = clamp_index(k, k_add(k, t.index[0], k_int(k, 1)), dim);
        t.weight[1] = k_sub(k, x, low);
        t.weight[0] = k_sub(k, f32(k, 1), t.weight[1]);
    }
    return t;
}

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct Number {
    int64_t i; /* i64 and bool */
    double f;  /* floats; an f32 is kept rounded, which is exact for + - * / */
} Number;

/* Truncated; far outside of any axis where it does not fit. */
static int64_t whole(double f) {
    if (fabs(f) < 0x1p62) return (int64_t)f;
    return f > 0 ? INT64_C(1) << 62 : -(INT64_C(1) << 62);
}

/* The value of a tap expression with its one variable equal to at; same operations, same roundings.
 */
static Number evaluate(const KExpr *e, int64_t at) {
    Number a[3] = {{0, 0}}, r = {0, 0};
    for (int i = 0; i < e->n_args; i++) a[i] = evaluate(e->arg[i], at);
    bool is_float = e->n_args > 0 && dtype_is_float(e->arg[0]->dtype);
    switch ((int)e->op) {
    case KO_const_i: r.i = e->u.i; break;
    case KO_const_f: r.f = e->u.f; break;
    case KO_var: r.i = at; break;
    case KO_cast:
        r = is_float ? (Number){whole(a[0].f), a[0].f} : (Number){a[0].i, (double)a[0].i};
        break;
    case KO_add: r = (Number){a[0].i + a[1].i, a[0].f + a[1].f}; break;
    case KO_sub: r = (Number){a[0].i - a[1].i, a[0].f - a[1].f}; break;
    case KO_mul: r = (Number){is_float ? 0 : a[0].i * a[1].i, a[0].f * a[1].f}; break;
    case KO_div: r.f = a[0].f / a[1].f; break;
    case KO_min:
        r = (Number){a[0].i < a[1].i ? a[0].i : a[1].i, a[0].f < a[1].f ? a[0].f : a[1].f};
        break;
    case KO_max:
        r = (Number){a[0].i > a[1].i ? a[0].i : a[1].i, a[0].f > a[1].f ? a[0].f : a[1].f};
        break;
    case KO_floor: r.f = floor(a[0].f); break;
    case KO_ceil: r.f = ceil(a[0].f); break;
    case KO_lt: r.i = is_float ? a[0].f < a[1].f : a[0].i < a[1].i; break;
    case KO_le: r.i = is_float ? a[0].f <= a[1].f : a[0].i <= a[1].i; break;
    case KO_eq: r.i = is_float ? a[0].f == a[1].f : a[0].i == a[1].i; break;
    case KO_or: r.i = a[0].i | a[1].i; break;
    case KO_select: r = a[0].i ? a[1] : a[2]; break;
    default: BUG("%s in a tap", kop_info[e->op].name);
    }
    if (e->dtype == DT_F32) r.f = (double)(float)r.f;
    return dtype_is_float(e->dtype) ? (Number){0, r.f} : (Number){r.i, 0};
}

/* e over all indices as a table, read at i. An index that is i / c or i * c + d stays arithmetic.
 */
static const KExpr *tabulate(Def *d, const KExpr *e, const KExpr *i, int64_t size) {
    KCtx *k = d->k;
    if (e->op == KO_const_i || e->op == KO_const_f) return e;
    if (e->dtype == DT_F32) {
        double *v = arena_array(d->m->scratch, double, size);
        for (int64_t j = 0; j < size; j++) v[j] = evaluate(e, j).f;
        return def_at(d, def_table_floats(d, "weights", DT_F32, v, size), &i, 1);
    }
    int64_t *v = arena_array(d->m->scratch, int64_t, size), factor = 1;
    for (int64_t j = 0; j < size; j++) v[j] = evaluate(e, j).i;
    bool is_bool = e->dtype == DT_BOOL, is_line = !is_bool && size > 1,
         is_quotient = is_line && v[0] == 0;
    while (factor < size && v[factor] == v[0]) factor++;
    for (int64_t j = 1; j < size; j++) {
        is_line = is_line && v[j] - v[j - 1] == v[1] - v[0];
        is_quotient = is_quotient && v[j] == j / factor;
    }
    if (is_line) return k_add(k, k_mul(k, i, k_int(k, v[1] - v[0])), k_int(k, v[0]));
    if (is_quotient) return k_fdiv(k, i, k_int(k, factor));
    KTensor *table = def_table_ints(d, "taps",
                                    is_bool            ? DT_BOOL
                                    : size < INT32_MAX ? DT_I32
                                                       : DT_I64,
                                    v, size);
    return k_cast(k, e->dtype, def_at(d, table, &i, 1));
}

enum { MAX_TABLE = 1 << 20 };

static void tabulate_taps(Def *d, Taps *t, const KExpr *i, const ResizeAxis *a, const KExpr *dim) {
    int64_t size, had;
    if (!k_is_int(a->size, &size) || !k_is_int(dim, &had) || size < 1 || size > MAX_TABLE) return;
    for (int j = 0; j < t->n; j++) {
        t->index[j] = tabulate(d, t->index[j], i, size);
        if (t->weight[j]) t->weight[j] = tabulate(d, t->weight[j], i, size);
    }
    if (t->outside) t->outside = tabulate(d, t->outside, i, size);
}

/* ---- lower ----------------------------------------------------------------------------------- */

/* Weighted sum over the taps of axes `axis` and up; from[] holds the chosen indices of those
 * before. */
static const KExpr *sample(Def *d, KTensor *x, const Taps *taps, int axis, const KExpr **from,
                           DType as) {
    KCtx *k = d->k;
    if (axis == x->rank) return k_cast(k, as, def_at(d, x, from, x->rank));
    const KExpr *sum = NULL;
    for (int i = 0; i < taps[axis].n; i++) {
        from[axis] = taps[axis].index[i];
        const KExpr *e = sample(d, x, taps, axis + 1, from, as), *w = taps[axis].weight[i];
        if (w) e = k_mul(k, e, k_cast(k, as, w));
        sum = sum ? k_add(k, sum, e) : e;
    }
    return sum;
}

void resize_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    Resize r;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Taps taps[MAX_RANK];
    const KExpr *from[MAX_RANK], *outside = NULL;
    BUG_IF(!resize_plan(d->m, n, &r), "the sizes changed since infer");
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0; i < x->rank; i++) {
        const KExpr *at = def_axis(d, s, i);
        taps[i] = (Taps){.index = {at}, .n = 1};
        if (r.axis[i].is_kept) continue;
        taps[i] = axis_taps(k, &r, &r.axis[i], at, x->dims[i]);
        tabulate_taps(d, &taps[i], at, &r.axis[i], x->dims[i]);
        if (taps[i].outside)
            outside = outside ? k_or(k, outside, taps[i].outside) : taps[i].outside;
    }
    DType as = r.mode == MODE_NEAREST ? x->dtype : x->dtype == DT_F64 ? DT_F64 : DT_F32;
    const KExpr *e = k_cast(k, out->dtype, sample(d, x, taps, 0, from, as));
    if (outside) e = k_select(k, outside, k_const(k, out->dtype, (double)r.extrapolation), e);
    s->movement = r.mode == MODE_NEAREST && !outside;
    def_map(d, s, e);
}
