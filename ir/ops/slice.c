/* Cutting and joining along axes: Slice, Split, Concat.
 *
 *   Slice, Split   out[i...] = x[start + i * step...]
 *   Concat         out[i...] = select(i < end0, x0[i], select(i < end1, x1[i - end0], ...)), every
 *                  read predicated by its own range; the pass that produces inputs in place knows
 *                  this form
 *
 * Starts and sizes are expressions over symbols, so `x[:, 1:]` of a symbolic length stays symbolic.
 */
#include "ir/ops/common.h"

/* ---- Slice ----------------------------------------------------------------------------------- */

typedef struct SliceAxis {
    const KExpr *start, *length;
    int64_t step;    /* 0: the axis is not sliced, or `by` is its step */
    const KExpr *by; /* the step where it is read while running */
} SliceAxis;

/* Bounds beyond this mean "to the end" for dims that are not known. */
static const int64_t FAR_AWAY = INT32_MAX;

/* A start or end, counted from the end when negative, clamped to lo .. dim + hi; dim + hi where
 * that is less than lo: nothing of an empty axis is read backwards. */
static const KExpr *slice_bound(KCtx *k, const KExpr *e, const KExpr *dim, int lo, int hi) {
    int64_t at, extent;
    const KExpr *least = k_int(k, lo), *most = k_add(k, dim, k_int(k, hi));
    if (k_is_int(e, &at)) {
        if (k_is_int(dim, &extent)) {
            if (at < 0) at = at < -extent - 1 ? -1 : at + extent;
            if (at < lo) at = lo;
            return k_int(k, at > extent + hi ? extent + hi : at);
        }
        if (at >= FAR_AWAY) return most;
        if (at <= -FAR_AWAY) return k_min(k, least, most);
    }
    const KExpr *wrapped = k_select(k, k_lt(k, e, k_int(k, 0)), k_add(k, e, dim), e);
    return k_min(k, k_max(k, wrapped, least), most);
}

static void slice_axis(KCtx *k, SliceAxis *a, const KExpr *start, const KExpr *end, int64_t step,
                       const KExpr *dim) {
    const KExpr *one = k_int(k, 1), *zero = k_int(k, 0), *listed_end = end, *distance;
    bool up = step > 0;
    a->step = step;
    a->start = up ? slice_bound(k, start, dim, 0, 0) : slice_bound(k, start, dim, 0, -1);
    end = up ? slice_bound(k, end, dim, 0, 0) : slice_bound(k, end, dim, -1, -1);
    distance = up ? k_sub(k, end, a->start) : k_sub(k, a->start, end);
    int64_t stride = up ? step : step == INT64_MIN ? INT64_MAX : -step, far;
    if (k_is_int(distance, &far)) {
        a->length = k_int(k, far <= 0 ? 0 : (far - 1) / stride + 1);
        return;
    }
    distance = k_max(k, distance, zero);
    /* x[i:i+2] has 2 elements at most, whatever i is and counts from */
    int64_t apart;
    if (up && k_is_int(k_sub(k, listed_end, start), &apart) && apart >= 0)
        distance = k_min(k, distance, k_int(k, apart));
    a->length = stride == 1 ? distance
                            : k_fdiv(k, k_add(k, distance, k_sub(k, k_int(k, stride), one)),
                                     k_int(k, stride));
}

/* How many axes the inputs list: the length of the first that has one while compiling, which is not
 * always `starts` (itself x[i:i+1] of a vector, in a loop); where none has, the most that one may
 * have, or x's rank. */
static int listed_axes(const Node *n) {
    int64_t length, most = n->in[0]->shape.rank;
    for (int i = 1; i < 5; i++) {
        if (!has_in(n, i)) continue;
        const Shape *list = &n->in[i]->shape;
        if (shape_count_int(*list, &length)) return length > MAX_RANK ? MAX_RANK : (int)length;
        if (list->rank == 1 && list->dims[0]->hi >= 1 && list->dims[0]->hi < most)
            most = list->dims[0]->hi;
    }
    return (int)most;
}

/* Input i, one of the lists. */
static bool slice_list(Module *m, const Node *n, int i, const KExpr ***e, int *count) {
    int64_t length;
    if (shape_count_int(n->in[i]->shape, &length)) return infer_exprs(m, n, i, MAX_RANK, e, count);
    *count = listed_axes(n);
    return infer_exprs_as(m, n, i, *count, e);
}

/* Slices whose axes or steps are read while running: each axis takes what is listed for it. */
static bool read_slice_axes(Module *m, const Node *n, SliceAxis *axis, const KExpr *const *starts,
                            const KExpr *const *ends, int count) {
    KCtx *k = m->k;
    const KExpr **axes = NULL, **steps = NULL, *zero = k_int(k, 0), *one = k_int(k, 1);
    int n_axes = count, n_steps = count, rank = n->in[0]->shape.rank;
    if ((has_in(n, 3) && !slice_list(m, n, 3, &axes, &n_axes)) ||
        (has_in(n, 4) && !slice_list(m, n, 4, &steps, &n_steps)))
        return false;
    if (n_axes != count || n_steps != count) {
        diag_error(m->diag, n->loc, "starts has %d entries, but axes or steps has %d", count,
                   n_axes != count ? n_axes : n_steps);
        return false;
    }
    for (int i = 0; i < count && axes; i++)
        infer_rule(m, n,
                   k_and(k, k_le(k, k_int(k, -rank), axes[i]), k_lt(k, axes[i], k_int(k, rank))));
    for (int a = 0; a < rank; a++) {
        const KExpr *dim = n->in[0]->shape.dims[a], *step = one, *start = zero, *end = dim;
        for (int i = 0; i < count; i++) {
            const KExpr *at = axes ? axes[i] : k_int(k, i);
            const KExpr *here = k_or(k, k_eq(k, at, k_int(k, a)), k_eq(k, at, k_int(k, a - rank)));
            start = k_select(k, here, starts[i], start);
            end = k_select(k, here, ends[i], end);
            if (steps) step = k_select(k, here, steps[i], step);
        }
        infer_rule(m, n, k_ne(k, step, zero));
        SliceAxis up, down;
        slice_axis(k, &up, start, end, 1, dim);
        slice_axis(k, &down, start, end, -1, dim);
        const KExpr *rises = k_lt(k, zero, step), *far = k_select(k, rises, up.length, down.length);
        const KExpr *stride = k_max(k, k_abs(k, step), one);
        far = k_fdiv(k, k_add(k, far, k_sub(k, stride, one)), stride);
        axis[a] = (SliceAxis){k_select(k, rises, up.start, down.start),
                              k_max(k, k_min(k, far, dim), zero), 0, step};
    }
    return true;
}

/* What Slice does to each axis of its input. */
static bool slice_axes(Module *m, const Node *n, SliceAxis *axis) {
    const KExpr **starts, **ends;
    int64_t axes[MAX_RANK], steps[MAX_RANK];
    int count, other, rank = n->in[0]->shape.rank;
    bool is_cut[MAX_RANK];
    for (int i = 0; i < rank; i++) axis[i] = (SliceAxis){NULL, NULL, 0, NULL};
    if (!slice_list(m, n, 1, &starts, &count) || !slice_list(m, n, 2, &ends, &other)) return false;
    for (int i = 0; i < count; i++) {
        axes[i] = i;
        steps[i] = 1;
    }
    bool fits = count == other;
    for (int i = 3; i < 5; i++)
        if (fits && has_in(n, i) &&
            !value_ints(m, n->in[i], i == 3 ? axes : steps, MAX_RANK, &other))
            return read_slice_axes(m, n, axis, starts, ends, count);
        else
            fits &= other == count;
    if (!fits) {
        diag_error(m->diag, n->loc, "starts has %d entries, but ends, axes or steps has %d", count,
                   other);
        return false;
    }
    if (!infer_axes(m, n, axes, count, rank, is_cut)) return false;
    for (int i = 0; i < count; i++) {
        int at = shape_axis(axes[i], rank);
        if (steps[i] == 0) {
            diag_error(m->diag, n->loc, "steps[%d] is 0", i);
            return false;
        }
        slice_axis(m->k, &axis[at], starts[i], ends[i], steps[i], n->in[0]->shape.dims[at]);
    }
    return true;
}

typedef struct Slicing {
    int rank;
    const SliceAxis *axis;
} Slicing;

static void sliced_from(const int64_t *to, int64_t *from, void *user) {
    const Slicing *s = user;
    for (int i = 0; i < s->rank; i++) {
        int64_t start = 0;
        from[i] = to[i];
        if (s->axis[i].step && k_is_int(s->axis[i].start, &start))
            from[i] = start + to[i] * s->axis[i].step;
    }
}

/* Contents are followed where every start is a number. */
static void slice_content(Module *m, const Value *x, const SliceAxis *axis, Value *out) {
    int64_t start;
    out->content = NULL;
    for (int i = 0; i < x->shape.rank; i++)
        if (axis[i].by || (axis[i].step && !k_is_int(axis[i].start, &start))) return;
    infer_moved_content(m, x, out, sliced_from, &(Slicing){x->shape.rank, axis});
}

bool slice_infer(Module *m, Node *n) {
    SliceAxis axis[MAX_RANK];
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !slice_axes(m, n, axis)) return false;
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    for (int i = 0; i < out.rank; i++)
        if (axis[i].length) out.dims[i] = axis[i].length;
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    slice_content(m, n->in[0], axis, n->out[0]);
    return true;
}

void slice_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    SliceAxis axis[MAX_RANK];
    KTensor *x = def_in(d, 0);
    const KExpr *from[MAX_RANK];
    BUG_IF(!slice_axes(d->m, n, axis), "slices changed since infer");
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    for (int i = 0; i < x->rank; i++) {
        from[i] = def_axis(d, s, i);
        if (axis[i].step)
            from[i] = k_add(k, axis[i].start, k_mul(k, from[i], k_int(k, axis[i].step)));
        else if (axis[i].by)
            from[i] = k_add(k, axis[i].start, k_mul(k, from[i], axis[i].by));
    }
    s->movement = true;
    def_map(d, s, def_at(d, x, from, x->rank));
}

/* ---- Split ----------------------------------------------------------------------------------- */

/* Lengths along the axis that the `split` input gives. */
static bool listed_lengths(Module *m, const Node *n, const KExpr *dim, const KExpr **length) {
    const KExpr **e, *total = k_int(m->k, 0);
    int count;
    int64_t value;
    if (!infer_exprs(m, n, 1, UINT16_MAX, &e, &count)) return false;
    if (count != n->n_out) {
        diag_error(m->diag, n->loc, "split has %d entries for %d outputs", count, n->n_out);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (k_is_int(e[i], &value) && (value < 0 || value > INT64_C(1) << 40)) {
            diag_error(m->diag, n->loc, "split[%d] is %lld", i, (long long)value);
            return false;
        }
        total = k_add(m->k, total, e[i]);
        length[i] = e[i];
    }
    infer_rule(m, n, k_eq(m->k, total, dim));
    if (!dims_known_differ(total, dim)) return true;
    diag_error(m->diag, n->loc, "split sums up to %lld, the dim is %lld", (long long)total->u.i,
               (long long)dim->u.i);
    return false;
}

/* Axis and lengths of all outputs; the lengths are equal but for the last when none are given. */
static bool split_lengths(Module *m, const Node *n, int *axis, const KExpr **length) {
    Shape in = n->in[0]->shape;
    if (!infer_axis(m, n, attr_int(n, "axis", 0), in.rank, axis)) return false;
    const KExpr *dim = in.dims[*axis];
    if (has_in(n, 1)) return listed_lengths(m, n, dim, length);
    int64_t parts = attr_int(n, "num_outputs", n->n_out), value;
    if (parts < 1 || parts != n->n_out) {
        diag_error(m->diag, n->loc, "num_outputs is %lld, the node has %d outputs",
                   (long long)parts, n->n_out);
        return false;
    }
    const KExpr *each = k_fdiv(m->k, k_add(m->k, dim, k_int(m->k, parts - 1)), k_int(m->k, parts));
    for (int i = 0; i < parts; i++) length[i] = each;
    length[parts - 1] = k_sub(m->k, dim, k_mul(m->k, each, k_int(m->k, parts - 1)));
    if (!k_is_int(length[parts - 1], &value) || value >= 0) return true;
    diag_error(m->diag, n->loc, "a dim of %lld does not split into %lld parts", (long long)dim->u.i,
               (long long)parts);
    return false;
}

bool split_infer(Module *m, Node *n) {
    int axis;
    const KExpr **length = arena_array(m->scratch, const KExpr *, n->n_out);
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !split_lengths(m, n, &axis, length)) return false;
    const Value *x = n->in[0];
    int64_t count, start = 0, n_part;
    const KExpr **own = x->shape.rank == 1 ? infer_content(m, x, &count) : NULL;
    for (int i = 0; i < n->n_out; i++) {
        Shape out = shape_copy(m->arena, x->shape);
        out.dims[axis] = length[i];
        if (!infer_set(m, n, i, x->dtype, out)) return false;
        bool is_known = own && k_is_int(length[i], &n_part) && start + n_part <= count;
        if (has_out(n, i)) infer_set_content(n->out[i], is_known ? own + start : NULL);
        if (!is_known) own = NULL;
        start += is_known ? n_part : 0;
    }
    return true;
}

void split_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    int axis;
    const KExpr **length = arena_array(d->m->scratch, const KExpr *, n->n_out),
                *start = k_int(k, 0);
    const KExpr *from[MAX_RANK];
    KTensor *x = def_in(d, 0);
    BUG_IF(!split_lengths(d->m, n, &axis, length), "lengths changed since infer");
    for (int i = 0; i < n->n_out; i++) {
        if (n->out[i]) {
            Stage *s = def_begin(d, FORM_MAP, def_out(d, i));
            lower_axes(d, s, from);
            from[axis] = k_add(k, from[axis], start);
            s->movement = true;
            def_map(d, s, def_at(d, x, from, x->rank));
        }
        start = k_add(k, start, length[i]);
    }
}

/* ---- Concat ---------------------------------------------------------------------------------- */

/* Merges the next input's shape into *out: dims add up along the axis and agree elsewhere. */
static bool concat_shape(Module *m, const Node *n, int i, int axis, Shape *out) {
    Shape next = n->in[i]->shape;
    int64_t total, dim, sum;
    bool same = next.rank == out->rank;
    for (int a = 0; same && a < out->rank; a++) {
        if (a == axis) continue;
        same = infer_same_dim(m, n, out->dims[a], next.dims[a]);
        if (!k_is_int(out->dims[a], &dim)) out->dims[a] = next.dims[a];
    }
    if (!same) {
        diag_error(m->diag, n->loc, "input %d of shape %s does not continue %s along axis %d", i,
                   shape_text(m->scratch, next), shape_text(m->scratch, *out), axis);
        return false;
    }
    if (k_is_int(out->dims[axis], &total) && k_is_int(next.dims[axis], &dim) &&
        __builtin_add_overflow(total, dim, &sum)) {
        diag_error(m->diag, n->loc, "the lengths along axis %d sum up beyond 64 bits", axis);
        return false;
    }
    out->dims[axis] = k_add(m->k, out->dims[axis], next.dims[axis]);
    return true;
}

static void concat_content(Module *m, const Node *n, Value *out) {
    int64_t count, n_out, at = 0;
    out->content = NULL;
    if (!can_track_content(out, &n_out) || out->shape.rank != 1) return;
    const KExpr **all = arena_array(m->arena, const KExpr *, n_out + 1);
    for (int i = 0; i < n->n_in; i++) {
        const KExpr **own = infer_content(m, n->in[i], &count);
        if (!own) return;
        for (int64_t j = 0; j < count; j++) all[at++] = own[j];
    }
    infer_set_content(out, all);
}

bool concat_infer(Module *m, Node *n) {
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_ANY)) return false;
    if (!node_attr(n, "axis")) {
        diag_error(m->diag, n->loc, "attribute axis is missing");
        return false;
    }
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    if (!infer_axis(m, n, attr_int(n, "axis", 0), out.rank, &axis)) return false;
    for (int i = 1; i < n->n_in; i++)
        if (!infer_dtypes_equal(m, n, 0, i) || !concat_shape(m, n, i, axis, &out)) return false;
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    concat_content(m, n, n->out[0]);
    return true;
}

/* out = x[0], x[1], ..., x[count - 1] joined, in the form named at the top. */
static void concat_map(Def *d, KTensor *const *x, int count, int axis, KTensor *out) {
    KCtx *k = d->k;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *index[MAX_RANK], *end = k_int(k, 0), *body = NULL;
    lower_axes(d, s, index);
    const KExpr *i = index[axis];
    for (int j = 0; j < count; j++) end = k_add(k, end, x[j]->dims[axis]);
    for (int j = count - 1; j >= 0; j--) {
        const KExpr *start = k_sub(k, end, x[j]->dims[axis]);
        const KExpr *is_before_end = k_lt(k, i, end), *is_here = k_le(k, start, i);
        if (body) is_here = k_and(k, is_here, is_before_end); /* the last input has no upper test */
        index[axis] = k_sub(k, i, start);
        const KExpr *e = count == 1 ? def_at(d, x[j], index, out->rank)
                                    : def_at_if(d, x[j], index, out->rank, is_here);
        body = body ? k_select(k, is_before_end, e, body) : e;
        end = start;
    }
    s->movement = count == 1;
    def_map(d, s, body);
}

/* Inputs joined by one stage: with more, groups are joined first, so that no element walks a chain
 * of hundreds of tests. */
enum { CONCAT_GROUP = 32 };

void concat_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0), **x = arena_array(d->m->scratch, KTensor *, n->n_in);
    int axis = shape_axis(attr_int(n, "axis", 0), out->rank), count = 0;
    for (int i = 0; i < n->n_in; i++)
        if (!k_is_value(n->in[i]->shape.dims[axis], 0)) x[count++] = def_in(d, i);
    if (count == 0) x[count++] = def_in(d, 0);
    while (count > CONCAT_GROUP) {
        int n_groups = 0;
        for (int i = 0; i < count; i += CONCAT_GROUP) {
            int members = count - i < CONCAT_GROUP ? count - i : CONCAT_GROUP;
            const KExpr *dims[MAX_RANK], *total = k_int(k, 0);
            for (int a = 0; a < out->rank; a++) dims[a] = out->dims[a];
            for (int j = 0; j < members; j++) total = k_add(k, total, x[i + j]->dims[axis]);
            dims[axis] = total;
            KTensor *group = def_temp(d, "joined", out->dtype, out->rank, dims);
            concat_map(d, x + i, members, axis, group);
            x[n_groups++] = group;
        }
        count = n_groups;
    }
    concat_map(d, x, count, axis, out);
}
