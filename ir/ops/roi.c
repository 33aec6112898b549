/* RoiAlign and MaxRoiPool: pooling inside regions of an image that are found while running.
 *
 *   RoiAlign    a region is cut into output_height x output_width bins, a bin sampled at grid x
 *               grid places with bilinear weights; the mean of the samples, or the largest weighted
 *               corner of any of them (what ONNX and onnxruntime mean by max)
 *   MaxRoiPool  the maximum of the pixels of a bin; corners of regions are rounded to pixels
 *
 * With a fixed sampling_ratio RoiAlign is a reduce over the bin's places. Otherwise the number of
 * places follows from the region's size, so that it is a program, as MaxRoiPool is: bins are lanes,
 * since all of a region have as many places. A batch index outside of x reads zeros. */
#include <string.h>

#include "ir/ops/check.h"

/* Places along a side of a bin: regions that would need more are sampled more sparsely. */
enum { MAX_PLACES = 4096 };

/* ---- RoiAlign -------------------------------------------------------------------------------- */

static bool is_one_of(Module *m, const Node *n, const char *attr, const char *a, const char *b) {
    const char *text = attr_string(n, attr, a);
    if (!strcmp(text, a) || !strcmp(text, b)) return true;
    diag_error(m->diag, n->loc, "attribute %s must be '%s' or '%s'", attr, a, b);
    return false;
}

static bool check_regions(Module *m, const Node *n, int columns) {
    return check_dtype(m, n, 0, DTM_FLOATS) && check_same_dtype(m, n, 1, 0) &&
           infer_rank(m, n, 0, 4, 4) && infer_rank(m, n, 1, 2, 2) &&
           check_dim(m, n, 1, 1, k_int(m->k, columns), "numbers of a region");
}

bool roi_align_infer(Module *m, Node *n) {
    if (!check_regions(m, n, 4) || !check_dtype(m, n, 2, DTM(I64)) || !infer_rank(m, n, 2, 1, 1) ||
        !check_dim(m, n, 2, 0, n->in[1]->shape.dims[0], "regions") ||
        !is_one_of(m, n, "mode", "avg", "max") ||
        !is_one_of(m, n, "coordinate_transformation_mode", "half_pixel", "output_half_pixel"))
        return false;
    static const char *const sizes[] = {"output_height", "output_width"};
    Shape out = shape_make(m->arena, 4);
    out.dims[0] = n->in[1]->shape.dims[0];
    out.dims[1] = n->in[0]->shape.dims[1];
    for (int i = 0; i < 2; i++) {
        int64_t size = attr_int(n, sizes[i], 1);
        if (!check_attr_int(m, n, sizes[i], size, 1, INT32_MAX)) return false;
        out.dims[2 + i] = k_int(m->k, size);
    }
    return check_attr_int(m, n, "sampling_ratio", attr_int(n, "sampling_ratio", 0), 0,
                          MAX_PLACES) &&
           infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* A region: where it starts, how large a bin is, how many places a bin has; per axis y, x. */
typedef struct Region {
    Def *d;
    KTensor *x;
    DType t; /* of all arithmetic */
    const KExpr *batch, *channel, *start[2], *bin[2], *places[2];
} Region;

static Region read_region(Def *d, const Node *n, const KExpr *roi) {
    KCtx *k = d->k;
    KTensor *rois = def_in(d, 1), *out = def_out(d, 0);
    Region r = {.d = d, .x = def_in(d, 0)};
    r.t = compute_dtype(r.x->dtype);
    bool half =
        !strcmp(attr_string(n, "coordinate_transformation_mode", "half_pixel"), "half_pixel");
    const KExpr *scale = k_const(k, r.t, attr_float(n, "spatial_scale", 1)),
                *shift = k_const(k, r.t, half ? 0.5 : 0), *one = k_const(k, r.t, 1);
    int64_t ratio = attr_int(n, "sampling_ratio", 0);
    r.batch = def_at(d, def_in(d, 2), &roi, 1);
    for (int a = 0; a < 2; a++) {
        const KExpr *from[2] = {roi, k_int(k, 1 - a)}, *to[2] = {roi, k_int(k, 3 - a)};
        const KExpr *start = k_sub(k, k_mul(k, def_at_as(d, r.t, rois, from, 2), scale), shift);
        const KExpr *end = k_sub(k, k_mul(k, def_at_as(d, r.t, rois, to, 2), scale), shift);
        const KExpr *size = k_sub(k, end, start);
        if (!half) size = k_max(k, size, one);
        r.start[a] = start;
        r.bin[a] = k_div(k, size, k_cast(k, r.t, out->dims[2 + a]));
        r.places[a] = k_int(k, ratio);
        if (ratio) continue;
        r.places[a] = k_cast(k, DT_I64, k_ceil(k, r.bin[a]));
        r.places[a] = k_max(k, k_min(k, r.places[a], k_int(k, MAX_PLACES)), k_int(k, 0));
    }
    return r;
}

/* Lower and upper pixel around a place of one axis, the upper's weight, and whether the place is in
 * the image (up to one pixel outside counts). */
typedef struct Around {
    const KExpr *pixel[2], *weight[2], *valid;
} Around;

static Around around(const Region *r, int axis, const KExpr *bin, const KExpr *place) {
    KCtx *k = r->d->k;
    const KExpr *one = k_const(k, r->t, 1), *half = k_const(k, r->t, 0.5),
                *zero = k_const(k, r->t, 0);
    const KExpr *dim = r->x->dims[2 + axis], *last = k_sub(k, dim, k_int(k, 1));
    const KExpr *length = k_cast(k, r->t, dim);
    const KExpr *at = k_add(k, r->start[axis], k_mul(k, k_cast(k, r->t, bin), r->bin[axis]));
    const KExpr *step = k_mul(k, k_add(k, k_cast(k, r->t, place), half), r->bin[axis]);
    at = k_add(k, at, k_div(k, step, k_cast(k, r->t, r->places[axis])));
    Around a;
    a.valid = k_and(k, k_le(k, k_const(k, r->t, -1), at), k_le(k, at, length));
    at = k_max(k, k_min(k, at, k_sub(k, length, one)), zero);
    const KExpr *low = k_floor(k, at);
    a.pixel[0] = k_max(k, k_min(k, k_cast(k, DT_I64, low), last), k_int(k, 0));
    a.pixel[1] = k_min(k, k_add(k, a.pixel[0], k_int(k, 1)), last);
    a.weight[1] = k_sub(k, at, low);
    a.weight[0] = k_sub(k, one, a.weight[1]);
    return a;
}

/* The sample of a place: sum, or maximum, of the four weighted corners; 0 outside of the image. */
static const KExpr *sample(const Region *r, const KExpr *const *bin, const KExpr *const *place,
                           bool max) {
    KCtx *k = r->d->k;
    Around y = around(r, 0, bin[0], place[0]), x = around(r, 1, bin[1], place[1]);
    const KExpr *valid = k_and(k, y.valid, x.valid), *e = NULL;
    valid = k_and_inside(r->d, valid, r->batch, r->x->dims[0]);
    for (int i = 0; i < 4; i++) {
        const KExpr *at[4] = {r->batch, r->channel, y.pixel[i / 2], x.pixel[i % 2]};
        const KExpr *pixel = k_cast(k, r->t, def_at_if(r->d, r->x, at, 4, valid));
        pixel = k_mul(k, k_mul(k, y.weight[i / 2], x.weight[i % 2]), pixel);
        e = !e ? pixel : max ? lower_max_nan(r->d, e, pixel) : k_add(k, e, pixel);
    }
    return e;
}

static void align_fixed(Def *d, const Node *n, bool max) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_REDUCE, out);
    Region r = read_region(d, n, def_axis(d, s, 0));
    r.channel = def_axis(d, s, 1);
    const KExpr *bin[2], *place[2];
    for (int a = 0; a < 2; a++) {
        bin[a] = def_axis(d, s, 2 + a);
        place[a] = def_reduce_axis(d, s, "place", r.places[a]);
    }
    const KExpr *start = max ? lower_lowest(d, r.t) : k_const(k, r.t, 0);
    def_reduce(d, s, max ? KO_max : KO_add, r.t, start, sample(&r, bin, place, max));
    const KExpr *result = def_acc(d, s), *count = k_mul(k, r.places[0], r.places[1]);
    if (!max) result = k_div(k, result, k_cast(k, r.t, count));
    def_finish(d, s, k_cast(k, out->dtype, result));
}

/* The means, or maxima, of `lanes` bins from number `from` on, which all have the same places. */
static void align_bins(const Region *r, KTensor *out, const KExpr *roi, const KExpr *from,
                       int64_t lanes, bool max) {
    Def *d = r->d;
    KBuild *b = &d->b;
    KCtx *k = d->k;
    const KExpr *place[2], *bin[2], *zero = k_int(k, 0), *none = k_const(k, r->t, 0);
    KBuf *acc = kb_alloc(b, MEM_REG, r->t, "acc", lanes);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, lanes));
    kb_store(b, acc, l, max ? lower_lowest(d, r->t) : none);
    kb_end(b);
    for (int a = 0; a < 2; a++) place[a] = kb_for(b, LOOP_SERIAL, "place", r->places[a]);
    l = kb_for(b, LOOP_VECTOR, "l", k_int(k, lanes));
    def_unflatten(k, k_add(k, from, l), &out->dims[2], 2, bin);
    const KExpr *e = sample(r, bin, place, max), *so_far = k_load(k, acc, l);
    kb_store(b, acc, l, max ? lower_max_nan(d, so_far, e) : k_add(k, so_far, e));
    for (int i = 0; i < 3; i++) kb_end(b);
    const KExpr *count = k_mul(k, r->places[0], r->places[1]);
    l = kb_for(b, LOOP_VECTOR, "l", k_int(k, lanes));
    const KExpr *result = k_load(k, acc, l);
    if (!max) result = k_div(k, result, k_cast(k, r->t, count));
    result = k_select(k, k_lt(k, zero, count), result, none);
    const KExpr *to[4] = {roi, r->channel, zero, zero};
    const KExpr *at = k_add(k, def_flatten(k, to, out->dims, 4), k_add(k, from, l));
    kb_store(b, out->buf, at, k_cast(k, out->dtype, result));
    kb_end(b);
}

static void align_adaptive(Def *d, const Node *n, bool max) {
    enum { LANES = 16 };
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *out = def_out(d, 0);
    Stage *s = def_program(d, &out, 1);
    const KExpr *roi = kb_for(b, LOOP_PARALLEL, "roi", out->dims[0]);
    int64_t size[2];
    Region r = read_region(d, n, roi);
    r.batch = kb_let(b, "batch", r.batch);
    for (int a = 0; a < 2; a++) {
        r.start[a] = kb_let(b, "start", r.start[a]);
        r.bin[a] = kb_let(b, "bin", r.bin[a]);
        r.places[a] = kb_let(b, "places", r.places[a]);
        BUG_IF(!k_is_int(out->dims[2 + a], &size[a]), "the size of the output is not known");
    }
    int64_t n_bins = size[0] * size[1];
    r.channel = kb_for(b, LOOP_SERIAL, "channel", out->dims[1]);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, n_bins / LANES));
    align_bins(&r, out, roi, k_mul(k, c, k_int(k, LANES)), LANES, max);
    kb_end(b);
    if (n_bins % LANES)
        align_bins(&r, out, roi, k_int(k, n_bins - n_bins % LANES), n_bins % LANES, max);
    kb_end(b);
    kb_end(b);
    def_end_program(d, s);
}

void roi_align_lower(Def *d, const Node *n) {
    bool max = !strcmp(attr_string(n, "mode", "avg"), "max");
    if (attr_int(n, "sampling_ratio", 0))
        align_fixed(d, n, max);
    else
        align_adaptive(d, n, max);
}

/* ---- MaxRoiPool ------------------------------------------------------------------------------ */

bool max_roi_pool_infer(Module *m, Node *n) {
    const int64_t *size;
    if (!check_regions(m, n, 5)) return false;
    if (attr_ints(n, "pooled_shape", &size) != 2) {
        diag_error(m->diag, n->loc, "pooled_shape must have 2 values");
        return false;
    }
    Shape out = shape_make(m->arena, 4);
    out.dims[0] = n->in[1]->shape.dims[0];
    out.dims[1] = n->in[0]->shape.dims[1];
    for (int i = 0; i < 2; i++) {
        if (!check_attr_int(m, n, "pooled_shape", size[i], 1, INT32_MAX)) return false;
        out.dims[2 + i] = k_int(m->k, size[i]);
    }
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* A coordinate as a pixel, halves away from zero; far outside it does not matter where. */
static const KExpr *to_pixel(KCtx *k, const KExpr *x) {
    const KExpr *half = k_const(k, x->dtype, 0.5), *far = k_const(k, x->dtype, 0x1p30);
    x = k_max(k, k_min(k, x, far), k_neg(k, far));
    const KExpr *up = k_floor(k, k_add(k, k_abs(k, x), half));
    return k_cast(k, DT_I64, k_select(k, k_lt(k, x, k_const(k, x->dtype, 0)), k_neg(k, up), up));
}

/* First pixel of bin i (end: of the one after it), inside 0 .. dim. */
static const KExpr *bin_edge(Def *d, DType t, const KExpr *i, const KExpr *bin, const KExpr *start,
                             const KExpr *dim, bool end) {
    KCtx *k = d->k;
    if (end) i = k_add(k, i, k_int(k, 1));
    const KExpr *e = k_mul(k, k_cast(k, t, i), bin);
    e = k_cast(k, DT_I64, end ? k_ceil(k, e) : k_floor(k, e));
    return k_max(k, k_min(k, k_add(k, e, start), dim), k_int(k, 0));
}

/* A bin of a region: its first pixel and how many it has, per axis y, x. */
typedef struct Bin {
    Def *d;
    KTensor *x, *out;
    const KExpr *at[4], *batch, *first[2], *count[2];
} Bin;

/* The maximum over a bin of one channel. */
static void pool_channel(void *user, const KExpr *channel) {
    const Bin *bin = user;
    Def *d = bin->d;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *zero = k_int(k, 0), *from[4] = {bin->batch, channel};
    const KExpr *to[4] = {bin->at[0], channel, bin->at[2], bin->at[3]};
    KBuf *acc = kb_alloc(b, MEM_REG, bin->x->dtype, "acc", 1);
    const KExpr *so_far = k_load(k, acc, zero);
    kb_store(b, acc, zero, lower_lowest(d, bin->x->dtype));
    for (int a = 0; a < 2; a++)
        from[2 + a] = k_add(k, bin->first[a], kb_for(b, LOOP_SERIAL, "i", bin->count[a]));
    const KExpr *inside = lower_inside(d, bin->batch, bin->x->dims[0]);
    kb_store(b, acc, zero, lower_max_nan(d, so_far, def_at_if(d, bin->x, from, 4, inside)));
    kb_end(b);
    kb_end(b);
    const KExpr *some =
        k_and(k, k_lt(k, zero, bin->count[0]), k_lt(k, zero, bin->count[1]));
    const KExpr *result = k_select(k, some, so_far, k_const(k, bin->x->dtype, 0));
    kb_store(b, bin->out->buf, def_flatten(k, to, bin->out->dims, 4), result);
}

/* Lanes are channels, which share the edges of a bin. */
void max_roi_pool_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *rois = def_in(d, 1), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    Stage *s = def_program(d, &out, 1);
    Bin bin = {.d = d, .x = x, .out = out};
    const KExpr *start[2], *step[2], *zero = k_int(k, 0), *one = k_int(k, 1);
    const KExpr *scale = k_const(k, t, attr_float(n, "spatial_scale", 1));
    bin.at[0] = kb_for(b, LOOP_PARALLEL, "roi", out->dims[0]);
    const KExpr *place[2] = {bin.at[0], zero};
    bin.batch = kb_let(b, "batch", to_pixel(k, def_at_as(d, t, rois, place, 2)));
    for (int a = 0; a < 2; a++) {
        const KExpr *end;
        place[1] = k_int(k, 2 - a);
        start[a] =
            kb_let(b, "start", to_pixel(k, k_mul(k, def_at_as(d, t, rois, place, 2), scale)));
        place[1] = k_int(k, 4 - a);
        end = kb_let(b, "end", to_pixel(k, k_mul(k, def_at_as(d, t, rois, place, 2), scale)));
        const KExpr *size = k_max(k, k_add(k, k_sub(k, end, start[a]), one), one);
        step[a] = k_div(k, k_cast(k, t, size), k_cast(k, t, out->dims[2 + a]));
        step[a] = kb_let(b, "bin", step[a]);
    }
    for (int a = 0; a < 2; a++) {
        const KExpr *at = kb_for(b, LOOP_SERIAL, "at", out->dims[2 + a]);
        const KExpr *lo = bin_edge(d, t, at, step[a], start[a], x->dims[2 + a], false);
        const KExpr *hi = bin_edge(d, t, at, step[a], start[a], x->dims[2 + a], true);
        bin.at[2 + a] = at;
        bin.first[a] = kb_let(b, "lo", lo);
        bin.count[a] = kb_let(b, "count", k_max(k, k_sub(k, hi, bin.first[a]), zero));
    }
    lower_for_all(&d->b, out->dims[1], !dtype_is_wide(x->dtype), pool_channel, &bin);
    for (int a = 0; a < 3; a++) kb_end(b);
    def_end_program(d, s);
}
