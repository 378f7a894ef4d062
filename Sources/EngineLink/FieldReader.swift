// Tandem — Apache-2.0

import NIOCore
import Requests

/// Reads the fields of one frame, each within the bytes that are there.
struct FieldReader {
    private var buffer: ByteBuffer
    private let frame: FrameType

    init(buffer: ByteBuffer, frame: FrameType) {
        self.buffer = buffer
        self.frame = frame
    }

    /// Checks that nothing follows the last field.
    func end() throws(LinkError) {
        guard buffer.readableBytes == 0 else {
            throw malformed("end", "\(buffer.readableBytes) bytes too many")
        }
    }

    func malformed(_ field: StaticString, _ reason: String) -> LinkError {
        LinkError(code: .malformed, message: "engine link: frame \(frame), field \(field): \(reason)")
    }

    // MARK: Primitive fields

    mutating func integer<T: FixedWidthInteger>(_ field: StaticString, as type: T.Type = T.self) throws(LinkError) -> T
    {
        guard let value = buffer.readInteger(endianness: .little, as: T.self) else {
            throw malformed(field, "\(MemoryLayout<T>.size) bytes are needed, \(buffer.readableBytes) remain")
        }
        return value
    }

    /// A number that travels in 64 bits and must fit the machine's `Int`.
    mutating func int(_ field: StaticString) throws(LinkError) -> Int {
        let value: Int64 = try integer(field)
        guard let number = Int(exactly: value) else { throw malformed(field, "\(value) is out of range") }
        return number
    }

    mutating func optionalInt(_ field: StaticString) throws(LinkError) -> Int? {
        try flag(field) ? try int(field) : nil
    }

    mutating func flag(_ field: StaticString) throws(LinkError) -> Bool {
        let value: UInt8 = try integer(field)
        guard value <= 1 else { throw malformed(field, "\(value) is neither 0 nor 1") }
        return value == 1
    }

    mutating func float(_ field: StaticString) throws(LinkError) -> Float {
        Float(bitPattern: try integer(field))
    }

    mutating func digest(_ field: StaticString) throws(LinkError) -> Digest128 {
        Digest128(high: try integer(field), low: try integer(field))
    }

    mutating func string(_ field: StaticString) throws(LinkError) -> String {
        let count = try count(field, elementBytes: 1)
        do {
            guard let text = try buffer.readUTF8ValidatedString(length: count) else {
                throw malformed(field, "\(count) bytes are needed, \(buffer.readableBytes) remain")
            }
            return text
        } catch let error as LinkError {
            throw error
        } catch {
            throw malformed(field, "not valid UTF-8")
        }
    }

    /// The count of an array whose elements take at least `elementBytes`; never more than the frame can hold, so that
    /// what is allocated for it stays in proportion to what was received.
    mutating func count(_ field: StaticString, elementBytes: Int) throws(LinkError) -> Int {
        let value: UInt32 = try integer(field)
        let count = Int(value)
        guard count <= buffer.readableBytes / elementBytes else {
            throw malformed(
                field,
                "\(count) elements of at least \(elementBytes) bytes are announced, \(buffer.readableBytes) bytes remain"
            )
        }
        return count
    }

    mutating func array<Element>(
        _ field: StaticString,
        elementBytes: Int,
        _ element: (inout FieldReader) throws(LinkError) -> Element
    ) throws(LinkError) -> [Element] {
        let count = try count(field, elementBytes: elementBytes)
        var elements: [Element] = []
        elements.reserveCapacity(count)
        for _ in 0..<count { elements.append(try element(&self)) }
        return elements
    }

    mutating func tokens(_ field: StaticString) throws(LinkError) -> [TokenID] {
        let count = try count(field, elementBytes: MemoryLayout<TokenID>.size)
        guard let bytes = buffer.readSlice(length: count * MemoryLayout<TokenID>.size) else {
            throw malformed(field, "\(count) tokens are announced, \(buffer.readableBytes) bytes remain")
        }
        return [TokenID](unsafeUninitializedCapacity: count) { tokens, initialized in
            bytes.withUnsafeReadableBytes { source in
                for index in 0..<count {
                    let word = source.loadUnaligned(
                        fromByteOffset: index * MemoryLayout<TokenID>.size,
                        as: TokenID.self
                    )
                    tokens.initializeElement(at: index, to: TokenID(littleEndian: word))
                }
            }
            initialized = count
        }
    }

    /// A raw value of `type`, or 0 for none.
    mutating func optionalChoice<T: RawRepresentable>(
        _ field: StaticString,
        of type: T.Type = T.self
    ) throws(LinkError) -> T? where T.RawValue == UInt8 {
        let code: UInt8 = try integer(field)
        guard code != 0 else { return nil }
        guard let value = T(rawValue: code) else { throw malformed(field, "unknown value \(code)") }
        return value
    }

    /// A raw value of `type`.
    mutating func choice<T: RawRepresentable>(
        _ field: StaticString,
        of type: T.Type = T.self
    ) throws(LinkError) -> T where T.RawValue == UInt8 {
        let code: UInt8 = try integer(field)
        guard let value = T(rawValue: code) else { throw malformed(field, "unknown value \(code)") }
        return value
    }
}

// MARK: - Fields that are written alike

extension ByteBuffer {
    mutating func write(_ digest: Digest128) {
        writeMultipleIntegers(digest.high, digest.low, endianness: .little)
    }

    mutating func write(_ text: String) {
        let start = writerIndex
        writeInteger(UInt32(0), endianness: .little)
        let count = writeString(text)
        setInteger(UInt32(truncatingIfNeeded: count), at: start, endianness: .little)
    }

    mutating func write(_ value: Float) {
        writeInteger(value.bitPattern, endianness: .little)
    }

    mutating func write(_ value: Int) {
        writeInteger(Int64(value), endianness: .little)
    }

    mutating func write(_ value: Int?) {
        guard let value else {
            writeInteger(UInt8(0))
            return
        }
        writeInteger(UInt8(1))
        write(value)
    }

    mutating func writeCount(_ count: Int) {
        writeInteger(UInt32(truncatingIfNeeded: count), endianness: .little)
    }

    mutating func write(_ tokens: [TokenID]) {
        writeCount(tokens.count)
        reserveCapacity(minimumWritableBytes: tokens.count * MemoryLayout<TokenID>.size)
        for token in tokens { writeInteger(token, endianness: .little) }
    }
}
