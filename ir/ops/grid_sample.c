/* GridSample and AffineGrid: reading an image at computed places.
 *
 *   AffineGrid   grid[n, p.., r] = sum over c of theta[n, r, c] * base(p, c) + theta[n, r, last],
 *                base(p, c) in -1 .. 1 along spatial axis c (x, that is the last axis, first)
 *   GridSample   out[n, c, p..] = sum over taps of weight * x[n, c, q..] around grid[n, p..]
 *
 * Both are maps, so that a grid that is computed goes into the reads. Each spatial axis gives 1, 2
 * or 4 taps: an index, a weight, and (zero padding) the condition to lie in x. Reflection of a
 * sampling place equals reflection of its taps, since the weights are symmetric; whole indices are
 * reflected, which is exact. Places far outside (or NaN) are clamped before they become integers.
 */
#include <string.h>

#include "ir/ops/check.h"

/* ---- AffineGrid ------------------------------------------------------------------------------ */

bool affine_grid_infer(Module *m, Node *n) {
    const KExpr **size;
    int count;
    if (!infer_dtype(m, n, 0, CLASS_FLOAT) || !infer_rank(m, n, 0, 3, 3) ||
        !infer_exprs(m, n, 1, MAX_RANK, &size, &count))
        return false;
    if (count != 4 && count != 5) {
        diag_error(m->diag, n->loc, "size has %d elements, must have 4 or 5", count);
        return false;
    }
    int spatial = count - 2;
    if (!check_dim(m, n, 0, 0, size[0], "the batch of size") ||
        !check_dim(m, n, 0, 1, k_int(m->k, spatial), "spatial axes") ||
        !check_dim(m, n, 0, 2, k_int(m->k, spatial + 1), "spatial axes and one"))
        return false;
    Shape out = shape_make(m->arena, count);
    out.dims[0] = n->in[0]->shape.dims[0];
    for (int i = 0; i < spatial; i++) out.dims[1 + i] = size[2 + i];
    out.dims[count - 1] = k_int(m->k, spatial);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* Place i of `size` ones in -1 .. 1; a single one with aligned corners lies at -1. */
static const KExpr *base_place(KCtx *k, DType t, const KExpr *i, const KExpr *size, bool aligned) {
    const KExpr *one = k_const(k, t, 1), *two = k_const(k, t, 2);
    const KExpr *x = k_cast(k, t, i), *steps = k_cast(k, t, size);
    if (!aligned) return k_sub(k, k_div(k, k_add(k, k_mul(k, x, two), one), steps), one);
    steps = k_max(k, k_sub(k, steps, one), one);
    return k_sub(k, k_div(k, k_mul(k, x, two), steps), one);
}

void affine_grid_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *theta = def_in(d, 0), *out = def_out(d, 0);
    int spatial = out->rank - 2;
    bool aligned = attr_int(n, "align_corners", 0) != 0;
    DType t = compute_dtype(out->dtype);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *at[3] = {def_axis(d, s, 0), def_axis(d, s, spatial + 1), NULL}, *sum = NULL;
    for (int c = 0; c < spatial; c++) {
        const KExpr *i = def_axis(d, s, spatial - c);
        at[2] = k_int(k, c);
        const KExpr *term = k_mul(k, def_at_as(d, t, theta, at, 3),
                                  base_place(k, t, i, out->dims[spatial - c], aligned));
        sum = sum ? k_add(k, sum, term) : term;
    }
    at[2] = k_int(k, spatial);
    sum = k_add(k, sum, def_at_as(d, t, theta, at, 3));
    def_map(d, s, k_cast(k, out->dtype, sum));
}

/* ---- GridSample ------------------------------------------------------------------------------ */

typedef enum { MODE_LINEAR, MODE_NEAREST, MODE_CUBIC, N_MODES } Mode;
typedef enum { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION, N_PADDINGS } Padding;
/* More taps than this would make an expression of thousands of nodes. */
enum { MAX_TAPS = 64 };

/* The choice that a string attribute names (the first when it is absent), -1 after a message. */
static int choice(Module *m, const Node *n, const char *attr, const char *const *names, int count) {
    const char *text = attr_string(n, attr, names[0]);
    for (int i = 0; i < count; i++)
        if (!strcmp(text, names[i])) return i;
    diag_error(m->diag, n->loc, "attribute %s is '%s'", attr, text);
    return -1;
}

/* Opset 16's bilinear and bicubic are renamed by the importer. */
static int sample_mode(Module *m, const Node *n) {
    static const char *const names[] = {"linear", "nearest", "cubic"};
    return choice(m, n, "mode", names, N_MODES);
}

static int sample_padding(Module *m, const Node *n) {
    static const char *const names[] = {"zeros", "border", "reflection"};
    return choice(m, n, "padding_mode", names, N_PADDINGS);
}

bool grid_sample_infer(Module *m, Node *n) {
    int mode = sample_mode(m, n), padding = sample_padding(m, n), taps = 1;
    if (mode < 0 || padding < 0) return false;
    if (!infer_dtype(m, n, 0, mode == MODE_NEAREST ? CLASS_ANY : CLASS_SCALAR | CLASS_COMPLEX) ||
        !infer_dtype(m, n, 1, CLASS_FLOAT) || !infer_rank(m, n, 0, 3, MAX_RANK) ||
        !infer_rank(m, n, 1, n->in[0]->shape.rank, n->in[0]->shape.rank))
        return false;
    Shape x = n->in[0]->shape, grid = n->in[1]->shape;
    int spatial = x.rank - 2;
    for (int i = 0; i < spatial && taps <= MAX_TAPS; i++)
        taps *= mode == MODE_NEAREST ? 1 : mode == MODE_LINEAR ? 2 : 4;
    if (taps > MAX_TAPS) {
        diag_unsupported(m->diag, n->loc, "sampling along %d axes in this mode", spatial);
        return false;
    }
    if (!check_dim(m, n, 1, 0, x.dims[0], "batches of input 0") ||
        !check_dim(m, n, 1, x.rank - 1, k_int(m->k, spatial), "spatial axes of input 0"))
        return false;
    Shape out = shape_make(m->arena, x.rank);
    out.dims[0] = x.dims[0];
    out.dims[1] = x.dims[1];
    for (int i = 0; i < spatial; i++) {
        out.dims[2 + i] = grid.dims[1 + i];
        if (!k_is_value(x.dims[2 + i], 0) || k_is_value(shape_count(m->k, grid), 0)) continue;
        diag_error(m->diag, n->loc, "axis %d is empty: there is nothing to sample", 2 + i);
        return false;
    }
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

typedef struct Taps {
    const KExpr *index[4], *weight[4], *inside[4]; /* inside NULL: always */
    int n;
} Taps;

/* -1 .. 1 to an index along an axis of this length. */
static const KExpr *denormalized(KCtx *k, const KExpr *g, const KExpr *length, bool aligned) {
    DType t = g->dtype;
    const KExpr *one = k_const(k, t, 1), *half = k_const(k, t, 0.5), *up = k_add(k, g, one);
    if (aligned) return k_mul(k, k_mul(k, up, half), k_sub(k, length, one));
    return k_mul(k, k_sub(k, k_mul(k, up, length), one), half);
}

/* Cubic weights (a = -3/4) of the taps at distances 1 + r, r, 1 - r, 2 - r. */
static const KExpr *cubic_far(KCtx *k, const KExpr *x) {
    DType t = x->dtype;
    const double a = -0.75;
    const KExpr *e = k_sub(k, k_mul(k, k_const(k, t, a), x), k_const(k, t, 5 * a));
    e = k_add(k, k_mul(k, e, x), k_const(k, t, 8 * a));
    return k_sub(k, k_mul(k, e, x), k_const(k, t, 4 * a));
}

static const KExpr *cubic_near(KCtx *k, const KExpr *x) {
    DType t = x->dtype;
    const double a = -0.75;
    const KExpr *e = k_sub(k, k_mul(k, k_const(k, t, a + 2), x), k_const(k, t, a + 3));
    return k_add(k, k_mul(k, k_mul(k, e, x), x), k_const(k, t, 1));
}

static void tap_weights(KCtx *k, Taps *t, const KExpr *rest) {
    const KExpr *one = k_const(k, rest->dtype, 1), *other = k_sub(k, one, rest);
    if (t->n == 2) {
        t->weight[0] = other;
        t->weight[1] = rest;
    } else if (t->n == 4) {
        t->weight[0] = cubic_far(k, k_add(k, rest, one));
        t->weight[1] = cubic_near(k, rest);
        t->weight[2] = cubic_near(k, other);
        t->weight[3] = cubic_far(k, k_add(k, other, one));
    }
}

/* Whole index i mirrored into the axis, at its outer elements (aligned) or half an element beyond.
 */
static const KExpr *reflected(KCtx *k, const KExpr *i, const KExpr *dim, bool aligned) {
    const KExpr *last = k_sub(k, dim, k_int(k, 1)), *two = k_int(k, 2);
    const KExpr *period = k_mul(k, aligned ? last : dim, two);
    i = k_fmod(k, i, k_max(k, period, k_int(k, 1)));
    const KExpr *back = k_sub(k, period, aligned ? i : k_add(k, i, k_int(k, 1)));
    return k_select(k, k_lt(k, i, dim), i, back);
}

/* Taps around place x of an axis; x is a float, perhaps NaN. */
static Taps axis_taps(KCtx *k, int mode, int padding, bool aligned, const KExpr *x,
                      const KExpr *dim) {
    Taps t = {.n = mode == MODE_NEAREST ? 1 : mode == MODE_LINEAR ? 2 : 4};
    DType ft = x->dtype;
    const KExpr *zero = k_const(k, ft, 0), *length = k_cast(k, ft, dim),
                *last = k_sub(k, length, k_const(k, ft, 1));
    if (mode == MODE_NEAREST) x = k_unary(k, KO_rint, x);
    if (padding == PAD_BORDER && mode != MODE_CUBIC) {
        x = k_max(k, k_min(k, x, last), zero);
    } else {
        const double far = padding == PAD_ZEROS ? 4 : 0x1p30; /* nothing changes beyond */
        const KExpr *end = k_add(k, length, k_const(k, ft, far));
        x = k_max(k, k_min(k, x, end), k_const(k, ft, -far));
    }
    const KExpr *low = k_floor(k, x), *base = k_whole_place(k, low, dim);
    if (padding == PAD_REFLECTION) base = k_cast(k, DT_I64, base);
    DType it = base->dtype;
    const KExpr *max = k_cast(k, it, k_sub(k, dim, k_int(k, 1))), *min = k_const(k, it, 0);
    tap_weights(k, &t, k_sub(k, x, low));
    for (int i = 0; i < t.n; i++) {
        const KExpr *at = k_add(k, base, k_const(k, it, t.n == 4 ? i - 1 : i));
        if (padding == PAD_REFLECTION) at = reflected(k, at, dim, aligned);
        if (padding == PAD_ZEROS) t.inside[i] = k_and(k, k_le(k, min, at), k_le(k, at, max));
        if (padding != PAD_ZEROS) at = k_max(k, k_min(k, at, max), min);
        t.index[i] = k_cast(k, DT_I64, at);
    }
    return t;
}

/* Weighted sum over the taps of axes `axis` and up; from[] has the indices of those before. */
static const KExpr *sample(Def *d, KTensor *x, const Taps *taps, int axis, const KExpr **from,
                           const KExpr *inside, DType as) {
    KCtx *k = d->k;
    const KExpr *sum = NULL;
    if (axis == x->rank) return k_cast(k, as, def_at_if(d, x, from, x->rank, inside));
    const Taps *t = &taps[axis];
    for (int i = 0; i < t->n; i++) {
        const KExpr *here = t->inside[i];
        if (here && inside) here = k_and(k, inside, here);
        from[axis] = t->index[i];
        const KExpr *e = sample(d, x, taps, axis + 1, from, here ? here : inside, as);
        if (t->weight[i]) e = k_mul(k, k_cast(k, as, t->weight[i]), e);
        sum = sum ? k_add(k, sum, e) : e;
    }
    return sum;
}

void grid_sample_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *grid = def_in(d, 1), *out = def_out(d, 0);
    int mode = sample_mode(d->m, n), padding = sample_padding(d->m, n), spatial = x->rank - 2;
    bool aligned = attr_int(n, "align_corners", 0) != 0;
    DType place = compute_dtype(grid->dtype);
    DType as = mode == MODE_NEAREST ? x->dtype : x->dtype == DT_F64 ? DT_F64 : DT_F32;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *at[MAX_RANK], *from[MAX_RANK];
    Taps taps[MAX_RANK];
    at[0] = from[0] = def_axis(d, s, 0);
    from[1] = def_axis(d, s, 1);
    for (int i = 0; i < spatial; i++) at[1 + i] = def_axis(d, s, 2 + i);
    for (int i = 0; i < spatial; i++) {
        at[1 + spatial] = k_int(k, spatial - 1 - i); /* grids list x, the last axis, first */
        const KExpr *g = def_at_as(d, place, grid, at, grid->rank);
        g = denormalized(k, g, k_cast(k, place, x->dims[2 + i]), aligned);
        taps[2 + i] = axis_taps(k, mode, padding, aligned, g, x->dims[2 + i]);
    }
    def_map(d, s, k_cast(k, out->dtype, sample(d, x, taps, 2, from, NULL, as)));
}
