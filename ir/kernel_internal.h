/* What the files of kernel IR's expressions share: kernel.c (interning, folding, constructors),
 * kernel_range.c (what values they can have), kernel_index.c (i64 arithmetic as linear forms),
 * kernel_walk.c (rewriting and visiting). */
#ifndef SMELT_IR_KERNEL_INTERNAL_H
#define SMELT_IR_KERNEL_INTERNAL_H

#include "ir/kernel.h"

/* The one node of these operands; nothing is simplified. */
const KExpr *kernel_cons2(KCtx *k, KOp op, DType t, const KExpr *a, const KExpr *b);

/* Division toward minus infinity and its remainder; by 0: 0. */
int64_t kernel_floor_div(int64_t a, int64_t b);
int64_t kernel_floor_mod(int64_t a, int64_t b);
/* Ends of ranges: INT64_MIN and INT64_MAX stand for "no bound" and absorb. */
int64_t kernel_sat_mul(int64_t a, int64_t b);
bool kernel_is_unbounded(int64_t v);
/* What a dtype can hold; no bounds for floats. */
void kernel_dtype_range(DType t, int64_t *lo, int64_t *hi);
/* Fills e->lo, e->hi from the operands' ranges; only i64, bool and what a mask leaves of other
 * integers get more than the dtype's. */
void kernel_set_range(KExpr *e);

/* a + coeff_b * b and so on for i64 operands, simplified. */
const KExpr *kernel_i64_sum(KCtx *k, const KExpr *a, const KExpr *b, int64_t coeff_b);
const KExpr *kernel_i64_mul(KCtx *k, const KExpr *a, const KExpr *b);
const KExpr *kernel_i64_fdiv(KCtx *k, const KExpr *a, const KExpr *b);
const KExpr *kernel_i64_fmod(KCtx *k, const KExpr *a, const KExpr *b);
/* Range of a - b through the linear form, so that common terms cancel. */
void kernel_difference_range(KCtx *k, const KExpr *a, const KExpr *b, int64_t *lo, int64_t *hi);

#endif
