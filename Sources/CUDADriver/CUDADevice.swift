// Tandem — Apache-2.0

/// A GPU (or a MIG instance) and what the driver says of it.
public struct CUDADevice: Sendable {
    public let driver: CUDADriver
    /// Its number among the devices that this process sees.
    public let index: Int
    /// The driver's ordinal.
    let ordinal: Int32
    public let name: String
    /// `GPU-…`, as `nvidia-smi -L` writes it.
    public let uuid: String
    /// Such as `0000:1B:00.0`; null if it is hidden.
    public let busID: String?
    public let memoryBytes: Int
    public let computeCapability: ComputeCapability
    /// Multiprocessors that this process may use: under an MPS limit or in a MIG instance fewer than the chip has.
    public let multiprocessors: Int
    /// Whether contexts of this process go through MPS. Known at once after the driver is initialized.
    public let usesMPS: Bool
    /// Shared memory that a block may have if its function asks for it, in bytes.
    public let sharedMemoryPerBlock: Int
    public let sharedMemoryPerMultiprocessor: Int
    public let threadsPerMultiprocessor: Int
    public let registersPerMultiprocessor: Int
    public let level2CacheBytes: Int
    /// In kHz; 0 if the driver does not say.
    public let clockKilohertz: Int
    public let memoryClockKilohertz: Int
    public let memoryBusBits: Int
    /// 0 default, 2 prohibited, 3 exclusive process.
    public let computeMode: Int
    /// Whether memory can be mapped at reserved addresses, and whether it can be shared by file descriptors.
    public let hasVirtualMemory: Bool
    public let sharesByDescriptor: Bool

    init(_ driver: CUDADriver, index: Int32) throws(CUDAError) {
        let functions = driver.functions
        var ordinal: Int32 = 0
        try driver.check(functions.device(&ordinal, index), "cuDeviceGet")
        self.driver = driver
        self.index = Int(index)
        self.ordinal = ordinal
        var text = [CChar](repeating: 0, count: 256)
        try driver.check(functions.deviceName(&text, Int32(text.count), ordinal), "cuDeviceGetName")
        name = Self.string(text)
        var bytes = [UInt8](repeating: 0, count: 16)
        try driver.check(functions.deviceUUID(&bytes, ordinal), "cuDeviceGetUuid")
        uuid = Self.uuid(bytes)
        text = [CChar](repeating: 0, count: 256)
        busID = functions.deviceBusID(&text, Int32(text.count), ordinal) == 0 ? Self.string(text) : nil
        var memory = 0
        try driver.check(functions.deviceMemory(&memory, ordinal), "cuDeviceTotalMem")
        memoryBytes = memory
        /// What an older driver does not know is 0.
        func attribute(_ attribute: Attribute) -> Int {
            var value: Int32 = 0
            return functions.deviceAttribute(&value, attribute.rawValue, ordinal) == 0 ? Int(value) : 0
        }
        computeCapability = ComputeCapability(
            major: attribute(.computeCapabilityMajor), minor: attribute(.computeCapabilityMinor))
        multiprocessors = attribute(.multiprocessors)
        usesMPS = attribute(.mpsEnabled) == 1
        sharedMemoryPerBlock = attribute(.sharedMemoryPerBlockOnRequest)
        sharedMemoryPerMultiprocessor = attribute(.sharedMemoryPerMultiprocessor)
        threadsPerMultiprocessor = attribute(.threadsPerMultiprocessor)
        registersPerMultiprocessor = attribute(.registersPerMultiprocessor)
        level2CacheBytes = attribute(.level2CacheBytes)
        clockKilohertz = attribute(.clock)
        memoryClockKilohertz = attribute(.memoryClock)
        memoryBusBits = attribute(.memoryBusBits)
        computeMode = attribute(.computeMode)
        hasVirtualMemory = attribute(.virtualMemory) == 1
        sharesByDescriptor = attribute(.sharesByDescriptor) == 1
    }

    /// Refuses a GPU that the kernels were not made for.
    public func requireSupport() throws(CUDAError) {
        guard computeCapability >= ComputeCapability.oldest else {
            throw CUDAError(
                kind: .unsupported, call: "cuda:\(index)",
                detail: "\(name) has compute capability \(computeCapability); needed is "
                    + "\(ComputeCapability.oldest) (Ampere: A100, A10, RTX 30 or later)",
                remedy: "choose another GPU, or use --device cpu")
        }
    }

    /// `CUdevice_attribute`.
    enum Attribute: Int32 {
        case clock = 13
        case multiprocessors = 16
        case computeMode = 20
        case memoryClock = 36
        case memoryBusBits = 37
        case level2CacheBytes = 38
        case threadsPerMultiprocessor = 39
        case computeCapabilityMajor = 75
        case computeCapabilityMinor = 76
        case sharedMemoryPerMultiprocessor = 81
        case registersPerMultiprocessor = 82
        case sharedMemoryPerBlockOnRequest = 97
        case virtualMemory = 102
        case sharesByDescriptor = 103
        case mpsEnabled = 133
    }

    static func string(_ text: [CChar]) -> String {
        String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func uuid(_ bytes: [UInt8]) -> String {
        var text = "GPU-"
        let digits = Array("0123456789abcdef")
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return text
    }
}

/// What instructions a GPU has.
public struct ComputeCapability: Sendable, Hashable, Comparable, CustomStringConvertible {
    public var major: Int
    public var minor: Int

    public init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Bfloat16 tensor cores and asynchronous copies to shared memory begin here.
    public static let oldest = ComputeCapability(major: 8, minor: 0)

    /// What kernels are compiled for. Hopper's own instructions need the `a`, and such code runs on 9.0 only.
    public var architecture: String { "sm_\(major)\(minor)" + (major == 9 && minor == 0 ? "a" : "") }

    public static func < (left: ComputeCapability, right: ComputeCapability) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    public var description: String { "\(major).\(minor)" }
}
