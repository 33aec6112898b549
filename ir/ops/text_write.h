/* New text needs memory whose size is found while running. A first program measures: ends[i] is
 * where the text of element i begins, the total becomes a computed size; a second one writes the
 * bytes and makes strings of them:
 *
 *   ends: i64[n + 1] = loops finds bytes { ... }
 *   text: u8[bytes], out: string[n] = loops { ... out[i] = str_of(text[ends[i]], length) }
 *
 * Called in the order of their declarations, once each; what an element's bytes are is computed in
 * both loops. */
#ifndef SMELT_IR_OPS_TEXT_WRITE_H
#define SMELT_IR_OPS_TEXT_WRITE_H

#include "ir/ops/common.h"

typedef struct TextWriter {
    Def *d;
    Stage *stage;
    KTensor *ends, *text, *out;
    const KExpr *n, *bytes, *i; /* i: the element of the open loop */
    KBuf *total;
} TextWriter;

/* A computed size without a bound in the caller's symbols. */
const KExpr *text_free_size(Module *m, const char *name);
/* Opens the loop that measures n elements. text: where the bytes go, of a size that is still to be
 * found; NULL: a temporary. */
TextWriter text_write_begin(Def *d, const KExpr *n, KTensor *text);
/* The open element has so many bytes: closes the loop that measures, opens the one that writes
 * strings to out. */
void text_write_measured(TextWriter *w, const KExpr *n_bytes, KTensor *out);
/* Where in w->text the open element's bytes go. */
const KExpr *text_write_place(TextWriter *w);
/* They stand at `at`: makes the string and closes the loop. */
void text_write_end(TextWriter *w, const KExpr *at);

#endif
