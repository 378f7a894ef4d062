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

INLINE void tile_int8(const bool u4, const struct tile *t) {
    const ptrdiff_t block_bytes = u4 ? 320 : 576, scales_at = u4 ? 256 : 512;
    const uint8_t *weights = t->weights, *activations = t->activations;
    vf sum = vf_splat(0.0f);
    for (ptrdiff_t block = 0; block < (t->k + 31) / 32; block++, weights += block_bytes, activations += 40) {
        const int8_t *quants = (const int8_t *)activations;
        int32_t dots[16] = {0};
        for (int j = 0; j < (u4 ? 4 : 8); j++) {
            for (int f = 0; f < 16; f++) {
                const uint8_t *u = weights + 64 * j + 4 * f;
                for (int i = 0; i < 4; i++) {
                    const int low = u4 ? u[i] & 15 : u[i];
                    dots[f] += low * quants[4 * j + i];
                    if (u4) dots[f] += (u[i] >> 4) * quants[16 + 4 * j + i];
                }
            }
        }
        vi integers;
        memcpy(&integers, dots, sizeof integers);
        const vf scales = vf_from_half(weights + scales_at), minima = vf_from_half(weights + scales_at + 32);
        sum = vf_fma(__builtin_convertvector(integers, vf), scales * splat_at(activations + 32), sum);
        sum = vf_fma(minima, splat_at(activations + 36), sum);
    }
    store_outputs(t, 0, 0, sum);
}

static void tile_u4_1x1(const struct tile *t) { tile_int8(true, t); }
static void tile_u8_1x1(const struct tile *t) { tile_int8(false, t); }
static const tile_function tiles_u4[] = {tile_u4_1x1}, tiles_u8[] = {tile_u8_1x1};
static const struct tile_set set_u4 = {.max_rows = 1, .one = tiles_u4};
static const struct tile_set set_u8 = {.max_rows = 1, .one = tiles_u8};

#define TILES(KIND) \
    TILE(KIND, 1, 1) TILE(KIND, 2, 1) \
    static const tile_function tiles_##KIND[] = {tile_##KIND##_1x1, tile_##KIND##_2x1}; \
    static const struct tile_set set_##KIND = {.max_rows = 2, .one = tiles_##KIND};

TILES(bf16)
TILES(f32)

MATMUL(matmul_int8_u4, set_u4, tandem_panel_bytes_u4)
MATMUL(matmul_int8_u8, set_u8, tandem_panel_bytes_u8)
MATMUL(matmul_bf16, set_bf16, tandem_panel_bytes_bf16)
MATMUL(matmul_f32, set_f32, tandem_panel_bytes_f32)

TABLE(tandem_kernels_portable, tandem_isa_portable, "portable")
