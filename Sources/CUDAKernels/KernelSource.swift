// Tandem — Apache-2.0

import CUDAKernelText

/// The kernels' text as a GPU's run-time compiler takes it.
public enum KernelSource {
    /// Name of the text in the compiler's messages.
    public static let fileName = "kernels.cu"

    /// One text without includes; `#line` keeps the names and lines of its files.
    public static let text = flattened(fileName) ?? ""

    /// What the compiler (NVRTC) is asked for.
    ///
    /// - Parameter architecture: such as `sm_90a`; see ``architecture(computeCapability:)``.
    public static func options(architecture: String) -> [String] {
        [
            "--gpu-architecture=\(architecture)", "--std=c++17", "--device-as-default-execution-space",
        ]
    }

    /// The architecture to compile for, or `nil` for a GPU that is too old: the kernels need asynchronous copies and
    /// bfloat16, which came with 8.0.
    ///
    /// Hopper has instructions of its own behind the suffix `a`; from 10.0 on text for the family's first member runs
    /// on all.
    public static func architecture(computeCapability: (major: Int, minor: Int)) -> String? {
        switch computeCapability {
        case (8, let minor): "sm_8\(minor)"
        case (9, _): "sm_90a"
        case (let major, let minor) where major > 9: "sm_\(major)\(minor)"
        default: nil
        }
    }

    private static func flattened(_ name: String) -> String? {
        guard let text = file(name) else { return nil }
        var result = "#line 1 \"\(name)\"\n"
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            guard line.hasPrefix("#include \"") else {
                result += line
                result += "\n"
                continue
            }
            guard let included = flattened(String(line.dropFirst(10).prefix { $0 != "\"" })) else { return nil }
            result += included
            result += "#line \(number + 1) \"\(name)\"\n"
        }
        return result
    }

    private static func file(_ name: String) -> String? {
        for index in 0..<tandem_kernel_file_count() where String(cString: tandem_kernel_file_name(index)) == name {
            return String(cString: tandem_kernel_file_text(index))
        }
        return nil
    }
}
