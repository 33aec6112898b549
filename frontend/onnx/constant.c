/* Tensors of the model file as constants of the graph: views into the mapped file wherever that is
 * possible. Copied are small tensors that lie unaligned, booleans that are not 0 or 1, elements of
 * less than a byte, which are packed in files, and sparse tensors, which become dense. */
#include <string.h>

#include "frontend/onnx/import.h"

enum {
    COPY_UNALIGNED = 64 << 10, /* up to this size an unaligned tensor is copied */
    MAX_DENSIFIED = 256 << 20, /* bytes of a sparse tensor made dense */
};

static bool is_normal_bool(const unsigned char *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (b[i] > 1) return false;
    return true;
}

/* The tensor's bytes in a form that the rest of the compiler may read. */
static const void *settle_bytes(Arena *a, DType t, const OnnxTensor *tensor) {
    const unsigned char *bytes = tensor->bytes;
    size_t n = tensor->n_bytes;
    if (dtype_info[t].bits < 8 && tensor->n_elements) {
        unsigned char *all = arena_alloc(a, (size_t)tensor->n_elements);
        dtype_unpack(t, bytes, (uint64_t)tensor->n_elements, all);
        return all;
    }
    if (t == DT_BOOL && !is_normal_bool(bytes, n)) {
        unsigned char *copy = arena_alloc(a, n);
        for (size_t i = 0; i < n; i++) copy[i] = bytes[i] != 0;
        return copy;
    }
    bool aligned = (uintptr_t)bytes % (uintptr_t)dtype_bytes(t) == 0;
    return n && !aligned && n <= COPY_UNALIGNED ? arena_copy(a, bytes, n) : bytes;
}

static Value *import_strings(Import *im, Graph *g, const char *name, const OnnxTensor *t) {
    ConstString *s = arena_array(im->arena, ConstString, t->n_elements + 1);
    for (int64_t i = 0; i < t->n_elements; i++)
        s[i] = (ConstString){(const char *)t->strings[i].data, t->strings[i].len};
    return graph_const_strings(g, name, shape_ints(im->m->k, t->dims, t->rank), s);
}

Value *import_tensor(Import *im, Graph *g, const char *name, const Onnx__TensorProto *t,
                     SrcLoc loc) {
    OnnxTensor tensor;
    if (!onnx_tensor_bytes(im->model, t, loc, im->d, &tensor)) return NULL;
    const char *what = arena_printf(im->arena, "tensor '%s'", name);
    DType dtype = import_dtype(im, tensor.data_type, loc, what);
    if (dtype == DT_NONE) return NULL;
    if (dtype == DT_STR) return import_strings(im, g, name, &tensor);
    const void *bytes = settle_bytes(im->m->arena, dtype, &tensor);
    Shape shape = shape_ints(im->m->k, tensor.dims, tensor.rank);
    return graph_add_const(g, name, dtype, shape, bytes,
                           (size_t)tensor.n_elements * (size_t)dtype_bytes(dtype));
}

/* Position of non-zero number i in the dense tensor of n elements; -1 when an index is outside. */
static int64_t dense_position(const OnnxTensor *indices, const int64_t *dims, int rank, int64_t n,
                              int64_t i) {
    const char *bytes = indices->bytes;
    int64_t at = 0, part;
    if (indices->rank == 1) {
        memcpy(&at, bytes + i * 8, 8);
        return at >= 0 && at < n ? at : -1;
    }
    for (int k = 0; k < rank; k++) {
        memcpy(&part, bytes + (i * rank + k) * 8, 8);
        if (part < 0 || part >= dims[k]) return -1;
        at = at * dims[k] + part;
    }
    return at;
}

static bool is_index_tensor(const OnnxTensor *t, int64_t n_values, int rank) {
    if (t->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__INT64) return false;
    if (t->rank == 1) return t->dims[0] == n_values;
    return t->rank == 2 && t->dims[0] == n_values && t->dims[1] == rank;
}

/* Values, indices and dims belong together; *n is the dense element count. */
static bool check_sparse(Import *im, const char *name, const Onnx__SparseTensorProto *t, SrcLoc loc,
                         OnnxTensor *values, OnnxTensor *indices, int64_t *n) {
    if (!t->values || !t->indices || t->n_dims > MAX_RANK) {
        diag_error(im->d, loc, "sparse tensor '%s' lacks values, indices or a sensible rank", name);
        return false;
    }
    if (!onnx_tensor_bytes(im->model, t->values, loc, im->d, values) ||
        !onnx_tensor_bytes(im->model, t->indices, loc, im->d, indices))
        return false;
    Shape shape = shape_ints(im->m->k, t->dims, (int)t->n_dims);
    if (!shape_count_int(shape, n) || *n > MAX_DENSIFIED / 16) {
        diag_error(im->d, loc, "sparse tensor '%s' has negative dims or more than %d elements",
                   name, MAX_DENSIFIED / 16);
        return false;
    }
    if (values->rank != 1 || !is_index_tensor(indices, values->n_elements, (int)t->n_dims)) {
        diag_error(im->d, loc, "the indices of sparse tensor '%s' do not fit its values", name);
        return false;
    }
    return true;
}

Value *import_sparse(Import *im, Graph *g, const char *name, const Onnx__SparseTensorProto *t,
                     SrcLoc loc) {
    OnnxTensor values, indices;
    int64_t n;
    if (!check_sparse(im, name, t, loc, &values, &indices, &n)) return NULL;
    DType dtype = import_dtype(im, values.data_type, loc,
                               arena_printf(im->arena, "sparse tensor '%s'", name));
    if (dtype == DT_STR)
        diag_unsupported(im->d, loc, "sparse tensor '%s': strings are not supported", name);
    if (dtype == DT_NONE || dtype == DT_STR) return NULL;
    size_t size = (size_t)dtype_bytes(dtype), n_bytes = (size_t)n * size;
    char *dense = arena_alloc(im->m->arena, n_bytes);
    const char *bytes = settle_bytes(im->m->arena, dtype, &values);
    for (int64_t i = 0, last = -1; i < values.n_elements; i++) {
        int64_t at = dense_position(&indices, t->dims, (int)t->n_dims, n, i);
        if (at <= last) {
            diag_error(im->d, loc,
                       "index %lld of sparse tensor '%s' is out of its dims or out of order",
                       (long long)i, name);
            return NULL;
        }
        memcpy(dense + (size_t)at * size, bytes + (size_t)i * size, size);
        last = at;
    }
    return graph_add_const(g, name, dtype, shape_ints(im->m->k, t->dims, (int)t->n_dims), dense,
                           n_bytes);
}
