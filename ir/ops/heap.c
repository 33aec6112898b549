/* A binary heap in kernel IR: see heap.h. Sifting moves a hole down, one store for each level. */
#include "ir/ops/heap.h"

const KExpr *heap_before(KCtx *k, bool largest, const KExpr *a_key, const KExpr *a,
                         const KExpr *b_key, const KExpr *b) {
    const KExpr *less = largest ? k_lt(k, b_key, a_key) : k_lt(k, a_key, b_key);
    const KExpr *same = k_eq(k, a_key, b_key);
    if (dtype_is_float(a_key->dtype)) {
        const KExpr *a_nan = k_ne(k, a_key, a_key), *b_nan = k_ne(k, b_key, b_key);
        less = k_or(k, less, k_and(k, b_nan, k_not(k, a_nan)));
        same = k_or(k, same, k_and(k, a_nan, b_nan));
    }
    return k_or(k, less, k_and(k, same, k_lt(k, a, b)));
}

/* Belongs a above b? */
static const KExpr *is_above(const Heap *h, const KExpr *a_key, const KExpr *a, const KExpr *b_key,
                             const KExpr *b) {
    KCtx *k = h->b->k;
    return h->last_at_root ? heap_before(k, h->largest, b_key, b, a_key, a)
                           : heap_before(k, h->largest, a_key, a, b_key, b);
}

static const KExpr *place(const Heap *h, const KExpr *i) {
    KCtx *k = h->b->k;
    return k_add(k, h->base, k_mul(k, i, h->step));
}

const KExpr *heap_item(const Heap *h, const KExpr *i) {
    return k_load(h->b->k, h->items, place(h, i));
}

const KExpr *heap_key(const Heap *h, const KExpr *i) {
    return k_load(h->b->k, h->keys, place(h, i));
}

void heap_set(const Heap *h, const KExpr *i, const KExpr *item, const KExpr *key) {
    kb_store(h->b, h->items, place(h, i), item);
    kb_store(h->b, h->keys, place(h, i), key);
}

void heap_sift(const Heap *h, const KExpr *item, const KExpr *key, const KExpr *from,
               const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1);
    KBuf *at = kb_alloc(b, MEM_REG, DT_I64, "at", 1);
    item = kb_let(b, "item", item);
    key = kb_let(b, "key", key);
    const KExpr *hole = k_load(k, at, zero);
    kb_store(b, at, zero, from);
    kb_while(b, k_lt(k, k_add(k, k_mul(k, hole, k_int(k, 2)), one), count));
    const KExpr *p = kb_let(b, "p", hole);
    const KExpr *l = kb_let(b, "l", k_add(k, k_mul(k, p, k_int(k, 2)), one));
    const KExpr *r = kb_let(b, "r", k_min(k, k_add(k, l, one), k_sub(k, count, one)));
    const KExpr *l_item = kb_let(b, "l_item", heap_item(h, l));
    const KExpr *r_item = kb_let(b, "r_item", heap_item(h, r));
    const KExpr *l_key = kb_let(b, "l_key", heap_key(h, l));
    const KExpr *r_key = kb_let(b, "r_key", heap_key(h, r));
    const KExpr *right = kb_let(b, "right", is_above(h, r_key, r_item, l_key, l_item));
    const KExpr *c_item = kb_let(b, "c_item", k_select(k, right, r_item, l_item));
    const KExpr *c_key = kb_let(b, "c_key", k_select(k, right, r_key, l_key));
    kb_if(b, is_above(h, c_key, c_item, key, item));
    heap_set(h, p, c_item, c_key);
    kb_store(b, at, zero, k_select(k, right, r, l));
    kb_else(b);
    heap_set(h, p, item, key);
    kb_store(b, at, zero, count); /* ends the loop */
    kb_end(b);
    kb_end(b);
    kb_if(b, k_lt(k, hole, count)); /* the hole reached a leaf */
    heap_set(h, hole, item, key);
    kb_end(b);
}

void heap_build(const Heap *h, const KExpr *count) {
    KBuild *b = h->b;
    KCtx *k = b->k;
    const KExpr *half = kb_let(b, "half", k_fdiv(k, count, k_int(k, 2)));
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", half);
    const KExpr *i = kb_let(b, "i", k_sub(k, k_sub(k, half, k_int(k, 1)), t));
    heap_sift(h, heap_item(h, i), heap_key(h, i), i, count);
    kb_end(b);
}
