// Tandem — Apache-2.0

import Glibc
import Testing

@testable import CUDADriver

/// A double of the driver with a state of its own: a copy of the library's file, opened as the driver would be.
final class DoubleLibrary {
    let path: String
    let library: DynamicLibrary
    private let folder: String

    /// - Parameter settings: names without `TANDEM_DOUBLE_`.
    init(_ settings: [String: String] = [:]) throws {
        var template = Array("/tmp/tandem-double.XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        folder = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        path = "\(folder)/libtandem-cuda-double.so"
        let bytes = try #require(CacheFolder.read(Self.builtPath), "\(Self.builtPath) is not built")
        try #require(CacheFolder.write(bytes, to: path))
        library = try DynamicLibrary.open(path)
        let set: @convention(c) (UnsafePointer<CChar>, UnsafePointer<CChar>) -> Void = try library.function(
            "tandem_cuda_double_set")
        for (name, value) in settings { set("TANDEM_DOUBLE_\(name)", value) }
    }

    deinit {
        unlink(path)
        rmdir(folder)
    }

    /// The product lies beside the tests' executable.
    private static let builtPath: String = {
        let executable = realpath("/proc/self/exe", nil)
        defer { free(executable) }
        let file = executable.map { String(cString: $0) } ?? ""
        return (LibrarySearch.folder(of: file) ?? "") + "/libtandem-cuda-double.so"
    }()

    var environment: [String: String] { ["TANDEM_CUDA_DRIVER": path] }

    func driver() throws -> CUDADriver { try CUDADriver(environment: environment) }

    /// A context on the first device, current in the calling thread.
    func context() throws -> CUDAContext {
        let device = try #require(try driver().devices().first)
        return try CUDAContext(device)
    }

    func planFaults(_ text: String) throws {
        let plan: @convention(c) (UnsafePointer<CChar>) -> Int32 = try library.function(
            "tandem_cuda_double_plan_faults")
        try #require(plan(text) == 1)
    }

    func counter(_ name: String) throws -> Int64 {
        let counter: @convention(c) () -> Int64 = try library.function("tandem_cuda_double_\(name)")
        return counter()
    }
}

/// A context, a stream and the kernels of the double itself.
struct Workbench {
    let library: DoubleLibrary
    let context: CUDAContext
    let stream: CUDAStream
    let module: CUDAModule

    init(_ settings: [String: String] = [:]) throws {
        library = try DoubleLibrary(settings)
        context = try library.context()
        stream = try CUDAStream(context)
        let compiler = try KernelCompiler(environment: library.environment, driver: context.driver)
        let source = KernelSource(name: "double", text: "extern \"C\" __global__ void double_add() {}")
        module = try CUDAModule(
            context,
            image: compiler.compile(source, architecture: context.device.computeCapability.architecture).image)
    }

    func memory(_ values: [Float]) throws -> DeviceMemory {
        let memory = try DeviceMemory(context, byteCount: values.count * 4, purpose: "a test")
        try stream.upload(values, to: memory.address)
        return memory
    }

    /// Multiplies in place.
    func scale(_ address: DeviceAddress, by factor: Float, count: Int, on other: CUDAStream? = nil) throws(CUDAError) {
        var arguments = KernelArguments()
        arguments.append(address)
        arguments.append(factor)
        arguments.append(Int32(count))
        try (other ?? stream).launch(
            module.function("double_scale"), LaunchShape(grid: .init(1), block: .init(256)), arguments)
    }

    func add(_ left: DeviceAddress, _ right: DeviceAddress, to sum: DeviceAddress, count: Int) throws(CUDAError) {
        var arguments = KernelArguments()
        arguments.append(left)
        arguments.append(right)
        arguments.append(sum)
        arguments.append(Int32(count))
        try stream.launch(
            module.function("double_add"), LaunchShape(grid: .init((count + 255) / 256), block: .init(256)), arguments)
    }

    func stray() throws(CUDAError) {
        try stream.launch(
            module.function("double_stray"), LaunchShape(grid: .init(1), block: .init(1)), KernelArguments())
    }
}

/// Both ways in which the double runs work.
let orders = ["eager", "lazy"]
