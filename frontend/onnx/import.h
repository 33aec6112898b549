/* What the parts of the ONNX importer share.
 *
 * import.c walks graphs and binds names, node.c turns one NodeProto into a Call and finds its row
 * in ops.def, op_*.c hold the importers: functions that get a Call with resolved inputs and checked
 * attributes, add nodes of the graph IR and leave the results in c->out. An importer brings an
 * older form up to the newest meaning; what has no operator of its own is decomposed.
 *
 * After a problem an importer says so and returns false. Its outputs are then `poison`, nodes that
 * read poison are checked but not built, and so one run finds everything that is wrong. */
#ifndef SMELT_FRONTEND_ONNX_IMPORT_H
#define SMELT_FRONTEND_ONNX_IMPORT_H

#include "frontend/frontend.h"
#include "frontend/onnx/model.h"
#include "ir/support/map.h"

enum { OPSET_MIN = 1, OPSET_MAX = 28 };

typedef struct Import Import;
typedef struct Scope Scope;
typedef struct Call Call;
typedef bool Importer(Call *c);

/* A row of ops.def or ops_microsoft.def. */
typedef struct OnnxOp {
    const char *type, *domain;
    int since, in_lo, in_hi, n_out;
    const char *attrs;
    Importer *import;
} OnnxOp;

/* A name's meaning: a value, or an initializer that becomes one when it is first used. */
typedef struct Binding {
    Value *value;
    const Onnx__TensorProto *tensor;
    const Onnx__SparseTensorProto *sparse;
} Binding;

/* An attribute after references to the caller's were followed. */
typedef struct NamedAttr {
    const char *name;
    const Onnx__AttributeProto *proto;
} NamedAttr;

/* The names visible to the nodes of one graph or of one inlined function body. */
struct Scope {
    Scope *parent; /* enclosing graph; NULL for main and for function bodies */
    Graph *graph;  /* where nodes go */
    StrMap *names; /* Binding */
    const char *path;
    int depth;                           /* of graphs and function bodies within each other */
    const Onnx__FunctionProto *function; /* whose body (or a graph in it) this is, or NULL */
    const NamedAttr *args;               /* attributes of the call */
    int n_args;
    Scope *around;    /* the scope of the node whose graph or function body this is */
    Value *iteration; /* a Loop's body: the number of the iteration; else NULL */
};

struct Import {
    OnnxModel *model;
    Assumptions *assumptions;
    Module *m;
    Diag *d;
    const ImportOptions *o;
    Arena *arena; /* scratch of the import */
    Value *poison;
    StrMap *rows;        /* "domain/operator type" -> its first row */
    StrMap *unsupported; /* operator in words -> Missing */
    StrMap *map_values;  /* address of the keys of a map -> its values */
    StrMap *bare_dims;   /* names that are a whole dim of some input */
    StrMap *zero_dims;   /* names of dims that may be 0: a decoder's past, empty data */
    bool *dim_used;      /* one for each override */
    int nchwc_block;     /* channels in a block of com.microsoft.nchwc; 0: not known yet */
    int64_t n_nodes;
    bool stopped; /* a limit was passed */
};

/* One ONNX node on its way in. */
struct Call {
    Import *im;
    Scope *scope;
    Module *m;
    Graph *g;
    const Onnx__NodeProto *proto;
    const OnnxOp *row;
    int64_t version; /* of the operator's domain, as the model imports it */
    SrcLoc loc;
    Value **in; /* NULL: absent */
    int n_in;
    Value **out; /* results, set by the importer; n_out of them, "" included */
    int n_out;
    NamedAttr *attrs;
    int n_attrs;
};

/* ---- import.c -------------------------------------------------------------------------------- */

/* The subgraph attribute as a new graph below the call's, NULL after messages. */
Graph *import_subgraph(Call *c, const char *attr, const Onnx__GraphProto *proto);
/* The nodes of a subgraph attribute with one input, which is x, and one output, in the call's own
 * graph; that output, or NULL after messages. */
Value *import_inline(Call *c, const char *attr, const Onnx__GraphProto *proto, Value *x);
/* The value of this name as seen from the scope: NULL when it is not known, or known as an absent
 * argument of a function; poison for an initializer that could not be read. */
Value *scope_find(Import *im, Scope *s, const char *name, SrcLoc loc, bool *known);
void scope_bind(Import *im, Scope *s, const char *name, Value *v);
Scope *scope_create(Import *im, Scope *parent, Graph *g, const char *path);

/* ---- op_custom.c ----------------------------------------------------------------------------- */

/* The call as one of C functions that the user declared. */
bool import_custom(Call *c, const OpFileOp *op);

/* ---- node.c ---------------------------------------------------------------------------------- */

/* Imports nodes in the given order (NULL: as they are), without those marked in skip (or NULL). */
void import_nodes(Import *im, Scope *s, Onnx__NodeProto **nodes, size_t n, const uint32_t *order,
                  const bool *skip);
/* Says which operators were missing, once each with its count. */
void report_unsupported(Import *im);
/* How the rows of an operator are found in Import.rows. */
const char *onnx_row_key(Arena *a, const char *domain, const char *type);
extern const OnnxOp onnx_ops[];
extern const int n_onnx_ops;

/* ---- call.c: what importers work with -------------------------------------------------------- */

/* Attributes of the call; the default when absent. */
const Onnx__AttributeProto *call_attr(const Call *c, const char *name);
int64_t call_int(const Call *c, const char *name, int64_t otherwise);
double call_float(const Call *c, const char *name, double otherwise);
const char *call_string(const Call *c, const char *name, const char *otherwise);
/* Length, -1 when absent. */
int call_ints(const Call *c, const char *name, const int64_t **v);
/* A string attribute's bytes as text. */
const char *intern_data(ProtobufCBinaryData s);
Value *call_in(const Call *c, int i); /* NULL when absent */
/* A map's name stands for its keys; these are the values. NULL when input i is no map. */
Value *call_map_values(const Call *c, int i);
/* Is this output named, that is wanted by anyone? */
bool call_wants(const Call *c, int output);

/* Adds a node; its outputs are provisionally typed. */
Node *call_node(Call *c, OpId op, Value *const *in, int n_in, int n_out);
/* For one output: n_in Value * follow, NULL where absent. */
Value *call_op(Call *c, OpId op, int n_in, ...);
/* v with elements of dtype t: itself when it has them already; NULL stays NULL. */
Value *call_cast(Call *c, Value *v, DType t);
/* Copies the call's attributes except those named in `but` ("axes axis"). */
bool call_copy_attrs(Call *c, Node *n, const char *but);
/* The node's outputs become the call's; unnamed ones are dropped from the node. */
bool call_finish(Call *c, Node *n);
bool call_result(Call *c, Value *v); /* the call's only output */
/* The operator of the row's own name with these inputs and the call's outputs and attributes. */
bool call_same(Call *c, Value *const *in, int n_in, const char *but);
/* The old form of an input: ints attribute `attr` as a constant; NULL when absent. */
Value *call_ints_input(Call *c, const char *attr);
/* A scalar, or a list, of i64 and of a float type. */
Value *call_i64(Call *c, int64_t v);
Value *call_list(Call *c, const int64_t *v, int n);
Value *call_scalar(Call *c, DType t, double v);
/* v's element type, f32 while it is not known. */
DType call_float_type(const Value *v);

/* ---- types.c --------------------------------------------------------------------------------- */

/* The dtype an output will have, as far as it follows from the inputs' without shapes; DT_NONE when
 * it does not. infer_shapes has the last word; importers use it to type constants they add. */
DType provisional_dtype(const Node *n, int output);
/* DT_NONE after saying that smelt lacks this element type. */
DType import_dtype(Import *im, int64_t onnx_type, SrcLoc loc, const char *what);

/* ---- constant.c ------------------------------------------------------------------------------ */

/* A tensor of the file as a constant of g, NULL after a message. */
Value *import_tensor(Import *im, Graph *g, const char *name, const Onnx__TensorProto *t,
                     SrcLoc loc);
Value *import_sparse(Import *im, Graph *g, const char *name, const Onnx__SparseTensorProto *t,
                     SrcLoc loc);

/* ---- dims.c ---------------------------------------------------------------------------------- */

/* Collects the names that stand alone as a dim of some input, before shapes are made. */
void import_bare_dims(Import *im, const Onnx__GraphProto *g);
/* Into zero_dims: names of dims, not the first, that two float inputs of rank 3 or more share,
 * where another input is a matrix of integers. The first call of a decoder has an empty past. */
void import_past_dims(Import *im, const Onnx__GraphProto *g);
/* Into zero_dims: what `smelt run` has no elements along, in the data of input number `index`. For
 * all inputs before the shape of any is made, since a symbol's range goes into every expression. */
void import_empty_dims(Import *im, int index, const Onnx__ValueInfoProto *v);
/* The shape that --shape gives to an input, if it does. */
bool import_given_shape(const Import *im, const char *input, int *rank, int64_t *dims);
/* The shape of a model input under the overrides. */
bool import_shape(Import *im, int index, const char *input, const Onnx__TensorShapeProto *p,
                  Shape *out);
/* Complains about overrides that nothing in the model answers to. */
void check_dim_overrides(Import *im);

/* Importers that the tables name. */
#define ONNX(type, domain, since, lo, hi, outs, attrs, importer) Importer importer;
#include "frontend/onnx/ops.def"
#include "frontend/onnx/ops_microsoft.def"
#undef ONNX

#endif
