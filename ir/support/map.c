/* Hash map from text to a pointer: open addressing over an insertion-ordered entry list.
 *
 * Keys come from model files, so the hash is SipHash-1-3 (Aumasson and Bernstein, 2012) under a key
 * that the kernel draws for each process: nobody can prepare names that all fall into one slot.
 * Nothing shows the hash values, so outputs stay the same from run to run. */
#include "ir/support/map.h"

#include <string.h>
#include <sys/auxv.h>

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
    uint64_t secret[2];
};

uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    uint64_t h = seed ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

static uint64_t rotate(uint64_t x, int by) {
    return x << by | x >> (64 - by);
}

static void sip_rounds(uint64_t v[4], int n) {
    while (n--) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static uint64_t hash_key(const StrMap *m, const char *key, size_t n) {
    uint64_t v[4] = {
        m->secret[0] ^ UINT64_C(0x736f6d6570736575), m->secret[1] ^ UINT64_C(0x646f72616e646f6d),
        m->secret[0] ^ UINT64_C(0x6c7967656e657261), m->secret[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t word, last = (uint64_t)n << 56;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, key + i, 8);
        v[3] ^= word;
        sip_rounds(v, 1);
        v[0] ^= word;
    }
    for (int shift = 0; i < n; i++, shift += 8) last |= (uint64_t)(unsigned char)key[i] << shift;
    v[3] ^= last;
    sip_rounds(v, 1);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, 3);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

StrMap *strmap_create(Arena *a) {
    StrMap *m = arena_new(a, StrMap);
    const void *random_bytes = (const void *)(uintptr_t)getauxval(AT_RANDOM);
    if (random_bytes) memcpy(m->secret, random_bytes, sizeof m->secret);
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
    uint32_t s = m->slot[find_slot(m, key, n, hash_key(m, key, n))];
    return s ? m->entries.at[s - 1].value : NULL;
}

void strmap_put_bytes(StrMap *m, const char *key, size_t n, void *value) {
    if ((m->entries.n + 1) * 2 > m->n_slots) rehash(m);
    uint64_t hash = hash_key(m, key, n);
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
