// Tandem — Apache-2.0

import JSON

/// A GPU as the process that watches it last described it: a line of JSON. The gateway knows nothing of what the numbers
/// mean; it passes them on to `/engines`, the dashboard and `/metrics`.
public struct DeviceView: Sendable, Equatable {
    /// A value for `/metrics`.
    public struct Metric: Sendable, Equatable {
        public var name: String
        public var help: String
        public var value: Double
        public var isCounter: Bool
    }

    /// An error of the GPU that the driver reported.
    public struct Fault: Sendable, Equatable {
        /// XID.
        public var number: UInt64
        /// In words; may be empty.
        public var text: String
    }

    /// For people and labels: `0`, or `simulated:h100`.
    public var gpu = ""
    public var uuid = ""
    /// Name of the device file; empty if there is none.
    public var device = ""
    public var name = ""
    /// Whether the numbers are those of a GPU that is simulated.
    public var isSimulated = false
    /// When it was looked at, in seconds since 1970.
    public var time = 0
    /// What is missing and why, for people.
    public var note = ""
    /// What holds the clock back.
    public var clockLimits: [String] = []
    public var lastFault: Fault?
    /// Since the line before.
    public var newFaults: [Fault] = []
    /// As `/engines` has them: shares from 0 to 1, watts, bytes.
    public var values: [(name: String, value: Double)] = []
    public var metrics: [Metric] = []

    /// Of a GPU of which nothing is known but why.
    public init(gpu: String, note: String) {
        self.gpu = gpu
        self.note = note
    }

    /// More would be nonsense.
    static let longestLine = 64 << 10
    private static let mostValues = 64
    private static let longestText = 200

    /// - Returns: null if the line is no description of a GPU.
    public init?(line: [UInt8]) {
        guard let object = (try? JSONParser.parse(line, limits: JSONLimits(maximumBytes: Self.longestLine)))?.object,
            object["gpu"]?.string != nil
        else { return nil }
        func text(_ key: String) -> String { Self.text(object[key]) }
        gpu = text("gpu")
        uuid = text("uuid")
        device = text("device")
        name = text("name")
        isSimulated = object["simulated"]?.bool ?? false
        time = object["time"]?.integer.map { Int($0) } ?? 0
        note = text("note")
        clockLimits = (object["clock_limits"]?.array ?? []).prefix(Self.mostValues).map(Self.text)
        lastFault = Self.fault(object["last_fault"])
        newFaults = (object["new_faults"]?.array ?? []).prefix(Self.mostValues).compactMap(Self.fault)
        for (name, value) in object["values"]?.object?.entries ?? [] {
            guard values.count < Self.mostValues, Self.isName(name), let number = value.number else { continue }
            values.append((name, number))
        }
        for entry in object["metrics"]?.array ?? [] {
            guard metrics.count < Self.mostValues, let metric = entry.object, let name = metric["name"]?.string,
                // Anything else is the gateway's own.
                name.hasPrefix(isSimulated ? "tandem_simulated_" : "DCGM_FI_"), Self.isName(name),
                let value = metric["value"]?.number
            else { continue }
            metrics.append(
                Metric(
                    name: name, help: Self.text(metric["help"]), value: value,
                    isCounter: metric["counter"]?.bool ?? false))
        }
    }

    private static func text(_ value: JSONValue?) -> String {
        String(
            String.UnicodeScalarView(
                (value?.string ?? "").unicodeScalars.prefix(longestText).map {
                    $0.properties.generalCategory == .control ? "?" : $0
                }))
    }

    private static func isName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }

    private static func fault(_ value: JSONValue) -> Fault? {
        guard let object = value.object, let number = object["xid"]?.integer.flatMap({ UInt64(exactly: $0) }) else {
            return nil
        }
        return Fault(number: number, text: text(object["text"]))
    }

    private static func fault(_ value: JSONValue?) -> Fault? { value.flatMap { fault($0) } }

    public func value(_ name: String) -> Double? { values.first { $0.name == name }?.value }

    public static func == (first: DeviceView, second: DeviceView) -> Bool { first.json == second.json }

    // MARK: Out

    /// One object, as `/engines` has it.
    public var json: [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }

    func write(to writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("gpu", gpu)
        writer.member("uuid", uuid)
        writer.member("name", name)
        writer.member("simulated", isSimulated)
        writer.member("time", time)
        writer.member("note", note)
        writer.key("clock_limits")
        writer.beginArray()
        for limit in clockLimits { writer.string(limit) }
        writer.endArray()
        writer.key("last_fault")
        if let lastFault {
            writer.beginObject()
            writer.member("xid", lastFault.number)
            writer.member("text", lastFault.text)
            writer.endObject()
        } else {
            writer.null()
        }
        for (name, value) in values {
            writer.key(name)
            writer.number(value)
        }
        writer.endObject()
    }

    /// A line for people: `gpu 0: SM 75 %, …`.
    public var summary: String {
        var parts: [String] = []
        func add(_ label: String, _ name: String) {
            if let share = value(name) { parts.append("\(label) \(Int((min(max(share, 0), 100) * 100).rounded())) %") }
        }
        if let fault = lastFault {
            parts.append("XID \(fault.number)" + (fault.text.isEmpty ? "" : " (\(fault.text))"))
        }
        add("SM active", "sm_active")
        if value("sm_active") == nil { add("busy", "busy") }
        add("occupancy", "sm_occupancy")
        add("tensor", "tensor_active")
        add("DRAM", "dram_active")
        func whole(_ number: Double) -> Int { Int(min(max(number, 0), 1e15).rounded()) }
        if let watts = value("power_watts") {
            parts.append("\(whole(watts)) W" + (value("power_limit_watts").map { " of \(whole($0))" } ?? ""))
        }
        if let used = value("memory_used_bytes"), let total = value("memory_total_bytes") {
            parts.append("memory \(whole(used / 1_048_576)) of \(whole(total / 1_048_576)) MiB")
        }
        if let celsius = value("temperature_celsius") { parts.append("\(whole(celsius)) °C") }
        if !clockLimits.isEmpty { parts.append("clock held back by " + clockLimits.joined(separator: ", ")) }
        if !note.isEmpty { parts.append(note) }
        let title = isSimulated ? gpu : "gpu \(gpu)" + (name.isEmpty ? "" : " (\(name))")
        return "\(title): " + (parts.isEmpty ? "nothing is known" : parts.joined(separator: ", "))
    }
}
