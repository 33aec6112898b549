/* Normalizations by channel (axis 1): BatchNormalization, InstanceNormalization,
 * GroupNormalization, LRN.
 *
 *   BatchNormalization     y = (x - mean[c]) * (scale[c] / sqrt(var[c] + epsilon)) + bias[c]; in
 *                          training mode mean and var are the batch's, and the running ones are
 *                          blended with momentum
 *   InstanceNormalization  the same with mean and variance of each (n, c) over the positions
 *   GroupNormalization     ... of each (n, group of channels)
 *   LRN                    y = x / (bias + alpha / size * sum of x^2 over `size` neighbouring
 *                          channels)^beta
 *
 * Variances are population variances in two passes. f16 and bf16 compute in f32. */
#include "ir/ops/check.h"

/* A length-C input, C being x's axis 1 (1 when x has rank 1). */
static bool check_per_channel(Module *m, const Node *n, int i) {
    Shape x = n->in[0]->shape;
    const KExpr *channels = x.rank > 1 ? x.dims[1] : k_int(m->k, 1);
    return check_dtype(m, n, i, DTM_FLOATS) && infer_rank(m, n, i, 1, 1) &&
           check_dim(m, n, i, 0, channels, "channels");
}

/* per_channel[c], in dtype t. */
static const KExpr *channel_value(Def *d, DType t, KTensor *per_channel, const KExpr *c) {
    return def_at_as(d, t, per_channel, &c, 1);
}

/* Statistics of x for the elements that share an index of `stat`: `open` adds the reduction axes,
 * fills the index into x and returns the number of elements. */
typedef const KExpr *OpenStat(Def *d, Stage *s, const KTensor *x, const KExpr **xi);

/* mean = first + sum (x - first) / count, which is exact where all are equal. */
static void lower_stat_mean(Def *d, KTensor *x, OpenStat *open, KTensor *mean) {
    KCtx *k = d->k;
    const KExpr *xi[MAX_RANK], *at[MAX_RANK], *zeros[MAX_RED];
    Stage *s = def_begin(d, FORM_REDUCE, mean);
    const KExpr *count = open(d, s, x, xi);
    DType acc = mean->dtype;
    for (int i = 0; i < s->n_red; i++) zeros[i] = k_int(k, 0);
    for (int i = 0; i < x->rank; i++) at[i] = k_subst(k, xi[i], s->red, zeros, s->n_red);
    const KExpr *is_there = k_lt(k, k_int(k, 0), count);
    const KExpr *first = k_cast(k, acc, def_at_if(d, x, at, x->rank, is_there));
    const KExpr *off = k_sub(k, def_at_as(d, acc, x, xi, x->rank), first);
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), off);
    def_finish(d, s, k_add(k, first, k_div(k, def_acc(d, s), k_cast(k, acc, count))));
}

/* var = population variance around mean, less what is left to the stage's caller: the finish. */
static Stage *lower_stat_variance(Def *d, KTensor *x, KTensor *mean, OpenStat *open, KTensor *var) {
    KCtx *k = d->k;
    const KExpr *xi[MAX_RANK], *stat[MAX_RANK];
    Stage *s = def_begin(d, FORM_REDUCE, var);
    const KExpr *count = open(d, s, x, xi);
    DType acc = var->dtype;
    lower_axes(d, s, stat);
    const KExpr *off = def_at_as(d, acc, x, xi, x->rank);
    off = k_sub(k, off, def_at(d, mean, stat, mean->rank));
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), k_mul(k, off, off));
    def_finish(d, s, k_div(k, def_acc(d, s), k_cast(k, acc, count)));
    return s;
}

static const KExpr *spread_of(KCtx *k, const KExpr *var, double epsilon) {
    return k_rsqrt(k, k_add(k, var, k_const(k, var->dtype, epsilon)));
}

/* spread = 1 / sqrt(var + epsilon), once for each mean rather than for each element. */
static void lower_stat_spread(Def *d, KTensor *x, KTensor *mean, OpenStat *open, double epsilon,
                              KTensor *spread) {
    Stage *s = lower_stat_variance(d, x, mean, open, spread);
    def_finish(d, s, spread_of(d->k, s->finish, epsilon));
}

/* y = (x - mean) * factor + bias, all but x given as expressions. */
static void finish_normalized(Def *d, Stage *s, KTensor *x, const KExpr *mean, const KExpr *factor,
                              const KExpr *bias) {
    KCtx *k = d->k;
    DType acc = mean->dtype;
    const KExpr *e = k_sub(k, lower_elem(d, s, x, acc), mean);
    e = k_add(k, k_mul(k, e, factor), bias);
    def_map(d, s, k_cast(k, s->out->dtype, e));
}

/* ---- BatchNormalization ---------------------------------------------------------------------- */

bool batch_norm_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 1, MAX_RANK)) return false;
    for (int i = 1; i < 5; i++)
        if (!check_per_channel(m, n, i)) return false;
    bool training = attr_int(n, "training_mode", 0) != 0;
    if (!training && (has_out(n, 1) || has_out(n, 2))) {
        diag_error(m->diag, n->loc,
                   "running mean and variance are outputs of training_mode 1 only");
        return false;
    }
    return infer_same_as(m, n, 0, n->in[0]) && infer_same_as(m, n, 1, n->in[3]) &&
           infer_same_as(m, n, 2, n->in[4]);
}

/* Everything but the channel axis. */
static const KExpr *open_batch(Def *d, Stage *s, const KTensor *x, const KExpr **xi) {
    const KExpr *count = k_int(d->k, 1);
    for (int i = 0; i < x->rank; i++) {
        xi[i] = i == 1 ? def_axis(d, s, 0) : def_reduce_axis(d, s, "r", x->dims[i]);
        if (i != 1) count = k_mul(d->k, count, x->dims[i]);
    }
    return count;
}

/* running = old * momentum + batch's * (1 - momentum) */
static void lower_running(Def *d, KTensor *old, KTensor *batch, double momentum, KTensor *out) {
    KCtx *k = d->k;
    DType acc = batch->dtype;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *a = k_mul(k, lower_elem(d, s, old, acc), k_const(k, acc, momentum));
    const KExpr *b = k_mul(k, lower_elem(d, s, batch, acc), k_const(k, acc, 1 - momentum));
    def_map(d, s, k_cast(k, out->dtype, k_add(k, a, b)));
}

/* scale / sqrt(var + epsilon) of each channel: a constant where these are, whoever divides. */
static KTensor *lower_batch_factor(Def *d, KTensor *var, KTensor *scale, double epsilon) {
    KCtx *k = d->k;
    DType acc = acc_dtype(var->dtype);
    KTensor *factor = def_temp(d, "factor", acc, 1, var->dims);
    Stage *s = def_begin(d, FORM_MAP, factor);
    const KExpr *c = def_axis(d, s, 0);
    const KExpr *spread = spread_of(k, channel_value(d, acc, var, c), epsilon);
    def_map(d, s, k_mul(k, channel_value(d, acc, scale, c), spread));
    return factor;
}

void batch_norm_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *mean = def_in(d, 3), *var = def_in(d, 4);
    DType acc = acc_dtype(x->dtype);
    if (attr_int(n, "training_mode", 0)) {
        double momentum = attr_float(n, "momentum", 0.9f);
        KTensor *old_mean = mean, *old_var = var;
        mean = def_temp(d, "mean", acc, 1, old_mean->dims);
        var = def_temp(d, "variance", acc, 1, old_mean->dims);
        lower_stat_mean(d, x, open_batch, mean);
        lower_stat_variance(d, x, mean, open_batch, var);
        if (has_out(n, 1)) lower_running(d, old_mean, mean, momentum, def_out(d, 1));
        if (has_out(n, 2)) lower_running(d, old_var, var, momentum, def_out(d, 2));
    }
    if (!has_out(n, 0)) return;
    KTensor *factor = lower_batch_factor(d, var, def_in(d, 1), attr_float(n, "epsilon", 1e-5f));
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *c = x->rank > 1 ? def_axis(d, s, 1) : k_int(d->k, 0);
    finish_normalized(d, s, x, channel_value(d, acc, mean, c), channel_value(d, acc, factor, c),
                      channel_value(d, acc, def_in(d, 2), c));
}

/* ---- InstanceNormalization ------------------------------------------------------------------- */

bool instance_norm_infer(Module *m, Node *n) {
    return check_dtype(m, n, 0, DTM_FLOATS) && infer_rank(m, n, 0, 2, MAX_RANK) &&
           check_per_channel(m, n, 1) && check_per_channel(m, n, 2) &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* The positions of one (n, c). */
static const KExpr *open_instance(Def *d, Stage *s, const KTensor *x, const KExpr **xi) {
    const KExpr *count = k_int(d->k, 1);
    for (int i = 0; i < x->rank; i++) {
        xi[i] = i < 2 ? def_axis(d, s, i) : def_reduce_axis(d, s, "r", x->dims[i]);
        if (i >= 2) count = k_mul(d->k, count, x->dims[i]);
    }
    return count;
}

void instance_norm_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0);
    DType acc = acc_dtype(x->dtype);
    KTensor *mean = def_temp(d, "mean", acc, 2, x->dims),
            *spread = def_temp(d, "spread", acc, 2, x->dims);
    lower_stat_mean(d, x, open_instance, mean);
    lower_stat_spread(d, x, mean, open_instance, attr_float(n, "epsilon", 1e-5f), spread);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *nc[2] = {def_axis(d, s, 0), def_axis(d, s, 1)};
    const KExpr *scale = channel_value(d, acc, def_in(d, 1), nc[1]);
    finish_normalized(d, s, x, def_at(d, mean, nc, 2),
                      k_mul(d->k, scale, def_at(d, spread, nc, 2)),
                      channel_value(d, acc, def_in(d, 2), nc[1]));
}

/* ---- GroupNormalization ---------------------------------------------------------------------- */

bool group_norm_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 2, MAX_RANK) ||
        !check_per_channel(m, n, 1) || !check_per_channel(m, n, 2))
        return false;
    int64_t groups = attr_int(n, "num_groups", 0), channels;
    if (!check_attr_int(m, n, "num_groups", groups, 1, INT32_MAX)) return false;
    if (shape_dim_int(n->in[0]->shape, 1, &channels) && channels % groups) {
        diag_error(m->diag, n->loc, "num_groups is %lld, must divide the %lld channels",
                   (long long)groups, (long long)channels);
        return false;
    }
    return infer_same_as(m, n, 0, n->in[0]);
}

/* The channels and positions of one (n, group); the group count is the stage's dim 1. */
static const KExpr *open_group(Def *d, Stage *s, const KTensor *x, const KExpr **xi) {
    KCtx *k = d->k;
    const KExpr *in_group = k_fdiv(k, x->dims[1], s->out->dims[1]), *count = in_group;
    xi[0] = def_axis(d, s, 0);
    xi[1] = k_mul(k, def_axis(d, s, 1), in_group);
    xi[1] = k_add(k, xi[1], def_reduce_axis(d, s, "c", in_group));
    for (int i = 2; i < x->rank; i++) {
        xi[i] = def_reduce_axis(d, s, "r", x->dims[i]);
        count = k_mul(k, count, x->dims[i]);
    }
    return count;
}

void group_norm_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    DType acc = acc_dtype(x->dtype);
    const KExpr *groups = k_int(k, attr_int(n, "num_groups", 1)), *dims[2] = {x->dims[0], groups};
    KTensor *mean = def_temp(d, "mean", acc, 2, dims);
    KTensor *spread = def_temp(d, "spread", acc, 2, dims);
    lower_stat_mean(d, x, open_group, mean);
    lower_stat_spread(d, x, mean, open_group, attr_float(n, "epsilon", 1e-5f), spread);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *c = def_axis(d, s, 1);
    const KExpr *at[2] = {def_axis(d, s, 0), k_fdiv(k, c, k_fdiv(k, x->dims[1], groups))};
    const KExpr *scale = channel_value(d, acc, def_in(d, 1), c);
    finish_normalized(d, s, x, def_at(d, mean, at, 2), k_mul(k, scale, def_at(d, spread, at, 2)),
                      channel_value(d, acc, def_in(d, 2), c));
}

/* ---- LRN ------------------------------------------------------------------------------------- */

bool lrn_infer(Module *m, Node *n) {
    return check_dtype(m, n, 0, DTM_FLOATS) && infer_rank(m, n, 0, 2, MAX_RANK) &&
           check_attr_int(m, n, "size", attr_int(n, "size", 0), 1, INT32_MAX) &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* sum^beta, of what is not negative: the usual 0.75 by two square roots, a third of a power's
 * time. */
static const KExpr *lrn_power(KCtx *k, const KExpr *sum, double beta, bool is_negative) {
    if (is_negative || (beta != 0.75 && beta != 0.5))
        return k_pow(k, sum, k_const(k, sum->dtype, beta));
    const KExpr *root = k_sqrt(k, sum);
    return beta == 0.5 ? root : k_mul(k, root, k_sqrt(k, root));
}

void lrn_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    DType acc = acc_dtype(x->dtype);
    int64_t size = attr_int(n, "size", 1);
    const KExpr *xi[MAX_RANK], *at[MAX_RANK];
    Stage *s = def_begin(d, FORM_REDUCE, def_out(d, 0));
    lower_axes(d, s, at);
    lower_axes(d, s, xi);
    /* neighbours before and behind, no more than there can be channels */
    int64_t most = x->dims[1]->hi > 1 ? x->dims[1]->hi - 1 : 0;
    int64_t before = (size - 1) / 2 < most ? (size - 1) / 2 : most;
    int64_t behind = size / 2 < most ? size / 2 : most;
    const KExpr *c = def_reduce_axis(d, s, "c", k_int(k, before + behind + 1));
    xi[1] = k_sub(k, k_add(k, at[1], c), k_int(k, before));
    const KExpr *e =
        k_cast(k, acc, def_at_if(d, x, xi, x->rank, lower_inside(d, xi[1], x->dims[1])));
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), k_mul(k, e, e));
    double alpha = attr_float(n, "alpha", 0.0001f) / (double)size;
    const KExpr *sum = k_mul(k, def_acc(d, s), k_const(k, acc, alpha));
    double bias = attr_float(n, "bias", 1);
    sum = k_add(k, sum, k_const(k, acc, bias));
    const KExpr *power = lrn_power(k, sum, attr_float(n, "beta", 0.75), alpha < 0 || bias < 0);
    def_finish(d, s, k_cast(k, x->dtype, k_div(k, def_at_as(d, acc, x, at, x->rank), power)));
}
