/* The text form of the IR, all levels. IR.md describes the language; parse.h reads it back.
 *
 * The same IR gives the same text on every machine. Names from the model are escaped, names that
 * clash get a number, large constants are shown by shape and hash, and what is used more than once
 * in a statement becomes a `$1 = ...` line in front of it, so that text stays as small as the IR.
 */
#ifndef SMELT_IR_PRINT_H
#define SMELT_IR_PRINT_H

#include "ir/define.h"
#include "ir/graph.h"
#include "ir/kernel.h"
#include "ir/schedule.h"

/* The main graph with the module's symbols (parse_module reads it), or a subgraph's body alone. */
void print_graph(StrBuf *out, const Graph *g);
/* Every stage of a program and of the programs below it. */
void print_program(StrBuf *out, const DefProgram *p);
/* Buffers, kernels and entry (parse_module reads it). */
void print_kmodule(StrBuf *out, const KModule *m);
void print_kernel(StrBuf *out, const Kernel *kn);
void print_expr(StrBuf *out, const KExpr *e);
/* One definition. */
void print_stage(StrBuf *out, const DefProgram *p, const Stage *s);

/* To stderr, for use from a debugger. */
void dump_graph(const Graph *g);
void dump_node(const Node *n);
void dump_program(const DefProgram *p);
void dump_stage(const DefProgram *p, const Stage *s);
void dump_kmodule(const KModule *m);
void dump_kernel(const Kernel *kn);
void dump_expr(const KExpr *e);

#endif
