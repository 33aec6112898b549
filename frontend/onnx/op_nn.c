/* Importers of neural-network layers: normalisations, dropout. */
#include <string.h>

#include "frontend/onnx/import.h"

/* Mean and variance of each channel of the batch: x as [n, c, rest], folded over n
 * and rest. */
static void batch_statistics(Call *c, Value **mean, Value **variance) {
    Value *axes = call_list(c, (int64_t[]){0, 2}, 2);
    Value *flat = call_op(c, OP_Reshape, 2, c->in[0], call_list(c, (int64_t[]){0, 0, -1}, 3));
    Value *kept = call_op(c, OP_ReduceMean, 2, flat, axes);
    Value *centred = call_op(c, OP_Sub, 2, flat, kept);
    *mean = call_op(c, OP_Squeeze, 2, kept, axes);
    *variance = call_op(c, OP_ReduceMean, 2, call_op(c, OP_Mul, 2, centred, centred), axes);
    node_set_int((*variance)->def, "keepdims", 0);
}

/* Before opset 9, with spatial = 0, parameters have an element for each (channel, position). */
static bool batch_norm_each(Call *c) {
    Value *x = c->in[0];
    Value *epsilon = call_scalar(c, call_float_type(x), call_float(c, "epsilon", (double)1e-5f));
    Value *spread = call_op(c, OP_Sqrt, 1, call_op(c, OP_Add, 2, c->in[4], epsilon));
    Value *y = call_op(c, OP_Div, 2, call_op(c, OP_Sub, 2, x, c->in[3]), spread);
    y = call_op(c, OP_Add, 2, call_op(c, OP_Mul, 2, y, c->in[1]), c->in[2]);
    return call_result(c, y);
}

/* Up to opset 13 further outputs mean training: running mean and variance, and those of the
 * batch. */
bool import_batch_norm_7(Call *c) {
    bool training = false;
    int n_out = c->n_out;
    for (int i = 1; i < n_out; i++) training |= call_wants(c, i);
    c->n_out = training && n_out > 1 ? (n_out < 3 ? n_out : 3) : 1;
    if (call_int(c, "spatial", 1) == 0) {
        if (!training) return batch_norm_each(c);
        diag_unsupported(c->im->d, c->loc, "training with spatial = 0 is not supported");
        return false;
    }
    Node *n = call_node(c, OP_BatchNormalization, c->in, 5, c->n_out);
    if (!call_copy_attrs(c, n, "spatial is_test consumed_inputs")) return false;
    if (training) node_set_int(n, "training_mode", 1);
    call_finish(c, n);
    c->n_out = n_out;
    if (n_out > 3) {
        Value *variance;
        batch_statistics(c, &c->out[3], &variance);
        if (n_out > 4) c->out[4] = variance;
    }
    return true;
}

/* Opset 18 has one scale and bias for each group instead of each channel:
 *   scale[G] -> [G, 1] -> [G, C/G] -> [C] */
static Value *per_channel(Call *c, Value *v, Value *width, int64_t groups) {
    Value *column = call_op(c, OP_Unsqueeze, 2, v, call_list(c, (int64_t[]){1}, 1));
    Value *in[] = {call_list(c, &groups, 1), width};
    Node *dims = call_node(c, OP_Concat, in, 2, 1);
    node_set_int(dims, "axis", 0);
    Value *wide = call_op(c, OP_Expand, 2, column, dims->out[0]);
    return call_op(c, OP_Reshape, 2, wide, call_list(c, (int64_t[]){-1}, 1));
}

bool import_group_norm_18(Call *c) {
    int64_t groups = call_int(c, "num_groups", 1);
    if (groups < 1) {
        diag_error(c->im->d, c->loc, "num_groups is %lld, but has to be at least 1",
                   (long long)groups);
        return false;
    }
    Value *channels = call_op(c, OP_Shape, 1, c->in[0]);
    node_set_int(channels->def, "start", 1);
    node_set_int(channels->def, "end", 2);
    Value *width = call_op(c, OP_Div, 2, channels, call_list(c, &groups, 1));
    Value *in[] = {c->in[0], per_channel(c, c->in[1], width, groups),
                   per_channel(c, c->in[2], width, groups)};
    return call_same(c, in, 3, "");
}

/* (x - mean) / (sqrt(mean of (x - mean)^2) + 1e-9), where f16 would take 1e-9 for 0: it is widened.
 */
bool import_mean_variance(Call *c) {
    DType given = call_float_type(c->in[0]), wide = given == DT_F64 ? DT_F64 : DT_F32;
    Value *x = call_cast(c, c->in[0], wide), *axes = call_ints_input(c, "axes");
    if (!axes) axes = call_list(c, (int64_t[]){0, 2, 3}, 3);
    Value *centred = call_op(c, OP_Sub, 2, x, call_op(c, OP_ReduceMean, 2, x, axes));
    Value *variance = call_op(c, OP_ReduceMean, 2, call_op(c, OP_Mul, 2, centred, centred), axes);
    Value *spread =
        call_op(c, OP_Add, 2, call_op(c, OP_Sqrt, 1, variance), call_scalar(c, wide, 1e-9));
    return call_result(c, call_cast(c, call_op(c, OP_Div, 2, centred, spread), given));
}
