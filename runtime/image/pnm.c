/* PBM, PGM and PPM, as text (P1, P2, P3) and as bytes (P4, P5, P6).
 *
 *     P6 <width> <height> <largest value> <one blank> samples
 *
 * Numbers stand between blanks and comments, which go from # to the end of the line. Samples of
 * another range are scaled to 0 .. 255 and rounded; those above the largest value are that. */
#include "image.h"

typedef struct Reader {
    ImageFile f;
    size_t at;
    bool failed;
} Reader;

typedef struct Header {
    bool is_text;
    int n_channels;     /* 1 or 3 */
    bool is_bitmap;     /* one bit for each pixel, 1 is black */
    uint32_t max_value; /* up to 65535 */
    ImageSize size;
} Header;

bool pnm_knows(ImageFile f) {
    return f.n_bytes > 2 && f.bytes[0] == 'P' && f.bytes[1] >= '1' && f.bytes[1] <= '6';
}

static bool is_blank(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int next_byte(Reader *r) {
    if (r->at < r->f.n_bytes) return r->f.bytes[r->at++];
    r->failed = true;
    return 0;
}

static void skip_blanks(Reader *r) {
    while (r->at < r->f.n_bytes) {
        uint8_t c = r->f.bytes[r->at];
        if (c == '#')
            while (r->at < r->f.n_bytes && r->f.bytes[r->at] != '\n') r->at++;
        else if (is_blank(c))
            r->at++;
        else
            return;
    }
}

static uint32_t read_number(Reader *r) {
    uint32_t v = 0;
    skip_blanks(r);
    if (r->at == r->f.n_bytes || r->f.bytes[r->at] < '0' || r->f.bytes[r->at] > '9')
        r->failed = true;
    while (r->at < r->f.n_bytes && r->f.bytes[r->at] >= '0' && r->f.bytes[r->at] <= '9') {
        if (v > UINT32_MAX / 10 - 1) r->failed = true;
        v = v * 10 + (uint32_t)(r->f.bytes[r->at++] - '0');
    }
    return v;
}

static bool read_header(Reader *r, Header *h) {
    int kind = r->f.bytes[1] - '0';
    r->at = 2;
    h->is_text = kind <= 3;
    h->is_bitmap = kind == 1 || kind == 4;
    h->n_channels = kind == 3 || kind == 6 ? 3 : 1;
    uint32_t width = read_number(r), height = read_number(r);
    h->max_value = h->is_bitmap ? 1 : read_number(r);
    if (!h->is_text && !is_blank((uint8_t)next_byte(r))) return false;
    return !r->failed && h->max_value >= 1 && h->max_value <= 65535 &&
           image_set_size(height, width, &h->size);
}

bool pnm_size(ImageFile f, ImageSize *size) {
    Reader r = {.f = f};
    Header h;
    if (!read_header(&r, &h)) return false;
    *size = h.size;
    return true;
}

/* The pixels of a bitmap as text need no blanks between them. */
static uint32_t read_text_bit(Reader *r) {
    skip_blanks(r);
    int c = next_byte(r);
    r->failed |= c != '0' && c != '1';
    return c == '1';
}

static uint32_t read_sample(Reader *r, const Header *h) {
    if (h->is_text) return h->is_bitmap ? read_text_bit(r) : read_number(r);
    uint32_t v = (uint32_t)next_byte(r);
    return h->max_value > 255 ? v << 8 | (uint32_t)next_byte(r) : v;
}

static uint8_t to_byte(uint32_t v, const Header *h) {
    if (v > h->max_value) v = h->max_value;
    if (h->is_bitmap) return v ? 0 : 255;
    return (uint8_t)((v * 255 + h->max_value / 2) / h->max_value);
}

static void read_row(Reader *r, const Header *h, uint8_t *rgb) {
    uint32_t bits = 0;
    for (uint32_t x = 0; x < h->size.width && !r->failed; x++, rgb += 3) {
        bool packed = h->is_bitmap && !h->is_text;
        if (packed) bits = x % 8 ? bits << 1 : (uint32_t)next_byte(r);
        rgb[0] = to_byte(packed ? bits >> 7 & 1 : read_sample(r, h), h);
        rgb[1] = h->n_channels == 3 ? to_byte(read_sample(r, h), h) : rgb[0];
        rgb[2] = h->n_channels == 3 ? to_byte(read_sample(r, h), h) : rgb[0];
    }
}

bool pnm_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    Reader r = {.f = f};
    Header h;
    if (!read_header(&r, &h) || !image_same_size(h.size, size)) return false;
    for (uint32_t y = 0; y < size.height && !r.failed; y++)
        read_row(&r, &h, rgb + (size_t)y * size.width * 3);
    return !r.failed;
}
