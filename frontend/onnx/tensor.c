/* The bytes of a TensorProto, however they are stored: onnx_tensor_bytes() of model.h.
 *
 * raw_data and external data are views. float_data, int64_data and other fields whose entries have
 * the element's width are views too (protobuf-c's arrays are little-endian here); narrower types
 * kept in int32_data or uint64_data are narrowed into the model's arena, once, with a range check.
 */
#include <inttypes.h>
#include <string.h>

#include "frontend/onnx/model_internal.h"
#include "ir/support/str.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ONNX data is little-endian");

typedef enum {
    FIELD_NONE,
    float_data,
    int32_data,
    string_data,
    int64_data,
    double_data,
    uint64_data,
    N_FIELDS
} TypedField;
typedef enum { ONE, PAIR, PACKED } Entries;

typedef struct TypeRow {
    const char *name;
    int bits;
    TypedField field;
    Entries entries;
} TypeRow;

static const TypeRow type_row[] = {
#define TENSOR_TYPE(name, bits, field, entries)                                                    \
    [ONNX__TENSOR_PROTO__DATA_TYPE__##name] = {#name, bits, field, entries},
#include "frontend/onnx/tensor_types.def"
#undef TENSOR_TYPE
};
enum { N_TYPES = sizeof type_row / sizeof *type_row };

static const char *const field_name[N_FIELDS] = {"no data",     "float_data", "int32_data",
                                                 "string_data", "int64_data", "double_data",
                                                 "uint64_data"};

static const TypeRow *find_type(int32_t t) {
    return t > 0 && t < N_TYPES && type_row[t].name ? &type_row[t] : NULL;
}

const char *onnx_type_name(int32_t data_type) {
    const TypeRow *r = find_type(data_type);
    return r ? r->name : NULL;
}

typedef struct Reading {
    OnnxModel *model;
    const Onnx__TensorProto *t;
    const TypeRow *type;
    SrcLoc where;
    Diag *diag;
    OnnxTensor *out;
} Reading;

#define bad(r, fmt, ...)                                                                           \
    (diag_error((r)->diag, (r)->where, "tensor '%s': " fmt, tensor_name((r)->t), __VA_ARGS__),     \
     false)

/* "[2,3] of FLOAT" */
static const char *describe_shape(const Reading *r) {
    StrBuf b = {0};
    strbuf_add(&b, "[");
    for (int i = 0; i < r->out->rank; i++)
        strbuf_printf(&b, "%s%" PRId64, i ? "," : "", r->out->dims[i]);
    strbuf_printf(&b, "] of %s", r->type->name);
    const char *text = arena_strdup(r->model->arena, strbuf_text(&b));
    strbuf_free(&b);
    return text;
}

/* Rank, dims, element count and byte count. */
static bool read_shape(Reading *r) {
    const Onnx__TensorProto *t = r->t;
    OnnxTensor *out = r->out;
    if (t->n_dims > ONNX_MAX_RANK)
        return bad(r, "rank %zu, at most %d is allowed", t->n_dims, ONNX_MAX_RANK);
    out->rank = (int)t->n_dims;
    out->dims = t->dims;
    bool is_empty = false, is_over = false;
    int64_t n = 1, n_bits;
    for (int i = 0; i < out->rank; i++) {
        if (t->dims[i] < 0) return bad(r, "dims[%d] is %" PRId64, i, t->dims[i]);
        if (t->dims[i] == 0) is_empty = true;
        if (__builtin_mul_overflow(n, t->dims[i], &n)) is_over = true;
    }
    if (is_empty) n = 0;
    int unit = r->type->bits ? r->type->bits : (int)sizeof(ProtobufCBinaryData) * 8;
    if ((is_over && !is_empty) || __builtin_mul_overflow(n, (int64_t)unit, &n_bits))
        return bad(r, "the product of its dims %s overflows 64 bits", describe_shape(r));
    out->n_elements = n;
    out->n_bytes = r->type->bits ? (size_t)(n_bits / 8 + (n_bits % 8 != 0)) : 0;
    return true;
}

static size_t field_count(const Onnx__TensorProto *t, TypedField f) {
    switch (f) {
    case float_data: return t->n_float_data;
    case int32_data: return t->n_int32_data;
    case string_data: return t->n_string_data;
    case int64_data: return t->n_int64_data;
    case double_data: return t->n_double_data;
    case uint64_data: return t->n_uint64_data;
    case FIELD_NONE:
    case N_FIELDS: break;
    }
    return 0;
}

/* The typed field in use, FIELD_NONE when there is none; false when there are two. */
static bool find_field(Reading *r, TypedField *used) {
    *used = FIELD_NONE;
    for (TypedField f = float_data; f < N_FIELDS; f++) {
        if (!field_count(r->t, f)) continue;
        if (*used) return bad(r, "both %s and %s are present", field_name[*used], field_name[f]);
        *used = f;
    }
    return true;
}

static bool read_raw(Reading *r) {
    const ProtobufCBinaryData *raw = &r->t->raw_data;
    if (r->type->field == string_data) return bad(r, "strings %s", "cannot be in raw_data");
    if (raw->len != r->out->n_bytes)
        return bad(r, "raw_data has %zu bytes, but its dims %s ask for %zu", raw->len,
                   describe_shape(r), r->out->n_bytes);
    r->out->bytes = raw->len ? raw->data : NULL;
    return true;
}

/* Does v fit an element of this many bits, whose type may be signed or unsigned? */
static bool fits(int64_t v, const TypeRow *type, int bits) {
    bool is_signed = !strncmp(type->name, "INT", 3);
    if (is_signed && type->entries == ONE)
        return v >= -(INT64_C(1) << (bits - 1)) && v < INT64_C(1) << (bits - 1);
    return v >= 0 && v < INT64_C(1) << bits;
}

/* Packs 6-bit codes, low bits first. */
static void pack_bits(unsigned char *to, const int32_t *from, size_t n, int bits) {
    for (size_t i = 0; i < n; i++)
        for (int b = 0; b < bits; b++) {
            size_t at = i * (size_t)bits + (size_t)b;
            if (from[i] >> b & 1) to[at / 8] |= (unsigned char)(1 << at % 8);
        }
}

/* int32_data whose entries are wider than the elements. */
static bool narrow_int32(Reading *r, unsigned char *to) {
    const TypeRow *type = r->type;
    size_t n = r->t->n_int32_data;
    int bits = type->entries == PACKED ? 8 : type->bits;
    bool is_bool = r->out->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL;
    for (size_t i = 0; i < n; i++) {
        int32_t v = r->t->int32_data[i];
        if (is_bool) v = v != 0;
        /* bytes of a packed type and bit patterns of floats are at times written sign-extended */
        bool is_pattern = strncmp(type->name, "INT", 3) && strncmp(type->name, "UINT", 4);
        if ((type->entries == PACKED || is_pattern) && bits >= 8 && v < 0 &&
            v >= -(1 << (bits - 1)))
            v += 1 << bits;
        if (!fits(v, type, bits))
            return bad(r, "int32_data[%zu] is %" PRId32 ", which does not fit %s", i,
                       r->t->int32_data[i], type->name);
        if (bits == 8) to[i] = (unsigned char)v;
        if (bits == 16) memcpy(to + 2 * i, &(uint16_t){(uint16_t)v}, 2);
    }
    if (bits == 6) pack_bits(to, r->t->int32_data, n, bits);
    return true;
}

static bool narrow_uint64(Reading *r, unsigned char *to) {
    for (size_t i = 0; i < r->t->n_uint64_data; i++) {
        uint64_t v = r->t->uint64_data[i];
        if (v > UINT32_MAX)
            return bad(r, "uint64_data[%zu] is %" PRIu64 ", which does not fit UINT32", i, v);
        memcpy(to + 4 * i, &(uint32_t){(uint32_t)v}, 4);
    }
    return true;
}

static bool read_narrowed(Reading *r) {
    OnnxModel *m = r->model;
    r->out->bytes = ptrmap_get(m->decoded, r->t);
    if (r->out->bytes || !r->out->n_bytes) return true;
    unsigned char *to = arena_alloc(m->arena, r->out->n_bytes);
    bool good = r->type->field == int32_data ? narrow_int32(r, to) : narrow_uint64(r, to);
    if (!good) return false;
    ptrmap_put(m->arena, m->decoded, r->t, to);
    r->out->bytes = to;
    return true;
}

static bool read_typed(Reading *r, TypedField used) {
    const Onnx__TensorProto *t = r->t;
    OnnxTensor *out = r->out;
    if (used != r->type->field)
        return bad(r, "%s values belong in %s, not in %s", r->type->name,
                   field_name[r->type->field], field_name[used]);
    uint64_t want = r->type->entries == PACKED ? out->n_bytes : (uint64_t)out->n_elements;
    if (r->type->entries == PAIR) want *= 2;
    size_t have = field_count(t, used);
    if (have != want)
        return bad(r, "%s has %zu values, but its dims %s ask for %" PRIu64, field_name[used], have,
                   describe_shape(r), want);
    switch (used) {
    case float_data: out->bytes = t->float_data; return true;
    case double_data: out->bytes = t->double_data; return true;
    case int64_data: out->bytes = t->int64_data; return true;
    case string_data: out->strings = t->string_data; return true;
    case int32_data:
        if (r->type->bits != 32) return read_narrowed(r);
        out->bytes = t->int32_data;
        return true;
    case uint64_data:
        if (r->type->bits != 64) return read_narrowed(r);
        out->bytes = t->uint64_data;
        return true;
    case FIELD_NONE:
    case N_FIELDS: break;
    }
    BUG("no such typed field: %d", (int)used);
}

bool onnx_tensor_bytes(OnnxModel *m, const Onnx__TensorProto *t, SrcLoc where, Diag *d,
                       OnnxTensor *out) {
    *out = (OnnxTensor){.data_type = t->data_type};
    Reading r = {m, t, find_type(t->data_type), where, d, out};
    if (!r.type) return bad(&r, "data_type %d is unknown", (int)t->data_type);
    if (t->segment) {
        diag_unsupported(d, where, "tensor '%s': it is stored in segments", tensor_name(t));
        return false;
    }
    TypedField used;
    if (!read_shape(&r) || !find_field(&r, &used)) return false;
    bool has_raw = t->has_raw_data && (t->raw_data.len || !used);
    if (has_raw && used) return bad(&r, "both raw_data and %s are present", field_name[used]);
    if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        if (used || (has_raw && t->raw_data.len))
            return bad(&r, "%s is present beside external data",
                       used ? field_name[used] : "raw_data");
        if (r.type->field == string_data) return bad(&r, "strings %s", "cannot be external");
        const unsigned char *bytes;
        if (!external_tensor_bytes(m, t, out->n_bytes, where, d, &bytes)) return false;
        out->bytes = out->n_bytes ? bytes : NULL;
        return true;
    }
    if (t->has_data_location && t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT)
        return bad(&r, "data_location %d is unknown", (int)t->data_location);
    if (used) return read_typed(&r, used);
    if (has_raw && !(r.type->field == string_data && !t->raw_data.len)) return read_raw(&r);
    if (out->n_elements)
        return bad(&r, "it has no data, but its dims %s ask for %" PRId64 " elements",
                   describe_shape(&r), out->n_elements);
    return true;
}
