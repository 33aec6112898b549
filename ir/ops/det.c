/* Det: determinants of square matrices, by elimination with row pivots.
 *
 * A program: each matrix is copied into scratch memory in f64, its columns are eliminated one after
 * the other below the element of largest magnitude, and the diagonal is multiplied up. */
#include "ir/ops/elimination.h"

bool det_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 2, MAX_RANK)) return false;
    Shape x = n->in[0]->shape, out = shape_make(m->arena, x.rank - 2);
    if (!check_dim(m, n, 0, x.rank - 1, x.dims[x.rank - 2], "matrices are square")) return false;
    for (int i = 0; i < out.rank; i++) out.dims[i] = x.dims[i];
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* Rows below `step` minus their multiple of it. */
static void eliminate(const Rows *m, const KExpr *step, const KExpr *pivot) {
    KBuild *b = m->b;
    KCtx *k = b->k;
    const KExpr *next = k_add(k, step, k_int(k, 1)), *rest = k_sub(k, m->size, next);
    kb_if(b, k_ne(k, pivot, k_const(k, DT_F64, 0)));
    const KExpr *row = k_add(k, next, kb_for(b, LOOP_SERIAL, "i", rest));
    const KExpr *factor = kb_let(b, "factor", k_div(k, rows_element(m, row, step), pivot));
    const KExpr *column = k_add(k, next, kb_for(b, LOOP_SERIAL, "j", rest));
    const KExpr *part = k_mul(k, factor, rows_element(m, step, column));
    kb_store(b, m->buf, rows_place(m, row, column), k_sub(k, rows_element(m, row, column), part));
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

void det_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    KTensor *work = def_temp(d, "work", DT_F64, x->rank, x->dims), *outs[2] = {out, work};
    const KExpr *size = x->dims[x->rank - 1], *zero = k_int(k, 0);
    Stage *s = def_program(d, outs, 2);
    const KExpr *matrix = kb_for(b, LOOP_PARALLEL, "matrix", tensor_n_elems(k, out));
    Rows m = {.b = b, .buf = work->buf, .size = size, .width = size};
    m.base = kb_let(b, "base", k_mul(k, matrix, k_mul(k, size, size)));
    KBuf *det = kb_alloc(b, MEM_REG, DT_F64, "det", 1);
    m.best = kb_alloc(b, MEM_REG, DT_I64, "best", 1);
    const KExpr *i = k_add(k, m.base, kb_for(b, LOOP_SERIAL, "i", k_mul(k, size, size)));
    kb_store(b, work->buf, i, k_cast(k, DT_F64, lower_at_flat(d, x, i)));
    kb_end(b);
    kb_store(b, det, zero, k_const(k, DT_F64, 1));
    const KExpr *step = kb_for(b, LOOP_SERIAL, "step", size);
    const KExpr *is_there = k_eq(k, rows_raise_pivot(&m, step), step);
    const KExpr *pivot = kb_let(b, "pivot", rows_element(&m, step, step));
    const KExpr *factor = k_select(k, is_there, pivot, k_neg(k, pivot));
    kb_store(b, det, zero, k_mul(k, k_load(k, det, zero), factor));
    eliminate(&m, step, pivot);
    kb_end(b);
    kb_store(b, out->buf, matrix, k_cast(k, out->dtype, k_load(k, det, zero)));
    kb_end(b);
    def_end_program(d, s);
}
