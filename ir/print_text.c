/* Names, scopes and constants of the printers. A name is an identifier made from the wanted one;
 * when another thing in scope has it already it gets _2, _3, ... Since printed names never clash,
 * text that was parsed prints under the same names again. */
#include "ir/print_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/half.h"
#include "ir/support/map.h"

/* ---- pointer maps ---------------------------------------------------------------------------- */

static uint32_t slot_of(const TextMap *m, const void *key) {
    uint32_t i =
        (uint32_t)(((uintptr_t)key >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (m->cap - 1);
    while (m->key[i] && m->key[i] != key) i = (i + 1) & (m->cap - 1);
    return i;
}

void *textmap_get(const TextMap *m, const void *key) {
    return m->cap ? m->value[slot_of(m, key)] : NULL;
}

void textmap_put(TextMap *m, const void *key, void *value) {
    if ((m->n + 1) * 2 > m->cap) {
        TextMap wider = {.cap = m->cap ? m->cap * 2 : 64};
        wider.key = xmalloc(sizeof *wider.key * wider.cap);
        wider.value = xmalloc(sizeof *wider.value * wider.cap);
        for (uint32_t i = 0; i < m->cap; i++)
            if (m->key[i]) textmap_put(&wider, m->key[i], m->value[i]);
        textmap_free(m);
        *m = wider;
    }
    uint32_t i = slot_of(m, key);
    m->n += !m->key[i];
    m->key[i] = key;
    m->value[i] = value;
}

void textmap_clear(TextMap *m) {
    if (m->cap > 256) textmap_free(m); /* many small statements follow a large one */
    if (!m->n) return;
    memset(m->key, 0, sizeof *m->key * m->cap);
    memset(m->value, 0, sizeof *m->value * m->cap);
    m->n = 0;
}

void textmap_free(TextMap *m) {
    free(m->key);
    free(m->value);
    *m = (TextMap){0};
}

/* ---- lines ----------------------------------------------------------------------------------- */

void text_begin(Text *t, StrBuf *out) {
    *t = (Text){.out = out, .a = arena_create()};
    t->taken = strmap_create(t->a);
}

void text_end(Text *t) {
    textmap_free(&t->name);
    textmap_free(&t->uses);
    arena_destroy(t->a);
}

void text_line(Text *t) {
    for (int i = 0; i < t->indent; i++) strbuf_add(t->out, "  ");
}

void text_newline(Text *t) {
    strbuf_add(t->out, "\n");
}

void text_quoted(Text *t, const char *s) {
    strbuf_add(t->out, "\"");
    strbuf_escaped(t->out, s ? s : "", ESC_QUOTED);
    strbuf_add(t->out, "\"");
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool is_reserved(const char *s) {
    static const char *const words[] = {"true", "false",   "inf",   "nan",    "if",
                                        "else", "for",     "while", "let",    "alloc",
                                        "call", "barrier", "node",  "return", "comment",
                                        "prefetch"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(s, words[i])) return true;
    return false;
}

/* An identifier: letters, digits and _, not starting with a digit. */
static char *identifier(Arena *a, const char *wanted) {
    size_t n = strlen(wanted);
    char *s = arena_alloc(a, n + 3);
    size_t out = 0;
    for (const char *p = wanted; *p; p++) {
        bool good = isalnum((unsigned char)*p) || *p == '_';
        if (!good && out == 0) continue;
        if (out == 0 && isdigit((unsigned char)*p)) s[out++] = '_';
        s[out++] = good ? *p : '_';
    }
    if (out == 0) s[out++] = 't';
    if (is_reserved(s)) s[out++] = '_';
    return s;
}

const char *text_bind(Text *t, const void *p, const char *wanted) {
    const char *known = textmap_get(&t->name, p);
    if (known) return known;
    const char *base = identifier(t->a, wanted), *name = base;
    for (int i = 2; strmap_get(t->taken, name); i++) name = arena_printf(t->a, "%s_%d", base, i);
    strmap_put(t->taken, name, t);
    textmap_put(&t->name, p, (void *)(uintptr_t)name);
    vec_push(t->a, &t->bound, p);
    return name;
}

const char *text_name(Text *t, const void *p, const char *wanted) {
    const char *known = textmap_get(&t->name, p);
    return known ? known : arena_printf(t->a, "%s?", identifier(t->a, wanted));
}

uint32_t text_scope(const Text *t) {
    return t->bound.n;
}

void text_leave(Text *t, uint32_t scope) {
    while (t->bound.n > scope) {
        const void *p = t->bound.at[--t->bound.n];
        strmap_put(t->taken, textmap_get(&t->name, p), NULL);
        textmap_put(&t->name, p, NULL);
    }
}

/* ---- numbers and constants ------------------------------------------------------------------- */

void text_float(StrBuf *out, DType t, double v) {
    char digits[40];
    if (v != v || isinf(v)) {
        strbuf_add(out, v != v ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    for (int n = 1; n <= 17; n++) {
        snprintf(digits, sizeof digits, "%.*g", n, v);
        if (t == DT_F64 ? strtod(digits, NULL) == v : strtof(digits, NULL) == (float)v) break;
    }
    strbuf_add(out, digits);
    if (!strpbrk(digits, ".e")) strbuf_add(out, ".0");
}

static void element(Text *t, DType dtype, const unsigned char *p) {
    uint64_t bits = 0;
    float f;
    double d;
    if (dtype == DT_C128) {
        element(t, DT_F64, p);
        strbuf_add(t->out, " ");
        element(t, DT_F64, p + sizeof d);
        return;
    }
    memcpy(&bits, p,
           (size_t)dtype_bytes(dtype)); /* little-endian hosts: the low bytes come first */
    switch (dtype) {
    case DT_F32:
        memcpy(&f, p, sizeof f);
        text_float(t->out, dtype, f);
        return;
    case DT_F64:
        memcpy(&d, p, sizeof d);
        text_float(t->out, dtype, d);
        return;
    case DT_F16: text_float(t->out, dtype, float_from_half((uint16_t)bits)); return;
    case DT_BF16: text_float(t->out, dtype, float_from_bfloat((uint16_t)bits)); return;
    case DT_BOOL: strbuf_add(t->out, bits ? "true" : "false"); return;
    default: break;
    }
    int unused = 64 - dtype_info[dtype].bits;
    if (dtype_info[dtype].kind != DK_SINT)
        strbuf_printf(t->out, "%" PRIu64, bits);
    else
        strbuf_printf(t->out, "%" PRId64, (int64_t)(bits << unused) >> unused);
}

/* Eight bytes at a step: weights are large, and they are hashed for every dump. */
uint64_t text_hash(DType dtype, const void *data, uint64_t n_elems) {
    const unsigned char *p = data;
    uint64_t n = dtype == DT_STR ? strings_bytes(data, (int64_t)n_elems)
                                 : n_elems * (uint64_t)dtype_bytes(dtype);
    uint64_t h = n, word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    return hash_bytes(h ^ (uint64_t)dtype << 56, p, (size_t)n);
}

/* Quoted text ends at a zero byte: strings with one are shown by their hash. */
static bool has_zero_byte(const void *data, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        ConstString s = strings_get(data, n, i);
        if (s.n_bytes && memchr(s.bytes, 0, s.n_bytes)) return true;
    }
    return false;
}

static void quoted_element(Text *t, const void *data, int64_t n, int64_t i) {
    ConstString s = strings_get(data, n, i);
    text_quoted(t, intern_bytes(s.bytes, s.n_bytes));
}

void text_data(Text *t, DType dtype, const void *data, uint64_t n_elems) {
    if (dtype == DT_NONE) return;
    if (n_elems > TEXT_INLINE_ELEMS ||
        (dtype == DT_STR && has_zero_byte(data, (int64_t)n_elems))) {
        strbuf_printf(t->out, " = @%016" PRIx64, text_hash(dtype, data, n_elems));
        return;
    }
    strbuf_add(t->out, " = {");
    for (uint64_t i = 0; i < n_elems; i++) {
        if (i) strbuf_add(t->out, ", ");
        if (dtype == DT_STR)
            quoted_element(t, data, (int64_t)n_elems, (int64_t)i);
        else
            element(t, dtype, (const unsigned char *)data + i * (uint64_t)dtype_bytes(dtype));
    }
    strbuf_add(t->out, "}");
}

/* ---- words ----------------------------------------------------------------------------------- */

const char *kmem_word(KMem m) {
    switch (m) {
    case MEM_NONE: return "none";
    case MEM_PARAM: return "param";
    case MEM_INPUT: return "input";
    case MEM_OUTPUT: return "output";
    case MEM_CONST: return "const";
    case MEM_ARENA: return "arena";
    case MEM_HEAP: return "heap";
    case MEM_REG: return "reg";
    case MEM_STACK: return "stack";
    case MEM_SHARED: return "shared";
    case MEM_TILE: return "tile";
    }
    BUG("memory %d has no name", (int)m);
}

const char *kmark_word(KLoopMark m) {
    switch (m) {
    case LOOP_SERIAL: return "serial";
    case LOOP_PARALLEL: return "parallel";
    case LOOP_VECTOR: return "vector";
    case LOOP_UNROLL: return "unroll";
    case LOOP_TILE: return "tile";
    case LOOP_GRID_X: return "grid_x";
    case LOOP_GRID_Y: return "grid_y";
    case LOOP_GRID_Z: return "grid_z";
    case LOOP_BLOCK_X: return "block_x";
    case LOOP_BLOCK_Y: return "block_y";
    case LOOP_BLOCK_Z: return "block_z";
    }
    BUG("loop mark %d has no name", (int)m);
}
