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
/// The sums are kept exactly: each sequence is entered with its cost, and takes what is left of its cost along when it
/// is removed. So nothing becomes negative, and an empty ledger costs nothing.
public struct InFlightLedger: Sendable {
    private struct Entry: Sendable {
        var prompt: Int
        /// New tokens that it may still generate.
        var allowed: Int
        /// New tokens that were expected when it started, less those that came.
        var expected: Int
        /// New tokens that are still expected of a sequence that outlives all expectations.
        var least: Int
        /// New tokens that came.
        var generated = 0
        var limit: Int

        var new: Int { min(allowed, max(expected, least)) }
    }

    private var entries: [RequestID: Entry] = [:]
    /// Prompt tokens outstanding, over all sequences.
    public private(set) var promptTokens = 0
    /// New tokens outstanding, over all sequences.
    public private(set) var newTokens = 0

    public init() {}

    /// Tokens outstanding, over all sequences.
    public var outstandingTokens: Int { promptTokens + newTokens }

    /// Sequences outstanding.
    public var count: Int { entries.count }

    /// What a sequence still costs; nil if it is not in flight here.
    public func cost(of id: RequestID) -> TokenCost? {
        entries[id].map { TokenCost(prompt: $0.prompt, new: $0.new) }
    }

    /// The sequences outstanding, in no order.
    public var ids: [RequestID] { Array(entries.keys) }

    /// Enters a sequence; one that is entered already gets the new cost in place of its old one.
    ///
    /// - Parameters:
    ///   - cost: its prompt tokens that have to be computed, and the most new tokens that it may generate.
    ///   - expected: new tokens that it will likely generate; `nil` if all that it may. One that generates more is
    ///     expected to go on for half of it, as lengths have long tails.
    public mutating func add(_ id: RequestID, cost: TokenCost, expected: Int? = nil) {
        remove(id)
        // Bounded, so that no sum of costs that somebody made up can overflow.
        let limit = min(cost.new, Self.maximumTokens)
        let likely = min(limit, max(0, expected ?? limit))
        let entry = Entry(
            prompt: min(cost.prompt, Self.maximumTokens), allowed: limit, expected: likely, least: likely / 2,
            limit: limit)
        entries[id] = entry
        promptTokens += entry.prompt
        newTokens += entry.new
    }

    /// Reduces what a sequence costs by what its engine has done. Does nothing for a sequence that is not in flight.
    ///
    /// - Parameters:
    ///   - promptTokens: prompt tokens computed (or found in the prefix cache) since the last call.
    ///   - newTokens: tokens generated since the last call; the first one means that the whole prompt is computed.
    /// - Returns: whether these are its first new tokens.
    @discardableResult
    public mutating func progress(_ id: RequestID, promptTokens computed: Int = 0, newTokens generated: Int = 0) -> Bool
    {
        guard let index = entries.index(forKey: id) else { return false }
        let before = entries.values[index]
        var entry = before
        entry.prompt = generated > 0 ? 0 : entry.prompt - min(max(0, computed), entry.prompt)
        let generated = min(max(0, generated), Self.maximumTokens)
        entry.allowed -= min(generated, entry.allowed)
        entry.expected -= min(generated, entry.expected)
        entry.generated = min(entry.generated + generated, Self.maximumTokens)
        entries.values[index] = entry
        promptTokens -= before.prompt - entry.prompt
        newTokens -= before.new - entry.new
        return before.generated == 0 && entry.generated > 0
    }

    /// Takes a sequence out. Does nothing for one that is not in flight.
    ///
    /// - Returns: how many new tokens it might generate, and how many it did; nil if it was not in flight.
    @discardableResult
    public mutating func remove(_ id: RequestID) -> (limit: Int, generated: Int)? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        promptTokens -= entry.prompt
        newTokens -= entry.new
        return (entry.limit, entry.generated)
    }

    /// 2^40 tokens a part: more than any context, and 2^22 sequences of it fit in an `Int`.
    private static let maximumTokens = 1 << 40
}
