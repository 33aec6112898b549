/* From statements to kernels: see kernelize.h. */
#include "passes/kernelize.h"

#include <string.h>

#include "ir/schedule.h"
#include "ir/winograd.h"

typedef struct Extract {
    KCtx *k;
    Arena *arena;
    VEC(KBuf *) bufs;   /* outer buffers */
    VEC(KBuf *) params; /* what replaces them */
    VEC(KVar *) bound;  /* variables bound inside */
    VEC(KVar *) free;
} Extract;

static KBuf *param_of(Extract *x, KBuf *b) {
    if (kmem_is_local(b->mem)) return b;
    for (uint32_t i = 0; i < x->bufs.n; i++)
        if (x->bufs.at[i] == b) return x->params.at[i];
    KBuf *p = kbuf_new(x->k, MEM_PARAM, b->dtype, *b->name ? b->name : "t", b->n_elems);
    p->index = x->params.n;
    p->noalias = true;
    p->align = b->mem == MEM_ARENA || b->mem == MEM_CONST ? 64 : 0;
    vec_push(x->arena, &x->bufs, b);
    vec_push(x->arena, &x->params, p);
    return p;
}

static bool holds(KVar *const *v, uint32_t n, const KVar *var) {
    for (uint32_t i = n; i-- > 0;)
        if (v[i] == var) return true;
    return false;
}

static const KExpr *extract_expr(KCtx *k, const KExpr *e, void *user) {
    Extract *x = user;
    BUG_IF(e->op == KO_at, "a tensor read was not opened");
    if (e->op == KO_load && !kmem_is_local(e->u.buf->mem) && e->u.buf->mem != MEM_PARAM) {
        KBuf *p = param_of(x, e->u.buf);
        return k_load_like(k, e, p, e->arg);
    }
    if (e->op == KO_var) {
        KVar *v = e->u.var;
        BUG_IF(v->kind == KV_AXIS, "axis '%s' was not bound to a loop", v->name);
        if (!holds(x->bound.at, x->bound.n, v) && !holds(x->free.at, x->free.n, v))
            vec_push(x->arena, &x->free, v);
    }
    return e;
}

static void extract_block(Extract *x, KBlock *b) {
    for (KStmt *s = b->first; s; s = s->next) {
        if (s->extent) s->extent = k_rewrite(x->k, s->extent, extract_expr, x);
        if (s->index) s->index = k_rewrite(x->k, s->index, extract_expr, x);
        if (s->value) s->value = k_rewrite(x->k, s->value, extract_expr, x);
        if (s->kind == KS_STORE) {
            s->buf = param_of(x, s->buf);
            if (!kmem_is_local(s->buf->mem)) s->buf->written = true;
        }
        for (uint32_t i = 0; i < s->n_args; i++) {
            KArg *a = &s->args[i];
            a->buf = param_of(x, a->buf);
            if (a->written) a->buf->written = true;
            if (a->offset) a->offset = k_rewrite(x->k, a->offset, extract_expr, x);
        }
        for (uint32_t i = 0; i < s->n_scalars; i++)
            s->scalars[i] = k_rewrite(x->k, s->scalars[i], extract_expr, x);
        if (s->var) vec_push(x->arena, &x->bound, s->var);
        if (s->first) vec_push(x->arena, &x->bound, s->first);
        extract_block(x, &s->body);
        extract_block(x, &s->other);
    }
}

KernelUse kernel_extract(KCtx *k, KBlock body) {
    Extract x = {.k = k, .arena = kctx_arena(k)};
    Kernel *kn = arena_new(x.arena, Kernel);
    kn->body = body;
    extract_block(&x, &kn->body);
    kn->params = x.params.at;
    kn->n_params = x.params.n;
    kn->scalars = x.free.at;
    kn->n_scalars = x.free.n;
    return (KernelUse){kn, x.bufs.at, x.free.at};
}

/* A program addresses its outputs by their own buffers; where one shares the memory of another
 * tensor, it is that tensor's buffer, at an offset. */
typedef struct OpenProgram {
    DefProgram *p;
    const Stage *s;
} OpenProgram;

/* The root's buffer and the index in it, when buf is that of a sharing output; else false. */
static bool shared_place(const OpenProgram *o, KBuf **buf, const KExpr **index) {
    const KExpr *offset;
    for (int i = 0; i < o->s->n_outs; i++) {
        if (o->s->outs[i]->buf != *buf || !o->s->outs[i]->alias) continue;
        *buf = tensor_root(o->p->m->k, o->s->outs[i], &offset)->buf;
        *index = k_add(o->p->m->k, *index, offset);
        return true;
    }
    return false;
}

static const KExpr *open_read(KCtx *k, const KExpr *e, void *user) {
    OpenProgram *o = user;
    if (e->op == KO_at) return expr_open(o->p, e);
    if (e->op != KO_load) return e;
    KBuf *buf = e->u.buf;
    const KExpr *index = e->arg[0];
    if (!shared_place(o, &buf, &index)) return e;
    const KExpr *args[2] = {index, e->n_args == 2 ? e->arg[1] : NULL};
    return k_load_like(k, e, buf, args);
}

static void open_stores(const OpenProgram *o, KBlock *b) {
    for (KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_STORE) shared_place(o, &s->buf, &s->index);
        for (uint32_t i = 0; i < s->n_args; i++) {
            KArg *a = &s->args[i];
            const KExpr *at = a->offset ? a->offset : k_int(o->p->m->k, 0);
            if (!a->buf) {
                BUG_IF(at->op != KO_load, "an argument of %s is no element in memory", s->text);
                a->buf = at->u.buf;
                a->offset = at->arg[0];
            } else if (shared_place(o, &a->buf, &at)) {
                a->offset = at;
            }
        }
        open_stores(o, &s->body);
        open_stores(o, &s->other);
    }
}

void stage_open(DefProgram *p, Stage *s, KBlock *into) {
    KBuild b;
    kb_begin(&b, p->m->k, into);
    if (s->form == FORM_PROGRAM) {
        OpenProgram o = {p, s};
        kblock_rewrite(p->m->k, &s->program, open_read, &o);
        open_stores(&o, &s->program);
        *into = s->program;
    } else if (s->schedule && s->schedule->winograd) {
        schedule_open_winograd(p, s, &b);
    } else if (s->schedule) {
        schedule_open_contract(p, s, s->schedule, NULL, &b);
    } else {
        schedule_open_rows(p, &s, 1, 0, NULL, 0, &b);
    }
}
