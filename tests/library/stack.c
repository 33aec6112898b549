/* A call takes no more stack than the header says: it runs on a painted stack, and the paint below
 * is looked at. */
#include <pthread.h>
#include <stdlib.h>

#include "digits.h"

#include "digits_input.h"

#define PAINT 0xb7
#define STACK_BYTES (1u << 20)

static unsigned char arena[DIGITS_ARENA_BYTES];
static unsigned char *stack;
static size_t n_used;
static int status;

/* Paints what lies below its own frame, which is where the frames of the call will be. */
static void paint(void)
{
    volatile unsigned char here = 0;

    for (volatile unsigned char *p = stack; p < &here - 128; p++)
        *p = PAINT;
}

static void *work(void *unused)
{
    static float image[N_PIXELS], out[N_DIGITS];
    unsigned char here;
    size_t lowest = 0;

    make_picture(3, image);
    paint();
    status = digits_run(image, out, arena);
    while (stack[lowest] == PAINT)
        lowest++;
    n_used = (size_t)(&here - stack) - lowest;
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_attr_t attributes;

    stack = aligned_alloc(4096, STACK_BYTES);
    EXPECT(stack != NULL && pthread_attr_init(&attributes) == 0);
    EXPECT(pthread_attr_setstack(&attributes, stack, STACK_BYTES) == 0);
    EXPECT(pthread_create(&thread, &attributes, work, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(status == 0);
    printf("%u of %u\n", (unsigned)n_used, DIGITS_STACK_BYTES);
    EXPECT(n_used <= DIGITS_STACK_BYTES);
    return 0;
}
