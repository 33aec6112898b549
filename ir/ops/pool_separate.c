/* Pools over large windows that overlap, one axis after the other:
 *
 *   rows[n, c, p, w]  = fold over ky of x[n, c, p * stride - pad + ky, w - pad]
 *   y[n, c, p, q]     = fold over kx of rows[n, c, p, q * stride + kx]
 *
 * with w as far as windows reach.
 *
 * A window of 5 x 5 is 10 steps instead of 25. What lies outside of x is put into the first tensor,
 * so the others ask no conditions. Sums are added in another order than window by window; maxima
 * are the same. */
#include "ir/ops/pool_separate.h"

#include "ir/ops/check.h"

enum { LEAST_TAPS = 16 };

/* How far windows reach along spatial axis i, from the first one's start. */
static const KExpr *reach(KCtx *k, const Window *w, int i, const KExpr *n_out) {
    const KExpr *last = k_mul(k, k_sub(k, n_out, k_int(k, 1)), k_int(k, w->stride[i]));
    return k_max(k, k_add(k, last, k_int(k, window_extent(w, i))), k_int(k, 0));
}

bool pool_separates(const WindowFold *f, const KTensor *out) {
    const Window *w = f->w;
    double whole = 1, stages = 0, taps = 1;
    for (int i = 0; i < w->n; i++) taps *= (double)w->kernel[i];
    if (w->n < 2 || taps < LEAST_TAPS) return false;
    for (int i = 0; i < w->n; i++) { /* steps by element of the result */
        double here = (double)w->kernel[i];
        int64_t n;
        for (int j = i + 1; j < w->n; j++) {
            bool known = k_is_int(out->dims[2 + j], &n) && n > 0;
            here *= known ? ((double)(n - 1) * (double)w->stride[j] + (double)window_extent(w, j)) /
                                (double)n
                          : (double)w->stride[j];
        }
        whole *= (double)w->kernel[i];
        stages += here;
    }
    return stages * 1.5 < whole;
}

/* Index into the tensor that the stage of axis i reads; the condition for it to lie in x. */
static const KExpr *read_index(Def *d, const Stage *s, const WindowFold *f, int i, const KExpr *tap,
                               const KExpr **at) {
    KCtx *k = d->k;
    const Window *w = f->w;
    const KExpr *pred = NULL;
    for (int j = 0; j < f->x->rank; j++) at[j] = def_axis(d, s, j);
    at[2 + i] = k_add(k, k_mul(k, at[2 + i], k_int(k, w->stride[i])),
                      k_mul(k, tap, k_int(k, w->dilation[i])));
    if (i) return NULL;
    for (int j = 0; j < w->n; j++) {
        const KExpr *size = f->x->dims[2 + j];
        at[2 + j] = k_sub(k, at[2 + j], window_before(k, w, j, size));
        if (window_is_padded(w, j) || f->ceil_mode) pred = k_and_inside(d, pred, at[2 + j], size);
    }
    return pred;
}

Stage *pool_open_separate(Def *d, const WindowFold *f, KTensor *out) {
    KCtx *k = d->k;
    const Window *w = f->w;
    KTensor *from = f->x;
    for (int i = 0;; i++) {
        const KExpr *dims[MAX_RANK], *at[MAX_RANK];
        for (int j = 0; j < out->rank; j++)
            dims[j] = j <= 2 + i ? out->dims[j] : reach(k, w, j - 2, out->dims[j]);
        bool is_last = i == w->n - 1;
        KTensor *to = is_last ? out : def_temp(d, "windows", f->acc, out->rank, dims);
        Stage *s = def_begin(d, FORM_REDUCE, to);
        const KExpr *tap = def_reduce_axis(d, s, "kx", k_int(k, w->kernel[i]));
        const KExpr *pred = read_index(d, s, f, i, tap, at);
        const KExpr *element = k_cast(k, f->acc, def_at_if(d, from, at, from->rank, pred));
        if (pred) element = k_select(k, pred, element, f->init);
        def_reduce(d, s, f->op, f->acc, f->init, element);
        if (is_last) return s;
        from = to;
    }
}
