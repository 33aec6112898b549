/* The loops behind c_calls.py: n runs of an engine's C interface, one after the other. Each ends
 * early and gives what the call gave where that is not 0 or NULL. */
int repeat_status(int (*run)(void *), void *argument, long n);
void *repeat_binding(void *(*run)(void *, const void *, const void *), void *session, void *binding,
                     long n);

int repeat_status(int (*run)(void *), void *argument, long n) {
    int status = 0;
    for (long i = 0; i < n && !status; i++) status = run(argument);
    return status;
}

void *repeat_binding(void *(*run)(void *, const void *, const void *), void *session, void *binding,
                     long n) {
    void *status = 0;
    for (long i = 0; i < n && !status; i++) status = run(session, 0, binding);
    return status;
}
