// Tandem — Apache-2.0

/// A request that is answered with an error and whose connection is closed.
struct HTTPRejection: Error, Equatable {
    var status: HTTPStatus
    var reason: String

    static func bad(_ reason: String) -> HTTPRejection { HTTPRejection(status: .badRequest, reason: reason) }
}

/// How a request's body is delimited.
enum BodyFraming: Equatable {
    case none
    case length(Int)
    case chunked
}

/// A request's head, checked.
struct RequestHead {
    var method: HTTPMethod
    var path: String
    var query: String?
    /// False for HTTP/1.0.
    var isHTTP11: Bool
    var headers: HTTPHeaders
    var framing: BodyFraming
    var wantsKeepAlive: Bool
    var expectsContinue: Bool
}

/// Strict reading of request heads (RFC 9112, sections 2 to 6): what two readers could take differently is refused.
enum RequestHeadParser {
    /// Where the head ends, or nil if it has not arrived whole.
    ///
    /// - Parameters:
    ///   - scanned: bytes that an earlier call has seen and need not be looked at again; updated.
    /// - Returns: the number of bytes up to and with the empty line.
    static func end(
        of bytes: Span<UInt8>, scanned: inout Int, limits: HTTPLimits
    ) throws(HTTPRejection) -> Int? {
        var index = scanned
        let count = min(bytes.count, limits.maximumHeadBytes)
        while index < count {
            let byte = bytes[index]
            if byte == 0x0A {
                guard index > 0, bytes[index - 1] == 0x0D else { throw .bad("a line ends without a carriage return") }
                if index >= 3, bytes[index - 2] == 0x0A { return index + 1 }
            } else if index == 0, !ASCII.isTokenCharacter(byte) {
                // Whatever it is, it is no HTTP; a TLS handshake, for instance, need not wait for the timeout.
                throw .bad("the request does not begin with a method")
            }
            index += 1
        }
        scanned = index
        if bytes.count >= limits.maximumHeadBytes {
            throw HTTPRejection(
                status: .headerFieldsTooLarge, reason: "the request's head exceeds \(limits.maximumHeadBytes) bytes")
        }
        return nil
    }

    /// Reads a whole head.
    ///
    /// - Parameter bytes: from the method to the empty line, as delimited by ``end(of:scanned:limits:)``.
    static func parse(_ bytes: Span<UInt8>, limits: HTTPLimits) throws(HTTPRejection) -> RequestHead {
        guard let requestLineEnd = lineEnd(in: bytes, from: 0) else { throw .bad("the request has no request line") }
        let line = try requestLine(bytes.extracting(0..<requestLineEnd), limits: limits)
        var fields: [HTTPHeaders.Field] = []
        var start = requestLineEnd + 2
        while let end = lineEnd(in: bytes, from: start), end > start {
            guard fields.count < limits.maximumHeaderFields else {
                throw HTTPRejection(
                    status: .headerFieldsTooLarge,
                    reason: "the request has more than \(limits.maximumHeaderFields) header fields")
            }
            fields.append(try field(bytes.extracting(start..<end)))
            start = end + 2
        }
        return try head(line, HTTPHeaders(fields: fields))
    }

    /// Reads one field line, without its line end.
    static func field(_ line: Span<UInt8>) throws(HTTPRejection) -> HTTPHeaders.Field {
        var colon = 0
        while colon < line.count, line[colon] != 0x3A {
            guard ASCII.isTokenCharacter(line[colon]) else {
                let isBlank = line[colon] == 0x20 || line[colon] == 0x09
                throw isBlank
                    ? .bad(
                        colon == 0
                            ? "a header field is continued on a second line" : "a header name is followed by a blank"
                    )
                    : .bad("a header name has a character that is not allowed")
            }
            colon += 1
        }
        guard colon > 0, colon < line.count else { throw .bad("a header field has no name or no colon") }
        var start = colon + 1
        var end = line.count
        while start < end, line[start] == 0x20 || line[start] == 0x09 { start += 1 }
        while end > start, line[end - 1] == 0x20 || line[end - 1] == 0x09 { end -= 1 }
        for index in start..<end where !ASCII.isFieldValueCharacter(line[index]) {
            throw .bad("a header value has a control character")
        }
        return HTTPHeaders.Field(name: text(line, 0..<colon), value: text(line, start..<end))
    }

    // MARK: - Request line

    private struct RequestLine {
        var method: HTTPMethod
        var target: String
        var isHTTP11: Bool
    }

    private static func requestLine(
        _ line: Span<UInt8>, limits: HTTPLimits
    ) throws(HTTPRejection) -> RequestLine {
        var methodEnd = 0
        while methodEnd < line.count, ASCII.isTokenCharacter(line[methodEnd]) { methodEnd += 1 }
        guard methodEnd > 0, methodEnd < line.count, line[methodEnd] == 0x20 else {
            throw .bad("the request line has no method")
        }
        let targetStart = methodEnd + 1
        var targetEnd = targetStart
        while targetEnd < line.count, line[targetEnd] != 0x20 {
            guard line[targetEnd] > 0x20, line[targetEnd] < 0x7F, line[targetEnd] != 0x23 else {
                throw .bad("the request target has a character that must be percent-encoded")
            }
            targetEnd += 1
        }
        guard targetEnd - targetStart <= limits.maximumTargetBytes else {
            throw HTTPRejection(
                status: .uriTooLong, reason: "the request target exceeds \(limits.maximumTargetBytes) bytes")
        }
        guard targetEnd > targetStart, targetEnd < line.count else {
            throw .bad("the request line has no target or no version")
        }
        let isHTTP11: Bool
        switch text(line, (targetEnd + 1)..<line.count) {
        case "HTTP/1.1": isHTTP11 = true
        case "HTTP/1.0": isHTTP11 = false
        case let version:
            guard version.hasPrefix("HTTP/"), !version.contains(" ") else {
                throw .bad("the request line does not end with a version")
            }
            throw HTTPRejection(status: .versionNotSupported, reason: "only HTTP/1.1 and HTTP/1.0 are spoken here")
        }
        return RequestLine(
            method: HTTPMethod(rawValue: text(line, 0..<methodEnd)),
            target: text(line, targetStart..<targetEnd),
            isHTTP11: isHTTP11)
    }

    // MARK: - What the fields mean together

    private static func head(_ line: RequestLine, _ headers: HTTPHeaders) throws(HTTPRejection) -> RequestHead {
        let hosts = headers.values(named: "Host")
        guard hosts.count <= 1 else { throw .bad("the request has more than one Host") }
        guard !hosts.isEmpty || !line.isHTTP11 else { throw .bad("the request has no Host") }
        if let host = hosts.first {
            guard host.utf8.allSatisfy(isHostCharacter) else { throw .bad("the Host is not a host and port") }
        }
        let (path, query) = try pathAndQuery(line, host: hosts.first)
        let connection = headers.list(named: "Connection")
        let saysClose = connection.contains { ASCII.equalIgnoringCase($0, "close") }
        let saysKeepAlive = connection.contains { ASCII.equalIgnoringCase($0, "keep-alive") }
        var expectsContinue = false
        let expectations = headers.values(named: "Expect")
        if line.isHTTP11, !expectations.isEmpty {
            guard expectations.count == 1, ASCII.equalIgnoringCase(expectations[0], "100-continue") else {
                throw HTTPRejection(status: .expectationFailed, reason: "the only expectation known is 100-continue")
            }
            expectsContinue = true
        }
        return RequestHead(
            method: line.method,
            path: path,
            query: query,
            isHTTP11: line.isHTTP11,
            headers: headers,
            framing: try framing(line, headers),
            wantsKeepAlive: !saysClose && (line.isHTTP11 || saysKeepAlive),
            expectsContinue: expectsContinue)
    }

    private static func framing(_ line: RequestLine, _ headers: HTTPHeaders) throws(HTTPRejection) -> BodyFraming {
        let codings = headers.values(named: "Transfer-Encoding")
        let lengths = headers.values(named: "Content-Length")
        if !codings.isEmpty {
            guard lengths.isEmpty else { throw .bad("the request has both Content-Length and Transfer-Encoding") }
            guard line.isHTTP11 else { throw .bad("HTTP/1.0 has no Transfer-Encoding") }
            guard codings.count == 1 else { throw .bad("the request has more than one Transfer-Encoding") }
            guard ASCII.equalIgnoringCase(codings[0], "chunked") else {
                throw HTTPRejection(status: .notImplemented, reason: "the only transfer encoding known is chunked")
            }
            return .chunked
        }
        guard let length = lengths.first else { return .none }
        guard lengths.count == 1 else { throw .bad("the request has more than one Content-Length") }
        guard !length.isEmpty, length.utf8.allSatisfy(ASCII.isDigit) else {
            throw .bad("the Content-Length is not a decimal number")
        }
        guard let bytes = Int(length) else {
            throw HTTPRejection(status: .contentTooLarge, reason: "the Content-Length is absurd")
        }
        return bytes == 0 ? .none : .length(bytes)
    }

    private static func pathAndQuery(
        _ line: RequestLine, host: String?
    ) throws(HTTPRejection) -> (path: String, query: String?) {
        var target = Substring(line.target)
        if line.method == .options, target == "*" { return ("*", nil) }
        if target.utf8.first != 0x2F {
            // The absolute form, as sent to a proxy; we are none, so it may only name ourselves.
            let scheme = ["http://", "https://"].first {
                target.utf8.count > $0.utf8.count && ASCII.equalIgnoringCase(target.prefix($0.utf8.count), $0)
            }
            guard let scheme else { throw .bad("the request target is not a path") }
            target = target.dropFirst(scheme.utf8.count)
            let authority = target.prefix { $0 != "/" && $0 != "?" }
            guard let host, ASCII.equalIgnoringCase(authority, host) else {
                throw .bad("the request target names another host than the Host header")
            }
            target = target.dropFirst(authority.count)
            if target.utf8.first != 0x2F { target = "/" + target }
        }
        guard let mark = target.utf8.firstIndex(of: 0x3F) else { return (String(target), nil) }
        return (String(target[..<mark]), String(target[target.utf8.index(after: mark)...]))
    }

    // MARK: - Bytes

    private static func lineEnd(in bytes: Span<UInt8>, from start: Int) -> Int? {
        var index = start
        while index + 1 < bytes.count {
            if bytes[index] == 0x0D, bytes[index + 1] == 0x0A { return index }
            index += 1
        }
        return nil
    }

    private static func isHostCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        // - . _ ~ % ! $ & ' ( ) * + ; = : [ ]
        case 0x2D, 0x2E, 0x5F, 0x7E, 0x25, 0x21, 0x24, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x2B, 0x3B, 0x3D, 0x3A, 0x5B, 0x5D:
            true
        default: false
        }
    }

    private static func text(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
        // Bytes beyond ASCII are only let through in values; broken UTF-8 there becomes U+FFFD.
        bytes.extracting(range).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
    }
}
