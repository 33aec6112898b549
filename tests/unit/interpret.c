/* Guards the interpreter: each primitive at its edges against C written here from kops.def,
 * statements, hoisting, bounds, and whole programs. The fuzzed comparison with the renderers is in
 * their tests. */
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ir/interpret.h"
#include "ir/root16.h"
#include "tests/unit/check.h"
#include "tests/unit/op_kernels.h"
#include "tests/unit/samples.h"

/* ---- integers, in 128 bits ------------------------------------------------------------------- */

/* Quotients by sign and magnitude, so that nothing here is what the interpreter does. */
static int64_t quotient(DType t, int64_t a, int64_t b, bool floored, bool want_rest) {
    if (b == 0) return 0;
    bool wide = t == DT_U64, na = !wide && a < 0, nb = !wide && b < 0;
    uint64_t ua = na ? 0 - (uint64_t)a : (uint64_t)a, ub = nb ? 0 - (uint64_t)b : (uint64_t)b;
    uint64_t q = ua / ub, r = ua % ub;
    if (floored && na != nb && r) q++, r = ub - r, na = nb;
    if (want_rest) return wrap(t, na ? 0 - r : r);
    bool minus = floored ? (!wide && ((a < 0) != (b < 0))) : na != nb;
    return wrap(t, minus ? 0 - q : q);
}

static int64_t expect_int(KOp op, DType t, int64_t a, int64_t b, int64_t c) {
    bool is_unsigned = dtype_info[t].kind != DK_SINT;
    bool less = is_unsigned ? (uint64_t)a < (uint64_t)b : a < b;
    int bits = t == DT_BOOL ? 1 : dtype_info[t].bits;
    uint64_t n = (uint64_t)b;
    switch ((int)op) {
    case KO_add: return wrap(t, (uint64_t)a + (uint64_t)b);
    case KO_sub: return wrap(t, (uint64_t)a - (uint64_t)b);
    case KO_mul: return wrap(t, (uint64_t)a * (uint64_t)b);
    case KO_div: return quotient(t, a, b, false, false);
    case KO_rem: return quotient(t, a, b, false, true);
    case KO_fdiv: return quotient(t, a, b, true, false);
    case KO_fmod: return quotient(t, a, b, true, true);
    case KO_min: return less ? a : b;
    case KO_max: return less ? b : a;
    case KO_neg: return wrap(t, 0 - (uint64_t)a);
    case KO_abs: return !is_unsigned && a < 0 ? wrap(t, 0 - (uint64_t)a) : a;
    case KO_and: return a & b;
    case KO_or: return a | b;
    case KO_xor: return a ^ b;
    case KO_not: return wrap(t, ~(uint64_t)a);
    case KO_shl: return n >= (uint64_t)bits ? 0 : wrap(t, (uint64_t)a << n);
    case KO_shr:
        if (n >= (uint64_t)bits) return !is_unsigned && a < 0 ? -1 : 0;
        return is_unsigned ? (int64_t)((uint64_t)a >> n)
                           : (a < 0 ? ~(int64_t)(~(uint64_t)a >> n) : a >> n);
    case KO_eq: return a == b;
    case KO_ne: return a != b;
    case KO_lt: return less;
    case KO_le: return less || a == b;
    case KO_root16: {
        float root = (float)(exp2((double)(a & 15) / 16) / ROOT16_UNIT);
        int32_t bits_of_root;
        memcpy(&bits_of_root, &root, sizeof root);
        return bits_of_root - (int32_t)((a & 15) << 19);
    }
    case KO_dot4_us:
    case KO_dot4_ss: {
        uint64_t sum = (uint64_t)a;
        for (int i = 0; i < 4; i++) {
            int64_t byte = (int64_t)((uint64_t)b >> 8 * i & 255);
            if (op == KO_dot4_ss && byte > 127) byte -= 256;
            sum += (uint64_t)(byte * (int8_t)(uint8_t)((uint64_t)c >> 8 * i));
        }
        return wrap(DT_I32, sum);
    }
    case KO_dot2_ss: {
        uint64_t sum = (uint64_t)a;
        for (int i = 0; i < 2; i++)
            sum += (uint64_t)((int64_t)(int16_t)(uint16_t)((uint64_t)b >> 16 * i) *
                              (int16_t)(uint16_t)((uint64_t)c >> 16 * i));
        return wrap(DT_I32, sum);
    }
    default: return 0;
    }
}

/* ---- floats ---------------------------------------------------------------------------------- */

static double times_power(DType t, double a, double n) {
    return t == DT_F32 ? (double)scalbnf((float)a, (int)n) : scalbn(a, (int)n);
}

/* Half of a float's bits as a bf16. */
static float half_of(double v, bool is_high) {
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return float_from_bfloat((uint16_t)(is_high ? bits >> 16 : bits & 0xffff));
}

/* f64 arithmetic then one rounding: innocuous for + - * / sqrt of floats of half the precision. */
static double expect_float(KOp op, DType t, double a, double b, double c) {
    switch ((int)op) {
    case KO_add: return round_float(t, a + b);
    case KO_sub: return round_float(t, a - b);
    case KO_mul: return round_float(t, a * b);
    case KO_div: return round_float(t, a / b);
    case KO_rem: return round_float(t, fmod(a, b));
    case KO_min: return a < b ? a : b;
    case KO_max: return a > b ? a : b;
    case KO_neg: return -a;
    case KO_abs: return fabs(a);
    case KO_fma:
        return round_float(t,
                           t == DT_F64 ? fma(a, b, c) : (double)fmaf((float)a, (float)b, (float)c));
    case KO_dot2_bf: {
        float sum = fmaf(half_of(b, true), half_of(c, true), (float)a);
        return fmaf(half_of(b, false), half_of(c, false), sum);
    }
    case KO_sqrt: return round_float(t, sqrt(a));
    case KO_ldexp: return b != b ? b : times_power(t, a, fmax(-9999, fmin(9999, floor(b))));
    case KO_floor: return floor(a);
    case KO_ceil: return ceil(a);
    case KO_trunc: return trunc(a);
    case KO_rint: return rint(a);
    case KO_eq: return a == b;
    case KO_ne: return a != b;
    case KO_lt: return a < b;
    case KO_le: return a <= b;
    default: return 0;
    }
}

static int64_t saturate(DType t, double v) {
    bool is_unsigned = dtype_info[t].kind == DK_UINT;
    int bits = dtype_info[t].bits - !is_unsigned;
    double top = ldexp(1, bits);
    if (v != v) return 0;
    if (v >= top) return bits == 64 ? -1 : bits == 63 ? INT64_MAX : (INT64_C(1) << bits) - 1;
    if (is_unsigned) return v <= 0 ? 0 : (int64_t)(uint64_t)v;
    return v <= -top ? (bits == 63 ? INT64_MIN : -(INT64_C(1) << bits)) : (int64_t)v;
}

static bool same_double(double a, double b) {
    return (a != a && b != b) || (a == b && signbit(a) == signbit(b));
}

static bool holds(const OpKernel *o, Val a, Val b, Val c, Val r) {
    bool f_to = dtype_is_float(o->to), f_from = dtype_is_float(o->from), wide = o->from == DT_U64;
    double as_double = f_from ? a.f : wide ? (double)(uint64_t)a.i : (double)a.i;
    if (o->op == KO_select)
        return f_to ? same_double(r.f, a.i ? b.f : c.f) : r.i == (a.i ? b.i : c.i);
    if (o->op == KO_bitcast || o->op == KO_load) return true; /* below */
    if (o->op == KO_cast) {
        if (f_to && (o->to == DT_F32 || o->to == DT_F64) && !f_from)
            return same_double(r.f, o->to == DT_F64 ? as_double
                                    : wide          ? (double)(float)(uint64_t)a.i
                                                    : (double)(float)a.i);
        if (f_to) return same_double(r.f, round_float(o->to, as_double));
        if (o->to == DT_BOOL) return r.i == (f_from ? a.f != 0 : a.i != 0);
        return r.i == (f_from ? saturate(o->to, a.f) : wrap(o->to, (uint64_t)a.i));
    }
    if (!f_from) return r.i == expect_int(o->op, o->from, a.i, b.i, c.i);
    if (!f_to) return r.i == (int64_t)expect_float(o->op, o->from, a.f, b.f, c.f);
    return same_double(r.f, expect_float(o->op, o->from, a.f, b.f, c.f));
}

static void test_ops(void) {
    static char x[OP_N * 8], y[OP_N * 8], z[OP_N * 8], r[OP_N * 8];
    static OpKernels ops;
    Arena *a = arena_create();
    op_add_all(&ops, kctx_create(a));
    for (int n = 0; n < ops.n; n++) {
        const OpKernel *o = &ops.at[n];
        DType first = o->op == KO_select ? DT_BOOL : o->from;
        op_fill(first, 0, x);
        op_fill(o->from, 1, y);
        op_fill(o->from, 2, z);
        InterpretBuf bufs[4] = {{x, OP_N}, {y, OP_N}, {z, OP_N}, {r, OP_N}};
        interpret_kernel(o->kn, bufs, NULL);
        size_t bytes = (size_t)dtype_bytes(o->to);
        if (o->op == KO_load) { /* y shifted by 200, then zeros */
            CHECK(!memcmp(r, y + 200 * bytes, 200 * bytes));
            for (size_t i = 200 * bytes; i < OP_N * bytes; i++) CHECK(r[i] == 0);
            continue;
        }
        for (int i = 0; i < OP_N; i++) {
            bool good = holds(o, read_element(first, x, i), read_element(o->from, y, i),
                              read_element(o->from, z, i), read_element(o->to, r, i));
            if (o->op == KO_bitcast) {
                bool nan = dtype_is_float(o->from) &&
                           read_element(o->from, x, i).f != read_element(o->from, x, i).f;
                good = nan || op_same(o->to, x, r, i);
            }
            if (CHECK(good)) continue;
            fprintf(stderr, "  %s, element %d\n", o->kn->name, i);
            break;
        }
    }
    arena_destroy(a);
}

/* Conversions to 16 bits round once: these would be wrong by way of f32. */
static void test_single_rounding(void) {
    Arena *a = arena_create();
    KCtx *k = kctx_create(a);
    static OpKernels ops;
    double just_above =
        1 + 0x1p-11 + 0x1p-40; /* f32 sees a tie between two f16, which goes to even: 1 */
    int64_t big = (INT64_C(0x101) << 54) + 1; /* the same for bf16 */
    static double x[OP_N];
    static int64_t xi[OP_N];
    static uint16_t r[OP_N];
    x[0] = just_above;
    xi[0] = big;
    op_add_kernel(&ops, k, KO_cast, DT_F64, DT_F16);
    op_add_kernel(&ops, k, KO_cast, DT_I64, DT_BF16);
    InterpretBuf bufs[4] = {{x, OP_N}, {x, OP_N}, {x, OP_N}, {r, OP_N}};
    interpret_kernel(ops.at[0].kn, bufs, NULL);
    CHECK(r[0] == 0x3c01);
    bufs[0].data = bufs[1].data = bufs[2].data = xi;
    interpret_kernel(ops.at[1].kn, bufs, NULL);
    CHECK(r[0] == 0x5e81);
    arena_destroy(a);
}

/* ---- statements ------------------------------------------------------------------------------ */

static Kernel *new_kernel(KCtx *k, const char *name, int n, DType t, int64_t elems) {
    static const char *const names[] = {"a", "b", "c"};
    Arena *a = kctx_arena(k);
    Kernel *kn = arena_new(a, Kernel);
    kn->name = name;
    kn->params = arena_array(a, KBuf *, n);
    for (int i = 0; i < n; i++) {
        kn->params[i] = kbuf_new(k, MEM_PARAM, t, names[i], k_int(k, elems));
        kn->params[i]->written = i == n - 1;
    }
    kn->n_params = (uint32_t)n;
    return kn;
}

/* What is hoisted must still see each store: a[0] changes between the two loads of one expression.
 */
static void test_memory_order(void) {
    Arena *arena = arena_create();
    KCtx *k = kctx_create(arena);
    Kernel *kn = new_kernel(k, "order", 2, DT_I32, 8);
    KBuild b;
    kb_begin(&b, k, &kn->body);
    const KExpr *zero = k_int(k, 0), *one = k_const_i(k, DT_I32, 1),
                *load = k_load(k, kn->params[0], zero);
    const KExpr *i = kb_for(&b, LOOP_SERIAL, "i", k_int(k, 4));
    kb_store(&b, kn->params[1], i, load);
    const KExpr *kept = kb_let(&b, "kept", load);
    kb_store(&b, kn->params[0], zero, k_add(k, load, one));
    kb_if(&b, k_eq(k, k_fmod(k, i, k_int(k, 2)), zero));
    kb_store(&b, kn->params[0], zero, k_add(k, k_load(k, kn->params[0], zero), kept));
    kb_else(&b);
    kb_while(&b, k_lt(k, load, k_const_i(k, DT_I32, 20)));
    kb_store(&b, kn->params[0], zero, k_add(k, load, load));
    kb_end(&b);
    kb_end(&b);
    kb_store(&b, kn->params[1], k_add(k, i, k_int(k, 4)), load);
    kb_end(&b);
    int32_t x[8] = {3}, r[8] = {0};
    InterpretBuf bufs[2] = {{x, 8}, {r, 8}};
    interpret_kernel(kn, bufs, NULL);
    int32_t v = 3;
    for (int n = 0; n < 4; n++) {
        int32_t old = v;
        CHECK(r[n] == v);
        v = v + 1;
        if (n % 2 == 0)
            v += old;
        else
            while (v < 20) v += v;
        CHECK(r[n + 4] == v);
    }
    arena_destroy(arena);
}

static void test_empty_loops(void) {
    Arena *arena = arena_create();
    KCtx *k = kctx_create(arena);
    Kernel *kn = new_kernel(k, "empty", 1, DT_I32, 4);
    kn->scalars = arena_array(arena, KVar *, 1);
    kn->scalars[kn->n_scalars++] = kvar_new(k, KV_SYMBOL, DT_I64, "n", -10, 10);
    KBuild b;
    kb_begin(&b, k, &kn->body);
    kb_for(&b, LOOP_PARALLEL, "i", k_var(k, kn->scalars[0]));
    kb_store(&b, kn->params[0], k_int(k, 0),
             k_add(k, k_load(k, kn->params[0], k_int(k, 0)), k_const_i(k, DT_I32, 1)));
    kb_end(&b);
    int32_t r[4] = {0};
    InterpretBuf buf = {r, 4};
    interpret_kernel(kn, &buf, (int64_t[]){0});
    interpret_kernel(kn, &buf, (int64_t[]){-3});
    CHECK(r[0] == 0);
    interpret_kernel(kn, &buf, (int64_t[]){7});
    CHECK(r[0] == 7);
    const KExpr *n = k_var(k, kn->scalars[0]);
    CHECK(interpret_index(k_add(k, k_mul(k, n, n), k_int(k, 1)), kn->scalars, (int64_t[]){-3}, 1) ==
          10);
    arena_destroy(arena);
}

/* An access outside ends the process with kernel, buffer and index in the message. */
static void test_bounds(void) {
    for (int c = 0; c < 3; c++) {
        int out[2];
        if (!CHECK(pipe(out) == 0)) return;
        pid_t child = fork();
        if (child == 0) {
            dup2(out[1], 2);
            close(out[0]);
            Arena *arena = arena_create();
            KCtx *k = kctx_create(arena);
            Kernel *kn = new_kernel(k, "careless", 2, DT_F32, 4);
            KBuild b;
            kb_begin(&b, k, &kn->body);
            const KExpr *i = kb_for(&b, LOOP_SERIAL, "i", k_int(k, 5)),
                        *at = c == 1 ? k_sub(k, i, k_int(k, 1)) : i;
            kb_store(&b, kn->params[1], c == 2 ? i : k_int(k, 0),
                     c == 2 ? k_const(k, DT_F32, 1) : k_load(k, kn->params[0], at));
            kb_end(&b);
            float x[8] = {0}, r[8];
            InterpretBuf bufs[2] = {{x, 4}, {r, 4}};
            interpret_kernel(kn, bufs, NULL);
            _exit(0);
        }
        close(out[1]);
        char text[2000] = "";
        size_t n = 0;
        for (ssize_t got;
             n < sizeof text - 1 && (got = read(out[0], text + n, sizeof text - 1 - n)) > 0;)
            n += (size_t)got;
        close(out[0]);
        int status = 0;
        waitpid(child, &status, 0);
        CHECK(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
        CHECK(strstr(text, c == 2 ? "kernel careless: store of b[4]"
                           : c    ? "load of a[-1]"
                                  : "load of a[4]") != NULL);
    }
}

/* ---- speed ----------------------------------------------------------------------------------- */

/* c[i, j] += a[i, k] b[k, j]: nanoseconds per multiply-add; argument: the size. */
static void time_matmul(int64_t n) {
    Arena *arena = arena_create();
    KCtx *k = kctx_create(arena);
    Kernel *kn = new_kernel(k, "matmul", 3, DT_F32, n * n);
    KBuild b;
    kb_begin(&b, k, &kn->body);
    const KExpr *size = k_int(k, n), *i = kb_for(&b, LOOP_SERIAL, "i", size),
                *j = kb_for(&b, LOOP_SERIAL, "j", size);
    KBuf *acc = kb_alloc(&b, MEM_REG, DT_F32, "acc", 1);
    kb_store(&b, acc, k_int(k, 0), k_const(k, DT_F32, 0));
    const KExpr *p = kb_for(&b, LOOP_SERIAL, "p", size);
    const KExpr *x = k_load(k, kn->params[0], k_add(k, k_mul(k, i, size), p));
    const KExpr *y = k_load(k, kn->params[1], k_add(k, k_mul(k, p, size), j));
    kb_store(&b, acc, k_int(k, 0), k_fma(k, x, y, k_load(k, acc, k_int(k, 0))));
    kb_end(&b);
    kb_store(&b, kn->params[2], k_add(k, k_mul(k, i, size), j), k_load(k, acc, k_int(k, 0)));
    kb_end(&b);
    kb_end(&b);
    float *m[3];
    InterpretBuf bufs[3];
    for (int t = 0; t < 3; t++) {
        m[t] = arena_array(arena, float, n *n);
        for (int64_t e = 0; e < n * n; e++) m[t][e] = (float)(e % 7) - 3;
        bufs[t] = (InterpretBuf){m[t], n * n};
    }
    clock_t start = clock();
    interpret_kernel(kn, bufs, NULL);
    double ns = (double)(clock() - start) * 1e9 / CLOCKS_PER_SEC / (double)(n * n * n);
    float expected = 0;
    for (int64_t e = 0; e < n; e++) expected += m[0][(n - 1) * n + e] * m[1][e * n + n - 1];
    CHECK(m[2][n * n - 1] == expected);
    printf("interpreted matmul: %.2f ns for a multiply-add\n", ns);
    arena_destroy(arena);
}

int main(int argc, char **argv) {
    test_ops();
    test_single_rounding();
    test_memory_order();
    test_empty_loops();
    test_bounds();
    time_matmul(argc > 1 ? strtol(argv[1], NULL, 10) : 64);
    return check_done();
}
