/* Matrix tiles: building the three forms of a tile loop, and telling them. */
#include "ir/tile.h"

/* ---- building -------------------------------------------------------------------------------- */

DType tile_dtype(DType factor) {
    return factor == DT_BF16 ? DT_F32 : DT_I32;
}

KBuf *kb_tile(KBuild *b, const char *name, DType t, int rows) {
    BUG_IF(rows < 1 || rows > TILE_ROWS, "a tile of %d rows", rows);
    return kb_alloc(b, MEM_TILE, t, name, rows * TILE_COLS);
}

/* Opens the loop over rows, and gives the index of its first column. */
static const KExpr *open_rows(KBuild *b, int rows, const KExpr **r) {
    *r = kb_for(b, LOOP_TILE, "r", k_int(b->k, rows));
    return k_mul(b->k, *r, k_int(b->k, TILE_COLS));
}

static const KExpr *open_columns(KBuild *b) {
    return kb_for(b, LOOP_VECTOR, "l", k_int(b->k, TILE_COLS));
}

void kb_tile_zero(KBuild *b, KBuf *acc, int rows) {
    const KExpr *r, *row = open_rows(b, rows, &r), *l = open_columns(b);
    kb_store(b, acc, k_add(b->k, row, l), k_const(b->k, acc->dtype, 0));
    kb_end(b);
    kb_end(b);
}

/* Elements of a word: what one column takes of a row in one step. */
static int word_elems(DType factor) {
    return 4 / dtype_bytes(factor);
}

/* The factors for element q of word w. */
typedef struct Factors {
    KBuf *a, *b;
    const KExpr *a_at, *a_step, *b_at;
    const KExpr *r, *l;
} Factors;

static const KExpr *left(KCtx *k, const Factors *f, const KExpr *w, const KExpr *q) {
    const KExpr *at = k_add(k, k_mul(k, w, k_int(k, word_elems(f->a->dtype))), q);
    at = k_add(k, k_add(k, f->a_at, k_mul(k, f->r, f->a_step)), at);
    return k_cast(k, tile_dtype(f->a->dtype), k_load(k, f->a, at));
}

static const KExpr *right(KCtx *k, const Factors *f, const KExpr *w, const KExpr *q) {
    int n = word_elems(f->b->dtype);
    const KExpr *at = k_add(k, k_mul(k, f->l, k_int(k, n)), q);
    at = k_add(k, f->b_at, k_add(k, k_mul(k, w, k_int(k, TILE_COLS * n)), at));
    return k_cast(k, tile_dtype(f->b->dtype), k_load(k, f->b, at));
}

static void add_bytes(KBuild *b, KBuf *acc, Factors *f, const KExpr *row) {
    KCtx *k = b->k;
    const KExpr *w = kb_for(b, LOOP_SERIAL, "w", k_int(k, TILE_WORDS));
    const KExpr *q = kb_for(b, LOOP_SERIAL, "q", k_int(k, word_elems(f->a->dtype)));
    f->l = open_columns(b);
    const KExpr *at = k_add(k, row, f->l), *product = k_mul(k, left(k, f, w, q), right(k, f, w, q));
    kb_store(b, acc, at, k_add(k, k_load(k, acc, at), product));
    for (int i = 0; i < 3; i++) kb_end(b);
}

static void add_halves(KBuild *b, KBuf *acc, Factors *f, const KExpr *row) {
    KCtx *k = b->k;
    f->l = open_columns(b);
    KBuf *sum = kb_alloc(b, MEM_REG, acc->dtype, "sum", word_elems(f->a->dtype));
    const KExpr *q = kb_for(b, LOOP_UNROLL, "q", sum->n_elems);
    kb_store(b, sum, q, k_const(k, acc->dtype, 0));
    const KExpr *w = kb_for(b, LOOP_SERIAL, "w", k_int(k, TILE_WORDS));
    kb_store(b, sum, q, k_fma(k, left(k, f, w, q), right(k, f, w, q), k_load(k, sum, q)));
    kb_end(b);
    kb_end(b);
    const KExpr *at = k_add(k, row, f->l), *old = k_load(k, acc, at);
    const KExpr *both = k_add(k, k_load(k, sum, k_int(k, 0)), k_load(k, sum, k_int(k, 1)));
    kb_store(b, acc, at, k_add(k, old, both));
    kb_end(b);
}

void kb_tile_dot(KBuild *b, KBuf *acc, int rows, KBuf *a, const KExpr *a_at, const KExpr *a_step,
                 KBuf *by, const KExpr *by_at) {
    Factors f = {.a = a, .b = by, .a_at = a_at, .a_step = a_step, .b_at = by_at};
    const KExpr *row = open_rows(b, rows, &f.r);
    (a->dtype == DT_BF16 ? add_halves : add_bytes)(b, acc, &f, row);
    kb_end(b);
}

void kb_tile_store(KBuild *b, KBuf *acc, int rows, KBuf *to, const KExpr *at, const KExpr *step) {
    KCtx *k = b->k;
    const KExpr *r, *row = open_rows(b, rows, &r), *l = open_columns(b);
    kb_store(b, to, k_add(k, k_add(k, at, k_mul(k, r, step)), l), k_load(k, acc, k_add(k, row, l)));
    kb_end(b);
    kb_end(b);
}

/* ---- telling --------------------------------------------------------------------------------- */

static const KStmt *only(const KBlock *b, KStmtKind kind) {
    return b->first && !b->first->next && b->first->kind == kind ? b->first : NULL;
}

static const KStmt *only_loop(const KBlock *b, int64_t extent) {
    const KStmt *s = only(b, KS_FOR);
    return s && k_is_value(s->extent, (double)extent) ? s : NULL;
}

/* Is e = *rest + coeff[0]*var[0] + ...? Variables that are always 0 may have gone from e. */
static bool has_steps(KCtx *k, const KExpr *e, KVar *const *var, const int64_t *coeff, int n,
                      const KExpr **rest) {
    const KExpr *c;
    for (int i = 0; i < n; i++)
        if (!k_linear_in(k, e, var[i], &e, &c) ||
            (var[i]->hi > 0 && !k_is_value(c, (double)coeff[i])))
            return false;
    *rest = e;
    return true;
}

static bool is_element(KCtx *k, const KExpr *index, KVar *r, KVar *l) {
    const KExpr *rest;
    return has_steps(k, index, (KVar *[]){r, l}, (int64_t[]){TILE_COLS, 1}, 2, &rest) &&
           k_is_value(rest, 0);
}

/* cast(load of b[i]) without predicate: the load. */
static const KExpr *factor_load(const KExpr *e) {
    if (e->op != KO_cast || e->arg[0]->op != KO_load || e->arg[0]->n_args != 1) return NULL;
    DType t = e->arg[0]->dtype;
    bool fits = t == DT_I8 || t == DT_U8 || t == DT_BF16;
    return fits && tile_dtype(t) == e->dtype ? e->arg[0] : NULL;
}

typedef struct DotVars {
    KVar *r, *w, *q, *l;
} DotVars;

/* x*y with x a row's element and y a column's, in this order. */
static bool are_factors(KCtx *k, const KExpr *x, const KExpr *y, const DotVars *v, TileOp *op) {
    const KExpr *a = factor_load(x), *b = factor_load(y), *rest;
    if (!a || !b || k_uses_var(k, a, v->l) || k_uses_var(k, b, v->r)) return false;
    if ((a->dtype == DT_BF16) != (b->dtype == DT_BF16)) return false;
    int n = word_elems(a->dtype);
    if (!k_linear_in(k, a->arg[0], v->r, &rest, &op->step)) return false;
    if (!has_steps(k, rest, (KVar *[]){v->w, v->q}, (int64_t[]){n, 1}, 2, &rest)) return false;
    op->a = k_load(k, a->u.buf, rest);
    int64_t steps[] = {TILE_COLS * n, 1, n};
    if (!has_steps(k, b->arg[0], (KVar *[]){v->w, v->q, v->l}, steps, 3, &rest)) return false;
    op->b = k_load(k, b->u.buf, rest);
    return true;
}

static bool is_byte_dot(KCtx *k, const KStmt *loop, const KStmt *w, TileOp *op) {
    const KStmt *q = only_loop(&w->body, 4), *l = q ? only_loop(&q->body, TILE_COLS) : NULL;
    const KStmt *s = l && l->mark == LOOP_VECTOR ? only(&l->body, KS_STORE) : NULL;
    if (!s || s->value->op != KO_add || !k_is_value(w->extent, TILE_WORDS)) return false;
    const KExpr *old = s->value->arg[0], *product = s->value->arg[1];
    if (old->op != KO_load) old = s->value->arg[1], product = s->value->arg[0];
    if (product->op != KO_mul || old != k_load(k, s->buf, s->index)) return false;
    DotVars v = {loop->var, w->var, q->var, l->var};
    op->kind = TILE_DOT;
    op->acc = s->buf;
    return is_element(k, s->index, v.r, v.l) &&
           (are_factors(k, product->arg[0], product->arg[1], &v, op) ||
            are_factors(k, product->arg[1], product->arg[0], &v, op));
}

/* acc + (sum[0] + sum[1]) */
static bool adds_sums(KCtx *k, const KStmt *s, KBuf *sum) {
    const KExpr *even = k_load(k, sum, k_int(k, 0)), *odd = k_load(k, sum, k_int(k, 1));
    return s->kind == KS_STORE &&
           s->value == k_add(k, k_load(k, s->buf, s->index), k_add(k, even, odd));
}

static bool is_half_dot(KCtx *k, const KStmt *loop, const KStmt *l, TileOp *op) {
    const KStmt *alloc = l->body.first, *q = alloc ? alloc->next : NULL, *add = q ? q->next : NULL;
    if (!add || add->next || alloc->kind != KS_ALLOC || q->kind != KS_FOR ||
        !k_is_value(q->extent, 2))
        return false;
    const KStmt *zero = q->body.first, *w = zero ? zero->next : NULL;
    if (!w || w->next || w->kind != KS_FOR || !k_is_value(w->extent, TILE_WORDS)) return false;
    const KStmt *s = only(&w->body, KS_STORE);
    const KExpr *at = k_var(k, q->var), *old = k_load(k, alloc->buf, at);
    if (!s || zero->kind != KS_STORE || zero->buf != alloc->buf || zero->index != at ||
        !k_is_value(zero->value, 0))
        return false;
    if (s->buf != alloc->buf || s->index != at || s->value->op != KO_fma || s->value->arg[2] != old)
        return false;
    DotVars v = {loop->var, w->var, q->var, l->var};
    op->kind = TILE_DOT;
    op->acc = add->buf;
    return adds_sums(k, add, alloc->buf) && is_element(k, add->index, v.r, v.l) &&
           (are_factors(k, s->value->arg[0], s->value->arg[1], &v, op) ||
            are_factors(k, s->value->arg[1], s->value->arg[0], &v, op)) &&
           op->a->dtype == DT_BF16;
}

bool tile_op(KCtx *k, const KStmt *loop, TileOp *op) {
    int64_t rows;
    *op = (TileOp){0};
    if (!k_is_int(loop->extent, &rows) || rows < 1 || rows > TILE_ROWS) return false;
    op->rows = (int)rows;
    const KStmt *inner = only(&loop->body, KS_FOR);
    if (!inner) return false;
    if (inner->mark == LOOP_SERIAL)
        return is_byte_dot(k, loop, inner, op) && op->acc->mem == MEM_TILE &&
               op->a->dtype != DT_BF16;
    const KStmt *l = only_loop(&loop->body, TILE_COLS), *s = l ? only(&l->body, KS_STORE) : NULL;
    if (!l || l->mark != LOOP_VECTOR) return false;
    if (!s) return is_half_dot(k, loop, l, op) && op->acc->mem == MEM_TILE;
    if (s->buf->mem == MEM_TILE) {
        op->kind = TILE_ZERO;
        op->acc = s->buf;
        return k_is_value(s->value, 0) && is_element(k, s->index, loop->var, l->var);
    }
    const KExpr *rest, *one;
    if (s->value->op != KO_load || s->value->u.buf->mem != MEM_TILE) return false;
    op->kind = TILE_STORE;
    op->acc = s->value->u.buf;
    op->to = s->buf;
    return is_element(k, s->value->arg[0], loop->var, l->var) &&
           k_linear_in(k, s->index, l->var, &rest, &one) && k_is_value(one, 1) &&
           k_linear_in(k, rest, loop->var, &op->at, &op->step);
}

bool kblock_has_tiles(const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next)
        if ((s->kind == KS_ALLOC && s->buf->mem == MEM_TILE) || kblock_has_tiles(&s->body) ||
            kblock_has_tiles(&s->other))
            return true;
    return false;
}
