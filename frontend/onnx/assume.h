/* Ranks that only running knows.
 *
 * Squeeze of an axis whose length is free becomes in many exporters
 *     y = If(Shape(x)[1] == 1) { Squeeze(x, [1]) } else { x }
 * or a Squeeze without axes. Here a value has one rank, and what reads y mostly fits one of the two
 * only: the model is imported under the assumption that the condition holds, or that a free length
 * is not 1, and again under the opposite where that leads to errors or to outputs of another rank
 * than the file gives them. What was assumed is checked while running. */
#ifndef SMELT_FRONTEND_ONNX_ASSUME_H
#define SMELT_FRONTEND_ONNX_ASSUME_H

#include "frontend/onnx/import.h"

/* What is assumed of a model, kept from one attempt to import it to the next. */
Assumptions *assumptions_create(Arena *a);
/* Was anything assumed? */
bool assumptions_any(const Assumptions *s);
/* Changes them to those of the next attempt; false, with those of the first one, when there were
 * attempts enough. */
bool assumptions_next(Assumptions *s);
/* A warning for each. */
void assumptions_warn(const Assumptions *s, Diag *d);

/* Must the rank of what this If gives be assumed? The If is c's, imported with both branches. */
bool assume_has_to(Call *c, const Node *n);
/* The If gives what one branch gives. */
void assume_branch(Call *c, Node *n);
/* Settles which free lengths a Squeeze without axes takes for 1. */
void assume_ones(Call *c, Node *n);

#endif
