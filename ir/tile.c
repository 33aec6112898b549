/* Matrix tiles: building the three forms of a tile loop, and telling them. */
#include "ir/tile.h"

/* ---- building -------------------------------------------------------------------------------- */

KBuf *kb_tile(KBuild *b, const char *name, int rows) {
    BUG_IF(rows < 1 || rows > TILE_ROWS, "a tile of %d rows", rows);
    return kb_alloc(b, MEM_TILE, DT_I32, name, rows * TILE_COLS);
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
    kb_store(b, acc, k_add(b->k, row, l), k_const_i(b->k, DT_I32, 0));
    kb_end(b);
    kb_end(b);
}

void kb_tile_dot(KBuild *b, KBuf *acc, int rows, KBuf *a, const KExpr *a_at, const KExpr *a_step,
                 KBuf *by, const KExpr *by_at) {
    KCtx *k = b->k;
    const KExpr *r, *row = open_rows(b, rows, &r);
    const KExpr *w = kb_for(b, LOOP_SERIAL, "w", k_int(k, TILE_WORDS));
    const KExpr *q = kb_for(b, LOOP_SERIAL, "q", k_int(k, TILE_WORD_BYTES)), *l = open_columns(b);
    const KExpr *word = k_add(k, k_mul(k, w, k_int(k, TILE_WORD_BYTES)), q);
    const KExpr *x = k_load(k, a, k_add(k, k_add(k, a_at, k_mul(k, r, a_step)), word));
    const KExpr *column = k_add(k, k_mul(k, w, k_int(k, TILE_COLS * TILE_WORD_BYTES)),
                                k_add(k, k_mul(k, l, k_int(k, TILE_WORD_BYTES)), q));
    const KExpr *y = k_load(k, by, k_add(k, by_at, column)), *at = k_add(k, row, l);
    const KExpr *product = k_mul(k, k_cast(k, DT_I32, x), k_cast(k, DT_I32, y));
    kb_store(b, acc, at, k_add(k, k_load(k, acc, at), product));
    for (int i = 0; i < 4; i++) kb_end(b);
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

static const KExpr *byte_load(const KExpr *e) {
    if (e->op != KO_cast || e->arg[0]->op != KO_load || e->arg[0]->n_args != 1) return NULL;
    DType t = e->arg[0]->dtype;
    return t == DT_I8 || t == DT_U8 ? e->arg[0] : NULL;
}

static bool is_dot(KCtx *k, const KStmt *loop, const KStmt *w, TileOp *op) {
    const KStmt *q = only_loop(&w->body, TILE_WORD_BYTES),
                *l = q ? only_loop(&q->body, TILE_COLS) : NULL;
    const KStmt *s = l && l->mark == LOOP_VECTOR ? only(&l->body, KS_STORE) : NULL;
    if (!s || s->value->op != KO_add) return false;
    const KExpr *old = s->value->arg[0], *product = s->value->arg[1], *rest;
    if (old->op != KO_load) old = s->value->arg[1], product = s->value->arg[0];
    if (old->op != KO_load || old->u.buf != s->buf || old->arg[0] != s->index ||
        product->op != KO_mul)
        return false;
    KVar *vars[] = {w->var, q->var, l->var};
    for (int swap = 0; swap < 2; swap++) {
        const KExpr *a = byte_load(product->arg[swap]), *b = byte_load(product->arg[!swap]), *step;
        if (!a || !b || k_uses_var(k, a, l->var) || k_uses_var(k, b, loop->var)) continue;
        if (!k_linear_in(k, a->arg[0], loop->var, &rest, &step)) continue;
        if (!has_steps(k, rest, vars, (int64_t[]){TILE_WORD_BYTES, 1}, 2, &rest)) continue;
        op->a = k_load(k, a->u.buf, rest);
        op->step = step;
        if (!has_steps(k, b->arg[0], vars,
                       (int64_t[]){TILE_COLS * TILE_WORD_BYTES, 1, TILE_WORD_BYTES}, 3, &rest))
            continue;
        op->b = k_load(k, b->u.buf, rest);
        op->kind = TILE_DOT;
        op->acc = s->buf;
        return is_element(k, s->index, loop->var, l->var);
    }
    return false;
}

bool tile_op(KCtx *k, const KStmt *loop, TileOp *op) {
    int64_t rows;
    *op = (TileOp){0};
    if (!k_is_int(loop->extent, &rows) || rows < 1 || rows > TILE_ROWS) return false;
    op->rows = (int)rows;
    const KStmt *inner = only(&loop->body, KS_FOR);
    if (inner && inner->mark == LOOP_SERIAL)
        return only_loop(&loop->body, TILE_WORDS) && is_dot(k, loop, inner, op) &&
               op->acc->mem == MEM_TILE;
    const KStmt *l = only_loop(&loop->body, TILE_COLS), *s = l ? only(&l->body, KS_STORE) : NULL;
    if (!s || l->mark != LOOP_VECTOR) return false;
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
