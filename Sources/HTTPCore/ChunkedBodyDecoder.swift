// Tandem — Apache-2.0

import NIOCore

/// Joins the chunks of a body (RFC 9112, section 7.1), strictly: every line ends with CRLF, sizes are bare hexadecimal
/// digits. Extensions and trailers are checked and dropped.
struct ChunkedBodyDecoder {
    private enum State {
        case size
        case data(Int)
        case dataEnd
        case trailer
    }

    /// What an extension or trailer may add to a size line.
    static let maximumLineBytes = 1024

    private var state = State.size
    private var scanned = 0
    private var trailerBytes = 0
    /// Of all chunks: a body of tiny chunks with long extensions would else be many times its size.
    private var extensionBytes = 0
    /// What was joined so far.
    private(set) var body = ByteBuffer()

    /// Takes what it can from `input`.
    ///
    /// - Returns: whether the body is complete; what follows stays in `input`.
    mutating func decode(_ input: inout ByteBuffer, limits: HTTPLimits) throws(HTTPRejection) -> Bool {
        while true {
            switch state {
            case .size:
                guard let size = try sizeLine(&input, limits: limits) else { return false }
                state = size == 0 ? .trailer : .data(size)
            case .data(let left):
                let count = min(left, input.readableBytes)
                guard count > 0, var piece = input.readSlice(length: count) else { return false }
                body.writeBuffer(&piece)
                state = count == left ? .dataEnd : .data(left - count)
            case .dataEnd:
                guard input.readableBytes >= 2 else { return false }
                guard input.readInteger(as: UInt16.self) == 0x0D0A else {
                    throw .bad("a chunk is longer than its size")
                }
                state = .size
            case .trailer:
                guard let line = try line(&input) else { return false }
                if line.readableBytes == 0 { return true }
                trailerBytes += line.readableBytes
                guard trailerBytes <= limits.maximumHeadBytes else {
                    throw HTTPRejection(
                        status: .headerFieldsTooLarge,
                        reason: "the request's trailers exceed \(limits.maximumHeadBytes) bytes")
                }
                _ = try RequestHeadParser.field(line.readableBytesUInt8Span)
            }
        }
    }

    private mutating func sizeLine(_ input: inout ByteBuffer, limits: HTTPLimits) throws(HTTPRejection) -> Int? {
        guard let line = try line(&input) else { return nil }
        let bytes = line.readableBytesUInt8Span
        var size = 0
        var index = 0
        while index < bytes.count, let digit = ASCII.hexadecimalValue(bytes[index]) {
            // Refused long before it could overflow.
            size = size << 4 | digit
            guard size <= limits.maximumBodyBytes - body.readableBytes else { throw Self.tooLarge(limits) }
            index += 1
        }
        guard index > 0 else { throw .bad("a chunk's size is not a hexadecimal number") }
        if index < bytes.count {
            extensionBytes += bytes.count - index
            guard extensionBytes <= limits.maximumHeadBytes else {
                throw HTTPRejection(
                    status: .headerFieldsTooLarge,
                    reason: "the request's chunk extensions exceed \(limits.maximumHeadBytes) bytes")
            }
            guard bytes[index] == 0x3B else { throw .bad("a chunk's size is not a hexadecimal number") }
            while index < bytes.count {
                guard ASCII.isFieldValueCharacter(bytes[index]) else {
                    throw .bad("a chunk extension has a control character")
                }
                index += 1
            }
        }
        return size
    }

    /// Takes a line, without its end; nil if it has not arrived whole.
    private mutating func line(_ input: inout ByteBuffer) throws(HTTPRejection) -> ByteBuffer? {
        guard let end = try lineFeed(in: input.readableBytesUInt8Span) else { return nil }
        scanned = 0
        let line = input.readSlice(length: end - 1)
        input.moveReaderIndex(forwardBy: 2)
        return line
    }

    private mutating func lineFeed(in bytes: Span<UInt8>) throws(HTTPRejection) -> Int? {
        while scanned < bytes.count, bytes[scanned] != 0x0A { scanned += 1 }
        guard scanned < Self.maximumLineBytes else { throw .bad("a chunk's size line or a trailer is too long") }
        guard scanned < bytes.count else { return nil }
        guard scanned > 0, bytes[scanned - 1] == 0x0D else { throw .bad("a line ends without a carriage return") }
        return scanned
    }

    static func tooLarge(_ limits: HTTPLimits) -> HTTPRejection {
        HTTPRejection(
            status: .contentTooLarge,
            reason: "the request's body exceeds \(limits.maximumBodyBytes) bytes")
    }
}
