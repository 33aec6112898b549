/* Sequences whose length only running knows: lists.
 *
 * A Compound with a list has no items but up to three tensors, in one of three forms. Each operator
 * on sequences takes the form that costs least and falls back to the last one, which holds
 * anything:
 *
 *     stack   values [count, ...]                      elements of one shape
 *     parts   values [..., sum, ...], sizes [count]    pieces of one tensor along an axis
 *     flat    values [sum of elements], sizes [count], shapes [count * rank]
 *
 * All three are ordinary values, so an If joins them and a Loop carries them like any other; what a
 * loop only appends to is an output of it, stacked or joined. sizes count along the axis or, of a
 * flat list, elements; sizes and shapes are i64. */
#ifndef SMELT_FRONTEND_ONNX_LIST_H
#define SMELT_FRONTEND_ONNX_LIST_H

#include "frontend/onnx/compound.h"

typedef enum ListForm { LIST_STACK, LIST_PARTS, LIST_FLAT } ListForm;

struct List {
    ListForm form;
    Value *values, *sizes, *shapes; /* NULL where the form has none */
    int axis;                       /* parts */
    int rank;                       /* flat: of all elements, -1 when not known */
    Value *witness; /* flat, rank -1: an element, whose rank may be known later; or NULL */
};

/* How many tensors a list of this form is. */
int list_n_tensors(ListForm form);
/* A list of these tensors, as many as its form has, in the order above. */
Compound *list_from(Import *im, DType t, List form, Value *const *tensors);
/* The form of a list that is a or b, which have the same one. */
List list_either(const List *a, const List *b);
/* A new compound around a copy of l. */
Compound *list_create(Import *im, DType t, List l);
/* Pieces of x along an axis, sizes i64[count]. */
Compound *list_split(Call *c, Value *x, Value *sizes, int axis);
/* Slices of x across an axis, which they keep as a dim of 1 or not. */
Compound *list_unstack(Call *c, Value *x, int axis, bool keeps);

/* The rank of the elements of a sequence of any kind, -1 when it is not known. */
int list_rank(Call *c, const Compound *s);
/* A sequence of any kind as a list, in any form or flat. */
Compound *list_of(Call *c, Compound *s);
Compound *list_flat(Call *c, Compound *s);
/* Makes a and b, in the graphs of their calls, lists of one form. */
void list_match(Call *in_a, Compound **a, Call *in_b, Compound **b);

/* i64 scalar. */
Value *list_length(Call *c, const Compound *s);
/* The element at v, an integer that may count from the end. One outside reads nothing outside, as
 * an index of Gather. NULL after a message. */
Value *list_at(Call *c, const Compound *s, Value *v);
/* With x before position v, or at the end where v is NULL. */
Compound *list_insert(Call *c, Compound *s, Value *x, Value *v);
/* Without the element at v or, v NULL, the last one. */
Compound *list_erase(Call *c, Compound *s, Value *v);
/* The elements of a, then those of b. */
Compound *list_join(Call *c, Compound *a, Compound *b);
/* All elements along an axis that they have, or a new one. NULL after a message. */
Value *list_concat(Call *c, const Compound *s, int64_t axis, bool new_axis);

/* As an interface has it: all elements one behind another, and their shapes i64[length, rank].
 * False after a message. */
bool list_show(Call *c, Compound *s, Value *shown[2]);
/* The list that is shown so. */
Compound *list_shown(Call *c, DType t, Value *values, Value *shapes, int rank);

/* ---- loops (list_loop.c) --------------------------------------------------------------------- */

/* A Loop that carries sequences, when its trip count or condition is not known: those that its body
 * only appends a tensor to are outputs of the Loop, others are carried as flat lists. */
bool list_import_loop(Call *c);

/* A Loop of as many iterations as it is closed with, i64[1]: the call for nodes of its body, where
 * *i is the number of the iteration. */
Call list_open_loop(Call *c, Value **i);
/* Closes it: the lists of x[0], x[1], ..., tensors of the body, one of each in an iteration. */
void list_close_loop(Call *c, Call *in, Value *count, Value *const *x, int n, Compound **lists);
/* Closes it: x of all iterations one behind another along their first axis. */
Value *list_join_loop(Call *c, Call *in, Value *count, Value *x);

#endif
