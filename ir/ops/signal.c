/* Tables of signal processing: HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.
 *
 *   windows   w[i] = a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n), n the size, or one less where
 *             the window is symmetric (periodic = 0)
 *   mel       [spectrogram bin, mel bin]: triangles over bins, equally spaced in mel
 *
 * All are maps in f64, rounded once to the output's type: mostly the sizes are constants, and then
 * the result is one as well. */
#include "ir/ops/check.h"

static const double pi = 3.14159265358979323846;

static const KExpr *f64(KCtx *k, double v) {
    return k_const_f(k, DT_F64, v);
}

/* The type that attribute output_datatype asks for. */
static bool output_type(Module *m, const Node *n, DType *t) {
    *t = node_attr(n, "output_datatype") ? dtype_from_onnx(attr_int(n, "output_datatype", 0))
                                         : DT_F32;
    if (dtype_is_float(*t) || dtype_is_int(*t)) return true;
    diag_error(m->diag, n->loc, "output_datatype %lld is not the number of a numeric type",
               (long long)attr_int(n, "output_datatype", 0));
    return false;
}

/* A size: never negative. */
static bool read_size(Module *m, const Node *n, int i, const char *what, const KExpr **size) {
    int64_t value;
    if (!infer_expr(m, n, i, size)) return false;
    if (!k_is_int(*size, &value)) {
        infer_rule(m, n, k_le(m->k, k_int(m->k, 0), *size));
        if ((*size)->lo < 0) *size = k_max(m->k, *size, k_int(m->k, 0));
        return true;
    }
    if (value >= 0 && value <= INT32_MAX) return true;
    diag_error(m->diag, n->loc, "%s is %lld, must be 0 to %d", what, (long long)value, INT32_MAX);
    return false;
}

/* ---- windows --------------------------------------------------------------------------------- */

bool cosine_window_infer(Module *m, Node *n) {
    DType t;
    Shape out = shape_make(m->arena, 1);
    return output_type(m, n, &t) && read_size(m, n, 0, "size", &out.dims[0]) &&
           infer_set(m, n, 0, t, out);
}

/* cos(2 pi turns i / steps) */
static const KExpr *wave(KCtx *k, double turns, const KExpr *i, const KExpr *steps) {
    return k_unary(k, KO_cos, k_div(k, k_mul(k, i, f64(k, 2 * pi * turns)), steps));
}

void cosine_window_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    bool is_blackman = n->op == OP_BlackmanWindow, is_hamming = n->op == OP_HammingWindow;
    double a0 = is_blackman ? 0.42 : is_hamming ? 25.0 / 46.0 : 0.5;
    double a1 = is_blackman ? 0.5 : 1 - a0;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *i = k_cast(k, DT_F64, def_axis(d, s, 0)), *steps = out->dims[0];
    if (!attr_int(n, "periodic", 1)) steps = k_sub(k, steps, k_int(k, 1));
    steps = k_cast(k, DT_F64, steps);
    const KExpr *e = k_sub(k, f64(k, a0), k_mul(k, f64(k, a1), wave(k, 1, i, steps)));
    if (is_blackman) e = k_add(k, e, k_mul(k, f64(k, 0.08), wave(k, 2, i, steps)));
    def_map(d, s, k_cast(k, out->dtype, e));
}

/* ---- MelWeightMatrix ------------------------------------------------------------------------- */

bool mel_weight_matrix_infer(Module *m, Node *n) {
    DType t;
    const KExpr *bins, *length;
    if (!output_type(m, n, &t) || !read_size(m, n, 0, "num_mel_bins", &bins) ||
        !read_size(m, n, 1, "dft_length", &length) || !infer_index_dtype(m, n, 2))
        return false;
    for (int i = 2; i < 5; i++)
        if (!infer_is_scalar(m, n, i)) return false;
    if (!infer_dtype(m, n, 3, CLASS_FLOAT) || !infer_dtype(m, n, 4, CLASS_FLOAT)) return false;
    Shape out = shape_make(m->arena, 2);
    out.dims[0] = k_add(m->k, k_fdiv(m->k, length, k_int(m->k, 2)), k_int(m->k, 1));
    out.dims[1] = bins;
    return infer_set(m, n, 0, t, out);
}

/* mel = 2595 log10(1 + hertz / 700) */
static const KExpr *mel_of(KCtx *k, const KExpr *hertz) {
    const KExpr *e = k_unary(k, KO_log1p, k_div(k, hertz, f64(k, 700)));
    return k_div(k, k_mul(k, f64(k, 2595), e), f64(k, 2.30258509299404568402));
}

static const KExpr *hertz_of(KCtx *k, const KExpr *mel) {
    const KExpr *e = k_mul(k, k_div(k, mel, f64(k, 2595)), f64(k, 2.30258509299404568402));
    return k_mul(k, f64(k, 700), k_unary(k, KO_expm1, e));
}

/* Spectrogram bin (a whole f64) of mel point i. */
static const KExpr *mel_bin(Def *d, const KExpr *i, const KExpr *low, const KExpr *step) {
    KCtx *k = d->k;
    const KExpr *length = k_cast(k, DT_F64, lower_scalar(d, def_in(d, 1)));
    const KExpr *rate = k_cast(k, DT_F64, lower_scalar(d, def_in(d, 2)));
    const KExpr *hertz = hertz_of(k, k_add(k, k_mul(k, i, step), low));
    return k_floor(k, k_div(k, k_mul(k, k_add(k, length, f64(k, 1)), hertz), rate));
}

void mel_weight_matrix_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    const KExpr *two = f64(k, 2), *zero = f64(k, 0), *point[3];
    const KExpr *low = mel_of(k, k_cast(k, DT_F64, lower_scalar(d, def_in(d, 3))));
    const KExpr *high = mel_of(k, k_cast(k, DT_F64, lower_scalar(d, def_in(d, 4))));
    const KExpr *points = k_add(k, k_cast(k, DT_F64, out->dims[1]), two);
    const KExpr *step = k_div(k, k_sub(k, high, low), points);
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *bin = k_cast(k, DT_F64, def_axis(d, s, 0));
    for (int i = 0; i < 3; i++)
        point[i] = mel_bin(d, k_add(k, k_cast(k, DT_F64, def_axis(d, s, 1)), f64(k, i)), low, step);
    const KExpr *rise = k_sub(k, point[1], point[0]), *fall = k_sub(k, point[2], point[1]);
    const KExpr *rises = k_and(k, k_le(k, point[0], bin), k_le(k, bin, point[1]));
    const KExpr *falls = k_and(k, k_le(k, point[1], bin), k_lt(k, bin, point[2]));
    const KExpr *is_peak = k_and(k, k_eq(k, rise, zero), k_eq(k, bin, point[1]));
    const KExpr *up = k_select(k, rises, k_div(k, k_sub(k, bin, point[0]), rise), zero);
    up = k_select(k, k_eq(k, rise, zero), k_select(k, is_peak, f64(k, 1), zero), up);
    const KExpr *down = k_div(k, k_sub(k, point[2], bin), fall);
    def_map(d, s, k_cast(k, out->dtype, k_select(k, falls, down, up)));
}
