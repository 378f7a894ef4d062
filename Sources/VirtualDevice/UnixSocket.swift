// Tandem — Apache-2.0

import Glibc

/// Unix sockets of a virtual device.
enum UnixSocket {
    /// The error number of a call that failed.
    struct Failure: Error {
        var code: Int32

        var text: String { String(cString: strerror(code)) }
    }

    static let packets = Int32(SOCK_SEQPACKET.rawValue)
    static let stream = Int32(SOCK_STREAM.rawValue)

    /// A listening socket that does not block, in place of what was at the path.
    static func listen(_ path: String, type: Int32) throws(Failure) -> Int32 {
        let descriptor = socket(
            AF_UNIX, type | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(code: errno) }
        unlink(path)
        // The file is made with the socket's own mode.
        _ = fchmod(descriptor, 0o600)
        guard use(path, { bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, 64) == 0 else {
            let code = errno
            close(descriptor)
            throw Failure(code: code)
        }
        _ = chmod(path, 0o600)
        return descriptor
    }

    /// A connected socket that blocks.
    static func connect(_ path: String, type: Int32) throws(Failure) -> Int32 {
        let descriptor = socket(AF_UNIX, type | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(code: errno) }
        guard use(path, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            close(descriptor)
            throw Failure(code: code)
        }
        return descriptor
    }

    /// The next connection, which does not block; null if there is none.
    static func accept(_ listener: Int32) -> Int32? {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { return nil }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return descriptor
    }

    /// Sends one packet. False if it cannot be sent now.
    static func send(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        while true {
            let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            return count == bytes.count
        }
    }

    /// What came of reading.
    enum Received {
        case bytes([UInt8])
        case nothing
        case end
    }

    /// One packet, or what a stream has, up to `limit` bytes; the rest of a longer packet is lost.
    static func receive(_ descriptor: Int32, limit: Int = DeviceCodec.largestMessage) -> Received {
        while true {
            var count = 0
            let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, filled in
                count = recv(descriptor, buffer.baseAddress, limit, 0)
                filled = max(0, count)
            }
            if count > 0 { return .bytes(bytes) }
            if count < 0 && errno == EINTR { continue }
            return count < 0 && errno == EAGAIN ? .nothing : .end
        }
    }

    private static func use(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { field in
            // With a zero byte behind it.
            guard bytes.count < field.count, !bytes.contains(0) else { return false }
            field.copyBytes(from: bytes)
            return true
        }
        guard fits else {
            errno = ENAMETOOLONG
            return -1
        }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}
