/* Trees evaluated for blocks of rows: the lanes of vectors are rows, and all branches are taken. */
#ifndef SMELT_IR_OPS_TREE_ROWS_H
#define SMELT_IR_OPS_TREE_ROWS_H

#include "ir/ops/tree.h"

typedef struct RowTrees {
    const Ensemble *e;
    int64_t n_targets;
    int width;                /* leaves of a piece: 16 or 32 */
    int vectors;              /* of rows in a block */
    int64_t n_pieces, n_sums; /* n_sums: of a row */
    int64_t n_columns, n_tracked, least;
    /* Of piece p: the nodes first[p] .. first[p + 1] - 1, and the sum that it belongs to (NULL: the
     * only one, or all). Of a node: its column, and the leaves that stay when it is false. */
    KTensor *first, *to, *column, *threshold, *keep;
    KTensor *value;   /* of leaves by their place in the piece, n_sums or one of them */
    KTensor *feature; /* of a column, NULL where they are all of x */
    KTensor *source;  /* of a column with tracked NaNs: the one without */
    bool has_all;     /* columns begin with all features */
    bool by_lanes;    /* the sum of a tree is that of its lane in tree_lanes.c */
    bool is_dense;    /* leaves have a value for each target */
} RowTrees;

/* Makes the tables; false where walks of walk_cycles for a row are better, or for what has no such
 * form. n_rows: how many, negative where that is not known. by_lanes: see above. */
bool row_trees_make(Def *d, const Ensemble *e, int64_t n_targets, bool by_lanes, int64_t n_rows,
                    int64_t walk_cycles, RowTrees *t);
int64_t row_trees_rows(const RowTrees *t); /* rows of a block; from t->least on it pays */
/* raw[row, target] for `here` rows from `first` on. */
void row_trees_fold(Def *d, const RowTrees *t, const KExpr *first, const KExpr *here, KBuf *raw);

#endif
