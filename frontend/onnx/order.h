/* An order of a graph's nodes in which producers come before consumers. */
#ifndef SMELT_FRONTEND_ONNX_ORDER_H
#define SMELT_FRONTEND_ONNX_ORDER_H

#include "frontend/onnx/model_internal.h"

/* Node `from` must come before node `to`. */
typedef struct OrderEdge {
    uint32_t from, to;
} OrderEdge;
typedef VEC(OrderEdge) OrderEdges;

/* n node indices in the model's arena: the file's order if it is a good one, else each node as late
 * as the file has it but after what it needs. NULL, with a message that shows the shortest cycle
 * found, when there is none. Time and memory are linear in nodes and edges. */
uint32_t *order_nodes(OnnxModel *m, Arena *scratch, Onnx__NodeProto **node, uint32_t n,
                      const OrderEdges *edges, SrcLoc where, Diag *d);

#endif
