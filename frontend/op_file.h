/* The file that tells smelt of a user's own operators (--op-file): see docs/custom.md.
 *
 *     # comment
 *     op DOMAIN NAME SYMBOL(x: f32[n, c], gain: f32[c], scale: float = 1.0) -> (y: f32[n, c])
 *     link wave.c                    an object, archive, source or shared object with the functions
 *     functions library.onnx         a model whose functions are operators
 *
 * Paths are relative to the file. Inputs have an element type, attributes one of the types float,
 * int, floats[k], ints[k] and string[k]; the function gets attributes behind the inputs, as
 * pointers to const float, int64_t or uint8_t. Several lines for one operator are its functions for
 * other element types, the first that fits is called. */
#ifndef SMELT_FRONTEND_OP_FILE_H
#define SMELT_FRONTEND_OP_FILE_H

#include "ir/graph.h"

enum { OP_FILE_ATTRS = 16 };

typedef struct OpFileAttr {
    const char *name;
    AttrKind kind;    /* AT_FLOAT, AT_INT, AT_FLOATS, AT_INTS, AT_STRING */
    bool is_required; /* no default */
    double f;
    int64_t i;
} OpFileAttr;

/* A line `op`. */
typedef struct OpFileOp {
    const char *domain, *name, *symbol;
    const char *signature; /* of inputs, then attributes, and outputs: ir/custom.h */
    int n_in, n_out;
    OpFileAttr attr[OP_FILE_ATTRS];
    int n_attrs;
    const char *file;
    int line;
    struct OpFileOp *next; /* another one of the same operator, or NULL */
} OpFileOp;

typedef struct OpFile {
    VEC(OpFileOp *) ops; /* the first of each operator */
    VEC(const char *) links, functions;
} OpFile;

/* Adds the lines of a file to f. Strings live in a. False after messages, each with its line. */
bool op_file_read(Arena *a, OpFile *f, const char *path, Diag *d);
/* The operator's functions, NULL when the files have none. */
const OpFileOp *op_file_find(const OpFile *f, const char *domain, const char *name);
/* Is this C function declared by some line? */
bool op_file_declares(const OpFile *f, const char *symbol);

#endif
