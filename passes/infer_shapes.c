/* infer_shapes: gives every value a dtype and a shape.
 *
 * Before:  %2 = Reshape(%0, %1)            %0: f32[n, 3, 4], %1 = const i64[2] {0, -1}
 * After:   %2 = Reshape(%0, %1) : f32[n, 12]
 *
 * Requires nothing. Leaves dtype and shape of every value and the contents of small integer tensors
 * as expressions (ops.h: infer). Nodes of constants that are small are computed on the way, because
 * exporters do shape arithmetic in floats as well (a Resize's sizes), where no contents are tracked.
 * For the same reason an If whose condition is known gives way to its branch.
 * A node that reads what could not be inferred is passed over, so that one run reports every cause
 * and none of the consequences. It does not change the graph otherwise. */
#include "passes/fold.h"
#include "passes/pass.h"

enum { SMALL_BYTES = 4096 };

static bool is_inferred(const Value *v) {
    return v->type != VT_TENSOR || (v->dtype != DT_NONE && v->shape.rank >= 0);
}

static bool can_infer(const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && !is_inferred(n->in[i])) return false;
    return true;
}

bool pass_infer_shapes(Module *m) {
    for (Node *n = m->main->first, *next; n; n = next) {
        if (diag_is_full(m->diag)) break;
        next = fold_branch(n);
        if (next != n) continue;
        next = n->next;
        if (!can_infer(n)) continue;
        bug_context("infer_shapes", n->loc);
        if (op_info[n->op].infer(m, n)) fold_node(m, n, SMALL_BYTES);
    }
    return true;
}
