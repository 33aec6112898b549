/* Internal to the contraction template: schedule_contract.c (its loops), schedule_tile.c (one tile
 * of it), schedule_prefetch.c, schedule_guards.c and schedule_store.c (parts of that), and to
 * schedule_matrix.c. */
#ifndef SMELT_IR_SCHEDULE_CONTRACT_H
#define SMELT_IR_SCHEDULE_CONTRACT_H

#include "ir/schedule.h"

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
    const KExpr *vector, *lane; /* first element of the vector that is open, and which one it is */
    bool in_group;              /* all of this tile, whose vectors others may share */
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
    /* where the number of row tiles is free: whose share this tile asks for, how far apart places
     * are in it, and for how many lines it asks at each; 0 where it does not ask */
    const KExpr *ask_tile, *ask_pace, *ask_lines;
    const KExpr *row_tile, *n_row_tiles; /* which tile of its group this is, of how many */
    const KExpr *left;  /* a read of the left factor whose lines are asked for a tile ahead; NULL */
    int left_axis;      /* by places of this reduction axis' blocks; -1: rows are one stretch */
    int64_t left_places; /* so many, */
    const KExpr *left_place; /* of which this is open; NULL: none */
    const KExpr *left_start; /* the first element of that block */
    const KExpr *left_ahead; /* so many rows behind the tile's; 0: they need not be asked for */
    bool fills_halo;                     /* of the output: see schedule_halo.c */
    int strips;                          /* Schedule.strips, of a stage that is opened whole */
    int n_parts;                         /* of the reduction */
    const KExpr *part;                   /* which of them */
    KBuf *sums;                          /* of the group's tiles, when there are parts */
    const KExpr *sums_at;                /* where this tile's begin */
    KBuf *wide; /* the part's right factor, as it is multiplied: [step][element of the tile]; NULL:
                   it is read */
} Contract;

/* A template without axes bound and tiles chosen yet. */
Contract contract_begin(DefProgram *p, const Stage *s, const Schedule *sch, KBuild *b);
/* The tile at row_start and vec_start: its start, reduction and store. */
void contract_tile(Contract *c);
/* The halo's values beside the rows of that tile, and before and behind the first and last rows. */
void contract_fill_halo(Contract *c);

/* Of a right factor that is computed part by part: the place of the step at which all reduction
 * axes are bound in `red`, in their order. */
const KExpr *contract_step_in_part(const Contract *c, const Binding *red);

/* Opens the tile's loops (rows, vectors, lanes) and binds the tiled axes, and all of the axes that
 * are bound around it; returns the accumulator's index. */
const KExpr *contract_tile_begin(Contract *c, Binding *bound);
void contract_tile_end(Contract *c);
/* Binds the tiled axes to these rows and this column of the tile. */
void contract_bind_tile(Contract *c, Binding *bound, const KExpr *r0, const KExpr *r1,
                        const KExpr *in_tile);

/* ---- schedule_prefetch.c --------------------------------------------------------------------- */

/* Steps of the reduction in an iteration of axis r, the axes behind it included. */
int64_t contract_steps(const Contract *c, int r);
/* Sets ask_steps: the innermost loop whose share is at least half a line, so that not much more is
 * asked for than the panel has. */
void contract_choose_prefetch(Contract *c);
/* Asks for the lines of this place, if it is where they are asked for: axis r is at `at`, those in
 * front of it are bound in `red`, and `steps` steps follow. Returns whether it did. */
bool contract_prefetch(Contract *c, int r, const Binding *red, const KExpr *at, int64_t steps);

/* Sets left and left_axis: see schedule_prefetch.c. */
void contract_choose_left(Contract *c);
/* Asks for what the next tile of rows reads of the left factor at the place that is open; `red`
 * binds the axes that are open, the others are at their first element. */
void contract_prefetch_left(Contract *c, const Binding *red);

/* ---- schedule_guards.c ----------------------------------------------------------------------- */

/* Sets lhs and guards. */
void contract_find_guards(Contract *c);
/* Opens the branches whose last reduction axis is r, where `red` is bound; returns how many. */
int contract_open_guards(Contract *c, int r, const Binding *red);

/* ---- schedule_store.c ------------------------------------------------------------------------ */

/* Stores acc, finished. */
void contract_store(Contract *c);

/* What is stored at once: so many rows of so many vectors, among n rows from `first` on. */
typedef struct Pieces {
    int first, n;
    int rows, vecs;
} Pieces;
enum { PIECES = 4 }; /* vectors of 32-bit sums that are stored at once as bytes */

/* Loops over the rows (with this mark) and over rows of n_vecs vectors, in pieces: which row, and
 * which element of it. Returns how many kb_end close them. */
int contract_open_pieces(KBuild *b, KLoopMark mark, const Pieces *p, int n_vecs, int lanes,
                         const KExpr **row, const KExpr **in_row);
/* How many of n_vecs vectors of a row of s, in powers of two up to `most`, are behind each other in
 * memory. */
int schedule_neighbours(const Stage *s, int lanes, int n_vecs, int most);

#endif
