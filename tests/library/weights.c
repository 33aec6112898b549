/* Arguments: PATH STATUS. Opens a weights file of digits, expects the status, and with the right
 * file the answers of the library that holds its weights (the model `second`). */
#include <stdlib.h>

#include "digits.h"
#include "second.h"
#include "smelt.h"

#include "digits_input.h"

static unsigned char arena[DIGITS_ARENA_BYTES];

static int answers(const unsigned char *data)
{
    float image[N_PIXELS], got[N_DIGITS], want[N_DIGITS];

    EXPECT(digits_model.weights == NULL && digits_model.weight_hash != 0);
    for (unsigned seed = 0; seed < 20; seed++) {
        make_picture(seed, image);
        EXPECT(digits_run(image, got, arena, data) == SMELT_OK);
        EXPECT(second_run(image, want, arena) == SMELT_OK);
        EXPECT(memcmp(got, want, sizeof got) == 0);
    }
    EXPECT(digits_run(image, got, arena, NULL) == SMELT_BAD_WEIGHTS);
    EXPECT(digits_run(image, got, arena, data + 4) == SMELT_BAD_WEIGHTS);
    return 0;
}

int main(int argc, char **argv)
{
    smelt_weights *weights;

    EXPECT(argc == 3);
    EXPECT(smelt_weights_open(&digits_model, argv[1], &weights) == atoi(argv[2]));
    EXPECT((weights != NULL) == (atoi(argv[2]) == SMELT_OK));
    if (weights && answers(smelt_weights_data(weights)))
        return 1;
    smelt_weights_close(weights);
    return 0;
}
