// Tandem — Apache-2.0

public import CUDADriver
public import CUDAKernels

/// A GPU made ready: its context, one stream, and all kernels loaded. Belongs to one thread at a time, in which the
/// context is current.
public final class GPUSession {
    public let context: CUDAContext
    public let stream: CUDAStream
    /// Multiprocessors that the stream's work runs on.
    public let multiprocessors: Int
    /// Where the kernels' code came from.
    public let kernelOrigin: KernelCache.Origin
    /// The compiler's report, if they were compiled just now.
    public let compilerLog: String?
    /// By kernel; null if the GPU's architecture has not got it.
    let functions: [CUDAFunction?]
    /// Whether kernels may start while the one before them ends, and wait for it by themselves. It is off unless
    /// `TANDEM_CUDA_PDL` is 1, because no GPU has shown yet what it gains.
    public let overlapsKernels: Bool

    public var device: CUDADevice { context.device }
    /// Whether others have the rest of the multiprocessors.
    var isPart: Bool { multiprocessors < context.device.multiprocessors }

    /// Finds the driver and the device, and loads the kernels: compiles them if nobody has.
    ///
    /// - Parameters:
    ///   - selector: which GPU.
    ///   - environment: where libraries and compiled kernels are; see `CUDADriver`.
    ///   - priority: of the stream; lower goes first.
    public convenience init(
        _ selector: CUDADeviceSelector, environment: [String: String], priority: Int = 0
    ) throws(CUDAError) {
        try self.init(
            try Self.context(selector, environment: environment), environment: environment, priority: priority)
    }

    /// Finds the driver and the device and makes its context current.
    static func context(
        _ selector: CUDADeviceSelector, environment: [String: String]
    ) throws(CUDAError) -> CUDAContext {
        let driver = try CUDADriver(environment: environment)
        let device = try driver.device(selector)
        try device.requireSupport()
        return try CUDAContext(device)
    }

    public init(
        _ context: CUDAContext, environment: [String: String], priority: Int = 0, part: GreenContext? = nil
    ) throws(CUDAError) {
        self.context = context
        multiprocessors = part?.multiprocessors ?? context.device.multiprocessors
        overlapsKernels = environment["TANDEM_CUDA_PDL"] == "1" && context.device.startsKernelsEarly
        stream = try CUDAStream(context, priority: priority, part: part)
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

    /// A session beside another one of the process: the same context and kernels, a stream of its own. The context must
    /// be current.
    init(beside shared: SharedModel, priority: Int, part: GreenContext?) throws(CUDAError) {
        context = shared.context
        multiprocessors = part?.multiprocessors ?? context.device.multiprocessors
        stream = try CUDAStream(context, priority: priority, part: part)
        functions = shared.functions
        overlapsKernels = shared.overlapsKernels
        kernelOrigin = shared.kernelOrigin
        compilerLog = nil
    }

    /// Puts a kernel into the stream; one without work is left out.
    ///
    /// - Parameter followsKernel: that the last thing in the stream is a kernel, so that this one may start early if
    ///   kernels overlap.
    public func launch(_ launch: KernelLaunch, followsKernel: Bool = false) throws(CUDAError) {
        guard !launch.isEmpty else { return }
        try launch.start(
            try function(of: launch), on: stream,
            startsEarly: followsKernel && overlapsKernels && launch.kernel.canStartEarly)
    }

    /// Puts a kernel into the stream, behind another one, that starts before that one has ended; where the GPU can.
    func launchEarly(_ launch: KernelLaunch) throws(CUDAError) {
        guard !launch.isEmpty else { return }
        try launch.start(
            try function(of: launch), on: stream,
            startsEarly: launch.kernel.canStartEarly && device.startsKernelsEarly)
    }

    private func function(of launch: KernelLaunch) throws(CUDAError) -> CUDAFunction {
        guard let function = functions[launch.kernel.index] else {
            throw CUDAError(
                kind: .unsupported, call: launch.kernel.rawValue,
                detail: "GPUs of compute capability \(device.computeCapability) have no such kernel")
        }
        return function
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
