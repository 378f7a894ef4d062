// Tandem — Apache-2.0

internal import EngineLink
internal import Glibc

/// The supervisor's end of a socket pair to a child: frames in both directions, never blocking.
struct StatusChannel {
    private(set) var descriptor: Int32
    /// The child's end, until it was handed over.
    private var childEnd: Int32
    private var reader = LinkFrameReader(maximumFrameBytes: 1 << 20)
    private var unsent: [UInt8] = []

    /// Frames that a child does not read are held up to this size; a child that far behind is not well.
    static let maximumUnsentBytes = 1 << 20

    /// Of a child that has none: nothing comes, and nothing is sent.
    static let none = StatusChannel(descriptor: -1, childEnd: -1)

    private init(descriptor: Int32, childEnd: Int32) {
        self.descriptor = descriptor
        self.childEnd = childEnd
    }

    init() throws(LaunchError) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else {
            throw LaunchError(reason: "cannot create its status socket: \(String(cString: strerror(errno)))")
        }
        descriptor = ends[0]
        childEnd = ends[1]
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    }

    /// The descriptor to pass to the child.
    var descriptorForChild: Int32 { childEnd }

    var hasUnsentBytes: Bool { !unsent.isEmpty }

    /// To be called when the child runs or could not be started: only its own copy may stay open.
    mutating func closeChildEnd() {
        if childEnd >= 0 { Glibc.close(childEnd) }
        childEnd = -1
    }

    mutating func close() {
        closeChildEnd()
        if descriptor >= 0 { Glibc.close(descriptor) }
        descriptor = -1
    }

    /// Sends a frame, or holds what the socket does not take yet. False if the child is too far behind.
    mutating func send(_ message: LinkMessage) -> Bool {
        unsent += LinkCodec.frame(message)
        flush()
        return unsent.count <= Self.maximumUnsentBytes
    }

    mutating func flush() {
        guard descriptor >= 0 else {
            unsent = []
            return
        }
        while !unsent.isEmpty {
            let count = Glibc.send(descriptor, unsent, unsent.count, Int32(MSG_NOSIGNAL))
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN { return }
            // The child is gone; its pidfd tells the rest.
            guard count > 0 else {
                unsent = []
                return
            }
            unsent.removeFirst(count)
        }
    }

    /// The messages that arrived. At the child's end of stream the descriptor is closed.
    ///
    /// - Throws: ``LinkError`` if the child sent something else than frames.
    mutating func receive() throws(LinkError) -> [LinkMessage] {
        var buffer = [UInt8](repeating: 0, count: 16384)
        var messages: [LinkMessage] = []
        while descriptor >= 0 {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN { break }
            guard count > 0 else {
                close()
                break
            }
            reader.append(Array(buffer[..<count]))
            while let message = try reader.next() { messages.append(message) }
        }
        return messages
    }
}
