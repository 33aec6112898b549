/* How far a stage's reads reach beyond a tensor, also where sizes are free. */
#ifndef SMELT_PASSES_HALOS_H
#define SMELT_PASSES_HALOS_H

#include "ir/define.h"

/* The elements before and after axis `axis` of its tensor that `at`, a read of stage s, touches at
 * most; false when that is not a number. */
bool halo_reach(KCtx *k, const Stage *s, const KExpr *at, int axis, int64_t reach[2]);

/* e of stage s, whose reads lose the conjuncts of their predicates that halos of zeros make
 * unnecessary along axes of free size. Where sizes are numbers, opening the stage does that. */
const KExpr *drop_covered(KCtx *k, const Stage *s, const KExpr *e);

#endif
