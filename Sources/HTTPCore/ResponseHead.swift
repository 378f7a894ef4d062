// Tandem — Apache-2.0

import NIOCore

/// How the end of an answer is told.
enum ResponseFraming {
    /// By the status alone.
    case none
    case length(Int)
    case chunked
    /// By the end of the connection, for HTTP/1.0.
    case untilClose
}

/// Writes the head of an answer.
enum ResponseHead {
    static func append(
        status: HTTPStatus,
        headers: HTTPHeaders,
        framing: ResponseFraming,
        connection: StaticString?,
        date: String,
        to buffer: inout ByteBuffer
    ) {
        HeadWriter.append(to: &buffer, fields: headers, beside: ownBytes) { head in
            head.add("HTTP/1.1 ")
            head.add(String(status.code))
            head.add(" ")
            head.add(status.reasonPhrase)
            head.add("\r\nDate: ")
            head.add(date)
            for field in headers.fields { head.add(field, unless: isReserved) }
            switch framing {
            case .none, .untilClose: break
            case .length(let length):
                head.add("\r\nContent-Length: ")
                head.add(String(length))
            case .chunked:
                head.add("\r\nTransfer-Encoding: chunked")
            }
            if let connection {
                head.add("\r\nConnection: ")
                head.add(connection)
            }
            head.add("\r\n\r\n")
        }
    }

    /// What a head has beside the fields that are given, at most.
    private static let ownBytes = 256

    /// Bytes around a chunk: at most sixteen digits and two line ends.
    static let chunkFramingBytes = 20

    /// Appends a chunk (RFC 9112, section 7.1); an empty one would end the body and is left out.
    ///
    /// Through pointers, with one look at the buffer in place of one for each digit: this is done for every token.
    static func appendChunk(_ bytes: Span<UInt8>, to buffer: inout ByteBuffer) {
        let count = bytes.count
        guard count > 0 else { return }
        let digits = (count.bitWidth - count.leadingZeroBitCount + 3) / 4
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count + chunkFramingBytes) { place in
            for index in 0..<digits {
                let value = UInt8(truncatingIfNeeded: count >> (4 * (digits - 1 - index))) & 15
                place[index] = value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
            }
            place.storeBytes(of: lineEnd.bigEndian, toByteOffset: digits, as: UInt16.self)
            let end = digits + 2 + count
            let data = UnsafeMutableRawBufferPointer(rebasing: place[(digits + 2)..<end])
            bytes.withUnsafeBytes { data.copyMemory(from: $0) }
            place.storeBytes(of: lineEnd.bigEndian, toByteOffset: end, as: UInt16.self)
            return end + 2
        }
    }

    /// A carriage return and a line feed.
    private static let lineEnd: UInt16 = 0x0D0A

    /// Fields the server decides on.
    private static func isReserved(_ name: String) -> Bool {
        switch name.utf8.count {
        case 4: return ASCII.equalIgnoringCase(name, "Date")
        case 10: return ASCII.equalIgnoringCase(name, "Connection")
        case 14: return ASCII.equalIgnoringCase(name, "Content-Length")
        case 17: return ASCII.equalIgnoringCase(name, "Transfer-Encoding")
        default: return false
        }
    }
}
