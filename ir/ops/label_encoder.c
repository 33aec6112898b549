/* LabelEncoder: each element is looked up among constant keys and replaced by the value beside it.
 *
 *   x numeric   num[i] = the key's position by binary search, written out: a map; of whole numbers
 *               near each other it stands in a table, of many others in one of two places of a
 *               table that their bits tell (cuckoo hashing, made while compiling)
 *   x strings   num[i] by hash, see text.h: a program
 *   out[i] = values[num[i]], the default value standing behind the last one
 *
 * The first of equal keys counts; a NaN finds a NaN key. Attributes are those of version 4. */

#include "ir/ops/check.h"
#include "ir/ops/text.h"

#include <stdlib.h>

enum { MAX_KEYS = 1 << 24 };

static const Value *tensor_attr(Module *m, const Node *n, const char *name, bool required) {
    const Attr *a = node_attr(n, name);
    if (a && a->kind == AT_TENSOR) return a->tensor;
    if (required) diag_error(m->diag, n->loc, "attribute %s is missing", name);
    return NULL;
}

bool label_encoder_infer(Module *m, Node *n) {
    const Value *keys = tensor_attr(m, n, "keys_tensor", true);
    const Value *values = tensor_attr(m, n, "values_tensor", true);
    const Value *other = tensor_attr(m, n, "default_tensor", true);
    int64_t n_keys, n_values, n_other;
    if (!keys || !values || !other) return false;
    if (!infer_dtype(m, n, 0, CLASS_ANY)) return false;
    bool known = shape_count_int(keys->shape, &n_keys) &&
                 shape_count_int(values->shape, &n_values) &&
                 shape_count_int(other->shape, &n_other);
    if (!known || n_keys != n_values || n_other != 1 || n_keys > MAX_KEYS) {
        diag_error(m->diag, n->loc, "keys, values and default do not belong together");
        return false;
    }
    if (keys->dtype != n->in[0]->dtype || values->dtype != other->dtype) {
        diag_error(m->diag, n->loc, "keys are %s and the default is %s; input 0 is %s, values %s",
                   dtype_info[keys->dtype].name, dtype_info[other->dtype].name,
                   dtype_info[n->in[0]->dtype].name, dtype_info[values->dtype].name);
        return false;
    }
    return infer_set(m, n, 0, values->dtype, n->in[0]->shape);
}

/* ---- numeric keys ---------------------------------------------------------------------------- */

typedef struct Key {
    int64_t i;
    double f;
    int64_t position;
} Key;

static int by_int(const void *a, const void *b) {
    const Key *x = a, *y = b;
    if (x->i != y->i) return x->i < y->i ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

static int by_float(const void *a, const void *b) {
    const Key *x = a, *y = b;
    if (x->f != y->f) return x->f < y->f ? -1 : 1;
    return x->position < y->position ? -1 : x->position > y->position;
}

static bool same_key(const Key *a, const Key *b, bool is_float) {
    return is_float ? a->f == b->f : a->i == b->i;
}

/* Sorted, distinct keys without NaN; *nan is the position of the first NaN, or -1. */
static int64_t sort_keys(const Value *keys, Key *key, int64_t n, int64_t *nan) {
    bool is_float = dtype_is_float(keys->dtype);
    int64_t kept = 0, distinct = 0;
    *nan = -1;
    for (int64_t i = 0; i < n; i++) {
        Key k = {.position = i};
        if (is_float)
            k.f = value_const_float(keys, i);
        else
            k.i = value_const_int(keys, i);
        if (k.f == k.f)
            key[kept++] = k;
        else if (*nan < 0)
            *nan = i;
    }
    if (kept) qsort(key, (size_t)kept, sizeof *key, is_float ? by_float : by_int);
    for (int64_t i = 0; i < kept; i++)
        if (!distinct || !same_key(&key[distinct - 1], &key[i], is_float)) key[distinct++] = key[i];
    return distinct;
}

/* Both tables have 2^k entries: the last key is repeated. */
static void key_tables(Def *d, DType t, const Key *key, int64_t n, int64_t room, KTensor **keys,
                       KTensor **positions) {
    double *f = arena_array(d->m->scratch, double, room);
    int64_t *v = arena_array(d->m->scratch, int64_t, room),
            *at = arena_array(d->m->scratch, int64_t, room);
    for (int64_t i = 0; i < room; i++) {
        const Key *from = &key[i < n ? i : n - 1];
        f[i] = from->f;
        v[i] = from->i;
        at[i] = from->position;
    }
    *keys = dtype_is_float(t) ? def_table_floats(d, "keys", t == DT_F64 ? DT_F64 : DT_F32, f, room)
                              : def_table_ints(d, "keys", t, v, room);
    *positions = def_table_ints(d, "positions", DT_I32, at, room);
}

/* The whole numbers from the least key to the largest one; 0 where a table of them would be large. */
static int64_t key_range(const Key *key, int64_t distinct, DType t) {
    enum { MOST = 1 << 20, SPARE = 8, SMALL = 16384 };
    int64_t range;
    if (!dtype_is_int(t) || !distinct) return 0;
    if (__builtin_sub_overflow(key[distinct - 1].i, key[0].i, &range) || range >= MOST) return 0;
    return range < SMALL || range < distinct * SPARE ? range + 1 : 0;
}

/* The position of e by a table of all numbers in the keys' range. */
static const KExpr *look_up(Def *d, const Key *key, int64_t distinct, int64_t range, const KExpr *e,
                            int64_t missing) {
    KCtx *k = d->k;
    int64_t *at = arena_array(d->m->scratch, int64_t, range);
    for (int64_t i = 0; i < range; i++) at[i] = missing;
    for (int64_t i = 0; i < distinct; i++) at[key[i].i - key[0].i] = key[i].position;
    KTensor *table = def_table_ints(d, "positions", DT_I32, at, range);
    const KExpr *least = k_const_i(k, e->dtype, key[0].i),
                *most = k_const_i(k, e->dtype, key[distinct - 1].i);
    const KExpr *inside = k_and(k, k_le(k, least, e), k_le(k, e, most));
    const KExpr *near = k_max(k, k_min(k, e, most), least);
    const KExpr *place = k_sub(k, k_cast(k, DT_I64, near), k_int(k, key[0].i));
    const KExpr *position = k_cast(k, DT_I64, def_at(d, table, &place, 1));
    return k_select(k, inside, position, k_int(k, missing));
}

/* Two places for each key in a table of 2^bits. */
typedef struct Places {
    uint32_t fold, factor[2];
    int bits;
    bool is_wide; /* keys of 64 bits */
} Places;

static int64_t place_of(const Places *p, int64_t key, int which) {
    uint32_t h = (uint32_t)key;
    if (p->is_wide) h ^= (uint32_t)((uint64_t)key >> 32) * p->fold;
    if (which) h ^= h >> 15;
    return h * p->factor[which] >> (32 - p->bits);
}

/* The same as an expression. */
static const KExpr *place_expr(KCtx *k, const Places *p, const KExpr *e, int which) {
    const KExpr *wide = k_cast(k, DT_U64, k_cast(k, DT_I64, e)), *h = k_cast(k, DT_U32, wide);
    if (p->is_wide) {
        const KExpr *high = k_cast(k, DT_U32, k_shr(k, wide, k_const_i(k, DT_U64, 32)));
        h = k_xor(k, h, k_mul(k, high, k_const_i(k, DT_U32, p->fold)));
    }
    if (which) h = k_xor(k, h, k_shr(k, h, k_const_i(k, DT_U32, 15)));
    h = k_mul(k, h, k_const_i(k, DT_U32, p->factor[which]));
    return k_cast(k, DT_I64, k_shr(k, h, k_const_i(k, DT_U32, 32 - p->bits)));
}

/* at[place] := the number of the key there, -1 for none. A key whose places are taken drives the
 * other out of one, which goes to its second, and so on. False: that came to no end. */
static bool take_places(const Places *p, const Key *key, int64_t n, int64_t *at) {
    enum { MOST_MOVES = 256 };
    for (int64_t i = 0; i < INT64_C(1) << p->bits; i++) at[i] = -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t homeless = i, place = place_of(p, key[i].i, 0);
        for (int moves = 0; homeless >= 0; moves++) {
            if (moves == MOST_MOVES) return false;
            int64_t other = at[place];
            at[place] = homeless;
            homeless = other;
            if (other < 0) break;
            int64_t first = place_of(p, key[other].i, 0);
            place = place == first ? place_of(p, key[other].i, 1) : first;
        }
    }
    return true;
}

/* Places for all keys, at most four of ten taken; false where there should be none. */
static bool find_places(Def *d, DType t, const Key *key, int64_t n, Places *p, int64_t **at) {
    enum { FEW = 64, MOST = 1 << 20, TRIES = 16 };
    uint64_t seed = 0;
    if (!dtype_is_int(t) || n < FEW || n > MOST) return false;
    *p = (Places){.bits = 1, .is_wide = dtype_bytes(t) > 4};
    while ((INT64_C(1) << p->bits) * 2 < n * 5) p->bits++;
    *at = arena_array(d->m->scratch, int64_t, INT64_C(1) << p->bits);
    for (int i = 0; i < TRIES; i++) {
        uint32_t *factors[] = {&p->fold, &p->factor[0], &p->factor[1]};
        for (int f = 0; f < 3; f++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            *factors[f] = (uint32_t)(seed >> 32) | 1;
        }
        if (take_places(p, key, n, *at)) return true;
    }
    return false;
}

/* Free places have the first key, too, which is right wherever it is found. */
static const KExpr *look_twice(Def *d, const Key *key, const Places *p, const int64_t *at,
                               const KExpr *e, const KExpr *missing) {
    KCtx *k = d->k;
    int64_t room = INT64_C(1) << p->bits;
    Key *placed = arena_array(d->m->scratch, Key, room);
    for (int64_t i = 0; i < room; i++) placed[i] = key[at[i] < 0 ? 0 : at[i]];
    KTensor *table, *positions;
    key_tables(d, e->dtype, placed, room, room, &table, &positions);
    const KExpr *first = place_expr(k, p, e, 0), *second = place_expr(k, p, e, 1);
    const KExpr *place = k_select(k, k_eq(k, def_at(d, table, &first, 1), e), first, second);
    const KExpr *position = k_cast(k, DT_I64, def_at(d, positions, &place, 1));
    return k_select(k, k_eq(k, def_at(d, table, &place, 1), e), position, missing);
}

/* The position of e among the keys; `missing` when it is not there. */
static const KExpr *search(Def *d, const Value *keys, const KExpr *e, const KExpr *missing) {
    KCtx *k = d->k;
    int64_t n, nan, room = 1;
    shape_count_int(keys->shape, &n);
    Key *key = arena_array(d->m->scratch, Key, n + 1);
    KTensor *table, *positions;
    int64_t distinct = sort_keys(keys, key, n, &nan);
    const KExpr *found = missing, *at = k_int(k, 0);
    int64_t range = key_range(key, distinct, keys->dtype);
    Places places;
    int64_t *placed;
    if (range) return look_up(d, key, distinct, range, e, n);
    if (find_places(d, keys->dtype, key, distinct, &places, &placed))
        return look_twice(d, key, &places, placed, e, missing);
    if (distinct) {
        while (room < distinct) room *= 2;
        key_tables(d, keys->dtype, key, distinct, room, &table, &positions);
        if (dtype_is_float(e->dtype) && e->dtype != table->dtype) e = k_cast(k, table->dtype, e);
        for (int64_t half = room / 2; half; half /= 2) { /* keys below `at` are smaller than e */
            const KExpr *probe = k_add(k, at, k_int(k, half - 1));
            const KExpr *less = k_lt(k, def_at(d, table, &probe, 1), e);
            at = k_add(k, at, k_select(k, less, k_int(k, half), k_int(k, 0)));
        }
        const KExpr *position = k_cast(k, DT_I64, def_at(d, positions, &at, 1));
        found = k_select(k, k_eq(k, def_at(d, table, &at, 1), e), position, missing);
    }
    return nan < 0 ? found : k_select(k, k_ne(k, e, e), k_int(k, nan), found);
}

/* ---- both ------------------------------------------------------------------------------------ */

/* num = the number of the key that is the element, `missing` without one. */
static void find_strings(Def *d, KTensor *x, const Value *keys, const KExpr *missing,
                         KTensor *num) {
    KCtx *k = d->k;
    int64_t n;
    shape_count_int(keys->shape, &n);
    ConstString *text = arena_array(d->m->scratch, ConstString, n + 1);
    for (int64_t i = 0; i < n; i++) text[i] = value_const_string(keys, i);
    const TextTable *table = text_table(d, text, n);
    Stage *s = def_program(d, &num, 1);
    const KExpr *i = kb_for(&d->b, LOOP_PARALLEL, "i", tensor_n_elems(k, x));
    const KExpr *at = text_find(d, &d->b, table, kb_let(&d->b, "x", lower_at_flat(d, x, i)));
    kb_store(&d->b, num->buf, i, k_select(k, k_lt(k, at, k_int(k, 0)), missing, at));
    kb_end(&d->b);
    def_end_program(d, s);
}

/* The values with the default behind them. */
static KTensor *value_table(Def *d, const Value *values, const Value *other) {
    int64_t n;
    shape_count_int(values->shape, &n);
    if (values->dtype == DT_STR) {
        ConstString *s = arena_array(d->m->scratch, ConstString, n + 1);
        for (int64_t i = 0; i < n; i++) s[i] = value_const_string(values, i);
        s[n] = value_const_string(other, 0);
        return def_strings(d, "values", s, n + 1);
    }
    if (dtype_is_float(values->dtype)) {
        double *f = arena_array(d->m->scratch, double, n + 1);
        for (int64_t i = 0; i < n; i++) f[i] = value_const_float(values, i);
        f[n] = value_const_float(other, 0);
        return def_table_floats(d, "values", values->dtype == DT_F64 ? DT_F64 : DT_F32, f, n + 1);
    }
    int64_t *v = arena_array(d->m->scratch, int64_t, n + 1);
    for (int64_t i = 0; i < n; i++) v[i] = value_const_int(values, i);
    v[n] = value_const_int(other, 0);
    return def_table_ints(d, "values", values->dtype, v, n + 1);
}

void label_encoder_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    const Value *keys = node_attr(n, "keys_tensor")->tensor;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0), *num = NULL;
    KTensor *values = value_table(d, node_attr(n, "values_tensor")->tensor,
                                  node_attr(n, "default_tensor")->tensor);
    const KExpr *missing = k_sub(k, values->dims[0], k_int(k, 1));
    if (x->dtype == DT_STR) {
        num = def_temp(d, "num", DT_I64, x->rank, x->dims);
        find_strings(d, x, keys, missing, num);
    }
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *at = num ? lower_elem(d, s, num, DT_I64)
                          : search(d, keys, lower_elem(d, s, x, x->dtype), missing);
    const KExpr *value = def_at(d, values, &at, 1);
    def_map(d, s, out->dtype == DT_STR ? value : k_cast(k, out->dtype, value));
}
