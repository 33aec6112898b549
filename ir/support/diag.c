/* Messages about the user's model, and the way out for compiler bugs: see diag.h. */
#include "ir/support/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/support/arena.h"
#include "ir/support/str.h"

typedef enum { DIAG_WARNING, DIAG_UNSUPPORTED, DIAG_INVALID } Severity;

struct Diag {
    struct {
        char *text;
        Severity severity;
    } message[DIAG_LIMIT + 1];
    int n, n_printed, n_errors, n_invalid;
};

Diag *diag_create(void) {
    return xmalloc(sizeof(Diag));
}

void diag_destroy(Diag *d) {
    if (!d) return;
    for (int i = 0; i < d->n; i++) free(d->message[i].text);
    free(d);
}

static void describe_place(StrBuf *b, SrcLoc loc) {
    strbuf_escaped(b, loc.file ? loc.file : "smelt", ESC_TERMINAL);
    strbuf_add(b, ": ");
    if (loc.op || (loc.node && *loc.node)) {
        strbuf_add(b, "node '");
        strbuf_escaped(b, loc.node ? loc.node : "", ESC_TERMINAL);
        strbuf_add(b, "'");
        if (loc.op) {
            strbuf_add(b, " (");
            strbuf_escaped(b, loc.op, ESC_TERMINAL);
            if (loc.index >= 0) strbuf_printf(b, " #%lld", (long long)loc.index);
            if (loc.graph) {
                strbuf_add(b, ", in ");
                strbuf_escaped(b, loc.graph, ESC_TERMINAL);
            }
            strbuf_add(b, ")");
        }
        strbuf_add(b, ": ");
    } else if (loc.graph) {
        strbuf_add(b, "graph '");
        strbuf_escaped(b, loc.graph, ESC_TERMINAL);
        strbuf_add(b, "': ");
    }
    if (loc.offset >= 0) strbuf_printf(b, "byte %lld: ", (long long)loc.offset);
}

static void diag_add(Diag *d, Severity severity, SrcLoc loc, const char *fmt, va_list ap) {
    if (severity != DIAG_WARNING) d->n_errors++;
    if (severity == DIAG_INVALID) d->n_invalid++;
    if (d->n >= DIAG_LIMIT) return;
    StrBuf text = {0}, body = {0};
    describe_place(&text, loc);
    if (severity == DIAG_WARNING) strbuf_add(&text, "warning: ");
    strbuf_vprintf(&body, fmt, ap);
    strbuf_escaped(&text, strbuf_text(&body), ESC_TERMINAL);
    strbuf_free(&body);
    for (int i = 0; i < d->n; i++)
        if (!strcmp(d->message[i].text, text.text)) {
            strbuf_free(&text);
            return;
        }
    d->message[d->n].text = text.text;
    d->message[d->n++].severity = severity;
}

void diag_error(Diag *d, SrcLoc loc, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    diag_add(d, DIAG_INVALID, loc, fmt, ap);
    va_end(ap);
}

void diag_unsupported(Diag *d, SrcLoc loc, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    diag_add(d, DIAG_UNSUPPORTED, loc, fmt, ap);
    va_end(ap);
}

void diag_warn(Diag *d, SrcLoc loc, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    diag_add(d, DIAG_WARNING, loc, fmt, ap);
    va_end(ap);
}

int diag_n_errors(const Diag *d) {
    return d->n_errors;
}

bool diag_is_full(const Diag *d) {
    return d->n_errors >= DIAG_LIMIT;
}

int diag_exit_code(const Diag *d) {
    return d->n_invalid ? 1 : d->n_errors ? 3 : 0;
}

void diag_print(Diag *d) {
    for (; d->n_printed < d->n; d->n_printed++)
        fprintf(stderr, "%s\n", d->message[d->n_printed].text);
    if (d->n_errors > DIAG_LIMIT)
        fprintf(stderr, "smelt: %d more problems are not shown\n", d->n_errors - DIAG_LIMIT);
}

DiagMark diag_mark(const Diag *d) {
    return (DiagMark){d->n, d->n_errors, d->n_invalid};
}

void diag_rewind(Diag *d, DiagMark mark) {
    while (d->n > mark.n) free(d->message[--d->n].text);
    if (d->n_printed > d->n) d->n_printed = d->n;
    d->n_errors = mark.n_errors;
    d->n_invalid = mark.n_invalid;
}

const char *diag_message(const Diag *d, int i) {
    return i >= 0 && i < d->n ? d->message[i].text : NULL;
}

static struct {
    const char *pass;
    SrcLoc loc;
} bug_place;
static BugReporter *bug_reporter;

void bug_set_reporter(BugReporter *reporter) {
    bug_reporter = reporter;
}

void bug_context(const char *pass, SrcLoc loc) {
    bug_place.pass = pass;
    bug_place.loc = loc;
}

void bug_stop(const char *file, int line, const char *fmt, ...) {
    StrBuf b = {0};
    strbuf_printf(&b, "smelt: internal error at %s:%d", file, line);
    if (bug_place.pass) strbuf_printf(&b, ", in pass %s", bug_place.pass);
    if (bug_place.loc.op) {
        strbuf_add(&b, ", at ");
        describe_place(&b, bug_place.loc);
    }
    strbuf_add(&b, ": ");
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&b, fmt, ap);
    va_end(ap);
    fprintf(
        stderr,
        "%s\nsmelt: this is a bug of smelt's; please report it with the model and the command\n",
        strbuf_text(&b));
    fflush(stderr);
    BugReporter *reporter = bug_reporter;
    bug_reporter = NULL; /* a bug on the way is not reported */
    if (reporter) reporter(bug_place.pass);
    if (getenv("SMELT_ABORT")) abort();
    _Exit(70);
}
