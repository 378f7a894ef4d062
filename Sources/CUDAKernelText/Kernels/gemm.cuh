// Tandem — Apache-2.0
//
// D (M x N) = A (M x K) W (N x K)^T, with a bias where there is one. An element is summed over K in steps of 16 in one
// order, whatever M and N are, wherever its row stands and whatever the tiles are: the same row gives the same bits in any
// batch.
//
// A block of four warps takes a tile; tiles of 64 along K come in turns. Small tiles keep all multiprocessors busy when
// there are few rows, large ones take fewer bytes from the level-2 cache for each multiplication. How many turns there are
// follows from the way of bytes from memory: about 80 KiB have to be under way for a multiprocessor.

#define GEMM_STEP 64
#define GEMM_THREADS 128

template <int tileRows, int tileColumns, int warpTileRows, int warpTileColumns, int tileTurns>
struct GEMMTiling {
    static constexpr int rows = tileRows, columns = tileColumns, turns = tileTurns;
    static constexpr int warpRows = warpTileRows, warpColumns = warpTileColumns;
    static_assert(rows / warpRows * (columns / warpColumns) * 32 == GEMM_THREADS, "four warps");
};
typedef GEMMTiling<64, 64, 32, 32, 6> GEMMTiles64x64;
typedef GEMMTiling<128, 64, 64, 32, 4> GEMMTiles128x64;
typedef GEMMTiling<128, 128, 64, 64, 3> GEMMTiles128x128;

DEVICE void store_products(u16 *place, float first, float second, bool hasSecond, bool isAligned) {
    if (hasSecond && isAligned) {
        *(u32 *)place = pack_bf16(first, second);
    } else {
        place[0] = to_bf16(first);
        if (hasSecond) place[1] = to_bf16(second);
    }
}
DEVICE void store_products(float *place, float first, float second, bool hasSecond, bool) {
    place[0] = first;
    if (hasSecond) place[1] = second;
}

// The gate of a feed-forward block, rounded as if gate and up had been written and read again.
DEVICE float gated(float gate, float up, bool isGELU) {
    const float rounded = to_float(to_bf16(gate));
    return (isGELU ? gelu_tanh(rounded) : silu(rounded)) * to_float(to_bf16(up));
}

// With `isGated` W is [gate | up] of N rows each, and D = activation(gate) * up. A tile of W then has rows of both, 8 and
// 8 in turn, so that a thread gets a gate and its up.
template <typename Tiling, bool isGated, typename Output>
DEVICE void gemm(unsigned char *memory, const u16 *__restrict__ a, int aStride, const u16 *__restrict__ w,
                 const u16 *__restrict__ bias, Output *__restrict__ d, int dStride, int m, int n, int k,
                 bool isGELU) {
    constexpr int chunks = GEMM_STEP / 8, rowBytes = GEMM_STEP * 2, turns = Tiling::turns;
    constexpr int aBytes = Tiling::rows * rowBytes, wBytes = Tiling::columns * rowBytes;
    constexpr int rowPieces = Tiling::warpRows / 16, columnPieces = Tiling::warpColumns / 16;
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int firstRow = blockIdx.x * Tiling::rows;
    const int firstColumn = blockIdx.y * (isGated ? Tiling::columns / 2 : Tiling::columns);
    constexpr int warpsDown = Tiling::rows / Tiling::warpRows;
    const int warpRow = warp % warpsDown * Tiling::warpRows, warpColumn = warp / warpsDown * Tiling::warpColumns;
    const u32 aTiles = shared_address(memory), wTiles = aTiles + turns * aBytes;
    const int piece = threadIdx.x % chunks, firstPieceRow = threadIdx.x / chunks;
    auto loadA = [&](int firstK, int turn) {
        const int column = firstK + piece * 8;
        UNROLL
        for (int i = 0; i < Tiling::rows * chunks / GEMM_THREADS; i++) {
            const int r = firstPieceRow + i * (GEMM_THREADS / chunks), row = firstRow + r;
            const bool exists = column < k && row < m;
            const u16 *source = a + (u64)smaller(row, m - 1) * aStride + (column < k ? column : 0);
            copy16_async(aTiles + turn * aBytes + TILE_PLACE(rowBytes, r, piece), source, exists);
        }
    };
    auto loadW = [&](int firstK, int turn) {
        const int column = firstK + piece * 8;
        UNROLL
        for (int i = 0; i < Tiling::columns * chunks / GEMM_THREADS; i++) {
            const int r = firstPieceRow + i * (GEMM_THREADS / chunks);
            const int output = firstColumn + (isGated ? (r >> 4) * 8 + (r & 7) : r);
            const int row = smaller(output, n - 1) + (isGated && (r & 8) ? n : 0);
            const u16 *source = w + (u64)row * k + (column < k ? column : 0);
            copy16_async(wTiles + turn * wBytes + TILE_PLACE(rowBytes, r, piece), source, column < k && output < n);
        }
    };
    float product[rowPieces][columnPieces * 2][4];
    UNROLL
    for (int i = 0; i < rowPieces; i++)
        UNROLL
        for (int j = 0; j < columnPieces * 2; j++)
            product[i][j][0] = product[i][j][1] = product[i][j][2] = product[i][j][3] = 0.f;
    const int steps = divide_up(k, GEMM_STEP);
    const u32 leftPlace = warpRow * rowBytes + left_place(rowBytes);
    const u32 rightPlace = warpColumn * rowBytes + right_place(rowBytes);
    RELEASE_NEXT_KERNEL();
    // Nobody writes weights while a step runs, so the first of them come while the kernel before is still at work.
    UNROLL
    for (int turn = 0; turn < turns - 1; turn++)
        if (turn < steps) loadW(turn * GEMM_STEP, turn);
    AWAIT_EARLIER_KERNELS();
    UNROLL
    for (int turn = 0; turn < turns - 1; turn++) {
        if (turn < steps) loadA(turn * GEMM_STEP, turn);
        commit_copies();
    }
    int turn = 0, nextTurn = turns - 1;
    for (int step = 0; step < steps; step++) {
        WAIT_FOR_COPIES(turns - 2);
        // Behind this barrier the tile has come, and the one before it has been used by all.
        BARRIER();
        if (step + turns - 1 < steps) {
            loadA((step + turns - 1) * GEMM_STEP, nextTurn);
            loadW((step + turns - 1) * GEMM_STEP, nextTurn);
        }
        commit_copies();
        const u32 aTile = aTiles + turn * aBytes, wTile = wTiles + turn * wBytes;
        nextTurn = turn;
        turn = turn + 1 == turns ? 0 : turn + 1;
        UNROLL
        for (int kStep = 0; kStep < GEMM_STEP / 16; kStep++) {
            u32 left[rowPieces][4], right[columnPieces][4];
            UNROLL
            for (int i = 0; i < rowPieces; i++)
                load_matrices(left[i], aTile + i * 16 * rowBytes + (leftPlace ^ (32 * kStep)));
            UNROLL
            for (int j = 0; j < columnPieces; j++)
                load_matrices(right[j], wTile + j * 16 * rowBytes + (rightPlace ^ (32 * kStep)));
            UNROLL
            for (int i = 0; i < rowPieces; i++)
                UNROLL
                for (int j = 0; j < columnPieces; j++) {
                    const u32 low[2] = {right[j][0], right[j][1]}, high[2] = {right[j][2], right[j][3]};
                    multiply_add(product[i][j * 2], left[i], low);
                    multiply_add(product[i][j * 2 + 1], left[i], high);
                }
        }
    }
    const bool isAligned = (dStride & 1) == 0;
    UNROLL
    for (int i = 0; i < rowPieces; i++)
        UNROLL
        for (int h = 0; h < 2; h++) {
            const int row = firstRow + warpRow + i * 16 + group + h * 8;
            if (row >= m) continue;
            UNROLL
            for (int j = 0; j < columnPieces * (isGated ? 1 : 2); j++) {
                const int column = firstColumn + (isGated ? warpColumn / 2 : warpColumn) + j * 8 + quad * 2;
                if (column >= n) continue;
                const bool hasSecond = column + 1 < n;
                float first, second;
                if (isGated) {
                    first = gated(product[i][j * 2][h * 2], product[i][j * 2 + 1][h * 2], isGELU);
                    second = gated(product[i][j * 2][h * 2 + 1], product[i][j * 2 + 1][h * 2 + 1], isGELU);
                } else {
                    first = product[i][j][h * 2], second = product[i][j][h * 2 + 1];
                    if (bias) first += to_float(bias[column]);
                    if (bias && hasSecond) second += to_float(bias[column + 1]);
                }
                store_products(d + (u64)row * dStride + column, first, second, hasSecond, isAligned);
            }
        }
}

// Blocks are (rows / tile's rows, columns / tile's columns). K and aStride are multiples of 8.
#define GEMM(name, Tiling, Output)                                                                                    \
    KERNEL(GEMM_THREADS, 2)                                                                                           \
    name(const u16 *a, int aStride, const u16 *w, const u16 *bias, Output *d, int dStride, int m, int n, int k) {     \
        DYNAMIC_SHARED(memory);                                                                                       \
        gemm<Tiling, false>(memory, a, aStride, w, bias, d, dStride, m, n, k, false);                                 \
    }

GEMM(gemm_bf16, GEMMTiles64x64, u16)
GEMM(gemm_bf16_128x64, GEMMTiles128x64, u16)
GEMM(gemm_bf16_128x128, GEMMTiles128x128, u16)
GEMM(gemm_bf16_f32out, GEMMTiles64x64, float)
GEMM(gemm_bf16_f32out_128x64, GEMMTiles128x64, float)
GEMM(gemm_bf16_f32out_128x128, GEMMTiles128x128, float)

// Y = activation(A gate^T) * (A up^T) with W = [gate | up] of `intermediate` rows each. Blocks are (rows / tile's rows,
// intermediate / half of the tile's columns).
#define GEMM_GATED(name, Tiling)                                                                                      \
    KERNEL(GEMM_THREADS, 2)                                                                                           \
    name(const u16 *a, int aStride, const u16 *w, u16 *y, int yStride, int m, int intermediate, int k, int isGELU) {  \
        DYNAMIC_SHARED(memory);                                                                                       \
        gemm<Tiling, true>(memory, a, aStride, w, (const u16 *)0, y, yStride, m, intermediate, k, isGELU != 0);       \
    }

GEMM_GATED(gemm_gated, GEMMTiles64x64)
GEMM_GATED(gemm_gated_128x64, GEMMTiles128x64)
GEMM_GATED(gemm_gated_128x128, GEMMTiles128x128)
