/* Graph IR: tensors and operators in ONNX's newest opset, single assignment.
 *
 * A Module owns one main Graph; control-flow nodes own subgraphs through graph attributes
 * (then_branch, body). Nodes lie in program order: definitions before uses, checked by the
 * verifier. Nothing but the functions below changes a graph. Dims are i64 expressions (kernel.h)
 * over symbols; after infer_shapes every value has a dtype and a rank, and each dim is an
 * expression, never "unknown". Small integer vectors carry their contents as expressions too
 * (Value.content), which is how shape arithmetic (Shape, Gather, Concat, ...) reaches Reshape. */
#ifndef SMELT_IR_GRAPH_H
#define SMELT_IR_GRAPH_H

#include "ir/dtype.h"
#include "ir/kernel.h"
#include "ir/ops.h"
#include "ir/support/diag.h"
#include "ir/support/map.h"
#include "ir/target.h"

enum { MAX_RANK = 16, MAX_CONTENT = 1024 };

typedef struct Graph Graph;
typedef struct Node Node;
typedef struct Value Value;
typedef struct Module Module;

typedef struct Shape {
    int rank; /* -1: not inferred yet */
    const KExpr **dims;
} Shape;

typedef enum { VT_TENSOR, VT_SEQUENCE, VT_OPTIONAL } ValueType;

/* Element `index` of a tensor, wanted while running as a size: its computed symbol. */
typedef struct ValueRead {
    KVar *symbol;
    int64_t index;
} ValueRead;

/* One tensor. A value without def is a graph input or (data != NULL) a constant. */
struct Value {
    uint32_t id; /* dense in the module, for side tables and printing */
    DType dtype;
    ValueType type;
    Shape shape;
    const char *name; /* interned source name, "" when none */
    Graph *graph;     /* where it is defined; constants belong to the graph that holds them */
    Node *def;
    uint32_t def_index;
    VEC(Node *) users; /* one entry per use, in no meaningful order, kept by node_set_input() */
    VEC(int32_t) user_input; /* graph.c's own: which input of users[i] this use is */
    bool is_output;          /* listed in its graph's outputs */
    uint8_t spare_axes; /* leading axes of length 1 that a branch of an If had not: what reads it
                         * must not notice them (infer.c) */
    bool has_heap_text;      /* strings whose bytes are made while running, without a bound */
    const void *data; /* constant bytes, dense row-major, a view that outlives the module; or NULL.
                       * Views into a model file have any alignment: read them with memcpy. */
    uint64_t data_bytes;
    const KExpr **content; /* i64 expressions of all elements, or NULL; shape_count() of them */
    VEC(ValueRead) reads;  /* elements that shapes depend on; they keep the value alive */
    KTensor *tensor;       /* set by the define pass */
};

typedef enum {
    AT_NONE,
    AT_INT,
    AT_FLOAT,
    AT_STRING,
    AT_INTS,
    AT_FLOATS,
    AT_STRINGS,
    AT_TENSOR,
    AT_GRAPH
} AttrKind;

typedef struct Attr {
    const char *name; /* interned, ONNX's */
    AttrKind kind;
    uint32_t n; /* elements of the list kinds */
    int64_t i;
    double f;
    const char *s;
    const int64_t *ints;
    const double *floats;
    const char *const *strings;
    Value *tensor; /* a constant value without users */
    Graph *graph;
} Attr;

struct Node {
    uint32_t id; /* dense in the module */
    OpId op;
    Graph *graph;
    Value **in,
        **out; /* in[i] == NULL: optional input absent; out[i] == NULL: optional output unused */
    int32_t n_in, n_out;
    int32_t in_cap, *use_index; /* graph.c's own: place of input i in in[i]->users */
    VEC(Attr) attrs;            /* sorted by name */
    VEC(const KExpr *) rules;   /* over symbols: while running BAD_DATA or (over the
                                   caller's alone) BAD_DIM where one is false */
    Node *prev, *next;
    SrcLoc loc; /* model node this came from; kept by every rewrite */
};

struct Graph {
    Module *module;
    Graph *parent; /* graph of the owning node, NULL for main */
    Node *owner;
    const char *name;
    VEC(Value *) inputs;
    VEC(Value *) outputs;
    Node *first, *last;
};

/* Facts about a module that passes need or keep. */
enum {
    FACT_NONE = 0,
    FACT_SHAPES = 1,
    FACT_LAYOUTS = 2,
    FACT_DEFS = 4,
    FACT_KERNELS = 8,
    FACT_MEMORY = 16,
    FACT_ARITHMETIC = 32 /* no primitive of class MATH is left */
};

typedef struct DefProgram DefProgram;

/* An input or output of the source model, which may be several tensors of main's interface: the
 * elements of a sequence NAME are NAME.0, NAME.1, ... (but see is_list); an optional holds a tensor
 * NAME or a sequence. */
typedef enum { GROUP_TENSOR, GROUP_SEQUENCE, GROUP_OPTIONAL, GROUP_OPTIONAL_SEQUENCE } GroupKind;
typedef enum {
    GROUP_PRESENT,
    GROUP_ABSENT,
    GROUP_ASKED /* the first of its tensors is the bool NAME.present */
} GroupPresence;
typedef struct IoGroup {
    const char *name;
    GroupKind kind;
    GroupPresence presence; /* of an optional */
    DType dtype;            /* of its elements, DT_NONE when not known */
    bool is_list;           /* a sequence of a length that running finds: its last two tensors are
                             * NAME.values, all elements one behind another, and NAME.shapes
                             * [length, rank] */
    uint32_t first, n; /* of main's inputs or outputs */
} IoGroup;

/* A version of the model for sizes that callers may ask for (--dim batch=1,8): a module of its own,
 * made of the same file with these dims fixed, in the memory and over the expressions and symbols
 * of the general module. lower_kernels makes one program of all of them. */
typedef struct Version {
    const char *name;  /* batch=1, seq=128 */
    const KExpr *when; /* over the general module's symbols: a call is for it */
    Module *m;
} Version;

struct Module {
    Arena *arena, *scratch;
    KCtx *k;
    Diag *diag;
    const Target *target;
    Graph *main;
    const char *name; /* symbol prefix */
    const char *file;
    uint32_t n_values, n_nodes;
    VEC(IoGroup) in_groups, out_groups; /* of the whole interface; empty for IR text */
    VEC(KVar *) symbols;    /* API symbols in order of first appearance, then computed ones */
    StrMap *symbol_by_name; /* the caller's symbols */
    uint32_t facts;
    int opt; /* -O level */
    bool fast_math, winograd;
    DType precision; /* of the factors of f32 contractions: DT_BF16, DT_F16; DT_NONE: as they are */
    int64_t cache_places; /* of the buffers in which a decoder's past grows; 0: it is copied */
    bool blas; /* contractions that are matrix products call a BLAS library */
    uint8_t model_hash[32];
    Module *general;        /* of a version: the module for all sizes; else NULL */
    VEC(Version) versions;  /* of the general one */
    bool only_versions;     /* other sizes than those of the versions are refused */
    uint32_t first_slot;    /* slots of the size table before it are other versions' */
    VEC(Value *) read_values; /* all that have reads */
    KBuf
        *size_table; /* i64[]: sizes found while running, by slot; created with the first of them */
    /* Runs a kernel at compile time on these buffers (one per parameter, with their element
     * counts); the driver installs compiled code here for large ones. NULL, or false: interpret. */
    bool (*run_kernel)(void *user, const Kernel *kn, void *const *bufs, const int64_t *n_elems);
    void *run_kernel_user;
    const struct Tuner *tuner; /* schedules by measurement, see passes/tune.h; NULL: by the model */
    /* Called by infer_graph on every node it inferred: may replace its outputs by constants. Or
     * NULL. */
    void (*fold)(Module *m, Node *n);
    /* Shapes are inferred under an assumption, which may turn out wrong (the dims of what a loop
     * carries): outputs keep what is known of them as their data, and nothing is replaced. */
    bool on_trial;
    DefProgram *defs;               /* set by the define pass */
    double macs;                    /* multiply-adds of the direct algorithms; likewise */
    KModule *kmod;                  /* set by the lower pass */
    void (*on_destroy)(void *user); /* gives back what constants view (the mapped model), or NULL */
    void *on_destroy_user;
    /* constant bytes that are not needed for a while may leave memory; NULL: they stay */
    void (*release)(const Module *m, const void *bytes, uint64_t n_bytes);
};

Module *module_create(Diag *diag, const Target *target);
void module_destroy(Module *m);
/* Another version of the general module, empty; it lives as long as that one. */
Module *module_add_version(Module *general, const char *name, const KExpr *when);
/* The version's computed symbols get the slots of the size table from `first` on; returns the first
 * free one behind them. To be called before they are in definitions. */
uint32_t module_place_sizes(Module *m, uint32_t first);
/* How many slots of the size table are before the end of m's. */
uint32_t module_end_of_sizes(const Module *m);

/* The symbol of this name (the caller's, created with range [1, 2^31-1] when new). */
KVar *module_symbol(Module *m, const char *name);
/* A fresh symbol for a size found while running, 0 <= size <= bound (constant hi of the bound). */
KVar *module_computed_symbol(Module *m, const char *name, const KExpr *bound);
/* The same as a dim. `old` is the dim that was inferred before, or NULL: a computed symbol with
 * this bound stays what it is. */
const KExpr *module_computed_dim(Module *m, const KExpr *old, const char *name, const KExpr *bound);
/* e, or where it is long and computed the symbol that stands for it, one for equal expressions.
 * Dims that follow from dims found while running stay short so, however many nodes are on the
 * way. */
const KExpr *module_short_size(Module *m, const KExpr *e, const char *name);
/* Guesses for the caller's symbols (KVar.guess) from the shapes of the inputs that they are in. */
void module_guess_sizes(Module *m);

Graph *graph_create(Module *m, Graph *parent, const char *name);
Value *graph_add_input(Graph *g, const char *name, DType t, Shape shape);
/* A constant; data is a view. */
Value *graph_add_const(Graph *g, const char *name, DType t, Shape shape, const void *data,
                       uint64_t data_bytes);
/* Constants from host values; the bytes are copied. */
Value *graph_const_ints(Graph *g, const char *name, const int64_t *v, int n);
Value *graph_const_int(Graph *g, int64_t v);            /* rank 0 i64 */
Value *graph_const_scalar(Graph *g, DType t, double v); /* rank 0 */
/* Zeros, or empty strings, of the dims of `like`. Dims that are no numbers, or with which there
 * would be too many elements for a constant, are 0. */
Value *graph_const_zeros(Graph *g, DType t, Shape like);
/* Lists v, a value of g that is not listed yet, as the next output. */
void graph_add_output(Graph *g, Value *v);
/* Appends (before == NULL) or inserts a node with n_out fresh values. */
Node *graph_add_node(Graph *g, Node *before, OpId op, Value *const *in, int n_in, int n_out,
                     SrcLoc loc);
/* One-output convenience: n_in inputs (Value *, NULL where absent) follow; returns out[0]. */
Value *graph_op(Graph *g, Node *before, OpId op, SrcLoc loc, int n_in, ...);
void node_set_input(Node *n, int i, Value *v);
void node_add_input(Node *n, Value *v);
/* All uses of v by nodes become uses of by. If v is an output of its graph, by takes its place and
 * its name, unless by is a graph input, an output already or of another graph: then v stays the
 * output, which is what an Identity node is for. True when v has no uses left. */
bool value_replace_uses(Value *v, Value *by);
/* Removes a node whose outputs have no uses. */
void graph_drop_node(Node *n);
/* Moves all nodes of a subgraph without inputs before `at`, in the enclosing graph; its outputs
 * become plain values there. The node that owned it has to go. */
void graph_move_into(Graph *sub, Node *at);
/* Removes every node without used outputs, subgraphs included; true when something went. */
bool graph_drop_dead(Graph *g);
/* Calls fn for g and every graph below it, outermost first. */
void graph_visit(Graph *g, void (*fn)(Graph *g, void *user), void *user);

bool value_is_const(const Value *v);
bool value_has_uses(const Value *v); /* nodes or graph output */
/* i-th element of a constant as integer / double; any numeric dtype. */
int64_t value_const_int(const Value *v, int64_t i);
double value_const_float(const Value *v, int64_t i);
/* i-th element as an index expression: constant data or tracked content; NULL when not known. */
const KExpr *value_content(Module *m, const Value *v, int64_t i);
/* i-th element of an integer or bool tensor as an index expression; where it is not known it
 * becomes a computed symbol that is read from the data while running. */
const KExpr *value_read(Module *m, Value *v, int64_t i);
/* The same for any number, in the tensor's dtype. */
const KExpr *value_read_number(Module *m, Value *v, int64_t i);
/* All elements are known as expressions / as constants. */
bool value_has_content(const Value *v);
bool value_ints(Module *m, const Value *v, int64_t *out, int cap,
                int *n); /* all constant: copies them */

/* Constant strings: see strings.c for how they lie in data. */
typedef struct ConstString {
    const char *bytes; /* not ended by a zero */
    uint64_t n_bytes;
} ConstString;
/* A constant of as many strings as the shape has elements; the bytes are copied. */
Value *graph_const_strings(Graph *g, const char *name, Shape shape, const ConstString *s);
/* i-th element of a constant string tensor. */
ConstString value_const_string(const Value *v, int64_t i);
/* The same for bare data of n strings: packing, all of its bytes, element i. */
const void *strings_pack(Arena *a, const ConstString *s, int64_t n, uint64_t *n_bytes);
uint64_t strings_bytes(const void *data, int64_t n);
ConstString strings_get(const void *data, int64_t n, int64_t i);

/* Attributes. The getters return the default when the attribute is absent. */
const Attr *node_attr(const Node *n, const char *name);
int64_t attr_int(const Node *n, const char *name, int64_t otherwise);
double attr_float(const Node *n, const char *name, double otherwise);
const char *attr_string(const Node *n, const char *name, const char *otherwise);
Graph *attr_graph(const Node *n, const char *name);
/* List attribute's length (0 when absent), elements in *v. */
int attr_ints(const Node *n, const char *name, const int64_t **v);
int attr_floats(const Node *n, const char *name, const double **v);
void node_set_attr(Node *n, Attr a); /* copies lists into the module arena */
void node_set_int(Node *n, const char *name, int64_t v);
void node_set_float(Node *n, const char *name, double v);
void node_set_string(Node *n, const char *name, const char *v);
void node_set_ints(Node *n, const char *name, const int64_t *v, int count);
void node_set_graph(Node *n, const char *name, Graph *g);
void node_drop_attr(Node *n, const char *name);

/* ---- shapes (shape.c) ------------------------------------------------------------------------ */

Shape shape_make(Arena *a, int rank); /* dims to be filled in */
Shape shape_ints(KCtx *k, const int64_t *dims, int rank);
Shape shape_copy(Arena *a, Shape s);
bool shape_is_const(Shape s);
bool shape_dim_int(Shape s, int i, int64_t *value);
const KExpr *shape_count(KCtx *k, Shape s); /* product of dims */
bool shape_count_int(Shape s, int64_t *n);  /* constant product, overflow-safe */
bool shape_equal(Shape a, Shape b);
/* The length of an axis that two tensors share: of a constant and a symbol the constant, with which
 * kernels are fastest. */
const KExpr *dim_shared(const KExpr *a, const KExpr *b);
/* numpy broadcasting; false when two constant dims clash. Two different symbols are assumed equal
 * to the first (checked by nobody: ONNX requires it). */
bool shape_broadcast(KCtx *k, Shape a, Shape b, Shape *out);
/* "[1, 3, h, w/2]" for messages. */
const char *shape_text(Arena *a, Shape s);
/* Negative axis made non-negative; -1 when outside the rank. */
int shape_axis(int64_t axis, int rank);

#endif
