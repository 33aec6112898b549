/* Internal to schedule_rows.c, schedule_fold.c, schedule_scan.c: the loops of a stage that is
 * opened by rows. */
#ifndef SMELT_IR_SCHEDULE_ROWS_H
#define SMELT_IR_SCHEDULE_ROWS_H

#include "ir/schedule.h"

typedef struct Rows {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    KTensor *const *local; /* tensors in registers */
    KBuf **local_buf;
    int n_local;
    bool across;         /* lanes are rows: what is inside of a row has none */
    KLoopMark outermost; /* of a stage's only loop */
} Rows;

/* One loop of a stage: the axis it walks and the step of the axis per iteration. */
typedef struct RowLoop {
    int axis;
    int64_t step; /* block size for the loop over blocks, else 1 */
    const KExpr *extent;
} RowLoop;

typedef struct RowNest {
    RowLoop loop[MAX_RANK + 1];
    int n;
    const KExpr *index[MAX_RANK]; /* of each axis, as bound so far; NULL: zero so far */
} RowNest;

/* The axis's index grows by this iteration's step of its loop. */
void rows_bind(KCtx *k, RowNest *nest, const RowLoop *loop, const KExpr *at);
/* An expression of the stage's elements at the nest's index, ready for loops. */
const KExpr *rows_expr(Rows *r, const Stage *s, const RowNest *nest, const KExpr *e);
void rows_store(Rows *r, const Stage *s, const RowNest *nest, const KExpr *value);
/* The lanes of a blocked axis may stick out of the dim: what the element reads may end there. */
const KExpr *rows_inside(Rows *r, const Stage *s, const RowNest *nest);

/* What fills no vector, n elements of the stage: a narrower vector, or, where n is free, one whose
 * last lanes are masked off if the machine can do that, else single elements. Opens loops and
 * returns the number of the element. */
typedef struct RowsRest {
    const KExpr *at;
    bool is_vector;
    int depth; /* what is to be closed */
} RowsRest;
RowsRest rows_open_rest(Rows *r, const Stage *s, const KExpr *n, int lanes);
void rows_close_rest(Rows *r, const RowsRest *rest);

/* A whole stage by itself; and the loops of `nest` of one whose other loops are open. */
void rows_open_single(Rows *r, const Stage *s);
void rows_open_stage(Rows *r, const Stage *s, RowNest nest);

/* The loops of a stage over the axes that have no index yet (part NULL: all of them), in the order
 * of its memory. */
RowNest rows_nest(KCtx *k, const Stage *s, const StagePart *part);

/* Opens a map that turns memory around, by tiles (schedule_transpose.c); false when it is none. */
bool open_transposed(Rows *r, const Stage *s);
/* Opens a map with a few neighbours in its result (schedule_few.c); false when it is none. */
bool open_few_columns(Rows *r, const Stage *s);

/* Where along an axis a map's element changes its form (schedule_cuts.c): at multiples of what its
 * index is divided by, where a condition changes, or both. Fills cut[] with places inside of the
 * axis, in order; 0 where there are none, more than MAX_CUTS, or some within a block. */
typedef enum { CUT_DIVISIONS = 1, CUT_CONDITIONS = 2, CUT_ALL = 3 } CutKind;
enum { MAX_CUTS = 63 };
int stage_cuts(KCtx *k, const Stage *s, int axis, CutKind kind, int64_t *cut);
/* The same for an axis along which `lanes` are neighbours: conditions count where that pays. */
int lane_cuts(KCtx *k, const Stage *s, int axis, int lanes, int64_t *cut);
/* The same along an axis of rows, which ask for each of them what part they are in: only where that
 * is less than to compute what the part decides. */
int row_cuts(KCtx *k, const Stage *s, int axis, int64_t *cut);
/* Emits which part the index is in, from cut[i] to cut[i + 1], first <= i < end, found by halving;
 * open emits what is done in part i. */
typedef void OpenPart(void *user, int i);
void open_parts_by_halves(KBuild *b, const KExpr *index, const int64_t *cut, int first, int end,
                          OpenPart *open, void *user);
/* After how many vectors along an axis the divisions of its index begin again; 0: too many. */
enum { MOST_PERIOD = 8 };
int lane_period(KCtx *k, const Stage *s, int axis, int lanes);
/* Opens a map whose last two axes are walked in one stretch between the cuts; false when it is
 * none. */
bool open_stretches(Rows *r, const Stage *s);

/* Scans (schedule_scan.c): one element of the other axes, or, where the innermost loop `inner`
 * walks the output's memory, vectors along it, or, where that goes over rows, a few of them with
 * lanes of 1. */
void open_scan_element(Rows *r, const Stage *s, RowNest *nest);
bool scan_fits_columns(const Stage *s, const RowNest *nest, int lanes);
bool scan_fits_rows(const Stage *s, const RowNest *nest);
void open_scan_columns(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *inner,
                       int lanes);

/* What a reduction adds up, and over which axes: those of the stage, but axes that together walk
 * memory in one stride are one. */
typedef struct Fold {
    const Stage *s;
    const KExpr *body;
    int n;
    KVar *red[MAX_RED];
    const KExpr *extent[MAX_RED];
} Fold;

enum { MOST_PARTIALS = 8 }; /* vectors of partial results along memory */
enum { SMALL_WINDOW = 32 }; /* steps of a reduction that the plain loops write out */
/* What each step of a reduction folds in: a contraction's product. */
const KExpr *fold_body(KCtx *k, const Stage *s);
Fold fold_of(KCtx *k, const Stage *s);
/* What a fold of this kind begins with, and may take any number of times. */
const KExpr *fold_neutral(KCtx *k, KOp fold, DType t);

/* Conditions without which a step of a reduction does nothing (fold_guards.c): at[i] is asked
 * inside of the first i reduction axes (NULL: nothing); body is the element where all hold. Those
 * of the axis `lane` stay in the element. */
typedef struct FoldGuards {
    const KExpr *at[MAX_RED + 1], *body;
} FoldGuards;

FoldGuards fold_guards(KCtx *k, const Stage *s, const KExpr *body, const KVar *lane);
/* Between which two places along an axis all steps of a small window count, cut[] as stage_cuts. */
int fold_cuts(KCtx *k, const Stage *s, int axis, int64_t *cut);

/* How many lanes along the last of these axes are worth it, `lanes` at most; 0: none, since it is
 * short or does not walk memory. Bytes of a row that fills no vector have fewer lanes: nothing
 * gathers them. */
int fold_row_lanes(KCtx *k, const Fold *f, int lanes);
/* Does what it reads lie along the innermost loop of the result instead, as a matrix that a row is
 * multiplied by, or windows that overlap? */
bool fold_reads_columns(KCtx *k, const Fold *f, const RowLoop *inner, int lanes);
/* A fold for one element of its result, whose index nest has. */
typedef struct RowFold {
    Fold fold;
    RowNest nest;
    KBuf *acc;         /* set by fold_lanes and fold_partials */
    const KExpr *body; /* so is this */
} RowFold;

/* n folds over equal axes in the same loops, with lanes along the last axis and the others serial
 * around it: the results are elements 0 of acc. */
void fold_lanes(Rows *r, RowFold *of, int n, int lanes);
/* The same up to the partial results, without init; returns how many each has, a power of two. */
int fold_partials(Rows *r, RowFold *of, int n, int lanes);
/* With how many lanes the stage is one fold along memory within the row that is open, which *of
 * then describes; 0: it is not. */
int rows_fold_in_row(Rows *r, const Stage *s, RowNest nest, RowFold *of);
/* Stores what becomes of the fold's result. */
void rows_store_fold(Rows *r, const RowFold *of);
/* Folds acc[0..n) by halves into acc[0..least); both are powers of two. */
void fold_halves(Rows *r, const Stage *s, KBuf *acc, int n, int least);
/* Do two axes, the inner of this extent, lead to the same memory as one of (0, index)? So they do
 * where nothing but reads uses them, and each read steps over the inner one's whole extent. */
bool axes_are_joint(KCtx *k, const KExpr *e, KVar *outer, KVar *inner, const KExpr *extent);
/* How many lanes run along what is folded, for one element at a time; 0: none, as where the
 * result's innermost loop walks memory better. */
int rows_lanes_along(KCtx *k, const Stage *s, const Fold *f, const RowNest *nest, int lanes);
/* Opens a fold of rows, several rows at once (schedule_fold_rows.c); false where it is none. */
bool open_fold_rows(Rows *r, const Stage *s);
/* Is it worth it to fold several vectors of the loop `inner` (the innermost, contiguous in the
 * output) at once? */
bool fold_fits_columns(const Fold *f, const RowLoop *inner);
/* With lanes along `inner`: everything from there to the store. */
void fold_columns(Rows *r, const Fold *f, const RowNest *nest, const RowLoop *inner, int lanes);

#endif
