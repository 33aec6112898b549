/* The contraction template: GEMM, convolution, depthwise convolution and everything between.
 *
 *   parallel for tile                     batch axes, vector tiles, row tiles; rows innermost
 *     acc[rows][vecs][lanes] := init      registers
 *     for reduction axes                  order of the stage; blocked axes split by their block
 *       for rows, vecs (unrolled), lanes (vector)
 *         acc := fma(lhs, rhs, acc)
 *     for rows, vecs (unrolled), lanes (vector)
 *       out := finish(acc)
 *
 * Remainders of the tiled axes get their own copy of the inner loops. When lhs does not depend on
 * the vector axis it is a broadcast; when both sides do (depthwise) both are vector loads. */
#include "ir/schedule.h"

#include <string.h>

#include "ir/matrix.h"
#include "ir/winograd.h"

typedef struct Binding {
    KVar *var[MAX_RANK + MAX_RED];
    const KExpr *by[MAX_RANK + MAX_RED];
    int n;
} Binding;

typedef struct Contract {
    DefProgram *p;
    KCtx *k;
    KBuild *b;
    const Stage *s;
    const Schedule *sch;
    Binding outer;             /* axes that are not tiled, and row/vector tile starts */
    const KExpr *row_start[2]; /* first row of the tile */
    const KExpr *vec_start;    /* first element of the tile along vec_axis */
    int rows[2], n_vecs;       /* of this tile */
    bool masked;               /* the last vector sticks out of the output's memory */
    const KExpr *init, *finish; /* the stage's, or with a constant term moved from finish to init */
    KBuf *acc;
} Contract;

static void bind(Binding *b, KVar *var, const KExpr *by) {
    b->var[b->n] = var;
    b->by[b->n++] = by;
}

const KExpr *kb_let_within(KBuild *b, const char *name, const KExpr *value, int64_t hi) {
    int64_t c;
    if (k_is_int(value, &c)) return value;
    KStmt *s = kblock_append(b->arena, b->stack[b->depth - 1], KS_LET);
    s->var = kvar_new(b->k, KV_LET, DT_I64, name, 0, hi);
    s->value = value;
    return k_var(b->k, s->var);
}

/* ---- which axes
 * ------------------------------------------------------------------------------------ */

static bool reads_blocked(const KTensor *t, int axis) {
    return t->layout.block > 1 && t->layout.block_axis == axis;
}

int tensor_contiguous_axis(const KTensor *t) {
    if (t->layout.block > 1) return t->layout.block_axis;
    if (t->rank == 0) return -1;
    for (int i = t->rank - 1; i >= 0; i--) {
        int axis = t->layout.permuted ? t->layout.order[i] : i;
        if (!k_is_value(t->dims[axis], 1)) return axis;
    }
    return t->layout.permuted ? t->layout.order[t->rank - 1] : t->rank - 1;
}

bool schedule_contract_axes(DefProgram *p, const Stage *s, const Target *t, Schedule *out) {
    KCtx *k = p->m->k;
    int elem = dtype_bytes(s->acc->dtype),
        axis = s->form == FORM_CONTRACT ? tensor_contiguous_axis(s->out) : -1;
    *out = (Schedule){
        .vec_axis = -1, .lanes = 1, .n_vecs = 1, .row_axis = {-1, -1}, .rows = {1, 1}, .unroll = 1};
    if (axis < 0) return false;
    out->lanes = target_lanes(t, elem);
    if (s->out->layout.block > 1 && s->out->layout.block % out->lanes) return false;
    if (!k_uses_var(k, s->rhs, s->axis[axis])) return false;
    out->vec_axis = axis;
    int n_rows = 0;
    for (int i = s->out->rank - 1; i >= 0 && n_rows < 2; i--) {
        bool in_lhs = k_uses_var(k, s->lhs, s->axis[i]), in_rhs = k_uses_var(k, s->rhs, s->axis[i]);
        if (i == axis || !in_lhs || in_rhs || k_is_value(s->out->dims[i], 1)) continue;
        out->row_axis[1 - n_rows++] = i;
    }
    return true;
}

/* ---- tile sizes
 * ------------------------------------------------------------------------------------ */

/* Cost of covering n with tiles of `tile`: full tiles and a remainder, per element, given a
 * per-tile cost that models loads against multiply-adds. Lower is better. */
static double tile_cost(int64_t n_rows, int rows, int64_t n_vecs, int vecs) {
    double cost = 0;
    for (int er = 0; er < 2; er++)
        for (int ev = 0; ev < 2; ev++) {
            int64_t r = er ? n_rows % rows : rows, v = ev ? n_vecs % vecs : vecs;
            int64_t count = (er ? r > 0 : n_rows / rows) * (ev ? v > 0 : n_vecs / vecs);
            if (!count || !r || !v) continue;
            /* two FMA ports, two load ports (broadcasts fold into the FMA for one use), and
             * latency: 4 cycles x 2 ports need 8 independent accumulators */
            double fma = (double)(r * v) / 2, load = (double)(v + r) / 2, latency = 4;
            double cycles = fma > load ? fma : load;
            if (cycles < latency) cycles = latency;
            cost += (double)count * (cycles + 0.15);
        }
    return cost;
}

static int64_t known_dim(const Stage *s, int axis, int64_t otherwise) {
    int64_t n;
    return axis >= 0 && shape_dim_int((Shape){s->out->rank, s->out->dims}, axis, &n) ? n
                                                                                     : otherwise;
}

void schedule_contract_tile(DefProgram *p, const Stage *s, const Target *t, Schedule *sch) {
    KCtx *k = p->m->k;
    int64_t n_vec_elems = known_dim(s, sch->vec_axis, 1 << 20);
    int64_t n_vecs = (n_vec_elems + sch->lanes - 1) / sch->lanes;
    int64_t inner = known_dim(s, sch->row_axis[1], sch->row_axis[1] < 0 ? 1 : 1 << 20);
    int64_t outer = known_dim(s, sch->row_axis[0], 1);
    bool shared = k_uses_var(k, s->lhs, s->axis[sch->vec_axis]);
    double best = 1e300;
    int limit = t->n_vector_regs;
    for (int v = 1; v <= 8 && v <= n_vecs && (!shared || v == 1); v++)
        for (int r1 = 1; r1 <= 14 && r1 <= inner; r1++)
            for (int r0 = 1; r0 <= 4 && r0 <= outer; r0++) {
                int acc = r0 * r1 * v, used = acc + v + (t->n_vector_regs <= 16 ? 1 : 2);
                if (used > limit || (r0 > 1 && r1 < inner)) continue;
                double cost = tile_cost(inner, r1, n_vecs, v);
                /* several outer rows at once only where the inner axis is short */
                cost =
                    r0 == 1 ? cost * (double)outer : tile_cost(outer * inner, r0 * r1, n_vecs, v);
                if (cost < best * 0.999) {
                    best = cost;
                    sch->n_vecs = v;
                    sch->rows[0] = r0;
                    sch->rows[1] = r1;
                }
            }
    int64_t last = 0;
    bool is_const = s->n_red && k_is_int(s->red_extent[s->n_red - 1], &last);
    sch->unroll =
        is_const && last % 4 == 0 && sch->rows[0] * sch->rows[1] * sch->n_vecs <= 24 ? 2 : 1;
}

const char *schedule_text(Arena *a, const Schedule *s) {
    if (s->winograd) return winograd_text(a, s);
    if (s->matrix) return arena_printf(a, "m%dx%dx%d", s->rows[0], s->rows[1], s->n_vecs);
    return arena_printf(a, "t%dx%dx%d_v%d", s->rows[0], s->rows[1], s->n_vecs, s->lanes);
}

/* ---- the reduction
 * --------------------------------------------------------------------------------- */

typedef struct BlockScan {
    const Stage *s;
    int block[MAX_RED];
} BlockScan;

/* e as var * step; 0 when it is not. */
static int multiple_of(const KExpr *e, const KVar *var) {
    int64_t step = 1;
    if (e->op == KO_mul && k_is_int(e->arg[1], &step)) e = e->arg[0];
    return e->op == KO_var && e->u.var == var && step > 0 && step <= 8 ? (int)step : 0;
}

static void note_block(const KExpr *e, void *user) {
    BlockScan *scan = user;
    if (e->op != KO_at) return;
    for (int a = 0; a < e->u.tensor->rank; a++)
        for (int r = 0; r < scan->s->n_red; r++) {
            int step = reads_blocked(e->u.tensor, a) ? multiple_of(e->arg[a], scan->s->red[r]) : 0;
            if (step) scan->block[r] = e->u.tensor->layout.block / step;
        }
}

static const KExpr *row_index(Contract *c, int which, const KExpr *step) {
    return k_add(c->k, c->row_start[which], step);
}

/* Opens the tile's loops (rows, vectors, lanes), binding the tiled axes; returns the accumulator's
 * index. tile_end closes them. */
static const KExpr *tile_begin(Contract *c, Binding *bound) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    *bound = c->outer;
    const KExpr *r0 = kb_for(c->b, LOOP_UNROLL, "r", k_int(k, c->rows[0]));
    const KExpr *r1 = kb_for(c->b, LOOP_UNROLL, "r", k_int(k, c->rows[1]));
    const KExpr *v = kb_for(c->b, LOOP_UNROLL, "v", k_int(k, c->n_vecs));
    const KExpr *lane = kb_for(c->b, LOOP_VECTOR, "l", k_int(k, sch->lanes));
    if (sch->row_axis[0] >= 0) bind(bound, c->s->axis[sch->row_axis[0]], row_index(c, 0, r0));
    if (sch->row_axis[1] >= 0) bind(bound, c->s->axis[sch->row_axis[1]], row_index(c, 1, r1));
    const KExpr *in_tile = k_add(k, k_mul(k, v, k_int(k, sch->lanes)), lane);
    bind(bound, c->s->axis[sch->vec_axis], k_add(k, c->vec_start, in_tile));
    const KExpr *row = k_add(k, k_mul(k, r0, k_int(k, c->rows[1])), r1);
    return k_add(k, k_mul(k, row, k_int(k, c->n_vecs * sch->lanes)), in_tile);
}

static void tile_end(Contract *c) {
    for (int i = 0; i < 4; i++) kb_end(c->b);
}

static void emit_multiply_add(Contract *c, const Binding *red) {
    KCtx *k = c->k;
    Binding bound;
    const KExpr *at = tile_begin(c, &bound);
    for (int i = 0; i < red->n; i++) bind(&bound, red->var[i], red->by[i]);
    const KExpr *lhs = expr_open(c->p, k_subst(k, c->s->lhs, bound.var, bound.by, bound.n));
    const KExpr *rhs = expr_open(c->p, k_subst(k, c->s->rhs, bound.var, bound.by, bound.n));
    const KExpr *old = k_load(k, c->acc, at);
    bool fused = c->p->m->target->fma && dtype_is_float(old->dtype);
    if (c->s->is_dot4)
        kb_store(c->b, c->acc, at, k_dot4(k, old, lhs, rhs));
    else
        kb_store(c->b, c->acc, at, fused ? k_fma(k, lhs, rhs, old) : k_add(k, old, k_mul(k, lhs, rhs)));
    tile_end(c);
}

/* Loops over reduction axes r, r+1, ...; `red` holds the axes bound so far. */
static void emit_reduction(Contract *c, const BlockScan *scan, int r, const Binding *red) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    if (r == s->n_red) {
        emit_multiply_add(c, red);
        return;
    }
    int64_t n, split = scan->block[r] > 1 ? scan->block[r] : r == s->n_red - 1 ? c->sch->unroll : 1;
    bool is_const = k_is_int(s->red_extent[r], &n);
    KLoopMark inner_mark = scan->block[r] > 1 ? LOOP_SERIAL : LOOP_UNROLL;
    if (!is_const || split == 1 || n < split) {
        Binding next = *red;
        bind(&next, s->red[r], kb_for(c->b, LOOP_SERIAL, s->red[r]->name, s->red_extent[r]));
        emit_reduction(c, scan, r + 1, &next);
        kb_end(c->b);
        return;
    }
    for (int part = 0; part < 2; part++) {
        int64_t count = part ? n % split : n / split;
        if (!count) continue;
        Binding next = *red;
        const KExpr *start = k_int(k, n / split * split), *step;
        if (!part)
            start = k_mul(k, kb_for(c->b, LOOP_SERIAL, s->red[r]->name, k_int(k, count)),
                          k_int(k, split));
        step = kb_for(c->b, inner_mark, s->red[r]->name, k_int(k, part ? count : split));
        bind(&next, s->red[r], k_add(k, start, step));
        emit_reduction(c, scan, r + 1, &next);
        kb_end(c->b);
        if (!part) kb_end(c->b);
    }
}

static void emit_store(Contract *c) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    const KExpr *index[MAX_RANK], *offset;
    Binding bound;
    const KExpr *at = tile_begin(c, &bound), *value = k_load(k, c->acc, at);
    bind(&bound, s->acc, value);
    for (int i = 0; i < s->out->rank; i++)
        index[i] = k_subst(k, k_var(k, s->axis[i]), bound.var, bound.by, bound.n);
    KTensor *root = tensor_root(k, s->out, &offset);
    const KExpr *flat = k_add(k, tensor_flat_index(k, s->out, index), offset);
    const KExpr *finish = expr_open(c->p, k_subst(k, c->finish, bound.var, bound.by, bound.n));
    if (c->masked) kb_if(c->b, k_lt(k, index[c->sch->vec_axis], s->out->dims[c->sch->vec_axis]));
    kb_store(c->b, root->buf, flat, finish);
    if (c->masked) kb_end(c->b);
    tile_end(c);
}

typedef struct Offset {
    const KExpr *acc, *sum; /* the one node that uses acc, if it is one; acc + table */
    int n;
} Offset;

static void note_offset(const KExpr *e, void *user) {
    Offset *o = user;
    for (int i = 0; i < e->n_args; i++)
        if (e->arg[i] == o->acc) {
            o->sum = e;
            o->n++;
        }
}

static const KExpr *drop_offset(KCtx *k, const KExpr *e, void *user) {
    const Offset *o = user;
    (void)k;
    return e == o->sum ? o->acc : e;
}

/* A sum of integers to which finish adds a constant table starts from the table. */
static void start_from_offset(Contract *c) {
    const Stage *s = c->s;
    Offset o = {k_var(c->k, s->acc), NULL, 0};
    c->init = s->init;
    c->finish = s->finish;
    k_visit(c->k, s->finish, note_offset, &o);
    if (s->acc->dtype != DT_I32 || o.n != 1 || o.sum->op != KO_add || !k_is_value(s->init, 0)) return;
    const KExpr *table = o.sum->arg[o.sum->arg[0] == o.acc];
    if (table->op != KO_at || !table->u.tensor->data || at_pred(table)) return;
    c->init = table;
    c->finish = k_rewrite(c->k, s->finish, drop_offset, &o);
}

/* What the accumulators of this tile start from. A table ends with the output's axis. */
static const KExpr *first_value(Contract *c, const Binding *bound) {
    KCtx *k = c->k;
    int axis = c->sch->vec_axis;
    const KExpr *e = k_subst(k, c->init, bound->var, bound->by, bound->n), *arg[MAX_RANK + 1];
    if (e->op != KO_at || !c->masked) return e;
    const KExpr *lane = k_subst(k, k_var(k, c->s->axis[axis]), bound->var, bound->by, bound->n);
    int n = e->u.tensor->rank;
    for (int i = 0; i < n; i++) arg[i] = e->arg[i];
    arg[n] = k_lt(k, lane, c->s->out->dims[axis]);
    return k_at(k, e->u.tensor, arg, n + 1);
}

/* A group of tiles on a matrix unit, where the template has a tile of vectors. */
static void emit_matrix(Contract *c) {
    const Schedule *sch = c->sch;
    MatrixGroup g = {.rows = {c->rows[0], c->rows[1]}, .n_vecs = c->n_vecs, .masked = c->masked};
    for (int i = 0; i < c->s->out->rank; i++) {
        for (int j = 0; j < c->outer.n; j++)
            if (c->outer.var[j] == c->s->axis[i]) g.at[i] = c->outer.by[j];
        for (int j = 0; j < 2; j++)
            if (sch->row_axis[j] == i) g.at[i] = c->row_start[j];
        if (sch->vec_axis == i) g.at[i] = c->vec_start;
    }
    matrix_open(c->p, c->s, sch, &g, c->b);
}

static void emit_tile(Contract *c) {
    KCtx *k = c->k;
    start_from_offset(c);
    if (c->sch->matrix) {
        emit_matrix(c);
        return;
    }
    int64_t n_acc = (int64_t)c->rows[0] * c->rows[1] * c->n_vecs * c->sch->lanes;
    c->acc = kb_alloc(c->b, MEM_REG, c->s->acc->dtype, "acc", n_acc);
    Binding bound, red = {.n = 0};
    const KExpr *at = tile_begin(c, &bound);
    kb_store(c->b, c->acc, at, expr_open(c->p, first_value(c, &bound)));
    tile_end(c);
    BlockScan scan = {.s = c->s};
    k_visit(k, c->s->lhs, note_block, &scan);
    k_visit(k, c->s->rhs, note_block, &scan);
    emit_reduction(c, &scan, 0, &red);
    emit_store(c);
}

void schedule_open_tile(DefProgram *p, const Stage *s, const Schedule *sch, const KExpr *const *at,
                        KBuild *b) {
    Contract c = {.p = p, .k = p->m->k, .b = b, .s = s, .sch = sch, .n_vecs = sch->n_vecs,
                  .rows = {sch->rows[0], sch->rows[1]}, .vec_start = at[sch->vec_axis]};
    for (int i = 0; i < s->out->rank; i++) {
        bool is_row = false;
        for (int r = 0; r < 2; r++) {
            if (sch->row_axis[r] != i) continue;
            c.row_start[r] = at[i];
            is_row = true;
        }
        if (!is_row && i != sch->vec_axis) bind(&c.outer, s->axis[i], at[i]);
    }
    emit_tile(&c);
}

/* ---- tiles and their remainders
 * --------------------------------------------------------------------- */

typedef struct TiledAxis {
    int axis, tile;
    const KExpr *extent, *n_tiles; /* remainder tile included */
    int64_t n_full, rest;          /* rest -1: the extent is symbolic, remainder rows are single */
    const KExpr *at;               /* index of this tile */
} TiledAxis;

static TiledAxis tiled_axis(KCtx *k, int axis, int tile, const KExpr *extent) {
    TiledAxis t = {.axis = axis, .tile = tile, .extent = extent, .rest = -1};
    int64_t n;
    const KExpr *up = k_add(k, extent, k_int(k, tile - 1));
    t.n_tiles = k_fdiv(k, up, k_int(k, tile));
    if (k_is_int(extent, &n)) {
        t.n_full = n / tile;
        t.rest = n % tile;
    }
    return t;
}

/* Calls emit for the full tiles and for the remainder, each under its own condition. */
static void emit_split(Contract *c, TiledAxis *row, TiledAxis *vec, int level);

static void emit_row_part(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    if (level == 2)
        emit_tile(c);
    else
        emit_split(c, row, vec, level);
}

static void set_tile(Contract *c, int which, const KExpr *start, int size) {
    if (which < 2) {
        c->row_start[which] = start;
        c->rows[which] = size;
    }
}

static void emit_symbolic_rows(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    KCtx *k = c->k;
    TiledAxis *t = &row[level];
    const KExpr *tile = k_int(k, t->tile), *start = k_mul(k, t->at, tile);
    kb_if(c->b, k_le(k, k_add(k, start, tile), t->extent));
    set_tile(c, level, start, t->tile);
    emit_row_part(c, row, vec, level + 1);
    kb_else(c->b);
    const KExpr *r = kb_for(c->b, LOOP_SERIAL, "r", k_sub(k, t->extent, start));
    set_tile(c, level, k_add(k, start, r), 1);
    emit_row_part(c, row, vec, level + 1);
    kb_end(c->b);
    kb_end(c->b);
}

static void emit_split(Contract *c, TiledAxis *row, TiledAxis *vec, int level) {
    KCtx *k = c->k;
    TiledAxis *t = &row[level];
    if (t->rest < 0 && t->tile > 1) {
        emit_symbolic_rows(c, row, vec, level);
        return;
    }
    if (t->rest <= 0) {
        set_tile(c, level, k_mul(k, t->at, k_int(k, t->tile)), t->tile);
        emit_row_part(c, row, vec, level + 1);
        return;
    }
    if (t->n_full) {
        kb_if(c->b, k_lt(k, t->at, k_int(k, t->n_full)));
        const KExpr *at = kb_let_within(c->b, "t", t->at, t->n_full - 1);
        set_tile(c, level, k_mul(k, at, k_int(k, t->tile)), t->tile);
        emit_row_part(c, row, vec, level + 1);
        kb_else(c->b);
    }
    set_tile(c, level, k_int(k, t->n_full * t->tile), (int)t->rest);
    emit_row_part(c, row, vec, level + 1);
    if (t->n_full) kb_end(c->b);
}

/* The vector axis: full tiles, then a last tile with the vectors that remain. */
static void emit_vector_part(Contract *c, TiledAxis *row, TiledAxis *vec) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    int64_t n;
    if (!k_is_int(vec->extent, &n)) {
        c->vec_start = k_mul(k, vec->at, k_int(k, vec->tile));
        c->n_vecs = sch->n_vecs;
        c->masked = true;
        emit_split(c, row, vec, 0);
        return;
    }
    int64_t n_full = n / vec->tile, rest = n % vec->tile;
    if (n_full) {
        if (rest) kb_if(c->b, k_lt(k, vec->at, k_int(k, n_full)));
        const KExpr *at = rest ? kb_let_within(c->b, "n", vec->at, n_full - 1) : vec->at;
        c->vec_start = k_mul(k, at, k_int(k, vec->tile));
        c->n_vecs = sch->n_vecs;
        c->masked = false;
        emit_split(c, row, vec, 0);
        if (rest) kb_else(c->b);
    }
    if (rest) {
        c->vec_start = k_int(k, n_full * vec->tile);
        c->n_vecs = (int)((rest + sch->lanes - 1) / sch->lanes);
        c->masked = rest % sch->lanes != 0; /* what finish reads along the axis may end there */
        emit_split(c, row, vec, 0);
        if (n_full) kb_end(c->b);
    }
}

void schedule_open_contract(DefProgram *p, const Stage *s, const Schedule *sch, KBuild *b) {
    KCtx *k = p->m->k;
    Contract c = {.p = p, .k = k, .b = b, .s = s, .sch = sch};
    const KExpr *zero = k_int(k, 0), *one = k_int(k, 1);
    TiledAxis row[2],
        vec = tiled_axis(k, sch->vec_axis, sch->n_vecs * sch->lanes, s->out->dims[sch->vec_axis]);
    for (int i = 0; i < 2; i++)
        row[i] = tiled_axis(k, sch->row_axis[i], sch->rows[i],
                            sch->row_axis[i] < 0 ? one : s->out->dims[sch->row_axis[i]]);
    /* one parallel index over batch axes, vector tiles and row tiles, the last varying fastest */
    const KExpr *extent[MAX_RANK + 3], *total = one;
    int n = 0, batch[MAX_RANK], n_batch = 0;
    for (int i = 0; i < s->out->rank; i++) {
        if (i == sch->vec_axis || i == sch->row_axis[0] || i == sch->row_axis[1]) continue;
        batch[n_batch++] = i;
        extent[n++] = s->out->dims[i];
    }
    extent[n++] = vec.n_tiles;
    extent[n++] = row[0].n_tiles;
    extent[n++] = row[1].n_tiles;
    for (int i = 0; i < n; i++) total = k_mul(k, total, extent[i]);
    double work = 1;
    for (int i = 0; i < s->out->rank; i++) work *= (double)s->out->dims[i]->hi;
    for (int i = 0; i < s->n_red; i++) work *= (double)s->red_extent[i]->hi;
    KLoopMark mark = work < PARALLEL_GRAIN ? LOOP_SERIAL : LOOP_PARALLEL;
    const KExpr *t = kb_for(b, mark, "tile", total), *index[MAX_RANK + 3];
    def_unflatten(k, t, extent, n, index);
    for (int i = 0; i < n; i++) {
        int64_t hi = extent[i]->hi == INT64_MAX ? INT64_MAX : extent[i]->hi - 1;
        index[i] =
            k_is_value(extent[i], 1) ? zero : kb_let_within(b, "t", index[i], hi < 0 ? 0 : hi);
    }
    for (int i = 0; i < n_batch; i++) bind(&c.outer, s->axis[batch[i]], index[i]);
    vec.at = index[n_batch];
    row[0].at = index[n_batch + 1];
    row[1].at = index[n_batch + 2];
    emit_vector_part(&c, row, &vec);
    kb_end(b);
}
