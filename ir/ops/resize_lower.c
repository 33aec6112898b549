/* Resize's definition: nearest, linear and cubic sampling along any axes.
 *
 * Each resized axis maps an output index to 1, 2 or 4 taps: an input index, clamped into the axis,
 * and a weight. The output is the nested weighted sum over the axes' taps; with nearest it is one
 * copy. Coordinates are f32, in onnxruntime's order of operations, because a coordinate that lands
 * on the other side of .5 picks another pixel. They are written once, as expressions over the
 * output index; where the sizes are constants they are evaluated here and become small tables, so
 * that no float arithmetic on indices is left in the loops.
 *
 * With antialias the filter is as wide as the scale is small. Axes are then resized one after the
 * other, each a reduce over the taps with weights from a stage of their own, which is computed
 * while compiling where it can be. */
#include "ir/ops/resize.h"

#include <math.h>

/* ---- taps as expressions over the output index ----------------------------------------------- */

typedef struct Taps {
    const KExpr *index[4], *weight[4]; /* i64 inside the axis, f32 */
    const KExpr *outside;              /* bool: the extrapolation value is asked for; NULL: never */
    int n;
} Taps;

static const KExpr *f32(KCtx *k, double v) {
    return k_const_f(k, DT_F32, v);
}

/* The input coordinate of output index x (f32). Lengths are those before they were cut to whole
 * ones, as ONNX has it: aligned corners of 4 elements scaled by 0.6 are 1.4 apart. */
static const KExpr *coordinate(KCtx *k, const Resize *r, const ResizeAxis *a, const KExpr *x,
                               const KExpr *dim) {
    const KExpr *had = k_cast(k, DT_F32, dim), *size = k_cast(k, DT_F32, a->size),
                *half = f32(k, 0.5), *one = f32(k, 1), *length = a->length ? a->length : size;
    const KExpr *is_long = k_ne(k, length, one), *last = k_sub(k, had, one);
    const KExpr *steps = k_sub(k, length, one);
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
    case XY_PYTORCH: return k_select(k, k_lt(k, k_int(k, 1), a->size), center, f32(k, 0));
    case XY_ALIGN: return k_select(k, is_long, k_div(k, k_mul(k, x, last), steps), f32(k, 0));
    case XY_ASYMMETRIC: return k_div(k, x, a->scale);
    case XY_TF_NN: return scaled;
    case XY_CROP: {
        const KExpr *start = a->roi_start, *end = a->roi_end;
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

static const KExpr *nearest_index(KCtx *k, int near, const KExpr *scale, const KExpr *x) {
    const KExpr *low = k_floor(k, x), *rest = k_sub(k, x, low), *up = k_add(k, low, f32(k, 1)),
                *half = f32(k, 0.5);
    switch ((Near)near) {
    case NEAR_PREFER_FLOOR: return k_select(k, k_lt(k, half, rest), up, low);
    case NEAR_PREFER_CEIL: return k_select(k, k_le(k, half, rest), up, low);
    case NEAR_FLOOR: return low;
    case NEAR_CEIL: return k_ceil(k, x);
    case NEAR_SIMPLE: return k_select(k, k_lt(k, scale, f32(k, 1)), k_ceil(k, x), low);
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
        t.index[0] = clamp_index(k, k_cast(k, DT_I64, nearest_index(k, r->near, a->scale, x)), dim);
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
    case KO_ne: r.i = is_float ? a[0].f != a[1].f : a[0].i != a[1].i; break;
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
    bool is_known = a->scale->op == KO_const_f &&
                    (!a->roi_start || a->roi_start->op == KO_const_f) && k_is_int(dim, &had);
    if (!is_known || !k_is_int(a->size, &size) || size < 1 || size > MAX_TABLE) return;
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

/* ---- axis after axis ------------------------------------------------------------------------- */

/* The filter at distance x, linear or cubic; its support is 1 or 2 to both sides. */
static const KExpr *filter(KCtx *k, const Resize *r, const KExpr *x) {
    const KExpr *one = f32(k, 1), *zero = f32(k, 0);
    x = k_abs(k, x);
    if (r->mode == MODE_LINEAR) return k_max(k, k_sub(k, one, x), zero);
    const KExpr *far = cubic_outer(k, r->cubic_a, k_sub(k, x, one));
    far = k_select(k, k_lt(k, x, f32(k, 2)), far, zero);
    return k_select(k, k_le(k, x, one), cubic_inner(k, r->cubic_a, x), far);
}

/* How many taps reach an element: the filter's support to both sides, wider where the axis shrinks.
 * A scale that is not known is at least (size - 1/2) / dim: sizes are at most rounded up. */
static const KExpr *filter_taps(KCtx *k, const Resize *r, const ResizeAxis *a, const KExpr *dim) {
    int64_t support = r->mode == MODE_LINEAR ? 1 : 2;
    if (!r->antialias) return k_int(k, 2 * support);
    if (a->scale->op == KO_const_f) {
        double wide = a->scale->u.f < 1 ? ceil((double)support / a->scale->u.f) : (double)support;
        return k_int(k, 2 * (int64_t)(wide < 0x1p40 ? wide : 0x1p40));
    }
    const KExpr *halves =
        k_max(k, k_sub(k, k_mul(k, a->size, k_int(k, 2)), k_int(k, 1)), k_int(k, 1));
    const KExpr *wide = k_mul(k, dim, k_int(k, 2 * support));
    wide = k_fdiv(k, k_add(k, wide, k_sub(k, halves, k_int(k, 1))), halves);
    return k_mul(k, k_max(k, wide, k_int(k, support)), k_int(k, 2));
}

/* Tables of one axis: where each tap is and its weight, of which the sum is 1, by tap and output
 * index, so that neighbours in the output are neighbours here. */
typedef struct Filter {
    KTensor *place, *weight;
    const KExpr *taps;
} Filter;

static KTensor *first_taps(Def *d, const Resize *r, const ResizeAxis *a, const KExpr *dim,
                           const KExpr *taps) {
    KCtx *k = d->k;
    DType t = dim->hi < INT32_MAX / 4 && taps->hi < INT32_MAX / 4 ? DT_I32 : DT_I64;
    KTensor *first = def_temp(d, "first", t, 1, &a->size);
    Stage *s = def_begin(d, FORM_MAP, first);
    const KExpr *x = coordinate(k, r, a, k_cast(k, DT_F32, def_axis(d, s, 0)), dim);
    const KExpr *base = k_cast(k, DT_I64, k_floor(k, x)), *half = k_fdiv(k, taps, k_int(k, 2));
    def_map(d, s, k_cast(k, t, k_add(k, k_sub(k, base, half), k_int(k, 1))));
    return first;
}

/* places[tap, i], within the axis */
static KTensor *tap_places(Def *d, KTensor *first, const KExpr *const *dims, const KExpr *dim) {
    KCtx *k = d->k;
    DType t = first->dtype;
    KTensor *place = def_temp(d, "places", t, 2, dims);
    Stage *s = def_begin(d, FORM_MAP, place);
    const KExpr *at[2];
    lower_axes(d, s, at);
    const KExpr *from = k_add(k, def_at(d, first, &at[1], 1), k_cast(k, t, at[0]));
    const KExpr *last = k_cast(k, t, k_sub(k, dim, k_int(k, 1)));
    def_map(d, s, k_max(k, k_min(k, from, last), k_const_i(k, t, 0)));
    return place;
}

static Filter axis_filter(Def *d, const Resize *r, const ResizeAxis *a, const KExpr *dim) {
    KCtx *k = d->k;
    Filter f = {.taps = filter_taps(k, r, a, dim)};
    const KExpr *dims[2] = {a->size, f.taps}, *by_tap[2] = {f.taps, a->size}, *at[2];
    const KExpr *one = f32(k, 1);
    const KExpr *narrow = r->antialias ? k_min(k, a->scale, one) : one;
    KTensor *first = first_taps(d, r, a, dim, f.taps);
    f.place = tap_places(d, first, by_tap, dim);
    KTensor *raw = def_temp(d, "raw_weights", DT_F32, 2, dims);
    Stage *s = def_begin(d, FORM_MAP, raw);
    lower_axes(d, s, at);
    const KExpr *x = coordinate(k, r, a, k_cast(k, DT_F32, at[0]), dim);
    const KExpr *i = k_add(k, k_cast(k, DT_I64, def_at(d, first, at, 1)), at[1]);
    const KExpr *w = filter(k, r, k_mul(k, k_sub(k, k_cast(k, DT_F32, i), x), narrow));
    if (r->exclude_outside) w = k_select(k, lower_inside(d, i, dim), w, f32(k, 0));
    def_map(d, s, w);
    KTensor *sum = def_temp(d, "sum", DT_F32, 1, dims);
    s = def_begin(d, FORM_REDUCE, sum);
    at[0] = def_axis(d, s, 0);
    at[1] = def_reduce_axis(d, s, "tap", f.taps);
    def_reduce(d, s, KO_add, DT_F32, f32(k, 0), def_at(d, raw, at, 2));
    f.weight = def_temp(d, "weights", DT_F32, 2, by_tap);
    s = def_begin(d, FORM_MAP, f.weight);
    lower_axes(d, s, at);
    const KExpr *own[2] = {at[1], at[0]}, *total = def_at(d, sum, own, 1);
    total = k_select(k, k_eq(k, total, f32(k, 0)), one, total);
    def_map(d, s, k_div(k, def_at(d, raw, own, 2), total));
    return f;
}

/* x resized along one axis, in dtype `as`. */
static KTensor *resize_axis(Def *d, const Resize *r, KTensor *x, int axis, DType as) {
    KCtx *k = d->k;
    const KExpr *dims[MAX_RANK], *from[MAX_RANK], *dim = x->dims[axis];
    Filter f = axis_filter(d, r, &r->axis[axis], dim);
    for (int i = 0; i < x->rank; i++) dims[i] = i == axis ? r->axis[axis].size : x->dims[i];
    KTensor *out = def_temp(d, "resized", as, x->rank, dims);
    Stage *s = def_begin(d, FORM_REDUCE, out);
    lower_axes(d, s, from);
    const KExpr *at[2] = {def_reduce_axis(d, s, "tap", f.taps), from[axis]};
    from[axis] = k_cast(k, DT_I64, def_at(d, f.place, at, 2));
    const KExpr *e = k_cast(k, as, def_at(d, x, from, x->rank));
    e = k_mul(k, e, k_cast(k, as, def_at(d, f.weight, at, 2)));
    def_reduce(d, s, KO_add, as, k_const(k, as, 0), e);
    return out;
}

/* ---- lower ----------------------------------------------------------------------------------- */

/* How many times as many elements the axes before `axis` have behind the resize; 0: not known. */
static double growth_before(const Resize *r, const KTensor *x, int axis) {
    double growth = 1;
    int64_t had, size;
    for (int i = 0; i < axis; i++) {
        if (r->axis[i].is_kept) continue;
        if (!k_is_int(x->dims[i], &had) || !k_is_int(r->axis[i].size, &size) || !had) return 0;
        growth *= (double)size / (double)had;
    }
    return growth;
}

/* Is a tensor of sums along `axis` worth its memory? An element of the result reads as many places
 * as there are taps of this axis for each of those before; of sums, it takes the part of them that
 * it has in one. Three such reads are a bit too few. */
static bool spares_reads(const Resize *r, const KTensor *x, int axis) {
    double growth = growth_before(r, x, axis), taps = r->mode == MODE_LINEAR ? 2 : 4, before = 1;
    for (int i = 0; i < axis; i++)
        if (!r->axis[i].is_kept) before *= taps;
    if (dtype_bytes(x->dtype) < dtype_bytes(DT_F32)) return growth >= 1;
    return growth > 0 && taps * (before - 1 / growth) > 3.3;
}

/* x resized along one axis by its taps. */
static KTensor *sample_axis(Def *d, KTensor *x, const Resize *r, int axis, DType as) {
    KCtx *k = d->k;
    const KExpr *dims[MAX_RANK], *from[MAX_RANK];
    Taps taps[MAX_RANK];
    for (int i = 0; i < x->rank; i++) dims[i] = i == axis ? r->axis[axis].size : x->dims[i];
    KTensor *out = def_temp(d, "resized", as, x->rank, dims);
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0; i < x->rank; i++) taps[i] = (Taps){.index = {def_axis(d, s, i)}, .n = 1};
    const KExpr *at = taps[axis].index[0];
    taps[axis] = axis_taps(k, r, &r->axis[axis], at, x->dims[axis]);
    tabulate_taps(d, &taps[axis], at, &r->axis[axis], x->dims[axis]);
    def_map(d, s, sample(d, x, taps, 0, from, as));
    return out;
}

/* Sums over the taps of the last axes that the others would repeat, as they stand in sample(), so
 * with the same bits. is_done[]: which axes these are. Elements of less than 32 bits are gathered
 * one by one, so that any element less pays; the sums along the other axes are vectors then. */
static KTensor *sample_repeated(Def *d, KTensor *x, const Resize *r, DType as, bool *is_done) {
    const KTensor *given = x;
    for (int i = x->rank - 1; i > 0 && r->mode != MODE_NEAREST && r->xy != XY_CROP; i--) {
        if (r->axis[i].is_kept) continue;
        if (!spares_reads(r, given, i)) break;
        x = sample_axis(d, x, r, i, as);
        is_done[i] = true;
    }
    return x;
}

void resize_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    Resize r;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0), *source = x;
    Taps taps[MAX_RANK];
    const KExpr *from[MAX_RANK], *outside = NULL;
    BUG_IF(!resize_plan(d->m, n, &r), "the sizes changed since infer");
    DType as = r.mode == MODE_NEAREST ? x->dtype : x->dtype == DT_F64 ? DT_F64 : DT_F32;
    for (int i = 0; i < x->rank; i++) {
        if (r.axis[i].is_kept) continue;
        if (r.separate) source = resize_axis(d, &r, source, i, as);
    }
    bool is_done[MAX_RANK] = {false};
    if (!r.separate) source = sample_repeated(d, x, &r, as, is_done);
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0; i < x->rank; i++) {
        const KExpr *at = def_axis(d, s, i);
        taps[i] = (Taps){.index = {at}, .n = 1};
        if (r.axis[i].is_kept || is_done[i]) continue;
        Taps here = axis_taps(k, &r, &r.axis[i], at, x->dims[i]);
        tabulate_taps(d, &here, at, &r.axis[i], x->dims[i]);
        if (here.outside) outside = outside ? k_or(k, outside, here.outside) : here.outside;
        if (!r.separate) taps[i] = here;
    }
    const KExpr *e = sample(d, source, taps, 0, from, as);
    if (r.antialias && dtype_is_int(out->dtype)) e = k_unary(k, KO_rint, e);
    e = k_cast(k, out->dtype, e);
    double beyond = d->is_imaginary ? 0 : (double)r.extrapolation;
    if (outside) e = k_select(k, outside, k_const(k, out->dtype, beyond), e);
    s->movement = r.mode == MODE_NEAREST && !outside;
    def_map(d, s, e);
}
