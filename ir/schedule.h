/* Schedules: how a definition's loops are split, ordered, vectorised and kept in registers.
 *
 * A Schedule is data chosen by a pass (passes/choose_schedules.c) and printed with the kernel; the
 * functions here open a stage into loops according to it. One template serves all contractions
 * (GEMM, convolution, depthwise): out axes are tiled into a register tile of rows x vectors, the
 * reduction runs inside, the epilogue (finish) is applied at the store. Everything else is opened
 * by rows: outer axes in parallel, then each stage of the group over its inner axes, vectorised
 * along the axis that is contiguous in memory.
 *
 * Sizes that do not divide are peeled: the remainder gets loops of its own with a smaller tile, so
 * the interior carries no tests. Only a vector that sticks out of a dense row is masked. */
#ifndef SMELT_IR_SCHEDULE_H
#define SMELT_IR_SCHEDULE_H

#include "ir/define.h"

typedef struct Winograd Winograd; /* winograd.h */
typedef struct Matrix Matrix; /* matrix.h */

typedef struct Schedule {
    int vec_axis;    /* axis of the output whose neighbours are lanes; -1: scalar */
    int lanes;       /* elements per vector */
    int n_vecs;      /* vectors of the register tile along vec_axis */
    int row_axis[2]; /* axes tiled into rows, outer first; -1: none */
    int rows[2];     /* their tile sizes */
    int unroll;      /* copies of the innermost reduction loop's body */
    Winograd *winograd; /* loops of winograd.h in place of the template's; NULL: the template's */
    Matrix *matrix;  /* tiles of a matrix unit in place of vectors; NULL: vectors */
} Schedule;

/* Does the stage fit the contraction template, and with which axes? Fills everything but tile
 * sizes. Requires layouts. */
bool schedule_contract_axes(DefProgram *p, const Stage *s, const Target *t, Schedule *out);
/* Tile sizes by the cost model: vectors and rows that waste least within the register file. */
void schedule_contract_tile(DefProgram *p, const Stage *s, const Target *t, Schedule *sch);
/* Loops of a contraction. */
void schedule_open_contract(DefProgram *p, const Stage *s, const Schedule *sch, KBuild *b);
/* One register tile of it, of sch's size: at[i] is the index of axis i, or for the rows and the
 * vector axis that of the tile's first element. All of the tile is stored. */
void schedule_open_tile(DefProgram *p, const Stage *s, const Schedule *sch, const KExpr *const *at,
                        KBuild *b);

/* Loops of a group: stages (maps, reductions, scans) that share their n_outer leading axes and run
 * one after the other for each outer index. A single stage is a group with n_outer 0. A reduction's
 * result that only later stages of the group read, at the same outer index, stays in a register:
 * those are listed in `local`. */
void schedule_open_rows(DefProgram *p, Stage *const *stages, int n, int n_outer,
                        KTensor *const *local, int n_local, KBuild *b);

/* The axis whose neighbours are neighbours in t's memory; -1 for rank 0. */
int tensor_contiguous_axis(const KTensor *t);
/* A let whose value is known to lie in [0, hi] here, which lets predicates in its scope resolve. */
const KExpr *kb_let_within(KBuild *b, const char *name, const KExpr *value, int64_t hi);
/* Work below this many elementary steps is not worth a parallel region. */
enum { PARALLEL_GRAIN = 32768 };

/* "t6x4" and the like, for kernel names and traces. */
const char *schedule_text(Arena *a, const Schedule *s);

#endif
