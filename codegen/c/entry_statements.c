/* The statements of the entry in generated C: calls of kernels, with what a pool needs to run one
 * in ranges; nodes' hooks; room on the heap. */
#include <inttypes.h>
#include <string.h>

#include "codegen/c/c_gen.h"

/* ---- kernels that a pool may run ------------------------------------------------------------- */

/* A function of the kernel's arguments: the number of iterations of its parallel loop where that is
 * not fixed (NAME_extent), or whether they are worth threads (NAME_is_worth). */
static void emit_loop_function(CGen *g, const Kernel *kn, const KStmt *loop, const char *what,
                               const KExpr *result) {
    StrBuf params = {0};
    c_begin_names(g);
    c_print_params(g, &params, kn);
    const char *type = result->dtype == DT_BOOL ? "int" : "int64_t";
    c_line(g, "static %s %s_%s%s)", type, c_kernel_name(g, kn), what, strbuf_text(&params));
    strbuf_free(&params);
    c_line(g, "{");
    g->indent++;
    uint32_t mark = c_scope_mark(g);
    for (uint32_t i = 0; i < kn->n_params; i++)
        c_line(g, "(void)%s;", c_name_buf(g, kn->params[i]));
    for (uint32_t i = 0; i < kn->n_scalars; i++)
        c_line(g, "(void)%s;", c_name_var(g, kn->scalars[i]));
    for (const KStmt *s = kn->body.first; s != loop; s = s->next) {
        if (s->kind != KS_LET) continue;
        c_begin_statement(g);
        const char *value = c_expr(g, s->value, true), *v = c_name_var(g, s->var);
        c_line(g, "const %s %s = %s;", c_value_type(s->var->dtype), v, value);
        c_line(g, "(void)%s;", v);
        c_end_statement(g);
    }
    c_begin_statement(g);
    const char *value = c_expr(g, result, false);
    c_line(g, "return %s;", value);
    c_end_statement(g);
    c_scope_end(g, mark);
    g->indent--;
    c_line(g, "}\n");
}

void c_range_function(CGen *g, const Kernel *kn) {
    const char *name = c_kernel_name(g, kn);
    const KStmt *loop = kernel_parallel_loop(kn);
    StrBuf args = {0};
    c_line(g, "struct %s_call {", name);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KBuf *p = kn->params[i];
        c_line(g, "    %s%s *a%u;", p->written ? "" : "const ", c_memory_type(p->dtype), i);
        strbuf_printf(&args, "c->a%u, ", i);
    }
    for (uint32_t i = 0; i < kn->n_scalars; i++) {
        c_line(g, "    int64_t n%u;", i);
        strbuf_printf(&args, "c->n%u, ", i);
    }
    if (!args.n) c_line(g, "    int none;");
    c_line(g, "};\n");
    c_line(g, "static void %s_range(void *call, int64_t begin, int64_t end)", name);
    c_line(g, "{");
    if (args.n) c_line(g, "    const struct %s_call *c = call;", name);
    else c_line(g, "    (void)call;");
    c_line(g, "    %s(%sbegin, end);", name, strbuf_text(&args));
    c_line(g, "}\n");
    strbuf_free(&args);
    if (loop->extent->op != KO_const_i) emit_loop_function(g, kn, loop, "extent", loop->extent);
    if (loop->value) emit_loop_function(g, kn, loop, "is_worth", loop->value);
}

/* ---- statements ------------------------------------------------------------------------------ */

static const char *argument(CGen *g, const KArg *a, const KBuf *param) {
    const char *name = c_name_buf(g, a->buf);
    int64_t at;
    if (a->buf->dtype != param->dtype)
        BUG("entry: %s is passed for %s, which has another type", a->buf->name, param->name);
    if (!a->offset || (k_is_int(a->offset, &at) && at == 0)) return name;
    return arena_printf(g->a, a->offset->n_args ? "%s + (%s)" : "%s + %s", name,
                        c_expr(g, a->offset, false));
}

static void emit_call(CGen *g, const KStmt *s) {
    const Kernel *kn = s->callee;
    const char *name = c_kernel_name(g, kn),
               **args = arena_array(g->a, const char *, kn->n_params + 1);
    const char **scalars = arena_array(g->a, const char *, kn->n_scalars + 1);
    const KStmt *loop = kernel_parallel_loop(kn);
    StrBuf all = {0};
    for (uint32_t i = 0; i < kn->n_params; i++) {
        args[i] = argument(g, &s->args[i], kn->params[i]);
        strbuf_printf(&all, "%s%s", all.n ? ", " : "", args[i]);
    }
    for (uint32_t i = 0; i < kn->n_scalars; i++) {
        scalars[i] = c_expr(g, s->scalars[i], true);
        strbuf_printf(&all, "%s%s", all.n ? ", " : "", scalars[i]);
    }
    if (!loop) {
        c_line(g, "%s(%s);", name, strbuf_text(&all));
    } else {
        int64_t n;
        c_line(g, "{");
        c_line(g, "    struct %s_call call_args;", name);
        for (uint32_t i = 0; i < kn->n_params; i++)
            c_line(g, "    call_args.a%u = %s;", i, args[i]);
        for (uint32_t i = 0; i < kn->n_scalars; i++)
            c_line(g, "    call_args.n%u = %s;", i, scalars[i]);
        if (!all.n) c_line(g, "    call_args.none = 0;");
        const char *extent = k_is_int(loop->extent, &n)
                                 ? arena_printf(g->a, "%" PRId64, n)
                                 : arena_printf(g->a, "%s_extent(%s)", name, strbuf_text(&all));
        const char *worth =
            loop->value ? arena_printf(g->a, "%s_is_worth(%s)", name, strbuf_text(&all)) : "1";
        c_line(g, "    run_parallel(hooks, %s_range, &call_args, %s, %s);", name, extent, worth);
        c_line(g, "}");
    }
    strbuf_free(&all);
}

static void emit_node(CGen *g, uint32_t i) {
    const char *name = i < g->m->n_nodes && g->m->nodes[i].name ? g->m->nodes[i].name : "";
    const char *op = i < g->m->n_nodes && g->m->nodes[i].op ? g->m->nodes[i].op : "";
    strbuf_add(&g->out, "\n");
    c_comment(g, arena_printf(g->a, "%s (%s)", name, op));
    if (!g->m->n_heap) {
        c_line(g, "if (start_node(hooks, &node, %u)) return SMELT_CANCELLED;", i);
        return;
    }
    c_line(g, "if (start_node(hooks, &node, %u)) {", i);
    c_line(g, "    status = SMELT_CANCELLED;");
    c_line(g, "    goto leave;");
    c_line(g, "}");
}

/* n elements in bytes; what does not fit becomes -1, which no allocation accepts. */
static const KExpr *bytes_of(CGen *g, const KBuf *b, const KExpr *n) {
    KCtx *k = g->m->k;
    int64_t width = api_element_bytes(b->dtype, g->t);
    const KExpr *fits = k_and(k, k_le(k, k_int(k, 0), n), k_le(k, n, k_int(k, INT64_MAX / width)));
    return k_select(k, fits, k_mul(k, n, k_int(k, width)), k_int(k, -1));
}

static void emit_reserve(CGen *g, const KStmt *s) {
    const char *n = c_expr(g, bytes_of(g, s->buf, s->value), true);
    const char *keep = s->index ? c_expr(g, bytes_of(g, s->buf, s->index), true) : "0";
    const char *name = c_name_buf(g, s->buf);
    c_line(g, "{");
    c_line(g, "    void *block = reserve(hooks, %s, (uint64_t)(%s), (uint64_t)(%s));", name, n,
           keep);
    c_line(g, "    if (!block) {");
    c_line(g, "        status = SMELT_NO_MEMORY;");
    c_line(g, "        goto leave;");
    c_line(g, "    }");
    c_line(g, "    %s = block;", name);
    c_line(g, "}");
}

void c_leave_heap(CGen *g, const KBuf *b) {
    const char *name = c_name_buf(g, b);
    for (uint32_t i = 0; i < g->m->n_outputs; i++) {
        if (g->m->outputs[i].buf != b) continue;
        c_line(g, "if (!status) {");
        c_line(g, "    outputs[%u] = %s;", i, name);
        c_line(g, "    %s = NULL;", name);
        c_line(g, "}");
    }
    c_line(g, "if (%s) hooks->free(hooks->heap, %s);", name, name);
}

void c_entry_statement(CGen *g, const KStmt *s) {
    BUG_IF(!g->in_entry, "a kernel holds a statement of the entry");
    if (s->kind == KS_CALL) {
        emit_call(g, s);
    } else if (s->kind == KS_NODE) {
        emit_node(g, s->node);
    } else if (s->kind == KS_RESERVE) {
        emit_reserve(g, s);
    } else {
        const char *value = c_expr(g, s->value, true);
        c_line(g, "status = (int)(%s);", value);
        c_line(g, "goto leave;");
    }
}
