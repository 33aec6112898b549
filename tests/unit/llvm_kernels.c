/* The LLVM renderer against C: every primitive on edge values, as scalars and as vectors, for this
 * machine and for lesser ones, at -O0 and -O3. The expectations are computed here with other means
 * than the renderer's (host arithmetic, 128-bit integers, printf-free rounding through double). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/codegen.h"
#include "ir/root16.h"
#include "tests/unit/check.h"
#include "tests/unit/samples.h"

static const int widths[] = {1, 3, 8, 16, 32};
enum { N_WIDTHS = sizeof widths / sizeof widths[0] };

static Arena *arena;
static Diag *diag;

/* ---- a module of kernels --------------------------------------------------------------------- */

typedef struct Lab {
    KModule m;
    Kernel *kernel[64];
    KBuild b;
    CodegenJit *jit;
} Lab;

static void lab_open(Lab *lab) {
    memset(lab, 0, sizeof *lab);
    lab->m =
        (KModule){.k = kctx_create(arena), .arena = arena, .name = "lab", .kernels = lab->kernel};
}

static KBuf *lab_param(Lab *lab, Kernel *kn, DType t, const char *name, bool written) {
    KBuf *b = kbuf_new(lab->m.k, MEM_PARAM, t, name, k_int(lab->m.k, N));
    b->written = written;
    b->index = kn->n_params;
    if (!kn->params) kn->params = arena_array(arena, KBuf *, 64);
    kn->params[kn->n_params++] = b;
    return b;
}

static Kernel *lab_kernel(Lab *lab) {
    Kernel *kn = arena_new(arena, Kernel);
    kn->id = lab->m.n_kernels;
    kn->name = arena_printf(arena, "k%u", kn->id);
    lab->kernel[lab->m.n_kernels++] = kn;
    kb_begin(&lab->b, lab->m.k, &kn->body);
    return kn;
}

/* for (i < N / width) vector (lane < width): returns i * width + lane */
static const KExpr *lab_lanes(Lab *lab, int width) {
    KCtx *k = lab->m.k;
    const KExpr *i = kb_for(&lab->b, LOOP_SERIAL, "i", k_int(k, N / width));
    const KExpr *lane = kb_for(&lab->b, LOOP_VECTOR, "lane", k_int(k, width));
    return k_add(k, k_mul(k, i, k_int(k, width)), lane);
}

static void lab_end_lanes(Lab *lab) {
    kb_end(&lab->b);
    kb_end(&lab->b);
}

static void lab_link(Lab *lab, const Target *t, int opt) {
    CodegenOptions o = {.opt = opt, .jobs = 2, .verify = true};
    lab->jit = codegen_llvm_jit(&lab->m, t, &o, diag);
    if (!lab->jit) diag_print(diag);
    CHECK(lab->jit != NULL);
    if (!lab->jit) exit(1);
}

/* ---- what the primitives mean ---------------------------------------------------------------- */

static Val expect_int(KOp op, DType t, int64_t a, int64_t b) {
    __int128 x = dtype_is_signed(t) ? a : (__int128)(uint64_t)a;
    __int128 y = dtype_is_signed(t) ? b : (__int128)(uint64_t)b, q, r;
    int bits = dtype_info[t].bits;
    uint64_t shift = (uint64_t)wrap(t, (uint64_t)b);
    if (bits < 64) shift &= (UINT64_C(1) << bits) - 1;
    bool over = shift >= (uint64_t)bits;
    q = y ? x / y : 0;
    r = y ? x % y : 0;
    bool down = r != 0 && (r < 0) != (y < 0);
    Val v = {0, 0};
    switch (op) {
    case KO_add: v.i = wrap(t, (uint64_t)(x + y)); break;
    case KO_sub: v.i = wrap(t, (uint64_t)(x - y)); break;
    case KO_mul: v.i = wrap(t, (uint64_t)a * (uint64_t)b); break;
    case KO_div: v.i = wrap(t, (uint64_t)q); break;
    case KO_rem: v.i = wrap(t, (uint64_t)r); break;
    case KO_fdiv: v.i = wrap(t, (uint64_t)(down ? q - 1 : q)); break;
    case KO_fmod: v.i = wrap(t, (uint64_t)(down ? r + y : r)); break;
    case KO_min: v.i = x < y ? a : b; break;
    case KO_max: v.i = x > y ? a : b; break;
    case KO_and: v.i = a & b; break;
    case KO_or: v.i = a | b; break;
    case KO_xor: v.i = a ^ b; break;
    case KO_shl: v.i = over ? 0 : wrap(t, (uint64_t)a << shift); break;
    case KO_shr:
        v.i = over ? (dtype_is_signed(t) && a < 0 ? -1 : 0) : wrap(t, (uint64_t)(x >> shift));
        break;
    case KO_eq: v.i = x == y; break;
    case KO_ne: v.i = x != y; break;
    case KO_lt: v.i = x < y; break;
    case KO_le: v.i = x <= y; break;
    case KO_neg: v.i = wrap(t, 0 - (uint64_t)a); break;
    case KO_abs: v.i = wrap(t, x < 0 ? 0 - (uint64_t)a : (uint64_t)a); break;
    case KO_not: v.i = wrap(t, ~(uint64_t)a); break;
    default: CHECK(!"an operation without an expectation");
    }
    return v;
}

static double times_power(DType t, double a, double b) {
    int n = (int)fmax(-9999, fmin(9999, floor(b)));
    return b != b ? b : t == DT_F32 ? (double)scalbnf((float)a, n) : scalbn(a, n);
}

static Val expect_float(KOp op, DType t, double a, double b) {
    Val v = {0, 0};
    switch (op) {
    case KO_add: v.f = t == DT_F32 ? (double)((float)a + (float)b) : a + b; break;
    case KO_sub: v.f = t == DT_F32 ? (double)((float)a - (float)b) : a - b; break;
    case KO_mul: v.f = t == DT_F32 ? (double)((float)a * (float)b) : a * b; break;
    case KO_div: v.f = t == DT_F32 ? (double)((float)a / (float)b) : a / b; break;
    case KO_rem: v.f = fmod(a, b); break;
    case KO_min: v.f = a < b ? a : b; break;
    case KO_max: v.f = a > b ? a : b; break;
    case KO_eq: v.i = a == b; break;
    case KO_ne: v.i = a != b; break;
    case KO_lt: v.i = a < b; break;
    case KO_le: v.i = a <= b; break;
    case KO_neg: v.f = -a; break;
    case KO_abs: v.f = fabs(a); break;
    case KO_ldexp: v.f = times_power(t, a, b); break;
    case KO_sqrt: v.f = t == DT_F32 ? (double)sqrtf((float)a) : sqrt(a); break;
    case KO_floor: v.f = floor(a); break;
    case KO_ceil: v.f = ceil(a); break;
    case KO_trunc: v.f = trunc(a); break;
    case KO_rint: v.f = nearbyint(a); break;
    default: CHECK(!"an operation without an expectation");
    }
    v.f = round_float(t, v.f);
    return v;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static const KOp int_ops[] = {KO_add, KO_sub, KO_mul, KO_div, KO_rem, KO_fdiv, KO_fmod,
                              KO_min, KO_max, KO_and, KO_or,  KO_xor, KO_shl,  KO_shr,
                              KO_eq,  KO_ne,  KO_lt,  KO_le,  KO_neg, KO_abs,  KO_not};
static const KOp float_ops[] = {KO_add, KO_sub,  KO_mul,   KO_div,  KO_rem,   KO_min,
                                KO_max, KO_eq,   KO_ne,    KO_lt,   KO_le,    KO_neg,
                                KO_abs, KO_sqrt, KO_floor, KO_ceil, KO_trunc, KO_rint,
                                KO_ldexp}; /* the last of f32 and f64 only */

static int n_float_ops(DType t) {
    return (int)(sizeof float_ops / sizeof *float_ops) - (t != DT_F32 && t != DT_F64);
}

static Kernel *build_arith(Lab *lab, DType t, int width, const KOp *ops, int n_ops) {
    KCtx *k = lab->m.k;
    Kernel *kn = lab_kernel(lab);
    KBuf *a = lab_param(lab, kn, t, "a", false), *b = lab_param(lab, kn, t, "b", false);
    KBuf *out = lab_param(lab, kn, t, "out", true),
         *truth = lab_param(lab, kn, DT_BOOL, "truth", true);
    const KExpr *i = lab_lanes(lab, width), *x = k_load(k, a, i), *y = k_load(k, b, i);
    for (int o = 0; o < n_ops; o++) {
        const KExpr *at = k_add(k, i, k_int(k, o * N));
        bool unary = kop_info[ops[o]].n_args == 1;
        bool compares = kop_info[ops[o]].class == KC_CMP;
        kb_store(&lab->b, compares ? truth : out, at,
                 unary ? k_unary(k, ops[o], x) : k_binary(k, ops[o], x, y));
    }
    lab_end_lanes(lab);
    return kn;
}

static void check_arith(Lab *lab, const Kernel *kn, DType t, const KOp *ops, int n_ops,
                        const char *where) {
    static _Alignas(64) char a[N * 8], b[N * 8], out[32 * N * 8];
    static uint8_t truth[32 * N];
    void (*run)(const void *, const void *, void *, void *);
    *(void **)&run = codegen_jit_kernel(lab->jit, kn);
    for (int salt = 1; salt < 6; salt++) {
        fill(t, a, 0);
        fill(t, b, salt);
        run(a, b, out, truth);
        for (int o = 0; o < n_ops; o++) {
            for (int i = 0; i < N; i++) {
                Val x = read_element(t, a, i), y = read_element(t, b, i);
                bool compares = kop_info[ops[o]].class == KC_CMP;
                Val got = compares ? (Val){truth[o * N + i], 0} : read_element(t, out, o * N + i);
                Val want = dtype_is_float(t) ? expect_float(ops[o], t, x.f, y.f)
                                             : expect_int(ops[o], t, x.i, y.i);
                bool unsaid = ops[o] == KO_ldexp && isinf(y.f);
                bool good = unsaid || same(compares ? DT_BOOL : t, got, want);
                if (!good)
                    fprintf(stderr, "%s %s.%s(%a %lld, %a %lld) = %a %lld, not %a %lld\n", where,
                            dtype_info[t].name, kop_info[ops[o]].name, x.f, (long long)x.i, y.f,
                            (long long)y.i, got.f, (long long)got.i, want.f, (long long)want.i);
                CHECK(good);
                if (!good) break;
            }
        }
    }
}

static void test_arith(const Target *t, int opt, const char *where) {
    static const DType types[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I8,  DT_I16,
                                  DT_I32, DT_I64, DT_U8,  DT_U16,  DT_U32, DT_U64};
    enum { N_TYPES = sizeof types / sizeof types[0] };
    Lab lab;
    const Kernel *kn[N_TYPES][N_WIDTHS];
    lab_open(&lab);
    for (int i = 0; i < N_TYPES; i++)
        for (int w = 0; w < N_WIDTHS; w++) {
            bool f = dtype_is_float(types[i]);
            if (w >= 3 &&
                f != (w == 3)) { /* 16 lanes for floats, 32 for integers: less to compile */
                kn[i][w] = NULL;
                continue;
            }
            kn[i][w] = f ? build_arith(&lab, types[i], widths[w], float_ops, n_float_ops(types[i]))
                         : build_arith(&lab, types[i], widths[w], int_ops,
                                       sizeof int_ops / sizeof *int_ops);
        }
    lab_link(&lab, t, opt);
    for (int i = 0; i < N_TYPES; i++)
        for (int w = 0; w < N_WIDTHS; w++) {
            if (!kn[i][w]) continue;
            bool f = dtype_is_float(types[i]);
            check_arith(&lab, kn[i][w], types[i], f ? float_ops : int_ops,
                        f ? n_float_ops(types[i]) : (int)(sizeof int_ops / sizeof *int_ops), where);
        }
    codegen_jit_destroy(lab.jit);
}

/* ---- casts ----------------------------------------------------------------------------------- */

static const DType cast_types[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I8,  DT_I16, DT_I32,
                                   DT_I64, DT_U8,  DT_U16, DT_U32,  DT_U64, DT_BOOL};
enum { N_CAST = sizeof cast_types / sizeof cast_types[0] };

static Val expect_cast(DType to, DType from, Val x) {
    Val v = {0, 0};
    bool f_from = dtype_is_float(from), f_to = dtype_is_float(to);
    if (to == DT_BOOL) {
        v.i = f_from ? x.f != 0 : x.i != 0;
    } else if (f_from && f_to) {
        v.f = round_float(to, x.f);
    } else if (f_to) {
        /* One rounding, from an exact value: long double holds 64 bits. */
        long double exact = dtype_is_signed(from) ? (long double)x.i : (long double)(uint64_t)x.i;
        if (to == DT_F32)
            v.f = (double)(float)exact;
        else if (to == DT_F64)
            v.f = (double)exact;
        else { /* digits of the 16-bit types are far from double's: only ties can go wrong */
            double d = (double)exact;
            if ((long double)d != exact)
                d = nextafter((double)exact, exact > (long double)d ? INFINITY : -INFINITY);
            v.f = round_float(to, (long double)(double)exact == exact ? (double)exact : d);
        }
    } else if (f_from) {
        long double lo = dtype_is_signed(to) ? -ldexpl(1, dtype_info[to].bits - 1) : 0;
        long double hi = ldexpl(1, dtype_info[to].bits - dtype_is_signed(to)) - 1;
        long double d = truncl((long double)x.f);
        if (isnan(x.f)) d = 0;
        d = d < lo ? lo : d > hi ? hi : d;
        v.i = to == DT_U64 ? (int64_t)(uint64_t)d : (int64_t)d;
    } else {
        v.i = wrap(to, (uint64_t)x.i);
    }
    return v;
}

static Kernel *build_casts(Lab *lab, DType from, int width) {
    Kernel *kn = lab_kernel(lab);
    KBuf *in = lab_param(lab, kn, from, "in", false), *out[N_CAST];
    for (int i = 0; i < N_CAST; i++) out[i] = lab_param(lab, kn, cast_types[i], "out", true);
    const KExpr *at = lab_lanes(lab, width);
    for (int i = 0; i < N_CAST; i++)
        kb_store(&lab->b, out[i], at, k_cast(lab->m.k, cast_types[i], k_load(lab->m.k, in, at)));
    lab_end_lanes(lab);
    return kn;
}

static void check_casts(Lab *lab, const Kernel *kn, DType from, const char *where) {
    static _Alignas(64) char in[N * 8], out[N_CAST][N * 8];
    void (*run)(void *, void *, void *, void *, void *, void *, void *, void *, void *, void *,
                void *, void *, void *, void *);
    *(void **)&run = codegen_jit_kernel(lab->jit, kn);
    fill(from, in, 0);
    run(in, out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7], out[8], out[9], out[10],
        out[11], out[12]);
    for (int c = 0; c < N_CAST; c++)
        for (int i = 0; i < N; i++) {
            Val x = read_element(from, in, i), got = read_element(cast_types[c], out[c], i);
            Val want = expect_cast(cast_types[c], from, x);
            bool good = same(cast_types[c], got, want);
            if (!good)
                fprintf(stderr, "%s %s(%s %a %lld) = %a %lld, not %a %lld\n", where,
                        dtype_info[cast_types[c]].name, dtype_info[from].name, x.f, (long long)x.i,
                        got.f, (long long)got.i, want.f, (long long)want.i);
            CHECK(good);
            if (!good) break;
        }
}

static void test_casts(const Target *t, int opt, const char *where) {
    static const int some[] = {1, 16};
    Lab lab;
    const Kernel *kn[N_CAST][2];
    lab_open(&lab);
    for (int i = 0; i < N_CAST; i++)
        for (int w = 0; w < 2; w++) kn[i][w] = build_casts(&lab, cast_types[i], some[w]);
    lab_link(&lab, t, opt);
    for (int i = 0; i < N_CAST; i++)
        for (int w = 0; w < 2; w++) check_casts(&lab, kn[i][w], cast_types[i], where);
    codegen_jit_destroy(lab.jit);
}

/* ---- three operands -------------------------------------------------------------------------- */

static int32_t expect_dot(KOp op, int32_t a, uint32_t b, uint32_t c) {
    uint32_t sum = (uint32_t)a;
    for (int i = 0; op == KO_dot2_ss && i < 32; i += 16)
        sum += (uint32_t)((int16_t)(b >> i & 65535) * (int16_t)(c >> i & 65535));
    for (int i = 0; op != KO_dot2_ss && i < 32; i += 8) {
        int byte = (int)(b >> i & 255);
        if (op == KO_dot4_ss) byte = (int8_t)byte;
        sum += (uint32_t)(byte * (int8_t)(c >> i & 255));
    }
    return (int32_t)sum;
}

static float high_bfloat(uint32_t word) {
    word &= 0xffff0000u;
    float f;
    memcpy(&f, &word, sizeof f);
    return f;
}

/* Words of two bf16 of ordinary size: machines differ in what they make of subnormal ones. */
static void fill_bfloats(int32_t *to, uint32_t from) {
    for (int i = 0; i < N; i++) {
        from = from * 1664525u + 1013904223u;
        to[i] = (int32_t)((from & 0x87ff87ffu) | 0x38003800u);
    }
}

static void test_bfloats(const Target *t, int opt) {
    static const int some[] = {1, 4, 8, 16, 32, 6};
    enum { N_SOME = sizeof some / sizeof some[0] };
    static _Alignas(64) float a[N], out[N];
    static _Alignas(64) int32_t x[N], y[N];
    Lab lab;
    const Kernel *kn[N_SOME];
    lab_open(&lab);
    for (int w = 0; w < N_SOME; w++) {
        Kernel *now = lab_kernel(&lab);
        KBuf *sum = lab_param(&lab, now, DT_F32, "a", false),
             *xs = lab_param(&lab, now, DT_I32, "x", false),
             *ys = lab_param(&lab, now, DT_I32, "y", false),
             *to = lab_param(&lab, now, DT_F32, "to", true);
        KCtx *k = lab.m.k;
        const KExpr *i = lab_lanes(&lab, some[w]);
        kb_store(&lab.b, to, i,
                 k_ternary(k, KO_dot2_bf, k_load(k, sum, i), k_load(k, xs, i), k_load(k, ys, i)));
        lab_end_lanes(&lab);
        kn[w] = now;
    }
    lab_link(&lab, t, opt);
    fill_bfloats(x, 1), fill_bfloats(y, 2);
    for (int i = 0; i < N; i++) a[i] = (float)(i - N / 2) / 7;
    for (int w = 0; w < N_SOME; w++) {
        void (*run)(float *, int32_t *, int32_t *, float *);
        *(void **)&run = codegen_jit_kernel(lab.jit, kn[w]);
        run(a, x, y, out);
        for (int i = 0; i < N; i++) {
            uint32_t p = (uint32_t)x[i], q = (uint32_t)y[i];
            float want = fmaf(high_bfloat(p), high_bfloat(q), a[i]);
            CHECK(out[i] == fmaf(high_bfloat(p << 16), high_bfloat(q << 16), want));
        }
    }
    codegen_jit_destroy(lab.jit);
}

static void test_roots(const Target *t, int opt) {
    static const int some[] = {1, 4, 8, 16, 32, 48, 6};
    enum { N_SOME = sizeof some / sizeof some[0] };
    static _Alignas(64) int32_t a[N], out[N];
    Lab lab;
    const Kernel *kn[N_SOME];
    lab_open(&lab);
    for (int w = 0; w < N_SOME; w++) {
        Kernel *now = lab_kernel(&lab);
        KBuf *from = lab_param(&lab, now, DT_I32, "a", false),
             *to = lab_param(&lab, now, DT_I32, "to", true);
        const KExpr *i = lab_lanes(&lab, some[w]);
        kb_store(&lab.b, to, i, k_root16(lab.m.k, k_load(lab.m.k, from, i)));
        lab_end_lanes(&lab);
        kn[w] = now;
    }
    lab_link(&lab, t, opt);
    for (int i = 0; i < N; i++) a[i] = (i - N / 2) * 7;
    for (int w = 0; w < N_SOME; w++) {
        void (*run)(int32_t *, int32_t *);
        *(void **)&run = codegen_jit_kernel(lab.jit, kn[w]);
        run(a, out);
        for (int i = 0; i < N; i++) {
            float root = (float)(exp2((double)(a[i] & 15) / 16) / ROOT16_UNIT);
            int32_t want;
            memcpy(&want, &root, sizeof root);
            CHECK(out[i] == want - ((a[i] & 15) << 19));
        }
    }
    codegen_jit_destroy(lab.jit);
}

static void test_three(const Target *t, int opt) {
    static const int some[] = {1, 4, 8, 16, 32, 48, 6};
    enum { N_SOME = sizeof some / sizeof some[0] };
    static _Alignas(64) float fa[N], fb[N], fc[N], fo[N], so[N];
    static const KOp dots[3] = {KO_dot4_us, KO_dot4_ss, KO_dot2_ss};
    static _Alignas(64) int32_t ia[N], ib[N], ic[N], io[3][N];
    Lab lab;
    const Kernel *kn[N_SOME];
    lab_open(&lab);
    KCtx *k = lab.m.k;
    for (int w = 0; w < N_SOME; w++) {
        Kernel *now = lab_kernel(&lab);
        KBuf *a = lab_param(&lab, now, DT_F32, "a", false),
             *b = lab_param(&lab, now, DT_F32, "b", false);
        KBuf *c = lab_param(&lab, now, DT_F32, "c", false),
             *o = lab_param(&lab, now, DT_F32, "o", true);
        KBuf *s = lab_param(&lab, now, DT_F32, "s", true);
        KBuf *x = lab_param(&lab, now, DT_I32, "x", false),
             *y = lab_param(&lab, now, DT_I32, "y", false);
        KBuf *z = lab_param(&lab, now, DT_I32, "z", false),
             *d[3] = {lab_param(&lab, now, DT_I32, "us", true),
                      lab_param(&lab, now, DT_I32, "ss", true),
                      lab_param(&lab, now, DT_I32, "two", true)};
        const KExpr *i = lab_lanes(&lab, some[w]);
        kb_store(&lab.b, o, i, k_fma(k, k_load(k, a, i), k_load(k, b, i), k_load(k, c, i)));
        const KExpr *less = k_lt(k, k_load(k, a, i), k_load(k, b, i));
        kb_store(&lab.b, s, i, k_select(k, less, k_load(k, b, i), k_load(k, c, i)));
        for (int j = 0; j < 3; j++)
            kb_store(&lab.b, d[j], i,
                     k_ternary(k, dots[j], k_load(k, x, i), k_load(k, y, i), k_load(k, z, i)));
        lab_end_lanes(&lab);
        kn[w] = now;
    }
    lab_link(&lab, t, opt);
    for (int w = 0; w < N_SOME; w++) {
        void (*run)(float *, float *, float *, float *, float *, int32_t *, int32_t *, int32_t *,
                    int32_t *, int32_t *, int32_t *);
        *(void **)&run = codegen_jit_kernel(lab.jit, kn[w]);
        fill(DT_F32, fa, 0), fill(DT_F32, fb, 1), fill(DT_F32, fc, 2);
        for (int i = 48; i < N; i++)
            fc[i] = -fa[i] * fb[i]; /* cancellation: what rounding once is for */
        fill(DT_I32, ia, 0), fill(DT_I32, ib, 1), fill(DT_I32, ic, 2);
        run(fa, fb, fc, fo, so, ia, ib, ic, io[0], io[1], io[2]);
        for (int i = 0; i < N; i++) {
            float want = fmaf(fa[i], fb[i], fc[i]), pick = fa[i] < fb[i] ? fb[i] : fc[i];
            CHECK((isnan(want) && isnan(fo[i])) || want == fo[i]);
            CHECK((isnan(pick) && isnan(so[i])) || pick == so[i]);
            for (int j = 0; j < 3; j++)
                CHECK(io[j][i] == expect_dot(dots[j], ia[i], (uint32_t)ib[i], (uint32_t)ic[i]));
        }
    }
    codegen_jit_destroy(lab.jit);
}

/* Division of an index, known to be below 2^31, by constants; the last index is close to 2^31. */
static void test_divide(const Target *t, int opt) {
    static const int64_t by[] = {1, 2, 3, 5, 7, 10, 64, 641, 65537, 1000003, 1 << 30, INT32_MAX};
    enum { N_BY = sizeof by / sizeof by[0], STEP = 22369621 };
    static _Alignas(64) int64_t quotient[N], rest[N];
    Lab lab;
    const Kernel *kn[N_BY];
    lab_open(&lab);
    KCtx *k = lab.m.k;
    for (int j = 0; j < N_BY; j++) {
        Kernel *now = lab_kernel(&lab);
        KBuf *q = lab_param(&lab, now, DT_I64, "q", true);
        KBuf *r = lab_param(&lab, now, DT_I64, "r", true);
        const KExpr *i = lab_lanes(&lab, j % 2 ? 1 : 8);
        const KExpr *n = k_mul(k, i, k_int(k, STEP)), *d = k_int(k, by[j]);
        kb_store(&lab.b, q, i, k_binary(k, KO_fdiv, n, d));
        kb_store(&lab.b, r, i, k_binary(k, KO_fmod, n, d));
        lab_end_lanes(&lab);
        kn[j] = now;
    }
    lab_link(&lab, t, opt);
    for (int j = 0; j < N_BY; j++) {
        void (*run)(int64_t *, int64_t *);
        *(void **)&run = codegen_jit_kernel(lab.jit, kn[j]);
        run(quotient, rest);
        for (int64_t i = 0; i < N; i++) {
            CHECK(quotient[i] == i * STEP / by[j]);
            CHECK(rest[i] == i * STEP % by[j]);
        }
    }
    codegen_jit_destroy(lab.jit);
}

/* ---- main ------------------------------------------------------------------------------------ */

int main(void) {
    static const struct {
        const char *cpu, *features;
    } machines[] = {{"native", NULL}, {"x86-64", ""}, {"x86-64-v3", ""}, {"haswell", "-fma,-avx2"}};
    arena = arena_create();
    diag = diag_create();
    const Target *host = codegen_target(arena, NULL, NULL, NULL, diag);
    CHECK(host != NULL);
    for (int i = 0; i < (int)(sizeof machines / sizeof machines[0]); i++) {
        const Target *t = codegen_target(arena, NULL, machines[i].cpu, machines[i].features, diag);
        bool runs_here =
            t &&
            (i == 0 || (!strcmp(host->arch, "x86_64") && (i == 1 || target_has(host, "avx2"))));
        if (!runs_here) continue;
        for (int opt = 0; opt <= 3; opt += 3) {
            const char *where = arena_printf(arena, "%s -O%d", machines[i].cpu, opt);
            test_arith(t, opt, where);
            test_casts(t, opt, where);
            test_three(t, opt);
            test_roots(t, opt);
            test_bfloats(t, opt);
        }
    }
    /* What is written out for 32-bit Arm, run here: the triple stays this machine's. */
    Target narrow = *host;
    narrow.arch = "arm", narrow.pointer_bytes = 4;
    for (int opt = 0; opt <= 3; opt += 3) {
        test_arith(&narrow, opt, "narrow");
        test_casts(&narrow, opt, "narrow");
        test_divide(&narrow, opt);
        test_divide(host, opt);
    }
    if (diag_n_errors(diag)) diag_print(diag);
    CHECK(!diag_n_errors(diag));
    return check_done();
}
