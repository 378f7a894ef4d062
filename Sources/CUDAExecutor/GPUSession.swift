// Tandem — Apache-2.0

public import CUDADriver
public import CUDAKernels

/// A GPU made ready: its context, one stream, and all kernels loaded. Belongs to one thread at a time, in which the
/// context is current.
public final class GPUSession {
    public let context: CUDAContext
    public let stream: CUDAStream
    /// Where the kernels' code came from.
    public let kernelOrigin: KernelCache.Origin
    /// The compiler's report, if they were compiled just now.
    public let compilerLog: String?
    /// By kernel; null if the GPU's architecture has not got it.
    private let functions: [CUDAFunction?]

    public var device: CUDADevice { context.device }

    /// Finds the driver and the device, and loads the kernels: compiles them if nobody has.
    ///
    /// - Parameters:
    ///   - selector: which GPU.
    ///   - environment: where libraries and compiled kernels are; see `CUDADriver`.
    ///   - priority: of the stream; lower goes first.
    public convenience init(
        _ selector: CUDADeviceSelector, environment: [String: String], priority: Int = 0
    ) throws(CUDAError) {
        let driver = try CUDADriver(environment: environment)
        let device = try driver.device(selector)
        try device.requireSupport()
        try self.init(try CUDAContext(device), environment: environment, priority: priority)
    }

    public init(_ context: CUDAContext, environment: [String: String], priority: Int = 0) throws(CUDAError) {
        self.context = context
        stream = try CUDAStream(context, priority: priority)
        let source = KernelSource(name: KernelText.name, text: KernelText.text, options: KernelText.options)
        let loaded = try KernelCache(environment: environment).module(of: source, in: context) {
            () throws(CUDAError) in try KernelCompiler(environment: environment, driver: context.device.driver)
        }
        kernelOrigin = loaded.entry.origin
        compilerLog = loaded.entry.log
        var functions: [CUDAFunction?] = []
        for kernel in Kernel.allCases {
            guard kernel.exists(onComputeCapability: context.device.computeCapability.major) else {
                functions.append(nil)
                continue
            }
            let function = try loaded.module.function(kernel.rawValue)
            if kernel.dynamicSharedBytes > 48 << 10 { try function.allowSharedMemory(kernel.dynamicSharedBytes) }
            functions.append(function)
        }
        self.functions = functions
    }

    /// Puts a kernel into the stream; one without work is left out.
    public func launch(_ launch: KernelLaunch) throws(CUDAError) {
        guard !launch.isEmpty else { return }
        guard let function = functions[launch.kernel.index] else {
            throw CUDAError(
                kind: .unsupported, call: launch.kernel.rawValue,
                detail: "GPUs of compute capability \(device.computeCapability) have no such kernel")
        }
        try launch.start(function, on: stream)
    }

    /// Whether the GPU's architecture has a kernel.
    public func has(_ kernel: Kernel) -> Bool { functions[kernel.index] != nil }

    /// What the compiler made of each kernel.
    public func resources() throws(CUDAError) -> [(name: String, resources: CUDAFunction.Resources)] {
        var list: [(name: String, resources: CUDAFunction.Resources)] = []
        for function in functions.compactMap(\.self) { list.append((function.name, try function.resources())) }
        return list
    }
}

extension Kernel {
    /// Its place among all.
    fileprivate var index: Int { Self.places[self] ?? 0 }

    private static let places = Dictionary(uniqueKeysWithValues: allCases.enumerated().map { ($1, $0) })
}
