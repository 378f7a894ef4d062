// Tandem — Apache-2.0

import Glibc
import HTTPCore
import NIOCore
import NIOPosix
import Synchronization
import Telemetry

/// How exchanges are logged.
public struct AccessLogSettings: Sendable {
    public enum Format: Sendable {
        case text
        case json
    }

    public var format: Format
    /// Takes whole lines; may block, since it is called on a thread of its own.
    public var sink: @Sendable ([UInt8]) -> Void
    /// Wall-clock time.
    public var millisecondsSince1970: @Sendable () -> Int64

    public init(
        format: Format, sink: @escaping @Sendable ([UInt8]) -> Void,
        millisecondsSince1970: @escaping @Sendable () -> Int64 = AccessLogSettings.systemTime
    ) {
        self.format = format
        self.sink = sink
        self.millisecondsSince1970 = millisecondsSince1970
    }

    /// The system's clock.
    @Sendable public static func systemTime() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}

/// What a handler knows of an exchange beside HTTP.
struct AccessNote: Sendable {
    var trace: TraceContext?
    var model: String?
    /// The engine that answered last.
    var engine: UInt64?
    var promptTokens: Int?
    var generatedTokens: Int?
    /// The answer was an error, although its status may say otherwise, since it came in mid-stream.
    var hasFailed = false
}

/// Writes a line for each exchange. Event loops hand entries over; a thread of its own makes lines of them and waits for
/// whoever reads. What it cannot keep up with is dropped, counted, and said.
final class AccessLog: Sendable {
    /// Entries that wait to be written; more are dropped.
    static let capacity = 8192
    /// Lines are written in pieces of about so many bytes.
    private static let pieceBytes = 64 * 1024

    private struct State {
        var waiting: [(entry: AccessLogEntry, time: Int64)] = []
        var dropped = 0
        var isWriting = false
    }

    private let settings: AccessLogSettings
    private let thread = NIOThreadPool(numberOfThreads: 1)
    private let dropped: MetricCounter?
    private let state = Mutex(State())

    /// - Parameter dropped: counts lines that were dropped.
    init(_ settings: AccessLogSettings, dropped: MetricCounter? = nil) {
        self.settings = settings
        self.dropped = dropped
        thread.start()
    }

    /// Takes an entry; never blocks for long.
    func add(_ entry: AccessLogEntry) {
        let time = settings.millisecondsSince1970()
        let starts = state.withLock { state in
            guard state.waiting.count < Self.capacity else {
                state.dropped += 1
                return false
            }
            state.waiting.append((entry, time))
            defer { state.isWriting = true }
            return !state.isWriting
        }
        guard starts else { return }
        thread.submit { [self] _ in write() }
    }

    private func write() {
        while true {
            let (entries, lost) = state.withLock { state in
                defer {
                    state.waiting.removeAll()
                    state.dropped = 0
                }
                if state.waiting.isEmpty, state.dropped == 0 { state.isWriting = false }
                return (state.waiting, state.dropped)
            }
            guard !entries.isEmpty || lost > 0 else { return }
            var bytes: [UInt8] = []
            for (entry, time) in entries {
                AccessLine(entry: entry, time: time).append(to: &bytes, format: settings.format)
                if bytes.count >= Self.pieceBytes {
                    settings.sink(bytes)
                    bytes.removeAll(keepingCapacity: true)
                }
            }
            if lost > 0 {
                dropped?.add(UInt64(lost))
                AccessLine.appendDropped(
                    lost, time: settings.millisecondsSince1970(), to: &bytes, format: settings.format)
            }
            if !bytes.isEmpty { settings.sink(bytes) }
        }
    }

    /// Writes what waits, then ends the thread.
    func shutdown() async {
        try? await thread.shutdownGracefully()
        write()
    }
}
