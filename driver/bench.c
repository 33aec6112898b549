/* smelt bench: latency of a model that is compiled in memory, with its sizes; per step with
 * --profile (profile.c), of the machine itself with --machine (machine.c).
 *
 * After a few runs to warm up, single runs are timed until the time or the count is used up; short
 * ones in batches, so that reading the clock does not count. The median is what to compare; the
 * least shows what the machine can do undisturbed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "codegen/interface.h"
#include "codegen/output.h"
#include "driver/profile.h"
#include "driver/runner.h"

enum { WARM_RUNS = 3, MAX_RUNS = 1000000 };
#define BENCH_SECONDS 2.0
#define BATCH_SECONDS 20e-6

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct Times {
    double *at; /* of a run, sorted; the mean of `batch` runs each */
    uint32_t n, batch;
} Times;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs n times; the mean of them in *seconds. */
static int time_runs(Runner *r, const smelt_hooks *hooks, uint32_t n, double *seconds) {
    double start = seconds_now();
    for (uint32_t i = 0; i < n; i++) {
        int status = runner_run(r, hooks);
        if (status) return status;
    }
    *seconds = (seconds_now() - start) / n;
    return SMELT_OK;
}

/* How many runs are timed together: as many as fit BATCH_SECONDS. */
static int choose_batch(Runner *r, const smelt_hooks *hooks, uint32_t *n) {
    double least = BATCH_SECONDS, seconds = 0;
    for (int i = 0; i < WARM_RUNS; i++) {
        int status = time_runs(r, hooks, 1, &seconds);
        if (status) return status;
        if (seconds < least) least = seconds;
    }
    *n = least > BATCH_SECONDS / 1000 ? (uint32_t)(BATCH_SECONDS / least) : 1000;
    return SMELT_OK;
}

/* profile: NULL, or what hooks call; then each run is timed. */
static int measure(Runner *r, const Options *o, const smelt_hooks *hooks, Profile *profile,
                   Times *t) {
    uint32_t limit = o->runs.given && o->runs.value < MAX_RUNS ? (uint32_t)o->runs.value : MAX_RUNS;
    uint32_t cap = 0;
    bool counts = o->runs.given || profile;
    t->batch = 1;
    int status = counts ? SMELT_OK : choose_batch(r, hooks, &t->batch);
    if (status) return status;
    double end = seconds_now() + BENCH_SECONDS;
    while (t->n < limit && (o->runs.given || !t->n || seconds_now() < end)) {
        if (t->n == cap) t->at = xrealloc(t->at, (cap = cap ? 2 * cap : 64) * sizeof *t->at);
        status = time_runs(r, hooks, t->batch, &t->at[t->n]);
        if (status) return status;
        t->n++;
        if (profile) profile_end_run(profile);
    }
    if (t->n) qsort(t->at, t->n, sizeof *t->at, by_value);
    return SMELT_OK;
}

static void print_times(const Session *s, Runner *r, const Times *t, uint32_t threads,
                        StrBuf *out) {
    const smelt_model *model = runner_model(r);
    double median = t->n ? t->at[t->n / 2] : 0, least = t->n ? t->at[0] : 0,
           most = t->n ? t->at[t->n - 1] : 0;
    double flops = api_work_is_known(s->m->kmod) ? api_flops(s->m->kmod) : 0;
    uint64_t weights = model ? model->weight_bytes : 0;
    const char *format =
        s->o->json || s->o->html
            ? "\"median_ms\": %.6g, \"least_ms\": %.6g, \"most_ms\": %.6g, \"runs\": %u, "
              "\"threads\": %u, "
              "\"gflops\": %.4g, \"arena_bytes\": %" PRIu64 ", \"weight_bytes\": %" PRIu64
            : "median %.6g ms, least %.6g ms, most %.6g ms in %u runs on %u threads\n%.4g GFLOP/s\n"
              "arena bytes: %" PRIu64 "\nweight bytes: %" PRIu64 "\n";
    strbuf_printf(out, format, 1e3 * median, 1e3 * least, 1e3 * most, t->n * t->batch, threads,
                  median > 0 ? flops / median / 1e9 : 0, runner_arena_bytes(r), weights);
}

static bool write_page(Session *s, const char *json) {
    StrBuf page = {0}, error = {0};
    profile_html(json, &page);
    Output *o = output_open(s->o->html);
    output_write(o, strbuf_text(&page), page.n);
    bool good = output_finish(o, &error);
    if (!good) diag_error(s->d, SRC_NOWHERE, "%s", strbuf_text(&error));
    strbuf_free(&page);
    strbuf_free(&error);
    return good;
}

static bool report(Session *s, Runner *r, const Times *t, Profile *profile, uint32_t threads) {
    StrBuf out = {0};
    bool json = s->o->json || s->o->html, good = true;
    if (profile) profile_find_peaks(profile);
    if (json) strbuf_printf(&out, "{\"model\": \"%s\", ", s->m->name);
    print_times(s, r, t, threads, &out);
    if (json && profile) profile_json(profile, &out);
    if (json) strbuf_add(&out, "}\n");
    if (s->o->html) good = write_page(s, strbuf_text(&out));
    if (s->o->json || !s->o->html) fputs(strbuf_text(&out), stdout);
    if (profile && !json) profile_print(profile);
    strbuf_free(&out);
    return good;
}

static int bench(Session *s, Runner *r) {
    const smelt_model *model = runner_model(r);
    Times times = {0};
    smelt_hooks hooks = {.struct_size = sizeof hooks};
    smelt_pool *pool = NULL;
    Profile *profile = NULL;
    int status = SMELT_OK;
    if (s->o->threads.given && s->o->threads.value != 1) {
        status = smelt_pool_create((uint32_t)s->o->threads.value, &pool);
        hooks.pool = pool;
        hooks.parallel_for = pool ? smelt_pool_parallel_for : NULL;
    }
    progress(s, "measuring");
    for (int i = 0; !status && i < WARM_RUNS && !(s->o->runs.given && s->o->runs.value == 0); i++)
        status = runner_run(r, &hooks);
    if ((s->o->profile || s->o->html) && model) {
        profile = profile_create(s, model);
        profile_hook(profile, &hooks, pool ? smelt_pool_threads(pool) : 1);
    }
    if (!status) status = measure(r, s->o, &hooks, profile, &times);
    progress_end();
    if (!status) report(s, r, &times, profile, pool ? smelt_pool_threads(pool) : 1);
    profile_destroy(profile);
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
