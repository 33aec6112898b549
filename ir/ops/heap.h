/* A binary heap of element numbers in kernel IR, for the programs that select and sort.
 *
 * The items are i64 numbers in a buffer at base + i * step, their keys lie at the same places of a
 * buffer of their own. Items are totally ordered: by key, then by number; the item that comes
 * `last` (or first) sits at the root. NaN keys come after all others in either direction. */
#ifndef SMELT_IR_OPS_HEAP_H
#define SMELT_IR_OPS_HEAP_H

#include "ir/define.h"

typedef struct Heap {
    KBuild *b;
    KBuf *items, *keys;
    const KExpr *base, *step;
    bool largest;      /* a larger key comes first; else a smaller one */
    bool last_at_root; /* the root is the item that comes last; else first */
} Heap;

/* Does item a (its key and number) come before b? */
const KExpr *heap_before(KCtx *k, bool largest, const KExpr *a_key, const KExpr *a,
                         const KExpr *b_key, const KExpr *b);
const KExpr *heap_item(const Heap *h, const KExpr *i);
const KExpr *heap_key(const Heap *h, const KExpr *i);
void heap_set(const Heap *h, const KExpr *i, const KExpr *item, const KExpr *key);
/* Puts item into the place `from` of a heap of `count` items whose part below from is in order. */
void heap_sift(const Heap *h, const KExpr *item, const KExpr *key, const KExpr *from,
               const KExpr *count);
/* Orders items 0 .. count-1 into a heap. */
void heap_build(const Heap *h, const KExpr *count);

#endif
