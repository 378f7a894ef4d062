// Tandem — Apache-2.0

public import EngineLink

/// A status for people, in plain text.
public struct StatusText {
    private let status: SupervisorStatus
    private let width: Int
    private let isColoured: Bool

    /// - Parameters:
    ///   - width: columns of the terminal; below 60 lines are longer than that.
    ///   - isColoured: whether states have the terminal's colours.
    public init(_ status: SupervisorStatus, width: Int = 80, isColoured: Bool = false) {
        self.status = status
        self.width = max(width, 60)
        self.isColoured = isColoured
    }

    /// Lines, each with its end.
    public var text: String {
        var parts = [head, table(processes), table(places)]
        if !notes.isEmpty { parts.append(notes.map { wrapped($0) }.joined()) }
        return parts.joined(separator: "\n")
    }

    private var head: String {
        let version = status.version.isEmpty ? "tandem" : "tandem \(Self.plain(status.version))"
        let announcement = Announcement(
            models: [], host: status.host, port: status.port, requiresKey: false,
            isSecure: status.isSecure, timeToReady: .zero)
        return "\(version), process \(status.pid), up \(Self.span(status.uptime)): \(Self.plain(announcement.url))\n"
            + "run directory \(Self.plain(status.runDirectory))\n"
    }

    // MARK: - Tables

    private struct Cell {
        var text: String
        var isRight = false
        var colour: String?
    }

    private var processes: [[Cell]] {
        var rows = [
            ["", "STATE", "PID", "UP", "RESTARTS", "MEMORY", "PEAK", "PLAN"].enumerated().map {
                Cell(text: $1, isRight: $0 > 1)
            }
        ]
        rows.append(row("gateway", status.gateway))
        for engine in status.engines {
            let memory = [engine.memory.now, engine.memory.highWater, engine.memory.plan].map { bytes in
                Cell(
                    text: bytes.map { ByteCountText.text($0) } ?? "-", isRight: true,
                    colour: engine.memory.isAbovePlan ? "33" : nil)
            }
            rows.append(row("engine \(engine.index)", engine.process) + memory)
        }
        return rows
    }

    private func row(_ name: String, _ child: ChildStatus) -> [Cell] {
        let colour: String =
            switch child.state {
            case .ready: "32"
            case .failed: "1;31"
            default: "33"
            }
        return [
            Cell(text: name),
            Cell(text: "\(child.state)", colour: colour),
            Cell(text: child.pid == 0 ? "-" : "\(child.pid)", isRight: true),
            Cell(text: child.uptime.map { Self.span($0) } ?? "-", isRight: true),
            Cell(text: "\(child.restarts)", isRight: true),
        ]
    }

    /// Whether processes host several engines, and which one an engine is in is of interest.
    private var sharesProcesses: Bool {
        Set(status.engines.map(\.processIndex)).count < status.engines.count
    }

    private var places: [[Cell]] {
        let shares = sharesProcesses
        let rows =
            [["", "MODEL"] + (shares ? ["PROCESS"] : []) + ["CORES", "DEVICE"]]
            + status.engines.map { engine in
                ["engine \(engine.index)", Self.plain(engine.model)] + (shares ? ["\(engine.processIndex)"] : [])
                    + [Self.ranges(engine.cores), engine.device.isEmpty ? "-" : Self.plain(engine.device)]
            }
        return rows.map { row in row.map { Cell(text: $0) } }
    }

    private func table(_ rows: [[Cell]]) -> String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { column < $0.count ? $0[column].text.count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (index, cell) in row.enumerated() {
                let space = String(repeating: " ", count: widths[index] - cell.text.count)
                let isLast = index == row.count - 1
                var text = cell.text
                if isColoured, let colour = cell.colour { text = "\u{1B}[\(colour)m\(text)\u{1B}[0m" }
                line += cell.isRight ? space + text : text + (isLast ? "" : space)
                if !isLast { line += "  " }
            }
            return line + "\n"
        }.joined()
    }

    // MARK: - Notes

    private var notes: [String] {
        var notes: [String] = []
        if status.isStopping { notes.append("the server is stopping") }
        notes += self.notes(of: status.gateway, "gateway")
        for engine in status.engines {
            let name = "engine \(engine.index)"
            notes += self.notes(of: engine.process, name)
            switch engine.process.state {
            case .draining:
                notes.append("\(name): finishes what it has, then idles until tandem admin resume \(engine.index)")
            case .drained:
                notes.append("\(name): idles and gets no requests until tandem admin resume \(engine.index)")
            case .ending:
                if !status.isStopping { notes.append("\(name): finishes what it has, then is started again") }
            default: break
            }
            if engine.memory.isAbovePlan {
                notes.append("\(name): holds more memory than planned; see docs/administration.md")
            }
        }
        if let rolling = status.rollingRestart { notes.append(note(of: rolling)) }
        if let sharing = status.sharing { notes += self.notes(of: sharing) }
        if let device = status.simulatedDevice { notes += self.notes(of: device) }
        return notes
    }

    private func notes(of child: ChildStatus, _ name: String) -> [String] {
        var parts: [String] = []
        if child.deathsInARow > 1 || child.state == .failed {
            parts.append(
                "died \(child.deathsInARow) times in a row" + (child.state == .failed ? ", counts as failed" : ""))
        }
        if let next = child.nextAttempt { parts.append("next attempt in \(Self.span(next))") }
        if !child.lastExit.isEmpty { parts.append("last end: \(Self.plain(child.lastExit))") }
        return parts.isEmpty ? [] : ["\(name): " + parts.joined(separator: "; ")]
    }

    private func note(of rolling: RollingRestartStatus) -> String {
        let all = rolling.restarted.count + rolling.pending.count + (rolling.current == nil ? 0 : 1)
        let count = "\(rolling.restarted.count) of \(all) engines restarted"
        switch rolling.state {
        case .running:
            let current = rolling.current.map { "; engine \($0) \(Self.plain(rolling.detail))" } ?? ""
            return "rolling restart: \(count)\(current)"
        case .done: return "rolling restart: done, \(count)"
        case .stopped: return "rolling restart: stopped, \(count): \(Self.plain(rolling.detail))"
        }
    }

    private func notes(of sharing: SharingStatus) -> [String] {
        var parts = [Self.plain(sharing.phase)]
        if sharing.daemonPid != 0 { parts.append("daemon \(sharing.daemonPid)") }
        if !sharing.serverPids.isEmpty {
            parts.append("server \(sharing.serverPids.map(String.init).joined(separator: ", "))")
        }
        if let clients = sharing.clients { parts.append("\(clients) \(clients == 1 ? "client" : "clients")") }
        let rungs = sharing.rungs.filter { $0.count > 0 }.map {
            "\(Self.plain($0.name).replacing("_", with: " ")) \($0.count)"
        }
        return ["mps: " + parts.joined(separator: ", ")]
            + (rungs.isEmpty ? [] : ["mps recovery: " + rungs.joined(separator: ", ")])
    }

    private func notes(of device: SimulatedDeviceStatus) -> [String] {
        let name = "simulated \(Self.plain(device.name))"
        var parts = [Self.plain(device.phase), "engines share it by \(Self.plain(device.sharing))"]
        if device.pid != 0 { parts.append("process \(device.pid)") }
        if device.restarts > 0 { parts.append("restarts \(device.restarts)") }
        parts.append("\(device.clients) \(device.clients == 1 ? "client" : "clients")")
        if device.memoryBytes > 0 {
            parts.append("\(ByteCountText.text(device.usedBytes)) of \(ByteCountText.text(device.memoryBytes)) taken")
        }
        let lag = UInt64(device.lagMillionths) / 1000
        parts.append("lag \(lag / 10).\(lag % 10) %")
        return ["\(name): " + parts.joined(separator: ", ")]
            + (device.isLate
                ? ["\(name): error: this machine does not keep up with it, speeds are not those of the simulated GPU"]
                : [])
    }

    /// Broken between words where a line would be too long.
    private func wrapped(_ text: String) -> String {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = "  " + word
            } else {
                line += (line.isEmpty ? "" : " ") + word
            }
        }
        return (lines + [line]).joined(separator: "\n") + "\n"
    }

    // MARK: - Values

    /// `12s`, `3m05s`, `2h10m`, `4d03h`.
    static func span(_ milliseconds: UInt64) -> String {
        func two(_ number: UInt64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let seconds = milliseconds / 1000
        switch seconds {
        case ..<60: return "\(seconds)s"
        case ..<3600: return "\(seconds / 60)m\(two(seconds % 60))s"
        case ..<86400: return "\(seconds / 3600)h\(two(seconds / 60 % 60))m"
        default: return "\(seconds / 86400)d\(two(seconds / 3600 % 24))h"
        }
    }

    /// `0-3,8`.
    static func ranges(_ numbers: [Int32]) -> String {
        guard !numbers.isEmpty else { return "all" }
        var ranges: [ClosedRange<Int32>] = []
        for number in numbers.sorted() {
            if let last = ranges.last, last.upperBound < .max, number <= last.upperBound + 1 {
                ranges[ranges.count - 1] = last.lowerBound...max(last.upperBound, number)
            } else {
                ranges.append(number...number)
            }
        }
        return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
            .joined(separator: ",")
    }

    /// Text from elsewhere, without what would command a terminal.
    private static func plain(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
    }
}
