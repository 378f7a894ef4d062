// Tandem — Apache-2.0

import EngineLink
import NIOCore
import Synchronization

/// Something that happened to an engine.
struct GatewayEvent: Sendable, Equatable {
    enum Kind: String, Sendable {
        /// It serves for the first time, or again.
        case ready = "engine_ready"
        /// Its process or its link ended; it will be back.
        case lost = "engine_lost"
        /// Its process runs, but nothing was heard of it for too long.
        case silent = "engine_silent"
        case draining = "engine_draining"
        /// It will not be started again.
        case failed = "engine_failed"
        /// It left the roster.
        case removed = "engine_removed"
        /// Sequences of an engine that was lost went elsewhere, or could not.
        case moved = "sequences_moved"
    }

    /// Grows by one with every event.
    var id: UInt64
    /// Seconds since 1970.
    var time: Int
    /// Seconds since the gateway started.
    var uptime: Double
    var kind: Kind
    var model: String
    var engine: Int
    /// Why, in words; may be empty.
    var reason: String
    var moved = MovedSequences()
}

/// The latest events of a gateway, for people who watch it.
final class GatewayEvents: Sendable {
    private struct State {
        var events: [GatewayEvent] = []
        var nextID: UInt64 = 1
        var roster = Roster()
    }

    /// Older ones are forgotten.
    static let limit = 64
    /// Event loops that lose the same engine within this time, in seconds, tell of one event.
    private static let together = 1.0

    private let state = Mutex(State())
    private let clock: @Sendable () -> NIODeadline
    private let secondsSince1970: @Sendable () -> Int
    private let start: NIODeadline

    init(
        clock: @escaping @Sendable () -> NIODeadline = { .now() },
        secondsSince1970: @escaping @Sendable () -> Int = { 0 }
    ) {
        self.clock = clock
        self.secondsSince1970 = secondsSince1970
        start = clock()
    }

    /// Seconds since the gateway started.
    var uptime: Double { Double((clock() - start).nanoseconds) / 1e9 }

    /// Oldest first.
    var latest: [GatewayEvent] { state.withLock { $0.events } }

    /// Enters what differs from the roster before; one that is not newer is ignored.
    ///
    /// - Parameter model: the name of the model of the engine with an index.
    func update(_ roster: Roster, model: (UInt32) -> String) {
        state.withLock { state in
            guard roster.generation > state.roster.generation || state.roster.generation == 0 else { return }
            for change in Self.changes(from: state.roster, to: roster) {
                add(change.kind, Int(change.entry.index), model(change.entry.index), change.entry.reason, to: &state)
            }
            state.roster = roster
        }
    }

    /// Enters what an event loop saw by itself; several that see the same tell of one event.
    func note(_ kind: GatewayEvent.Kind, _ engine: Int, model: String, reason: String = "") {
        state.withLock { state in
            let now = uptime
            let isKnown = state.events.contains {
                $0.kind == kind && $0.engine == engine && $0.model == model && now - $0.uptime < Self.together
            }
            if !isKnown { add(kind, engine, model, reason, to: &state) }
        }
    }

    /// Enters what became of the sequences of an engine, if it had any.
    func moved(_ moved: MovedSequences, from engine: Int, model: String, reason: String) {
        guard moved != MovedSequences() else { return }
        state.withLock { state in
            let now = uptime
            // Of several event loops with links to one engine.
            if let index = state.events.lastIndex(where: {
                $0.kind == .moved && $0.engine == engine && $0.model == model && now - $0.uptime < Self.together
            }) {
                state.events[index].moved.add(moved)
            } else {
                add(.moved, engine, model, reason, moved, to: &state)
            }
        }
    }

    private func add(
        _ kind: GatewayEvent.Kind, _ engine: Int, _ model: String, _ reason: String,
        _ moved: MovedSequences = MovedSequences(), to state: inout State
    ) {
        if state.events.count == Self.limit { state.events.removeFirst() }
        state.events.append(
            GatewayEvent(
                id: state.nextID, time: secondsSince1970(), uptime: uptime, kind: kind, model: model, engine: engine,
                reason: reason, moved: moved))
        state.nextID += 1
    }

    /// What a roster says anew.
    static func changes(
        from old: Roster, to new: Roster
    ) -> [(kind: GatewayEvent.Kind, entry: RosterEntry)] {
        var changes: [(kind: GatewayEvent.Kind, entry: RosterEntry)] = []
        for entry in old.engines where !new.engines.contains(where: { $0.index == entry.index }) {
            changes.append((.removed, entry))
        }
        for entry in new.engines {
            let before = old.engines.first { $0.index == entry.index }
            let wasAlive = before?.state == .ready || before?.state == .draining
            // It may have died and come back between two rosters.
            let isOther = before.map { $0.pid != entry.pid || $0.restarts != entry.restarts } ?? true
            if wasAlive, isOther || entry.state == .restarting || entry.state == .starting {
                if entry.state != .failed { changes.append((.lost, entry)) }
            }
            guard before?.state != entry.state || (wasAlive && isOther) else { continue }
            switch entry.state {
            case .ready: changes.append((.ready, entry))
            case .draining: changes.append((.draining, entry))
            case .failed: changes.append((.failed, entry))
            case .starting, .restarting: break
            }
        }
        return changes
    }
}
