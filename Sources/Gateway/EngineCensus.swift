// Tandem — Apache-2.0

import EngineLink
import NIOCore

/// What event loops know of engines and have in hand.
struct EngineCensus: Sendable {
    /// Of one model, or of all models of external servers.
    struct Model: Sendable {
        var name: String
        /// In the order of their indices.
        var engines: [EngineReport]
        /// Sequences admitted and not ended.
        var unfinished: Int
        /// Sequences that wait because no engine serves.
        var held: Int
    }

    /// In the order of a front's shards.
    var models: [Model]
    /// Where the oldest requests are computed.
    var placements: [RequestPlacement]
    var eventLoops = 1

    /// Requests whose place is told.
    static let placementLimit = 32

    /// What one event loop knows.
    init(_ shards: [any ModelShard]) {
        models = shards.map {
            Model(name: $0.name, engines: $0.reports, unfinished: $0.unfinished, held: $0.held)
        }
        placements = Array(
            shards.flatMap { $0.placements(limit: Self.placementLimit) }.prefix(Self.placementLimit))
    }

    /// Adds what another event loop of the same gateway knows.
    mutating func add(_ other: EngineCensus) {
        eventLoops += other.eventLoops
        placements = Array((placements + other.placements).prefix(Self.placementLimit))
        for (index, model) in other.models.enumerated() {
            guard models.indices.contains(index) else {
                models.append(model)
                continue
            }
            models[index].unfinished += model.unfinished
            models[index].held += model.held
            for engine in model.engines {
                if let known = models[index].engines.firstIndex(where: { $0.index == engine.index }) {
                    models[index].engines[known].add(engine)
                } else {
                    models[index].engines.append(engine)
                    models[index].engines.sort { $0.index < $1.index }
                }
            }
        }
    }

    /// Of all event loops together; `nil` if there is none.
    static func merged(_ censuses: [EngineCensus]) -> EngineCensus? {
        guard var merged = censuses.first else { return nil }
        for census in censuses.dropFirst() { merged.add(census) }
        return merged
    }
}

extension EngineReport {
    /// Adds how another event loop sees the same engine: what both have in hand, and of the rest the newer.
    mutating func add(_ other: EngineReport) {
        outstandingRequests += other.outstandingRequests
        outstandingTokens += other.outstandingTokens
        // It serves for some clients at least.
        isServing = isServing || other.isServing
        hello = hello ?? other.hello
        // A restarted engine counts from 0 again.
        let isNewer = (other.restarts, other.statistics?.steps ?? 0) > (restarts, statistics?.steps ?? 0)
        if other.statistics != nil, statistics == nil || isNewer { statistics = other.statistics }
        if other.restarts > restarts { (pid, state, reason) = (other.pid, other.state, other.reason) }
        restarts = max(restarts, other.restarts)
        heard = [heard, other.heard].compactMap(\.self).max()
    }
}
