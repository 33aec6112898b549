/* Col2Im and MaxUnpool: the way back from windows and pools to the image.
 *
 *   Col2Im     out[n, c, p..] = sum of the columns' elements that lie at p: over the kernel
 *              positions q with (p + pad - q * dilation) divisible by the stride, a reduce with
 *              predicated reads. Without dilation these are q = (p + pad) mod stride + t * stride.
 *   MaxUnpool  zeros, and x[i] where indices[i] says: a program */
#include "ir/ops/check.h"
#include "ir/ops/window.h"

/* ---- Col2Im ---------------------------------------------------------------------------------- */

typedef struct Columns {
    int n; /* spatial axes */
    const KExpr **image, **block, *blocks[MAX_RANK];
    int64_t stride[MAX_RANK], dilation[MAX_RANK], pad[2 * MAX_RANK];
} Columns;

static bool read_columns(Module *m, const Node *n, Columns *c) {
    KCtx *k = m->k;
    int count;
    if (!infer_exprs(m, n, 1, MAX_RANK - 2, &c->image, &c->n) ||
        !infer_exprs(m, n, 2, MAX_RANK - 2, &c->block, &count))
        return false;
    if (c->n != count || c->n < 1) {
        diag_error(m->diag, n->loc, "image_shape has %d elements and block_shape %d", c->n, count);
        return false;
    }
    if (!window_list(m, n, "strides", c->n, 1, 1, c->stride) ||
        !window_list(m, n, "dilations", c->n, 1, 1, c->dilation) ||
        !window_list(m, n, "pads", 2 * c->n, 0, 0, c->pad))
        return false;
    for (int i = 0; i < c->n; i++) {
        const KExpr *reach = k_mul(k, k_sub(k, c->block[i], k_int(k, 1)), k_int(k, c->dilation[i]));
        const KExpr *room = k_sub(k, k_add(k, c->image[i], k_int(k, c->pad[i] + c->pad[c->n + i])),
                                  k_add(k, reach, k_int(k, 1)));
        c->blocks[i] = k_add(k, k_fdiv(k, room, k_int(k, c->stride[i])), k_int(k, 1));
    }
    return true;
}

static bool are_sizes(Module *m, const Node *n, const KExpr *const *e, int count,
                      const char *what) {
    int64_t v;
    for (int i = 0; i < count; i++) {
        infer_rule(m, n, k_le(m->k, k_int(m->k, 1), e[i]));
        if (!k_is_int(e[i], &v) || (v >= 1 && v <= INT32_MAX)) continue;
        diag_error(m->diag, n->loc, "%s[%d] is %lld, must be 1 to %d", what, i, (long long)v,
                   INT32_MAX);
        return false;
    }
    return true;
}

bool col2im_infer(Module *m, Node *n) {
    KCtx *k = m->k;
    Columns c;
    if (!infer_dtype(m, n, 0, CLASS_SCALAR | CLASS_COMPLEX) || !infer_rank(m, n, 0, 3, 3) ||
        !read_columns(m, n, &c) || !are_sizes(m, n, c.image, c.n, "image_shape") ||
        !are_sizes(m, n, c.block, c.n, "block_shape"))
        return false;
    const KExpr *kernel = k_int(k, 1), *columns = k_int(k, 1);
    for (int i = 0; i < c.n; i++) {
        kernel = k_mul(k, kernel, c.block[i]);
        columns = k_mul(k, columns, c.blocks[i]);
    }
    Shape out = shape_make(m->arena, 2 + c.n);
    const KExpr *rows = n->in[0]->shape.dims[1];
    int64_t have, each;
    if (k_is_int(rows, &have) && k_is_int(kernel, &each) && have % each) {
        diag_error(m->diag, n->loc, "dim 1 is %lld, no multiple of the block's %lld elements",
                   (long long)have, (long long)each);
        return false;
    }
    infer_rule(m, n, k_eq(k, k_fmod(k, rows, kernel), k_int(k, 0)));
    if (!check_dim(m, n, 0, 2, columns, "blocks in the image")) return false;
    out.dims[0] = n->in[0]->shape.dims[0];
    out.dims[1] = k_fdiv(k, rows, kernel);
    for (int i = 0; i < c.n; i++) out.dims[2 + i] = c.image[i];
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

typedef struct Meeting {
    const KExpr *tap, *block, *pred; /* pred NULL: always */
} Meeting;

/* The kernel positions that meet the image's place `p` (counted from the padding) along spatial
 * axis i, as a reduction axis: one in `stride` of them where nothing is dilated. */
static Meeting meet(Def *d, Stage *s, const Columns *c, int i, const KExpr *p) {
    KCtx *k = d->k;
    const KExpr *stride = k_int(k, c->stride[i]), *zero = k_int(k, 0);
    if (c->dilation[i] > 1) {
        const KExpr *q = def_reduce_axis(d, s, "q", c->block[i]);
        p = k_sub(k, p, k_mul(k, q, k_int(k, c->dilation[i])));
        return (Meeting){q, k_fdiv(k, p, stride), k_eq(k, k_fmod(k, p, stride), zero)};
    }
    const KExpr *most = k_fdiv(k, k_add(k, c->block[i], k_int(k, c->stride[i] - 1)), stride);
    const KExpr *t = def_reduce_axis(d, s, "t", most);
    const KExpr *q = k_add(k, k_fmod(k, p, stride), k_mul(k, t, stride));
    const KExpr *rest = k_fmod(k, c->block[i], stride);
    return (Meeting){q, k_sub(k, k_fdiv(k, p, stride), t),
                     k_is_value(rest, 0) ? NULL : k_lt(k, q, c->block[i])};
}

void col2im_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Columns c;
    BUG_IF(!read_columns(d->m, n, &c), "sizes changed since infer");
    Stage *s = def_begin(d, FORM_REDUCE, out);
    const KExpr *row = def_axis(d, s, 1), *column = k_int(k, 0), *pred = NULL;
    for (int i = 0; i < c.n; i++) {
        const KExpr *p = k_add(k, def_axis(d, s, 2 + i), k_int(k, c.pad[i]));
        Meeting m = meet(d, s, &c, i, p);
        pred = k_and_inside(d, pred, m.block, c.blocks[i]);
        if (m.pred) pred = k_and(k, pred, m.pred);
        row = k_add(k, k_mul(k, row, c.block[i]), m.tap);
        column = k_add(k, k_mul(k, column, c.blocks[i]), m.block);
    }
    const KExpr *at[3] = {def_axis(d, s, 0), row, column};
    DType acc = x->dtype == DT_BOOL ? DT_I32 : acc_dtype(x->dtype);
    const KExpr *e = k_cast(k, acc, def_at_if(d, x, at, 3, pred));
    def_reduce(d, s, KO_add, acc, k_const(k, acc, 0), e);
    def_finish(d, s, k_cast(k, out->dtype, def_acc(d, s)));
}

/* ---- MaxUnpool ------------------------------------------------------------------------------- */

/* The shape that pooling to x's shape had as input: what the indices speak of. */
static void unpooled_dims(KCtx *k, const Window *w, const KExpr *const *x, const KExpr **dims) {
    dims[0] = x[0];
    dims[1] = x[1];
    for (int i = 0; i < w->n; i++) {
        const KExpr *steps = k_mul(k, k_sub(k, x[2 + i], k_int(k, 1)), k_int(k, w->stride[i]));
        int64_t ends = w->kernel[i] - w->pad[i] - w->pad[w->n + i];
        dims[2 + i] = k_add(k, steps, k_int(k, ends));
    }
}

bool max_unpool_infer(Module *m, Node *n) {
    Window w;
    const KExpr **wanted;
    int count;
    if (!check_dtype(m, n, 0, DTM_FLOATS | DTM_BYTES) || !check_dtype(m, n, 1, DTM(I64)) ||
        !infer_rank(m, n, 0, 3, MAX_RANK))
        return false;
    Shape x = n->in[0]->shape;
    if (!infer_rank(m, n, 1, x.rank, x.rank) || !window_check(m, n, x.rank - 2, NULL, &w))
        return false;
    for (int i = 0; i < x.rank; i++)
        if (!check_dim(m, n, 1, i, x.dims[i], "like input 0")) return false;
    Shape out = shape_make(m->arena, x.rank);
    unpooled_dims(m->k, &w, x.dims, out.dims);
    if (has_in(n, 2)) {
        if (!infer_exprs(m, n, 2, MAX_RANK, &wanted, &count)) return false;
        if (count != x.rank) {
            diag_error(m->diag, n->loc, "output_shape has %d elements, must have %d", count,
                       x.rank);
            return false;
        }
        for (int i = 0; i < x.rank; i++) out.dims[i] = wanted[i];
    }
    window_store(n, &w);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

typedef struct Unpool {
    Def *d;
    KTensor *x, *index, *out;
    const KExpr *dims[MAX_RANK], *total; /* of what the indices number */
} Unpool;

static void store_zero(void *user, const KExpr *i) {
    const Unpool *u = user;
    kb_store(&u->d->b, u->out->buf, i, k_const(u->d->k, u->out->dtype, 0));
}

/* Puts x's element number i to its place, if that is inside. */
static void put_element(const Unpool *u, const KExpr *i) {
    Def *d = u->d;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *at[MAX_RANK], *inside = NULL;
    const KExpr *to = kb_let(b, "to", lower_at_flat(d, u->index, i));
    kb_if(b, lower_inside(d, to, u->total));
    def_unflatten(k, to, u->dims, u->x->rank, at);
    for (int a = 0; a < u->x->rank; a++) {
        if (u->dims[a] == u->out->dims[a]) continue;
        at[a] = kb_let(b, "at", at[a]);
        inside = k_and_inside(d, inside, at[a], u->out->dims[a]);
    }
    if (inside) kb_if(b, inside);
    kb_store(b, u->out->buf, inside ? def_flatten(k, at, u->out->dims, u->x->rank) : to,
             lower_at_flat(d, u->x, i));
    if (inside) kb_end(b);
    kb_end(b);
}

/* Indices number the elements of the unpooled shape. Where output_shape is another one, they are
 * taken apart and put together again; what lies outside of it is dropped. */
void max_unpool_lower(Def *d, const Node *n) {
    enum { COPIES = 8 };
    KCtx *k = d->k;
    KBuild *b = &d->b;
    Unpool u = {.d = d, .x = def_in(d, 0), .index = def_in(d, 1), .out = def_out(d, 0)};
    const KExpr *n_elems = tensor_n_elems(k, u.x), *copies = k_int(k, COPIES);
    Window w;
    window_load(n, u.x->rank - 2, &w);
    unpooled_dims(k, &w, u.x->dims, u.dims);
    u.total = k_int(k, 1);
    for (int a = 0; a < u.x->rank; a++) u.total = k_mul(k, u.total, u.dims[a]);
    Stage *s = def_program(d, &u.out, 1);
    lower_for_all(&d->b, tensor_n_elems(k, u.out), !dtype_is_wide(u.out->dtype), store_zero, &u);
    const KExpr *full = k_fdiv(k, n_elems, copies), *done = k_mul(k, full, copies);
    const KExpr *c = kb_for(b, LOOP_SERIAL, "c", full);
    const KExpr *copy = kb_for(b, LOOP_UNROLL, "copy", copies);
    put_element(&u, k_add(k, k_mul(k, c, copies), copy));
    kb_end(b);
    kb_end(b);
    const KExpr *rest = k_sub(k, n_elems, done);
    if (!k_is_value(rest, 0)) {
        put_element(&u, k_add(k, done, kb_for(b, LOOP_SERIAL, "i", rest)));
        kb_end(b);
    }
    def_end_program(d, s);
}
