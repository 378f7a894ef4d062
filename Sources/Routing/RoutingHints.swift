// Tandem — Apache-2.0

public import Requests

/// What speaks for one engine or another beside their load.
public struct RoutingHints: Sendable, Equatable {
    /// Identities of the blocks that the prompt begins with, in order. For our engines these are the engines' own block
    /// hashes.
    public var prefix: [BlockHash]
    /// Tokens in a block of ``prefix``.
    public var blockSize: Int
    /// Requests with the same session go to the same engine while that costs little.
    public var session: UInt64?

    public init(prefix: [BlockHash] = [], blockSize: Int = 0, session: UInt64? = nil) {
        self.prefix = prefix
        self.blockSize = blockSize
        self.session = session
    }
}

/// How an engine dealt with something that it was sent.
public enum EngineOutcome: Sendable, Equatable {
    /// It did what it was asked, or said what is wrong with the request.
    case answered
    /// It has enough to do. That is no fault.
    case busy
    /// It failed, or kept silent for too long.
    case failed
}
