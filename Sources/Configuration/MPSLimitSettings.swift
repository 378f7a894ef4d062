// Tandem — Apache-2.0

/// Scheduling of an MPS client in comparison with the others.
public enum MPSPrioritySetting: String, Sendable, CaseIterable {
    case normal, low
}

/// What engines may have of a GPU that they share by MPS.
public struct MPSLimitSettings: Sendable, Equatable {
    /// Percent of the multiprocessors, 1 to 100: none, one for all engine processes, or one for each.
    public var threadPercentages: [Double] = []
    /// None, one for all engine processes, or one for each.
    public var priorities: [MPSPrioritySetting] = []
    /// Where the first of them was given, for errors.
    public var source = ""

    /// No limits.
    public init() {}

    public var isEmpty: Bool { threadPercentages.isEmpty && priorities.isEmpty }

    static let percentageKey = "mps-thread-percentage"
    static let priorityKey = "mps-client-priority"

    init(_ layers: SettingLayers, processes: Int) throws(ConfigurationError) {
        if let given = layers.given(Self.priorityKey) {
            source = given.source
            for text in try Self.values(given, processes: processes) {
                guard let priority = MPSPrioritySetting(rawValue: text.lowercased()) else {
                    throw given.error("\"\(text)\" is none of normal, low")
                }
                priorities.append(priority)
            }
        }
        guard let given = layers.given(Self.percentageKey) else { return }
        source = given.source
        for text in try Self.values(given, processes: processes) {
            guard let percentage = Double(text), percentage >= 1, percentage <= 100 else {
                throw given.error("\"\(text)\" is no percentage from 1 to 100, such as 50 or 33.3")
            }
            threadPercentages.append(percentage)
        }
    }

    /// One text, or one an engine process.
    private static func values(_ given: GivenSetting, processes: Int) throws(ConfigurationError) -> [String] {
        let values = given.text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            String(part.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
        guard values.count == 1 || values.count == processes else {
            throw given.error(
                "there are \(values.count) values and \(processes) engine process\(processes == 1 ? "" : "es"): give one "
                    + "for all, or one for each")
        }
        return values
    }

    /// An error at the place where the limits were given.
    public func error(_ reason: String) -> ConfigurationError { ConfigurationError(source: source, reason: reason) }
}
