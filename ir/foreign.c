/* Which library a C function belongs to; see foreign.h. */
#include "ir/foreign.h"

#include <string.h>

const ForeignInfo foreign_info[FOREIGN_COUNT] = {
#define LIBRARY(name, functions, link) [FOREIGN_##name] = {functions, link},
#include "ir/foreign.def"
#undef LIBRARY
};

ForeignLibrary foreign_library(const char *function) {
    size_t n = strlen(function);
    for (int i = FOREIGN_NONE + 1; i < FOREIGN_COUNT; i++) {
        const char *all = foreign_info[i].functions;
        for (const char *at = strstr(all, function); at; at = strstr(at + 1, function))
            if ((at == all || at[-1] == ' ') && (!at[n] || at[n] == ' ')) return (ForeignLibrary)i;
    }
    return FOREIGN_NONE;
}
