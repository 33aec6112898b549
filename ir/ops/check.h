/* Checks that many infer verbs share. Each reports what was found and what is accepted, and returns
 * false when the node is not good; absent optional inputs pass. */
#ifndef SMELT_IR_OPS_CHECK_H
#define SMELT_IR_OPS_CHECK_H

#include "ir/ops/common.h"

/* Sets of dtypes. */
#define DTM(t)     (1u << DT_##t)
#define DTM_FLOATS (DTM(F32) | DTM(F64) | DTM(F16) | DTM(BF16))
#define DTM_BYTES  (DTM(I8) | DTM(U8))
#define DTM_INTS   (DTM_BYTES | DTM(I16) | DTM(U16) | DTM(I32) | DTM(U32) | DTM(I64) | DTM(U64))
/* What the ai.onnx.ml operators take as features. */
#define DTM_FEATURES (DTM(F32) | DTM(F64) | DTM(I32) | DTM(I64))

bool check_dtype(Module *m, const Node *n, int i, uint32_t accepted);
bool check_same_dtype(Module *m, const Node *n, int i, int as);
/* Input i's dim `axis` is `want`; symbolic dims are believed. `what` names the wanted size. */
bool check_dim(Module *m, const Node *n, int i, int axis, const KExpr *want, const char *what);
/* Input i broadcasts to `to` without widening it. */
bool check_broadcasts_to(Module *m, const Node *n, int i, Shape to);
/* Attribute `name` is lo .. hi (an upper limit from INT32_MAX on is only named when it is passed).
 */
bool check_attr_int(Module *m, const Node *n, const char *name, int64_t found, int64_t lo,
                    int64_t hi);

/* The dtype that sums of t accumulate in: f16 and bf16 in f32, small integers in i32. */
DType acc_dtype(DType t);

/* Expressions: element of a tensor cast to t; a / b rounded up; 1 / sqrt(a). */
const KExpr *def_at_as(Def *d, DType t, KTensor *of, const KExpr *const *idx, int rank);
const KExpr *k_ceil_div(KCtx *k, const KExpr *a, int64_t b);
const KExpr *k_rsqrt(KCtx *k, const KExpr *a);
/* p, and index[a] below t's dims where infer could not know whether they are bound[a], below which
 * index[a] is: for predicated reads, which nobody else tests. bound[a] NULL: axis a needs nothing.
 */
const KExpr *k_and_fits(Def *d, const KExpr *p, const KTensor *t, const KExpr *const *index,
                        const KExpr *const *bound);
/* p and 0 <= index < dim; a NULL p stands for true. */
const KExpr *k_and_inside(Def *d, const KExpr *p, const KExpr *index, const KExpr *dim);
/* The whole number x, a float not far beyond an axis of `dim` elements, as an index to compute
 * with: of 32 bits where that is enough, so that it fills half as many vectors. */
const KExpr *k_whole_place(KCtx *k, const KExpr *x, const KExpr *dim);

#endif
