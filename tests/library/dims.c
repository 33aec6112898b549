/* A model with a free dim: sizes that it does not accept, and arenas that are short for a size, are
 * statuses of the typed call, the generic one and both helpers; accepted ones run. Built for
 * logreg_pipe_b1 as `net`. */
#include <stdlib.h>

#include "net_call.h"

#include "digits_input.h"

enum { N_FEATURES = 32, N_CLASSES = 4, ROWS = 3 };

int main(void)
{
    static float x[ROWS * N_FEATURES], p[ROWS * N_CLASSES];
    static int64_t label[ROWS];
    const smelt_symbol *s = &net_model.symbols[0];
    int64_t bad[] = {-1, INT64_MIN, s->max == INT64_MAX ? -2 : s->max + 1, s->min - 1, INT64_MAX};
    const void *inputs[] = {x};
    void *outputs[] = {label, p};
    uint64_t n_bytes = 0;
    int64_t rows = ROWS;

    EXPECT(net_model.n_symbols == 1 && s->kind == SMELT_SYMBOL_ARGUMENT);
    EXPECT(net_model.arena_bytes_for(&rows, &n_bytes) == SMELT_OK);
    unsigned char *arena = malloc((size_t)n_bytes + 1);
    smelt_call call = net_call(inputs, outputs, &rows, arena, n_bytes, NULL);
    EXPECT(arena != NULL);
    EXPECT(net_run(rows, x, label, p, arena, (size_t)n_bytes) == SMELT_OK);
    EXPECT(net_model.run(&call) == SMELT_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t dim = bad[i];

        if (dim >= s->min && dim <= s->max)
            continue;
        EXPECT(net_run(dim, x, label, p, arena, (size_t)n_bytes) == SMELT_BAD_DIM);
        call.symbols = &dim;
        EXPECT(net_model.run(&call) == SMELT_BAD_DIM);
        EXPECT(net_model.symbols_for(&dim) == SMELT_BAD_DIM);
        EXPECT(net_model.arena_bytes_for(&dim, &n_bytes) == SMELT_BAD_DIM);
    }
    call.symbols = NULL;
    EXPECT(net_model.run(&call) == SMELT_BAD_CALL);
    EXPECT(net_model.symbols_for(NULL) == SMELT_BAD_POINTER);
    EXPECT(net_model.arena_bytes_for(&rows, &n_bytes) == SMELT_OK);
    if (n_bytes > 0) {
        EXPECT(net_run(rows, x, label, p, arena, (size_t)n_bytes - 1) == SMELT_SHORT_ARENA);
        EXPECT(net_run(rows, x, label, p, NULL, (size_t)n_bytes) == SMELT_BAD_POINTER);
    }
    free(arena);
    return 0;
}
