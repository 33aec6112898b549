/* From an ONNX model to a Module: graphs, names and the interface.
 *
 * Names live in scopes that mirror the nesting of graphs; initializers are bound by name and become
 * constants when something first reads them. Inputs with an initializer are constants. A graph's
 * outputs become values of that graph which are listed once and are no input: an Identity stands in
 * where the file says otherwise. With --inputs and --outputs only the nodes in between are
 * imported. */
#include <string.h>

#include "frontend/onnx/assume.h"
#include "frontend/onnx/compound.h"
#include "ir/infer.h"
#include "ir/support/str.h"

static const char *or_empty(const char *s) {
    return s ? s : "";
}

static SrcLoc graph_loc(const Import *im, const Scope *s) {
    SrcLoc loc = SRC_NOWHERE;
    loc.file = im->m->file;
    loc.graph = s->path;
    return loc;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

Scope *scope_create(Import *im, Scope *parent, Graph *g, const char *path) {
    Scope *s = arena_new(im->arena, Scope);
    s->parent = parent;
    s->graph = g;
    s->names = strmap_create(im->arena);
    s->path = path;
    s->around = parent;
    if (!parent) return s;
    s->depth = parent->depth + 1;
    s->function = parent->function;
    s->args = parent->args;
    s->n_args = parent->n_args;
    return s;
}

static Binding *bind_name(Import *im, Scope *s, const char *name) {
    Binding *b = arena_new(im->arena, Binding);
    strmap_put(s->names, name, b);
    return b;
}

void scope_bind(Import *im, Scope *s, const char *name, Value *v) {
    bind_name(im, s, name)->value = v;
}

Value *scope_find(Import *im, Scope *s, const char *name, SrcLoc loc, bool *known) {
    Binding *b = NULL;
    for (; s && !b; s = b ? s : s->parent) b = strmap_get(s->names, name);
    *known = b != NULL;
    if (!b) return NULL;
    if (!b->value && b->tensor)
        b->value = import_tensor(im, s->graph, name, b->tensor, loc);
    else if (!b->value && b->sparse)
        b->value = import_sparse(im, s->graph, name, b->sparse, loc);
    else
        return b->value;
    if (!b->value) b->value = im->poison;
    return b->value;
}

static void bind_initializers(Import *im, Scope *s, const Onnx__GraphProto *p) {
    for (size_t i = 0; i < p->n_initializer; i++)
        bind_name(im, s, or_empty(p->initializer[i]->name))->tensor = p->initializer[i];
    for (size_t i = 0; i < p->n_sparse_initializer; i++) {
        const Onnx__SparseTensorProto *t = p->sparse_initializer[i];
        if (t->values) bind_name(im, s, or_empty(t->values->name))->sparse = t;
    }
}

/* ---- outputs --------------------------------------------------------------------------------- */

void import_list_output(Graph *g, SrcLoc loc, Value *v, const char *name) {
    bool own = v->graph == g && v->def && !v->is_output;
    if (!own) {
        DType t = v->dtype;
        v = graph_op(g, NULL, OP_Identity, loc, 1, v);
        v->dtype = t;
    }
    v->name = intern(name);
    graph_add_output(g, v);
}

/* Lists v as output `name` of the scope's graph; only the model itself may give compounds away. */
static void list_output(Import *im, Scope *s, Value *v, const char *name) {
    SrcLoc loc = graph_loc(im, s);
    if (s->graph == im->m->main)
        import_model_output(im, s->graph, v, name, loc);
    else if (compound_of(v))
        diag_unsupported(im->d, loc, "output '%s' of this graph is %s", name,
                         v->type == VT_SEQUENCE ? "a sequence" : "an optional");
    else
        import_list_output(s->graph, loc, v, name);
}

static void import_outputs(Import *im, Scope *s, Onnx__ValueInfoProto **outputs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool known;
        const char *name = or_empty(outputs[i]->name);
        Value *v = scope_find(im, s, name, graph_loc(im, s), &known);
        if (!known)
            diag_error(im->d, graph_loc(im, s), "output '%s' is never made", name);
        else if (v && v != im->poison)
            list_output(im, s, v, name);
    }
}

/* ---- subgraphs ------------------------------------------------------------------------------- */

/* Declared type only: the shape is the owner's business. Inputs of Scan and Loop without one have
 * the type of the node's input at their place. */
static void import_subgraph_inputs(Import *im, Scope *s, const Onnx__GraphProto *p, const Call *c) {
    for (size_t i = 0; i < p->n_input; i++) {
        const Onnx__TypeProto *t = p->input[i]->type;
        bool typed = t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
        DType dtype = typed ? dtype_from_onnx(t->tensor_type->elem_type) : DT_NONE;
        const Value *given = call_in(c, (int)i);
        const char *name = or_empty(p->input[i]->name);
        if (dtype == DT_NONE && given && given != im->poison) dtype = given->dtype;
        Value *v = graph_add_input(s->graph, name, dtype, (Shape){.rank = -1});
        scope_bind(im, s, name,
                   t && t->value_case && !typed ? im->poison : v); /* no tensor: import_body's */
    }
}

/* A subgraph's nodes in a graph of their own; NULL after messages. */
static Scope *import_subgraph_nodes(Call *c, const char *attr, const Onnx__GraphProto *p) {
    Import *im = c->im;
    if (c->scope->depth >= ONNX_MAX_NESTING) {
        diag_error(im->d, c->loc, "graphs are nested more than %d deep", ONNX_MAX_NESTING);
        return NULL;
    }
    const char *owner = c->loc.node && *c->loc.node ? c->loc.node : c->loc.op;
    const char *path = arena_printf(im->m->arena, "%s/%s.%s", c->scope->path, owner, attr);
    Scope *s = scope_create(im, c->scope, graph_create(im->m, c->g, attr), path);
    import_subgraph_inputs(im, s, p, c);
    if (c->loc.op == intern("Loop") && s->graph->inputs.n) s->iteration = s->graph->inputs.at[0];
    bind_initializers(im, s, p);
    import_nodes(im, s, p->node, p->n_node, onnx_graph_order(im->model, p), NULL);
    return s;
}

Graph *import_subgraph(Call *c, const char *attr, const Onnx__GraphProto *p) {
    Import *im = c->im;
    int n_before = diag_n_errors(im->d);
    uint32_t n_missing = strmap_count(im->unsupported);
    Scope *s = import_subgraph_nodes(c, attr, p);
    if (!s) return NULL;
    import_outputs(im, s, p->output, p->n_output);
    bool good = diag_n_errors(im->d) == n_before && strmap_count(im->unsupported) == n_missing &&
                s->graph->outputs.n == p->n_output;
    return good ? s->graph : NULL;
}

static bool find_outputs(Call *c, Scope *s, const Onnx__GraphProto *p, const char *attr,
                         Value **out) {
    bool good = true;
    for (size_t i = 0; i < p->n_output; i++) {
        bool known;
        const char *name = or_empty(p->output[i]->name);
        out[i] = scope_find(c->im, s, name, c->loc, &known);
        if (!known) diag_error(c->im->d, c->loc, "%s never makes its output '%s'", attr, name);
        good &= out[i] && out[i] != c->im->poison;
    }
    return good;
}

Graph *import_branch(Call *c, const char *attr, const Onnx__GraphProto *p, Value **out) {
    Scope *s = import_subgraph_nodes(c, attr, p);
    return s && find_outputs(c, s, p, attr, out) ? s->graph : NULL;
}

bool import_body(Call *c, Graph *g, const char *attr, const Onnx__GraphProto *p, Value *const *in,
                 int n_in, Value **out) {
    Import *im = c->im;
    if (c->scope->depth >= ONNX_MAX_NESTING || (int)p->n_input != n_in) {
        diag_error(im->d, c->loc, "%s has %zu inputs, not %d, or is nested too deep", attr,
                   p->n_input, n_in);
        return false;
    }
    const char *path = arena_printf(im->m->arena, "%s/%s", c->scope->path, attr);
    Scope *s = scope_create(im, c->scope, g, path);
    if (g != c->g && g->inputs.n) s->iteration = g->inputs.at[0];
    for (int i = 0; i < n_in; i++) scope_bind(im, s, or_empty(p->input[i]->name), in[i]);
    bind_initializers(im, s, p);
    import_nodes(im, s, p->node, p->n_node, onnx_graph_order(im->model, p), NULL);
    return find_outputs(c, s, p, attr, out);
}

Value *import_inline(Call *c, const char *attr, const Onnx__GraphProto *p, Value *x) {
    Value *y;
    if (p->n_output == 1) return import_body(c, c->g, attr, p, &x, 1, &y) ? y : NULL;
    diag_error(c->im->d, c->loc, "%s has %zu outputs; one is accepted", attr, p->n_output);
    return NULL;
}

/* ---- the model's interface ------------------------------------------------------------------- */

/* A map is two tensors of one length: NAME.keys and NAME.values. */
static bool add_map_input(Import *im, Scope *s, const char *name, const Onnx__TypeProto__Map *p) {
    SrcLoc loc = graph_loc(im, s);
    const Onnx__TypeProto *v = p->value_type;
    if (!v || v->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        diag_unsupported(im->d, loc, "input '%s' is a map whose values are no numbers or strings",
                         name);
        return false;
    }
    DType key = import_dtype(im, p->key_type, loc, "key of a map");
    DType value = import_dtype(im, v->tensor_type->elem_type, loc, "value of a map");
    if (key == DT_NONE || value == DT_NONE) return false;
    Arena *a = im->m->arena;
    KVar *length = module_symbol(im->m, intern(arena_printf(a, "%s.length", name)));
    Shape shape = shape_make(a, 1);
    shape.dims[0] = k_var(im->m->k, length);
    const char *names[] = {arena_printf(a, "%s.keys", name), arena_printf(a, "%s.values", name)};
    Value *keys = import_add_input(im, s->graph, names[0], key, shape);
    Value *values = import_add_input(im, s->graph, names[1], value, shape);
    Value **address = arena_copy(im->arena, &keys, sizeof keys);
    strmap_put_bytes(im->map_values, (const char *)address, sizeof keys, values);
    scope_bind(im, s, name, keys);
    return true;
}

static bool add_input(Import *im, Scope *s, const Onnx__ValueInfoProto *p) {
    const char *name = or_empty(p->name);
    SrcLoc loc = graph_loc(im, s);
    Shape shape;
    if (p->type && p->type->value_case == ONNX__TYPE_PROTO__VALUE_MAP_TYPE)
        return add_map_input(im, s, name, p->type->map_type);
    if (!p->type || p->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        Value *v = import_compound_input(im, s->graph, name, p->type, loc);
        if (v) scope_bind(im, s, name, v);
        return v != NULL;
    }
    const Onnx__TypeProto__Tensor *t = p->type->tensor_type;
    DType dtype = import_dtype(im, t->elem_type, loc, arena_printf(im->arena, "input '%s'", name));
    if (dtype == DT_NONE || !import_shape(im, (int)im->m->in_groups.n, name, t->shape, &shape))
        return false;
    scope_bind(im, s, name, import_add_input(im, s->graph, name, dtype, shape));
    return true;
}

static const Onnx__ValueInfoProto *find_info(Onnx__ValueInfoProto **list, size_t n,
                                             const char *name) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(or_empty(list[i]->name), name)) return list[i];
    return NULL;
}

static const Onnx__ValueInfoProto *find_value(const Onnx__GraphProto *p, const char *name) {
    const Onnx__ValueInfoProto *v = find_info(p->input, p->n_input, name);
    if (!v) v = find_info(p->value_info, p->n_value_info, name);
    return v ? v : find_info(p->output, p->n_output, name);
}

/* Any value of the graph may be named in --inputs, if the file says what type it has. */
static void add_cut_inputs(Import *im, Scope *s, const Onnx__GraphProto *p) {
    for (int i = 0; i < im->o->n_inputs; i++) {
        const Onnx__ValueInfoProto *v = find_value(p, im->o->inputs[i]);
        if (v) import_empty_dims(im, i, v);
    }
    for (int i = 0; i < im->o->n_inputs; i++) {
        const char *name = im->o->inputs[i];
        const Onnx__ValueInfoProto *v = find_value(p, name);
        if (v)
            add_input(im, s, v);
        else
            diag_error(im->d, graph_loc(im, s),
                       "--inputs %s: the model has no such value or does not state its type", name);
    }
}

/* Inputs that an initializer gives a value are constants. */
static void add_inputs(Import *im, Scope *s, const Onnx__GraphProto *p) {
    int index = 0;
    for (size_t i = 0; i < p->n_input; i++) {
        const Onnx__TypeProto *t = p->input[i]->type;
        if (strmap_get(s->names, or_empty(p->input[i]->name))) continue;
        import_empty_dims(im, index, p->input[i]);
        index += t && t->value_case == ONNX__TYPE_PROTO__VALUE_MAP_TYPE ? 2 : 1;
    }
    for (size_t i = 0; i < p->n_input; i++) {
        const char *name = or_empty(p->input[i]->name);
        if (strmap_get(s->names, name)) continue;
        if (!add_input(im, s, p->input[i])) scope_bind(im, s, name, im->poison);
    }
}

/* ---- cutting --------------------------------------------------------------------------------- */

/* Marks every name that a node and its subgraphs read. The nesting is at most ONNX_MAX_NESTING. */
static void need_inputs(StrMap *needed, const Onnx__NodeProto *n) {
    for (size_t i = 0; i < n->n_input; i++) strmap_put(needed, n->input[i], needed);
    for (size_t i = 0; i < n->n_attribute; i++) {
        const Onnx__GraphProto *g = n->attribute[i]->g;
        if (!g) continue;
        for (size_t k = 0; k < g->n_node; k++) need_inputs(needed, g->node[k]);
        for (size_t k = 0; k < g->n_output; k++)
            strmap_put(needed, or_empty(g->output[k]->name), needed);
    }
}

/* Which nodes lie outside of the cut; NULL when there is none. */
static bool *nodes_to_skip(Import *im, const Scope *s, const Onnx__GraphProto *p,
                           const uint32_t *order) {
    if (!im->o->n_inputs && !im->o->n_outputs) return NULL;
    bool *skip = arena_array(im->arena, bool, p->n_node);
    StrMap *needed = strmap_create(im->arena);
    for (int i = 0; i < im->o->n_outputs; i++) strmap_put(needed, im->o->outputs[i], needed);
    for (size_t i = 0; !im->o->n_outputs && i < p->n_output; i++)
        strmap_put(needed, or_empty(p->output[i]->name), needed);
    for (size_t i = p->n_node; i-- > 0;) {
        size_t at = order ? order[i] : i;
        const Onnx__NodeProto *n = p->node[at];
        skip[at] = true;
        for (size_t k = 0; k < n->n_output; k++)
            if (strmap_get(needed, n->output[k]) && !strmap_get(s->names, n->output[k]))
                skip[at] = false;
        if (!skip[at]) need_inputs(needed, n);
    }
    return skip;
}

static void import_cut_outputs(Import *im, Scope *s) {
    for (int i = 0; i < im->o->n_outputs; i++) {
        bool known;
        const char *name = im->o->outputs[i];
        Value *v = scope_find(im, s, name, graph_loc(im, s), &known);
        if (!known)
            diag_error(im->d, graph_loc(im, s), "--outputs %s: the model has no such value", name);
        else if (v && v != im->poison)
            list_output(im, s, v, name);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void import_main(Import *im) {
    const Onnx__GraphProto *p = onnx_model_proto(im->model)->graph;
    const uint32_t *order = onnx_graph_order(im->model, p);
    Scope *s = scope_create(im, NULL, im->m->main, "main");
    import_bare_dims(im, p);
    import_past_dims(im, p);
    bind_initializers(im, s, p);
    if (im->o->n_inputs)
        add_cut_inputs(im, s, p);
    else
        add_inputs(im, s, p);
    check_dim_overrides(im);
    import_nodes(im, s, p->node, p->n_node, order, nodes_to_skip(im, s, p, order));
    if (im->o->n_outputs)
        import_cut_outputs(im, s);
    else
        import_outputs(im, s, p->output, p->n_output);
    report_unsupported(im);
}

/* Walked backwards, so that the first row of each operator stays. */
static void index_rows(Import *im) {
    for (int i = n_onnx_ops - 1; i >= 0; i--)
        strmap_put(im->rows, onnx_row_key(im->arena, onnx_ops[i].domain, onnx_ops[i].type),
                   (void *)&onnx_ops[i]);
}

static void close_model(void *model) {
    onnx_model_close(model);
}

static void release_bytes(const Module *m, const void *bytes, uint64_t n_bytes) {
    onnx_model_release(m->on_destroy_user, bytes, n_bytes);
}

/* Fills m, whose arena is there; false after messages. */
static bool import_into(Module *m, OnnxModel *model, const ImportOptions *o, Assumptions *s) {
    static const ImportOptions as_is = {0};
    int n_before = diag_n_errors(m->diag);
    m->file = onnx_model_path(model);
    m->on_destroy_user = model;
    m->release = release_bytes;
    Import im = {
        .model = model, .m = m, .d = m->diag, .o = o ? o : &as_is, .arena = arena_create()};
    im.assumptions = s;
    im.poison = arena_new(im.arena, Value);
    im.rows = strmap_create(im.arena);
    im.unsupported = strmap_create(im.arena);
    im.map_values = strmap_create(im.arena);
    im.bare_dims = strmap_create(im.arena);
    im.zero_dims = strmap_create(im.arena);
    im.dim_used = arena_array(im.arena, bool, im.o->n_dims);
    index_rows(&im);
    import_main(&im);
    arena_destroy(im.arena);
    return diag_n_errors(m->diag) == n_before;
}

/* Under assumptions: is the whole without errors, and are the outputs of the ranks that the file
 * gives them? */
static bool fits_assumptions(Module *m, const OnnxModel *model) {
    const Onnx__GraphProto *p = onnx_model_proto(model)->graph;
    if (!infer_graph(m, m->main)) return false;
    for (uint32_t i = 0; i < m->main->outputs.n; i++) {
        const Value *v = m->main->outputs.at[i];
        const Onnx__ValueInfoProto *info = find_info(p->output, p->n_output, v->name);
        const Onnx__TypeProto *t = info ? info->type : NULL;
        if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && t->tensor_type->shape &&
            (int)t->tensor_type->shape->n_dim != v->shape.rank)
            return false;
    }
    return true;
}

/* Attempts until one fits its assumptions. After the last one the first one counts, as it is. */
static Module *attempt_imports(OnnxModel *model, const ImportOptions *o, const Target *t, Diag *d) {
    Assumptions *s = assumptions_create(onnx_model_arena(model));
    onnx_model_keep(model, s);
    DiagMark mark = diag_mark(d);
    for (bool goes_on = true;;) {
        Module *m = module_create(d, t);
        bool good = import_into(m, model, o, s);
        if (!goes_on || !assumptions_any(s) || (good && fits_assumptions(m, model))) {
            assumptions_warn(s, d);
            if (good) return m;
            module_destroy(m);
            return NULL;
        }
        module_destroy(m);
        diag_rewind(d, mark);
        goes_on = assumptions_next(s);
    }
}

static Module *import_model(OnnxModel *model, const ImportOptions *o, const Target *t, Diag *d) {
    if (!model) return NULL;
    int n_before = diag_n_errors(d);
    for (uint32_t i = 0; o && o->ops && i < o->ops->functions.n; i++) {
        OnnxModel *library = onnx_model_open(o->ops->functions.at[i], d);
        if (library) onnx_model_add_library(model, library);
    }
    if (diag_n_errors(d) > n_before) {
        onnx_model_close(model);
        return NULL;
    }
    Module *m = attempt_imports(model, o, t, d);
    if (m)
        m->on_destroy = close_model;
    else
        onnx_model_close(model);
    return m;
}

Module *frontend_import_version(Module *general, const char *name, const KExpr *when,
                                const ImportOptions *o) {
    Module *m = module_add_version(general, name, when);
    OnnxModel *model = general->on_destroy_user;
    return import_into(m, model, o, onnx_model_kept(model)) ? m : NULL;
}

Module *frontend_import_onnx(const char *path, const ImportOptions *o, const Target *t, Diag *d) {
    return import_model(onnx_model_open(path, d), o, t, d);
}

Module *frontend_import_onnx_bytes(const char *name, const void *bytes, size_t n_bytes,
                                   const ImportOptions *o, const Target *t, Diag *d) {
    return import_model(onnx_model_open_bytes(name, bytes, n_bytes, d), o, t, d);
}

bool frontend_is_intact(const Module *m, Diag *d) {
    return !m->on_destroy_user || onnx_model_is_intact(m->on_destroy_user, d);
}
