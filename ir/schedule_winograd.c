/* The loops of a convolution by Winograd's minimal filtering (winograd.h).
 *
 *   parallel for slot, strips of tiles of its share          (whole: patches in a kernel before)
 *     for tiles, blocks of channels: patches[xi] := B^T d B  36 or 16 elements, straight-line code
 *     for blocks of output channels                          (whole: these are what slots share)
 *       for xi: products[xi] := patches[xi] x weights[xi]    register tiles of the contraction
 *       for tiles, vectors: out := finish(A^T products A)
 *
 * The points of interpolation are 0, infinity, +-1 for m = 2, and +-5/8, +-3/2 for m = 4: all
 * factors of A and B are exact in f32, and the rounding error is half of what +-1, +-2 give. What
 * lies outside of the input counts as zero, as the definition says: the patch of an edge's tile is
 * read with a predicate unless the halo covers it, and only results inside are stored. Scratch rows
 * come in odd numbers so that the planes xi do not meet in the same sets of a cache. */
#include "ir/winograd.h"

#include <string.h>

#include "ir/scratch.h"

/* ---- which contractions
 * --------------------------------------------------------------------------------- */

typedef struct FindRead {
    const KExpr *at;
    int n;
} FindRead;

static void note_only_read(const KExpr *e, void *user) {
    FindRead *f = user;
    if (e->op != KO_at) return;
    f->at = e;
    f->n++;
}

/* Is e = axis + red + a constant? */
static bool is_sum(KCtx *k, const KExpr *e, KVar *axis, KVar *red) {
    const KExpr *rest, *coeff, *base;
    int64_t c;
    return k_linear_in(k, e, axis, &rest, &coeff) && k_is_value(coeff, 1) &&
           k_linear_in(k, rest, red, &base, &coeff) && k_is_value(coeff, 1) && k_is_int(base, &c);
}

/* The reduction axis of three elements that index e beside `axis`; -1 when there is none. */
static int tap_axis(KCtx *k, const Stage *s, const KExpr *e, KVar *axis) {
    for (int r = 0; r < s->n_red; r++)
        if (k_is_value(s->red_extent[r], 3) && is_sum(k, e, axis, s->red[r])) return r;
    return -1;
}

/* Does the predicate say no more than that the index is inside of the tensor? */
static bool is_bounds(const KExpr *at, const KExpr *pred) {
    const KTensor *t = at->u.tensor;
    if (pred->op == KO_and) return is_bounds(at, pred->arg[0]) && is_bounds(at, pred->arg[1]);
    for (int a = 2; a < t->rank; a++) {
        if (pred->op == KO_le && k_is_value(pred->arg[0], 0) && pred->arg[1] == at->arg[a])
            return true;
        if (pred->op == KO_lt && pred->arg[0] == at->arg[a] && pred->arg[1] == t->dims[a])
            return true;
    }
    return false;
}

static bool uses_only_batch(KCtx *k, const Stage *s, const KExpr *e) {
    for (int i = 1; i < 4; i++)
        if (k_uses_var(k, e, s->axis[i])) return false;
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(k, e, s->red[r])) return false;
    return true;
}

bool winograd_match(DefProgram *p, const Stage *s, WinogradForm *f) {
    KCtx *k = p->m->k;
    FindRead only = {NULL, 0};
    if (s->form != FORM_CONTRACT || s->n_red != 3 || s->out->rank != 4) return false;
    if (s->acc->dtype != DT_F32 || s->fold != KO_add || !k_is_value(s->init, 0)) return false;
    k_visit(k, s->lhs, note_only_read, &only);
    const KExpr *at = only.at;
    if (only.n != 1 || at->u.tensor->rank != 4 || at->u.tensor->data) return false;
    if (at_pred(at) && !is_bounds(at, at_pred(at))) return false;
    f->read = at;
    f->ky = tap_axis(k, s, at->arg[2], s->axis[2]);
    f->kx = tap_axis(k, s, at->arg[3], s->axis[3]);
    if (f->ky < 0 || f->kx < 0 || f->ky == f->kx) return false;
    f->channel = 3 - f->ky - f->kx;
    if (at->arg[1]->op != KO_var || at->arg[1]->u.var != s->red[f->channel]) return false;
    if (!uses_only_batch(k, s, at->arg[0])) return false;
    for (int i = 2; i < 4; i++)
        if (k_uses_var(k, s->rhs, s->axis[i])) return false;
    if (k_uses_var(k, s->rhs, s->axis[0]) || !k_uses_var(k, s->rhs, s->axis[1])) return false;
    const KExpr *const *dims = s->out->dims;
    int64_t of_x[4];
    for (int i = 0; i < 4; i++)
        if (!k_is_int(at->u.tensor->dims[i], &of_x[i])) return false;
    /* every element of x is in some window: beyond the last one there is nothing but zeros */
    if (at->arg[2]->hi < of_x[2] - 1 || at->arg[3]->hi < of_x[3] - 1) return false;
    return k_is_int(dims[0], &f->n) && k_is_int(dims[1], &f->oc) && k_is_int(dims[2], &f->h) &&
           k_is_int(dims[3], &f->w) && k_is_int(s->red_extent[f->channel], &f->ic);
}

static bool in_blocks(const KTensor *t, int lanes) {
    return t->layout.block == lanes && t->layout.block_axis == 1 && t->dtype == DT_F32;
}

bool winograd_fits_layout(const Stage *s, const WinogradForm *f, int lanes) {
    return lanes > 1 && in_blocks(s->out, lanes) && in_blocks(f->read->u.tensor, lanes);
}

void winograd_count_tiles(Winograd *w) {
    w->down = (w->form.h + w->m - 1) / w->m;
    w->right = (w->form.w + w->m - 1) / w->m;
    w->n_tiles = w->form.n * w->down * w->right;
}

/* ---- the three transforms
 * ------------------------------------------------------------------------------- */

enum { LARGEST = 6 }; /* patch of m = 4 */

/* Points of interpolation beside 0 and infinity: +-at[0], +-at[1]. */
static int points(int m, double at[2]) {
    at[0] = m == 2 ? 1 : 0.625;
    at[1] = 1.5;
    return m / 2;
}

double winograd_weight_factor(int m, int i, int j) {
    double at[2], by = 1;
    int n = points(m, at);
    if (i == m + 1) return j == 2;
    if (i == 0) {
        for (int q = 0; q < n; q++) by *= -at[q] * at[q];
        return j == 0 ? 1 / by : 0;
    }
    int own = (i - 1) / 2;
    double p = i % 2 ? at[own] : -at[own];
    by = 2 * p * p;
    for (int q = 0; q < n; q++)
        if (q != own) by *= p * p - at[q] * at[q];
    return (j == 0 ? 1 : j == 1 ? p : p * p) / by;
}

typedef struct Open {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Stage *s;
    const Winograd *w;
    int lanes;
    Stage product; /* products = patches x weights, with the axes xi, tile, o of one slot */
} Open;

/* a*b + c, as the machine does it best, kept in a variable. */
static const KExpr *keep_fma(Open *o, double a, const KExpr *b, const KExpr *c) {
    KCtx *k = o->k;
    const KExpr *f = k_const_f(k, DT_F32, a);
    return kb_let(o->b, "t", o->p->m->target->fma ? k_fma(k, f, b, c) : k_add(k, k_mul(k, f, b), c));
}

static const KExpr *keep_add(Open *o, const KExpr *a, const KExpr *b) {
    return kb_let(o->b, "t", k_add(o->k, a, b));
}

static const KExpr *keep_sub(Open *o, const KExpr *a, const KExpr *b) {
    return kb_let(o->b, "t", k_sub(o->k, a, b));
}

/* t = B^T d, n = m + 2 elements: values at the points of the polynomials that vanish in all others. */
static void patch_line(Open *o, const KExpr *const *d, const KExpr **t) {
    double at[2];
    int m = o->w->m;
    points(m, at);
    double a = at[0], b = at[1];
    if (m == 2) {
        t[0] = keep_fma(o, -a * a, d[0], d[2]);
        t[1] = keep_fma(o, a, d[1], d[2]);
        t[2] = keep_fma(o, -a, d[1], d[2]);
        t[3] = keep_fma(o, -a * a, d[1], d[3]);
        return;
    }
    for (int q = 0; q < 2; q++) {
        double other = q ? a : b, own = q ? b : a;
        const KExpr *even = keep_fma(o, -other * other, d[2], d[4]);
        const KExpr *odd = keep_fma(o, -other * other, d[1], d[3]);
        t[1 + 2 * q] = keep_fma(o, own, odd, even);
        t[2 + 2 * q] = keep_fma(o, -own, odd, even);
    }
    for (int q = 0; q < 2; q++) {
        const KExpr *high = keep_fma(o, -(a * a + b * b), d[q + 2], d[q + 4]);
        t[5 * q] = keep_fma(o, a * a * b * b, d[q], high);
    }
}

/* y = A^T t: m values of the polynomial's coefficients. */
static void result_line(Open *o, const KExpr *const *t, const KExpr **y) {
    double at[2], power[2] = {1, 1};
    int m = o->w->m, n = points(m, at);
    const KExpr *sum[2], *difference[2];
    for (int q = 0; q < n; q++) {
        sum[q] = keep_add(o, t[1 + 2 * q], t[2 + 2 * q]);
        difference[q] = keep_sub(o, t[1 + 2 * q], t[2 + 2 * q]);
    }
    for (int i = 0; i < m; i++) {
        y[i] = i == 0 ? t[0] : i == m - 1 ? t[m + 1] : NULL;
        for (int q = 0; q < n; q++) {
            const KExpr *part = i % 2 ? difference[q] : sum[q];
            y[i] = !y[i]          ? kb_let(o->b, "t",
                                           k_mul(o->k, k_const_f(o->k, DT_F32, power[q]), part))
                   : power[q] == 1 ? keep_add(o, y[i], part)
                                   : keep_fma(o, power[q], part, y[i]);
            power[q] *= at[q];
        }
    }
}

/* lines[i][j] along j, then along i; n in, n_out out. */
typedef void Line(Open *o, const KExpr *const *in, const KExpr **out);

static void both_ways(Open *o, Line *line, int n, int n_out,
                      const KExpr *in[LARGEST][LARGEST], const KExpr *out[LARGEST][LARGEST]) {
    const KExpr *half[LARGEST][LARGEST], *column[LARGEST], *done[LARGEST];
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = in[i][j];
        line(o, column, done);
        for (int i = 0; i < n_out; i++) half[i][j] = done[i];
    }
    for (int i = 0; i < n_out; i++) line(o, half[i], out[i]);
}

/* ---- patches
 * -------------------------------------------------------------------------------------------- */

/* Image, row and column of tiles. */
typedef struct Tile {
    const KExpr *image, *row, *column;
} Tile;

static Tile tile_place(Open *o, const KExpr *tile) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *dims[] = {k_int(k, w->form.n), k_int(k, w->down), k_int(k, w->right)}, *index[3];
    def_unflatten(k, tile, dims, 3, index);
    return (Tile){kb_let_within(o->b, "image", index[0], w->form.n - 1),
                  kb_let_within(o->b, "row", index[1], w->down - 1),
                  kb_let_within(o->b, "column", index[2], w->right - 1)};
}

typedef struct ReadPatch {
    Open *o;
    const KExpr *at[4]; /* what takes the place of the batch axis, the channel, h + ky and w + kx */
} ReadPatch;

/* x at the patch's element: the definition's read, zero outside. */
static const KExpr *read_patch(KCtx *k, const KExpr *e, void *user) {
    const ReadPatch *r = user;
    const Stage *s = r->o->s;
    const WinogradForm *f = &r->o->w->form;
    if (e->op != KO_at) return e;
    KVar *var[] = {s->axis[0], s->red[f->channel], s->axis[2], s->axis[3], s->red[f->ky],
                   s->red[f->kx]};
    const KExpr *by[] = {r->at[0], r->at[1], r->at[2], r->at[3], k_int(k, 0), k_int(k, 0)};
    const KExpr *index[5], *zero = k_int(k, 0), *const *dims = e->u.tensor->dims;
    for (int i = 0; i < 4; i++) index[i] = k_subst(k, e->arg[i], var, by, 6);
    index[4] = k_and(k, k_and(k, k_le(k, zero, index[2]), k_lt(k, index[2], dims[2])),
                     k_and(k, k_le(k, zero, index[3]), k_lt(k, index[3], dims[3])));
    return k_at(k, e->u.tensor, index, k_is_value(index[4], 1) ? 4 : 5);
}

static const KExpr *patch_index(Open *o, const KExpr *slot, int i, int j, const KExpr *tile,
                                const KExpr *channel) {
    const KExpr *index[] = {slot, k_int(o->k, i * (o->w->m + 2) + j), tile, channel};
    return tensor_flat_index(o->k, o->w->patches, index);
}

/* patches[slot, ., at, .] := B^T d B of the tile, for a block of channels. */
static void open_patch(Open *o, const KExpr *slot, const KExpr *tile, const KExpr *at,
                       const KExpr *block) {
    KCtx *k = o->k;
    int m = o->w->m, n = m + 2;
    const KExpr *d[LARGEST][LARGEST], *t[LARGEST][LARGEST], *size = k_int(k, m);
    Tile place = tile_place(o, tile);
    const KExpr *lane = kb_for(o->b, LOOP_VECTOR, "l", k_int(k, o->lanes));
    const KExpr *channel = k_add(k, k_mul(k, block, k_int(k, o->lanes)), lane);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n; i++) {
            ReadPatch r = {o, {place.image, channel, k_add(k, k_mul(k, place.row, size), k_int(k, i)),
                               k_add(k, k_mul(k, place.column, size), k_int(k, j))}};
            const KExpr *e = k_rewrite(k, o->s->lhs, read_patch, &r);
            d[i][j] = kb_let(o->b, "d", expr_open(o->p, e));
        }
    both_ways(o, patch_line, n, n, d, t);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            kb_store(o->b, o->w->patches->buf, patch_index(o, slot, i, j, at, channel), t[i][j]);
    kb_end(o->b);
}

/* ---- products
 * ------------------------------------------------------------------------------------------- */

/* The stage whose register tiles make the products of output channels from `first` on. */
static void define_product(Open *o, const KExpr *slot, const KExpr *first) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *zero = k_int(k, 0), *from = w->whole ? zero : slot;
    Stage *s = &o->product;
    int64_t extent[] = {w->n_slots, (w->m + 2) * (w->m + 2), w->strip, w->n_vecs * o->lanes};
    static const char *const names[] = {"slot", "xi", "tile", "o"};
    *s = (Stage){.form = FORM_CONTRACT, .owner = o->p, .out = w->products, .n_red = 1,
                 .fold = KO_add, .init = o->s->init, .acc = o->s->acc, .node = o->s->node};
    s->finish = k_var(k, s->acc);
    for (int i = 0; i < 4; i++)
        s->axis[i] = kvar_new(k, KV_AXIS, DT_I64, names[i], 0, extent[i] - 1);
    s->red_extent[0] = k_int(k, w->form.ic);
    s->red[0] = kvar_new(k, KV_AXIS, DT_I64, "c", 0, w->form.ic - 1);
    const KExpr *xi = k_var(k, s->axis[1]), *c = k_var(k, s->red[0]);
    const KExpr *lhs[] = {from, xi, k_var(k, s->axis[2]), c};
    const KExpr *rhs[] = {xi, k_add(k, first, k_var(k, s->axis[3])), c};
    s->lhs = k_at(k, w->patches, lhs, 4);
    s->rhs = k_at(k, w->weights, rhs, 3);
}

static void open_tile(Open *o, const KExpr *slot, const KExpr *xi, const KExpr *first, int rows,
                      int n_vecs) {
    KCtx *k = o->k;
    const KExpr *at[] = {slot, xi, first, k_int(k, 0)};
    Schedule sch = {.vec_axis = 3, .lanes = o->lanes, .n_vecs = n_vecs, .row_axis = {-1, 2}, .parts = 1, .row_tiles = 1,
                    .rows = {1, rows}, .unroll = o->w->form.ic % 4 ? 1 : 2};
    schedule_open_tile(o->p, &o->product, &sch, at, o->b);
}

/* products[slot, xi, tiles, n_vecs vectors] of a strip that has n_full whole register tiles and, if
 * has_rest, the rows that remain of all tiles behind them. */
static void open_products(Open *o, const KExpr *slot, const KExpr *n_full, const KExpr *has_rest,
                          int n_vecs) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    int rest = (int)(w->n_tiles % w->rows);
    const KExpr *rows = k_int(k, w->rows);
    const KExpr *xi = kb_for(o->b, LOOP_SERIAL, "xi", k_int(k, (w->m + 2) * (w->m + 2)));
    if (!k_is_value(n_full, 0)) {
        const KExpr *t = kb_for(o->b, LOOP_SERIAL, "t", n_full);
        open_tile(o, slot, xi, k_mul(k, t, rows), w->rows, n_vecs);
        kb_end(o->b);
    }
    if (rest) {
        if (!k_is_value(has_rest, 1)) kb_if(o->b, has_rest);
        open_tile(o, slot, xi, k_mul(k, n_full, rows), rest, n_vecs);
        if (!k_is_value(has_rest, 1)) kb_end(o->b);
    }
    kb_end(o->b);
}

/* ---- results
 * -------------------------------------------------------------------------------------------- */

static void if_inside(Open *o, const KExpr *index, const KExpr *dim, int *n_open) {
    const KExpr *inside = k_lt(o->k, index, dim);
    if (k_is_value(inside, 1)) return;
    kb_if(o->b, inside);
    ++*n_open;
}

/* out[...] := finish(acc), unless it is outside. */
static void store_result(Open *o, const KExpr *const *index, const KExpr *acc) {
    KCtx *k = o->k;
    const Stage *s = o->s;
    const KExpr *by[5], *offset;
    KVar *var[5];
    for (int i = 0; i < 4; i++) {
        var[i] = s->axis[i];
        by[i] = index[i];
    }
    var[4] = s->acc;
    by[4] = acc;
    KTensor *root = tensor_root(k, s->out, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    kb_store(o->b, root->buf, flat, expr_open(o->p, k_subst(k, s->finish, var, by, 5)));
}

/* The results of a tile for the lanes of output channels behind `first` + `in_block`. */
static void open_result(Open *o, const KExpr *slot, const KExpr *tile, const KExpr *at,
                        const KExpr *first, const KExpr *in_block) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    int m = w->m, n = m + 2;
    const KExpr *t[LARGEST][LARGEST], *y[LARGEST][LARGEST], *const *dims = o->s->out->dims;
    Tile place = tile_place(o, tile);
    const KExpr *lane = kb_for(o->b, LOOP_VECTOR, "l", k_int(k, o->lanes)), *size = k_int(k, m);
    in_block = k_add(k, in_block, lane);
    const KExpr *channel = k_add(k, first, in_block);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const KExpr *index[] = {slot, k_int(k, i * n + j), at, in_block};
            const KExpr *flat = tensor_flat_index(k, w->products, index);
            t[i][j] = kb_let(o->b, "p", k_load(k, w->products->buf, flat));
        }
    both_ways(o, result_line, n, m, t, y);
    int n_open = 0;
    if_inside(o, channel, dims[1], &n_open);
    for (int i = 0; i < m; i++) {
        const KExpr *h = k_add(k, k_mul(k, place.row, size), k_int(k, i));
        int in_row = 0;
        if_inside(o, h, dims[2], &in_row);
        for (int j = 0; j < m; j++) {
            const KExpr *x = k_add(k, k_mul(k, place.column, size), k_int(k, j));
            const KExpr *index[] = {place.image, channel, h, x};
            int in_column = 0;
            if_inside(o, x, dims[3], &in_column);
            store_result(o, index, y[i][j]);
            if (in_column) kb_end(o->b);
        }
        if (in_row) kb_end(o->b);
    }
    for (int i = 0; i < n_open + 1; i++) kb_end(o->b);
}

/* ---- the nest
 * ------------------------------------------------------------------------------------------- */

/* A strip: its first tile and how many it has. */
typedef struct Strip {
    const KExpr *first, *n_tiles, *n_full, *has_rest;
} Strip;

/* A loop over the strip's tiles; returns the tile, *at is its number in the strip. Neighbours in a
 * row come one after the other, so memory is read and written in long streams. */
static const KExpr *open_tiles(Open *o, const Strip *strip, const KExpr **at) {
    const KExpr *i = kb_for(o->b, LOOP_SERIAL, "t", strip->n_tiles);
    *at = kb_let_within(o->b, "t", i, o->w->strip - 1);
    return kb_let_within(o->b, "tile", k_add(o->k, strip->first, *at), o->w->n_tiles - 1);
}

static void open_block(Open *o, const KExpr *slot, const Strip *strip, const KExpr *first,
                       int n_vecs) {
    KCtx *k = o->k;
    define_product(o, slot, first);
    open_products(o, slot, strip->n_full, strip->has_rest, n_vecs);
    const KExpr *v = kb_for(o->b, LOOP_SERIAL, "v", k_int(k, n_vecs)), *at;
    const KExpr *tile = open_tiles(o, strip, &at);
    open_result(o, slot, tile, at, first, k_mul(k, v, k_int(k, o->lanes)));
    kb_end(o->b);
    kb_end(o->b);
}

static int64_t n_blocks_of(const Winograd *w, int lanes) {
    int64_t width = w->n_vecs * lanes;
    return (w->form.oc + width - 1) / width;
}

/* One block of output channels; the last may have fewer vectors. */
static void open_some_block(Open *o, const KExpr *slot, const Strip *strip, const KExpr *block) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    int64_t n_vecs = (w->form.oc + o->lanes - 1) / o->lanes, n_full = n_vecs / w->n_vecs;
    int rest = (int)(n_vecs % w->n_vecs);
    const KExpr *width = k_int(k, w->n_vecs * o->lanes);
    if (n_full) {
        if (rest) kb_if(o->b, k_lt(k, block, k_int(k, n_full)));
        const KExpr *at = rest ? kb_let_within(o->b, "block", block, n_full - 1) : block;
        open_block(o, slot, strip, k_mul(k, at, width), w->n_vecs);
        if (rest) kb_else(o->b);
    }
    if (rest) {
        open_block(o, slot, strip, k_int(k, n_full * w->n_vecs * o->lanes), rest);
        if (n_full) kb_end(o->b);
    }
}

static Open opener(DefProgram *p, const Stage *s, KBuild *b) {
    return (Open){.p = p, .k = p->m->k, .b = b, .s = s, .w = s->schedule->winograd,
                  .lanes = s->schedule->lanes};
}

static int64_t in_blocks_of(const Open *o) {
    return (o->w->form.ic + o->lanes - 1) / o->lanes;
}

void schedule_open_patches(DefProgram *p, const Stage *s, KBuild *b) {
    Open o = opener(p, s, b);
    KCtx *k = o.k;
    int64_t n_rows = o.w->n_tiles / o.w->right;
    const KExpr *dims[] = {k_int(k, in_blocks_of(&o)), k_int(k, n_rows)}, *index[2];
    const KExpr *all = kb_for(b, LOOP_PARALLEL, "row", k_mul(k, dims[0], dims[1]));
    def_unflatten(k, all, dims, 2, index);
    const KExpr *block = kb_let_within(b, "c", index[0], in_blocks_of(&o) - 1);
    const KExpr *first = kb_let_within(b, "first", index[1], n_rows - 1);
    first = k_mul(k, first, k_int(k, o.w->right));
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", k_int(k, o.w->right));
    const KExpr *tile = kb_let_within(b, "tile", k_add(k, first, t), o.w->n_tiles - 1);
    open_patch(&o, k_int(k, 0), tile, tile, block);
    kb_end(b);
    kb_end(b);
}

static void open_blocks_by_slot(Open *o) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *slot, *block;
    Strip all = {k_int(k, 0), k_int(k, w->n_tiles), k_int(k, w->n_tiles / w->rows), k_bool(k, true)};
    kb_slots(o->b, w->n_slots, k_int(k, n_blocks_of(w, o->lanes)), &slot, &block);
    open_some_block(o, slot, &all, block);
    kb_end(o->b);
    kb_end(o->b);
}

static void open_strips_by_slot(Open *o) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    int64_t n_strips = (w->n_tiles + w->strip - 1) / w->strip;
    const KExpr *slot, *strip;
    kb_slots(o->b, w->n_slots, k_int(k, n_strips), &slot, &strip);
    Strip of = {k_mul(k, strip, k_int(k, w->strip)), NULL, NULL, NULL};
    const KExpr *left = k_sub(k, k_int(k, w->n_tiles), of.first);
    of.n_tiles = kb_let(o->b, "n", k_min(k, left, k_int(k, w->strip)));
    of.n_full = k_fdiv(k, of.n_tiles, k_int(k, w->rows));
    of.has_rest = k_lt(k, k_mul(k, of.n_full, k_int(k, w->rows)), of.n_tiles);
    const KExpr *c = kb_for(o->b, LOOP_SERIAL, "c", k_int(k, in_blocks_of(o))), *at;
    const KExpr *tile = open_tiles(o, &of, &at);
    open_patch(o, slot, tile, at, c);
    kb_end(o->b);
    kb_end(o->b);
    const KExpr *block = kb_for(o->b, LOOP_SERIAL, "o", k_int(k, n_blocks_of(w, o->lanes)));
    open_some_block(o, slot, &of, block);
    kb_end(o->b);
    kb_end(o->b);
    kb_end(o->b);
}

void schedule_open_winograd(DefProgram *p, const Stage *s, KBuild *b) {
    Open o = opener(p, s, b);
    if (o.w->whole)
        open_blocks_by_slot(&o);
    else
        open_strips_by_slot(&o);
}

/* ---- tensors
 * ------------------------------------------------------------------------------------------ */

Stage *winograd_define_weights(DefProgram *p, Stage *s, Winograd *w) {
    KCtx *k = p->m->k;
    Def d = {.p = p, .m = p->m, .k = k, .arena = p->arena, .node = s->node};
    int n = w->m + 2;
    double factor[LARGEST * LARGEST * 9];
    for (int i = 0; i < n * n * 9; i++) {
        int xi = i / 9, q = i % 9;
        factor[i] = winograd_weight_factor(w->m, xi / n, q / 3) *
                    winograd_weight_factor(w->m, xi % n, q % 3);
    }
    KTensor *table = def_table_floats(&d, "factors", DT_F64, factor, n * n * 9);
    const KExpr *dims[] = {k_int(k, n * n), k_int(k, w->form.oc), k_int(k, w->form.ic)};
    KTensor *out = program_add_tensor(p, "weights", DT_F32, 3, dims);
    out->layout = (Layout){.permuted = true, .order = {1, 0, 2}, .block_axis = 1};
    out->layout.block = (int16_t)(w->n_vecs * s->schedule->lanes);
    Stage *g = program_add_stage(p, s, FORM_MAP, out, s->node);
    KVar *var[] = {s->axis[1], s->red[w->form.channel], s->red[w->form.ky], s->red[w->form.kx]};
    const KExpr *sum = k_const_f(k, DT_F64, 0);
    for (int q = 0; q < 9; q++) {
        const KExpr *by[] = {k_var(k, g->axis[1]), k_var(k, g->axis[2]), k_int(k, q / 3),
                             k_int(k, q % 3)};
        const KExpr *at = k_add(k, k_mul(k, k_var(k, g->axis[0]), k_int(k, 9)), k_int(k, q));
        const KExpr *tap = k_cast(k, DT_F64, k_subst(k, s->rhs, var, by, 4));
        sum = k_add(k, sum, k_mul(k, k_at(k, table, &at, 1), tap));
    }
    g->body = k_cast(k, DT_F32, sum);
    w->weights = out;
    return g;
}

void winograd_add_scratch(DefProgram *p, const Stage *s, Winograd *w) {
    KCtx *k = p->m->k;
    int64_t lanes = s->schedule->lanes, ic = (w->form.ic + lanes - 1) / lanes * lanes;
    const KExpr *xi = k_int(k, (w->m + 2) * (w->m + 2)), *rows = k_int(k, w->strip | 1);
    const KExpr *in[] = {k_int(k, w->whole ? 1 : w->n_slots), xi, rows, k_int(k, ic)};
    const KExpr *out[] = {k_int(k, w->n_slots), xi, rows, k_int(k, w->n_vecs * lanes)};
    w->patches = scratch_tensor(p, "patches", DT_F32, 4, in);
    w->products = scratch_tensor(p, "products", DT_F32, 4, out);
}

const char *winograd_text(Arena *a, const Schedule *s) {
    const Winograd *w = s->winograd;
    return arena_printf(a, "w%d_t%dx%d_v%d", w->m, w->rows, w->n_vecs, s->lanes);
}
