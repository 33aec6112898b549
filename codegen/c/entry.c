/* The entry of generated C: smelt.h's calls around the kernels, with the checks, and in the order, of
 * codegen/llvm/entry.c. Both calls put their arguments into arrays for one function, `body`. */
#include "codegen/c/c_gen.h"

#include <inttypes.h>
#include <string.h>

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
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++)
            k_visit(g->m->k, s->scalars[i], see_load, l);
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
    begin_function(g,
                   "static int body(const void *const *inputs, void **outputs, int64_t *symbols, "
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
        if (bufs.list.at[i]->mem == MEM_HEAP) c_leave_heap(g, bufs.list.at[i]);
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
    for (uint32_t i = 0; i < m->n_inputs; i++)
        c_line(g, "smelt_in[%u] = %s;", i, api->inputs[i].c_name);
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        const ApiTensor *t = &api->outputs[i];
        c_line(g, "smelt_out[%u] = %s;", i, t->c_name);
        if (t->has_data_dims) c_line(g, "if (!%s_dims) return SMELT_BAD_POINTER;", t->c_name);
    }
    c_line(g, "smelt_result = body(smelt_in, smelt_out, smelt_dims, arena, %s, %s, NULL);",
           api->n_arguments ? "arena_bytes" : "UINT64_MAX",
           g->o->weights_file ? "weights" : "NULL");
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
    c_line(g, "if (call->hooks && call->hooks->struct_size < sizeof *call->hooks) return "
              "SMELT_BAD_CALL;");
    c_line(g, "return body(call->inputs, call->outputs, call->symbols, call->arena, "
              "call->arena_bytes, call->weights, call->hooks);");
    end_function(g, mark);
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
    "/* Memory of n_bytes that keeps the first bytes of old, which is given back; NULL when there\n"
    " * is none. */\n"
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
        if (kernel_parallel_loop(g->m->kernels[i])) c_range_function(g, g->m->kernels[i]);
    if (g->api->n_symbols) emit_symbol_functions(g);
    emit_arena_function(g);
    emit_body(g);
    if (g->api->has_typed_call) emit_typed_run(g);
    emit_generic_run(g);
    c_write_model(g);
}
