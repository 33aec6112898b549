/* Fast filtering against the contraction's loops by measurement: part of choose_winograd.
 *
 * Measured are the tiles that the cost model finds best, the best of each patch and way of sharing
 * among them, and the template's best schedules. What wins is a line of the cache,
 *
 *     winograd 4 rows 12 n_vecs 2 strip 48 whole 0          F(4x4) in strips of 48 patches
 *     winograd 0                                            the template
 *
 * whose tiles are another line then. With --no-winograd nothing is asked, and the template's line
 * alone counts. */
#include "passes/tune_winograd.h"

#include <stdlib.h>
#include <string.h>

#include "ir/winograd.h"
#include "passes/kernelize.h"
#include "passes/pass.h"

enum { FIRST = 6, MOST_FILTERS = 10, MOST_DIRECT = 3 };

static const char *to_text(Arena *a, const Winograd *w) {
    if (!w) return "winograd 0";
    return arena_printf(a, "winograd %d rows %d n_vecs %d strip %lld whole %d", w->m, w->rows,
                        w->n_vecs, (long long)w->strip, (int)w->whole);
}

void winograd_fill_schedule(Schedule *sch, int lanes, Winograd *w) {
    *sch = (Schedule){.vec_axis = w->form.o_axis,
                      .lanes = lanes,
                      .n_vecs = w->n_vecs,
                      .row_axis = {-1, -1},
                      .rows = {1, w->rows},
                      .unroll = 1,
                      .winograd = w};
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* One thread runs what is measured, and a kernel has one parallel loop only. */
static void make_serial(KBlock *b) {
    for (KStmt *s = b->first; s; s = s->next)
        if (s->kind == KS_FOR && s->mark == LOOP_PARALLEL) s->mark = LOOP_SERIAL;
}

/* Patches and all else as one kernel; false when a size is free. The stage is as before. */
static bool make_kernel(DefProgram *p, Stage *s, const Winograd *choice, int lanes,
                        TuneKernel *out) {
    uint32_t n_tensors = p->tensors.n;
    Winograd w = *choice;
    Schedule sch;
    KBlock body = {0};
    KBuild b;
    if (w.form.is_free) return false;
    winograd_fill_schedule(&sch, lanes, &w);
    s->schedule = &sch;
    stage_remove(p, winograd_define_weights(p, s, &w));
    winograd_add_scratch(p, s, &w);
    kb_begin(&b, p->m->k, &body);
    if (w.whole) schedule_open_patches(p, s, &b);
    schedule_open_winograd(p, s, &b);
    make_serial(&body);
    s->schedule = NULL;
    bool good = tune_extract(p, body, w.weights, out);
    p->tensors.n = n_tensors; /* weights were only for this */
    return good;
}

/* ---- choices --------------------------------------------------------------------------------- */

static int by_cycles(const void *a, const void *b) {
    const WinogradCost *x = a, *y = b;
    if (x->cycles != y->cycles) return x->cycles < y->cycles ? -1 : 1;
    return x->at - y->at;
}

/* The filters worth measuring, best first. */
static int list_filters(const WinogradCost *all, int n_all, const WinogradCost **out) {
    bool seen[MOST_PATCH][2] = {{false}};
    int n = 0;
    for (int i = 0; i < n_all && n < MOST_FILTERS; i++) {
        const Winograd *w = &all[i].w;
        if (i >= FIRST && seen[w->m][w->whole]) continue;
        seen[w->m][w->whole] = true;
        out[n++] = &all[i];
    }
    return n;
}

/* The template's schedules as choices; 0 when the stage does not fit it. */
static int list_direct(DefProgram *p, Stage *s, TuneChoice *out) {
    Arena *a = p->m->scratch;
    Schedule axes, *sch = arena_array(a, Schedule, MOST_DIRECT);
    if (!contract_axes(p, s, &axes)) return 0;
    int n = schedule_contract_candidates(p, s, p->m->target, &axes, sch, MOST_DIRECT);
    if (n > MOST_DIRECT) n = MOST_DIRECT;
    for (int i = 0; i < n; i++) {
        out[i] = (TuneChoice){.text = to_text(a, NULL), .name = schedule_text(a, &sch[i])};
        if (!tune_contract_kernel(p, s, false, &sch[i], &out[i].kernel)) return 0;
    }
    return n;
}

static int measure(DefProgram *p, Stage *s, const char *key, const WinogradCost *all, int n_all,
                   int lanes, bool model_filters, const Winograd **taken) {
    Arena *a = p->m->scratch;
    const WinogradCost *filter[MOST_FILTERS];
    TuneChoice direct[MOST_DIRECT], choice[MOST_FILTERS + MOST_DIRECT];
    int n_filters = list_filters(all, n_all, filter), n_direct = list_direct(p, s, direct);
    int at = model_filters ? 0 : n_direct; /* what the model would take comes first */
    if (!n_direct || !n_filters) return -1;
    for (int i = 0; i < n_filters; i++) {
        Schedule sch;
        Winograd w = filter[i]->w;
        TuneChoice *c = &choice[at + i];
        winograd_fill_schedule(&sch, lanes, &w);
        c->text = to_text(a, &w);
        c->name = arena_printf(a, "%s in %s of %lld (model: %.0f cycles)", schedule_text(a, &sch),
                               w.whole ? "one strip" : "strips", (long long)w.strip,
                               filter[i]->cycles);
        if (!make_kernel(p, s, &w, lanes, &c->kernel)) return -1;
    }
    memcpy(choice + (model_filters ? n_filters : 0), direct, sizeof *direct * (size_t)n_direct);
    int best = tune_measure(p, s, key, choice, n_filters + n_direct);
    if (best < 0) return best;
    *taken = best >= at && best < at + n_filters ? &filter[best - at]->w : NULL;
    return best;
}

bool tune_winograd(DefProgram *p, Stage *s, WinogradCost *all, int n_all, int lanes,
                   bool model_filters, const Winograd **taken) {
    const Tuner *tuner = p->m->tuner;
    int line = 0;
    if (!tuner || !n_all) return false;
    const char *key = tune_key(p, s, " filtered ");
    const char *known = tuner->recall(tuner->user, key, &line);
    qsort(all, (size_t)n_all, sizeof *all, by_cycles);
    *taken = NULL;
    if (!known)
        return tuner->measure &&
               measure(p, s, key, all, n_all, lanes, model_filters, taken) >= 0;
    if (!strcmp(known, to_text(p->m->scratch, NULL))) return true;
    for (int i = 0; i < n_all && !*taken; i++)
        if (!strcmp(known, to_text(p->m->scratch, &all[i].w))) *taken = &all[i].w;
    if (!*taken) tune_unfit(p, s, line);
    return *taken != NULL;
}
