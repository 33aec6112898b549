/* The two functions of smelt_image.h: which format it is, the limits, and what RGB becomes.
 *
 * Decoders write RGB, where the pixels belong unless these are grey levels. */
#include "smelt_image.h"
#include "image.h"

#include <stdlib.h>
#include <string.h>

static const ImageFormat image_formats[] = {
#define IMAGE_FORMAT(name) {#name, name##_knows, name##_size, name##_decode},
    IMAGE_FORMATS(IMAGE_FORMAT)
#undef IMAGE_FORMAT
};

bool image_set_size(uint64_t height, uint64_t width, ImageSize *size) {
    const uint64_t most = SMELT_IMAGE_MAX_PIXELS;
    if (!height || !width || height > most || width > most / height) return false;
    *size = (ImageSize){(uint32_t)height, (uint32_t)width};
    return true;
}

bool image_has(ImageFile f, size_t at, const void *bytes, size_t n) {
    return f.n_bytes >= n && at <= f.n_bytes - n && !memcmp(f.bytes + at, bytes, n);
}

static const ImageFormat *find_format(ImageFile f) {
    for (size_t i = 0; i < sizeof image_formats / sizeof image_formats[0]; i++)
        if (image_formats[i].knows(f)) return &image_formats[i];
    return NULL;
}

static bool open_file(const uint8_t *bytes, int64_t n_bytes, ImageFile *f) {
    if (n_bytes <= 0 || (uint64_t)n_bytes > SIZE_MAX / 2) return false;
    *f = (ImageFile){bytes, (size_t)n_bytes};
    return true;
}

void smelt_image_size(const uint8_t *bytes, int64_t *size, int64_t n_bytes) {
    ImageFile f;
    ImageSize found = {0, 0};
    const ImageFormat *format = open_file(bytes, n_bytes, &f) ? find_format(f) : NULL;
    if (!format || !format->size(f, &found)) found = (ImageSize){0, 0};
    size[0] = found.height;
    size[1] = found.width;
}

static void exchange_red_and_blue(uint8_t *rgb, size_t n_pixels) {
    for (size_t i = 0; i < n_pixels; i++, rgb += 3) {
        uint8_t red = rgb[0];
        rgb[0] = rgb[2];
        rgb[2] = red;
    }
}

/* The luma of ITU-R BT.601 in 16 bits of fraction. */
static void write_gray(const uint8_t *rgb, size_t n_pixels, uint8_t *gray) {
    for (size_t i = 0; i < n_pixels; i++, rgb += 3)
        gray[i] = (uint8_t)((19595u * rgb[0] + 38470u * rgb[1] + 7471u * rgb[2] + 32768u) >> 16);
}

void smelt_image_decode(const uint8_t *bytes, uint8_t *pixels, int64_t *good, int64_t n_bytes,
                        int64_t height, int64_t width, int64_t pixel_format) {
    ImageFile f;
    ImageSize size;
    *good = 0;
    if (height <= 0 || width <= 0 || !image_set_size((uint64_t)height, (uint64_t)width, &size))
        return;
    const ImageFormat *format = open_file(bytes, n_bytes, &f) ? find_format(f) : NULL;
    if (!format) return;
    size_t n_pixels = (size_t)size.height * size.width;
    bool is_gray = pixel_format == SMELT_IMAGE_GRAYSCALE;
    uint8_t *rgb = is_gray ? malloc(3 * n_pixels) : pixels;
    if (!rgb) return;
    *good = format->decode(f, size, rgb);
    if (*good && is_gray) write_gray(rgb, n_pixels, pixels);
    if (*good && pixel_format == SMELT_IMAGE_BGR) exchange_red_and_blue(rgb, n_pixels);
    if (is_gray) free(rgb);
}
