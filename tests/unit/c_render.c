/* Guards the C renderer: its text compiles under strict flags without a warning, by gcc and clang,
 * and gives the interpreter's bits: every primitive, every expanded function, statements, a whole
 * model. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/c/c.h"
#include "ir/interpret.h"
#include "runtime/include/smelt.h"
#include "tests/unit/check.h"
#include "tests/unit/op_kernels.h"
#include "tests/unit/ulp.h"

static const char *const compilers[] = {"gcc -O2 -fno-math-errno", "gcc -O0", "clang-19 -O3",
                                        "clang-19 -O1 -march=native"};
enum { N_COMPILERS = sizeof compilers / sizeof *compilers };
#define STRICT                                                                                     \
    " -std=c99 -Wall -Wextra -pedantic -Werror -ffp-contract=off -fPIC -shared "                   \
    "-I" SMELT_SOURCE_DIR "/runtime/include -I. "

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!CHECK(f != NULL)) exit(1);
    fputs(text, f);
    fclose(f);
}

/* Compiles name.c and loads it; NULL where there is no such compiler. */
static void *load(Arena *a, const char *name, int compiler) {
    const char *lib = arena_printf(a, "./%s%d.so", name, compiler);
    const char *first = compilers[compiler];
    if (system(arena_printf(a, "command -v %.*s >/dev/null", (int)strcspn(first, " "), first)))
        return NULL;
    if (!CHECK(!system(arena_printf(a, "%s" STRICT "-o %s %s.c -lm", first, lib, name))))
        return NULL;
    void *so = dlopen(lib, RTLD_NOW | RTLD_LOCAL);
    if (!CHECK(so != NULL)) fprintf(stderr, "  %s\n", dlerror());
    return so;
}

typedef void Kernel1(void *, void *);
typedef void Kernel2(void *, void *, void *);
typedef void Kernel3(void *, void *, void *, void *);

/* ---- primitives ------------------------------------------------------------------------------ */

static char xs[OP_N * 8], ys[OP_N * 8], zs[OP_N * 8], want[OP_N * 8], got[OP_N * 8];

static void compare_op(const OpKernel *o, void *so, const char *compiler) {
    Kernel3 *fn;
    *(void **)&fn = dlsym(so, o->kn->name);
    if (!CHECK(fn != NULL)) return;
    op_fill(o->op == KO_select ? DT_BOOL : o->from, 0, xs);
    op_fill(o->from, 1, ys);
    op_fill(o->from, 2, zs);
    InterpretBuf bufs[4] = {{xs, OP_N}, {ys, OP_N}, {zs, OP_N}, {want, OP_N}};
    interpret_kernel(o->kn, bufs, NULL);
    fn(xs, ys, zs, got);
    for (int i = 0; i < OP_N; i++)
        if (!CHECK(op_same(o->to, want, got, i))) {
            fprintf(stderr, "  %s with %s, element %d\n", o->kn->name, compiler, i);
            return;
        }
}

static void test_ops(void) {
    static OpKernels ops;
    Arena *a = arena_create();
    KCtx *k = kctx_create(a);
    op_add_all(&ops, k);
    KModule m = {.k = k,
                 .arena = a,
                 .name = "ops",
                 .kernels = arena_array(a, Kernel *, ops.n),
                 .n_kernels = (uint32_t)ops.n};
    for (int i = 0; i < ops.n; i++) m.kernels[i] = ops.at[i].kn;
    StrBuf text = {0};
    codegen_c_kernels(&m, &text);
    write_text("ops.c", strbuf_text(&text));
    strbuf_free(&text);
    for (int c = 0; c < N_COMPILERS; c++) {
        void *so = load(a, "ops", c);
        for (int i = 0; so && i < ops.n; i++) compare_op(&ops.at[i], so, compilers[c]);
        if (so) dlclose(so);
    }
    arena_destroy(a);
}

/* ---- expanded functions ---------------------------------------------------------------------- */

enum { MATH_N = 4096 };

static void compare_math(const Kernel *kn, void *so, DType t) {
    static double x[MATH_N], y[MATH_N], r1[MATH_N], r2[MATH_N];
    uint64_t state = 5;
    for (int i = 0; i < MATH_N; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        uint64_t bits = state ^ state >> 31;
        memcpy(&x[i], &bits, 8); /* two floats or one double */
        bits = bits << 11 ^ state;
        memcpy(&y[i], &bits, 8);
    }
    InterpretBuf bufs[3] = {{x, MATH_N}, {kn->n_params == 3 ? y : r1, MATH_N}, {r1, MATH_N}};
    interpret_kernel(kn, bufs, NULL);
    void *fn = dlsym(so, kn->name);
    if (!CHECK(fn != NULL)) return;
    if (kn->n_params == 3) {
        Kernel2 *f;
        *(void **)&f = fn;
        f(x, y, r2);
    } else {
        Kernel1 *f;
        *(void **)&f = fn;
        f(x, r2);
    }
    for (int i = 0; i < MATH_N; i++)
        if (!CHECK(op_same(t, r1, r2, i))) {
            fprintf(stderr, "  %s, element %d\n", kn->name, i);
            return;
        }
}

static void test_math(MathUnits units) {
    Arena *a = arena_create();
    KCtx *k = kctx_create(a);
    Kernel *kernels[2 * (KO_COUNT - KO_exp)];
    KModule m = {.k = k, .arena = a, .name = "math", .kernels = kernels};
    for (int op = KO_exp; op < KO_COUNT; op++)
        for (DType t = DT_F32; t <= DT_F64; t++)
            kernels[m.n_kernels++] = ulp_kernel(k, (KOp)op, t, MATH_N, units);
    StrBuf text = {0};
    codegen_c_kernels(&m, &text);
    write_text("math.c", strbuf_text(&text));
    strbuf_free(&text);
    for (int c = 0; c < N_COMPILERS; c += 3) {
        void *so = load(a, "math", c);
        for (uint32_t i = 0; so && i < m.n_kernels; i++)
            compare_math(kernels[i], so, i % 2 ? DT_F64 : DT_F32);
        if (so) dlclose(so);
    }
    arena_destroy(a);
}

/* ---- a model --------------------------------------------------------------------------------- */

/* y[i] = sum over j of w[j] x[i + j], in the arena; then y += 1 while a counter in memory runs,
 * rows in parallel; symbol `n` is the number of rows. Names are hostile. */
typedef struct Small {
    KModule m;
    KIo in, out;
    KVar *n;
} Small;

static const float weights[4] = {0.5f, -1.25f, 3e-8f, 1024.0f};

static void kernel_params(Arena *a, KCtx *k, Kernel *kn, int n, const DType *t,
                          const char *const *names) {
    kn->params = arena_array(a, KBuf *, n);
    for (int i = 0; i < n; i++) {
        KBuf *b = kn->params[i] = kbuf_new(k, MEM_PARAM, t[i], names[i], k_int(k, 1 << 20));
        b->index = (uint32_t)i;
        b->written = i == n - 1;
        b->noalias = true;
    }
    kn->n_params = (uint32_t)n;
    kn->scalars = arena_array(a, KVar *, 1);
    kn->scalars[kn->n_scalars++] = kvar_new(k, KV_SYMBOL, DT_I64, "rows", 1, 1000);
}

/* out[r, i] = sum of w[j] * x[r, i + j], r in parallel */
static Kernel *filter_kernel(Arena *a, KCtx *k) {
    Kernel *kn = arena_new(a, Kernel);
    KBuild b;
    kn->name = "k0_filter";
    kn->note = "conv */ \"1\"";
    kernel_params(a, k, kn, 3, (const DType[]){DT_F32, DT_F32, DT_F32},
                  (const char *const[]){"x", "for", "t0"});
    kb_begin(&b, k, &kn->body);
    const KExpr *unused = kb_let(&b, "unused", k_add(k, k_var(k, kn->scalars[0]), k_int(k, 2)));
    const KExpr *rows = kb_let(&b, "count", k_mul(k, k_var(k, kn->scalars[0]), k_int(k, 1)));
    const KExpr *r = kb_for(&b, LOOP_PARALLEL, "i", rows);
    const KExpr *i = kb_for(&b, LOOP_VECTOR, "i", k_int(k, 8));
    KBuf *acc = kb_alloc(&b, MEM_REG, DT_F32, "acc", 1);
    kb_store(&b, acc, k_int(k, 0), k_const(k, DT_F32, 0));
    const KExpr *j = kb_for(&b, LOOP_UNROLL, "int", k_int(k, 4));
    const KExpr *at = k_add(k, k_add(k, k_mul(k, r, k_int(k, 8)), i), j);
    const KExpr *inside = k_lt(k, k_add(k, i, j), k_int(k, 8));
    const KExpr *p = k_mul(k, k_load_if(k, kn->params[0], at, inside), k_load(k, kn->params[1], j));
    kb_store(&b, acc, k_int(k, 0), k_add(k, k_load(k, acc, k_int(k, 0)), p));
    kb_end(&b);
    kb_store(&b, kn->params[2], k_add(k, k_mul(k, r, k_int(k, 8)), i), k_load(k, acc, k_int(k, 0)));
    kb_end(&b);
    kb_end(&b);
    (void)unused;
    return kn;
}

/* out = exp(x) + x / 3, serial, with a while and an if */
static Kernel *finish_kernel(Arena *a, KCtx *k) {
    Kernel *kn = arena_new(a, Kernel);
    KBuild b;
    kn->name = "k1_finish";
    kernel_params(a, k, kn, 2, (const DType[]){DT_F32, DT_F32},
                  (const char *const[]){"f32_min", "body"});
    kb_begin(&b, k, &kn->body);
    KBuf *at = kb_alloc(&b, MEM_REG, DT_I64, "at", 1);
    const KExpr *zero = k_int(k, 0), *i = k_load(k, at, zero);
    kb_store(&b, at, zero, zero);
    kb_while(&b,
             k_lt(k, k_mul(k, i, k_int(k, 2)), k_mul(k, k_var(k, kn->scalars[0]), k_int(k, 16))));
    const KExpr *x = kb_let(&b, "x", k_load(k, kn->params[0], i));
    kb_if(&b, k_lt(k, x, k_const(k, DT_F32, 0)));
    kb_store(&b, kn->params[1], i, k_neg(k, x));
    kb_else(&b);
    kb_store(&b, kn->params[1], i, k_add(k, k_exp(k, x), k_div(k, x, k_const(k, DT_F32, 3))));
    kb_end(&b);
    kb_store(&b, at, zero, k_add(k, i, k_int(k, 1)));
    kb_end(&b);
    kblock_expand_math(k, &kn->body, (MathUnits){0});
    return kn;
}

static void add_call(Arena *a, KModule *m, Kernel *kn, KBuf **bufs, const KExpr *scalar) {
    KStmt *node = kblock_append(a, &m->entry, KS_NODE);
    node->node = m->n_nodes++;
    KStmt *s = kblock_append(a, &m->entry, KS_CALL);
    s->callee = kn;
    s->args = arena_array(a, KArg, kn->n_params);
    for (uint32_t i = 0; i < kn->n_params; i++) s->args[i].buf = bufs[i];
    s->scalars = arena_array(a, const KExpr *, 1);
    s->scalars[0] = scalar;
}

static void build_small(Arena *a, Small *s) {
    KCtx *k = kctx_create(a);
    s->n = kvar_new(k, KV_SYMBOL, DT_I64, "N", 1, 1000);
    const KExpr *n = k_var(k, s->n), *elems = k_mul(k, n, k_int(k, 8));
    const KExpr **dims = arena_array(a, const KExpr *, 2);
    dims[0] = n;
    dims[1] = k_int(k, 8);
    KBuf *x = kbuf_new(k, MEM_INPUT, DT_F32, "in*/put", elems),
         *y = kbuf_new(k, MEM_OUTPUT, DT_F32, "out\"put", elems);
    KBuf *w = kbuf_new(k, MEM_CONST, DT_F32, "conv.weight", k_int(k, 4)),
         *t = kbuf_new(k, MEM_ARENA, DT_F32, "tmp", elems);
    w->data = weights;
    t->offset = k_int(k, 64);
    s->in = (KIo){"in*/put", DT_F32, 2, dims, x, false};
    s->out = (KIo){"out\"put", DT_F32, 2, dims, y, false};
    KModule *m = &s->m;
    *m = (KModule){.k = k,
                   .arena = a,
                   .name = "small",
                   .inputs = &s->in,
                   .outputs = &s->out,
                   .n_inputs = 1,
                   .n_outputs = 1};
    m->symbols = arena_array(a, KVar *, 1);
    m->symbols[m->n_symbols++] = s->n;
    m->consts = arena_array(a, KBuf *, 1);
    m->consts[m->n_consts++] = w;
    m->kernels = arena_array(a, Kernel *, 2);
    m->kernels[m->n_kernels++] = filter_kernel(a, k);
    m->kernels[m->n_kernels++] = finish_kernel(a, k);
    m->arena_bytes = k_add(k, k_mul(k, elems, k_int(k, 4)), k_int(k, 64));
    m->nodes = arena_alloc(a, 2 * sizeof *m->nodes);
    m->nodes[0].name = "fil*/ter?\?/";
    m->nodes[0].op = m->nodes[1].op = "Op";
    m->nodes[1].name = "fi\"n\\ish";
    add_call(a, m, m->kernels[0], (KBuf *[]){x, w, t}, n);
    add_call(a, m, m->kernels[1], (KBuf *[]){t, y}, n);
}

static int n_hooked;
static void count_hook(void *user, uint32_t node) {
    (void)user;
    n_hooked += (int)node + 1;
}
static int cancel_hook(void *user) {
    return *(int *)user;
}
static void backwards(void *pool, smelt_range_fn *fn, void *ctx, int64_t n) {
    (void)pool;
    for (int64_t i = n; i-- > 0;) fn(ctx, i, i + 1);
}

typedef int SmallRun(int64_t n, const float *x, float *y, void *arena, size_t arena_bytes);

static void check_model(void *so, const Small *s) {
    enum { ROWS = 5 };
    static float x[ROWS * 8], expected[ROWS * 8], y[ROWS * 8];
    static char memory[1024];
    for (int i = 0; i < ROWS * 8; i++) x[i] = (float)(i * 37 % 23) / 7.0f - 1.5f;
    int64_t n = ROWS, found;
    const void *in = x;
    void *out = expected;
    CHECK(interpret_module(&s->m,
                           &(InterpretCall){.inputs = &in, .outputs = &out, .symbols = &n}) == 0);
    SmallRun *run;
    *(void **)&run = dlsym(so, "small_run");
    const smelt_model *model = dlsym(so, "small_model");
    if (!CHECK(run && model)) return;
    CHECK(run(ROWS, x, y, memory + 3, sizeof memory - 3) == SMELT_OK &&
          !memcmp(y, expected, sizeof y));
    uint64_t need;
    CHECK(model->arena_bytes_for(&n, &need) == SMELT_OK && need == 64 + ROWS * 32 + 63);
    CHECK(run(ROWS, x, y, memory, need - 1) == SMELT_SHORT_ARENA);
    CHECK(run(0, x, y, memory, sizeof memory) == SMELT_BAD_DIM &&
          run(1001, x, y, memory, sizeof memory) == SMELT_BAD_DIM);
    CHECK(run(ROWS, NULL, y, memory, sizeof memory) == SMELT_BAD_POINTER);
    CHECK(run(ROWS, y, y + 1, memory, sizeof memory) == SMELT_BAD_POINTER);
    CHECK(run(ROWS, x, y, NULL, sizeof memory) == SMELT_BAD_POINTER);
    CHECK(model->struct_size == sizeof *model && model->n_symbols == 1 &&
          model->inputs[0].dims[0] == -1);
    CHECK(!strcmp(model->inputs[0].name, "in*/put") && !strcmp(model->nodes[1].name, "fi\"n\\ish"));
    CHECK(!strcmp(model->nodes[0].name, "fil*/ter?\?/") && model->weight_bytes == 16);
    int stop = 0;
    smelt_hooks hooks = {.struct_size = sizeof hooks,
                         .parallel_for = backwards,
                         .before_node = count_hook,
                         .after_node = count_hook,
                         .cancel = cancel_hook,
                         .user = &stop};
    out = y;
    found = ROWS;
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = 1,
                       .n_outputs = 1,
                       .n_symbols = 1,
                       .inputs = &in,
                       .outputs = &out,
                       .symbols = &found,
                       .arena = memory,
                       .arena_bytes = sizeof memory,
                       .hooks = &hooks};
    memset(y, 0, sizeof y);
    n_hooked = 0;
    CHECK(model->run(&call) == SMELT_OK && n_hooked == 6 && !memcmp(y, expected, sizeof y));
    stop = 1;
    CHECK(model->run(&call) == SMELT_CANCELLED);
    call.n_inputs = 2;
    CHECK(model->run(&call) == SMELT_BAD_CALL && model->run(NULL) == SMELT_BAD_CALL);
}

static void test_model(void) {
    Arena *a = arena_create();
    Small s;
    build_small(a, &s);
    Diag *d = diag_create();
    const Target *t = codegen_target(a, NULL, NULL, NULL, d);
    CodegenOptions o = {.opt = 2};
    CHECK(codegen_c_library(&s.m, t, &o, (CodegenCPaths){"small.c", "small.h", NULL}, d));
    StrBuf text = {0}, again = {0};
    codegen_c_text(&s.m, t, &o, &text);
    codegen_c_text(&s.m, t, &o, &again);
    CHECK(!strcmp(strbuf_text(&text), strbuf_text(&again)));
    CHECK(strstr(strbuf_text(&text),
                 "static const float w0_conv_weight[4] = {\n    0.5f, -1.25f, 3e-08f, 1024.0f};") !=
          NULL);
    strbuf_free(&text);
    strbuf_free(&again);
    for (int c = 0; c < N_COMPILERS; c++) {
        void *so = load(a, "small", c);
        if (so) check_model(so, &s);
        if (so) dlclose(so);
    }
    diag_destroy(d);
    arena_destroy(a);
}

int main(void) {
    test_ops();
    for (int u = 0; u < N_ULP_UNITS; u++) test_math(ulp_units[u]);
    test_model();
    return check_done();
}
