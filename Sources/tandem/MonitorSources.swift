// Tandem — Apache-2.0

import DeviceMonitor
import JSON
import VirtualDevice

/// A GPU through NVML.
struct ManagedSource: MonitorSource {
    private let monitor: DeviceMonitor
    private let gpu: String
    private var lastFault: UInt64?

    /// - Parameter gpu: UUID, or index among the devices that CUDA shows, which are in NVML's order (see
    ///   ``Tandem/main()``).
    init(_ gpu: String, environment: [String: String]) throws(DeviceMonitorError) {
        monitor = try DeviceMonitor(Self.device(gpu, environment), environment: environment)
        self.gpu = monitor.index.map { "\($0)" } ?? gpu
    }

    /// `CUDA_VISIBLE_DEVICES` chooses and orders what an index counts.
    static func device(_ gpu: String, _ environment: [String: String]) -> DeviceMonitor.Device {
        guard let index = Int(gpu) else { return .uuid(gpu) }
        let visible = (environment["CUDA_VISIBLE_DEVICES"] ?? "").split(separator: ",").map { text in
            String(text.filter { $0 != " " })
        }
        guard visible.indices.contains(index) else { return .index(index) }
        return Int(visible[index]).map { .index($0) } ?? .uuid(visible[index])
    }

    /// What there is, for people.
    var description: String {
        "NVML \(monitor.path); "
            + (monitor.hasActivity
                ? "GPM tells how busy the parts of \(monitor.name) are"
                : "\(monitor.name) has no GPM (compute capability 9.0 and later have): how busy its parts are is not known")
    }

    mutating func line(time: Int) -> [UInt8] {
        let reading = monitor.reading()
        let activity = monitor.activity()
        let faults = monitor.faults()
        lastFault = faults.last ?? lastFault
        var writer = JSONWriter()
        writer.beginObject()
        writer.text("gpu", gpu)
        writer.text("uuid", monitor.uuid)
        writer.text("device", monitor.minor.map { "nvidia\($0)" } ?? "")
        writer.text("name", monitor.name)
        writer.key("time")
        writer.integer(time)
        if !monitor.hasActivity { writer.text("note", "no GPM: how busy its parts are is not known") }
        writer.key("clock_limits")
        writer.beginArray()
        for limit in reading.clockLimits ?? [] where limit.isThrottling { writer.string(limit.text) }
        writer.endArray()
        if let lastFault {
            writer.key("last_fault")
            writer.fault(lastFault)
        }
        writer.key("new_faults")
        writer.beginArray()
        for fault in faults { writer.fault(fault) }
        writer.endArray()
        writer.values([
            ("busy", reading.busyShare), ("sm_active", activity?.multiprocessors),
            ("sm_occupancy", activity?.occupancy), ("tensor_active", activity?.tensor),
            ("dram_active", activity?.memoryBandwidth), ("power_watts", reading.powerWatts),
            ("power_limit_watts", reading.powerLimitWatts),
            ("temperature_celsius", reading.temperatureCelsius.map { Double($0) }),
            ("memory_used_bytes", reading.memoryUsedBytes.map { Double($0) }),
            ("memory_total_bytes", reading.memoryTotalBytes.map { Double($0) }),
            ("sm_clock_megahertz", reading.multiprocessorClockMegahertz.map { Double($0) }),
        ])
        writer.key("metrics")
        writer.beginArray()
        for metric in DeviceMetric.metrics(reading, activity, fault: monitor.hasFaults ? lastFault ?? 0 : nil) {
            writer.metric(metric.name, metric.help, metric.value, isCounter: false)
        }
        writer.endArray()
        writer.endObject()
        return writer.bytes
    }
}

/// The simulated GPU of a server, by its control socket. Its numbers have names of their own, so that nobody takes them
/// for measurements.
struct SimulatedSource: MonitorSource {
    private let path: String
    private var gpu = "simulated"
    private var before: (steps: Double, time: UInt64)?

    /// - Parameter directory: the run directory.
    init(directory: String) throws {
        path = "\(directory)/\(DeviceControl.socketName)"
    }

    mutating func line(time: Int) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("simulated")
        writer.bool(true)
        writer.key("time")
        writer.integer(time)
        let answer = (try? DeviceControl.ask("status", path: path)).flatMap {
            (try? JSONParser.parse(Array($0.utf8)))?.object
        }
        if let answer {
            write(answer, to: &writer)
        } else {
            writer.text("gpu", gpu)
            writer.text("note", "its process does not answer")
        }
        writer.endObject()
        return writer.bytes
    }

    private mutating func write(_ answer: JSONObject, to writer: inout JSONWriter) {
        gpu = answer["device"]?.string ?? gpu
        writer.text("gpu", gpu)
        writer.text("name", answer["title"]?.string ?? "")
        if let state = answer["state"]?.string, state != "active" { writer.text("note", "state: \(state)") }
        let now = Process.nanoseconds()
        let steps = answer["steps"]?.number
        var rate: Double?
        // One that was started again counts from 0.
        if let before, let steps, steps >= before.steps, now > before.time {
            rate = (steps - before.steps) / (Double(now - before.time) / 1e9)
        }
        before = steps.map { ($0, now) }
        let (used, total) = (answer["used_bytes"]?.number, answer["memory_bytes"]?.number)
        let (clients, lag) = (answer["clients"]?.number, answer["lag"]?.number)
        writer.values([
            ("memory_used_bytes", used), ("memory_total_bytes", total), ("clients", clients), ("lag", lag),
            ("steps_per_second", rate),
        ])
        writer.key("metrics")
        writer.beginArray()
        for (name, help, value, isCounter) in [
            ("memory_used_bytes", "Memory taken of the simulated GPU.", used, false),
            ("memory_bytes", "Memory of the simulated GPU.", total, false),
            ("clients", "Engines on the simulated GPU.", clients, false),
            ("lag_ratio", "How late steps were reported of late, as a share of what they took.", lag, false),
            ("steps_total", "Steps since the process of the simulated GPU started.", steps, true),
        ] {
            if let value { writer.metric("tandem_simulated_gpu_\(name)", help, value, isCounter: isCounter) }
        }
        writer.endArray()
    }
}

extension JSONWriter {
    fileprivate mutating func text(_ name: String, _ value: String) {
        key(name)
        string(value)
    }

    fileprivate mutating func values(_ values: [(String, Double?)]) {
        key("values")
        beginObject()
        for (name, value) in values {
            guard let value, value.isFinite else { continue }
            key(name)
            number(value)
        }
        endObject()
    }

    fileprivate mutating func fault(_ fault: UInt64) {
        beginObject()
        key("xid")
        integer(fault)
        text("text", DeviceFault.meaning(fault) ?? "")
        endObject()
    }

    fileprivate mutating func metric(_ name: String, _ help: String, _ value: Double, isCounter: Bool) {
        beginObject()
        text("name", name)
        text("help", help)
        key("value")
        number(value)
        key("counter")
        bool(isCounter)
        endObject()
    }
}
