/* Internal to the choice of schedules for contractions: the model of schedule_cost.c for
 * schedule_choice.c. All costs are cycles of one core. */
#ifndef SMELT_IR_SCHEDULE_COST_H
#define SMELT_IR_SCHEDULE_COST_H

#include "ir/schedule.h"

/* Sizes of a stage as the model sees them; what is symbolic counts as large. */
typedef struct Sizes {
    int64_t vecs, rows[2], batch, steps;
    int64_t right_bytes, left_bytes;
    int64_t taps;        /* of the innermost axis that neighbours share; 1: none */
    bool skips;          /* rows are further apart than taps, as with a stride of two */
    bool is_shared;      /* both factors are vectors */
    bool is_const;       /* the right factor is made of constants */
    bool is_free_row[2]; /* there are more or fewer rows in each call, outer and inner */
    bool is_free;        /* of either */
    bool is_free_vec;    /* and of lanes */
    bool is_guessed;     /* and how many there probably are is known */
    bool is_fetched;     /* and what brings it to the first level of cache is counted elsewhere */
    int elem;
    bool is_pairs;    /* a step is a multiplication of pairs and an addition */
    bool has_runs;    /* with sums of their own: each sum takes two registers */
    double right_ops; /* what a vector of the right factor takes besides loads, in such a stage */
    int n_tap_rows;   /* axes with taps that tiles may leave out */
    TapRows tap_rows[MAX_TAP_AXES];
} Sizes;

/* a * b, or INT64_MAX where that is less */
static inline int64_t saturated_product(int64_t a, int64_t b) {
    int64_t c;
    return __builtin_mul_overflow(a, b, &c) ? INT64_MAX : c;
}
/* Of a schedule only axes and lanes count. */
Sizes cost_sizes(KCtx *k, const Stage *s, const Schedule *sch);
/* Do neighbouring rows read the same elements of the left factor at different steps of this
 * reduction axis, as a window that slides? skips: as in Sizes. */
bool cost_slides(KCtx *k, const Stage *s, const Schedule *sch, int axis, bool *skips);
/* Weights that are not near and that few rows wait for. */
bool cost_is_stream(const Target *t, const Sizes *z);
/* Does a tile read several panels at once? */
bool cost_is_cut(const Schedule *sch);
/* One step of the reduction of a tile, with so many sums of each element. */
double cost_step(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows, int64_t vecs,
                 int chains);
/* A tile: its steps, and around them a start, a store and a mispredicted branch for each part. */
double cost_tile(const Target *t, const Sizes *z, const Schedule *sch, int64_t rows, int64_t vecs);
double cost_stage(const Target *t, const Sizes *z, const Schedule *sch);
/* Cycles of n rows, which the schedule does in whole tiles and the rest by fours. While the first
 * of them use a panel it comes from memory; arithmetic hides most of that, but not all. */
double cost_rows(const Target *t, const Sizes *of, const Schedule *sch, int64_t n);

#endif
