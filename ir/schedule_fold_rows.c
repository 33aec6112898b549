/* Folds of rows, several rows at once: what a row has for itself is the way from a vector of
 * partial results to one number, and whatever is made of that number.
 *
 *   parallel for blocks of 16 rows
 *     for row (unroll)         rows[row][l] := partial results of the row, a vector
 *     for width in 8, 4, 2, 1
 *       for o (vector)         next[o] := rows[o / width][o % width] + rows[.. + width]
 *     for row (vector)         out[row] := finish(sum of the row)
 *
 * The steps between rows and the store are permutations of two registers each, a quarter of what
 * the rows would take one by one, and add in the same order. Rows that are longer are folded one by
 * one, and only where `finish` has functions (the logarithm of a sum) their sums wait for each
 * other. Rows that fill no block follow one by one. */
#include "ir/schedule_rows.h"

enum {
    ROW_WIDTH = 16,   /* partial results of a row in a block, at most: registers */
    ROW_VECTORS = 16, /* of a row that is written out for each of the block */
    FEWEST_ROWS = 4
};

typedef struct FoldRows {
    Rows *r;
    const Stage *s;
    Fold fold;
    RowNest nest; /* the loops around `rows` */
    RowLoop rows;
    int lanes, n_rows; /* of a row, in a block */
    bool turns;        /* by permutations, or one after the other */
} FoldRows;

/* The loops of the nest that rows walk evenly are one. */
static void join_loops(FoldRows *f) {
    KCtx *k = f->r->k;
    const Stage *s = f->s;
    while (f->nest.n) {
        const RowLoop *outer = &f->nest.loop[f->nest.n - 1];
        KVar *of = s->axis[outer->axis], *in = s->axis[f->rows.axis];
        if (!axes_are_joint(k, f->fold.body, of, in, f->rows.extent) ||
            !axes_are_joint(k, s->finish, of, in, f->rows.extent))
            return;
        f->rows.extent = k_mul(k, f->rows.extent, outer->extent);
        f->nest.n--;
    }
}

static bool find_fold_rows(Rows *r, const Stage *s, FoldRows *f) {
    KCtx *k = r->k;
    int64_t n = 0;
    *f = (FoldRows){.r = r, .s = s, .nest = rows_nest(k, s, NULL)};
    if ((s->form != FORM_REDUCE && s->form != FORM_CONTRACT) || !f->nest.n) return false;
    if (dtype_is_wide(s->out->dtype) || dtype_is_wide(s->acc->dtype)) return false;
    if (!tensor_is_plain(s->out)) return false;
    f->fold = fold_of(k, s);
    int most = target_lanes(r->p->m->target, dtype_bytes(s->acc->dtype));
    f->lanes = rows_lanes_along(k, s, &f->fold, &f->nest, most);
    if (!f->lanes) return false;
    f->rows = f->nest.loop[--f->nest.n];
    join_loops(f);
    for (f->n_rows = most; f->n_rows > f->rows.extent->hi;) f->n_rows /= 2;
    f->turns = f->fold.n == 1 && k_is_int(f->fold.extent[0], &n) && n <= ROW_VECTORS * f->lanes;
    return f->n_rows >= FEWEST_ROWS && (f->turns || schedule_has_function(k, s->finish));
}

/* ---- a block --------------------------------------------------------------------------------- */

static RowNest at_row(FoldRows *f, const KExpr *row) {
    RowNest at = f->nest;
    rows_bind(f->r->k, &at, &f->rows, row);
    return at;
}

static RowFold fold_at(FoldRows *f, const KExpr *row) {
    return (RowFold){.fold = f->fold, .nest = at_row(f, row)};
}

/* rows[row*width + l] of all rows from `first` on; returns the width. */
static KBuf *keep_rows(FoldRows *f, const KExpr *first, int width) {
    KCtx *k = f->r->k;
    KBuild *b = f->r->b;
    KBuf *rows = kb_alloc(b, MEM_REG, f->s->acc->dtype, "rows", (int64_t)f->n_rows * width);
    const KExpr *row = kb_for(b, LOOP_UNROLL, "r", k_int(k, f->n_rows));
    RowFold of = fold_at(f, k_add(k, first, row));
    fold_halves(f->r, f->s, of.acc, fold_partials(f->r, &of, 1, f->lanes), width);
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, width));
    kb_store(b, rows, k_add(k, k_mul(k, row, k_int(k, width)), l), k_load(k, of.acc, l));
    kb_end(b);
    kb_end(b);
    return rows;
}

/* to[from + l] of n lanes: both halves of a row of 2*width folded. */
static void halve_rows(FoldRows *f, KBuf *from, KBuf *to, const KExpr *start, int n, int width) {
    KCtx *k = f->r->k;
    KBuild *b = f->r->b;
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, n)), *w = k_int(k, width);
    const KExpr *at = k_add(k, start, l), *row = k_fdiv(k, at, w);
    const KExpr *place = k_add(k, k_mul(k, row, k_int(k, 2 * width)), k_fmod(k, at, w));
    const KExpr *first = k_load(k, from, place), *second = k_load(k, from, k_add(k, place, w));
    kb_store(b, to, at, k_binary(k, f->s->fold, first, second));
    kb_end(b);
}

/* The sums of a block's rows, one in each lane. */
static KBuf *turn_sums(FoldRows *f, const KExpr *first) {
    KCtx *k = f->r->k;
    KBuild *b = f->r->b;
    int width = f->lanes < ROW_WIDTH ? f->lanes : ROW_WIDTH;
    int lanes = target_lanes(f->r->p->m->target, dtype_bytes(f->s->acc->dtype));
    KBuf *rows = keep_rows(f, first, width);
    while (width > 1) {
        width /= 2;
        int n = f->n_rows * width, whole = n / lanes;
        KBuf *next = kb_alloc(b, MEM_REG, f->s->acc->dtype, "rows", n);
        if (whole) {
            const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, whole));
            halve_rows(f, rows, next, k_mul(k, v, k_int(k, lanes)), lanes, width);
            kb_end(b);
        } else {
            halve_rows(f, rows, next, k_int(k, 0), n, width);
        }
        rows = next;
    }
    return rows;
}

/* The sums of a block's rows, one row after the other. */
static KBuf *serial_sums(FoldRows *f, const KExpr *first) {
    KCtx *k = f->r->k;
    KBuild *b = f->r->b;
    KBuf *sums = kb_alloc(b, MEM_STACK, f->s->acc->dtype, "sums", f->n_rows);
    const KExpr *row = kb_for(b, LOOP_SERIAL, "r", k_int(k, f->n_rows));
    RowFold of = fold_at(f, k_add(k, first, row));
    fold_lanes(f->r, &of, 1, f->lanes);
    kb_store(b, sums, row, k_load(k, of.acc, k_int(k, 0)));
    kb_end(b);
    return sums;
}

static void store_row(FoldRows *f, const KExpr *row, const KExpr *value) {
    Rows *r = f->r;
    RowNest at = at_row(f, row);
    const KExpr *finish = k_subst(r->k, f->s->finish, &f->s->acc, &value, 1);
    rows_store(r, f->s, &at, rows_expr(r, f->s, &at, finish));
}

static void open_fold_block(FoldRows *f, const KExpr *first) {
    KCtx *k = f->r->k;
    KBuf *sums = f->turns ? turn_sums(f, first) : serial_sums(f, first);
    const KExpr *l = kb_for(f->r->b, LOOP_VECTOR, "l", k_int(k, f->n_rows));
    const KExpr *value = k_load(k, sums, l);
    if (f->turns && fold_starts(k, f->s)) value = k_binary(k, f->s->fold, value, f->s->init);
    store_row(f, k_add(k, first, l), value);
    kb_end(f->r->b);
}

bool open_fold_rows(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    KBuild *b = r->b;
    FoldRows f;
    if (!find_fold_rows(r, s, &f)) return false;
    const KExpr *extent[MAX_RANK + 2], *index[MAX_RANK + 2], *total = k_int(k, 1);
    const KExpr *width = k_int(k, f.n_rows), *n_full = k_fdiv(k, f.rows.extent, width);
    const KExpr *tail = k_fmod(k, f.rows.extent, width);
    bool has_tail = !k_is_value(tail, 0), is_large = schedule_stage_work(s) >= PARALLEL_GRAIN;
    int n = f.nest.n;
    for (int i = 0; i < n; i++) extent[i] = f.nest.loop[i].extent;
    extent[n] = k_fdiv(k, k_add(k, f.rows.extent, k_int(k, f.n_rows - 1)), width);
    for (int i = 0; i <= n; i++) total = k_mul(k, total, extent[i]);
    const KExpr *block = kb_for(b, is_large ? LOOP_PARALLEL : LOOP_SERIAL, "block", total);
    kb_unflatten(b, "i", block, extent, n + 1, index);
    for (int i = 0; i < n; i++) rows_bind(k, &f.nest, &f.nest.loop[i], index[i]);
    const KExpr *first = k_mul(k, index[n], width);
    if (has_tail) kb_if(b, k_lt(k, index[n], n_full));
    open_fold_block(&f, first);
    if (has_tail) {
        kb_else(b);
        const KExpr *row = k_add(k, first, kb_for(b, LOOP_SERIAL, "r", tail));
        RowFold of = fold_at(&f, row);
        fold_lanes(r, &of, 1, f.lanes);
        rows_store_fold(r, &of);
        kb_end(b);
        kb_end(b);
    }
    kb_end(b);
    return true;
}
