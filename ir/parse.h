/* Reads the text form of the IR (IR.md, print.h). The text may be anything: what is wrong becomes a
 * message with line and column, nesting is bounded, and what is accepted passes verify_module(). */
#ifndef SMELT_IR_PARSE_H
#define SMELT_IR_PARSE_H

#include "ir/graph.h"

/* The first word says the level: `graph` fills Module.main, `kernels` fills Module.kmod; the facts
 * that come with it are set. Comments run from # to the end of the line. NULL after messages. The
 * target and the diagnostics must outlive the module. */
Module *parse_module(const char *text, const Target *target, Diag *d);
/* The same; constants that text shows by their hash are taken from `source`, which must outlive the
 * result: what print gave for `source` can be read back. */
Module *parse_module_like(const char *text, const Module *source, Diag *d);
/* True when text starts like IR (after comments and blanks), so that a driver can tell it from a
 * model. */
bool parse_is_ir(const char *text, size_t n);

#endif
