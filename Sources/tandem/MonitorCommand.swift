// Tandem — Apache-2.0

import ArgumentParser
import CTandemSystem
import DeviceMonitor
import Glibc
import JSON
import VirtualDevice

/// The process that looks at a GPU once a second and says what it sees, a line of JSON each time; started by the gateway.
/// Why it is a process of its own: `DeviceWatch`.
///
/// In a server's run directory it also leaves the latest line in a file, which `tandem status` reads: so the supervisor
/// has nothing to do with GPUs' numbers.
struct MonitorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "monitor",
        abstract: "Watch a GPU through NVML. Started by the gateway of tandem serve.",
        discussion: "docs/monitoring.md describes what it shows.",
        shouldDisplay: false)

    @Option(help: "Index or UUID of the GPU.") var gpu: String?
    @Flag(help: "Watch the simulated GPU of the server.") var simulated = false
    @Option(help: "Number of the GPU among those of the server.") var place = 0
    @Flag(help: "Say whether it can be watched, and end.") var check = false

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        _ = tandem_set_process_name("tandem-monitor")
        let directory = Process.environment()["TANDEM_RUN_DIRECTORY"]
        let file = directory.map { "\($0)/\(MonitorFile.name(place))" }
        if simulated { return watch(try SimulatedSource(directory: directory ?? ""), file) }
        let source: ManagedSource
        do throws(DeviceMonitorError) {
            source = try ManagedSource(gpu ?? "0", environment: Process.environment())
        } catch {
            if let file { MonitorFile.write(Self.unavailable(gpu ?? "0", "\(error)"), to: file) }
            Process.write("unavailable: \(error)\n", to: STDOUT_FILENO)
            throw ExitCode(1)
        }
        guard !check else { return Process.write(source.description + "\n", to: STDOUT_FILENO) }
        watch(source, file)
    }

    private static func unavailable(_ gpu: String, _ reason: String) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("gpu")
        writer.string(gpu)
        writer.key("note")
        writer.string("not watched: \(reason)")
        writer.endObject()
        return writer.bytes
    }

    /// Until nobody reads what is said.
    private func watch(_ source: some MonitorSource, _ file: String?) {
        var source = source
        var next = Process.nanoseconds()
        while true {
            let line = source.line(time: Process.secondsSince1970())
            if let file { MonitorFile.write(line, to: file) }
            guard Self.say(line + [UInt8(ascii: "\n")]) else { return }
            next += 1_000_000_000
            let now = Process.nanoseconds()
            // What a slow driver made us miss is not caught up with.
            guard next > now else {
                next = now
                continue
            }
            _ = poll(nil, 0, Int32((next - now) / 1_000_000) + 1)
        }
    }

    private static func say(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = Glibc.write(STDOUT_FILENO, Array(rest), rest.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}

/// Something that describes a GPU.
protocol MonitorSource {
    /// The next description, as `DeviceView` reads it.
    ///
    /// - Parameter time: seconds since 1970.
    mutating func line(time: Int) -> [UInt8]
}

/// A file with the latest description of a GPU.
enum MonitorFile {
    static func name(_ place: Int) -> String { "gpu-\(place).json" }

    /// Whoever reads it sees it whole; a disk that is full costs a reading.
    static func write(_ line: [UInt8], to path: String) {
        let draft = path + ".new"
        let file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return }
        let count = Glibc.write(file, line, line.count)
        close(file)
        if count == line.count { rename(draft, path) } else { unlink(draft) }
    }

    /// What stands there, up to a limit; null if there is none.
    static func read(_ path: String) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 64 << 10)
        let count = Glibc.read(file, &bytes, bytes.count)
        return count > 0 ? Array(bytes[..<count]) : nil
    }
}
