/* Importers of com.microsoft's quantized operators.
 *
 * Operators whose inputs and output are quantized are the float operator between DequantizeLinear
 * and QuantizeLinear: what ONNX Runtime computes, through tables or fixed point, up to the rounding
 * of the last step. Integer matrix products are exact:
 *
 *     MatMulIntegerToFloat    (MatMul(i32(a - za), i32(b - zb)) * (sa * sb)) + bias
 *     DynamicQuantizeMatMul   the same after DynamicQuantizeLinear of a
 *
 * Weights of 2, 4 and 8 bits (MatMulNBits, GatherBlockQuantized) stay packed in the library where
 * that is smaller: unpacking is arithmetic on their bytes,
 *
 *     byte[n, i, 1] >> shift[bits apart] & mask -> [n, values]
 *     (value - zero[n, group, 1]) * scale[n, group, 1]
 *
 * which is fused into whatever reads the weight. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/microsoft.h"

/* ---- float operators between quantized tensors ----------------------------------------------- */

static Value *dequantize(Call *c, Value *x, Value *scale, Value *zero) {
    return call_op(c, OP_DequantizeLinear, zero ? 3 : 2, x, scale, zero);
}

/* Inputs at, at + 1 and at + 2: values, scale, zero point or nothing. */
static Value *dequantized(Call *c, int at) {
    return dequantize(c, call_in(c, at), call_in(c, at + 1), call_in(c, at + 2));
}

/* The result as v in steps of the scale; without a zero point it has x's type and zero 0. */
static bool quantized_result(Call *c, Value *v, Value *scale, Value *zero, const Value *x) {
    Value *y = call_op(c, OP_QuantizeLinear, zero ? 3 : 2, v, scale, zero);
    if (!zero && x->dtype != DT_NONE) {
        node_set_int(y->def, "output_dtype", dtype_info[x->dtype].onnx);
        y->dtype = x->dtype;
    }
    return call_result(c, y);
}

static bool quantized(Call *c, Value *v, int at) {
    return quantized_result(c, v, call_in(c, at), call_in(c, at + 1), c->in[0]);
}

bool import_ms_qlinear_add(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, 4, 6, -1})) return false;
    return quantized(c, build_add(c, dequantized(c, 0), dequantized(c, 3)), 6);
}

bool import_ms_qlinear_mul(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, 4, 6, -1})) return false;
    return quantized(c, build_mul(c, dequantized(c, 0), dequantized(c, 3)), 6);
}

bool import_ms_qlinear_sigmoid(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    return quantized(c, call_op(c, OP_Sigmoid, 1, dequantized(c, 0)), 3);
}

bool import_ms_qlinear_leaky_relu(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    Value *y = call_op(c, OP_LeakyRelu, 1, dequantized(c, 0));
    node_set_float(y->def, "alpha", call_float(c, "alpha", 0.01));
    return quantized(c, y, 3);
}

/* condition, x with scale and zero, y with scale and zero, scale and zero of the result */
bool import_ms_qlinear_where(Call *c) {
    Value *v = build_where(c, c->in[0], dequantized(c, 1), dequantized(c, 4));
    return quantized_result(c, v, c->in[7], c->in[8], c->in[1]);
}

/* scale and zero of the result, then three inputs for each part */
bool import_ms_qlinear_concat(Call *c) {
    int n = (c->n_in - 2) / 3;
    if (n < 1 || c->n_in != 2 + 3 * n) {
        diag_error(c->im->d, c->loc, "has %d inputs, but takes 2 and then 3 for each part",
                   c->n_in);
        return false;
    }
    Value **part = arena_array(c->im->arena, Value *, n);
    for (int i = 0; i < n; i++) {
        if (!call_in(c, 2 + 3 * i) || !call_in(c, 3 + 3 * i)) {
            diag_error(c->im->d, c->loc, "part %d or its scale is left out", i);
            return false;
        }
        part[i] = dequantized(c, 2 + 3 * i);
    }
    Node *k = call_node(c, OP_Concat, part, n, 1);
    node_set_int(k, "axis", call_int(c, "axis", 0));
    return quantized_result(c, k->out[0], c->in[0], c->in[1], c->in[2]);
}

bool import_ms_qlinear_reduce_mean(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    Value *axes = call_ints_input(c, "axes");
    Value *y = call_op(c, OP_ReduceMean, axes ? 2 : 1, dequantized(c, 0), axes);
    node_set_int(y->def, "keepdims", call_int(c, "keepdims", 1));
    return quantized(c, y, 3);
}

/* Before opset 13 the axes from `axis` on were one. */
bool import_ms_qlinear_softmax(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    Value *x = dequantized(c, 0), *y;
    int64_t opset = call_int(c, "opset", 13), axis = call_int(c, "axis", opset < 13 ? 1 : -1);
    if (opset >= 13) {
        y = build_softmax(c, x, axis);
    } else {
        Value *flat = call_op(c, OP_Flatten, 1, x);
        node_set_int(flat->def, "axis", axis);
        y = build_reshape_as(c, build_softmax(c, flat, -1), call_op(c, OP_Shape, 1, x));
    }
    return quantized(c, y, 3);
}

bool import_ms_qlinear_average_pool(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    const int64_t *kernel;
    int rank = call_ints(c, "kernel_shape", &kernel) + 2;
    bool last = call_int(c, "channels_last", 0) != 0;
    if (rank > MAX_RANK) {
        diag_error(c->im->d, c->loc, "kernel_shape has too many entries");
        return false;
    }
    Value *x = dequantized(c, 0);
    if (last) x = ms_channels_first(c, x, rank);
    Node *pool = call_node(c, OP_AveragePool, &x, 1, 1);
    if (!call_copy_attrs(c, pool, "channels_last")) return false;
    return quantized(c, last ? ms_channels_last(c, pool->out[0], rank) : pool->out[0], 3);
}

bool import_ms_qlinear_global_average_pool(Call *c) {
    if (!build_needs(c, (int[]){0, 1, 3, -1})) return false;
    Value *x = dequantized(c, 0);
    if (!call_int(c, "channels_last", 0))
        return quantized(c, call_op(c, OP_GlobalAveragePool, 1, x), 3);
    int64_t axes[MAX_RANK];
    int rank = build_rank(c, c->in[0], "input 0"), n = 0;
    if (rank < 0) return false;
    for (int i = 1; i + 1 < rank; i++) axes[n++] = i;
    return quantized(c, build_reduce(c, OP_ReduceMean, x, axes, n), 3);
}

/* QLinearConv with channels_last; weights as ONNX has them. */
bool import_ms_qlinear_conv(Call *c) {
    if (!call_int(c, "channels_last", 0))
        return build_same(c, OP_QLinearConv, c->in, c->n_in, "channels_last");
    int rank = build_rank(c, c->in[3], "the weights");
    if (rank < 0) return false;
    if (rank < 3) {
        diag_error(c->im->d, c->loc, "the weights have rank %d, but must have at least 3", rank);
        return false;
    }
    Value **in = arena_copy(c->im->arena, c->in, sizeof *in * (size_t)c->n_in);
    in[0] = ms_channels_first(c, in[0], rank);
    Node *conv = call_node(c, OP_QLinearConv, in, c->n_in, 1);
    if (!call_copy_attrs(c, conv, "channels_last")) return false;
    return call_result(c, ms_channels_last(c, conv->out[0], rank));
}

/* ---- integer matrix products ----------------------------------------------------------------- */

/* v - zero in 32 bits */
static Value *centred(Call *c, Value *v, Value *zero) {
    Value *wide = call_cast(c, v, DT_I32);
    return zero ? build_sub(c, wide, call_cast(c, zero, DT_I32)) : wide;
}

/* A zero point or scale for each row of the left operand stands in a column. */
static bool as_column(Call *c, Value **v, const char *what) {
    if (!*v) return true;
    const Shape *s = build_shape(c, *v, what);
    int64_t n;
    if (!s) return false;
    if (s->rank == 1 && !(shape_count_int(*s, &n) && n == 1)) *v = build_unsqueeze(c, *v, 1);
    return true;
}

Value *ms_integer_product(Call *c, Value *a, Value *za, Value *sa, Value *b, Value *zb, Value *sb,
                          Value *bias) {
    Value *sum = call_op(c, OP_MatMul, 2, centred(c, a, za), centred(c, b, zb));
    DType t = call_float_type(sa);
    Value *y = build_mul(c, call_cast(c, sum, t), build_mul(c, sa, sb));
    return build_add_optional(c, y, bias);
}

/* a, b, scales of a and b, zero points of a and b, bias */
bool import_ms_matmul_integer_to_float(Call *c) {
    Value *sa = c->in[2], *za = call_in(c, 4);
    if (!as_column(c, &sa, "the scale of a") || !as_column(c, &za, "the zero point of a"))
        return false;
    return call_result(c, ms_integer_product(c, c->in[0], za, sa, c->in[1], call_in(c, 5), c->in[3],
                                             call_in(c, 6)));
}

/* a, b, scale and zero point of b, bias */
bool import_ms_dynamic_quantize_matmul(Call *c) {
    Value *y[3];
    build_dynamic_quantize(c, c->in[0], y);
    return call_result(c, ms_integer_product(c, y[0], y[2], y[1], c->in[1], call_in(c, 3), c->in[2],
                                             call_in(c, 4)));
}

/* a, scale, zero, b, scale, zero, c (in steps of alpha * sa * sb), scale and zero of the result or,
 * without, a float result */
bool import_ms_qgemm(Call *c) {
    Value *a = centred(c, c->in[0], c->in[2]), *b = c->in[3], *zb = c->in[5];
    if (call_int(c, "transB", 0)) b = build_transpose(c, b, (int64_t[]){1, 0}, 2);
    if (call_int(c, "transA", 0)) a = build_transpose(c, a, (int64_t[]){1, 0}, 2);
    Value *sum = call_op(c, OP_MatMul, 2, a, centred(c, b, zb));
    sum = call_cast(c, build_add_optional(c, sum, call_in(c, 6)), DT_F32);
    Value *step = build_scaled(c, build_mul(c, c->in[1], c->in[4]), call_float(c, "alpha", 1));
    Value *y = build_mul(c, sum, step);
    if (!call_in(c, 7)) return call_result(c, y);
    return quantized_result(c, y, c->in[7], call_in(c, 8), c->in[0]);
}

/* x, weights, bias, their scales, mask, their zero points, past */
bool import_ms_qattention(Call *c) {
    Value *qkv = ms_integer_product(c, c->in[0], call_in(c, 6), c->in[3], c->in[1], call_in(c, 7),
                                    c->in[4], call_in(c, 2));
    return ms_attend_projected(c, qkv, call_in(c, 5), call_in(c, 8), NULL);
}

/* ---- packed weights -------------------------------------------------------------------------- */

/* bytes[..., n] as u8[..., n * 8 / bits], low bits first. rank: of bytes; count: how many of the
 * values of a row are wanted, -1 all. */
static Value *unpack(Call *c, Value *bytes, int rank, int bits, int64_t count) {
    if (bits < 8) {
        double shifts[8], mask = (double)((1 << bits) - 1);
        int per_byte = 8 / bits;
        int64_t dims[MAX_RANK] = {0};
        for (int i = 0; i < per_byte; i++) shifts[i] = i * bits;
        Value *v = call_op(c, OP_BitShift, 2, build_unsqueeze(c, bytes, -1),
                           build_const(c, DT_U8, shifts, per_byte));
        node_set_string(v->def, "direction", "RIGHT");
        v = call_op(c, OP_BitwiseAnd, 2, v, call_scalar(c, DT_U8, mask));
        dims[rank - 1] = -1;
        bytes = build_reshape(c, v, dims, rank);
    }
    return count < 0 ? bytes : build_slice(c, bytes, 0, count, -1);
}

/* MatMulNBits while it is taken apart. */
typedef struct NBits {
    int64_t n, k, block, bits, groups; /* groups: blocks of a row */
    DType t;
} NBits;

static bool read_nbits(Call *c, NBits *b) {
    b->n = call_int(c, "N", 0), b->k = call_int(c, "K", 0);
    b->block = call_int(c, "block_size", 0), b->bits = call_int(c, "bits", 4);
    bool in_range = b->n > 0 && b->k > 0 && b->n < INT32_MAX && b->k < INT32_MAX;
    bool power = b->block >= 16 && b->block <= 1 << 20 && !(b->block & (b->block - 1));
    if (!in_range || !power) {
        diag_error(c->im->d, c->loc,
                   "N, K and block_size are %lld, %lld and %lld; N and K have to be at least 1 and "
                   "block_size a power of two, 16 or more",
                   (long long)b->n, (long long)b->k, (long long)b->block);
        return false;
    }
    b->groups = (b->k + b->block - 1) / b->block;
    b->t = call_float_type(c->in[2]);
    if (b->bits == 2 || b->bits == 4 || b->bits == 8) return true;
    diag_unsupported(c->im->d, c->loc, "bits = %lld is not supported; 2, 4 and 8 are",
                     (long long)b->bits);
    return false;
}

/* The zero points as [N, groups] in the scales' type. */
static Value *nbits_zeros(Call *c, const NBits *b, Value *zeros) {
    if (!zeros) return call_scalar(c, b->t, (double)(1 << (b->bits - 1)));
    if (zeros->dtype == DT_U8) {
        Value *rows = build_reshape(c, zeros, (int64_t[]){b->n, -1}, 2);
        return call_cast(c, unpack(c, rows, 2, (int)b->bits, b->groups), b->t);
    }
    return build_reshape(c, call_cast(c, zeros, b->t), (int64_t[]){b->n, b->groups}, 2);
}

/* A parameter of each group, for each of the K columns: g_idx names the group of a column. */
static Value *of_columns(Call *c, Value *v, Value *group_of) {
    return v->shape.rank == 0 ? v : build_gather(c, v, group_of, 1);
}

/* The weights [N, K]. */
static Value *nbits_weight(Call *c, const NBits *b) {
    int64_t padded[] = {b->n, b->groups, b->block}, flat[] = {b->n, b->groups * b->block};
    Value *q = build_reshape(c, c->in[1], (int64_t[]){b->n, b->groups, b->block * b->bits / 8}, 3);
    Value *scale = build_reshape(c, c->in[2], (int64_t[]){b->n, b->groups}, 2);
    Value *zero = nbits_zeros(c, b, call_in(c, 3)), *group_of = call_in(c, 4);
    q = call_cast(c, build_reshape(c, unpack(c, q, 3, (int)b->bits, -1), padded, 3), b->t);
    if (group_of) {
        q = build_slice(c, build_reshape(c, q, flat, 2), 0, b->k, 1);
        q = build_sub(c, q, of_columns(c, zero, group_of));
        return build_mul(c, q, of_columns(c, scale, group_of));
    }
    if (zero->shape.rank) zero = build_unsqueeze(c, zero, 2);
    q = build_mul(c, build_sub(c, q, zero), build_unsqueeze(c, scale, 2));
    return build_slice(c, build_reshape(c, q, flat, 2), 0, b->k, 1);
}

/* accuracy_level 4: the activations as integers of 8 bits, too, in steps of a 127th of the largest
 * of each block; onnxruntime does so where it has whole blocks of f32. */
static Value *nbits_activations(Call *c, const NBits *b, Value *x) {
    enum { INT8_LEVEL = 4 };
    if (call_int(c, "accuracy_level", 0) != INT8_LEVEL || b->k % b->block || b->t != DT_F32 ||
        call_in(c, 4) || !build_has_shape(c, x))
        return x;
    int rank = x->shape.rank;
    if (rank < 1 || rank >= MAX_RANK) return x;
    int64_t split[MAX_RANK] = {0}, joined[MAX_RANK] = {0}; /* 0: as it is */
    split[rank - 1] = b->groups, split[rank] = b->block, joined[rank - 1] = b->k;
    Value *v = build_reshape(c, x, split, rank + 1);
    Value *most = build_reduce(c, OP_ReduceMax, call_op(c, OP_Abs, 1, v), (int64_t[]){-1}, 1);
    Value *above_0 = call_op(c, OP_Max, 2, most, call_scalar(c, DT_F32, 1e-36));
    Value *q = build_mul(c, v, build_div(c, call_scalar(c, DT_F32, 127), above_0));
    q = call_cast(c, call_op(c, OP_Round, 1, q), DT_I8);
    v = build_mul(c, call_cast(c, q, DT_F32), build_div(c, most, call_scalar(c, DT_F32, 127)));
    return build_reshape(c, v, joined, rank);
}

/* a, packed weights, scales, zero points, g_idx, bias */
bool import_ms_matmul_nbits(Call *c) {
    NBits b;
    if (call_int(c, "weight_prepacked", 0)) {
        diag_unsupported(c->im->d, c->loc,
                         "weights in a device's own order (weight_prepacked) are not supported");
        return false;
    }
    if (!read_nbits(c, &b)) return false;
    Value *w = build_transpose(c, nbits_weight(c, &b), (int64_t[]){1, 0}, 2);
    Value *y = call_op(c, OP_MatMul, 2, nbits_activations(c, &b, c->in[0]), w);
    return call_result(c, build_add_optional(c, y, call_in(c, 5)));
}

/* The sixteen values of the two 4-bit codes of bitsandbytes: fractions of a block's magnitude. */
static const double bnb4_values[2][16] = {
    {0, 0.005208333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25, -0.0, -0.005208333,
     -0.66666667, -1, -0.33333333, -0.5, -0.16666667, -0.25},
    {-1, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.091050036, 0, 0.0795803,
     0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1},
};

/* a, weights of two codes a byte (high one first) for [N, K] in a row, magnitude of each block */
bool import_ms_matmul_bnb4(Call *c) {
    int64_t n = call_int(c, "N", 0), k = call_int(c, "K", 0), block = call_int(c, "block_size", 0);
    int64_t type = call_int(c, "quant_type", 0);
    if (n < 1 || k < 1 || n >= INT32_MAX || k >= INT32_MAX || block < 1 ||
        (type != 0 && type != 1)) {
        diag_error(c->im->d, c->loc, "N, K, block_size or quant_type is out of range");
        return false;
    }
    if (block > n * k) block = n * k;
    DType t = call_float_type(c->in[2]);
    int64_t groups = (n * k + block - 1) / block;
    double shifts[] = {4, 0};
    Value *code = build_unsqueeze(c, c->in[1], -1);
    code = call_op(c, OP_BitShift, 2, code, build_const(c, DT_U8, shifts, 2));
    node_set_string(code->def, "direction", "RIGHT");
    code = call_op(c, OP_BitwiseAnd, 2, code, call_scalar(c, DT_U8, 15));
    code = call_cast(c, build_reshape(c, code, (int64_t[]){-1}, 1), DT_I32);
    code = build_slice(c, code, 0, n * k, 0);
    Value *w = build_gather(c, build_const(c, t, bnb4_values[type], 16), code, 0);
    Value *scale = build_unsqueeze(c, c->in[2], 1);
    Value *tiled = call_op(c, OP_Expand, 2, scale, call_list(c, (int64_t[]){groups, block}, 2));
    tiled = build_slice(c, build_reshape(c, tiled, (int64_t[]){-1}, 1), 0, n * k, 0);
    w = build_reshape(c, build_mul(c, w, tiled), (int64_t[]){n, k}, 2);
    if (call_int(c, "transB", 1)) w = build_transpose(c, w, (int64_t[]){1, 0}, 2);
    return call_result(c, call_op(c, OP_MatMul, 2, c->in[0], w));
}

/* Rows of a table of packed numbers: data, indices, scales, zero points. Scales lie at the blocks
 * of the quantized axis, here the last. */
bool import_ms_gather_block_quantized(Call *c) {
    const Shape *s = build_shape(c, c->in[0], "the table");
    if (!s) return false;
    int rank = s->rank, bits = (int)call_int(c, "bits", 4);
    int64_t axis = call_int(c, "gather_axis", 0), last = call_int(c, "quantize_axis", 1);
    int64_t block = call_int(c, "block_size", 128), columns;
    bool packed = c->in[0]->dtype == DT_U8;
    if (packed && bits != 2 && bits != 4 && bits != 8) {
        diag_unsupported(c->im->d, c->loc, "bits = %d is not supported; 2, 4 and 8 are", bits);
        return false;
    }
    if (axis != 0 || (last != -1 && last != rank - 1) || !shape_dim_int(*s, rank - 1, &columns) ||
        rank != 2 || block < 1 || !packed) {
        diag_unsupported(c->im->d, c->loc,
                         "supported is a table u8[rows, columns] of constant columns, gathered "
                         "along axis 0 and quantized along axis 1");
        return false;
    }
    DType t = call_float_type(c->in[2]);
    columns *= 8 / bits;
    int64_t groups = (columns + block - 1) / block;
    Value *group_of[2] = {build_iota(c, build_one(c, columns)), call_i64(c, block)};
    Value *group = build_div(c, group_of[0], group_of[1]);
    Value *q = call_cast(c, unpack(c, c->in[0], 2, bits, -1), t), *zero = call_in(c, 3);
    if (zero)
        q = build_sub(
            c, q, build_gather(c, call_cast(c, unpack(c, zero, 2, bits, groups), t), group, 1));
    else
        q = build_sub(c, q, call_scalar(c, t, (double)(1 << (bits - 1))));
    q = build_mul(c, q, build_gather(c, c->in[2], group, 1));
    return call_result(c, build_gather(c, q, c->in[1], 0));
}
