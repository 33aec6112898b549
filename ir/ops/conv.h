/* What Conv shares with its integer relatives: the shape of the result, and what an element of it
 * reads. */
#ifndef SMELT_IR_OPS_CONV_H
#define SMELT_IR_OPS_CONV_H

#include "ir/ops/window.h"

/* Output 0's shape from x (input 0) and the weights; checks group, channels and window, and makes
 * the window's attributes explicit. False after a message. */
bool conv_shape(Module *m, Node *n, const Value *weights, Shape *out);

/* Coordinates of the factors at the stage's axes and reduction axes; x counts where `inside` (NULL:
 * always) is true. */
typedef struct ConvReads {
    const KExpr *x[MAX_RANK], *w[MAX_RANK], *inside;
} ConvReads;
void conv_reads(Def *d, const Node *n, Stage *s, const KTensor *x, const KTensor *weights,
                ConvReads *r);

#endif
