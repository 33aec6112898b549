/* Elementwise operators with one input, and Cast.
 *
 *   out[i] = cast(dtype, f(cast(compute, x[i])))
 *
 * where compute is f32 for f16 and bf16 and the dtype itself otherwise. Operators that are one
 * primitive of kernel IR are rows of a table; the rest is written out in unary_body(). NaN,
 * infinities and signed zeros follow IEEE: where a formula clamps, the operands of min and max are
 * ordered so that a NaN input comes out as NaN. */
#include "ir/ops/cast_text.h"
#include "ir/ops/common.h"
#include "ir/ops/text.h"

#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

typedef struct UnaryRow {
    unsigned classes; /* accepted element types */
    KOp op;           /* KO_NONE: see unary_body */
} UnaryRow;

enum { FLOATS_AND_SIGNED = CLASS_FLOAT | CLASS_SINT };

static const UnaryRow unary_rows[OP_COUNT] = {
    [OP_Abs] = {CLASS_NUMBER, KO_abs},
    [OP_Acos] = {CLASS_FLOAT, KO_acos},
    [OP_Acosh] = {CLASS_FLOAT, KO_acosh},
    [OP_Asin] = {CLASS_FLOAT, KO_asin},
    [OP_Asinh] = {CLASS_FLOAT, KO_asinh},
    [OP_Atan] = {CLASS_FLOAT, KO_atan},
    [OP_Atanh] = {CLASS_FLOAT, KO_atanh},
    [OP_BitwiseNot] = {CLASS_INT, KO_not},
    [OP_Ceil] = {CLASS_FLOAT, KO_ceil},
    [OP_Celu] = {CLASS_FLOAT, KO_NONE},
    [OP_Cos] = {CLASS_FLOAT, KO_cos},
    [OP_Cosh] = {CLASS_FLOAT, KO_cosh},
    [OP_Elu] = {CLASS_FLOAT, KO_NONE},
    [OP_Erf] = {CLASS_FLOAT, KO_erf},
    [OP_Exp] = {CLASS_FLOAT, KO_exp},
    [OP_Floor] = {CLASS_FLOAT, KO_floor},
    [OP_Gelu] = {CLASS_FLOAT, KO_NONE},
    [OP_HardSigmoid] = {CLASS_FLOAT, KO_NONE},
    [OP_HardSwish] = {CLASS_FLOAT, KO_NONE},
    [OP_IsNaN] = {CLASS_FLOAT | CLASS_CODE, KO_NONE},
    [OP_IsInf] = {CLASS_FLOAT | CLASS_CODE, KO_NONE},
    [OP_LeakyRelu] = {CLASS_FLOAT, KO_NONE},
    [OP_Log] = {CLASS_FLOAT, KO_log},
    [OP_Mish] = {CLASS_FLOAT, KO_NONE},
    [OP_Neg] = {FLOATS_AND_SIGNED, KO_neg},
    [OP_Not] = {CLASS_BOOL, KO_not},
    [OP_Reciprocal] = {CLASS_FLOAT, KO_NONE},
    [OP_Relu] = {FLOATS_AND_SIGNED, KO_NONE},
    [OP_Round] = {CLASS_FLOAT, KO_rint},
    [OP_Selu] = {CLASS_FLOAT, KO_NONE},
    [OP_Shrink] = {CLASS_NUMBER, KO_NONE},
    [OP_Sigmoid] = {CLASS_FLOAT, KO_sigmoid},
    [OP_Sign] = {CLASS_NUMBER, KO_NONE},
    [OP_Sin] = {CLASS_FLOAT, KO_sin},
    [OP_Sinh] = {CLASS_FLOAT, KO_sinh},
    [OP_Softplus] = {CLASS_FLOAT, KO_softplus},
    [OP_Softsign] = {CLASS_FLOAT, KO_NONE},
    [OP_Sqrt] = {CLASS_FLOAT, KO_sqrt},
    [OP_Tan] = {CLASS_FLOAT, KO_tan},
    [OP_Tanh] = {CLASS_FLOAT, KO_tanh},
    [OP_ThresholdedRelu] = {CLASS_FLOAT, KO_NONE},
};

static bool gives_bool(OpId op) {
    return op == OP_IsNaN || op == OP_IsInf;
}

/* ---- infer ----------------------------------------------------------------------------------- */

static const KExpr *content_of(KCtx *k, OpId op, const KExpr *x) {
    if (op == OP_Not) return k_cast(k, DT_I64, k_eq(k, x, k_int(k, 0)));
    return op == OP_Neg ? k_neg(k, x) : x;
}

bool unary_infer(Module *m, Node *n) {
    if (!infer_dtype(m, n, 0, unary_rows[n->op].classes)) return false;
    const char *approximate = attr_string(n, "approximate", "none");
    if (n->op == OP_Gelu && strcmp(approximate, "none") && strcmp(approximate, "tanh")) {
        diag_error(m->diag, n->loc, "attribute approximate must be 'none' or 'tanh'");
        return false;
    }
    const Value *x = n->in[0];
    if (!infer_set(m, n, 0, gives_bool(n->op) ? DT_BOOL : x->dtype, shape_copy(m->arena, x->shape)))
        return false;
    int64_t count;
    const KExpr **content = op_has(n->op, OPF_CONTENT) ? infer_content(m, x, &count) : NULL;
    for (int64_t i = 0; content && i < count; i++)
        content[i] = content_of(m->k, n->op, content[i]);
    infer_set_content(n->out[0], content);
    return true;
}

/* ---- lower ----------------------------------------------------------------------------------- */

static const KExpr *constant(Def *d, const KExpr *like, double v) {
    return k_const(d->k, like->dtype, v);
}

static const KExpr *attribute(Def *d, const KExpr *like, const char *name, double otherwise) {
    /* ONNX's float attributes are f32: a default must be rounded like one */
    return constant(d, like, (double)(float)attr_float(d->node, name, otherwise));
}

/* max(0, min(1, v)), NaN for NaN */
static const KExpr *unit_clamp(Def *d, const KExpr *v) {
    return k_max(d->k, constant(d, v, 0), k_min(d->k, constant(d, v, 1), v));
}

/* max(0, x) + min(0, alpha * (e^(x / alpha) - 1)) */
static const KExpr *celu(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *zero = constant(d, x, 0), *alpha = attribute(d, x, "alpha", 1.0);
    const KExpr *low = k_mul(k, alpha, k_unary(k, KO_expm1, k_div(k, x, alpha)));
    return k_add(k, k_max(k, zero, x), k_min(k, zero, low));
}

/* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
static const KExpr *gelu_tanh(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *cube = k_mul(k, k_mul(k, x, x), x);
    const KExpr *inner = k_add(k, x, k_mul(k, constant(d, x, 0.044715), cube));
    const KExpr *t = k_tanh(k, k_mul(k, constant(d, x, 0.79788456080286535588), inner));
    return k_mul(k, k_mul(k, constant(d, x, 0.5), x), k_add(k, constant(d, x, 1), t));
}

static const KExpr *is_inf(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *hit = k_bool(k, false);
    if (attr_int(d->node, "detect_positive", 1))
        hit = k_eq(k, x, constant(d, x, (double)__builtin_inf()));
    if (attr_int(d->node, "detect_negative", 1))
        hit = k_or(k, hit, k_eq(k, x, constant(d, x, -(double)__builtin_inf())));
    return hit;
}

/* x < -lambd ? x + bias : x > lambd ? x - bias : 0 */
/* x * tanh(log(1 + e^x)) is x * n / (n + 2) of n = e^x * (e^x + 2), which loses nothing where e^x
 * is small; from 20 on the quotient is 1. */
static const KExpr *mish(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *two = constant(d, x, 2), *e = k_exp(k, k_min(k, x, constant(d, x, 20)));
    const KExpr *n = k_mul(k, e, k_add(k, e, two));
    return k_mul(k, x, k_div(k, n, k_add(k, n, two)));
}

static const KExpr *shrink(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *bias = attribute(d, x, "bias", 0.0), *lambd = attribute(d, x, "lambd", 0.5);
    const KExpr *inner = k_select(k, k_gt(k, x, lambd), k_sub(k, x, bias), constant(d, x, 0));
    return k_select(k, k_lt(k, x, k_neg(k, lambd)), k_add(k, x, bias), inner);
}

/* -1, 0 or 1; NaN for NaN */
static const KExpr *sign(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *zero = constant(d, x, 0), *rest = zero;
    if (dtype_is_float(x->dtype)) rest = k_select(k, k_eq(k, x, x), zero, x);
    if (dtype_is_signed(x->dtype)) rest = k_select(k, k_lt(k, x, zero), constant(d, x, -1), rest);
    return k_select(k, k_gt(k, x, zero), constant(d, x, 1), rest);
}

/* The operator of an element x in the compute dtype. */
static const KExpr *unary_body(Def *d, const KExpr *x) {
    KCtx *k = d->k;
    const KExpr *zero = constant(d, x, 0), *alpha;
    switch ((int)d->node->op) {
    case OP_Celu: return celu(d, x);
    case OP_Elu:
        alpha = attribute(d, x, "alpha", 1.0);
        return k_select(k, k_lt(k, x, zero), k_mul(k, alpha, k_unary(k, KO_expm1, x)), x);
    case OP_Gelu:
        return strcmp(attr_string(d->node, "approximate", "none"), "tanh") ? k_unary(k, KO_gelu, x)
                                                                           : gelu_tanh(d, x);
    case OP_HardSigmoid:
        alpha = k_mul(k, attribute(d, x, "alpha", 0.2), x);
        return unit_clamp(d, k_add(k, alpha, attribute(d, x, "beta", 0.5)));
    case OP_HardSwish:
        alpha = k_mul(k, constant(d, x, (double)(1.0f / 6.0f)),
                      x); /* ONNX: HardSigmoid's alpha, an f32 */
        return k_mul(k, x, unit_clamp(d, k_add(k, alpha, constant(d, x, 0.5))));
    case OP_IsNaN: return k_ne(k, x, x);
    case OP_IsInf: return is_inf(d, x);
    case OP_LeakyRelu:
        return k_select(k, k_lt(k, x, zero), k_mul(k, attribute(d, x, "alpha", 0.01), x), x);
    case OP_Mish: return mish(d, x);
    case OP_Reciprocal: return k_div(k, constant(d, x, 1), x);
    case OP_Relu: return k_max(k, zero, x);
    case OP_Selu: {
        const KExpr *gamma = attribute(d, x, "gamma", 1.05070102214813232421875);
        alpha = k_mul(k, gamma, attribute(d, x, "alpha", 1.67326319217681884765625));
        return k_select(k, k_gt(k, x, zero), k_mul(k, gamma, x),
                        k_mul(k, alpha, k_unary(k, KO_expm1, x)));
    }
    case OP_Shrink: return shrink(d, x);
    case OP_Sign: return sign(d, x);
    case OP_Softsign: return k_div(k, x, k_add(k, constant(d, x, 1), k_abs(k, x)));
    case OP_ThresholdedRelu: return k_select(k, k_gt(k, x, attribute(d, x, "alpha", 1.0)), x, zero);
    default: BUG("no body for %s", op_info[d->node->op].name);
    }
}

void unary_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    DType t = compute_dtype(x->dtype);
    if (n->op == OP_Shrink && !dtype_is_float(t)) t = DT_F32; /* its attributes are floats */
    KOp op = unary_rows[n->op].op;
    const KExpr *e = lower_elem(d, s, x, t);
    bool is_nothing = op == KO_abs && dtype_info[t].kind == DK_UINT;
    if (!is_nothing) e = op ? k_unary(d->k, op, e) : unary_body(d, e);
    def_map(d, s, k_cast(d->k, out->dtype, e));
}

/* ---- Cast ------------------------------------------------------------------------------------ */

bool cast_infer(Module *m, Node *n) {
    DType to = dtype_from_onnx(attr_int(n, "to", 0));
    if (!infer_dtype(m, n, 0, CLASS_SCALAR | CLASS_CODE | CLASS_STRING)) return false;
    if (!node_attr(n, "to")) {
        diag_error(m->diag, n->loc, "attribute to is missing");
        return false;
    }
    const char *round_mode = attr_string(n, "round_mode", "up");
    if (strcmp(round_mode, "up") && strcmp(round_mode, "down") && strcmp(round_mode, "nearest")) {
        diag_error(m->diag, n->loc, "attribute round_mode must be 'up', 'down' or 'nearest'");
        return false;
    }
    if (to == DT_NONE || to == DT_C64 || n->in[0]->dtype == DT_C64) {
        diag_unsupported(m->diag, n->loc, "cast to TensorProto type %lld is not supported",
                         (long long)attr_int(n, "to", 0));
        return false;
    }
    if (to == DT_STR && n->in[0]->dtype != DT_STR && !text_infer_place(m, n)) return false;
    const Value *x = n->in[0];
    if (!infer_set(m, n, 0, to, shape_copy(m->arena, x->shape))) return false;
    int64_t count;
    const KExpr **content = infer_content(m, x, &count), *zero = k_int(m->k, 0);
    for (int64_t i = 0; content && i < count; i++) {
        if (to == DT_BOOL) content[i] = k_cast(m->k, DT_I64, k_ne(m->k, content[i], zero));
        content[i] = infer_wrapped(m, to, content[i]);
    }
    infer_set_content(n->out[0], content);
    return true;
}

void cast_lower(Def *d, const Node *n) {
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    if (x->dtype != out->dtype && (x->dtype == DT_STR || out->dtype == DT_STR)) {
        text_lower_cast(d, x, out);
        return;
    }
    Stage *s = def_begin(d, FORM_MAP, out);
    s->movement = s->view = x->dtype == out->dtype;
    const KExpr *e = lower_elem(d, s, x, x->dtype);
    bool saturate = attr_int(n, "saturate", 1);
    def_map(d, s, lower_cast(d, out->dtype, e, saturate, attr_string(n, "round_mode", "up")));
}

/* ---- BitCast --------------------------------------------------------------------------------- */

bool bitcast_infer(Module *m, Node *n) {
    DType to = dtype_from_onnx(attr_int(n, "to", 0)), from = n->in[0] ? n->in[0]->dtype : DT_NONE;
    if (!infer_dtype(m, n, 0, CLASS_SCALAR | CLASS_CODE)) return false;
    if (to == DT_NONE || to == DT_STR || dtype_info[to].bits != dtype_info[from].bits) {
        diag_error(m->diag, n->loc, "BitCast of %s to %s: the types must have one width",
                   dtype_info[from].name, dtype_info[to].name);
        return false;
    }
    n->out[0]->content = NULL;
    return infer_set(m, n, 0, to, shape_copy(m->arena, n->in[0]->shape));
}

/* The unsigned type of t's width when t is a signed integer of less than a byte, whose memory has
 * more bits than its value; else t. */
static DType plain_bits(DType t) {
    return t == DT_I4 ? DT_U4 : t == DT_I2 ? DT_U2 : t;
}

void bitcast_lower(Def *d, const Node *n) {
    (void)n;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    Stage *s = def_begin(d, FORM_MAP, out);
    s->movement = s->view = x->dtype == out->dtype;
    const KExpr *e = lower_elem(d, s, x, plain_bits(x->dtype));
    def_map(d, s, k_cast(d->k, out->dtype, k_bitcast(d->k, plain_bits(out->dtype), e)));
}
