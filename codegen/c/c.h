/* The C renderer: a model as one readable C99 file, for chips and toolchains that LLVM does not
 * reach.
 *
 * The text needs smelt.h (the ABI's structs), NAME.h (header.c) and a C99 library's <math.h>, no
 * compiler extension, and compiles without warnings under -std=c99 -Wall -Wextra -pedantic. It does
 * what the kernel IR says, operation by operation, so it gives the interpreter's bits wherever
 * float and double are IEEE formats evaluated as such (FLT_EVAL_METHOD 0) and contraction is off.
 */
#ifndef SMELT_CODEGEN_C_H
#define SMELT_CODEGEN_C_H

#include "codegen/codegen.h"

typedef struct CodegenCPaths {
    const char *source, *header, *weights; /* any may be NULL: not wanted */
} CodegenCPaths;

/* Appends the whole file. o->weights_file leaves the constants out and takes them from the caller.
 */
void codegen_c_text(const KModule *m, const Target *t, const CodegenOptions *o, StrBuf *out);
/* Writes NAME.c, NAME.h and, with o->weights_file, the weights; all of them or none. Constants are
 * streamed. false with errors in d. */
bool codegen_c_library(const KModule *m, const Target *t, const CodegenOptions *o,
                       CodegenCPaths paths, Diag *d);
/* Appends kernels alone, as external functions, with the prelude they need: for tests. */
void codegen_c_kernels(const KModule *m, StrBuf *out);

#endif
