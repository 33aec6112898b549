/* Operators that a user brings: a C function with typed buffers and sizes.
 *
 * A signature says the types, as text that prints and parses with the graph:
 *
 *     f32[n, c], f32[c] -> f32[n, c + 1]
 *
 * A dim of an input is a new name, which stands for that dim from there on, or an expression of
 * numbers and known names, which it has to equal; dims of outputs are expressions. Names are the
 * caller's sizes: the function gets them as int64_t, in order of first appearance.
 *
 *     expression  sum of products:  + - * / (rounded down) % and parentheses
 *                 min(a, b)  max(a, b)  ceildiv(a, b)
 *
 *     void symbol(const float *in0, const float *in1, float *out0, int64_t n, int64_t c); */
#ifndef SMELT_IR_CUSTOM_H
#define SMELT_IR_CUSTOM_H

#include "ir/graph.h"

enum { CUSTOM_INPUTS = 32, CUSTOM_OUTPUTS = 16, CUSTOM_NAMES = 32 };

typedef struct CustomType {
    DType dtype;
    Shape shape;
} CustomType;

/* A signature that was matched with inputs. */
typedef struct CustomMatch {
    int n_in, n_out, n_names;
    CustomType in[CUSTOM_INPUTS], out[CUSTOM_OUTPUTS];
    const char *name[CUSTOM_NAMES];
    const KExpr *value[CUSTOM_NAMES]; /* what it stands for */
} CustomMatch;

/* Matches the inputs' types, or (in is NULL) any that fit, each name being a symbol of its own.
 * False with the reason, as text in the arena, when the signature is malformed or they do not fit.
 */
bool custom_match(KCtx *k, Arena *a, const char *signature, const CustomType *in, int n_in,
                  CustomMatch *out, const char **why);

#endif
