// Tandem — Apache-2.0

/// What the management library says of a GPU at one moment. What the device or driver does not tell is null.
public struct DeviceReading: Sendable, Equatable {
    /// Of all processes.
    public var memoryUsedBytes: UInt64?
    public var memoryTotalBytes: UInt64?
    public var powerWatts: Double?
    public var powerLimitWatts: Double?
    /// Since the driver was loaded.
    public var energyJoules: Double?
    public var multiprocessorClockMegahertz: Int?
    public var memoryClockMegahertz: Int?
    public var temperatureCelsius: Int?
    /// Share of the time in which any kernel ran, however small, 0 to 1: says nothing of how full the device is.
    public var busyShare: Double?
    /// Why the clock is lower than it could be, as NVML has it.
    public var clockLimitBits: UInt64?
    /// Why the clock is lower than it could be; empty if it is not.
    public var clockLimits: [ClockLimit]? { clockLimitBits.map(ClockLimit.limits) }

    public init() {}

    /// `nvmlClocksEventReasons`.
    public enum ClockLimit: UInt64, Sendable, CaseIterable {
        case idle = 0x1
        case setting = 0x2
        case power = 0x4
        case hardware = 0x8
        case otherDevice = 0x10
        case temperature = 0x20
        case hardwareTemperature = 0x40
        case hardwarePower = 0x80
        case display = 0x100
        case board = 0x200
        case reliability = 0x400

        static func limits(_ bits: UInt64) -> [ClockLimit] { allCases.filter { bits & $0.rawValue != 0 } }

        /// Whether it takes speed away from work that is there. An idle device, or one that somebody has set, is not held
        /// back.
        public var isThrottling: Bool {
            switch self {
            case .power, .hardware, .temperature, .hardwareTemperature, .hardwarePower, .board, .reliability: true
            case .idle, .setting, .otherDevice, .display: false
            }
        }

        /// For people.
        public var text: String {
            switch self {
            case .idle: "idle"
            case .setting: "a setting"
            case .power: "power limit"
            case .hardware: "hardware slowdown"
            case .otherDevice: "another GPU"
            case .temperature: "temperature"
            case .hardwareTemperature: "temperature (hardware)"
            case .hardwarePower: "power brake"
            case .display: "display"
            case .board: "board limit"
            case .reliability: "reliability voltage"
            }
        }
    }
}

/// How busy the parts of a GPU were in a stretch of time, as shares from 0 to 1. From GPM: Hopper or later.
public struct DeviceActivity: Sendable, Equatable {
    /// Any kernel at all.
    public var engine: Double?
    /// Multiprocessors with at least one warp, averaged over all.
    public var multiprocessors: Double?
    /// Warps present, of those that could be.
    public var occupancy: Double?
    /// Tensor cores.
    public var tensor: Double?
    /// Bandwidth of the device's memory, of the theoretical one.
    public var memoryBandwidth: Double?
    /// MiB/s to and from the host.
    public var hostReceived: Double?
    public var hostSent: Double?

    public init() {}

    /// The metrics that are asked for: `nvmlGpmMetricId_t`.
    static let metricNumbers: [UInt32] = [1, 2, 3, 5, 10, 20, 21]

    /// Takes the value of a metric; percentages become shares.
    mutating func set(_ metric: UInt32, _ value: Double) {
        switch metric {
        case 1: engine = value / 100
        case 2: multiprocessors = value / 100
        case 3: occupancy = value / 100
        case 5: tensor = value / 100
        case 10: memoryBandwidth = value / 100
        case 20: hostSent = value
        case 21: hostReceived = value
        default: break
        }
    }
}
