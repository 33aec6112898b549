/* LayerNormalization, RMSNormalization and LpNormalization: statistics along trailing axes or one
 * axis.
 *
 *   mean = sum x / n       spread = 1 / sqrt(sum (x - mean)^2 / n + epsilon)
 *   LayerNormalization  y = (x - mean) * spread * scale + bias
 *   RMSNormalization    y = x / sqrt(sum x^2 / n + epsilon) * scale, of scale's dtype
 *   LpNormalization     y = x / (sum |x|^p)^(1/p), 0 where the norm is 0
 *
 * The variance is taken in a second pass over x - mean, never as E[x^2] - E[x]^2. f16 and bf16
 * compute in f32; f64 computes in f64 whatever stash_type says. */
#include "ir/ops/check.h"

/* The dtype that attribute stash_type names for the statistics' outputs. */
static bool read_stash(Module *m, const Node *n, DType *t) {
    int64_t found = attr_int(n, "stash_type", 1);
    *t = dtype_from_onnx(found);
    if (*t != DT_NONE && dtype_is_float(*t)) return true;
    diag_error(m->diag, n->loc, "stash_type is %lld, must name a float type (1 is f32)",
               (long long)found);
    return false;
}

/* x's shape with the axes from `axis` on made 1. */
static Shape kept_shape(Module *m, Shape x, int axis) {
    Shape s = shape_copy(m->arena, x);
    for (int i = axis; i < s.rank; i++) s.dims[i] = k_int(m->k, 1);
    return s;
}

static bool check_norm(Module *m, const Node *n, int *axis, DType *stash) {
    Shape x = n->in[0]->shape;
    return check_dtype(m, n, 0, DTM_FLOATS) && check_dtype(m, n, 1, DTM_FLOATS) &&
           check_dtype(m, n, 2, DTM_FLOATS) && infer_rank(m, n, 0, 1, MAX_RANK) &&
           infer_axis(m, n, attr_int(n, "axis", -1), x.rank, axis) && read_stash(m, n, stash) &&
           check_broadcasts_to(m, n, 1, x) && check_broadcasts_to(m, n, 2, x);
}

bool layer_norm_infer(Module *m, Node *n) {
    int axis;
    DType stash;
    if (!check_norm(m, n, &axis, &stash)) return false;
    Shape stats = kept_shape(m, n->in[0]->shape, axis);
    return infer_same_as(m, n, 0, n->in[0]) && infer_set(m, n, 1, stash, stats) &&
           infer_set(m, n, 2, stash, stats);
}

/* Index of x over the stage's first `axis` axes and new reduction axes for the rest; returns how
 * many elements the reduction has. */
static const KExpr *open_trailing(Def *d, Stage *s, const KTensor *x, int axis, const KExpr **xi) {
    const KExpr *count = k_int(d->k, 1);
    for (int i = 0; i < x->rank; i++) {
        xi[i] = i < axis ? def_axis(d, s, i) : def_reduce_axis(d, s, "r", x->dims[i]);
        if (i >= axis) count = k_mul(d->k, count, x->dims[i]);
    }
    return count;
}

/* out = sum x / n over the axes from `axis` on, taken as first + sum (x - first) / n: where all are
 * equal or nearly so, the mean of x itself is off by more than x varies. */
static void lower_mean(Def *d, KTensor *x, int axis, KTensor *out) {
    KCtx *k = d->k;
    const KExpr *xi[MAX_RANK], *at[MAX_RANK];
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *count = open_trailing(d, s, x, axis, xi);
    DType acc = out->dtype;
    for (int i = 0; i < x->rank; i++) at[i] = i < axis ? xi[i] : k_int(k, 0);
    const KExpr *is_there = k_lt(k, k_int(k, 0), count);
    const KExpr *first = k_cast(k, acc, def_at_if(d, x, at, x->rank, is_there));
    const KExpr *off = k_sub(k, def_at_as(d, acc, x, xi, x->rank), first);
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), off);
    def_finish(d, s, k_add(k, first, k_div(k, def_acc(d, s), k_cast(k, acc, count))));
}

/* out = 1 / sqrt(sum (x - mean)^2 / n + epsilon); mean may be NULL for 0. */
static void lower_spread(Def *d, KTensor *x, KTensor *mean, int axis, double epsilon,
                         KTensor *out) {
    KCtx *k = d->k;
    const KExpr *xi[MAX_RANK];
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *count = open_trailing(d, s, x, axis, xi);
    DType acc = out->dtype;
    const KExpr *off = def_at_as(d, acc, x, xi, x->rank);
    if (mean) off = k_sub(k, off, def_at(d, mean, xi, x->rank));
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), k_mul(k, off, off));
    const KExpr *variance = k_div(k, def_acc(d, s), k_cast(k, acc, count));
    def_finish(d, s, k_rsqrt(k, k_add(k, variance, k_const(k, acc, epsilon))));
}

/* y = (x - mean) * spread * scale + bias */
static void lower_normalized(Def *d, KTensor *x, KTensor *mean, KTensor *spread) {
    KCtx *k = d->k;
    KTensor *scale = def_in(d, 1), *bias = def_in(d, 2);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    DType acc = spread->dtype;
    const KExpr *e = lower_elem(d, s, x, acc);
    if (mean) e = k_sub(k, e, lower_elem(d, s, mean, acc));
    e = k_mul(k, e, lower_elem(d, s, spread, acc));
    e = k_mul(k, e, lower_elem(d, s, scale, acc));
    if (bias) e = k_add(k, e, lower_elem(d, s, bias, acc));
    def_map(d, s, k_cast(k, s->out->dtype, e));
}

static void lower_copy(Def *d, KTensor *from, KTensor *to) {
    Stage *s = def_begin(d, FORM_MAP, to);
    def_map(d, s, lower_elem(d, s, from, to->dtype));
}

void layer_norm_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), x->rank);
    DType acc = acc_dtype(x->dtype);
    Shape xs = {x->rank, x->dims}, stats = kept_shape(d->m, xs, axis);
    KTensor *mean = def_temp(d, "mean", acc, stats.rank, stats.dims);
    KTensor *spread = def_temp(d, "spread", acc, stats.rank, stats.dims);
    lower_mean(d, x, axis, mean);
    lower_spread(d, x, mean, axis, attr_float(n, "epsilon", 1e-5f), spread);
    if (has_out(n, 0)) lower_normalized(d, x, mean, spread);
    if (has_out(n, 1)) lower_copy(d, mean, def_out(d, 1));
    if (has_out(n, 2)) lower_copy(d, spread, def_out(d, 2));
}

bool rms_norm_infer(Module *m, Node *n) {
    int axis;
    DType stash;
    return check_norm(m, n, &axis, &stash) &&
           infer_set(m, n, 0, n->in[1]->dtype, shape_copy(m->arena, n->in[0]->shape));
}

void rms_norm_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), x->rank);
    Shape xs = {x->rank, x->dims}, stats = kept_shape(d->m, xs, axis);
    KTensor *spread = def_temp(d, "spread", acc_dtype(x->dtype), stats.rank, stats.dims);
    lower_spread(d, x, NULL, axis, attr_float(n, "epsilon", 1e-5f), spread);
    lower_normalized(d, x, NULL, spread);
}

/* ---- LpNormalization ------------------------------------------------------------------------- */

bool lp_norm_infer(Module *m, Node *n) {
    int axis;
    return check_dtype(m, n, 0, DTM_FLOATS) && infer_rank(m, n, 0, 1, MAX_RANK) &&
           check_attr_int(m, n, "p", attr_int(n, "p", 2), 1, 2) &&
           infer_axis(m, n, attr_int(n, "axis", -1), n->in[0]->shape.rank, &axis) &&
           infer_same_as(m, n, 0, n->in[0]);
}

void lp_norm_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), x->rank);
    bool squares = attr_int(n, "p", 2) == 2;
    DType acc = acc_dtype(x->dtype);
    const KExpr *xi[MAX_RANK], *dims[MAX_RANK];
    for (int i = 0; i < x->rank; i++) dims[i] = i == axis ? k_int(k, 1) : x->dims[i];
    KTensor *norm = def_temp(d, "norm", acc, x->rank, dims);
    Stage *s = def_begin(d, FORM_REDUCE, norm);
    lower_axes(d, s, xi);
    xi[axis] = def_reduce_axis(d, s, "r", x->dims[axis]);
    const KExpr *e = def_at_as(d, acc, x, xi, x->rank), *zero = k_const(k, acc, 0);
    def_reduce(d, s, KO_add, acc, zero, squares ? k_mul(k, e, e) : k_abs(k, e));
    if (squares) def_finish(d, s, k_sqrt(k, def_acc(d, s)));

    Stage *map = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *by = lower_elem(d, map, norm, acc), *is_zero = k_eq(k, by, zero);
    e = k_div(k, lower_elem(d, map, x, acc), k_select(k, is_zero, k_const(k, acc, 1), by));
    def_map(d, map, k_cast(k, x->dtype, k_select(k, is_zero, zero, e)));
}
