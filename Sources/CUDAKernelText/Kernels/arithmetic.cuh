// Tandem — Apache-2.0
//
// Small helpers that are the same on a GPU and in the emulator.

DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }
DEVICE float larger(float a, float b) { return a > b ? a : b; }
DEVICE int divide_up(int a, int b) { return (a + b - 1) / b; }

// Eight bfloat16 of one 16-byte load.
DEVICE void unpack8(float (&values)[8], uint4 packed) {
    const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
        values[2 * i] = bits_float(words[i] << 16);
        values[2 * i + 1] = bits_float(words[i] & 0xffff0000u);
    }
}
DEVICE uint4 pack8(const float (&values)[8]) {
    uint4 packed;
    packed.x = pack_bf16(values[0], values[1]);
    packed.y = pack_bf16(values[2], values[3]);
    packed.z = pack_bf16(values[4], values[5]);
    packed.w = pack_bf16(values[6], values[7]);
    return packed;
}
DEVICE void load8(float (&values)[8], const float *address) {
    const float4 low = load_floats(address), high = load_floats(address + 4);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}
DEVICE void store8(float *address, const float (&values)[8]) {
    float4 low, high;
    low.x = values[0], low.y = values[1], low.z = values[2], low.w = values[3];
    high.x = values[4], high.y = values[5], high.z = values[6], high.w = values[7];
    store_floats(address, low);
    store_floats(address + 4, high);
}

// Sum over a warp, the same bits in every lane.
DEVICE float warp_sum(float value) {
    UNROLL
    for (int mask = 16; mask > 0; mask >>= 1) value += shuffle_xor(value, mask);
    return value;
}

// Sum over a block of up to 8 warps, the same bits in every thread. `scratch` is used by this call alone.
DEVICE float block_sum(float value, float *scratch) {
    value = warp_sum(value);
    if (lane_index() == 0) scratch[warp_index()] = value;
    BARRIER();
    float sum = 0.f;
    const int warps = blockDim.x >> 5;
    for (int warp = 0; warp < warps; warp++) sum += scratch[warp];
    return sum;
}

// One block's share of memory that the next kernel will read: weights, which no step writes, so that kernels need wait for
// nothing before. `bytes` is a multiple of 16 and at most 16 MiB; 0 brings nothing.
DEVICE void prefetch_share(const unsigned char *memory, u32 bytes, u32 block, u32 blocks) {
    if (bytes == 0 || threadIdx.x != 0) return;
    const u32 share = ((bytes + blocks - 1) / blocks + 127) / 128 * 128;
    const u32 start = block * share, end = start + share < bytes ? start + share : bytes;
    // An instruction brings less than 1 MiB: its size has 16 bits, in pieces of 16 bytes.
    const u32 piece = 512 << 10;
    for (u32 place = start; place < end; place += piece)
        prefetch(memory + place, end - place < piece ? end - place : piece);
}

// The finalizer of SplitMix64, as in StableHash.mix.
DEVICE u64 mix(u64 word) {
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9ull;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBull;
    return word ^ (word >> 31);
}

// MARK: Tiles of bfloat16 in shared memory. A row has `rowBytes` bytes, a multiple of 128; its 16-byte pieces lie where
// SWIZZLE says.

// Byte of a piece from the tile's start.
#define TILE_PLACE(rowBytes, row, piece) ((row) * (rowBytes) + SWIZZLE(row, piece) * 16)

// Where a lane reads its row of four 8x8 matrices that make 16 rows and the 32 bytes from byte 32 k on: the result, in
// which ^ (32 k) takes the step along the row and + (16 rowBytes) the one to the next rows. `rowOf8` and `half` say which
// of the matrices' rows and which half of the 32 bytes the lane names.
DEVICE u32 matrix_place(int rowBytes, int rowOf8, int row, int half) { return row * rowBytes + ((half ^ rowOf8) << 4); }
// Matrices in the order of a left operand: rows 0-7, rows 8-15, then the same of the second 16 bytes.
DEVICE u32 left_place(int rowBytes) {
    const int lane = lane_index();
    return matrix_place(rowBytes, lane & 7, lane & 15, lane >> 4);
}
// In the order of two right operands: both halves of rows 0-7, then of rows 8-15.
DEVICE u32 right_place(int rowBytes) {
    const int lane = lane_index();
    return matrix_place(rowBytes, lane & 7, (lane & 7) + (lane >> 4 << 3), lane >> 3 & 1);
}
