/* Constant string tensors. A string constant is self-contained bytes like any other, so that it can
 * be viewed, hashed, merged and compared without addresses: n + 1 offsets (u64), the bytes of
 * string i lying from offset i to offset i + 1 of what follows. Compiled models hold the same two
 * parts as an i64 and a u8 table, and make smelt_string values of them while they run: no
 * relocations. */
#include <string.h>

#include "ir/graph.h"

uint64_t strings_bytes(const void *data, int64_t n) {
    uint64_t end;
    memcpy(&end, (const char *)data + 8 * n, sizeof end);
    return 8 * ((uint64_t)n + 1) + end;
}

const void *strings_pack(Arena *a, const ConstString *s, int64_t n, uint64_t *n_bytes) {
    uint64_t total = 8 * ((uint64_t)n + 1), end = 0;
    for (int64_t i = 0; i < n; i++) total += s[i].n_bytes;
    char *data = arena_alloc(a, total);
    char *text = data + 8 * (n + 1);
    for (int64_t i = 0; i <= n; i++) {
        memcpy(data + 8 * i, &end, sizeof end);
        if (i == n) break;
        if (s[i].n_bytes) memcpy(text + end, s[i].bytes, s[i].n_bytes);
        end += s[i].n_bytes;
    }
    *n_bytes = total;
    return data;
}

ConstString strings_get(const void *data, int64_t n, int64_t i) {
    uint64_t from, to;
    memcpy(&from, (const char *)data + 8 * i, sizeof from);
    memcpy(&to, (const char *)data + 8 * (i + 1), sizeof to);
    return (ConstString){(const char *)data + 8 * (n + 1) + from, to - from};
}

Value *graph_const_strings(Graph *g, const char *name, Shape shape, const ConstString *s) {
    int64_t n = 0;
    uint64_t n_bytes;
    bool known = shape_count_int(shape, &n);
    BUG_IF(!known, "a constant without a fixed size");
    const void *data = strings_pack(g->module->arena, s, n, &n_bytes);
    return graph_add_const(g, name, DT_STR, shape, data, n_bytes);
}

ConstString value_const_string(const Value *v, int64_t i) {
    int64_t n = 0;
    bool known = shape_count_int(v->shape, &n);
    BUG_IF(!known || v->dtype != DT_STR || !v->data || i < 0 || i >= n, "no such constant string");
    return strings_get(v->data, n, i);
}
