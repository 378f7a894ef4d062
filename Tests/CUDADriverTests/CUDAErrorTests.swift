// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

@Test(arguments: [700, 716, 719, 214, 999] as [Int32])
func aFaultLosesTheContext(_ code: Int32) {
    let error = CUDAError(driver: code, call: "cuStreamSynchronize")
    #expect(error.kind == .fatal)
    #expect(error.losesContext)
    #expect(error.remedy.contains("started again"))
}

@Test(arguments: [805, 806, 807, 808, 809, 810] as [Int32])
func everyRefusalOfMPSIsToldAsSuch(_ code: Int32) {
    let error = CUDAError(driver: code, call: "cuInit")
    #expect(error.kind == .mps)
    #expect(error.losesContext == (code == 806 || code == 810))
    #expect(error.description.contains("(\(code))"))
    #expect(!error.remedy.isEmpty)
}

@Test func shortageIsNoFault() {
    let error = CUDAError(driver: 2, call: "cuMemAlloc", detail: "512 MiB for weights, 100 of 1024 MiB are free")
    #expect(error.kind == .outOfMemory)
    #expect(!error.losesContext)
    #expect(
        error.description
            == "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (2): 512 MiB for weights, 100 of 1024 MiB are free; "
            + "lower --gpu-memory-fraction or --engines, or end other users of the GPU")
}

@Test func anUnknownNumberIsAnErrorOfThisProgram() {
    #expect(CUDAError(driver: 12345, call: "cuLaunchKernel").kind == .invalid)
}
