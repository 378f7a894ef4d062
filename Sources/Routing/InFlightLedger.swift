// Tandem — Apache-2.0

public import Requests

/// Identity of an engine within a router; given out by whoever knows the engines and never used twice, so that a late
/// message about an engine that is gone cannot touch its successor.
public struct EngineID: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }

    public static func < (first: EngineID, second: EngineID) -> Bool { first.rawValue < second.rawValue }

    public var description: String { "engine \(rawValue)" }
}

/// What one sequence still costs its engine, in tokens.
public struct TokenCost: Sendable, Equatable {
    /// Prompt tokens that are not computed yet.
    public var prompt: Int
    /// New tokens that are still expected.
    public var new: Int

    /// Negative numbers count as 0.
    public init(prompt: Int, new: Int) {
        self.prompt = max(0, prompt)
        self.new = max(0, new)
    }

    /// Both together; does not overflow.
    public var total: Int { prompt.addingReportingOverflow(new).overflow ? .max : prompt + new }
}

/// What is in flight on one engine: every sequence sent to it and not ended, and the tokens it still costs.
///
/// The sums are kept exactly: each sequence is entered with its cost, is only ever reduced, and takes what is left of
/// its cost along when it is removed. So nothing becomes negative, and an empty ledger costs nothing.
public struct InFlightLedger: Sendable {
    private var costs: [RequestID: TokenCost] = [:]
    /// Tokens outstanding, over all sequences.
    public private(set) var outstandingTokens = 0

    public init() {}

    /// Sequences outstanding.
    public var count: Int { costs.count }

    /// What a sequence still costs; nil if it is not in flight here.
    public func cost(of id: RequestID) -> TokenCost? { costs[id] }

    /// The sequences outstanding, in no order.
    public var ids: [RequestID] { Array(costs.keys) }

    /// Enters a sequence; one that is entered already gets the new cost in place of its old one.
    public mutating func add(_ id: RequestID, cost: TokenCost) {
        remove(id)
        // Bounded, so that no sum of costs that somebody made up can overflow.
        let bounded = TokenCost(prompt: min(cost.prompt, Self.maximumTokens), new: min(cost.new, Self.maximumTokens))
        costs[id] = bounded
        outstandingTokens += bounded.total
    }

    /// Reduces what a sequence costs by what its engine has done. Does nothing for a sequence that is not in flight.
    ///
    /// - Parameters:
    ///   - promptTokens: prompt tokens computed (or found in the prefix cache) since the last call.
    ///   - newTokens: tokens generated since the last call; the first one means that the whole prompt is computed.
    public mutating func progress(_ id: RequestID, promptTokens: Int = 0, newTokens: Int = 0) {
        guard var cost = costs[id] else { return }
        let before = cost.total
        cost.prompt = newTokens > 0 ? 0 : cost.prompt - min(max(0, promptTokens), cost.prompt)
        cost.new -= min(max(0, newTokens), cost.new)
        costs[id] = cost
        outstandingTokens -= before - cost.total
    }

    /// Takes a sequence out. Does nothing for one that is not in flight.
    public mutating func remove(_ id: RequestID) {
        guard let cost = costs.removeValue(forKey: id) else { return }
        outstandingTokens -= cost.total
    }

    /// 2^40 tokens a part: more than any context, and 2^22 sequences of it fit in an `Int`.
    private static let maximumTokens = 1 << 40
}
