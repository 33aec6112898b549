/* Constants of a model as C arrays of their own element type, exact and readable: decimals that
 * read back as the same float, hexadecimal floats in long arrays (finding short decimals takes
 * time). 16-bit floats are their bits. */
#include "codegen/c/c_gen.h"

#include <string.h>

enum { LINE = 100, FLUSH = 1 << 16, LONG_ARRAY = 1024 };

void c_sink(CSink *s, const char *text) {
    if (s->file)
        output_text(s->file, text);
    else
        strbuf_add(s->text, text);
}

const char *c_const_name(const CGen *g, const KBuf *b) {
    return arena_printf(g->a, "w%u_%s", b->index, c_identifier(g->a, b->name));
}

/* 0x1.8p-3f: the bits of a finite float, digit by digit. */
static void print_hex_float(StrBuf *b, uint32_t bits) {
    char text[24], *at = text;
    int e = (int)(bits >> 23 & 255) - 127;
    uint32_t m = bits << 9; /* mantissa in the upper bits */
    if (bits >> 31) *at++ = '-';
    *at++ = '0', *at++ = 'x', *at++ = e == -127 ? '0' : '1';
    if (m) *at++ = '.';
    for (; m; m <<= 4) *at++ = "0123456789abcdef"[m >> 28];
    *at++ = 'p';
    if (e == -127) e = bits << 1 ? -126 : 0;
    if (e < 0) *at++ = '-', e = -e;
    if (e > 99) *at++ = (char)('0' + e / 100);
    if (e > 9) *at++ = (char)('0' + e / 10 % 10);
    *at++ = (char)('0' + e % 10);
    *at++ = 'f';
    strbuf_add_bytes(b, text, (size_t)(at - text));
}

/* |v| below 10^10 */
static void print_small_int(StrBuf *b, int64_t v) {
    char text[12], *at = text + sizeof text;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    do *--at = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0) *--at = '-';
    strbuf_add_bytes(b, at, (size_t)(text + sizeof text - at));
}

static void print_element(StrBuf *b, const KBuf *c, int64_t i, bool is_long) {
    const uint8_t *at = (const uint8_t *)c->data + i * dtype_bytes(c->dtype);
    switch (c->dtype) {
#define INTEGER(T, ctype)                                                                          \
    case DT_##T: {                                                                                 \
        ctype v;                                                                                   \
        memcpy(&v, at, sizeof v);                                                                  \
        int64_t wide = (int64_t)v;                                                                 \
        if (sizeof v <= 2 || (DT_##T == DT_I32 && wide < 100000 && wide > -100000))                \
            print_small_int(b, wide);                                                              \
        else                                                                                       \
            c_print_int(b, DT_##T, wide);                                                          \
        return;                                                                                    \
    }
        INTEGER(I8, int8_t)
        INTEGER(I16, int16_t) INTEGER(I32, int32_t) INTEGER(I64, int64_t) INTEGER(U8, uint8_t)
            INTEGER(U16, uint16_t) INTEGER(U32, uint32_t) INTEGER(U64, uint64_t)
                INTEGER(BOOL, uint8_t)
#undef INTEGER
                    case DT_F16 : case DT_BF16 : {
            uint16_t v;
            memcpy(&v, at, sizeof v);
            strbuf_printf(b, "0x%04x", v);
            return;
        }
    case DT_F32: {
        float v;
        memcpy(&v, at, sizeof v);
        uint32_t bits;
        memcpy(&bits, at, sizeof bits);
        if (is_long && (bits >> 23 & 255) != 255)
            print_hex_float(b, bits);
        else
            c_print_float(b, DT_F32, (double)v, true);
        return;
    }
    case DT_F64: {
        double v;
        memcpy(&v, at, sizeof v);
        c_print_float(b, DT_F64, v, true);
        return;
    }
    default: BUG("constants of %s have no C text", dtype_info[c->dtype].name);
    }
}

static void write_const(CGen *g, CSink *s, const KBuf *c) {
    int64_t n = 0;
    BUG_IF(!k_is_int(c->n_elems, &n), "constant %s has no fixed size", c->name);
    StrBuf b = {0};
    strbuf_printf(&b, "static const %s %s[%lld] = {", c_memory_type(c->dtype), c_const_name(g, c),
                  (long long)(n > 0 ? n : 1));
    size_t column = LINE;
    for (int64_t i = 0; i < n; i++) {
        size_t before = b.n;
        strbuf_add(&b, column > LINE - 16 ? "\n    " : " ");
        if (column > LINE - 16) column = 4, before = b.n;
        print_element(&b, c, i, n > LONG_ARRAY);
        if (i + 1 < n) strbuf_add(&b, ",");
        column += b.n - before;
        if (b.n < FLUSH) continue;
        c_sink(s, strbuf_text(&b));
        b.n = 0;
    }
    strbuf_add(&b, n ? "};\n\n" : "0};\n\n");
    c_sink(s, strbuf_text(&b));
    strbuf_free(&b);
}

void c_write_consts(CGen *g, CSink *s) {
    if (g->o->weights_file) return;
    for (uint32_t i = 0; i < g->m->n_consts; i++) write_const(g, s, g->m->consts[i]);
}
