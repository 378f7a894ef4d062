// Tandem — Apache-2.0

/* Sixteen-lane vectors for the kernel templates. Included once by each instruction set's file, inside its target
 * attribute, with TANDEM_LEVEL set to the `tandem_isa` it compiles for. The templates are written once over these and
 * become two AVX2 or four SSE/NEON registers where no 512-bit ones exist. */
#ifndef TANDEM_LANES_H
#define TANDEM_LANES_H

#include "CPUKernels.h"

#include <stdbool.h>
#include <string.h>

/* Every rounding is written down: a * b + c rounds twice, vf_fma once (where the hardware has it). */
#pragma clang fp contract(off)
/* 64-byte vectors pass only between always-inlined functions, so no calling convention is involved. */
#pragma clang diagnostic ignored "-Wpsabi"

/* The largest finite f16. */
#define HALF_LARGEST 65504.0f

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float vf __attribute__((ext_vector_type(16)));
typedef int32_t vi __attribute__((ext_vector_type(16)));
typedef uint32_t vu __attribute__((ext_vector_type(16)));
typedef uint16_t vh __attribute__((ext_vector_type(16)));
typedef int8_t vb __attribute__((ext_vector_type(16)));

INLINE vf vf_splat(float x) { return (vf)(x); }
INLINE vi vi_splat(int32_t x) { return (vi)(x); }

INLINE vf vf_load(const void *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void vf_store(void *p, vf v) { memcpy(p, &v, sizeof v); }

/* The first n lanes from memory, the others `fill`; n in 0 ... 16. */
INLINE vf vf_load_partial(const float *p, ptrdiff_t n, float fill) {
    vf v = vf_splat(fill);
    memcpy(&v, p, (size_t)n * sizeof(float));
    return v;
}
INLINE void vf_store_partial(float *p, ptrdiff_t n, vf v) { memcpy(p, &v, (size_t)n * sizeof(float)); }

INLINE vi as_vi(vf v) { return __builtin_bit_cast(vi, v); }
INLINE vf as_vf(vi v) { return __builtin_bit_cast(vf, v); }

/* mask lanes are all ones or all zeros, as comparisons make them. */
INLINE vi vi_select(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }
INLINE vf vf_select(vi mask, vf a, vf b) { return as_vf(vi_select(mask, as_vi(a), as_vi(b))); }

/* b where either is NaN. */
INLINE vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
INLINE vf vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
/* NaN becomes the lower bound. */
INLINE vf vf_clamp(vf x, float bound) { return vf_min(vf_max(x, vf_splat(-bound)), vf_splat(bound)); }
INLINE vf vf_abs(vf v) { return as_vf(as_vi(v) & 0x7fffffff); }

INLINE vf vf_fma(vf a, vf b, vf c) {
#if TANDEM_LEVEL >= 1
    return __builtin_elementwise_fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* Lanes are folded by halves: one fixed tree. */
INLINE float vf_sum(vf v) {
    typedef float f8 __attribute__((ext_vector_type(8)));
    typedef float f4 __attribute__((ext_vector_type(4)));
    const f8 a = v.lo + v.hi;
    const f4 b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}

INLINE float vf_largest(vf v) {
    float best = v[0];
    UNROLL for (int i = 1; i < 16; i++) best = v[i] > best ? v[i] : best;
    return best;
}

INLINE float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
INLINE uint32_t bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Adding 1.5 * 2^23 leaves a float's nearest integer (ties to even) in its low bits; |x| < 2^22. */
#define ROUNDING_MAGIC 12582912.0f
INLINE vi vi_round(vf x) { return as_vi(x + ROUNDING_MAGIC) - as_vi(vf_splat(ROUNDING_MAGIC)); }

/* exp, relative error below 2e-7: x = n ln 2 + r, a polynomial in r, the exponent n by shift. 0 below the normal range,
 * capped at exp(88.37), exactly 1 at 0, NaN stays. */
INLINE vf vf_exp(vf x) {
    const vi underflow = x < -87.33f;
    x = vf_select(x > 88.37f, vf_splat(88.37f), x);
    x = vf_select(underflow, vf_splat(0.0f), x);
    const vf shifted = vf_fma(x, vf_splat(1.44269504088896341f), vf_splat(ROUNDING_MAGIC));
    const vf n = shifted - ROUNDING_MAGIC;
    vf r = vf_fma(n, vf_splat(-0.693359375f), x);
    r = vf_fma(n, vf_splat(2.12194440e-4f), r);
    vf p = vf_fma(r, vf_splat(1.9875691500e-4f), vf_splat(1.3981999507e-3f));
    p = vf_fma(p, r, vf_splat(8.3334519073e-3f));
    p = vf_fma(p, r, vf_splat(4.1665795894e-2f));
    p = vf_fma(p, r, vf_splat(1.6666665459e-1f));
    p = vf_fma(p, r, vf_splat(5.0000001201e-1f));
    p = vf_fma(p, r * r, r) + 1.0f;
    const vi exponent = (as_vi(shifted) - as_vi(vf_splat(ROUNDING_MAGIC)) + 127) << 23;
    return vf_select(underflow, vf_splat(0.0f), p * as_vf(exponent));
}

INLINE vf vf_from_half(const void *p) {
#if TANDEM_LEVEL >= 2
    return __builtin_bit_cast(vf, _mm512_cvtph_ps(_mm256_loadu_si256(p)));
#elif TANDEM_LEVEL == 1
    struct { __m256 lo, hi; } halves = {
        _mm256_cvtph_ps(_mm_loadu_si128(p)),
        _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1)),
    };
    return __builtin_bit_cast(vf, halves);
#else
    vh raw;
    memcpy(&raw, p, sizeof raw);
    const vi bits = __builtin_convertvector(raw, vi);
    const vi exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    const vi normal = ((exponent + 112) << 23) | (mantissa << 13);
    const vi subnormal = as_vi(__builtin_convertvector(mantissa, vf) * 0x1p-24f);
    const vi special = 0x7f800000 | (mantissa << 13);
    const vi magnitude = vi_select(exponent == 0, subnormal, vi_select(exponent == 31, special, normal));
    return as_vf(magnitude | ((bits & 0x8000) << 16));
#endif
}

INLINE void vf_to_half(void *p, vf v) {
#if TANDEM_LEVEL >= 2
    _mm256_storeu_si256(p, _mm512_cvtps_ph(__builtin_bit_cast(__m512, v), _MM_FROUND_TO_NEAREST_INT));
#elif TANDEM_LEVEL == 1
    struct { __m256 lo, hi; } halves = __builtin_bit_cast(__typeof__(halves), v);
    _mm_storeu_si128(p, _mm256_cvtps_ph(halves.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(halves.hi, _MM_FROUND_TO_NEAREST_INT));
#else
    const vi bits = as_vi(v), magnitude = bits & 0x7fffffff;
    const vi normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
    /* The unit in the last place of 0.5 is f16's smallest subnormal. */
    const vi subnormal = as_vi(as_vf(magnitude) + 0.5f) - as_vi(vf_splat(0.5f));
    const vi nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
    vi half = vi_select(magnitude < 0x38800000, subnormal, normal);
    half = vi_select(magnitude >= 0x477ff000, vi_splat(0x7c00), half);
    half = vi_select(magnitude > 0x7f800000, nan, half);
    const vh out = __builtin_convertvector(half | ((bits >> 16) & 0x8000), vh);
    memcpy(p, &out, sizeof out);
#endif
}

/* The bf16 nearest to each lane (ties to even; NaN stays NaN) in the lane's low half. */
INLINE vi vi_bf16(vf v) {
    const vi bits = as_vi(v);
    const vi rounded = ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) & 0xffff;
    const vi nan = ((bits >> 16) & 0xffff) | 0x40;
    return vi_select((bits & 0x7fffffff) > 0x7f800000, nan, rounded);
}

/* Rows r of 16 lanes become columns. */
INLINE void vi_transpose(vi rows[16]) {
    vi next[16];
    /* Interleaving row i with row i + 8 four times is the transpose. */
    UNROLL for (int stage = 0; stage < 4; stage++) {
        UNROLL for (int i = 0; i < 8; i++) {
            const vi a = rows[i], b = rows[i + 8];
            next[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            next[2 * i + 1] =
                __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        UNROLL for (int i = 0; i < 16; i++) rows[i] = next[i];
    }
}

#endif
