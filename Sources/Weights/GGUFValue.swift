// Tandem — Apache-2.0

/// The type of a metadata value; raw values are the codes of the GGUF specification.
public enum GGUFValueType: UInt32, Sendable, Equatable {
    case uint8 = 0
    case int8 = 1
    case uint16 = 2
    case int16 = 3
    case uint32 = 4
    case int32 = 5
    case float32 = 6
    case bool = 7
    case string = 8
    case array = 9
    case uint64 = 10
    case int64 = 11
    case float64 = 12

    /// Bytes of a value, or nil if values differ in size.
    var byteCount: Int? {
        switch self {
        case .uint8, .int8, .bool: 1
        case .uint16, .int16: 2
        case .uint32, .int32, .float32: 4
        case .uint64, .int64, .float64: 8
        case .string, .array: nil
        }
    }

    /// The fewest bytes a value can take: an empty string is its length, an empty array its type and length.
    var minimumByteCount: Int {
        switch self {
        case .string: 8
        case .array: 12
        default: byteCount ?? 1
        }
    }
}

/// A metadata value.
public enum GGUFValue: Sendable {
    case uint8(UInt8)
    case int8(Int8)
    case uint16(UInt16)
    case int16(Int16)
    case uint32(UInt32)
    case int32(Int32)
    case uint64(UInt64)
    case int64(Int64)
    case float32(Float)
    case float64(Double)
    case bool(Bool)
    case string(String)
    case array(GGUFArray)

    /// The value as a signed integer, if it is an integer that fits.
    public var integer: Int64? {
        switch self {
        case .uint8(let value): Int64(value)
        case .int8(let value): Int64(value)
        case .uint16(let value): Int64(value)
        case .int16(let value): Int64(value)
        case .uint32(let value): Int64(value)
        case .int32(let value): Int64(value)
        case .uint64(let value): Int64(exactly: value)
        case .int64(let value): value
        default: nil
        }
    }

    /// The value as an unsigned integer, if it is an integer that is not negative.
    public var unsigned: UInt64? {
        if case .uint64(let value) = self { return value }
        return integer.flatMap { UInt64(exactly: $0) }
    }

    /// The value in double precision, if it is a floating-point number.
    public var double: Double? {
        switch self {
        case .float32(let value): Double(value)
        case .float64(let value): value
        default: nil
        }
    }

    /// The value in single precision, rounded if need be, if it is a floating-point number.
    public var float: Float? {
        switch self {
        case .float32(let value): value
        case .float64(let value): Float(value)
        default: nil
        }
    }

    /// The value, if it is a boolean.
    public var bool: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    /// The value, if it is a string.
    public var string: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }

    /// The value, if it is an array.
    public var array: GGUFArray? {
        guard case .array(let value) = self else { return nil }
        return value
    }
}

/// A metadata array. It was checked when the file was opened, and its elements are decoded when they are asked for,
/// every time: a vocabulary is read by the one that needs it, and only then.
///
/// The decoded forms are nil if the elements are of another type; also if they are no longer what was checked, which
/// takes somebody who writes into the mapped file.
public struct GGUFArray: Sendable {
    /// The type of every element.
    public let elementType: GGUFValueType
    /// How many elements there are.
    public let count: Int

    let storage: FileBytes
    /// Where the first element begins in the file.
    let offset: Int

    /// The elements, if they are strings.
    public var strings: [String]? {
        guard elementType == .string else { return nil }
        return decoded { cursor throws(WeightsError) in try cursor.string("a string of an array") }
    }

    /// The elements, if they are integers that all fit.
    public var integers: [Int64]? {
        let type = elementType
        switch type {
        case .bool, .string, .array, .float32, .float64: return nil
        default: break
        }
        guard let values = decoded({ cursor throws(WeightsError) in try cursor.value(type, depth: 0).integer }) else {
            return nil
        }
        let fitting = values.compactMap(\.self)
        return fitting.count == values.count ? fitting : nil
    }

    /// The elements in single precision, if they are floating-point numbers.
    public var floats: [Float]? {
        let type = elementType
        guard type == .float32 || type == .float64 else { return nil }
        return decoded { cursor throws(WeightsError) in try cursor.value(type, depth: 0).float ?? .nan }
    }

    /// The elements, whatever they are.
    public var elements: [GGUFValue]? {
        let (type, storage) = (elementType, storage)
        return decoded { cursor throws(WeightsError) in try cursor.value(type, depth: 1, storage: storage) }
    }

    private func decoded<Element>(
        _ element: (inout GGUFCursor) throws(WeightsError) -> Element
    ) -> [Element]? {
        var cursor = GGUFCursor(storage.span, name: "", position: offset)
        var result: [Element] = []
        result.reserveCapacity(count)
        for _ in 0..<count {
            guard let next = try? element(&cursor) else { return nil }
            result.append(next)
        }
        return result
    }
}
