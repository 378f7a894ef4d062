// Tandem — Apache-2.0

/* The blocking shared by all matrix products, and the float products.
 *
 * A tile computes R rows times P adjacent panels over the whole of K, one accumulator per output, so that no choice of
 * R, P or order of tiles shows in the bits. Rows go in groups whose activations stay in the L2 cache; within a group,
 * each panel meets all tiles while it is in L1. */

/* Bytes of one block of one panel of u4, u5 or u8 weights; the scales start 64 bytes before its end. */
INLINE ptrdiff_t quant_block_bytes(const int bits) { return bits == 4 ? 320 : bits == 5 ? 384 : 576; }

struct tile {
    const uint8_t *weights;
    ptrdiff_t panel_bytes;
    ptrdiff_t k;
    const uint8_t *activations;
    ptrdiff_t activation_stride;
    float *out;
    ptrdiff_t out_stride;
    /* Features from the tile's first one to the end of the matrix; may exceed the tile. */
    ptrdiff_t features;
    bool accumulate;
    /* How far ahead of their use a tile asks for weights. */
    ptrdiff_t prefetch_distance;
};

/* What one core computes while memory answers. */
enum { STREAM_AHEAD_BYTES = 3200 };

/* One tile per panel asks for what it needs itself a little later. Of several tiles the first would wait for memory and
 * the others leave it idle, so each asks for the next panel, into L2. With one or two rows the hardware's own
 * prefetching of the stream does better. */
INLINE void prefetch_weights(const int R, const struct tile *t, const uint8_t *weights) {
    if (R > 6) __builtin_prefetch(weights + t->prefetch_distance, 0, 2);
    else if (R > 2) __builtin_prefetch(weights + t->prefetch_distance, 0, 3);
}

typedef void (*tile_function)(const struct tile *);

INLINE void store_outputs(const struct tile *t, int row, int panel, vf v) {
    float *out = t->out + row * t->out_stride + 16 * panel;
    const ptrdiff_t features = t->features - 16 * panel;
    if (__builtin_expect(features >= 16, 1)) {
        vf_store(out, t->accumulate ? vf_load(out) + v : v);
    } else if (features > 0) {
        vf_store_partial(out, features, t->accumulate ? vf_load_partial(out, features, 0.0f) + v : v);
    }
}

/* Tiles of one kernel: one panel wide with up to max_rows rows, optionally two wide, and four wide for few rows. */
struct tile_set {
    int max_rows;
    /* Indexed by rows - 1; the wide ones may be NULL. */
    const tile_function *one, *two, *four;
    int four_max_rows;
};

/* Bytes of activations that stay in the L2 cache beside the weights. */
enum { ACTIVATION_GROUP_BYTES = 384 * 1024 };

INLINE void matmul_tiles(const struct tile_set *set, const void *packed, ptrdiff_t panel_bytes, ptrdiff_t k,
                         ptrdiff_t n, ptrdiff_t panel_begin, ptrdiff_t panel_end, const void *activations,
                         ptrdiff_t rows, ptrdiff_t activation_stride, float *out, ptrdiff_t out_stride,
                         uint32_t flags) {
    ptrdiff_t group_rows = ACTIVATION_GROUP_BYTES / (activation_stride > 0 ? activation_stride : 1);
    group_rows = group_rows / set->max_rows * set->max_rows;
    if (group_rows < set->max_rows) group_rows = set->max_rows;
    for (ptrdiff_t group = 0; group < rows; group += group_rows) {
        const ptrdiff_t count = rows - group < group_rows ? rows - group : group_rows;
        const ptrdiff_t tiles = (count + set->max_rows - 1) / set->max_rows;
        for (ptrdiff_t panel = panel_begin; panel < panel_end;) {
            const ptrdiff_t left = panel_end - panel;
            const tile_function *functions = set->one;
            ptrdiff_t width = 1;
            if (set->four && left >= 4 && count <= set->four_max_rows) {
                functions = set->four;
                width = 4;
            } else if (set->two && left >= 2) {
                functions = set->two;
                width = 2;
            }
            for (ptrdiff_t i = 0; i < tiles; i++) {
                const ptrdiff_t first = count * i / tiles, end = count * (i + 1) / tiles;
                const struct tile tile = {
                    .weights = (const uint8_t *)packed + panel * panel_bytes,
                    .panel_bytes = panel_bytes,
                    .k = k,
                    .activations = (const uint8_t *)activations + (group + first) * activation_stride,
                    .activation_stride = activation_stride,
                    .out = out + (group + first) * out_stride + panel * 16,
                    .out_stride = out_stride,
                    .features = n - panel * 16,
                    .accumulate = (flags & TANDEM_MATMUL_ACCUMULATE) != 0,
                    .prefetch_distance = tiles > 1 ? width * panel_bytes : STREAM_AHEAD_BYTES,
                };
                functions[end - first - 1](&tile);
            }
            panel += width;
        }
    }
}

INLINE vf splat_at(const uint8_t *p) {
    float x;
    memcpy(&x, p, 4);
    return vf_splat(x);
}

INLINE void tile_f32(const int R, const int P, const struct tile *t) {
    vf sums[MAX_TILE_ROWS][4];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) sums[r][p] = vf_splat(0.0f);
    const uint8_t *weights = t->weights, *activations = t->activations;
    const ptrdiff_t panel_bytes = t->panel_bytes, stride = t->activation_stride, k = t->k;
    for (ptrdiff_t i = 0; i < k; i++) {
        vf w[4];
        UNROLL for (int p = 0; p < P; p++) {
            w[p] = vf_load(weights + p * panel_bytes + 64 * i);
            if (R > 6) prefetch_weights(R, t, weights + p * panel_bytes + 64 * i);
        }
        UNROLL for (int r = 0; r < R; r++) {
            const vf a = splat_at(activations + r * stride + 4 * i);
            UNROLL for (int p = 0; p < P; p++) sums[r][p] = vf_fma(w[p], a, sums[r][p]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) store_outputs(t, r, p, sums[r][p]);
}

/* sum + the products of one pair of bf16. */
INLINE vf dot_bf16(vf sum, vi weights, vi activations) {
#if TANDEM_LEVEL >= 2
    return __builtin_bit_cast(vf, _mm512_dpbf16_ps(__builtin_bit_cast(__m512, sum),
                                                   __builtin_bit_cast(__m512bh, weights),
                                                   __builtin_bit_cast(__m512bh, activations)));
#else
    sum = vf_fma(as_vf(weights << 16), as_vf(activations << 16), sum);
    return vf_fma(as_vf(weights & (int32_t)0xffff0000), as_vf(activations & (int32_t)0xffff0000), sum);
#endif
}

INLINE void tile_bf16(const int R, const int P, const struct tile *t) {
    vf sums[MAX_TILE_ROWS][4];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) sums[r][p] = vf_splat(0.0f);
    const uint8_t *weights = t->weights, *activations = t->activations;
    const ptrdiff_t panel_bytes = t->panel_bytes, stride = t->activation_stride, pairs = (t->k + 1) / 2;
    for (ptrdiff_t i = 0; i < pairs; i++) {
        vi w[4];
        UNROLL for (int p = 0; p < P; p++) {
            w[p] = as_vi(vf_load(weights + p * panel_bytes + 64 * i));
            if (R > 6) prefetch_weights(R, t, weights + p * panel_bytes + 64 * i);
        }
        UNROLL for (int r = 0; r < R; r++) {
            const vi a = as_vi(splat_at(activations + r * stride + 4 * i));
            UNROLL for (int p = 0; p < P; p++) sums[r][p] = dot_bf16(sums[r][p], w[p], a);
        }
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int p = 0; p < P; p++) store_outputs(t, r, p, sums[r][p]);
}

#define TILE(KIND, R, P) \
    static void tile_##KIND##_##R##x##P(const struct tile *t) { tile_##KIND(R, P, t); }
#define MATMUL(NAME, SET, PANEL_BYTES) \
    static void NAME(const void *packed, ptrdiff_t k, ptrdiff_t n, ptrdiff_t panel_begin, ptrdiff_t panel_end, \
                     const void *activations, ptrdiff_t rows, ptrdiff_t activation_stride, float *out, \
                     ptrdiff_t out_stride, uint32_t flags) { \
        matmul_tiles(&SET, packed, PANEL_BYTES(k), k, n, panel_begin, panel_end, activations, rows, activation_stride, \
                     out, out_stride, flags); \
    }
