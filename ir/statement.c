/* Kernel IR statements: the tree, the builder that appends to it, and signatures for sharing equal
 * kernels. */
#include <string.h>

#include "ir/kernel.h"
#include "ir/support/str.h"

KStmt *kblock_append(Arena *a, KBlock *b, KStmtKind kind) {
    KStmt *s = arena_new(a, KStmt);
    s->kind = kind;
    s->prev = b->last;
    if (b->last)
        b->last->next = s;
    else
        b->first = s;
    b->last = s;
    return s;
}

void kblock_insert_before(KBlock *b, KStmt *at, KStmt *s) {
    s->next = at;
    s->prev = at->prev;
    if (at->prev)
        at->prev->next = s;
    else
        b->first = s;
    at->prev = s;
}

/* ---- builder --------------------------------------------------------------------------------- */

void kb_begin(KBuild *b, KCtx *k, KBlock *into) {
    *b = (KBuild){.k = k, .arena = kctx_arena(k), .depth = 1};
    b->stack[0] = into;
}

static KStmt *append(KBuild *b, KStmtKind kind) {
    return kblock_append(b->arena, b->stack[b->depth - 1], kind);
}

static void open_block(KBuild *b, KBlock *block) {
    BUG_IF(b->depth == (int)(sizeof b->stack / sizeof b->stack[0]), "blocks nest too deeply");
    b->stack[b->depth++] = block;
}

const KExpr *kb_for(KBuild *b, KLoopMark mark, const char *name, const KExpr *extent) {
    KStmt *s = append(b, KS_FOR);
    s->mark = mark;
    s->var = kvar_new(b->k, KV_LOOP, DT_I64, name, 0, k_last_index(extent));
    s->extent = extent;
    open_block(b, &s->body);
    return k_var(b->k, s->var);
}

const KExpr *kb_for_ranges(KBuild *b, const char *name, const KExpr *extent, const KExpr **first) {
    const KExpr *at = kb_for(b, LOOP_PARALLEL, name, extent);
    KStmt *s = b->stack[b->depth - 2]->last;
    s->first = kvar_new(b->k, KV_LOOP, DT_I64, "first", 0, k_last_index(extent));
    *first = k_var(b->k, s->first);
    return at;
}

void kb_while(KBuild *b, const KExpr *cond) {
    KStmt *s = append(b, KS_WHILE);
    s->value = cond;
    open_block(b, &s->body);
}

void kb_if(KBuild *b, const KExpr *cond) {
    KStmt *s = append(b, KS_IF);
    s->value = cond;
    open_block(b, &s->body);
}

void kb_else(KBuild *b) {
    BUG_IF(b->depth < 2, "else without if");
    KStmt *s = b->stack[b->depth - 2]->last;
    BUG_IF(s->kind != KS_IF || b->stack[b->depth - 1] != &s->body, "else without if");
    b->stack[b->depth - 1] = &s->other;
}

void kb_end(KBuild *b) {
    BUG_IF(b->depth < 2, "end without begin");
    b->depth--;
}

const KExpr *kb_let(KBuild *b, const char *name, const KExpr *value) {
    if (value->op == KO_const_i || value->op == KO_const_f || value->op == KO_var) return value;
    KStmt *s = append(b, KS_LET);
    s->var = kvar_new(b->k, KV_LET, value->dtype, name, value->lo, value->hi);
    s->value = value;
    return k_var(b->k, s->var);
}

const KExpr *kb_let_within(KBuild *b, const char *name, const KExpr *value, int64_t hi) {
    bool is_known = value->op == KO_var && value->lo >= 0 && value->hi <= hi;
    if (value->op == KO_const_i || is_known) return value;
    KStmt *s = append(b, KS_LET);
    s->var = kvar_new(b->k, KV_LET, DT_I64, name, 0, hi);
    s->value = value;
    return k_var(b->k, s->var);
}

const KExpr *kb_let_index(KBuild *b, const char *name, const KExpr *value, const KExpr *extent) {
    return kb_let_within(b, name, value, k_last_index(extent));
}

void kb_store(KBuild *b, KBuf *buf, const KExpr *index, const KExpr *value) {
    BUG_IF(value->dtype != buf->dtype, "store of %s into %s %s", dtype_info[value->dtype].name,
           dtype_info[buf->dtype].name, buf->name);
    KStmt *s = append(b, KS_STORE);
    s->buf = buf;
    s->index = index;
    s->value = value;
}

KBuf *kb_alloc(KBuild *b, KMem mem, DType t, const char *name, int64_t n_elems) {
    KStmt *s = append(b, KS_ALLOC);
    s->buf = kbuf_new(b->k, mem, t, name, k_int(b->k, n_elems));
    return s->buf;
}

KBuf *kb_variable(KBuild *b, const char *name, const KExpr *value) {
    KBuf *v = kb_alloc(b, MEM_REG, value->dtype, name, 1);
    kb_set(b, v, value);
    return v;
}

const KExpr *kb_get(KBuild *b, KBuf *variable) {
    return k_load(b->k, variable, k_int(b->k, 0));
}

void kb_set(KBuild *b, KBuf *variable, const KExpr *value) {
    kb_store(b, variable, k_int(b->k, 0), value);
}

void kb_comment(KBuild *b, const char *text) {
    append(b, KS_COMMENT)->text = text;
}

void kb_prefetch(KBuild *b, KBuf *buf, const KExpr *index) {
    append(b, KS_PREFETCH)->value = k_load(b->k, buf, index);
}

void kb_extern(KBuild *b, const char *symbol, const KArg *args, int n_args,
               const KExpr *const *scalars, int n_scalars) {
    KStmt *s = append(b, KS_EXTERN);
    s->text = symbol;
    s->n_args = (uint32_t)n_args;
    s->n_scalars = (uint32_t)n_scalars;
    s->args = arena_array(b->arena, KArg, n_args + 1);
    s->scalars = arena_array(b->arena, const KExpr *, n_scalars + 1);
    for (int i = 0; i < n_args; i++) s->args[i] = args[i];
    for (int i = 0; i < n_scalars; i++) s->scalars[i] = scalars[i];
}

/* ---- whole blocks ---------------------------------------------------------------------------- */

const char *kblock_extern(const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_EXTERN) return s->text;
        const char *inner = kblock_extern(&s->body);
        if (!inner) inner = kblock_extern(&s->other);
        if (inner) return inner;
    }
    return NULL;
}

KStmt *kernel_parallel_loop(const Kernel *kn) {
    KStmt *s = kn->body.first;
    while (s && (s->kind == KS_LET || s->kind == KS_COMMENT)) s = s->next;
    return s && s->kind == KS_FOR && s->mark == LOOP_PARALLEL && !s->next ? s : NULL;
}

void kblock_rewrite(KCtx *k, KBlock *b, KRewrite *fn, void *user) {
    for (KStmt *s = b->first; s; s = s->next) {
        if (s->extent) s->extent = k_rewrite(k, s->extent, fn, user);
        if (s->index) s->index = k_rewrite(k, s->index, fn, user);
        if (s->value) s->value = k_rewrite(k, s->value, fn, user);
        for (uint32_t i = 0; i < kstmt_n_args(s); i++)
            if (s->args[i].offset) s->args[i].offset = k_rewrite(k, s->args[i].offset, fn, user);
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++)
            s->scalars[i] = k_rewrite(k, s->scalars[i], fn, user);
        kblock_rewrite(k, &s->body, fn, user);
        kblock_rewrite(k, &s->other, fn, user);
    }
}

void kblock_visit(KCtx *k, const KBlock *b, void (*fn)(const KExpr *e, void *user), void *user) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->extent) k_visit(k, s->extent, fn, user);
        if (s->index) k_visit(k, s->index, fn, user);
        if (s->value) k_visit(k, s->value, fn, user);
        for (uint32_t i = 0; i < kstmt_n_args(s); i++)
            if (s->args[i].offset) k_visit(k, s->args[i].offset, fn, user);
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++) k_visit(k, s->scalars[i], fn, user);
        kblock_visit(k, &s->body, fn, user);
        kblock_visit(k, &s->other, fn, user);
    }
}

/* ---- signatures ------------------------------------------------------------------------------ */

/* Numbers things in order of first appearance. Pointers are keys; tables are small and linear. */
typedef struct Numbering {
    VEC(const void *) seen;
} Numbering;

typedef struct Signature {
    StrBuf *out;
    Arena *scratch;
    Numbering vars, bufs, exprs;
} Signature;

static uint32_t number_of(Signature *s, Numbering *n, const void *p, bool *is_new) {
    for (uint32_t i = n->seen.n; i-- > 0;)
        if (n->seen.at[i] == p) {
            *is_new = false;
            return i;
        }
    *is_new = true;
    vec_push(s->scratch, &n->seen, p);
    return n->seen.n - 1;
}

static void sign_var(Signature *s, const KVar *v) {
    bool is_new;
    strbuf_printf(s->out, "v%u", number_of(s, &s->vars, v, &is_new));
}

static void sign_buf(Signature *s, const KBuf *b) {
    bool is_new;
    strbuf_printf(s->out, "b%u", number_of(s, &s->bufs, b, &is_new));
    if (is_new)
        strbuf_printf(s->out, ":%d:%d:%u:%d:%d", b->mem, b->dtype, b->align, b->noalias, b->padded);
}

static void sign_expr(Signature *s, const KExpr *e) {
    bool is_new = true;
    uint64_t bits;
    switch ((int)e->op) {
    case KO_const_i: strbuf_printf(s->out, "#%lld:%d", (long long)e->u.i, e->dtype); return;
    case KO_const_f:
        memcpy(&bits, &e->u.f, sizeof bits);
        strbuf_printf(s->out, "#%llx:%d", (unsigned long long)bits, e->dtype);
        return;
    case KO_var: sign_var(s, e->u.var); return;
    default: break;
    }
    strbuf_printf(s->out, "e%u", number_of(s, &s->exprs, e, &is_new));
    if (!is_new) return;
    strbuf_printf(s->out, "=%d:%d(", e->op, e->dtype);
    if (e->op == KO_load) sign_buf(s, e->u.buf);
    for (int i = 0; i < e->n_args; i++) {
        strbuf_add(s->out, ",");
        sign_expr(s, e->arg[i]);
    }
    strbuf_add(s->out, ")");
}

static void sign_extern(Signature *s, const KStmt *st) {
    strbuf_printf(s->out, "%s(", st->text);
    for (uint32_t i = 0; i < st->n_args; i++) {
        sign_buf(s, st->args[i].buf);
        strbuf_add(s->out, st->args[i].written ? "!+" : "+");
        if (st->args[i].offset) sign_expr(s, st->args[i].offset);
    }
    for (uint32_t i = 0; i < st->n_scalars; i++) sign_expr(s, st->scalars[i]);
    strbuf_add(s->out, ")");
}

static void sign_block(Signature *s, const KBlock *b) {
    strbuf_add(s->out, "{");
    for (const KStmt *st = b->first; st; st = st->next) {
        if (st->kind == KS_COMMENT) continue;
        strbuf_printf(s->out, "s%d.%d ", st->kind, st->mark);
        if (st->buf) sign_buf(s, st->buf);
        if (st->kind == KS_ALLOC) sign_expr(s, st->buf->n_elems);
        if (st->extent) sign_expr(s, st->extent);
        if (st->index) sign_expr(s, st->index);
        if (st->value) sign_expr(s, st->value);
        if (st->var) sign_var(s, st->var);
        if (st->kind == KS_EXTERN) sign_extern(s, st);
        if (st->body.first) sign_block(s, &st->body);
        if (st->other.first) {
            strbuf_add(s->out, "else");
            sign_block(s, &st->other);
        }
        strbuf_add(s->out, ";");
    }
    strbuf_add(s->out, "}");
}

void kernel_signature(const Kernel *kn, StrBuf *out) {
    Signature s = {.out = out, .scratch = arena_create()};
    for (uint32_t i = 0; i < kn->n_params; i++) sign_buf(&s, kn->params[i]);
    for (uint32_t i = 0; i < kn->n_scalars; i++) sign_var(&s, kn->scalars[i]);
    sign_block(&s, &kn->body);
    arena_destroy(s.scratch);
}
