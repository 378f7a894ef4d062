// Tandem — Apache-2.0

/// Three numbers, as of a grid or of a block of threads.
public struct LaunchSize: Sendable, Equatable {
    public var x: UInt32
    public var y: UInt32
    public var z: UInt32

    public init(_ x: Int, _ y: Int = 1, _ z: Int = 1) {
        self.x = UInt32(clamping: x)
        self.y = UInt32(clamping: y)
        self.z = UInt32(clamping: z)
    }
}

/// A kernel with all it needs to start. It owns no memory beyond itself, so that a step can make thousands.
public struct KernelLaunch: Sendable {
    /// Most arguments of a kernel.
    public static let argumentLimit = 24

    public let kernel: Kernel
    /// A grid with a zero in it has no work and must not be launched: see ``isEmpty``.
    public let grid: LaunchSize
    public let block: LaunchSize
    public var sharedBytes: UInt32 { UInt32(kernel.dynamicSharedBytes) }
    public private(set) var argumentCount = 0
    /// Bit `i` is set if argument `i` has 8 bytes instead of 4.
    public private(set) var wideArguments: UInt32 = 0
    private var arguments = InlineArray<24, UInt64>(repeating: 0)

    init(_ kernel: Kernel, grid: LaunchSize, threads: Int) {
        self.kernel = kernel
        self.grid = grid
        block = LaunchSize(threads)
    }

    /// Whether there is nothing to do.
    public var isEmpty: Bool { grid.x == 0 || grid.y == 0 || grid.z == 0 }

    /// Arguments that a kernel that starts early reads before it waits for earlier work: weights, which no step writes.
    public var argumentsReadEarly: [Int] { kernel.isGEMM ? [2] : [] }

    /// Calls `body` with the addresses of the arguments' values in order, as `cuLaunchKernel` takes them; they hold
    /// during the call only.
    public func withParameters<Result>(
        _ body: (UnsafeMutablePointer<UnsafeMutableRawPointer?>) throws -> Result
    ) rethrows -> Result {
        // Unsafe because the driver's interface is.
        try withUnsafeTemporaryAllocation(of: UInt64.self, capacity: Self.argumentLimit) { values in
            try withUnsafeTemporaryAllocation(
                of: UnsafeMutableRawPointer?.self, capacity: Self.argumentLimit
            ) { addresses in
                for index in 0..<Self.argumentLimit {
                    values.initializeElement(at: index, to: arguments[index])
                    addresses.initializeElement(
                        at: index, to: values.baseAddress.map { UnsafeMutableRawPointer($0 + index) })
                }
                guard let base = addresses.baseAddress else { preconditionFailure("an allocation without memory") }
                return try body(base)
            }
        }
    }

    // MARK: - Arguments, in the order of the kernel's text

    private mutating func append(_ word: UInt64, isWide: Bool) {
        precondition(argumentCount < Self.argumentLimit, "a kernel of this room has more arguments than it permits")
        arguments[argumentCount] = word
        if isWide { wideArguments |= 1 << UInt32(argumentCount) }
        argumentCount += 1
    }

    mutating func add<Element>(_ pointer: DevicePointer<Element>?) { append(pointer?.address ?? 0, isWide: true) }
    mutating func add(_ value: Int) {
        append(UInt64(UInt32(bitPattern: Int32(truncatingIfNeeded: value))), isWide: false)
    }
    mutating func add(_ value: Float) { append(UInt64(value.bitPattern), isWide: false) }
    mutating func add(_ value: UInt32) { append(UInt64(value), isWide: false) }
    mutating func add(wide value: UInt64) { append(value, isWide: true) }
}
