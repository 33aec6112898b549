/* Importers of random numbers: RandomUniformLike and RandomNormalLike are the graph IR's own
 * (ir/ops/random.c), everything else is made of them.
 *
 * The seed. A compiled model has no state, so every number is a function of the node's seed and of
 * the element's index. A node without the attribute `seed` gets its number in the file (counted
 * while importing, functions inlined) plus one half: two such nodes differ, and a file gives the
 * same numbers each time. In the body of a Loop the iterations tell the numbers apart: iteration
 * numbers of all loops around become the input `stream`. A Scan has no iteration number, so a node
 * in its body draws the same numbers in each step. */
#include <string.h>

#include "frontend/onnx/import.h"

/* The iteration numbers of the loops around the call's graph as one i64, NULL outside of loops. */
static Value *loop_stream(Call *c) {
    Value *stream = NULL;
    for (const Scope *s = c->scope; s; s = s->around) {
        if (!s->iteration) continue;
        Value *i = s->iteration;
        stream =
            stream ? call_op(c, OP_Add, 2, call_op(c, OP_Mul, 2, stream, call_i64(c, 4099)), i) : i;
    }
    return stream;
}

/* Random numbers of dtype t in the shape of `like`; attributes are the caller's to set. */
static Node *draw(Call *c, OpId op, Value *like, DType t) {
    Value *in[] = {like, loop_stream(c)};
    Node *n = call_node(c, op, in, in[1] ? 2 : 1, 1);
    node_set_float(n, "seed", call_float(c, "seed", (double)c->im->n_nodes + 0.5));
    if (t != DT_NONE) {
        node_set_int(n, "dtype", dtype_info[t].onnx);
        n->out[0]->dtype = t;
    }
    return n;
}

/* A tensor of this shape for `draw`; nobody reads its elements. */
static Value *of_shape(Call *c, Value *dims) {
    return call_op(c, OP_ConstantOfShape, 1, dims);
}

/* The float type of the attribute dtype; `otherwise` without it; DT_NONE after a message. */
static DType float_attr_type(Call *c, DType otherwise) {
    if (!call_attr(c, "dtype")) return otherwise;
    DType t = import_dtype(c->im, call_int(c, "dtype", 0), c->loc, "dtype");
    if (t == DT_NONE || dtype_is_float(t)) return t;
    diag_error(c->im->d, c->loc, "dtype %s is no float type", dtype_info[t].name);
    return DT_NONE;
}

static bool finish_random(Call *c, Node *n, bool is_normal) {
    const char *const names[] = {is_normal ? "mean" : "low", is_normal ? "scale" : "high"};
    for (int i = 0; i < 2; i++) node_set_float(n, names[i], call_float(c, names[i], i));
    return call_finish(c, n);
}

static bool like_or_shape(Call *c, bool is_normal) {
    bool has_like = c->row->in_hi == 1;
    const Value *x = call_in(c, 0);
    DType t = float_attr_type(c, has_like ? DT_NONE : DT_F32);
    if (t == DT_NONE && (!has_like || call_attr(c, "dtype"))) return false;
    if (t == DT_NONE && x->dtype != DT_NONE && !dtype_is_float(x->dtype)) {
        diag_error(c->im->d, c->loc, "the input's type is no float type, and dtype is not given");
        return false;
    }
    Value *like = has_like ? c->in[0] : of_shape(c, call_ints_input(c, "shape"));
    OpId op = is_normal ? OP_RandomNormalLike : OP_RandomUniformLike;
    return finish_random(c, draw(c, op, like, t), is_normal);
}

bool import_random_normal(Call *c) {
    return like_or_shape(c, true);
}

bool import_random_uniform(Call *c) {
    return like_or_shape(c, false);
}

/* Where probabilities are compared: f64 keeps its digits, everything else fits f32. */
static DType draw_type(const Value *v) {
    return v->dtype == DT_F64 ? DT_F64 : DT_F32;
}

/* u < p */
bool import_bernoulli(Call *c) {
    DType t = call_float_type(c->in[0]), as = draw_type(c->in[0]);
    if (call_attr(c, "dtype")) t = import_dtype(c->im, call_int(c, "dtype", 0), c->loc, "dtype");
    if (t == DT_NONE) return false;
    Value *u = draw(c, OP_RandomUniformLike, c->in[0], as)->out[0];
    Value *hit = call_op(c, OP_Less, 2, u, call_cast(c, c->in[0], as));
    return call_result(c, call_cast(c, hit, t));
}

/* Rows of logarithms of probabilities up to a factor. A draw is the number of classes whose
 * cumulated probability does not exceed u times the row's sum. u <= 1 - 2^-24, so that product is
 * less than the sum and a class of probability 0 is never drawn. */
bool import_multinomial(Call *c) {
    int64_t n_samples = call_int(c, "sample_size", 1);
    DType t = import_dtype(c->im, call_int(c, "dtype", dtype_info[DT_I32].onnx), c->loc, "dtype");
    if (t == DT_NONE) return false;
    if (n_samples < 1 || (t != DT_I32 && t != DT_I64)) {
        diag_error(c->im->d, c->loc, "sample_size has to be at least 1, and dtype INT32 or INT64");
        return false;
    }
    Value *last = call_list(c, (int64_t[]){-1}, 1), *one = call_list(c, (int64_t[]){1}, 1);
    Value *p = call_op(c, OP_Softmax, 1, call_cast(c, c->in[0], draw_type(c->in[0])));
    Value *sums = call_op(c, OP_CumSum, 2, p, call_i64(c, 1));
    Value *rows = call_op(c, OP_Shape, 1, c->in[0]);
    node_set_int(rows->def, "end", 1);
    Value *parts[] = {rows, call_list(c, &n_samples, 1)};
    Node *dims = call_node(c, OP_Concat, parts, 2, 1);
    node_set_int(dims, "axis", 0);
    Value *u = draw(c, OP_RandomUniformLike, of_shape(c, dims->out[0]), p->dtype)->out[0];
    Value *total =
        call_op(c, OP_Slice, 4, sums, last, call_list(c, (int64_t[]){INT64_MAX}, 1), one);
    Value *bar = call_op(c, OP_Unsqueeze, 2, call_op(c, OP_Mul, 2, u, total), last);
    Value *below = call_op(c, OP_LessOrEqual, 2, call_op(c, OP_Unsqueeze, 2, sums, one), bar);
    Value *count = call_op(c, OP_ReduceSum, 2, call_cast(c, below, DT_I32), last);
    node_set_int(count->def, "keepdims", 0);
    return call_result(c, call_cast(c, count, t));
}

/* ---- Dropout --------------------------------------------------------------------------------- */

/* A tensor of x's shape full of one value. */
static Value *full_like(Call *c, Value *x, DType t, double v) {
    Value *element = graph_add_const(c->g, "", t, shape_ints(c->m->k, (int64_t[]){1}, 1),
                                     call_scalar(c, t, v)->data, (uint64_t)dtype_bytes(t));
    Value *full = call_op(c, OP_ConstantOfShape, 1, call_op(c, OP_Shape, 1, x));
    node_set_attr(full->def, (Attr){.name = "value", .kind = AT_TENSOR, .tensor = element});
    full->dtype = t;
    return full;
}

/* training: keep = u >= ratio or not training, y = keep ? x * factor : 0 with factor
 * 1 / (1 - ratio), 1 where nothing is trained. */
static bool dropout_training(Call *c, Value *training, bool always) {
    Value *x = c->in[0], *ratio = call_in(c, 1);
    DType t = call_float_type(x), as = draw_type(x);
    ratio = ratio ? call_cast(c, ratio, as) : call_scalar(c, as, 0.5);
    Value *u = draw(c, OP_RandomUniformLike, x, as)->out[0], *one = call_scalar(c, as, 1);
    Value *keep = call_op(c, OP_GreaterOrEqual, 2, u, ratio);
    Value *factor = call_op(c, OP_Div, 2, one, call_op(c, OP_Sub, 2, one, ratio));
    if (!always) {
        Value *is_off = call_op(c, OP_Not, 1, training);
        keep = call_op(c, OP_Or, 2, keep, is_off);
        factor = call_op(c, OP_Where, 3, is_off, one, factor);
    }
    Value *scaled = call_op(c, OP_Mul, 2, call_cast(c, x, as), factor);
    Value *y = call_op(c, OP_Where, 3, keep, scaled, call_scalar(c, as, 0));
    c->out[0] = call_cast(c, y, t);
    if (call_wants(c, 1)) c->out[1] = keep;
    return true;
}

/* Without training nothing is dropped: the output is the input, and the mask, if anyone asks, all
 * true. Before opset 12 the mask was undefined then; ONNX Runtime gives all false. Before opset 7
 * is_test said whether to train, but exporters left it at its default in models meant for
 * inference, so it is not listened to. */
bool import_dropout(Call *c) {
    Value *training = call_in(c, 2);
    int n = 0;
    int64_t on = 0;
    bool is_known = training && value_ints(c->m, training, &on, 1, &n) && n == 1;
    if (training && (!is_known || on)) return dropout_training(c, training, is_known);
    c->out[0] = call_op(c, OP_Identity, 1, c->in[0]);
    if (!call_wants(c, 1)) return true;
    DType t = c->version < 10 ? call_float_type(c->in[0]) : DT_BOOL;
    c->out[1] = full_like(c, c->in[0], t, c->version >= 12);
    return true;
}
