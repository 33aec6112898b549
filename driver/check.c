/* smelt check: is the model valid ONNX, and does smelt cover it? Everything is reported at once. */
#include <stdio.h>

#include "driver/driver.h"

int command_check(const Options *o) {
    Session s;
    PassOptions passes = {.stop_after = "infer_shapes"};
    bool good = session_open(&s, o) && run_passes(s.m, &passes);
    int status = session_close(&s, good ? STATUS_GOOD : STATUS_MODEL);
    if (status == STATUS_GOOD && !o->help) printf("the model is valid, and smelt covers it\n");
    return status;
}
