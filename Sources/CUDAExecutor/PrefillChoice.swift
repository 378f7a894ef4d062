// Tandem — Apache-2.0

import CUDADriver
import CUDAKernels
import InferenceEngine

/// Which kernel computes the attention of chunks: `TANDEM_CUDA_PREFILL`, `wgmma` or `mma`.
enum PrefillChoice {
    static let variable = "TANDEM_CUDA_PREFILL"

    /// What is taken on GPUs of compute capability 9.0 if nobody says. `warpgroups` has not run on a GPU yet; when
    /// `tandem gpu parity` and `tandem gpu kernels` have shown it right and faster, this line changes.
    static let standard = PrefillForm.wide

    /// - Parameters:
    ///   - environment: where the setting is looked for; an empty one counts as none.
    ///   - capability: of the GPU.
    ///   - dimension: elements of a head.
    ///   - isDeterministic: whether a row's bits must be the same in any version of the kernels: the setting is ignored.
    /// - Throws: ``ExecutorError`` of kind `unsupported` for a setting that is no kernel, or one that the GPU has not got.
    static func form(
        environment: [String: String], capability: ComputeCapability, dimension: HeadDimension, isDeterministic: Bool
    ) throws(ExecutorError) -> PrefillForm {
        let hasWarpgroups = PrefillTiling(dimension, .warpgroups).kernel
            .exists(onComputeCapability: capability.major)
        switch environment[variable] ?? "" {
        case "":
            return hasWarpgroups && !isDeterministic ? standard : .wide
        case "mma":
            return .wide
        case "wgmma":
            guard hasWarpgroups else {
                throw ExecutorError(
                    kind: .unsupported,
                    message: "\(variable) asks for wgmma, which GPUs of compute capability 9.0 alone have; this one is "
                        + "of \(capability): unset it, or set it to mma")
            }
            return isDeterministic ? .wide : .warpgroups
        case let other:
            throw ExecutorError(
                kind: .unsupported, message: "\(variable) is \(other); expected wgmma or mma")
        }
    }
}
