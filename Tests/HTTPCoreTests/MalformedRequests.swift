// Tandem — Apache-2.0

import Testing

/// A request that must be refused, with the status it is refused with.
struct MalformedRequest: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let status: Int

    var testDescription: String { name }

    init(_ name: String, _ text: String, _ status: Int = 400) {
        self.name = name
        bytes = Array(text.utf8)
        self.status = status
    }

    private static func fields(_ name: String, _ fields: String, _ status: Int = 400) -> MalformedRequest {
        MalformedRequest(name, "POST / HTTP/1.1\r\nHost: x\r\n\(fields)\r\n\r\nhello", status)
    }

    private static func chunks(_ name: String, _ body: String, _ status: Int = 400) -> MalformedRequest {
        MalformedRequest(
            name, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(body)", status)
    }

    static let all: [MalformedRequest] = framing + chunked + fields + requestLines

    private static let framing = [
        fields("length and coding", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        fields("coding and length", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        fields("two lengths", "Content-Length: 5\r\nContent-Length: 6"),
        fields("length repeated", "Content-Length: 5\r\ncontent-length: 5"),
        fields("list of lengths", "Content-Length: 5, 5"),
        fields("length with plus", "Content-Length: +5"),
        fields("length with minus", "Content-Length: -5"),
        fields("hexadecimal length", "Content-Length: 0x5"),
        fields("length with blank", "Content-Length: 5 5"),
        fields("empty length", "Content-Length: "),
        fields("length in other digits", "Content-Length: \u{0665}"),
        fields("length beyond Int", "Content-Length: 99999999999999999999999", 413),
        fields("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        fields("list of codings", "Transfer-Encoding: gzip, chunked", 501),
        fields("unknown coding", "Transfer-Encoding: xchunked", 501),
        fields("coding with tab", "Transfer-Encoding:\u{0B}chunked"),
        fields("unknown expectation", "Expect: 200-ok", 417),
        MalformedRequest("coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]

    private static let chunked = [
        chunks("no chunk size", "\r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size with sign", "+5\r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size with leading blank", " 5\r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size with trailing blank", "5 \r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size no number", "g\r\nhello\r\n0\r\n\r\n"),
        chunks("chunk size overflows", "FFFFFFFFFFFFFFFFF\r\nhello", 413),
        chunks("chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"),
        chunks("bare line feed after size", "5\nhello\r\n0\r\n\r\n"),
        chunks("bare line feed after data", "5\r\nhello\n0\r\n\r\n"),
        chunks("carriage return in extension", "5;a=\rb\r\nhello\r\n0\r\n\r\n"),
        chunks("bare line feed in extension", "5;a\nhello\r\n0\r\n\r\n"),
        chunks("endless extension", "5;" + String(repeating: "a", count: 2000)),
        chunks(
            "many long extensions",
            String(repeating: "1;" + String(repeating: "a", count: 1000) + "\r\nx\r\n", count: 40), 431),
        chunks("broken trailer", "0\r\nno colon\r\n\r\n"),
        chunks("folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
    ]

    private static let fields = [
        fields("blank before colon", "A : b"),
        fields("tab before colon", "A\t: b"),
        fields("no colon", "A"),
        fields("no name", ": b"),
        fields("folded", "A: b\r\n c"),
        fields("folded with tab", "A: b\r\n\tc"),
        fields("NUL in value", "A: b\u{0}c"),
        fields("carriage return in value", "A: b\rc"),
        fields("control character in value", "A: b\u{1}c"),
        fields("delete character in value", "A: b\u{7F}c"),
        fields("NUL in name", "A\u{0}: b"),
        fields("bracket in name", "A(b): c"),
        fields("character beyond ASCII in name", "Ä: b"),
        fields("bare line feed", "A: b\nC: d"),
        fields("two hosts", "Host: y"),
        MalformedRequest("first field folded", "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
        MalformedRequest("only line feeds", "GET / HTTP/1.1\nHost: x\n\n"),
        MalformedRequest("no host", "GET / HTTP/1.1\r\nA: b\r\n\r\n"),
        MalformedRequest("host with path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
        MalformedRequest("host with user", "GET / HTTP/1.1\r\nHost: u@x\r\n\r\n"),
        MalformedRequest("list of hosts", "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n"),
    ]

    private static let requestLines = [
        MalformedRequest("TLS", "\u{16}\u{3}\u{1}"),
        MalformedRequest("two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("blank first", " GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("no version", "GET /\r\nHost: x\r\n\r\n"),
        MalformedRequest("two blanks", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("tab for blank", "GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("blank after version", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
        MalformedRequest("blank in target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("NUL in target", "GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("carriage return in target", "GET /\r HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("fragment", "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("target beyond ASCII", "GET /ä HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("lower-case version", "GET / http/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        MalformedRequest("HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        MalformedRequest("absolute form of another host", "GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("absolute form with user", "GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("other scheme", "GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        MalformedRequest("asterisk for GET", "GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    ]
}
