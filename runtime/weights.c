/* Weights files: mapped read-only and checked before a model may read them.
 *
 * The format is that of smelt_weights.h. The file must be a regular one of exactly the size that
 * the model asks for, carry this model's hash, and hash to what the model recorded, so a truncated,
 * damaged or exchanged file is a status at open and never a fault or a wrong answer in a run. Like
 * any mapped file it must not be shortened while it is open; replace it by renaming another over
 * it. */
#include "smelt.h"
#include "smelt_hash.h"
#include "smelt_weights.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct smelt_weights {
    unsigned char *file; /* the mapping, header first */
    size_t file_bytes;
};

static int check_header(const smelt_model *model, const unsigned char *header) {
    static const unsigned char zeros[SMELT_WEIGHTS_HEADER];
    const size_t end = SMELT_WEIGHTS_AT_HASH + 8;
    return memcmp(header, SMELT_WEIGHTS_MAGIC, 8) == 0 &&
           smelt_read_le64(header + SMELT_WEIGHTS_AT_VERSION) == SMELT_WEIGHTS_VERSION &&
           smelt_read_le64(header + SMELT_WEIGHTS_AT_MODEL) == model->model_hash &&
           smelt_read_le64(header + SMELT_WEIGHTS_AT_BYTES) == model->weight_bytes &&
           smelt_read_le64(header + SMELT_WEIGHTS_AT_HASH) == model->weight_hash &&
           memcmp(header + end, zeros, SMELT_WEIGHTS_HEADER - end) == 0;
}

/* Maps an open file if it has the model's size. */
static int map_file(const smelt_model *model, int fd, smelt_weights *w) {
    struct stat s;
    if (fstat(fd, &s) != 0 || !S_ISREG(s.st_mode)) return SMELT_BAD_FILE;
    if (model->weight_bytes > SIZE_MAX / 2 || s.st_size < 0 ||
        (uint64_t)s.st_size != model->weight_bytes + SMELT_WEIGHTS_HEADER)
        return SMELT_BAD_WEIGHTS;
    w->file_bytes = (size_t)s.st_size;
    void *file = mmap(NULL, w->file_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED) return errno == ENOMEM ? SMELT_NO_MEMORY : SMELT_BAD_FILE;
    w->file = file;
    return SMELT_OK;
}

static int open_and_check(const smelt_model *model, const char *path, smelt_weights *w) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block here */
    if (fd < 0) return SMELT_BAD_FILE;
    int status = map_file(model, fd, w);
    close(fd);
    if (status != SMELT_OK) return status;
    if (!check_header(model, w->file)) return SMELT_BAD_WEIGHTS;
    uint64_t hash = smelt_hash(w->file + SMELT_WEIGHTS_HEADER, (size_t)model->weight_bytes);
    return hash == model->weight_hash ? SMELT_OK : SMELT_BAD_WEIGHTS;
}

int smelt_weights_open(const smelt_model *model, const char *path, smelt_weights **weights) {
    if (!weights) return SMELT_BAD_CALL;
    *weights = NULL;
    if (!model || !path) return SMELT_BAD_CALL;
    if (model->abi != SMELT_ABI_VERSION) return SMELT_BAD_ABI;
    smelt_weights *w = calloc(1, sizeof *w);
    if (!w) return SMELT_NO_MEMORY;
    int status = open_and_check(model, path, w);
    if (status != SMELT_OK) {
        smelt_weights_close(w);
        return status;
    }
    *weights = w;
    return SMELT_OK;
}

const void *smelt_weights_data(const smelt_weights *weights) {
    return weights ? weights->file + SMELT_WEIGHTS_HEADER : NULL;
}

void smelt_weights_close(smelt_weights *weights) {
    if (!weights) return;
    if (weights->file) munmap(weights->file, weights->file_bytes);
    free(weights);
}
