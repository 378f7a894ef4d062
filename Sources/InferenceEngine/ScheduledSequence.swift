// Tandem — Apache-2.0

import Grammar
import Requests

/// One sequence while the scheduler knows it. There are no phases: a sequence has tokens that are known, tokens whose
/// keys and values are computed, and work is the difference.
struct ScheduledSequence: Sendable {
    let id: RequestID
    let sampling: SamplingParameters
    let stopTokens: [TokenID]
    let minimumNewTokens: Int
    let logitBias: [TokenBias]
    let pooling: Pooling?
    let labelTokens: [TokenID]
    /// Whether nothing is generated: see `Scheduler+Scoring`.
    let isPrefillOnly: Bool
    let logProbabilities: Int?
    let promptLogProbabilities: Int?
    let priority: Int32
    let cacheSalt: String
    let promptCount: Int
    /// Number of tokens with which the sequence ends for its length.
    let lengthLimit: Int
    /// Positions `0 ..< computeLimit` have to be computed; the last token of a generation is not among them.
    let computeLimit: Int
    /// Order of arrival; no two sequences have the same. ``finished`` when the sequence is over.
    private(set) var arrival: UInt64

    /// Prompt and generated tokens that are known.
    var tokens: [TokenID]
    /// Where the generated tokens stand in the sequence's grammar, if it has one.
    var matcher: GrammarMatcher?
    /// Its grammar is too ambiguous to be followed further.
    var isTooAmbiguous = false
    /// Tokens after ``tokens`` that submitted steps sample.
    var pending = 0
    /// Step that samples the last pending token.
    var lastSampledStep: UInt64 = 0
    /// Positions whose keys and values are in the cache or will be, once all submitted steps ran.
    var computed = 0
    /// Rows in steps whose results were not taken.
    var rowsInFlight = 0
    /// Tokens that may still be sampled before the sequence pauses; 0 is paused, `UInt32.max` is no limit.
    var credits = UInt32.max

    var slot: SlotIndex?
    /// Whether a plan has told the executor of the slot.
    var slotAnnounced = false
    /// One a KV group; empty while there is no slot.
    var tables: [BlockTable]
    /// The last step for which the sequence got a row, or lost it again to others.
    var decidedStep: UInt64 = 0
    /// Hashes of the leading full blocks of known tokens.
    var hashes: [BlockHash] = []
    /// Leading blocks that are registered in the prefix cache, while there is a slot.
    var registeredBlocks = 0

    /// Guesses at what comes next; see `Scheduler+Drafts`.
    var drafts = DraftState()
    /// A row with a draft is in flight.
    var isDrafting = false
    /// How many of the leading full blocks may enter the prefix cache.
    var registrationLimit = Int.max
    /// Full blocks that the sequence is about to compute and that others may wait for; see `Scheduler+Sharing`.
    var claimed = 0..<0
    /// The block for which the sequence waits although it could run.
    var awaited: AwaitedBlock?
    /// The whole of a prompt that is only scored was planned, and its slot and blocks were given back; only the result
    /// is missing.
    var isHandedOver = false

    /// Prompt tokens from the prefix cache when the sequence first ran; `nil` before.
    var cachedPromptTokens: Int?
    /// When that was, in nanoseconds of the scheduler's clock; `nil` without one.
    var firstScheduled: UInt64?
    /// Whether an output was made, which carried ``cachedPromptTokens``.
    var hasReported = false
    /// Position of the next prompt token whose log-probabilities are to be reported.
    var promptReported: Int

    init(_ request: EngineRequest, lengthLimit: Int, arrival: UInt64, tables: [BlockTable]) {
        id = request.id
        sampling = request.sampling
        stopTokens = request.stopTokens
        minimumNewTokens = request.minimumNewTokens
        logitBias = request.logitBias
        pooling = request.pooling
        labelTokens = request.labelTokens
        isPrefillOnly = request.isPrefillOnly
        logProbabilities = request.logProbabilities
        promptLogProbabilities = request.promptLogProbabilities
        priority = request.priority
        cacheSalt = request.cacheSalt
        promptCount = request.promptCount
        self.lengthLimit = lengthLimit
        computeLimit = request.maximumNewTokens == 0 ? request.promptCount : lengthLimit - 1
        self.arrival = arrival
        tokens = request.tokens
        self.tables = tables
        // Before the first token was generated all of the prompt was reported.
        promptReported = request.resumeOffset > 0 ? request.promptCount : 1
    }

    private static let finished = UInt64.max

    /// Gives the memory of a finished sequence back; what steps in flight still say of it no longer matches.
    mutating func forget() {
        arrival = Self.finished
        tokens = []
        matcher = nil
        isTooAmbiguous = false
        hashes = []
        tables = []
    }

    /// Takes the memory for all that the sequence can become, so that no later step allocates.
    mutating func reserveCapacity(blockSize: Int) {
        tokens.reserveCapacity(lengthLimit)
        let blocks = (lengthLimit + blockSize - 1) / blockSize
        hashes.reserveCapacity(blocks)
        for group in tables.indices { tables[group].reserveCapacity(blocks) }
    }

    /// Tokens that exist when all submitted steps ran.
    var total: Int { tokens.count + pending }

    /// Tokens that could be computed now.
    var work: Int { max(0, min(total, computeLimit) - computed) }

    var isPaused: Bool { credits == 0 }

    /// Whether it holds a slot and may be given work, so that what it claimed will be computed.
    var isActive: Bool { slot != nil && !isPaused }

    /// Whether the prompt's last row reports a vector or labels.
    var scoresPrompt: Bool { pooling != nil || !labelTokens.isEmpty }

    /// Whether the prompt's rows need the tokens before them to be computed too, so that none may come from the prefix
    /// cache.
    var needsWholePrompt: Bool { needsPromptRows || pooling == .mean }

    /// What the executor has to know of the choice of tokens beside ``sampling``.
    var adjustments: LogitAdjustments? {
        let bans = minimumNewTokens > 0 && !stopTokens.isEmpty
        guard bans || sampling.isPenalised || !logitBias.isEmpty else { return nil }
        return LogitAdjustments(
            promptCount: promptCount,
            minimumNewTokens: bans ? minimumNewTokens : 0,
            stopTokens: bans ? stopTokens : [],
            biases: logitBias,
            // A copy of its own: sharing the buffer would copy it when the next token is appended.
            history: sampling.isPenalised ? tokens.map { $0 } : []
        )
    }

    /// Whether a row that ends before position `end` samples the token there.
    func samples(rowEnd end: Int) -> Bool { end == total && total < lengthLimit }

    /// Whether a row that ends before position `end` has prompt log-probabilities to report.
    func reportsPrompt(rowEnd end: Int) -> Bool {
        needsPromptRows && min(end, promptCount - 1) >= promptReported
    }

    /// Why the sequence ends with its last known token; `nil` if it goes on.
    var finishReason: FinishReason? {
        if let last = tokens.last, tokens.count > promptCount, stopTokens.contains(last) { return .stop }
        if let matcher, matcher.isExhausted { return .complete }
        return tokens.count >= lengthLimit ? .length : nil
    }

    /// Whether one of ``stopTokens`` may be the next token.
    var mayStop: Bool { tokens.count - promptCount >= minimumNewTokens && matcher?.isAccepting != false }

    /// Extends ``hashes`` to all full blocks of known tokens.
    mutating func extendHashes(blockSize: Int, root: @autoclosure () -> BlockHash) {
        let full = tokens.count / blockSize
        guard hashes.count < full else { return }
        var last = hashes.last ?? root()
        for block in hashes.count..<full {
            last = last.next(tokens: tokens[block * blockSize..<(block + 1) * blockSize])
            hashes.append(last)
        }
    }

    /// Whether the prompt's log-probabilities are still to be computed, for which its tokens have to be.
    var needsPromptRows: Bool { promptLogProbabilities != nil && promptReported < promptCount }

    /// Whether `self` runs before `other`.
    func precedes(_ other: ScheduledSequence) -> Bool {
        priority != other.priority ? priority < other.priority : arrival < other.arrival
    }
}
