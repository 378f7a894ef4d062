// Tandem — Apache-2.0

import Requests
import TestSupport

/// One request of a simulated load.
struct Job {
    var id: RequestID
    var arrival: Double
    /// Blocks of the prompt.
    var blocks: [BlockHash]
    var promptTokens: Int
    /// What it will generate, which nobody knows beforehand.
    var newTokens: Int
    /// What it says that it may generate.
    var limit: Int
    /// Whose turn it is, in a conversation.
    var session: Int?
    /// Turns that will follow.
    var turnsLeft = 0
}

/// A kind of load.
public enum Load: String, CaseIterable, Sendable {
    case uniform
    case skewed
    case hot
    case bursts
    case heavy
    case sessions
    case slow

    /// For people.
    public var title: String {
        switch self {
        case .uniform: "uniform: no two prompts alike"
        case .skewed: "skewed: 64 shared prefixes, by Zipf's law"
        case .hot: "hot: one prefix for all"
        case .bursts: "bursts: 4 to 40 requests with a prefix at once"
        case .heavy: "heavy tails, no limits named"
        case .sessions: "conversations"
        case .slow: "uniform, one engine half as fast"
        }
    }
}

/// Draws the requests of a load.
struct Workload {
    let load: Load
    /// Requests a second.
    let rate: Double
    let blockSize: Int
    private var generator: SeededGenerator
    private var nextID: RequestID = 1
    /// Prefixes of the skewed load: their lengths in blocks, and how often they come, cumulated.
    private var prefixes: [(blocks: Int, share: Double)] = []

    static let prefixCount = 64

    init(_ load: Load, rate: Double, blockSize: Int, seed: UInt64) {
        self.load = load
        self.rate = rate
        self.blockSize = blockSize
        generator = SeededGenerator(seed: seed)
        var total = 0.0
        for rank in 1...Self.prefixCount {
            total += 1 / Double(rank).power(1.1)
            prefixes.append((Int.random(in: 300...1500, using: &generator) / blockSize, total))
        }
        for rank in prefixes.indices { prefixes[rank].share /= total }
    }

    // MARK: - Random numbers

    private mutating func uniform(_ range: ClosedRange<Int>) -> Int { .random(in: range, using: &generator) }

    private mutating func exponential(mean: Double) -> Double {
        -mean * Double.random(in: 0x1p-53..<1, using: &generator).logarithm
    }

    private mutating func logNormal(median: Double, sigma: Double, atMost limit: Int) -> Int {
        // Twelve uniform numbers make a normal one, nearly enough.
        var normal = -6.0
        for _ in 0..<12 { normal += Double.random(in: 0..<1, using: &generator) }
        return max(1, min(limit, Int(median * (sigma * normal).exponential)))
    }

    // MARK: - Requests

    /// All requests that do not answer to another, by time.
    mutating func arrivals(_ count: Int) -> [Job] {
        var jobs: [Job] = []
        var now = 0.0
        while jobs.count < count {
            now += exponential(mean: 1 / rate)
            switch load {
            case .uniform, .slow:
                jobs.append(fresh(now, prompt: uniform(100...700), new: uniform(20...200), limit: 256))
            case .skewed:
                let draw = Double.random(in: 0..<1, using: &generator)
                let rank = prefixes.firstIndex { draw < $0.share } ?? 0
                jobs.append(shared(now, group: rank, blocks: prefixes[rank].blocks))
            case .hot:
                jobs.append(shared(now, group: 0, blocks: 1000 / blockSize))
            case .bursts:
                // Half of the requests come in bursts of 22 on average, all within a tenth of a second.
                if uniform(0...22) == 0 {
                    let group = Int(nextID) + 1000
                    for index in 0..<uniform(4...40) {
                        jobs.append(shared(now + Double(index) * 0.0025, group: group, blocks: 1000 / blockSize))
                    }
                } else {
                    jobs.append(fresh(now, prompt: uniform(100...700), new: uniform(20...200), limit: 256))
                }
            case .heavy:
                let prompt = logNormal(median: 200, sigma: 1.2, atMost: 6000)
                let new = logNormal(median: 80, sigma: 1.2, atMost: 2000)
                jobs.append(fresh(now, prompt: prompt, new: new, limit: 8192 - prompt))
            case .sessions:
                let session = Int(nextID)
                let turns = uniform(2...10)
                jobs.append(turn(now, session: session, before: 0, turnsLeft: turns))
            }
        }
        return jobs.sorted { $0.arrival < $1.arrival }
    }

    /// The next turn of a conversation, after its client has read and thought.
    mutating func followUp(_ job: Job, at now: Double) -> Job? {
        guard let session = job.session, job.turnsLeft > 0 else { return nil }
        return turn(
            now + 1 + exponential(mean: 4), session: session, before: job.promptTokens + job.newTokens,
            turnsLeft: job.turnsLeft - 1)
    }

    private mutating func fresh(_ now: Double, prompt: Int, new: Int, limit: Int) -> Job {
        let id = takeID()
        let blocks = Self.blocks(kind: 1, id, 0..<prompt / blockSize)
        return Job(id: id, arrival: now, blocks: blocks, promptTokens: prompt, newTokens: new, limit: limit)
    }

    private mutating func shared(_ now: Double, group: Int, blocks count: Int) -> Job {
        let id = takeID()
        let prompt = count * blockSize + uniform(20...120)
        let blocks =
            Self.blocks(kind: 2, UInt64(group), 0..<count)
            + Self.blocks(kind: 1, id, count..<prompt / blockSize)
        return Job(
            id: id, arrival: now, blocks: blocks, promptTokens: prompt, newTokens: uniform(20...150), limit: 256)
    }

    /// Everyone shares instructions of 192 tokens; a session's own tokens follow.
    private mutating func turn(_ now: Double, session: Int, before: Int, turnsLeft: Int) -> Job {
        let id = takeID()
        let prompt = max(192, before) + uniform(20...120)
        let common = 192 / blockSize
        let blocks =
            Self.blocks(kind: 3, 0, 0..<common)
            + Self.blocks(kind: 4, UInt64(session), common..<max(common, prompt / blockSize))
        return Job(
            id: id, arrival: now, blocks: blocks, promptTokens: prompt, newTokens: uniform(30...200), limit: 1024,
            session: session, turnsLeft: turnsLeft)
    }

    /// Blocks that a conversation has when an answer is through: those of its next prompt.
    func blocksAtEnd(of job: Job) -> [BlockHash] {
        guard let session = job.session else { return job.blocks }
        let last = (job.promptTokens + job.newTokens) / blockSize
        return job.blocks + Self.blocks(kind: 4, UInt64(session), min(last, job.blocks.count)..<last)
    }

    private mutating func takeID() -> RequestID {
        defer { nextID += 1 }
        return nextID
    }

    private static func blocks(kind: UInt64, _ id: UInt64, _ range: Range<Int>) -> [BlockHash] {
        range.map { index in
            BlockHash(
                Digest128(
                    high: StableHash.mix(kind << 56 ^ id),
                    low: StableHash.mix(StableHash.mix(id) ^ UInt64(index) << 8 ^ kind)))
        }
    }
}
