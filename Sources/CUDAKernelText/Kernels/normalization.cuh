// Tandem — Apache-2.0
//
// RMS norm (Zhang and Sennrich, "Root mean square layer normalization", 2019) with what stands around it in a decoder.
// A row stays in registers between its passes: 8 values a thread and piece, pieces blockDim.x * 8 apart.

#define NORM_PIECES 4

DEVICE void write_normalized(u16 *address, const float (&values)[8]) { store16(address, pack8(values)); }
DEVICE void write_normalized(float *address, const float (&values)[8]) { store8(address, values); }

DEVICE float sum_of_squares(const float (&values)[NORM_PIECES][8]) {
    float sum = 0.f;
    UNROLL
    for (int piece = 0; piece < NORM_PIECES; piece++)
        UNROLL
        for (int j = 0; j < 8; j++) sum += values[piece][j] * values[piece][j];
    return sum;
}

// residual += postWeight ? norm(x) * postWeight : x, written back if `writesResidual`; y = norm(residual) * weight.
// x, postWeight and weight may be absent.
template <bool writesResidual, typename Output>
DEVICE void normalize(float *residual, const u16 *x, const float *postWeight, const float *weight, Output *y,
                      int hidden, float epsilon, float *scratch) {
    const int step = blockDim.x * 8, first = threadIdx.x * 8;
    float values[NORM_PIECES][8];
    UNROLL
    for (int piece = 0; piece < NORM_PIECES; piece++) {
        const int i = first + piece * step;
        UNROLL
        for (int j = 0; j < 8; j++) values[piece][j] = 0.f;
        if (x && i < hidden) unpack8(values[piece], load16(x + i));
    }
    if (x && postWeight) {
        const float factor = inverse_root(block_sum(sum_of_squares(values), scratch) / hidden + epsilon);
        UNROLL
        for (int piece = 0; piece < NORM_PIECES; piece++) {
            const int i = first + piece * step;
            if (i >= hidden) continue;
            float weights[8];
            load8(weights, postWeight + i);
            UNROLL
            for (int j = 0; j < 8; j++) values[piece][j] = values[piece][j] * factor * weights[j];
        }
    }
    UNROLL
    for (int piece = 0; piece < NORM_PIECES; piece++) {
        const int i = first + piece * step;
        if (i >= hidden) continue;
        float before[8];
        load8(before, residual + i);
        UNROLL
        for (int j = 0; j < 8; j++) values[piece][j] += before[j];
        if (writesResidual && x) store8(residual + i, values[piece]);
    }
    if (!weight) return;
    const float factor = inverse_root(block_sum(sum_of_squares(values), scratch + 8) / hidden + epsilon);
    UNROLL
    for (int piece = 0; piece < NORM_PIECES; piece++) {
        const int i = first + piece * step;
        if (i >= hidden) continue;
        float weights[8];
        load8(weights, weight + i);
        UNROLL
        for (int j = 0; j < 8; j++) weights[j] = values[piece][j] * factor * weights[j];
        write_normalized(y + i, weights);
    }
}

// One block a token, of hidden / 8 threads and at most 256.
KERNEL(256, 1) add_rms_norm(float *residual, const u16 *x, const float *postWeight, const float *weight, u16 *y,
                            int hidden, float epsilon) {
    SHARED(float, scratch, [16]);
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    const u64 row = (u64)blockIdx.x * hidden;
    normalize<true>(residual + row, x ? x + row : x, postWeight, weight, y + row, hidden, epsilon, scratch);
}

// As `add_rms_norm` for chosen tokens: row i of y is token tokens[i], and the residual stream stays as it is, so that a
// token may be asked for twice. A negative token is a row of padding and leaves y as it is.
KERNEL(256, 1) head_norm(float *residual, const u16 *x, const float *postWeight, const float *weight,
                         const int *tokens, u16 *y, int hidden, float epsilon) {
    SHARED(float, scratch, [16]);
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    if (tokens[blockIdx.x] < 0) return;
    const u64 row = (u64)tokens[blockIdx.x] * hidden;
    normalize<false>(residual + row, x ? x + row : x, postWeight, weight, y + (u64)blockIdx.x * hidden, hidden,
                     epsilon, scratch);
}

// As `head_norm` with floats as the result: hidden states that are reported or pooled.
KERNEL(256, 1) head_norm_f32(float *residual, const u16 *x, const float *postWeight, const float *weight,
                             const int *tokens, float *y, int hidden, float epsilon) {
    SHARED(float, scratch, [16]);
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    if (tokens[blockIdx.x] < 0) return;
    const u64 row = (u64)tokens[blockIdx.x] * hidden;
    normalize<false>(residual + row, x ? x + row : x, postWeight, weight, y + (u64)blockIdx.x * hidden, hidden,
                     epsilon, scratch);
}
