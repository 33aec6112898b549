/* The model's entry: smelt.h's calls around the kernels.
 *
 *   NAME_run, generic run     what the caller sees: arguments into arrays
 *     body                    checks, then KModule.entry; one function for both
 *     symbols_for, arena_for  smelt_model's helpers, also used by body
 *
 * The outer functions are compiled for the architecture's baseline, so that they can refuse a
 * processor that lacks what the rest was compiled for. Constants reach kernels as arguments only.
 */
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/abi.h"

typedef struct Entry Entry;
struct Entry {
    Api *api;
    LLVMValueRef symbols_for, arena_for, body, check_arguments, cpu_good;
    LLVMValueRef no_hooks, zero_hooks;
    LLVMValueRef weights; /* the embedded ones, or NULL */
    /* while body is emitted */
    LLVMValueRef arena, given_weights, outputs, symbols, hooks, status, node;
    LLVMValueRef parallel_for, pool;
    LLVMBasicBlockRef leave;
    LLVMValueRef heap, reserve; /* blocks of MEM_HEAP; the function that gives them memory */
};

/* ---- small things ---------------------------------------------------------------------------- */

static LLVMValueRef word(LlvmGen *g, uint32_t v) {
    return LLVMConstInt(g->i32, v, 0);
}

static LLVMValueRef element(LlvmGen *g, LLVMTypeRef t, LLVMValueRef array, uint64_t i) {
    LLVMValueRef at = LLVMConstInt(g->i64, i, 0);
    return LLVMBuildGEP2(g->b, t, array, &at, 1, "");
}

static LLVMValueRef is_null(LlvmGen *g, LLVMValueRef p) {
    return LLVMBuildICmp(g->b, LLVMIntEQ, p, LLVMConstNull(LLVMTypeOf(p)), "");
}

/* Returns `status` from the function being built when `bad`. */
static void refuse_if(LlvmGen *g, LLVMValueRef bad, uint32_t status) {
    LLVMBasicBlockRef no = llvm_new_block(g, "refuse"), next = llvm_new_block(g, "good");
    LLVMBuildCondBr(g->b, bad, no, next);
    LLVMPositionBuilderAtEnd(g->b, no);
    LLVMBuildRet(g->b, word(g, status));
    LLVMPositionBuilderAtEnd(g->b, next);
}

/* Returns the status of a call unless it is 0. */
static void pass_on(LlvmGen *g, LLVMValueRef status) {
    LLVMBasicBlockRef no = llvm_new_block(g, "refuse"), next = llvm_new_block(g, "good");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntNE, status, word(g, 0), ""), no, next);
    LLVMPositionBuilderAtEnd(g->b, no);
    LLVMBuildRet(g->b, status);
    LLVMPositionBuilderAtEnd(g->b, next);
}

/* Code for the architecture's baseline: it runs before the processor is known. */
void llvm_add_baseline_attributes(LlvmGen *g, LLVMValueRef fn) {
    llvm_add_flag(g, fn, LLVMAttributeFunctionIndex, "nounwind", 0);
    if (strcmp(g->target->arch, "x86_64")) return;
    LLVMAddTargetDependentFunctionAttr(fn, "target-cpu", "x86-64");
    LLVMAddTargetDependentFunctionAttr(fn, "target-features", "");
}

/* Statements, inputs and outputs beyond which LLVM leaves the functions of this file as they are:
 * they only check and call kernels, while the time that LLVM's passes take grows with the square of
 * a function's blocks (75 s for 10,000 calls). */
enum { MOST_OPTIMISED = 1000 };

static bool is_long(const KModule *m) {
    uint32_t n = m->n_inputs + m->n_outputs;
    for (const KStmt *s = m->entry.first; s && n <= MOST_OPTIMISED; s = s->next) n++;
    return n > MOST_OPTIMISED;
}

static LLVMValueRef new_function(LlvmGen *g, const char *name, LLVMTypeRef result,
                                 LLVMTypeRef *params, unsigned n, bool is_public) {
    g->scratch.n = 0;
    strbuf_printf(&g->scratch, is_public ? "%s_%s" : "%.0s%s", g->m->name, name);
    LLVMValueRef fn =
        LLVMAddFunction(g->mod, strbuf_text(&g->scratch), LLVMFunctionType(result, params, n, 0));
    if (!is_public) LLVMSetLinkage(fn, LLVMInternalLinkage);
    llvm_add_baseline_attributes(g, fn);
    if (is_long(g->m)) {
        llvm_add_flag(g, fn, LLVMAttributeFunctionIndex, "noinline", 0);
        llvm_add_flag(g, fn, LLVMAttributeFunctionIndex, "optnone", 0);
    }
    return fn;
}

static LLVMValueRef call(LlvmGen *g, LLVMValueRef fn, LLVMValueRef *args, unsigned n) {
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

/* The caller's symbols become variables of the function being built. */
static void bind_symbols(LlvmGen *g, LLVMValueRef symbols) {
    for (uint32_t i = 0; i < g->m->n_symbols; i++) {
        LLVMValueRef v =
            LLVMBuildLoad2(g->b, g->i64, element(g, g->i64, symbols, i), g->m->symbols[i]->name);
        *llvm_var(g, g->m->symbols[i]) = (VarBind){.v = v};
    }
}

/* ---- symbols and arena ----------------------------------------------------------------------- */

/* int check_arguments(const int64_t *symbols): are they in their ranges? */
static void emit_check_arguments(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    e->check_arguments = new_function(g, "check_arguments", g->i32, &g->ptr, 1, false);
    llvm_fn_begin(g, &fn, e->check_arguments);
    for (uint32_t i = 0; i < e->api->n_arguments; i++) {
        const ApiSymbol *s = &e->api->symbols[i];
        LLVMValueRef at = element(g, g->i64, LLVMGetParam(fn.fn, 0), i);
        LLVMValueRef v = LLVMBuildLoad2(g->b, g->i64, at, "");
        LLVMValueRef low = LLVMBuildICmp(g->b, LLVMIntSLT, v, llvm_int(g, g->i64, 0, s->min), "");
        LLVMValueRef high = LLVMBuildICmp(g->b, LLVMIntSGT, v, llvm_int(g, g->i64, 0, s->max), "");
        refuse_if(g, LLVMBuildOr(g->b, low, high, ""), STATUS_BAD_DIM);
    }
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

static void emit_symbols_for(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    e->symbols_for = new_function(g, "symbols_for", g->i32, &g->ptr, 1, false);
    llvm_fn_begin(g, &fn, e->symbols_for);
    LLVMValueRef symbols = LLVMGetParam(fn.fn, 0), zero = LLVMConstInt(g->i64, 0, 0);
    refuse_if(g, is_null(g, symbols), STATUS_BAD_POINTER);
    pass_on(g, call(g, e->check_arguments, &symbols, 1));
    bind_symbols(g, symbols);
    for (uint32_t i = e->api->n_arguments; i < e->api->n_symbols; i++) {
        const ApiSymbol *s = &e->api->symbols[i];
        bool derived = s->kind == API_DERIVED;
        LLVMValueRef v =
            llvm_expr(g, derived ? s->value : k_max(g->m->k, s->most, k_int(g->m->k, 0)));
        if (derived) refuse_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, v, zero, ""), STATUS_BAD_DIM);
        LLVMBuildStore(g->b, v, element(g, g->i64, symbols, i));
    }
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

/* Bytes to ask the caller for; the slack lets body align the arena. */
static LLVMValueRef arena_needed(LlvmGen *g) {
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0);
    if (!g->m->arena_bytes) return zero;
    LLVMValueRef n = llvm_expr(g, g->m->arena_bytes);
    LLVMValueRef padded = LLVMBuildAdd(g->b, n, LLVMConstInt(g->i64, ARENA_ALIGN - 1, 0), "");
    return LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntSGT, n, zero, ""), padded, zero, "");
}

static void emit_arena_for(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMTypeRef params[] = {g->ptr, g->ptr};
    e->arena_for = new_function(g, "arena_bytes_for", g->i32, params, 2, false);
    llvm_fn_begin(g, &fn, e->arena_for);
    LLVMValueRef symbols = LLVMGetParam(fn.fn, 0), out = LLVMGetParam(fn.fn, 1);
    refuse_if(g, is_null(g, out), STATUS_BAD_POINTER);
    if (e->api->n_arguments) {
        refuse_if(g, is_null(g, symbols), STATUS_BAD_POINTER);
        pass_on(g, call(g, e->check_arguments, &symbols, 1));
        bind_symbols(g, symbols);
    }
    LLVMBuildStore(g->b, arena_needed(g), out);
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

/* ---- the caller's memory --------------------------------------------------------------------- */

static LLVMValueRef io_bytes(LlvmGen *g, const KIo *io) {
    LLVMValueRef n = LLVMConstInt(g->i64, api_element_bytes(io->dtype, g->target), 0);
    for (int d = 0; d < io->rank; d++) {
        /* Dims found while running count with their bound, as symbols_for reports it. */
        const KExpr *dim = k_max(g->m->k, k_upper_bound(g->m->k, io->dims[d]), k_int(g->m->k, 0));
        n = LLVMBuildMul(g->b, n, llvm_expr(g, dim), "");
    }
    return n;
}

/* Fills ranges[i] = {address, address + bytes}; refuses NULL where there are elements. */
static void note_range(LlvmGen *g, LLVMValueRef ranges, uint32_t i, LLVMValueRef p,
                       LLVMValueRef bytes) {
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0);
    LLVMValueRef some = LLVMBuildICmp(g->b, LLVMIntNE, bytes, zero, "");
    refuse_if(g, LLVMBuildAnd(g->b, is_null(g, p), some, ""), STATUS_BAD_POINTER);
    LLVMValueRef from = LLVMBuildPtrToInt(g->b, p, g->i64, "");
    LLVMBuildStore(g->b, from, element(g, g->i64, ranges, 2 * i));
    LLVMBuildStore(g->b, LLVMBuildAdd(g->b, from, bytes, ""),
                   element(g, g->i64, ranges, 2 * i + 1));
}

/* Refuses when one of ranges 0 .. n_out-1 meets a later one. Two nested loops at run time. */
static void refuse_overlap(LlvmGen *g, LLVMValueRef ranges, uint32_t n_out, uint32_t n_all) {
    LLVMValueRef one = LLVMConstInt(g->i64, 1, 0), two = LLVMConstInt(g->i64, 2, 0);
    LLVMBasicBlockRef before = LLVMGetInsertBlock(g->b), outer = llvm_new_block(g, "outer");
    LLVMBasicBlockRef inner = llvm_new_block(g, "inner"), next = llvm_new_block(g, "next");
    LLVMBasicBlockRef more = llvm_new_block(g, "more"), last = llvm_new_block(g, "last");
    LLVMBasicBlockRef done = llvm_new_block(g, "disjoint"), bad = llvm_new_block(g, "overlap");
    LLVMBuildBr(g->b, outer);
    LLVMPositionBuilderAtEnd(g->b, outer);
    LLVMValueRef i = LLVMBuildPhi(g->b, g->i64, "i"), i2 = LLVMBuildMul(g->b, i, two, ""), at;
    LLVMValueRef first =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &i2, 1, ""), "");
    at = LLVMBuildAdd(g->b, i2, one, "");
    LLVMValueRef end =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &at, 1, ""), "");
    LLVMValueRef start = LLVMBuildAdd(g->b, i, one, "");
    LLVMBuildBr(g->b, inner);
    LLVMPositionBuilderAtEnd(g->b, inner);
    LLVMValueRef j = LLVMBuildPhi(g->b, g->i64, "j"), j2 = LLVMBuildMul(g->b, j, two, "");
    LLVMValueRef all = LLVMConstInt(g->i64, n_all, 0), outs = LLVMConstInt(g->i64, n_out, 0);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, j, all, ""), next, last);
    LLVMPositionBuilderAtEnd(g->b, next);
    LLVMValueRef b =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &j2, 1, ""), "");
    at = LLVMBuildAdd(g->b, j2, one, "");
    LLVMValueRef e =
        LLVMBuildLoad2(g->b, g->i64, LLVMBuildGEP2(g->b, g->i64, ranges, &at, 1, ""), "");
    /* max(starts) < min(ends): empty ranges meet nothing */
    LLVMValueRef hi =
        LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntUGT, first, b, ""), first, b, "");
    LLVMValueRef lo =
        LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntULT, end, e, ""), end, e, "");
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, hi, lo, ""), bad, more);
    LLVMPositionBuilderAtEnd(g->b, more);
    LLVMValueRef j_next = LLVMBuildAdd(g->b, j, one, "");
    LLVMBuildBr(g->b, inner);
    LLVMPositionBuilderAtEnd(g->b, last);
    LLVMBuildCondBr(g->b, LLVMBuildICmp(g->b, LLVMIntULT, start, outs, ""), outer, done);
    LLVMPositionBuilderAtEnd(g->b, bad);
    LLVMBuildRet(g->b, word(g, STATUS_BAD_POINTER));
    LLVMAddIncoming(i, (LLVMValueRef[]){LLVMConstInt(g->i64, 0, 0), start},
                    (LLVMBasicBlockRef[]){before, last}, 2);
    LLVMAddIncoming(j, (LLVMValueRef[]){start, j_next}, (LLVMBasicBlockRef[]){outer, more}, 2);
    LLVMPositionBuilderAtEnd(g->b, done);
}

/* Outputs first, then inputs, then the arena. Binds the buffers. */
static void check_memory(LlvmGen *g, Entry *e, LLVMValueRef inputs, LLVMValueRef outputs,
                         LLVMValueRef arena_bytes) {
    const KModule *m = g->m;
    uint32_t n = m->n_outputs + m->n_inputs + 1;
    LLVMValueRef ranges = llvm_alloca(g, g->i64, 2 * (uint64_t)n, 8, "ranges");
    for (uint32_t i = 0; i + 1 < n; i++) {
        bool is_out = i < m->n_outputs;
        const KIo *io = is_out ? &m->outputs[i] : &m->inputs[i - m->n_outputs];
        LLVMValueRef at =
            element(g, g->ptr, is_out ? outputs : inputs, is_out ? i : i - m->n_outputs);
        LLVMValueRef p = LLVMBuildLoad2(g->b, g->ptr, at, "");
        if (is_out && io->buf && io->buf->mem == MEM_HEAP) {
            refuse_if(g, LLVMBuildNot(g->b, is_null(g, p), ""), STATUS_BAD_POINTER);
            note_range(g, ranges, i, p, LLVMConstInt(g->i64, 0, 0));
            continue;
        }
        note_range(g, ranges, i, p, io_bytes(g, io));
        if (io->buf)
            *llvm_buf(g, io->buf) = (BufBind){.base = p, .align = llvm_element_align(g, io->dtype)};
    }
    LLVMValueRef need = arena_needed(g);
    note_range(g, ranges, n - 1, e->arena, need);
    refuse_if(g, LLVMBuildICmp(g->b, LLVMIntULT, arena_bytes, need, ""), STATUS_SHORT_ARENA);
    if (m->n_outputs) refuse_overlap(g, ranges, m->n_outputs, n);
    if (!g->options->weights_file || g->const_address || !m->n_consts) return;
    LLVMValueRef low = LLVMBuildPtrToInt(g->b, e->given_weights, g->i64, "");
    low = LLVMBuildAnd(g->b, low, LLVMConstInt(g->i64, 63, 0), "");
    LLVMValueRef odd = LLVMBuildICmp(g->b, LLVMIntNE, low, LLVMConstInt(g->i64, 0, 0), "");
    refuse_if(g, LLVMBuildOr(g->b, is_null(g, e->given_weights), odd, ""), STATUS_BAD_WEIGHTS);
}

static void align_arena(LlvmGen *g, Entry *e) {
    LLVMValueRef p = LLVMBuildPtrToInt(g->b, e->arena, g->i64, "");
    LLVMValueRef up = LLVMBuildSub(g->b, LLVMConstInt(g->i64, 0, 0), p, "");
    up = LLVMBuildAnd(g->b, up, LLVMConstInt(g->i64, ARENA_ALIGN - 1, 0), "");
    e->arena = LLVMBuildGEP2(g->b, g->i8, e->arena, &up, 1, "arena");
}

LLVMValueRef llvm_entry_base(LlvmGen *g, const KBuf *b) {
    Entry *e = g->entry;
    LLVMValueRef at;
    if (!e) return NULL;
    if (b->mem == MEM_ARENA) {
        at = b->offset ? llvm_expr(g, b->offset) : LLVMConstInt(g->i64, 0, 0);
        return LLVMBuildGEP2(g->b, g->i8, e->arena, &at, 1, b->name);
    }
    if (b->mem == MEM_HEAP)
        return LLVMBuildLoad2(g->b, g->ptr, element(g, g->ptr, e->heap, b->index), b->name);
    if (b->mem != MEM_CONST) return NULL;
    if (g->const_address) {
        at = LLVMConstInt(g->i64, (uint64_t)(uintptr_t)g->const_address[b->index], 0);
        return LLVMConstIntToPtr(at, g->ptr);
    }
    at = LLVMConstInt(g->i64, e->api->const_offset[b->index], 0);
    return LLVMBuildGEP2(g->b, g->i8, e->given_weights, &at, 1, b->name);
}

/* ---- statements ------------------------------------------------------------------------------ */

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
static void end_node(LlvmGen *g, Entry *e) {
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
    end_node(g, e);
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
static void emit_reserve_function(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->i64, g->i64};
    e->reserve = new_function(g, "reserve", g->i32, params, 4, false);
    llvm_fn_begin(g, &fn, e->reserve);
    LLVMValueRef block = LLVMGetParam(fn.fn, 0), hooks = LLVMGetParam(fn.fn, 1);
    LLVMValueRef n = LLVMGetParam(fn.fn, 2), keep = LLVMGetParam(fn.fn, 3);
    LLVMValueRef most = LLVMConstInt(g->i64, g->target->pointer_bytes < 8 ? INT32_MAX : INT64_MAX, 0);
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0), one = LLVMConstInt(g->i64, 1, 0);
    refuse_if(g, LLVMBuildICmp(g->b, LLVMIntUGT, n, most, ""), STATUS_NO_MEMORY);
    LLVMValueRef give = abi_load(g, "hooks", hooks, "alloc");
    LLVMValueRef back = abi_load(g, "hooks", hooks, "free");
    LLVMValueRef pool = abi_load(g, "hooks", hooks, "heap");
    LLVMValueRef lacks = LLVMBuildOr(g->b, is_null(g, give), is_null(g, back), "");
    refuse_if(g, lacks, STATUS_NO_MEMORY);
    LLVMValueRef none = LLVMBuildICmp(g->b, LLVMIntEQ, n, zero, "");
    LLVMValueRef some = LLVMBuildSelect(g->b, none, one, n, "");
    LLVMTypeRef give_params[] = {g->ptr, g->size}, back_params[] = {g->ptr, g->ptr};
    LLVMValueRef args[] = {pool, LLVMBuildTrunc(g->b, some, g->size, "")};
    LLVMValueRef fresh = LLVMBuildCall2(g->b, LLVMFunctionType(g->ptr, give_params, 2, 0), give, args, 2, "");
    refuse_if(g, is_null(g, fresh), STATUS_NO_MEMORY);
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
static void leave_heap(LlvmGen *g, Entry *e, LLVMValueRef status) {
    LLVMValueRef null = LLVMConstNull(g->ptr);
    LLVMValueRef good = LLVMBuildICmp(g->b, LLVMIntEQ, status, word(g, 0), "");
    for (uint32_t i = 0; i < g->m->n_outputs; i++) {
        const KBuf *b = g->m->outputs[i].buf;
        if (b->mem != MEM_HEAP) continue;
        LLVMValueRef at = element(g, g->ptr, e->heap, b->index), p = LLVMBuildLoad2(g->b, g->ptr, at, "");
        LLVMBuildStore(g->b, LLVMBuildSelect(g->b, good, p, null, ""), element(g, g->ptr, e->outputs, i));
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

/* ---- body ------------------------------------------------------------------------------------ */

static void read_hooks(LlvmGen *g, Entry *e, LLVMValueRef hooks) {
    e->zero_hooks = LLVMAddGlobal(g->mod, abi_struct(g, "hooks"), "no_hooks");
    LLVMSetInitializer(e->zero_hooks, LLVMConstNull(abi_struct(g, "hooks")));
    LLVMSetGlobalConstant(e->zero_hooks, 1);
    LLVMSetLinkage(e->zero_hooks, LLVMPrivateLinkage);
    e->no_hooks = is_null(g, hooks);
    e->hooks = LLVMBuildSelect(g->b, e->no_hooks, e->zero_hooks, hooks, "hooks");
    e->parallel_for = abi_load(g, "hooks", e->hooks, "parallel_for");
    e->pool = abi_load(g, "hooks", e->hooks, "pool");
    e->status = llvm_alloca(g, g->i32, 1, 4, "status");
    e->node = llvm_alloca(g, g->i32, 1, 4, "node");
    LLVMBuildStore(g->b, word(g, STATUS_OK), e->status);
    LLVMBuildStore(g->b, word(g, UINT32_MAX), e->node);
}

/* The common end: the last node's hook, dims that were found, the status. */
static void emit_leave(LlvmGen *g, Entry *e) {
    LLVMBasicBlockRef hooked = llvm_new_block(g, "hooked"), out = llvm_new_block(g, "out");
    LLVMBuildBr(g->b, e->leave);
    LLVMPositionBuilderAtEnd(g->b, e->leave);
    LLVMBuildCondBr(g->b, e->no_hooks, out, hooked);
    LLVMPositionBuilderAtEnd(g->b, hooked);
    end_node(g, e);
    LLVMBuildBr(g->b, out);
    LLVMPositionBuilderAtEnd(g->b, out);
    LLVMValueRef status = LLVMBuildLoad2(g->b, g->i32, e->status, "");
    if (g->m->n_heap) leave_heap(g, e, status);
    pass_on(g, status);
    for (uint32_t i = 0; i < e->api->n_symbols; i++) {
        if (e->api->symbols[i].kind != API_DATA) continue;
        LLVMBuildStore(g->b, llvm_expr(g, e->api->symbols[i].value),
                       element(g, g->i64, e->symbols, i));
    }
    LLVMBuildRet(g->b, word(g, STATUS_OK));
}

/* int body(inputs, outputs, symbols, arena, arena_bytes, weights, hooks) */
static void emit_body(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMTypeRef params[] = {g->ptr, g->ptr, g->ptr, g->ptr, g->i64, g->ptr, g->ptr};
    e->body = new_function(g, "body", g->i32, params, 7, false);
    llvm_add_flag(g, e->body, LLVMAttributeFunctionIndex, "noinline", 0);
    llvm_fn_begin(g, &fn, e->body);
    g->entry = e;
    e->outputs = LLVMGetParam(fn.fn, 1);
    e->symbols = LLVMGetParam(fn.fn, 2);
    e->arena = LLVMGetParam(fn.fn, 3);
    e->given_weights = e->weights ? e->weights : LLVMGetParam(fn.fn, 5);
    if (e->api->n_symbols) pass_on(g, call(g, e->symbols_for, &e->symbols, 1));
    bind_symbols(g, e->symbols);
    check_memory(g, e, LLVMGetParam(fn.fn, 0), LLVMGetParam(fn.fn, 1), LLVMGetParam(fn.fn, 4));
    align_arena(g, e);
    if (g->m->size_table) fn.size_table = llvm_entry_base(g, g->m->size_table);
    read_hooks(g, e, LLVMGetParam(fn.fn, 6));
    e->leave = llvm_new_block(g, "leave");
    if (g->m->n_heap) e->heap = llvm_alloca(g, g->ptr, g->m->n_heap, 8, "heap");
    for (uint32_t i = 0; i < g->m->n_heap; i++)
        LLVMBuildStore(g->b, LLVMConstNull(g->ptr), element(g, g->ptr, e->heap, i));
    uint32_t mark = llvm_memo_mark(g);
    llvm_block(g, &g->m->entry);
    llvm_memo_undo(g, mark);
    if (!LLVMGetBasicBlockTerminator(LLVMGetInsertBlock(g->b)))
        emit_leave(g, e);
    else {
        LLVMPositionBuilderAtEnd(g->b, llvm_new_block(g, "unreachable"));
        emit_leave(g, e);
    }
    llvm_fn_end(g);
    g->entry = NULL;
}

/* ---- the two calls --------------------------------------------------------------------------- */

static void test_cpu(LlvmGen *g, const Entry *e) {
    if (e->cpu_good)
        refuse_if(g, LLVMBuildNot(g->b, call(g, e->cpu_good, NULL, 0), ""), STATUS_BAD_CPU);
}

static void refuse_count(LlvmGen *g, LLVMValueRef c, const char *count, const char *array,
                         uint32_t n) {
    LLVMValueRef wrong =
        LLVMBuildICmp(g->b, LLVMIntNE, abi_load(g, "call", c, count), word(g, n), "");
    if (n) wrong = LLVMBuildOr(g->b, wrong, is_null(g, abi_load(g, "call", c, array)), "");
    refuse_if(g, wrong, STATUS_BAD_CALL);
}

static void refuse_short_struct(LlvmGen *g, LLVMValueRef p, const char *owner) {
    LLVMValueRef have = abi_load(g, owner, p, "struct_size");
    LLVMValueRef want = word(g, (uint32_t)abi_bytes(g, owner));
    refuse_if(g, LLVMBuildICmp(g->b, LLVMIntULT, have, want, ""), STATUS_BAD_CALL);
}

static LLVMValueRef emit_generic_run(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMValueRef run = new_function(g, "run_call", g->i32, &g->ptr, 1, false),
                 c = LLVMGetParam(run, 0);
    llvm_fn_begin(g, &fn, run);
    refuse_if(g, is_null(g, c), STATUS_BAD_CALL);
    refuse_short_struct(g, c, "call");
    refuse_count(g, c, "n_inputs", "inputs", g->m->n_inputs);
    refuse_count(g, c, "n_outputs", "outputs", g->m->n_outputs);
    refuse_count(g, c, "n_symbols", "symbols", e->api->n_symbols);
    LLVMValueRef hooks = abi_load(g, "call", c, "hooks");
    LLVMBasicBlockRef yes = llvm_new_block(g, "hooks"), next = llvm_new_block(g, "checked");
    LLVMBuildCondBr(g->b, is_null(g, hooks), next, yes);
    LLVMPositionBuilderAtEnd(g->b, yes);
    refuse_short_struct(g, hooks, "hooks");
    LLVMBuildBr(g->b, next);
    LLVMPositionBuilderAtEnd(g->b, next);
    test_cpu(g, e);
    LLVMValueRef bytes = LLVMBuildZExt(g->b, abi_load(g, "call", c, "arena_bytes"), g->i64, "");
    LLVMValueRef args[] = {abi_load(g, "call", c, "inputs"),
                           abi_load(g, "call", c, "outputs"),
                           abi_load(g, "call", c, "symbols"),
                           abi_load(g, "call", c, "arena"),
                           bytes,
                           abi_load(g, "call", c, "weights"),
                           hooks};
    LLVMBuildRet(g->b, call(g, e->body, args, 7));
    llvm_fn_end(g);
    return run;
}

/* Position of the typed call's parameters: see the list in smelt.h. */
static unsigned typed_params(LlvmGen *g, const Entry *e, LLVMTypeRef *types) {
    const Api *api = e->api;
    unsigned n = 0;
    for (uint32_t i = 0; i < api->n_arguments; i++) types[n++] = g->i64;
    for (uint32_t i = 0; i < g->m->n_inputs; i++) types[n++] = g->ptr;
    for (uint32_t i = 0; i < g->m->n_outputs; i++) {
        types[n++] = g->ptr;
        if (api->outputs[i].has_data_dims) types[n++] = g->ptr;
    }
    types[n++] = g->ptr;
    if (api->n_arguments) types[n++] = g->size;
    if (g->options->weights_file) types[n++] = g->ptr;
    return n;
}

/* Writes all dims of an output that has some from the data. */
static void write_dims(LlvmGen *g, const ApiTensor *t, LLVMValueRef symbols, LLVMValueRef out) {
    for (int d = 0; d < t->io->rank; d++) {
        LLVMValueRef v = llvm_int(g, g->i64, 0, t->dims[d]);
        if (t->dims[d] < 0)
            v = LLVMBuildLoad2(g->b, g->i64,
                               element(g, g->i64, symbols, (uint64_t)(-1 - t->dims[d])), "");
        LLVMBuildStore(g->b, v, element(g, g->i64, out, (uint64_t)d));
    }
}

static void emit_typed_run(LlvmGen *g, Entry *e) {
    const KModule *m = g->m;
    const Api *api = e->api;
    LlvmFn fn;
    LLVMTypeRef *types =
        xmalloc(sizeof *types * (api->n_arguments + m->n_inputs + 2 * m->n_outputs + 3));
    unsigned n = typed_params(g, e, types), at = 0;
    LLVMValueRef run = new_function(g, "run", g->i32, types, n, true);
    free(types);
    llvm_fn_begin(g, &fn, run);
    test_cpu(g, e);
    LLVMValueRef symbols = llvm_alloca(g, g->i64, api->n_symbols + 1, 8, "symbols");
    LLVMValueRef inputs = llvm_alloca(g, g->ptr, m->n_inputs + 1, 8, "inputs");
    LLVMValueRef outputs = llvm_alloca(g, g->ptr, m->n_outputs + 1, 8, "outputs");
    LLVMValueRef *dims = xmalloc(sizeof *dims * (m->n_outputs + 1));
    for (uint32_t i = 0; i < api->n_arguments; i++)
        LLVMBuildStore(g->b, LLVMGetParam(run, at++), element(g, g->i64, symbols, i));
    for (uint32_t i = 0; i < m->n_inputs; i++)
        LLVMBuildStore(g->b, LLVMGetParam(run, at++), element(g, g->ptr, inputs, i));
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        LLVMBuildStore(g->b, LLVMGetParam(run, at++), element(g, g->ptr, outputs, i));
        dims[i] = api->outputs[i].has_data_dims ? LLVMGetParam(run, at++) : NULL;
        if (dims[i]) refuse_if(g, is_null(g, dims[i]), STATUS_BAD_POINTER);
    }
    LLVMValueRef arena = LLVMGetParam(run, at++), null = LLVMConstNull(g->ptr);
    LLVMValueRef bytes = LLVMConstAllOnes(g->i64);
    if (api->n_arguments) bytes = LLVMBuildZExt(g->b, LLVMGetParam(run, at++), g->i64, "");
    LLVMValueRef weights = g->options->weights_file ? LLVMGetParam(run, at++) : null;
    LLVMValueRef args[] = {inputs, outputs, symbols, arena, bytes, weights, null};
    pass_on(g, call(g, e->body, args, 7));
    for (uint32_t i = 0; i < m->n_outputs; i++)
        if (dims[i]) write_dims(g, &api->outputs[i], symbols, dims[i]);
    free(dims);
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static LLVMValueRef embedded_weights(LlvmGen *g) {
    if (g->options->weights_file || !g->m->n_consts) return NULL;
    if (g->const_address) /* in memory there is no one address; any that is not NULL says "embedded"
                           */
        return LLVMConstIntToPtr(LLVMConstInt(g->i64, (uint64_t)(uintptr_t)g->const_address[0], 0),
                                 g->ptr);
    g->scratch.n = 0;
    strbuf_printf(&g->scratch, "%s_weights", g->m->name);
    LLVMValueRef w = LLVMGetNamedGlobal(g->mod, strbuf_text(&g->scratch));
    if (w) return w;
    w = LLVMAddGlobal(g->mod, LLVMArrayType2(g->i8, 0), strbuf_text(&g->scratch));
    LLVMSetVisibility(w, LLVMHiddenVisibility);
    LLVMSetGlobalConstant(w, 1);
    LLVMSetAlignment(w, 64);
    return w;
}

void llvm_emit_entry(LlvmGen *g) {
    Entry e = {.api = g->api};
    e.weights = embedded_weights(g);
    emit_check_arguments(g, &e);
    if (e.api->n_symbols) emit_symbols_for(g, &e);
    emit_arena_for(g, &e);
    e.cpu_good = llvm_emit_cpu_test(g, e.api);
    if (g->m->n_heap) emit_reserve_function(g, &e);
    emit_body(g, &e);
    LLVMValueRef run = emit_generic_run(g, &e);
    if (e.api->has_typed_call) emit_typed_run(g, &e);
    abi_emit_model(g, e.api, (AbiFunctions){e.symbols_for, e.arena_for, run}, e.weights);
}
