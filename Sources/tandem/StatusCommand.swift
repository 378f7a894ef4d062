// Tandem — Apache-2.0

import ArgumentParser
import EngineLink
import Glibc
import JSON
import Supervision

/// Says once how a server's processes are.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show a running server's processes: state, restarts, memory, cores.",
        discussion: """
            Asks the supervisor over its socket, which only the user who started it may use. What requests do, \
            tandem top shows. The exit status is 1 if there is no server to ask, else 0, however its processes are.

            Example:
              tandem status
              tandem status --json | python3 -m json.tool
            """)

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var server: RunningServer

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        var client = try server.client("tandem status")
        let status = try client.status("tandem status")
        if json {
            Process.write(status.json + "\n", to: STDOUT_FILENO)
        } else {
            let text = StatusText(
                status, width: Terminal.size()?.columns ?? 80, isColoured: Process.showsColours)
            Process.write(text.text, to: STDOUT_FILENO)
        }
    }
}

extension AdminClient {
    /// The status, or the end of the program.
    mutating func status(_ name: String) throws -> SupervisorStatus {
        switch try answer(.status, name) {
        case .status(let status): return status
        case .accepted(let text), .refused(let text):
            Process.log("\(name): \(text)")
            throw ExitCode(1)
        }
    }

    mutating func answer(_ command: AdminCommand, _ name: String) throws -> AdminReply {
        do {
            return try ask(command)
        } catch {
            Process.log("\(name): \(error)")
            throw ExitCode(1)
        }
    }
}

extension SupervisorStatus {
    /// One object; docs/administration.md describes its members.
    var json: String {
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("version", version)
        writer.member("pid", pid)
        writer.seconds("uptime_seconds", uptime)
        writer.member("host", host)
        writer.member("port", port)
        writer.key("tls")
        writer.bool(isSecure)
        writer.member("run_directory", runDirectory)
        writer.member("state", isStopping ? "stopping" : "serving")
        writer.key("gateway")
        writer.beginObject()
        writer.members(of: gateway)
        writer.endObject()
        writer.key("engines")
        writer.beginArray()
        for engine in engines { writer.write(engine) }
        writer.endArray()
        writer.key("rolling_restart")
        writer.write(rollingRestart)
        writer.key("mps")
        writer.write(sharing)
        writer.key("simulated_device")
        writer.write(simulatedDevice)
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self)
    }
}

extension JSONWriter {
    fileprivate mutating func member(_ name: String, _ value: String) {
        key(name)
        string(value)
    }

    fileprivate mutating func member(_ name: String, _ value: (some FixedWidthInteger)?) {
        key(name)
        if let value { integer(value) } else { null() }
    }

    fileprivate mutating func member(_ name: String, _ values: [some FixedWidthInteger]) {
        key(name)
        beginArray()
        for value in values { integer(value) }
        endArray()
    }

    /// From milliseconds.
    fileprivate mutating func seconds(_ name: String, _ value: UInt64?) {
        key(name)
        if let value { number(Double(value) / 1000) } else { null() }
    }

    fileprivate mutating func members(of child: ChildStatus) {
        member("state", "\(child.state)")
        member("pid", child.pid == 0 ? nil : child.pid)
        seconds("uptime_seconds", child.uptime)
        member("restarts", child.restarts)
        member("deaths_in_a_row", child.deathsInARow)
        member("last_exit", child.lastExit)
        seconds("next_attempt_seconds", child.nextAttempt)
    }

    fileprivate mutating func write(_ engine: EngineStatus) {
        beginObject()
        member("index", engine.index)
        member("model", engine.model)
        member("process", engine.processIndex)
        members(of: engine.process)
        member("cores", engine.cores)
        member("device", engine.device)
        key("memory")
        beginObject()
        member("bytes", engine.memory.now)
        member("high_water_bytes", engine.memory.highWater)
        member("planned_bytes", engine.memory.plan)
        key("above_plan")
        bool(engine.memory.isAbovePlan)
        endObject()
        endObject()
    }

    fileprivate mutating func write(_ rolling: RollingRestartStatus?) {
        guard let rolling else { return null() }
        beginObject()
        member("state", "\(rolling.state)")
        member("restarted", rolling.restarted)
        member("current", rolling.current)
        member("pending", rolling.pending)
        member("detail", rolling.detail)
        endObject()
    }

    fileprivate mutating func write(_ device: SimulatedDeviceStatus?) {
        guard let device else { return null() }
        beginObject()
        member("name", device.name)
        member("sharing", device.sharing)
        member("phase", device.phase)
        member("pid", device.pid == 0 ? nil : device.pid)
        member("restarts", device.restarts)
        member("clients", device.clients)
        member("memory_bytes", device.memoryBytes)
        member("used_bytes", device.usedBytes)
        member("steps", device.steps)
        key("lag")
        number(Double(device.lagMillionths) / 1e6)
        key("late")
        bool(device.isLate)
        endObject()
    }

    fileprivate mutating func write(_ sharing: SharingStatus?) {
        guard let sharing else { return null() }
        beginObject()
        member("phase", sharing.phase)
        member("daemon_pid", sharing.daemonPid == 0 ? nil : sharing.daemonPid)
        member("server_pids", sharing.serverPids)
        member("clients", sharing.clients)
        key("recovery")
        beginObject()
        for rung in sharing.rungs { member(rung.name, rung.count) }
        endObject()
        endObject()
    }
}
