// Tandem — Apache-2.0
//
// Norms of queries and keys where a model has them, rotary position embedding (Su et al., "RoFormer", 2021) in
// half-split order, and the way of keys and values into the cache.
//
// A group of lanes takes one head: 16 lanes for a head of 64, 32 for larger ones; a lane holds pairs of neighbouring
// elements of the lower half and those that they turn with.

template <int dimension>
DEVICE void rotate_heads(u16 *row, const float *angles, const float *queryNorm, const float *keyNorm, float epsilon,
                         int queryHeads, int keyHeads, u16 *keys, int keyStride) {
    constexpr int half = dimension / 2;
    constexpr int lanes = half / 2 < 32 ? half / 2 : 32;
    constexpr int pieces = half / 2 / lanes;
    constexpr int groups = 32 / lanes;
    const int heads = queryHeads + keyHeads;
    const int lane = lane_index() % lanes;
    const int step = (blockDim.x >> 5) * groups;
    // All lanes of a warp go through the same number of turns, because they sum together.
    for (int start = warp_index() * groups; start < heads; start += step) {
        const int head = start + lane_index() / lanes;
        const bool exists = head < heads, isKey = head >= queryHeads;
        u16 *source = row + (u64)head * dimension;
        float low[pieces][2], high[pieces][2], squares = 0.f;
        UNROLL
        for (int piece = 0; piece < pieces; piece++) {
            const int i = (piece * lanes + lane) * 2;
            const u32 lower = exists ? *(const u32 *)(source + i) : 0;
            const u32 upper = exists ? *(const u32 *)(source + half + i) : 0;
            low[piece][0] = bits_float(lower << 16), low[piece][1] = bits_float(lower & 0xffff0000u);
            high[piece][0] = bits_float(upper << 16), high[piece][1] = bits_float(upper & 0xffff0000u);
            UNROLL
            for (int j = 0; j < 2; j++)
                squares += low[piece][j] * low[piece][j] + high[piece][j] * high[piece][j];
        }
        const float *norm = isKey ? keyNorm : queryNorm;
        if (queryNorm || keyNorm) {
            UNROLL
            for (int mask = lanes / 2; mask > 0; mask >>= 1) squares += shuffle_xor(squares, mask);
        }
        if (!exists) continue;
        const float factor = norm ? inverse_root(squares / dimension + epsilon) : 1.f;
        u16 *destination = isKey ? keys + (u64)(head - queryHeads) * keyStride : source;
        UNROLL
        for (int piece = 0; piece < pieces; piece++) {
            const int i = (piece * lanes + lane) * 2;
            float first[2], second[2];
            UNROLL
            for (int j = 0; j < 2; j++) {
                float a = low[piece][j], b = high[piece][j];
                if (norm) a = a * factor * norm[i + j], b = b * factor * norm[half + i + j];
                const float cosine = angles[i + j], sine = angles[half + i + j];
                first[j] = a * cosine - b * sine;
                second[j] = b * cosine + a * sine;
            }
            *(u32 *)(destination + i) = pack_bf16(first[0], first[1]);
            *(u32 *)(destination + half + i) = pack_bf16(second[0], second[1]);
        }
    }
}

// One block a token. Queries are rotated where they are; keys and values go to the cache.
KERNEL(256, 1) rotate_and_store(u16 *qkv, const int *positions, const int *slots, const int *tables, int tableStride,
                                u16 *keys, u16 *values, const float *rotary, const float *queryNorm,
                                const float *keyNorm, float epsilon, int queryHeads, int keyHeads,
                                int headDimension) {
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    const int token = blockIdx.x, position = positions[token];
    const int block = tables[(u64)slots[token] * tableStride + (position >> 4)];
    u16 *row = qkv + (u64)token * (queryHeads + 2 * keyHeads) * headDimension;
    const float *angles = rotary + (u64)position * headDimension;
    const u64 place = ((u64)block * keyHeads * 16 + (position & 15)) * headDimension;
    const int headStride = 16 * headDimension;
    const u16 *newValues = row + (u64)(queryHeads + keyHeads) * headDimension;
    for (int i = threadIdx.x * 8; i < keyHeads * headDimension; i += blockDim.x * 8) {
        const int head = i / headDimension;
        store16(values + place + (u64)head * headStride + (i - head * headDimension), load16(newValues + i));
    }
    u16 *newKeys = keys + place;
    if (headDimension == 64)
        rotate_heads<64>(row, angles, queryNorm, keyNorm, epsilon, queryHeads, keyHeads, newKeys, headStride);
    else if (headDimension == 128)
        rotate_heads<128>(row, angles, queryNorm, keyNorm, epsilon, queryHeads, keyHeads, newKeys, headStride);
    else
        rotate_heads<256>(row, angles, queryNorm, keyNorm, epsilon, queryHeads, keyHeads, newKeys, headStride);
}
