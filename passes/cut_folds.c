/* cut_folds: folds of a whole tensor into one number, in parts that threads share.
 *
 * Before:  m = min over r < 128, q < 768 of x[r, q];  n = max over r, q of x[r, q]
 * After:   parts[r] = min over q of x[r, q];  parts_2[r] = max over q of x[r, q]
 *          m = min over r of parts[r];        n = max over r of parts_2[r]
 *
 * The parts of neighbouring folds stand together, so that group_stages makes one kernel of those
 * that fold one tensor, which then is read from far away once: its smallest and its largest
 * element, as DynamicQuantizeLinear wants them. A part is some thousand elements: the innermost
 * reduced axes, the outermost of them perhaps a divisor of its extent.
 *
 * Requires layouts. Takes reductions of known size, enough of it for threads, whose start value may
 * be folded in twice. Does not cut lengths that have no divisor of that size. */
#include "ir/schedule.h"
#include "passes/pass.h"

enum { LEAST_PART = 1024, MOST_PART = 8192, LEAST_WORK = 2 * PARALLEL_GRAIN };

/* Reduced axes [0, n_outer) count parts, and `of` steps of the next one, if it is cut. */
typedef struct Cut {
    int n_outer;
    int64_t steps, extent; /* steps: 1 where no axis is cut */
} Cut;

/* The greatest divisor of n up to most. */
static int64_t divisor_of(int64_t n, int64_t most) {
    int64_t d = most < n ? most : n;
    while (d > 1 && n % d) d--;
    return d;
}

static bool find_cut(const Stage *s, Cut *c) {
    int64_t inner = 1, n = 1;
    int at = s->n_red;
    *c = (Cut){.steps = 1};
    for (int i = 0; i < s->n_red; i++)
        if (!k_is_int(s->red_extent[i], &n) || n < 1) return false;
    while (at > 0 && k_is_int(s->red_extent[at - 1], &n) && inner * n <= MOST_PART) {
        inner *= n;
        at--;
    }
    c->n_outer = at;
    if (at == 0 || inner >= LEAST_PART) return at > 0;
    c->steps = divisor_of(n, MOST_PART / inner);
    c->extent = n;
    return c->steps * inner >= LEAST_PART;
}

static bool is_single(const KTensor *t) {
    for (int i = 0; i < t->rank; i++)
        if (!k_is_value(t->dims[i], 1)) return false;
    return true;
}

static bool can_cut(DefProgram *p, const Stage *s, Cut *c) {
    if (s->form != FORM_REDUCE || s->group || s->blocks || s->is_alias) return false;
    if (dtype_is_wide(s->acc->dtype) || !is_single(s->out) || !find_cut(s, c)) return false;
    bool twice = s->fold == KO_min || s->fold == KO_max || !fold_starts(p->m->k, s);
    return twice && schedule_stage_work(s) >= LEAST_WORK;
}

/* In front of which stage the parts of s may stand: of those that end the cuts before. */
static Stage *parts_place(DefProgram *p, Stage *s, Stage *const *ends, int n_ends) {
    Stage *at = s;
    while (n_ends-- > 0 && at->prev == ends[n_ends]) {
        if (expr_reads(p->m->k, s->body, at->prev->out)) break;
        at = at->prev;
    }
    return at;
}

static void cut_fold(DefProgram *p, Stage *s, Stage *at, const Cut *c) {
    KCtx *k = p->m->k;
    const KExpr *dims[MAX_RED + 1], *index[MAX_RED + 1], *by[MAX_RED];
    int n_parts = c->n_outer, rest = c->n_outer - (c->steps > 1);
    for (int i = 0; i < n_parts; i++) dims[i] = s->red_extent[i];
    if (c->steps > 1) dims[rest] = k_int(k, c->extent / c->steps);
    KTensor *t = program_add_tensor(p, "parts", s->acc->dtype, n_parts, dims);
    Stage *parts = program_add_stage(p, at, FORM_REDUCE, t, s->node);
    for (int i = rest; i < s->n_red; i++) {
        bool is_cut = c->steps > 1 && i == rest;
        if (!is_cut && i < n_parts) continue;
        const KExpr *extent = is_cut ? k_int(k, c->steps) : s->red_extent[i];
        parts->red[parts->n_red] =
            kvar_new(k, KV_AXIS, DT_I64, s->red[i]->name, 0, k_last_index(extent));
        parts->red_extent[parts->n_red] = extent;
        by[i] = k_var(k, parts->red[parts->n_red++]);
    }
    for (int i = 0; i < n_parts; i++) {
        const KExpr *axis = k_var(k, parts->axis[i]);
        if (c->steps > 1 && i == rest)
            by[i] = k_add(k, k_mul(k, axis, k_int(k, c->steps)), by[i]);
        else
            by[i] = axis;
    }
    parts->body = k_subst(k, s->body, s->red, by, s->n_red);
    parts->fold = s->fold;
    parts->init = s->init;
    parts->acc = kvar_new(k, KV_AXIS, s->acc->dtype, "acc", INT64_MIN, INT64_MAX);
    parts->finish = k_var(k, parts->acc);
    for (int i = 0; i < n_parts; i++) {
        s->red[i] = kvar_new(k, KV_AXIS, DT_I64, s->red[i]->name, 0, k_last_index(dims[i]));
        s->red_extent[i] = dims[i];
        index[i] = k_var(k, s->red[i]);
    }
    s->n_red = n_parts;
    s->body = k_at(k, t, index, n_parts);
}

static void cut_program(DefProgram *p, void *user) {
    enum { MAX_ENDS = 16 };
    Stage *ends[MAX_ENDS];
    int n_ends = 0;
    for (Stage *s = p->first; s; s = s->next) {
        Cut c;
        if (!can_cut(p, s, &c) || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        if (n_ends == MAX_ENDS) n_ends = 0;
        cut_fold(p, s, parts_place(p, s, ends, n_ends), &c);
        ends[n_ends++] = s;
        *(bool *)user = true;
        pass_trace("cut_folds", s->node, "parts along %d axes", c.n_outer);
    }
}

bool pass_cut_folds(Module *m) {
    bool changed = false;
    program_visit(m->defs, cut_program, &changed);
    if (changed) program_count_users(m->defs);
    return changed;
}
