// Tandem — Apache-2.0
//
// D (M x N) = A (M x K) W (N x K)^T, with a bias where there is one. An element is summed over K in steps of 16 in one
// order, whatever M and N are and wherever its row stands: the same row gives the same bits in any batch.
//
// A block of four warps takes a tile of 64 x 64, a warp 32 x 32 of it; tiles of 64 along K come in three turns.

#define GEMM_TILE 64
#define GEMM_TURNS 3

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

template <typename Output>
DEVICE void gemm(unsigned char *memory, const u16 *__restrict__ a, int aStride, const u16 *__restrict__ w,
                 const u16 *__restrict__ bias, Output *__restrict__ d, int dStride, int m, int n, int k) {
    constexpr int chunks = GEMM_TILE / 8, rowBytes = GEMM_TILE * 2, tileBytes = GEMM_TILE * rowBytes;
    const int lane = lane_index(), warp = warp_index(), group = lane >> 2, quad = lane & 3;
    const int firstRow = blockIdx.x * GEMM_TILE, firstColumn = blockIdx.y * GEMM_TILE;
    const int warpRow = (warp & 1) * 32, warpColumn = (warp >> 1) * 32;
    const u32 aTiles = shared_address(memory), wTiles = aTiles + GEMM_TURNS * tileBytes;
    auto load = [&](int firstK, int turn) {
        for (int i = threadIdx.x; i < GEMM_TILE * chunks; i += 128) {
            const int r = i / chunks, c = i % chunks, column = firstK + c * 8;
            const u32 place = turn * tileBytes + TILE_PLACE(rowBytes, r, c);
            const bool hasColumn = column < k;
            const int safeColumn = hasColumn ? column : 0;
            const int aRow = smaller(firstRow + r, m - 1), wRow = smaller(firstColumn + r, n - 1);
            copy16_async(aTiles + place, a + (u64)aRow * aStride + safeColumn, hasColumn && firstRow + r < m);
            copy16_async(wTiles + place, w + (u64)wRow * k + safeColumn, hasColumn && firstColumn + r < n);
        }
    };
    float product[2][4][4];
    UNROLL
    for (int i = 0; i < 2; i++)
        UNROLL
        for (int j = 0; j < 4; j++) product[i][j][0] = product[i][j][1] = product[i][j][2] = product[i][j][3] = 0.f;
    const int steps = divide_up(k, GEMM_TILE);
    const u32 leftPlace = warpRow * rowBytes + left_place(rowBytes);
    const u32 rightPlace = warpColumn * rowBytes + right_place(rowBytes);
    UNROLL
    for (int turn = 0; turn < GEMM_TURNS - 1; turn++) {
        if (turn < steps) load(turn * GEMM_TILE, turn);
        commit_copies();
    }
    for (int step = 0; step < steps; step++) {
        WAIT_FOR_COPIES(GEMM_TURNS - 2);
        // Behind this barrier the tile has come, and the one before it has been used by all.
        BARRIER();
        const int next = step + GEMM_TURNS - 1;
        if (next < steps) load(next * GEMM_TILE, next % GEMM_TURNS);
        commit_copies();
        const u32 aTile = aTiles + step % GEMM_TURNS * tileBytes, wTile = wTiles + step % GEMM_TURNS * tileBytes;
        UNROLL
        for (int kStep = 0; kStep < GEMM_TILE / 16; kStep++) {
            u32 left[2][4], right[2][4];
            UNROLL
            for (int i = 0; i < 2; i++) {
                load_matrices(left[i], aTile + i * 16 * rowBytes + (leftPlace ^ (32 * kStep)));
                load_matrices(right[i], wTile + i * 16 * rowBytes + (rightPlace ^ (32 * kStep)));
            }
            UNROLL
            for (int i = 0; i < 2; i++)
                UNROLL
                for (int j = 0; j < 2; j++) {
                    const u32 low[2] = {right[j][0], right[j][1]}, high[2] = {right[j][2], right[j][3]};
                    multiply_add(product[i][j * 2], left[i], low);
                    multiply_add(product[i][j * 2 + 1], left[i], high);
                }
        }
    }
    const bool isAligned = (dStride & 1) == 0;
    UNROLL
    for (int i = 0; i < 2; i++)
        UNROLL
        for (int j = 0; j < 4; j++)
            UNROLL
            for (int h = 0; h < 2; h++) {
                const int row = firstRow + warpRow + i * 16 + group + h * 8;
                const int column = firstColumn + warpColumn + j * 8 + quad * 2;
                if (row >= m || column >= n) continue;
                const bool hasSecond = column + 1 < n;
                float first = product[i][j][h * 2], second = product[i][j][h * 2 + 1];
                if (bias) first += to_float(bias[column]);
                if (bias && hasSecond) second += to_float(bias[column + 1]);
                store_products(d + (u64)row * dStride + column, first, second, hasSecond, isAligned);
            }
}

// Blocks are (rows / 64, columns / 64). K and aStride are multiples of 8.
KERNEL(128, 1) gemm_bf16(const u16 *a, int aStride, const u16 *w, const u16 *bias, u16 *d, int dStride, int m, int n,
                         int k) {
    DYNAMIC_SHARED(memory);
    gemm(memory, a, aStride, w, bias, d, dStride, m, n, k);
}
KERNEL(128, 1) gemm_bf16_f32out(const u16 *a, int aStride, const u16 *w, const u16 *bias, float *d, int dStride, int m,
                                int n, int k) {
    DYNAMIC_SHARED(memory);
    gemm(memory, a, aStride, w, bias, d, dStride, m, n, k);
}
