/* Loops over strings: see text.h.
 *
 * A look-up hashes the string (32-bit FNV-1a), then walks the open-addressed slots of a constant
 * table from there until a slot is empty or its key is the string: a key costs its bytes and some
 * 16 bytes of tables, whatever the alphabet, and is found in one pass over the string. */
#include "ir/ops/text.h"

#include <string.h>

bool text_infer_place(Module *m, const Node *n) {
    for (const Graph *g = n->graph; g && g->owner; g = g->parent) {
        if (g->owner->op == OP_If) continue;
        diag_unsupported(m->diag, n->loc, "new text in the body of a Loop or Scan");
        return false;
    }
    return true;
}

static void advance(KBuild *b, KBuf *i) {
    kb_set(b, i, k_add(b->k, kb_get(b, i), k_int(b->k, 1)));
}

/* The first position below `limit` where the bytes differ, else limit. */
static const KExpr *first_difference(KBuild *b, const KExpr *x, const KExpr *y,
                                     const KExpr *limit) {
    KCtx *k = b->k;
    KBuf *i = kb_variable(b, "same", k_int(k, 0));
    const KExpr *at = kb_get(b, i);
    kb_while(b, k_and(k, k_lt(k, at, limit), k_eq(k, k_str_byte(k, x, at), k_str_byte(k, y, at))));
    advance(b, i);
    kb_end(b);
    return kb_let(b, "same", at);
}

static const KExpr *text_equal(KBuild *b, const KExpr *x, const KExpr *y) {
    KCtx *k = b->k;
    const KExpr *n = kb_let(b, "n", k_str_len(k, x));
    const KExpr *fits = kb_let(b, "fits", k_eq(k, n, k_str_len(k, y)));
    const KExpr *same = first_difference(b, x, y, k_select(k, fits, n, k_int(k, 0)));
    return k_and(k, fits, k_eq(k, same, n));
}

const KExpr *text_compare(KBuild *b, const KExpr *x, const KExpr *y) {
    KCtx *k = b->k;
    const KExpr *nx = kb_let(b, "n", k_str_len(k, x)), *ny = kb_let(b, "n", k_str_len(k, y));
    const KExpr *end = k_min(k, nx, ny), *same = first_difference(b, x, y, end);
    const KExpr *inside = k_lt(k, same, end), *minus = k_int(k, -1), *one = k_int(k, 1);
    const KExpr *byte_less = k_lt(k, k_str_byte(k, x, same), k_str_byte(k, y, same));
    const KExpr *less = k_select(k, inside, byte_less, k_lt(k, nx, ny));
    const KExpr *equal = k_and(k, k_not(k, inside), k_eq(k, nx, ny));
    return kb_let(b, "order", k_select(k, equal, k_int(k, 0), k_select(k, less, minus, one)));
}

void text_copy(KBuild *b, KBuf *to, const KExpr *at, const KExpr *s) {
    KCtx *k = b->k;
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_str_len(k, s));
    kb_store(b, to, k_add(k, at, i), k_str_byte(k, s, i));
    kb_end(b);
}

void text_lower_equal(Def *d, KTensor *x, KTensor *y, KTensor *out) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *index[MAX_RANK];
    Stage *s = def_program(d, &out, 1);
    const KExpr *i = kb_for(b, LOOP_PARALLEL, "i", tensor_n_elems(k, out));
    def_unflatten(k, i, out->dims, out->rank, index);
    const KExpr *left = kb_let(b, "x", lower_broadcast(d, x, out, index));
    const KExpr *right = kb_let(b, "y", lower_broadcast(d, y, out, index));
    kb_store(b, out->buf, i, text_equal(b, left, right));
    kb_end(b);
    def_end_program(d, s);
}

/* ---- look-up --------------------------------------------------------------------------------- */

struct TextTable {
    KTensor *slots; /* number of the key there, -1 in empty ones; a power of two, never full */
    int64_t n_slots;
    KTensor *keys;
};

static uint32_t hash_text(ConstString s) {
    uint32_t h = 2166136261u;
    for (uint64_t i = 0; i < s.n_bytes; i++) h = (h ^ (unsigned char)s.bytes[i]) * 16777619u;
    return h ^ h >> 15;
}

static bool same_text(ConstString a, ConstString b) {
    return a.n_bytes == b.n_bytes && (!a.n_bytes || !memcmp(a.bytes, b.bytes, a.n_bytes));
}

TextTable *text_table(Def *d, const ConstString *keys, int64_t count) {
    TextTable *t = arena_new(d->arena, TextTable);
    t->n_slots = 2;
    while (t->n_slots < 2 * count) t->n_slots *= 2;
    int64_t *slot = arena_array(d->arena, int64_t, t->n_slots);
    for (int64_t i = 0; i < t->n_slots; i++) slot[i] = -1;
    for (int64_t i = 0; i < count; i++) {
        int64_t at = hash_text(keys[i]) & (t->n_slots - 1);
        while (slot[at] >= 0 && !same_text(keys[slot[at]], keys[i]))
            at = (at + 1) & (t->n_slots - 1);
        if (slot[at] < 0) slot[at] = i;
    }
    t->slots = def_table_ints(d, "slots", DT_I32, slot, t->n_slots);
    static const ConstString nothing = {"", 0};
    t->keys = count ? def_strings(d, "keys", keys, count) : def_strings(d, "keys", &nothing, 1);
    return t;
}

/* The hash of s, as hash_text computes it, and the first slot to look into. */
static const KExpr *first_slot(KBuild *b, const TextTable *t, const KExpr *s) {
    KCtx *k = b->k;
    KBuf *hash = kb_alloc(b, MEM_REG, DT_U32, "hash", 1);
    const KExpr *zero = k_int(k, 0), *h = k_load(k, hash, zero);
    kb_store(b, hash, zero, k_const_i(k, DT_U32, 2166136261u));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", k_str_len(k, s));
    const KExpr *byte = k_cast(k, DT_U32, k_str_byte(k, s, i));
    kb_store(b, hash, zero, k_mul(k, k_xor(k, h, byte), k_const_i(k, DT_U32, 16777619)));
    kb_end(b);
    h = k_xor(k, h, k_shr(k, h, k_const_i(k, DT_U32, 15)));
    return k_cast(k, DT_I64, k_and(k, h, k_const_i(k, DT_U32, t->n_slots - 1)));
}

const KExpr *text_find(Def *d, KBuild *b, const TextTable *t, const KExpr *s) {
    KCtx *k = b->k;
    const KExpr *zero = k_int(k, 0), *none = k_int(k, -1);
    KBuf *slot = kb_variable(b, "slot", first_slot(b, t, s)),
         *found = kb_variable(b, "found", none);
    KBuf *busy = kb_variable(b, "busy", k_int(k, 1));
    kb_while(b, k_ne(k, kb_get(b, busy), zero));
    const KExpr *at = kb_get(b, slot);
    const KExpr *key = kb_let(b, "key", k_cast(k, DT_I64, def_at(d, t->slots, &at, 1)));
    const KExpr *some = k_le(k, zero, key), *safe = k_max(k, key, zero);
    const KExpr *text = kb_let(b, "text", def_at(d, t->keys, &safe, 1));
    const KExpr *hit = kb_let(b, "hit", k_and(k, some, text_equal(b, s, text)));
    kb_store(b, found, zero, k_select(k, hit, key, none));
    kb_store(b, busy, zero, k_cast(k, DT_I64, k_and(k, some, k_not(k, hit))));
    const KExpr *next = k_add(k, at, k_int(k, 1));
    kb_store(b, slot, zero, k_fmod(k, next, k_int(k, t->n_slots)));
    kb_end(b);
    return kb_let(b, "found", kb_get(b, found));
}
