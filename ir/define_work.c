/* How much arithmetic a program asks for: see program_macs() in define.h.
 *
 * Counted are the multiply-adds of contractions as the operators define them, before any pass makes
 * them fewer (Winograd) or more (padding): what one may hold a machine's peak against. Bodies of
 * Scan count once for each step, those of Loop and If once. A symbolic dim counts as its largest
 * value. */
#include "ir/define.h"

static double extent(const KExpr *dim) {
    return dim->hi > 0 ? (double)dim->hi : 0;
}

static double stage_macs(const Stage *s) {
    double n = 1;
    for (int i = 0; i < s->out->rank; i++) n *= extent(s->out->dims[i]);
    for (int i = 0; i < s->n_red; i++) n *= extent(s->red_extent[i]);
    return n;
}

/* How often the bodies of this control-flow node run, as far as its dims say it. */
static double n_steps(const Node *n) {
    if (!node_attr(n, "num_scan_inputs")) return 1;
    int at = n->n_in - (int)attr_int(n, "num_scan_inputs", 1);
    const Attr *axes = node_attr(n, "scan_input_axes");
    int axis = axes && axes->n ? (int)axes->ints[0] : 0, rank = n->in[at]->shape.rank;
    return rank > 0 ? extent(n->in[at]->shape.dims[axis < 0 ? axis + rank : axis]) : 1;
}

double program_macs(const DefProgram *p) {
    double n = 0;
    for (const Stage *s = p->first; s; s = s->next) {
        if (s->form == FORM_CONTRACT) n += stage_macs(s);
        for (int i = 0; i < 2 && s->form == FORM_REGION; i++)
            if (s->sub[i]) n += n_steps(s->region) * program_macs(s->sub[i]);
    }
    return n;
}
