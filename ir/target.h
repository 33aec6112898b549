/* What passes and renderers know of a machine. Rows of targets.def start as copies of `generic` and
 * override fields; an unknown CPU falls back to its architecture's baseline, never an error. */
#ifndef SMELT_IR_TARGET_H
#define SMELT_IR_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/support/arena.h"

typedef struct Target {
    const char *name;      /* row of targets.def: avx512, avx2, neon, ...; in kernels' symbols */
    const char *triple;    /* LLVM's */
    const char *cpu;       /* LLVM's */
    const char *features;  /* LLVM's: "+avx2,+fma"; a known cpu's first, then what was given */
    const char *arch;      /* x86_64, aarch64, arm, riscv64, ... */
    int vector_bytes;      /* width of the vectors schedules use; 4 means scalar */
    int fast_vector_bytes; /* under --fast-math, where vectors break IEEE's rules; 0: the same */
    int n_vector_regs;
    bool fma;  /* fused multiply-add is fast: schedules may choose it */
    bool dot4; /* four-way dot product of bytes: u8 x i8, or i8 x i8 where dot4_signed */
    bool dot4_signed;
    bool dot2; /* products of pairs of i16, summed, are one instruction */
    bool dot2_bf16; /* products of pairs of bf16, summed in f32, are one instruction */
    bool lookup; /* elements of a vector are taken by indices of a loop in one instruction */
    bool ldexp; /* multiplying by a power of two is one instruction */
    int mask_bytes; /* least element that is loaded and stored under a mask; 0: none is */
    int gather_bytes; /* largest elements that are gathered faster than loaded one by one */
    bool amx;  /* matrix unit for bytes and bf16, and a system that lets programs use it */
    int pointer_bytes;
    int l1_bytes, l2_bytes;
    int fma_ports, load_ports, issue; /* vector multiply-adds, loads, all instructions per cycle */
    int add_ports; /* vector integer instructions, of which as many as fma_ports multiply */
    int fma_latency;                  /* cycles */
    int window; /* instructions of a tile that is too long to overlap with the next; 0: any is */
    double gflops;            /* one core's peak, for the cost model */
} Target;

/* A target from LLVM's triple, cpu and feature string (all resolved: never "native"). The feature
 * string decides what is available; cpu names known to targets.def add theirs. */
const Target *target_resolve(Arena *a, const char *triple, const char *cpu, const char *features);
/* The same target under --fast-math. */
const Target *target_relax(Arena *a, const Target *t);
/* Is this LLVM feature on: listed, or implied on x86 by one that is (avx512f has avx2, ...)? */
bool target_has(const Target *t, const char *feature);
static inline int target_lanes(const Target *t, int elem_bytes) {
    return t->vector_bytes > elem_bytes ? t->vector_bytes / elem_bytes : 1;
}

#endif
