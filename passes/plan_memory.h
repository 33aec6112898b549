/* What the two halves of plan_memory share: lives of buffers, of sizes that are known
 * (plan_memory.c) and of those that the caller's symbols decide (plan_symbolic.c). */
#ifndef SMELT_PASSES_PLAN_MEMORY_H
#define SMELT_PASSES_PLAN_MEMORY_H

#include "passes/pass.h"

enum { PLACE_ALIGN = 64 };

typedef struct Life {
    KBuf *buf;
    int64_t n_bytes; /* rounded up to the alignment */
    uint32_t first, last;
    uint32_t loop_first,
        loop_last; /* the outermost loop that has it first touched inside; 0: none */
    int64_t offset;
    bool symbolic;
    bool is_text; /* strings point into it */
} Life;

typedef struct Plan {
    KModule *km;
    KCtx *k;
    Arena *arena;
    VEC(Life) lives;
    uint32_t *position_of;
    uint32_t n_ids, now;
    const KBuf *apart; /* a buffer that has its place and is none of this plan's, or NULL */
} Plan;

/* Gives every symbolic life its offset, at or after `end`; returns the arena's size. */
const KExpr *plan_symbolic(Plan *p, const KExpr *end);

#endif
