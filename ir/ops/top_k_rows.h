/* TopK of rows along an axis, one by one. */
#ifndef SMELT_IR_OPS_TOP_K_ROWS_H
#define SMELT_IR_OPS_TOP_K_ROWS_H

#include "ir/define.h"

/* Nanoseconds on a processor of 2023 for a row along memory of n_elems elements (n, or that many are
 * usual), of which a known count is wanted. */
double top_k_row_cost(DType t, const KExpr *n_elems, const KExpr *count, int64_t n);
/* The stage that defines values and indices. */
void top_k_in_rows(Def *d, KTensor *x, int axis, bool largest, KTensor *values, KTensor *indices);

#endif
