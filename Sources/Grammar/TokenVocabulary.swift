// Tandem — Apache-2.0

public import Requests

/// The bytes of all tokens of a model.
public final class TokenVocabulary: Sendable {
    let tokens: [[UInt8]?]

    /// - Parameter bytes: what a token stands for; nil for tokens that are never part of text (control tokens): no mask
    ///   permits them.
    public init(count: Int, bytes: (TokenID) -> [UInt8]?) {
        tokens = (0..<count).map { bytes(TokenID($0)) }
    }

    /// The number of tokens.
    public var count: Int { tokens.count }

    /// The number of 32-bit words of a mask.
    public var maskWords: Int { (count + 31) / 32 }
}
