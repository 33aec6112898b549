/* The entry of generated C: smelt.h's calls around the kernels, with the checks, and in the order, of
 * codegen/llvm/entry.c. Both calls put their arguments into arrays for one function, `body`. */
#include "codegen/c/c_gen.h"

#include <inttypes.h>
#include <string.h>

/* A string literal of exactly these bytes; octal escapes end after three digits, and \? stops
 * trigraphs. */
static void quoted(StrBuf *b, const char *s) {
    strbuf_add(b, "\"");
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\' || c == '?') strbuf_printf(b, "\\%c", c);
        else if (c < 32 || c > 126) strbuf_printf(b, "\\%03o", c);
        else strbuf_add_bytes(b, s, 1);
    }
    strbuf_add(b, "\"");
}

/* ---- kernels that a pool may run ------------------------------------------------------------- */

/* A function of the kernel's arguments: the number of iterations of its parallel loop where that is not
 * fixed (NAME_extent), or whether they are worth threads (NAME_is_worth). */
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
    for (uint32_t i = 0; i < kn->n_params; i++) c_line(g, "(void)%s;", c_name_buf(g, kn->params[i]));
    for (uint32_t i = 0; i < kn->n_scalars; i++) c_line(g, "(void)%s;", c_name_var(g, kn->scalars[i]));
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

/* A struct of the kernel's arguments and the smelt_range_fn that takes it. */
static void emit_range_function(CGen *g, const Kernel *kn) {
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
    return arena_printf(g->a, a->offset->n_args ? "%s + (%s)" : "%s + %s", name, c_expr(g, a->offset, false));
}

static void emit_call(CGen *g, const KStmt *s) {
    const Kernel *kn = s->callee;
    const char *name = c_kernel_name(g, kn), **args = arena_array(g->a, const char *, kn->n_params + 1);
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
        for (uint32_t i = 0; i < kn->n_params; i++) c_line(g, "    call_args.a%u = %s;", i, args[i]);
        for (uint32_t i = 0; i < kn->n_scalars; i++) c_line(g, "    call_args.n%u = %s;", i, scalars[i]);
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
    c_line(g, "    void *block = reserve(hooks, %s, (uint64_t)(%s), (uint64_t)(%s));", name, n, keep);
    c_line(g, "    if (!block) {");
    c_line(g, "        status = SMELT_NO_MEMORY;");
    c_line(g, "        goto leave;");
    c_line(g, "    }");
    c_line(g, "    %s = block;", name);
    c_line(g, "}");
}

/* Outputs' blocks go to the caller when the run was good; the others are given back. */
static void leave_heap(CGen *g, const KBuf *b) {
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

/* ---- symbols and arena ----------------------------------------------------------------------- */

static void bind_symbols(CGen *g) {
    for (uint32_t i = 0; i < g->m->n_symbols; i++) {
        const char *name = c_name_var(g, g->m->symbols[i]);
        c_line(g, "const int64_t %s = symbols[%u];", name, i);
        c_line(g, "(void)%s;", name);
    }
}

static void begin_function(CGen *g, const char *head) {
    c_begin_names(g);
    c_line(g, "%s", head);
    c_line(g, "{");
    g->indent++;
}

static void end_function(CGen *g, uint32_t mark) {
    c_scope_end(g, mark);
    g->indent--;
    c_line(g, "}\n");
}

static void emit_symbol_functions(CGen *g) {
    const Api *api = g->api;
    StrBuf lo = {0}, hi = {0};
    uint32_t mark = c_scope_mark(g);
    begin_function(g, "static int check_arguments(const int64_t *symbols)");
    for (uint32_t i = 0; i < api->n_arguments; i++) {
        lo.n = hi.n = 0;
        c_print_int(&lo, DT_I64, api->symbols[i].min);
        c_print_int(&hi, DT_I64, api->symbols[i].max);
        c_line(g, "if (symbols[%u] < %s || symbols[%u] > %s) return SMELT_BAD_DIM;", i,
               strbuf_text(&lo), i, strbuf_text(&hi));
    }
    if (!api->n_arguments) c_line(g, "(void)symbols;");
    c_line(g, "return SMELT_OK;");
    end_function(g, mark);
    begin_function(g, "static int symbols_for(int64_t *symbols)");
    c_line(g, "int status;");
    c_line(g, "if (!symbols) return SMELT_BAD_POINTER;");
    c_line(g, "status = check_arguments(symbols);");
    c_line(g, "if (status) return status;");
    bind_symbols(g);
    for (uint32_t i = api->n_arguments; i < api->n_symbols; i++) {
        const ApiSymbol *s = &api->symbols[i];
        c_begin_statement(g);
        if (s->kind == API_DERIVED) {
            const char *value = c_expr(g, s->value, true);
            c_line(g, "symbols[%u] = %s;", i, value);
            c_line(g, "if (symbols[%u] < 0) return SMELT_BAD_DIM;", i);
        } else {
            const char *most = c_expr(g, k_max(g->m->k, s->most, k_int(g->m->k, 0)), true);
            c_line(g, "symbols[%u] = %s;", i, most);
        }
        c_end_statement(g);
    }
    c_line(g, "return SMELT_OK;");
    end_function(g, mark);
    strbuf_free(&lo);
    strbuf_free(&hi);
}

/* Bytes to ask the caller for, with slack for aligning. */
static const char *arena_needed(CGen *g) {
    int64_t n;
    if (!g->m->arena_bytes) return "0";
    if (k_is_int(g->m->arena_bytes, &n))
        return n > 0 ? arena_printf(g->a, "%" PRId64 "u", n + ARENA_ALIGN - 1) : "0";
    const char *e = c_expr(g, g->m->arena_bytes, true);
    return arena_printf(g->a, "(%s) > 0 ? (uint64_t)(%s) + %d : 0", e, e, ARENA_ALIGN - 1);
}

static void emit_arena_function(CGen *g) {
    uint32_t mark = c_scope_mark(g);
    begin_function(g, "static int arena_bytes_for(const int64_t *symbols, uint64_t *n_bytes)");
    c_line(g, "if (!n_bytes) return SMELT_BAD_POINTER;");
    if (g->api->n_arguments) {
        c_line(g, "if (!symbols) return SMELT_BAD_POINTER;");
        c_line(g, "if (check_arguments(symbols)) return SMELT_BAD_DIM;");
        bind_symbols(g);
    } else {
        c_line(g, "(void)symbols;");
    }
    c_begin_statement(g);
    const char *need = arena_needed(g);
    c_line(g, "*n_bytes = %s;", need);
    c_end_statement(g);
    c_line(g, "return SMELT_OK;");
    end_function(g, mark);
}

/* ---- body ------------------------------------------------------------------------------------ */

/* Dims found while running count with their bound, as symbols_for reports it. */
static const char *io_bytes(CGen *g, const KIo *io) {
    StrBuf b = {0};
    if (io->dtype == DT_STR)
        strbuf_add(&b, "(uint64_t)sizeof(smelt_string)");
    else
        strbuf_printf(&b, "UINT64_C(%u)", api_element_bytes(io->dtype, g->t));
    for (int d = 0; d < io->rank; d++) {
        KCtx *k = g->m->k;
        int64_t n;
        const KExpr *dim = k_max(k, k_upper_bound(k, io->dims[d]), k_int(k, 0));
        if (k_is_int(dim, &n)) strbuf_printf(&b, " * UINT64_C(%" PRId64 ")", n);
        else strbuf_printf(&b, " * (uint64_t)(%s)", c_expr(g, dim, true));
    }
    const char *r = arena_strdup(g->a, strbuf_text(&b));
    strbuf_free(&b);
    return r;
}

static void check_memory(CGen *g) {
    const KModule *m = g->m;
    uint32_t n = m->n_outputs + m->n_inputs;
    for (uint32_t i = 0; i < n; i++) {
        bool out = i < m->n_outputs;
        uint32_t at = out ? i : i - m->n_outputs;
        c_begin_statement(g);
        const char *bytes = io_bytes(g, out ? &m->outputs[at] : &m->inputs[at]);
        if (out && m->outputs[at].buf && m->outputs[at].buf->mem == MEM_HEAP) {
            c_line(g, "if (outputs[%u]) return SMELT_BAD_POINTER;", at);
            bytes = "0";
        }
        c_line(g, "if (note_range(ranges[%u], %s[%u], %s)) return SMELT_BAD_POINTER;", i,
               out ? "outputs" : "inputs", at, bytes);
        c_end_statement(g);
    }
    c_begin_statement(g);
    const char *need = arena_needed(g);
    c_line(g, "arena_need = %s;", need);
    c_end_statement(g);
    c_line(g, "if (note_range(ranges[%u], memory, arena_need)) return SMELT_BAD_POINTER;", n);
    c_line(g, "if (arena_bytes < arena_need) return SMELT_SHORT_ARENA;");
    if (m->n_outputs)
        c_line(g, "if (overlaps(ranges, %u, %u)) return SMELT_BAD_POINTER;", m->n_outputs, n + 1);
    if (g->o->weights_file && m->n_consts)
        c_line(g, "if (!weights || (uintptr_t)weights %% 64 != 0) return SMELT_BAD_WEIGHTS;");
}

typedef struct BufList {
    StrMap *seen;
    VEC(const KBuf *) list;
    bool has_return;
    Arena *a;
} BufList;

static void add_buf(BufList *l, const KBuf *b) {
    if (kmem_is_local(b->mem) || strmap_get_bytes(l->seen, (const char *)&b, sizeof b)) return;
    const KBuf **key = arena_copy(l->a, &b, sizeof b);
    strmap_put_bytes(l->seen, (const char *)key, sizeof *key, (void *)(uintptr_t)1);
    vec_push(l->a, &l->list, b);
}

static void see_load(const KExpr *e, void *list) {
    if (e->op == KO_load) add_buf(list, e->u.buf);
}

static void find_entry_bufs(CGen *g, const KBlock *block, BufList *l) {
    for (const KStmt *s = block->first; s; s = s->next) {
        const KExpr *roots[] = {s->extent, s->index, s->value};
        for (int i = 0; i < 3; i++)
            if (roots[i]) k_visit(g->m->k, roots[i], see_load, l);
        if (s->kind == KS_STORE || s->kind == KS_RESERVE) add_buf(l, s->buf);
        if (s->kind == KS_RETURN) l->has_return = true;
        for (uint32_t i = 0; i < kstmt_n_args(s); i++) {
            add_buf(l, s->args[i].buf);
            if (s->args[i].offset) k_visit(g->m->k, s->args[i].offset, see_load, l);
        }
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++) k_visit(g->m->k, s->scalars[i], see_load, l);
        find_entry_bufs(g, &s->body, l);
        find_entry_bufs(g, &s->other, l);
    }
}

static void bind_buf(CGen *g, const KBuf *b) {
    const char *type = c_memory_type(b->dtype), *name = c_name_buf(g, b);
    c_begin_statement(g);
    if (b->mem == MEM_INPUT) {
        c_line(g, "const %s *const %s = inputs[%u];", type, name, b->index);
    } else if (b->mem == MEM_OUTPUT) {
        c_line(g, "%s *const %s = outputs[%u];", type, name, b->index);
    } else if (b->mem == MEM_HEAP) {
        c_line(g, "%s *%s = NULL;", type, name);
    } else if (b->mem == MEM_ARENA) {
        const char *at = b->offset ? c_expr(g, b->offset, true) : "0";
        c_line(g, "%s *const %s = (%s *)(void *)(arena + (%s));", type, name, type, at);
    } else if (b->mem == MEM_CONST && g->o->weights_file) {
        c_line(g,
               "const %s *const %s = (const %s *)(const void *)((const unsigned char *)weights + "
               "%" PRIu64 "u);",
               type, name, type, g->api->const_offset[b->index]);
    }
    c_end_statement(g);
}

static void emit_body(CGen *g) {
    const KModule *m = g->m;
    BufList bufs = {.seen = strmap_create(g->a), .a = g->a};
    uint32_t mark = c_scope_mark(g);
    find_entry_bufs(g, &m->entry, &bufs);
    begin_function(g, "static int body(const void *const *inputs, void **outputs, int64_t *symbols, "
                      "void *memory,\n                uint64_t arena_bytes, const void *weights, "
                      "const smelt_hooks *given)");
    g->in_entry = true;
    memset(g->used, 0, kctx_n_vars(m->k));
    c_find_used(g, &m->entry);
    c_line(g, "const smelt_hooks *hooks = given ? given : &no_hooks;");
    c_line(g, "uintptr_t ranges[%u][2]; /* outputs, inputs, arena */", m->n_outputs + m->n_inputs + 1);
    c_line(g, "unsigned char *arena = memory;");
    c_line(g, "uint64_t arena_need;");
    c_line(g, "int64_t node = -1;");
    c_line(g, "int status = SMELT_OK;");
    if (g->api->n_symbols) {
        c_line(g, "status = symbols_for(symbols);");
        c_line(g, "if (status) return status;");
        bind_symbols(g);
    }
    c_line(g, "(void)inputs, (void)outputs, (void)symbols, (void)weights, (void)hooks;");
    check_memory(g);
    c_line(g, "if (arena) arena += (0u - (uintptr_t)arena) %% %d;", ARENA_ALIGN);
    if (m->size_table) {
        add_buf(&bufs, m->size_table);
        c_rename_buf(g, m->size_table, "sizes");
    }
    for (uint32_t i = 0; i < bufs.list.n; i++) bind_buf(g, bufs.list.at[i]);
    c_block(g, &m->entry);
    if (bufs.has_return || m->n_heap) {
        g->indent--;
        c_line(g, "leave:");
        g->indent++;
    }
    c_line(g, "end_node(hooks, &node);");
    for (uint32_t i = 0; i < bufs.list.n; i++)
        if (bufs.list.at[i]->mem == MEM_HEAP) leave_heap(g, bufs.list.at[i]);
    if (bufs.has_return || m->n_heap) c_line(g, "if (status) return status;");
    for (uint32_t i = 0; i < g->api->n_symbols; i++) {
        if (g->api->symbols[i].kind != API_DATA) continue;
        c_begin_statement(g);
        const char *value = c_expr(g, g->api->symbols[i].value, true);
        c_line(g, "symbols[%u] = %s;", i, value);
        c_end_statement(g);
    }
    c_line(g, "return status;");
    g->in_entry = false;
    end_function(g, mark);
}

/* ---- the two calls --------------------------------------------------------------------------- */

static void emit_typed_run(CGen *g) {
    const KModule *m = g->m;
    const Api *api = g->api;
    StrBuf b = {0};
    strbuf_printf(&b, "int %s_run(", m->name);
    header_parameters(&b, m, api, g->o);
    strbuf_add(&b, ")");
    uint32_t mark = c_scope_mark(g);
    begin_function(g, strbuf_text(&b));
    c_line(g, "const void *smelt_in[%u];", m->n_inputs + 1);
    c_line(g, "void *smelt_out[%u];", m->n_outputs + 1);
    c_line(g, "int64_t smelt_dims[%u];", api->n_symbols + 1);
    c_line(g, "int smelt_result;");
    for (uint32_t i = 0; i < api->n_arguments; i++)
        c_line(g, "smelt_dims[%u] = %s;", i, api->argument_names[i]);
    for (uint32_t i = 0; i < m->n_inputs; i++) c_line(g, "smelt_in[%u] = %s;", i, api->inputs[i].c_name);
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        const ApiTensor *t = &api->outputs[i];
        c_line(g, "smelt_out[%u] = %s;", i, t->c_name);
        if (t->has_data_dims) c_line(g, "if (!%s_dims) return SMELT_BAD_POINTER;", t->c_name);
    }
    c_line(g, "smelt_result = body(smelt_in, smelt_out, smelt_dims, arena, %s, %s, NULL);",
           api->n_arguments ? "arena_bytes" : "UINT64_MAX", g->o->weights_file ? "weights" : "NULL");
    c_line(g, "if (smelt_result) return smelt_result;");
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        const ApiTensor *t = &api->outputs[i];
        for (int d = 0; t->has_data_dims && d < t->io->rank; d++) {
            if (t->dims[d] >= 0) c_line(g, "%s_dims[%d] = %" PRId64 ";", t->c_name, d, t->dims[d]);
            else c_line(g, "%s_dims[%d] = smelt_dims[%" PRId64 "];", t->c_name, d, -1 - t->dims[d]);
        }
    }
    c_line(g, "return SMELT_OK;");
    end_function(g, mark);
    strbuf_free(&b);
}

static void emit_generic_run(CGen *g) {
    const KModule *m = g->m;
    uint32_t mark = c_scope_mark(g);
    const struct {
        const char *count, *array;
        uint32_t n;
    } rows[] = {{"n_inputs", "inputs", m->n_inputs}, {"n_outputs", "outputs", m->n_outputs},
                {"n_symbols", "symbols", g->api->n_symbols}};
    begin_function(g, "static int run_call(const smelt_call *call)");
    c_line(g, "if (!call || call->struct_size < sizeof *call) return SMELT_BAD_CALL;");
    for (int i = 0; i < 3; i++) {
        if (rows[i].n)
            c_line(g, "if (call->%s != %u || !call->%s) return SMELT_BAD_CALL;", rows[i].count,
                   rows[i].n, rows[i].array);
        else c_line(g, "if (call->%s != 0) return SMELT_BAD_CALL;", rows[i].count);
    }
    c_line(g, "if (call->hooks && call->hooks->struct_size < sizeof *call->hooks) return SMELT_BAD_CALL;");
    c_line(g, "return body(call->inputs, call->outputs, call->symbols, call->arena, "
              "call->arena_bytes, call->weights, call->hooks);");
    end_function(g, mark);
}

/* ---- description ----------------------------------------------------------------------------- */

static void print_u64(StrBuf *b, uint64_t v) {
    if (v == UINT64_MAX) strbuf_add(b, "UINT64_MAX");
    else strbuf_printf(b, "UINT64_C(%" PRIu64 ")", v);
}

static const char *abi_dtype(DType t) {
    switch (dtype_info[t].onnx) {
#define SMELT_DTYPE(name, value, bits, ctype) \
    case value: return #name;
#include "runtime/include/smelt_abi.def"
    default: BUG("%s is not in the ABI", dtype_info[t].name);
    }
}

static void emit_tensors(CGen *g, const char *name, const ApiTensor *t, uint32_t n) {
    StrBuf *b = &g->out;
    if (!n) return;
    for (uint32_t i = 0; i < n; i++) {
        if (!t[i].io->rank) continue;
        strbuf_printf(b, "static const int64_t %s_dims%u[] = {", name, i);
        for (int d = 0; d < t[i].io->rank; d++) strbuf_printf(b, "%s%" PRId64, d ? ", " : "", t[i].dims[d]);
        strbuf_add(b, "};\n");
    }
    strbuf_printf(b, "static const smelt_tensor_info %s[] = {\n", name);
    for (uint32_t i = 0; i < n; i++) {
        strbuf_add(b, "    {");
        quoted(b, t[i].io->name);
        if (t[i].io->rank) strbuf_printf(b, ", %s_dims%u, ", name, i);
        else strbuf_add(b, ", NULL, ");
        print_u64(b, t[i].max_bytes);
        strbuf_printf(b, ", SMELT_%s, %d, SMELT_KIND_TENSOR, %s},\n", abi_dtype(t[i].io->dtype),
                      t[i].io->rank, t[i].is_allocated ? "SMELT_TENSOR_ALLOCATED" : "0");
    }
    strbuf_add(b, "};\n\n");
}

static void emit_tables(CGen *g) {
    StrBuf *b = &g->out;
    emit_tensors(g, "tensors_in", g->api->inputs, g->m->n_inputs);
    emit_tensors(g, "tensors_out", g->api->outputs, g->m->n_outputs);
    if (g->api->n_symbols) strbuf_add(b, "static const smelt_symbol symbols[] = {\n");
    for (uint32_t i = 0; i < g->api->n_symbols; i++) {
        const ApiSymbol *s = &g->api->symbols[i];
        strbuf_add(b, "    {");
        quoted(b, s->name);
        strbuf_add(b, ", ");
        c_print_int(b, DT_I64, s->min);
        strbuf_add(b, ", ");
        c_print_int(b, DT_I64, s->max);
        strbuf_printf(b, ", %d, 0},\n", s->kind);
    }
    if (g->api->n_symbols) strbuf_add(b, "};\n\n");
    if (g->m->n_nodes) strbuf_add(b, "static const smelt_node nodes[] = {\n");
    for (uint32_t i = 0; i < g->m->n_nodes; i++) {
        strbuf_add(b, "    {");
        quoted(b, g->m->nodes[i].name);
        strbuf_add(b, ", ");
        quoted(b, g->m->nodes[i].op);
        strbuf_add(b, ", ");
        print_u64(b, g->api->node_macs[i]);
        strbuf_add(b, "},\n");
    }
    if (g->m->n_nodes) strbuf_add(b, "};\n\n");
}

static void emit_model(CGen *g) {
    const KModule *m = g->m;
    StrBuf *b = &g->out;
    uint64_t hash;
    memcpy(&hash, m->model_hash, sizeof hash);
    emit_tables(g);
    strbuf_printf(b, "const smelt_model %s_model = {\n    sizeof(smelt_model), SMELT_ABI_VERSION, ", m->name);
    quoted(b, m->name);
    strbuf_add(b, ", \"smelt " SMELT_VERSION "\", \"c99\", \"\", \"\", ");
    print_u64(b, hash);
    strbuf_printf(b, ",\n    %u, %u, %u, %u, %s, %s, %s, %s,\n    ", m->n_inputs, m->n_outputs,
                  g->api->n_symbols, m->n_nodes, m->n_inputs ? "tensors_in" : "NULL",
                  m->n_outputs ? "tensors_out" : "NULL", g->api->n_symbols ? "symbols" : "NULL",
                  m->n_nodes ? "nodes" : "NULL");
    print_u64(b, g->api->weight_bytes);
    strbuf_add(b, ", ");
    print_u64(b, g->o->weight_hash);
    strbuf_printf(b, ", %s, ", m->n_consts && !g->o->weights_file ? c_const_name(g, m->consts[0]) : "NULL");
    print_u64(b, g->api->arena_bytes);
    strbuf_printf(b, ",\n    %s, arena_bytes_for, run_call};\n", g->api->n_symbols ? "symbols_for" : "NULL");
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const char helpers[] =
    "/* ---- entry ----------------------------------------------------------------------------------- */\n\n"
    "static const smelt_hooks no_hooks = {0};\n\n"
    "/* Notes where n_bytes from p lie; true if p is NULL and there are some. */\n"
    "static int note_range(uintptr_t range[2], const void *p, uint64_t n_bytes)\n"
    "{\n"
    "    range[0] = (uintptr_t)p;\n"
    "    range[1] = range[0] + (uintptr_t)n_bytes;\n"
    "    return !p && n_bytes > 0;\n"
    "}\n\n"
    "/* Tells the hooks that the current node has ended, if there is one. */\n"
    "static void end_node(const smelt_hooks *hooks, int64_t *node)\n"
    "{\n"
    "    if (*node >= 0 && hooks->after_node) hooks->after_node(hooks->user, (uint32_t)*node);\n"
    "    *node = -1;\n"
    "}\n\n";
static const char overlap_helper[] =
    "/* Does one of the first n_out ranges share a byte with a later one? */\n"
    "static int overlaps(uintptr_t (*range)[2], int n_out, int n_all)\n"
    "{\n"
    "    for (int i = 0; i < n_out; i++)\n"
    "        for (int j = i + 1; j < n_all; j++) {\n"
    "            uintptr_t from = range[i][0] > range[j][0] ? range[i][0] : range[j][0];\n"
    "            uintptr_t to = range[i][1] < range[j][1] ? range[i][1] : range[j][1];\n"
    "            if (from < to) return 1;\n"
    "        }\n"
    "    return 0;\n"
    "}\n\n";
static const char node_helper[] =
    "/* Passes on to the next node; true if the run is to end. */\n"
    "static int start_node(const smelt_hooks *hooks, int64_t *node, uint32_t next)\n"
    "{\n"
    "    end_node(hooks, node);\n"
    "    if (hooks->cancel && hooks->cancel(hooks->user)) return 1;\n"
    "    *node = next;\n"
    "    if (hooks->before_node) hooks->before_node(hooks->user, next);\n"
    "    return 0;\n"
    "}\n\n";
static const char parallel_helper[] =
    "static void run_parallel(const smelt_hooks *hooks, smelt_range_fn *range, void *call, int64_t n,\n"
    "                         int is_worth)\n"
    "{\n"
    "    if (hooks->parallel_for && n > 1 && is_worth) hooks->parallel_for(hooks->pool, range, call, n);\n"
    "    else if (n > 0) range(call, 0, n);\n"
    "}\n\n";

static const char reserve_helper[] =
    "/* Memory of n_bytes that keeps the first bytes of old, which is given back; NULL when there is none. */\n"
    "static void *reserve(const smelt_hooks *hooks, void *old, uint64_t n_bytes, uint64_t keep)\n"
    "{\n"
    "    void *fresh;\n"
    "    if (n_bytes > SIZE_MAX / 2 || !hooks->alloc || !hooks->free) return NULL;\n"
    "    fresh = hooks->alloc(hooks->heap, n_bytes ? (size_t)n_bytes : 1);\n"
    "    if (!fresh) return NULL;\n"
    "    if (old) {\n"
    "        memcpy(fresh, old, (size_t)keep);\n"
    "        hooks->free(hooks->heap, old);\n"
    "    }\n"
    "    return fresh;\n"
    "}\n\n";

static bool has_kind(const KBlock *b, KStmtKind kind, bool parallel) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == kind && (!parallel || kernel_parallel_loop(s->callee))) return true;
        if (has_kind(&s->body, kind, parallel) || has_kind(&s->other, kind, parallel)) return true;
    }
    return false;
}

void c_write_entry(CGen *g) {
    strbuf_add(&g->out, helpers);
    if (g->m->n_outputs) strbuf_add(&g->out, overlap_helper);
    if (has_kind(&g->m->entry, KS_NODE, false)) strbuf_add(&g->out, node_helper);
    if (has_kind(&g->m->entry, KS_CALL, true)) strbuf_add(&g->out, parallel_helper);
    if (g->m->n_heap) strbuf_add(&g->out, reserve_helper);
    for (uint32_t i = 0; i < g->m->n_kernels; i++)
        if (kernel_parallel_loop(g->m->kernels[i])) emit_range_function(g, g->m->kernels[i]);
    if (g->api->n_symbols) emit_symbol_functions(g);
    emit_arena_function(g);
    emit_body(g);
    if (g->api->has_typed_call) emit_typed_run(g);
    emit_generic_run(g);
    emit_model(g);
}
