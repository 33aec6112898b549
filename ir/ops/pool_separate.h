/* Pools over large windows that overlap, one axis after the other. */
#ifndef SMELT_IR_OPS_POOL_SEPARATE_H
#define SMELT_IR_OPS_POOL_SEPARATE_H

#include "ir/define.h"
#include "ir/ops/window.h"

/* A fold over windows of x: fold(init, element..), where x's elements are cast to the accumulator's
 * dtype and positions outside of x count as `init`. */
typedef struct WindowFold {
    KTensor *x;
    const Window *w;
    bool ceil_mode;
    KOp op;
    DType acc;
    const KExpr *init;
} WindowFold;

/* Is it less work to fold one axis after the other? */
bool pool_separates(const WindowFold *f, const KTensor *out);
/* The stages of all axes but the last, and the last one, of `out`: begun, and its reduction
 * defined; the caller may define its finish. */
Stage *pool_open_separate(Def *d, const WindowFold *f, KTensor *out);

#endif
