/* Checks of one node by itself: that it names an operator, and that its attributes are well formed.
 *
 * A writer that follows proto3 leaves a zero i, f or s out, and some old writers write zeros for
 * every scalar of an attribute; both are accepted. Anything else that contradicts the declared
 * type is an error, and so is a missing tensor, graph or type. */
#include <inttypes.h>
#include <string.h>

#include "frontend/onnx/model_internal.h"

#define TYPE(name) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name
enum { FIRST_TYPE = TYPE(FLOAT), LAST_TYPE = TYPE(TYPE_PROTOS) };

static const char *const type_name[LAST_TYPE + 1] = {
    [TYPE(FLOAT)] = "FLOAT",
    [TYPE(INT)] = "INT",
    [TYPE(STRING)] = "STRING",
    [TYPE(TENSOR)] = "TENSOR",
    [TYPE(GRAPH)] = "GRAPH",
    [TYPE(FLOATS)] = "FLOATS",
    [TYPE(INTS)] = "INTS",
    [TYPE(STRINGS)] = "STRINGS",
    [TYPE(TENSORS)] = "TENSORS",
    [TYPE(GRAPHS)] = "GRAPHS",
    [TYPE(SPARSE_TENSOR)] = "SPARSE_TENSOR",
    [TYPE(SPARSE_TENSORS)] = "SPARSE_TENSORS",
    [TYPE(TYPE_PROTO)] = "TYPE_PROTO",
    [TYPE(TYPE_PROTOS)] = "TYPE_PROTOS",
};

/* Is there a value of this type? A zero scalar counts only when `zeros` is set. */
static bool has_value(const Onnx__AttributeProto *a, int type, bool zeros) {
    switch (type) {
    case TYPE(FLOAT): return a->has_f && (zeros || a->f != 0);
    case TYPE(INT): return a->has_i && (zeros || a->i != 0);
    case TYPE(STRING): return a->has_s && (zeros || a->s.len);
    case TYPE(TENSOR): return a->t != NULL;
    case TYPE(GRAPH): return a->g != NULL;
    case TYPE(FLOATS): return a->n_floats != 0;
    case TYPE(INTS): return a->n_ints != 0;
    case TYPE(STRINGS): return a->n_strings != 0;
    case TYPE(TENSORS): return a->n_tensors != 0;
    case TYPE(GRAPHS): return a->n_graphs != 0;
    case TYPE(SPARSE_TENSOR): return a->sparse_tensor != NULL;
    case TYPE(SPARSE_TENSORS): return a->n_sparse_tensors != 0;
    case TYPE(TYPE_PROTO): return a->tp != NULL;
    case TYPE(TYPE_PROTOS): return a->n_type_protos != 0;
    }
    return false;
}

static bool is_message_type(int type) {
    return type == TYPE(TENSOR) || type == TYPE(GRAPH) || type == TYPE(SPARSE_TENSOR) ||
           type == TYPE(TYPE_PROTO);
}

static bool check_attribute(const Onnx__AttributeProto *a, SrcLoc where, bool in_function,
                            Diag *d) {
    const char *name = a->name;
    int type = (int)a->type, n_present = 0, present = 0;
    if (type < 0 || type > LAST_TYPE) {
        diag_error(d, where, "attribute '%s' has the unknown type %d", name, type);
        return false;
    }
    for (int k = FIRST_TYPE; k <= LAST_TYPE; k++)
        if (has_value(a, k, type == 0)) {
            n_present++;
            if (!present || k != type) present = k;
        }
    if (a->ref_attr_name && *a->ref_attr_name) {
        if (!in_function)
            diag_error(d, where,
                       "attribute '%s' refers to '%s', but only functions have attributes", name,
                       a->ref_attr_name);
        else if (n_present)
            diag_error(d, where, "attribute '%s' has both a reference and a value", name);
        return in_function && !n_present;
    }
    if (type == 0 && n_present != 1) {
        diag_error(d, where, "attribute '%s' has no type and %s", name,
                   n_present ? "more than one value" : "no value");
        return false;
    }
    if (type && n_present > (has_value(a, type, false) ? 1 : 0)) {
        diag_error(d, where, "attribute '%s' is declared %s but carries a value of type %s", name,
                   type_name[type], type_name[present]);
        return false;
    }
    if (is_message_type(type) && !n_present) {
        diag_error(d, where, "attribute '%s' is declared %s but has no value", name,
                   type_name[type]);
        return false;
    }
    return true;
}

/* No two attributes of one name, and none without. */
static bool check_attribute_names(Arena *scratch, const Onnx__NodeProto *n, SrcLoc where, Diag *d) {
    StrMap *seen = n->n_attribute > 8 ? strmap_create(scratch) : NULL;
    for (size_t i = 0; i < n->n_attribute; i++) {
        const char *name = n->attribute[i]->name;
        bool is_twice = false;
        if (!name || !*name) {
            diag_error(d, where, "attribute %zu has no name", i);
            return false;
        }
        if (seen) {
            is_twice = strmap_get(seen, name) != NULL;
            strmap_put(seen, name, n->attribute[i]);
        }
        for (size_t k = 0; !seen && k < i; k++)
            is_twice = is_twice || !strcmp(n->attribute[k]->name, name);
        if (is_twice) {
            diag_error(d, where, "attribute '%s' is given twice", name);
            return false;
        }
    }
    return true;
}

bool onnx_check_node(OnnxModel *m, Arena *scratch, const Onnx__NodeProto *n, SrcLoc where,
                     bool in_function, Diag *d) {
    (void)m;
    bool good = true;
    if (!n->op_type || !*n->op_type) {
        where.op = "?";
        diag_error(d, where, "it names no operator");
        good = false;
    }
    if (!check_attribute_names(scratch, n, where, d)) return false;
    for (size_t i = 0; i < n->n_attribute; i++)
        good = check_attribute(n->attribute[i], where, in_function, d) && good;
    return good;
}
