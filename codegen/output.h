/* Output files that appear whole or not at all.
 *
 * An Output collects bytes in a file beside its path and takes the path's place when it is
 * finished: whatever goes wrong before (disk full, read-only folder, a directory in the way), the
 * old file stays as it was. Errors are remembered, so that writers need not check each write: the
 * first one is told when the file is finished. Links are followed; a device or pipe (/dev/stdout)
 * is written directly. */
#ifndef SMELT_CODEGEN_OUTPUT_H
#define SMELT_CODEGEN_OUTPUT_H

#include "ir/support/str.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Output Output;

/* Starts a file; never NULL. Ends with output_finish, output_finish_all or output_discard. */
Output *output_open(const char *path);
void output_write(Output *o, const void *bytes, size_t n_bytes);
void output_zeros(Output *o, uint64_t n_bytes);
void output_text(Output *o, const char *text);
/* Overwrites bytes already written, at an offset from the start. Not for devices and pipes. */
void output_patch(Output *o, uint64_t offset, const void *bytes, size_t n_bytes);
/* Hashes what is written from here on; output_hash gives the XXH64 (seed 0) of it so far. Bytes
 * that output_patch replaces count as they were first written. */
void output_start_hash(Output *o);
uint64_t output_hash(const Output *o);
/* Bytes written so far. */
uint64_t output_offset(const Output *o);
/* Nothing has failed yet (data may still be in the buffer). */
bool output_is_good(const Output *o);

/* Puts the file in its place and frees o. On failure adds one line of text (no newline) that names
 * the path to `error` and leaves the old file alone. */
bool output_finish(Output *o, StrBuf *error);
/* The same for several files: none is put in place unless all of them were written completely. */
bool output_finish_all(Output **o, int n, StrBuf *error);
/* Drops the file and frees o; NULL is fine. */
void output_discard(Output *o);

#endif
