// Tandem — Apache-2.0
//
// Attention of one token a row over its sequence's paged keys and values. Blocks are (row, key head and part of its
// query heads, split of the keys); each warp takes every so manieth tile of 16 tokens, which is one block of the cache.
//
// No shared memory in the loop. Keys go from memory to the registers in 16-byte pieces: the head dimension is permuted,
// the same way for queries and keys, so that the pieces are operands of the matrix instruction. Scores are computed as
// S (16 tokens x 8 heads) = K Q^T, and the output as O^T (dimensions x 8 heads) += V^T P^T, so that the query heads that
// share a key head fill the instruction's eight columns.

template <int dimension, int warps>
struct alignas(16) DecodeMerge {
    // Maximum and sum of each warp's scores, by head.
    float stats[2][warps][8];
    // Heads 2 i and 2 i + 1 in row i. Two more floats a row keep a warp's accesses of 8 bytes in different banks.
    float output[4][2 * dimension + 2];
};

template <int dimension, int warps>
DEVICE void attention_decode(const u16 *__restrict__ qkv, int qkvStride, const u16 *__restrict__ keys,
                             const u16 *__restrict__ values, const int *tables, int tableStride,
                             const int *rowTokens, const int *rowSlots, const int *rowPositions,
                             u16 *__restrict__ out, int outStride,
                             float *__restrict__ partial, float *__restrict__ partialStats, int queryHeads,
                             int keyHeads, float scale, int window, int splits, DecodeMerge<dimension, warps> &merge) {
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int row = blockIdx.x, split = blockIdx.z, rowToken = rowTokens[row];
    const int heads = queryHeads / keyHeads, parts = divide_up(heads, 8);
    const int keyHead = blockIdx.y / parts, firstHead = keyHead * heads + blockIdx.y % parts * 8;
    const int headCount = smaller(8, (keyHead + 1) * heads - firstHead);
    const int length = rowPositions[row] + 1;
    const int first = window > 0 ? larger(0, length - window) : 0;
    const int firstTile = first >> 4, tiles = ((length + 15) >> 4) - firstTile;
    // Splits depend on the row alone, so that its bits do not depend on what runs beside it.
    const int share = divide_up(tiles, splits);
    const int begin = firstTile + split * share, end = smaller(begin + share, firstTile + tiles);
    const int *table = tables + (u64)rowSlots[row] * tableStride;
    const float logScale = scale * 1.44269504f;
    const u64 headSize = 16 * dimension, blockSize = headSize * keyHeads;
    const u16 *headKeys = keys + keyHead * headSize + quad * 8;
    const u16 *headValues = values + keyHead * headSize + group * 8;

    // Head `group`, elements 32 c + 8 quad ..< + 8: operands of two steps of 16.
    u32 query[dimension / 16][2];
    const u16 *queryRow = qkv + (u64)rowToken * qkvStride + (u64)(firstHead + group) * dimension + quad * 8;
    UNROLL
    for (int c = 0; c < dimension / 32; c++) {
        uint4 piece = {0, 0, 0, 0};
        if (group < headCount) piece = load16(queryRow + c * 32);
        query[c * 2][0] = piece.x, query[c * 2][1] = piece.y;
        query[c * 2 + 1][0] = piece.z, query[c * 2 + 1][1] = piece.w;
    }
    float output[dimension / 16][4], maximum[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY}, sum[2] = {0.f, 0.f};
    UNROLL
    for (int i = 0; i < dimension / 16; i++) output[i][0] = output[i][1] = output[i][2] = output[i][3] = 0.f;

    int block = begin + warp < end ? table[begin + warp] : 0;
    for (int tile = begin + warp; tile < end; tile += warps) {
        const int base = tile << 4, last = length - 1 - base;
        const u64 place = block * blockSize;
        if (tile + warps < end) block = table[tile + warps];
        // Tokens behind the last one are read as the last one: their places may hold anything.
        const u16 *lowKeys = headKeys + place + smaller(group, last) * dimension;
        const u16 *highKeys = headKeys + place + smaller(group + 8, last) * dimension;
        uint4 key[2][dimension / 32];
        UNROLL
        for (int c = 0; c < dimension / 32; c++) {
            key[0][c] = load_once(lowKeys + c * 32);
            key[1][c] = load_once(highKeys + c * 32);
        }
        // Tokens 2 quad, + 1, + 8, + 9; elements 8 group ..< + 8 of each 64.
        uint4 value[dimension / 64][4];
        UNROLL
        for (int r = 0; r < 4; r++) {
            const int token = smaller(quad * 2 + (r & 1) + (r >> 1) * 8, last);
            UNROLL
            for (int c = 0; c < dimension / 64; c++)
                value[c][r] = load_once(headValues + place + token * dimension + c * 64);
        }
        // Rows are tokens `group` and `group` + 8, columns heads 2 quad and + 1.
        float score[4] = {0.f, 0.f, 0.f, 0.f};
        UNROLL
        for (int c = 0; c < dimension / 32; c++) {
            const u32 even[4] = {key[0][c].x, key[1][c].x, key[0][c].y, key[1][c].y};
            multiply_add(score, even, query[c * 2]);
            const u32 odd[4] = {key[0][c].z, key[1][c].z, key[0][c].w, key[1][c].w};
            multiply_add(score, odd, query[c * 2 + 1]);
        }
        UNROLL
        for (int i = 0; i < 4; i++) {
            const int token = base + group + (i >> 1) * 8;
            score[i] = token < length && token >= first ? score[i] * logScale : NEGATIVE_INFINITY;
        }
        float factor[2];
        UNROLL
        for (int h = 0; h < 2; h++) {
            float largest = larger(score[h], score[h + 2]);
            largest = larger(largest, shuffle_xor(largest, 4));
            largest = larger(largest, shuffle_xor(largest, 8));
            largest = larger(largest, shuffle_xor(largest, 16));
            largest = larger(largest, maximum[h]);
            factor[h] = maximum[h] == NEGATIVE_INFINITY ? 0.f : exp2_fast(maximum[h] - largest);
            maximum[h] = largest;
        }
        UNROLL
        for (int i = 0; i < 4; i++)
            score[i] = maximum[i & 1] == NEGATIVE_INFINITY ? 0.f : exp2_fast(score[i] - maximum[i & 1]);
        UNROLL
        for (int h = 0; h < 2; h++) sum[h] = sum[h] * factor[h] + score[h] + score[h + 2];
        const u32 weights[2] = {transpose8x8(pack_bf16(score[0], score[1])),
                                transpose8x8(pack_bf16(score[2], score[3]))};
        UNROLL
        for (int i = 0; i < dimension / 16; i++) {
            output[i][0] *= factor[0], output[i][1] *= factor[1];
            output[i][2] *= factor[0], output[i][3] *= factor[1];
        }
        UNROLL
        for (int c = 0; c < dimension / 64; c++) {
            const u32 token0[4] = {value[c][0].x, value[c][0].y, value[c][0].z, value[c][0].w};
            const u32 token1[4] = {value[c][1].x, value[c][1].y, value[c][1].z, value[c][1].w};
            const u32 token8[4] = {value[c][2].x, value[c][2].y, value[c][2].z, value[c][2].w};
            const u32 token9[4] = {value[c][3].x, value[c][3].y, value[c][3].z, value[c][3].w};
            // Row `group` of a matrix is element 2 j, row `group` + 8 element 2 j + 1.
            UNROLL
            for (int j = 0; j < 4; j++) {
                const u32 transposed[4] = {
                    byte_permute(token0[j], token1[j], 0x5410), byte_permute(token0[j], token1[j], 0x7632),
                    byte_permute(token8[j], token9[j], 0x5410), byte_permute(token8[j], token9[j], 0x7632)};
                multiply_add(output[c * 4 + j], transposed, weights);
            }
        }
    }

    // The warps' parts become one, in order of the warps.
    UNROLL
    for (int h = 0; h < 2; h++) {
        sum[h] += shuffle_xor(sum[h], 4);
        sum[h] += shuffle_xor(sum[h], 8);
        sum[h] += shuffle_xor(sum[h], 16);
    }
    if (group == 0) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            merge.stats[0][warp][quad * 2 + h] = maximum[h];
            merge.stats[1][warp][quad * 2 + h] = sum[h];
        }
    }
    BARRIER();
    float factor[2];
    UNROLL
    for (int h = 0; h < 2; h++) {
        float largest = NEGATIVE_INFINITY;
        for (int w = 0; w < warps; w++) largest = larger(largest, merge.stats[0][w][quad * 2 + h]);
        factor[h] = maximum[h] == NEGATIVE_INFINITY ? 0.f : exp2_fast(maximum[h] - largest);
    }
    for (int turn = 0; turn < warps; turn++) {
        if (turn == warp) {
            UNROLL
            for (int i = 0; i < dimension / 16; i++) {
                const int element = (i >> 2) * 64 + group * 8 + (i & 3) * 2;
                UNROLL
                for (int h = 0; h < 2; h++) {
                    float *place = &merge.output[quad][h * dimension + element];
                    const float2 before = turn == 0 ? float2{0.f, 0.f} : load_two_floats(place);
                    store_two_floats(place, {before.x + output[i][h] * factor[h],
                                             before.y + output[i][h + 2] * factor[h]});
                }
            }
        }
        BARRIER();
    }
    for (int i = threadIdx.x; i < headCount * dimension / 2; i += warps * 32) {
        const int h = i / (dimension / 2), element = i % (dimension / 2) * 2, head = firstHead + h;
        float largest = NEGATIVE_INFINITY, total = 0.f;
        for (int w = 0; w < warps; w++) largest = larger(largest, merge.stats[0][w][h]);
        for (int w = 0; w < warps; w++)
            if (merge.stats[0][w][h] != NEGATIVE_INFINITY)
                total += merge.stats[1][w][h] * exp2_fast(merge.stats[0][w][h] - largest);
        const float2 both = load_two_floats(&merge.output[h >> 1][(h & 1) * dimension + element]);
        const float low = both.x, high = both.y;
        if (splits == 1) {
            const float inverse = total > 0.f ? 1.f / total : 0.f;
            u16 *place = out + (u64)rowToken * outStride + (u64)head * dimension + element;
            *(u32 *)place = pack_bf16(low * inverse, high * inverse);
        } else {
            const u64 index = ((u64)row * queryHeads + head) * splits + split;
            partial[index * dimension + element] = low;
            partial[index * dimension + element + 1] = high;
            if (element == 0) partialStats[index * 2] = largest, partialStats[index * 2 + 1] = total;
        }
    }
}

// A minimum of one block lets the compiler keep a whole tile in registers, which reaches 98 % of the copy rate on an
// H100 at head dimension 128 instead of 86 % (Results/gpu-probe/h100-2026-11-26). Where rows are
// stands behind pointers that are not __restrict__: what those name the compiler would read before the wait.
#define ATTENTION_DECODE(name, dimension, warps)                                                                     \
    KERNEL(warps * 32, 1)                                                                                            \
    name(const u16 *qkv, int qkvStride, const u16 *keys, const u16 *values, const int *tables, int tableStride,      \
         const int *rowTokens, const int *rowSlots, const int *rowPositions, u16 *out, int outStride,                \
         float *partial, float *partialStats, int queryHeads, int keyHeads, float scale, int window, int splits) {   \
        RELEASE_NEXT_KERNEL();                                                                                       \
        AWAIT_EARLIER_KERNELS();                                                                                     \
        typedef DecodeMerge<dimension, warps> Merge;                                                                 \
        SHARED(Merge, merge, [1]);                                                                                   \
        attention_decode<dimension, warps>(qkv, qkvStride, keys, values, tables, tableStride, rowTokens, rowSlots,   \
                                           rowPositions, out, outStride, partial, partialStats, queryHeads,          \
                                           keyHeads, scale, window, splits, merge[0]);                               \
    }

ATTENTION_DECODE(attention_decode_h64, 64, 4)
ATTENTION_DECODE(attention_decode_h64_w2, 64, 2)
ATTENTION_DECODE(attention_decode_h64_w1, 64, 1)
ATTENTION_DECODE(attention_decode_h128, 128, 4)
ATTENTION_DECODE(attention_decode_h128_w2, 128, 2)
ATTENTION_DECODE(attention_decode_h128_w1, 128, 1)
ATTENTION_DECODE(attention_decode_h256, 256, 4)
ATTENTION_DECODE(attention_decode_h256_w2, 256, 2)
ATTENTION_DECODE(attention_decode_h256_w1, 256, 1)

// Makes one result of the splits of a row. One warp takes one head of a row; blocks of four warps.
KERNEL(128, 1) attention_combine(const float *partial, const float *partialStats, const int *rowTokens, u16 *out,
                                 int outStride, int rows, int queryHeads, int headDimension, int splits) {
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    const int index = blockIdx.x * (blockDim.x >> 5) + warp_index();
    if (index >= rows * queryHeads) return;
    const float *stats = partialStats + (u64)index * splits * 2;
    const float *parts = partial + (u64)index * splits * headDimension;
    float largest = NEGATIVE_INFINITY, total = 0.f;
    for (int s = 0; s < splits; s++) largest = larger(largest, stats[s * 2]);
    for (int s = 0; s < splits; s++)
        if (stats[s * 2] != NEGATIVE_INFINITY) total += stats[s * 2 + 1] * exp2_fast(stats[s * 2] - largest);
    const float inverse = total > 0.f ? 1.f / total : 0.f;
    const int row = index / queryHeads, head = index - row * queryHeads;
    u16 *destination = out + (u64)rowTokens[row] * outStride + (u64)head * headDimension;
    for (int i = lane_index() * 2; i < headDimension; i += 64) {
        float low = 0.f, high = 0.f;
        for (int s = 0; s < splits; s++) {
            // A split without keys has written no sums worth reading.
            if (stats[s * 2] == NEGATIVE_INFINITY) continue;
            const float factor = exp2_fast(stats[s * 2] - largest);
            low += parts[s * headDimension + i] * factor;
            high += parts[s * headDimension + i + 1] * factor;
        }
        *(u32 *)(destination + i) = pack_bf16(low * inverse, high * inverse);
    }
}
