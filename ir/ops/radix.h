/* Sorting by digits, for the programs that select and sort: a few passes over the items, whatever
 * their order, each stable. */
#ifndef SMELT_IR_OPS_RADIX_H
#define SMELT_IR_OPS_RADIX_H

#include "ir/define.h"

/* Items 0 .. n-1 by number. keys has a key for each; items has room for 2 n numbers. */
typedef struct Radix {
    KBuild *b;
    KBuf *keys;                      /* of radix_dtype() */
    KBuf *items;                     /* i32 */
    const KExpr *keys_at, *items_at; /* where they begin in these */
    const KExpr *n;
    int digit_bits; /* RADIX_DIGIT_BITS at most */
    KBuf *counts;   /* i32, radix_counts() */
} Radix;

enum { RADIX_DIGIT_BITS = 11 };

/* Of the keys of such elements: u32 or u64. */
DType radix_dtype(DType t);
/* A key for a number or bool: smaller ones (or, with `largest`, larger ones) have smaller keys,
 * equal ones, as 0 and -0, equal keys; NaN has the largest. */
const KExpr *radix_key(KCtx *k, const KExpr *e, bool largest);
/* keys[i] := the key of element(user, i), for all n, in lanes. */
typedef const KExpr *RadixElement(void *user, const KExpr *i);
void radix_fill(const Radix *r, RadixElement *element, void *user, bool largest);
/* Counters on the stack. */
KBuf *radix_counts(KBuild *b);
/* Puts the items whose keys may be among the `wanted` smallest (1 .. n) into items, in order of
 * their numbers, and gives how many. */
const KExpr *radix_select(const Radix *r, const KExpr *wanted);
/* Sorts `count` items of items by their keys; equal keys stay in order. Gives where in items they
 * are now. */
const KExpr *radix_sort(const Radix *r, const KExpr *count);

#endif
