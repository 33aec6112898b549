/* Hash map from text to a pointer: open addressing over an insertion-ordered entry list. */
#include "ir/support/map.h"

#include <string.h>

typedef struct Entry {
    const char *key;
    size_t n;
    uint64_t hash;
    void *value;
} Entry;

struct StrMap {
    Arena *arena;
    VEC(Entry) entries;
    uint32_t *slot; /* entry index + 1; 0 when free */
    uint32_t n_slots;
};

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

StrMap *strmap_create(Arena *a) {
    StrMap *m = arena_new(a, StrMap);
    m->arena = a;
    return m;
}

/* The slot that holds this key, or the free one where it belongs. */
static uint32_t find_slot(const StrMap *m, const char *key, size_t n, uint64_t hash) {
    uint32_t i = (uint32_t)hash & (m->n_slots - 1);
    for (;; i = (i + 1) & (m->n_slots - 1)) {
        if (!m->slot[i]) return i;
        const Entry *e = &m->entries.at[m->slot[i] - 1];
        if (e->hash == hash && e->n == n && !memcmp(e->key, key, n)) return i;
    }
}

static void rehash(StrMap *m) {
    m->n_slots = m->n_slots ? m->n_slots * 2 : 16;
    m->slot = arena_array(m->arena, uint32_t, m->n_slots);
    for (uint32_t k = 0; k < m->entries.n; k++) {
        const Entry *e = &m->entries.at[k];
        m->slot[find_slot(m, e->key, e->n, e->hash)] = k + 1;
    }
}

void *strmap_get_bytes(const StrMap *m, const char *key, size_t n) {
    if (!m->n_slots) return NULL;
    uint32_t s = m->slot[find_slot(m, key, n, hash_bytes(0, key, n))];
    return s ? m->entries.at[s - 1].value : NULL;
}

void strmap_put_bytes(StrMap *m, const char *key, size_t n, void *value) {
    if ((m->entries.n + 1) * 2 > m->n_slots) rehash(m);
    uint64_t hash = hash_bytes(0, key, n);
    uint32_t i = find_slot(m, key, n, hash);
    if (m->slot[i]) {
        m->entries.at[m->slot[i] - 1].value = value;
        return;
    }
    Entry e = {key, n, hash, value};
    vec_push(m->arena, &m->entries, e);
    m->slot[i] = m->entries.n;
}

void *strmap_get(const StrMap *m, const char *key) {
    return strmap_get_bytes(m, key, strlen(key));
}

void strmap_put(StrMap *m, const char *key, void *value) {
    strmap_put_bytes(m, key, strlen(key), value);
}

uint32_t strmap_count(const StrMap *m) {
    return m->entries.n;
}

const char *strmap_key(const StrMap *m, uint32_t i) {
    return m->entries.at[i].key;
}

void *strmap_value(const StrMap *m, uint32_t i) {
    return m->entries.at[i].value;
}
