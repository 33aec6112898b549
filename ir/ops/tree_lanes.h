/* Trees walked in lockstep: the lanes of a vector are trees, for one row at a time. */
#ifndef SMELT_IR_OPS_TREE_LANES_H
#define SMELT_IR_OPS_TREE_LANES_H

#include "ir/ops/tree.h"

enum { MOST_TREE_LANES = 64 };

typedef struct LaneTrees {
    const Ensemble *e;
    DType type; /* of thresholds and values */
    int lanes, n_groups;                      /* lanes: trees of a group */
    KTensor *step, *threshold, *root, *depth; /* threshold NULL: in the upper half of an i64 step */
    KTensor *value; /* of the leaf, when each has one for the only target; else NULL */
    KTensor *old;   /* the ensemble's number of the node, when value is NULL */
} LaneTrees;

/* Makes the tables; false when there are too few trees, or they are too large or mix comparisons. */
bool lane_trees_make(Def *d, const Ensemble *e, DType type, int64_t n_targets, LaneTrees *t);
/* Walks the trees of a group for a row. result gets, for each lane, the leaf's value or the
 * ensemble's number of the leaf (i32); the number of lanes that are trees is returned. */
const KExpr *lane_trees_walk(Def *d, const LaneTrees *t, const KExpr *row, const KExpr *group,
                             KBuf *result);

#endif
