/* StringConcat, StringSplit, StringNormalizer and CopyText.
 *
 * New text needs memory whose size is found while running. A first program measures: ends[i] is
 * where the text of element i begins, the total becomes a computed size; a second one writes the
 * bytes and makes strings of them:
 *
 *   ends: i64[n + 1] = loops finds bytes { ... }
 *   text: u8[bytes], out: string[n] = loops { ... out[i] = str_of(text[ends[i]], ends[i+1] -
 * ends[i]) }
 *
 * StringSplit makes no text, its pieces are parts of the input. Words are changed in case code
 * point by code point with Unicode's simple mappings (case.def); bytes that are not UTF-8 stay. */
#include <string.h>

#include "ir/ops/case.h"
#include "ir/ops/check.h"
#include "ir/ops/text.h"

static const KExpr *step(KCtx *k, const KExpr *i) {
    return k_add(k, i, k_int(k, 1));
}

/* A size without a bound in the caller's symbols. */
static const KExpr *free_size(Module *m, const char *name) {
    return k_var(m->k, module_computed_symbol(m, name, k_int(m->k, INT64_MAX)));
}

/* ---- measuring and writing --------------------------------------------------------------------
 */

typedef struct Writing {
    Def *d;
    Stage *stage;
    KTensor *ends, *text, *out;
    const KExpr *n, *bytes, *i; /* i: the element of the open loop */
    KBuf *total;
} Writing;

/* Opens the loop that measures: write_measured() is called in it once. text: where the bytes go,
 * of a size that is still to be found; NULL: a temporary. */
static Writing write_begin(Def *d, const KExpr *n, KTensor *text) {
    KCtx *k = d->k;
    Writing w = {.d = d, .n = n, .text = text};
    w.bytes = text ? text->dims[0] : free_size(d->m, "bytes");
    const KExpr *rows = step(k, n), *zero = k_int(k, 0);
    w.ends = def_temp(d, "ends", DT_I64, 1, &rows);
    w.stage = def_program(d, &w.ends, 1);
    w.total = kb_alloc(&d->b, MEM_REG, DT_I64, "total", 1);
    kb_store(&d->b, w.total, zero, zero);
    w.i = kb_for(&d->b, LOOP_SERIAL, "i", n);
    return w;
}

/* The element has so many bytes; opens the loop that writes. */
static void write_measured(Writing *w, const KExpr *n_bytes, KTensor *out) {
    Def *d = w->d;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *zero = k_int(k, 0), *total = k_load(k, w->total, zero);
    n_bytes = kb_let(b, "n_bytes", n_bytes);
    kb_store(b, w->ends->buf, w->i, total);
    kb_store(b, w->total, zero, k_add(k, total, n_bytes));
    kb_end(b);
    const KExpr *all = kb_let(b, "all", total);
    kb_store(b, w->ends->buf, w->n, all);
    def_store_size(d, w->stage, w->bytes->u.var, all);
    def_end_program(d, w->stage);

    w->out = out;
    if (!w->text) w->text = def_temp(d, "text", DT_U8, 1, &w->bytes);
    KTensor *outs[2] = {out, w->text};
    w->stage = def_program(d, outs, 2);
    w->i = kb_for(b, LOOP_PARALLEL, "i", w->n);
}

/* Where the open element's text goes. */
static const KExpr *write_place(Writing *w) {
    return kb_let(&w->d->b, "at", def_at(w->d, w->ends, &w->i, 1));
}

/* The text stands at `at`. */
static void write_end(Writing *w, const KExpr *at) {
    Def *d = w->d;
    KCtx *k = d->k;
    const KExpr *next = step(k, w->i), *end = def_at(d, w->ends, &next, 1);
    kb_store(&d->b, w->out->buf, w->i, k_str_of(k, k_load(k, w->text->buf, at), k_sub(k, end, at)));
    kb_end(&d->b);
    def_end_program(d, w->stage);
}

/* ---- StringConcat -----------------------------------------------------------------------------
 */

bool string_concat_infer(Module *m, Node *n) {
    Shape s;
    return text_infer_place(m, n) && infer_dtype(m, n, 0, CLASS_STRING) &&
           infer_dtype(m, n, 1, CLASS_STRING) && infer_broadcast(m, n, &s) &&
           infer_set(m, n, 0, DT_STR, s);
}

/* Input i's string that belongs to the open element of `out`. */
static const KExpr *broadcast_string(Def *d, int i, const KTensor *out, const KExpr *flat) {
    const KExpr *index[MAX_RANK];
    def_unflatten(d->k, flat, out->dims, out->rank, index);
    return kb_let(&d->b, "s", lower_broadcast(d, def_in(d, i), out, index));
}

void string_concat_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    Writing w = write_begin(d, tensor_n_elems(k, out), NULL);
    const KExpr *x = broadcast_string(d, 0, out, w.i), *y = broadcast_string(d, 1, out, w.i);
    write_measured(&w, k_add(k, k_str_len(k, x), k_str_len(k, y)), out);
    x = broadcast_string(d, 0, out, w.i);
    y = broadcast_string(d, 1, out, w.i);
    const KExpr *at = write_place(&w);
    text_copy(&d->b, w.text->buf, at, x);
    text_copy(&d->b, w.text->buf, k_add(k, at, k_str_len(k, x)), y);
    write_end(&w, at);
}

/* ---- CopyText ---------------------------------------------------------------------------------
 */

/* y = x with all bytes in `text`, which is an output of the model: the strings of y outlive the
 * run's own memory. */
bool copy_text_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_STRING) || !infer_same_as(m, n, 0, n->in[0])) return false;
    if (n->out[1]->shape.rank == 1) return true; /* inferred before: the symbol stays */
    Shape s = shape_make(m->arena, 1);
    s.dims[0] = free_size(m, "bytes");
    return infer_set(m, n, 1, DT_U8, s);
}

void copy_text_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Writing w = write_begin(d, tensor_n_elems(d->k, x), def_out(d, 1));
    const KExpr *s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    write_measured(&w, k_str_len(d->k, s), out);
    s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    const KExpr *at = write_place(&w);
    text_copy(&d->b, w.text->buf, at, s);
    write_end(&w, at);
}

/* ---- StringSplit ------------------------------------------------------------------------------
 */

static int64_t max_splits(const Node *n) {
    int64_t most = attr_int(n, "maxsplit", INT64_MAX);
    return most < 0 ? INT64_MAX : most;
}

bool string_split_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_STRING)) return false;
    Shape x = n->in[0]->shape;
    const Value *old = n->out[0];
    if (has_out(n, 1) && !infer_set(m, n, 1, DT_I64, x)) return false;
    if (!old || old->shape.rank == x.rank + 1) return true; /* inferred before: the symbol stays */
    if (x.rank == MAX_RANK) {
        diag_unsupported(m->diag, n->loc, "rank %d is not supported", MAX_RANK);
        return false;
    }
    Shape out = shape_make(m->arena, x.rank + 1);
    for (int i = 0; i < x.rank; i++) out.dims[i] = x.dims[i];
    int64_t most = max_splits(n);
    const KExpr *bound = k_int(m->k, most == INT64_MAX ? most : most + 1);
    out.dims[x.rank] = k_var(m->k, module_computed_symbol(m, "pieces", bound));
    return infer_set(m, n, 0, DT_STR, out);
}

/* A walk over the pieces of s: pos is where the next piece begins, -1 behind the last. */
typedef struct Pieces {
    KBuild *b;
    const KExpr *s, *n;
    KBuf *pos, *count;
    const char *delimiter; /* "": white space */
    int64_t most;          /* splits */
} Pieces;

static const KExpr *get(KBuild *b, KBuf *v) {
    return k_load(b->k, v, k_int(b->k, 0));
}

static void set(KBuild *b, KBuf *v, const KExpr *e) {
    kb_store(b, v, k_int(b->k, 0), e);
}

/* Space, and \t \n \v \f \r */
static const KExpr *is_space(KCtx *k, const KExpr *byte) {
    const KExpr *control = k_lt(k, k_sub(k, byte, k_const_i(k, DT_U8, 9)), k_const_i(k, DT_U8, 5));
    return k_or(k, k_eq(k, byte, k_const_i(k, DT_U8, ' ')), control);
}

/* Does the delimiter stand at position i? */
static const KExpr *is_delimiter(const Pieces *p, const KExpr *i) {
    KCtx *k = p->b->k;
    if (!*p->delimiter) return is_space(k, k_str_byte(k, p->s, i));
    int64_t length = (int64_t)strlen(p->delimiter);
    const KExpr *all = k_le(k, k_add(k, i, k_int(k, length)), p->n);
    for (int64_t j = 0; j < length; j++) {
        const KExpr *want = k_const_i(k, DT_U8, (unsigned char)p->delimiter[j]);
        all = k_and(k, all, k_eq(k, k_str_byte(k, p->s, k_add(k, i, k_int(k, j))), want));
    }
    return all;
}

/* Moves `at` over white space (or, want_space false, up to it or the end). */
static void skip(const Pieces *p, KBuf *at, bool over) {
    KBuild *b = p->b;
    KCtx *k = b->k;
    const KExpr *i = get(b, at), *hit = is_delimiter(p, i);
    kb_while(b, k_and(k, k_lt(k, i, p->n), over ? hit : k_not(k, hit)));
    set(b, at, step(k, i));
    kb_end(b);
}

static Pieces pieces_begin(KBuild *b, const Node *n, const KExpr *s) {
    KCtx *k = b->k;
    Pieces p = {
        .b = b, .s = s, .delimiter = attr_string(n, "delimiter", ""), .most = max_splits(n)};
    p.n = kb_let(b, "length", k_str_len(k, s));
    p.pos = kb_alloc(b, MEM_REG, DT_I64, "pos", 1);
    p.count = kb_alloc(b, MEM_REG, DT_I64, "count", 1);
    set(b, p.pos, k_int(k, 0));
    set(b, p.count, k_int(k, 0));
    const KExpr *none = k_eq(k, p.n, k_int(k, 0));
    if (!*p.delimiter) {
        skip(&p, p.pos, true);
        none = k_eq(k, get(b, p.pos), p.n);
    }
    kb_if(b, none);
    set(b, p.pos, k_int(k, -1));
    kb_end(b);
    kb_while(b, k_le(k, k_int(k, 0), get(b, p.pos)));
    return p;
}

/* The piece, inside of the loop that pieces_begin opened: closes the loop after `then`. */
static const KExpr *pieces_next(Pieces *p) {
    KBuild *b = p->b;
    KCtx *k = b->k;
    KBuf *end = kb_alloc(b, MEM_REG, DT_I64, "end", 1);
    const KExpr *from = kb_let(b, "from", get(b, p->pos));
    set(b, end, from);
    const KExpr *may_split = k_lt(k, get(b, p->count), k_int(k, p->most));
    kb_if(b, may_split);
    skip(p, end, false);
    kb_else(b);
    set(b, end, p->n);
    kb_end(b);
    const KExpr *stop = kb_let(b, "stop", get(b, end));
    int64_t length = *p->delimiter ? (int64_t)strlen(p->delimiter) : 1;
    set(b, p->pos, k_add(k, stop, k_int(k, length)));
    const KExpr *is_last = k_eq(k, stop, p->n);
    if (!*p->delimiter) {
        skip(p, p->pos, true);
        is_last = k_le(k, p->n, get(b, p->pos));
    }
    kb_if(b, is_last);
    set(b, p->pos, k_int(k, -1));
    kb_end(b);
    return k_str_sub(k, p->s, from, k_sub(k, stop, from));
}

static void pieces_end(Pieces *p) {
    set(p->b, p->count, step(p->b->k, get(p->b, p->count)));
    kb_end(p->b);
}

/* counts[i] = the pieces of string i; the most of them is the size `pieces`. */
static void lower_counts(Def *d, const Node *n, KTensor *x, KTensor *counts, KVar *pieces) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    Stage *s = def_program(d, &counts, 1);
    KBuf *most = kb_alloc(b, MEM_REG, DT_I64, "most", 1);
    set(b, most, k_int(k, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", tensor_n_elems(k, x));
    Pieces p = pieces_begin(b, n, kb_let(b, "s", lower_at_flat(d, x, i)));
    pieces_next(&p);
    pieces_end(&p);
    const KExpr *count = kb_let(b, "n", get(b, p.count));
    kb_store(b, counts->buf, i, count);
    set(b, most, k_max(k, get(b, most), count));
    kb_end(b);
    if (pieces) def_store_size(d, s, pieces, get(b, most));
    def_end_program(d, s);
}

void string_split_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    KTensor *x = def_in(d, 0), *out = n->out[0] ? def_out(d, 0) : NULL;
    KTensor *counts =
        has_out(n, 1) ? def_out(d, 1) : def_temp(d, "counts", DT_I64, x->rank, x->dims);
    const KExpr *pieces = out ? out->dims[x->rank] : NULL;
    lower_counts(d, n, x, counts, out ? pieces->u.var : NULL);
    if (!out) return;
    Stage *s = def_program(d, &out, 1);
    const KExpr *i = kb_for(b, LOOP_PARALLEL, "i", tensor_n_elems(k, x));
    const KExpr *row = kb_let(b, "row", k_mul(k, i, pieces));
    const KExpr *j = kb_for(b, LOOP_SERIAL, "j", pieces);
    kb_store(b, out->buf, k_add(k, row, j), k_const(k, DT_STR, 0));
    kb_end(b);
    Pieces p = pieces_begin(b, n, kb_let(b, "s", lower_at_flat(d, x, i)));
    const KExpr *piece = kb_let(b, "piece", pieces_next(&p));
    kb_store(b, out->buf, k_add(k, row, get(b, p.count)), piece);
    pieces_end(&p);
    kb_end(b);
    def_end_program(d, s);
}

/* ---- StringNormalizer -------------------------------------------------------------------------
 */

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
    const KExpr *at = k_add(k, get(&l->d->b, l->pos), k_int(k, i));
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
    l->pos = kb_alloc(b, MEM_REG, DT_I64, "pos", 1);
    set(b, l->pos, zero);
    set(b, count, zero);
    kb_while(b, k_lt(k, get(b, l->pos), k_str_len(k, s)));
    for (int i = 0; i < 4; i++) byte[i] = kb_let(b, "byte", byte_at(l, i));
    const KExpr *length = sequence_length(l, byte), *bad = k_eq(k, length, zero);
    const KExpr *c = changed(l, code_point(l, byte, length));
    const KExpr *n = kb_let(b, "n", k_select(k, bad, one, encoded_length(k, c)));
    if (text) {
        const KExpr *to = kb_let(b, "to", k_add(k, at, get(b, count)));
        kb_if(b, bad);
        kb_store(b, text, to, k_cast(k, DT_U8, byte[0]));
        kb_else(b);
        write_letter(l, text, to, c, n);
        kb_end(b);
    }
    set(b, count, k_add(k, get(b, count), n));
    set(b, l->pos, k_add(k, get(b, l->pos), k_max(k, length, one)));
    kb_end(b);
}

/* out[i] = x[i] with its letters changed. */
static void lower_case(Def *d, CaseAction action, KTensor *x, KTensor *out) {
    KCtx *k = d->k;
    Letters l = letters_create(d, action);
    Writing w = write_begin(d, tensor_n_elems(k, x), NULL);
    KBuf *count = kb_alloc(&d->b, MEM_REG, DT_I64, "count", 1);
    change_text(&l, kb_let(&d->b, "s", lower_at_flat(d, x, w.i)), NULL, NULL, count);
    write_measured(&w, get(&d->b, count), out);
    const KExpr *at = write_place(&w), *s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    count = kb_alloc(&d->b, MEM_REG, DT_I64, "count", 1);
    change_text(&l, s, w.text->buf, at, count);
    write_end(&w, at);
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
    KBuf *count = kb_alloc(b, MEM_REG, DT_I64, "count", 1);
    set(b, count, k_int(k, 0));
    kb_store(b, out->buf, k_int(k, 0), k_const(k, DT_STR, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", tensor_n_elems(k, x));
    if (stop) {
        const KExpr *word = kb_let(b, "word", lower_at_flat(d, compares ? other : x, i));
        kb_if(b, k_lt(k, text_find(d, b, stop, word), k_int(k, 0)));
    }
    kb_store(b, out->buf, get(b, count), lower_at_flat(d, r.action ? other : x, i));
    set(b, count, step(k, get(b, count)));
    if (stop) kb_end(b);
    kb_end(b);
    def_store_size(d, s, out->dims[out->rank - 1]->u.var, k_max(k, get(b, count), k_int(k, 1)));
    def_end_program(d, s);
}
