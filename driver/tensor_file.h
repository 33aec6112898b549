/* Tensors in files: NumPy's .npy and .npz, ONNX's TensorProto (.pb).
 *
 * The files are untrusted: every size is checked against the file before it is used. Data come out
 * dense, row-major and in this machine's byte order, whatever the file holds. */
#ifndef SMELT_DRIVER_TENSOR_FILE_H
#define SMELT_DRIVER_TENSOR_FILE_H

#include "codegen/output.h"
#include "ir/graph.h"

/* An element of a string tensor, as compiled models have it. */
typedef struct HostString {
    const char *bytes;
    size_t n_bytes;
} HostString;

typedef struct HostTensor {
    const char *name; /* of the tensor in the model, or in the file ("" when it has none) */
    DType dtype;
    int rank;
    int64_t dims[MAX_RANK];
    void *data;
    uint64_t n_bytes;
} HostTensor;

/* Elements of these dims; false when the product or its bytes do not fit. */
bool tensor_size(DType t, const int64_t *dims, int rank, uint64_t *n_bytes);

/* Reads one tensor: the format follows the path's end. "x.npz:MEMBER" names a member of an archive;
 * without one, `member` does, and where it is not in there an archive of one member gives that.
 * Data in a. False after a message in d. */
bool tensor_read(Arena *a, const char *path, const char *member, HostTensor *t, Diag *d);
/* The bytes of a .npy, as npz members are too. `path` is for messages. */
bool npy_parse(Arena *a, const char *path, const uint8_t *bytes, size_t n, HostTensor *t, Diag *d);
/* The bytes of an archive's member, inflated, in a. */
bool npz_member(Arena *a, const char *path, const uint8_t *zip, size_t n, const char *member,
                const uint8_t **bytes, size_t *n_bytes, Diag *d);

/* The tensors of a sequence or an optional, in a. */
typedef struct HostList {
    HostTensor *at;
    int n;
    bool is_absent; /* an optional that holds nothing */
} HostList;

/* Reads the SequenceProto or, is_optional, the OptionalProto in a file, which holds a sequence or,
 * not of_sequence, one tensor. False after a message in d. */
bool list_read(Arena *a, const char *path, bool of_sequence, bool is_optional, HostList *list,
               Diag *d);
/* Writes such a file. */
void list_write(Output *o, const HostList *list, bool of_sequence, bool is_optional);

/* t, of complex numbers as one of twice as many floats (whose dims say nothing of them). */
HostTensor host_numbers(const HostTensor *t);
/* Element i of a tensor of numbers that are not complex. */
double host_element(const HostTensor *t, uint64_t i);
void npy_write(Output *o, const HostTensor *t);
void pb_write(Output *o, const HostTensor *t);

#endif
