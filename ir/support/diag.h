/* Messages about the user's model: collected, escaped, printed with file, node and operator.
 *
 * Two severities that end a compilation: DIAG_INVALID (the model or its data is bad, exit 1) and
 * DIAG_UNSUPPORTED (valid, but not covered, exit 3). Compiler bugs go through BUG(), which stops.
 */
#ifndef SMELT_IR_SUPPORT_DIAG_H
#define SMELT_IR_SUPPORT_DIAG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct SrcLoc {
    const char *file;  /* model file, or NULL */
    const char *node;  /* node's name, "" or NULL when it has none */
    const char *op;    /* operator, or NULL */
    const char *graph; /* path of enclosing graphs ("main/If_3.then"), or NULL */
    int64_t index;     /* node's position in its graph, -1 when unknown */
    int64_t offset;    /* byte offset in the file, -1 when unknown */
} SrcLoc;
#define SRC_NOWHERE ((SrcLoc){.index = -1, .offset = -1})

enum { DIAG_LIMIT = 20 };

typedef struct Diag Diag;

Diag *diag_create(void);
void diag_destroy(Diag *d);
/* The model is malformed or invalid. */
void diag_error(Diag *d, SrcLoc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The model is valid but needs something smelt does not have. */
void diag_unsupported(Diag *d, SrcLoc loc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void diag_warn(Diag *d, SrcLoc loc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Errors and unsupported cases so far. */
int diag_n_errors(const Diag *d);
/* DIAG_LIMIT reached: the caller should stop looking for more. */
bool diag_is_full(const Diag *d);
/* 0, 1 (something invalid) or 3 (only unsupported). */
int diag_exit_code(const Diag *d);
/* Writes all messages to stderr, once each. */
void diag_print(Diag *d);
/* A state to come back to: diag_rewind forgets the messages since then. */
typedef struct DiagMark {
    int n, n_errors, n_invalid;
} DiagMark;
DiagMark diag_mark(const Diag *d);
void diag_rewind(Diag *d, DiagMark mark);
/* i-th message as printed, or NULL. */
const char *diag_message(const Diag *d, int i);

/* Called by bug_stop() once its message is out, before the process ends: pass is the one that ran,
 * or NULL. */
typedef void BugReporter(const char *pass);
void bug_set_reporter(BugReporter *reporter);
/* What BUG() reports besides its text: the pass that runs and the node it works on. */
void bug_context(const char *pass, SrcLoc loc);
_Noreturn void bug_stop(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define BUG(...) bug_stop(__FILE__, __LINE__, __VA_ARGS__)
#define BUG_IF(cond, ...)                                                                          \
    do {                                                                                           \
        if (cond) BUG(__VA_ARGS__);                                                                \
    } while (0)

#endif
