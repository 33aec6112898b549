/* What a compiled model shows its caller, worked out once for the header and all renderers.
 *
 * Symbols of the API in table order: ARGUMENTs (KModule.symbols), DERIVEDs (dims that are
 * expressions over them), DATAs (dims known after the run). A dim d >= 0 is fixed, d < 0 is symbol
 * -1 - d, as in smelt_tensor_info. */
#ifndef SMELT_CODEGEN_INTERFACE_H
#define SMELT_CODEGEN_INTERFACE_H

#include "codegen/codegen.h"

enum { API_ARGUMENT, API_DERIVED, API_DATA }; /* smelt_symbol.kind */
enum { ARENA_ALIGN = 64 };
enum { TENSOR_ALLOCATED = 1, TENSOR_KEPT = 2 }; /* smelt_tensor_info.flags */

typedef struct ApiSymbol {
    const char *name; /* of the model, or the expression's text; unescaped */
    int kind;
    int64_t min, max;
    const KExpr *value; /* over KModule.symbols, and .sizes for DATA */
    const KExpr *most;  /* what symbols_for gives, over KModule.symbols: value, or DATA's bound */
} ApiSymbol;

typedef struct ApiTensor {
    const KIo *io;
    const char *c_name; /* parameter of the typed call */
    int64_t *dims;
    uint64_t max_bytes; /* UINT64_MAX where that does not fit */
    bool has_symbols;   /* some dim is not fixed */
    bool is_allocated;  /* an output whose memory comes from the allocation hook */
    bool has_data_dims; /* the typed call gets an array for its dims */
} ApiTensor;

/* How each call tests the processor; codegen/llvm/cpu.c has the reasons. */
typedef enum CpuCheck {
    CPU_NO_CHECK,    /* the baseline, or an architecture without an instruction for it */
    CPU_CHECK_STATE, /* only what costs nanoseconds: the registers that the system saves */
    CPU_CHECK_ALL    /* every feature */
} CpuCheck;

typedef struct Api Api;
struct Api {
    ApiSymbol *symbols;
    uint32_t n_symbols, n_arguments;
    const char **argument_names; /* parameters of the typed call */
    ApiTensor *inputs, *outputs;
    uint64_t
        arena_bytes; /* with alignment slack, for all accepted arguments; UINT64_MAX: too many */
    uint64_t *const_offset; /* of each constant in the weights */
    uint64_t weight_bytes;
    uint64_t model_hash;      /* smelt_model's: of the model file */
    const char *cpu_features; /* "avx2,fma": what smelt_cpu.def knows of the target's features */
    CpuCheck cpu_check;
    bool has_tiles;      /* kernels use a matrix unit */
    bool has_typed_call; /* nothing needs the allocation hook */
    uint64_t *node_macs; /* smelt_node.macs, one for each of KModule.nodes */
};

Api *api_create(Arena *a, const KModule *m, const Target *t);
/* False, with the reasons in d, when the interface needs something that renderers do not have:
 * strings, or results without a bound on their size. */
/* The user's C functions that the kernels call, once each: statements KS_EXTERN. */
const KStmt **api_foreign_calls(Arena *a, const KModule *m, size_t *n);
bool api_check(const Api *api, const KModule *m, Diag *d);
/* Does the compiled model use this feature of its target? All there are but a matrix unit, which
 * few kernels use and few processors have. */
bool api_needs_feature(const Api *api, const Target *t, const char *feature);
/* Bytes of a tensor's element as the caller sees it. */
uint32_t api_element_bytes(DType t, const Target *target);
/* For which sizes the model has code of its own, as text; n is 0 without versions. */
const char **api_versions(Arena *a, const KModule *m, uint32_t *n);
/* Number of floating-point operations of one run, as the kernels estimate it, at the largest
 * sizes. */
double api_flops(const KModule *m);
/* Is that the number of any run: are there no free sizes, and those found while running bounded? */
bool api_work_is_known(const KModule *m);

/* ---- header.c -------------------------------------------------------------------------------- */

/* The text of NAME.h: complete in itself, for C99 and C++11 and later. */
void header_write(StrBuf *out, Arena *a, const KModule *m, const Target *t,
                  const CodegenOptions *o);
/* The parameters of the typed call, without parentheses: what a definition must repeat. */
void header_parameters(StrBuf *out, const KModule *m, const Api *api, const CodegenOptions *o);
/* "model-name.1" as a C identifier: never empty, a keyword or reserved. */
const char *c_identifier(Arena *a, const char *name);

#endif
