// Tandem — Apache-2.0

import EngineLink
import Requests

/// Which unfinished sequences belong to which connection. A connection numbers its requests as it likes; inside the
/// engine every sequence has a number of its own, never used again.
struct RequestTable {
    /// Where a sequence's outputs go.
    struct Route: Equatable {
        var connection: LinkConnectionID
        var request: RequestID
    }

    private var routes: [RequestID: Route] = [:]
    private var sequences: [LinkConnectionID: [RequestID: RequestID]] = [:]
    private var next: RequestID = 1

    var isEmpty: Bool { routes.isEmpty }

    /// Gives a request its number in the engine.
    ///
    /// - Returns: `nil` if the connection uses this id already for a sequence that has not ended.
    mutating func add(_ request: RequestID, of connection: LinkConnectionID) -> RequestID? {
        guard sequences[connection]?[request] == nil else { return nil }
        let sequence = next
        next &+= 1
        sequences[connection, default: [:]][request] = sequence
        routes[sequence] = Route(connection: connection, request: request)
        return sequence
    }

    /// The number in the engine of a sequence that has not ended.
    func sequence(of request: RequestID, of connection: LinkConnectionID) -> RequestID? {
        sequences[connection]?[request]
    }

    /// Where an output of a sequence goes, or `nil` if nobody waits for it any more.
    mutating func route(_ sequence: RequestID, isLast: Bool) -> Route? {
        guard let route = routes[sequence] else { return nil }
        if isLast {
            routes[sequence] = nil
            sequences[route.connection]?[route.request] = nil
        }
        return route
    }

    /// Forgets a connection.
    ///
    /// - Returns: its unfinished sequences, in order of their arrival.
    mutating func remove(_ connection: LinkConnectionID) -> [RequestID] {
        let lost = (sequences.removeValue(forKey: connection) ?? [:]).values.sorted()
        for sequence in lost { routes[sequence] = nil }
        return lost
    }
}
