/* Compounds (see compound.h): what they are made of, what is known of values while importing, and
 * choices between them. */
#include "frontend/onnx/compound.h"

#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/list.h"

Compound *compound_of(Value *v) {
    return v && v->type != VT_TENSOR ? (Compound *)(void *)v : NULL;
}

static Compound *new_compound(Import *im, ValueType type, DType t) {
    Compound *k = arena_new(im->arena, Compound);
    k->value.type = type;
    k->value.name = "";
    k->value.shape.rank = -1;
    k->dtype = t;
    return k;
}

Compound *compound_sequence(Import *im, DType t, Value *const *items, int n) {
    Compound *k = new_compound(im, VT_SEQUENCE, t);
    k->items = arena_array(im->arena, Value *, n);
    k->n_items = n;
    for (int i = 0; i < n; i++) k->items[i] = items[i];
    if (n && items[0]->dtype != DT_NONE) k->dtype = items[0]->dtype;
    return k;
}

Compound *compound_optional(Import *im, DType t, Value *payload) {
    Compound *k = new_compound(im, VT_OPTIONAL, t), *inner = compound_of(payload);
    k->payload = payload;
    if (payload) k->dtype = inner ? inner->dtype : payload->dtype;
    k->of_sequence = inner != NULL;
    return k;
}

bool compound_is_taken(const OnnxOp *row) {
    static Importer *const takers[] = {
        import_identity,     import_loop,
        import_sequence_at,  import_sequence_insert,
        import_sequence_map, import_sequence_erase,
        import_optional,     import_sequence_length,
        import_optional_get, import_concat_from_sequence,
        import_optional_has,
    };
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
        if (row->import == takers[i]) return true;
    return false;
}

void compound_flatten(Import *im, Value *v, ValueList *list) {
    Compound *k = compound_of(v);
    if (!v) return;
    if (!k) {
        vec_push(im->arena, list, v);
        return;
    }
    if (k->presence) vec_push(im->arena, list, k->presence);
    compound_flatten(im, k->payload, list);
    Value *const parts[] = {k->list ? k->list->values : NULL, k->list ? k->list->sizes : NULL,
                            k->list ? k->list->shapes : NULL};
    for (int i = 0; k->list && i < list_n_tensors(k->list->form); i++)
        vec_push(im->arena, list, parts[i]);
    for (int i = 0; i < k->n_items; i++) vec_push(im->arena, list, k->items[i]);
}

/* ---- what is known --------------------------------------------------------------------------- */

bool known_ints(Call *c, Value *v, int64_t *out, int cap, int *n) {
    if (!v || compound_of(v) || !build_has_shape(c, v)) return false;
    return value_ints(c->m, v, out, cap, n);
}

static int input_index(const Import *im, const Value *v) {
    for (uint32_t i = 0; i < im->m->in_groups.n; i++) {
        const IoGroup *g = &im->m->in_groups.at[i];
        if (g->kind == GROUP_TENSOR && im->m->main->inputs.at[g->first] == v) return (int)i;
    }
    return -1;
}

static bool data_int(const Import *im, const Value *v, int64_t *out) {
    int i = im->o->data_value ? input_index(im, v) : -1;
    return i >= 0 && im->o->data_value(im->o->data_user, i, v->name, out);
}

/* Conditions are followed through the operators that they are usually made of. */
bool known_int(Call *c, Value *v, bool from_data, int64_t *out) {
    int64_t a, b;
    int n;
    bool flip = false, known = false;
    while (v && !compound_of(v) && v->def && (v->def->op == OP_Identity || v->def->op == OP_Not)) {
        flip ^= v->def->op == OP_Not;
        v = v->def->in[0];
    }
    if (!v || compound_of(v)) return false;
    const Node *d = v->def;
    if (d && (d->op == OP_And || d->op == OP_Or)) {
        bool has_a = known_int(c, d->in[0], from_data, &a);
        bool has_b = known_int(c, d->in[1], from_data, &b);
        int64_t decides = d->op == OP_Or;
        known = (has_a && has_b) || (has_a && a == decides) || (has_b && b == decides);
        if (known) a = (has_a && a == decides) || (has_b && b == decides) ? decides : !decides;
    } else {
        known = (known_ints(c, v, &a, 1, &n) && n == 1) || (from_data && data_int(c->im, v, &a));
    }
    if (known) *out = flip ? !a : a;
    return known;
}

/* ---- choices --------------------------------------------------------------------------------- */

static bool same_shape(Call *c, Value *a, Value *b) {
    return build_has_shape(c, a) && build_has_shape(c, b) && a->dtype == b->dtype &&
           shape_equal(a->shape, b->shape);
}

static Graph *choice_branch(Call *c, const char *name, Value *v) {
    Graph *g = graph_create(c->m, c->g, name);
    import_list_output(g, c->loc, v, v->name);
    return g;
}

Value *build_choice(Call *c, Value *cond, Value *a, Value *b) {
    if (a == b) return a;
    if (same_shape(c, a, b)) return build_where(c, cond, a, b);
    Node *n = call_node(c, OP_If, &cond, 1, 1);
    Graph *yes = choice_branch(c, "then_branch", a), *no = choice_branch(c, "else_branch", b);
    node_set_attr(n, (Attr){.name = "then_branch", .kind = AT_GRAPH, .graph = yes});
    node_set_attr(n, (Attr){.name = "else_branch", .kind = AT_GRAPH, .graph = no});
    n->out[0]->dtype = a->dtype;
    return n->out[0];
}

/* ---- If -------------------------------------------------------------------------------------- */

/* Both branches' outputs as tensors, position by position. */
typedef struct Join {
    Call *c;
    Graph *const *g;
    ValueList list[2];
} Join;

static void join_push(Join *j, Value *a, Value *b) {
    vec_push(j->c->im->arena, &j->list[0], a);
    vec_push(j->c->im->arena, &j->list[1], b);
}

static bool cannot_join(Join *j, const char *why) {
    diag_unsupported(j->c->im->d, j->c->loc,
                     "the branches give %s, and the condition is not known at compile time", why);
    return false;
}

/* The optionals a and b, of which one holds nothing: the other's payload beside zeros. */
static bool join_absent(Join *j, Value *payload, int side) {
    ValueList there = {0};
    compound_flatten(j->c->im, payload, &there);
    for (uint32_t i = 0; i < there.n; i++) {
        const Value *v = there.at[i];
        if (!build_has_shape(j->c, there.at[i]))
            return cannot_join(j, "an optional of a rank that is found while running, or none");
        Value *zeros = graph_const_zeros(j->g[!side], v->dtype, v->shape);
        join_push(j, side ? zeros : there.at[i], side ? there.at[i] : zeros);
    }
    return true;
}

Value *compound_presence(Graph *g, const Compound *k) {
    return k->presence ? k->presence : graph_const_scalar(g, DT_BOOL, k->payload != NULL);
}

static bool join(Join *j, Value *a, Value *b) {
    Compound *x = compound_of(a), *y = compound_of(b);
    if (!x && !y) {
        join_push(j, a, b);
        return true;
    }
    if (!x || !y || x->value.type != y->value.type)
        return cannot_join(j, "values of different kinds");
    if (x->value.type == VT_SEQUENCE) { /* of one length or form: see match() */
        compound_flatten(j->c->im, a, &j->list[0]);
        compound_flatten(j->c->im, b, &j->list[1]);
        return true;
    }
    bool certain = !x->presence && !y->presence && !x->payload == !y->payload;
    if (!certain) join_push(j, compound_presence(j->g[0], x), compound_presence(j->g[1], y));
    if (x->payload && y->payload) return join(j, x->payload, y->payload);
    if (!x->payload && !y->payload) return true;
    return join_absent(j, x->payload ? x->payload : y->payload, x->payload ? 0 : 1);
}

/* What a and b became, from the joined node's outputs on. */
static Value *rebuild(Call *c, Value *a, Value *b, Value ***out) {
    Compound *x = compound_of(a), *y = compound_of(b);
    if (!x && !y) return *(*out)++;
    if (x->value.type == VT_SEQUENCE) {
        Compound *k = x->list ? list_from(c->im, x->dtype, list_either(x->list, y->list), *out)
                              : compound_sequence(c->im, x->dtype, *out, x->n_items);
        *out += x->list ? list_n_tensors(x->list->form) : x->n_items;
        return &k->value;
    }
    bool certain = !x->presence && !y->presence && !x->payload == !y->payload;
    Value *presence = certain ? NULL : *(*out)++;
    Value *p = x->payload ? x->payload : y->payload, *q = y->payload ? y->payload : x->payload;
    Value *payload = p ? rebuild(c, p, q, out) : NULL;
    Compound *k = compound_optional(c->im, x->dtype, payload);
    k->presence = presence;
    k->of_sequence = x->of_sequence || y->of_sequence;
    return &k->value;
}

/* Sequences in a and b that have not one known length become lists of one form. */
static void match(Call in[2], Value **a, Value **b) {
    Compound *x = compound_of(*a), *y = compound_of(*b);
    if (!x || !y || x->value.type != y->value.type) return;
    if (x->value.type == VT_OPTIONAL) {
        x = arena_copy(in->im->arena, x, sizeof *x);
        y = arena_copy(in->im->arena, y, sizeof *y);
        match(in, &x->payload, &y->payload);
    } else if (x->list || y->list || x->n_items != y->n_items) {
        if (x->dtype == DT_NONE) x->dtype = y->dtype;
        if (y->dtype == DT_NONE) y->dtype = x->dtype;
        list_match(&in[0], &x, &in[1], &y);
    }
    *a = &x->value;
    *b = &y->value;
}

bool import_if_compound(Call *c, Graph *const g[2], Value **const out[2], int n) {
    Join j = {.c = c, .g = g};
    Call in[2] = {*c, *c};
    for (int i = 0; i < 2; i++) in[i].g = g[i];
    for (int i = 0; i < n; i++) match(in, &out[0][i], &out[1][i]);
    for (int i = 0; i < n; i++)
        if (!join(&j, out[0][i], out[1][i])) return false;
    Node *node = call_node(c, OP_If, c->in, 1, (int)j.list[0].n);
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < j.list[side].n; i++)
            import_list_output(g[side], c->loc, j.list[side].at[i], "");
    node_set_attr(node, (Attr){.name = "then_branch", .kind = AT_GRAPH, .graph = g[0]});
    node_set_attr(node, (Attr){.name = "else_branch", .kind = AT_GRAPH, .graph = g[1]});
    for (uint32_t i = 0; i < j.list[0].n; i++) node->out[i]->dtype = j.list[0].at[i]->dtype;
    Value **at = node->out;
    for (int i = 0; i < n; i++) {
        Value *v = rebuild(c, out[0][i], out[1][i], &at);
        if (i < c->n_out) c->out[i] = v;
    }
    return true;
}

/* ---- Loop ------------------------------------------------------------------------------------ */

static bool trip_count(Call *c, bool from_data, int64_t *n) {
    int64_t go = 1;
    *n = INT64_MAX;
    if (call_in(c, 1) && !known_int(c, c->in[1], from_data, &go)) return false;
    if (call_in(c, 0) && !known_int(c, c->in[0], from_data, n)) return false;
    if (!go || *n < 0) *n = 0;
    return true;
}

static const Onnx__NodeProto *maker(const Onnx__GraphProto *p, const char *name) {
    for (size_t i = 0; i < p->n_node; i++)
        for (size_t k = 0; k < p->node[i]->n_output; k++)
            if (!strcmp(p->node[i]->output[k], name)) return p->node[i];
    return NULL;
}

/* Does the body hand its condition through, or give a constant? */
static bool goes_on(const Onnx__GraphProto *body) {
    const char *name = body->output[0]->name;
    const Onnx__NodeProto *n = maker(body, name);
    for (size_t i = 0; n && !strcmp(n->op_type, "Identity") && i < body->n_node; i++)
        n = maker(body, name = n->input[0]);
    return n ? !strcmp(n->op_type, "Constant") : !strcmp(name, body->input[1]->name);
}

static bool carries_optionals(Call *c) {
    for (int i = 2; i < c->n_in; i++) {
        Compound *k = compound_of(c->in[i]);
        if (k && k->value.type == VT_OPTIONAL) return true;
    }
    return false;
}

/* The scan output of these elements. */
static Value *stack(Call *c, ValueList *v) {
    for (uint32_t i = 0; i < v->n; i++) {
        if (compound_of(v->at[i])) return NULL;
        v->at[i] = build_unsqueeze(c, v->at[i], 0);
    }
    return v->n ? build_concat(c, v->at, (int)v->n, 0) : NULL;
}

static bool finish_unrolled(Call *c, Value **state, int carried, ValueList *scans) {
    for (int i = 0; i < c->n_out; i++) {
        c->out[i] = i < carried ? state[i] : stack(c, &scans[i - carried]);
        if (c->out[i]) continue;
        diag_unsupported(c->im->d, c->loc,
                         "scan output %d of a loop that carries a sequence holds no tensors",
                         i - carried);
        return false;
    }
    return true;
}

bool import_loop_compound(Call *c) {
    const Onnx__GraphProto *body = call_attr(c, "body")->g;
    Arena *a = c->im->arena;
    int n_in = (int)body->n_input, n_out = (int)body->n_output, carried = n_in - 2;
    int64_t trips, go = 1;
    /* Data tell how often where a list could not hold what an optional sequence becomes: tensors of
     * several ranks. */
    if (!trip_count(c, carries_optionals(c), &trips) || trips > UNROLL_MAX ||
        (trips && !goes_on(body)))
        return list_import_loop(c);
    Value **in = arena_array(a, Value *, n_in), **out = arena_array(a, Value *, n_out);
    ValueList *scans = arena_array(a, ValueList, n_out);
    for (int i = 2; i < n_in; i++) in[i] = c->in[i];
    for (int64_t k = 0; k < trips && go; k++) {
        in[0] = call_i64(c, k);
        in[1] = graph_const_scalar(c->g, DT_BOOL, 1);
        if (!import_body(c, c->g, "body", body, in, n_in, out)) return false;
        if (!known_int(c, out[0], false, &go)) go = 1; /* it goes on: a constant */
        for (int i = 0; i < carried; i++) in[i + 2] = out[i + 1];
        for (int i = carried + 1; i < n_out; i++) vec_push(a, &scans[i - carried - 1], out[i]);
    }
    return finish_unrolled(c, in + 2, carried, scans);
}
