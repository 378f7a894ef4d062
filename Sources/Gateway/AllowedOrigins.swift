// Tandem — Apache-2.0

import HTTPCore

/// Web pages that may call the gateway from a browser: cross-origin resource sharing, as the Fetch standard has it.
public struct AllowedOrigins: Sendable, Equatable {
    /// `*`, or origins such as `https://chat.example.org`.
    private var origins: Set<String>

    /// - Parameter origins: without any, browsers let pages of other origins read nothing.
    public init(_ origins: [String] = []) {
        self.origins = Set(origins.map { $0.lowercased() })
    }

    private var allowsAll: Bool { origins.contains("*") }

    /// Adds to the headers of an answer what lets the page that asks read it.
    func allow(_ request: HTTPRequest, in headers: inout HTTPHeaders) {
        guard !origins.isEmpty else { return }
        // Caches must not hand one page's answer to another.
        if !allowsAll { headers.add("Vary", "Origin") }
        guard let origin = request.headers["Origin"], allowsAll || origins.contains(origin.lowercased()) else { return }
        headers.add(Self.allowOrigin, allowsAll ? "*" : origin)
        headers.add("Access-Control-Expose-Headers", "X-Request-Id, Retry-After")
    }

    /// What a browser is told that asks first whether a page may send a request; `nil` for any other request.
    ///
    /// - Parameter headers: of every answer, with those of ``allow(_:in:)``.
    func preflight(_ request: HTTPRequest, _ headers: HTTPHeaders) -> HTTPHeaders? {
        guard request.method == .options, request.headers["Access-Control-Request-Method"] != nil,
            headers[Self.allowOrigin] != nil
        else { return nil }
        var headers = headers
        headers.add("Access-Control-Allow-Methods", "GET, HEAD, POST")
        if let wanted = request.headers["Access-Control-Request-Headers"] {
            headers.add("Access-Control-Allow-Headers", wanted)
        }
        headers.add("Access-Control-Max-Age", "600")
        return headers
    }

    static let allowOrigin = "Access-Control-Allow-Origin"
    /// What an upstream says of all this does not concern pages that are allowed here.
    static let fields = [
        "access-control-allow-origin", "access-control-expose-headers", "access-control-allow-credentials",
    ]
}
