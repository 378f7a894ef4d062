// Tandem — Apache-2.0

/// GPUs that are known by name.
///
/// Rates and sizes are those of the data sheets (dense, without sparsity). Kernel parameters of all but L4 are fitted
/// to the operator tables of NVIDIA's aiconfigurator-core 0.12.0 (bfloat16, vLLM's kernels) by
/// `Benchmarks/GPUModel/fit.py`, which prints their errors; docs/gpu-model.md lists them. L4 has no table and takes
/// the shares of L40S.
extension DeviceParameters {
    /// All of them.
    public static let published: [DeviceParameters] = [h100, h200, a100, b200, l40s, l4]

    /// The GPU of a name: `h100`, `H100-SXM`, `NVIDIA H100 80GB HBM3`.
    ///
    /// - Throws: ``GPUModelError`` that lists the known ones.
    public static func named(_ name: String) throws(GPUModelError) -> DeviceParameters {
        let words = name.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init)
        if let found = published.first(where: { words.contains($0.name) }) {
            let isOtherBoard = words.contains("pcie") || words.contains("nvl")
            if !isOtherBoard || found.name.hasPrefix("l4") { return found }
            throw GPUModelError(
                subject: "GPU \"\(name.prefix(64))\"",
                reason: "only the SXM board of \(found.name) is known, and others have other clocks and memory; "
                    + "use --gpu \(found.name) for a rough answer, or measure yours and give --probe")
        }
        throw GPUModelError(
            subject: "GPU \"\(name.prefix(64))\"",
            reason: "unknown; known: \(published.map(\.name).joined(separator: ", "))")
    }

    private static func fitted(_ version: String, _ errors: String) -> String {
        "kernels: fitted to aiconfigurator-core 0.12.0's measurements of vLLM \(version) (\(errors))"
    }

    private static let measuredSharing =
        "sharing: measured on one H100, Results/gpu-probe/h100-2026-11-26"
    private static let assumedSharing =
        "sharing: assumed to be as measured on an H100, Results/gpu-probe/h100-2026-11-26"

    static let h100 = DeviceParameters(
        name: "h100", title: "NVIDIA H100 SXM 80 GB", multiprocessors: 132, tensorRate: 989e12, memoryRate: 3.35e12,
        memoryBytes: 80 * gibibyte,
        product: ProductParameters(fixedSeconds: 3.58e-6, tensorShare: 0.815, memoryShare: 0.872, exponent: 2.54),
        decodeAttention: AttentionParameters(fixedSeconds: 11.7e-6, share: 0.911, blockSeconds: 1.92e-6),
        prefillAttention: AttentionParameters(fixedSeconds: 13.6e-6, share: 0.603, blockSeconds: 5.24e-6),
        elementwise: .usual, sharing: .measured,
        sources: [
            fitted("0.24.0", "held-out error of products 8 %, of decode attention 6 % in the median"), measuredSharing,
        ])

    static let h200 = DeviceParameters(
        name: "h200", title: "NVIDIA H200 SXM 141 GB", multiprocessors: 132, tensorRate: 989e12, memoryRate: 4.8e12,
        memoryBytes: 141 * gibibyte,
        product: ProductParameters(fixedSeconds: 3.82e-6, tensorShare: 0.803, memoryShare: 0.831, exponent: 2.85),
        decodeAttention: AttentionParameters(fixedSeconds: 12e-6, share: 0.873, blockSeconds: 2.25e-6),
        prefillAttention: AttentionParameters(fixedSeconds: 13.4e-6, share: 0.596, blockSeconds: 5.05e-6),
        elementwise: .usual, sharing: .measured,
        sources: [
            fitted("0.24.0", "held-out error of products 8 %, of decode attention 6 % in the median"), assumedSharing,
        ])

    static let a100 = DeviceParameters(
        name: "a100", title: "NVIDIA A100 SXM 80 GB", multiprocessors: 108, tensorRate: 312e12, memoryRate: 2.039e12,
        memoryBytes: 80 * gibibyte,
        product: ProductParameters(fixedSeconds: 5.62e-6, tensorShare: 0.841, memoryShare: 0.762, exponent: 1.61),
        decodeAttention: AttentionParameters(fixedSeconds: 18.5e-6, share: 0.737, blockSeconds: 1.07e-6),
        prefillAttention: AttentionParameters(fixedSeconds: 11e-6, share: 0.541, blockSeconds: 6.34e-6),
        elementwise: .usual, sharing: .measured,
        sources: [
            fitted("0.14.0", "held-out error of products 10 %, of decode attention 9 % in the median"), assumedSharing,
        ])

    static let b200 = DeviceParameters(
        name: "b200", title: "NVIDIA B200 SXM 180 GB", multiprocessors: 148, tensorRate: 2250e12, memoryRate: 7.7e12,
        memoryBytes: 180 * gibibyte,
        product: ProductParameters(fixedSeconds: 3.33e-6, tensorShare: 0.721, memoryShare: 0.801, exponent: 2.44),
        decodeAttention: AttentionParameters(fixedSeconds: 9.08e-6, share: 0.938, blockSeconds: 0.581e-6),
        prefillAttention: AttentionParameters(fixedSeconds: 11.9e-6, share: 0.46, blockSeconds: 4.04e-6),
        elementwise: .usual, sharing: .measured,
        sources: [
            fitted("0.24.0", "held-out error of products 10 %, of decode attention 5 % in the median"), assumedSharing,
        ])

    static let l40s = DeviceParameters(
        name: "l40s", title: "NVIDIA L40S 48 GB", multiprocessors: 142, tensorRate: 362.05e12, memoryRate: 0.864e12,
        memoryBytes: 45 * gibibyte,
        product: ProductParameters(fixedSeconds: 1.26e-6, tensorShare: 0.644, memoryShare: 0.814, exponent: 2.15),
        decodeAttention: AttentionParameters(fixedSeconds: 9.75e-6, share: 0.878, blockSeconds: 0.408e-6),
        prefillAttention: AttentionParameters(fixedSeconds: 7.45e-6, share: 0.486, blockSeconds: 6.24e-6),
        elementwise: .usual, sharing: .measured,
        sources: [
            fitted("0.24.0", "held-out error of products 23 %, of decode attention 19 % in the median: rough"),
            assumedSharing,
        ])

    static let l4 = DeviceParameters(
        name: "l4", title: "NVIDIA L4 24 GB", multiprocessors: 58, tensorRate: 121e12, memoryRate: 0.3e12,
        memoryBytes: 24 * gibibyte, product: l40s.product, decodeAttention: l40s.decodeAttention,
        prefillAttention: l40s.prefillAttention, elementwise: .usual, sharing: .measured,
        sources: ["kernels: no measurement is known; data sheet with the shares of the L40S", assumedSharing])

    private static let gibibyte = 1_073_741_824.0
}

extension ElementwiseParameters {
    /// The constants that aiconfigurator falls back on for kernels which it has no table of: 80 % of the memory's rate
    /// and 3 µs.
    static let usual = ElementwiseParameters(fixedSeconds: 3e-6, memoryShare: 0.8)
}

extension SharingParameters {
    /// As measured on an H100 (Results/gpu-probe/h100-2026-11-26): slices, switches and saturation directly;
    /// co-residency, latency occupancy and what MPS adds are the point of a grid that is nearest, on every second loop,
    /// to what two graphs in one process and two processes under MPS made; the other loops judge them
    /// (`MeasuredSharingTests`). Interference cannot be told from co-residency there and is assumed. A process' memory
    /// is a context (527 MiB measured) and an assumed gibibyte of graphs and workspaces.
    static let measured = SharingParameters(
        coResidency: 0.05, interference: 0.05, latencyOccupancy: 0.85, mpsKernelSeconds: 1.4e-6, sliceSeconds: 2.09e-3,
        switchSeconds: 0.15e-3, bandwidthSaturationShare: 0.5, processBytes: 1.5 * 1_073_741_824)
}
