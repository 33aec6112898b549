/* Where along an axis a map's element changes its form: Concat's inputs, Pad's borders, the repeats
 * of a Tile.
 *
 *   y[i] = i < 17 ? a[i] : i < 34 ? b[i - 17] : c[i - 34]         cuts at 17, 34
 *   y[i] = x[(i + 98) % 101], i < 107                             cuts at 3, 104
 *
 * Loops that end at the cuts have none of the conditions or divisions, since ranges fold them away.
 */
#include "ir/schedule_rows.h"

typedef struct FindCuts {
    KCtx *k;
    KVar *axis;
    int64_t extent, *cut;
    int n;
    CutKind kind;
    bool too_many;
} FindCuts;

static void add_cut(FindCuts *f, int64_t at) {
    int i = f->n;
    if (at <= 0 || at >= f->extent) return;
    for (int j = 0; j < f->n; j++)
        if (f->cut[j] == at) return;
    if (f->n == MAX_CUTS) {
        f->too_many = true;
        return;
    }
    for (; i > 0 && f->cut[i - 1] > at; i--) f->cut[i] = f->cut[i - 1];
    f->cut[i] = at;
    f->n++;
}

/* e is base + axis or base - axis, with a constant base. */
static bool is_place(const FindCuts *f, const KExpr *e, int64_t *base, bool *falls) {
    const KExpr *rest, *coeff;
    if (e->dtype != DT_I64 || !k_linear_in(f->k, e, f->axis, &rest, &coeff)) return false;
    *falls = k_is_value(coeff, -1);
    return (*falls || k_is_value(coeff, 1)) && k_is_int(rest, base);
}

/* Quotients and remainders by n change at its multiples. */
static void cut_division(FindCuts *f, const KExpr *e) {
    int64_t base, n;
    bool falls;
    if (!k_is_int(e->arg[1], &n) || n < 2 || !is_place(f, e->arg[0], &base, &falls) || falls)
        return;
    int64_t first = ((base % n) + n) % n; /* of the remainder at 0 */
    for (int64_t at = n - first; at < f->extent && !f->too_many; at += n) add_cut(f, at);
}

/* Is this one of two places? Then which ones, in *a and *b. */
static bool is_either(const KExpr *e, const KExpr **a, const KExpr **b) {
    bool chosen = e->op == KO_select;
    if (e->op != KO_min && e->op != KO_max && !chosen) return false;
    *a = e->arg[chosen];
    *b = e->arg[chosen + 1];
    return true;
}

/* Where the order of a and b changes; of either of two, both are asked. Equal ones go by `op`: with
 * those before or behind, of a minimum or maximum with those that are not the constant. */
static void cut_order(FindCuts *f, KOp op, const KExpr *a, const KExpr *b) {
    const KExpr *one, *other;
    int64_t base;
    bool falls;
    if (a->dtype != DT_I64) return;
    if (is_either(a, &one, &other)) {
        cut_order(f, op, one, b);
        cut_order(f, op, other, b);
    } else if (is_either(b, &one, &other)) {
        cut_order(f, op, a, one);
        cut_order(f, op, a, other);
    } else if (is_place(f, k_sub(f->k, a, b), &base, &falls)) {
        bool equal = op == KO_le || op == (falls ? KO_max : KO_min);
        add_cut(f, falls ? base + !equal : equal - base);
    }
}

static void note_cuts(const KExpr *e, void *user) {
    FindCuts *f = user;
    bool divides = e->op == KO_fmod || e->op == KO_fdiv;
    if (divides && e->dtype == DT_I64 && (f->kind & CUT_DIVISIONS)) cut_division(f, e);
    if (!(f->kind & CUT_CONDITIONS)) return;
    if (e->op == KO_lt || e->op == KO_le || e->op == KO_min || e->op == KO_max)
        cut_order(f, e->op, e->arg[0], e->arg[1]);
}

int stage_cuts(KCtx *k, const Stage *s, int axis, CutKind kind, int64_t *cut) {
    FindCuts f = {.k = k, .axis = s->axis[axis], .cut = cut, .kind = kind};
    if (s->form != FORM_MAP || !k_is_int(s->out->dims[axis], &f.extent)) return 0;
    bool is_blocked = s->out->layout.block > 1 && s->out->layout.block_axis == axis;
    if (is_blocked && kind != CUT_ALL) return 0;
    k_visit(k, s->body, note_cuts, &f);
    for (int i = 0; is_blocked && i < f.n; i++) f.too_many |= cut[i] % s->out->layout.block != 0;
    return f.too_many ? 0 : f.n;
}

/* How many vectors the parts between n cuts have together. */
static int64_t count_vectors(const int64_t *cut, int n, int64_t extent, int lanes) {
    int64_t n_vectors = 0;
    for (int i = 0; i <= n; i++) {
        int64_t part = (i < n ? cut[i] : extent) - (i ? cut[i - 1] : 0);
        n_vectors += (part + lanes - 1) / lanes;
    }
    return n_vectors;
}

typedef struct Period {
    FindCuts f;
    int lanes;
    int64_t n;
} Period;

static void note_period(const KExpr *e, void *user) {
    Period *p = user;
    int64_t base, n;
    bool falls, divides = e->op == KO_fmod || e->op == KO_fdiv;
    if (!divides || e->dtype != DT_I64 || !k_is_int(e->arg[1], &n) || n < 2) return;
    if (p->n > MOST_PERIOD || n > p->lanes * MOST_PERIOD) return;
    if (!is_place(&p->f, e->arg[0], &base, &falls) || falls) return;
    int64_t here = n / common_divisor(n, p->lanes);
    p->n *= here / common_divisor(here, p->n);
}

int lane_period(KCtx *k, const Stage *s, int axis, int lanes) {
    Period p = {{.k = k, .axis = s->axis[axis]}, lanes, 1};
    if (s->form != FORM_MAP) return 1;
    k_visit(k, s->body, note_period, &p);
    bool takes_single = dtype_bytes(s->out->dtype) < 4; /* which nothing gathers */
    return p.n > (takes_single ? 1 : MOST_PERIOD) ? 0 : (int)p.n;
}

/* Parts of a few elements (what a stride interleaves) are permutations of whole vectors, or
 * gathered, at less cost. */
static int division_cuts(KCtx *k, const Stage *s, int axis, int lanes, int64_t *cut) {
    enum { MOST_SHORTER = 3 };
    int64_t extent;
    int n = stage_cuts(k, s, axis, CUT_DIVISIONS, cut);
    if (!k_is_int(s->out->dims[axis], &extent)) return n;
    int64_t whole = (extent + lanes - 1) / lanes;
    bool are_short = count_vectors(cut, n, extent, lanes) > MOST_SHORTER * whole;
    return are_short && lane_period(k, s, axis, lanes) ? 0 : n;
}

/* Where conditions change within the lanes, each vector asks all of them, and reads what each part
 * has: worth it only where the parts would make still more vectors. */
int lane_cuts(KCtx *k, const Stage *s, int axis, int lanes, int64_t *cut) {
    int n = stage_cuts(k, s, axis, CUT_CONDITIONS, cut);
    int64_t extent;
    if (!n || !k_is_int(s->out->dims[axis], &extent)) return division_cuts(k, s, axis, lanes, cut);
    if (count_vectors(cut, n, extent, lanes) > (extent + lanes - 1) / lanes * (n + 1))
        return division_cuts(k, s, axis, lanes, cut);
    int n_all = stage_cuts(k, s, axis, CUT_ALL, cut);
    return n_all ? n_all : stage_cuts(k, s, axis, CUT_CONDITIONS, cut);
}

/* ---- rows of one stretch --------------------------------------------------------------------- */

typedef struct Stretch {
    Rows *r;
    const Stage *s;
    RowNest nest; /* the outer loops */
    RowLoop rows, inner;
    int64_t n_inner, cut[MAX_CUTS + 1];
    int n_cuts, lanes;
} Stretch;

/* The nest at element t of the stretch that begins with row `from`. */
static RowNest stretch_at(const Stretch *x, int64_t from, const KExpr *t) {
    KCtx *k = x->r->k;
    RowNest at = x->nest;
    const KExpr *n = k_int(k, x->n_inner);
    rows_bind(k, &at, &x->rows, k_add(k, k_int(k, from), k_fdiv(k, t, n)));
    rows_bind(k, &at, &x->inner, k_fmod(k, t, n));
    return at;
}

static void note_division(const KExpr *e, void *user) {
    bool *divides = user;
    *divides |= e->op == KO_fdiv || e->op == KO_fmod;
}

/* Does the store and everything that the element reads walk on from row to row? */
static bool is_one_stretch(const Stretch *x, int64_t from, int64_t end) {
    KCtx *k = x->r->k;
    bool divides = false;
    KVar *t = kvar_new(k, KV_AXIS, DT_I64, "t", 0, (end - from) * x->n_inner - 1);
    RowNest at = stretch_at(x, from, k_var(k, t));
    const KExpr *index[MAX_RANK];
    for (int i = 0; i < x->s->out->rank; i++) index[i] = at.index[i] ? at.index[i] : k_int(k, 0);
    k_visit(k, tensor_flat_index(k, x->s->out, index), note_division, &divides);
    k_visit(k, rows_expr(x->r, x->s, &at, x->s->body), note_division, &divides);
    return !divides;
}

static void open_stretch(Stretch *x, int64_t from, int64_t end) {
    KCtx *k = x->r->k;
    KBuild *b = x->r->b;
    int64_t n = (end - from) * x->n_inner, rest = n % x->lanes;
    for (int tail = 0; tail < 2; tail++) {
        if (tail ? !rest : n == rest) continue;
        const KExpr *t = k_int(k, n - rest);
        if (!tail)
            t = k_mul(k, kb_for(b, LOOP_SERIAL, "c", k_int(k, n / x->lanes)), k_int(k, x->lanes));
        bool vector = !tail || rest > 1;
        if (vector) t = k_add(k, t, kb_for(b, LOOP_VECTOR, "l", k_int(k, tail ? rest : x->lanes)));
        RowNest at = stretch_at(x, from, t);
        rows_store(x->r, x->s, &at, rows_expr(x->r, x->s, &at, x->s->body));
        for (int i = 0; i < !tail + vector; i++) kb_end(b);
    }
}

/* Rows of known length, no whole vectors; enough outer ones to share where threads do. */
static bool find_stretch(Rows *r, const Stage *s, Stretch *x) {
    enum { LEAST_OUTER = 8 };
    KCtx *k = r->k;
    RowNest nest = rows_nest(k, s, NULL);
    if (s->form != FORM_MAP || s->out->layout.block > 1 || dtype_is_wide(s->out->dtype) ||
        nest.n < 2)
        return false;
    *x = (Stretch){.r = r,
                   .s = s,
                   .nest = nest,
                   .rows = nest.loop[nest.n - 2],
                   .inner = nest.loop[nest.n - 1]};
    x->nest.n -= 2;
    x->lanes = target_lanes(r->p->m->target, dtype_bytes(s->out->dtype));
    int64_t n_rows, outer, total = 1;
    if (!k_is_int(x->rows.extent, &n_rows) || !k_is_int(x->inner.extent, &x->n_inner)) return false;
    for (int i = 0; i < x->nest.n; i++) {
        if (!k_is_int(x->nest.loop[i].extent, &outer)) return false;
        total *= outer;
    }
    if (x->inner.axis != tensor_contiguous_axis(s->out) || x->lanes < 2 ||
        x->n_inner % x->lanes == 0)
        return false;
    if (total < LEAST_OUTER && schedule_stage_work(s) >= PARALLEL_GRAIN) return false;
    x->n_cuts = stage_cuts(k, s, x->rows.axis, CUT_ALL, x->cut);
    x->cut[x->n_cuts] = n_rows;
    for (int i = 0; i <= x->n_cuts; i++)
        if (!is_one_stretch(x, i ? x->cut[i - 1] : 0, x->cut[i])) return false;
    return true;
}

static void open_cut_rows(Stretch *x) {
    for (int i = 0; i <= x->n_cuts; i++) open_stretch(x, i ? x->cut[i - 1] : 0, x->cut[i]);
}

/* The outer loop along which the element changes its form, and where. */
typedef struct OuterParts {
    Stretch *x;
    const RowLoop *loop;
    int n_cuts;
    int64_t cut[MAX_CUTS + 2]; /* 0 and the extent stand around them */
} OuterParts;

static bool find_outer_parts(Stretch *x, OuterParts *parts) {
    enum { MOST_COPIES = 64 };
    *parts = (OuterParts){.x = x};
    for (int i = 0; i < x->nest.n; i++) {
        parts->loop = &x->nest.loop[i];
        int n = parts->n_cuts = row_cuts(x->r->k, x->s, parts->loop->axis, parts->cut + 1);
        if (n && (n + 1) * (x->n_cuts + 1) <= MOST_COPIES &&
            k_is_int(parts->loop->extent, &parts->cut[n + 1]))
            return true;
    }
    return false;
}

static void open_outer_part(void *user, int i) {
    const OuterParts *parts = user;
    KCtx *k = parts->x->r->k;
    Stretch part = *parts->x;
    int axis = parts->loop->axis;
    const KExpr *from = k_int(k, parts->cut[i]), *at = k_sub(k, part.nest.index[axis], from);
    at = kb_let_within(part.r->b, "at", at, parts->cut[i + 1] - parts->cut[i] - 1);
    part.nest.index[axis] = k_add(k, at, from);
    open_cut_rows(&part);
}

/* Outer rows ask once which part they are in. */
static void open_outer_parts(Stretch *x) {
    OuterParts parts;
    if (find_outer_parts(x, &parts))
        open_parts_by_halves(x->r->b, x->nest.index[parts.loop->axis], parts.cut, 0,
                             parts.n_cuts + 1, open_outer_part, &parts);
    else
        open_cut_rows(x);
}

bool open_stretches(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    Stretch x;
    if (!find_stretch(r, s, &x)) return false;
    const KExpr *extent[MAX_RANK + 1], *index[MAX_RANK + 1], *total = k_int(k, 1);
    int n = x.nest.n;
    for (int i = 0; i < n; i++) {
        extent[i] = x.nest.loop[i].extent;
        total = k_mul(k, total, extent[i]);
    }
    bool is_large = schedule_stage_work(s) >= PARALLEL_GRAIN;
    const KExpr *row = kb_for(r->b, is_large ? LOOP_PARALLEL : LOOP_SERIAL, "row", total);
    def_unflatten(k, row, extent, n, index);
    for (int i = 0; i < n; i++)
        rows_bind(k, &x.nest, &x.nest.loop[i],
                  kb_let_within(r->b, "i", index[i], extent[i]->hi - 1));
    open_outer_parts(&x);
    kb_end(r->b);
    return true;
}
