// Tandem — Apache-2.0
#if defined(__x86_64__)

#define TANDEM_LEVEL 1
#define MAX_TILE_ROWS 4
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS 1

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "lanes.h"

#include "attention.h"
#include "matmul.h"
#include "packing.h"
#include "rows.h"
#include "sampling.h"

INLINE __m256i splat_quants(const uint8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}

/* The 32 bits at p as 16 or 0 in a byte each. */
INLINE __m256i high_bits(const uint8_t *p) {
    const __m256i bytes = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bits = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i chosen = _mm256_and_si256(_mm256_shuffle_epi8(splat_quants(p), bytes), bits);
    return _mm256_and_si256(_mm256_cmpeq_epi8(chosen, bits), _mm256_set1_epi8(16));
}

/* sum + weight * (four products of u and a) per lane; u at most 127, so that a 16-bit pair cannot saturate. */
INLINE __m256i dot_quants(__m256i sum, __m256i u, __m256i a, short weight) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, a), _mm256_set1_epi16(weight)));
}

/* Eight features (one half of the panel) of R rows. */
INLINE void half_tile_int8(const int R, const int bits, const struct tile *t, int half, float (*out)[16]) {
    const ptrdiff_t block_bytes = quant_block_bytes(bits), scales_at = block_bytes - 64 + 16 * half;
    const ptrdiff_t blocks = (t->k + 31) / 32, stride = t->activation_stride;
    const uint8_t *weights = t->weights, *activations = t->activations;
    const __m256i low_nibbles = _mm256_set1_epi8(15), low_bits = _mm256_set1_epi8(127), ones = _mm256_set1_epi8(1);
    __m256 sums[MAX_TILE_ROWS];
    UNROLL for (int r = 0; r < R; r++) sums[r] = _mm256_setzero_ps();
    for (ptrdiff_t block = 0; block < blocks; block++, weights += block_bytes, activations += 40) {
        __m256i dots[MAX_TILE_ROWS];
        UNROLL for (int r = 0; r < R; r++) dots[r] = _mm256_setzero_si256();
        UNROLL for (int j = 0; j < (bits < 8 ? 4 : 8); j++) {
            const __m256i quants = _mm256_loadu_si256((const __m256i *)(weights + 64 * j + 32 * half));
            const __m256i shifted = _mm256_srli_epi32(quants, bits < 8 ? 4 : 7);
            __m256i low = _mm256_and_si256(quants, bits < 8 ? low_nibbles : low_bits);
            __m256i high = _mm256_and_si256(shifted, bits < 8 ? low_nibbles : ones);
            if (bits == 5) {
                low = _mm256_or_si256(low, high_bits(weights + 256 + 8 * j + 4 * half));
                high = _mm256_or_si256(high, high_bits(weights + 288 + 8 * j + 4 * half));
            }
            UNROLL for (int r = 0; r < R; r++) {
                const uint8_t *row = activations + r * stride;
                const __m256i a = splat_quants(row + 4 * j);
                dots[r] = dot_quants(dots[r], low, a, 1);
                dots[r] = dot_quants(dots[r], high, bits < 8 ? splat_quants(row + 16 + 4 * j) : a, bits < 8 ? 1 : 128);
            }
        }
        const __m256 scales = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(weights + scales_at)));
        const __m256 minima = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(weights + scales_at + 32)));
        UNROLL for (int r = 0; r < R; r++) {
            const uint8_t *row = activations + r * stride;
            float scale, total;
            memcpy(&scale, row + 32, 4);
            memcpy(&total, row + 36, 4);
            const __m256 products = _mm256_cvtepi32_ps(dots[r]);
            sums[r] = _mm256_fmadd_ps(products, _mm256_mul_ps(scales, _mm256_set1_ps(scale)), sums[r]);
            sums[r] = _mm256_fmadd_ps(minima, _mm256_set1_ps(total), sums[r]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) _mm256_storeu_ps(out[r] + 8 * half, sums[r]);
}

INLINE void tile_int8(const int R, const int bits, const struct tile *t) {
    _Alignas(64) float sums[MAX_TILE_ROWS][16];
    half_tile_int8(R, bits, t, 0, sums);
    half_tile_int8(R, bits, t, 1, sums);
    UNROLL for (int r = 0; r < R; r++) store_outputs(t, r, 0, vf_load(sums[r]));
}

#define TILE_QUANTS(BITS) \
    INLINE void tile_u##BITS(const int R, const int P, const struct tile *t) { \
        (void)P; \
        tile_int8(R, BITS, t); \
    }
TILE_QUANTS(4)
TILE_QUANTS(5)
TILE_QUANTS(8)

#define TILES(KIND) \
    TILE(KIND, 1, 1) TILE(KIND, 2, 1) TILE(KIND, 3, 1) TILE(KIND, 4, 1) \
    static const tile_function tiles_##KIND[] = {tile_##KIND##_1x1, tile_##KIND##_2x1, tile_##KIND##_3x1, \
                                                 tile_##KIND##_4x1}; \
    static const struct tile_set set_##KIND = {.max_rows = 4, .one = tiles_##KIND};

TILES(u4)
TILES(u5)
TILES(u8)
TILES(bf16)
TILES(f32)

MATMUL(matmul_int8_u4, set_u4, tandem_panel_bytes_u4)
MATMUL(matmul_int8_u5, set_u5, tandem_panel_bytes_u5)
MATMUL(matmul_int8_u8, set_u8, tandem_panel_bytes_u8)
MATMUL(matmul_bf16, set_bf16, tandem_panel_bytes_bf16)
MATMUL(matmul_f32, set_f32, tandem_panel_bytes_f32)

#pragma clang attribute pop

TABLE(tandem_kernels_avx2, tandem_isa_avx2, "avx2")

#endif
