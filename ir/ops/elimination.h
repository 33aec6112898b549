/* What Det and Inverse share: a square matrix in scratch memory, f64, whose columns are eliminated
 * one after the other with row pivots. */
#ifndef SMELT_IR_OPS_ELIMINATION_H
#define SMELT_IR_OPS_ELIMINATION_H

#include "ir/ops/check.h"

/* `size` rows of `width` elements each: element (i, j) is at base + i * width + j. */
typedef struct Rows {
    KBuild *b;
    KBuf *buf, *best; /* best: one i64 of its own */
    const KExpr *base, *size, *width;
} Rows;

const KExpr *rows_place(const Rows *r, const KExpr *i, const KExpr *j);
const KExpr *rows_element(const Rows *r, const KExpr *i, const KExpr *j);
/* Exchanges row `step` with the one, from there on, that has the largest magnitude in column
 * `step`; returns the other's number. */
const KExpr *rows_raise_pivot(const Rows *r, const KExpr *step);

#endif
