/* Importers of arithmetic: operators that are the graph IR's own, and older forms of Clip, Softmax
 * and the reductions. */
#include "frontend/onnx/build.h"

bool import_same(Call *c) {
    return call_same(c, c->in, c->n_in, "");
}

/* Floats of 16 bits are computed in f32 whatever stash_type says. */
bool import_range_27(Call *c) {
    return call_same(c, c->in, 3, "stash_type");
}

/* Clip-6 has its bounds as attributes, the lowest and highest float32 by default. */
bool import_clip_6(Call *c) {
    Value *in[3] = {c->in[0]};
    DType t = call_float_type(c->in[0]);
    if (call_attr(c, "min")) in[1] = call_scalar(c, t, call_float(c, "min", 0));
    if (call_attr(c, "max")) in[2] = call_scalar(c, t, call_float(c, "max", 0));
    return call_same(c, in, 3, "min max consumed_inputs");
}

/* Before opset 13 the dims from `axis` on (default 1) are one: x is flattened, normalised and
 * shaped back. With axis -1 both meanings are the same. */
bool import_softmax_1(Call *c) {
    int64_t axis = call_int(c, "axis", 1);
    OpId op = op_from_name(c->row->domain, c->row->type);
    Value *x = c->in[0];
    bool is_last = axis == -1 || (x->shape.rank > 0 && axis == x->shape.rank - 1);
    Value *flat = x, *dims = NULL;
    if (!is_last) {
        dims = call_op(c, OP_Shape, 1, x);
        flat = call_op(c, OP_Flatten, 1, x);
        node_set_int(flat->def, "axis", axis);
    }
    Value *y = call_op(c, op, 1, flat);
    node_set_int(y->def, "axis", -1);
    return call_result(c, is_last ? y : build_reshape_as(c, y, dims));
}

/* axes was an attribute up to opset 17 (ReduceSum: 12). */
bool import_reduce_1(Call *c) {
    Value *in[] = {c->in[0], call_ints_input(c, "axes")};
    return call_same(c, in, 2, "axes");
}

bool import_cast(Call *c) {
    DType t = import_dtype(c->im, call_int(c, "to", 0), c->loc, "to");
    return t != DT_NONE && import_same(c);
}

bool import_cast_like(Call *c) {
    DType t = c->in[1]->dtype;
    if (t == DT_NONE) {
        diag_unsupported(c->im->d, c->loc,
                         "the element type of input 1 does not follow from the model's inputs; "
                         "a Cast would say it");
        return false;
    }
    Node *n = call_node(c, OP_Cast, c->in, 1, 1);
    if (!call_copy_attrs(c, n, "")) return false;
    node_set_int(n, "to", dtype_info[t].onnx);
    return call_finish(c, n);
}

/* x * sigmoid(alpha x) */
static Value *swish(Call *c, Value *x) {
    Value *scaled = x;
    double alpha = call_float(c, "alpha", 1);
    if (alpha != 1) scaled = call_op(c, OP_Mul, 2, x, call_scalar(c, call_float_type(x), alpha));
    return call_op(c, OP_Mul, 2, x, call_op(c, OP_Sigmoid, 1, scaled));
}

bool import_swish(Call *c) {
    return call_result(c, swish(c, c->in[0]));
}

bool import_swiglu(Call *c) {
    return call_result(c, call_op(c, OP_Mul, 2, swish(c, c->in[0]), c->in[1]));
}
