/* The pass driver: runs the rows of passes.def in order, and the entry of each pass.
 *
 * A pass returns whether it changed anything. Under verify the module is checked after each pass
 * and a wrong answer is a bug. The options below are the debug flags of the command line. */
#ifndef SMELT_PASSES_PASS_H
#define SMELT_PASSES_PASS_H

#include "ir/define.h"
#include "ir/graph.h"

typedef enum { LEVEL_GRAPH, LEVEL_DEF, LEVEL_LOWER, LEVEL_KERNEL } PassLevel;

typedef struct PassInfo {
    const char *name;
    PassLevel level;
    int opt;
    uint32_t needs, keeps;
    const char *doc;
    bool (*run)(Module *m);
} PassInfo;

#define PASS(name, level, opt, needs, keeps, doc) bool pass_##name(Module *m);
#include "passes/passes.def"
#undef PASS

typedef enum {
#define PASS(name, level, opt, needs, keeps, doc) PASS_##name,
#include "passes/passes.def"
#undef PASS
    PASS_COUNT
} PassId;

extern const PassInfo pass_info[PASS_COUNT];

typedef struct PassOptions {
    const char *only;       /* --passes=A,B: just these; NULL: all */
    const char *skip;       /* --no-pass=P,Q */
    const char *dump;       /* --dump=P,Q or "all" */
    const char *dump_dir;   /* numbered files instead of stderr */
    const char *stop_after; /* --stop-after=P */
    const char *trace;      /* --trace=P,Q: why decisions were taken, on stderr */
    int verify;             /* 0 off, 1 after each pass, 2 also the text form and "unchanged" */
    bool limit_rewrites; /* --max-rewrites=N: rewrites after the Nth, over all passes, are left out
                          */
    int64_t max_rewrites;
    bool time; /* --time: seconds and memory per pass, on stderr */
} PassOptions;

/* Runs the pipeline; false when messages were recorded in m->diag. */
bool run_passes(Module *m, const PassOptions *o);
/* Appends the text of the level that the module has reached: graph, definitions or kernels. */
void print_module(StrBuf *out, const Module *m);
/* -1 when there is no such pass. */
int pass_from_name(const char *name);
/* Prints one decision line when --trace names this pass: "fuse_stages: conv1: why". */
void pass_trace(const char *pass, const Node *node, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Is this pass one that the others do without? They find no fact of the module for the first time.
 */
bool pass_is_optional(int pass);
/* Asked before a rewrite that is not needed for a right result, over all passes; false when
 * --max-rewrites is used up. What was rewritten is counted by pass_count_rewrite(). */
bool pass_may_rewrite(void);
void pass_count_rewrite(void);

/* assign_layouts.c: gives the tensor of this read of s a halo of `value` as wide as the read goes
 * beyond it, unless it is too wide or there is one of another value. */
void widen_halo(KCtx *k, const Stage *s, const KExpr *at, int32_t value, bool *changed);
/* dot_products.c: opens an integer contract as dot products of four bytes; false when it does not
 * fit. Swaps the factors where the right one has no lanes. */
bool use_dot_products(DefProgram *p, Stage *s);
bool use_bfloat_products(DefProgram *p, Stage *s); /* dot_bfloats.c */
/* The same for depthwise ones, along the taps of the window. */
bool use_tap_products(DefProgram *p, Stage *s);
/* dot_pairs.c: bytes that dot products of pairs read through a tensor of 16 bits are stored as such
 * where nobody needs them as bytes. Requires KTensor.users. */
bool dot_store_halves(DefProgram *p);
/* Sums an integer contract in f32 instead, where that is exact. */
bool sum_as_float(DefProgram *p, Stage *s);

/* evaluate.c: runs a stage at compile time. All tensors it reads must be constant; its out gets
 * data in out's layout (module memory). False when it is not possible or larger than the limit. */
bool evaluate_stage(DefProgram *p, Stage *s);
/* A new table of e over these axes, before s; NULL when something that e reads is no constant. */
KTensor *constant_table(DefProgram *p, Stage *s, const char *name, const KExpr *e,
                        KVar *const *axis, const KExpr *const *extent, int n);
/* Evaluates a node whose inputs are all constant; its outputs become constants. */
bool evaluate_node(Module *m, Node *n);
/* Tensors, and what was made of them in another dtype. */
typedef struct Conversions {
    VEC(const KTensor *) from;
    VEC(KTensor *) to;
} Conversions;
/* t's elements in dtype `to`: a constant, or computed before this stage; made once. */
KTensor *convert_tensor(DefProgram *p, Conversions *c, Stage *before, KTensor *t, DType to);

#endif
