/* smelt.h's structs as LLVM types and constants, laid out from smelt_abi.def. */
#ifndef SMELT_CODEGEN_LLVM_ABI_H
#define SMELT_CODEGEN_LLVM_ABI_H

#include "codegen/interface.h"
#include "codegen/llvm/llvm_gen.h"

enum {
#define SMELT_STATUS(name, value, text) STATUS_##name = value,
#include "runtime/include/smelt_abi.def"
};

/* "call", "hooks", "model", ...: the struct, and the position of a field in it. */
LLVMTypeRef abi_struct(LlvmGen *g, const char *owner);
/* Loads owner.name through p. */
LLVMValueRef abi_load(LlvmGen *g, const char *owner, LLVMValueRef p, const char *name);
uint64_t abi_bytes(LlvmGen *g, const char *owner);

typedef struct AbiFunctions {
    LLVMValueRef symbols_for, arena_for, run; /* symbols_for: NULL when there are no symbols */
} AbiFunctions;

/* Emits NAME_model. weights: their address, or NULL when they come from a file. */
void abi_emit_model(LlvmGen *g, const Api *api, AbiFunctions fn, LLVMValueRef weights);

/* cpu.c: bool cpu_good(void), or NULL when nothing can be or need be tested. */
LLVMValueRef llvm_emit_cpu_test(LlvmGen *g, const Api *api);
/* entry.c: for code that runs before the processor is known. */
void llvm_add_baseline_attributes(LlvmGen *g, LLVMValueRef fn);

#endif
