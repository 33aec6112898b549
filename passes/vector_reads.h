/* Part of choose_schedules: how the lanes of a vector read a factor. */
#ifndef SMELT_PASSES_VECTOR_READS_H
#define SMELT_PASSES_VECTOR_READS_H

#include "ir/schedule.h"

/* Does every read in e that depends on the schedule's vector axis walk memory with unit stride
 * along it, and stay in its tensor for whole vectors? */
bool reads_vectors(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch);
/* Are e's reads of dense tensors, with unit stride along it, whose rows may end within a vector? */
bool reads_rows(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch);
/* Is what the lanes of a vector read, relative to what the first one reads, the same for every
 * vector, and within the length of one? Where the last vector sticks out, what it reads has to be
 * memory. */
bool reads_lanes(KCtx *k, const Stage *s, const KExpr *e, const Schedule *sch);

#endif
