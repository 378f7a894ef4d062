// Tandem — Apache-2.0

import Synchronization

/// What all event loops of a gateway have in hand of a model, together.
///
/// Each loop routes by its own ledger, which is exact; of the others it sees the sums here. Loops enter their changes
/// with one atomic addition a turn or step, and read with one load: nothing is locked but the table of engines, when an
/// engine comes.
final class SharedLoad: Sendable {
    /// Of one engine. It stays when the engine is gone, and serves its successor.
    final class Engine: Sendable {
        let tokens = Atomic<Int>(0)
        let requests = Atomic<Int>(0)
    }

    /// Event loops that take part. One that is alone has nobody to tell.
    let eventLoops = Atomic<Int>(0)
    /// Sequences admitted and not ended.
    let unfinished = Atomic<Int>(0)
    private let engines = Mutex<[UInt64: Engine]>([:])

    /// - Parameter key: what the loops call the engine among themselves.
    func engine(_ key: UInt64) -> Engine {
        engines.withLock { engines in
            if let engine = engines[key] { return engine }
            let engine = Engine()
            engines[key] = engine
            return engine
        }
    }
}

/// What one event loop has entered into a sum that it shares with others.
struct SharedShare {
    /// This loop's part as it was entered last.
    private(set) var own = 0

    /// Enters this loop's part as it is now.
    mutating func enter(_ value: Int, into sum: borrowing Atomic<Int>) {
        guard value != own else { return }
        sum.add(value - own, ordering: .relaxed)
        own = value
    }

    /// The parts of all others.
    func foreign(in sum: borrowing Atomic<Int>) -> Int { sum.load(ordering: .relaxed) - own }
}
