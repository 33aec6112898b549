/* What a group of row-wise stages saves beyond its calls; part of group_stages. */
#ifndef SMELT_PASSES_GROUP_ROWS_H
#define SMELT_PASSES_GROUP_ROWS_H

#include "passes/pass.h"

typedef struct RowGroup {
    Stage *first, *end; /* first .. the stage before end */
} RowGroup;

/* The powers of a softmax are multiplied by the reciprocal of their row's sum, which is at least 1,
 * rather than divided by it. A map's result lies in the memory of what it replaces element by
 * element, where nobody else needs that. Requires users counted and plain layouts. */
void group_rows_finish(DefProgram *p, const RowGroup *g);

#endif
