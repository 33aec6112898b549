/* What the printers of the levels share: names, expressions, constants. Internal to ir/print_*.c;
 * the parser includes it for the words and limits that both sides must agree on. */
#ifndef SMELT_IR_PRINT_TEXT_H
#define SMELT_IR_PRINT_TEXT_H

#include "ir/graph.h"
#include "ir/kernel.h"

enum {
    TEXT_INLINE_ELEMS = 64, /* constants with more elements are shown by their hash */
    TEXT_SHARED_SIZE = 4,   /* larger expressions get a `$` line when they are used twice */
    TEXT_NEST = 40,         /* deeper expressions get a `$` line anyway */
};

/* Pointer to pointer; iteration is not offered, so addresses decide nothing. */
typedef struct TextMap {
    const void **key;
    void **value;
    uint32_t n, cap;
} TextMap;

void *textmap_get(const TextMap *m, const void *key);
void textmap_put(TextMap *m, const void *key, void *value);
void textmap_clear(TextMap *m);
void textmap_free(TextMap *m);

typedef struct Text {
    StrBuf *out;
    Arena *a;
    int indent;
    TextMap name;            /* variable, buffer, tensor or value to its name; NULL out of scope */
    StrMap *taken;           /* names in use; NULL after their scope ended */
    VEC(const void *) bound; /* what has a name, in order */
    TextMap uses;            /* expression to its Use, within one statement */
    uint32_t n_shared;
    bool dims;        /* graph level: sums and products are sorted, for parsing simplifies */
    bool definitions; /* loads are shown as t.flat[i] beside at()'s t[i, j] */
} Text;

void text_begin(Text *t, StrBuf *out);
void text_end(Text *t);
/* Starts a line / ends it. */
void text_line(Text *t);
void text_newline(Text *t);
void text_quoted(Text *t, const char *s);

/* Gives p a name that no other thing in scope has, made from `wanted`; keeps the one it has. */
const char *text_bind(Text *t, const void *p, const char *wanted);
/* p's name; what is not in scope is shown with a question mark. */
const char *text_name(Text *t, const void *p, const char *wanted);
/* Scope: names bound after text_scope() are free again after text_leave(). */
uint32_t text_scope(const Text *t);
void text_leave(Text *t, uint32_t scope);

/* Writes the `$` lines that these expressions (NULL: none) need; text_expr refers to them until the
 * next call. */
void text_share(Text *t, const KExpr *const *roots, int n);
void text_expr(Text *t, const KExpr *e);
/* Dims or other lists: "a, b, c". */
void text_exprs(Text *t, const KExpr *const *e, int n);
/* " [lo, hi]" when it says more than the default range. */
void text_range(Text *t, const KVar *v, int64_t default_lo, int64_t default_hi);

/* A line that declares a symbol; its name in the API behind it where that is no identifier. */
void text_symbol(Text *t, const KVar *v, const char *word);

/* A float literal with '.' or exponent: shortest digits that read back as v, without dtype suffix.
 */
void text_float(StrBuf *out, DType t, double v);
/* " = {1, 2}" or " = @hash" of constant bytes. */
void text_data(Text *t, DType dtype, const void *data, uint64_t n_elems);
uint64_t text_hash(DType dtype, const void *data, uint64_t n_elems);

const char *kmem_word(KMem m);
const char *kmark_word(KLoopMark m);
/* Infix operator's spelling and binding strength; NULL: printed as a call. */
const char *kop_infix(KOp op, int *strength);
enum {
    STRENGTH_SELECT = 1,
    STRENGTH_OR,
    STRENGTH_XOR,
    STRENGTH_AND,
    STRENGTH_CMP,
    STRENGTH_SHIFT,
    STRENGTH_ADD,
    STRENGTH_DIV,
    STRENGTH_MUL,
    STRENGTH_UNARY,
    STRENGTH_POST
};

/* print_kernel.c */
void text_block(Text *t, const KBlock *b);

#endif
