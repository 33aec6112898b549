/* Inverse (com.microsoft's): inverses of square matrices, by Gauss and Jordan's elimination with
 * row pivots.
 *
 * A program: each matrix is copied into scratch memory in f64 with the identity beside it, as rows
 * of 2 * size elements. Column after column, the row with the largest magnitude goes up, is divided
 * by the pivot and taken from all other rows; then the right half is the inverse. A singular matrix
 * divides by zero and gives infinities and NaN. */
#include "ir/ops/elimination.h"

bool inverse_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 2, MAX_RANK)) return false;
    Shape x = n->in[0]->shape;
    return check_dim(m, n, 0, x.rank - 1, x.dims[x.rank - 2], "matrices are square") &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* The matrix and, beside it, the identity. */
static void fill(const Rows *m, Def *d, KTensor *x, const KExpr *matrix) {
    KBuild *b = m->b;
    KCtx *k = b->k;
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", m->size),
                *j = kb_for(b, LOOP_SERIAL, "j", m->size);
    const KExpr *at = k_add(k, k_mul(k, k_add(k, k_mul(k, matrix, m->size), i), m->size), j);
    kb_store(b, m->buf, rows_place(m, i, j), k_cast(k, DT_F64, lower_at_flat(d, x, at)));
    kb_store(b, m->buf, rows_place(m, i, k_add(k, j, m->size)), k_cast(k, DT_F64, k_eq(k, i, j)));
    kb_end(b);
    kb_end(b);
}

/* Row `step` divided by its pivot and taken from all others. */
static void eliminate(const Rows *m, const KExpr *step) {
    KBuild *b = m->b;
    KCtx *k = b->k;
    const KExpr *pivot = kb_let(b, "pivot", rows_element(m, step, step));
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", m->width);
    kb_store(b, m->buf, rows_place(m, step, j), k_div(k, rows_element(m, step, j), pivot));
    kb_end(b);
    const KExpr *row = kb_for(b, LOOP_SERIAL, "i", m->size);
    kb_if(b, k_ne(k, row, step));
    const KExpr *factor = kb_let(b, "factor", rows_element(m, row, step));
    j = kb_for(b, LOOP_SERIAL, "j", m->width);
    const KExpr *part = k_mul(k, factor, rows_element(m, step, j));
    kb_store(b, m->buf, rows_place(m, row, j), k_sub(k, rows_element(m, row, j), part));
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

void inverse_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *size = x->dims[x->rank - 1], *dims[MAX_RANK], *count = k_int(k, 1);
    for (int i = 0; i < x->rank; i++) dims[i] = x->dims[i];
    for (int i = 0; i + 2 < x->rank; i++) count = k_mul(k, count, x->dims[i]);
    dims[x->rank - 1] = k_mul(k, size, k_int(k, 2));
    KTensor *work = def_temp(d, "work", DT_F64, x->rank, dims), *outs[2] = {out, work};
    Stage *s = def_program(d, outs, 2);
    const KExpr *matrix = kb_for(b, LOOP_PARALLEL, "matrix", count);
    Rows m = {.b = b, .buf = work->buf, .size = size, .width = dims[x->rank - 1]};
    m.base = kb_let(b, "base", k_mul(k, matrix, k_mul(k, size, m.width)));
    m.best = kb_alloc(b, MEM_REG, DT_I64, "best", 1);
    fill(&m, d, x, matrix);
    const KExpr *step = kb_for(b, LOOP_SERIAL, "step", size);
    rows_raise_pivot(&m, step);
    eliminate(&m, step);
    kb_end(b);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", size), *j = kb_for(b, LOOP_SERIAL, "j", size);
    const KExpr *at = k_add(k, k_mul(k, k_add(k, k_mul(k, matrix, size), i), size), j);
    kb_store(b, out->buf, at, k_cast(k, out->dtype, rows_element(&m, i, k_add(k, j, size))));
    kb_end(b);
    kb_end(b);
    kb_end(b);
    def_end_program(d, s);
}
