/* Guards weights files: what the compiler writes opens; any damage to it, and any other model's,
 * does not. Also the published test values of XXH64, which both sides use. */
#include "check.h"
#include "codegen/weights.h"
#include "smelt.h"
#include "smelt_hash.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_hash(void) {
    CHECK(smelt_hash("", 0) == UINT64_C(0xEF46DB3751D8E999));
    CHECK(smelt_hash("a", 1) == UINT64_C(0xD24EC4F1A98C6E5B));
    CHECK(smelt_hash("abc", 3) == UINT64_C(0x44BC2CF5AD770999));
    unsigned char text[200];
    for (int i = 0; i < 200; i++) text[i] = (unsigned char)(i * 7);
    for (size_t n = 0; n <= 200; n++) {
        SmeltHash h;
        smelt_hash_begin(&h, 0);
        for (size_t at = 0, step = 1; at < n; at += step, step = step % 37 + 5) {
            if (step > n - at) step = n - at;
            smelt_hash_add(&h, text + at, step);
        }
        CHECK(smelt_hash_end(&h) == smelt_hash(text, n));
    }
}

static unsigned char file_bytes[4096];
static size_t n_file;

static void store(const char *path, const unsigned char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (CHECK(f != NULL)) CHECK(fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

static int try_open(const smelt_model *m, const char *path) {
    smelt_weights *w = (smelt_weights *)1;
    int status = smelt_weights_open(m, path, &w);
    CHECK((status == SMELT_OK) == (w != NULL));
    smelt_weights_close(w);
    return status;
}

static void write_sevens(Output *o, void *ctx) {
    for (int i = 0; i < *(int *)ctx; i++) output_write(o, "7", 1);
}

/* Writes "a.weights" with two symbols and fills the model's fields. */
static smelt_model write_good(void) {
    static int n_sevens = 100;
    const WeightSpan first[] = {{.bytes = "hello", .n_bytes = 5}, {.n_bytes = 3}};
    const WeightSpan second[] = {{.n_bytes = 100, .write = write_sevens, .ctx = &n_sevens}};
    const WeightSymbol symbols[] = {{"a", first, 2}, {"empty", NULL, 0}, {"b", second, 1}};
    uint64_t offsets[3];
    StrBuf error = {0};
    Output *o = output_open("a.weights");
    WeightsFile file = weights_write_file(o, 0x1122334455667788u, symbols, 3, offsets);
    CHECK(output_finish(o, &error));
    CHECK(file.n_bytes == 164 && offsets[0] == 0 && offsets[1] == 64 && offsets[2] == 64);
    strbuf_free(&error);
    FILE *f = fopen("a.weights", "rb");
    if (CHECK(f != NULL)) {
        n_file = fread(file_bytes, 1, sizeof file_bytes, f);
        fclose(f);
    }
    CHECK(n_file == 164 + 64);
    return (smelt_model){.struct_size = sizeof(smelt_model),
                         .abi = SMELT_ABI_VERSION,
                         .model_hash = 0x1122334455667788u,
                         .weight_bytes = file.n_bytes,
                         .weight_hash = file.hash};
}

static void check_good(const smelt_model *m) {
    smelt_weights *w;
    if (!CHECK(smelt_weights_open(m, "a.weights", &w) == SMELT_OK)) return;
    const unsigned char *p = smelt_weights_data(w);
    CHECK((uintptr_t)p % SMELT_WEIGHT_ALIGN == 0);
    CHECK(memcmp(p, "hello\0\0\0", 8) == 0 && p[63] == 0 && p[64] == '7' && p[163] == '7');
    smelt_weights_close(w);
}

static void check_damaged(const smelt_model *m) {
    for (size_t i = 0; i < n_file; i++) {
        for (int bit = 0; bit < 8; bit += 3) {
            file_bytes[i] ^= (unsigned char)(1 << bit);
            store("bad.weights", file_bytes, n_file);
            if (!CHECK(try_open(m, "bad.weights") == SMELT_BAD_WEIGHTS)) printf("byte %zu\n", i);
            file_bytes[i] ^= (unsigned char)(1 << bit);
        }
    }
    for (size_t n = 0; n < n_file; n++) {
        store("bad.weights", file_bytes, n);
        CHECK(try_open(m, "bad.weights") == SMELT_BAD_WEIGHTS);
    }
    store("bad.weights", file_bytes, n_file + 1);
    CHECK(try_open(m, "bad.weights") == SMELT_BAD_WEIGHTS);
}

static void check_other(const smelt_model *m) {
    smelt_model other = *m;
    other.model_hash++;
    CHECK(try_open(&other, "a.weights") == SMELT_BAD_WEIGHTS);
    other = *m;
    other.weight_bytes = UINT64_MAX - 10;
    CHECK(try_open(&other, "a.weights") == SMELT_BAD_WEIGHTS);
    other = *m;
    other.abi++;
    CHECK(try_open(&other, "a.weights") == SMELT_BAD_ABI);
    CHECK(try_open(m, "no-such-file") == SMELT_BAD_FILE);
    CHECK(try_open(m, ".") == SMELT_BAD_FILE);
    CHECK(try_open(m, NULL) == SMELT_BAD_CALL && try_open(NULL, "a.weights") == SMELT_BAD_CALL);
    unlink("a.fifo");
    CHECK(mkfifo("a.fifo", 0600) == 0 && try_open(m, "a.fifo") == SMELT_BAD_FILE);
    CHECK(smelt_weights_open(m, "a.weights", NULL) == SMELT_BAD_CALL);
    CHECK(smelt_weights_data(NULL) == NULL);
}

int main(void) {
    check_hash();
    smelt_model m = write_good();
    check_good(&m);
    check_damaged(&m);
    check_other(&m);
    return check_done();
}
