/* Eight threads run one model at once, each in its own arena, and all answer as one thread alone
 * does. Built with ThreadSanitizer too, with the model's C source instrumented. */
#include <pthread.h>

#include "digits.h"

#include "digits_input.h"

#define N_THREADS 8
#define N_RUNS 200

static float want[N_RUNS][N_DIGITS];

typedef struct Worker {
    pthread_t thread;
    unsigned char arena[DIGITS_ARENA_BYTES + 1];
    int n_wrong;
} Worker;

static void *work(void *argument)
{
    Worker *w = argument;
    float image[N_PIXELS], got[N_DIGITS];

    for (unsigned i = 0; i < N_RUNS; i++) {
        make_picture(i, image);
        if (digits_run(image, got, w->arena) != 0 || memcmp(got, want[i], sizeof got) != 0)
            w->n_wrong++;
    }
    return NULL;
}

int main(void)
{
    static Worker workers[N_THREADS];
    float image[N_PIXELS];

    for (unsigned i = 0; i < N_RUNS; i++) {
        make_picture(i, image);
        EXPECT(digits_run(image, want[i], workers[0].arena) == 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        EXPECT(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    for (int i = 0; i < N_THREADS; i++) {
        EXPECT(pthread_join(workers[i].thread, NULL) == 0);
        EXPECT(workers[i].n_wrong == 0);
    }
    return 0;
}
