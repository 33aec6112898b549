/* Winograd's filtering for a contraction, where it is one that can take it and a model of the cost
 * says that it is worth it; part of choose_schedules. */
#ifndef SMELT_PASSES_CHOOSE_WINOGRAD_H
#define SMELT_PASSES_CHOOSE_WINOGRAD_H

#include "ir/define.h"

/* Sets s->schedule and transforms the weights, which must be constant; false: s is as it was. */
bool choose_winograd(DefProgram *p, Stage *s);

#endif
