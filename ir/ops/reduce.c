/* Folds along axes: the Reduce family, ArgMax, ArgMin.
 *
 *   Reduce     out[i] = finish(fold over the reduced axes of f(x[...]))
 *   ArgMax     best[i] = max over the axis; out[i] = least (or last) index whose element equals
 *              best[i]
 *
 * f16 and bf16 accumulate in f32. The order of a fold is the schedule's. ReduceMax and ReduceMin
 * fold integer keys that order floats (-0 below +0, NaN beyond everything), so that the result does
 * not depend on that order and any NaN comes out as NaN. */
#include "ir/ops/common.h"

/* ---- axes ------------------------------------------------------------------------------------ */

/* Which axes are reduced, as bool expressions: they may be read while running. */
typedef struct Reduced {
    const KExpr *flag[MAX_RANK];
    int count;
    bool keep;
} Reduced;

/* None given means all, or none with noop_with_empty_axes. */
static bool reduced_axes(Module *m, const Node *n, Reduced *r) {
    int rank = n->in[0]->shape.rank;
    r->keep = attr_int(n, "keepdims", 1) != 0;
    r->count = 0;
    for (int i = 0; i < rank; i++) r->flag[i] = k_bool(m->k, false);
    if (has_in(n, 1) && !infer_axis_flags(m, n, 1, rank, r->flag, &r->count)) return false;
    if (r->count || attr_int(n, "noop_with_empty_axes", 0)) return true;
    for (int i = 0; i < rank; i++) r->flag[i] = k_bool(m->k, true);
    r->count = rank;
    return true;
}

/* One axis that is known. */
static void reduce_one(Module *m, const Node *n, int rank, int axis, Reduced *r) {
    r->keep = attr_int(n, "keepdims", 1) != 0;
    r->count = 1;
    for (int i = 0; i < rank; i++) r->flag[i] = k_bool(m->k, i == axis);
}

/* Is axis i of x the output's axis j? */
static const KExpr *is_kept_at(KCtx *k, const Reduced *r, int i, int j) {
    const KExpr *here = k_eq(k, flags_position(k, r->flag, i), k_int(k, j));
    return k_and(k, k_not(k, r->flag[i]), here);
}

static Shape reduced_shape(Module *m, Shape in, const Reduced *r) {
    KCtx *k = m->k;
    Shape out = shape_make(m->arena, in.rank);
    if (!r->keep) out.rank = in.rank - r->count;
    for (int j = 0; j < out.rank; j++) {
        out.dims[j] = k_int(k, 1);
        if (r->keep) out.dims[j] = k_select(k, r->flag[j], k_int(k, 1), in.dims[j]);
        for (int i = in.rank - 1; i >= 0 && !r->keep; i--)
            out.dims[j] = k_select(k, is_kept_at(k, r, i, j), in.dims[i], out.dims[j]);
    }
    return out;
}

/* Input indices of a stage whose output is reduced_shape: its axes where kept, fresh ones
 * elsewhere; where that shows while running only, the sum of both, of which one is 0. */
static void reduce_indices(Def *d, Stage *s, const KTensor *x, const Reduced *r,
                           const KExpr **from) {
    KCtx *k = d->k;
    const KExpr *zero = k_int(k, 0);
    for (int i = 0; i < x->rank; i++) {
        bool is_fixed = r->flag[i]->op == KO_const_i;
        from[i] = zero;
        for (int j = 0; j < s->out->rank && !k_is_value(r->flag[i], 1); j++) {
            const KExpr *here = r->keep ? k_bool(k, i == j) : is_kept_at(k, r, i, j);
            if (k_is_value(here, 0)) continue;
            from[i] = k_select(k, here, def_axis(d, s, j), from[i]);
        }
        if (is_fixed && !r->flag[i]->u.i) continue;
        const KExpr *extent = k_select(k, r->flag[i], x->dims[i], k_int(k, 1));
        from[i] = k_add(k, from[i], def_reduce_axis(d, s, "r", extent));
    }
}

/* ---- ordering keys --------------------------------------------------------------------------- */

static DType key_dtype(DType t) {
    if (t == DT_F64) return DT_I64;
    return dtype_is_float(t) ? DT_I32 : t;
}

/* Negative floats order backwards as integers: flip all bits but the sign. The map is its own
 * inverse. */
static const KExpr *flip_negative(KCtx *k, const KExpr *key) {
    int bits = dtype_info[key->dtype].bits;
    const KExpr *sign = k_shr(k, key, k_const_i(k, key->dtype, bits - 1));
    return k_xor(k, key,
                 k_and(k, sign, k_const_i(k, key->dtype, bits == 64 ? INT64_MAX : INT32_MAX)));
}

/* What moves the key of infinity to the end of 32 bits, so that those of NaNs beyond it, of either
 * sign, come around to the other end. Sums of i64 may not wrap. */
enum { NAN_KEYS = 0x7fffff };

static const KExpr *past_infinity(KCtx *k, const KExpr *key, bool up) {
    return k_binary(k, up ? KO_add : KO_sub, key, k_const_i(k, DT_I32, NAN_KEYS));
}

/* An integer that orders like x; NaN gives the greatest (for max) or the least (for min). */
static const KExpr *order_key(Def *d, const KExpr *x, bool is_max) {
    KCtx *k = d->k;
    DType t = key_dtype(x->dtype);
    if (t == x->dtype) return x;
    const KExpr *key = flip_negative(k, k_bitcast(k, t, x));
    if (t == DT_I32) return past_infinity(k, key, !is_max);
    const KExpr *nan_key = is_max ? lower_highest(d, t) : lower_lowest(d, t);
    return k_select(k, k_eq(k, x, x), key, nan_key);
}

/* The extreme keys are NaNs' own bits with all payload bits set, so no test is needed on the way
 * back. */
static const KExpr *key_value(Def *d, DType t, const KExpr *key, bool is_max) {
    if (key->dtype == t) return key;
    if (key->dtype == DT_I32) key = past_infinity(d->k, key, is_max);
    return k_bitcast(d->k, t, flip_negative(d->k, key));
}

/* ---- Reduce ---------------------------------------------------------------------------------- */

static unsigned reduce_classes(OpId op) {
    return op == OP_ReduceMax || op == OP_ReduceMin ? CLASS_SCALAR : CLASS_NUMBER;
}

/* Contents of ReduceProd and ReduceMin over a whole vector. */
static void reduce_content(Module *m, const Node *n, const Reduced *r, Value *out) {
    int64_t count, n_out;
    const Value *x = n->in[0];
    out->content = NULL;
    const KExpr **own =
        x->shape.rank == 1 && k_is_value(r->flag[0], 1) ? infer_content(m, x, &count) : NULL;
    if (!own || count == 0 || !can_track_content(out, &n_out)) return;
    if (n->op != OP_ReduceProd && n->op != OP_ReduceMin) return;
    const KExpr *e = own[0];
    for (int64_t i = 1; i < count; i++)
        e = n->op == OP_ReduceProd ? k_mul(m->k, e, own[i]) : k_min(m->k, e, own[i]);
    own[0] = infer_wrapped(m, out->dtype, e);
    infer_set_content(out, own);
}

bool reduce_infer(Module *m, Node *n) {
    Reduced r;
    if (!infer_dtype(m, n, 0, reduce_classes(n->op)) || !reduced_axes(m, n, &r)) return false;
    if (!infer_set(m, n, 0, n->in[0]->dtype, reduced_shape(m, n->in[0]->shape, &r))) return false;
    reduce_content(m, n, &r, n->out[0]);
    return true;
}

/* Dtype of the accumulator. Roots and logarithms of integers go through f64. */
static DType reduce_dtype(OpId op, DType t) {
    bool is_real = op == OP_ReduceL2 || op == OP_ReduceLogSum || op == OP_ReduceLogSumExp;
    if (is_real && !dtype_is_float(t)) return DT_F64;
    t = compute_dtype(t);
    return op == OP_ReduceMax || op == OP_ReduceMin ? key_dtype(t) : t;
}

static const KExpr *reduce_term(Def *d, OpId op, const KExpr *x) {
    KCtx *k = d->k;
    switch ((int)op) {
    case OP_ReduceL1: return dtype_info[x->dtype].kind == DK_UINT ? x : k_abs(k, x);
    case OP_ReduceL2:
    case OP_ReduceSumSquare: return k_mul(k, x, x);
    case OP_ReduceMax:
    case OP_ReduceMin: return order_key(d, x, op == OP_ReduceMax);
    default: return x;
    }
}

static KOp reduce_fold(OpId op, DType acc) {
    switch ((int)op) {
    case OP_ReduceMax: return acc == DT_BOOL ? KO_or : KO_max;
    case OP_ReduceMin: return acc == DT_BOOL ? KO_and : KO_min;
    case OP_ReduceProd: return KO_mul;
    default: return KO_add;
    }
}

/* The neutral element; for keys that of -inf (max) or +inf (min): the result without elements. */
static const KExpr *reduce_init(Def *d, OpId op, DType x, DType acc) {
    bool is_max = op == OP_ReduceMax;
    if (!is_max && op != OP_ReduceMin) return k_const(d->k, acc, op == OP_ReduceProd);
    if (acc == x || acc == DT_I32) return is_max ? lower_lowest(d, acc) : lower_highest(d, acc);
    return k_const_i(d->k, acc,
                     is_max ? -INT64_C(0x7ff0000000000001) : INT64_C(0x7ff0000000000000));
}

static const KExpr *reduce_finish(Def *d, const Stage *s, DType x) {
    KCtx *k = d->k;
    OpId op = d->node->op;
    const KExpr *acc = def_acc(d, s), *count = k_int(k, 1);
    switch ((int)op) {
    case OP_ReduceMax:
    case OP_ReduceMin: return key_value(d, x, acc, op == OP_ReduceMax);
    case OP_ReduceL2: return k_sqrt(k, acc);
    case OP_ReduceLogSum: return k_log(k, acc);
    case OP_ReduceMean:
        for (int i = 0; i < s->n_red; i++) count = k_mul(k, count, s->red_extent[i]);
        return k_div(k, acc, k_cast(k, acc->dtype, count));
    default: return acc;
    }
}

/* log(sum(exp(x - peak))) + peak with the greatest element as peak, 0 where that is not finite */
static void log_sum_exp(Def *d, KTensor *x, KTensor *out, const Reduced *r, DType t) {
    KCtx *k = d->k;
    const KExpr *from[MAX_RANK], *own[MAX_RANK];
    KTensor *peak = def_temp(d, "peak", t, out->rank, out->dims);
    Stage *s = def_begin(d, FORM_REDUCE, peak);
    reduce_indices(d, s, x, r, from);
    def_reduce(d, s, KO_max, t, lower_lowest(d, t), k_cast(k, t, def_at(d, x, from, x->rank)));
    const KExpr *zero = k_const(k, t, 0), *most = def_acc(d, s);
    def_finish(d, s, k_select(k, k_lt(k, k_abs(k, most), lower_highest(d, t)), most, zero));
    s = def_begin(d, FORM_REDUCE, out);
    lower_axes(d, s, own);
    const KExpr *shift = k_at(k, peak, own, peak->rank);
    reduce_indices(d, s, x, r, from);
    const KExpr *e = k_cast(k, t, def_at(d, x, from, x->rank));
    def_reduce(d, s, KO_add, t, zero, k_exp(k, k_sub(k, e, shift)));
    def_finish(d, s, k_cast(k, out->dtype, k_add(k, k_log(k, def_acc(d, s)), shift)));
}

void reduce_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *from[MAX_RANK];
    Reduced r;
    BUG_IF(!reduced_axes(d->m, n, &r), "axes changed since infer");
    DType acc = reduce_dtype(n->op, x->dtype);
    if (n->op == OP_ReduceLogSumExp) {
        log_sum_exp(d, x, out, &r, acc);
        return;
    }
    bool is_order = n->op == OP_ReduceMax || n->op == OP_ReduceMin;
    DType t = is_order ? compute_dtype(x->dtype) : acc; /* of the element before f */
    Stage *s = def_begin(d, FORM_REDUCE, out);
    reduce_indices(d, s, x, &r, from);
    const KExpr *e = k_cast(d->k, t, def_at(d, x, from, x->rank));
    def_reduce(d, s, reduce_fold(n->op, acc), acc, reduce_init(d, n->op, t, acc),
               reduce_term(d, n->op, e));
    def_finish(d, s, k_cast(d->k, out->dtype, reduce_finish(d, s, t)));
}

/* ---- ArgMax and ArgMin ----------------------------------------------------------------------- */

static bool is_empty(const Shape *s) {
    for (int i = 0; i < s->rank; i++)
        if (k_is_value(s->dims[i], 0)) return true;
    return false;
}

bool arg_reduce_infer(Module *m, Node *n) {
    Reduced r;
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_NUMBER)) return false;
    Shape in = n->in[0]->shape;
    if (!infer_axis(m, n, attr_int(n, "axis", 0), in.rank, &axis)) return false;
    reduce_one(m, n, in.rank, axis, &r);
    Shape out = reduced_shape(m, in, &r);
    if (k_is_value(in.dims[axis], 0) && !is_empty(&out)) {
        diag_error(m->diag, n->loc, "axis %d is empty: it has no extreme element", axis);
        return false;
    }
    return infer_set(m, n, 0, DT_I64, out);
}

/* NaN is never the best, except that a leading NaN wins: what comparing one element after the other
 * with "greater than the best so far" gives, which is onnxruntime's way. */
void arg_reduce_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    Reduced r;
    bool is_max = n->op == OP_ArgMax;
    bool is_last = attr_int(n, "select_last_index", 0) != 0;
    int axis = shape_axis(attr_int(n, "axis", 0), x->rank);
    reduce_one(d->m, n, x->rank, axis, &r);
    const KExpr *from[MAX_RANK], *own[MAX_RANK],
        *worst = is_max ? lower_lowest(d, t) : lower_highest(d, t);
    KTensor *best = def_temp(d, "best", t, out->rank, out->dims);
    Stage *s = def_begin(d, FORM_REDUCE, best);
    reduce_indices(d, s, x, &r, from);
    const KExpr *e = k_cast(k, t, def_at(d, x, from, x->rank));
    if (dtype_is_float(t)) e = k_select(k, k_eq(k, e, e), e, worst);
    def_reduce(d, s, is_max ? KO_max : KO_min, t, worst, e);
    s = def_begin(d, FORM_REDUCE, out);
    lower_axes(d, s, own);
    const KExpr *most = k_at(k, best, own, best->rank);
    reduce_indices(d, s, x, &r, from);
    /* twice as many lanes as indices of 64 bits have */
    DType it = x->dims[axis]->hi <= INT32_MAX ? DT_I32 : DT_I64;
    const KExpr *never = k_const_i(k, it, is_last ? -1 : it == DT_I32 ? INT32_MAX : INT64_MAX);
    const KExpr *is_best = k_eq(k, k_cast(k, t, def_at(d, x, from, x->rank)), most);
    const KExpr *i = k_select(k, is_best, k_cast(k, it, from[axis]), never);
    def_reduce(d, s, is_last ? KO_max : KO_min, it, never, i);
    const KExpr *zero = k_const_i(k, it, 0), *is_there = k_lt(k, k_int(k, 0), x->dims[axis]);
    const KExpr *found = k_select(k, is_there, def_acc(d, s), zero);
    if (dtype_is_float(t)) {
        from[axis] = k_int(k, 0);
        e = k_cast(k, t, def_at_if(d, x, from, x->rank, is_there));
        found = k_select(k, k_eq(k, e, e), found, zero);
    }
    def_finish(d, s, k_cast(k, DT_I64, found));
}
