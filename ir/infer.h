/* Shape inference over whole graphs. The verbs of the operators do the work; this walks. */
#ifndef SMELT_IR_INFER_H
#define SMELT_IR_INFER_H

#include "ir/graph.h"

/* Gives every value of g and of the graphs below it a dtype and a shape; false after messages (as
 * many as there are problems that do not follow from others). Graph inputs have their types
 * already. An If whose condition is known is replaced by its branch: the other one may not even
 * have valid shapes. May be called again after the graph has changed. */
bool infer_graph(Module *m, Graph *g);

/* Gives the outputs of an If the types, shapes and contents of one branch's. */
bool infer_branch(Module *m, Node *n, Graph *branch);

/* Have the branches of an If these outputs at one place, of which the result can only be one: their
 * ranks differ, by more than leading axes of length 1? */
bool if_ranks_clash(const Value *a, const Value *b);

/* Is the dim 1 where the caller's symbols are large? Such a length, x[:, 2:3], is shorter only
 * where the input is. */
bool is_one_of_many(Module *m, const KExpr *dim);

/* Says that v's rank is one or another, as only running knows (Value.spare_axes), and that who
 * reads it at loc has to know. False. */
bool refuse_spare_axes(Module *m, SrcLoc loc, const Value *v);

/* Are the slices of a Loop's output i joined along their first axis (attribute `joined`) rather
 * than stacked along a new one? */
bool loop_joins(const Node *n, int i);

#endif
