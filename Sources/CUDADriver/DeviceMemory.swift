// Tandem — Apache-2.0

/// An address in the device's memory. A plain number, so that kernels' arguments can hold it and offsets be added.
public typealias DeviceAddress = UInt64

/// Device memory of its own, aligned to 256 bytes, with undefined contents; freed with the object. Whoever drops it must
/// have waited for the work that uses it.
public final class DeviceMemory: Sendable {
    public let context: CUDAContext
    public let address: DeviceAddress
    public let byteCount: Int

    /// - Parameters:
    ///   - byteCount: at least one byte is taken.
    ///   - purpose: names the memory in the error.
    public init(_ context: CUDAContext, byteCount: Int, purpose: String) throws(CUDAError) {
        var address: DeviceAddress = 0
        let status = context.functions.allocate(&address, max(1, byteCount))
        guard status == 0 else { throw context.shortage(status, "cuMemAlloc", byteCount, purpose) }
        self.context = context
        self.address = address
        self.byteCount = byteCount
    }

    deinit { context.release { context.functions.free(address) } }

    /// Names this memory to other processes of this machine that use the same GPU; see ``ForeignMemory``. The memory
    /// must outlive its users there.
    public func exported() throws(CUDAError) -> ForeignMemory.Handle {
        var handle = ForeignMemory.Handle()
        try context.check(context.functions.ipcExport(&handle.value, address), "cuIpcGetMemHandle")
        return handle
    }
}

extension CUDAContext {
    /// An error of an allocation, with what was wanted and what is free.
    func shortage(_ status: Status, _ call: String, _ byteCount: Int, _ purpose: String) -> CUDAError {
        var detail = "\(byteCount >> 20) MiB for \(purpose)"
        if let memory = try? memory() { detail += ", \(memory.free >> 20) of \(memory.total >> 20) MiB are free" }
        return driver.error(status, call, detail)
    }
}

/// Host memory that the device copies from and to by itself; zeroed; freed with the object.
public final class PinnedMemory: Sendable {
    public let context: CUDAContext
    public let byteCount: Int
    /// Kept as a number so that the object can be sent; who may read and write is the business of those who hold it.
    private let address: UInt

    public var bytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: UnsafeMutableRawPointer(bitPattern: address), count: byteCount)
    }

    public init(_ context: CUDAContext, byteCount: Int, purpose: String) throws(CUDAError) {
        var address: UInt = 0
        let status = context.functions.allocateHost(&address, max(1, byteCount), 0)
        guard status == 0 else {
            throw context.driver.error(status, "cuMemHostAlloc", "\(byteCount >> 20) MiB for \(purpose)")
        }
        self.context = context
        self.byteCount = byteCount
        self.address = address
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { context.release { context.functions.freeHost(address) } }
}

/// Memory of another process, mapped here (CUDA IPC). Its owner must outlive it.
public final class ForeignMemory: Sendable {
    public let context: CUDAContext
    public let address: DeviceAddress

    public init(_ context: CUDAContext, _ handle: Handle) throws(CUDAError) {
        var address: DeviceAddress = 0
        // 1: lazy peer access, the only flag there is.
        try context.check(context.functions.ipcOpen(&address, handle.value, 1), "cuIpcOpenMemHandle")
        self.context = context
        self.address = address
    }

    deinit { context.release { context.functions.ipcClose(address) } }
}
