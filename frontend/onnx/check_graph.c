/* Checks of the names in a graph, and the order of its nodes.
 *
 * Scoping is lexical: a graph sees its own inputs, initializers and node outputs, and those of the
 * graphs around it; an inner definition hides an outer one. One map from a name to its innermost
 * definition serves all graphs: entering a graph pushes its definitions, leaving pops them, so each
 * use costs one look-up however deep it is. A use adds an edge to the graph that defines the value:
 * from the producer to the using node or, for a capture, to the node of that graph that holds the
 * subgraph. The edges give the order; nodes need not be sorted in the file. Recursion happens only
 * over nested graphs, whose depth the scanner bounds. */
#include <inttypes.h>
#include <string.h>

#include "frontend/onnx/model_internal.h"
#include "frontend/onnx/order.h"
#include "ir/support/str.h"

typedef enum { DEF_INPUT, DEF_INITIALIZER, DEF_OUTPUT } DefKind;

typedef struct Def {
    struct Def *outer; /* the definition that this one hides */
    const char *name;
    DefKind kind;
    uint32_t depth;       /* of its graph */
    uint32_t index;       /* among its kind; for DEF_OUTPUT, of the node */
    uint32_t initializer; /* DEF_INPUT: 1 + index of the initializer that is its default */
} Def;

/* A graph that is being checked; functions look like one. */
typedef struct Scope {
    struct Scope *outer;
    const char *path;
    uint32_t depth;
    Onnx__NodeProto **node;
    size_t n_nodes;
    uint32_t current; /* node whose inputs or subgraphs are being looked at */
    VEC(Def *) defs;
    OrderEdges edges;
} Scope;

typedef struct Check {
    OnnxModel *m;
    Arena *scratch;
    StrMap *names; /* name -> innermost Def */
    Scope *scope;
    Diag *diag;
    bool in_function;
    bool has_warned;
} Check;

static bool check_nodes(Check *c);

static SrcLoc loc_of_graph(const Check *c) {
    SrcLoc at = onnx_model_loc(c->m);
    at.graph = c->scope->path;
    return at;
}

static SrcLoc loc_of_node(const Check *c, size_t i) {
    const Onnx__NodeProto *n = c->scope->node[i];
    SrcLoc at = loc_of_graph(c);
    at.node = n->name ? n->name : "";
    at.op = n->op_type && *n->op_type ? n->op_type : "?";
    at.index = (int64_t)i;
    return at;
}

/* ---- definitions ----------------------------------------------------------------------------- */

static const char *describe_def(const Check *c, const Def *def) {
    if (def->kind == DEF_INPUT) return arena_printf(c->scratch, "input #%u", (unsigned)def->index);
    if (def->kind == DEF_INITIALIZER)
        return arena_printf(c->scratch, "initializer #%u", (unsigned)def->index);
    const Onnx__NodeProto *n = c->scope->node[def->index];
    return arena_printf(c->scratch, "output of node '%.100s' (%.100s #%u)", n->name ? n->name : "",
                        n->op_type ? n->op_type : "?", (unsigned)def->index);
}

/* Adds a definition to the current scope; false, with a message, when the name is taken there. */
static bool define(Check *c, const char *name, DefKind kind, size_t index) {
    Scope *s = c->scope;
    Def *def = arena_new(c->scratch, Def);
    *def = (Def){.name = name, .kind = kind, .depth = s->depth, .index = (uint32_t)index};
    Def *known = strmap_get(c->names, name);
    if (known && known->depth == s->depth) {
        if (kind == DEF_INITIALIZER && known->kind == DEF_INPUT && !known->initializer) {
            known->initializer = (uint32_t)index + 1; /* the input's default value */
            return true;
        }
        const char *first = describe_def(c, known);
        if (kind == DEF_INITIALIZER && known->kind == DEF_INPUT)
            first = arena_printf(c->scratch, "initializer #%u", (unsigned)known->initializer - 1);
        diag_error(c->diag, loc_of_graph(c), "'%s' is defined twice: %s and %s", name, first,
                   describe_def(c, def));
        return false;
    }
    if (known && !c->has_warned) {
        diag_warn(c->diag, loc_of_graph(c),
                  "'%s' hides a value of the same name of the graph around", name);
        c->has_warned = true;
    }
    def->outer = known;
    strmap_put(c->names, name, def);
    vec_push(c->scratch, &s->defs, def);
    return true;
}

static bool define_named(Check *c, const char *name, DefKind kind, size_t index) {
    static const char *const what[] = {"input", "initializer", "output"};
    if (name && *name) return define(c, name, kind, index);
    diag_error(c->diag, loc_of_graph(c), "%s %zu has no name", what[kind], index);
    return false;
}

static bool define_outputs(Check *c) {
    bool good = true;
    for (size_t i = 0; i < c->scope->n_nodes && !diag_is_full(c->diag); i++) {
        const Onnx__NodeProto *n = c->scope->node[i];
        for (size_t k = 0; k < n->n_output; k++)
            if (*n->output[k]) good = define(c, n->output[k], DEF_OUTPUT, i) && good;
    }
    return good;
}

static void undefine_scope(Check *c) {
    if (!c->scope->outer) return; /* nobody looks names up any more */
    for (uint32_t i = 0; i < c->scope->defs.n; i++)
        strmap_put(c->names, c->scope->defs.at[i]->name, c->scope->defs.at[i]->outer);
}

/* ---- uses ------------------------------------------------------------------------------------ */

/* Levenshtein distance of short names, or 3 when it is more than 2. */
static int name_distance(const char *a, size_t na, const char *b, size_t nb) {
    enum { LONGEST = 64, FAR = 3 };
    int row[LONGEST + 1];
    if (na > LONGEST || nb > LONGEST || na > nb + 2 || nb > na + 2) return FAR;
    for (size_t k = 0; k <= nb; k++) row[k] = (int)k;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0], least = row[0] = (int)i;
        for (size_t k = 1; k <= nb; k++) {
            int best = diagonal + (a[i - 1] != b[k - 1]);
            if (row[k] + 1 < best) best = row[k] + 1;
            if (row[k - 1] + 1 < best) best = row[k - 1] + 1;
            diagonal = row[k];
            row[k] = best;
            if (best < least) least = best;
        }
        if (least >= FAR) return FAR;
    }
    return row[nb] > FAR ? FAR : row[nb];
}

/* ", did you mean 'x'?" or "". Looks at a bounded number of names. */
static const char *nearest_name(const Check *c, const char *name) {
    enum { MOST_NAMES = 50000 };
    const char *best = NULL;
    int least = 3;
    size_t n = strlen(name);
    uint32_t looked_at = 0;
    for (const Scope *s = c->scope; s; s = s->outer)
        for (uint32_t i = 0; i < s->defs.n && looked_at < MOST_NAMES; i++, looked_at++) {
            const char *other = s->defs.at[i]->name;
            int far = name_distance(name, n, other, strlen(other));
            if (far >= least || (size_t)far >= n) continue;
            least = far;
            best = other;
        }
    return best ? arena_printf(c->scratch, "; did you mean '%s'?", best) : "";
}

/* Looks a name up and records what must come before what; NULL when there is no such value. */
static const Def *use(Check *c, const char *name) {
    const Def *def = strmap_get(c->names, name);
    if (!def || def->kind != DEF_OUTPUT) return def;
    Scope *s = c->scope;
    bool is_inside_node = s->depth > def->depth || s->current < s->n_nodes;
    while (s->depth > def->depth) s = s->outer;
    if (is_inside_node) {
        OrderEdge e = {def->index, s->current};
        vec_push(c->scratch, &s->edges, e);
    }
    return def;
}

static bool check_inputs(Check *c, size_t i) {
    const Onnx__NodeProto *n = c->scope->node[i];
    bool good = true;
    for (size_t k = 0; k < n->n_input; k++) {
        if (!*n->input[k] || use(c, n->input[k])) continue;
        good = false;
        if (diag_is_full(c->diag)) break;
        diag_error(c->diag, loc_of_node(c, i), "input %zu, '%s', is not defined%s", k, n->input[k],
                   nearest_name(c, n->input[k]));
    }
    return good;
}

static bool check_output(Check *c, size_t i, const char *name) {
    if (!name || !*name) {
        diag_error(c->diag, loc_of_graph(c), "output %zu has no name", i);
        return false;
    }
    if (use(c, name)) return true;
    diag_error(c->diag, loc_of_graph(c), "output %zu, '%s', is never produced%s", i, name,
               nearest_name(c, name));
    return false;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static bool check_tensor(Check *c, const Onnx__TensorProto *t, SrcLoc where) {
    OnnxTensor ignored;
    return onnx_tensor_bytes(c->m, t, where, c->diag, &ignored);
}

static bool check_sparse(Check *c, const Onnx__SparseTensorProto *s, SrcLoc where) {
    if (s->values && s->indices)
        return check_tensor(c, s->values, where) && check_tensor(c, s->indices, where);
    diag_error(c->diag, where, "sparse tensor '%s' has no %s",
               s->values ? tensor_name(s->values) : "", s->values ? "indices" : "values");
    return false;
}

static bool check_attribute_tensors(Check *c, const Onnx__AttributeProto *a, SrcLoc where) {
    bool good = !a->t || check_tensor(c, a->t, where);
    for (size_t i = 0; i < a->n_tensors; i++) good = check_tensor(c, a->tensors[i], where) && good;
    if (a->sparse_tensor) good = check_sparse(c, a->sparse_tensor, where) && good;
    for (size_t i = 0; i < a->n_sparse_tensors; i++)
        good = check_sparse(c, a->sparse_tensors[i], where) && good;
    return good;
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static void enter_scope(Check *c, Scope *s, const char *path, Onnx__NodeProto **node, size_t n) {
    *s = (Scope){.outer = c->scope, .path = path, .node = node, .n_nodes = n};
    s->depth = c->scope ? c->scope->depth + 1 : 1;
    c->scope = s;
}

/* Orders the nodes of the scope that is left; `of` is its key in the model's orders. */
static bool leave_scope(Check *c, const void *of) {
    Scope *s = c->scope;
    uint32_t *order = order_nodes(c->m, c->scratch, s->node, (uint32_t)s->n_nodes, &s->edges,
                                  loc_of_graph(c), c->diag);
    if (order) ptrmap_put(c->m->arena, c->m->orders, of, order);
    undefine_scope(c);
    c->scope = s->outer;
    return order != NULL;
}

static bool check_node_count(Check *c) {
    if (c->scope->n_nodes <= ONNX_MAX_GRAPH_NODES) return true;
    diag_error(c->diag, loc_of_graph(c), "%zu nodes; a graph has at most %d", c->scope->n_nodes,
               ONNX_MAX_GRAPH_NODES);
    return false;
}

static bool check_subgraph(Check *c, const Onnx__GraphProto *g, const char *path) {
    Scope s;
    bool good = true;
    enter_scope(c, &s, path, g->node, g->n_node);
    SrcLoc at = loc_of_graph(c);
    for (size_t i = 0; i < g->n_input; i++)
        good = define_named(c, g->input[i]->name, DEF_INPUT, i) && good;
    for (size_t i = 0; i < g->n_initializer && !diag_is_full(c->diag); i++) {
        good = define_named(c, g->initializer[i]->name, DEF_INITIALIZER, i) && good;
        good = check_tensor(c, g->initializer[i], at) && good;
    }
    for (size_t i = 0; i < g->n_sparse_initializer && !diag_is_full(c->diag); i++) {
        const Onnx__SparseTensorProto *t = g->sparse_initializer[i];
        const char *name = t->values ? t->values->name : NULL;
        good = define_named(c, name, DEF_INITIALIZER, g->n_initializer + i) && good;
        good = check_sparse(c, t, at) && good;
    }
    good = check_node_count(c) && good;
    good = define_outputs(c) && good;
    good = check_nodes(c) && good;
    for (size_t i = 0; i < g->n_output && !diag_is_full(c->diag); i++)
        good = check_output(c, i, g->output[i]->name) && good;
    return leave_scope(c, g) && good;
}

/* "main/If_3.then_branch" */
static const char *subgraph_path(const Check *c, size_t i, const char *attribute) {
    const Onnx__NodeProto *n = c->scope->node[i];
    if (n->name && *n->name)
        return arena_printf(c->m->arena, "%s/%.100s.%.100s", c->scope->path, n->name, attribute);
    return arena_printf(c->m->arena, "%s/%.100s_%zu.%.100s", c->scope->path,
                        n->op_type ? n->op_type : "?", i, attribute);
}

static bool check_node_graphs(Check *c, size_t i) {
    const Onnx__NodeProto *n = c->scope->node[i];
    bool good = true;
    for (size_t k = 0; k < n->n_attribute; k++) {
        const Onnx__AttributeProto *a = n->attribute[k];
        good = check_attribute_tensors(c, a, loc_of_node(c, i)) && good;
        if (!a->g && !a->n_graphs) continue;
        const char *path = subgraph_path(c, i, a->name ? a->name : "?");
        if (a->g) good = check_subgraph(c, a->g, path) && good;
        for (size_t j = 0; j < a->n_graphs; j++)
            good = check_subgraph(c, a->graphs[j], path) && good;
    }
    return good;
}

static bool check_nodes(Check *c) {
    Scope *s = c->scope;
    bool good = true;
    for (size_t i = 0; i < s->n_nodes && !diag_is_full(c->diag); i++) {
        s->current = (uint32_t)i;
        good = onnx_check_node(c->m, c->scratch, s->node[i], loc_of_node(c, i), c->in_function,
                               c->diag) &&
               good;
        good = check_inputs(c, i) && good;
        good = check_node_graphs(c, i) && good;
    }
    s->current = (uint32_t)s->n_nodes;
    return good;
}

bool onnx_check_graph(OnnxModel *m, Arena *scratch, const Onnx__GraphProto *g, const char *path,
                      Diag *d) {
    Check c = {.m = m, .scratch = scratch, .names = strmap_create(scratch), .diag = d};
    return check_subgraph(&c, g, path);
}

bool onnx_check_function(OnnxModel *m, Arena *scratch, const Onnx__FunctionProto *f,
                         const char *path, Diag *d) {
    Check c = {.m = m, .scratch = scratch, .names = strmap_create(scratch), .diag = d};
    Scope s;
    bool good = true;
    c.in_function = true;
    enter_scope(&c, &s, path, f->node, f->n_node);
    for (size_t i = 0; i < f->n_input; i++)
        good = define_named(&c, f->input[i], DEF_INPUT, i) && good;
    good = check_node_count(&c) && good;
    good = define_outputs(&c) && good;
    good = check_nodes(&c) && good;
    for (size_t i = 0; i < f->n_output && !diag_is_full(d); i++)
        good = check_output(&c, i, f->output[i]) && good;
    return leave_scope(&c, f) && good;
}
