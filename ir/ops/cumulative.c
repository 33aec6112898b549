/* CumSum and CumProd: a scan along the axis whose state is the running sum (product).
 *
 * An axis that is known only while running makes it a program instead, in row-major order
 * (backwards with `reverse`): so_far[i] = so_far[one step back along the axis] + x[...], where one
 * step is the axis' stride. f16 and bf16 sum in f32. */
#include "ir/ops/common.h"

/* flag[a]: is it axis a; *axis: which one it is, -1 where only the run tells. */
static bool cumulative_axis(Module *m, const Node *n, const KExpr **flag, int *axis) {
    int rank = n->in[0]->shape.rank, count;
    if (!infer_axis_flags(m, n, 1, rank, flag, &count)) return false;
    if (count != 1) {
        diag_error(m->diag, n->loc, "input 1 (axis) must be a scalar");
        return false;
    }
    *axis = -1;
    for (int a = 0; a < rank; a++)
        if (k_is_value(flag[a], 1)) *axis = a;
    return true;
}

bool cumulative_infer(Module *m, Node *n) {
    const KExpr *flag[MAX_RANK];
    int axis;
    return infer_dtype(m, n, 0, CLASS_NUMBER) && infer_index_dtype(m, n, 1) &&
           infer_rank(m, n, 0, 1, MAX_RANK) && cumulative_axis(m, n, flag, &axis) &&
           infer_same_as(m, n, 0, n->in[0]);
}

/* Stride and dim of the axis: selects over all axes. */
static void axis_geometry(Def *d, const KTensor *x, const KExpr *const *flag, const KExpr **stride,
                          const KExpr **dim) {
    KCtx *k = d->k;
    const KExpr *step = *stride = k_int(k, 1);
    *dim = x->dims[x->rank - 1];
    for (int a = x->rank - 2; a >= 0; a--) {
        step = k_mul(k, step, x->dims[a + 1]);
        *stride = k_select(k, flag[a], step, *stride);
        *dim = k_select(k, flag[a], x->dims[a], *dim);
    }
}

/* The operator for an axis that is computed. */
static void cumulative_open(Def *d, const Node *n, const KExpr *const *flag, KTensor *x,
                            KTensor *out) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    DType t = compute_dtype(x->dtype);
    bool is_sum = n->op == OP_CumSum, is_exclusive = attr_int(n, "exclusive", 0) != 0;
    bool is_reverse = attr_int(n, "reverse", 0) != 0;
    const KExpr *neutral = k_const(k, t, is_sum ? 0 : 1), *one = k_int(k, 1), *stride, *dim;
    KTensor *so_far = def_temp(d, "so_far", t, out->rank, out->dims);
    Stage *s = def_program(d, &so_far, 1);
    axis_geometry(d, x, flag, &stride, &dim);
    stride = kb_let(b, "stride", stride);
    dim = kb_let(b, "dim", dim);
    const KExpr *count = tensor_n_elems(k, x), *i = kb_for(b, LOOP_SERIAL, "i", count);
    if (is_reverse) i = k_sub(k, k_sub(k, count, one), i);
    i = kb_let(b, "at", i);
    const KExpr *place = k_fmod(k, k_fdiv(k, i, stride), dim);
    const KExpr *first = is_reverse ? k_sub(k, dim, one) : k_int(k, 0);
    const KExpr *is_first = kb_let(b, "first", k_eq(k, place, first));
    const KExpr *back = kb_let(b, "back", is_reverse ? k_add(k, i, stride) : k_sub(k, i, stride));
    kb_if(b, is_first);
    const KExpr *own = k_cast(k, t, lower_at_flat(d, x, i));
    kb_store(b, so_far->buf, i, is_exclusive ? neutral : own);
    kb_else(b);
    if (is_exclusive) own = k_cast(k, t, lower_at_flat(d, x, back));
    const KExpr *before = k_load(k, so_far->buf, back);
    kb_store(b, so_far->buf, i, is_sum ? k_add(k, before, own) : k_mul(k, before, own));
    kb_end(b);
    kb_end(b);
    def_end_program(d, s);
    s = def_begin(d, FORM_MAP, out);
    def_map(d, s, lower_elem(d, s, so_far, out->dtype));
}

/* State 0 is the sum (product) up to and including the element; state 1, for exclusive ones, is
 * the one before. */
void cumulative_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    bool is_sum = n->op == OP_CumSum;
    const KExpr *flag[MAX_RANK];
    int axis;
    BUG_IF(!cumulative_axis(d->m, n, flag, &axis), "the axis changed since infer");
    if (axis < 0) {
        cumulative_open(d, n, flag, x, out);
        return;
    }
    Stage *s = def_begin(d, FORM_SCAN, out);
    s->scan_axis = axis;
    s->scan_reverse = attr_int(n, "reverse", 0) != 0;
    s->n_states = attr_int(n, "exclusive", 0) ? 2 : 1;
    for (int i = 0; i < s->n_states; i++) {
        const char *name = i ? "before" : is_sum ? "sum" : "product";
        s->state[i] = kvar_new(k, KV_AXIS, t, name, INT64_MIN, INT64_MAX);
        s->state_init[i] = k_const(k, t, is_sum ? 0 : 1);
    }
    const KExpr *so_far = k_var(k, s->state[0]), *x_i = lower_elem(d, s, x, t);
    s->step[0] = is_sum ? k_add(k, so_far, x_i) : k_mul(k, so_far, x_i);
    if (s->n_states == 2) s->step[1] = so_far;
    s->body = k_cast(k, out->dtype, k_var(k, s->state[s->n_states - 1]));
}
