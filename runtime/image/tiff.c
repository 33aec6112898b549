/* TIFF, through libtiff's RGBA interface, which knows every photometric interpretation, sample
 * width up to 16 bits, planes, strips and tiles. Of several images the first is read, turned
 * upright as far as that means flips. Nothing is read beyond the given bytes, which libtiff sees as
 * a mapped file, and no single block may take more than MAX_BLOCK_BYTES. */
#include <stdio.h>
#include <stdlib.h>
#include <tiffio.h>

#include "image.h"

enum { MAX_BLOCK_BYTES = 1 << 28 };

typedef struct Source {
    ImageFile file;
    uint64_t at;
} Source;

static tmsize_t source_read(thandle_t handle, void *to, tmsize_t n) {
    Source *s = handle;
    tmsize_t i = 0;
    for (; i < n && s->at < s->file.n_bytes; i++) ((uint8_t *)to)[i] = s->file.bytes[s->at++];
    return i;
}

static tmsize_t source_write(thandle_t handle, void *from, tmsize_t n) {
    (void)handle, (void)from, (void)n;
    return 0;
}

static toff_t source_seek(thandle_t handle, toff_t offset, int from) {
    Source *s = handle;
    s->at = from == SEEK_SET   ? offset
            : from == SEEK_CUR ? s->at + offset
                               : s->file.n_bytes + offset;
    return s->at;
}

static int source_close(thandle_t handle) {
    (void)handle;
    return 0;
}

static toff_t source_bytes(thandle_t handle) {
    return ((Source *)handle)->file.n_bytes;
}

static int source_map(thandle_t handle, void **base, toff_t *n) {
    Source *s = handle;
    *base = (void *)(uintptr_t)s->file.bytes; /* read only: libtiff wants no const */
    *n = s->file.n_bytes;
    return 1;
}

static void source_unmap(thandle_t handle, void *base, toff_t n) {
    (void)handle, (void)base, (void)n;
}

static int be_silent(TIFF *t, void *user, const char *module, const char *format, va_list args) {
    (void)t, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static TIFF *open_tiff(Source *s) {
    TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
    if (!o) return NULL;
    TIFFOpenOptionsSetMaxSingleMemAlloc(o, MAX_BLOCK_BYTES);
    TIFFOpenOptionsSetErrorHandlerExtR(o, be_silent, NULL);
    TIFFOpenOptionsSetWarningHandlerExtR(o, be_silent, NULL);
    TIFF *t = TIFFClientOpenExt("image", "r", s, source_read, source_write, source_seek,
                                source_close, source_bytes, source_map, source_unmap, o);
    TIFFOpenOptionsFree(o);
    return t;
}

static bool read_size(TIFF *t, ImageSize *size) {
    uint32_t height = 0, width = 0;
    TIFFGetField(t, TIFFTAG_IMAGELENGTH, &height);
    TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &width);
    return image_set_size(height, width, size);
}

/* libtiff multiplies colours by an alpha channel that is not in them yet. Transparency is left out
 * here, so it is told that this was done. */
static void keep_colors(TIFF *t) {
    uint16_t count = 0, *kinds = NULL, done = EXTRASAMPLE_ASSOCALPHA;
    if (TIFFGetField(t, TIFFTAG_EXTRASAMPLES, &count, &kinds) && count == 1 &&
        kinds[0] == EXTRASAMPLE_UNASSALPHA)
        TIFFSetField(t, TIFFTAG_EXTRASAMPLES, 1, &done);
}

static bool read_pixels(TIFF *t, ImageSize size, uint32_t *raster) {
    char why[1024];
    TIFFRGBAImage image;
    if (!TIFFRGBAImageOK(t, why) || !TIFFRGBAImageBegin(&image, t, 1, why)) return false;
    image.req_orientation = ORIENTATION_TOPLEFT;
    bool good = image.width == size.width && image.height == size.height &&
                TIFFRGBAImageGet(&image, raster, size.width, size.height);
    TIFFRGBAImageEnd(&image);
    return good;
}

bool tiff_knows(ImageFile f) {
    return image_has(f, 0, "II*\0", 4) || image_has(f, 0, "MM\0*", 4) || /* and 64-bit offsets: */
           image_has(f, 0, "II+\0", 4) || image_has(f, 0, "MM\0+", 4);
}

bool tiff_size(ImageFile f, ImageSize *size) {
    Source source = {f, 0};
    TIFF *t = open_tiff(&source);
    bool good = t && read_size(t, size);
    if (t) TIFFClose(t);
    return good;
}

bool tiff_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    Source source = {f, 0};
    ImageSize found;
    size_t n_pixels = (size_t)size.height * size.width;
    TIFF *t = open_tiff(&source);
    if (!t) return false;
    uint32_t *raster = calloc(n_pixels, sizeof *raster);
    bool good = raster && read_size(t, &found) && image_same_size(found, size);
    if (good) {
        keep_colors(t);
        good = read_pixels(t, size, raster);
    }
    for (size_t i = 0; good && i < n_pixels; i++, rgb += 3) {
        rgb[0] = (uint8_t)TIFFGetR(raster[i]);
        rgb[1] = (uint8_t)TIFFGetG(raster[i]);
        rgb[2] = (uint8_t)TIFFGetB(raster[i]);
    }
    free(raster);
    TIFFClose(t);
    return good;
}
