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
    constexpr int tileSize = pieces * 64, chunks = dimension / 8, rowBytes = dimension * 2;
    constexpr int keyBytes = keyTile * rowBytes;
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int tile = blockIdx.x / keyHeads, keyHead = blockIdx.x % keyHeads;
    const int row = tileRows[tile], tileStart = tileStarts[tile];
    const int heads = queryHeads / keyHeads, past = rowPositions[row];
    const int rowCount = rowCounts[row] * heads;
    const float logScale = scale * 1.44269504f;
    const u32 queryTile = shared_address(memory), keyTiles = queryTile + tileSize * rowBytes;
    const u32 valueTiles = keyTiles + 2 * keyBytes;

    const int lastRow = smaller(tileStart + tileSize, rowCount) - 1;
    const int end = past + lastRow / heads + 1;
    // Table entries before the window may name any block, so nothing before it is read.
    const int firstSeen = window > 0 ? larger(0, past + tileStart / heads - window + 1) : 0;
    const int begin = firstSeen / keyTile * keyTile;

    {
        const u16 *queries = qkv + (u64)rowTokens[row] * qkvStride + keyHead * heads * dimension;
        for (int i = threadIdx.x; i < tileSize * chunks; i += 128) {
            const int r = i / chunks, c = i % chunks, index = smaller(tileStart + r, rowCount - 1);
            const u16 *source = queries + (u64)(index / heads) * qkvStride + index % heads * dimension + c * 8;
            copy16_async(queryTile + TILE_PLACE(rowBytes, r, c), source, tileStart + r < rowCount);
        }
    }
    // A thread copies the same piece of every so manieth row.
    constexpr int rowStep = 128 / chunks;
    const int copyRow = threadIdx.x / chunks, copyPiece = threadIdx.x % chunks;
    const int *table = tables + (u64)rowSlots[row] * tableStride;
    const u64 headOffset = (u64)keyHead * 16 * dimension + copyPiece * 8;
    const u32 blockSize = keyHeads * 16 * dimension;
    auto load = [&](int firstKey, int turn) {
        UNROLL
        for (int i = 0; i < keyTile / rowStep; i++) {
            const int r = copyRow + i * rowStep;
            const bool exists = firstKey + r >= firstSeen && firstKey + r < end;
            const int token = exists ? firstKey + r : end - 1;
            const u64 source = (u64)(u32)table[token >> 4] * blockSize + (headOffset + (token & 15) * dimension);
            const u32 place = turn * keyBytes + TILE_PLACE(rowBytes, r, copyPiece);
            copy16_async(keyTiles + place, keys + source, exists);
            copy16_async(valueTiles + place, values + source, exists);
        }
    };
    float maximum[pieces][2], sum[pieces][2], output[pieces][dimension / 8][4];
    UNROLL
    for (int p = 0; p < pieces; p++) {
        maximum[p][0] = maximum[p][1] = NEGATIVE_INFINITY, sum[p][0] = sum[p][1] = 0.f;
        UNROLL
        for (int i = 0; i < dimension / 8; i++)
            output[p][i][0] = output[p][i][1] = output[p][i][2] = output[p][i][3] = 0.f;
    }
    // Positions of the warp's first and last row: keys up to the first are seen by all.
    const int warpStart = tileStart + warp * pieces * 16;
    const int earliest = past + smaller(warpStart, rowCount - 1) / heads;
    const int latest = past + smaller(warpStart + pieces * 16 - 1, rowCount - 1) / heads;
    const u32 leftPlace = left_place(rowBytes), rightPlace = right_place(rowBytes);
    const u32 warpQueries = queryTile + warp * pieces * 16 * rowBytes;

    load(begin, 0);
    commit_copies();
    int turn = 0;
    for (int firstKey = begin; firstKey < end; firstKey += keyTile, turn ^= 1) {
        if (firstKey + keyTile < end) load(firstKey + keyTile, turn ^ 1);
        commit_copies();
        WAIT_FOR_COPIES(1);
        BARRIER();
        float score[pieces][keyTile / 8][4];
        UNROLL
        for (int p = 0; p < pieces; p++)
            UNROLL
            for (int j = 0; j < keyTile / 8; j++)
                score[p][j][0] = score[p][j][1] = score[p][j][2] = score[p][j][3] = 0.f;
        UNROLL
        for (int k = 0; k < dimension / 16; k++) {
            u32 query[pieces][4];
            const u32 queryPlace = warpQueries + (leftPlace ^ (32 * k));
            const u32 keyPlace = keyTiles + turn * keyBytes + (rightPlace ^ (32 * k));
            UNROLL
            for (int p = 0; p < pieces; p++) load_matrices(query[p], queryPlace + p * 16 * rowBytes);
            UNROLL
            for (int j = 0; j < keyTile / 16; j++) {
                u32 key[4];
                load_matrices(key, keyPlace + j * 16 * rowBytes);
                const u32 low[2] = {key[0], key[1]}, high[2] = {key[2], key[3]};
                UNROLL
                for (int p = 0; p < pieces; p++) {
                    multiply_add(score[p][j * 2], query[p], low);
                    multiply_add(score[p][j * 2 + 1], query[p], high);
                }
            }
        }
        if (firstKey + keyTile - 1 > earliest || (window > 0 && firstKey <= latest - window)) {
            UNROLL
            for (int p = 0; p < pieces; p++)
                UNROLL
                for (int h = 0; h < 2; h++) {
                    // Rows beyond the last see what the last sees.
                    const int position = past + smaller(warpStart + p * 16 + group + h * 8, rowCount - 1) / heads;
                    const int first = window > 0 ? position - window + 1 : 0;
                    UNROLL
                    for (int j = 0; j < keyTile / 8; j++)
                        UNROLL
                        for (int i = 0; i < 2; i++) {
                            const int token = firstKey + j * 8 + quad * 2 + i;
                            if (token > position || token < first) score[p][j][h * 2 + i] = NEGATIVE_INFINITY;
                        }
                }
        }
        UNROLL
        for (int p = 0; p < pieces; p++) {
            float factor[2];
            UNROLL
            for (int h = 0; h < 2; h++) {
                float largest = maximum[p][h];
                UNROLL
                for (int j = 0; j < keyTile / 8; j++)
                    largest = largest_of(largest, largest_of(score[p][j][h * 2], score[p][j][h * 2 + 1]));
                largest = largest_of(largest, shuffle_xor(largest, 1));
                largest = largest_of(largest, shuffle_xor(largest, 2));
                // Rows that see nothing yet must not subtract infinity from itself.
                const float base = largest == NEGATIVE_INFINITY ? 0.f : largest * logScale;
                factor[h] = exp2_fast(maximum[p][h] * logScale - base);
                maximum[p][h] = largest;
                sum[p][h] *= factor[h];
                UNROLL
                for (int j = 0; j < keyTile / 8; j++)
                    UNROLL
                    for (int i = 0; i < 2; i++) {
                        float &value = score[p][j][h * 2 + i];
                        value = exp2_fast(value * logScale - base);
                        sum[p][h] += value;
                    }
            }
            // Behind the first tiles the largest score seldom changes.
            if (ballot(factor[0] != 1.f || factor[1] != 1.f)) {
                UNROLL
                for (int i = 0; i < dimension / 8; i++) {
                    output[p][i][0] *= factor[0], output[p][i][1] *= factor[0];
                    output[p][i][2] *= factor[1], output[p][i][3] *= factor[1];
                }
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
                u32 value[4];
                load_matrices_transposed(
                    value, valueTiles + turn * keyBytes + j * 16 * rowBytes + (leftPlace ^ (32 * d)));
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
    u16 *const results = out + (u64)rowTokens[row] * outStride + keyHead * heads * dimension;
    UNROLL
    for (int p = 0; p < pieces; p++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            sum[p][h] += shuffle_xor(sum[p][h], 1);
            sum[p][h] += shuffle_xor(sum[p][h], 2);
            const int index = warpStart + p * 16 + group + h * 8;
            if (index >= rowCount) continue;
            u16 *place = results + (u64)(index / heads) * outStride + index % heads * dimension;
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

// Rows of 128 use what they read twice as often; tiles of 64 waste less on short chunks, and more of them fit a
// multiprocessor.
ATTENTION_PREFILL(attention_prefill_h64, 64, 64, 2)
ATTENTION_PREFILL(attention_prefill_h64_r64, 64, 64, 1)
ATTENTION_PREFILL(attention_prefill_h128, 128, 32, 2)
ATTENTION_PREFILL(attention_prefill_h128_r64, 128, 64, 1)
ATTENTION_PREFILL(attention_prefill_h256, 256, 32, 1)
