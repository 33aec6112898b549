/* Folds along what a view made one axis: see split_folds.c. */
#ifndef SMELT_PASSES_SPLIT_FOLDS_H
#define SMELT_PASSES_SPLIT_FOLDS_H

#include "ir/define.h"

/* Axes of the fold that are only read by quotient and remainder become two. */
bool split_folded_axes(KCtx *k, Stage *s);

#endif
