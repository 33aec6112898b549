/* lower_kernels for a model with versions (--dim batch=1,8): one entry that looks at the sizes of
 * the call.
 *
 *     if batch == 1 {
 *       node 0                            "version", "batch=1"
 *       call k0_...                       the program of that version
 *       sizes[4] = sizes[9]               where outputs have dims that it found
 *     } else {
 *       if batch == 8 { ... } else { ...general... }
 *     }
 *
 * Versions are modules of their own over the same expressions and symbols, and their kernels go to
 * the same list, where equal ones are one. What they have of their own is joined here: inputs and
 * outputs become the general module's buffers, constants of the same bytes one constant, and dims
 * of outputs that running finds one symbol, to which each version stores its value. */
#include <string.h>

#include "passes/lower_kernels.h"

/* ---- buffers --------------------------------------------------------------------------------- */

static KBuf *joined(const Lower *l, const KBuf *b) {
    return strmap_get_bytes(l->joined, (const char *)&b, sizeof b);
}

static void join(Lower *l, KBuf *b, KBuf *with) {
    KBuf **key = arena_copy(l->arena, &b, sizeof b);
    strmap_put_bytes(l->joined, (const char *)key, sizeof *key, with);
}

static bool same_bytes(const KBuf *a, const KBuf *b, uint64_t n_bytes) {
    return a->dtype == b->dtype && a->n_elems == b->n_elems && !memcmp(a->data, b->data, n_bytes);
}

/* Of dtype, length and some of the bytes: all of gigabytes would take seconds. */
static uint64_t hash_const(const KBuf *b, uint64_t n_bytes) {
    enum { PROBES = 64, PROBE = 64 };
    const char *data = b->data;
    uint64_t hash = hash_bytes(b->dtype, &n_bytes, sizeof n_bytes);
    if (n_bytes <= PROBES * PROBE) return hash_bytes(hash, data, n_bytes);
    uint64_t step = (n_bytes - PROBE) / (PROBES - 1);
    for (uint64_t i = 0; i < PROBES; i++) hash = hash_bytes(hash, data + i * step, PROBE);
    return hash;
}

bool lower_join_const(Lower *l, KBuf *b) {
    int64_t n_elems;
    if (joined(l, b)) return true;
    if (b->dtype == DT_STR || !k_is_int(b->n_elems, &n_elems)) return false;
    uint64_t n_bytes = (uint64_t)n_elems * (uint64_t)dtype_bytes(b->dtype);
    uint64_t hash = hash_const(b, n_bytes);
    for (KBuf *c; (c = strmap_get_bytes(l->by_bytes, (const char *)&hash, sizeof hash)); hash++) {
        if (c != b && !same_bytes(b, c, n_bytes)) continue;
        if (c != b) join(l, b, c);
        return c != b;
    }
    uint64_t *key = arena_copy(l->arena, &hash, sizeof hash);
    strmap_put_bytes(l->by_bytes, (const char *)key, sizeof *key, b);
    return false;
}

static const KExpr *join_load(KCtx *k, const KExpr *e, void *user) {
    KBuf *b = e->op == KO_load ? joined(user, e->u.buf) : NULL;
    if (!b) return e;
    return e->n_args == 2 ? k_load_if(k, b, e->arg[0], e->arg[1]) : k_load(k, b, e->arg[0]);
}

static void join_block(Lower *l, KBlock *b) {
    for (KStmt *s = b->first; s; s = s->next) {
        KBuf *with = s->buf ? joined(l, s->buf) : NULL;
        if (with) s->buf = with;
        for (uint32_t i = 0; i < kstmt_n_args(s); i++) {
            with = joined(l, s->args[i].buf);
            if (with) s->args[i].buf = with;
        }
        join_block(l, &s->body);
        join_block(l, &s->other);
    }
}

void lower_join_buffers(Lower *l) {
    join_block(l, &l->km->entry);
    kblock_rewrite(l->k, &l->km->entry, join_load, l);
}

/* The buffers of a version's interface are those of the general module. */
static void join_interface(Lower *l, KTensor *const *tensors, const KIo *io, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        KBuf *own = tensors[i]->buf, *with = io[i].buf;
        if (own == with) continue;
        own->mem = with->mem;
        own->index = with->index;
        if (!joined(l, own)) join(l, own, with);
    }
}

/* ---- dims of outputs ------------------------------------------------------------------------- */

/* Dims that running finds become symbols of the size table. */
static void name_dims(Lower *l) {
    Module *last = l->m->versions.at[l->m->versions.n - 1].m;
    for (uint32_t i = 0; i < l->km->n_outputs; i++) {
        KIo *io = &l->km->outputs[i];
        io->dims = arena_copy(l->arena, io->dims, sizeof *io->dims * (size_t)(io->rank + 1));
        for (int d = 0; d < io->rank; d++)
            if (k_is_computed(l->k, io->dims[d]) && io->dims[d]->op != KO_var)
                io->dims[d] = k_var(l->k, module_computed_symbol(last, "dim", io->dims[d]));
    }
}

static void store_dims(Lower *l, const Module *version) {
    KTensor *const *outputs = version->defs->outputs.at;
    for (uint32_t i = 0; i < l->km->n_outputs; i++)
        for (int d = 0; d < l->km->outputs[i].rank; d++) {
            const KExpr *dim = l->km->outputs[i].dims[d], *is = outputs[i]->dims[d];
            if (dim == is || dim->op != KO_var || !dim->u.var->computed) continue;
            kb_store(&l->entry, version->size_table, k_int(l->k, dim->u.var->slot), is);
        }
}

/* ---- the entry ------------------------------------------------------------------------------- */

static void start_version(Lower *l, const char *name) {
    KStmt *s = kblock_append(l->arena, l->entry.stack[l->entry.depth - 1], KS_NODE);
    s->node = l->nodes.n;
    vec_push(l->arena, &l->nodes, ((KNode){name, NODE_VERSION}));
    l->current = NULL;
}

/* The program of m, the general module or a version, in the block that is open. */
static void lower_one(Lower *l, Module *m, const char *name) {
    Module *general = l->m;
    l->m = m;
    start_version(l, name);
    lower_program(l, m->defs);
    store_dims(l, m);
    l->m = general;
    l->bound.n = l->reserved.n = 0;
}

void lower_versions(Lower *l) {
    Module *m = l->m;
    uint32_t n = m->versions.n;
    name_dims(l);
    for (uint32_t i = 0; i < n; i++) {
        const DefProgram *p = m->versions.at[i].m->defs;
        join_interface(l, p->inputs.at, l->km->inputs, l->km->n_inputs);
        join_interface(l, p->outputs.at, l->km->outputs, l->km->n_outputs);
    }
    for (uint32_t i = 0; i < n; i++) {
        kb_if(&l->entry, m->versions.at[i].when);
        lower_one(l, m->versions.at[i].m, m->versions.at[i].name);
        kb_else(&l->entry);
    }
    if (m->only_versions)
        lower_return_if(l, k_bool(l->k, true), RETURN_BAD_DIM);
    else
        lower_one(l, m, "other sizes");
    for (uint32_t i = 0; i < n; i++) kb_end(&l->entry);
}
