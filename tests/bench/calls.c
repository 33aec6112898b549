/* The loops behind c_calls.py: n runs of an engine's C interface, one after the other. Each ends
 * early and gives what the call gave where that is not 0 or NULL. After take_turns() each run gets
 * the next one of the rows, copied to where the engine reads its input. */
#include <string.h>

static struct {
    char *to;
    const char *rows;
    long bytes, n, at;
} turn;

void take_turns(char *to, const char *rows, long bytes, long n);

int repeat_status(int (*run)(void *), void *argument, long n);
void *repeat_binding(void *(*run)(void *, const void *, const void *), void *session, void *binding,
                     long n);
void repeat_rows(void (*predict)(void *, int, float *), char *x, long x_bytes, char *result,
                 long result_bytes, long n_rows, long n);

void take_turns(char *to, const char *rows, long bytes, long n) {
    turn.to = to;
    turn.rows = rows;
    turn.bytes = bytes;
    turn.n = n;
}

static void next_row(void) {
    if (!turn.n) return;
    memcpy(turn.to, turn.rows + turn.at * turn.bytes, (size_t)turn.bytes);
    turn.at = (turn.at + 1) % turn.n;
}

int repeat_status(int (*run)(void *), void *argument, long n) {
    int status = 0;
    for (long i = 0; i < n && !status; i++) {
        next_row();
        status = run(argument);
    }
    return status;
}

void *repeat_binding(void *(*run)(void *, const void *, const void *), void *session, void *binding,
                     long n) {
    void *status = 0;
    for (long i = 0; i < n && !status; i++) {
        next_row();
        status = run(session, 0, binding);
    }
    return status;
}

void repeat_rows(void (*predict)(void *, int, float *), char *x, long x_bytes, char *result,
                 long result_bytes, long n_rows, long n) {
    for (long i = 0; i < n; i++) {
        next_row();
        memset(result, 0, (size_t)(n_rows * result_bytes)); /* it adds to what is there */
        for (long r = 0; r < n_rows; r++)
            predict(x + r * x_bytes, 0, (float *)(result + r * result_bytes));
    }
}
