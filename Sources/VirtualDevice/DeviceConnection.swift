// Tandem — Apache-2.0

import Glibc
import Processes

/// A client's connection to a virtual device. Calls block; one thread uses it.
public final class DeviceConnection {
    private let descriptor: Int32

    /// Connects to the socket at a path.
    public init(path: String) throws(DeviceProtocolError) {
        do {
            descriptor = try UnixSocket.connect(path, type: .packets)
        } catch {
            throw DeviceProtocolError(message: "nobody answers at \(path): \(error.text)")
        }
    }

    deinit {
        close(descriptor)
    }

    public func send(_ message: ClientMessage) throws(DeviceProtocolError) {
        guard UnixSocket.send(DeviceCodec.bytes(message), to: descriptor) else { throw Self.gone }
    }

    /// Waits for the next message.
    public func receive() throws(DeviceProtocolError) -> DeviceMessage {
        guard case .bytes(let bytes) = UnixSocket.receive(descriptor, limit: DeviceCodec.largestMessage) else {
            throw Self.gone
        }
        return try DeviceCodec.deviceMessage(bytes)
    }

    private static let gone = DeviceProtocolError(message: "its process is gone")
}

/// The other end of ``DeviceNotice`` and ``DeviceOrder``, for a supervisor. Nothing blocks.
public enum DeviceChannel {
    /// A pair of connected sockets, for the supervisor and for the device.
    ///
    /// - Returns: null if the system has none left.
    public static func pair() -> (own: Int32, device: Int32)? {
        guard let (own, device) = try? UnixSocket.pair() else { return nil }
        return (own, device)
    }

    /// Sends an order. False if the device does not take it now.
    public static func send(_ order: DeviceOrder, to descriptor: Int32) -> Bool {
        UnixSocket.send(DeviceCodec.bytes(order), to: descriptor)
    }

    /// What the device said since the last call; what is no notice ends the conversation.
    public static func notices(from descriptor: Int32) -> (notices: [DeviceNotice], isOpen: Bool) {
        var notices: [DeviceNotice] = []
        while true {
            switch UnixSocket.receive(descriptor, limit: DeviceCodec.largestMessage) {
            case .nothing: return (notices, true)
            case .end: return (notices, false)
            case .bytes(let bytes):
                guard let notice = try? DeviceCodec.notice(bytes) else { return (notices, false) }
                notices.append(notice)
            }
        }
    }
}

/// Asks a virtual device's control socket.
public enum DeviceControl {
    /// Name of the control socket in a server's run directory.
    public static let socketName = "device-control.sock"
    /// Name of the socket for clients.
    public static let clientSocketName = "device.sock"

    /// Sends a line and waits for the answer, a line of JSON.
    public static func ask(_ line: String, path: String) throws(DeviceProtocolError) -> String {
        let descriptor: Int32
        do {
            descriptor = try UnixSocket.connect(path, type: .stream)
        } catch {
            throw DeviceProtocolError(message: "nobody answers at \(path): \(error.text)")
        }
        defer { close(descriptor) }
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard UnixSocket.send(Array((line + "\n").utf8), to: descriptor) else {
            throw DeviceProtocolError(message: "its process is gone")
        }
        var answer: [UInt8] = []
        while answer.last != UInt8(ascii: "\n"), answer.count < 1 << 20 {
            guard case .bytes(let bytes) = UnixSocket.receive(descriptor, limit: DeviceCodec.largestMessage) else {
                throw DeviceProtocolError(message: "it did not answer within 10 s")
            }
            answer += bytes
        }
        return String(decoding: answer.dropLast(), as: UTF8.self)
    }
}
