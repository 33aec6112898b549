/* Shared helpers of the operator families: see common.h. */
#include "ir/ops/common.h"

#include "ir/code.h"
#include "ir/infer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- infer: inputs --------------------------------------------------------------------------- */

static unsigned dtype_class(DType t) {
    if (dtype_is_small_int(t)) return CLASS_CODE;
    switch (dtype_info[t].kind) {
    case DK_FLOAT: return CLASS_FLOAT;
    case DK_SINT: return CLASS_SINT;
    case DK_UINT: return CLASS_UINT;
    case DK_BOOL: return CLASS_BOOL;
    case DK_CODE: return CLASS_CODE;
    case DK_COMPLEX: return CLASS_COMPLEX;
    case DK_STRING: return CLASS_STRING;
    case DK_NONE: break;
    }
    return 0;
}

static const char *class_text(unsigned classes) {
    switch (classes) {
    case CLASS_FLOAT: return "floats";
    case CLASS_SINT: return "signed integers";
    case CLASS_UINT: return "unsigned integers";
    case CLASS_BOOL: return "bool";
    case CLASS_INT: return "integers";
    case CLASS_FLOAT | CLASS_SINT: return "floats and signed integers";
    case CLASS_INT | CLASS_BOOL: return "integers and bool";
    case CLASS_NUMBER: return "numbers";
    case CLASS_FLOAT | CLASS_CODE: return "floats";
    case CLASS_STRING: return "strings";
    case CLASS_SCALAR | CLASS_COMPLEX: return "numbers, complex numbers and bool";
    case CLASS_NUMBER | CLASS_COMPLEX: return "numbers and complex numbers";
    case CLASS_ANY & ~CLASS_CODE: return "tensors of numbers, bool or strings";
    case CLASS_NUMBER | CLASS_STRING: return "numbers and strings";
    case CLASS_ANY: return "tensors of any type";
    default: return "numbers and bool";
    }
}

bool infer_dtype(Module *m, const Node *n, int i, unsigned classes) {
    if (!has_in(n, i)) {
        diag_error(m->diag, n->loc, "input %d is missing", i);
        return false;
    }
    const Value *v = n->in[i];
    if (v->type != VT_TENSOR) {
        diag_unsupported(m->diag, n->loc, "input %d is a sequence or optional, not a tensor", i);
        return false;
    }
    if (dtype_class(v->dtype) & classes) return true;
    diag_error(m->diag, n->loc, "input %d has dtype %s; %s are accepted", i,
               dtype_info[v->dtype].name, class_text(classes));
    return false;
}

bool infer_dtypes_equal(Module *m, const Node *n, int i, int j) {
    if (!infer_dtype(m, n, i, CLASS_ANY) || !infer_dtype(m, n, j, CLASS_ANY)) return false;
    if (n->in[i]->dtype == n->in[j]->dtype) return true;
    diag_error(m->diag, n->loc, "inputs %d and %d have dtypes %s and %s; they must be the same", i,
               j, dtype_info[n->in[i]->dtype].name, dtype_info[n->in[j]->dtype].name);
    return false;
}

bool infer_index_dtype(Module *m, const Node *n, int i) {
    if (!infer_dtype(m, n, i, CLASS_ANY)) return false;
    DType t = n->in[i]->dtype;
    if (t == DT_I32 || t == DT_I64) return true;
    diag_error(m->diag, n->loc, "input %d has dtype %s; i32 and i64 are accepted", i,
               dtype_info[t].name);
    return false;
}

bool infer_rank(Module *m, const Node *n, int i, int lo, int hi) {
    int rank = n->in[i]->shape.rank;
    if (rank >= lo && (hi < 0 || rank <= hi)) return true;
    if (hi < 0)
        diag_error(m->diag, n->loc, "input %d has rank %d, must be at least %d", i, rank, lo);
    else if (lo == hi)
        diag_error(m->diag, n->loc, "input %d has rank %d, must be %d", i, rank, lo);
    else
        diag_error(m->diag, n->loc, "input %d has rank %d, must be %d to %d", i, rank, lo, hi);
    return false;
}

bool infer_axis(Module *m, const Node *n, int64_t axis, int rank, int *out) {
    *out = shape_axis(axis, rank);
    if (*out >= 0) return true;
    diag_error(m->diag, n->loc, "axis %lld is outside of rank %d", (long long)axis, rank);
    return false;
}

bool infer_axes(Module *m, const Node *n, const int64_t *axes, int count, int rank, bool *is_in) {
    for (int i = 0; i < rank; i++) is_in[i] = false;
    for (int i = 0; i < count; i++) {
        int axis;
        if (!infer_axis(m, n, axes[i], rank, &axis)) return false;
        if (is_in[axis]) {
            diag_error(m->diag, n->loc, "axis %d is listed twice", axis);
            return false;
        }
        is_in[axis] = true;
    }
    return true;
}

bool infer_const_ints(Module *m, const Node *n, int i, int64_t *out, int cap, int *count) {
    if (!infer_dtype(m, n, i, CLASS_ANY)) return false;
    int64_t length;
    if (shape_count_int(n->in[i]->shape, &length) && length > cap) {
        diag_error(m->diag, n->loc, "input %d has %lld elements; at most %d are accepted", i,
                   (long long)length, cap);
        return false;
    }
    if (value_ints(m, n->in[i], out, cap, count)) return true;
    diag_unsupported(
        m->diag, n->loc,
        "input %d is computed while running; it must be known at compile time (fix the symbolic "
        "dims it comes from with --dim, or make it a constant)",
        i);
    return false;
}

bool infer_exprs(Module *m, const Node *n, int i, int cap, const KExpr ***e, int *count) {
    int64_t length;
    if (!infer_index_dtype(m, n, i) || !infer_const_length(m, n, i, &length)) return false;
    if (length > cap) {
        diag_error(m->diag, n->loc, "input %d has %lld elements; at most %d are accepted", i,
                   (long long)length, cap);
        return false;
    }
    *e = infer_content(m, n->in[i], &length);
    *count = (int)length;
    if (*e) return true;
    if (can_track_content(n->in[i], &length)) {
        *e = arena_array(m->arena, const KExpr *, length + 1);
        for (int64_t j = 0; j < length; j++) (*e)[j] = value_read(m, n->in[i], j);
        n->in[i]->content = *e;
        return true;
    }
    diag_unsupported(
        m->diag, n->loc,
        "the elements of input %d are not known while compiling and do not follow from symbolic "
        "dims; make it a constant or fix the dims it comes from with --dim",
        i);
    return false;
}

bool infer_exprs_as(Module *m, const Node *n, int i, int count, const KExpr ***e) {
    if (!infer_index_dtype(m, n, i) || !infer_rank(m, n, i, 0, 1)) return false;
    infer_rule(m, n, k_eq(m->k, shape_count(m->k, n->in[i]->shape), k_int(m->k, count)));
    *e = arena_array(m->arena, const KExpr *, count);
    for (int j = 0; j < count; j++) (*e)[j] = value_read(m, n->in[i], j);
    return true;
}

const KExpr *flags_position(KCtx *k, const KExpr *const *flag, int at) {
    const KExpr *sum = k_int(k, 0);
    for (int i = 0; i < at; i++)
        sum = k_add(k, sum, k_select(k, flag[i], k_int(k, 0), k_int(k, 1)));
    return sum;
}

bool infer_axis_flags(Module *m, const Node *n, int i, int rank, const KExpr **is_in, int *count) {
    KCtx *k = m->k;
    const KExpr **e;
    int64_t axes[MAX_RANK];
    bool fixed[MAX_RANK];
    if (value_ints(m, n->in[i], axes, MAX_RANK, count)) {
        if (!infer_axes(m, n, axes, *count, rank, fixed)) return false;
        for (int a = 0; a < rank; a++) is_in[a] = k_bool(k, fixed[a]);
        return true;
    }
    if (!infer_exprs(m, n, i, MAX_RANK, &e, count)) return false;
    for (int a = 0; a < rank; a++) {
        is_in[a] = k_bool(k, false);
        for (int j = 0; j < *count; j++)
            is_in[a] = k_or(k, is_in[a], k_or(k, k_eq(k, e[j], k_int(k, a)),
                                              k_eq(k, e[j], k_int(k, a - rank))));
    }
    /* all different and inside of the rank: as many axes as entries */
    const KExpr *rest = flags_position(k, is_in, rank);
    infer_rule(m, n, k_eq(k, rest, k_int(k, rank - *count)));
    return true;
}

bool infer_is_scalar(Module *m, const Node *n, int i) {
    int64_t count;
    if (!has_in(n, i)) return true;
    if (!shape_count_int(n->in[i]->shape, &count) || count == 1) return true;
    diag_error(m->diag, n->loc, "input %d has %lld elements, must have 1", i, (long long)count);
    return false;
}

bool infer_expr(Module *m, const Node *n, int i, const KExpr **e) {
    const KExpr **all;
    int count;
    if (!infer_is_scalar(m, n, i) || !infer_exprs(m, n, i, 1, &all, &count)) return false;
    *e = all[0];
    return true;
}

bool infer_const_length(Module *m, const Node *n, int i, int64_t *length) {
    if (!infer_rank(m, n, i, 0, 1)) return false;
    if (shape_count_int(n->in[i]->shape, length)) return true;
    diag_unsupported(m->diag, n->loc,
                     "the length of input %d is symbolic; it must be known at compile time", i);
    return false;
}

bool is_computed(Module *m, const KExpr *e) {
    return k_is_computed(m->k, e);
}

void infer_rule(Module *m, const Node *n, const KExpr *condition) {
    if (condition->op == KO_const_i) return;
    for (uint32_t i = 0; i < n->rules.n; i++)
        if (n->rules.at[i] == condition) return;
    vec_push(m->arena, &((Node *)(uintptr_t)n)->rules, condition); /* verbs see nodes as const */
}

bool is_one_of_many(Module *m, const KExpr *dim) {
    enum { LARGE = 1000 };
    uint32_t n = m->symbols.n;
    const KExpr **by = arena_array(m->scratch, const KExpr *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const KVar *s = m->symbols.at[i];
        by[i] = k_int(m->k, s->hi < LARGE ? s->hi : s->lo > LARGE ? s->lo : LARGE);
    }
    return k_is_value(k_subst(m->k, dim, m->symbols.at, by, (int)n), 1);
}

/* Is the dim one that a broadcast looks at while running? */
static bool may_become_one(Module *m, const KExpr *dim) {
    if (dim->op == KO_const_i || dim->op == KO_var) return is_computed(m, dim);
    return is_computed(m, dim) || dim->hi <= 1 || is_one_of_many(m, dim);
}

bool infer_same_dim(Module *m, const Node *n, const KExpr *a, const KExpr *b) {
    if (dims_known_differ(a, b)) return false;
    infer_rule(m, n, k_eq(m->k, a, b));
    return true;
}

/* Dims found while running, and those that are at most 1, may turn out to be 1 or equal; the
 * caller's are equal. */
static void broadcast_rules(Module *m, const Node *n, Shape a, Shape b, Shape *both) {
    KCtx *k = m->k;
    int shared = a.rank < b.rank ? a.rank : b.rank;
    for (int i = 1; i <= shared; i++) {
        const KExpr *x = a.dims[a.rank - i], *y = b.dims[b.rank - i], *one = k_int(k, 1);
        if (x == y || k_is_value(x, 1) || k_is_value(y, 1)) continue;
        if (!may_become_one(m, x) && !may_become_one(m, y)) {
            infer_same_dim(m, n, x, y);
            continue;
        }
        const KExpr *fits = k_or(k, k_eq(k, x, one), k_eq(k, y, one));
        infer_rule(m, n, k_or(k, fits, k_eq(k, x, y)));
        const KExpr **out = &both->dims[both->rank - i];
        if (k_is_int(x, &(int64_t){0}) || k_is_int(y, &(int64_t){0})) continue;
        *out = k_select(k, k_eq(k, x, one), y, x);
    }
}

bool infer_broadcast_two(Module *m, const Node *n, Shape a, Shape b, Shape *out) {
    if (!shape_broadcast(m->k, a, b, out)) return false;
    broadcast_rules(m, n, a, b, out);
    return true;
}

bool infer_broadcast(Module *m, const Node *n, Shape *out) {
    Shape s = {0};
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        Shape next = n->in[i]->shape, both;
        if (!infer_broadcast_two(m, n, s, next, &both)) {
            diag_error(m->diag, n->loc, "shapes %s and %s (input %d) do not broadcast",
                       shape_text(m->scratch, s), shape_text(m->scratch, next), i);
            return false;
        }
        s = both;
    }
    *out = s;
    return true;
}

/* ---- infer: outputs -------------------------------------------------------------------------- */

/* The sizes with symbols for the long ones among them: e itself where there are none. */
static const KExpr **short_sizes(const Value *v, const KExpr **e, int64_t count) {
    Module *m = v->graph->module;
    const KExpr **own = e;
    for (int64_t i = 0; i < count; i++) {
        const KExpr *size = module_short_size(m, e[i], *v->name ? v->name : "size");
        if (size == e[i]) continue;
        if (own == e) own = arena_copy(m->arena, e, sizeof *e * (size_t)count);
        own[i] = size;
    }
    return own;
}

bool infer_set(Module *m, Node *n, int i, DType t, Shape s) {
    if (!has_out(n, i)) return true;
    int64_t count, bytes, dim;
    for (int axis = 0; axis < s.rank; axis++) {
        if (!k_is_int(s.dims[axis], &dim) || dim >= 0) continue;
        diag_error(m->diag, n->loc, "output %d would have the negative dim %lld (axis %d)", i,
                   (long long)dim, axis);
        return false;
    }
    bool fits =
        !shape_is_const(s) || (shape_count_int(s, &count) &&
                               !__builtin_mul_overflow(count, (int64_t)dtype_bytes(t), &bytes) &&
                               bytes <= INT64_C(1) << 62);
    if (!fits) {
        diag_error(m->diag, n->loc, "output %d of shape %s is too large to address", i,
                   shape_text(m->scratch, s));
        return false;
    }
    for (int axis = 0; axis < s.rank; axis++)
        if (s.dims[axis]->lo < 0) infer_rule(m, n, k_le(m->k, k_int(m->k, 0), s.dims[axis]));
    n->out[i]->dtype = t;
    n->out[i]->shape = (Shape){s.rank, short_sizes(n->out[i], s.dims, s.rank)};
    n->out[i]->type = VT_TENSOR;
    return true;
}

bool infer_same_as(Module *m, Node *n, int i, const Value *like) {
    return infer_set(m, n, i, like->dtype, shape_copy(m->arena, like->shape));
}

bool can_track_content(const Value *v, int64_t *count) {
    bool is_kind = v->dtype == DT_I64 || v->dtype == DT_I32 || v->dtype == DT_BOOL;
    return is_kind && v->shape.rank >= 0 && shape_count_int(v->shape, count) &&
           *count <= MAX_CONTENT;
}

const KExpr **infer_content(Module *m, const Value *v, int64_t *count) {
    if (!can_track_content(v, count) || !value_has_content(v)) return NULL;
    const KExpr **all = arena_array(m->arena, const KExpr *, *count + 1);
    for (int64_t i = 0; i < *count; i++) all[i] = value_content(m, v, i);
    return all;
}

void infer_set_content(Value *v, const KExpr **content) {
    int64_t count;
    v->content = NULL;
    if (!content || !can_track_content(v, &count)) return;
    for (int64_t i = 0; i < count; i++)
        if (!content[i]) return;
    v->content = short_sizes(v, content, count);
}

const KExpr *infer_wrapped(Module *m, DType t, const KExpr *e) {
    int64_t value;
    if (!k_is_int(e, &value) || !dtype_is_int(t)) return e;
    return k_cast(m->k, DT_I64, k_const_i(m->k, t, value));
}

void infer_copy_content(Module *m, const Value *from, Value *to) {
    int64_t count;
    infer_set_content(to, infer_content(m, from, &count));
}

void infer_moved_content(Module *m, const Value *x, Value *out, ContentSource *source, void *user) {
    int64_t count, n_out, dim, to[MAX_RANK], from[MAX_RANK];
    out->content = NULL;
    const KExpr **own = can_track_content(out, &n_out) ? infer_content(m, x, &count) : NULL;
    if (!own) return;
    const KExpr **all = arena_array(m->arena, const KExpr *, n_out + 1);
    for (int64_t i = 0; i < n_out; i++) {
        int64_t rest = i, at = 0;
        for (int axis = out->shape.rank - 1; axis >= 0; axis--) {
            shape_dim_int(out->shape, axis, &dim);
            to[axis] = rest % dim;
            rest /= dim;
        }
        source(to, from, user);
        for (int axis = 0; axis < x->shape.rank; axis++) {
            shape_dim_int(x->shape, axis, &dim);
            BUG_IF(from[axis] < 0 || from[axis] >= dim, "content of element %lld of %lld",
                   (long long)from[axis], (long long)dim);
            at = at * dim + from[axis];
        }
        all[i] = own[at];
    }
    infer_set_content(out, all);
}

bool dims_known_differ(const KExpr *a, const KExpr *b) {
    int64_t x, y;
    return k_is_int(a, &x) && k_is_int(b, &y) && x != y;
}

/* ---- lower ----------------------------------------------------------------------------------- */

DType compute_dtype(DType t) {
    return t == DT_F16 || t == DT_BF16 || dtype_is_code(t) ? DT_F32 : t;
}

void lower_axes(Def *d, const Stage *s, const KExpr **index) {
    for (int i = 0; i < s->out->rank; i++) index[i] = def_axis(d, s, i);
}

const KExpr *lower_broadcast(Def *d, KTensor *t, const KTensor *out, const KExpr *const *at) {
    const KExpr *index[MAX_RANK];
    for (int axis = 0; axis < out->rank; axis++) {
        int i = axis - (out->rank - t->rank);
        const KExpr *dim = i < 0 ? out->dims[axis] : t->dims[i];
        index[axis] = at[axis];
        if (dim == out->dims[axis]) continue;
        if (!may_become_one(d->m, dim) && !may_become_one(d->m, out->dims[axis])) continue;
        const KExpr *broadcasts = k_eq(d->k, dim, k_int(d->k, 1));
        index[axis] = k_select(d->k, broadcasts, k_int(d->k, 0), index[axis]);
    }
    return def_at(d, t, index, out->rank);
}

const KExpr *lower_elem(Def *d, const Stage *s, KTensor *t, DType as) {
    const KExpr *index[MAX_RANK];
    lower_axes(d, s, index);
    return k_cast(d->k, as, lower_broadcast(d, t, s->out, index));
}

const KExpr *lower_flat(Def *d, const Stage *s) {
    const KExpr *index[MAX_RANK];
    lower_axes(d, s, index);
    return def_flatten(d->k, index, s->out->dims, s->out->rank);
}

const KExpr *lower_at_flat(Def *d, KTensor *t, const KExpr *flat) {
    const KExpr *index[MAX_RANK];
    def_unflatten(d->k, flat, t->dims, t->rank, index);
    return k_at(d->k, t, index, t->rank);
}

const KExpr *lower_scalar(Def *d, KTensor *t) {
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < t->rank; i++) index[i] = k_int(d->k, 0);
    return def_at(d, t, index, t->rank); /* a constant's value */
}

const KExpr *lower_index(Def *d, const KExpr *element, const KExpr *dim) {
    KCtx *k = d->k;
    const KExpr *i = k_cast(k, DT_I64, element);
    return k_select(k, k_lt(k, i, k_int(k, 0)), k_add(k, i, dim), i);
}

/* |x|, an f32, as a power of two or NaN. What `cast` does by itself is saturating and rounding up.
 * Small x are moved away from subnormals, where exponents and mantissas are something else. */
static const KExpr *round_to_power(KCtx *k, const KExpr *x, bool saturate, const char *round_mode) {
    bool is_up = !strcmp(round_mode, "up");
    if (is_up && saturate) return x;
    int64_t carry = is_up ? 0x7fffff : strcmp(round_mode, "down") ? 0x400000 : 0;
    const KExpr *size = k_abs(k, x), *one = k_const_f(k, DT_F32, 1);
    const KExpr *is_tiny = k_lt(k, size, k_const_f(k, DT_F32, 0x1p-100));
    const KExpr *scale = k_select(k, is_tiny, k_const_f(k, DT_F32, 0x1p64), one);
    const KExpr *back = k_select(k, is_tiny, k_const_f(k, DT_F32, 0x1p-64), one);
    const KExpr *bits = k_bitcast(k, DT_I32, k_mul(k, size, scale));
    bits = k_and(k, k_add(k, bits, k_const_i(k, DT_I32, carry)), k_const_i(k, DT_I32, 0x7f800000));
    const KExpr *y = k_mul(k, k_bitcast(k, DT_F32, bits), back);
    y = k_select(k, k_ne(k, x, x), x, y);
    if (saturate) return y;
    const KExpr *inside = k_and(k, k_le(k, k_const_f(k, DT_F32, 0x1p-127), y),
                                k_le(k, y, k_const_f(k, DT_F32, 0x1p127)));
    return k_select(k, inside, y, k_const_f(k, DT_F32, NAN));
}

const KExpr *lower_cast(Def *d, DType to, const KExpr *e, bool saturate, const char *round_mode) {
    KCtx *k = d->k;
    if (!dtype_is_code(to) || to == e->dtype) return k_cast(k, to, e);
    DType t = e->dtype == DT_F64 && to != DT_F8E8M0 ? DT_F64 : DT_F32;
    e = k_cast(k, t, e);
    if (to == DT_F8E8M0) return k_cast(k, to, round_to_power(k, e, saturate, round_mode));
    if (saturate) { /* NaN stays */
        e = k_max(k, k_const_f(k, t, -code_largest(to)), e);
        e = k_min(k, k_const_f(k, t, code_largest(to)), e);
    }
    return k_cast(k, to, e);
}

const KExpr *lower_quantized(Def *d, DType to, const KExpr *e) {
    KCtx *k = d->k;
    int bits = dtype_info[to].bits - dtype_is_signed(to);
    double top = (double)((1 << bits) - 1), low = dtype_is_signed(to) ? -top - 1 : 0;
    e = k_max(k, e, k_const_f(k, e->dtype, low)); /* the bound when e is NaN */
    e = k_min(k, e, k_const_f(k, e->dtype, top));
    return k_cast(k, to, e);
}

const KExpr *lower_inside(Def *d, const KExpr *i, const KExpr *dim) {
    KCtx *k = d->k;
    return k_and(k, k_le(k, k_int(k, 0), i), k_lt(k, i, dim));
}

void lower_view(Def *d, KTensor *in, KTensor *out) {
    Stage *s = def_begin(d, FORM_MAP, out);
    s->movement = s->view = true;
    def_map(d, s, lower_at_flat(d, in, lower_flat(d, s)));
}

void lower_fill(Def *d, KTensor *out, const KExpr *value) {
    Stage *s = def_begin(d, FORM_MAP, out);
    def_map(d, s, value);
}

void lower_for_all(KBuild *b, const KExpr *n, bool wide, LowerStore *store, void *user) {
    enum { LANES = 16 };
    KCtx *k = b->k;
    const KExpr *width = k_int(k, wide ? LANES : 1), *whole = k_fdiv(k, n, width);
    if (!k_is_value(whole, 0)) {
        const KExpr *c = kb_for(b, LOOP_SERIAL, "c", whole);
        const KExpr *l = wide ? kb_for(b, LOOP_VECTOR, "l", width) : k_int(k, 0);
        store(user, k_add(k, k_mul(k, c, width), l));
        if (wide) kb_end(b);
        kb_end(b);
    }
    const KExpr *done = k_mul(k, whole, width), *rest = k_fmod(k, n, width);
    int64_t known;
    if (k_is_value(rest, 0)) return;
    bool in_lanes = k_is_int(rest, &known);
    store(user, k_add(k, done, kb_for(b, in_lanes ? LOOP_VECTOR : LOOP_SERIAL, "i", rest)));
    kb_end(b);
}

const KExpr *lower_lowest(Def *d, DType t) {
    if (t == DT_BOOL || dtype_info[t].kind == DK_UINT) return k_const_i(d->k, t, 0);
    return k_const(d->k, t, -(double)INFINITY);
}

const KExpr *lower_highest(Def *d, DType t) {
    return k_const(d->k, t, (double)INFINITY);
}

/* kops' min and max give b when either is NaN: only a NaN in a needs the select. */
const KExpr *lower_min_nan(Def *d, const KExpr *a, const KExpr *b) {
    const KExpr *least = k_min(d->k, a, b);
    return dtype_is_float(a->dtype) ? k_select(d->k, k_ne(d->k, a, a), a, least) : least;
}

const KExpr *lower_max_nan(Def *d, const KExpr *a, const KExpr *b) {
    const KExpr *most = k_max(d->k, a, b);
    return dtype_is_float(a->dtype) ? k_select(d->k, k_ne(d->k, a, a), a, most) : most;
}

const KExpr *lower_fold_lanes(KBuild *b, KBuf *lanes, int64_t n, KOp fold) {
    KCtx *k = b->k;
    for (int64_t half = n / 2; half; half /= 2) {
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, half));
        const KExpr *other = k_load(k, lanes, k_add(k, l, k_int(k, half)));
        kb_store(b, lanes, l, k_binary(k, fold, k_load(k, lanes, l), other));
        kb_end(b);
    }
    return k_load(k, lanes, k_int(k, 0));
}

bool infer_indices_fit(Module *m, const Node *n, const KExpr *dim_expr, int64_t first,
                       int64_t stride) {
    const Value *v = n->in[1];
    int64_t dim, count;
    if (!value_is_const(v) || !k_is_int(dim_expr, &dim) || !shape_count_int(v->shape, &count))
        return true;
    for (int64_t i = first; i < count; i += stride) {
        int64_t at = value_const_int(v, i);
        if (at >= -dim && at < dim) continue;
        diag_error(m->diag, n->loc, "index %lld is outside of a dim of %lld", (long long)at,
                   (long long)dim);
        return false;
    }
    return true;
}
