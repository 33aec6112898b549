/* Importers of control flow. Their graphs are imported as attributes; checked here is that a
 * graph's inputs and outputs fit the node that owns it. */
#include "frontend/onnx/assume.h"
#include "frontend/onnx/compound.h"

static bool fits(Call *c, const char *attr, int n_inputs, int n_outputs) {
    const Onnx__GraphProto *g = call_attr(c, attr)->g;
    if ((int)g->n_input == n_inputs && (int)g->n_output == n_outputs) return true;
    diag_error(c->im->d, c->loc, "%s has %zu inputs and %zu outputs, but the node needs %d and %d",
               attr, g->n_input, g->n_output, n_inputs, n_outputs);
    return false;
}

/* Outputs that the file leaves off at the end still are outputs of the graphs. */
static bool finish(Call *c, int n_in, int n_out) {
    Node *n = call_node(c, op_from_name(c->row->domain, c->row->type), c->in, n_in, n_out);
    if (!call_copy_attrs(c, n, "") || !call_finish(c, n)) return false;
    for (int i = c->n_out; i < n_out; i++) n->out[i] = NULL;
    return true;
}

static bool has_compound(Value **v, int n) {
    for (int i = 0; i < n; i++)
        if (compound_of(v[i])) return true;
    return false;
}

/* With a constant condition only the branch that is taken exists. Branches that give sequences or
 * optionals are joined tensor by tensor. */
static bool finish_if(Call *c, int n_out) {
    static const char *const attr[2] = {"then_branch", "else_branch"};
    Graph *g[2];
    Value **out[2];
    int64_t yes;
    for (int i = 0; i < 2; i++) out[i] = arena_array(c->im->arena, Value *, n_out);
    if (known_int(c, c->in[0], false, &yes)) {
        const char *taken = attr[yes ? 0 : 1];
        if (!import_body(c, c->g, taken, call_attr(c, taken)->g, NULL, 0, out[0])) return false;
        for (int i = 0; i < c->n_out; i++) c->out[i] = out[0][i];
        return true;
    }
    for (int i = 0; i < 2; i++) g[i] = import_branch(c, attr[i], call_attr(c, attr[i])->g, out[i]);
    if (!g[0] || !g[1]) return false;
    if (has_compound(out[0], n_out) || has_compound(out[1], n_out))
        return import_if_compound(c, g, out, n_out);
    Node *n = call_node(c, OP_If, c->in, 1, n_out);
    for (int i = 0; i < 2; i++) {
        const Onnx__GraphProto *p = call_attr(c, attr[i])->g;
        for (int k = 0; k < n_out; k++)
            import_list_output(g[i], c->loc, out[i][k], p->output[k]->name);
        node_set_attr(n, (Attr){.name = attr[i], .kind = AT_GRAPH, .graph = g[i]});
    }
    call_finish(c, n);
    for (int i = c->n_out; i < n_out; i++) n->out[i] = NULL;
    if (assume_has_to(c, n)) assume_branch(c, n);
    return true;
}

bool import_if(Call *c) {
    int n_out = (int)call_attr(c, "then_branch")->g->n_output;
    if (n_out < c->n_out || !fits(c, "then_branch", 0, n_out) ||
        !fits(c, "else_branch", 0, n_out)) {
        if (n_out < c->n_out)
            diag_error(c->im->d, c->loc, "has %d outputs, but then_branch gives %d", c->n_out,
                       n_out);
        return false;
    }
    return finish_if(c, n_out);
}

/* Iteration number and condition are scalars, whatever the file says of them. */
static bool settle_loop_body(Call *c) {
    Graph *body = attr_graph(c->g->last, "body");
    static const DType types[] = {DT_I64, DT_BOOL};
    for (int i = 0; i < 2; i++) {
        body->inputs.at[i]->dtype = types[i];
        body->inputs.at[i]->shape = shape_ints(c->m->k, NULL, 0);
    }
    return true;
}

/* Inputs: trip count, condition, carried values. The body gets (iteration, condition, carried...)
 * and gives (condition, carried..., scan outputs...). */
bool import_loop(Call *c) {
    const Onnx__GraphProto *body = call_attr(c, "body")->g;
    int carried = (int)body->n_input - 2, n_out = (int)body->n_output - 1;
    if (carried < 0 || carried < c->n_in - 2 || n_out < carried || n_out < c->n_out) {
        diag_error(
            c->im->d, c->loc,
            "body has %zu inputs and %zu outputs, which does not fit %d inputs and %d outputs "
            "of the node",
            body->n_input, body->n_output, c->n_in, c->n_out);
        return false;
    }
    Value **in = arena_array(c->im->arena, Value *, carried + 2);
    for (int i = 0; i < carried + 2; i++) {
        in[i] = call_in(c, i);
        if (i >= 2 && !in[i]) {
            diag_error(c->im->d, c->loc, "input %d, a carried value, is missing", i);
            return false;
        }
    }
    c->in = in;
    c->n_in = carried + 2;
    if (has_compound(in + 2, carried)) return import_loop_compound(c);
    return finish(c, c->n_in, n_out) && settle_loop_body(c);
}

/* Do the inputs, states and then sequences, fit the body, which gives states, then elements of the
 * scan outputs? */
static bool scan_fits(Call *c, int n_in) {
    int64_t n_sequences = call_int(c, "num_scan_inputs", 0);
    const Onnx__GraphProto *body = call_attr(c, "body")->g;
    if (n_sequences < 1 || n_sequences > n_in) {
        diag_error(c->im->d, c->loc,
                   "num_scan_inputs is %lld, but has to be between 1 and the %d inputs",
                   (long long)n_sequences, n_in);
        return false;
    }
    int n_states = n_in - (int)n_sequences, n_out = (int)body->n_output;
    if (!fits(c, "body", n_in, n_out)) return false;
    if (n_out >= n_states && n_out >= c->n_out) return true;
    diag_error(c->im->d, c->loc,
               "body gives %d outputs, but there are %d states and %d outputs of the node", n_out,
               n_states, c->n_out);
    return false;
}

bool import_scan(Call *c) {
    return scan_fits(c, c->n_in) && finish(c, c->n_in, (int)call_attr(c, "body")->g->n_output);
}

/* ---- Scan before version 9: over batches ----------------------------------------------------- */

enum { MOST_SCAN_BATCHES = 64 };

/* The scan of batch b of all inputs, as version 9 has it. */
static Node *scan_of_batch(Call *c, int64_t b, Value *const *in, int n_in, int n_out) {
    const int64_t *directions;
    Value **own = arena_array(c->im->arena, Value *, n_in);
    for (int i = 0; i < n_in; i++) own[i] = call_op(c, OP_Gather, 2, in[i], call_i64(c, b));
    Node *n = call_node(c, OP_Scan, own, n_in, n_out);
    if (!call_copy_attrs(c, n, "directions")) return NULL;
    int count = call_ints(c, "directions", &directions);
    if (count > 0) node_set_ints(n, "scan_input_directions", directions, count);
    return n;
}

/* Input 0 are lengths, which have to be absent; the others, and the outputs, have a batch axis in
 * front. */
bool import_scan_8(Call *c) {
    int64_t n_batches;
    int n_in = c->n_in - 1, n_out = (int)call_attr(c, "body")->g->n_output;
    if (!scan_fits(c, n_in)) return false;
    bool is_known = shape_dim_int(c->in[1]->shape, 0, &n_batches);
    if (call_in(c, 0) || !is_known || n_batches < 1 || n_batches > MOST_SCAN_BATCHES) {
        diag_unsupported(c->im->d, c->loc,
                         "before version 9 a Scan runs without sequence_lens and with a "
                         "known number of batches, at most %d",
                         MOST_SCAN_BATCHES);
        return false;
    }
    Value ***part = arena_array(c->im->arena, Value **, c->n_out ? c->n_out : 1);
    for (int i = 0; i < c->n_out; i++) part[i] = arena_array(c->im->arena, Value *, n_batches);
    for (int64_t b = 0; b < n_batches; b++) {
        Node *n = scan_of_batch(c, b, c->in + 1, n_in, n_out);
        for (int i = 0; n && i < c->n_out; i++)
            part[i][b] = call_op(c, OP_Unsqueeze, 2, n->out[i], call_list(c, (int64_t[]){0}, 1));
        for (int i = c->n_out; n && i < n_out; i++) n->out[i] = NULL;
        if (!n) return false;
    }
    for (int i = 0; i < c->n_out; i++) {
        Node *all = call_node(c, OP_Concat, part[i], (int)n_batches, 1);
        node_set_int(all, "axis", 0);
        c->out[i] = all->out[0];
    }
    return true;
}
