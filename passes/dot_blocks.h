/* Part of choose_schedules: dot products of bytes whose scales hold for blocks of the sum. */
#ifndef SMELT_PASSES_DOT_BLOCKS_H
#define SMELT_PASSES_DOT_BLOCKS_H

#include "ir/schedule.h"

/* Rewrites a contraction of quantized values with packed constants so that a step is a whole block,
 * and leaves its tile in *sch; false where it is something else. */
bool use_block_products(DefProgram *p, Stage *s, Schedule *sch);
/* Packs constants of 4 bits that a contraction multiplies by scales of blocks. `in_runs`: its steps
 * become sums in runs, a block each, and the scale is multiplied by those. Nothing is done to other
 * contractions. */
void use_block_sums(DefProgram *p, Stage *s, bool in_runs);

#endif
