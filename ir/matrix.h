/* Contractions on a matrix unit: the contraction template with a tile of tile.h where it has
 * vectors.
 *
 * The stage reads
 *
 *     acc: f32  lhs = f32(x[.., r, .., k]) of bf16 elements
 *               rhs = f32(packed[j // 16, .., k // 32, k % 32 // 2, j % 16, k % 2])
 *     acc: i32  the same of bytes, 64 along k, 4 to a word
 *
 * where neighbours along k are neighbours in x's memory and rows are some step apart. A tile is up
 * to 16 rows (of one axis) by 16 columns; up to four tiles are summed at a time, two rows of tiles
 * by two columns of them mostly, so that each operand that is loaded is used twice. Then they are
 * stored, and finish is applied in vectors. */
#ifndef SMELT_IR_MATRIX_H
#define SMELT_IR_MATRIX_H

#include "ir/schedule.h"

typedef struct Matrix {
    const KExpr *left; /* at() of the rows' tensor */
    KTensor *packed;   /* columns by 16, shared axes, other reduction axes, k by words, words,
                          columns, elements */
    int depth;         /* reduction axis that runs along words */
    int block;         /* elements of it in one product: 64 bytes */
    int most_rows;     /* height of a tile; smaller at the end of an axis */
} Matrix;

/* Does the contraction fit, given sch's axes and the layouts? Fills left, depth and block. The
 * right factor has to be packed yet. */
bool matrix_match(DefProgram *p, const Stage *s, const Schedule *sch, Matrix *x);
/* May a matrix unit read this factor, before layouts and axes are known: does one of its indices
 * run along 64 bytes of 16-bit floats? */
bool matrix_may_read(const Stage *s, const KExpr *at);
/* Rows and columns of sch and the height of tiles, for the least cycles. */
void matrix_tile(const Stage *s, Schedule *sch, Matrix *x);

/* One group of tiles: all of it is stored, but for columns beyond the dim if masked. */
typedef struct MatrixGroup {
    const KExpr *at[MAX_RANK]; /* index of each axis; of rows and columns, of the first */
    int rows[2], n_vecs;       /* as in Schedule */
    bool masked;
} MatrixGroup;
void matrix_open(DefProgram *p, const Stage *s, const Schedule *sch, const MatrixGroup *g,
                 KBuild *b);

#endif
