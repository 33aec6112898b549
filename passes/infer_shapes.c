/* infer_shapes: gives every value a dtype and a shape.
 *
 * Before:  %2 = Reshape(%0, %1)            %0: f32[n, 3, 4], %1 = const i64[2] {0, -1}
 * After:   %2 = Reshape(%0, %1) : f32[n, 12]
 *
 * Requires nothing. Leaves dtype and shape of every value and the contents of small integer tensors
 * as expressions (ir/infer.h). Small nodes of constants are computed on the way: exporters do shape
 * arithmetic in floats as well (a Resize's sizes), where no contents are tracked, and later nodes'
 * shapes depend on it. It leaves larger ones to fold_constants. */
#include "ir/infer.h"

#include "passes/fold.h"
#include "passes/pass.h"

enum { SMALL_BYTES = 4096 };

static void fold_small(Module *m, Node *n) {
    fold_node(m, n, SMALL_BYTES);
}

bool pass_infer_shapes(Module *m) {
    m->fold = fold_small;
    infer_graph(m, m->main);
    m->fold = NULL;
    return true;
}
