/* smelt bench --profile: what each step of a model takes, and how much of the machine that is.
 *
 * Hooks take the time before and after every node; a step's figure is the median of its runs. Its
 * kernels, operations and bytes are those of the calls that follow the node in the entry, as often
 * as a loop comes by, so a Winograd convolution counts the operations that it does, not those it
 * stands for. Bytes are the sizes of the buffers that a call is given, each once: what has to move
 * at least, unless a kernel reads only parts of one (a Gather from a large table).
 *
 * With a pool of threads its parallel loops go through profile_parallel_for, which adds up what the
 * threads spend on tiles. A step's work is that and what it does outside of such loops; what is
 * left of the threads' time they wait: for the slowest, to be told, or while one works alone. Work
 * that grows with the threads (compare --threads=1) is spent on memory that they share. */
#include "driver/profile.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codegen/interface.h"
#include "driver/machine.h"

enum { MOST_TIMES = 1 << 22 }; /* numbers kept: later runs are measured, but not by step */

typedef struct Step {
    const char *name, *op;
    StrBuf kernels; /* their names, with commas */
    double flops, bytes; /* of one time; in the end those of a run */
    double seconds, start;
    uint64_t n_times; /* in all runs */
    double work;   /* of all threads */
    bool uses_dot; /* dot products of bytes have a peak of their own */
    double median, median_work;
} Step;

/* The pool of the hooks, and what its threads have spent on tiles. */
typedef struct Threads {
    void *pool;
    smelt_parallel_fn *parallel_for;
    uint32_t n;
    double in_loops, on_tiles; /* seconds since the profile began: of the caller, of all threads */
} Threads;

struct Profile {
    Session *s;
    Step *step;
    uint32_t n_steps, n_runs, cap_runs; /* runs whose times are kept */
    uint64_t n_ended;                   /* all of them */
    double *times;             /* n_steps for each run: seconds, then as many of work */
    Threads threads;
    double peak_f32, peak_dot; /* 1e9 a second */
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what the calls of a node do ------------------------------------------------------------- */

static void note_dot(const KExpr *e, void *user) {
    if (kop_is_dot(e->op) && kop_dot_sum(e->op) == DT_I32) *(bool *)user = true;
}

static void add_call(Profile *p, const KStmt *call, Step *step) {
    const Kernel *kn = call->callee;
    if (api_work_is_known(p->s->m->kmod)) step->flops += kn->flops;
    kblock_visit(p->s->m->k, &kn->body, note_dot, &step->uses_dot);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        int64_t lo, hi;
        if (!kn->params[i]->n_elems) continue; /* the table of sizes */
        k_range(kn->params[i]->n_elems, &lo, &hi);
        if (lo == hi) step->bytes += (double)hi * dtype_bytes(kn->params[i]->dtype);
    }
    if (step->kernels.n && strstr(strbuf_text(&step->kernels), kn->name)) return;
    strbuf_add(&step->kernels, step->kernels.n ? ", " : "");
    strbuf_add(&step->kernels, kn->name);
}

static void add_calls(Profile *p, const KBlock *b, Step **step) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_NODE) *step = s->node < p->n_steps ? &p->step[s->node] : NULL;
        if (s->kind == KS_CALL && *step) add_call(p, s, *step);
        add_calls(p, &s->body, step);
        add_calls(p, &s->other, step);
    }
}

Profile *profile_create(Session *s, const smelt_model *model) {
    Profile *p = arena_new(s->arena, Profile);
    *p = (Profile){.s = s, .n_steps = model->n_nodes};
    p->step = arena_array(s->arena, Step, model->n_nodes + 1);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        p->step[i].name = model->nodes[i].name;
        p->step[i].op = model->nodes[i].op;
    }
    Step *step = NULL;
    add_calls(p, &s->m->kmod->entry, &step);
    return p;
}

void profile_destroy(Profile *p) {
    if (!p) return;
    for (uint32_t i = 0; i < p->n_steps; i++) strbuf_free(&p->step[i].kernels);
    free(p->times);
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* A step's work up to now is the time that passes outside of loops and what threads do in them. */
static double work_now(const Profile *p, double time) {
    return time - p->threads.in_loops + p->threads.on_tiles;
}

static void before_node(void *user, uint32_t node) {
    Profile *p = user;
    Step *s = &p->step[node];
    s->start = now();
    s->work -= work_now(p, s->start);
}

static void after_node(void *user, uint32_t node) {
    Profile *p = user;
    Step *s = &p->step[node];
    double end = now();
    s->seconds += end - s->start;
    s->work += work_now(p, end);
    s->n_times++;
}

/* One parallel loop whose tiles are timed. */
typedef struct Loop {
    smelt_range_fn *fn;
    void *ctx;
    atomic_int_fast64_t nanoseconds;
} Loop;

static void timed_range(void *ctx, int64_t begin, int64_t end) {
    Loop *loop = ctx;
    double start = now();
    loop->fn(loop->ctx, begin, end);
    atomic_fetch_add(&loop->nanoseconds, (int_fast64_t)(1e9 * (now() - start)));
}

static void profile_parallel_for(void *user, smelt_range_fn *fn, void *ctx, int64_t n) {
    Threads *t = user;
    Loop loop = {.fn = fn, .ctx = ctx};
    double start = now();
    t->parallel_for(t->pool, timed_range, &loop, n);
    t->in_loops += now() - start;
    t->on_tiles += 1e-9 * (double)atomic_load(&loop.nanoseconds);
}

void profile_hook(Profile *p, smelt_hooks *hooks, uint32_t n_threads) {
    hooks->user = p;
    hooks->before_node = before_node;
    hooks->after_node = after_node;
    p->threads.pool = hooks->pool;
    p->threads.parallel_for = hooks->parallel_for;
    p->threads.n = n_threads;
    if (!hooks->parallel_for) return;
    hooks->pool = &p->threads;
    hooks->parallel_for = profile_parallel_for;
}

void profile_end_run(Profile *p) {
    if (p->n_runs == p->cap_runs && (uint64_t)p->n_steps * p->cap_runs * 4 < MOST_TIMES) {
        p->cap_runs = p->cap_runs ? 2 * p->cap_runs : 64;
        p->times = xrealloc(p->times, sizeof *p->times * p->cap_runs * 2 * (p->n_steps + 1));
    }
    bool keep = p->n_runs < p->cap_runs;
    double *times = keep ? &p->times[(size_t)p->n_runs * p->n_steps * 2] : NULL;
    for (uint32_t i = 0; i < p->n_steps; i++) {
        Step *s = &p->step[i];
        if (keep) times[i] = s->seconds;
        if (keep) times[p->n_steps + i] = s->work;
        s->seconds = s->work = 0;
    }
    p->n_runs += keep;
    p->n_ended++;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the i-th number of each run. */
static double median_of(const Profile *p, uint32_t i, double *column) {
    for (uint32_t r = 0; r < p->n_runs; r++) column[r] = p->times[(size_t)r * p->n_steps * 2 + i];
    qsort(column, p->n_runs, sizeof *column, by_value);
    return p->n_runs ? column[p->n_runs / 2] : 0;
}

/* What the steps took and did in a run. */
static void find_medians(Profile *p) {
    double *column = xmalloc(sizeof *column * (p->n_runs + 1));
    for (uint32_t i = 0; i < p->n_steps; i++) {
        p->step[i].median = median_of(p, i, column);
        p->step[i].median_work = median_of(p, p->n_steps + i, column);
        double times = p->n_ended ? (double)p->step[i].n_times / (double)p->n_ended : 1;
        p->step[i].flops *= times;
        p->step[i].bytes *= times;
    }
    free(column);
}

void profile_find_peaks(Profile *p) {
    Session *s = p->s;
    bool any_dot = false;
    for (uint32_t i = 0; i < p->n_steps; i++) any_dot |= p->step[i].uses_dot;
    p->peak_f32 = machine_peak(s->arena, s->target, PEAK_f32, p->threads.n, s->d);
    if (any_dot) p->peak_dot = machine_peak(s->arena, s->target, PEAK_i8, p->threads.n, s->d);
    find_medians(p);
}

/* ---- telling --------------------------------------------------------------------------------- */

static double total_of(const Profile *p) {
    double total = 0;
    for (uint32_t i = 0; i < p->n_steps; i++) total += p->step[i].median;
    return total > 0 ? total : 1;
}

/* 1e9 a second, and per cent of the peak; 0 where there is nothing to tell. */
static double rate(double amount, const Step *s) {
    return s->median > 0 ? amount / s->median / 1e9 : 0;
}

static double of_peak(const Profile *p, const Step *s) {
    double peak = s->uses_dot ? p->peak_dot : p->peak_f32;
    return peak > 0 ? 100 * rate(s->flops, s) / peak : 0;
}

/* Per cent of the threads' time that is work. */
static double busy(const Profile *p, const Step *s) {
    return s->median > 0 ? 100 * s->median_work / (s->median * p->threads.n) : 100;
}

void profile_print(const Profile *p) {
    printf("peak, measured: %.1f GFLOP/s", p->peak_f32);
    if (p->peak_dot > 0) printf(", dot products of bytes %.1f GOP/s", p->peak_dot);
    printf("\n%10s %6s %6s %9s %8s %7s  %s\n", "us", "%", "% busy", "GFLOP/s", "GB/s", "% peak",
           "step: kernels");
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const Step *s = &p->step[i];
        StrBuf line = {0};
        strbuf_escaped(&line, s->name, ESC_TERMINAL);
        strbuf_add(&line, " (");
        strbuf_escaped(&line, s->op, ESC_TERMINAL);
        printf("%10.2f %6.1f %6.1f %9.1f %8.1f %7.1f  %s): %s\n", 1e6 * s->median,
               100 * s->median / total_of(p), busy(p, s), rate(s->flops, s), rate(s->bytes, s),
               of_peak(p, s),
               strbuf_text(&line), strbuf_text(&s->kernels));
        strbuf_free(&line);
    }
}

static void add_string(StrBuf *out, const char *key, const char *value) {
    strbuf_printf(out, "\"%s\": \"", key);
    strbuf_escaped(out, value, ESC_JSON);
    strbuf_add(out, "\", ");
}

void profile_json(const Profile *p, StrBuf *out) {
    strbuf_printf(out, ", \"peak_gflops\": %.5g, \"peak_dot_gops\": %.5g, \"steps\": [",
                  p->peak_f32, p->peak_dot);
    for (uint32_t i = 0; i < p->n_steps; i++) {
        const Step *s = &p->step[i];
        strbuf_add(out, i ? ",\n{" : "\n{");
        add_string(out, "name", s->name);
        add_string(out, "op", s->op);
        add_string(out, "kernels", strbuf_text(&s->kernels));
        strbuf_printf(out,
                      "\"us\": %.6g, \"share\": %.4g, \"busy\": %.4g, \"gflops\": %.5g, "
                      "\"gbs\": %.5g, "
                      "\"of_peak\": %.4g, \"flops\": %.0f, \"bytes\": %.0f}",
                      1e6 * s->median, 100 * s->median / total_of(p), busy(p, s),
                      rate(s->flops, s), rate(s->bytes, s), of_peak(p, s), s->flops, s->bytes);
    }
    strbuf_add(out, "]");
}

/* The page shows the JSON by a few lines of script; a click on a heading sorts by it. */
static const char page_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>smelt profile</title>\n"
    "<style>\nbody { font: 14px sans-serif; margin: 2em; color: #222; background: #fff }\n"
    "table { border-collapse: collapse } th { cursor: pointer; text-align: left }\n"
    "td, th { padding: 2px 10px; border-bottom: 1px solid #ddd } td.n { text-align: right; "
    "font-variant-numeric: tabular-nums }\n"
    ".bar { display: inline-block; height: 10px; background: #3a7ca5 } code { font-size: 12px }\n"
    "@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } td, th { "
    "border-color: #444 } }\n</style></head><body>\n<h1></h1><p></p><table></table>\n<script>\n"
    "const data = ";
static const char page_tail[] =
    ";\n"
    "const columns = [['us', '\\u00b5s'], ['share', '%'], ['busy', '% busy'], "
    "['gflops', 'GFLOP/s'], ['gbs', 'GB/s'], "
    "['of_peak', '% of peak'], ['name', 'step'], ['op', 'operators'], ['kernels', 'kernels']];\n"
    "const table = document.querySelector('table');\n"
    "document.querySelector('h1').textContent = data.model;\n"
    "document.querySelector('p').textContent = data.median_ms + ' ms on ' + data.threads + "
    "' threads, ' + data.gflops + ' GFLOP/s of a measured peak of ' + data.peak_gflops;\n"
    "const order = data.steps.map((step, i) => ({...step, i}));\n"
    "let sorted = 'i', up = true;\n"
    "function cell(row, tag, text) {\n"
    "  const c = row.appendChild(document.createElement(tag));\n  c.textContent = text;\n"
    "  return c;\n}\n"
    "function show() {\n  table.replaceChildren();\n  const head = table.insertRow();\n"
    "  for (const [key, title] of columns)\n    cell(head, 'th', title).onclick = () => {\n"
    "      up = sorted === key ? !up : typeof data.steps[0][key] === 'string';\n"
    "      sorted = key;\n      show();\n    };\n"
    "  order.sort((a, b) => (a[sorted] < b[sorted] ? -1 : a[sorted] > b[sorted] ? 1 : a.i - b.i) * "
    "(up ? 1 : -1));\n"
    "  for (const step of order) {\n    const row = table.insertRow();\n"
    "    for (const [key] of columns) {\n"
    "      const number = typeof step[key] === 'number';\n"
    "      const c = cell(row, 'td', number ? step[key].toFixed(1) : step[key]);\n"
    "      if (number) c.className = 'n';\n"
    "      if (key === 'share') {\n        const bar = c.appendChild(document.createElement("
    "'span'));\n        bar.className = 'bar';\n        bar.style.width = 3 * step.share + 'px';\n"
    "        bar.style.marginLeft = '6px';\n      }\n    }\n  }\n}\nshow();\n"
    "</script></body></html>\n";

/* In JSON a < stands in strings only; there it is written so that no tag can end the script. */
void profile_html(const char *json, StrBuf *out) {
    strbuf_add(out, page_head);
    for (const char *c = json; *c; c++)
        if (*c == '<')
            strbuf_add(out, "\\u003c");
        else
            strbuf_add_bytes(out, c, 1);
    strbuf_add(out, page_tail);
}
