/* Importers of quantized operators. The graph IR has QuantizeLinear, DequantizeLinear and the
 * convolutions of integers; products of matrices become a MatMul of i32 and what surrounds it. */
#include "frontend/onnx/build.h"

bool import_quantize(Call *c) {
    int64_t out = call_int(c, "output_dtype", 0);
    if (out && import_dtype(c->im, out, c->loc, "output_dtype") == DT_NONE) return false;
    return call_same(c, c->in, c->n_in, "");
}

static Value *dequantize(Call *c, Value *x, Value *scale, Value *zero, int64_t axis) {
    Value *v = call_op(c, OP_DequantizeLinear, zero ? 3 : 2, x, scale, zero);
    node_set_int(v->def, "axis", axis);
    return v;
}

/* A list of more than one entry as a column: one for each row of a matrix. */
static Value *as_rows(Call *c, Value *v) {
    int64_t n;
    bool is_list = v->shape.rank == 1 && shape_count_int(v->shape, &n) && n > 1;
    return is_list ? call_op(c, OP_Unsqueeze, 2, v, call_list(c, (int64_t[]){1}, 1)) : v;
}

/* v - zero in i32; a zero point per row of v stands in a column. */
static Value *less_zero(Call *c, Value *v, Value *zero, bool per_row) {
    Value *wide = call_cast(c, v, DT_I32);
    if (!zero) return wide;
    if (per_row) zero = as_rows(c, zero);
    return call_op(c, OP_Sub, 2, wide, call_cast(c, zero, DT_I32));
}

bool import_matmul_integer(Call *c) {
    Value *a = less_zero(c, c->in[0], call_in(c, 2), true);
    Value *b = less_zero(c, c->in[1], call_in(c, 3), false);
    return call_result(c, call_op(c, OP_MatMul, 2, a, b));
}

/* Small floats: the float operator between DequantizeLinear and QuantizeLinear. */
static bool float_matmul(Call *c) {
    Value *a = dequantize(c, c->in[0], c->in[1], c->in[2], -2);
    Value *b = dequantize(c, c->in[3], c->in[4], c->in[5], -1);
    Value *y = call_op(c, OP_MatMul, 2, a, b);
    return call_result(c, call_op(c, OP_QuantizeLinear, 3, y, c->in[6], c->in[7]));
}

/* Inputs: a scale zero, b scale zero, y scale zero; a's may be per row, b's per column.
 *   acc = (a - a_zero) (b - b_zero) in i32,  y = quantize(f32(acc) * (a_scale * b_scale / y_scale))
 * The multiplier is rounded in the scales' own type, as onnxruntime does. */
bool import_qlinear_matmul(Call *c) {
    if (dtype_is_code(c->in[0]->dtype) || dtype_is_code(c->in[3]->dtype)) return float_matmul(c);
    Value *a = less_zero(c, c->in[0], c->in[2], true), *b = less_zero(c, c->in[3], c->in[5], false);
    Value *acc = call_cast(c, call_op(c, OP_MatMul, 2, a, b), DT_F32);
    Value *steps = call_op(c, OP_Mul, 2, as_rows(c, c->in[1]), c->in[4]);
    steps = call_cast(c, call_op(c, OP_Div, 2, steps, c->in[6]), DT_F32);
    Value *y = call_op(c, OP_Mul, 2, acc, steps), *zero = c->in[7],
          *one = call_scalar(c, DT_F32, 1);
    return call_result(c, call_op(c, OP_QuantizeLinear, 3, y, one, zero));
}

/* The range of x, widened to hold 0, in 255 steps:
 *   scale = (max - min) / 255 (1 when x is all 0),  zero = saturate(round(-min / scale)),  y = quantize(x) */
void build_dynamic_quantize(Call *c, Value *x, Value *result[3]) {
    Value *nought = call_scalar(c, DT_F32, 0);
    Value *least = call_op(c, OP_ReduceMin, 1, x), *most = call_op(c, OP_ReduceMax, 1, x);
    node_set_int(least->def, "keepdims", 0);
    node_set_int(most->def, "keepdims", 0);
    Value *low = call_op(c, OP_Min, 2, least, nought), *high = call_op(c, OP_Max, 2, most, nought);
    Value *steps = call_scalar(c, DT_F32, 255);
    Value *range = call_op(c, OP_Sub, 2, high, low), *one = call_scalar(c, DT_F32, 1);
    Value *is_flat = call_op(c, OP_Equal, 2, range, nought);
    Value *scale = call_op(c, OP_Where, 3, is_flat, one, call_op(c, OP_Div, 2, range, steps));
    Value *offset = call_op(c, OP_Div, 2, call_op(c, OP_Sub, 2, nought, low), scale);
    Value *zero = call_op(c, OP_Round, 1, call_op(c, OP_Clip, 3, offset, nought, steps));
    result[1] = scale;
    result[2] = call_cast(c, zero, DT_U8);
    result[0] = call_op(c, OP_QuantizeLinear, 3, x, scale, result[2]);
}

bool import_dynamic_quantize(Call *c) {
    Value *result[3];
    build_dynamic_quantize(c, c->in[0], result);
    for (int i = 0; i < c->n_out; i++) c->out[i] = result[i];
    return true;
}
