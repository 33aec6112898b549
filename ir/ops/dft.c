/* DFT and STFT: their shapes; dft_stages.c has the transform itself.
 *
 *   STFT   frames[b, f, t] = signal[b, f * step + t] * window[t], a map, then a DFT along t */
#include "ir/ops/dft.h"

#include "ir/ops/check.h"

/* The last dim of a signal says whether it is real (1) or complex (2). */
static bool check_parts(Module *m, const Node *n) {
    Shape x = n->in[0]->shape;
    int64_t parts;
    if (!shape_dim_int(x, x.rank - 1, &parts)) {
        diag_unsupported(m->diag, n->loc,
                         "the last dim of input 0 is symbolic; it must be 1 or 2 at compile time");
        return false;
    }
    if (parts == 1 || parts == 2) return true;
    diag_error(m->diag, n->loc, "the last dim of input 0 is %lld, must be 1 or 2",
               (long long)parts);
    return false;
}

/* A length that is given: at least 1. */
static bool check_length(Module *m, const Node *n, const char *what, const KExpr **length) {
    int64_t value;
    if (!k_is_int(*length, &value)) {
        infer_rule(m, n, k_le(m->k, k_int(m->k, 1), *length));
        if ((*length)->lo < 1) *length = k_max(m->k, *length, k_int(m->k, 1));
        return true;
    }
    if (value >= 1 && value <= INT32_MAX) return true;
    diag_error(m->diag, n->loc, "%s is %lld, must be 1 to %d", what, (long long)value, INT32_MAX);
    return false;
}

/* ---- DFT ------------------------------------------------------------------------------------- */

static bool read_axis(Module *m, const Node *n, const KExpr **axis) {
    int rank = n->in[0]->shape.rank, found;
    int64_t value;
    KCtx *k = m->k;
    *axis = k_int(k, -2);
    if (has_in(n, 2) && !infer_expr(m, n, 2, axis)) return false;
    if (!k_is_int(*axis, &value)) {
        const KExpr *end = k_add(k, *axis, k_int(k, rank)), *zero = k_int(k, 0);
        *axis = k_select(k, k_lt(k, *axis, zero), end, *axis);
        infer_rule(m, n, k_and(k, k_le(k, zero, *axis), k_lt(k, *axis, k_int(k, rank - 1))));
        *axis = k_max(k, k_min(k, *axis, k_int(k, rank - 2)), zero);
        return true;
    }
    if (!infer_axis(m, n, value, rank, &found)) return false;
    *axis = k_int(k, found);
    if (found < rank - 1) return true;
    diag_error(m->diag, n->loc, "axis %lld is that of the real and imaginary parts",
               (long long)value);
    return false;
}

/* Axis, length and flags; the tensors are left to the caller. */
static bool read_dft(Module *m, const Node *n, Dft *f) {
    KCtx *k = m->k;
    Shape x = n->in[0]->shape;
    *f = (Dft){.inverse = attr_int(n, "inverse", 0) != 0,
               .onesided = attr_int(n, "onesided", 0) != 0};
    if (!read_axis(m, n, &f->axis)) return false;
    if (has_in(n, 1)) {
        if (!infer_expr(m, n, 1, &f->length)) return false;
    } else {
        f->length = x.dims[0];
        for (int i = 1; i < x.rank - 1; i++)
            f->length = k_select(k, k_eq(k, f->axis, k_int(k, i)), x.dims[i], f->length);
        if (f->inverse && f->onesided)
            f->length = k_mul(k, k_sub(k, f->length, k_int(k, 1)), k_int(k, 2));
    }
    return check_length(m, n, "the length", &f->length);
}

bool dft_infer(Module *m, Node *n) {
    KCtx *k = m->k;
    Dft f;
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 2, MAX_RANK) ||
        !check_parts(m, n) || !read_dft(m, n, &f))
        return false;
    Shape x = n->in[0]->shape, out = shape_make(m->arena, x.rank);
    const KExpr *bins = f.length;
    if (f.onesided && !f.inverse) bins = k_add(k, k_fdiv(k, bins, k_int(k, 2)), k_int(k, 1));
    for (int i = 0; i < x.rank - 1; i++)
        out.dims[i] = k_select(k, k_eq(k, f.axis, k_int(k, i)), bins, x.dims[i]);
    out.dims[x.rank - 1] = k_int(k, f.onesided && f.inverse ? 1 : 2);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void dft_lower(Def *d, const Node *n) {
    Dft f;
    BUG_IF(!read_dft(d->m, n, &f), "sizes changed since infer");
    f.x = def_in(d, 0);
    f.out = def_out(d, 0);
    lower_dft(d, &f);
}

/* ---- STFT ------------------------------------------------------------------------------------ */

static bool read_frames(Module *m, const Node *n, const KExpr **step, const KExpr **length) {
    if (!infer_expr(m, n, 1, step) || !check_length(m, n, "frame_step", step)) return false;
    if (has_in(n, 3)) {
        if (!infer_expr(m, n, 3, length)) return false;
    } else {
        *length = has_in(n, 2) ? n->in[2]->shape.dims[0] : n->in[0]->shape.dims[1];
    }
    return check_length(m, n, "frame_length", length);
}

bool stft_infer(Module *m, Node *n) {
    KCtx *k = m->k;
    const KExpr *step, *length;
    if (!check_dtype(m, n, 0, DTM_FLOATS) || !infer_rank(m, n, 0, 3, 3) || !check_parts(m, n))
        return false;
    if (has_in(n, 2) && (!check_same_dtype(m, n, 2, 0) || !infer_rank(m, n, 2, 1, 1))) return false;
    if (!read_frames(m, n, &step, &length) || !check_dim(m, n, 2, 0, length, "length of a frame"))
        return false;
    Shape x = n->in[0]->shape, out = shape_make(m->arena, 4);
    out.dims[0] = x.dims[0];
    out.dims[1] = k_add(k, k_fdiv(k, k_sub(k, x.dims[1], length), step), k_int(k, 1));
    out.dims[2] =
        attr_int(n, "onesided", 1) ? k_add(k, k_fdiv(k, length, k_int(k, 2)), k_int(k, 1)) : length;
    out.dims[3] = k_int(k, 2);
    return infer_set(m, n, 0, n->in[0]->dtype, out);
}

void stft_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    const KExpr *step, *length;
    BUG_IF(!read_frames(d->m, n, &step, &length), "sizes changed since infer");
    KTensor *x = def_in(d, 0), *window = def_in(d, 2), *out = def_out(d, 0);
    DType t = compute_dtype(x->dtype);
    const KExpr *dims[4] = {out->dims[0], out->dims[1], length, x->dims[2]};
    KTensor *frames = def_temp(d, "frames", t, 4, dims);
    Stage *s = def_begin(d, FORM_MAP, frames);
    const KExpr *at = def_axis(d, s, 2);
    const KExpr *from[3] = {def_axis(d, s, 0), k_add(k, k_mul(k, def_axis(d, s, 1), step), at),
                            def_axis(d, s, 3)};
    const KExpr *e = def_at_as(d, t, x, from, 3);
    if (window) e = k_mul(k, e, def_at_as(d, t, window, &at, 1));
    def_map(d, s, e);
    Dft f = {.x = frames, .out = out, .axis = k_int(k, 2), .length = length};
    lower_dft(d, &f);
}
