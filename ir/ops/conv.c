/* Conv and ConvTranspose: multiply-adds of channels and window positions.
 *
 *   Conv           y[n, o, p...] = b[o] + sum over (c, k...) of
 *                      x[n, group(o) * C/g + c, p * stride - pad + k * dilation] * w[o, c, k...]
 *   ConvTranspose  y[n, o, p...] = b[o] + sum over (c, k...) of
 *                      x[n, group(o) * C/g + c, (p + pad - k * dilation) / stride]
 *                      * w[c', o', k...]
 *
 * with x read as zero outside and, in the second, where the division leaves a rest. Sums of f16 and
 * bf16 run in f32. A group's number is o / (O / g); depthwise nets keep plain indices. */
#include <string.h>

#include "ir/ops/check.h"
#include "ir/ops/conv.h"

/* group divides `channels`, when that is constant. */
static bool check_group(Module *m, const Node *n, int64_t group, const KExpr *channels,
                        const char *what) {
    int64_t count;
    if (!check_attr_int(m, n, "group", group, 1, INT32_MAX)) return false;
    if (!k_is_int(channels, &count) || count % group == 0) return true;
    diag_error(m->diag, n->loc, "group is %lld, must divide the %lld %s", (long long)group,
               (long long)count, what);
    return false;
}

static bool check_conv_inputs(Module *m, const Node *n) {
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !check_same_dtype(m, n, 1, 0) ||
        !check_same_dtype(m, n, 2, 0) || !infer_rank(m, n, 0, 3, MAX_RANK))
        return false;
    return infer_rank(m, n, 1, n->in[0]->shape.rank, n->in[0]->shape.rank) &&
           (!has_in(n, 2) || infer_rank(m, n, 2, 1, 1));
}

bool conv_shape(Module *m, Node *n, const Value *weights, Shape *shape) {
    KCtx *k = m->k;
    Window w;
    const Value *x = n->in[0];
    int64_t group = attr_int(n, "group", 1);
    const KExpr *n_out = weights->shape.dims[0];
    if (!check_group(m, n, group, n_out, "output channels")) return false;
    const KExpr *n_in = k_mul(k, weights->shape.dims[1], k_int(k, group));
    if (!check_dim(m, n, 0, 1, n_in, "the weights' dim 1 times group")) return false;
    if (!window_check(m, n, x->shape.rank - 2, weights, &w) || !window_auto_pad(m, n, &w))
        return false;
    Shape out = shape_make(m->arena, x->shape.rank);
    out.dims[0] = x->shape.dims[0];
    out.dims[1] = n_out;
    if (!window_sizes(m, n, &w, false, out.dims + 2)) return false;
    window_store(n, &w);
    *shape = out;
    return true;
}

bool conv_infer(Module *m, Node *n) {
    Shape out;
    return check_conv_inputs(m, n) && conv_shape(m, n, n->in[1], &out) &&
           check_dim(m, n, 2, 0, out.dims[1], "output channels") &&
           infer_set(m, n, 0, n->in[0]->dtype, out);
}

/* The input channel that red channel c of output channel o reads; in_group and out_group are the
 * channels of one group. */
static const KExpr *input_channel(KCtx *k, int64_t group, const KExpr *o, const KExpr *out_group,
                                  const KExpr *in_group, const KExpr *c) {
    if (group == 1) return c;
    const KExpr *g = k_is_value(out_group, 1) ? o : k_fdiv(k, o, out_group);
    return k_is_value(in_group, 1) ? g : k_add(k, k_mul(k, g, in_group), c);
}

/* acc + bias[channel], rounded to the output's dtype. */
static void finish_with_bias(Def *d, Stage *s) {
    const KExpr *sum = def_acc(d, s);
    KTensor *bias = def_in(d, 2);
    if (bias) {
        const KExpr *channel = def_axis(d, s, 1);
        sum = k_add(d->k, sum, def_at_as(d, sum->dtype, bias, &channel, 1));
    }
    def_finish(d, s, k_cast(d->k, s->out->dtype, sum));
}

void conv_reads(Def *d, const Node *n, Stage *s, const KTensor *x, const KTensor *weights,
                ConvReads *r) {
    KCtx *k = d->k;
    Window w;
    window_load(n, x->rank - 2, &w);
    int64_t group = attr_int(n, "group", 1);
    const KExpr *o = def_axis(d, s, 1), *c = def_reduce_axis(d, s, "ic", weights->dims[1]);
    const KExpr *out_group = k_fdiv(k, weights->dims[0], k_int(k, group));
    r->inside = NULL;
    r->x[0] = def_axis(d, s, 0);
    r->x[1] = input_channel(k, group, o, out_group, weights->dims[1], c);
    r->w[0] = o;
    r->w[1] = k_is_value(weights->dims[1], 1) ? k_int(k, 0) : c;
    for (int i = 0; i < w.n; i++) {
        const KExpr *at = def_reduce_axis(d, s, "kx", weights->dims[2 + i]);
        const KExpr *from = k_mul(k, def_axis(d, s, 2 + i), k_int(k, w.stride[i]));
        from = k_sub(k, from, window_before(k, &w, i, x->dims[2 + i]));
        r->w[2 + i] = at;
        r->x[2 + i] = k_add(k, from, k_mul(k, at, k_int(k, w.dilation[i])));
        /* Rounding down keeps windows inside unless there is padding on that side. */
        if (w.pad[i] || w.same[i]) {
            const KExpr *low = k_le(k, k_int(k, 0), r->x[2 + i]);
            r->inside = r->inside ? k_and(k, r->inside, low) : low;
        }
        if (w.pad[w.n + i] || w.same[i]) {
            const KExpr *high = k_lt(k, r->x[2 + i], x->dims[2 + i]);
            r->inside = r->inside ? k_and(k, r->inside, high) : high;
        }
    }
}

void conv_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weights = def_in(d, 1);
    Stage *s = def_begin(d, FORM_CONTRACT, def_out(d, 0));
    ConvReads r;
    conv_reads(d, n, s, x, weights, &r);
    DType acc = acc_dtype(x->dtype);
    const KExpr *data = def_at_if(d, x, r.x, x->rank, r.inside);
    def_contract(d, s, acc, k_cast(k, acc, data), def_at_as(d, acc, weights, r.w, weights->rank));
    finish_with_bias(d, s);
}

/* ---- ConvTranspose --------------------------------------------------------------------------- */

/* Pads and output_padding of one axis whose full result has `surplus` elements too many: they are
 * cut from the ends (the larger half from the end under SAME_UPPER, else from the start); what it
 * lacks is appended. */
static void fit_output(Window *w, int i, int64_t surplus, bool upper, int64_t *extra) {
    int64_t cut = surplus > 0 ? surplus : 0;
    w->pad[i] = upper ? cut / 2 : cut - cut / 2;
    w->pad[w->n + i] = cut - w->pad[i];
    if (surplus < 0) *extra -= surplus;
}

/* The size of axis i that output_shape asks for; the full one is stride * (in - 1) + extra +
 * extent. */
static bool fit_wanted(Module *m, const Node *n, Window *w, int i, int64_t wanted, bool upper,
                       int64_t *extra) {
    int64_t in, full;
    if (!check_attr_int(m, n, "output_shape", wanted, 1, INT64_C(1) << 40)) return false;
    if (!shape_dim_int(n->in[0]->shape, 2 + i, &in)) {
        diag_unsupported(m->diag, n->loc,
                         "output_shape needs a constant size of axis %d; fix its symbolic dim "
                         "with --dim",
                         2 + i);
        return false;
    }
    if (__builtin_mul_overflow(w->stride[i], in - 1, &full) ||
        __builtin_add_overflow(full, *extra + window_extent(w, i), &full)) {
        diag_error(m->diag, n->loc, "the output's axis %d is too large", 2 + i);
        return false;
    }
    fit_output(w, i, full - wanted, upper, extra);
    return true;
}

/* Turns auto_pad and output_shape into pads and output_padding. SAME makes the output stride times
 * the input, whatever the input's size is. */
static bool resolve_output(Module *m, const Node *n, Window *w, int64_t *extra) {
    const char *how = attr_string(n, "auto_pad", "NOTSET");
    bool upper = !strcmp(how, "SAME_UPPER"), same = upper || !strcmp(how, "SAME_LOWER");
    bool valid = !strcmp(how, "VALID");
    if (!same && !valid && strcmp(how, "NOTSET") && *how) {
        diag_error(m->diag, n->loc,
                   "auto_pad is '%s'; NOTSET, VALID, SAME_UPPER and SAME_LOWER are accepted", how);
        return false;
    }
    if (valid) memset(w->pad, 0, sizeof w->pad);
    const int64_t *wanted;
    int count = attr_ints(n, "output_shape", &wanted);
    if (count == w->n + 2) { /* some exporters list batch and channels too */
        wanted += 2;
        count -= 2;
    }
    if (count && count != w->n) {
        diag_error(m->diag, n->loc, "output_shape has %d values, must have %d", count, w->n);
        return false;
    }
    for (int i = 0; i < w->n; i++) {
        if (count && !fit_wanted(m, n, w, i, wanted[i], upper, &extra[i])) return false;
        if (!count && same)
            fit_output(w, i, window_extent(w, i) + extra[i] - w->stride[i], upper, &extra[i]);
    }
    return true;
}

static bool read_output_padding(Module *m, const Node *n, const Window *w, int64_t *extra) {
    const int64_t *v;
    int count = attr_ints(n, "output_padding", &v);
    if (count && count != w->n) {
        diag_error(m->diag, n->loc, "output_padding has %d values, must have %d", count, w->n);
        return false;
    }
    for (int i = 0; i < w->n; i++) {
        extra[i] = count ? v[i] : 0;
        if (!check_attr_int(m, n, "output_padding", extra[i], 0, INT64_C(1) << 40)) return false;
    }
    return true;
}

static bool transpose_sizes(Module *m, const Node *n, const Window *w, const int64_t *extra,
                            const KExpr **dims) {
    KCtx *k = m->k;
    for (int i = 0; i < w->n; i++) {
        int64_t ends = extra[i] + window_extent(w, i) - w->pad[i] - w->pad[w->n + i], size;
        const KExpr *steps = k_sub(k, n->in[0]->shape.dims[2 + i], k_int(k, 1));
        dims[i] = k_add(k, k_mul(k, steps, k_int(k, w->stride[i])), k_int(k, ends));
        if (!k_is_int(dims[i], &size) || size >= 1) continue;
        diag_error(m->diag, n->loc,
                   "pads %lld and %lld of axis %d leave an output size of %lld, must be at least 1",
                   (long long)w->pad[i], (long long)w->pad[w->n + i], 2 + i, (long long)size);
        return false;
    }
    return true;
}

bool conv_transpose_infer(Module *m, Node *n) {
    KCtx *k = m->k;
    Window w;
    int64_t extra[MAX_RANK];
    if (!check_conv_inputs(m, n)) return false;
    const Value *x = n->in[0], *weights = n->in[1];
    int64_t group = attr_int(n, "group", 1);
    if (!check_group(m, n, group, weights->shape.dims[0], "input channels") ||
        !check_dim(m, n, 0, 1, weights->shape.dims[0], "the weights' dim 0"))
        return false;
    const KExpr *n_out = k_mul(k, weights->shape.dims[1], k_int(k, group));
    if (!check_dim(m, n, 2, 0, n_out, "output channels") ||
        !window_check(m, n, x->shape.rank - 2, weights, &w) ||
        !read_output_padding(m, n, &w, extra) || !resolve_output(m, n, &w, extra))
        return false;
    Shape out = shape_make(m->arena, x->shape.rank);
    out.dims[0] = x->shape.dims[0];
    out.dims[1] = n_out;
    if (!transpose_sizes(m, n, &w, extra, out.dims + 2)) return false;
    window_store(n, &w);
    node_set_ints(n, "output_padding", extra, w.n);
    if (node_attr(n, "output_shape")) node_drop_attr(n, "output_shape");
    return infer_set(m, n, 0, x->dtype, out);
}

static void transpose_gather(Def *d, const Node *n, const Window *given) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weights = def_in(d, 1);
    Window w = *given;
    Stage *s = def_begin(d, FORM_CONTRACT, def_out(d, 0));
    int64_t group = attr_int(n, "group", 1);
    const KExpr *xi[MAX_RANK], *wi[MAX_RANK], *pred = NULL;
    const KExpr *in_group = k_fdiv(k, weights->dims[0], k_int(k, group)),
                *out_group = weights->dims[1];
    const KExpr *o = def_axis(d, s, 1), *c = def_reduce_axis(d, s, "ic", in_group);
    xi[0] = def_axis(d, s, 0);
    xi[1] = wi[0] = input_channel(k, group, o, out_group, in_group, c);
    wi[1] = group == 1 ? o : k_is_value(out_group, 1) ? k_int(k, 0) : k_fmod(k, o, out_group);
    for (int i = 0; i < w.n; i++) {
        const KExpr *at = def_reduce_axis(d, s, "kx", weights->dims[2 + i]);
        const KExpr *stride = k_int(k, w.stride[i]);
        /* From the last tap to the first, so that what is read ascends. */
        at = k_sub(k, k_sub(k, weights->dims[2 + i], k_int(k, 1)), at);
        const KExpr *p = k_add(k, def_axis(d, s, 2 + i), k_int(k, w.pad[i]));
        p = k_sub(k, p, k_mul(k, at, k_int(k, w.dilation[i])));
        wi[2 + i] = at;
        xi[2 + i] = k_fdiv(k, p, stride);
        pred = k_and_inside(d, pred, xi[2 + i], x->dims[2 + i]);
        if (w.stride[i] > 1) pred = k_and(k, pred, k_eq(k, k_fmod(k, p, stride), k_int(k, 0)));
    }
    DType acc = acc_dtype(x->dtype);
    const KExpr *data = def_at_if(d, x, xi, x->rank, pred);
    def_contract(d, s, acc, k_cast(k, acc, data), def_at_as(d, acc, weights, wi, weights->rank));
    finish_with_bias(d, s);
}

/* (oh + pad) / stride of the first output along spatial axis i. */
static int64_t first_place(const Window *w, int i) {
    return w->pad[i] / w->stride[i];
}

/* With more phases than split_phases takes apart: with oh + pad = stride * q + r only the taps
 * r + stride * j reach the output, from x[q - j]. So the product is taken over (r, q) and j,
 * without a multiplication by a zero, and
 *   part[n, o, r.., q..] = sum x[n, ic, first + q - j..] * w[ic, o, r + stride * j..]
 *   out[n, o, oh..] = part[n, o, (oh + pad) mod stride.., (oh + pad) / stride - first..]
 * Taps beyond the kernel are zeros of the packed weights. */
static void transpose_phases(Def *d, const Node *n, const Window *w) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *weights = def_in(d, 1), *out = def_out(d, 0);
    const KExpr *dims[MAX_RANK], *xi[MAX_RANK], *wi[MAX_RANK], *pi[MAX_RANK], *x_in = NULL,
                                                                              *w_in = NULL;
    dims[0] = out->dims[0];
    dims[1] = out->dims[1];
    for (int i = 0; i < w->n; i++) {
        const KExpr *stride = k_int(k, w->stride[i]);
        dims[2 + i] = stride;
        const KExpr *last = k_add(k, out->dims[2 + i], k_int(k, w->pad[i] + w->stride[i] - 1));
        dims[2 + w->n + i] = k_sub(k, k_fdiv(k, last, stride), k_int(k, first_place(w, i)));
    }
    KTensor *part = def_temp(d, "phases", out->dtype, 2 + 2 * w->n, dims);
    Stage *s = def_begin(d, FORM_CONTRACT, part);
    int64_t group = attr_int(n, "group", 1);
    const KExpr *in_group = k_fdiv(k, weights->dims[0], k_int(k, group)),
                *out_group = weights->dims[1];
    const KExpr *o = def_axis(d, s, 1), *c = def_reduce_axis(d, s, "ic", in_group);
    xi[0] = def_axis(d, s, 0);
    xi[1] = wi[0] = input_channel(k, group, o, out_group, in_group, c);
    wi[1] = group == 1 ? o : k_is_value(out_group, 1) ? k_int(k, 0) : k_fmod(k, o, out_group);
    for (int i = 0; i < w->n; i++) {
        const KExpr *stride = k_int(k, w->stride[i]), *taps = weights->dims[2 + i];
        const KExpr *up = k_add(k, taps, k_int(k, w->stride[i] - 1));
        const KExpr *j = def_reduce_axis(d, s, "j", k_fdiv(k, up, stride));
        const KExpr *q = k_add(k, def_axis(d, s, 2 + w->n + i), k_int(k, first_place(w, i)));
        wi[2 + i] = k_add(k, def_axis(d, s, 2 + i), k_mul(k, j, stride));
        xi[2 + i] = k_sub(k, q, j);
        x_in = k_and_inside(d, x_in, xi[2 + i], x->dims[2 + i]);
        w_in = k_and_inside(d, w_in, wi[2 + i], taps);
    }
    DType acc = acc_dtype(x->dtype);
    const KExpr *data = def_at_if(d, x, xi, x->rank, x_in);
    def_contract(d, s, acc, k_cast(k, acc, data),
                 k_cast(k, acc, def_at_if(d, weights, wi, weights->rank, w_in)));
    finish_with_bias(d, s);
    Stage *m = def_begin(d, FORM_MAP, out);
    pi[0] = def_axis(d, m, 0);
    pi[1] = def_axis(d, m, 1);
    for (int i = 0; i < w->n; i++) {
        const KExpr *p = k_add(k, def_axis(d, m, 2 + i), k_int(k, w->pad[i])),
                    *stride = k_int(k, w->stride[i]);
        pi[2 + i] = k_fmod(k, p, stride);
        pi[2 + w->n + i] = k_sub(k, k_fdiv(k, p, stride), k_int(k, first_place(w, i)));
    }
    m->movement = true;
    def_map(d, m, def_at(d, part, pi, part->rank));
}

/* Does split_phases do better with the plain definition? Not with more phases than it makes, and
 * not where the channels fill no vector, so that lanes lie along rows and phases are what shares a
 * read, if not many have fewer taps than others: what these lack is multiplied by zeros. */
static bool wants_splitting(const Def *d, const Node *n, const KTensor *weights, const Window *w) {
    const double most = 1.5; /* products for each that counts */
    int64_t n_phases = 1, channels, taps;
    double all = 1;
    bool is_even = attr_int(n, "group", 1) == 1;
    for (int i = 0; i < w->n; i++) {
        if (w->dilation[i] > 1) return true;
        if (__builtin_mul_overflow(n_phases, w->stride[i], &n_phases)) return false;
        is_even &= k_is_int(weights->dims[2 + i], &taps) && taps > 0;
        if (!is_even) continue;
        int64_t each = (taps + w->stride[i] - 1) / w->stride[i];
        all *= (double)(each * w->stride[i]) / (double)taps;
    }
    is_even &= all <= most;
    bool is_narrow = k_is_int(weights->dims[1], &channels) &&
                     channels < target_lanes(d->m->target, dtype_bytes(weights->dtype));
    return n_phases <= MOST_PHASES && !(is_narrow && is_even && n_phases > 1);
}

void conv_transpose_lower(Def *d, const Node *n) {
    Window w;
    int rank = def_in(d, 0)->rank;
    window_load(n, rank - 2, &w);
    if (wants_splitting(d, n, def_in(d, 1), &w) || 2 + 2 * w.n > MAX_RANK)
        transpose_gather(d, n, &w);
    else
        transpose_phases(d, n, &w);
}
