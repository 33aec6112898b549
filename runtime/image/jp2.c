/* JPEG 2000, through OpenJPEG: files of boxes (.jp2) and bare codestreams (.j2k).
 *
 * The codestream's header is read here first: OpenJPEG takes memory for every component of every
 * tile that it says, before it looks at anything else.
 *
 *     SOC  SIZ <length> <profile> <right, bottom, left, top> <tile width, height, left, top>
 *          <components> ... */
#include <openjpeg.h>
#include <string.h>

#include "image.h"

enum { MAX_TILES = 16384, MAX_COMPONENTS = 4 };

static const char jp2_signature[] = "\0\0\0\x0cjP  \r\n\x87\n";
static const char codestream_start[] = "\xff\x4f\xff\x51";

static bool is_boxes(ImageFile f) {
    return image_has(f, 0, jp2_signature, 12);
}

bool jp2_knows(ImageFile f) {
    return is_boxes(f) || image_has(f, 0, codestream_start, 4);
}

/* Where the codestream begins: the content of the first box jp2c. */
static bool find_codestream(ImageFile f, size_t *at) {
    *at = 0;
    if (!is_boxes(f)) return true;
    while (f.n_bytes - *at >= 16) {
        uint64_t n = image_be32(f.bytes + *at), head = 8;
        if (n == 1) {
            n = (uint64_t)image_be32(f.bytes + *at + 8) << 32 | image_be32(f.bytes + *at + 12);
            head = 16;
        }
        if (image_has(f, *at + 4, "jp2c", 4)) {
            *at += head;
            return true;
        }
        if (n < head || n > f.n_bytes - *at) return false;
        *at += n;
    }
    return false;
}

static uint64_t tiles_along(uint32_t end, uint32_t origin, uint32_t tile) {
    return tile ? ((uint64_t)end - origin + tile - 1) / tile : UINT32_MAX;
}

bool jp2_size(ImageFile f, ImageSize *size) {
    size_t at;
    if (!find_codestream(f, &at) || !image_has(f, at, codestream_start, 4)) return false;
    if (f.n_bytes - at < 42) return false;
    uint32_t v[8]; /* right, bottom, left, top of the image; width, height, left, top of a tile */
    for (int i = 0; i < 8; i++) v[i] = image_be32(f.bytes + at + 8 + 4 * i);
    uint32_t n_components = image_be16(f.bytes + at + 40);
    if (v[2] >= v[0] || v[3] >= v[1] || v[6] > v[2] || v[7] > v[3]) return false;
    if (n_components < 1 || n_components > MAX_COMPONENTS) return false;
    uint64_t across = tiles_along(v[0], v[6], v[4]), down = tiles_along(v[1], v[7], v[5]);
    if (across > MAX_TILES || down > MAX_TILES || across * down > MAX_TILES) return false;
    return image_set_size(v[1] - v[3], v[0] - v[2], size);
}

/* ---- the bytes as OpenJPEG's stream ---------------------------------------------------------- */

typedef struct Source {
    ImageFile file;
    size_t at;
} Source;

static OPJ_SIZE_T source_read(void *to, OPJ_SIZE_T n, void *user) {
    Source *s = user;
    size_t left = s->file.n_bytes - s->at;
    if (n > left) n = left;
    if (!n) return (OPJ_SIZE_T)-1;
    memcpy(to, s->file.bytes + s->at, n);
    s->at += n;
    return n;
}

static OPJ_BOOL source_seek(OPJ_OFF_T to, void *user) {
    Source *s = user;
    if (to < 0 || (uint64_t)to > s->file.n_bytes) return OPJ_FALSE;
    s->at = (size_t)to;
    return OPJ_TRUE;
}

static OPJ_OFF_T source_skip(OPJ_OFF_T n, void *user) {
    Source *s = user;
    if (n < 0 || (uint64_t)n > s->file.n_bytes - s->at) return -1;
    s->at += (size_t)n;
    return n;
}

static opj_stream_t *open_stream(Source *s) {
    opj_stream_t *stream = opj_stream_create(1 << 16, OPJ_TRUE);
    if (!stream) return NULL;
    opj_stream_set_user_data(stream, s, NULL);
    opj_stream_set_user_data_length(stream, s->file.n_bytes);
    opj_stream_set_read_function(stream, source_read);
    opj_stream_set_seek_function(stream, source_seek);
    opj_stream_set_skip_function(stream, source_skip);
    return stream;
}

/* ---- components to RGB ----------------------------------------------------------------------- */

/* Components may have fewer samples than there are pixels, any width, and a sign. */
static bool can_read(const opj_image_comp_t *c) {
    return c->data && c->w && c->h && c->dx && c->dy && c->prec >= 1 && c->prec <= 31;
}

static int sample(const opj_image_comp_t *c, uint32_t x, uint32_t y) {
    uint32_t at_x = x / c->dx, at_y = y / c->dy;
    if (at_x >= c->w) at_x = c->w - 1;
    if (at_y >= c->h) at_y = c->h - 1;
    int64_t v = c->data[(size_t)at_y * c->w + at_x], most = (INT64_C(1) << c->prec) - 1;
    if (c->sgnd) v += INT64_C(1) << (c->prec - 1);
    v = v < 0 ? 0 : v > most ? most : v;
    if (c->prec < 8) return (int)(v << (8 - c->prec));
    v = c->prec > 8 ? (v + (INT64_C(1) << (c->prec - 9))) >> (c->prec - 8) : v;
    return v > 255 ? 255 : (int)v;
}

/* BT.601 with full range, in 16 bits of fraction. */
static void from_ycc(int y, int cb, int cr, uint8_t *rgb) {
    const int half = 1 << 15;
    cb -= 128, cr -= 128;
    rgb[0] = image_clip(y + ((91881 * cr + half) >> 16));
    rgb[1] = image_clip(y - ((22554 * cb + 46802 * cr + half) >> 16));
    rgb[2] = image_clip(y + ((116130 * cb + half) >> 16));
}

static bool write_rgb(const opj_image_t *image, ImageSize size, uint8_t *rgb) {
    const opj_image_comp_t *c = image->comps;
    uint32_t n = image->numcomps < 3 ? 1 : 3;
    bool is_cmyk = image->color_space == OPJ_CLRSPC_CMYK && image->numcomps >= 4;
    for (uint32_t i = 0; i < n + is_cmyk; i++)
        if (!can_read(&c[i])) return false;
    for (uint32_t y = 0; y < size.height; y++) {
        for (uint32_t x = 0; x < size.width; x++, rgb += 3) {
            int v[3];
            for (uint32_t i = 0; i < 3; i++) v[i] = sample(&c[i < n ? i : 0], x, y);
            if (image->color_space == OPJ_CLRSPC_SYCC && n == 3) {
                from_ycc(v[0], v[1], v[2], rgb);
                continue;
            }
            int left = is_cmyk ? 255 - sample(&c[3], x, y) : 0;
            for (int i = 0; i < 3; i++)
                rgb[i] = is_cmyk ? image_clip(left - image_scale((unsigned)v[i], (unsigned)left))
                                 : (uint8_t)v[i];
        }
    }
    return true;
}

static bool read_image(opj_codec_t *codec, opj_stream_t *stream, ImageSize size, uint8_t *rgb) {
    opj_dparameters_t parameters;
    opj_image_t *image = NULL;
    opj_set_default_decoder_parameters(&parameters);
    bool good = opj_setup_decoder(codec, &parameters) &&
                opj_decoder_set_strict_mode(codec, OPJ_TRUE) &&
                opj_read_header(stream, codec, &image) && image &&
                image->x1 - image->x0 == size.width && image->y1 - image->y0 == size.height &&
                opj_decode(codec, stream, image) && opj_end_decompress(codec, stream) &&
                image->numcomps >= 1 && write_rgb(image, size, rgb);
    if (image) opj_image_destroy(image);
    return good;
}

bool jp2_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    ImageSize found;
    if (!jp2_size(f, &found) || !image_same_size(size, found)) return false;
    Source source = {f, 0};
    opj_stream_t *stream = open_stream(&source);
    opj_codec_t *codec = opj_create_decompress(is_boxes(f) ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K);
    bool good = stream && codec && read_image(codec, stream, size, rgb);
    if (codec) opj_destroy_codec(codec);
    if (stream) opj_stream_destroy(stream);
    return good;
}
