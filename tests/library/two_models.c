/* Two compiled models in one program: no symbol clashes, and neither disturbs the other, even in
 * one arena. */
#include "digits.h"
#include "second.h"

#include "digits_input.h"

static unsigned char arena[DIGITS_ARENA_BYTES + SECOND_ARENA_BYTES];

int main(void)
{
    float image[N_PIXELS], first[N_DIGITS], second[N_DIGITS], again[N_DIGITS];

    for (unsigned seed = 0; seed < 20; seed++) {
        make_picture(seed, image);
        EXPECT(digits_run(image, first, arena) == 0);
        EXPECT(second_run(image, second, arena) == 0);
        EXPECT(digits_run(image, again, arena) == 0);
        EXPECT(memcmp(first, again, sizeof first) == 0);
        EXPECT(memcmp(first, second, sizeof first) == 0); /* the same network under another name */
    }
    return 0;
}
