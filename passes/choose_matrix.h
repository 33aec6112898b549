/* Part of choose_schedules: contractions that run on a matrix unit. */
#ifndef SMELT_PASSES_CHOOSE_MATRIX_H
#define SMELT_PASSES_CHOOSE_MATRIX_H

#include "ir/schedule.h"

/* Schedules s on the target's matrix unit, and packs its right factor, where that fits. sch has the
 * axes. */
bool choose_matrix(DefProgram *p, Stage *s, const Schedule *sch);

#endif
