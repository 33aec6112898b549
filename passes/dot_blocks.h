/* Part of choose_schedules: dot products of bytes whose scales hold for blocks of the sum. */
#ifndef SMELT_PASSES_DOT_BLOCKS_H
#define SMELT_PASSES_DOT_BLOCKS_H

#include "ir/schedule.h"

/* Rewrites a contraction of quantized values with packed constants so that a step is a whole block,
 * and leaves its tile in *sch; false where it is something else. */
bool use_block_products(DefProgram *p, Stage *s, Schedule *sch);
/* Rewrites a contraction with packed constants so that their scales are multiplied by the sum of a
 * block each: its steps are sums in runs. Nothing is done to others. */
void use_block_sums(DefProgram *p, Stage *s);

#endif
