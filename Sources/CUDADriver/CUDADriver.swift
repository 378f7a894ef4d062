// Tandem — Apache-2.0

/// The NVIDIA driver, found at run time: nothing of it is linked, and a program without a GPU starts without it.
public final class CUDADriver: Sendable {
    /// The oldest driver that is used: that of CUDA 12.0.
    public static let oldestVersion = CUDAVersion(major: 12, minor: 0)

    /// The library's file.
    public let path: String
    /// The newest CUDA that the driver supports.
    public let version: CUDAVersion
    /// Whether this is the test double, which computes on the CPU.
    public let isDouble: Bool
    let functions: DriverFunctions
    let environment: [String: String]

    /// Finds, checks and initializes the driver.
    ///
    /// - Parameter environment: where to look: `TANDEM_CUDA_DRIVER` names a file; else the loader's search and usual
    ///   folders.
    /// - Throws: `missing` without driver or GPU, `unsupported` if it is too old, `mps` if an MPS daemon that the
    ///   environment names refuses this process.
    public convenience init(environment: [String: String]) throws(CUDAError) {
        try self.init(loading: environment)
        try check(functions.initialize(0), "cuInit")
    }

    /// Finds and checks the driver and leaves it uninitialized: for `doctor`.
    init(loading environment: [String: String]) throws(CUDAError) {
        let library = try Self.open(LibrarySearch(environment: environment).driverCandidates())
        functions = try DriverFunctions(library)
        path = library.file(holding: "cuInit")
        isDouble = library.symbol("tandem_cuda_double_version", as: DoubleVersion.self) != nil
        self.environment = environment
        var number: Int32 = 0
        let status = functions.driverVersion(&number)
        guard status == 0 else { throw CUDAError(driver: status, call: "cuDriverGetVersion") }
        version = CUDAVersion(number: number)
        guard version >= Self.oldestVersion else {
            throw CUDAError(
                kind: .unsupported, call: "cuDriverGetVersion",
                detail: "the driver supports CUDA \(version), and \(Self.oldestVersion) is needed",
                remedy: "install driver 525 or later")
        }
    }

    typealias DoubleVersion = @convention(c) @Sendable () -> Int32

    private static func open(_ candidates: [String]) throws(CUDAError) -> DynamicLibrary {
        do throws(DynamicLibrary.OpeningFailure) {
            return try DynamicLibrary.openFirst(of: candidates)
        } catch {
            throw CUDAError(
                kind: .missing, call: "libcuda.so.1",
                detail: error.fileExists || candidates.count == 1
                    ? "\(error.path) cannot be opened: \(error.reason)" : "the NVIDIA driver is not here",
                remedy: "install the driver, or start the container with --gpus all; --device cpu needs none")
        }
    }

    /// Turns a status into an error.
    func check(_ status: Status, _ call: @autoclosure () -> String, _ detail: @autoclosure () -> String = "")
        throws(CUDAError)
    {
        guard status != 0 else { return }
        throw error(status, call(), detail())
    }

    func error(_ status: Status, _ call: String, _ detail: String = "") -> CUDAError {
        var name: UnsafePointer<CChar>?
        _ = functions.errorName(status, &name)
        return CUDAError(driver: status, call: call, name: name.map { String(cString: $0) }, detail: detail)
    }

    /// The devices that this process may use, in the driver's order.
    public func devices() throws(CUDAError) -> [CUDADevice] {
        var count: Int32 = 0
        try check(functions.deviceCount(&count), "cuDeviceGetCount")
        var devices: [CUDADevice] = []
        for index in 0..<count { devices.append(try CUDADevice(self, index: index)) }
        return devices
    }

    /// The device with that index, or whose UUID (`GPU-…`, `MIG-…`) begins with that text.
    ///
    /// - Throws: `missing`, with the list of what there is.
    public func device(_ selector: CUDADeviceSelector) throws(CUDAError) -> CUDADevice {
        let devices = try devices()
        let found =
            switch selector {
            case .index(let index): devices.filter { $0.index == index }
            // The driver gives the number without its kind, which is GPU or MIG.
            case .uuid(let uuid): devices.filter { $0.uuid.dropFirst(4).hasPrefix(uuid.dropFirst(4)) }
            }
        guard let device = found.first, found.count == 1 else {
            let list = devices.map { "\($0.index): \($0.name) \($0.uuid)" }.joined(separator: ", ")
            throw CUDAError(
                kind: .missing, call: "device \(selector)",
                detail: found.isEmpty ? "there is no such GPU" : "several GPUs begin so",
                remedy: list.isEmpty
                    ? "no GPU is visible: look at CUDA_VISIBLE_DEVICES" : "there are \(list)")
        }
        return device
    }
}

/// Names a device.
public enum CUDADeviceSelector: Sendable, Hashable, CustomStringConvertible {
    case index(Int)
    /// `GPU-…` or `MIG-…`, or the beginning of it.
    case uuid(String)

    /// What follows `cuda:`: an index or a UUID; null if it is neither.
    public init?(_ text: String) {
        if let index = Int(text), index >= 0 {
            self = .index(index)
        } else if text.hasPrefix("GPU-") || text.hasPrefix("MIG-") {
            self = .uuid(text)
        } else {
            return nil
        }
    }

    public var description: String {
        switch self {
        case .index(let index): "cuda:\(index)"
        case .uuid(let uuid): "cuda:\(uuid)"
        }
    }
}

/// A version of CUDA.
public struct CUDAVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    public var major: Int
    public var minor: Int

    public init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// - Parameter number: as the driver says it: 13000 is 13.0, 12080 is 12.8.
    public init(number: Int32) {
        self.init(major: Int(number / 1000), minor: Int(number % 1000 / 10))
    }

    public static func < (left: CUDAVersion, right: CUDAVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    public var description: String { "\(major).\(minor)" }
}
