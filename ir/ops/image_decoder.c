/* ImageDecoder: the pixels of an encoded image, [height, width, channels] bytes.
 *
 * Decoders are libraries, and so the compiled model calls two C functions of libsmelt_image
 * (runtime/include/smelt_image.h), which is linked beside it. One looks at the header of the file,
 * the other writes the pixels to memory that the first one's sizes asked for:
 *
 *     header: i64[2] = loops finds rows, columns { extern smelt_image_size(x[0], out header)(n) ... }
 *     y: u8[height, width, 3] = loops finds height, width {
 *       extern smelt_image_decode(x[0], out y, out good)(n, rows, columns, 0)
 *
 * What cannot be decoded is an empty image, as the specification wants it; this may only show when
 * the pixels are read, and so the result has sizes of its own: those of the header, or 0. */
#include <string.h>

#include "ir/ops/check.h"

/* SMELT_IMAGE_* of smelt_image.h; -1 when there is no such format of pixels. */
static int pixel_format(const Node *n) {
    static const char *const names[] = {"RGB", "BGR", "Grayscale"};
    const char *format = attr_string(n, "pixel_format", "RGB");
    for (int i = 0; i < 3; i++)
        if (!strcmp(format, names[i])) return i;
    return -1;
}

/* A size of the image, at most what its header says, which has no bound. */
static const KExpr *image_size(Module *m, const char *in_header, const char *name) {
    KVar *header = module_computed_symbol(m, in_header, k_int(m->k, INT64_MAX));
    return k_var(m->k, module_computed_symbol(m, name, k_var(m->k, header)));
}

bool image_decoder_infer(Module *m, Node *n) {
    int format = pixel_format(n);
    if (!check_dtype(m, n, 0, DTM(U8)) || !infer_rank(m, n, 0, 1, 1)) return false;
    if (format < 0) {
        diag_error(m->diag, n->loc, "pixel_format is '%s'; RGB, BGR and Grayscale are accepted",
                   attr_string(n, "pixel_format", "RGB"));
        return false;
    }
    if (n->out[0]->shape.rank == 3) return true; /* inferred before: the symbols stay */
    Shape s = shape_make(m->arena, 3);
    s.dims[0] = image_size(m, "rows", "height");
    s.dims[1] = image_size(m, "columns", "width");
    s.dims[2] = k_int(m->k, format == 2 ? 1 : 3);
    return infer_set(m, n, 0, DT_U8, s);
}

static KArg start_of(Def *d, KTensor *t) {
    const KExpr *zero = k_int(d->k, 0);
    return (KArg){.offset = k_at(d->k, t, &zero, 1)};
}

void image_decoder_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *x = def_in(d, 0), *out = def_out(d, 0);
    const KExpr *two = k_int(k, 2), *none = k_int(k, 0);
    KVar *size[2] = {out->dims[0]->u.var, out->dims[1]->u.var};
    KTensor *header = def_temp(d, "header", DT_I64, 1, &two);
    Stage *s = def_program(d, &header, 1);
    kb_extern(&d->b, "smelt_image_size",
              (KArg[]){start_of(d, x), {.buf = header->buf, .written = true}}, 2, x->dims, 1);
    for (int i = 0; i < 2; i++)
        def_store_size(d, s, size[i]->bound->u.var, k_load(k, header->buf, k_int(k, i)));
    def_end_program(d, s);

    const KExpr *scalars[] = {x->dims[0], size[0]->bound, size[1]->bound,
                              k_int(k, pixel_format(n))};
    s = def_program(d, &out, 1);
    KBuf *good = kb_alloc(&d->b, MEM_STACK, DT_I64, "good", 1);
    kb_extern(&d->b, "smelt_image_decode",
              (KArg[]){start_of(d, x),
                       {.buf = out->buf, .written = true},
                       {.buf = good, .written = true}},
              3, scalars, 4);
    const KExpr *is_good = kb_let(&d->b, "is_good", k_ne(k, k_load(k, good, none), none));
    for (int i = 0; i < 2; i++)
        def_store_size(d, s, size[i], k_select(k, is_good, size[i]->bound, none));
    def_end_program(d, s);
}
