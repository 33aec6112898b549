/* small.h: written by smelt 0.1.0 for x86_64-pc-linux-gnu (sapphirerapids).
 *
 *   dim    N: 1 to 1000
 *   input  in_put: f32 [N, 8], named 'in__put'
 *   output out_put: f32 [N, 8], named 'out"put'
 *
 * Tensors are dense, last dim first in memory. small_run returns 0, or the number of a
 * smelt_status: 2 a pointer is NULL or outputs overlap something, 3 a dim is out of range,
 * 4 the arena is too small, 5 the processor does not fit. It is reentrant and
 * allocates nothing; an arena serves one call at a time.
 * Needs: sse3,ssse3,fma,sse4.1,sse4.2,movbe,popcnt,avx,f16c,bmi,avx2,bmi2,avx512f,avx512dq,avx512ifma,avx512cd,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,gfni,avx512vnni,avx512bitalg,avx512vpopcntdq,avx512fp16,avxvnni,avx512bf16,lzcnt;
 * each call tests for the vector registers only, since more would take longer than the model (see smelt_cpu_supports).
 */
#ifndef SMALL_H
#define SMALL_H

#include <stddef.h>
#include <stdint.h>

/* Scratch memory for a call, with every dim at its largest; any alignment will do. */
#define SMALL_ARENA_BYTES 32127u

#ifdef __cplusplus
extern "C" {
#endif

#ifndef SMELT_MODEL_DECLARED
#define SMELT_MODEL_DECLARED
typedef struct smelt_model smelt_model;
#endif

int small_run(int64_t N, const float in_put[], float out_put[], void *arena, size_t arena_bytes);

/* Names, types, symbols and the generic call: see smelt.h. */
extern const smelt_model small_model;

#ifdef __cplusplus
}
#endif

#endif
