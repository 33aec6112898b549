/* block_stages: contractions and row-wise stages that hand rows to each other run in blocks.
 *
 * Before:  s[h,i,j] = sum_d q[h,i,d] * k[h,j,d];  m, e, z = its softmax;  o[h,i,d] = sum_j
 * e[h,i,j] * v[h,j,d] / z[h,i]
 * After:   the same stages as one kernel: for h, for blocks of i { s; m; e; z; o } with s, m, e and
 * z in memory for the rows of one block only
 *
 * A group begins with a contraction. Its axes but the vector axis are shared; a later stage joins
 * when it reads members at its own index of all of them. The last shared axis (the rows) is cut
 * into blocks. Stages between that read no member move in front of the group. Requires schedules.
 * Leaves Stage.blocks and KTensor.window; what does not pay stays apart. Not done: a cut of the
 * other axes (keys), stages before the first contraction, contractions on a matrix unit. */
#include <math.h>
#include <string.h>

#include "ir/schedule.h"
#include "ir/scratch.h"
#include "passes/pass.h"

enum {
    MAX_MEMBERS = 32,
    MAX_BETWEEN = 16,  /* stages between members that may move */
    MOST_ROWS = 64,    /* of a block */
    LEAST_ROWS = 28,   /* fewer read the other factors too often */
    LEAST_BLOCKS = 4,  /* fewer leave threads without work, where there is much */
    SYMBOLIC_DIM = 512 /* what an unknown extent is taken for */
};

typedef struct Group {
    DefProgram *p;
    KCtx *k;
    bool is_whole; /* see Blocks */
    int n, n_axes, n_between;
    const KExpr *extent[MAX_RANK];
    Stage *stages[MAX_MEMBERS];
    int8_t axis[MAX_MEMBERS][MAX_RANK];
    Stage *between[MAX_BETWEEN];
} Group;

static double extent_estimate(const KExpr *e) {
    int64_t n;
    return k_is_int(e, &n) ? (double)n : e->hi < SYMBOLIC_DIM ? (double)e->hi : SYMBOLIC_DIM;
}

static bool is_plain(const KTensor *t) {
    return t->layout.block <= 1 && !t->layout.permuted && !t->layout.has_halo;
}

static int member_of(const Group *g, const KTensor *t) {
    for (int m = 0; m < g->n; m++)
        if (g->stages[m]->out == t) return m;
    return -1;
}

/* ---- who joins --------------------------------------------------------------------------------
 */

typedef struct MemberReads {
    const Group *g;
    const Stage *s;
    int8_t axis[MAX_RANK]; /* of s, for each shared axis; -1: not seen */
    bool any, ok;
} MemberReads;

static int own_axis(const Stage *s, const KExpr *e) {
    for (int i = 0; e->op == KO_var && i < s->out->rank; i++)
        if (e->u.var == s->axis[i]) return i;
    return -1;
}

static void note_member_read(const KExpr *e, void *user) {
    MemberReads *r = user;
    int m = e->op == KO_at ? member_of(r->g, e->u.tensor) : -1;
    if (m < 0) return;
    r->any = true;
    for (int a = 0; a < r->g->n_axes; a++) {
        int own = own_axis(r->s, e->arg[r->g->axis[m][a]]);
        r->ok &= own >= 0 && (r->axis[a] < 0 || r->axis[a] == own);
        r->axis[a] = (int8_t)own;
    }
}

static MemberReads find_member_reads(const Group *g, const Stage *s) {
    MemberReads r = {.g = g, .s = s, .ok = true};
    const KExpr *parts[] = {s->body, s->lhs, s->rhs, s->finish};
    memset(r.axis, -1, sizeof r.axis);
    for (int i = 0; i < 4; i++)
        if (parts[i]) k_visit(g->k, parts[i], note_member_read, &r);
    return r;
}

static bool reads_member(const Group *g, const Stage *s) {
    KTensor *read[256];
    int n = stage_reads(g->p, s, read, 256);
    for (int i = 0; i < n; i++) {
        const KTensor *t = read[i];
        for (; t; t = t->alias)
            if (member_of(g, t) >= 0) return true;
    }
    return false;
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
        if (reads_member(g, s) || n_between == MAX_BETWEEN) return;
        g->between[n_between++] = s;
    }
}

/* ---- windows ----------------------------------------------------------------------------------
 */

/* Does another tensor lie in t's bytes? */
static bool has_aliases(const DefProgram *p, const KTensor *t) {
    for (uint32_t i = 0; i < p->tensors.n; i++)
        if (p->tensors.at[i]->alias == t) return true;
    return false;
}

static bool is_private(const Group *g, const KTensor *t) {
    if (t->dense_only || t->alias || t->n_users != t->users.n || has_aliases(g->p, t)) return false;
    for (uint32_t u = 0; u < t->users.n; u++)
        if (member_of(g, t->users.at[u]->out) < 0) return false;
    return t->users.n > 0;
}

/* Bytes of one row of member m's tensor, at one index of the shared axes. */
static double row_bytes(const Group *g, int m) {
    const KTensor *t = g->stages[m]->out;
    double n = dtype_bytes(t->dtype);
    for (int i = 0; i < t->rank; i++) n *= extent_estimate(t->dims[i]);
    for (int a = 0; a < g->n_axes; a++) n /= extent_estimate(g->extent[a]);
    return n;
}

typedef struct InPlace {
    const Stage *s;
    const KTensor *t;
    bool ok;
} InPlace;

static void note_in_place(const KExpr *e, void *user) {
    InPlace *r = user;
    if (e->op != KO_at || e->u.tensor != r->t) return;
    for (int i = 0; i < r->t->rank; i++)
        r->ok &= own_axis(r->s, e->arg[i]) == i ||
                 (k_is_value(e->arg[i], 0) && k_is_value(r->t->dims[i], 1));
}

/* May member m, a map, write over member of's tensor: is it the last that reads it, each element
 * for its own? */
static bool can_replace(const Group *g, int m, int of) {
    const Stage *s = g->stages[m];
    const KTensor *t = g->stages[of]->out, *out = s->out;
    InPlace r = {s, t, s->form == FORM_MAP && t->rank == out->rank};
    if (!r.ok || !is_private(g, t) || !is_private(g, out) || t->dtype != out->dtype) return false;
    if (memcmp(g->axis[m], g->axis[of], (size_t)g->n_axes)) return false;
    for (int i = 0; i < t->rank; i++) r.ok &= t->dims[i] == out->dims[i];
    for (uint32_t u = 0; u < t->users.n; u++) r.ok &= member_of(g, t->users.at[u]->out) <= m;
    k_visit(g->k, s->body, note_in_place, &r);
    return r.ok;
}

/* Which member's memory each member's tensor takes over; -1: it has its own, or no window. */
static void find_replaced(const Group *g, int8_t *replaced) {
    for (int m = 0; m < g->n; m++) {
        replaced[m] = -1;
        for (int of = 0; of < m && replaced[m] < 0; of++) {
            bool taken = false;
            for (int other = 0; other < m; other++) taken |= replaced[other] == of;
            if (!taken && can_replace(g, m, of)) replaced[m] = (int8_t)of;
        }
    }
}

static void set_windows(const Group *g, const Blocks *blocks) {
    int8_t replaced[MAX_MEMBERS];
    find_replaced(g, replaced);
    for (int m = 0; m < g->n; m++) {
        KTensor *t = g->stages[m]->out;
        if (!is_private(g, t)) continue;
        RowWindow *w = arena_new(g->p->arena, RowWindow);
        w->of = blocks;
        w->row_axis = g->is_whole ? -1 : g->axis[m][g->n_axes - 1];
        for (int a = 0; a < g->n_axes; a++)
            if (g->axis[m][a] != w->row_axis) w->fixed[g->axis[m][a]] = true;
        t->window = w;
    }
    for (int m = 0; m < g->n; m++)
        if (replaced[m] >= 0) g->stages[m]->out->alias = g->stages[replaced[m]]->out;
}

/* ---- causal masks -----------------------------------------------------------------------------
 *
 *     s[i,j] = j <= i ? ... : -inf;  m[i] = max_j s[i,j];  e[i,j] = exp(s[i,j] - m[i])
 *     z[i] = sum_j e[i,j];  o[i,d] = sum_j e[i,j] * v[j,d]
 *
 * From some j on, which depends on the row, s is -inf and e is 0: the folds need not see them. */

typedef struct Cut {
    const Group *g;
    double fill[MAX_MEMBERS]; /* what a member's tensor holds beyond the limit, where axis >= 0 */
    int8_t axis[MAX_MEMBERS], red[MAX_MEMBERS];
} Cut;

typedef struct CutRead {
    const Cut *cut;
    const Stage *s;
    int m, axis, red; /* how s indexes the axis that is cut: its own axis or a reduction's */
    int from;         /* the member read */
    bool ok;
} CutRead;

static void note_cut_read(const KExpr *e, void *user) {
    CutRead *r = user;
    int of = e->op == KO_at ? member_of(r->cut->g, e->u.tensor) : -1;
    if (of < 0 || r->cut->axis[of] < 0) return;
    const KExpr *at = e->arg[r->cut->axis[of]];
    int own = own_axis(r->s, at), red = -1;
    for (int i = 0; i < r->s->n_red; i++)
        if (at->op == KO_var && at->u.var == r->s->red[i]) red = i;
    r->ok &= (own >= 0 || red >= 0) && !at_pred(e) && (r->from < 0 || r->from == of) &&
             (r->axis < 0 || r->axis == own) && (r->red < 0 || r->red == red);
    r->from = of;
    r->axis = own;
    r->red = red;
}

static bool is_number(const KExpr *e, double value) {
    return e->op == KO_const_f && e->u.f == value;
}

/* Is it a read of member m? */
static bool is_read_of(const Cut *c, const KExpr *e, int m) {
    return e->op == KO_at && e->u.tensor == c->g->stages[m]->out;
}

/* What a map gives for the fill of the member that it reads. */
static bool map_fill(const Cut *c, const Stage *s, int from, double *fill) {
    const KExpr *e = s->body;
    bool of_power = e->op == KO_exp && e->arg[0]->op == KO_sub;
    *fill = 0;
    if (of_power && is_read_of(c, e->arg[0]->arg[0], from))
        return c->fill[from] == -__builtin_inf(); /* exp(-inf - m); with m = -inf all is NaN */
    return e->op == KO_div && is_read_of(c, e->arg[0], from) && c->fill[from] == 0;
}

/* Does the fold need none of what lies beyond the limit? */
static bool fold_ignores(const Cut *c, const Stage *s, int from) {
    if (s->form == FORM_CONTRACT)
        return (is_read_of(c, s->lhs, from) || is_read_of(c, s->rhs, from)) && c->fill[from] == 0;
    if (!is_read_of(c, s->body, from)) return false;
    return s->fold == KO_max ? c->fill[from] == -__builtin_inf()
                             : s->fold == KO_add && c->fill[from] == 0;
}

static bool cut_member(Cut *c, int m) {
    const Stage *s = c->g->stages[m];
    CutRead r = {.cut = c, .s = s, .m = m, .axis = -1, .red = -1, .from = -1, .ok = true};
    const KExpr *parts[] = {s->body, s->lhs, s->rhs, s->finish};
    c->axis[m] = c->red[m] = -1;
    for (int i = 0; i < 4; i++)
        if (parts[i]) k_visit(c->g->k, parts[i], note_cut_read, &r);
    if (!r.ok || r.from < 0) return r.ok;
    c->axis[m] = (int8_t)r.axis;
    c->red[m] = (int8_t)r.red;
    if (r.red >= 0) return s->form != FORM_MAP && fold_ignores(c, s, r.from);
    return s->form == FORM_MAP && is_private(c->g, s->out) && map_fill(c, s, r.from, &c->fill[m]);
}

/* The bound of j <= b or j < b + 1 among the conjuncts of e, exclusive; NULL when there is none. */
static const KExpr *upper_limit(KCtx *k, const KExpr *e, const KVar *j) {
    if (e->op == KO_and) {
        const KExpr *a = upper_limit(k, e->arg[0], j);
        return a ? a : upper_limit(k, e->arg[1], j);
    }
    bool is_bound = (e->op == KO_lt || e->op == KO_le) && e->arg[0]->dtype == DT_I64 &&
                    e->arg[0]->op == KO_var && e->arg[0]->u.var == j &&
                    !k_uses_var(k, e->arg[1], j);
    if (!is_bound) return NULL;
    return e->op == KO_le ? k_add(k, e->arg[1], k_int(k, 1)) : e->arg[1];
}

static void note_memory(const KExpr *e, void *user) {
    if (e->op == KO_at || e->op == KO_load) *(bool *)user = true;
}

/* How many elements of the first member's vector axis count at a row, if that grows with the row
 * and all members allow for it; NULL: all. Fills the axes to cut. */
static const KExpr *find_limit(const Group *g, Cut *c) {
    const Stage *s = g->stages[0];
    const KExpr *e = s->finish, *base, *step;
    int64_t by;
    bool reads = false;
    *c = (Cut){.g = g};
    if (e->op != KO_select || !is_number(e->arg[2], -__builtin_inf()) || !is_private(g, s->out))
        return NULL;
    const KExpr *limit = upper_limit(g->k, e->arg[0], s->axis[s->schedule->vec_axis]);
    if (!limit) return NULL;
    k_visit(g->k, limit, note_memory, &reads);
    KVar *row = s->axis[g->axis[0][g->n_axes - 1]];
    if (reads || !k_linear_in(g->k, limit, row, &base, &step) || !k_is_int(step, &by) || by < 0)
        return NULL;
    c->axis[0] = (int8_t)s->schedule->vec_axis;
    c->red[0] = -1;
    c->fill[0] = -__builtin_inf();
    for (int m = 1; m < g->n; m++)
        if (!cut_member(c, m)) return NULL;
    return limit;
}

/* ---- how many rows, and whether ---------------------------------------------------------------
 */

/* Bytes of a contraction's other factor that every block reads again. */
static double panel_bytes(const Group *g, int m) {
    const Stage *s = g->stages[m];
    double n = dtype_bytes(s->rhs->dtype);
    for (int i = 0; i < s->out->rank; i++) {
        bool shared = false;
        for (int a = 0; a < g->n_axes; a++) shared |= g->axis[m][a] == i;
        if (!shared && k_uses_var(g->k, s->rhs, s->axis[i])) n *= extent_estimate(s->out->dims[i]);
    }
    for (int r = 0; r < s->n_red; r++)
        if (k_uses_var(g->k, s->rhs, s->red[r])) n *= extent_estimate(s->red_extent[r]);
    return n;
}

/* How many such factors there are: a head's own keys, or weights that all indices share. */
static double n_panels(const Group *g, int m) {
    double n = 1;
    for (int a = 0; a + 1 < g->n_axes; a++)
        if (k_uses_var(g->k, g->stages[m]->rhs, g->stages[m]->axis[g->axis[m][a]]))
            n *= extent_estimate(g->extent[a]);
    return n;
}

/* Model cycles of all tiles, when rows are cut into blocks of `rows`. */
static double tiles_cost(const Group *g, int64_t rows) {
    double cost = 0, n = extent_estimate(g->extent[g->n_axes - 1]);
    int64_t full = (int64_t)n / rows, rest = (int64_t)n % rows;
    for (int m = 0; m < g->n; m++) {
        Stage *s = g->stages[m];
        if (s->form != FORM_CONTRACT) continue;
        Schedule sch = *s->schedule;
        int row = g->axis[m][g->n_axes - 1];
        double columns = extent_estimate(s->out->dims[sch.vec_axis]), depth = 1;
        for (int r = 0; r < s->n_red; r++) depth *= extent_estimate(s->red_extent[r]);
        double one = schedule_contract_rows(g->p->m->target, &sch, row, rows) * (double)full;
        if (rest) one += schedule_contract_rows(g->p->m->target, &sch, row, rest);
        cost += one * depth * (columns / (sch.n_vecs * sch.lanes));
    }
    return cost;
}

static double outer_indices(const Group *g) {
    double n = 1;
    for (int a = 0; a + 1 < g->n_axes; a++) n *= extent_estimate(g->extent[a]);
    return n;
}

/* As many rows as half of the L2 cache has room for, a little fewer where tiles then fit. */
static int64_t choose_rows(const Group *g) {
    double bytes = 0, best = 1e300, n = extent_estimate(g->extent[g->n_axes - 1]);
    double outer = outer_indices(g);
    int8_t replaced[MAX_MEMBERS];
    find_replaced(g, replaced);
    for (int m = 0; m < g->n; m++)
        if (is_private(g, g->stages[m]->out) && replaced[m] < 0) bytes += row_bytes(g, m);
    double room = g->p->m->target->l2_bytes / 2.0 / (bytes < 1 ? 1 : bytes);
    int64_t most = room > MOST_ROWS ? MOST_ROWS : room < LEAST_ROWS ? LEAST_ROWS : (int64_t)room;
    if ((double)most > n) most = (int64_t)n;
    if (outer * ceil(n / (double)most) < MOST_SLOTS) {
        int64_t fewer = (int64_t)ceil(outer * n / MOST_SLOTS);
        most = most < LEAST_ROWS || fewer > most ? most : fewer > LEAST_ROWS ? fewer : LEAST_ROWS;
    }
    int64_t rows = most;
    for (int64_t r = most; r >= 1 && r > most / 2; r--) {
        double cost = tiles_cost(g, r);
        if (cost >= best * 0.99) continue;
        best = cost;
        rows = r;
    }
    return rows;
}

/* Of a tensor that others need, too: what members read of it while it is in the cache. */
static double bytes_read_again(const Group *g, int m) {
    const KTensor *t = g->stages[m]->out;
    double row = row_bytes(g, m), all = row * outer_indices(g), cache = g->p->m->target->l2_bytes;
    int n_readers = 0;
    for (uint32_t u = 0; u < t->users.n; u++) n_readers += member_of(g, t->users.at[u]->out) >= 0;
    all *= extent_estimate(g->extent[g->n_axes - 1]);
    return row > cache / 2 || all < cache ? 0 : all * n_readers;
}

/* Does e, of member m, depend on the last shared axis? Then it is another in each block. */
static bool uses_shared(const Group *g, int m, const KExpr *e) {
    return k_uses_var(g->k, e, g->stages[m]->axis[g->axis[m][g->n_axes - 1]]);
}

/* Bytes that need not go through memory, less those that are read again. Nothing where the blocks
 * would be too few for threads. */
static double bytes_saved(const Group *g, int64_t rows) {
    double saved = 0, again = 0, work = 0, n = extent_estimate(g->extent[g->n_axes - 1]);
    double n_blocks = ceil(n / (double)rows), outer = outer_indices(g);
    for (int m = 0; m < g->n; m++) work += schedule_stage_work(g->stages[m]);
    if (n_blocks * outer < LEAST_BLOCKS && work > MOST_SLOTS * PARALLEL_GRAIN) return 0;
    for (int m = 0; m < g->n; m++) {
        const KTensor *t = g->stages[m]->out;
        if (is_private(g, t))
            saved += row_bytes(g, m) * n * outer * (1 + t->users.n);
        else if (g->is_whole)
            saved += bytes_read_again(g, m);
        const Stage *s = g->stages[m];
        if (s->form != FORM_CONTRACT || uses_shared(g, m, s->rhs)) continue;
        double panel = panel_bytes(g, m);
        if (panel > g->p->m->target->l2_bytes / 4.0)
            again += panel * (n_blocks * outer - n_panels(g, m));
    }
    return saved - again;
}

/* ---- the pass ---------------------------------------------------------------------------------
 */

static void move_before(DefProgram *p, Stage *s, Stage *at) {
    stage_remove(p, s);
    s->prev = at->prev;
    s->next = at;
    if (at->prev)
        at->prev->next = s;
    else
        p->first = s;
    at->prev = s;
}

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
    b->limit = g->is_whole ? NULL : find_limit(g, &cut);
    b->cut_axis = arena_copy(p->arena, cut.axis, sizeof cut.axis);
    b->cut_red = arena_copy(p->arena, cut.red, sizeof cut.red);
    for (int i = 0; i < g->n_between; i++) move_before(p, g->between[i], g->stages[0]);
    set_windows(g, b);
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
    *rows = choose_rows(g);
    *saved = *rows < 1 ? 0 : bytes_saved(g, *rows);
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
        if (other.n < 2 || (saved = bytes_saved(&other, 1)) <= most || !must_be_whole(&other))
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
