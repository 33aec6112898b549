/* Text: see str.h. The intern table is the compiler's one mutable global. */
#include "ir/support/str.h"

#include <stdlib.h>
#include <string.h>

#include "ir/support/arena.h"
#include "ir/support/map.h"

static void strbuf_reserve(StrBuf *b, size_t more) {
    if (b->n + more + 1 <= b->cap) return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < b->n + more + 1) cap *= 2;
    b->text = xrealloc(b->text, cap);
    b->cap = cap;
}

void strbuf_add_bytes(StrBuf *b, const char *s, size_t n) {
    strbuf_reserve(b, n);
    if (n) memcpy(b->text + b->n, s, n);
    b->n += n;
    b->text[b->n] = 0;
}

void strbuf_add(StrBuf *b, const char *s) {
    strbuf_add_bytes(b, s, strlen(s));
}

void strbuf_vprintf(StrBuf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) return;
    strbuf_reserve(b, (size_t)n);
    vsnprintf(b->text + b->n, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
}

void strbuf_printf(StrBuf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(b, fmt, ap);
    va_end(ap);
}

void strbuf_free(StrBuf *b) {
    free(b->text);
    *b = (StrBuf){0};
}

const char *strbuf_text(const StrBuf *b) {
    return b->text ? b->text : "";
}

/* Length of the valid, printable, non-bidi UTF-8 sequence at s; 0 when there is none. */
static size_t printable_sequence(const unsigned char *s) {
    unsigned char c = s[0];
    if (c < 0x80) return c >= 0x20 && c != 0x7f;
    size_t n = c >= 0xf0 && c < 0xf5   ? 4
               : c >= 0xe0 && c < 0xf0 ? 3
               : c >= 0xc2 && c < 0xe0 ? 2
                                       : 0;
    if (!n) return 0;
    uint32_t code = c & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    bool too_long = (n == 3 && code < 0x800) || (n == 4 && code < 0x10000);
    bool control = code < 0xa0 || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff;
    bool bidi = (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
                (code >= 0x2060 && code <= 0x206f) || code == 0xfeff || code == 0x61c;
    return too_long || control || bidi ? 0 : n;
}

void strbuf_escaped(StrBuf *b, const char *text, Escape how) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = printable_sequence(s);
        bool ascii_only = how == ESC_C_COMMENT || how == ESC_QUOTED;
        if (!n || (n > 1 && ascii_only)) {
            strbuf_printf(b,
                          how == ESC_JSON     ? "\\u%04x"
                          : how == ESC_QUOTED ? "\\%03o"
                                              : "\\x%02x",
                          *s);
            n = 1;
        } else if (how == ESC_C_COMMENT && (*s == '*' || *s == '/' || *s == '\\' || *s == '?')) {
            /* neither a comment's end or start, nor a line splice or trigraph */
            strbuf_add(b,
                       *s == '/' && s[1] != '*' && s[1] != '/' &&
                               (s == (const unsigned char *)text || (s[-1] != '*' && s[-1] != '/'))
                           ? "/"
                           : "_");
        } else if ((how == ESC_QUOTED || how == ESC_JSON) && (*s == '"' || *s == '\\')) {
            strbuf_printf(b, "\\%c", *s);
        } else if (how == ESC_QUOTED && *s == '?') {
            strbuf_add(b, "\\?");
        } else {
            strbuf_add_bytes(b, (const char *)s, n);
        }
        s += n;
    }
}

const char *intern_bytes(const char *s, size_t n) {
    static Arena *arena;
    static StrMap *table;
    if (!arena) {
        arena = arena_create();
        table = strmap_create(arena);
    }
    const char *known = strmap_get_bytes(table, s, n);
    if (known) return known;
    char *copy = arena_alloc(arena, n + 1);
    if (n) memcpy(copy, s, n);
    strmap_put_bytes(table, copy, n, copy);
    return copy;
}

const char *intern(const char *s) {
    return intern_bytes(s, strlen(s));
}
