/* MaxPool, AveragePool, LpPool and the global pools: a fold over the positions of a window.
 *
 *   MaxPool      y = max over k of x[n, c, p * stride - pad + k * dilation], positions outside left
 *                out
 *   Indices      the row-major (or column-major) position in x of the first element equal to y
 *   AveragePool  sum / count; the count is the number of positions inside the input (or, with
 *                count_include_pad, inside input and padding), in closed form
 *   LpPool       (sum of |x|^p)^(1/p)
 *   Global*      the same over all of axes 2 and up */
#include "ir/ops/check.h"
#include "ir/ops/pool_separate.h"

bool pool_infer(Module *m, Node *n) {
    Window w;
    uint32_t accepted = n->op == OP_MaxPool ? DTM_FLOATS | DTM_BYTES : DTM_FLOATS;
    if (!check_dtype(m, n, 0, accepted) || !infer_rank(m, n, 0, 3, MAX_RANK)) return false;
    const Value *x = n->in[0];
    if (n->op == OP_LpPool && !check_attr_int(m, n, "p", attr_int(n, "p", 2), 1, INT32_MAX))
        return false;
    if (!window_check(m, n, x->shape.rank - 2, NULL, &w) || !window_auto_pad(m, n, &w))
        return false;
    Shape out = shape_make(m->arena, x->shape.rank);
    out.dims[0] = x->shape.dims[0];
    out.dims[1] = x->shape.dims[1];
    if (!window_sizes(m, n, &w, attr_int(n, "ceil_mode", 0) != 0, out.dims + 2)) return false;
    window_store(n, &w);
    return infer_set(m, n, 0, x->dtype, out) && infer_set(m, n, 1, DT_I64, out);
}

/* Opens the window of stage s: fills the index into x, adds the reduction axes, and returns the
 * condition for the position to lie in x, NULL when it always does. */
static const KExpr *open_window(Def *d, Stage *s, const Window *w, const KTensor *x, bool ceil_mode,
                                const KExpr **xi) {
    KCtx *k = d->k;
    const KExpr *pred = NULL;
    xi[0] = def_axis(d, s, 0);
    xi[1] = def_axis(d, s, 1);
    for (int i = 0; i < w->n; i++) {
        const KExpr *at = def_reduce_axis(d, s, "kx", k_int(k, w->kernel[i]));
        const KExpr *from = k_mul(k, def_axis(d, s, 2 + i), k_int(k, w->stride[i]));
        from = k_sub(k, from, window_before(k, w, i, x->dims[2 + i]));
        xi[2 + i] = k_add(k, from, k_mul(k, at, k_int(k, w->dilation[i])));
        if (window_is_padded(w, i) || ceil_mode)
            pred = k_and_inside(d, pred, xi[2 + i], x->dims[2 + i]);
    }
    return pred;
}

/* Positions k in [0, kernel) of output index p with lo <= p * stride - before + k * dilation < hi.
 */
static const KExpr *count_positions(Def *d, const Window *w, int i, const KExpr *p,
                                    const KExpr *before, const KExpr *lo, const KExpr *hi) {
    KCtx *k = d->k;
    const KExpr *from = k_sub(k, k_mul(k, p, k_int(k, w->stride[i])), before);
    const KExpr *first = k_ceil_div(k, k_sub(k, lo, from), w->dilation[i]);
    const KExpr *end = k_ceil_div(k, k_sub(k, hi, from), w->dilation[i]);
    first = k_max(k, first, k_int(k, 0));
    end = k_min(k, end, k_int(k, w->kernel[i]));
    return k_max(k, k_sub(k, end, first), k_int(k, 0));
}

/* What AveragePool divides by, at least 1, as a t: counts of the axes are multiplied as such. */
static const KExpr *average_count(Def *d, const Stage *s, const Window *w, const KTensor *x,
                                  bool ceil_mode, bool with_pads, DType t) {
    KCtx *k = d->k;
    const KExpr *count = k_const(k, t, 1);
    for (int i = 0; i < w->n; i++) {
        const KExpr *lo = k_int(k, 0), *hi = x->dims[2 + i], *here = k_int(k, w->kernel[i]);
        const KExpr *before = window_before(k, w, i, x->dims[2 + i]);
        if (with_pads) {
            lo = k_sub(k, lo, before);
            hi = k_add(k, hi, window_after(k, w, i, x->dims[2 + i]));
        }
        if (ceil_mode || (window_is_padded(w, i) && !with_pads))
            here = count_positions(d, w, i, def_axis(d, s, 2 + i), before, lo, hi);
        count = k_mul(k, count, k_cast(k, t, k_max(k, here, k_int(k, 1))));
    }
    return count;
}

static void lower_average(Def *d, const Node *n, const Window *w, bool ceil_mode) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    KTensor *out = def_out(d, 0);
    DType acc = acc_dtype(x->dtype);
    WindowFold f = {x, w, ceil_mode, KO_add, acc, k_const(k, acc, 0)};
    Stage *s;
    if (pool_separates(&f, out)) {
        s = pool_open_separate(d, &f, out);
    } else {
        const KExpr *xi[MAX_RANK];
        s = def_begin(d, FORM_REDUCE, out);
        const KExpr *pred = open_window(d, s, w, x, ceil_mode, xi);
        const KExpr *element = k_cast(k, acc, def_at_if(d, x, xi, x->rank, pred));
        def_reduce(d, s, KO_add, acc, f.init, element);
    }
    bool with_pads = attr_int(n, "count_include_pad", 0) != 0;
    const KExpr *count = average_count(d, s, w, x, ceil_mode, with_pads, acc);
    def_finish(d, s, k_cast(k, x->dtype, k_div(k, def_acc(d, s), count)));
}

static const KExpr *power(KCtx *k, const KExpr *a, double p) {
    return p == 1 ? a : p == 2 ? k_mul(k, a, a) : k_pow(k, a, k_const(k, a->dtype, p));
}

static const KExpr *root(KCtx *k, const KExpr *a, double p) {
    return p == 1 ? a : p == 2 ? k_sqrt(k, a) : k_pow(k, a, k_const(k, a->dtype, 1 / p));
}

static void lower_lp(Def *d, const Node *n, const Window *w, bool ceil_mode) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    double p = (double)attr_int(n, "p", 2);
    const KExpr *xi[MAX_RANK];
    Stage *s = def_begin(d, FORM_REDUCE, def_out(d, 0));
    DType acc = acc_dtype(x->dtype);
    const KExpr *pred = open_window(d, s, w, x, ceil_mode, xi);
    const KExpr *element = k_abs(k, k_cast(k, acc, def_at_if(d, x, xi, x->rank, pred)));
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), power(k, element, p));
    def_finish(d, s, k_cast(k, x->dtype, root(k, def_acc(d, s), p)));
}

/* The element, or the dtype's lowest value outside. */
static const KExpr *max_element(Def *d, KTensor *x, const KExpr *const *xi, const KExpr *pred) {
    const KExpr *element = def_at_if(d, x, xi, x->rank, pred);
    return pred ? k_select(d->k, pred, element, lower_lowest(d, x->dtype)) : element;
}

static void lower_max(Def *d, KTensor *out, const Window *w, bool ceil_mode) {
    KTensor *x = def_in(d, 0);
    const KExpr *xi[MAX_RANK];
    WindowFold f = {x, w, ceil_mode, KO_max, x->dtype, lower_lowest(d, x->dtype)};
    if (pool_separates(&f, out)) {
        pool_open_separate(d, &f, out);
        return;
    }
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *pred = open_window(d, s, w, x, ceil_mode, xi);
    def_reduce(d, s, KO_max, x->dtype, lower_lowest(d, x->dtype), max_element(d, x, xi, pred));
}

/* Indices: the least row-major position whose element is the window's maximum. storage_order 1
 * numbers the same position with the first spatial axis innermost. Where no element equals the
 * maximum (NaN) the last position of x stands in, so that the result always is an index. */
static void lower_indices(Def *d, const Node *n, KTensor *max, const Window *w, bool ceil_mode) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const KExpr *xi[MAX_RANK], *axes[MAX_RANK], *none = k_int(k, INT64_MAX);
    Stage *s = def_begin(d, FORM_REDUCE, def_out(d, 1));
    const KExpr *pred = open_window(d, s, w, x, ceil_mode, xi);
    lower_axes(d, s, axes);
    const KExpr *is_max = k_eq(k, max_element(d, x, xi, pred), def_at(d, max, axes, x->rank));
    if (pred) is_max = k_and(k, pred, is_max);
    const KExpr *flat = def_flatten(k, xi, x->dims, x->rank), *size = k_int(k, 1);
    def_reduce(d, s, KO_min, DT_I64, none, k_select(k, is_max, flat, none));
    for (int i = 0; i < x->rank; i++) size = k_mul(k, size, x->dims[i]);
    const KExpr *found = k_min(k, def_acc(d, s), k_sub(k, size, k_int(k, 1)));
    if (attr_int(n, "storage_order", 0)) {
        const KExpr *at[MAX_RANK], *column = k_int(k, 0);
        def_unflatten(k, found, x->dims, x->rank, at);
        at[0] = axes[0];
        for (int i = x->rank - 1; i >= 2; i--)
            column = k_add(k, k_mul(k, column, x->dims[i]), at[i]);
        found = k_add(k, k_mul(k, axes[0], x->dims[1]), axes[1]);
        for (int i = 2; i < x->rank; i++) found = k_mul(k, found, x->dims[i]);
        found = k_add(k, found, column);
    }
    def_finish(d, s, found);
}

void pool_lower(Def *d, const Node *n) {
    Window w;
    KTensor *x = def_in(d, 0);
    bool ceil_mode = attr_int(n, "ceil_mode", 0) != 0;
    window_load(n, x->rank - 2, &w);
    if (n->op == OP_AveragePool) {
        lower_average(d, n, &w, ceil_mode);
    } else if (n->op == OP_LpPool) {
        lower_lp(d, n, &w, ceil_mode);
    } else {
        const Value *y = n->out[0], *like = y ? y : n->out[1];
        KTensor *max =
            y ? def_out(d, 0) : def_temp(d, "max", x->dtype, like->shape.rank, like->shape.dims);
        lower_max(d, max, &w, ceil_mode);
        if (has_out(n, 1)) lower_indices(d, n, max, &w, ceil_mode);
    }
}

/* ---- global ---------------------------------------------------------------------------------- */

bool global_pool_infer(Module *m, Node *n) {
    if (n->op == OP_GlobalLpPool && !check_attr_int(m, n, "p", attr_int(n, "p", 2), 1, INT32_MAX))
        return false;
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 2, MAX_RANK)) return false;
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    for (int i = 2; i < out.rank; i++) out.dims[i] = k_int(m->k, 1);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void global_pool_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const KExpr *xi[MAX_RANK], *count = k_int(k, 1);
    Stage *s = def_begin(d, FORM_REDUCE, def_out(d, 0));
    lower_axes(d, s, xi);
    for (int i = 2; i < x->rank; i++) {
        xi[i] = def_reduce_axis(d, s, "x", x->dims[i]);
        count = k_mul(k, count, x->dims[i]);
    }
    const KExpr *element = def_at(d, x, xi, x->rank);
    if (n->op == OP_GlobalMaxPool) {
        def_reduce(d, s, KO_max, x->dtype, lower_lowest(d, x->dtype), element);
        return;
    }
    DType acc = acc_dtype(x->dtype);
    bool is_lp = n->op == OP_GlobalLpPool;
    double p = (double)attr_int(n, "p", 2);
    element = k_cast(k, acc, element);
    if (is_lp) element = power(k, k_abs(k, element), p);
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), element);
    const KExpr *total = def_acc(d, s);
    total = is_lp ? root(k, total, p) : k_div(k, total, k_cast(k, acc, count));
    def_finish(d, s, k_cast(k, x->dtype, total));
}
