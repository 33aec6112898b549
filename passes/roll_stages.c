/* roll_stages: stages that read each other's neighbouring rows run a few rows at a time.
 *
 * Before:  x[c,h,w] = expand
 *          y[c,h,w] = sum_k x[c, h+kx-1, w+ky-1] * ...
 *          z[c,h,w] = project of y
 * After:   the same stages as one kernel: for some rows h of z { the rows of x, then of y, that
 *          they need and that are not there yet; these rows of z }, x and y in windows that roll
 *
 * A stage joins when it reads the rows of members at places r*step + lo .. r*step + hi that follow
 * its own row r; what it reads along other axes is its own affair. How many rows of each member a
 * row of the last one needs is reckoned backwards from there. Stages between that read no member
 * move in front. Members that others read, too, keep all of their memory, and each of their rows
 * must be made once. Of all ways to divide the program into such groups the one that saves most is
 * taken. Requires layouts and schedules. Leaves Stage.blocks and KTensor.window. Not done: rows
 * that are tiled themselves (1-D convolutions), Winograd's and matrix tiles. Sums over all rows:
 * roll_sums.c. */
#include "passes/roll_stages.h"

#include <string.h>

#include "passes/pass.h"

/* ---- who joins ------------------------------------------------------------------------------- */

/* Known, or taken for something: of other sizes nobody can say whether windows fit the cache. */
static bool has_dims_to_weigh(const KTensor *t) {
    int64_t n;
    for (int i = 1; i < t->rank; i++)
        if (k_is_int(t->dims[i], &n) ? n < 1 : !k_is_guessed(t->dims[i])) return false;
    return true;
}

/* Can the rows along `axis` of s be made some at a time? */
static bool can_cut(const Stage *s, int axis) {
    const KTensor *t = s->out;
    const Schedule *sch = s->schedule;
    if (t->rank < 3 || axis < 1 || t->alias || s->is_alias || s->blocks || !has_dims_to_weigh(t))
        return false;
    if (t->layout.block > 1 && (t->layout.block_axis == axis || t->layout.block_axis == 0))
        return false;
    if (s->form == FORM_MAP) return !schedule_turns_memory(s->owner, s);
    /* a sum along lanes would be another one in a window */
    if (s->form == FORM_REDUCE) return t->layout.block > 1;
    if (s->form != FORM_CONTRACT || !sch || sch->winograd || sch->matrix) return false;
    return sch->row_axis[0] == axis && sch->row_axis[1] >= 0 && sch->vec_axis > 0;
}

typedef struct MemberReads {
    Roll *g;
    const Stage *s;
    int row; /* axis of s that walks the rows; -1: not seen */
    bool ok;
} MemberReads;

/* The axis of s that e depends on; -1 for none, -2 for several. */
static int only_axis(KCtx *k, const Stage *s, const KExpr *e) {
    int found = -1;
    for (int i = 0; i < s->out->rank; i++)
        if (k_uses_var(k, e, s->axis[i])) found = found == -1 ? i : -2;
    return found;
}

/* Does e, a read of member m, leave the row's axis and the batch to where they belong? */
static bool is_apart(const MemberReads *r, const KExpr *e, int m) {
    const Roll *g = r->g;
    for (int i = 0; i < e->u.tensor->rank; i++)
        if (i != g->row[m] && k_uses_var(g->k, e->arg[i], r->s->axis[r->row])) return false;
    return !g->has_batch || stage_axis_of(r->s, e->arg[0]) == 0;
}

static void note_member_read(const KExpr *e, void *user) {
    MemberReads *r = user;
    Roll *g = r->g;
    int m = e->op == KO_at ? stages_find(g->stages, g->n, e->u.tensor) : -1;
    const KExpr *base, *step;
    int64_t by;
    if (m < 0 || !r->ok) return;
    const KExpr *at = e->arg[g->row[m]];
    int axis = only_axis(g->k, r->s, at);
    r->ok = axis > 0 && (r->row < 0 || r->row == axis) && g->n_reads < MAX_ROLL_READS;
    if (!r->ok) return;
    r->row = axis;
    r->ok = is_apart(r, e, m) && k_linear_in(g->k, at, r->s->axis[axis], &base, &step) &&
            k_is_int(step, &by) && by > 0 && base->lo > -4096 && base->hi < 4096;
    if (r->ok) g->reads[g->n_reads++] = (RollRead){g->n, m, by, base->lo, base->hi};
}

static bool try_join(Roll *g, Stage *s) {
    MemberReads r = {.g = g, .s = s, .row = -1, .ok = g->n < MAX_ROLL && s->out != NULL};
    int n_reads = g->n_reads;
    if (!r.ok || s->n_outs ||
        (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT))
        return false;
    stage_visit(g->k, s, note_member_read, &r);
    bool joins =
        r.ok && r.row >= 0 && can_cut(s, r.row) && s->out->dims[0] == g->stages[0]->out->dims[0];
    if (!joins) {
        g->n_reads = n_reads;
        return false;
    }
    g->row[g->n] = (int8_t)r.row;
    g->stages[g->n++] = s;
    return true;
}

/* s and the stages behind it that can roll with it. */
static bool find_roll(Roll *g, DefProgram *p, Stage *s) {
    *g = (Roll){.p = p, .k = p->m->k, .n = 1};
    if (!s->out || s->n_outs || s->out->rank < 3) return false;
    int row = s->form == FORM_CONTRACT && s->schedule ? s->schedule->row_axis[0] : s->out->rank - 2;
    if (!can_cut(s, row)) return false;
    g->has_batch = !k_is_value(s->out->dims[0], 1);
    g->stages[0] = s;
    g->row[0] = (int8_t)row;
    int n_between = 0;
    for (s = s->next; s; s = s->next) {
        if (s->form == FORM_PROGRAM || s->form == FORM_REGION || s->blocks) break;
        g->n_between_at[g->n < MAX_ROLL ? g->n : 0] = n_between;
        if (!s->is_alias && try_join(g, s)) continue;
        /* what is written in place must not overtake those that read it before */
        bool moves = s->is_alias || (s->out && !s->out->alias);
        if (!moves || stages_feed(p, g->stages, g->n, s) || n_between == MAX_ROLL_BETWEEN) break;
        g->between[n_between++] = s;
    }
    return g->n > 1;
}

/* ---- which rows ------------------------------------------------------------------------------ */

/* The rows of member m that its readers among the plan's members need; false when it has none or
 * they do not keep pace. */
static bool span_of(const Roll *g, const RollPlan *plan, int m, RowSpan *span) {
    bool any = false;
    for (int i = 0; i < g->n_reads; i++) {
        const RollRead *r = &g->reads[i];
        if (r->of != m || r->reader >= plan->n) continue;
        const RowSpan *by = &plan->span[r->reader];
        RowSpan need = {r->step * by->scale, r->step * by->lo + r->lo,
                        r->step * (by->hi - 1) + r->hi + 1};
        if (any && need.scale != span->scale) return false;
        if (!any) *span = need;
        if (need.lo < span->lo) span->lo = need.lo;
        if (need.hi > span->hi) span->hi = need.hi;
        any = true;
    }
    return any;
}

/* Is each of member m's rows made once, and none left out? */
static bool is_complete(const Roll *g, const RollPlan *plan, int m) {
    const RowSpan *span = &plan->span[m];
    const KExpr *rows = g->stages[m]->out->dims[g->row[m]];
    const KExpr *last = g->stages[plan->n - 1]->out->dims[g->row[plan->n - 1]];
    const KExpr *made = k_mul(g->k, last, k_int(g->k, span->scale));
    const KExpr *left = k_sub(g->k, rows, made);
    return span->lo == span->hi && span->lo <= 0 && left->hi <= span->hi;
}

/* How the first n members would run together; false when they cannot or it does not pay. */
static bool make_plan(const Roll *g, int n, RollPlan *plan) {
    *plan = (RollPlan){.n = n};
    plan->span[n - 1] = (RowSpan){1, 0, 0};
    for (int m = n - 2; m >= 0; m--) {
        if (!span_of(g, plan, m, &plan->span[m])) return false;
        plan->has_window[m] = stages_own(g->p, g->stages, n, g->stages[m]->out);
        if (!plan->has_window[m] && !is_complete(g, plan, m)) return false;
    }
    return roll_weigh(g, plan);
}

/* ---- rewriting ------------------------------------------------------------------------------- */

static void set_window(const Roll *g, const RollPlan *plan, const Blocks *b, int m) {
    RowWindow *w = arena_new(g->p->arena, RowWindow);
    w->of = b;
    w->row_axis = g->row[m];
    w->fixed[0] = g->has_batch;
    w->ring = plan->ring[m];
    g->stages[m]->out->window = w;
}

static void make_roll(const Roll *g, const RollPlan *plan) {
    DefProgram *p = g->p;
    Blocks *b = arena_new(p->arena, Blocks);
    int n = plan->n, last = g->has_batch;
    Stage *end = g->stages[n - 1];
    b->n = n;
    b->rows = plan->rows;
    b->n_slots = plan->n_slots;
    b->n_axes = last + 1;
    b->extent[0] = end->out->dims[0];
    b->extent[last] = end->out->dims[g->row[n - 1]];
    b->stages = arena_copy(p->arena, g->stages, sizeof *g->stages * (size_t)n);
    b->span = arena_copy(p->arena, plan->span, sizeof plan->span);
    b->axis = (int8_t(*)[MAX_RANK])arena_array(p->arena, int8_t, n * MAX_RANK);
    b->slot = b->first = k_int(g->k, 0);
    for (int i = 0; i < g->n_between_at[n - 1]; i++)
        stage_move_before(p, g->between[i], g->stages[0]);
    for (int m = 0; m < n; m++) {
        Stage *s = g->stages[m];
        b->axis[m][last] = g->row[m];
        s->blocks = b;
        if (plan->has_window[m]) set_window(g, plan, b, m);
        if (s->form != FORM_CONTRACT) continue;
        s->schedule->rows[0] = 1;
        s->schedule->parts = s->schedule->row_tiles = s->schedule->strips = 1;
        s->schedule->prefetch = false;
    }
    pass_trace("roll_stages", end->node, "%d stages, %d rows at a time, %d slots, %.0f us saved", n,
               (int)b->rows, b->n_slots, plan->gain / 3000);
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* From one stage on: what is saved at most, and the group that begins there for that. */
typedef struct Choice {
    Stage *s;
    double saved;
    int n;        /* members; 0: none begins here */
    uint32_t end; /* the stage behind it */
} Choice;

static void choose_from(DefProgram *p, Choice *c, uint32_t at) {
    Roll g;
    RollPlan plan;
    c[at].saved = c[at + 1].saved;
    if (!find_roll(&g, p, c[at].s)) return;
    uint32_t end = at;
    for (int n = 2; n <= g.n; n++) {
        while (c[end].s != g.stages[n - 1]) end++;
        if (!make_plan(&g, n, &plan) || plan.gain + c[end + 1].saved <= c[at].saved) continue;
        c[at] = (Choice){c[at].s, plan.gain + c[end + 1].saved, n, end + 1};
    }
}

static void roll_program(DefProgram *p, void *user) {
    bool *changed = user;
    uint32_t n = 0, i = 0;
    RowSums *sums = arena_array(p->m->scratch, RowSums, MAX_ROW_SUMS);
    int n_sums = roll_cut_sums(p, sums, MAX_ROW_SUMS);
    for (const Stage *s = p->first; s; s = s->next) n++;
    Choice *c = arena_array(p->m->scratch, Choice, n + 1);
    for (Stage *s = p->first; s; s = s->next) c[i++].s = s;
    for (i = n; i-- > 0;) choose_from(p, c, i);
    for (i = 0; i < n; i = c[i].n ? c[i].end : i + 1) {
        Roll g;
        RollPlan plan;
        if (!c[i].n || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        BUG_IF(!find_roll(&g, p, c[i].s) || !make_plan(&g, c[i].n, &plan), "a plan that was made");
        make_roll(&g, &plan);
        *changed = true;
    }
    roll_join_sums(p, sums, n_sums);
}

bool pass_roll_stages(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, roll_program, &changed);
    return changed;
}
