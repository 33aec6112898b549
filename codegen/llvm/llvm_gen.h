/* The LLVM renderer's inside: one LlvmGen per LLVM module, one LlvmFn per function being emitted.
 *
 *   module.c  creates and destroys an LlvmGen; kernels become functions, and thunks for pools
 *   expr.c    kernel IR expressions to LLVM values, scalar or one lane per iteration
 *   access.c  loads and stores: which are contiguous, which gather; permute.c: which permute;
 *             place.c: their addresses
 *   convert.c dtype conversions and the half-width floats
 *   arith.c   division, rounding and fused sums; remainder.c: what is left of floats
 *   narrow.c  64-bit integers where registers have 32 bits
 *   stmt.c    kernel IR statements to blocks
 *   tile.c    loops over matrix tiles to AMX
 *   pack.c    stores of bytes, several vectors at once
 *   abi.c     smelt.h's constants: tables and the smelt_model
 *   entry.c   the model's run functions; entry_memory.c, entry_statements.c: parts of their body
 *   cpu.c     their test of the processor
 *   object.c  passes, code generation, threads; files
 *   jit.c     the same code in memory
 *
 * A value is an LLVM scalar when it is the same for all lanes of the vector loop around it, and an
 * LLVM vector of fn->lanes elements when it differs by lane. Float dtypes of 16 bits are carried as
 * f32 that are rounded to the dtype after every operation; bool is i1, and a byte in memory. */
#ifndef SMELT_CODEGEN_LLVM_GEN_H
#define SMELT_CODEGEN_LLVM_GEN_H

#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>

#include "codegen/codegen.h"
#include "ir/kernel.h"
#include "ir/target.h"

/* What decides between two ways to write the same operation. */
typedef struct CpuTraits {
    bool round;     /* floor, ceil, trunc, rint of floats are instructions */
    bool half;      /* f32 <-> f16 conversions are instructions */
    bool half_math; /* so is arithmetic with f16 */
    bool fma;       /* fused multiply-add is an instruction */
    bool gather;    /* loads from a vector of addresses are instructions */
    bool narrow;    /* registers of 32 bits: 64-bit division and conversions are written out */
    bool divides32; /* 32-bit integer division is an instruction */
    bool lanes_f64_i64; /* vectors of 64-bit integers and of f64 turn into each other */
    bool x86;
    bool avx2, avx512, avx512bw, vbmi, vnni512, vnni256, bf16, amx; /* x86 */
    bool i8mm, dotprod;                                       /* AArch64 */
} CpuTraits;

typedef struct VarBind {
    LLVMValueRef v;
    int depth;    /* number of loops around its definition: what can move out of which loop */
    bool varying; /* differs by lane of the open vector loop */
} VarBind;

typedef struct BufBind {
    LLVMValueRef base; /* address of element 0 */
    uint32_t align;    /* of base, in bytes */
    bool per_lane; /* allocated inside of a vector loop: element i of lane l is at i * lanes + l */
    int tile;      /* MEM_TILE on a machine with AMX: its register */
} BufBind;

typedef struct Memo {
    LLVMValueRef v;
    int depth;
    bool loads; /* reads memory: valid within one statement only */
} Memo;

/* What a tile register holds: the bytes from an element on, with a step from row to row. */
typedef struct TileOperand {
    const KExpr *first, *step;
} TileOperand;

/* Tables that grow with the ids of the KCtx; heap memory, released with the LlvmGen. */
typedef struct LlvmFn {
    LLVMValueRef fn;
    LLVMBasicBlockRef entry; /* allocas only; branches to the body at the end */
    VarBind *var;
    uint32_t n_var;
    BufBind *buf;
    uint32_t n_buf;
    Memo *memo;
    uint32_t n_memo;
    uint32_t *log; /* ids in memo, in order of insertion, so that scopes can be undone */
    uint32_t n_log, cap_log;
    int depth; /* loops open here */
    int lanes; /* 0: scalar code */
    KVar *lane_var;
    uint64_t varying_vars;         /* bit (id % 64) of every variable that differs by lane */
    bool any_per_lane;             /* some buffer does */
    LLVMValueRef mask;             /* lanes that execute this statement; NULL: all */
    const KExpr *mask_cond;        /* what the mask is of, if it is of one condition; else NULL */
    LLVMValueRef dummy;            /* where predicated-off loads read; NULL until needed */
    LLVMValueRef size_table;       /* entry only: i64 slots of the computed symbols */
    bool has_tiles, shapes_differ; /* tile.c */
    int tile_rows, n_tiles;        /* height that the registers are set to; accumulators alive */
    TileOperand operand[4];        /* in registers 4 to 7, as long as operand_block goes on */
    LLVMBasicBlockRef operand_block;
    unsigned operand_turn[2];
} LlvmFn;

typedef struct LlvmGen {
    LLVMContextRef ctx;
    LLVMModuleRef mod;
    LLVMBuilderRef b;
    LLVMTargetMachineRef tm;
    LLVMTargetDataRef layout;
    const KModule *m;
    const Target *target;
    const CodegenOptions *options;
    CpuTraits cpu;
    LLVMTypeRef i1, i8, i16, i32, i64, f16, f32, f64, ptr, none, size;
    LLVMTypeRef text;              /* smelt_string */
    uint64_t frame_sum, frame_max; /* stack of the functions, once their code has been generated */
    LLVMValueRef float_rem;        /* double (double, double), made when first used */
    LLVMValueRef divide64;         /* u64 (u64, u64), likewise */
    LlvmFn *fn;
    struct Entry *entry;              /* while the entry's body is emitted */
    struct Api *api;                  /* for the module that holds the entry */
    const void *const *const_address; /* in memory: where each constant lies; NULL otherwise */
    StrBuf scratch;
} LlvmGen;

/* module.c */
LLVMTargetMachineRef llvm_machine(const Target *t, int opt);
bool llvm_init_target(const Target *t);
void llvm_gen_open(LlvmGen *g, const KModule *m, const Target *t, const CodegenOptions *o,
                   const char *module_name);
void llvm_gen_close(LlvmGen *g);
/* Starts and ends emission of a function whose LLVM value exists already; the builder is left in
 * the first block of its body. */
void llvm_fn_begin(LlvmGen *g, LlvmFn *fn, LLVMValueRef value);
void llvm_fn_end(LlvmGen *g);
/* From now on g collects its frames' sizes; g must not move. */
void llvm_watch_frames(LlvmGen *g);
/* Adds the attributes every function has. */
void llvm_add_attributes(LlvmGen *g, LLVMValueRef fn);
void llvm_add_flag(LlvmGen *g, LLVMValueRef fn, LLVMAttributeIndex at, const char *name,
                   uint64_t v);
/* The type of a kernel: pointers, i64 scalars, then begin and end if it is parallel. */
LLVMTypeRef llvm_kernel_type(LlvmGen *g, const Kernel *kn);
/* The kernel's function, declared when the module does not have it; likewise its pool thunk,
 * void (ctx, i64 begin, i64 end), where ctx points to llvm_context_type(). */
LLVMValueRef llvm_kernel_function(LlvmGen *g, const Kernel *kn);
LLVMValueRef llvm_kernel_thunk(LlvmGen *g, const Kernel *kn);
LLVMTypeRef llvm_context_type(LlvmGen *g, const Kernel *kn);
/* Emits the body of the kernel, and its thunk if it is parallel. */
void llvm_emit_kernel(LlvmGen *g, const Kernel *kn);

/* expr.c */
LLVMTypeRef llvm_type(LlvmGen *g, DType t);            /* of values */
LLVMTypeRef llvm_mem_type(LlvmGen *g, DType t);        /* of memory */
LLVMTypeRef llvm_widen(LLVMTypeRef t, unsigned lanes); /* lanes == 0: t itself */
unsigned llvm_lanes(LLVMValueRef v);                   /* 0 for scalars */
LLVMValueRef llvm_splat(LlvmGen *g, LLVMValueRef v, unsigned lanes);
LLVMValueRef llvm_int(LlvmGen *g, LLVMTypeRef scalar, unsigned lanes, int64_t v);
LLVMValueRef llvm_real(LlvmGen *g, LLVMTypeRef scalar, unsigned lanes, double v);
LLVMValueRef llvm_iota(LlvmGen *g, unsigned lanes);
LLVMValueRef llvm_call(LlvmGen *g, const char *intrinsic, LLVMTypeRef *types, unsigned n_types,
                       LLVMValueRef *args, unsigned n_args);
LLVMValueRef llvm_overloaded(LlvmGen *g, const char *intrinsic, LLVMValueRef a);
LLVMValueRef llvm_expr(LlvmGen *g, const KExpr *e);
/* Like llvm_expr, with the loop depth at which the value is known. */
LLVMValueRef llvm_expr_depth(LlvmGen *g, const KExpr *e, int *depth);
/* Memo scopes: everything inserted since the mark is forgotten; or what reads memory only. */
uint32_t llvm_memo_mark(LlvmGen *g);
void llvm_memo_undo(LlvmGen *g, uint32_t mark);
void llvm_memo_drop_loads(LlvmGen *g, uint32_t mark);
/* Sets everything aside, for expressions in which variables stand for something else, until it is
 * put back. */
typedef struct MemoAside {
    Memo *memo;
    uint32_t n_memo, mark;
} MemoAside;
MemoAside llvm_memo_aside(LlvmGen *g);
void llvm_memo_back(LlvmGen *g, MemoAside aside);
VarBind *llvm_var(LlvmGen *g, const KVar *v);
BufBind *llvm_buf(LlvmGen *g, const KBuf *b);
/* The value of an expression that is an integer constant here, unrolled variables included. */
bool llvm_known_int(LlvmGen *g, const KExpr *e, int64_t *v);
/* Does it differ by lane of the open vector loop (given the varying flags of variables)? */
bool llvm_varies(LlvmGen *g, const KExpr *e);

/* convert.c */
LLVMValueRef llvm_cast(LlvmGen *g, DType to, DType from, LLVMValueRef v);
LLVMValueRef llvm_bitcast(LlvmGen *g, DType to, DType from, LLVMValueRef v);
/* f32 carriers of F16 and BF16: rounded to the dtype. */
LLVMValueRef llvm_round_to(LlvmGen *g, DType t, LLVMValueRef v);
/* Between what memory holds and what expressions carry. */
LLVMValueRef llvm_from_memory(LlvmGen *g, DType t, LLVMValueRef v);
LLVMValueRef llvm_to_memory(LlvmGen *g, DType t, LLVMValueRef v);

/* arith.c */
LLVMValueRef llvm_round(LlvmGen *g, KOp op, LLVMValueRef a); /* KO_floor, ceil, trunc, rint */
LLVMValueRef llvm_divide(LlvmGen *g, const KExpr *e, LLVMValueRef a, LLVMValueRef b);
LLVMValueRef llvm_fused(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);

/* remainder.c: C's fmod of floats or vectors of them */
LLVMValueRef llvm_float_rem(LlvmGen *g, LLVMValueRef x, LLVMValueRef y);

/* dot.c: one of the dot products of kops.def, in any number of lanes */
LLVMValueRef llvm_dot(LlvmGen *g, KOp op, LLVMValueRef a, LLVMValueRef b, LLVMValueRef c);

/* ldexp.c: floats or vectors of them */
LLVMValueRef llvm_ldexp(LlvmGen *g, LLVMValueRef a, LLVMValueRef b);
/* of an i32 or a vector of them */
LLVMValueRef llvm_root16(LlvmGen *g, LLVMValueRef a);

/* narrow.c, for cpu.narrow only */
typedef struct NarrowDivision {
    bool is_signed, remainder;
    uint64_t limit;   /* no |a| is larger */
    uint64_t divisor; /* |b| if it is constant, otherwise 0 */
} NarrowDivision;
/* a / b or the remainder of it, truncated; b is not 0, nor -1 if signed. */
LLVMValueRef llvm_narrow_divide(LlvmGen *g, LLVMValueRef a, LLVMValueRef b, NarrowDivision how);
/* i64 to f64, rounded once, and what is in range of i64 or u64 from f32 or f64. */
LLVMValueRef llvm_narrow_to_f64(LlvmGen *g, LLVMValueRef v, bool is_signed);
LLVMValueRef llvm_narrow_from_float(LlvmGen *g, LLVMValueRef v, bool is_signed);

/* permute.c: NULL where it takes too many vectors. A local buffer of n_elems, lane i at place[i];
 * memory in steps of `step` elements, where lanes that mask (or NULL) leaves out are not read. */
LLVMValueRef llvm_load_rows(LlvmGen *g, LLVMTypeRef element, LLVMValueRef base,
                            const int64_t *place, int64_t n_elems, unsigned align);
LLVMValueRef llvm_load_strided(LlvmGen *g, LLVMTypeRef element, LLVMValueRef ptr, unsigned step,
                               unsigned align, LLVMValueRef mask);
/* Lanes that are a few stretches of memory, at place[lane] elements behind ptr; those that mask (or
 * NULL) leaves out are 0 and not read. strays: see place.h. NULL where they are many. */
LLVMValueRef llvm_load_runs(LlvmGen *g, LLVMTypeRef element, LLVMValueRef ptr, const int64_t *place,
                            unsigned align, LLVMValueRef mask, bool strays);

/* place.c (and place.h) */
/* A comparison of indices that step with the lanes; NULL where it is none. */
LLVMValueRef llvm_compare_lanes(LlvmGen *g, const KExpr *e, int *depth);
/* What an array of these is aligned to, whoever made it. */
unsigned llvm_element_align(const LlvmGen *g, DType t);

/* access.c */
LLVMValueRef llvm_load(LlvmGen *g, const KExpr *e, int *depth);
/* Bytes of a buffer, joined to a word in each lane, as a load and permutations; NULL where e is
 * something else. */
LLVMValueRef llvm_byte_word(LlvmGen *g, const KExpr *e);
/* Where lanes that are neighbours in memory begin; NULL where they are none. */
LLVMValueRef llvm_vector_place(LlvmGen *g, const KBuf *b, const KExpr *index);
/* The address of the element that e would load. */
LLVMValueRef llvm_address(LlvmGen *g, const KExpr *e, int *depth);
/* Asks for what the load e would read, into the second level of cache. */
void llvm_prefetch(LlvmGen *g, const KExpr *e);
/* Memory that may be read where a predicated read reads nothing. */
LLVMValueRef llvm_nowhere(LlvmGen *g);
/* ptr, or such memory where no lane of the mask is set: a masked load that leaves out all lanes
 * reads nothing, but where its address has no memory processors take some hundred cycles for it. */
LLVMValueRef llvm_where_any(LlvmGen *g, LLVMValueRef ptr, LLVMValueRef mask);
void llvm_store(LlvmGen *g, const KBuf *b, const KExpr *index, const KExpr *value);
LLVMValueRef llvm_alloca(LlvmGen *g, LLVMTypeRef t, uint64_t n, unsigned align, const char *name);

/* pack.c: a nest of vector loops around a store of bytes, several vectors at once; false where that
 * is not what it is, and nothing was stored. */
bool llvm_pack_stores(LlvmGen *g, const KStmt *outer);

/* stmt.c */
void llvm_block(LlvmGen *g, const KBlock *b);
/* Rows begin .. end-1 of the kernel's parallel loop. */
void llvm_parallel_loop(LlvmGen *g, const KStmt *s, LLVMValueRef begin, LLVMValueRef end);
LLVMBasicBlockRef llvm_new_block(LlvmGen *g, const char *name);

/* tile.c: around the body of a kernel; false for buffers that live in memory; a loop marked
 * LOOP_TILE */
void llvm_tiles_begin(LlvmGen *g, const KBlock *body);
void llvm_tiles_end(LlvmGen *g);
bool llvm_tile_alloc(LlvmGen *g, const KBuf *b);
void llvm_tile_loop(LlvmGen *g, const KStmt *loop);

/* entry.c */
void llvm_emit_entry(LlvmGen *g);
/* The address of an arena buffer or a constant in the entry; NULL elsewhere and for other buffers.
 */
LLVMValueRef llvm_entry_base(LlvmGen *g, const KBuf *b);
/* Statements that only the entry has: KS_CALL, KS_NODE, KS_RETURN. */
void llvm_entry_statement(LlvmGen *g, const KStmt *s);

#endif
