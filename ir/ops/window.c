/* Sliding windows: reading, checking and resolving strides, dilations, pads and auto_pad. */
#include "ir/ops/window.h"

#include <string.h>

#include "ir/ops/check.h"

enum {
    WINDOW_LIMIT = INT32_MAX
}; /* of one attribute: sums and products of two stay far below 2^63 */

bool window_list(Module *m, const Node *n, const char *name, int count, int64_t lo,
                 int64_t otherwise, int64_t *out) {
    const int64_t *v;
    int found = attr_ints(n, name, &v);
    if (found && found != count) {
        diag_error(m->diag, n->loc, "%s has %d values, must have %d", name, found, count);
        return false;
    }
    for (int i = 0; i < count; i++) {
        out[i] = found ? v[i] : otherwise;
        if (out[i] >= lo && out[i] <= WINDOW_LIMIT) continue;
        if (out[i] < lo)
            diag_error(m->diag, n->loc, "%s[%d] is %lld, must be at least %lld", name, i,
                       (long long)out[i], (long long)lo);
        else
            diag_error(m->diag, n->loc, "%s[%d] is %lld, must be at most %d", name, i,
                       (long long)out[i], WINDOW_LIMIT);
        return false;
    }
    return true;
}

/* The kernel's sizes from the weights' dims 2 and up; kernel_shape must agree where it is given. */
static bool kernel_of_weights(Module *m, const Node *n, const Value *weights, Window *w) {
    const int64_t *v;
    int found = attr_ints(n, "kernel_shape", &v);
    if (found && found != w->n) {
        diag_error(m->diag, n->loc, "kernel_shape has %d values, must have %d", found, w->n);
        return false;
    }
    for (int i = 0; i < w->n; i++) {
        if (!shape_dim_int(weights->shape, 2 + i, &w->kernel[i])) {
            diag_unsupported(m->diag, n->loc,
                             "the weights' dim %d is symbolic; kernel sizes must be constant",
                             2 + i);
            return false;
        }
        if (found && v[i] != w->kernel[i]) {
            diag_error(m->diag, n->loc,
                       "kernel_shape[%d] is %lld, must be %lld like the weights' dim %d", i,
                       (long long)v[i], (long long)w->kernel[i], 2 + i);
            return false;
        }
        if (w->kernel[i] >= 1 && w->kernel[i] <= WINDOW_LIMIT) continue;
        diag_error(m->diag, n->loc, "the weights' dim %d is %lld, must be at least 1", 2 + i,
                   (long long)w->kernel[i]);
        return false;
    }
    return true;
}

int64_t window_extent(const Window *w, int i) {
    return (w->kernel[i] - 1) * w->dilation[i] + 1;
}

bool window_check(Module *m, const Node *n, int n_spatial, const Value *weights, Window *w) {
    *w = (Window){.n = n_spatial};
    if (weights) {
        if (!kernel_of_weights(m, n, weights, w)) return false;
    } else if (!node_attr(n, "kernel_shape")) {
        diag_error(m->diag, n->loc, "attribute kernel_shape is missing");
        return false;
    } else if (!window_list(m, n, "kernel_shape", n_spatial, 1, 0, w->kernel)) {
        return false;
    }
    if (!window_list(m, n, "strides", n_spatial, 1, 1, w->stride) ||
        !window_list(m, n, "dilations", n_spatial, 1, 1, w->dilation) ||
        !window_list(m, n, "pads", 2 * n_spatial, 0, 0, w->pad))
        return false;
    for (int i = 0; i < n_spatial; i++) {
        if (window_extent(w, i) <= WINDOW_LIMIT) continue;
        diag_error(m->diag, n->loc, "a kernel of %lld with dilation %lld on axis %d is too large",
                   (long long)w->kernel[i], (long long)w->dilation[i], 2 + i);
        return false;
    }
    return true;
}

static int64_t at_least_0(int64_t a) {
    return a > 0 ? a : 0;
}

/* SAME: as many windows as strides fit into the input, what is missing shared between the ends. */
static void pad_same(const Node *n, Window *w, int i, bool upper) {
    int64_t in, total = window_extent(w, i) - 1;
    w->pad[i] = w->pad[w->n + i] = 0;
    w->same[i] = PAD_FIXED;
    if (w->stride[i] != 1) {
        if (!shape_dim_int(n->in[0]->shape, 2 + i, &in)) {
            w->same[i] = upper ? PAD_SAME_UPPER : PAD_SAME_LOWER;
            return;
        }
        int64_t n_out = in / w->stride[i] + (in % w->stride[i] != 0);
        total = at_least_0((n_out - 1) * w->stride[i] + window_extent(w, i) - in);
    }
    w->pad[i] = upper ? total / 2 : total - total / 2;
    w->pad[w->n + i] = total - w->pad[i];
}

/* The same for a symbolic size. */
static const KExpr *same_total(KCtx *k, const Window *w, int i, const KExpr *size) {
    const KExpr *last = k_sub(k, k_ceil_div(k, size, w->stride[i]), k_int(k, 1));
    const KExpr *end =
        k_add(k, k_mul(k, last, k_int(k, w->stride[i])), k_int(k, window_extent(w, i)));
    return k_max(k, k_sub(k, end, size), k_int(k, 0));
}

const KExpr *window_before(KCtx *k, const Window *w, int i, const KExpr *size) {
    if (w->same[i] == PAD_FIXED) return k_int(k, w->pad[i]);
    const KExpr *total = same_total(k, w, i, size), *half = k_fdiv(k, total, k_int(k, 2));
    return w->same[i] == PAD_SAME_UPPER ? half : k_sub(k, total, half);
}

const KExpr *window_after(KCtx *k, const Window *w, int i, const KExpr *size) {
    if (w->same[i] == PAD_FIXED) return k_int(k, w->pad[w->n + i]);
    return k_sub(k, same_total(k, w, i, size), window_before(k, w, i, size));
}

bool window_is_padded(const Window *w, int i) {
    return w->pad[i] || w->pad[w->n + i] || w->same[i];
}

bool window_auto_pad(Module *m, const Node *n, Window *w) {
    const char *how = attr_string(n, "auto_pad", "NOTSET");
    if (!strcmp(how, "NOTSET") || !*how) return true;
    bool upper = !strcmp(how, "SAME_UPPER");
    if (!strcmp(how, "VALID")) {
        memset(w->pad, 0, sizeof w->pad);
        return true;
    }
    if (!upper && strcmp(how, "SAME_LOWER")) {
        diag_error(m->diag, n->loc,
                   "auto_pad is '%s'; NOTSET, VALID, SAME_UPPER and SAME_LOWER are accepted", how);
        return false;
    }
    for (int i = 0; i < w->n; i++) pad_same(n, w, i, upper);
    return true;
}

/* Windows that fit. Rounded up, the last one must still start in the input or the left padding:
 * its start (count - 1) * stride stays below size + left padding. */
static const KExpr *window_count(KCtx *k, const Window *w, int i, const KExpr *size,
                                 bool ceil_mode) {
    const KExpr *stride = k_int(k, w->stride[i]), *one = k_int(k, 1);
    if (w->same[i]) return k_ceil_div(k, size, w->stride[i]);
    int64_t pads = w->pad[i] + w->pad[w->n + i] - window_extent(w, i);
    const KExpr *room = k_add(k, size, k_int(k, pads));
    if (!ceil_mode || w->stride[i] == 1) return k_add(k, k_fdiv(k, room, stride), one);
    const KExpr *last = k_fdiv(k, k_add(k, size, k_int(k, w->pad[i] - 1)), stride);
    return k_add(k, k_min(k, k_ceil_div(k, room, w->stride[i]), last), one);
}

bool window_sizes(Module *m, const Node *n, const Window *w, bool ceil_mode, const KExpr **dims) {
    for (int i = 0; i < w->n; i++) {
        const KExpr *size = n->in[0]->shape.dims[2 + i];
        dims[i] = window_count(m->k, w, i, size, ceil_mode);
        if (dims[i]->hi >= 1) continue;
        diag_error(
            m->diag, n->loc,
            "input of shape %s is too small: a window of %lld on axis %d with pads %lld and %lld "
            "leaves an output size of %lld, must be at least 1",
            shape_text(m->scratch, n->in[0]->shape), (long long)window_extent(w, i), 2 + i,
            (long long)w->pad[i], (long long)w->pad[w->n + i], (long long)dims[i]->hi);
        return false;
    }
    return true;
}

void window_store(Node *n, const Window *w) {
    node_set_ints(n, "kernel_shape", w->kernel, w->n);
    node_set_ints(n, "strides", w->stride, w->n);
    node_set_ints(n, "dilations", w->dilation, w->n);
    for (int i = 0; i < w->n; i++)
        if (w->same[i]) {
            node_drop_attr(n, "pads");
            return;
        }
    node_set_ints(n, "pads", w->pad, 2 * w->n);
    if (node_attr(n, "auto_pad")) node_drop_attr(n, "auto_pad");
}

static void load_list(const Node *n, const char *name, int count, int64_t *out) {
    const int64_t *v;
    int found = attr_ints(n, name, &v);
    BUG_IF(found != count, "%s has %d values for %d: the node was not inferred", name, found,
           count);
    memcpy(out, v, sizeof *v * (size_t)count);
}

void window_load(const Node *n, int n_spatial, Window *w) {
    *w = (Window){.n = n_spatial};
    load_list(n, "kernel_shape", n_spatial, w->kernel);
    load_list(n, "strides", n_spatial, w->stride);
    load_list(n, "dilations", n_spatial, w->dilation);
    const char *how = attr_string(n, "auto_pad", NULL);
    if (!how) load_list(n, "pads", 2 * n_spatial, w->pad);
    for (int i = 0; how && i < n_spatial; i++) pad_same(n, w, i, !strcmp(how, "SAME_UPPER"));
}
