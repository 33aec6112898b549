/* Statements of kernel IR as LLVM blocks.
 *
 * A vector loop is widened when its body allows: every store goes to another element per lane,
 * inner loops have the same extent for all lanes, branches that differ by lane become masks.
 * Otherwise its iterations are emitted one after the other, which means the same. */
#include <string.h>

#include "codegen/llvm/llvm_gen.h"

enum { MAX_LANES = 256 }; /* longer vector loops stay loops */

LLVMBasicBlockRef llvm_new_block(LlvmGen *g, const char *name) {
    return LLVMAppendBasicBlockInContext(g->ctx, g->fn->fn, name);
}

static bool is_terminated(LlvmGen *g) {
    return LLVMGetBasicBlockTerminator(LLVMGetInsertBlock(g->b)) != NULL;
}

static void jump(LlvmGen *g, LLVMBasicBlockRef to) {
    if (!is_terminated(g)) LLVMBuildBr(g->b, to);
}

static void bind_var(LlvmGen *g, const KVar *v, LLVMValueRef value, int depth) {
    *llvm_var(g, v) = (VarBind){.v = value, .depth = depth};
}

/* ---- loops ----------------------------------------------------------------------------------- */

/* A value whose memory reads no later statement shares. */
static LLVMValueRef evaluate(LlvmGen *g, const KExpr *e) {
    uint32_t mark = llvm_memo_mark(g);
    LLVMValueRef v = llvm_expr(g, e);
    llvm_memo_drop_loads(g, mark);
    return v;
}

/* for (var = from; var < to; var++) body, with the test at the end; or from the last to the first
 * where the loop falls. */
static void counted_loop(LlvmGen *g, const KStmt *s, LLVMValueRef from, LLVMValueRef to,
                         bool may_be_empty) {
    LlvmFn *fn = g->fn;
    LLVMBasicBlockRef body = llvm_new_block(g, s->var->name), done = llvm_new_block(g, "done");
    LLVMValueRef falls = s->index ? evaluate(g, s->index) : NULL, ends = NULL;
    if (falls)
        ends = LLVMBuildAdd(g->b, from, LLVMBuildSub(g->b, to, LLVMConstInt(g->i64, 1, 0), ""), "");
    if (may_be_empty) {
        LLVMValueRef any = LLVMBuildICmp(g->b, LLVMIntSLT, from, to, "");
        LLVMBuildCondBr(g->b, any, body, done);
    } else {
        LLVMBuildBr(g->b, body);
    }
    LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b);
    LLVMPositionBuilderAtEnd(g->b, body);
    LLVMValueRef i = LLVMBuildPhi(g->b, g->i64, s->var->name);
    uint32_t mark = llvm_memo_mark(g);
    LLVMValueRef at = i;
    if (falls) at = LLVMBuildSelect(g->b, falls, LLVMBuildSub(g->b, ends, i, ""), i, "");
    bind_var(g, s->var, at, ++fn->depth);
    llvm_block(g, &s->body);
    llvm_memo_undo(g, mark);
    fn->depth--;
    LLVMBasicBlockRef latch = LLVMGetInsertBlock(g->b);
    LLVMValueRef next = NULL;
    if (!is_terminated(g)) {
        next = LLVMBuildNSWAdd(g->b, i, LLVMConstInt(g->i64, 1, 0), "");
        LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntSLT, next, to, ""), body, done);
        LLVMAddIncoming(i, &next, &latch, 1);
    }
    LLVMAddIncoming(i, &from, &before, 1);
    LLVMPositionBuilderAtEnd(g->b, done);
}

static void serial_loop(LlvmGen *g, const KStmt *s) {
    LLVMValueRef extent = evaluate(g, s->extent), zero = LLVMConstInt(g->i64, 0, 0);
    if (s->first) bind_var(g, s->first, zero, 0);
    int64_t n;
    bool known = llvm_known_int(g, s->extent, &n);
    if (known && n <= 0) return;
    if (known && n == 1) {
        bind_var(g, s->var, zero, 0);
        uint32_t mark = llvm_memo_mark(g);
        llvm_block(g, &s->body);
        llvm_memo_undo(g, mark);
        return;
    }
    counted_loop(g, s, zero, extent, !known && s->extent->lo < 1);
}

void llvm_parallel_loop(LlvmGen *g, const KStmt *s, LLVMValueRef begin, LLVMValueRef end) {
    if (s->first) bind_var(g, s->first, begin, 0);
    counted_loop(g, s, begin, end, true);
}

static void unrolled_loop(LlvmGen *g, const KStmt *s, int64_t n) {
    for (int64_t i = 0; i < n && !is_terminated(g); i++) {
        uint32_t mark = llvm_memo_mark(g);
        bind_var(g, s->var, LLVMConstInt(g->i64, (uint64_t)i, 0), 0);
        llvm_block(g, &s->body);
        llvm_memo_undo(g, mark);
    }
}

/* ---- vector loops ---------------------------------------------------------------------------- */

static bool can_widen(LlvmGen *g, const KBlock *b);

static void note_text(const KExpr *e, void *found) {
    if (e->dtype == DT_STR || kop_info[e->op].class == KC_TEXT) *(bool *)found = true;
}

/* There are no vectors of strings. */
static bool has_text(LlvmGen *g, const KStmt *s) {
    bool found = s->buf && s->buf->dtype == DT_STR;
    if (s->value) k_visit(g->m->k, s->value, note_text, &found);
    if (s->index) k_visit(g->m->k, s->index, note_text, &found);
    return found;
}

static bool can_widen_stmt(LlvmGen *g, const KStmt *s) {
    int64_t n;
    if (has_text(g, s)) return false;
    switch (s->kind) {
    case KS_FOR:
        llvm_var(g, s->var)->varying = false;
        if (llvm_varies(g, s->extent)) return false;
        if (s->mark == LOOP_UNROLL && !llvm_known_int(g, s->extent, &n)) return false;
        return can_widen(g, &s->body);
    case KS_IF: return can_widen(g, &s->body) && can_widen(g, &s->other);
    case KS_LET:
        if (!(llvm_var(g, s->var)->varying = llvm_varies(g, s->value))) return true;
        g->fn->varying_vars |= UINT64_C(1) << (s->var->id & 63);
        return true;
    case KS_ALLOC:
        llvm_buf(g, s->buf)->per_lane = true;
        g->fn->any_per_lane = true;
        return true;
    case KS_STORE: return llvm_buf(g, s->buf)->per_lane || llvm_varies(g, s->index);
    case KS_PREFETCH:
    case KS_COMMENT: return true;
    case KS_NONE:
    case KS_WHILE:
    case KS_CALL:
    case KS_EXTERN:
    case KS_BARRIER:
    case KS_NODE:
    case KS_RESERVE:
    case KS_RETURN: return false;
    }
    return false;
}

static bool can_widen(LlvmGen *g, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next)
        if (!can_widen_stmt(g, s)) return false;
    return true;
}

/* Undoes what can_widen noted about variables and buffers. */
static void forget_lanes(LlvmGen *g, const KBlock *b) {
    for (const KStmt *s = b->first; s; s = s->next) {
        if (s->kind == KS_FOR || s->kind == KS_LET) llvm_var(g, s->var)->varying = false;
        if (s->kind == KS_ALLOC) llvm_buf(g, s->buf)->per_lane = false;
        forget_lanes(g, &s->body);
        forget_lanes(g, &s->other);
    }
}

/* Vector loops around a vector loop are copies of it, which a renderer may take together. */
static bool is_nest(const KStmt *s) {
    const KStmt *in = s->body.first;
    return in && !in->next && in->kind == KS_FOR && in->mark == LOOP_VECTOR;
}

static void vector_loop(LlvmGen *g, const KStmt *s) {
    LlvmFn *fn = g->fn;
    int64_t n;
    if (!llvm_known_int(g, s->extent, &n)) {
        serial_loop(g, s);
        return;
    }
    if (is_nest(s)) {
        if (!llvm_pack_stores(g, s)) unrolled_loop(g, s, n);
        return;
    }
    if (n < 2 || fn->lanes || n > MAX_LANES) {
        if (n > MAX_LANES)
            serial_loop(g, s);
        else
            unrolled_loop(g, s, n);
        return;
    }
    fn->lanes = (int)n;
    fn->lane_var = s->var;
    fn->varying_vars = UINT64_C(1) << (s->var->id & 63);
    fn->any_per_lane = false;
    if (can_widen(g, &s->body)) {
        uint32_t mark = llvm_memo_mark(g);
        *llvm_var(g, s->var) = (VarBind){.v = llvm_iota(g, (unsigned)n), .varying = true};
        llvm_block(g, &s->body);
        llvm_memo_undo(g, mark);
        fn->lanes = 0;
        fn->lane_var = NULL;
        forget_lanes(g, &s->body);
        return;
    }
    fn->lanes = 0;
    fn->lane_var = NULL;
    forget_lanes(g, &s->body);
    unrolled_loop(g, s, n);
}

static void emit_for(LlvmGen *g, const KStmt *s) {
    int64_t n;
    switch (s->mark) {
    case LOOP_UNROLL:
        if (llvm_known_int(g, s->extent, &n)) {
            unrolled_loop(g, s, n);
            return;
        }
        break;
    case LOOP_VECTOR: vector_loop(g, s); return;
    case LOOP_TILE:
        if (!g->cpu.amx) break;
        llvm_tile_loop(g, s);
        return;
    case LOOP_SERIAL:
    case LOOP_PARALLEL: /* the outermost one was taken by the kernel */
    case LOOP_GRID_X:
    case LOOP_GRID_Y:
    case LOOP_GRID_Z:
    case LOOP_BLOCK_X:
    case LOOP_BLOCK_Y:
    case LOOP_BLOCK_Z: break;
    }
    serial_loop(g, s);
}

/* ---- branches -------------------------------------------------------------------------------- */

static void scoped_block(LlvmGen *g, const KBlock *b) {
    uint32_t mark = llvm_memo_mark(g);
    llvm_block(g, b);
    llvm_memo_undo(g, mark);
}

static void emit_masked_if(LlvmGen *g, const KStmt *s, LLVMValueRef cond) {
    LLVMValueRef outer = g->fn->mask;
    const KExpr *outer_cond = g->fn->mask_cond;
    g->fn->mask_cond = outer ? NULL : s->value;
    g->fn->mask = outer ? LLVMBuildAnd(g->b, outer, cond, "") : cond;
    llvm_block(g, &s->body);
    if (s->other.first) {
        LLVMValueRef no = LLVMBuildNot(g->b, cond, "");
        g->fn->mask_cond = NULL;
        g->fn->mask = outer ? LLVMBuildAnd(g->b, outer, no, "") : no;
        llvm_block(g, &s->other);
    }
    g->fn->mask = outer;
    g->fn->mask_cond = outer_cond;
}

static void emit_if(LlvmGen *g, const KStmt *s) {
    LLVMValueRef cond = evaluate(g, s->value);
    if (LLVMIsAConstantInt(cond)) {
        scoped_block(g, LLVMConstIntGetZExtValue(cond) ? &s->body : &s->other);
        return;
    }
    if (llvm_lanes(cond)) {
        emit_masked_if(g, s, cond);
        return;
    }
    LLVMBasicBlockRef yes = llvm_new_block(g, "then"), done = llvm_new_block(g, "endif");
    LLVMBasicBlockRef no = s->other.first ? llvm_new_block(g, "else") : done;
    LLVMBuildCondBr(g->b, cond, yes, no);
    LLVMPositionBuilderAtEnd(g->b, yes);
    scoped_block(g, &s->body);
    jump(g, done);
    if (s->other.first) {
        LLVMPositionBuilderAtEnd(g->b, no);
        scoped_block(g, &s->other);
        jump(g, done);
    }
    LLVMPositionBuilderAtEnd(g->b, done);
}

static void emit_while(LlvmGen *g, const KStmt *s) {
    LLVMBasicBlockRef head = llvm_new_block(g, "while"), body = llvm_new_block(g, "do");
    LLVMBasicBlockRef done = llvm_new_block(g, "done");
    LLVMBuildBr(g->b, head);
    LLVMPositionBuilderAtEnd(g->b, head);
    g->fn->depth++;
    uint32_t mark = llvm_memo_mark(g);
    LLVMBuildCondBr(g->b, llvm_expr(g, s->value), body, done);
    llvm_memo_drop_loads(g, mark);
    LLVMPositionBuilderAtEnd(g->b, body);
    llvm_block(g, &s->body);
    llvm_memo_undo(g, mark);
    g->fn->depth--;
    jump(g, head);
    LLVMPositionBuilderAtEnd(g->b, done);
}

/* ---- the rest -------------------------------------------------------------------------------- */

static void emit_alloc(LlvmGen *g, const KBuf *b) {
    int64_t n;
    if (llvm_tile_alloc(g, b)) return;
    BUG_IF(!k_is_int(b->n_elems, &n), "local buffer %s has no constant size", b->name);
    BufBind *bind = llvm_buf(g, b);
    uint64_t lanes = bind->per_lane ? (uint64_t)g->fn->lanes : 1;
    LLVMValueRef at = llvm_alloca(g, llvm_mem_type(g, b->dtype), (uint64_t)n * lanes, 64, b->name);
    bind->base = at;
    bind->align = 64;
}

static void emit_let(LlvmGen *g, const KStmt *s) {
    int depth;
    LLVMValueRef v = llvm_expr_depth(g, s->value, &depth);
    VarBind *bind = llvm_var(g, s->var);
    bind->v = v;
    bind->depth = depth;
}

enum { MAX_EXTERN_ARGS = 128 };

/* void name(first elements..., i64 scalars...) of somebody else. */
static void emit_extern(LlvmGen *g, const KStmt *s) {
    LLVMValueRef args[MAX_EXTERN_ARGS];
    LLVMTypeRef types[MAX_EXTERN_ARGS];
    unsigned n = 0;
    BUG_IF(s->n_args + s->n_scalars > MAX_EXTERN_ARGS, "%s has too many arguments", s->text);
    for (uint32_t i = 0; i < s->n_args; i++) {
        const KArg *a = &s->args[i];
        LLVMValueRef at = llvm_buf(g, a->buf)->base;
        if (a->offset) {
            LLVMValueRef offset = evaluate(g, a->offset);
            at = LLVMBuildGEP2(g->b, llvm_mem_type(g, a->buf->dtype), at, &offset, 1, "");
        }
        types[n] = g->ptr;
        args[n++] = at;
    }
    for (uint32_t i = 0; i < s->n_scalars; i++) {
        types[n] = g->i64;
        args[n++] = evaluate(g, s->scalars[i]);
    }
    LLVMTypeRef type = LLVMFunctionType(g->none, types, n, 0);
    LLVMValueRef fn = LLVMGetNamedFunction(g->mod, s->text);
    if (!fn) fn = LLVMAddFunction(g->mod, s->text, type);
    LLVMBuildCall2(g->b, type, fn, args, n, "");
}

static void emit_statement(LlvmGen *g, const KStmt *s) {
    switch (s->kind) {
    case KS_FOR: emit_for(g, s); return;
    case KS_WHILE: emit_while(g, s); return;
    case KS_IF: emit_if(g, s); return;
    case KS_LET: emit_let(g, s); return;
    case KS_STORE:
        g->fn->operand_block = NULL; /* what tile registers hold may be of old */
        llvm_store(g, s->buf, s->index, s->value);
        return;
    case KS_ALLOC: emit_alloc(g, s->buf); return;
    case KS_EXTERN: emit_extern(g, s); return;
    case KS_PREFETCH: llvm_prefetch(g, s->value); return;
    case KS_CALL:
    case KS_NODE:
    case KS_RESERVE:
    case KS_RETURN: llvm_entry_statement(g, s); return;
    case KS_COMMENT:
    case KS_BARRIER: /* one thread runs the block */
    case KS_NONE: return;
    }
}

void llvm_block(LlvmGen *g, const KBlock *b) {
    int n_tiles = g->fn->n_tiles;
    for (const KStmt *s = b->first; s && !is_terminated(g); s = s->next) {
        uint32_t mark = llvm_memo_mark(g);
        emit_statement(g, s);
        llvm_memo_drop_loads(g, mark);
    }
    g->fn->n_tiles = n_tiles;
}
