/* Operators that copy elements to other places by fixed index arithmetic: Transpose, Expand, Tile,
 * DepthToSpace, SpaceToDepth, ReverseSequence, Trilu. Each is one map whose body is one at() with
 * rewritten indices.
 */
#include "ir/ops/check.h"

#include <string.h>

static void movement_map(Def *d, Stage *s, const KExpr *body) {
    s->movement = true;
    def_map(d, s, body);
}

/* ---- Transpose ------------------------------------------------------------------------------- */

/* perm[i] is the input axis that becomes output axis i. */
static bool transpose_perm(Module *m, const Node *n, int *perm) {
    const int64_t *axes;
    int rank = n->in[0]->shape.rank, count = attr_ints(n, "perm", &axes);
    bool is_used[MAX_RANK] = {false};
    for (int i = 0; i < rank; i++) perm[i] = rank - 1 - i;
    if (!node_attr(n, "perm")) return true;
    if (count != rank) {
        diag_error(m->diag, n->loc, "perm has %d entries for rank %d", count, rank);
        return false;
    }
    for (int i = 0; i < rank; i++) {
        if (axes[i] < 0 || axes[i] >= rank || is_used[axes[i]]) {
            diag_error(m->diag, n->loc,
                       "perm[%d] is %lld; perm must list each axis of rank %d once", i,
                       (long long)axes[i], rank);
            return false;
        }
        perm[i] = (int)axes[i];
        is_used[perm[i]] = true;
    }
    return true;
}

typedef struct Permutation {
    int rank;
    const int *perm;
} Permutation;

static void transposed_from(const int64_t *to, int64_t *from, void *user) {
    const Permutation *p = user;
    for (int i = 0; i < p->rank; i++) from[p->perm[i]] = to[i];
}

bool transpose_infer(Module *m, Node *n) {
    int perm[MAX_RANK];
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !transpose_perm(m, n, perm)) return false;
    Shape in = n->in[0]->shape, out = shape_make(m->arena, in.rank);
    for (int i = 0; i < in.rank; i++) out.dims[i] = in.dims[perm[i]];
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_moved_content(m, n->in[0], n->out[0], transposed_from, &(Permutation){in.rank, perm});
    return true;
}

void transpose_lower(Def *d, const Node *n) {
    int perm[MAX_RANK];
    KTensor *x = def_in(d, 0);
    const KExpr *from[MAX_RANK];
    BUG_IF(!transpose_perm(d->m, n, perm), "perm changed since infer");
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    for (int i = 0; i < x->rank; i++) from[perm[i]] = def_axis(d, s, i);
    movement_map(d, s, def_at(d, x, from, x->rank));
}

/* ---- Expand ---------------------------------------------------------------------------------- */

typedef struct Expansion {
    Shape in;
    int out_rank;
} Expansion;

static void expanded_from(const int64_t *to, int64_t *from, void *user) {
    const Expansion *e = user;
    for (int i = 0; i < e->in.rank; i++)
        from[i] = k_is_value(e->in.dims[i], 1) ? 0 : to[e->out_rank - e->in.rank + i];
}

bool expand_infer(Module *m, Node *n) {
    const KExpr **e;
    int rank;
    int64_t dim;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_exprs(m, n, 1, MAX_RANK, &e, &rank))
        return false;
    for (int i = 0; i < rank; i++) {
        if (!k_is_int(e[i], &dim) || dim >= 0) continue;
        diag_error(m->diag, n->loc, "shape[%d] is %lld", i, (long long)dim);
        return false;
    }
    Shape in = n->in[0]->shape, wanted = {rank, e}, out;
    for (int i = 0; i < rank; i++) infer_rule(m, n, k_le(m->k, k_int(m->k, 0), e[i]));
    if (!infer_broadcast_two(m, n, in, wanted, &out)) {
        diag_error(m->diag, n->loc, "shape %s does not expand to %s", shape_text(m->scratch, in),
                   shape_text(m->scratch, wanted));
        return false;
    }
    if (!infer_set(m, n, 0, n->in[0]->dtype, out)) return false;
    infer_moved_content(m, n->in[0], n->out[0], expanded_from, &(Expansion){in, out.rank});
    return true;
}

void expand_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    movement_map(d, s, lower_elem(d, s, def_in(d, 0), out->dtype));
}

/* ---- Tile ------------------------------------------------------------------------------------ */

bool tile_infer(Module *m, Node *n) {
    const KExpr **repeats;
    int count;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_exprs(m, n, 1, MAX_RANK, &repeats, &count))
        return false;
    Shape in = n->in[0]->shape, out = shape_make(m->arena, in.rank);
    if (count != in.rank) {
        diag_error(m->diag, n->loc, "%d repeats for rank %d", count, in.rank);
        return false;
    }
    for (int i = 0; i < in.rank; i++) {
        int64_t times, dim, product;
        bool is_known = k_is_int(repeats[i], &times);
        if (is_known && (times < 0 || (k_is_int(in.dims[i], &dim) &&
                                       __builtin_mul_overflow(times, dim, &product)))) {
            diag_error(m->diag, n->loc, "repeats[%d] is %lld", i, (long long)times);
            return false;
        }
        infer_rule(m, n, k_le(m->k, k_int(m->k, 0), repeats[i]));
        out.dims[i] = k_mul(m->k, in.dims[i], repeats[i]);
    }
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void tile_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *x = def_in(d, 0);
    const KExpr *from[MAX_RANK];
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    for (int i = 0; i < x->rank; i++) from[i] = k_fmod(d->k, def_axis(d, s, i), x->dims[i]);
    movement_map(d, s, def_at(d, x, from, x->rank));
}

/* ---- DepthToSpace and SpaceToDepth ----------------------------------------------------------- */

static bool block_size(Module *m, const Node *n, int64_t *block) {
    *block = attr_int(n, "blocksize", 0);
    if (*block >= 1 && *block <= 1 << 20) return true;
    diag_error(m->diag, n->loc, "blocksize is %lld, must be at least 1", (long long)*block);
    return false;
}

/* dim / by, which must leave nothing over. */
static bool divide_dim(Module *m, const Node *n, const KExpr *dim, int64_t by, const KExpr **out) {
    int64_t value;
    *out = k_fdiv(m->k, dim, k_int(m->k, by));
    if (!k_is_int(dim, &value) || value % by == 0) return true;
    diag_error(m->diag, n->loc, "dim %lld is not a multiple of %lld", (long long)value,
               (long long)by);
    return false;
}

/* Are the channels the slow part (DCR), or the place in the block (CRD)? */
static bool is_crd(const Node *n) {
    return !strcmp(attr_string(n, "mode", "DCR"), "CRD");
}

static bool check_block_mode(Module *m, const Node *n) {
    if (is_crd(n) || !strcmp(attr_string(n, "mode", "DCR"), "DCR")) return true;
    diag_error(m->diag, n->loc, "attribute mode must be 'DCR' or 'CRD'");
    return false;
}

bool depth_to_space_infer(Module *m, Node *n) {
    int64_t block;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_rank(m, n, 0, 4, 4) ||
        !block_size(m, n, &block) || !check_block_mode(m, n))
        return false;
    const KExpr *const *in = (const KExpr *const *)n->in[0]->shape.dims, *b = k_int(m->k, block);
    Shape out = shape_make(m->arena, 4);
    out.dims[0] = in[0];
    if (!divide_dim(m, n, in[1], block * block, &out.dims[1])) return false;
    out.dims[2] = k_mul(m->k, in[2], b);
    out.dims[3] = k_mul(m->k, in[3], b);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* out[n, c, y, x] = in[n, channel(c, y % b, x % b), y / b, x / b] */
void depth_to_space_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *b = k_int(k, attr_int(n, "blocksize", 0)), *c = def_axis(d, s, 1);
    const KExpr *y = def_axis(d, s, 2), *x = def_axis(d, s, 3);
    const KExpr *dy = k_fmod(k, y, b), *dx = k_fmod(k, x, b), *channel;
    if (!is_crd(n))
        channel = k_add(k, k_mul(k, k_add(k, k_mul(k, dy, b), dx), out->dims[1]), c);
    else
        channel = k_add(k, k_mul(k, k_add(k, k_mul(k, c, b), dy), b), dx);
    const KExpr *from[4] = {def_axis(d, s, 0), channel, k_fdiv(k, y, b), k_fdiv(k, x, b)};
    movement_map(d, s, def_at(d, def_in(d, 0), from, 4));
}

bool space_to_depth_infer(Module *m, Node *n) {
    int64_t block;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_rank(m, n, 0, 4, 4) ||
        !block_size(m, n, &block) || !check_block_mode(m, n))
        return false;
    const KExpr *const *in = (const KExpr *const *)n->in[0]->shape.dims;
    Shape out = shape_make(m->arena, 4);
    out.dims[0] = in[0];
    out.dims[1] = k_mul(m->k, in[1], k_int(m->k, block * block));
    return divide_dim(m, n, in[2], block, &out.dims[2]) &&
           divide_dim(m, n, in[3], block, &out.dims[3]) && infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* out[n, channel, y, x] = in[n, c, y * b + dy, x * b + dx] with channel (dy * b + dx) * C + c, or
 * c * b * b + dy * b + dx for CRD */
void space_to_depth_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *in = def_in(d, 0);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *b = k_int(k, attr_int(n, "blocksize", 0)), *channel = def_axis(d, s, 1);
    const KExpr *area = k_mul(k, b, b), *offset = k_fdiv(k, channel, in->dims[1]),
                *c = k_fmod(k, channel, in->dims[1]);
    if (is_crd(n)) {
        offset = k_fmod(k, channel, area);
        c = k_fdiv(k, channel, area);
    }
    const KExpr *y = k_add(k, k_mul(k, def_axis(d, s, 2), b), k_fdiv(k, offset, b));
    const KExpr *x = k_add(k, k_mul(k, def_axis(d, s, 3), b), k_fmod(k, offset, b));
    const KExpr *from[4] = {def_axis(d, s, 0), c, y, x};
    movement_map(d, s, def_at(d, in, from, 4));
}

/* ---- ReverseSequence ------------------------------------------------------------------------- */

static void sequence_axes(const Node *n, int64_t *batch, int64_t *time) {
    *batch = attr_int(n, "batch_axis", 1);
    *time = attr_int(n, "time_axis", 0);
}

bool reverse_sequence_infer(Module *m, Node *n) {
    int64_t batch, time;
    sequence_axes(n, &batch, &time);
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_rank(m, n, 0, 2, MAX_RANK) ||
        !check_dtype(m, n, 1, DTM(I64)) || !infer_rank(m, n, 1, 1, 1) ||
        !check_attr_int(m, n, "batch_axis", batch, 0, 1) ||
        !check_attr_int(m, n, "time_axis", time, 0, 1))
        return false;
    if (batch == time) {
        diag_error(m->diag, n->loc, "batch_axis and time_axis are both %lld", (long long)time);
        return false;
    }
    return check_dim(m, n, 1, 0, n->in[0]->shape.dims[batch], "length of the batch axis") &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* out[.., t, ..] = x[.., t < length ? length - 1 - t : t, ..], the length that of the batch's
 * index; lengths beyond the axis count as the axis. */
void reverse_sequence_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    int64_t batch, time;
    sequence_axes(n, &batch, &time);
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    const KExpr *from[MAX_RANK];
    lower_axes(d, s, from);
    const KExpr *length = def_at(d, def_in(d, 1), &from[batch], 1), *t = from[time];
    length = k_max(k, k_min(k, length, x->dims[time]), k_int(k, 0));
    const KExpr *mirrored = k_sub(k, k_sub(k, length, k_int(k, 1)), t);
    from[time] = k_select(k, k_lt(k, t, length), mirrored, t);
    movement_map(d, s, def_at(d, x, from, x->rank));
}

/* ---- Trilu ----------------------------------------------------------------------------------- */

bool trilu_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !infer_rank(m, n, 0, 2, -1)) return false;
    int64_t count;
    if (has_in(n, 1)) {
        if (!infer_index_dtype(m, n, 1)) return false;
        if (!shape_count_int(n->in[1]->shape, &count) || count != 1) {
            diag_error(m->diag, n->loc, "input 1 (k) must be a scalar");
            return false;
        }
    }
    return infer_same_as(m, n, 0, n->in[0]);
}

/* upper: kept where column >= row + k; lower: where column <= row + k */
void trilu_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    const KExpr *index[MAX_RANK], *shift = k_int(k, 0), *far = k_int(k, INT64_C(1) << 40);
    if (has_in(n, 1)) shift = k_cast(k, DT_I64, lower_scalar(d, def_in(d, 1)));
    shift = k_max(k, k_min(k, shift, far),
                  k_neg(k, far)); /* beyond that nothing changes, and sums are safe */
    Stage *s = def_begin(d, FORM_MAP, def_out(d, 0));
    lower_axes(d, s, index);
    const KExpr *diagonal = k_add(k, index[x->rank - 2], shift), *column = index[x->rank - 1];
    const KExpr *is_kept =
        attr_int(n, "upper", 1) ? k_ge(k, column, diagonal) : k_le(k, column, diagonal);
    movement_map(d, s, def_at_if(d, x, index, x->rank, is_kept));
}
