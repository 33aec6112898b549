/* Groups of maps and reductions that share their outer axes: one loop over rows, in which the
 * members run one after the other, with a register for each result that only the row's later
 * members read. Where rows are short, a row in each lane. */
#include "ir/schedule_rows.h"

typedef struct RowGroupLoops {
    DefProgram *p;
    KBuild *b;
    Stage *const *stages;
    StagePart *part;
    int n, n_outer;
    KTensor *const *local;
    int n_local;
    const KExpr *total; /* rows */
} RowGroupLoops;

typedef struct OwnRead {
    const KTensor *of;
    KCtx *k;
    bool found;
} OwnRead;

static void note_own_read(const KExpr *e, void *user) {
    OwnRead *o = user;
    const KExpr *offset;
    if (e->op == KO_at) o->found |= tensor_root(o->k, e->u.tensor, &offset) == o->of;
}

/* May the fold share the loops of these n? It has equal axes and needs none of their results. */
static bool can_join(Rows *r, const RowFold *of, int n, const RowFold *next) {
    const Fold *f = &of->fold, *g = &next->fold;
    if (f->n != g->n || f->s->acc->dtype != g->s->acc->dtype) return false;
    for (int i = 0; i < f->n; i++)
        if (f->extent[i] != g->extent[i]) return false;
    for (int i = 0; i < n; i++) {
        const KExpr *offset;
        OwnRead o = {tensor_root(r->k, of[i].fold.s->out, &offset), r->k, false};
        k_visit(r->k, g->body, note_own_read, &o);
        if (o.found) return false;
    }
    return true;
}

/* Folds over the same part of a row, its least element and its largest, are taken in one loop: what
 * both read is loaded once, and what is common to what they compute of it is computed once. Their
 * partial results may fill half of the registers. Returns how many stages that were; 0: none. */
static int open_folds(Rows *r, const RowGroupLoops *g, int first) {
    enum { MOST = 4 };
    RowFold of[MOST];
    int n = 0, lanes = 0, most = r->p->m->target->n_vector_regs / 2 / MOST_PARTIALS;
    for (; n < most && n < MOST && first + n < g->n; n++) {
        const Stage *s = g->stages[first + n];
        int here = rows_fold_in_row(r, s, rows_nest(r->k, s, &g->part[first + n]), &of[n]);
        if (!here || (n && (here != lanes || !can_join(r, of, n, &of[n])))) break;
        lanes = here;
    }
    if (n < 2) return 0;
    fold_lanes(r, of, n, lanes);
    for (int i = 0; i < n; i++) rows_store_fold(r, &of[i]);
    return n;
}

static void open_group_row(const RowGroupLoops *g, bool across) {
    Rows r = {.p = g->p,
              .k = g->p->m->k,
              .b = g->b,
              .local = g->local,
              .n_local = g->n_local,
              .across = across};
    r.local_buf = arena_array(g->p->arena, KBuf *, g->n_local ? g->n_local : 1);
    for (int i = 0; i < g->n_local; i++)
        r.local_buf[i] = kb_alloc(g->b, MEM_REG, g->local[i]->dtype, g->local[i]->name, 1);
    for (int i = 0, n; i < g->n; i += n) {
        n = open_folds(&r, g, i);
        if (n) continue;
        rows_open_stage(&r, g->stages[i], rows_nest(r.k, g->stages[i], &g->part[i]));
        n = 1;
    }
}

void schedule_open_row(DefProgram *p, Stage *const *stages, const StagePart *part, int n,
                       KTensor *const *local, int n_local, KBuild *b) {
    StagePart *own = arena_copy(p->arena, part, sizeof *part * (size_t)n);
    RowGroupLoops g = {p, b, stages, own, n, 0, local, n_local, NULL};
    open_group_row(&g, false);
}

static void bind_rows(RowGroupLoops *g, const KExpr *const *outer) {
    for (int i = 0; i < g->n_outer; i++)
        for (int m = 0; m < g->n; m++) g->part[m].at[i] = outer[i];
}

/* ---- short rows ------------------------------------------------------------------------------ */

/* How many rows are taken at once, one in each lane; 0 where rows fill a vector themselves, or half
 * of one, which costs less than lanes that are gathered and scattered. Sums of functions have no
 * lanes otherwise. Where nothing of a row is stored but what it is folded into, rows of less than a
 * vector of words have no lanes either, and functions of a few vectors' sum take one lane of many.
 */
static int lanes_across(const RowGroupLoops *g) {
    int lanes = INT32_MAX, most;
    bool sums_function = false, folds_only = true;
    for (int i = 0; i < g->n; i++) {
        const Stage *s = g->stages[i];
        int here = target_lanes(g->p->m->target, dtype_bytes(s->out->dtype));
        if (here < lanes) lanes = here;
        if ((s->form != FORM_MAP && s->form != FORM_REDUCE) || dtype_is_wide(s->out->dtype) ||
            s->out->layout.permuted || s->out->layout.block > 1 || s->out->layout.has_halo)
            return 0;
        if (s->form == FORM_REDUCE) sums_function |= schedule_has_function(g->p->m->k, s->body);
    }
    for (int i = 0; i < g->n; i++)
        for (int a = g->n_outer; a < g->stages[i]->out->rank; a++)
            folds_only &= k_is_value(g->stages[i]->out->dims[a], 1);
    int words = target_lanes(g->p->m->target, 4);
    most = !folds_only     ? sums_function ? lanes - 1 : lanes / 4
           : sums_function ? 4 * words
                           : words - 1;
    for (int i = 0; i < g->n; i++) {
        const Stage *s = g->stages[i];
        int64_t size = 1, n;
        for (int a = g->n_outer; a < s->out->rank + s->n_red; a++) {
            int red = a - s->out->rank;
            if (!k_is_int(red < 0 ? s->out->dims[a] : s->red_extent[red], &n)) return 0;
            size *= n;
        }
        if (size > most) return 0;
    }
    return lanes > 1 && g->total->hi >= lanes ? lanes : 0;
}

/* Softmax of 7 classes: 16 rows at once.
 *
 *   for block (parallel)
 *     for l (vector)       row = block*16 + l
 *       for r in 0..7      peak, sum, ...: one of each in every lane */
static void open_short_rows(RowGroupLoops *g, KLoopMark mark, int lanes) {
    KCtx *k = g->p->m->k;
    const KExpr *width = k_int(k, lanes), *outer[MAX_RANK];
    const KExpr *n_full = k_fdiv(k, g->total, width), *tail = k_fmod(k, g->total, width);
    const KExpr *all = k_fdiv(k, k_add(k, g->total, k_int(k, lanes - 1)), width);
    const KExpr *block = kb_for(g->b, mark, "block", all), *first = k_mul(k, block, width);
    bool has_tail = !k_is_value(tail, 0);
    for (int rest = 0; rest < 1 + has_tail; rest++) {
        int64_t n;
        bool lanes_apart = rest && !k_is_int(tail, &n);
        if (has_tail && !rest) kb_if(g->b, k_lt(k, block, n_full));
        const KExpr *l = kb_for(g->b, lanes_apart ? LOOP_SERIAL : LOOP_VECTOR, "l",
                                rest ? tail : width);
        def_unflatten(k, k_add(k, first, l), g->stages[0]->out->dims, g->n_outer, outer);
        bind_rows(g, outer);
        open_group_row(g, !lanes_apart);
        kb_end(g->b);
        if (has_tail && !rest) kb_else(g->b);
    }
    if (has_tail) kb_end(g->b);
    kb_end(g->b);
}

void schedule_open_rows(DefProgram *p, Stage *const *stages, int n, int n_outer,
                        KTensor *const *local, int n_local, KBuild *b) {
    KCtx *k = p->m->k;
    if (n == 1 && !n_local) {
        Rows r = {.p = p, .k = k, .b = b};
        rows_open_single(&r, stages[0]);
        return;
    }
    double work = 0;
    RowGroupLoops g = {p, b, stages, arena_array(p->arena, StagePart, n), n, n_outer, local,
                       n_local, k_int(k, 1)};
    for (int i = 0; i < n; i++) work += schedule_stage_work(stages[i]);
    for (int i = 0; i < n_outer; i++) g.total = k_mul(k, g.total, stages[0]->out->dims[i]);
    KLoopMark mark = work >= PARALLEL_GRAIN ? LOOP_PARALLEL : LOOP_SERIAL;
    int across = lanes_across(&g);
    if (across) {
        open_short_rows(&g, mark, across);
        return;
    }
    const KExpr *outer[MAX_RANK], *t = kb_for(b, mark, "row", g.total);
    kb_unflatten(b, "i", t, stages[0]->out->dims, n_outer, outer);
    bind_rows(&g, outer);
    open_group_row(&g, false);
    kb_end(b);
}
