/* The graph level's structure: modules, graphs, values, nodes and the only functions that edit
 * them.
 *
 * Every edit costs a constant (amortised): a use knows its place in the value's user list and the
 * list knows which input each use is, so removing one swaps the last into its place. Nothing here
 * recurses over nodes; only the nesting of graphs, which import bounds, is walked by recursion.
 *
 * Invariants that verify.c checks: users mirror inputs, program order has definitions first, an
 * output belongs to the graph that lists it and is listed once. */
#include "ir/graph.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/str.h"

/* ---- modules and symbols --------------------------------------------------------------------- */

static Module *create_within(Arena *a, KCtx *k, Diag *diag, const Target *target) {
    Module *m = xmalloc(sizeof *m);
    m->arena = a;
    m->scratch = arena_create();
    m->k = k;
    m->diag = diag;
    m->target = target;
    m->name = m->file = "";
    m->symbol_by_name = strmap_create(m->arena);
    m->main = graph_create(m, NULL, "main");
    return m;
}

Module *module_create(Diag *diag, const Target *target) {
    Arena *a = arena_create();
    return create_within(a, kctx_create(a), diag, target);
}

void module_destroy(Module *m) {
    if (!m) return;
    for (uint32_t i = 0; i < m->versions.n; i++) module_destroy(m->versions.at[i].m);
    if (m->on_destroy) m->on_destroy(m->on_destroy_user);
    arena_destroy(m->scratch);
    if (!m->general) arena_destroy(m->arena);
    free(m);
}

Module *module_add_version(Module *general, const char *name, const KExpr *when) {
    Module *m = create_within(general->arena, general->k, general->diag, general->target);
    m->general = general;
    vec_push(general->arena, &general->versions, ((Version){name, when, m}));
    return m;
}

/* Puts each symbol's position among its own kind into slot, the caller's symbols first. */
static void number_symbols(Module *m) {
    uint32_t n_given = 0, n_computed = m->first_slot;
    for (uint32_t i = 0; i < m->symbols.n; i++) {
        KVar *s = m->symbols.at[i];
        if (s->computed)
            s->slot = n_computed++;
        else if (!m->general) /* which places them for all versions */
            s->slot = n_given++;
    }
}

uint32_t module_place_sizes(Module *m, uint32_t first) {
    m->first_slot = first;
    number_symbols(m);
    return module_end_of_sizes(m);
}

uint32_t module_end_of_sizes(const Module *m) {
    uint32_t n = m->first_slot;
    for (uint32_t i = 0; i < m->symbols.n; i++) n += m->symbols.at[i]->computed;
    return n;
}

KVar *module_symbol(Module *m, const char *name) {
    KVar *s = strmap_get(m->symbol_by_name, name);
    if (s) return s;
    s = m->general ? module_symbol(m->general, name)
                   : kvar_new(m->k, KV_SYMBOL, DT_I64, intern(name), 1, INT32_MAX);
    strmap_put(m->symbol_by_name, s->name, s);
    uint32_t at = strmap_count(m->symbol_by_name), n = m->symbols.n;
    vec_push(m->arena, &m->symbols, s);
    if (n == 0 || !m->symbols.at[n - 1]->computed) {
        if (!m->general) s->slot = n;
        return s;
    }
    for (at = n; at > 0 && m->symbols.at[at - 1]->computed; at--)
        m->symbols.at[at] = m->symbols.at[at - 1];
    m->symbols.at[at] = s;
    number_symbols(m);
    return s;
}

KVar *module_computed_symbol(Module *m, const char *name, const KExpr *bound) {
    int64_t lo, hi;
    k_range(bound, &lo, &hi);
    KVar *s = kvar_new(m->k, KV_SYMBOL, DT_I64, intern(name), 0, hi < 0 ? 0 : hi);
    s->computed = true;
    s->bound = k_max(m->k, bound, k_int(m->k, 0));
    s->slot = m->first_slot;
    for (uint32_t i = m->symbols.n; i-- > 0;) /* the caller's symbols may lie in between */
        if (m->symbols.at[i]->computed) {
            s->slot = m->symbols.at[i]->slot + 1;
            break;
        }
    vec_push(m->arena, &m->symbols, s);
    return s;
}

const KExpr *module_computed_dim(Module *m, const KExpr *old, const char *name,
                                 const KExpr *bound) {
    bool same = old && old->op == KO_var && old->u.var->computed && !old->u.var->carried &&
                old->u.var->bound == k_max(m->k, bound, k_int(m->k, 0));
    return same ? old : k_var(m->k, module_computed_symbol(m, name, bound));
}

enum { LONG_SIZE = 48 };

const KExpr *module_short_size(Module *m, const KExpr *e, const char *name) {
    if (!k_is_long(e, LONG_SIZE) || !k_is_computed(m->k, e)) return e;
    for (uint32_t i = m->symbols.n; i-- > 0;)
        if (m->symbols.at[i]->value == e) return k_var(m->k, m->symbols.at[i]);
    const KExpr *bound = k_upper_bound(m->k, e);
    KVar *s = module_computed_symbol(
        m, name, k_is_long(bound, LONG_SIZE) ? k_int(m->k, bound->hi) : bound);
    s->lo = e->lo;
    s->value = e;
    return k_var(m->k, s);
}

/* ---- graphs and values ----------------------------------------------------------------------- */

Graph *graph_create(Module *m, Graph *parent, const char *name) {
    Graph *g = arena_new(m->arena, Graph);
    g->module = m;
    g->parent = parent;
    g->name = intern(name ? name : "");
    return g;
}

static Value *value_new(Graph *g, const char *name) {
    Value *v = arena_new(g->module->arena, Value);
    v->id = g->module->n_values++;
    v->graph = g;
    v->shape.rank = -1;
    v->name = intern(name ? name : "");
    return v;
}

Value *graph_add_input(Graph *g, const char *name, DType t, Shape shape) {
    Value *v = value_new(g, name);
    v->dtype = t;
    v->shape = shape;
    vec_push(g->module->arena, &g->inputs, v);
    return v;
}

Value *graph_add_const(Graph *g, const char *name, DType t, Shape shape, const void *data,
                       uint64_t data_bytes) {
    static const char no_bytes[1];
    assert(data || !data_bytes);
    Value *v = value_new(g, name);
    v->dtype = t;
    v->shape = shape;
    v->data = data ? data : no_bytes;
    v->data_bytes = data_bytes;
    return v;
}

void graph_add_output(Graph *g, Value *v) {
    assert(v->graph == g && !v->is_output);
    v->is_output = true;
    vec_push(g->module->arena, &g->outputs, v);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void link_before(Graph *g, Node *n, Node *at) {
    n->next = at;
    n->prev = at ? at->prev : g->last;
    if (n->prev)
        n->prev->next = n;
    else
        g->first = n;
    if (at)
        at->prev = n;
    else
        g->last = n;
}

static void unlink_node(Node *n) {
    Graph *g = n->graph;
    if (n->prev)
        n->prev->next = n->next;
    else
        g->first = n->next;
    if (n->next)
        n->next->prev = n->prev;
    else
        g->last = n->prev;
    n->prev = n->next = NULL;
}

static void use_add(Node *n, int i, Value *v) {
    Arena *a = n->graph->module->arena;
    n->in[i] = v;
    if (!v) return;
    n->use_index[i] = (int32_t)v->users.n;
    vec_push(a, &v->users, n);
    vec_push(a, &v->user_input, i);
}

/* Takes input i of n out of its value's user list; the last use moves into the gap. */
static void use_remove(Node *n, int i) {
    Value *v = n->in[i];
    if (!v) return;
    uint32_t gap = (uint32_t)n->use_index[i], last = v->users.n - 1;
    assert(v->users.at[gap] == n && v->user_input.at[gap] == i);
    v->users.at[gap] = v->users.at[last];
    v->user_input.at[gap] = v->user_input.at[last];
    v->users.at[gap]->use_index[v->user_input.at[gap]] = (int32_t)gap;
    v->users.n = v->user_input.n = last;
    n->in[i] = NULL;
}

Node *graph_add_node(Graph *g, Node *before, OpId op, Value *const *in, int n_in, int n_out,
                     SrcLoc loc) {
    assert(!before || before->graph == g);
    Module *m = g->module;
    Node *n = arena_new(m->arena, Node);
    n->id = m->n_nodes++;
    n->op = op;
    n->graph = g;
    n->loc = loc;
    n->n_in = n->in_cap = n_in;
    n->n_out = n_out;
    n->in = arena_array(m->arena, Value *, n_in);
    n->use_index = arena_array(m->arena, int32_t, n_in);
    n->out = arena_array(m->arena, Value *, n_out);
    for (int i = 0; i < n_in; i++) use_add(n, i, in[i]);
    for (int i = 0; i < n_out; i++) {
        n->out[i] = value_new(g, "");
        n->out[i]->def = n;
        n->out[i]->def_index = (uint32_t)i;
    }
    link_before(g, n, before);
    return n;
}

Value *graph_op(Graph *g, Node *before, OpId op, SrcLoc loc, int n_in, ...) {
    Value *in[8];
    assert(n_in <= 8);
    va_list ap;
    va_start(ap, n_in);
    for (int i = 0; i < n_in; i++) in[i] = va_arg(ap, Value *);
    va_end(ap);
    return graph_add_node(g, before, op, in, n_in, 1, loc)->out[0];
}

void node_set_input(Node *n, int i, Value *v) {
    assert(i >= 0 && i < n->n_in);
    use_remove(n, i);
    use_add(n, i, v);
}

void node_add_input(Node *n, Value *v) {
    if (n->n_in == n->in_cap) {
        Arena *a = n->graph->module->arena;
        int32_t cap = n->in_cap ? n->in_cap * 2 : 4;
        Value **in = arena_array(a, Value *, cap);
        int32_t *use_index = arena_array(a, int32_t, cap);
        if (n->n_in) {
            memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
            memcpy(use_index, n->use_index, (size_t)n->n_in * sizeof *use_index);
        }
        n->in = in;
        n->use_index = use_index;
        n->in_cap = cap;
    }
    use_add(n, n->n_in++, v);
}

static bool is_graph_input(const Value *v) {
    return !v->def && !v->data;
}

static void replace_output(Value *v, Value *by) {
    Graph *g = v->graph;
    if (by->graph != g || by->is_output || is_graph_input(by)) return;
    for (uint32_t i = 0; i < g->outputs.n; i++)
        if (g->outputs.at[i] == v) g->outputs.at[i] = by;
    v->is_output = false;
    by->is_output = true;
    by->name = v->name;
}

/* What was to be read from v is read from `by`, which has the same elements. */
static void move_reads(Value *v, Value *by) {
    Module *m = by->graph->module;
    if (v->reads.n && !by->reads.n) vec_push(m->arena, &m->read_values, by);
    for (uint32_t i = 0; i < v->reads.n; i++) vec_push(m->arena, &by->reads, v->reads.at[i]);
    v->reads.n = 0;
}

bool value_replace_uses(Value *v, Value *by) {
    assert(v != by);
    Arena *a = by->graph->module->arena;
    move_reads(v, by);
    for (uint32_t i = 0; i < v->users.n; i++) {
        Node *n = v->users.at[i];
        int32_t input = v->user_input.at[i];
        n->in[input] = by;
        n->use_index[input] = (int32_t)by->users.n;
        vec_push(a, &by->users, n);
        vec_push(a, &by->user_input, input);
    }
    v->users.n = v->user_input.n = 0;
    if (v->is_output) replace_output(v, by);
    return !v->is_output;
}

/* Releases what the nodes of a graph that is going away use, subgraphs included. */
static void release_uses(Graph *g, void *user) {
    (void)user;
    for (Node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->n_in; i++) use_remove(n, i);
}

void graph_drop_node(Node *n) {
    for (int i = 0; i < n->n_out; i++) assert(!n->out[i] || !value_has_uses(n->out[i]));
    for (int i = 0; i < n->n_in; i++) use_remove(n, i);
    for (uint32_t i = 0; i < n->attrs.n; i++)
        if (n->attrs.at[i].graph) graph_visit(n->attrs.at[i].graph, release_uses, NULL);
    unlink_node(n);
}

/* A move of what a graph holds to another one, met from the graphs below it. */
typedef struct Adopt {
    Graph *from, *to;
} Adopt;

/* Constants have no definition to be found at: every use is looked at. */
static void adopt_in_graph(Graph *g, void *user) {
    const Adopt *a = user;
    if (g->parent == a->from) g->parent = a->to;
    for (Node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] && n->in[i]->graph == a->from) n->in[i]->graph = a->to;
}

void graph_move_into(Graph *sub, Node *at) {
    Graph *g = at->graph;
    assert(!sub->inputs.n && sub != g);
    Adopt adopt = {sub, g};
    graph_visit(sub, adopt_in_graph, &adopt);
    for (Node *n = sub->first, *next; n; n = next) {
        next = n->next;
        unlink_node(n);
        link_before(g, n, at);
        n->graph = g;
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i]) n->out[i]->graph = g;
    }
    for (uint32_t i = 0; i < sub->outputs.n; i++) {
        sub->outputs.at[i]->is_output = false;
        if (sub->outputs.at[i]->graph == sub) sub->outputs.at[i]->graph = g;
    }
}

static bool has_used_output(const Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] && value_has_uses(n->out[i])) return true;
    return false;
}

/* Users come after definitions, and a node's subgraphs are cleaned when the node is met, so one
 * walk from the end finds everything. */
bool graph_drop_dead(Graph *g) {
    bool changed = false;
    for (Node *n = g->last, *prev; n; n = prev) {
        prev = n->prev;
        if (!has_used_output(n)) {
            graph_drop_node(n);
            changed = true;
            continue;
        }
        for (uint32_t i = 0; i < n->attrs.n; i++)
            if (n->attrs.at[i].graph) changed |= graph_drop_dead(n->attrs.at[i].graph);
    }
    return changed;
}

void graph_visit(Graph *g, void (*fn)(Graph *g, void *user), void *user) {
    fn(g, user);
    for (Node *n = g->first; n; n = n->next)
        for (uint32_t i = 0; i < n->attrs.n; i++)
            if (n->attrs.at[i].graph) graph_visit(n->attrs.at[i].graph, fn, user);
}

bool value_has_uses(const Value *v) {
    return v->reads.n || v->users.n > 0 || v->is_output;
}
