// Tandem — Apache-2.0

/* Reductions over one row of logits. One thread does one row; sums are taken per 1024 values in float and over those in
 * double, in one fixed order. */

INLINE vf load_or(const float *x, ptrdiff_t i, ptrdiff_t n, float fill) {
    return n - i >= 16 ? vf_load(x + i) : vf_load_partial(x + i, n - i, fill);
}

static float row_max(const float *x, ptrdiff_t n) {
    vf best[4];
    UNROLL for (int j = 0; j < 4; j++) best[j] = vf_splat(-__builtin_inff());
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64) {
        UNROLL for (int j = 0; j < 4; j++) best[j] = vf_max(vf_load(x + i + 16 * j), best[j]);
    }
    for (; i < n; i += 16) best[0] = vf_max(load_or(x, i, n, -__builtin_inff()), best[0]);
    return vf_largest(vf_max(vf_max(best[0], best[1]), vf_max(best[2], best[3])));
}

static ptrdiff_t argmax(const float *x, ptrdiff_t n) {
    const float largest = row_max(x, n);
    ptrdiff_t i = 0;
    while (i + 16 <= n && !__builtin_reduce_or(vf_load(x + i) == largest)) i += 16;
    while (i < n && x[i] != largest) i++;
    return i < n ? i : 0;
}

/* Stores exp((x - largest) * factor) where `out` is given; returns the sum. */
INLINE double exp_sum(const float *x, ptrdiff_t n, float largest, float factor, float *out) {
    double total = 0;
    for (ptrdiff_t i = 0; i < n;) {
        const ptrdiff_t end = n - i < 1024 ? n : i + 1024;
        vf sum = vf_splat(0.0f);
        for (; i < end; i += 16) {
            const vf e = vf_exp((load_or(x, i, n, -__builtin_inff()) - largest) * factor);
            sum += e;
            if (out && n - i >= 16) vf_store(out + i, e);
            else if (out) vf_store_partial(out + i, n - i, e);
        }
        total += (double)vf_sum(sum);
    }
    return total;
}

static float log_sum_exp(const float *x, ptrdiff_t n, float inverse_temperature) {
    const float largest = row_max(x, n);
    if (__builtin_isinf(largest)) return largest;
    const double sum = exp_sum(x, n, largest, inverse_temperature, NULL);
    return (float)((double)largest * (double)inverse_temperature + __builtin_log(sum));
}

static void softmax_row(const float *x, ptrdiff_t n, float inverse_temperature, float *out) {
    const double sum = exp_sum(x, n, row_max(x, n), inverse_temperature, out);
    const float factor = (float)(1.0 / sum);
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16) vf_store(out + i, vf_load(out + i) * factor);
    for (; i < n; i++) out[i] *= factor;
}

static void exp_row(const float *x, ptrdiff_t n, float *out) {
    for (ptrdiff_t i = 0; i < n; i += 16) {
        const vf e = vf_exp(load_or(x, i, n, 0.0f));
        if (n - i >= 16) vf_store(out + i, e);
        else vf_store_partial(out + i, n - i, e);
    }
}

static ptrdiff_t top_k(const float *x, ptrdiff_t n, ptrdiff_t k, int32_t *indices, float *values) {
    if (k > TANDEM_MAX_TOP_K) k = TANDEM_MAX_TOP_K;
    if (k <= 0) return 0;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        /* Only a value above the k-th best can enter a full list: skip stretches without one. */
        while (count == k && i + 32 <= n &&
               !__builtin_reduce_or((vf_load(x + i) > values[k - 1]) | (vf_load(x + i + 16) > values[k - 1])))
            i += 32;
        if (i >= n) break;
        const float value = x[i];
        if (value != value || (count == k && !(value > values[k - 1]))) continue;
        ptrdiff_t at = count < k ? count++ : k - 1;
        for (; at > 0 && values[at - 1] < value; at--) {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
        }
        values[at] = value;
        indices[at] = (int32_t)i;
    }
    return count;
}
