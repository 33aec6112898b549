/* Statements and kernels of kernel IR as C: one statement a line, loops as countable for loops.
 *
 * Every loop mark becomes a plain loop: lanes, copies and GPU axes are iterations in order. A
 * parallel top loop runs from begin to end, which the caller gives. */
#include "codegen/c/c_gen.h"

#include <string.h>

void c_line(CGen *g, const char *fmt, ...) {
    va_list ap;
    for (int i = 0; i < g->indent; i++) strbuf_add(&g->out, "    ");
    va_start(ap, fmt);
    strbuf_vprintf(&g->out, fmt, ap);
    va_end(ap);
    strbuf_add(&g->out, "\n");
}

void c_comment(CGen *g, const char *text) {
    for (int i = 0; i < g->indent; i++) strbuf_add(&g->out, "    ");
    strbuf_add(&g->out, "/* ");
    strbuf_escaped(&g->out, text, ESC_C_COMMENT);
    strbuf_add(&g->out, " */\n");
}

/* ---- which variables matter ------------------------------------------------------------------ */

typedef struct Marking {
    CGen *g;
    bool changed;
} Marking;

static void mark_var(const KExpr *e, void *user) {
    Marking *m = user;
    if (e->op != KO_var || m->g->used[e->u.var->id]) return;
    m->g->used[e->u.var->id] = 1;
    m->changed = true;
}

static void mark_expr(Marking *m, const KExpr *e) {
    if (e) k_visit(m->g->m->k, e, mark_var, m);
}

static void mark_block(Marking *m, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_LET && !m->g->used[s->var->id]) continue;
        mark_expr(m, s->extent);
        mark_expr(m, s->index);
        mark_expr(m, s->value);
        for (uint32_t i = 0; i < kstmt_n_args(s); i++) mark_expr(m, s->args[i].offset);
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++)
            mark_expr(m, s->scalars[i]);
        mark_block(m, &s->body);
        mark_block(m, &s->other);
    }
}

void c_find_used(CGen *g, const KBlock *b) {
    Marking m = {.g = g, .changed = true};
    while (m.changed) {
        m.changed = false;
        mark_block(&m, b);
    }
}

/* ---- statements ------------------------------------------------------------------------------ */

static void nested_block(CGen *g, const KBlock *b) {
    uint32_t mark = c_scope_mark(g);
    g->indent++;
    c_block(g, b);
    g->indent--;
    c_scope_end(g, mark);
}

static void emit_loop(CGen *g, const KStmt *s, const char *from, const char *to) {
    const char *v = c_name_var(g, s->var), *i = v, *falls = NULL;
    c_end_statement(g);
    if (s->index) {
        falls = c_fresh_name(g, "falls");
        i = c_fresh_name(g, "i");
        c_line(g, "const int %s = %s;", falls, c_expr(g, s->index, true));
    }
    if (s->first && g->used[s->first->id])
        c_line(g, "const int64_t %s = %s;", c_name_var(g, s->first), from);
    c_line(g, "for (int64_t %s = %s; %s < %s; %s++) {", i, from, i, to, i);
    if (s->index)
        c_line(g, "    const int64_t %s = %s ? %s + %s - 1 - %s : %s;", v, falls, from, to, i, i);
    nested_block(g, &s->body);
    c_line(g, "}");
}

static void emit_for(CGen *g, const KStmt *s) {
    const char *extent = c_expr(g, s->extent, false);
    if (s->extent->op != KO_const_i && s->extent->op != KO_var) { /* evaluated once */
        const char *n = c_fresh_name(g, "n");
        c_line(g, "const int64_t %s = %s;", n, extent);
        extent = n;
    }
    emit_loop(g, s, "0", extent);
}

/* The condition's locals, if it needs any, belong inside of the loop. */
static void emit_while(CGen *g, const KStmt *s) {
    uint32_t mark = c_scope_mark(g);
    size_t start = g->out.n;
    c_line(g, "for (;;) {");
    g->indent++;
    size_t inner = g->out.n;
    const char *cond = c_expr(g, s->value, true);
    bool has_locals = g->out.n > inner;
    c_end_statement(g);
    g->indent--;
    if (has_locals) {
        g->indent++;
        c_line(g, "if (!(%s)) break;", cond);
        g->indent--;
    } else {
        g->out.n = start;
        g->out.text[start] = 0;
        c_line(g, "while (%s) {", cond);
    }
    nested_block(g, &s->body);
    c_line(g, "}");
    c_scope_end(g, mark);
}

static void emit_if(CGen *g, const KStmt *s) {
    const char *cond = c_expr(g, s->value, true);
    c_end_statement(g);
    c_line(g, "if (%s) {", cond);
    nested_block(g, &s->body);
    if (s->other.first) {
        c_line(g, "} else {");
        nested_block(g, &s->other);
    }
    c_line(g, "}");
}

static void emit_let(CGen *g, const KStmt *s) {
    if (!g->used[s->var->id] || (g->in_entry && s->var->computed))
        return; /* those are read where used */
    const char *value = c_expr(g, s->value, true);
    c_line(g, "const %s %s = %s;", c_value_type(s->var->dtype), c_name_var(g, s->var), value);
}

static void emit_store(CGen *g, const KStmt *s) {
    c_announce(g, s->index, false);
    c_announce(g, s->value, true);
    c_settle(g, s->index);
    c_settle(g, s->value);
    StrBuf index = {0}, value = {0};
    c_print(g, &index, s->index);
    c_print_stored(g, &value, s->value);
    c_line(g, "%s[%s] = %s;", c_name_buf(g, s->buf), strbuf_text(&index), strbuf_text(&value));
    strbuf_free(&index);
    strbuf_free(&value);
}

static void emit_alloc(CGen *g, const KStmt *s) {
    int64_t n;
    BUG_IF(!k_is_int(s->buf->n_elems, &n), "local buffer %s has no constant size", s->buf->name);
    c_line(g, "%s %s[%lld];", c_memory_type(s->buf->dtype), c_name_buf(g, s->buf),
           (long long)(n > 0 ? n : 1));
}

/* A function of the user's, which the header declares: for bool and 16-bit floats with types of its
 * own. */
static void emit_extern(CGen *g, const KStmt *s) {
    StrBuf call = {0};
    for (uint32_t i = 0; i < s->n_args; i++) {
        const KArg *a = &s->args[i];
        strbuf_printf(&call, "%s(%svoid *)(%s", i ? ", " : "", a->written ? "" : "const ",
                      c_name_buf(g, a->buf));
        if (a->offset) strbuf_printf(&call, " + %s", c_expr(g, a->offset, false));
        strbuf_add(&call, ")");
    }
    for (uint32_t i = 0; i < s->n_scalars; i++)
        strbuf_printf(&call, "%s%s", i || s->n_args ? ", " : "", c_expr(g, s->scalars[i], true));
    c_line(g, "%s(%s);", s->text, strbuf_text(&call));
    strbuf_free(&call);
}

/* By the address as a number: the element need not exist. */
static void emit_prefetch(CGen *g, const KExpr *load) {
    const char *name = c_helper(g, "prefetch", DT_NONE), *index = c_expr(g, load->arg[0], false);
    const char *buf = c_name_buf(g, load->u.buf);
    c_line(g, "%s((uintptr_t)%s + (uintptr_t)(%s) * sizeof *%s);", name, buf, index, buf);
}

void c_block(CGen *g, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        c_begin_statement(g);
        switch (s->kind) {
        case KS_FOR: emit_for(g, s); break;
        case KS_WHILE: emit_while(g, s); break;
        case KS_IF: emit_if(g, s); break;
        case KS_LET: emit_let(g, s); break;
        case KS_STORE: emit_store(g, s); break;
        case KS_ALLOC: emit_alloc(g, s); break;
        case KS_CALL:
        case KS_NODE:
        case KS_RESERVE:
        case KS_RETURN: c_entry_statement(g, s); break;
        case KS_EXTERN: emit_extern(g, s); break;
        case KS_COMMENT: c_comment(g, s->text ? s->text : ""); break;
        case KS_PREFETCH: emit_prefetch(g, s->value); break;
        case KS_BARRIER: BUG("a barrier reached the C renderer");
        case KS_NONE: break;
        }
        c_end_statement(g);
        if (s->kind == KS_RETURN) return; /* nothing after it can run */
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

void c_print_params(CGen *g, StrBuf *b, const Kernel *kn) {
    strbuf_add(b, "(");
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KBuf *p = kn->params[i];
        strbuf_printf(b, "%s%s%s *%s%s", i ? ", " : "", p->written ? "" : "const ",
                      c_memory_type(p->dtype), p->noalias ? "restrict " : "", c_name_buf(g, p));
    }
    for (uint32_t i = 0; i < kn->n_scalars; i++)
        strbuf_printf(b, "%sint64_t %s", i || kn->n_params ? ", " : "",
                      c_name_var(g, kn->scalars[i]));
}

static void note_bufs(const KExpr *e, void *names) {
    if (e->op == KO_load)
        strmap_put_bytes(names, (const char *)&e->u.buf, sizeof e->u.buf, e->u.buf);
}

/* Buffers that the block touches, keyed by address. */
static void find_bufs(CGen *g, const KBlock *b, StrMap *found) {
    for (const KStmt *s = b->first; s; s = s->next) {
        const KExpr *roots[] = {s->extent, s->index, s->value};
        for (int i = 0; i < 3; i++)
            if (roots[i]) k_visit(g->m->k, roots[i], note_bufs, found);
        if (s->kind == KS_STORE)
            strmap_put_bytes(found, (const char *)&s->buf, sizeof s->buf, s->buf);
        for (uint32_t i = 0; i < s->n_args; i++)
            strmap_put_bytes(found, (const char *)&s->args[i].buf, sizeof s->args[i].buf,
                             s->args[i].buf);
        find_bufs(g, &s->body, found);
        find_bufs(g, &s->other, found);
    }
}

/* Parameters that the kernel ignores would be warned about. */
static void mention_unused(CGen *g, const Kernel *kn) {
    StrMap *found = strmap_create(g->a);
    find_bufs(g, &kn->body, found);
    for (uint32_t i = 0; i < kn->n_params; i++)
        if (!strmap_get_bytes(found, (const char *)&kn->params[i], sizeof kn->params[i]))
            c_line(g, "(void)%s;", c_name_buf(g, kn->params[i]));
    for (uint32_t i = 0; i < kn->n_scalars; i++)
        if (!g->used[kn->scalars[i]->id]) c_line(g, "(void)%s;", c_name_var(g, kn->scalars[i]));
}

static void kernel_body(CGen *g, const Kernel *kn) {
    const KStmt *parallel = kernel_parallel_loop(kn);
    if (!parallel) {
        c_block(g, &kn->body);
        return;
    }
    for (const KStmt *s = kn->body.first; s != parallel; s = s->next) {
        c_begin_statement(g);
        if (s->kind == KS_LET) emit_let(g, s);
        c_end_statement(g);
    }
    c_begin_statement(g);
    emit_loop(g, parallel, "begin", "end");
}

/* The extent of a parallel loop is the caller's business; the LETs before it matter to its body
 * only. */
static void find_kernel_used(CGen *g, const Kernel *kn) {
    const KStmt *loop = kernel_parallel_loop(kn);
    Marking m = {.g = g};
    memset(g->used, 0, kctx_n_vars(g->m->k));
    c_find_used(g, loop ? &loop->body : &kn->body);
    for (const KStmt *s = loop ? loop->prev : NULL; s; s = s->prev)
        if (s->kind == KS_LET && g->used[s->var->id]) mark_expr(&m, s->value);
}

void c_kernel(CGen *g, const Kernel *kn, bool is_static) {
    c_begin_names(g);
    uint32_t mark = c_scope_mark(g);
    find_kernel_used(g, kn);
    if (kn->note) c_comment(g, kn->note);
    StrBuf head = {0};
    c_print_params(g, &head, kn);
    bool any = kn->n_params + kn->n_scalars > 0, parallel = kernel_parallel_loop(kn) != NULL;
    const char *tail = parallel
                           ? any ? ", int64_t begin, int64_t end" : "int64_t begin, int64_t end"
                       : any ? ""
                             : "void";
    const char *start = arena_printf(g->a, "%svoid %s%s%s)", is_static ? "static " : "",
                                     c_kernel_name(g, kn), strbuf_text(&head), tail);
    strbuf_free(&head);
    if (!is_static) c_line(g, "%s;", start);
    c_line(g, "%s", start);
    c_line(g, "{");
    g->indent++;
    mention_unused(g, kn);
    kernel_body(g, kn);
    g->indent--;
    c_line(g, "}");
    strbuf_add(&g->out, "\n");
    c_scope_end(g, mark);
}
