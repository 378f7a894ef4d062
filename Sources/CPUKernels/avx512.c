// Tandem — Apache-2.0
#if defined(__x86_64__)

#define TANDEM_LEVEL 2
#define MAX_TILE_ROWS 12
#define ATTENTION_ROWS 6
#define ATTENTION_VECTORS 4

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"), \
                   min_vector_width(512))), \
    apply_to = function)

#include "lanes.h"

#include "attention.h"
#include "matmul.h"
#include "packing.h"
#include "rows.h"
#include "sampling.h"

INLINE __m512i splat_quants(const uint8_t *p) {
    int32_t x;
    memcpy(&x, p, 4);
    return _mm512_set1_epi32(x);
}

INLINE void tile_int8(const int R, const int bits, const struct tile *t) {
    const ptrdiff_t block_bytes = quant_block_bytes(bits), scales_at = block_bytes - 64;
    const ptrdiff_t blocks = (t->k + 31) / 32, stride = t->activation_stride;
    const uint8_t *weights = t->weights, *activations = t->activations;
    const __m512i low_nibbles = _mm512_set1_epi8(15), sixteens = _mm512_set1_epi8(16);
    vf sums[MAX_TILE_ROWS];
    UNROLL for (int r = 0; r < R; r++) sums[r] = vf_splat(0.0f);
    for (ptrdiff_t block = 0; block < blocks; block++, weights += block_bytes, activations += 40) {
        __m512i quants[8];
        UNROLL for (int line = 0; line < block_bytes; line += 64) prefetch_weights(R, t, weights + line);
        if (bits < 8) {
            UNROLL for (int j = 0; j < 4; j++) {
                const __m512i pair = _mm512_load_si512(weights + 64 * j);
                quants[j] = _mm512_and_si512(pair, low_nibbles);
                quants[4 + j] = _mm512_and_si512(_mm512_srli_epi32(pair, 4), low_nibbles);
            }
            if (bits == 5) {
                __mmask64 high[8];
                memcpy(high, weights + 256, 64);
                UNROLL for (int j = 0; j < 8; j++)
                    quants[j] = _mm512_mask_add_epi8(quants[j], high[j], quants[j], sixteens);
            }
        } else {
            UNROLL for (int j = 0; j < 8; j++) quants[j] = _mm512_load_si512(weights + 64 * j);
        }
        const vf scales = vf_from_half(weights + scales_at), minima = vf_from_half(weights + scales_at + 32);
        UNROLL for (int r = 0; r < R; r++) {
            const uint8_t *row = activations + r * stride;
            __m512i dot = _mm512_setzero_si512();
            UNROLL for (int j = 0; j < 8; j++) dot = _mm512_dpbusd_epi32(dot, quants[j], splat_quants(row + 4 * j));
            const vf products = __builtin_bit_cast(vf, _mm512_cvtepi32_ps(dot));
            sums[r] = vf_fma(products, scales * splat_at(row + 32), sums[r]);
            sums[r] = vf_fma(minima, splat_at(row + 36), sums[r]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) store_outputs(t, r, 0, sums[r]);
}

#define TILE_QUANTS(BITS) \
    INLINE void tile_u##BITS(const int R, const int P, const struct tile *t) { \
        (void)P; \
        tile_int8(R, BITS, t); \
    }
TILE_QUANTS(4)
TILE_QUANTS(5)
TILE_QUANTS(8)

#define TILES_12(KIND, P) \
    TILE(KIND, 1, P) TILE(KIND, 2, P) TILE(KIND, 3, P) TILE(KIND, 4, P) TILE(KIND, 5, P) TILE(KIND, 6, P) \
    TILE(KIND, 7, P) TILE(KIND, 8, P) TILE(KIND, 9, P) TILE(KIND, 10, P) TILE(KIND, 11, P) TILE(KIND, 12, P) \
    static const tile_function tiles_##KIND##_##P[] = { \
        tile_##KIND##_1x##P, tile_##KIND##_2x##P,  tile_##KIND##_3x##P,  tile_##KIND##_4x##P, \
        tile_##KIND##_5x##P, tile_##KIND##_6x##P,  tile_##KIND##_7x##P,  tile_##KIND##_8x##P, \
        tile_##KIND##_9x##P, tile_##KIND##_10x##P, tile_##KIND##_11x##P, tile_##KIND##_12x##P, \
    };
#define TILES_4(KIND, P) \
    TILE(KIND, 1, P) TILE(KIND, 2, P) TILE(KIND, 3, P) TILE(KIND, 4, P) \
    static const tile_function tiles_##KIND##_##P[] = { \
        tile_##KIND##_1x##P, tile_##KIND##_2x##P, tile_##KIND##_3x##P, tile_##KIND##_4x##P, \
    };

TILES_12(u4, 1)
TILES_12(u5, 1)
TILES_12(u8, 1)
TILES_12(bf16, 1)
TILES_12(bf16, 2)
TILES_4(bf16, 4)
TILES_12(f32, 1)
TILES_12(f32, 2)
TILES_4(f32, 4)

static const struct tile_set set_u4 = {.max_rows = 12, .one = tiles_u4_1};
static const struct tile_set set_u5 = {.max_rows = 12, .one = tiles_u5_1};
static const struct tile_set set_u8 = {.max_rows = 12, .one = tiles_u8_1};
static const struct tile_set set_bf16 = {
    .max_rows = 12, .one = tiles_bf16_1, .two = tiles_bf16_2, .four = tiles_bf16_4, .four_max_rows = 4};
static const struct tile_set set_f32 = {
    .max_rows = 12, .one = tiles_f32_1, .two = tiles_f32_2, .four = tiles_f32_4, .four_max_rows = 4};

MATMUL(matmul_int8_u4, set_u4, tandem_panel_bytes_u4)
MATMUL(matmul_int8_u5, set_u5, tandem_panel_bytes_u5)
MATMUL(matmul_int8_u8, set_u8, tandem_panel_bytes_u8)
MATMUL(matmul_bf16, set_bf16, tandem_panel_bytes_bf16)
MATMUL(matmul_f32, set_f32, tandem_panel_bytes_f32)

#pragma clang attribute pop

TABLE(tandem_kernels_avx512, tandem_isa_avx512, "avx512")

#endif
