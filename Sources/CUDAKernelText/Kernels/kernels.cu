// Tandem — Apache-2.0
//
// All kernels as one text: what a GPU's compiler gets, and what the emulator is built from.
#include "device.cuh"
#include "arithmetic.cuh"
#include "embedding.cuh"
#include "normalization.cuh"
#include "rotary.cuh"
#include "attention_decode.cuh"
#include "attention_prefill.cuh"
#include "warpgroup.cuh"
#include "attention_prefill_wgmma.cuh"
#include "gating.cuh"
#include "gemm.cuh"
#include "selection.cuh"
#include "logit_adjustment.cuh"
#include "log_probabilities.cuh"
#include "sampling.cuh"
#include "memory.cuh"
