/* One tile of the contraction template (schedule_contract.c): accumulators, the reduction, the
 * store.
 *
 *   acc := init, or the sums of the parts before
 *   for reduction axes           order of the stage; blocked axes split by their block
 *     prefetch                   a line of the next panel of a large right factor
 *     for rows, vecs (unrolled), lanes (vector)
 *       acc := fma(lhs, rhs, acc)      or run := .., and behind each run acc := acc + term(run)
 *   acc := acc + acc of the other chains
 *   sums := acc, or, in the last part,
 *   for rows, vecs (unrolled), lanes (vector)
 *     out := finish(acc)
 */
#include "ir/matrix.h"
#include "ir/schedule_contract.h"

static bool reads_blocked(const KTensor *t, int axis) {
    return t->layout.block > 1 && t->layout.block_axis == axis;
}

/* ---- the tile -------------------------------------------------------------------------------- */

/* Rows behind the last one are that one once more, which is not stored again. */
static const KExpr *row_index(Contract *c, int which, const KExpr *step) {
    KCtx *k = c->k;
    const KExpr *row = k_add(k, c->row_start[which], step), *last = c->last_row[which];
    if (!last) return row;
    c->inside = k_and(k, c->inside, k_le(k, row, last));
    return k_min(k, row, last);
}

void contract_bind_tile(Contract *c, Binding *bound, const KExpr *r0, const KExpr *r1,
                        const KExpr *in_tile) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    c->inside = k_bool(k, true);
    if (sch->row_axis[0] >= 0)
        binding_add(bound, c->s->axis[sch->row_axis[0]], row_index(c, 0, r0));
    if (sch->row_axis[1] >= 0)
        binding_add(bound, c->s->axis[sch->row_axis[1]], row_index(c, 1, r1));
    for (int i = 0; i < sch->row_axis[1]; i++) /* all of the rows' index goes into the inner axis */
        if (schedule_is_joined(sch, i)) binding_add(bound, c->s->axis[i], k_int(k, 0));
    binding_add(bound, c->s->axis[sch->vec_axis], k_add(k, c->vec_start, in_tile));
}

const KExpr *contract_tile_begin(Contract *c, Binding *bound) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    *bound = c->outer;
    KLoopMark mark = c->is_rolled ? LOOP_SERIAL : LOOP_UNROLL;
    const KExpr *r0 = kb_for(c->b, mark, "r", k_int(k, c->rows[0]));
    const KExpr *r1 = kb_for(c->b, mark, "r", k_int(k, c->rows[1]));
    const KExpr *v = kb_for(c->b, LOOP_UNROLL, "v", k_int(k, c->n_vecs));
    const KExpr *lane = kb_for(c->b, LOOP_VECTOR, "l", k_int(k, sch->lanes));
    const KExpr *first = k_mul(k, v, k_int(k, sch->lanes)), *in_tile = k_add(k, first, lane);
    c->vector = k_add(k, c->vec_start, first);
    c->lane = lane;
    contract_bind_tile(c, bound, r0, r1, in_tile);
    const KExpr *row = k_add(k, k_mul(k, r0, k_int(k, c->rows[1])), r1);
    return k_add(k, k_mul(k, row, k_int(k, c->n_vecs * sch->lanes)), in_tile);
}

void contract_tile_end(Contract *c) {
    for (int i = 0; i < 4; i++) kb_end(c->b);
}

typedef struct Within {
    const KVar *axis;
    const KExpr *inside; /* is the lane's element of the axis there? */
} Within;

/* A read that depends on the axis, only where that is. */
static const KExpr *add_inside(KCtx *k, const KExpr *at, void *user) {
    const Within *w = user;
    const KExpr *arg[MAX_RANK + 1];
    if (at->op != KO_at || !k_uses_var(k, at, w->axis)) return at;
    int n = at->u.tensor->rank;
    for (int i = 0; i < n; i++) arg[i] = at->arg[i];
    arg[n] = w->inside;
    return k_at(k, at->u.tensor, arg, n + 1);
}

/* e, whose reads are not to go beyond the extent of the vector axis, for the lanes bound. */
static const KExpr *read_within(Contract *c, const Binding *bound, const KExpr *e) {
    KCtx *k = c->k;
    int axis = c->sch->vec_axis;
    const KExpr *lane = k_subst(k, k_var(k, c->s->axis[axis]), bound->var, bound->by, bound->n);
    Within w = {c->s->axis[axis], k_lt(k, lane, c->s->out->dims[axis])};
    return k_rewrite(k, e, add_inside, &w);
}

const KExpr *contract_step_in_part(const Contract *c, const Binding *red) {
    KCtx *k = c->k;
    int64_t n;
    k_is_int(c->s->red_extent[0], &n);
    const KExpr *step = k_sub(k, red->by[0], k_mul(k, c->part, k_int(k, n / c->n_parts)));
    for (int r = 1; r < red->n; r++)
        step = k_add(k, k_mul(k, step, c->s->red_extent[r]), red->by[r]);
    return step;
}

/* The element of the right factor that this part has computed. */
static const KExpr *read_wide(const Contract *c, const Binding *red, const Binding *bound) {
    KCtx *k = c->k;
    const KVar *vec = c->s->axis[c->sch->vec_axis];
    const KExpr *at =
        k_mul(k, contract_step_in_part(c, red), k_int(k, c->sch->n_vecs * c->sch->lanes));
    for (int i = 0; i < bound->n; i++)
        if (bound->var[i] == vec) at = k_add(k, at, k_sub(k, bound->by[i], c->vec_start));
    return k_load(k, c->wide, at);
}

/* The left factor where the vector axis is at the first element of this group. */
static const KExpr *left_of_group(Contract *c, const Binding *bound, const KExpr *group) {
    KCtx *k = c->k;
    Binding left = *bound;
    int vec = c->sch->vec_axis;
    const KExpr *size = k_int(k, c->sch->group), *all = c->s->out->dims[vec];
    const KExpr *last = k_fdiv(k, k_sub(k, all, k_int(k, 1)), size);
    for (int i = 0; i < left.n; i++)
        if (left.var[i] == c->s->axis[vec]) left.by[i] = k_mul(k, k_min(k, group, last), size);
    return expr_open(c->p, k_subst(k, c->lhs, left.var, left.by, left.n));
}

/* The left factor of a vector in which groups end: lanes before the end of the first group read
 * what that does, and so on. */
static const KExpr *blend_groups(Contract *c, const Binding *bound) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    const KExpr *size = k_int(k, sch->group), *first = k_fdiv(k, c->vector, size), *all = NULL;
    int n = 1, period = schedule_group_period(sch);
    for (int64_t v = 0; v < period && v < sch->group; v++) {
        int here = schedule_groups_at(v * sch->lanes, sch->lanes, sch->group);
        if (here > n) n = here;
    }
    if (c->in_group) n = 1;
    while (n-- > 0) {
        const KExpr *group = k_add(k, first, k_int(k, n)), *read = left_of_group(c, bound, group);
        const KExpr *end = k_mul(k, k_add(k, group, k_int(k, 1)), size);
        const KExpr *is_in = k_lt(k, c->lane, k_sub(k, end, c->vector));
        all = all ? k_select(k, is_in, read, all) : read;
    }
    return all;
}

/* The left factor, for an element of the tile. */
static const KExpr *read_left(Contract *c, const Binding *bound) {
    Binding left = *bound;
    if (c->sch->blends) return blend_groups(c, bound);
    for (int i = 0; c->sch->group > 1 && i < left.n; i++) /* the same for all of the tile */
        if (left.var[i] == c->s->axis[c->sch->vec_axis]) left.by[i] = c->vec_start;
    return expr_open(c->p, k_subst(c->k, c->lhs, left.var, left.by, left.n));
}

/* old + the product at a step of the reduction. */
static const KExpr *multiply_add(Contract *c, const Binding *tile, const Binding *red,
                                 const KExpr *old) {
    KCtx *k = c->k;
    Binding bound = *tile;
    for (int i = 0; i < red->n; i++) binding_add(&bound, red->var[i], red->by[i]);
    const KExpr *lhs = read_left(c, &bound);
    bool masks = c->masked && c->sch->mask_right;
    const KExpr *right = masks ? read_within(c, &bound, c->s->rhs) : c->s->rhs;
    const KExpr *rhs =
        c->wide ? read_wide(c, red, &bound) : k_subst(k, right, bound.var, bound.by, bound.n);
    rhs = expr_open(c->p, rhs);
    return contract_step(c->p, c->s, old, lhs, rhs);
}

/* acc := fma(lhs, rhs, acc), for all taps of the axes that red does not bind. */
static void emit_multiply_add(Contract *c, const Binding *red) {
    KCtx *k = c->k;
    Binding bound;
    const KExpr *at = contract_tile_begin(c, &bound);
    if (c->chain) at = k_add(k, at, k_mul(k, c->chain, k_int(k, c->n_acc)));
    const KExpr *sum = k_load(k, c->acc, at);
    int64_t n = 1;
    bool is_near = red->n < c->s->n_red;
    if (is_near) k_is_int(c->s->red_extent[red->n], &n);
    for (int64_t tap = 0; tap < n; tap++) {
        Binding step = *red;
        if (is_near) binding_add(&step, c->s->red[red->n], k_int(k, tap));
        sum = multiply_add(c, &bound, &step, sum);
    }
    kb_store(c->b, c->acc, at, sum);
    contract_tile_end(c);
}

/* ---- the reduction --------------------------------------------------------------------------- */

typedef struct BlockScan {
    KCtx *k;
    const Stage *s;
    int *blocks;
} BlockScan;

/* The step of e as var * step, behind a whole number of blocks; 0 when it is something else. */
static int multiple_of(KCtx *k, const KExpr *e, KVar *var, int block) {
    const KExpr *base, *coeff;
    int64_t step;
    if (!k_uses_var(k, e, var) || !k_linear_in(k, e, var, &base, &coeff) || !k_is_int(coeff, &step))
        return 0;
    bool fits = k_is_value(k_fmod(k, base, k_int(k, block)), 0);
    return fits && step > 0 && step <= 8 ? (int)step : 0;
}

static void note_block(const KExpr *e, void *user) {
    BlockScan *scan = user;
    if (e->op != KO_at) return;
    for (int a = 0; a < e->u.tensor->rank; a++)
        for (int r = 0; r < scan->s->n_red; r++) {
            int block = e->u.tensor->layout.block;
            int step = reads_blocked(e->u.tensor, a)
                           ? multiple_of(scan->k, e->arg[a], scan->s->red[r], block)
                           : 0;
            if (step) scan->blocks[r] = block / step;
        }
}

int schedule_contract_blocks(KCtx *k, const Stage *s, int *blocks) {
    BlockScan scan = {k, s, blocks};
    int last = s->n_red - 1;
    for (int r = 0; r < s->n_red; r++) blocks[r] = 1;
    k_visit(k, s->lhs, note_block, &scan);
    k_visit(k, s->rhs, note_block, &scan);
    while (last > 0 && k_is_value(s->red_extent[last], 1)) last--;
    return last;
}

static void emit_reduction(Contract *c, int r, const Binding *red);
static void emit_run(Contract *c, const Binding *red);

/* Axis r at `at` and the axes behind it. */
static void emit_inner(Contract *c, int r, const Binding *red, const KExpr *at) {
    Binding next = *red;
    binding_add(&next, c->s->red[r], at);
    int n_guards = contract_open_guards(c, r, &next);
    if (c->s->run && r == 0)
        emit_run(c, &next);
    else
        emit_reduction(c, r + 1, &next);
    while (n_guards--) kb_end(c->b);
}

/* Opens the loop over copies of the innermost body, each of which has its chain. */
static const KExpr *emit_copies(Contract *c, const char *name, int64_t copies) {
    const KExpr *copy = kb_for(c->b, LOOP_UNROLL, name, k_int(c->k, copies));
    c->chain = c->n_chains > 1 ? copy : NULL;
    return copy;
}

/* A place of the left factor's reduction axis, in the block from `start` on: lines of the next tile
 * are asked for here, or where the innermost loop begins. */
static void open_place(Contract *c, int r, const Binding *red, const KExpr *start,
                       const KExpr *place, int64_t places) {
    Binding here = *red;
    c->left_start = start;
    c->left_place = place;
    c->left_places = places;
    if (r != c->copies_axis) return;
    binding_add(&here, c->s->red[r], start);
    contract_prefetch_left(c, &here);
    c->left_place = NULL;
}

/* Axis r from `start` on, n elements: the innermost loop in copies of its body. */
static void emit_span(Contract *c, int r, const Binding *red, const KExpr *start, int64_t n) {
    KCtx *k = c->k;
    const char *name = c->s->red[r]->name;
    int64_t copies = r == c->copies_axis && c->sch->unroll <= n ? c->sch->unroll : 1;
    bool is_channel = c->sch->permutes && r == c->s->n_red - 2 && !c->p->m->target->lookup;
    bool is_written_out = c->sch->all_taps || is_channel;
    KLoopMark mark = is_written_out ? LOOP_UNROLL : LOOP_SERIAL;
    const KExpr *i = kb_for(c->b, mark, name, k_int(k, n / copies));
    const KExpr *at = k_add(k, start, k_mul(k, i, k_int(k, copies)));
    bool asks = contract_prefetch(c, r, red, at, copies * contract_steps(c, r));
    c->has_asked |= asks;
    bool is_axis = c->left_axis < 0 || (r == c->left_axis && n == c->blocks[r]);
    bool is_place = c->left && is_axis && n / copies > 1;
    if (is_place) open_place(c, r, red, start, i, n / copies);
    if (copies > 1) at = k_add(k, at, emit_copies(c, name, copies));
    emit_inner(c, r, red, at);
    if (copies > 1) kb_end(c->b);
    if (is_place) c->left_place = NULL;
    kb_end(c->b);
    if (n % copies) {
        at = k_add(k, start, k_int(k, n / copies * copies));
        at = k_add(k, at, emit_copies(c, name, n % copies));
        emit_inner(c, r, red, at);
        kb_end(c->b);
    }
    c->chain = NULL;
    if (asks) c->has_asked = false;
}

/* Loops over reduction axes r, r+1, ...; `red` holds the axes bound so far. */
static void emit_reduction(Contract *c, int r, const Binding *red) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    int64_t n, block = r < s->n_red ? c->blocks[r] : 1;
    if (r == s->n_red - c->sch->near_taps) {
        emit_multiply_add(c, red);
        return;
    }
    if (c->left_place && r == c->copies_axis) contract_prefetch_left(c, red);
    if (!k_is_int(s->red_extent[r], &n)) {
        emit_inner(c, r, red, kb_for(c->b, LOOP_SERIAL, s->red[r]->name, s->red_extent[r]));
        kb_end(c->b);
        return;
    }
    const KExpr *start = k_int(k, 0);
    if (!r) {
        n /= c->n_parts;
        start = k_mul(k, c->part, k_int(k, n));
    }
    if (block <= 1) {
        emit_span(c, r, red, start, n);
        return;
    }
    if (n >= block) {
        const KExpr *i = kb_for(c->b, LOOP_SERIAL, s->red[r]->name, k_int(k, n / block));
        const KExpr *at = k_add(k, start, k_mul(k, i, k_int(k, block)));
        bool asks = contract_prefetch(c, r, red, at, block * contract_steps(c, r));
        c->has_asked |= asks;
        emit_span(c, r, red, at, block);
        if (asks) c->has_asked = false;
        kb_end(c->b);
    }
    if (n % block) emit_span(c, r, red, k_int(k, n / block * block), n % block);
}

/* A group of tiles on a matrix unit, where the template has a tile of vectors. */
static void emit_matrix(Contract *c) {
    const Schedule *sch = c->sch;
    MatrixGroup g = {.rows = {c->rows[0], c->rows[1]}, .n_vecs = c->n_vecs, .masked = c->masked};
    for (int i = 0; i < c->s->out->rank; i++) {
        for (int j = 0; j < c->outer.n; j++)
            if (c->outer.var[j] == c->s->axis[i]) g.at[i] = c->outer.by[j];
        for (int j = 0; j < 2; j++)
            if (sch->row_axis[j] == i) g.at[i] = c->row_start[j];
        if (sch->vec_axis == i) g.at[i] = c->vec_start;
    }
    matrix_open(c->p, c->s, sch, &g, c->b);
}

typedef struct Offset {
    const KExpr *acc, *sum; /* the one node that uses acc, if it is one; acc + table */
    int n;
} Offset;

static void note_offset(const KExpr *e, void *user) {
    Offset *o = user;
    for (int i = 0; i < e->n_args; i++)
        if (e->arg[i] == o->acc) {
            o->sum = e;
            o->n++;
        }
}

static const KExpr *drop_offset(KCtx *k, const KExpr *e, void *user) {
    const Offset *o = user;
    (void)k;
    return e == o->sum ? o->acc : e;
}

/* A sum to which finish adds a constant table (a bias) starts from the table. */
static void start_from_offset(Contract *c) {
    const Stage *s = c->s;
    Offset o = {k_var(c->k, s->acc), NULL, 0};
    c->init = s->init;
    c->finish = s->finish;
    k_visit(c->k, s->finish, note_offset, &o);
    if (o.n != 1 || o.sum->op != KO_add || !k_is_value(s->init, 0)) return;
    const KExpr *table = o.sum->arg[o.sum->arg[0] == o.acc];
    if (table->op != KO_at || !table->u.tensor->data || at_pred(table)) return;
    c->init = table;
    c->finish = k_rewrite(c->k, s->finish, drop_offset, &o);
}

/* What the accumulators of this tile start from. A table ends with the output's axis. */
static const KExpr *first_value(Contract *c, const Binding *bound) {
    const KExpr *e = c->masked ? read_within(c, bound, c->init) : c->init;
    return k_subst(c->k, e, bound->var, bound->by, bound->n);
}

/* acc := init, or the sums so far. */
static void emit_start(Contract *c, bool from_sums) {
    Binding bound;
    const KExpr *at = contract_tile_begin(c, &bound);
    const KExpr *value = from_sums ? k_load(c->k, c->sums, k_add(c->k, c->sums_at, at))
                                   : expr_open(c->p, first_value(c, &bound));
    kb_store(c->b, c->acc, at, value);
    contract_tile_end(c);
}

/* acc of chain `to` := it, and that of chain `from` where `add`; otherwise 0. */
static void emit_chain(Contract *c, int to, int from, bool add) {
    KCtx *k = c->k;
    Binding bound;
    const KExpr *at = contract_tile_begin(c, &bound), *here = k_add(k, at, k_int(k, to * c->n_acc));
    const KExpr *there = k_load(k, c->acc, k_add(k, at, k_int(k, from * c->n_acc)));
    kb_store(c->b, c->acc, here,
             add ? k_add(k, k_load(k, c->acc, here), there) : k_const(k, c->acc->dtype, 0));
    contract_tile_end(c);
}

/* Chain 0 := the sum of all, by halves. */
static void fold_chains(Contract *c) {
    for (int n = c->n_chains; n > 1; n = (n + 1) / 2)
        for (int i = 0; i < n / 2; i++) emit_chain(c, i, i + (n + 1) / 2, true);
}

/* One run: its sum in registers of its own, then the term of it. */
static void emit_run(Contract *c, const Binding *red) {
    KCtx *k = c->k;
    const Stage *s = c->s;
    KBuf *acc = c->acc;
    KBuf *run = kb_alloc(c->b, MEM_REG, s->run->dtype, "run", c->n_acc * c->n_chains);
    Binding bound;
    c->acc = run;
    const KExpr *at = contract_tile_begin(c, &bound);
    binding_add(&bound, red->var[0], red->by[0]);
    kb_store(c->b, run, at, expr_open(c->p, k_subst(k, s->run_init, bound.var, bound.by, bound.n)));
    contract_tile_end(c);
    for (int i = 1; i < c->n_chains; i++) emit_chain(c, i, i, false);
    emit_reduction(c, 1, red);
    fold_chains(c);
    c->acc = acc;
    at = contract_tile_begin(c, &bound);
    binding_add(&bound, red->var[0], red->by[0]);
    binding_add(&bound, s->run, k_load(k, run, at));
    const KExpr *term = expr_open(c->p, k_subst(k, s->term, bound.var, bound.by, bound.n));
    kb_store(c->b, acc, at, contract_term(c->p, k_load(k, acc, at), term));
    contract_tile_end(c);
}

/* The sums wait for the next part. */
static void emit_wait(Contract *c) {
    Binding bound;
    const KExpr *at = contract_tile_begin(c, &bound);
    kb_store(c->b, c->sums, k_add(c->k, c->sums_at, at), k_load(c->k, c->acc, at));
    contract_tile_end(c);
}

static void emit_tile(Contract *c) {
    KCtx *k = c->k;
    start_from_offset(c);
    if (c->sch->matrix) {
        emit_matrix(c);
        return;
    }
    int64_t rows = (int64_t)c->rows[0] * c->rows[1];
    Binding red = {.n = 0};
    c->n_acc = rows * c->n_vecs * c->sch->lanes;
    c->n_chains = schedule_chains(c->p->m->target, c->sch, rows, c->n_vecs);
    c->chain = NULL;
    int sums = c->s->run ? 1 : c->n_chains; /* runs have the chains */
    c->acc = kb_alloc(c->b, MEM_REG, c->s->acc->dtype, "acc", c->n_acc * sums);
    contract_choose_prefetch(c);
    contract_choose_left(c);
    contract_find_guards(c);
    if (c->sums) {
        kb_if(c->b, k_lt(k, k_int(k, 0), c->part));
        emit_start(c, true);
        kb_else(c->b);
        emit_start(c, false);
        kb_end(c->b);
    } else {
        emit_start(c, false);
    }
    for (int i = 1; i < sums; i++) emit_chain(c, i, i, false);
    emit_reduction(c, 0, &red);
    if (sums > 1) fold_chains(c);
    if (c->sums) {
        kb_if(c->b, k_lt(k, c->part, k_int(k, c->n_parts - 1)));
        emit_wait(c);
        kb_else(c->b);
    }
    contract_store(c);
    if (c->fills_halo) contract_fill_halo(c);
    if (c->sums) kb_end(c->b);
}

/* Of tiles of one vector those that lie inside of a group have no choice to make in their lanes. */
void contract_tile(Contract *c) {
    KCtx *k = c->k;
    const Schedule *sch = c->sch;
    c->in_group = false;
    bool is_open = sch->blends && c->n_vecs == 1 && sch->n_vecs == 1 && sch->group > sch->lanes;
    if (is_open) {
        const KExpr *size = k_int(k, sch->group), *end = k_int(k, sch->group - sch->lanes);
        kb_if(c->b, k_le(k, k_fmod(k, c->vec_start, size), end));
        c->in_group = true;
        emit_tile(c);
        kb_else(c->b);
        c->in_group = false;
    }
    emit_tile(c);
    if (is_open) kb_end(c->b);
}

Contract contract_begin(DefProgram *p, const Stage *s, const Schedule *sch, KBuild *b) {
    KCtx *k = p->m->k;
    Contract c = {.p = p, .k = k, .b = b, .s = s, .sch = sch, .part = k_int(k, 0)};
    c.n_parts = sch->parts > 1 ? sch->parts : 1;
    c.row_tile = c.part;
    c.n_row_tiles = k_int(k, 1);
    c.copies_axis = schedule_contract_blocks(k, s, c.blocks);
    start_from_offset(&c);
    return c;
}

void schedule_open_tile(DefProgram *p, const Stage *s, const Schedule *sch, const KExpr *const *at,
                        const KExpr *which, KBuild *b) {
    Contract c = contract_begin(p, s, sch, b);
    c.n_vecs = sch->n_vecs;
    c.n_parts = 1;
    c.vec_start = at[sch->vec_axis];
    for (int r = 0; r < 2; r++) c.rows[r] = sch->rows[r];
    c.row_tile = which;
    c.n_row_tiles = k_int(c.k, sch->row_tiles);
    for (int i = 0; i < s->out->rank; i++) {
        bool is_row = false;
        for (int r = 0; r < 2; r++) {
            if (sch->row_axis[r] != i) continue;
            c.row_start[r] = at[i];
            is_row = true;
        }
        if (!is_row && i != sch->vec_axis) binding_add(&c.outer, s->axis[i], at[i]);
    }
    contract_tile(&c);
}
