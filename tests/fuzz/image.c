/* libFuzzer target: any bytes through libsmelt_image. The pixels' memory has the size that was
 * said, so a sanitizer sees what is written beyond it. Built with SMELT_FUZZ=ON; seeds are image
 * files. */
#include <stdint.h>
#include <stdlib.h>

#include "smelt_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes) {
    static const int64_t enough = 1 << 20; /* pixels: larger images only take longer */
    int64_t size[2], good;
    smelt_image_size(bytes, size, (int64_t)n_bytes);
    if ((size[0] > 0) != (size[1] > 0) || size[0] < 0 || size[1] < 0) abort();
    if (!size[0] || size[0] > enough / size[1]) return 0;
    int64_t format = n_bytes % 3, n_channels = format == SMELT_IMAGE_GRAYSCALE ? 1 : 3;
    uint8_t *pixels = malloc((size_t)(size[0] * size[1] * n_channels));
    if (!pixels) return 0;
    smelt_image_decode(bytes, pixels, &good, (int64_t)n_bytes, size[0], size[1], format);
    if (good != 0 && good != 1) abort();
    free(pixels);
    return 0;
}
