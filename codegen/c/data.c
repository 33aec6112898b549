/* Constants of a model as C arrays of their own element type, exact and readable: decimals that read
 * back as the same float. 16-bit floats are their bits. */
#include "codegen/c/c_gen.h"

#include <string.h>

enum { LINE = 100, FLUSH = 1 << 16 };

void c_sink(CSink *s, const char *text) {
    if (s->file) output_text(s->file, text);
    else strbuf_add(s->text, text);
}

const char *c_const_name(const CGen *g, const KBuf *b) {
    return arena_printf(g->a, "w%u_%s", b->index, c_identifier(g->a, b->name));
}

static void print_element(StrBuf *b, const KBuf *c, int64_t i) {
    const uint8_t *at = (const uint8_t *)c->data + i * dtype_bytes(c->dtype);
    switch (c->dtype) {
#define INTEGER(T, ctype)                                                                          \
    case DT_##T: {                                                                                 \
        ctype v;                                                                                   \
        memcpy(&v, at, sizeof v);                                                                  \
        c_print_int(b, DT_##T, (int64_t)v);                                                        \
        return;                                                                                    \
    }
        INTEGER(I8, int8_t) INTEGER(I16, int16_t) INTEGER(I32, int32_t) INTEGER(I64, int64_t)
        INTEGER(U8, uint8_t) INTEGER(U16, uint16_t) INTEGER(U32, uint32_t) INTEGER(U64, uint64_t)
        INTEGER(BOOL, uint8_t)
#undef INTEGER
    case DT_F16:
    case DT_BF16: {
        uint16_t v;
        memcpy(&v, at, sizeof v);
        strbuf_printf(b, "0x%04x", v);
        return;
    }
    case DT_F32: {
        float v;
        memcpy(&v, at, sizeof v);
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
        print_element(&b, c, i);
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
