/* The graph level as text.
 *
 *     graph "net" {
 *       symbol n [1, 2147483647]
 *       main {
 *         input %x: f32[n, 3, 8, 8]
 *         const %w: f32[4, 3, 3, 3] = @0123456789abcdef
 *         %y: f32[n, 4, 6, 6] = Conv(%x, %w) {group = 1, pads = [0, 0, 0, 0]} "conv_1"
 *         return %y
 *       }
 *     }
 *
 * Values without a name are numbered; the second value of one name is %name~2. A constant stands in
 * front of the first node that uses it, in the graph that holds it. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/print.h"
#include "ir/print_text.h"

typedef struct GraphText {
    Text t;
    TextMap number;  /* Value to what tells it from others of its name */
    StrMap *n_named; /* name to how many values have it so far */
} GraphText;

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_plain(const char *name) {
    if (!*name || isdigit((unsigned char)*name)) return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("_./-", *p)) return false;
    return true;
}

static void number_value(GraphText *g, const Value *v) {
    uintptr_t n = (uintptr_t)strmap_get(g->n_named, v->name) + 1;
    strmap_put(g->n_named, v->name, (void *)n);
    textmap_put(&g->number, v, (void *)n);
}

/* %conv1, %conv1~2, %"a name with blanks", %0 (no name); ? behind it when it was not defined above.
 */
static void value_name(GraphText *g, const Value *v) {
    StrBuf *out = g->t.out;
    uintptr_t number = (uintptr_t)textmap_get(&g->number, v);
    strbuf_add(out, "%");
    if (!*v->name) {
        strbuf_printf(out, "%" PRIuPTR, number ? number - 1 : (uintptr_t)v->id);
    } else {
        if (is_plain(v->name))
            strbuf_add(out, v->name);
        else
            text_quoted(&g->t, v->name);
        if (number > 1) strbuf_printf(out, "~%" PRIuPTR, number);
    }
    if (!number) strbuf_add(out, "?");
}

static void shape_of(GraphText *g, const Value *v) {
    if (v->shape.rank < 0) {
        strbuf_add(g->t.out, "[...]");
        return;
    }
    strbuf_add(g->t.out, "[");
    text_exprs(&g->t, v->shape.dims, v->shape.rank);
    strbuf_add(g->t.out, "]");
}

static bool content_count(const Value *v, int64_t *n) {
    return v->content && shape_count_int(v->shape, n) && *n <= MAX_CONTENT;
}

/* ": f32[2, n]", and what is known of the elements: ": i64[2] is (n, 4)". Nothing before inference.
 */
static void type_of(GraphText *g, const Value *v) {
    static const char *const prefix[] = {
        [VT_TENSOR] = "", [VT_SEQUENCE] = "sequence ", [VT_OPTIONAL] = "optional "};
    int64_t n;
    if (v->dtype == DT_NONE && v->shape.rank < 0 && v->type == VT_TENSOR) return;
    strbuf_printf(g->t.out, ": %s%s", prefix[v->type],
                  v->dtype ? dtype_info[v->dtype].name : "none");
    shape_of(g, v);
    if (v->data || !content_count(v, &n)) return;
    strbuf_add(g->t.out, " is (");
    text_exprs(&g->t, v->content, (int)n);
    strbuf_add(g->t.out, ")");
}

/* The `$` lines of these values' types. */
static void share_types(GraphText *g, Value *const *v, uint32_t n) {
    VEC(const KExpr *) roots = {0};
    int64_t n_content;
    for (uint32_t i = 0; i < n; i++) {
        if (!v[i]) continue;
        for (int a = 0; a < v[i]->shape.rank; a++) vec_push(g->t.a, &roots, v[i]->shape.dims[a]);
        if (v[i]->data || !content_count(v[i], &n_content)) continue;
        for (int64_t j = 0; j < n_content; j++) vec_push(g->t.a, &roots, v[i]->content[j]);
    }
    text_share(&g->t, roots.at, (int)roots.n);
}

static void value_list(GraphText *g, Value *const *v, uint32_t n, bool with_type) {
    for (uint32_t i = 0; i < n; i++) {
        if (i) strbuf_add(g->t.out, ", ");
        if (!v[i]) {
            strbuf_add(g->t.out, "_");
            continue;
        }
        value_name(g, v[i]);
        if (with_type) type_of(g, v[i]);
    }
}

/* ---- constants ------------------------------------------------------------------------------- */

static bool has_data(const Value *v, int64_t n) {
    return v->dtype == DT_STR || v->data_bytes >= (uint64_t)n * (uint64_t)dtype_bytes(v->dtype);
}

static void const_line(GraphText *g, Value *v) {
    int64_t n;
    number_value(g, v);
    share_types(g, &v, 1);
    text_line(&g->t);
    strbuf_add(g->t.out, "const ");
    value_name(g, v);
    type_of(g, v);
    if (shape_count_int(v->shape, &n) && has_data(v, n))
        text_data(&g->t, v->dtype, v->data, (uint64_t)n);
    text_newline(&g->t);
}

static void const_of(GraphText *g, const Graph *graph, Value *v) {
    if (v && v->data && v->graph == graph && !textmap_get(&g->number, v)) const_line(g, v);
}

/* Constants of this graph that n, or a node below it, uses for the first time. */
static void consts_for(GraphText *g, const Graph *graph, const Node *n) {
    for (int i = 0; i < n->n_in; i++) const_of(g, graph, n->in[i]);
    for (uint32_t i = 0; i < n->attrs.n; i++) {
        const Graph *sub = n->attrs.at[i].graph;
        if (!sub) continue;
        for (const Node *m = sub->first; m; m = m->next) consts_for(g, graph, m);
        for (uint32_t j = 0; j < sub->outputs.n; j++) const_of(g, graph, sub->outputs.at[j]);
    }
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void graph_body(GraphText *g, const Graph *graph);

/* Floats of attributes are f32 in models; one that is not has a suffix. */
static void attr_float_text(GraphText *g, double v) {
    bool single = v != v || (double)(float)v == v;
    text_float(g->t.out, single ? DT_F32 : DT_F64, v);
    if (!single) strbuf_add(g->t.out, "f64");
}

static void tensor_text(GraphText *g, const Value *v) {
    int64_t n;
    strbuf_printf(g->t.out, "tensor %s", dtype_info[v->dtype].name);
    shape_of(g, v);
    if (v->data && shape_count_int(v->shape, &n) && has_data(v, n))
        text_data(&g->t, v->dtype, v->data, (uint64_t)n);
}

static void list_start(GraphText *g, const Attr *a, const char *word) {
    strbuf_printf(g->t.out, "%s[", a->n ? "" : word);
}

static void attr_value(GraphText *g, const Attr *a) {
    StrBuf *out = g->t.out;
    switch (a->kind) {
    case AT_NONE: strbuf_add(out, "none"); return;
    case AT_INT: strbuf_printf(out, "%" PRId64, a->i); return;
    case AT_FLOAT: attr_float_text(g, a->f); return;
    case AT_STRING: text_quoted(&g->t, a->s); return;
    case AT_INTS:
        list_start(g, a, "ints");
        for (uint32_t i = 0; i < a->n; i++)
            strbuf_printf(out, "%s%" PRId64, i ? ", " : "", a->ints[i]);
        break;
    case AT_FLOATS:
        list_start(g, a, "floats");
        for (uint32_t i = 0; i < a->n; i++) {
            if (i) strbuf_add(out, ", ");
            attr_float_text(g, a->floats[i]);
        }
        break;
    case AT_STRINGS:
        list_start(g, a, "strings");
        for (uint32_t i = 0; i < a->n; i++) {
            if (i) strbuf_add(out, ", ");
            text_quoted(&g->t, a->strings[i]);
        }
        break;
    case AT_TENSOR: tensor_text(g, a->tensor); return;
    case AT_GRAPH:
        strbuf_add(out, "graph ");
        graph_body(g, a->graph);
        return;
    }
    strbuf_add(out, "]");
}

static void attrs_text(GraphText *g, const Node *n) {
    if (!n->attrs.n) return;
    strbuf_add(g->t.out, " {");
    for (uint32_t i = 0; i < n->attrs.n; i++) {
        strbuf_add(g->t.out, i ? ", " : "");
        if (is_plain(n->attrs.at[i].name))
            strbuf_add(g->t.out, n->attrs.at[i].name);
        else
            text_quoted(&g->t, n->attrs.at[i].name);
        strbuf_add(g->t.out, " = ");
        attr_value(g, &n->attrs.at[i]);
    }
    strbuf_add(g->t.out, "}");
}

/* ---- nodes and graphs ------------------------------------------------------------------------ */

static void node_text(GraphText *g, const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) number_value(g, n->out[i]);
    share_types(g, n->out, (uint32_t)n->n_out);
    text_line(&g->t);
    value_list(g, n->out, (uint32_t)n->n_out, true);
    strbuf_printf(g->t.out, "%s%s(", n->n_out ? " = " : "", op_info[n->op].name);
    value_list(g, n->in, (uint32_t)n->n_in, false);
    strbuf_add(g->t.out, ")");
    attrs_text(g, n);
    if (n->loc.node && *n->loc.node) {
        strbuf_add(g->t.out, " ");
        text_quoted(&g->t, n->loc.node);
    }
    text_newline(&g->t);
}

/* name { inputs; nodes; return outputs } */
static void graph_body(GraphText *g, const Graph *graph) {
    Text *t = &g->t;
    if (is_plain(graph->name))
        strbuf_add(t->out, graph->name);
    else
        text_quoted(t, graph->name);
    strbuf_add(t->out, " {\n");
    t->indent++;
    for (uint32_t i = 0; i < graph->inputs.n; i++) {
        number_value(g, graph->inputs.at[i]);
        share_types(g, &graph->inputs.at[i], 1);
        text_line(t);
        strbuf_add(t->out, "input ");
        value_list(g, &graph->inputs.at[i], 1, true);
        text_newline(t);
    }
    for (const Node *n = graph->first; n; n = n->next) {
        consts_for(g, graph, n);
        node_text(g, n);
    }
    for (uint32_t i = 0; i < graph->outputs.n; i++) const_of(g, graph, graph->outputs.at[i]);
    text_line(t);
    strbuf_add(t->out, graph->outputs.n ? "return " : "return");
    value_list(g, graph->outputs.at, graph->outputs.n, false);
    text_newline(t);
    t->indent--;
    text_line(t);
    strbuf_add(t->out, "}");
}

static void symbols_text(GraphText *g, const Module *m) {
    Text *t = &g->t;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        const KVar *v = m->symbols.at[i];
        text_symbol(t, v, v->computed ? "size" : "symbol");
    }
}

void print_graph(StrBuf *out, const Graph *graph) {
    GraphText g = {.number = {0}};
    text_begin(&g.t, out);
    g.t.dims = true;
    g.n_named = strmap_create(g.t.a);
    if (graph->parent) {
        graph_body(&g, graph);
        text_newline(&g.t);
    } else {
        strbuf_add(out, "graph ");
        text_quoted(&g.t, graph->module->name);
        strbuf_add(out, " {\n");
        g.t.indent = 1;
        symbols_text(&g, graph->module);
        text_line(&g.t);
        graph_body(&g, graph);
        text_newline(&g.t);
        strbuf_add(out, "}\n");
    }
    textmap_free(&g.number);
    text_end(&g.t);
}

/* ---- from a debugger ------------------------------------------------------------------------- */

void dump_graph(const Graph *graph) {
    StrBuf b = {0};
    print_graph(&b, graph);
    fputs(strbuf_text(&b), stderr);
    strbuf_free(&b);
}

void dump_node(const Node *n) {
    StrBuf b = {0};
    GraphText g = {.number = {0}};
    text_begin(&g.t, &b);
    g.n_named = strmap_create(g.t.a);
    node_text(&g, n);
    fputs(strbuf_text(&b), stderr);
    textmap_free(&g.number);
    text_end(&g.t);
    strbuf_free(&b);
}
