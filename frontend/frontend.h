/* From a model file to a Module: the one way into the compiler.
 *
 *     Module *m = frontend_import_onnx("net.onnx", &options, target, d);
 *     if (!m) return diag_exit_code(d);
 *     ...
 *     if (!frontend_is_intact(m, d)) ...       before results are written out
 *     module_destroy(m);                       closes the model file as well
 *
 * The weights stay in the mapped file: constants of the module view it. The module owns the mapping
 * (Module.on_destroy), so views live exactly as long as the module. */
#ifndef SMELT_FRONTEND_FRONTEND_H
#define SMELT_FRONTEND_FRONTEND_H

#include <stdio.h>

#include "frontend/op_file.h"
#include "ir/graph.h"

/* --dim NAME=V fixes a named dim, --dim INPUT:AXIS=V an axis of an input. With `found` it stays as
 * the model has it (one of several values, for which there are versions), and *found says what it
 * is: NULL when no input has it. */
typedef struct DimOverride {
    const char *name;
    int64_t value;
    const KExpr **found;
    bool has_zero; /* with found: one of the values is 0 */
} DimOverride;

/* --shape INPUT=2,3 */
typedef struct ShapeOverride {
    const char *name;
    int rank;
    int64_t dims[MAX_RANK];
} ShapeOverride;

/* Zero is "as the model says". */
typedef struct ImportOptions {
    const DimOverride *dims;
    int n_dims;
    const ShapeOverride *shapes;
    int n_shapes;
    /* The shape of the data for this input (its position and name), asked for inputs that the model
     * gives no shape, or dims of 0; NULL, or false: there are none. */
    bool (*data_shape)(void *user, int index, const char *name, int *rank, int64_t *dims);
    /* For an input that is a sequence or an optional: the shapes of the tensors in its data, in
     * position order, in memory that lives as long as the import; *n is -1 for an empty optional.
     * NULL, or false: there are no data. */
    bool (*data_list)(void *user, int index, const char *name, bool of_sequence, bool is_optional,
                      const ShapeOverride **shapes, int *n);
    /* The value of an input of one integer or bool, asked only where the length of a sequence
     * depends on it. NULL, or false: not known. */
    bool (*data_value)(void *user, int index, const char *name, int64_t *value);
    void *data_user;
    const char *const *inputs; /* the model is cut here: these values become the inputs */
    int n_inputs;
    const char *const *outputs; /* and these the outputs */
    int n_outputs;
    const OpFile *ops; /* operators of the user's own, or NULL */
} ImportOptions;

/* Reads, checks and imports an ONNX model ("-": standard input). Every operator is in its newest
 * form afterwards, functions are inlined, shapes are known of inputs and constants only. NULL after
 * messages. The diagnostics and the target must outlive the module. */
Module *frontend_import_onnx(const char *path, const ImportOptions *o, const Target *t, Diag *d);
/* The same for bytes in memory, which must outlive the module; `name` is used in messages. */
Module *frontend_import_onnx_bytes(const char *name, const void *bytes, size_t n_bytes,
                                   const ImportOptions *o, const Target *t, Diag *d);
/* Reads the model that `general` was imported from once more, as another version of it
 * (module_add_version), for the calls of which `when` holds. NULL after messages. */
Module *frontend_import_version(Module *general, const char *name, const KExpr *when,
                                const ImportOptions *o);
/* False, with a message, when the model's file changed its size while it was in use. */
bool frontend_is_intact(const Module *m, Diag *d);
/* The operators that models may have, a line each: domain, name, and every opset since which it has
 * a form of its own that is read; a version in between is read in the form before it. */
void frontend_list_ops(FILE *out);
/* Writes the module, as far as it has come through graph passes, as an ONNX model. False when the
 * file could not be written; opening, closing and renaming it are the caller's. */
bool frontend_write_onnx(const Module *m, FILE *out);

#endif
