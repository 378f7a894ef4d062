// Tandem — Apache-2.0

import Testing

@testable import CUDADriver

/// A search over folders that exist only here.
private func search(
    _ environment: [String: String] = [:], folders: [String: [String]] = [:], links: [String: String] = [:]
) -> LibrarySearch {
    LibrarySearch(environment: environment, names: { folders[$0] ?? [] }, resolved: { links[$0] })
}

@Test func aNamedLibraryEndsTheSearch() {
    let search = search([
        "TANDEM_CUDA_DRIVER": "/a/libcuda.so", "TANDEM_NVRTC": "/b/nvrtc.so", "TANDEM_CUBLASLT": "/c/lt.so",
    ])
    #expect(search.driverCandidates() == ["/a/libcuda.so"])
    #expect(search.compilerCandidates() == ["/b/nvrtc.so"])
    #expect(search.matrixCandidates() == ["/c/lt.so"])
}

@Test func anEmptyNameIsNoName() {
    #expect(search(["TANDEM_CUDA_DRIVER": ""]).driverCandidates().first == "libcuda.so.1")
}

@Test func theLoadersOwnSearchComesFirstThenToolkitsThenWheels() {
    let site = "/opt/torch/.venv/lib/python3.12/site-packages"
    let found = search(
        ["PATH": "/nowhere:/opt/torch/.venv/bin", "CUDA_HOME": "/tools/cuda"],
        folders: [
            "/tools/cuda/lib64": ["libnvrtc.so.13", "libcublasLt.so.13"],
            "/opt/torch/.venv/lib": ["python3.12"],
            "\(site)/nvidia": ["cu13"],
            "\(site)/nvidia/cu13/lib": ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libcublasLt.so.13"],
        ],
        links: ["/opt/torch/.venv/bin/python3": "/usr/bin/python3.12"])
    #expect(
        found.compilerCandidates(driverMajor: 13).prefix(3) == [
            "libnvrtc.so.13", "/tools/cuda/lib64/libnvrtc.so.13", "\(site)/nvidia/cu13/lib/libnvrtc.so.13",
        ])
    #expect(
        found.builtins(besideCompiler: "\(site)/nvidia/cu13/lib/libnvrtc.so.13") == [
            "\(site)/nvidia/cu13/lib/libnvrtc-builtins.so.13.0"
        ])
}

@Test func wheelsOfAnEnvironmentOutsidePATHAreFound() {
    let site = "/opt/torch/.venv/lib/python3.12/site-packages"
    let found = search(
        folders: [
            "/opt": ["torch"], "/opt/torch/.venv/lib": ["python3.12"], "\(site)/nvidia": ["cublas"],
            "\(site)/nvidia/cublas/lib": ["libcublasLt.so.12"],
        ])
    #expect(found.matrixCandidates().contains("\(site)/nvidia/cublas/lib/libcublasLt.so.12"))
}

@Test func librariesNewerThanTheDriverAreLeftOut() {
    let candidates = search().compilerCandidates(driverMajor: 12)
    #expect(candidates == ["libnvrtc.so.12"])
    #expect(search().compilerCandidates() == ["libnvrtc.so.13", "libnvrtc.so.12"])
}

@Test func noDriverIsSaidWithItsRemedy() throws {
    let error = #expect(throws: CUDAError.self) {
        try CUDADriver(environment: ["TANDEM_CUDA_DRIVER": "/nowhere/libcuda.so.1"])
    }
    #expect(error?.kind == .missing)
    #expect(error?.description.contains("--device cpu") == true)
}

@Test func aFileThatIsNoLibraryIsNamed() throws {
    let error = #expect(throws: CUDAError.self) {
        try CUDADriver(environment: ["TANDEM_CUDA_DRIVER": "/proc/self/cmdline"])
    }
    #expect(error?.kind == .missing)
    #expect(error?.description.contains("/proc/self/cmdline cannot be opened") == true)
}

@Test func aLibraryThatIsNoDriverIsNamed() throws {
    // The C library is there on every machine, and has no cuInit.
    let error = #expect(throws: CUDAError.self) {
        try CUDADriver(environment: ["TANDEM_CUDA_DRIVER": "libc.so.6"])
    }
    #expect(error?.kind == .missing)
    #expect(error?.call == "cuInit")
}

@Test(arguments: [("0", CUDADeviceSelector.index(0)), ("12", .index(12)), ("GPU-8c1e", .uuid("GPU-8c1e"))])
func selectorsAreRead(_ text: String, _ expected: CUDADeviceSelector) {
    #expect(CUDADeviceSelector(text) == expected)
}

@Test(arguments: ["", "-1", "x", "8c1e", "0x0", "1.5", " 1"])
func otherSelectorsAreNot(_ text: String) { #expect(CUDADeviceSelector(text) == nil) }

@Test func versionsAreRead() {
    #expect(CUDAVersion(number: 13000) == CUDAVersion(major: 13, minor: 0))
    #expect(CUDAVersion(number: 12080).description == "12.8")
    #expect(CUDAVersion(number: 12080) < CUDAVersion(number: 13000))
}

@Test func hopperGetsItsOwnInstructions() {
    #expect(ComputeCapability(major: 9, minor: 0).architecture == "sm_90a")
    #expect(ComputeCapability(major: 8, minor: 0).architecture == "sm_80")
    #expect(ComputeCapability(major: 10, minor: 0).architecture == "sm_100")
    #expect(ComputeCapability(major: 7, minor: 5) < .oldest)
}
