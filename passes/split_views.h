/* Maps behind a view of a contraction's result: see split_views.c. */
#ifndef SMELT_PASSES_SPLIT_VIEWS_H
#define SMELT_PASSES_SPLIT_VIEWS_H

#include "ir/define.h"

/* Needs the users of tensors, and keeps them right; true when the map became a view of a new one
 * before it, which the contraction can store. */
bool compute_before_view(DefProgram *p, Stage *map);

/* Is the map nothing but the contraction's result with its rows as axes of their own and the
 * vectors' axis as channels, read by convolutions' windows only? index: of its only read. */
bool makes_windows(DefProgram *p, const Stage *contraction, const Stage *map,
                   const KExpr *const *index);

/* Does s read one place of t, one of its axes being two of t's, for a single reader? */
bool is_split_view(KCtx *k, const Stage *s);

#endif
