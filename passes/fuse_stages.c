/* fuse_stages: substitutes maps into the stages that read them, and maps that follow a reduction or
 * contraction into its store.
 *
 * Before:  c[i,j] = sum_k x[i,k] * w[k,j];  b[i,j] = c[i,j] + bias[j];  r[i,j] = max(0, b[i,j])
 * After:   r[i,j] = finish(max(0, acc + bias[j])) of sum_k x[i,k] * w[k,j]
 *
 * Requires definitions. A map disappears when every reader takes it: pure movement goes into any
 * reader whose index stays simple; arithmetic goes where it is not repeated more than it costs.
 * Deliberately not done: substitution into programs and regions (they read dense memory), and of
 * selections between tensors (concatenation is done in place by share_memory). */
#include <string.h>

#include "ir/schedule.h"
#include "passes/pass.h"
#include "passes/pull_factors.h"
#include "passes/spell_folds.h"
#include "passes/spell_ranges.h"
#include "passes/split_folds.h"
#include "passes/split_views.h"

enum { MAX_READS = 64, MAX_NODES = 600, CHEAP_NODES = 4, REUSE = 4 };

/* ---- measures of an expression --------------------------------------------------------------- */

typedef struct Measure {
    int n_nodes, n_arith, n_math, n_div;
    int n_bent; /* choices between indices: a reflected border */
} Measure;

static void measure_node(const KExpr *e, void *user) {
    Measure *m = user;
    m->n_nodes++;
    bool is_index = e->dtype == DT_I64 || e->dtype == DT_BOOL;
    if (kop_info[e->op].class == KC_MATH || e->op == KO_div || e->op == KO_sqrt || e->op == KO_rem)
        m->n_math += !is_index;
    if (kop_info[e->op].class == KC_ARITH || kop_info[e->op].class == KC_CONV)
        m->n_arith += !is_index;
    if ((e->op == KO_fdiv || e->op == KO_fmod) && e->dtype == DT_I64) m->n_div++;
    if ((e->op == KO_min || e->op == KO_max || e->op == KO_select) && e->dtype == DT_I64)
        m->n_bent++;
}

static Measure measure(KCtx *k, const Stage *s) {
    Measure m = {0};
    stage_visit(k, s, measure_node, &m);
    return m;
}

static bool is_pure_movement(const Stage *s) {
    return s->form == FORM_MAP && s->body->op == KO_at;
}

static double elements(const KTensor *t) {
    double n = 1;
    for (int i = 0; i < t->rank; i++) n *= k_most(t->dims[i]);
    return n;
}

/* ---- substitution into readers --------------------------------------------------------------- */

typedef struct ReadShape {
    const KTensor *t;
    bool plain; /* every index is a variable or a constant */
} ReadShape;

static void note_read_shape(const KExpr *e, void *user) {
    ReadShape *r = user;
    if (e->op != KO_at || e->u.tensor != r->t) return;
    for (int i = 0; i < e->n_args; i++)
        r->plain &= e->arg[i]->op == KO_var || e->arg[i]->op == KO_const_i;
}

static bool reads_plainly(KCtx *k, const Stage *s, const KTensor *t) {
    ReadShape r = {t, true};
    stage_visit(k, s, note_read_shape, &r);
    return r.plain;
}

/* A constant operand's arithmetic is done once, when the operand is packed. */
static bool is_packed_arithmetic(DefProgram *p, const Stage *map, const Stage *reader) {
    KTensor *read[256];
    if (reader->form != FORM_CONTRACT || map->out->n_users != 1) return false;
    if (expr_reads(p->m->k, reader->lhs, map->out) || expr_reads(p->m->k, reader->finish, map->out))
        return false;
    int n = stage_reads(p, map, read, 256);
    for (int i = 0; i < n; i++)
        if (!read[i]->data) return false;
    return n > 0;
}

/* ---- movement that a contraction would repeat ------------------------------------------------ */

static bool is_plain(const KExpr *e) {
    return e->op == KO_var || e->op == KO_const_i;
}

typedef struct Index {
    KCtx *k;
    const KTensor *t;
    bool is_affine;   /* sums of variables times numbers */
    bool is_plain;    /* single variables and constants */
    bool has_test;    /* a read of t has a predicate */
    bool is_bent;     /* a window moves along an axis of t that the map does not walk by itself */
    const Stage *map; /* that makes t */
} Index;

static void note_index_node(const KExpr *e, void *user) {
    Index *x = user;
    x->is_affine &= e->op != KO_select && e->op != KO_min && e->op != KO_max && e->op != KO_at;
}

static void note_index(KCtx *k, const KExpr *at, Index *x) {
    for (int i = 0; i < at->u.tensor->rank; i++) {
        k_visit(k, at->arg[i], note_index_node, x);
        x->is_plain &= is_plain(at->arg[i]);
    }
}

/* Is every index of the map's read that its axis a is in this axis? */
static bool walks(KCtx *k, const Stage *map, int a) {
    for (int i = 0; i < map->body->u.tensor->rank; i++)
        if (k_uses_var(k, map->body->arg[i], map->axis[a]) && !is_plain(map->body->arg[i]))
            return false;
    return true;
}

static void note_test(const KExpr *e, void *user) {
    Index *x = user;
    if (e->op != KO_at || e->u.tensor != x->t || !at_pred(e)) return;
    x->has_test = true;
    for (int a = 0; a < x->t->rank; a++)
        x->is_bent |= !is_plain(e->arg[a]) && !walks(x->k, x->map, a);
}

/* Would the contraction compute indices again and again that are better computed once? Those of a
 * gather, a reflection; and those of a view that a window with a border reads: as a tensor of its
 * own it can have a halo. And would a pool, whose windows read an element several times? */
static bool repeats_indices(KCtx *k, const Stage *map, const Stage *reader) {
    Index x = {.k = k, .t = map->out, .is_affine = true, .is_plain = true, .map = map};
    double reads = schedule_stage_work(reader);
    if (reader->form == FORM_MAP || reads < REUSE * elements(map->out)) return false;
    if (reader->form == FORM_REDUCE) {
        note_index(k, map->body, &x);
        return !x.is_affine;
    }
    bool is_factor = expr_reads(k, reader->lhs, map->out) || expr_reads(k, reader->rhs, map->out);
    if (!is_factor) return false;
    note_index(k, map->body, &x);
    k_visit(k, reader->lhs, note_test, &x);
    return !x.is_affine || (map->view && !x.is_plain && x.has_test) || x.is_bent;
}

typedef struct Sought {
    KCtx *k;
    bool any;
} Sought;

static void note_sought(const KExpr *e, void *user) {
    Sought *s = user;
    Index x = {.is_affine = true};
    if (e->op != KO_at) return;
    note_index(s->k, e, &x);
    s->any |= !x.is_affine;
}

/* Would the reader look places up again and again, in tables of a Resize or a Gather? */
static bool repeats_lookups(KCtx *k, const Stage *map, const Stage *reader) {
    Sought s = {k, false};
    if (schedule_stage_work(reader) < REUSE * elements(map->out)) return false;
    k_visit(k, map->body, note_sought, &s);
    return s.any;
}

/* Computed tensors of about the map's own size that it reads. */
static int large_reads(DefProgram *p, const Stage *map) {
    KTensor *read[256];
    int n = stage_reads(p, map, read, 256), large = 0;
    for (int i = 0; i < n; i++)
        large += !read[i]->data && elements(read[i]) * 4 > elements(map->out);
    return large;
}

static bool takes_substitution(const Stage *s) {
    return s->form == FORM_MAP || s->form == FORM_REDUCE || s->form == FORM_CONTRACT;
}

/* Does the map stay in memory whatever this reader does, since a contraction or a program reads it,
 * and would the reader have more to read without it? Of the sums along a residual net's blocks each
 * would read all that was added before. */
static bool reads_less_of_memory(DefProgram *p, const Stage *map, const Stage *reader) {
    if (large_reads(p, map) < 2) return false;
    for (uint32_t i = 0; i < map->out->users.n; i++) {
        const Stage *other = map->out->users.at[i];
        if (other == reader) continue;
        if (!takes_substitution(other)) return true;
        if (other->form == FORM_CONTRACT && (expr_reads(p->m->k, other->lhs, map->out) ||
                                             expr_reads(p->m->k, other->rhs, map->out)))
            return true;
    }
    return false;
}

/* Does the map make wide elements of bytes? Then what is in memory should be the bytes. */
static bool widens_bytes(DefProgram *p, const Stage *map) {
    KTensor *read[256];
    int n = stage_reads(p, map, read, 256), n_bytes = 0, n_wide = 0;
    for (int i = 0; i < n; i++) {
        if (read[i]->data || read[i]->rank == 0) continue;
        *(dtype_bytes(read[i]->dtype) == 1 ? &n_bytes : &n_wide) += 1;
    }
    return n_bytes == 1 && !n_wide && dtype_bytes(map->out->dtype) > 1;
}

static bool is_worth(DefProgram *p, const Stage *map, const Stage *reader);

/* Are the bytes that the map makes what should be in memory, since the reader widens them and goes
 * into all of its own readers? */
static bool keeps_bytes(DefProgram *p, const Stage *map, const Stage *reader) {
    const KTensor *wide = reader->out;
    bool fits = dtype_bytes(map->out->dtype) == 1 && reader->form == FORM_MAP &&
                wide->n_users > 1 && !wide->dense_only && widens_bytes(p, reader);
    if (!fits || wide->users.n != wide->n_users) return false;
    for (uint32_t i = 0; i < wide->users.n; i++) {
        const Stage *next = wide->users.at[i];
        if (next->owner != p || !takes_substitution(next) || !is_worth(p, reader, next))
            return false;
    }
    return true;
}

/* Would what is made of bytes hide the view that makes one axis of two, behind which it becomes
 * bytes again? Those are computed before the view. */
static bool hides_view(DefProgram *p, const Stage *map, const Stage *reader) {
    if (!is_split_view(p->m->k, reader) || !widens_bytes(p, map)) return false;
    const Stage *next = reader->out->users.at[0];
    return next->form == FORM_MAP && dtype_bytes(next->out->dtype) == 1;
}

/* May this reader take the map's arithmetic without repeating it too often? */
static bool is_worth(DefProgram *p, const Stage *map, const Stage *reader) {
    KCtx *k = p->m->k;
    Measure m = measure(k, map);
    bool cheap = !m.n_math && m.n_arith <= CHEAP_NODES;
    if (is_packed_arithmetic(p, map, reader)) return true;
    if (is_pure_movement(map)) return !repeats_indices(k, map, reader);
    if (reader->form == FORM_CONTRACT &&
        (expr_reads(k, reader->lhs, map->out) || expr_reads(k, reader->rhs, map->out)))
        return false;
    if (map->body->op == KO_select && m.n_nodes > 40) return false;
    if (keeps_bytes(p, map, reader) || hides_view(p, map, reader)) return false;
    double reads = schedule_stage_work(reader), n = elements(map->out);
    bool repeats = reads > 1.01 * n || map->out->n_users > 1;
    if (!repeats) return reader->form != FORM_REDUCE || reads_plainly(k, reader, map->out);
    if (reader->form == FORM_REDUCE && !reads_plainly(k, reader, map->out)) return false;
    if (reads_less_of_memory(p, map, reader)) return false;
    if (repeats_lookups(k, map, reader)) return false;
    return cheap && map->out->n_users <= 4 && reads <= 2048 * n;
}

/* A map that only this map reads, element by element, lends it its axes: then its body, perhaps of
 * hundreds of nodes, goes in as it is, and a chain of n maps costs n steps. */
static void share_axes(DefProgram *p, const Stage *map, Stage *reader) {
    KCtx *k = p->m->k;
    const KExpr *axes[MAX_RANK];
    if (reader->form != FORM_MAP || reader->out->rank != map->out->rank) return;
    for (int i = 0; i < map->out->rank; i++) {
        if (reader->out->dims[i] != map->out->dims[i]) return;
        axes[i] = k_var(k, map->axis[i]);
    }
    if (!map_reads_own(k, reader, map->out)) return;
    reader->body = k_subst(k, reader->body, reader->axis, axes, reader->out->rank);
    memcpy(reader->axis, map->axis, sizeof reader->axis);
}

/* Would nobody divide who reads what the view reads, if folds along its axes were split? */
static bool dissolves(DefProgram *p, const Stage *view) {
    KCtx *k = p->m->k;
    const KTensor *t = view->out;
    if (t->dense_only || t->users.n != t->n_users) return false;
    for (uint32_t i = 0; i < t->users.n; i++) {
        Stage reader = *t->users.at[i];
        if (reader.owner != p || (reader.form != FORM_MAP && reader.form != FORM_REDUCE))
            return false;
        int n_div = measure(k, &reader).n_div;
        stage_inline(p, &reader, (Stage *)view);
        split_folded_axes(k, &reader);
        if (measure(k, &reader).n_div > n_div) return false;
    }
    return true;
}

/* Puts map into reader unless the reader's indices become worse than reading memory. */
static bool try_inline(DefProgram *p, Stage *map, Stage *reader) {
    KCtx *k = p->m->k;
    if (!takes_substitution(reader) || !is_worth(p, map, reader) || !pass_may_rewrite())
        return false;
    Stage before = *reader;
    KTensor *read[256];
    Measure old = measure(k, reader);
    bool split = is_pure_movement(map) && dissolves(p, map);
    stage_forget_reads(reader);
    if (map->out->n_users == 0) share_axes(p, map, reader);
    stage_inline(p, reader, map);
    if (reader->form == FORM_REDUCE && split) split_folded_axes(k, reader);
    Measure new = measure(k, reader);
    bool too_big = new.n_nodes > MAX_NODES || stage_reads(p, reader, read, 256) > MAX_READS;
    bool ugly = new.n_div > old.n_div &&is_pure_movement(map);
    /* a window would bend its rows again for each tap */
    ugly |= reader->form == FORM_CONTRACT && new.n_bent > old.n_bent;
    if (too_big || ugly) *reader = before;
    stage_note_reads(reader);
    if (too_big || ugly) return false;
    if (reader->form == FORM_MAP && reader->body->op != KO_at)
        reader->view = reader->movement = false;
    if (!map->view) reader->view = false;
    pass_count_rewrite();
    pass_trace("fuse_stages", map->node, "substituted into %s",
               reader->node ? op_info[reader->node->op].name : "a copy");
    return true;
}

static bool inline_everywhere(DefProgram *p, Stage *map) {
    bool changed = false;
    for (uint32_t i = map->out->users.n; i-- > 0;) {
        if (i >= map->out->users.n) continue; /* a reader that took it is gone from the list */
        Stage *reader = map->out->users.at[i];
        if (reader->owner == p) changed |= try_inline(p, map, reader);
    }
    return changed;
}

/* ---- maps into the store of what they follow ------------------------------------------------- */

typedef struct StoreFusion {
    const KTensor *t;
    const KExpr *value;
} StoreFusion;

static const KExpr *replace_read(KCtx *k, const KExpr *e, void *user) {
    const StoreFusion *f = user;
    (void)k;
    return e->op == KO_at && e->u.tensor == f->t ? f->value : e;
}

/* The store would no longer be along the contraction's vectors: columns that only the right factor
 * has. Heads between the channels that an attention stores are an axis of both. */
static bool breaks_vectors(KCtx *k, const Stage *folded, const Stage *map, const int *axis) {
    int rank = folded->out->rank, last = map->out->rank - 1;
    while (last > 0 && k_is_value(map->out->dims[last], 1)) last--;
    if (folded->form != FORM_CONTRACT || last < 0) return false;
    bool has_columns = !k_uses_var(k, folded->lhs, folded->axis[rank - 1]);
    for (int i = 0; i < rank - 1; i++)
        if (axis[i] == last)
            return !k_uses_var(k, folded->rhs, folded->axis[i]) ||
                   (has_columns && k_uses_var(k, folded->lhs, folded->axis[i]));
    return false;
}

/* Would the store take a convolution's channels off their axis, by a view that readers can look
 * through as well? Then the convolution has no blocks. */
static bool hides_channels(const Stage *folded, const Stage *map) {
    return folded->form == FORM_CONTRACT && folded->node &&
           op_has(folded->node->op, OPF_BLOCKABLE) && map->view && !map->out->dense_only &&
           map->out->rank > 2 && map->out->dims[1] != folded->out->dims[1];
}

/* Would the store put a convolution's channels between other axes? Then neither channels nor
 * anything else of it lies along vectors as it does in an image, and each tap would be a copy of
 * the image. Those of one tap are matrix products and need no blocks. */
static bool buries_channels(const Stage *folded, const Stage *map, const int *axis) {
    bool is_window = false;
    for (int i = 1; i < folded->n_red; i++) is_window |= !k_is_value(folded->red_extent[i], 1);
    return folded->form == FORM_CONTRACT && folded->node && is_window &&
           op_has(folded->node->op, OPF_BLOCKABLE) && axis[1] != 1 && axis[1] != map->out->rank - 1;
}

/* The map's read of what is folded, whose place the map's value can take in the store; or NULL. */
static const KExpr *find_store(DefProgram *p, const Stage *folded, const Stage *map) {
    int axis[MAX_RANK];
    if (folded->form != FORM_REDUCE && folded->form != FORM_CONTRACT) return NULL;
    if (folded->out->n_users != 1 || folded->out->users.at[0] != map || folded->out->dense_only ||
        hides_channels(folded, map))
        return NULL;
    const KExpr *at = map_only_read(p->m->k, map, folded->out);
    if (!at) return NULL;
    if (read_permutes(map, at, axis) && !breaks_vectors(p->m->k, folded, map, axis) &&
        !buries_channels(folded, map, axis))
        return at;
    return folded->form == FORM_CONTRACT && makes_windows(p, folded, map, at->arg) ? at : NULL;
}

static void fuse_store(DefProgram *p, Stage *folded, Stage *map, const KExpr *at) {
    KCtx *k = p->m->k;
    stage_forget_reads(map);
    stage_forget_reads(folded);
    const KExpr **parts[] = {&folded->body, &folded->lhs, &folded->rhs, &folded->finish};
    for (int i = 0; i < 4; i++)
        if (*parts[i]) *parts[i] = k_subst(k, *parts[i], folded->axis, at->arg, folded->out->rank);
    StoreFusion f = {folded->out, folded->finish};
    Stage merged = *folded;
    merged.finish = k_rewrite(k, map->body, replace_read, &f);
    merged.out = map->out;
    memcpy(merged.axis, map->axis, sizeof merged.axis);
    pass_trace("fuse_stages", map->node, "stored by %s", op_info[folded->node->op].name);
    /* the merged stage stands where the map stood: everything it reads exists there */
    merged.prev = map->prev;
    merged.next = map->next;
    stage_remove(p, folded);
    if (merged.prev == folded) merged.prev = map->prev;
    *map = merged;
    map->prev = merged.prev;
    map->out->def = map;
    stage_note_reads(map);
}

static bool fuse_into_store(DefProgram *p, Stage *map) {
    KTensor *read[256];
    const KExpr *at, *best_at = NULL;
    Stage *best = NULL;
    int n = stage_reads(p, map, read, 256);
    for (int i = 0; i < n; i++) {
        Stage *f = read[i]->def;
        if (!f || f == map || f->owner != p || !(at = find_store(p, f, map))) continue;
        bool better =
            !best || (f->form == FORM_CONTRACT && best->form != FORM_CONTRACT) ||
            (f->form == best->form && schedule_stage_work(f) >= schedule_stage_work(best));
        if (!better) continue;
        best = f;
        best_at = at;
    }
    if (!best || !pass_may_rewrite()) return false;
    fuse_store(p, best, map, best_at);
    pass_count_rewrite();
    return true;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Backwards, so that what only dropped stages read goes too. */
static bool drop_unread(DefProgram *p) {
    bool changed = false;
    for (Stage *s = p->last, *prev; s; s = prev) {
        prev = s->prev;
        if (!takes_substitution(s) && s->form != FORM_SCAN) continue;
        if (s->out->n_users || s->out->dense_only) continue;
        stage_forget_reads(s);
        stage_remove(p, s);
        changed = true;
    }
    return changed;
}

/* At once, so that what it read has one reader less. */
static bool drop_if_unread(DefProgram *p, Stage *s) {
    if (s->out->n_users || s->out->dense_only) return false;
    stage_forget_reads(s);
    stage_remove(p, s);
    return true;
}

static void fuse_program(DefProgram *p, void *user) {
    bool *changed = user;
    for (Stage *s = p->first, *next; s; s = next) {
        next = s->next;
        *changed |= spell_ranges(p, s);
        if (s->form == FORM_CONTRACT && pass_may_rewrite() && pull_factors(p, s)) {
            pass_count_rewrite();
            pass_trace("fuse_stages", s->node, "a common factor goes into the store");
            *changed = true;
        }
        *changed |= spell_fold(p, s);
        if (s->form != FORM_MAP) continue;
        if (!s->out->dense_only && widens_bytes(p, s)) {
            *changed |= inline_everywhere(p, s);
            if (drop_if_unread(p, s)) continue;
        }
        if (fuse_into_store(p, s)) {
            *changed = true;
            continue;
        }
        *changed |= compute_before_view(p, s);
        if (s->out->dense_only) continue; /* an output, or read by programs and regions */
        *changed |= inline_everywhere(p, s);
        drop_if_unread(p, s);
    }
}

static void drop_program(DefProgram *p, void *user) {
    bool *changed = user;
    *changed |= drop_unread(p);
}

bool pass_fuse_stages(Module *m) {
    bool any = false, changed = true;
    program_count_users(m->defs);
    for (int round = 0; changed && round < 8; round++) {
        changed = false;
        program_visit(m->defs, fuse_program, &changed);
        program_visit(m->defs, drop_program, &changed);
        any |= changed;
    }
    return any;
}
