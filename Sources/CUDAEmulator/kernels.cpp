// Tandem — Apache-2.0
//
// The kernels' text, compiled for a CPU.
#include "vocabulary.hpp"

#include "registry.hpp"

namespace emulated {
#include "../CUDAKernelText/Kernels/kernels.cu"
}  // namespace emulated

namespace emulator {

#define LISTED(name, threadLimit) makeKernel<&emulated::name>(#name, threadLimit)

const std::vector<Kernel> &kernels() {
    static const std::vector<Kernel> all = {
        LISTED(embed_tokens, 128),
        LISTED(add_rms_norm, 256),
        LISTED(head_norm, 256),
        LISTED(head_norm_f32, 256),
        LISTED(rotate_and_store, 256),
        LISTED(attention_decode_h64, 128),
        LISTED(attention_decode_h64_w2, 64),
        LISTED(attention_decode_h64_w1, 32),
        LISTED(attention_decode_h128, 128),
        LISTED(attention_decode_h128_w2, 64),
        LISTED(attention_decode_h128_w1, 32),
        LISTED(attention_decode_h256, 128),
        LISTED(attention_decode_h256_w2, 64),
        LISTED(attention_decode_h256_w1, 32),
        LISTED(attention_combine, 128),
        LISTED(attention_prefill_h64, 128),
        LISTED(attention_prefill_h64_r64, 128),
        LISTED(attention_prefill_h128, 128),
        LISTED(attention_prefill_h128_r64, 128),
        LISTED(attention_prefill_h256, 128),
        LISTED(attention_prefill_h64_wgmma, 256),
        LISTED(attention_prefill_h128_wgmma, 256),
        LISTED(gated_silu, 256),
        LISTED(gated_gelu_tanh, 256),
        LISTED(gemm_bf16, 128),
        LISTED(gemm_bf16_128x64, 128),
        LISTED(gemm_bf16_128x128, 128),
        LISTED(gemm_bf16_f32out, 128),
        LISTED(gemm_bf16_f32out_128x64, 128),
        LISTED(gemm_bf16_f32out_128x128, 128),
        LISTED(gemm_gated, 128),
        LISTED(gemm_gated_128x64, 128),
        LISTED(gemm_gated_128x128, 128),
        LISTED(adjust_logits, 256),
        LISTED(restore_logits, 256),
        LISTED(note_tokens, 256),
        LISTED(logit_statistics, 1024),
        LISTED(gather_log_probabilities, 1024),
        LISTED(top_log_probabilities, 1024),
        LISTED(sample_rows, 1024),
        LISTED(scatter_tables, 128),
        LISTED(copy_blocks, 256),
        LISTED(fill_random, 256),
        LISTED(fill_random_f32, 256),
        LISTED(fill_bytes, 256),
    };
    return all;
}

}  // namespace emulator
