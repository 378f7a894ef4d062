// Tandem — Apache-2.0

/// A setting that cannot be used, with the place where it was given.
public struct ConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// `--port`, `environment variable TANDEM_PORT`, `tandem.yaml: port`, …
    public var source: String
    /// What is wrong and what would be right.
    public var reason: String

    public init(source: String, reason: String) {
        self.source = source
        self.reason = reason
    }

    public var description: String { "\(source): \(reason)" }
}
