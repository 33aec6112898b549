/* Importer of a user's own operators (frontend/op_file.h): a Custom node with the node's inputs,
 * then its attributes as constants, and the functions that may be called. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/op_file.h"

/* An attribute as the function reads it; NULL after a message. */
static Value *attr_value(Call *c, const OpFileOp *op, const OpFileAttr *want) {
    const Onnx__AttributeProto *p = call_attr(c, want->name);
    static const Onnx__AttributeProto__AttributeType types[] = {
        [AT_FLOAT] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT,
        [AT_INT] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT,
        [AT_FLOATS] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS,
        [AT_INTS] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS,
        [AT_STRING] = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING,
    };
    if ((!p && want->is_required) || (p && p->type != types[want->kind])) {
        diag_error(c->im->d, c->loc, "attribute '%s' %s, which line %d of %s declares", want->name,
                   p ? "has another type than that" : "is missing", op->line, op->file);
        return NULL;
    }
    if (!p) return want->kind == AT_INT ? call_i64(c, want->i) : call_scalar(c, DT_F32, want->f);
    int64_t n;
    switch ((int)want->kind) {
    case AT_INT: return call_i64(c, p->i);
    case AT_FLOAT: return call_scalar(c, DT_F32, (double)p->f);
    case AT_INTS: return call_list(c, p->ints, (int)p->n_ints);
    case AT_FLOATS:
        n = (int64_t)p->n_floats;
        return graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &n, 1),
                               arena_copy(c->m->arena, p->floats, p->n_floats * sizeof(float)),
                               p->n_floats * sizeof(float));
    default:
        n = (int64_t)p->s.len;
        return graph_add_const(c->g, "", DT_U8, shape_ints(c->m->k, &n, 1),
                               arena_copy(c->m->arena, p->s.data, p->s.len), p->s.len);
    }
}

static bool check_call(Call *c, const OpFileOp *op) {
    bool counts = c->n_in == op->n_in && c->n_out <= op->n_out;
    if (!counts)
        diag_error(c->im->d, c->loc,
                   "has %d inputs and %d outputs, but line %d of %s declares %d and %d", c->n_in,
                   c->n_out, op->line, op->file, op->n_in, op->n_out);
    for (int i = 0; counts && i < c->n_in; i++) {
        if (c->in[i]) continue;
        diag_error(c->im->d, c->loc, "input %d is left out; a C function takes all of them", i);
        counts = false;
    }
    for (int i = 0; i < c->n_attrs; i++) {
        bool known = false;
        for (int k = 0; k < op->n_attrs; k++) known |= !strcmp(op->attr[k].name, c->attrs[i].name);
        if (known) continue;
        diag_error(c->im->d, c->loc, "attribute '%s' is not declared in line %d of %s",
                   c->attrs[i].name, op->line, op->file);
        counts = false;
    }
    return counts;
}

bool import_custom(Call *c, const OpFileOp *op) {
    if (!check_call(c, op)) return false;
    int n = op->n_in + op->n_attrs, n_functions = 0;
    Value **in = arena_array(c->im->arena, Value *, n + 1);
    for (int i = 0; i < op->n_in; i++) in[i] = c->in[i];
    for (int i = 0; i < op->n_attrs; i++)
        if (!(in[op->n_in + i] = attr_value(c, op, &op->attr[i]))) return false;
    for (const OpFileOp *o = op; o; o = o->next) n_functions++;
    const char **symbols = arena_array(c->im->arena, const char *, n_functions);
    const char **signatures = arena_array(c->im->arena, const char *, n_functions);
    int i = 0;
    for (const OpFileOp *o = op; o; o = o->next, i++) {
        symbols[i] = intern(o->symbol);
        signatures[i] = intern(o->signature);
    }
    Node *node = call_node(c, OP_Custom, in, n, c->n_out);
    node_set_attr(node, (Attr){.name = "symbols",
                               .kind = AT_STRINGS,
                               .n = (uint32_t)n_functions,
                               .strings = symbols});
    node_set_attr(node, (Attr){.name = "signatures",
                               .kind = AT_STRINGS,
                               .n = (uint32_t)n_functions,
                               .strings = signatures});
    return call_finish(c, node);
}
