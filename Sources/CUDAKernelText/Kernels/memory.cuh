// Tandem — Apache-2.0
//
// Block tables, copies of cache blocks, and memory that is filled in place.

// Writes runs of block ids into block tables. One block of threads a run; a run is {first entry from `tables`, count,
// first of its ids in `ids`}.
KERNEL(128, 1) scatter_tables(int *tables, const int *runs, const int *ids) {
    const int *run = runs + 3 * blockIdx.x;
    for (int i = threadIdx.x; i < run[1]; i += blockDim.x) tables[(u64)run[0] + i] = ids[run[2] + i];
}

// Copies keys and values of cache blocks in all layers. Blocks of threads are (pair, layer); a pair is {source,
// destination}; strides and sizes are in elements.
KERNEL(256, 1) copy_blocks(u16 *keys, u16 *values, const int *pairs, u64 layerStride, int blockElements) {
    const int source = pairs[2 * blockIdx.x], destination = pairs[2 * blockIdx.x + 1];
    const u64 layer = blockIdx.y * layerStride;
    const u64 from = layer + (u64)source * blockElements, to = layer + (u64)destination * blockElements;
    for (int i = threadIdx.x * 8; i < blockElements; i += blockDim.x * 8) {
        store16(keys + to + i, load_once(keys + from + i));
        store16(values + to + i, load_once(values + from + i));
    }
}

// Uniform numbers in -scale ..< scale: number i depends on the seed and on i alone.
KERNEL(256, 1) fill_random(u16 *output, u64 count, u64 seed, float scale) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const u32 bits = (u32)(mix(seed + 0x9E3779B97F4A7C15ull * (i + 1)) >> 40);
        output[i] = to_bf16(((float)bits * (1.f / 8388608.f) - 1.f) * scale);
    }
}

// As `fill_random`, in floats around a centre: norm weights and logits of models that are made up.
KERNEL(256, 1) fill_random_f32(float *output, u64 count, u64 seed, float centre, float scale) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const u32 bits = (u32)(mix(seed + 0x9E3779B97F4A7C15ull * (i + 1)) >> 40);
        output[i] = centre + ((float)bits * (1.f / 8388608.f) - 1.f) * scale;
    }
}

KERNEL(256, 1) fill_bytes(unsigned char *output, u64 count, u32 value) {
    const u64 step = (u64)gridDim.x * blockDim.x;
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) output[i] = (unsigned char)value;
}
