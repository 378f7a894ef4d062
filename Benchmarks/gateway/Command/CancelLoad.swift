// Tandem — Apache-2.0

import GatewayLoad
import Glibc
import JSON
import Synchronization

/// When engines were told that somebody who left wants nothing more, by the slot of that client.
final class CancelTimes: Sendable {
    private let times = Mutex<[UInt64: UInt64]>([:])

    func note(_ slot: UInt64) {
        let now = gateway_load_now()
        times.withLock { $0[slot] = now }
    }

    func forget(_ slot: UInt64) { times.withLock { $0[slot] = nil } }

    subscript(slot: UInt64) -> UInt64? { times.withLock { $0[slot] } }
}

/// Clients that leave in the middle of their streams, one after the other: how long until the engine is told.
struct CancelLoad {
    var port: UInt16
    var model: String
    var count: Int
    /// Whether connections are reset; else they are closed in the usual way.
    var resets: Bool

    struct Result {
        /// Nanoseconds from the client's close to the engine's receipt of the cancel, ascending.
        var delays: [UInt64] = []
        /// Cancels that did not arrive.
        var missing = 0
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// Slots beyond those of clients that load the gateway meanwhile.
    private static let firstSlot = UInt64(GATEWAY_LOAD_SLOTS) - 64
    private static let patience: UInt64 = 5_000_000_000

    func run(_ times: CancelTimes) throws -> Result {
        var result = Result()
        for index in 0..<count {
            let slot = Self.firstSlot + UInt64(index % 64)
            times.forget(slot)
            let socket = try begin(slot)
            // Some tokens later, at no particular time of a step.
            usleep(UInt32(3_000 + index * 7_919 % 20_000))
            if resets {
                var option = linger(l_onoff: 1, l_linger: 0)
                setsockopt(socket, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
            }
            let left = gateway_load_now()
            close(socket)
            while times[slot] == nil, gateway_load_now() - left < Self.patience { usleep(500) }
            if let arrived = times[slot] { result.delays.append(arrived - left) } else { result.missing += 1 }
        }
        result.delays.sort()
        return result
    }

    /// Opens a stream and waits for its first token.
    private func begin(_ slot: UInt64) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw Failure(description: "cannot connect: errno \(errno)") }
        let body = #"{"model":"\#(model)","prompt":"x","max_tokens":8000,"seed":\#(slot),"stream":true}"#
        let request =
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
            + "\(body.utf8.count)\r\n\r\n\(body)"
        let bytes = Array(request.utf8)
        guard send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw Failure(description: "cannot send: errno \(errno)")
        }
        var got: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !String(decoding: got, as: UTF8.self).contains("data: ") {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            guard count > 0 else {
                throw Failure(description: "no stream: \(String(decoding: got.prefix(300), as: UTF8.self))")
            }
            got += buffer[..<count]
        }
        return descriptor
    }
}

extension CancelLoad.Result {
    var json: [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("cancels")
        writer.integer(delays.count)
        writer.key("missing")
        writer.integer(missing)
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1)] where !delays.isEmpty {
            let place = min(delays.count - 1, Int(Double(delays.count) * share))
            writer.key("\(name)_milliseconds")
            writer.number(Double(delays[place]) / 1e6)
        }
        writer.endObject()
        return writer.bytes
    }
}
