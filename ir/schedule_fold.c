/* Reductions of stages that are opened by rows.
 *
 * Along memory (sums of rows): lanes run along the last reduced axis, in several vectors of partial
 * results, which hides the latency of the fold; they are folded by halves at the end, and what does
 * not fill a vector is a narrower one. Reduced axes that follow each other in memory count as one.
 *
 * Across memory (sums of columns, pools of blocked channels): lanes run along the output. Several
 * vectors of it are folded at once, or, where there are few, several steps of the innermost reduced
 * axis into partial results.
 *
 * All of it decides the order of a sum by sizes and the machine's vectors only. */
#include "ir/schedule_rows.h"

enum {
    COLUMN_VECTORS = 16, /* of the output at once; no more than half of the registers */
    FEW_VECTORS = 4,     /* below, COLUMN_PARTIALS steps of the reduction are taken at once */
    COLUMN_PARTIALS = 4
};

const KExpr *fold_neutral(KCtx *k, KOp fold, DType t) {
    int64_t lo = dtype_is_signed(t) ? INT64_MIN >> (64 - dtype_info[t].bits) : 0;
    int64_t hi = dtype_is_signed(t) ? INT64_MAX >> (64 - dtype_info[t].bits) : -1;
    switch ((int)fold) {
    case KO_mul: return k_const(k, t, 1);
    case KO_min: return dtype_is_float(t) ? k_const(k, t, __builtin_inf()) : k_const_i(k, t, hi);
    case KO_max: return dtype_is_float(t) ? k_const(k, t, -__builtin_inf()) : k_const_i(k, t, lo);
    case KO_and: return k_const_i(k, t, t == DT_BOOL ? 1 : -1);
    default: return k_const(k, t, 0);
    }
}

/* acc[at] := acc[at] folded with value. The product of a contraction and its sum are one operation where the machine has it. */
static void fold_into(Rows *r, const Stage *s, KBuf *acc, const KExpr *at, const KExpr *value) {
    const KExpr *old = k_load(r->k, acc, at);
    bool fuses = s->form == FORM_CONTRACT && value->op == KO_mul && dtype_is_float(value->dtype) &&
                 r->p->m->target->fma;
    kb_store(r->b, acc, at,
             fuses ? k_fma(r->k, value->arg[0], value->arg[1], old)
                   : k_binary(r->k, s->fold, old, value));
}

/* ---- axes that are one ----------------------------------------------------------------------- */

typedef struct Joint {
    KCtx *k;
    KVar *outer, *inner;
    const KExpr *extent; /* of inner */
    bool ok;
} Joint;

/* Does this read step over inner's whole extent when outer advances by one? An index into blocks
 * does not, once it is larger than a block. */
static void note_joint(const KExpr *e, void *user) {
    Joint *j = user;
    const KExpr *base, *by_inner, *by_outer;
    if (e->op != KO_at || !j->ok) return;
    if (!k_uses_var(j->k, e, j->outer) && !k_uses_var(j->k, e, j->inner)) return;
    const Layout *l = &e->u.tensor->layout;
    bool in_blocks = l->block > 1 && k_uses_var(j->k, e->arg[l->block_axis], j->inner);
    const KExpr *flat = tensor_flat_index(j->k, e->u.tensor, e->arg);
    j->ok = !at_pred(e) && !in_blocks && k_linear_in(j->k, flat, j->inner, &base, &by_inner) &&
            k_linear_in(j->k, flat, j->outer, &base, &by_outer) &&
            by_outer == k_mul(j->k, by_inner, j->extent);
}

static const KExpr *without_reads(KCtx *k, const KExpr *e, void *user) {
    (void)user;
    return e->op == KO_at ? k_const(k, e->dtype, 0) : e;
}

bool axes_are_joint(KCtx *k, const KExpr *e, KVar *outer, KVar *inner, const KExpr *extent) {
    Joint j = {k, outer, inner, extent, true};
    const KExpr *rest = k_rewrite(k, e, without_reads, NULL);
    if (k_uses_var(k, rest, outer) || k_uses_var(k, rest, inner)) return false;
    k_visit(k, e, note_joint, &j);
    return j.ok;
}

/* The last two axes become one, if nothing but reads uses them and all reads agree. */
static bool join_last(KCtx *k, Fold *f) {
    KVar *outer = f->red[f->n - 2], *inner = f->red[f->n - 1];
    if (!axes_are_joint(k, f->body, outer, inner, f->extent[f->n - 1])) return false;
    const KExpr *extent = k_mul(k, f->extent[f->n - 2], f->extent[f->n - 1]);
    KVar *both = kvar_new(k, KV_AXIS, DT_I64, inner->name, 0, k_last_index(extent));
    KVar *from[] = {outer, inner};
    const KExpr *to[] = {k_int(k, 0), k_var(k, both)};
    f->body = k_subst(k, f->body, from, to, 2);
    f->n--;
    f->red[f->n - 1] = both;
    f->extent[f->n - 1] = extent;
    return true;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

typedef struct BlockRead {
    KCtx *k;
    const Fold *f;
    const KExpr *at; /* a read that walks along blocks by one of the fold's axes */
    int axis;        /* that one */
} BlockRead;

static void note_block_read(const KExpr *e, void *user) {
    BlockRead *b = user;
    if (e->op != KO_at || e->u.tensor->layout.block <= 1 || b->at) return;
    const KExpr *index = e->arg[e->u.tensor->layout.block_axis], *base, *coeff;
    const KExpr *block = k_int(b->k, e->u.tensor->layout.block);
    for (int r = 0; r < b->f->n; r++)
        if (k_linear_in(b->k, index, b->f->red[r], &base, &coeff) && k_is_value(coeff, 1) &&
            k_is_value(k_fmod(b->k, base, block), 0)) {
            b->at = e;
            b->axis = r;
        }
}

/* A fold over all of blocked channels goes block by block, with the elements of one innermost:
 * these are neighbours in memory. */
static void split_blocked(KCtx *k, Fold *f) {
    BlockRead read = {k, f, NULL, 0};
    int64_t extent;
    k_visit(k, f->body, note_block_read, &read);
    if (!read.at || f->n == MAX_RED || !k_is_int(f->extent[read.axis], &extent)) return;
    int64_t block = read.at->u.tensor->layout.block;
    if (extent % block) return;
    KVar *var = f->red[read.axis];
    KVar *of = kvar_new(k, KV_AXIS, DT_I64, var->name, 0, extent / block - 1);
    KVar *in = kvar_new(k, KV_AXIS, DT_I64, var->name, 0, block - 1);
    const KExpr *by = k_add(k, k_mul(k, k_var(k, of), k_int(k, block)), k_var(k, in));
    f->body = k_subst(k, f->body, &var, &by, 1);
    f->red[read.axis] = of;
    f->extent[read.axis] = k_int(k, extent / block);
    f->red[f->n] = in;
    f->extent[f->n++] = k_int(k, block);
}

const KExpr *fold_body(KCtx *k, const Stage *s) {
    if (s->form != FORM_CONTRACT) return s->body;
    if (s->dot) return stage_dot(k, s, k_const(k, kop_dot_sum(s->dot), 0), s->lhs, s->rhs);
    return k_mul(k, s->lhs, s->rhs);
}

Fold fold_of(KCtx *k, const Stage *s) {
    Fold f = {.s = s, .n = s->n_red, .body = fold_body(k, s)};
    for (int i = 0; i < s->n_red; i++) {
        f.red[i] = s->red[i];
        f.extent[i] = s->red_extent[i];
    }
    if (s->form == FORM_REDUCE) split_blocked(k, &f);
    while (f.n > 1 && join_last(k, &f)) continue;
    return f;
}

typedef struct Unit {
    KCtx *k;
    KVar *var;
    bool found;
} Unit;

/* Does some read walk memory one element at a time as var advances? */
static void note_unit_stride(const KExpr *e, void *user) {
    Unit *u = user;
    const KExpr *base, *coeff;
    if (e->op != KO_at || u->found) return;
    const KExpr *flat = tensor_flat_index(u->k, e->u.tensor, e->arg);
    u->found = k_linear_in(u->k, flat, u->var, &base, &coeff) && k_is_value(coeff, 1);
}

int fold_row_lanes(KCtx *k, const Fold *f, int lanes) {
    enum { WORD = 4, FEWEST = 4 };
    if (!f->n || lanes <= 1) return 0;
    Unit u = {k, f->red[f->n - 1], false};
    k_visit(k, f->body, note_unit_stride, &u);
    if (!u.found) return 0;
    int64_t most = f->extent[f->n - 1]->hi;
    if (most >= lanes) return lanes;
    if (dtype_bytes(f->s->acc->dtype) >= WORD) return 0;
    while (lanes > most) lanes /= 2;
    return lanes < FEWEST ? 0 : lanes;
}

typedef struct Across {
    KCtx *k;
    KVar *red, *axis;
    bool some, all, overlaps;
} Across;

/* A read that walks memory along the axis of the result: with the fold it steps over it, or walks
 * it as well, in windows that overlap. */
static void note_across(const KExpr *e, void *user) {
    Across *a = user;
    const KExpr *base, *by;
    if (e->op != KO_at || !k_uses_var(a->k, e, a->red)) return;
    const KExpr *flat = tensor_flat_index(a->k, e->u.tensor, e->arg);
    bool is_unit = k_linear_in(a->k, flat, a->red, &base, &by) && k_is_value(by, 1);
    bool moves = k_uses_var(a->k, e, a->axis);
    bool walks = k_linear_in(a->k, flat, a->axis, &base, &by) && k_is_value(by, 1);
    a->some |= moves && walks;
    a->all &= !moves || walks;
    a->overlaps |= walks && is_unit;
}

bool fold_reads_columns(KCtx *k, const Fold *f, const RowLoop *inner, int lanes) {
    Across a = {k, f->red[f->n - 1], f->s->axis[inner->axis], false, true, false};
    k_visit(k, f->body, note_across, &a);
    bool are_windows = a.overlaps && inner->extent->hi >= lanes;
    return a.some && a.all && (are_windows || (!a.overlaps && fold_fits_columns(f, inner)));
}

/* ---- along memory ---------------------------------------------------------------------------- */

bool fold_starts(KCtx *k, const Stage *s) {
    return s->init != fold_neutral(k, s->fold, s->acc->dtype);
}

void fold_halves(Rows *r, const Stage *s, KBuf *acc, int n, int least) {
    for (int width = n / 2; width >= least; width /= 2) {
        const KExpr *i = kb_for(r->b, LOOP_VECTOR, "l", k_int(r->k, width));
        fold_into(r, s, acc, i, k_load(r->k, acc, k_add(r->k, i, k_int(r->k, width))));
        kb_end(r->b);
    }
}

/* As many as the axis fills, a power of two. */
static int count_partials(const KExpr *extent, int lanes) {
    int n = 1;
    while (n < MOST_PARTIALS && extent->hi / lanes >= 2 * n) n *= 2;
    return n;
}

static void open_partials(Rows *r, RowFold *of, int n_acc, int lanes) {
    KCtx *k = r->k;
    const Stage *s = of->fold.s;
    of->acc = kb_alloc(r->b, MEM_REG, s->acc->dtype, "acc", n_acc);
    of->body = rows_expr(r, s, &of->nest, of->fold.body);
    for (int v = 0; v < n_acc / lanes; v++) {
        const KExpr *l = kb_for(r->b, LOOP_VECTOR, "l", k_int(k, lanes));
        kb_store(r->b, of->acc, k_add(k, l, k_int(k, v * lanes)),
                 fold_neutral(k, s->fold, s->acc->dtype));
        kb_end(r->b);
    }
}

/* One step of each fold, at the index red[] of what is reduced. */
static void fold_steps(Rows *r, RowFold *of, int n, const KExpr *at, const KExpr *const *red) {
    for (int i = 0; i < n; i++) {
        const Fold *f = &of[i].fold;
        fold_into(r, f->s, of[i].acc, at, k_subst(r->k, of[i].body, f->red, red, f->n));
    }
}

int fold_partials(Rows *r, RowFold *of, int n, int lanes) {
    KCtx *k = r->k;
    const Fold *f = &of->fold;
    int last = f->n - 1, n_partials = count_partials(f->extent[last], lanes);
    int n_acc = lanes * n_partials;
    const KExpr *red[MAX_RED], *extent = f->extent[last], *chunk = k_int(k, n_acc);
    for (int i = 0; i < n; i++) open_partials(r, &of[i], n_acc, lanes);
    for (int i = 0; i < last; i++)
        red[i] = kb_for(r->b, LOOP_SERIAL, f->red[i]->name, f->extent[i]);
    const KExpr *n_chunks = k_fdiv(k, extent, chunk), *rest = k_fmod(k, extent, chunk);
    if (!k_is_value(n_chunks, 0)) {
        const KExpr *c = kb_for(r->b, LOOP_SERIAL, "c", n_chunks);
        const KExpr *v = kb_for(r->b, LOOP_UNROLL, "v", k_int(k, n_partials));
        const KExpr *l = kb_for(r->b, LOOP_VECTOR, "l", k_int(k, lanes));
        const KExpr *at = k_add(k, k_mul(k, v, k_int(k, lanes)), l);
        red[last] = k_add(k, k_mul(k, c, chunk), at);
        fold_steps(r, of, n, at, red);
        for (int i = 0; i < 3; i++) kb_end(r->b);
    }
    const KExpr *start = k_mul(k, n_chunks, chunk);
    const KExpr *n_single = k_fdiv(k, rest, k_int(k, lanes));
    if (!k_is_value(n_single, 0)) {
        int64_t n_known;
        bool few = k_is_int(n_single, &n_known) && n_known < n_partials;
        const KExpr *c = kb_for(r->b, few ? LOOP_UNROLL : LOOP_SERIAL, "c", n_single);
        const KExpr *l = kb_for(r->b, LOOP_VECTOR, "l", k_int(k, lanes));
        const KExpr *at = k_add(k, k_mul(k, c, k_int(k, lanes)), l);
        red[last] = k_add(k, start, at);
        fold_steps(r, of, n, few ? at : l, red);
        for (int i = 0; i < 2; i++) kb_end(r->b);
    }
    const KExpr *tail = k_fmod(k, extent, k_int(k, lanes));
    for (int i = 0; i < n && !k_is_value(tail, 0); i++) {
        RowsRest l = rows_open_rest(r, of[i].fold.s, tail, lanes);
        red[last] = k_add(k, k_sub(k, extent, tail), l.at);
        fold_steps(r, &of[i], 1, l.is_vector ? l.at : k_int(k, 0), red);
        rows_close_rest(r, &l);
    }
    for (int i = 0; i < last; i++) kb_end(r->b);
    return n_acc;
}

void fold_lanes(Rows *r, RowFold *of, int n, int lanes) {
    int n_acc = fold_partials(r, of, n, lanes);
    for (int i = 0; i < n; i++) {
        const Stage *s = of[i].fold.s;
        fold_halves(r, s, of[i].acc, n_acc, 1);
        if (fold_starts(r->k, s)) fold_into(r, s, of[i].acc, k_int(r->k, 0), s->init);
    }
}

/* ---- across memory --------------------------------------------------------------------------- */

/* A tile of the output: n_vecs vectors of `lanes`, from `start` on along the loop `inner`. */
typedef struct Columns {
    Rows *r;
    const Fold *f;
    const RowNest *nest;
    const RowLoop *inner;
    const KExpr *start;
    int n_vecs, lanes, n_partials;
    KBuf *acc;
    RowNest at; /* the nest inside of the tile's loops */
    bool is_guarded;
} Columns;

/* Opens the tile's loops and returns the element's number in it. */
static const KExpr *columns_begin(Columns *c) {
    KCtx *k = c->r->k;
    const KExpr *v = kb_for(c->r->b, LOOP_UNROLL, "v", k_int(k, c->n_vecs));
    const KExpr *l = kb_for(c->r->b, LOOP_VECTOR, "l", k_int(k, c->lanes));
    const KExpr *at = k_add(k, k_mul(k, v, k_int(k, c->lanes)), l);
    c->at = *c->nest;
    rows_bind(k, &c->at, c->inner, k_add(k, c->start, at));
    const KExpr *inside = rows_inside(c->r, c->f->s, &c->at);
    c->is_guarded = !k_is_value(inside, 1);
    if (c->is_guarded) kb_if(c->r->b, inside);
    return at;
}

static void columns_end(Columns *c) {
    for (int i = c->is_guarded ? 0 : 1; i < 3; i++) kb_end(c->r->b);
}

static const KExpr *in_partial(Columns *c, const KExpr *partial, const KExpr *at) {
    KCtx *k = c->r->k;
    return k_add(k, k_mul(k, partial, k_int(k, c->n_vecs * c->lanes)), at);
}

static void columns_step(Columns *c, const KExpr *const *red, const KExpr *partial) {
    const KExpr *at = columns_begin(c);
    const KExpr *body = rows_expr(c->r, c->f->s, &c->at, c->f->body);
    body = k_subst(c->r->k, body, c->f->red, red, c->f->n);
    fold_into(c->r, c->f->s, c->acc, in_partial(c, partial, at), body);
    columns_end(c);
}

static void columns_fold(Columns *c) {
    KCtx *k = c->r->k;
    const Fold *f = c->f;
    int last = f->n - 1;
    const KExpr *red[MAX_RED], *step = k_int(k, c->n_partials), *zero = k_int(k, 0);
    for (int i = 0; i < last; i++)
        red[i] = kb_for(c->r->b, LOOP_SERIAL, f->red[i]->name, f->extent[i]);
    const KExpr *n_chunks = k_fdiv(k, f->extent[last], step), *start = k_mul(k, n_chunks, step);
    const KExpr *rest = k_fmod(k, f->extent[last], step);
    if (!k_is_value(n_chunks, 0)) {
        const KExpr *chunk = kb_for(c->r->b, LOOP_SERIAL, f->red[last]->name, n_chunks);
        const KExpr *p = kb_for(c->r->b, LOOP_UNROLL, "p", step);
        red[last] = k_add(k, k_mul(k, chunk, step), p);
        columns_step(c, red, p);
        kb_end(c->r->b);
        kb_end(c->r->b);
    }
    if (!k_is_value(rest, 0)) {
        red[last] = k_add(k, start, kb_for(c->r->b, LOOP_SERIAL, f->red[last]->name, rest));
        columns_step(c, red, zero);
        kb_end(c->r->b);
    }
    for (int i = 0; i < last; i++) kb_end(c->r->b);
}

/* One tile: from the start values to the store. */
static void open_columns(Columns *c) {
    KCtx *k = c->r->k;
    const Stage *s = c->f->s;
    c->acc = kb_alloc(c->r->b, MEM_REG, s->acc->dtype, "acc",
                      (int64_t)c->n_partials * c->n_vecs * c->lanes);
    for (int p = 0; p < c->n_partials; p++) {
        const KExpr *at = columns_begin(c);
        kb_store(c->r->b, c->acc, in_partial(c, k_int(k, p), at),
                 p ? fold_neutral(k, s->fold, s->acc->dtype) : s->init);
        columns_end(c);
    }
    columns_fold(c);
    for (int p = 1; p < c->n_partials; p++) {
        const KExpr *at = columns_begin(c);
        fold_into(c->r, s, c->acc, at, k_load(k, c->acc, in_partial(c, k_int(k, p), at)));
        columns_end(c);
    }
    const KExpr *value = k_load(k, c->acc, columns_begin(c));
    rows_store(c->r, s, &c->at,
               rows_expr(c->r, s, &c->at, k_subst(k, s->finish, &s->acc, &value, 1)));
    columns_end(c);
}

/* Windows over several axes of a few steps are written out, with tests around their border only. */
bool fold_fits_columns(const Fold *f, const RowLoop *inner) {
    enum { FEW_STEPS = 4 };
    double steps = 1;
    int64_t n;
    for (int i = 0; i < f->n; i++) steps *= (double)f->extent[i]->hi;
    return f->n && steps > (f->n > 1 ? SMALL_WINDOW : FEW_STEPS) && k_is_int(inner->extent, &n);
}

/* Tiles of all n columns for threads to share: whole ones, and one with what remains. */
static void share_columns(Columns *c, int64_t n, int64_t size, int64_t most) {
    enum { TILES = 4 }; /* at least, where these are vectors enough */
    KCtx *k = c->r->k;
    KBuild *b = c->r->b;
    int lanes = c->lanes;
    int64_t n_vecs = n / lanes, share = n_vecs / TILES;
    if (size >= FEW_VECTORS) size = share < FEW_VECTORS ? FEW_VECTORS : share < most ? share : most;
    int64_t tiles = size ? n_vecs / size : 0, rest = n - tiles * size * lanes;
    const KExpr *t = kb_for(b, LOOP_PARALLEL, "c", k_int(k, tiles + (rest > 0)));
    if (tiles && rest) kb_if(b, k_lt(k, t, k_int(k, tiles)));
    c->n_vecs = (int)size;
    c->start = k_mul(k, t, k_int(k, size * lanes));
    if (tiles) open_columns(c);
    if (tiles && rest) kb_else(b);
    for (int64_t done = n - rest; done < n; done += (int64_t)c->n_vecs * c->lanes) {
        c->n_vecs = n - done < lanes ? 1 : (int)((n - done) / lanes);
        c->lanes = n - done < lanes ? (int)(n - done) : lanes;
        c->start = k_int(k, done);
        open_columns(c);
    }
    if (tiles && rest) kb_end(b);
    kb_end(b);
}

void fold_columns(Rows *r, const Fold *f, const RowNest *nest, const RowLoop *inner, int lanes) {
    KCtx *k = r->k;
    int64_t n = 0;
    int most = r->p->m->target->n_vector_regs / 2;
    if (most > COLUMN_VECTORS) most = COLUMN_VECTORS;
    k_is_int(inner->extent, &n);
    Columns c = {.r = r, .f = f, .nest = nest, .inner = inner, .lanes = lanes};
    int64_t n_vecs = n / lanes, size = most < n_vecs ? most : n_vecs, done = 0;
    /* one number for all tiles: equal columns have equal sums, wherever they are */
    c.n_partials = size < FEW_VECTORS ? COLUMN_PARTIALS : 1;
    if (r->outermost == LOOP_PARALLEL) {
        share_columns(&c, n, size, most);
        return;
    }
    while (done < n) {
        int64_t left = (n - done) / lanes, tiles = size ? left / size : 0;
        c.n_vecs = (int)(tiles ? size : left ? left : 1);
        c.lanes = left ? lanes : (int)(n - done);
        int64_t width = (int64_t)c.n_vecs * c.lanes;
        if (tiles < 1) tiles = 1;
        const KExpr *t = kb_for(r->b, LOOP_SERIAL, "c", k_int(k, tiles));
        c.start = k_add(k, k_mul(k, t, k_int(k, width)), k_int(k, done));
        open_columns(&c);
        kb_end(r->b);
        done += tiles * width;
    }
}
