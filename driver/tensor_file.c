/* Tensors in files: which format a path means, and ONNX's TensorProto, SequenceProto and
 * OptionalProto. */
#include "driver/tensor_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "frontend/mapped.h"
#include "onnx.pb-c.h"

bool tensor_size(DType t, const int64_t *dims, int rank, uint64_t *n_bytes) {
    uint64_t n = (uint64_t)dtype_bytes(t);
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || __builtin_mul_overflow(n, (uint64_t)dims[i], &n)) return false;
    *n_bytes = n;
    return n <= INT64_MAX;
}

static SrcLoc in_file(const char *path) {
    return (SrcLoc){.file = path, .index = -1, .offset = -1};
}

/* ---- TensorProto ----------------------------------------------------------------------------- */

/* Elements from one of the typed fields: n of them, each `width` bytes, the low `to` bytes count.
 */
static bool take_field(HostTensor *t, const void *field, size_t n, size_t width) {
    size_t to = (size_t)dtype_bytes(t->dtype);
    if (!n || n != t->n_bytes / to) return false;
    for (size_t i = 0; i < n; i++)
        memcpy((char *)t->data + i * to, (const char *)field + i * width, to);
    return true;
}

/* Complex numbers are two entries each. */
static bool take_pairs(HostTensor *t, const void *field, size_t n) {
    if (n != t->n_bytes / (size_t)dtype_bytes(dtype_part(t->dtype))) return false;
    memcpy(t->data, field, t->n_bytes);
    return true;
}

/* Entries that are bytes of packed elements; their upper bits say nothing. */
static bool take_packed(HostTensor *t, const int32_t *field, size_t n) {
    if (n != dtype_packed_bytes(t->dtype, t->n_bytes)) return false;
    uint8_t *bytes = xmalloc(n);
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)field[i];
    dtype_unpack(t->dtype, bytes, t->n_bytes, t->data);
    free(bytes);
    return true;
}

static bool take_strings(Arena *a, HostTensor *t, const Onnx__TensorProto *p) {
    uint64_t n = t->n_bytes / sizeof(HostString);
    HostString *s = t->data;
    if (p->n_string_data != n || (p->has_raw_data && p->raw_data.len)) return false;
    for (uint64_t i = 0; i < n; i++)
        s[i] = (HostString){arena_copy(a, p->string_data[i].data, p->string_data[i].len),
                            p->string_data[i].len};
    return true;
}

static bool take_data(HostTensor *t, const Onnx__TensorProto *p) {
    if (p->has_raw_data && dtype_info[t->dtype].bits < 8) {
        if (p->raw_data.len != dtype_packed_bytes(t->dtype, t->n_bytes)) return false;
        dtype_unpack(t->dtype, p->raw_data.data, t->n_bytes, t->data);
        return true;
    }
    if (p->has_raw_data) {
        if (p->raw_data.len != t->n_bytes) return false;
        if (t->n_bytes) memcpy(t->data, p->raw_data.data, t->n_bytes);
        return true;
    }
    if (!t->n_bytes) return true;
    switch (t->dtype) {
    case DT_F32: return take_field(t, p->float_data, p->n_float_data, sizeof(float));
    case DT_F64: return take_field(t, p->double_data, p->n_double_data, sizeof(double));
    case DT_I64: return take_field(t, p->int64_data, p->n_int64_data, sizeof(int64_t));
    case DT_U32:
    case DT_U64: return take_field(t, p->uint64_data, p->n_uint64_data, sizeof(uint64_t));
    case DT_C64: return take_pairs(t, p->float_data, p->n_float_data);
    case DT_C128: return take_pairs(t, p->double_data, p->n_double_data);
    case DT_I2:
    case DT_I4:
    case DT_U2:
    case DT_U4:
    case DT_F4E2M1: return take_packed(t, p->int32_data, p->n_int32_data);
    default: return take_field(t, p->int32_data, p->n_int32_data, sizeof(int32_t));
    }
}

static bool pb_fill(Arena *a, const char *path, const Onnx__TensorProto *p, HostTensor *t,
                    Diag *d) {
    *t = (HostTensor){.name = arena_strdup(a, p->name ? p->name : ""),
                      .dtype = dtype_from_onnx(p->data_type)};
    if (t->dtype == DT_NONE) {
        diag_unsupported(d, in_file(path), "holds elements of type %d, which smelt does not read",
                         (int)p->data_type);
        return false;
    }
    if (p->n_external_data) {
        diag_error(d, in_file(path), "keeps its data in another file");
        return false;
    }
    t->rank = p->n_dims > MAX_RANK ? MAX_RANK : (int)p->n_dims;
    for (int i = 0; i < t->rank; i++) t->dims[i] = p->dims[i];
    if (p->n_dims > MAX_RANK || !tensor_size(t->dtype, t->dims, t->rank, &t->n_bytes)) {
        diag_error(d, in_file(path), "has bad dims");
        return false;
    }
    bool is_packed = dtype_info[t->dtype].bits < 8;
    size_t entries = p->n_float_data + p->n_double_data + p->n_int32_data + p->n_int64_data +
                     p->n_uint64_data + p->n_string_data;
    size_t there = is_packed ? (p->raw_data.len + entries) * 8 / (size_t)dtype_info[t->dtype].bits
                             : p->raw_data.len / (size_t)dtype_bytes(t->dtype) + entries;
    if (there < t->n_bytes / (uint64_t)dtype_bytes(t->dtype)) {
        diag_error(d, in_file(path), "holds fewer elements than its dims ask for");
        return false;
    }
    t->data = arena_alloc(a, t->n_bytes ? t->n_bytes : 1);
    if (t->dtype == DT_STR ? take_strings(a, t, p) : take_data(t, p)) return true;
    diag_error(d, in_file(path), "does not hold as many elements as its dims ask for");
    return false;
}

static bool pb_parse(Arena *a, const char *path, const uint8_t *bytes, size_t n, HostTensor *t, Diag *d) {
    Onnx__TensorProto *p = onnx__tensor_proto__unpack(NULL, n, bytes);
    if (!p) {
        diag_error(d, in_file(path), "is not a TensorProto");
        return false;
    }
    bool good = pb_fill(a, path, p, t, d);
    onnx__tensor_proto__free_unpacked(p, NULL);
    return good;
}

static size_t put_varint(uint8_t *at, uint64_t v) {
    size_t n = 0;
    for (; v > 127; v >>= 7) at[n++] = (uint8_t)(v | 128);
    at[n++] = (uint8_t)v;
    return n;
}

/* A TensorProto in two pieces: what protobuf-c makes of everything but the data, with the tag and
 * length of raw_data, field 9, after it; and the data from where they lie, or packed. */
typedef struct Packed {
    uint8_t *head, *own; /* to be freed */
    const void *data;
    size_t n_head;
    uint64_t n_data;
} Packed;

static Packed pack(const HostTensor *t) {
    Onnx__TensorProto p = ONNX__TENSOR_PROTO__INIT;
    p.n_dims = (size_t)t->rank;
    p.dims = (int64_t *)t->dims;
    p.has_data_type = true;
    p.data_type = dtype_info[t->dtype].onnx;
    p.name = (char *)t->name;
    ProtobufCBinaryData *strings = NULL;
    if (t->dtype == DT_STR) {
        const HostString *s = t->data;
        p.n_string_data = t->n_bytes / sizeof *s;
        p.string_data = strings = xmalloc(sizeof *strings * (p.n_string_data + 1));
        for (size_t i = 0; i < p.n_string_data; i++)
            strings[i] = (ProtobufCBinaryData){s[i].n_bytes, (uint8_t *)(uintptr_t)s[i].bytes};
    }
    Packed out = {.head = xmalloc(onnx__tensor_proto__get_packed_size(&p) + 16)};
    out.n_head = onnx__tensor_proto__pack(&p, out.head);
    free(strings);
    if (t->dtype == DT_STR) return out;
    bool is_packed = dtype_info[t->dtype].bits < 8;
    out.data = t->data;
    out.n_data = is_packed ? dtype_packed_bytes(t->dtype, t->n_bytes) : t->n_bytes;
    out.head[out.n_head++] = 9 << 3 | 2;
    out.n_head += put_varint(out.head + out.n_head, out.n_data);
    if (!is_packed) return out;
    out.data = out.own = xmalloc((size_t)out.n_data);
    dtype_pack(t->dtype, t->data, t->n_bytes, out.own);
    return out;
}

static void write_packed(Output *o, Packed *p) {
    output_write(o, p->head, p->n_head);
    if (p->n_data) output_write(o, p->data, p->n_data);
    free(p->head);
    free(p->own);
}

HostTensor host_numbers(const HostTensor *t) {
    HostTensor parts = *t;
    if (dtype_is_complex(t->dtype)) parts.dtype = dtype_part(t->dtype);
    return parts;
}

double host_element(const HostTensor *t, uint64_t i) {
    Value v = {.dtype = t->dtype, .data = t->data, .data_bytes = t->n_bytes};
    return value_const_float(&v, (int64_t)i);
}

void pb_write(Output *o, const HostTensor *t) {
    Packed p = pack(t);
    write_packed(o, &p);
}

/* ---- SequenceProto and OptionalProto --------------------------------------------------------- */

enum { ELEM_NONE = 0, ELEM_TENSOR = 1, ELEM_SEQUENCE = 3, LIST_FIELD = 3, SEQUENCE_FIELD = 5 };

static size_t put_message(uint8_t *at, int field, uint64_t length) {
    at[0] = (uint8_t)(field << 3 | 2);
    return 1 + put_varint(at + 1, length);
}

static uint64_t message_size(uint64_t length) {
    uint8_t scratch[16];
    return put_message(scratch, 1, length) + length;
}

void list_write(Output *o, const HostList *list, bool of_sequence, bool is_optional) {
    enum { KIND_TAG = 2 << 3, KIND_BYTES = 2 }; /* elem_type, field 2 of both messages */
    Packed *items = xmalloc(sizeof *items * (size_t)(list->n + 1));
    uint64_t n_list = KIND_BYTES;
    for (int i = 0; i < list->n; i++) {
        items[i] = pack(&list->at[i]);
        n_list += message_size(items[i].n_head + items[i].n_data);
    }
    uint8_t head[24] = {KIND_TAG, ELEM_NONE};
    if (is_optional) {
        if (!list->is_absent) head[1] = of_sequence ? ELEM_SEQUENCE : ELEM_TENSOR;
        output_write(o, head, KIND_BYTES);
    }
    if (of_sequence && !list->is_absent) {
        if (is_optional) output_write(o, head, put_message(head, SEQUENCE_FIELD, n_list));
        output_write(o, (const uint8_t[]){KIND_TAG, ELEM_TENSOR}, KIND_BYTES);
    }
    for (int i = 0; i < list->n; i++) {
        output_write(o, head, put_message(head, LIST_FIELD, items[i].n_head + items[i].n_data));
        write_packed(o, &items[i]);
    }
    free(items);
}

static bool fill_list(Arena *a, const char *path, Onnx__TensorProto *const *p, size_t n,
                      HostList *list, Diag *d) {
    list->at = arena_array(a, HostTensor, n + 1);
    for (size_t i = 0; i < n; i++)
        if (!pb_fill(a, path, p[i], &list->at[list->n++], d)) return false;
    return true;
}

static bool fill_sequence(Arena *a, const char *path, const Onnx__SequenceProto *p, HostList *list,
                          Diag *d) {
    if (p->elem_type == ELEM_TENSOR || (p->elem_type == ELEM_NONE && !p->n_tensor_values))
        return fill_list(a, path, p->tensor_values, p->n_tensor_values, list, d);
    diag_unsupported(d, in_file(path), "is a sequence of something else than tensors (%d)",
                     (int)p->elem_type);
    return false;
}

static bool fill_optional(Arena *a, const char *path, const Onnx__OptionalProto *p,
                          bool of_sequence, HostList *list, Diag *d) {
    list->is_absent = p->elem_type == ELEM_NONE;
    if (list->is_absent) return true;
    int want = of_sequence ? ELEM_SEQUENCE : ELEM_TENSOR;
    bool there = of_sequence ? p->sequence_value != NULL : p->tensor_value != NULL;
    if (p->elem_type != want || !there) {
        diag_error(d, in_file(path), "is not an optional that holds a %s",
                   of_sequence ? "sequence" : "tensor");
        return false;
    }
    return of_sequence ? fill_sequence(a, path, p->sequence_value, list, d)
                       : fill_list(a, path, &p->tensor_value, 1, list, d);
}

static bool list_parse(Arena *a, const char *path, const MappedFile *f, bool of_sequence,
                       bool is_optional, HostList *list, Diag *d) {
    Onnx__OptionalProto *p = NULL;
    Onnx__SequenceProto *s = NULL;
    if (is_optional)
        p = onnx__optional_proto__unpack(NULL, f->n_bytes, f->bytes);
    else
        s = onnx__sequence_proto__unpack(NULL, f->n_bytes, f->bytes);
    if (!p && !s)
        diag_error(d, in_file(path), "is not %s",
                   is_optional ? "an OptionalProto" : "a SequenceProto");
    bool good = p ? fill_optional(a, path, p, of_sequence, list, d)
                  : s && fill_sequence(a, path, s, list, d);
    if (p) onnx__optional_proto__free_unpacked(p, NULL);
    if (s) onnx__sequence_proto__free_unpacked(s, NULL);
    return good;
}

/* An empty file is an empty message: nothing, or no elements. */
static bool is_empty_file(const char *path) {
    struct stat s;
    return !stat(path, &s) && S_ISREG(s.st_mode) && !s.st_size;
}

/* ---- files ----------------------------------------------------------------------------------- */

static bool ends_with(const char *path, const char *end) {
    size_t n = strlen(path), m = strlen(end);
    return n >= m && !strcmp(path + n - m, end);
}

static bool parse(Arena *a, const char *path, const char *member, const MappedFile *f,
                  HostTensor *t, Diag *d) {
    if (ends_with(path, ".npy")) return npy_parse(a, path, f->bytes, f->n_bytes, t, d);
    if (ends_with(path, ".pb")) return pb_parse(a, path, f->bytes, f->n_bytes, t, d);
    if (ends_with(path, ".npz")) {
        const uint8_t *bytes;
        size_t n;
        return npz_member(a, path, f->bytes, f->n_bytes, member, &bytes, &n, d) &&
               npy_parse(a, path, bytes, n, t, d);
    }
    diag_error(d, in_file(path), "has a name that does not end in .npy, .npz or .pb");
    return false;
}

/* One byte each, anything but 0 is true. */
static void settle_bools(HostTensor *t) {
    for (uint64_t i = 0; t->dtype == DT_BOOL && i < t->n_bytes; i++)
        ((uint8_t *)t->data)[i] = ((uint8_t *)t->data)[i] != 0;
}

static bool check_intact(const char *path, MappedFile *f, bool good, Diag *d) {
    if (good && !mapped_is_intact(f)) {
        diag_error(d, in_file(path), "changed while it was read");
        good = false;
    }
    mapped_close(f);
    return good;
}

bool list_read(Arena *a, const char *path, bool of_sequence, bool is_optional, HostList *list,
               Diag *d) {
    MappedFile f = {0};
    *list = (HostList){.is_absent = is_optional};
    if (is_empty_file(path)) return true;
    if (!mapped_open(&f, path, d)) return false;
    bool good = list_parse(a, path, &f, of_sequence, is_optional, list, d);
    for (int i = 0; good && i < list->n; i++) settle_bools(&list->at[i]);
    return check_intact(path, &f, good, d);
}

bool tensor_read(Arena *a, const char *path, const char *member, HostTensor *t, Diag *d) {
    const char *colon = strstr(path, ".npz:");
    if (colon) {
        member = colon + strlen(".npz:");
        char *file = arena_strdup(a, path);
        file[member - path - 1] = 0;
        path = file;
    }
    MappedFile f = {0};
    if (!mapped_open(&f, path, d)) return false;
    bool good = parse(a, path, member, &f, t, d);
    if (good) settle_bools(t);
    return check_intact(path, &f, good, d);
}
