// Tandem — Apache-2.0

import Glibc

/// Makes an engine that computes on a CPU fail as a CUDA program under MPS does, so that recovery can be tested on
/// machines without a GPU.
///
/// It connects to the control daemon as the CUDA library would: `connect` blocks while the server starts, a missing
/// daemon is no error, and later messages are CUDA's error codes. With NVIDIA's daemon it stands in for a client that
/// never computes. The protocol is that of the daemon of driver 535, as seen on its socket: a sequence-packet Unix
/// socket, `OUTBHELL` from the daemon, `OUTBCRED` and a kind (2, a client) from us.
final class FaultPort: Sendable {
    enum Failure: Error, Equatable {
        /// What CUDA would return when a context is made.
        case refused(code: Int)
    }

    private let descriptor: Int32

    /// - Parameter pipeDirectory: the daemon's.
    /// - Returns: null if there is no daemon: CUDA runs on without one, and without a word.
    init?(pipeDirectory: String) throws(Failure) {
        let descriptor = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        self.descriptor = descriptor
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_PASSCRED, &one, socklen_t(MemoryLayout<Int32>.size))
        guard Self.connect(descriptor, path: pipeDirectory + "/control"), Self.receive(descriptor) == "OUTBHELL" else {
            return nil
        }
        Self.send(descriptor, Array("OUTBCRED\0".utf8))
        Self.send(descriptor, [2, 0, 0, 0])
        let answer = Self.receive(descriptor) ?? "805"
        guard answer == "attached" else { throw .refused(code: Int(answer) ?? 805) }
    }

    deinit {
        close(descriptor)
    }

    /// Waits for the next error: its code, and whether it concerns all engines of the device.
    func next() -> (code: Int, concernsAll: Bool) {
        let code = Self.receive(descriptor).flatMap { Int($0) } ?? 805
        // 810: the daemon was asked to drop this client's work.
        return (code, code != 810)
    }

    /// Calls `body` on a thread of its own with the first error. False if there are too many threads.
    func watch(_ body: @escaping @Sendable (_ code: Int, _ concernsAll: Bool) -> Void) -> Bool {
        let context = Unmanaged.passRetained(Watch(port: self, body: body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { pointer in
                guard let watch = pointer.map({ Unmanaged<Watch>.fromOpaque($0).takeRetainedValue() }) else {
                    return nil
                }
                let error = watch.port.next()
                watch.body(error.code, error.concernsAll)
                return nil
            }, context.toOpaque())
        guard code == 0 else {
            context.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    private final class Watch: Sendable {
        let port: FaultPort
        let body: @Sendable (Int, Bool) -> Void

        init(port: FaultPort, body: @escaping @Sendable (Int, Bool) -> Void) {
            self.port = port
            self.body = body
        }
    }

    private static func connect(_ descriptor: Int32, path: String) -> Bool {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return false }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
    }

    /// One packet as a text without its zero; null at the end of the connection.
    private static func receive(_ descriptor: Int32) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { return nil }
            return String(decoding: buffer[..<count].prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    private static func send(_ descriptor: Int32, _ bytes: [UInt8]) {
        _ = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}
