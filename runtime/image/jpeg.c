/* JPEG, through libjpeg (or libjpeg-turbo, whose exact results the ONNX specification describes).
 *
 * libjpeg reports by calls that must not return: error_exit leaves by longjmp, into the function
 * that set up the decoder and destroys it. A file that ends early is an error here, which libjpeg
 * only warns of; so is a progressive file of more than MAX_SCANS scans, each of which goes over the
 * whole image, however few bytes it has. */
#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */

#include <jerror.h>
#include <jpeglib.h>
#include <stdlib.h>

#include "image.h"

enum { MAX_SCANS = 100 };

typedef struct Decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr error;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    ImageSize size; /* what the caller expects, or what was found */
    uint8_t *rgb;
    uint8_t *cmyk; /* a row of four components */
} Decoder;

static void leave(j_common_ptr jpeg) {
    Decoder *d = jpeg->client_data;
    longjmp(d->leave, 1);
}

static void fail(Decoder *d) {
    leave((j_common_ptr)&d->jpeg);
}

static void note_warning(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) leave(jpeg);
}

static void be_silent(j_common_ptr jpeg) {
    (void)jpeg;
}

static void count_scans(j_common_ptr jpeg) {
    if (((j_decompress_ptr)jpeg)->input_scan_number > MAX_SCANS) leave(jpeg);
}

/* Reads the header and does the work; false when one of them left. */
static bool run(Decoder *d, ImageFile f, void (*work)(Decoder *d)) {
    volatile bool good = false;
    if (!setjmp(d->leave)) {
        d->jpeg.err = jpeg_std_error(&d->error);
        d->jpeg.client_data = d;
        d->error.error_exit = leave;
        d->error.emit_message = note_warning;
        d->error.output_message = be_silent;
        jpeg_create_decompress(&d->jpeg); /* keeps err and client_data */
        d->progress.progress_monitor = count_scans;
        d->jpeg.progress = &d->progress;
        jpeg_mem_src(&d->jpeg, f.bytes, (unsigned long)f.n_bytes);
        jpeg_read_header(&d->jpeg, TRUE);
        work(d);
        good = true;
    }
    jpeg_destroy_decompress(&d->jpeg);
    free(d->cmyk);
    return good;
}

bool jpeg_knows(ImageFile f) {
    return image_has(f, 0, "\xff\xd8\xff", 3);
}

static void find_size(Decoder *d) {
    if (!image_set_size(d->jpeg.image_height, d->jpeg.image_width, &d->size)) fail(d);
}

bool jpeg_size(ImageFile f, ImageSize *size) {
    Decoder d = {0};
    if (!run(&d, f, find_size)) return false;
    *size = d.size;
    return true;
}

/* Four components are what Adobe writes: CMYK with all bits turned. */
static void row_from_cmyk(const uint8_t *cmyk, uint32_t width, uint8_t *rgb) {
    for (uint32_t x = 0; x < width; x++, cmyk += 4, rgb += 3)
        for (int c = 0; c < 3; c++)
            rgb[c] = image_clip(cmyk[3] - image_scale(255u - cmyk[c], cmyk[3]));
}

static void read_rows(Decoder *d) {
    const uint32_t width = d->size.width;
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        uint8_t *to = d->rgb + (size_t)d->jpeg.output_scanline * width * 3;
        JSAMPROW row = d->cmyk ? d->cmyk : to;
        if (jpeg_read_scanlines(&d->jpeg, &row, 1) != 1) fail(d);
        if (d->cmyk) row_from_cmyk(row, width, to);
    }
    jpeg_finish_decompress(&d->jpeg);
}

static void read_pixels(Decoder *d) {
    bool is_cmyk = d->jpeg.num_components == 4;
    d->jpeg.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    if (is_cmyk && !(d->cmyk = malloc((size_t)d->size.width * 4))) fail(d);
    jpeg_start_decompress(&d->jpeg);
    if (!image_same_size(d->size, (ImageSize){d->jpeg.output_height, d->jpeg.output_width}))
        fail(d);
    read_rows(d);
}

bool jpeg_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    Decoder d = {.size = size, .rgb = rgb};
    return run(&d, f, read_pixels);
}
