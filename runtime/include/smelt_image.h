/* Decoders of image files, for models with the operator ImageDecoder.
 *
 * Such a model calls the two functions below; libsmelt_image.a has them, and needs libjpeg, libpng,
 * libtiff, libwebp and libopenjp2:
 *
 *     cc app.c libmodel.a -lsmelt_image -ltiff -ljpeg -lpng -lwebp -lopenjp2
 *
 * Or a program defines them itself, with decoders of its own.
 *
 * Formats: BMP, JPEG, JPEG 2000, PNG, TIFF, WebP, and PBM, PGM and PPM. Of a file with several
 * images the first counts; a moving WebP has none. Samples of other widths become 8 bits; palettes,
 * grey levels, CMYK and YCbCr become RGB; transparency is left out; a grey value is
 * (19595 R + 38470 G + 7471 B + 32768) >> 16. The bytes may be anything: what cannot be decoded, to
 * its end, is no image, and nothing outside of the given memory is read or written.
 *
 * The functions are reentrant, print nothing and keep nothing; the libraries allocate with malloc
 * while they work, mostly a few rows, at most some 12 bytes for each pixel (JPEG 2000). */
#ifndef SMELT_IMAGE_H
#define SMELT_IMAGE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Larger images are none: a small file may say that it holds a billion pixels. */
#define SMELT_IMAGE_MAX_PIXELS (INT64_C(1) << 26)

enum { SMELT_IMAGE_RGB = 0, SMELT_IMAGE_BGR = 1, SMELT_IMAGE_GRAYSCALE = 2 };

/* size = {height, width} by the header of the n_bytes at bytes; {0, 0} when this is no image. */
void smelt_image_size(const uint8_t *bytes, int64_t *size, int64_t n_bytes);

/* Writes [height, width, 3] pixels (Grayscale: [height, width, 1]); height and width are those of
 * smelt_image_size. *good is 1, or 0 when the image cannot be decoded: then pixels hold
 * anything. */
void smelt_image_decode(const uint8_t *bytes, uint8_t *pixels, int64_t *good, int64_t n_bytes,
                        int64_t height, int64_t width, int64_t pixel_format);

#ifdef __cplusplus
}
#endif

#endif
