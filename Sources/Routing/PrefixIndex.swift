// Tandem — Apache-2.0

import Requests

/// How a router learns what an engine has in its prefix cache.
public enum PrefixKnowledge: Sendable, Equatable {
    /// The engine tells which blocks it stores and evicts.
    case told
    /// It tells nothing: it is taken to hold the blocks that it was sent last.
    case guessed
}

/// Bounds of what a router remembers of prefixes.
public struct PrefixLimits: Sendable, Equatable {
    /// Bytes for the blocks of all engines together (of each 64 engines, if there are more); a block takes 32 to 64
    /// however many engines hold it. Blocks beyond it are as unknown.
    public var bytes = 16 << 20
    /// Blocks that an engine of ``PrefixKnowledge/guessed`` is taken to hold at most; each takes up to 72 bytes more.
    public var guessedBlocks = 32 << 10
    /// Blocks of the sequences in flight on one engine, at most; each takes up to 64 bytes more, and 16 for every
    /// sequence that begins with it.
    public var expectedBlocks = 64 << 10

    public init() {}
}

private func exchange<Value>(_ place: inout Value, with value: Value) -> Value {
    let old = place
    place = value
    return old
}

/// Which engine holds which blocks of prompts.
///
/// Blocks are opaque: a hash stands for a block and all before it. Of an engine that tells, a block is known from when
/// it was reported stored until it is reported evicted; and it is expected while a sequence that begins with it is in
/// flight there, so that a burst stays together before the engine has said anything. An expectation outlives its
/// sequence by two reports: what the engine has not stored by then it will not store.
struct PrefixIndex: Sendable {
    /// The engines that hold a block, of 64: one bit each.
    private struct Holders: Vacatable, Sendable {
        var known: UInt64
        var expected: UInt64
        static let vacant = Holders(known: 0, expected: 0)
        var isVacant: Bool { known | expected == 0 }
    }

    /// How many sequences in flight begin with a block. Of those that were known when a sequence was sent only the last
    /// counts it: what is before needs no keeping.
    private struct Expectation: Vacatable, Sendable {
        var sequences: UInt32
        static let vacant = Expectation(sequences: 0)
        var isVacant: Bool { sequences == 0 }
    }

    private struct Engine: Sendable {
        var knowledge: PrefixKnowledge
        var recent: RecentBlocks
        var expectations: BlockHashTable<Expectation>
        /// Sequences in flight, with what they begin with.
        var inFlight: [RequestID: ArraySlice<BlockHash>] = [:]
        /// Those that ended, in order, with the report after which they are forgotten.
        var settled: [(report: UInt64, blocks: ArraySlice<BlockHash>)] = []
        /// Entries of ``settled`` that are done with.
        var forgotten = 0
        /// Blocks in ``inFlight`` and ``settled``.
        var held = 0
        /// How often the engine has reported.
        var reports: UInt64 = 0

        /// Takes out what is expected no longer.
        mutating func nextForgotten() -> ArraySlice<BlockHash>? {
            guard forgotten < settled.count, settled[forgotten].report <= reports else {
                // Moved to the front only when that is little for each that went.
                if forgotten * 2 >= settled.count {
                    settled.removeFirst(forgotten)
                    forgotten = 0
                }
                return nil
            }
            forgotten += 1
            return exchange(&settled[forgotten - 1].blocks, with: [])
        }
    }

    private let limits: PrefixLimits
    /// One for each 64 engines.
    private var pages: [BlockHashTable<Holders>] = []
    /// By slot; `nil` where there is none.
    private var engines: [Engine?] = []

    init(limits: PrefixLimits = PrefixLimits()) {
        self.limits = limits
    }

    /// Blocks of which something is known or expected; one counts once for each 64 engines.
    var count: Int { pages.reduce(0) { $0 + $1.count } }
    var byteCount: Int { pages.reduce(0) { $0 + $1.byteCount } }
    /// Slots that were given out so far, also those of engines that are gone.
    var slots: Int { engines.count }

    // MARK: - Engines

    /// - Returns: the slot by which the engine goes from now on; slots of engines that are gone are used again.
    mutating func addEngine(_ knowledge: PrefixKnowledge) -> Int {
        let engine = Engine(
            knowledge: knowledge,
            recent: RecentBlocks(capacity: limits.guessedBlocks),
            expectations: BlockHashTable(maximumBytes: limits.expectedBlocks * 48))
        if let slot = engines.firstIndex(where: { $0 == nil }) {
            engines[slot] = engine
            return slot
        }
        engines.append(engine)
        if engines.count > pages.count * 64 { pages.append(BlockHashTable(maximumBytes: limits.bytes)) }
        return engines.count - 1
    }

    /// An engine is gone with all that it held.
    mutating func removeEngine(_ slot: Int) {
        let bit = Self.bit(slot)
        pages[slot / 64].updateAll { holders in
            holders.known &= ~bit
            holders.expected &= ~bit
        }
        engines[slot] = nil
    }

    private static func bit(_ slot: Int) -> UInt64 { 1 << UInt64(slot % 64) }

    // MARK: - What engines hold

    /// An engine of ``PrefixKnowledge/told`` says what it has stored and evicted since it last did; the first time, all
    /// that it holds.
    mutating func reported(stored: some Sequence<BlockHash>, evicted: some Sequence<BlockHash>, by slot: Int) {
        let (page, bit) = (slot / 64, Self.bit(slot))
        for block in evicted { pages[page].update(block) { $0.known &= ~bit } }
        for block in stored { pages[page].update(block) { $0.known |= bit } }
        engines[slot]?.reports += 1
        while let blocks = engines[slot]?.nextForgotten() { release(blocks, slot) }
    }

    /// A sequence that begins with these blocks was sent to an engine.
    mutating func sent(_ id: RequestID, prefix: [BlockHash], to slot: Int) {
        guard !prefix.isEmpty, let knowledge = engines[slot]?.knowledge else { return }
        let (page, bit) = (slot / 64, Self.bit(slot))
        let known = prefix.prefix { pages[page][$0].known & bit != 0 }.count
        switch knowledge {
        case .guessed:
            // From behind, so that of a prefix its end is forgotten first.
            for block in prefix.prefix(limits.guessedBlocks).reversed() {
                if let evicted = engines[slot]?.recent.use(block) {
                    pages[page].update(evicted) { $0.known &= ~bit }
                }
                pages[page].update(block) { $0.known |= bit }
            }
        case .told: break
        }
        let blocks = prefix[max(0, known - 1)...]
        guard let held = engines[slot]?.held, held + blocks.count <= limits.expectedBlocks else { return }
        engines[slot]?.held += blocks.count
        if let earlier = engines[slot]?.inFlight.updateValue(blocks, forKey: id) { release(earlier, slot) }
        for block in blocks {
            engines[slot]?.expectations.update(block) { $0.sequences += 1 }
            if knowledge == .told { pages[page].update(block) { $0.expected |= bit } }
        }
    }

    /// A sequence has ended: what is left of it, its engine's next reports say.
    mutating func ended(_ id: RequestID, on slot: Int) {
        guard let blocks = engines[slot]?.inFlight.removeValue(forKey: id),
            let reports = engines[slot]?.reports
        else { return }
        if engines[slot]?.knowledge == .told {
            // The next one may be under way already.
            engines[slot]?.settled.append((reports + 2, blocks))
        } else {
            release(blocks, slot)
        }
    }

    private mutating func release(_ blocks: ArraySlice<BlockHash>, _ slot: Int) {
        let (page, bit) = (slot / 64, Self.bit(slot))
        engines[slot]?.held -= blocks.count
        for block in blocks {
            var isLast = true
            engines[slot]?.expectations.update(block) { expectation in
                expectation.sequences = max(1, expectation.sequences) - 1
                isLast = expectation.sequences == 0
            }
            if isLast { pages[page].update(block) { $0.expected &= ~bit } }
        }
    }

    // MARK: - Looking up

    /// How many leading blocks of a prefix each engine holds, or will when it is asked.
    ///
    /// - Parameter lengths: by slot; as long as ``slots``.
    func match(_ prefix: [BlockHash], into lengths: inout [Int]) {
        for slot in lengths.indices { lengths[slot] = 0 }
        for page in pages.indices {
            let inPage = min(64, engines.count - page * 64)
            var holding = inPage == 64 ? UInt64.max : (1 << UInt64(inPage)) - 1
            var matched = 0
            while holding != 0, matched < prefix.count {
                let holders = pages[page][prefix[matched]]
                let still = holding & (holders.known | holders.expected)
                Self.set(&lengths, page: page, bits: holding & ~still, to: matched)
                holding = still
                matched += 1
            }
            Self.set(&lengths, page: page, bits: holding, to: matched)
        }
    }

    /// How many sequences in flight on an engine, or ended there just now, have a block as the last one that was known
    /// when they were sent, or behind that.
    func sequences(on slot: Int, beginningWith block: BlockHash) -> Int {
        guard let expectation = engines[slot]?.expectations[block] else { return 0 }
        return Int(expectation.sequences)
    }

    private static func set(_ lengths: inout [Int], page: Int, bits: UInt64, to length: Int) {
        var bits = bits
        while bits != 0 {
            lengths[page * 64 + bits.trailingZeroBitCount] = length
            bits &= bits - 1
        }
    }
}
