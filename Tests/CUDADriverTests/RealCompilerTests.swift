// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

/// NVRTC itself, which needs no GPU: where `TANDEM_NVRTC` names it.
private let compilerPath = getenv("TANDEM_NVRTC").map { String(cString: $0) }

@Suite(.enabled(if: compilerPath != nil, "TANDEM_NVRTC names no library"))
struct RealCompilerTests {
    private func compiler() throws -> KernelCompiler {
        try KernelCompiler(environment: ["TANDEM_NVRTC": try #require(compilerPath)])
    }

    private let source = KernelSource(
        name: "twice", text: "#include \"a.cuh\"\nextern \"C\" __global__ void twice(float* x) { *x *= factor; }",
        headers: [KernelSource.Header(name: "a.cuh", text: "constexpr float factor = 2;")])

    @Test func aKernelBecomesACubin() throws {
        let compiler = try compiler()
        #expect(compiler.version.major >= 12)
        #expect(compiler.architectures.contains(90))
        for architecture in ["sm_80", "sm_90a"] {
            let output = try compiler.compile(source, architecture: architecture)
            #expect(CubinImage.isComplete(output.image))
            #expect(!CubinImage.isComplete(Array(output.image.dropLast())))
            #expect(output.log.contains("registers"))
        }
    }

    @Test func theCompilersWordsAreInTheError() throws {
        let compiler = try compiler()
        var broken = source
        broken.text = "extern \"C\" __global__ void f() { nonsense; }"
        let error = #expect(throws: CUDAError.self) { try compiler.compile(broken, architecture: "sm_80") }
        #expect(error?.kind == .unsupported)
        #expect(error?.detail.contains("nonsense") == true)
        let wrong = #expect(throws: CUDAError.self) { try compiler.compile(source, architecture: "sm_1") }
        #expect(wrong?.remedy.contains("newer") == true)
        #expect(throws: CUDAError.self) { try compiler.compile(source, architecture: "compute_80") }
    }

    @Test func theSecondTimeNothingIsCompiled() throws {
        let folder = try TemporaryFolder()
        let cache = KernelCache(folder: folder.path)
        let first = try cache.image(of: source, architecture: "sm_80") { () throws(CUDAError) in
            try KernelCompiler(environment: ["TANDEM_NVRTC": compilerPath ?? ""])
        }
        #expect(first.origin == .compiled)
        let second = try cache.image(of: source, architecture: "sm_80") { () throws(CUDAError) in
            try KernelCompiler(environment: ["TANDEM_NVRTC": compilerPath ?? ""])
        }
        #expect(second.origin != .compiled)
        #expect(second.image == first.image)
        #expect(second.log == nil)
    }
}
