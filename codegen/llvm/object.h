/* Groups of kernels that are compiled together, for object.c, library.c and jit.c. */
#ifndef SMELT_CODEGEN_LLVM_OBJECT_H
#define SMELT_CODEGEN_LLVM_OBJECT_H

#include "codegen/interface.h"
#include "codegen/llvm/llvm_gen.h"

typedef struct LlvmGroup {
    uint32_t first, end; /* kernels */
    bool has_entry;
} LlvmGroup;

/* Can this be compiled? Otherwise the reasons are in d. */
bool llvm_check(const Api *api, const KModule *m, const Target *t, Diag *d);
/* How a module is divided; group 0 is the entry alone. Heap memory, freed by the caller. */
LlvmGroup *llvm_plan_groups(const KModule *m, uint32_t *n_groups);
/* Emits, verifies and optimises one group into the open module. */
void llvm_emit_group(LlvmGen *g, const LlvmGroup *group);
/* One object file per group, compiled by o->jobs threads. Heap array; each buffer is the caller's.
 * const_address: see LlvmGen. stack, unless NULL: of each group, see CodegenObject. */
LLVMMemoryBufferRef *llvm_build_objects(const KModule *m, const Target *t, const CodegenOptions *o,
                                        Api *api, const void *const *const_address,
                                        const LlvmGroup *groups, uint32_t n_groups,
                                        uint64_t *stack);

#endif
