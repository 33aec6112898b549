/* Calls MODEL once on inputs of zeros and prints the status: 5 where the processor does not fit, with the outputs as
 * they were. Run under an emulator of another processor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "smelt.h"

#define MAX_TENSORS 8

extern const smelt_model MODEL;

static void *filled(uint64_t n_bytes, int value)
{
    void *memory = malloc(n_bytes + 1);

    if (!memory)
        exit(99);
    return memset(memory, value, n_bytes + 1);
}

static int is_untouched(const unsigned char *p, uint64_t n_bytes)
{
    while (n_bytes && p[n_bytes - 1] == 0x55)
        n_bytes--;
    return n_bytes == 0;
}

int main(void)
{
    const void *inputs[MAX_TENSORS];
    void *outputs[MAX_TENSORS];
    smelt_call call = {.struct_size = sizeof call, .inputs = inputs, .outputs = outputs};

    if (MODEL.n_inputs > MAX_TENSORS || MODEL.n_outputs > MAX_TENSORS || MODEL.n_symbols)
        return 98;
    call.n_inputs = MODEL.n_inputs;
    call.n_outputs = MODEL.n_outputs;
    for (uint32_t i = 0; i < MODEL.n_inputs; i++)
        inputs[i] = filled(MODEL.inputs[i].max_bytes, 0);
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        outputs[i] = filled(MODEL.outputs[i].max_bytes, 0x55);
    call.arena_bytes = (size_t)MODEL.arena_bytes;
    call.arena = filled(MODEL.arena_bytes, 0x55);
    int status = MODEL.run(&call);
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        if (is_untouched(outputs[i], MODEL.outputs[i].max_bytes) != (status != 0))
            return 97;
    printf("%d\n", status);
    return 0;
}
