/* StringConcat, StringSplit and CopyText. StringSplit makes no text, its pieces are parts of the
 * input. */
#include <string.h>

#include "ir/ops/check.h"
#include "ir/ops/text.h"
#include "ir/ops/text_write.h"

/* ---- StringConcat ---------------------------------------------------------------------------- */

bool string_concat_infer(Module *m, Node *n) {
    Shape s;
    n->out[0]->has_heap_text = true;
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
    TextWriter w = text_write_begin(d, tensor_n_elems(k, out), NULL);
    const KExpr *x = broadcast_string(d, 0, out, w.i), *y = broadcast_string(d, 1, out, w.i);
    text_write_measured(&w, k_add(k, k_str_len(k, x), k_str_len(k, y)), out);
    x = broadcast_string(d, 0, out, w.i);
    y = broadcast_string(d, 1, out, w.i);
    const KExpr *at = text_write_place(&w);
    text_copy(&d->b, w.text->buf, at, x);
    text_copy(&d->b, w.text->buf, k_add(k, at, k_str_len(k, x)), y);
    text_write_end(&w, at);
}

/* ---- CopyText -------------------------------------------------------------------------------- */

/* y = x with all bytes in `text`, which is an output of the model: the strings of y outlive the
 * run's own memory. */
bool copy_text_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, CLASS_STRING) || !infer_same_as(m, n, 0, n->in[0])) return false;
    if (n->out[1]->shape.rank == 1) return true; /* inferred before: the symbol stays */
    Shape s = shape_make(m->arena, 1);
    s.dims[0] = text_free_size(m, "bytes");
    return infer_set(m, n, 1, DT_U8, s);
}

void copy_text_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    TextWriter w = text_write_begin(d, tensor_n_elems(d->k, x), def_out(d, 1));
    const KExpr *s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    text_write_measured(&w, k_str_len(d->k, s), out);
    s = kb_let(&d->b, "s", lower_at_flat(d, x, w.i));
    const KExpr *at = text_write_place(&w);
    text_copy(&d->b, w.text->buf, at, s);
    text_write_end(&w, at);
}

/* ---- StringSplit ----------------------------------------------------------------------------- */

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
    const KExpr *i = kb_get(b, at), *hit = is_delimiter(p, i);
    kb_while(b, k_and(k, k_lt(k, i, p->n), over ? hit : k_not(k, hit)));
    kb_set(b, at, k_add(k, i, k_int(k, 1)));
    kb_end(b);
}

static Pieces pieces_begin(KBuild *b, const Node *n, const KExpr *s) {
    KCtx *k = b->k;
    Pieces p = {
        .b = b, .s = s, .delimiter = attr_string(n, "delimiter", ""), .most = max_splits(n)};
    p.n = kb_let(b, "length", k_str_len(k, s));
    p.pos = kb_variable(b, "pos", k_int(k, 0));
    p.count = kb_variable(b, "count", k_int(k, 0));
    const KExpr *none = k_eq(k, p.n, k_int(k, 0));
    if (!*p.delimiter) {
        skip(&p, p.pos, true);
        none = k_eq(k, kb_get(b, p.pos), p.n);
    }
    kb_if(b, none);
    kb_set(b, p.pos, k_int(k, -1));
    kb_end(b);
    kb_while(b, k_le(k, k_int(k, 0), kb_get(b, p.pos)));
    return p;
}

/* The piece, inside of the loop that pieces_begin opened: closes the loop after `then`. */
static const KExpr *pieces_next(Pieces *p) {
    KBuild *b = p->b;
    KCtx *k = b->k;
    const KExpr *from = kb_let(b, "from", kb_get(b, p->pos));
    KBuf *end = kb_variable(b, "end", from);
    const KExpr *may_split = k_lt(k, kb_get(b, p->count), k_int(k, p->most));
    kb_if(b, may_split);
    skip(p, end, false);
    kb_else(b);
    kb_set(b, end, p->n);
    kb_end(b);
    const KExpr *stop = kb_let(b, "stop", kb_get(b, end));
    int64_t length = *p->delimiter ? (int64_t)strlen(p->delimiter) : 1;
    kb_set(b, p->pos, k_add(k, stop, k_int(k, length)));
    const KExpr *is_last = k_eq(k, stop, p->n);
    if (!*p->delimiter) {
        skip(p, p->pos, true);
        is_last = k_le(k, p->n, kb_get(b, p->pos));
    }
    kb_if(b, is_last);
    kb_set(b, p->pos, k_int(k, -1));
    kb_end(b);
    return k_str_sub(k, p->s, from, k_sub(k, stop, from));
}

static void pieces_end(Pieces *p) {
    kb_set(p->b, p->count, k_add(p->b->k, kb_get(p->b, p->count), k_int(p->b->k, 1)));
    kb_end(p->b);
}

/* counts[i] = the pieces of string i; the most of them is the size `pieces`. */
static void lower_counts(Def *d, const Node *n, KTensor *x, KTensor *counts, KVar *pieces) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    Stage *s = def_program(d, &counts, 1);
    KBuf *most = kb_variable(b, "most", k_int(k, 0));
    const KExpr *i = kb_for(b, LOOP_SERIAL, "i", tensor_n_elems(k, x));
    Pieces p = pieces_begin(b, n, kb_let(b, "s", lower_at_flat(d, x, i)));
    pieces_next(&p);
    pieces_end(&p);
    const KExpr *count = kb_let(b, "n", kb_get(b, p.count));
    kb_store(b, counts->buf, i, count);
    kb_set(b, most, k_max(k, kb_get(b, most), count));
    kb_end(b);
    if (pieces) def_store_size(d, s, pieces, kb_get(b, most));
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
    kb_store(b, out->buf, k_add(k, row, kb_get(b, p.count)), piece);
    pieces_end(&p);
    kb_end(b);
    def_end_program(d, s);
}
