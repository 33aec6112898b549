/* RegexFullMatch: out[i] = the whole of x[i] matches the pattern, by a table that is made while
 * compiling (regex.c). A program: state = next[state, class[byte]] for every byte; the dead state
 * ends the walk. */
#include "ir/ops/check.h"
#include "ir/ops/regex.h"

static bool compile(Module *m, const Node *n, Regex *r) {
    RegexError error;
    const char *pattern = attr_string(n, "pattern", "");
    if (regex_compile(m->arena, pattern, r, &error)) return true;
    if (error.unsupported)
        diag_unsupported(m->diag, n->loc, "pattern %s (at its byte %d)", error.text, error.at);
    else
        diag_error(m->diag, n->loc, "pattern %s (at its byte %d)", error.text, error.at);
    return false;
}

bool regex_full_match_infer(Module *m, Node *n) {
    Regex r;
    return infer_dtype(m, n, 0, CLASS_STRING) && compile(m, n, &r) &&
           infer_set(m, n, 0, DT_BOOL, n->in[0]->shape);
}

void regex_full_match_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KBuild *b = &d->b;
    Regex r;
    bool good = compile(d->m, n, &r);
    BUG_IF(!good, "the pattern passed infer");
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    KTensor *classes = def_table_ints(d, "classes", DT_U8, r.class_of, 256);
    int64_t n_next = (int64_t)r.n_states * r.n_classes;
    KTensor *next = def_table_ints(d, "next", DT_I32, r.next, n_next);
    KTensor *accepts = def_table_ints(d, "accepts", DT_U8, r.accepts, r.n_states);
    const KExpr *zero = k_int(k, 0);
    Stage *s = def_program(d, &out, 1);
    const KExpr *i = kb_for(b, LOOP_PARALLEL, "i", tensor_n_elems(k, x));
    const KExpr *text = kb_let(b, "s", lower_at_flat(d, x, i));
    KBuf *state = kb_alloc(b, MEM_REG, DT_I64, "state", 1);
    KBuf *pos = kb_alloc(b, MEM_REG, DT_I64, "pos", 1);
    kb_store(b, state, zero, k_int(k, 1));
    kb_store(b, pos, zero, zero);
    const KExpr *at = k_load(k, pos, zero), *now = k_load(k, state, zero);
    kb_while(b, k_and(k, k_lt(k, at, k_str_len(k, text)), k_lt(k, zero, now)));
    const KExpr *byte = k_cast(k, DT_I64, k_str_byte(k, text, at));
    const KExpr *class = k_cast(k, DT_I64, def_at(d, classes, &byte, 1));
    const KExpr *entry = k_add(k, k_mul(k, now, k_int(k, r.n_classes)), class);
    kb_store(b, state, zero, k_cast(k, DT_I64, def_at(d, next, &entry, 1)));
    kb_store(b, pos, zero, k_add(k, at, k_int(k, 1)));
    kb_end(b);
    const KExpr *accepted = def_at(d, accepts, &now, 1);
    kb_store(b, out->buf, i, k_ne(k, accepted, k_const_i(k, DT_U8, 0)));
    kb_end(b);
    def_end_program(d, s);
}
