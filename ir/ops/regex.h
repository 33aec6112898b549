/* Regular expressions in RE2's syntax as tables: does the whole of a text match?
 *
 * State 0 is dead, state 1 the start; next[state * n_classes + class_of[byte]] follows a byte, and
 * a text matches when the state behind its last byte accepts. Texts are UTF-8; \b, \w and their
 * kind are ASCII's, as in RE2. */
#ifndef SMELT_IR_OPS_REGEX_H
#define SMELT_IR_OPS_REGEX_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/support/arena.h"

typedef struct Regex {
    int n_states, n_classes;
    int64_t class_of[256];
    int64_t *next;    /* n_states * n_classes */
    int64_t *accepts;  /* of each state: 0 or 1 */
    bool looks_around; /* has assertions (^ $ \b ...) */
} Regex;

typedef struct RegexError {
    const char *text; /* what is wrong, and where it is in the pattern */
    int at;
    bool unsupported; /* RE2 knows it, this does not */
} RegexError;

/* All in a; false with an error. */
bool regex_compile(Arena *a, const char *pattern, Regex *out, RegexError *error);

#endif
