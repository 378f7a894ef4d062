// Tandem — Apache-2.0

/* Row operations: activation formats, normalization, rotary embedding, gated activations, conversions. */

/* One block of 32 values becomes quants, a scale and the scaled sum of the quants; returns what follows. */
INLINE int8_t *quantize_block(vf lo, vf hi, int8_t *out) {
    const float largest = vf_largest(vf_max(vf_abs(lo), vf_abs(hi)));
    /* Smaller blocks would overflow 127 / largest; they are zero to every weight. */
    const bool zero = largest < 1e-30f;
    const float scale = zero ? 0.0f : largest / 127.0f, inverse = zero ? 0.0f : 127.0f / largest;
    const vi quants[2] = {vi_round(lo * inverse), vi_round(hi * inverse)};
    const float total = (float)__builtin_reduce_add(quants[0] + quants[1]) * scale;
    UNROLL for (int i = 0; i < 2; i++) {
        const vb bytes = __builtin_convertvector(quants[i], vb);
        memcpy(out + 16 * i, &bytes, 16);
    }
    memcpy(out + 32, &scale, 4);
    memcpy(out + 36, &total, 4);
    return out + 40;
}

static void quantize_row_int8(const float *x, ptrdiff_t k, void *out) {
    int8_t *at = out;
    ptrdiff_t i = 0;
    for (; i + 32 <= k; i += 32) at = quantize_block(vf_load(x + i), vf_load(x + i + 16), at);
    if (i < k) {
        float tail[32] = {0};
        memcpy(tail, x + i, (size_t)(k - i) * sizeof(float));
        quantize_block(vf_load(tail), vf_load(tail + 16), at);
    }
}

static void quantize_row_int16(const float *x, ptrdiff_t k, void *out) {
    int8_t *coarse = out, *fine = coarse + tandem_row_bytes_int8(k);
    for (ptrdiff_t i = 0; i < k; i += 32) {
        float values[32] = {0}, rest[32];
        memcpy(values, x + i, (size_t)(k - i < 32 ? k - i : 32) * sizeof(float));
        const int8_t *quants = coarse;
        coarse = quantize_block(vf_load(values), vf_load(values + 16), coarse);
        float scale;
        memcpy(&scale, quants + 32, 4);
        for (int j = 0; j < 32; j++) rest[j] = values[j] - scale * (float)quants[j];
        fine = quantize_block(vf_load(rest), vf_load(rest + 16), fine);
    }
}

static void round_row_bf16(const float *x, ptrdiff_t k, void *out) {
    const ptrdiff_t padded = tandem_row_bytes_bf16(k) / 2;
    for (ptrdiff_t i = 0; i < padded; i += 16) {
        const ptrdiff_t left = k - i;
        const vf v = left >= 16 ? vf_load(x + i) : left > 0 ? vf_load_partial(x + i, left, 0.0f) : vf_splat(0.0f);
        store_bf16((uint16_t *)out + i, v);
    }
}

static void rmsnorm(const float *x, const float *weight, ptrdiff_t n, float epsilon, float *out) {
    vf sums[4] = {0};
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64) {
        UNROLL for (int j = 0; j < 4; j++) {
            const vf v = vf_load(x + i + 16 * j);
            sums[j] = vf_fma(v, v, sums[j]);
        }
    }
    for (; i < n; i += 16) {
        const vf v = n - i >= 16 ? vf_load(x + i) : vf_load_partial(x + i, n - i, 0.0f);
        sums[0] = vf_fma(v, v, sums[0]);
    }
    const float mean = vf_sum((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)n;
    const float scale = 1.0f / __builtin_elementwise_sqrt(mean + epsilon);
    for (i = 0; i + 16 <= n; i += 16) vf_store(out + i, vf_load(x + i) * scale * vf_load(weight + i));
    for (; i < n; i++) out[i] = x[i] * scale * weight[i];
}

static void rope_rows(float *x, ptrdiff_t count, ptrdiff_t head_dim, const float *cosines, const float *sines) {
    const ptrdiff_t half = head_dim / 2;
    for (float *head = x, *end = x + count * head_dim; head < end; head += head_dim) {
        ptrdiff_t i = 0;
        for (; i + 16 <= half; i += 16) {
            const vf a = vf_load(head + i), b = vf_load(head + half + i);
            const vf c = vf_load(cosines + i), s = vf_load(sines + i);
            vf_store(head + i, a * c - b * s);
            vf_store(head + half + i, b * c + a * s);
        }
        for (; i < half; i++) {
            const float a = head[i], b = head[half + i];
            head[i] = a * cosines[i] - b * sines[i];
            head[half + i] = b * cosines[i] + a * sines[i];
        }
    }
}

INLINE vf vf_silu(vf x) { return x / (1.0f + vf_exp(-x)); }

/* x/2 (1 + tanh z) = x / (1 + exp(-2 z)), z = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf vf_gelu_tanh(vf x) {
    const vf z = 0.7978845608f * (x + 0.044715f * x * x * x);
    return x / (1.0f + vf_exp(-2.0f * z));
}

INLINE void gated(const bool gelu, const float *gate, const float *up, ptrdiff_t n, float *out) {
    for (ptrdiff_t i = 0; i < n; i += 16) {
        const ptrdiff_t left = n - i;
        const vf g = left >= 16 ? vf_load(gate + i) : vf_load_partial(gate + i, left, 0.0f);
        const vf u = left >= 16 ? vf_load(up + i) : vf_load_partial(up + i, left, 0.0f);
        const vf result = (gelu ? vf_gelu_tanh(g) : vf_silu(g)) * u;
        if (left >= 16) vf_store(out + i, result);
        else vf_store_partial(out + i, left, result);
    }
}

static void silu_mul(const float *gate, const float *up, ptrdiff_t n, float *out) { gated(false, gate, up, n, out); }

static void gelu_tanh_mul(const float *gate, const float *up, ptrdiff_t n, float *out) {
    gated(true, gate, up, n, out);
}

static void add(float *x, const float *y, ptrdiff_t n) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) vf_store(x + i, vf_load(x + i) + vf_load(y + i));
    for (; i < n; i++) x[i] += y[i];
}

static void f16_from_f32(const float *x, ptrdiff_t n, uint16_t *out) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) vf_to_half(out + i, vf_load(x + i));
    if (i < n) {
        uint16_t tail[16];
        vf_to_half(tail, vf_load_partial(x + i, n - i, 0.0f));
        memcpy(out + i, tail, (size_t)(n - i) * 2);
    }
}

static void f32_from_f16(const uint16_t *x, ptrdiff_t n, float *out) {
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) vf_store(out + i, vf_from_half(x + i));
    if (i < n) {
        uint16_t tail[16] = {0};
        memcpy(tail, x + i, (size_t)(n - i) * 2);
        vf_store_partial(out + i, n - i, vf_from_half(tail));
    }
}

static void f32_from_bf16(const uint16_t *x, ptrdiff_t n, float *out) {
    for (ptrdiff_t i = 0; i < n; i++) out[i] = float_of_bits((uint32_t)x[i] << 16);
}
