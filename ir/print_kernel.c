/* Kernel IR as text: statements, kernels and the whole program.
 *
 *     kernel k0_relu(x: f32[1024] param noalias align 64, y: f32[1024] param written)(n [1, 64]) {
 *       for i in 0..n*16 parallel {
 *         y[i] = max(x[i], 0.0)
 *       }
 *     }
 *
 * Buffers are declared where they begin to exist: in front of the kernels, as parameters, by alloc.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ir/print.h"
#include "ir/print_text.h"

/* ---- buffers and variables ------------------------------------------------------------------- */

/* "x: f32[n*4] arena align 64 at 128", the name bound from here on. */
static void buffer(Text *t, const KBuf *b) {
    strbuf_printf(t->out, "%s: %s[", text_bind(t, b, b->name), dtype_info[b->dtype].name);
    if (b->n_elems) text_expr(t, b->n_elems);
    strbuf_printf(t->out, "] %s", kmem_word(b->mem));
    if (b->mem == MEM_INPUT || b->mem == MEM_OUTPUT) strbuf_printf(t->out, " %" PRIu32, b->index);
    if (b->written) strbuf_add(t->out, " written");
    if (b->noalias) strbuf_add(t->out, " noalias");
    if (b->padded) strbuf_add(t->out, " padded");
    if (b->align) strbuf_printf(t->out, " align %" PRIu32, b->align);
    if (b->offset) {
        strbuf_add(t->out, " at ");
        text_expr(t, b->offset);
    }
}

static void loop_var(Text *t, const KVar *v, const KExpr *extent) {
    strbuf_add(t->out, text_bind(t, v, v->name));
    text_range(t, v, 0, k_last_index(extent));
}

/* ---- statements ------------------------------------------------------------------------------ */

static void braces(Text *t, const KBlock *b) {
    uint32_t scope = text_scope(t);
    strbuf_add(t->out, "{\n");
    t->indent++;
    text_block(t, b);
    t->indent--;
    text_leave(t, scope);
    text_line(t);
    strbuf_add(t->out, "}");
}

static void for_text(Text *t, const KStmt *s) {
    uint32_t scope = text_scope(t);
    StrBuf *out = t->out;
    strbuf_add(out, "for ");
    loop_var(t, s->var, s->extent);
    strbuf_add(out, " in 0..");
    text_expr(t, s->extent);
    if (s->mark != LOOP_SERIAL) strbuf_printf(out, " %s", kmark_word(s->mark));
    strbuf_add(out, s->first ? " from " : "");
    if (s->first) loop_var(t, s->first, s->extent);
    strbuf_add(out, s->value ? " if " : "");
    if (s->value) text_expr(t, s->value);
    strbuf_add(out, s->index ? " falling " : "");
    if (s->index) text_expr(t, s->index);
    strbuf_add(out, " ");
    braces(t, &s->body);
    text_leave(t, scope);
}

static void if_text(Text *t, const KStmt *s) {
    strbuf_add(t->out, "if ");
    text_expr(t, s->value);
    strbuf_add(t->out, " ");
    braces(t, &s->body);
    if (!s->other.first) return;
    strbuf_add(t->out, " else ");
    braces(t, &s->other);
}

static void let_text(Text *t, const KStmt *s) {
    StrBuf value = {0}, *out = t->out;
    t->out = &value; /* before the name is bound: a value cannot use it */
    text_expr(t, s->value);
    t->out = out;
    strbuf_printf(out, "let %s", text_bind(t, s->var, s->var->name));
    if (s->var->kind != KV_SYMBOL) text_range(t, s->var, s->value->lo, s->value->hi);
    strbuf_printf(out, " = %s", strbuf_text(&value));
    strbuf_free(&value);
}

static void call_text(Text *t, const KStmt *s) {
    const Kernel *kn = s->callee;
    strbuf_printf(t->out, "call %s(", text_name(t, kn, kn->name ? kn->name : "k"));
    for (uint32_t i = 0; i < kn->n_params; i++) {
        const KArg *a = &s->args[i];
        strbuf_printf(t->out, "%s%s", i ? ", " : "", text_name(t, a->buf, a->buf->name));
        if (!a->offset) continue;
        strbuf_add(t->out, " + ");
        text_expr(t, a->offset);
    }
    strbuf_add(t->out, ")");
    if (!kn->n_scalars) return;
    strbuf_add(t->out, "(");
    text_exprs(t, s->scalars, (int)kn->n_scalars);
    strbuf_add(t->out, ")");
}

/* extern name(x, out y + 4)(n) */
static void extern_text(Text *t, const KStmt *s) {
    strbuf_printf(t->out, "extern %s(", s->text);
    for (uint32_t i = 0; i < s->n_args; i++) {
        const KArg *a = &s->args[i];
        strbuf_printf(t->out, "%s%s%s", i ? ", " : "", a->written ? "out " : "",
                      a->buf ? text_name(t, a->buf, a->buf->name) : "");
        if (!a->offset) continue;
        if (a->buf) strbuf_add(t->out, " + ");
        text_expr(t, a->offset);
    }
    strbuf_add(t->out, ")(");
    text_exprs(t, s->scalars, (int)s->n_scalars);
    strbuf_add(t->out, ")");
}

static void statement(Text *t, const KStmt *s) {
    StrBuf *out = t->out;
    switch (s->kind) {
    case KS_NONE: strbuf_add(out, "none"); break;
    case KS_FOR: for_text(t, s); break;
    case KS_WHILE:
        strbuf_add(out, "while ");
        text_expr(t, s->value);
        strbuf_add(out, " ");
        braces(t, &s->body);
        break;
    case KS_IF: if_text(t, s); break;
    case KS_LET: let_text(t, s); break;
    case KS_STORE:
        strbuf_add(out, text_name(t, s->buf, s->buf->name));
        strbuf_add(out, t->definitions && s->buf->mem != MEM_REG && s->buf->mem != MEM_STACK
                            ? ".flat["
                            : "[");
        text_expr(t, s->index);
        strbuf_add(out, "] = ");
        text_expr(t, s->value);
        break;
    case KS_ALLOC:
        strbuf_add(out, "alloc ");
        buffer(t, s->buf);
        break;
    case KS_CALL: call_text(t, s); break;
    case KS_EXTERN: extern_text(t, s); break;
    case KS_BARRIER: strbuf_add(out, "barrier"); break;
    case KS_PREFETCH:
        strbuf_add(out, "prefetch ");
        text_expr(t, s->value);
        break;
    case KS_NODE: strbuf_printf(out, "node %" PRIu32, s->node); break;
    case KS_RETURN:
        strbuf_add(out, "return ");
        text_expr(t, s->value);
        break;
    case KS_RESERVE:
        strbuf_printf(out, "reserve %s[", text_name(t, s->buf, s->buf->name));
        text_expr(t, s->value);
        strbuf_add(out, "]");
        if (!s->index) break;
        strbuf_add(out, " keep ");
        text_expr(t, s->index);
        break;
    case KS_COMMENT:
        strbuf_add(out, "comment ");
        text_quoted(t, s->text);
        break;
    }
}

/* The `$` lines of everything on the statement's own line, then the statement. */
static void share_statement(Text *t, const KStmt *s) {
    const KExpr *few[3] = {s->extent, s->index, s->value};
    if (s->kind != KS_CALL && s->kind != KS_EXTERN) {
        text_share(t, few, 3);
        return;
    }
    uint32_t n = kstmt_n_args(s), m = kstmt_n_scalars(s);
    const KExpr **roots = arena_array(t->a, const KExpr *, n + m);
    for (uint32_t i = 0; i < n; i++) roots[i] = s->args[i].offset;
    for (uint32_t i = 0; i < m; i++) roots[n + i] = s->scalars[i];
    text_share(t, roots, (int)(n + m));
}

void text_block(Text *t, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        share_statement(t, s);
        text_line(t);
        statement(t, s);
        text_newline(t);
    }
}

/* ---- kernels --------------------------------------------------------------------------------- */

static void kernel_text(Text *t, const Kernel *kn, const char *name) {
    VEC(const KExpr *) roots = {0};
    for (uint32_t i = 0; i < kn->n_scalars; i++) text_bind(t, kn->scalars[i], kn->scalars[i]->name);
    for (uint32_t i = 0; i < kn->n_params; i++) vec_push(t->a, &roots, kn->params[i]->n_elems);
    text_share(t, roots.at, (int)roots.n);
    text_line(t);
    strbuf_printf(t->out, "kernel %s(", name);
    for (uint32_t i = 0; i < kn->n_params; i++) {
        if (i) strbuf_add(t->out, ", ");
        buffer(t, kn->params[i]);
    }
    strbuf_add(t->out, ")");
    for (uint32_t i = 0; i < kn->n_scalars; i++) {
        const KVar *v = kn->scalars[i];
        strbuf_printf(t->out, "%s%s", i ? ", " : "(", text_name(t, v, v->name));
        if (v->dtype != DT_I64) strbuf_printf(t->out, ": %s", dtype_info[v->dtype].name);
        text_range(t, v, INT64_MIN, INT64_MAX);
    }
    if (kn->n_scalars) strbuf_add(t->out, ")");
    if (kn->flops > 0) {
        strbuf_add(t->out, " flops ");
        text_float(t->out, DT_F64, kn->flops);
    }
    if (kn->note && *kn->note) {
        strbuf_add(t->out, " note ");
        text_quoted(t, kn->note);
    }
    strbuf_add(t->out, " ");
    braces(t, &kn->body);
    text_newline(t);
}

/* ---- the whole program ----------------------------------------------------------------------- */

/* Declares every buffer that the entry mentions and nothing declared before, in order of
 * appearance. */
static void declare_buffer(Text *t, const KBuf *b) {
    if (b->mem == MEM_REG || b->mem == MEM_STACK || b->mem == MEM_SHARED ||
        textmap_get(&t->name, b))
        return;
    const KExpr *roots[2] = {b->n_elems, b->offset};
    text_share(t, roots, 2);
    text_line(t);
    strbuf_add(t->out, "buf ");
    buffer(t, b);
    int64_t n;
    if (b->data && b->n_elems && k_is_int(b->n_elems, &n) && n >= 0)
        text_data(t, b->dtype, b->data, (uint64_t)n);
    text_newline(t);
}

static void declare_read(const KExpr *e, void *user) {
    if (e->op == KO_load) declare_buffer(user, e->u.buf);
}

static void declare_reads(Text *t, const KExpr *e) {
    if (e) k_visit(NULL, e, declare_read, t);
}

static void declare_used(Text *t, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        declare_reads(t, s->extent);
        declare_reads(t, s->index);
        declare_reads(t, s->value);
        if (s->kind == KS_STORE || s->kind == KS_RESERVE) declare_buffer(t, s->buf);
        for (uint32_t i = 0; i < kstmt_n_args(s); i++) {
            declare_buffer(t, s->args[i].buf);
            declare_reads(t, s->args[i].offset);
        }
        for (uint32_t i = 0; i < kstmt_n_scalars(s); i++) declare_reads(t, s->scalars[i]);
        declare_used(t, &s->body);
        declare_used(t, &s->other);
    }
}

static void io_text(Text *t, const KIo *io, uint32_t n, const char *word) {
    for (uint32_t i = 0; i < n; i++) {
        text_share(t, io[i].dims, io[i].rank);
        text_line(t);
        strbuf_printf(t->out, "%s ", word);
        text_quoted(t, io[i].name);
        strbuf_printf(t->out, ": %s[", dtype_info[io[i].dtype].name);
        text_exprs(t, io[i].dims, io[i].rank);
        strbuf_printf(t->out, "] = %s%s\n", text_name(t, io[i].buf, io[i].buf->name),
                      io[i].is_kept ? " kept" : "");
    }
}

static void declare_all(Text *t, const KModule *m) {
    for (uint32_t i = 0; i < m->n_symbols; i++) text_symbol(t, m->symbols[i], "symbol");
    for (uint32_t i = 0; i < m->n_sizes; i++) text_symbol(t, m->sizes[i], "size");
    for (uint32_t i = 0; i < m->n_inputs; i++) declare_buffer(t, m->inputs[i].buf);
    for (uint32_t i = 0; i < m->n_outputs; i++) declare_buffer(t, m->outputs[i].buf);
    for (uint32_t i = 0; i < m->n_consts; i++) declare_buffer(t, m->consts[i]);
    if (m->size_table) declare_buffer(t, m->size_table);
    declare_used(t, &m->entry);
    io_text(t, m->inputs, m->n_inputs, "input");
    io_text(t, m->outputs, m->n_outputs, "output");
    if (m->size_table) {
        text_line(t);
        strbuf_printf(t->out, "sizes %s\n", text_name(t, m->size_table, "sizes"));
    }
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        text_line(t);
        strbuf_printf(t->out, "node %" PRIu32 " %s ", i, m->nodes[i].op);
        text_quoted(t, m->nodes[i].name);
        text_newline(t);
    }
}

/* A kernel sees the symbols and nothing else of the program, so its names are its own. */
static void module_kernel(Text *t, const KModule *m, const Kernel *kn) {
    Text own;
    text_begin(&own, t->out);
    own.indent = t->indent;
    for (uint32_t i = 0; i < m->n_symbols; i++) text_bind(&own, m->symbols[i], m->symbols[i]->name);
    for (uint32_t i = 0; i < m->n_sizes; i++) text_bind(&own, m->sizes[i], m->sizes[i]->name);
    kernel_text(&own, kn, text_name(t, kn, "k"));
    text_end(&own);
}

void print_kmodule(StrBuf *out, const KModule *m) {
    Text t;
    text_begin(&t, out);
    strbuf_add(out, "kernels ");
    text_quoted(&t, m->name);
    strbuf_add(out, " {\n");
    t.indent = 1;
    declare_all(&t, m);
    for (uint32_t i = 0; i < m->n_kernels; i++)
        text_bind(&t, m->kernels[i], m->kernels[i]->name ? m->kernels[i]->name : "k");
    for (uint32_t i = 0; i < m->n_kernels; i++) module_kernel(&t, m, m->kernels[i]);
    text_line(&t);
    strbuf_add(out, "entry ");
    braces(&t, &m->entry);
    text_newline(&t);
    if (m->arena_bytes) {
        text_share(&t, &m->arena_bytes, 1);
        text_line(&t);
        strbuf_add(out, "arena ");
        text_expr(&t, m->arena_bytes);
        if (m->arena_lower_bound) strbuf_printf(out, " bound %" PRId64, m->arena_lower_bound);
        text_newline(&t);
    }
    strbuf_add(out, "}\n");
    text_end(&t);
}

void print_kernel(StrBuf *out, const Kernel *kn) {
    Text t;
    text_begin(&t, out);
    kernel_text(&t, kn, kn->name ? kn->name : "k");
    text_end(&t);
}

/* ---- from a debugger ------------------------------------------------------------------------- */

void dump_kmodule(const KModule *m) {
    StrBuf b = {0};
    print_kmodule(&b, m);
    fputs(strbuf_text(&b), stderr);
    strbuf_free(&b);
}

void dump_kernel(const Kernel *kn) {
    StrBuf b = {0};
    print_kernel(&b, kn);
    fputs(strbuf_text(&b), stderr);
    strbuf_free(&b);
}
