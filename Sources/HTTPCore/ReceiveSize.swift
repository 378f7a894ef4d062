// Tandem — Apache-2.0

import NIOCore

/// How much is read at once: grows with what comes and shrinks again. As NIO's own, but small enough to lie
/// in the channel instead of in memory of its own, which would have to be fetched for every token.
struct ReceiveSize: RecvByteBufferAllocator {
    private static let minimum: UInt32 = 2048
    private static let maximum: UInt32 = 65536

    private var size = Self.minimum
    /// Whether the read before took less than half.
    private var wasSmall = false

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer { allocator.buffer(capacity: Int(size)) }

    func nextBufferSize() -> Int? { Int(size) }

    mutating func record(actualReadBytes: Int) -> Bool {
        if actualReadBytes >= size, size < Self.maximum {
            size *= 2
            wasSmall = false
            return true
        }
        let isSmall = actualReadBytes <= size / 2 && size > Self.minimum
        if isSmall, wasSmall { size /= 2 }
        wasSmall = isSmall && !wasSmall
        return false
    }
}
