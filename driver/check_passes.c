/* smelt run --check-passes: which pass, or which backend, is the first to change the results?
 *
 * The model is compiled again and again, first without the passes that a right result does not
 * need, then with one more of them each time, and interpreted with the same inputs. Last come LLVM
 * and C with all passes, which must give the interpreter's bits. A line for each:
 *
 *     none               reference
 *     fold_constants     same bits
 *     simplify           largest difference 1.2e-07 of the largest value
 *     fuse_stages        largest difference 0.41 of the largest value   <-- changes the results
 *
 * Schedules change the order of sums, so differences within ROUNDING are nobody's fault. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "driver/runner.h"

/* Of the largest value of a tensor: what another order of sums explains, for 32 bits and more and
 * below. */
static const double ROUNDING = 1e-4, ROUNDING_NARROW = 3e-2;

typedef struct Answers {
    HostTensor *tensor; /* of the arena given, as is their data */
    uint32_t n;
} Answers;

static bool same_bits(const HostTensor *a, const HostTensor *b) {
    return a->n_bytes == b->n_bytes && !memcmp(a->data, b->data, a->n_bytes);
}

/* The largest difference over the largest value; infinite where shapes differ, or a NaN meets a
 * number. */
static double difference(const HostTensor *got, const HostTensor *want) {
    if (same_bits(got, want)) return 0;
    if (got->n_bytes != want->n_bytes || got->dtype == DT_STR) return INFINITY;
    HostTensor got_numbers = host_numbers(got), want_numbers = host_numbers(want);
    got = &got_numbers;
    want = &want_numbers;
    double most = 0, scale = 0;
    for (uint64_t i = 0; i < want->n_bytes / (uint64_t)dtype_bytes(want->dtype); i++) {
        double g = host_element(got, i), w = host_element(want, i);
        if (isnan(g) != isnan(w)) return INFINITY;
        if (isnan(g) || g == w) continue;
        if (fabs(g - w) > most) most = fabs(g - w);
        if (fabs(w) > scale) scale = fabs(w);
    }
    return scale > 0 ? most / scale : most;
}

/* Compiles without the passes of `skip` and runs on `backend`; the answers go to a. */
static bool answer(const Options *given, const char *skip, const char *backend, Arena *a,
                   Answers *answers) {
    Options o = *given;
    o.skip = skip;
    o.backend = backend;
    Session s;
    bool good = session_open(&s, &o) && session_compile(&s, NULL) && session_is_complete(&s);
    Runner *r = good ? runner_create(&s) : NULL;
    good = r && runner_read_inputs(r) && runner_bind(r) && runner_run(r, NULL) == SMELT_OK;
    if (good) {
        const HostTensor *out = runner_outputs(r, &answers->n);
        answers->tensor = arena_array(a, HostTensor, answers->n ? answers->n : 1);
        for (uint32_t i = 0; i < answers->n; i++) {
            answers->tensor[i] = out[i];
            answers->tensor[i].data = arena_alloc(a, out[i].n_bytes + 1);
            memcpy(answers->tensor[i].data, out[i].data, out[i].n_bytes);
        }
    }
    runner_destroy(r);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL) == STATUS_GOOD;
}

/* One line; false when it is the first that is to blame. */
static bool judge(const char *step, const Answers *got, const Answers *want, bool exactly) {
    double most = 0;
    bool same = got->n == want->n, fine = same;
    for (uint32_t i = 0; fine && i < got->n; i++) {
        const HostTensor *g = &got->tensor[i], *w = &want->tensor[i];
        double d = difference(g, w);
        same &= same_bits(g, w);
        fine &= d <= (dtype_bytes(w->dtype) < 4 ? ROUNDING_NARROW : ROUNDING);
        if (d > most) most = d;
    }
    if (exactly) fine = same;
    if (same)
        printf("%-18s same bits\n", step);
    else
        printf("%-18s largest difference %.2g of the largest value%s\n", step, most,
               fine ? "" : "   <-- changes the results");
    return fine;
}

/* The optional passes from number `first` on, for --no-pass; what the user leaves out stays out. */
static const char *skipped(Arena *a, const char *given, int first) {
    StrBuf list = {0};
    strbuf_add(&list, given ? given : "");
    for (int i = first; i < PASS_COUNT; i++)
        if (pass_is_optional(i)) strbuf_printf(&list, "%s%s", list.n ? "," : "", pass_info[i].name);
    const char *text = arena_strdup(a, strbuf_text(&list));
    strbuf_free(&list);
    return text;
}

int command_check_passes(const Options *o) {
    Arena *a = arena_create();
    Answers want, got;
    bool good = answer(o, skipped(a, o->skip, 0), "interpret", a, &want), fine = true;
    if (good) printf("%-18s reference\n", "none");
    for (int i = 0; good && fine && i < PASS_COUNT; i++) {
        if (!pass_is_optional(i)) continue;
        good = answer(o, skipped(a, o->skip, i + 1), "interpret", a, &got);
        fine = good && judge(pass_info[i].name, &got, &want, false);
    }
    static const char *const backend[] = {"llvm", "c"};
    want = got;
    for (int i = 0; good && fine && i < 2; i++) {
        good = answer(o, o->skip, backend[i], a, &got);
        fine = good && judge(backend[i], &got, &want, true);
    }
    arena_destroy(a);
    return good && fine ? STATUS_GOOD : STATUS_MODEL;
}
