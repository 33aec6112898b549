/* Kernel IR: structured loops over buffers, the only thing a renderer sees. IR.md has the language.
 *
 * Expressions (KExpr) are immutable and hash-consed per KCtx: equal expressions are one pointer,
 * and the constructors fold constants and apply the obvious identities. Index arithmetic is i64 and
 * the constructors know each variable's range, so that (i*64 + j) / 64 becomes i where j is in [0,
 * 64). Symbolic dims of the graph level are these same expressions over KV_SYMBOL variables.
 *
 * Statements (KStmt) form a mutable tree. Scalars only: a loop marked LOOP_VECTOR runs its
 * iterations in lockstep as lanes, which LLVM renders as vector code, C as a plain countable loop
 * and the interpreter as a loop. So every renderer performs the same operations per element, in the
 * same order. Mutable scalars and register tiles are local buffers (KS_ALLOC in MEM_REG). */
#ifndef SMELT_IR_KERNEL_H
#define SMELT_IR_KERNEL_H

#include "ir/dtype.h"
#include "ir/support/arena.h"
#include "ir/support/diag.h"
#include "ir/support/str.h"

typedef enum KOp {
    KO_NONE,
#define KOP(name, args, class, doc) KO_##name,
#include "ir/kops.def"
#undef KOP
    KO_COUNT
} KOp;

typedef enum {
    KC_NONE,
    KC_LEAF,
    KC_MEM,
    KC_ARITH,
    KC_CMP,
    KC_CONV,
    KC_TEXT,
    KC_PAIR,
    KC_MATH
} KClass;
typedef struct KOpInfo {
    const char *name;
    int n_args; /* -1: varies */
    KClass class;
    const char *doc;
} KOpInfo;
extern const KOpInfo kop_info[KO_COUNT];

typedef struct KCtx KCtx; /* owns every expression; one per Module */
typedef struct KExpr KExpr;
typedef struct KTensor KTensor; /* define.h: what `at` reads */

/* ---- variables ------------------------------------------------------------------------------- */

typedef enum {
    KV_LOOP,   /* loop variable, 0 .. extent-1 */
    KV_LET,    /* bound once by KS_LET */
    KV_SYMBOL, /* symbolic dim: given by the caller or found while running */
    KV_AXIS,   /* index of a definition's element; replaced when the definition opens into loops */
} KVarKind;

typedef struct KVar {
    uint32_t id; /* dense within the KCtx */
    KVarKind kind;
    DType dtype;
    const char *name; /* interned; printing adds the id where needed */
    int64_t lo, hi;   /* inclusive range; INT64_MIN / INT64_MAX where unknown */
    /* KV_SYMBOL only */
    bool computed;      /* found while the model runs (NonZero's count), not given by the caller */
    const KExpr *bound; /* computed: what it is at most, perhaps over other symbols */
    const KExpr *value; /* computed: the expression that it stands for, or NULL: found in data */
    bool carried; /* computed: dim of what a loop carries, new in each iteration */
    bool checked; /* computed from data: outside of lo .. hi the run ends with BAD_DATA */
    int64_t guess; /* caller's symbols: what a schedule takes it for (guess.c); 0: not known */
    uint32_t
        slot; /* caller's symbols: position in the API; computed ones: slot in the size table */
} KVar;

/* ---- buffers --------------------------------------------------------------------------------- */

typedef enum {
    MEM_NONE,
    MEM_PARAM,  /* kernel parameter: whatever the caller passes */
    MEM_INPUT,  /* model input */
    MEM_OUTPUT, /* model output */
    MEM_CONST,  /* weights and tables in .rodata or the weights file */
    MEM_ARENA,  /* planned memory in the caller's arena */
    MEM_HEAP,   /* entry only: memory from the allocation hook, given and replaced by KS_RESERVE */
    MEM_REG,    /* local, constant size, meant for registers; constant indices after unrolling */
    MEM_STACK,  /* local, constant size, small */
    MEM_SHARED, /* GPU shared memory */
    MEM_TILE,   /* local, an accumulator of a matrix unit; only loops marked LOOP_TILE use it, see
                   tile.h */
} KMem;

/* Made by KS_ALLOC, and gone with the block around it. */
static inline bool kmem_is_local(KMem m) {
    return m == MEM_REG || m == MEM_STACK || m == MEM_SHARED || m == MEM_TILE;
}

typedef struct KBuf {
    uint32_t id;
    const char *name; /* interned */
    DType dtype;
    KMem mem;
    const KExpr *n_elems; /* i64; constant for REG, STACK, CONST */
    bool written;         /* PARAM: the kernel stores into it */
    bool noalias;         /* PARAM: no other parameter overlaps it */
    bool padded;          /* PARAM: memory up to the next multiple of 64 bytes is its own, too */
    uint32_t align;       /* bytes known at run time; 0: the dtype's own */
    uint32_t index; /* INPUT/OUTPUT: position; CONST: position in KModule.consts; PARAM: position;
                     * HEAP: which of KModule.n_heap blocks */
    const KExpr *offset; /* ARENA: byte offset, set by plan_memory */
    const void *data;    /* CONST: n_elems elements, view */
} KBuf;

/* ---- expressions ----------------------------------------------------------------------------- */

struct KExpr {
    KOp op;
    DType dtype;
    uint8_t n_args;
    uint32_t id; /* dense within the KCtx, operands before users */
    uint64_t hash;
    uint64_t var_mask; /* bit (id % 64) of every variable below: a quick "does not use" */
    int64_t lo, hi;    /* inclusive range of integer and bool expressions; saturating */
    union {
        int64_t i; /* const_i */
        double f;  /* const_f */
        KVar *var;
        KBuf *buf;       /* load */
        KTensor *tensor; /* at */
    } u;
    const KExpr *arg[];
};

KCtx *kctx_create(Arena *a);
/* From now on several threads may make expressions (and nothing else of k's, nor use its arena). */
void kctx_share(KCtx *k);
Arena *kctx_arena(const KCtx *k);
uint32_t kctx_n_exprs(const KCtx *k); /* ids are below this */
uint32_t kctx_n_vars(const KCtx *k);

KVar *kvar_new(KCtx *k, KVarKind kind, DType t, const char *name, int64_t lo, int64_t hi);
KBuf *kbuf_new(KCtx *k, KMem mem, DType t, const char *name, const KExpr *n_elems);

const KExpr *k_int(KCtx *k, int64_t v); /* i64 constant */
const KExpr *k_const_i(KCtx *k, DType t, int64_t v);
const KExpr *k_const_f(KCtx *k, DType t, double v); /* rounded to t */
/* A constant of any numeric dtype from a double (0, 1, -inf, ...). */
const KExpr *k_const(KCtx *k, DType t, double v);
const KExpr *k_bool(KCtx *k, bool v);
const KExpr *k_var(KCtx *k, KVar *v);
const KExpr *k_load(KCtx *k, KBuf *b, const KExpr *index);
const KExpr *k_load_if(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred);
/* The i32 word of the four bytes of a u8 or i8 buffer, or of the two elements of a u16 or i16 one,
 * from element index on, the first one lowest; where pred is NULL or holds, else 0. Any index will
 * do. It is a load whose dtype is not its buffer's. */
const KExpr *k_load_word(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred);
/* How many elements of this dtype make a word; 0: none do. */
int word_parts(DType t);
/* The load e from another place: of a word or of an element, predicated or not, like e. */
const KExpr *k_load_like(KCtx *k, const KExpr *e, KBuf *b, const KExpr *const *args);
/* Is the load or at() e one of a word? */
bool k_is_word(const KExpr *e);
DType ktensor_dtype(const KTensor *t); /* in define.c: the struct belongs to that level */
/* t at `rank` indices; the last one may be a predicate, which is left out where it always holds. */
const KExpr *k_at(KCtx *k, KTensor *t, const KExpr *const *index, int rank);
/* The word of neighbours in t's memory, of which index names the first. */
const KExpr *k_at_word(KCtx *k, KTensor *t, const KExpr *const *index, int rank);
/* The general constructors; they fold and simplify. */
const KExpr *k_unary(KCtx *k, KOp op, const KExpr *a);
const KExpr *k_binary(KCtx *k, KOp op, const KExpr *a, const KExpr *b);
const KExpr *k_ternary(KCtx *k, KOp op, const KExpr *a, const KExpr *b, const KExpr *c);
const KExpr *k_cast(KCtx *k, DType t, const KExpr *a);
const KExpr *k_bitcast(KCtx *k, DType t, const KExpr *a);
/* Strings: see class TEXT of kops.def. The empty string is k_const(k, DT_STR, 0). */
const KExpr *k_str_len(KCtx *k, const KExpr *s);
const KExpr *k_str_byte(KCtx *k, const KExpr *s, const KExpr *i);
const KExpr *k_str_sub(KCtx *k, const KExpr *s, const KExpr *from, const KExpr *n_bytes);
/* first: a load (or, in definitions, an at) of the u8 element where the string begins. */
const KExpr *k_str_of(KCtx *k, const KExpr *first, const KExpr *n_bytes);
/* A complex number's parts, and a complex number of two floats: see class PAIR. */
const KExpr *k_re(KCtx *k, const KExpr *a);
const KExpr *k_im(KCtx *k, const KExpr *a);
const KExpr *k_complex(KCtx *k, const KExpr *re, const KExpr *im);
/* The u64 of element `index` of a buffer that is going to hold u64 instead of c128: for pairs.c. */
const KExpr *k_load_half(KCtx *k, KBuf *b, const KExpr *index, const KExpr *pred);
/* Any op with new operands (same op, payload and dtype rule): for rewriting. */
const KExpr *k_rebuild(KCtx *k, const KExpr *e, const KExpr *const *args);
/* The node as written, nothing folded: for the parser. Not for leaves, loads and at. */
const KExpr *k_exact(KCtx *k, KOp op, DType t, const KExpr *const *args, int n);

#define K_UNARY(name)                                                                              \
    static inline const KExpr *k_##name(KCtx *k, const KExpr *a) {                                 \
        return k_unary(k, KO_##name, a);                                                           \
    }
#define K_BINARY(name)                                                                             \
    static inline const KExpr *k_##name(KCtx *k, const KExpr *a, const KExpr *b) {                 \
        return k_binary(k, KO_##name, a, b);                                                       \
    }
K_BINARY(add)
K_BINARY(sub)
K_BINARY(mul) K_BINARY(div) K_BINARY(rem) K_BINARY(fdiv) K_BINARY(fmod) K_BINARY(min) K_BINARY(max)
    K_BINARY(and) K_BINARY(or) K_BINARY(xor) K_BINARY(shl) K_BINARY(shr) K_BINARY(eq) K_BINARY(ne)
        K_BINARY(lt) K_BINARY(le) K_BINARY(pow) K_UNARY(neg) K_UNARY(abs) K_UNARY(sqrt)
            K_UNARY(floor) K_UNARY(ceil) K_UNARY(trunc) K_UNARY(rint) K_UNARY(not ) K_UNARY(exp)
                K_UNARY(log) K_UNARY(tanh) K_UNARY(erf) K_UNARY(sigmoid)
                    K_UNARY(softplus) static inline const KExpr *k_gt(KCtx *k, const KExpr *a,
                                                                      const KExpr *b) {
    return k_binary(k, KO_lt, b, a);
}
static inline const KExpr *k_ge(KCtx *k, const KExpr *a, const KExpr *b) {
    return k_binary(k, KO_le, b, a);
}
static inline const KExpr *k_root16(KCtx *k, const KExpr *a) {
    return k_unary(k, KO_root16, a);
}
static inline const KExpr *k_ldexp(KCtx *k, const KExpr *a, const KExpr *b) {
    return k_binary(k, KO_ldexp, a, b);
}
static inline const KExpr *k_fma(KCtx *k, const KExpr *a, const KExpr *b, const KExpr *c) {
    return k_ternary(k, KO_fma, a, b, c);
}
/* Is op a sum of products of the parts of words? */
static inline bool kop_is_dot(KOp op) {
    return op == KO_dot4_us || op == KO_dot4_ss || op == KO_dot2_ss || op == KO_dot2_bf;
}
/* The dtype of what it adds to, which is its result's. */
static inline DType kop_dot_sum(KOp op) {
    return op == KO_dot2_bf ? DT_F32 : DT_I32;
}
/* The parts of a word. */
static inline int kop_dot_parts(KOp op) {
    return op == KO_dot2_ss || op == KO_dot2_bf ? 2 : 4;
}
static inline const KExpr *k_select(KCtx *k, const KExpr *c, const KExpr *a, const KExpr *b) {
    return k_ternary(k, KO_select, c, a, b);
}
#undef K_UNARY
#undef K_BINARY

/* Is it a constant (and which)? */
bool k_is_int(const KExpr *e, int64_t *value);
bool k_is_value(const KExpr *e, double value); /* const_i or const_f equal to value */
/* Inclusive range of an i64 expression from the ranges of its variables; saturating. */
void k_range(const KExpr *e, int64_t *lo, int64_t *hi);
/* What an i64 expression is at most, over the caller's symbols alone (bound.c): itself unless it
 * depends on sizes found while running. */
const KExpr *k_upper_bound(KCtx *k, const KExpr *e);
/* The same where also the computed symbols are given that `known` says have their value. */
const KExpr *k_upper_bound_given(KCtx *k, const KExpr *e,
                                 bool (*known)(const KVar *v, const void *user), const void *user);
/* Is there no such bound: does e grow with a size found while running that has none? */
bool k_is_unbounded(KCtx *k, const KExpr *e);
/* What a schedule should take an i64 expression for: its value, where it is a number; else that at
 * the guesses of its symbols; `otherwise` where these say nothing. */
int64_t k_guess(const KExpr *e, int64_t otherwise);
/* The most that a length can be, for estimates of work: 10,000 where nothing bounds it. */
double k_most(const KExpr *e);
/* Is e no number, and do the guesses say what to take it for? */
bool k_is_guessed(const KExpr *e);
/* Does e depend on what a run finds: on computed symbols or on memory? */
bool k_is_computed(KCtx *k, const KExpr *e);
/* The largest index below an extent: at least 0, and INT64_MAX where it has no bound. */
int64_t k_last_index(const KExpr *extent);
/* Does e depend on this variable (through anything, loads' indices included)? */
bool k_uses_var(KCtx *k, const KExpr *e, const KVar *v);
/* e = base + coeff * v with base and coeff free of v; false when e is not of that form. */
bool k_linear_in(KCtx *k, const KExpr *e, KVar *v, const KExpr **base, const KExpr **coeff);
/* e with each var[i] replaced by by[i], simplified again. */
const KExpr *k_subst(KCtx *k, const KExpr *e, KVar *const *var, const KExpr *const *by, int n);
/* e rebuilt bottom-up through fn: fn gets each node after its operands were rebuilt and returns the
 * replacement (or the node itself). Shared nodes are visited once. */
typedef const KExpr *KRewrite(KCtx *k, const KExpr *e, void *user);
const KExpr *k_rewrite(KCtx *k, const KExpr *e, KRewrite *fn, void *user);
/* e with the node `from` replaced by `to`, simplified again. */
const KExpr *k_replace(KCtx *k, const KExpr *e, const KExpr *from, const KExpr *to);
/* Does e have more than `most` nodes as a tree, where what is shared counts at each place? */
bool k_is_long(const KExpr *e, int most);
/* Calls fn once on every distinct node below and including e, operands first. */
void k_visit(KCtx *k, const KExpr *e, void (*fn)(const KExpr *e, void *user), void *user);
/* An operand of a selection with so many operations is worth a branch around it: they take longer
 * than a branch that was foreseen wrongly. */
enum { K_MANY_OPERATIONS = 48, K_COUNTED_OPERATIONS = 160 };
/* Operations of e that have no value yet, each once, behind the n in found; ends at
 * K_COUNTED_OPERATIONS. Returns how many there are. */
uint32_t k_new_operations(const KExpr *e, bool (*has_value)(const KExpr *e, void *user), void *user,
                          const KExpr **found, uint32_t n);
/* Which operand of the selection e is so long, 1 or 2; 0: none, or e is no selection. */
int k_long_operand(const KExpr *e, bool (*has_value)(const KExpr *e, void *user), void *user);

/* ---- statements ------------------------------------------------------------------------------ */

typedef enum {
    KS_NONE,
    KS_FOR,     /* for var in 0 .. extent-1 (mark) { body } */
    KS_WHILE,   /* while (value) { body } */
    KS_IF,      /* if (value) { body } else { other } */
    KS_LET,     /* var := value, visible in the rest of the block */
    KS_STORE,   /* buf[index] = value */
    KS_ALLOC,   /* buf (REG, STACK, SHARED) exists in the rest of the block; contents undefined */
    KS_CALL,    /* entry only: kernel(bufs + offsets, scalars), parallel over its top loop */
    KS_BARRIER, /* GPU: all threads of the block have arrived */
    KS_PREFETCH, /* a hint: the element that `value` (a load) reads is wanted soon; no effect, and
                  * its index need not lie in the buffer */
    KS_NODE,    /* entry only: graph node `index` starts; hooks and cancellation are polled here */
    KS_RETURN,  /* entry only: leave with status value (i64 of a smelt_status) */
    KS_RESERVE, /* entry only: heap buffer buf gets room for `value` elements and keeps its first
                 * `index` ones (NULL: none); leaves with NO_MEMORY when there is none */
    KS_COMMENT, /* text for readers of generated code */
    KS_EXTERN,  /* the C function `text` (bufs + offsets, scalars), which smelt did not make */
} KStmtKind;

/* smelt_abi.def's BAD_DIM and BAD_DATA, for KS_RETURN (codegen asserts them) */
enum { RETURN_BAD_DIM = 3, RETURN_BAD_DATA = 10 };

typedef enum {
    LOOP_SERIAL,
    LOOP_PARALLEL, /* outermost loop of a kernel only; iterations independent */
    LOOP_VECTOR,   /* iterations are lanes in lockstep; constant extent */
    LOOP_UNROLL,   /* rendered as copies; constant extent */
    LOOP_TILE,     /* one of the forms of tile.h: an instruction where there is a matrix unit */
    LOOP_GRID_X,
    LOOP_GRID_Y,
    LOOP_GRID_Z,
    LOOP_BLOCK_X,
    LOOP_BLOCK_Y,
    LOOP_BLOCK_Z,
} KLoopMark;

typedef struct KStmt KStmt;
typedef struct KBlock {
    KStmt *first, *last;
} KBlock;
typedef struct Kernel Kernel;

/* A buffer argument: the address of element `offset` of buf. In a definition's EXTERN, what is read
 * has no buf yet and the element itself, at(t; 0...), as offset. */
typedef struct KArg {
    KBuf *buf;
    const KExpr *offset; /* elements, i64; NULL is 0 */
    bool written;        /* EXTERN: the function stores into it */
} KArg;

struct KStmt {
    KStmtKind kind;
    KStmt *prev, *next;
    KLoopMark mark;      /* FOR */
    KVar *var;           /* FOR, LET */
    KVar *first;         /* FOR, of a parallel loop: the iteration with which the range begins that
                          * is run in order as one; NULL: nothing depends on it */
    const KExpr *extent; /* FOR */
    KBuf *buf;           /* STORE, ALLOC */
    const KExpr *index;  /* STORE; FOR: a bool over the kernel's scalars, where it holds iterations,
                          * which are independent, go from the last to the first; NULL: never */
    const KExpr *value;  /* STORE, LET, IF and WHILE condition, RETURN, PREFETCH; FOR: a parallel
                          * loop is worth threads only where it holds, a bool over the kernel's
                          * scalars; NULL: always */
    KBlock body, other;
    Kernel *callee;             /* CALL */
    KArg *args;                 /* CALL: one per callee parameter; EXTERN: n_args */
    const KExpr **scalars;      /* CALL: one per callee scalar; EXTERN: n_scalars, i64 */
    uint32_t n_args, n_scalars; /* EXTERN; read them through kstmt_n_args() */
    uint32_t node;              /* NODE: index into KModule.nodes */
    const char *text;           /* COMMENT; EXTERN: the function's name */
};

struct Kernel {
    const char *name; /* symbol without prefix: k7_conv_f32__avx512_t6x4 */
    uint32_t id;
    KBuf **params;
    uint32_t n_params;
    KVar **scalars; /* i64 arguments (symbolic dims and offsets used inside) */
    uint32_t n_scalars;
    /* The body. If its only top-level statement (after LETs) is a LOOP_PARALLEL loop, renderers
     * give the kernel (begin, end) arguments that bound that loop. */
    KBlock body;
    const char *note; /* which nodes it computes, for comments; unescaped */
    double flops;     /* multiply-adds * 2 and other float operations, for profiles; estimate */
};

/* Arguments and scalars that a statement passes on: those of CALL and EXTERN. */
static inline uint32_t kstmt_n_args(const KStmt *s) {
    return s->callee ? s->callee->n_params : s->n_args;
}
static inline uint32_t kstmt_n_scalars(const KStmt *s) {
    return s->callee ? s->callee->n_scalars : s->n_scalars;
}

KStmt *kblock_append(Arena *a, KBlock *b, KStmtKind kind);
void kblock_insert_before(KBlock *b, KStmt *at, KStmt *s);

/* Builder: appends at the end of the innermost open block. */
typedef struct KBuild {
    KCtx *k;
    Arena *arena;
    KBlock *stack[64];
    int depth;
} KBuild;

void kb_begin(KBuild *b, KCtx *k, KBlock *into);
/* Opens a loop and returns its variable as an expression; kb_end closes it. */
const KExpr *kb_for(KBuild *b, KLoopMark mark, const char *name, const KExpr *extent);
/* Opens a parallel loop; *first becomes the iteration with which the range begins that one thread
 * runs in order. What an iteration leaves to the next must change no result. */
const KExpr *kb_for_ranges(KBuild *b, const char *name, const KExpr *extent, const KExpr **first);
void kb_while(KBuild *b, const KExpr *cond);
void kb_if(KBuild *b, const KExpr *cond);
void kb_else(KBuild *b);
void kb_end(KBuild *b);
const KExpr *kb_let(KBuild *b, const char *name, const KExpr *value);
/* A let of an index that is known to lie in 0..hi here, or below an extent: predicates in its scope
 * resolve by that. */
const KExpr *kb_let_within(KBuild *b, const char *name, const KExpr *value, int64_t hi);
const KExpr *kb_let_index(KBuild *b, const char *name, const KExpr *value, const KExpr *extent);
void kb_store(KBuild *b, KBuf *buf, const KExpr *index, const KExpr *value);
KBuf *kb_alloc(KBuild *b, KMem mem, DType t, const char *name, int64_t n_elems);
/* A variable: a register of one element that holds `value`; what it holds, and something else. */
KBuf *kb_variable(KBuild *b, const char *name, const KExpr *value);
const KExpr *kb_get(KBuild *b, KBuf *variable);
void kb_set(KBuild *b, KBuf *variable, const KExpr *value);
void kb_comment(KBuild *b, const char *text);
void kb_prefetch(KBuild *b, KBuf *buf, const KExpr *index);
/* Calls a C function with the first elements of buffers and i64 scalars; both lists are copied. */
void kb_extern(KBuild *b, const char *symbol, const KArg *args, int n_args,
               const KExpr *const *scalars, int n_scalars);

/* The top LOOP_PARALLEL loop when the kernel has one in the place described above, else NULL. */
/* The first C function that the block calls and smelt did not make, NULL when there is none. The
 * interpreter cannot run such a block. */
const char *kblock_extern(const KBlock *b);
KStmt *kernel_parallel_loop(const Kernel *kn);
/* Rewrites every expression of the block tree through fn. */
void kblock_rewrite(KCtx *k, KBlock *b, KRewrite *fn, void *user);
/* Calls fn on every node of every expression of the block tree (once per expression). */
void kblock_visit(KCtx *k, const KBlock *b, void (*fn)(const KExpr *e, void *user), void *user);
/* Appends a text that is equal for kernels that compute the same thing: independent of names, notes
 * and of which buffers and variables they use. */

void kernel_signature(const Kernel *kn, StrBuf *out);

/* ---- the whole program ----------------------------------------------------------------------- */

typedef struct KIo {
    const char *name; /* as in the model, unescaped */
    DType dtype;
    int rank;
    const KExpr **dims; /* over symbols */
    KBuf *buf;          /* INPUT or OUTPUT */
    bool is_kept;       /* an output whose elements before the call count */
} KIo;

/* What hooks are told of: a node of the graph, or that a version of the model starts. */
typedef struct KNode {
    const char *name, *op;
} KNode;

/* KNode.op where the code of a version starts; KNode.name is what it is for: batch=1, seq=128. */
#define NODE_VERSION "version"

typedef struct KModule {
    KCtx *k;
    Arena *arena;
    const char *name; /* symbol prefix */
    KIo *inputs, *outputs;
    uint32_t n_inputs, n_outputs;
    KVar **symbols; /* given by the caller, in API order */
    uint32_t n_symbols;
    KVar **sizes; /* computed symbols: slot i of the size table in the arena */
    uint32_t n_sizes;
    KBuf *size_table; /* i64[n_sizes], ARENA; NULL when there is none */
    KBuf **consts;    /* in the order of the weights section */
    uint32_t n_consts;
    uint32_t n_heap; /* blocks of MEM_HEAP; given back when the entry is left, but for outputs */
    Kernel **kernels;
    uint32_t n_kernels;
    KBlock entry;              /* calls, control flow; ends by falling off: status 0 */
    const KExpr *arena_bytes;  /* over given symbols */
    int64_t arena_lower_bound; /* largest live set in bytes, for the symbols' declared values; 0
                                  unknown */
    KNode *nodes; /* graph nodes for hooks, in order of execution */
    uint32_t n_nodes;
    uint8_t model_hash[32]; /* of the model file's bytes */
} KModule;

#endif
