// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Routing

/// What a gateway does for a model, or for all models of external servers, on one event loop: it takes their requests
/// and knows their engines.
protocol ModelShard: AnyObject {
    /// What clients may ask for; the first is asked for by default. May change while it serves.
    var cards: [ModelCard] { get }
    var metrics: GatewayMetrics { get }
    /// Engines that would get a request now.
    var servingEngines: Int { get }
    /// Sequences admitted and not ended.
    var unfinished: Int { get }
    /// For people: `engine 0 starting, engine 1 failed (…)`.
    var summary: String { get }
    /// When it knows its engines: before that, an unhealthy answer says nothing about them.
    var settled: EventLoopFuture<Void> { get }
    /// Whether an engine is one of its own, by its index.
    func has(engine: Int) -> Bool
    /// What one of its engines has.
    func cards(of engine: Int) -> [ModelCard]
    /// Every engine as it is seen from here.
    var reports: [EngineReport] { get }
    /// Sequences that wait because no engine serves.
    var held: Int { get }
    /// Where the oldest sequences are computed, at most so many.
    func placements(limit: Int) -> [RequestPlacement]

    /// Begins to look for engines that no roster names; called once, on the event loop.
    func start()
    /// Answers a request, now or later.
    func handle(_ exchange: GatewayShard.Exchange)
    /// Takes a roster; engines that are not its own are none of its business.
    func update(_ roster: Roster)
    /// Takes the servers that there are; those that left take nothing new, and are forgotten when they are done.
    func update(servers: [ServerPlace])
    /// Whether any engine is named that might serve.
    var hasEngines: Bool { get }
    /// Ends all requests with an error.
    func failAll(_ error: APIError)
    /// Closes all connections to engines.
    func shutdown()
}

extension ModelShard {
    func start() {}
    func update(servers: [ServerPlace]) {}
    var hasEngines: Bool { true }
    func cards(of engine: Int) -> [ModelCard] { cards }
    /// What it is called where there is room for one name.
    var name: String { cards.first?.name ?? "model" }
    var held: Int { 0 }
    func placements(limit: Int) -> [RequestPlacement] { [] }
}

/// A name in `/v1/models`.
struct ModelCard: Equatable {
    /// What clients ask for.
    var name: String
    /// The model's first name, of which this may be another.
    var root: String
    /// Seconds since 1970.
    var created: Int
    /// Longest sequence; `nil` if it is not known.
    var contextLength: Int?
    var owner = "tandem"
}

/// An engine as a gateway's event loop sees it.
struct EngineReport: Sendable {
    /// In the roster, or in the list of endpoints.
    var index: Int
    var model: String
    var address: String
    var state: RosterEntry.State
    /// Whether it gets requests.
    var isServing: Bool
    var pid: Int32
    var restarts: UInt32
    /// How its last run ended, or why it is not reached; empty if nothing is known to be wrong.
    var reason: String
    var hello: EngineHello?
    var statistics: EngineStatistics?
    /// What this event loop has in hand there.
    var outstandingRequests: Int
    var outstandingTokens: Int
    var breaker = CircuitBreaker.State.closed
    /// When anything last came from there; `nil` if nothing did.
    var heard: NIODeadline?

    /// Whether it is another's, and says nothing of itself.
    var isExternal: Bool { address.hasPrefix("http:") }
}

/// Where a request is computed at the moment.
struct RequestPlacement: Sendable, Equatable {
    /// The id that its answer carries.
    var request: String
    var model: String
    /// Index of its engine.
    var engine: Int
    /// How often it was given to an engine.
    var attempts: Int
}

extension CircuitBreaker.State {
    /// For labels.
    var name: String {
        switch self {
        case .closed: "closed"
        case .halfOpen: "half_open"
        case .open: "open"
        }
    }
}
