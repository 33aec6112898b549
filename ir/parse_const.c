/* Literals and constant data of IR text. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/half.h"
#include "ir/parse_text.h"
#include "ir/print_text.h"
#include "ir/support/map.h"

enum { RANDOM_LIMIT = 1 << 28 }; /* bytes that `random` may make */

bool parse_is_float(const char *text) {
    size_t n;
    DType t = parse_suffix(text, &n);
    bool has_point = memchr(text, '.', n) != NULL || memchr(text, 'e', n) != NULL;
    return t == DT_NONE ? has_point : dtype_is_float(t);
}

DType parse_suffix(const char *text, size_t *n_digits) {
    size_t n = 0;
    while (isdigit((unsigned char)text[n]) || text[n] == '.') n++;
    if (text[n] == 'e' &&
        (isdigit((unsigned char)text[n + 1]) || text[n + 1] == '-' || text[n + 1] == '+')) {
        n += 2;
        while (isdigit((unsigned char)text[n])) n++;
    }
    *n_digits = n;
    return text[n] ? dtype_from_name(text + n) : DT_NONE;
}

bool parse_uint(Parse *p, const char *digits, size_t n, bool negative, int64_t *v) {
    uint64_t u = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)digits[i])) return parse_fail(p, "'%s' is no integer", digits);
        if (__builtin_mul_overflow(u, UINT64_C(10), &u) ||
            __builtin_add_overflow(u, (uint64_t)(digits[i] - '0'), &u))
            return parse_fail(p, "'%s' is too large", digits);
    }
    if (!n || (negative && u > UINT64_C(1) << 63))
        return parse_fail(p, "'%s' is too large", digits);
    *v = (int64_t)(negative ? 0 - u : u);
    return true;
}

double parse_double(DType t, const char *digits, size_t n) {
    char text[64];
    if (n >= sizeof text) n = sizeof text - 1;
    memcpy(text, digits, n);
    text[n] = 0;
    return t == DT_F64 ? strtod(text, NULL) : (double)strtof(text, NULL);
}

/* ---- elements -------------------------------------------------------------------------------- */

static void put_float(unsigned char *out, DType t, double v) {
    float f = (float)v;
    uint16_t h = t == DT_F16 ? half_from_float(f) : bfloat_from_float(f);
    if (t == DT_F64)
        memcpy(out, &v, sizeof v);
    else if (t == DT_F32)
        memcpy(out, &f, sizeof f);
    else
        memcpy(out, &h, sizeof h);
}

static void float_element(Parse *p, DType t, unsigned char *out) {
    bool negative = parse_accept(p, "-");
    double v = 0;
    if (parse_accept(p, "inf"))
        v = INFINITY;
    else if (parse_accept(p, "nan"))
        v = NAN;
    else if (p->tok.kind != T_NUMBER)
        parse_fail(p, "expected a number");
    else {
        v = parse_double(t, p->tok.text, strlen(p->tok.text));
        parse_next(p);
    }
    put_float(out, t, negative ? -v : v);
}

static void element(Parse *p, DType t, unsigned char *out) {
    int64_t v = 0;
    if (t == DT_C128) {
        float_element(p, DT_F64, out);
        float_element(p, DT_F64, out + sizeof(double));
        return;
    }
    if (dtype_is_float(t)) {
        float_element(p, t, out);
        return;
    }
    if (t == DT_BOOL)
        v = parse_accept(p, "true") ||
            !(parse_accept(p, "false") || parse_fail(p, "expected true or false"));
    else
        v = parse_int(p, "an element");
    memcpy(out, &v, (size_t)dtype_bytes(t)); /* little-endian hosts: the low bytes come first */
}

/* The same numbers for a seed on every machine: k / 512 in [-1, 1) for floats, 0 ... 7 for
 * integers. */
static void random_elements(DType t, int64_t n, uint64_t seed, unsigned char *out) {
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    int bytes = dtype_bytes(t);
    for (int64_t i = 0; i < n; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t bits = state >> 54;
        uint64_t few = dtype_info[t].bits > 3 ? 7 : dtype_is_signed(t) ? 1 : 3;
        int64_t v = (int64_t)(bits & (t == DT_BOOL ? 1 : few));
        if (dtype_is_float(t))
            put_float(out + i * bytes, t, ((double)bits - 512) / 512);
        else if (dtype_is_complex(t)) /* real ones */
            put_float(out + i * bytes, dtype_part(t), ((double)bits - 512) / 512);
        else
            memcpy(out + i * bytes, &v, (size_t)bytes);
    }
}

/* ---- constants by hash ----------------------------------------------------------------------- */

/* Strings that n_bytes hold: the first offset after the table is what ends it. */
static uint64_t count_strings(const void *data, uint64_t n_bytes) {
    uint64_t n = 0;
    while (8 * (n + 1) <= n_bytes && strings_bytes(data, (int64_t)n) != n_bytes) n++;
    return n;
}

static void offer(Parse *p, DType t, const void *data, uint64_t n_bytes) {
    if (!data || t == DT_NONE || !n_bytes) return;
    uint64_t n = t == DT_STR ? count_strings(data, n_bytes) : n_bytes / (uint64_t)dtype_bytes(t);
    uint64_t hash = text_hash(t, data, n);
    char *key = arena_copy(p->a, &hash, sizeof hash);
    strmap_put_bytes(p->by_hash, key, sizeof hash, (void *)(uintptr_t)data);
}

static void offer_graph(Graph *g, void *user) {
    for (const Node *n = g->first; n; n = n->next) {
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i]) offer(user, n->in[i]->dtype, n->in[i]->data, n->in[i]->data_bytes);
        for (uint32_t i = 0; i < n->attrs.n; i++) {
            const Value *v = n->attrs.at[i].tensor;
            if (v) offer(user, v->dtype, v->data, v->data_bytes);
        }
    }
    for (uint32_t i = 0; i < g->outputs.n; i++)
        offer(user, g->outputs.at[i]->dtype, g->outputs.at[i]->data, g->outputs.at[i]->data_bytes);
}

static const void *find_hash(Parse *p, uint64_t hash) {
    if (!p->source) return NULL;
    if (!p->by_hash) {
        const KModule *km = p->source->kmod;
        int64_t n;
        p->by_hash = strmap_create(p->a);
        graph_visit(p->source->main, offer_graph, p);
        for (uint32_t i = 0; km && i < km->n_consts; i++)
            if (km->consts[i]->n_elems && k_is_int(km->consts[i]->n_elems, &n) && n > 0)
                offer(p, km->consts[i]->dtype, km->consts[i]->data,
                      (uint64_t)n * (uint64_t)dtype_bytes(km->consts[i]->dtype));
    }
    return strmap_get_bytes(p->by_hash, (const char *)&hash, sizeof hash);
}

/* ---- data ------------------------------------------------------------------------------------ */

static const void *listed(Parse *p, DType t, int64_t n) {
    if (n > PARSE_LIST) {
        parse_fail(p, "a list of %lld elements is too long", (long long)n);
        return NULL;
    }
    unsigned char *out = arena_alloc_array(p->m->arena, (size_t)n + 1, (size_t)dtype_bytes(t));
    for (int64_t i = 0; i < n && !p->failed; i++) {
        if (i) parse_expect(p, ",");
        element(p, t, out + i * dtype_bytes(t));
    }
    parse_expect(p, "}");
    return out;
}

static const void *listed_strings(Parse *p, int64_t n, uint64_t *n_bytes) {
    if (!parse_expect(p, "{")) return NULL;
    if (n > PARSE_LIST) {
        parse_fail(p, "a list of %lld elements is too long", (long long)n);
        return NULL;
    }
    ConstString *s = arena_array(p->a, ConstString, n + 1);
    for (int64_t i = 0; i < n && !p->failed; i++) {
        if (i) parse_expect(p, ",");
        s[i].bytes = parse_string(p, "an element");
        s[i].n_bytes = p->failed ? 0 : strlen(s[i].bytes);
    }
    parse_expect(p, "}");
    return p->failed ? NULL : strings_pack(p->m->arena, s, n, n_bytes);
}

const void *parse_data(Parse *p, DType t, int64_t n, uint64_t *n_bytes) {
    const void *data = NULL;
    if (!parse_expect(p, "=")) return NULL;
    if (n < 0) {
        parse_fail(p, "text cannot hold a constant of this type");
        return NULL;
    }
    if (t == DT_STR && p->tok.kind != T_HASH) return listed_strings(p, n, n_bytes);
    bool is_huge = n > RANDOM_LIMIT / dtype_bytes(t);
    if (p->tok.kind == T_HASH) {
        data = find_hash(p, p->tok.number);
        if (!data) parse_fail(p, "the elements of this constant are not in the text");
        parse_next(p);
    } else if (parse_accept(p, "random")) {
        int64_t seed = parse_int(p, "a seed");
        if (is_huge) parse_fail(p, "too many random elements");
        unsigned char *out =
            p->failed ? NULL
                      : arena_alloc_array(p->m->arena, (size_t)n + 1, (size_t)dtype_bytes(t));
        if (out) random_elements(t, n, (uint64_t)seed, out);
        data = out;
    } else if (parse_expect(p, "{")) {
        data = listed(p, t, n);
    }
    if (p->failed) return NULL;
    *n_bytes = t == DT_STR ? strings_bytes(data, n) : (uint64_t)n * (uint64_t)dtype_bytes(t);
    return data;
}
