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
    int lanes;       /* elements per vector; fewer than the machine's where groups are smaller */
    int group; /* so many neighbours along vec_axis read the same of the left factor (a grouped
                * convolution), 1: each its own (depthwise), 0: all of them the same */
    int n_vecs;      /* vectors of the register tile along vec_axis */
    int panel; /* of them lie together in the packed right factor: a tile of more reads several
                * stretches of memory at once; 0: all */
    int row_axis[2]; /* axes tiled into rows, outer first; -1: none */
    int rows[2];     /* their tile sizes */
    int shared_rests; /* bit r: where r rows of a free number of inner rows are left over, the last
                       * whole tile is done with them */
    int n_joined; /* axes before the inner row axis that are one with it: its rows run over all of
                   * them, which lie one behind the other in memory */
    int unroll;      /* copies of the innermost reduction loop's body */
    bool near_taps; /* the taps of the innermost axis are summed element after element: neighbouring
                     * ones share what they read */
    bool blends;    /* groups end within vectors, whose lanes choose among what these read */
    bool permutes;  /* lanes read a pattern of the left factor, group is 1: where permutations are
                     * constants the axis in front of these taps, too, is written out */
    bool all_taps; /* all of the reduction is written out (depthwise: taps share what they load) */
    int parts;       /* the first reduction axis is cut into so many equal parts, summed one after
                      * the other (1: it is not), */
    int row_tiles;   /* each for so many tiles of rows */
    bool widens;     /* of the right factor, whose elements take arithmetic (16-bit floats, packed
                      * codes), a part of a panel is computed once for its row_tiles */
    int vec_tiles;   /* each for so many tiles of vectors, where that is more than 1: rows of the
                      * right factor, which is read as it lies, are then long stretches of memory */
    bool rows_outer; /* tiles of vectors vary faster than tiles of rows */
    int strips;      /* the parallel loop is over so many strips of rows, and in each the tiles of
                      * vectors; 0, 1: over tiles */
    bool mask_right; /* the right factor is read in place, and its rows end within a vector */
    bool skips;      /* taps that are outside of the left factor for all of a tile are left out */
    bool prefetch;   /* ask for the next panel of the right factor while one is used */
    bool left_far;   /* a tile's rows lie one behind the other, but in another core's cache: ask for
                      * the next ones */
    Winograd *winograd; /* loops of winograd.h in place of the template's; NULL: the template's */
    Matrix *matrix;  /* tiles of a matrix unit in place of vectors; NULL: vectors */
    /* Where the number of rows is free: what runs for at most few_rows of them, which may have a
     * schedule for fewer still. NULL: this one runs for any number. */
    struct Schedule *few;
    int few_rows;
} Schedule;

/* The part of a stage that is opened: axes with one index, and one axis of which some rows are. */
typedef struct StagePart {
    const KExpr *at[MAX_RANK]; /* of a fixed axis: its index; NULL: all of the axis */
    int row_axis;              /* -1: none is cut */
    const KExpr *first, *rows; /* of row_axis: first .. first + rows - 1 */
    bool inside; /* tell loops that each of these rows lies in the tensor, whatever ranges say */
    int cut_axis, cut_red;     /* an axis and a reduction axis that end early; -1: none */
    const KExpr *cut;          /* their extent here */
    const KExpr *vec_from, *n_vec; /* the first of the vector tiles, and how many; NULL: all */
    const KExpr *block;            /* of the axis in blocks: which of them; NULL: all */
} StagePart;

/* Rows of a member of a rolling group: those it has to have made when rows from..to-1 of the last
 * member are, are scale*from + lo .. scale*to + hi - 1 (as far as they exist). */
typedef struct RowSpan {
    int64_t scale, lo, hi;
} RowSpan;

/* Stages in blocks (schedule_blocks.c). They share some axes, the last of them the row axis, and
 * run one after the other on `rows` rows at one index of the others. The blocks are divided among
 * n_slots slots; each slot has a window of its own of the tensors that only the group reads. */
typedef struct Blocks {
    int n_axes;
    const KExpr *extent[MAX_RANK];
    bool is_whole; /* nothing is cut: one index of the last shared axis, too, is a block (rows 1) */
    int64_t rows;
    int n_slots, n;
    Stage **stages;
    int8_t (*axis)[MAX_RANK]; /* axis[m][a]: shared axis a in member m */
    /* Causal masks: limit, over stages[0]'s axes, is how many elements of its vector axis count at
     * a row; later rows have no fewer. cut_axis[m], cut_red[m]: that axis in member m, -1 for none.
     * limit NULL: all of them count. */
    const KExpr *limit;
    int8_t *cut_axis, *cut_red;
    /* of each member: the group rolls (schedule_rolling.c); NULL: it does not */
    const RowSpan *span;
    const KExpr *slot, *first; /* of the block, while the group is opened; 0 before */
} Blocks;

/* Does the stage fit the contraction template, and with which axes? Fills everything but tile
 * sizes. Requires layouts. */
bool schedule_contract_axes(DefProgram *p, const Stage *s, const Target *t, Schedule *out);
/* Takes axes before the inner row axis together with it, where all that the stage reads and writes
 * walks through memory in even steps over them. A sentence of a batch, or a row of a map, is then
 * no end for a tile. */
void schedule_contract_join(DefProgram *p, const Stage *s, Schedule *sch);
/* Would the inner row axis and the one before it be one, if the left factor lay like the result? */
bool schedule_left_parts_rows(DefProgram *p, const Stage *s, const Schedule *sch);
/* Undoes it, for one row at a time. */
void schedule_contract_part(Schedule *sch);
/* The extent of the rows: of the inner row axis and those joined with it; 1 without one. */
const KExpr *schedule_row_extent(KCtx *k, const Stage *s, const Schedule *sch);
/* Is axis i joined with the inner row axis, and not it? */
static inline bool schedule_is_joined(const Schedule *sch, int i) {
    return i < sch->row_axis[1] && i >= sch->row_axis[1] - sch->n_joined;
}
/* The loops of the reduction: how each of its axes is blocked in memory (1: not). Returns the axis
 * of the innermost loop that turns, whose body is copied. */
int schedule_contract_blocks(KCtx *k, const Stage *s, int *blocks);
/* At which rows along an axis of the result each tap of a window is inside of what it looks at:
 * first[j] .. end[j] - 1. */
enum { MOST_SEEN = 16, MAX_TAP_AXES = 3 };
typedef struct TapRows {
    int axis, n_taps;
    int64_t n_rows, first[MOST_SEEN], end[MOST_SEEN];
} TapRows;
/* The axes whose taps are left out where they are outside for all rows of a tile (Schedule.skips);
 * returns how many these are. */
int schedule_tap_rows(KCtx *k, const Stage *s, const Schedule *sch, TapRows *out);
/* What share of the reduction's steps sch's tiles take: smaller ones leave out more. */
double schedule_taken_share(const TapRows *of, int n, const Schedule *sch);
/* What one core should need for the stage under sch, in cycles: a model, for comparisons. */
double schedule_contract_cycles(DefProgram *p, const Stage *s, const Target *t,
                                const Schedule *sch);
/* The same with its left factor in the near caches. */
double schedule_near_cycles(DefProgram *p, const Stage *s, const Target *t, const Schedule *sch);
/* Elements of the vector axis that lie together in the packed right factor. */
static inline int schedule_panel_width(const Schedule *sch) {
    return sch->lanes * (sch->panel ? sch->panel : sch->n_vecs);
}
/* Schedules beside sch, over the same packed right factor, for calls with few rows: fills sch->few
 * where the number of rows is free. */
void schedule_contract_few(DefProgram *p, const Stage *s, const Target *t, Schedule *sch);
/* Sets sch->vec_tiles, with the parts that go with it, where that pays: to be called for a right
 * factor that is read as it lies. */
void schedule_contract_stream(KCtx *k, const Stage *s, const Target *t, Schedule *sch);
/* Sets sch->widens, with the parts and groups of row tiles that go with it, where it pays: to be
 * called once the right factor is what the template reads. */
void schedule_contract_widen(KCtx *k, const Stage *s, Schedule *sch);
/* How many groups of so many elements a vector has parts of, at most: the one that begins at
 * element `start`. */
static inline int schedule_groups_at(int64_t start, int lanes, int group) {
    return (int)((start % group + lanes - 1) / group + 1);
}
/* After how many vectors one begins where a group does; INT_MAX where that is far. */
int schedule_group_period(const Schedule *sch);
/* How many sums of a register tile of rows x vecs are kept apart, each of every so many steps: 1,
 * or sch->unroll where the tiles are single rows and one accumulator each would leave multiply-adds
 * waiting for the one before. */
int schedule_chains(const Target *t, const Schedule *sch, int64_t rows, int64_t vecs);
/* Schedules of the stage that fit the registers, fewest cycles first: fills out[0..max-1] and
 * returns how many there are. axes is what schedule_contract_axes gave. */
int schedule_contract_candidates(DefProgram *p, const Stage *s, const Target *t,
                                 const Schedule *axes, Schedule *out, int max);
/* The first of them. */
void schedule_contract_tile(DefProgram *p, const Stage *s, const Target *t, Schedule *sch);
/* Rows along row_axis alone, for n of them at a time; vectors stay as they are. The cost of one
 * step of the reduction over these rows and one tile of vectors, in cycles of the model. */
double schedule_contract_rows(const Target *t, Schedule *sch, int row_axis, int64_t n);
/* A schedule for few rows, for those of a block whose tiles sch has. */
void schedule_few_in_block(Schedule *few, const Schedule *sch);
/* Loops of a contraction: all of it in parallel (part NULL), or a part of it, serially. */
void schedule_open_contract(DefProgram *p, const Stage *s, const Schedule *sch,
                            const StagePart *part, KBuild *b);
/* Do the stage's loops fill the halo of its result? */
bool schedule_fills_halo(const Stage *s);
/* Loops of a group in blocks, and the part of member m in the block that is open. */
void schedule_open_blocks(DefProgram *p, Blocks *blocks, KBuild *b);
/* The same of a group that rolls. */
void schedule_open_rolling(DefProgram *p, Blocks *blocks, KBuild *b);
/* Does `next` read of s only the channels that it makes itself (depthwise)? Then both go from tile
 * to tile of channels together, where next finds s's in the first level of cache. */
bool schedule_is_followed(KCtx *k, const Stage *s, const Stage *next);
/* One register tile of a contraction, of sch's size: at[i] is the index of axis i, or for the rows
 * and the vector axis that of the tile's first element. All of the tile is stored. It is tile
 * `which` of the sch->row_tiles that use a panel of the right factor one after the other. */
void schedule_open_tile(DefProgram *p, const Stage *s, const Schedule *sch, const KExpr *const *at,
                        const KExpr *which, KBuild *b);

/* Loops of a group: stages (maps, reductions, scans) that share their n_outer leading axes and run
 * one after the other for each outer index. A single stage is a group with n_outer 0. A reduction's
 * result that only later stages of the group read, at the same outer index, stays in a register:
 * those are listed in `local`. */
void schedule_open_rows(DefProgram *p, Stage *const *stages, int n, int n_outer,
                        KTensor *const *local, int n_local, KBuild *b);
/* One index of such a group: stages[i] at part[i]'s fixed axes, with a register for each local. */
void schedule_open_row(DefProgram *p, Stage *const *stages, const StagePart *part, int n,
                       KTensor *const *local, int n_local, KBuild *b);
/* Elementary steps of a stage, an estimate where sizes are symbolic. */
double schedule_stage_work(const Stage *s);
/* Is s a map whose read and store walk memory along different axes, so that it goes by tiles when
 * it is opened as a whole (schedule_transpose.c)? */
bool schedule_turns_memory(DefProgram *p, const Stage *s);

/* The greatest one of a and b, not negative. */
int64_t common_divisor(int64_t a, int64_t b);
/* Does the fold start from something that has to be folded in? */
bool fold_starts(KCtx *k, const Stage *s);
/* Does the expression have a transcendental function? */
bool schedule_has_function(KCtx *k, const KExpr *e);
/* Is t dense, in the order of its axes, by itself? */
bool tensor_is_plain(const KTensor *t);
/* The axis whose neighbours are neighbours in t's memory; -1 for rank 0. */
int tensor_contiguous_axis(const KTensor *t);
/* Work below this many elementary steps is not worth a parallel region; nor is a contraction of
 * fewer multiply-adds than this for each GFLOP/s of the machine, two microseconds of work. */
enum { PARALLEL_GRAIN = 32768, PARALLEL_MACS = 1000 };

/* Rows of a free number that fill no tile are done by so many: those of row_axis[0] without any
 * twice where they can be. */
static inline int schedule_rest_rows(int which, int tile) {
    enum { REST_ROWS = 4 };
    return which == 0 ? (tile + 1) / 2 : tile > REST_ROWS ? REST_ROWS : tile;
}

/* "t6x4" and the like, for kernel names and traces. */
const char *schedule_text(Arena *a, const Schedule *s);

#endif
