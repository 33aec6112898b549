/* What importers build decompositions with: short names for the operators that nearly all of them
 * need, and the shape of a value while the graph is still being built.
 *
 * Everything is added at the end of the call's graph, with the call's location. Axes are counted
 * from the front or, negative, from the end; lists of dims may have ONNX's 0 and -1. */
#ifndef SMELT_FRONTEND_ONNX_BUILD_H
#define SMELT_FRONTEND_ONNX_BUILD_H

#include "frontend/onnx/import.h"

Value *build_add(Call *c, Value *a, Value *b);
Value *build_sub(Call *c, Value *a, Value *b);
Value *build_mul(Call *c, Value *a, Value *b);
Value *build_div(Call *c, Value *a, Value *b);
/* v + x, v where x is NULL. */
Value *build_add_optional(Call *c, Value *v, Value *x);
/* v * factor in v's float type; v itself for 1. */
Value *build_scaled(Call *c, Value *v, double factor);
/* i64[1] */
Value *build_one(Call *c, int64_t v);
/* A constant of dims [n] or, n < 0, a scalar, in any dtype. */
Value *build_const(Call *c, DType t, const double *v, int n);
Value *build_transpose(Call *c, Value *v, const int64_t *perm, int n);
/* The last two axes of v, of the given rank, exchanged. */
Value *build_swap_last(Call *c, Value *v, int rank);
Value *build_reshape(Call *c, Value *v, const int64_t *dims, int n);
/* Reshape to dims that are computed: n values i64[1]. */
Value *build_reshape_to(Call *c, Value *v, Value *const *dims, int n);
/* Reshape to dims as Shape gives them, an i64 list: 0 is a size there, not "as before". */
Value *build_reshape_as(Call *c, Value *v, Value *dims);
Value *build_unsqueeze(Call *c, Value *v, int64_t axis);
Value *build_squeeze(Call *c, Value *v, int64_t axis);
Value *build_concat(Call *c, Value *const *v, int n, int64_t axis);
/* v[from : to] along an axis; the second form takes i64[1] values. */
Value *build_slice(Call *c, Value *v, int64_t from, int64_t to, int64_t axis);
Value *build_slice_at(Call *c, Value *v, Value *from, Value *to, int64_t axis);
Value *build_gather(Call *c, Value *v, Value *indices, int64_t axis);
/* n equal parts along an axis. */
void build_split(Call *c, Value *v, int n, int64_t axis, Value **part);
/* i64[1]: one dim of v. */
Value *build_dim(Call *c, Value *v, int64_t axis);
/* i64[to - from]: 0, 1, ... up to an i64[1]. */
Value *build_iota(Call *c, Value *count);
Value *build_softmax(Call *c, Value *v, int64_t axis);
/* Reduces over the axes; keeps them as dims of 1. */
Value *build_reduce(Call *c, OpId op, Value *v, const int64_t *axes, int n);
Value *build_where(Call *c, Value *condition, Value *a, Value *b);

/* The graph operator `op` with the call's outputs and attributes (except those named in `but`):
 * call_same for operators of another name or domain. */
bool build_same(Call *c, OpId op, Value *const *in, int n_in, const char *but);

/* What DynamicQuantizeLinear makes of x: u8 values, scale, zero point (op_quant.c). */
void build_dynamic_quantize(Call *c, Value *x, Value *result[3]);
/* The listed inputs are there; else false after a message. For operators whose optional inputs come
 * before required ones; the list ends with -1. */
bool build_needs(Call *c, const int *inputs);

/* v's shape, inferred on the spot where it follows from the model's inputs; NULL after a message
 * when it does not (as in the body of a Loop, where it depends on what is imported later). */
const Shape *build_shape(Call *c, Value *v, const char *what);
/* The same without a message. */
bool build_has_shape(Call *c, Value *v);
/* The rank alone, -1 after a message. */
int build_rank(Call *c, Value *v, const char *what);

#endif
