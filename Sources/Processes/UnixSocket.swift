// Tandem — Apache-2.0

internal import CTandemSystem
public import Glibc

/// Unix sockets between the processes of one server: packets, which may carry a descriptor, or streams.
public enum UnixSocket {
    /// The error number of a call that failed.
    public struct Failure: Error {
        public var code: Int32

        public var text: String { String(cString: strerror(code)) }
    }

    /// What a socket carries.
    public enum Kind: Sendable {
        case packets
        case stream

        var number: Int32 { Int32(self == .packets ? SOCK_SEQPACKET.rawValue : SOCK_STREAM.rawValue) }
    }

    /// A listening socket that does not block, in place of what was at the path.
    public static func listen(_ path: String, type: Kind) throws(Failure) -> Int32 {
        let descriptor = socket(
            AF_UNIX, type.number | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
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
    public static func connect(_ path: String, type: Kind) throws(Failure) -> Int32 {
        let descriptor = socket(AF_UNIX, type.number | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(code: errno) }
        guard use(path, { Glibc.connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            close(descriptor)
            throw Failure(code: code)
        }
        return descriptor
    }

    /// The next connection, which does not block; null if there is none.
    public static func accept(_ listener: Int32) -> Int32? {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { return nil }
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        return descriptor
    }

    /// Sends one packet. False if it cannot be sent now.
    public static func send(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        while true {
            let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            return count == bytes.count
        }
    }

    /// What came of reading.
    public enum Received: Sendable {
        case bytes([UInt8])
        case nothing
        case end
    }

    /// One packet, or what a stream has, up to `limit` bytes; the rest of a longer packet is lost.
    public static func receive(_ descriptor: Int32, limit: Int) -> Received {
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

    /// Two connected ends that keep packets apart and do not block.
    public static func pair() throws(Failure) -> (own: Int32, other: Int32) {
        var ends: [Int32] = [-1, -1]
        let type = Kind.packets.number | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw Failure(code: errno) }
        return (ends[0], ends[1])
    }

    /// Sends one packet with a descriptor; the descriptor stays the caller's. False if it cannot be sent now.
    public static func send(_ bytes: [UInt8], with carried: Int32, to descriptor: Int32) -> Bool {
        tandem_send_message(descriptor, bytes, UInt64(bytes.count), carried) == 0
    }

    /// One packet, and the descriptor that came with it (-1 for none), which is the caller's to close.
    ///
    /// A packet longer than `limit`, or with several descriptors, ends the connection.
    public static func receiveWithDescriptor(_ descriptor: Int32, limit: Int) -> (Received, carried: Int32) {
        var carried: Int32 = -1
        var count: Int64 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, filled in
            count = tandem_receive_message(descriptor, buffer.baseAddress, UInt64(limit), &carried)
            filled = Int(max(0, count))
        }
        if count > 0 { return (.bytes(bytes), carried) }
        if carried >= 0 { close(carried) }
        return (count == -Int64(EAGAIN) ? .nothing : .end, -1)
    }

    /// Calls `body` with the address of a path.
    ///
    /// - Returns: what it returns; -1 with `errno` at ENAMETOOLONG if the path does not fit.
    public static func use(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
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
