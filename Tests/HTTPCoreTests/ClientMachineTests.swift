// Tandem — Apache-2.0

import NIOCore
import TestSupport
import Testing

@testable import HTTPCore

/// All that a machine makes of a server's bytes that come in pieces; body pieces are joined.
private func events(
    _ bytes: some Sequence<UInt8>, pieces: [Int] = [.max], isHead: Bool = false, closes: Bool = false,
    limits: HTTPClientLimits = HTTPClientLimits()
) -> [String] {
    var machine = ClientMachine(limits: limits)
    machine.begin(isHead: isHead)
    var events: [String] = []
    var body = ""
    func take(_ event: ClientMachine.Event) {
        switch event {
        case .head(let head): events.append("\(head.status.code) \(head.headers.fields.map(\.value))")
        case .body(let bytes): body += bytes.readableBytesView.map { String($0, radix: 16) + "." }.joined()
        case .end:
            events.append("end \(body)")
            body = ""
        }
    }
    var rest = Array(bytes)[...]
    var piece = 0
    do throws(HTTPClientError) {
        while !rest.isEmpty {
            let count = min(rest.count, pieces[piece % pieces.count])
            machine.receive(ByteBuffer(bytes: rest.prefix(count)))
            rest = rest.dropFirst(count)
            piece += 1
            while let event = try machine.next() { take(event) }
        }
        events.append(machine.isReusable ? "reusable" : "not reusable")
        if closes, let event = try machine.closed() { take(event) }
    } catch {
        events.append("\(error.kind)")
        #expect(!machine.isReusable)
        // Nothing follows.
        let after = (try? machine.next()) ?? nil
        #expect(after == nil)
    }
    return events
}

private func events(
    _ text: String, isHead: Bool = false, closes: Bool = false, limits: HTTPClientLimits = HTTPClientLimits()
) -> [String] {
    events(text.utf8, isHead: isHead, closes: closes, limits: limits)
}

@Suite struct ClientMachineTests {
    @Test func lengths() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nhi"
        #expect(events(text) == [#"200 ["2", "b"]"#, "end 68.69.", "reusable"])
        #expect(events("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n") == [#"200 ["0"]"#, "end ", "reusable"])
        #expect(events("HTTP/1.1 204 No Content\r\n\r\n") == ["204 []", "end ", "reusable"])
        #expect(events(text, isHead: true).suffix(1) == ["malformed"])
        #expect(
            events("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", isHead: true) == [#"200 ["9"]"#, "end ", "reusable"])
    }

    @Test func chunks() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=b\r\nhe\r\n01\r\ny\r\n0\r\nT: t\r\n\r\n"
        #expect(events(text) == [#"200 ["Chunked"]"#, "end 68.65.79.", "reusable"])
    }

    @Test func severalChunksComeInOnePiece() throws {
        var machine = ClientMachine(limits: HTTPClientLimits())
        machine.begin(isHead: false)
        machine.receive(
            ByteBuffer(string: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n2\r\nc"))
        guard case .head? = try machine.next(), case .body(let body)? = try machine.next() else {
            Issue.record("no head and body")
            return
        }
        #expect(String(buffer: body) == "abc")
        #expect(try machine.next() == nil)
    }

    @Test func interimResponsesAreSkipped() {
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        #expect(events(early + "HTTP/1.1 204 X\r\n\r\n") == ["204 []", "end ", "reusable"])
        #expect(events("HTTP/1.1 101 Switching Protocols\r\n\r\n") == ["malformed"])
        #expect(events(String(repeating: "HTTP/1.1 100 X\r\n\r\n", count: 17)) == ["malformed"])
    }

    @Test func endsByClosing() {
        #expect(
            events("HTTP/1.1 200 OK\r\n\r\nabc", closes: true) == ["200 []", "not reusable", "end 61.62.63."])
        #expect(
            events("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", closes: true) == [
                #"200 ["1"]"#, "end 61.", "not reusable",
            ])
        #expect(events("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na").last == "not reusable")
    }

    @Test func endsTooEarly() {
        #expect(events("", closes: true) == ["not reusable", "cut"])
        #expect(events("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", closes: true).last == "cut")
        #expect(events("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", closes: true).last == "cut")
        #expect(events("HTTP/1.1 200 OK\r\nContent-L", closes: true).last == "cut")
    }

    /// What two readers could take differently, and what is no HTTP.
    @Test(arguments: [
        "SSH-2.0-OpenSSH", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 999 X\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n", "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 O\u{1}K\r\n\r\n", "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\u{0}\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
        "HTTP/1.1 204 X\r\n\r\nmore",
    ]) func refused(_ text: String) {
        #expect(events(text).last == "malformed")
    }

    @Test func headsAreBounded() {
        var limits = HTTPClientLimits()
        limits.maximumHeadBytes = 64
        limits.maximumHeaderFields = 2
        #expect(events("HTTP/1.1 200 OK\r\nA: " + String(repeating: "a", count: 64), limits: limits) == ["malformed"])
        #expect(events("HTTP/1.1 200 OK\r\nA:\r\nB:\r\nC:\r\n\r\n", limits: limits) == ["malformed"])
    }

    @Test(arguments: UInt64(1)...6) func mutatedResponsesMeanTheSameInEveryFragmentation(seed: UInt64) {
        let seeds = [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nT: t\r\n\r\n",
            "HTTP/1.1 100 C\r\n\r\nHTTP/1.0 404 \r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
        ]
        let alphabet = Array("\r\n\t :;,0159aAfF+-xX/\u{0}\u{1}\u{7F}".utf8) + [0x80, 0xC3, 0xFF]
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        var refused = 0
        for round in 0..<400 {
            var bytes = Array(seeds[round % seeds.count].utf8)
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                let byte = alphabet.randomElement(using: &generator) ?? 0
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[position] = byte
                case 1: bytes.insert(byte, at: position)
                default: bytes.remove(at: position)
                }
            }
            let isHead = Bool.random(using: &generator)
            let whole = events(bytes, isHead: isHead, closes: true)
            let pieces = (0..<5).map { _ in Int.random(in: 1...20, using: &generator) }
            #expect(whole == events(bytes, pieces: [1], isHead: isHead, closes: true))
            #expect(whole == events(bytes, pieces: pieces, isHead: isHead, closes: true))
            if whole.last == "malformed" { refused += 1 } else { accepted += 1 }
        }
        #expect(accepted > 50 && refused > 50)
    }

    @Test func addresses() throws {
        #expect(try HTTPEndpoint("http://a:1") == HTTPEndpoint(host: "a", port: 1))
        #expect(try HTTPEndpoint("HTTP://a/b/c//") == HTTPEndpoint(host: "a", port: 80, prefix: "/b/c"))
        #expect(try HTTPEndpoint("http://[::1]:8000/").authority == "[::1]:8000")
        for text in [
            "a:1", "http://", "http://:80", "http://a:0", "http://a:99999", "http://a:x", "http://a?b",
            "http://a#b", "http://u@a", "http://::1", "http://a b", "ftp://a",
            "https://", "https://a:0", "https:/a",
        ] {
            #expect(throws: HTTPEndpointError.self, "\(text)") { try HTTPEndpoint(text) }
        }
    }

    @Test func addressesWithTLS() throws {
        guard TLSSupport.isBuilt else {
            let error = #expect(throws: HTTPEndpointError.self) { try HTTPEndpoint("https://a") }
            #expect(error?.reason.contains("--traits TLS") == true)
            return
        }
        #expect(try HTTPEndpoint("HTTPS://a/b") == HTTPEndpoint(host: "a", port: 443, prefix: "/b", isSecure: true))
        #expect("\(try HTTPEndpoint("https://[::1]:1"))" == "https://[::1]:1")
        #expect(try HTTPEndpoint("https://a:1") != HTTPEndpoint("http://a:1"))
    }
}
