// Tandem — Apache-2.0

/// Compiled kernels, loaded.
public final class CUDAModule: Sendable {
    public let context: CUDAContext
    private let handle: DriverHandle

    /// - Parameter image: a cubin for this GPU.
    public init(_ context: CUDAContext, image: [UInt8]) throws(CUDAError) {
        var handle: DriverHandle = 0
        // The driver reads as far as the image's own headers say: an empty or cut one must not get there.
        guard CubinImage.isComplete(image) else {
            throw CUDAError(driver: 200, call: "cuModuleLoadData", detail: "\(image.count) bytes, no whole cubin")
        }
        let status = image.withUnsafeBytes { bytes in
            bytes.baseAddress.map { context.functions.moduleLoad(&handle, $0) } ?? 200
        }
        try context.check(status, "cuModuleLoadData", "\(image.count) bytes")
        self.context = context
        self.handle = handle
    }

    deinit { context.release { context.functions.moduleUnload(handle) } }

    /// The kernel of that name.
    public func function(_ name: String) throws(CUDAError) -> CUDAFunction {
        var function: DriverHandle = 0
        try context.check(
            context.functions.moduleFunction(&function, handle, name), "cuModuleGetFunction", "kernel \(name)")
        return CUDAFunction(module: self, name: name, handle: function)
    }
}

/// A kernel.
public struct CUDAFunction: Sendable {
    /// Keeps the code loaded.
    let module: CUDAModule
    public let name: String
    let handle: DriverHandle

    /// What the compiler made of it.
    public struct Resources: Sendable, Equatable {
        public var registers: Int
        /// Of each thread, in memory: above 0, registers were spilled or arrays indexed.
        public var localBytes: Int
        /// Fixed in the code.
        public var sharedBytes: Int
        public var threadsPerBlock: Int
    }

    public func resources() throws(CUDAError) -> Resources {
        func attribute(_ number: Int32) throws(CUDAError) -> Int {
            var value: Int32 = 0
            try module.context.check(
                module.context.functions.functionAttribute(&value, number, handle), "cuFuncGetAttribute", name)
            return Int(value)
        }
        return Resources(
            registers: try attribute(4), localBytes: try attribute(3), sharedBytes: try attribute(1),
            threadsPerBlock: try attribute(0))
    }

    /// Lets blocks have that much dynamic shared memory; needed above 48 KiB.
    public func allowSharedMemory(_ bytes: Int) throws(CUDAError) {
        try module.context.check(
            module.context.functions.functionSetAttribute(handle, 8, Int32(clamping: bytes)), "cuFuncSetAttribute",
            "\(name): \(bytes) bytes of shared memory")
    }

    /// Blocks that run on one multiprocessor at a time.
    public func blocksPerMultiprocessor(threads: Int, sharedBytes: Int) throws(CUDAError) -> Int {
        var blocks: Int32 = 0
        try module.context.check(
            module.context.functions.occupancy(&blocks, handle, Int32(clamping: threads), max(0, sharedBytes)),
            "cuOccupancyMaxActiveBlocksPerMultiprocessor", name)
        return Int(blocks)
    }
}

/// How many blocks of how many threads.
public struct LaunchShape: Sendable, Hashable, CustomStringConvertible {
    public struct Extent: Sendable, Hashable {
        public var x, y, z: UInt32

        public init(_ x: Int, _ y: Int = 1, _ z: Int = 1) {
            self.x = UInt32(clamping: x)
            self.y = UInt32(clamping: y)
            self.z = UInt32(clamping: z)
        }
    }

    /// Blocks: at most 2^31 - 1, 65535, 65535; none may be 0.
    public var grid: Extent
    /// Threads of a block: at most 1024 in all.
    public var block: Extent
    /// Dynamic shared memory of a block, in bytes.
    public var sharedBytes: UInt32

    public init(grid: Extent, block: Extent, sharedBytes: Int = 0) {
        self.grid = grid
        self.block = block
        self.sharedBytes = UInt32(clamping: sharedBytes)
    }

    public var description: String {
        "grid \(grid.x)x\(grid.y)x\(grid.z), block \(block.x)x\(block.y)x\(block.z), \(sharedBytes) bytes"
    }
}

/// Arguments of a kernel in the order of its parameters; at most 32. Makes no allocation.
public struct KernelArguments: Sendable {
    public static let capacity = 32
    public private(set) var count = 0
    /// Each value at the beginning of a word (little-endian machines only, as CUDA's hosts are).
    var words = InlineArray<32, UInt64>(repeating: 0)

    public init() {}

    public mutating func append(_ address: DeviceAddress) {
        precondition(count < Self.capacity, "no kernel of this program has so many parameters")
        words[count] = address
        count += 1
    }

    /// A null address for an absent optional.
    public mutating func append(_ address: DeviceAddress?) { append(address ?? 0) }
    public mutating func append(_ value: Int32) { append(UInt64(UInt32(bitPattern: value))) }
    public mutating func append(_ value: UInt32) { append(UInt64(value)) }
    public mutating func append(_ value: Float) { append(UInt64(value.bitPattern)) }
    public mutating func append(_ value: Double) { append(value.bitPattern) }
}
