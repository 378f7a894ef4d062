// Tandem — Apache-2.0

internal import CTandemSystem
internal import Synchronization

/// A range of device addresses, reserved once, behind which memory grows and shrinks: graphs and tables keep their
/// addresses. Freed with the object.
///
/// Physical memory comes in chunks of ``granularity``; `grow` and `shrink` change the end.
public final class VirtualMemory: Sendable {
    public let context: CUDAContext
    public let address: DeviceAddress
    /// Bytes of addresses.
    public let capacity: Int
    /// What sizes are multiples of: 2 MiB on the GPUs of today.
    public let granularity: Int
    /// Sizes of what is mapped, in order. The mappings keep the memory; its handles are given back at once.
    private let chunks = Mutex<[Int]>([])

    /// Reserves addresses and no memory.
    ///
    /// - Parameter capacity: in bytes; rounded up to the granularity.
    public init(_ context: CUDAContext, capacity: Int) throws(CUDAError) {
        guard context.device.hasVirtualMemory else {
            throw CUDAError(
                kind: .unsupported, call: "cuMemAddressReserve",
                detail: "\(context.device.name) has no virtual memory management")
        }
        granularity = try PhysicalMemory.granularity(context)
        self.capacity = (max(1, capacity) + granularity - 1) / granularity * granularity
        self.context = context
        var address: DeviceAddress = 0
        try context.check(
            context.functions.addressReserve(&address, self.capacity, 0, 0, 0), "cuMemAddressReserve",
            "\(self.capacity >> 20) MiB of addresses")
        self.address = address
    }

    /// Bytes of memory behind the addresses, from the first on.
    public var byteCount: Int { chunks.withLock { $0.reduce(0, +) } }

    /// Adds memory at the end, with undefined contents.
    ///
    /// - Parameter bytes: rounded up to the granularity.
    /// - Throws: `outOfMemory`: nothing changed; `invalid` beyond the capacity.
    public func grow(by bytes: Int, purpose: String) throws(CUDAError) {
        let physical = try PhysicalMemory(context, byteCount: bytes, isShared: false, purpose: purpose)
        try append(physical, isWritable: true)
    }

    /// Adds memory that another process may own, at the end.
    public func append(_ physical: borrowing PhysicalMemory, isWritable: Bool) throws(CUDAError) {
        let (size, functions) = (physical.byteCount, context.functions)
        let used = byteCount
        guard used + size <= capacity else {
            throw CUDAError(
                kind: .invalid, call: "cuMemMap", detail: "\(used + size) bytes behind \(capacity) bytes of addresses")
        }
        let start = address + UInt64(used)
        try context.check(functions.map(start, size, 0, physical.handle, 0), "cuMemMap")
        var access = tandem_cuda_memory_access(
            location: tandem_cuda_memory_location(type: 1, identifier: context.device.ordinal),
            flags: isWritable ? 3 : 1)
        let status = functions.setAccess(start, size, &access, 1)
        guard status == 0 else {
            _ = functions.unmap(start, size)
            throw context.driver.error(status, "cuMemSetAccess")
        }
        chunks.withLock { $0.append(size) }
    }

    /// Gives back memory at the end, whole chunks as they were added, so that at least `bytes` remain. Nothing may use
    /// it any more.
    public func shrink(to bytes: Int) throws(CUDAError) {
        while true {
            let size = byteCount
            guard let last = chunks.withLock({ $0.last }), size - last >= bytes else { return }
            try context.check(
                context.functions.unmap(address + UInt64(size - last), last), "cuMemUnmap")
            chunks.withLock { _ = $0.removeLast() }
        }
    }

    deinit {
        context.release {
            var end = address
            chunks.withLock { chunks in
                for chunk in chunks {
                    _ = context.functions.unmap(end, chunk)
                    end += UInt64(chunk)
                }
            }
            return context.functions.addressFree(address, capacity)
        }
    }
}

/// Device memory without an address, as ``VirtualMemory`` maps it; can be shared with other processes by a file
/// descriptor. Given back when the value and all mappings, here and elsewhere, are gone.
public struct PhysicalMemory: ~Copyable, Sendable {
    public let context: CUDAContext
    public let byteCount: Int
    let handle: UInt64

    /// - Parameters:
    ///   - byteCount: rounded up to the granularity.
    ///   - isShared: whether it can be exported.
    public init(_ context: CUDAContext, byteCount: Int, isShared: Bool, purpose: String) throws(CUDAError) {
        let granularity = try Self.granularity(context)
        let size = (max(1, byteCount) + granularity - 1) / granularity * granularity
        var properties = Self.properties(context, isShared: isShared)
        var handle: UInt64 = 0
        let status = context.functions.physicalCreate(&handle, size, &properties, 0)
        guard status == 0 else { throw context.shortage(status, "cuMemCreate", size, purpose) }
        self.context = context
        self.byteCount = size
        self.handle = handle
    }

    /// Memory of another process.
    ///
    /// - Parameters:
    ///   - descriptor: from ``descriptor()`` there; stays open and may be closed after this.
    ///   - byteCount: as its owner says.
    public init(_ context: CUDAContext, descriptor: Int32, byteCount: Int) throws(CUDAError) {
        var handle: UInt64 = 0
        try context.check(
            context.functions.importHandle(&handle, UInt(bitPattern: Int(descriptor)), 1),
            "cuMemImportFromShareableHandle")
        self.context = context
        self.byteCount = byteCount
        self.handle = handle
    }

    /// A file descriptor by which another process can map this memory. The caller closes it.
    ///
    /// - Throws: `unsupported` where descriptors of device memory do not exist (some sandboxes).
    public func descriptor() throws(CUDAError) -> Int32 {
        var descriptor: Int32 = -1
        try context.check(
            context.functions.exportHandle(&descriptor, handle, 1, 0), "cuMemExportToShareableHandle")
        return descriptor
    }

    deinit { context.release { context.functions.physicalRelease(handle) } }

    static func properties(_ context: CUDAContext, isShared: Bool) -> tandem_cuda_allocation_properties {
        var properties = tandem_cuda_allocation_properties()
        properties.type = 1
        properties.handle_types = isShared ? 1 : 0
        properties.location = tandem_cuda_memory_location(type: 1, identifier: context.device.ordinal)
        return properties
    }

    static func granularity(_ context: CUDAContext) throws(CUDAError) -> Int {
        var properties = properties(context, isShared: false)
        var granularity = 0
        try context.check(
            context.functions.granularity(&granularity, &properties, 0), "cuMemGetAllocationGranularity")
        guard granularity > 0 else {
            throw CUDAError(kind: .unsupported, call: "cuMemGetAllocationGranularity", detail: "is \(granularity)")
        }
        return granularity
    }
}
