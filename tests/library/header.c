/* The generated header alone, as the first include, in strict C99 and in C++17; and then beside
 * smelt.h. */
#include "digits.h"
#include "digits.h"
#include "smelt.h"

static unsigned char arena[DIGITS_ARENA_BYTES];

int main(void)
{
    float image[64] = {0}, probabilities[10];
    const smelt_model *model = &digits_model;

    return digits_run(image, probabilities, arena) != SMELT_OK ||
           model->arena_bytes != DIGITS_ARENA_BYTES;
}
