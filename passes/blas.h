/* Contractions by a BLAS library: part of choose_schedules under --blas. */
#ifndef SMELT_PASSES_BLAS_H
#define SMELT_PASSES_BLAS_H

#include "ir/define.h"

/* Replaces a contraction that is a matrix product in memory by a call of the library; what follows
 * the sum becomes a map behind it. False, and nothing changed, when it is not one or too small. */
bool blas_take_contract(DefProgram *p, Stage *s);

#endif
