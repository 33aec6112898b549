/* TopK: the k largest (or smallest) elements along an axis, best first, and where they were.
 *
 * A program: for each row a heap of the k best so far, worst at the root, lies in the row of the
 * indices' output itself; every further element that beats the root replaces it: O(n log k). Then
 * the heap is emptied from the end, which leaves it sorted (`sorted` = 0 allows any order, so this
 * one). Equal elements: the lower index first. NaN is worse than every number. */
#include "ir/ops/check.h"
#include "ir/ops/heap.h"

/* The dim that k elements make; k may be read while running. */
static bool count_dim(Module *m, Node *n, const KExpr *extent, const KExpr **dim) {
    const KExpr *count = value_read(m, n->in[1], 0);
    int64_t wanted, have;
    infer_rule(m, n, k_le(m->k, k_int(m->k, 0), count));
    infer_rule(m, n, k_le(m->k, count, extent));
    if (k_is_int(count, &wanted)) {
        if (wanted < 0) {
            diag_error(m->diag, n->loc, "k is %lld, must be at least 0", (long long)wanted);
            return false;
        }
        if (k_is_int(extent, &have) && wanted > have) {
            diag_error(m->diag, n->loc, "k is %lld, must be at most %lld, the size of the axis",
                       (long long)wanted, (long long)have);
            return false;
        }
    }
    *dim = k_is_int(count, &wanted) && k_is_int(extent, &have) ? count : k_min(m->k, count, extent);
    if ((*dim)->lo < 0) *dim = k_max(m->k, *dim, k_int(m->k, 0));
    return true;
}

bool top_k_infer(Module *m, Node *n) {
    int axis;
    int64_t length;
    if (!check_dtype(m, n, 0, DTM_FLOATS | DTM_INTS) || !check_dtype(m, n, 1, DTM(I64)) ||
        !infer_rank(m, n, 0, 1, MAX_RANK) ||
        !infer_axis(m, n, attr_int(n, "axis", -1), n->in[0]->shape.rank, &axis))
        return false;
    if (shape_count_int(n->in[1]->shape, &length) && length != 1) {
        diag_error(m->diag, n->loc, "input 1 (k) has %lld elements, must have 1",
                   (long long)length);
        return false;
    }
    Shape out = shape_copy(m->arena, n->in[0]->shape);
    return count_dim(m, n, n->in[0]->shape.dims[axis], &out.dims[axis]) &&
           infer_set(m, n, 0, n->in[0]->dtype, out) && infer_set(m, n, 1, DT_I64, out);
}

/* One row of x: the fixed part of the index, and the axis that runs. */
typedef struct Row {
    Def *d;
    KTensor *x;
    const KExpr *at[MAX_RANK];
    int axis;
} Row;

static const KExpr *row_key(void *user, const KExpr *item) {
    Row *r = user;
    r->at[r->axis] = item;
    return def_at(r->d, r->x, r->at, r->x->rank);
}

/* Opens the loop over rows; fills the row's index and where its output starts and steps. */
static void open_rows(Def *d, Row *r, KLoopMark mark, const KExpr *count, const KExpr **base,
                      const KExpr **step) {
    KCtx *k = d->k;
    const KExpr *dims[MAX_RANK], *at[MAX_RANK], *rows = k_int(k, 1);
    int rank = r->x->rank, others = 0;
    for (int i = 0; i < rank; i++) {
        if (i == r->axis) continue;
        rows = k_mul(k, rows, r->x->dims[i]);
        dims[others++] = r->x->dims[i];
    }
    const KExpr *row = kb_for(&d->b, mark, "row", rows);
    def_unflatten(k, row, dims, others, at);
    *base = k_int(k, 0);
    *step = k_int(k, 1);
    for (int i = 0, o = 0; i < rank; i++) {
        r->at[i] = i == r->axis ? k_int(k, 0) : kb_let(&d->b, "at", at[o++]);
        *base = k_add(k, k_mul(k, *base, i == r->axis ? count : r->x->dims[i]), r->at[i]);
        if (i > r->axis) *step = k_mul(k, *step, r->x->dims[i]);
    }
    *base = kb_let(&d->b, "base", *base);
}

static void select_row(const Heap *h, const KExpr *n_elems, const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", count);
    heap_set(h, i, i);
    kb_end(b);
    heap_build(h, count);
    const KExpr *item = k_add(k, kb_for(b, LOOP_SERIAL, "i", k_sub(k, n_elems, count)), count);
    item = kb_let(b, "next", item);
    const KExpr *root = kb_let(b, "root", heap_item(h, zero));
    const KExpr *root_key = kb_let(b, "root_key", h->key(h->user, root));
    const KExpr *key = kb_let(b, "next_key", h->key(h->user, item));
    kb_if(b, heap_before(k, h->largest, key, item, root_key, root));
    heap_sift(h, item, zero, count);
    kb_end(b);
    kb_end(b);
    const KExpr *last = k_sub(k, count, k_int(k, 1)); /* count is at least 1 here */
    const KExpr *end = k_sub(k, last, kb_for(b, LOOP_SERIAL, "i", last));
    end = kb_let(b, "end", end);
    item = kb_let(b, "moved", heap_item(h, end));
    heap_set(h, end, heap_item(h, zero));
    heap_sift(h, item, zero, end);
    kb_end(b);
}

void top_k_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0);
    Row r = {.d = d, .x = x, .axis = shape_axis(attr_int(n, "axis", -1), x->rank)};
    const Value *like = n->out[0] ? n->out[0] : n->out[1];
    const KExpr *count = like->shape.dims[r.axis], *n_elems = x->dims[r.axis];
    KTensor *values = n->out[0] ? def_out(d, 0) : NULL;
    KTensor *indices =
        has_out(n, 1) ? def_out(d, 1) : def_temp(d, "indices", DT_I64, x->rank, like->shape.dims);
    KTensor *outs[2] = {values ? values : indices, indices};
    Stage *s = def_program(d, outs, values ? 2 : 1);
    KBuild *b = &d->b;
    Heap h = {.b = b,
              .items = indices->buf,
              .key = row_key,
              .user = &r,
              .last_at_root = true,
              .largest = attr_int(n, "largest", 1) != 0};
    bool guarded = count->lo < 1; /* rows of no elements have no root */
    if (guarded) kb_if(b, k_lt(k, k_int(k, 0), count));
    open_rows(d, &r, guarded ? LOOP_SERIAL : LOOP_PARALLEL, count, &h.base, &h.step);
    select_row(&h, n_elems, count);
    if (values) {
        const KExpr *i = kb_for(b, LOOP_SERIAL, "i", count);
        const KExpr *item = kb_let(b, "item", heap_item(&h, i));
        kb_store(b, values->buf, k_add(k, h.base, k_mul(k, i, h.step)), row_key(&r, item));
        kb_end(b);
    }
    kb_end(b);
    if (guarded) kb_end(b);
    def_end_program(d, s);
}
