// Tandem — Apache-2.0

import NIOCore

// Fields of what administrators and supervisors say. Both begin with the version, so that a program of another release
// is told so. Each writer stands beside its reader; the order is the format.

private enum CommandCode: UInt8 {
    case status = 1
    case drain = 2
    case resume = 3
    case restart = 4
    case restartAll = 5
}

private enum ReplyCode: UInt8 {
    case status = 1
    case accepted = 2
    case refused = 3
}

extension ByteBuffer {
    mutating func write(_ command: AdminCommand) {
        let (code, engine, isForced): (CommandCode, UInt32, Bool) =
            switch command {
            case .status: (.status, 0, false)
            case .drain(let engine, let isForced): (.drain, engine, isForced)
            case .resume(let engine): (.resume, engine, false)
            case .restart(let engine, let isForced): (.restart, engine, isForced)
            case .restartAll(let isForced): (.restartAll, 0, isForced)
            }
        writeInteger(engineLinkVersion, endianness: .little)
        writeInteger(code.rawValue)
        writeInteger(engine, endianness: .little)
        write(isForced)
    }
}

extension FieldReader {
    mutating func adminCommand() throws(LinkError) -> AdminCommand {
        _ = try version()
        let code: CommandCode = try choice("command")
        let engine: UInt32 = try integer("engine")
        let isForced = try flag("isForced")
        return switch code {
        case .status: .status
        case .drain: .drain(engine: engine, isForced: isForced)
        case .resume: .resume(engine: engine)
        case .restart: .restart(engine: engine, isForced: isForced)
        case .restartAll: .restartAll(isForced: isForced)
        }
    }
}

extension ByteBuffer {
    mutating func write(_ reply: AdminReply) {
        writeInteger(engineLinkVersion, endianness: .little)
        switch reply {
        case .status(let status):
            writeInteger(ReplyCode.status.rawValue)
            write(status)
        case .accepted(let text):
            writeInteger(ReplyCode.accepted.rawValue)
            write(text)
        case .refused(let text):
            writeInteger(ReplyCode.refused.rawValue)
            write(text)
        }
    }
}

extension FieldReader {
    mutating func adminReply() throws(LinkError) -> AdminReply {
        _ = try version()
        let code: ReplyCode = try choice("reply")
        return switch code {
        case .status: .status(try supervisorStatus())
        case .accepted: .accepted(try string("text"))
        case .refused: .refused(try string("text"))
        }
    }
}

extension ByteBuffer {
    private mutating func write(_ status: SupervisorStatus) {
        write(status.version)
        writeMultipleIntegers(status.pid, status.uptime, endianness: .little)
        write(status.host)
        writeInteger(status.port, endianness: .little)
        write(status.isSecure)
        write(status.runDirectory)
        write(status.isStopping)
        write(status.gateway)
        writeCount(status.engines.count)
        for engine in status.engines { write(engine) }
        write(status.rollingRestart != nil)
        if let rollingRestart = status.rollingRestart { write(rollingRestart) }
        write(status.sharing != nil)
        if let sharing = status.sharing { write(sharing) }
        write(status.simulatedDevice != nil)
        if let device = status.simulatedDevice { write(device) }
    }

    private mutating func write(_ child: ChildStatus) {
        writeInteger(child.state.rawValue)
        writeInteger(child.pid, endianness: .little)
        write(child.uptime)
        writeMultipleIntegers(child.restarts, child.deathsInARow, endianness: .little)
        write(child.lastExit)
        write(child.nextAttempt)
    }

    private mutating func write(_ engine: EngineStatus) {
        writeInteger(engine.index, endianness: .little)
        write(engine.model)
        writeInteger(engine.processIndex, endianness: .little)
        write(engine.process)
        writeNumbers(engine.cores)
        write(engine.device)
        write(engine.memory.now)
        write(engine.memory.highWater)
        write(engine.memory.plan)
        write(engine.memory.isAbovePlan)
    }

    private mutating func write(_ restart: RollingRestartStatus) {
        writeInteger(restart.state.rawValue)
        writeNumbers(restart.restarted)
        write(restart.current)
        writeNumbers(restart.pending)
        write(restart.detail)
    }

    private mutating func write(_ sharing: SharingStatus) {
        write(sharing.phase)
        writeInteger(sharing.daemonPid, endianness: .little)
        writeNumbers(sharing.serverPids)
        write(sharing.clients)
        writeCount(sharing.rungs.count)
        for rung in sharing.rungs {
            write(rung.name)
            writeInteger(rung.count, endianness: .little)
        }
    }

    private mutating func write(_ device: SimulatedDeviceStatus) {
        write(device.name)
        write(device.sharing)
        write(device.phase)
        writeMultipleIntegers(device.pid, device.restarts, device.clients, endianness: .little)
        writeMultipleIntegers(device.memoryBytes, device.usedBytes, device.steps, endianness: .little)
        writeInteger(device.lagMillionths, endianness: .little)
        write(device.isLate)
    }

    private mutating func write(_ value: Bool) { writeInteger(UInt8(value ? 1 : 0)) }

    private mutating func write(_ value: (some FixedWidthInteger)?) {
        write(value != nil)
        if let value { writeInteger(value, endianness: .little) }
    }

    private mutating func writeNumbers(_ values: [some FixedWidthInteger]) {
        writeCount(values.count)
        for value in values { writeInteger(value, endianness: .little) }
    }
}

extension FieldReader {
    /// State, pid, no uptime, restarts, deaths, an empty string and no next attempt.
    private static let smallestChild = 1 + 4 + 1 + 4 + 4 + 4 + 1
    /// Index, three empty strings or arrays, a child, three numbers that are missing and a flag.
    private static let smallestEngine = 4 + 3 * 4 + smallestChild + 3 + 1

    private mutating func supervisorStatus() throws(LinkError) -> SupervisorStatus {
        SupervisorStatus(
            version: try string("version"),
            pid: try integer("pid"),
            uptime: try integer("uptime"),
            host: try string("host"),
            port: try integer("port"),
            isSecure: try flag("isSecure"),
            runDirectory: try string("runDirectory"),
            isStopping: try flag("isStopping"),
            gateway: try child(),
            engines: try array("engines", elementBytes: Self.smallestEngine) { reader throws(LinkError) in
                try reader.engine()
            },
            rollingRestart: try flag("rollingRestart") ? try rollingRestart() : nil,
            sharing: try flag("sharing") ? try sharing() : nil,
            simulatedDevice: try flag("simulatedDevice") ? try simulatedDevice() : nil
        )
    }

    private mutating func child() throws(LinkError) -> ChildStatus {
        ChildStatus(
            state: try choice("state"),
            pid: try integer("pid"),
            uptime: try optional("uptime"),
            restarts: try integer("restarts"),
            deathsInARow: try integer("deathsInARow"),
            lastExit: try string("lastExit"),
            nextAttempt: try optional("nextAttempt")
        )
    }

    private mutating func engine() throws(LinkError) -> EngineStatus {
        EngineStatus(
            index: try integer("index"),
            model: try string("model"),
            processIndex: try integer("processIndex"),
            process: try child(),
            cores: try numbers("cores"),
            device: try string("device"),
            memory: MemoryStatus(
                now: try optional("memory now"),
                highWater: try optional("memory highWater"),
                plan: try optional("memory plan"),
                isAbovePlan: try flag("memory isAbovePlan")
            )
        )
    }

    private mutating func rollingRestart() throws(LinkError) -> RollingRestartStatus {
        RollingRestartStatus(
            state: try choice("state"),
            restarted: try numbers("restarted"),
            current: try optional("current"),
            pending: try numbers("pending"),
            detail: try string("detail")
        )
    }

    private mutating func sharing() throws(LinkError) -> SharingStatus {
        SharingStatus(
            phase: try string("phase"),
            daemonPid: try integer("daemonPid"),
            serverPids: try numbers("serverPids"),
            clients: try optional("clients"),
            rungs: try array("rungs", elementBytes: 4 + 4) { reader throws(LinkError) in
                SharingStatus.Rung(name: try reader.string("name"), count: try reader.integer("count"))
            }
        )
    }

    private mutating func simulatedDevice() throws(LinkError) -> SimulatedDeviceStatus {
        SimulatedDeviceStatus(
            name: try string("name"),
            sharing: try string("sharing"),
            phase: try string("phase"),
            pid: try integer("pid"),
            restarts: try integer("restarts"),
            clients: try integer("clients"),
            memoryBytes: try integer("memoryBytes"),
            usedBytes: try integer("usedBytes"),
            steps: try integer("steps"),
            lagMillionths: try integer("lagMillionths"),
            isLate: try flag("isLate")
        )
    }

    private mutating func optional<T: FixedWidthInteger>(_ field: StaticString) throws(LinkError) -> T? {
        try flag(field) ? try integer(field) : nil
    }

    private mutating func numbers<T: FixedWidthInteger>(_ field: StaticString) throws(LinkError) -> [T] {
        try array(field, elementBytes: MemoryLayout<T>.size) { reader throws(LinkError) in try reader.integer(field) }
    }
}
