/* turn_sweeps: what is read again in the next step is read from its end.
 *
 * Before:  for tile in 0..8 parallel { ... packed[tile*32768 + ...] ... }
 * After:   for tile in 0..8 parallel falling step % 2 == 1 { ... }
 *
 * A recurrent net multiplies by the same weights in each step of a loop. Where they are a little
 * more than a cache holds, it has thrown away each panel by the time that it is read again: caches
 * drop what was used longest ago. If every second step goes through the panels from the last to the
 * first, most of them are still there. Iterations of a parallel loop are independent, so results
 * are the same; each thread turns around its own part.
 *
 * Requires kernels whose parallel loops are still marked. It leaves alone what reads few weights,
 * what the step is no scalar of, and kernels that ask for the panel behind the one they read. */
#include "passes/pass.h"

typedef struct Sweep {
    const KStmt *call;
    uint8_t *follows; /* by variable: the loop's, and what is computed of it */
    bool found;
    int64_t bytes; /* of weights that the loop's iterations share out among them */
    bool has_prefetch;
} Sweep;

static void note_var(const KExpr *e, void *user) {
    Sweep *w = user;
    w->found |= e->op == KO_var && w->follows[e->u.var->id];
}

static bool follows_loop(KCtx *k, Sweep *w, const KExpr *e) {
    w->found = false;
    k_visit(k, e, note_var, w);
    return w->found;
}

typedef struct Visit {
    KCtx *k;
    Sweep *w;
} Visit;

static void note_weights(const KExpr *e, void *user) {
    Visit *v = user;
    int64_t n;
    if (e->op != KO_load || e->u.buf->mem != MEM_PARAM) return;
    const KBuf *b = e->u.buf;
    if (v->w->call->args[b->index].buf->mem != MEM_CONST || !k_is_int(b->n_elems, &n)) return;
    int64_t bytes = n * dtype_bytes(b->dtype);
    if (bytes > v->w->bytes && follows_loop(v->k, v->w, e->arg[0])) v->w->bytes = bytes;
}

static void scan_block(KCtx *k, Sweep *w, const KBlock *b) {
    Visit v = {k, w};
    for (const KStmt *s = b->first; s; s = s->next) {
        w->has_prefetch |= s->kind == KS_PREFETCH;
        if (s->kind == KS_LET) w->follows[s->var->id] = follows_loop(k, w, s->value);
        if (s->value) k_visit(k, s->value, note_weights, &v);
        scan_block(k, w, &s->body);
        scan_block(k, w, &s->other);
    }
}

/* The scalar of the kernel that is the loop's variable in this call. */
static const KVar *step_scalar(const KStmt *call, const KVar *step) {
    for (uint32_t i = 0; i < call->callee->n_scalars; i++)
        if (call->scalars[i]->op == KO_var && call->scalars[i]->u.var == step)
            return call->callee->scalars[i];
    return NULL;
}

static bool turn_call(Module *m, const KStmt *call, const KVar *step) {
    KCtx *k = m->k;
    KStmt *loop = kernel_parallel_loop(call->callee);
    const KVar *scalar = step_scalar(call, step);
    if (!loop || loop->index || loop->first || !scalar) return false;
    Sweep w = {.call = call, .follows = arena_array(m->scratch, uint8_t, kctx_n_vars(k))};
    w.follows[loop->var->id] = 1;
    scan_block(k, &w, &loop->body);
    if (w.has_prefetch || 2 * w.bytes <= m->target->l2_bytes) return false;
    loop->index = k_eq(k, k_fmod(k, k_var(k, (KVar *)scalar), k_int(k, 2)), k_int(k, 1));
    pass_trace("turn_sweeps", NULL, "%s: %lld bytes of weights in each step", call->callee->name,
               (long long)w.bytes);
    return true;
}

/* step: of the innermost loop around the block, or NULL. */
static bool turn_calls(Module *m, const KBlock *b, const KVar *step) {
    bool changed = false;
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_CALL && step) changed |= turn_call(m, s, step);
        changed |= turn_calls(m, &s->body, s->kind == KS_FOR ? s->var : step);
        changed |= turn_calls(m, &s->other, step);
    }
    return changed;
}

bool pass_turn_sweeps(Module *m) {
    return turn_calls(m, &m->kmod->entry, NULL);
}
