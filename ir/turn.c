/* Turning rows of vectors into columns, in registers.
 *
 * Two kinds of steps, each of which makes two rows of two rows by one instruction for each:
 *
 *   swap   halves of h lanes, 16 bytes at least:    aaaabbbb ccccdddd  ->  aaaacccc bbbbdddd
 *   zip    within each 16 bytes:                    abcd efgh          ->  aebf cgdh
 *
 * Swaps with h = n/2, n/4, .. turn the square of 16-byte pieces, log2 many zips turn each piece. A
 * step is vector loops that read a buffer of registers at constant places; the renderer that has
 * vectors makes permutations of them, for the others they are loops. */
#include "ir/turn.h"

enum { PIECE_BYTES = 16 };

DType turn_dtype(DType t) {
    return t == DT_BOOL ? DT_U8 : t == DT_F16 || t == DT_BF16 ? DT_U16 : t;
}

const KExpr *turn_pack(KCtx *k, const KExpr *e) {
    DType t = turn_dtype(e->dtype);
    return t == e->dtype ? e : t == DT_U8 ? k_cast(k, t, e) : k_bitcast(k, t, e);
}

const KExpr *turn_unpack(KCtx *k, DType t, const KExpr *e) {
    return t == e->dtype ? e : t == DT_BOOL ? k_cast(k, t, e) : k_bitcast(k, t, e);
}

typedef struct Step {
    KBuild *b;
    KBuf *from, *to;
    int n_rows, lanes;
    int size; /* lanes of a half that is swapped, or of a piece that is zipped */
} Step;

/* Where lane l of the first row that the step makes lies, from the start of the first row it reads.
 */
typedef const KExpr *PlaceOf(KCtx *k, const Step *s, const KExpr *l);

/* a0 b0 of a0 a1, b0 b1: lanes with the bit `size` come from the row `size` below. */
static const KExpr *swapped(KCtx *k, const Step *s, const KExpr *l) {
    const KExpr *second = k_fmod(k, k_fdiv(k, l, k_int(k, s->size)), k_int(k, 2));
    return k_add(k, l, k_mul(k, second, k_int(k, s->size * (s->lanes - 1))));
}

/* The first half of a piece of two rows half a piece apart, by turns. */
static const KExpr *zipped(KCtx *k, const Step *s, const KExpr *l) {
    const KExpr *in = k_fmod(k, l, k_int(k, s->size)), *two = k_int(k, 2);
    const KExpr *row = k_mul(k, k_fmod(k, in, two), k_int(k, s->size / 2 * s->lanes));
    return k_add(k, k_add(k, row, k_sub(k, l, in)), k_fdiv(k, in, two));
}

/* Row `to` is what place() says of row `from`, `skip` lanes further. */
static void make_row(const Step *s, const KExpr *to, const KExpr *from, PlaceOf *place, int skip) {
    KCtx *k = s->b->k;
    const KExpr *width = k_int(k, s->lanes), *l = kb_for(s->b, LOOP_VECTOR, "l", width);
    const KExpr *at = k_add(k, k_mul(k, from, width), place(k, s, l));
    kb_store(s->b, s->to, k_add(k, k_mul(k, to, width), l),
             k_load(k, s->from, k_add(k, at, k_int(k, skip))));
    kb_end(s->b);
}

/* All rows; what is swapped stays in its two rows, what is zipped comes to neighbours. */
static void make_rows(const Step *s, bool zips) {
    KCtx *k = s->b->k;
    int group = zips ? s->size : 2 * s->size, half = group / 2;
    PlaceOf *place = zips ? zipped : swapped;
    const KExpr *g = kb_for(s->b, LOOP_UNROLL, "g", k_int(k, s->n_rows / group));
    const KExpr *i = kb_for(s->b, LOOP_UNROLL, "i", k_int(k, half));
    const KExpr *start = k_mul(k, g, k_int(k, group)), *from = k_add(k, start, i);
    const KExpr *to = zips ? k_add(k, start, k_mul(k, i, k_int(k, 2))) : from;
    make_row(s, to, from, place, 0);
    make_row(s, k_add(k, to, k_int(k, zips ? 1 : half)), from, place, half);
    kb_end(s->b);
    kb_end(s->b);
}

KBuf *turn_rows(KBuild *b, KBuf *rows, int n_rows, int lanes) {
    int piece = PIECE_BYTES / dtype_bytes(rows->dtype);
    if (piece > n_rows) piece = n_rows;
    Step s = {b, rows, NULL, n_rows, lanes, 0};
    KBuf *other[2] = {rows, NULL};
    other[1] = kb_alloc(b, MEM_REG, rows->dtype, "turned", (int64_t)n_rows * lanes);
    int n = 0;
    for (int h = n_rows / 2; h >= piece; h /= 2, n++) {
        s.from = other[n % 2], s.to = other[(n + 1) % 2], s.size = h;
        make_rows(&s, false);
    }
    for (int i = 1; i < piece; i *= 2, n++) {
        s.from = other[n % 2], s.to = other[(n + 1) % 2], s.size = piece;
        make_rows(&s, true);
    }
    return other[n % 2];
}
