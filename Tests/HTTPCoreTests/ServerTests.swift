// Tandem — Apache-2.0

import NIOCore
import NIOPosix
import Testing

@testable import HTTPCore

@Suite struct ServerTests {
    @Test func answersAndKeepsTheConnection() async throws {
        try await TestServer.run { server in
            let client = try await RawClient.connect(to: server.port)
            try await client.send("GET /a?b=c&d HTTP/1.1\r\nHost: x\r\n\r\n")
            let first = try await client.receive { $0.hasSuffix("GET /a b=c&d ") }
            #expect(first.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
            #expect(first.contains("\r\nContent-Type: text/plain\r\n"))
            #expect(first.contains("\r\nContent-Length: 13\r\n"))
            #expect(!first.contains("Connection:"))
            try await client.clear()
            try await client.send("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            #expect(try await client.receive { $0.hasSuffix("POST /p - hello") }.hasPrefix("HTTP/1.1 200"))
            #expect(server.connectionCount == 1)
            try await client.clear()
            try await client.send("GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let last = try await client.receiveUntilClose()
            #expect(last.contains("\r\nConnection: close\r\n"))
        }
    }
}
