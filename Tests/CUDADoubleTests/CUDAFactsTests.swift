// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

@Test func factsAreGathered() throws {
    let library = try DoubleLibrary(["MPS": "1"])
    let facts = try #require(CUDAFacts.gather(environment: library.environment, limit: .seconds(300)))
    #expect(try facts.driver.get() == CUDAFacts.Library(path: library.path, version: "13.0"))
    #expect(facts.isDouble)
    #expect(facts.devices.map(\.computeCapability) == [ComputeCapability(major: 9, minor: 0)])
    #expect(facts.devices.first?.usesMPS == true)
    #expect(try facts.compiler.get().version == "13.0")
    #expect(try facts.matrices.get().version == "13.1.0")
    #expect(facts.precompiledFolder == nil)
    // Nothing was taken.
    #expect(try library.counter("live_objects") == 0)
}

@Test func factsSayWhatIsMissing() throws {
    let none = CUDAFacts.gather(
        environment: ["TANDEM_CUDA_DRIVER": "/nowhere", "TANDEM_NVRTC": "/nowhere", "TANDEM_CUBLASLT": "/nowhere"])
    #expect(throws: CUDAError.self) { try none.driver.get() }
    #expect(throws: CUDAError.self) { try none.compiler.get() }
    #expect(throws: CUDAError.self) { try none.matrices.get() }
    #expect(none.devices.isEmpty)
}
