/* Importers of the losses, as arithmetic on operators that exist.
 *
 *   loss[n, d...]   = -x[n, target[n, d...], d...] * weight[target[n, d...]]
 *   reduction mean  = sum(loss) / sum of the weights that were taken (their number without weights)
 *
 * Elements whose target is ignore_index count 0 and weigh 0. f16 and bf16 compute in f32. */
#include <string.h>

#include "frontend/onnx/import.h"

static Value *sum_all(Call *c, OpId op, Value *v) {
    Value *y = call_op(c, op, 1, v);
    node_set_int(y->def, "keepdims", 0);
    return y;
}

/* The weight of each target; NULL when all weigh 1. `ignored` is true where the target is to be
 * left out, or NULL. */
static Value *weights_of(Call *c, Value *target, Value *ignored, DType t) {
    Value *weight = call_in(c, 2);
    if (!weight && !ignored) return NULL;
    Value *one = call_scalar(c, t, 1), *zero = call_scalar(c, t, 0);
    Value *w = weight ? call_op(c, OP_Gather, 2, call_cast(c, weight, t), target) : one;
    return ignored ? call_op(c, OP_Where, 3, ignored, zero, w) : w;
}

static bool reduce_loss(Call *c, Value *loss, Value *weights, DType t) {
    const char *how = call_string(c, "reduction", "mean");
    Value *y = loss;
    if (!strcmp(how, "mean") && weights)
        y = call_op(c, OP_Div, 2, sum_all(c, OP_ReduceSum, loss),
                    sum_all(c, OP_ReduceSum, weights));
    else if (!strcmp(how, "mean"))
        y = sum_all(c, OP_ReduceMean, loss);
    else if (!strcmp(how, "sum"))
        y = sum_all(c, OP_ReduceSum, loss);
    else if (strcmp(how, "none")) {
        diag_error(c->im->d, c->loc, "reduction is '%s'; mean, sum and none exist", how);
        return false;
    }
    c->out[0] = call_cast(c, y, t);
    return true;
}

/* From logarithms of probabilities, in dtype `as`, to the call's first output, of dtype t. */
static bool nll(Call *c, Value *log_p, DType as, DType t) {
    Value *target = call_cast(c, c->in[1], DT_I64), *ignored = NULL;
    Value *channel = call_list(c, (int64_t[]){1}, 1);
    if (call_attr(c, "ignore_index")) {
        ignored = call_op(c, OP_Equal, 2, target, call_i64(c, call_int(c, "ignore_index", 0)));
        target = call_op(c, OP_Where, 3, ignored, call_i64(c, 0), target);
    }
    Value *picked =
        call_op(c, OP_GatherElements, 2, log_p, call_op(c, OP_Unsqueeze, 2, target, channel));
    node_set_int(picked->def, "axis", 1);
    Value *loss = call_op(c, OP_Neg, 1, call_op(c, OP_Squeeze, 2, picked, channel));
    Value *weights = weights_of(c, target, ignored, as);
    if (weights && ignored && !call_in(c, 2)) {
        loss = call_op(c, OP_Where, 3, ignored, call_scalar(c, as, 0), loss);
    } else if (weights) {
        loss = call_op(c, OP_Mul, 2, loss, weights);
    }
    return reduce_loss(c, loss, weights, t);
}

static DType sum_type(const Value *v) {
    return v->dtype == DT_F64 ? DT_F64 : DT_F32;
}

bool import_nll_loss(Call *c) {
    DType as = sum_type(c->in[0]);
    return nll(c, call_cast(c, c->in[0], as), as, call_float_type(c->in[0]));
}

/* The logarithm of the softmax over axis 1 is the second output. */
bool import_softmax_loss(Call *c) {
    DType t = call_float_type(c->in[0]), as = sum_type(c->in[0]);
    Value *log_p = call_op(c, OP_LogSoftmax, 1, call_cast(c, c->in[0], as));
    node_set_int(log_p->def, "axis", 1);
    if (call_wants(c, 1)) c->out[1] = call_cast(c, log_p, t);
    return nll(c, log_p, as, t);
}
