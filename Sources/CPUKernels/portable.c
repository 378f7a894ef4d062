// Tandem — Apache-2.0

#define TANDEM_LEVEL 0
#define MAX_TILE_ROWS 2
#define ATTENTION_ROWS 2
#define ATTENTION_VECTORS 1

#include "table.h"

#include "lanes.h"

#include "attention.h"
#include "matmul.h"
#include "packing.h"
#include "rows.h"
#include "sampling.h"

typedef int16_t vs __attribute__((ext_vector_type(32)));

/* Bytes 0 and 2 (or 1 and 3, with the shift) of each lane as two 16-bit numbers. */
INLINE vs even_bytes(vi v) { return __builtin_bit_cast(vs, v & 0x00ff00ff); }

/* Quants first and first + 2 of an activation row, in every lane. */
INLINE vs splat_quants(const uint8_t *row, int first) {
    const int16_t low = (int8_t)row[first], high = (int8_t)row[first + 2];
    return __builtin_bit_cast(vs, vi_splat((int32_t)((uint32_t)(uint16_t)high << 16 | (uint16_t)low)));
}

/* Bit 4 f + i of the 64 at p as 16 in byte i of lane f. */
INLINE vi high_bits(const uint8_t *p) {
    const vi shifts = {0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28};
    uint32_t words[2];
    memcpy(words, p, 8);
    vu lanes;
    lanes.lo = words[0];
    lanes.hi = words[1];
    const vu four = (lanes >> __builtin_bit_cast(vu, shifts)) & 15;
    /* Copies of the four bits, seven places apart, put each at the bottom of its byte. */
    return __builtin_bit_cast(vi, ((four * 0x00204081) & 0x01010101) << 4);
}

INLINE vi sum_pairs(vs v) {
    const vi lanes = __builtin_bit_cast(vi, v);
    return ((lanes << 16) >> 16) + (lanes >> 16);
}

INLINE void tile_int8(const int R, const int bits, const struct tile *t) {
    const ptrdiff_t block_bytes = quant_block_bytes(bits), scales_at = block_bytes - 64;
    const uint8_t *weights = t->weights, *activations = t->activations;
    vf sums[MAX_TILE_ROWS];
    UNROLL for (int r = 0; r < R; r++) sums[r] = vf_splat(0.0f);
    for (ptrdiff_t block = 0; block < (t->k + 31) / 32; block++, weights += block_bytes, activations += 40) {
        const vf scales = vf_from_half(weights + scales_at), minima = vf_from_half(weights + scales_at + 32);
        vi dots[MAX_TILE_ROWS];
        vs small_dots[MAX_TILE_ROWS];
        UNROLL for (int r = 0; r < R; r++) {
            dots[r] = vi_splat(0);
            small_dots[r] = (vs)(0);
        }
        for (int j = 0; j < (bits == 4 ? 4 : 8); j++) {
            const vi quants = as_vi(vf_load(weights + 64 * (bits == 5 ? j % 4 : j)));
            const vi high = (quants >> 4) & 0x0f0f0f0f;
            vi low = bits == 4 ? quants & 0x0f0f0f0f : quants;
            if (bits == 5) low = (j < 4 ? quants & 0x0f0f0f0f : high) + high_bits(weights + 256 + 8 * j);
            UNROLL for (int r = 0; r < R; r++) {
                const uint8_t *row = activations + r * t->activation_stride + 4 * j;
                const vs even = even_bytes(low) * splat_quants(row, 0);
                const vs odd = even_bytes(low >> 8) * splat_quants(row, 1);
                if (bits == 4) {
                    /* Sixteen products of at most 15 * 127 fit 16 bits. */
                    small_dots[r] += even + odd + even_bytes(high) * splat_quants(row, 16) +
                                     even_bytes(high >> 8) * splat_quants(row, 17);
                } else {
                    dots[r] += sum_pairs(even) + sum_pairs(odd);
                }
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            const uint8_t *row = activations + r * t->activation_stride;
            const vf products = __builtin_convertvector(bits == 4 ? sum_pairs(small_dots[r]) : dots[r], vf);
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

#define TILES(KIND) \
    TILE(KIND, 1, 1) TILE(KIND, 2, 1) \
    static const tile_function tiles_##KIND[] = {tile_##KIND##_1x1, tile_##KIND##_2x1}; \
    static const struct tile_set set_##KIND = {.max_rows = 2, .one = tiles_##KIND};

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

TABLE(tandem_kernels_portable, tandem_isa_portable, "portable")
