/* Large constant data on their way to disk, as an object file or as a weights file.
 *
 * LLVM takes about a second per MB when constants pass through it element by element. Weights are
 * bytes already, so they are streamed from where they lie (the mapped model, a packing buffer) into
 * an ELF object that holds nothing else, or into the file of `--weights=file`. Targets whose
 * objects are not ELF (Mach-O, COFF) are not served here: weights_has_object says so. */
#ifndef SMELT_CODEGEN_WEIGHTS_H
#define SMELT_CODEGEN_WEIGHTS_H

#include "codegen/output.h"

/* A piece of a symbol's bytes: a view, a run of zeros, or bytes made while they are written. */
typedef struct WeightSpan {
    uint64_t n_bytes;
    const void *bytes;                   /* n_bytes of them, or NULL and: */
    void (*write)(Output *o, void *ctx); /* writes exactly n_bytes to o; NULL too: zeros */
    void *ctx;
} WeightSpan;

/* One symbol; it starts at a multiple of 64 bytes. Its name is the object file's spelling. */
typedef struct WeightSymbol {
    const char *name;
    const WeightSpan *spans;
    size_t n_spans;
} WeightSymbol;

/* Whether weights_write_object can serve this LLVM triple with this LLVM feature list ("+d,+c"; it
 * decides the float ABI on Arm without "hf" in the triple and on RISC-V). */
bool weights_has_object(const char *triple, const char *features);
/* Size of the object that weights_write_object writes: an archive has to know it beforehand. */
uint64_t weights_object_bytes(const char *triple, const char *features, const WeightSymbol *symbols,
                              size_t n_symbols);
/* Writes a relocatable object with the symbols, hidden, in .rodata. */
void weights_write_object(Output *o, const char *triple, const char *features,
                          const WeightSymbol *symbols, size_t n_symbols);

/* What a model must know of its weights file. */
typedef struct WeightsFile {
    uint64_t n_bytes; /* smelt_model.weight_bytes */
    uint64_t hash;    /* smelt_model.weight_hash */
} WeightsFile;

/* Writes a weights file (runtime/include/smelt_weights.h): the symbols' bytes one after another,
 * each at the next multiple of 64 from the start of the weights; offsets[i], if not NULL, receives
 * where. */
WeightsFile weights_write_file(Output *o, uint64_t model_hash, const WeightSymbol *symbols,
                               size_t n_symbols, uint64_t *offsets);

#endif
