/* Scaler, Normalizer, LinearRegressor and LinearClassifier (ai.onnx.ml).
 *
 *   Scaler            y[n, c] = (x[n, c] - offset[c]) * scale[c]
 *   Normalizer        y = x / norm of its row; rows of norm 0 stay
 *   LinearRegressor   y[n, t] = post(sum over c of x[n, c] * coefficients[t, c] + intercepts[t])
 *   LinearClassifier  scores as above for each class; the label is that of the first largest score.
 *                     One row of coefficients for two labels: s > 0 chooses the second; scores
 *                     (1 - s, s), with LOGISTIC (logistic(-s), logistic(s))
 *
 * Features of any numeric dtype are converted to f32, and everything computes in f32. */
#include <string.h>

#include "ir/ops/ml.h"

static bool check_length(Module *m, const Node *n, const char *name, const KExpr *columns) {
    const double *v;
    int64_t want;
    int count = attr_floats(n, name, &v);
    if (count <= 1 || !k_is_int(columns, &want) || count == want) return true;
    diag_error(m->diag, n->loc, "%s has %d values, must have 1 or %lld", name, count,
               (long long)want);
    return false;
}

bool scaler_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_FEATURES) || !infer_rank(m, n, 0, 1, MAX_RANK)) return false;
    Shape s = n->in[0]->shape;
    const KExpr *columns = s.dims[s.rank > 1 ? 1 : 0];
    return check_length(m, n, "offset", columns) && check_length(m, n, "scale", columns) &&
           infer_set(m, n, 0, DT_F32, s);
}

/* Value c of an attribute of floats: a constant when it is one value. */
static const KExpr *attr_value(Def *d, const char *name, double otherwise, const KExpr *c) {
    const double *v;
    int count = attr_floats(d->node, name, &v);
    if (count <= 1) return k_const_f(d->k, DT_F32, count ? v[0] : otherwise);
    return def_at(d, def_table_floats(d, name, DT_F32, v, count), &c, 1);
}

void scaler_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *c = def_axis(d, s, x->rank > 1 ? 1 : 0);
    const KExpr *e = k_sub(k, lower_elem(d, s, x, DT_F32), attr_value(d, "offset", 0, c));
    def_map(d, s, k_mul(k, e, attr_value(d, "scale", 1, c)));
}

/* ---- Normalizer ------------------------------------------------------------------------------ */

bool normalizer_infer(Module *m, Node *n) {
    const char *norm = attr_string(n, "norm", "MAX");
    if (strcmp(norm, "MAX") && strcmp(norm, "L1") && strcmp(norm, "L2")) {
        diag_error(m->diag, n->loc, "norm is '%s'; MAX, L1 and L2 are accepted", norm);
        return false;
    }
    return check_dtype(m, n, 0, DTM_FEATURES) && infer_rank(m, n, 0, 1, 2) &&
           infer_set(m, n, 0, DT_F32, n->in[0]->shape);
}

void normalizer_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const char *kind = attr_string(n, "norm", "MAX");
    bool is_max = !strcmp(kind, "MAX"), is_l2 = !strcmp(kind, "L2");
    const KExpr *zero = k_const_f(k, DT_F32, 0), *at[2], *to[2], *one_row = k_int(k, 1);
    KTensor *norm = def_temp(d, "norm", DT_F32, 1, x->rank > 1 ? x->dims : &one_row);
    Stage *s = def_begin(d, FORM_REDUCE, norm);
    at[0] = def_axis(d, s, 0);
    at[1] = def_reduce_axis(d, s, "c", x->dims[x->rank - 1]);
    const KExpr *e = def_at_as(d, DT_F32, x, at, 2);
    if (is_max)
        def_reduce(d, s, KO_max, DT_F32, lower_lowest(d, DT_F32), e);
    else
        def_reduce(d, s, KO_add, DT_F32, zero, is_l2 ? k_mul(k, e, e) : k_abs(k, e));
    if (is_l2) def_finish(d, s, k_sqrt(k, def_acc(d, s)));

    Stage *map = def_begin(d, FORM_MAP, def_out(d, 0));
    lower_axes(d, map, to);
    const KExpr *row = x->rank > 1 ? to[0] : k_int(k, 0), *by = def_at(d, norm, &row, 1);
    by = k_select(k, k_eq(k, by, zero), k_const_f(k, DT_F32, 1), by);
    def_map(d, map, k_div(k, lower_elem(d, map, x, DT_F32), by));
}

/* ---- linear models --------------------------------------------------------------------------- */

/* Rows and columns of the coefficients; every list must fit them. */
static bool check_coefficients(Module *m, const Node *n, const KExpr *columns, int n_rows) {
    const double *v;
    int count = attr_floats(n, "coefficients", &v), n_intercepts = attr_floats(n, "intercepts", &v);
    if (n_rows < 1 || count < n_rows || count % n_rows) {
        diag_error(m->diag, n->loc, "coefficients has %d values, must have a multiple of %d", count,
                   n_rows);
        return false;
    }
    if (n_intercepts && n_intercepts != n_rows) {
        diag_error(m->diag, n->loc, "intercepts has %d values, must have %d", n_intercepts, n_rows);
        return false;
    }
    return ml_check_columns(m, n, columns, count / n_rows);
}

/* scores[n, r] = sum over c of x[n, c] * coefficients[r, c] + intercepts[r] */
static void lower_scores(Def *d, int n_rows, KTensor *scores) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const double *coefficients, *intercepts;
    int count = attr_floats(d->node, "coefficients", &coefficients);
    const KExpr *n_columns = k_int(k, count / n_rows);
    KTensor *table = def_table_floats(d, "coefficients", DT_F32, coefficients, count);
    Stage *s = def_begin(d, FORM_CONTRACT, scores);
    const KExpr *row = def_axis(d, s, 1),
                *at[2] = {def_axis(d, s, 0), def_reduce_axis(d, s, "c", n_columns)};
    const KExpr *flat = k_add(k, k_mul(k, row, n_columns), at[1]);
    def_contract(d, s, DT_F32, def_at_as(d, DT_F32, x, at, 2), def_at(d, table, &flat, 1));
    int n_intercepts = attr_floats(d->node, "intercepts", &intercepts);
    if (!n_intercepts) return;
    KTensor *bias = def_table_floats(d, "intercepts", DT_F32, intercepts, n_intercepts);
    def_finish(d, s, k_add(k, def_acc(d, s), def_at(d, bias, &row, 1)));
}

bool linear_regressor_infer(Module *m, Node *n) {
    const KExpr *rows, *columns;
    PostTransform post;
    int64_t n_targets = attr_int(n, "targets", 1);
    return ml_features(m, n, &rows, &columns) && ml_post_transform(m, n, &post) &&
           check_attr_int(m, n, "targets", n_targets, 1, 1 << 24) &&
           check_coefficients(m, n, columns, (int)n_targets) &&
           infer_set(m, n, 0, DT_F32, ml_shape(m, rows, n_targets));
}

void linear_regressor_lower(Def *d, const Node *n) {
    PostTransform post;
    KTensor *y = def_out(d, 0);
    int n_targets = (int)attr_int(n, "targets", 1);
    ml_post_transform(d->m, n, &post);
    KTensor *scores = post == POST_NONE ? y : def_temp(d, "scores", DT_F32, 2, y->dims);
    lower_scores(d, n_targets, scores);
    if (scores != y) ml_lower_post(d, post, scores, y);
}

/* Rows of coefficients: as many as intercepts, else as labels. */
static int classifier_rows(const Node *n, int n_labels) {
    const double *v;
    int n_rows = attr_floats(n, "intercepts", &v);
    return n_rows ? n_rows : n_labels;
}

bool linear_classifier_infer(Module *m, Node *n) {
    const KExpr *rows, *columns;
    const int64_t *labels;
    PostTransform post;
    if (!ml_features(m, n, &rows, &columns) || !ml_post_transform(m, n, &post)) return false;
    int n_labels = ml_labels(m, n, "classlabels_ints", &labels),
        n_rows = classifier_rows(n, n_labels);
    if (n_labels < 0 || !check_coefficients(m, n, columns, n_rows)) return false;
    if (n_rows != n_labels && !(n_rows == 1 && n_labels == 2)) {
        diag_error(m->diag, n->loc, "has %d class labels for %d rows of coefficients", n_labels,
                   n_rows);
        return false;
    }
    if (n_labels == 1 || (n_rows == 1 && post == POST_PROBIT)) {
        diag_unsupported(m->diag, n->loc, "%s",
                         n_labels == 1 ? "a single class is not supported"
                                       : "PROBIT of a single score is not supported");
        return false;
    }
    Shape label_shape = shape_make(m->arena, 1);
    label_shape.dims[0] = rows;
    return infer_set(m, n, 0, DT_I64, label_shape) &&
           infer_set(m, n, 1, DT_F32, ml_shape(m, rows, n_labels));
}

/* One score for two labels. */
static void lower_two_classes(Def *d, PostTransform post, KTensor *score, const int64_t *labels) {
    KCtx *k = d->k;
    const KExpr *zero = k_const_f(k, DT_F32, 0), *at[2];
    if (has_out(d->node, 0)) {
        Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
        at[0] = def_axis(d, s, 0);
        at[1] = k_int(k, 0);
        const KExpr *is_second = k_lt(k, zero, def_at(d, score, at, 2));
        def_map(d, s, k_select(k, is_second, k_int(k, labels[1]), k_int(k, labels[0])));
    }
    if (!has_out(d->node, 1)) return;
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 1));
    const KExpr *e = lower_elem(d, s, score, DT_F32),
                *first = k_eq(k, def_axis(d, s, 1), k_int(k, 0));
    if (post == POST_LOGISTIC)
        e = k_sigmoid(k, k_select(k, first, k_neg(k, e), e));
    else
        e = k_select(k, first, k_sub(k, k_const_f(k, DT_F32, 1), e), e);
    def_map(d, s, e);
}

void linear_classifier_lower(Def *d, const Node *n) {
    PostTransform post;
    const int64_t *labels;
    int n_labels = ml_labels(d->m, n, "classlabels_ints", &labels),
        n_rows = classifier_rows(n, n_labels);
    KTensor *x = def_in(d, 0);
    ml_post_transform(d->m, n, &post);
    const KExpr *dims[2] = {x->rank > 1 ? x->dims[0] : k_int(d->k, 1), k_int(d->k, n_rows)};
    KTensor *scores = def_temp(d, "scores", DT_F32, 2, dims);
    lower_scores(d, n_rows, scores);
    if (n_rows == 1) {
        lower_two_classes(d, post, scores, labels);
        return;
    }
    if (has_out(n, 0)) ml_lower_best(d, scores, labels, def_out(d, 0));
    if (has_out(n, 1)) ml_lower_post(d, post, scores, def_out(d, 1));
}
