/* A file's bytes, read-only, for as long as they are needed.
 *
 * Only regular files are opened (a FIFO, device, socket or directory is refused before it is
 * opened), and "-" reads standard input up to a cap. Small files are read into private memory;
 * larger ones are mapped. If someone shortens a mapped file, the pages that are gone read as
 * zeros instead of raising SIGBUS, and mapped_is_intact() says so afterwards: a reader stays
 * within memory it owns whatever happens to the file, and the caller reports the file as changed.
 * If someone overwrites a mapped file, its bytes change under the reader: whoever parses must read
 * each byte that it depends on once (wire.c does). */
#ifndef SMELT_FRONTEND_MAPPED_H
#define SMELT_FRONTEND_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/support/diag.h"

typedef struct MappedFile {
    const unsigned char *bytes; /* never NULL once open */
    size_t n_bytes;
    struct MapGuard *guard; /* what the SIGBUS handler knows of a mapping; NULL: private memory */
} MappedFile;

/* Files up to these sizes are read, longer ones mapped. */
enum { MAPPED_READ_MODEL = 1 << 20, MAPPED_READ_SIDE = 64 << 10 };
/* At most this much is taken from standard input. */
#define MAPPED_STDIN_LIMIT ((size_t)1 << 30)

/* Opens the named file ("-": standard input). False, with a message, when it cannot be read, is
 * not a regular file or is empty. */
bool mapped_open(MappedFile *f, const char *path, Diag *d);
/* Takes the bytes of an open descriptor of a regular file and leaves the descriptor to the caller.
 * NULL when it went well, or why it did not ("is a FIFO, not a regular file"). */
const char *mapped_open_fd(MappedFile *f, int fd, size_t read_up_to);
/* False when the file was found shorter than it was when it was mapped. */
bool mapped_is_intact(const MappedFile *f);
/* These bytes of a mapping are not needed for a while: their pages leave memory and come back from
 * the file when they are read again. Does nothing for bytes elsewhere. */
void mapped_release(const MappedFile *f, const void *bytes, size_t n_bytes);
/* Gives the memory back; f may be zero. */
void mapped_close(MappedFile *f);
/* "looks like a gzip archive", ... when the bytes begin like another format; NULL otherwise. */
const char *mapped_format_hint(const unsigned char *bytes, size_t n_bytes);

#endif
