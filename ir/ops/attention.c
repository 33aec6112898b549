/* Attention: every query looks at all keys and gets the mean of their values, weighted by a
 * softmax.
 *
 *   score[b,h,i,j] = scale * sum over e of q[b,h,i,e] * k[b,h/g,j,e], g query heads to a key head
 *   logit          = cap * tanh(score / cap) + mask, -inf where key j is not allowed for query i
 *   weight         = softmax of logit over j; all 0 where nothing is allowed; its division by the
 *                    sum of the row's powers is done on y when nobody sees the weights
 *   y[b,h,i,e]     = sum over j of weight[b,h,i,j] * v[b,h/g,j,e]
 *
 * q, k, v and y are [batch, heads, length, size] or [batch, length, heads * size]; the second form
 * is read and written in place. Keys and values are those of the past in front of the new ones. The
 * stages are those of MatMul and Softmax, so their schedules and groups apply. Scores and softmax
 * are computed in f32 (f64 for f64) and nothing is rounded before y, unless softmax_precision asks.
 */
#include <math.h>

#include "ir/ops/check.h"

enum { IN_Q, IN_K, IN_V, IN_MASK, IN_PAST_K, IN_PAST_V, IN_VALID };
enum { OUT_Y, OUT_K, OUT_V, OUT_SCORES };
enum { SCORES_RAW, SCORES_CAPPED, SCORES_MASKED, SCORES_WEIGHTS };

/* The sizes of one node, as expressions. */
typedef struct Sizes {
    const KExpr *batch, *heads, *kv_heads, *n_query, *n_new, *past, *total, *size, *v_size;
} Sizes;

/* ---- infer ----------------------------------------------------------------------------------- */

/* Heads of a [batch, length, heads * size] input, and the size of one. */
static bool split_heads(Module *m, const Node *n, int i, const char *attr, const KExpr **heads,
                        const KExpr **size) {
    int64_t count = attr_int(n, attr, 0), width;
    if (!check_attr_int(m, n, attr, count, 1, INT32_MAX)) return false;
    *heads = k_int(m->k, count);
    *size = k_fdiv(m->k, n->in[i]->shape.dims[2], *heads);
    if (!shape_dim_int(n->in[i]->shape, 2, &width) || width % count == 0) return true;
    diag_error(m->diag, n->loc, "%s is %lld, which does not divide dim 2 of input %d, %lld", attr,
               (long long)count, i, (long long)width);
    return false;
}

/* Heads and size of input i in either form. */
static bool read_heads(Module *m, const Node *n, int i, const char *attr, const KExpr **heads,
                       const KExpr **size) {
    Shape s = n->in[i]->shape;
    if (s.rank == 3) return split_heads(m, n, i, attr, heads, size);
    *heads = s.dims[1];
    *size = s.dims[3];
    return true;
}

static bool check_groups(Module *m, const Node *n, const Sizes *z) {
    int64_t heads, kv_heads;
    if (!k_is_int(z->heads, &heads) || !k_is_int(z->kv_heads, &kv_heads)) return true;
    if (kv_heads > 0 && heads % kv_heads == 0) return true;
    diag_error(m->diag, n->loc, "%lld query heads are no multiple of %lld key heads",
               (long long)heads, (long long)kv_heads);
    return false;
}

/* K and V agree with Q and with each other; past ones with both. */
static bool check_sizes(Module *m, const Node *n, const Sizes *z, const KExpr *v_heads,
                        const KExpr *k_size) {
    int axis = n->in[IN_K]->shape.rank == 3 ? 1 : 2;
    if (dims_known_differ(z->kv_heads, v_heads) || dims_known_differ(z->size, k_size)) {
        diag_error(m->diag, n->loc, "the shapes %s, %s and %s of Q, K and V do not fit",
                   shape_text(m->scratch, n->in[IN_Q]->shape),
                   shape_text(m->scratch, n->in[IN_K]->shape),
                   shape_text(m->scratch, n->in[IN_V]->shape));
        return false;
    }
    for (int i = IN_PAST_K; i <= IN_PAST_V; i++)
        if (has_in(n, i) &&
            (!infer_rank(m, n, i, 4, 4) || !check_dim(m, n, i, 0, z->batch, "the batch") ||
             !check_dim(m, n, i, 1, z->kv_heads, "the key heads") ||
             !check_dim(m, n, i, 2, z->past, "the past length") ||
             !check_dim(m, n, i, 3, i == IN_PAST_K ? z->size : z->v_size, "the head's size")))
            return false;
    return check_dim(m, n, IN_K, 0, z->batch, "the batch") &&
           check_dim(m, n, IN_V, 0, z->batch, "the batch") &&
           check_dim(m, n, IN_V, axis, z->n_new, "the number of keys") && check_groups(m, n, z);
}

static bool read_sizes(Module *m, const Node *n, Sizes *z) {
    const Value *q = n->in[IN_Q], *keys = n->in[IN_K];
    int axis = q->shape.rank == 3 ? 1 : 2;
    const KExpr *v_heads, *k_size;
    if (!read_heads(m, n, IN_Q, "q_num_heads", &z->heads, &z->size) ||
        !read_heads(m, n, IN_K, "kv_num_heads", &z->kv_heads, &k_size) ||
        !read_heads(m, n, IN_V, "kv_num_heads", &v_heads, &z->v_size))
        return false;
    z->batch = q->shape.dims[0];
    z->n_query = q->shape.dims[axis];
    z->n_new = keys->shape.dims[axis];
    z->past = k_int(m->k, 0);
    if (has_in(n, IN_PAST_K)) {
        if (!infer_rank(m, n, IN_PAST_K, 4, 4)) return false;
        z->past = n->in[IN_PAST_K]->shape.dims[2];
    }
    z->total = k_add(m->k, z->past, z->n_new);
    return check_sizes(m, n, z, v_heads, k_size);
}

static bool check_types(Module *m, const Node *n) {
    int64_t precision = attr_int(n, "softmax_precision", dtype_info[DT_F32].onnx);
    if (!check_dtype(m, n, IN_Q, DTM_FLOATS) || !check_same_dtype(m, n, IN_K, IN_Q) ||
        !check_dtype(m, n, IN_V, DTM_FLOATS) || !infer_dtype(m, n, IN_V, CLASS_FLOAT) ||
        !check_same_dtype(m, n, IN_PAST_K, IN_Q) || !check_same_dtype(m, n, IN_PAST_V, IN_V) ||
        !check_dtype(m, n, IN_MASK, DTM_FLOATS | DTM_INTS | DTM(BOOL)) ||
        !check_dtype(m, n, IN_VALID, DTM(I64)))
        return false;
    if (dtype_is_float(dtype_from_onnx(precision))) return true;
    diag_error(m->diag, n->loc, "softmax_precision is %lld, which names no float type",
               (long long)precision);
    return false;
}

static bool check_attrs(Module *m, const Node *n) {
    static const char *const windows[] = {"left_window_size", "right_window_size"};
    for (int i = 0; i < 2; i++)
        if (!check_attr_int(m, n, windows[i], attr_int(n, windows[i], -1), -1, INT64_MAX))
            return false;
    if (has_in(n, IN_PAST_K) != has_in(n, IN_PAST_V) ||
        (has_in(n, IN_PAST_K) && has_in(n, IN_VALID))) {
        diag_error(m->diag, n->loc,
                   "past_key and past_value come together, and without nonpad_kv_seqlen");
        return false;
    }
    return check_attr_int(m, n, "qk_matmul_output_mode", attr_int(n, "qk_matmul_output_mode", 0),
                          SCORES_RAW, SCORES_WEIGHTS);
}

/* The mask broadcasts to [batch, heads, queries, keys]; it may end before the last key. */
static bool check_mask(Module *m, const Node *n, const Sizes *z) {
    if (!has_in(n, IN_MASK)) return true;
    Shape s = n->in[IN_MASK]->shape, to = shape_make(m->arena, 4);
    int64_t have, most;
    if (!infer_rank(m, n, IN_MASK, 1, 4)) return false;
    to.dims[0] = z->batch, to.dims[1] = z->heads, to.dims[2] = z->n_query;
    to.dims[3] = s.dims[s.rank - 1];
    if (!check_broadcasts_to(m, n, IN_MASK, to)) return false;
    if (!k_is_int(to.dims[3], &have) || !k_is_int(z->total, &most) || have <= most) return true;
    diag_error(m->diag, n->loc, "the mask of shape %s has more than the %lld keys",
               shape_text(m->scratch, s), (long long)most);
    return false;
}

static bool set_present(Module *m, Node *n, int i, DType t, const Sizes *z, const KExpr *size) {
    Shape s = shape_make(m->arena, 4);
    s.dims[0] = z->batch, s.dims[1] = z->kv_heads, s.dims[2] = z->total, s.dims[3] = size;
    return infer_set(m, n, i, t, s);
}

bool attention_infer(Module *m, Node *n) {
    Sizes z;
    if (!check_types(m, n) || !check_attrs(m, n) || !infer_rank(m, n, IN_Q, 3, 4)) return false;
    int rank = n->in[IN_Q]->shape.rank;
    if (!infer_rank(m, n, IN_K, rank, rank) || !infer_rank(m, n, IN_V, rank, rank) ||
        !read_sizes(m, n, &z) || !check_mask(m, n, &z))
        return false;
    if (has_in(n, IN_VALID) &&
        (!infer_rank(m, n, IN_VALID, 1, 1) || !check_dim(m, n, IN_VALID, 0, z.batch, "the batch")))
        return false;
    DType t = n->in[IN_Q]->dtype;
    Shape y = shape_copy(m->arena, n->in[IN_Q]->shape), scores = shape_make(m->arena, 4);
    y.dims[rank - 1] = rank == 3 ? k_mul(m->k, z.heads, z.v_size) : z.v_size;
    scores.dims[0] = z.batch, scores.dims[1] = z.heads;
    scores.dims[2] = z.n_query, scores.dims[3] = z.total;
    return infer_set(m, n, OUT_Y, t, y) && set_present(m, n, OUT_K, t, &z, z.size) &&
           set_present(m, n, OUT_V, n->in[IN_V]->dtype, &z, z.v_size) &&
           infer_set(m, n, OUT_SCORES, t, scores);
}

/* ---- lower ----------------------------------------------------------------------------------- */

/* One node while its stages are made. */
typedef struct Attention {
    Def *d;
    KCtx *k;
    const Node *n;
    Sizes z;
    const KExpr *group;  /* query heads of one key head */
    DType t, acc;        /* of q; of the scores */
    DType rounded, soft; /* the softmax's precision when asked for; what it is computed in */
    DType weight; /* of the weights: rounded to t only behind a precision that was asked for */
    KTensor *keys, *values;
    KTensor *sum; /* of a row's powers, by which y is divided; NULL: the weights are */
} Attention;

/* Element (b, h, i, e) of a tensor in either form. */
static const KExpr *head_element(Attention *a, KTensor *t, const KExpr *size,
                                 const KExpr *const *at) {
    const KExpr *flat[] = {at[0], at[2], k_add(a->k, k_mul(a->k, at[1], size), at[3])};
    return t->rank == 3 ? def_at(a->d, t, flat, 3) : def_at(a->d, t, at, 4);
}

/* The same of keys or values, for a query head. */
static const KExpr *shared_element(Attention *a, KTensor *t, const KExpr *size, const KExpr *b,
                                   const KExpr *head, const KExpr *j, const KExpr *e) {
    const KExpr *at[] = {b, k_is_value(a->group, 1) ? head : k_fdiv(a->k, head, a->group), j, e};
    return head_element(a, t, size, at);
}

/* Past and new keys (or values) joined: output `out`, else a temporary; the input itself when there
 * is no past and nobody asks. */
static KTensor *join_past(Attention *a, int in, int in_past, int out, const KExpr *size) {
    Def *d = a->d;
    KTensor *now = def_in(d, in), *past = def_in(d, in_past);
    if (!past && !has_out(a->n, out)) return now;
    const KExpr *dims[] = {a->z.batch, a->z.kv_heads, a->z.total, size}, *at[4];
    KTensor *all =
        has_out(a->n, out) ? def_out(d, out) : def_temp(d, "joined", now->dtype, 4, dims);
    Stage *s = def_begin(d, FORM_MAP, all);
    lower_axes(d, s, at);
    if (!past) {
        s->movement = now->rank == 4;
        def_map(d, s, head_element(a, now, size, at));
        return now; /* read where it lies */
    }
    const KExpr *is_past = k_lt(a->k, at[2], a->z.past), *is_new = k_le(a->k, a->z.past, at[2]);
    const KExpr *bound[] = {a->z.batch, a->z.kv_heads, a->z.past, size};
    const KExpr *old = def_at_if(d, past, at, 4, k_and_fits(d, is_past, past, at, bound));
    at[2] = k_sub(a->k, at[2], a->z.past);
    bound[2] = a->z.n_new;
    const KExpr *flat[] = {at[0], at[2], k_add(a->k, k_mul(a->k, at[1], size), at[3])};
    const KExpr *flat_bound[] = {a->z.batch, a->z.n_new, NULL};
    bool is_flat = now->rank == 3;
    is_new = k_and_fits(d, is_new, now, is_flat ? flat : at, is_flat ? flat_bound : bound);
    const KExpr *new = def_at_if(d, now, is_flat ? flat : at, now->rank, is_new);
    def_map(d, s, k_select(a->k, is_past, old, new));
    return all;
}

static KTensor *score_temp(Attention *a, const char *name, DType t) {
    const KExpr *dims[] = {a->z.batch, a->z.heads, a->z.n_query, a->z.total};
    return def_temp(a->d, name, t, 4, dims);
}

static void give_scores(Attention *a, int mode, KTensor *from) {
    if (!has_out(a->n, OUT_SCORES) || attr_int(a->n, "qk_matmul_output_mode", 0) != mode) return;
    Stage *s = def_begin(a->d, FORM_MAP, def_out(a->d, OUT_SCORES));
    def_map(a->d, s, k_cast(a->k, a->t, lower_elem(a->d, s, from, from->dtype)));
}

/* scale * q k^T */
static KTensor *lower_scores(Attention *a) {
    KCtx *k = a->k;
    KTensor *scores = score_temp(a, "scores", a->acc), *q = def_in(a->d, IN_Q);
    Stage *s = def_begin(a->d, FORM_CONTRACT, scores);
    const KExpr *at[4], *e = def_reduce_axis(a->d, s, "e", a->z.size), *scale;
    lower_axes(a->d, s, at);
    const KExpr *keys = shared_element(a, a->keys, a->z.size, at[0], at[1], at[3], e);
    at[3] = e;
    const KExpr *query = head_element(a, q, a->z.size, at);
    def_contract(a->d, s, a->acc, k_cast(k, a->acc, query), k_cast(k, a->acc, keys));
    int64_t size;
    if (node_attr(a->n, "scale"))
        scale = k_const(k, a->acc, attr_float(a->n, "scale", 1));
    else if (k_is_int(a->z.size, &size) && size > 0)
        scale = k_const(k, a->acc, 1 / sqrt((double)size));
    else
        scale = k_rsqrt(k, k_cast(k, a->acc, a->z.size));
    def_finish(a->d, s, k_mul(k, def_acc(a->d, s), scale));
    give_scores(a, SCORES_RAW, scores);
    return scores;
}

static KTensor *lower_cap(Attention *a, KTensor *scores) {
    double cap = attr_float(a->n, "softcap", 0);
    if (cap > 0) {
        KTensor *capped = score_temp(a, "capped", a->acc);
        Stage *s = def_begin(a->d, FORM_MAP, capped);
        const KExpr *most = k_const(a->k, a->acc, cap), *e = lower_elem(a->d, s, scores, a->acc);
        def_map(a->d, s, k_mul(a->k, k_tanh(a->k, k_div(a->k, e, most)), most));
        scores = capped;
    }
    give_scores(a, SCORES_CAPPED, scores);
    return scores;
}

static const KExpr *both(KCtx *k, const KExpr *p, const KExpr *q) {
    return p ? k_and(k, p, q) : q;
}

/* Which keys j query i may look at by position: causal order, windows, padding; NULL for all. */
static const KExpr *allowed_places(Attention *a, const KExpr *const *at) {
    KCtx *k = a->k;
    KTensor *valid = def_in(a->d, IN_VALID);
    const KExpr *n_valid = valid ? def_at(a->d, valid, at, 1) : NULL, *allowed = NULL;
    const KExpr *place = k_add(k, at[2], a->z.past); /* of the query among the keys */
    if (valid) place = k_add(k, at[2], k_sub(k, n_valid, a->z.n_query));
    int64_t left = attr_int(a->n, "left_window_size", -1),
            right = attr_int(a->n, "right_window_size", -1);
    if (attr_int(a->n, "is_causal", 0)) allowed = k_le(k, at[3], place);
    /* a window beyond 2^40 is none: no model has as many keys */
    if (left >= 0 && left < INT64_C(1) << 40)
        allowed = both(k, allowed, k_le(k, place, k_add(k, at[3], k_int(k, left))));
    if (right >= 0 && right < INT64_C(1) << 40)
        allowed = both(k, allowed, k_le(k, at[3], k_add(k, place, k_int(k, right))));
    return valid ? both(k, allowed, k_lt(k, at[3], n_valid)) : allowed;
}

/* score + mask, -inf where the key is not allowed */
static const KExpr *masked(Attention *a, const KExpr *score, const KExpr *const *at) {
    KCtx *k = a->k;
    KTensor *mask = def_in(a->d, IN_MASK);
    const KExpr *allowed = allowed_places(a, at), *none = k_const(k, a->acc, -(double)INFINITY);
    if (mask) {
        const KExpr *n_masked = mask->dims[mask->rank - 1], *e;
        const KExpr *inside = n_masked == a->z.total ? NULL : k_lt(k, at[3], n_masked);
        const KExpr *bound[] = {a->z.batch, a->z.heads, a->z.n_query, NULL};
        int skip = 4 - mask->rank;
        if (inside) inside = k_and_fits(a->d, inside, mask, at + skip, bound + skip);
        e = inside ? def_at_if(a->d, mask, at, 4, inside) : def_at(a->d, mask, at, 4);
        if (inside) allowed = both(k, allowed, inside);
        if (mask->dtype == DT_BOOL) {
            allowed = both(k, allowed, e);
        } else {
            e = k_cast(k, a->acc, e);
            score = k_add(k, score, e);
            allowed = both(k, allowed, k_ne(k, e, none));
        }
    }
    return allowed ? k_select(k, allowed, score, none) : score;
}

/* What the softmax gets, rounded to its precision. */
static KTensor *lower_logits(Attention *a, KTensor *scores) {
    KTensor *logits = score_temp(a, "logits", a->acc);
    Stage *s = def_begin(a->d, FORM_MAP, logits);
    const KExpr *at[4];
    lower_axes(a->d, s, at);
    def_map(a->d, s, masked(a, lower_elem(a->d, s, scores, a->acc), at));
    give_scores(a, SCORES_MASKED, logits);
    return logits;
}

static Stage *row_fold(Attention *a, const char *name, const KExpr **at) {
    const KExpr *dims[] = {a->z.batch, a->z.heads, a->z.n_query, k_int(a->k, 1)};
    Stage *s = def_begin(a->d, FORM_REDUCE, def_temp(a->d, name, a->soft, 4, dims));
    lower_axes(a->d, s, at);
    at[3] = def_reduce_axis(a->d, s, "r", a->z.total);
    return s;
}

/* A logit as the softmax takes it: rounded to softmax_precision where that was asked for. */
static const KExpr *soft_logit(Attention *a, KTensor *logits, const KExpr *const *at) {
    const KExpr *e = def_at(a->d, logits, at, 4);
    return k_cast(a->k, a->soft, a->rounded ? k_cast(a->k, a->rounded, e) : e);
}

/* powers / sum, where somebody sees them: else the result is divided, which is less work. */
static KTensor *lower_quotients(Attention *a, KTensor *powers) {
    KCtx *k = a->k;
    KTensor *weights = score_temp(a, "weights", a->weight);
    Stage *s = def_begin(a->d, FORM_MAP, weights);
    const KExpr *e = lower_elem(a->d, s, powers, a->soft);
    e = k_div(k, e, lower_elem(a->d, s, a->sum, a->soft));
    def_map(a->d, s, k_cast(k, a->weight, a->rounded ? k_cast(k, a->rounded, e) : e));
    give_scores(a, SCORES_WEIGHTS, weights);
    a->sum = NULL;
    return weights;
}

/* The weights of the keys, or what they are before a division by a->sum. A row of -inf only has the
 * peak 0 and the sum 1, so that it ends as 0. */
static KTensor *lower_weights(Attention *a, KTensor *logits) {
    KCtx *k = a->k;
    Def *d = a->d;
    const KExpr *at[4], *zero = k_const(k, a->soft, 0), *one = k_const(k, a->soft, 1);
    const KExpr *none = lower_lowest(d, a->soft);
    Stage *s = row_fold(a, "peak", at);
    def_reduce(d, s, KO_max, a->soft, none, soft_logit(a, logits, at));
    def_finish(d, s, k_select(k, k_eq(k, def_acc(d, s), none), zero, def_acc(d, s)));
    KTensor *peak = s->out, *powers = score_temp(a, "powers", a->soft);
    s = def_begin(d, FORM_MAP, powers);
    lower_axes(d, s, at);
    def_map(d, s, k_exp(k, k_sub(k, soft_logit(a, logits, at), def_at(d, peak, at, 4))));
    s = row_fold(a, "sum", at);
    def_reduce(d, s, KO_add, a->soft, zero, def_at(d, powers, at, 4));
    def_finish(d, s, k_select(k, k_eq(k, def_acc(d, s), zero), one, def_acc(d, s)));
    a->sum = s->out;
    bool given =
        has_out(a->n, OUT_SCORES) && attr_int(a->n, "qk_matmul_output_mode", 0) == SCORES_WEIGHTS;
    return a->rounded || given ? lower_quotients(a, powers) : powers;
}

/* The weighted sums, in [batch, query, head, size] order where the heads are not an axis of y. */
static void lower_result(Attention *a, KTensor *weights) {
    KTensor *y = def_out(a->d, OUT_Y), *to = y;
    const KExpr *dims[] = {a->z.batch, a->z.n_query, a->z.heads, a->z.v_size}, *at[4], *read[4];
    if (y->rank == 3) to = def_temp(a->d, "heads", y->dtype, 4, dims);
    Stage *s = def_begin(a->d, FORM_CONTRACT, to);
    const KExpr *j = def_reduce_axis(a->d, s, "j", a->z.total);
    lower_axes(a->d, s, at);
    const KExpr *head = y->rank == 3 ? at[2] : at[1], *i = y->rank == 3 ? at[1] : at[2];
    DType acc = acc_dtype(a->values->dtype == DT_F64 ? DT_F64 : a->t);
    read[0] = at[0], read[1] = head, read[2] = i, read[3] = j;
    const KExpr *value = shared_element(a, a->values, a->z.v_size, at[0], head, j, at[3]);
    def_contract(a->d, s, acc, def_at_as(a->d, acc, weights, read, 4), k_cast(a->k, acc, value));
    const KExpr *e = def_acc(a->d, s);
    read[3] = k_int(a->k, 0);
    if (a->sum) e = k_div(a->k, e, def_at_as(a->d, acc, a->sum, read, 4));
    def_finish(a->d, s, k_cast(a->k, a->t, e));
    if (to != y) lower_view(a->d, to, y);
}

void attention_lower(Def *d, const Node *n) {
    Attention a = {.d = d, .k = d->k, .n = n, .t = n->in[IN_Q]->dtype};
    BUG_IF(!read_sizes(d->m, n, &a.z), "the shapes changed since infer");
    a.acc = acc_dtype(a.t);
    int64_t precision = attr_int(n, "softmax_precision", 0);
    DType given = precision ? dtype_from_onnx(precision) : a.t;
    a.rounded = given == a.t ? DT_NONE : given;
    a.soft = compute_dtype(given);
    a.weight = a.rounded ? a.t : a.acc;
    a.group = a.z.heads == a.z.kv_heads ? k_int(d->k, 1) : k_fdiv(d->k, a.z.heads, a.z.kv_heads);
    a.keys = join_past(&a, IN_K, IN_PAST_K, OUT_K, a.z.size);
    a.values = join_past(&a, IN_V, IN_PAST_V, OUT_V, a.z.v_size);
    if (!has_out(n, OUT_Y) && !has_out(n, OUT_SCORES)) return;
    KTensor *weights = lower_weights(&a, lower_logits(&a, lower_cap(&a, lower_scores(&a))));
    if (has_out(n, OUT_Y)) lower_result(&a, weights);
}
