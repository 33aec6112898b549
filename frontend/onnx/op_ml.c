/* Importers of classic machine learning (ai.onnx.ml), as scikit-learn's converters write it.
 *
 * What looks up categories becomes LabelEncoder in the form of its version 4; string class labels
 * are numbers up to the end, where a Gather puts the names in their place. A map is two tensors,
 * keys and values (import.c), and the maps that ZipMap makes have constant keys: they are its
 * values. */
#include <math.h>
#include <string.h>

#include "frontend/onnx/import.h"

/* ---- constants from attributes --------------------------------------------------------------- */

static Value *floats_1d(Call *c, const float *v, size_t n) {
    int64_t dim = (int64_t)n;
    return graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &dim, 1),
                           arena_copy(c->m->arena, v, sizeof *v * (n ? n : 1)), sizeof *v * n);
}

static Value *strings_1d(Call *c, const ProtobufCBinaryData *v, size_t n) {
    ConstString *s = arena_array(c->im->arena, ConstString, n + 1);
    for (size_t i = 0; i < n; i++) s[i] = (ConstString){(const char *)v[i].data, v[i].len};
    int64_t dim = (int64_t)n;
    return graph_const_strings(c->g, "", shape_ints(c->m->k, &dim, 1), s);
}

/* 0, 1, ... n - 1 */
static Value *counting(Call *c, int64_t n) {
    int64_t *v = arena_array(c->im->arena, int64_t, n + 1);
    for (int64_t i = 0; i < n; i++) v[i] = i;
    return call_list(c, v, (int)n);
}

static Value *list_attr(Call *c, const char *name) {
    const Onnx__AttributeProto *a = call_attr(c, name);
    if (!a) return NULL;
    if (a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR)
        return import_tensor(c->im, c->g, name, a->t, c->loc);
    if (a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS)
        return a->n_strings ? strings_1d(c, a->strings, a->n_strings) : NULL;
    if (a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS)
        return a->n_floats ? floats_1d(c, a->floats, a->n_floats) : NULL;
    return a->n_ints ? call_list(c, a->ints, (int)a->n_ints) : NULL;
}

static Value *one_string(Call *c, const char *attr, const char *otherwise) {
    const Onnx__AttributeProto *a = call_attr(c, attr);
    ProtobufCBinaryData s = {strlen(otherwise), (uint8_t *)(uintptr_t)otherwise};
    return strings_1d(c, a ? &a->s : &s, 1);
}

static bool is_string(const Value *v) {
    return v->dtype == DT_STR;
}

/* ---- looking up ------------------------------------------------------------------------------ */

static void set_tensor(Node *n, const char *name, Value *v) {
    node_set_attr(n, (Attr){.name = intern(name), .kind = AT_TENSOR, .tensor = v});
}

/* x looked up among keys: values beside them, otherwise `other` (one element). */
static Value *look_up(Call *c, Value *x, Value *keys, Value *values, Value *other) {
    Node *n = call_node(c, OP_LabelEncoder, &x, 1, 1);
    set_tensor(n, "keys_tensor", keys);
    set_tensor(n, "values_tensor", values);
    set_tensor(n, "default_tensor", other);
    n->out[0]->dtype = values->dtype;
    return n->out[0];
}

static bool lacks(Call *c, const char *what) {
    diag_error(c->im->d, c->loc, "has no %s", what);
    return false;
}

bool import_label_encoder_1(Call *c) {
    Value *classes = list_attr(c, "classes_strings"), *x = c->in[0];
    if (!classes) return lacks(c, "classes_strings");
    Value *numbers = counting(c, classes->shape.dims[0]->u.i);
    if (is_string(x)) {
        int64_t other = call_int(c, "default_int64", -1);
        return call_result(c, look_up(c, x, classes, numbers, call_list(c, &other, 1)));
    }
    Value *other = one_string(c, "default_string", "_Unused");
    return call_result(c, look_up(c, call_cast(c, x, DT_I64), numbers, classes, other));
}

bool import_category_mapper(Call *c) {
    Value *names = list_attr(c, "cats_strings"), *numbers = list_attr(c, "cats_int64s");
    if (!names || !numbers) return lacks(c, "categories in both forms");
    if (is_string(c->in[0])) {
        int64_t other = call_int(c, "default_int64", -1);
        return call_result(c, look_up(c, c->in[0], names, numbers, call_list(c, &other, 1)));
    }
    Value *other = one_string(c, "default_string", "_Unused");
    return call_result(c, look_up(c, c->in[0], numbers, names, other));
}

/* The one list that is there: NAME_tensor, NAME_strings, NAME_int64s or NAME_floats. */
static Value *typed_list(Call *c, const char *name) {
    static const char *const forms[] = {"tensor", "strings", "int64s", "floats"};
    Value *found = NULL;
    for (int i = 0; i < 4 && !found; i++)
        found = list_attr(c, arena_printf(c->im->arena, "%s_%s", name, forms[i]));
    if (!found) lacks(c, arena_printf(c->im->arena, "%s", name));
    return found;
}

static Value *default_for(Call *c, DType t) {
    Value *given = list_attr(c, "default_tensor");
    int64_t number = call_int(c, "default_int64", -1);
    if (given) return given;
    if (t == DT_STR) return one_string(c, "default_string", "_Unused");
    if (t == DT_I64) return call_list(c, &number, 1);
    double value = dtype_is_float(t) ? call_float(c, "default_float", -0.0) : -1;
    return call_scalar(c, t, value);
}

bool import_label_encoder(Call *c) {
    Value *keys = typed_list(c, "keys"), *values = typed_list(c, "values");
    if (!keys || !values) return false;
    Value *other = default_for(c, values->dtype);
    return call_result(c, look_up(c, c->in[0], keys, values, other));
}

/* 1 where the element is the category, along a new last axis. onnxruntime fails at elements
 * without category unless `zeros` is set; here they give zeros either way. */
bool import_one_hot_encoder(Call *c) {
    Value *x = c->in[0], *keys = list_attr(c, is_string(x) ? "cats_strings" : "cats_int64s");
    if (!keys) return lacks(c, "categories of the input's type");
    Value *numbers = counting(c, keys->shape.dims[0]->u.i);
    int64_t none = -1;
    if (!is_string(x)) x = call_cast(c, x, DT_I64);
    Value *found = look_up(c, x, keys, numbers, call_list(c, &none, 1));
    found = call_op(c, OP_Unsqueeze, 2, found, call_list(c, &none, 1));
    return call_result(c, call_cast(c, call_op(c, OP_Equal, 2, found, numbers), DT_F32));
}

/* Tokens become numbers: a pool of strings its distinct ones in order, other strings -1. */
bool import_tfidf(Call *c) {
    const Onnx__AttributeProto *pool = call_attr(c, "pool_strings");
    Value *x = c->in[0];
    if (!is_string(x)) {
        x = call_cast(c, x, DT_I64);
        return call_same(c, &x, 1, "pool_strings");
    }
    if (!pool) return lacks(c, "pool_strings");
    size_t n = pool->n_strings, n_words = 0;
    StrMap *known = strmap_create(c->im->arena);
    ProtobufCBinaryData *word = arena_array(c->im->arena, ProtobufCBinaryData, n + 1);
    int64_t *number = arena_array(c->im->arena, int64_t, n + 1), none = -1;
    for (size_t i = 0; i < n; i++) {
        const char *text = (const char *)pool->strings[i].data;
        uintptr_t found =
            (uintptr_t)strmap_get_bytes(known, text ? text : "", pool->strings[i].len);
        if (!found) {
            word[n_words] = pool->strings[i];
            found = ++n_words;
            strmap_put_bytes(known, text ? text : "", pool->strings[i].len, (void *)found);
        }
        number[i] = (int64_t)found - 1;
    }
    Value *keys = strings_1d(c, word, n_words);
    x = look_up(c, x, keys, counting(c, (int64_t)n_words), call_list(c, &none, 1));
    Node *node = call_node(c, OP_TfIdfVectorizer, &x, 1, 1);
    if (!call_copy_attrs(c, node, "pool_strings pool_int64s")) return false;
    node_set_ints(node, "pool_int64s", number, (int)n);
    return call_finish(c, node);
}

/* ---- elementwise ----------------------------------------------------------------------------- */

bool import_binarizer(Call *c) {
    Value *x = c->in[0];
    DType t = x->dtype, in = dtype_is_float(t) ? t : DT_F32;
    Value *threshold = call_scalar(c, in, call_float(c, "threshold", 0));
    Value *above = call_op(c, OP_Greater, 2, call_cast(c, x, in), threshold);
    return call_result(c, call_cast(c, above, t == DT_NONE ? DT_F32 : t));
}

/* Elements that are the replaced value (or NaN, if that is) become their column's new value. */
bool import_imputer(Call *c) {
    Value *x = c->in[0], *by, *hit;
    DType t = x->dtype;
    bool floats = dtype_is_float(t) || t == DT_NONE;
    by = list_attr(c, floats ? "imputed_value_floats" : "imputed_value_int64s");
    if (!by) return lacks(c, "imputed values of the input's type");
    double replaced = call_float(c, "replaced_value_float", 0);
    if (floats && isnan(replaced)) {
        hit = call_op(c, OP_IsNaN, 1, x);
    } else {
        Value *what = floats ? call_scalar(c, t == DT_NONE ? DT_F32 : t, replaced)
                             : call_cast(c, call_i64(c, call_int(c, "replaced_value_int64", 0)), t);
        hit = call_op(c, OP_Equal, 2, x, what);
    }
    if (t != DT_NONE) by = call_cast(c, by, t);
    return call_result(c, call_op(c, OP_Where, 3, hit, by, x));
}

/* All inputs as f32 columns, side by side. */
bool import_feature_vectorizer(Call *c) {
    const int64_t *dims;
    int n = call_ints(c, "inputdimensions", &dims);
    Value **part = arena_array(c->im->arena, Value *, c->n_in + 1);
    if (n != c->n_in) return lacks(c, "an input dimension for each input");
    for (int i = 0; i < n; i++) {
        int64_t shape[2] = {-1, dims[i]};
        part[i] = call_cast(c, c->in[i], DT_F32);
        part[i] = call_op(c, OP_Reshape, 2, part[i], call_list(c, shape, 2));
    }
    Node *join = call_node(c, OP_Concat, part, n, 1);
    node_set_int(join, "axis", 1);
    return call_result(c, join->out[0]);
}

/* ---- maps ------------------------------------------------------------------------------------ */

bool import_zip_map(Call *c) {
    return call_result(c, call_op(c, OP_Identity, 1, c->in[0]));
}

/* to[keys[i]] = values[i], keys outside are left out; to has `size` elements. */
static Value *scatter_map(Call *c, Value *keys, Value *values, Value *zero, int64_t size) {
    Value *shape = call_list(c, &(int64_t){size + 1}, 1);
    Value *to = call_op(c, OP_Expand, 2, zero, shape);
    Value *all = call_op(c, OP_ScatterElements, 3, to, keys, values);
    Value *first = call_list(c, &(int64_t){0}, 1), *end = call_list(c, &size, 1);
    return call_op(c, OP_Slice, 3, all, first, end);
}

static Value *as_row(Call *c, Value *v) {
    return call_op(c, OP_Unsqueeze, 2, v, call_list(c, &(int64_t){0}, 1));
}

static Value *zero_of(Call *c, DType t) {
    ProtobufCBinaryData empty = {0};
    return t == DT_STR ? strings_1d(c, &empty, 1) : call_scalar(c, t, 0);
}

bool import_dict_vectorizer(Call *c) {
    Value *keys = c->in[0], *values = call_map_values(c, 0);
    if (!values) return lacks(c, "a map as its input");
    Value *words = list_attr(c, is_string(keys) ? "string_vocabulary" : "int64_vocabulary");
    if (!words) return lacks(c, "a vocabulary of the keys' type");
    int64_t n = words->shape.dims[0]->u.i;
    Value *at = look_up(c, keys, words, counting(c, n), call_list(c, &n, 1));
    return call_result(c, as_row(c, scatter_map(c, at, values, zero_of(c, values->dtype), n)));
}

/* Keys come in ascending order, so a dense map is its values. */
bool import_cast_map(Call *c) {
    Value *keys = c->in[0], *values = call_map_values(c, 0);
    const char *to = call_string(c, "cast_to", "TO_FLOAT");
    bool sparse = !strcmp(call_string(c, "map_form", "DENSE"), "SPARSE");
    DType t = !strcmp(to, "TO_STRING") ? DT_STR : !strcmp(to, "TO_INT64") ? DT_I64 : DT_F32;
    if (!values) return lacks(c, "a map as its input");
    values = call_cast(c, values, t);
    if (!sparse) return call_result(c, as_row(c, values));
    int64_t n = call_int(c, "max_map", 1);
    if (n < 1 || n > 1 << 24) return lacks(c, "a max_map that is possible");
    Value *low = call_op(c, OP_Less, 2, keys, call_i64(c, 0));
    keys = call_op(c, OP_Where, 3, low, call_i64(c, n), keys);
    keys = call_op(c, OP_Min, 2, keys, call_i64(c, n));
    return call_result(c, as_row(c, scatter_map(c, keys, values, zero_of(c, t), n)));
}

/* ---- trees and classifiers ------------------------------------------------------------------- */

/* The operator of the same name with labels 0, 1, ... in `ints`, and the names put behind it. */
static bool named_classifier(Call *c, const char *ints) {
    const Onnx__AttributeProto *names = call_attr(c, "classlabels_strings");
    Node *n = call_node(c, op_from_name(c->row->domain, c->row->type), c->in, c->n_in, c->n_out);
    int64_t *label = arena_array(c->im->arena, int64_t, names->n_strings);
    for (size_t i = 0; i < names->n_strings; i++) label[i] = (int64_t)i;
    const char *but = arena_printf(c->im->arena, "classlabels_strings %s", ints);
    if (!call_copy_attrs(c, n, but)) return false;
    node_set_ints(n, ints, label, (int)names->n_strings);
    Value *number = n->out[0];
    if (!call_finish(c, n)) return false;
    if (!call_wants(c, 0)) return true;
    number->dtype = DT_I64;
    Value *table = strings_1d(c, names->strings, names->n_strings);
    c->out[0] = call_op(c, OP_Gather, 2, table, number);
    c->out[0]->dtype = DT_STR;
    return true;
}

/* Labels are output 0. */
bool import_classifier(Call *c) {
    const Onnx__AttributeProto *names = call_attr(c, "classlabels_strings");
    const char *ints =
        !strcmp(c->row->type, "TreeEnsembleClassifier") ? "classlabels_int64s" : "classlabels_ints";
    if (names && names->n_strings) return named_classifier(c, ints);
    return call_same(c, c->in, c->n_in, "classlabels_strings");
}
