/* The loops of a contraction on a matrix unit (matrix.h).
 *
 *     alloc acc, acc_2, ...: f32[rows*16] tile           zeroed
 *     for the reduction axes, k by blocks of 64 bytes
 *       acc += rows x packed                             one product for each tile
 *     for each row of tiles
 *       alloc sums: f32[rows*16*tiles] stack := acc, acc_2
 *       for rows, lanes (vector)
 *         out := finish(sums)
 */
#include "ir/matrix.h"
#include "ir/schedule_contract.h"
#include "ir/tile.h"

enum { MAX_TILES = 4, WORTH_ROWS = 6 };

/* ---- which contractions ---------------------------------------------------------------------- */

/* cast(at()) of elements that a matrix unit takes, into its accumulator's dtype: the at(). */
static const KExpr *tile_factor(const Stage *s, const KExpr *e) {
    if (e->op != KO_cast || e->arg[0]->op != KO_at || e->dtype != s->acc->dtype) return NULL;
    DType t = e->arg[0]->dtype;
    bool fits = t == DT_BF16 || t == DT_I8 || t == DT_U8;
    return fits && tile_dtype(t) == e->dtype ? e->arg[0] : NULL;
}

/* Is `extent` elements as whole blocks little more than it is? */
static bool nearly_fills(int64_t extent, int block) {
    int64_t whole = (extent + block - 1) / block * block;
    return extent >= block && whole * 5 <= extent * 8;
}

/* Are blocks of the elements along v neighbours in memory, from the start of each block on? Rows
 * that are no whole blocks end with one that overlaps the one before. */
static bool runs_along(KCtx *k, const KExpr *at, KVar *v, int64_t extent, int block) {
    const KExpr *base, *coeff;
    const KTensor *t = at->u.tensor;
    if (t->layout.block > 1) {
        const KExpr *e = at->arg[t->layout.block_axis];
        return extent % block == 0 && t->layout.block == block && e->op == KO_var &&
               e->u.var == v;
    }
    if (!nearly_fills(extent, block)) return false;
    return k_linear_in(k, tensor_flat_index(k, t, at->arg), v, &base, &coeff) &&
           k_is_value(coeff, 1);
}

bool matrix_may_read(const Stage *s, const KExpr *at) {
    int64_t n;
    for (int i = 0; i < at->u.tensor->rank; i++)
        for (int r = 0; r < s->n_red; r++)
            if (at->arg[i]->op == KO_var && at->arg[i]->u.var == s->red[r] &&
                k_is_int(s->red_extent[r], &n) && n % (TILE_DEPTH / 2) == 0)
                return true;
    return false;
}

static bool has_row_steps(KCtx *k, const Stage *s, const Schedule *sch, const KExpr *at) {
    const KExpr *flat = tensor_flat_index(k, at->u.tensor, at->arg), *base, *coeff;
    for (int i = 0; i < 2; i++)
        if (sch->row_axis[i] >= 0 &&
            !k_linear_in(k, flat, s->axis[sch->row_axis[i]], &base, &coeff))
            return false;
    return sch->row_axis[1] >= 0;
}

bool matrix_match(DefProgram *p, const Stage *s, const Schedule *sch, Matrix *x) {
    KCtx *k = p->m->k;
    int64_t extent, rows = 1;
    *x = (Matrix){.left = tile_factor(s, s->lhs), .depth = -1};
    const KExpr *right = tile_factor(s, s->rhs);
    if (!p->m->target->amx || !x->left || !right || at_pred(right) || sch->lanes != TILE_COLS)
        return false;
    if ((x->left->dtype == DT_BF16) != (right->dtype == DT_BF16)) return false;
    if (s->fold != KO_add || !k_is_value(s->init, 0) ||
        k_uses_var(k, s->lhs, s->axis[sch->vec_axis]))
        return false;
    if (at_pred(x->left) && at_pred_beyond_halo(k, x->left, 0)) return false;
    x->block = TILE_DEPTH / dtype_bytes(x->left->dtype);
    for (int r = 0; r < s->n_red; r++)
        if (k_is_int(s->red_extent[r], &extent) &&
            runs_along(k, x->left, s->red[r], extent, x->block))
            x->depth = r;
    for (int i = 0; i < 2; i++)
        if (sch->row_axis[i] >= 0)
            rows *=
                s->out->dims[sch->row_axis[i]]->hi > 64 ? 64 : s->out->dims[sch->row_axis[i]]->hi;
    return x->depth >= 0 && rows >= WORTH_ROWS && has_row_steps(k, s, sch, x->left);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Cycles of one step of n by m tiles of this height: a product takes a cycle a row, a load half of
 * one. */
static double step_cycles(int n, int m, int height) {
    double products = (double)n * m * height, loads = (n * height + m * TILE_ROWS) / 2.0;
    return (products > loads ? products : loads) + 4;
}

/* The tiles that a piece of `rows` rows of an axis needs, none higher than `most`; 0: they cannot
 * be of one height. */
static int tiles_in(int64_t rows, int most) {
    int n = (int)((rows + most - 1) / most);
    return n <= 2 && rows % n == 0 ? n : 0;
}

static int64_t known(const Stage *s, int axis, int64_t otherwise) {
    return axis >= 0 ? k_guess(s->out->dims[axis], otherwise) : otherwise;
}

void matrix_tile(const Stage *s, Schedule *sch, Matrix *x) {
    int64_t inner = known(s, sch->row_axis[1], 1 << 20), outer = known(s, sch->row_axis[0], 1);
    int64_t n_vecs = (known(s, sch->vec_axis, 1 << 20) + TILE_COLS - 1) / TILE_COLS;
    double best = 1e300;
    for (int height = 1; height <= TILE_ROWS && height <= inner; height++)
        for (int r1 = 1; r1 <= 2; r1++)
            for (int r0 = 1; r0 * r1 <= 2 && r0 <= outer; r0++)
                for (int v = 1; v <= MAX_TILES / (r0 * r1) && v <= n_vecs; v++) {
                    int64_t tall = (int64_t)height * r1, full = inner / tall, rest = inner % tall;
                    int in_rest = rest ? tiles_in(rest, height) : 0;
                    if (tall > inner || (rest && !in_rest)) continue;
                    double cost = (double)full * step_cycles(r0 * r1, v, height);
                    if (rest) cost += step_cycles(r0 * in_rest, v, (int)rest / in_rest) + 4;
                    cost *= (double)((outer + r0 - 1) / r0) * (double)((n_vecs + v - 1) / v);
                    if (cost >= best * 0.999) continue;
                    best = cost;
                    x->most_rows = height;
                    sch->rows[0] = r0;
                    sch->rows[1] = (int)tall;
                    sch->n_vecs = v;
                }
    sch->unroll = 1;
}

/* ---- loops ----------------------------------------------------------------------------------- */

typedef struct Group {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Stage *s;
    const Schedule *sch;
    const MatrixGroup *g;
    int n_tiles[2], height; /* along each row axis */
    KBuf *acc[MAX_TILES];   /* rows of tiles, then columns of them */
} Group;

static int n_row_tiles(const Group *c) {
    return c->n_tiles[0] * c->n_tiles[1];
}

/* The stage's axes at row `row` of row tile i, with the first of the columns of tile v. */
static void indices(const Group *c, int i, int v, const KExpr *row, const KExpr *lane,
                    const KExpr **index) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    for (int a = 0; a < c->s->out->rank; a++) index[a] = c->g->at[a];
    int i0 = i / c->n_tiles[1], i1 = i % c->n_tiles[1];
    if (sch->row_axis[0] >= 0)
        index[sch->row_axis[0]] = k_add(k, index[sch->row_axis[0]], k_int(k, i0));
    index[sch->row_axis[1]] =
        k_add(k, index[sch->row_axis[1]], k_add(k, k_int(k, i1 * c->height), row));
    index[sch->vec_axis] = k_add(k, index[sch->vec_axis], k_add(k, k_int(k, v * TILE_COLS), lane));
}

/* Where at() lies with the stage's axes and reduction axes bound to these. */
static const KExpr *place(const Group *c, const KExpr *at, const KExpr *const *index,
                          const KExpr *const *red, KBuf **buf) {
    KCtx *k = c->k;
    const KExpr *offset;
    at = k_subst(k, at, c->s->axis, index, c->s->out->rank);
    at = k_subst(k, at, c->s->red, red, c->s->n_red);
    KTensor *root = tensor_root(k, at->u.tensor, &offset);
    *buf = root->buf;
    return k_add(k, tensor_flat_index(k, at->u.tensor, at->arg), offset);
}

/* red: of the right factor, whose last block along the depth may begin earlier in the left one. */
static void emit_products(const Group *c, const KExpr *const *red) {
    KCtx *k = c->k;
    const KExpr *index[MAX_RANK], *next[MAX_RANK], *zero = k_int(k, 0), *left[MAX_RED];
    const Matrix *m = c->sch->matrix;
    for (int r = 0; r < c->s->n_red; r++) left[r] = red[r];
    left[m->depth] = k_min(
        k, red[m->depth], k_sub(k, c->s->red_extent[m->depth], k_int(k, m->block)));
    for (int i = 0; i < n_row_tiles(c); i++)
        for (int v = 0; v < c->g->n_vecs; v++) {
            KBuf *x, *w;
            indices(c, i, v, zero, zero, index);
            indices(c, i, v, k_int(k, 1), zero, next);
            const KExpr *at = place(c, m->left, index, left, &x);
            const KExpr *step = k_sub(k, place(c, m->left, next, left, &x), at);
            const KExpr *columns = place(c, c->s->rhs->arg[0], index, red, &w);
            kb_tile_dot(c->b, c->acc[i * c->g->n_vecs + v], c->height, x, at, step, w, columns);
        }
}

static void emit_reduction(const Group *c, const KExpr **red, int r) {
    KCtx *k = c->k;
    if (r == c->s->n_red) {
        emit_products(c, red);
        return;
    }
    bool is_depth = r == c->sch->matrix->depth;
    const KExpr *size = k_int(k, c->sch->matrix->block), *extent = c->s->red_extent[r];
    if (is_depth) extent = k_fdiv(k, k_add(k, extent, k_sub(k, size, k_int(k, 1))), size);
    const KExpr *at = kb_for(c->b, LOOP_SERIAL, c->s->red[r]->name, extent);
    red[r] = is_depth ? k_mul(k, at, size) : at;
    emit_reduction(c, red, r + 1);
    kb_end(c->b);
}

/* The result at row r of row tile i, in column `in_row` of all columns of the group. */
static void emit_result(const Group *c, int i, const KExpr *r, const KExpr *in_row, KBuf *sums) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const KExpr *index[MAX_RANK], *offset, *width = k_int(k, c->g->n_vecs * TILE_COLS);
    const KExpr *value = k_load(k, sums, k_add(k, k_mul(k, r, width), in_row));
    indices(c, i, 0, r, in_row, index);
    const KExpr *finish = k_subst(k, s->finish, s->axis, index, s->out->rank);
    finish = expr_open(c->p, k_subst(k, finish, (KVar *[]){s->acc}, &value, 1));
    KTensor *root = tensor_root(k, s->out, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    const KExpr *column = index[c->sch->vec_axis];
    if (c->g->masked) kb_if(c->b, k_lt(k, column, s->out->dims[c->sch->vec_axis]));
    kb_store(c->b, root->buf, flat, finish);
    if (c->g->masked) kb_end(c->b);
}

/* Rows of row tile i in pieces: what becomes bytes is stored several vectors at once. */
static void emit_rows(const Group *c, int i, const Pieces *p, KBuf *sums) {
    const KExpr *row, *in_row;
    if (!p->n) return;
    int depth =
        contract_open_pieces(c->b, LOOP_SERIAL, p, c->g->n_vecs, TILE_COLS, &row, &in_row);
    emit_result(c, i, row, in_row, sums);
    while (depth--) kb_end(c->b);
}

static void emit_results(const Group *c, int i) {
    KCtx *k = c->k;
    int n_vecs = c->g->n_vecs, rows = 1, vecs = 1;
    KBuf *sums =
        kb_alloc(c->b, MEM_STACK, c->acc[0]->dtype, "sums", c->height * n_vecs * TILE_COLS);
    for (int v = 0; v < n_vecs; v++)
        kb_tile_store(c->b, c->acc[i * n_vecs + v], c->height, sums, k_int(k, v * TILE_COLS),
                      k_int(k, n_vecs * TILE_COLS));
    if (dtype_bytes(c->s->out->dtype) == 1 && !c->g->masked) {
        vecs = schedule_neighbours(c->s, TILE_COLS, n_vecs, PIECES);
        rows = PIECES / vecs;
    }
    int whole = c->height / rows * rows;
    emit_rows(c, i, &(Pieces){0, whole, rows, vecs}, sums);
    emit_rows(c, i, &(Pieces){whole, c->height - whole, 1, vecs}, sums);
}

void matrix_open(DefProgram *p, const Stage *s, const Schedule *sch, const MatrixGroup *g,
                 KBuild *b) {
    Group c = {.p = p, .k = p->m->k, .b = b, .s = s, .sch = sch, .g = g};
    const KExpr *red[MAX_RED];
    c.n_tiles[0] = g->rows[0];
    c.n_tiles[1] = tiles_in(g->rows[1], sch->matrix->most_rows);
    BUG_IF(!c.n_tiles[1] || n_row_tiles(&c) * g->n_vecs > MAX_TILES,
           "%d x %d rows by %d vectors are too many tiles", g->rows[0], g->rows[1], g->n_vecs);
    c.height = g->rows[1] / c.n_tiles[1];
    int n = n_row_tiles(&c) * g->n_vecs;
    for (int i = 0; i < n; i++) c.acc[i] = kb_tile(b, "acc", s->acc->dtype, c.height);
    for (int i = 0; i < n; i++) kb_tile_zero(b, c.acc[i], c.height);
    emit_reduction(&c, red, 0);
    for (int i = 0; i < n_row_tiles(&c); i++) emit_results(&c, i);
}
