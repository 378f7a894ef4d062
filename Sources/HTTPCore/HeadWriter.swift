// Tandem — Apache-2.0

import NIOCore

/// Writes the head of a request or of an answer into room that was made for all of it, one copy a piece.
struct HeadWriter {
    private let room: UnsafeMutableRawBufferPointer
    private var count = 0

    /// Appends a head.
    ///
    /// - Parameters:
    ///   - fields: will be written with ``add(_:unless:)``.
    ///   - count: how many bytes there are beside the fields, at most.
    static func append(
        to buffer: inout ByteBuffer, fields: HTTPHeaders, beside count: Int, _ write: (inout HeadWriter) -> Void
    ) {
        let bytes = fields.fields.reduce(count) { $0 + $1.name.utf8.count + $1.value.utf8.count + 4 }
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: bytes) { room in
            var writer = HeadWriter(room: room)
            write(&writer)
            return writer.count
        }
    }

    private init(room: UnsafeMutableRawBufferPointer) {
        self.room = room
    }

    mutating func add(_ text: StaticString) {
        text.withUTF8Buffer { add($0) }
    }

    mutating func add(_ text: String) {
        var text = text
        text.withUTF8 { add($0) }
    }

    private mutating func add(_ bytes: UnsafeBufferPointer<UInt8>) {
        // Stops the process rather than write beyond the room.
        UnsafeMutableRawBufferPointer(rebasing: room[count...]).copyMemory(from: UnsafeRawBufferPointer(bytes))
        count += bytes.count
    }

    /// Adds a field line, behind the end of the line before it; leaves names out that are none.
    mutating func add(_ field: HTTPHeaders.Field, unless isReserved: (String) -> Bool) {
        guard !field.name.isEmpty, ASCII.all(field.name, ASCII.isTokenCharacter), !isReserved(field.name) else {
            return
        }
        add("\r\n")
        add(field.name)
        add(": ")
        let start = count
        add(field.value)
        // A value may come from a client; a line end in it would let that client write headers.
        for index in start..<count where !ASCII.isFieldValueCharacter(room[index]) { room[index] = 0x20 }
    }
}
