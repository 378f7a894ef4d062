// Tandem — Apache-2.0

/// Builds GGUF files in memory for tests, from the specification and independently of the code that reads them.
///
/// It writes what it is told, right or wrong: the fields of the header can be overridden.
public struct GGUFBuilder: Sendable {
    /// A metadata value; an array names the type code of its elements, so that it can be empty.
    public indirect enum Value: Sendable {
        case uint8(UInt8)
        case int8(Int8)
        case uint16(UInt16)
        case int16(Int16)
        case uint32(UInt32)
        case int32(Int32)
        case float32(Float)
        case bool(Bool)
        case string(String)
        case array(UInt32, [Value])
        case uint64(UInt64)
        case int64(Int64)
        case float64(Double)

        /// An array of strings.
        public static func strings(_ values: [String]) -> Value { .array(8, values.map { .string($0) }) }
        /// An array of 32-bit integers.
        public static func int32s(_ values: [Int32]) -> Value { .array(5, values.map { .int32($0) }) }
        /// An array of single-precision numbers.
        public static func floats(_ values: [Float]) -> Value { .array(6, values.map { .float32($0) }) }

        var code: UInt32 {
            switch self {
            case .uint8: 0
            case .int8: 1
            case .uint16: 2
            case .int16: 3
            case .uint32: 4
            case .int32: 5
            case .float32: 6
            case .bool: 7
            case .string: 8
            case .array: 9
            case .uint64: 10
            case .int64: 11
            case .float64: 12
            }
        }
    }

    /// How a tensor's numbers are stored.
    public enum Encoding: UInt32, Sendable, CaseIterable {
        case f32 = 0
        case f16 = 1
        // The names of these formats are written with an underscore everywhere.
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q4_0 = 2
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q4_1 = 3
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q5_0 = 6
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q5_1 = 7
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q8_0 = 8
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q4_K = 12
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q5_K = 13
        // swift-format-ignore: AlwaysUseLowerCamelCase
        case q6_K = 14
        case bf16 = 30

        /// Elements in a block.
        public var blockElements: Int {
            switch self {
            case .f32, .f16, .bf16: 1
            case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
            case .q4_K, .q5_K, .q6_K: 256
            }
        }
    }

    private struct Tensor {
        let name: String
        let code: UInt32
        let shape: [UInt64]
        let bytes: [UInt8]
        let offset: UInt64?
    }

    /// The version that the header states.
    public var version: UInt32 = 3
    /// Multiple at which tensors are placed; state it in the metadata too if it is not 32.
    public var alignment = 32
    /// The number of tensors that the header states, if it shall differ from the truth.
    public var statedTensorCount: UInt64?
    /// The number of metadata pairs that the header states, if it shall differ from the truth.
    public var statedPairCount: UInt64?

    private var metadata: [(key: String, value: Value)] = []
    private var tensors: [Tensor] = []

    /// Starts an empty file.
    public init() {}

    /// Adds a metadata pair.
    public mutating func add(_ key: String, _ value: Value) { metadata.append((key, value)) }

    /// Adds a tensor from numbers.
    ///
    /// - Parameter shape: in GGUF order, contiguous dimension first; its product is the number of values.
    public mutating func addTensor(_ name: String, shape: [Int], _ encoding: Encoding = .f32, values: [Float]) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values for the shape \(shape)")
        addTensor(name, code: encoding.rawValue, shape: shape.map(UInt64.init), bytes: encoding.encode(values))
    }

    /// Adds a tensor from bytes, as stated, checked by nobody.
    ///
    /// - Parameter offset: where the table says the data is, if it shall differ from the truth.
    public mutating func addTensor(
        _ name: String, code: UInt32, shape: [UInt64], bytes: [UInt8], offset: UInt64? = nil
    ) {
        tensors.append(Tensor(name: name, code: code, shape: shape, bytes: bytes, offset: offset))
    }

    /// The file's bytes. It ends with the last tensor's last byte.
    public func build() -> [UInt8] {
        var file = Array("GGUF".utf8)
        GGUFBuilder.append(version, to: &file)
        GGUFBuilder.append(statedTensorCount ?? UInt64(tensors.count), to: &file)
        GGUFBuilder.append(statedPairCount ?? UInt64(metadata.count), to: &file)
        for (key, value) in metadata {
            GGUFBuilder.append(key, to: &file)
            GGUFBuilder.append(value.code, to: &file)
            GGUFBuilder.append(value, to: &file)
        }
        var data: [UInt8] = []
        for tensor in tensors {
            data.append(contentsOf: repeatElement(0, count: padding(data.count)))
            GGUFBuilder.append(tensor.name, to: &file)
            GGUFBuilder.append(UInt32(tensor.shape.count), to: &file)
            for dimension in tensor.shape { GGUFBuilder.append(dimension, to: &file) }
            GGUFBuilder.append(tensor.code, to: &file)
            GGUFBuilder.append(tensor.offset ?? UInt64(data.count), to: &file)
            data.append(contentsOf: tensor.bytes)
        }
        if !tensors.isEmpty { file.append(contentsOf: repeatElement(0, count: padding(file.count))) }
        return file + data
    }

    private func padding(_ count: Int) -> Int { (alignment - count % alignment) % alignment }

    private static func append(_ value: some FixedWidthInteger, to file: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { file.append(contentsOf: $0) }
    }

    private static func append(_ text: String, to file: inout [UInt8]) {
        append(UInt64(text.utf8.count), to: &file)
        file.append(contentsOf: text.utf8)
    }

    private static func append(_ value: Value, to file: inout [UInt8]) {
        switch value {
        case .uint8(let value): append(value, to: &file)
        case .int8(let value): append(value, to: &file)
        case .uint16(let value): append(value, to: &file)
        case .int16(let value): append(value, to: &file)
        case .uint32(let value): append(value, to: &file)
        case .int32(let value): append(value, to: &file)
        case .float32(let value): append(value.bitPattern, to: &file)
        case .bool(let value): file.append(value ? 1 : 0)
        case .string(let value): append(value, to: &file)
        case .array(let code, let values):
            append(code, to: &file)
            append(UInt64(values.count), to: &file)
            for value in values { append(value, to: &file) }
        case .uint64(let value): append(value, to: &file)
        case .int64(let value): append(value, to: &file)
        case .float64(let value): append(value.bitPattern, to: &file)
        }
    }
}
