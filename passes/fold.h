/* What the passes that compute at compile time share. */
#ifndef SMELT_PASSES_FOLD_H
#define SMELT_PASSES_FOLD_H

#include "ir/graph.h"

/* Replaces the outputs of n that are known by constants: from their contents, or by evaluating a
 * node of constants when its outputs take at most limit_bytes together. The node stays, without
 * uses, for graph_drop_dead. True when something was replaced. n was inferred. While the module is
 * on trial, the outputs get the constants' bytes, and nothing is replaced. */
bool fold_node(Module *m, Node *n, uint64_t limit_bytes);

#endif
