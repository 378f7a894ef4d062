// Tandem — Apache-2.0

import Requests

/// What became of the sequences of an engine that was lost.
struct MovedSequences: Equatable, Sendable {
    /// They had sent tokens and go on elsewhere.
    var continued = 0
    /// They had sent nothing and start again elsewhere.
    var retried = 0
    /// They had sent tokens and cannot go on.
    var refused = 0

    mutating func add(_ other: MovedSequences) {
        continued += other.continued
        retried += other.retried
        refused += other.refused
    }
}

/// Why a sequence had to go on elsewhere.
enum MigrationCause: String, CaseIterable {
    /// The engine or its link ended.
    case lost
    /// The engine gave the sequence up.
    case failed
    /// The engine had no room left.
    case overloaded
    case draining

    init(_ kind: RequestFailure.Kind) {
        switch kind {
        case .overloaded: self = .overloaded
        case .draining: self = .draining
        case .engine, .doesNotFit, .invalid: self = .failed
        }
    }
}
