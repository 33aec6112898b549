/* The LLVM renderer beyond single operations: lanes (masks, gathers, strides, private buffers),
 * whole models in memory with symbols, arena, hooks and every status, and the files of a library.
 */
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "runtime/include/smelt.h"
#include "tests/unit/check.h"

static Arena *arena;
static Diag *diag;

static KBuf *param(KCtx *k, Kernel *kn, DType t, const char *name, bool written) {
    KBuf *b = kbuf_new(k, MEM_PARAM, t, name, k_int(k, 1 << 20));
    b->written = written;
    b->index = kn->n_params;
    if (!kn->params) kn->params = arena_array(arena, KBuf *, 8);
    kn->params[kn->n_params++] = b;
    return b;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

enum { LANE_CASES = 12, LANE_N = 40 };

/* One kernel (in, index, out) per way lanes can meet memory; case c is checked by expect_lanes. */
static void build_lanes(KCtx *k, Kernel *kn, int c, int width) {
    KBuild b;
    KBuf *in = param(k, kn, DT_F32, "in", false), *index = param(k, kn, DT_I32, "index", false);
    KBuf *out = param(k, kn, DT_F32, "out", true);
    kb_begin(&b, k, &kn->body);
    const KExpr *i = kb_for(&b, LOOP_SERIAL, "i", k_int(k, LANE_N / width));
    const KExpr *l = kb_for(&b, LOOP_VECTOR, "l", k_int(k, width));
    const KExpr *at = k_add(k, k_mul(k, i, k_int(k, width)), l), *x = k_load(k, in, at), *y, *s;
    const KExpr *from = k_cast(k, DT_I64, k_load(k, index, at)), *odd, *ten = k_int(k, 10);
    KBuf *acc;
    switch (c) {
    case 0:
        kb_store(&b, out, at, k_load(k, in, k_sub(k, k_int(k, LANE_N - 1), at)));
        break;                                                                      /* reversed */
    case 1: kb_store(&b, out, at, k_load(k, in, k_mul(k, at, k_int(k, 3)))); break; /* strided */
    case 2: kb_store(&b, out, at, k_load(k, in, from)); break;                      /* gather */
    case 3: kb_store(&b, out, from, x); break;                                      /* scatter */
    case 4: /* predicated at both ends: never outside of in */
        y = k_sub(k, k_mul(k, at, k_int(k, 2)), ten);
        odd = k_and(k, k_le(k, k_int(k, 0), y), k_lt(k, y, k_int(k, LANE_N)));
        kb_store(&b, out, at, k_load_if(k, in, y, odd));
        break;
    case 5: /* masks within masks, both branches */
        kb_if(&b, k_lt(k, at, k_int(k, 25)));
        kb_store(&b, out, at, k_add(k, x, x));
        kb_if(&b, k_lt(k, x, k_const(k, DT_F32, 5)));
        kb_store(&b, out, at, k_load(k, in, from));
        kb_else(&b);
        kb_store(&b, out, k_sub(k, k_int(k, 2 * LANE_N - 1), at), x);
        kb_end(&b);
        kb_else(&b);
        kb_store(&b, out, at, k_neg(k, x));
        kb_end(&b);
        break;
    case 6: /* a private accumulator over an inner loop */
        acc = kb_alloc(&b, MEM_REG, DT_F32, "acc", 1);
        kb_store(&b, acc, k_int(k, 0), k_const(k, DT_F32, 0));
        s = kb_for(&b, LOOP_SERIAL, "s", ten);
        kb_store(&b, acc, k_int(k, 0),
                 k_add(k, k_load(k, acc, k_int(k, 0)), k_load(k, in, k_add(k, at, s))));
        kb_end(&b);
        kb_store(&b, out, at, k_load(k, acc, k_int(k, 0)));
        break;
    case 7: /* all lanes add to one element: cannot be widened */
        kb_store(&b, out, k_int(k, 0), k_add(k, k_load(k, out, k_int(k, 0)), x));
        break;
    case 8: /* inner extent differs by lane: cannot be widened */
        kb_store(&b, out, at, k_const(k, DT_F32, 0));
        s = kb_for(&b, LOOP_SERIAL, "s", k_fmod(k, at, k_int(k, 4)));
        kb_store(&b, out, at, k_add(k, k_load(k, out, at), k_load(k, in, s)));
        kb_end(&b);
        break;
    case 9: /* one element for all lanes, behind a condition that is false for some or all of them
             */
        kb_if(&b, k_lt(k, at, ten));
        y = kb_let(&b, "y", k_load(k, in, k_int(k, 7)));
        kb_store(&b, out, at, k_mul(k, x, y));
        kb_end(&b);
        break;
    case 10: /* lanes in the middle of an unrolled and a uniform loop; the lane as a value */
        s = kb_for(&b, LOOP_UNROLL, "u", k_int(k, 2));
        kb_if(&b, k_eq(k, k_fmod(k, k_add(k, i, s), k_int(k, 2)), k_int(k, 0)));
        kb_store(&b, out, at, k_add(k, k_cast(k, DT_F32, l), k_mul(k, x, k_cast(k, DT_F32, s))));
        kb_end(&b);
        kb_end(&b);
        break;
    default: /* a store is seen by the next statement's load, of the same expression */
        kb_store(&b, out, at, k_add(k, x, k_load(k, out, at)));
        kb_store(&b, out, at, k_mul(k, k_load(k, out, at), k_load(k, out, at)));
        break;
    }
    kb_end(&b);
    kb_end(&b);
}

static void expect_lanes(int c, int width, const float *in, const int *index, float *out) {
    for (int at = 0; at < LANE_N / width * width; at++) {
        float x = in[at];
        int y = 2 * at - 10;
        switch (c) {
        case 0: out[at] = in[LANE_N - 1 - at]; break;
        case 1: out[at] = in[3 * at]; break;
        case 2: out[at] = in[index[at]]; break;
        case 3: out[index[at]] = x; break;
        case 4: out[at] = y >= 0 && y < LANE_N ? in[y] : 0; break;
        case 5:
            if (at >= 25)
                out[at] = -x;
            else if (out[at] = x + x, x < 5)
                out[at] = in[index[at]];
            else
                out[2 * LANE_N - 1 - at] = x;
            break;
        case 6:
            out[at] = 0;
            for (int s = 0; s < 10; s++) out[at] += in[at + s];
            break;
        case 7: out[0] += x; break;
        case 8:
            out[at] = 0;
            for (int s = 0; s < at % 4; s++) out[at] += in[s];
            break;
        case 9:
            if (at < 10) out[at] = x * in[7];
            break;
        case 10: out[at] = (float)(at % width) + ((at / width) % 2 ? x : 0); break;
        default: out[at] = (out[at] + x) * (out[at] + x); break;
        }
    }
}

static void test_lanes(const Target *t, int opt) {
    static const int widths[] = {1, 2, 4, 5, 8, 16, 20, 40};
    enum { N_WIDTHS = sizeof widths / sizeof widths[0] };
    KCtx *k = kctx_create(arena);
    Kernel *kernels[LANE_CASES * N_WIDTHS];
    KModule m = {.k = k, .arena = arena, .name = "lanes", .kernels = kernels};
    for (int c = 0; c < LANE_CASES; c++)
        for (int w = 0; w < N_WIDTHS; w++) {
            Kernel *kn = kernels[m.n_kernels++] = arena_new(arena, Kernel);
            kn->name = arena_printf(arena, "k%d_%d", c, widths[w]);
            build_lanes(k, kn, c, widths[w]);
        }
    CodegenJit *j =
        codegen_llvm_jit(&m, t, &(CodegenOptions){.opt = opt, .jobs = 2, .verify = true}, diag);
    if (!CHECK(j != NULL)) return;
    float in[4 * LANE_N], got[2 * LANE_N], want[2 * LANE_N];
    int index[LANE_N];
    for (int i = 0; i < 4 * LANE_N; i++) in[i] = (float)(i * 7 % 23) - 9;
    for (int i = 0; i < LANE_N; i++) index[i] = i * 13 % LANE_N;
    for (uint32_t i = 0; i < m.n_kernels; i++) {
        void (*run)(const float *, const int *, float *);
        *(void **)&run = codegen_jit_kernel(j, kernels[i]);
        for (int e = 0; e < 2 * LANE_N; e++) got[e] = want[e] = (float)e;
        run(in, index, got);
        expect_lanes((int)i / N_WIDTHS, widths[i % N_WIDTHS], in, index, want);
        if (!CHECK(!memcmp(got, want, sizeof got)))
            fprintf(stderr, "%s -O%d %s\n", t->name, opt, kernels[i]->name);
    }
    codegen_jit_destroy(j);
}

/* ---- a model --------------------------------------------------------------------------------- */

/* y[n, 4] = (x[n, 4] + bias[4]) * scale, in two kernels with the sum in the arena; the second one
 * is parallel over n. z holds x's elements that are > 0, their number is found: z[found]. */
typedef struct Model {
    KModule m;
    Kernel *kernel[3];
    KIo in, out[2];
    float bias[4];
} Model;

static KStmt *add_call(Model *x, Kernel *kn, KBuf *a, KBuf *b, KBuf *c, const KExpr *n) {
    KStmt *s = kblock_append(arena, &x->m.entry, KS_CALL);
    KBuf *bufs[] = {a, b, c};
    s->callee = kn;
    s->args = arena_array(arena, KArg, 3);
    for (uint32_t i = 0; i < kn->n_params; i++) s->args[i].buf = bufs[i];
    s->scalars = arena_array(arena, const KExpr *, 1);
    s->scalars[0] = n;
    return s;
}

static Kernel *scalar_kernel(KCtx *k, const char *name, KVar **n) {
    Kernel *kn = arena_new(arena, Kernel);
    kn->name = name;
    kn->flops = 1e7; /* enough for the processor to be tested in each call */
    *n = kvar_new(k, KV_SYMBOL, DT_I64, "n", 0, 1000);
    kn->scalars = arena_array(arena, KVar *, 1);
    kn->scalars[0] = *n;
    kn->n_scalars = 1;
    return kn;
}

static Kernel *build_add(KCtx *k) {
    KVar *n;
    KBuild b;
    Kernel *kn = scalar_kernel(k, "k0_add", &n);
    KBuf *x = param(k, kn, DT_F32, "x", false), *bias = param(k, kn, DT_F32, "bias", false);
    KBuf *sum = param(k, kn, DT_F32, "sum", true);
    kb_begin(&b, k, &kn->body);
    const KExpr *i = kb_for(&b, LOOP_SERIAL, "i", k_var(k, n)),
                *l = kb_for(&b, LOOP_VECTOR, "l", k_int(k, 4));
    const KExpr *at = k_add(k, k_mul(k, i, k_int(k, 4)), l);
    kb_store(&b, sum, at, k_add(k, k_load(k, x, at), k_load(k, bias, l)));
    kb_end(&b);
    kb_end(&b);
    return kn;
}

static Kernel *build_scale(KCtx *k) {
    KVar *n;
    KBuild b;
    Kernel *kn = scalar_kernel(k, "k1_scale", &n);
    KBuf *sum = param(k, kn, DT_F32, "sum", false), *y = param(k, kn, DT_F32, "y", true);
    kb_begin(&b, k, &kn->body);
    const KExpr *four = kb_let(&b, "four", k_mul(k, k_var(k, n), k_int(k, 4)));
    const KExpr *i = kb_for(&b, LOOP_PARALLEL, "i", k_fdiv(k, four, k_int(k, 4)));
    const KExpr *l = kb_for(&b, LOOP_VECTOR, "l", k_int(k, 4)),
                *at = k_add(k, k_mul(k, i, k_int(k, 4)), l);
    kb_store(&b, y, at, k_mul(k, k_load(k, sum, at), k_const(k, DT_F32, 3)));
    kb_end(&b);
    kb_end(&b);
    return kn;
}

static Kernel *build_compact(KCtx *k) {
    KVar *n;
    KBuild b;
    Kernel *kn = scalar_kernel(k, "k2_compact", &n);
    KBuf *x = param(k, kn, DT_F32, "x", false), *z = param(k, kn, DT_F32, "z", true);
    KBuf *count = param(k, kn, DT_I64, "count", true);
    const KExpr *zero = k_int(k, 0);
    kb_begin(&b, k, &kn->body);
    kb_store(&b, count, zero, zero);
    const KExpr *i = kb_for(&b, LOOP_SERIAL, "i", k_mul(k, k_var(k, n), k_int(k, 4)));
    kb_if(&b, k_gt(k, k_load(k, x, i), k_const(k, DT_F32, 0)));
    const KExpr *at = kb_let(&b, "at", k_load(k, count, zero));
    kb_store(&b, z, at, k_load(k, x, i));
    kb_store(&b, count, zero, k_add(k, at, k_int(k, 1)));
    kb_end(&b);
    kb_end(&b);
    return kn;
}

static KBuf *model_buf(KCtx *k, KMem mem, DType t, const char *name, uint32_t index) {
    KBuf *b = kbuf_new(k, mem, t, name, k_int(k, 4));
    b->index = index;
    return b;
}

static void add_node(Model *x, uint32_t i) {
    kblock_append(arena, &x->m.entry, KS_NODE)->node = i;
}

static Model *build_model(void) {
    Model *x = arena_new(arena, Model);
    KCtx *k = kctx_create(arena);
    KModule *m = &x->m;
    KVar *n = kvar_new(k, KV_SYMBOL, DT_I64, "batch", 1, 100);
    KVar *found = kvar_new(k, KV_SYMBOL, DT_I64, "found", 0, 400);
    found->computed = true;
    *m = (KModule){.k = k,
                   .arena = arena,
                   .name = "net",
                   .kernels = x->kernel,
                   .n_kernels = 3,
                   .inputs = &x->in,
                   .outputs = x->out,
                   .n_inputs = 1,
                   .n_outputs = 2,
                   .n_symbols = 1,
                   .n_sizes = 1,
                   .n_consts = 1};
    m->symbols = arena_array(arena, KVar *, 1);
    m->sizes = arena_array(arena, KVar *, 1);
    m->consts = arena_array(arena, KBuf *, 1);
    m->nodes = arena_alloc(arena, 2 * sizeof *m->nodes);
    m->n_nodes = 2;
    m->nodes[0].name = "add", m->nodes[0].op = "Add", m->nodes[1].name = "mul",
    m->nodes[1].op = "Mul";
    m->symbols[0] = n, m->sizes[0] = found;
    memcpy(x->bias, (float[]){1, 2, 3, 4}, sizeof x->bias);
    const KExpr *four = k_int(k, 4), *size = k_mul(k, k_var(k, n), k_int(k, 16));
    KBuf *in = model_buf(k, MEM_INPUT, DT_F32, "x", 0),
         *sum = model_buf(k, MEM_ARENA, DT_F32, "sum", 0);
    KBuf *y = model_buf(k, MEM_OUTPUT, DT_F32, "y", 0),
         *z = model_buf(k, MEM_OUTPUT, DT_F32, "z", 1);
    m->consts[0] = model_buf(k, MEM_CONST, DT_F32, "bias", 0);
    m->consts[0]->data = x->bias;
    sum->offset = k_int(k, 64);
    m->size_table = model_buf(k, MEM_ARENA, DT_I64, "sizes", 0);
    m->size_table->offset = k_int(k, 0);
    m->arena_bytes = k_add(k, size, k_int(k, 64));
    const KExpr **dims = arena_array(arena, const KExpr *, 3);
    dims[0] = k_var(k, n), dims[1] = four, dims[2] = k_var(k, found);
    x->in = (KIo){"x", DT_F32, 2, dims, in, false};
    x->out[0] = (KIo){"y:0", DT_F32, 2, dims, y, false};
    x->out[1] = (KIo){"int", DT_F32, 1, dims + 2, z, false};
    x->kernel[0] = build_add(k), x->kernel[1] = build_scale(k), x->kernel[2] = build_compact(k);
    add_node(x, 0);
    add_call(x, x->kernel[0], in, m->consts[0], sum, k_var(k, n));
    add_node(x, 1);
    add_call(x, x->kernel[1], sum, y, NULL, k_var(k, n));
    add_call(x, x->kernel[2], in, z, m->size_table, k_var(k, n));
    return x;
}

typedef struct Seen {
    uint32_t before, after, asked, ranges;
    uint32_t cancel_at;
} Seen;

static void see_before(void *user, uint32_t node) {
    CHECK(((Seen *)user)->before++ == node);
}
static void see_after(void *user, uint32_t node) {
    CHECK(((Seen *)user)->after++ == node);
}
static int see_cancel(void *user) {
    Seen *s = user;
    return s->asked++ == s->cancel_at;
}
/* Two halves, the second first. */
static void see_parallel(void *pool, smelt_range_fn *fn, void *ctx, int64_t n) {
    ((Seen *)pool)->ranges++;
    fn(ctx, n / 2, n);
    fn(ctx, 0, n / 2);
}

static void check_results(const float *x, const float *y, const float *z, int64_t n,
                          int64_t found) {
    int64_t positive = 0;
    for (int64_t i = 0; i < 4 * n; i++) {
        CHECK(y[i] == (x[i] + (float)(1 + i % 4)) * 3);
        if (x[i] > 0) CHECK(z[positive++] == x[i]);
    }
    CHECK(positive == found);
}

static void test_model(const Target *t, int opt, bool weights_file) {
    Model *net = build_model();
    CodegenOptions o = {.opt = opt, .jobs = 1, .verify = true, .weights_file = weights_file};
    CodegenJit *j = codegen_llvm_jit(&net->m, t, &o, diag);
    if (!CHECK(j != NULL)) return;
    const smelt_model *m = codegen_jit_model(j);
    CHECK(m->struct_size == sizeof *m && m->abi == SMELT_ABI_VERSION && !strcmp(m->name, "net"));
    CHECK(m->n_inputs == 1 && m->n_outputs == 2 && m->n_symbols == 2 && m->n_nodes == 2);
    CHECK(m->inputs[0].dims[0] == -1 && m->inputs[0].dims[1] == 4 &&
          m->inputs[0].max_bytes == 1600);
    CHECK(m->outputs[1].dims[0] == -2 && !strcmp(m->symbols[1].name, "found"));
    CHECK(m->symbols[0].kind == SMELT_SYMBOL_ARGUMENT && m->symbols[1].kind == SMELT_SYMBOL_DATA);
    CHECK(m->arena_bytes == 64 + 1600 + 63 && m->weight_bytes == 16 &&
          !strcmp(m->nodes[1].op, "Mul"));

    static float x[400], y[400], z[400];
    static char memory[4096];
    int64_t symbols[2] = {5, -1};
    uint64_t need = 0;
    CHECK(m->arena_bytes_for(symbols, &need) == SMELT_OK && need == 64 + 80 + 63);
    CHECK(m->symbols_for(symbols) == SMELT_OK && symbols[1] == 400);
    for (int i = 0; i < 400; i++) x[i] = (float)(i * 5 % 17 - 8);
    Seen seen = {.cancel_at = UINT32_MAX};
    smelt_hooks hooks = {.struct_size = sizeof hooks,
                         .pool = &seen,
                         .user = &seen,
                         .parallel_for = see_parallel,
                         .before_node = see_before,
                         .after_node = see_after,
                         .cancel = see_cancel};
    const void *inputs[] = {x};
    void *outputs[] = {y, z};
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = 1,
                       .n_outputs = 2,
                       .n_symbols = 2,
                       .inputs = inputs,
                       .outputs = outputs,
                       .symbols = symbols,
                       .arena = memory + 3,
                       .arena_bytes = need};
    CHECK(m->run(&call) == SMELT_OK);
    check_results(x, y, z, 5, symbols[1]);
    call.hooks = &hooks;
    memset(y, 0, sizeof y);
    CHECK(m->run(&call) == SMELT_OK);
    check_results(x, y, z, 5, symbols[1]);
    CHECK(seen.before == 2 && seen.after == 2 && seen.asked == 2 && seen.ranges == 1);
    seen = (Seen){.cancel_at = 1};
    CHECK(m->run(&call) == SMELT_CANCELLED && seen.before == 1 && seen.after == 1);
    call.hooks = NULL;

    smelt_call bad = call;
    CHECK(m->run(NULL) == SMELT_BAD_CALL);
    CHECK((bad.struct_size = 8, m->run(&bad)) == SMELT_BAD_CALL);
    bad = call;
    CHECK((bad.n_inputs = 2, m->run(&bad)) == SMELT_BAD_CALL);
    bad = call;
    CHECK((bad.outputs = NULL, m->run(&bad)) == SMELT_BAD_CALL);
    bad = call;
    CHECK((symbols[0] = 101, m->run(&bad)) == SMELT_BAD_DIM);
    CHECK((symbols[0] = 0, m->run(&bad)) == SMELT_BAD_DIM);
    CHECK(m->symbols_for(symbols) == SMELT_BAD_DIM && m->symbols_for(NULL) == SMELT_BAD_POINTER);
    symbols[0] = 5;
    CHECK((outputs[1] = NULL, m->run(&bad)) == SMELT_BAD_POINTER);
    CHECK((outputs[1] = x + 2, m->run(&bad)) == SMELT_BAD_POINTER);
    CHECK((outputs[1] = y + 19, m->run(&bad)) == SMELT_BAD_POINTER);
    outputs[1] = z;
    CHECK((inputs[0] = NULL, m->run(&bad)) == SMELT_BAD_POINTER);
    inputs[0] = x;
    CHECK((bad.arena = NULL, m->run(&bad)) == SMELT_BAD_POINTER);
    CHECK((bad.arena = y, m->run(&bad)) == SMELT_BAD_POINTER);
    bad = call;
    CHECK((bad.arena_bytes = need - 1, m->run(&bad)) == SMELT_SHORT_ARENA);
    CHECK(m->run(&call) == SMELT_OK);
    codegen_jit_destroy(j);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void test_files(const Target *t) {
    Model *net = build_model();
    CodegenOptions one = {.opt = 2, .jobs = 1, .verify = true},
                   many = {.opt = 2, .jobs = 4, .verify = true};
    CodegenObject *a, *b;
    uint32_t n_a, n_b;
    CHECK(codegen_llvm_objects(arena, &net->m, t, &one, &a, &n_a, diag));
    CHECK(codegen_llvm_objects(arena, &net->m, t, &many, &b, &n_b, diag));
    CHECK(n_a == n_b);
    for (uint32_t i = 0; i < n_a && i < n_b; i++)
        CHECK(a[i].n_bytes == b[i].n_bytes && !memcmp(a[i].bytes, b[i].bytes, a[i].n_bytes));
    codegen_objects_free(a, n_a);
    codegen_objects_free(b, n_b);
    CHECK(codegen_llvm_library(&net->m, t, &many, (CodegenPaths){"libnet.a", "net.h", NULL}, diag));
    CHECK(codegen_llvm_object(&net->m, t, &one, "net.o", diag));
}

/* Links the library into a C program, and asks nm what the objects want from elsewhere. */
static void test_program(void) {
    static const char program[] =
        "#include \"net.h\"\n"
        "int main(void) {\n"
        "    static float x[8] = {-1, 2, 3, -4, 5, 6, -7, 8}, y[8], z[400];\n"
        "    static char arena[NET_ARENA_BYTES];\n"
        "    int64_t dims[1];\n"
        "    if (net_run(2, x, y, z, dims, arena, sizeof arena)) return 1;\n"
        "    if (net_run(2, x, y, z, dims, arena, 9) != 4) return 2;\n"
        "    return dims[0] == 5 && z[4] == 8 && y[7] == 36 ? 0 : 3;\n"
        "}\n";
    FILE *f = fopen("use.c", "w");
    if (!CHECK(f != NULL)) return;
    fputs(program, f);
    fclose(f);
    if (system("cc --version >/dev/null 2>&1")) return;
    CHECK(
        !system("cc -std=c99 -pedantic -Wall -Wextra -Werror use.c libnet.a -o use_a && ./use_a"));
    CHECK(!system("cc -std=c99 -pedantic -Wall -Wextra -Werror use.c net.o -o use_o && ./use_o"));
    CHECK(!system(
        "c++ --version >/dev/null 2>&1 || exit 0; c++ -x c++ -std=c++17 -Wall -Wextra -Werror "
        "-fsyntax-only net.h"));
    CHECK(!system("! nm -u net.o | grep -v 'memcpy\\|memset\\|memmove\\|^$' | grep ."));
    CHECK(!system("! size -A net.o | grep -E '^\\.(data|bss) ' | awk '$2 > 0' | grep ."));
    CHECK(!system("test \"$(nm -g --defined-only net.o | wc -l)\" -ge 2"));
}

/* Machines that are not this one: everything must come out of LLVM's code generators. */
static void test_foreign(void) {
    static const char *const triples[] = {"aarch64-linux-gnu",      "riscv64-linux-gnu",
                                          "armv7-linux-gnueabihf",  "x86_64-apple-macosx11.0.0",
                                          "x86_64-pc-windows-msvc", "wasm32-unknown-unknown"};
    for (size_t i = 0; i < sizeof triples / sizeof triples[0]; i++) {
        const Target *t = codegen_target(arena, triples[i], NULL, NULL, diag);
        if (!CHECK(t != NULL)) continue;
        Model *net = build_model();
        char *path = arena_printf(arena, "libnet_%zu.a", i);
        CHECK(codegen_llvm_library(&net->m, t,
                                   &(CodegenOptions){.opt = 2, .jobs = 2, .verify = true},
                                   (CodegenPaths){path, NULL, NULL}, diag));
    }
    Diag *refused = diag_create();
    CHECK(!codegen_target(arena, "pdp11-unknown-none", NULL, NULL, refused));
    diag_destroy(refused);
}

int main(void) {
    arena = arena_create();
    diag = diag_create();
    const Target *host = codegen_target(arena, NULL, NULL, NULL, diag);
    const Target *plain =
        codegen_target(arena, NULL, strcmp(host->arch, "x86_64") ? NULL : "x86-64", NULL, diag);
    for (int opt = 0; opt <= 3; opt += 3) {
        test_lanes(host, opt);
        test_lanes(plain, opt);
        test_model(host, opt, false);
    }
    test_files(host);
    test_program();
    test_foreign();
    if (diag_n_errors(diag)) diag_print(diag);
    CHECK(!diag_n_errors(diag));
    return check_done();
}
