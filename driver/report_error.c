/* smelt run --report-error: what reduced precision and fast filtering do to the outputs.
 *
 * The model is compiled a second time without them and runs on the same inputs. Told of each output
 * are the largest difference, as it is and as a part of the largest value, and the root of the mean
 * square of all differences over that of the values. Outputs that are no floats tell how many
 * elements differ. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "driver/runner.h"

typedef struct Difference {
    uint64_t n, n_differ;
    double largest, largest_value, squares, value_squares;
} Difference;

/* NaN beside NaN is no difference, and beside a number an infinite one. */
static Difference compare(const HostTensor *of_a, const HostTensor *of_b) {
    HostTensor numbers[2] = {host_numbers(of_a), host_numbers(of_b)}, *a = numbers, *b = a + 1;
    Difference d = {.n = b->n_bytes / (uint64_t)dtype_bytes(b->dtype)};
    for (uint64_t i = 0; i < d.n; i++) {
        double x = host_element(a, i), y = host_element(b, i),
               by = x == y || (isnan(x) && isnan(y)) ? 0 : fabs(x - y);
        if (isnan(by)) by = INFINITY;
        d.n_differ += by != 0;
        d.largest = fmax(d.largest, by);
        d.largest_value = fmax(d.largest_value, fabs(y));
        d.squares += by * by;
        d.value_squares += y * y;
    }
    return d;
}

static bool same_shape(const HostTensor *a, const HostTensor *b) {
    return a->dtype == b->dtype && a->rank == b->rank &&
           !memcmp(a->dims, b->dims, sizeof *a->dims * (size_t)a->rank);
}

static void tell(const HostTensor *a, const HostTensor *b) {
    StrBuf line = {0};
    strbuf_escaped(&line, b->name, ESC_TERMINAL);
    if (b->dtype == DT_STR || !same_shape(a, b)) {
        strbuf_add(&line, b->dtype == DT_STR ? ": strings are not compared" : ": another shape");
    } else {
        Difference d = compare(a, b);
        if (dtype_is_float(b->dtype))
            strbuf_printf(
                &line,
                ": largest difference %.3g, %.3g of the largest value; %.3g by root mean square",
                d.largest, d.largest_value > 0 ? d.largest / d.largest_value : d.largest,
                d.value_squares > 0 ? sqrt(d.squares / d.value_squares) : sqrt(d.squares));
        else
            strbuf_printf(&line, ": %" PRIu64 " of %" PRIu64 " elements differ", d.n_differ, d.n);
    }
    puts(strbuf_text(&line));
    strbuf_free(&line);
}

bool report_error(const Options *o, Runner *approximate) {
    Options exact = *o;
    Session s;
    exact.precision = NULL;
    exact.no_winograd = true;
    uint32_t n, n_exact;
    bool good = session_open(&s, &exact) && session_compile(&s, NULL) && session_is_complete(&s);
    Runner *r = good ? runner_create(&s) : NULL;
    good = r && runner_read_inputs(r) && runner_bind(r) && runner_run(r, NULL) == SMELT_OK;
    const HostTensor *got = runner_outputs(approximate, &n),
                     *want = good ? runner_outputs(r, &n_exact) : NULL;
    for (uint32_t i = 0; good && i < n && i < n_exact; i++) tell(&got[i], &want[i]);
    runner_destroy(r);
    return session_close(&s, good ? STATUS_GOOD : STATUS_MODEL) == STATUS_GOOD;
}
