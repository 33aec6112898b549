/* Importers of com.microsoft's attention operators.
 *
 * All of them end in one core over heads, q[B, N, S, H], k[B, N, T, H], v[B, N, T, V]:
 *
 *     weights = Softmax(MatMul(q, k') * scale + mask)        mask: sums of what broadcasts to
 *     output  = MatMul(weights, v)                           [B, N, S, T]
 *
 * in front of which each operator splits its inputs into heads, appends what the cache holds, and
 * writes its masks as numbers to add. A mask is 0 or "filter", by default -10000 as in ONNX
 * Runtime, so that rows in which everything is masked agree too; causal masks use the lowest
 * number of the type.
 *
 * Grouped queries: q is seen as [B, K, G, S, H] and k, v as [B, K, 1, T, H]. */
#include <math.h>
#include <string.h>

#include "frontend/onnx/build.h"
#include "frontend/onnx/microsoft.h"

/* ---- heads ----------------------------------------------------------------------------------- */

/* [B, S, heads * H] -> [B, heads, S, H] */
static Value *to_heads(Call *c, Value *v, int64_t heads) {
    v = build_reshape(c, v, (int64_t[]){0, 0, heads, -1}, 4);
    return build_transpose(c, v, (int64_t[]){0, 2, 1, 3}, 4);
}

/* [B, heads, S, H] -> [B, S, heads * H] */
static Value *from_heads(Call *c, Value *v) {
    v = build_transpose(c, v, (int64_t[]){0, 2, 1, 3}, 4);
    return build_reshape(c, v, (int64_t[]){0, 0, -1}, 3);
}

/* [B, groups, heads of one, S, H] -> [B, S, heads * H] */
static Value *from_groups(Call *c, Value *v) {
    v = build_transpose(c, v, (int64_t[]){0, 3, 1, 2, 4}, 5);
    return build_reshape(c, v, (int64_t[]){0, 0, -1}, 3);
}

static Value *swap_last(Call *c, Value *v) {
    return build_swap_last(c, v, 4);
}

/* The factor of q * k': the attribute or, when it is 0, 1 / sqrt(head size). */
static Value *score_scale(Call *c, Value *q) {
    double given = call_float(c, "scale", 0);
    DType t = call_float_type(q);
    if (given != 0) return call_scalar(c, t, given);
    Value *size = build_squeeze(c, call_cast(c, build_dim(c, q, -1), DT_F32), 0);
    return call_cast(c, call_op(c, OP_Reciprocal, 1, call_op(c, OP_Sqrt, 1, size)), t);
}

static bool check_heads(Call *c, const char *attr, int64_t *heads) {
    *heads = call_int(c, attr, 0);
    if (*heads >= 1 && *heads <= INT32_MAX) return true;
    diag_error(c->im->d, c->loc, "%s is %lld, but has to be at least 1", attr, (long long)*heads);
    return false;
}

static bool refuse(Call *c, const char *what) {
    diag_unsupported(c->im->d, c->loc, "%s is not supported", what);
    return false;
}

/* ---- masks ----------------------------------------------------------------------------------- */

/* 0 where kept, else filter, in t. */
static Value *mask_numbers(Call *c, Value *kept, DType t, double filter) {
    return build_where(c, kept, call_scalar(c, t, 0), call_scalar(c, t, filter));
}

/* i64[1, count] and i64[count, 1]: positions as a row and as a column. */
static Value *row_of(Call *c, Value *count) {
    return build_unsqueeze(c, build_iota(c, count), 0);
}

static Value *column_of(Call *c, Value *count) {
    return build_unsqueeze(c, build_iota(c, count), 1);
}

/* [S, T]: query i sees the keys up to i + past. */
static Value *causal_mask(Call *c, Value *n_queries, Value *n_keys, DType t) {
    double lowest = t == DT_F16 ? -65504 : -3.4028234663852886e38;
    Value *past = build_sub(c, n_keys, n_queries);
    Value *last = build_add(c, column_of(c, n_queries), past);
    Value *kept = call_op(c, OP_LessOrEqual, 2, row_of(c, n_keys), last);
    return mask_numbers(c, kept, t, t == DT_BF16 ? -3.38e38 : lowest);
}

/* Lengths [B], or ends and then starts [2 * B], as kept[B, 1, 1, T]. NULL after a message. */
static Value *kept_by_length(Call *c, Value *mask, Value *q, Value *n_keys) {
    const Shape *m = build_shape(c, mask, "the mask"), *s = build_shape(c, q, "the query");
    int64_t n_mask = 0, n_batch = 0;
    if (!m || !s) return NULL;
    bool known = shape_dim_int(*m, 0, &n_mask) && shape_dim_int(*s, 0, &n_batch);
    bool both = m->dims[0] != s->dims[0] &&
                (known ? n_mask == 2 * n_batch
                       : k_mul(c->m->k, s->dims[0], k_int(c->m->k, 2)) == m->dims[0]);
    if (known && !both && n_mask != n_batch) {
        refuse(c, "a mask that packs several sequences (3 * batch + 2 entries)");
        return NULL;
    }
    Value *at = build_reshape(c, build_iota(c, n_keys), (int64_t[]){1, -1}, 2);
    Value *wide = call_cast(c, mask, DT_I64);
    Value *rows = build_reshape(c, wide, (int64_t[]){both ? 2 : 1, -1, 1}, 3);
    Value *kept = call_op(c, OP_Less, 2, at, build_gather(c, rows, call_i64(c, 0), 0));
    if (both) {
        Value *from = build_gather(c, rows, call_i64(c, 1), 0);
        kept = call_op(c, OP_And, 2, kept, call_op(c, OP_GreaterOrEqual, 2, at, from));
    }
    return build_unsqueeze(c, build_unsqueeze(c, kept, 1), 1);
}

/* The mask input, in any of its forms, as numbers to add. */
static Value *read_mask(Call *c, Value *mask, Value *q, Value *n_keys) {
    int rank = build_rank(c, mask, "the mask");
    DType t = call_float_type(q);
    double filter = call_float(c, "mask_filter_value", -10000);
    if (rank < 0) return NULL;
    if (rank == 1) {
        Value *kept = kept_by_length(c, mask, q, n_keys);
        return kept ? mask_numbers(c, kept, t, filter) : NULL;
    }
    if (rank == 4) { /* [B, 1, longest, longest]: the rows and columns that are in use */
        Value *past = build_sub(c, n_keys, build_dim(c, q, 2));
        mask = build_slice_at(c, mask, past, n_keys, 2);
        mask = build_slice_at(c, mask, build_one(c, 0), n_keys, 3);
    } else if (rank == 2 || rank == 3) {
        for (; rank < 4; rank++) mask = build_unsqueeze(c, mask, 1);
    } else {
        diag_error(c->im->d, c->loc, "the mask has rank %d, must be at most 4", rank);
        return NULL;
    }
    Value *zero = call_scalar(c, DT_I32, 0);
    return mask_numbers(c, call_op(c, OP_Greater, 2, call_cast(c, mask, DT_I32), zero), t, filter);
}

/* ---- the core -------------------------------------------------------------------------------- */

/* q * k' * scale + mask + bias */
static Value *scores_of(Call *c, Value *q, Value *k, Value *mask, Value *bias) {
    Value *s = call_op(c, OP_MatMul, 2, q, swap_last(c, k));
    s = build_mul(c, s, score_scale(c, q));
    return build_add_optional(c, build_add_optional(c, s, mask), bias);
}

/* The masks of the attributes and inputs together, in *sum (NULL: none). */
static bool add_masks(Call *c, Value *mask, Value *q, Value *k, Value **sum) {
    Value *n_keys = build_dim(c, k, 2);
    *sum = NULL;
    if (mask && !(*sum = read_mask(c, mask, q, n_keys))) return false;
    if (!call_int(c, "unidirectional", 0)) return true;
    Value *causal = causal_mask(c, build_dim(c, q, 2), n_keys, call_float_type(q));
    *sum = *sum ? call_op(c, OP_Min, 2, *sum, causal) : causal;
    return true;
}

/* ---- Attention and QAttention ---------------------------------------------------------------- */

/* The three parts of the projection, of equal width unless qkv_hidden_sizes says otherwise. */
static void split_projection(Call *c, Value *qkv, Value *part[3]) {
    const int64_t *sizes;
    if (call_ints(c, "qkv_hidden_sizes", &sizes) != 3) {
        build_split(c, qkv, 3, -1, part);
        return;
    }
    Value *in[] = {qkv, call_list(c, sizes, 3)};
    Node *s = call_node(c, OP_Split, in, 2, 3);
    node_set_int(s, "axis", -1);
    for (int i = 0; i < 3; i++) {
        part[i] = s->out[i];
        part[i]->dtype = qkv->dtype;
    }
}

bool ms_attend_projected(Call *c, Value *qkv, Value *mask, Value *past, Value *bias) {
    int64_t heads;
    Value *part[3], *sum;
    if (!check_heads(c, "num_heads", &heads)) return false;
    if (call_int(c, "past_present_share_buffer", 0))
        return refuse(c, "a cache buffer shared by past and present");
    if (call_int(c, "do_rotary", 0)) return refuse(c, "do_rotary");
    split_projection(c, qkv, part);
    for (int i = 0; i < 3; i++) part[i] = to_heads(c, part[i], heads);
    for (int i = 1; past && i < 3; i++) {
        Value *both[] = {build_gather(c, past, call_i64(c, i - 1), 0), part[i]};
        part[i] = build_concat(c, both, 2, 2);
    }
    if (!add_masks(c, mask, part[0], part[1], &sum)) return false;
    Value *weights = build_softmax(c, scores_of(c, part[0], part[1], sum, bias), -1);
    c->out[0] = from_heads(c, call_op(c, OP_MatMul, 2, weights, part[2]));
    if (call_wants(c, 1)) {
        Value *cache[] = {build_unsqueeze(c, part[1], 0), build_unsqueeze(c, part[2], 0)};
        c->out[1] = build_concat(c, cache, 2, 0);
    }
    return true;
}

/* x, weights of all three projections, bias, mask, past, attention bias */
bool import_ms_attention(Call *c) {
    if (call_in(c, 6)) return refuse(c, "past_sequence_length");
    Value *qkv = call_op(c, OP_MatMul, 2, c->in[0], c->in[1]);
    qkv = build_add_optional(c, qkv, call_in(c, 2));
    return ms_attend_projected(c, qkv, call_in(c, 3), call_in(c, 4), call_in(c, 5));
}

/* ---- MultiHeadAttention ---------------------------------------------------------------------- */

/* Part i of [B, S, N, parts, H], as [B, N, S, H]. */
static Value *packed_heads(Call *c, Value *v, int i) {
    v = build_gather(c, v, call_i64(c, i), 3);
    return build_transpose(c, v, (int64_t[]){0, 2, 1, 3}, 4);
}

/* Adds the bias of the input projections to what is still [B, S, N * H]. The bias of q, k and v is
 * one list, of which k's part is as long as q's. */
static void add_projection_bias(Call *c, Value *bias, Value *v[3]) {
    Value *zero = build_one(c, 0), *hidden = build_dim(c, v[0], 2);
    Value *twice = build_mul(c, hidden, build_one(c, 2));
    Value *bounds[] = {zero, hidden, twice, build_dim(c, bias, 0)};
    for (int i = 0; i < 3; i++)
        if (v[i]) v[i] = build_add(c, v[i], build_slice_at(c, bias, bounds[i], bounds[i + 1], 0));
}

/* Fills v with q, k, v as heads from any of the forms that query, key and value have. */
static bool read_heads(Call *c, int64_t heads, Value *v[3]) {
    Value *key = call_in(c, 1), *value = call_in(c, 2), *bias = call_in(c, 3);
    Value *flat[3] = {0};
    int q_rank = build_rank(c, c->in[0], "the query");
    int k_rank = key ? build_rank(c, key, "the key") : 0;
    if (q_rank < 0 || k_rank < 0) return false;
    if (q_rank == 5) {
        if (bias) return refuse(c, "a bias on packed queries, keys and values");
        for (int i = 0; i < 3; i++) v[i] = packed_heads(c, c->in[0], i);
        return true;
    }
    if (q_rank != 3 || !key || (k_rank != 5 && !value)) {
        diag_error(c->im->d, c->loc,
                   "the query has rank %d; it has to have 3 with a key and a value, or 5 for all",
                   q_rank);
        return false;
    }
    flat[0] = c->in[0];
    if (k_rank == 3) flat[1] = key, flat[2] = value;
    if (bias) add_projection_bias(c, bias, flat);
    for (int i = 0; i < 3; i++)
        v[i] = flat[i]       ? to_heads(c, flat[i], heads)
               : k_rank == 5 ? packed_heads(c, key, i - 1)
                             : call_in(c, i);
    return true;
}

/* query, key, value, bias, mask, attention bias, past key, past value */
bool import_ms_multi_head_attention(Call *c) {
    int64_t heads;
    Value *v[3], *sum, *past[] = {NULL, call_in(c, 6), call_in(c, 7)};
    if (!check_heads(c, "num_heads", &heads) || !read_heads(c, heads, v)) return false;
    if (call_in(c, 8) || call_in(c, 9))
        return refuse(c, "a cache buffer shared by past and present");
    for (int i = 1; i < 3; i++) {
        Value *both[] = {past[i], v[i]};
        if (past[i]) v[i] = build_concat(c, both, 2, 2);
    }
    if (!add_masks(c, call_in(c, 4), v[0], v[1], &sum)) return false;
    Value *scores = scores_of(c, v[0], v[1], sum, call_in(c, 5));
    Value *weights = build_softmax(c, scores, -1);
    Value *result[] = {from_heads(c, call_op(c, OP_MatMul, 2, weights, v[2])), v[1], v[2], scores};
    for (int i = 0; i < c->n_out; i++)
        if (call_wants(c, i)) c->out[i] = i ? call_op(c, OP_Identity, 1, result[i]) : result[i];
    return true;
}

/* ---- rotary positions ------------------------------------------------------------------------ */

/* x[B, N, S, H] turned by the angles of its positions [B or 1, S]: pairs of the first 2 * half
 * numbers of each head, neighbours (interleaved) or half apart; the rest stays. */
static Value *rotate(Call *c, Value *x, Value *positions, Value *cosines, Value *sines,
                     bool interleaved) {
    Value *zero = build_one(c, 0), *half = build_dim(c, cosines, 1), *a, *b;
    Value *turned = build_mul(c, half, build_one(c, 2));
    Value *front = build_slice_at(c, x, zero, turned, 3);
    Value *rest = build_slice_at(c, x, turned, build_dim(c, x, 3), 3);
    Value *cosine = build_unsqueeze(c, build_gather(c, cosines, positions, 0), 1);
    Value *sine = build_unsqueeze(c, build_gather(c, sines, positions, 0), 1);
    if (interleaved) {
        Value *pairs =
            build_reshape_to(c, front, (Value *[]){zero, zero, zero, half, build_one(c, 2)}, 5);
        a = build_gather(c, pairs, call_i64(c, 0), 4);
        b = build_gather(c, pairs, call_i64(c, 1), 4);
    } else {
        a = build_slice_at(c, front, zero, half, 3);
        b = build_slice_at(c, front, half, turned, 3);
    }
    Value *part[] = {build_sub(c, build_mul(c, a, cosine), build_mul(c, b, sine)),
                     build_add(c, build_mul(c, a, sine), build_mul(c, b, cosine)), rest};
    if (!interleaved) return build_concat(c, part, 3, 3);
    for (int i = 0; i < 2; i++) part[i] = build_unsqueeze(c, part[i], 4);
    Value *mixed =
        build_reshape_to(c, build_concat(c, part, 2, 4), (Value *[]){zero, zero, zero, turned}, 4);
    return build_concat(c, (Value *[]){mixed, rest}, 2, 3);
}

/* x, position_ids, cosines, sines: positions are of every token, or one, that of the first. */
bool import_ms_rotary_embedding(Call *c) {
    Value *x = c->in[0], *positions = c->in[1];
    int rank = build_rank(c, x, "input 0"), p_rank = build_rank(c, positions, "the positions");
    int64_t heads = call_int(c, "num_heads", 0);
    bool interleaved = call_int(c, "interleaved", 0) != 0;
    if (rank < 0 || p_rank < 0) return false;
    if (call_float(c, "scale", 1) != 1) return refuse(c, "a scale other than 1");
    if (rank != 3 && rank != 4) {
        diag_error(c->im->d, c->loc, "input 0 has rank %d, must be 3 or 4", rank);
        return false;
    }
    Value *v = x;
    if (rank == 3 && heads > 0) {
        v = to_heads(c, x, heads);
    } else if (rank == 3) {
        Value *zero = build_one(c, 0), *two = build_one(c, 2);
        Value *size = build_mul(c, build_dim(c, c->in[2], 1), two);
        v = build_reshape_to(c, x, (Value *[]){zero, zero, build_one(c, -1), size}, 4);
        v = build_transpose(c, v, (int64_t[]){0, 2, 1, 3}, 4);
    }
    if (p_rank == 1) {
        Value *first = build_reshape(c, positions, (int64_t[]){1, 1}, 2);
        positions = build_add(c, row_of(c, build_dim(c, v, 2)), first);
    }
    v = rotate(c, v, positions, c->in[2], c->in[3], interleaved);
    return call_result(c, rank == 3 ? from_heads(c, v) : v);
}

/* ---- GroupQueryAttention --------------------------------------------------------------------- */

/* One node while it is taken apart. Sequences are counted by i64 values. */
typedef struct Grouped {
    Call *c;
    int64_t heads, kv_heads;
    Value *v[3];          /* heads of q, k, v */
    Value *past[3];       /* past key and value, or NULL, at 1 and 2 */
    Value *n_new, *n_all; /* i64[1]: new tokens, tokens of the result's cache */
    Value *before;        /* i64[B, 1]: tokens of each sequence in front of the new ones */
} Grouped;

/* q, k and v come apart or in one tensor of heads of all three. */
static bool grouped_heads(Grouped *g) {
    Call *c = g->c;
    Value *key = call_in(c, 1), *value = call_in(c, 2);
    if (key && value) {
        g->v[0] = to_heads(c, c->in[0], g->heads);
        g->v[1] = to_heads(c, key, g->kv_heads);
        g->v[2] = to_heads(c, value, g->kv_heads);
        return true;
    }
    if (key || value) {
        diag_error(c->im->d, c->loc, "key and value have to be given both or left out both");
        return false;
    }
    int64_t n = g->heads + 2 * g->kv_heads, at[] = {0, g->heads, g->heads + g->kv_heads, n};
    Value *all = to_heads(c, c->in[0], n);
    for (int i = 0; i < 3; i++) g->v[i] = build_slice(c, all, at[i], at[i + 1], 1);
    return true;
}

/* How many rows the caches of the result have: as many as the past's, or as total_sequence_length
 * says where that is known while compiling; else past and new together. */
static void grouped_lengths(Grouped *g) {
    Call *c = g->c;
    Value *total = build_reshape(c, call_cast(c, c->in[6], DT_I64), (int64_t[]){1}, 1);
    Value *lengths = call_cast(c, c->in[5], DT_I64);
    g->n_new = build_dim(c, g->v[0], 2);
    if (!g->past[1]) {
        g->n_all = g->n_new;
        g->before = build_mul(c, build_reshape(c, lengths, (int64_t[]){-1, 1}, 2), call_i64(c, 0));
        return;
    }
    Value *n_past = build_dim(c, g->past[1], 2);
    bool known = build_has_shape(c, total) && value_content(c->m, total, 0);
    g->n_all = known ? call_op(c, OP_Max, 2, n_past, total) : build_add(c, n_past, g->n_new);
    Value *ends = build_reshape(c, lengths, (int64_t[]){-1, 1}, 2);
    Value *before = build_sub(c, build_add(c, ends, call_i64(c, 1)), g->n_new);
    /* a first prompt is as long as the whole, and padded at its end */
    Value *is_prompt = call_op(c, OP_Equal, 2, total, g->n_new);
    g->before = build_where(c, is_prompt, call_i64(c, 0), before);
}

/* The past with rows of zeros behind it, as many as the result's cache has. */
static Value *padded_past(Grouped *g, Value *past) {
    Call *c = g->c;
    Value *zeros = call_list(c, (int64_t[]){0, 0, 0, 0, 0, 0}, 6), *zero = build_one(c, 0);
    Value *added = build_sub(c, g->n_all, build_dim(c, past, 2));
    Value *pads = build_concat(c, (Value *[]){zeros, added, zero}, 3, 0);
    return call_op(c, OP_Pad, 2, past, pads);
}

/* The cache after this step: row t is the past's, or from `before` on one of the new. */
static Value *grouped_cache(Grouped *g, Value *past, Value *fresh) {
    Call *c = g->c;
    if (!past) return fresh;
    Value *zero = call_i64(c, 0);
    Value *local = build_sub(c, row_of(c, g->n_all), g->before); /* [B, T] */
    Value *last = build_sub(c, g->n_new, call_i64(c, 1));
    Value *is_new = call_op(c, OP_And, 2, call_op(c, OP_GreaterOrEqual, 2, local, zero),
                            call_op(c, OP_LessOrEqual, 2, local, last));
    Value *index = call_op(c, OP_Min, 2, call_op(c, OP_Max, 2, local, zero), last);
    Value *rows = build_transpose(c, fresh, (int64_t[]){0, 2, 1, 3}, 4);
    rows = call_op(c, OP_GatherND, 2, rows, build_unsqueeze(c, index, -1));
    node_set_int(rows->def, "batch_dims", 1);
    rows = build_transpose(c, rows, (int64_t[]){0, 2, 1, 3}, 4);
    is_new = build_unsqueeze(c, build_unsqueeze(c, is_new, 1), -1);
    return build_where(c, is_new, rows, padded_past(g, past));
}

/* [B, 1, S, T]: which keys a query sees, as numbers. NULL: all. */
static Value *grouped_mask(Grouped *g) {
    Call *c = g->c;
    int64_t window = call_int(c, "local_window_size", -1);
    DType t = call_float_type(g->v[0]);
    double hidden = t == DT_F32 || t == DT_F64 ? -INFINITY : t == DT_F16 ? -65504 : -3.38e38;
    Value *keys = build_reshape(c, build_iota(c, g->n_all), (int64_t[]){1, 1, -1}, 3);
    Value *start = build_unsqueeze(c, g->before, 2);
    Value *kept;
    if (!call_int(c, "causal", 1)) {
        Value *ends = build_reshape(c, call_cast(c, c->in[5], DT_I64), (int64_t[]){-1, 1, 1}, 3);
        kept = call_op(c, OP_LessOrEqual, 2, keys, ends);
    } else {
        Value *query = build_add(c, column_of(c, g->n_new), start);
        kept = call_op(c, OP_LessOrEqual, 2, keys, query);
        if (window > 0) {
            Value *first = build_sub(c, query, call_i64(c, window - 1));
            kept = call_op(c, OP_And, 2, kept, call_op(c, OP_GreaterOrEqual, 2, keys, first));
        }
    }
    return mask_numbers(c, build_unsqueeze(c, kept, 1), t, hidden);
}

/* Softmax with one more number in each row, that of the head, which takes its part and is dropped.
 */
static Value *sink_softmax(Call *c, Value *scores, Value *sink, int64_t heads) {
    Value *column = sink ? build_reshape(c, sink, (int64_t[]){1, heads, 1, 1}, 4)
                         : call_scalar(c, call_float_type(scores), 0);
    Value *n_keys = build_dim(c, scores, 3);
    Value *dims[] = {build_dim(c, scores, 0), build_one(c, heads), build_dim(c, scores, 2),
                     build_one(c, 1)};
    Value *wide = call_op(c, OP_Expand, 2, column, build_concat(c, dims, 4, 0));
    Value *all = build_softmax(c, build_concat(c, (Value *[]){scores, wide}, 2, 3), -1);
    return build_slice_at(c, all, build_one(c, 0), n_keys, 3);
}

/* Where nothing tells the query heads of a group apart (no bias, no sink, no scores for the
 * caller), [B, K, G, S, ...] stays as it is up to the result. */
static bool stays_grouped(const Grouped *g) {
    Call *c = g->c;
    return g->heads > g->kv_heads && !call_in(c, 10) && !call_in(c, 11) && !call_wants(c, 3) &&
           call_int(c, "smooth_softmax", 0) <= 0;
}

/* [B, N, S, H] -> [B, K, G, S, H] */
static Value *query_groups(Grouped *g, Value *q) {
    Call *c = g->c;
    Value *zero = build_one(c, 0);
    Value *dims[] = {zero, build_one(c, g->kv_heads), build_one(c, g->heads / g->kv_heads),
                     build_dim(c, q, 2), build_dim(c, q, 3)};
    return build_reshape_to(c, q, dims, 5);
}

/* q * k' with several heads of q for one of k: [B, N, S, T] */
static Value *grouped_product(Grouped *g, Value *a, Value *kv, bool transposed) {
    Call *c = g->c;
    if (transposed) kv = swap_last(c, kv);
    if (g->heads == g->kv_heads) return call_op(c, OP_MatMul, 2, a, kv);
    if (stays_grouped(g))
        return call_op(c, OP_MatMul, 2, transposed ? query_groups(g, a) : a,
                       build_unsqueeze(c, kv, 2));
    Value *y = call_op(c, OP_MatMul, 2, query_groups(g, a), build_unsqueeze(c, kv, 2));
    Value *flat[] = {build_one(c, 0), build_one(c, g->heads), build_dim(c, a, 2),
                     build_dim(c, kv, 3)};
    return build_reshape_to(c, y, flat, 4);
}

static bool check_grouped(Grouped *g) {
    Call *c = g->c;
    if (!check_heads(c, "num_heads", &g->heads) || !check_heads(c, "kv_num_heads", &g->kv_heads))
        return false;
    if (g->heads % g->kv_heads) {
        diag_error(c->im->d, c->loc, "kv_num_heads is %lld, must divide num_heads, %lld",
                   (long long)g->kv_heads, (long long)g->heads);
        return false;
    }
    if (call_in(c, 12) || call_in(c, 13)) return refuse(c, "a quantized cache");
    if (call_int(c, "sliding_window_cache", 0)) return refuse(c, "sliding_window_cache");
    if (call_int(c, "do_rotary", 0) && (!call_in(c, 7) || !call_in(c, 8))) {
        diag_error(c->im->d, c->loc, "do_rotary is set, but cos_cache or sin_cache is left out");
        return false;
    }
    if (!g->past[1] == !g->past[2]) return true;
    diag_error(c->im->d, c->loc, "past_key and past_value have to be given both or left out both");
    return false;
}

/* q and k normalised head by head, then turned to their positions. */
static void place_heads(Grouped *g) {
    Call *c = g->c;
    for (int i = 0; i < 2; i++) {
        Value *weight = call_in(c, 14 + i);
        if (!weight) continue;
        g->v[i] = call_op(c, OP_RMSNormalization, 2, g->v[i], weight);
        node_set_int(g->v[i]->def, "axis", -1);
        node_set_float(g->v[i]->def, "epsilon", call_float(c, "qk_norm_epsilon", 1e-6));
    }
    if (!call_int(c, "do_rotary", 0)) return;
    Value *positions = call_in(c, 9);
    if (!positions) positions = build_add(c, row_of(c, g->n_new), g->before);
    for (int i = 0; i < 2; i++)
        g->v[i] = rotate(c, g->v[i], positions, c->in[7], c->in[8],
                         call_int(c, "rotary_interleaved", 0) != 0);
}

/* query, key, value, past key, past value, lengths - 1, longest length, cosines, sines, positions,
 * attention bias, sink of each head, scales of the cache, weights of q's and k's norms */
bool import_ms_group_query_attention(Call *c) {
    Grouped g = {.c = c, .past = {NULL, call_in(c, 3), call_in(c, 4)}};
    if (!build_needs(c, (int[]){0, 5, 6, -1}) || !check_grouped(&g) || !grouped_heads(&g))
        return false;
    grouped_lengths(&g);
    place_heads(&g);
    for (int i = 1; i < 3; i++) g.v[i] = grouped_cache(&g, g.past[i], g.v[i]);
    Value *s = build_mul(c, grouped_product(&g, g.v[0], g.v[1], true), score_scale(c, g.v[0]));
    double cap = call_float(c, "softcap", 0);
    if (cap > 0) s = build_scaled(c, call_op(c, OP_Tanh, 1, build_scaled(c, s, 1 / cap)), cap);
    s = build_add_optional(c, s, call_in(c, 10));
    Value *mask = grouped_mask(&g);
    s = build_add(c, s, stays_grouped(&g) ? build_unsqueeze(c, mask, 1) : mask);
    bool sink = call_in(c, 11) || call_int(c, "smooth_softmax", 0) > 0;
    Value *w = sink ? sink_softmax(c, s, call_in(c, 11), g.heads) : build_softmax(c, s, -1);
    Value *y = grouped_product(&g, w, g.v[2], false);
    Value *result[] = {stays_grouped(&g) ? from_groups(c, y) : from_heads(c, y), g.v[1], g.v[2],
                       call_int(c, "qk_output", 0) == 2 ? w : s};
    for (int i = 0; i < c->n_out; i++)
        if (call_wants(c, i)) c->out[i] = i ? call_op(c, OP_Identity, 1, result[i]) : result[i];
    return true;
}
