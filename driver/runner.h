/* A compiled model in memory with its data: what smelt run and smelt bench share.
 *
 *     Runner *r = runner_create(s);                  NULL after messages
 *     if (runner_read_inputs(r) && runner_bind(r)) {
 *         int status = runner_run(r);                any number of times
 *         const HostTensor *out = runner_outputs(r);
 *     }
 *     runner_destroy(r); */
#ifndef SMELT_DRIVER_RUNNER_H
#define SMELT_DRIVER_RUNNER_H

#include "driver/driver.h"
#include "driver/tensor_file.h"
#include "smelt.h"

typedef struct Runner Runner;

/* Compiles the session's kernel module for the backend of its options. */
Runner *runner_create(Session *s);
void runner_destroy(Runner *r);
/* Inputs from --input and --inputs; those not named stay without data. */
bool runner_read_inputs(Runner *r);
/* Finds the symbolic dims in the inputs that have data, fills the others with random numbers, and
 * allocates outputs and arena. */
bool runner_bind(Runner *r);
/* One run: a smelt_status. hooks may be NULL; the interpreter knows none. */
int runner_run(Runner *r, const smelt_hooks *hooks);
/* Results of the last run, in the model's order, with the dims that came out. */
const HostTensor *runner_outputs(Runner *r, uint32_t *n);
uint64_t runner_arena_bytes(const Runner *r);
/* --report-error: compares the outputs of a run with those of the model compiled without
 * --precision and Winograd's filtering, and prints the differences. False after messages. */
bool report_error(const Options *o, Runner *approximate);
/* NULL for the interpreter. */
const smelt_model *runner_model(const Runner *r);

#endif
