/* QuantizeLinear and DequantizeLinear, per tensor, per axis and in blocks.
 *
 *   QuantizeLinear    y = saturate(rint(x / scale) + zero_point)
 *   DequantizeLinear  y = (x - zero_point) * scale
 *
 * with scale and zero_point read at: nothing (one value), index[axis], or the whole index with
 * index[axis] / block_size. The quotient is rounded to the type that x and scale share or that
 * `precision` names, the product runs in f32. A NaN quantizes to the lowest value, as vector code
 * of onnxruntime does; small floats keep it where they have one. x - zero_point is an i32
 * difference, exact for up to 16 bits. */
#include "ir/ops/check.h"

#define DTM_F8        (DTM(F8E4M3FN) | DTM(F8E4M3FNUZ) | DTM(F8E5M2) | DTM(F8E5M2FNUZ))
#define DTM_SMALL     (DTM(I2) | DTM(I4) | DTM(U2) | DTM(U4) | DTM(F4E2M1) | DTM(F6E2M3) | DTM(F6E3M2))
#define DTM_QUANTIZED (DTM_BYTES | DTM(I16) | DTM(U16) | DTM_F8 | DTM_SMALL)
#define DTM_SCALES    (DTM(F32) | DTM(F16) | DTM(BF16))

/* Scale's and zero point's shapes fit x: one element, one per index of axis, or blocks along axis.
 */
static bool check_scale_shape(Module *m, const Node *n) {
    Shape x = n->in[0]->shape, s = n->in[1]->shape;
    int64_t block = attr_int(n, "block_size", 0), count, dim;
    int axis;
    if (!check_attr_int(m, n, "block_size", block, 0, INT64_C(1) << 40)) return false;
    if (has_in(n, 2)) {
        Shape z = n->in[2]->shape;
        bool same = z.rank == s.rank;
        int64_t a, b;
        for (int i = 0; same && i < s.rank; i++)
            same = !shape_dim_int(s, i, &a) || !shape_dim_int(z, i, &b) || a == b;
        if (!same && !(shape_count_int(s, &a) && shape_count_int(z, &b) && a == 1 && b == 1)) {
            diag_error(m->diag, n->loc, "zero point has shape %s, must be %s like the scale",
                       shape_text(m->scratch, z), shape_text(m->scratch, s));
            return false;
        }
    }
    if (!block && shape_count_int(s, &count) && count == 1 && s.rank <= 1) return true;
    if (!infer_axis(m, n, attr_int(n, "axis", 1), x.rank, &axis)) return false;
    if (!block) return infer_rank(m, n, 1, 1, 1) && check_dim(m, n, 1, 0, x.dims[axis], "x's axis");
    if (!infer_rank(m, n, 1, x.rank, x.rank)) return false;
    for (int i = 0; i < x.rank; i++) {
        const KExpr *want = i != axis ? x.dims[i] : k_ceil_div(m->k, x.dims[i], block);
        if (i == axis && shape_dim_int(s, i, &dim) && shape_dim_int(x, i, &count) && dim > 0 &&
            (count + dim - 1) / dim <= block && (dim == count || count > (dim - 1) * block))
            continue;
        if (!check_dim(m, n, 1, i, want, "blocks of x")) return false;
    }
    return true;
}

/* scale or zero point for element idx of x. */
static const KExpr *parameter(Def *d, KTensor *t, const KTensor *x, const KExpr *const *idx) {
    KCtx *k = d->k;
    const Node *n = d->node;
    int64_t block = attr_int(n, "block_size", 0);
    const KExpr *at[MAX_RANK] = {0};
    bool single = !block && t->rank <= 1 && (t->rank == 0 || k_is_value(t->dims[0], 1));
    if (single) return lower_scalar(d, t);
    int axis = shape_axis(attr_int(n, "axis", 1), x->rank);
    if (!block) return def_at(d, t, &idx[axis], 1);
    for (int i = 0; i < x->rank; i++)
        at[i] = i == axis ? k_fdiv(k, idx[i], k_int(k, block)) : idx[i];
    return def_at(d, t, at, x->rank);
}

/* ---- QuantizeLinear -------------------------------------------------------------------------- */

/* The output's dtype: the zero point's, else output_dtype's, else u8. */
static bool quantized_dtype(Module *m, const Node *n, DType *t) {
    int64_t wanted = attr_int(n, "output_dtype", 0);
    DType named = wanted ? dtype_from_onnx(wanted) : DT_NONE;
    *t = has_in(n, 2) ? n->in[2]->dtype : wanted ? named : DT_U8;
    if (wanted && has_in(n, 2) && named != *t) {
        diag_error(m->diag, n->loc, "output_dtype is %lld but the zero point is %s",
                   (long long)wanted, dtype_info[*t].name);
        return false;
    }
    if (DTM_QUANTIZED >> *t & 1 && *t != DT_NONE) return true;
    diag_unsupported(m->diag, n->loc,
                     "quantizing to ONNX type %lld is not supported; integers of up to 16 bits and "
                     "floats of up to 8 are",
                     (long long)(*t == DT_NONE ? wanted : dtype_info[*t].onnx));
    return false;
}

static bool check_precision(Module *m, const Node *n) {
    int64_t wanted = attr_int(n, "precision", 0);
    DType t = dtype_from_onnx(wanted);
    if (!wanted || (t != DT_NONE && (DTM_SCALES | DTM(F64)) >> t & 1)) return true;
    diag_error(m->diag, n->loc,
               "precision is %lld; f32 (1), f16 (10), f64 (11) and bf16 (16) are accepted",
               (long long)wanted);
    return false;
}

/* The dtype that x / scale is rounded to: what `precision` says, else what x and scale share. */
static DType division_dtype(const Node *n, DType x, DType scale) {
    int64_t wanted = attr_int(n, "precision", 0);
    if (wanted) return dtype_from_onnx(wanted);
    if (x == DT_I32 && scale == DT_I32) return DT_F64;
    return x == scale ? x : DT_F32;
}

bool quantize_infer(Module *m, Node *n) {
    DType t;
    return check_dtype(m, n, 0, DTM_SCALES | DTM(I32)) &&
           check_dtype(m, n, 1, DTM_SCALES | DTM(I32) | DTM(F8E8M0)) &&
           quantized_dtype(m, n, &t) && check_precision(m, n) &&
           check_scale_shape(m, n) && infer_set(m, n, 0, t, n->in[0]->shape);
}

/* a / b as t has it. */
static const KExpr *divide(KCtx *k, DType t, const KExpr *a, const KExpr *b) {
    DType in = compute_dtype(t);
    const KExpr *q = k_div(k, k_cast(k, in, k_cast(k, t, a)), k_cast(k, in, k_cast(k, t, b)));
    return k_cast(k, in, k_cast(k, t, q));
}

void quantize_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *scale = def_in(d, 1), *zero = def_in(d, 2), *y = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, y);
    const KExpr *idx[MAX_RANK];
    lower_axes(d, s, idx);
    DType t = division_dtype(n, x->dtype, scale->dtype);
    const KExpr *e = divide(k, t, def_at(d, x, idx, x->rank), parameter(d, scale, x, idx));
    bool is_f8 = DTM_F8 >> y->dtype & 1; /* their zero point is always 0; adding it would lose -0 */
    if (!dtype_is_code(y->dtype)) e = k_rint(k, e);
    if (zero && !is_f8) e = k_add(k, e, k_cast(k, e->dtype, parameter(d, zero, x, idx)));
    if (dtype_is_code(y->dtype)) {
        def_map(d, s, lower_cast(d, y->dtype, e, attr_int(n, "saturate", 1) || !is_f8, "up"));
        return;
    }
    def_map(d, s, lower_quantized(d, y->dtype, e));
}

/* ---- DequantizeLinear ------------------------------------------------------------------------ */

bool dequantize_infer(Module *m, Node *n) {
    if (!check_dtype(m, n, 0, DTM_QUANTIZED | DTM(I32)) ||
        !check_dtype(m, n, 1, DTM_SCALES | DTM(F8E8M0)) || !check_same_dtype(m, n, 2, 0) ||
        !check_scale_shape(m, n))
        return false;
    int64_t wanted = attr_int(n, "output_dtype", 0);
    DType t = wanted ? dtype_from_onnx(wanted) : n->in[1]->dtype;
    if (!wanted && t == DT_F8E8M0) t = DT_F32;
    if (!(DTM_SCALES >> t & 1) || t == DT_NONE) {
        diag_error(m->diag, n->loc,
                   "output_dtype is %lld; f32 (1), f16 (10) and bf16 (16) are accepted",
                   (long long)wanted);
        return false;
    }
    return infer_set(m, n, 0, t, n->in[0]->shape);
}

void dequantize_lower(Def *d, const Node *n) {
    (void)n;
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *scale = def_in(d, 1), *zero = def_in(d, 2), *y = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, y);
    const KExpr *idx[MAX_RANK];
    lower_axes(d, s, idx);
    DType t = dtype_is_code(x->dtype) ? DT_F32 : DT_I32;
    const KExpr *e = def_at_as(d, t, x, idx, x->rank);
    if (zero) e = k_sub(k, e, k_cast(k, t, parameter(d, zero, x, idx)));
    e = k_mul(k, k_cast(k, DT_F32, e), k_cast(k, DT_F32, parameter(d, scale, x, idx)));
    def_map(d, s, k_cast(k, y->dtype, e));
}
