/* WebP, through libwebp: still images, lossy and lossless. A moving one would need its first frame
 * put on a canvas, which libwebpdemux does; it is no image here. */
#include <webp/decode.h>

#include "image.h"

bool webp_knows(ImageFile f) {
    return image_has(f, 0, "RIFF", 4) && image_has(f, 8, "WEBP", 4);
}

bool webp_size(ImageFile f, ImageSize *size) {
    WebPBitstreamFeatures is;
    if (WebPGetFeatures(f.bytes, f.n_bytes, &is) != VP8_STATUS_OK) return false;
    if (is.has_animation || is.height < 1 || is.width < 1) return false;
    return image_set_size((uint64_t)is.height, (uint64_t)is.width, size);
}

bool webp_decode(ImageFile f, ImageSize size, uint8_t *rgb) {
    ImageSize found;
    size_t row_bytes = (size_t)size.width * 3;
    if (!webp_size(f, &found) || !image_same_size(size, found)) return false;
    return WebPDecodeRGBInto(f.bytes, f.n_bytes, rgb, row_bytes * size.height, (int)row_bytes) !=
           NULL;
}
