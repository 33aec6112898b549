/* MatMul and Gemm: sums of products over a shared axis.
 *
 *   MatMul  y[batch..., i, j] = sum over k of a[batch..., i, k] * b[batch..., k, j]; the batch axes
 *           broadcast; a 1-D a is one row, a 1-D b one column, and that axis leaves the result
 *   Gemm    y[i, j] = alpha * (sum over k of a[i, k] * b[k, j]) + beta * c, a and b transposed on
 *           demand
 *
 * f16 and bf16 accumulate in f32; integers wrap in their own width. */
#include "ir/ops/check.h"

#define DTM_FACTORS (DTM_FLOATS | DTM(I32) | DTM(U32) | DTM(I64) | DTM(U64))

static bool check_factors(Module *m, const Node *n) {
    return check_dtype(m, n, 0, DTM_FACTORS) && check_same_dtype(m, n, 1, 0);
}

/* The summed axes of both factors have one length. */
static bool check_inner(Module *m, const Node *n, int a_axis, int b_axis) {
    Shape a = n->in[0]->shape, b = n->in[1]->shape;
    if (infer_same_dim(m, n, a.dims[a_axis], b.dims[b_axis])) return true;
    diag_error(
        m->diag, n->loc,
        "shapes %s and %s do not multiply: axis %d of input 0 is %lld, axis %d of input 1 is %lld",
        shape_text(m->scratch, a), shape_text(m->scratch, b), a_axis,
        (long long)a.dims[a_axis]->u.i, b_axis, (long long)b.dims[b_axis]->u.i);
    return false;
}

/* The batch axes broadcast; two that are not 1 are equal. */
static bool infer_batch(Module *m, const Node *n, Shape a, Shape b, Shape *batch) {
    if (!shape_broadcast(m->k, a, b, batch)) return false;
    for (int i = 1; i <= a.rank && i <= b.rank; i++) {
        const KExpr *x = a.dims[a.rank - i], *y = b.dims[b.rank - i];
        if (!k_is_value(x, 1) && !k_is_value(y, 1)) infer_same_dim(m, n, x, y);
    }
    return true;
}

bool matmul_infer(Module *m, Node *n) {
    if (!check_factors(m, n) || !infer_rank(m, n, 0, 1, MAX_RANK) ||
        !infer_rank(m, n, 1, 1, MAX_RANK))
        return false;
    Shape a = n->in[0]->shape, b = n->in[1]->shape, batch;
    if (!check_inner(m, n, a.rank - 1, b.rank > 1 ? b.rank - 2 : 0)) return false;
    Shape a_batch = {a.rank > 2 ? a.rank - 2 : 0, a.dims},
          b_batch = {b.rank > 2 ? b.rank - 2 : 0, b.dims};
    if (!infer_batch(m, n, a_batch, b_batch, &batch)) {
        diag_error(m->diag, n->loc, "the batch axes of shapes %s and %s do not broadcast",
                   shape_text(m->scratch, a), shape_text(m->scratch, b));
        return false;
    }
    Shape out = shape_make(m->arena, batch.rank + (a.rank > 1) + (b.rank > 1));
    int r = 0;
    for (; r < batch.rank; r++) out.dims[r] = batch.dims[r];
    if (a.rank > 1) out.dims[r++] = a.dims[a.rank - 2];
    if (b.rank > 1) out.dims[r++] = b.dims[b.rank - 1];
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void matmul_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *a = def_in(d, 0), *b = def_in(d, 1), *y = def_out(d, 0);
    Stage *s = def_begin(d, FORM_CONTRACT, y);
    const KExpr *ai[MAX_RANK + 1], *bi[MAX_RANK + 1];
    int batch = y->rank - (a->rank > 1) - (b->rank > 1), ra = batch, rb = batch;
    const KExpr *c = def_reduce_axis(
        d, s, "k", dim_shared(a->dims[a->rank - 1], b->dims[b->rank > 1 ? b->rank - 2 : 0]));
    for (int i = 0; i < batch; i++) ai[i] = bi[i] = def_axis(d, s, i);
    if (a->rank > 1) ai[ra++] = def_axis(d, s, batch);
    ai[ra++] = bi[rb++] = c;
    if (b->rank > 1) bi[rb++] = def_axis(d, s, y->rank - 1);
    DType acc = acc_dtype(y->dtype);
    def_contract(d, s, acc, def_at_as(d, acc, a, ai, ra), def_at_as(d, acc, b, bi, rb));
    def_finish(d, s, k_cast(d->k, y->dtype, def_acc(d, s)));
}

/* ---- Gemm ------------------------------------------------------------------------------------ */

bool gemm_infer(Module *m, Node *n) {
    if (!check_factors(m, n) || !check_same_dtype(m, n, 2, 0) || !infer_rank(m, n, 0, 2, 2) ||
        !infer_rank(m, n, 1, 2, 2))
        return false;
    bool ta = attr_int(n, "transA", 0) != 0, tb = attr_int(n, "transB", 0) != 0;
    if (!check_inner(m, n, ta ? 0 : 1, tb ? 1 : 0)) return false;
    Shape out = shape_make(m->arena, 2);
    out.dims[0] = n->in[0]->shape.dims[ta ? 1 : 0];
    out.dims[1] = n->in[1]->shape.dims[tb ? 0 : 1];
    return check_broadcasts_to(m, n, 2, out) && infer_set(m, n, 0, n->in[0]->dtype, out);
}

static const KExpr *scale(KCtx *k, const KExpr *e, double by) {
    return by == 1 ? e : k_mul(k, e, k_const(k, e->dtype, by));
}

/* alpha and beta of integers count in f64; the sum is truncated to the integer. */
static DType scaled_dtype(const Node *n, DType acc) {
    bool scaled = attr_float(n, "alpha", 1) != 1 || attr_float(n, "beta", 1) != 1;
    return scaled && !dtype_is_float(acc) ? DT_F64 : acc;
}

void gemm_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *a = def_in(d, 0), *b = def_in(d, 1), *c = def_in(d, 2), *y = def_out(d, 0);
    bool ta = attr_int(n, "transA", 0) != 0, tb = attr_int(n, "transB", 0) != 0;
    Stage *s = def_begin(d, FORM_CONTRACT, y);
    const KExpr *ij[2],
        *e = def_reduce_axis(d, s, "k", dim_shared(a->dims[ta ? 0 : 1], b->dims[tb ? 1 : 0]));
    lower_axes(d, s, ij);
    const KExpr *ai[2] = {ta ? e : ij[0], ta ? ij[0] : e},
                *bi[2] = {tb ? ij[1] : e, tb ? e : ij[1]};
    DType acc = acc_dtype(y->dtype);
    def_contract(d, s, acc, def_at_as(d, acc, a, ai, 2), def_at_as(d, acc, b, bi, 2));
    DType wide = scaled_dtype(n, acc);
    const KExpr *sum = scale(k, k_cast(k, wide, def_acc(d, s)), attr_float(n, "alpha", 1));
    double beta = attr_float(n, "beta", 1);
    if (c && beta != 0) sum = k_add(k, sum, scale(k, def_at_as(d, wide, c, ij, 2), beta));
    def_finish(d, s, k_cast(k, y->dtype, sum));
}
