/* Types that are stored as another one: small floats (f8, f6, f4, e8m0), integers below a byte, and
 * complex numbers, of which pairs.c has the arithmetic.
 *
 * Kernel IR has them as types of their own until its casts are expanded; then loads, stores and
 * variables move the stored type, and a cast is integer arithmetic on it. What a cast gives:
 *
 *   to f8, f6, f4    nearest, ties to even; too large: infinity, else NaN, else the largest value.
 *                    fnuz types have no -0; f4 and f6 have no NaN either: it gives the zero of the
 *                    other sign
 *   to e8m0          the least power of two that is not below |x|, at least 2^-127, at most 2^127
 *   to i4, u4 ...    through i32 when x is a float; the low bits count
 *   from any         the value, exactly when it fits (every small float fits f32)
 */
#ifndef SMELT_IR_CODE_H
#define SMELT_IR_CODE_H

#include "ir/kernel.h"

/* The value of a small float's code, and the code of a value as `cast` gives it. */
double code_value(DType t, uint8_t code);
uint8_t code_of(DType t, double v);
/* The largest finite value of a small float type. */
double code_largest(DType t);

/* cast(t, a), either of them stored as another type, in terms of bitcasts, casts between types that
 * are stored as themselves, and arithmetic. */
const KExpr *code_cast(KCtx *k, DType t, const KExpr *a);
/* Gives everything in the block (kernel, module) the type that it is stored as; its casts must have
 * been expanded. */
void kblock_store_codes(KCtx *k, KBlock *b);
void kernel_store_codes(KCtx *k, Kernel *kn);
void kmodule_store_codes(KModule *m);

#endif
