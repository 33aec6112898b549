/* Maps whose read and store walk memory along different axes: transposes, changes of layout.
 *
 *   parallel for outer axes and strips of u       u: the read's neighbours; v: the store's
 *     for tiles of v
 *       for bands of v
 *         for v, u (vector)    rows[v][u] := read
 *         turn rows, in registers (turn.c)
 *         for u, v (vector)    tile[u][v] := what was rows[v][u]
 *       for u, v (vector)      out := value of tile[u][v]
 *
 * A tile is a square of vectors, on the stack where it is more than the registers hold and more is
 * done with it than to store it. Every line of memory is read once and whole, and written while the
 * near cache has it. Where an extent is no whole number of tiles, the
 * last tile ends with it and does some elements again (of v), or leaves out what another strip
 * makes (of u, perhaps at the same time). Of a tensor in blocks, u is the place in a block: the
 * loop over blocks is one of the outer ones.
 *
 * Few u (the three channels of an image) need no tile: each plane is a vector of reads in steps of
 * their number, which the renderer loads whole and permutes. Few v are the reverse:
 *
 *       for v, u (vector)      rows[v][u] := read
 *       for vectors of out     out := value of rows[at % n_v][at / n_v] */
#include "ir/schedule_rows.h"
#include "ir/turn.h"

enum { LEAST_EXTENT = 4, FEW = 4, LEAST_ELEMS = 2048, CHUNK = 16 };

typedef struct Turn {
    Rows *r;
    const Stage *s;
    const KExpr *read; /* the only one that walks memory along u rather than v */
    RowLoop u, v;
    int64_t n_u, n_v;
    RowNest nest; /* the other loops */
    KVar *turned; /* stands for the tile's element in the body */
    const KExpr *body;
    int lanes;
    bool in_blocks; /* the last block may hold less */
    bool gathers;   /* the order of the loops is enough */
    bool in_bands;  /* pieces of rows are stored from registers */
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

/* The loop over blocks outside, and u inside of a block. The last block may stick out of the dim.
 */
static void cut_into_blocks(KCtx *k, Turn *t, int block) {
    const KExpr *n = k_add(k, t->u.extent, k_int(k, block - 1));
    t->nest.loop[t->nest.n++] = (RowLoop){t->u.axis, block, k_fdiv(k, n, k_int(k, block))};
    t->u.extent = k_int(k, block);
}

/* The widest vectors that both extents fill, of the wider of the two dtypes. */
static int turn_lanes(const Turn *t) {
    int read = dtype_bytes(t->read->dtype), out = dtype_bytes(t->s->out->dtype);
    int lanes = target_lanes(t->r->p->m->target, read > out ? read : out);
    int64_t least = t->n_u <= FEW     ? t->n_v
                    : t->n_v <= FEW   ? t->n_u
                    : t->n_u < t->n_v ? t->n_u
                                      : t->n_v;
    while (lanes > least) lanes /= 2;
    return lanes;
}

/* Wide gathers of words do as well as the registers' turn, and better beyond the second level of
 * cache (0.14 for 0.19 ms of 16x100x300 f32), unless lanes lie a multiple apart that leaves them
 * few places of the cache, or the machine gathers slowly. */
static bool gathers_well(const Turn *t) {
    enum { LANES = 16, CONTENDING_BYTES = 2048 };
    KCtx *k = t->r->k;
    const KExpr *base, *coeff, *flat = tensor_flat_index(k, t->read->u.tensor, t->read->arg);
    int64_t n, bytes = dtype_bytes(t->read->dtype);
    if (t->lanes < LANES || bytes < 4 || bytes > t->r->p->m->target->gather_bytes) return false;
    return k_linear_in(k, flat, t->s->axis[t->v.axis], &base, &coeff) && k_is_int(coeff, &n) &&
           n * bytes % CONTENDING_BYTES != 0;
}

/* Do the elements of the result lie in the order of u, with all v at each? */
static bool interleaves(const Turn *t) {
    KCtx *k = t->r->k;
    const KExpr *base, *coeff, *index[MAX_RANK];
    for (int i = 0; i < t->s->out->rank; i++) index[i] = k_var(k, t->s->axis[i]);
    const KExpr *flat = tensor_flat_index(k, t->s->out, index);
    return k_linear_in(k, flat, t->s->axis[t->u.axis], &base, &coeff) &&
           k_is_value(coeff, t->n_v) && t->s->out->layout.block <= 1 && t->u.step == 1 &&
           t->s->out->dims[t->u.axis] == t->u.extent;
}

/* A value that costs nothing is stored from the registers it is in. */
static bool moves_only(const Turn *t) {
    const KExpr *e = t->s->body;
    while (e->op == KO_cast || e->op == KO_bitcast) e = e->arg[0];
    return e == t->read;
}

/* Do the rows of the result lie so far apart, and so evenly, that a tile's lines fall into few
 * places of the near cache? They should be stored whole then. */
static bool rows_contend(const Turn *t) {
    enum { CONTENDING_BYTES = 1024 };
    KCtx *k = t->r->k;
    const KExpr *base, *coeff, *index[MAX_RANK];
    int64_t n;
    for (int i = 0; i < t->s->out->rank; i++) index[i] = k_var(k, t->s->axis[i]);
    const KExpr *flat = tensor_flat_index(k, t->s->out, index);
    return !k_linear_in(k, flat, t->s->axis[t->u.axis], &base, &coeff) || !k_is_int(coeff, &n) ||
           n * dtype_bytes(t->s->out->dtype) % CONTENDING_BYTES == 0;
}

/* Bands of TURN_ROWS rows, each of which is stored as it comes: lanes need not fit v. */
static void choose_bands(Turn *t) {
    int bytes = dtype_bytes(t->s->out->dtype), lanes = target_lanes(t->r->p->m->target, bytes);
    while (lanes > t->n_u) lanes /= 2;
    t->in_bands = !t->gathers && lanes > TURN_ROWS && t->n_v >= TURN_ROWS && moves_only(t) &&
                  dtype_bytes(t->read->dtype) == bytes && !rows_contend(t);
    if (t->in_bands) t->lanes = lanes;
}

static bool find_turn(Rows *r, const Stage *s, Turn *t) {
    RowNest nest = rows_nest(r->k, s, NULL);
    FindTurn f = {r->k, s, &nest, NULL, -1, 0, 0};
    if (s->form != FORM_MAP || dtype_is_wide(s->out->dtype) || nest.n < 2) return false;
    const RowLoop *v = &nest.loop[nest.n - 1];
    if (v->axis != tensor_contiguous_axis(s->out)) return false;
    k_visit(r->k, s->body, note_turned, &f);
    if (f.n_reads != 1 || f.u < 0 || dtype_is_wide(f.read->dtype)) return false;
    if (schedule_stage_work(s) < LEAST_ELEMS) return false;
    *t = (Turn){.r = r, .s = s, .read = f.read, .u = nest.loop[f.u], .v = *v, .nest = nest};
    t->nest.n = 0;
    for (int i = 0; i + 1 < nest.n; i++)
        if (i != f.u) t->nest.loop[t->nest.n++] = nest.loop[i];
    if (f.block) cut_into_blocks(r->k, t, f.block);
    t->in_blocks = f.block || s->out->layout.block > 1;
    if (!k_is_int(t->u.extent, &t->n_u) || !k_is_int(t->v.extent, &t->n_v)) return false;
    t->lanes = turn_lanes(t);
    if (t->n_u <= FEW || t->n_v <= FEW)
        return t->lanes >= LEAST_EXTENT && !f.block && s->out->layout.block <= 1 &&
               (t->n_u <= FEW || interleaves(t));
    t->gathers = gathers_well(t);
    choose_bands(t);
    return t->lanes > 1;
}

/* ---- elements -------------------------------------------------------------------------------- */

static const KExpr *read_tile(KCtx *k, const KExpr *e, void *user) {
    const Turn *t = user;
    return e == t->read ? turn_unpack(k, e->dtype, k_var(k, t->turned)) : e;
}

/* The nest at element (u, v). */
static RowNest at_element(Turn *t, const KExpr *u, const KExpr *v) {
    RowNest at = t->nest;
    rows_bind(t->r->k, &at, &t->u, u);
    rows_bind(t->r->k, &at, &t->v, v);
    return at;
}

/* Opens an `if` where the element may be none: places of the last block behind the dim. */
static bool open_guard(Turn *t, const RowNest *at) {
    KCtx *k = t->r->k;
    if (!t->in_blocks) return false;
    const KExpr *inside = k_and(k, rows_inside(t->r, t->s, at),
                                k_lt(k, at->index[t->u.axis], t->s->out->dims[t->u.axis]));
    if (k_is_value(inside, 1)) return false;
    kb_if(t->r->b, inside);
    return true;
}

/* buf[place] := the read at (u, v) */
static void keep_element(Turn *t, KBuf *buf, const KExpr *place, const KExpr *u, const KExpr *v) {
    RowNest at = at_element(t, u, v);
    bool guarded = open_guard(t, &at);
    kb_store(t->r->b, buf, place, turn_pack(t->r->k, rows_expr(t->r, t->s, &at, t->read)));
    if (guarded) kb_end(t->r->b);
}

/* out := its value at (u, v), where the read is `value` (NULL: in memory) */
static void store_element(Turn *t, const KExpr *value, const KExpr *u, const KExpr *v) {
    RowNest at = at_element(t, u, v);
    bool guarded = open_guard(t, &at);
    const KExpr *body = rows_expr(t->r, t->s, &at, value ? t->body : t->s->body);
    if (value) body = k_subst(t->r->k, body, &t->turned, &value, 1);
    rows_store(t->r, t->s, &at, body);
    if (guarded) kb_end(t->r->b);
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Where part i of an extent begins, when parts have a length and the last one ends with the extent.
 */
static const KExpr *part_start(KBuild *b, const char *name, const KExpr *i, int64_t extent,
                               int lanes) {
    KCtx *k = b->k;
    const KExpr *start = k_mul(k, i, k_int(k, lanes));
    if (extent % lanes) start = k_min(k, start, k_int(k, extent - lanes));
    return kb_let_within(b, name, start, extent - lanes);
}

static const KExpr *n_parts(KCtx *k, int64_t extent, int lanes) {
    return k_int(k, (extent + lanes - 1) / lanes);
}

/* Turned rows of the reads at u0, and at n_rows v from v0 on. */
static KBuf *turn_band(Turn *t, const KExpr *u0, const KExpr *v0, int n_rows) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *width = k_int(k, t->lanes);
    KBuf *rows =
        kb_alloc(b, MEM_REG, turn_dtype(t->read->dtype), "rows", (int64_t)n_rows * t->lanes);
    const KExpr *r = kb_for(b, LOOP_UNROLL, "r", k_int(k, n_rows));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    keep_element(t, rows, k_add(k, k_mul(k, r, width), l), k_add(k, u0, l), k_add(k, v0, r));
    kb_end(b);
    kb_end(b);
    return turn_rows(b, rows, n_rows, t->lanes);
}

/* tile[u][band + r] := what the turned rows hold of it */
static void keep_band(Turn *t, KBuf *tile, KBuf *rows, const KExpr *band, int n_rows) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *width = k_int(k, t->lanes), *n = k_int(k, n_rows);
    const KExpr *r = kb_for(b, LOOP_UNROLL, "r", n);
    const KExpr *c = kb_for(b, LOOP_UNROLL, "c", k_int(k, t->lanes / n_rows));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", n), *piece = k_mul(k, c, n);
    const KExpr *to = k_add(k, k_mul(k, k_add(k, piece, r), width), k_add(k, band, l));
    kb_store(b, tile, to, k_load(k, rows, k_add(k, k_mul(k, r, width), k_add(k, piece, l))));
    kb_end(b);
    kb_end(b);
    kb_end(b);
}

/* out := what the turned rows hold, but for the first `skip` u. */
static void store_band(Turn *t, KBuf *rows, const KExpr *u0, const KExpr *v0, int n_rows,
                       int skip) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *n = k_int(k, n_rows), *r = kb_for(b, LOOP_UNROLL, "r", n);
    const KExpr *c = kb_for(b, LOOP_UNROLL, "c", k_int(k, t->lanes / n_rows));
    const KExpr *piece = k_mul(k, c, n), *u = k_add(k, piece, r);
    if (skip) kb_if(b, k_le(k, k_int(k, skip), u));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", n);
    const KExpr *from = k_add(k, k_mul(k, r, k_int(k, t->lanes)), k_add(k, piece, l));
    store_element(t, k_load(k, rows, from), k_add(k, u0, u), k_add(k, v0, l));
    for (int i = skip ? 0 : 1; i < 4; i++) kb_end(b);
}

/* The tile at (u0, v0), but for its first `skip` u, which another tile makes. */
static void open_tile(Turn *t, KBuf *tile, const KExpr *u0, const KExpr *v0, int skip) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    int n_rows = t->lanes < TURN_ROWS ? t->lanes : TURN_ROWS;
    const KExpr *width = k_int(k, t->lanes);
    if (t->in_bands) {
        store_band(t, turn_band(t, u0, v0, n_rows), u0, v0, n_rows, skip);
        return;
    }
    if (tile) {
        const KExpr *band = kb_for(b, LOOP_SERIAL, "band", k_int(k, t->lanes / n_rows));
        band = k_mul(k, band, k_int(k, n_rows));
        keep_band(t, tile, turn_band(t, u0, k_add(k, v0, band), n_rows), band, n_rows);
        kb_end(b);
    } else if (!t->gathers) {
        tile = turn_band(t, u0, v0, n_rows);
    }
    bool in_registers = tile && tile->mem == MEM_REG;
    const KExpr *u =
        kb_for(b, in_registers ? LOOP_UNROLL : LOOP_SERIAL, "i", k_int(k, t->lanes - skip));
    u = k_add(k, u, k_int(k, skip));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *value = tile ? k_load(k, tile, k_add(k, k_mul(k, u, width), l)) : NULL;
    store_element(t, value, k_add(k, u0, u), k_add(k, v0, l));
    kb_end(b);
    kb_end(b);
}

static void open_tiles(Turn *t, KBuf *tile, const KExpr *u0, int skip) {
    KBuild *b = t->r->b;
    int n = t->in_bands ? TURN_ROWS : t->lanes;
    const KExpr *v = kb_for(b, LOOP_SERIAL, "v", n_parts(t->r->k, t->n_v, n));
    open_tile(t, tile, u0, part_start(b, "v", v, t->n_v, n), skip);
    kb_end(b);
}

static void open_strip(Turn *t, const KExpr *strip) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    KBuf *tile = NULL;
    int rest = (int)(t->n_u % t->lanes);
    int64_t n_whole = t->n_u / t->lanes;
    if (!t->gathers && !t->in_bands && (t->lanes > TURN_ROWS || !moves_only(t)))
        tile = kb_alloc(b, MEM_STACK, turn_dtype(t->read->dtype), "tile",
                        (int64_t)t->lanes * t->lanes);
    if (rest) kb_if(b, k_lt(k, strip, k_int(k, n_whole)));
    const KExpr *at = rest ? kb_let_within(b, "u", strip, n_whole - 1) : strip;
    open_tiles(t, tile, k_mul(k, at, k_int(k, t->lanes)), 0);
    if (!rest) return;
    kb_else(b);
    open_tiles(t, tile, k_int(k, t->n_u - t->lanes), t->lanes - rest);
    kb_end(b);
}

/* ---- few planes ------------------------------------------------------------------------------ */

/* Chunks of the longer axis, of CHUNK vectors; the last one has what remains, too. */
static int64_t n_chunks(const Turn *t) {
    int64_t n = (t->n_u <= FEW ? t->n_v : t->n_u) / ((int64_t)CHUNK * t->lanes);
    return n ? n : 1;
}

/* Opens the loop over a chunk's vectors: where each begins. */
static const KExpr *open_vectors(Turn *t, const KExpr *chunk) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    int64_t n = t->n_u <= FEW ? t->n_v : t->n_u, before = (n_chunks(t) - 1) * CHUNK;
    int64_t all = (n + t->lanes - 1) / t->lanes;
    const KExpr *is_last = k_le(k, k_int(k, n_chunks(t) - 1), chunk);
    const KExpr *count = k_select(k, is_last, k_int(k, all - before), k_int(k, CHUNK));
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", all == before + CHUNK ? k_int(k, CHUNK) : count);
    return part_start(b, "at", k_add(k, k_mul(k, chunk, k_int(k, CHUNK)), c), n, t->lanes);
}

static void open_planes(Turn *t, const KExpr *v0) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *u = kb_for(b, LOOP_UNROLL, "u", k_int(k, t->n_u));
    const KExpr *l = kb_for(b, LOOP_VECTOR, "l", k_int(k, t->lanes));
    store_element(t, NULL, u, k_add(k, v0, l));
    kb_end(b);
    kb_end(b);
}

static void open_interleaved(Turn *t, const KExpr *u0) {
    KCtx *k = t->r->k;
    KBuild *b = t->r->b;
    const KExpr *width = k_int(k, t->lanes), *n = k_int(k, t->n_v);
    KBuf *rows = kb_alloc(b, MEM_REG, turn_dtype(t->read->dtype), "rows", t->n_v * t->lanes);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", n), *l = kb_for(b, LOOP_VECTOR, "l", width);
    keep_element(t, rows, k_add(k, k_mul(k, v, width), l), k_add(k, u0, l), v);
    kb_end(b);
    kb_end(b);
    v = kb_for(b, LOOP_UNROLL, "v", n);
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *at = k_add(k, k_mul(k, v, width), l), *of_u = k_fdiv(k, at, n),
                *of_v = k_fmod(k, at, n);
    store_element(t, k_load(k, rows, k_add(k, k_mul(k, of_v, width), of_u)), k_add(k, u0, of_u),
                  of_v);
    kb_end(b);
    kb_end(b);
}

static void open_few(Turn *t, const KExpr *chunk) {
    const KExpr *at = open_vectors(t, chunk);
    if (t->n_u <= FEW)
        open_planes(t, at);
    else
        open_interleaved(t, at);
    kb_end(t->r->b);
}

bool open_transposed(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    Turn t;
    if (!find_turn(r, s, &t)) return false;
    const KExpr *extent[MAX_RANK + 2], *index[MAX_RANK + 2], *total = k_int(k, 1);
    int n = t.nest.n;
    bool few = t.n_u <= FEW || t.n_v <= FEW;
    for (int i = 0; i < n; i++) extent[i] = t.nest.loop[i].extent;
    extent[n] = few ? k_int(k, n_chunks(&t)) : n_parts(k, t.n_u, t.lanes);
    for (int i = 0; i <= n; i++) total = k_mul(k, total, extent[i]);
    bool is_large = schedule_stage_work(s) >= PARALLEL_GRAIN;
    const KExpr *tile = kb_for(r->b, is_large ? LOOP_PARALLEL : LOOP_SERIAL, "tile", total);
    kb_unflatten(r->b, "i", tile, extent, n + 1, index);
    for (int i = 0; i < n; i++) rows_bind(k, &t.nest, &t.nest.loop[i], index[i]);
    t.turned = kvar_new(k, KV_AXIS, turn_dtype(t.read->dtype), "turned", INT64_MIN, INT64_MAX);
    t.body = k_rewrite(k, s->body, read_tile, &t);
    if (few)
        open_few(&t, index[n]);
    else
        open_strip(&t, index[n]);
    kb_end(r->b);
    return true;
}

bool schedule_turns_memory(DefProgram *p, const Stage *s) {
    Rows r = {.p = p, .k = p->m->k};
    Turn t;
    return find_turn(&r, s, &t);
}
