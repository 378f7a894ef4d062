// Tandem — Apache-2.0

/// One value under the name by which NVIDIA's DCGM exporter gives it, so that its dashboards work.
public struct DeviceMetric: Sendable, Equatable {
    public var name: String
    public var help: String
    public var value: Double

    /// All that is known, in a fixed order. Names: `dcgm_fields.h` of DCGM 4, and the lists of counters that come with its
    /// exporter.
    ///
    /// - Parameter fault: number of the last XID; 0 if there was none, null if NVML tells of none.
    public static func metrics(
        _ reading: DeviceReading, _ activity: DeviceActivity?, fault: UInt64? = nil
    ) -> [DeviceMetric] {
        var metrics: [DeviceMetric] = []
        func add(_ name: String, _ help: String, _ value: Double?) {
            if let value { metrics.append(DeviceMetric(name: "DCGM_FI_\(name)", help: help, value: value)) }
        }
        func mebibytes(_ bytes: UInt64?) -> Double? { bytes.map { Double($0) / 1_048_576 } }
        add(
            "DEV_SM_CLOCK", "Clock of the multiprocessors in MHz",
            reading.multiprocessorClockMegahertz.map { Double($0) }
        )
        add("DEV_MEM_CLOCK", "Clock of the memory in MHz", reading.memoryClockMegahertz.map { Double($0) })
        add("DEV_GPU_TEMP", "Temperature in degrees Celsius", reading.temperatureCelsius.map { Double($0) })
        add("DEV_POWER_USAGE", "Power in W", reading.powerWatts)
        add(
            "DEV_TOTAL_ENERGY_CONSUMPTION", "Energy since the driver was loaded in mJ",
            reading.energyJoules.map { $0 * 1000 })
        add("DEV_GPU_UTIL", "Share of time with any kernel in percent", reading.busyShare.map { $0 * 100 })
        add("DEV_FB_USED", "Memory used in MiB", mebibytes(reading.memoryUsedBytes))
        if let used = reading.memoryUsedBytes, let total = reading.memoryTotalBytes, used <= total {
            add("DEV_FB_FREE", "Memory free in MiB", mebibytes(total - used))
        }
        add(
            "DEV_CLOCK_THROTTLE_REASONS", "Why the clock is lower than it could be, as bits",
            reading.clockLimitBits.map { Double($0) })
        add("DEV_XID_ERRORS", "Number of the last XID error", fault.map { Double($0) })
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
