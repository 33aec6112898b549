/* Sequences and optionals while a model is imported.
 *
 * Neither exists in the graph IR: their structure (how many elements, whether there is one) is
 * resolved while importing, and only the tensors in them become values. In scopes and in Call.in a
 * Compound stands for them, whose first member is a Value that no node may read. */
#ifndef SMELT_FRONTEND_ONNX_COMPOUND_H
#define SMELT_FRONTEND_ONNX_COMPOUND_H

#include "frontend/onnx/import.h"

enum { COMPOUND_MAX_ITEMS = 1024, UNROLL_MAX = 64 };

typedef struct List List; /* list.h */

typedef struct Compound {
    Value value; /* type VT_SEQUENCE or VT_OPTIONAL, no shape; never in a graph */
    DType dtype; /* of the tensors in it, DT_NONE when not known */
    Value **items;
    int n_items;      /* sequence: its tensors */
    List *list;       /* sequence of a length that running finds: it has no items */
    Value *payload;   /* optional: what it holds (a tensor or a sequence), NULL: nothing */
    Value *presence;  /* optional: a bool scalar, NULL when it is certain (then payload says) */
    bool of_sequence; /* optional: it holds, or would hold, a sequence */
} Compound;

/* NULL when v is a tensor (or NULL). */
Compound *compound_of(Value *v);
Compound *compound_sequence(Import *im, DType t, Value *const *items, int n);
/* payload NULL: empty. */
Compound *compound_optional(Import *im, DType t, Value *payload);
/* A certain or uncertain optional's presence, in graph g. */
Value *compound_presence(Graph *g, const Compound *k);
/* May this node's importer be given compounds? */
bool compound_is_taken(const OnnxOp *row);
/* All tensors in v, itself when it is one, in order; a presence that is not certain comes first. */
typedef VEC(Value *) ValueList;
void compound_flatten(Import *im, Value *v, ValueList *list);

/* cond ? a : b, where shapes may differ in dims but not in rank. */
Value *build_choice(Call *c, Value *cond, Value *a, Value *b);
/* The integers of v when they are known while importing. */
bool known_ints(Call *c, Value *v, int64_t *out, int cap, int *n);
/* The same of one integer or truth value. With `from_data` also a model input whose value the data
 * of `smelt run` tell (ImportOptions.data_value). */
bool known_int(Call *c, Value *v, bool from_data, int64_t *out);

/* The nodes of a subgraph attribute in graph g, the call's own or one below it, with these inputs;
 * its outputs. False after messages. */
bool import_body(Call *c, Graph *g, const char *attr, const Onnx__GraphProto *p, Value *const *in,
                 int n_in, Value **out);
/* The subgraph as a new graph whose outputs are not listed yet; NULL after messages. */
Graph *import_branch(Call *c, const char *attr, const Onnx__GraphProto *p, Value **out);
/* Lists v as output `name` of g. */
void import_list_output(Graph *g, SrcLoc loc, Value *v, const char *name);

/* An If whose branches give compounds: the nodes in a and b are in graphs of these. */
bool import_if_compound(Call *c, Graph *const g[2], Value **const out[2], int n);
/* A Loop that carries compounds: its iterations one after the other. */
bool import_loop_compound(Call *c);

/* A model input that is a sequence or an optional; NULL after a message. */
Value *import_compound_input(Import *im, Graph *g, const char *name, const Onnx__TypeProto *type,
                             SrcLoc loc);
/* A model input that is a tensor. */
Value *import_add_input(Import *im, Graph *g, const char *name, DType t, Shape shape);
/* A model output; where it is a compound, its tensors become outputs of g. */
void import_model_output(Import *im, Graph *g, Value *v, const char *name, SrcLoc loc);

#endif
