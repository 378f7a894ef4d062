// Tandem — Apache-2.0

public import Requests

/// The engines there are, what is in flight on each, what they have cached, and where the next request goes. A plain
/// value: whoever owns it tells it what happens, and hands it clock and random numbers.
///
/// A request goes where the least is to be done: the tokens that an engine has outstanding and those of the prompt that
/// it does not hold, see ``RoutingPolicy``.
public struct Router: Sendable {
    private struct Engine: Sendable {
        var id: EngineID
        /// The same for successors of an engine that is gone.
        var key: UInt64
        /// Its place in the prefix index.
        var slot: Int
        var isServing = false
        var ledger = InFlightLedger()
        var foreignTokens = 0
        var foreignRequests = 0
        var breaker: CircuitBreaker

        var requests: Int { ledger.count + foreignRequests }
    }

    /// Sorted by id, so that a choice depends on nothing but what the router was told and the random numbers.
    private var engines: [Engine] = []
    private let policy: RoutingPolicy
    private let breakerLimits: BreakerLimits
    private var prefixes: PrefixIndex
    private var lengths = LengthEstimate()
    /// Blocks of the prompt at hand that each slot holds, and what each engine would cost: kept to allocate nothing.
    private var matches: [Int] = []
    private var scores: [Double] = []

    public init(
        policy: RoutingPolicy = RoutingPolicy(), prefixes: PrefixLimits = PrefixLimits(),
        breaker: BreakerLimits = BreakerLimits()
    ) {
        self.policy = policy
        self.prefixes = PrefixIndex(limits: prefixes)
        breakerLimits = breaker
    }

    // MARK: - Engines

    /// An engine exists; it does not serve yet. Does nothing if it is known.
    ///
    /// - Parameters:
    ///   - key: what stays the same when an engine comes back under another id, so that its sessions come back to it;
    ///     `nil` takes the id.
    ///   - knowledge: how its prefix cache becomes known.
    public mutating func engineAppeared(_ id: EngineID, key: UInt64? = nil, prefixes knowledge: PrefixKnowledge = .told)
    {
        guard index(of: id) == nil else { return }
        let position = engines.firstIndex { $0.id > id } ?? engines.endIndex
        let slot = prefixes.addEngine(knowledge)
        let breaker = CircuitBreaker(limits: breakerLimits)
        engines.insert(Engine(id: id, key: key ?? id.rawValue, slot: slot, breaker: breaker), at: position)
        matches = Array(repeating: 0, count: prefixes.slots)
        scores = Array(repeating: 0, count: engines.count)
    }

    /// An engine is gone for good.
    ///
    /// - Returns: the sequences that were in flight on it, ascending.
    @discardableResult
    public mutating func engineGone(_ id: EngineID) -> [RequestID] {
        guard let index = index(of: id) else { return [] }
        let engine = engines.remove(at: index)
        prefixes.removeEngine(engine.slot)
        return engine.ledger.ids.sorted()
    }

    /// An engine takes new work from now on, or takes none. What is in flight on it stays.
    public mutating func setServing(_ id: EngineID, _ isServing: Bool) {
        guard let index = index(of: id) else { return }
        engines[index].isServing = isServing
    }

    /// What others have in flight on an engine, as far as it is known; in place of what was said before.
    ///
    /// - Parameters:
    ///   - tokens: what their sequences are expected to cost still: the sum of their ``EngineView/outstandingTokens``.
    ///   - requests: how many they are.
    public mutating func setForeignLoad(_ tokens: Int, requests: Int, on id: EngineID) {
        guard let index = index(of: id) else { return }
        engines[index].foreignTokens = max(0, tokens)
        engines[index].foreignRequests = max(0, requests)
    }

    /// An engine says which prefix blocks it has stored and evicted since it last did; the first time, all that it
    /// holds.
    public mutating func prefixesChanged(
        stored: some Sequence<BlockHash>, evicted: some Sequence<BlockHash>, on id: EngineID
    ) {
        guard let index = index(of: id) else { return }
        prefixes.reported(stored: stored, evicted: evicted, by: engines[index].slot)
    }

    /// What is in flight on an engine from here; nothing if it is gone.
    public func load(of id: EngineID) -> (tokens: Int, requests: Int) {
        guard let index = index(of: id) else { return (0, 0) }
        let ledger = engines[index].ledger
        return (ledger.outstandingTokens, ledger.count)
    }

    /// All engines, by ascending id.
    public var views: [EngineView] {
        engines.map { engine in
            EngineView(
                id: engine.id,
                state: engine.isServing ? .serving : .notServing,
                outstandingRequests: engine.ledger.count,
                outstandingTokens: engine.ledger.outstandingTokens,
                foreignRequests: engine.foreignRequests,
                foreignTokens: engine.foreignTokens,
                breaker: engine.breaker.state)
        }
    }

    /// How many engines serve.
    public var servingEngines: Int { engines.count { $0.isServing } }

    /// Whether any engine serves.
    public var hasServingEngine: Bool { engines.contains { $0.isServing } }

    /// Sequences in flight on all engines.
    public var outstandingRequests: Int { engines.reduce(0) { $0 + $1.ledger.count } }

    /// Bytes that the index of prefixes takes.
    public var prefixBytes: Int { prefixes.byteCount }

    /// Blocks of which it is known which engines hold them.
    public var prefixBlocks: Int { prefixes.count }

    // MARK: - Choosing

    /// Where a request should go; see ``decide(for:hints:excluding:at:using:)``.
    public mutating func choose(
        for cost: TokenCost = TokenCost(prompt: 0, new: 0), hints: RoutingHints = RoutingHints(),
        excluding excluded: Set<EngineID> = [], at now: Duration = .zero,
        using generator: inout some RandomNumberGenerator
    ) -> EngineID? {
        decide(for: cost, hints: hints, excluding: excluded, at: now, using: &generator)?.engine
    }

    /// Where a request should go, and why. Nothing is entered: ``started(_:on:cost:hints:cachedTokens:)`` does that.
    ///
    /// Of the engines that serve, are not excluded and are trusted (all of them, if none is), the one that has the least
    /// to do with the request; among equals one with the fewest requests; among equals any, with equal probability.
    ///
    /// - Parameters:
    ///   - cost: what the request will cost an engine that has nothing of it cached.
    ///   - hints: what speaks for one engine or another beside their load.
    ///   - excluded: engines that were tried for this request already, or cannot serve it.
    ///   - now: since any fixed instant.
    ///   - generator: breaks ties; drawn from only when there is a tie.
    /// - Returns: nil if no engine serves that was not tried.
    public mutating func decide(
        for cost: TokenCost, hints: RoutingHints = RoutingHints(), excluding excluded: Set<EngineID> = [],
        at now: Duration = .zero, using generator: inout some RandomNumberGenerator
    ) -> RoutingDecision? {
        var admitted = 0
        var refused = 0
        for index in engines.indices {
            scores[index] = .infinity
            guard engines[index].isServing, excluded.isEmpty || !excluded.contains(engines[index].id) else { continue }
            engines[index].breaker.advance(to: now)
            if engines[index].breaker.admits { admitted += 1 } else { refused += 1 }
            scores[index] = 0
        }
        let candidates = admitted > 0 ? admitted : refused
        guard candidates > 0 else { return nil }
        if admitted > 0, refused > 0 {
            for index in engines.indices where !engines[index].breaker.admits { scores[index] = .infinity }
        }
        prefixes.match(hints.prefix, into: &matches)
        let idle = engines.indices.contains { scores[$0] == 0 && engines[$0].requests == 0 }
        let own = hints.session.flatMap { ownEngine(of: $0) }
        var best = -1
        var equals = 0
        for index in engines.indices where scores[index] == 0 {
            scores[index] = score(index, cost, hints, isOwn: index == own, anyIdle: idle)
            guard best >= 0 else {
                (best, equals) = (index, 1)
                continue
            }
            let (mine, others) = (scores[index], scores[best])
            let (requests, fewest) = (engines[index].requests, engines[best].requests)
            if mine < others || (mine == others && requests < fewest) {
                (best, equals) = (index, 1)
            } else if mine == others, requests == fewest {
                equals += 1
            }
        }
        if equals > 1 {
            var skipped = Int.random(in: 0..<equals, using: &generator)
            best =
                engines.indices.first { index in
                    guard scores[index] == scores[best], engines[index].requests == engines[best].requests else {
                        return false
                    }
                    skipped -= 1
                    return skipped < 0
                } ?? best
        }
        let cached = cachedTokens(best, cost, hints)
        let reason: RoutingDecision.Reason =
            candidates == 1 ? .only : cached > 0 ? .prefix : best == own ? .session : .load
        return RoutingDecision(engine: engines[best].id, reason: reason, cachedTokens: cached)
    }

    /// What an engine would have to do with a request, in prompt tokens; what all would have to do is left out.
    ///
    /// - Parameters:
    ///   - isOwn: whether it is the session's own.
    ///   - anyIdle: whether any engine is idle.
    private func score(_ index: Int, _ cost: TokenCost, _ hints: RoutingHints, isOwn: Bool, anyIdle: Bool) -> Double {
        let ledger = engines[index].ledger
        var prompt = ledger.promptTokens + engines[index].foreignTokens
        if isOwn { prompt -= policy.sessionTokens }
        let uncached = Double(cost.prompt) - worth(index, cost, hints, anyIdle: anyIdle)
        return Double(prompt) + policy.newTokenWeight * Double(ledger.newTokens)
            + uncached * (1 + policy.interference * Double(engines[index].requests))
    }

    /// What it counts that an engine holds part of the prompt.
    private func worth(_ index: Int, _ cost: TokenCost, _ hints: RoutingHints, anyIdle: Bool) -> Double {
        let cached = cachedTokens(index, cost, hints)
        guard cached > 0, anyIdle else { return Double(cached) }
        let slot = engines[index].slot
        let sharing = prefixes.sequences(on: slot, beginningWith: hints.prefix[matches[slot] - 1])
        return Double(cached) / (1 + Double(sharing) / policy.popularity)
    }

    /// The last token of a prompt is always computed.
    private func cachedTokens(_ index: Int, _ cost: TokenCost, _ hints: RoutingHints) -> Int {
        let blocks = matches[engines[index].slot]
        guard blocks > 0 else { return 0 }
        let (tokens, overflow) = blocks.multipliedReportingOverflow(by: max(0, hints.blockSize))
        return max(0, min(overflow ? .max : tokens, cost.prompt - 1))
    }

    /// The engine among the candidates that draws the largest number for a session (rendezvous hashing: Thaler and
    /// Ravishankar, "A name-based mapping scheme for rendezvous", 1996): when one goes, only its sessions move.
    private func ownEngine(of session: UInt64) -> Int? {
        var own: Int?
        var largest: UInt64 = 0
        for index in engines.indices where scores[index] == 0 {
            let number = StableHash.mix(session ^ StableHash.mix(engines[index].key &+ 0x9E37_79B9_7F4A_7C15))
            if own == nil || number > largest { (own, largest) = (index, number) }
        }
        return own
    }

    // MARK: - Requests

    /// A sequence was sent to an engine.
    ///
    /// - Parameters:
    ///   - cost: what it costs an engine that has nothing of it cached; `new` is what it may generate at most.
    ///   - cachedTokens: prompt tokens of it that this engine holds, as ``RoutingDecision/cachedTokens`` says.
    public mutating func started(
        _ request: RequestID, on id: EngineID, cost: TokenCost, hints: RoutingHints = RoutingHints(),
        cachedTokens: Int = 0
    ) {
        guard let index = index(of: id) else { return }
        let real = TokenCost(prompt: cost.prompt - min(max(0, cachedTokens), cost.prompt), new: cost.new)
        engines[index].ledger.add(request, cost: real, expected: lengths.tokens(limit: cost.new))
        engines[index].breaker.started(request)
        prefixes.sent(request, prefix: hints.prefix, to: engines[index].slot)
    }

    /// An engine has worked on a sequence; see ``InFlightLedger/progress(_:promptTokens:newTokens:)``.
    public mutating func progressed(
        _ request: RequestID, on id: EngineID, promptTokens: Int = 0, newTokens: Int = 0
    ) {
        guard let index = index(of: id) else { return }
        if engines[index].ledger.progress(request, promptTokens: promptTokens, newTokens: newTokens) {
            engines[index].breaker.progressed(request)
        }
    }

    /// A sequence ended on an engine, for whatever reason.
    public mutating func finished(_ request: RequestID, on id: EngineID) {
        guard let index = index(of: id), let end = engines[index].ledger.remove(request) else { return }
        // Also of those that clients gave up: what was computed for them is what they cost. Those that generated
        // nothing say nothing of lengths.
        if end.generated > 0 { lengths.learn(limit: end.limit, count: end.generated) }
        prefixes.ended(request, on: engines[index].slot)
        engines[index].breaker.ended(request)
    }

    /// How an engine dealt with what it was sent, after ``finished(_:on:)``.
    ///
    /// - Parameters:
    ///   - now: since any fixed instant.
    ///   - jitter: 0 to 1, random.
    public mutating func reported(_ outcome: EngineOutcome, by id: EngineID, at now: Duration, jitter: Double = 0.5) {
        guard let index = index(of: id) else { return }
        let others = engines.contains { $0.id != id && $0.isServing && $0.breaker.isTrusted }
        engines[index].breaker.reported(outcome, isLast: !others, at: now, jitter: jitter)
    }

    private func index(of id: EngineID) -> Int? { engines.firstIndex { $0.id == id } }
}
