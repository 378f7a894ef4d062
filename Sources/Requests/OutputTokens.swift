// Tandem — Apache-2.0

/// The tokens that one step produced for a sequence: nearly always one, which is kept without an array, so that a step
/// hands its outputs over without an allocation a sequence.
public struct OutputTokens: Sendable, Equatable, RandomAccessCollection, ExpressibleByArrayLiteral {
    private enum Storage: Equatable {
        case none
        case one(TokenID)
        /// At least two: equal contents have equal storage.
        case many([TokenID])
    }

    private var storage = Storage.none

    public init() {}

    public init(_ tokens: some Sequence<TokenID>) {
        for token in tokens { append(token) }
    }

    public init(arrayLiteral tokens: TokenID...) { self.init(tokens) }

    public mutating func append(_ token: TokenID) {
        switch storage {
        case .none: storage = .one(token)
        case .one(let first): storage = .many([first, token])
        case .many(var tokens):
            // Emptied first, so that the array has one owner and is not copied.
            storage = .none
            tokens.append(token)
            storage = .many(tokens)
        }
    }

    public var startIndex: Int { 0 }

    public var endIndex: Int {
        switch storage {
        case .none: 0
        case .one: 1
        case .many(let tokens): tokens.count
        }
    }

    public subscript(position: Int) -> TokenID {
        switch storage {
        case .one(let token) where position == 0: return token
        case .many(let tokens): return tokens[position]
        default: preconditionFailure("token \(position) of \(count)")
        }
    }
}
