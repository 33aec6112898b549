/* BMP: Windows' bitmaps with headers of 12 bytes (OS/2) and of 40 and more, 1 to 32 bits for a
 * pixel, palettes, bit fields and run lengths.
 *
 *     "BM" <file's bytes> <0> <where the pixels are>          14 bytes, then the header:
 *     <its bytes> <width> <height> <planes> <bits> <compression> <bytes> <dpi, dpi> <colours> ...
 *
 * Rows are multiples of four bytes and go upwards, unless the height is negative. */
#include <stdlib.h>

#include "image.h"

enum { AT_HEADER = 14, SHORT_HEADER = 12, HEADER = 40, WITH_MASKS = 52 };
enum { RGB = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3, ALPHA_BITFIELDS = 6 };

typedef struct Bmp {
    ImageFile f;
    ImageSize size;
    bool downwards;
    uint32_t bits, compression;
    size_t at_pixels;
    const uint8_t *palette; /* n_colors of color_bytes each: blue, green, red, ... */
    uint32_t n_colors, color_bytes;
    uint32_t mask[3]; /* red, green, blue */
} Bmp;

bool bmp_knows(ImageFile f) {
    return image_has(f, 0, "BM", 2) && f.n_bytes >= AT_HEADER + SHORT_HEADER;
}

static bool read_size(Bmp *b, uint32_t header_bytes) {
    const uint8_t *h = b->f.bytes + AT_HEADER;
    if (header_bytes == SHORT_HEADER) {
        b->bits = image_le16(h + 10);
        return image_set_size(image_le16(h + 6), image_le16(h + 4), &b->size);
    }
    uint32_t height = image_le32(h + 8);
    b->downwards = height >> 31;
    b->bits = image_le16(h + 14);
    b->compression = image_le32(h + 16);
    b->n_colors = image_le32(h + 32);
    return image_set_size(b->downwards ? 0 - height : height, image_le32(h + 4), &b->size);
}

/* Masks lie in a long header or behind one of 40 bytes. */
static bool read_masks(Bmp *b, size_t *at_palette) {
    b->mask[0] = b->bits == 16 ? 0x7c00 : 0xff0000;
    b->mask[1] = b->bits == 16 ? 0x03e0 : 0x00ff00;
    b->mask[2] = b->bits == 16 ? 0x001f : 0x0000ff;
    bool given = b->compression == BITFIELDS || b->compression == ALPHA_BITFIELDS;
    if (!given) return true;
    if (b->bits != 16 && b->bits != 32) return false;
    if (b->f.n_bytes < AT_HEADER + WITH_MASKS) return false;
    for (int i = 0; i < 3; i++) b->mask[i] = image_le32(b->f.bytes + AT_HEADER + HEADER + 4 * i);
    if (*at_palette == AT_HEADER + HEADER) *at_palette += 12;
    return true;
}

static bool is_supported(const Bmp *b) {
    switch (b->compression) {
    case RGB:
        return b->bits == 1 || b->bits == 4 || b->bits == 8 || b->bits == 16 || b->bits == 24 ||
               b->bits == 32;
    case RLE8: return b->bits == 8 && !b->downwards;
    case RLE4: return b->bits == 4 && !b->downwards;
    case BITFIELDS:
    case ALPHA_BITFIELDS: return b->bits == 16 || b->bits == 32;
    default: return false;
    }
}

static bool read_header(ImageFile f, Bmp *b) {
    uint32_t header_bytes = image_le32(f.bytes + AT_HEADER);
    *b = (Bmp){.f = f, .at_pixels = image_le32(f.bytes + 10), .color_bytes = 4};
    if (header_bytes != SHORT_HEADER && header_bytes < HEADER) return false;
    if (header_bytes > f.n_bytes - AT_HEADER || !read_size(b, header_bytes)) return false;
    size_t at = AT_HEADER + header_bytes;
    if (!is_supported(b) || !read_masks(b, &at)) return false;
    if (header_bytes == SHORT_HEADER) b->color_bytes = 3;
    uint32_t most = b->bits <= 8 ? 1u << b->bits : 0;
    if (!b->n_colors || b->n_colors > most) b->n_colors = most;
    size_t room = b->at_pixels < f.n_bytes ? b->at_pixels : f.n_bytes;
    size_t fits = at < room ? (room - at) / b->color_bytes : 0;
    if (b->n_colors > fits) b->n_colors = (uint32_t)fits;
    b->palette = f.bytes + at;
    return b->at_pixels <= f.n_bytes;
}

bool bmp_size(ImageFile f, ImageSize *size) {
    Bmp b;
    if (!read_header(f, &b)) return false;
    *size = b.size;
    return true;
}

/* ---- pixels ---------------------------------------------------------------------------------- */

static void put_color(const Bmp *b, uint32_t index, uint8_t *rgb) {
    const uint8_t *c = b->palette + (size_t)index * b->color_bytes;
    for (int i = 0; i < 3; i++) rgb[i] = index < b->n_colors ? c[2 - i] : 0;
}

/* The field of a mask as a byte; of a wide one the upper bits. */
static uint8_t field(uint32_t v, uint32_t mask) {
    if (!mask) return 0;
    v &= mask;
    for (; !(mask & 1); mask >>= 1) v >>= 1;
    for (; mask > 0xffff; mask >>= 1) v >>= 1;
    return image_clip((int)(v * 255 / mask));
}

static void read_row(const Bmp *b, const uint8_t *row, uint8_t *rgb) {
    for (uint32_t x = 0; x < b->size.width; x++, rgb += 3) {
        if (b->bits <= 8) {
            uint32_t first = x * b->bits;
            uint32_t shift = 8 - b->bits - first % 8;
            put_color(b, row[first / 8] >> shift & ((1u << b->bits) - 1), rgb);
        } else if (b->bits == 24) {
            for (int i = 0; i < 3; i++) rgb[i] = row[3 * (size_t)x + 2 - i];
        } else {
            uint32_t v = b->bits == 16 ? image_le16(row + 2 * (size_t)x)
                                       : image_le32(row + 4 * (size_t)x);
            for (int i = 0; i < 3; i++) rgb[i] = field(v, b->mask[i]);
        }
    }
}

static uint8_t *row_of(const Bmp *b, uint32_t y, uint8_t *rgb) {
    uint32_t from_top = b->downwards ? y : b->size.height - 1 - y;
    return rgb + (size_t)from_top * b->size.width * 3;
}

static bool read_rows(const Bmp *b, uint8_t *rgb) {
    size_t row_bytes = ((size_t)b->size.width * b->bits + 31) / 32 * 4;
    if ((b->f.n_bytes - b->at_pixels) / row_bytes < b->size.height) return false;
    const uint8_t *row = b->f.bytes + b->at_pixels;
    for (uint32_t y = 0; y < b->size.height; y++, row += row_bytes)
        read_row(b, row, row_of(b, y, rgb));
    return true;
}

/* ---- run lengths ----------------------------------------------------------------------------- */

/* Pixels in file order; what no run covers has colour 0. Nothing is written outside of the
 * image. */
typedef struct Runs {
    const Bmp *b;
    uint8_t *rgb;
    size_t at;
    uint32_t x, y;
} Runs;

static void put_run_pixel(Runs *r, uint32_t color) {
    if (r->x < r->b->size.width && r->y < r->b->size.height)
        put_color(r->b, color, row_of(r->b, r->y, r->rgb) + (size_t)r->x * 3);
    if (r->x < r->b->size.width) r->x++;
}

/* n pixels: the bytes' own (literal), or the first byte's again and again. */
static void put_run(Runs *r, const uint8_t *from, uint32_t n, bool is_literal) {
    bool nibbles = r->b->bits == 4;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t byte = from[!is_literal ? 0 : nibbles ? i / 2 : i];
        put_run_pixel(r, !nibbles ? byte : i % 2 ? byte & 15 : byte >> 4);
    }
}

/* One command; false at the end of the bitmap, *good then says if it is one. */
static bool next_run(Runs *r, bool *good) {
    const uint8_t *p = r->b->f.bytes + r->at;
    size_t left = r->b->f.n_bytes - r->at;
    *good = left >= 2;
    if (!*good) return false;
    r->at += 2;
    if (p[0]) {
        put_run(r, p + 1, p[0], false);
        return true;
    }
    if (p[1] == 1) return false; /* the end */
    if (p[1] == 0) {
        r->x = 0;
        r->y++;
        return r->y < r->b->size.height;
    }
    uint32_t n_bytes = p[1] == 2 ? 2 : r->b->bits == 4 ? (p[1] + 1u) / 2 : p[1];
    *good = left - 2 >= n_bytes;
    if (!*good) return false;
    r->at += n_bytes;
    if (p[1] != 2) {
        put_run(r, p + 2, p[1], true);
        r->at += n_bytes % 2; /* words */
        if (r->at > r->b->f.n_bytes) r->at = r->b->f.n_bytes;
        return true;
    }
    r->x += p[2]; /* a jump; beyond the right edge nothing is drawn */
    r->y += p[3];
    return r->y < r->b->size.height;
}

static bool read_runs(const Bmp *b, uint8_t *rgb) {
    Runs r = {.b = b, .rgb = rgb, .at = b->at_pixels};
    bool good;
    for (size_t i = 0; i < (size_t)b->size.height * b->size.width; i++)
        put_color(b, 0, rgb + 3 * i);
    while (next_run(&r, &good)) continue;
    return good;
}

bool bmp_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    Bmp b;
    if (!read_header(f, &b) || !image_same_size(b.size, size)) return false;
    return b.compression == RLE8 || b.compression == RLE4 ? read_runs(&b, rgb) : read_rows(&b, rgb);
}
