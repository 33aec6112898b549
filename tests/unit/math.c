/* Guards the accuracy of the expanded transcendental functions: a sample of all floats through the
 * interpreter against libm in a wider format, special values included.
 * Arguments: the stride of the sample (default 6007), then -v to print the table of docs/math.md.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ir/interpret.h"
#include "tests/unit/check.h"
#include "tests/unit/ulp.h"

enum { BATCH = 4096 };

typedef struct Runner {
    Arena *a;
    InterpretCode *code;
} Runner;

static Runner runner(KOp op, DType t, MathUnits units) {
    Arena *a = arena_create();
    return (Runner){a, interpret_compile(a, ulp_kernel(kctx_create(a), op, t, BATCH, units))};
}

static void run_batch(const Runner *r, void *x, void *y, void *z) {
    InterpretBuf bufs[3] = {{x, BATCH}, {y, BATCH}, {z, BATCH}};
    interpret_run(r->code, bufs, NULL);
}

static double worst_f32(const UlpRow *row, MathUnits units, uint32_t stride, float *where) {
    static float x[BATCH], y[BATCH];
    Runner r = runner(row->op, DT_F32, units);
    double worst = 0;
    uint64_t bits = 0;
    while (bits <= UINT32_MAX) {
        int n = 0;
        for (; n < BATCH && bits <= UINT32_MAX; n++, bits += stride)
            x[n] = float_of_bits((uint32_t)bits);
        run_batch(&r, x, y, NULL);
        for (int i = 0; i < n; i++) {
            if (!ulp_counts(row, x[i])) continue;
            double e = ulp_error(y[i], row->ref(x[i]));
            if (e > worst) {
                worst = e;
                *where = x[i];
            }
        }
    }
    arena_destroy(r.a);
    return worst;
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t v = *state;
    return v ^ v >> 29;
}

static double worst_f64(const UlpRow *row, MathUnits units, int batches, double *where) {
    static double x[BATCH], y[BATCH];
    Runner r = runner(row->op, DT_F64, units);
    double worst = 0;
    uint64_t state = 7;
    for (int b = 0; b < batches; b++) {
        for (int i = 0; i < BATCH; i++) {
            uint64_t bits = next_random(&state);
            /* half of them with moderate exponents */
            if (i % 2)
                bits = (bits & UINT64_C(0x800fffffffffffff)) | (1023 - 30 + (bits >> 52) % 42)
                                                                   << 52;
            memcpy(&x[i], &bits, sizeof bits);
            if (row->f64_range > 0 && fabs(x[i]) > row->f64_range)
                x[i] = fmod(x[i], row->f64_range);
        }
        run_batch(&r, x, y, NULL);
        for (int i = 0; i < BATCH; i++) {
            if (!ulp_counts(row, x[i])) continue;
            double e = ulp_error_wide(y[i], row->wide(x[i]));
            if (e > worst) {
                worst = e;
                *where = x[i];
            }
        }
    }
    arena_destroy(r.a);
    return worst;
}

static const float edges[] = {0.0f,    -0.0f,       1.0f,       -1.0f,      0.5f,   -0.5f,
                              2.0f,    -2.0f,       INFINITY,   -INFINITY,  NAN,    3.0f,
                              -3.0f,   1e-45f,      -1e-45f,    1e38f,      -1e38f, 88.73f,
                              -103.9f, 89.4f,       1e-30f,     0x1p-126f,  4.0f,   -5.0f,
                              1e10f,   16777217.0f, 0.9999999f, 1.0000001f, 1.5f,   -1.5f};
enum { N_EDGES = sizeof edges / sizeof *edges };

static void check_edges(const UlpRow *row, MathUnits units) {
    static float x[BATCH], y[BATCH];
    static double dx[BATCH], dy[BATCH];
    Runner f = runner(row->op, DT_F32, units), d = runner(row->op, DT_F64, units);
    for (int i = 0; i < N_EDGES; i++) dx[i] = x[i] = edges[i];
    run_batch(&f, x, y, NULL);
    run_batch(&d, dx, dy, NULL);
    for (int i = 0; i < N_EDGES; i++) {
        if (!ulp_counts(row, x[i]) && (x[i] != -INFINITY || row->lowest == 0)) continue;
        if (!CHECK(ulp_error(y[i], row->ref(x[i])) <= row->bound))
            fprintf(stderr, "  %s(%a) = %a, not %a\n", kop_info[row->op].name, x[i], y[i],
                    row->ref(x[i]));
        if (row->f64_range > 0 && fabs(dx[i]) > row->f64_range && !isinf(dx[i])) continue;
        if (!CHECK(ulp_error_wide(dy[i], row->wide(dx[i])) <= row->bound_f64))
            fprintf(stderr, "  f64 %s(%a) = %a, not %a\n", kop_info[row->op].name, dx[i], dy[i],
                    (double)row->wide(dx[i]));
    }
    arena_destroy(f.a);
    arena_destroy(d.a);
}

/* Where rsigmoid becomes infinite no float may give anything else. */
static void check_rsigmoid_end(MathUnits units) {
    static float x[BATCH], y[BATCH];
    Runner r = runner(KO_rsigmoid, DT_F32, units);
    for (float from = -88; from > -89;) {
        for (int i = 0; i < BATCH; i++, from = nextafterf(from, -INFINITY)) x[i] = from;
        run_batch(&r, x, y, NULL);
        for (int i = 0; i < BATCH; i++) {
            double ref = 1 + exp(-(double)x[i]);
            if (CHECK(fabs(y[i] - ref) < 1e-6 * ref || (ref > 0x1p127 && isinf(y[i]) && y[i] > 0)))
                continue;
            fprintf(stderr, "  rsigmoid(%a) = %a, not %a\n", x[i], y[i], ref);
            break;
        }
    }
    arena_destroy(r.a);
}

/* All pairs of edges, and random pairs whose result is in range. */
static void check_pow(MathUnits units, const char *name, bool verbose) {
    static float x[BATCH], y[BATCH], z[BATCH];
    static double dx[BATCH], dy[BATCH], dz[BATCH];
    Runner f = runner(KO_pow, DT_F32, units), d = runner(KO_pow, DT_F64, units);
    double worst = 0, worst_wide = 0;
    uint64_t state = 11;
    for (int b = 0; b < 40; b++) {
        for (int i = 0; i < BATCH; i++) {
            uint64_t r = next_random(&state);
            x[i] = float_of_bits((uint32_t)r & 0x7fffffffu);
            y[i] = (float)((double)(r >> 32) / 0x1p31 - 1) * 150.0f /
                   (float)fmax(fabs(log2(x[i])), 1e-6);
            if (b % 4 == 0) y[i] = rintf(y[i]);
            if (b % 8 == 0) x[i] = -x[i];
            if (b == 0 && i < N_EDGES * N_EDGES) {
                x[i] = edges[i / N_EDGES];
                y[i] = edges[i % N_EDGES];
            }
            dx[i] = x[i];
            dy[i] = b > 0 ? y[i] * 7.1 : y[i];
        }
        run_batch(&f, x, y, z);
        run_batch(&d, dx, dy, dz);
        for (int i = 0; i < BATCH; i++) {
            double e = ulp_error(z[i], pow(x[i], y[i])),
                   ew = ulp_error_wide(dz[i], powl(dx[i], dy[i]));
            if (e > worst) worst = e;
            if (ew > worst_wide) worst_wide = ew;
            if (!(e <= 2) && check_failures < 20)
                fprintf(stderr, "  pow(%a, %a) = %a\n", x[i], y[i], z[i]);
            if (!(ew <= 2) && check_failures < 20)
                fprintf(stderr, "  f64 pow(%a, %a) = %a\n", dx[i], dy[i], dz[i]);
            if (!CHECK(e <= 2 && ew <= 2) && check_failures > 20) break;
        }
    }
    if (verbose) printf("%-9s %-4s %8.3f %10.3f\n", "pow", name, worst, worst_wide);
    arena_destroy(f.a);
    arena_destroy(d.a);
}

static void count_node(const KExpr *e, void *n) {
    if (kop_info[e->op].class != KC_LEAF && kop_info[e->op].class != KC_MEM && e->op != KO_bitcast)
        ++*(int *)n;
}

static int n_instructions(KOp op, MathUnits units) {
    Arena *a = arena_create();
    KCtx *k = kctx_create(a);
    int n = 0;
    k_visit(k, ulp_kernel(k, op, DT_F32, 1, units)->body.first->body.first->value, count_node, &n);
    arena_destroy(a);
    return n;
}

/* f16 and bf16 go through f32 and round once more. */
static void check_half(void) {
    static uint16_t x[BATCH], y[BATCH];
    Runner r = runner(KO_exp, DT_F16, ulp_units[1]);
    x[0] = 0x3c00; /* 1 */
    x[1] = 0xfc00; /* -inf */
    x[2] = 0x4c00; /* 16 */
    run_batch(&r, x, y, NULL);
    CHECK(y[0] == 0x4170 && y[1] == 0 && y[2] == 0x7c00);
    arena_destroy(r.a);
}

int main(int argc, char **argv) {
    uint32_t stride = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 6007;
    bool verbose = argc > 2;
    if (verbose) printf("%-9s %-4s %8s %10s %6s\n", "function", "", "f32 ulp", "f64 ulp", "ops");
    for (int u = 0; u < N_ULP_UNITS; u++) {
        const MathUnits units = ulp_units[u];
        const char *name = ulp_unit_names[u];
        for (int i = 0; i < N_ULP_ROWS; i++) {
            const UlpRow *row = &ulp_rows[i];
            if (argc > 3 && strcmp(argv[3], kop_info[row->op].name)) continue;
            float at = 0;
            double at_wide = 0;
            double worst = worst_f32(row, units, stride, &at),
                   wide = worst_f64(row, units, stride < 999 ? 300 : 10, &at_wide);
            if (verbose)
                printf("%-9s %-4s %8.3f %10.3f %6d   at %a, %a\n", kop_info[row->op].name,
                       name, worst, wide, n_instructions(row->op, units), at, at_wide);
            if (!CHECK(worst <= row->bound && wide <= row->bound_f64))
                fprintf(stderr, "  %s %s: %.3f at %a, f64 %.3f at %a\n", kop_info[row->op].name,
                        name, worst, at, wide, at_wide);
            check_edges(row, units);
        }
        check_rsigmoid_end(units);
        check_pow(units, name, verbose);
    }
    check_half();
    return check_done();
}
