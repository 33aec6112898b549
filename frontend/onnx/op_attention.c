/* Importers of the attentions that other operators express.
 *
 * FlexAttention is Attention with the model's own graphs around the softmax:
 *     y = prob_mod(Softmax(score_mod(scale * q k^T))) v
 * The graphs are imported in the node's place. Query heads that share a key head are an axis of
 * their own: q is [batch, key heads, group, length, size], k and v get an axis of 1 there.
 *
 * LinearAttention is a Scan over time whose state is a matrix for each head, S[size, value size]:
 *     S = exp(decay) * S                                 gated rules
 *     v = beta * (v - S^T k)                             delta rules
 *     S = S + k v^T,  y = scale * q^T S
 * It is computed in f32 and rounded at the end. */
#include <string.h>

#include "frontend/onnx/build.h"

/* ---- small steps ----------------------------------------------------------------------------- */

/* Dims from .. to - 1 of v, as a tensor. */
static Value *dims_of(Call *c, Value *v, int64_t from, int64_t to) {
    Value *dims = call_op(c, OP_Shape, 1, v);
    node_set_int(dims->def, "start", from);
    node_set_int(dims->def, "end", to);
    return dims;
}

static Value *join(Call *c, Value **v, int n) {
    Node *k = call_node(c, OP_Concat, v, n, 1);
    node_set_int(k, "axis", 0);
    return k->out[0];
}

static Value *unsqueeze(Call *c, Value *v, int64_t axis) {
    return call_op(c, OP_Unsqueeze, 2, v, call_list(c, &axis, 1));
}

/* 1 / sqrt of a size, t[1]. */
static Value *default_scale(Call *c, Value *size, DType t) {
    return call_op(c, OP_Reciprocal, 1, call_op(c, OP_Sqrt, 1, call_cast(c, size, t)));
}

static bool hcall_cast(Call *c, const Value *v) {
    if (dtype_is_float(v->dtype)) return true;
    diag_unsupported(c->im->d, c->loc,
                     "the element type of its inputs does not follow from the model's inputs");
    return false;
}

/* ---- FlexAttention --------------------------------------------------------------------------- */

/* The values as the graph attribute changes them, themselves without one; NULL after a message. */
static Value *modified(Call *c, const char *attr, Value *v) {
    const Onnx__AttributeProto *a = call_attr(c, attr);
    if (!a) return v;
    DType t = v->dtype;
    Value *by = import_inline(c, attr, a->g, v);
    return by ? call_cast(c, by, t) : NULL;
}

bool import_flex_attention(Call *c) {
    static const int64_t flip[] = {0, 1, 2, 4, 3};
    Value *q = c->in[0], *k = c->in[1], *v = c->in[2], *minus = call_list(c, (int64_t[]){-1}, 1);
    if (!hcall_cast(c, q)) return false;
    int64_t precision = call_int(c, "softmax_precision", 0);
    DType wide = q->dtype == DT_F64 ? DT_F64 : DT_F32, soft = wide, given = q->dtype;
    if (precision) soft = import_dtype(c->im, precision, c->loc, "softmax_precision");
    if (soft == DT_NONE) return false;
    Value *batch = dims_of(c, q, 0, 1), *heads = dims_of(c, k, 1, 2), *keys = dims_of(c, k, 2, 3);
    Value *length = dims_of(c, q, 2, 3), *scale = default_scale(c, dims_of(c, q, 3, 4), wide);
    Value *grouped[] = {batch, heads, minus, dims_of(c, q, 2, 4)};
    Value *q5 = call_op(c, OP_Reshape, 2, call_cast(c, q, wide), join(c, grouped, 4));
    Node *turned =
        call_node(c, OP_Transpose, (Value *[]){unsqueeze(c, call_cast(c, k, wide), 2)}, 1, 1);
    node_set_ints(turned, "perm", flip, 5);
    if (call_attr(c, "scale")) scale = call_scalar(c, wide, call_float(c, "scale", 1));
    Value *scores = call_op(c, OP_Mul, 2, call_op(c, OP_MatMul, 2, q5, turned->out[0]), scale);
    Value *flat[] = {dims_of(c, q, 0, 3), keys};
    scores = build_reshape_as(c, call_cast(c, scores, soft), join(c, flat, 2));
    scores = modified(c, "score_mod", scores);
    if (!scores) return false;
    Value *weights = call_op(c, OP_Softmax, 1, scores);
    node_set_int(weights->def, "axis", -1);
    weights = modified(c, "prob_mod", weights);
    if (!weights) return false;
    Value *grouped_weights[] = {batch, heads, minus, length, keys};
    weights = call_op(c, OP_Reshape, 2, weights, join(c, grouped_weights, 5));
    Value *y = call_op(c, OP_MatMul, 2, weights, unsqueeze(c, call_cast(c, v, soft), 2));
    Value *result[] = {dims_of(c, q, 0, 3), dims_of(c, v, 3, 4)};
    y = build_reshape_as(c, y, join(c, result, 2));
    return call_result(c, call_cast(c, y, given));
}

/* ---- LinearAttention ------------------------------------------------------------------------- */

enum { IN_Q, IN_K, IN_V, IN_STATE, IN_DECAY, IN_BETA };

typedef struct Linear {
    Call *c;
    bool gated, delta;
    int64_t heads, group; /* of keys; query heads for each */
} Linear;

static bool read_linear(Linear *l) {
    static const char *const rules[] = {"linear", "gated", "delta", "gated_delta"};
    Call *c = l->c;
    Diag *d = c->im->d;
    const char *rule = call_string(c, "update_rule", "gated_delta");
    int which = 0;
    while (which < 4 && strcmp(rule, rules[which])) which++;
    if (which == 4) {
        diag_error(d, c->loc, "update_rule is '%s'; linear, gated, delta and gated_delta exist",
                   rule);
        return false;
    }
    l->gated = which & 1;
    l->delta = which & 2;
    if (l->gated != !!call_in(c, IN_DECAY) || l->delta != !!call_in(c, IN_BETA)) {
        diag_error(d, c->loc,
                   "decay comes with the gated rules and beta with the delta rules only");
        return false;
    }
    int64_t q_heads = call_int(c, "q_num_heads", 0);
    l->heads = call_int(c, "kv_num_heads", 0);
    if (l->heads < 1 || q_heads < 1 || q_heads % l->heads) {
        diag_error(d, c->loc, "%lld query heads are no multiple of %lld key heads",
                   (long long)q_heads, (long long)l->heads);
        return false;
    }
    l->group = q_heads / l->heads;
    return hcall_cast(c, c->in[IN_Q]);
}

/* [batch, time, heads, size] in f32; with the group's axis behind the heads for a query. */
static Value *by_head(const Linear *l, int input, bool is_query) {
    const int64_t dims[] = {0, 0, l->heads, -1}, query[] = {0, 0, l->heads, l->group, -1};
    Call *c = l->c;
    Value *v = call_cast(c, call_in(c, input), DT_F32);
    return call_op(c, OP_Reshape, 2, v, is_query ? call_list(c, query, 5) : call_list(c, dims, 4));
}

/* The given state, else zeros. */
static Value *first_state(const Linear *l) {
    Call *c = l->c;
    if (call_in(c, IN_STATE)) return call_cast(c, c->in[IN_STATE], DT_F32);
    Value *heads = call_list(c, &l->heads, 1);
    Value *dims[] = {dims_of(c, c->in[IN_K], 0, 1), heads,
                     call_op(c, OP_Div, 2, dims_of(c, c->in[IN_K], 2, 3), heads),
                     call_op(c, OP_Div, 2, dims_of(c, c->in[IN_V], 2, 3), heads)};
    Value *zeros = call_op(c, OP_ConstantOfShape, 1, join(c, dims, 4));
    zeros->dtype = DT_F32;
    return zeros;
}

/* One step; q[B, H, group, K], k[B, H, K], v[B, H, V], decay[B, H, K or 1], beta[B, H or 1, 1]. */
static Graph *linear_step(const Linear *l) {
    Call in_body = *l->c, *c = &in_body;
    Shape unknown = {.rank = -1};
    c->g = graph_create(c->m, l->c->g, "step");
    Value *state = graph_add_input(c->g, "state", DT_F32, unknown);
    Value *q = graph_add_input(c->g, "q", DT_F32, unknown);
    Value *key = graph_add_input(c->g, "k", DT_F32, unknown);
    Value *v = unsqueeze(c, graph_add_input(c->g, "v", DT_F32, unknown), -2);
    if (l->gated) {
        Value *decay = graph_add_input(c->g, "decay", DT_F32, unknown);
        state = call_op(c, OP_Mul, 2, state, unsqueeze(c, decay, -1));
    }
    if (l->delta) {
        Value *beta = unsqueeze(c, graph_add_input(c->g, "beta", DT_F32, unknown), -1);
        Value *known = call_op(c, OP_MatMul, 2, unsqueeze(c, key, -2), state);
        v = call_op(c, OP_Mul, 2, beta, call_op(c, OP_Sub, 2, v, known));
    }
    state = call_op(c, OP_Add, 2, state, call_op(c, OP_Mul, 2, unsqueeze(c, key, -1), v));
    graph_add_output(c->g, state);
    graph_add_output(c->g, call_op(c, OP_MatMul, 2, q, state));
    return c->g;
}

bool import_linear_attention(Call *c) {
    static const int64_t time_axis[] = {1, 1, 1, 1, 1};
    Linear l = {.c = c};
    if (!read_linear(&l)) return false;
    int n = 0;
    Value *in[6], *state = call_in(c, IN_STATE);
    in[n++] = first_state(&l);
    in[n++] = by_head(&l, IN_Q, true);
    in[n++] = by_head(&l, IN_K, false);
    in[n++] = by_head(&l, IN_V, false);
    if (l.gated) in[n++] = call_op(c, OP_Exp, 1, by_head(&l, IN_DECAY, false));
    if (l.delta) in[n++] = unsqueeze(c, call_cast(c, c->in[IN_BETA], DT_F32), 3);
    Node *scan = call_node(c, OP_Scan, in, n, 2);
    node_set_graph(scan, "body", linear_step(&l));
    node_set_int(scan, "num_scan_inputs", n - 1);
    node_set_ints(scan, "scan_input_axes", time_axis, n - 1);
    node_set_ints(scan, "scan_output_axes", time_axis, 1);
    for (int i = 0; i < 2; i++) scan->out[i]->dtype = DT_F32;
    double given = call_float(c, "scale", 0);
    const int64_t q_heads = l.heads * l.group, flat[] = {0, 0, -1};
    Value *size = call_op(c, OP_Div, 2, dims_of(c, c->in[IN_Q], 2, 3), call_list(c, &q_heads, 1));
    Value *scale = given == 0 ? default_scale(c, size, DT_F32) : call_scalar(c, DT_F32, given);
    Value *y = call_op(c, OP_Reshape, 2, scan->out[1], call_list(c, flat, 3));
    c->out[0] = call_cast(c, call_op(c, OP_Mul, 2, y, scale), c->in[IN_Q]->dtype);
    if (call_wants(c, 1))
        c->out[1] = call_cast(c, scan->out[0], state ? state->dtype : c->in[IN_Q]->dtype);
    return true;
}
