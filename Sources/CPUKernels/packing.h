// Tandem — Apache-2.0

/* Packing weights into panels and reading them back (layouts: CPUKernels.h). */

enum { Q4_0_BYTES = 18, Q4_1_BYTES = 20, Q8_0_BYTES = 34 };

/* The source rows of one panel's features; NULL beyond the matrix. */
INLINE void panel_sources(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                          ptrdiff_t panel, const uint8_t *rows[16]) {
    for (int f = 0; f < 16; f++) {
        const ptrdiff_t feature = panel * 16 + f;
        const ptrdiff_t row = feature < n && row_order ? row_order[feature] : feature;
        rows[f] = feature < n ? (const uint8_t *)source + row * source_stride : NULL;
    }
}

INLINE void pack_u4(const bool has_minimum, const void *source, ptrdiff_t source_stride, const int32_t *row_order,
                    ptrdiff_t n, ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    const ptrdiff_t block_bytes = has_minimum ? Q4_1_BYTES : Q4_0_BYTES;
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * tandem_panel_bytes_u4(k);
        const uint8_t *rows[16];
        panel_sources(source, source_stride, row_order, n, panel, rows);
        for (ptrdiff_t block = 0; block < k / 32; block++, out += 320) {
            uint16_t scales[16] = {0}, minima[16] = {0};
            for (int f = 0; f < 16; f++) {
                /* A block's byte i holds k = i and k = i + 16 in its nibbles, the panel's own order. */
                uint32_t quants[4] = {0};
                if (rows[f]) {
                    const uint8_t *in = rows[f] + block * block_bytes;
                    memcpy(&scales[f], in, 2);
                    if (has_minimum) memcpy(&minima[f], in + 2, 2);
                    memcpy(quants, in + block_bytes - 16, 16);
                }
                UNROLL for (int j = 0; j < 4; j++) memcpy(out + 64 * j + 4 * f, &quants[j], 4);
            }
            memcpy(out + 256, scales, 32);
            if (has_minimum) {
                memcpy(out + 288, minima, 32);
            } else {
                vf_to_half(out + 288, vf_from_half(scales) * -8.0f);
            }
        }
    }
}

static void pack_u4_from_q4_0(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                              ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    pack_u4(false, source, source_stride, row_order, n, k, panel_begin, panel_end, packed);
}

static void pack_u4_from_q4_1(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                              ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    pack_u4(true, source, source_stride, row_order, n, k, panel_begin, panel_end, packed);
}

static void pack_u8_from_q8_0(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                              ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * tandem_panel_bytes_u8(k);
        const uint8_t *rows[16];
        panel_sources(source, source_stride, row_order, n, panel, rows);
        for (ptrdiff_t block = 0; block < k / 32; block++, out += 576) {
            uint16_t scales[16] = {0};
            for (int f = 0; f < 16; f++) {
                uint32_t quants[8] = {0};
                if (rows[f]) {
                    const uint8_t *in = rows[f] + block * Q8_0_BYTES;
                    memcpy(&scales[f], in, 2);
                    memcpy(quants, in + 2, 32);
                    /* Adding 128 to a signed byte flips its top bit. */
                    UNROLL for (int j = 0; j < 8; j++) quants[j] ^= 0x80808080u;
                }
                UNROLL for (int j = 0; j < 8; j++) memcpy(out + 64 * j + 4 * f, &quants[j], 4);
            }
            memcpy(out + 512, scales, 32);
            vf_to_half(out + 544, vf_from_half(scales) * -128.0f);
        }
    }
}

static void pack_u8_from_f32(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                             ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * tandem_panel_bytes_u8(k);
        const uint8_t *rows[16];
        panel_sources(source, source_stride, row_order, n, panel, rows);
        for (ptrdiff_t block = 0; block < (k + 31) / 32; block++, out += 576) {
            vf weights[16][2], largest;
            for (int f = 0; f < 16; f++) {
                weights[f][0] = weights[f][1] = vf_splat(0.0f);
                if (rows[f]) {
                    const ptrdiff_t count = k - 32 * block < 32 ? k - 32 * block : 32;
                    memcpy(weights[f], rows[f] + 128 * block, (size_t)count * sizeof(float));
                }
                largest[f] = vf_largest(vf_max(vf_abs(weights[f][0]), vf_abs(weights[f][1])));
            }
            /* Quants are taken against the scale as stored, so that rounding it costs no accuracy. */
            vf_to_half(out + 512, vf_min(largest / 127.0f, vf_splat(HALF_LARGEST)));
            const vf scales = vf_from_half(out + 512);
            vf_to_half(out + 544, vf_max(scales * -128.0f, vf_splat(-HALF_LARGEST)));
            const vf inverse = vf_select(scales > 0.0f, 1.0f / scales, vf_splat(0.0f));
            for (int f = 0; f < 16; f++) {
                uint8_t quants[32];
                UNROLL for (int i = 0; i < 2; i++) {
                    vf scaled = vf_min(weights[f][i] * inverse[f], vf_splat(127.0f));
                    scaled = vf_max(scaled, vf_splat(-128.0f));
                    const vb bytes = __builtin_convertvector(vi_round(scaled) ^ 0x80, vb);
                    memcpy(quants + 16 * i, &bytes, 16);
                }
                UNROLL for (int j = 0; j < 8; j++) memcpy(out + 64 * j + 4 * f, quants + 4 * j, 4);
            }
        }
    }
}

/* Makes a block of one panel from 16 rows of 32 quants; quants are taken modulo 2^bits. */
INLINE void store_quants(const int bits, uint8_t quants[16][32], uint8_t *out) {
    for (int f = 0; f < 16; f++) {
        if (bits == 8) {
            UNROLL for (int j = 0; j < 8; j++) memcpy(out + 64 * j + 4 * f, quants[f] + 4 * j, 4);
        } else {
            UNROLL for (int i = 0; i < 16; i++)
                out[64 * (i / 4) + 4 * f + i % 4] = (uint8_t)((quants[f][i] & 15) | quants[f][16 + i] << 4);
        }
    }
    if (bits == 5) {
        memset(out + 256, 0, 64);
        for (int f = 0; f < 16; f++) {
            for (int i = 0; i < 32; i++)
                out[256 + 8 * (i / 4) + f / 2] |= (uint8_t)((quants[f][i] >> 4 & 1) << (4 * (f % 2) + i % 4));
        }
    }
}

INLINE void pack_affine(const int bits, const uint8_t *quants, const float *scales, const float *minima,
                        const int32_t *row_order, ptrdiff_t n, ptrdiff_t k, ptrdiff_t panel_begin,
                        ptrdiff_t panel_end, void *packed) {
    const ptrdiff_t blocks = (k + 31) / 32, block_bytes = quant_block_bytes(bits);
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * blocks * block_bytes;
        for (ptrdiff_t block = 0; block < blocks; block++, out += block_bytes) {
            const ptrdiff_t count = k - 32 * block < 32 ? k - 32 * block : 32;
            uint8_t weights[16][32] = {{0}};
            vf d = vf_splat(0.0f), m = vf_splat(0.0f);
            for (int f = 0; f < 16; f++) {
                const ptrdiff_t feature = panel * 16 + f;
                if (feature >= n) break;
                const ptrdiff_t row = row_order ? row_order[feature] : feature;
                memcpy(weights[f], quants + row * k + 32 * block, (size_t)count);
                d[f] = scales[row * blocks + block];
                m[f] = minima[row * blocks + block];
            }
            store_quants(bits, weights, out);
            vf_to_half(out + block_bytes - 64, vf_clamp(d, HALF_LARGEST));
            vf_to_half(out + block_bytes - 32, vf_clamp(m, HALF_LARGEST));
        }
    }
}

#define PACK_AFFINE(BITS) \
    static void pack_u##BITS##_from_affine(const uint8_t *quants, const float *scales, const float *minima, \
                                           const int32_t *row_order, ptrdiff_t n, ptrdiff_t k, \
                                           ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) { \
        pack_affine(BITS, quants, scales, minima, row_order, n, k, panel_begin, panel_end, packed); \
    }
PACK_AFFINE(4)
PACK_AFFINE(5)
PACK_AFFINE(8)

/* `count` floats, the rest zero. */
INLINE void load_padded(vf *out, int vectors, const uint8_t *row, ptrdiff_t first, ptrdiff_t count) {
    for (int i = 0; i < vectors; i++) out[i] = vf_splat(0.0f);
    if (row) memcpy(out, row + 4 * first, (size_t)count * sizeof(float));
}

static void pack_bf16_from_f32(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                               ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * tandem_panel_bytes_bf16(k);
        const uint8_t *rows[16];
        panel_sources(source, source_stride, row_order, n, panel, rows);
        for (ptrdiff_t first = 0; first < k; first += 32, out += 1024) {
            const ptrdiff_t count = k - first < 32 ? k - first : 32;
            vi pairs[16];
            for (int f = 0; f < 16; f++) {
                vf weights[2];
                load_padded(weights, 2, rows[f], first, count);
                const vh halves[2] = {__builtin_convertvector(vi_bf16(weights[0]), vh),
                                      __builtin_convertvector(vi_bf16(weights[1]), vh)};
                memcpy(&pairs[f], halves, 64);
            }
            vi_transpose(pairs);
            memcpy(out, pairs, (size_t)((count + 1) / 2 * 64));
        }
    }
}

static void pack_f32_from_f32(const void *source, ptrdiff_t source_stride, const int32_t *row_order, ptrdiff_t n,
                              ptrdiff_t k, ptrdiff_t panel_begin, ptrdiff_t panel_end, void *packed) {
    for (ptrdiff_t panel = panel_begin; panel < panel_end; panel++) {
        uint8_t *out = (uint8_t *)packed + panel * tandem_panel_bytes_f32(k);
        const uint8_t *rows[16];
        panel_sources(source, source_stride, row_order, n, panel, rows);
        for (ptrdiff_t first = 0; first < k; first += 16, out += 1024) {
            const ptrdiff_t count = k - first < 16 ? k - first : 16;
            vi weights[16];
            for (int f = 0; f < 16; f++) {
                vf row;
                load_padded(&row, 1, rows[f], first, count);
                weights[f] = as_vi(row);
            }
            vi_transpose(weights);
            memcpy(out, weights, (size_t)(count * 64));
        }
    }
}

INLINE float half_at(const uint8_t *p) {
    uint16_t lanes[16] = {0};
    memcpy(lanes, p, 2);
    return vf_from_half(lanes)[0];
}

INLINE void unpack_row_int8(const int bits, const void *packed, ptrdiff_t k, ptrdiff_t feature, float *out) {
    const ptrdiff_t f = feature % 16, block_bytes = quant_block_bytes(bits);
    const uint8_t *in = (const uint8_t *)packed + feature / 16 * ((k + 31) / 32 * block_bytes);
    for (ptrdiff_t first = 0; first < k; first += 32, in += block_bytes) {
        const float d = half_at(in + block_bytes - 64 + 2 * f), m = half_at(in + block_bytes - 32 + 2 * f);
        const ptrdiff_t count = k - first < 32 ? k - first : 32;
        for (ptrdiff_t i = 0; i < count; i++) {
            int quant = in[64 * ((bits == 8 ? i : i % 16) / 4) + 4 * f + i % 4];
            if (bits < 8) quant = i < 16 ? quant & 15 : quant >> 4;
            if (bits == 5) quant += (in[256 + 8 * (i / 4) + f / 2] >> (4 * (f % 2) + i % 4) & 1) << 4;
            out[first + i] = d * (float)quant + m;
        }
    }
}

#define UNPACK_ROW(BITS) \
    static void unpack_row_u##BITS(const void *packed, ptrdiff_t k, ptrdiff_t feature, float *out) { \
        unpack_row_int8(BITS, packed, k, feature, out); \
    }
UNPACK_ROW(4)
UNPACK_ROW(5)
UNPACK_ROW(8)

static void unpack_row_bf16(const void *packed, ptrdiff_t k, ptrdiff_t feature, float *out) {
    const uint8_t *in = (const uint8_t *)packed + feature / 16 * tandem_panel_bytes_bf16(k) + feature % 16 * 4;
    for (ptrdiff_t i = 0; i < k; i++) {
        uint16_t bits;
        memcpy(&bits, in + i / 2 * 64 + i % 2 * 2, 2);
        out[i] = float_of_bits((uint32_t)bits << 16);
    }
}

static void unpack_row_f32(const void *packed, ptrdiff_t k, ptrdiff_t feature, float *out) {
    const uint8_t *in = (const uint8_t *)packed + feature / 16 * tandem_panel_bytes_f32(k) + feature % 16 * 4;
    for (ptrdiff_t i = 0; i < k; i++) memcpy(out + i, in + i * 64, 4);
}
