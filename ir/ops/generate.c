/* Tensors that come from shapes and scalars: Shape, Size, ConstantOfShape, Range, EyeLike, OneHot.
 *
 * All are maps over the output's indices. Shape and Size are expressions over symbols, so they read
 * nothing; their contents reach Reshape, Expand, Slice and others through Value.content. */
#include "ir/ops/common.h"

#include <math.h>

/* ---- Shape and Size -------------------------------------------------------------------------- */

/* First axis and number of axes that Shape reports. */
static void shape_window(const Node *n, int *first, int *count) {
    int rank = n->in[0]->shape.rank;
    int64_t start = attr_int(n, "start", 0), end = attr_int(n, "end", rank);
    if (start < 0) start = start < -rank ? 0 : start + rank;
    if (end < 0) end = end < -rank ? 0 : end + rank;
    if (start > rank) start = rank;
    if (end > rank) end = rank;
    *first = (int)start;
    *count = end > start ? (int)(end - start) : 0;
}

static bool is_tensor(Module *m, const Node *n) {
    if (has_in(n, 0) && n->in[0]->type == VT_TENSOR) return true;
    diag_unsupported(m->diag, n->loc, "input 0 is not a tensor");
    return false;
}

bool shape_of_infer(Module *m, Node *n) {
    int first, count;
    if (!is_tensor(m, n)) return false;
    shape_window(n, &first, &count);
    int64_t length = count;
    if (!infer_set(m, n, 0, DT_I64, shape_ints(m->k, &length, 1))) return false;
    const KExpr **content = arena_array(m->arena, const KExpr *, count + 1);
    for (int i = 0; i < count; i++) content[i] = n->in[0]->shape.dims[first + i];
    infer_set_content(n->out[0], content);
    return true;
}

void shape_of_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    int first, count;
    shape_window(n, &first, &count);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *body = k_int(k, 0), *i = def_axis(d, s, 0);
    for (int a = count - 1; a >= 0; a--) {
        const KExpr *dim = n->in[0]->shape.dims[first + a];
        body = a == count - 1 ? dim : k_select(k, k_lt(k, i, k_int(k, a + 1)), dim, body);
    }
    def_map(d, s, body);
}

bool size_of_infer(Module *m, Node *n) {
    if (!is_tensor(m, n) || !infer_set(m, n, 0, DT_I64, shape_make(m->arena, 0))) return false;
    const KExpr **content = arena_array(m->arena, const KExpr *, 1);
    content[0] = shape_count(m->k, n->in[0]->shape);
    infer_set_content(n->out[0], content);
    return true;
}

void size_of_lower(Def *d, const Node *n) {
    lower_fill(d, def_out(d, 0), shape_count(d->k, n->in[0]->shape));
}

/* ---- ConstantOfShape ------------------------------------------------------------------------- */

/* The value attribute's element; f32 zero without one. */
static const KExpr *fill_value(KCtx *k, const Node *n) {
    const Attr *a = node_attr(n, "value");
    if (!a) return k_const_f(k, DT_F32, 0);
    DType t = a->tensor->dtype;
    return dtype_is_float(t) || dtype_is_code(t) ? k_const(k, t, value_const_float(a->tensor, 0))
                                                 : k_const_i(k, t, value_const_int(a->tensor, 0));
}

static bool fill_value_fits(Module *m, const Node *n) {
    const Attr *a = node_attr(n, "value");
    int64_t count;
    if (!a) return true;
    bool is_number = a->kind == AT_TENSOR && a->tensor && a->tensor->data;
    if (is_number && (a->tensor->dtype == DT_STR || dtype_is_complex(a->tensor->dtype))) {
        diag_unsupported(m->diag, n->loc, "attribute value of type %s is not supported",
                         dtype_info[a->tensor->dtype].name);
        return false;
    }
    if (is_number && shape_count_int(a->tensor->shape, &count) && count == 1) return true;
    diag_error(m->diag, n->loc, "attribute value must be a tensor of one element");
    return false;
}

bool constant_of_shape_infer(Module *m, Node *n) {
    const KExpr **dims;
    int rank;
    int64_t dim, count;
    if (!infer_exprs(m, n, 0, MAX_RANK, &dims, &rank) || !fill_value_fits(m, n)) return false;
    for (int i = 0; i < rank; i++) {
        if (!k_is_int(dims[i], &dim) || dim >= 0) continue;
        diag_error(m->diag, n->loc, "the shape's element %d is %lld", i, (long long)dim);
        return false;
    }
    const KExpr *value = fill_value(m->k, n);
    if (!infer_set(m, n, 0, value->dtype, (Shape){rank, dims})) return false;
    n->out[0]->content = NULL;
    if (!can_track_content(n->out[0], &count)) return true;
    const KExpr **content = arena_array(m->arena, const KExpr *, count + 1);
    for (int64_t i = 0; i < count; i++) content[i] = k_cast(m->k, DT_I64, value);
    infer_set_content(n->out[0], content);
    return true;
}

void constant_of_shape_lower(Def *d, const Node *n) {
    lower_fill(d, def_out(d, 0), fill_value(d->k, n));
}

/* ---- Range ----------------------------------------------------------------------------------- */

/* max(0, ceil((limit - start) / delta)) of what is read while running. */
static const KExpr *read_range_count(Module *m, const Node *n) {
    KCtx *k = m->k;
    const KExpr *v[3], *zero = k_int(k, 0), *one = k_int(k, 1);
    for (int i = 0; i < 3; i++) v[i] = value_read_number(m, n->in[i], 0);
    if (dtype_is_float(v[0]->dtype)) {
        DType t = compute_dtype(v[0]->dtype);
        for (int i = 0; i < 3; i++) v[i] = k_cast(k, t, v[i]);
        infer_rule(m, n, k_ne(k, v[2], k_const(k, t, 0)));
        const KExpr *span = k_cast(k, DT_F64, k_sub(k, v[1], v[0]));
        span = k_ceil(k, k_div(k, span, k_cast(k, DT_F64, v[2])));
        return k_max(k, k_cast(k, DT_I64, span), zero);
    }
    for (int i = 0; i < 3; i++) v[i] = k_cast(k, DT_I64, v[i]);
    infer_rule(m, n, k_ne(k, v[2], zero));
    const KExpr *rises = k_lt(k, zero, v[2]), *span = k_sub(k, v[1], v[0]);
    const KExpr *stride = k_max(k, k_abs(k, v[2]), one);
    span = k_max(k, k_select(k, rises, span, k_neg(k, span)), zero);
    return k_fdiv(k, k_add(k, span, k_sub(k, stride, one)), stride);
}

/* Elements of a range of floats: all three must be constants. */
static bool float_range_count(Module *m, const Node *n, const KExpr **count) {
    double v[3];
    for (int i = 0; i < 3; i++) {
        if (!value_is_const(n->in[i])) {
            diag_unsupported(m->diag, n->loc,
                             "a range of floats needs constant inputs; input %d is computed", i);
            return false;
        }
        v[i] = value_const_float(n->in[i], 0);
    }
    double span = n->in[0]->dtype == DT_F64 ? v[1] - v[0] : (double)((float)v[1] - (float)v[0]);
    double length = ceil(span / v[2]);
    if (v[2] == 0 || !(fabs(length) < 0x1p62)) {
        diag_error(m->diag, n->loc, "a range from %g to %g by %g has no length", v[0], v[1], v[2]);
        return false;
    }
    *count = k_int(m->k, length > 0 ? (int64_t)length : 0);
    return true;
}

/* max(0, ceil((limit - start) / delta)) */
static bool int_range_count(Module *m, const Node *n, const KExpr *const *v, const KExpr **count) {
    KCtx *k = m->k;
    int64_t start, limit, delta;
    if (!k_is_int(v[2], &delta)) {
        diag_unsupported(m->diag, n->loc, "the step of a range must be known while compiling");
        return false;
    }
    if (delta == 0) {
        diag_error(m->diag, n->loc, "the step of the range is 0");
        return false;
    }
    if (k_is_int(v[0], &start) && k_is_int(v[1], &limit)) {
        double estimate = ((double)limit - (double)start) / (double)delta;
        if (estimate > 0x1p61) {
            diag_error(m->diag, n->loc, "a range from %lld to %lld by %lld is too long",
                       (long long)start, (long long)limit, (long long)delta);
            return false;
        }
        if (estimate <= 0) {
            *count = k_int(k, 0);
            return true;
        }
    }
    const KExpr *span = delta > 0 ? k_sub(k, v[1], v[0]) : k_sub(k, v[0], v[1]);
    int64_t stride = delta > 0 ? delta : delta == INT64_MIN ? INT64_MAX : -delta;
    span = k_max(k, span, k_int(k, 0));
    *count = stride == 1 ? span : k_fdiv(k, k_add(k, span, k_int(k, stride - 1)), k_int(k, stride));
    return true;
}

static bool range_inputs(Module *m, const Node *n, const KExpr **v) {
    for (int i = 0; i < 3; i++) {
        int64_t count;
        if (!infer_dtype(m, n, i, CLASS_NUMBER) || !infer_dtypes_equal(m, n, 0, i)) return false;
        if (!shape_count_int(n->in[i]->shape, &count) || count != 1) {
            diag_error(m->diag, n->loc, "input %d must be a scalar", i);
            return false;
        }
        v[i] = value_content(m, n->in[i], 0);
    }
    return true;
}

bool range_infer(Module *m, Node *n) {
    const KExpr *v[3], *length;
    int64_t count;
    if (!range_inputs(m, n, v)) return false;
    DType t = n->in[0]->dtype;
    bool is_read = false;
    for (int i = 0; i < 3; i++)
        is_read |= dtype_is_float(t) ? !value_is_const(n->in[i])
                                     : !v[i] || (i == 2 && !k_is_int(v[i], &count));
    if (is_read)
        length = read_range_count(m, n);
    else if (!(dtype_is_float(t) ? float_range_count(m, n, &length)
                                 : int_range_count(m, n, v, &length)))
        return false;
    Shape out = shape_make(m->arena, 1);
    out.dims[0] = length;
    if (!infer_set(m, n, 0, t, out)) return false;
    n->out[0]->content = NULL;
    if (is_read || !can_track_content(n->out[0], &count)) return true;
    const KExpr **content = arena_array(m->arena, const KExpr *, count + 1);
    for (int64_t i = 0; i < count; i++)
        content[i] = infer_wrapped(m, t, k_add(m->k, v[0], k_mul(m->k, k_int(m->k, i), v[2])));
    infer_set_content(n->out[0], content);
    return true;
}

/* out[i] = start + i * delta */
void range_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    DType t = compute_dtype(out->dtype);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *start = k_cast(k, t, lower_scalar(d, def_in(d, 0)));
    const KExpr *delta = k_cast(k, t, lower_scalar(d, def_in(d, 2)));
    const KExpr *e = k_add(k, start, k_mul(k, k_cast(k, t, def_axis(d, s, 0)), delta));
    def_map(d, s, k_cast(k, out->dtype, e));
}

/* ---- EyeLike --------------------------------------------------------------------------------- */

bool eye_like_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_rank(m, n, 0, 2, 2)) return false;
    DType t = n->in[0]->dtype;
    if (node_attr(n, "dtype")) t = dtype_from_onnx(attr_int(n, "dtype", 0));
    if (t == DT_NONE || t == DT_STR || dtype_is_complex(t)) {
        diag_unsupported(m->diag, n->loc, "attribute dtype %lld is not supported",
                         (long long)attr_int(n, "dtype", 0));
        return false;
    }
    return infer_set(m, n, 0, t, shape_copy(m->arena, n->in[0]->shape));
}

void eye_like_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    int64_t shift = attr_int(n, "k", 0), far = INT64_C(1) << 40;
    if (shift > far || shift < -far) shift = far; /* no element lies there; sums stay safe */
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *hit = k_eq(k, def_axis(d, s, 1), k_add(k, def_axis(d, s, 0), k_int(k, shift)));
    def_map(d, s, k_cast(k, out->dtype, hit));
}

/* ---- OneHot ---------------------------------------------------------------------------------- */

/* The number of classes, as an expression over symbols. */
static bool one_hot_depth(Module *m, const Node *n, const KExpr **depth) {
    int64_t count, value;
    if (!infer_dtype(m, n, 1, CLASS_NUMBER)) return false;
    if (!shape_count_int(n->in[1]->shape, &count) || count != 1) {
        diag_error(m->diag, n->loc, "input 1 (depth) must be a scalar");
        return false;
    }
    *depth = value_content(m, n->in[1], 0);
    if (!*depth) *depth = k_cast(m->k, DT_I64, value_read_number(m, n->in[1], 0));
    if (!k_is_int(*depth, &value) || value >= 0) return true;
    diag_error(m->diag, n->loc, "depth is %lld", (long long)value);
    return false;
}

bool one_hot_infer(Module *m, Node *n) {
    const KExpr *depth;
    int axis;
    int64_t count;
    if (!infer_dtype(m, n, 0, CLASS_NUMBER) || !infer_dtype(m, n, 2, CLASS_ANY) ||
        !one_hot_depth(m, n, &depth))
        return false;
    Shape index = n->in[0]->shape;
    if (index.rank == MAX_RANK) {
        diag_error(m->diag, n->loc, "rank %d; at most %d is supported", index.rank + 1, MAX_RANK);
        return false;
    }
    if (!infer_axis(m, n, attr_int(n, "axis", -1), index.rank + 1, &axis)) return false;
    if (!shape_count_int(n->in[2]->shape, &count) || count != 2) {
        diag_error(m->diag, n->loc, "input 2 must be the two values off and on");
        return false;
    }
    Shape out = shape_make(m->arena, index.rank + 1);
    for (int i = 0, j = 0; i < out.rank; i++) out.dims[i] = i == axis ? depth : index.dims[j++];
    return infer_set(m, n, 0, n->in[2]->dtype, out);
}

/* on where the class is the index (counted from the end when negative); an index outside matches
 * nothing */
void one_hot_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *index = def_in(d, 0), *values = def_in(d, 2), *out = def_out(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), out->rank);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *from[MAX_RANK];
    for (int i = 0, j = 0; i < out->rank; i++)
        if (i != axis) from[j++] = def_axis(d, s, i);
    const KExpr *class = lower_index(d, def_at(d, index, from, index->rank), out->dims[axis]);
    const KExpr *off = lower_at_flat(d, values, k_int(k, 0)),
                *on = lower_at_flat(d, values, k_int(k, 1));
    def_map(d, s, k_select(k, k_eq(k, class, def_axis(d, s, axis)), on, off));
}
