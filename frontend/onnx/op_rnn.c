/* Importer of RNN, GRU and LSTM: a Scan over time, for each direction, whose body is one step.
 *
 * The part of the gates that depends on the input alone is one MatMul over all time steps, in front
 * of the Scan; inside remain the MatMul with the recurrent weights and elementwise arithmetic:
 *
 *     xw[T, B, G*H] = MatMul(X, W') + bias             W' = transposed weights of this direction
 *     h, (c), Y = Scan(h0, (c0), xw, (live)):
 *         gates = Split(xw_t + MatMul(h_prev, R'))     LSTM: i o f c   GRU: z r h   RNN: one
 *         ...
 *
 * With sequence_lens a second sequence, live[T, B, 1], says which rows are within their length: the
 * others keep their state and give zero. For the reverse direction this makes each row start at its
 * own last step. layout = 1 (batch first) is a transpose on either side.
 *
 * com.microsoft's DynamicQuantizeLSTM has both weights as bytes, transposed already. X, all of it,
 * and in each step h become bytes in steps of their own range, and both MatMuls sum integers. */
#include <string.h>
#include <strings.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/microsoft.h"

enum { MAX_GATES = 4, MAX_DIRS = 2 };

/* An activation with its two parameters; rows of a table of what ONNX allows. */
typedef struct Activation {
    const char *name;
    OpId op; /* OP_NONE: made of several */
    int n_params;
    double alpha, beta;
} Activation;

static const Activation known_activations[] = {
    {"Affine", OP_NONE, 2, 1, 0},
    {"Elu", OP_Elu, 1, 1, 0},
    {"HardSigmoid", OP_HardSigmoid, 2, 0.2, 0.5},
    {"LeakyRelu", OP_LeakyRelu, 1, 0.01, 0},
    {"Relu", OP_Relu, 0, 0, 0},
    {"ScaledTanh", OP_NONE, 2, 1, 1},
    {"Sigmoid", OP_Sigmoid, 0, 0, 0},
    {"Softplus", OP_Softplus, 0, 0, 0},
    {"Softsign", OP_Softsign, 0, 0, 0},
    {"Tanh", OP_Tanh, 0, 0, 0},
    {"ThresholdedRelu", OP_ThresholdedRelu, 1, 1, 0},
};

/* What the bytes of a weight stand for: (byte - zero) * scale, each one value, one for each
 * direction or [D, G*H]. */
typedef struct Bytes {
    Value *scale, *zero;
} Bytes;

/* One RNN, GRU or LSTM node while it is taken apart. */
typedef struct Rnn {
    Call *c;
    char kind; /* 'R', 'G' or 'L' */
    int n_gates, n_dirs, n_acts;
    bool batch_first, reverse_only, linear_before_reset, input_forget;
    int64_t hidden;
    DType given, t; /* of the inputs; what it is computed in */
    double clip;    /* 0: none */
    Activation act[MAX_DIRS * 3];
    Value *x, *live, *zero_state;
    Value *w, *r, *b, *h0, *c0, *p; /* as in the file, of all directions */
    bool is_quantized;
    Bytes w_bytes, r_bytes; /* when it is quantized; of all directions */
    Value *x_bytes[3];      /* x as bytes, their scale and zero point */
} Rnn;

/* What the body of one direction captures. */
typedef struct Direction {
    int index;
    bool reverse;
    Value *r, *r_reset; /* transposed; GRU's candidate gate stands alone in r_reset */
    Bytes r_bytes;
    Value *b_inside;    /* GRU, linear_before_reset: recurrent bias of all gates */
    Value *peep[3];     /* i, o, f */
} Direction;

/* ---- small steps ----------------------------------------------------------------------------- */

static Value *add(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Add, 2, a, b);
}

static Value *mul(Call *c, Value *a, Value *b) {
    return call_op(c, OP_Mul, 2, a, b);
}

static Value *one(Call *c, int64_t v) {
    return call_list(c, &v, 1);
}

/* v[from : to] along an axis. */
static Value *slice(Call *c, Value *v, int64_t from, int64_t to, int64_t axis) {
    return call_op(c, OP_Slice, 4, v, one(c, from), one(c, to), one(c, axis));
}

static Value *transpose(Call *c, Value *v, const int64_t *perm, int n) {
    Node *t = call_node(c, OP_Transpose, &v, 1, 1);
    node_set_ints(t, "perm", perm, n);
    return t->out[0];
}

static Value *concat(Call *c, Value **v, int n, int64_t axis) {
    if (n == 1) return v[0];
    Node *k = call_node(c, OP_Concat, v, n, 1);
    node_set_int(k, "axis", axis);
    return k->out[0];
}

static Value *unsqueeze(Call *c, Value *v, int64_t axis) {
    return call_op(c, OP_Unsqueeze, 2, v, one(c, axis));
}

/* Entry d of a tensor whose first axis is the direction; NULL stays NULL. */
static Value *pick(const Rnn *r, Value *v, int d) {
    if (!v) return NULL;
    Call *c = r->c;
    if (r->n_dirs > 1) v = slice(c, v, d, d + 1, 0);
    return call_op(c, OP_Squeeze, 2, v, one(c, 0));
}

static void split(Call *c, Value *v, int n, Value **part) {
    if (n == 1) {
        part[0] = v;
        return;
    }
    Node *s = call_node(c, OP_Split, &v, 1, n);
    node_set_int(s, "axis", -1);
    node_set_int(s, "num_outputs", n);
    for (int i = 0; i < n; i++) part[i] = s->out[i];
}

/* ---- attributes ------------------------------------------------------------------------------ */

static bool find_activation(Rnn *r, const char *name, Activation *out) {
    for (size_t i = 0; i < sizeof known_activations / sizeof *known_activations; i++)
        if (!strcasecmp(known_activations[i].name, name)) {
            *out = known_activations[i];
            return true;
        }
    diag_error(r->c->im->d, r->c->loc, "there is no activation '%s'", name);
    return false;
}

static const char *default_activation(const Rnn *r, int i) {
    if (r->kind == 'R') return "Tanh";
    return i % r->n_acts == 0 ? "Sigmoid" : "Tanh";
}

/* Parameters are given in order to those activations that have some. */
static bool read_activations(Rnn *r) {
    const Onnx__AttributeProto *names = call_attr(r->c, "activations");
    const Onnx__AttributeProto *alpha = call_attr(r->c, "activation_alpha"),
                               *beta = call_attr(r->c, "activation_beta");
    int n = r->n_dirs * r->n_acts;
    size_t n_alpha = 0, n_beta = 0;
    if (names && names->n_strings && (int)names->n_strings != n) {
        diag_error(r->c->im->d, r->c->loc, "activations has %zu entries, but %d are needed",
                   names->n_strings, n);
        return false;
    }
    bool given = names && names->n_strings;
    for (int i = 0; i < n; i++) {
        const char *name = default_activation(r, i);
        if (given) name = intern_data(names->strings[i]);
        Activation *a = &r->act[i];
        if (!find_activation(r, name, a)) return false;
        if (a->n_params > 0 && alpha && n_alpha < alpha->n_floats)
            a->alpha = (double)alpha->floats[n_alpha++];
        if (a->n_params > 1 && beta && n_beta < beta->n_floats)
            a->beta = (double)beta->floats[n_beta++];
    }
    return true;
}

static bool read_direction(Rnn *r) {
    const char *direction = call_string(r->c, "direction", "forward");
    r->n_dirs = !strcmp(direction, "bidirectional") ? 2 : 1;
    r->reverse_only = !strcmp(direction, "reverse");
    if (r->n_dirs == 2 || r->reverse_only || !strcmp(direction, "forward")) return true;
    diag_error(r->c->im->d, r->c->loc,
               "direction is '%s'; forward, reverse and bidirectional exist", direction);
    return false;
}

/* hidden_size may be left out where the recurrent weights [D, G*H, H] tell. */
static bool read_hidden_size(Rnn *r) {
    r->hidden = call_int(r->c, "hidden_size", 0);
    int axis = r->is_quantized ? 1 : 2;
    if (!r->hidden && r->r->shape.rank == 3) shape_dim_int(r->r->shape, axis, &r->hidden);
    if (r->hidden > 0 && r->hidden <= INT32_MAX / MAX_GATES) return true;
    diag_error(r->c->im->d, r->c->loc, "hidden_size is %lld, but has to be at least 1 and given",
               (long long)r->hidden);
    return false;
}

/* f16 and bf16 run in f32: the states are rounded once, not in every step. */
static bool read_dtype(Rnn *r) {
    Value **typed[] = {&r->x, &r->b, &r->h0, &r->c0, &r->p, &r->w, &r->r};
    int n = r->is_quantized ? 5 : 7;
    for (int i = 0; i < n && r->given == DT_NONE; i++)
        if (*typed[i]) r->given = (*typed[i])->dtype;
    r->t = r->given == DT_F64 ? DT_F64 : DT_F32;
    if (!dtype_is_float(r->given)) {
        diag_unsupported(r->c->im->d, r->c->loc,
                         "the element type of its inputs does not follow from the model's inputs");
        return false;
    }
    for (int i = 0; i < n && r->given != r->t; i++) *typed[i] = call_cast(r->c, *typed[i], r->t);
    return true;
}

static bool read_node(Rnn *r) {
    Call *c = r->c;
    r->is_quantized = !strcmp(c->row->type, "DynamicQuantizeLSTM");
    if (r->is_quantized && !build_needs(c, (int[]){8, 9, 10, 11, -1})) return false;
    r->kind = r->is_quantized ? 'L' : c->row->type[0];
    r->n_gates = r->kind == 'L' ? 4 : r->kind == 'G' ? 3 : 1;
    r->n_acts = r->kind == 'L' ? 3 : r->kind == 'G' ? 2 : 1;
    r->x = c->in[0], r->w = c->in[1], r->r = c->in[2];
    r->b = call_in(c, 3), r->h0 = call_in(c, 5), r->c0 = call_in(c, 6), r->p = call_in(c, 7);
    r->batch_first = call_int(c, "layout", 0) != 0;
    r->linear_before_reset = call_int(c, "linear_before_reset", 0) != 0;
    r->input_forget = call_int(c, "input_forget", 0) != 0;
    r->clip = call_float(c, "clip", 0);
    return read_direction(r) && read_activations(r) && read_hidden_size(r) && read_dtype(r);
}

/* ---- in front of the scans ------------------------------------------------------------------- */

/* live[t, b, 0] = t < sequence_lens[b] */
static Value *make_live(Call *c, Value *x, Value *lengths) {
    Value *steps = call_op(c, OP_Gather, 2, call_op(c, OP_Shape, 1, x), call_i64(c, 0));
    Value *times = call_op(c, OP_Range, 3, call_i64(c, 0), steps, call_i64(c, 1));
    Node *wide = call_node(c, OP_Cast, &lengths, 1, 1);
    node_set_int(wide, "to", dtype_info[DT_I64].onnx);
    times = call_op(c, OP_Unsqueeze, 2, times, call_list(c, (int64_t[]){1, 2}, 2));
    Value *limits = call_op(c, OP_Unsqueeze, 2, wide->out[0], call_list(c, (int64_t[]){0, 2}, 2));
    return call_op(c, OP_Less, 2, times, limits);
}

/* zeros[B, H], for initial states that are not given. */
static Value *zero_state(Rnn *r) {
    Call *c = r->c;
    if (r->zero_state) return r->zero_state;
    Value *batch = call_op(c, OP_Shape, 1, r->x);
    node_set_int(batch->def, "start", 1);
    node_set_int(batch->def, "end", 2);
    Value *parts[] = {batch, one(c, r->hidden)};
    Value *dims = concat(c, parts, 2, 0);
    Value *nought = graph_add_const(c->g, "", r->t, shape_ints(c->m->k, (int64_t[]){1}, 1),
                                    call_scalar(c, r->t, 0)->data, (uint64_t)dtype_bytes(r->t));
    Value *zeros = call_op(c, OP_ConstantOfShape, 1, dims);
    node_set_attr(zeros->def, (Attr){.name = "value", .kind = AT_TENSOR, .tensor = nought});
    zeros->dtype = r->t;
    return r->zero_state = zeros;
}

/* Both halves of the bias, input and recurrent, for one direction; NULL when there is none. */
static void split_bias(Rnn *r, int d, Value **of_input, Value **recurrent) {
    Call *c = r->c;
    Value *b = pick(r, r->b, d), *half[2] = {NULL, NULL};
    if (b) split(c, b, 2, half);
    *of_input = half[0];
    *recurrent = half[1];
}

static Bytes pick_bytes(const Rnn *r, Bytes b, int d) {
    return (Bytes){pick(r, b.scale, d), pick(r, b.zero, d)};
}

static Value *product_with_x(Rnn *r, int d) {
    static const int64_t swap[] = {1, 0};
    Call *c = r->c;
    Value *w = pick(r, r->w, d), **x = r->x_bytes;
    if (!r->is_quantized) return call_op(c, OP_MatMul, 2, r->x, transpose(c, w, swap, 2));
    Bytes b = pick_bytes(r, r->w_bytes, d);
    return ms_integer_product(c, x[0], x[2], x[1], w, b.zero, b.scale, NULL);
}

/* What the body reads besides states and sequences, made in front of the Scan. */
static Value *prepare(Rnn *r, Direction *d) {
    static const int64_t swap[] = {1, 0};
    Call *c = r->c;
    Value *of_input, *recurrent, *weights = pick(r, r->r, d->index);
    split_bias(r, d->index, &of_input, &recurrent);
    Value *xw = product_with_x(r, d->index);
    bool inside = r->kind == 'G' && r->linear_before_reset;
    if (of_input) xw = add(c, xw, inside ? of_input : add(c, of_input, recurrent));
    d->b_inside = inside ? recurrent : NULL;
    if (r->kind == 'G' && !inside) {
        Value *candidate = slice(c, weights, 2 * r->hidden, 3 * r->hidden, 0);
        d->r_reset = transpose(c, candidate, swap, 2);
        weights = slice(c, weights, 0, 2 * r->hidden, 0);
    }
    d->r = r->is_quantized ? weights : transpose(c, weights, swap, 2);
    d->r_bytes = pick_bytes(r, r->r_bytes, d->index);
    if (r->p) split(c, pick(r, r->p, d->index), 3, d->peep);
    return xw;
}

/* ---- one step -------------------------------------------------------------------------------- */

static Value *clipped(const Rnn *r, Call *c, Value *v) {
    if (r->clip <= 0) return v;
    return call_op(c, OP_Clip, 3, v, call_scalar(c, r->t, -r->clip), call_scalar(c, r->t, r->clip));
}

static Value *activate_raw(const Rnn *r, Call *c, const Direction *d, int which, Value *v) {
    const Activation *a = &r->act[d->index * r->n_acts + which];
    Value *alpha = call_scalar(c, r->t, a->alpha), *beta = call_scalar(c, r->t, a->beta);
    if (!strcmp(a->name, "Affine")) return add(c, mul(c, v, alpha), beta);
    if (a->op == OP_NONE)
        return mul(c, call_op(c, OP_Tanh, 1, mul(c, v, beta)), alpha); /* ScaledTanh */
    Value *y = call_op(c, a->op, 1, v);
    if (a->n_params > 0) node_set_float(y->def, "alpha", a->alpha);
    if (a->n_params > 1) node_set_float(y->def, "beta", a->beta);
    return y;
}

/* clip bounds what goes into the gates' activations. */
static Value *activate(const Rnn *r, Call *c, const Direction *d, int which, Value *v) {
    return activate_raw(r, c, d, which, clipped(r, c, v));
}

static Value *with_peephole(Call *c, Value *gate, Value *weight, Value *cell) {
    return weight ? add(c, gate, mul(c, weight, cell)) : gate;
}

static Value *one_minus(const Rnn *r, Call *c, Value *v) {
    return call_op(c, OP_Sub, 2, call_scalar(c, r->t, 1), v);
}

/* The previous state times the recurrent weights. */
static Value *product_with_h(const Rnn *r, Call *c, const Direction *d, Value *h) {
    Value *bytes[3];
    if (!r->is_quantized) return call_op(c, OP_MatMul, 2, h, d->r);
    build_dynamic_quantize(c, h, bytes);
    return ms_integer_product(c, bytes[0], bytes[2], bytes[1], d->r, d->r_bytes.zero,
                              d->r_bytes.scale, NULL);
}

static Value *rnn_step(const Rnn *r, Call *c, const Direction *d, Value *xw, Value *h) {
    return activate(r, c, d, 0, add(c, xw, product_with_h(r, c, d, h)));
}

/* h = (1 - z) * candidate + z * h_prev */
static Value *gru_step(const Rnn *r, Call *c, const Direction *d, Value *xw, Value *h) {
    Value *x[3], *rec[3], *candidate;
    Value *hr = product_with_h(r, c, d, h);
    if (d->b_inside) hr = add(c, hr, d->b_inside);
    split(c, xw, 3, x);
    split(c, hr, r->linear_before_reset ? 3 : 2, rec);
    Value *z = activate(r, c, d, 0, add(c, x[0], rec[0]));
    Value *reset = activate(r, c, d, 0, add(c, x[1], rec[1]));
    if (r->linear_before_reset)
        candidate = mul(c, reset, rec[2]);
    else
        candidate = call_op(c, OP_MatMul, 2, mul(c, reset, h), d->r_reset);
    candidate = activate(r, c, d, 1, add(c, x[2], candidate));
    return add(c, mul(c, one_minus(r, c, z), candidate), mul(c, z, h));
}

/* c = f * c_prev + i * candidate,  h = o * act(c). The cell is not clipped: ONNX Runtime does not,
 * and models were trained and checked against it. */
static Value *lstm_step(const Rnn *r, Call *c, const Direction *d, Value *xw, Value *h,
                        Value **cell) {
    enum { GATE_I, GATE_O, GATE_F, GATE_C };
    Value *g[4];
    split(c, add(c, xw, product_with_h(r, c, d, h)), 4, g);
    Value *i = activate(r, c, d, 0, with_peephole(c, g[GATE_I], d->peep[0], *cell));
    Value *f = r->input_forget
                   ? one_minus(r, c, i)
                   : activate(r, c, d, 0, with_peephole(c, g[GATE_F], d->peep[2], *cell));
    Value *candidate = activate(r, c, d, 1, g[GATE_C]);
    *cell = add(c, mul(c, f, *cell), mul(c, i, candidate));
    Value *o = activate(r, c, d, 0, with_peephole(c, g[GATE_O], d->peep[1], *cell));
    return mul(c, o, activate_raw(r, c, d, 2, *cell));
}

/* A value as an output of the body; each is listed once, so a second time takes a copy. */
static void give(Call *c, Value *v) {
    bool own = v->graph == c->g && v->def && !v->is_output;
    graph_add_output(c->g, own ? v : call_op(c, OP_Identity, 1, v));
}

static Graph *make_body(const Rnn *r, const Direction *d, bool want_y) {
    Call in_body = *r->c, *c = &in_body;
    Shape unknown = {.rank = -1};
    c->g = graph_create(c->m, r->c->g, "step");
    Value *h_prev = graph_add_input(c->g, "h", r->t, unknown), *c_prev = NULL, *live = NULL;
    if (r->kind == 'L') c_prev = graph_add_input(c->g, "c", r->t, unknown);
    Value *xw = graph_add_input(c->g, "x", r->t, unknown), *h, *cell = c_prev;
    if (r->live) live = graph_add_input(c->g, "live", DT_BOOL, unknown);
    if (r->kind == 'L')
        h = lstm_step(r, c, d, xw, h_prev, &cell);
    else
        h = r->kind == 'G' ? gru_step(r, c, d, xw, h_prev) : rnn_step(r, c, d, xw, h_prev);
    Value *y = h;
    if (live) {
        y = call_op(c, OP_Where, 3, live, h, call_scalar(c, r->t, 0));
        h = call_op(c, OP_Where, 3, live, h, h_prev);
        if (cell) cell = call_op(c, OP_Where, 3, live, cell, c_prev);
    }
    give(c, h);
    if (cell) give(c, cell);
    if (want_y) give(c, y);
    return c->g;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Adds one direction's Scan; y, h and cell get its results without the direction's axis. */
static void run_direction(Rnn *r, int index, Value **y, Value **h, Value **cell) {
    Call *c = r->c;
    Direction d = {.index = index, .reverse = r->reverse_only || index == 1};
    Value *xw = prepare(r, &d), *in[4];
    int n_in = 0, n_states = r->kind == 'L' ? 2 : 1, n_sequences = r->live ? 2 : 1;
    bool want_y = call_wants(c, 0);
    Value *h0 = pick(r, r->h0, index), *c0 = pick(r, r->c0, index);
    in[n_in++] = h0 ? h0 : zero_state(r);
    if (r->kind == 'L') in[n_in++] = c0 ? c0 : zero_state(r);
    in[n_in++] = xw;
    if (r->live) in[n_in++] = r->live;
    Node *scan = call_node(c, OP_Scan, in, n_in, n_states + want_y);
    int64_t directions[] = {d.reverse, d.reverse};
    node_set_graph(scan, "body", make_body(r, &d, want_y));
    node_set_int(scan, "num_scan_inputs", n_sequences);
    node_set_ints(scan, "scan_input_directions", directions, n_sequences);
    if (want_y) node_set_ints(scan, "scan_output_directions", directions, 1);
    for (int i = 0; i < scan->n_out; i++) scan->out[i]->dtype = r->t;
    *h = scan->out[0];
    if (r->kind == 'L') *cell = scan->out[1];
    if (want_y) *y = scan->out[n_states];
}

/* [D, B, H], or [B, D, H] with the batch first. */
static Value *join_states(Rnn *r, Value **v) {
    Call *c = r->c;
    int64_t axis = r->batch_first ? 1 : 0;
    Value *part[MAX_DIRS];
    for (int d = 0; d < r->n_dirs; d++) part[d] = unsqueeze(c, v[d], axis);
    return concat(c, part, r->n_dirs, axis);
}

/* [T, D, B, H], or [B, T, D, H] with the batch first. */
static Value *join_steps(Rnn *r, Value **v) {
    static const int64_t batch_first[] = {2, 0, 1, 3};
    Call *c = r->c;
    Value *part[MAX_DIRS];
    for (int d = 0; d < r->n_dirs; d++) part[d] = unsqueeze(c, v[d], 1);
    Value *y = concat(c, part, r->n_dirs, 1);
    return r->batch_first ? transpose(c, y, batch_first, 4) : y;
}

/* x as bytes. Steps in which no row is within its length do not count for the range. */
static void quantize_x(Rnn *r) {
    Call *c = r->c;
    Value *x = r->x;
    if (r->live) {
        Value *any = call_cast(c, r->live, DT_I32);
        any = call_cast(c, build_reduce(c, OP_ReduceMax, any, (int64_t[]){1}, 1), DT_BOOL);
        x = call_op(c, OP_Where, 3, any, x, call_scalar(c, r->t, 0));
    }
    build_dynamic_quantize(c, x, r->x_bytes);
}

/* v[a, b, c] as rows of the batch that `like` has. */
static Value *with_batch_of(Call *c, Value *v, Value *like) {
    Value *dims[] = {build_dim(c, v, 0), build_dim(c, like, 1), build_dim(c, v, 2)};
    Value *y = call_op(c, OP_Reshape, 2, v, concat(c, dims, 3, 0));
    y->dtype = v->dtype;
    return y;
}

/* Files may give the batches of x and of a state different names, or a number to one of them only.
 * They are equal: otherwise the state would seem to grow in the first step. */
static void share_batch(Rnn *r, Value **state) {
    Call *c = r->c;
    int64_t number;
    if (!*state || !build_has_shape(c, r->x) || !build_has_shape(c, *state)) return;
    const Shape *x = &r->x->shape, *s = &(*state)->shape;
    if (x->rank != 3 || s->rank != 3 || x->dims[1] == s->dims[1]) return;
    if (shape_dim_int(*s, 1, &number))
        r->x = with_batch_of(c, r->x, *state);
    else
        *state = with_batch_of(c, *state, r->x);
}

bool import_rnn(Call *c) {
    static const int64_t swap[] = {1, 0, 2};
    Rnn r = {.c = c};
    Value *y[MAX_DIRS] = {0}, *h[MAX_DIRS] = {0}, *cell[MAX_DIRS] = {0};
    if (!read_node(&r)) return false;
    if (r.batch_first) {
        r.x = transpose(c, r.x, swap, 3);
        if (r.h0) r.h0 = transpose(c, r.h0, swap, 3);
        if (r.c0) r.c0 = transpose(c, r.c0, swap, 3);
    }
    share_batch(&r, &r.h0);
    share_batch(&r, &r.c0);
    if (call_in(c, 4)) r.live = make_live(c, r.x, c->in[4]);
    if (r.is_quantized) {
        r.w_bytes = (Bytes){call_in(c, 8), call_in(c, 9)};
        r.r_bytes = (Bytes){call_in(c, 10), call_in(c, 11)};
        quantize_x(&r);
    }
    for (int d = 0; d < r.n_dirs; d++) run_direction(&r, d, &y[d], &h[d], &cell[d]);
    if (call_wants(c, 0)) c->out[0] = call_cast(c, join_steps(&r, y), r.given);
    if (call_wants(c, 1)) c->out[1] = call_cast(c, join_states(&r, h), r.given);
    if (call_wants(c, 2)) c->out[2] = call_cast(c, join_states(&r, cell), r.given);
    return true;
}
