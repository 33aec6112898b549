/* The one assert of the unit tests: stays on in every build, names the place and goes on. */
#ifndef SMELT_TESTS_UNIT_CHECK_H
#define SMELT_TESTS_UNIT_CHECK_H

#include <stdio.h>

static int check_failures;

/* Counts and prints a condition that does not hold; true if it holds. */
#define CHECK(cond) check_that((cond) ? 1 : 0, __FILE__, __LINE__, #cond)

static inline int check_that(int holds, const char *file, int line, const char *text) {
    if (!holds) {
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
        check_failures++;
    }
    return holds;
}

/* What main returns. */
static inline int check_done(void) {
    if (check_failures) fprintf(stderr, "%d checks failed\n", check_failures);
    return check_failures ? 1 : 0;
}

#endif
