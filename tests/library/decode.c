/* A model with ImageDecoder, run on image files. Built as `net` for a model
 *
 *     (data: u8[n]) -> (pixels: u8[height, width, channels])
 *
 *     decode files FILE...        writes FILE.out: a line "height width channels", then the pixels
 *     decode cut FILE...          each file cut off at every length
 *     decode flip N FILE...       each file with 1 to 8 bits turned, N times
 *
 * The last two want a status of 0 or NO_MEMORY and, of files that were cut, mostly no pixels; they
 * are for sanitizers: the bytes lie in memory of their size, and results are read to their end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net_call.h"

#include "digits_input.h"

static const size_t most_bytes = 64u << 20; /* more is refused: a file may say that it is large */

static void *take(void *heap, size_t n_bytes)
{
    (void)heap;
    return n_bytes > most_bytes ? NULL : malloc(n_bytes ? n_bytes : 1);
}

static void give_back(void *heap, void *p)
{
    (void)heap;
    free(p);
}

typedef struct Image {
    uint8_t *pixels; /* NULL: there was no memory */
    int64_t dims[3];
} Image;

static size_t image_bytes(const Image *image)
{
    return (size_t)(image->dims[0] * image->dims[1] * image->dims[2]);
}

/* The model's status. The bytes are copied, so that a sanitizer sees their end. */
static int run_model(const uint8_t *bytes, size_t n, Image *image)
{
    int64_t symbols[8] = {(int64_t)n};
    smelt_hooks hooks = {.struct_size = sizeof hooks, .alloc = take, .free = give_back};
    uint8_t *copy = malloc(n);
    const void *inputs[] = {copy};
    void *outputs[] = {NULL};
    uint64_t arena_bytes = 0;

    memcpy(copy, bytes, n);
    if (net_model.arena_bytes_for(symbols, &arena_bytes))
        exit(97);
    void *arena = malloc((size_t)arena_bytes);
    smelt_call call = net_call(inputs, outputs, symbols, arena, arena_bytes, &hooks);
    int status = net_model.run(&call);
    image->pixels = outputs[0];
    if (!status)
        smelt_tensor_dims(&net_model.outputs[0], symbols, image->dims);
    free(arena);
    free(copy);
    return status;
}

static uint8_t *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);

    if (!f || !bytes)
        exit(96);
    *n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static int decode_file(const char *path)
{
    char name[1000];
    size_t n;
    Image image;
    uint8_t *bytes = read_file(path, &n);

    EXPECT(run_model(bytes, n, &image) == 0);
    snprintf(name, sizeof name, "%s.out", path);
    FILE *f = fopen(name, "wb");
    if (!f)
        exit(96);
    fprintf(f, "%lld %lld %lld\n", (long long)image.dims[0], (long long)image.dims[1],
            (long long)image.dims[2]);
    EXPECT(fwrite(image.pixels, 1, image_bytes(&image), f) == image_bytes(&image));
    fclose(f);
    free(image.pixels);
    free(bytes);
    return 0;
}

/* One hostile file; *n_images counts those that were images anyway. */
static int try_bytes(const uint8_t *bytes, size_t n, size_t *n_images)
{
    Image image;
    uint32_t sum = 0;
    int status = run_model(bytes, n, &image);

    EXPECT(status == 0 || status == SMELT_NO_MEMORY);
    if (status)
        return 0;
    for (size_t i = 0; i < image_bytes(&image); i++)
        sum += image.pixels[i];
    *n_images += image_bytes(&image) > 0;
    free(image.pixels);
    EXPECT(image_bytes(&image) || !sum);
    return 0;
}

static int cut_file(const char *path)
{
    size_t n, n_images = 0, step;
    uint8_t *bytes = read_file(path, &n);

    step = n / 2000 + 1; /* of large files not every length */
    for (size_t cut = 1; cut < n; cut += step)
        if (try_bytes(bytes, cut, &n_images))
            return 1;
    EXPECT(n_images <= n / step / 8); /* only what follows the pixels may be missing */
    free(bytes);
    return 0;
}

static int flip_file(const char *path, int n_times)
{
    size_t n, n_images = 0;
    uint8_t *bytes = read_file(path, &n);
    uint32_t state = 1;

    for (int i = 0; i < n_times; i++) {
        size_t bit[8];
        size_t n_bits = 1 + (size_t)i % 8;
        for (size_t k = 0; k < n_bits; k++) {
            state = state * 1664525u + 1013904223u;
            bit[k] = (state >> 4) % (8 * (i % 3 && n > 64 ? 64 : n)); /* mostly in the header */
            bytes[bit[k] / 8] ^= (uint8_t)(1u << bit[k] % 8);
        }
        if (try_bytes(bytes, n, &n_images))
            return 1;
        for (size_t k = 0; k < n_bits; k++)
            bytes[bit[k] / 8] ^= (uint8_t)(1u << bit[k] % 8);
    }
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int n_times = !strcmp(what, "flip") && argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;

    EXPECT(net_model.n_inputs == 1 && net_model.n_outputs == 1);
    EXPECT(net_model.outputs[0].flags & SMELT_TENSOR_ALLOCATED);
    for (int i = n_times ? 3 : 2; i < argc; i++) {
        int failed = n_times               ? flip_file(argv[i], n_times)
                     : !strcmp(what, "cut") ? cut_file(argv[i])
                                            : decode_file(argv[i]);
        if (failed) {
            fprintf(stderr, "in %s\n", argv[i]);
            return 1;
        }
    }
    return 0;
}
