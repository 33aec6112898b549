/* The one assertion of the unit tests: counts, prints the failed condition, goes on. */
#ifndef SMELT_TESTS_UNIT_CHECK_H
#define SMELT_TESTS_UNIT_CHECK_H

#include <stdio.h>

static int n_failed;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            n_failed++;                                                                            \
        }                                                                                          \
    } while (0)

#endif
