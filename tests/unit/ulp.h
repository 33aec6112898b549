/* What the accuracy tests share: the functions with their references and bounds, and errors in ULP.
 *
 * References are libm's in the next wider format. An error is measured in units of the last place
 * of the reference, subnormal results in steps of the smallest subnormal. */
#ifndef SMELT_TESTS_UNIT_ULP_H
#define SMELT_TESTS_UNIT_ULP_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ir/kernel.h"
#include "ir/math.h"

static long double ref_sigmoid(long double x) {
    return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x));
}
static long double ref_rsigmoid(long double x) {
    return 1 + expl(-x);
}
static double ref_rsigmoid_d(double x) {
    return 1 + exp(-x);
}
static long double ref_softplus(long double x) {
    return (x > 0 ? x : 0) + log1pl(expl(-fabsl(x)));
}
static long double ref_gelu(long double x) {
    return 0.5L * x * erfcl(-x * 0.70710678118654752440L);
}
static long double ref_exp_neg(long double x) {
    return x < -0x1.6232bdd7abcd2p+9L ? 0 : expl(x);
}
static double ref_exp_neg_d(double x) {
    return x < -0x1.5d589ep+6 ? 0 : exp(x);
}
static long double ref_normal(long double x) {
    return 0.5L * erfcl(-x * 0.70710678118654752440L);
}
static double ref_normal_d(double x) {
    return 0.5 * erfc(-x * 0.70710678118654752440);
}
static double ref_sigmoid_d(double x) {
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double ref_softplus_d(double x) {
    return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
}
static double ref_gelu_d(double x) {
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}

typedef struct UlpRow {
    KOp op;
    double (*ref)(double);
    long double (*wide)(long double);
    double bound;     /* f32 */
    double bound_f64; /* f64 */
    double lowest;    /* errors are bounded for x above this, */
    double highest;   /* and up to this */
    double f64_range; /* |x| of the f64 sample; 0: all */
} UlpRow;

/* clang-format off */
static const UlpRow ulp_rows[] = {
    {KO_exp,      exp,            expl,         1.0, 2, -INFINITY, INFINITY, 0},
    {KO_exp_neg,  ref_exp_neg_d,  ref_exp_neg,  1.5, 2, -INFINITY, 0, 0},
    {KO_exp2,     exp2,           exp2l,        4.0, 2, -INFINITY, INFINITY, 0},
    {KO_log,      log,            logl,         1.0, 2, -INFINITY, INFINITY, 0},
    {KO_tanh,     tanh,           tanhl,        1.5, 3, -INFINITY, INFINITY, 0},
    {KO_sinh,     sinh,           sinhl,        4.0, 4, -INFINITY, INFINITY, 0},
    {KO_cosh,     cosh,           coshl,        4.0, 4, -INFINITY, INFINITY, 0},
    {KO_erf,      erf,            erfl,         1.0, 2, -INFINITY, INFINITY, 0},
    {KO_sigmoid,  ref_sigmoid_d,  ref_sigmoid,  2.0, 3, -INFINITY, INFINITY, 0},
    {KO_softplus, ref_softplus_d, ref_softplus, 2.0, 3, -INFINITY, INFINITY, 0},
    {KO_gelu,     ref_gelu_d,     ref_gelu,     4.0, 9, -13, INFINITY,       13},
    {KO_rsigmoid, ref_rsigmoid_d, ref_rsigmoid, 5.0, 2, -88, INFINITY,       708},
    {KO_normal,   ref_normal_d,   ref_normal,   2.0, 2, 0, INFINITY,         0},
    {KO_log1p,    log1p,          log1pl,       4.0, 2, -INFINITY, INFINITY, 0},
    {KO_expm1,    expm1,          expm1l,       4.0, 3, -INFINITY, INFINITY, 0},
    {KO_sin,      sin,            sinl,         1.5, 2, -INFINITY, INFINITY, 1e6},
    {KO_cos,      cos,            cosl,         1.5, 2, -INFINITY, INFINITY, 1e6},
    {KO_tan,      tan,            tanl,         4.0, 4, -INFINITY, INFINITY, 1e6},
    {KO_asin,     asin,           asinl,        4.0, 4, -INFINITY, INFINITY, 0},
    {KO_acos,     acos,           acosl,        4.0, 4, -INFINITY, INFINITY, 0},
    {KO_atan,     atan,           atanl,        1.5, 2, -INFINITY, INFINITY, 0},
    {KO_asinh,    asinh,          asinhl,       4.0, 4, -INFINITY, INFINITY, 0},
    {KO_acosh,    acosh,          acoshl,       4.0, 4, -INFINITY, INFINITY, 0},
    {KO_atanh,    atanh,          atanhl,       4.0, 4, -INFINITY, INFINITY, 0},
};
/* clang-format on */
enum { N_ULP_ROWS = sizeof ulp_rows / sizeof *ulp_rows };

static inline bool ulp_counts(const UlpRow *row, double x) {
    return !(x <= row->lowest) && !(x > row->highest);
}

static inline float float_of_bits(uint32_t b) {
    float f;
    memcpy(&f, &b, sizeof f);
    return f;
}

static inline double ulp_error(float got, double ref) {
    float near = (float)ref;
    if (near != near || got != got) return (near != near) == (got != got) ? 0 : INFINITY;
    if (got == near)
        return near != 0 || signbit(got) == signbit(near)
                   ? fabs(got - ref) > 0 && !isinf(near)
                         ? fabs((double)got - ref) /
                               ldexp(1, ilogb(ref) < -126 ? -149 : ilogb(ref) - 23)
                         : 0
                   : INFINITY;
    if (isinf(near) && fabsf(got) == FLT_MAX) return 1;
    if (isinf(got) && fabs(ref) > 0x1.fffffp127) return 1;
    if (isinf(got) || isinf(near)) return INFINITY;
    int e = ref == 0 || ilogb(ref) < -126 ? -126 : ilogb(ref);
    return fabs((double)got - ref) / ldexp(1, e - 23);
}

static inline double ulp_error_wide(double got, long double ref) {
    double near = (double)ref;
    if (near != near || got != got) return (near != near) == (got != got) ? 0 : INFINITY;
    if (isinf(near) || isinf(got))
        return near == got || fabsl(ref) > 0x1.ffffffffffffp1023L ? 0 : INFINITY;
    if (got == 0 && near == 0) return signbit(got) == signbit(near) ? 0 : INFINITY;
    int e = ref == 0 || ilogbl(ref) < -1022 ? -1022 : ilogbl(ref);
    return (double)(fabsl((long double)got - ref) / ldexpl(1, e - 52));
}

/* The units for which expansions differ, and their names. */
enum { N_ULP_UNITS = 4 };
static const MathUnits ulp_units[N_ULP_UNITS] = {
    {false, false, false}, {true, false, false}, {true, true, false}, {true, true, true}};
static const char *const ulp_unit_names[N_ULP_UNITS] = {"-", "fma", "ldexp", "roots"};

/* out[i] = op(in[i] (, in2[i])) for i in 0 .. n-1, expanded; parameters in, (in2,) out. f16 and
 * bf16 compute in f32 and are rounded once, as definitions have it. */
static inline Kernel *ulp_kernel(KCtx *k, KOp op, DType t, int64_t n, MathUnits units) {
    Arena *a = kctx_arena(k);
    Kernel *kn = arena_new(a, Kernel);
    int n_in = kop_info[op].n_args;
    kn->name = arena_printf(a, "m_%s_%s", kop_info[op].name, dtype_info[t].name);
    kn->params = arena_array(a, KBuf *, 3);
    kn->n_params = (uint32_t)n_in + 1;
    static const char *const names[] = {"x", "y", "z"};
    for (int i = 0; i <= n_in; i++) {
        kn->params[i] = kbuf_new(k, MEM_PARAM, t, names[i], k_int(k, n));
        kn->params[i]->noalias = true;
        kn->params[i]->index = (uint32_t)i;
        kn->params[i]->written = i == n_in;
    }
    KBuild b;
    kb_begin(&b, k, &kn->body);
    const KExpr *i = kb_for(&b, LOOP_VECTOR, "i", k_int(k, n));
    bool narrow = t == DT_F16 || t == DT_BF16;
    const KExpr *x = k_load(k, kn->params[0], i);
    if (narrow) x = k_cast(k, DT_F32, x);
    const KExpr *v =
        n_in == 2 ? k_binary(k, op, x, k_load(k, kn->params[1], i)) : k_unary(k, op, x);
    kb_store(&b, kn->params[n_in], i, narrow ? k_cast(k, t, v) : v);
    kb_end(&b);
    kblock_expand_math(k, &kn->body, units);
    return kn;
}

#endif
