// Tandem — Apache-2.0

import NIOCore
import Testing

@testable import HTTPCore

@Suite struct FormatTests {
    @Test(arguments: [
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (1_767_225_599, "Wed, 31 Dec 2025 23:59:59 GMT"),
    ])
    func datesAreFormatted(second: Int, text: String) {
        #expect(DateHeaderClock.format(secondsSinceEpoch: second) == text)
    }

    @Test func headersAreFoundWithoutRegardToCase() {
        var headers: HTTPHeaders = ["A": "1", "b": "2", "a": " 3 , ,4"]
        #expect(headers["a"] == "1" && headers["B"] == "2" && headers["c"] == nil)
        #expect(headers.values(named: "A") == ["1", " 3 , ,4"])
        #expect(headers.list(named: "A") == ["1", "3", "4"])
        headers.set("A", "5")
        #expect(headers.fields.map(\.name) == ["b", "A"])
    }

    @Test func responseHeadsCannotBeInjectedInto() {
        var buffer = ByteBuffer()
        ResponseHead.append(
            status: .ok,
            headers: [
                "X": "a\r\nEvil: b", "Bad Name": "c", "": "d", "content-length": "9", "transfer-encoding": "x",
                "connection": "x", "date": "x",
            ],
            framing: .length(3), connection: nil, date: "D", to: &buffer)
        #expect(
            String(buffer: buffer) == "HTTP/1.1 200 OK\r\nDate: D\r\nX: a  Evil: b\r\nContent-Length: 3\r\n\r\n")
    }

    @Test func emptyChunkWouldEndTheBody() {
        var buffer = ByteBuffer()
        ResponseHead.appendChunk(ByteBuffer().readableBytesUInt8Span, to: &buffer)
        ResponseHead.appendChunk(ByteBuffer(string: "0123456789abcdef").readableBytesUInt8Span, to: &buffer)
        #expect(String(buffer: buffer) == "10\r\n0123456789abcdef\r\n")
    }

    @Test func headsAreUnderstood() throws {
        func head(_ text: String) throws -> RequestHead {
            try RequestHeadParser.parse(Array(text.utf8).span, limits: HTTPLimits())
        }
        let absolute = try head("GET HTTP://X:80?q HTTP/1.1\r\nHOST: x:80\r\n\r\n")
        #expect(absolute.path == "/" && absolute.query == "q")
        #expect(try head("GET https://x/a HTTP/1.1\r\nHost: x\r\n\r\n").path == "/a")
        let options = try head("OPTIONS * HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n")
        #expect(options.path == "*" && options.framing == .none)
        let old = try head("GET /a?b?c HTTP/1.0\r\n\r\n")
        #expect(!old.isHTTP11 && !old.wantsKeepAlive && old.query == "b?c")
        #expect(try head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").wantsKeepAlive)
        let closing = try head("GET / HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\nA:\t b\tc \u{E4}\t \r\n\r\n")
        #expect(!closing.wantsKeepAlive && closing.headers["a"] == "b\tc \u{E4}")
        #expect(try head("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 007\r\n\r\n").framing == .length(7))
    }
}
