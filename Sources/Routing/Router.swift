// Tandem — Apache-2.0

public import Requests

/// The engines there are, what is in flight on each, and where the next request goes. A plain value: whoever owns it
/// tells it what happens.
public struct Router: Sendable {
    private struct Engine {
        var isServing = false
        var ledger = InFlightLedger()
        var foreignTokens = 0
        var foreignRequests = 0
    }

    /// Sorted by id, so that a choice depends on nothing but what the router was told and the random numbers.
    private var engines: [(id: EngineID, engine: Engine)] = []
    private let policy: RoutingPolicy

    public init(policy: RoutingPolicy = .leastOutstandingTokens) {
        self.policy = policy
    }

    // MARK: - Engines

    /// An engine exists; it does not serve yet. Does nothing if it is known.
    public mutating func engineAppeared(_ id: EngineID) {
        guard index(of: id) == nil else { return }
        let position = engines.firstIndex { $0.id > id } ?? engines.endIndex
        engines.insert((id, Engine()), at: position)
    }

    /// An engine is gone for good.
    ///
    /// - Returns: the sequences that were in flight on it, ascending.
    @discardableResult
    public mutating func engineGone(_ id: EngineID) -> [RequestID] {
        guard let index = index(of: id) else { return [] }
        return engines.remove(at: index).engine.ledger.ids.sorted()
    }

    /// An engine takes new work from now on, or takes none. What is in flight on it stays.
    public mutating func setServing(_ id: EngineID, _ isServing: Bool) {
        guard let index = index(of: id) else { return }
        engines[index].engine.isServing = isServing
    }

    /// What others have in flight on an engine, as far as it is known; in place of what was said before.
    ///
    /// - Parameters:
    ///   - tokens: what their sequences are expected to cost still: the sum of their ``EngineView/outstandingTokens``.
    ///   - requests: how many they are.
    public mutating func setForeignLoad(_ tokens: Int, requests: Int, on id: EngineID) {
        guard let index = index(of: id) else { return }
        engines[index].engine.foreignTokens = max(0, tokens)
        engines[index].engine.foreignRequests = max(0, requests)
    }

    /// What is in flight on an engine from here; nothing if it is gone.
    public func load(of id: EngineID) -> (tokens: Int, requests: Int) {
        guard let index = index(of: id) else { return (0, 0) }
        let ledger = engines[index].engine.ledger
        return (ledger.outstandingTokens, ledger.count)
    }

    /// All engines, by ascending id.
    public var views: [EngineView] {
        engines.map { id, engine in
            EngineView(
                id: id,
                state: engine.isServing ? .serving : .notServing,
                outstandingRequests: engine.ledger.count,
                outstandingTokens: engine.ledger.outstandingTokens,
                foreignRequests: engine.foreignRequests,
                foreignTokens: engine.foreignTokens)
        }
    }

    /// How many engines serve.
    public var servingEngines: Int { engines.count { $0.engine.isServing } }

    /// Whether any engine serves.
    public var hasServingEngine: Bool { engines.contains { $0.engine.isServing } }

    /// Sequences in flight on all engines.
    public var outstandingRequests: Int { engines.reduce(0) { $0 + $1.engine.ledger.count } }

    // MARK: - Requests

    /// Where a request should go; see ``RoutingPolicy``. Nothing is entered: ``started(_:on:cost:)`` does that.
    ///
    /// - Parameters:
    ///   - cost: what the request will cost.
    ///   - hints: what speaks for one engine or another beside their load.
    ///   - excluded: engines that were tried for this request already, or cannot serve it.
    ///   - now: since any fixed instant.
    /// - Returns: nil if no engine serves that was not tried.
    public mutating func choose(
        for cost: TokenCost = TokenCost(prompt: 0, new: 0), hints: RoutingHints = RoutingHints(),
        excluding excluded: Set<EngineID> = [], at now: Duration = .zero,
        using generator: inout some RandomNumberGenerator
    ) -> EngineID? {
        policy.choose(among: views, excluding: excluded, using: &generator)
    }

    /// How an engine dealt with what it was sent.
    public mutating func reported(_ outcome: EngineOutcome, by id: EngineID, at now: Duration) {}

    /// A sequence was sent to an engine.
    public mutating func started(
        _ request: RequestID, on id: EngineID, cost: TokenCost, hints: RoutingHints = RoutingHints()
    ) {
        guard let index = index(of: id) else { return }
        engines[index].engine.ledger.add(request, cost: cost)
    }

    /// An engine has worked on a sequence; see ``InFlightLedger/progress(_:promptTokens:newTokens:)``.
    public mutating func progressed(
        _ request: RequestID, on id: EngineID, promptTokens: Int = 0, newTokens: Int = 0
    ) {
        guard let index = index(of: id) else { return }
        engines[index].engine.ledger.progress(request, promptTokens: promptTokens, newTokens: newTokens)
    }

    /// A sequence ended on an engine, for whatever reason.
    public mutating func finished(_ request: RequestID, on id: EngineID) {
        guard let index = index(of: id) else { return }
        engines[index].engine.ledger.remove(request)
    }

    private func index(of id: EngineID) -> Int? { engines.firstIndex { $0.id == id } }
}
