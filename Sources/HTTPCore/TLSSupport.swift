// Tandem — Apache-2.0

/// Whether this program can speak TLS: its cryptography takes minutes to build, so that a package trait adds it.
public enum TLSSupport {
    /// Whether it can.
    public static var isBuilt: Bool {
        #if TLS
            true
        #else
            false
        #endif
    }

    /// What helps if it cannot.
    public static let remedy =
        "this program was built without TLS; one that speaks it is built by swift build -c release --traits TLS"
}

/// Why certificates or keys cannot be used.
public struct TLSError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The file at fault; empty if none is.
    public var file: String
    /// What is wrong, and what helps.
    public var reason: String

    public init(file: String = "", reason: String) {
        self.file = file
        self.reason = reason
    }

    public var description: String { file.isEmpty ? reason : "\(file): \(reason)" }
}

/// How a client's attempt to agree on TLS ended.
public enum TLSHandshakeOutcome: String, Sendable, CaseIterable {
    case complete
    /// The client spoke plain HTTP.
    case plaintext
    /// It knows no version that is spoken here.
    case version
    /// It does not trust the certificate.
    case distrusted
    /// It left before the end, or was closed for being too slow.
    case incomplete
    /// Anything else.
    case failed
}
