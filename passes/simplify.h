/* The rules of the simplify pass, as a table. */
#ifndef SMELT_PASSES_SIMPLIFY_H
#define SMELT_PASSES_SIMPLIFY_H

#include "ir/graph.h"

typedef struct SimplifyRule {
    OpId op; /* OP_NONE: any */
    const char *name;
    Value *(*apply)(Module *m, Node *n);
} SimplifyRule;

extern const SimplifyRule simplify_rules[];
extern const int n_simplify_rules;

/* Of NonMaxSuppression: see simplify_rows.c. */
Value *limit_to_rows_read(Module *m, Node *n);

#endif
