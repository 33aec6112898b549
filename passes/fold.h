/* What the passes that compute at compile time share. */
#ifndef SMELT_PASSES_FOLD_H
#define SMELT_PASSES_FOLD_H

#include "ir/graph.h"

/* Replaces the outputs of n that are known by constants: from their contents, or by evaluating a node
 * of constants when its outputs take at most limit_bytes together. The node stays, without uses, for
 * graph_drop_dead. True when something was replaced. n was inferred. */
bool fold_node(Module *m, Node *n, uint64_t limit_bytes);
/* Puts the branch of an If whose condition is constant in its place. Returns the first node that came
 * in (or the one that follows when there is none) and drops n; n itself when there was nothing to do. */
Node *fold_branch(Node *n);

#endif
