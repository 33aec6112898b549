/* Quantized values in expressions: what is an integer of a byte tensor, less its zero point, and
 * what is such an integer in steps of a scale. Shared by the passes that compute with them. */
#ifndef SMELT_PASSES_INTEGERS_H
#define SMELT_PASSES_INTEGERS_H

#include "ir/define.h"

/* inside ? i32(at) - zero : 0 */
typedef struct IntFactor {
    const KExpr *at;     /* of a u8 or i8 tensor, with its predicate if it has one */
    const KExpr *zero;   /* i32; NULL is 0 */
    const KExpr *inside; /* NULL is always */
} IntFactor;

/* Is the i32 expression e of this form? `zero` reads without predicates. */
bool match_int_factor(KCtx *k, const KExpr *e, IntFactor *f);
/* Is the f32 expression e an integer factor in steps of a scale (NULL is 1): *factor * scale?
 * Predicates on what only the scale reads are dropped. */
bool match_scaled_int(KCtx *k, const KExpr *e, const KExpr **factor, const KExpr **scale);
/* The largest magnitude of a factor. */
int64_t int_factor_bound(const IntFactor *f);
/* What a contract's sum of such products is at most in magnitude; 0 when its length is not known.
 */
double int_sum_bound(const Stage *s, const IntFactor *l, const IntFactor *r);
/* e with every predicate equal to `inside` taken off its reads. */
const KExpr *drop_predicate(KCtx *k, const KExpr *e, const KExpr *inside);
/* The axes of s's result that e uses, with their extents; returns how many. */
int stage_axes_of(KCtx *k, const Stage *s, const KExpr *e, KVar **axis, const KExpr **extent);
/* e, over the axes of s, computed at compile time: a number, or a read of a new table over those
 * axes that e uses. NULL when something that e reads is no constant. */
const KExpr *tabulate_constant(DefProgram *p, Stage *s, const char *name, const KExpr *e);
/* The i32 word of four i32 of 0 to 255, or of two of 0 to 65535, the first one lowest; NULL: 0. */
const KExpr *join_parts(KCtx *k, const KExpr *const *part, int n);
/* Is every element of what tabulate_constant gave 0? */
bool constant_is_zero(KCtx *k, const KExpr *e);
/* Are two of them (f32) the same up to a few roundings, at every index? */
bool constants_agree(KCtx *k, const KExpr *a, const KExpr *b);

#endif
