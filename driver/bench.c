/* smelt bench: latency of a model that is compiled in memory, with its sizes; per step with
 * --profile.
 *
 * After a few runs to warm up, single runs are timed until the time or the count is used up. The
 * median is what to compare; the least shows what the machine can do undisturbed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "codegen/interface.h"
#include "driver/runner.h"

enum { WARM_RUNS = 3, MAX_RUNS = 1000000 };
#define BENCH_SECONDS 2.0

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Time of every node, by hooks around it. */
typedef struct Profile {
    double *seconds, start;
} Profile;

static void before_node(void *user, uint32_t node) {
    (void)node;
    ((Profile *)user)->start = seconds_now();
}

static void after_node(void *user, uint32_t node) {
    Profile *p = user;
    p->seconds[node] += seconds_now() - p->start;
}

typedef struct Times {
    double *at; /* sorted */
    uint32_t n;
} Times;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(Runner *r, const Options *o, const smelt_hooks *hooks, Times *t) {
    uint32_t limit = o->runs.given && o->runs.value < MAX_RUNS ? (uint32_t)o->runs.value : MAX_RUNS;
    uint32_t cap = 0;
    double end = seconds_now() + BENCH_SECONDS;
    while (t->n < limit && (o->runs.given || !t->n || seconds_now() < end)) {
        if (t->n == cap) t->at = xrealloc(t->at, (cap = cap ? 2 * cap : 64) * sizeof *t->at);
        double start = seconds_now();
        int status = runner_run(r, hooks);
        if (status) return status;
        t->at[t->n++] = seconds_now() - start;
    }
    if (t->n) qsort(t->at, t->n, sizeof *t->at, by_value);
    return SMELT_OK;
}

static void print_times(const Session *s, Runner *r, const Times *t, uint32_t threads) {
    const smelt_model *model = runner_model(r);
    double median = t->n ? t->at[t->n / 2] : 0, least = t->n ? t->at[0] : 0,
           most = t->n ? t->at[t->n - 1] : 0;
    double flops = api_flops(s->m->kmod);
    uint64_t weights = model ? model->weight_bytes : 0;
    const char *format =
        s->o->json
            ? "{\"median_ms\": %.6g, \"least_ms\": %.6g, \"most_ms\": %.6g, \"runs\": %u, "
              "\"threads\": %u, "
              "\"gflops\": %.4g, \"arena_bytes\": %" PRIu64 ", \"weight_bytes\": %" PRIu64 "}\n"
            : "median %.6g ms, least %.6g ms, most %.6g ms in %u runs on %u threads\n%.4g GFLOP/s\n"
              "arena bytes: %" PRIu64 "\nweight bytes: %" PRIu64 "\n";
    printf(format, 1e3 * median, 1e3 * least, 1e3 * most, t->n, threads,
           median > 0 ? flops / median / 1e9 : 0, runner_arena_bytes(r), weights);
}

static void print_profile(const smelt_model *model, const Profile *p, uint32_t runs) {
    double total = 0;
    for (uint32_t i = 0; i < model->n_nodes; i++) total += p->seconds[i];
    printf("%10s %6s  step\n", "us", "%");
    for (uint32_t i = 0; i < model->n_nodes; i++) {
        StrBuf line = {0};
        strbuf_escaped(&line, model->nodes[i].name, ESC_TERMINAL);
        strbuf_add(&line, " (");
        strbuf_escaped(&line, model->nodes[i].op, ESC_TERMINAL);
        printf("%10.2f %6.1f  %s)\n", 1e6 * p->seconds[i] / runs,
               total > 0 ? 100 * p->seconds[i] / total : 0, strbuf_text(&line));
        strbuf_free(&line);
    }
}

static int bench(Session *s, Runner *r) {
    const smelt_model *model = runner_model(r);
    Times times = {0};
    Profile profile = {0};
    smelt_hooks hooks = {.struct_size = sizeof hooks, .user = &profile};
    smelt_pool *pool = NULL;
    int status = SMELT_OK;
    if (s->o->threads.given && s->o->threads.value != 1) {
        status = smelt_pool_create((uint32_t)s->o->threads.value, &pool);
        hooks.pool = pool;
        hooks.parallel_for = pool ? smelt_pool_parallel_for : NULL;
    }
    progress(s, "measuring");
    for (int i = 0; !status && i < WARM_RUNS && !(s->o->runs.given && s->o->runs.value == 0); i++)
        status = runner_run(r, &hooks);
    if (s->o->profile && model) {
        profile.seconds = arena_array(s->arena, double, model->n_nodes + 1);
        hooks.before_node = before_node;
        hooks.after_node = after_node;
    }
    if (!status) status = measure(r, s->o, &hooks, &times);
    progress_end();
    if (!status) {
        print_times(s, r, &times, pool ? smelt_pool_threads(pool) : 1);
        if (profile.seconds && times.n) print_profile(model, &profile, times.n);
    }
    smelt_pool_destroy(pool);
    free(times.at);
    return status;
}

int command_bench(const Options *o) {
    Session s;
    if (!session_open(&s, o) || !session_compile(&s, NULL) || !session_is_complete(&s))
        return session_close(&s, STATUS_MODEL);
    Runner *r = runner_create(&s);
    bool good = r && runner_read_inputs(r) && runner_bind(r);
    int status = good ? bench(&s, r) : SMELT_OK;
    if (status) diag_error(s.d, SRC_NOWHERE, "the run failed: %s", smelt_status_string(status));
    runner_destroy(r);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
}
