// Tandem — Apache-2.0

/// A kernel of ``KernelSource``; the raw value is its name there.
public enum Kernel: String, CaseIterable, Sendable {
    case embedTokens = "embed_tokens"
    case addNorm = "add_rms_norm"
    case headNorm = "head_norm"
    case headNormFloat = "head_norm_f32"
    case rotateAndStore = "rotate_and_store"
    case attentionDecode64 = "attention_decode_h64"
    case attentionDecode64Two = "attention_decode_h64_w2"
    case attentionDecode64One = "attention_decode_h64_w1"
    case attentionDecode128 = "attention_decode_h128"
    case attentionDecode128Two = "attention_decode_h128_w2"
    case attentionDecode128One = "attention_decode_h128_w1"
    case attentionDecode256 = "attention_decode_h256"
    case attentionDecode256Two = "attention_decode_h256_w2"
    case attentionDecode256One = "attention_decode_h256_w1"
    case attentionCombine = "attention_combine"
    case attentionPrefill64 = "attention_prefill_h64"
    case attentionPrefill64Narrow = "attention_prefill_h64_r64"
    case attentionPrefill128 = "attention_prefill_h128"
    case attentionPrefill128Narrow = "attention_prefill_h128_r64"
    case attentionPrefill256 = "attention_prefill_h256"
    case attentionPrefill64Warpgroups = "attention_prefill_h64_wgmma"
    case attentionPrefill128Warpgroups = "attention_prefill_h128_wgmma"
    case gatedSiLU = "gated_silu"
    case gatedGELU = "gated_gelu_tanh"
    case gemm = "gemm_bf16"
    case gemmTall = "gemm_bf16_128x64"
    case gemmLarge = "gemm_bf16_128x128"
    case gemmFloat = "gemm_bf16_f32out"
    case gemmFloatTall = "gemm_bf16_f32out_128x64"
    case gemmFloatLarge = "gemm_bf16_f32out_128x128"
    case gatedGEMM = "gemm_gated"
    case gatedGEMMTall = "gemm_gated_128x64"
    case gatedGEMMLarge = "gemm_gated_128x128"
    case adjustLogits = "adjust_logits"
    case restoreLogits = "restore_logits"
    case noteTokens = "note_tokens"
    case logitStatistics = "logit_statistics"
    case gatherLogProbabilities = "gather_log_probabilities"
    case topLogProbabilities = "top_log_probabilities"
    case sampleRows = "sample_rows"
    case scatterTables = "scatter_tables"
    case copyBlocks = "copy_blocks"
    case fillRandom = "fill_random"
    case fillRandomFloat = "fill_random_f32"
    case fillBytes = "fill_bytes"

    /// Dynamic shared memory of a block, in bytes. Above 48 KiB a function must be permitted to have it before its first
    /// launch (`CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`).
    public var dynamicSharedBytes: Int {
        switch self {
        case .attentionPrefill64: PrefillTiling(.d64).sharedBytes
        case .attentionPrefill64Narrow: PrefillTiling(.d64, .narrow).sharedBytes
        case .attentionPrefill64Warpgroups: PrefillTiling(.d64, .warpgroups).sharedBytes
        case .attentionPrefill128: PrefillTiling(.d128).sharedBytes
        case .attentionPrefill128Narrow: PrefillTiling(.d128, .narrow).sharedBytes
        case .attentionPrefill128Warpgroups: PrefillTiling(.d128, .warpgroups).sharedBytes
        case .attentionPrefill256: PrefillTiling(.d256).sharedBytes
        case .gemm, .gemmFloat, .gatedGEMM: GEMMTiling.small.sharedBytes
        case .gemmTall, .gemmFloatTall, .gatedGEMMTall: GEMMTiling.tall.sharedBytes
        case .gemmLarge, .gemmFloatLarge, .gatedGEMMLarge: GEMMTiling.large.sharedBytes
        default: 0
        }
    }

    /// Whether code for GPUs of a compute capability has it: the matrix products of warpgroups are Hopper's alone.
    public func exists(onComputeCapability major: Int) -> Bool {
        switch self {
        case .attentionPrefill64Warpgroups, .attentionPrefill128Warpgroups: major == 9
        default: true
        }
    }

    /// Whether the kernel waits by itself for what comes before it, so that it may start earlier
    /// (``KernelLaunch/argumentsReadEarly``).
    public var canStartEarly: Bool {
        switch self {
        case .embedTokens, .addNorm, .headNorm, .headNormFloat, .rotateAndStore, .attentionDecode64,
            .attentionDecode64Two, .attentionDecode64One, .attentionDecode128, .attentionDecode128Two,
            .attentionDecode128One, .attentionDecode256, .attentionDecode256Two, .attentionDecode256One,
            .attentionCombine, .gatedSiLU, .gatedGELU:
            true
        default: isGEMM
        }
    }

    /// Whether it is one of our own matrix products.
    public var isGEMM: Bool {
        switch self {
        case .gemm, .gemmTall, .gemmLarge, .gemmFloat, .gemmFloatTall, .gemmFloatLarge, .gatedGEMM, .gatedGEMMTall,
            .gatedGEMMLarge:
            true
        default: false
        }
    }
}

/// Elements of an attention head for which there are kernels.
public enum HeadDimension: Int, CaseIterable, Sendable {
    case d64 = 64
    case d128 = 128
    case d256 = 256
}
