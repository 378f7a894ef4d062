// Tandem — Apache-2.0

/// Index of a token in a model's vocabulary; valid ids are `0 ..< vocabularySize`.
public typealias TokenID = Int32

/// A 128-bit digest, used for model and tokenizer fingerprints.
public struct Digest128: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}

extension Digest128: CustomStringConvertible {
    /// 32 lower-case hexadecimal digits.
    public var description: String {
        Self.hexadecimal(high) + Self.hexadecimal(low)
    }

    private static func hexadecimal(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
