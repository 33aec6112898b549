/* Importers of com.microsoft.nchwc: what ONNX Runtime makes of convolution nets at its highest
 * optimization level. Its tensors are [N, C, H, W] in name, with channels filled up to whole
 * blocks, and lie in memory as [N, C / block, H, W, block]; smelt lays tensors out itself, so here
 * they are what their names say:
 *
 *     ReorderInput    channels filled up with zeros
 *     ReorderOutput   the channels that there were
 *     Conv            FusedConv, whose weights are brought back into ONNX's order
 *     the pools       ONNX's; Upsample is in op_resize.c
 *
 * Weights [O, I, h, w] lie as [O / block, I / block, h, w, block of I, block of O], or as
 * [O / block, I, h, w, block] where I is less than a block (the first layer, depthwise ones).
 *
 * How many channels a block has the file does not say. It is what the machine's vectors hold that
 * wrote it: channels that fill 8 but not 16, or are filled up to 16, tell; without such a sign it
 * is taken to be a machine like the one compiled for, and a warning says so. */
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/microsoft.h"

enum { WIDE = 16, NARROW = 8 };

static int64_t filled(int64_t channels, int64_t block) {
    return (channels + block - 1) / block * block;
}

/* ---- the block ------------------------------------------------------------------------------- */

static bool is_nchwc(const Onnx__NodeProto *p, const char *type) {
    return p->domain && !strcmp(p->domain, "com.microsoft.nchwc") && p->op_type &&
           !strcmp(p->op_type, type);
}

/* Output and input channels of a convolution whose weights are an initializer. */
static bool weight_channels(const Scope *top, const Onnx__NodeProto *conv, int64_t channels[2]) {
    const Binding *b = conv->n_input > 1 ? strmap_get(top->names, conv->input[1]) : NULL;
    if (!b || !b->tensor || b->tensor->n_dims != 4) return false;
    channels[0] = b->tensor->dims[0];
    channels[1] = b->tensor->dims[1];
    return true;
}

static int64_t kept_channels(const Onnx__NodeProto *reorder) {
    for (size_t i = 0; i < reorder->n_attribute; i++)
        if (reorder->attribute[i]->name && !strcmp(reorder->attribute[i]->name, "channels"))
            return reorder->attribute[i]->i;
    return 0;
}

/* The block that the graph's convolutions show, 0 when they would be the same with either. */
static int block_shown(Import *im, const Scope *top, const Onnx__GraphProto *g) {
    StrMap *made = strmap_create(im->arena); /* result of a convolution -> the node */
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *p = g->node[i];
        int64_t channels[2];
        if (!is_nchwc(p, "Conv") || !weight_channels(top, p, channels)) continue;
        if (channels[0] % WIDE) return NARROW;
        if (channels[1] > NARROW && channels[1] < WIDE) return WIDE;
        if (p->n_output) strmap_put(made, p->output[0], (void *)p);
    }
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *p = g->node[i];
        int64_t channels[2], kept = kept_channels(p);
        if (!is_nchwc(p, "ReorderOutput") || !p->n_input || kept < 1) continue;
        const Onnx__NodeProto *conv = strmap_get(made, p->input[0]);
        if (!conv || !weight_channels(top, conv, channels)) continue;
        if (filled(kept, WIDE) == channels[0] && filled(kept, NARROW) != channels[0]) return WIDE;
    }
    return 0;
}

static int block_of(Call *c) {
    Import *im = c->im;
    if (im->nchwc_block) return im->nchwc_block;
    const Scope *top = c->scope;
    while (top->parent) top = top->parent;
    im->nchwc_block = block_shown(im, top, onnx_model_proto(im->model)->graph);
    if (im->nchwc_block) return im->nchwc_block;
    const Target *t = im->m->target;
    bool wide = !strcmp(t->arch, "aarch64") || target_has(t, "avx512f");
    im->nchwc_block = wide ? WIDE : NARROW;
    diag_warn(im->d, c->loc,
              "weights are read as blocks of %d channels, as ONNX Runtime's highest optimization "
              "level writes them on a machine like the target; from another machine they may be "
              "other blocks, which the file does not tell",
              im->nchwc_block);
    return im->nchwc_block;
}

/* ---- operators ------------------------------------------------------------------------------- */

/* Weights in ONNX's order, NULL after a message. */
static Value *plain_weights(Call *c, Value *w) {
    const Shape *s = build_shape(c, w, "the weights");
    if (!s) return NULL;
    int64_t d[4], b = block_of(c);
    for (int i = 0; i < 4; i++) {
        if (s->rank == 4 && shape_dim_int(*s, i, &d[i])) continue;
        diag_error(c->im->d, c->loc, "the weights must have four dims that are known");
        return NULL;
    }
    bool blocks_in = d[1] >= b;
    if (d[0] % b || (blocks_in && d[1] % b)) {
        diag_error(c->im->d, c->loc, "weights for %lld and %lld channels are no blocks of %d",
                   (long long)d[0], (long long)d[1], (int)b);
        return NULL;
    }
    Value *v;
    if (blocks_in) {
        v = build_reshape(c, w, (int64_t[]){d[0] / b, d[1] / b, d[2], d[3], b, b}, 6);
        v = build_transpose(c, v, (int64_t[]){0, 5, 1, 4, 2, 3}, 6);
    } else {
        v = build_reshape(c, w, (int64_t[]){d[0] / b, d[1], d[2], d[3], b}, 5);
        v = build_transpose(c, v, (int64_t[]){0, 4, 1, 2, 3}, 5);
    }
    return build_reshape(c, v, d, 4);
}

bool import_nchwc_conv(Call *c) {
    Value *w = plain_weights(c, c->in[1]);
    Value *y = w ? ms_fused_conv(c, c->in[0], w, call_in(c, 3)) : NULL;
    return y && call_result(c, y);
}

/* Pads of an image whose channels are filled up: their number may follow only from what a later
 * pass computes. */
static Value *filling(Call *c, Value *x, int64_t block) {
    int64_t channels;
    if (build_has_shape(c, x) && shape_dim_int(x->shape, 1, &channels)) {
        int64_t more = filled(channels, block) - channels;
        return more ? call_list(c, (int64_t[]){0, 0, 0, 0, 0, more, 0, 0}, 8) : NULL;
    }
    Value *b = build_one(c, block);
    Value *more = build_sub(c, b, call_op(c, OP_Mod, 2, build_dim(c, x, 1), b));
    Value *pads[] = {call_list(c, (int64_t[]){0, 0, 0, 0, 0}, 5), call_op(c, OP_Mod, 2, more, b),
                     call_list(c, (int64_t[]){0, 0}, 2)};
    return build_concat(c, pads, 3, 0);
}

bool import_nchwc_reorder_input(Call *c) {
    Value *x = c->in[0];
    if (call_int(c, "channels_last", 0)) x = ms_channels_first(c, x, 4);
    Value *pads = filling(c, x, block_of(c));
    return call_result(c, pads ? call_op(c, OP_Pad, 2, x, pads) : x);
}

bool import_nchwc_reorder_output(Call *c) {
    int64_t channels = call_int(c, "channels", 0);
    if (channels < 1) {
        diag_error(c->im->d, c->loc, "channels is %lld, must be at least 1", (long long)channels);
        return false;
    }
    Value *x = build_slice(c, c->in[0], 0, channels, 1);
    return call_result(c, call_int(c, "channels_last", 0) ? ms_channels_last(c, x, 4) : x);
}
