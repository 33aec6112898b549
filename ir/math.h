/* Transcendental functions as kernel IR: the MATH rows of kops.def in terms of the other rows.
 *
 * Every expansion is free of branches and of calls: arithmetic, comparisons, select, casts and
 * bitcasts, so that a loop over lanes stays a loop of vector code. docs/math.md has the method and
 * the measured error of each function. f16 and bf16 compute in f32. */
#ifndef SMELT_IR_MATH_H
#define SMELT_IR_MATH_H

#include "ir/kernel.h"
#include "ir/target.h"

/* Instructions that expansions may use; results differ in the last bit. */
typedef struct MathUnits {
    bool fma;   /* fused multiply-adds */
    bool ldexp; /* multiplications by a power of two, with fma only */
    bool roots; /* sixteenth roots of two of f32 (root16), with fma only */
} MathUnits;

/* e, where it rounds to whole numbers between bounds, in cheaper operations (math_round.c). */
const KExpr *math_expand_rounding(KCtx *k, const KExpr *e, bool fma);
/* e, a cast to an integer that saturates a rounded quotient, without the division, where divisor
 * and zero point are the same for all lanes (math_quotient.c); varies[id]: does the variable differ
 * by lane, or might it? */
const KExpr *math_expand_quotient(KCtx *k, const KExpr *e, const uint8_t *varies);
/* Is e what such a cast is of? */
bool math_is_quotient(KCtx *k, const KExpr *e, const uint8_t *varies);
/* Rewrites every expression of the kernel so that no MATH node is left. */
void kernel_expand_math(KCtx *k, Kernel *kn, const Target *t);
/* The same for a block, and for all kernels and the entry of a module. */
void kblock_expand_math(KCtx *k, KBlock *b, MathUnits units);
void kmodule_expand_math(KModule *m, const Target *t);

#endif
