// Tandem — Apache-2.0

public import NIOCore

/// Framing of server-sent events (WHATWG HTML, "Server-sent events").
public enum SSE {
    /// Appends one event, `data: <payload>\n\n`.
    ///
    /// A payload of several lines becomes several `data:` lines, which a client joins again by newlines. Carriage
    /// returns count as line ends there, too, so that no payload can break the framing.
    public static func appendEvent(data payload: some Sequence<UInt8>, to buffer: inout ByteBuffer) {
        buffer.writeStaticString("data: ")
        appendLines(payload, prefix: "data: ", to: &buffer)
        buffer.writeStaticString("\n\n")
    }

    /// One event, `data: <payload>\n\n`, in a buffer of its own.
    public static func event(data payload: some Collection<UInt8>) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.reserveCapacity(payload.count + 8)
        appendEvent(data: payload, to: &buffer)
        return buffer
    }

    /// One event, `data: <payload>\n\n`, in a buffer of its own.
    public static func event(data payload: String) -> ByteBuffer {
        event(data: payload.utf8)
    }

    /// Appends a comment, `: <text>\n\n`, which clients ignore: a sign of life on a quiet stream.
    public static func appendComment(_ text: some Sequence<UInt8>, to buffer: inout ByteBuffer) {
        buffer.writeStaticString(": ")
        appendLines(text, prefix: ": ", to: &buffer)
        buffer.writeStaticString("\n\n")
    }

    /// A comment, `: <text>\n\n`, in a buffer of its own.
    public static func comment(_ text: String) -> ByteBuffer {
        var buffer = ByteBuffer()
        appendComment(text.utf8, to: &buffer)
        return buffer
    }

    private static func appendLines(_ bytes: some Sequence<UInt8>, prefix: StaticString, to buffer: inout ByteBuffer) {
        // The common payload is one line of JSON: write it whole if it is contiguous and has no line end.
        let written: Void? = bytes.withContiguousStorageIfAvailable { storage in
            var line = storage[...]
            while let end = line.firstIndex(where: { $0 == 0x0A || $0 == 0x0D }) {
                buffer.writeBytes(line[..<end])
                buffer.writeStaticString("\n")
                buffer.writeStaticString(prefix)
                let isPair = line[end] == 0x0D && end + 1 < line.endIndex && line[end + 1] == 0x0A
                line = line[(isPair ? end + 2 : end + 1)...]
            }
            buffer.writeBytes(line)
        }
        if written == nil { appendLines(Array(bytes), prefix: prefix, to: &buffer) }
    }
}
