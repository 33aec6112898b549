/* smelt.h: what a compiled model looks like to its host, and the small library that serves it.
 *
 * `smelt net.onnx` writes libnet.a and net.h. Two ways lead in:
 *
 *   the typed call     int net_run(const float x[], float y[], void *arena);      declared in net.h
 *   the generic call   net_model.run(&call);                                      declared below
 *
 * The typed call needs neither this file nor libsmelt_runtime. Its parameters, in this order:
 *   1. int64_t D           for each symbol of kind ARGUMENT, in table order (models with free dims)
 *   2. const T in[N]       for each input, in the model's order; [] where the dims are symbolic
 *   3. T out[N]            for each output, in the model's order; if it has dims of kind DATA
 *                          (known only after the run: NonZero, NonMaxSuppression), followed by
 *                          int64_t out_dims[RANK], which receives all of its dims. The buffer
 *                          must hold the largest result for these arguments (see `symbols_for`)
 *   4. void *arena         scratch memory, any alignment, contents do not matter; net.h defines
 *                          NET_ARENA_BYTES. May be NULL where that is 0
 *   5. size_t arena_bytes  only if there are symbols of kind ARGUMENT
 *   6. const void *weights only if compiled with --weights=file; see smelt_weights_open
 * T is the ctype of the dtype in smelt_abi.def. It runs on the calling thread. Models that need the
 * allocator, or whose inputs or outputs are not tensors, have no typed call.
 *
 * Both calls are reentrant: one model may run on any number of threads, each with its own arena and
 * outputs. They allocate, lock, print and open nothing, need little stack (NET_STACK_BYTES in
 * net.h) and leave the floating-point environment as it was; results hold for rounding to nearest.
 * Outputs must not overlap inputs, the arena or each other. Everything wrong with a call is a
 * status.
 *
 * Versions: structs that carry struct_size may grow at their end. A host tests `abi` against
 * SMELT_ABI_VERSION, then struct_size before it reads a field newer than version 1. All strings are
 * UTF-8 and may hold anything the model's author wrote: escape before printing. */
#ifndef SMELT_H
#define SMELT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMELT_ABI_VERSION   1u
#define SMELT_WEIGHT_ALIGN  64u                  /* of the weights, in memory and in their file */
#define SMELT_SHARED_SYMBOL "smelt_shared_model" /* the smelt_model of a --emit=shared library */

typedef enum smelt_status {
#define SMELT_STATUS(name, value, text) SMELT_##name = value,
#include "smelt_abi.def"
    SMELT_STATUS_MAX = 0x7fffffff /* keeps the enum an int */
} smelt_status;

typedef enum smelt_dtype {
#define SMELT_DTYPE(name, value, bits, ctype) SMELT_##name = value,
#include "smelt_abi.def"
    SMELT_DTYPE_MAX = 0x7fffffff
} smelt_dtype;

#ifndef SMELT_MODEL_DECLARED /* a model's own header declares it too, to stand alone */
#define SMELT_MODEL_DECLARED
typedef struct smelt_model smelt_model;
#endif
struct smelt_call;

/* smelt_range_fn     does the tiles begin..end-1 of a parallel loop
 * smelt_parallel_fn  calls fn on ranges that cover 0..n-1, each index once, on any threads and in
 *                    any order, and returns when all are done and the caller can see their writes
 * smelt_node_fn      is told the index of a node, on the thread that runs the model
 * smelt_cancel_fn    returns non-zero to end the run; asked before each node
 * smelt_alloc_fn     returns n_bytes of memory aligned as by malloc, or NULL
 * smelt_symbols_fn   see smelt_model.symbols_for
 * smelt_arena_fn     see smelt_model.arena_bytes_for
 * smelt_run_fn       see smelt_model.run */
#define SMELT_FUNCTION(name, ret, params) typedef ret name params;
#include "smelt_abi.def"

/* One element of a string tensor: n_bytes bytes, not ended by a zero. */
typedef struct smelt_string {
    const char *bytes;
    size_t n_bytes;
} smelt_string;

enum { /* smelt_tensor_info.kind */
       SMELT_KIND_TENSOR = 0
};

enum { /* smelt_tensor_info.flags */
       /* The size has no bound: outputs[i] must be NULL on entry and receives memory from
        * hooks->alloc that the host gives back with hooks->free. The bytes of strings
        * lie in another output, NAME.text. */
       SMELT_TENSOR_ALLOCATED = 1,
       /* An output whose contents before the call count: a call reads some of them, and changes or
        * adds others (smelt --cache). */
       SMELT_TENSOR_KEPT = 2
};

/* An input or an output. Data are dense, in row-major order, with no alignment asked for beyond the
 * element's own. */
typedef struct smelt_tensor_info {
    const char *name;
    const int64_t *dims; /* rank of them: d >= 0 is fixed, d < 0 is the value of symbol -1 - d */
    uint64_t max_bytes;  /* with every symbol at its max; UINT64_MAX where that does not fit */
    uint32_t dtype;      /* a smelt_dtype */
    uint32_t rank;
    uint32_t kind;
    uint32_t flags;
} smelt_tensor_info;

enum { /* smelt_symbol.kind; a table lists all ARGUMENTs, then all DERIVEDs, then all DATAs */
       SMELT_SYMBOL_ARGUMENT = 0, /* the caller chooses it: "batch" */
       SMELT_SYMBOL_DERIVED = 1,  /* follows from the arguments: "2*seq+1" */
       SMELT_SYMBOL_DATA = 2      /* follows from the data, known after the run */
};

/* A dimension that is not fixed. For an ARGUMENT, min and max are what the model accepts; they are
 * such that no size computed from accepted values overflows. */
typedef struct smelt_symbol {
    const char *name;
    int64_t min, max;
    uint32_t kind;
    uint32_t reserved;
} smelt_symbol;

/* A step of the model: one fused group of operators. name: the nodes it came from, comma separated;
 * op: their operator types likewise; macs: multiply-adds with every symbol at its max, an estimate
 * in which two other float operations count as one; loops count once. */
typedef struct smelt_node {
    const char *name;
    const char *op;
    uint64_t macs;
} smelt_node;

/* What a host may lend to a run; any pointer may be NULL. pool, user, heap: handed back as given.
 * alloc and free serve what has no bound on its size, outputs that are SMELT_TENSOR_ALLOCATED among
 * it, nothing else. */
typedef struct smelt_hooks {
    uint32_t struct_size; /* sizeof(smelt_hooks) */
    uint32_t reserved;
    void *pool;
    smelt_parallel_fn *parallel_for; /* NULL: the calling thread does everything */
    void *user;
    smelt_node_fn *before_node;
    smelt_node_fn *after_node;
    smelt_cancel_fn *cancel;
    void *heap;
    smelt_alloc_fn *alloc;
    smelt_free_fn *free;
} smelt_hooks;

/* One generic call. The counts must be the model's. */
typedef struct smelt_call {
    uint32_t struct_size; /* sizeof(smelt_call) */
    uint32_t n_inputs;
    uint32_t n_outputs;
    uint32_t n_symbols;
    const void *const *inputs; /* n_inputs pointers; NULL only for tensors without elements */
    void **outputs;            /* n_outputs pointers; written only for SMELT_TENSOR_ALLOCATED */
    int64_t *symbols;          /* n_symbols values: ARGUMENTs are read, the others are written */
    void *arena;
    size_t arena_bytes;
    const void *weights;      /* of a model compiled with --weights=file; otherwise ignored */
    const smelt_hooks *hooks; /* NULL: none */
} smelt_call;

/* The description of a compiled model; read-only data of its library. */
struct smelt_model {
    uint32_t struct_size;     /* of the compiler that wrote it */
    uint32_t abi;             /* SMELT_ABI_VERSION of that compiler */
    const char *name;         /* the symbol prefix */
    const char *compiler;     /* "smelt 0.1.0" */
    const char *target;       /* the triple it was compiled for */
    const char *cpu;          /* --cpu */
    const char *cpu_features; /* what the processor must have: "avx2,fma"; see smelt_cpu_supports */
    uint64_t model_hash;      /* of everything that decides this library: model, options, version */
    uint32_t n_inputs;
    uint32_t n_outputs;
    uint32_t n_symbols;
    uint32_t n_nodes;
    const smelt_tensor_info *inputs;
    const smelt_tensor_info *outputs;
    const smelt_symbol *symbols;
    const smelt_node *nodes;
    uint64_t weight_bytes;
    uint64_t weight_hash; /* XXH64, seed 0, of the weights in their file; 0 if they are embedded */
    const void *weights;  /* embedded weights; NULL if they come from a file or there are none */
    uint64_t arena_bytes; /* enough for all accepted arguments; UINT64_MAX if that does not fit */

    /* Reads the ARGUMENTs of symbols[n_symbols], checks them, and writes the rest: DERIVEDs
     * exactly, DATAs as the largest value possible with these arguments. So the sizes of all inputs
     * and outputs are known before a run. OK, BAD_POINTER or BAD_DIM. NULL without symbols. */
    smelt_symbols_fn *symbols_for;

    /* Writes the arena size for these ARGUMENTs (it may be less than arena_bytes). `symbols` may be
     * NULL if there are none. OK, BAD_POINTER or BAD_DIM. Never NULL. */
    smelt_arena_fn *arena_bytes_for;

    /* Runs the model. Checks, in this order: the call and its counts (BAD_CALL), the processor
     * (BAD_CPU), symbols (BAD_DIM), inputs and outputs (BAD_POINTER), the arena (SHORT_ARENA, or
     * BAD_POINTER if NULL), weights (BAD_WEIGHTS). Never NULL. */
    smelt_run_fn *run;
};

/* ---- libsmelt_runtime: optional helpers; a model does not need them -------------------------- */

/* The text of a status; never NULL, also for numbers that are none. */
const char *smelt_status_string(int status);

/* The name of a dtype ("F32"), or "?"; its bits per element in memory, or 0. */
const char *smelt_dtype_name(uint32_t dtype);
uint32_t smelt_dtype_bits(uint32_t dtype);

/* A model tests the processor in every call, but no further than is fast compared to its work: see
 * net.h. A host that may run on lesser processors than were compiled for asks this once:
 * smelt_cpu_supports(net_model.cpu_features, NULL).
 *
 * Whether the processor and the operating system allow every feature of a comma separated list in
 * LLVM's spelling ("avx2,fma"; a leading '+' is ignored). NULL and "" are true; a name that the
 * runtime does not know on this architecture counts as missing. If `missing` is not NULL it
 * receives where the first missing name starts, or NULL. */
int smelt_cpu_supports(const char *features, const char **missing);

/* Finds the ARGUMENTs of symbols[model->n_symbols] in the dims of the inputs (dims[i]: rank of
 * input i), checks every dim, and fills the other symbols as symbols_for does. Symbols that no
 * input has must hold their value already. OK, BAD_CALL or BAD_DIM; *bad_input (if not NULL)
 * receives the input that BAD_DIM is about, or n_inputs if it is about none. */
int smelt_bind_dims(const smelt_model *model, const int64_t *const *dims, int64_t *symbols,
                    uint32_t *bad_input);

/* Writes the info->rank dims of a tensor under these symbols, and returns its size in bytes, or
 * UINT64_MAX if that does not fit. `dims` may be NULL; `symbols` too if the dims are fixed. */
uint64_t smelt_tensor_dims(const smelt_tensor_info *info, const int64_t *symbols, int64_t *dims);

/* A pool of n_threads - 1 threads and the caller, for hooks.pool and hooks.parallel_for.
 * n_threads == 0: one per processor that the calling thread may use; of more than those only as
 * many work as there are. OK, BAD_CALL, NO_MEMORY or NO_THREADS. Between loops its threads spin for
 * some 300 microseconds, then sleep. Each thread begins with a range of its own and helps the
 * others when it is done; a loop inside of a loop, or from a second thread while one is running,
 * runs on its caller alone. Floating-point environments are not carried over. */
typedef struct smelt_pool smelt_pool;
int smelt_pool_create(uint32_t n_threads, smelt_pool **pool);
void smelt_pool_destroy(smelt_pool *pool); /* no loop may be running; NULL is fine */
uint32_t smelt_pool_threads(const smelt_pool *pool);
void smelt_pool_parallel_for(void *pool, smelt_range_fn *fn, void *ctx, int64_t n);

/* Maps the weights file that `smelt --weights=file` wrote, read-only, and checks that it is this
 * model's and undamaged (all of it is read once). smelt_weights_data gives the pointer for
 * smelt_call.weights and for the typed call. OK, BAD_FILE, BAD_WEIGHTS, NO_MEMORY or BAD_CALL. */
typedef struct smelt_weights smelt_weights;
int smelt_weights_open(const smelt_model *model, const char *path, smelt_weights **weights);
const void *smelt_weights_data(const smelt_weights *weights);
void smelt_weights_close(smelt_weights *weights); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
