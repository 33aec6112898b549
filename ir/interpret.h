/* The interpreter of kernel IR: the meaning of kops.def in plain C, and the judge of all renderers.
 *
 * A kernel is compiled once to register code (interpret_compile.c), in which expressions that do
 * not change in a loop are computed outside of it; then it runs (interpret.c). Every access is
 * checked against its buffer: an index outside is a BUG that names kernel, buffer and index. Math
 * nodes must have been expanded (math.h). Loops of every mark run serially, in order; barriers are
 * refused. */
#ifndef SMELT_IR_INTERPRET_H
#define SMELT_IR_INTERPRET_H

#include "ir/kernel.h"

typedef struct InterpretBuf {
    void *data;
    int64_t n_elems;
} InterpretBuf;

typedef struct InterpretCode InterpretCode;

/* Register code of a kernel, owned by a; usable any number of times. */
InterpretCode *interpret_compile(Arena *a, const Kernel *kn);
/* Runs it: one buffer for each parameter, one value for each scalar. */
void interpret_run(const InterpretCode *code, const InterpretBuf *params, const int64_t *scalars);
/* interpret_compile and interpret_run once. */
void interpret_kernel(const Kernel *kn, const InterpretBuf *params, const int64_t *scalars);

/* The value of an expression over symbols only; value[i] belongs to var[i]. */
int64_t interpret_index(const KExpr *e, KVar *const *var, const int64_t *value, uint32_t n);

/* A C function that takes its arguments from memory: addresses, then numbers. */
typedef void InterpretForeign(void *const *addresses, const int64_t *scalars);

/* Data of a whole program's run. */
typedef struct InterpretCall {
    const void *const *inputs; /* dense, in the model's order */
    void **outputs; /* those on the heap receive memory of malloc when the status is 0 */
    const int64_t *symbols; /* values of KModule.symbols */
    int64_t *sizes;         /* receives the values of KModule.sizes; may be NULL */
    Arena *text; /* where the bytes of string outputs are copied to; NULL: there are none */
    /* The C function of this name, for statements `extern`; NULL: the kernels have none. */
    InterpretForeign *(*foreign)(void *user, const char *name);
    void *foreign_user;
} InterpretCall;

/* Runs the entry with an arena of its own; the status it leaves with (0: good). */
int64_t interpret_module(const KModule *m, const InterpretCall *call);

#endif
