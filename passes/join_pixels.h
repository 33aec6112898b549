/* Internal to assign_layouts.c: convolutions by 1x1 taps between dense tensors. */
#ifndef SMELT_PASSES_JOIN_PIXELS_H
#define SMELT_PASSES_JOIN_PIXELS_H

#include "passes/pass.h"

/* s, a convolution with a dense result, over all pixels at once where it is a product of matrices;
 * false where it is none or lanes would idle. s is gone then, unless it has one axis of pixels. */
bool join_pixels(DefProgram *p, Stage *s);

#endif
