// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

/// The smallest file that passes for a cubin: an ELF header without tables, and some code.
func smallCubin(_ contents: [UInt8] = [1, 2, 3]) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 64)
    header.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
    header[18] = 190
    return header + contents
}

/// A folder that is removed with the object.
final class TemporaryFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/tandem-cuda.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CUDAError(kind: .invalid, call: "mkdtemp") }
        path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        for name in CacheFolder.names(path) where name != "." && name != ".." { remove("\(path)/\(name)") }
        if unlink(path) != 0 { rmdir(path) }
    }
}

private let source = KernelSource(name: "kernels", text: "extern \"C\" __global__ void f() {}")

private func noCompiler() throws(CUDAError) -> KernelCompiler {
    throw CUDAError(kind: .missing, call: "libnvrtc.so")
}

@Test func theHashIsThatOfItsDefinition() {
    // Values of FNV-1a, 128 bits, for the empty text, "a" and "foobar" (draft-eastlake-fnv).
    var hash = FNVHash()
    #expect(hash.text == "6c62272e07bb014262b821756295c58d")
    hash.add("a".utf8)
    #expect(hash.text == "d228cb696f1a8caf78912b704e4a8964")
    var other = FNVHash()
    other.add("foobar".utf8)
    #expect(other.text == "343e1662793c64bf6f0d3597ba446f18")
}

@Test func allThatDecidesTheCodeIsInTheKey() {
    var others = [source, source, source, source]
    others[0].text += " "
    others[1].options.append("-G")
    others[2].headers.append(KernelSource.Header(name: "a.cuh", text: ""))
    others[3].name = "other"
    #expect(Set(([source] + others).map(\.key)).count == 5)
    #expect(source.key.count == 32)
}

@Test func precompiledFilesHaveTheNamesThatTheScriptWrites() {
    // From cubin_name of Scripts/check-cuda-kernels.
    let source = KernelSource(
        name: "tandem", text: "__global__ void f() {}\n",
        options: ["--std=c++17", "--device-as-default-execution-space", "--ptxas-options=-v"])
    #expect(
        KernelCache.precompiledName(source, architecture: "sm_90a")
            == "tandem-sm_90a-6ec2d70a9ea2500e9eb19584a4571f59.cubin")
}

@Test func whatIsWrittenIsRead() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/a/b/x.cubin"
    #expect(KernelCache.write(smallCubin(), to: path))
    #expect(KernelCache.read(path) == smallCubin())
    // Nothing is left beside it.
    #expect(CacheFolder.names("\(folder.path)/a/b").filter { $0.hasPrefix("x") } == ["x.cubin"])
}

@Test func damageIsNoticed() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/x.cubin"
    #expect(KernelCache.write(smallCubin(), to: path))
    var bytes = try #require(CacheFolder.read(path))
    bytes[65] ^= 1
    #expect(CacheFolder.write(bytes, to: path))
    #expect(KernelCache.read(path) == nil)
    for count in 0..<64 {
        #expect(CacheFolder.write(Array(smallCubin().prefix(count)), to: path))
        #expect(KernelCache.read(path) == nil)
    }
}

@Test func aPrecompiledFileNeedsNoCompiler() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/\(KernelCache.precompiledName(source, architecture: "sm_90a"))"
    #expect(CacheFolder.write(smallCubin(), to: path))
    let cache = KernelCache(folder: nil, precompiledFolder: folder.path)
    let entry = try cache.image(of: source, architecture: "sm_90a", compiler: noCompiler)
    #expect(entry.origin == .precompiled(path))
    #expect(entry.image == smallCubin())
    // Of another architecture there is none.
    #expect(throws: CUDAError.self) { try cache.image(of: source, architecture: "sm_80", compiler: noCompiler) }
}

@Test func withoutCompilerAnyKeptFileWillDo() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/\(KernelCache.name(source, architecture: "sm_80", compiler: "nvrtc13.0"))"
    #expect(KernelCache.write(smallCubin(), to: path))
    let cache = KernelCache(folder: folder.path)
    let entry = try cache.image(of: source, architecture: "sm_80", compiler: noCompiler)
    #expect(entry.origin == .cached(path))
}

@Test func theFolderFollowsTheEnvironment() {
    #expect(KernelCache(environment: ["HOME": "/home/a"]).folder == "/home/a/.cache/tandem/cubins")
    #expect(KernelCache(environment: ["HOME": "/h", "XDG_CACHE_HOME": "/c"]).folder == "/c/tandem/cubins")
    #expect(KernelCache(environment: ["XDG_CACHE_HOME": "relative"]).folder == nil)
    #expect(KernelCache(environment: [:]).folder == nil)
    #expect(KernelCache(environment: ["TANDEM_CUDA_CUBINS": "/k"]).precompiledFolder == "/k")
}

@Test func cubinsAreToldFromOtherFiles() {
    #expect(CubinImage.isComplete(smallCubin()))
    #expect(!CubinImage.isComplete([]))
    var other = smallCubin()
    other[18] = 62
    #expect(!CubinImage.isComplete(other))
    // Tables beyond the end, and ones whose end overflows.
    for (offset, value) in [(32, UInt8(0xFF)), (40, 0xFF)] {
        var image = smallCubin()
        for index in 0..<8 { image[offset + index] = value }
        image[54] = 56
        image[56] = 1
        image[58] = 64
        image[60] = 1
        #expect(!CubinImage.isComplete(image))
    }
}
