// Tandem — Apache-2.0

/// What is to be seen of one engine in a router.
public struct EngineView: Sendable, Equatable {
    /// Whether an engine may get new work.
    public enum State: Sendable, Equatable {
        case serving
        /// It exists, but starts, drains or is not reachable.
        case notServing
    }

    public var id: EngineID
    public var state: State
    /// Sent there by this router and not ended.
    public var outstandingRequests: Int
    /// What they are expected to cost still.
    public var outstandingTokens: Int
    /// The same of others that send work there; see ``Router/setForeignLoad(_:requests:on:)``.
    public var foreignRequests: Int
    public var foreignTokens: Int
    public var breaker: CircuitBreaker.State

    public init(
        id: EngineID, state: State, outstandingRequests: Int = 0, outstandingTokens: Int = 0, foreignRequests: Int = 0,
        foreignTokens: Int = 0, breaker: CircuitBreaker.State = .closed
    ) {
        self.id = id
        self.state = state
        self.outstandingRequests = outstandingRequests
        self.outstandingTokens = outstandingTokens
        self.foreignRequests = foreignRequests
        self.foreignTokens = foreignTokens
        self.breaker = breaker
    }
}

/// What counts how much when an engine is chosen. The numbers are chosen by simulation, see `docs/routing.md`.
public struct RoutingPolicy: Sendable, Equatable {
    /// What a token that is to be generated counts, in prompt tokens that are to be computed.
    public var newTokenWeight = 1.0
    /// What it counts for a session's own engine that it is, in prompt tokens.
    public var sessionTokens = 256
    /// What every request that an engine has in hand adds to the cost of computing a prompt there, as a share of it: they
    /// wait meanwhile. So what is cached counts more where there is much to do.
    public var interference = 0.05
    /// While an engine is idle, so many requests in flight that begin with the same prefix halve what it counts to hold
    /// it elsewhere: the more there are, the sooner it pays to have it there too.
    public var popularity = 1.0

    public init() {}
}

/// Where a request goes, and why.
public struct RoutingDecision: Sendable, Equatable {
    /// What distinguished the engine.
    public enum Reason: String, Sendable, CaseIterable {
        /// It holds part of the prompt.
        case prefix
        /// It is the session's own.
        case session
        /// It has the least to do.
        case load
        /// It is the only one that could be chosen.
        case only
    }

    public var engine: EngineID
    public var reason: Reason
    /// Prompt tokens that it is expected to find in its prefix cache.
    public var cachedTokens: Int

    public init(engine: EngineID, reason: Reason, cachedTokens: Int) {
        self.engine = engine
        self.reason = reason
        self.cachedTokens = cachedTokens
    }
}
