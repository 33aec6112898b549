/* A generic call of MODEL, whose dims are fixed, on inputs that a small generator fills: float32 in
 * 0..1, other types 0 or 1 in every byte. */
#ifndef GENERIC_H
#define GENERIC_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smelt.h"

#define EXPECT(condition)                                                                   \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);        \
            return 1;                                                                       \
        }                                                                                   \
    } while (0)

#define MAX_TENSORS 16

extern const smelt_model MODEL;

typedef struct Call {
    smelt_call call;
    const void *inputs[MAX_TENSORS];
    void *outputs[MAX_TENSORS];
} Call;

static void *memory(uint64_t n_bytes, int value)
{
    void *p = malloc((size_t)n_bytes + 1);

    if (!p)
        exit(99);
    return memset(p, value, (size_t)n_bytes + 1);
}

static void fill_input(const smelt_tensor_info *info, unsigned char *p)
{
    uint32_t state = 12345;

    for (uint64_t i = 0; i < info->max_bytes; i += info->dtype == SMELT_F32 ? 4 : 1) {
        float f;

        state = state * 1664525u + 1013904223u;
        f = (float)(state >> 8) / 16777216.0f;
        if (info->dtype == SMELT_F32)
            memcpy(p + i, &f, 4);
        else
            p[i] = 0;
    }
}

/* The call's memory is never given back: a test calls this once or a few times. */
static void open_call(Call *c, const smelt_hooks *hooks)
{
    if (MODEL.n_inputs > MAX_TENSORS || MODEL.n_outputs > MAX_TENSORS || MODEL.n_symbols)
        exit(98);
    memset(c, 0, sizeof *c);
    c->call.struct_size = sizeof c->call;
    c->call.n_inputs = MODEL.n_inputs;
    c->call.n_outputs = MODEL.n_outputs;
    for (uint32_t i = 0; i < MODEL.n_inputs; i++) {
        void *p = memory(MODEL.inputs[i].max_bytes, 0);

        fill_input(&MODEL.inputs[i], p);
        c->inputs[i] = p;
    }
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        c->outputs[i] = memory(MODEL.outputs[i].max_bytes, 0x55);
    c->call.inputs = c->inputs;
    c->call.outputs = c->outputs;
    c->call.arena_bytes = (size_t)MODEL.arena_bytes;
    c->call.arena = memory(MODEL.arena_bytes, 0x55);
    c->call.hooks = hooks;
}

static inline int same_outputs(const Call *a, const Call *b)
{
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        if (memcmp(a->outputs[i], b->outputs[i], (size_t)MODEL.outputs[i].max_bytes) != 0)
            return 0;
    return 1;
}

#endif
