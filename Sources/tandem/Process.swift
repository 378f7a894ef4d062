// Tandem — Apache-2.0

import CTandemSystem
import Glibc

/// What every subcommand needs of its process.
enum Process {
    /// The environment.
    static func environment() -> [String: String] {
        var environment: [String: String] = [:]
        guard var entry = tandem_environment() else { return environment }
        while let text = entry.pointee {
            let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count == 2 { environment[String(pair[0])] = String(pair[1]) }
            entry += 1
        }
        return environment
    }

    /// A monotonic clock in nanoseconds.
    @Sendable static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Wall-clock time.
    @Sendable static func secondsSince1970() -> Int {
        Glibc.time(nil)
    }

    /// Writes a line to standard error in one piece, so that lines of several processes do not mix.
    static func log(_ text: String) {
        write(text + "\n", to: STDERR_FILENO)
    }

    /// Writes all of `text`; what nobody reads is dropped.
    static func write(_ text: String, to descriptor: Int32) {
        write(Array(text.utf8), to: descriptor)
    }

    /// The same, of bytes.
    static func write(_ bytes: [UInt8], to descriptor: Int32) {
        bytes.withUnsafeBufferPointer { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let piece = UnsafeBufferPointer(rebasing: rest)
                let count = Glibc.write(descriptor, piece.baseAddress, piece.count)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { return }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// CPU numbers on which this process may run.
    static func usableCores() -> [Int] {
        var cpus = [Int32](repeating: 0, count: 8192)
        let count = tandem_affinity_get(0, &cpus, Int32(cpus.count))
        return count > 0 ? cpus.prefix(Int(count)).map(Int.init) : []
    }
}

/// Lets the main thread of a child process wait for signals and for what other threads report.
final class ProcessEvents: Sendable {
    /// Something to act on.
    enum Event {
        /// SIGTERM, SIGINT or SIGHUP.
        case signal
        /// The process shall end with this code.
        case end(Int32)
    }

    private let signals: Int32
    private let reader: Int32
    private let writer: Int32

    /// Blocks the signals in this thread and those it starts, ignores SIGPIPE and names the process. Call first of all.
    init(processName: String) {
        signal(SIGPIPE, SIG_IGN)
        _ = tandem_set_process_name(processName)
        signals = tandem_signal_descriptor([SIGTERM, SIGINT, SIGHUP], 3)
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) != 0 { ends = [-1, -1] }
        reader = ends[0]
        writer = ends[1]
    }

    /// Makes ``next()`` return ``Event/end(_:)``; any thread may call it. Exit codes are 0 to 255.
    func end(with code: Int32) {
        var byte = UInt8(clamping: code)
        while Glibc.write(writer, &byte, 1) < 0 && errno == EINTR {}
    }

    /// Sleeps until there is an event.
    func next() -> Event {
        while true {
            if let event = next(within: -1) { return event }
        }
    }

    /// Sleeps until there is an event, or so many milliseconds have passed; below 0 there is no limit.
    func next(within milliseconds: Int32) -> Event? {
        while true {
            var entries = [
                pollfd(fd: reader, events: Int16(POLLIN), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&entries, 2, milliseconds)
            if count == 0 { return nil }
            guard count > 0 else { continue }
            if entries[0].revents != 0 {
                var byte: UInt8 = 0
                if read(reader, &byte, 1) == 1 { return .end(Int32(byte)) }
            }
            if entries[1].revents != 0 && tandem_signal_read(signals) > 0 {
                return .signal
            }
        }
    }
}
