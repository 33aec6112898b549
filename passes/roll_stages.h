/* Internal to roll_stages.c, roll_cost.c and roll_sums.c: stages that could roll together, and what
 * it gives. */
#ifndef SMELT_PASSES_ROLL_STAGES_H
#define SMELT_PASSES_ROLL_STAGES_H

#include "ir/schedule.h"

enum { MAX_ROLL = 16, MAX_ROLL_READS = 64, MAX_ROLL_BETWEEN = 16 };

/* Member `reader` reads rows step*r + lo .. step*r + hi of member `of` for its row r. */
typedef struct RollRead {
    int reader, of;
    int64_t step, lo, hi;
} RollRead;

/* Stages in a row of the program (but for those between) that read each other so. */
typedef struct Roll {
    DefProgram *p;
    KCtx *k;
    int n, n_reads;
    bool has_batch; /* axis 0 of all members is one index at a time */
    Stage *stages[MAX_ROLL];
    int8_t row[MAX_ROLL];       /* the row axis of each */
    int n_between_at[MAX_ROLL]; /* stages between that stand in front of a member */
    RollRead reads[MAX_ROLL_READS];
    Stage *between[MAX_ROLL_BETWEEN];
} Roll;

/* How the first n members would run. */
typedef struct RollPlan {
    int n, n_slots;
    int64_t rows;
    RowSpan span[MAX_ROLL];
    bool has_window[MAX_ROLL];
    int64_t ring[MAX_ROLL];
    double gain; /* cycles of one core */
} RollPlan;

/* Fills rows, slots, rings and the gain of a plan whose spans and windows are known; false when it
 * does not pay. */
bool roll_weigh(const Roll *g, RollPlan *plan);

/* A sum over all rows of a tensor that was cut in two. */
typedef struct RowSums {
    Stage *whole, *rows; /* the second half; the first, in front of it */
    Stage before;        /* whole, as it was */
} RowSums;

enum { MAX_ROW_SUMS = 256 };

/* Cuts the sums (roll_sums.c) that are worth it, and lists them; returns how many. */
int roll_cut_sums(DefProgram *p, RowSums *sums, int max);
/* Puts those together again whose first half has not become a group's member. Returns how many are
 * left. */
int roll_join_sums(DefProgram *p, RowSums *sums, int n);

#endif
