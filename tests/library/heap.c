/* Outputs and inner tensors whose size only a run finds: memory comes from the hooks and goes back
 * to them. Counts balance, whichever request fails; outputs are the caller's to give back. Built as
 * `net` for a model
 *
 *     (x: f32[4], shape: i64[2]) -> (wide: f32[a, b], sum: f32[], again: f32[a, b])
 *
 * in which wide = Expand(ReduceSum(x), shape), sum = ReduceSum(wide) and
 * again = Neg(Tile(wide + wide)). */
#include <stdlib.h>

#include "net_call.h"

#include "digits_input.h"

enum { MOST = 64 };

static void *held[MOST];
static int n_held, n_asked, fail_at; /* the request of this number gets nothing; -1: none */
static int n_wrong;                  /* things given back that were not held */

static void *take(void *heap, size_t n_bytes)
{
    if (heap != held || n_asked++ == fail_at || n_held == MOST)
        return NULL;
    return held[n_held++] = malloc(n_bytes ? n_bytes : 1);
}

static void give_back(void *heap, void *p)
{
    int i = 0;

    if (!p || heap != held)
        return;
    while (i < n_held && held[i] != p)
        i++;
    if (i == n_held) {
        n_wrong++;
        return;
    }
    held[i] = held[--n_held];
    free(p);
}

static float x[4] = {1, 2, 3, 4}, sum;
static int64_t shape[2], symbols[8];
static void *outputs[3];

static int call_with(const smelt_hooks *hooks, int64_t rows, int64_t columns, void *arena,
                     size_t n_bytes) {
    const void *inputs[] = {x, shape};
    smelt_call call = net_call(inputs, outputs, symbols, arena, n_bytes, hooks);

    shape[0] = rows;
    shape[1] = columns;
    for (unsigned i = 0; i < 3; i++)
        if (net_model.outputs[i].flags & SMELT_TENSOR_ALLOCATED)
            outputs[i] = NULL;
    outputs[1] = &sum;
    n_asked = 0;
    return net_model.run(&call);
}

static int check_answer(int64_t rows, int64_t columns)
{
    const float *wide = outputs[0], *again = outputs[2];
    int64_t dims[2];

    smelt_tensor_info info = net_model.outputs[0];
    EXPECT(info.rank == 2 && (info.flags & SMELT_TENSOR_ALLOCATED));
    for (int i = 0; i < 2; i++)
        dims[i] = info.dims[i] >= 0 ? info.dims[i] : symbols[-1 - info.dims[i]];
    EXPECT(dims[0] == rows && dims[1] == columns);
    for (int64_t i = 0; i < rows * columns; i++)
        EXPECT(wide[i] == 10 && again[i] == -20);
    EXPECT(sum == (float)(10 * rows * columns));
    return 0;
}

int main(void)
{
    static const int64_t sizes[][2] = {{1, 1}, {3, 5}, {100, 70}, {0, 4}, {2, 9}};
    uint64_t n_bytes = 0;
    smelt_hooks hooks = {
        .struct_size = sizeof hooks, .heap = held, .alloc = take, .free = give_back};

    EXPECT(net_model.n_symbols <= 8);
    EXPECT(net_model.arena_bytes_for(symbols, &n_bytes) == SMELT_OK);
    void *arena = malloc((size_t)n_bytes + 1);
    EXPECT(arena != NULL);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t rows = sizes[i][0], columns = sizes[i][1];
        int n_requests, n_outputs = 0;

        fail_at = -1;
        EXPECT(call_with(&hooks, rows, columns, arena, (size_t)n_bytes) == SMELT_OK);
        if (check_answer(rows, columns))
            return 1;
        n_requests = n_asked;
        EXPECT(n_requests >= 2);
        for (unsigned o = 0; o < 3; o++)
            n_outputs += (net_model.outputs[o].flags & SMELT_TENSOR_ALLOCATED) != 0;
        EXPECT(n_outputs == 2 && n_held == n_outputs); /* all but the outputs came back */
        give_back(held, outputs[0]);
        give_back(held, outputs[2]);
        EXPECT(n_held == 0 && n_wrong == 0);

        for (fail_at = 0; fail_at < n_requests; fail_at++) {
            EXPECT(call_with(&hooks, rows, columns, arena, (size_t)n_bytes) == SMELT_NO_MEMORY);
            EXPECT(n_held == 0 && n_wrong == 0);
            EXPECT(outputs[0] == NULL && outputs[2] == NULL);
        }
    }

    fail_at = -1; /* a run that the data end, and calls without the hooks */
    EXPECT(call_with(&hooks, -2, 3, arena, (size_t)n_bytes) == SMELT_BAD_DATA);
    EXPECT(n_held == 0 && outputs[0] == NULL && outputs[2] == NULL);
    EXPECT(call_with(NULL, 2, 3, arena, (size_t)n_bytes) == SMELT_NO_MEMORY);
    hooks.free = NULL;
    EXPECT(call_with(&hooks, 2, 3, arena, (size_t)n_bytes) == SMELT_NO_MEMORY);
    EXPECT(n_held == 0);
    free(arena);
    return 0;
}
