// Tandem — Apache-2.0
//
// Causal attention of chunks of prompts over paged keys and values, past ones included; the online softmax of
// FlashAttention-2 (Dao, 2023). A row is a token and a query head of the group that shares a key head; a block of
// threads takes a tile of rows of one sequence and key head, and each of its four warps `pieces` times 16 of them.
// Tiles of keys and values come in two turns by asynchronous copies; queries stay in the block's memory.

template <int dimension, int keyTile, int pieces>
DEVICE void attention_prefill(unsigned char *memory, const u16 *__restrict__ qkv, int qkvStride,
                              const u16 *__restrict__ keys, const u16 *__restrict__ values,
                              const int *__restrict__ tables, int tableStride, const int *__restrict__ tileRows,
                              const int *__restrict__ tileStarts, const int *__restrict__ rowTokens,
                              const int *__restrict__ rowCounts, const int *__restrict__ rowSlots,
                              const int *__restrict__ rowPositions, u16 *__restrict__ out, int outStride,
                              int queryHeads, int keyHeads, float scale, int window) {
    constexpr int tileSize = pieces * 64, chunks = dimension / 8, keyElements = keyTile * dimension;
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int row = tileRows[blockIdx.x], tileStart = tileStarts[blockIdx.x], keyHead = blockIdx.y;
    const int heads = queryHeads / keyHeads, firstToken = rowTokens[row], past = rowPositions[row];
    const int rowCount = rowCounts[row] * heads;
    const int *table = tables + (u64)rowSlots[row] * tableStride;
    const float logScale = scale * 1.44269504f;
    u16 *queryTile = (u16 *)memory, *keyTiles = queryTile + tileSize * dimension;
    u16 *valueTiles = keyTiles + 2 * keyElements;

    const int lastRow = smaller(tileStart + tileSize, rowCount) - 1;
    const int end = past + lastRow / heads + 1;
    // Table entries before the window may name any block, so nothing before it is read.
    const int firstSeen = window > 0 ? larger(0, past + tileStart / heads - window + 1) : 0;
    const int begin = firstSeen / keyTile * keyTile;

    for (int i = threadIdx.x; i < tileSize * chunks; i += 128) {
        const int r = i / chunks, c = i % chunks, index = smaller(tileStart + r, rowCount - 1);
        const u16 *source = qkv + (u64)(firstToken + index / heads) * qkvStride +
                            (u64)(keyHead * heads + index % heads) * dimension + c * 8;
        copy16_async(queryTile + r * dimension + SWIZZLE(r, c) * 8, source, tileStart + r < rowCount);
    }
    auto load = [&](int firstKey, int turn) {
        for (int i = threadIdx.x; i < keyTile * chunks; i += 128) {
            const int r = i / chunks, c = i % chunks;
            const bool exists = firstKey + r >= firstSeen && firstKey + r < end;
            const int token = exists ? firstKey + r : end - 1;
            const u64 source =
                (((u64)table[token >> 4] * keyHeads + keyHead) * 16 + (token & 15)) * dimension + c * 8;
            const int place = turn * keyElements + r * dimension + SWIZZLE(r, c) * 8;
            copy16_async(keyTiles + place, keys + source, exists);
            copy16_async(valueTiles + place, values + source, exists);
        }
    };
    // Position in the sequence of each row that this lane holds; rows beyond the last see what the last sees.
    int position[pieces][2];
    float maximum[pieces][2], sum[pieces][2], output[pieces][dimension / 8][4];
    UNROLL
    for (int p = 0; p < pieces; p++) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            const int index = tileStart + (warp * pieces + p) * 16 + group + h * 8;
            position[p][h] = past + smaller(index, rowCount - 1) / heads;
            maximum[p][h] = NEGATIVE_INFINITY, sum[p][h] = 0.f;
        }
        UNROLL
        for (int i = 0; i < dimension / 8; i++)
            output[p][i][0] = output[p][i][1] = output[p][i][2] = output[p][i][3] = 0.f;
    }
    // Positions between which all keys of a tile are seen by all rows of the warp.
    const int warpStart = tileStart + warp * pieces * 16;
    const int earliest = past + smaller(warpStart, rowCount - 1) / heads;
    const int latest = past + smaller(warpStart + pieces * 16 - 1, rowCount - 1) / heads;

    load(begin, 0);
    commit_copies();
    int turn = 0;
    for (int firstKey = begin; firstKey < end; firstKey += keyTile, turn ^= 1) {
        if (firstKey + keyTile < end) load(firstKey + keyTile, turn ^ 1);
        commit_copies();
        WAIT_FOR_COPIES(1);
        BARRIER();
        const u16 *tileKeys = keyTiles + turn * keyElements, *tileValues = valueTiles + turn * keyElements;
        float score[pieces][keyTile / 8][4];
        UNROLL
        for (int p = 0; p < pieces; p++)
            UNROLL
            for (int j = 0; j < keyTile / 8; j++)
                score[p][j][0] = score[p][j][1] = score[p][j][2] = score[p][j][3] = 0.f;
        UNROLL
        for (int k = 0; k < dimension / 16; k++) {
            u32 query[pieces][4];
            UNROLL
            for (int p = 0; p < pieces; p++) {
                const int r = (warp * pieces + p) * 16 + (lane & 15), c = k * 2 + (lane >> 4);
                load_matrices(query[p], queryTile + r * dimension + SWIZZLE(r, c) * 8);
            }
            UNROLL
            for (int j = 0; j < keyTile / 16; j++) {
                const int r = j * 16 + (lane & 7) + ((lane >> 4) << 3), c = k * 2 + ((lane >> 3) & 1);
                u32 key[4];
                load_matrices(key, tileKeys + r * dimension + SWIZZLE(r, c) * 8);
                const u32 low[2] = {key[0], key[1]}, high[2] = {key[2], key[3]};
                UNROLL
                for (int p = 0; p < pieces; p++) {
                    multiply_add(score[p][j * 2], query[p], low);
                    multiply_add(score[p][j * 2 + 1], query[p], high);
                }
            }
        }
        const bool seesAll =
            firstKey + keyTile - 1 <= earliest && (window <= 0 || firstKey > latest - window);
        UNROLL
        for (int p = 0; p < pieces; p++) {
            float largest[2] = {maximum[p][0], maximum[p][1]}, factor[2];
            UNROLL
            for (int j = 0; j < keyTile / 8; j++)
                UNROLL
                for (int i = 0; i < 4; i++) {
                    const int token = firstKey + j * 8 + quad * 2 + (i & 1), h = i >> 1;
                    const bool isSeen = seesAll || (token <= position[p][h] &&
                                                    (window <= 0 || token > position[p][h] - window));
                    score[p][j][i] = isSeen ? score[p][j][i] : NEGATIVE_INFINITY;
                    largest[h] = larger(largest[h], score[p][j][i]);
                }
            UNROLL
            for (int h = 0; h < 2; h++) {
                largest[h] = larger(largest[h], shuffle_xor(largest[h], 1));
                largest[h] = larger(largest[h], shuffle_xor(largest[h], 2));
                factor[h] =
                    maximum[p][h] == NEGATIVE_INFINITY ? 0.f : exp2_fast((maximum[p][h] - largest[h]) * logScale);
                maximum[p][h] = largest[h];
                sum[p][h] *= factor[h];
                // Rows that see nothing yet must not subtract infinity from itself.
                largest[h] = largest[h] == NEGATIVE_INFINITY ? 0.f : largest[h] * logScale;
            }
            UNROLL
            for (int j = 0; j < keyTile / 8; j++)
                UNROLL
                for (int i = 0; i < 4; i++) {
                    score[p][j][i] = exp2_fast(score[p][j][i] * logScale - largest[i >> 1]);
                    sum[p][i >> 1] += score[p][j][i];
                }
            UNROLL
            for (int i = 0; i < dimension / 8; i++) {
                output[p][i][0] *= factor[0], output[p][i][1] *= factor[0];
                output[p][i][2] *= factor[1], output[p][i][3] *= factor[1];
            }
        }
        UNROLL
        for (int j = 0; j < keyTile / 16; j++) {
            u32 weights[pieces][4];
            UNROLL
            for (int p = 0; p < pieces; p++) {
                weights[p][0] = pack_bf16(score[p][j * 2][0], score[p][j * 2][1]);
                weights[p][1] = pack_bf16(score[p][j * 2][2], score[p][j * 2][3]);
                weights[p][2] = pack_bf16(score[p][j * 2 + 1][0], score[p][j * 2 + 1][1]);
                weights[p][3] = pack_bf16(score[p][j * 2 + 1][2], score[p][j * 2 + 1][3]);
            }
            UNROLL
            for (int d = 0; d < dimension / 16; d++) {
                const int r = j * 16 + (lane & 15), c = d * 2 + (lane >> 4);
                u32 value[4];
                load_matrices_transposed(value, tileValues + r * dimension + SWIZZLE(r, c) * 8);
                const u32 low[2] = {value[0], value[1]}, high[2] = {value[2], value[3]};
                UNROLL
                for (int p = 0; p < pieces; p++) {
                    multiply_add(output[p][d * 2], weights[p], low);
                    multiply_add(output[p][d * 2 + 1], weights[p], high);
                }
            }
        }
        // The next turn's copies go where this one's operands are.
        BARRIER();
    }
    UNROLL
    for (int p = 0; p < pieces; p++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            sum[p][h] += shuffle_xor(sum[p][h], 1);
            sum[p][h] += shuffle_xor(sum[p][h], 2);
            const int index = tileStart + (warp * pieces + p) * 16 + group + h * 8;
            if (index >= rowCount) continue;
            u16 *place = out + (u64)(firstToken + index / heads) * outStride +
                         (u64)(keyHead * heads + index % heads) * dimension;
            const float inverse = sum[p][h] > 0.f ? 1.f / sum[p][h] : 0.f;
            UNROLL
            for (int i = 0; i < dimension / 8; i++)
                *(u32 *)(place + i * 8 + quad * 2) =
                    pack_bf16(output[p][i][h * 2] * inverse, output[p][i][h * 2 + 1] * inverse);
        }
}

#define ATTENTION_PREFILL(name, dimension, keyTile, pieces)                                                          \
    KERNEL(128, 1)                                                                                                   \
    name(const u16 *qkv, int qkvStride, const u16 *keys, const u16 *values, const int *tables, int tableStride,      \
         const int *tileRows, const int *tileStarts, const int *rowTokens, const int *rowCounts,                     \
         const int *rowSlots, const int *rowPositions, u16 *out, int outStride, int queryHeads, int keyHeads,        \
         float scale, int window) {                                                                                  \
        DYNAMIC_SHARED(memory);                                                                                      \
        attention_prefill<dimension, keyTile, pieces>(memory, qkv, qkvStride, keys, values, tables, tableStride,     \
                                                      tileRows, tileStarts, rowTokens, rowCounts, rowSlots,          \
                                                      rowPositions, out, outStride, queryHeads, keyHeads, scale,     \
                                                      window);                                                       \
    }

ATTENTION_PREFILL(attention_prefill_h64, 64, 64, 2)
ATTENTION_PREFILL(attention_prefill_h128, 128, 32, 2)
ATTENTION_PREFILL(attention_prefill_h256, 256, 32, 1)
