/* Tokenizer: the tokens of each string along a new last axis, parts of the input, padded with one
 * constant string to the most that a string has (a computed symbol).
 *
 * Tokens are the longest matches of a pattern from left to right, what lies between such matches,
 * or single characters; the pattern is a table as in regex_match.c, walked from each position until
 * it is dead. Two programs: the first counts, the second writes. */
#include <string.h>

#include "ir/ops/check.h"
#include "ir/ops/regex.h"
#include "ir/ops/text_write.h"

typedef enum { TOKENS_MATCH, TOKENS_BETWEEN, TOKENS_CHARS } TokenKind;

/* What the attributes say; the pattern is NULL for characters. */
typedef struct TokenRule {
    TokenKind kind;
    const char *pattern, *pad;
    int64_t least; /* characters of a token */
} TokenRule;

static bool refuse(Module *m, const Node *n, const char *what) {
    diag_unsupported(m->diag, n->loc, "%s", what);
    return false;
}

static bool read_rule(Module *m, const Node *n, TokenRule *r) {
    const Attr *separators = node_attr(n, "separators");
    const char *tokens = attr_string(n, "tokenexp", "");
    r->pad = attr_string(n, "pad_value", "");
    r->least = attr_int(n, "mincharnum", 1);
    r->kind = TOKENS_MATCH;
    r->pattern = tokens;
    if (!check_attr_int(m, n, "mincharnum", r->least, 1, INT32_MAX)) return false;
    if (attr_int(n, "mark", 0)) return refuse(m, n, "mark = 1 is not supported");
    if (!separators && *tokens) return true;
    if (!separators || separators->n < 1) {
        diag_error(m->diag, n->loc, "neither separators nor tokenexp are given");
        return false;
    }
    if (separators->n > 1)
        return refuse(m, n, "more than one separator is not supported; write them as a|b");
    r->pattern = separators->strings[0];
    r->kind = *r->pattern ? TOKENS_BETWEEN : TOKENS_CHARS;
    return true;
}

static bool compile_rule(Module *m, const Node *n, const TokenRule *r, Regex *x) {
    RegexError error;
    if (r->kind == TOKENS_CHARS) return true;
    if (!regex_compile(m->arena, r->pattern, x, &error)) {
        if (error.unsupported)
            diag_unsupported(m->diag, n->loc, "pattern %s (at its byte %d)", error.text, error.at);
        else
            diag_error(m->diag, n->loc, "pattern %s (at its byte %d)", error.text, error.at);
        return false;
    }
    if (x->looks_around)
        return refuse(m, n, "patterns with ^, $, \\b and their kind are not supported");
    if (x->accepts[1]) return refuse(m, n, "patterns that match nothing are not supported");
    return true;
}

bool tokenizer_infer(Module *m, Node *n) {
    TokenRule r;
    Regex x;
    if (!infer_dtype(m, n, 0, CLASS_STRING) || !read_rule(m, n, &r) || !compile_rule(m, n, &r, &x))
        return false;
    Shape in = n->in[0]->shape;
    if (n->out[0]->shape.rank == in.rank + 1) return true; /* inferred before: the symbol stays */
    if (in.rank == MAX_RANK) return refuse(m, n, "a result of so high a rank is not supported");
    Shape out = shape_make(m->arena, in.rank + 1);
    for (int i = 0; i < in.rank; i++) out.dims[i] = in.dims[i];
    out.dims[in.rank] = text_free_size(m, "tokens");
    return infer_set(m, n, 0, DT_STR, out);
}

/* A walk over string s of n bytes. */
typedef struct Walk {
    Def *d;
    const TokenRule *rule;
    const Regex *regex;
    KTensor *classes, *next, *accepts;
    const KExpr *s, *n;
    KBuf *count, *out; /* out: NULL when tokens are counted only */
    const KExpr *row;  /* of out */
} Walk;

/* Is the byte at i the first of a character? */
static const KExpr *begins_char(Walk *w, const KExpr *i) {
    KCtx *k = w->d->k;
    const KExpr *top = k_and(k, k_str_byte(k, w->s, i), k_const_i(k, DT_U8, 0xc0));
    return k_ne(k, top, k_const_i(k, DT_U8, 0x80));
}

/* The bytes from .. to are a token if they have enough characters. */
static void take(Walk *w, const KExpr *from, const KExpr *to) {
    KBuild *b = &w->d->b;
    KCtx *k = w->d->k;
    const KExpr *n_chars = k_sub(k, to, from);
    if (w->rule->least > 1 && w->rule->kind != TOKENS_CHARS) {
        KBuf *chars = kb_variable(b, "chars", k_int(k, 0));
        const KExpr *i = k_add(k, from, kb_for(b, LOOP_SERIAL, "i", n_chars));
        const KExpr *one = k_cast(k, DT_I64, begins_char(w, i));
        kb_set(b, chars, k_add(k, kb_get(b, chars), one));
        kb_end(b);
        n_chars = kb_let(b, "chars", kb_get(b, chars));
    }
    int64_t least = w->rule->kind == TOKENS_CHARS ? 1 : w->rule->least;
    kb_if(b, k_le(k, k_int(k, least), n_chars));
    const KExpr *count = kb_let(b, "at", kb_get(b, w->count));
    if (w->out)
        kb_store(b, w->out, k_add(k, w->row, count), k_str_sub(k, w->s, from, k_sub(k, to, from)));
    kb_set(b, w->count, k_add(k, count, k_int(k, 1)));
    kb_end(b);
}

/* Where the longest match that begins at `from` ends, -1 for none. */
static const KExpr *longest_match(Walk *w, const KExpr *from) {
    KBuild *b = &w->d->b;
    KCtx *k = w->d->k;
    KBuf *last = kb_variable(b, "last", k_int(k, -1)), *at = kb_variable(b, "at", from),
         *state = kb_variable(b, "state", k_int(k, 1));
    const KExpr *i = kb_get(b, at), *now = kb_get(b, state);
    kb_while(b, k_and(k, k_lt(k, i, w->n), k_lt(k, k_int(k, 0), now)));
    const KExpr *byte = k_cast(k, DT_I64, k_str_byte(k, w->s, i));
    const KExpr *class = k_cast(k, DT_I64, def_at(w->d, w->classes, &byte, 1));
    const KExpr *entry = k_add(k, k_mul(k, now, k_int(k, w->regex->n_classes)), class);
    kb_set(b, state, k_cast(k, DT_I64, def_at(w->d, w->next, &entry, 1)));
    kb_set(b, at, k_add(k, i, k_int(k, 1)));
    kb_if(b, k_ne(k, def_at(w->d, w->accepts, &now, 1), k_const_i(k, DT_U8, 0)));
    kb_set(b, last, kb_get(b, at));
    kb_end(b);
    kb_end(b);
    return kb_let(b, "end", kb_get(b, last));
}

static void walk_matches(Walk *w, KBuf *pos) {
    KBuild *b = &w->d->b;
    KCtx *k = w->d->k;
    bool between = w->rule->kind == TOKENS_BETWEEN;
    KBuf *begin = between ? kb_variable(b, "begin", k_int(k, 0)) : NULL;
    kb_while(b, k_lt(k, kb_get(b, pos), w->n));
    const KExpr *from = kb_let(b, "from", kb_get(b, pos)), *end = longest_match(w, from);
    kb_if(b, k_lt(k, end, k_int(k, 0)));
    kb_set(b, pos, k_add(k, from, k_int(k, 1)));
    kb_else(b);
    if (between) {
        take(w, kb_let(b, "begin", kb_get(b, begin)), from);
        kb_set(b, begin, end);
    } else { /* max: a part of the text also where there is no match and nothing is taken */
        take(w, from, k_max(k, end, from));
    }
    kb_set(b, pos, end);
    kb_end(b);
    kb_end(b);
    if (between) take(w, kb_let(b, "begin", kb_get(b, begin)), w->n);
}

static void walk_chars(Walk *w, KBuf *pos) {
    KBuild *b = &w->d->b;
    KCtx *k = w->d->k;
    kb_while(b, k_lt(k, kb_get(b, pos), w->n));
    const KExpr *from = kb_let(b, "from", kb_get(b, pos));
    KBuf *end = kb_variable(b, "end", k_add(k, from, k_int(k, 1)));
    const KExpr *i = kb_get(b, end);
    kb_while(b, k_lt(k, i, w->n));
    kb_if(b, begins_char(w, i));
    kb_set(b, pos, i);
    kb_set(b, end, k_int(k, INT64_MAX));
    kb_else(b);
    kb_set(b, end, k_add(k, i, k_int(k, 1)));
    kb_end(b);
    kb_end(b);
    const KExpr *moved = k_lt(k, from, kb_get(b, pos));
    const KExpr *to = kb_let(b, "to", k_select(k, moved, kb_get(b, pos), w->n));
    take(w, from, to);
    kb_set(b, pos, to);
    kb_end(b);
}

/* Over string i of x; w->count has the number of its tokens behind it. */
static void walk(Walk *w, KTensor *x, const KExpr *i) {
    KBuild *b = &w->d->b;
    KCtx *k = w->d->k;
    w->s = kb_let(b, "s", lower_at_flat(w->d, x, i));
    w->n = kb_let(b, "length", k_str_len(k, w->s));
    w->count = kb_variable(b, "count", k_int(k, 0));
    KBuf *pos = kb_variable(b, "pos", k_int(k, 0));
    if (w->rule->kind == TOKENS_CHARS)
        walk_chars(w, pos);
    else
        walk_matches(w, pos);
}

static void count_tokens(Def *d, Walk *w, KTensor *x, KVar *tokens) {
    KBuild *b = &d->b;
    KCtx *k = d->k;
    KTensor *most = def_temp(d, "most", DT_I64, 0, NULL);
    Stage *s = def_program(d, &most, 1);
    kb_store(b, most->buf, k_int(k, 0), k_int(k, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", tensor_n_elems(k, x));
    walk(w, x, i);
    const KExpr *had = k_load(k, most->buf, k_int(k, 0));
    kb_store(b, most->buf, k_int(k, 0), k_max(k, had, kb_get(b, w->count)));
    kb_end(b);
    def_store_size(d, s, tokens, k_load(k, most->buf, k_int(k, 0)));
    def_end_program(d, s);
}

void tokenizer_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    TokenRule rule;
    Regex regex = {0};
    bool good = read_rule(d->m, n, &rule) && compile_rule(d->m, n, &rule, &regex);
    BUG_IF(!good, "the pattern passed infer");
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Walk w = {.d = d, .rule = &rule, .regex = &regex};
    if (rule.kind != TOKENS_CHARS) {
        int64_t n_next = (int64_t)regex.n_states * regex.n_classes;
        w.classes = def_table_ints(d, "classes", DT_U8, regex.class_of, 256);
        w.next = def_table_ints(d, "next", DT_I32, regex.next, n_next);
        w.accepts = def_table_ints(d, "accepts", DT_U8, regex.accepts, regex.n_states);
    }
    ConstString pad = {rule.pad, (int64_t)strlen(rule.pad)};
    KTensor *pads = def_strings(d, "pad", &pad, 1);
    const KExpr *width = out->dims[x->rank], *zero = k_int(k, 0);
    count_tokens(d, &w, x, width->u.var);
    Stage *s = def_program(d, &out, 1);
    const KExpr *i = kb_for(b, LOOP_PARALLEL, "i", tensor_n_elems(k, x));
    w.out = out->buf;
    w.row = kb_let(b, "row", k_mul(k, i, width));
    walk(&w, x, i);
    const KExpr *count = kb_let(b, "n", kb_get(b, w.count));
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", k_sub(k, width, count));
    kb_store(b, out->buf, k_add(k, k_add(k, w.row, count), j), def_at(d, pads, &zero, 1));
    kb_end(b);
    kb_end(b);
    def_end_program(d, s);
}
