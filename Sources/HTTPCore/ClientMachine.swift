// Tandem — Apache-2.0

import NIOCore

/// What the bytes of one connection to a server mean. A plain value without I/O or clock; ``ClientConnection`` feeds it.
struct ClientMachine {
    enum Event {
        case head(HTTPResponseHead)
        /// All of the body that has arrived; not empty.
        case body(ByteBuffer)
        case end
    }

    private enum Phase {
        /// Nothing is expected.
        case idle
        case head
        case length(Int)
        case chunked
        case untilClose
        case ending
        case broken
    }

    /// Responses of 1xx before the one that counts.
    private static let maximumInterimResponses = 16

    private var phase = Phase.idle
    private var input = ByteBuffer()
    private var decoder = ChunkStreamDecoder()
    private var scanned = 0
    private var isHead = false
    private var interimResponses = 0
    private var keepsAlive = true
    private let limits: HTTPClientLimits

    init(limits: HTTPClientLimits) {
        self.limits = limits
    }

    /// Whether another request may be sent.
    var isReusable: Bool {
        if case .idle = phase { return keepsAlive && input.readableBytes == 0 }
        return false
    }

    /// A request was sent.
    mutating func begin(isHead: Bool) {
        phase = .head
        self.isHead = isHead
        interimResponses = 0
        decoder = ChunkStreamDecoder()
    }

    /// Takes bytes of the server.
    mutating func receive(_ bytes: consuming ByteBuffer) {
        if input.readableBytes == 0 {
            input = bytes
        } else {
            input.writeImmutableBuffer(bytes)
        }
    }

    /// Whether bytes of the server are one whole chunk and nothing else, as a token nearly always is; then its framing is
    /// taken off in place. If not, nothing has happened.
    mutating func isWholeChunk(_ bytes: inout ByteBuffer) -> Bool {
        guard case .chunked = phase, input.readableBytes == 0, decoder.isBetweenChunks,
            let chunk = ChunkStreamDecoder.wholeChunk(bytes.readableBytesUInt8Span),
            chunk.upperBound + 2 == bytes.readableBytes
        else { return false }
        bytes.moveWriterIndex(to: bytes.readerIndex + chunk.upperBound)
        bytes.moveReaderIndex(forwardBy: chunk.lowerBound)
        return true
    }

    /// What came next; to be asked again until there is nothing.
    mutating func next() throws(HTTPClientError) -> Event? {
        do throws(HTTPClientError) {
            return try step()
        } catch {
            phase = .broken
            throw error
        }
    }

    private mutating func step() throws(HTTPClientError) -> Event? {
        switch phase {
        case .broken:
            return nil
        case .idle:
            guard input.readableBytes == 0 else { throw .malformed("the server sent what nobody had asked for") }
            return nil
        case .head:
            return try head()
        case .length(let left):
            guard input.readableBytes > 0, let piece = input.readSlice(length: min(left, input.readableBytes)) else {
                return nil
            }
            phase = left == piece.readableBytes ? .ending : .length(left - piece.readableBytes)
            return .body(piece)
        case .chunked:
            guard input.readableBytes > 0 else { return nil }
            let (data, isEnd) = try decoder.decode(&input)
            if isEnd { phase = .ending }
            if let data { return .body(data) }
            return isEnd ? end() : nil
        case .untilClose:
            guard input.readableBytes > 0 else { return nil }
            defer { input = ByteBuffer() }
            return .body(input)
        case .ending:
            return end()
        }
    }

    /// The server has closed the connection, and all that it sent was taken by ``next()``.
    ///
    /// - Returns: the end of a response that ends with its connection; nil if nothing was expected.
    mutating func closed() throws(HTTPClientError) -> Event? {
        defer { phase = .broken }
        keepsAlive = false
        switch phase {
        case .idle, .broken: return nil
        case .untilClose, .ending: return .end
        case .head:
            throw .cut("the connection was closed before the response came")
        case .length(let left):
            throw .cut("the connection was closed \(left) bytes before the response's end")
        case .chunked:
            throw .cut("the connection was closed in the middle of the response")
        }
    }

    private mutating func end() -> Event {
        phase = .idle
        return .end
    }

    private mutating func head() throws(HTTPClientError) -> Event? {
        while true {
            guard input.readableBytes > 0 else { return nil }
            // A local, because the buffer must not be seen to change while it is read.
            var scanned = scanned
            let end = try ResponseHeadParser.end(of: input.readableBytesUInt8Span, scanned: &scanned, limits: limits)
            self.scanned = scanned
            guard let end else { return nil }
            self.scanned = 0
            let received = try ResponseHeadParser.parse(
                input.readableBytesUInt8Span.extracting(0..<end), isHead: isHead, limits: limits)
            input.moveReaderIndex(forwardBy: end)
            let code = received.head.status.code
            guard code >= 200 else {
                interimResponses += 1
                guard code != 101, interimResponses <= Self.maximumInterimResponses else {
                    throw .malformed("the server answered with \(code), which was not asked for")
                }
                continue
            }
            keepsAlive = received.keepsAlive
            switch received.body {
            case .none: phase = .ending
            case .length(let length): phase = .length(length)
            case .chunked: phase = .chunked
            case .untilClose: phase = .untilClose
            }
            return .head(received.head)
        }
    }
}

/// Takes chunked framing (RFC 9112, section 7.1) off as bytes come, strictly: every line ends with CRLF, sizes are bare
/// hexadecimal digits. Extensions and trailers are checked and dropped.
struct ChunkStreamDecoder {
    private enum State {
        case size
        case data(Int)
        case dataEnd
        case trailer
    }

    /// What an extension or trailer may add to a line, and trailers together.
    static let maximumLineBytes = 1024
    static let maximumTrailerBytes = 16 * 1024
    /// So that a size cannot overflow.
    private static let maximumSizeDigits = 12

    private var state = State.size
    private var scanned = 0
    private var trailerBytes = 0

    /// Whether a chunk would begin with the next byte.
    var isBetweenChunks: Bool {
        if case .size = state { return scanned == 0 }
        return false
    }

    /// Takes what it can from `input`.
    ///
    /// - Returns: what was in chunks, nil if nothing, and whether the body is complete; what follows stays in `input`.
    mutating func decode(_ input: inout ByteBuffer) throws(HTTPClientError) -> (data: ByteBuffer?, isEnd: Bool) {
        defer {
            // The memory goes back to the channel, which reads into it again.
            if input.readableBytes == 0 { input = ByteBuffer() }
        }
        var data: ByteBuffer?
        while true {
            switch state {
            case .size:
                if scanned == 0, let chunk = Self.wholeChunk(input.readableBytesUInt8Span) {
                    let end = chunk.upperBound + 2
                    if data == nil {
                        data = input.getSlice(at: input.readerIndex + chunk.lowerBound, length: chunk.count)
                        input.moveReaderIndex(forwardBy: end)
                        if input.readableBytes == 0 { return (data, false) }
                    } else {
                        data?.writeBytes(input.readableBytesUInt8Span.extracting(chunk).bytes)
                        input.moveReaderIndex(forwardBy: end)
                    }
                    continue
                }
                guard let line = try line(&input) else { return (data, false) }
                let size = try Self.size(line.readableBytesUInt8Span)
                state = size == 0 ? .trailer : .data(size)
            case .data(let left):
                let count = min(left, input.readableBytes)
                guard count > 0, var piece = input.readSlice(length: count) else { return (data, false) }
                // One chunk stays where it is; several are joined.
                if data == nil { data = piece } else { data?.writeBuffer(&piece) }
                state = count == left ? .dataEnd : .data(left - count)
            case .dataEnd:
                guard input.readableBytes >= 2 else { return (data, false) }
                guard input.readInteger(as: UInt16.self) == 0x0D0A else {
                    throw .malformed("a chunk of the response is longer than its size")
                }
                state = .size
            case .trailer:
                guard let line = try line(&input) else { return (data, false) }
                if line.readableBytes == 0 { return (data, true) }
                trailerBytes += line.readableBytes
                guard trailerBytes <= Self.maximumTrailerBytes else {
                    throw .malformed("the response's trailers exceed \(Self.maximumTrailerBytes) bytes")
                }
                do {
                    _ = try RequestHeadParser.field(line.readableBytesUInt8Span)
                } catch {
                    throw .malformed("in a trailer of the response \(error.reason)")
                }
            }
        }
    }

    /// Where the data of a chunk is that has come whole and is of the usual form; anything else is looked at closely.
    static func wholeChunk(_ bytes: Span<UInt8>) -> Range<Int>? {
        var size = 0
        var index = 0
        while index < bytes.count, index < maximumSizeDigits, let digit = ASCII.hexadecimalValue(bytes[index]) {
            size = size << 4 | digit
            index += 1
        }
        let end = index + 2 + size
        guard size > 0, end + 2 <= bytes.count, bytes[index] == 0x0D, bytes[index + 1] == 0x0A, bytes[end] == 0x0D,
            bytes[end + 1] == 0x0A
        else { return nil }
        return index + 2..<end
    }

    private static func size(_ bytes: Span<UInt8>) throws(HTTPClientError) -> Int {
        var size = 0
        var index = 0
        while index < bytes.count, let digit = ASCII.hexadecimalValue(bytes[index]) {
            size = size << 4 | digit
            index += 1
            guard index <= maximumSizeDigits else { throw .malformed("a chunk of the response is absurdly long") }
        }
        guard index > 0, index == bytes.count || bytes[index] == 0x3B else {
            throw .malformed("a chunk's size in the response is not a hexadecimal number")
        }
        while index < bytes.count {
            guard ASCII.isFieldValueCharacter(bytes[index]) else {
                throw .malformed("a chunk extension in the response has a control character")
            }
            index += 1
        }
        return size
    }

    /// Takes a line, without its end; nil if it has not arrived whole.
    private mutating func line(_ input: inout ByteBuffer) throws(HTTPClientError) -> ByteBuffer? {
        guard let end = try lineFeed(in: input.readableBytesUInt8Span) else { return nil }
        scanned = 0
        let line = input.readSlice(length: end - 1)
        input.moveReaderIndex(forwardBy: 2)
        return line
    }

    private mutating func lineFeed(in bytes: Span<UInt8>) throws(HTTPClientError) -> Int? {
        while scanned < bytes.count, bytes[scanned] != 0x0A { scanned += 1 }
        guard scanned < Self.maximumLineBytes else {
            throw .malformed("a chunk's size line or a trailer of the response is too long")
        }
        guard scanned < bytes.count else { return nil }
        guard scanned > 0, bytes[scanned - 1] == 0x0D else {
            throw .malformed("a line between the response's chunks ends without a carriage return")
        }
        return scanned
    }
}
