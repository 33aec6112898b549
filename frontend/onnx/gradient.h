/* What the rules of Gradient share: the tape, and small steps that append nodes. See gradient.c. */
#ifndef SMELT_FRONTEND_ONNX_GRADIENT_H
#define SMELT_FRONTEND_ONNX_GRADIENT_H

#include "frontend/onnx/import.h"

typedef struct Tape {
    Call *c;
    Value **grad;  /* by the value's id: what was summed up so far; NULL: nothing */
    bool *depends; /* by id: on one of xs */
    uint32_t n;    /* values when the tape was made */
} Tape;

/* Nodes with one or two inputs. */
Value *grad_op1(Tape *t, OpId op, Value *a);
Value *grad_op2(Tape *t, OpId op, Value *a, Value *b);
/* A tensor of x's shape and type full of one value. */
Value *grad_full_like(Tape *t, Value *x, double v);
Value *grad_reshape_like(Tape *t, Value *v, Value *x);
/* Is v's derivative asked for? */
bool grad_is_wanted(const Tape *t, const Value *v);
/* Adds to v's derivative; g has v's shape. */
void grad_add(Tape *t, Value *v, Value *g);
/* False, after a message: why continues "the derivative of OP". */
bool grad_refuse(Tape *t, const Node *n, const char *why);

/* Rules (gradient_windows.c): hand g, the derivative by output 0, on to n's inputs; false after a
 * message. */
bool grad_conv_rule(Tape *t, const Node *n, Value *g);
bool grad_average_pool_rule(Tape *t, const Node *n, Value *g);
bool grad_global_pool_rule(Tape *t, const Node *n, Value *g);
bool grad_max_pool_rule(Tape *t, const Node *n, Value *g);
/* Operators that move elements of input 0; output `out` of n. */
bool grad_movement_rule(Tape *t, const Node *n, int out, Value *g);

#endif
