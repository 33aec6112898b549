/* Static libraries: an `ar` archive written from members in memory or from streams.
 *
 * The archive depends on its members alone: no times, users or modes of the build machine. Who
 * calls knows which symbols each object defines for others and passes their names, so no object is
 * parsed. Offsets beyond 4 GiB switch the symbol index to its 64-bit form. */
#ifndef SMELT_CODEGEN_ARCHIVE_H
#define SMELT_CODEGEN_ARCHIVE_H

#include "codegen/output.h"

typedef enum ArchiveFormat {
    ARCHIVE_GNU,   /* ELF and COFF targets: GNU ar, lld, link.exe */
    ARCHIVE_DARWIN /* Mach-O targets: ld64, lld */
} ArchiveFormat;

typedef struct ArchiveMember {
    const char *name; /* file name, without folders */
    uint64_t n_bytes;
    const void *bytes;                   /* n_bytes of them, or NULL and: */
    void (*write)(Output *o, void *ctx); /* writes exactly n_bytes to o */
    void *ctx;
    const char *const *symbols; /* global symbols it defines, as the object file spells them */
    size_t n_symbols;
} ArchiveMember;

/* The format that a target's linkers read, from LLVM's triple. */
ArchiveFormat archive_format(const char *triple);
/* Writes a whole archive; failures are remembered by the output. */
void archive_write(Output *o, ArchiveFormat format, const ArchiveMember *members, size_t n_members);
/* The same with the 32-bit index up to index_limit instead of 4 GiB, to test the other one. */
void archive_write_limit(Output *o, ArchiveFormat format, const ArchiveMember *members,
                         size_t n_members, uint64_t index_limit);

#endif
