// Tandem — Apache-2.0

/// One token to choose, as `sample_rows` reads it: 48 bytes, fields as in `sampling.cuh`.
public struct SampleRow: Sendable, Equatable, BitwiseCopyable {
    /// Key of the random number, with ``choice`` and ``position``.
    public var seed: UInt64
    /// Row of the logits; a negative one is padding and chooses nothing.
    public var row: Int32
    /// Slot whose last token this becomes.
    public var slot: Int32
    /// Index in the sequence of the token that is chosen.
    public var position: Int32
    public var choice: UInt32
    /// Below 1e-5 the largest logit is chosen.
    public var temperature: Float
    /// Likeliest tokens that are kept; 0 keeps all.
    public var topK: Int32
    /// Share of the probability that is kept; 1 keeps all.
    public var topP: Float
    /// Least probability that is kept, relative to the largest.
    public var minP: Float
    /// First word of the row's mask; negative without one.
    public var maskOffset: Int32
    /// See ``isDraft``.
    public var flags: UInt32

    /// The token does not become the slot's last one.
    public static let isDraft: UInt32 = 1

    public init(
        seed: UInt64 = 0, row: Int32, slot: Int32, position: Int32, choice: UInt32 = 0, temperature: Float = 0,
        topK: Int32 = 0, topP: Float = 1, minP: Float = 0, maskOffset: Int32 = -1, flags: UInt32 = 0
    ) {
        self.seed = seed
        self.row = row
        self.slot = slot
        self.position = position
        self.choice = choice
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.maskOffset = maskOffset
        self.flags = flags
    }

    /// A row that chooses nothing.
    public static let padding = SampleRow(row: -1, slot: 0, position: 0)
}

/// A row whose logits are changed before its token is chosen, as the kernels of `logit_adjustment.cuh` read it: 56 bytes.
///
/// Within each of the three lists a token may stand only once.
public struct AdjustRow: Sendable, Equatable, BitwiseCopyable {
    /// Row of the logits; a negative one is padding.
    public var row: Int32
    /// Index of the row's token in what `sample_rows` writes.
    public var sample: Int32
    /// Tokens that are ruled out: a run of ``AdjustmentLists/banned``.
    public var bannedOffset: Int32 = 0
    public var bannedCount: Int32 = 0
    /// A run of ``AdjustmentLists/biases``.
    public var biasOffset: Int32 = 0
    public var biasCount: Int32 = 0
    /// First of the sequence's ``AdjustmentLists/counts``; negative without penalties.
    public var countOffset: Int32 = -1
    /// Where in ``AdjustmentLists/countLengths`` the number of counts is.
    public var countLength: Int32 = 0
    /// Most counts that the sequence has room for.
    public var countCapacity: Int32 = 0
    /// First place in ``AdjustmentLists/saved``: one each for banned tokens, biases and counts.
    public var savedOffset: Int32 = 0
    public var repetitionPenalty: Float = 1
    public var frequencyPenalty: Float = 0
    public var presencePenalty: Float = 0
    private var reserved: Int32 = 0

    public init(row: Int32, sample: Int32) {
        self.row = row
        self.sample = sample
    }

    /// A row that changes nothing.
    public static let padding = AdjustRow(row: -1, sample: 0)
}

/// Added to the logit of a token.
public struct TokenBiasEntry: Sendable, Equatable, BitwiseCopyable {
    public var token: Int32
    public var bias: Float

    public init(token: Int32, bias: Float) {
        self.token = token
        self.bias = bias
    }
}

/// A token of a sequence, and how often it was generated; tokens of the prompt alone have 0.
public struct TokenCountEntry: Sendable, Equatable, BitwiseCopyable {
    public var token: Int32
    public var generated: Int32

    public init(token: Int32, generated: Int32) {
        self.token = token
        self.generated = generated
    }
}
