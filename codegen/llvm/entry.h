/* Between the files of the model's entry: what is known while it is emitted, and its parts. */
#ifndef SMELT_CODEGEN_LLVM_ENTRY_H
#define SMELT_CODEGEN_LLVM_ENTRY_H

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

static inline LLVMValueRef word(LlvmGen *g, uint32_t v) {
    return LLVMConstInt(g->i32, v, 0);
}

static inline LLVMValueRef element(LlvmGen *g, LLVMTypeRef t, LLVMValueRef array, uint64_t i) {
    LLVMValueRef at = LLVMConstInt(g->i64, i, 0);
    return LLVMBuildGEP2(g->b, t, array, &at, 1, "");
}

static inline LLVMValueRef is_null(LlvmGen *g, LLVMValueRef p) {
    return LLVMBuildICmp(g->b, LLVMIntEQ, p, LLVMConstNull(LLVMTypeOf(p)), "");
}

static inline LLVMValueRef call(LlvmGen *g, LLVMValueRef fn, LLVMValueRef *args, unsigned n) {
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(fn), fn, args, n, "");
}

/* entry.c */
/* Returns `status` from the function being built when `bad`. */
void llvm_refuse_if(LlvmGen *g, LLVMValueRef bad, uint32_t status);
/* Bytes to ask the caller for; the slack lets body align the arena. */
LLVMValueRef llvm_arena_needed(LlvmGen *g);
/* A function of the entry: NAME_name when public, else internal. */
LLVMValueRef llvm_entry_function(LlvmGen *g, const char *name, LLVMTypeRef result,
                                 LLVMTypeRef *params, unsigned n, bool is_public);

/* entry_memory.c */
/* Outputs first, then inputs, then the arena. Binds the buffers. */
void llvm_check_memory(LlvmGen *g, Entry *e, LLVMValueRef inputs, LLVMValueRef outputs,
                       LLVMValueRef arena_bytes);
void llvm_align_arena(LlvmGen *g, Entry *e);

/* entry_statements.c */
/* Tells after_node about the node that ran until here, if any. */
void llvm_end_node(LlvmGen *g, Entry *e);
/* Outputs' blocks go to the caller when the run was good; the others are given back. */
void llvm_leave_heap(LlvmGen *g, Entry *e, LLVMValueRef status);
/* int reserve(void **block, hooks, int64_t n_bytes, int64_t keep): memory for a heap buffer. */
void llvm_emit_reserve_function(LlvmGen *g, Entry *e);

#endif
