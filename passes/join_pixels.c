/* Convolutions by 1x1 taps between dense tensors, as products of matrices.
 *
 * Before:  y[i,j,k,l] = sum_c x[i,c,k,l] * w[j,c]             x and y dense, y[_,_,H,W]
 * After:   x'[i,c,q] = x[i,c,q//W,q%W]                        a view
 *          y'[i,j,q] = sum_c x'[i,c,q] * w[j,c]
 *          y[i,j,k,l] = y'[i,j,k*W+l]                         a view
 *
 * Lanes then lie along all pixels of a channel, x is read and y written in place. In blocks of
 * channels, every element would be moved once more, and along rows only, lanes idle at each row's
 * end. Requires definitions before layouts. Not done: pixels that fill no whole vectors nearly,
 * free sizes, and tensors that others keep in blocks. */
#include "passes/join_pixels.h"

/* Of all lanes, one in so many may idle. */
enum { IDLE_LANES = 32 };

typedef struct Pixels {
    DefProgram *p;
    Stage *s;       /* the contraction */
    int first;      /* of its axes that are pixels: this one and all behind it */
    const KExpr *n; /* of them together */
    const KExpr *at;
    bool ok;
} Pixels;

static bool is_pixel(const Pixels *x, const KExpr *e) {
    return stage_axis_of(x->s, e) >= x->first;
}

/* Do the last indices of a dense tensor walk through all pixels, in order? */
static bool reads_pixels(const Pixels *x, const KExpr *e) {
    if (e->op != KO_at || at_pred(e)) return false;
    const KTensor *t = e->u.tensor;
    int behind = t->rank - x->s->out->rank; /* how far its axes lie behind those of the stage */
    if (t->data || (t->def && !t->dense_only) || t->rank < x->s->out->rank - x->first) return false;
    for (int i = 0; i < t->rank; i++) {
        if (is_pixel(x, e->arg[i]) != (i - behind >= x->first)) return false;
        if (i - behind >= x->first && (stage_axis_of(x->s, e->arg[i]) != i - behind ||
                                       t->dims[i] != x->s->out->dims[i - behind]))
            return false;
    }
    return true;
}

static void note_pixels(const KExpr *e, void *user) {
    Pixels *x = user;
    bool uses = false;
    for (int i = 0; i < e->n_args; i++) uses |= is_pixel(x, e->arg[i]);
    x->ok &= !uses || reads_pixels(x, e);
}

/* The tensor with its pixels as one axis: a view of its bytes. */
static KTensor *joined_view(const Pixels *x, KTensor *t) {
    KCtx *k = x->p->m->k;
    const KExpr *dims[MAX_RANK], *index[MAX_RANK];
    int n = x->s->out->rank - x->first, lead = t->rank - n;
    for (int i = 0; i < lead; i++) dims[i] = t->dims[i];
    dims[lead] = x->n;
    KTensor *v = program_add_tensor(x->p, t->name, t->dtype, lead + 1, dims);
    v->dense_only = true;
    Stage *view = program_add_stage(x->p, x->s, FORM_MAP, v, x->s->node);
    for (int i = 0; i < lead; i++) index[i] = k_var(k, view->axis[i]);
    def_unflatten(k, k_var(k, view->axis[lead]), t->dims + lead, n, index + lead);
    view->body = k_at(k, t, index, t->rank);
    view->view = view->movement = true;
    return v;
}

static const KExpr *read_joined(KCtx *k, const KExpr *e, void *user) {
    const Pixels *x = user;
    const KExpr *index[MAX_RANK];
    if (e->op != KO_at || !e->n_args || !is_pixel(x, e->arg[e->n_args - 1])) return e;
    int lead = e->u.tensor->rank - (x->s->out->rank - x->first);
    for (int i = 0; i < lead; i++) index[i] = e->arg[i];
    index[lead] = x->at;
    return k_at(k, joined_view(x, e->u.tensor), index, lead + 1);
}

/* The contraction over joined pixels, and its result as a view of them. */
static void join(Pixels *x) {
    KCtx *k = x->p->m->k;
    Stage *s = x->s;
    KTensor *dense = s->out;
    const KExpr *dims[MAX_RANK], *index[MAX_RANK], *pixel[MAX_RANK];
    for (int i = 0; i < x->first; i++) dims[i] = dense->dims[i];
    dims[x->first] = x->n;
    KTensor *t = program_add_tensor(x->p, dense->name, dense->dtype, x->first + 1, dims);
    KVar *axis = kvar_new(k, KV_AXIS, DT_I64, s->axis[x->first]->name, 0, k_last_index(x->n));
    x->at = k_var(k, axis);
    s->lhs = k_rewrite(k, s->lhs, read_joined, x);
    s->rhs = k_rewrite(k, s->rhs, read_joined, x);
    s->finish = k_rewrite(k, s->finish, read_joined, x);
    s->axis[x->first] = axis;
    s->out = t;
    t->def = s;
    t->dense_only = true;
    Stage *view = program_add_stage(x->p, s->next, FORM_MAP, dense, s->node);
    for (int i = 0; i < x->first; i++) index[i] = k_var(k, view->axis[i]);
    for (int i = x->first; i < dense->rank; i++) pixel[i - x->first] = k_var(k, view->axis[i]);
    index[x->first] = def_flatten(k, pixel, dense->dims + x->first, dense->rank - x->first);
    view->body = k_at(k, t, index, x->first + 1);
    view->view = view->movement = true;
}

/* Do so many pixels fill vectors? */
static bool fills_vectors(const DefProgram *p, const KTensor *t, int64_t n) {
    int64_t lanes = target_lanes(p->m->target, dtype_bytes(t->dtype));
    int64_t idle = (lanes - n % lanes) % lanes;
    return lanes > 1 && n >= lanes && idle * IDLE_LANES <= n;
}

bool join_pixels(DefProgram *p, Stage *s) {
    KCtx *k = p->m->k;
    Pixels x = {.p = p, .s = s, .first = 2, .ok = true};
    int64_t n = 1, dim;
    bool is_float = s->acc->dtype == DT_F32 || s->acc->dtype == DT_F64;
    if (!is_float || s->out->dtype != s->acc->dtype || s->out->rank < 3) return false;
    for (int i = 2; i < s->out->rank; i++)
        if (!k_is_int(s->out->dims[i], &dim) || __builtin_mul_overflow(n, dim, &n)) return false;
    if (!fills_vectors(p, s->out, n) || k_uses_var(k, s->lhs, s->axis[1])) return false;
    k_visit(k, s->lhs, note_pixels, &x);
    k_visit(k, s->rhs, note_pixels, &x);
    k_visit(k, s->finish, note_pixels, &x);
    for (int i = 2; i < s->out->rank; i++) {
        x.ok &= k_uses_var(k, s->lhs, s->axis[i]) && !k_uses_var(k, s->rhs, s->axis[i]);
        x.ok &= stage_axis_of(s, s->lhs) != i && stage_axis_of(s, s->finish) != i;
    }
    if (!x.ok || !pass_may_rewrite()) return false;
    pass_count_rewrite();
    pass_trace("assign_layouts", s->node, "lanes along all pixels");
    x.n = k_int(k, n);
    if (s->out->rank > 3) join(&x);
    return true;
}
