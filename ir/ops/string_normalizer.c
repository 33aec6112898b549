/* StringNormalizer: drops stop words and changes the case of what stays, code point by code point
 * with Unicode's simple mappings (case.def); bytes that are not UTF-8 stay. */
#include <string.h>

#include "ir/ops/case.h"
#include "ir/ops/check.h"
#include "ir/ops/text.h"
#include "ir/ops/text_write.h"

typedef enum { CASE_KEEP, CASE_LOWER, CASE_UPPER } CaseAction;

typedef struct Normalizing {
    CaseAction action, compare; /* of the words that come out, and of those that are looked up */
    ConstString *stop;
    int64_t n_stop;
} Normalizing;

static bool read_action(Module *m, const Node *n, CaseAction *action) {
    static const char *const names[] = {"NONE", "LOWER", "UPPER"};
    const char *found = attr_string(n, "case_change_action", "NONE");
    for (int i = 0; i < 3; i++) {
        *action = (CaseAction)i;
        if (!strcmp(found, names[i])) return true;
    }
    diag_error(m->diag, n->loc, "case_change_action is '%s'; NONE, LOWER and UPPER are accepted",
               found);
    return false;
}

/* [C] or [1, C]; all words gone leave one empty word. */
bool string_normalizer_infer(Module *m, Node *n) {
    CaseAction action;
    if (!text_infer_place(m, n) || !infer_dtype(m, n, 0, CLASS_STRING) ||
        !infer_rank(m, n, 0, 1, 2) || !read_action(m, n, &action))
        return false;
    Shape x = n->in[0]->shape;
    n->out[0]->has_heap_text = action != CASE_KEEP;   /* else words come out as they went in */
    if (n->out[0]->shape.rank == x.rank) return true; /* inferred before: the symbol stays */
    if (x.rank == 2 && !k_is_value(x.dims[0], 1)) {
        diag_error(m->diag, n->loc, "input 0 has shape %s; [C] and [1, C] are accepted",
                   shape_text(m->scratch, x));
        return false;
    }
    Shape out = shape_copy(m->arena, x);
    const KExpr *bound = k_max(m->k, x.dims[x.rank - 1], k_int(m->k, 1));
    out.dims[x.rank - 1] = k_var(m->k, module_computed_symbol(m, "words", bound));
    return infer_set(m, n, 0, DT_STR, out);
}

/* ---- letters: compile time */

static int32_t change_letter(CaseAction action, int32_t c) {
    return action == CASE_LOWER ? case_to_lower(c) : action == CASE_UPPER ? case_to_upper(c) : c;
}

/* Code point at s, *length bytes; -1 for a byte that begins none. */
static int32_t decode(const unsigned char *s, uint64_t n, int *length) {
    int count = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 0;
    if (s[0] >= 0xf0 && s[0] < 0xf5) count = 4;
    *length = 1;
    if (!count || (uint64_t)count > n) return -1;
    int32_t c = count == 1 ? s[0] : s[0] & (0xff >> (count + 1));
    for (int i = 1; i < count; i++) {
        if ((s[i] & 0xc0) != 0x80) return -1;
        c = c << 6 | (s[i] & 0x3f);
    }
    *length = count;
    return c;
}

static int encode(int32_t c, char *to) {
    if (c < 0x80) return to[0] = (char)c, 1;
    int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3f));
    to[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

static ConstString change_word(Arena *a, CaseAction action, const char *word) {
    uint64_t n = strlen(word), out = 0;
    char *to = arena_alloc(a, 2 * n + 4);
    for (uint64_t i = 0; i < n;) {
        int length;
        int32_t c = decode((const unsigned char *)word + i, n - i, &length);
        if (c < 0)
            to[out++] = word[i];
        else
            out += (uint64_t)encode(change_letter(action, c), to + out);
        i += (uint64_t)length;
    }
    return (ConstString){to, out};
}

static Normalizing read_normalizing(Def *d, const Node *n) {
    Normalizing r = {0};
    const Attr *words = node_attr(n, "stopwords");
    read_action(d->m, n, &r.action);
    bool sensitive = attr_int(n, "is_case_sensitive", 0) != 0;
    if (!sensitive) r.compare = r.action ? r.action : CASE_LOWER;
    r.n_stop = words ? words->n : 0;
    r.stop = arena_array(d->arena, ConstString, r.n_stop + 1);
    for (int64_t i = 0; i < r.n_stop; i++)
        r.stop[i] = change_word(d->arena, r.compare, words->strings[i]);
    return r;
}

/* ---- letters: run time */

typedef struct Letters {
    Def *d;
    KTensor *from, *to; /* sorted code points that change, 2^k of them, and what they become */
    int64_t room;
    const KExpr *s;
    KBuf *pos;
} Letters;

static int64_t list_letters(CaseAction action, int64_t *from, int64_t *to) {
    const CaseRange *r = action == CASE_LOWER ? case_lower : case_upper;
    int n = action == CASE_LOWER ? n_case_lower : n_case_upper;
    int64_t count = 0;
    for (int i = 0; i < n; i++)
        for (int32_t c = r[i].first; c <= r[i].last; c += r[i].step) {
            int64_t at = count++;
            for (; from && at > 0 && from[at - 1] > c; at--) {
                from[at] = from[at - 1];
                to[at] = to[at - 1];
            }
            if (!from) continue;
            from[at] = c;
            to[at] = c + r[i].delta;
        }
    return count;
}

static Letters letters_create(Def *d, CaseAction action) {
    Letters l = {.d = d, .room = 1};
    int64_t n = list_letters(action, NULL, NULL);
    while (l.room < n) l.room *= 2;
    int64_t *from = arena_array(d->m->scratch, int64_t, l.room);
    int64_t *to = arena_array(d->m->scratch, int64_t, l.room);
    list_letters(action, from, to);
    for (int64_t i = n; i < l.room; i++) {
        from[i] = from[n - 1];
        to[i] = to[n - 1];
    }
    l.from = def_table_ints(d, "letters", DT_I32, from, l.room);
    l.to = def_table_ints(d, "changed", DT_I32, to, l.room);
    return l;
}

static const KExpr *byte_at(const Letters *l, int i) {
    KCtx *k = l->d->k;
    const KExpr *at = k_add(k, kb_get(&l->d->b, l->pos), k_int(k, i));
    return k_cast(k, DT_I64, k_str_byte(k, l->s, at));
}

static const KExpr *between(KCtx *k, const KExpr *e, int64_t lo, int64_t hi) {
    return k_and(k, k_le(k, k_int(k, lo), e), k_le(k, e, k_int(k, hi)));
}

/* Bytes of the code point at pos, 1 to 4; 0 for a byte that begins none. */
static const KExpr *sequence_length(const Letters *l, const KExpr *const *byte) {
    KCtx *k = l->d->k;
    const KExpr *n = k_int(k, 0), *follow = k_bool(k, true);
    static const int lo[] = {0, 0xc2, 0xe0, 0xf0}, hi[] = {0x7f, 0xdf, 0xef, 0xf4};
    for (int i = 0; i < 4; i++) {
        if (i) follow = k_and(k, follow, between(k, byte[i], 0x80, 0xbf));
        n = k_select(k, k_and(k, between(k, byte[0], lo[i], hi[i]), follow), k_int(k, i + 1), n);
    }
    return kb_let(&l->d->b, "length", n);
}

static const KExpr *code_point(const Letters *l, const KExpr *const *byte, const KExpr *length) {
    KCtx *k = l->d->k;
    const KExpr *c = byte[0];
    static const int mask[] = {0x7f, 0x1f, 0x0f, 0x07};
    for (int i = 1; i < 4; i++) {
        const KExpr *v = k_and(k, byte[0], k_int(k, mask[i]));
        for (int j = 1; j <= i; j++)
            v = k_add(k, k_mul(k, v, k_int(k, 64)), k_and(k, byte[j], k_int(k, 0x3f)));
        c = k_select(k, k_eq(k, length, k_int(k, i + 1)), v, c);
    }
    return kb_let(&l->d->b, "letter", k_cast(k, DT_I32, c));
}

static const KExpr *changed(const Letters *l, const KExpr *c) {
    KCtx *k = l->d->k;
    const KExpr *at = k_int(k, 0);
    for (int64_t half = l->room / 2; half; half /= 2) {
        const KExpr *probe = k_add(k, at, k_int(k, half - 1));
        const KExpr *less = k_lt(k, def_at(l->d, l->from, &probe, 1), c);
        at = kb_let(&l->d->b, "at", k_add(k, at, k_select(k, less, k_int(k, half), k_int(k, 0))));
    }
    const KExpr *hit = k_eq(k, def_at(l->d, l->from, &at, 1), c);
    c = k_select(k, hit, def_at(l->d, l->to, &at, 1), c);
    return kb_let(&l->d->b, "changed", k_cast(k, DT_I64, c));
}

/* Bytes of a code point in UTF-8. */
static const KExpr *encoded_length(KCtx *k, const KExpr *c) {
    const KExpr *n = k_int(k, 4);
    static const int limit[] = {0x10000, 0x800, 0x80};
    for (int i = 0; i < 3; i++) n = k_select(k, k_lt(k, c, k_int(k, limit[i])), k_int(k, 3 - i), n);
    return n;
}

/* Writes the code point's n bytes to text[at ...]. */
static void write_letter(const Letters *l, KBuf *text, const KExpr *at, const KExpr *c,
                         const KExpr *n) {
    KCtx *k = l->d->k;
    KBuild *b = &l->d->b;
    static const int mark[] = {0, 0xc0, 0xe0, 0xf0};
    for (int i = 0; i < 4; i++) { /* byte i of sequences of i + 1 and more bytes */
        const KExpr *shift = k_mul(k, k_sub(k, n, k_int(k, i + 1)), k_int(k, 6));
        const KExpr *bits = k_shr(k, c, k_max(k, shift, k_int(k, 0)));
        const KExpr *v = k_or(k, k_and(k, bits, k_int(k, 0x3f)), k_int(k, 0x80));
        for (int j = 0; !i && j < 4; j++)
            v = k_select(k, k_eq(k, n, k_int(k, j + 1)), k_or(k, bits, k_int(k, mark[j])), v);
        if (i) kb_if(b, k_lt(k, k_int(k, i), n));
        kb_store(b, text, k_add(k, at, k_int(k, i)), k_cast(k, DT_U8, v));
        if (i) kb_end(b);
    }
}

/* Walks over s: adds up the bytes of the changed text in `count`, and writes it when text is
 * there. */
static void change_text(Letters *l, const KExpr *s, KBuf *text, const KExpr *at, KBuf *count) {
    KCtx *k = l->d->k;
    KBuild *b = &l->d->b;
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1), *byte[4];
    l->s = s;
    l->pos = kb_variable(b, "pos", zero);
    kb_set(b, count, zero);
    kb_while(b, k_lt(k, kb_get(b, l->pos), k_str_len(k, s)));
    for (int i = 0; i < 4; i++) byte[i] = kb_let(b, "byte", byte_at(l, i));
    const KExpr *length = sequence_length(l, byte), *bad = k_eq(k, length, zero);
    const KExpr *c = changed(l, code_point(l, byte, length));
    const KExpr *n = kb_let(b, "n", k_select(k, bad, one, encoded_length(k, c)));
    if (text) {
        const KExpr *to = kb_let(b, "to", k_add(k, at, kb_get(b, count)));
        kb_if(b, bad);
        kb_store(b, text, to, k_cast(k, DT_U8, byte[0]));
        kb_else(b);
        write_letter(l, text, to, c, n);
        kb_end(b);
    }
    kb_set(b, count, k_add(k, kb_get(b, count), n));
    kb_set(b, l->pos, k_add(k, kb_get(b, l->pos), k_max(k, length, one)));
    kb_end(b);
}

/* out[i] = x[i] with its letters changed. */
static void lower_case(Def *d, CaseAction action, KTensor *x, KTensor *out) {
    KCtx *k = d->k;
    Letters l = letters_create(d, action);
    TextWriter w = text_write_begin(d, tensor_n_elems(k, x), NULL);
    KBuf *count = kb_alloc(&d->b, MEM_REG, DT_I64, "count", 1);
    change_text(&l, kb_let(&d->b, "s", lower_at_flat(d, x, w.i)), NULL, NULL, count);
    text_write_measured(&w, kb_get(&d->b, count), out);
    const KExpr *at = text_write_place(&w), *s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    count = kb_alloc(&d->b, MEM_REG, DT_I64, "count", 1);
    change_text(&l, s, w.text->buf, at, count);
    text_write_end(&w, at);
}

void string_normalizer_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0), *other = x;
    Normalizing r = read_normalizing(d, n);
    bool compares = r.n_stop && r.compare;
    if (r.action || compares) {
        other = def_temp(d, "changed", DT_STR, x->rank, x->dims);
        lower_case(d, r.action ? r.action : r.compare, x, other);
    }
    const TextTable *stop = r.n_stop ? text_table(d, r.stop, r.n_stop) : NULL;
    Stage *s = def_program(d, &out, 1);
    KBuf *count = kb_variable(b, "count", k_int(k, 0));
    kb_store(b, out->buf, k_int(k, 0), k_const(k, DT_STR, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", tensor_n_elems(k, x));
    if (stop) {
        const KExpr *word = kb_let(b, "word", lower_at_flat(d, compares ? other : x, i));
        kb_if(b, k_lt(k, text_find(d, b, stop, word), k_int(k, 0)));
    }
    kb_store(b, out->buf, kb_get(b, count), lower_at_flat(d, r.action ? other : x, i));
    kb_set(b, count, k_add(k, kb_get(b, count), k_int(k, 1)));
    if (stop) kb_end(b);
    kb_end(b);
    def_store_size(d, s, out->dims[out->rank - 1]->u.var, k_max(k, kb_get(b, count), k_int(k, 1)));
    def_end_program(d, s);
}
