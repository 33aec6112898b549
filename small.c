/* small.c: written by smelt 0.1.0. C99, no extensions; math.h is all it needs of a
 * library. Compile it with -O2 -ffp-contract=off and never with -ffast-math; with gcc,
 * -fno-math-errno and -fno-trapping-math let it vectorise more and change no result.
 *
 * One function per kernel, then the entry: small_run calls them in order.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "smelt.h"
#include "small.h"

/* gcc needs -ffp-contract=off (which -std=c99 implies), others heed this: */
#if defined(__clang__) || !defined(__GNUC__)
#pragma STDC FP_CONTRACT OFF
#endif
/* gcc's loop interchange, part of -O3, would add up floats in another order: */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize ("no-loop-interchange")
#endif
#if FLT_EVAL_METHOD > 0
#error "float must be computed as float (gcc for 32-bit x86: -msse2 -mfpmath=sse)"
#endif

static inline float f32_min(float a, float b)
{
    return a < b ? a : b;
}

static inline float f32_max(float a, float b)
{
    return a > b ? a : b;
}

static inline uint32_t f32_bits(float a)
{
    union {
        float f;
        uint32_t u;
    } v;
    v.f = a;
    return v.u;
}

static inline float f32_from_bits(uint32_t a)
{
    union {
        uint32_t u;
        float f;
    } v;
    v.u = a;
    return v.f;
}

static const float w0_conv_weight[4] = {
    0.5f, -1.25f, 3e-08f, 1024.0f};

/* conv __ "1" */
static void k0_filter(const float *restrict x, const float *restrict for_, float *restrict t0, int64_t rows, int64_t begin, int64_t end)
{
    (void)rows;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t i_2 = 0; i_2 < 8; i_2++) {
            float acc[1];
            acc[0] = 0.0f;
            for (int64_t int_ = 0; int_ < 4; int_++) {
                acc[0] = acc[0] + ((((i_2 + int_) < 8) ? x[((i * 8) + i_2) + int_] : 0.0f) * for_[int_]);
            }
            t0[(i * 8) + i_2] = acc[0];
        }
    }
}

static void k1_finish(const float *restrict f32_min_, float *restrict body_, int64_t rows)
{
    int64_t at[1];
    at[0] = 0;
    while (((int64_t)((uint64_t)at[0] * (uint64_t)2)) < (rows * 16)) {
        const float x = f32_min_[at[0]];
        if (x < 0.0f) {
            body_[at[0]] = -x;
        } else {
            const float t0 = f32_max((-176.0f), f32_min(89.0f, x));
            const float t1 = (t0 * 1.442695f) + 12583166.0f;
            const float t2 = t1 - 12583166.0f;
            const float t3 = (t2 * (-0.69314575f)) + t0;
            const float t4 = t2 * (-1.4286068e-06f);
            const float t5 = t3 + t4;
            const float t6 = (t5 * t5) * ((((((((0.0013844139f * t5) + 0.008369533f) * t5) + 0.041668057f) * t5) + 0.16666514f) * t5) + 0.49999994f);
            const int32_t t7 = (int32_t)f32_bits(t1);
            const int32_t t8 = t7 >> 1;
            const float t9 = ((1.0f + (t3 + (t6 + t4))) * f32_from_bits((uint32_t)((int32_t)((uint32_t)t8 << 23)))) * f32_from_bits((uint32_t)((int32_t)((uint32_t)((int32_t)((uint32_t)t7 - (uint32_t)t8)) << 23)));
            body_[at[0]] = t9 + (x / 3.0f);
        }
        at[0] = (int64_t)((uint64_t)at[0] + (uint64_t)1);
    }
}

/* ---- entry ---- */

static const smelt_hooks no_hooks = {0};

/* Notes where n_bytes from p lie; true if p is NULL and there are some. */
static int note_range(uintptr_t range[2], const void *p, uint64_t n_bytes)
{
    range[0] = (uintptr_t)p;
    range[1] = range[0] + (uintptr_t)n_bytes;
    return !p && n_bytes > 0;
}

/* Tells the hooks that the current node has ended, if there is one. */
static void end_node(const smelt_hooks *hooks, int64_t *node)
{
    if (*node >= 0 && hooks->after_node) hooks->after_node(hooks->user, (uint32_t)*node);
    *node = -1;
}

/* Does one of the first n_out ranges share a byte with a later one? */
static int overlaps(uintptr_t (*range)[2], int n_out, int n_all)
{
    for (int i = 0; i < n_out; i++)
        for (int j = i + 1; j < n_all; j++) {
            uintptr_t from = range[i][0] > range[j][0] ? range[i][0] : range[j][0];
            uintptr_t to = range[i][1] < range[j][1] ? range[i][1] : range[j][1];
            if (from < to) return 1;
        }
    return 0;
}

/* Passes on to the next node; true if the run is to end. */
static int start_node(const smelt_hooks *hooks, int64_t *node, uint32_t next)
{
    end_node(hooks, node);
    if (hooks->cancel && hooks->cancel(hooks->user)) return 1;
    *node = next;
    if (hooks->before_node) hooks->before_node(hooks->user, next);
    return 0;
}

static void run_parallel(const smelt_hooks *hooks, smelt_range_fn *range, void *call, int64_t n)
{
    if (hooks->parallel_for && n > 1) hooks->parallel_for(hooks->pool, range, call, n);
    else if (n > 0) range(call, 0, n);
}

struct k0_filter_call {
    const float *a0;
    const float *a1;
    float *a2;
    int64_t n0;
};

static void k0_filter_range(void *call, int64_t begin, int64_t end)
{
    const struct k0_filter_call *c = call;
    k0_filter(c->a0, c->a1, c->a2, c->n0, begin, end);
}

static int64_t k0_filter_extent(const float *restrict x, const float *restrict for_, float *restrict t0, int64_t rows)
{
    (void)x;
    (void)for_;
    (void)t0;
    (void)rows;
    const int64_t unused = rows + 2;
    (void)unused;
    return rows;
}

static int check_arguments(const int64_t *symbols)
{
    if (symbols[0] < 1 || symbols[0] > 1000) return SMELT_BAD_DIM;
    return SMELT_OK;
}

static int symbols_for(int64_t *symbols)
{
    int status;
    if (!symbols) return SMELT_BAD_POINTER;
    status = check_arguments(symbols);
    if (status) return status;
    const int64_t N = symbols[0];
    (void)N;
    return SMELT_OK;
}

static int arena_bytes_for(const int64_t *symbols, uint64_t *n_bytes)
{
    if (!n_bytes) return SMELT_BAD_POINTER;
    if (!symbols) return SMELT_BAD_POINTER;
    if (check_arguments(symbols)) return SMELT_BAD_DIM;
    const int64_t N = symbols[0];
    (void)N;
    *n_bytes = ((N * 32) + 64) > 0 ? (uint64_t)((N * 32) + 64) + 63 : 0;
    return SMELT_OK;
}

static int body(const void *const *inputs, void **outputs, int64_t *symbols, void *memory,
                uint64_t arena_bytes, const void *weights, const smelt_hooks *given)
{
    const smelt_hooks *hooks = given ? given : &no_hooks;
    uintptr_t ranges[3][2]; /* outputs, inputs, arena */
    unsigned char *arena = memory;
    uint64_t arena_need;
    int64_t node = -1;
    int status = SMELT_OK;
    status = symbols_for(symbols);
    if (status) return status;
    const int64_t N = symbols[0];
    (void)N;
    (void)inputs, (void)outputs, (void)symbols, (void)weights, (void)hooks;
    if (note_range(ranges[0], outputs[0], UINT64_C(4) * (uint64_t)(N) * UINT64_C(8))) return SMELT_BAD_POINTER;
    if (note_range(ranges[1], inputs[0], UINT64_C(4) * (uint64_t)(N) * UINT64_C(8))) return SMELT_BAD_POINTER;
    arena_need = ((N * 32) + 64) > 0 ? (uint64_t)((N * 32) + 64) + 63 : 0;
    if (note_range(ranges[2], memory, arena_need)) return SMELT_BAD_POINTER;
    if (arena_bytes < arena_need) return SMELT_SHORT_ARENA;
    if (overlaps(ranges, 1, 3)) return SMELT_BAD_POINTER;
    if (arena) arena += (0u - (uintptr_t)arena) % 64;
    const float *const in_put = inputs[0];
    float *const tmp = (float *)(void *)(arena + (64));
    float *const out_put = outputs[0];

    /* fil__ter__/ (Op) */
    if (start_node(hooks, &node, 0)) return SMELT_CANCELLED;
    {
        struct k0_filter_call call_args;
        call_args.a0 = in_put;
        call_args.a1 = w0_conv_weight;
        call_args.a2 = tmp;
        call_args.n0 = N;
        run_parallel(hooks, k0_filter_range, &call_args, k0_filter_extent(in_put, w0_conv_weight, tmp, N));
    }

    /* fi"n_ish (Op) */
    if (start_node(hooks, &node, 1)) return SMELT_CANCELLED;
    k1_finish(tmp, out_put, N);
    end_node(hooks, &node);
    return status;
}

int small_run(int64_t N, const float in_put[], float out_put[], void *arena, size_t arena_bytes)
{
    const void *smelt_in[2];
    void *smelt_out[2];
    int64_t smelt_dims[2];
    int smelt_result;
    smelt_dims[0] = N;
    smelt_in[0] = in_put;
    smelt_out[0] = out_put;
    smelt_result = body(smelt_in, smelt_out, smelt_dims, arena, arena_bytes, NULL, NULL);
    if (smelt_result) return smelt_result;
    return SMELT_OK;
}

static int run_call(const smelt_call *call)
{
    if (!call || call->struct_size < sizeof *call) return SMELT_BAD_CALL;
    if (call->n_inputs != 1 || !call->inputs) return SMELT_BAD_CALL;
    if (call->n_outputs != 1 || !call->outputs) return SMELT_BAD_CALL;
    if (call->n_symbols != 1 || !call->symbols) return SMELT_BAD_CALL;
    if (call->hooks && call->hooks->struct_size < sizeof *call->hooks) return SMELT_BAD_CALL;
    return body(call->inputs, call->outputs, call->symbols, call->arena, call->arena_bytes, call->weights, call->hooks);
}

static const int64_t tensors_in_dims0[] = {-1, 8};
static const smelt_tensor_info tensors_in[] = {
    {"in*/put", tensors_in_dims0, UINT64_C(32000), SMELT_F32, 2, SMELT_KIND_TENSOR, 0},
};

static const int64_t tensors_out_dims0[] = {-1, 8};
static const smelt_tensor_info tensors_out[] = {
    {"out\"put", tensors_out_dims0, UINT64_C(32000), SMELT_F32, 2, SMELT_KIND_TENSOR, 0},
};

static const smelt_symbol symbols[] = {
    {"N", 1, 1000, 0, 0},
};

static const smelt_node nodes[] = {
    {"fil*/ter\?\?/", "Op", UINT64_C(0)},
    {"fi\"n\\ish", "Op", UINT64_C(0)},
};

const smelt_model small_model = {
    sizeof(smelt_model), SMELT_ABI_VERSION, "small", "smelt 0.1.0", "c99", "", "", UINT64_C(0),
    1, 1, 1, 2, tensors_in, tensors_out, symbols, nodes,
    UINT64_C(16), UINT64_C(0), w0_conv_weight, UINT64_C(32127),
    symbols_for, arena_bytes_for, run_call};
