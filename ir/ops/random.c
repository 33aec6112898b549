/* RandomUniformLike and RandomNormalLike: numbers from a counter-based generator.
 *
 * There is no state: element i of an output is a function of the seed, of i and of `stream`, and so
 * a map like any other, the same on every backend, with any number of threads and any fusion.
 * The function is Philox2x32 with 10 rounds (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel
 * random numbers: as easy as 1, 2, 3", SC 2011): two 32-bit words from a counter of two words and
 * a key of one.
 *
 *   key      the bits of the attribute `seed` (an f32, which the importer always sets), mixed
 *   counter  (i, i >> 32 + stream << 8): stream (input 1, optional, an i64 scalar) tells the
 *            iterations of a loop apart
 *   uniform  low + (high - low) * u, u = k / 2^24 (f64: k / 2^53)
 *   normal   mean + scale * sqrt(-2 log(u)) * cos(2 pi v), u in (0, 1] from the first word, v in
 *            [0, 1) from the second (Box and Muller 1958)
 *
 * Computed in f32, in f64 for f64. Input 0 gives the shape and, without `dtype`, the type. */
#include "ir/ops/common.h"

#include <string.h>

static bool random_dtype(Module *m, const Node *n, DType *t) {
    *t = node_attr(n, "dtype") ? dtype_from_onnx(attr_int(n, "dtype", 0)) : n->in[0]->dtype;
    if (*t != DT_NONE && dtype_is_float(*t)) return true;
    diag_unsupported(m->diag, n->loc, "random numbers of this type are not supported; floats are");
    return false;
}

bool random_infer(Module *m, Node *n) {
    DType t;
    int64_t count;
    if (!infer_dtype(m, n, 0, CLASS_ANY) || !random_dtype(m, n, &t)) return false;
    if (has_in(n, 1)) {
        if (!infer_index_dtype(m, n, 1)) return false;
        if (!shape_count_int(n->in[1]->shape, &count) || count != 1) {
            diag_error(m->diag, n->loc, "input 1 (stream) must be a scalar");
            return false;
        }
    }
    return infer_set(m, n, 0, t, shape_copy(m->arena, n->in[0]->shape));
}

/* The key of a seed: its bits, spread over the word by two multiplications (the finalizer of
 * A. Appleby's MurmurHash3), so that neighbouring seeds have nothing in common. */
static uint32_t key_of_seed(double seed) {
    float narrow = (float)seed;
    uint32_t h;
    memcpy(&h, &narrow, sizeof h);
    h = (h ^ h >> 16) * UINT32_C(0x85ebca6b);
    h = (h ^ h >> 13) * UINT32_C(0xc2b2ae35);
    return h ^ h >> 16;
}

static const KExpr *word(KCtx *k, uint32_t v) {
    return k_const_i(k, DT_U32, (int64_t)v);
}

/* Ten rounds; the two words take the counter's place. */
static void philox(KCtx *k, uint32_t key, const KExpr **first, const KExpr **second) {
    enum { ROUNDS = 10 };
    for (int i = 0; i < ROUNDS; i++) {
        const KExpr *product =
            k_mul(k, k_cast(k, DT_U64, *first), k_const_i(k, DT_U64, INT64_C(0xd256d193)));
        const KExpr *high = k_cast(k, DT_U32, k_shr(k, product, k_const_i(k, DT_U64, 32)));
        *first = k_xor(k, k_xor(k, high, word(k, key)), *second);
        *second = k_cast(k, DT_U32, product);
        key += UINT32_C(0x9e3779b9);
    }
}

/* The two words of the stage's element. */
static void random_words(Def *d, const Stage *s, const KExpr **first, const KExpr **second) {
    KCtx *k = d->k;
    const KExpr *flat = lower_flat(d, s), *high = k_shr(k, flat, k_int(k, 32));
    if (d->node->n_in > 1 && d->node->in[1]) {
        const KExpr *stream = k_cast(k, DT_I64, lower_scalar(d, def_in(d, 1)));
        high = k_add(k, high, k_shl(k, stream, k_int(k, 8)));
    }
    *first = k_cast(k, DT_U32, flat);
    *second = k_cast(k, DT_U32, high);
    philox(k, key_of_seed(attr_float(d->node, "seed", 0)), first, second);
}

/* The upper bits of a word as a number of dtype t. */
static const KExpr *upper_bits(KCtx *k, DType t, const KExpr *w, int bits) {
    return k_cast(k, t, k_shr(k, w, word(k, (uint32_t)(32 - bits))));
}

/* In [0, 1): 24 bits, or 53 of both words in f64. */
static const KExpr *unit(KCtx *k, DType t, const KExpr *first, const KExpr *second) {
    if (t == DT_F32) return k_mul(k, upper_bits(k, t, first, 24), k_const(k, t, 0x1p-24));
    const KExpr *low = k_mul(k, upper_bits(k, t, second, 26), k_const(k, t, 0x1p-53));
    return k_add(k, k_mul(k, upper_bits(k, t, first, 27), k_const(k, t, 0x1p-27)), low);
}

/* sqrt(-2 log(u)) * cos(2 pi v) */
static const KExpr *box_muller(KCtx *k, DType t, const KExpr *first, const KExpr *second) {
    const KExpr *fraction = k_mul(k, k_cast(k, t, first), k_const(k, t, 0x1p-32));
    const KExpr *u = k_add(k, fraction, k_const(k, t, 0x1p-33));
    const KExpr *radius =
        k_sqrt(k, k_mul(k, k_const(k, t, -2), k_log(k, k_min(k, u, k_const(k, t, 1)))));
    const KExpr *turn = k_mul(k, upper_bits(k, t, second, 24), k_const(k, t, 0x1p-24));
    const KExpr *angle = k_mul(k, turn, k_const(k, t, 6.283185307179586));
    return k_mul(k, radius, k_unary(k, KO_cos, angle));
}

void random_lower(Def *d, const Node *n) {
    KCtx *k = d->k;
    KTensor *out = def_out(d, 0);
    DType t = out->dtype == DT_F64 ? DT_F64 : DT_F32;
    Stage *s = def_begin(d, FORM_MAP, out);
    const KExpr *first, *second, *e;
    random_words(d, s, &first, &second);
    if (n->op == OP_RandomUniformLike) {
        double low = attr_float(n, "low", 0), high = attr_float(n, "high", 1);
        e = k_mul(k, unit(k, t, first, second), k_const(k, t, high - low));
        e = k_add(k, e, k_const(k, t, low));
    } else {
        e = k_mul(k, box_muller(k, t, first, second), k_const(k, t, attr_float(n, "scale", 1)));
        e = k_add(k, e, k_const(k, t, attr_float(n, "mean", 0)));
    }
    def_map(d, s, k_cast(k, out->dtype, e));
}
