// Tandem — Apache-2.0

public import Requests

/// Turns tokens into text one at a time, never cutting a character in two.
///
/// The concatenation of what `append` and `finish` return is what `Tokenizer.decode` makes of the whole, with the same
/// `startsText`.
public struct IncrementalDetokenizer: Sendable {
    private let tokenizer: Tokenizer
    private let skipSpecialTokens: Bool
    /// The start of a character whose end has not come yet: three bytes at most.
    private var pending: [UInt8] = []
    private let stripsLeadingSpace: Bool
    /// Whether a leading space is still to be left out.
    private var isAtStart: Bool

    /// - Parameter startsText: whether the first token begins a text; the answer to a prompt does not.
    public init(tokenizer: Tokenizer, skipSpecialTokens: Bool, startsText: Bool = false) {
        self.tokenizer = tokenizer
        self.skipSpecialTokens = skipSpecialTokens
        stripsLeadingSpace = startsText && tokenizer.stripsLeadingSpace
        isAtStart = stripsLeadingSpace
    }

    /// The characters that `token` completes; empty if there is none. Broken bytes that no further token can mend
    /// become U+FFFD at once.
    public mutating func append(_ token: TokenID) -> String {
        tokenizer.appendBytes(of: token, skipSpecialTokens: skipSpecialTokens, to: &pending)
        if isAtStart, let first = pending.first {
            if first == SpaceMark.space { pending.removeFirst() }
            isAtStart = false
        }
        let complete = pending.count - Self.incompleteTail(pending)
        let text = String(decoding: pending[..<complete], as: UTF8.self)
        pending.removeFirst(complete)
        return text
    }

    /// What was held back: U+FFFD for a character that never ended. Afterwards the detokenizer is as new.
    public mutating func finish() -> String {
        defer {
            pending.removeAll()
            isAtStart = stripsLeadingSpace
        }
        return String(decoding: pending, as: UTF8.self)
    }

    /// The number of bytes at the end that begin a character and do not finish it.
    ///
    /// A lead byte never continues another character, so cutting before one leaves the decoding of both parts as it was.
    private static func incompleteTail(_ bytes: [UInt8]) -> Int {
        for length in 1...3 where length <= bytes.count {
            let start = bytes.count - length
            let lead = bytes[start]
            if lead & 0xC0 == 0x80 { continue }
            let expected = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1
            guard lead <= 0xF4, length < expected else { return 0 }
            // The second byte tells overlong forms, surrogates and what lies beyond U+10FFFF.
            if length >= 2 {
                let second = bytes[start + 1]
                switch lead {
                case 0xE0 where second < 0xA0, 0xED where second > 0x9F, 0xF0 where second < 0x90,
                    0xF4 where second > 0x8F:
                    return 0
                default: break
                }
            }
            return length
        }
        return 0
    }
}
