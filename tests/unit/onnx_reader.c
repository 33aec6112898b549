/* The ONNX reader through its interface: views instead of copies, typed data of every width, the
 * order of unsorted nodes, a file that shrinks while it is mapped, links out of the model's folder
 * with and without openat2(). Encoding errors are in tests/bad/. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frontend/onnx/model.h"
#include "ir/support/str.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- a writer of protobuf, just enough ------------------------------------------------------- */

static void put_varint(StrBuf *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) strbuf_add_bytes(b, &(char){(char)(v | 0x80)}, 1);
    strbuf_add_bytes(b, &(char){(char)v}, 1);
}

static void put_number(StrBuf *b, unsigned field, uint64_t v) {
    put_varint(b, field << 3);
    put_varint(b, v);
}

static void put_blob(StrBuf *b, unsigned field, const char *p, size_t n) {
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    strbuf_add_bytes(b, p, n);
}

static void put_text(StrBuf *b, unsigned field, const char *s) {
    put_blob(b, field, s, strlen(s));
}

/* Adds `inner` as a message and empties it. */
static void put_message(StrBuf *b, unsigned field, StrBuf *inner) {
    put_blob(b, field, strbuf_text(inner), inner->n);
    strbuf_free(inner);
}

static void put_node(StrBuf *graph, const char *name, const char *in, const char *out) {
    StrBuf node = {0};
    put_text(&node, 1, in);
    put_text(&node, 2, out);
    put_text(&node, 3, name);
    put_text(&node, 4, "Relu");
    put_message(graph, 1, &node);
}

/* Type, dims and name of a tensor of one dim. */
static StrBuf begin_tensor(int32_t type, int64_t dim) {
    StrBuf t = {0};
    put_number(&t, 1, (uint64_t)dim);
    put_number(&t, 2, (uint64_t)type);
    put_text(&t, 8, "w");
    return t;
}

/* A model with this graph content and one initializer, if any. */
static StrBuf make_model(StrBuf *graph, StrBuf *tensor) {
    StrBuf m = {0}, opset = {0};
    if (tensor) put_message(graph, 5, tensor);
    put_number(&m, 1, 8);
    put_number(&opset, 2, 17);
    put_message(&m, 8, &opset);
    put_message(&m, 7, graph);
    return m;
}

static OnnxModel *open_good(const StrBuf *m, Diag *d) {
    OnnxModel *model = onnx_model_open_bytes("test.onnx", m->text, m->n, d);
    diag_print(d);
    CHECK(model && diag_n_errors(d) == 0);
    return model;
}

static OnnxTensor first_tensor(OnnxModel *model, Diag *d) {
    OnnxTensor t;
    const Onnx__TensorProto *p = onnx_model_proto(model)->graph->initializer[0];
    CHECK(onnx_tensor_bytes(model, p, SRC_NOWHERE, d, &t));
    return t;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void raw_data_is_a_view(void) {
    char weights[4096];
    for (size_t i = 0; i < sizeof weights; i++) weights[i] = (char)(i * 7);
    StrBuf t = begin_tensor(ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, sizeof weights), g = {0};
    put_blob(&t, 9, weights, sizeof weights);
    StrBuf m = make_model(&g, &t);
    Diag *d = diag_create();
    OnnxModel *model = open_good(&m, d);
    OnnxTensor w = first_tensor(model, d);
    const char *at = w.bytes;
    CHECK(w.n_bytes == sizeof weights && !memcmp(at, weights, sizeof weights));
    CHECK(at > m.text && at < m.text + m.n);
    CHECK(onnx_model_opset(model, "ai.onnx") == 17 && onnx_model_opset(model, "acme") == 0);
    onnx_model_close(model);
    diag_destroy(d);
    strbuf_free(&m);
}

/* Packed entries in this field of a tensor must come out as these bytes. */
static void check_typed(int32_t type, int64_t dim, unsigned field, const int64_t *entry, size_t n,
                        const void *bytes, size_t n_bytes) {
    StrBuf t = begin_tensor(type, dim), packed = {0}, g = {0};
    for (size_t i = 0; i < n; i++) put_varint(&packed, (uint64_t)entry[i]);
    put_message(&t, field, &packed);
    StrBuf m = make_model(&g, &t);
    Diag *d = diag_create();
    OnnxModel *model = open_good(&m, d);
    OnnxTensor w = first_tensor(model, d);
    CHECK(w.n_bytes == n_bytes && !memcmp(w.bytes, bytes, n_bytes));
    CHECK(first_tensor(model, d).bytes == w.bytes); /* decoded once */
    onnx_model_close(model);
    diag_destroy(d);
    strbuf_free(&m);
}

static void typed_data_is_narrowed(void) {
#define T(name) ONNX__TENSOR_PROTO__DATA_TYPE__##name
    check_typed(T(INT8), 3, 5, (int64_t[]){-128, 0, 127}, 3, "\x80\x00\x7f", 3);
    check_typed(T(UINT8), 2, 5, (int64_t[]){0, 255}, 2, "\x00\xff", 2);
    check_typed(T(BOOL), 2, 5, (int64_t[]){0, 5}, 2, "\x00\x01", 2);
    check_typed(T(INT16), 2, 5, (int64_t[]){-2, 258}, 2, "\xfe\xff\x02\x01", 4);
    check_typed(T(FLOAT16), 2, 5, (int64_t[]){0x3c00, 0xbc00}, 2, "\x00\x3c\x00\xbc", 4);
    check_typed(T(BFLOAT16), 1, 5, (int64_t[]){-16512}, 1, "\x80\xbf", 2); /* sign-extended */
    check_typed(T(INT32), 1, 5, (int64_t[]){-2}, 1, "\xfe\xff\xff\xff", 4);
    check_typed(T(UINT32), 1, 11, (int64_t[]){0xfffffffe}, 1, "\xfe\xff\xff\xff", 4);
    check_typed(T(INT64), 1, 7, (int64_t[]){-2}, 1, "\xfe\xff\xff\xff\xff\xff\xff\xff", 8);
    check_typed(T(INT4), 3, 5, (int64_t[]){0xf1, 0x07}, 2, "\xf1\x07", 2);
    check_typed(T(UINT2), 5, 5, (int64_t[]){0xe4, 0x03}, 2, "\xe4\x03", 2);
    check_typed(T(FLOAT6E2M3), 4, 5, (int64_t[]){1, 2, 3, 63}, 4, "\x81\x30\xfc", 3);
#undef T
}

static void unsorted_nodes_are_ordered(void) {
    StrBuf g = {0};
    put_node(&g, "last", "b", "c");
    put_node(&g, "middle", "a", "b");
    put_node(&g, "free", "", "z");
    put_node(&g, "first", "", "a");
    StrBuf m = make_model(&g, NULL);
    Diag *d = diag_create();
    OnnxModel *model = open_good(&m, d);
    const uint32_t *order = onnx_graph_order(model, onnx_model_proto(model)->graph);
    CHECK(order[0] == 3 && order[1] == 1 && order[2] == 0 && order[3] == 2);
    onnx_model_close(model);
    diag_destroy(d);
    strbuf_free(&m);
}

static void write_file(const char *path, const StrBuf *b) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(b->text, 1, b->n, f) == b->n && fclose(f) == 0);
}

static void shrinking_file_reads_as_zeros(void) {
    enum { N = 4 << 20 };
    char *weights = malloc(N);
    CHECK(weights);
    memset(weights, 1, N);
    StrBuf t = begin_tensor(ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, N), g = {0};
    put_blob(&t, 9, weights, N);
    StrBuf m = make_model(&g, &t);
    write_file("shrinks.onnx", &m);
    Diag *d = diag_create();
    OnnxModel *model = onnx_model_open("shrinks.onnx", d);
    CHECK(model && onnx_model_is_intact(model, d));
    OnnxTensor w = first_tensor(model, d);
    CHECK(truncate("shrinks.onnx", 8192) == 0);
    const char *bytes = w.bytes;
    CHECK(bytes[100] == 1 && bytes[N - 1] == 0);
    CHECK(!onnx_model_is_intact(model, d) && diag_exit_code(d) == 1);
    CHECK(strstr(diag_message(d, 0), "shortened"));
    onnx_model_close(model);
    diag_destroy(d);
    strbuf_free(&m);
    free(weights);
    unlink("shrinks.onnx");
}

/* Opens a model whose one tensor lies at this location; the message, or NULL when it is good. */
static char *open_external(const char *location) {
    StrBuf t = begin_tensor(ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, 4), key = {0}, g = {0};
    put_text(&key, 1, "location");
    put_text(&key, 2, location);
    put_message(&t, 13, &key);
    put_number(&t, 14, 1);
    StrBuf m = make_model(&g, &t);
    write_file("external.onnx", &m);
    strbuf_free(&m);
    Diag *d = diag_create();
    OnnxModel *model = onnx_model_open("external.onnx", d);
    char *message = model ? NULL : strdup(diag_message(d, 0));
    if (model) CHECK(!memcmp(first_tensor(model, d).bytes, "abcd", 4));
    onnx_model_close(model);
    diag_destroy(d);
    unlink("external.onnx");
    return message;
}

static void check_external(const char *location, const char *why) {
    char *message = open_external(location);
    if (message && !(why && strstr(message, why))) fprintf(stderr, "%s\n", message);
    CHECK(why ? message && strstr(message, why) : !message);
    free(message);
}

static void external_data_stays_below(void) {
    const StrBuf data = {.text = "abcd", .n = 4};
    CHECK(mkdir("below", 0700) == 0 && mkdir("below/deep", 0700) == 0);
    write_file("below/deep/w.bin", &data);
    CHECK(symlink("deep", "below/link") == 0 && symlink("deep/w.bin", "below/w.bin") == 0);
    for (int with_openat2 = 1; with_openat2 >= 0; with_openat2--) {
        if (!with_openat2) setenv("SMELT_NO_OPENAT2", "1", 1);
        check_external("below/deep/w.bin", NULL);
        check_external("./below/./deep/w.bin", NULL);
        check_external("below/w.bin", "symbolic link");
        check_external("below/link/w.bin", with_openat2 ? "symbolic link" : "Not a directory");
        check_external("below/../external.onnx", "'..' is not allowed");
        check_external("below/deep", "is a directory");
    }
    CHECK(!unlink("below/link") && !unlink("below/w.bin") && !unlink("below/deep/w.bin"));
    CHECK(!rmdir("below/deep") && !rmdir("below"));
}

int main(void) {
    char folder[] = "/tmp/smelt-onnx-reader-XXXXXX";
    CHECK(mkdtemp(folder) && chdir(folder) == 0);
    raw_data_is_a_view();
    typed_data_is_narrowed();
    unsorted_nodes_are_ordered();
    shrinking_file_reads_as_zeros();
    external_data_stays_below();
    CHECK(chdir("/") == 0 && rmdir(folder) == 0);
    return 0;
}
