/* SVMRegressor and SVMClassifier (ai.onnx.ml), as onnxruntime computes them.
 *
 *   k[n, v]  = kernel(x[n, :], vector[v, :])           LINEAR, POLY, RBF or SIGMOID
 *   d[n, p]  = sum over v of k[n, v] * weight[p, v] + rho[p]
 *
 * The regressor has one row of weights; without support vectors d comes from x itself. The
 * classifier has a row for each pair i < j of classes, and d > 0 is a vote for i; the first class
 * with most votes wins. With prob_a and prob_b, Platt's sigmoids of the pairs are coupled to
 * probabilities by Wu, Lin and Weng's second method: an iteration of at most 100 steps, a program.
 */
#include <math.h>
#include <string.h>

#include "ir/ops/ml.h"

enum { MAX_COUPLED = 100 }; /* their matrices lie on the stack */

typedef enum { KERNEL_LINEAR, KERNEL_POLY, KERNEL_RBF, KERNEL_SIGMOID } SvmKernel;

typedef struct Svm {
    SvmKernel kernel;
    double gamma, coef0, degree;
    int n_vectors, n_columns, n_classes, n_pairs, n_coefficients, n_rho, n_prob;
    const double *vector, *coefficient, *rho, *prob_a, *prob_b;
    const int64_t *per_class;
    PostTransform post;
} Svm;

static bool bad(Module *m, const Node *n, const char *what) {
    diag_error(m->diag, n->loc, "%s", what);
    return false;
}

static bool read_kernel(Module *m, const Node *n, Svm *s) {
    static const char *const names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    const char *found = attr_string(n, "kernel_type", "LINEAR");
    const double *v;
    int count = attr_floats(n, "kernel_params", &v);
    while (s->kernel <= KERNEL_SIGMOID && strcmp(names[s->kernel], found)) s->kernel++;
    if (s->kernel > KERNEL_SIGMOID)
        return bad(m, n, "kernel_type is none of LINEAR, POLY, RBF and SIGMOID");
    if (count && count != 3) return bad(m, n, "kernel_params must be gamma, coef0 and degree");
    s->gamma = count ? v[0] : 0;
    s->coef0 = count ? v[1] : 0;
    s->degree = count ? v[2] : 0;
    return true;
}

/* What both have; the number of vectors is known. */
static bool read_common(Module *m, const Node *n, int per_row, Svm *s) {
    const KExpr *rows, *columns;
    int count = attr_floats(n, "support_vectors", &s->vector);
    s->n_coefficients = attr_floats(n, "coefficients", &s->coefficient);
    s->n_rho = attr_floats(n, "rho", &s->rho);
    if (!ml_features(m, n, &rows, &columns) || !ml_post_transform(m, n, &s->post) ||
        !read_kernel(m, n, s))
        return false;
    if (!s->n_rho || !s->n_coefficients) return bad(m, n, "has no rho or no coefficients");
    if (s->n_vectors && (count < s->n_vectors || count % s->n_vectors))
        return bad(m, n, "support_vectors does not fit their number");
    if (!s->n_vectors && s->n_coefficients % per_row)
        return bad(m, n, "coefficients does not fit the number of classes");
    s->n_columns = s->n_vectors ? count / s->n_vectors : s->n_coefficients / per_row;
    return ml_check_columns(m, n, columns, s->n_columns);
}

/* ---- lowering -------------------------------------------------------------------------------- */

static const KExpr *kernel_value(Def *d, const Svm *s, const KExpr *dot) {
    KCtx *k = d->k;
    const KExpr *gamma = k_const_f(k, DT_F32, s->gamma), *coef0 = k_const_f(k, DT_F32, s->coef0);
    if (s->kernel == KERNEL_LINEAR) return dot;
    if (s->kernel == KERNEL_RBF) return k_exp(k, k_neg(k, k_mul(k, gamma, dot)));
    const KExpr *e = k_add(k, k_mul(k, gamma, dot), coef0);
    if (s->kernel == KERNEL_SIGMOID) return k_tanh(k, e);
    return k_pow(k, e, k_const_f(k, DT_F32, s->degree));
}

/* sum over c of x[n, c] * table[r, c], or of the squared differences. */
static Stage *lower_rows(Def *d, KTensor *x, const double *table, int n_columns, bool distance,
                         KTensor *out) {
    KCtx *k = d->k;
    int64_t n_rows = 0;
    k_is_int(out->dims[1], &n_rows);
    KTensor *t = def_table_floats(d, "rows", DT_F32, table, n_rows * n_columns);
    Stage *s = def_begin(d, distance ? FORM_REDUCE : FORM_CONTRACT, out);
    const KExpr *width = k_int(k, n_columns), *zero = k_const_f(k, DT_F32, 0);
    const KExpr *at[2] = {def_axis(d, s, 0), def_reduce_axis(d, s, "c", width)};
    const KExpr *flat = k_add(k, k_mul(k, def_axis(d, s, 1), width), at[1]);
    const KExpr *a = def_at_as(d, DT_F32, x, at, 2), *b = def_at(d, t, &flat, 1);
    if (distance) {
        const KExpr *gap = k_sub(k, a, b);
        def_reduce(d, s, KO_add, DT_F32, zero, k_mul(k, gap, gap));
    } else {
        def_contract(d, s, DT_F32, a, b);
    }
    return s;
}

/* d[n, p] of rows of weights; from the kernel's values, or without vectors from x. */
static KTensor *lower_decisions(Def *d, const Svm *s, const double *weight, int n_rows,
                                const double *rho, KTensor *out) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *from = x;
    const KExpr *rows = x->rank > 1 ? x->dims[0] : k_int(k, 1), *dims[2] = {rows, NULL};
    int width = s->n_columns;
    if (s->n_vectors) {
        dims[1] = k_int(k, s->n_vectors);
        from = def_temp(d, "kernel", DT_F32, 2, dims);
        Stage *stage = lower_rows(d, x, s->vector, width, s->kernel == KERNEL_RBF, from);
        def_finish(d, stage, kernel_value(d, s, def_acc(d, stage)));
        width = s->n_vectors;
    }
    dims[1] = k_int(k, n_rows);
    if (!out) out = def_temp(d, "decisions", DT_F32, 2, dims);
    Stage *stage = lower_rows(d, from, weight, width, false, out);
    const KExpr *row = def_axis(d, stage, 1);
    KTensor *bias = def_table_floats(d, "rho", DT_F32, rho, n_rows);
    def_finish(d, stage, k_add(k, def_acc(d, stage), def_at(d, bias, &row, 1)));
    return out;
}

/* ---- regressor ------------------------------------------------------------------------------- */

static bool read_regressor(Module *m, const Node *n, Svm *s) {
    int64_t n_supports = attr_int(n, "n_supports", 0);
    *s = (Svm){0};
    if (!check_attr_int(m, n, "n_supports", n_supports, 0, 1 << 28)) return false;
    s->n_vectors = (int)n_supports;
    if (!read_common(m, n, 1, s)) return false;
    if (s->n_vectors && s->n_coefficients != s->n_vectors)
        return bad(m, n, "has not one coefficient for each support vector");
    return true;
}

bool svm_regressor_infer(Module *m, Node *n) {
    Svm s;
    if (!read_regressor(m, n, &s)) return false;
    Shape x = n->in[0]->shape;
    return infer_set(m, n, 0, DT_F32, ml_shape(m, x.rank > 1 ? x.dims[0] : k_int(m->k, 1), 1));
}

/* The post transform of a single value changes nothing in onnxruntime. */
void svm_regressor_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    Svm s;
    bool good = read_regressor(d->m, n, &s), one_class = attr_int(n, "one_class", 0) != 0;
    BUG_IF(!good, "the model passed infer");
    KTensor *out = def_out(d, 0);
    KTensor *y = lower_decisions(d, &s, s.coefficient, 1, s.rho, one_class ? NULL : out);
    if (!one_class) return;
    Stage *map = def_begin(d, FORM_MAP, out);
    const KExpr *inside = k_lt(k, k_const_f(k, DT_F32, 0), lower_elem(d, map, y, DT_F32));
    def_map(d, map, k_select(k, inside, k_const_f(k, DT_F32, 1), k_const_f(k, DT_F32, -1)));
}

/* ---- classifier ------------------------------------------------------------------------------ */

static bool read_classifier(Module *m, const Node *n, Svm *s, const int64_t **labels) {
    *s = (Svm){0};
    s->n_classes = ml_labels(m, n, "classlabels_ints", labels);
    int n_counts = attr_ints(n, "vectors_per_class", &s->per_class);
    if (s->n_classes < 0) return false;
    if (s->n_classes < 2) return bad(m, n, "has fewer than two classes");
    for (int i = 0; i < n_counts; i++) {
        if (!check_attr_int(m, n, "an element of vectors_per_class", s->per_class[i], 0, 1 << 24))
            return false;
        s->n_vectors += (int)s->per_class[i];
    }
    if (!read_common(m, n, s->n_classes, s)) return false;
    s->n_pairs = s->n_classes * (s->n_classes - 1) / 2;
    s->n_prob = attr_floats(n, "prob_a", &s->prob_a);
    bool has_b = attr_floats(n, "prob_b", &s->prob_b) == s->n_prob;
    if (!s->n_vectors) return true;
    if (n_counts != s->n_classes) return bad(m, n, "vectors_per_class does not fit the labels");
    if (s->n_coefficients != (s->n_classes - 1) * s->n_vectors || s->n_rho != s->n_pairs)
        return bad(m, n, "coefficients or rho do not fit the classes and support vectors");
    if (s->n_prob && (s->n_prob != s->n_pairs || !has_b))
        return bad(m, n, "prob_a and prob_b do not fit the pairs of classes");
    if (s->n_prob && s->n_classes > MAX_COUPLED) {
        diag_unsupported(m->diag, n->loc, "probabilities of more than %d classes", MAX_COUPLED);
        return false;
    }
    if (s->n_classes == 2 && !s->n_prob && s->post == POST_PROBIT) {
        diag_unsupported(m->diag, n->loc, "PROBIT of a single score is not supported");
        return false;
    }
    return true;
}

static bool has_probabilities(const Svm *s) {
    return s->n_vectors && s->n_prob;
}

bool svm_classifier_infer(Module *m, Node *n) {
    Svm s;
    const int64_t *labels;
    if (!read_classifier(m, n, &s, &labels)) return false;
    Shape x = n->in[0]->shape, label_shape = shape_make(m->arena, 1);
    const KExpr *rows = label_shape.dims[0] = x.rank > 1 ? x.dims[0] : k_int(m->k, 1);
    bool pairs = s.n_vectors && !s.n_prob && s.n_classes > 2;
    return infer_set(m, n, 0, DT_I64, label_shape) &&
           infer_set(m, n, 1, DT_F32, ml_shape(m, rows, pairs ? s.n_pairs : s.n_classes));
}

/* The dense row of weights of each pair. */
static const double *pair_weights(Def *d, const Svm *s) {
    double *w = arena_array(d->arena, double, s->n_pairs *(int64_t)s->n_vectors);
    int64_t *first = arena_array(d->m->scratch, int64_t, s->n_classes + 1);
    for (int c = 0; c < s->n_classes; c++) first[c + 1] = first[c] + s->per_class[c];
    int pair = 0;
    for (int i = 0; i < s->n_classes; i++)
        for (int j = i + 1; j < s->n_classes; j++, pair++) {
            double *row = w + pair * (int64_t)s->n_vectors;
            for (int64_t v = first[i]; v < first[i + 1]; v++)
                row[v] = s->coefficient[(j - 1) * (int64_t)s->n_vectors + v];
            for (int64_t v = first[j]; v < first[j + 1]; v++)
                row[v] = s->coefficient[i * (int64_t)s->n_vectors + v];
        }
    return w;
}

static void pair_tables(Def *d, const Svm *s, KTensor **first, KTensor **second) {
    int64_t *i = arena_array(d->m->scratch, int64_t, s->n_pairs);
    int64_t *j = arena_array(d->m->scratch, int64_t, s->n_pairs);
    int pair = 0;
    for (int a = 0; a < s->n_classes; a++)
        for (int b = a + 1; b < s->n_classes; b++, pair++) {
            i[pair] = a;
            j[pair] = b;
        }
    *first = def_table_ints(d, "first", DT_I64, i, s->n_pairs);
    *second = def_table_ints(d, "second", DT_I64, j, s->n_pairs);
}

static KTensor *lower_votes(Def *d, const Svm *s, KTensor *decisions) {
    KCtx *k = d->k;
    const KExpr *dims[2] = {decisions->dims[0], k_int(k, s->n_classes)};
    KTensor *votes = def_temp(d, "votes", DT_F32, 2, dims), *first, *second;
    pair_tables(d, s, &first, &second);
    Stage *stage = def_begin(d, FORM_REDUCE, votes);
    const KExpr *pair = def_reduce_axis(d, stage, "pair", decisions->dims[1]);
    const KExpr *at[2] = {def_axis(d, stage, 0), pair}, *class = def_axis(d, stage, 1);
    const KExpr *wins = k_lt(k, k_const_f(k, DT_F32, 0), def_at(d, decisions, at, 2));
    const KExpr *i = k_eq(k, def_at(d, first, &pair, 1), class);
    const KExpr *j = k_eq(k, def_at(d, second, &pair, 1), class);
    const KExpr *vote = k_or(k, k_and(k, wins, i), k_and(k, k_not(k, wins), j));
    def_reduce(d, stage, KO_add, DT_F32, k_const_f(k, DT_F32, 0), k_cast(k, DT_F32, vote));
    return votes;
}

/* ---- coupling */

typedef struct Coupling {
    Def *d;
    int n;
    KBuf *r, *q, *qp, *p, *sum, *busy; /* r, q: n * n; sum: p' q p */
} Coupling;

static const KExpr *item(const Coupling *c, KBuf *b, const KExpr *i) {
    return k_load(c->d->k, b, i);
}

static const KExpr *cell(const Coupling *c, const KExpr *i, const KExpr *j) {
    return k_add(c->d->k, k_mul(c->d->k, i, k_int(c->d->k, c->n)), j);
}

/* r[i, j] = probability of i among i and j, and q from it. */
static void couple_pairs(const Coupling *c, const Svm *s, KTensor *decisions, const KExpr *row) {
    KBuild *b = &c->d->b;
    KCtx *k = b->k;
    KTensor *pa = def_table_floats(c->d, "prob_a", DT_F32, s->prob_a, s->n_pairs), *first, *second;
    KTensor *pb = def_table_floats(c->d, "prob_b", DT_F32, s->prob_b, s->n_pairs);
    const KExpr *one = k_const_f(k, DT_F32, 1), *zero = k_const_f(k, DT_F32, 0);
    const KExpr *low = k_const_f(k, DT_F32, 1e-7), *high = k_sub(k, one, low);
    pair_tables(c->d, s, &first, &second);
    const KExpr *pair = kb_for(b, LOOP_SERIAL, "pair", k_int(k, s->n_pairs)), *at[2] = {row, pair};
    const KExpr *e = k_mul(k, def_at(c->d, decisions, at, 2), def_at(c->d, pa, &pair, 1));
    e = k_sub(k, one, k_sigmoid(k, k_add(k, e, def_at(c->d, pb, &pair, 1))));
    e = kb_let(b, "prob", k_min(k, k_max(k, e, low), high));
    const KExpr *i = def_at(c->d, first, &pair, 1), *j = def_at(c->d, second, &pair, 1);
    kb_store(b, c->r, cell(c, i, j), e);
    kb_store(b, c->r, cell(c, j, i), k_sub(k, one, e));
    kb_end(b);
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", k_int(k, c->n));
    kb_store(b, c->p, t, k_const_f(k, DT_F32, 1.0 / c->n));
    kb_store(b, c->q, cell(c, t, t), zero);
    j = kb_for(b, LOOP_SERIAL, "j", k_int(k, c->n));
    kb_if(b, k_ne(k, j, t));
    const KExpr *rjt = item(c, c->r, cell(c, j, t)), *rtj = item(c, c->r, cell(c, t, j));
    const KExpr *own = item(c, c->q, cell(c, t, t));
    kb_store(b, c->q, cell(c, t, t), k_add(k, own, k_mul(k, rjt, rjt)));
    kb_store(b, c->q, cell(c, t, j), k_neg(k, k_mul(k, rjt, rtj)));
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

/* qp = q p, sum = p' q p; busy: is some |qp - sum| at least eps? */
static void measure(const Coupling *c) {
    KBuild *b = &c->d->b;
    KCtx *k = b->k;
    const KExpr *n = k_int(k, c->n), *at0 = k_int(k, 0), *zero = k_const_f(k, DT_F32, 0);
    kb_store(b, c->sum, at0, zero);
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", n);
    kb_store(b, c->qp, t, zero);
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", n), *qp = item(c, c->qp, t);
    const KExpr *part = k_mul(k, item(c, c->q, cell(c, t, j)), item(c, c->p, j));
    kb_store(b, c->qp, t, k_add(k, qp, part));
    kb_end(b);
    part = k_mul(k, item(c, c->p, t), qp);
    kb_store(b, c->sum, at0, k_add(k, item(c, c->sum, at0), part));
    kb_end(b);
    kb_store(b, c->busy, at0, at0);
    t = kb_for(b, LOOP_SERIAL, "t", n);
    const KExpr *gap = k_abs(k, k_sub(k, item(c, c->qp, t), item(c, c->sum, at0)));
    const KExpr *far = k_le(k, k_const_f(k, DT_F32, 0.005 / c->n), gap);
    kb_store(b, c->busy, at0, k_max(k, item(c, c->busy, at0), k_cast(k, DT_I64, far)));
    kb_end(b);
}

static void improve(const Coupling *c) {
    KBuild *b = &c->d->b;
    KCtx *k = b->k;
    const KExpr *n = k_int(k, c->n), *at0 = k_int(k, 0), *one = k_const_f(k, DT_F32, 1);
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", n), *sum = item(c, c->sum, at0);
    const KExpr *qtt = kb_let(b, "qtt", item(c, c->q, cell(c, t, t)));
    const KExpr *qpt = kb_let(b, "qpt", item(c, c->qp, t));
    const KExpr *diff = kb_let(b, "diff", k_div(k, k_sub(k, sum, qpt), qtt));
    const KExpr *scale = kb_let(b, "scale", k_add(k, one, diff));
    const KExpr *two_qp = k_add(k, qpt, qpt);
    const KExpr *grown = k_add(k, sum, k_mul(k, diff, k_add(k, k_mul(k, diff, qtt), two_qp)));
    kb_store(b, c->p, t, k_add(k, item(c, c->p, t), diff));
    kb_store(b, c->sum, at0, k_div(k, k_div(k, grown, scale), scale));
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", n);
    const KExpr *qp = k_add(k, item(c, c->qp, j), k_mul(k, diff, item(c, c->q, cell(c, t, j))));
    kb_store(b, c->qp, j, k_div(k, qp, scale));
    kb_store(b, c->p, j, k_div(k, item(c, c->p, j), scale));
    kb_end(b);
    kb_end(b);
}

static KTensor *lower_probabilities(Def *d, const Svm *s, KTensor *decisions) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    int n = s->n_classes;
    const KExpr *dims[2] = {decisions->dims[0], k_int(k, n)};
    KTensor *out = def_temp(d, "probabilities", DT_F32, 2, dims);
    Stage *stage = def_program(d, &out, 1);
    Coupling c = {.d = d, .n = n};
    const KExpr *row = kb_for(b, LOOP_PARALLEL, "row", dims[0]), *zero = k_int(k, 0);
    c.r = kb_alloc(b, MEM_STACK, DT_F32, "r", n * n);
    c.q = kb_alloc(b, MEM_STACK, DT_F32, "q", n * n);
    c.qp = kb_alloc(b, MEM_STACK, DT_F32, "qp", n);
    c.p = kb_alloc(b, MEM_STACK, DT_F32, "p", n);
    c.sum = kb_alloc(b, MEM_REG, DT_F32, "sum", 1);
    c.busy = kb_alloc(b, MEM_REG, DT_I64, "busy", 1);
    KBuf *rounds = kb_alloc(b, MEM_REG, DT_I64, "rounds", 1);
    couple_pairs(&c, s, decisions, row);
    kb_store(b, rounds, zero, k_int(k, n > 100 ? n : 100));
    measure(&c);
    const KExpr *left = item(&c, rounds, zero);
    kb_while(b, k_and(k, k_lt(k, zero, left), k_ne(k, item(&c, c.busy, zero), zero)));
    improve(&c);
    measure(&c);
    kb_store(b, rounds, zero, k_sub(k, left, k_int(k, 1)));
    kb_end(b);
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", dims[1]);
    kb_store(b, out->buf, k_add(k, k_mul(k, row, dims[1]), t), item(&c, c.p, t));
    kb_end(b);
    kb_end(b);
    def_end_program(d, stage);
    return out;
}

/* ---- labels and scores */

/* Two classes without support vectors: a best score above 0 (0.5 where no coefficient is negative)
 * is the second's. */
static void lower_linear_label(Def *d, const Svm *s, KTensor *scores, const int64_t *labels) {
    KCtx *k = d->k;
    bool positive = true;
    for (int i = 0; i < s->n_coefficients; i++) positive &= s->coefficient[i] >= 0;
    Stage *map = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *at[2] = {def_axis(d, map, 0), k_int(k, 0)}, *a = def_at(d, scores, at, 2);
    at[1] = k_int(k, 1);
    const KExpr *b = def_at(d, scores, at, 2), *border = k_const_f(k, DT_F32, positive ? 0.5 : 0);
    const KExpr *best = k_max(k, a, b);
    const KExpr *above = positive ? k_le(k, border, best) : k_lt(k, border, best);
    const KExpr *second = k_or(k, above, k_lt(k, a, b));
    def_map(d, map, k_select(k, second, k_int(k, labels[1]), k_int(k, labels[0])));
}

/* (-s, s), or what the transform makes of it. */
static void lower_two_scores(Def *d, const Svm *s, KTensor *decisions) {
    KCtx *k = d->k;
    Stage *map = def_begin(d, FORM_MAP, def_out(d, 1));
    const KExpr *at[2] = {def_axis(d, map, 0), k_int(k, 0)}, *e = def_at(d, decisions, at, 2);
    const KExpr *first = k_eq(k, def_axis(d, map, 1), k_int(k, 0)), *other = k_neg(k, e);
    if (s->post == POST_SOFTMAX || s->post == POST_SOFTMAX_ZERO)
        other = k_sub(k, k_const_f(k, DT_F32, 1), e);
    e = k_select(k, first, other, e);
    def_map(d, map, s->post == POST_LOGISTIC ? k_sigmoid(k, e) : e);
}

void svm_classifier_lower(Def *d, const Node *n) {
    Svm s;
    const int64_t *labels;
    bool good = read_classifier(d->m, n, &s, &labels);
    BUG_IF(!good, "the model passed infer");
    if (!s.n_vectors) {
        double *rho = arena_array(d->m->scratch, double, s.n_classes);
        for (int i = 0; i < s.n_classes; i++) rho[i] = s.rho[0];
        KTensor *scores = lower_decisions(d, &s, s.coefficient, s.n_classes, rho, NULL);
        if (has_out(n, 0) && s.n_classes == 2) lower_linear_label(d, &s, scores, labels);
        if (has_out(n, 0) && s.n_classes > 2) ml_lower_best(d, scores, labels, def_out(d, 0));
        if (has_out(n, 1)) ml_lower_post(d, s.post, scores, def_out(d, 1));
        return;
    }
    KTensor *decisions = lower_decisions(d, &s, pair_weights(d, &s), s.n_pairs, s.rho, NULL);
    if (has_out(n, 0)) ml_lower_best(d, lower_votes(d, &s, decisions), labels, def_out(d, 0));
    if (!has_out(n, 1)) return;
    if (has_probabilities(&s))
        ml_lower_post(d, s.post, lower_probabilities(d, &s, decisions), def_out(d, 1));
    else if (s.n_classes == 2)
        lower_two_scores(d, &s, decisions);
    else
        ml_lower_post(d, s.post, decisions, def_out(d, 1));
}
