// Tandem — Apache-2.0

/// Reads the answer to a GET that asked for `Connection: close`, as far as it has come.
public enum AnswerReader {
    public enum Outcome: Sendable, Equatable {
        case incomplete
        case whole(status: Int, body: [UInt8])
        /// It is no HTTP, or broke off; for people.
        case unreadable(String)
    }

    /// Longest answer that is read.
    public static let maximumBytes = 16 << 20

    /// - Parameter isClosed: whether nothing more will come.
    public static func read(_ bytes: [UInt8], isClosed: Bool) -> Outcome {
        guard bytes.count <= maximumBytes else { return .unreadable("the answer is longer than 16 MiB") }
        guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else {
            guard !isClosed else { return .unreadable(bytes.isEmpty ? "it hung up" : "the answer broke off") }
            return bytes.starts(with: Array("HTTP/1.".utf8.prefix(bytes.count)))
                ? .incomplete : .unreadable("it does not speak HTTP")
        }
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")
        let words = (lines.first ?? "").split(separator: " ")
        guard words.count > 1, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            return .unreadable("it does not speak HTTP")
        }
        var length: Int?
        var isChunked = false
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].drop { $0 == " " }
            switch parts[0].lowercased() {
            case "content-length": length = Int(value)
            case "transfer-encoding": isChunked = value.lowercased().contains("chunked")
            default: break
            }
        }
        let body = bytes[end.upperBound...]
        if isChunked { return readChunks(body, status: status, isClosed: isClosed) }
        if let length {
            if body.count >= length, length >= 0 { return .whole(status: status, body: Array(body.prefix(length))) }
            return isClosed ? .unreadable("the answer broke off") : .incomplete
        }
        return isClosed ? .whole(status: status, body: Array(body)) : .incomplete
    }

    private static func readChunks(_ bytes: ArraySlice<UInt8>, status: Int, isClosed: Bool) -> Outcome {
        let more: Outcome = isClosed ? .unreadable("the answer broke off") : .incomplete
        var rest = bytes
        var body: [UInt8] = []
        while let end = rest.firstRange(of: Array("\r\n".utf8)) {
            let digits = String(decoding: rest[..<end.lowerBound].prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self)
            guard let size = Int(digits, radix: 16), (0...maximumBytes).contains(size) else {
                return .unreadable("the answer's chunks cannot be read")
            }
            if size == 0 { return .whole(status: status, body: body) }
            rest = rest[end.upperBound...]
            guard rest.count >= size + 2 else { return more }
            body += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
        }
        return more
    }
}
