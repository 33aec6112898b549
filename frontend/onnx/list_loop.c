/* Loops that carry or make lists (list.h).
 *
 *     s = SequenceEmpty()                       y, all, shapes = Loop(n, , x) {
 *     y, t = Loop(n, , x, s) {                    ...
 *       ...                                       return on, y', e, flat(e), shape(e)
 *       t' = SequenceInsert(t, e)               } joined = [2]
 *       return on, y', t'
 *     }
 *
 * An optional is carried as whether it holds something, a bool, and what it holds: while that is
 * nothing, a tensor without elements, an empty list, or what it held before.
 *
 * A sequence that the body only appends one tensor to need not be carried: the tensors leave the
 * loop as outputs, as a stack where inference finds that they have one shape, else flat and joined.
 * All others are carried as flat lists, whose tensors change their size in each iteration. */
#include "frontend/onnx/list.h"

#include <string.h>

#include "frontend/onnx/build.h"

/* ---- what a body makes of one tensor in each iteration --------------------------------------- */

enum { COLLECTED = 3 }; /* outputs for a tensor x: a stack of x, x flat and joined, its shape */

static void list_output(Call *in, Value *v) {
    import_list_output(in->g, in->loc, v, "");
}

static void collect(Call *in, Value *x) {
    list_output(in, x);
    list_output(in, build_reshape(in, x, (int64_t[]){-1}, 1));
    list_output(in, call_op(in, OP_Shape, 1, x));
}

/* Did inference find that x is the same size in all iterations, which `stack` holds? */
static bool is_stackable(Call *c, Value *stack, const Value *x) {
    if (!build_has_shape(c, stack) || x->shape.rank < 0) return false;
    for (int a = 0; a < x->shape.rank; a++)
        if (stack->shape.dims[a + 1] != x->shape.dims[a]) return false;
    return true;
}

/* The list of all x, which outputs `first` and following of the loop are; those that are not needed
 * go. */
static Compound *collected(Call *c, Node *loop, int first, Value *x) {
    Value **out = loop->out + first;
    if (is_stackable(c, out[0], x)) {
        List l = {.form = LIST_STACK, .values = out[0]};
        out[1] = out[2] = NULL;
        return list_create(c->im, x->dtype, l);
    }
    Value *sizes = build_reduce(c, OP_ReduceProd, out[2], (int64_t[]){1}, 1);
    List l = {.form = LIST_FLAT,
              .values = out[1],
              .sizes = build_squeeze(c, sizes, 1),
              .shapes = build_reshape(c, out[2], (int64_t[]){-1}, 1),
              .rank = x->shape.rank,
              .witness = x};
    out[0] = NULL;
    return list_create(c->im, x->dtype, l);
}

/* Of the loop's outputs from `first` on each second one of three is joined. */
static void set_joined(Call *c, Node *loop, int first, int n) {
    int64_t *joined = arena_array(c->im->arena, int64_t, n + 1);
    for (int i = 0; i < n; i++) joined[i] = first + COLLECTED * i + 1;
    if (n) node_set_ints(loop, "joined", joined, n);
}

static Node *make_loop(Call *c, Graph *body, Value *const *in, int n_in) {
    Node *n = call_node(c, OP_Loop, in, n_in, (int)body->outputs.n - 1);
    for (int i = 0; i < n->n_out; i++) n->out[i]->dtype = body->outputs.at[i + 1]->dtype;
    node_set_attr(n, (Attr){.name = "body", .kind = AT_GRAPH, .graph = body});
    return n;
}

/* A body with the inputs that every one has. */
static Graph *make_body(Call *c) {
    Graph *g = graph_create(c->m, c->g, "body");
    Shape scalar = shape_ints(c->m->k, NULL, 0);
    graph_add_input(g, "i", DT_I64, scalar);
    graph_add_input(g, "go", DT_BOOL, scalar);
    return g;
}

/* ---- loops over a count ---------------------------------------------------------------------- */

Call list_open_loop(Call *c, Value **i) {
    Call in = *c;
    in.g = make_body(c);
    *i = in.g->inputs.at[0];
    list_output(&in, in.g->inputs.at[1]);
    return in;
}

static Node *close_loop(Call *c, Call *in, Value *count) {
    Value *const inputs[] = {build_squeeze(c, count, 0), NULL};
    return make_loop(c, in->g, inputs, 2);
}

void list_close_loop(Call *c, Call *in, Value *count, Value *const *x, int n, Compound **lists) {
    for (int k = 0; k < n; k++) collect(in, x[k]);
    Node *loop = close_loop(c, in, count);
    set_joined(c, loop, 0, n);
    for (int k = 0; k < n; k++) lists[k] = collected(c, loop, COLLECTED * k, x[k]);
}

Value *list_join_loop(Call *c, Call *in, Value *count, Value *x) {
    list_output(in, x);
    Node *loop = close_loop(c, in, count);
    node_set_ints(loop, "joined", (int64_t[]){0}, 1);
    return loop->out[0];
}

/* ---- a model's Loop -------------------------------------------------------------------------- */

typedef enum Carry { CARRY_TENSOR, CARRY_LIST, CARRY_APPENDED, CARRY_OPTIONAL } Carry;

typedef struct ListLoop {
    Call *c, in; /* the node, and a call in its body */
    const Onnx__GraphProto *body;
    int n_carried, n_scans;
    Carry *how;
    bool *stays_optional; /* of CARRY_OPTIONAL: the body gives one, too */
    Value **bound;        /* what the names of the body's inputs stand for */
    Value **out;          /* what those of its outputs do */
    ValueList given;      /* the node's inputs */
    VEC(int64_t) open;    /* which of its carried ones are placeholders */
} ListLoop;

/* How often nodes of g and outputs read a name, in graphs of theirs as well. Those nest as deep as
 * the check of the file allows. */
static int count_reads(const Onnx__GraphProto *g, const char *name) {
    int n = 0;
    for (size_t i = 0; name && i < g->n_node; i++) {
        const Onnx__NodeProto *p = g->node[i];
        for (size_t k = 0; k < p->n_input; k++) n += !strcmp(p->input[k], name);
        for (size_t k = 0; k < p->n_attribute; k++)
            if (p->attribute[k]->g) n += count_reads(p->attribute[k]->g, name);
    }
    for (size_t i = 0; name && i < g->n_output; i++)
        n += g->output[i]->name && !strcmp(g->output[i]->name, name);
    return n;
}

/* Is carried value i only given to a SequenceInsert at the end, whose result is the next one? */
static bool is_appended(const Onnx__GraphProto *body, int i) {
    const char *before = body->input[i + 2]->name, *after = body->output[i + 1]->name;
    if (count_reads(body, before) != 1 || count_reads(body, after) != 1) return false;
    for (size_t k = 0; k < body->n_node; k++) {
        const Onnx__NodeProto *p = body->node[k];
        if (strcmp(p->op_type, "SequenceInsert") || strcmp(p->input[0], before)) continue;
        return !strcmp(p->output[0], after) && (p->n_input < 3 || !*p->input[2]);
    }
    return false;
}

/* The rank that v has in all iterations; its dims may change. */
static Shape carried_shape(Call *c, Value *v) {
    if (!build_has_shape(c, v)) return (Shape){.rank = -1};
    Shape s = shape_make(c->m->arena, v->shape.rank);
    for (int a = 0; a < s.rank; a++) {
        KVar *dim = module_computed_symbol(c->m, "carried", k_int(c->m->k, INT64_MAX));
        dim->carried = true;
        s.dims[a] = k_var(c->m->k, dim);
    }
    return s;
}

/* The node gets v, and its body an input in its place. */
static Value *pass(ListLoop *l, Value *v, const char *name) {
    vec_push(l->c->im->arena, &l->given, v);
    return graph_add_input(l->in.g, name, v->dtype, carried_shape(l->c, v));
}

/* What the file says of a body's input, of an optional's content if it is one. */
static const Onnx__TypeProto *declared_content(const ListLoop *l, int i) {
    const Onnx__TypeProto *t = l->body->input[i]->type;
    bool is_optional = t && t->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
    return is_optional ? t->optional_type->elem_type : t;
}

static int known_or_declared_rank(ListLoop *l, const Compound *s, int i) {
    const Onnx__TypeProto *t = declared_content(l, i);
    int rank = list_rank(l->c, s);
    if (rank >= 0 || !t || t->value_case != ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE) return rank;
    t = t->sequence_type->elem_type;
    bool says = t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && t->tensor_type->shape;
    return says ? (int)t->tensor_type->shape->n_dim : -1;
}

static Value *pass_list(ListLoop *l, Compound *s, int i) {
    int rank = known_or_declared_rank(l, s, i);
    s = list_flat(l->c, s);
    ValueList tensors = {0};
    compound_flatten(l->c->im, &s->value, &tensors);
    for (uint32_t k = 0; k < tensors.n; k++) tensors.at[k] = pass(l, tensors.at[k], "");
    List form = *s->list;
    if (form.rank < 0) form.rank = rank;
    return &list_from(l->c->im, s->dtype, form, tensors.at)->value;
}

static Value *untold(const ListLoop *l, int i) {
    diag_unsupported(l->c->im->d, l->c->loc,
                     "input %d, an optional, holds nothing at first, and the type of input %d of "
                     "body does not say which type and rank it may have later",
                     i, i);
    return NULL;
}

/* The tensor of an optional that holds none, as the body declares it; NULL after a message. */
static Value *declared_nothing(ListLoop *l, int i) {
    Call *c = l->c;
    Shape s = {.rank = -1};
    const Onnx__TypeProto *t = declared_content(l, i);
    bool is_tensor = t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    const Onnx__TensorShapeProto *shape = is_tensor ? t->tensor_type->shape : NULL;
    DType dtype = is_tensor ? dtype_from_onnx(t->tensor_type->elem_type) : DT_NONE;
    if (shape && shape->n_dim <= MAX_RANK) s = shape_make(c->m->arena, (int)shape->n_dim);
    for (int a = 0; a < s.rank; a++) {
        bool is_known =
            shape->dim[a]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        int64_t dim = is_known ? shape->dim[a]->dim_value : 0;
        s.dims[a] = k_int(c->m->k, dim < 0 ? 0 : dim);
    }
    bool good = s.rank >= 0 && dtype != DT_NONE;
    return good ? graph_const_zeros(c->g, dtype, s) : untold(l, i);
}

/* The sequence of an optional that holds none; NULL after a message. */
static Value *empty_sequence(ListLoop *l, const Compound *k, int i) {
    const Onnx__TypeProto *t = declared_content(l, i);
    bool says = t && t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
    if (says) t = t->sequence_type->elem_type;
    says = says && t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    DType dtype = k->dtype;
    if (dtype == DT_NONE && says) dtype = dtype_from_onnx(t->tensor_type->elem_type);
    return dtype == DT_NONE ? untold(l, i) : &compound_sequence(l->c->im, dtype, NULL, 0)->value;
}

/* NULL after a message. */
static Value *pass_optional(ListLoop *l, const Compound *k, int i, const char *name) {
    Call *c = l->c;
    const Onnx__TypeProto *t = declared_content(l, i);
    bool of_sequence =
        k->of_sequence || (t && t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE);
    Value *there = pass(l, compound_presence(c->g, k), ""), *content = k->payload;
    if (!content) content = of_sequence ? empty_sequence(l, k, i) : declared_nothing(l, i);
    if (!content) return NULL;
    if (!k->payload && !of_sequence) vec_push(c->im->arena, &l->open, (int64_t)l->given.n - 2);
    content = of_sequence ? pass_list(l, compound_of(content), i) : pass(l, content, name);
    if (!content) return NULL;
    Compound *inner = compound_optional(c->im, k->dtype, content);
    inner->presence = there;
    return &inner->value;
}

static Carry how_carried(const ListLoop *l, const Compound *k, int i) {
    if (!k) return CARRY_TENSOR;
    if (k->value.type == VT_OPTIONAL) return CARRY_OPTIONAL;
    return is_appended(l->body, i) ? CARRY_APPENDED : CARRY_LIST;
}

static bool bind_inputs(ListLoop *l) {
    Call *c = l->c;
    for (int i = 0; i < 2; i++) {
        vec_push(c->im->arena, &l->given, call_in(c, i));
        l->bound[i] = l->in.g->inputs.at[i];
    }
    for (int i = 0; i < l->n_carried; i++) {
        Compound *s = compound_of(c->in[i + 2]);
        l->how[i] = how_carried(l, s, i);
        const char *name = intern(l->body->input[i + 2]->name);
        if (l->how[i] == CARRY_APPENDED)
            l->bound[i + 2] = &compound_sequence(c->im, s->dtype, NULL, 0)->value;
        else if (l->how[i] == CARRY_OPTIONAL)
            l->bound[i + 2] = pass_optional(l, s, i + 2, name);
        else
            l->bound[i + 2] = s ? pass_list(l, s, i + 2) : pass(l, c->in[i + 2], name);
        if (!l->bound[i + 2]) return false;
    }
    return true;
}

static bool fits(ListLoop *l, int i, Value *v) {
    static const char *const word[] = {"a tensor", "a sequence", "a sequence"};
    Compound *k = compound_of(v);
    Carry how = i < l->n_carried ? l->how[i] : CARRY_TENSOR;
    if (how == CARRY_OPTIONAL) return true;
    ValueType wanted = how == CARRY_TENSOR ? VT_TENSOR : VT_SEQUENCE;
    if ((k ? k->value.type : VT_TENSOR) == wanted) return true;
    diag_unsupported(l->c->im->d, l->c->loc, "output %d of body has to be %s", i + 1, word[how]);
    return false;
}

/* A flat list's tensors; the list. */
static Value *output_list(ListLoop *l, Compound *s) {
    s = list_flat(&l->in, s);
    ValueList tensors = {0};
    compound_flatten(l->c->im, &s->value, &tensors);
    for (uint32_t k = 0; k < tensors.n; k++) list_output(&l->in, tensors.at[k]);
    return &s->value;
}

/* What holds nothing goes on with what it had, and what is no optional is one that holds it. NULL
 * after a message. */
static Value *output_optional(ListLoop *l, int i, Value *v) {
    Import *im = l->c->im;
    Compound *before = compound_of(l->bound[i + 2]), *k = compound_of(v);
    if (!k || k->value.type != VT_OPTIONAL)
        k = compound_optional(im, before->dtype, v);
    else
        l->stays_optional[i] = true;
    Value *content = k->payload ? k->payload : before->payload;
    if (!compound_of(content) != !compound_of(before->payload)) {
        diag_unsupported(im->d, l->c->loc, "output %d of body is an optional of another type",
                         i + 1);
        return NULL;
    }
    list_output(&l->in, compound_presence(l->in.g, k));
    if (compound_of(content))
        content = output_list(l, compound_of(content));
    else
        list_output(&l->in, content);
    return &compound_optional(im, k->dtype, content)->value;
}

/* The body's outputs: condition, what is carried, slices, what is collected. */
static bool list_outputs(ListLoop *l) {
    list_output(&l->in, l->out[0]);
    for (int i = 0; i < l->n_carried + l->n_scans; i++) {
        Value *v = l->out[i + 1];
        if (!fits(l, i, v)) return false;
        if (i >= l->n_carried || l->how[i] == CARRY_TENSOR) list_output(&l->in, v);
        if (i < l->n_carried && l->how[i] == CARRY_LIST)
            l->out[i + 1] = output_list(l, compound_of(v));
        if (i < l->n_carried && l->how[i] == CARRY_OPTIONAL)
            l->out[i + 1] = output_optional(l, i, v);
        if (!l->out[i + 1]) return false;
    }
    for (int i = 0; i < l->n_carried; i++)
        if (l->how[i] == CARRY_APPENDED) collect(&l->in, compound_of(l->out[i + 1])->items[0]);
    return true;
}

static void set_result(ListLoop *l, int i, Value *v) {
    if (i < l->c->n_out) l->c->out[i] = v;
}

/* The list that the loop's outputs from `at` on are. */
static Value *take_list(const Call *c, Value *before, Value *after, Value **at) {
    const Compound *b = compound_of(before), *a = compound_of(after);
    return &list_from(c->im, a->dtype, list_either(b->list, a->list), at)->value;
}

/* Returns how many outputs it took. */
static int take_optional(const Call *c, Value *before, Value *after, Value **at, Value **result) {
    Compound *b = compound_of(before), *a = compound_of(after);
    bool is_list = compound_of(b->payload) != NULL;
    Value *content = is_list ? take_list(c, b->payload, a->payload, at + 1) : at[1];
    Compound *k = compound_optional(c->im, a->dtype, content);
    k->presence = at[0];
    *result = &k->value;
    return 1 + (is_list ? COLLECTED : 1);
}

static void take_results(ListLoop *l, Node *n, int first_collected) {
    Call *c = l->c;
    int at = 0, next = first_collected;
    for (int i = 0; i < l->n_carried + l->n_scans; i++) {
        Compound *before = i < l->n_carried ? compound_of(l->bound[i + 2]) : NULL;
        if (before && l->how[i] == CARRY_LIST) {
            set_result(l, i, take_list(c, &before->value, l->out[i + 1], n->out + at));
            at += COLLECTED;
        } else if (before && l->how[i] == CARRY_OPTIONAL) {
            Value *optional;
            at += take_optional(c, &before->value, l->out[i + 1], n->out + at, &optional);
            set_result(l, i, l->stays_optional[i] ? optional : compound_of(optional)->payload);
        } else if (!before) {
            set_result(l, i, n->out[at]);
            if (i >= c->n_out || !call_wants(c, i)) n->out[at] = NULL;
            at++;
        }
    }
    for (int i = 0; i < l->n_carried; i++) {
        if (l->how[i] != CARRY_APPENDED) continue;
        Value *x = compound_of(l->out[i + 1])->items[0];
        Compound *s = collected(c, n, next, x);
        set_result(l, i, &list_join(c, compound_of(c->in[i + 2]), s)->value);
        next += COLLECTED;
    }
}

bool list_import_loop(Call *c) {
    const Onnx__GraphProto *body = call_attr(c, "body")->g;
    Arena *a = c->im->arena;
    ListLoop l = {.c = c, .in = *c, .body = body, .n_carried = (int)body->n_input - 2};
    l.n_scans = (int)body->n_output - 1 - l.n_carried;
    l.how = arena_array(a, Carry, l.n_carried + 1);
    l.stays_optional = arena_array(a, bool, l.n_carried + 1);
    l.bound = arena_array(a, Value *, body->n_input);
    l.out = arena_array(a, Value *, body->n_output);
    l.in.g = make_body(c);
    if (!bind_inputs(&l) ||
        !import_body(c, l.in.g, "body", body, l.bound, (int)body->n_input, l.out) ||
        !list_outputs(&l))
        return false;
    int n_collected = 0;
    for (int i = 0; i < l.n_carried; i++) n_collected += l.how[i] == CARRY_APPENDED;
    Node *n = make_loop(c, l.in.g, l.given.at, (int)l.given.n);
    int first = n->n_out - COLLECTED * n_collected;
    set_joined(c, n, first, n_collected);
    if (l.open.n) node_set_ints(n, "open", l.open.at, l.open.n);
    take_results(&l, n, first);
    return true;
}
