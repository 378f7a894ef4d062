// Tandem — Apache-2.0

/// A queue of work on the device. What is put in runs in order; all calls but `synchronize` return at once.
///
/// The context must be current in the calling thread. One thread at a time uses a stream.
public final class CUDAStream: Sendable {
    public let context: CUDAContext
    let handle: DriverHandle
    /// It lives as long as its stream.
    private let part: GreenContext?
    private var functions: DriverFunctions { context.functions }

    /// - Parameters:
    ///   - priority: lower goes first, see ``CUDAContext/streamPriorities``; others are clamped.
    ///   - part: multiprocessors that its work stays on; null for all.
    public init(_ context: CUDAContext, priority: Int = 0, part: GreenContext? = nil) throws(CUDAError) {
        let range = context.streamPriorities
        self.context = context
        self.part = part
        if let part {
            handle = try part.stream(priority: Int32(min(max(priority, range.lowerBound), range.upperBound)))
            return
        }
        var handle: DriverHandle = 0
        // 1: does not wait for the default stream.
        try context.check(
            context.functions.streamCreate(&handle, 1, Int32(min(max(priority, range.lowerBound), range.upperBound))),
            "cuStreamCreateWithPriority")
        self.handle = handle
    }

    deinit { context.release { context.functions.streamDestroy(handle) } }

    // MARK: Copies and fills

    /// Copies host memory to the device. The bytes must stay unchanged until the copy is done, and must be pinned
    /// for the call to return at once.
    public func copy(from source: UnsafeRawBufferPointer, to destination: DeviceAddress) throws(CUDAError) {
        guard let base = source.baseAddress, !source.isEmpty else { return }
        try context.check(functions.copyToDevice(destination, base, source.count, handle), "cuMemcpyHtoDAsync")
    }

    /// Copies device memory to the host; the bytes are there once the stream's work up to here is done.
    public func copy(from source: DeviceAddress, to destination: UnsafeMutableRawBufferPointer) throws(CUDAError) {
        guard let base = destination.baseAddress, !destination.isEmpty else { return }
        try context.check(functions.copyToHost(base, source, destination.count, handle), "cuMemcpyDtoHAsync")
    }

    /// Copies on the device; the two must not overlap.
    public func copy(from source: DeviceAddress, to destination: DeviceAddress, byteCount: Int) throws(CUDAError) {
        guard byteCount > 0 else { return }
        try context.check(functions.copyOnDevice(destination, source, byteCount, handle), "cuMemcpyDtoDAsync")
    }

    public func fill(_ address: DeviceAddress, byte: UInt8, count: Int) throws(CUDAError) {
        guard count > 0 else { return }
        try context.check(functions.fillBytes(address, byte, count, handle), "cuMemsetD8Async")
    }

    /// - Parameter count: of 32-bit words; the address is a multiple of 4.
    public func fill(_ address: DeviceAddress, word: UInt32, count: Int) throws(CUDAError) {
        guard count > 0 else { return }
        try context.check(functions.fillWords(address, word, count, handle), "cuMemsetD32Async")
    }

    /// Copies an array to the device and waits: for set-up and tests.
    public func upload<Element: BitwiseCopyable>(_ elements: [Element], to address: DeviceAddress) throws(CUDAError) {
        let result = elements.withUnsafeBytes { bytes in
            Result { () throws(CUDAError) in
                try copy(from: bytes, to: address)
                try synchronize()
            }
        }
        try result.get()
    }

    /// Copies an array from the device and waits: for set-up and tests.
    public func download<Element: BitwiseCopyable>(
        _ address: DeviceAddress, count: Int, as zero: Element
    ) throws(CUDAError) -> [Element] {
        var elements = [Element](repeating: zero, count: count)
        let result = elements.withUnsafeMutableBytes { bytes in
            Result { () throws(CUDAError) in
                try copy(from: address, to: bytes)
                try synchronize()
            }
        }
        try result.get()
        return elements
    }

    // MARK: Kernels

    /// Starts a kernel. Arguments are copied before this returns.
    public func launch(
        _ function: CUDAFunction, _ shape: LaunchShape, _ arguments: borrowing KernelArguments,
        startsEarly: Bool = false
    ) throws(CUDAError) {
        try launch(function, shape, arguments.words.span, count: arguments.count, startsEarly: startsEarly)
    }

    /// Starts a kernel whose arguments are in 8-byte words, each at the beginning of its own.
    ///
    /// - Parameters:
    ///   - count: as many words as the kernel has parameters.
    ///   - startsEarly: see ``CUDADevice/startsKernelsEarly``. The kernel must wait for the one before it by itself, and
    ///     the last thing put into the stream must be a kernel.
    public func launch(
        _ function: CUDAFunction, _ shape: LaunchShape, _ words: Span<UInt64>, count: Int, startsEarly: Bool = false
    ) throws(CUDAError) {
        let status = words.withUnsafeBufferPointer { words in
            withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: max(1, count)) { pointers in
                for index in 0..<count {
                    pointers.initializeElement(
                        at: index,
                        to: UnsafeMutableRawPointer(mutating: words.baseAddress.map { UnsafeRawPointer($0 + index) }))
                }
                if startsEarly { return launchEarly(function, shape, pointers.baseAddress) }
                return functions.launch(
                    function.handle, shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x, shape.block.y,
                    shape.block.z, shape.sharedBytes, handle, pointers.baseAddress, nil)
            }
        }
        try context.check(status, "cuLaunchKernel", "\(function.name) \(shape)")
    }

    /// Starts the kernels of a graph.
    public func launch(_ graph: CUDAGraph) throws(CUDAError) {
        try context.check(functions.graphLaunch(graph.handle, handle), "cuGraphLaunch")
    }

    // MARK: Order

    /// Marks this point of the stream.
    public func record(_ event: CUDAEvent) throws(CUDAError) {
        try context.check(functions.eventRecord(event.handle, handle), "cuEventRecord")
    }

    /// Lets later work of this stream wait for an event of another.
    public func wait(for event: CUDAEvent) throws(CUDAError) {
        try context.check(functions.streamWait(handle, event.handle, 0), "cuStreamWaitEvent")
    }

    /// Waits until all work put in so far is done. Errors of that work are thrown here, or by any later call.
    public func synchronize() throws(CUDAError) {
        try context.check(functions.streamSynchronize(handle), "cuStreamSynchronize")
    }

    /// Whether all work is done.
    public func isIdle() throws(CUDAError) -> Bool {
        let status = functions.streamQuery(handle)
        if status == CUDAEvent.notReady { return false }
        try context.check(status, "cuStreamQuery")
        return true
    }

    // MARK: Graphs

    /// Records what `body` puts into this stream, in place of running it, and makes a graph of it.
    ///
    /// Arguments of kernels are fixed here, not what they point to. Nothing that allocates, waits or asks for a GEMM
    /// algorithm may be called meanwhile.
    public func capture(_ body: () throws(CUDAError) -> Void) throws(CUDAError) -> CUDAGraph {
        // 1: thread-local: what other threads do does not spoil the capture.
        try context.check(functions.beginCapture(handle, 1), "cuStreamBeginCapture")
        let result = Result(catching: body)
        var graph: DriverHandle = 0
        let status = functions.endCapture(handle, &graph)
        defer { if graph != 0 { _ = functions.graphDestroy(graph) } }
        try result.get()
        try context.check(status, "cuStreamEndCapture")
        return try CUDAGraph(context, graph: graph)
    }
}

/// Recorded work of a stream, to be started by one call.
public final class CUDAGraph: Sendable {
    public let context: CUDAContext
    /// Kernels, copies and fills in it.
    public let nodeCount: Int
    let handle: DriverHandle

    init(_ context: CUDAContext, graph: DriverHandle) throws(CUDAError) {
        let functions = context.functions
        var count = 0
        try context.check(functions.graphNodes(graph, nil, &count), "cuGraphGetNodes")
        var handle: DriverHandle = 0
        try context.check(functions.graphInstantiate(&handle, graph, 0), "cuGraphInstantiate", "\(count) nodes")
        self.context = context
        self.handle = handle
        nodeCount = count
    }

    deinit { context.release { context.functions.graphExecutableDestroy(handle) } }

    /// Brings the graph to the device, so that its first start is as fast as later ones.
    public func upload(on stream: CUDAStream) throws(CUDAError) {
        try context.check(context.functions.graphUpload(handle, stream.handle), "cuGraphUpload")
    }
}

/// A point in a stream's work.
public final class CUDAEvent: Sendable {
    static let notReady: Status = 600

    public let context: CUDAContext
    let handle: DriverHandle

    /// - Parameters:
    ///   - measuresTime: whether it notes when it was reached; costs a little.
    ///   - blocks: whether threads that wait for it sleep.
    public init(_ context: CUDAContext, measuresTime: Bool = false, blocks: Bool = false) throws(CUDAError) {
        var handle: DriverHandle = 0
        try context.check(
            context.functions.eventCreate(&handle, (blocks ? 1 : 0) | (measuresTime ? 0 : 2)), "cuEventCreate")
        self.context = context
        self.handle = handle
    }

    deinit { context.release { context.functions.eventDestroy(handle) } }

    /// Whether the point has been reached (true also before it is recorded anywhere).
    public func isReached() throws(CUDAError) -> Bool {
        let status = context.functions.eventQuery(handle)
        if status == Self.notReady { return false }
        try context.check(status, "cuEventQuery")
        return true
    }

    /// Waits for it.
    public func synchronize() throws(CUDAError) {
        try context.check(context.functions.eventSynchronize(handle), "cuEventSynchronize")
    }

    /// Seconds of device time since an earlier event; both measure time and have been reached.
    public func seconds(since earlier: CUDAEvent) throws(CUDAError) -> Double {
        var milliseconds: Float = 0
        try context.check(
            context.functions.eventElapsed(&milliseconds, earlier.handle, handle), "cuEventElapsedTime")
        return Double(milliseconds) / 1000
    }
}
