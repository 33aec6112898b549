/* The model's entry: smelt.h's calls around the kernels.
 *
 *   NAME_run, generic run     what the caller sees: arguments into arrays
 *     body                    checks (entry_memory.c), then KModule.entry (entry_statements.c);
 *                             one function for both
 *     symbols_for, arena_for  smelt_model's helpers, also used by body
 *
 * The outer functions are compiled for the architecture's baseline, so that they can refuse a
 * processor that lacks what the rest was compiled for. Constants reach kernels as arguments only.
 */
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/entry.h"

/* ---- small things ---------------------------------------------------------------------------- */

/* Returns `status` from the function being built when `bad`. */
void llvm_refuse_if(LlvmGen *g, LLVMValueRef bad, uint32_t status) {
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

LLVMValueRef llvm_entry_function(LlvmGen *g, const char *name, LLVMTypeRef result,
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
    e->check_arguments = llvm_entry_function(g, "check_arguments", g->i32, &g->ptr, 1, false);
    llvm_fn_begin(g, &fn, e->check_arguments);
    for (uint32_t i = 0; i < e->api->n_arguments; i++) {
        const ApiSymbol *s = &e->api->symbols[i];
        LLVMValueRef at = element(g, g->i64, LLVMGetParam(fn.fn, 0), i);
        LLVMValueRef v = LLVMBuildLoad2(g->b, g->i64, at, "");
        LLVMValueRef low = LLVMBuildICmp(g->b, LLVMIntSLT, v, llvm_int(g, g->i64, 0, s->min), "");
        LLVMValueRef high = LLVMBuildICmp(g->b, LLVMIntSGT, v, llvm_int(g, g->i64, 0, s->max), "");
        llvm_refuse_if(g, LLVMBuildOr(g->b, low, high, ""), STATUS_BAD_DIM);
    }
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

static void emit_symbols_for(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    e->symbols_for = llvm_entry_function(g, "symbols_for", g->i32, &g->ptr, 1, false);
    llvm_fn_begin(g, &fn, e->symbols_for);
    LLVMValueRef symbols = LLVMGetParam(fn.fn, 0), zero = LLVMConstInt(g->i64, 0, 0);
    llvm_refuse_if(g, is_null(g, symbols), STATUS_BAD_POINTER);
    pass_on(g, call(g, e->check_arguments, &symbols, 1));
    bind_symbols(g, symbols);
    for (uint32_t i = e->api->n_arguments; i < e->api->n_symbols; i++) {
        const ApiSymbol *s = &e->api->symbols[i];
        bool derived = s->kind == API_DERIVED;
        LLVMValueRef v =
            llvm_expr(g, derived ? s->value : k_max(g->m->k, s->most, k_int(g->m->k, 0)));
        if (derived)
            llvm_refuse_if(g, LLVMBuildICmp(g->b, LLVMIntSLT, v, zero, ""), STATUS_BAD_DIM);
        LLVMBuildStore(g->b, v, element(g, g->i64, symbols, i));
    }
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
}

/* Bytes to ask the caller for; the slack lets body align the arena. */
LLVMValueRef llvm_arena_needed(LlvmGen *g) {
    LLVMValueRef zero = LLVMConstInt(g->i64, 0, 0);
    if (!g->m->arena_bytes) return zero;
    LLVMValueRef n = llvm_expr(g, g->m->arena_bytes);
    LLVMValueRef padded = LLVMBuildAdd(g->b, n, LLVMConstInt(g->i64, ARENA_ALIGN - 1, 0), "");
    return LLVMBuildSelect(g->b, LLVMBuildICmp(g->b, LLVMIntSGT, n, zero, ""), padded, zero, "");
}

static void emit_arena_for(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMTypeRef params[] = {g->ptr, g->ptr};
    e->arena_for = llvm_entry_function(g, "arena_bytes_for", g->i32, params, 2, false);
    llvm_fn_begin(g, &fn, e->arena_for);
    LLVMValueRef symbols = LLVMGetParam(fn.fn, 0), out = LLVMGetParam(fn.fn, 1);
    llvm_refuse_if(g, is_null(g, out), STATUS_BAD_POINTER);
    if (e->api->n_arguments) {
        llvm_refuse_if(g, is_null(g, symbols), STATUS_BAD_POINTER);
        pass_on(g, call(g, e->check_arguments, &symbols, 1));
        bind_symbols(g, symbols);
    }
    LLVMBuildStore(g->b, llvm_arena_needed(g), out);
    LLVMBuildRet(g->b, word(g, STATUS_OK));
    llvm_fn_end(g);
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
    llvm_end_node(g, e);
    LLVMBuildBr(g->b, out);
    LLVMPositionBuilderAtEnd(g->b, out);
    LLVMValueRef status = LLVMBuildLoad2(g->b, g->i32, e->status, "");
    if (g->m->n_heap) llvm_leave_heap(g, e, status);
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
    e->body = llvm_entry_function(g, "body", g->i32, params, 7, false);
    llvm_add_flag(g, e->body, LLVMAttributeFunctionIndex, "noinline", 0);
    llvm_fn_begin(g, &fn, e->body);
    g->entry = e;
    e->outputs = LLVMGetParam(fn.fn, 1);
    e->symbols = LLVMGetParam(fn.fn, 2);
    e->arena = LLVMGetParam(fn.fn, 3);
    e->given_weights = e->weights ? e->weights : LLVMGetParam(fn.fn, 5);
    if (e->api->n_symbols) pass_on(g, call(g, e->symbols_for, &e->symbols, 1));
    bind_symbols(g, e->symbols);
    llvm_check_memory(g, e, LLVMGetParam(fn.fn, 0), LLVMGetParam(fn.fn, 1), LLVMGetParam(fn.fn, 4));
    llvm_align_arena(g, e);
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
        llvm_refuse_if(g, LLVMBuildNot(g->b, call(g, e->cpu_good, NULL, 0), ""), STATUS_BAD_CPU);
}

static void refuse_count(LlvmGen *g, LLVMValueRef c, const char *count, const char *array,
                         uint32_t n) {
    LLVMValueRef wrong =
        LLVMBuildICmp(g->b, LLVMIntNE, abi_load(g, "call", c, count), word(g, n), "");
    if (n) wrong = LLVMBuildOr(g->b, wrong, is_null(g, abi_load(g, "call", c, array)), "");
    llvm_refuse_if(g, wrong, STATUS_BAD_CALL);
}

static void refuse_short_struct(LlvmGen *g, LLVMValueRef p, const char *owner) {
    LLVMValueRef have = abi_load(g, owner, p, "struct_size");
    LLVMValueRef want = word(g, (uint32_t)abi_bytes(g, owner));
    llvm_refuse_if(g, LLVMBuildICmp(g->b, LLVMIntULT, have, want, ""), STATUS_BAD_CALL);
}

static LLVMValueRef emit_generic_run(LlvmGen *g, Entry *e) {
    LlvmFn fn;
    LLVMValueRef run = llvm_entry_function(g, "run_call", g->i32, &g->ptr, 1, false),
                 c = LLVMGetParam(run, 0);
    llvm_fn_begin(g, &fn, run);
    llvm_refuse_if(g, is_null(g, c), STATUS_BAD_CALL);
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
    LLVMValueRef run = llvm_entry_function(g, "run", g->i32, types, n, true);
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
        if (dims[i]) llvm_refuse_if(g, is_null(g, dims[i]), STATUS_BAD_POINTER);
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
    if (g->m->n_heap) llvm_emit_reserve_function(g, &e);
    emit_body(g, &e);
    LLVMValueRef run = emit_generic_run(g, &e);
    if (e.api->has_typed_call) emit_typed_run(g, &e);
    abi_emit_model(g, e.api, (AbiFunctions){e.symbols_for, e.arena_for, run}, e.weights);
}
