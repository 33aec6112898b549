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

static void find_text(Graph *g, void *user) {
    for (const Node *n = g->first; n; n = n->next)
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i] && n->out[i]->has_heap_text) *(bool *)user = true;
}

/* Output v becomes a copy whose bytes lie in another output, NAME.text. */
static void copy_output(Module *m, Value *v) {
    SrcLoc loc = v->def ? v->def->loc : SRC_NOWHERE;
    Node *copy = graph_add_node(m->main, NULL, OP_CopyText, &v, 1, 2, loc);
    const char *name = v->name;
    value_replace_uses(v, copy->out[0]); /* as the output; other nodes go on reading v */
    while (copy->out[0]->users.n) {
        Node *user = copy->out[0]->users.at[0];
        for (int i = 0; i < user->n_in; i++)
            if (user->in[i] == copy->out[0]) node_set_input(user, i, v);
    }
    copy->out[1]->name = intern(arena_printf(m->arena, "%s.text", name));
    graph_add_output(m->main, copy->out[1]);
    op_info[OP_CopyText].infer(m, copy);
}

static void copy_text_outputs(Module *m) {
    bool found = false;
    uint32_t n = m->main->outputs.n;
    graph_visit(m->main, find_text, &found);
    for (uint32_t i = 0; found && i < n; i++) {
        Value *v = m->main->outputs.at[i];
        bool is_text = v->type == VT_TENSOR && v->dtype == DT_STR && v->shape.rank >= 0;
        if (is_text && v->def && v->def->op != OP_CopyText) copy_output(m, v);
    }
}

bool pass_infer_shapes(Module *m) {
    m->fold = fold_small;
    infer_graph(m, m->main);
    m->fold = NULL;
    copy_text_outputs(m);
    return true;
}
