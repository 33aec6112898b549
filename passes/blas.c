/* A contraction that is a matrix product of dense operands becomes a call of a BLAS library.
 *
 * Before:  y = contract [i, j] over [k < 256] { lhs = x[i, k]  rhs = w[k, j]  finish = acc + b[j] }
 * After:   product = loops { extern sgemm_(...) }
 *          y = map [i, j] { value = product[i, j] + b[j] }
 *
 * The call is Fortran's sgemm_ or dgemm_, which every BLAS has and whose arguments are all
 * pointers: numbers lie in small buffers of the kernel. Fortran's matrices are columns first, so
 * the product is asked for transposed, with the factors exchanged.
 *
 * An operand fits when its elements lie at m*a + k*b with a or b equal to 1. Axes of the result
 * that both factors have, and those that do not fold into one with their neighbour, become loops
 * around the call. Left to our own kernels are convolutions, whose operands are not matrices in
 * memory, and products too small to be worth a call, or with so few rows or columns that the
 * library would copy the other factor for little use. */
#include "passes/blas.h"

#include "passes/pass.h"

enum { LEAST_MACS = 32 * 32 * 32, LEAST_ROWS = 8 };

/* A product in memory: c[m*cm + n*cn] = sum over k of a[m*am + k*ak] * b[k*bk + n*bn]. */
typedef struct Product {
    const KExpr *m, *n, *k;               /* extents */
    int64_t am, ak, bk, bn, cm, cn;       /* strides in elements */
    KVar *loop[MAX_RANK], *inner[MAX_RANK + MAX_RED]; /* axes of loops; those of the matrices */
    const KExpr *loop_extent[MAX_RANK];
    int n_loops, n_inner;
} Product;

typedef struct Match {
    DefProgram *p;
    KCtx *k;
    const Stage *s;
    const KExpr *c; /* the result's place in memory */
    const KExpr *a, *b;     /* the factors' */
    const KExpr *lhs, *rhs; /* the factors */
    Product out;
} Match;

/* An element of a dense tensor of this dtype, read without a test; its place in memory. */
static const KExpr *place_of(DefProgram *p, const KExpr *e, DType t) {
    if (e->op != KO_at || at_pred(e) || e->dtype != t) return NULL;
    if (!tensor_is_dense(p->m->k, e->u.tensor)) return NULL;
    return tensor_flat_index(p->m->k, e->u.tensor, e->arg);
}

/* The constant step in memory along a variable; 0 where it does not depend on it. */
static bool stride(KCtx *k, const KExpr *place, KVar *v, int64_t *step) {
    const KExpr *base, *coeff;
    *step = 0;
    if (!k_uses_var(k, place, v)) return true;
    return k_linear_in(k, place, v, &base, &coeff) && k_is_int(coeff, step) && *step > 0;
}

/* The matrix axes [*at, rank) of one factor, from the last: as many as are one axis in memory, both
 * in the factor and in the result. The others become loops. */
static bool fold_axes(Match *m, const KExpr *factor, const int *axis, int n, const KExpr **extent,
                      int64_t *in_factor, int64_t *in_result) {
    *extent = k_int(m->k, 1);
    *in_factor = *in_result = 0;
    for (int i = n - 1; i >= 0; i--) {
        KVar *v = m->s->axis[axis[i]];
        const KExpr *dim = m->s->out->dims[axis[i]];
        int64_t f, c, n_so_far = 0;
        if (!stride(m->k, factor, v, &f) || !stride(m->k, m->c, v, &c)) return false;
        bool is_first = i == n - 1;
        bool folds = is_first || (k_is_int(*extent, &n_so_far) && f == *in_factor * n_so_far &&
                                  c == *in_result * n_so_far);
        if (!folds) {
            m->out.loop_extent[m->out.n_loops] = dim;
            m->out.loop[m->out.n_loops++] = v;
            continue;
        }
        if (is_first) {
            *in_factor = f;
            *in_result = c;
        }
        *extent = k_mul(m->k, *extent, dim);
        m->out.inner[m->out.n_inner++] = v;
    }
    return true;
}

/* The only reduction axis that is longer than 1. */
static bool match_reduction(Match *m) {
    Product *o = &m->out;
    const Stage *s = m->s;
    o->k = k_int(m->k, 1);
    for (int r = 0; r < s->n_red; r++) {
        o->inner[o->n_inner++] = s->red[r];
        if (k_is_value(s->red_extent[r], 1)) continue;
        if (!k_is_value(o->k, 1)) return false;
        o->k = s->red_extent[r];
        if (!stride(m->k, m->a, s->red[r], &o->ak) || !stride(m->k, m->b, s->red[r], &o->bk) ||
            !o->ak || !o->bk)
            return false;
    }
    return true;
}

static bool match_axes(Match *m) {
    const Stage *s = m->s;
    Product *o = &m->out;
    int rows[MAX_RANK], columns[MAX_RANK], n_rows = 0, n_columns = 0;
    for (int i = 0; i < s->out->rank; i++) {
        bool in_a = k_uses_var(m->k, m->a, s->axis[i]), in_b = k_uses_var(m->k, m->b, s->axis[i]);
        if (k_is_value(s->out->dims[i], 1)) {
            o->inner[o->n_inner++] = s->axis[i];
        } else if (in_a != in_b) {
            if (in_a)
                rows[n_rows++] = i;
            else
                columns[n_columns++] = i;
        } else {
            o->loop_extent[o->n_loops] = s->out->dims[i];
            o->loop[o->n_loops++] = s->axis[i];
        }
    }
    return fold_axes(m, m->a, rows, n_rows, &o->m, &o->am, &o->cm) &&
           fold_axes(m, m->b, columns, n_columns, &o->n, &o->bn, &o->cn) && match_reduction(m);
}

static void swap(int64_t *a, int64_t *b) {
    int64_t t = *a;
    *a = *b;
    *b = t;
}

/* The result's rows are columns in memory: c' = b' a'. */
static void transpose(Match *m) {
    Product *o = &m->out;
    const KExpr *t = m->a;
    m->a = m->b;
    m->b = t;
    t = m->lhs;
    m->lhs = m->rhs;
    m->rhs = t;
    t = o->m;
    o->m = o->n;
    o->n = t;
    swap(&o->am, &o->bn);
    swap(&o->ak, &o->bk);
    swap(&o->cm, &o->cn);
}

/* A matrix of rows x columns whose elements lie at row*row_step + column*column_step: stored with
 * columns that are neighbours, or transposed, or (a step of 0) without extent there? */
static bool is_transposed(int64_t row_step, int64_t column_step) {
    return column_step > 1 || (column_step == 0 && row_step == 1);
}

/* Windows that overlap (x[i + k]) are none. */
static bool is_matrix(int64_t row_step, int64_t column_step, const KExpr *rows,
                      const KExpr *columns) {
    if (is_transposed(row_step, column_step)) {
        swap(&row_step, &column_step);
        const KExpr *t = rows;
        rows = columns;
        columns = t;
    }
    return (column_step == 1 || columns->hi == 1) && (rows->hi == 1 || row_step >= columns->hi);
}

static bool match(Match *m) {
    Product *o = &m->out;
    const Stage *s = m->s;
    DType t = s->out->dtype;
    if ((t != DT_F32 && t != DT_F64) || s->acc->dtype != t || s->fold != KO_add) return false;
    if (!k_is_value(s->init, 0) || !tensor_is_dense(m->k, s->out)) return false;
    m->a = place_of(m->p, s->lhs, t);
    m->b = place_of(m->p, s->rhs, t);
    if (!m->a || !m->b) return false;
    const KExpr *axes[MAX_RANK];
    for (int i = 0; i < s->out->rank; i++) axes[i] = k_var(m->k, s->axis[i]);
    m->c = tensor_flat_index(m->k, s->out, axes);
    if (!match_axes(m)) return false;
    if (o->cn != 1 && o->cm == 1) transpose(m);
    if (o->cn > 1 || (o->cn == 0 && o->cm > 1)) return false;
    return is_matrix(o->am, o->ak, o->m, o->k) && is_matrix(o->bk, o->bn, o->k, o->n) &&
           is_matrix(o->cm, o->cn, o->m, o->n) &&
           (double)o->m->hi * (double)o->n->hi * (double)o->k->hi >= LEAST_MACS &&
           o->m->hi >= LEAST_ROWS && o->n->hi >= LEAST_ROWS && o->m->hi <= INT32_MAX &&
           o->n->hi <= INT32_MAX && o->k->hi <= INT32_MAX;
}

/* ---- the call -------------------------------------------------------------------------------- */

/* The distance of its rows, or of its columns when it is transposed. */
static const KExpr *leading(KCtx *k, bool transposed, int64_t row_step, int64_t column_step,
                            const KExpr *rows, const KExpr *columns) {
    int64_t step = transposed ? column_step : row_step;
    return step > 1 ? k_int(k, step) : k_max(k, transposed ? rows : columns, k_int(k, 1));
}

/* The first element of the factor's matrix in this round of the loops. */
static const KExpr *first_element(KCtx *k, const Product *o, const KExpr *factor,
                                  const KExpr *const *at) {
    const KExpr *zero[MAX_RANK + MAX_RED];
    for (int i = 0; i < o->n_inner; i++) zero[i] = k_int(k, 0);
    const KExpr *e = k_subst(k, factor, o->inner, zero, o->n_inner);
    return k_subst(k, e, o->loop, at, o->n_loops);
}

static KBuf *numbers(KBuild *b, DType t, const char *name, const KExpr *const *values, int n) {
    KBuf *buf = kb_alloc(b, MEM_STACK, t, name, n);
    for (int i = 0; i < n; i++) kb_store(b, buf, k_int(b->k, i), k_cast(b->k, t, values[i]));
    return buf;
}

static void emit_call(const Match *m, Stage *call) {
    KCtx *k = m->k;
    const Product *o = &m->out;
    DType t = call->out->dtype;
    KBuild b;
    kb_begin(&b, k, &call->program);
    bool ta = is_transposed(o->am, o->ak), tb = is_transposed(o->bk, o->bn);
    const KExpr *how[] = {k_int(k, tb ? 'T' : 'N'), k_int(k, ta ? 'T' : 'N')};
    const KExpr *size[] = {o->n,
                           o->m,
                           o->k,
                           leading(k, tb, o->bk, o->bn, o->k, o->n),
                           leading(k, ta, o->am, o->ak, o->m, o->k),
                           k_max(k, o->cm ? k_int(k, o->cm) : o->n, k_int(k, 1))};
    const KExpr *factor[] = {k_const(k, t, 1), k_const(k, t, 0)};
    KBuf *hows = numbers(&b, DT_U8, "transposed", how, 2);
    KBuf *sizes = numbers(&b, DT_I32, "sizes", size, 6);
    KBuf *factors = numbers(&b, t, "factors", factor, 2);
    const KExpr *at[MAX_RANK];
    for (int i = 0; i < o->n_loops; i++) at[i] = kb_for(&b, LOOP_SERIAL, "b", o->loop_extent[i]);
    const KExpr *i0 = k_int(k, 0), *i1 = k_int(k, 1), *i2 = k_int(k, 2);
    const KArg args[] = {{.buf = hows, .offset = i0},
                         {.buf = hows, .offset = i1},
                         {.buf = sizes, .offset = i0},
                         {.buf = sizes, .offset = i1},
                         {.buf = sizes, .offset = i2},
                         {.buf = factors, .offset = i0},
                         {.offset = first_element(k, o, m->rhs, at)},
                         {.buf = sizes, .offset = k_int(k, 3)},
                         {.offset = first_element(k, o, m->lhs, at)},
                         {.buf = sizes, .offset = k_int(k, 4)},
                         {.buf = factors, .offset = i1},
                         {call->out->buf, first_element(k, o, m->c, at), true},
                         {.buf = sizes, .offset = k_int(k, 5)}};
    kb_extern(&b, t == DT_F32 ? "sgemm_" : "dgemm_", args, sizeof args / sizeof *args, NULL, 0);
    for (int i = 0; i < o->n_loops; i++) kb_end(&b);
}

/* The stage that was the contraction, once `product` holds its sums. */
static void become_map(DefProgram *p, Stage *s, KTensor *product) {
    KCtx *k = p->m->k;
    const KExpr *index[MAX_RANK], *sum;
    for (int i = 0; i < s->out->rank; i++) index[i] = k_var(k, s->axis[i]);
    sum = k_at(k, product, index, s->out->rank);
    s->body = k_subst(k, s->finish, &s->acc, &sum, 1);
    s->form = FORM_MAP;
    s->lhs = s->rhs = s->finish = s->init = NULL;
    s->acc = NULL;
    s->n_red = 0;
}

bool blas_take_contract(DefProgram *p, Stage *s) {
    Match m = {.p = p, .k = p->m->k, .s = s, .lhs = s->lhs, .rhs = s->rhs};
    if (!match(&m)) return false;
    bool is_bare = s->finish->op == KO_var && s->finish->u.var == s->acc;
    stage_forget_reads(s);
    KTensor *product = s->out;
    if (!is_bare)
        product =
            program_add_tensor(p, "product", s->out->dtype, s->out->rank, s->out->dims);
    Stage *call = program_add_stage(p, s, FORM_PROGRAM, product, s->node);
    call->outs = arena_array(p->arena, KTensor *, 1);
    call->outs[0] = product;
    call->n_outs = 1;
    product->def = call;
    product->dense_only = true;
    emit_call(&m, call);
    call->macs = (double)m.out.m->hi * (double)m.out.n->hi * (double)m.out.k->hi;
    for (int i = 0; i < m.out.n_loops; i++) call->macs *= (double)m.out.loop_extent[i]->hi;
    stage_note_reads(call);
    pass_trace("choose_schedules", s->node, "%s", s->out->dtype == DT_F32 ? "sgemm_" : "dgemm_");
    if (is_bare) {
        stage_remove(p, s);
    } else {
        become_map(p, s, product);
        stage_note_reads(s);
    }
    return true;
}
