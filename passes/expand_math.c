/* expand_math: transcendental functions in terms of arithmetic and bit patterns.
 *
 * Before:  store y[i] = exp(load x[i])
 * After:   the same store of the polynomial and scaling that docs/math.md describes
 *
 * Requires kernels, and leaves kernels without MATH nodes: what renderers and the interpreter
 * accept. The work is done in ir/math.c. It does not approximate further under --fast-math. */
#include "ir/math.h"

#include "passes/pass.h"

bool pass_expand_math(Module *m) {
    kmodule_expand_math(m->kmod, m->target);
    return true;
}
