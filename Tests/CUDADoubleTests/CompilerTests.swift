// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

private let source = KernelSource(name: "double", text: "extern \"C\" __global__ void double_add() {}")

/// A folder that is removed with the object.
private final class Folder {
    let path: String

    init() throws {
        var template = Array("/tmp/tandem-cubins.XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        for name in files { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    var files: [String] { CacheFolder.names(path).filter { $0 != "." && $0 != ".." } }
}

@Test func aKernelIsCompiledOnce() throws {
    let library = try DoubleLibrary()
    let context = try library.context()
    let folder = try Folder()
    let cache = KernelCache(folder: folder.path)
    func load() throws(CUDAError) -> KernelCache.Entry {
        let loaded = try cache.module(of: source, in: context) { () throws(CUDAError) in
            try KernelCompiler(environment: library.environment, driver: context.driver)
        }
        _ = try loaded.module.function("double_add")
        return loaded.entry
    }
    let first = try load()
    #expect(first.origin == .compiled)
    #expect(first.log?.contains("double_add") == true)
    let file = try #require(folder.files.first)
    #expect(folder.files.count == 1)
    #expect(file.contains("sm_90a") && file.hasSuffix("-double13.0.cubin"))
    #expect(try load().origin == .cached("\(folder.path)/\(file)"))
    // A damaged file is compiled again, and mended.
    #expect(CacheFolder.write([1, 2, 3], to: "\(folder.path)/\(file)"))
    #expect(try load().origin == .compiled)
    #expect(try load().origin == .cached("\(folder.path)/\(file)"))
}

@Test func whatTheDriverRefusesIsCompiledAgain() throws {
    let library = try DoubleLibrary()
    let context = try library.context()
    let folder = try Folder()
    let compiler = try KernelCompiler(environment: library.environment, driver: context.driver)
    // Whole, and for another GPU.
    let image = try compiler.compile(source, architecture: "sm_80").image
    #expect(
        CacheFolder.write(
            image, to: "\(folder.path)/\(KernelCache.precompiledName(source, architecture: "sm_90a"))"))
    let cache = KernelCache(folder: nil, precompiledFolder: folder.path)
    let loaded = try cache.module(of: source, in: context) { () throws(CUDAError) in compiler }
    #expect(loaded.entry.origin == .compiled)
    let error = #expect(throws: CUDAError.self) { try CUDAModule(context, image: image) }
    #expect(error?.code == 209)
}

@Test func aFolderThatCannotBeWrittenIsNoError() throws {
    let library = try DoubleLibrary()
    let context = try library.context()
    let cache = KernelCache(folder: "/proc/nowhere/cubins")
    let loaded = try cache.module(of: source, in: context) { () throws(CUDAError) in
        try KernelCompiler(environment: library.environment, driver: context.driver)
    }
    #expect(loaded.entry.origin == .compiled)
}

@Test func errorsOfTheCompilerAreTold() throws {
    let library = try DoubleLibrary(["FAULT": "compile=6"])
    let context = try library.context()
    let compiler = try KernelCompiler(environment: library.environment, driver: context.driver)
    let error = #expect(throws: CUDAError.self) { try compiler.compile(source, architecture: "sm_90a") }
    #expect(error?.name == "NVRTC_ERROR_COMPILATION")
    #expect(error?.detail.contains("a planned fault") == true)
    #expect(throws: CUDAError.self) { try compiler.compile(source, architecture: "sm_1") }
    _ = try compiler.compile(source, architecture: "sm_100a")
}

@Test func aMissingCompilerNamesTheWaysOut() throws {
    let library = try DoubleLibrary()
    let driver = try library.driver()
    var environment = library.environment
    environment["TANDEM_NVRTC"] = "/nowhere/libnvrtc.so.13"
    let error = #expect(throws: CUDAError.self) { try KernelCompiler(environment: environment, driver: driver) }
    #expect(error?.kind == .missing)
    #expect(error?.remedy.contains("pip install") == true)
    environment["TANDEM_CUBLASLT"] = "/nowhere/libcublasLt.so.13"
    let context = try library.context()
    let missing = #expect(throws: CUDAError.self) { try MatrixLibrary(context, environment: environment) }
    #expect(missing?.kind == .missing)
    #expect(missing?.remedy.contains("--deterministic") == true)
}

@Test func filesThatAreNoCubinsDoNotReachTheDriver() throws {
    let context = try DoubleLibrary().context()
    for image in [[], [0x7F], [UInt8](repeating: 0, count: 1000)] as [[UInt8]] {
        let error = #expect(throws: CUDAError.self) { try CUDAModule(context, image: image) }
        #expect(error?.code == 200)
    }
}

@Test func aRefusedModuleIsTold() throws {
    let library = try DoubleLibrary(["FAULT": "load=2"])
    let context = try library.context()
    let cache = KernelCache(folder: nil)
    let error = #expect(throws: CUDAError.self) {
        _ = try cache.module(of: source, in: context) { () throws(CUDAError) in
            try KernelCompiler(environment: library.environment, driver: context.driver)
        }
    }
    #expect(error?.kind == .outOfMemory)
}

@Test func faultsComeFromAFile() throws {
    let folder = try Folder()
    let path = "\(folder.path)/faults"
    let bench = try Workbench(["FAULT_FILE": path])
    let memory = try bench.memory([1])
    try bench.scale(memory.address, by: 2, count: 1)
    try bench.stream.synchronize()
    #expect(CacheFolder.write(Array("launch=700\n".utf8), to: path))
    try bench.scale(memory.address, by: 2, count: 1)
    let error = #expect(throws: CUDAError.self) { try bench.stream.synchronize() }
    #expect(error?.code == 700)
    #expect(folder.files.isEmpty)
}
