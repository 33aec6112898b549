/* Statements of the entry: calls of kernels, in parallel where a pool is given, hooks of nodes, and
 * memory of sizes that a run finds. */
#include <stdlib.h>

#include "codegen/llvm/entry.h"

static LLVMValueRef argument_address(LlvmGen *g, const KArg *a) {
    BufBind bind = *llvm_buf(g, a->buf);
    LLVMValueRef base = bind.base ? bind.base : llvm_entry_base(g, a->buf);
    BUG_IF(!base, "entry: buffer %s_%u has no place", a->buf->name, a->buf->id);
    if (!a->offset) return base;
    LLVMValueRef by = llvm_expr(g, a->offset);
    return LLVMBuildGEP2(g->b, llvm_mem_type(g, a->buf->dtype), base, &by, 1, "");
}

/* The extent of a kernel's parallel loop, from the arguments of this call, and whether it is worth
 * threads (NULL: it is): the kernel's parameters stand for them while its leading LETs and the
 * extent are evaluated here. */
static LLVMValueRef parallel_extent(LlvmGen *g, const Kernel *kn, LLVMValueRef *args,
                                    LLVMValueRef *is_worth) {
    const KStmt *loop = kernel_parallel_loop(kn);
    VarBind *old = xmalloc(sizeof *old * (kn->n_scalars + 1));
    for (uint32_t i = 0; i < kn->n_scalars; i++) {
        old[i] = *llvm_var(g, kn->scalars[i]);
        *llvm_var(g, kn->scalars[i]) =
            (VarBind){.v = args[kn->n_params + i], .depth = g->fn->depth};
    }
    for (uint32_t i = 0; i < kn->n_params; i++)
        *llvm_buf(g, kn->params[i]) = (BufBind){.base = args[i], .align = 1};
    LLVMValueRef table = g->fn->size_table;
    g->fn->size_table = NULL;
    MemoAside aside = llvm_memo_aside(g); /* there, these variables had other values */
    for (const KStmt *s = kn->body.first; s && s != loop; s = s->next) {
        if (s->kind != KS_LET) continue;
        LLVMValueRef v = llvm_expr(g, s->value);
        *llvm_var(g, s->var) = (VarBind){.v = v, .depth = g->fn->depth};
    }
    LLVMValueRef n = llvm_expr(g, loop->extent);
    *is_worth = loop->value ? llvm_expr(g, loop->value) : NULL;
    llvm_memo_back(g, aside);
    g->fn->size_table = table;
    for (uint32_t i = 0; i < kn->n_scalars; i++) *llvm_var(g, kn->scalars[i]) = old[i];
    free(old);
    return n;
}

/* With a pool, more than one iteration and enough work through the pool, otherwise here. */
static void call_parallel(LlvmGen *g, Entry *e, const Kernel *kn, LLVMValueRef *args, unsigned n) {
    LLVMValueRef is_worth, zero = LLVMConstInt(g->i64, 0, 0);
    LLVMValueRef count = parallel_extent(g, kn, args, &is_worth);
    LLVMBasicBlockRef pool = llvm_new_block(g, "pool"), here = llvm_new_block(g, "here");
    LLVMBasicBlockRef done = llvm_new_block(g, "done");
    LLVMValueRef has_pool = LLVMBuildNot(g->b, is_null(g, e->parallel_for), "");
    LLVMValueRef many = LLVMBuildICmp(g->b, LLVMIntSGT, count, LLVMConstInt(g->i64, 1, 0), "");
    if (is_worth) many = LLVMBuildAnd(g->b, many, is_worth, "");
    LLVMBuildCondBr(g->b, LLVMBuildAnd(g->b, has_pool, many, ""), pool, here);
    LLVMPositionBuilderAtEnd(g->b, pool);
    LLVMTypeRef type = llvm_context_type(g, kn);
    LLVMValueRef context = llvm_alloca(g, type, 1, 16, "context");
    for (unsigned i = 0; i < n; i++)
        LLVMBuildStore(g->b, args[i], LLVMBuildStructGEP2(g->b, type, context, i, ""));
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->ptr, g->i64};
    LLVMValueRef to_pool[] = {e->pool, llvm_kernel_thunk(g, kn), context, count};
    LLVMBuildCall2(g->b, LLVMFunctionType(g->none, params, 4, 0), e->parallel_for, to_pool, 4, "");
    LLVMBuildBr(g->b, done);
    LLVMPositionBuilderAtEnd(g->b, here);
    args[n] = zero;
    args[n + 1] = count;
    LLVMBuildCall2(g->b, llvm_kernel_type(g, kn), llvm_kernel_function(g, kn), args, n + 2, "");
    LLVMBuildBr(g->b, done);
    LLVMPositionBuilderAtEnd(g->b, done);
}

static void emit_call(LlvmGen *g, Entry *e, const KStmt *s) {
    const Kernel *kn = s->callee;
    unsigned n = kn->n_params + kn->n_scalars;
    LLVMValueRef *args = xmalloc(sizeof *args * (n + 2));
    for (uint32_t i = 0; i < kn->n_params; i++) args[i] = argument_address(g, &s->args[i]);
    for (uint32_t i = 0; i < kn->n_scalars; i++)
        args[kn->n_params + i] = llvm_expr(g, s->scalars[i]);
    if (kernel_parallel_loop(kn))
        call_parallel(g, e, kn, args, n);
    else
        LLVMBuildCall2(g->b, llvm_kernel_type(g, kn), llvm_kernel_function(g, kn), args, n, "");
    free(args);
}

/* if (hook) hook(user, node) */
static LLVMValueRef call_hook(LlvmGen *g, Entry *e, const char *hook, LLVMValueRef node,
                              bool has_result) {
    LLVMValueRef fn = abi_load(g, "hooks", e->hooks, hook);
    LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b);
    LLVMBasicBlockRef yes = llvm_new_block(g, hook), next = llvm_new_block(g, "next");
    LLVMBuildCondBr(g->b, is_null(g, fn), next, yes);
    LLVMPositionBuilderAtEnd(g->b, yes);
    LLVMTypeRef params[] = {g->ptr, g->i32};
    LLVMValueRef args[] = {abi_load(g, "hooks", e->hooks, "user"), node};
    LLVMTypeRef type =
        LLVMFunctionType(has_result ? g->i32 : g->none, params, has_result ? 1 : 2, 0);
    LLVMValueRef r = LLVMBuildCall2(g->b, type, fn, args, has_result ? 1 : 2, "");
    LLVMBuildBr(g->b, next);
    LLVMPositionBuilderAtEnd(g->b, next);
    if (!has_result) return NULL;
    LLVMValueRef phi = LLVMBuildPhi(g->b, g->i32, "");
    LLVMAddIncoming(phi, (LLVMValueRef[]){word(g, 0), r}, (LLVMBasicBlockRef[]){before, yes}, 2);
    return phi;
}

/* Tells after_node about the node that ran until here, if any. */
void llvm_end_node(LlvmGen *g, Entry *e) {
    LLVMValueRef node = LLVMBuildLoad2(g->b, g->i32, e->node, "");
    LLVMBasicBlockRef yes = llvm_new_block(g, "ended"), next = llvm_new_block(g, "next");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntSLT, node, word(g, 0), ""), next, yes);
    LLVMPositionBuilderAtEnd(g->b, yes);
    call_hook(g, e, "after_node", node, false);
    LLVMBuildBr(g->b, next);
    LLVMPositionBuilderAtEnd(g->b, next);
}

static void emit_node(LlvmGen *g, Entry *e, uint32_t node) {
    LLVMBasicBlockRef hooked = llvm_new_block(g, "hooked"), next = llvm_new_block(g, "node");
    LLVMBasicBlockRef cancelled = llvm_new_block(g, "cancelled"), go = llvm_new_block(g, "go");
    LLVMBuildCondBr(g->b, e->no_hooks, next, hooked);
    LLVMPositionBuilderAtEnd(g->b, hooked);
    llvm_end_node(g, e);
    LLVMBuildStore(g->b, word(g, UINT32_MAX), e->node);
    LLVMValueRef stop = call_hook(g, e, "cancel", NULL, true);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntNE, stop, word(g, 0), ""), cancelled, go);
    LLVMPositionBuilderAtEnd(g->b, cancelled);
    LLVMBuildStore(g->b, word(g, STATUS_CANCELLED), e->status);
    LLVMBuildBr(g->b, e->leave);
    LLVMPositionBuilderAtEnd(g->b, go);
    LLVMBuildStore(g->b, word(g, node), e->node);
    call_hook(g, e, "before_node", word(g, node), false);
    LLVMBuildBr(g->b, next);
    LLVMPositionBuilderAtEnd(g->b, next);
}

/* int reserve(void **block, hooks, int64_t n_bytes, int64_t keep): memory for a heap buffer. */
void llvm_emit_reserve_function(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->i64, g->i64};
    e->reserve = llvm_entry_function(g, "reserve", g->i32, params, 4, false);
    llvm_fn_begin(g, &fn, e->reserve);
    LLVMValueRef block = LLVMGetParam(fn.fn, 0), hooks = LLVMGetParam(fn.fn, 1);
    LLVMValueRef n = LLVMGetParam(fn.fn, 2), keep = LLVMGetParam(fn.fn, 3);
    LLVMValueRef most =
        LLVMConstInt(g->i64, g->target->pointer_bytes < 8 ? INT32_MAX : INT64_MAX, 0);
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0), one = LLVMConstInt(g->i64, 1, 0);
    llvm_refuse_if(g, LLVMBuildICmp(g->b, LLVMIntUGT, n, most, ""), STATUS_NO_MEMORY);
    LLVMValueRef give = abi_load(g, "hooks", hooks, "alloc");
    LLVMValueRef back = abi_load(g, "hooks", hooks, "free");
    LLVMValueRef pool = abi_load(g, "hooks", hooks, "heap");
    LLVMValueRef lacks = LLVMBuildOr(g->b, is_null(g, give), is_null(g, back), "");
    llvm_refuse_if(g, lacks, STATUS_NO_MEMORY);
    LLVMValueRef none = LLVMBuildICmp(g->b, LLVMIntEQ, n, zero, "");
    LLVMValueRef some = LLVMBuildSelect(g->b, none, one, n, "");
    LLVMTypeRef give_params[] = {g->ptr, g->size}, back_params[] = {g->ptr, g->ptr};
    LLVMValueRef args[] = {pool, LLVMBuildTrunc(g->b, some, g->size, "")};
    LLVMValueRef fresh =
        LLVMBuildCall2(g->b, LLVMFunctionType(g->ptr, give_params, 2, 0), give, args, 2, "");
    llvm_refuse_if(g, is_null(g, fresh), STATUS_NO_MEMORY);
    LLVMValueRef old = LLVMBuildLoad2(g->b, g->ptr, block, "");
    LLVMBuildStore(g->b, fresh, block);
    LLVMBasicBlockRef copy = llvm_new_block(g, "copy"), out = llvm_new_block(g, "out");
    LLVMBuildCondBr(g->b, is_null(g, old), out, copy);
    LLVMPositionBuilderAtEnd(g->b, copy);
    LLVMBuildMemCpy(g->b, fresh, 1, old, 1, LLVMBuildTrunc(g->b, keep, g->size, ""));
    LLVMBuildCall2(g->b, LLVMFunctionType(g->none, back_params, 2, 0), back,
                   (LLVMValueRef[]){pool, old}, 2, "");
    LLVMBuildBr(g->b, out);
    LLVMPositionBuilderAtEnd(g->b, out);
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

/* n elements in bytes; what does not fit becomes -1, which no allocation accepts. */
static LLVMValueRef bytes_of(LlvmGen *g, const KBuf *b, const KExpr *n) {
    KCtx *k = g->m->k;
    int64_t width = api_element_bytes(b->dtype, g->target);
    const KExpr *fits = k_and(k, k_le(k, k_int(k, 0), n), k_le(k, n, k_int(k, INT64_MAX / width)));
    return llvm_expr(g, k_select(k, fits, k_mul(k, n, k_int(k, width)), k_int(k, -1)));
}

static void emit_reserve(LlvmGen *g, Entry *e, const KStmt *s) {
    LLVMValueRef keep = LLVMConstInt(g->i64, 0, 0);
    if (s->index) keep = bytes_of(g, s->buf, s->index);
    LLVMValueRef args[] = {element(g, g->ptr, e->heap, s->buf->index), e->hooks,
                           bytes_of(g, s->buf, s->value), keep};
    LLVMValueRef status = call(g, e->reserve, args, 4);
    LLVMBasicBlockRef no = llvm_new_block(g, "no_memory"), go = llvm_new_block(g, "reserved");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntEQ, status, word(g, 0), ""), go, no);
    LLVMPositionBuilderAtEnd(g->b, no);
    LLVMBuildStore(g->b, status, e->status);
    LLVMBuildBr(g->b, e->leave);
    LLVMPositionBuilderAtEnd(g->b, go);
}

/* Outputs' blocks go to the caller when the run was good; the others are given back. */
void llvm_leave_heap(LlvmGen *g, Entry *e, LLVMValueRef status) {
    LLVMValueRef null = LLVMConstNull(g->ptr);
    LLVMValueRef good = LLVMBuildICmp(g->b, LLVMIntEQ, status, word(g, 0), "");
    for (uint32_t i = 0; i < g->m->n_outputs; i++) {
        const KBuf *b = g->m->outputs[i].buf;
        if (b->mem != MEM_HEAP) continue;
        LLVMValueRef at = element(g, g->ptr, e->heap, b->index),
                     p = LLVMBuildLoad2(g->b, g->ptr, at, "");
        LLVMBuildStore(g->b, LLVMBuildSelect(g->b, good, p, null, ""),
                       element(g, g->ptr, e->outputs, i));
        LLVMBuildStore(g->b, LLVMBuildSelect(g->b, good, null, p, ""), at);
    }
    LLVMTypeRef params[] = {g->ptr, g->ptr};
    for (uint32_t i = 0; i < g->m->n_heap; i++) {
        LLVMValueRef p = LLVMBuildLoad2(g->b, g->ptr, element(g, g->ptr, e->heap, i), "");
        LLVMBasicBlockRef yes = llvm_new_block(g, "give_back"), next = llvm_new_block(g, "next");
        LLVMBuildCondBr(g->b, is_null(g, p), next, yes);
        LLVMPositionBuilderAtEnd(g->b, yes);
        LLVMValueRef args[] = {abi_load(g, "hooks", e->hooks, "heap"), p};
        LLVMBuildCall2(g->b, LLVMFunctionType(g->none, params, 2, 0),
                       abi_load(g, "hooks", e->hooks, "free"), args, 2, "");
        LLVMBuildBr(g->b, next);
        LLVMPositionBuilderAtEnd(g->b, next);
    }
}

void llvm_entry_statement(LlvmGen *g, const KStmt *s) {
    Entry *e = g->entry;
    BUG_IF(!e, "a kernel holds a statement of the entry");
    if (s->kind == KS_CALL) {
        emit_call(g, e, s);
    } else if (s->kind == KS_NODE) {
        emit_node(g, e, s->node);
    } else if (s->kind == KS_RESERVE) {
        emit_reserve(g, e, s);
    } else {
        LLVMValueRef v = LLVMBuildTrunc(g->b, llvm_expr(g, s->value), g->i32, "");
        LLVMBuildStore(g->b, v, e->status);
        LLVMBuildBr(g->b, e->leave);
    }
}
