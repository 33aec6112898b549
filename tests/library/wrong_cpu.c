/* Calls MODEL once and prints the status: 5 where the processor does not fit, with the outputs as
 * they were. Run under an emulator of another processor. */
#include "generic.h"

static int is_untouched(const unsigned char *p, uint64_t n_bytes)
{
    while (n_bytes && p[n_bytes - 1] == 0x55)
        n_bytes--;
    return n_bytes == 0;
}

int main(void)
{
    Call c;

    open_call(&c, NULL);
    int status = MODEL.run(&c.call);
    for (uint32_t i = 0; i < MODEL.n_outputs; i++)
        EXPECT(is_untouched(c.outputs[i], MODEL.outputs[i].max_bytes) == (status != 0));
    printf("%d\n", status);
    return 0;
}
