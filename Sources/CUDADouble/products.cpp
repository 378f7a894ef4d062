// Tandem — Apache-2.0

#include <cstring>
#include <memory>

#include "products.hpp"

namespace cuda_double {
namespace {

/// 16 sums at once, in as many registers as the machine needs for them.
typedef float Lanes __attribute__((vector_size(64)));
typedef uint32_t LaneBits __attribute__((vector_size(64)));
typedef uint16_t HalfLanes __attribute__((vector_size(32)));

constexpr size_t width = 16;
/// Rows of the input that share one pass over a weight's row.
constexpr size_t block = 4;
/// Partial sums of one result, so that additions need not wait for each other.
constexpr size_t parts = 2;

#define ALWAYS_INLINE inline __attribute__((always_inline))

/// Bfloat16 to float, the end padded with zeros to whole lanes.
ALWAYS_INLINE void widen(const uint16_t *from, float *to, size_t count, size_t padded) {
    size_t i = 0;
    for (; i + width <= count; i += width) {
        HalfLanes half;
        memcpy(&half, from + i, sizeof half);
        LaneBits bits = __builtin_convertvector(half, LaneBits) << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
    for (; i < count; i++) {
        uint32_t bits = uint32_t(from[i]) << 16;
        memcpy(to + i, &bits, sizeof bits);
    }
    for (; i < padded; i++) to[i] = 0;
}

inline uint16_t narrowed(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    // Not a number stays so.
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

ALWAYS_INLINE float sum(const Lanes &lanes) {
    float total = 0;
    for (size_t i = 0; i < width; i++) total += lanes[i];
    return total;
}

/// Products of `count` rows of the input with one row of the weight.
template <size_t count>
ALWAYS_INLINE void dot(const float *input, const float *weight, size_t padded, float *results) {
    Lanes sums[count][parts] = {};
    for (size_t k = 0; k < padded; k += width * parts) {
        for (size_t part = 0; part < parts; part++) {
            Lanes w;
            memcpy(&w, weight + k + part * width, sizeof w);
            for (size_t row = 0; row < count; row++) {
                Lanes x;
                memcpy(&x, input + row * padded + k + part * width, sizeof x);
                sums[row][part] += x * w;
            }
        }
    }
    for (size_t row = 0; row < count; row++) {
        Lanes all = sums[row][0];
        for (size_t part = 1; part < parts; part++) all += sums[row][part];
        results[row] = sum(all);
    }
}

ALWAYS_INLINE void multiply_body(const Product &p) {
    const size_t padded = (p.inputs + width * parts - 1) / (width * parts) * (width * parts);
    // As many rows at a time as stay in the second-level cache beside a row of the weight.
    const size_t rows_at_once = block * ((size_t(256) << 10) / (padded * sizeof(float) * block) + 1);
    std::unique_ptr<float[]> input(new float[rows_at_once * padded]), weight(new float[padded]);
    for (size_t first = 0; first < p.rows; first += rows_at_once) {
        const size_t rows = p.rows - first < rows_at_once ? p.rows - first : rows_at_once;
        for (size_t row = 0; row < rows; row++) {
            widen(p.input + (first + row) * p.input_stride, input.get() + row * padded, p.inputs, padded);
        }
        for (size_t n = 0; n < p.outputs; n++) {
            widen(p.weight + n * p.weight_stride, weight.get(), p.inputs, padded);
            float bias = 0;
            if (p.bias) {
                uint32_t bits = uint32_t(p.bias[n]) << 16;
                memcpy(&bias, &bits, sizeof bias);
            }
            for (size_t row = 0; row < rows; row += block) {
                const float *x = input.get() + row * padded;
                const size_t count = rows - row < block ? rows - row : block;
                float results[block];
                switch (count) {
                case 1: dot<1>(x, weight.get(), padded, results); break;
                case 2: dot<2>(x, weight.get(), padded, results); break;
                case 3: dot<3>(x, weight.get(), padded, results); break;
                default: dot<4>(x, weight.get(), padded, results); break;
                }
                for (size_t i = 0; i < count; i++) {
                    const size_t at = (first + row + i) * p.output_stride + n;
                    if (p.is_float) {
                        static_cast<float *>(p.output)[at] = results[i] + bias;
                    } else {
                        static_cast<uint16_t *>(p.output)[at] = narrowed(results[i] + bias);
                    }
                }
            }
        }
    }
}

void multiply_portable(const Product &product) { multiply_body(product); }

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void multiply_avx2(const Product &product) { multiply_body(product); }

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"))) void multiply_avx512(const Product &product) {
    multiply_body(product);
}
#endif

}  // namespace

void multiply(const Product &product) {
#if defined(__x86_64__)
    static const int level = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                                     __builtin_cpu_supports("avx512dq")
                                 ? 2
                             : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1
                                                                                              : 0;
    if (level == 2) return multiply_avx512(product);
    if (level == 1) return multiply_avx2(product);
#endif
    multiply_portable(product);
}

}  // namespace cuda_double
