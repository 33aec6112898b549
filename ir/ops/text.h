/* Loops over strings that several operators share: comparison and look-up, written with the few
 * primitives of class TEXT. For programs only: each function appends statements to a KBuild and
 * returns an expression that stays valid up to the end of the block. Bytes are compared as bytes,
 * which orders UTF-8 by code points. */
#ifndef SMELT_IR_OPS_TEXT_H
#define SMELT_IR_OPS_TEXT_H

#include "ir/ops/common.h"

/* May n make text where it is? Not in the body of a Loop or Scan: the memory that one iteration
 * writes is the next one's, and strings may live on. */
bool text_infer_place(Module *m, const Node *n);
/* -1, 0 or 1, as x comes before, is, or comes behind y. i64 */
const KExpr *text_compare(KBuild *b, const KExpr *x, const KExpr *y);
/* out[i] = x[i] == y[i], broadcast: a stage. */
void text_lower_equal(Def *d, KTensor *x, KTensor *y, KTensor *out);

/* A set of constant strings, each of which has a number, to be found by its hash. */
typedef struct TextTable TextTable;
/* The first of equal keys counts. */
TextTable *text_table(Def *d, const ConstString *keys, int64_t count);
/* The number of the key that is s, -1 when there is none. i64 */
const KExpr *text_find(Def *d, KBuild *b, const TextTable *t, const KExpr *s);

/* Copies all of s to to[at ...]; u8. */
void text_copy(KBuild *b, KBuf *to, const KExpr *at, const KExpr *s);

#endif
