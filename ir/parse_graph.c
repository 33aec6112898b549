/* The graph level of IR text. See print_graph.c for the form and IR.md for the rules. */
#include <string.h>

#include "ir/parse_text.h"
#include "ir/support/map.h"

/* ---- values ---------------------------------------------------------------------------------- */

static const char *value_key(Parse *p, const Token *t) {
    return arena_printf(p->a, "%u~%s", (unsigned)t->number, t->text);
}

static bool sees(const Graph *g, const Value *v) {
    while (g && g != v->graph) g = g->parent;
    return g != NULL;
}

/* A use: the value of this name that g can see; NULL for _ and after a message. */
static Value *use(Parse *p, const Graph *g) {
    if (parse_accept(p, "_")) return NULL;
    if (p->tok.kind != T_VALUE) {
        parse_fail(p, "expected a value");
        return NULL;
    }
    Value *v = strmap_get(p->values, value_key(p, &p->tok));
    if (!v)
        parse_fail(p, "value '%s' is not defined here", p->tok.text);
    else if (!sees(g, v))
        parse_fail(p, "value '%s' belongs to another graph", p->tok.text);
    parse_next(p);
    return p->failed ? NULL : v;
}

/* A defined name, to be entered with define(). */
static Token new_name(Parse *p) {
    Token t = p->tok;
    if (t.kind != T_VALUE)
        parse_fail(p, "expected a value's name");
    else if (strmap_get(p->values, value_key(p, &t)))
        parse_fail(p, "value '%s' is defined twice", t.text);
    parse_next(p);
    return t;
}

static void define(Parse *p, const Token *t, Value *v) {
    if (p->failed) return;
    v->name = t->text;
    strmap_put(p->values, value_key(p, t), v);
}

/* ---- types ----------------------------------------------------------------------------------- */

typedef struct Type {
    ValueType type;
    DType dtype;
    Shape shape;
    const KExpr **content;
} Type;

static void parse_shape(Parse *p, Type *t) {
    const KExpr *dims[MAX_RANK];
    t->shape.rank = -1;
    if (p->at[0] == '.' && p->at[1] == '.' && p->at[2] == '.') { /* [...]: rank not known yet */
        parse_expect(p, "[");
        parse_expect(p, "..");
        parse_expect(p, ".");
        parse_expect(p, "]");
        return;
    }
    int rank = parse_dims(p, dims, MAX_RANK);
    if (p->failed) return;
    t->shape = shape_make(p->m->arena, rank);
    for (int i = 0; i < rank; i++) t->shape.dims[i] = dims[i];
}

/* is (a, b): what is known of the elements. */
static void parse_content(Parse *p, Type *t) {
    int64_t n;
    parse_expect(p, "(");
    if (!shape_count_int(t->shape, &n) || n > MAX_CONTENT)
        parse_fail(p, "too many elements to be known");
    if (p->failed) return;
    t->content = arena_array(p->m->arena, const KExpr *, n + 1);
    for (int64_t i = 0; i < n && !p->failed; i++) {
        if (i) parse_expect(p, ",");
        if (!parse_accept(p, "?")) t->content[i] = parse_typed(p, DT_I64);
    }
    parse_expect(p, ")");
}

/* ": f32[2, n]", or nothing before inference. */
static Type parse_type(Parse *p) {
    Type t = {.shape.rank = -1};
    if (!parse_accept(p, ":")) return t;
    if (parse_accept(p, "sequence"))
        t.type = VT_SEQUENCE;
    else if (parse_accept(p, "optional"))
        t.type = VT_OPTIONAL;
    if (!parse_accept(p, "none")) t.dtype = parse_dtype(p);
    parse_shape(p, &t);
    if (t.dtype == DT_NONE && t.shape.rank >= 0) parse_fail(p, "a shape without dtype");
    if (!p->tok.starts_line && parse_accept(p, "is")) parse_content(p, &t);
    return t;
}

static void set_type(Value *v, const Type *t) {
    v->type = t->type;
    v->dtype = t->dtype;
    v->shape = t->shape;
    v->content = t->content;
}

/* "dtype[shape] = data" as a constant of g. */
static Value *parse_constant(Parse *p, Graph *g, const char *name, const Type *t) {
    int64_t n = 0;
    uint64_t n_bytes = 0;
    if (!p->failed && (t->dtype == DT_NONE || !shape_count_int(t->shape, &n)))
        parse_fail(p, "a constant has a fixed type");
    if (p->failed) return NULL;
    const void *data = parse_data(p, t->dtype, n, &n_bytes);
    return p->failed ? NULL : graph_add_const(g, name, t->dtype, t->shape, data, n_bytes);
}

static void const_line(Parse *p, Graph *g) {
    Token name = new_name(p);
    Type t = parse_type(p);
    Value *v = parse_constant(p, g, name.text, &t);
    define(p, &name, v);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void parse_body(Parse *p, Graph *g);

static double attr_number(Parse *p) {
    bool negative = parse_accept(p, "-");
    double v = 0;
    size_t n;
    if (parse_accept(p, "inf"))
        v = 1e300 * 1e300;
    else if (parse_accept(p, "nan"))
        v = __builtin_nan("");
    else if (p->tok.kind != T_NUMBER)
        parse_fail(p, "expected a number");
    else {
        v = parse_double(parse_suffix(p->tok.text, &n), p->tok.text, strlen(p->tok.text));
        parse_next(p);
    }
    return negative ? -v : v;
}

/* Which list starts here: by its word, else by its first element. */
static AttrKind list_kind(Parse *p) {
    bool negative = parse_is(p, "-");
    if (p->tok.kind == T_STRING) return AT_STRINGS;
    if (parse_is(p, "inf") || parse_is(p, "nan") || (negative && !strncmp(p->at, "inf", 3)))
        return AT_FLOATS;
    if (!negative) return parse_is_float(p->tok.text) ? AT_FLOATS : AT_INTS;
    size_t n = strspn(p->at, "0123456789");
    return p->at[n] == '.' || p->at[n] == 'e' ? AT_FLOATS : AT_INTS;
}

static void parse_list(Parse *p, Attr *a) {
    VEC(int64_t) ints = {0};
    VEC(double) floats = {0};
    VEC(const char *) strings = {0};
    if (parse_accept(p, "ints"))
        a->kind = AT_INTS;
    else if (parse_accept(p, "floats"))
        a->kind = AT_FLOATS;
    else if (parse_accept(p, "strings"))
        a->kind = AT_STRINGS;
    parse_expect(p, "[");
    if (a->kind == AT_NONE) a->kind = list_kind(p);
    while (!p->failed && !parse_is(p, "]")) {
        if (a->n && !parse_expect(p, ",")) break;
        if (a->kind == AT_INTS)
            vec_push(p->a, &ints, parse_int(p, "an integer"));
        else if (a->kind == AT_FLOATS)
            vec_push(p->a, &floats, attr_number(p));
        else
            vec_push(p->a, &strings, parse_string(p, "a text"));
        a->n++;
    }
    parse_expect(p, "]");
    a->ints = ints.at;
    a->floats = floats.at;
    a->strings = strings.at;
}

static void parse_attr(Parse *p, Node *n) {
    Attr a = {.name = p->tok.kind == T_STRING ? parse_string(p, "a name")
                                              : parse_word(p, "an attribute's name")};
    parse_expect(p, "=");
    bool is_minus = parse_is(p, "-");
    if (!p->failed && node_attr(n, a.name)) parse_fail(p, "attribute '%s' is given twice", a.name);
    if (parse_is(p, "[") || parse_is(p, "ints") || parse_is(p, "floats") ||
        parse_is(p, "strings")) {
        parse_list(p, &a);
    } else if (p->tok.kind == T_STRING) {
        a.kind = AT_STRING;
        a.s = parse_string(p, "a text");
    } else if (parse_accept(p, "tensor")) {
        Type t = {.dtype = parse_dtype(p)};
        parse_shape(p, &t);
        a.kind = AT_TENSOR;
        a.tensor = parse_constant(p, n->graph, "", &t);
    } else if (parse_accept(p, "graph")) {
        a.kind = AT_GRAPH;
        a.graph = graph_create(p->m, n->graph, "");
        parse_body(p, a.graph);
    } else if (is_minus || p->tok.kind == T_NUMBER || p->tok.kind == T_WORD) {
        a.kind = list_kind(p) == AT_FLOATS ? AT_FLOAT : AT_INT;
        if (a.kind == AT_FLOAT)
            a.f = attr_number(p);
        else
            a.i = parse_int(p, "an attribute's value");
    } else {
        parse_fail(p, "expected an attribute's value");
    }
    if (!p->failed) node_set_attr(n, a);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static OpId op_named(const char *name) {
    for (int op = 1; op < OP_COUNT; op++)
        if (!strcmp(op_info[op].name, name)) return (OpId)op;
    return OP_NONE;
}

static void check_counts(Parse *p, OpId op, int n_in, int n_out) {
    const OpInfo *o = &op_info[op];
    if (n_in < o->in_lo || (o->in_hi >= 0 && n_in > o->in_hi))
        parse_fail(p, "%s has %d inputs", o->name, n_in);
    else if (o->n_out >= 0 && n_out > o->n_out)
        parse_fail(p, "%s has %d outputs", o->name, n_out);
}

enum { MAX_NODE_VALUES = 65536 };

/* outputs = Op(inputs) {attributes} "model's node" */
static void parse_node(Parse *p, Graph *g) {
    VEC(Token) outs = {0};
    VEC(Type) types = {0};
    VEC(Value *) in = {0};
    do {
        Token name = {.kind = T_END};
        Type type = {.shape.rank = -1};
        if (!parse_accept(p, "_")) {
            name = new_name(p);
            type = parse_type(p);
        }
        vec_push(p->a, &outs, name);
        vec_push(p->a, &types, type);
    } while (parse_accept(p, ",") && outs.n < MAX_NODE_VALUES);
    parse_expect(p, "=");
    OpId op = op_named(p->tok.text);
    if (op == OP_NONE) parse_fail(p, "no operator is called '%s'", p->tok.text);
    parse_word(p, "an operator");
    parse_expect(p, "(");
    while (!p->failed && !parse_is(p, ")") && in.n < MAX_NODE_VALUES) {
        if (in.n && !parse_expect(p, ",")) break;
        Value *v = use(p, g);
        vec_push(p->a, &in, v);
    }
    parse_expect(p, ")");
    if (!p->failed) check_counts(p, op, (int)in.n, (int)outs.n);
    if (p->failed) return;
    Node *n = graph_add_node(g, NULL, op, in.at, (int)in.n, (int)outs.n, SRC_NOWHERE);
    n->loc.op = op_info[op].name;
    if (!p->tok.starts_line && parse_accept(p, "{")) {
        do parse_attr(p, n);
        while (parse_accept(p, ","));
        parse_expect(p, "}");
    }
    if (p->tok.kind == T_STRING && !p->tok.starts_line) n->loc.node = parse_string(p, "a name");
    for (uint32_t i = 0; i < outs.n; i++) {
        set_type(n->out[i], &types.at[i]);
        if (outs.at[i].kind == T_END)
            n->out[i] = NULL;
        else
            define(p, &outs.at[i], n->out[i]);
    }
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static void parse_return(Parse *p, Graph *g) {
    if (parse_is(p, "}")) return;
    do {
        Value *v = use(p, g);
        if (!v)
            parse_fail(p, "an output is missing");
        else if (v->graph != g || v->is_output)
            parse_fail(p, "'%s' cannot be an output here", v->name);
        else
            graph_add_output(g, v);
    } while (parse_accept(p, ","));
}

/* name { inputs; constants and nodes; return } */
static void parse_body(Parse *p, Graph *g) {
    if (p->nesting >= PARSE_NEST / 2) {
        parse_fail(p, "graphs nest too deeply");
        return;
    }
    p->nesting += 4;
    g->name = p->tok.kind == T_STRING ? parse_string(p, "a name")
              : p->tok.kind == T_WORD ? parse_word(p, "a name")
                                      : "";
    parse_expect(p, "{");
    for (bool done = false; !p->failed && !done;) {
        parse_lines(p);
        if (parse_accept(p, "input")) {
            Token name = new_name(p);
            Type t = parse_type(p);
            bool is_typed = t.type != VT_TENSOR || t.shape.rank >= 0;
            if (!is_typed && !g->parent) parse_fail(p, "input '%s' has no type", name.text);
            if (p->failed) break;
            Value *v = graph_add_input(g, name.text, t.dtype, t.shape);
            set_type(v, &t);
            define(p, &name, v);
        } else if (parse_accept(p, "const")) {
            const_line(p, g);
        } else if (parse_accept(p, "return")) {
            parse_return(p, g);
            done = true;
        } else {
            parse_node(p, g);
        }
    }
    parse_expect(p, "}");
    p->nesting -= 4;
}

static bool needs_inference(const Graph *g) {
    for (const Node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] && n->out[i]->shape.rank < 0) return true;
    for (uint32_t i = 0; i < g->inputs.n; i++)
        if (g->inputs.at[i]->shape.rank < 0) return true;
    return false;
}

static void note_untyped(Graph *g, void *user) {
    if (needs_inference(g)) *(bool *)user = true;
}

void parse_graph_level(Parse *p) {
    bool is_untyped = false;
    p->m->name = parse_string(p, "the module's name");
    parse_expect(p, "{");
    while (parse_is(p, "symbol") || parse_is(p, "size")) {
        bool computed = parse_is(p, "size");
        parse_next(p);
        parse_symbol(p, computed);
    }
    parse_body(p, p->m->main);
    parse_expect(p, "}");
    graph_visit(p->m->main, note_untyped, &is_untyped);
    p->m->facts = is_untyped ? FACT_NONE : FACT_SHAPES;
}
