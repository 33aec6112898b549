/* Turning rows of vectors into columns, in registers. */
#ifndef SMELT_IR_TURN_H
#define SMELT_IR_TURN_H

#include "ir/kernel.h"

/* rows: n_rows vectors of `lanes` elements (both powers of two, n_rows <= lanes; a number of rows
 * that TURN_ROWS allows). In the buffer that this gives, place r*lanes + c*n_rows + m is what was
 * in row m and column c*n_rows + r. The values are moved as they are: floats of 16 bits and bool
 * should come as integers, which cost no conversions. */
KBuf *turn_rows(KBuild *b, KBuf *rows, int n_rows, int lanes);

/* The most rows at once: one register each, beside those that a step makes. */
enum { TURN_ROWS = 16 };

/* The dtype in which elements are moved, and there and back. */
DType turn_dtype(DType t);
const KExpr *turn_pack(KCtx *k, const KExpr *e);
const KExpr *turn_unpack(KCtx *k, DType t, const KExpr *e);

#endif
