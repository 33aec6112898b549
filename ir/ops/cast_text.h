/* Cast between numbers and strings: see cast_text.c. */
#ifndef SMELT_IR_OPS_CAST_TEXT_H
#define SMELT_IR_OPS_CAST_TEXT_H

#include "ir/ops/common.h"

/* A stage that makes out of x; exactly one of them holds strings. */
void text_lower_cast(Def *d, KTensor *x, KTensor *out);

#endif
