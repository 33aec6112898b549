/* Every float through every expanded function of one operand, compiled from generated C: the
 * largest error in ULP and its place. Minutes per function.
 *
 *   ulp_sweep [FUNCTION|all] [fma|plain|both] [stride] [first last]    needs a C compiler called cc
 *
 * first and last are bit patterns in hex: 3f800000 40000000 is 1 to 2.
 *
 * Ends with 1 if a bound of tests/unit/ulp.h does not hold. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "codegen/c/c.h"
#include "tests/unit/check.h"
#include "tests/unit/ulp.h"

enum { BATCH = 1 << 14 };
typedef void Kernel1(const float *x, float *y);

static Kernel1 *compile(Arena *a, KOp op, bool fma) {
    Kernel *kn = ulp_kernel(kctx_create(a), op, DT_F32, BATCH, fma);
    KModule m = {.k = kctx_create(a), .arena = a, .name = "sweep", .kernels = &kn, .n_kernels = 1};
    StrBuf text = {0};
    codegen_c_kernels(&m, &text);
    const char *base = arena_printf(a, "./sweep_%s_%d", kop_info[op].name, fma);
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

static bool sweep(const UlpRow *row, bool fma, uint64_t stride, uint64_t bits, uint64_t last) {
    static float x[BATCH], y[BATCH];
    Arena *a = arena_create();
    Kernel1 *fn = compile(a, row->op, fma);
    double worst = 0;
    float where = 0;
    while (fn && bits <= last) {
        int n = 0;
        for (; n < BATCH && bits <= last; n++, bits += stride) x[n] = float_of_bits((uint32_t)bits);
        fn(x, y);
        for (int i = 0; i < n; i++) {
            if (x[i] <= row->lowest) continue;
            double e = ulp_error(y[i], row->ref(x[i]));
            if (e <= worst) continue;
            worst = e;
            where = x[i];
        }
    }
    printf("%-9s %-5s %.4f at %a\n", kop_info[row->op].name, fma ? "fma" : "plain", worst,
           (double)where);
    fflush(stdout);
    arena_destroy(a);
    return fn && worst <= row->bound;
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "all", *how = argc > 2 ? argv[2] : "both";
    uint64_t stride = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    uint64_t first = argc > 5 ? strtoull(argv[4], NULL, 16) : 0,
             last = argc > 5 ? strtoull(argv[5], NULL, 16) : UINT32_MAX;
    for (int i = 0; i < N_ULP_ROWS; i++) {
        if (strcmp(name, "all") && strcmp(name, kop_info[ulp_rows[i].op].name)) continue;
        if (strcmp(how, "fma")) CHECK(sweep(&ulp_rows[i], false, stride, first, last));
        if (strcmp(how, "plain")) CHECK(sweep(&ulp_rows[i], true, stride, first, last));
    }
    return check_done();
}
