/* PNG, through libpng: every kind of pixel becomes 8-bit RGB. Errors leave by longjmp into the
 * function that made the reader; warnings are nothing to anybody. Chunks that are no pixels may
 * take 8 MiB. */
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"

enum { MAX_CHUNK_BYTES = 8 << 20 };

typedef struct Source {
    ImageFile file;
    size_t at;
} Source;

static void leave(png_structp png, png_const_charp message) {
    (void)message;
    png_longjmp(png, 1);
}

static void be_silent(png_structp png, png_const_charp message) {
    (void)png, (void)message;
}

static void give_bytes(png_structp png, png_bytep to, size_t n) {
    Source *s = png_get_io_ptr(png);
    if (n > s->file.n_bytes - s->at) leave(png, "the file ends early");
    memcpy(to, s->file.bytes + s->at, n);
    s->at += n;
}

/* Signature, then the first chunk, IHDR, with width and height in front. */
bool png_knows(ImageFile f) {
    return image_has(f, 0, "\x89PNG\r\n\x1a\n", 8);
}

bool png_size(ImageFile f, ImageSize *size) {
    if (!image_has(f, 12, "IHDR", 4) || f.n_bytes < 24) return false;
    return image_set_size(image_be32(f.bytes + 20), image_be32(f.bytes + 16), size);
}

static void read_rows(png_structp png, png_infop info, ImageSize size, uint8_t *rgb) {
    png_set_user_limits(png, size.width, size.height);
    png_set_chunk_malloc_max(png, MAX_CHUNK_BYTES);
    png_read_info(png, info);
    if (!image_same_size(size, (ImageSize){png_get_image_height(png, info),
                                           png_get_image_width(png, info)}))
        leave(png, "the size differs");
    png_set_strip_16(png);
    png_set_packing(png);
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (png_get_rowbytes(png, info) != (size_t)size.width * 3) leave(png, "no RGB");
    for (int pass = 0; pass < n_passes; pass++)
        for (uint32_t y = 0; y < size.height; y++)
            png_read_row(png, rgb + (size_t)y * size.width * 3, NULL);
    png_read_end(png, NULL);
}

bool png_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    Source source = {f, 0};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, leave, be_silent);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (!info || setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, NULL);
        return false;
    }
    png_set_read_fn(png, &source, give_bytes);
    read_rows(png, info, size, rgb);
    png_destroy_read_struct(&png, &info, NULL);
    return true;
}
