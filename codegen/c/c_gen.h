/* Inside of the C renderer: one CGen per file.
 *
 *   expr.c    expressions, and which of them become locals
 *   prelude.c helper functions for what C has no operator for; only those that were used are
 *             written
 *   stmt.c    statements and kernels
 *   data.c    constants
 *   entry.c   the model's run functions and its description
 *   file.c    all of it in order
 *
 * F16 and BF16 are computed as float rounded to the dtype after every operation, and are uint16_t
 * in memory; bool is int, and a byte in memory. Expressions that occur twice, or would make a line
 * too long, become const locals: pure ones live to the end of their block, those that read memory
 * for one statement. */
#ifndef SMELT_CODEGEN_C_GEN_H
#define SMELT_CODEGEN_C_GEN_H

#include "codegen/c/c.h"
#include "codegen/interface.h"
#include "codegen/output.h"
#include "ir/support/map.h"

/* What is known of an expression while a function is written; by id. */
typedef struct CNote {
    uint32_t statement; /* the fields below up to `size` belong to this one */
    uint32_t uses;
    bool as_value; /* i64 whose wrap-around may show; index arithmetic does not overflow */
    bool settled;
    int size;   /* operators in its text */
    bool reads; /* memory, directly or through a local */
    const char *local;
} CNote;

typedef struct CGen {
    const KModule *m;
    const Target *t;
    const CodegenOptions *o;
    Api *api;
    Arena *a;
    StrBuf out; /* functions; constants and prelude go before it */
    int indent;
    /* the function being written */
    StrMap *taken; /* names in use */
    StrMap *names; /* of variables and buffers, by address */
    CNote *note;
    uint32_t n_notes;
    VEC(const KExpr *) locals; /* expressions whose note has a local, in order */
    uint32_t statement, n_locals;
    bool in_entry, in_branch;   /* in_branch: of a selection */
    uint8_t *used;              /* of each variable id: does its value matter? */
    uint64_t helper_dtypes[64]; /* bit set of dtypes for each helper; see prelude.c */
    StrMap *kernel_names;       /* Kernel address to its C name */
} CGen;

/* ---- expr.c ---------------------------------------------------------------------------------- */

/* Type of a value in a register, and of an element in memory. */
const char *c_value_type(DType t);
const char *c_memory_type(DType t);
/* Starts a statement: its expressions are announced, then settled (which may write locals), then
 * printed. as_value: see CNote. */
void c_begin_statement(CGen *g);
void c_announce(CGen *g, const KExpr *e, bool as_value);
void c_settle(CGen *g, const KExpr *e);
void c_print(CGen *g, StrBuf *b, const KExpr *e);
/* The same for one expression; the text lives in the arena. */
const char *c_expr(CGen *g, const KExpr *e, bool as_value);
void c_end_statement(CGen *g);
/* What is stored for a value of this dtype; the text of the value is added by emit. */
void c_print_stored(CGen *g, StrBuf *b, const KExpr *value);
void c_print_float(StrBuf *b, DType t, double v, bool in_table);
void c_print_int(StrBuf *b, DType t, int64_t v);

/* Names: distinct within the function, never a keyword or helper. */
void c_begin_names(CGen *g);
const char *c_name_var(CGen *g, const KVar *v);
const char *c_name_buf(CGen *g, const KBuf *b);
void c_rename_buf(CGen *g, const KBuf *b, const char *text);
const char *c_fresh_name(CGen *g, const char *wish);
const char *c_kernel_name(CGen *g, const Kernel *kn);

/* Locals of a block: what was noted since the mark is forgotten. */
uint32_t c_scope_mark(const CGen *g);
void c_scope_end(CGen *g, uint32_t mark);

/* ---- prelude.c ------------------------------------------------------------------------------- */

/* The helper's name for this dtype, which is thereby marked as used. */
const char *c_helper(CGen *g, const char *name, DType t);
bool c_is_helper(const char *name);
void c_write_prelude(const CGen *g, StrBuf *out);

/* ---- stmt.c ---------------------------------------------------------------------------------- */

void c_line(CGen *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void c_comment(CGen *g, const char *text);
void c_block(CGen *g, const KBlock *b);
/* Marks in g->used the variables whose values matter in this block. */
void c_find_used(CGen *g, const KBlock *b);
/* is_static: part of a model; otherwise a function that other files call. */
void c_kernel(CGen *g, const Kernel *kn, bool is_static);
/* "(const float *x, ..., int64_t n" without the closing parenthesis. */
void c_print_params(CGen *g, StrBuf *b, const Kernel *kn);

/* ---- data.c ---------------------------------------------------------------------------------- */

/* Where long text goes: a file, or memory. */
typedef struct CSink {
    Output *file;
    StrBuf *text;
} CSink;
void c_sink(CSink *s, const char *text);
const char *c_const_name(const CGen *g, const KBuf *b);
void c_write_consts(CGen *g, CSink *s);

/* ---- entry.c --------------------------------------------------------------------------------- */

void c_write_entry(CGen *g);

/* ---- entry_statements.c ---------------------------------------------------------------------- */

/* KS_CALL, KS_NODE, KS_RESERVE, KS_RETURN */
void c_entry_statement(CGen *g, const KStmt *s);
/* A struct of the kernel's arguments and the smelt_range_fn that takes it. */
void c_range_function(CGen *g, const Kernel *kn);
/* Where the run ends: blocks of outputs go to the caller when it was good; the others are given
 * back. */
void c_leave_heap(CGen *g, const KBuf *b);

/* ---- describe.c ------------------------------------------------------------------------------ */

void c_write_model(CGen *g);

#endif
