/* Checks what every level promises; a violation is a compiler bug and stops with BUG(). */
#ifndef SMELT_IR_VERIFY_H
#define SMELT_IR_VERIFY_H

#include "ir/define.h"
#include "ir/graph.h"

/* Every level that the module has at the moment; `after` is the pass that ran last. Returns true.
 */
bool verify_module(Module *m, const char *after);
/* The levels alone. Shapes are required where has_shapes; math must be expanded where is_expanded.
 */
void verify_graph(const Graph *g, bool has_shapes, const char *after);
void verify_program(const DefProgram *p, const char *after);
void verify_kernel(KCtx *k, const Kernel *kn, bool is_expanded, const char *after);
void verify_kmodule(const KModule *m, bool is_expanded, const char *after);

#endif
