// Tandem — Apache-2.0

// Matrix products on the CPU.

#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_double {

/// output[row][n] = sum over k of input[row][k] * weight[n][k] (+ bias[n]); input, weight and bias are bfloat16.
struct Product {
    size_t rows, outputs, inputs;
    const uint16_t *input, *weight;
    size_t input_stride, weight_stride, output_stride;
    /// Null for none.
    const uint16_t *bias;
    /// Of float if `is_float`, else of bfloat16.
    void *output;
    bool is_float;
};

/// The sums are made in an order that depends on `inputs` only: a row's result is the same in any batch.
void multiply(const Product &product);

}  // namespace cuda_double
