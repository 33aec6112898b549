/* What a contraction's terms have in common goes into its store: see pull_factors.c. */
#ifndef SMELT_PASSES_PULL_FACTORS_H
#define SMELT_PASSES_PULL_FACTORS_H

#include "ir/define.h"

/* Needs the users of tensors, and keeps them right; true when it changed the contraction s (and the
 * map that it reads, which then is without the factor). Other stages are left alone. */
bool pull_factors(DefProgram *p, Stage *s);

#endif
