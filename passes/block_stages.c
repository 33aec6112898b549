/* block_stages: contractions and row-wise stages that hand rows to each other run in blocks.
 *
 * Before:  s[h,i,j] = sum_d q[h,i,d] * k[h,j,d];  m, e, z = its softmax
 *          o[h,i,d] = sum_j e[h,i,j] * v[h,j,d] / z[h,i]
 * After:   the same stages as one kernel: for h, for blocks of i { s; m; e; z; o } with s, m, e and
 *          z in memory for the rows of one block only
 *
 * A group begins with a contraction. Its axes but the vector axis are shared; a later stage joins
 * when it reads members at its own index of all of them. The last shared axis (the rows) is cut
 * into blocks. Stages between that read no member move in front of the group. Requires schedules.
 * Leaves Stage.blocks and KTensor.window; what does not pay stays apart. Not done: a cut of the
 * other axes (keys), stages before the first contraction, contractions on a matrix unit, maps
 * that turn memory around. */
#include <string.h>

#include "ir/scratch.h"
#include "passes/block_stages.h"
#include "passes/pass.h"

enum { SYMBOLIC_DIM = 512 /* what an unknown extent is taken for */ };

double group_extent(const KExpr *e) {
    int64_t n;
    return k_is_int(e, &n) ? (double)n : e->hi < SYMBOLIC_DIM ? (double)e->hi : SYMBOLIC_DIM;
}

static bool is_plain(const KTensor *t) {
    return t->layout.block <= 1 && !t->layout.permuted && !t->layout.has_halo;
}

int group_member_of(const Group *g, const KTensor *t) {
    return stages_find(g->stages, g->n, t);
}

/* ---- who joins ------------------------------------------------------------------------------- */

typedef struct MemberReads {
    const Group *g;
    const Stage *s;
    int8_t axis[MAX_RANK]; /* of s, for each shared axis; -1: not seen */
    bool any, ok;
} MemberReads;

static void note_member_read(const KExpr *e, void *user) {
    MemberReads *r = user;
    int m = e->op == KO_at ? group_member_of(r->g, e->u.tensor) : -1;
    if (m < 0) return;
    r->any = true;
    for (int a = 0; a < r->g->n_axes; a++) {
        int own = stage_axis_of(r->s, e->arg[r->g->axis[m][a]]);
        r->ok &= own >= 0 && (r->axis[a] < 0 || r->axis[a] == own);
        r->axis[a] = (int8_t)own;
    }
}

static MemberReads find_member_reads(const Group *g, const Stage *s) {
    MemberReads r = {.g = g, .s = s, .ok = true};
    memset(r.axis, -1, sizeof r.axis);
    stage_visit(g->k, s, note_member_read, &r);
    return r;
}

/* A tiled contraction joins when its rows are the shared rows and its vectors lie in no shared
 * axis; a whole group when its tiles have one row. */
static bool can_tile(const Group *g, const Stage *s, const int8_t *axis) {
    KVar *row = s->axis[axis[g->n_axes - 1]];
    if (!s->schedule) return g->is_whole;
    /* these have tiles of their own */
    if (s->schedule->matrix || s->schedule->winograd) return false;
    if (!g->is_whole && (!k_uses_var(g->k, s->lhs, row) || k_uses_var(g->k, s->rhs, row)))
        return false;
    for (int a = 0; a < g->n_axes; a++)
        if (axis[a] == s->schedule->vec_axis) return false;
    return !g->is_whole || s->schedule->rows[0] * s->schedule->rows[1] == 1;
}

/* Has t a reader that is a contraction? */
static bool feeds_contraction(const KTensor *t) {
    for (uint32_t u = 0; u < t->users.n; u++)
        if (t->users.at[u]->form == FORM_CONTRACT) return true;
    return false;
}

/* Does s, which reads no member, belong into a whole group: a copy like the first member? */
static bool is_source(const Group *g, const Stage *s) {
    const KTensor *first = g->stages[0]->out;
    return g->is_whole && s->form == FORM_MAP && s->out->rank == first->rank &&
           feeds_contraction(s->out);
}

/* Would a row-wise stage write a column for each row of the block, since its shared axis is what
 * walks memory? By itself it is tiles that turn memory around. */
static bool writes_columns(const Group *g, const Stage *s, const int8_t *axis) {
    int row = axis[g->n_axes - 1];
    if (s->schedule || g->is_whole) return false;
    for (int i = row + 1; i < s->out->rank; i++)
        if (!k_is_value(s->out->dims[i], 1)) return false;
    for (int i = 0; i < row; i++) {
        bool shared = k_is_value(s->out->dims[i], 1);
        for (int a = 0; a < g->n_axes; a++) shared |= axis[a] == i;
        if (!shared) return true;
    }
    return false;
}

static bool try_join(Group *g, Stage *s) {
    if (g->n == MAX_MEMBERS || !is_plain(s->out)) return false;
    if (s->form != FORM_MAP && s->form != FORM_REDUCE && s->form != FORM_CONTRACT) return false;
    MemberReads r = find_member_reads(g, s);
    if (!r.any && is_source(g, s)) memcpy(r.axis, g->axis[0], sizeof r.axis);
    if (!r.ok || (!r.any && !is_source(g, s))) return false;
    for (int a = 0; a < g->n_axes; a++) {
        if (s->out->dims[r.axis[a]] != g->extent[a]) return false;
        for (int b = 0; b < a; b++)
            if (r.axis[a] == r.axis[b]) return false;
    }
    if (s->form == FORM_CONTRACT && !can_tile(g, s, r.axis)) return false;
    if (writes_columns(g, s, r.axis)) return false;
    memcpy(g->axis[g->n], r.axis, sizeof r.axis);
    g->stages[g->n++] = s;
    return true;
}

static bool start_group(Group *g, DefProgram *p, Stage *s) {
    int row = s->schedule ? s->schedule->row_axis[1] : -1;
    *g = (Group){.p = p, .k = p->m->k};
    if (s->form != FORM_CONTRACT || row < 0 || s->blocks || !is_plain(s->out)) return false;
    for (int i = 0; i < s->out->rank; i++) {
        if (i == s->schedule->vec_axis || i == row || k_is_value(s->out->dims[i], 1)) continue;
        g->extent[g->n_axes] = s->out->dims[i];
        g->axis[0][g->n_axes++] = (int8_t)i;
    }
    g->extent[g->n_axes] = s->out->dims[row];
    g->axis[0][g->n_axes++] = (int8_t)row;
    g->stages[g->n++] = s;
    return can_tile(g, s, g->axis[0]);
}

/* A group that begins with a map that has to be in memory and that contractions read, and shares
 * its axes up to `last`: a decoder's keys, old and new, which one query then reads while they are
 * still in the processor's cache. */
static bool start_whole(Group *g, DefProgram *p, Stage *s, int last) {
    *g = (Group){.p = p, .k = p->m->k, .is_whole = true};
    if (s->form != FORM_MAP || s->blocks || s->is_alias || !s->out->dense_only) return false;
    if (!is_plain(s->out)) return false;
    if (!feeds_contraction(s->out) || k_is_value(s->out->dims[last], 1)) return false;
    for (int i = 0; i <= last; i++) {
        if (k_is_value(s->out->dims[i], 1)) continue;
        g->extent[g->n_axes] = s->out->dims[i];
        g->axis[0][g->n_axes++] = (int8_t)i;
    }
    g->stages[g->n++] = s;
    return true;
}

/* Members after the first, up to the first stage that needs one and cannot join. */
static void collect(Group *g) {
    int n_between = 0;
    for (Stage *s = g->stages[0]->next; s; s = s->next) {
        if (s->form == FORM_PROGRAM || s->form == FORM_REGION || s->blocks) return;
        if (!s->is_alias && try_join(g, s)) {
            g->n_between = n_between;
            continue;
        }
        if (stages_feed(g->p, g->stages, g->n, s) || n_between == MAX_BETWEEN) return;
        g->between[n_between++] = s;
    }
}

/* ---- the pass -------------------------------------------------------------------------------- */

static int count_slots(const Group *g, int64_t rows) {
    double work = 0;
    int64_t total = 1, dim;
    for (int m = 0; m < g->n; m++) work += schedule_stage_work(g->stages[m]);
    if (work < PARALLEL_GRAIN) return 1;
    for (int a = 0; a < g->n_axes; a++) {
        bool is_rows = a == g->n_axes - 1;
        if (!k_is_int(g->extent[a], &dim)) return MOST_SLOTS;
        total *= is_rows ? (dim + rows - 1) / rows : dim;
        if (total >= MOST_SLOTS) return MOST_SLOTS;
    }
    return (int)slots_for(total);
}

static void make_blocks(Group *g, int64_t rows) {
    DefProgram *p = g->p;
    Blocks *b = arena_new(p->arena, Blocks);
    b->n_axes = g->n_axes;
    memcpy(b->extent, g->extent, sizeof b->extent);
    b->rows = rows;
    b->n_slots = count_slots(g, rows);
    b->n = g->n;
    b->stages = arena_copy(p->arena, g->stages, sizeof *g->stages * (size_t)g->n);
    b->axis = arena_copy(p->arena, g->axis, sizeof *g->axis * (size_t)g->n);
    b->slot = b->first = k_int(g->k, 0);
    b->is_whole = g->is_whole;
    Cut cut = {.g = g};
    b->limit = g->is_whole ? NULL : group_find_limit(g, &cut);
    b->cut_axis = arena_copy(p->arena, cut.axis, sizeof cut.axis);
    b->cut_red = arena_copy(p->arena, cut.red, sizeof cut.red);
    for (int i = 0; i < g->n_between; i++) stage_move_before(p, g->between[i], g->stages[0]);
    group_set_windows(g, b);
    for (int m = 0; m < g->n; m++) {
        Stage *s = g->stages[m];
        s->blocks = b;
        if (s->form == FORM_CONTRACT && !g->is_whole)
            schedule_contract_rows(p->m->target, s->schedule, g->axis[m][g->n_axes - 1], rows);
        else if (s->schedule)
            schedule_contract_part(s->schedule);
    }
    pass_trace("block_stages", g->stages[0]->node, "%d stages in blocks of %d rows, %d slots", g->n,
               (int)rows, b->n_slots);
}

/* The group that begins with s: how many rows its blocks have and what it saves; false for none. */
static bool find_group(Group *g, DefProgram *p, Stage *s, int64_t *rows, double *saved) {
    if (!start_group(g, p, s)) return false;
    collect(g);
    if (g->n < 2) return false;
    *rows = group_choose_rows(g);
    *saved = *rows < 1 ? 0 : group_bytes_saved(g, *rows);
    return *saved > 0;
}

/* Would a group that begins with one of the later members, and perhaps shares more axes, save more?
 */
static bool is_best(const Group *g, double saved) {
    Group other;
    int64_t rows;
    double others;
    for (int m = 1; m < g->n; m++)
        if (find_group(&other, g->p, g->stages[m], &rows, &others) && others > saved) return false;
    return true;
}

static bool has_contraction(const Group *g) {
    for (int m = 0; m < g->n; m++)
        if (g->stages[m]->form == FORM_CONTRACT) return true;
    return false;
}

/* Has none of the contractions rows to cut? Blocks of rows are better. */
static bool must_be_whole(const Group *g) {
    Group other;
    int64_t rows;
    double saved;
    for (int m = 1; m < g->n; m++)
        if (find_group(&other, g->p, g->stages[m], &rows, &saved)) return false;
    return has_contraction(g);
}

/* The whole group that begins with s and saves most. */
static bool find_whole_group(Group *g, DefProgram *p, Stage *s) {
    Group other;
    double most = 0, saved;
    for (int last = s->out ? s->out->rank - 2 : -1; last >= 0; last--) {
        if (!start_whole(&other, p, s, last)) continue;
        collect(&other);
        if (other.n < 2 || (saved = group_bytes_saved(&other, 1)) <= most || !must_be_whole(&other))
            continue;
        most = saved;
        *g = other;
    }
    return most > 0;
}

static void block_program(DefProgram *p, void *user) {
    bool *changed = user;
    Group g;
    int64_t rows;
    double saved;
    for (Stage *s = p->first; s; s = s->next) {
        bool found = find_group(&g, p, s, &rows, &saved) && is_best(&g, saved);
        if (!found) {
            found = find_whole_group(&g, p, s);
            rows = 1;
        }
        if (!found || !pass_may_rewrite()) continue;
        pass_count_rewrite();
        make_blocks(&g, rows);
        s = g.stages[g.n - 1];
        *changed = true;
    }
}

bool pass_block_stages(Module *m) {
    bool changed = false;
    program_count_users(m->defs);
    program_visit(m->defs, block_program, &changed);
    return changed;
}
