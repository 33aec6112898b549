/* libFuzzer target: any bytes through the ONNX reader, then every initializer's bytes summed up, so
 * that a view that leaves its buffer is seen. Built with SMELT_FUZZ=ON; seeds come from
 * tests/bad/make_fixtures.py. */
#include <stdint.h>
#include <stdlib.h>

#include "frontend/onnx/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static uint64_t sum_tensors(OnnxModel *m, Diag *d) {
    const Onnx__GraphProto *g = onnx_model_proto(m)->graph;
    const uint32_t *order = onnx_graph_order(m, g);
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_node; i++) {
        if (order[i] >= g->n_node) abort();
        sum += order[i];
    }
    for (size_t i = 0; i < g->n_initializer; i++) {
        OnnxTensor t;
        if (!onnx_tensor_bytes(m, g->initializer[i], SRC_NOWHERE, d, &t)) abort();
        for (size_t k = 0; k < t.n_bytes; k++) sum += ((const uint8_t *)t.bytes)[k];
        for (int64_t k = 0; t.strings && k < t.n_elements; k++)
            for (size_t b = 0; b < t.strings[k].len; b++) sum += t.strings[k].data[b];
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    static volatile uint64_t sink;
    Diag *d = diag_create();
    OnnxModel *m = onnx_model_open_bytes("fuzz.onnx", bytes, n_bytes, d);
    if (m) sink += sum_tensors(m, d);
    if (!m && diag_exit_code(d) == 0) abort(); /* refused without a reason */
    if (m && diag_exit_code(d) != 0) abort();
    onnx_model_close(m);
    diag_destroy(d);
    return 0;
}
