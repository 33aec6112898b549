/* Hash map from text to a pointer; insertion never fails; iteration is in insertion order, so
 * that nothing depends on hash values. Keys are not copied: they must live as long as the map. */
#ifndef SMELT_IR_SUPPORT_MAP_H
#define SMELT_IR_SUPPORT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "ir/support/arena.h"

typedef struct StrMap StrMap;

StrMap *strmap_create(Arena *a);
/* The value put last under this key, or NULL. */
void *strmap_get(const StrMap *m, const char *key);
void *strmap_get_bytes(const StrMap *m, const char *key, size_t n);
void strmap_put(StrMap *m, const char *key, void *value);
void strmap_put_bytes(StrMap *m, const char *key, size_t n, void *value);
uint32_t strmap_count(const StrMap *m);
/* i-th key in order of first insertion, and its value. */
const char *strmap_key(const StrMap *m, uint32_t i);
void *strmap_value(const StrMap *m, uint32_t i);

/* FNV-1a, for tables keyed by other things; seed with 0 or with an earlier result. */
uint64_t hash_bytes(uint64_t seed, const void *bytes, size_t n);

#endif
