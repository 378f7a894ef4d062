// Tandem — Apache-2.0

import Requests
public import Routing
import TestSupport

/// How a simulated request finds its engine.
public enum Balancing: Sendable, Equatable {
    case roundRobin
    case random
    case leastRequests
    /// The one with fewer requests of two random engines.
    case powerOfTwo
    /// Prompts and limits count as they were sent.
    case leastTokens
    case router(RoutingPolicy)

    public static let all: [Balancing] = [
        .roundRobin, .random, .leastRequests, .powerOfTwo, .leastTokens, .router(RoutingPolicy()),
    ]

    public var name: String {
        switch self {
        case .roundRobin: "round robin"
        case .random: "random"
        case .leastRequests: "least requests"
        case .powerOfTwo: "power of two"
        case .leastTokens: "least tokens"
        case .router: "Tandem"
        }
    }
}

/// Chooses engines, and hears of what becomes of requests.
struct Balancer {
    private let balancing: Balancing
    private let count: Int
    private var turn = 0
    private var requests: [Int]
    private var ledgers: [InFlightLedger]
    private var router: Router
    private var generator: SeededGenerator
    private let blockSize: Int

    init(_ balancing: Balancing, engines count: Int, blockSize: Int, told: Bool, seed: UInt64) {
        self.balancing = balancing
        self.count = count
        self.blockSize = blockSize
        requests = Array(repeating: 0, count: count)
        ledgers = Array(repeating: InFlightLedger(), count: count)
        generator = SeededGenerator(seed: seed)
        var policy = RoutingPolicy()
        if case .router(let given) = balancing { policy = given }
        router = Router(policy: policy)
        for engine in 0..<count {
            router.engineAppeared(EngineID(UInt64(engine)), prefixes: told ? .told : .guessed)
            router.setServing(EngineID(UInt64(engine)), true)
        }
    }

    mutating func choose(_ job: Job) -> Int {
        switch balancing {
        case .roundRobin:
            turn += 1
            return (turn - 1) % count
        case .random:
            return .random(in: 0..<count, using: &generator)
        case .leastRequests:
            return least(requests)
        case .powerOfTwo:
            let first = Int.random(in: 0..<count, using: &generator)
            let second = Int.random(in: 0..<count, using: &generator)
            return requests[second] < requests[first] ? second : first
        case .leastTokens:
            return least(ledgers.map(\.outstandingTokens))
        case .router:
            let cost = TokenCost(prompt: job.promptTokens, new: job.limit)
            let hints = hints(job)
            guard let decision = router.decide(for: cost, hints: hints, using: &generator) else { return 0 }
            router.started(job.id, on: decision.engine, cost: cost, hints: hints, cachedTokens: decision.cachedTokens)
            return Int(decision.engine.rawValue)
        }
    }

    private func hints(_ job: Job) -> RoutingHints {
        let blocks = min(job.blocks.count, (job.promptTokens - 1) / blockSize)
        return RoutingHints(
            prefix: Array(job.blocks.prefix(blocks)), blockSize: blockSize,
            session: job.session.map { StableHash.mix(UInt64($0)) })
    }

    private mutating func least(_ loads: [Int]) -> Int {
        let smallest = loads.min() ?? 0
        return loads.indices.filter { loads[$0] == smallest }.randomElement(using: &generator) ?? 0
    }

    mutating func started(_ job: Job, on engine: Int) {
        requests[engine] += 1
        ledgers[engine].add(job.id, cost: TokenCost(prompt: job.promptTokens, new: job.limit))
    }

    mutating func produced(_ job: Job, isLast: Bool, on engine: Int) {
        ledgers[engine].progress(job.id, newTokens: 1)
        router.progressed(job.id, on: EngineID(UInt64(engine)), newTokens: 1)
        guard isLast else { return }
        requests[engine] -= 1
        ledgers[engine].remove(job.id)
        router.finished(job.id, on: EngineID(UInt64(engine)))
    }

    mutating func prefixesChanged(stored: Set<BlockHash>, evicted: Set<BlockHash>, on engine: Int) {
        router.prefixesChanged(stored: stored, evicted: evicted, on: EngineID(UInt64(engine)))
    }
}
