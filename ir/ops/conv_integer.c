/* Convolutions of 8-bit integers, exact in i32.
 *
 *   ConvInteger   acc[n, o, p...] = sum over (c, k...) of (x[...] - x_zero) * (w[o, c, k...] - w_zero[o])
 *   QLinearConv   y = saturate(rint((acc + bias[o]) * (x_scale * w_scale[o] / y_scale)) + y_zero)
 *
 * x is read as x_zero outside. The scales' product and quotient, and the one with the sum, are f32,
 * in this order: that is what onnxruntime computes. A list of one zero point or scale stands for
 * all channels. */
#include "ir/ops/check.h"
#include "ir/ops/conv.h"

/* Zero point or scale i: one value, or `channels` of them in a list. */
static bool check_parameter(Module *m, const Node *n, int i, const KExpr *channels) {
    int64_t count;
    if (!has_in(n, i) || (shape_count_int(n->in[i]->shape, &count) && count == 1)) return true;
    if (!channels) {
        diag_error(m->diag, n->loc, "input %d has shape %s, must be one value", i,
                   shape_text(m->scratch, n->in[i]->shape));
        return false;
    }
    return infer_rank(m, n, i, 1, 1) && check_dim(m, n, i, 0, channels, "output channels");
}

/* The parameter of output channel o, as t. */
static const KExpr *parameter(Def *d, DType t, int i, const KExpr *o) {
    KTensor *p = def_in(d, i);
    bool is_list = p->rank == 1 && !k_is_value(p->dims[0], 1);
    return k_cast(d->k, t, is_list ? def_at(d, p, &o, 1) : lower_scalar(d, p));
}

/* Opens the contraction of x (input 0) and the weights (input w), less their zero points. */
static Stage *contract(Def *d, const Node *n, int w, int x_zero, int w_zero) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weights = def_in(d, w);
    Stage *s = def_begin(d, FORM_CONTRACT, def_out(d, 0));
    ConvReads r;
    conv_reads(d, n, s, x, weights, &r);
    const KExpr *a = k_cast(k, DT_I32, def_at_if(d, x, r.x, x->rank, r.inside));
    const KExpr *b = def_at_as(d, DT_I32, weights, r.w, weights->rank);
    if (def_in(d, x_zero)) {
        a = k_sub(k, a, parameter(d, DT_I32, x_zero, r.w[0]));
        if (r.inside) a = k_select(k, r.inside, a, k_const_i(k, DT_I32, 0));
    }
    if (def_in(d, w_zero)) b = k_sub(k, b, parameter(d, DT_I32, w_zero, r.w[0]));
    def_contract(d, s, DT_I32, a, b);
    return s;
}

/* x, the weights and their zero points: 8-bit integers of fitting ranks, types and lengths. */
static bool check_factors(Module *m, Node *n, int w, int x_zero, int w_zero, Shape *out) {
    if (!check_dtype(m, n, 0, DTM_BYTES) || !check_dtype(m, n, w, DTM_BYTES) ||
        !check_same_dtype(m, n, x_zero, 0) || !check_same_dtype(m, n, w_zero, w) ||
        !infer_rank(m, n, 0, 3, MAX_RANK))
        return false;
    int rank = n->in[0]->shape.rank;
    return infer_rank(m, n, w, rank, rank) && conv_shape(m, n, n->in[w], out) &&
           check_parameter(m, n, x_zero, NULL) && check_parameter(m, n, w_zero, out->dims[1]);
}

bool conv_integer_infer(Module *m, Node *n) {
    Shape out;
    return check_factors(m, n, 1, 2, 3, &out) && infer_set(m, n, 0, DT_I32, out);
}

void conv_integer_lower(Def *d, const Node *n) {
    Stage *s = contract(d, n, 1, 2, 3);
    def_finish(d, s, def_acc(d, s));
}

/* ---- QLinearConv ----------------------------------------------------------------------------- */

enum { X_SCALE = 1, X_ZERO, W, W_SCALE, W_ZERO, Y_SCALE, Y_ZERO, BIAS };

bool qlinear_conv_infer(Module *m, Node *n) {
    Shape out;
    if (!check_factors(m, n, W, X_ZERO, W_ZERO, &out) || !check_dtype(m, n, Y_ZERO, DTM_BYTES) ||
        !check_dtype(m, n, BIAS, DTM(I32)))
        return false;
    static const int scales[] = {X_SCALE, W_SCALE, Y_SCALE};
    for (int i = 0; i < 3; i++)
        if (!check_dtype(m, n, scales[i], DTM(F32)) ||
            !check_parameter(m, n, scales[i], scales[i] == W_SCALE ? out.dims[1] : NULL))
            return false;
    if (!check_parameter(m, n, Y_ZERO, NULL)) return false;
    if (has_in(n, BIAS) && (!infer_rank(m, n, BIAS, 1, 1) ||
                            !check_dim(m, n, BIAS, 0, out.dims[1], "output channels")))
        return false;
    return infer_set(m, n, 0, n->in[Y_ZERO]->dtype, out);
}

void qlinear_conv_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    Stage *s = contract(d, n, W, X_ZERO, W_ZERO);
    const KExpr *o = def_axis(d, s, 1), *sum = def_acc(d, s);
    if (def_in(d, BIAS)) sum = k_add(k, sum, def_at(d, def_in(d, BIAS), &o, 1));
    const KExpr *scale =
        k_mul(k, parameter(d, DT_F32, X_SCALE, o), parameter(d, DT_F32, W_SCALE, o));
    scale = k_div(k, scale, parameter(d, DT_F32, Y_SCALE, o));
    const KExpr *e = k_rint(k, k_mul(k, k_cast(k, DT_F32, sum), scale));
    def_finish(d, s,
               lower_quantized(d, s->out->dtype, k_add(k, e, parameter(d, DT_F32, Y_ZERO, o))));
}
