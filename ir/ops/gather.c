/* Reading at computed positions: Gather, GatherElements, GatherND.
 *
 * Each output element is one input element whose indices partly come from an index tensor; negative
 * indices count from the end. Indices known while compiling are checked there. Others are data: the
 * read is predicated, so an index outside gives 0 and never touches memory outside. */
#include "ir/ops/common.h"

/* Position along dim of an index element, and'ing to *inside what has to be tested while running.
 */
static const KExpr *gather_position(Def *d, const KExpr *element, const KExpr *dim,
                                    const KExpr **inside) {
    int64_t extent;
    const KExpr *at = lower_index(d, element, dim);
    bool is_checked = value_is_const(d->node->in[1]) && k_is_int(dim, &extent);
    if (!is_checked) *inside = k_and(d->k, *inside, lower_inside(d, at, dim));
    return at;
}

static void gather_map(Def *d, Stage *s, KTensor *x, const KExpr *const *from,
                       const KExpr *inside) {
    s->movement = true;
    def_map(d, s, def_at_if(d, x, from, x->rank, inside));
}

/* ---- Gather ---------------------------------------------------------------------------------- */

static void gather_content(Module *m, const Node *n, Value *out) {
    int64_t n_data, n_index, at;
    out->content = NULL;
    if (n->in[0]->shape.rank != 1) return;
    const KExpr **data = infer_content(m, n->in[0], &n_data),
                **index = infer_content(m, n->in[1], &n_index);
    if (!data || !index) return;
    for (int64_t i = 0; i < n_index; i++) {
        if (!k_is_int(index[i], &at) || at < -n_data || at >= n_data) return;
        index[i] = data[at < 0 ? at + n_data : at];
    }
    infer_set_content(out, index);
}

bool gather_infer(Module *m, Node *n) {
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_index_dtype(m, n, 1) ||
        !infer_rank(m, n, 0, 1, -1))
        return false;
    Shape x = n->in[0]->shape, index = n->in[1]->shape;
    if (!infer_axis(m, n, attr_int(n, "axis", 0), x.rank, &axis)) return false;
    if (!infer_indices_fit(m, n, x.dims[axis], 0, 1)) return false;
    if (x.rank - 1 + index.rank > MAX_RANK) {
        diag_error(m->diag, n->loc, "rank %d; at most %d is supported", x.rank - 1 + index.rank,
                   MAX_RANK);
        return false;
    }
    Shape out = shape_make(m->arena, x.rank - 1 + index.rank);
    for (int i = 0; i < axis; i++) out.dims[i] = x.dims[i];
    for (int i = 0; i < index.rank; i++) out.dims[axis + i] = index.dims[i];
    for (int i = axis + 1; i < x.rank; i++) out.dims[index.rank + i - 1] = x.dims[i];
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    gather_content(m, n, n->out[0]);
    return true;
}

void gather_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *index = def_in(d, 1);
    const KExpr *own[MAX_RANK], *from[MAX_RANK], *inside = k_bool(d->k, true);
    int axis = shape_axis(attr_int(n, "axis", 0), x->rank);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    lower_axes(d, s, own);
    for (int i = 0; i < axis; i++) from[i] = own[i];
    const KExpr *element = def_at(d, index, own + axis, index->rank);
    from[axis] = gather_position(d, element, x->dims[axis], &inside);
    for (int i = axis + 1; i < x->rank; i++) from[i] = own[index->rank + i - 1];
    gather_map(d, s, x, from, inside);
}

/* ---- GatherElements -------------------------------------------------------------------------- */

bool gather_elements_infer(Module *m, Node *n) {
    int axis;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_index_dtype(m, n, 1) ||
        !infer_rank(m, n, 0, 1, -1))
        return false;
    Shape x = n->in[0]->shape, index = n->in[1]->shape;
    if (!infer_rank(m, n, 1, x.rank, x.rank) ||
        !infer_axis(m, n, attr_int(n, "axis", 0), x.rank, &axis))
        return false;
    for (int i = 0; i < x.rank; i++) {
        int64_t had, wanted;
        if (i == axis || !k_is_int(x.dims[i], &had) || !k_is_int(index.dims[i], &wanted) ||
            wanted <= had)
            continue;
        diag_error(m->diag, n->loc, "indices of shape %s reach outside of %s on axis %d",
                   shape_text(m->scratch, index), shape_text(m->scratch, x), i);
        return false;
    }
    return infer_indices_fit(m, n, x.dims[axis], 0, 1) &&
           infer_set(m, n, 0, n->in[0]->dtype, shape_copy(m->arena, index));
}

void gather_elements_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *index = def_in(d, 1);
    const KExpr *from[MAX_RANK], *inside = k_bool(d->k, true);
    int axis = shape_axis(attr_int(n, "axis", 0), x->rank);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    lower_axes(d, s, from);
    const KExpr *element = k_at(d->k, index, from, index->rank);
    for (int i = 0; i < x->rank; i++)
        if (i != axis && x->dims[i] != index->dims[i])
            inside = k_and(d->k, inside, k_lt(d->k, from[i], x->dims[i]));
    from[axis] = gather_position(d, element, x->dims[axis], &inside);
    gather_map(d, s, x, from, inside);
}

/* ---- GatherND -------------------------------------------------------------------------------- */

/* Index tuples have `depth` entries and start after batch_dims shared leading axes. */
static bool gather_nd_depth(Module *m, const Node *n, int *batch, int *depth) {
    Shape x = n->in[0]->shape, index = n->in[1]->shape;
    int64_t batch_dims = attr_int(n, "batch_dims", 0), last;
    if (!k_is_int(index.dims[index.rank - 1], &last)) {
        diag_unsupported(m->diag, n->loc, "the last dim of indices is symbolic; fix it with --dim");
        return false;
    }
    if (batch_dims < 0 || batch_dims >= index.rank || batch_dims >= x.rank || last < 1 ||
        last > x.rank - batch_dims) {
        diag_error(m->diag, n->loc,
                   "index tuples of %lld after %lld batch dims do not fit indices %s and data %s",
                   (long long)last, (long long)batch_dims, shape_text(m->scratch, index),
                   shape_text(m->scratch, x));
        return false;
    }
    *batch = (int)batch_dims;
    *depth = (int)last;
    return true;
}

bool gather_nd_infer(Module *m, Node *n) {
    int batch, depth;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_index_dtype(m, n, 1)) return false;
    if (!infer_rank(m, n, 0, 1, -1) || !infer_rank(m, n, 1, 1, -1) ||
        !gather_nd_depth(m, n, &batch, &depth))
        return false;
    Shape x = n->in[0]->shape, index = n->in[1]->shape;
    int rank = index.rank - 1 + x.rank - batch - depth;
    if (rank > MAX_RANK) {
        diag_error(m->diag, n->loc, "rank %d; at most %d is supported", rank, MAX_RANK);
        return false;
    }
    Shape out = shape_make(m->arena, rank);
    for (int i = 0; i < batch; i++)
        if (!infer_same_dim(m, n, x.dims[i], index.dims[i])) {
            diag_error(m->diag, n->loc, "batch dim %d differs between data and indices", i);
            return false;
        }
    for (int i = 0; i < index.rank - 1; i++) out.dims[i] = index.dims[i];
    for (int i = batch + depth; i < x.rank; i++)
        out.dims[index.rank - 1 + i - batch - depth] = x.dims[i];
    for (int i = 0; i < depth; i++)
        if (!infer_indices_fit(m, n, x.dims[batch + i], i, depth)) return false;
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void gather_nd_lower(Def *d, const Node *n) {
    int batch, depth;
    KTensor *x = def_in(d, 0), *index = def_in(d, 1);
    const KExpr *own[MAX_RANK], *at[MAX_RANK], *from[MAX_RANK], *inside = k_bool(d->k, true);
    BUG_IF(!gather_nd_depth(d->m, n, &batch, &depth), "indices changed since infer");
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    lower_axes(d, s, own);
    for (int i = 0; i < index->rank - 1; i++) at[i] = own[i];
    for (int i = 0; i < batch; i++) from[i] = own[i];
    for (int i = 0; i < depth; i++) {
        at[index->rank - 1] = k_int(d->k, i);
        const KExpr *element = def_at(d, index, at, index->rank);
        from[batch + i] = gather_position(d, element, x->dims[batch + i], &inside);
    }
    for (int i = batch + depth; i < x->rank; i++)
        from[i] = own[index->rank - 1 + i - batch - depth];
    gather_map(d, s, x, from, inside);
}

/* ---- ArrayFeatureExtractor ------------------------------------------------------------------- */

/* Rank 1 gives one row of features. */
bool array_feature_extractor_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_index_dtype(m, n, 1) ||
        !infer_rank(m, n, 0, 1, -1))
        return false;
    Shape x = n->in[0]->shape, out = shape_make(m->arena, x.rank > 1 ? x.rank : 2);
    for (int i = 0; i < x.rank - 1; i++) out.dims[i] = x.dims[i];
    if (x.rank == 1) out.dims[0] = k_int(m->k, 1);
    out.dims[out.rank - 1] = shape_count(m->k, n->in[1]->shape);
    return infer_indices_fit(m, n, x.dims[x.rank - 1], 0, 1) &&
           infer_set(m, n, 0, n->in[0]->dtype, out);
}

void array_feature_extractor_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *at[MAX_RANK];
    Stage *s = def_begin(d, FORM_MAP, out);
    lower_axes(d, s, at);
    const KExpr *i = k_cast(k, DT_I64, lower_at_flat(d, def_in(d, 1), at[out->rank - 1]));
    int last = x->rank - 1;
    at[last] = i;
    s->movement = true;
    def_map(d, s, def_at_if(d, x, at, x->rank, lower_inside(d, i, x->dims[last])));
}
