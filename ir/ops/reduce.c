/* Folds along axes: the Reduce family, ArgMax, ArgMin.
 *
 *   Reduce     out[i] = finish(fold over the reduced axes of f(x[...]))
 *   ArgMax     best[i] = max over the axis; out[i] = least (or last) index whose element equals
 *              best[i]
 *
 * Axes that are known only while running (reduce_open): a program finds the sizes of the output
 * and the stride in it of each axis, 0 for those that are folded; another walks x once.
 *
 * f16 and bf16 accumulate in f32. The order of a fold is the schedule's. ReduceMax and ReduceMin
 * fold integer keys that order floats (-0 below +0, NaN beyond everything), so that the result does
 * not depend on that order and any NaN comes out as NaN. */
#include "ir/ops/common.h"

/* ---- axes ------------------------------------------------------------------------------------ */

static bool keeps_dims(const Node *n) {
    return attr_int(n, "keepdims", 1) != 0;
}

/* Are the axes computed while running? */
static bool has_open_axes(Module *m, const Node *n) {
    int64_t count, axes[MAX_RANK];
    int n_axes;
    if (!has_in(n, 1) || (shape_count_int(n->in[1]->shape, &count) && count == 0)) return false;
    return !value_ints(m, n->in[1], axes, MAX_RANK, &n_axes);
}

/* Marks the reduced axes; none given means all, or none with noop_with_empty_axes. */
static bool reduced_axes(Module *m, const Node *n, bool *is_red) {
    int64_t axes[MAX_RANK], length;
    int count = 0, rank = n->in[0]->shape.rank;
    bool is_empty = has_in(n, 1) && shape_count_int(n->in[1]->shape, &length) && length == 0;
    if (has_in(n, 1) && !is_empty && !infer_const_ints(m, n, 1, axes, MAX_RANK, &count)) return false;
    if (!infer_axes(m, n, axes, count, rank, is_red)) return false;
    if (count == 0 && !attr_int(n, "noop_with_empty_axes", 0))
        for (int i = 0; i < rank; i++) is_red[i] = true;
    return true;
}

static Shape reduced_shape(Module *m, Shape in, const bool *is_red, bool keep) {
    Shape out = shape_make(m->arena, in.rank);
    out.rank = 0;
    for (int i = 0; i < in.rank; i++)
        if (keep || !is_red[i]) out.dims[out.rank++] = is_red[i] ? k_int(m->k, 1) : in.dims[i];
    return out;
}

/* Input indices of a stage whose output is reduced_shape: its axes where kept, fresh ones
 * elsewhere. */
static void reduce_indices(Def *d, Stage *s, const KTensor *x, const bool *is_red, bool keep,
                           const KExpr **from) {
    for (int i = 0, j = 0; i < x->rank; i++) {
        from[i] = is_red[i] ? def_reduce_axis(d, s, "r", x->dims[i]) : def_axis(d, s, j);
        j += keep || !is_red[i];
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

/* An integer that orders like x; NaN gives the greatest (for max) or the least (for min). */
static const KExpr *order_key(Def *d, const KExpr *x, bool is_max) {
    KCtx *k = d->k;
    DType t = key_dtype(x->dtype);
    if (t == x->dtype) return x;
    const KExpr *nan_key = is_max ? lower_highest(d, t) : lower_lowest(d, t);
    return k_select(k, k_eq(k, x, x), flip_negative(k, k_bitcast(k, t, x)), nan_key);
}

/* The extreme keys are NaNs' own bits with all payload bits set, so no test is needed on the way
 * back. */
static const KExpr *key_value(Def *d, DType t, const KExpr *key) {
    return key->dtype == t ? key : k_bitcast(d->k, t, flip_negative(d->k, key));
}

/* ---- Reduce ---------------------------------------------------------------------------------- */

static unsigned reduce_classes(OpId op) {
    return op == OP_ReduceMax || op == OP_ReduceMin ? CLASS_SCALAR : CLASS_NUMBER;
}

/* A dim of the output that depends on which axes are folded: a size found while running. */
static const KExpr *open_dim(Module *m, const KExpr *bound) {
    if (bound->lo == 1 && k_is_value(bound, 1)) return bound;
    return k_var(m->k, module_computed_symbol(m, "reduced", bound));
}

/* The shape for axes that are computed. With keepdims each dim is x's or 1; without, dim j is that
 * of one of the axes j .. j + (number of axes). */
static bool open_infer(Module *m, Node *n) {
    Shape in = n->in[0]->shape, had = n->out[0]->shape;
    int64_t n_axes = 0;
    bool keep = keeps_dims(n);
    if (!infer_index_dtype(m, n, 1) || !infer_rank(m, n, 1, 0, 1)) return false;
    if ((!keep && !shape_count_int(n->in[1]->shape, &n_axes)) || n_axes > in.rank) {
        diag_unsupported(m->diag, n->loc, "the rank of the result is not known while compiling; "
                                          "make input 1 a constant or set keepdims");
        return false;
    }
    Shape out = shape_make(m->arena, keep ? in.rank : in.rank - (int)n_axes);
    bool was_open = had.rank == out.rank && had.rank > 0;
    for (int i = 0; was_open && i < had.rank; i++)
        was_open = had.dims[i]->op == KO_var || k_is_value(had.dims[i], 1);
    if (was_open) return true; /* inferred before: one set of symbols per node */
    const KExpr *one = k_int(m->k, 1);
    for (int i = 0; i < out.rank; i++) {
        const KExpr *bound = keep ? k_max(m->k, in.dims[i], one) : in.dims[i];
        for (int64_t j = 1; !keep && j <= n_axes; j++) bound = k_max(m->k, bound, in.dims[i + j]);
        out.dims[i] = open_dim(m, bound);
    }
    n->out[0]->content = NULL;
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* Contents of ReduceProd and ReduceMin over a whole vector. */
static void reduce_content(Module *m, const Node *n, const bool *is_red, Value *out) {
    int64_t count, n_out;
    const Value *x = n->in[0];
    out->content = NULL;
    const KExpr **own = x->shape.rank == 1 && is_red[0] ? infer_content(m, x, &count) : NULL;
    if (!own || count == 0 || !can_track_content(out, &n_out)) return;
    if (n->op != OP_ReduceProd && n->op != OP_ReduceMin) return;
    const KExpr *e = own[0];
    for (int64_t i = 1; i < count; i++)
        e = n->op == OP_ReduceProd ? k_mul(m->k, e, own[i]) : k_min(m->k, e, own[i]);
    own[0] = infer_wrapped(m, out->dtype, e);
    infer_set_content(out, own);
}

bool reduce_infer(Module *m, Node *n) {
    bool is_red[MAX_RANK];
    if (!infer_dtype(m, n, 0, reduce_classes(n->op))) return false;
    if (has_open_axes(m, n)) return open_infer(m, n);
    if (!reduced_axes(m, n, is_red)) return false;
    Shape out = reduced_shape(m, n->in[0]->shape, is_red, keeps_dims(n));
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    reduce_content(m, n, is_red, n->out[0]);
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
    if (acc == x) return is_max ? lower_lowest(d, x) : lower_highest(d, x);
    if (acc == DT_I32)
        return k_const_i(d->k, acc, is_max ? -INT64_C(0x7f800001) : INT64_C(0x7f800000));
    return k_const_i(d->k, acc,
                     is_max ? -INT64_C(0x7ff0000000000001) : INT64_C(0x7ff0000000000000));
}

/* The result from the folded value; `count` elements were folded. */
static const KExpr *reduce_finish(Def *d, const KExpr *acc, const KExpr *count, DType x) {
    KCtx *k = d->k;
    OpId op = d->node->op;
    switch ((int)op) {
    case OP_ReduceMax:
    case OP_ReduceMin: return key_value(d, x, acc);
    case OP_ReduceL2: return k_sqrt(k, acc);
    case OP_ReduceLogSum: return k_log(k, acc);
    case OP_ReduceMean: return k_div(k, acc, k_cast(k, acc->dtype, count));
    default: return acc;
    }
}

/* The greatest element, or 0 where that is not finite. */
static const KExpr *finite_peak(Def *d, const KExpr *most) {
    KCtx *k = d->k;
    DType t = most->dtype;
    return k_select(k, k_lt(k, k_abs(k, most), lower_highest(d, t)), most, k_const(k, t, 0));
}

/* log(sum(exp(x - peak))) + peak */
static void log_sum_exp(Def *d, KTensor *x, KTensor *out, const bool *is_red, bool keep, DType t) {
    KCtx *k = d->k;
    const KExpr *from[MAX_RANK], *own[MAX_RANK];
    KTensor *peak = def_temp(d, "peak", t, out->rank, out->dims);
    Stage *s = def_begin(d, FORM_REDUCE, peak);
    reduce_indices(d, s, x, is_red, keep, from);
    def_reduce(d, s, KO_max, t, lower_lowest(d, t), k_cast(k, t, def_at(d, x, from, x->rank)));
    def_finish(d, s, finite_peak(d, def_acc(d, s)));
    s = def_begin(d, FORM_REDUCE, out);
    lower_axes(d, s, own);
    const KExpr *shift = k_at(k, peak, own, peak->rank);
    reduce_indices(d, s, x, is_red, keep, from);
    const KExpr *e = k_cast(k, t, def_at(d, x, from, x->rank));
    def_reduce(d, s, KO_add, t, k_const(k, t, 0), k_exp(k, k_sub(k, e, shift)));
    def_finish(d, s, k_cast(k, out->dtype, k_add(k, k_log(k, def_acc(d, s)), shift)));
}

/* ---- Reduce: axes that are computed ----------------------------------------------------------- */

/* mask[a] = 1 for the axes that are folded. */
static KBuf *open_mask(Def *d, const Node *n, const KTensor *x) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *axes = def_in(d, 1);
    const KExpr *length = tensor_n_elems(k, axes), *one = k_int(k, 1), *zero = k_int(k, 0);
    const KExpr *all = attr_int(n, "noop_with_empty_axes", 0) ? zero
                       : k_select(k, k_eq(k, length, zero), one, zero);
    KBuf *mask = kb_alloc(b, MEM_STACK, DT_I64, "mask", x->rank);
    for (int a = 0; a < x->rank; a++) kb_store(b, mask, k_int(k, a), all);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", length), *rank = k_int(k, x->rank);
    const KExpr *axis = kb_let(b, "axis", lower_index(d, lower_at_flat(d, axes, i), rank));
    kb_if(b, lower_inside(d, axis, rank));
    kb_store(b, mask, axis, one);
    kb_end(b);
    kb_end(b);
    return mask;
}

/* A program that stores the sizes of `out` and gives a table: for each axis of x its stride in out,
 * 0 when it is folded; then the number of elements that are folded into one. */
static KTensor *open_plan(Def *d, const Node *n, const KTensor *x, const KTensor *out) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *length = k_int(k, x->rank + 1), *zero = k_int(k, 0), *one = k_int(k, 1);
    const KExpr *is_red[MAX_RANK], *stride = one, *count = one, *place = zero, *size[MAX_RANK];
    KTensor *plan = def_temp(d, "plan", DT_I64, 1, &length);
    Stage *s = def_program(d, &plan, 1);
    KBuf *mask = open_mask(d, n, x);
    for (int a = x->rank - 1; a >= 0; a--) {
        is_red[a] = kb_let(b, "folded", k_ne(k, k_load(k, mask, k_int(k, a)), zero));
        kb_store(b, plan->buf, k_int(k, a), k_select(k, is_red[a], zero, stride));
        const KExpr *step = k_mul(k, stride, x->dims[a]), *more = k_mul(k, count, x->dims[a]);
        stride = kb_let(b, "stride", k_select(k, is_red[a], stride, step));
        count = kb_let(b, "count", k_select(k, is_red[a], more, count));
    }
    kb_store(b, plan->buf, k_int(k, x->rank), count);
    for (int i = 0; i < out->rank; i++) size[i] = one;
    for (int a = 0; a < x->rank; a++) { /* place: of axis a among those that stay */
        if (keeps_dims(n)) size[a] = k_select(k, is_red[a], one, x->dims[a]);
        for (int i = 0; !keeps_dims(n) && i < out->rank && i <= a; i++) {
            const KExpr *is_here = k_and(k, k_not(k, is_red[a]), k_eq(k, place, k_int(k, i)));
            size[i] = k_select(k, is_here, x->dims[a], size[i]);
        }
        place = k_add(k, place, k_select(k, is_red[a], zero, one));
    }
    for (int i = 0; i < out->rank; i++)
        if (out->dims[i]->op == KO_var) def_store_size(d, s, out->dims[i]->u.var, size[i]);
    def_end_program(d, s);
    return plan;
}

/* acc = fold of the terms of x's elements, in row-major order of x. peak: subtracted from them
 * before they become powers, for ReduceLogSumExp, or NULL. */
static KTensor *open_fold(Def *d, KTensor *x, KTensor *plan, const KTensor *out, KTensor *peak,
                          DType t, OpId op, DType acc_type) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *acc = def_temp(d, "acc", acc_type, out->rank, out->dims);
    const KExpr *index[MAX_RANK], *to = k_int(k, 0);
    Stage *s = def_program(d, &acc, 1);
    const KExpr *o = kb_for(b, LOOP_SERIAL, "o", tensor_n_elems(k, acc));
    kb_store(b, acc->buf, o, reduce_init(d, op, t, acc_type));
    kb_end(b);
    for (int a = 0; a < x->rank; a++) {
        index[a] = kb_for(b, LOOP_SERIAL, "i", x->dims[a]);
        const KExpr *axis = k_int(k, a);
        to = k_add(k, to, k_mul(k, index[a], k_at(k, plan, &axis, 1)));
    }
    to = kb_let(b, "to", to);
    const KExpr *e = k_cast(k, t, k_at(k, x, index, x->rank));
    if (peak) e = k_exp(k, k_sub(k, e, lower_at_flat(d, peak, to)));
    e = k_binary(k, reduce_fold(op, acc_type), k_load(k, acc->buf, to), reduce_term(d, op, e));
    kb_store(b, acc->buf, to, e);
    for (int a = 0; a < x->rank; a++) kb_end(b);
    def_end_program(d, s);
    return acc;
}

static void open_log_sum_exp(Def *d, KTensor *x, KTensor *plan, KTensor *out, DType t) {
    KCtx *k = d->k;
    KTensor *most = open_fold(d, x, plan, out, NULL, t, OP_ReduceMax, key_dtype(t));
    KTensor *peak = def_temp(d, "peak", t, out->rank, out->dims);
    Stage *s = def_begin(d, FORM_MAP, peak);
    def_map(d, s, finite_peak(d, key_value(d, t, lower_elem(d, s, most, key_dtype(t)))));
    KTensor *sum = open_fold(d, x, plan, out, peak, t, OP_ReduceSum, t);
    s = def_begin(d, FORM_MAP, out);
    const KExpr *e = k_add(k, k_log(k, lower_elem(d, s, sum, t)), lower_elem(d, s, peak, t));
    def_map(d, s, k_cast(k, out->dtype, e));
}

static void reduce_open(Def *d, const Node *n, KTensor *x, KTensor *out) {
    KCtx *k = d->k;
    DType acc = reduce_dtype(n->op, x->dtype);
    bool is_order = n->op == OP_ReduceMax || n->op == OP_ReduceMin;
    DType t = is_order ? compute_dtype(x->dtype) : acc;
    KTensor *plan = open_plan(d, n, x, out);
    if (n->op == OP_ReduceLogSumExp) {
        open_log_sum_exp(d, x, plan, out, acc);
        return;
    }
    KTensor *folded = open_fold(d, x, plan, out, NULL, t, n->op, acc);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *rank = k_int(k, x->rank), *count = k_at(k, plan, &rank, 1);
    const KExpr *e = reduce_finish(d, lower_elem(d, s, folded, acc), count, t);
    def_map(d, s, k_cast(k, out->dtype, e));
}

void reduce_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *from[MAX_RANK], *count = k_int(d->k, 1);
    if (has_open_axes(d->m, n)) {
        reduce_open(d, n, x, out);
        return;
    }
    bool is_red[MAX_RANK], keep = keeps_dims(n);
    BUG_IF(!reduced_axes(d->m, n, is_red), "axes changed since infer");
    DType acc = reduce_dtype(n->op, x->dtype);
    if (n->op == OP_ReduceLogSumExp) {
        log_sum_exp(d, x, out, is_red, keep, acc);
        return;
    }
    bool is_order = n->op == OP_ReduceMax || n->op == OP_ReduceMin;
    DType t = is_order ? compute_dtype(x->dtype) : acc; /* of the element before f */
    Stage *s = def_begin(d, FORM_REDUCE, out);
    reduce_indices(d, s, x, is_red, keep, from);
    const KExpr *e = k_cast(d->k, t, def_at(d, x, from, x->rank));
    def_reduce(d, s, reduce_fold(n->op, acc), acc, reduce_init(d, n->op, t, acc),
               reduce_term(d, n->op, e));
    for (int i = 0; i < s->n_red; i++) count = k_mul(d->k, count, s->red_extent[i]);
    def_finish(d, s, k_cast(d->k, out->dtype, reduce_finish(d, def_acc(d, s), count, t)));
}

/* ---- ArgMax and ArgMin ----------------------------------------------------------------------- */

bool arg_reduce_infer(Module *m, Node *n) {
    bool is_red[MAX_RANK] = {false};
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_NUMBER)) return false;
    Shape in = n->in[0]->shape;
    if (!infer_axis(m, n, attr_int(n, "axis", 0), in.rank, &axis)) return false;
    if (k_is_value(in.dims[axis], 0)) {
        diag_error(m->diag, n->loc, "axis %d is empty: it has no extreme element", axis);
        return false;
    }
    is_red[axis] = true;
    return infer_set(m, n, 0, DT_I64,
                     reduced_shape(m, in, is_red, attr_int(n, "keepdims", 1) != 0));
}

/* NaN is never the best, except that a leading NaN wins: what comparing one element after the other
 * with "greater than the best so far" gives, which is onnxruntime's way. */
void arg_reduce_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    bool is_red[MAX_RANK] = {false}, is_max = n->op == OP_ArgMax,
         keep = attr_int(n, "keepdims", 1) != 0;
    bool is_last = attr_int(n, "select_last_index", 0) != 0;
    int axis = shape_axis(attr_int(n, "axis", 0), x->rank);
    is_red[axis] = true;
    const KExpr *from[MAX_RANK], *own[MAX_RANK],
        *worst = is_max ? lower_lowest(d, t) : lower_highest(d, t);
    KTensor *best = def_temp(d, "best", t, out->rank, out->dims);
    Stage *s = def_begin(d, FORM_REDUCE, best);
    reduce_indices(d, s, x, is_red, keep, from);
    const KExpr *e = k_cast(k, t, def_at(d, x, from, x->rank));
    if (dtype_is_float(t)) e = k_select(k, k_eq(k, e, e), e, worst);
    def_reduce(d, s, is_max ? KO_max : KO_min, t, worst, e);
    s = def_begin(d, FORM_REDUCE, out);
    lower_axes(d, s, own);
    const KExpr *most = k_at(k, best, own, best->rank);
    reduce_indices(d, s, x, is_red, keep, from);
    const KExpr *never = k_int(k, is_last ? -1 : INT64_MAX), *i = from[axis];
    const KExpr *is_best = k_eq(k, k_cast(k, t, def_at(d, x, from, x->rank)), most);
    def_reduce(d, s, is_last ? KO_max : KO_min, DT_I64, never, k_select(k, is_best, i, never));
    if (!dtype_is_float(t)) return;
    from[axis] = k_int(k, 0);
    e = k_cast(k, t, def_at(d, x, from, x->rank));
    def_finish(d, s, k_select(k, k_eq(k, e, e), def_acc(d, s), k_int(k, 0)));
}
