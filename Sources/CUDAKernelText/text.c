// Tandem — Apache-2.0
#include "include/tandem_cuda_kernel_text.h"

// `#embed` is of C23; clang has it in older dialects too.
#pragma clang diagnostic ignored "-Wc23-extensions"

static const char kernels[] = {
#embed "Kernels/kernels.cu" suffix(, 0)
};
static const char device[] = {
#embed "Kernels/device.cuh" suffix(, 0)
};
static const char arithmetic[] = {
#embed "Kernels/arithmetic.cuh" suffix(, 0)
};
static const char embedding[] = {
#embed "Kernels/embedding.cuh" suffix(, 0)
};
static const char normalization[] = {
#embed "Kernels/normalization.cuh" suffix(, 0)
};
static const char rotary[] = {
#embed "Kernels/rotary.cuh" suffix(, 0)
};
static const char attention_decode[] = {
#embed "Kernels/attention_decode.cuh" suffix(, 0)
};
static const char attention_prefill[] = {
#embed "Kernels/attention_prefill.cuh" suffix(, 0)
};
static const char warpgroup[] = {
#embed "Kernels/warpgroup.cuh" suffix(, 0)
};
static const char attention_prefill_wgmma[] = {
#embed "Kernels/attention_prefill_wgmma.cuh" suffix(, 0)
};
static const char gating[] = {
#embed "Kernels/gating.cuh" suffix(, 0)
};
static const char gemm[] = {
#embed "Kernels/gemm.cuh" suffix(, 0)
};
static const char selection[] = {
#embed "Kernels/selection.cuh" suffix(, 0)
};
static const char logit_adjustment[] = {
#embed "Kernels/logit_adjustment.cuh" suffix(, 0)
};
static const char log_probabilities[] = {
#embed "Kernels/log_probabilities.cuh" suffix(, 0)
};
static const char sampling[] = {
#embed "Kernels/sampling.cuh" suffix(, 0)
};
static const char memory[] = {
#embed "Kernels/memory.cuh" suffix(, 0)
};

static const struct {
    const char *name, *text;
} files[] = {
    {"kernels.cu", kernels},
    {"device.cuh", device},
    {"arithmetic.cuh", arithmetic},
    {"embedding.cuh", embedding},
    {"normalization.cuh", normalization},
    {"rotary.cuh", rotary},
    {"attention_decode.cuh", attention_decode},
    {"attention_prefill.cuh", attention_prefill},
    {"warpgroup.cuh", warpgroup},
    {"attention_prefill_wgmma.cuh", attention_prefill_wgmma},
    {"gating.cuh", gating},
    {"gemm.cuh", gemm},
    {"selection.cuh", selection},
    {"logit_adjustment.cuh", logit_adjustment},
    {"log_probabilities.cuh", log_probabilities},
    {"sampling.cuh", sampling},
    {"memory.cuh", memory},
};

size_t tandem_kernel_file_count(void) { return sizeof files / sizeof *files; }

const char *tandem_kernel_file_name(size_t index) { return index < tandem_kernel_file_count() ? files[index].name : ""; }

const char *tandem_kernel_file_text(size_t index) { return index < tandem_kernel_file_count() ? files[index].text : ""; }
