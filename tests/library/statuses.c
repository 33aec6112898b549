/* Wrong calls are statuses, change no output and touch nothing; right calls stay inside of the
 * arena they were given, wherever it lies and whatever it held. */
#include <stdlib.h>

#include "smelt.h"

#include "digits.h"

#include "digits_input.h"

#define GUARD 64

static smelt_call good_call(const void **inputs, void **outputs, unsigned char *arena)
{
    smelt_call c = {.struct_size = sizeof c, .n_inputs = 1, .n_outputs = 1, .inputs = inputs,
                    .outputs = outputs, .arena = arena, .arena_bytes = DIGITS_ARENA_BYTES};
    return c;
}

static int all_are(const unsigned char *bytes, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != value)
            return 0;
    return 1;
}

static int wrong_calls(const float *image, unsigned char *arena)
{
    float out[N_DIGITS];
    const void *inputs[] = {image};
    void *outputs[] = {out};
    const void *no_input[] = {NULL};
    void *no_output[] = {NULL};
    smelt_call c;

    memset(out, 0x55, sizeof out);
    EXPECT(digits_model.run(NULL) == SMELT_BAD_CALL);
    c = good_call(inputs, outputs, arena), c.struct_size = 4;
    EXPECT(digits_model.run(&c) == SMELT_BAD_CALL);
    c = good_call(inputs, outputs, arena), c.n_inputs = 2;
    EXPECT(digits_model.run(&c) == SMELT_BAD_CALL);
    c = good_call(inputs, outputs, arena), c.n_outputs = 0;
    EXPECT(digits_model.run(&c) == SMELT_BAD_CALL);
    c = good_call(inputs, outputs, arena), c.n_symbols = 1;
    EXPECT(digits_model.run(&c) == SMELT_BAD_CALL);
    c = good_call(no_input, outputs, arena);
    EXPECT(digits_model.run(&c) == SMELT_BAD_POINTER);
    c = good_call(inputs, no_output, arena);
    EXPECT(digits_model.run(&c) == SMELT_BAD_POINTER);
    c = good_call(inputs, outputs, arena), c.arena_bytes = DIGITS_ARENA_BYTES - 1;
    EXPECT(digits_model.run(&c) == SMELT_SHORT_ARENA);
    c = good_call(inputs, outputs, arena), c.arena_bytes = 0;
    EXPECT(digits_model.run(&c) == SMELT_SHORT_ARENA);
    c = good_call(inputs, outputs, NULL);
    EXPECT(digits_model.run(&c) == SMELT_BAD_POINTER);
    EXPECT(digits_run(NULL, out, arena) == SMELT_BAD_POINTER);
    EXPECT(digits_run(image, NULL, arena) == SMELT_BAD_POINTER);
    EXPECT(digits_run(image, out, NULL) == SMELT_BAD_POINTER);
    EXPECT(all_are((unsigned char *)out, sizeof out, 0x55));
    return 0;
}

/* Every alignment, clean and dirty, with guards on both sides. */
static int any_arena(const float *image)
{
    size_t n_bytes = GUARD + 64 + DIGITS_ARENA_BYTES + GUARD;
    unsigned char *block = malloc(n_bytes);
    float want[N_DIGITS], got[N_DIGITS];

    EXPECT(block != NULL);
    EXPECT(digits_run(image, want, block) == 0);
    for (size_t shift = 0; shift < 64; shift++) {
        unsigned char *arena = block + GUARD + shift;

        memset(block, shift % 2 ? 0xff : 0xa5, n_bytes);
        EXPECT(digits_run(image, got, arena) == 0);
        EXPECT(memcmp(got, want, sizeof got) == 0);
        EXPECT(all_are(block, GUARD + shift, shift % 2 ? 0xff : 0xa5));
        EXPECT(all_are(arena + DIGITS_ARENA_BYTES, 64 - shift + GUARD, shift % 2 ? 0xff : 0xa5));
    }
    free(block);
    return 0;
}

/* The description is that of the network, and the generic call answers as the typed one. */
static int description(const float *image, unsigned char *arena)
{
    float typed[N_DIGITS], generic[N_DIGITS];
    const void *inputs[] = {image};
    void *outputs[] = {generic};
    smelt_call c = good_call(inputs, outputs, arena);
    uint64_t n_bytes = 0;

    EXPECT(digits_model.struct_size >= sizeof(smelt_model) &&
           digits_model.abi == SMELT_ABI_VERSION);
    EXPECT(strcmp(digits_model.name, "digits") == 0);
    EXPECT(digits_model.n_inputs == 1 && digits_model.n_outputs == 1 &&
           digits_model.n_symbols == 0);
    EXPECT(strcmp(digits_model.inputs[0].name, "image") == 0 && digits_model.inputs[0].rank == 4);
    EXPECT(digits_model.inputs[0].dtype == SMELT_F32 &&
           digits_model.inputs[0].max_bytes == 4 * N_PIXELS);
    EXPECT(strcmp(digits_model.outputs[0].name, "probabilities") == 0);
    EXPECT(digits_model.outputs[0].dims[0] == 1 && digits_model.outputs[0].dims[1] == N_DIGITS);
    EXPECT(digits_model.weight_bytes >= 4 * 9000 && digits_model.weights != NULL);
    EXPECT(digits_model.arena_bytes_for(NULL, &n_bytes) == SMELT_OK &&
           n_bytes == DIGITS_ARENA_BYTES);
    EXPECT(digits_run(image, typed, arena) == 0);
    EXPECT(digits_model.run(&c) == SMELT_OK);
    EXPECT(memcmp(typed, generic, sizeof typed) == 0);
    return 0;
}

int main(void)
{
    static unsigned char arena[DIGITS_ARENA_BYTES];
    float image[N_PIXELS];

    make_picture(1, image);
    return wrong_calls(image, arena) || any_arena(image) || description(image, arena);
}
