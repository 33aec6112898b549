/* The text form: what is printed reads back as the same text at both levels, names clash without
 * harm, and broken text gives a message with its place instead of a crash. */
#include <string.h>

#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "tests/unit/check.h"

static const Target target = {
    .name = "generic", .vector_bytes = 16, .n_vector_regs = 16};

static void print_module(StrBuf *out, const Module *m) {
    if (m->kmod)
        print_kmodule(out, m->kmod);
    else
        print_graph(out, m->main);
}

/* Prints m, reads that and prints it again; m's own text in *text when given. */
static void check_round_trip(const Module *m, StrBuf *text) {
    StrBuf first = {0}, second = {0};
    Diag *d = diag_create();
    print_module(&first, m);
    Module *again = parse_module_like(strbuf_text(&first), m, d);
    if (CHECK(again != NULL)) {
        print_module(&second, again);
        if (!CHECK(!strcmp(strbuf_text(&first), strbuf_text(&second))))
            fprintf(stderr, "%s\n---\n%s", strbuf_text(&first), strbuf_text(&second));
        CHECK(verify_module(again, "parse"));
        module_destroy(again);
    } else {
        fprintf(stderr, "%s\n%s\n", strbuf_text(&first), diag_message(d, 0));
    }
    if (text) strbuf_add(text, strbuf_text(&first));
    strbuf_free(&first);
    strbuf_free(&second);
    diag_destroy(d);
}

/* ---- graphs ---------------------------------------------------------------------------------- */

static Shape shape_of(Module *m, int rank, const KExpr *a, const KExpr *b) {
    Shape s = shape_make(m->arena, rank);
    if (rank > 0) s.dims[0] = a;
    if (rank > 1) s.dims[1] = b;
    return s;
}

static Value *typed(Value *v, const char *name, DType t, Shape s) {
    v->name = intern(name);
    v->dtype = t;
    v->shape = s;
    return v;
}

static void graphs_round_trip(void) {
    static const float weights[100] = {1.5f, -0.1f, 1e-30f, 3e30f};
    static const double values[3] = {1.0, 0.1, 1e300};
    static const int64_t ints[2] = {-1, 7};
    static const char *const words[2] = {"a \"quote\"\n", "b"};
    Diag *d = diag_create();
    Module *m = module_create(d, &target);
    m->name = "test";
    const KExpr *n = k_var(m->k, module_symbol(m, "batch size")),
                *h = k_var(m->k, module_symbol(m, "h"));
    const KExpr *half = k_fdiv(m->k, k_sub(m->k, h, k_int(m->k, 3)), k_int(m->k, 2));
    int64_t hundred = 100;
    Graph *g = m->main;
    Value *x = graph_add_input(g, "x/y:0", DT_F32, shape_of(m, 2, n, h));
    Value *w =
        graph_add_const(g, "w", DT_F32, shape_ints(m->k, &hundred, 1), weights, sizeof weights);
    Node *a = graph_add_node(g, NULL, OP_Gather, (Value *[]){w, graph_const_int(g, 3)}, 2, 1,
                             SRC_NOWHERE);
    typed(a->out[0], "w", DT_F32, shape_of(m, 0, NULL, NULL)); /* the second of this name */
    node_set_int(a, "axis", 0);
    node_set_attr(a, (Attr){.name = "floats", .kind = AT_FLOATS, .n = 3, .floats = values});
    node_set_attr(a, (Attr){.name = "empty", .kind = AT_FLOATS});
    node_set_ints(a, "ints", ints, 2);
    node_set_attr(a, (Attr){.name = "words", .kind = AT_STRINGS, .n = 2, .strings = words});
    node_set_float(a, "small", 0.1f);
    node_set_string(a, "text", "\x01\xc3\xa9?");
    node_set_attr(
        a, (Attr){.name = "tensor", .kind = AT_TENSOR, .tensor = graph_const_ints(g, "", ints, 2)});
    a->loc.node = "first node";
    Node *b = graph_add_node(g, NULL, OP_Clip, (Value *[]){x, NULL, a->out[0]}, 3, 1, SRC_NOWHERE);
    typed(b->out[0], "", DT_F32, shape_of(m, 2, n, k_add(m->k, half, k_mul(m->k, n, half))));
    graph_add_output(g, b->out[0]);
    StrBuf text = {0};
    check_round_trip(m, &text);
    CHECK(strstr(strbuf_text(&text), "symbol batch_size [1, 2147483647] \"batch size\""));
    CHECK(strstr(strbuf_text(&text), "Clip(%\"x/y:0\", _, %w~2)"));
    CHECK(strstr(strbuf_text(&text), "small = 0.1,"));
    CHECK(strstr(strbuf_text(&text), "floats = [1.0, 0.1f64, 1e+300f64]"));
    strbuf_free(&text);
    module_destroy(m);
    diag_destroy(d);
}

/* A use count of 2 at every level: written out, the dim would have 2^40 terms. */
static void shared_dims_stay_small(void) {
    Diag *d = diag_create();
    Module *m = module_create(d, &target);
    const KExpr *e = k_var(m->k, module_symbol(m, "n"));
    for (int i = 0; i < 40; i++)
        e = k_max(m->k, k_fdiv(m->k, e, k_int(m->k, 3)), k_fmod(m->k, e, k_int(m->k, 1000 + i)));
    graph_add_output(m->main,
                     typed(graph_op(m->main, NULL, OP_Relu, SRC_NOWHERE, 1,
                                    graph_add_input(m->main, "x", DT_F32, shape_of(m, 1, e, NULL))),
                           "y", DT_F32, shape_of(m, 1, e, NULL)));
    StrBuf text = {0};
    check_round_trip(m, &text);
    CHECK(text.n < 20000);
    strbuf_free(&text);
    module_destroy(m);
    diag_destroy(d);
}

static void subgraphs_round_trip(void) {
    static const char *const text =
        "graph \"t\" {\n  main {\n    input %c: bool[]\n    input %x: f32[2]\n"
        "    const %one: f32[2] = {1.0, 1.0}\n"
        "    %y: f32[2] = If(%c) {else_branch = graph no {\n"
        "      %z: f32[2] = Add(%x, %one)\n      return %z\n    }, then_branch = graph yes {\n"
        "      %z~2: f32[2] = Neg(%x)\n      return %z~2\n    }} \"if\"\n"
        "    return %y\n  }\n}\n";
    Diag *d = diag_create();
    Module *m = parse_module(text, &target, d);
    if (CHECK(m != NULL)) {
        StrBuf again = {0};
        check_round_trip(m, &again);
        CHECK(!strcmp(strbuf_text(&again), text));
        strbuf_free(&again);
        module_destroy(m);
    }
    diag_destroy(d);
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* Every operation once, with operands of a dtype that it takes. */
static const KExpr *all_operations(KCtx *k, const KExpr *f, const KExpr *i, const KExpr *p) {
    const KExpr *sum = f;
    for (int op = 1; op < KO_COUNT; op++) {
        const KOpInfo *o = &kop_info[op];
        const KExpr *e = NULL, *three[3] = {f, sum, f};
        if (o->class == KC_CMP)
            e = k_select(k, k_binary(k, (KOp)op, f, sum), f, sum);
        else if (op == KO_select)
            e = k_select(k, p, sum, f);
        else if (op == KO_and || op == KO_or || op == KO_xor || op == KO_shl || op == KO_shr)
            e = k_cast(k, DT_F32, k_binary(k, (KOp)op, i, k_cast(k, DT_I32, sum)));
        else if (op == KO_not || op == KO_root16)
            e = k_cast(k, DT_F32, k_unary(k, (KOp)op, i));
        else if (kop_is_dot((KOp)op))
            e = k_cast(k, DT_F32,
                       k_ternary(k, (KOp)op, kop_dot_sum((KOp)op) == DT_F32 ? sum : i,
                                 k_cast(k, DT_I32, sum), i));
        else if (op == KO_cast)
            e = k_cast(k, DT_F32, k_cast(k, DT_F16, sum));
        else if (op == KO_bitcast)
            e = k_bitcast(k, DT_F32, i);
        else if (op == KO_complex)
            e = k_im(k, k_select(k, p, k_complex(k, sum, f), k_complex(k, f, sum)));
        else if (o->class == KC_ARITH || o->class == KC_MATH)
            e = k_exact(k, (KOp)op, DT_F32, o->n_args == 1 ? &sum : three, o->n_args);
        if (e) sum = k_add(k, e, f);
    }
    return sum;
}

static void kernels_round_trip(void) {
    Diag *d = diag_create();
    Module *m = module_create(d, &target);
    KModule *km = arena_new(m->arena, KModule);
    Kernel *kn = arena_new(m->arena, Kernel);
    KCtx *k = m->k;
    *km = (KModule){.k = k,
                    .arena = m->arena,
                    .name = "t",
                    .kernels = arena_copy(m->arena, &kn, sizeof kn),
                    .n_kernels = 1};
    KBuf **params = arena_array(m->arena, KBuf *, 2);
    params[0] = kbuf_new(k, MEM_PARAM, DT_F32, "a tensor", k_int(k, 64));
    params[1] = kbuf_new(k, MEM_PARAM, DT_F32, "a tensor", k_int(k, 64));
    params[1]->index = 1;
    params[1]->written = params[1]->noalias = true;
    *kn =
        (Kernel){.name = "k0", .params = params, .n_params = 2, .note = "a \"note\"", .flops = 1e9};
    KBuild b;
    kb_begin(&b, k, &kn->body);
    const KExpr *i = kb_for(&b, LOOP_PARALLEL, "i", k_int(k, 8)),
                *j = kb_for(&b, LOOP_VECTOR, "i", k_int(k, 8));
    const KExpr *at = k_sub(k, k_int(k, 63), k_add(k, k_mul(k, i, k_int(k, 8)), j));
    KBuf *acc = kb_alloc(&b, MEM_REG, DT_F32, "i", 1);
    kb_store(&b, acc, k_int(k, 0), k_load_if(k, params[0], at, k_lt(k, i, j)));
    const KExpr *v = kb_let(&b, "node", k_cast(k, DT_I32, k_sub(k, i, j)));
    const KExpr *f = k_load(k, acc, k_int(k, 0));
    kb_store(&b, params[1], at, all_operations(k, f, v, k_lt(k, j, i)));
    kb_comment(&b, "*/ \n");
    m->kmod = km;
    m->facts = FACT_KERNELS;
    check_round_trip(m, NULL);
    module_destroy(m);
    diag_destroy(d);
}

static void literals_keep_their_dtype(void) {
    Diag *d = diag_create();
    Module *m = module_create(d, &target);
    StrBuf b = {0};
    print_expr(&b, k_const_f(m->k, DT_F64, 0.1));
    print_expr(&b, k_const_f(m->k, DT_F16, -1.0 / 0.0));
    print_expr(&b, k_const_i(m->k, DT_U64, -1));
    print_expr(&b, k_const_f(m->k, DT_F32, -0.0));
    CHECK(!strcmp(strbuf_text(&b), "0.1f64-inf.f1618446744073709551615u64-0.0"));
    strbuf_free(&b);
    module_destroy(m);
    diag_destroy(d);
}

/* ---- broken text ----------------------------------------------------------------------------- */

static void check_refused(const char *text, const char *message) {
    Diag *d = diag_create();
    Module *m = parse_module(text, &target, d);
    CHECK(!m && diag_n_errors(d) == 1);
    const char *found = diag_message(d, 0);
    if (!CHECK(found && strstr(found, message)))
        fprintf(stderr, "%.200s\n%s\n", text, found ? found : "no message");
    if (m) module_destroy(m);
    diag_destroy(d);
}

static void broken_text_is_refused(void) {
    check_refused("", "line 1, column 1");
    check_refused("graph \"t\" { main {", "expected");
    check_refused("graph \"t\" {\n main {\n  %y = Relu(%x)\n",
                  "line 3, column 13: value 'x' is not defined");
    check_refused("graph \"t\" {\n main {\n input %x: f32[2]\n %y = Nope(%x)\n",
                  "no operator is called 'Nope'");
    check_refused("graph \"t\" {\n main {\n input %x: f32[2]\n %y = Add(%x)\n", "Add has 1 inputs");
    check_refused("graph \"t\" {\n main {\n input %x: f32[-1]\n", "negative");
    check_refused("graph \"t\" {\n main {\n input %x: f32[n]\n", "unknown name 'n'");
    check_refused("graph \"t\" {\n main {\n const %x: f32[2] = {1.0}\n", "expected");
    check_refused("graph \"t\" {\n main {\n const %x: f32[100] = @0000000000000000\n",
                  "not in the text");
    check_refused("graph \"t\" {\n main {\n const %x: f32[1000000, 1000000] = random 1\n",
                  "too many random elements");
    check_refused("graph \"t\" {\n main {\n input %x: f32[2]\n return %x, %x\n",
                  "cannot be an output");
    check_refused("kernels \"t\" {\n kernel k(a: f32[4] param) {\n a[0] = 1\n }\n}\n",
                  "expected f32, found i64");
    check_refused("kernels \"t\" {\n kernel k(a: f32[4] param) {\n a[i] = 1.0\n }\n}\n",
                  "unknown name 'i'");
    check_refused("kernels \"t\" {\n kernel k(a: f32[4] param) {\n for i in 0..4 {\n for j in 0..4 "
                  "parallel {\n",
                  "a parallel loop is a kernel's outermost");
    check_refused("kernels \"t\" {\n size s [0, 4]\n entry {\n return s\n }\n}\n",
                  "unknown name 's'");
    check_refused("kernels \"t\" {\n buf x: f32[4] input 0\n entry {\n x[0] = 1.0\n", "only read");
    check_refused("kernels \"t\" {\n entry {\n return 9223372036854775808\n", "too large");
}

static void nesting_is_bounded(void) {
    StrBuf b = {0};
    strbuf_add(&b, "kernels \"t\" {\n entry {\n return ");
    for (int i = 0; i < 100000; i++) strbuf_add(&b, "(-");
    check_refused(strbuf_text(&b), "nests too deeply");
    strbuf_free(&b);
    strbuf_add(&b, "kernels \"t\" {\n entry {\n");
    for (int i = 0; i < 100000; i++) strbuf_add(&b, "if true {\n");
    check_refused(strbuf_text(&b), "nest too deeply");
    strbuf_free(&b);
}

/* Cut after every byte, and with every byte replaced: refused or accepted, but never a crash. */
static void damaged_text_is_survived(void) {
    static const char *const text =
        "kernels \"t\" {\n symbol n [1, 9]\n buf x: f32[n*4] arena align 64 at 0\n"
        " kernel k(a: f32[n*4] param written)(n [1, 9]) flops 1.0 {\n  for i in 0..n*4 vector {\n"
        "   $1 = a[i] - 1.5\n   a[i] = $1 < 0.0 ? $1*$1 : f32(3i32)\n  }\n }\n"
        " entry {\n  call k(x + n)(n)\n }\n arena n*16 // 4 bound 3\n}\n";
    size_t n = strlen(text);
    char copy[1024];
    for (size_t i = 0; i < 2 * n; i++) {
        memcpy(copy, text, n + 1);
        copy[i % n] = i < n ? 0 : "%$@\"(]9x~"[i % 9];
        Diag *d = diag_create();
        Module *m = parse_module(copy, &target, d);
        CHECK((m != NULL) == !diag_n_errors(d));
        if (m) {
            CHECK(verify_module(m, "parse"));
            module_destroy(m);
        }
        diag_destroy(d);
    }
}

int main(void) {
    graphs_round_trip();
    shared_dims_stay_small();
    subgraphs_round_trip();
    kernels_round_trip();
    literals_keep_their_dtype();
    broken_text_is_refused();
    nesting_is_bounded();
    damaged_text_is_survived();
    return check_done();
}
