/* TopK of rows that lie across memory: a row in each lane, so that nothing is turned around.
 *
 * Registers hold the best k so far of each row, best first. A further element x moves those behind
 * its place on by one, all at once and without a branch:
 *
 *     item[s] := x < key[s - 1] ? item[s - 1] : x < key[s] ? i : item[s]
 *     key[s]  := min(key[s], max(key[s - 1], x))
 *
 * Keys are those of radix.h: smaller ones are better. Of equal ones the first stays ahead. The
 * places are empty at first, with a key that no element has. */
#include "ir/ops/top_k_lanes.h"

#include <math.h>

#include "ir/ops/radix.h"

enum { LANES = 16, MOST_WANTED = 16, MOST_VECTORS = 4 };

/* Keys of all types but integers of 32 and 64 bits leave the largest number free. */
static bool has_free_key(DType t) {
    return dtype_is_float(t) || dtype_bytes(t) <= 2;
}

double top_k_lanes_cost(DType t, int64_t groups, int64_t rows, int64_t n, int64_t wanted) {
    enum { LEAST_ROWS = 6 }; /* fewer leave too many lanes without one */
    if (wanted < 1 || wanted > MOST_WANTED || !has_free_key(t) || rows < LEAST_ROWS)
        return INFINITY;
    double tiles = (double)groups * (double)((rows + LANES - 1) / LANES);
    double vectors = dtype_bytes(radix_dtype(t)) > 4 ? 1.5 : 1;
    return tiles * (double)n * vectors * (0.5 + 0.65 * (double)wanted);
}

typedef struct Lanes {
    Def *d;
    KTensor *x, *values, *indices;
    int axis;
    int64_t wanted, rows; /* rows beside each other */
    bool largest;
    /* of a tile: */
    int64_t vectors, lanes;
    const KExpr *outer, *first; /* which rows */
    KBuf *keys, *items, *next;
} Lanes;

/* Place s of lane l of vector v; all known once loops are unrolled. */
static const KExpr *place(const Lanes *t, int64_t s, const KExpr *v, const KExpr *l) {
    KCtx *k = t->d->k;
    const KExpr *in = k_add(k, k_mul(k, v, k_int(k, t->lanes)), l);
    return k_add(k, k_int(k, s * t->vectors * t->lanes), in);
}

/* Element `item` of the row in lane l of vector v: of x, or (is_out) of a result. */
static const KExpr *flat_at(const Lanes *t, bool is_out, const KExpr *item, const KExpr *v,
                            const KExpr *l) {
    KCtx *k = t->d->k;
    const KExpr *n = is_out ? k_int(k, t->wanted) : t->x->dims[t->axis];
    const KExpr *row = k_add(k, t->first, k_add(k, k_mul(k, v, k_int(k, t->lanes)), l));
    const KExpr *at = k_add(k, k_mul(k, t->outer, n), item);
    return k_add(k, k_mul(k, at, k_int(k, t->rows)), row);
}

static const KExpr *element(const Lanes *t, const KExpr *item, const KExpr *v, const KExpr *l) {
    Def *d = t->d;
    const KExpr *at[MAX_RANK];
    def_unflatten(d->k, flat_at(t, false, item, v, l), t->x->dims, t->x->rank, at);
    return def_at(d, t->x, at, t->x->rank);
}

typedef void Body(const Lanes *t, const KExpr *v, const KExpr *l, void *user);

static void for_lanes(const Lanes *t, Body *body, void *user) {
    KBuild *b = &t->d->b;
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(b->k, t->vectors));
    body(t, v, kb_for(b, LOOP_VECTOR, "l", k_int(b->k, t->lanes)), user);
    kb_end(b);
    kb_end(b);
}

static void clear(const Lanes *t, const KExpr *v, const KExpr *l, void *user) {
    (void)user;
    KBuild *b = &t->d->b;
    for (int64_t s = 0; s < t->wanted; s++) {
        kb_store(b, t->keys, place(t, s, v, l), k_const_i(b->k, t->keys->dtype, -1));
        kb_store(b, t->items, place(t, s, v, l), k_const_i(b->k, DT_I32, 0));
    }
}

/* user: the number of the element that is offered. Places change from the last to the first, so
 * that each still sees what the one before it held. */
static void offer(const Lanes *t, const KExpr *v, const KExpr *l, void *user) {
    KBuild *b = &t->d->b;
    KCtx *k = b->k;
    const KExpr *item = k_cast(k, DT_I32, user), *at = place(t, 0, v, l);
    const KExpr *key = radix_key(k, element(t, user, v, l), t->largest);
    if (dtype_is_float(t->x->dtype)) key = k_min(k, key, k_const_i(k, key->dtype, -2)); /* NaN */
    kb_store(b, t->next, at, key);
    key = k_load(k, t->next, at);
    for (int64_t s = t->wanted - 1; s >= 0; s--) {
        const KExpr *here = place(t, s, v, l);
        const KExpr *own_key = k_load(k, t->keys, here), *own = k_load(k, t->items, here);
        const KExpr *new_key = key, *new = k_select(k, k_lt(k, key, own_key), item, own);
        if (s > 0) {
            const KExpr *before = place(t, s - 1, v, l), *key_before = k_load(k, t->keys, before);
            new = k_select(k, k_lt(k, key, key_before), k_load(k, t->items, before), new);
            new_key = k_max(k, key_before, key);
        }
        kb_store(b, t->items, here, new);
        kb_store(b, t->keys, here, k_min(k, own_key, new_key));
    }
}

static void give(const Lanes *t, const KExpr *v, const KExpr *l, void *user) {
    (void)user;
    KBuild *b = &t->d->b;
    KCtx *k = b->k;
    const KExpr *last = k_sub(k, t->x->dims[t->axis], k_int(k, 1));
    for (int64_t s = 0; s < t->wanted; s++) {
        const KExpr *item = k_cast(k, DT_I64, k_load(k, t->items, place(t, s, v, l)));
        const KExpr *to = flat_at(t, true, k_int(k, s), v, l);
        item = k_min(k, k_max(k, item, k_int(k, 0)), last);
        kb_store(b, t->indices->buf, to, item);
        kb_store(b, t->values->buf, to, element(t, item, v, l));
    }
}

/* The rows of a tile, which begin at t->first. */
static void open_tile(Lanes *t) {
    KBuild *b = &t->d->b;
    int64_t all = t->vectors * t->lanes;
    DType key = radix_dtype(t->x->dtype);
    t->keys = kb_alloc(b, MEM_REG, key, "keys", t->wanted * all);
    t->items = kb_alloc(b, MEM_REG, DT_I32, "items", t->wanted * all);
    t->next = kb_alloc(b, MEM_REG, key, "next", all);
    for_lanes(t, clear, NULL);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", t->x->dims[t->axis]);
    for_lanes(t, offer, (void *)i);
    kb_end(b);
    for_lanes(t, give, NULL);
}

/* `tiles` tiles of each group of rows beside each other, from row `from` on. */
static void open_tiles(Lanes *t, int64_t from, int64_t tiles) {
    KBuild *b = &t->d->b;
    KCtx *k = b->k;
    const KExpr *groups = k_int(k, 1);
    for (int i = 0; i < t->axis; i++) groups = k_mul(k, groups, t->x->dims[i]);
    const KExpr *n = k_int(k, tiles);
    const KExpr *tile = kb_for(b, LOOP_PARALLEL, "tile", k_mul(k, groups, n));
    const KExpr *first = k_mul(k, k_fmod(k, tile, n), k_int(k, t->vectors * t->lanes));
    t->outer = kb_let(b, "group", k_fdiv(k, tile, n));
    t->first = kb_let(b, "first", k_add(k, k_int(k, from), first));
    open_tile(t);
    kb_end(b);
}

void top_k_in_lanes(Def *d, KTensor *x, int axis, bool largest, KTensor *values, KTensor *indices) {
    Lanes t = {.d = d, .x = x, .values = values, .indices = indices, .axis = axis};
    t.largest = largest;
    t.rows = 1;
    for (int64_t i = axis + 1, dim = 1; i < x->rank; i++, t.rows *= dim)
        k_is_int(x->dims[i], &dim);
    k_is_int(values->dims[axis], &t.wanted);
    Stage *s = def_program(d, (KTensor *[]){values, indices}, 2);
    int64_t from = 0;
    /* vectors of 16 words while their best fit some 16 registers, single ones, what is left */
    t.vectors = t.wanted >= 8 ? 1 : t.wanted >= 3 ? 2 : MOST_VECTORS;
    for (t.lanes = LANES; t.vectors > 0; t.vectors /= 2) {
        int64_t tile = t.vectors * t.lanes, tiles = (t.rows - from) / tile;
        if (tiles) open_tiles(&t, from, tiles);
        from += tiles * tile;
    }
    t.vectors = 1;
    t.lanes = t.rows - from;
    if (t.lanes) open_tiles(&t, from, 1);
    def_end_program(d, s);
}
