/* The operator table and what is derived from it. One row per operator of the graph IR; names, ids,
 * flags and the two verbs of each operator (infer, lower) come from ops.def. */
#ifndef SMELT_IR_OPS_H
#define SMELT_IR_OPS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum OpId {
    OP_NONE,
#define OP(name, domain, family, in_lo, in_hi, outs, flags) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} OpId;

enum {
    OPF_ELTWISE = 1 << 0,  /* out[i] depends on the inputs' (broadcast) element i only */
    OPF_COMMUTES = 1 << 1, /* the two inputs may be swapped */
    OPF_VIEW = 1 << 2,     /* output is input 0's bytes under another shape */
    OPF_MOVEMENT = 1 << 3, /* every output element is a copy of an input element (or a constant) */
    OPF_CONTROL = 1 << 4,  /* owns subgraphs */
    OPF_SHAPE_ONLY = 1 << 5, /* the output depends on the input's shape, not on its data */
    OPF_NONDET = 1 << 6,     /* never folded or merged (random numbers) */
    OPF_CONTENT = 1 << 7,    /* its infer computes Value.content from content of its inputs */
    OPF_MONOTONE = 1 << 8,   /* elementwise, never falling, NaN for NaN only: commutes with max */
    OPF_CONTRACTS = 1 << 9,  /* multiply-adds over a weight: Conv, Gemm, MatMul, ... */
    OPF_BLOCKABLE =
        1 << 10, /* indifferent to how channels (axis 1) lie in memory: may run in blocked layout */
    OPF_DECODES = 1 << 11, /* what stored integers stand for: left to passes that compute in them */
    OPF_PARTS = 1 << 13, /* linear in input 0: of complex numbers it works on either part */
    OPF_BRANCHES = 1 << 12, /* its first input chooses which of its two graphs takes its place */
};

struct Node;
struct Module;
struct Def;

typedef struct OpInfo {
    const char *name;   /* ONNX's */
    const char *domain; /* "", ai.onnx.ml, com.microsoft, or smelt for what nobody else has */
    int in_lo, in_hi;   /* inputs; in_hi -1: any number */
    int n_out;          /* most outputs; -1: any number */
    uint32_t flags;
    /* dtype and shape (and content) of every output; false after diag_error / diag_unsupported */
    bool (*infer)(struct Module *m, struct Node *n);
    /* appends the definition of every output to d; the node passed infer */
    void (*lower)(struct Def *d, const struct Node *n);
} OpInfo;

extern const OpInfo op_info[OP_COUNT];

OpId op_from_name(const char *domain, const char *name); /* OP_NONE when unknown */
static inline bool op_has(OpId op, uint32_t flag) {
    return (op_info[op].flags & flag) != 0;
}

#endif
