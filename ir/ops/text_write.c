/* New text, measured and then written. */
#include "ir/ops/text_write.h"

const KExpr *text_free_size(Module *m, const char *name) {
    return k_var(m->k, module_computed_symbol(m, name, k_int(m->k, INT64_MAX)));
}

TextWriter text_write_begin(Def *d, const KExpr *n, KTensor *text) {
    KCtx *k = d->k;
    TextWriter w = {.d = d, .n = n, .text = text};
    w.bytes = text ? text->dims[0] : text_free_size(d->m, "bytes");
    const KExpr *rows = k_add(k, n, k_int(k, 1)), *zero = k_int(k, 0);
    w.ends = def_temp(d, "ends", DT_I64, 1, &rows);
    w.stage = def_program(d, &w.ends, 1);
    w.total = kb_alloc(&d->b, MEM_REG, DT_I64, "total", 1);
    kb_store(&d->b, w.total, zero, zero);
    w.i = kb_for(&d->b, LOOP_SERIAL, "i", n);
    return w;
}

void text_write_measured(TextWriter *w, const KExpr *n_bytes, KTensor *out) {
    Def *d = w->d;
    KCtx *k = d->k;
    KBuild *b = &d->b;
    const KExpr *zero = k_int(k, 0), *total = k_load(k, w->total, zero);
    n_bytes = kb_let(b, "n_bytes", n_bytes);
    kb_store(b, w->ends->buf, w->i, total);
    kb_store(b, w->total, zero, k_add(k, total, n_bytes));
    kb_end(b);
    const KExpr *all = kb_let(b, "all", total);
    kb_store(b, w->ends->buf, w->n, all);
    def_store_size(d, w->stage, w->bytes->u.var, all);
    def_end_program(d, w->stage);

    w->out = out;
    if (!w->text) w->text = def_temp(d, "text", DT_U8, 1, &w->bytes);
    KTensor *outs[2] = {out, w->text};
    w->stage = def_program(d, outs, 2);
    w->i = kb_for(b, LOOP_PARALLEL, "i", w->n);
}

const KExpr *text_write_place(TextWriter *w) {
    return kb_let(&w->d->b, "at", def_at(w->d, w->ends, &w->i, 1));
}

void text_write_end(TextWriter *w, const KExpr *at) {
    Def *d = w->d;
    KCtx *k = d->k;
    const KExpr *next = k_add(k, w->i, k_int(k, 1)), *end = def_at(d, w->ends, &next, 1);
    kb_store(&d->b, w->out->buf, w->i, k_str_of(k, k_load(k, w->text->buf, at), k_sub(k, end, at)));
    kb_end(&d->b);
    def_end_program(d, w->stage);
}
