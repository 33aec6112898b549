/* What the decoders of runtime/image share.
 *
 * A decoder is a row of image_formats: does it know these bytes, what is the image's size, and its
 * pixels as dense RGB. The latter gets memory for exactly that size and has to find it in the file
 * again. Everything in a file is hostile: a decoder returns false, whatever is wrong with it. */
#ifndef SMELT_RUNTIME_IMAGE_H
#define SMELT_RUNTIME_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ImageFile {
    const uint8_t *bytes;
    size_t n_bytes;
} ImageFile;

typedef struct ImageSize {
    uint32_t height, width; /* 1 and more */
} ImageSize;

typedef struct ImageFormat {
    const char *name;
    bool (*knows)(ImageFile f); /* by the first bytes */
    bool (*size)(ImageFile f, ImageSize *size);
    bool (*decode)(ImageFile f, ImageSize size, uint8_t *rgb);
} ImageFormat;

/* The formats: NAME_knows, NAME_size and NAME_decode in NAME.c. */
#define IMAGE_FORMATS(X) X(bmp) X(jpeg) X(jp2) X(png) X(pnm) X(tiff) X(webp)
#define IMAGE_FORMAT(name)                                                                         \
    bool name##_knows(ImageFile f);                                                                \
    bool name##_size(ImageFile f, ImageSize *size);                                                \
    bool name##_decode(ImageFile f, ImageSize size, uint8_t *rgb);
IMAGE_FORMATS(IMAGE_FORMAT)
#undef IMAGE_FORMAT

/* Is 1 <= height, width and height * width <= SMELT_IMAGE_MAX_PIXELS? Then they are *size. */
bool image_set_size(uint64_t height, uint64_t width, ImageSize *size);
/* Are the n bytes at offset `at` in the file, and these? */
bool image_has(ImageFile f, size_t at, const void *bytes, size_t n);

static inline bool image_same_size(ImageSize a, ImageSize b) {
    return a.height == b.height && a.width == b.width;
}

/* a * b / 255, rounded, of bytes. */
static inline uint8_t image_scale(unsigned a, unsigned b) {
    unsigned t = a * b + 128;
    return (uint8_t)((t + (t >> 8)) >> 8);
}

static inline uint8_t image_clip(int v) {
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static inline uint32_t image_le16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t image_le32(const uint8_t *p) {
    return image_le16(p) | image_le16(p + 2) << 16;
}
static inline uint32_t image_be16(const uint8_t *p) {
    return (uint32_t)p[0] << 8 | (uint32_t)p[1];
}
static inline uint32_t image_be32(const uint8_t *p) {
    return image_be16(p) << 16 | image_be16(p + 2);
}

#endif
