// Tandem — Apache-2.0

/// Builds safetensors files in memory for tests, from the format's description and independently of the code that reads
/// them. It writes what it is told, right or wrong.
public struct SafetensorsBuilder: Sendable {
    /// Members of the header as JSON text, in order: key, value.
    private var members: [(key: String, value: String)] = []
    private var data: [UInt8] = []

    /// The header's length as stated, if it shall differ from the truth.
    public var statedHeaderLength: UInt64?
    /// Bytes after the last tensor.
    public var trailingBytes = 0
    /// The header is padded with spaces to a multiple of this.
    public var headerAlignment = 8

    /// Starts an empty file.
    public init() {}

    /// Adds `__metadata__`.
    public mutating func addMetadata(_ strings: [(String, String)]) {
        let fields = strings.map { "\"\($0)\":\"\($1)\"" }.joined(separator: ",")
        members.append(("__metadata__", "{\(fields)}"))
    }

    /// Adds a tensor from numbers, stored as F32, F16 or BF16.
    ///
    /// - Parameter shape: in the file's order, contiguous dimension last; its product is the number of values.
    public mutating func addTensor(
        _ name: String, shape: [Int], _ encoding: GGUFBuilder.Encoding = .f32, values: [Float]
    ) {
        precondition(values.count == shape.reduce(1, *), "\(values.count) values for the shape \(shape)")
        let formats: [GGUFBuilder.Encoding: String] = [.f32: "F32", .f16: "F16", .bf16: "BF16"]
        guard let format = formats[encoding] else { preconditionFailure("\(encoding) is no safetensors format") }
        addTensor(name, dtype: format, shape: "\(shape)", bytes: encoding.encode(values))
    }

    /// Adds a tensor from bytes, as stated, checked by nobody.
    ///
    /// - Parameters:
    ///   - shape: as JSON.
    ///   - offsets: `data_offsets` as JSON, if they shall differ from the truth.
    public mutating func addTensor(
        _ name: String, dtype: String, shape: String, bytes: [UInt8], offsets: String? = nil
    ) {
        let place = offsets ?? "[\(data.count),\(data.count + bytes.count)]"
        addMember(name, "{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(place)}")
        data += bytes
    }

    /// Adds a member of the header.
    ///
    /// - Parameter json: its value.
    public mutating func addMember(_ key: String, _ json: String) { members.append((key, json)) }

    /// The file's bytes.
    public func build() -> [UInt8] {
        build(header: "{" + members.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",") + "}")
    }

    /// The file's bytes with another header.
    public func build(header: String) -> [UInt8] {
        var text = Array(header.utf8)
        while !text.count.isMultiple(of: headerAlignment) { text.append(UInt8(ascii: " ")) }
        let length = statedHeaderLength ?? UInt64(text.count)
        return withUnsafeBytes(of: length.littleEndian) { Array($0) } + text + data
            + [UInt8](repeating: 0, count: trailingBytes)
    }
}
