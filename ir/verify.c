/* The invariants of the graph level, one check per function, and the walk over all levels.
 *
 * What is checked: links and ids, definitions before uses (a subgraph sees what its graphs defined
 * before it), user lists that mirror inputs, outputs listed once, sorted attributes, and after
 * shape inference a dtype, a rank and dims over declared symbols that are not negative. */
#include "ir/verify.h"

#include <stdlib.h>
#include <string.h>

typedef struct GraphCheck {
    const char *after;
    const Module *m;
    bool has_shapes;
    unsigned char *defined; /* by value id */
} GraphCheck;

static const char *node_name(const Node *n) {
    return n && n->loc.node && *n->loc.node ? n->loc.node : n ? op_info[n->op].name : "?";
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool is_declared(const Module *m, const KVar *v) {
    for (uint32_t i = 0; i < m->symbols.n; i++)
        if (m->symbols.at[i] == v) return true;
    return false;
}

typedef struct DimCheck {
    const GraphCheck *c;
    const Value *v;
} DimCheck;

static void check_dim_part(const KExpr *e, void *user) {
    const DimCheck *d = user;
    BUG_IF(e->op == KO_load || e->op == KO_at, "after %s: a dim of '%s' reads memory", d->c->after,
           d->v->name);
    if (e->op != KO_var) return;
    BUG_IF(e->u.var->kind != KV_SYMBOL || !is_declared(d->c->m, e->u.var),
           "after %s: a dim of '%s' uses '%s', which the module does not declare", d->c->after,
           d->v->name, e->u.var->name);
}

static void check_dim(const GraphCheck *c, const Value *v, const KExpr *dim) {
    BUG_IF(!dim, "after %s: value '%s' has an unknown dim", c->after, v->name);
    BUG_IF(dim->dtype != DT_I64, "after %s: a dim of '%s' is no i64", c->after, v->name);
    BUG_IF(dim->hi < 0, "after %s: a dim of '%s' is negative", c->after, v->name);
    DimCheck d = {c, v};
    k_visit(c->m->k, dim, check_dim_part, &d);
}

static void check_shape(const GraphCheck *c, const Value *v) {
    BUG_IF(v->shape.rank > MAX_RANK, "after %s: value '%s' has rank %d", c->after, v->name,
           v->shape.rank);
    if (v->type != VT_TENSOR || (!c->has_shapes && v->shape.rank < 0)) return;
    BUG_IF(v->dtype == DT_NONE || v->dtype >= DT_COUNT, "after %s: value '%s' has no dtype",
           c->after, v->name);
    BUG_IF(v->shape.rank < 0, "after %s: value '%s' has no shape", c->after, v->name);
    for (int i = 0; i < v->shape.rank; i++)
        if (c->has_shapes || v->shape.dims[i]) check_dim(c, v, v->shape.dims[i]);
}

static void check_users(const GraphCheck *c, const Value *v) {
    BUG_IF(v->users.n != v->user_input.n, "after %s: the user lists of '%s' differ", c->after,
           v->name);
    for (uint32_t i = 0; i < v->users.n; i++) {
        const Node *n = v->users.at[i];
        int32_t input = v->user_input.at[i];
        bool is_mirrored =
            input >= 0 && input < n->n_in && n->in[input] == v && n->use_index[input] == (int32_t)i;
        BUG_IF(!is_mirrored, "after %s: '%s' lists a use by '%s' that is not there", c->after,
               v->name, node_name(n));
    }
}

static void check_value(const GraphCheck *c, const Value *v) {
    BUG_IF(v->id >= c->m->n_values, "after %s: value '%s' has a foreign id", c->after, v->name);
    check_shape(c, v);
    check_users(c, v);
}

static void check_const(const GraphCheck *c, const Value *v) {
    int64_t n;
    BUG_IF(v->def, "after %s: constant '%s' has a node", c->after, v->name);
    if (v->shape.rank < 0) return;
    BUG_IF(!shape_count_int(v->shape, &n), "after %s: constant '%s' has no fixed size", c->after,
           v->name);
    if (v->dtype == DT_STR) {
        BUG_IF((uint64_t)n >= v->data_bytes / 8 || strings_bytes(v->data, n) != v->data_bytes,
               "after %s: constant '%s' has too few bytes", c->after, v->name);
        return;
    }
    BUG_IF((uint64_t)n > v->data_bytes / (uint64_t)dtype_bytes(v->dtype),
           "after %s: constant '%s' has too few bytes", c->after, v->name);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static bool encloses(const Graph *outer, const Graph *g) {
    while (g && g != outer) g = g->parent;
    return g != NULL;
}

static void check_input(GraphCheck *c, const Node *n, int i) {
    const Value *v = n->in[i];
    if (!v) return;
    BUG_IF(!encloses(v->graph, n->graph), "after %s: '%s' uses '%s' of a graph that it cannot see",
           c->after, node_name(n), v->name);
    if (v->data) {
        check_value(c, v);
        check_const(c, v);
    } else {
        BUG_IF(v->id >= c->m->n_values || !c->defined[v->id],
               "after %s: '%s' uses '%s' before its definition", c->after, node_name(n), v->name);
    }
    int32_t at = n->use_index[i];
    BUG_IF(at < 0 || (uint32_t)at >= v->users.n || v->users.at[at] != n ||
               v->user_input.at[at] != i,
           "after %s: '%s' does not list its use by '%s'", c->after, v->name, node_name(n));
}

static void check_counts(const GraphCheck *c, const Node *n) {
    BUG_IF(n->op <= OP_NONE || n->op >= OP_COUNT, "after %s: node %u has no operator", c->after,
           n->id);
    const OpInfo *o = &op_info[n->op];
    BUG_IF(n->n_in < o->in_lo || (o->in_hi >= 0 && n->n_in > o->in_hi),
           "after %s: '%s' has %d inputs", c->after, node_name(n), n->n_in);
    BUG_IF(o->n_out >= 0 && n->n_out > o->n_out, "after %s: '%s' has %d outputs", c->after,
           node_name(n), n->n_out);
}

static void check_attrs(const GraphCheck *c, const Node *n) {
    for (uint32_t i = 0; i < n->attrs.n; i++) {
        const Attr *a = &n->attrs.at[i];
        BUG_IF(!a->name || a->kind == AT_NONE, "after %s: '%s' has an empty attribute", c->after,
               node_name(n));
        BUG_IF(i && strcmp(n->attrs.at[i - 1].name, a->name) >= 0,
               "after %s: attributes of '%s' are not sorted", c->after, node_name(n));
        BUG_IF((a->kind == AT_GRAPH) != (a->graph != NULL),
               "after %s: attribute '%s' of '%s' lacks its graph", c->after, a->name, node_name(n));
        BUG_IF(a->graph && (a->graph->owner != n || a->graph->parent != n->graph),
               "after %s: subgraph '%s' of '%s' belongs elsewhere", c->after, a->name,
               node_name(n));
        BUG_IF(a->kind == AT_TENSOR && (!a->tensor || !a->tensor->data),
               "after %s: attribute '%s' of '%s' is no constant", c->after, a->name, node_name(n));
    }
}

static void check_output(GraphCheck *c, const Node *n, int i) {
    const Value *v = n->out[i];
    if (!v) return;
    BUG_IF(v->def != n || v->def_index != (uint32_t)i,
           "after %s: output %d of '%s' says another node defines it", c->after, i, node_name(n));
    BUG_IF(v->graph != n->graph || v->data,
           "after %s: output '%s' of '%s' is of another graph or constant", c->after, v->name,
           node_name(n));
    check_value(c, v);
    BUG_IF(c->defined[v->id], "after %s: '%s' is defined twice", c->after, v->name);
    c->defined[v->id] = 1;
}

static void check_links(const GraphCheck *c, const Graph *g, const Node *n) {
    BUG_IF(n->graph != g, "after %s: '%s' says that it is in another graph", c->after,
           node_name(n));
    BUG_IF((n->prev ? n->prev->next : g->first) != n || (n->next ? n->next->prev : g->last) != n,
           "after %s: the links around '%s' are broken", c->after, node_name(n));
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static void check_graph(GraphCheck *c, const Graph *g);

static void check_node(GraphCheck *c, const Graph *g, const Node *n) {
    bug_context(c->after, n->loc);
    check_links(c, g, n);
    check_counts(c, n);
    check_attrs(c, n);
    for (int i = 0; i < n->n_in; i++) check_input(c, n, i);
    for (uint32_t i = 0; i < n->attrs.n; i++)
        if (n->attrs.at[i].graph) check_graph(c, n->attrs.at[i].graph);
    for (int i = 0; i < n->n_out; i++) check_output(c, n, i);
}

static void check_graph_outputs(GraphCheck *c, const Graph *g) {
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        const Value *v = g->outputs.at[i];
        BUG_IF(v->graph != g || !v->is_output, "after %s: output '%s' of '%s' is not its own",
               c->after, v->name, g->name);
        if (v->data)
            check_const(c, v);
        else
            BUG_IF(!c->defined[v->id], "after %s: output '%s' of '%s' is not defined", c->after,
                   v->name, g->name);
        for (uint32_t j = 0; j < i; j++)
            BUG_IF(g->outputs.at[j] == v, "after %s: '%s' is listed twice as an output", c->after,
                   v->name);
    }
}

/* What a subgraph defines cannot be seen after it. */
static void forget(GraphCheck *c, const Graph *g) {
    for (uint32_t i = 0; i < g->inputs.n; i++) c->defined[g->inputs.at[i]->id] = 0;
    for (const Node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i]) c->defined[n->out[i]->id] = 0;
}

static void check_graph(GraphCheck *c, const Graph *g) {
    for (uint32_t i = 0; i < g->inputs.n; i++) {
        const Value *v = g->inputs.at[i];
        BUG_IF(v->graph != g || v->def || v->data, "after %s: input '%s' of '%s' is not its own",
               c->after, v->name, g->name);
        check_value(c, v);
        c->defined[v->id] = 1;
    }
    for (const Node *n = g->first; n; n = n->next) check_node(c, g, n);
    check_graph_outputs(c, g);
    if (g->parent) forget(c, g);
}

void verify_graph(const Graph *g, bool has_shapes, const char *after) {
    GraphCheck c = {.after = after, .m = g->module, .has_shapes = has_shapes};
    c.defined = xmalloc(g->module->n_values + 1);
    check_graph(&c, g);
    free(c.defined);
    bug_context(NULL, SRC_NOWHERE);
}

static void check_symbols(const Module *m, const char *after) {
    uint32_t n_given = 0, n_computed = 0, slot;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        const KVar *v = m->symbols.at[i];
        BUG_IF(v->kind != KV_SYMBOL || v->dtype != DT_I64, "after %s: '%s' is no symbol", after,
               v->name);
        BUG_IF(!v->computed && n_computed, "after %s: symbol '%s' comes after computed ones", after,
               v->name);
        slot = v->computed ? m->first_slot + n_computed++ : n_given++;
        BUG_IF(v->slot != slot && (v->computed || !m->general),
               "after %s: symbol '%s' has slot %u", after, v->name, v->slot);
    }
}

bool verify_module(Module *m, const char *after) {
    check_symbols(m, after);
    if (!m->main->first && !m->main->outputs.n && m->kmod) { /* kernels alone, from text */
        verify_kmodule(m->kmod, (m->facts & FACT_MEMORY) != 0, after);
        return true;
    }
    verify_graph(m->main, (m->facts & FACT_SHAPES) != 0, after);
    /* lower_kernels takes the programs' statements apart: definitions end there */
    if (m->kmod)
        verify_kmodule(m->kmod, (m->facts & FACT_MEMORY) != 0 || !strcmp(after, "expand_math"),
                       after);
    else if (m->defs)
        verify_program(m->defs, after);
    return true;
}
