/* Complex numbers in terms of what renderers know: see pairs.c. */
#ifndef SMELT_IR_PAIRS_H
#define SMELT_IR_PAIRS_H

#include "ir/kernel.h"

/* re, im and complex of c64 as arithmetic on its bits; any other node is returned as it is. */
const KExpr *pairs_expand(KCtx *k, const KExpr *e);
/* Splits what is c128 into two u64: expressions, variables, stores, and what counts elements of
 * such buffers. The buffers themselves are still c128 afterwards, and every access is to half an
 * element: whoever calls gives them u64 and twice as many elements. */
void kblock_split_pairs(KCtx *k, KBlock *b);

#endif
