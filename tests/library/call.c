/* Runs any compiled model once, through its description: reads all inputs, back to back, from the
 * first file, and writes all outputs, back to back and at their true sizes, to the second.
 *
 *     cc -DMODEL=net_model call.c libnet.a -lm -o call && ./call in.bin out.bin
 *
 * Symbolic dims are not given on the command line: a free dim gets the smallest value that the
 * model accepts, but at least 1. */
#include <stdio.h>
#include <stdlib.h>

#include "smelt.h"

extern const smelt_model MODEL;

static void *get(size_t n_bytes)
{
    void *p = calloc(1, n_bytes ? n_bytes : 1);

    if (!p) {
        fprintf(stderr, "call: out of memory\n");
        exit(1);
    }
    return p;
}

/* Bits of an element, from the table of the ABI. */
static uint64_t bits_of(uint32_t dtype)
{
    switch (dtype) {
#define SMELT_DTYPE(name, value, bits, ctype)                                                      \
    case value:                                                                                    \
        return bits;
#include "smelt_abi.def"
    default:
        return 0;
    }
}

static size_t bytes_of(const smelt_tensor_info *t, const int64_t *symbols)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < t->rank; i++)
        n *= (uint64_t)(t->dims[i] >= 0 ? t->dims[i] : symbols[-1 - t->dims[i]]);
    return (size_t)((n * bits_of(t->dtype) + 7) / 8);
}

static int read_inputs(const char *path, const int64_t *symbols, const void **inputs)
{
    FILE *f = fopen(path, "rb");
    int ok = f != NULL;

    for (uint32_t i = 0; ok && i < MODEL.n_inputs; i++) {
        size_t n_bytes = bytes_of(&MODEL.inputs[i], symbols);
        void *p = get(n_bytes);

        ok = fread(p, 1, n_bytes, f) == n_bytes;
        inputs[i] = p;
    }
    if (f)
        fclose(f);
    return ok;
}

static int write_outputs(const char *path, const int64_t *symbols, void **outputs)
{
    FILE *f = fopen(path, "wb");
    int ok = f != NULL;

    for (uint32_t i = 0; ok && i < MODEL.n_outputs; i++) {
        size_t n_bytes = bytes_of(&MODEL.outputs[i], symbols);

        ok = fwrite(outputs[i], 1, n_bytes, f) == n_bytes;
    }
    if (f)
        ok = fclose(f) == 0 && ok;
    return ok;
}

int main(int argc, char **argv)
{
    int64_t *symbols = get(MODEL.n_symbols * sizeof *symbols);
    const void **inputs = get(MODEL.n_inputs * sizeof *inputs);
    void **outputs = get(MODEL.n_outputs * sizeof *outputs);
    uint64_t arena_bytes = 0;
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = MODEL.n_inputs,
                       .n_outputs = MODEL.n_outputs,
                       .n_symbols = MODEL.n_symbols,
                       .inputs = inputs,
                       .outputs = outputs,
                       .symbols = symbols};
    int status;

    if (argc != 3) {
        fprintf(stderr, "usage: call INPUTS OUTPUTS\n");
        return 2;
    }
    for (uint32_t i = 0; i < MODEL.n_symbols; i++)
        symbols[i] = MODEL.symbols[i].min > 1 ? MODEL.symbols[i].min : 1;
    if (MODEL.symbols_for && (status = MODEL.symbols_for(symbols)) != SMELT_OK) {
        fprintf(stderr, "call: symbols_for: status %d\n", status);
        return 1;
    }
    if ((status = MODEL.arena_bytes_for(symbols, &arena_bytes)) != SMELT_OK) {
        fprintf(stderr, "call: arena_bytes_for: status %d\n", status);
        return 1;
    }
    if (!read_inputs(argv[1], symbols, inputs)) {
        fprintf(stderr, "call: cannot read all inputs from %s\n", argv[1]);
        return 1;
    }
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        if (!(MODEL.outputs[i].flags & SMELT_TENSOR_ALLOCATED))
            outputs[i] = get(bytes_of(&MODEL.outputs[i], symbols));
    call.arena = get((size_t)arena_bytes);
    call.arena_bytes = (size_t)arena_bytes;
    if ((status = MODEL.run(&call)) != SMELT_OK) {
        fprintf(stderr, "call: run: status %d\n", status);
        return 1;
    }
    if (!write_outputs(argv[2], symbols, outputs)) {
        fprintf(stderr, "call: cannot write %s\n", argv[2]);
        return 1;
    }
    return 0;
}
