/* Maps with a few neighbours in their result (points of 2 coordinates, boxes of 4, the channels of
 * an image that lie last): a vector of those would be short.
 *
 *   y[u][v] = f(x[u][v], z[v]), v < 3
 *
 *   parallel for outer axes and chunks of u
 *     for vectors of u
 *       for v (unroll), u (vector)     rows[v][u] := f(x[u][v], z[v])
 *       for vectors of y               y[at] := rows[at % 3][at / 3]
 *
 * Each of the few v has a copy of its own, in which v is a constant; what is read in steps of them
 * is loaded whole and permuted, and so is what is stored. */
#include "ir/schedule_rows.h"
#include "ir/turn.h"

enum { FEW = 4, CHUNK = 16, LEAST_ELEMS = 256 };

typedef struct FewColumns {
    Rows *r;
    const Stage *s;
    RowNest nest; /* the outer loops */
    RowLoop u, v;
    int64_t n_u, n_v;
    int lanes;
} FewColumns;

/* Do the elements lie in the order of u, with all v at each? */
static bool is_interleaved(const FewColumns *x) {
    KCtx *k = x->r->k;
    const KTensor *t = x->s->out;
    const KExpr *base, *coeff, *index[MAX_RANK];
    for (int i = 0; i < t->rank; i++) index[i] = k_var(k, x->s->axis[i]);
    return k_linear_in(k, tensor_flat_index(k, t, index), x->s->axis[x->u.axis], &base, &coeff) &&
           k_is_value(coeff, (double)x->n_v);
}

static bool find_few(Rows *r, const Stage *s, FewColumns *x) {
    RowNest nest = rows_nest(r->k, s, NULL);
    if (s->form != FORM_MAP || s->out->dtype == DT_STR || nest.n < 2 || s->out->layout.block > 1)
        return false;
    *x = (FewColumns){r, s, nest, nest.loop[nest.n - 2], nest.loop[nest.n - 1], 0, 0, 0};
    x->nest.n -= 2;
    if (x->v.axis != tensor_contiguous_axis(s->out) || x->u.step != 1 || x->v.step != 1 ||
        !k_is_int(x->u.extent, &x->n_u) || !k_is_int(x->v.extent, &x->n_v))
        return false;
    const int lanes = target_lanes(r->p->m->target, dtype_bytes(s->out->dtype));
    x->lanes = lanes;
    /* shorter ones fill vectors of the result, too: 16 columns of words, of bytes */
    while (x->lanes > x->n_u && x->lanes % 2 == 0 && x->lanes * x->n_v > lanes) x->lanes /= 2;
    if (x->n_v < 2 || x->n_v > FEW || x->lanes < 2 * x->n_v || x->n_u < x->lanes) return false;
    return schedule_stage_work(s) >= LEAST_ELEMS && is_interleaved(x);
}

/* n of u from u0 on */
static void open_points(const FewColumns *x, const KExpr *u0, int64_t n) {
    Rows *r = x->r;
    KCtx *k = r->k;
    KBuild *b = r->b;
    const KExpr *width = k_int(k, n), *few = k_int(k, x->n_v);
    KBuf *rows = kb_alloc(b, MEM_REG, turn_dtype(x->s->out->dtype), "rows", x->n_v * n);
    const KExpr *v = kb_for(b, LOOP_UNROLL, "v", few), *l = kb_for(b, LOOP_VECTOR, "l", width);
    RowNest at = x->nest;
    rows_bind(k, &at, &x->u, k_add(k, u0, l));
    rows_bind(k, &at, &x->v, v);
    const KExpr *value = turn_pack(k, rows_expr(r, x->s, &at, x->s->body));
    kb_store(b, rows, k_add(k, k_mul(k, v, width), l), value);
    kb_end(b);
    kb_end(b);
    v = kb_for(b, LOOP_UNROLL, "v", few);
    l = kb_for(b, LOOP_VECTOR, "l", width);
    const KExpr *place = k_add(k, k_mul(k, v, width), l), *of_u = k_fdiv(k, place, few),
                *of_v = k_fmod(k, place, few);
    at = x->nest;
    rows_bind(k, &at, &x->u, k_add(k, u0, of_u));
    rows_bind(k, &at, &x->v, of_v);
    value = k_load(k, rows, k_add(k, k_mul(k, of_v, width), of_u));
    rows_store(r, x->s, &at, turn_unpack(k, x->s->out->dtype, value));
    kb_end(b);
    kb_end(b);
}

bool open_few_columns(Rows *r, const Stage *s) {
    KCtx *k = r->k;
    KBuild *b = r->b;
    FewColumns x;
    if (!find_few(r, s, &x)) return false;
    const KExpr *extent[MAX_RANK + 2], *index[MAX_RANK + 2], *total = k_int(k, 1);
    int n = x.nest.n;
    int64_t n_vecs = x.n_u / x.lanes, rest = x.n_u % x.lanes;
    int64_t n_chunks = n_vecs > CHUNK ? n_vecs / CHUNK : 1;
    for (int i = 0; i < n; i++) extent[i] = x.nest.loop[i].extent;
    extent[n] = k_int(k, n_chunks);
    for (int i = 0; i <= n; i++) total = k_mul(k, total, extent[i]);
    bool is_large = schedule_stage_work(s) >= PARALLEL_GRAIN;
    const KExpr *part = kb_for(b, is_large ? LOOP_PARALLEL : LOOP_SERIAL, "part", total);
    kb_unflatten(b, "i", part, extent, n + 1, index);
    for (int i = 0; i < n; i++) rows_bind(k, &x.nest, &x.nest.loop[i], index[i]);
    const KExpr *from = k_fdiv(k, k_mul(k, index[n], k_int(k, n_vecs)), k_int(k, n_chunks));
    const KExpr *next = k_mul(k, k_add(k, index[n], k_int(k, 1)), k_int(k, n_vecs));
    from = kb_let(b, "from", from);
    next = k_fdiv(k, next, k_int(k, n_chunks));
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", k_sub(k, next, from));
    c = kb_let_within(b, "at", k_add(k, from, c), n_vecs - 1);
    open_points(&x, k_mul(k, c, k_int(k, x.lanes)), x.lanes);
    kb_end(b);
    if (rest) {
        kb_if(b, k_le(k, k_int(k, n_chunks - 1), index[n]));
        open_points(&x, k_int(k, x.n_u - rest), rest);
        kb_end(b);
    }
    kb_end(b);
    return true;
}
