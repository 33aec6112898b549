/* What importers work with: the attributes of the node that is being imported, and short ways to
 * add nodes and constants in its place. */
#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "frontend/onnx/import.h"
#include "ir/support/str.h"

/* ---- attributes ------------------------------------------------------------------------------ */

const Onnx__AttributeProto *call_attr(const Call *c, const char *name) {
    for (int i = 0; i < c->n_attrs; i++)
        if (!strcmp(c->attrs[i].name, name)) return c->attrs[i].proto;
    return NULL;
}

int64_t call_int(const Call *c, const char *name, int64_t otherwise) {
    const Onnx__AttributeProto *a = call_attr(c, name);
    return a ? a->i : otherwise;
}

double call_float(const Call *c, const char *name, double otherwise) {
    const Onnx__AttributeProto *a = call_attr(c, name);
    return a ? (double)a->f : otherwise;
}

const char *intern_data(ProtobufCBinaryData s) {
    return s.len ? intern_bytes((const char *)s.data, s.len) : "";
}

const char *call_string(const Call *c, const char *name, const char *otherwise) {
    const Onnx__AttributeProto *a = call_attr(c, name);
    return a ? intern_data(a->s) : otherwise;
}

int call_ints(const Call *c, const char *name, const int64_t **v) {
    const Onnx__AttributeProto *a = call_attr(c, name);
    *v = a ? a->ints : NULL;
    return a ? (int)a->n_ints : -1;
}

Value *call_in(const Call *c, int i) {
    return i < c->n_in ? c->in[i] : NULL;
}

Value *call_map_values(const Call *c, int i) {
    return strmap_get_bytes(c->im->map_values, (const char *)&c->in[i], sizeof c->in[i]);
}

bool call_wants(const Call *c, int output) {
    return output < c->n_out && c->proto->output[output][0];
}

static bool is_listed(const char *words, const char *name) {
    size_t n = strlen(name);
    for (const char *at = words; (at = strstr(at, name)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == 0 || at[n] == ' ')) return true;
    return false;
}

/* The attribute's value in the graph's own form; kind AT_NONE after a message. */
static Attr convert_attr(Call *c, const NamedAttr *named) {
    const Onnx__AttributeProto *p = named->proto;
    Attr a = {.name = named->name};
    switch (p->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT: a.kind = AT_INT, a.i = p->i; break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT: a.kind = AT_FLOAT, a.f = (double)p->f; break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING:
        a.kind = AT_STRING, a.s = intern_data(p->s);
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS:
        a.kind = AT_INTS, a.n = (uint32_t)p->n_ints, a.ints = p->ints;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS: {
        double *copy = arena_array(c->im->arena, double, p->n_floats);
        for (size_t i = 0; i < p->n_floats; i++) copy[i] = (double)p->floats[i];
        a.kind = AT_FLOATS, a.n = (uint32_t)p->n_floats, a.floats = copy;
        break;
    }
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS: {
        const char **copy = arena_array(c->im->arena, const char *, p->n_strings);
        for (size_t i = 0; i < p->n_strings; i++) copy[i] = intern_data(p->strings[i]);
        a.kind = AT_STRINGS, a.n = (uint32_t)p->n_strings, a.strings = copy;
        break;
    }
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR:
        a.tensor = import_tensor(c->im, c->g, named->name, p->t, c->loc);
        a.kind = a.tensor ? AT_TENSOR : AT_NONE;
        break;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH:
        a.graph = import_subgraph(c, named->name, p->g);
        a.kind = a.graph ? AT_GRAPH : AT_NONE;
        break;
    default:
        diag_unsupported(c->im->d, c->loc, "attribute '%s' has a type that is not supported",
                         named->name);
    }
    return a;
}

bool call_copy_attrs(Call *c, Node *n, const char *but) {
    for (int i = 0; i < c->n_attrs; i++) {
        if (is_listed(but, c->attrs[i].name)) continue;
        Attr a = convert_attr(c, &c->attrs[i]);
        if (a.kind == AT_NONE) return false;
        node_set_attr(n, a);
    }
    return true;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

static void set_provisional_types(Node *n) {
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i]) n->out[i]->dtype = provisional_dtype(n, i);
}

Node *call_node(Call *c, OpId op, Value *const *in, int n_in, int n_out) {
    Node *n = graph_add_node(c->g, NULL, op, in, n_in, n_out, c->loc);
    set_provisional_types(n);
    return n;
}

Value *call_op(Call *c, OpId op, int n_in, ...) {
    Value *in[8];
    assert(n_in <= 8);
    va_list ap;
    va_start(ap, n_in);
    for (int i = 0; i < n_in; i++) in[i] = va_arg(ap, Value *);
    va_end(ap);
    return call_node(c, op, in, n_in, 1)->out[0];
}

Value *call_cast(Call *c, Value *v, DType t) {
    if (!v || v->dtype == t) return v;
    Value *to = call_op(c, OP_Cast, 1, v);
    node_set_int(to->def, "to", dtype_info[t].onnx);
    to->dtype = t;
    return to;
}

bool call_finish(Call *c, Node *n) {
    set_provisional_types(n);
    for (int i = 0; i < c->n_out && i < n->n_out; i++) {
        c->out[i] = n->out[i];
        if (!call_wants(c, i)) n->out[i] = NULL;
    }
    return true;
}

bool call_result(Call *c, Value *v) {
    c->out[0] = v;
    return true;
}

bool call_same(Call *c, Value *const *in, int n_in, const char *but) {
    OpId op = op_from_name(c->row->domain, c->row->type);
    BUG_IF(op == OP_NONE, "ops.def imports %s as itself, but the graph has no such operator",
           c->row->type);
    while (n_in > 0 && !in[n_in - 1]) n_in--;
    Node *n = call_node(c, op, in, n_in, c->n_out);
    return call_copy_attrs(c, n, but) && call_finish(c, n);
}

/* ---- constants ------------------------------------------------------------------------------- */

Value *call_list(Call *c, const int64_t *v, int n) {
    return graph_const_ints(c->g, "", v, n);
}

Value *call_ints_input(Call *c, const char *attr) {
    const int64_t *v;
    int n = call_ints(c, attr, &v);
    return n < 0 ? NULL : call_list(c, v, n);
}

Value *call_i64(Call *c, int64_t v) {
    return graph_const_int(c->g, v);
}

Value *call_scalar(Call *c, DType t, double v) {
    return graph_const_scalar(c->g, t, v);
}

DType call_float_type(const Value *v) {
    return v && dtype_is_float(v->dtype) ? v->dtype : DT_F32;
}
