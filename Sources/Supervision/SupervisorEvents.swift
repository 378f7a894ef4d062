// Tandem — Apache-2.0

internal import EngineLink

/// A process under supervision.
enum Child: Hashable, Sendable, CustomStringConvertible {
    case gateway
    /// A process of one or several engines, by its place among these processes; see ``EnginePlacement``.
    case engine(Int)

    var description: String {
        switch self {
        case .gateway: "gateway"
        case .engine(let index): "engine \(index)"
        }
    }
}

/// What happens to a supervisor. Times are durations since any fixed instant.
enum SupervisorEvent: Equatable {
    case begin
    case started(Child, pid: Int32)
    /// An external engine will be reached there; for people, what it is.
    case placed(engine: Int, address: String, program: String = "")
    /// What the gateway says of an external engine.
    case reported(ExternalEngineReport)
    /// It serves. `detail` is what it says of itself, for people.
    case ready(Child, detail: String)
    case ended(Child, ChildExit)
    /// It gave a sign of life.
    case heartbeat(Child, progress: UInt64, isWorking: Bool)
    /// Of the device that engines share.
    case sharing(SharingEvent)
    /// Time has passed; deadlines may be due.
    case timePassed
    case stopRequested(signal: Int32)
    /// An administrator asks for something, over a connection that has this number.
    case administer(AdminCommand, connection: Int)
    /// The memory of engines was read.
    case memoryRead([MemorySample])
    /// The run directory was gone, with all sockets in it, and is there again.
    case directoryRestored(enginesCanRestart: Bool)
}

/// What a supervisor shall do.
enum SupervisorAction: Equatable {
    case start(Child)
    /// Ask to finish: SIGTERM.
    case terminate(Child)
    /// SIGKILL to its process group.
    case kill(Child)
    case closeListener
    case sharing(SharingNotice)
    case sendRoster(Roster)
    /// Every model can answer from now on, but those that do not start. The devices are one a model, null for those.
    case announce(devices: [String?])
    case log(SupervisorOutput.Severity, String)
    case answer(AdminReply, connection: Int)
    case exit(code: Int32)
}

/// What keeps the engines' common device working reports.
enum SharingEvent: Equatable {
    /// No engine may start.
    case hold
    case admit
    /// This engine has to go.
    case kill(engine: Int)
    /// Whether an engine computes on the common device; the reason if it does not.
    case proved(engine: Int, failure: String?)
    /// It was given up for a while after many attempts.
    case failed
    /// It is done, and nothing of it is left.
    case ended
}

/// What it is told.
enum SharingNotice: Equatable {
    case started(engine: Int, pid: Int32)
    case ended(engine: Int)
    /// It ended because of an error that all engines of the device have.
    case fault(engine: Int)
    case stuck(engine: Int)
    case prove(engine: Int)
    case stop
}
