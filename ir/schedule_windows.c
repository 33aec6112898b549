/* Folds over windows that overlap along a row (pools, moving averages): what neighbouring results
 * share is folded once.
 *
 *   y[i] = fold over r < K of x[i*S + r]
 *
 *   w[q]    := fold over r < S of x[q*S + r]               K / S of these make a window
 *   w2[q]   := w[q] + w[q + 1],  w4[q] := w2[q] + w2[q + 2],  ...
 *   y[i]    := w16[i] + w8[i + 16] + w[i + 24]             for K / S = 25
 *
 * So a window of 25 takes 7 additions and one read instead of 25, and every sum is a tree, the same
 * one for all results. Maxima may count an element twice: w16[i] and w16[i + 9] are all of 25. A
 * tile of some vectors of the row has all of that in registers, where a step sideways is a
 * permutation of two of them. Other axes of the window (the rows of a pool of an image) are folded
 * first, element by element, inside of the conditions that guard their steps. The K % S last steps
 * of a window are added at the end. */
#include "ir/schedule_rows.h"

enum {
    TILE_VECTORS = 8,    /* of the result */
    WIDE_REGISTERS = 32, /* fewer of them hold half as many */
    MOST_STEP = 4,       /* vectors in longer steps are put together element by element */
    MOST_MORE = 16       /* vectors that the windows of a tile reach behind it */
};

typedef struct Windows {
    Rows *r;
    const Fold *f;
    const RowNest *nest;
    const RowLoop *inner;
    KVar *at;          /* a place in what windows go over, i*S + r */
    const KExpr *body; /* what is folded there */
    FoldGuards guards;
    int which; /* the fold's axis along the row */
    int lanes;
    int64_t n, step, taps; /* results, S, K */
} Windows;

/* ---- when ------------------------------------------------------------------------------------ */

typedef struct Steps {
    KCtx *k;
    KVar *axis, *red;
    int64_t step; /* 0: none found */
} Steps;

/* By how many of red's steps the read moves along axis. */
static void note_step(const KExpr *e, void *user) {
    Steps *s = user;
    const KExpr *base, *by_axis, *by_red;
    int64_t far, near;
    if (e->op != KO_at || s->step) return;
    const KExpr *flat = tensor_flat_index(s->k, e->u.tensor, e->arg);
    if (!k_linear_in(s->k, flat, s->axis, &base, &by_axis) || !k_is_int(by_axis, &far)) return;
    if (!k_linear_in(s->k, flat, s->red, &base, &by_red) || !k_is_int(by_red, &near)) return;
    if (near > 0 && far > 0 && far % near == 0) s->step = far / near;
}

/* Does the fold's axis i go over windows of the row's axis: is all that the body has of both of
 * them their place i*S + r? */
static bool find_place(KCtx *k, Windows *w, int i) {
    const Fold *f = w->f;
    KVar *axis = f->s->axis[w->inner->axis], *red = f->red[i];
    Steps steps = {k, axis, red, 0};
    if (!k_is_int(f->extent[i], &w->taps)) return false;
    k_visit(k, f->body, note_step, &steps);
    if (!steps.step || steps.step > MOST_STEP || w->taps < 2 * steps.step) return false;
    w->step = steps.step;
    w->which = i;
    w->at = kvar_new(k, KV_AXIS, DT_I64, "at", 0, (w->n - 1) * w->step + w->taps - 1);
    const KExpr *start = k_mul(k, k_var(k, axis), k_int(k, w->step));
    const KExpr *tap = k_sub(k, k_var(k, w->at), start);
    w->body = k_subst(k, f->body, &red, &tap, 1);
    return !k_uses_var(k, w->body, axis);
}

static bool counts_twice(KOp fold) {
    return fold == KO_max || fold == KO_min || fold == KO_and || fold == KO_or;
}

static int log2_of(int64_t n) {
    int log = 0;
    while (n >> (log + 1)) log++;
    return log;
}

/* Is it less work? In operations on a vector of the result; a read at any place counts as more than
 * one, since it often takes two lines of memory. */
static bool is_less(const Windows *w) {
    const double read = 1.25, least_gain = 1.2;
    int64_t whole = w->taps / w->step, rest = w->taps % w->step;
    double others = 1, each = w->step > 1 ? 2 * read * (double)w->step : read;
    for (int i = 0; i < w->f->n; i++)
        if (i != w->which) others *= (double)w->f->extent[i]->hi;
    int levels = log2_of(whole);
    double n_vecs =
        (double)(w->n < TILE_VECTORS * w->lanes ? (w->n + w->lanes - 1) / w->lanes : TILE_VECTORS);
    double more = 1 + (double)((whole + w->lanes - 2) / w->lanes) / n_vecs;
    int pieces = counts_twice(w->f->s->fold) ? (whole & (whole - 1)) != 0
                                             : __builtin_popcountll((uint64_t)whole) - 1;
    double once =
        more * (others * (double)w->step * each + levels) + pieces + others * (double)rest * each;
    return once * least_gain < others * (double)w->taps * each;
}

static bool find_windows(KCtx *k, const Fold *f, const RowNest *nest, int lanes, Windows *w) {
    const Stage *s = f->s;
    const RowLoop *inner = &nest->loop[nest->n - 1];
    *w = (Windows){.f = f, .nest = nest, .inner = inner, .lanes = lanes};
    bool is_row = s->out->layout.block <= 1 && !nest->index[inner->axis];
    if (!is_row || !k_is_int(inner->extent, &w->n) || s->form != FORM_REDUCE || f->n != s->n_red)
        return false;
    bool found = false;
    for (int i = f->n - 1; i >= 0 && !found; i--) found = find_place(k, w, i);
    return found && (w->taps / w->step + lanes - 2) / lanes <= MOST_MORE && is_less(w);
}

bool fold_has_windows(KCtx *k, const Fold *f, const RowNest *nest, int lanes) {
    Windows w;
    return find_windows(k, f, nest, lanes, &w);
}

/* ---- a tile ---------------------------------------------------------------------------------- */

/* A vector loop over n elements from place `from` of a buffer; returns their number. */
static const KExpr *open_lanes(Windows *w, const KExpr *from, int64_t n) {
    KCtx *k = w->r->k;
    return k_add(k, from, kb_for(w->r->b, LOOP_VECTOR, "l", k_int(k, n)));
}

typedef void Element(Windows *w, const KExpr *at, void *user);

/* Elements 0..n-1 by whole vectors, and what fills none. */
static void each_element(Windows *w, int64_t n, Element *element, void *user) {
    KCtx *k = w->r->k;
    KBuild *b = w->r->b;
    int64_t whole = n / w->lanes, rest = n % w->lanes;
    if (whole) {
        const KExpr *v = kb_for(b, LOOP_UNROLL, "v", k_int(k, whole));
        element(w, open_lanes(w, k_mul(k, v, k_int(k, w->lanes)), w->lanes), user);
        kb_end(b);
        kb_end(b);
    }
    if (rest) {
        element(w, open_lanes(w, k_int(k, whole * w->lanes), rest), user);
        kb_end(b);
    }
}

typedef struct Reading {
    KBuf *to;
    const KExpr *start; /* place of the first element */
    const KExpr *const *red;
} Reading;

static void read_element(Windows *w, const KExpr *at, void *user) {
    const Reading *from = user;
    KCtx *k = w->r->k;
    const Stage *s = w->f->s;
    const KExpr *place = k_add(k, from->start, k_mul(k, at, k_int(k, w->step)));
    const KExpr *body = k_subst(k, w->guards.body, &w->at, &place, 1);
    body = k_subst(k, rows_expr(w->r, s, w->nest, body), s->red, from->red, s->n_red);
    fold_into(w->r, s, from->to, at, body);
}

static int open_guard(Windows *w, int depth, const KExpr *const *red) {
    KCtx *k = w->r->k;
    const KExpr *cond = w->guards.at[depth];
    if (!cond) return 0;
    cond = k_subst(k, rows_expr(w->r, w->f->s, w->nest, cond), w->f->s->red, red, depth);
    if (k_is_value(cond, 1)) return 0;
    kb_if(w->r->b, cond);
    return 1;
}

/* to[q] := to[q] folded with steps 0..n_steps-1 from place start + q*S on, for q < n. */
static void read_steps(Windows *w, KBuf *to, const KExpr *start, int64_t n, int64_t n_steps) {
    enum { WRITTEN_OUT = 4 };
    KCtx *k = w->r->k;
    KBuild *b = w->r->b;
    const Fold *f = w->f;
    const KExpr *red[MAX_RED] = {NULL};
    int depth = open_guard(w, 0, red);
    for (int i = 0; i < f->n; i++) {
        bool along = i == w->which;
        const KExpr *extent = along ? k_int(k, n_steps) : f->extent[i];
        KLoopMark mark = along && n_steps <= WRITTEN_OUT ? LOOP_UNROLL : LOOP_SERIAL;
        red[i] = kb_for(b, mark, f->red[i]->name, extent);
        depth += 1 + open_guard(w, i + 1, red);
    }
    Reading from = {to, k_add(k, start, red[w->which]), red};
    each_element(w, n, read_element, &from);
    for (int i = 0; i < depth; i++) kb_end(b);
}

static void set_neutral(Windows *w, KBuf *buf, int64_t from, int64_t n_vecs) {
    KCtx *k = w->r->k;
    const Stage *s = w->f->s;
    const KExpr *v = kb_for(w->r->b, LOOP_UNROLL, "v", k_int(k, n_vecs));
    const KExpr *at =
        open_lanes(w, k_add(k, k_int(k, from), k_mul(k, v, k_int(k, w->lanes))), w->lanes);
    kb_store(w->r->b, buf, at, fold_neutral(k, s->fold, s->acc->dtype));
    kb_end(w->r->b);
    kb_end(w->r->b);
}

static int64_t vectors(const Windows *w, int64_t n) {
    return (n + w->lanes - 1) / w->lanes;
}

/* A buffer for n elements, whole vectors, and one behind them, which a step sideways may reach. */
static KBuf *new_elements(Windows *w, int64_t n) {
    return kb_alloc(w->r->b, MEM_REG, w->f->s->acc->dtype, "w", (vectors(w, n) + 1) * w->lanes);
}

/* to[q] := from[q] folded with from[q + by], or to[q] with from[q + by] where `from` is added to
 * it, for all vectors of n elements. */
static void fold_aside(Windows *w, KBuf *to, KBuf *with, KBuf *from, int64_t by, int64_t n) {
    KCtx *k = w->r->k;
    const KExpr *v = kb_for(w->r->b, LOOP_UNROLL, "v", k_int(k, vectors(w, n)));
    const KExpr *at = open_lanes(w, k_mul(k, v, k_int(k, w->lanes)), w->lanes);
    const KExpr *other = k_load(k, from, k_add(k, at, k_int(k, by)));
    kb_store(w->r->b, to, at, k_binary(k, w->f->s->fold, k_load(k, with, at), other));
    kb_end(w->r->b);
    kb_end(w->r->b);
}

/* Windows of `whole` elements of `from`, n of them, into `to`, which holds neutral elements. */
static void fold_windows_of(Windows *w, KBuf *from, KBuf *to, int64_t whole, int64_t n) {
    bool twice = counts_twice(w->f->s->fold);
    int64_t left = n + whole - 1; /* elements of `from` */
    for (int level = 0; whole >> level; level++) {
        int64_t size = (int64_t)1 << level, behind = whole >> (level + 1) << (level + 1);
        bool is_last = !(whole >> (level + 1));
        if (is_last && twice)
            fold_aside(w, to, from, from, whole - size, n);
        else if (!twice && whole & size)
            fold_aside(w, to, to, from, behind, n);
        if (is_last) break;
        left -= size;
        KBuf *next = new_elements(w, left);
        fold_aside(w, next, from, from, size, left);
        set_neutral(w, next, vectors(w, left) * w->lanes, 1);
        from = next;
    }
}

static void store_result(Windows *w, const KExpr *at, void *user) {
    Reading *from = user;
    KCtx *k = w->r->k;
    const Stage *s = w->f->s;
    RowNest nest = *w->nest;
    rows_bind(k, &nest, w->inner, k_add(k, from->start, at));
    const KExpr *value = k_load(k, from->to, at);
    if (fold_starts(k, s)) value = k_binary(k, s->fold, value, s->init);
    rows_store(w->r, s, &nest,
               rows_expr(w->r, s, &nest, k_subst(k, s->finish, &s->acc, &value, 1)));
}

/* n results from element `start` on. */
static void open_tile(Windows *w, const KExpr *start, int64_t n) {
    KCtx *k = w->r->k;
    int64_t whole = w->taps / w->step, rest = w->taps % w->step, reach = n + whole - 1;
    const KExpr *place = k_mul(k, start, k_int(k, w->step));
    KBuf *elements = new_elements(w, reach), *sums = new_elements(w, n);
    set_neutral(w, elements, 0, vectors(w, reach) + 1);
    set_neutral(w, sums, 0, vectors(w, n));
    read_steps(w, elements, place, reach, w->step);
    fold_windows_of(w, elements, sums, whole, n);
    if (rest) read_steps(w, sums, k_add(k, place, k_int(k, whole * w->step)), n, rest);
    Reading result = {sums, start, NULL};
    each_element(w, n, store_result, &result);
}

bool open_windows(Rows *r, const Fold *f, const RowNest *nest, int lanes) {
    KCtx *k = r->k;
    KBuild *b = r->b;
    Windows w;
    if (!find_windows(k, f, nest, lanes, &w)) return false;
    w.r = r;
    w.guards = fold_guards(k, f->s, w.body, w.at);
    int n_vecs = r->p->m->target->n_vector_regs < WIDE_REGISTERS ? TILE_VECTORS / 2 : TILE_VECTORS;
    int64_t size = (int64_t)n_vecs * lanes, n_tiles = (w.n + size - 1) / size, last = n_tiles - 1;
    if (n_tiles == 1) {
        open_tile(&w, k_int(k, 0), w.n);
        return true;
    }
    /* windows of the first and the last tile may go over the border; others need not ask */
    const KExpr *t = kb_for(b, r->outermost, "t", k_int(k, n_tiles));
    kb_if(b, k_lt(k, t, k_int(k, 1)));
    open_tile(&w, k_int(k, 0), size);
    kb_else(b);
    if (last > 1) {
        kb_if(b, k_lt(k, t, k_int(k, last)));
        const KExpr *inside = kb_let_within(b, "inside", k_sub(k, t, k_int(k, 1)), last - 2);
        open_tile(&w, k_mul(k, k_add(k, inside, k_int(k, 1)), k_int(k, size)), size);
        kb_else(b);
    }
    open_tile(&w, k_int(k, last * size), w.n - last * size);
    for (int i = 0; i < 2 + (last > 1); i++) kb_end(b);
    return true;
}
