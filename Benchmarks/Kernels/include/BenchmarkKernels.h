// Tandem — Apache-2.0
#ifndef BENCHMARK_KERNELS_H
#define BENCHMARK_KERNELS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Instructions whose peak rate bounds matrix products. */
enum benchmark_instruction {
    /** Unsigned by signed bytes, summed in 32 bits (AVX-512 VNNI). */
    benchmark_int8_dot,
    /** Pairs of bfloat16, summed in single precision (AVX-512 BF16). */
    benchmark_bf16_dot,
    /** Single-precision fused multiply-add, in the widest vectors there are. */
    benchmark_f32_fma,
};

/** Bytes per second at which `threads` threads together read a buffer of `bytes` bytes in huge pages, each its own
 *  contiguous share: the best of several passes. 0 if memory or threads cannot be had. */
double benchmark_read_bandwidth(size_t bytes, int threads);

/** Multiplications and additions per second of `threads` threads together, operands in registers: the best of several
 *  passes. 0 if this CPU lacks the instruction or threads cannot be had. */
double benchmark_peak(enum benchmark_instruction instruction, int threads);

#ifdef __cplusplus
}
#endif

#endif
