// Tandem — Apache-2.0

/// Memory in which chunks of streams are written before they are handed on, one for all requests of an event loop, so
/// that a token needs no memory of its own.
final class ChunkBuffer {
    private var bytes: [UInt8] = []
    private static let keptBytes = 64 << 10

    /// Lets `body` fill an empty array. Within it the memory is not shared: a buffer that is asked for meanwhile is a
    /// new one.
    func fill(_ body: (inout [UInt8]) -> Void) {
        var filled: [UInt8] = []
        swap(&filled, &bytes)
        body(&filled)
        guard filled.capacity <= Self.keptBytes else { return }
        filled.removeAll(keepingCapacity: true)
        swap(&filled, &bytes)
    }
}
