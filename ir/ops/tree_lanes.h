/* Trees walked in lockstep: the lanes of vectors are trees, for one row at a time. */
#ifndef SMELT_IR_OPS_TREE_LANES_H
#define SMELT_IR_OPS_TREE_LANES_H

#include "ir/ops/tree.h"

enum { MOST_TREE_VECTORS = 7, MOST_LEAF_WEIGHTS = 32 };

typedef struct LaneTrees {
    const Ensemble *e;
    DType type;            /* of thresholds and values */
    int vectors, n_groups; /* vectors of trees in a group */
    /* Levels whose nodes are in rows of all lanes, with leaves repeated below: the root's row, then
     * those of its true and its false child, and so on. The next level is in such rows too. */
    int top;
    int levels;                       /* that are walked without asking whether all is done */
    bool asks;                        /* and more of them until it is */
    bool relative;                    /* children are numbered from their tree's base */
    int feature_bits;                 /* of a step */
    int64_t n_features;               /* up to the last one that is asked for */
    KTensor *step, *threshold, *base; /* threshold NULL: in the upper half of an i64 step */
    KTensor *top_step, *top_threshold;
    /* Of the leaf: its only value, for target[tree] unless that is NULL; or one for each target; or
     * (value NULL) the ensemble's number of the node. */
    KTensor *value, *target, *old;
    bool is_dense; /* value is one for each target */
} LaneTrees;

/* Makes the tables; false when there are too few trees, or they are too large or mix comparisons.
 * n_targets 0: the ensemble's numbers are wanted. */
bool lane_trees_make(Def *d, const Ensemble *e, DType type, int64_t n_targets, LaneTrees *t);
int64_t lane_trees_lanes(const LaneTrees *t);  /* trees of a group */
int64_t lane_trees_cycles(const LaneTrees *t); /* a row's, about */
/* The row's features where lanes find them quickly; NULL where there are too many. */
KBuf *lane_trees_row(Def *d, const LaneTrees *t, const KExpr *row);
/* Walks the trees of a group for a row: the leaf (i32) of each lane, lanes without a tree at one
 * whose values are 0; or what is asked of it, its only value, where that is no detour. */
KBuf *lane_trees_walk(Def *d, const LaneTrees *t, const KExpr *row, KBuf *features,
                      const KExpr *group);

/* For each lane of a group what the ensemble's fold goes on with: its leaf's only value, else the
 * leaf (i32), in memory. */
KBuf *lane_trees_leaves(Def *d, const LaneTrees *t, KBuf *node);

/* The sum over all trees of leaves that have a single value: begun, with a group added, and as a
 * number. */
KBuf *lane_trees_sums(Def *d);
void lane_trees_add(Def *d, const LaneTrees *t, KBuf *node, KBuf *sums);
const KExpr *lane_trees_total(Def *d, KBuf *sums);

#endif
