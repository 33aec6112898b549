/* TopK of rows along an axis, one by one: a program.
 *
 * In general: for each row a heap of the k best so far, worst at the root, lies in the rows of the
 * outputs themselves; every further element that beats the root replaces it: O(n log k). Elements
 * are compared with the root in lanes, and only a chunk that has a better one is looked at. Then
 * the heap is emptied from the end, which leaves it sorted (`sorted` = 0 allows any order, so this
 * one).
 *
 * The best one is found in one pass in lanes. A few of not so many are found one after the other,
 * each the next behind the last: a pass over all keys in lanes, without any branch. Short rows are
 * ordered by how many elements come before each.
 *
 * Many of many (also of rows of free, bounded length) are sorted by digits instead: those whose
 * highest digit may be among the k best, or all where that is half of them; O(n), in scratch memory
 * of the slots that share the rows. */
#include "ir/ops/top_k_rows.h"

#include "ir/ops/heap.h"
#include "ir/ops/radix.h"
#include "ir/scratch.h"

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

/* The stage of all rows, dealt out to slots. */
static void sort_rows(Def *d, Row *row, Heap *out, KTensor *const *outs) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    const KExpr *slot, *item, *n = row->x->dims[row->axis], *wanted = outs[0]->dims[row->axis];
    int64_t n_rows = MOST_SLOTS, n_slots, few = 2 * wanted->hi;
    bool are_few = few < n->hi, guarded = wanted->lo < 1;
    k_is_int(row_count(k, row), &n_rows);
    n_slots = slots_for(n_rows);
    const KExpr *dims[] = {k_int(k, n_slots), n, k_int(k, 2)};
    KTensor *keys = def_temp(d, "keys", radix_dtype(row->x->dtype), 2, dims);
    KTensor *items = def_temp(d, "items", DT_I32, 3, dims);
    Stage *s = def_program(d, (KTensor *[]){outs[0], outs[1], keys, items}, 4);
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
    def_end_program(d, s);
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

/* ---- which way ------------------------------------------------------------------------------- */

typedef enum Way { BY_HEAP, BY_DIGITS, BY_RANKS, ONE_BY_ONE, BEST_ONLY } Way;

/* n: elements of a row, or at most that many; of them `wanted` ones */
typedef struct Choice {
    Way way;
    int64_t n, wanted;
} Choice;

static Choice choose_way(DType t, const KExpr *n_elems, const KExpr *count) {
    Choice c = {.way = BY_HEAP};
    if (finds_each(t, n_elems, count, &c.n, &c.wanted))
        c.way = c.wanted == 1 ? BEST_ONLY : ONE_BY_ONE;
    else if (counts_ranks(n_elems, count, &c.n))
        c.way = BY_RANKS;
    else if (sorts_digits(n_elems, count, &c.n, &c.wanted))
        c.way = BY_DIGITS;
    return c;
}

double top_k_row_cost(DType t, const KExpr *n_elems, const KExpr *count, int64_t n) {
    Choice c = choose_way(t, n_elems, count);
    k_is_int(count, &c.wanted);
    switch (c.way) {
    case BEST_ONLY: return 15 + 0.07 * (double)n;
    case ONE_BY_ONE: return (double)c.wanted * (17 + 0.28 * (double)n);
    case BY_RANKS: return 0.1 * (double)(n * n);
    case BY_DIGITS: return 2000 + 1.1 * (double)n + 10 * (double)c.wanted;
    case BY_HEAP: break;
    }
    return heap_cost(n, c.wanted);
}

/* The stage of rows that heaps or ranks select from, or passes over them. */
static void select_rows(Def *d, Row *r, Heap *out, Choice c, KTensor *const *outs) {
    const KExpr *n_elems = r->x->dims[r->axis], *count = outs[0]->dims[r->axis];
    Stage *s = def_program(d, outs, 2);
    KBuild *b = out->b;
    const KExpr *row = kb_for(b, LOOP_PARALLEL, "row", row_count(d->k, r));
    bool guarded = count->lo < 1; /* rows of no elements have no root */
    place_row(d, r, row, count, &out->base, &out->step);
    if (guarded) kb_if(b, k_lt(d->k, k_int(d->k, 0), count));
    if (c.way == BEST_ONLY)
        best_of_row(d, r, out, c.n);
    else if (c.way == ONE_BY_ONE)
        find_row(d, r, out, c.n, c.wanted);
    else if (c.way == BY_RANKS)
        rank_row(d, r, out, c.n, count);
    else
        select_row(out, r, n_elems, count);
    kb_end(b);
    if (guarded) kb_end(b);
    def_end_program(d, s);
}

void top_k_in_rows(Def *d, KTensor *x, int axis, bool largest, KTensor *values, KTensor *indices) {
    Row r = {.d = d, .x = x, .axis = axis};
    Heap out = {.b = &d->b,
                .items = indices->buf,
                .keys = values->buf,
                .last_at_root = true,
                .largest = largest};
    Choice c = choose_way(x->dtype, x->dims[axis], values->dims[axis]);
    KTensor *outs[] = {values, indices};
    if (c.way == BY_DIGITS)
        sort_rows(d, &r, &out, outs);
    else
        select_rows(d, &r, &out, c, outs);
}
