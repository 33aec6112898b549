/* What decoders of language models have besides attention: RotaryEmbedding, TensorScatter (a step
 * written into a cache), CausalConvWithState (a convolution that goes on where it stopped).
 *
 *   RotaryEmbedding      pairs (x1, x2) of a head's elements are turned by the angle of their
 *                        place: (x1 cos - x2 sin, x1 sin + x2 cos)
 *   TensorScatter        y[b.., s, ..] = update[b.., s - at[b], ..] where that exists, else the
 *                        cache
 *   CausalConvWithState  y[b,c,t] = act(bias[c] + sum over r < n of w[c,0,r] * joined[b,c,t + r])
 *                        with joined = state (n - 1 elements, zeros without one), then x
 *
 * f16 and bf16 compute in f32, rounded once. */
#include <string.h>

#include "ir/ops/check.h"

/* ---- RotaryEmbedding ------------------------------------------------------------------------- */

enum { IN_X, IN_COS, IN_SIN, IN_PLACES };

/* Heads, size of a head and how many of its elements are turned. */
typedef struct Rotary {
    const KExpr *size, *n_turned;
    bool interleaved;
} Rotary;

static bool read_rotary(Module *m, const Node *n, Rotary *r) {
    Shape x = n->in[IN_X]->shape;
    int64_t heads = attr_int(n, "num_heads", 0), turned = attr_int(n, "rotary_embedding_dim", 0);
    int64_t width, size;
    if (x.rank == 3 && !check_attr_int(m, n, "num_heads", heads, 1, INT32_MAX)) return false;
    if (x.rank == 3 && shape_dim_int(x, 2, &width) && width % heads) {
        diag_error(m->diag, n->loc,
                   "num_heads is %lld, which does not divide dim 2 of input 0, %lld",
                   (long long)heads, (long long)width);
        return false;
    }
    r->size = x.rank == 3 ? k_fdiv(m->k, x.dims[2], k_int(m->k, heads)) : x.dims[3];
    r->n_turned = turned ? k_int(m->k, turned) : r->size;
    r->interleaved = attr_int(n, "interleaved", 0) != 0;
    if (!k_is_int(r->size, &size)) size = INT32_MAX;
    if (!check_attr_int(m, n, "rotary_embedding_dim", turned, 0, size)) return false;
    if (!k_is_int(r->n_turned, &turned) || turned % 2 == 0) return true;
    diag_error(m->diag, n->loc, "%lld elements of a head are turned, which must be even",
               (long long)turned);
    return false;
}

bool rotary_infer(Module *m, Node *n) {
    Rotary r;
    if (!infer_dtype(m, n, IN_X, CLASS_FLOAT) || !check_same_dtype(m, n, IN_COS, IN_X) ||
        !check_same_dtype(m, n, IN_SIN, IN_X) || !check_dtype(m, n, IN_PLACES, DTM(I64)) ||
        !infer_rank(m, n, IN_X, 3, 4) || !read_rotary(m, n, &r))
        return false;
    Shape x = n->in[IN_X]->shape;
    const KExpr *half = k_fdiv(m->k, r.n_turned, k_int(m->k, 2));
    const KExpr *length = x.dims[x.rank == 3 ? 1 : 2];
    int rank = has_in(n, IN_PLACES) ? 2 : 3;
    for (int i = IN_COS; i <= IN_SIN; i++)
        if (!infer_rank(m, n, i, rank, rank) ||
            !check_dim(m, n, i, rank - 1, half, "half of the elements that are turned") ||
            (rank == 3 && !check_dim(m, n, i, 1, length, "the length")))
            return false;
    if (has_in(n, IN_PLACES) && (!infer_rank(m, n, IN_PLACES, 2, 2) ||
                                 !check_dim(m, n, IN_PLACES, 1, length, "the length")))
        return false;
    return infer_same_as(m, n, 0, n->in[IN_X]);
}

/* The factor of element (b, i) in column c, from a table by place or one for each element. */
static const KExpr *angle(Def *d, KTensor *table, DType t, const KExpr *b, const KExpr *i,
                          const KExpr *c) {
    KTensor *places = def_in(d, IN_PLACES);
    const KExpr *at[3] = {b, i, c}, *width = table->dims[table->rank - 1],
                *inside = k_bool(d->k, true);
    if (width->op != KO_const_i) inside = k_lt(d->k, c, width);
    if (places) {
        at[1] = c;
        at[0] = lower_index(d, def_at(d, places, (const KExpr *[]){b, i}, 2), table->dims[0]);
        inside = k_and(d->k, inside, lower_inside(d, at[0], table->dims[0]));
    } else if (inside->op != KO_const_i) {
        inside = k_and_inside(d, k_and_inside(d, inside, b, table->dims[0]), i, table->dims[1]);
    }
    return k_cast(d->k, t, def_at_if(d, table, at, table->rank, inside));
}

void rotary_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    Rotary r;
    BUG_IF(!read_rotary(d->m, n, &r), "the shapes changed since infer");
    KTensor *x = def_in(d, IN_X);
    DType t = compute_dtype(x->dtype);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *at[4], *zero = k_int(k, 0), *half = k_fdiv(k, r.n_turned, k_int(k, 2));
    lower_axes(d, s, at);
    int last = x->rank - 1;
    const KExpr *own = at[last], *e = last == 2 ? k_fmod(k, own, r.size) : own;
    const KExpr *i = at[last - 1], *is_turned = k_lt(k, e, r.n_turned), *is_first, *column, *step;
    if (r.interleaved) {
        is_first = k_eq(k, k_fmod(k, e, k_int(k, 2)), zero);
        column = k_fdiv(k, e, k_int(k, 2));
        step = k_int(k, 1);
    } else {
        is_first = k_lt(k, e, half);
        column = k_select(k, is_first, e, k_sub(k, e, half));
        step = half;
    }
    /* where nothing is turned any column will do */
    if (r.n_turned != r.size) column = k_select(k, is_turned, column, zero);
    if (last == 2) i = at[1];
    const KExpr *self = lower_elem(d, s, x, t);
    at[last] = k_add(k, own, step);
    const KExpr *goes_up = k_and(k, is_turned, is_first);
    if (r.size->op != KO_const_i) goes_up = k_and(k, goes_up, k_lt(k, at[last], x->dims[last]));
    const KExpr *up = def_at_if(d, x, at, x->rank, goes_up);
    at[last] = k_sub(k, own, step);
    const KExpr *down = def_at_if(d, x, at, x->rank, k_and(k, is_turned, k_not(k, is_first)));
    const KExpr *other = k_select(k, is_first, k_neg(k, k_cast(k, t, up)), k_cast(k, t, down));
    const KExpr *turned = k_add(k, k_mul(k, self, angle(d, def_in(d, IN_COS), t, at[0], i, column)),
                                k_mul(k, other, angle(d, def_in(d, IN_SIN), t, at[0], i, column)));
    if (r.n_turned != r.size) turned = k_select(k, is_turned, turned, self);
    def_map(d, s, k_cast(k, x->dtype, turned));
}

/* ---- TensorScatter --------------------------------------------------------------------------- */

static bool tensor_scatter_mode(Module *m, const Node *n, bool *circular) {
    const char *mode = attr_string(n, "mode", "linear");
    *circular = !strcmp(mode, "circular");
    if (*circular || !strcmp(mode, "linear")) return true;
    diag_error(m->diag, n->loc, "mode is '%s'; linear and circular are accepted", mode);
    return false;
}

bool tensor_scatter_infer(Module *m, Node *n) {
    int axis;
    int64_t most, length;
    bool circular;
    if (!infer_dtypes_equal(m, n, 0, 1) || !check_dtype(m, n, 2, DTM(I64)) ||
        !infer_rank(m, n, 0, 2, MAX_RANK) || !tensor_scatter_mode(m, n, &circular))
        return false;
    Shape cache = n->in[0]->shape, update = n->in[1]->shape;
    if (!infer_rank(m, n, 1, cache.rank, cache.rank) ||
        !infer_axis(m, n, attr_int(n, "axis", -2), cache.rank, &axis) ||
        !check_attr_int(m, n, "axis", axis, 1, cache.rank - 1))
        return false;
    for (int i = 0; i < cache.rank; i++)
        if (i != axis && !check_dim(m, n, 1, i, cache.dims[i], "the cache's")) return false;
    if (shape_dim_int(cache, axis, &most) && shape_dim_int(update, axis, &length) &&
        length > most) {
        diag_error(m->diag, n->loc, "an update of %lld steps does not fit a cache of %lld",
                   (long long)length, (long long)most);
        return false;
    }
    if (has_in(n, 2) &&
        (!infer_rank(m, n, 2, 1, 1) || !check_dim(m, n, 2, 0, cache.dims[0], "the batch")))
        return false;
    return infer_same_as(m, n, 0, n->in[0]);
}

void tensor_scatter_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *cache = def_in(d, 0), *update = def_in(d, 1), *starts = def_in(d, 2);
    int axis = shape_axis(attr_int(n, "axis", -2), cache->rank);
    bool circular;
    BUG_IF(!tensor_scatter_mode(d->m, n, &circular), "the mode changed since infer");
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *at[MAX_RANK], *old = lower_elem(d, s, cache, cache->dtype);
    lower_axes(d, s, at);
    if (starts) at[axis] = k_sub(k, at[axis], def_at(d, starts, at, 1));
    if (circular) at[axis] = k_fmod(k, at[axis], cache->dims[axis]);
    const KExpr *is_new = lower_inside(d, at[axis], update->dims[axis]), *bound[MAX_RANK];
    for (int i = 0; i < cache->rank; i++) bound[i] = i == axis ? NULL : cache->dims[i];
    is_new = k_and_fits(d, is_new, update, at, bound);
    const KExpr *new = def_at_if(d, update, at, update->rank, is_new);
    def_map(d, s, k_select(k, is_new, new, old));
}

/* ---- CausalConvWithState --------------------------------------------------------------------- */

enum { IN_WEIGHT = 1, IN_BIAS, IN_STATE };

static bool causal_conv_swish(Module *m, const Node *n, bool *swish) {
    const char *how = attr_string(n, "activation", "none");
    *swish = !strcmp(how, "silu") || !strcmp(how, "swish");
    if (*swish || !strcmp(how, "none") || !*how) return true;
    diag_error(m->diag, n->loc, "activation is '%s'; none, silu and swish are accepted", how);
    return false;
}

bool causal_conv_infer(Module *m, Node *n) {
    bool swish;
    if (!infer_dtype(m, n, 0, CLASS_FLOAT) || !check_same_dtype(m, n, IN_WEIGHT, 0) ||
        !check_same_dtype(m, n, IN_BIAS, 0) || !check_same_dtype(m, n, IN_STATE, 0) ||
        !infer_rank(m, n, 0, 3, 3) || !infer_rank(m, n, IN_WEIGHT, 3, 3) ||
        !causal_conv_swish(m, n, &swish))
        return false;
    Shape x = n->in[0]->shape, state = shape_copy(m->arena, x);
    state.dims[2] = k_sub(m->k, n->in[IN_WEIGHT]->shape.dims[2], k_int(m->k, 1));
    if (!check_dim(m, n, IN_WEIGHT, 0, x.dims[1], "the channels") ||
        !check_dim(m, n, IN_WEIGHT, 1, k_int(m->k, 1), "one for each channel") ||
        (has_in(n, IN_BIAS) && (!infer_rank(m, n, IN_BIAS, 1, 1) ||
                                !check_dim(m, n, IN_BIAS, 0, x.dims[1], "the channels"))))
        return false;
    if (has_in(n, IN_STATE)) {
        if (!infer_rank(m, n, IN_STATE, 3, 3)) return false;
        for (int i = 0; i < 3; i++)
            if (!check_dim(m, n, IN_STATE, i, state.dims[i], "the state's")) return false;
    }
    return infer_same_as(m, n, 0, n->in[0]) && infer_set(m, n, 1, n->in[0]->dtype, state);
}

/* Element (b, c, i) of state and x joined; i counts from the state's start. */
static const KExpr *joined(Def *d, const KExpr *n_state, const KExpr *b, const KExpr *c,
                           const KExpr *i) {
    KTensor *x = def_in(d, 0), *state = def_in(d, IN_STATE);
    const KExpr *at[] = {b, c, k_sub(d->k, i, n_state)}, *is_old = k_lt(d->k, i, n_state);
    const KExpr *now = def_at_if(d, x, at, 3, k_le(d->k, n_state, i));
    if (!state) return now;
    at[2] = i;
    const KExpr *bound[] = {x->dims[0], x->dims[1], n_state};
    const KExpr *fits = k_and_fits(d, is_old, state, at, bound);
    return k_select(d->k, is_old, def_at_if(d, state, at, 3, fits), now);
}

void causal_conv_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weight = def_in(d, IN_WEIGHT), *bias = def_in(d, IN_BIAS);
    const KExpr *at[3], *n_state = k_sub(k, weight->dims[2], k_int(k, 1));
    bool swish;
    BUG_IF(!causal_conv_swish(d->m, n, &swish), "the activation changed since infer");
    DType acc = acc_dtype(x->dtype);
    if (has_out(n, 0)) {
        Stage *s = def_begin(d, FORM_CONTRACT, def_out(d, 0));
        const KExpr *r = def_reduce_axis(d, s, "r", weight->dims[2]);
        lower_axes(d, s, at);
        const KExpr *wi[] = {at[1], k_int(k, 0), r};
        const KExpr *data = joined(d, n_state, at[0], at[1], k_add(k, at[2], r));
        def_contract(d, s, acc, k_cast(k, acc, data), def_at_as(d, acc, weight, wi, 3));
        const KExpr *sum = def_acc(d, s);
        if (bias) sum = k_add(k, sum, def_at_as(d, acc, bias, at + 1, 1));
        if (swish) sum = k_mul(k, sum, k_sigmoid(k, sum));
        def_finish(d, s, k_cast(k, x->dtype, sum));
    }
    if (!has_out(n, 1)) return;
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 1));
    lower_axes(d, s, at);
    def_map(d, s, joined(d, n_state, at[0], at[1], k_add(k, at[2], x->dims[2])));
}
