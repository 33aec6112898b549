/* Scans: state that is carried along one axis.
 *
 *   for outer axes                             for outer axes, groups of columns
 *     state := init                              state[vectors][lanes] := init
 *     for t                                      for t
 *       next := step(state)                        for vectors (unroll), lanes (vector)
 *       out := value of next                         next, state, out := as beside
 *
 * The right form is for axes that do not walk the output's memory: neighbours have states of their
 * own, and go along together as many as make whole lines. An axis that does walk it has rows, a few
 * of which go along together, so that no sum waits for the one before: columns of one lane. Where
 * rows are longer than a page, the states are on the stack, as many as make long stretches of
 * memory, which are fetched ahead. */
#include "ir/schedule_rows.h"

enum {
    SCAN_VECTORS = 16,
    FEW_VECTORS = 4, /* of states, or rows, at once: whole lines, and several streams */
    STATE_BYTES = 8192, /* of all states on the stack: they stay in the nearest cache */
    PAGE_BYTES = 4096   /* rows as long are on pages of their own, which nothing fetches ahead */
};

/* The scan's states and a place in them. */
typedef struct States {
    KBuf *buf[MAX_STATES];
    const KExpr *at;
} States;

static void start_states(Rows *r, const Stage *s, const RowNest *nest, States *st) {
    for (int i = 0; i < s->n_states; i++)
        kb_store(r->b, st->buf[i], st->at, rows_expr(r, s, nest, s->state_init[i]));
}

static void alloc_states(Rows *r, const Stage *s, States *st, KMem mem, int64_t n) {
    for (int i = 0; i < s->n_states; i++)
        st->buf[i] = kb_alloc(r->b, mem, s->state[i]->dtype, s->state[i]->name, n);
}

/* One step: every state from the old ones, then the element from the new ones. */
static void step_states(Rows *r, const Stage *s, const RowNest *nest, const States *st) {
    KCtx *k = r->k;
    const KExpr *now[MAX_STATES], *next[MAX_STATES];
    for (int i = 0; i < s->n_states; i++) now[i] = k_load(k, st->buf[i], st->at);
    for (int i = 0; i < s->n_states; i++)
        next[i] = kb_let(r->b, "next",
                         rows_expr(r, s, nest, k_subst(k, s->step[i], s->state, now, s->n_states)));
    for (int i = 0; i < s->n_states; i++) kb_store(r->b, st->buf[i], st->at, next[i]);
    rows_store(r, s, nest, rows_expr(r, s, nest, k_subst(k, s->body, s->state, next, s->n_states)));
}

static void bind_step(Rows *r, const Stage *s, RowNest *nest) {
    KCtx *k = r->k;
    const KExpr *extent = s->out->dims[s->scan_axis], *t = kb_for(r->b, LOOP_SERIAL, "t", extent);
    nest->index[s->scan_axis] = s->scan_reverse ? k_sub(k, k_sub(k, extent, k_int(k, 1)), t) : t;
}

void open_scan_element(Rows *r, const Stage *s, RowNest *nest) {
    States st = {.at = k_int(r->k, 0)};
    alloc_states(r, s, &st, MEM_REG, 1);
    start_states(r, s, nest, &st);
    bind_step(r, s, nest);
    step_states(r, s, nest, &st);
    kb_end(r->b);
}

bool scan_fits_columns(const Stage *s, const RowNest *nest, int lanes) {
    if (!nest->n || lanes <= 1 || s->out->layout.block > 1) return false;
    const RowLoop *last = &nest->loop[nest->n - 1];
    return last->axis == tensor_contiguous_axis(s->out) && last->extent->hi >= lanes;
}

bool scan_fits_rows(const Stage *s, const RowNest *nest) {
    return nest->n && s->out->layout.block <= 1 && nest->loop[nest->n - 1].extent->hi > 1;
}

/* n_vecs vectors of `width` columns from `first` of the loop `inner` on. */
static void open_columns(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *inner,
                         const KExpr *first, int n_vecs, int width) {
    KCtx *k = r->k;
    RowNest row = *nest;
    States st;
    bool is_long = n_vecs > SCAN_VECTORS;
    alloc_states(r, s, &st, is_long ? MEM_STACK : MEM_REG, (int64_t)n_vecs * width);
    for (int pass = 0; pass < 2; pass++) {
        if (pass) bind_step(r, s, &row);
        const KExpr *v = kb_for(r->b, is_long ? LOOP_SERIAL : LOOP_UNROLL, "v", k_int(k, n_vecs)),
                    *l = kb_for(r->b, LOOP_VECTOR, "l", k_int(k, width));
        RowNest here = row;
        st.at = k_add(k, k_mul(k, v, k_int(k, width)), l);
        rows_bind(k, &here, inner, k_add(k, first, st.at));
        if (pass)
            step_states(r, s, &here, &st);
        else
            start_states(r, s, &here, &st);
        for (int i = 0; i < 2 + pass; i++) kb_end(r->b);
    }
}

/* Vectors of states on the stack for rows of a known length; 0 where they are short. */
static int long_vectors(const Stage *s, const RowLoop *inner, int lanes) {
    int64_t n, bytes = 0, groups;
    if (!k_is_int(inner->extent, &n) || n * dtype_bytes(s->out->dtype) < PAGE_BYTES) return 0;
    for (int i = 0; i < s->n_states; i++) bytes += dtype_bytes(s->state[i]->dtype);
    n /= lanes;
    groups = (n * lanes * bytes + STATE_BYTES - 1) / STATE_BYTES;
    return (int)(n / groups);
}

void open_scan_columns(Rows *r, const Stage *s, const RowNest *nest, const RowLoop *inner,
                       int lanes) {
    KCtx *k = r->k;
    int64_t n = 0;
    const KExpr *done = k_int(k, 0);
    int most = r->p->m->target->n_vector_regs / 2;
    if (most > SCAN_VECTORS) most = SCAN_VECTORS;
    if (most < FEW_VECTORS || s->n_states > 1 || lanes == 1) most = FEW_VECTORS;
    int steps[] = {lanes > 1 ? long_vectors(s, inner, lanes) : 0, most, FEW_VECTORS, 1};
    for (int i = 0; i < 4; i++) {
        if (!steps[i] || (i && steps[i] == steps[i - 1])) continue;
        const KExpr *width = k_int(k, (int64_t)steps[i] * lanes);
        const KExpr *groups = k_fdiv(k, k_sub(k, inner->extent, done), width);
        if (k_is_value(groups, 0)) continue;
        const KExpr *c = kb_for(r->b, LOOP_SERIAL, "c", groups);
        open_columns(r, s, nest, inner, k_add(k, done, k_mul(k, c, width)), steps[i], lanes);
        kb_end(r->b);
        done = k_add(k, done, k_mul(k, groups, width));
    }
    const KExpr *rest = k_sub(k, inner->extent, done);
    if (k_is_value(rest, 0)) return;
    if (k_is_int(rest, &n)) {
        open_columns(r, s, nest, inner, done, 1, (int)n);
        return;
    }
    RowNest row = *nest;
    rows_bind(k, &row, inner, k_add(k, done, kb_for(r->b, LOOP_SERIAL, "l", rest)));
    open_scan_element(r, s, &row);
    kb_end(r->b);
}
