/* smelt --list: the compiler's tables, printed. */
#include <stdio.h>
#include <string.h>

#include "driver/driver.h"

static int list_passes(void) {
    static const char *const levels[] = {[LEVEL_GRAPH] = "graph",
                                         [LEVEL_DEF] = "def",
                                         [LEVEL_LOWER] = "lower",
                                         [LEVEL_KERNEL] = "kernel"};
    for (int i = 0; i < PASS_COUNT; i++)
        printf("%-18s %-7s -O%d  %s\n", pass_info[i].name, levels[pass_info[i].level],
               pass_info[i].opt, pass_info[i].doc);
    return STATUS_GOOD;
}

static int list_targets(void) {
    StrBuf text = {0};
    codegen_list_targets(&text);
    fputs(strbuf_text(&text), stdout);
    strbuf_free(&text);
    return STATUS_GOOD;
}

int command_list(const Options *o) {
    if (!strcmp(o->list, "ops")) {
        frontend_list_ops(stdout);
        return STATUS_GOOD;
    }
    if (!strcmp(o->list, "passes")) return list_passes();
    if (!strcmp(o->list, "targets")) return list_targets();
    options_list();
    return STATUS_GOOD;
}
