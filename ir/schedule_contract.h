/* Internal to schedule_contract.c and schedule_tile.c: the contraction template, and one tile of
 * it. */
#ifndef SMELT_IR_SCHEDULE_CONTRACT_H
#define SMELT_IR_SCHEDULE_CONTRACT_H

#include "ir/schedule.h"

typedef struct Binding {
    KVar *var[MAX_RANK + MAX_RED];
    const KExpr *by[MAX_RANK + MAX_RED];
    int n;
} Binding;

/* A condition of a step: with reduction axes up to `red` bound, it says whether any element is
 * read. */
typedef struct Guard {
    const KExpr *cond;
    int red;
} Guard;

enum { MAX_GUARDS = 2 * MAX_RANK };

typedef struct Contract {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Stage *s;
    const Schedule *sch;
    const StagePart *cut;       /* what is opened of the stage, or NULL: all of it */
    Binding outer;              /* axes that are not tiled, and row/vector tile starts */
    const KExpr *row_start[2];  /* first row of the tile */
    const KExpr *last_row[2];   /* rows of the tile end there; NULL: all of them are inside */
    const KExpr *inside;        /* of the tile loops that are open: is it a row that is stored? */
    const KExpr *vec_start;     /* first element of the tile along vec_axis */
    int rows[2], n_vecs;        /* of this tile */
    bool masked;                /* the last vector sticks out of the output's memory */
    const KExpr *init, *finish; /* the stage's, or with a constant term moved from finish to init */
    const KExpr *lhs;           /* the stage's, less what the guards ask */
    Guard guard[MAX_GUARDS];
    int n_guards;
    bool is_rolled;             /* loops over rows stay loops */
    KBuf *acc;
    int64_t n_acc;       /* elements of one chain */
    int n_chains;        /* sums that are kept apart, and added in the end */
    const KExpr *chain;  /* the one that this copy of the body adds to; NULL: there is one */
    int blocks[MAX_RED]; /* of reduction axes */
    int copies_axis;     /* the reduction axis whose loop's body is copied */
    int64_t ask_steps;   /* lines of the next panel are asked for every so many steps; 0: never */
    bool has_asked;      /* here: the loops around have */
    /* where the number of row tiles is free: the place of this tile's share, how far apart places
     * are in it, and a mask of the places where the tile does not ask */
    const KExpr *ask_tile, *ask_pace, *ask_mask;
    const KExpr *row_tile, *n_row_tiles; /* which tile of its group this is, of how many */
    int n_parts;                         /* of the reduction */
    const KExpr *part;                   /* which of them */
    KBuf *sums;                          /* of the group's tiles, when there are parts */
    const KExpr *sums_at;                /* where this tile's begin */
} Contract;

static inline void contract_bind(Binding *b, KVar *var, const KExpr *by) {
    b->var[b->n] = var;
    b->by[b->n++] = by;
}

/* A template without axes bound and tiles chosen yet. */
Contract contract_begin(DefProgram *p, const Stage *s, const Schedule *sch, KBuild *b);
/* How many of n_vecs vectors of a row of s, in powers of two up to `most`, are behind each other in
 * memory. */
int schedule_neighbours(const Stage *s, int lanes, int n_vecs, int most);
/* The tile at row_start and vec_start: its start, reduction and store. */
void contract_tile(Contract *c);

#endif
