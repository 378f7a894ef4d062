// Tandem — Apache-2.0

/// What a policy sees of one engine.
public struct EngineView: Sendable, Equatable {
    /// Whether an engine may get new work.
    public enum State: Sendable, Equatable {
        case serving
        /// It exists, but starts, drains or is not reachable.
        case notServing
    }

    public var id: EngineID
    public var state: State
    public var outstandingRequests: Int
    public var outstandingTokens: Int
    /// The same of others that send work there; see ``Router/setForeignLoad(_:requests:on:)``.
    public var foreignRequests: Int
    public var foreignTokens: Int

    public init(
        id: EngineID, state: State, outstandingRequests: Int = 0, outstandingTokens: Int = 0, foreignRequests: Int = 0,
        foreignTokens: Int = 0
    ) {
        self.id = id
        self.state = state
        self.outstandingRequests = outstandingRequests
        self.outstandingTokens = outstandingTokens
        self.foreignRequests = foreignRequests
        self.foreignTokens = foreignTokens
    }
}

extension EngineView {
    fileprivate var load: (tokens: Int, requests: Int) {
        (outstandingTokens + foreignTokens, outstandingRequests + foreignRequests)
    }
}

/// How an engine is chosen for a request.
public enum RoutingPolicy: Sendable {
    /// The engine with the fewest outstanding tokens; among equals the one with the fewest requests; among equals any,
    /// with equal probability.
    case leastOutstandingTokens

    /// Chooses among the engines that serve and are not excluded.
    ///
    /// - Parameters:
    ///   - excluded: engines that were tried for this request already.
    ///   - generator: breaks ties; drawn from at most once, and only when there is a tie.
    /// - Returns: nil if there is no such engine.
    public func choose(
        among engines: some Collection<EngineView>,
        excluding excluded: Set<EngineID> = [],
        using generator: inout some RandomNumberGenerator
    ) -> EngineID? {
        switch self {
        case .leastOutstandingTokens:
            var best: [EngineView] = []
            for engine in engines where engine.state == .serving && !excluded.contains(engine.id) {
                guard let first = best.first else {
                    best = [engine]
                    continue
                }
                let load = engine.load
                let leastLoad = first.load
                if load < leastLoad { best = [engine] } else if load == leastLoad { best.append(engine) }
            }
            return best.count > 1 ? best.randomElement(using: &generator)?.id : best.first?.id
        }
    }
}
