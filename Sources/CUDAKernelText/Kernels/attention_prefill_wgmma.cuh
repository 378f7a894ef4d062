// Tandem — Apache-2.0
//
// attention_prefill with the matrix products of Hopper, for heads of 64 and 128 elements. A block of two warpgroups takes a
// tile of 128 rows, 64 each. While it finds weights of one tile of keys, the products of the tile before with its values run;
// that order is of FlashAttention-3 (Shah et al., 2024). Tiles come by asynchronous copies, since pages of 16 tokens are
// pieces too small for bulk copies, and nobody waits in a loop.
#ifdef HAS_WARPGROUP_PRODUCTS

// Rows of the tile of one warpgroup's 16 that a lane has two of, and how far each has come.
struct SoftmaxRows {
    float maximum[2], sum[2];
};

// Makes weights of scores, and factors for what was summed before.
template <int count>
DEVICE void weigh(float (&score)[count], SoftmaxRows &rows, float (&factor)[2], float logScale) {
    UNROLL
    for (int h = 0; h < 2; h++) {
        float largest = rows.maximum[h];
        UNROLL
        for (int j = 0; j < count / 4; j++)
            largest = largest_of(largest, largest_of(score[j * 4 + h * 2], score[j * 4 + h * 2 + 1]));
        largest = largest_of(largest, shuffle_xor(largest, 1));
        largest = largest_of(largest, shuffle_xor(largest, 2));
        // Rows that see nothing yet must not subtract infinity from itself.
        const float base = largest == NEGATIVE_INFINITY ? 0.f : largest * logScale;
        factor[h] = exp2_fast(rows.maximum[h] * logScale - base);
        rows.maximum[h] = largest;
        float sum = rows.sum[h] * factor[h];
        UNROLL
        for (int j = 0; j < count / 4; j++)
            UNROLL
            for (int i = 0; i < 2; i++) {
                float &value = score[j * 4 + h * 2 + i];
                value = exp2_fast(value * logScale - base);
                sum += value;
            }
        rows.sum[h] = sum;
    }
}

template <int dimension>
DEVICE void attention_prefill_warpgroups(unsigned char *memory, const u16 *__restrict__ qkv, int qkvStride,
                                         const u16 *__restrict__ keys, const u16 *__restrict__ values,
                                         const int *__restrict__ tables, int tableStride,
                                         const int *__restrict__ tileRows, const int *__restrict__ tileStarts,
                                         const int *__restrict__ rowTokens, const int *__restrict__ rowCounts,
                                         const int *__restrict__ rowSlots, const int *__restrict__ rowPositions,
                                         u16 *__restrict__ out, int outStride, int queryHeads, int keyHeads,
                                         float scale, int window) {
    // Tiles of queries, keys and values have one shape: columns of 64 elements, each with all rows.
    constexpr int tileSize = 128, keyTile = 128, threads = 256, chunks = dimension / 8;
    constexpr int columnBytes = keyTile * 128, tileBytes = dimension / 64 * columnBytes;
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int tile = blockIdx.x / keyHeads, keyHead = blockIdx.x % keyHeads;
    const int row = tileRows[tile], tileStart = tileStarts[tile];
    const int heads = queryHeads / keyHeads, past = rowPositions[row];
    const int rowCount = rowCounts[row] * heads;
    const float logScale = scale * 1.44269504f;
    const u32 queryTile = (shared_address(memory) + 1023) & ~1023u, keyTiles = queryTile + tileBytes;
    const u32 valueTiles = keyTiles + 2 * tileBytes;

    const int lastRow = smaller(tileStart + tileSize, rowCount) - 1;
    const int end = past + lastRow / heads + 1;
    // Table entries before the window may name any block, so nothing before it is read.
    const int firstSeen = window > 0 ? larger(0, past + tileStart / heads - window + 1) : 0;
    const int begin = firstSeen / keyTile * keyTile, tiles = (end - begin + keyTile - 1) / keyTile;

    // A thread copies the same piece of every so manieth row.
    constexpr int rowStep = threads / chunks, copies = keyTile / rowStep;
    const int copyRow = threadIdx.x / chunks, copyPiece = threadIdx.x % chunks;
    // Rows of one thread differ by multiples of eight, so they are swizzled alike.
    const u32 copyPlace =
        (copyPiece >> 3) * columnBytes + copyRow * 128 + SWIZZLE(copyRow, copyPiece & 7) * 16;
    {
        const u16 *queries = qkv + (u64)rowTokens[row] * qkvStride + keyHead * heads * dimension + copyPiece * 8;
        UNROLL
        for (int i = 0; i < copies; i++) {
            const int r = copyRow + i * rowStep, index = smaller(tileStart + r, rowCount - 1);
            const u16 *source = queries + (u64)(index / heads) * qkvStride + index % heads * dimension;
            copy16_async(queryTile + copyPlace + i * rowStep * 128, source, tileStart + r < rowCount);
        }
    }
    const int *table = tables + (u64)rowSlots[row] * tableStride;
    const u64 headOffset = ((u64)keyHead * 16 + (copyRow & 15)) * dimension + copyPiece * 8;
    const u32 blockSize = keyHeads * 16 * dimension;
    // Blocks of the tile whose keys were copied last.
    int blocks[copies];
    auto copy = [&](const u16 *from, u32 to, int firstKey) {
        UNROLL
        for (int i = 0; i < copies; i++) {
            const int token = firstKey + copyRow + i * rowStep;
            copy16_async(to + copyPlace + i * rowStep * 128, from + ((u64)(u32)blocks[i] * blockSize + headOffset),
                         token >= firstSeen && token < end);
        }
    };
    auto copyKeys = [&](int index) {
        const int firstKey = begin + index * keyTile;
        UNROLL
        for (int i = 0; i < copies; i++) {
            const int token = firstKey + copyRow + i * rowStep;
            blocks[i] = table[(token >= firstSeen && token < end ? token : end - 1) >> 4];
        }
        copy(keys, keyTiles + (index & 1) * tileBytes, firstKey);
    };

    SoftmaxRows rows;
    rows.maximum[0] = rows.maximum[1] = NEGATIVE_INFINITY, rows.sum[0] = rows.sum[1] = 0.f;
    float score[keyTile / 2], output[dimension / 2];
    u32 weights[keyTile / 16][4];
    UNROLL
    for (int i = 0; i < dimension / 2; i++) output[i] = 0.f;
    // Positions of the warp's first and last row: keys up to the first are seen by all.
    const int warpStart = tileStart + warp * 16;
    const int earliest = past + smaller(warpStart, rowCount - 1) / heads;
    const int latest = past + smaller(warpStart + 15, rowCount - 1) / heads;

    // Shuffled, so that the compiler knows that all lanes have the same.
    const u32 warpgroup = shuffle((u32)warp >> 2, 0);
    const u64 queryOperand = SWIZZLED_ROWS(queryTile + warpgroup * 64 * 128, 1024);
    const u64 keyOperand = SWIZZLED_ROWS(keyTiles, 1024);
    const u64 valueOperand = SWIZZLED_COLUMNS(valueTiles, columnBytes, 1024);
    auto multiplyKeys = [&](int index) {
        const u64 key = keyOperand + ((index & 1) * tileBytes >> 4);
        UNROLL
        for (int k = 0; k < dimension / 16; k++) {
            const u32 step = ((k >> 2) * columnBytes + (k & 3) * 32) >> 4;
            multiply_shared(score, queryOperand + step, key + step, k > 0);
        }
    };
    auto multiplyValues = [&](int index) {
        const u64 value = valueOperand + ((index & 1) * tileBytes >> 4);
        UNROLL
        for (int j = 0; j < keyTile / 16; j++) multiply_transposed(output, weights[j], value + (j * 16 * 128 >> 4));
    };

    // Copies what the products after the next barrier read: values of this tile, keys of the next one.
    auto copyNext = [&](int index) {
        copy(values, valueTiles + (index & 1) * tileBytes, begin + index * keyTile);
        if (index + 1 < tiles) copyKeys(index + 1);
        commit_copies();
    };
    auto hideUnseen = [&](int firstKey) {
        if (firstKey + keyTile - 1 <= earliest && (window <= 0 || firstKey > latest - window)) return;
        UNROLL
        for (int h = 0; h < 2; h++) {
            // Rows beyond the last see what the last sees.
            const int position = past + smaller(warpStart + group + h * 8, rowCount - 1) / heads;
            const int first = window > 0 ? position - window + 1 : 0;
            UNROLL
            for (int j = 0; j < keyTile / 8; j++)
                UNROLL
                for (int i = 0; i < 2; i++) {
                    const int token = firstKey + j * 8 + quad * 2 + i;
                    if (token > position || token < first) score[j * 4 + h * 2 + i] = NEGATIVE_INFINITY;
                }
        }
    };
    // Behind it are the copies of all threads, and free is what products read that all threads have waited for.
    auto meet = [&] {
        WAIT_FOR_COPIES(0);
        PUBLISH_SHARED();
        BARRIER();
    };

    // Waits for what runs with the weights before, and makes the scores weights of the next products.
    float factor[2] = {1.f, 1.f};
    auto takeWeights = [&] {
        WAIT_FOR_PRODUCTS(0);
        settle(output);
        // Behind the first tiles the largest score seldom changes.
        if (ballot(factor[0] != 1.f || factor[1] != 1.f)) {
            UNROLL
            for (int i = 0; i < dimension / 8; i++) {
                output[i * 4] *= factor[0], output[i * 4 + 1] *= factor[0];
                output[i * 4 + 2] *= factor[1], output[i * 4 + 3] *= factor[1];
            }
        }
        UNROLL
        for (int j = 0; j < keyTile / 16; j++)
            UNROLL
            for (int i = 0; i < 4; i++)
                weights[j][i] = pack_bf16(score[j * 8 + i * 2], score[j * 8 + i * 2 + 1]);
    };

    copyKeys(0);
    commit_copies();
    meet();
    FENCE_PRODUCTS();
    multiplyKeys(0);
    COMMIT_PRODUCTS();
    copyNext(0);
    WAIT_FOR_PRODUCTS(0);
    settle(score);
    hideUnseen(begin);
    weigh(score, rows, factor, logScale);
    for (int index = 1; index < tiles; index++) {
        // At the head of the loop, because the compiler would take a wait behind the softmax before it.
        takeWeights();
        meet();
        FENCE_PRODUCTS();
        multiplyKeys(index);
        COMMIT_PRODUCTS();
        multiplyValues(index - 1);
        COMMIT_PRODUCTS();
        copyNext(index);
        WAIT_FOR_PRODUCTS(1);
        settle(score);
        hideUnseen(begin + index * keyTile);
        weigh(score, rows, factor, logScale);
    }
    takeWeights();
    meet();
    FENCE_PRODUCTS();
    multiplyValues(tiles - 1);
    COMMIT_PRODUCTS();
    WAIT_FOR_PRODUCTS(0);
    settle(output);

    u16 *const results = out + (u64)rowTokens[row] * outStride + keyHead * heads * dimension;
    UNROLL
    for (int h = 0; h < 2; h++) {
        float sum = rows.sum[h];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int index = warpStart + group + h * 8;
        if (index >= rowCount) continue;
        u16 *place = results + (u64)(index / heads) * outStride + index % heads * dimension;
        const float inverse = sum > 0.f ? 1.f / sum : 0.f;
        UNROLL
        for (int i = 0; i < dimension / 8; i++)
            *(u32 *)(place + i * 8 + quad * 2) =
                pack_bf16(output[i * 4 + h * 2] * inverse, output[i * 4 + h * 2 + 1] * inverse);
    }
}

#define ATTENTION_PREFILL_WARPGROUPS(name, dimension)                                                               \
    KERNEL(256, 1)                                                                                                   \
    name(const u16 *qkv, int qkvStride, const u16 *keys, const u16 *values, const int *tables, int tableStride,      \
         const int *tileRows, const int *tileStarts, const int *rowTokens, const int *rowCounts,                     \
         const int *rowSlots, const int *rowPositions, u16 *out, int outStride, int queryHeads, int keyHeads,        \
         float scale, int window) {                                                                                  \
        DYNAMIC_SHARED(memory);                                                                                      \
        attention_prefill_warpgroups<dimension>(memory, qkv, qkvStride, keys, values, tables, tableStride, tileRows, \
                                                tileStarts, rowTokens, rowCounts, rowSlots, rowPositions, out,       \
                                                outStride, queryHeads, keyHeads, scale, window);                     \
    }

ATTENTION_PREFILL_WARPGROUPS(attention_prefill_h64_wgmma, 64)
ATTENTION_PREFILL_WARPGROUPS(attention_prefill_h128_wgmma, 128)

#endif
