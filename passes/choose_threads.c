/* choose_threads: which kernels are worth more than one thread.
 *
 * Before:  for row in 0..n parallel { 300 cycles of work }      for tile in 0..24 parallel { ... }
 * After:   for row in 0..n parallel if 640000 <= n*19200 { .. } for tile in 0..24 { ... }
 *
 * Schedules make a loop parallel where its iterations are independent and the work seems enough.
 * Here the loops are there and can be counted: operations by their throughput, lanes of vectors at
 * once, loads that unrolled copies share once, and the bytes of the arguments at the rate of the
 * cache that they fit. Against it stands what a second thread costs: to be told and waited for, and
 * the lines of memory that move between the cores' caches, of which chains of small kernels feel
 * every one. So no model is slower with two threads than with one.
 *
 * Counts are expressions over the kernel's scalars, in 64ths of a cycle: where sizes are free, the
 * entry decides in each call (KStmt.value of a parallel loop). What the count cannot see (memory in
 * an extent, `while`) is estimated. Results do not depend on it, as they never do on threads.
 *
 * Requires kernels without MATH. It does not choose how many threads, nor where loops are cut. */
#include "passes/pass.h"

enum {
    UNIT = 64,          /* of a cycle */
    SYNC_CYCLES = 7500, /* a second thread is told of the loop, and waited for */
    MOVED_BYTES = 5,    /* in a cycle, of arguments of which half is in the other core's cache */
    /* neighbours in a chain of large kernels find their lines where they were */
    MOST_MOVED_CYCLES = 8000,
    NEAR_BYTES = 40, /* in a cycle from the second level of cache */
    FAR_BYTES = 10,  /* and from behind it */
    UNKNOWN_TRIPS = 16,
    MOST_GUESS = 64,
};

/* Products of two counts stay far from overflow. */
static const int64_t most_units = INT64_C(1) << 31;

/* A loop around what is counted. */
typedef struct Level {
    const KVar *var;
    const KExpr *trips;
    int64_t copies; /* of an unrolled body; 1 otherwise */
} Level;

enum { MOST_LEVELS = 32 }; /* deeper ones count as if nothing depended on them */

typedef struct Count {
    KCtx *k;
    const Target *t;
    const Kernel *kn;
    const KExpr **value; /* by variable: what stands for it in an extent; NULL: unknown */
    uint32_t *uses;      /* by variable: on which levels it depends, as bits */
    Level level[MOST_LEVELS];
    int n_levels;
    const KExpr **touched; /* by parameter: elements that are read or written, at most */
    uint32_t mask;
    KVar *lane;
    bool unknown;
    int64_t units; /* of the statement being counted */
} Count;

static const KExpr *capped(KCtx *k, const KExpr *e) {
    const KExpr *least = e->lo < 0 ? k_max(k, e, k_int(k, 0)) : e;
    return least->hi > most_units ? k_min(k, least, k_int(k, most_units)) : least;
}

static const KExpr *sum(KCtx *k, const KExpr *a, const KExpr *b) {
    return capped(k, k_add(k, a, b));
}

static const KExpr *product(KCtx *k, const KExpr *a, const KExpr *b) {
    return capped(k, k_mul(k, capped(k, a), capped(k, b)));
}

/* ---- extents --------------------------------------------------------------------------------- */

static bool is_scalar(const Count *c, const KVar *v) {
    for (uint32_t i = 0; i < c->kn->n_scalars; i++)
        if (c->kn->scalars[i] == v) return true;
    return false;
}

/* What stood in a loop that an empty call never enters is evaluated before it here: no division by
 * an extent of 0. */
static const KExpr *replace_var(KCtx *k, const KExpr *e, void *user) {
    Count *c = user;
    bool divides = e->op == KO_fdiv || e->op == KO_fmod || e->op == KO_div || e->op == KO_rem;
    if (divides && e->dtype == DT_I64 && e->arg[1]->lo < 1)
        return k_binary(k, e->op, e->arg[0], k_max(k, e->arg[1], k_int(k, 1)));
    if (e->op == KO_load) c->unknown = true;
    if (e->op != KO_var || is_scalar(c, e->u.var)) return e;
    if (c->value[e->u.var->id]) return c->value[e->u.var->id];
    c->unknown = true;
    return e;
}

/* e over the kernel's scalars alone; NULL where that is not possible. */
static const KExpr *over_scalars(Count *c, const KExpr *e) {
    c->unknown = false;
    const KExpr *x = k_rewrite(c->k, e, replace_var, c);
    return c->unknown ? NULL : x;
}

static const KExpr *trips_of(Count *c, const KStmt *s) {
    const KExpr *n = over_scalars(c, s->extent);
    int64_t most = s->extent->hi;
    if (!n) n = k_int(c->k, most < 0 ? 0 : most < MOST_GUESS ? most : MOST_GUESS);
    return capped(c->k, n);
}

/* ---- statements ------------------------------------------------------------------------------ */

static void note_uses(const KExpr *e, void *user) {
    Count *c = user;
    if (e->op == KO_var) c->mask |= c->uses[e->u.var->id];
}

/* The levels that an index depends on, as bits. */
static uint32_t uses_of(Count *c, const KExpr *e) {
    c->mask = 0;
    k_visit(c->k, e, note_uses, c);
    return c->mask;
}

/* Elements of a parameter that an access with this index meets, all its repetitions together. */
static void note_touched(Count *c, const KBuf *b, uint32_t uses) {
    const KExpr *n = k_int(c->k, 1);
    if (b->mem != MEM_PARAM) return;
    for (int i = 0; i < c->n_levels; i++)
        if (uses >> i & 1) n = product(c->k, n, c->level[i].trips);
    c->touched[b->index] = sum(c->k, c->touched[b->index], n);
}

/* A load of many copies of the loop's body counts once; one whose lanes are not neighbours for
 * each. */
static int64_t load_units(Count *c, const KExpr *e) {
    int64_t copies = 1, step, units = UNIT / 12;
    const KExpr *base, *by;
    if (e->u.buf->mem == MEM_REG) return 0;
    uint32_t uses = uses_of(c, e->arg[0]);
    note_touched(c, e->u.buf, uses);
    for (int i = 0; i < c->n_levels; i++)
        if (!(uses >> i & 1)) copies *= c->level[i].copies;
    bool gathers = c->lane && k_uses_var(c->k, e->arg[0], c->lane) &&
                   !(k_linear_in(c->k, e->arg[0], c->lane, &base, &by) && k_is_int(by, &step) &&
                     (step == 1 || step == -1));
    if (gathers) units = UNIT / 2 * target_lanes(c->t, dtype_bytes(e->u.buf->dtype));
    return units / copies;
}

/* Quotients and remainders of 64-bit integers lane by lane, and of floats without a fused
 * multiply-add. */
static int64_t alone_units(const Count *c, const KExpr *e) {
    enum { INTEGER_CYCLES = 8, FLOAT_CYCLES = 40, VECTOR_CYCLES = 20 };
    bool is_float = dtype_is_float(e->dtype);
    if (is_float && c->lane && c->t->fma) return VECTOR_CYCLES * UNIT;
    int cycles = is_float ? FLOAT_CYCLES : INTEGER_CYCLES;
    return (int64_t)cycles * UNIT * (c->lane ? target_lanes(c->t, 4) : 1);
}

static void count_node(const KExpr *e, void *user) {
    Count *c = user;
    if (e->op == KO_load)
        c->units += load_units(c, e);
    else if ((e->op == KO_div && e->dtype == DT_I64) || e->op == KO_rem)
        c->units += alone_units(c, e);
    else if (kop_info[e->op].class == KC_LEAF || e->dtype == DT_I64)
        return; /* indices are in addresses, or change outside of the innermost loop */
    else if (e->op == KO_div || e->op == KO_sqrt)
        c->units += 8 * UNIT;
    else
        c->units += UNIT / c->t->fma_ports;
}

static int64_t expr_units(Count *c, const KExpr *e) {
    c->units = 0;
    k_visit(c->k, e, count_node, c);
    return c->units;
}

static const KExpr *count_block(Count *c, const KBlock *b);

static const KExpr *count_loop(Count *c, const KStmt *s) {
    const KExpr *n = trips_of(c, s), *trips = n;
    int64_t copies = 1;
    KVar *lane = c->lane;
    c->value[s->var->id] = k_fdiv(c->k, n, k_int(c->k, 2));
    if (s->first) c->value[s->first->id] = k_int(c->k, 0);
    if (s->mark == LOOP_UNROLL) k_is_int(n, &copies);
    bool has_level = c->n_levels < MOST_LEVELS;
    c->uses[s->var->id] = has_level ? 1u << c->n_levels : 0;
    if (has_level) c->level[c->n_levels++] = (Level){s->var, n, copies > 0 ? copies : 1};
    if (s->mark == LOOP_VECTOR) {
        int64_t lanes = target_lanes(c->t, 4);
        c->lane = s->var;
        trips = k_fdiv(c->k, k_add(c->k, n, k_int(c->k, lanes - 1)), k_int(c->k, lanes));
    }
    const KExpr *body = count_block(c, &s->body);
    if (s->mark == LOOP_SERIAL) body = sum(c->k, body, k_int(c->k, UNIT));
    c->n_levels -= has_level;
    c->lane = lane;
    /* a matrix unit does all of it with one instruction */
    return s->mark == LOOP_TILE ? k_int(c->k, 16 * UNIT) : product(c->k, trips, body);
}

static int64_t store_units(Count *c, const KStmt *s) {
    int64_t units = expr_units(c, s->value);
    if (s->buf->mem != MEM_REG) units += UNIT / 2;
    note_touched(c, s->buf, uses_of(c, s->index));
    /* one element at a time mostly waits for the one before */
    return c->lane || units > 2 * UNIT ? units : 2 * UNIT;
}

static const KExpr *count_statement(Count *c, const KStmt *s) {
    KCtx *k = c->k;
    switch (s->kind) {
    case KS_FOR: return count_loop(c, s);
    case KS_WHILE: return product(k, k_int(k, UNKNOWN_TRIPS), count_block(c, &s->body));
    case KS_IF:
        return sum(k, k_int(k, expr_units(c, s->value)),
                   k_max(k, count_block(c, &s->body), count_block(c, &s->other)));
    case KS_LET:
        c->value[s->var->id] = over_scalars(c, s->value);
        c->uses[s->var->id] = uses_of(c, s->value);
        return k_int(k, expr_units(c, s->value));
    case KS_STORE: return k_int(k, store_units(c, s));
    case KS_EXTERN: return k_int(k, most_units); /* not ours to judge */
    default: return k_int(k, 0);
    }
}

static const KExpr *count_block(Count *c, const KBlock *b) {
    const KExpr *all = k_int(c->k, 0);
    for (const KStmt *s = b->first; s; s = s->next) all = sum(c->k, all, count_statement(c, s));
    return all;
}

/* ---- kernels --------------------------------------------------------------------------------- */

static const KStmt *find_call(const KBlock *b, const Kernel *kn) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_CALL && s->callee == kn) return s;
        const KStmt *inner = find_call(&s->body, kn);
        if (!inner) inner = find_call(&s->other, kn);
        if (inner) return inner;
    }
    return NULL;
}

/* Bytes that are touched of the arguments that are weights, or of the others. After count_block. */
static const KExpr *bytes_of(Count *c, const KStmt *call, bool weights) {
    const KExpr *all = k_int(c->k, 0);
    for (uint32_t i = 0; i < c->kn->n_params; i++) {
        const KBuf *b = c->kn->params[i];
        bool is_const = call && call->args[i].buf->mem == MEM_CONST;
        if (is_const != weights) continue;
        const KExpr *n = b->n_elems ? over_scalars(c, b->n_elems) : NULL, *touched = c->touched[i];
        if (n) touched = k_min(c->k, touched, capped(c->k, n));
        all = sum(c->k, all, product(c->k, touched, k_int(c->k, dtype_bytes(b->dtype))));
    }
    return all;
}

/* Units that the bytes take on their way: all from the second level of cache, what does not fit
 * there from behind it. */
static const KExpr *memory_units(Count *c, const KExpr *bytes) {
    KCtx *k = c->k;
    const KExpr *near = k_fdiv(k, k_mul(k, bytes, k_int(k, UNIT)), k_int(k, NEAR_BYTES));
    const KExpr *far = k_max(k, k_sub(k, bytes, k_int(k, c->t->l2_bytes)), k_int(k, 0));
    return sum(k, near, product(k, far, k_int(k, UNIT / FAR_BYTES)));
}

/* What a kernel costs in one thread, in units, and the bytes of its arguments that are no weights.
 */
typedef struct Cost {
    const KExpr *units, *others;
} Cost;

static Cost cost_of(Module *m, const Kernel *kn, const KStmt *call) {
    KCtx *k = m->k;
    Count c = {.k = k, .t = m->target, .kn = kn};
    c.value = arena_array(m->scratch, const KExpr *, kctx_n_vars(k));
    c.uses = arena_array(m->scratch, uint32_t, kctx_n_vars(k));
    c.touched = arena_array(m->scratch, const KExpr *, kn->n_params + 1);
    for (uint32_t i = 0; i < kn->n_params; i++) c.touched[i] = k_int(k, 0);
    const KExpr *compute = count_block(&c, &kn->body);
    const KExpr *weights = bytes_of(&c, call, true), *others = bytes_of(&c, call, false);
    const KExpr *memory = memory_units(&c, sum(k, weights, others));
    return (Cost){capped(k, k_max(k, compute, memory)), others};
}

/* Times that kernels are called, by id; a loop's body counts UNKNOWN_TRIPS times. */
static void count_calls(const KBlock *b, double times, double *calls) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_CALL) calls[s->callee->id] += times;
        bool turns = s->kind == KS_FOR || s->kind == KS_WHILE;
        count_calls(&s->body, turns ? times * UNKNOWN_TRIPS : times, calls);
        count_calls(&s->other, times, calls);
    }
}

/* Do kernels that are worth threads in any case make up most of the model? Then what the others
 * read is in both caches, and they need not pay for it. */
static bool is_spread(Module *m, const Cost *cost) {
    const KModule *km = m->kmod;
    double large = 0, all = 0, *calls = arena_array(m->scratch, double, km->n_kernels + 1);
    count_calls(&km->entry, 1, calls);
    for (uint32_t i = 0; i < km->n_kernels; i++) {
        double units = (double)cost[i].units->hi * calls[i];
        all += units;
        bool is_large = cost[i].units->hi / UNIT > 2 * (SYNC_CYCLES + MOST_MOVED_CYCLES);
        if (is_large && kernel_parallel_loop(km->kernels[i])) large += units;
    }
    return large > all / 2;
}

static bool choose_for_kernel(Module *m, const Kernel *kn, KStmt *loop, Cost cost, bool spread) {
    KCtx *k = m->k;
    const KExpr *moved =
        k_min(k, k_fdiv(k, cost.others, k_int(k, MOVED_BYTES)), k_int(k, MOST_MOVED_CYCLES));
    const KExpr *second = k_add(k, k_int(k, SYNC_CYCLES), spread ? k_int(k, 0) : moved);
    const KExpr *worth = k_le(k, k_mul(k, second, k_int(k, 2 * UNIT)), cost.units);
    int64_t known;
    bool is_known = k_is_int(worth, &known);
    const char *what = is_known ? known ? "threads" : "one thread" : "by size";
    pass_trace("choose_threads", NULL, "%s: %s (%lld cycles%s)", kn->name, what,
               (long long)(cost.units->hi / UNIT), is_known ? "" : " at most");
    if (is_known && known) return false;
    if (is_known)
        loop->mark = LOOP_SERIAL;
    else
        loop->value = worth;
    return true;
}

bool pass_choose_threads(Module *m) {
    KModule *km = m->kmod;
    bool changed = false;
    Cost *cost = arena_array(m->scratch, Cost, km->n_kernels + 1);
    for (uint32_t i = 0; i < km->n_kernels; i++)
        cost[i] = cost_of(m, km->kernels[i], find_call(&km->entry, km->kernels[i]));
    bool spread = is_spread(m, cost);
    for (uint32_t i = 0; i < km->n_kernels; i++) {
        KStmt *loop = kernel_parallel_loop(km->kernels[i]);
        if (loop && !loop->value)
            changed |= choose_for_kernel(m, km->kernels[i], loop, cost[i], spread);
    }
    return changed;
}
