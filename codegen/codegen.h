/* Code generation: kernel IR in, files or a model in memory out. What the command line calls.
 *
 * Everything here takes a finished KModule (memory planned, math expanded) and treats it as
 * read-only, so that several threads may render parts of it at once. */
#ifndef SMELT_CODEGEN_H
#define SMELT_CODEGEN_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/kernel.h"
#include "ir/support/diag.h"
#include "ir/support/str.h"
#include "ir/target.h"

struct smelt_model; /* smelt_abi: what codegen_llvm_jit returns */

typedef struct CodegenOptions {
    int opt;           /* 0..3: how hard LLVM tries; results do not depend on it */
    int jobs;          /* threads; the bytes do not depend on it; 0 is 1 */
    bool weights_file; /* the caller passes the weights at run time; they are not in the library */
    bool verify;       /* run LLVM's verifier over what is emitted */
    uint64_t weight_hash; /* XXH64 of the weights, for smelt_model; codegen_llvm_library finds it
                             itself */
    uint64_t stack_bytes; /* for the header: what a call needs at most; 0: not stated. Found by
                             codegen_llvm_library when it makes the archive */
    const void *foreign;  /* an object with the user's C functions for the archive, or NULL */
    size_t n_foreign_bytes;
} CodegenOptions;

/* ---- machines -------------------------------------------------------------------------------- */

/* The target for these strings of LLVM; NULL triple is this machine, NULL or "native" cpu is this
 * machine's cpu with all of its features where the triple is this machine's too, otherwise the
 * architecture's baseline. NULL, with an error in d, for a triple or cpu that LLVM does not have.
 */
const Target *codegen_target(Arena *a, const char *triple, const char *cpu, const char *features,
                             Diag *d);
/* Appends LLVM's architectures, one a line: name and description. */
void codegen_list_targets(StrBuf *out);

/* ---- LLVM ------------------------------------------------------------------------------------ */

typedef enum CodegenText { TEXT_LLVM, TEXT_ASSEMBLY } CodegenText;

/* A piece of machine code: the bytes of one object file. */
typedef struct CodegenObject {
    const char *name; /* "net.entry.o"; arena of the call */
    void *bytes;      /* heap, see codegen_objects_free */
    size_t n_bytes;
    const char **symbols; /* what it defines for the other objects or the user; arena of the call */
    uint32_t n_symbols;
    uint64_t stack_bytes; /* of the entry, all frames together; of others, their largest frame */
} CodegenObject;

/* The model as object files, the entry first; kernels are spread over several so that they can be
 * compiled in parallel. The weights are left out: see codegen_llvm_library. false with errors in d.
 */
bool codegen_llvm_objects(Arena *a, const KModule *m, const Target *t, const CodegenOptions *o,
                          CodegenObject **objects, uint32_t *n_objects, Diag *d);
void codegen_objects_free(CodegenObject *objects, uint32_t n_objects);
/* The whole model as one text of LLVM IR or assembly. */
bool codegen_llvm_text(const KModule *m, const Target *t, const CodegenOptions *o, CodegenText what,
                       StrBuf *out, Diag *d);

/* Writes the model's files: the archive with code and weights, NAME.h, and the weights file if
 * o->weights_file. Any path may be NULL: not wanted. All files appear or none. */
typedef struct CodegenPaths {
    const char *archive, *header, *weights;
} CodegenPaths;
bool codegen_llvm_library(const KModule *m, const Target *t, const CodegenOptions *o,
                          CodegenPaths paths, Diag *d);
/* One object file: kernels, entry and weights as one LLVM module (not in parallel, and about half a
 * second per 64 MiB of weights). */
bool codegen_llvm_object(const KModule *m, const Target *t, const CodegenOptions *o,
                         const char *path, Diag *d);

/* Compiles into memory. The weights stay where KBuf.data points (unless misaligned) and must
 * outlive the result, as must the KModule. NULL with errors in d. */
typedef struct CodegenJit CodegenJit;
CodegenJit *codegen_llvm_jit(const KModule *m, const Target *t, const CodegenOptions *o, Diag *d);
const struct smelt_model *codegen_jit_model(const CodegenJit *j);
/* Address of the kernel's function, for tests and for timing one kernel; NULL if there is none. */
void *codegen_jit_kernel(const CodegenJit *j, const Kernel *kn);
/* The C functions that the kernels of m call (statements `extern`), each behind one that takes its
 * arguments from memory: what the interpreter can call. They have to be in this process; t is its
 * machine. NULL with errors in d. */
CodegenJit *codegen_llvm_callers(const KModule *m, const Target *t, Diag *d);
typedef void CodegenCaller(void *const *addresses, const int64_t *scalars);
/* The one for this function; NULL if there is none. */
CodegenCaller *codegen_jit_caller(const CodegenJit *j, const char *function);
void codegen_jit_destroy(CodegenJit *j);

#endif
