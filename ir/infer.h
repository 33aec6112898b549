/* Shape inference over whole graphs. The verbs of the operators do the work; this walks. */
#ifndef SMELT_IR_INFER_H
#define SMELT_IR_INFER_H

#include "ir/graph.h"

/* Gives every value of g and of the graphs below it a dtype and a shape; false after messages (as
 * many as there are problems that do not follow from others). Graph inputs have their types
 * already. An If whose condition is known is replaced by its branch: the other one may not even
 * have valid shapes. May be called again after the graph has changed. */
bool infer_graph(Module *m, Graph *g);

/* Are the slices of a Loop's output i joined along their first axis (attribute `joined`) rather than
 * stacked along a new one? */
bool loop_joins(const Node *n, int i);

#endif
