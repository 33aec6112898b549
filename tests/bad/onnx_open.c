/* A tool for tests: opens a model as the compiler does and says what it got.
 *
 *     onnx_open MODEL            messages to stderr, exit code as smelt's
 *     onnx_open --tensors MODEL  a line for each initializer of the main graph: name, type number,
 *                                dims, bytes and an FNV-1a hash of them
 *     onnx_open --order MODEL    the node order of the main graph */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "frontend/onnx/model.h"
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

int main(int argc, char **argv) {
    const char *mode = argc == 3 ? argv[1] : "";
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: onnx_open [--tensors | --order] MODEL\n");
        return 2;
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
