/* Importers of quantized operators. The graph IR has QuantizeLinear and DequantizeLinear; operators
 * on quantized tensors become the float operator between them, which the quantization passes turn
 * into integer arithmetic again. */
#include "frontend/onnx/import.h"

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

/* x scale zero, w scale zero, y scale zero, bias: w's scale may have one entry per output channel
 * (axis 0); the bias is i32 in steps of x_scale * w_scale. */
bool import_qlinear_conv(Call *c) {
    Value *x = dequantize(c, c->in[0], c->in[1], c->in[2], 1);
    Value *w = dequantize(c, c->in[3], c->in[4], c->in[5], 0), *bias = NULL;
    if (call_in(c, 8)) {
        Value *step = call_op(c, OP_Mul, 2, c->in[1], c->in[4]);
        bias = dequantize(c, c->in[8], step, NULL, 0);
    }
    Value *in[] = {x, w, bias};
    Node *conv = call_node(c, OP_Conv, in, bias ? 3 : 2, 1);
    if (!call_copy_attrs(c, conv, "")) return false;
    return call_result(c, call_op(c, OP_QuantizeLinear, 3, conv->out[0], c->in[6], c->in[7]));
}

/* a scale zero, b scale zero, y scale zero: a's may be per row, b's per column. */
bool import_qlinear_matmul(Call *c) {
    Value *a = dequantize(c, c->in[0], c->in[1], c->in[2], -2);
    Value *b = dequantize(c, c->in[3], c->in[4], c->in[5], -1);
    Value *y = call_op(c, OP_MatMul, 2, a, b);
    return call_result(c, call_op(c, OP_QuantizeLinear, 3, y, c->in[6], c->in[7]));
}

static Value *cast_to(Call *c, Value *v, DType t) {
    Node *n = call_node(c, OP_Cast, &v, 1, 1);
    node_set_int(n, "to", dtype_info[t].onnx);
    n->out[0]->dtype = t;
    return n->out[0];
}

/* v - zero in i32; a zero point per row of v stands in a column. */
static Value *less_zero(Call *c, Value *v, Value *zero, bool per_row) {
    Value *wide = cast_to(c, v, DT_I32);
    int64_t n;
    if (!zero) return wide;
    bool is_list = zero->shape.rank == 1 && shape_count_int(zero->shape, &n) && n > 1;
    if (per_row && is_list)
        zero = call_op(c, OP_Unsqueeze, 2, zero, call_list(c, (int64_t[]){1}, 1));
    return call_op(c, OP_Sub, 2, wide, cast_to(c, zero, DT_I32));
}

bool import_matmul_integer(Call *c) {
    Value *a = less_zero(c, c->in[0], call_in(c, 2), true);
    Value *b = less_zero(c, c->in[1], call_in(c, 3), false);
    return call_result(c, call_op(c, OP_MatMul, 2, a, b));
}

/* The range of x, widened to hold 0, in 255 steps:
 *   scale = (max - min) / 255,  zero = saturate(round(-min / scale)),  y = quantize(x)
 * Where x is 0 everywhere the scale is 1, as onnxruntime has it: ONNX says nothing. */
bool import_dynamic_quantize(Call *c) {
    Value *x = c->in[0], *nought = call_scalar(c, DT_F32, 0);
    Value *least = call_op(c, OP_ReduceMin, 1, x), *most = call_op(c, OP_ReduceMax, 1, x);
    node_set_int(least->def, "keepdims", 0);
    node_set_int(most->def, "keepdims", 0);
    Value *low = call_op(c, OP_Min, 2, least, nought), *high = call_op(c, OP_Max, 2, most, nought);
    Value *steps = call_scalar(c, DT_F32, 255);
    Value *range = call_op(c, OP_Sub, 2, high, low), *none = call_op(c, OP_Equal, 2, range, nought);
    range = call_op(c, OP_Where, 3, none, steps, range);
    Value *scale = call_op(c, OP_Div, 2, range, steps);
    Value *offset = call_op(c, OP_Div, 2, call_op(c, OP_Sub, 2, nought, low), scale);
    Value *zero = call_op(c, OP_Round, 1, call_op(c, OP_Clip, 3, offset, nought, steps));
    Value *result[] = {NULL, scale, cast_to(c, zero, DT_U8)};
    result[0] = call_op(c, OP_QuantizeLinear, 3, x, scale, result[2]);
    for (int i = 0; i < c->n_out; i++) c->out[i] = result[i];
    return true;
}
