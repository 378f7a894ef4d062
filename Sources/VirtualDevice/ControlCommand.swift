// Tandem — Apache-2.0

import GPUModel
import JSON

/// What people and tests ask of a virtual device: a line of text, answered by a line of JSON.
public enum ControlCommand: Sendable, Equatable {
    /// What can be made to fail.
    public enum Fault: Sendable, Equatable {
        case fatal
        case hang
        case outOfMemory
        /// Steps from now on take so many times as long.
        case slow(Double)
    }

    case status
    case clients
    case inject(Fault, engine: UInt32?)
    case clear
    case share(engine: UInt32, percent: UInt8)

    /// For people.
    public static let usage =
        "status | clients | fault fatal|hang|oom [ENGINE] | fault slow FACTOR [ENGINE] | clear | share ENGINE PERCENT"

    /// Longest line.
    static let longestLine = 256

    /// - Throws: ``DeviceProtocolError`` that says what would be understood.
    public init(_ line: some Sequence<UInt8>) throws(DeviceProtocolError) {
        let words = line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }
            .map { String(decoding: $0, as: UTF8.self) }
        switch (words.first, words.count) {
        case ("status", 1): self = .status
        case ("clients", 1): self = .clients
        case ("clear", 1): self = .clear
        case ("share", 3):
            guard let percent = UInt8(words[2]), (1...100).contains(percent) else { throw Self.error(words[2]) }
            self = .share(engine: try Self.engine(words[1]), percent: percent)
        case ("fault", 2...4):
            let rest = words[2...]
            switch (words[1], rest.count) {
            case ("fatal", 0...1): self = .inject(.fatal, engine: try rest.first.map(Self.engine))
            case ("hang", 0...1): self = .inject(.hang, engine: try rest.first.map(Self.engine))
            case ("oom", 0...1): self = .inject(.outOfMemory, engine: try rest.first.map(Self.engine))
            case ("slow", 1...2):
                guard let factor = Double(words[2]), factor >= 0.01, factor <= 1000 else {
                    throw Self.error(words[2])
                }
                self = .inject(.slow(factor), engine: try rest.dropFirst().first.map(Self.engine))
            default: throw Self.error(words.joined(separator: " "))
            }
        default: throw Self.error(words.joined(separator: " "))
        }
    }

    private static func engine(_ word: String) throws(DeviceProtocolError) -> UInt32 {
        guard let engine = UInt32(word) else { throw error(word) }
        return engine
    }

    private static func error(_ text: String) -> DeviceProtocolError {
        DeviceProtocolError(message: "\"\(text.prefix(64))\" is not understood: \(usage)")
    }
}

extension ControlCommand {
    /// The answer to what is no command.
    static func answer(_ error: DeviceProtocolError) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("error")
        writer.string(error.description)
        writer.endObject()
        return writer.bytes
    }
}

extension DeviceState {
    /// Does what is asked.
    ///
    /// - Returns: the answer, one JSON object, and what is to be done.
    public mutating func control(
        _ command: ControlCommand, at now: UInt64
    ) -> (answer: [UInt8], effects: [Effect]) {
        var effects: [Effect] = []
        var writer = JSONWriter()
        writer.beginObject()
        switch command {
        case .status:
            effects = timePassed(at: now)
            write(&writer, status: report(at: now), at: now)
        case .clients:
            effects = timePassed(at: now)
            writer.key("clients")
            writer.beginArray()
            for client in clients { Self.write(&writer, client) }
            writer.endArray()
        case .inject(_, let engine?), .share(let engine, _):
            guard clients.contains(where: { $0.hello.engine == engine }) else {
                writer.key("error")
                writer.string("there is no client of engine \(engine)")
                break
            }
            effects = perform(command, at: now)
            writer.key("ok")
            writer.bool(true)
        case .inject(_, nil), .clear:
            effects = perform(command, at: now)
            writer.key("ok")
            writer.bool(true)
        }
        writer.endObject()
        return (writer.bytes, effects)
    }

    private mutating func perform(_ command: ControlCommand, at now: UInt64) -> [Effect] {
        switch command {
        case .inject(let fault, let engine): inject(fault, engine: engine, at: now)
        case .share(let engine, let percent): setShare(percent, engine: engine, at: now)
        case .clear: clear(at: now)
        case .status, .clients: []
        }
    }

    private func write(_ writer: inout JSONWriter, status: DeviceReport, at now: UInt64) {
        writer.key("device")
        writer.string("simulated:\(settings.device.name)")
        writer.key("title")
        writer.string("\(settings.device.title), simulated")
        writer.key("sharing")
        writer.string(settings.usesMPS ? "mps" : "time slices")
        writer.key("state")
        writer.string(isWedged ? "hangs" : isFaulted ? "fault" : "active")
        writer.key("clients")
        writer.integer(status.clients)
        writer.key("memory_bytes")
        writer.integer(status.memoryBytes)
        writer.key("used_bytes")
        writer.integer(status.usedBytes)
        writer.key("steps")
        writer.integer(status.steps)
        writer.key("events")
        writer.integer(eventCount)
        writer.key("lag")
        writer.number(lag.share(at: now))
        writer.key("lag_worst")
        writer.number(max(lag.worst, lag.share(at: now)))
        writer.key("lag_total")
        writer.number(lag.totalShare)
        writer.key("late")
        writer.bool(status.isLate)
    }

    private static func write(_ writer: inout JSONWriter, _ client: Client) {
        writer.beginObject()
        writer.key("engine")
        writer.integer(client.hello.engine)
        writer.key("pid")
        writer.integer(client.hello.pid)
        writer.key("model")
        writer.string(client.hello.model.name)
        writer.key("used_bytes")
        writer.integer(client.usedBytes)
        writer.key("steps")
        writer.integer(client.doneCount)
        writer.key("steps_in_flight")
        writer.integer(client.steps.count)
        writer.key("state")
        writer.string(client.isFailed ? "failed" : client.isHung ? "hangs" : "active")
        writer.key("slowness")
        writer.number(client.slowness)
        writer.endObject()
    }
}
