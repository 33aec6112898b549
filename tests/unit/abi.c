/* Guards the ABI: the rows of smelt_abi.def, laid out by the C rules as the compiler does it, are
 * the structs of smelt.h; and the functions of the runtime that read a model's tables. */
#include "check.h"
#include "smelt.h"
#include <string.h>

typedef enum { KIND_U32, KIND_U64, KIND_I64, KIND_SIZE, KIND_PTR, KIND_FN } Kind;
typedef struct {
    const char *owner, *name;
    Kind kind;
    size_t offset, n_bytes;
} Field;

static const Field fields[] = {
#define SMELT_FIELD(owner, kind, type, name)                                                       \
    {#owner, #name, KIND_##kind, offsetof(smelt_##owner, name), sizeof(((smelt_##owner *)0)->name)},
#include "smelt_abi.def"
};
static const struct {
    const char *owner;
    size_t n_bytes;
} owners[] = {
    {"string", sizeof(smelt_string)}, {"tensor_info", sizeof(smelt_tensor_info)},
    {"symbol", sizeof(smelt_symbol)}, {"node", sizeof(smelt_node)},
    {"hooks", sizeof(smelt_hooks)},   {"call", sizeof(smelt_call)},
    {"model", sizeof(smelt_model)},
};

static size_t kind_bytes(Kind k) {
    return k == KIND_U32 ? 4 : k == KIND_U64 || k == KIND_I64 ? 8 : sizeof(void *);
}

/* Walks one struct's rows; every row must stand where C puts the next field. */
static void check_struct(const char *owner, size_t n_bytes) {
    size_t at = 0, align = 1, n_rows = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const Field *f = &fields[i];
        if (strcmp(f->owner, owner) != 0) continue;
        size_t size = kind_bytes(f->kind);
        at = (at + size - 1) / size * size;
        if (!CHECK(f->offset == at && f->n_bytes == size)) printf("%s.%s\n", owner, f->name);
        at += size;
        align = size > align ? size : align;
        n_rows++;
    }
    CHECK(n_rows > 0);
    if (!CHECK((at + align - 1) / align * align == n_bytes)) printf("%s has other fields\n", owner);
}

static void check_texts(void) {
    CHECK(strcmp(smelt_status_string(SMELT_OK), "success") == 0);
    CHECK(strcmp(smelt_status_string(-1), "unknown status") == 0);
    CHECK(strcmp(smelt_status_string(1000), "unknown status") == 0);
    int n = 0;
#define SMELT_STATUS(name, value, text)                                                            \
    CHECK(strcmp(smelt_status_string(SMELT_##name), text) == 0 && value == n++);
#include "smelt_abi.def"
    CHECK(strcmp(smelt_dtype_name(SMELT_BF16), "BF16") == 0);
    CHECK(strcmp(smelt_dtype_name(0), "?") == 0 && strcmp(smelt_dtype_name(999), "?") == 0);
    CHECK(smelt_dtype_bits(SMELT_I4) == 8 && smelt_dtype_bits(SMELT_C128) == 128);
    CHECK(smelt_dtype_bits(SMELT_STRING) == 8 * sizeof(smelt_string));
    CHECK(smelt_dtype_bits(0) == 0 && smelt_dtype_bits(999) == 0);
}

/* x: [batch, 3, seq], y: [2*seq+1], z: [] */
static const int64_t x_dims[] = {-1, 3, -2}, y_dims[] = {-3};
static const smelt_tensor_info inputs[] = {
    {.name = "x", .dims = x_dims, .rank = 3, .dtype = SMELT_F32},
    {.name = "y", .dims = y_dims, .rank = 1, .dtype = SMELT_I4},
    {.name = "z", .rank = 0, .dtype = SMELT_F64},
};
static const smelt_symbol symbols[] = {
    {.name = "batch", .min = 1, .max = 8},
    {.name = "seq", .min = 0, .max = 100},
    {.name = "2*seq+1", .min = 1, .max = 201, .kind = SMELT_SYMBOL_DERIVED},
};

static int fill_symbols(int64_t *s) {
    s[2] = 2 * s[1] + 1;
    return SMELT_OK;
}

static const smelt_model model = {
    .struct_size = sizeof(smelt_model),
    .abi = SMELT_ABI_VERSION,
    .n_inputs = 3,
    .n_symbols = 3,
    .inputs = inputs,
    .symbols = symbols,
    .symbols_for = fill_symbols,
};

static int bind(int64_t batch, int64_t three, int64_t seq, int64_t y, uint32_t *bad) {
    const int64_t x[] = {batch, three, seq}, ys[] = {y};
    const int64_t *const dims[] = {x, ys, NULL};
    int64_t values[3] = {-7, -7, -7};
    int status = smelt_bind_dims(&model, dims, values, bad);
    if (status == SMELT_OK) CHECK(values[0] == batch && values[1] == seq && values[2] == y);
    return status;
}

static void check_bind(void) {
    uint32_t bad = 99;
    CHECK(bind(2, 3, 10, 21, &bad) == SMELT_OK);
    CHECK(bind(8, 3, 0, 1, NULL) == SMELT_OK);
    CHECK(bind(9, 3, 10, 21, &bad) == SMELT_BAD_DIM && bad == 0);
    CHECK(bind(0, 3, 10, 21, &bad) == SMELT_BAD_DIM && bad == 0);
    CHECK(bind(2, 3, -1, 21, &bad) == SMELT_BAD_DIM && bad == 0);
    CHECK(bind(2, 4, 10, 21, &bad) == SMELT_BAD_DIM && bad == 0);
    CHECK(bind(2, 3, 10, 22, &bad) == SMELT_BAD_DIM && bad == 1);
    CHECK(bind(INT64_MAX, 3, INT64_MIN, 22, &bad) == SMELT_BAD_DIM);
    int64_t values[3];
    CHECK(smelt_bind_dims(NULL, NULL, values, NULL) == SMELT_BAD_CALL);
    CHECK(smelt_bind_dims(&model, NULL, values, NULL) == SMELT_BAD_CALL);
    const int64_t *const none[] = {NULL, NULL, NULL};
    CHECK(smelt_bind_dims(&model, none, values, NULL) == SMELT_BAD_CALL);
}

static void check_dims(void) {
    const int64_t values[] = {2, 10, 21};
    int64_t dims[3];
    CHECK(smelt_tensor_dims(&inputs[0], values, dims) == 2 * 3 * 10 * 4);
    CHECK(dims[0] == 2 && dims[1] == 3 && dims[2] == 10);
    CHECK(smelt_tensor_dims(&inputs[1], values, NULL) == 21); /* a byte each */
    CHECK(smelt_tensor_dims(&inputs[2], NULL, NULL) == 8);
    const int64_t huge[] = {INT64_MAX, INT64_MAX, 0}, empty[] = {INT64_MAX, 0, 0};
    CHECK(smelt_tensor_dims(&inputs[0], huge, NULL) == UINT64_MAX);
    CHECK(smelt_tensor_dims(&inputs[0], empty, NULL) == 0);
}

int main(void) {
    for (size_t i = 0; i < sizeof owners / sizeof *owners; i++)
        check_struct(owners[i].owner, owners[i].n_bytes);
    check_texts();
    check_bind();
    check_dims();
    return check_done();
}
