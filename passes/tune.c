/* The schedule of a contraction by measurement instead of by the cost model.
 *
 * Choices are of a kind: tiles of the contraction template (here), or fast filtering against the
 * template (tune_winograd.c). Of tiles, measured are the cost model's best candidates, and of the
 * first of them the variants that leave out what it added (parts of the reduction, prefetching, the
 * order of tiles). Each becomes a kernel as the model would get it, without its data. The winner is
 * written down as text,
 *
 *     vec_axis 3 lanes 16 n_vecs 2 rows 1 14 unroll 4 parts 1 row_tiles 1 rows_outer 0 prefetch 1
 *
 * under a key: a hash of the machine, of the kind and of the stage's plain loops, which say what is
 * computed and where operands lie, but not how. A text is accepted only if it names one of the
 * candidates of this stage, so that no cache file, however it came to be, can make a schedule that
 * does not fit. The time that is left is shared by the work of the stages that are still to
 * come. */
#include "passes/tune.h"

#include <math.h>
#include <string.h>

#include "ir/math.h"
#include "ir/support/map.h"
#include "passes/kernelize.h"
#include "passes/pass.h"

enum { MEASURED = 14, VARIED = 3, MOST_CHOICES = 64, ALL_CANDIDATES = 512 };
#define WORTH 0.97 /* of the time of the model's choice */

/* ---- schedules as text ----------------------------------------------------------------------- */

#define SCHEDULE_FIELDS                                                                            \
    FIELD("vec_axis", vec_axis)                                                                    \
    FIELD("lanes", lanes)                                                                          \
    FIELD("n_vecs", n_vecs)                                                                        \
    FIELD("panel", panel)                                                                          \
    FIELD("row_axis", row_axis[0])                                                                 \
    FIELD("row_axis_2", row_axis[1])                                                               \
    FIELD("rows", rows[0])                                                                         \
    FIELD("rows_2", rows[1])                                                                       \
    FIELD("unroll", unroll)                                                                        \
    FIELD("parts", parts)                                                                          \
    FIELD("row_tiles", row_tiles)                                                                  \
    FIELD("rows_outer", rows_outer)                                                                \
    FIELD("prefetch", prefetch)

static const char *to_text(Arena *a, const Schedule *s) {
    StrBuf b = {0};
#define FIELD(name, field) strbuf_printf(&b, "%s%s %d", b.n ? " " : "", name, (int)s->field);
    SCHEDULE_FIELDS
#undef FIELD
    const char *text = arena_strdup(a, strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

/* ---- choices --------------------------------------------------------------------------------- */

/* The candidates, then what leaves out of the first ones what the model added; best first, as far
 * as the model knows. The last ones up to max are candidates that are not worth measuring. */
static int list_choices(DefProgram *p, const Stage *s, const Schedule *axes, Schedule *out,
                        int n_plain, int max) {
    Schedule *all = arena_array(p->m->scratch, Schedule, ALL_CANDIDATES);
    int n_all = schedule_contract_candidates(p, s, p->m->target, axes, all, ALL_CANDIDATES), n = 0;
    if (n_all > ALL_CANDIDATES) n_all = ALL_CANDIDATES;
    if (n_plain > n_all) n_plain = n_all;
    for (int i = 0; i < n_plain && n < max; i++) out[n++] = all[i];
    for (int i = 0; i < n_all && n + 3 <= max; i++) {
        if (i >= VARIED && max <= MOST_CHOICES) break;
        Schedule without[3] = {all[i], all[i], all[i]};
        without[0].prefetch = false;
        without[1].rows_outer = false;
        without[2].parts = without[2].row_tiles = 1;
        bool differs[3] = {all[i].prefetch, all[i].rows_outer, all[i].parts > 1};
        for (int v = 0; v < 3; v++)
            if (differs[v]) out[n++] = without[v];
    }
    return n;
}

/* The choice that this text names; false when there is none. */
static bool find_choice(DefProgram *p, const Stage *s, const char *text, Schedule *sch) {
    Schedule *out = arena_array(p->m->scratch, Schedule, 4 * ALL_CANDIDATES);
    int n = list_choices(p, s, sch, out, ALL_CANDIDATES, 4 * ALL_CANDIDATES);
    for (int i = 0; i < n; i++) {
        if (strcmp(to_text(p->m->scratch, &out[i]), text)) continue;
        *sch = out[i];
        return true;
    }
    return false;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static uint64_t fnv(uint64_t h, const char *text) {
    for (; *text; text++) h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return h;
}

const char *tune_key(DefProgram *p, const Stage *s, const char *kind) {
    const Target *t = p->m->target;
    StrBuf text = {0};
    KBlock body = {0};
    KBuild b;
    kb_begin(&b, p->m->k, &body);
    stage_open_plain(p, s, &b);
    kernel_signature(kernel_extract(p->m->k, body).kernel, &text);
    uint64_t h = fnv(UINT64_C(0xcbf29ce484222325), t->name);
    h = fnv(h, t->cpu ? t->cpu : "");
    h = fnv(fnv(h, t->features ? t->features : ""), kind);
    h = fnv(h, strbuf_text(&text));
    strbuf_free(&text);
    return arena_printf(p->m->scratch, "%016llx", (unsigned long long)h);
}

/* "conv f32 [1, 256, 14, 14] over [256, 3, 3]" for who reads the cache. */
static const char *describe(Arena *a, const Stage *s) {
    StrBuf b = {0};
    int64_t n;
    strbuf_printf(&b, "%s [", dtype_info[s->out->dtype].name);
    for (int i = 0; i < s->out->rank; i++)
        strbuf_printf(&b, "%s%lld", i ? ", " : "",
                      k_is_int(s->out->dims[i], &n) ? (long long)n : -1LL);
    strbuf_add(&b, "] over [");
    for (int i = 0; i < s->n_red; i++)
        strbuf_printf(&b, "%s%lld", i ? ", " : "",
                      k_is_int(s->red_extent[i], &n) ? (long long)n : -1LL);
    strbuf_add(&b, "]");
    const char *text = arena_strdup(a, strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* The tensor of p, or of a program around it, that has this buffer. */
static const KTensor *tensor_of(const DefProgram *p, const KBuf *buf) {
    for (; p; p = p->parent)
        for (uint32_t i = p->tensors.n; i-- > 0;)
            if (p->tensors.at[i]->buf == buf) return p->tensors.at[i];
    return NULL;
}

bool tune_extract(DefProgram *p, KBlock body, const KTensor *cold, TuneKernel *out) {
    KCtx *k = p->m->k;
    KernelUse use = kernel_extract(k, body);
    use.kernel->name = "tuned";
    kernel_expand_math(k, use.kernel, p->m->target);
    *out = (TuneKernel){.kernel = use.kernel, .cold = use.kernel->n_params};
    out->n_elems = arena_array(p->m->scratch, int64_t, use.kernel->n_params + 1);
    for (uint32_t i = 0; i < use.kernel->n_params; i++) {
        const KTensor *t = tensor_of(p, use.bufs[i]);
        /* scratch is in no program */
        const KExpr *n = t ? tensor_n_elems(k, t) : use.bufs[i]->n_elems;
        if (!k_is_int(n, &out->n_elems[i])) return false;
        if (cold && t == cold) out->cold = i;
    }
    return use.kernel->n_scalars == 0;
}

bool tune_contract_kernel(DefProgram *p, const Stage *s, bool in_place, Schedule *sch,
                          TuneKernel *out) {
    KCtx *k = p->m->k;
    uint32_t n_tensors = p->tensors.n;
    KVar *var[MAX_RANK + MAX_RED];
    const KExpr *extent[MAX_RANK + MAX_RED], *index[MAX_RANK + MAX_RED];
    Stage copy = *s;
    KTensor *packed = NULL;
    copy.schedule = sch;
    if (!in_place) {
        int n;
        packed = packed_tensor(p, s, sch, var, &n, extent);
        if (!packed) return false;
        for (int i = 0; i < n; i++) index[i] = k_var(k, var[i]);
        copy.rhs = k_cast(k, s->rhs->dtype, k_at(k, packed, index, n));
    }
    KBlock body = {0};
    stage_open(p, &copy, &body);
    bool good = tune_extract(p, body, packed, out);
    p->tensors.n = n_tensors; /* the packed tensor was only for this */
    return good;
}

/* ---- measuring ------------------------------------------------------------------------------- */

/* The share of s in the work of all contractions from s on; equal ones are measured once. */
static double share_of_work(DefProgram *p, const Stage *s) {
    StrMap *seen = strmap_create(p->m->scratch);
    double own = schedule_stage_work(s), all = 0;
    for (const Stage *other = s; other; other = other->next) {
        const char *what = other->form == FORM_CONTRACT ? describe(p->m->scratch, other) : NULL;
        if (!what || strmap_get(seen, what)) continue;
        strmap_put(seen, what, (void *)other);
        all += schedule_stage_work(other);
    }
    return all > 0 ? own / all : 1;
}

int tune_measure(DefProgram *p, const Stage *s, const char *key, const TuneChoice *c, int n) {
    const Tuner *tuner = p->m->tuner;
    Arena *a = p->m->scratch;
    TuneKernel *kernels = arena_array(a, TuneKernel, n + 1);
    double *seconds = arena_array(a, double, n + 1);
    int best = 0;
    for (int i = 0; i < n; i++) kernels[i] = c[i].kernel;
    if (n < 2 || !tuner->measure(tuner->user, kernels, n, seconds, share_of_work(p, s))) return -1;
    for (int i = 1; i < n; i++)
        if (seconds[i] < seconds[best]) best = i;
    /* what is hardly better than the model's choice may only have been luckier */
    if (seconds[best] > WORTH * seconds[0]) best = 0;
    for (int i = 0; i < n && !isinf(seconds[i]); i++)
        pass_trace("choose_schedules", s->node, "tried %s: %.2f us", c[i].name, 1e6 * seconds[i]);
    pass_trace("choose_schedules", s->node, "measured %s %.2f us, the model's choice %.2f us",
               c[best].name, 1e6 * seconds[best], 1e6 * seconds[0]);
    tuner->keep(tuner->user, key, c[best].text, seconds[best], describe(a, s));
    return best;
}

void tune_unfit(DefProgram *p, const Stage *s, int line) {
    diag_error(p->m->diag, SRC_NOWHERE,
               "line %d of the tuning cache names a schedule that does not fit its kernel (%s)",
               line, describe(p->m->scratch, s));
}

static bool measure(DefProgram *p, Stage *s, bool in_place, const char *key, Schedule *sch) {
    Arena *a = p->m->scratch;
    Schedule *tiles = arena_array(a, Schedule, MOST_CHOICES);
    TuneChoice *choices = arena_array(a, TuneChoice, MOST_CHOICES);
    int n = list_choices(p, s, sch, tiles, MEASURED, MOST_CHOICES);
    for (int i = 0; i < n; i++) {
        choices[i].text = to_text(a, &tiles[i]);
        choices[i].name =
            arena_printf(a, "%s (model: %.0f cycles)", schedule_text(a, &tiles[i]),
                         schedule_contract_cycles(p, s, p->m->target, &tiles[i]));
        if (!tune_contract_kernel(p, s, in_place, &tiles[i], &choices[i].kernel)) return false;
    }
    int best = tune_measure(p, s, key, choices, n);
    if (best >= 0) *sch = tiles[best];
    return best >= 0;
}

bool tune_contract(DefProgram *p, Stage *s, bool in_place, Schedule *sch) {
    const Tuner *tuner = p->m->tuner;
    int line = 0;
    if (!tuner) return false;
    const char *key = tune_key(p, s, in_place ? " in place " : " packed ");
    const char *known = tuner->recall(tuner->user, key, &line);
    if (known && find_choice(p, s, known, sch)) return true;
    if (known) tune_unfit(p, s, line);
    return !known && tuner->measure && measure(p, s, in_place, key, sch);
}
