/* Text: a growing buffer, interned strings and escaping.
 *
 * Names from a model are untrusted: they reach a terminal, C, JSON or HTML only through
 * strbuf_escaped(). Interned strings compare by pointer and live until the process ends. */
#ifndef SMELT_IR_SUPPORT_STR_H
#define SMELT_IR_SUPPORT_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct StrBuf {
    char *text; /* NUL-terminated; owned; NULL when nothing was written */
    size_t n, cap;
} StrBuf;

void strbuf_add(StrBuf *b, const char *s);
void strbuf_add_bytes(StrBuf *b, const char *s, size_t n);
void strbuf_printf(StrBuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(StrBuf *b, const char *fmt, va_list ap);
void strbuf_free(StrBuf *b);
/* The text so far, "" when empty; valid until the next change. */
const char *strbuf_text(const StrBuf *b);

typedef enum { ESC_TERMINAL, ESC_C_COMMENT, ESC_QUOTED, ESC_JSON } Escape;
/* Appends s so that it cannot leave its surroundings: control, bidi and invalid UTF-8 bytes
 * become \xNN; comments cannot be closed; quotes and backslashes are escaped where it matters. */
void strbuf_escaped(StrBuf *b, const char *s, Escape how);

/* The one copy of this text. */
const char *intern(const char *s);
const char *intern_bytes(const char *s, size_t n);

#endif
