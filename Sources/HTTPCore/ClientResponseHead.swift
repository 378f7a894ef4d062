// Tandem — Apache-2.0

/// How a response's body is delimited.
enum ResponseBody: Equatable {
    case none
    case length(Int)
    case chunked
    case untilClose
}

/// What a response's head says, with what concerns the connection.
struct ReceivedHead {
    var head: HTTPResponseHead
    var body: ResponseBody
    /// Whether the connection may carry another request afterwards.
    var keepsAlive: Bool
}

/// Strict reading of response heads (RFC 9112, sections 4 to 6): what two readers could take differently is refused.
enum ResponseHeadParser {
    /// Where the head ends, or nil if it has not arrived whole.
    ///
    /// - Parameter scanned: bytes that an earlier call has seen and need not be looked at again; updated.
    /// - Returns: the number of bytes up to and with the empty line.
    static func end(
        of bytes: Span<UInt8>, scanned: inout Int, limits: HTTPClientLimits
    ) throws(HTTPClientError) -> Int? {
        var index = scanned
        let count = min(bytes.count, limits.maximumHeadBytes)
        while index < count {
            if bytes[index] == 0x0A {
                guard index > 0, bytes[index - 1] == 0x0D else {
                    throw .malformed("a line of the response's head ends without a carriage return")
                }
                if index >= 3, bytes[index - 2] == 0x0A { return index + 1 }
            } else if index < version.count, bytes[index] != version[index] {
                throw .malformed("the response does not begin with HTTP/1.")
            }
            index += 1
        }
        scanned = index
        guard bytes.count < limits.maximumHeadBytes else {
            throw .malformed("the response's head exceeds \(limits.maximumHeadBytes) bytes")
        }
        return nil
    }

    private static let version = Array("HTTP/1.".utf8)

    /// Reads a whole head.
    ///
    /// - Parameters:
    ///   - bytes: from the status line to the empty line, as delimited by ``end(of:scanned:limits:)``.
    ///   - isHead: whether the request's method was HEAD.
    static func parse(
        _ bytes: Span<UInt8>, isHead: Bool, limits: HTTPClientLimits
    ) throws(HTTPClientError) -> ReceivedHead {
        var start = lineEnd(in: bytes, from: 0)
        let (status, isHTTP11) = try statusLine(bytes.extracting(0..<start))
        start += 2
        var fields: [HTTPHeaders.Field] = []
        while start < bytes.count {
            let end = lineEnd(in: bytes, from: start)
            guard end > start else { break }
            guard fields.count < limits.maximumHeaderFields else {
                throw .malformed("the response has more than \(limits.maximumHeaderFields) header fields")
            }
            do {
                fields.append(try RequestHeadParser.field(bytes.extracting(start..<end)))
            } catch {
                throw .malformed("in the response \(error.reason)")
            }
            start = end + 2
        }
        return try head(status, HTTPHeaders(fields: fields), isHTTP11: isHTTP11, isHead: isHead)
    }

    /// `HTTP/1.1 200 OK`; the reason may be missing.
    private static func statusLine(_ line: Span<UInt8>) throws(HTTPClientError) -> (HTTPStatus, isHTTP11: Bool) {
        guard line.count >= 12, line[7] == 0x30 || line[7] == 0x31, line[8] == 0x20,
            line.count == 12 || line[12] == 0x20
        else { throw .malformed("the response's status line is none") }
        var code = 0
        for index in 9..<12 {
            guard ASCII.isDigit(line[index]) else { throw .malformed("the response's status is no number") }
            code = code * 10 + Int(line[index] - 0x30)
        }
        guard (100...599).contains(code) else { throw .malformed("the response's status is \(code)") }
        for index in 12..<line.count where !ASCII.isFieldValueCharacter(line[index]) {
            throw .malformed("the response's status line has a control character")
        }
        return (HTTPStatus(code: code), line[7] == 0x31)
    }

    private static func head(
        _ status: HTTPStatus, _ headers: HTTPHeaders, isHTTP11: Bool, isHead: Bool
    ) throws(HTTPClientError) -> ReceivedHead {
        let codings = headers.values(named: "Transfer-Encoding")
        let lengths = headers.values(named: "Content-Length")
        var length: Int?
        if let text = lengths.first {
            guard lengths.count == 1 else { throw .malformed("the response has more than one Content-Length") }
            guard !text.isEmpty, text.utf8.allSatisfy(ASCII.isDigit), let bytes = Int(text) else {
                throw .malformed("the response's Content-Length is not a decimal number")
            }
            length = bytes
        }
        if !codings.isEmpty {
            guard lengths.isEmpty else {
                throw .malformed("the response has both Content-Length and Transfer-Encoding")
            }
            guard isHTTP11 else { throw .malformed("the response is HTTP/1.0 and has a Transfer-Encoding") }
            guard codings.count == 1, ASCII.equalIgnoringCase(codings[0], "chunked") else {
                throw .malformed("the response's transfer encoding is not chunked")
            }
        }
        let body: ResponseBody =
            if isHead || status.forbidsBody {
                .none
            } else if !codings.isEmpty {
                .chunked
            } else if let length {
                length == 0 ? .none : .length(length)
            } else {
                .untilClose
            }
        let connection = headers.list(named: "Connection")
        let saysClose = connection.contains { ASCII.equalIgnoringCase($0, "close") }
        let saysKeepAlive = connection.contains { ASCII.equalIgnoringCase($0, "keep-alive") }
        return ReceivedHead(
            head: HTTPResponseHead(status: status, headers: headers, contentLength: length), body: body,
            keepsAlive: !saysClose && (isHTTP11 || saysKeepAlive) && body != .untilClose)
    }

    /// Where the line ends; every line of a delimited head does.
    private static func lineEnd(in bytes: Span<UInt8>, from start: Int) -> Int {
        var index = start
        while index + 1 < bytes.count, bytes[index] != 0x0D || bytes[index + 1] != 0x0A { index += 1 }
        return index
    }
}
