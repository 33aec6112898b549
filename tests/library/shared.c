/* Argument: a shared library of digits. A host finds its model by one symbol, and it answers as the
 * static one does. */
#include <dlfcn.h>

#include "digits.h"
#include "smelt.h"

#include "digits_input.h"

static unsigned char arena[DIGITS_ARENA_BYTES];

int main(int argc, char **argv)
{
    float image[N_PIXELS], got[N_DIGITS], want[N_DIGITS];
    const void *inputs[] = {image};
    void *outputs[] = {got};
    smelt_call call = {.struct_size = sizeof call,
                       .n_inputs = 1,
                       .n_outputs = 1,
                       .inputs = inputs,
                       .outputs = outputs,
                       .arena = arena,
                       .arena_bytes = sizeof arena};

    EXPECT(argc == 2);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    EXPECT(library != NULL);
    const smelt_model *model = dlsym(library, SMELT_SHARED_SYMBOL);
    EXPECT(model != NULL && model != &digits_model && model->abi == SMELT_ABI_VERSION);
    EXPECT(model->model_hash == digits_model.model_hash && strcmp(model->name, "digits") == 0);
    EXPECT(dlsym(library, "digits_run") != NULL);
    for (unsigned seed = 0; seed < 20; seed++) {
        make_picture(seed, image);
        EXPECT(model->run(&call) == SMELT_OK);
        EXPECT(digits_run(image, want, arena) == SMELT_OK);
        EXPECT(memcmp(got, want, sizeof got) == 0);
    }
    return dlclose(library);
}
