/* The graph level's structure: uses stay mirrored through every edit, outputs keep their names,
 * dead code goes with its subgraphs, contents and shapes read back, and a million nodes take no
 * time. */
#include "ir/graph.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "tests/unit/check.h"

static Module *fresh(void) {
    static const Target target = {.name = "generic"};
    return module_create(NULL, &target);
}

static Value *input(Module *m, const char *name, int64_t n) {
    return graph_add_input(m->main, name, DT_F32, shape_ints(m->k, &n, 1));
}

static Value *unary(Graph *g, OpId op, Value *v) {
    return graph_op(g, NULL, op, SRC_NOWHERE, 1, v);
}

/* Every use is listed once, at the place that both sides remember. */
static bool uses_mirror(const Value *v) {
    for (uint32_t i = 0; i < v->users.n; i++) {
        const Node *n = v->users.at[i];
        int32_t input_index = v->user_input.at[i];
        if (n->in[input_index] != v || n->use_index[input_index] != (int32_t)i) return false;
    }
    return true;
}

static void edits_keep_uses(void) {
    Module *m = fresh();
    Value *x = input(m, "x", 4), *y = input(m, "y", 4);
    Value *a = graph_op(m->main, NULL, OP_Add, SRC_NOWHERE, 2, x, x);
    Value *b = graph_op(m->main, NULL, OP_Add, SRC_NOWHERE, 2, x, y);
    CHECK(x->users.n == 3 && y->users.n == 1 && uses_mirror(x));
    node_set_input(a->def, 0, y);
    CHECK(x->users.n == 2 && y->users.n == 2 && uses_mirror(x) && uses_mirror(y));
    node_set_input(b->def, 1, NULL);
    CHECK(y->users.n == 1 && b->def->in[1] == NULL && uses_mirror(y));
    for (int i = 0; i < 9; i++) node_add_input(b->def, x);
    CHECK(b->def->n_in == 11 && x->users.n == 11 && uses_mirror(x));
    CHECK(value_replace_uses(x, y) && x->users.n == 0 && y->users.n == 12 && uses_mirror(y));
    graph_drop_node(b->def);
    CHECK(y->users.n == 2 && uses_mirror(y) && m->main->last == a->def);
    module_destroy(m);
}

static void outputs_keep_their_names(void) {
    Module *m = fresh();
    Value *x = input(m, "x", 4), *a = unary(m->main, OP_Relu, x),
          *b = unary(m->main, OP_Identity, a);
    b->name = "result";
    graph_add_output(m->main, b);
    CHECK(value_replace_uses(b, a) && m->main->outputs.at[0] == a && !strcmp(a->name, "result"));
    CHECK(!b->is_output && a->is_output);
    CHECK(!value_replace_uses(a, x) && m->main->outputs.at[0] == a && !strcmp(x->name, "x"));
    module_destroy(m);
}

static void nodes_go_before_others(void) {
    Module *m = fresh();
    Value *x = input(m, "x", 4);
    Node *a = unary(m->main, OP_Relu, x)->def, *b = unary(m->main, OP_Exp, x)->def;
    Node *c = graph_add_node(m->main, b, OP_Log, &x, 1, 1, SRC_NOWHERE);
    CHECK(m->main->first == a && a->next == c && c->next == b && m->main->last == b);
    module_destroy(m);
}

static void dead_code_goes_with_subgraphs(void) {
    Module *m = fresh();
    Value *x = input(m, "x", 4),
          *cond = graph_add_input(m->main, "c", DT_BOOL, shape_ints(m->k, NULL, 0));
    Value *captured = unary(m->main, OP_Relu, x);
    for (int kept = 0; kept < 2; kept++) {
        Node *n = graph_add_node(m->main, NULL, OP_If, &cond, 1, 1, SRC_NOWHERE);
        Graph *then_graph = graph_create(m, m->main, "then");
        node_set_graph(n, "then_branch", then_graph);
        Value *used = unary(then_graph, OP_Exp, captured);
        unary(then_graph, OP_Log, captured);
        graph_add_output(then_graph, used);
        if (kept) graph_add_output(m->main, n->out[0]);
    }
    CHECK(captured->users.n == 4);
    CHECK(graph_drop_dead(m->main) && !graph_drop_dead(m->main));
    CHECK(captured->users.n == 1 && uses_mirror(captured));
    CHECK(m->main->first == captured->def && m->main->last->op == OP_If &&
          captured->def->next == m->main->last);
    module_destroy(m);
}

static void attributes_are_sorted_and_replaced(void) {
    Module *m = fresh();
    Node *n = unary(m->main, OP_Identity, input(m, "x", 4))->def;
    int64_t pads[] = {1, 2};
    node_set_int(n, "zeta", 3);
    node_set_ints(n, "pads", pads, 2);
    node_set_string(n, "mode", "linear");
    node_set_float(n, "alpha", 0.5);
    pads[0] = 9;
    node_set_int(n, "zeta", 4);
    CHECK(n->attrs.n == 4);
    for (uint32_t i = 1; i < n->attrs.n; i++)
        CHECK(strcmp(n->attrs.at[i - 1].name, n->attrs.at[i].name) < 0);
    const int64_t *list;
    CHECK(attr_ints(n, "pads", &list) == 2 && list[0] == 1 && list[1] == 2);
    CHECK(attr_int(n, "zeta", 0) == 4 && attr_int(n, "none", 7) == 7 &&
          attr_float(n, "alpha", 0) == 0.5);
    CHECK(!strcmp(attr_string(n, "mode", ""), "linear"));
    node_drop_attr(n, "zeta");
    CHECK(!node_attr(n, "zeta") && n->attrs.n == 3);
    module_destroy(m);
}

static void constants_read_back(void) {
    Module *m = fresh();
    static const double samples[] = {0, 1, -2, 65504, 6.103515625e-5, 5.960464477539063e-8};
    for (int i = 0; i < 6; i++) {
        CHECK(value_const_float(graph_const_scalar(m->main, DT_F16, samples[i]), 0) == samples[i]);
        CHECK(value_const_float(graph_const_scalar(m->main, DT_F64, samples[i]), 0) == samples[i]);
    }
    CHECK(isinf(value_const_float(graph_const_scalar(m->main, DT_F16, 65520), 0)));
    CHECK(value_const_float(graph_const_scalar(m->main, DT_BF16, 1.0078125), 0) == 1.0078125);
    CHECK(isnan(value_const_float(graph_const_scalar(m->main, DT_BF16, NAN), 0)));
    CHECK(value_const_int(graph_const_scalar(m->main, DT_I8, -3), 0) == -3);
    int64_t out[4], n_out = 2;
    int n;
    Value *ints = graph_const_ints(m->main, "", (int64_t[]){5, INT64_MIN}, 2);
    CHECK(value_ints(m, ints, out, 4, &n) && n == n_out && out[0] == 5 && out[1] == INT64_MIN);
    CHECK(!value_ints(m, ints, out, 1, &n));
    CHECK(!value_has_content(graph_const_scalar(m->main, DT_F32, 0.5)));
    CHECK(value_has_content(graph_const_scalar(m->main, DT_F32, 2)));
    char bytes[9] = {0};
    memcpy(bytes + 1, &(int64_t){77}, 8);
    Value *view = graph_add_const(m->main, "w", DT_I64, shape_ints(m->k, NULL, 0), bytes + 1, 8);
    CHECK(value_const_int(view, 0) == 77);
    module_destroy(m);
}

static void symbols_are_shared_and_numbered(void) {
    Module *m = fresh();
    KVar *batch = module_symbol(m, "batch");
    CHECK(module_symbol(m, "batch") == batch && batch->lo == 1 && batch->hi == INT32_MAX);
    KVar *found = module_computed_symbol(m, "n", k_int(m->k, 40));
    KVar *seq = module_symbol(m, "seq");
    CHECK(found->hi == 40 && m->symbols.n == 3 && m->symbols.at[2] == found);
    CHECK(batch->slot == 0 && seq->slot == 1 && found->slot == 0);
    module_destroy(m);
}

static void found_sizes_have_bounds(void) {
    Module *m = fresh();
    KCtx *k = m->k;
    KVar *batch = module_symbol(m, "batch");
    const KExpr *b = k_var(k, batch), *three = k_int(k, 3);
    KVar *found = module_computed_symbol(m, "n", k_mul(k, b, three));
    const KExpr *n = k_var(k, found), *most = k_mul(k, b, three);
    KVar *kept = module_computed_symbol(m, "kept", k_add(k, n, three));
    CHECK(k_upper_bound(k, b) == b && k_upper_bound(k, n) == most);
    CHECK(k_upper_bound(k, k_var(k, kept)) ==
          k_add(k, most, three));                 /* bounds over other sizes open up */
    CHECK(k_upper_bound(k, k_sub(k, b, n)) == b); /* n is 0 at least */
    CHECK(k_upper_bound(k, k_mul(k, n, b)) == k_mul(k, most, b));
    CHECK(k_upper_bound(k, k_fdiv(k, n, three)) == b);
    CHECK(k_upper_bound(k, k_min(k, n, three)) == k_min(k, most, three));
    module_destroy(m);
}

static void shapes_broadcast(void) {
    Module *m = fresh();
    Shape a = shape_ints(m->k, (int64_t[]){4, 1, 3}, 3), b = shape_ints(m->k, (int64_t[]){5, 3}, 2),
          out;
    CHECK(shape_broadcast(m->k, a, b, &out));
    CHECK(shape_equal(out, shape_ints(m->k, (int64_t[]){4, 5, 3}, 3)));
    CHECK(!shape_broadcast(m->k, b, shape_ints(m->k, (int64_t[]){4}, 1), &out));
    Shape s = shape_make(m->arena, 1);
    s.dims[0] = k_var(m->k, module_symbol(m, "w"));
    CHECK(shape_broadcast(m->k, s, shape_ints(m->k, (int64_t[]){1}, 1), &out) &&
          shape_equal(out, s));
    int64_t n, huge[] = {INT64_MAX, 4, 0};
    CHECK(!shape_count_int(shape_ints(m->k, huge, 2), &n));
    CHECK(shape_count_int(shape_ints(m->k, huge, 3), &n) && n == 0);
    CHECK(shape_axis(-1, 4) == 3 && shape_axis(4, 4) == -1 && shape_axis(-5, 4) == -1);
    CHECK(!strcmp(shape_text(m->arena, a), "[4, 1, 3]") && !strcmp(shape_text(m->arena, s), "[w]"));
    module_destroy(m);
}

/* A chain, a fan-out and a node with a million inputs: quadratic edits would take hours. */
static void a_million_is_no_trouble(void) {
    enum { N = 1000000 };
    Module *m = fresh();
    clock_t start = clock();
    Value *x = input(m, "x", 4), *y = input(m, "y", 4), *v = x;
    for (int i = 0; i < N; i++) v = unary(m->main, OP_Relu, v);
    for (int i = 0; i < N; i++) unary(m->main, OP_Exp, x);
    Node *wide = graph_add_node(m->main, NULL, OP_Concat, &x, 1, 1, SRC_NOWHERE);
    for (int i = 1; i < N; i++) node_add_input(wide, x);
    CHECK(x->users.n == 2 * N + 1 && wide->n_in == N);
    for (int i = 0; i < N; i++) node_set_input(wide, i, y);
    CHECK(x->users.n == N + 1 && y->users.n == N && uses_mirror(x));
    CHECK(value_replace_uses(y, x) && x->users.n == 2 * N + 1);
    graph_add_output(m->main, v);
    for (Node *n = v->def->next, *next; n; n = next) {
        next = n->next;
        graph_drop_node(n);
    }
    CHECK(x->users.n == 1 && !graph_drop_dead(m->main) && m->main->last == v->def);
    CHECK((double)(clock() - start) / CLOCKS_PER_SEC < 20);
    module_destroy(m);
}

int main(void) {
    edits_keep_uses();
    outputs_keep_their_names();
    nodes_go_before_others();
    dead_code_goes_with_subgraphs();
    attributes_are_sorted_and_replaced();
    constants_read_back();
    symbols_are_shared_and_numbered();
    found_sizes_have_bounds();
    shapes_broadcast();
    a_million_is_no_trouble();
    return check_done();
}
