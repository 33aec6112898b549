/* A fixed picture, and equality of answers, for the programs of this folder. */
#ifndef DIGITS_INPUT_H
#define DIGITS_INPUT_H

#include <stdio.h>
#include <string.h>

#define N_PIXELS 64
#define N_DIGITS 10

/* Picture number `seed`: every pixel is a multiple of 1/16 in 0..1. */
static inline void make_picture(unsigned seed, float *image)
{
    for (unsigned i = 0; i < N_PIXELS; i++)
        image[i] = (float)((i * 37u + seed * 101u + (i * i) % 7u) % 17u) / 16.0f;
}

#define EXPECT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                     \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#endif
