/* Rows of a matrix that is eliminated with row pivots: see elimination.h.
 *
 * The search keeps the first of several rows of equal magnitude, and a NaN never wins against what
 * is there, so that a result does not depend on how loops are ordered. */
#include "ir/ops/elimination.h"

const KExpr *rows_place(const Rows *r, const KExpr *i, const KExpr *j) {
    KCtx *k = r->b->k;
    return k_add(k, r->base, k_add(k, k_mul(k, i, r->width), j));
}

const KExpr *rows_element(const Rows *r, const KExpr *i, const KExpr *j) {
    return k_load(r->b->k, r->buf, rows_place(r, i, j));
}

const KExpr *rows_raise_pivot(const Rows *r, const KExpr *step) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    kb_store(b, r->best, zero, step);
    const KExpr *row = k_add(k, step, kb_for(b, LOOP_SERIAL, "i", k_sub(k, r->size, step)));
    const KExpr *most = k_abs(k, rows_element(r, k_load(k, r->best, zero), step));
    kb_if(b, k_lt(k, most, k_abs(k, rows_element(r, row, step))));
    kb_store(b, r->best, zero, row);
    kb_end(b);
    kb_end(b);
    const KExpr *best = kb_let(b, "best_row", k_load(k, r->best, zero));
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", r->width);
    const KExpr *p = kb_let(b, "p", rows_element(r, best, j));
    const KExpr *q = kb_let(b, "q", rows_element(r, step, j));
    kb_store(b, r->buf, rows_place(r, best, j), q);
    kb_store(b, r->buf, rows_place(r, step, j), p);
    kb_end(b);
    return best;
}
