/* What the importers of com.microsoft's operators share: op_microsoft.c, op_microsoft_quant.c and
 * op_microsoft_attention.c, op_microsoft_nchwc.c and op_rnn.c. */
#ifndef SMELT_FRONTEND_ONNX_MICROSOFT_H
#define SMELT_FRONTEND_ONNX_MICROSOFT_H

#include "frontend/onnx/import.h"

/* A value whose channels are its last axis in ONNX's order, channels as axis 1, and back. */
Value *ms_channels_first(Call *c, Value *v, int rank);
Value *ms_channels_last(Call *c, Value *v, int rank);

/* activation(Conv(x, w, input 2) + z) with the call's attributes; z may be NULL. NULL after a
 * message. */
Value *ms_fused_conv(Call *c, Value *x, Value *w, Value *z);

/* The part of Attention behind the projection, for QAttention as well: qkv[B, S, 3 * N * H], then
 * the mask, past and attention bias inputs or NULL. Sets the call's outputs. */
bool ms_attend_projected(Call *c, Value *qkv, Value *mask, Value *past, Value *bias);

/* (a - za) * (b - zb) of bytes, summed as integers, in steps of sa * sb, plus bias; zero points and
 * the bias may be NULL. */
Value *ms_integer_product(Call *c, Value *a, Value *za, Value *sa, Value *b, Value *zb, Value *sb,
                          Value *bias);

#endif
