/* The loops of a convolution by Winograd's minimal filtering (winograd.h).
 *
 *   parallel for slot, strips of tiles of its share          (whole: patches in a kernel before)
 *     for tiles, blocks of channels: patches[xi] := B^T d B  36, 16 or 6, straight-line code
 *     for blocks of output channels                          (whole: these are what slots share)
 *       for xi: products[xi] := patches[xi] x weights[xi]    register tiles of the contraction
 *       for tiles, vectors: out := finish(A^T products A)
 *
 * What lies outside of the input counts as zero, as the definition says: the patch of an edge's
 * tile is read with a predicate unless the halo covers it, and only results inside are stored.
 * Scratch rows come in odd numbers so that the planes xi do not meet in the same sets of a cache.
 */
#include "ir/winograd.h"

#include <string.h>

#include "ir/scratch.h"

/* ---- the three transforms -------------------------------------------------------------------- */

typedef struct Open {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Stage *s;
    const Winograd *w;
    int lanes;
    const KExpr *n, *down, *right, *n_tiles; /* images, tiles of an image, and of all */
    Stage product; /* products = patches x weights, with the axes xi, tile, o of one slot */
} Open;

/* a*b + c, as the machine does it best, kept in a variable. */
static const KExpr *keep_fma(Open *o, double a, const KExpr *b, const KExpr *c) {
    KCtx *k = o->k;
    const KExpr *f = k_const_f(k, DT_F32, a);
    return kb_let(o->b, "t",
                  o->p->m->target->fma ? k_fma(k, f, b, c) : k_add(k, k_mul(k, f, b), c));
}

static const KExpr *keep_add(Open *o, const KExpr *a, const KExpr *b) {
    return kb_let(o->b, "t", k_add(o->k, a, b));
}

static const KExpr *keep_sub(Open *o, const KExpr *a, const KExpr *b) {
    return kb_let(o->b, "t", k_sub(o->k, a, b));
}

/* t = B^T d, n elements: values at the points of the polynomials that vanish in all others.
 */
static void patch_line(Open *o, const KExpr *const *d, const KExpr **t) {
    double at[2];
    winograd_points(o->w->patch, at);
    double a = at[0], b = at[1];
    if (o->w->patch == 4) {
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
    int m = o->w->m, n = winograd_points(o->w->patch, at);
    const KExpr *sum[2], *difference[2];
    for (int q = 0; q < n; q++) {
        sum[q] = keep_add(o, t[1 + 2 * q], t[2 + 2 * q]);
        difference[q] = keep_sub(o, t[1 + 2 * q], t[2 + 2 * q]);
    }
    for (int i = 0; i < m; i++) {
        y[i] = i == 0 ? t[0] : i == m - 1 ? t[o->w->patch - 1] : NULL;
        for (int q = 0; q < n; q++) {
            const KExpr *part = i % 2 ? difference[q] : sum[q];
            y[i] = !y[i] ? kb_let(o->b, "t", k_mul(o->k, k_const_f(o->k, DT_F32, power[q]), part))
                   : power[q] == 1 ? keep_add(o, y[i], part)
                                   : keep_fma(o, power[q], part, y[i]);
            power[q] *= at[q];
        }
    }
}

/* lines[i][j] along j, then along i; n in, n_out out. Of a line there is lines[0]. */
typedef void Line(Open *o, const KExpr *const *in, const KExpr **out);

static void all_ways(Open *o, Line *line, int n, int n_out, const KExpr *in[MOST_PATCH][MOST_PATCH],
                     const KExpr *out[MOST_PATCH][MOST_PATCH]) {
    const KExpr *half[MOST_PATCH][MOST_PATCH], *column[MOST_PATCH], *done[MOST_PATCH];
    if (o->w->form.is_line) {
        line(o, in[0], out[0]);
        return;
    }
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) column[i] = in[i][j];
        line(o, column, done);
        for (int i = 0; i < n_out; i++) half[i][j] = done[i];
    }
    for (int i = 0; i < n_out; i++) line(o, half[i], out[i]);
}

/* ---- patches --------------------------------------------------------------------------------- */

/* The image of a tile, and the row and column at which it begins. */
typedef struct Tile {
    const KExpr *image, *row, *column;
} Tile;

/* Where in h (0) or w (1) the tiles of this row or column begin. */
static const KExpr *tile_start(Open *o, const char *name, const KExpr *tile, int along) {
    int64_t step = o->w->form.step[along];
    int axis = along ? o->w->form.x_axis : o->w->form.y_axis;
    const KExpr *at = winograd_tile_start(o->k, tile, o->w->m, step);
    return step == 1 ? at : kb_let_index(o->b, name, at, o->s->out->dims[axis]);
}

static Tile tile_place(Open *o, const KExpr *tile) {
    KCtx *k = o->k;
    const KExpr *dims[] = {o->n, o->down, o->right}, *index[3];
    def_unflatten(k, tile, dims, 3, index);
    const KExpr *image = kb_let_index(o->b, "image", index[0], o->n);
    const KExpr *row = kb_let_index(o->b, "row", index[1], o->down);
    const KExpr *column = kb_let_index(o->b, "column", index[2], o->right);
    return (Tile){image, tile_start(o, "h", row, 0), tile_start(o, "w", column, 1)};
}

typedef struct ReadPatch {
    Open *o;
    const KExpr *image, *channel, *y, *x; /* channel: of all taps along the depth, or parts */
} ReadPatch;

/* The index of an image along the axes before h: one, or batch and depth. */
static void image_index(Open *o, const KExpr *image, const KExpr **index) {
    KCtx *k = o->k;
    const KExpr *depth = o->w->form.kd < 0 ? k_int(k, 1) : o->s->out->dims[2];
    index[0] = k_fdiv(k, image, depth);
    index[2] = k_fmod(k, image, depth);
}

/* x at the patch's element: the definition's read, zero outside. */
static const KExpr *read_patch(KCtx *k, const KExpr *e, void *user) {
    const ReadPatch *r = user;
    const Stage *s = r->o->s;
    const WinogradForm *f = &r->o->w->form;
    if (e->op != KO_at) return e;
    int rank = e->u.tensor->rank, n = 0;
    KVar *var[8];
    const KExpr *by[8], *own[MAX_RANK], *index[MAX_RANK + 1], *zero = k_int(k, 0), *inside = NULL;
    image_index(r->o, r->image, own);
    if (!f->is_line) own[f->y_axis] = r->y;
    own[f->x_axis] = r->x;
    for (int i = 0; i < rank; i++) {
        if (i == f->o_axis) continue;
        var[n] = s->axis[i];
        by[n++] = own[i];
    }
    const int red[] = {f->ky, f->kx, f->channel, f->kd};
    const KExpr *channels = k_int(k, f->channels), *group = k_fdiv(k, r->channel, channels);
    const KExpr *first = f->is_line ? k_mul(k, group, k_int(k, f->part_step)) : zero;
    const KExpr *at[] = {zero, first, k_fmod(k, r->channel, channels), group};
    for (int i = 0; i < 4; i++) {
        if (red[i] < 0) continue;
        var[n] = s->red[red[i]];
        by[n++] = at[i];
    }
    for (int i = 0; i < rank; i++) index[i] = k_subst(k, e->arg[i], var, by, n);
    for (int i = 2; i < rank; i++) {
        const KExpr *low = k_le(k, zero, index[i]), *high = k_lt(k, index[i], e->u.tensor->dims[i]);
        inside = inside ? k_and(k, inside, k_and(k, low, high)) : k_and(k, low, high);
    }
    index[rank] = inside;
    return k_at(k, e->u.tensor, index, rank + 1);
}

static const KExpr *patch_index(Open *o, const KExpr *slot, int i, int j, const KExpr *tile,
                                const KExpr *channel) {
    const KExpr *index[] = {slot, k_int(o->k, i * o->w->patch + j), tile, channel};
    return tensor_flat_index(o->k, o->w->patches, index);
}

/* Element i of the tile that begins at `start`, along h (0) or w (1). */
static const KExpr *element_of(Open *o, const KExpr *start, int along, int i) {
    return k_add(o->k, start, k_int(o->k, i * o->w->form.step[along]));
}

/* patches[slot, ., at, .] := B^T d B of the tile, for a block of channels. */
static void open_patch(Open *o, const KExpr *slot, const KExpr *tile, const KExpr *at,
                       const KExpr *block) {
    KCtx *k = o->k;
    int n = o->w->patch, n_lines = o->w->form.is_line ? 1 : n;
    const KExpr *d[MOST_PATCH][MOST_PATCH], *t[MOST_PATCH][MOST_PATCH];
    Tile place = tile_place(o, tile);
    const KExpr *lane = kb_for(o->b, LOOP_VECTOR, "l", k_int(k, o->lanes));
    const KExpr *channel = k_add(k, k_mul(k, block, k_int(k, o->lanes)), lane);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < n_lines; i++) {
            ReadPatch r = {o, place.image, channel, element_of(o, place.row, 0, i),
                           element_of(o, place.column, 1, j)};
            const KExpr *e = k_rewrite(k, o->s->lhs, read_patch, &r);
            d[i][j] = kb_let(o->b, "d", expr_open(o->p, e));
        }
    all_ways(o, patch_line, n, n, d, t);
    for (int i = 0; i < n_lines; i++)
        for (int j = 0; j < n; j++)
            kb_store(o->b, o->w->patches->buf, patch_index(o, slot, i, j, at, channel), t[i][j]);
    kb_end(o->b);
}

/* ---- products -------------------------------------------------------------------------------- */

/* A strip: its first tile, how many it has, and the register tiles of its products. */
typedef struct Strip {
    const KExpr *first, *n_tiles, *n_full, *has_rest;
} Strip;

/* The stage whose register tiles make the products of output channels from `first` on: sums over
 * the first `ic` channels. */
static void define_product(Open *o, const KExpr *slot, const KExpr *first, int64_t ic) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *zero = k_int(k, 0), *from = w->whole ? zero : slot;
    Stage *s = &o->product;
    int64_t extent[] = {w->n_slots, w->n_xi, w->strip, w->n_vecs * o->lanes};
    static const char *const names[] = {"slot", "xi", "tile", "o"};
    *s = (Stage){.form = FORM_CONTRACT,
                 .owner = o->p,
                 .out = w->products,
                 .n_red = 1,
                 .fold = KO_add,
                 .init = o->s->init,
                 .acc = o->s->acc,
                 .node = o->s->node};
    s->finish = k_var(k, s->acc);
    bool is_any = w->whole && w->form.is_free;
    for (int i = 0; i < 4; i++) {
        int64_t last = i == 2 && is_any ? o->n_tiles->hi : extent[i] - 1;
        s->axis[i] = kvar_new(k, KV_AXIS, DT_I64, names[i], 0, last);
    }
    s->red_extent[0] = k_int(k, ic);
    s->red[0] = kvar_new(k, KV_AXIS, DT_I64, "c", 0, ic - 1);
    const KExpr *xi = k_var(k, s->axis[1]), *c = k_var(k, s->red[0]);
    const KExpr *lhs[] = {from, xi, k_var(k, s->axis[2]), c};
    const KExpr *rhs[] = {xi, k_add(k, first, k_var(k, s->axis[3])), c};
    s->lhs = k_at(k, w->patches, lhs, 4);
    s->rhs = k_at(k, w->weights, rhs, 3);
}

/* Steps of the reduction in the body of a register tile's loop: two, if the registers also hold the
 * next step's vectors. On machines of 16 registers a broadcast is a load of its own. Where only one
 * sum uses it, that sum takes over its register, and each step leaves the sums in other ones. */
static int steps_of_body(const Open *o, int rows, int n_vecs) {
    int regs = o->p->m->target->n_vector_regs, sums = rows * n_vecs;
    bool is_tight = regs > 16 ? sums + 2 * n_vecs >= regs : n_vecs == 1;
    return o->w->form.ic % 4 || is_tight ? 1 : 2;
}

/* Tile `which` of the register tiles that use the same weights one after the other. */
static void open_tile(Open *o, const KExpr *slot, const KExpr *xi, const KExpr *which, int rows,
                      int n_vecs) {
    KCtx *k = o->k;
    const KExpr *first = k_mul(k, which, k_int(k, o->w->rows));
    const KExpr *at[] = {slot, xi, first, k_int(k, 0)};
    Schedule sch = {.vec_axis = 3,
                    .lanes = o->lanes,
                    .n_vecs = n_vecs,
                    .row_axis = {-1, 2},
                    .rows = {1, rows},
                    .unroll = steps_of_body(o, rows, n_vecs),
                    .parts = 1,
                    .row_tiles = (int)((o->w->strip + o->w->rows - 1) / o->w->rows),
                    .prefetch = o->w->prefetch,
                    .left_far = o->w->whole};
    schedule_open_tile(o->p, &o->product, &sch, at, which, o->b);
}

/* products[slot, xi, tiles, n_vecs vectors], n_xi of them from `from` on, of a strip that has
 * n_full whole register tiles and, if has_rest, the rows that remain of all tiles behind them.
 * Where sizes are free the last of n_full ends behind the strip's tiles, in rows of which nobody
 * reads the products. */
static void open_planes(Open *o, const KExpr *slot, const Strip *strip, int n_vecs, int from,
                        int n_xi) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *n_full = strip->n_full, *has_rest = strip->has_rest;
    int rest = w->form.is_free ? 0 : (int)(w->n_tiles % w->rows);
    const KExpr *xi = kb_for(o->b, LOOP_SERIAL, "xi", k_int(k, n_xi));
    xi = k_add(k, xi, k_int(k, from));
    if (!k_is_value(n_full, 0)) {
        const KExpr *t = kb_for(o->b, LOOP_SERIAL, "t", n_full);
        open_tile(o, slot, xi, t, w->rows, n_vecs);
        kb_end(o->b);
    }
    if (rest) {
        if (!k_is_value(has_rest, 1)) kb_if(o->b, has_rest);
        open_tile(o, slot, xi, n_full, rest, n_vecs);
        if (!k_is_value(has_rest, 1)) kb_end(o->b);
    }
    kb_end(o->b);
}

/* All planes. In the last one of a line, parts that are not full have no products. */
static void open_products(Open *o, const KExpr *slot, const Strip *strip, const KExpr *first,
                          int n_vecs) {
    const Winograd *w = o->w;
    int n_last = w->form.ic_last < w->form.ic;
    define_product(o, slot, first, w->form.ic);
    open_planes(o, slot, strip, n_vecs, 0, w->n_xi - n_last);
    if (!n_last) return;
    define_product(o, slot, first, w->form.ic_last);
    open_planes(o, slot, strip, n_vecs, w->n_xi - 1, 1);
}

/* ---- results --------------------------------------------------------------------------------- */

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
    const KExpr *by[MAX_RANK + 1], *offset;
    KVar *var[MAX_RANK + 1];
    int rank = s->out->rank;
    for (int i = 0; i < rank; i++) {
        var[i] = s->axis[i];
        by[i] = index[i];
    }
    var[rank] = s->acc;
    by[rank] = acc;
    KTensor *root = tensor_root(k, s->out, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    kb_store(o->b, root->buf, flat, expr_open(o->p, k_subst(k, s->finish, var, by, rank + 1)));
}

/* The results of a tile for the lanes of output channels behind `first` + `in_block`. */
static void open_result(Open *o, const KExpr *slot, const KExpr *tile, const KExpr *at,
                        const KExpr *first, const KExpr *in_block) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    int m = w->m, n = w->patch;
    int n_lines = w->form.is_line ? 1 : n, n_rows = w->form.is_line ? 1 : m;
    const KExpr *t[MOST_PATCH][MOST_PATCH],
        *y[MOST_PATCH][MOST_PATCH], *const *dims = o->s->out->dims;
    Tile place = tile_place(o, tile);
    const KExpr *lane = kb_for(o->b, LOOP_VECTOR, "l", k_int(k, o->lanes));
    in_block = k_add(k, in_block, lane);
    const KExpr *channel = k_add(k, first, in_block);
    for (int i = 0; i < n_lines; i++)
        for (int j = 0; j < n; j++) {
            const KExpr *index[] = {slot, k_int(k, i * n + j), at, in_block};
            const KExpr *flat = tensor_flat_index(k, w->products, index);
            t[i][j] = kb_let(o->b, "p", k_load(k, w->products->buf, flat));
        }
    all_ways(o, result_line, n, m, t, y);
    int n_open = 0, y_axis = w->form.y_axis, x_axis = w->form.x_axis, o_axis = w->form.o_axis;
    const KExpr *index[MAX_RANK];
    image_index(o, place.image, index);
    index[o_axis] = channel;
    if_inside(o, channel, dims[o_axis], &n_open);
    for (int i = 0; i < n_rows; i++) {
        int in_row = 0;
        if (!w->form.is_line) {
            index[y_axis] = element_of(o, place.row, 0, i);
            if_inside(o, index[y_axis], dims[y_axis], &in_row);
        }
        for (int j = 0; j < m; j++) {
            const KExpr *x = element_of(o, place.column, 1, j);
            index[x_axis] = x;
            int in_column = 0;
            if_inside(o, x, dims[x_axis], &in_column);
            store_result(o, index, y[i][j]);
            if (in_column) kb_end(o->b);
        }
        if (in_row) kb_end(o->b);
    }
    for (int i = 0; i < n_open + 1; i++) kb_end(o->b);
}

/* ---- the nest -------------------------------------------------------------------------------- */

/* How many tiles a strip may have. */
static const KExpr *most_in_strip(const Open *o) {
    return o->w->whole ? o->n_tiles : k_int(o->k, o->w->strip);
}

/* A loop over the strip's tiles; returns the tile, *at is its number in the strip. Neighbours in a
 * row come one after the other, so memory is read and written in long streams. */
static const KExpr *open_tiles(Open *o, const Strip *strip, const KExpr **at) {
    const KExpr *i = kb_for(o->b, LOOP_SERIAL, "t", strip->n_tiles);
    *at = kb_let_index(o->b, "t", i, most_in_strip(o));
    return kb_let_index(o->b, "tile", k_add(o->k, strip->first, *at), o->n_tiles);
}

static void open_block(Open *o, const KExpr *slot, const Strip *strip, const KExpr *first,
                       int n_vecs) {
    KCtx *k = o->k;
    open_products(o, slot, strip, first, n_vecs);
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
    KCtx *k = p->m->k;
    const Winograd *w = s->schedule->winograd;
    Open o = {.p = p, .k = k, .b = b, .s = s, .w = w, .lanes = s->schedule->lanes};
    winograd_images(k, s, w, &o.n, &o.down, &o.right);
    o.n_tiles = k_mul(k, o.n, k_mul(k, o.down, o.right));
    return o;
}

static int64_t in_blocks_of(const Open *o) {
    return (o->w->form.ic + o->lanes - 1) / o->lanes;
}

void schedule_open_patches(DefProgram *p, const Stage *s, KBuild *b) {
    Open o = opener(p, s, b);
    KCtx *k = o.k;
    const KExpr *n_rows = k_mul(k, o.n, o.down);
    const KExpr *dims[] = {k_int(k, in_blocks_of(&o)), n_rows}, *index[2];
    KLoopMark mark = o.w->n_slots > 1 ? LOOP_PARALLEL : LOOP_SERIAL;
    const KExpr *all = kb_for(b, mark, "row", k_mul(k, dims[0], dims[1]));
    def_unflatten(k, all, dims, 2, index);
    const KExpr *block = kb_let_within(b, "c", index[0], in_blocks_of(&o) - 1);
    const KExpr *first = kb_let_index(b, "first", index[1], n_rows);
    first = k_mul(k, first, o.right);
    const KExpr *t = kb_for(b, LOOP_SERIAL, "t", o.right);
    const KExpr *tile = kb_let_index(b, "tile", k_add(k, first, t), o.n_tiles);
    open_patch(&o, k_int(k, 0), tile, tile, block);
    kb_end(b);
    kb_end(b);
}

/* Register tiles of so many tiles: where sizes are free, the last may end behind them. */
static const KExpr *full_tiles(const Open *o, const KExpr *n_tiles) {
    KCtx *k = o->k;
    int64_t rows = o->w->rows;
    if (o->w->form.is_free) n_tiles = k_add(k, n_tiles, k_int(k, rows - 1));
    return k_fdiv(k, n_tiles, k_int(k, rows));
}

static void open_blocks_by_slot(Open *o) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *slot, *block;
    const KExpr *rows = k_int(k, w->rows);
    Strip all = {k_int(k, 0), o->n_tiles, full_tiles(o, o->n_tiles), NULL};
    all.has_rest = k_lt(k, k_mul(k, all.n_full, rows), o->n_tiles);
    kb_slots(o->b, w->n_slots, k_int(k, n_blocks_of(w, o->lanes)), &slot, &block);
    open_some_block(o, slot, &all, block);
    kb_end(o->b);
    kb_end(o->b);
}

static void open_strips_by_slot(Open *o) {
    KCtx *k = o->k;
    const Winograd *w = o->w;
    const KExpr *slot, *strip, *blocks = k_int(k, n_blocks_of(w, o->lanes)),
                               *size = k_int(k, w->strip), *rows = k_int(k, w->rows);
    const KExpr *n_strips = k_fdiv(k, k_add(k, o->n_tiles, k_int(k, w->strip - 1)), size);
    const KExpr *groups = k_int(k, w->groups), *n_items = k_mul(k, n_strips, groups), *item, *group;
    kb_slots(o->b, w->n_slots, n_items, &slot, &item);
    strip = k_fdiv(k, item, groups);
    group = k_fmod(k, item, groups);
    Strip of = {k_mul(k, strip, size), NULL, NULL, NULL};
    of.n_tiles = kb_let(o->b, "n", k_min(k, k_sub(k, o->n_tiles, of.first), size));
    of.n_full = full_tiles(o, of.n_tiles);
    of.has_rest = k_lt(k, k_mul(k, of.n_full, rows), of.n_tiles);
    /* the strip's first group in this slot */
    const KExpr *from = k_fdiv(k, k_mul(k, slot, n_items), k_int(k, w->n_slots));
    if (w->groups > 1) kb_if(o->b, k_or(k, k_eq(k, group, k_int(k, 0)), k_eq(k, item, from)));
    const KExpr *c = kb_for(o->b, LOOP_SERIAL, "c", k_int(k, in_blocks_of(o))), *at;
    const KExpr *tile = open_tiles(o, &of, &at);
    open_patch(o, slot, tile, at, c);
    kb_end(o->b);
    kb_end(o->b);
    if (w->groups > 1) kb_end(o->b);
    const KExpr *first = k_fdiv(k, k_mul(k, group, blocks), groups);
    const KExpr *end = k_fdiv(k, k_mul(k, k_add(k, group, k_int(k, 1)), blocks), groups);
    const KExpr *i = kb_for(o->b, LOOP_SERIAL, "o", k_sub(k, end, first));
    open_some_block(o, slot, &of, kb_let_index(o->b, "o", k_add(k, first, i), blocks));
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
