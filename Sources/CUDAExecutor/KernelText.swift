// Tandem — Apache-2.0

import CUDAKernels

/// The kernels as the compiler takes them; in a file of its own, because both rooms have a `KernelSource`.
enum KernelText {
    static var text: String { KernelSource.text }
    static let name = "tandem"

    /// Options besides the architecture, which the compiler's own room adds.
    static var options: [String] {
        KernelSource.options(architecture: "").filter { !$0.hasPrefix("--gpu-architecture") }
            + ["--ptxas-options=-v"]
    }
}
