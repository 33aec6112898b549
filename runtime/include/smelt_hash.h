/* smelt_hash.h: the one content hash of smelt, XXH64 (Collet's xxHash, specification of 2023).
 *
 * Weight files, the compiler's cache keys and the model hash use it. It guards against damage and
 * mix-ups, not against an attacker. The header is shared by the runtime, which checks, and the
 * compiler, which writes; it needs no library and is not installed. Input may come in pieces:
 *
 *   SmeltHash h;  smelt_hash_begin(&h, 0);  smelt_hash_add(&h, p, n);  ... = smelt_hash_end(&h);
 *
 * The result does not depend on the cuts between the pieces, nor on the machine's byte order. */
#ifndef SMELT_HASH_H
#define SMELT_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SMELT_HASH_P1 UINT64_C(0x9E3779B185EBCA87)
#define SMELT_HASH_P2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define SMELT_HASH_P3 UINT64_C(0x165667B19E3779F9)
#define SMELT_HASH_P4 UINT64_C(0x85EBCA77C2B2AE63)
#define SMELT_HASH_P5 UINT64_C(0x27D4EB2F165667C5)

typedef struct SmeltHash {
    uint64_t lane[4];
    uint64_t seed, n_bytes;
    unsigned char tail[32]; /* the n_bytes % 32 bytes not yet mixed in */
} SmeltHash;

/* Little-endian reads from any address; spelled so that compilers make one load of them. */
static inline uint64_t smelt_read_le32(const unsigned char *p) {
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

static inline uint64_t smelt_read_le64(const unsigned char *p) {
    return smelt_read_le32(p) | (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

static inline uint64_t smelt_hash_rotate(uint64_t v, int by) {
    return v << by | v >> (64 - by);
}

static inline uint64_t smelt_hash_round(uint64_t lane, uint64_t word) {
    return smelt_hash_rotate(lane + word * SMELT_HASH_P2, 31) * SMELT_HASH_P1;
}

static inline void smelt_hash_stripe(SmeltHash *h, const unsigned char *p) {
    for (int i = 0; i < 4; i++)
        h->lane[i] = smelt_hash_round(h->lane[i], smelt_read_le64(p + 8 * i));
}

static inline void smelt_hash_begin(SmeltHash *h, uint64_t seed) {
    h->lane[0] = seed + SMELT_HASH_P1 + SMELT_HASH_P2;
    h->lane[1] = seed + SMELT_HASH_P2;
    h->lane[2] = seed;
    h->lane[3] = seed - SMELT_HASH_P1;
    h->seed = seed;
    h->n_bytes = 0;
}

static inline void smelt_hash_add(SmeltHash *h, const void *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    size_t held = (size_t)(h->n_bytes % 32);
    h->n_bytes += n;
    if (held) {
        size_t take = n < 32 - held ? n : 32 - held;
        if (take) memcpy(h->tail + held, p, take);
        if (held + take < 32) return;
        smelt_hash_stripe(h, h->tail);
        p += take;
        n -= take;
    }
    for (; n >= 32; p += 32, n -= 32) smelt_hash_stripe(h, p);
    if (n) memcpy(h->tail, p, n);
}

static inline uint64_t smelt_hash_end(const SmeltHash *h) {
    static const int turn[4] = {1, 7, 12, 18};
    uint64_t v = h->seed + SMELT_HASH_P5;
    if (h->n_bytes >= 32) {
        v = 0;
        for (int i = 0; i < 4; i++) v += smelt_hash_rotate(h->lane[i], turn[i]);
        for (int i = 0; i < 4; i++)
            v = (v ^ smelt_hash_round(0, h->lane[i])) * SMELT_HASH_P1 + SMELT_HASH_P4;
    }
    v += h->n_bytes;
    const unsigned char *p = h->tail;
    size_t n = (size_t)(h->n_bytes % 32);
    for (; n >= 8; p += 8, n -= 8)
        v = smelt_hash_rotate(v ^ smelt_hash_round(0, smelt_read_le64(p)), 27) * SMELT_HASH_P1 +
            SMELT_HASH_P4;
    if (n >= 4) {
        v = smelt_hash_rotate(v ^ smelt_read_le32(p) * SMELT_HASH_P1, 23) * SMELT_HASH_P2 +
            SMELT_HASH_P3;
        p += 4;
        n -= 4;
    }
    for (; n; p++, n--) v = smelt_hash_rotate(v ^ *p * SMELT_HASH_P5, 11) * SMELT_HASH_P1;
    v = (v ^ v >> 33) * SMELT_HASH_P2;
    v = (v ^ v >> 29) * SMELT_HASH_P3;
    return v ^ v >> 32;
}

static inline uint64_t smelt_hash(const void *bytes, size_t n) {
    SmeltHash h;
    smelt_hash_begin(&h, 0);
    smelt_hash_add(&h, bytes, n);
    return smelt_hash_end(&h);
}

#endif
