/* Internal to dot_products.c and its parts: a contraction of bytes that becomes dot products. */
#ifndef SMELT_PASSES_DOT_PRODUCTS_H
#define SMELT_PASSES_DOT_PRODUCTS_H

#include "ir/schedule.h"
#include "passes/integers.h"

typedef struct Dot {
    DefProgram *p;
    KCtx *k;
    Stage *s;
    IntFactor x, w; /* zeros of bytes moved into the instruction's ranges; NULL is 0 */
    int red;        /* the axis that is taken in words */
    int64_t extent; /* of it */
    int axis;       /* of x that it runs along */
    KOp op;         /* the dot product, of words of */
    int parts;      /* so many elements */
    bool in_place;  /* words of x are read where they lie */
    bool swaps;     /* the instruction takes the right factor first */
    KVar *group;    /* what it becomes */
    Schedule axes;  /* of the template */
    /* x's channels are (j // n_out)*n_in + red[group_red], with j the vector axis: */
    bool in_groups;
    int group_red, group_axis;
    int64_t n_out, n_in;
} Dot;

static inline const KExpr *dot_i32(const Dot *d, int64_t v) {
    return k_const_i(d->k, DT_I32, v);
}

/* In place if that can be, else the longest axis that words can be made along; leaves red, extent,
 * axis and in_place. */
bool dot_choose_axis(Dot *d);
/* A read of the word of x's pairs at d->group*2, less the zero point, in a tensor of 16 bits that
 * lies like x. */
const KExpr *dot_pair_in_place(Dot *d);
/* The contraction as one of words along the axis that was chosen, with the bytes of either factor
 * moved by 128. */
void dot_use_words(Dot *d, bool flip_x, bool flip_w);
/* Is x read in groups of channels? Leaves them in d. */
bool dot_find_groups(Dot *d);
/* Do the lanes find their words in place, if need be with groups joined? As dot_choose_axis. */
bool dot_choose_group_axis(Dot *d);
/* Takes zero points off what s sums, where w are the right factor's bytes as the instruction takes
 * them: the sum is too large by what they make up. */
void dot_correct(Dot *d, const KExpr *w);
/* e as a table where it is constant; NULL when all its elements are 0. */
const KExpr *dot_tabulate(Dot *d, const char *name, const KExpr *e);

#endif
