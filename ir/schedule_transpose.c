/* Maps whose read and store walk memory along different axes: transposes, changes of layout.
 *
 *   parallel for outer axes and tiles of u        u: the read's neighbours; v: the store's
 *     for tiles of v
 *       for v, u (vector)    tile[v][u] := read
 *       for u, v (vector)    out := value of tile[v][u]
 *
 * A tile is a square of vectors on the stack. So every line of memory is read and written once and
 * whole, while the turn happens in the nearest cache. What does not fill a tile is a smaller one.
 * Of a tensor in blocks, u is the place in a block: the loop over blocks is one of the outer ones.
 * Where the lines that a tile reads do not contend for the same places of that cache, the turn
 * needs no copy: the tile only is the order of the loops. */
#include "ir/schedule_rows.h"

enum { LEAST_EXTENT = 8, LEAST_ELEMS = 2048, CONTENDING_BYTES = 2048 };

typedef struct Turn {
    Rows *r;
    const Stage *s;
    const KExpr *read; /* the only one that walks memory along u rather than v */
    RowLoop u, v;
    RowNest nest; /* the other loops */
    KBuf *tile; /* NULL: read from memory directly */
    KVar *turned; /* stands for the tile's element in the body */
    const KExpr *body;
    int lanes;
} Turn;

/* ---- does it fit ----------------------------------------------------------------------------- */

static bool walks_by_one(KCtx *k, const KExpr *e, KVar *axis) {
    const KExpr *base, *coeff, *flat = tensor_flat_index(k, e->u.tensor, e->arg);
    return k_linear_in(k, flat, axis, &base, &coeff) && k_is_value(coeff, 1);
}

typedef struct FindTurn {
    KCtx *k;
    const Stage *s;
    const RowNest *nest;
    const KExpr *read;
    int u, n_reads;
    int block; /* of the axis u in memory, 0: it is not cut */
} FindTurn;

/* Is this tensor in blocks of the axis, which indexes it by itself? */
static bool walks_blocks(const KExpr *e, const KVar *axis) {
    const Layout *l = &e->u.tensor->layout;
    return l->block > 1 && e->arg[l->block_axis]->op == KO_var &&
           e->arg[l->block_axis]->u.var == axis;
}

static void note_turned(const KExpr *e, void *user) {
    FindTurn *f = user;
    KVar *v = f->s->axis[f->nest->loop[f->nest->n - 1].axis];
    if (e->op != KO_at || e == f->read || !k_uses_var(f->k, e, v)) return;
    if (at_pred(e) || walks_by_one(f->k, e, v)) return;
    f->n_reads++;
    f->read = e;
    for (int i = 0; i + 1 < f->nest->n; i++) {
        const RowLoop *l = &f->nest->loop[i];
        KVar *u = f->s->axis[l->axis];
        if (l->step != 1 || (!walks_by_one(f->k, e, u) && !walks_blocks(e, u))) continue;
        f->u = i;
        f->block = walks_by_one(f->k, e, u) ? 0 : e->u.tensor->layout.block;
    }
}

static bool is_long(const KExpr *extent) {
    int64_t n;
    return k_is_int(extent, &n) && n >= LEAST_EXTENT;
}

/* Lanes that lie a multiple of this apart share few places of the cache. */
static bool lanes_contend(const Turn *t) {
    KCtx *k = t->r->k;
    const KExpr *base, *coeff, *flat = tensor_flat_index(k, t->read->u.tensor, t->read->arg);
    int64_t n;
    if (!k_linear_in(k, flat, t->s->axis[t->v.axis], &base, &coeff) || !k_is_int(coeff, &n)) return true;
    return n * dtype_bytes(t->read->dtype) % CONTENDING_BYTES == 0;
}

/* The loop over blocks outside, and u inside of a block. The last block may stick out of the dim.
 */
static void cut_into_blocks(KCtx *k, Turn *t, int block) {
    const KExpr *n = k_add(k, t->u.extent, k_int(k, block - 1));
    t->nest.loop[t->nest.n++] = (RowLoop){t->u.axis, block, k_fdiv(k, n, k_int(k, block))};
    t->u.extent = k_int(k, block);
}

static bool find_turn(Rows *r, const Stage *s, Turn *t) {
    RowNest nest = rows_nest(r->k, s, NULL);
    FindTurn f = {r->k, s, &nest, NULL, -1, 0, 0};
    int bytes = dtype_bytes(s->out->dtype);
    if (s->form != FORM_MAP || s->out->dtype == DT_STR || bytes < 4 || nest.n < 2) return false;
    const RowLoop *v = &nest.loop[nest.n - 1];
    if (v->axis != tensor_contiguous_axis(s->out) || !is_long(v->extent)) return false;
    k_visit(r->k, s->body, note_turned, &f);
    if (f.n_reads != 1 || f.u < 0 || !is_long(nest.loop[f.u].extent)) return false;
    if (f.read->dtype == DT_STR || schedule_stage_work(s) < LEAST_ELEMS) return false;
    *t = (Turn){.r = r, .s = s, .read = f.read, .u = nest.loop[f.u], .v = *v, .nest = nest};
    t->lanes = target_lanes(r->p->m->target, bytes);
    t->nest.n = 0;
    for (int i = 0; i + 1 < nest.n; i++)
        if (i != f.u) t->nest.loop[t->nest.n++] = nest.loop[i];
    if (f.block) cut_into_blocks(r->k, t, f.block);
    return t->lanes > 1;
}

/* ---- loops ----------------------------------------------------------------------------------- */

static const KExpr *read_tile(KCtx *k, const KExpr *e, void *user) {
    const Turn *t = user;
    return e == t->read ? k_var(k, t->turned) : e;
}

/* The nest at element (u, v) of the tile that begins at these. */
static RowNest tile_at(Turn *t, const KExpr *u, const KExpr *v) {
    RowNest at = t->nest;
    rows_bind(t->r->k, &at, &t->u, u);
    rows_bind(t->r->k, &at, &t->v, v);
    return at;
}

/* One pass over the tile of n_u x n_v elements: from memory, lanes along u, or to memory, along v. */
static void tile_pass(Turn *t, const KExpr *u0, const KExpr *v0, int n_u, int n_v, bool reads) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *outer = kb_for(b, LOOP_SERIAL, "i", k_int(k, reads ? n_v : n_u));
    const KExpr *lane = kb_for(b, LOOP_VECTOR, "l", k_int(k, reads ? n_u : n_v));
    const KExpr *u = reads ? lane : outer, *v = reads ? outer : lane;
    const KExpr *place = k_add(k, k_mul(k, v, k_int(k, t->lanes)), u);
    RowNest at = tile_at(t, k_add(k, u0, u), k_add(k, v0, v));
    const KExpr *inside = k_and(k, rows_inside(t->r, t->s, &at),
                                k_lt(k, at.index[t->u.axis], t->s->out->dims[t->u.axis]));
    bool guarded = !k_is_value(inside, 1);
    if (guarded) kb_if(b, inside);
    if (!t->tile) {
        rows_store(t->r, t->s, &at, rows_expr(t->r, t->s, &at, t->s->body));
    } else if (reads) {
        kb_store(b, t->tile, place, rows_expr(t->r, t->s, &at, t->read));
    } else {
        const KExpr *value = k_load(k, t->tile, place);
        const KExpr *body = rows_expr(t->r, t->s, &at, t->body);
        rows_store(t->r, t->s, &at, k_subst(k, body, &t->turned, &value, 1));
    }
    if (guarded) kb_end(b);
    kb_end(b);
    kb_end(b);
}

static void open_tile(Turn *t, const KExpr *u0, const KExpr *v0, int n_u, int n_v) {
    if (!n_u || !n_v) return;
    if (t->tile) tile_pass(t, u0, v0, n_u, n_v, true);
    tile_pass(t, u0, v0, n_u, n_v, false);
}

/* All tiles along v, for n_u elements from u0 on. */
static void open_strip(Turn *t, const KExpr *u0, int n_u) {
    KCtx *k = t->r->k;
    int64_t n = 0;
    k_is_int(t->v.extent, &n);
    int64_t n_full = n / t->lanes, rest = n % t->lanes;
    if (n_full) {
        const KExpr *at = kb_for(t->r->b, LOOP_SERIAL, "v", k_int(k, n_full));
        open_tile(t, u0, k_mul(k, at, k_int(k, t->lanes)), n_u, t->lanes);
        kb_end(t->r->b);
    }
    open_tile(t, u0, k_int(k, n_full * t->lanes), n_u, (int)rest);
}

static void open_strips(Turn *t, const KExpr *strip) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    int64_t n = 0;
    k_is_int(t->u.extent, &n);
    int64_t n_full = n / t->lanes, rest = n % t->lanes;
    if (n_full && rest) kb_if(b, k_lt(k, strip, k_int(k, n_full)));
    if (n_full) {
        const KExpr *at = rest ? kb_let_within(b, "u", strip, n_full - 1) : strip;
        open_strip(t, k_mul(k, at, k_int(k, t->lanes)), t->lanes);
    }
    if (n_full && rest) kb_else(b);
    if (rest) open_strip(t, k_int(k, n_full * t->lanes), (int)rest);
    if (n_full && rest) kb_end(b);
}

bool open_transposed(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    Turn t;
    if (!find_turn(r, s, &t)) return false;
    const KExpr *extent[MAX_RANK + 2], *index[MAX_RANK + 2], *total = k_int(k, 1);
    int n = t.nest.n;
    for (int i = 0; i < n; i++) extent[i] = t.nest.loop[i].extent;
    extent[n] = k_fdiv(k, k_add(k, t.u.extent, k_int(k, t.lanes - 1)), k_int(k, t.lanes));
    for (int i = 0; i <= n; i++) total = k_mul(k, total, extent[i]);
    bool is_large = schedule_stage_work(s) >= PARALLEL_GRAIN;
    const KExpr *tile = kb_for(r->b, is_large ? LOOP_PARALLEL : LOOP_SERIAL, "tile", total);
    kb_unflatten(r->b, "i", tile, extent, n + 1, index);
    for (int i = 0; i < n; i++) rows_bind(k, &t.nest, &t.nest.loop[i], index[i]);
    if (lanes_contend(&t))
        t.tile = kb_alloc(r->b, MEM_STACK, t.read->dtype, "tile", (int64_t)t.lanes * t.lanes);
    t.turned = kvar_new(k, KV_AXIS, t.read->dtype, "turned", INT64_MIN, INT64_MAX);
    t.body = k_rewrite(k, s->body, read_tile, &t);
    open_strips(&t, index[n]);
    kb_end(r->b);
    return true;
}
