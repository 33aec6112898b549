/* NumPy's .npy: a magic string, a Python dict in text, the elements.
 *
 *     \x93NUMPY 1 0 <u16 length> {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n
 *     <data>
 *
 * Arrays of numbers, booleans and strings of a fixed width are read (S: bytes, U: code points of 32
 * bits, both padded with zeros); structured types and pickled objects are refused. Strings are
 * written as S, which cannot end in a zero byte. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "driver/tensor_file.h"

static const struct {
    const char *code;
    DType dtype;
} codes[] = {
    {"b1", DT_BOOL}, {"i1", DT_I8},  {"i2", DT_I16},  {"i4", DT_I32}, {"i8", DT_I64},
    {"u1", DT_U8},   {"u2", DT_U16}, {"u4", DT_U32},  {"u8", DT_U64}, {"f2", DT_F16},
    {"f4", DT_F32},  {"f8", DT_F64}, {"V2", DT_BF16}, /* what NumPy makes of ml_dtypes' bfloat16 */
};
enum { N_CODES = sizeof codes / sizeof *codes };

/* ---- reading --------------------------------------------------------------------------------- */

/* The header's text and what follows it; false when it is not a .npy. */
static bool find_header(const uint8_t *bytes, size_t n, const char **text, size_t *length,
                        size_t *data_at) {
    if (n < 10 || memcmp(bytes, "\x93NUMPY", 6) || bytes[6] < 1 || bytes[6] > 3) return false;
    size_t at = bytes[6] == 1 ? 10 : 12;
    if (n < at) return false;
    *length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (at == 12) *length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (*length > n - at) return false;
    *text = (const char *)bytes + at;
    *data_at = at + *length;
    return true;
}

/* What follows 'key': in the header, white space skipped; NULL when it is not there. */
static const char *header_value(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    while (isspace((unsigned char)*at)) at++;
    if (*at++ != ':') return NULL;
    while (isspace((unsigned char)*at)) at++;
    return at;
}

static bool parse_descr(const char *v, DType *t, bool *swapped) {
    if (!v || (*v != '\'' && *v != '"')) return false;
    char quote = *v++, order = *v;
    *swapped = order == '>';
    if (order == '<' || order == '>' || order == '|' || order == '=') v++;
    for (int i = 0; i < N_CODES; i++)
        if (!strncmp(v, codes[i].code, 2) && v[2] == quote) {
            *t = codes[i].dtype;
            return true;
        }
    return false;
}

/* 'S12' or '<U3': bytes of an element; 0 when it is no string type. */
static size_t string_width(const char *v, bool *is_wide, bool *swapped) {
    if (!v || (*v != '\'' && *v != '"')) return 0;
    v++;
    *swapped = *v == '>';
    if (*v == '<' || *v == '>' || *v == '|' || *v == '=') v++;
    if (*v != 'S' && *v != 'U') return 0;
    *is_wide = *v == 'U';
    unsigned long long n = strtoull(v + 1, NULL, 10);
    return n > 1 << 24 ? 0 : (size_t)n * (*is_wide ? 4 : 1);
}

static uint32_t code_point(const uint8_t *p, bool swapped) {
    uint32_t c = 0;
    for (int i = 0; i < 4; i++) c |= (uint32_t)p[swapped ? 3 - i : i] << 8 * i;
    return c > 0x10ffff ? 0xfffd : c;
}

/* The element's text without the zeros at its end, in UTF-8. */
static HostString string_element(Arena *a, const uint8_t *p, size_t width, bool is_wide,
                                 bool swapped) {
    size_t unit = is_wide ? 4 : 1, n = width / unit, out = 0;
    char *text = arena_alloc(a, width + 1);
    while (n && (is_wide ? code_point(p + 4 * (n - 1), swapped) : p[n - 1]) == 0) n--;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = is_wide ? code_point(p + 4 * i, swapped) : p[i];
        if (!is_wide || c < 0x80) {
            text[out++] = (char)c;
            continue;
        }
        int length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        text[out] = (char)((0xf00 >> length & 0xff) | c >> 6 * (length - 1));
        for (int k = 1; k < length; k++)
            text[out + (size_t)k] = (char)(0x80 | (c >> 6 * (length - 1 - k) & 0x3f));
        out += (size_t)length;
    }
    return (HostString){text, out};
}

/* Column-major strings are put in row-major order by from_fortran. */
static bool parse_strings(Arena *a, const uint8_t *data, size_t n, size_t width, bool is_wide,
                          bool swapped, HostTensor *t) {
    uint64_t count = t->n_bytes / sizeof(HostString);
    if (width && count > n / width) return false;
    HostString *s = t->data;
    for (uint64_t i = 0; i < count; i++)
        s[i] = string_element(a, data + i * width, width, is_wide, swapped);
    return true;
}

static bool parse_shape(const char *v, HostTensor *t) {
    if (!v || *v++ != '(') return false;
    for (t->rank = 0;;) {
        while (isspace((unsigned char)*v) || *v == ',') v++;
        if (*v == ')') return true;
        if (!isdigit((unsigned char)*v) || t->rank == MAX_RANK) return false;
        char *end;
        unsigned long long dim = strtoull(v, &end, 10);
        if (dim > INT64_MAX) return false;
        t->dims[t->rank++] = (int64_t)dim;
        v = end;
        if (*v == 'L') v++; /* as Python 2 wrote it */
    }
}

/* Reverses the bytes of each element. */
static void swap_bytes(uint8_t *p, uint64_t n_bytes, int width) {
    for (uint64_t i = 0; i < n_bytes; i += (uint64_t)width)
        for (int b = 0; b < width / 2; b++) {
            uint8_t x = p[i + (uint64_t)b];
            p[i + (uint64_t)b] = p[i + (uint64_t)(width - 1 - b)];
            p[i + (uint64_t)(width - 1 - b)] = x;
        }
}

/* Column-major elements into row-major order. */
static void from_fortran(const HostTensor *t, const uint8_t *from, uint8_t *to) {
    uint64_t width = (uint64_t)dtype_bytes(t->dtype), count = t->n_bytes / width;
    int64_t index[MAX_RANK] = {0};
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = 0;
        for (int a = 0; a < t->rank; a++) at = at * (uint64_t)t->dims[a] + (uint64_t)index[a];
        memcpy(to + at * width, from + i * width, width);
        for (int a = 0; a < t->rank && ++index[a] == t->dims[a]; a++) index[a] = 0;
    }
}

bool npy_parse(Arena *a, const char *path, const uint8_t *bytes, size_t n, HostTensor *t, Diag *d) {
    SrcLoc where = {.file = path, .index = -1, .offset = -1};
    const char *text;
    size_t length, at;
    if (!find_header(bytes, n, &text, &length, &at)) {
        diag_error(d, where, "is not a .npy file");
        return false;
    }
    char *header = arena_alloc(a, length + 1);
    memcpy(header, text, length);
    bool swapped = false;
    const char *fortran = header_value(header, "'fortran_order'");
    *t = (HostTensor){.name = ""};
    bool is_wide = false;
    const char *descr = header_value(header, "'descr'");
    size_t width = string_width(descr, &is_wide, &swapped);
    if (width && fortran) {
        t->dtype = DT_STR;
        bool good = parse_shape(header_value(header, "'shape'"), t) &&
                    tensor_size(DT_STR, t->dims, t->rank, &t->n_bytes) &&
                    t->n_bytes / sizeof(HostString) <= (n - at) / width;
        if (good) t->data = arena_alloc(a, t->n_bytes + 1);
        if (good && parse_strings(a, bytes + at, n - at, width, is_wide, swapped, t)) {
            if (*fortran != 'T' || t->rank < 2) return true;
            HostString *rows = arena_alloc(a, t->n_bytes + 1);
            from_fortran(t, t->data, (uint8_t *)rows);
            t->data = rows;
            return true;
        }
        diag_error(d, where, "does not hold the strings that it announces: %s", header);
        return false;
    }
    if (!fortran || !parse_descr(header_value(header, "'descr'"), &t->dtype, &swapped)) {
        diag_error(d, where, "does not hold an array of numbers: %s", header);
        return false;
    }
    if (!parse_shape(header_value(header, "'shape'"), t) ||
        !tensor_size(t->dtype, t->dims, t->rank, &t->n_bytes)) {
        diag_error(d, where, "has a shape that is not read: %s", header);
        return false;
    }
    if (t->n_bytes > n - at) {
        diag_error(d, where, "ends early: %" PRIu64 " bytes of data announced, %zu there",
                   t->n_bytes, n - at);
        return false;
    }
    t->data = arena_alloc(a, t->n_bytes ? t->n_bytes : 1);
    if (*fortran == 'T' && t->rank > 1)
        from_fortran(t, bytes + at, t->data);
    else
        memcpy(t->data, bytes + at, t->n_bytes);
    if (swapped) swap_bytes(t->data, t->n_bytes, dtype_bytes(t->dtype));
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

static size_t longest_string(const HostTensor *t) {
    const HostString *s = t->data;
    size_t most = 1;
    for (uint64_t i = 0; i < t->n_bytes / sizeof *s; i++)
        if (s[i].n_bytes > most) most = s[i].n_bytes;
    return most;
}

static void write_strings(Output *o, const HostTensor *t, size_t width) {
    const HostString *s = t->data;
    char *padded = xmalloc(width);
    for (uint64_t i = 0; i < t->n_bytes / sizeof *s; i++) {
        memset(padded, 0, width);
        if (s[i].n_bytes) memcpy(padded, s[i].bytes, s[i].n_bytes);
        output_write(o, padded, width);
    }
    free(padded);
}

void npy_write(Output *o, const HostTensor *t) {
    const char *code = "";
    char string_code[32];
    size_t width = t->dtype == DT_STR ? longest_string(t) : 0;
    if (width) {
        snprintf(string_code, sizeof string_code, "S%zu", width);
        code = string_code;
    }
    for (int i = 0; i < N_CODES; i++)
        if (codes[i].dtype == t->dtype) code = codes[i].code;
    StrBuf text = {0};
    strbuf_printf(&text, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
                  dtype_bytes(t->dtype) > 1 && !width ? '<' : '|', code);
    for (int i = 0; i < t->rank; i++)
        strbuf_printf(&text, "%" PRId64 "%s", t->dims[i],
                      t->rank == 1      ? ","
                      : i + 1 < t->rank ? ", "
                                        : "");
    strbuf_add(&text, "), }");
    while ((10 + text.n + 1) % 64) strbuf_add(&text, " "); /* data start at a multiple of 64 */
    strbuf_add(&text, "\n");
    uint8_t head[10] = "\x93NUMPY\x01";
    head[8] = (uint8_t)(text.n & 255);
    head[9] = (uint8_t)(text.n >> 8);
    output_write(o, head, sizeof head);
    output_write(o, text.text, text.n);
    if (width)
        write_strings(o, t, width);
    else
        output_write(o, t->data, t->n_bytes);
    strbuf_free(&text);
}
