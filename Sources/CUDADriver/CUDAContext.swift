// Tandem — Apache-2.0

/// The device's primary context in this process, in which everything else lives. Given back with the last reference.
///
/// The driver's calls act on the context that is current in the calling thread: a thread that launches, copies or
/// waits calls ``makeCurrent()`` once. Objects of this context can be dropped in any thread.
public final class CUDAContext: Sendable {
    public let device: CUDADevice
    /// Priorities that streams may have; lower numbers go first.
    public let streamPriorities: ClosedRange<Int>
    let handle: DriverHandle
    var driver: CUDADriver { device.driver }
    var functions: DriverFunctions { device.driver.functions }

    /// How threads wait for the device.
    public enum Waiting: UInt32, Sendable {
        /// The driver decides by the number of contexts and cores.
        case automatic = 0
        /// Fastest to notice, and keeps a core busy.
        case spin = 1
        case yield = 2
        /// Sleeps: for machines with fewer cores than engines.
        case block = 4
    }

    /// Makes the context and makes it current in the calling thread.
    ///
    /// - Throws: `mps` if MPS refuses, `outOfMemory`, `retry` if another process holds the GPU exclusively.
    public init(_ device: CUDADevice, waiting: Waiting = .automatic) throws(CUDAError) {
        let (driver, functions) = (device.driver, device.driver.functions)
        self.device = device
        // Refused if the context is in use already with other flags, as by another engine of this process.
        _ = functions.primarySetFlags(device.ordinal, waiting.rawValue)
        var handle: DriverHandle = 0
        try driver.check(functions.primaryRetain(&handle, device.ordinal), "cuDevicePrimaryCtxRetain")
        self.handle = handle
        var (least, greatest): (Int32, Int32) = (0, 0)
        var status = functions.contextSetCurrent(handle)
        if status == 0 { status = functions.streamPriorityRange(&least, &greatest) }
        guard status == 0 else {
            _ = functions.primaryRelease(device.ordinal)
            throw driver.error(status, "cuCtxSetCurrent")
        }
        streamPriorities = Int(min(greatest, least))...Int(max(greatest, least))
    }

    deinit { _ = functions.primaryRelease(device.ordinal) }

    /// Makes this context current in the calling thread.
    public func makeCurrent() throws(CUDAError) {
        try driver.check(functions.contextSetCurrent(handle), "cuCtxSetCurrent")
    }

    /// Waits for all work of the context.
    public func synchronize() throws(CUDAError) {
        try driver.check(functions.contextSynchronize(), "cuCtxSynchronize")
    }

    /// Bytes of device memory that are free for everyone, and in all. Under an MPS memory limit both are the limit's.
    public func memory() throws(CUDAError) -> (free: Int, total: Int) {
        var (free, total) = (0, 0)
        try driver.check(functions.memoryInformation(&free, &total), "cuMemGetInfo")
        return (free, total)
    }

    /// Gives something back in whatever thread this is. Errors are of no use here: after a fatal one all calls fail.
    func release(_ body: () -> Status) {
        guard functions.contextPush(handle) == 0 else { return }
        _ = body()
        var popped: DriverHandle = 0
        _ = functions.contextPop(&popped)
    }

    func check(_ status: Status, _ call: @autoclosure () -> String, _ detail: @autoclosure () -> String = "")
        throws(CUDAError)
    {
        guard status != 0 else { return }
        throw driver.error(status, call(), detail())
    }
}
