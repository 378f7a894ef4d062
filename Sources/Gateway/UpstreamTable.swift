// Tandem — Apache-2.0

import EngineLink
import HTTPCore

/// Which upstreams there are, from all that name them, and the index of each.
///
/// An upstream keeps its index as long as it is named; a new one gets the lowest that is free, so that what takes the
/// place of another takes its port, too.
struct UpstreamTable: Sendable, Equatable {
    /// What an update changed.
    struct Change: Sendable, Equatable {
        var added: [UpstreamAddress] = []
        var removed: [UpstreamAddress] = []

        var isEmpty: Bool { added.isEmpty && removed.isEmpty }
    }

    private let given: [UpstreamAddress]
    private var listed: [UpstreamAddress]
    /// Addresses as numbers.
    private var answers: [UpstreamName: [String]] = [:]
    /// Never names.
    private(set) var places: [UInt32: UpstreamAddress] = [:]
    /// Grows with every change.
    private(set) var generation: UInt64 = 0

    /// - Parameters:
    ///   - given: what stays.
    ///   - listed: what a file says.
    init(given: [UpstreamAddress], listed: [UpstreamAddress] = []) {
        self.given = given
        self.listed = listed
        settle()
    }

    init(_ sources: UpstreamSources) {
        self.init(given: sources.addresses, listed: sources.file?.content.addresses ?? [])
    }

    /// Names whose addresses have to be found, none twice.
    var names: [UpstreamName] {
        var known: Set<UpstreamName> = []
        return (given + listed).compactMap {
            guard case .name(let name) = $0, known.insert(name).inserted else { return nil }
            return name
        }
    }

    /// Takes what a file says now, in place of what it said before.
    mutating func list(_ addresses: [UpstreamAddress]) -> Change {
        listed = addresses
        let names = Set(names)
        answers = answers.filter { names.contains($0.key) }
        return settle()
    }

    /// Takes the addresses that a name has now. None at all is no answer: what was known stays.
    mutating func answer(_ addresses: [String], for name: UpstreamName) -> Change {
        guard !addresses.isEmpty, names.contains(name) else { return Change() }
        answers[name] = addresses
        return settle()
    }

    /// One more than the highest index.
    var count: Int { places.keys.max().map { Int($0) + 1 } ?? 0 }

    /// Tandem's own engines.
    var roster: Roster {
        let engines = places.sorted { $0.key < $1.key }.compactMap { index, address -> RosterEntry? in
            guard case .engine(let link) = address else { return nil }
            return RosterEntry(index: index, address: "\(link)", state: .ready)
        }
        return Roster(generation: generation, engines: engines)
    }

    /// All others.
    var servers: [ServerPlace] {
        places.sorted { $0.key < $1.key }.compactMap { index, address in
            guard case .server(let endpoint) = address else { return nil }
            return ServerPlace(index: Int(index), endpoint: endpoint)
        }
    }

    @discardableResult
    private mutating func settle() -> Change {
        var wanted: [UpstreamAddress] = []
        var known: Set<UpstreamAddress> = []
        for address in given + listed {
            let found: [UpstreamAddress] =
                if case .name(let name) = address {
                    (answers[name] ?? []).map { name.upstream(at: $0) }
                } else {
                    [address]
                }
            for address in found where known.insert(address).inserted { wanted.append(address) }
        }
        var change = Change()
        for (index, address) in places.sorted(by: { $0.key < $1.key }) where !known.contains(address) {
            places[index] = nil
            change.removed.append(address)
        }
        let present = Set(places.values)
        var free: UInt32 = 0
        for address in wanted where !present.contains(address) {
            while places[free] != nil { free += 1 }
            places[free] = address
            change.added.append(address)
        }
        if !change.isEmpty || generation == 0 { generation += 1 }
        return change
    }
}

/// A server of the OpenAI API and its index.
struct ServerPlace: Sendable, Equatable {
    var index: Int
    var endpoint: HTTPEndpoint
}
