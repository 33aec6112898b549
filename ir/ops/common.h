/* What the operator families share: checks with messages, shapes and contents for `infer`, and
 * small definition helpers for `lower`. Every family file includes this header; it also declares
 * all verbs.
 *
 * The infer helpers return false after they have reported (diag_error for an invalid model,
 * diag_unsupported for a valid one that smelt does not cover); verbs just return that false. */
#ifndef SMELT_IR_OPS_COMMON_H
#define SMELT_IR_OPS_COMMON_H

#include "ir/define.h"
#include "ir/graph.h"

#define OP(name, domain, family, lo, hi, outs, flags)                                              \
    bool family##_infer(Module *m, Node *n);                                                       \
    void family##_lower(Def *d, const Node *n);
#include "ir/ops.def"
#undef OP

/* ---- infer: inputs --------------------------------------------------------------------------- */

/* Classes of element types, for infer_dtype. */
enum {
    CLASS_FLOAT = 1,
    CLASS_SINT = 2,
    CLASS_UINT = 4,
    CLASS_BOOL = 8,
    CLASS_INT = CLASS_SINT | CLASS_UINT,
    CLASS_CODE = 16, /* what is moved and cast, and no more: small floats and integers */
    CLASS_NUMBER = CLASS_FLOAT | CLASS_INT,
    CLASS_STRING = 32,
    CLASS_COMPLEX = 64,
    CLASS_SCALAR = CLASS_NUMBER | CLASS_BOOL,
    CLASS_ANY = CLASS_SCALAR | CLASS_STRING | CLASS_CODE | CLASS_COMPLEX,
};

/* Is the optional input (output) i there? */
static inline bool has_in(const Node *n, int i) {
    return i < n->n_in && n->in[i];
}
static inline bool has_out(const Node *n, int i) {
    return i < n->n_out && n->out[i];
}

/* Input i is there, is a tensor, and its dtype is in one of the classes. */
bool infer_dtype(Module *m, const Node *n, int i, unsigned classes);
/* Inputs i and j are there and have one dtype. */
bool infer_dtypes_equal(Module *m, const Node *n, int i, int j);
/* Input i is an index tensor: i32 or i64. */
bool infer_index_dtype(Module *m, const Node *n, int i);
/* Input i has a rank in lo .. hi (hi -1: any). */
bool infer_rank(Module *m, const Node *n, int i, int lo, int hi);
/* Attribute or input value `axis` for a tensor of this rank, made non-negative. */
bool infer_axis(Module *m, const Node *n, int64_t axis, int rank, int *out);
/* Marks the axes listed (negative ones count from the end); each at most once. is_in has `rank`
 * entries. */
bool infer_axes(Module *m, const Node *n, const int64_t *axes, int count, int rank, bool *is_in);
/* Input i's elements, at most cap, which must be known while compiling. */
bool infer_const_ints(Module *m, const Node *n, int i, int64_t *out, int cap, int *count);
/* The same for axes of a tensor of this rank, each at most once, that may be read while running:
 * is_in[a] says whether axis a is listed. */
bool infer_axis_flags(Module *m, const Node *n, int i, int rank, const KExpr **is_in, int *count);
/* How many of the flags before `at` are false. */
const KExpr *flags_position(KCtx *k, const KExpr *const *flag, int at);
/* Input i's elements as i64 expressions over symbols (a vector of at most cap). */
bool infer_exprs(Module *m, const Node *n, int i, int cap, const KExpr ***e, int *count);
/* The same for an input whose length may be found while running: it has to be `count` then. */
bool infer_exprs_as(Module *m, const Node *n, int i, int count, const KExpr ***e);
/* infer_exprs() for an input of one element. Elements that are not known while compiling are read
 * while running (value_read). */
bool infer_expr(Module *m, const Node *n, int i, const KExpr **e);
/* Input i, when it is there, has one element. */
bool infer_is_scalar(Module *m, const Node *n, int i);
/* The run ends unless the condition over symbols holds: with BAD_DATA where it depends on sizes
 * found while running, with BAD_DIM otherwise. */
void infer_rule(Module *m, const Node *n, const KExpr *condition);
/* The two have to be equal: false when they are known to differ. */
bool infer_same_dim(Module *m, const Node *n, const KExpr *a, const KExpr *b);
/* The shape that all present inputs broadcast to. */
bool infer_broadcast(Module *m, const Node *n, Shape *out);
/* The same for two shapes; false when they do not broadcast. */
bool infer_broadcast_two(Module *m, const Node *n, Shape a, Shape b, Shape *out);
/* Does e depend on sizes found while running? */
bool is_computed(Module *m, const KExpr *e);
/* Elements in a 1-D (or 0-D) input, constant. */
bool infer_const_length(Module *m, const Node *n, int i, int64_t *length);

/* ---- infer: outputs -------------------------------------------------------------------------- */

/* Output i's dtype and shape (absent outputs are skipped). Refuses negative dims and counts of
 * bytes that do not fit 62 bits. */
bool infer_set(Module *m, Node *n, int i, DType t, Shape s);
bool infer_same_as(Module *m, Node *n, int i, const Value *like);
/* Contents are tracked for i32, i64 and bool tensors of a known, small size; *count is that size.
 */
bool can_track_content(const Value *v, int64_t *count);
/* All elements of v as i64 expressions (a fresh array, `count` of them) or NULL when some are
 * unknown. */
const KExpr **infer_content(Module *m, const Value *v, int64_t *count);
/* Sets v->content when v is of a kind that is tracked; NULL or a NULL element drops it. */
void infer_set_content(Value *v, const KExpr **content);
/* A content element as the dtype holds it: constants wrap; a symbolic one is taken to fit. */
const KExpr *infer_wrapped(Module *m, DType t, const KExpr *e);
/* Content of an output that has the input's elements in the same order. */
void infer_copy_content(Module *m, const Value *from, Value *to);
/* Content of an output whose element at out_index is the input's at the in_index that `source`
 * fills in. */
typedef void ContentSource(const int64_t *out_index, int64_t *in_index, void *user);
void infer_moved_content(Module *m, const Value *x, Value *out, ContentSource *source, void *user);
/* Two constant dims that are not the same. */
bool dims_known_differ(const KExpr *a, const KExpr *b);

/* ---- lower ----------------------------------------------------------------------------------- */

/* The dtype arithmetic is done in: f32 for f16, bf16 and small floats, else the dtype itself. */
DType compute_dtype(DType t);
/* All axes of the stage's output, in index[0 .. rank-1]. */
void lower_axes(Def *d, const Stage *s, const KExpr **index);
/* at(t; the stage's axes), broadcast, converted to dtype `as`. */
const KExpr *lower_elem(Def *d, const Stage *s, KTensor *t, DType as);
/* The element of t, which broadcasts to out, that belongs to out's element `at`. */
const KExpr *lower_broadcast(Def *d, KTensor *t, const KTensor *out, const KExpr *const *at);
/* Row-major index of the stage's element. */
const KExpr *lower_flat(Def *d, const Stage *s);
/* at(t) by row-major flat index. */
const KExpr *lower_at_flat(Def *d, KTensor *t, const KExpr *flat);
/* Folds the n elements of a register buffer, a power of two, by halves; returns the value. */
const KExpr *lower_fold_lanes(KBuild *b, KBuf *lanes, int64_t n, KOp fold);
/* at(t) of a rank-0 or one-element tensor. */
const KExpr *lower_scalar(Def *d, KTensor *t);
/* An i64 expression of an index tensor's element, counted from the end when negative: e < 0 ? e +
 * dim : e. */
const KExpr *lower_index(Def *d, const KExpr *element, const KExpr *dim);
/* Cast by ONNX's rules: `cast`, but to f8 and e8m0 what is too large becomes the largest value
 * (when `saturate`), and to e8m0 values round as `round_mode` says: up, down or nearest. */
const KExpr *lower_cast(Def *d, DType to, const KExpr *e, bool saturate, const char *round_mode);
/* e, a whole float or NaN, in an integer type of at most 16 bits; saturates, and NaN gives the
 * least value. */
const KExpr *lower_quantized(Def *d, DType to, const KExpr *e);
/* 0 <= i < dim. */
const KExpr *lower_inside(Def *d, const KExpr *i, const KExpr *dim);
/* out = in's elements in the same row-major order: a view. */
void lower_view(Def *d, KTensor *in, KTensor *out);
/* out = value everywhere. */
void lower_fill(Def *d, KTensor *out, const KExpr *value);
/* In a program: store(user, i) for all i below n, in vectors if `wide`; a rest that only running
 * knows comes one by one. */
typedef void LowerStore(void *user, const KExpr *i);
void lower_for_all(KBuild *b, const KExpr *n, bool wide, LowerStore *store, void *user);
/* Largest and least value of a dtype (infinities for floats), in dtype t. */
const KExpr *lower_lowest(Def *d, DType t);
const KExpr *lower_highest(Def *d, DType t);
/* min / max that give NaN when either operand is NaN (plain ones for integers). */
const KExpr *lower_min_nan(Def *d, const KExpr *a, const KExpr *b);
const KExpr *lower_max_nan(Def *d, const KExpr *a, const KExpr *b);

/* Complex numbers: sum and product. */
const KExpr *lower_complex_add(Def *d, const KExpr *a, const KExpr *b);
const KExpr *lower_complex_mul(Def *d, const KExpr *a, const KExpr *b);
/* e != 0, of numbers of any kind; of a string: it is not empty. */
const KExpr *lower_differs_from_zero(Def *d, const KExpr *e);
/* Does a come before b where numbers of any kind are sorted? NaN comes last. */
const KExpr *lower_comes_before(Def *d, const KExpr *a, const KExpr *b);

/* Where input 1 is constant, are its elements first, first + stride, ... in -dim .. dim-1? False
 * after a message; true as well when they are not known while compiling. */
bool infer_indices_fit(Module *m, const Node *n, const KExpr *dim_expr, int64_t first,
                       int64_t stride);

#endif
