/* The kernel level of IR text. See print_kernel.c for the form and IR.md for the rules; whatever
 * the verifier asks of kernels is refused here with a message. */
#include <string.h>

#include "ir/parse_text.h"
#include "ir/print_text.h"
#include "ir/support/map.h"
#include "ir/tile.h"

typedef struct KernelParse {
    KModule *km;
    StrMap *kernels; /* by name */
    bool in_entry;
    int depth; /* loops and branches around the statement */
    VEC(KIo) inputs;
    VEC(KIo) outputs;
    VEC(KBuf *) consts;
    VEC(Kernel *) list;
    VEC(KVar *) sizes;
    VEC(const char *) size_words; /* their names in the text */
    VEC(const char *) node_op;
    VEC(const char *) node_name;
} KernelParse;

/* ---- buffers --------------------------------------------------------------------------------- */

static KMem parse_mem(Parse *p) {
    const char *word = parse_word(p, "a kind of memory");
    for (int m = MEM_PARAM; m <= MEM_TILE; m++)
        if (!strcmp(word, kmem_word((KMem)m))) return (KMem)m;
    parse_fail(p, "there is no memory called '%s'", word);
    return MEM_NONE;
}

static uint32_t small(Parse *p, const char *what) {
    int64_t v = parse_int(p, what);
    if (v < 0 || v > INT32_MAX) parse_fail(p, "%s is out of range", what);
    return p->failed ? 0 : (uint32_t)v;
}

/* NAME: dtype[n] memory flags, bound from here on. */
static KBuf *parse_buffer(Parse *p) {
    const char *name = parse_word(p, "a buffer's name");
    const KExpr *n = NULL;
    if (strmap_get(p->bufs, name)) parse_fail(p, "buffer '%s' is declared twice", name);
    parse_expect(p, ":");
    DType t = parse_dtype(p);
    parse_expect(p, "[");
    if (!parse_is(p, "]")) n = parse_typed(p, DT_I64);
    parse_expect(p, "]");
    KMem mem = parse_mem(p);
    KBuf *b = kbuf_new(p->k, mem, t, name, n);
    if (mem == MEM_INPUT || mem == MEM_OUTPUT) b->index = small(p, "a position");
    while (!p->failed && !p->tok.starts_line) {
        if (parse_accept(p, "written"))
            b->written = true;
        else if (parse_accept(p, "noalias"))
            b->noalias = true;
        else if (parse_accept(p, "padded"))
            b->padded = true;
        else if (parse_accept(p, "align"))
            b->align = small(p, "an alignment");
        else if (parse_accept(p, "at"))
            b->offset = parse_typed(p, DT_I64);
        else
            break;
    }
    parse_bind(p, name, b, true);
    return b;
}

static void buffer_line(Parse *p) {
    KernelParse *kp = p->kernel;
    KBuf *b = parse_buffer(p);
    int64_t n;
    uint64_t n_bytes;
    if (p->failed) return;
    if (b->mem != MEM_INPUT && b->mem != MEM_OUTPUT && b->mem != MEM_CONST && b->mem != MEM_ARENA &&
        b->mem != MEM_HEAP)
        parse_fail(p, "a program has no %s memory", kmem_word(b->mem));
    if (b->mem != MEM_CONST) return;
    if (!b->n_elems || !k_is_int(b->n_elems, &n) || n < 0)
        parse_fail(p, "a constant has a fixed size");
    else
        b->data = parse_data(p, b->dtype, n, &n_bytes);
    b->index = kp->consts.n;
    vec_push(p->m->arena, &kp->consts, b);
}

static KBuf *known_buffer(Parse *p) {
    const char *name = p->tok.text;
    KBuf *b = p->tok.kind == T_WORD ? strmap_get(p->bufs, name) : NULL;
    if (!b) parse_fail(p, "there is no buffer '%s' here", name);
    parse_next(p);
    return b;
}

/* ---- statements ------------------------------------------------------------------------------ */

static void parse_block(Parse *p, KBlock *b);

static KStmt *append(Parse *p, KBlock *b, KStmtKind kind) {
    return kblock_append(p->m->arena, b, kind);
}

static KLoopMark parse_mark(Parse *p) {
    for (int m = LOOP_SERIAL; m <= LOOP_BLOCK_Z; m++)
        if (parse_accept(p, kmark_word((KLoopMark)m))) return (KLoopMark)m;
    return LOOP_SERIAL;
}

static void check_loop(Parse *p, const KStmt *s) {
    int64_t n;
    bool is_fixed = s->mark == LOOP_VECTOR || s->mark == LOOP_UNROLL;
    if (p->failed) return;
    if (is_fixed && !k_is_int(s->extent, &n))
        parse_fail(p, "a %s loop has a constant extent", kmark_word(s->mark));
    if (s->index && s->mark != LOOP_SERIAL && s->mark != LOOP_PARALLEL)
        parse_fail(p, "a %s loop has no order to turn around", kmark_word(s->mark));
    if (s->mark == LOOP_PARALLEL && (p->kernel->depth || p->kernel->in_entry))
        parse_fail(p, "a parallel loop is a kernel's outermost");
}

static void parse_for(Parse *p, KBlock *b) {
    const char *name = parse_word(p, "a variable's name");
    int64_t lo = 1, hi = 0;
    parse_range(p, &lo, &hi);
    parse_expect(p, "in");
    if (parse_int(p, "0")) parse_fail(p, "loops start at 0");
    parse_expect(p, "..");
    const KExpr *extent = parse_typed(p, DT_I64);
    KStmt *s = append(p, b, KS_FOR);
    s->extent = extent;
    s->mark = parse_mark(p);
    bool has_first = s->mark == LOOP_PARALLEL && parse_accept(p, "from");
    const char *first = has_first ? parse_word(p, "a variable's name") : NULL;
    int64_t first_lo = 0, first_hi = k_last_index(extent);
    if (first) parse_range(p, &first_lo, &first_hi);
    if (s->mark == LOOP_PARALLEL && parse_accept(p, "if")) s->value = parse_typed(p, DT_BOOL);
    if (parse_accept(p, "falling")) s->index = parse_typed(p, DT_BOOL);
    check_loop(p, s);
    if (lo > hi) {
        lo = 0;
        hi = k_last_index(extent);
    }
    uint32_t scope = parse_scope(p);
    s->var = kvar_new(p->k, KV_LOOP, DT_I64, name, lo, hi);
    parse_bind(p, name, s->var, false);
    if (first) {
        s->first = kvar_new(p->k, KV_LOOP, DT_I64, first, first_lo, first_hi);
        parse_bind(p, first, s->first, false);
    }
    parse_block(p, &s->body);
    parse_leave(p, scope);
    TileOp op;
    if (!p->failed && s->mark == LOOP_TILE && !tile_op(p->k, s, &op))
        parse_fail(p, "a tile loop zeroes, multiplies into or stores a tile (see tile.h)");
}

static void parse_if(Parse *p, KBlock *b, KStmtKind kind) {
    KStmt *s = append(p, b, kind);
    s->value = parse_typed(p, DT_BOOL);
    parse_block(p, &s->body);
    if (kind == KS_IF && parse_accept(p, "else")) parse_block(p, &s->other);
}

/* In the entry, a size of the program is bound under its own name. */
static void parse_let(Parse *p, KBlock *b) {
    const char *name = parse_word(p, "a variable's name");
    int64_t lo = 1, hi = 0;
    KVar *size = NULL;
    KernelParse *kp = p->kernel;
    for (uint32_t i = 0; i < kp->sizes.n && kp->in_entry; i++)
        if (!strcmp(kp->size_words.at[i], name)) size = kp->sizes.at[i];
    parse_range(p, &lo, &hi);
    parse_expect(p, "=");
    const KExpr *value = parse_expr(p);
    KStmt *s = append(p, b, KS_LET);
    s->value = value;
    s->var = size ? size
                  : kvar_new(p->k, KV_LET, value->dtype, name, lo > hi ? value->lo : lo,
                             lo > hi ? value->hi : hi);
    if (!p->failed && s->var->dtype != value->dtype)
        parse_fail(p, "size '%s' is no %s", name, dtype_info[value->dtype].name);
    parse_bind(p, name, s->var, false);
}

static void parse_alloc(Parse *p, KBlock *b) {
    int64_t n;
    KBuf *buf = parse_buffer(p);
    if (p->failed) return;
    bool is_local = kmem_is_local(buf->mem);
    if (!is_local || !buf->n_elems || !k_is_int(buf->n_elems, &n) || n < 0)
        parse_fail(p, "alloc makes local buffers of constant size");
    append(p, b, KS_ALLOC)->buf = buf;
}

static void parse_call(Parse *p, KBlock *b) {
    const char *name = parse_word(p, "a kernel's name");
    Kernel *kn = strmap_get(p->kernel->kernels, name);
    if (!kn || !p->kernel->in_entry)
        parse_fail(p, kn ? "only the entry calls kernels" : "there is no kernel '%s'", name);
    if (p->failed) return;
    KStmt *s = append(p, b, KS_CALL);
    s->callee = kn;
    s->args = arena_array(p->m->arena, KArg, kn->n_params + 1);
    s->scalars = arena_array(p->m->arena, const KExpr *, kn->n_scalars + 1);
    parse_expect(p, "(");
    for (uint32_t i = 0; i < kn->n_params && !p->failed; i++) {
        if (i) parse_expect(p, ",");
        s->args[i].buf = known_buffer(p);
        if (!p->failed && s->args[i].buf->dtype != kn->params[i]->dtype)
            parse_fail(p, "argument %u is of another dtype", i);
        if (parse_accept(p, "+")) s->args[i].offset = parse_typed(p, DT_I64);
    }
    parse_expect(p, ")");
    if (!kn->n_scalars) return;
    parse_expect(p, "(");
    for (uint32_t i = 0; i < kn->n_scalars && !p->failed; i++) {
        if (i) parse_expect(p, ",");
        s->scalars[i] = parse_typed(p, kn->scalars[i]->dtype);
    }
    parse_expect(p, ")");
}

enum { MAX_EXTERN_ARGS = 64 };

/* extern name(x, out y + 4)(n) */
static void parse_extern(Parse *p, KBlock *b) {
    KArg args[MAX_EXTERN_ARGS];
    const KExpr *scalars[MAX_EXTERN_ARGS];
    uint32_t n_args = 0, n_scalars = 0;
    const char *name = parse_word(p, "a function's name");
    parse_expect(p, "(");
    while (!p->failed && !parse_is(p, ")") && n_args < MAX_EXTERN_ARGS) {
        if (n_args) parse_expect(p, ",");
        KArg *a = &args[n_args++];
        *a = (KArg){.written = parse_accept(p, "out")};
        a->buf = known_buffer(p);
        if (!p->failed && a->written && (a->buf->mem == MEM_CONST || a->buf->mem == MEM_INPUT))
            parse_fail(p, "buffer '%s' is only read", a->buf->name);
        if (parse_accept(p, "+")) a->offset = parse_typed(p, DT_I64);
    }
    parse_expect(p, ")");
    parse_expect(p, "(");
    while (!p->failed && !parse_is(p, ")") && n_scalars < MAX_EXTERN_ARGS) {
        if (n_scalars) parse_expect(p, ",");
        scalars[n_scalars++] = parse_typed(p, DT_I64);
    }
    parse_expect(p, ")");
    if (p->failed) return;
    KStmt *s = append(p, b, KS_EXTERN);
    s->text = name;
    s->n_args = n_args;
    s->n_scalars = n_scalars;
    s->args = arena_copy(p->m->arena, args, sizeof *args * n_args);
    s->scalars = arena_copy(p->m->arena, scalars, sizeof *scalars * n_scalars);
}

static void parse_store(Parse *p, KBlock *b) {
    KBuf *buf = known_buffer(p);
    if (p->failed) return;
    if (buf->mem == MEM_CONST || buf->mem == MEM_INPUT)
        parse_fail(p, "buffer '%s' is only read", buf->name);
    KStmt *s = append(p, b, KS_STORE);
    s->buf = buf;
    parse_expect(p, "[");
    s->index = parse_typed(p, DT_I64);
    parse_expect(p, "]");
    parse_expect(p, "=");
    s->value = parse_typed(p, buf->dtype);
}

static void parse_prefetch(Parse *p, KBlock *b) {
    KBuf *buf = known_buffer(p);
    if (p->failed) return;
    parse_expect(p, "[");
    const KExpr *index = parse_typed(p, DT_I64);
    parse_expect(p, "]");
    if (!p->failed) append(p, b, KS_PREFETCH)->value = k_load(p->m->k, buf, index);
}

static void entry_statement(Parse *p, KBlock *b, KStmtKind kind) {
    KStmt *s = append(p, b, kind);
    if (!p->kernel->in_entry) parse_fail(p, "this statement stands in the entry only");
    if (kind == KS_NODE) {
        s->node = small(p, "a node's number");
        if (s->node >= p->kernel->node_op.n) parse_fail(p, "there is no node %u", s->node);
    } else {
        s->value = parse_typed(p, DT_I64);
    }
}

static void parse_reserve(Parse *p, KBlock *b) {
    KBuf *buf = known_buffer(p);
    if (p->failed) return;
    if (!p->kernel->in_entry) parse_fail(p, "this statement stands in the entry only");
    if (buf->mem != MEM_HEAP) parse_fail(p, "buffer '%s' is not on the heap", buf->name);
    KStmt *s = append(p, b, KS_RESERVE);
    s->buf = buf;
    parse_expect(p, "[");
    s->value = parse_typed(p, DT_I64);
    parse_expect(p, "]");
    if (parse_accept(p, "keep")) s->index = parse_typed(p, DT_I64);
}

static void parse_statement(Parse *p, KBlock *b) {
    parse_lines(p);
    if (parse_accept(p, "for"))
        parse_for(p, b);
    else if (parse_accept(p, "while"))
        parse_if(p, b, KS_WHILE);
    else if (parse_accept(p, "if"))
        parse_if(p, b, KS_IF);
    else if (parse_accept(p, "let"))
        parse_let(p, b);
    else if (parse_accept(p, "alloc"))
        parse_alloc(p, b);
    else if (parse_accept(p, "call"))
        parse_call(p, b);
    else if (parse_accept(p, "extern"))
        parse_extern(p, b);
    else if (parse_accept(p, "barrier"))
        append(p, b, KS_BARRIER);
    else if (parse_accept(p, "prefetch"))
        parse_prefetch(p, b);
    else if (parse_accept(p, "node"))
        entry_statement(p, b, KS_NODE);
    else if (parse_accept(p, "return"))
        entry_statement(p, b, KS_RETURN);
    else if (parse_accept(p, "reserve"))
        parse_reserve(p, b);
    else if (parse_accept(p, "comment"))
        append(p, b, KS_COMMENT)->text = parse_string(p, "a comment");
    else
        parse_store(p, b);
}

static void parse_block(Parse *p, KBlock *b) {
    uint32_t scope = parse_scope(p);
    if (p->nesting >= PARSE_NEST / 2) parse_fail(p, "blocks nest too deeply");
    p->nesting += 2;
    p->kernel->depth++;
    parse_expect(p, "{");
    while (!p->failed && !parse_is(p, "}")) {
        if (!p->tok.starts_line)
            parse_fail(p, "a statement starts on a line of its own");
        else
            parse_statement(p, b);
    }
    parse_expect(p, "}");
    p->kernel->depth--;
    p->nesting -= 2;
    parse_leave(p, scope);
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* (n [1, 64], x: f32): a name that is a symbol's is that symbol. */
static void parse_scalars(Parse *p, Kernel *kn) {
    VEC(KVar *) scalars = {0};
    do {
        const char *name = parse_word(p, "a scalar's name");
        KVar *v = strmap_get(p->vars, name);
        DType t = parse_accept(p, ":") ? parse_dtype(p) : DT_I64;
        int64_t lo = INT64_MIN, hi = INT64_MAX;
        parse_range(p, &lo, &hi);
        for (uint32_t i = 0; i < scalars.n; i++)
            if (v && scalars.at[i] == v) parse_fail(p, "scalar '%s' is given twice", name);
        if (!v) v = kvar_new(p->k, KV_LET, t, name, lo, hi);
        parse_bind(p, name, v, false);
        vec_push(p->m->arena, &scalars, v);
    } while (parse_accept(p, ","));
    parse_expect(p, ")");
    kn->scalars = scalars.at;
    kn->n_scalars = scalars.n;
}

static void parse_params(Parse *p, Kernel *kn) {
    VEC(KBuf *) params = {0};
    while (!p->failed && !parse_is(p, ")")) {
        if (params.n && !parse_expect(p, ",")) break;
        KBuf *b = parse_buffer(p);
        if (!p->failed && b->mem != MEM_PARAM) parse_fail(p, "a parameter's memory is 'param'");
        b->index = params.n;
        vec_push(p->m->arena, &params, b);
    }
    parse_expect(p, ")");
    kn->params = params.at;
    kn->n_params = params.n;
}

static void kernel_flags(Parse *p, Kernel *kn) {
    for (;;) {
        if (parse_accept(p, "flops")) {
            if (p->tok.kind != T_NUMBER) parse_fail(p, "expected a number");
            kn->flops = parse_double(DT_F64, p->tok.text, strlen(p->tok.text));
            parse_next(p);
        } else if (parse_accept(p, "note")) {
            kn->note = parse_string(p, "a note");
        } else {
            return;
        }
    }
}

/* The program's buffers are hidden inside: kernel text names its own. */
static void parse_kernel(Parse *p) {
    KernelParse *kp = p->kernel;
    Kernel *kn = arena_new(p->m->arena, Kernel);
    StrMap *outer = p->bufs;
    uint32_t scope = parse_scope(p);
    p->bufs = strmap_create(p->a);
    kn->name = parse_word(p, "a kernel's name");
    kn->id = kp->list.n;
    if (strmap_get(kp->kernels, kn->name)) parse_fail(p, "kernel '%s' is defined twice", kn->name);
    parse_expect(p, "(");
    parse_params(p, kn);
    if (parse_accept(p, "(")) parse_scalars(p, kn);
    kernel_flags(p, kn);
    kp->depth = -1;
    parse_block(p, &kn->body);
    parse_leave(p, scope);
    p->bufs = outer;
    strmap_put(kp->kernels, kn->name, kn);
    vec_push(p->m->arena, &kp->list, kn);
}

/* ---- the whole program ----------------------------------------------------------------------- */

static void parse_io(Parse *p, bool is_input) {
    const KExpr *dims[MAX_RANK];
    KIo io = {.name = parse_string(p, "a name")};
    parse_expect(p, ":");
    io.dtype = parse_dtype(p);
    io.rank = parse_dims(p, dims, MAX_RANK);
    io.dims = arena_copy(p->m->arena, dims, sizeof *dims * (size_t)(io.rank ? io.rank : 1));
    parse_expect(p, "=");
    io.buf = known_buffer(p);
    io.is_kept = !is_input && parse_accept(p, "kept");
    if (!p->failed && dtype_stored(io.buf->dtype) != dtype_stored(io.dtype))
        parse_fail(p, "'%s' and its buffer differ", io.name);
    if (is_input)
        vec_push(p->m->arena, &p->kernel->inputs, io);
    else
        vec_push(p->m->arena, &p->kernel->outputs, io);
}

static void node_line(Parse *p) {
    KernelParse *kp = p->kernel;
    if (small(p, "a node's number") != kp->node_op.n) parse_fail(p, "nodes are numbered in order");
    const char *op = parse_word(p, "an operator"), *name = parse_string(p, "a name");
    vec_push(p->a, &kp->node_op, op);
    vec_push(p->a, &kp->node_name, name);
}

static void symbol_line(Parse *p, bool computed) {
    const char *word = p->tok.text;
    KVar *v = parse_symbol(p, computed);
    if (!v || !computed) return;
    vec_push(p->m->arena, &p->kernel->sizes, v);
    vec_push(p->a, &p->kernel->size_words, word);
}

static void hide_sizes(Parse *p) {
    for (uint32_t i = 0; i < p->kernel->sizes.n; i++)
        parse_bind(p, p->kernel->size_words.at[i], NULL, false);
}

static void parse_entry(Parse *p) {
    uint32_t scope = parse_scope(p);
    p->kernel->in_entry = true;
    hide_sizes(p); /* each is visible from its let on */
    parse_block(p, &p->kernel->km->entry);
    p->kernel->in_entry = false;
    parse_leave(p, scope);
}

static void parse_arena(Parse *p) {
    KModule *km = p->kernel->km;
    km->arena_bytes = parse_typed(p, DT_I64);
    if (parse_accept(p, "bound")) km->arena_lower_bound = parse_int(p, "a number of bytes");
    p->m->facts |= FACT_MEMORY;
}

static void parse_part(Parse *p) {
    KernelParse *kp = p->kernel;
    parse_lines(p);
    if (parse_accept(p, "symbol"))
        symbol_line(p, false);
    else if (parse_accept(p, "size"))
        symbol_line(p, true);
    else if (parse_accept(p, "buf"))
        buffer_line(p);
    else if (parse_accept(p, "input"))
        parse_io(p, true);
    else if (parse_accept(p, "output"))
        parse_io(p, false);
    else if (parse_accept(p, "sizes"))
        kp->km->size_table = p->m->size_table = known_buffer(p);
    else if (parse_accept(p, "node"))
        node_line(p);
    else if (parse_accept(p, "kernel"))
        parse_kernel(p);
    else if (parse_accept(p, "entry"))
        parse_entry(p);
    else if (parse_accept(p, "arena"))
        parse_arena(p);
    else
        parse_fail(p, "expected a part of the program, found '%s'", p->tok.text);
}

static void finish(Parse *p) {
    KernelParse *kp = p->kernel;
    KModule *km = kp->km;
    Module *m = p->m;
    km->inputs = kp->inputs.at;
    km->n_inputs = kp->inputs.n;
    km->outputs = kp->outputs.at;
    km->n_outputs = kp->outputs.n;
    km->consts = kp->consts.at;
    km->n_consts = kp->consts.n;
    km->kernels = kp->list.at;
    km->n_kernels = kp->list.n;
    km->sizes = kp->sizes.at;
    km->n_sizes = kp->sizes.n;
    km->symbols = m->symbols.at;
    km->n_symbols = m->symbols.n - km->n_sizes;
    km->n_nodes = kp->node_op.n;
    km->nodes = arena_alloc_array(m->arena, km->n_nodes + 1, sizeof *km->nodes);
    for (uint32_t i = 0; i < km->n_nodes; i++) {
        km->nodes[i].op = kp->node_op.at[i];
        km->nodes[i].name = kp->node_name.at[i];
    }
    m->kmod = km;
    m->facts |= FACT_KERNELS;
}

void parse_kernel_level(Parse *p) {
    KernelParse kp = {.km = arena_new(p->m->arena, KModule), .kernels = strmap_create(p->a)};
    p->kernel = &kp;
    p->exact = true;
    p->m->name = parse_string(p, "the module's name");
    *kp.km = (KModule){.k = p->k, .arena = p->m->arena, .name = p->m->name};
    parse_expect(p, "{");
    while (!p->failed && !parse_is(p, "}")) parse_part(p);
    parse_expect(p, "}");
    if (!p->failed) finish(p);
}
