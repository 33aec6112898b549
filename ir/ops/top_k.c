/* TopK: the k largest (or smallest) elements along an axis, best first, and where they were.
 *
 * A program: for each row a heap of the k best so far, worst at the root, lies in the rows of the
 * outputs themselves; every further element that beats the root replaces it: O(n log k). Elements
 * are compared with the root in lanes, and only a chunk that has a better one is looked at. Then
 * the heap is emptied from the end, which leaves it sorted (`sorted` = 0 allows any order, so this
 * one). Equal elements: the lower index first. NaN is worse than every number.
 *
 * The best one is found in one pass in lanes. A few of not so many are found one after the other,
 * each the next behind the last: a pass over all keys in lanes, without any branch. Rows that do
 * not lie along memory are turned around first, and the results back, unless a few are wanted of
 * many rows (top_k_lanes.c).
 *
 * Many of many (also of rows of free, bounded length) are sorted by digits instead: those whose
 * highest digit may be among the k best, or all where that is half of them; O(n), in scratch memory
 * of the slots that share the rows. */
#include "ir/ops/check.h"
#include "ir/ops/heap.h"
#include "ir/ops/radix.h"
#include "ir/ops/top_k_lanes.h"
#include "ir/scratch.h"

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

enum { LANES = 16, CHUNK = 2 * LANES };

static const KExpr *row_key(Row *r, const KExpr *item) {
    r->at[r->axis] = item;
    return def_at(r->d, r->x, r->at, r->x->rank);
}

static const KExpr *row_count(KCtx *k, const Row *r) {
    const KExpr *rows = k_int(k, 1);
    for (int i = 0; i < r->x->rank; i++)
        if (i != r->axis) rows = k_mul(k, rows, r->x->dims[i]);
    return rows;
}

/* Fills the row's index and where its output starts and steps. */
static void place_row(Def *d, Row *r, const KExpr *row, const KExpr *count, const KExpr **base,
                      const KExpr **step) {
    KCtx *k = d->k;
    const KExpr *dims[MAX_RANK] = {NULL}, *at[MAX_RANK];
    int rank = r->x->rank, others = 0;
    for (int i = 0; i < rank; i++)
        if (i != r->axis) dims[others++] = r->x->dims[i];
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

/* Does this key, of an element behind all of the heap, beat the root's? A tie does not. */
static const KExpr *beats(const Heap *h, const KExpr *key, const KExpr *root_key) {
    KCtx *k = h->b->k;
    return heap_before(k, h->largest, key, k_int(k, 1), root_key, k_int(k, 0));
}

/* Puts the element into the heap if it beats the root. */
static void offer(const Heap *h, Row *r, const KExpr *item, const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    const KExpr *root_key = kb_let(b, "root_key", heap_key(h, zero));
    const KExpr *key = kb_let(b, "next_key", row_key(r, item));
    kb_if(b, beats(h, key, root_key));
    heap_sift(h, item, key, zero, count);
    kb_end(b);
}

/* Sets any[0] to whether one of the chunk of elements from `from` on beats the root. */
static void compare_chunk(const Heap *h, Row *r, const KExpr *from, KBuf *any) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *none = k_const_i(k, DT_I32, 0),
                *one = k_const_i(k, DT_I32, 1);
    const KExpr *root_key = kb_let(b, "root_key", heap_key(h, zero));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    kb_store(b, any, l, none);
    kb_end(b);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, CHUNK / LANES));
    l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    const KExpr *item = k_add(k, from, k_add(k, k_mul(k, v, k_int(k, LANES)), l));
    const KExpr *better = beats(h, row_key(r, item), root_key);
    kb_store(b, any, l, k_select(k, better, one, k_load(k, any, l)));
    kb_end(b);
    kb_end(b);
    for (int width = LANES / 2; width >= 1; width /= 2) {
        l = kb_for(b, LOOP_VECTOR, "l", k_int(k, width));
        const KExpr *other = k_load(k, any, k_add(k, l, k_int(k, width)));
        kb_store(b, any, l, k_or(k, k_load(k, any, l), other));
        kb_end(b);
    }
}

/* Offers elements count .. n_elems-1: whole chunks first, then single ones. */
static void offer_rest(const Heap *h, Row *r, const KExpr *n_elems, const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *chunk = k_int(k, CHUNK), *left = k_sub(k, n_elems, count);
    KBuf *any = kb_alloc(b, MEM_REG, DT_I32, "any", LANES);
    const KExpr *n_chunks = k_max(k, k_fdiv(k, left, chunk), k_int(k, 0));
    const KExpr *c = kb_for(b, LOOP_SERIAL, "chunk", n_chunks);
    const KExpr *from = kb_let(b, "from", k_add(k, count, k_mul(k, c, chunk)));
    compare_chunk(h, r, from, any);
    kb_if(b, k_ne(k, k_load(k, any, k_int(k, 0)), k_const_i(k, DT_I32, 0)));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", chunk);
    offer(h, r, kb_let(b, "next", k_add(k, from, i)), count);
    kb_end(b);
    kb_end(b);
    kb_end(b);
    const KExpr *done = k_add(k, count, k_mul(k, n_chunks, chunk));
    i = kb_for(b, LOOP_SERIAL, "i", k_sub(k, n_elems, done));
    offer(h, r, kb_let(b, "next", k_add(k, done, i)), count);
    kb_end(b);
}

static void select_row(const Heap *h, Row *r, const KExpr *n_elems, const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", count);
    heap_set(h, i, i, row_key(r, i));
    kb_end(b);
    heap_build(h, count);
    offer_rest(h, r, n_elems, count);
    const KExpr *last = k_sub(k, count, k_int(k, 1)); /* count is at least 1 here */
    const KExpr *end = k_sub(k, last, kb_for(b, LOOP_SERIAL, "i", last));
    end = kb_let(b, "end", end);
    const KExpr *item = kb_let(b, "moved", heap_item(h, end));
    const KExpr *key = kb_let(b, "moved_key", heap_key(h, end));
    heap_set(h, end, heap_item(h, zero), heap_key(h, zero));
    heap_sift(h, item, key, zero, end);
    kb_end(b);
}

/* ---- by digits ------------------------------------------------------------------------------- */

enum { LONG_SORT = 2048 };

/* Nanoseconds of a processor of 2023 for sifting each element that gets into the heap. */
static double heap_cost(int64_t n, int64_t wanted) {
    double doublings = 0;
    for (int64_t i = wanted; i < n; i *= 2) doublings++;
    return 0.15 * (double)n + 45 * (double)wanted * (1 + 0.69 * doublings);
}

/* Are two passes over all keys less than that? Sizes that are free are taken for their bounds:
 * fewer elements take less time either way. */
static bool sorts_digits(const KExpr *n_elems, const KExpr *count, int64_t *n, int64_t *wanted) {
    enum { MOST_FREE = 1 << 20 }; /* scratch memory is for the bound */
    int64_t known;
    *n = n_elems->hi;
    *wanted = count->hi;
    if (*n >= (k_is_int(n_elems, &known) ? INT32_MAX / 2 : MOST_FREE) || *wanted < 1) return false;
    bool is_any = *wanted >= *n && count != n_elems && !k_is_int(count, &known);
    if (is_any) return false;
    return 2000 + 1.1 * (double)*n + 10 * (double)*wanted < heap_cost(*n, *wanted);
}

static const KExpr *element_of(void *user, const KExpr *i) {
    return row_key(user, i);
}

/* are_few: the wanted ones are less than half of all, at most. */
static void sort_row(const Radix *r, Row *row, const Heap *out, const KExpr *wanted, bool are_few) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *some = r->n, *i;
    radix_fill(r, element_of, row, out->largest);
    if (are_few) {
        some = radix_select(r, wanted);
    } else {
        i = kb_for(b, LOOP_SERIAL, "i", some);
        kb_store(b, r->items, k_add(k, r->items_at, i), k_cast(k, DT_I32, i));
        kb_end(b);
    }
    const KExpr *from = k_add(k, r->items_at, radix_sort(r, some));
    i = kb_for(b, LOOP_SERIAL, "i", wanted);
    const KExpr *item = k_cast(k, DT_I64, k_load(k, r->items, k_add(k, from, i)));
    item = kb_let(b, "item", item);
    heap_set(out, i, item, row_key(row, item));
    kb_end(b);
}

/* All rows, dealt out to slots. */
static void sort_rows(Def *d, Row *row, Heap *out, KTensor *keys, KTensor *items,
                      const KExpr *wanted) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    const KExpr *slot, *item, *n = row->x->dims[row->axis];
    int64_t n_slots = 1, few = 2 * wanted->hi;
    bool are_few = few < n->hi, guarded = wanted->lo < 1;
    k_is_int(keys->dims[0], &n_slots);
    kb_slots(b, n_slots, row_count(k, row), &slot, &item);
    place_row(d, row, kb_let(b, "row", item), wanted, &out->base, &out->step);
    Radix r = {.b = b, .keys = keys->buf, .items = items->buf, .n = n};
    r.keys_at = k_mul(k, slot, r.n);
    r.items_at = k_mul(k, r.keys_at, k_int(k, 2));
    r.digit_bits = (are_few ? few : n->hi) < LONG_SORT ? 8 : RADIX_DIGIT_BITS;
    r.counts = radix_counts(b);
    if (guarded) kb_if(b, k_lt(k, k_int(k, 0), wanted));
    sort_row(&r, row, out, wanted, are_few);
    if (guarded) kb_end(b);
    kb_end(b);
    kb_end(b);
}

/* ---- by ranks -------------------------------------------------------------------------------- */

enum { SHORT_ROW = 64 };

static bool counts_ranks(const KExpr *n_elems, const KExpr *count, int64_t *n) {
    return k_is_int(n_elems, n) && *n >= 2 && *n <= SHORT_ROW && count->lo >= 1;
}

/* rank[i] := how many elements come before element i, for n_lanes of them from `from` on */
static void count_ahead(KBuild *b, KBuf *keys, KBuf *rank, int64_t n, int64_t from,
                        int64_t n_lanes) {
    KCtx *k = b->k;
    const KExpr *width = k_int(k, n_lanes);
    KBuf *ahead = kb_alloc(b, MEM_REG, DT_I32, "ahead", n_lanes);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    kb_store(b, ahead, l, k_const_i(k, DT_I32, 0));
    kb_end(b);
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", k_int(k, n));
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *i = k_add(k, k_int(k, from), l), *here = k_load(k, keys, i),
                *other = k_load(k, keys, j);
    const KExpr *before = k_lt(k, k_cast(k, DT_I32, j), k_cast(k, DT_I32, i));
    const KExpr *is_ahead = k_or(k, k_lt(k, other, here), k_and(k, k_eq(k, other, here), before));
    kb_store(b, ahead, l, k_add(k, k_load(k, ahead, l), k_cast(k, DT_I32, is_ahead)));
    kb_end(b);
    kb_end(b);
    l = kb_for(b, LOOP_VECTOR, "l", width);
    kb_store(b, rank, k_add(k, k_int(k, from), l), k_load(k, ahead, l));
    kb_end(b);
}

static void rank_row(Def *d, Row *row, const Heap *out, int64_t n, const KExpr *count) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    KBuf *keys = kb_alloc(b, MEM_STACK, radix_dtype(row->x->dtype), "keys", n);
    KBuf *rank = kb_alloc(b, MEM_STACK, DT_I32, "rank", n);
    for (int64_t from = 0; from < n; from += LANES) {
        int64_t lanes = n - from < LANES ? n - from : LANES;
        const KExpr *i = k_add(k, k_int(k, from), kb_for(b, LOOP_VECTOR, "l", k_int(k, lanes)));
        kb_store(b, keys, i, radix_key(k, row_key(row, i), out->largest));
        kb_end(b);
    }
    for (int64_t from = 0; from < n; from += LANES)
        count_ahead(b, keys, rank, n, from, n - from < LANES ? n - from : LANES);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_int(k, n));
    const KExpr *at = kb_let(b, "rank", k_cast(k, DT_I64, k_load(k, rank, i)));
    kb_if(b, k_lt(k, at, count));
    heap_set(out, at, i, row_key(row, i));
    kb_end(b);
    kb_end(b);
}

/* ---- one after the other --------------------------------------------------------------------- */

/* Is a pass over the keys for each of the wanted ones less than the heap, or than ranks? */
static bool finds_each(DType t, const KExpr *n_elems, const KExpr *count, int64_t *n,
                       int64_t *wanted) {
    enum { MOST_ELEMS = 4096 };
    if (!k_is_int(n_elems, n) || !k_is_int(count, wanted) || *wanted < 1 || *n < LANES)
        return false;
    if (*wanted == 1) return *n < INT32_MAX;
    if (*n > MOST_ELEMS) return false;
    double vectors = dtype_bytes(radix_dtype(t)) > 4 ? 1.5 : 1;
    double passes = (double)*wanted * (17 + 0.28 * vectors * (double)*n);
    double ranks = 0.1 * vectors * (double)(*n * *n);
    return passes < (*n <= SHORT_ROW ? ranks : 0.6 * heap_cost(*n, *wanted));
}

/* The best so far in each lane, and the one that was found last. */
typedef struct Finder {
    KBuild *b;
    KBuf *keys, *key, *item, *last_key, *last_item;
    DType t;
} Finder;

/* Does (key, item) come before the other? */
static const KExpr *comes_before(KCtx *k, const KExpr *key, const KExpr *item,
                                 const KExpr *other_key, const KExpr *other) {
    return k_or(k, k_lt(k, key, other_key),
                k_and(k, k_eq(k, key, other_key), k_lt(k, item, other)));
}

/* Lane l takes (key, item) where it is wanted and better. The key is stored last: the new item
 * changes the condition for equal keys only. */
static void take_better(const Finder *f, const KExpr *l, const KExpr *wanted, const KExpr *key,
                        const KExpr *item) {
    KCtx *k = f->b->k;
    const KExpr *old_key = k_load(k, f->key, l), *old = k_load(k, f->item, l);
    const KExpr *is_better = k_and(k, wanted, comes_before(k, key, item, old_key, old));
    item = k_select(k, is_better, item, old);
    key = k_select(k, is_better, key, old_key);
    kb_store(f->b, f->item, l, item);
    kb_store(f->b, f->key, l, key);
}

/* key[0], item[0] := the best of lanes 0 .. lanes - 1, a power of two */
static void fold_lanes(const Finder *f, int64_t lanes) {
    KBuild *b = f->b;
    KCtx *k = b->k;
    for (int64_t half = lanes / 2; half >= 1; half /= 2) {
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, half));
        const KExpr *other = k_add(k, l, k_int(k, half));
        take_better(f, l, k_bool(k, true), k_load(k, f->key, other), k_load(k, f->item, other));
        kb_end(b);
    }
}

/* key[0], item[0] := the first one behind the last */
static void find_next(const Finder *f, int64_t n) {
    KBuild *b = f->b;
    KCtx *k = b->k;
    const KExpr *width = k_int(k, LANES), *zero = k_int(k, 0);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    kb_store(b, f->key, l, k_const_i(k, f->t, -1));
    kb_store(b, f->item, l, k_const_i(k, DT_I32, INT32_MAX));
    kb_end(b);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, (n + LANES - 1) / LANES));
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *i = k_add(k, k_mul(k, c, width), l), *key = k_load(k, f->keys, i);
    const KExpr *item = k_cast(k, DT_I32, i);
    const KExpr *is_next = comes_before(k, k_load(k, f->last_key, zero),
                                        k_load(k, f->last_item, zero), key, item);
    take_better(f, l, is_next, key, item);
    kb_end(b);
    kb_end(b);
    fold_lanes(f, LANES);
}

/* Lane l keeps the best of elements l, l + lanes, ... of those before n; of equal keys,
 * the first. */
static void find_best(const Finder *f, Row *row, int64_t n, int64_t lanes, bool largest) {
    KBuild *b = f->b;
    KCtx *k = b->k;
    for (int64_t from = 0, used, chunks; from < n; from += used * chunks) {
        int64_t left = n - from;
        used = left < lanes ? left : lanes;
        chunks = from ? left / used : 1;
        const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, chunks));
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, used));
        const KExpr *i = k_add(k, k_add(k, k_int(k, from), k_mul(k, c, k_int(k, used))), l);
        const KExpr *key = radix_key(k, row_key(row, i), largest), *item = k_cast(k, DT_I32, i);
        if (from) {
            const KExpr *old = k_load(k, f->key, l), *is_better = k_lt(k, key, old);
            item = k_select(k, is_better, item, k_load(k, f->item, l));
            key = k_select(k, is_better, key, old);
        }
        kb_store(b, f->item, l, item);
        kb_store(b, f->key, l, key);
        kb_end(b);
        kb_end(b);
    }
    fold_lanes(f, lanes);
}

static void best_of_row(Def *d, Row *row, const Heap *out, int64_t n) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    const KExpr *zero = k_int(k, 0);
    int64_t lanes = n < 8 * LANES ? LANES : 2 * LANES; /* so that no comparison waits for another */
    Finder f = {.b = b, .t = radix_dtype(row->x->dtype)};
    f.key = kb_alloc(b, MEM_REG, f.t, "key", lanes);
    f.item = kb_alloc(b, MEM_REG, DT_I32, "item", lanes);
    find_best(&f, row, n, lanes, out->largest);
    const KExpr *item =
        kb_let_within(b, "found", k_cast(k, DT_I64, k_load(k, f.item, zero)), n - 1);
    heap_set(out, zero, item, row_key(row, item));
}

static void find_row(Def *d, Row *row, const Heap *out, int64_t n, int64_t wanted) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    const KExpr *zero = k_int(k, 0);
    int64_t end = (n + LANES - 1) / LANES * LANES;
    Finder f = {.b = b, .t = radix_dtype(row->x->dtype)};
    f.keys = kb_alloc(b, MEM_STACK, f.t, "keys", end);
    f.key = kb_alloc(b, MEM_REG, f.t, "key", LANES);
    f.item = kb_alloc(b, MEM_REG, DT_I32, "item", LANES);
    f.last_key = kb_alloc(b, MEM_REG, f.t, "last_key", 1);
    f.last_item = kb_alloc(b, MEM_REG, DT_I32, "last_item", 1);
    Radix keys = {.b = b, .keys = f.keys, .keys_at = zero, .n = k_int(k, n)};
    radix_fill(&keys, element_of, row, out->largest);
    if (end > n) { /* behind all */
        const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, end - n));
        kb_store(b, f.keys, k_add(k, k_int(k, n), l), k_const_i(k, f.t, -1));
        kb_end(b);
    }
    kb_store(b, f.last_key, zero, k_const_i(k, f.t, 0));
    kb_store(b, f.last_item, zero, k_const_i(k, DT_I32, -1));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_int(k, wanted));
    find_next(&f, n);
    kb_store(b, f.last_key, zero, k_load(k, f.key, zero));
    kb_store(b, f.last_item, zero, k_load(k, f.item, zero));
    const KExpr *item =
        kb_let_within(b, "found", k_cast(k, DT_I64, k_load(k, f.item, zero)), n - 1);
    heap_set(out, i, item, row_key(row, item));
    kb_end(b);
}

/* ---- rows across memory ---------------------------------------------------------------------- */

/* Do the elements of a row lie apart? */
static bool lies_across(const KTensor *x, int axis) {
    for (int i = axis + 1; i < x->rank; i++)
        if (!k_is_value(x->dims[i], 1)) return true;
    return false;
}

/* dims with the axis moved from place `from` to place `to` */
static void move_axis(const KExpr *const *dims, int rank, int from, int to, const KExpr **moved) {
    for (int i = 0; i < rank; i++) {
        int rest = i < to ? i : i - 1; /* its number among the others */
        moved[i] = i == to ? dims[from] : dims[rest < from ? rest : rest + 1];
    }
}

static KTensor *moved_temp(Def *d, const char *name, DType t, const KTensor *like, int axis,
                           int to) {
    const KExpr *dims[MAX_RANK];
    move_axis(like->dims, like->rank, axis, to, dims);
    return def_temp(d, name, t, like->rank, dims);
}

/* to := from, of which the axis lies in another place */
static void copy_moved(Def *d, KTensor *to, KTensor *from, int to_axis, int from_axis) {
    Stage *s = def_begin(d, FORM_MAP, to);
    const KExpr *axis[MAX_RANK], *at[MAX_RANK];
    for (int i = 0; i < to->rank; i++) axis[i] = def_axis(d, s, i);
    move_axis(axis, to->rank, to_axis, from_axis, at);
    s->movement = true;
    def_map(d, s, def_at(d, from, at, from->rank));
}

/* The program over rows of x along its axis. */
static void select_rows(Def *d, const Node *n, KTensor *x, int axis, KTensor *values,
                        KTensor *indices) {
    KCtx *k = d->k;
    Row r = {.d = d, .x = x, .axis = axis};
    const KExpr *count = values->dims[axis], *n_elems = x->dims[axis];
    KTensor *outs[4] = {values, indices};
    int64_t n_known, wanted, n_rows = MOST_SLOTS;
    bool one_by_one = finds_each(x->dtype, n_elems, count, &n_known, &wanted);
    bool by_ranks = !one_by_one && counts_ranks(n_elems, count, &n_known);
    bool by_digits = !one_by_one && !by_ranks && sorts_digits(n_elems, count, &n_known, &wanted);
    if (by_digits) {
        k_is_int(row_count(k, &r), &n_rows);
        const KExpr *dims[] = {k_int(k, slots_for(n_rows)), n_elems, k_int(k, 2)};
        outs[2] = def_temp(d, "keys", radix_dtype(x->dtype), 2, dims);
        outs[3] = def_temp(d, "items", DT_I32, 3, dims);
    }
    Stage *s = def_program(d, outs, by_digits ? 4 : 2);
    KBuild *b = &d->b;
    Heap h = {.b = b,
              .items = indices->buf,
              .keys = values->buf,
              .last_at_root = true,
              .largest = attr_int(n, "largest", 1) != 0};
    if (by_digits) {
        sort_rows(d, &r, &h, outs[2], outs[3], count);
        def_end_program(d, s);
        return;
    }
    bool guarded = count->lo < 1; /* rows of no elements have no root */
    const KExpr *row = kb_for(b, LOOP_PARALLEL, "row", row_count(k, &r));
    place_row(d, &r, row, count, &h.base, &h.step);
    if (guarded) kb_if(b, k_lt(k, k_int(k, 0), count));
    if (one_by_one && wanted == 1)
        best_of_row(d, &r, &h, n_known);
    else if (one_by_one)
        find_row(d, &r, &h, n_known, wanted);
    else if (by_ranks)
        rank_row(d, &r, &h, n_known, count);
    else
        select_row(&h, &r, n_elems, count);
    kb_end(b);
    if (guarded) kb_end(b);
    def_end_program(d, s);
}

/* ---- which way ------------------------------------------------------------------------------- */

/* Nanoseconds for a row along memory, by the way that select_rows() takes. */
static double row_cost(DType t, const KExpr *n_elems, const KExpr *count, int64_t n) {
    int64_t known, wanted, bound;
    k_is_int(count, &wanted);
    if (finds_each(t, n_elems, count, &known, &wanted))
        return wanted == 1 ? 15 + 0.07 * (double)n : (double)wanted * (17 + 0.28 * (double)n);
    if (counts_ranks(n_elems, count, &known)) return 0.1 * (double)(n * n);
    if (sorts_digits(n_elems, count, &bound, &wanted))
        return 2000 + 1.1 * (double)n + 10 * (double)wanted;
    return heap_cost(n, wanted);
}

/* Elements along these axes together; 0: any number. */
static int64_t rows_in(const KTensor *x, int from, int to) {
    int64_t rows = 1, dim;
    for (int i = from; i < to; i++) {
        if (!k_is_int(x->dims[i], &dim)) return 0;
        rows *= dim;
    }
    return rows;
}

/* Where the axis of x should be for the rows to be selected from: where it is, for a row in each
 * lane, at the front for that, or at the end. */
static int place_for_selection(const KTensor *x, int axis, const KExpr *count) {
    enum { USUAL = 1024 }; /* of a free number */
    const double turn = 0.4, sure = 0.6; /* what an element costs; for estimates of such loops */
    int64_t wanted, n, groups = rows_in(x, 0, axis), rows = rows_in(x, axis + 1, x->rank);
    if (!k_is_int(count, &wanted) || wanted < 1 || x->dims[axis]->hi >= INT32_MAX || !rows)
        return x->rank - 1;
    if (!k_is_int(x->dims[axis], &n)) n = USUAL;
    bool across = lies_across(x, axis);
    double all = (double)(groups ? groups : 1) * (double)rows;
    double along = sure * all * row_cost(x->dtype, x->dims[axis], count, n);
    double turned = turn * (double)n * all;
    if (across)
        return top_k_lanes_cost(x->dtype, groups ? groups : 1, rows, n, wanted) < along + turned
                   ? axis
                   : x->rank - 1;
    if (!groups) return x->rank - 1;
    return turned + top_k_lanes_cost(x->dtype, 1, (int64_t)all, n, wanted) < along ? 0 : x->rank - 1;
}

static void select_from(Def *d, const Node *n, KTensor *x, int axis, KTensor *values,
                        KTensor *indices) {
    bool largest = attr_int(n, "largest", 1) != 0;
    if (lies_across(x, axis))
        top_k_in_lanes(d, x, axis, largest, values, indices);
    else
        select_rows(d, n, x, axis, values, indices);
}

void top_k_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0);
    int axis = shape_axis(attr_int(n, "axis", -1), x->rank), last = x->rank - 1;
    const Value *like = n->out[0] ? n->out[0] : n->out[1];
    KTensor *values =
        n->out[0] ? def_out(d, 0) : def_temp(d, "values", x->dtype, x->rank, like->shape.dims);
    KTensor *indices =
        has_out(n, 1) ? def_out(d, 1) : def_temp(d, "indices", DT_I64, x->rank, like->shape.dims);
    int place = place_for_selection(x, axis, like->shape.dims[axis]);
    if (place == axis || (place == last && !lies_across(x, axis))) {
        select_from(d, n, x, axis, values, indices);
        return;
    }
    KTensor *rows = moved_temp(d, "rows", x->dtype, x, axis, place);
    copy_moved(d, rows, x, place, axis);
    KTensor *v = moved_temp(d, "row_values", x->dtype, values, axis, place);
    KTensor *i = moved_temp(d, "row_indices", DT_I64, values, axis, place);
    select_from(d, n, rows, place, v, i);
    if (n->out[0]) copy_moved(d, values, v, axis, place);
    if (has_out(n, 1)) copy_moved(d, indices, i, axis, place);
}
