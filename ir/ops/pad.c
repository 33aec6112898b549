/* Pad: more (or, with negative counts, fewer) elements at both ends of axes; CenterCropPad: the
 * same to a given size, equally at both ends.
 *
 *   constant   out[i] = inside ? x[i - before] : value      a predicated read when value is 0
 *   edge       out[i] = x[clamp(i - before, 0, dim - 1)]
 *   reflect    out[i] = x[mirrored without repeating the border]
 *   wrap       out[i] = x[(i - before) mod dim], of what negative counts leave of x */
#include "ir/ops/check.h"

#include <string.h>

typedef enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP, PAD_MODES } PadMode;

static const char *const pad_modes[PAD_MODES] = {"constant", "reflect", "edge", "wrap"};

static PadMode pad_mode(const Node *n) {
    const char *text = attr_string(n, "mode", "constant");
    int mode = 0;
    while (mode < PAD_MODES && strcmp(text, pad_modes[mode])) mode++;
    return (PadMode)mode;
}

/* Elements before and after each axis. */
static bool pad_counts(Module *m, const Node *n, const KExpr **before, const KExpr **after) {
    int rank = n->in[0]->shape.rank, count, n_axes = rank;
    int64_t axes[MAX_RANK], value;
    bool is_in[MAX_RANK];
    const KExpr **e;
    for (int i = 0; i < rank; i++) {
        axes[i] = i;
        before[i] = after[i] = k_int(m->k, 0);
    }
    const KExpr **read_axes = NULL;
    if (has_in(n, 3) && !value_ints(m, n->in[3], axes, MAX_RANK, &n_axes) &&
        !infer_exprs(m, n, 3, MAX_RANK, &read_axes, &n_axes))
        return false;
    if (!read_axes && !infer_axes(m, n, axes, n_axes, rank, is_in)) return false;
    if (!infer_exprs(m, n, 1, 2 * MAX_RANK, &e, &count)) return false;
    if (count != 2 * n_axes) {
        diag_error(m->diag, n->loc, "pads has %d entries for %d axes", count, n_axes);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (k_is_int(e[i], &value) && (value > INT64_C(1) << 40 || value < -(INT64_C(1) << 40))) {
            diag_error(m->diag, n->loc, "pads[%d] is %lld", i, (long long)value);
            return false;
        }
    }
    for (int i = 0; i < n_axes && read_axes; i++)
        for (int a = 0; a < rank; a++) {
            KCtx *k = m->k;
            const KExpr *at = read_axes[i];
            const KExpr *here = k_or(k, k_eq(k, at, k_int(k, a)), k_eq(k, at, k_int(k, a - rank)));
            before[a] = k_select(k, here, e[i], before[a]);
            after[a] = k_select(k, here, e[i + n_axes], after[a]);
        }
    for (int i = 0; i < n_axes && !read_axes; i++) {
        int axis = shape_axis(axes[i], rank);
        before[axis] = e[i];
        after[axis] = e[i + n_axes];
    }
    return true;
}

/* What negative counts leave of an axis, from *from on. */
static const KExpr *kept_elements(KCtx *k, const KExpr *dim, const KExpr *before,
                                  const KExpr *after, const KExpr **from) {
    const KExpr *zero = k_int(k, 0);
    *from = k_max(k, k_neg(k, before), zero);
    return k_sub(k, k_add(k, dim, k_min(k, after, zero)), *from);
}

bool pad_infer(Module *m, Node *n) {
    const KExpr *before[MAX_RANK], *after[MAX_RANK];
    PadMode mode = pad_mode(n);
    int64_t dim, had, count;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !pad_counts(m, n, before, after)) return false;
    if (mode == PAD_MODES) {
        diag_error(m->diag, n->loc,
                   "attribute mode must be 'constant', 'reflect', 'edge' or 'wrap'");
        return false;
    }
    if (has_in(n, 2)) {
        if (!infer_dtypes_equal(m, n, 0, 2)) return false;
        if (!shape_count_int(n->in[2]->shape, &count) || count != 1) {
            diag_error(m->diag, n->loc, "input 2 (the value) must be a scalar");
            return false;
        }
    }
    Shape in = n->in[0]->shape, out = shape_make(m->arena, in.rank);
    for (int i = 0; i < in.rank; i++) {
        out.dims[i] = k_add(m->k, in.dims[i], k_add(m->k, before[i], after[i]));
        const KExpr *from, *kept = in.dims[i];
        if (mode == PAD_WRAP) kept = kept_elements(m->k, kept, before[i], after[i], &from);
        if (mode != PAD_CONSTANT)
            infer_rule(m, n,
                       k_or(m->k, k_lt(m->k, k_int(m->k, 0), kept),
                            k_le(m->k, out.dims[i], k_int(m->k, 0))));
        if (!k_is_int(out.dims[i], &dim)) continue;
        bool is_empty = k_is_int(kept, &had) && had <= 0 && dim > 0 && mode != PAD_CONSTANT;
        if (dim >= 0 && !is_empty) continue;
        diag_error(m->diag, n->loc,
                   is_empty ? "axis %d is empty: there is nothing to repeat"
                            : "axis %d is cut by more elements than it has",
                   i);
        return false;
    }
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* Is e at most 0 for certain? */
static bool never_positive(const KExpr *e) {
    int64_t lo, hi;
    k_range(e, &lo, &hi);
    return hi <= 0;
}

/* Position in 0 .. dim-1 that i (perhaps outside) mirrors to. */
static const KExpr *reflected(KCtx *k, const KExpr *i, const KExpr *dim, const KExpr *before,
                              const KExpr *after) {
    const KExpr *last = k_sub(k, dim, k_int(k, 1)), *twice = k_mul(k, last, k_int(k, 2)),
                *zero = k_int(k, 0);
    int64_t extent, lo, hi;
    if (k_is_int(dim, &extent) && k_is_int(before, &lo) && k_is_int(after, &hi) && lo < extent &&
        hi < extent) {
        const KExpr *at = i;
        if (hi > 0) at = k_select(k, k_lt(k, i, dim), at, k_sub(k, twice, i));
        return lo > 0 ? k_select(k, k_lt(k, i, zero), k_neg(k, i), at) : at;
    }
    i = k_fmod(k, i, k_max(k, twice, k_int(k, 1))); /* dim 1: everything mirrors to 0 */
    return k_select(k, k_lt(k, i, dim), i, k_sub(k, twice, i));
}

static const KExpr *pad_source(KCtx *k, PadMode mode, const KExpr *i, const KExpr *dim,
                               const KExpr *before, const KExpr *after) {
    bool is_below = !never_positive(before), is_above = !never_positive(after);
    if (mode == PAD_CONSTANT || (!is_below && !is_above)) return i;
    if (mode == PAD_REFLECT) return reflected(k, i, dim, before, after);
    if (mode == PAD_WRAP) {
        const KExpr *from, *kept = kept_elements(k, dim, before, after, &from);
        return k_add(k, from, k_fmod(k, k_sub(k, i, from), kept));
    }
    if (is_below) i = k_max(k, i, k_int(k, 0));
    return is_above ? k_min(k, i, k_sub(k, dim, k_int(k, 1))) : i;
}

void pad_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    const KExpr *before[MAX_RANK], *after[MAX_RANK], *from[MAX_RANK], *inside = k_bool(k, true);
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    PadMode mode = pad_mode(n);
    BUG_IF(!pad_counts(d->m, n, before, after), "pads changed since infer");
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0; i < x->rank; i++) {
        from[i] = k_sub(k, def_axis(d, s, i), before[i]);
        if (!never_positive(before[i])) inside = k_and(k, inside, k_le(k, k_int(k, 0), from[i]));
        if (!never_positive(after[i])) inside = k_and(k, inside, k_lt(k, from[i], x->dims[i]));
        from[i] = pad_source(k, mode, from[i], x->dims[i], before[i], after[i]);
    }
    const KExpr *value = k_const(k, x->dtype, 0);
    if (mode == PAD_CONSTANT && has_in(n, 2)) value = lower_scalar(d, def_in(d, 2));
    const KExpr *e =
        mode == PAD_CONSTANT ? def_at_if(d, x, from, x->rank, inside) : def_at(d, x, from, x->rank);
    s->movement = mode != PAD_CONSTANT || k_is_value(value, 0.0);
    def_map(d, s, s->movement ? e : k_select(k, inside, e, value));
}

/* ---- CenterCropPad --------------------------------------------------------------------------- */

/* The wanted sizes of all axes. */
static bool crop_sizes(Module *m, const Node *n, const KExpr **size) {
    int rank = n->in[0]->shape.rank, count;
    const int64_t *axes;
    const KExpr **wanted;
    bool is_in[MAX_RANK];
    int n_axes = attr_ints(n, "axes", &axes);
    if (!infer_axes(m, n, axes, n_axes, rank, is_in) ||
        !infer_exprs(m, n, 1, MAX_RANK, &wanted, &count))
        return false;
    if (count != (n_axes ? n_axes : rank)) {
        diag_error(m->diag, n->loc, "shape has %d elements for %d axes", count,
                   n_axes ? n_axes : rank);
        return false;
    }
    for (int i = 0; i < rank; i++) size[i] = n->in[0]->shape.dims[i];
    for (int i = 0; i < count; i++) size[n_axes ? shape_axis(axes[i], rank) : i] = wanted[i];
    return true;
}

bool center_crop_pad_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY)) return false;
    Shape out = shape_make(m->arena, n->in[0]->shape.rank);
    return crop_sizes(m, n, out.dims) && infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* What is over or missing is shared between the ends, the odd element at the end. */
void center_crop_pad_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *from[MAX_RANK], *inside = NULL;
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0; i < x->rank; i++) {
        const KExpr *over = k_sub(k, x->dims[i], out->dims[i]);
        from[i] = k_add(k, def_axis(d, s, i), k_div(k, over, k_int(k, 2)));
        if (over->lo < 0) inside = k_and_inside(d, inside, from[i], x->dims[i]);
    }
    s->movement = true;
    def_map(d, s, def_at_if(d, x, from, x->rank, inside));
}
