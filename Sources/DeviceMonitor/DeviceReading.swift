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
    /// Why the clock is lower than it could be; empty if it is not.
    public var clockLimits: [ClockLimit]?

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

/// One value under the name by which NVIDIA's DCGM exporter gives it, so that its dashboards work.
public struct DeviceMetric: Sendable, Equatable {
    public var name: String
    public var help: String
    public var value: Double

    /// All that is known, in a fixed order.
    public static func metrics(_ reading: DeviceReading, _ activity: DeviceActivity?) -> [DeviceMetric] {
        var metrics: [DeviceMetric] = []
        func add(_ name: String, _ help: String, _ value: Double?) {
            if let value { metrics.append(DeviceMetric(name: "DCGM_FI_\(name)", help: help, value: value)) }
        }
        func mebibytes(_ bytes: UInt64?) -> Double? { bytes.map { Double($0) / 1_048_576 } }
        add(
            "DEV_SM_CLOCK", "Clock of the multiprocessors in MHz", reading.multiprocessorClockMegahertz.map(Double.init)
        )
        add("DEV_MEM_CLOCK", "Clock of the memory in MHz", reading.memoryClockMegahertz.map(Double.init))
        add("DEV_GPU_TEMP", "Temperature in degrees Celsius", reading.temperatureCelsius.map(Double.init))
        add("DEV_POWER_USAGE", "Power in W", reading.powerWatts)
        add(
            "DEV_TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded in mJ",
            reading.energyJoules.map { $0 * 1000 })
        add("DEV_GPU_UTIL", "Share of time with any kernel in percent", reading.busyShare.map { $0 * 100 })
        add("DEV_FB_USED", "Memory used in MiB", mebibytes(reading.memoryUsedBytes))
        if let used = reading.memoryUsedBytes, let total = reading.memoryTotalBytes, used <= total {
            add("DEV_FB_FREE", "Memory free in MiB", mebibytes(total - used))
        }
        guard let activity else { return metrics }
        add("PROF_GR_ENGINE_ACTIVE", "Share of time with any kernel", activity.engine)
        add("PROF_SM_ACTIVE", "Multiprocessors with work", activity.multiprocessors)
        add("PROF_SM_OCCUPANCY", "Warps present of those possible", activity.occupancy)
        add("PROF_PIPE_TENSOR_ACTIVE", "Tensor cores active", activity.tensor)
        add("PROF_DRAM_ACTIVE", "Memory bandwidth used", activity.memoryBandwidth)
        add("PROF_PCIE_TX_BYTES", "Sent to the host in bytes/s", activity.hostSent.map { $0 * 1_048_576 })
        add("PROF_PCIE_RX_BYTES", "Received from the host in bytes/s", activity.hostReceived.map { $0 * 1_048_576 })
        return metrics
    }
}
