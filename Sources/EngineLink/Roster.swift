// Tandem — Apache-2.0

/// Which engines exist, where and in which state, as their supervisor sees them.
public struct Roster: Sendable, Equatable {
    /// Grows with every change; a receiver ignores an older one.
    public var generation: UInt64
    public var engines: [RosterEntry]

    public init(generation: UInt64 = 0, engines: [RosterEntry] = []) {
        self.generation = generation
        self.engines = engines
    }
}

/// One engine of a ``Roster``.
public struct RosterEntry: Sendable, Equatable {
    public enum State: UInt8, Sendable, CaseIterable {
        /// Its process runs and it is not ready to serve.
        case starting = 1
        case ready = 2
        /// It finishes what it has and takes nothing new.
        case draining = 3
        /// Its process ended; it will be started again.
        case restarting = 4
        /// It will not be started again; see ``RosterEntry/reason``.
        case failed = 5
    }

    public var index: UInt32
    /// `link+unix:/path` or `link+tcp:host:port`.
    public var address: String
    public var state: State
    /// Process id; 0 if there is none.
    public var pid: Int32
    /// How often it was started again.
    public var restarts: UInt32
    /// How its last run ended; empty if it never did.
    public var reason: String

    public init(
        index: UInt32,
        address: String,
        state: State,
        pid: Int32 = 0,
        restarts: UInt32 = 0,
        reason: String = ""
    ) {
        self.index = index
        self.address = address
        self.state = state
        self.pid = pid
        self.restarts = restarts
        self.reason = reason
    }
}
