/* TopK of rows that lie across memory, a row in each lane. */
#ifndef SMELT_IR_OPS_TOP_K_LANES_H
#define SMELT_IR_OPS_TOP_K_LANES_H

#include "ir/define.h"

/* Nanoseconds on a processor of 2023 for `groups` times `rows` rows of n elements, of which `wanted`
 * ones are; infinite where lanes do not serve. */
double top_k_lanes_cost(DType t, int64_t groups, int64_t rows, int64_t n, int64_t wanted);
/* The stage that defines values and indices, where that is finite. */
void top_k_in_lanes(Def *d, KTensor *x, int axis, bool largest, KTensor *values, KTensor *indices);

#endif
