/* Every float of 32, and of 16 bits, through every expanded function of one operand, compiled from
 * generated C: the largest error in ULP, as the rows of the table in docs/math.md. Half an hour on
 * two cores.
 *
 *   ulp_sweep [FUNCTION|all] [stride] [first last]    needs a C compiler called cc
 *
 * The variants for different units (ulp.h) run side by side, over every stride-th float; first and
 * last are bit patterns in hex: 3f800000 40000000 is 1 to 2. Writes sweep_*.c and .so to the
 * current folder.
 *
 * Ends with 1 if a bound of tests/unit/ulp.h does not hold, or if a 16-bit result is off by more
 * than the rounding of an f32 result within its bound: 0.501. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/c/c.h"
#include "tests/unit/check.h"
#include "tests/unit/ulp.h"

enum { BATCH = 1 << 14 };
typedef void Kernel1(const void *x, void *y);

static const double NARROW_BOUND = 0.501;

typedef struct Worst {
    double error;
    float where;
} Worst;

static void note(Worst *w, double error, float where) {
    if (error <= w->error) return;
    w->error = error;
    w->where = where;
}

static Kernel1 *compile(Arena *a, KOp op, DType t, int u) {
    Kernel *kn = ulp_kernel(kctx_create(a), op, t, BATCH, ulp_units[u]);
    KModule m = {.k = kctx_create(a), .arena = a, .name = "sweep", .kernels = &kn, .n_kernels = 1};
    StrBuf text = {0};
    codegen_c_kernels(&m, &text);
    const char *base =
        arena_printf(a, "./sweep_%s_%s_%d", kop_info[op].name, dtype_info[t].name, u);
    FILE *f = fopen(arena_printf(a, "%s.c", base), "w");
    if (!f) return NULL;
    fputs(strbuf_text(&text), f);
    fclose(f);
    strbuf_free(&text);
    const char *flags =
        "-std=c99 -O2 -march=native -ffp-contract=off -fno-math-errno -shared -fPIC";
    if (system(arena_printf(a, "cc %s -o %s.so %s.c -lm", flags, base, base))) return NULL;
    void *so = dlopen(arena_printf(a, "%s.so", base), RTLD_NOW);
    Kernel1 *fn = NULL;
    if (so) *(void **)&fn = dlsym(so, kn->name);
    return fn;
}

static bool compile_all(Arena *a, KOp op, DType t, Kernel1 *fn[N_ULP_UNITS]) {
    bool all = true;
    for (int u = 0; u < N_ULP_UNITS; u++) all &= (fn[u] = compile(a, op, t, u)) != NULL;
    return all;
}

/* ---- 32 bits --------------------------------------------------------------------------------- */

/* worst[units] over the floats with the bit patterns first, first + stride, ... last. */
static bool sweep(const UlpRow *row, uint64_t stride, uint64_t first, uint64_t last,
                  Worst worst[N_ULP_UNITS]) {
    static float x[BATCH], y[N_ULP_UNITS][BATCH];
    Arena *a = arena_create();
    Kernel1 *fn[N_ULP_UNITS];
    bool ran = compile_all(a, row->op, DT_F32, fn);
    for (uint64_t bits = first; ran && bits <= last;) {
        int n = 0;
        for (; n < BATCH && bits <= last; n++, bits += stride) x[n] = float_of_bits((uint32_t)bits);
        for (int v = 0; v < N_ULP_UNITS; v++) fn[v](x, y[v]);
        for (int i = 0; i < n; i++) {
            if (!ulp_counts(row, x[i])) continue;
            double ref = row->ref(x[i]);
            for (int v = 0; v < N_ULP_UNITS; v++)
                if (y[v][i] != (float)ref || ref == 0)
                    note(&worst[v], ulp_error(y[v][i], ref), x[i]);
        }
    }
    arena_destroy(a);
    return ran;
}

/* ---- 16 bits --------------------------------------------------------------------------------- */

/* The value of a 16-bit pattern; both formats are a sign, n_exp bits of exponent, and the fraction.
 */
static double narrow_value(uint16_t bits, int n_exp) {
    int n_frac = 15 - n_exp, bias = (1 << (n_exp - 1)) - 1;
    int exponent = bits >> n_frac & ((1 << n_exp) - 1), fraction = bits & ((1 << n_frac) - 1);
    double sign = bits >> 15 ? -1 : 1;
    if (exponent == (1 << n_exp) - 1) return fraction ? (double)NAN : sign * (double)INFINITY;
    if (!exponent) return sign * ldexp(fraction, 1 - bias - n_frac);
    return sign * ldexp((1 << n_frac) + fraction, exponent - bias - n_frac);
}

static double narrow_error(double got, double ref, int n_exp) {
    int n_frac = 15 - n_exp, bias = (1 << (n_exp - 1)) - 1;
    if (isnan(got) || isnan(ref)) return isnan(got) == isnan(ref) ? 0 : (double)INFINITY;
    if (got == ref) return 0;
    /* beyond the largest number by half a unit, infinity is right */
    double unit_of_most = ldexp(1, bias - n_frac), most = ldexp(2, bias) - unit_of_most;
    if (isinf(got)) return fabs(ref) >= most + 0.499 * unit_of_most ? 0.5 : (double)INFINITY;
    int e = ref == 0 || ilogb(ref) < 1 - bias ? 1 - bias : ilogb(ref);
    return fabs(got - ref) / ldexp(1, e - n_frac);
}

static bool sweep_narrow(const UlpRow *row, DType t, Worst worst[N_ULP_UNITS]) {
    static uint16_t x[BATCH], y[N_ULP_UNITS][BATCH];
    int n_exp = t == DT_F16 ? 5 : 8;
    Arena *a = arena_create();
    Kernel1 *fn[N_ULP_UNITS];
    bool ran = compile_all(a, row->op, t, fn);
    for (uint32_t bits = 0; ran && bits < 1 << 16; bits += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++) x[i] = (uint16_t)(bits + i);
        for (int v = 0; v < N_ULP_UNITS; v++) fn[v](x, y[v]);
        for (int i = 0; i < BATCH; i++) {
            double in = narrow_value(x[i], n_exp), ref = row->ref(in);
            if (!ulp_counts(row, in)) continue;
            for (int v = 0; v < N_ULP_UNITS; v++)
                note(&worst[v], narrow_error(narrow_value(y[v][i], n_exp), ref, n_exp), (float)in);
        }
    }
    arena_destroy(a);
    return ran;
}

static const Worst *largest(const Worst w[N_ULP_UNITS]) {
    const Worst *most = w;
    for (int v = 1; v < N_ULP_UNITS; v++)
        if (w[v].error > most->error) most = &w[v];
    return most;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "all";
    uint64_t stride = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    uint64_t first = argc > 4 ? strtoull(argv[3], NULL, 16) : 0,
             last = argc > 4 ? strtoull(argv[4], NULL, 16) : UINT32_MAX;
    for (int i = 0; i < N_ULP_ROWS; i++) {
        const UlpRow *row = &ulp_rows[i];
        if (strcmp(name, "all") && strcmp(name, kop_info[row->op].name)) continue;
        Worst f32[N_ULP_UNITS] = {{0}}, f16[N_ULP_UNITS] = {{0}}, bf16[N_ULP_UNITS] = {{0}};
        bool ran = sweep(row, stride, first, last, f32) && sweep_narrow(row, DT_F16, f16) &&
                   sweep_narrow(row, DT_BF16, bf16);
        printf("| %s | %g | %.3f at %a | %.3f at %a | %.3f at %a | %.4f | %.4f |\n", kop_info[row->op].name,
               row->bound, f32[N_ULP_UNITS - 1].error,
               (double)f32[N_ULP_UNITS - 1].where, f32[1].error,
               (double)f32[1].where, f32[0].error, (double)f32[0].where,
               largest(f16)->error, largest(bf16)->error);
        fflush(stdout);
        CHECK(ran && largest(f32)->error <= row->bound && largest(f16)->error <= NARROW_BOUND &&
              largest(bf16)->error <= NARROW_BOUND);
    }
    return check_done();
}
