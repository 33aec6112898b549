/* An ONNX model in memory: from bytes to protobuf-c's structs, with the weights left in the file.
 *
 *     OnnxModel *m = onnx_model_open("net.onnx", d);     every check of check_graph.c is done
 *     const Onnx__ModelProto *p = onnx_model_proto(m);
 *     OnnxTensor t;
 *     if (onnx_tensor_bytes(m, p->graph->initializer[0], loc, d, &t)) use(t.bytes, t.n_bytes);
 *     onnx_model_close(m);                               and everything above is gone
 *
 * How: wire.c checks the file's protobuf encoding and writes a compacted copy of it without weights
 * and unknown fields; protobuf-c unpacks the copy into the model's arena; `raw_data` of every
 * TensorProto then points into the mapped file. The message tree is at most 64 graphs deep, so
 * walking it by recursion is safe. Strings hold no NUL and at most 64 KiB; they need not be UTF-8.
 *
 * A repeated occurrence of a singular field (two graphs, two names) and two members of a oneof are
 * rejected, where protobuf would merge them: no writer makes them, and readers disagree on them. */
#ifndef SMELT_FRONTEND_ONNX_MODEL_H
#define SMELT_FRONTEND_ONNX_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/support/arena.h"
#include "ir/support/diag.h"
#include "onnx.pb-c.h"

typedef struct OnnxModel OnnxModel;
typedef struct Assumptions Assumptions; /* assume.h */

/* Declared limits on what a model may hold; beyond them it is rejected with a message. */
enum {
    ONNX_MAX_GRAPH_NODES = 2000000,
    ONNX_MAX_INLINED_NODES = 5000000,
    ONNX_MAX_NESTING = 64, /* graphs within graphs, types within types */
    ONNX_MAX_NAME = 64 << 10,
    ONNX_MAX_RANK = 16,
};

/* Reads and checks a model file ("-": standard input). NULL, with messages, when it is not a valid
 * model; warnings may be given for a valid one. */
OnnxModel *onnx_model_open(const char *path, Diag *d);
/* The same for bytes in memory, which must outlive the model; `name` is used in messages. Such a
 * model may not refer to external data. */
OnnxModel *onnx_model_open_bytes(const char *name, const void *bytes, size_t n_bytes, Diag *d);
void onnx_model_close(OnnxModel *m);

const Onnx__ModelProto *onnx_model_proto(const OnnxModel *m);
/* File name as the user gave it, for SrcLoc.file; lives as long as the model. */
const char *onnx_model_path(const OnnxModel *m);
/* Memory that lives as long as the model. */
Arena *onnx_model_arena(OnnxModel *m);
/* What importing it once found, for importing it again; NULL before. */
void onnx_model_keep(OnnxModel *m, Assumptions *s);
Assumptions *onnx_model_kept(const OnnxModel *m);
/* The version imported for this domain ("" and "ai.onnx" are the same), 0 when it is not. */
int64_t onnx_model_opset(const OnnxModel *m, const char *domain);
/* Adds the functions of another model, which m closes from now on: for nodes that call none of its
 * own. */
void onnx_model_add_library(OnnxModel *m, OnnxModel *library);
/* The model-local function that this node calls, or NULL. */
const Onnx__FunctionProto *onnx_model_function(const OnnxModel *m, const Onnx__NodeProto *call);
/* The node indices in an order where every producer precedes its consumers, captures of subgraphs
 * included. It is 0, 1, 2, ... unless the file is not sorted. There is one for each graph reachable
 * from the model's graph and functions; NULL for any other. */
const uint32_t *onnx_graph_order(const OnnxModel *m, const Onnx__GraphProto *g);
const uint32_t *onnx_function_order(const OnnxModel *m, const Onnx__FunctionProto *f);
/* False when the model's file or a side file was shortened while it was in use (its missing part
 * reads as zeros), with a message. Ask before the results are written out. */
bool onnx_model_is_intact(const OnnxModel *m, Diag *d);

/* What a TensorProto holds, whichever way it is stored. */
typedef struct OnnxTensor {
    int32_t data_type; /* ONNX__TENSOR_PROTO__DATA_TYPE__*, known and not UNDEFINED */
    int rank;
    const int64_t *dims; /* rank of them, none negative */
    int64_t n_elements;  /* product of the dims, 1 for a scalar */
    const void *bytes; /* little-endian, dense, row major; sub-byte types packed from the low bits.
                          NULL when n_bytes is 0 */
    size_t n_bytes;    /* ceil(n_elements * bits / 8), 0 for strings */
    const ProtobufCBinaryData *strings; /* n_elements of them when data_type is STRING */
} OnnxTensor;

/* Fills `out` and checks everything: type, rank, dims, that there is exactly one source of data and
 * that it has the length the dims ask for. bytes points into the model file, a side file or the
 * model's arena, is not aligned beyond what the file has, and lives as long as the model. `where`
 * names the node (or just the file) that the messages speak of. False, with a message, when bad.
 * External files are opened here, once each. Bytes of BOOL tensors are not normalised to 0 and 1.
 */
bool onnx_tensor_bytes(OnnxModel *m, const Onnx__TensorProto *t, SrcLoc where, Diag *d,
                       OnnxTensor *out);

/* "FLOAT", "INT8", ...; NULL for a number that is no data type. */
const char *onnx_type_name(int32_t data_type);

/* These bytes, views that onnx_tensor_bytes gave, are not needed for a while: see mapped_release.
 */
void onnx_model_release(const OnnxModel *m, const void *bytes, size_t n_bytes);

#endif
