// Tandem — Apache-2.0

// Starts the residual stream: the tokens' rows of the embedding table, scaled. One block a token.
// A negative token stands for the one that the token's slot sampled last.
KERNEL(128, 1) embed_tokens(const u16 *table, const int *tokens, const int *slots, const int *lastTokens,
                            float *residual, int hidden, float scale) {
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    const int index = blockIdx.x;
    int token = tokens[index];
    if (token < 0) token = lastTokens[slots[index]];
    const u16 *source = table + (u64)token * hidden;
    float *destination = residual + (u64)index * hidden;
    for (int i = threadIdx.x * 8; i < hidden; i += blockDim.x * 8) {
        float values[8];
        unpack8(values, load16(source + i));
        UNROLL
        for (int j = 0; j < 8; j++) values[j] *= scale;
        store8(destination + i, values);
    }
}
