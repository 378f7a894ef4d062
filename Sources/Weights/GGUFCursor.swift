// Tandem — Apache-2.0

/// Reads the pieces of a GGUF file in order. Every size is compared with the bytes that are left before anything is
/// read or allocated, and the span underneath checks bounds once more.
struct GGUFCursor: ~Escapable {
    private let bytes: RawSpan
    private let name: String
    /// Offset of the next byte to read.
    private(set) var position: Int

    /// How deep arrays may nest: an array of plain values has depth 1.
    static let maximumArrayDepth = 8

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, name: String, position: Int = 0) {
        self.bytes = bytes
        self.name = name
        self.position = position
    }

    var remaining: Int { bytes.byteCount - position }

    func error(_ reason: String, at offset: Int? = nil) -> WeightsError {
        WeightsError(path: name, offset: UInt64(offset ?? position), reason: reason)
    }

    mutating func integer<Word: FixedWidthInteger & BitwiseCopyable>(
        _ what: String, as type: Word.Type = Word.self
    ) throws(WeightsError) -> Word {
        let size = MemoryLayout<Word>.size
        guard size <= remaining else { throw truncated(what, needed: size) }
        defer { position += size }
        return Word(littleEndian: bytes.unsafeLoadUnaligned(fromByteOffset: position, as: Word.self))
    }

    /// A 64-bit count of things that take at least `minimumByteCount` bytes each.
    mutating func count(of what: String, minimumByteCount: Int) throws(WeightsError) -> Int {
        let start = position
        let count: UInt64 = try integer("the number of \(what)")
        let possible = remaining / minimumByteCount
        guard count <= UInt64(possible) else {
            throw error(
                "\(count) \(what) need at least \(minimumByteCount) bytes each, but \(remaining) bytes are left",
                at: start)
        }
        return Int(count)
    }

    /// A string: its 64-bit length in bytes, then UTF-8.
    mutating func string(_ what: String) throws(WeightsError) -> String {
        String(copying: try utf8(what))
    }

    /// A metadata value of a type.
    ///
    /// - Parameters:
    ///   - depth: the number of arrays around the value.
    ///   - storage: what an array keeps to decode itself later; without it an array is an error.
    mutating func value(
        _ type: GGUFValueType, depth: Int, storage: FileBytes? = nil
    ) throws(WeightsError) -> GGUFValue {
        let what = "a metadata value"
        switch type {
        case .uint8: return .uint8(try integer(what))
        case .int8: return .int8(try integer(what))
        case .uint16: return .uint16(try integer(what))
        case .int16: return .int16(try integer(what))
        case .uint32: return .uint32(try integer(what))
        case .int32: return .int32(try integer(what))
        case .uint64: return .uint64(try integer(what))
        case .int64: return .int64(try integer(what))
        case .float32: return .float32(Float(bitPattern: try integer(what)))
        case .float64: return .float64(Double(bitPattern: try integer(what)))
        case .bool: return .bool(try bool())
        case .string: return .string(try string(what))
        case .array:
            let (elementType, count, offset) = try array(depth: depth + 1)
            guard let storage else { throw error("an array stands where none can") }
            return .array(GGUFArray(elementType: elementType, count: count, storage: storage, offset: offset))
        }
    }

    mutating func valueType(_ what: String) throws(WeightsError) -> GGUFValueType {
        let start = position
        let code: UInt32 = try integer(what)
        guard let type = GGUFValueType(rawValue: code) else {
            throw error("\(what) is \(code); the types of GGUF metadata are 0 to 12", at: start)
        }
        return type
    }

    private mutating func bool() throws(WeightsError) -> Bool {
        let byte: UInt8 = try integer("a boolean")
        guard byte <= 1 else { throw error("a boolean is \(byte) instead of 0 or 1", at: position - 1) }
        return byte == 1
    }

    /// Checks an array from its element type to its last element, and steps over it.
    private mutating func array(depth: Int) throws(WeightsError) -> (GGUFValueType, count: Int, offset: Int) {
        guard depth <= GGUFCursor.maximumArrayDepth else {
            throw error("arrays nest deeper than \(GGUFCursor.maximumArrayDepth)")
        }
        let type = try valueType("the type of an array's elements")
        let count = try count(of: "array elements", minimumByteCount: type.minimumByteCount)
        let offset = position
        switch type {
        case .string:
            for _ in 0..<count { _ = try utf8("a string of an array") }
        case .array:
            for _ in 0..<count { _ = try array(depth: depth + 1) }
        case .bool:
            for _ in 0..<count { _ = try bool() }
        default:
            // No overflow: the count was compared with the bytes that are left.
            position += count * type.minimumByteCount
        }
        return (type, count, offset)
    }

    @_lifetime(copy self)
    private mutating func utf8(_ what: String) throws(WeightsError) -> UTF8Span {
        let start = position
        let length: UInt64 = try integer(what)
        guard length <= UInt64(remaining) else {
            throw error("\(what) has \(length) bytes, but \(remaining) bytes are left", at: start)
        }
        let content = Span<UInt8>(_bytes: bytes.extracting(position..<position + Int(length)))
        position += Int(length)
        do throws(UTF8.ValidationError) {
            return try UTF8Span(validating: content)
        } catch {
            let offset = start + 8 + error.byteOffsets.lowerBound
            throw self.error("\(what) is not valid UTF-8", at: offset)
        }
    }

    private func truncated(_ what: String, needed: Int) -> WeightsError {
        error("the file ends inside \(what): \(needed) bytes are needed and \(remaining) are left")
    }
}
