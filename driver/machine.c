/* smelt bench --machine: the machine's peaks, measured by kernels of our own making.
 *
 * Each kernel is written as kernel IR, made by the same renderer as a model's, and so shows what
 * compiled code can reach here: chains of multiply-adds that keep every unit busy, and sums over
 * buffers that fill a level of the memory hierarchy. Each thread has a chain or buffer of its own.
 * Of several short runs the fastest counts, since a peak is what the others were kept from. */
#include "driver/machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ir/parse.h"
#include "smelt.h"

enum { MIN_RUNS = 5, MAX_RUNS = 200 };
#define PEAK_SECONDS 0.15

static const struct {
    const char *json, *title, *unit;
} peak_info[] = {
#define PEAK(field, json, title, unit) {json, title, unit},
    MACHINE_PEAKS
#undef PEAK
};

/* What a kernel needs to be called with and judged by. */
typedef struct Probe {
    const char *text;   /* kernel IR */
    uint64_t in_bytes;  /* of its input */
    uint64_t out_bytes; /* of its output */
    double work;        /* operations or bytes of one run */
    bool ones;          /* the input is full of 1.0: a sum must not meet subnormals */
} Probe;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* kernels "peak": input x of n_in elements, output o of n_out, `body` for each thread t. */
static const char *program(Arena *a, const char *type, uint64_t n_in, uint64_t n_out,
                           uint32_t n_threads, const char *body) {
    return arena_printf(
        a,
        "kernels \"peak\" {\n"
        "  buf x: %s[%" PRIu64 "] input 0\n  buf o: %s[%" PRIu64 "] output 0\n"
        "  input \"x\": %s[%" PRIu64 "] = x\n  output \"o\": %s[%" PRIu64 "] = o\n"
        "  kernel work(x: %s[%" PRIu64 "] param noalias, o: %s[%" PRIu64
        "] param written noalias) {\n"
        "    for t in 0..%u parallel {\n%s    }\n  }\n"
        "  entry {\n    call work(x, o)\n  }\n  arena 0 bound 0\n}\n",
        type, n_in, type, n_out, type, n_in, type, n_out, type, n_in, type, n_out, n_threads, body);
}

/* acc[v] = acc[v]*x + y in as many independent chains as registers are left for. */
static Probe arithmetic_probe(Arena *a, const Target *t, const char *type, int elem_bytes,
                              uint32_t n_threads) {
    enum { STEPS = 100000 };
    int lanes = target_lanes(t, elem_bytes), n_vecs = t->n_vector_regs * 3 / 4, n = lanes * n_vecs;
    bool is_dot = elem_bytes == 4 && type[0] == 'i';
    const char *step = is_dot ? "dot4_us(acc[$1], x[l], x[l + %d])"
                       : t->fma ? "fma(acc[$1], x[l], x[l + %d])"
                                : "acc[$1]*x[l] + x[l + %d]";
    const char *body = arena_printf(
        a,
        "      alloc acc: %s[%d] reg\n"
        "      for v in 0..%d unroll {\n        for l in 0..%d vector {\n"
        "          acc[v*%d + l] = x[l]\n        }\n      }\n"
        "      for i in 0..%d {\n        for v in 0..%d unroll {\n          for l in 0..%d vector {\n"
        "            $1 = v*%d + l\n            acc[$1] = %s\n          }\n        }\n      }\n"
        "      for v in 0..%d unroll {\n        for l in 0..%d vector {\n"
        "          o[t*%d + v*%d + l] = acc[v*%d + l]\n        }\n      }\n",
        type, n, n_vecs, lanes, lanes, STEPS, n_vecs, lanes, lanes,
        arena_printf(a, step, lanes), n_vecs, lanes, n, lanes, lanes);
    uint64_t n_in = 2 * (uint64_t)lanes, n_out = (uint64_t)n * n_threads;
    return (Probe){program(a, type, n_in, n_out, n_threads, body), n_in * (uint64_t)elem_bytes,
                   n_out * (uint64_t)elem_bytes,
                   2.0 * STEPS * (double)n_out * (is_dot ? 4 : 1), false};
}

/* The sum of n_bytes for each thread, often enough to take some milliseconds. */
static Probe read_probe(Arena *a, const Target *t, uint64_t n_bytes, uint32_t n_threads) {
    enum { LEAST_BYTES = 32 << 20, VECTORS = 8 };
    int lanes = target_lanes(t, 4), n = lanes * VECTORS;
    uint64_t n_blocks = n_bytes / 4 / (uint64_t)n, n_elems = n_blocks * (uint64_t)n;
    uint64_t repeat = LEAST_BYTES / n_bytes + 1;
    const char *body = arena_printf(
        a,
        "      alloc acc: f32[%d] reg\n"
        "      for v in 0..%d unroll {\n        for l in 0..%d vector {\n"
        "          acc[v*%d + l] = 0.0\n        }\n      }\n"
        "      for r in 0..%" PRIu64 " {\n        for i in 0..%" PRIu64 " {\n"
        "          for v in 0..%d unroll {\n            for l in 0..%d vector {\n"
        "              $1 = v*%d + l\n"
        "              acc[$1] = acc[$1] + x[t*%" PRIu64 " + i*%d + v*%d + l]\n"
        "            }\n          }\n        }\n      }\n"
        "      for v in 0..%d unroll {\n        for l in 0..%d vector {\n"
        "          o[t*%d + v*%d + l] = acc[v*%d + l]\n        }\n      }\n",
        n, VECTORS, lanes, lanes, repeat, n_blocks, VECTORS, lanes, lanes, n_elems, n, lanes,
        VECTORS, lanes, n, lanes, lanes);
    uint64_t n_in = n_elems * n_threads, n_out = (uint64_t)n * n_threads;
    return (Probe){program(a, "f32", n_in, n_out, n_threads, body), n_in * 4, n_out * 4,
                   4.0 * (double)n_in * (double)repeat, true};
}

/* ---- running --------------------------------------------------------------------------------- */

/* The best of several runs: work a second. */
static double best_rate(const smelt_model *model, const Probe *p, const smelt_hooks *hooks,
                        const void *in, void *out) {
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = 1,
                       .n_outputs = 1,
                       .inputs = &in,
                       .outputs = &out,
                       .hooks = hooks};
    double best = 0, end = now() + PEAK_SECONDS;
    for (int i = 0; i < MAX_RUNS && (i < MIN_RUNS || now() < end); i++) {
        double start = now();
        if (model->run(&call) != SMELT_OK) return 0;
        double seconds = now() - start;
        if (seconds > 0 && p->work / seconds > best) best = p->work / seconds;
    }
    return best;
}

static double run_probe(const CodegenJit *jit, const Probe *p, uint32_t n_threads) {
    smelt_pool *pool = NULL;
    smelt_hooks hooks = {.struct_size = sizeof hooks};
    float *in = NULL, *out = NULL;
    double rate = 0;
    bool good = posix_memalign((void **)&in, 4096, p->in_bytes) == 0 &&
                posix_memalign((void **)&out, 4096, p->out_bytes) == 0 &&
                (n_threads == 1 || smelt_pool_create(n_threads, &pool) == SMELT_OK);
    if (good) {
        for (uint64_t i = 0; i < p->in_bytes / sizeof *in; i++) in[i] = p->ones ? 1 : 0;
        hooks.pool = pool;
        hooks.parallel_for = pool ? smelt_pool_parallel_for : NULL;
        rate = best_rate(codegen_jit_model(jit), p, &hooks, in, out);
    }
    smelt_pool_destroy(pool);
    free(in);
    free(out);
    return rate;
}

static uint64_t cache_bytes(void) {
    long n = -1;
#ifdef _SC_LEVEL3_CACHE_SIZE
    n = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (n <= 0) n = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return n > 0 ? (uint64_t)n : UINT64_C(8) << 20;
}

/* Bytes for each thread that no cache holds: four times the last one, a quarter of memory at
 * most. */
static uint64_t memory_probe_bytes(uint32_t n_threads) {
    uint64_t n = 4 * cache_bytes(), least = UINT64_C(128) << 20;
    uint64_t room = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
    if (n < least) n = least;
    return (n < room ? n : room) / n_threads;
}

static uint64_t cache_probe_bytes(uint32_t n_threads) {
    uint64_t n = cache_bytes() / 4, most = UINT64_C(64) << 20;
    return (n < most ? n : most) / n_threads;
}

static Probe probe_for(Arena *a, const Target *t, PeakId id, uint32_t n) {
    switch (id) {
    case PEAK_f32: return arithmetic_probe(a, t, "f32", 4, n);
    case PEAK_f64: return arithmetic_probe(a, t, "f64", 8, n);
    case PEAK_i8: return arithmetic_probe(a, t, "i32", 4, n);
    case PEAK_l1: return read_probe(a, t, (uint64_t)t->l1_bytes / 4 * 3, n);
    case PEAK_l2: return read_probe(a, t, (uint64_t)t->l2_bytes / 2, n);
    case PEAK_cache: return read_probe(a, t, cache_probe_bytes(n), n);
    case PEAK_memory: return read_probe(a, t, memory_probe_bytes(n), n);
    case PEAK_COUNT: break;
    }
    return (Probe){0};
}

double machine_peak(Arena *a, const Target *t, PeakId id, uint32_t n_threads, Diag *d) {
    if (id == PEAK_i8 && !t->dot4) return 0;
    Probe p = probe_for(a, t, id, n_threads);
    Module *m = parse_module(p.text, t, d);
    if (!m) return 0;
    CodegenOptions o = {.opt = 3, .jobs = 1};
    CodegenJit *jit = codegen_llvm_jit(m->kmod, t, &o, d);
    double rate = jit ? run_probe(jit, &p, n_threads) : 0;
    codegen_jit_destroy(jit);
    module_destroy(m);
    return rate / 1e9;
}

/* ---- the command ----------------------------------------------------------------------------- */

static void print_peaks(const double *peak, uint32_t n_threads, bool json, bool first) {
    if (json)
        printf("%s\n  {\"threads\": %u", first ? "" : ",", n_threads);
    else
        printf("%u thread%s\n", n_threads, n_threads == 1 ? "" : "s");
    for (int id = 0; id < PEAK_COUNT; id++)
        if (json)
            printf(", \"%s\": %.5g", peak_info[id].json, peak[id]);
        else if (peak[id] > 0)
            printf("  %-18s %9.1f %s\n", peak_info[id].title, peak[id], peak_info[id].unit);
    if (json) printf("}");
}

int machine_bench(const Options *o) {
    Session s = {.o = o, .d = diag_create(), .arena = arena_create()};
    s.target = codegen_target(s.arena, o->target, o->cpu, o->features, s.d);
    uint32_t most = o->threads.given && o->threads.value > 1 ? (uint32_t)o->threads.value : 1;
    if (s.target && o->json)
        printf("{\"cpu\": \"%s\", \"target\": \"%s\", \"cache_bytes\": %" PRIu64 ", \"peaks\": [",
               s.target->cpu, s.target->name, cache_bytes());
    else if (s.target)
        printf("%s (%s)\n", s.target->cpu, s.target->name);
    for (uint32_t n = 1; s.target && n <= most; n = n < most ? most : most + 1) {
        double peak[PEAK_COUNT];
        for (int id = 0; id < PEAK_COUNT; id++) {
            progress(&s, "measuring: %s", peak_info[id].title);
            peak[id] = machine_peak(s.arena, s.target, id, n, s.d);
        }
        progress_end();
        print_peaks(peak, n, o->json, n == 1);
    }
    if (s.target && o->json) printf("]}\n");
    return session_close(&s, STATUS_GOOD);
}
