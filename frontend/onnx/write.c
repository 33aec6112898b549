/* A module as an ONNX model: what `--emit=onnx` writes.
 *
 * The graph IR speaks ONNX's newest operators, so every node is written as it is. Values get their
 * source names where those are unique in the whole module, and numbered ones elsewhere; constants
 * are initializers of the main graph, which subgraphs may read. Weights go from where they lie
 * straight to the file: the message tree refers to them and is packed through a buffer that writes.
 */
#include <stdio.h>
#include <string.h>

#include "frontend/frontend.h"
#include "frontend/onnx/model.h"
#include "ir/support/map.h"
#include "ir/support/str.h"

enum { WRITE_OPSET = 23, WRITE_ML_OPSET = 3, WRITE_IR_VERSION = 11 };

typedef struct Writer {
    const Module *m;
    Arena *arena;
    char **name;   /* by value id */
    StrMap *taken; /* value names in use */
    StrMap *nodes; /* node names in use: what one source node became has many nodes */
    VEC(Onnx__TensorProto *) initializers;
} Writer;

/* ---- names ----------------------------------------------------------------------------------- */

static void name_value(Writer *w, const Value *v) {
    if (!v || w->name[v->id]) return;
    char *name = (char *)v->name;
    if (!name[0] || strmap_get(w->taken, name)) {
        uint32_t id = v->id;
        do name = arena_printf(w->arena, "%s_%u", v->name[0] ? v->name : "v", id++);
        while (strmap_get(w->taken, name));
    }
    strmap_put(w->taken, name, w);
    w->name[v->id] = name;
}

static char *name_of(const Writer *w, const Value *v) {
    return v ? w->name[v->id] : "";
}

/* ---- tensors and types ----------------------------------------------------------------------- */

static Onnx__TensorProto *write_tensor(Writer *w, const Value *v, const char *name) {
    Onnx__TensorProto *t = arena_new(w->arena, Onnx__TensorProto);
    onnx__tensor_proto__init(t);
    t->name = (char *)name;
    t->has_data_type = true;
    t->data_type = dtype_info[v->dtype].onnx;
    t->n_dims = (size_t)v->shape.rank;
    t->dims = arena_array(w->arena, int64_t, v->shape.rank);
    for (int i = 0; i < v->shape.rank; i++)
        BUG_IF(!shape_dim_int(v->shape, i, &t->dims[i]), "constant '%s' has a symbolic dim",
               v->name);
    if (v->dtype == DT_STR) {
        int64_t n = 0;
        shape_count_int(v->shape, &n);
        t->n_string_data = (size_t)n;
        t->string_data = arena_array(w->arena, ProtobufCBinaryData, n + 1);
        for (int64_t i = 0; i < n; i++) {
            ConstString s = value_const_string(v, i);
            t->string_data[i] = (ProtobufCBinaryData){s.n_bytes, (uint8_t *)s.bytes};
        }
        return t;
    }
    t->has_raw_data = true;
    t->raw_data = (ProtobufCBinaryData){v->data_bytes, (uint8_t *)v->data};
    if (dtype_info[v->dtype].bits < 8) {
        t->raw_data.len = (size_t)dtype_packed_bytes(v->dtype, v->data_bytes);
        t->raw_data.data = arena_alloc(w->arena, t->raw_data.len);
        dtype_pack(v->dtype, v->data, v->data_bytes, t->raw_data.data);
    }
    return t;
}

/* A number, or the text of the expression without the brackets around it. */
static Onnx__TensorShapeProto__Dimension *write_dim(Writer *w, const KExpr *e) {
    Onnx__TensorShapeProto__Dimension *d = arena_new(w->arena, Onnx__TensorShapeProto__Dimension);
    onnx__tensor_shape_proto__dimension__init(d);
    int64_t value;
    if (k_is_int(e, &value)) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = value;
        return d;
    }
    const char *text = shape_text(w->arena, (Shape){1, &e});
    d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    d->dim_param = arena_printf(w->arena, "%.*s", (int)strlen(text) - 2, text + 1);
    return d;
}

static Onnx__TensorShapeProto *write_shape(Writer *w, Shape shape) {
    Onnx__TensorShapeProto *s = arena_new(w->arena, Onnx__TensorShapeProto);
    onnx__tensor_shape_proto__init(s);
    s->n_dim = (size_t)shape.rank;
    s->dim = arena_array(w->arena, Onnx__TensorShapeProto__Dimension *, shape.rank);
    for (int i = 0; i < shape.rank; i++) s->dim[i] = write_dim(w, shape.dims[i]);
    return s;
}

static Onnx__ValueInfoProto *write_info(Writer *w, const Value *v) {
    Onnx__ValueInfoProto *info = arena_new(w->arena, Onnx__ValueInfoProto);
    onnx__value_info_proto__init(info);
    info->name = name_of(w, v);
    if (v->dtype == DT_NONE) return info;
    info->type = arena_new(w->arena, Onnx__TypeProto);
    onnx__type_proto__init(info->type);
    info->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    Onnx__TypeProto__Tensor *t = info->type->tensor_type =
        arena_new(w->arena, Onnx__TypeProto__Tensor);
    onnx__type_proto__tensor__init(t);
    t->has_elem_type = true;
    t->elem_type = dtype_info[v->dtype].onnx;
    if (v->shape.rank >= 0) t->shape = write_shape(w, v->shape);
    return info;
}

/* ---- attributes ------------------------------------------------------------------------------ */

static Onnx__GraphProto *write_graph(Writer *w, const Graph *g);

static ProtobufCBinaryData text_bytes(const char *s) {
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)s};
}

static void write_lists(Writer *w, Onnx__AttributeProto *p, const Attr *a) {
    if (a->kind == AT_INTS) {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        p->n_ints = a->n;
        p->ints = (int64_t *)a->ints;
    } else if (a->kind == AT_FLOATS) {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
        p->n_floats = a->n;
        p->floats = arena_array(w->arena, float, a->n);
        for (uint32_t i = 0; i < a->n; i++) p->floats[i] = (float)a->floats[i];
    } else {
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS;
        p->n_strings = a->n;
        p->strings = arena_array(w->arena, ProtobufCBinaryData, a->n);
        for (uint32_t i = 0; i < a->n; i++) p->strings[i] = text_bytes(a->strings[i]);
    }
}

static Onnx__AttributeProto *write_attr(Writer *w, const Attr *a) {
    Onnx__AttributeProto *p = arena_new(w->arena, Onnx__AttributeProto);
    onnx__attribute_proto__init(p);
    p->name = (char *)a->name;
    p->has_type = true;
    switch (a->kind) {
    case AT_INT:
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        p->has_i = true, p->i = a->i;
        break;
    case AT_FLOAT:
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        p->has_f = true, p->f = (float)a->f;
        break;
    case AT_STRING:
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        p->has_s = true, p->s = text_bytes(a->s);
        break;
    case AT_TENSOR:
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
        p->t = write_tensor(w, a->tensor, a->name);
        break;
    case AT_GRAPH:
        p->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
        p->g = write_graph(w, a->graph);
        break;
    case AT_INTS:
    case AT_FLOATS:
    case AT_STRINGS: write_lists(w, p, a); break;
    case AT_NONE: BUG("attribute '%s' has no value", a->name);
    }
    return p;
}

/* ---- nodes and graphs ------------------------------------------------------------------------ */

static Onnx__NodeProto *new_node(Writer *w, OpId op, int n_in, int n_out) {
    Onnx__NodeProto *p = arena_new(w->arena, Onnx__NodeProto);
    onnx__node_proto__init(p);
    p->op_type = (char *)op_info[op].name;
    p->domain = (char *)op_info[op].domain;
    p->n_input = (size_t)n_in;
    p->n_output = (size_t)n_out;
    p->input = arena_array(w->arena, char *, n_in);
    p->output = arena_array(w->arena, char *, n_out);
    return p;
}

static char *node_name(Writer *w, const Node *n) {
    char *name = (char *)(n->loc.node ? n->loc.node : "");
    if (!name[0] || strmap_get(w->nodes, name))
        name = arena_printf(w->arena, "%s_n%u", name[0] ? name : op_info[n->op].name, n->id);
    strmap_put(w->nodes, name, w);
    return name;
}

static Onnx__NodeProto *write_node(Writer *w, const Node *n) {
    int n_out = n->n_out;
    while (n_out > 0 && !n->out[n_out - 1]) n_out--;
    Onnx__NodeProto *p = new_node(w, n->op, n->n_in, n_out);
    p->name = node_name(w, n);
    for (int i = 0; i < n->n_in; i++) p->input[i] = name_of(w, n->in[i]);
    for (int i = 0; i < n_out; i++) p->output[i] = name_of(w, n->out[i]);
    p->n_attribute = n->attrs.n;
    p->attribute = arena_array(w->arena, Onnx__AttributeProto *, n->attrs.n);
    for (uint32_t i = 0; i < n->attrs.n; i++) p->attribute[i] = write_attr(w, &n->attrs.at[i]);
    return p;
}

/* An output that no node makes is copied by one. */
static Onnx__NodeProto *write_copy(Writer *w, const Value *v, char *name) {
    Onnx__NodeProto *p = new_node(w, OP_Identity, 1, 1);
    p->input[0] = name_of(w, v);
    p->output[0] = name;
    return p;
}

static Onnx__GraphProto *write_graph(Writer *w, const Graph *g) {
    Onnx__GraphProto *p = arena_new(w->arena, Onnx__GraphProto);
    onnx__graph_proto__init(p);
    p->name = (char *)g->name;
    size_t n_nodes = g->outputs.n;
    for (const Node *n = g->first; n; n = n->next) n_nodes++;
    p->node = arena_array(w->arena, Onnx__NodeProto *, n_nodes);
    p->input = arena_array(w->arena, Onnx__ValueInfoProto *, g->inputs.n);
    p->output = arena_array(w->arena, Onnx__ValueInfoProto *, g->outputs.n);
    for (uint32_t i = 0; i < g->inputs.n; i++)
        p->input[p->n_input++] = write_info(w, g->inputs.at[i]);
    for (const Node *n = g->first; n; n = n->next) p->node[p->n_node++] = write_node(w, n);
    for (uint32_t i = 0; i < g->outputs.n; i++) {
        const Value *v = g->outputs.at[i];
        Onnx__ValueInfoProto *info = write_info(w, v);
        if (!v->def) {
            info->name = arena_printf(w->arena, "%s_out%u", name_of(w, v), i);
            p->node[p->n_node++] = write_copy(w, v, info->name);
        }
        p->output[p->n_output++] = info;
    }
    return p;
}

static void name_constant(Writer *w, const Value *v) {
    if (!v || !value_is_const(v) || w->name[v->id]) return;
    name_value(w, v);
    vec_push(w->arena, &w->initializers, write_tensor(w, v, name_of(w, v)));
}

static void name_graph(Graph *g, void *user) {
    Writer *w = user;
    for (uint32_t i = 0; i < g->inputs.n; i++) name_value(w, g->inputs.at[i]);
    for (uint32_t i = 0; i < g->outputs.n; i++) name_constant(w, g->outputs.at[i]);
    for (const Node *n = g->first; n; n = n->next) {
        for (int i = 0; i < n->n_in; i++) name_constant(w, n->in[i]);
        for (int i = 0; i < n->n_out; i++) name_value(w, n->out[i]);
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

typedef struct FileBuffer {
    ProtobufCBuffer base;
    FILE *file;
    bool failed;
} FileBuffer;

static void append_to_file(ProtobufCBuffer *b, size_t n, const uint8_t *bytes) {
    FileBuffer *f = (FileBuffer *)b;
    f->failed |= n && fwrite(bytes, 1, n, f->file) != n;
}

static void import_opset(Writer *w, Onnx__ModelProto *p, const char *domain, int64_t version) {
    Onnx__OperatorSetIdProto *o = arena_new(w->arena, Onnx__OperatorSetIdProto);
    onnx__operator_set_id_proto__init(o);
    o->domain = (char *)domain;
    o->has_version = true;
    o->version = version;
    p->opset_import[p->n_opset_import++] = o;
}

static Onnx__ModelProto *write_model(Writer *w) {
    const Module *m = w->m;
    Onnx__ModelProto *p = arena_new(w->arena, Onnx__ModelProto);
    onnx__model_proto__init(p);
    p->has_ir_version = true;
    p->ir_version = WRITE_IR_VERSION;
    p->producer_name = "smelt";
    p->producer_version = SMELT_VERSION;
    p->opset_import = arena_array(w->arena, Onnx__OperatorSetIdProto *, 2);
    import_opset(w, p, "", WRITE_OPSET);
    import_opset(w, p, "ai.onnx.ml", WRITE_ML_OPSET);
    for (uint32_t i = 0; i < m->main->inputs.n; i++) name_value(w, m->main->inputs.at[i]);
    for (uint32_t i = 0; i < m->main->outputs.n; i++)
        if (m->main->outputs.at[i]->def) name_value(w, m->main->outputs.at[i]);
    graph_visit(m->main, name_graph, w);
    p->graph = write_graph(w, m->main);
    p->graph->n_initializer = w->initializers.n;
    p->graph->initializer = w->initializers.at;
    return p;
}

bool frontend_write_onnx(const Module *m, FILE *out) {
    Writer w = {.m = m, .arena = arena_create()};
    w.name = arena_array(w.arena, char *, m->n_values);
    w.taken = strmap_create(w.arena);
    w.nodes = strmap_create(w.arena);
    FileBuffer buffer = {{append_to_file}, out, false};
    onnx__model_proto__pack_to_buffer(write_model(&w), &buffer.base);
    arena_destroy(w.arena);
    return !buffer.failed && !fflush(out);
}
