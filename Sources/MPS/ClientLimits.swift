// Tandem — Apache-2.0

/// What one client of MPS may have of the device, by its own environment.
public struct ClientLimits: Sendable, Equatable {
    /// Percent of the multiprocessors, above 0 and at most 100; a limit, no reservation. Null leaves it to the daemon.
    public var threadPercentage: Double?
    /// A hint to the hardware. Null leaves it to the daemon.
    public var priority: ClientPriority?

    public init(threadPercentage: Double? = nil, priority: ClientPriority? = nil) {
        self.threadPercentage = threadPercentage
        self.priority = priority
    }

    /// Limits of each of so many engines. One value holds for all.
    ///
    /// - Parameters:
    ///   - percentages: none, one, or one an engine.
    ///   - priorities: as `percentages`.
    /// - Returns: none if there are no limits.
    public static func each(
        of engines: Int, percentages: [Double], priorities: [ClientPriority]
    ) -> [ClientLimits] {
        guard !percentages.isEmpty || !priorities.isEmpty else { return [] }
        func value<Value>(_ values: [Value], _ index: Int) -> Value? {
            values.count == 1 ? values[0] : values.indices.contains(index) ? values[index] : nil
        }
        return (0..<max(0, engines)).map {
            ClientLimits(threadPercentage: value(percentages, $0), priority: value(priorities, $0))
        }
    }

    /// All limits for people, `engine 0: 50 %, low priority; engine 1: 25 %`; empty without any.
    public static func text(_ limits: [ClientLimits]) -> String {
        let texts = limits.map { limit in
            [
                limit.threadPercentage.map { "\(Percentage.text($0)) % of the multiprocessors" },
                limit.priority.map { $0 == .belowNormal ? "low priority" : "normal priority" },
            ].compactMap(\.self).joined(separator: ", ")
        }
        guard let first = texts.first, texts.contains(where: { !$0.isEmpty }) else { return "" }
        if texts.count > 1, texts.allSatisfy({ $0 == first }) { return "each engine \(first)" }
        return texts.enumerated().filter { !$0.element.isEmpty }.map { "engine \($0.offset) \($0.element)" }
            .joined(separator: "; ")
    }
}

extension ClientEnvironment {
    /// With the limits of one engine in the place of its own.
    public func limited(to limits: ClientLimits?) -> ClientEnvironment {
        guard let limits else { return self }
        var limited = self
        limited.threadPercentage = limits.threadPercentage ?? threadPercentage
        limited.priority = limits.priority ?? priority
        return limited
    }
}
