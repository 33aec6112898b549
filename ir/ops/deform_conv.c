/* DeformConv: a convolution whose every tap is read at a place of its own.
 *
 *   columns[n, c, q.., p..] = mask * x sampled at p * stride - pad + q * dilation + offset
 *   out[n, o, p..] = sum over c, q of columns[n, c, q.., p..] * w[o, c, q..] + bias
 *
 * The columns are a map (linear sampling, zeros outside), the rest is the contraction of a Conv, so
 * that tiles and fusion are the same. */
#include "ir/ops/check.h"
#include "ir/ops/window.h"

/* Linear sampling along n axes reads 2^n elements. */
enum { MAX_SPATIAL = 5 };

static bool check_divides(Module *m, const Node *n, const char *name, int64_t by, const KExpr *dim,
                          const char *what) {
    int64_t have;
    if (by >= 1 && (!k_is_int(dim, &have) || have % by == 0)) return true;
    diag_error(m->diag, n->loc, "%s is %lld, which does not divide the %s", name, (long long)by,
               what);
    return false;
}

static bool check_inputs(Module *m, const Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 3, MAX_RANK)) return false;
    int rank = n->in[0]->shape.rank;
    for (int i = 1; i < 5; i++) {
        if (!has_in(n, i)) continue;
        if (!check_same_dtype(m, n, i, 0)) return false;
        if (!infer_rank(m, n, i, i == 3 ? 1 : rank, i == 3 ? 1 : rank)) return false;
    }
    if (rank - 2 <= MAX_SPATIAL) return true;
    diag_unsupported(m->diag, n->loc, "%d spatial axes; at most %d are supported", rank - 2,
                     MAX_SPATIAL);
    return false;
}

bool deform_conv_infer(Module *m, Node *n) {
    KCtx *k = m->k;
    Window w;
    if (!check_inputs(m, n)) return false;
    Shape x = n->in[0]->shape, weights = n->in[1]->shape;
    int64_t group = attr_int(n, "group", 1), shared = attr_int(n, "offset_group", 1);
    if (!check_divides(m, n, "group", group, weights.dims[0], "output channels") ||
        !check_divides(m, n, "group", group, x.dims[1], "input channels") ||
        !check_divides(m, n, "offset_group", shared, x.dims[1], "input channels") ||
        !check_dim(m, n, 1, 1, k_fdiv(k, x.dims[1], k_int(k, group)), "channels of a group") ||
        !check_dim(m, n, 3, 0, weights.dims[0], "output channels") ||
        !window_check(m, n, x.rank - 2, n->in[1], &w))
        return false;
    const KExpr *taps = k_int(k, shared);
    for (int i = 0; i < w.n; i++) taps = k_mul(k, taps, k_int(k, w.kernel[i]));
    if (!check_dim(m, n, 2, 1, k_mul(k, taps, k_int(k, w.n)), "offset groups, taps and axes") ||
        !check_dim(m, n, 4, 1, taps, "offset groups and taps"))
        return false;
    Shape out = shape_make(m->arena, x.rank);
    out.dims[0] = x.dims[0];
    out.dims[1] = weights.dims[0];
    if (!window_sizes(m, n, &w, false, out.dims + 2)) return false;
    for (int i = 2; i < 5; i += 2) {
        if (!has_in(n, i)) continue;
        if (!check_dim(m, n, i, 0, x.dims[0], "batches")) return false;
        for (int a = 2; a < x.rank; a++)
            if (!check_dim(m, n, i, a, out.dims[a], "the output's size")) return false;
    }
    window_store(n, &w);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* What the columns' map reads: the element of a stage whose axes are n, c, q.., p.. */
typedef struct Columns {
    Def *d;
    Stage *s;
    const Window *w;
    DType t;
    const KExpr *tap; /* offset group and kernel position, row-major */
} Columns;

/* offset and mask have (group, position[, axis]) in dim 1 and the output's place behind it. */
static const KExpr *at_tap(const Columns *c, KTensor *of, const KExpr *tap) {
    const KExpr *at[MAX_RANK] = {def_axis(c->d, c->s, 0), tap};
    for (int i = 0; i < c->w->n; i++) at[2 + i] = def_axis(c->d, c->s, 2 + c->w->n + i);
    return def_at_as(c->d, c->t, of, at, of->rank);
}

/* The place along spatial axis i, as a float that is far outside at most by a few elements. */
static const KExpr *tap_place(const Columns *c, int i) {
    KCtx *k = c->d->k;
    const Window *w = c->w;
    const KExpr *q = def_axis(c->d, c->s, 2 + i), *p = def_axis(c->d, c->s, 2 + w->n + i);
    const KExpr *whole = k_sub(k, k_mul(k, p, k_int(k, w->stride[i])), k_int(k, w->pad[i]));
    whole = k_add(k, whole, k_mul(k, q, k_int(k, w->dilation[i])));
    const KExpr *axis = k_add(k, k_mul(k, c->tap, k_int(k, w->n)), k_int(k, i));
    const KExpr *x = k_add(k, k_cast(k, c->t, whole), at_tap(c, def_in(c->d, 2), axis));
    const KExpr *end = k_cast(k, c->t, k_add(k, def_in(c->d, 0)->dims[2 + i], k_int(k, 2)));
    return k_max(k, k_min(k, x, end), k_const(k, c->t, -3));
}

/* The sum over the lower and upper elements of axes i and up. */
static const KExpr *sample(const Columns *c, int i, const KExpr **from, const KExpr *inside) {
    KCtx *k = c->d->k;
    KTensor *x = def_in(c->d, 0);
    if (i == c->w->n) return k_cast(k, c->t, def_at_if(c->d, x, from, x->rank, inside));
    const KExpr *place = tap_place(c, i), *low = k_floor(k, place), *rest = k_sub(k, place, low);
    const KExpr *base = k_whole_place(k, low, x->dims[2 + i]), *sum = NULL;
    const KExpr *dim = k_cast(k, base->dtype, x->dims[2 + i]), *zero = k_const(k, base->dtype, 0);
    for (int up = 0; up < 2; up++) {
        const KExpr *at = k_add(k, base, k_const(k, base->dtype, up));
        const KExpr *here = k_and(k, k_le(k, zero, at), k_lt(k, at, dim));
        if (inside) here = k_and(k, inside, here);
        from[2 + i] = k_cast(k, DT_I64, at);
        const KExpr *weight = up ? rest : k_sub(k, k_const(k, c->t, 1), rest);
        const KExpr *e = k_mul(k, weight, sample(c, i + 1, from, here));
        sum = sum ? k_add(k, sum, e) : e;
    }
    return sum;
}

static KTensor *lower_columns(Def *d, const Node *n, const Window *w, DType t) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *dims[MAX_RANK], *from[MAX_RANK];
    dims[0] = x->dims[0];
    dims[1] = x->dims[1];
    for (int i = 0; i < w->n; i++) {
        dims[2 + i] = k_int(k, w->kernel[i]);
        dims[2 + w->n + i] = out->dims[2 + i];
    }
    KTensor *columns = def_temp(d, "columns", t, 2 + 2 * w->n, dims);
    Columns c = {.d = d, .s = def_begin(d, FORM_MAP, columns), .w = w, .t = t};
    int64_t shared = attr_int(n, "offset_group", 1);
    const KExpr *each = k_fdiv(k, x->dims[1], k_int(k, shared));
    from[0] = def_axis(d, c.s, 0);
    from[1] = def_axis(d, c.s, 1);
    c.tap = shared == 1 ? k_int(k, 0) : k_fdiv(k, from[1], each);
    for (int i = 0; i < w->n; i++)
        c.tap = k_add(k, k_mul(k, c.tap, dims[2 + i]), def_axis(d, c.s, 2 + i));
    const KExpr *e = sample(&c, 0, from, NULL);
    if (has_in(n, 4)) e = k_mul(k, e, at_tap(&c, def_in(d, 4), c.tap));
    def_map(d, c.s, e);
    return columns;
}

void deform_conv_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weights = def_in(d, 1), *out = def_out(d, 0);
    Window w;
    window_load(n, x->rank - 2, &w);
    DType t = acc_dtype(x->dtype);
    KTensor *columns = lower_columns(d, n, &w, t);
    int64_t group = attr_int(n, "group", 1);
    Stage *s = def_begin(d, FORM_CONTRACT, out);
    const KExpr *xi[MAX_RANK], *wi[MAX_RANK], *o = def_axis(d, s, 1);
    const KExpr *c = def_reduce_axis(d, s, "ic", weights->dims[1]);
    const KExpr *out_group = k_fdiv(k, weights->dims[0], k_int(k, group));
    xi[0] = def_axis(d, s, 0);
    xi[1] = group == 1 ? c : k_add(k, k_mul(k, k_fdiv(k, o, out_group), weights->dims[1]), c);
    wi[0] = o;
    wi[1] = c;
    for (int i = 0; i < w.n; i++) {
        xi[2 + i] = wi[2 + i] = def_reduce_axis(d, s, "kx", k_int(k, w.kernel[i]));
        xi[2 + w.n + i] = def_axis(d, s, 2 + i);
    }
    def_contract(d, s, t, def_at(d, columns, xi, columns->rank),
                 def_at_as(d, t, weights, wi, weights->rank));
    const KExpr *e = def_acc(d, s);
    if (has_in(n, 3)) e = k_add(k, e, def_at_as(d, t, def_in(d, 3), &o, 1));
    def_finish(d, s, k_cast(k, out->dtype, e));
}
