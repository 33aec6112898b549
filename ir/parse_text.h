/* What the parsers of the levels share: tokens, names in scope, expressions, constants. Internal to
 * ir/parse*.c. After the first message every token is T_END, so loops end by themselves. */
#ifndef SMELT_IR_PARSE_TEXT_H
#define SMELT_IR_PARSE_TEXT_H

#include "ir/parse.h"

typedef enum {
    T_END,
    T_WORD,   /* identifier */
    T_NUMBER, /* digits, dot, exponent and dtype suffix as written, without sign */
    T_STRING, /* text: decoded */
    T_VALUE,  /* %name, %"name", %name~2, %7 */
    T_LINE,   /* $7 */
    T_HASH,   /* @0123456789abcdef */
    T_SIGN,   /* operators and brackets, one or two characters */
} TokenKind;

typedef struct Token {
    TokenKind kind;
    const char *text; /* interned: word, sign, decoded string, number, value's name */
    uint64_t number;  /* VALUE: which of this name (1 first); LINE: number; HASH: hash */
    int line, column;
    bool starts_line; /* nothing but blanks in front of it */
} Token;

enum { PARSE_NEST = 400, PARSE_LIST = 1 << 20, PARSE_OPERANDS = 250 };

typedef struct Parse {
    const char *at, *line_start;
    int line;
    Token tok; /* the token to be read next */
    bool failed;
    int nesting;
    Module *m;
    KCtx *k;
    Diag *d;
    Arena *a;     /* for the parse alone */
    bool exact;   /* kernel level: expressions as written; else they are simplified */
    StrMap *vars; /* name to KVar in scope */
    StrMap *bufs; /* name to KBuf in scope */
    VEC(struct Hidden {
        const char *name;
        void *old;
        bool is_buf;
    })
    hidden;                   /* what scopes gave up */
    VEC(const KExpr *) lines; /* $1, $2, ... of the statement */
    const Module *source;     /* constants by hash, or NULL */
    StrMap *by_hash;
    struct KernelParse *kernel; /* parse_kernel.c's own */
    StrMap *values;             /* graph level: "2~name" to Value */
} Parse;

/* ---- tokens (parse.c) */
void parse_next(Parse *p);
/* Reports at the current token, once. Returns false. */
bool parse_fail(Parse *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool parse_is(const Parse *p, const char *sign_or_word);
bool parse_accept(Parse *p, const char *sign_or_word);
bool parse_expect(Parse *p, const char *sign_or_word);
/* The identifier here, or "" after a message. */
const char *parse_word(Parse *p, const char *what);
const char *parse_string(Parse *p, const char *what);
/* An integer with an optional minus sign. */
int64_t parse_int(Parse *p, const char *what);
DType parse_dtype(Parse *p);
/* " [lo, hi]" or nothing. */
void parse_range(Parse *p, int64_t *lo, int64_t *hi);
/* symbol or size lines: NAME [lo, hi] "API name" */
KVar *parse_symbol(Parse *p, bool computed);

/* ---- names in scope */
uint32_t parse_scope(const Parse *p);
void parse_bind(Parse *p, const char *name, void *what, bool is_buf);
void parse_leave(Parse *p, uint32_t scope);

/* ---- expressions (parse_expr.c) */
const KExpr *parse_expr(Parse *p);
/* An expression of this dtype; a constant 0 of it after a message. */
const KExpr *parse_typed(Parse *p, DType t);
/* Reads `$n = expr` lines in front of a statement. */
void parse_lines(Parse *p);
/* "[a, b]" of i64: fills at most cap, returns how many. */
int parse_dims(Parse *p, const KExpr **dims, int cap);

/* ---- numbers and constants (parse_const.c) */
/* Is a number token's text a float literal? */
bool parse_is_float(const char *text);
/* Literal text, split from its dtype suffix (DT_NONE without one). */
DType parse_suffix(const char *text, size_t *n_digits);
bool parse_uint(Parse *p, const char *digits, size_t n, bool negative, int64_t *v);
double parse_double(DType t, const char *digits, size_t n);
/* "= {...}", "= @hash" or "= random SEED": n elements in module memory; NULL after a message. */
const void *parse_data(Parse *p, DType t, int64_t n, uint64_t *n_bytes);

/* ---- levels */
void parse_graph_level(Parse *p);
void parse_kernel_level(Parse *p);

#endif
