// Tandem — Apache-2.0

/// Where MPS on one GPU stands.
public enum MPSPhase: String, Sendable, Equatable, Hashable, CaseIterable {
    /// No daemon, and none is wanted now.
    case absent
    /// The daemon was started, or is looked for, and has not answered yet.
    case starting
    /// The daemon answers; no client has made it start a server.
    case idle
    /// The server starts. Every control command blocks meanwhile.
    case initializing
    case active
    /// The end was asked for.
    case draining
    /// A fatal fault, or the server ended: all engines have to go before new ones can come.
    case fault
    /// The daemon does not answer.
    case wedged
    /// The daemon ended though nobody asked it to.
    case dead
    /// Given up for a while after too many restarts in a row.
    case failed
}

/// The rungs of recovery, mildest first. Each is tried only after those before it failed or do not apply.
public enum RecoveryRung: Int, Sendable, Equatable, Hashable, CaseIterable, Comparable {
    /// Ask the server to drop an engine's contexts: killed with work in flight, it could take the others along.
    case terminateClient
    case killEngine
    /// All engines of the GPU.
    case killGroup
    case quit
    case killServer
    case killDaemon
    case cleanDirectory
    case restart

    public static func < (left: RecoveryRung, right: RecoveryRung) -> Bool { left.rawValue < right.rawValue }
}

/// To whom the control daemon belongs.
public enum DaemonOwnership: Sendable, Equatable, Hashable, CaseIterable {
    /// A child of this process.
    case own
    /// Not a child, but this user's and put into our care; once it is gone, an own one takes its place.
    case adopted
    /// Somebody else's: it is asked, never ended.
    case external

    var mayEndIt: Bool { self != .external }
}

/// What happens to MPS on a GPU.
public enum MPSEvent: Sendable, Equatable {
    case begin
    /// Engines and daemon shall end.
    case stop
    case daemonStarted
    case daemonNotStarted(reason: String)
    case daemonEnded
    /// The daemon answered a query.
    case answered(MPSSnapshot)
    /// It did not.
    case notAnswered(ControlOutcome)
    /// From the log.
    case serverStarting
    case serverReady
    case serverEnded
    case serverFault
    /// No process of a server of ours is left.
    case serversGone
    case engineStarted(Int)
    case engineEnded(Int)
    /// It makes no progress, and the others do.
    case engineStuck(Int)
    /// It reported an error that concerns all engines of the GPU: 805 to 807, or a fatal fault.
    case engineFault(Int)
    case terminated(engine: Int, succeeded: Bool)
    /// Deadlines may be due.
    case timePassed
}

/// What a daemon answered, in short.
public struct MPSSnapshot: Sendable, Equatable, Hashable {
    public enum Server: Sendable, Equatable, Hashable { case none, initializing, active, fault }
    public var server: Server
    /// Clients of the daemon, also those whose process it cannot see.
    public var clients: Int

    public init(server: Server, clients: Int) {
        self.server = server
        self.clients = clients
    }
}

/// What shall be done.
public enum MPSAction: Sendable, Equatable {
    case startDaemon
    case query
    case terminateClient(engine: Int)
    case killEngine(Int)
    /// No more requests for engines of this GPU, and no new engines.
    case hold
    /// Engines may be started, and get requests once they proved that they are attached.
    case admit
    case quit
    /// SIGKILL to the servers of our daemon, orphans included.
    case killServer
    case killDaemon
    case cleanDirectory
    case log(String)
}
