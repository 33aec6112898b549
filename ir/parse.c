/* The parser's tokens, names and entry points. Lines matter in one way: an infix operator stands on
 * the line of its left operand, so a statement needs no other end than the end of its line. */
#include "ir/parse.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ir/parse_text.h"
#include "ir/support/map.h"

/* ---- messages -------------------------------------------------------------------------------- */

bool parse_fail(Parse *p, const char *fmt, ...) {
    if (p->failed) return false;
    StrBuf text = {0};
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&text, fmt, ap);
    va_end(ap);
    diag_error(p->d, SRC_NOWHERE, "line %d, column %d: %s", p->tok.line, p->tok.column,
               strbuf_text(&text));
    strbuf_free(&text);
    p->failed = true;
    p->tok.kind = T_END;
    p->tok.text = "";
    return false;
}

static const char *token_text(const Parse *p) {
    return p->tok.kind == T_END ? "the end" : *p->tok.text ? p->tok.text : "\"\"";
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void skip_blanks(Parse *p) {
    for (;; p->at++) {
        if (*p->at == '#')
            while (*p->at && *p->at != '\n') p->at++;
        if (*p->at == '\n') {
            p->line++;
            p->line_start = p->at + 1;
            p->tok.starts_line = true;
        } else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r') {
            return;
        }
    }
}

static int octal(const char *s) {
    int v = 0;
    for (int i = 0; i < 3; i++) {
        if (s[i] < '0' || s[i] > '7') return -1;
        v = v * 8 + (s[i] - '0');
    }
    return v > 0 && v < 256 ? v : -1;
}

/* "..." with \\, \", \? and \ooo; stands behind the opening quote. */
static const char *quoted(Parse *p) {
    StrBuf b = {0};
    const char *s = p->at + 1;
    for (; *s && *s != '"' && *s != '\n'; s++) {
        char c = *s;
        if (c == '\\') {
            int v = octal(s + 1);
            if (v >= 0) {
                c = (char)v;
                s += 3;
            } else if (s[1] == '"' || s[1] == '\\' || s[1] == '?') {
                c = *++s;
            } else {
                parse_fail(p, "unknown escape in a string");
                break;
            }
        }
        strbuf_add_bytes(&b, &c, 1);
    }
    if (*s != '"')
        parse_fail(p, "a string has no end");
    else
        s++;
    p->at = s;
    const char *text = intern(strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

static uint64_t digits(Parse *p) {
    uint64_t v = 0;
    if (!isdigit((unsigned char)*p->at)) parse_fail(p, "expected a number");
    for (; isdigit((unsigned char)*p->at); p->at++) {
        v = v * 10 + (uint64_t)(*p->at - '0');
        if (v > UINT32_MAX) return parse_fail(p, "number is too large");
    }
    return v;
}

static bool is_value_char(char c) {
    return isalnum((unsigned char)c) || (c && strchr("_./-", c));
}

static void value_token(Parse *p) {
    p->at++;
    p->tok.kind = T_VALUE;
    p->tok.number = 1;
    if (*p->at == '"') {
        p->tok.text = quoted(p);
    } else if (isdigit((unsigned char)*p->at)) {
        p->tok.text = "";
        p->tok.number = digits(p) + 1;
        return;
    } else {
        const char *start = p->at;
        while (is_value_char(*p->at)) p->at++;
        p->tok.text = intern_bytes(start, (size_t)(p->at - start));
    }
    if (*p->at != '~') return;
    p->at++;
    p->tok.number = digits(p);
    if (p->tok.number < 2) parse_fail(p, "numbers behind ~ start at 2");
}

static void number_token(Parse *p) {
    const char *start = p->at;
    p->tok.kind = T_NUMBER;
    while (isdigit((unsigned char)*p->at)) p->at++;
    if (p->at[0] == '.' && p->at[1] != '.') p->at++;
    while (isdigit((unsigned char)*p->at)) p->at++;
    if (*p->at == 'e' &&
        (isdigit((unsigned char)p->at[1]) ||
         ((p->at[1] == '-' || p->at[1] == '+') && isdigit((unsigned char)p->at[2])))) {
        p->at += 2;
        while (isdigit((unsigned char)*p->at)) p->at++;
    }
    while (isalnum((unsigned char)*p->at)) p->at++;
    p->tok.text = intern_bytes(start, (size_t)(p->at - start));
}

static void hash_token(Parse *p) {
    p->tok.kind = T_HASH;
    p->tok.number = 0;
    p->tok.text = "@";
    p->at++;
    int n = 0;
    for (; isxdigit((unsigned char)*p->at) && n < 16; p->at++, n++) {
        int c = *p->at;
        p->tok.number = p->tok.number << 4 | (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (n != 16) parse_fail(p, "a hash has 16 hexadecimal digits");
}

static void sign_token(Parse *p) {
    static const char *const pairs[] = {"==", "!=", "<=", "<<", ">>", "//", ".."};
    size_t n = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!strncmp(p->at, pairs[i], 2)) n = 2;
    p->tok.kind = T_SIGN;
    p->tok.text = intern_bytes(p->at, n);
    if (!strchr("=!<>/.[](){}:,?+-*%&|^_", *p->at))
        parse_fail(p, "unexpected character");
    else
        p->at += n;
}

void parse_next(Parse *p) {
    if (p->failed) return;
    p->tok = (Token){.kind = T_END, .text = ""};
    skip_blanks(p);
    p->tok.line = p->line;
    p->tok.column = (int)(p->at - p->line_start) + 1;
    char c = *p->at;
    if (!c) {
        return;
    } else if (isalpha((unsigned char)c) || c == '_') {
        const char *start = p->at;
        while (isalnum((unsigned char)*p->at) || *p->at == '_') p->at++;
        p->tok.kind = T_WORD;
        p->tok.text = intern_bytes(start, (size_t)(p->at - start));
    } else if (isdigit((unsigned char)c)) {
        number_token(p);
    } else if (c == '"') {
        p->tok.kind = T_STRING;
        p->tok.text = quoted(p);
    } else if (c == '%' && (is_value_char(p->at[1]) || p->at[1] == '"')) {
        value_token(p);
    } else if (c == '$') {
        p->at++;
        p->tok.kind = T_LINE;
        p->tok.text = "$";
        p->tok.number = digits(p);
    } else if (c == '@') {
        hash_token(p);
    } else {
        sign_token(p);
    }
    if (p->failed) p->tok.kind = T_END;
}

bool parse_is(const Parse *p, const char *text) {
    return (p->tok.kind == T_WORD || p->tok.kind == T_SIGN) && !strcmp(p->tok.text, text);
}

bool parse_accept(Parse *p, const char *text) {
    if (!parse_is(p, text)) return false;
    parse_next(p);
    return true;
}

bool parse_expect(Parse *p, const char *text) {
    return parse_accept(p, text) || parse_fail(p, "expected '%s', found %s", text, token_text(p));
}

const char *parse_word(Parse *p, const char *what) {
    const char *word = p->tok.text;
    if (p->tok.kind != T_WORD) {
        parse_fail(p, "expected %s, found %s", what, token_text(p));
        return "";
    }
    parse_next(p);
    return word;
}

const char *parse_string(Parse *p, const char *what) {
    const char *text = p->tok.text;
    if (p->tok.kind != T_STRING) {
        parse_fail(p, "expected %s in quotes, found %s", what, token_text(p));
        return "";
    }
    parse_next(p);
    return text;
}

int64_t parse_int(Parse *p, const char *what) {
    int64_t v = 0;
    bool negative = parse_accept(p, "-");
    size_t n = strlen(p->tok.text);
    if (p->tok.kind != T_NUMBER) {
        parse_fail(p, "expected %s, found %s", what, token_text(p));
        return 0;
    }
    if (!parse_uint(p, p->tok.text, n, negative, &v)) return 0;
    parse_next(p);
    return v;
}

DType parse_dtype(Parse *p) {
    DType t = p->tok.kind == T_WORD ? dtype_from_name(p->tok.text) : DT_NONE;
    if (t == DT_NONE)
        parse_fail(p, "expected a dtype, found %s", token_text(p));
    else
        parse_next(p);
    return t ? t : DT_F32;
}

/* ---- symbols and scopes ---------------------------------------------------------------------- */

static int64_t range_end(Parse *p, int64_t otherwise) {
    bool is_inf = parse_is(p, "inf") || (parse_is(p, "-") && !strncmp(p->at, "inf", 3));
    if (!is_inf) return parse_int(p, "the end of a range");
    parse_accept(p, "-");
    parse_accept(p, "inf");
    return otherwise;
}

void parse_range(Parse *p, int64_t *lo, int64_t *hi) {
    if (p->tok.starts_line || !parse_accept(p, "[")) return;
    *lo = range_end(p, INT64_MIN);
    parse_expect(p, ",");
    *hi = range_end(p, INT64_MAX);
    parse_expect(p, "]");
    if (*lo > *hi) parse_fail(p, "the range is empty");
}

KVar *parse_symbol(Parse *p, bool computed) {
    int64_t lo = computed ? 0 : 1, hi = INT32_MAX;
    const char *word = parse_word(p, "a symbol's name"), *name = word;
    parse_range(p, &lo, &hi);
    if (p->tok.kind == T_STRING && !p->tok.starts_line) name = parse_string(p, "a name");
    const KExpr *bound =
        computed && parse_accept(p, "<=") ? parse_typed(p, DT_I64) : k_int(p->k, hi);
    const KExpr *value = computed && parse_accept(p, "is") ? parse_typed(p, DT_I64) : NULL;
    if (p->failed) return NULL;
    bool is_known =
        strmap_get(p->vars, word) || (!computed && strmap_get(p->m->symbol_by_name, name));
    bool is_negative = !computed && lo < 0; /* what is read from data may be negative */
    if (is_known || is_negative) {
        parse_fail(p, is_negative ? "symbol '%s' can be negative" : "symbol '%s' is declared twice",
                   word);
        return NULL;
    }
    KVar *v = computed ? module_computed_symbol(p->m, name, bound) : module_symbol(p->m, name);
    v->lo = lo;
    v->hi = hi;
    v->value = value;
    strmap_put(p->vars, word, v);
    k_var(p->k, v); /* in order of declaration, so that sums keep their order */
    return v;
}

uint32_t parse_scope(const Parse *p) {
    return p->hidden.n;
}

void parse_bind(Parse *p, const char *name, void *what, bool is_buf) {
    StrMap *map = is_buf ? p->bufs : p->vars;
    struct Hidden h = {name, strmap_get(map, name), is_buf};
    vec_push(p->a, &p->hidden, h);
    strmap_put(map, name, what);
}

void parse_leave(Parse *p, uint32_t scope) {
    while (p->hidden.n > scope) {
        struct Hidden *h = &p->hidden.at[--p->hidden.n];
        strmap_put(h->is_buf ? p->bufs : p->vars, h->name, h->old);
    }
}

/* ---- entry points ---------------------------------------------------------------------------- */

static Module *parse_text(const char *text, const Target *target, const Module *source, Diag *d) {
    Module *m = module_create(d, target);
    Parse p = {
        .at = text, .line_start = text, .line = 1, .m = m, .k = m->k, .d = d, .a = arena_create()};
    p.source = source;
    p.vars = strmap_create(p.a);
    p.bufs = strmap_create(p.a);
    p.values = strmap_create(p.a);
    p.tok.starts_line = true;
    parse_next(&p);
    if (parse_accept(&p, "graph"))
        parse_graph_level(&p);
    else if (parse_accept(&p, "kernels"))
        parse_kernel_level(&p);
    else
        parse_fail(&p, "IR text starts with 'graph' or 'kernels', found %s", token_text(&p));
    if (!p.failed && p.tok.kind != T_END) parse_fail(&p, "text after the end: %s", token_text(&p));
    arena_destroy(p.a);
    if (!p.failed) return m;
    module_destroy(m);
    return NULL;
}

Module *parse_module(const char *text, const Target *target, Diag *d) {
    return parse_text(text, target, NULL, d);
}

Module *parse_module_like(const char *text, const Module *source, Diag *d) {
    return parse_text(text, source->target, source, d);
}

bool parse_is_ir(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && (isspace((unsigned char)text[i]) || text[i] == '#')) {
        if (text[i] == '#')
            while (i < n && text[i] != '\n') i++;
        else
            i++;
    }
    return (n - i > 6 && !memcmp(text + i, "graph ", 6)) ||
           (n - i > 8 && !memcmp(text + i, "kernels ", 8));
}
