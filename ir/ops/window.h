/* Sliding windows: the geometry that Conv, ConvTranspose and the pools share.
 *
 * infer reads the attributes, checks them, and writes back what later passes need: kernel_shape,
 * strides, dilations and pads are explicit afterwards, auto_pad is gone. lower reads those. Only
 * where SAME padding depends on a symbolic size, auto_pad stays and there are no pads. */
#ifndef SMELT_IR_OPS_WINDOW_H
#define SMELT_IR_OPS_WINDOW_H

#include "ir/graph.h"

typedef struct Window {
    int n; /* spatial axes: axis 2 + i of the tensors */
    int64_t kernel[MAX_RANK], stride[MAX_RANK], dilation[MAX_RANK];
    int64_t pad[2 * MAX_RANK]; /* begins, then ends */
    enum {
        PAD_FIXED,
        PAD_SAME_UPPER,
        PAD_SAME_LOWER
    } same[MAX_RANK]; /* pad follows from the size */
} Window;

/* Attribute `name` as `count` integers in lo .. 2^31 - 1, each `otherwise` when it is absent; false
 * after a message. */
bool window_list(Module *m, const Node *n, const char *name, int count, int64_t lo,
                 int64_t otherwise, int64_t *out);
/* Reads and checks the attributes of a node whose input 0 has n spatial axes. With `weights` the
 * kernel is its dims 2 and up, otherwise kernel_shape. auto_pad is left to the caller. */
bool window_check(Module *m, const Node *n, int n_spatial, const Value *weights, Window *w);
/* Resolves auto_pad against input 0's shape (Conv and pools). */
bool window_auto_pad(Module *m, const Node *n, Window *w);
/* Sizes of the outputs in dims[0 .. n-1]; ceil_mode is the pools'. */
bool window_sizes(Module *m, const Node *n, const Window *w, bool ceil_mode, const KExpr **dims);
/* Writes the geometry to the node's attributes; drops auto_pad. */
void window_store(Node *n, const Window *w);
/* What window_store wrote. */
void window_load(const Node *n, int n_spatial, Window *w);
/* Elements of padding before and after an axis of this size; are there any? */
const KExpr *window_before(KCtx *k, const Window *w, int i, const KExpr *size);
const KExpr *window_after(KCtx *k, const Window *w, int i, const KExpr *size);
bool window_is_padded(const Window *w, int i);
/* (kernel - 1) * dilation + 1 */
int64_t window_extent(const Window *w, int i);

#endif
