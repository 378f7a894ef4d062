// Tandem — Apache-2.0

import Foundation
import Glibc
import JSON

/// Asks a server on this machine, a connection a request.
struct TestClient {
    let port: Int

    struct Answer {
        var status: Int
        var headers: String
        var body: String

        var json: JSONValue { (try? TestModel.json(body)) ?? .null }
        /// Payloads of the server-sent events.
        var events: [String] {
            body.components(separatedBy: "\n\n").filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
        }
    }

    func get(_ path: String, method: String = "GET", headers: String = "") async throws -> Answer {
        try await send("\(method) \(path) HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\(headers)\r\n")
    }

    func post(_ path: String, _ body: String, headers: String = "") async throws -> Answer {
        try await send(
            "POST \(path) HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
    }

    /// Sends a request, reads nothing, and goes away once `isTime` says so.
    func leave(
        _ path: String, _ body: String = "", method: String = "POST", headers: String = "",
        when isTime: @escaping @Sendable () -> Bool
    ) async throws {
        let text =
            "\(method) \(path) HTTP/1.1\r\nHost: t\r\n\(headers)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        // Little is kept for it on its way.
        let descriptor = try Self.connection(port: port, receiveBuffer: 4096)
        Self.send(text, on: descriptor)
        while !isTime() { await Task.yield() }
        close(descriptor)
    }

    /// Reads a stream until it is as wanted or ends, and goes away.
    ///
    /// - Returns: all that came, as it came.
    func watch(_ path: String, until isEnough: @escaping @Sendable ([UInt8]) -> Bool) async throws -> String {
        let port = port
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                continuation.resume(
                    with: Result {
                        let descriptor = try Self.connection(port: port)
                        defer { close(descriptor) }
                        Self.send("GET \(path) HTTP/1.1\r\nHost: t\r\n\r\n", on: descriptor)
                        var received: [UInt8] = []
                        var buffer = [UInt8](repeating: 0, count: 65536)
                        while true {
                            let count = read(descriptor, &buffer, buffer.count)
                            guard count > 0 else { break }
                            received += buffer[..<count]
                            if isEnough(received) { break }
                        }
                        return String(decoding: received, as: UTF8.self)
                    })
            }
        }
    }

    /// Sends bytes on a connection of their own and reads to its end, on a thread that may block.
    private func send(_ text: String) async throws -> Answer {
        let port = port
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try Self.exchange(text, port: port) }) }
        }
    }

    private static func connection(port: Int, receiveBuffer: Int32? = nil) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var size = receiveBuffer {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else {
            close(descriptor)
            throw POSIXError(.ECONNREFUSED)
        }
        return descriptor
    }

    private static func send(_ text: String, on descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { break }
            bytes = bytes.dropFirst(count)
        }
    }

    private static func exchange(_ text: String, port: Int) throws -> Answer {
        let descriptor = try connection(port: port)
        defer { close(descriptor) }
        send(text, on: descriptor)
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            received += buffer[..<count]
        }
        let answer = String(decoding: received, as: UTF8.self)
        let end = answer.range(of: "\r\n\r\n")
        let head = String(answer[..<(end?.lowerBound ?? answer.endIndex)])
        var body = String(answer[(end?.upperBound ?? answer.endIndex)...])
        if head.contains("chunked") { body = dechunked(body) }
        let status = Int(head.split(separator: " ").dropFirst().first ?? "") ?? 0
        return Answer(status: status, headers: head, body: body)
    }

    private static func dechunked(_ text: String) -> String {
        var rest = Array(text.utf8)[...]
        var body: [UInt8] = []
        while let end = rest.firstRange(of: Array("\r\n".utf8)),
            let size = Int(String(decoding: rest[..<end.lowerBound], as: UTF8.self), radix: 16), size > 0
        {
            rest = rest[end.upperBound...]
            body += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
        }
        return String(decoding: body, as: UTF8.self)
    }
}

extension JSONValue {
    subscript(_ key: String) -> JSONValue { object?[key] ?? .null }
    subscript(_ index: Int) -> JSONValue {
        guard let array, array.indices.contains(index) else { return .null }
        return array[index]
    }
}
