// Tandem — Apache-2.0
//
// The gates of feed-forward blocks: a row of gateUp is [gate | up], y = activation(gate) * up. Blocks are (token, part);
// a thread takes 8 values at a time.

DEVICE float silu(float x) { return divide_fast(x, 1.f + exp2_fast(-1.44269504f * x)); }

// The approximation by a hyperbolic tangent (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
DEVICE float gelu_tanh(float x) {
    const float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    // tanh(u) = 1 - 2 / (1 + exp(2 u)); exp overflows to infinity, which gives 1.
    const float tangent = 1.f - divide_fast(2.f, 1.f + exp2_fast(2.f * 1.44269504f * inner));
    return 0.5f * x * (1.f + tangent);
}

template <bool isGELU>
DEVICE void gate(const u16 *gateUp, u16 *y, int intermediate) {
    RELEASE_NEXT_KERNEL();
    AWAIT_EARLIER_KERNELS();
    const u16 *gates = gateUp + (u64)blockIdx.x * 2 * intermediate, *ups = gates + intermediate;
    u16 *row = y + (u64)blockIdx.x * intermediate;
    for (int i = (blockIdx.y * blockDim.x + threadIdx.x) * 8; i < intermediate; i += gridDim.y * blockDim.x * 8) {
        float gates8[8], ups8[8];
        unpack8(gates8, load_once(gates + i));
        unpack8(ups8, load_once(ups + i));
        UNROLL
        for (int j = 0; j < 8; j++) gates8[j] = (isGELU ? gelu_tanh(gates8[j]) : silu(gates8[j])) * ups8[j];
        store16(row + i, pack8(gates8));
    }
}

KERNEL(256, 1) gated_silu(const u16 *gateUp, u16 *y, int intermediate) { gate<false>(gateUp, y, intermediate); }
KERNEL(256, 1) gated_gelu_tanh(const u16 *gateUp, u16 *y, int intermediate) { gate<true>(gateUp, y, intermediate); }
