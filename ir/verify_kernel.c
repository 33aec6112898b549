/* The invariants of kernel IR: variables bound and buffers declared before use, loop marks where
 * they may stand, dtypes that fit, nothing of the definition level left, and calls that fit
 * kernels. */
#include <stdlib.h>
#include <string.h>

#include "ir/print_text.h"
#include "ir/tile.h"
#include "ir/verify.h"

typedef struct KernelCheck {
    const char *after, *name;
    KCtx *k;
    bool is_expanded; /* MATH nodes are gone */
    bool is_entry;
    bool in_tile;         /* inside of a loop marked LOOP_TILE */
    unsigned char *bound; /* variables in scope, by id */
    TextMap declared;     /* buffers in scope, to this */
    VEC(const KVar *) vars;
    VEC(const KBuf *) bufs;
    Arena *a;
} KernelCheck;

/* ---- expressions ----------------------------------------------------------------------------- */

static void check_buffer(const KernelCheck *c, const KBuf *b) {
    bool is_known = c->is_entry && b->mem != MEM_PARAM ? b->mem != MEM_NONE
                                                       : textmap_get(&c->declared, b) != NULL;
    BUG_IF(!is_known, "after %s: %s uses buffer '%s', which is not declared", c->after, c->name,
           b->name);
    BUG_IF(b->mem == MEM_TILE && !c->in_tile,
           "after %s: %s uses the tile '%s' outside of tile loops", c->after, c->name, b->name);
}

static void check_arith(const KernelCheck *c, const KExpr *e) {
    int first = e->op == KO_select ? 1 : 0;
    if (kop_is_dot(e->op)) {
        for (int i = 0; i < 3; i++)
            BUG_IF(e->arg[i]->dtype != (i ? DT_I32 : kop_dot_sum(e->op)), "after %s: %s: %s of %s",
                   c->after, c->name, kop_info[e->op].name, dtype_info[e->arg[i]->dtype].name);
        return;
    }
    BUG_IF(e->op == KO_ldexp && e->dtype != DT_F32 && e->dtype != DT_F64,
           "after %s: %s: ldexp of %s", c->after, c->name, dtype_info[e->dtype].name);
    BUG_IF(e->op == KO_root16 && e->dtype != DT_I32, "after %s: %s: root16 of %s", c->after,
           c->name, dtype_info[e->dtype].name);
    for (int i = first; i < e->n_args; i++)
        BUG_IF(e->arg[i]->dtype != e->dtype, "after %s: %s: %s of %s gives %s", c->after, c->name,
               kop_info[e->op].name, dtype_info[e->arg[i]->dtype].name, dtype_info[e->dtype].name);
}

static void check_text(const KernelCheck *c, const KExpr *e) {
    bool forms = e->op == KO_str_of;
    BUG_IF(e->arg[0]->dtype != (forms ? DT_U8 : DT_STR), "after %s: %s: %s of %s", c->after,
           c->name, kop_info[e->op].name, dtype_info[e->arg[0]->dtype].name);
    BUG_IF(forms && (e->arg[0]->op != KO_load),
           "after %s: %s: str_of needs the place of its first byte", c->after, c->name);
    for (int i = 1; i < e->n_args; i++)
        BUG_IF(e->arg[i]->dtype != DT_I64, "after %s: %s: %s counts in %s", c->after, c->name,
               kop_info[e->op].name, dtype_info[e->arg[i]->dtype].name);
}

static void check_pair(const KernelCheck *c, const KExpr *e) {
    bool joins = e->op == KO_complex;
    DType whole = joins ? e->dtype : e->arg[0]->dtype, part = joins ? e->arg[0]->dtype : e->dtype;
    BUG_IF(c->is_expanded, "after %s: %s still has %s", c->after, c->name, kop_info[e->op].name);
    BUG_IF(!dtype_is_complex(whole) || part != dtype_part(whole) ||
               (joins && e->arg[1]->dtype != part),
           "after %s: %s: %s of %s is %s", c->after, c->name, kop_info[e->op].name,
           dtype_info[e->arg[0]->dtype].name, dtype_info[e->dtype].name);
}

static void check_node(const KExpr *e, void *user) {
    const KernelCheck *c = user;
    const KOpInfo *o = &kop_info[e->op];
    BUG_IF(e->op == KO_NONE || e->op >= KO_COUNT,
           "after %s: %s has an expression without operation", c->after, c->name);
    BUG_IF(e->op == KO_at, "after %s: %s reads a tensor that was not opened", c->after, c->name);
    BUG_IF(o->n_args >= 0 && e->n_args != o->n_args, "after %s: %s: %s has %d operands", c->after,
           c->name, o->name, e->n_args);
    switch (o->class) {
    case KC_NONE: break;
    case KC_LEAF:
        if (e->op != KO_var) break;
        BUG_IF(e->u.var->kind == KV_AXIS, "after %s: axis '%s' in %s was not bound to a loop",
               c->after, e->u.var->name, c->name);
        BUG_IF(!c->bound[e->u.var->id], "after %s: %s uses variable '%s' before it is bound",
               c->after, c->name, e->u.var->name);
        break;
    case KC_MEM:
        check_buffer(c, e->u.buf);
        BUG_IF(e->dtype != e->u.buf->dtype && !k_is_word(e), "after %s: %s loads %s from '%s'",
               c->after, c->name, dtype_info[e->dtype].name, e->u.buf->name);
        BUG_IF(e->arg[0]->dtype != DT_I64, "after %s: %s indexes '%s' with %s", c->after, c->name,
               e->u.buf->name, dtype_info[e->arg[0]->dtype].name);
        BUG_IF(e->n_args > 1 && e->arg[1]->dtype != DT_BOOL,
               "after %s: a predicate in %s is no bool", c->after, c->name);
        break;
    case KC_ARITH: check_arith(c, e); break;
    case KC_CMP:
        BUG_IF(e->dtype != DT_BOOL || e->arg[0]->dtype != e->arg[1]->dtype,
               "after %s: %s compares %s and %s", c->after, c->name,
               dtype_info[e->arg[0]->dtype].name, dtype_info[e->arg[1]->dtype].name);
        break;
    case KC_CONV: break;
    case KC_TEXT: check_text(c, e); break;
    case KC_PAIR: check_pair(c, e); break;
    case KC_MATH:
        BUG_IF(c->is_expanded, "after %s: %s still has %s", c->after, c->name, o->name);
        break;
    }
}

static void check_expr(KernelCheck *c, const KExpr *e, DType t, const char *what) {
    BUG_IF(!e, "after %s: a statement of %s has no %s", c->after, c->name, what);
    BUG_IF(t != DT_NONE && e->dtype != t, "after %s: %s: %s is %s, not %s", c->after, c->name, what,
           dtype_info[e->dtype].name, dtype_info[t].name);
    k_visit(c->k, e, check_node, c);
}

/* ---- statements ------------------------------------------------------------------------------ */

static void bind(KernelCheck *c, const KVar *v) {
    BUG_IF(!v, "after %s: a statement of %s has no variable", c->after, c->name);
    bool again =
        c->is_entry && v->kind == KV_SYMBOL; /* a size is read anew where it may have changed */
    BUG_IF(c->bound[v->id] && !again, "after %s: %s binds '%s' twice", c->after, c->name, v->name);
    if (c->bound[v->id]) return;
    c->bound[v->id] = 1;
    vec_push(c->a, &c->vars, v);
}

static void declare(KernelCheck *c, const KBuf *b) {
    textmap_put(&c->declared, b, c);
    vec_push(c->a, &c->bufs, b);
}

static void check_alloc(KernelCheck *c, const KStmt *s) {
    int64_t n;
    bool is_local = s->buf && kmem_is_local(s->buf->mem);
    BUG_IF(!is_local, "after %s: %s allocates what is not local", c->after, c->name);
    BUG_IF(!k_is_int(s->buf->n_elems, &n) || n < 0, "after %s: '%s' in %s has no constant size",
           c->after, s->buf->name, c->name);
    declare(c, s->buf);
}

static void check_call(KernelCheck *c, const KStmt *s) {
    const Kernel *kn = s->callee;
    BUG_IF(!kn || (kn->n_params && !s->args) || (kn->n_scalars && !s->scalars),
           "after %s: a call lacks its arguments", c->after);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KArg *a = &s->args[i];
        BUG_IF(!a->buf || a->buf->dtype != kn->params[i]->dtype,
               "after %s: argument %u of %s does not fit", c->after, i, kn->name);
        check_buffer(c, a->buf);
        if (a->offset) check_expr(c, a->offset, DT_I64, "offset");
    }
    for (uint32_t i = 0; i < kn->n_scalars; i++)
        check_expr(c, s->scalars[i], kn->scalars[i]->dtype, "scalar");
}

static void check_extern(KernelCheck *c, const KStmt *s) {
    BUG_IF(!s->text || !*s->text || (s->n_args && !s->args) || (s->n_scalars && !s->scalars),
           "after %s: an extern call lacks its name or arguments", c->after);
    for (uint32_t i = 0; i < s->n_args; i++) {
        const KArg *a = &s->args[i];
        check_buffer(c, a->buf);
        BUG_IF(a->written && (a->buf->mem == MEM_CONST || a->buf->mem == MEM_INPUT),
               "after %s: %s stores into '%s'", c->after, s->text, a->buf->name);
        if (a->offset) check_expr(c, a->offset, DT_I64, "offset");
    }
    for (uint32_t i = 0; i < s->n_scalars; i++) check_expr(c, s->scalars[i], DT_I64, "scalar");
}

static void check_block(KernelCheck *c, const KBlock *b, int depth);

static void check_for(KernelCheck *c, const KStmt *s, int depth) {
    int64_t n;
    bool is_fixed = s->mark == LOOP_VECTOR || s->mark == LOOP_UNROLL;
    check_expr(c, s->extent, DT_I64, "extent");
    BUG_IF(is_fixed && !k_is_int(s->extent, &n), "after %s: a %s loop of %s has no constant extent",
           c->after, kmark_word(s->mark), c->name);
    BUG_IF(s->mark == LOOP_PARALLEL && (depth || c->is_entry),
           "after %s: %s has a parallel loop that is not outermost", c->after, c->name);
    if (s->value) check_expr(c, s->value, DT_BOOL, "condition");
    BUG_IF(s->value && s->mark != LOOP_PARALLEL,
           "after %s: %s has a condition for threads at another loop", c->after, c->name);
    if (s->index) check_expr(c, s->index, DT_BOOL, "order");
    BUG_IF(s->index && s->mark != LOOP_SERIAL && s->mark != LOOP_PARALLEL,
           "after %s: %s turns around a %s loop", c->after, c->name, kmark_word(s->mark));
    TileOp op;
    BUG_IF(s->mark == LOOP_TILE && !tile_op(c->k, s, &op),
           "after %s: a tile loop of %s has none of the three forms", c->after, c->name);
    bool outside = !c->in_tile;
    c->in_tile |= s->mark == LOOP_TILE;
    BUG_IF(s->first && (s->index || s->mark != LOOP_PARALLEL),
           "after %s: %s asks for the range of a loop that has none in order", c->after, c->name);
    bind(c, s->var);
    if (s->first) bind(c, s->first);
    check_block(c, &s->body, depth + 1);
    c->bound[s->var->id] = 0;
    if (s->first) c->bound[s->first->id] = 0;
    if (outside) c->in_tile = false;
}

static void check_place(const KernelCheck *c, const KStmt *s) {
    bool of_entry =
        s->kind == KS_CALL || s->kind == KS_NODE || s->kind == KS_RETURN || s->kind == KS_RESERVE;
    BUG_IF(of_entry && !c->is_entry, "after %s: %s holds a statement of the entry", c->after,
           c->name);
}

static void check_statement(KernelCheck *c, const KStmt *s, int depth) {
    check_place(c, s);
    switch (s->kind) {
    case KS_NONE: BUG("after %s: %s has an empty statement", c->after, c->name);
    case KS_FOR: check_for(c, s, depth); break;
    case KS_WHILE:
        check_expr(c, s->value, DT_BOOL, "condition");
        check_block(c, &s->body, depth + 1);
        break;
    case KS_IF:
        check_expr(c, s->value, DT_BOOL, "condition");
        check_block(c, &s->body, depth + 1);
        check_block(c, &s->other, depth + 1);
        break;
    case KS_LET:
        check_expr(c, s->value, s->var ? s->var->dtype : DT_NONE, "value");
        bind(c, s->var);
        break;
    case KS_STORE:
        check_buffer(c, s->buf);
        BUG_IF(s->buf->mem == MEM_CONST || s->buf->mem == MEM_INPUT,
               "after %s: %s stores into '%s'", c->after, c->name, s->buf->name);
        check_expr(c, s->index, DT_I64, "index");
        check_expr(c, s->value, s->buf->dtype, "value");
        break;
    case KS_ALLOC: check_alloc(c, s); break;
    case KS_CALL: check_call(c, s); break;
    case KS_EXTERN: check_extern(c, s); break;
    case KS_RETURN: check_expr(c, s->value, DT_I64, "status"); break;
    case KS_PREFETCH:
        BUG_IF(!s->value || s->value->op != KO_load || s->value->n_args != 1,
               "after %s: %s prefetches what is no element of a buffer", c->after, c->name);
        check_expr(c, s->value, s->value->dtype, "element");
        break;
    case KS_RESERVE:
        BUG_IF(!s->buf || s->buf->mem != MEM_HEAP,
               "after %s: memory is reserved for no heap buffer", c->after);
        check_expr(c, s->value, DT_I64, "size");
        if (s->index) check_expr(c, s->index, DT_I64, "count of elements to keep");
        break;
    case KS_BARRIER:
    case KS_NODE:
    case KS_COMMENT: break;
    }
}

/* What a block binds and declares is gone after it. */
static void check_block(KernelCheck *c, const KBlock *b, int depth) {
    uint32_t n_vars = c->vars.n, n_bufs = c->bufs.n;
    for (const KStmt *s = b->first; s; s = s->next) {
        BUG_IF((s->prev ? s->prev->next : b->first) != s ||
                   (s->next ? s->next->prev : b->last) != s,
               "after %s: the links of a block in %s are broken", c->after, c->name);
        check_statement(c, s, depth);
    }
    while (c->vars.n > n_vars) c->bound[c->vars.at[--c->vars.n]->id] = 0;
    while (c->bufs.n > n_bufs) textmap_put(&c->declared, c->bufs.at[--c->bufs.n], NULL);
}

/* ---- kernels and the program ----------------------------------------------------------------- */

static void check_begin(KernelCheck *c, KCtx *k, const char *name, bool is_expanded,
                        const char *after) {
    *c = (KernelCheck){
        .after = after, .name = name, .k = k, .is_expanded = is_expanded, .a = arena_create()};
    c->bound = xmalloc(kctx_n_vars(k) + 1);
}

static void check_end(KernelCheck *c) {
    free(c->bound);
    textmap_free(&c->declared);
    arena_destroy(c->a);
}

void verify_kernel(KCtx *k, const Kernel *kn, bool is_expanded, const char *after) {
    KernelCheck c;
    BUG_IF(!kn->name || !*kn->name, "after %s: kernel %u has no name", after, kn->id);
    check_begin(&c, k, kn->name, is_expanded, after);
    for (uint32_t i = 0; i < kn->n_scalars; i++) bind(&c, kn->scalars[i]);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KBuf *b = kn->params[i];
        BUG_IF(b->mem != MEM_PARAM || b->index != i,
               "after %s: parameter '%s' of %s is out of place", after, b->name, kn->name);
        declare(&c, b);
    }
    check_block(&c, &kn->body, 0);
    check_end(&c);
}

static void check_ios(const KModule *m, const KIo *io, uint32_t n, const char *after) {
    for (uint32_t i = 0; i < n; i++) {
        BUG_IF(!io[i].buf || dtype_stored(io[i].buf->dtype) != dtype_stored(io[i].dtype),
               "after %s: '%s' has no buffer of its dtype", after, io[i].name);
        for (int a = 0; a < io[i].rank; a++)
            BUG_IF(!io[i].dims[a], "after %s: '%s' lacks dim %d", after, io[i].name, a);
    }
    (void)m;
}

static void check_consts(const KModule *m, const char *after) {
    int64_t n;
    for (uint32_t i = 0; i < m->n_consts; i++) {
        const KBuf *b = m->consts[i];
        BUG_IF(b->mem != MEM_CONST || b->index != i, "after %s: constant '%s' is out of place",
               after, b->name);
        BUG_IF(!b->n_elems || !k_is_int(b->n_elems, &n) || (n && !b->data),
               "after %s: constant '%s' has no data", after, b->name);
    }
}

void verify_kmodule(const KModule *m, bool is_expanded, const char *after) {
    for (uint32_t i = 0; i < m->n_kernels; i++) {
        BUG_IF(m->kernels[i]->id != i, "after %s: kernel '%s' has id %u", after,
               m->kernels[i]->name, m->kernels[i]->id);
        verify_kernel(m->k, m->kernels[i], is_expanded, after);
    }
    check_ios(m, m->inputs, m->n_inputs, after);
    check_ios(m, m->outputs, m->n_outputs, after);
    check_consts(m, after);
    KernelCheck c;
    check_begin(&c, m->k, "the entry", is_expanded, after);
    c.is_entry = true;
    for (uint32_t i = 0; i < m->n_symbols; i++) bind(&c, m->symbols[i]);
    check_block(&c, &m->entry, 0);
    check_end(&c);
}
