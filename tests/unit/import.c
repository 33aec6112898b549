/* The importer, on models made here: older operator forms arrive in their newest one, functions and
 * subgraphs find their names, dims and cuts follow the options, recurrent layers become scans, and
 * what is wrong or unsupported is said completely. */
#include <stdlib.h>
#include <string.h>

#include "frontend/frontend.h"
#include "ir/support/str.h"
#include "onnx.pb-c.h"
#include "tests/unit/check.h"

/* ---- a model under construction -------------------------------------------------------------- */

enum { MOST = 16 };

typedef struct Build {
    Arena *a;
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
    Onnx__OperatorSetIdProto opset[3], *opsets[3];
    Diag *d;
    ImportOptions options;
} Build;

static void open_graph(Arena *a, Onnx__GraphProto *g) {
    onnx__graph_proto__init(g);
    g->name = "g";
    g->node = arena_array(a, Onnx__NodeProto *, MOST);
    g->input = arena_array(a, Onnx__ValueInfoProto *, MOST);
    g->output = arena_array(a, Onnx__ValueInfoProto *, MOST);
    g->initializer = arena_array(a, Onnx__TensorProto *, MOST);
}

static void opset(Build *b, char *domain, int64_t version) {
    Onnx__OperatorSetIdProto *o = &b->opset[b->model.n_opset_import];
    onnx__operator_set_id_proto__init(o);
    o->domain = domain;
    o->has_version = true;
    o->version = version;
    b->opsets[b->model.n_opset_import++] = o;
}

static void begin(Build *b, int64_t version) {
    memset(b, 0, sizeof *b);
    b->a = arena_create();
    b->d = diag_create();
    onnx__model_proto__init(&b->model);
    b->model.has_ir_version = true;
    b->model.ir_version = 8;
    b->model.graph = &b->graph;
    b->model.opset_import = b->opsets;
    open_graph(b->a, &b->graph);
    opset(b, "", version);
}

static char **words(Arena *a, const char *text, size_t *n) {
    char **list = arena_array(a, char *, MOST);
    for (*n = 0; *text;) {
        size_t len = strcspn(text, " ");
        char *word = arena_alloc(a, len + 1);
        memcpy(word, text, len);
        list[(*n)++] = strcmp(word, "-") ? word : ""; /* "-": absent */
        text += len + (text[len] == ' ');
    }
    return list;
}

static Onnx__NodeProto *make_node(Arena *a, char *op, const char *in, const char *out) {
    Onnx__NodeProto *n = arena_new(a, Onnx__NodeProto);
    onnx__node_proto__init(n);
    n->op_type = op;
    n->input = words(a, in, &n->n_input);
    n->output = words(a, out, &n->n_output);
    n->attribute = arena_array(a, Onnx__AttributeProto *, MOST);
    return n;
}

static Onnx__NodeProto *node(Build *b, char *op, const char *in, const char *out) {
    return b->graph.node[b->graph.n_node++] = make_node(b->a, op, in, out);
}

static Onnx__AttributeProto *attr(Build *b, Onnx__NodeProto *n, char *name,
                                  Onnx__AttributeProto__AttributeType t) {
    Onnx__AttributeProto *p = arena_new(b->a, Onnx__AttributeProto);
    onnx__attribute_proto__init(p);
    p->name = name;
    p->has_type = true;
    p->type = t;
    return n->attribute[n->n_attribute++] = p;
}

static void put_int(Build *b, Onnx__NodeProto *n, char *name, int64_t v) {
    Onnx__AttributeProto *p = attr(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    p->has_i = true;
    p->i = v;
}

static void put_float(Build *b, Onnx__NodeProto *n, char *name, float v) {
    Onnx__AttributeProto *p = attr(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    p->has_f = true;
    p->f = v;
}

static void put_ints(Build *b, Onnx__NodeProto *n, char *name, int64_t *v, size_t count) {
    Onnx__AttributeProto *p = attr(b, n, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    p->ints = v;
    p->n_ints = count;
}

/* Dims as words: numbers, or names. */
static Onnx__ValueInfoProto *info(Build *b, char *name, const char *dims) {
    Onnx__ValueInfoProto *v = arena_new(b->a, Onnx__ValueInfoProto);
    onnx__value_info_proto__init(v);
    v->name = name;
    v->type = arena_new(b->a, Onnx__TypeProto);
    onnx__type_proto__init(v->type);
    v->type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    Onnx__TypeProto__Tensor *t = v->type->tensor_type = arena_new(b->a, Onnx__TypeProto__Tensor);
    onnx__type_proto__tensor__init(t);
    t->has_elem_type = true;
    t->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    if (!dims) return v;
    t->shape = arena_new(b->a, Onnx__TensorShapeProto);
    onnx__tensor_shape_proto__init(t->shape);
    char **word = words(b->a, dims, &t->shape->n_dim);
    t->shape->dim = arena_array(b->a, Onnx__TensorShapeProto__Dimension *, MOST);
    for (size_t i = 0; i < t->shape->n_dim; i++) {
        Onnx__TensorShapeProto__Dimension *d = arena_new(b->a, Onnx__TensorShapeProto__Dimension);
        onnx__tensor_shape_proto__dimension__init(d);
        t->shape->dim[i] = d;
        if (!strcmp(word[i], "_")) continue; /* says nothing */
        bool is_number = word[i][0] >= '0' && word[i][0] <= '9' && !strpbrk(word[i], "+*");
        d->value_case = is_number ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
                                  : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (is_number)
            d->dim_value = strtoll(word[i], NULL, 10);
        else
            d->dim_param = word[i];
    }
    return v;
}

static void input(Build *b, char *name, const char *dims) {
    b->graph.input[b->graph.n_input++] = info(b, name, dims);
}

static void output(Build *b, char *name) {
    b->graph.output[b->graph.n_output++] = info(b, name, NULL);
}

static void weights(Build *b, char *name, int64_t *dims, size_t rank) {
    Onnx__TensorProto *t = arena_new(b->a, Onnx__TensorProto);
    onnx__tensor_proto__init(t);
    t->name = name;
    t->has_data_type = true;
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->dims = dims;
    t->n_dims = rank;
    t->n_float_data = 1;
    for (size_t i = 0; i < rank; i++) t->n_float_data *= (size_t)dims[i];
    t->float_data = arena_array(b->a, float, t->n_float_data);
    for (size_t i = 0; i < t->n_float_data; i++) t->float_data[i] = (float)i;
    b->graph.initializer[b->graph.n_initializer++] = t;
}

static Module *import(Build *b) {
    static const Target target = {.name = "generic"};
    size_t n = onnx__model_proto__get_packed_size(&b->model);
    uint8_t *bytes = arena_alloc(b->a, n);
    onnx__model_proto__pack(&b->model, bytes);
    return frontend_import_onnx_bytes("test.onnx", bytes, n, &b->options, &target, b->d);
}

static void end(Build *b, Module *m) {
    module_destroy(m);
    diag_destroy(b->d);
    arena_destroy(b->a);
}

static bool says(const Build *b, const char *text) {
    for (int i = 0; diag_message(b->d, i); i++)
        if (strstr(diag_message(b->d, i), text)) return true;
    diag_print(b->d);
    return false;
}

static int count(const Graph *g, OpId op) {
    int n = 0;
    for (const Node *at = g->first; at; at = at->next) n += at->op == op;
    return n;
}

static const Node *find(const Graph *g, OpId op) {
    const Node *n = g->first;
    while (n && n->op != op) n = n->next;
    return n;
}

/* ---- older forms ----------------------------------------------------------------------------- */

static void attributes_become_inputs(void) {
    Build b;
    begin(&b, 10);
    input(&b, "x", "1 4 4");
    put_ints(&b, node(&b, "Squeeze", "x", "a"), "axes", (int64_t[]){0}, 1);
    put_float(&b, node(&b, "Clip", "a", "c"), "max", 6);
    put_ints(&b, node(&b, "Split", "c", "d e"), "split", (int64_t[]){1, 3}, 2);
    put_int(&b, node(&b, "Softmax", "e", "f"), "axis", 0);
    output(&b, "f");
    Module *m = import(&b);
    if (CHECK(m != NULL)) {
        const Node *squeeze = find(m->main, OP_Squeeze), *clip = find(m->main, OP_Clip);
        const Node *parts = find(m->main, OP_Split), *softmax = find(m->main, OP_Softmax);
        CHECK(squeeze->n_in == 2 && value_const_int(squeeze->in[1], 0) == 0 && !squeeze->attrs.n);
        CHECK(clip->n_in == 3 && !clip->in[1] && value_const_float(clip->in[2], 0) == 6);
        CHECK(parts->n_in == 2 && value_const_int(parts->in[1], 1) == 3 && parts->n_out == 2);
        CHECK(softmax->in[0]->def->op == OP_Flatten && attr_int(softmax, "axis", 9) == -1);
        CHECK(m->main->outputs.at[0]->def->op == OP_Reshape &&
              !strcmp(m->main->outputs.at[0]->name, "f"));
    }
    end(&b, m);
}

static void initializers_are_constants(void) {
    Build b;
    begin(&b, 13);
    input(&b, "x", "4");
    input(&b, "w", "4");
    weights(&b, "w", (int64_t[]){4}, 1);
    node(&b, "Add", "x w", "y");
    output(&b, "y");
    output(&b, "x");
    Module *m = import(&b);
    if (CHECK(m != NULL)) {
        CHECK(m->main->inputs.n == 1 && m->main->outputs.n == 2);
        CHECK(value_const_float(m->main->first->in[1], 3) == 3);
        CHECK(m->main->outputs.at[1]->def->op == OP_Identity &&
              !strcmp(m->main->outputs.at[1]->name, "x"));
        CHECK(!strcmp(m->main->first->loc.op, "Add") && m->main->first->loc.index == 0);
    }
    end(&b, m);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void functions_are_inlined(void) {
    Build b;
    begin(&b, 13);
    opset(&b, "own", 1);
    Onnx__FunctionProto f, *functions[] = {&f};
    onnx__function_proto__init(&f);
    f.name = "Leaky2";
    f.domain = "own";
    f.input = words(b.a, "a bias", &f.n_input);
    f.output = words(b.a, "r", &f.n_output);
    f.attribute = words(b.a, "slope", &f.n_attribute);
    f.opset_import = b.opsets;
    f.n_opset_import = 1;
    Onnx__NodeProto *body[] = {make_node(b.a, "LeakyRelu", "a", "t"),
                               make_node(b.a, "Clip", "t bias", "r")};
    attr(&b, body[0], "alpha", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT)->ref_attr_name =
        "slope";
    f.node = body;
    f.n_node = 2;
    b.model.functions = functions;
    b.model.n_functions = 1;
    input(&b, "x", "4");
    for (int i = 0; i < 2; i++) {
        Onnx__NodeProto *call = node(&b, "Leaky2", i ? "t" : "x", i ? "y" : "t");
        call->domain = "own";
        put_float(&b, call, "slope", i ? 0.5f : 0.25f);
    }
    output(&b, "y");
    Module *m = import(&b);
    if (CHECK(m != NULL)) {
        const Node *n = m->main->first;
        CHECK(count(m->main, OP_LeakyRelu) == 2 && count(m->main, OP_Clip) == 2);
        CHECK(attr_float(n, "alpha", 0) == 0.25 && attr_float(n->next->next, "alpha", 0) == 0.5);
        CHECK(n->next->n_in == 1 && n->next->next->in[0] == n->next->out[0]);
        CHECK(!strcmp(n->loc.graph, "main/Leaky2") && !strcmp(m->main->outputs.at[0]->name, "y"));
    }
    end(&b, m);
}

static void subgraphs_see_outer_names(void) {
    Build b;
    begin(&b, 13);
    input(&b, "x", "4");
    input(&b, "c", "");
    b.graph.input[1]->type->tensor_type->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL;
    weights(&b, "w", (int64_t[]){4}, 1);
    Onnx__NodeProto *branch = node(&b, "If", "c", "y");
    Onnx__GraphProto then_graph, else_graph;
    open_graph(b.a, &then_graph);
    then_graph.node[then_graph.n_node++] = make_node(b.a, "Add", "x w", "t");
    then_graph.output[then_graph.n_output++] = info(&b, "t", NULL);
    open_graph(b.a, &else_graph);
    else_graph.node[else_graph.n_node++] = make_node(b.a, "Relu", "x", "e");
    else_graph.output[else_graph.n_output++] = info(&b, "e", NULL);
    attr(&b, branch, "then_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &then_graph;
    attr(&b, branch, "else_branch", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH)->g = &else_graph;
    output(&b, "y");
    Module *m = import(&b);
    if (CHECK(m != NULL)) {
        const Graph *g = attr_graph(m->main->first, "then_branch");
        CHECK(g->first->op == OP_Add && g->first->in[0] == m->main->inputs.at[0]);
        CHECK(value_is_const(g->first->in[1]) && g->first->in[1]->graph == m->main);
        CHECK(g->parent == m->main && g->owner == m->main->first &&
              m->main->first->out[0]->dtype == DT_F32);
    }
    end(&b, m);
}

/* ---- options --------------------------------------------------------------------------------- */

static void dims_follow_names_and_overrides(void) {
    for (int fixed = 0; fixed < 2; fixed++) {
        Build b;
        begin(&b, 13);
        DimOverride fix[] = {{.name = "seq", .value = 7}, {.name = "z:0", .value = 2}};
        if (fixed) b.options.dims = fix, b.options.n_dims = 2;
        input(&b, "x", "batch seq");
        input(&b, "y", "seq+1 a-b");
        input(&b, "z", "_ 2*(seq+batch) 0");
        node(&b, "Relu", "x", "r");
        output(&b, "r");
        Module *m = import(&b);
        if (CHECK(m != NULL)) {
            const Value *y = m->main->inputs.at[1], *z = m->main->inputs.at[2];
            KVar *seq = fixed ? NULL : module_symbol(m, "seq");
            CHECK(y->shape.dims[0] ==
                  (fixed ? k_int(m->k, 8) : k_add(m->k, k_var(m->k, seq), k_int(m->k, 1))));
            CHECK(y->shape.dims[1] == k_var(m->k, module_symbol(m, "a-b")));
            CHECK(z->shape.dims[0] ==
                  (fixed ? k_int(m->k, 2) : k_var(m->k, module_symbol(m, "z_dim0"))));
            CHECK(z->shape.dims[2] == k_int(m->k, 0));
            CHECK(m->symbols.n == (fixed ? 2u : 4u));
        }
        end(&b, m);
    }
}

static void cuts_leave_the_rest_alone(void) {
    Build b;
    begin(&b, 13);
    const char *to[] = {"b"};
    b.options.outputs = to;
    b.options.n_outputs = 1;
    input(&b, "x", "4");
    node(&b, "Relu", "x", "a");
    node(&b, "Exp", "a", "b");
    node(&b, "NoSuchThing", "b", "y");
    output(&b, "y");
    Module *m = import(&b);
    if (CHECK(m != NULL))
        CHECK(m->main->last->op == OP_Exp && !strcmp(m->main->outputs.at[0]->name, "b"));
    end(&b, m);
}

/* ---- recurrent layers ------------------------------------------------------------------------ */

static void lstm_becomes_scans(void) {
    Build b;
    begin(&b, 14);
    input(&b, "x", "5 2 3");
    weights(&b, "w", (int64_t[]){2, 16, 3}, 3);
    weights(&b, "r", (int64_t[]){2, 16, 4}, 3);
    Onnx__NodeProto *n = node(&b, "LSTM", "x w r", "y h");
    put_int(&b, n, "hidden_size", 4);
    Onnx__AttributeProto *p =
        attr(&b, n, "direction", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    p->has_s = true;
    p->s = (ProtobufCBinaryData){13, (uint8_t *)"bidirectional"};
    output(&b, "y");
    output(&b, "h");
    Module *m = import(&b);
    if (CHECK(m != NULL) && CHECK(count(m->main, OP_Scan) == 2)) {
        const Node *scan = find(m->main, OP_Scan);
        const Graph *step = attr_graph(scan, "body");
        const int64_t *directions;
        CHECK(step->inputs.n == 3 && step->outputs.n == 3 && scan->n_in == 3 && scan->n_out == 3);
        CHECK(count(step, OP_MatMul) == 1 && count(step, OP_Sigmoid) == 3 &&
              count(step, OP_Tanh) == 2);
        CHECK(attr_ints(scan, "scan_input_directions", &directions) == 1 && directions[0] == 0);
        while ((scan = scan->next)->op != OP_Scan) {
        }
        CHECK(attr_ints(scan, "scan_output_directions", &directions) == 1 && directions[0] == 1);
        CHECK(m->main->outputs.at[0]->def->op == OP_Concat &&
              m->main->outputs.at[0]->dtype == DT_F32);
    }
    end(&b, m);
}

/* What is written reads back as the same nodes, bodies and symbols included. */
static void written_models_read_back(void) {
    Build b;
    begin(&b, 14);
    input(&b, "x", "seq 2 3");
    weights(&b, "w", (int64_t[]){1, 12, 3}, 3);
    weights(&b, "r", (int64_t[]){1, 12, 4}, 3);
    put_int(&b, node(&b, "GRU", "x w r", "y"), "hidden_size", 4);
    output(&b, "y");
    Module *m = import(&b), *again = NULL;
    FILE *f = tmpfile();
    if (CHECK(m != NULL) && CHECK(f != NULL) && CHECK(frontend_write_onnx(m, f))) {
        size_t n = (size_t)ftell(f);
        void *bytes = arena_alloc(b.a, n);
        rewind(f);
        CHECK(fread(bytes, 1, n, f) == n);
        again = frontend_import_onnx_bytes("again.onnx", bytes, n, NULL, m->target, b.d);
        diag_print(b.d);
    }
    if (CHECK(again != NULL)) {
        const Graph *step = attr_graph(find(m->main, OP_Scan), "body");
        const Graph *step2 = attr_graph(find(again->main, OP_Scan), "body");
        for (int op = 1; op < OP_COUNT; op++) {
            CHECK(count(m->main, (OpId)op) == count(again->main, (OpId)op));
            CHECK(count(step, (OpId)op) == count(step2, (OpId)op));
        }
        const Value *x = again->main->inputs.at[0];
        CHECK(x->shape.dims[0] == k_var(again->k, module_symbol(again, "seq")));
        CHECK(!strcmp(again->main->outputs.at[0]->name, "y"));
    }
    if (f) fclose(f);
    module_destroy(again);
    end(&b, m);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void everything_unsupported_is_listed(void) {
    Build b;
    begin(&b, 13);
    opset(&b, "com.example", 1);
    input(&b, "x", "4");
    node(&b, "Foo", "x", "a")->name = "first";
    node(&b, "Foo", "a", "b");
    node(&b, "Bar", "b", "c")->domain = "com.example";
    node(&b, "Relu", "c", "y");
    output(&b, "y");
    CHECK(import(&b) == NULL && diag_exit_code(b.d) == 3 && diag_n_errors(b.d) == 2);
    CHECK(says(&b, "node 'first' (Foo #0, in main): operator Foo of ai.onnx version 13 is not "
                   "supported (2 nodes"));
    CHECK(says(&b, "operator Bar of com.example version 1 is not supported"));
    end(&b, NULL);
}

static void wrong_nodes_are_named(void) {
    Build b;
    begin(&b, 13);
    input(&b, "x", "4");
    put_int(&b, node(&b, "Relu", "x", "a"), "slope", 1);
    put_float(&b, node(&b, "Concat", "x", "b"), "axis", 1);
    node(&b, "Concat", "x", "c");
    node(&b, "Where", "- x x", "d");
    node(&b, "Add", "x", "e");
    node(&b, "Relu", "x", "f g");
    output(&b, "f");
    CHECK(import(&b) == NULL && diag_exit_code(b.d) == 1);
    CHECK(says(&b, "(Relu #0, in main): unknown attribute 'slope'"));
    CHECK(says(&b, "(Concat #1, in main): attribute 'axis' is a float, but has to be an integer"));
    CHECK(says(&b, "(Concat #2, in main): attribute 'axis' is missing"));
    CHECK(says(&b, "(Where #3, in main): input 0 is required"));
    CHECK(says(&b, "(Add #4, in main): has 1 inputs, but Add-7 takes at least 2"));
    CHECK(says(&b, "(Relu #5, in main): has 2 outputs"));
    end(&b, NULL);
}

/* Opset 6 in a file of the format's first version: no imports would mean opset 1, attributes have
 * no types, and the second operand's dim lies at axis 1 of the first. */
static void old_files_are_read(void) {
    Build b;
    begin(&b, 6);
    b.model.ir_version = 1;
    input(&b, "x", "2 3 4");
    input(&b, "y", "3");
    Onnx__NodeProto *add = node(&b, "Add", "x y", "s");
    put_int(&b, add, "broadcast", 1);
    put_int(&b, add, "axis", 1);
    for (size_t i = 0; i < add->n_attribute; i++) add->attribute[i]->type = 0;
    put_int(&b, node(&b, "Dropout", "s", "z"), "is_test", 1);
    output(&b, "z");
    Module *m = import(&b);
    CHECK(m && find(m->main, OP_Add) && find(m->main, OP_Reshape));
    CHECK(m && find(m->main, OP_Reshape)->in[0]->name == intern("y"));
    end(&b, m);
    begin(&b, 1);
    b.model.ir_version = 2;
    b.model.n_opset_import = 0;
    input(&b, "x", "4");
    put_ints(&b, node(&b, "Relu", "x", "y"), "consumed_inputs", (int64_t[]){0}, 1);
    output(&b, "y");
    m = import(&b);
    CHECK(m && find(m->main, OP_Relu) && find(m->main, OP_Relu)->attrs.n == 0);
    end(&b, m);
}

int main(void) {
    attributes_become_inputs();
    initializers_are_constants();
    functions_are_inlined();
    subgraphs_see_outer_names();
    dims_follow_names_and_overrides();
    cuts_leave_the_rest_alone();
    lstm_becomes_scans();
    written_models_read_back();
    everything_unsupported_is_listed();
    wrong_nodes_are_named();
    old_files_are_read();
    return check_done();
}
