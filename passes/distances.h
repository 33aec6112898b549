/* Sums of squared or absolute differences as contractions. */
#ifndef SMELT_PASSES_DISTANCES_H
#define SMELT_PASSES_DISTANCES_H

#include "ir/define.h"

/* Turns a sum of (a - b)^2 or |a - b|, where a and b are shared by different elements of the
 * result, into a contraction of a and b; false where s is none. */
bool contract_distances(DefProgram *p, Stage *s);
/* The way back, for one that got no schedule. */
void reduce_distances(DefProgram *p, Stage *s);

#endif
