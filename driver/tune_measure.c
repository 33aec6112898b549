/* Kernels timed against each other: see tune_measure.h.
 *
 * A machine is never quiet: its clock and its neighbours change what a run takes by half, for
 * longer than a kernel is measured. So no times are compared that were taken at different moments.
 * All kernels are timed in turn, in batches of a few runs, and directly before each of them the
 * first one, the choice of the cost model. What counts is the median of the ratios; whoever is
 * clearly behind after some rounds is timed no more. Time is what this thread had of a core: other
 * programs take theirs in slices that are longer than a batch.
 *
 * Weights, of which a run of the whole model finds none in a near cache, are copied until a cache
 * has no room for the copies, and each run reads another one. */
#include "driver/tune_measure.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLD_BYTES = 8 << 20, ROUNDS = 9, SURE_ROUNDS = 3, MOST_JOBS = 16 };
#define BATCH_SECONDS 1.5e-4
#define LEAST_SECONDS 0.05 /* for a stage: what two kernels take to compile */
#define NEAR          1.04 /* of the best time: may be the best after all */

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double tune_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

void tune_room_free(TuneRoom *room) {
    free(room->in);
    free(room->out);
    free(room->zeros);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t bytes_of(const TuneKernel *k, uint32_t i) {
    uint64_t n = (uint64_t)k->n_elems[i] * (uint64_t)dtype_bytes(k->kernel->params[i]->dtype);
    return (n + 127) / 64 * 64; /* reading a vector beyond the end is no harm */
}

static uint32_t n_copies(const TuneKernel *k) {
    if (k->cold >= k->kernel->n_params) return 1;
    return (uint32_t)(1 + COLD_BYTES / bytes_of(k, k->cold));
}

/* May elements be places in another tensor, which kernels trust if they are constants? 0 is one. */
static bool may_be_index(const KBuf *param) {
    return dtype_is_int(param->dtype) && dtype_bytes(param->dtype) > 1;
}

/* At least n_bytes of zeros at *at, which has *had. */
static void make_zeros(char **at, uint64_t *had, uint64_t n_bytes) {
    if (n_bytes <= *had) return;
    free(*at);
    *had = posix_memalign((void **)at, 4096, n_bytes) ? 0 : n_bytes;
    if (*had) memset(*at, 0, n_bytes);
}

/* Room for what the kernel reads, its cold operand several times over, and for what it writes. */
static bool make_room(TuneRoom *room, const TuneKernel *k) {
    uint64_t in = 0, out = 0, zeros = 0;
    for (uint32_t i = 0; i < k->kernel->n_params; i++) {
        uint64_t bytes = bytes_of(k, i);
        if (k->kernel->params[i]->written)
            out += bytes;
        else if (i != k->cold && may_be_index(k->kernel->params[i]))
            zeros += bytes;
        else
            in += bytes * (i == k->cold ? n_copies(k) : 1);
    }
    make_zeros(&room->out, &room->out_bytes, out);
    make_zeros(&room->zeros, &room->zero_bytes, zeros);
    if (in > room->in_bytes) {
        free(room->in);
        room->in_bytes = posix_memalign((void **)&room->in, 4096, in) ? 0 : in;
        uint32_t state = 1;
        for (uint64_t i = 0; i < room->in_bytes / sizeof *room->in; i++) {
            state = state * 1664525u + 1013904223u;
            room->in[i] = (float)(state >> 8) * 0x1p-23f - 1;
        }
    }
    return in <= room->in_bytes && out <= room->out_bytes && zeros <= room->zero_bytes;
}

/* The buffers of the run in which the cold operand is copy number `copy`. */
static void place(const TuneRoom *room, const TuneKernel *k, uint32_t copy, void **bufs) {
    char *in = (char *)room->in, *out = room->out, *zeros = room->zeros;
    for (uint32_t i = 0; i < k->kernel->n_params; i++) {
        bool is_written = k->kernel->params[i]->written;
        if (is_written || (i != k->cold && may_be_index(k->kernel->params[i]))) {
            char **at = is_written ? &out : &zeros;
            bufs[i] = *at;
            *at += bytes_of(k, i);
            continue;
        }
        bufs[i] = in + (i == k->cold ? copy * bytes_of(k, i) : 0);
        in += bytes_of(k, i) * (i == k->cold ? n_copies(k) : 1);
    }
}

/* ---- compiling ------------------------------------------------------------------------------- */

/* Some kernels that threads compile, each the next one that nobody has taken. */
typedef struct Compile {
    const Target *target;
    CodegenOptions options;
    KModule **modules;
    CodegenJit **jit; /* NULL where it failed */
    int n, next;
    pthread_mutex_t lock;
} Compile;

static void *compile_some(void *arg) {
    Compile *c = arg;
    Diag *d = diag_create(); /* what does not link is not measured */
    for (;;) {
        pthread_mutex_lock(&c->lock);
        int i = c->next++;
        pthread_mutex_unlock(&c->lock);
        if (i >= c->n) break;
        c->jit[i] = codegen_llvm_jit(c->modules[i], c->target, &c->options, d);
    }
    diag_destroy(d);
    return NULL;
}

static void compile(Session *s, const TuneKernel *kernels, int n, CodegenJit **jit) {
    KModule *modules[MOST_JOBS];
    pthread_t thread[MOST_JOBS];
    pthread_attr_t big;
    int n_threads = 0;
    Compile c = {.target = s->target,
                 .options = {.opt = s->codegen.opt, .jobs = 1},
                 .modules = modules,
                 .jit = jit,
                 .n = n,
                 .lock = PTHREAD_MUTEX_INITIALIZER};
    for (int i = 0; i < n; i++)
        modules[i] = kernel_module(s, s->arena, kernels[i].kernel, kernels[i].n_elems);
    pthread_attr_init(&big);
    pthread_attr_setstacksize(&big, (size_t)16 << 20); /* LLVM recurses */
    while (n_threads + 1 < n && !pthread_create(&thread[n_threads], &big, compile_some, &c))
        n_threads++;
    compile_some(&c);
    while (n_threads > 0) pthread_join(thread[--n_threads], NULL);
    pthread_attr_destroy(&big);
    pthread_mutex_destroy(&c.lock);
}

/* ---- timing ---------------------------------------------------------------------------------- */

typedef struct Trial {
    const TuneKernel *k;
    CodegenJit *jit;      /* NULL: it cannot run */
    double ratio[ROUNDS]; /* of its times to those of the first trial, sorted */
    int n;                /* how many there are */
} Trial;

/* Seconds of n_runs runs; infinite when one fails. */
static double time_runs(const TuneRoom *room, const Trial *t, uint32_t n_runs) {
    const smelt_model *model = codegen_jit_model(t->jit);
    void **bufs = xmalloc(sizeof *bufs * (t->k->kernel->n_params + 1));
    uint32_t copies = n_copies(t->k);
    bool good = true;
    double start = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    for (uint32_t r = 0; good && r < n_runs; r++) {
        place(room, t->k, r % copies, bufs);
        good = kernel_module_run(model, t->k->kernel, bufs);
    }
    double seconds = seconds_of(CLOCK_THREAD_CPUTIME_ID) - start;
    free(bufs);
    return good ? seconds : INFINITY;
}

/* Runs of the first trial that fill a batch. */
static uint32_t runs_of_batch(const TuneRoom *room, const Trial *t) {
    uint32_t n = 1;
    while (n < 1 << 20 && time_runs(room, t, n) < BATCH_SECONDS) n *= 2;
    return n;
}

static double median(const Trial *t) {
    return t->n ? t->ratio[t->n / 2] : INFINITY;
}

static void add_ratio(Trial *t, double ratio) {
    int i = t->n++;
    for (; i > 0 && t->ratio[i - 1] > ratio; i--) t->ratio[i] = t->ratio[i - 1];
    t->ratio[i] = ratio;
}

/* All trials in turn, until the time is used up, but as many rounds as it takes to be sure. Returns
 * seconds of a run of the first one. */
static double time_trials(const TuneRoom *room, Trial *trial, int n, double end) {
    uint32_t n_runs = runs_of_batch(room, &trial[0]);
    double least = INFINITY, best = 1;
    for (int round = 0; round < ROUNDS; round++) {
        bool is_sure = round >= SURE_ROUNDS;
        for (int i = 1; i < n; i++) {
            if (is_sure && tune_now() >= end) return least;
            if (!trial[i].jit || (is_sure && median(&trial[i]) > NEAR * best)) continue;
            double first = time_runs(room, &trial[0], n_runs);
            add_ratio(&trial[i], time_runs(room, &trial[i], n_runs) / first);
            if (first / n_runs < least) least = first / n_runs;
        }
        best = 1;
        for (int i = 1; i < n; i++)
            if (median(&trial[i]) < best) best = median(&trial[i]);
    }
    return least;
}

bool tune_time(Session *s, TuneRoom *room, const TuneKernel *kernels, int n, double *seconds,
               double time) {
    Trial *trial = xmalloc(sizeof *trial * (size_t)(n + 1));
    CodegenJit **jit = xmalloc(sizeof *jit * (size_t)(n + 1));
    double start = tune_now();
    int jobs = s->codegen.jobs < MOST_JOBS ? s->codegen.jobs : MOST_JOBS, n_made = 0;
    bool good = time > LEAST_SECONDS;
    for (int i = 0; i < n; i++) seconds[i] = INFINITY;
    while (good && n_made < n && (n_made < 2 || tune_now() < start + time / 2)) {
        int more = n - n_made < jobs ? n - n_made : jobs;
        compile(s, kernels + n_made, more, jit + n_made);
        n_made += more;
    }
    for (int i = 0; i < n_made; i++) {
        trial[i] = (Trial){.k = &kernels[i], .jit = jit[i]};
        good &= make_room(room, &kernels[i]);
    }
    good &= n_made > 0 && jit[0];
    if (good) {
        seconds[0] = time_trials(room, trial, n_made, start + time);
        for (int i = 1; i < n_made; i++) seconds[i] = median(&trial[i]) * seconds[0];
    }
    for (int i = 0; i < n_made; i++)
        if (jit[i]) codegen_jit_destroy(jit[i]);
    free(jit);
    free(trial);
    return good && n_made > 1;
}
