/* Attributes of graph nodes: keyed, typed values, sorted by name so that printing, comparing and
 * hashing need no further order. A node has a dozen at most, so the search is a plain loop. */
#include <assert.h>
#include <string.h>

#include "ir/graph.h"
#include "ir/support/str.h"

const Attr *node_attr(const Node *n, const char *name) {
    for (uint32_t i = 0; i < n->attrs.n; i++)
        if (!strcmp(n->attrs.at[i].name, name)) return &n->attrs.at[i];
    return NULL;
}

int64_t attr_int(const Node *n, const char *name, int64_t otherwise) {
    const Attr *a = node_attr(n, name);
    return a && a->kind == AT_INT ? a->i : otherwise;
}

double attr_float(const Node *n, const char *name, double otherwise) {
    const Attr *a = node_attr(n, name);
    return a && a->kind == AT_FLOAT ? a->f : otherwise;
}

const char *attr_string(const Node *n, const char *name, const char *otherwise) {
    const Attr *a = node_attr(n, name);
    return a && a->kind == AT_STRING ? a->s : otherwise;
}

Graph *attr_graph(const Node *n, const char *name) {
    const Attr *a = node_attr(n, name);
    return a ? a->graph : NULL;
}

int attr_ints(const Node *n, const char *name, const int64_t **v) {
    const Attr *a = node_attr(n, name);
    bool found = a && a->kind == AT_INTS;
    *v = found ? a->ints : NULL;
    return found ? (int)a->n : 0;
}

int attr_floats(const Node *n, const char *name, const double **v) {
    const Attr *a = node_attr(n, name);
    bool found = a && a->kind == AT_FLOATS;
    *v = found ? a->floats : NULL;
    return found ? (int)a->n : 0;
}

/* Moves what an attribute points to into the module's memory. */
static void own_payload(Module *m, Attr *a) {
    if (a->kind == AT_STRING) a->s = intern(a->s);
    if (a->kind == AT_INTS) a->ints = arena_copy(m->arena, a->ints, a->n * sizeof *a->ints);
    if (a->kind == AT_FLOATS) a->floats = arena_copy(m->arena, a->floats, a->n * sizeof *a->floats);
    if (a->kind == AT_STRINGS) {
        const char **copy = arena_array(m->arena, const char *, a->n);
        for (uint32_t i = 0; i < a->n; i++) copy[i] = intern(a->strings[i]);
        a->strings = copy;
    }
}

void node_set_attr(Node *n, Attr a) {
    Module *m = n->graph->module;
    a.name = intern(a.name);
    own_payload(m, &a);
    if (a.graph) a.graph->owner = n;
    uint32_t at = 0;
    while (at < n->attrs.n && strcmp(n->attrs.at[at].name, a.name) < 0) at++;
    if (at < n->attrs.n && n->attrs.at[at].name == a.name) {
        n->attrs.at[at] = a;
        return;
    }
    vec_push(m->arena, &n->attrs, a);
    for (uint32_t i = n->attrs.n - 1; i > at; i--) n->attrs.at[i] = n->attrs.at[i - 1];
    n->attrs.at[at] = a;
}

void node_set_int(Node *n, const char *name, int64_t v) {
    node_set_attr(n, (Attr){.name = name, .kind = AT_INT, .i = v});
}

void node_set_float(Node *n, const char *name, double v) {
    node_set_attr(n, (Attr){.name = name, .kind = AT_FLOAT, .f = v});
}

void node_set_string(Node *n, const char *name, const char *v) {
    node_set_attr(n, (Attr){.name = name, .kind = AT_STRING, .s = v});
}

void node_set_ints(Node *n, const char *name, const int64_t *v, int count) {
    assert(count >= 0);
    node_set_attr(n, (Attr){.name = name, .kind = AT_INTS, .n = (uint32_t)count, .ints = v});
}

void node_set_graph(Node *n, const char *name, Graph *g) {
    assert(g->parent == n->graph);
    node_set_attr(n, (Attr){.name = name, .kind = AT_GRAPH, .graph = g});
}

void node_drop_attr(Node *n, const char *name) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->attrs.n; i++)
        if (strcmp(n->attrs.at[i].name, name)) n->attrs.at[kept++] = n->attrs.at[i];
    n->attrs.n = kept;
}
