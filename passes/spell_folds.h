/* Folds of a few tensors that a Concat put side by side: see spell_folds.c. */
#ifndef SMELT_PASSES_SPELL_FOLDS_H
#define SMELT_PASSES_SPELL_FOLDS_H

#include "ir/define.h"

/* Needs the users of tensors, and keeps them right; true when the fold s became a map. */
bool spell_fold(DefProgram *p, Stage *s);

#endif
