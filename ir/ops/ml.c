/* What the ai.onnx.ml operators share: see ml.h.
 *
 *   SOFTMAX       exp(s - max) / sum
 *   SOFTMAX_ZERO  the same, but elements within 1e-7 of zero become s * exp(-max) and do not count
 *                 in the sum
 *   LOGISTIC      1 / (1 + exp(-s))
 *   PROBIT        sqrt(2) * erfinv(2 s - 1), erfinv by Winitzki's approximation (a = 0.147) */
#include "ir/ops/ml.h"

#include <math.h>
#include <string.h>

bool ml_features(Module *m, const Node *n, const KExpr **rows, const KExpr **columns) {
    if (!check_dtype(m, n, 0, DTM_FEATURES | DTM(F16)) || !infer_rank(m, n, 0, 1, 2)) return false;
    Shape s = n->in[0]->shape;
    *rows = s.rank == 2 ? s.dims[0] : k_int(m->k, 1);
    *columns = s.dims[s.rank - 1];
    return true;
}

bool ml_check_columns(Module *m, const Node *n, const KExpr *columns, int64_t want) {
    int64_t have;
    if (!k_is_int(columns, &have) || have == want) return true;
    diag_error(m->diag, n->loc, "input 0 has %lld features, must have %lld as the coefficients say",
               (long long)have, (long long)want);
    return false;
}

bool ml_post_transform(Module *m, const Node *n, PostTransform *post) {
    static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    const char *found = attr_string(n, "post_transform", "NONE");
    for (int i = 0; i < 5; i++) {
        *post = (PostTransform)i;
        if (!strcmp(found, names[i])) return true;
    }
    diag_error(
        m->diag, n->loc,
        "post_transform is '%s'; NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO and PROBIT are accepted",
        found);
    return false;
}

int ml_labels(Module *m, const Node *n, const char *ints_name, const int64_t **labels) {
    const Attr *strings = node_attr(n, "classlabels_strings");
    int count = attr_ints(n, ints_name, labels);
    if (count) return count;
    if (strings && strings->n)
        diag_unsupported(m->diag, n->loc,
                         "string class labels are not supported; integer labels are");
    else
        diag_error(m->diag, n->loc, "has no class labels: attribute %s is missing", ints_name);
    return -1;
}

Shape ml_shape(Module *m, const KExpr *rows, int64_t columns) {
    Shape s = shape_make(m->arena, 2);
    s.dims[0] = rows;
    s.dims[1] = k_int(m->k, columns);
    return s;
}

static const KExpr *probit(KCtx *k, const KExpr *e) {
    DType t = e->dtype;
    const KExpr *one = k_const(k, t, 1), *zero = k_const(k, t, 0);
    const KExpr *x = k_sub(k, k_mul(k, e, k_const(k, t, 2)), one);
    const KExpr *log = k_log(k, k_mul(k, k_sub(k, one, x), k_add(k, one, x)));
    const KExpr *v = k_add(k, k_const(k, t, 2 / (3.14159265358979323846 * 0.147)),
                           k_mul(k, log, k_const(k, t, 0.5)));
    const KExpr *inner = k_sub(k, k_mul(k, v, v), k_mul(k, log, k_const(k, t, 1 / 0.147)));
    const KExpr *root = k_sqrt(k, k_sub(k, k_sqrt(k, inner), v));
    root = k_select(k, k_lt(k, x, zero), k_neg(k, root), root);
    return k_mul(k, root, k_const(k, t, 1.41421356237309504880));
}

static const KExpr *post_single(KCtx *k, PostTransform post, const KExpr *e) {
    return post == POST_LOGISTIC ? k_sigmoid(k, e) : post == POST_PROBIT ? probit(k, e) : e;
}

/* Largest score of each row, [n]. */
static KTensor *lower_row_max(Def *d, KTensor *scores) {
    KTensor *max = def_temp(d, "row_max", scores->dtype, 1, scores->dims);
    Stage *s = def_begin(d, FORM_REDUCE, max);
    const KExpr *at[2] = {def_axis(d, s, 0), def_reduce_axis(d, s, "e", scores->dims[1])};
    def_reduce(d, s, KO_max, scores->dtype, lower_lowest(d, scores->dtype),
               def_at(d, scores, at, 2));
    return max;
}

/* exp(score - max), or what SOFTMAX_ZERO makes of a score near zero; *counts: it belongs to the
 * sum. */
static const KExpr *shifted_exp(Def *d, const KExpr *e, const KExpr *max, bool zero,
                                const KExpr **counts) {
    KCtx *k = d->k;
    const KExpr *power = k_exp(k, k_sub(k, e, max));
    *counts = k_lt(k, k_const(k, e->dtype, 1e-7f), k_abs(k, e));
    return zero ? k_select(k, *counts, power, k_mul(k, e, k_exp(k, k_neg(k, max)))) : power;
}

static void lower_softmax(Def *d, bool zero, KTensor *scores, KTensor *out) {
    KCtx *k = d->k;
    DType t = scores->dtype;
    KTensor *max = lower_row_max(d, scores), *sum = def_temp(d, "row_sum", t, 1, scores->dims);
    Stage *s = def_begin(d, FORM_REDUCE, sum);
    const KExpr *counts, *none = k_const(k, t, 0);
    const KExpr *at[2] = {def_axis(d, s, 0), def_reduce_axis(d, s, "e", scores->dims[1])};
    const KExpr *e = shifted_exp(d, def_at(d, scores, at, 2), def_at(d, max, at, 1), zero, &counts);
    def_reduce(d, s, KO_add, t, none, zero ? k_select(k, counts, e, none) : e);

    Stage *map = def_begin(d, FORM_MAP, out);
    const KExpr *to[2];
    lower_axes(d, map, to);
    e = shifted_exp(d, def_at(d, scores, to, 2), def_at(d, max, to, 1), zero, &counts);
    def_map(d, map, k_cast(k, out->dtype, k_div(k, e, def_at(d, sum, to, 1))));
}

void ml_lower_post(Def *d, PostTransform post, KTensor *scores, KTensor *out) {
    bool single = k_is_value(scores->dims[1], 1);
    if (!single && (post == POST_SOFTMAX || post == POST_SOFTMAX_ZERO)) {
        lower_softmax(d, post == POST_SOFTMAX_ZERO, scores, out);
        return;
    }
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *e = lower_elem(d, s, scores, scores->dtype);
    if (!single || post == POST_PROBIT) e = post_single(d->k, post, e);
    def_map(d, s, k_cast(d->k, out->dtype, e));
}

void ml_lower_best(Def *d, KTensor *scores, const int64_t *labels, KTensor *out) {
    KCtx *k = d->k;
    KTensor *max = lower_row_max(d, scores);
    int64_t count = 0;
    k_is_int(scores->dims[1], &count);
    KTensor *table = def_table_ints(d, "labels", DT_I64, labels, count);
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *e = def_reduce_axis(d, s, "e", scores->dims[1]), *last = k_int(k, count - 1);
    const KExpr *at[2] = {def_axis(d, s, 0), e};
    const KExpr *is_max = k_eq(k, def_at(d, scores, at, 2), def_at(d, max, at, 1));
    def_reduce(d, s, KO_min, DT_I64, last,
               k_select(k, is_max, e, last)); /* the last one when all are NaN */
    const KExpr *best = def_acc(d, s);
    def_finish(d, s, def_at(d, table, &best, 1));
}
