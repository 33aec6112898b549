/* Custom: an operator that a user brought as a C function (ir/custom.h).
 *
 * Attributes `symbols` and `signatures` list the functions, one for each combination of element
 * types; the first that the inputs fit is called. Its definition is a program of one statement,
 *
 *     extern wave_f32(x[0, 0], gain[0], out y)(n, c)
 *
 * so everything around it, memory and threads included, is as for any other operator. Nothing is
 * known of what the function does: it is never folded, and the interpreter cannot run it. */
#include "ir/custom.h"
#include "ir/ops/common.h"

/* Which function of the node fits its inputs, -1 when none does (why then says, of the last). */
static int choose(Module *m, const Node *n, CustomMatch *match, const char **why) {
    CustomType in[CUSTOM_INPUTS];
    const Attr *signatures = node_attr(n, "signatures");
    *why = n->n_in > CUSTOM_INPUTS ? "has too many inputs" : "names no function";
    if (n->n_in > CUSTOM_INPUTS || !signatures) return -1;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) {
            *why = "has an input that is left out";
            return -1;
        }
        in[i] = (CustomType){n->in[i]->dtype, n->in[i]->shape};
    }
    for (uint32_t i = 0; i < signatures->n; i++)
        if (custom_match(m->k, m->arena, signatures->strings[i], in, n->n_in, match, why))
            return (int)i;
    return -1;
}

bool custom_infer(Module *m, Node *n) {
    CustomMatch match;
    const char *why;
    const Attr *symbols = node_attr(n, "symbols");
    int which = choose(m, n, &match, &why);
    if (which < 0 || !symbols || which >= (int)symbols->n) {
        diag_error(m->diag, n->loc, "does not fit the declaration of its C function: %s", why);
        return false;
    }
    if (n->n_out > match.n_out) {
        diag_error(m->diag, n->loc, "has %d outputs, but %s gives %d", (int)n->n_out,
                   symbols->strings[which], match.n_out);
        return false;
    }
    for (int i = 0; i < n->n_out; i++)
        if (!infer_set(m, n, i, match.out[i].dtype, match.out[i].shape)) return false;
    return true;
}

void custom_lower(Def *d, const Node *n) {
    CustomMatch match;
    const char *why;
    KCtx *k = d->k;
    KTensor *outs[CUSTOM_OUTPUTS];
    KArg args[CUSTOM_INPUTS + CUSTOM_OUTPUTS];
    const KExpr *zero[MAX_RANK];
    int which = choose(d->m, n, &match, &why), n_args = 0;
    BUG_IF(which < 0, "a custom operator changed after inference: %s", why);
    for (int i = 0; i < MAX_RANK; i++) zero[i] = k_int(k, 0);
    for (int i = 0; i < match.n_in; i++) {
        KTensor *t = def_in(d, i);
        args[n_args++] = (KArg){.offset = k_at(k, t, zero, t->rank)};
    }
    for (int i = 0; i < match.n_out; i++) {
        CustomType t = match.out[i];
        outs[i] = has_out(n, i) ? def_out(d, i)
                                : def_temp(d, "unused", t.dtype, t.shape.rank, t.shape.dims);
        args[n_args++] = (KArg){.buf = outs[i]->buf, .written = true};
    }
    Stage *s = def_program(d, outs, match.n_out);
    kb_extern(&d->b, node_attr(n, "symbols")->strings[which], args, n_args, match.value,
              match.n_names);
    def_end_program(d, s);
}
