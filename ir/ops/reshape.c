/* Operators whose output is input 0's elements in the same order: Identity, Assume, Dropout (when
 * it does not train), Reshape, Flatten, Squeeze, Unsqueeze.
 *
 * Definition: out[i...] = x[j...] where i and j have one row-major position. Equal leading and
 * trailing dims map straight; only what lies between goes through a flat index. Contents pass
 * unchanged. */
#include "ir/infer.h"
#include "ir/ops/check.h"

#include <string.h>

/* ---- Identity, Assume and Dropout ------------------------------------------------------------ */

bool identity_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_same_as(m, n, 0, n->in[0])) return false;
    infer_copy_content(m, n->in[0], n->out[0]);
    return true;
}

static void copy_elements(Def *d, KTensor *x, KTensor *out) {
    Stage *s = def_begin(d, FORM_MAP, out);
    s->movement = s->view = true;
    def_map(d, s, lower_elem(d, s, x, out->dtype));
}

void identity_lower(Def *d, const Node *n) {
    (void)n;
    copy_elements(d, def_in(d, 0), def_out(d, 0));
}

bool assume_infer(Module *m, Node *n) {
    const Value *condition = n->in[1];
    int64_t holds = attr_int(n, "holds", 1), known;
    if (!check_dtype(m, n, 1, DTM(BOOL)) || !infer_is_scalar(m, n, 1)) return false;
    const KExpr *is = value_read(m, n->in[1], 0);
    if (k_is_int(is, &known) && known != holds) {
        diag_error(m->diag, n->loc, "'%s' is %s, which the rest of the model does not fit",
                   condition->name, known ? "true" : "false");
        return false;
    }
    infer_rule(m, n, k_eq(m->k, is, k_int(m->k, holds)));
    return identity_infer(m, n);
}

void assume_lower(Def *d, const Node *n) {
    identity_lower(d, n);
}

bool dropout_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_FLOAT)) return false;
    int64_t training = 0;
    int count = 1;
    if (has_in(n, 2) && !infer_const_ints(m, n, 2, &training, 1, &count)) return false;
    if (training) {
        diag_unsupported(m->diag, n->loc, "training_mode is true; export the model for inference");
        return false;
    }
    return infer_same_as(m, n, 0, n->in[0]) &&
           infer_set(m, n, 1, DT_BOOL, shape_copy(m->arena, n->in[0]->shape));
}

void dropout_lower(Def *d, const Node *n) {
    if (has_out(n, 0)) copy_elements(d, def_in(d, 0), def_out(d, 0));
    if (has_out(n, 1)) lower_fill(d, def_out(d, 1), k_bool(d->k, true));
}

/* ---- Reshape --------------------------------------------------------------------------------- */

/* Both lists of dims without the ones that occur in both. */
static void cancel_dims(const KExpr **a, int *n_a, const KExpr **b, int *n_b) {
    for (int i = 0; i < *n_a; i++)
        for (int j = 0; j < *n_b; j++) {
            if (a[i] != b[j]) continue;
            a[i--] = a[--*n_a];
            b[j] = b[--*n_b];
            break;
        }
}

/* The dim that makes the products equal: product of `in` / product of `known`. */
static const KExpr *solve_dim(Module *m, const Node *n, Shape in, const KExpr *const *known,
                              int n_known) {
    const KExpr *up[MAX_RANK], *down[MAX_RANK];
    int n_up = in.rank, n_down = n_known;
    int64_t total, rest;
    for (int i = 0; i < n_up; i++) up[i] = in.dims[i];
    for (int i = 0; i < n_down; i++) down[i] = known[i];
    cancel_dims(up, &n_up, down, &n_down);
    Shape top = {n_up, up}, bottom = {n_down, down};
    bool is_const = shape_is_const(top) && shape_is_const(bottom);
    if (is_const && shape_count_int(top, &total) && shape_count_int(bottom, &rest)) {
        if (rest > 0 && total % rest == 0) return k_int(m->k, total / rest);
    } else if (!is_const) {
        return k_fdiv(m->k, shape_count(m->k, top), shape_count(m->k, bottom));
    }
    diag_error(m->diag, n->loc, "the dim -1 has no solution: shape %s does not divide",
               shape_text(m->scratch, in));
    return NULL;
}

/* Dims that are read while running may be 0 or -1: e[i] becomes what they mean then. */
static void resolve_read_dims(Module *m, const Node *n, const KExpr **e, int rank) {
    KCtx *k = m->k;
    Shape in = n->in[0]->shape;
    const KExpr *known = k_int(k, 1), *zero = k_int(k, 0), *one = k_int(k, 1), *open = k_int(k, -1),
                *total = shape_count(k, in), *n_open = zero, *wanted = one;
    bool copies = !attr_int(n, "allowzero", 0);
    for (int i = 0; i < rank; i++) {
        if (copies && i < in.rank && e[i]->lo <= 0 && e[i]->op != KO_const_i)
            e[i] = k_select(k, k_eq(k, e[i], zero), in.dims[i], e[i]);
        const KExpr *is_open = k_eq(k, e[i], open);
        known = k_mul(k, known, k_select(k, is_open, one, e[i]));
        n_open = k_add(k, n_open, k_select(k, is_open, one, zero));
    }
    const KExpr *rest = k_fdiv(k, total, k_max(k, known, one));
    for (int i = 0; i < rank; i++) {
        e[i] = k_select(k, k_eq(k, e[i], open), rest, e[i]);
        wanted = k_mul(k, wanted, e[i]);
    }
    infer_rule(m, n, k_le(k, n_open, one));
    infer_rule(m, n, k_eq(k, wanted, total));
}

/* Dims asked for, 0 replaced by the input's; *open is the position of -1 or -1. */
static bool requested_dims(Module *m, const Node *n, const KExpr **e, int rank, int *open) {
    Shape in = n->in[0]->shape;
    bool allow_zero = attr_int(n, "allowzero", 0) != 0;
    *open = -1;
    for (int i = 0; i < rank; i++) {
        int64_t dim;
        if (!k_is_int(e[i], &dim) || dim > 0 || (dim == 0 && allow_zero)) continue;
        if (dim == 0 && i < in.rank) {
            e[i] = in.dims[i];
        } else if (dim == 0) {
            diag_error(m->diag, n->loc,
                       "shape[%d] is 0 (copy the input's dim), but the input's rank is %d", i,
                       in.rank);
            return false;
        } else if (dim < -1 || *open >= 0) {
            diag_error(m->diag, n->loc,
                       dim < -1 ? "shape[%d] is %lld" : "shape[%d] is %lld, a second time", i,
                       (long long)dim);
            return false;
        } else {
            *open = i;
        }
    }
    return true;
}

bool reshape_infer(Module *m, Node *n) {
    const KExpr **e, *known[MAX_RANK];
    int rank, open, n_known = 0;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_exprs(m, n, 1, MAX_RANK, &e, &rank))
        return false;
    bool is_read = false;
    for (int i = 0; i < rank; i++) is_read |= e[i]->lo < 0 && is_computed(m, e[i]);
    if (is_read) { /* not those of the list, which may be the content of the input */
        e = arena_copy(m->arena, e, sizeof *e * (size_t)(rank + 1));
        resolve_read_dims(m, n, e, rank);
    }
    if (!requested_dims(m, n, e, rank, &open)) return false;
    for (int i = 0; i < rank; i++)
        if (i != open) known[n_known++] = e[i];
    Shape in = n->in[0]->shape, out = {rank, e};
    int64_t had, wanted;
    if (open >= 0 && !(e[open] = solve_dim(m, n, in, known, n_known))) return false;
    bool is_const = shape_is_const(in) && shape_is_const(out);
    if (is_const &&
        (!shape_count_int(in, &had) || !shape_count_int(out, &wanted) || had != wanted)) {
        diag_error(m->diag, n->loc, "shape %s does not hold the elements of %s",
                   shape_text(m->scratch, out), shape_text(m->scratch, in));
        return false;
    }
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_copy_content(m, n->in[0], n->out[0]);
    return true;
}

/* Equal leading dims map to themselves, equal trailing dims too; the middle through its flat index.
 */
static void reshape_elements(Def *d, KTensor *x, KTensor *out) {
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *from[MAX_RANK], *to[MAX_RANK];
    int head = 0, tail = 0;
    lower_axes(d, s, to);
    while (head < x->rank && head < out->rank && x->dims[head] == out->dims[head]) {
        from[head] = to[head];
        head++;
    }
    while (tail < x->rank - head && tail < out->rank - head &&
           x->dims[x->rank - 1 - tail] == out->dims[out->rank - 1 - tail]) {
        from[x->rank - 1 - tail] = to[out->rank - 1 - tail];
        tail++;
    }
    const KExpr *flat = def_flatten(d->k, to + head, (const KExpr *const *)out->dims + head,
                                    out->rank - head - tail);
    def_unflatten(d->k, flat, (const KExpr *const *)x->dims + head, x->rank - head - tail,
                  from + head);
    s->movement = s->view = true;
    def_map(d, s, def_at(d, x, from, x->rank));
}

void reshape_lower(Def *d, const Node *n) {
    (void)n;
    reshape_elements(d, def_in(d, 0), def_out(d, 0));
}

/* ---- Flatten --------------------------------------------------------------------------------- */

bool flatten_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY)) return false;
    Shape in = n->in[0]->shape;
    int64_t axis = attr_int(n, "axis", 1), count;
    if (axis < -in.rank || axis > in.rank) {
        diag_error(m->diag, n->loc, "axis %lld is outside of -%d .. %d", (long long)axis, in.rank,
                   in.rank);
        return false;
    }
    int split = (int)(axis < 0 ? axis + in.rank : axis);
    Shape part[2] = {{split, in.dims}, {in.rank - split, in.dims + split}},
          out = shape_make(m->arena, 2);
    for (int i = 0; i < 2; i++) {
        if (shape_is_const(part[i]) && !shape_count_int(part[i], &count)) {
            diag_error(m->diag, n->loc, "the product of %s is too large",
                       shape_text(m->scratch, part[i]));
            return false;
        }
        out.dims[i] = shape_count(m->k, part[i]);
    }
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_copy_content(m, n->in[0], n->out[0]);
    return true;
}

void flatten_lower(Def *d, const Node *n) {
    (void)n;
    reshape_elements(d, def_in(d, 0), def_out(d, 0));
}

/* ---- Squeeze and Unsqueeze ------------------------------------------------------------------- */

/* Without axes those of length 1 go. The rank has to be known, so a length that is found later is
 * taken to be 1 where large inputs make it so, or the attribute `ones` lists the axis, and not to
 * be 1 elsewhere, which the run tests. */
static void squeeze_ones(Module *m, const Node *n, bool *is_gone) {
    Shape in = n->in[0]->shape;
    const int64_t *ones;
    int n_ones = attr_ints(n, "ones", &ones);
    for (int i = 0; i < in.rank; i++) {
        const KExpr *is_one = k_eq(m->k, in.dims[i], k_int(m->k, 1));
        is_gone[i] = is_one_of_many(m, in.dims[i]);
        for (int at = 0; at < n_ones; at++) is_gone[i] |= ones[at] == i;
        infer_rule(m, n, is_gone[i] ? is_one : k_not(m->k, is_one));
    }
}

/* Marks the axes that Squeeze removes. */
static bool squeezed_axes(Module *m, const Node *n, bool *is_gone) {
    Shape in = n->in[0]->shape;
    int64_t axes[MAX_RANK], dim;
    int count = 0;
    if (!has_in(n, 1)) {
        squeeze_ones(m, n, is_gone);
        return true;
    }
    if (!infer_const_ints(m, n, 1, axes, MAX_RANK, &count)) return false;
    if (!infer_axes(m, n, axes, count, in.rank, is_gone)) return false;
    for (int i = 0; i < in.rank; i++) {
        bool is_known = k_is_int(in.dims[i], &dim);
        if (is_gone[i] && is_known && dim != 1) {
            diag_error(m->diag, n->loc, "axis %d of %s is not 1", i, shape_text(m->scratch, in));
            return false;
        }
        if (is_gone[i]) infer_rule(m, n, k_eq(m->k, in.dims[i], k_int(m->k, 1)));
    }
    return true;
}

/* The output where axes are read while running: the dims that are not listed, in order. */
static bool read_squeeze(Module *m, Node *n) {
    KCtx *k = m->k;
    Shape in = n->in[0]->shape, out = shape_make(m->arena, in.rank);
    const KExpr *is_gone[MAX_RANK];
    int count;
    if (!infer_axis_flags(m, n, 1, in.rank, is_gone, &count)) return false;
    out.rank = in.rank - count;
    for (int j = 0; j < out.rank; j++) {
        out.dims[j] = k_int(k, 1);
        for (int i = in.rank - 1; i >= j; i--) {
            const KExpr *here = k_eq(k, flags_position(k, is_gone, i), k_int(k, j));
            out.dims[j] =
                k_select(k, k_and(k, k_not(k, is_gone[i]), here), in.dims[i], out.dims[j]);
        }
    }
    for (int i = 0; i < in.rank; i++)
        infer_rule(m, n, k_or(k, k_not(k, is_gone[i]), k_eq(k, in.dims[i], k_int(k, 1))));
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

static bool reads_axes(Module *m, const Node *n) {
    int64_t axes[MAX_RANK];
    int count;
    return has_in(n, 1) && !value_ints(m, n->in[1], axes, MAX_RANK, &count);
}

bool squeeze_infer(Module *m, Node *n) {
    if (has_in(n, 1) && !infer_index_dtype(m, n, 1)) return false;
    if (reads_axes(m, n)) return infer_dtype(m, n, 0, CLASS_ANY) && read_squeeze(m, n);
    bool is_gone[MAX_RANK] = {false};
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !squeezed_axes(m, n, is_gone)) return false;
    Shape in = n->in[0]->shape, out = shape_make(m->arena, in.rank);
    out.rank = 0;
    for (int i = 0; i < in.rank; i++)
        if (!is_gone[i]) out.dims[out.rank++] = in.dims[i];
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_copy_content(m, n->in[0], n->out[0]);
    return true;
}

void squeeze_lower(Def *d, const Node *n) {
    bool is_gone[MAX_RANK] = {false};
    KTensor *x = def_in(d, 0);
    const KExpr *from[MAX_RANK];
    if (reads_axes(d->m, n)) {
        reshape_elements(d, x, def_out(d, 0));
        return;
    }
    BUG_IF(!squeezed_axes(d->m, n, is_gone), "axes changed since infer");
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    for (int i = 0, j = 0; i < x->rank; i++)
        from[i] = is_gone[i] ? k_int(d->k, 0) : def_axis(d, s, j++);
    s->movement = s->view = true;
    def_map(d, s, def_at(d, x, from, x->rank));
}

/* Marks the output axes that Unsqueeze inserts. */
static bool inserted_axes(Module *m, const Node *n, bool *is_new, int *rank) {
    int64_t axes[MAX_RANK];
    int count;
    if (!infer_const_ints(m, n, 1, axes, MAX_RANK, &count)) return false;
    *rank = n->in[0]->shape.rank + count;
    if (*rank > MAX_RANK) {
        diag_error(m->diag, n->loc, "rank %d; at most %d is supported", *rank, MAX_RANK);
        return false;
    }
    return infer_axes(m, n, axes, count, *rank, is_new);
}

static bool read_unsqueeze(Module *m, Node *n) {
    KCtx *k = m->k;
    int64_t length;
    const KExpr *is_new[MAX_RANK];
    int count;
    if (!infer_const_length(m, n, 1, &length)) return false;
    Shape in = n->in[0]->shape;
    if (length > MAX_RANK - in.rank) {
        diag_error(m->diag, n->loc, "a rank above %d", MAX_RANK);
        return false;
    }
    Shape out = shape_make(m->arena, in.rank + (int)length);
    if (!infer_axis_flags(m, n, 1, out.rank, is_new, &count)) return false;
    for (int j = 0; j < out.rank; j++) {
        out.dims[j] = k_int(k, 1);
        for (int i = 0; i < in.rank; i++) {
            const KExpr *here = k_eq(k, flags_position(k, is_new, j), k_int(k, i));
            out.dims[j] = k_select(k, k_and(k, k_not(k, is_new[j]), here), in.dims[i], out.dims[j]);
        }
    }
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

bool unsqueeze_infer(Module *m, Node *n) {
    if (has_in(n, 1) && !infer_index_dtype(m, n, 1)) return false;
    if (reads_axes(m, n)) return infer_dtype(m, n, 0, CLASS_ANY) && read_unsqueeze(m, n);
    bool is_new[MAX_RANK];
    int rank;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !inserted_axes(m, n, is_new, &rank)) return false;
    Shape out = shape_make(m->arena, rank);
    for (int i = 0, j = 0; i < rank; i++)
        out.dims[i] = is_new[i] ? k_int(m->k, 1) : n->in[0]->shape.dims[j++];
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_copy_content(m, n->in[0], n->out[0]);
    return true;
}

void unsqueeze_lower(Def *d, const Node *n) {
    bool is_new[MAX_RANK];
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *from[MAX_RANK];
    int rank;
    if (reads_axes(d->m, n)) {
        reshape_elements(d, x, out);
        return;
    }
    BUG_IF(!inserted_axes(d->m, n, is_new, &rank), "axes changed since infer");
    Stage *s = def_begin(d, FORM_MAP, out);
    for (int i = 0, j = 0; i < rank; i++)
        if (!is_new[i]) from[j++] = def_axis(d, s, i);
    s->movement = s->view = true;
    def_map(d, s, def_at(d, x, from, x->rank));
}
