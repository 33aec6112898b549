/* Softmax, LogSoftmax and Hardmax along one axis.
 *
 *   peak[i] = max over the axis of x              t[i] = exp(x[i] - peak)
 *   sum[i]  = sum over the axis of t              Softmax    = t / sum
 *                                                 LogSoftmax = (x - peak) - log(sum)
 *   Hardmax: 1 at the first element that equals the peak, 0 elsewhere
 *
 * All in f32 (f64 for f64), rounded once at the end. A row with a NaN, or of -inf only, is all NaN.
 */
#include "ir/ops/common.h"

static bool softmax_axis(Module *m, const Node *n, int *axis) {
    return infer_axis(m, n, attr_int(n, "axis", -1), n->in[0]->shape.rank, axis);
}

bool softmax_infer(Module *m, Node *n) {
    int axis;
    return infer_dtype(m, n, 0, CLASS_FLOAT) && softmax_axis(m, n, &axis) &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* A temporary with the input's shape but one element along the axis, and the reduction that fills
 * it; from[] are the input's indices inside. */
static Stage *row_reduction(Def *d, const char *name, DType t, const KTensor *x, int axis,
                            const KExpr **from) {
    const KExpr *dims[MAX_RANK];
    for (int i = 0; i < x->rank; i++) dims[i] = i == axis ? k_int(d->k, 1) : x->dims[i];
    Stage *s = def_begin(d, FORM_REDUCE, def_temp(d, name, t, x->rank, dims));
    lower_axes(d, s, from);
    from[axis] = def_reduce_axis(d, s, "r", x->dims[axis]);
    return s;
}

static KTensor *row_peak(Def *d, KTensor *x, DType t, int axis) {
    const KExpr *from[MAX_RANK];
    Stage *s = row_reduction(d, "peak", t, x, axis, from);
    def_reduce(d, s, KO_max, t, lower_lowest(d, t), k_cast(d->k, t, def_at(d, x, from, x->rank)));
    return s->out;
}

/* x - peak at these indices */
static const KExpr *below_peak(Def *d, KTensor *x, KTensor *peak, DType t, const KExpr *const *at) {
    return k_sub(d->k, k_cast(d->k, t, def_at(d, x, at, x->rank)), def_at(d, peak, at, x->rank));
}

void softmax_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0), *powers = NULL;
    DType t = compute_dtype(x->dtype);
    int axis;
    const KExpr *at[MAX_RANK], *term;
    BUG_IF(!softmax_axis(d->m, n, &axis), "the axis changed since infer");
    KTensor *peak = row_peak(d, x, t, axis);
    if (n->op == OP_Softmax) {
        powers = def_temp(d, "powers", t, x->rank, x->dims);
        Stage *p = def_begin(d, FORM_MAP, powers);
        lower_axes(d, p, at);
        def_map(d, p, k_exp(k, below_peak(d, x, peak, t, at)));
    }
    Stage *sum = row_reduction(d, "sum", t, x, axis, at);
    term = powers ? def_at(d, powers, at, x->rank) : k_exp(k, below_peak(d, x, peak, t, at));
    def_reduce(d, sum, KO_add, t, k_const(k, t, 0), term);
    Stage *s = def_begin(d, FORM_MAP, out);
    lower_axes(d, s, at);
    const KExpr *total = def_at(d, sum->out, at, x->rank);
    if (powers)
        term = k_div(k, def_at(d, powers, at, x->rank), total);
    else
        term = k_sub(k, below_peak(d, x, peak, t, at), k_log(k, total));
    def_map(d, s, k_cast(k, out->dtype, term));
}

bool hardmax_infer(Module *m, Node *n) {
    return softmax_infer(m, n);
}

void hardmax_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    int axis;
    const KExpr *at[MAX_RANK], *never = k_int(k, INT64_MAX);
    BUG_IF(!softmax_axis(d->m, n, &axis), "the axis changed since infer");
    KTensor *peak = row_peak(d, x, t, axis);
    Stage *first = row_reduction(d, "first", DT_I64, x, axis, at);
    const KExpr *hit =
        k_eq(k, k_cast(k, t, def_at(d, x, at, x->rank)), def_at(d, peak, at, x->rank));
    def_reduce(d, first, KO_min, DT_I64, never, k_select(k, hit, at[axis], never));
    Stage *s = def_begin(d, FORM_MAP, out);
    lower_axes(d, s, at);
    hit = k_eq(k, def_at(d, first->out, at, x->rank), at[axis]);
    def_map(d, s, k_cast(k, out->dtype, hit));
}
