/* What the files behind model.h share: the handle itself and the steps of opening it. */
#ifndef SMELT_FRONTEND_ONNX_MODEL_INTERNAL_H
#define SMELT_FRONTEND_ONNX_MODEL_INTERNAL_H

#include "frontend/mapped.h"
#include "frontend/onnx/model.h"
#include "ir/support/map.h"

struct OnnxModel {
    Arena *arena;
    MappedFile file; /* zero when the bytes are the caller's */
    const char *path;
    const char *folder; /* external data lies below it; NULL: there may be none */
    int folder_fd;      /* -1 until the first external tensor */
    const Onnx__ModelProto *proto;
    StrMap *side_files; /* location -> SideFile, see external.c */
    StrMap *decoded;    /* TensorProto pointer -> bytes decoded from a typed field */
    StrMap *orders;     /* GraphProto or FunctionProto pointer -> uint32_t *order */
    StrMap *functions;  /* function_key() -> FunctionProto */
    StrMap *opsets;     /* domain -> OperatorSetIdProto */
    Assumptions *kept;  /* see onnx_model_keep */
    OnnxModel *library; /* another model whose functions count as this one's, or NULL */
};

/* A SrcLoc that names only the file. */
SrcLoc onnx_model_loc(const OnnxModel *m);

/* Maps keyed by a pointer's value. */
void *ptrmap_get(const StrMap *map, const void *key);
void ptrmap_put(Arena *a, StrMap *map, const void *key, void *value);

/* "" for "ai.onnx" and NULL, else the domain itself. */
const char *onnx_domain(const char *domain);

/* check_model.c: versions, imports, functions and all graphs; fills orders, functions, opsets. */
bool onnx_check_model(OnnxModel *m, Diag *d);
/* check_graph.c: names, captures and cycles of the nodes of a graph (with all its subgraphs) or of
 * a function, whose path in messages is given ("main", "function f"); fills m->orders. Scratch is
 * reset by the caller. */
bool onnx_check_graph(OnnxModel *m, Arena *scratch, const Onnx__GraphProto *g, const char *path,
                      Diag *d);
bool onnx_check_function(OnnxModel *m, Arena *scratch, const Onnx__FunctionProto *f,
                         const char *path, Diag *d);

/* check_nodes.c: one node by itself: operator name, attributes. */
bool onnx_check_node(OnnxModel *m, Arena *scratch, const Onnx__NodeProto *n, SrcLoc where,
                     bool in_function, Diag *d);

/* external.c: the bytes of a tensor stored beside the model; n_bytes is what its dims ask for. */
bool external_tensor_bytes(OnnxModel *m, const Onnx__TensorProto *t, size_t n_bytes, SrcLoc where,
                           Diag *d, const unsigned char **bytes);
void external_close(OnnxModel *m);
bool external_is_intact(const OnnxModel *m, Diag *d);

/* For messages: the tensor's name, "" when it has none. */
static inline const char *tensor_name(const Onnx__TensorProto *t) {
    return t->name ? t->name : "";
}

#endif
