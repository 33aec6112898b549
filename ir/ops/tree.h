/* Tree ensembles as tables: what TreeEnsembleRegressor and TreeEnsembleClassifier share. */
#ifndef SMELT_IR_OPS_TREE_H
#define SMELT_IR_OPS_TREE_H

#include "ir/ops/ml.h"

typedef enum {
    TREE_LEAF,
    TREE_LEQ,
    TREE_LT,
    TREE_GTE,
    TREE_GT,
    TREE_EQ,
    TREE_NEQ,
    TREE_MODES
} TreeMode;

/* All trees' nodes in one numbering. A walk starts at a root and ends at a leaf: checked. */
typedef struct Ensemble {
    int n_nodes, n_trees, n_weights;
    bool wide;                                    /* thresholds and sums are f64 */
    int64_t *feature, *mode, *yes, *no, *missing; /* of node i; yes and no are -1 in leaves */
    double *threshold;
    int64_t *root;   /* of tree t */
    int64_t *first;  /* weights of node i: first[i] .. first[i + 1] - 1 */
    int64_t *target; /* of weight w */
    double *weight;
    uint32_t modes; /* bit per mode that occurs */
    bool any_missing;
    int n_base;
    double *base;
} Ensemble;

/* The condition of a branch's mode. */
const KExpr *tree_compare(KCtx *k, TreeMode mode, const KExpr *x, const KExpr *to);

/* Do all branches compare in the same way? False where there are none. */
bool tree_has_one_mode(const Ensemble *e);
/* How they compare, then. */
TreeMode tree_branch_mode(const Ensemble *e);
/* target[tree] where all leaves of a tree have one weight, for the same target; else false. */
bool tree_find_targets(Arena *a, const Ensemble *e, int64_t *target);
/* Has every leaf a weight for each target, in order? */
bool tree_has_all_targets(const Ensemble *e, int64_t n_targets);

/* Reads and checks the attributes; prefix is "target" or "class", targets are below n_targets. */
bool ensemble_read(Module *m, const Node *n, const char *prefix, int64_t n_targets, Ensemble *e);

/* The same for TreeEnsemble of version 5, which has no base values. */
bool ensemble_read_5(Module *m, const Node *n, int64_t n_targets, Ensemble *e);

#endif
