// Tandem — Apache-2.0

/// Cuts a stream of server-sent events into what its events carry.
struct EventStreamReader {
    /// Longest event, in bytes.
    static let maximumBytes = 8 << 20

    private var buffer: [UInt8] = []
    /// Where the next line begins, and up to where no end of it was found.
    private var lineStart = 0
    private var searched = 0
    /// Data lines of the event that has begun.
    private var data: [UInt8] = []
    private var hasData = false

    mutating func append(_ bytes: some Sequence<UInt8>) {
        if lineStart > 0 {
            buffer.removeFirst(lineStart)
            searched -= lineStart
            lineStart = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Whether more came than an event may have.
    var isTooLong: Bool { buffer.count - lineStart + data.count > Self.maximumBytes }

    /// Data of the next event that has come whole; nil if there is none.
    mutating func next() -> [UInt8]? {
        while let end = endOfLine() {
            let next = end + 1
            var line = lineStart..<end
            if end > lineStart, buffer[end - 1] == UInt8(ascii: "\r") { line = lineStart..<end - 1 }
            lineStart = next
            searched = next
            if line.isEmpty {
                guard hasData else { continue }
                hasData = false
                defer { data.removeAll(keepingCapacity: true) }
                return data
            }
            // Comments and the fields of other names say nothing here.
            guard line.count >= 5, buffer[line.prefix(5)].elementsEqual("data:".utf8) else { continue }
            var start = line.lowerBound + 5
            if start < line.upperBound, buffer[start] == UInt8(ascii: " ") { start += 1 }
            if hasData { data.append(UInt8(ascii: "\n")) }
            hasData = true
            data.append(contentsOf: buffer[start..<line.upperBound])
        }
        return nil
    }

    private mutating func endOfLine() -> Int? {
        var index = searched
        while index < buffer.count {
            if buffer[index] == UInt8(ascii: "\n") { return index }
            index += 1
        }
        searched = index
        return nil
    }
}
