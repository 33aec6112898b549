/* libFuzzer target: any bytes through the IR parser. What is accepted passes the verifier and
 * prints as text that reads back as the same text. Built with SMELT_FUZZ=ON; seeds are tests/ir. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void print_module(StrBuf *out, const Module *m) {
    if (m->kmod) print_kmodule(out, m->kmod);
    else print_graph(out, m->main);
}

static void check_module(Module *m, Diag *d) {
    StrBuf first = {0}, second = {0};
    verify_module(m, "parse");
    print_module(&first, m);
    Module *again = parse_module_like(strbuf_text(&first), m, d);
    if (!again) abort();
    print_module(&second, again);
    if (strcmp(strbuf_text(&first), strbuf_text(&second))) abort();
    module_destroy(again);
    strbuf_free(&first);
    strbuf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    static const Target target = {.name = "generic"};
    char *text = xmalloc(n_bytes + 1);
    memcpy(text, bytes, n_bytes);
    Diag *d = diag_create();
    Module *m = parse_module(text, &target, d);
    if ((m == NULL) != (diag_exit_code(d) != 0)) abort();
    if (m) {
        check_module(m, d);
        module_destroy(m);
    }
    free(text);
    diag_destroy(d);
    return 0;
}
