/* A tool for tests: opens a model as the compiler does and says what it got.
 *
 *     onnx_open MODEL            messages to stderr, exit code as smelt's
 *     onnx_open --tensors MODEL  a line for each initializer of the main graph: name, type number,
 *                                dims, bytes and an FNV-1a hash of them
 *     onnx_open --order MODEL    the node order of the main graph
 *     onnx_open --cuts=N MODEL   opens each N-th prefix of the file and, for each, the file with a byte
 *                                there inverted; every refusal has to say something */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/onnx/model.h"
#include "ir/support/arena.h"
#include "ir/support/map.h"

static bool print_tensors(OnnxModel *m, Diag *d) {
    const Onnx__GraphProto *g = onnx_model_proto(m)->graph;
    bool good = true;
    for (size_t i = 0; i < g->n_initializer; i++) {
        OnnxTensor t;
        SrcLoc at = {.file = onnx_model_path(m), .index = -1, .offset = -1};
        if (!onnx_tensor_bytes(m, g->initializer[i], at, d, &t)) {
            good = false;
            continue;
        }
        uint64_t h = hash_bytes(0, t.bytes, t.n_bytes);
        for (int64_t k = 0; t.strings && k < t.n_elements; k++)
            h = hash_bytes(h, t.strings[k].data, t.strings[k].len);
        printf("%s %d", g->initializer[i]->name, (int)t.data_type);
        for (int k = 0; k < t.rank; k++) printf(" %" PRId64, t.dims[k]);
        printf(" : %zu %016" PRIx64 "\n", t.n_bytes, h);
    }
    return good;
}

static void print_order(const OnnxModel *m) {
    const Onnx__GraphProto *g = onnx_model_proto(m)->graph;
    const uint32_t *order = onnx_graph_order(m, g);
    for (size_t i = 0; i < g->n_node; i++) printf("%s\n", g->node[order[i]]->name);
}

/* Opens bytes; false when they are refused without a message, or accepted with an error. */
static bool is_answered(const unsigned char *bytes, size_t n, uint64_t *n_accepted) {
    Diag *d = diag_create();
    OnnxModel *m = onnx_model_open_bytes("cut.onnx", bytes, n, d);
    int code = diag_exit_code(d);
    bool good = m ? code == 0 : (code == 1 || code == 3) && *diag_message(d, 0);
    if (!good)
        fprintf(stderr, "onnx_open: %zu bytes: exit code %d, %s\n", n, code,
                m ? "a model" : "no model");
    *n_accepted += m != NULL;
    onnx_model_close(m);
    diag_destroy(d);
    return good;
}

static int open_cuts(const char *path, size_t step) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 2;
    }
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    unsigned char *bytes = xmalloc(n + 1);
    rewind(f);
    bool good = fread(bytes, 1, n, f) == n;
    fclose(f);
    uint64_t n_tried = 0, n_accepted = 0;
    for (size_t i = 0; good && i < n; i += step, n_tried += 2) {
        unsigned char *cut = xmalloc(i); /* of its own: a sanitizer sees reads behind it */
        memcpy(cut, bytes, i);
        good = is_answered(cut, i, &n_accepted);
        free(cut);
        bytes[i] ^= 0xff;
        good = is_answered(bytes, n, &n_accepted) && good;
        bytes[i] ^= 0xff;
    }
    free(bytes);
    printf("%" PRIu64 " tried, %" PRIu64 " accepted\n", n_tried, n_accepted);
    return good ? 0 : 1;
}

int main(int argc, char **argv) {
    const char *mode = argc == 3 ? argv[1] : "";
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: onnx_open [--tensors | --order | --cuts=N] MODEL\n");
        return 2;
    }
    if (!strncmp(mode, "--cuts=", 7)) {
        size_t step = strtoull(mode + 7, NULL, 10);
        return open_cuts(argv[2], step ? step : 1);
    }
    Diag *d = diag_create();
    OnnxModel *m = onnx_model_open(argv[argc - 1], d);
    if (m && !strcmp(mode, "--tensors")) print_tensors(m, d);
    if (m && !strcmp(mode, "--order")) print_order(m);
    if (m) onnx_model_is_intact(m, d);
    int code = diag_exit_code(d);
    if (!m && code == 0) {
        fprintf(stderr, "onnx_open: no model and no message\n");
        code = 70;
    }
    diag_print(d);
    diag_destroy(d);
    onnx_model_close(m);
    return code;
}
