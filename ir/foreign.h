/* Libraries whose C functions compiled models call: the rows of foreign.def.
 *
 * Operators that libraries know better (image files) and --blas make statements `extern` with these
 * names. All other names are functions of the user's, which --op-file declares. */
#ifndef SMELT_IR_FOREIGN_H
#define SMELT_IR_FOREIGN_H

typedef enum ForeignLibrary {
    FOREIGN_NONE,
#define LIBRARY(name, functions, link) FOREIGN_##name,
#include "ir/foreign.def"
#undef LIBRARY
    FOREIGN_COUNT
} ForeignLibrary;

typedef struct ForeignInfo {
    const char *functions; /* their names, a space between two */
    const char *link;      /* the linker's options */
} ForeignInfo;
extern const ForeignInfo foreign_info[FOREIGN_COUNT];

/* The library that has this function; FOREIGN_NONE: none of ours. */
ForeignLibrary foreign_library(const char *function);

#endif
