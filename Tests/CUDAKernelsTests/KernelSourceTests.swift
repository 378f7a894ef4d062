// Tandem — Apache-2.0

import CUDAKernels
import Testing

@Suite struct KernelSourceTests {
    @Test func textIsOneWithoutIncludes() {
        #expect(!KernelSource.text.contains("#include"))
        #expect(KernelSource.text.hasPrefix("#line 1 \"kernels.cu\"\n"))
        #expect(KernelSource.text.contains("#line 1 \"sampling.cuh\"\n"))
    }

    @Test func everyKernelIsDefinedOnce() {
        let definitions = KernelSource.text.split(separator: "\n").filter { !$0.hasPrefix("//") }
        for kernel in Kernel.allCases {
            let name = kernel.rawValue
            let found = definitions.filter { $0.contains(" \(name)(") || $0.contains("(\(name),") }
            #expect(found.count == 1, "\(name): \(found)")
        }
    }

    @Test func architectures() {
        #expect(KernelSource.architecture(computeCapability: (7, 5)) == nil)
        #expect(KernelSource.architecture(computeCapability: (8, 0)) == "sm_80")
        #expect(KernelSource.architecture(computeCapability: (8, 9)) == "sm_89")
        #expect(KernelSource.architecture(computeCapability: (9, 0)) == "sm_90a")
        #expect(KernelSource.architecture(computeCapability: (10, 0)) == "sm_100")
        #expect(KernelSource.architecture(computeCapability: (12, 1)) == "sm_121")
    }
}
