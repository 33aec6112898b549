/* Sorting by digits: see radix.h.
 *
 * A pass counts how often each digit occurs, adds up to where the items with that digit begin, and
 * moves the items there, from one half of `items` to the other. A digit that all keys share (the
 * upper ones of small integers) moves nothing. Selection counts the highest digits only: items of
 * the digits that hold the wanted smallest keys, a few more than these. */
#include "ir/ops/radix.h"

#include "ir/ops/common.h"

enum { LANES = 16 };

DType radix_dtype(DType t) {
    return dtype_bytes(t) <= 4 ? DT_U32 : DT_U64;
}

/* Bits of a float whose order as integers is that of the numbers. */
static const KExpr *float_key(KCtx *k, const KExpr *e) {
    bool wide = e->dtype == DT_F64;
    DType as = wide ? DT_I64 : DT_I32;
    const KExpr *zero = k_const(k, e->dtype, 0),
                *top = k_const_i(k, as, wide ? INT64_MIN : INT32_MIN);
    const KExpr *bits = k_bitcast(k, as, k_select(k, k_eq(k, e, zero), zero, e));
    const KExpr *sign = k_shr(k, bits, k_const_i(k, as, wide ? 63 : 31));
    return k_binary(k, KO_xor, bits, k_or(k, sign, top));
}

const KExpr *radix_key(KCtx *k, const KExpr *e, bool largest) {
    DType t = radix_dtype(e->dtype), as = t == DT_U64 ? DT_I64 : DT_I32;
    const KExpr *ones = k_const_i(k, as, -1), *key, *nan = NULL;
    if (dtype_is_float(e->dtype)) {
        e = k_cast(k, t == DT_U64 ? DT_F64 : DT_F32, e);
        nan = k_ne(k, e, e);
        key = float_key(k, e);
    } else if (e->dtype == t) {
        key = k_bitcast(k, as, e);
    } else {
        key = k_cast(k, as, e);
        key = k_binary(k, KO_xor, key, k_const_i(k, as, as == DT_I64 ? INT64_MIN : INT32_MIN));
    }
    if (largest) key = k_binary(k, KO_xor, key, ones);
    return k_bitcast(k, t, nan ? k_select(k, nan, ones, key) : key);
}

typedef struct {
    const Radix *r;
    RadixElement *element;
    void *user;
    bool largest;
} Fill;

static void store_key(void *user, const KExpr *i) {
    const Fill *f = user;
    const Radix *r = f->r;
    KCtx *k = r->b->k;
    kb_store(r->b, r->keys, k_add(k, r->keys_at, i),
             radix_key(k, f->element(f->user, i), f->largest));
}

void radix_fill(const Radix *r, RadixElement *element, void *user, bool largest) {
    lower_for_all(r->b, r->n, true, store_key, &(Fill){r, element, user, largest});
}

KBuf *radix_counts(KBuild *b) {
    return kb_alloc(b, MEM_STACK, DT_I32, "counts", 1 << RADIX_DIGIT_BITS);
}

static const KExpr *key_of(const Radix *r, const KExpr *item) {
    return k_load(r->b->k, r->keys, k_add(r->b->k, r->keys_at, item));
}

/* `bits` bits of a key from bit `shift` on, as an index. */
static const KExpr *digit(KCtx *k, const KExpr *key, const KExpr *shift, int bits) {
    const KExpr *mask = k_const_i(k, key->dtype, (1 << bits) - 1);
    return k_cast(k, DT_I64, k_and(k, k_shr(k, key, k_cast(k, key->dtype, shift)), mask));
}

static void clear_counts(const Radix *r, int bits) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_int(k, (1 << bits) / LANES));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, LANES));
    kb_store(b, r->counts, k_add(k, k_mul(k, c, k_int(k, LANES)), l), k_const_i(k, DT_I32, 0));
    kb_end(b);
    kb_end(b);
}

/* counts[d]++; gives what it was. */
static const KExpr *count_digit(const Radix *r, const KExpr *d) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *old = kb_let(b, "old", k_load(k, r->counts, d));
    kb_store(b, r->counts, d, k_add(k, old, k_const_i(k, DT_I32, 1)));
    return old;
}

static const KExpr *item_at(const Radix *r, const KExpr *at) {
    KCtx *k = r->b->k;
    return k_cast(k, DT_I64, k_load(k, r->items, k_add(k, r->items_at, at)));
}

static void put_item(const Radix *r, const KExpr *at, const KExpr *item) {
    KCtx *k = r->b->k;
    kb_store(r->b, r->items, k_add(k, r->items_at, at), k_cast(k, DT_I32, item));
}

/* Folds all keys with min or max, in lanes. */
static const KExpr *fold_keys(const Radix *r, KOp fold, const char *name) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *width = k_int(k, LANES);
    KBuf *acc = kb_alloc(b, MEM_REG, r->keys->dtype, name, LANES);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    kb_store(b, acc, l, key_of(r, zero));
    kb_end(b);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_fdiv(k, r->n, width));
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *key = key_of(r, k_add(k, k_mul(k, c, width), l));
    kb_store(b, acc, l, k_binary(k, fold, k_load(k, acc, l), key));
    kb_end(b);
    kb_end(b);
    const KExpr *done = k_mul(k, k_fdiv(k, r->n, width), width);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_fmod(k, r->n, width));
    kb_store(b, acc, zero, k_binary(k, fold, k_load(k, acc, zero), key_of(r, k_add(k, done, i))));
    kb_end(b);
    return kb_let(b, name, lower_fold_lanes(b, acc, LANES, fold));
}

/* The least shift that leaves no more of `range` than a digit. */
static const KExpr *range_shift(const Radix *r, const KExpr *range) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    DType t = range->dtype;
    KBuf *shift = kb_variable(b, "shift", k_int(k, 0));
    const KExpr *limit = k_const_i(k, t, (1 << RADIX_DIGIT_BITS) - 1);
    kb_while(b, k_lt(k, limit, k_shr(k, range, k_cast(k, t, kb_get(b, shift)))));
    kb_set(b, shift, k_add(k, kb_get(b, shift), k_int(k, 1)));
    kb_end(b);
    return kb_let(b, "shift", kb_get(b, shift));
}

const KExpr *radix_select(const Radix *r, const KExpr *wanted) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    int bits = RADIX_DIGIT_BITS;
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1);
    const KExpr *least = fold_keys(r, KO_min, "least"), *most = fold_keys(r, KO_max, "most");
    const KExpr *shift = range_shift(r, k_sub(k, most, least));
    clear_counts(r, bits);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", r->n);
    count_digit(r, kb_let(b, "digit", digit(k, k_sub(k, key_of(r, i), least), shift, bits)));
    kb_end(b);
    KBuf *end = kb_variable(b, "end", zero), *sum = kb_variable(b, "sum", zero);
    kb_while(b, k_lt(k, kb_get(b, sum), wanted));
    const KExpr *d = kb_let(b, "d", kb_get(b, end));
    kb_set(b, sum, k_add(k, kb_get(b, sum), k_cast(k, DT_I64, k_load(k, r->counts, d))));
    kb_set(b, end, k_add(k, d, one));
    kb_end(b);
    const KExpr *limit = kb_let(b, "limit", kb_get(b, end));
    KBuf *count = kb_variable(b, "count", zero);
    i = kb_for(b, LOOP_SERIAL, "i", r->n);
    d = digit(k, k_sub(k, key_of(r, i), least), shift, bits);
    const KExpr *at = kb_let(b, "at", kb_get(b, count));
    put_item(r, at, i);
    kb_set(b, count, k_add(k, at, k_cast(k, DT_I64, k_lt(k, d, limit))));
    kb_end(b);
    return kb_let(b, "count", kb_get(b, count));
}

/* counts[d] := how many items have digits below d */
static void add_up_counts(const Radix *r) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    KBuf *sum = kb_alloc(b, MEM_REG, DT_I32, "sum", 1);
    kb_store(b, sum, zero, k_const_i(k, DT_I32, 0));
    const KExpr *d = kb_for(b, LOOP_SERIAL, "d", k_int(k, 1 << r->digit_bits));
    const KExpr *here = kb_let(b, "here", k_load(k, r->counts, d));
    const KExpr *below = kb_let(b, "below", k_load(k, sum, zero));
    kb_store(b, r->counts, d, below);
    kb_store(b, sum, zero, k_add(k, below, here));
    kb_end(b);
}

const KExpr *radix_sort(const Radix *r, const KExpr *count) {
    KBuild *b = r->b;
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0);
    int bits = 8 * dtype_bytes(r->keys->dtype),
        n_passes = (bits + r->digit_bits - 1) / r->digit_bits;
    KBuf *from = kb_variable(b, "from", zero);
    kb_if(b, k_lt(k, zero, count));
    const KExpr *pass = kb_for(b, LOOP_SERIAL, "pass", k_int(k, n_passes));
    const KExpr *shift = kb_let(b, "shift", k_mul(k, pass, k_int(k, r->digit_bits)));
    const KExpr *here = kb_let(b, "here", kb_get(b, from)), *there = k_sub(k, r->n, here);
    clear_counts(r, r->digit_bits);
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", count);
    const KExpr *item = kb_let(b, "item", item_at(r, k_add(k, here, i)));
    count_digit(r, kb_let(b, "digit", digit(k, key_of(r, item), shift, r->digit_bits)));
    kb_end(b);
    const KExpr *first = digit(k, key_of(r, item_at(r, here)), shift, r->digit_bits);
    kb_if(b, k_lt(k, k_cast(k, DT_I64, k_load(k, r->counts, first)), count));
    add_up_counts(r);
    i = kb_for(b, LOOP_SERIAL, "i", count);
    item = kb_let(b, "item", item_at(r, k_add(k, here, i)));
    const KExpr *to = kb_let(b, "digit", digit(k, key_of(r, item), shift, r->digit_bits));
    put_item(r, k_add(k, there, k_cast(k, DT_I64, count_digit(r, to))), item);
    kb_end(b);
    kb_set(b, from, there);
    kb_end(b);
    kb_end(b);
    kb_end(b);
    return kb_let(b, "from", kb_get(b, from));
}
