/* Importers of constants and of operators that move elements, whose older forms have as attributes
 * what are inputs today. */
#include <string.h>

#include "frontend/onnx/assume.h"

/* ---- constants ------------------------------------------------------------------------------- */

static Value *floats_const(Call *c, const float *v, size_t n, int rank) {
    int64_t dim = (int64_t)n;
    const void *bytes = arena_copy(c->m->arena, v, n * sizeof *v);
    return graph_add_const(c->g, "", DT_F32, shape_ints(c->m->k, &dim, rank), bytes, n * sizeof *v);
}

static Value *strings_const(Call *c, const ProtobufCBinaryData *v, size_t n, int rank) {
    ConstString *s = arena_array(c->im->arena, ConstString, n + 1);
    for (size_t i = 0; i < n; i++) s[i] = (ConstString){(const char *)v[i].data, v[i].len};
    int64_t dim = (int64_t)n;
    return graph_const_strings(c->g, c->proto->output[0], shape_ints(c->m->k, &dim, rank), s);
}

bool import_constant(Call *c) {
    const char *name = c->proto->output[0];
    if (c->n_attrs != 1) {
        diag_error(c->im->d, c->loc, "has %d attributes, but exactly one says the value",
                   c->n_attrs);
        return false;
    }
    const Onnx__AttributeProto *a = c->attrs[0].proto;
    const char *kind = c->attrs[0].name;
    Value *v = NULL;
    if (!strcmp(kind, "value"))
        v = import_tensor(c->im, c->g, name, a->t, c->loc);
    else if (!strcmp(kind, "sparse_value"))
        v = import_sparse(c->im, c->g, name, a->sparse_tensor, c->loc);
    else if (!strcmp(kind, "value_int"))
        v = call_i64(c, a->i);
    else if (!strcmp(kind, "value_ints"))
        v = call_list(c, a->ints, (int)a->n_ints);
    else if (!strcmp(kind, "value_float"))
        v = floats_const(c, &a->f, 1, 0);
    else if (!strcmp(kind, "value_floats"))
        v = floats_const(c, a->floats, a->n_floats, 1);
    else if (!strcmp(kind, "value_string"))
        v = strings_const(c, &a->s, 1, 0);
    else
        v = strings_const(c, a->strings, a->n_strings, 1);
    return v && call_result(c, v);
}

bool import_constant_of_shape(Call *c) {
    const Onnx__AttributeProto *a = call_attr(c, "value");
    if (a && (a->t->n_dims > 1 || (a->t->n_dims == 1 && a->t->dims[0] != 1))) {
        diag_error(c->im->d, c->loc, "value has to be a tensor of one element");
        return false;
    }
    return call_same(c, c->in, 1, "");
}

/* ---- attributes that became inputs ----------------------------------------------------------- */

bool import_axes_1(Call *c) {
    Value *in[] = {c->in[0], call_ints_input(c, "axes")};
    return call_same(c, in, 2, "axes");
}

bool import_squeeze(Call *c) {
    Value *in[] = {c->in[0], call_attr(c, "axes") ? call_ints_input(c, "axes") : call_in(c, 1)};
    if (!call_same(c, in, 2, "axes")) return false;
    if (!in[1]) assume_ones(c, c->g->last);
    return true;
}

/* Pad-1 says paddings. */
bool import_pad_2(Call *c) {
    DType t = call_float_type(c->in[0]);
    Value *pads = call_ints_input(c, "pads");
    Value *in[] = {c->in[0], pads ? pads : call_ints_input(c, "paddings"), NULL};
    if (call_attr(c, "value")) in[2] = call_scalar(c, t, call_float(c, "value", 0));
    return call_same(c, in, 3, "pads paddings value");
}

bool import_slice_1(Call *c) {
    Value *in[] = {c->in[0], call_ints_input(c, "starts"), call_ints_input(c, "ends"),
                   call_ints_input(c, "axes")};
    return call_same(c, in, 4, "starts ends axes");
}

bool import_top_k_1(Call *c) {
    int64_t k = call_int(c, "k", 0);
    Value *in[] = {c->in[0], call_list(c, &k, 1)};
    return call_same(c, in, 2, "k");
}

/* Sizes are an input; without them num_outputs says how many equal parts there are. */
bool import_split(Call *c) {
    Value *sizes = c->n_in > 1 ? c->in[1] : call_ints_input(c, "split");
    int64_t n_out = call_int(c, "num_outputs", c->n_out);
    if (c->n_in > 1 && sizes && sizes->dtype != DT_I64) { /* Split-1: of the data's type */
        sizes = call_op(c, OP_Cast, 1, sizes);
        node_set_int(sizes->def, "to", dtype_info[DT_I64].onnx);
        sizes->dtype = DT_I64;
    }
    if (n_out != c->n_out || (sizes && call_attr(c, "num_outputs"))) {
        diag_error(c->im->d, c->loc, "num_outputs is %lld, but %s", (long long)n_out,
                   sizes ? "sizes are given as well" : "the node has another number of outputs");
        return false;
    }
    Value *in[] = {c->in[0], sizes};
    Node *n = call_node(c, OP_Split, in, sizes ? 2 : 1, c->n_out);
    if (!sizes) node_set_int(n, "num_outputs", c->n_out);
    return call_copy_attrs(c, n, "split num_outputs") && call_finish(c, n);
}

/* Scatter was renamed. */
bool import_scatter_9(Call *c) {
    Node *n = call_node(c, OP_ScatterElements, c->in, 3, 1);
    return call_copy_attrs(c, n, "") && call_finish(c, n);
}
