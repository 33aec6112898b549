/* plan_memory: gives every arena buffer its offset.
 *
 * Before:  buffers that the entry's calls pass, without a place
 * After:   KBuf.offset of each, 64-byte aligned; KModule.arena_bytes and arena_lower_bound
 *
 * A buffer lives from the first to the last statement of the entry that touches it; one that lives
 * before a loop and is used inside it lives to the loop's end, and one that a loop fills for later
 * lives from the loop's start. Bytes that strings are made of (str_of) live to the end of the run:
 * strings that point to them may be in any buffer by then. Buffers are placed largest first at the
 * lowest offset free over their whole life; several orders are tried and the smallest arena is
 * kept. Beyond MOST_SEARCHED buffers they are placed in the order of time instead, which takes time
 * proportional to their number. Sizes found while running count with their bounds (k_upper_bound);
 * those that depend on the caller's symbols share slots behind the planned part, with symbolic
 * offsets (plan_symbolic.c).
 * Versions of a model, of which a call runs one, are planned one by one, over the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "passes/plan_memory.h"

enum { MOST_SEARCHED = 4096 };
static const int64_t LARGEST_BOUND = INT64_C(1) << 40;

/* ---- lives ----------------------------------------------------------------------------------- */

static void touch(Plan *p, KBuf *b) {
    if (b->mem != MEM_ARENA || b == p->apart) return;
    if (b->id >= p->n_ids) {
        uint32_t n = b->id * 2 + 64;
        uint32_t *wider = arena_array(p->arena, uint32_t, n);
        if (p->n_ids) memcpy(wider, p->position_of, sizeof *wider * p->n_ids);
        p->position_of = wider;
        p->n_ids = n;
    }
    if (!p->position_of[b->id]) {
        Life life = {.buf = b, .first = p->now, .last = p->now};
        vec_push(p->arena, &p->lives, life);
        p->position_of[b->id] = p->lives.n;
    }
    Life *life = &p->lives.at[p->position_of[b->id] - 1];
    life->last = p->now;
    /* filled over the iterations of a loop and read behind it: it needs its place from the first
     * one */
    if (life->loop_last && p->now > life->loop_last) life->first = life->loop_first;
}

static void touch_expr(const KExpr *e, void *user) {
    if (e->op == KO_load) touch(user, e->u.buf);
}

static void touch_value(Plan *p, const KExpr *e) {
    if (e) k_visit(p->k, e, touch_expr, p);
}

static void note_text(const KExpr *e, void *user) {
    if (e->op == KO_str_of) *(const KBuf **)user = e->arg[0]->u.buf;
}

/* Marks the argument that the callee makes strings of; a kernel makes them of one buffer. */
static void touch_text(Plan *p, const KStmt *call, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        const KBuf *text = NULL;
        if (s->value && (s->kind == KS_STORE || s->kind == KS_LET))
            k_visit(p->k, s->value, note_text, &text);
        for (uint32_t i = 0; text && i < call->callee->n_params; i++) {
            KBuf *arg = call->args[i].buf;
            if (call->callee->params[i] == text && arg->mem == MEM_ARENA)
                p->lives.at[p->position_of[arg->id] - 1].is_text = true;
        }
        touch_text(p, call, &s->body);
        touch_text(p, call, &s->other);
    }
}

static void walk(Plan *p, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        bool loops = s->kind == KS_FOR || s->kind == KS_WHILE;
        p->now++;
        uint32_t start = p->now;
        touch_value(p, s->extent);
        touch_value(p, s->index);
        touch_value(p, s->value);
        if (s->kind == KS_STORE) touch(p, s->buf);
        for (uint32_t i = 0; i < kstmt_n_args(s); i++) touch(p, s->args[i].buf);
        if (s->callee) touch_text(p, s, &s->callee->body);
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++)
            touch_value(p, s->scalars[i]);
        walk(p, &s->body);
        walk(p, &s->other);
        if (!loops) continue;
        p->now++;
        touch_value(p, s->value); /* the condition is evaluated again */
        for (uint32_t i = 0; i < p->lives.n; i++) {
            Life *life = &p->lives.at[i];
            if (life->first < start && life->last >= start) life->last = p->now;
            if (life->first < start) continue;
            life->loop_first = start;
            life->loop_last = p->now;
        }
    }
}

/* Sizes in the caller's symbols stay symbolic; sizes found while running count with their bounds.
 */
static void note_given_symbol(const KExpr *e, void *user) {
    bool *found = user;
    if (e->op == KO_var && e->u.var->kind == KV_SYMBOL && !e->u.var->computed) *found = true;
}

static void measure(Plan *p, Diag *d) {
    for (uint32_t i = 0; i < p->lives.n; i++) {
        Life *life = &p->lives.at[i];
        const KExpr *n = k_upper_bound(p->k, life->buf->n_elems);
        int64_t most;
        if (k_is_int(n, &most) && most == INT64_MAX)
            diag_unsupported(d, SRC_NOWHERE, "tensor '%s': its size has no bound", life->buf->name);
        int64_t n_elems = n->hi, n_bytes = 0;
        bool from_caller = false;
        k_visit(p->k, n, note_given_symbol, &from_caller);
        life->symbolic = from_caller || n->hi == INT64_MAX ||
                         __builtin_mul_overflow(n_elems, dtype_bytes(life->buf->dtype), &n_bytes) ||
                         n_bytes > LARGEST_BOUND;
        if (!life->symbolic)
            life->n_bytes = (n_bytes + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    }
}

/* ---- placing --------------------------------------------------------------------------------- */

static int64_t largest_live_set(const Plan *p) {
    int64_t *change = xmalloc(sizeof *change * (p->now + 2)), live = 0, most = 0;
    for (uint32_t i = 0; i < p->lives.n; i++) {
        const Life *l = &p->lives.at[i];
        if (l->symbolic) continue;
        change[l->first] += l->n_bytes;
        change[l->last + 1] -= l->n_bytes;
    }
    for (uint32_t t = 0; t <= p->now; t++) {
        live += change[t];
        if (live > most) most = live;
    }
    free(change);
    return most;
}

static int by_offset(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Places the lives in this order; returns the arena's size. */
static int64_t place(Life **order, uint32_t n, Life **scratch) {
    int64_t size = 0;
    for (uint32_t i = 0; i < n; i++) {
        Life *l = order[i];
        uint32_t n_busy = 0;
        for (uint32_t j = 0; j < i; j++)
            if (order[j]->first <= l->last && l->first <= order[j]->last)
                scratch[n_busy++] = order[j];
        qsort(scratch, n_busy, sizeof *scratch, by_offset);
        int64_t at = 0, best = -1, best_gap = INT64_MAX;
        for (uint32_t j = 0; j < n_busy; j++) {
            int64_t gap = scratch[j]->offset - at;
            if (gap >= l->n_bytes && gap < best_gap) {
                best = at;
                best_gap = gap;
            }
            if (scratch[j]->offset + scratch[j]->n_bytes > at)
                at = scratch[j]->offset + scratch[j]->n_bytes;
        }
        l->offset = best >= 0 ? best : at;
        if (l->offset + l->n_bytes > size) size = l->offset + l->n_bytes;
    }
    return size;
}

static int by_size(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    if (x->n_bytes != y->n_bytes) return x->n_bytes > y->n_bytes ? -1 : 1;
    return x->first < y->first ? -1 : x->first > y->first ? 1 : x->buf->id < y->buf->id ? -1 : 1;
}

static int by_duration(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    uint32_t dx = x->last - x->first, dy = y->last - y->first;
    return dx != dy ? (dx > dy ? -1 : 1) : by_size(a, b);
}

static int by_start(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : by_size(a, b);
}

static int by_area(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    double ax = (double)x->n_bytes * (x->last - x->first + 1),
           ay = (double)y->n_bytes * (y->last - y->first + 1);
    return ax != ay ? (ax > ay ? -1 : 1) : by_size(a, b);
}

/* ---- very many buffers ----------------------------------------------------------------------- */

static int by_end(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    return x->last != y->last ? (x->last < y->last ? -1 : 1) : by_size(a, b);
}

typedef struct Hole {
    int64_t offset, n_bytes;
} Hole;

/* Gives the bytes of l back; holes lie in the order of their offsets and never touch. */
static void free_place(Hole *hole, uint32_t *n_holes, const Life *l) {
    uint32_t lo = 0, hi = *n_holes;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (hole[mid].offset < l->offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool joins_last = lo > 0 && hole[lo - 1].offset + hole[lo - 1].n_bytes == l->offset;
    bool joins_next = lo < *n_holes && l->offset + l->n_bytes == hole[lo].offset;
    if (joins_last && joins_next) {
        hole[lo - 1].n_bytes += l->n_bytes + hole[lo].n_bytes;
        memmove(hole + lo, hole + lo + 1, sizeof *hole * (--*n_holes - lo));
    } else if (joins_last) {
        hole[lo - 1].n_bytes += l->n_bytes;
    } else if (joins_next) {
        hole[lo].offset = l->offset;
        hole[lo].n_bytes += l->n_bytes;
    } else {
        memmove(hole + lo + 1, hole + lo, sizeof *hole * ((*n_holes)++ - lo));
        hole[lo] = (Hole){l->offset, l->n_bytes};
    }
}

/* The offset of n_bytes: in the smallest hole that has room, else behind everything. */
static int64_t take_place(Hole *hole, uint32_t *n_holes, int64_t n_bytes, int64_t *top) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < *n_holes; i++)
        if (hole[i].n_bytes >= n_bytes &&
            (best == UINT32_MAX || hole[i].n_bytes < hole[best].n_bytes))
            best = i;
    if (best == UINT32_MAX) {
        bool grows = *n_holes && hole[*n_holes - 1].offset + hole[*n_holes - 1].n_bytes == *top;
        int64_t at = grows ? hole[--*n_holes].offset : *top;
        *top = at + n_bytes;
        return at;
    }
    int64_t at = hole[best].offset;
    hole[best].offset += n_bytes;
    hole[best].n_bytes -= n_bytes;
    if (!hole[best].n_bytes)
        memmove(hole + best, hole + best + 1, sizeof *hole * (--*n_holes - best));
    return at;
}

/* Places the lives in the order of time, as an allocator would: one step each. */
static int64_t place_by_time(Life **order, uint32_t n) {
    Life **ends = xmalloc(sizeof *ends * (n + 1));
    Hole *hole = xmalloc(sizeof *hole * (n + 1));
    uint32_t n_holes = 0, n_ended = 0;
    int64_t top = 0;
    memcpy(ends, order, sizeof *ends * n);
    qsort(order, n, sizeof *order, by_start);
    qsort(ends, n, sizeof *ends, by_end);
    for (uint32_t i = 0; i < n; i++) {
        for (; ends[n_ended]->last < order[i]->first; n_ended++)
            if (ends[n_ended]->n_bytes) free_place(hole, &n_holes, ends[n_ended]);
        order[i]->offset =
            order[i]->n_bytes ? take_place(hole, &n_holes, order[i]->n_bytes, &top) : 0;
    }
    free(ends);
    free(hole);
    return top;
}

typedef int Compare(const void *, const void *);

/* Best of several greedy orders, improved by moving the buffer that tops the arena to the front. */
static int64_t search(Plan *p, int64_t bound) {
    static Compare *const compare[] = {by_size, by_area, by_duration, by_start};
    uint32_t n = 0;
    Life **order = xmalloc(sizeof *order * (p->lives.n + 1)),
         **scratch = xmalloc(sizeof *scratch * (p->lives.n + 1));
    int64_t *kept = xmalloc(sizeof *kept * (p->lives.n + 1)), best = INT64_MAX;
    for (uint32_t i = 0; i < p->lives.n; i++)
        if (!p->lives.at[i].symbolic) order[n++] = &p->lives.at[i];
    if (n > MOST_SEARCHED) {
        best = place_by_time(order, n);
        for (uint32_t i = 0; i < p->lives.n; i++) kept[i] = p->lives.at[i].offset;
        bound = best;
    }
    for (int c = 0; c < 4 && best > bound; c++) {
        qsort(order, n, sizeof *order, compare[c]);
        for (int round = 0; round < 60 && best > bound; round++) {
            int64_t size = place(order, n, scratch);
            if (size < best) {
                best = size;
                for (uint32_t i = 0; i < p->lives.n; i++) kept[i] = p->lives.at[i].offset;
            }
            uint32_t top = 0;
            for (uint32_t i = 1; i < n; i++)
                if (order[i]->offset + order[i]->n_bytes > order[top]->offset + order[top]->n_bytes)
                    top = i;
            if (!top || n > 2000) break;
            Life *l = order[top];
            memmove(order + 1, order, sizeof *order * top);
            order[0] = l;
        }
    }
    for (uint32_t i = 0; n && i < p->lives.n; i++) p->lives.at[i].offset = kept[i];
    free(order);
    free(scratch);
    free(kept);
    return n ? best : 0;
}

/* Gives the buffers that this block touches their places; returns the arena's size. What `apart`
 * names has its place already, in front of everything. */
static const KExpr *plan_block(Module *m, const KBlock *b, const KBuf *apart) {
    KModule *km = m->kmod;
    Plan p = {.km = km, .k = m->k, .arena = m->scratch, .apart = apart};
    int64_t n_apart = 0;
    if (apart && k_is_int(apart->n_elems, &n_apart))
        n_apart =
            (n_apart * dtype_bytes(apart->dtype) + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN;
    if (km->size_table) touch(&p, km->size_table);
    walk(&p, b);
    p.now++;
    for (uint32_t i = 0; i < p.lives.n; i++)
        if (p.lives.at[i].is_text) p.lives.at[i].last = p.now;
    if (km->size_table) touch(&p, km->size_table);
    measure(&p, m->diag);
    int64_t bound = largest_live_set(&p), end = n_apart + search(&p, bound);
    if (n_apart + bound > km->arena_lower_bound) km->arena_lower_bound = n_apart + bound;
    for (uint32_t i = 0; i < p.lives.n; i++)
        if (!p.lives.at[i].symbolic)
            p.lives.at[i].buf->offset = k_int(m->k, n_apart + p.lives.at[i].offset);
    return plan_symbolic(&p, k_int(m->k, end));
}

/* The statement that decides by the caller's sizes alone what the block does, if that is all it
 * has: versions of a model, of which one runs. */
static const KStmt *choice_of(KCtx *k, const KBlock *b) {
    const KStmt *s = b->first;
    bool is_whole = s && s == b->last && s->kind == KS_IF;
    return is_whole && !k_is_computed(k, s->value) ? s : NULL;
}

/* Arms of which one runs have an arena each, at the same place. */
static const KExpr *plan_arms(Module *m, const KBlock *b, KBuf *apart) {
    const KStmt *s = choice_of(m->k, b);
    if (!s) return plan_block(m, b, apart);
    const KExpr *then = plan_arms(m, &s->body, apart), *otherwise = plan_arms(m, &s->other, apart);
    return k_select(m->k, s->value, then, otherwise);
}

/* Memory is given in multiples of PLACE_ALIGN: where every call passes all of a buffer of the
 * arena, what lies behind its end up to there belongs to it. */
static void note_padded(const KBlock *b, bool *is_other) {
    int64_t have, want;
    for (const KStmt *s = b->first; s; s = s->next) {
        for (uint32_t i = 0; s->kind == KS_CALL && i < s->callee->n_params; i++) {
            const KArg *a = &s->args[i];
            KBuf *param = s->callee->params[i];
            bool is_all = a->buf->mem == MEM_ARENA && !a->offset && a->buf->n_elems &&
                          param->n_elems && k_is_int(a->buf->n_elems, &have) &&
                          k_is_int(param->n_elems, &want) && have == want &&
                          a->buf->dtype == param->dtype;
            if (param->written && is_all && !is_other[param->id]) param->padded = true;
            if (!is_all) is_other[param->id] = true;
            if (!is_all) param->padded = false;
        }
        note_padded(&s->body, is_other);
        note_padded(&s->other, is_other);
    }
}

static void pad_params(Module *m) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->kmod->n_kernels; i++)
        for (uint32_t j = 0; j < m->kmod->kernels[i]->n_params; j++)
            if (m->kmod->kernels[i]->params[j]->id >= n) n = m->kmod->kernels[i]->params[j]->id + 1;
    note_padded(&m->kmod->entry, arena_array(m->scratch, bool, n + 1));
}

bool pass_plan_memory(Module *m) {
    KModule *km = m->kmod;
    km->arena_lower_bound = 0;
    KBuf *apart = choice_of(m->k, &km->entry) ? km->size_table : NULL;
    if (apart) apart->offset = k_int(m->k, 0);
    km->arena_bytes = plan_arms(m, &km->entry, apart);
    pad_params(m);
    return true;
}
