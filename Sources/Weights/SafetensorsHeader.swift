// Tandem — Apache-2.0

internal import JSON

/// What the header of a safetensors file says, checked against the file's size.
///
/// The format is that of the safetensors project: the header's length in 8 bytes, little-endian; a JSON object of tensors
/// and, under `__metadata__`, strings; then the data, which the tensors cover without holes and without overlap.
struct SafetensorsHeader {
    /// The tensors that can be read, in the header's order.
    private(set) var tensors: [TensorDescription] = []
    private(set) var tensorIndex: [String: Int] = [:]
    /// Why others cannot.
    private(set) var refusals: [String: WeightsError] = [:]
    private(set) var metadata: [String: String] = [:]

    private let name: String
    private let fileIndex: Int
    private let dataStart: Int
    private let dataCount: Int
    /// Where each tensor's data are, whether it can be read or not.
    private var places: [(range: Range<Int>, name: String)] = []

    /// As in the format's reference implementation.
    private static let maximumHeaderBytes: UInt64 = 100_000_000
    /// Far above any model's; a tensor is 8 values or so.
    private static let maximumValues = 2_000_000
    private static let metadataKey = "__metadata__"
    private static let maximumDimensions = 4

    /// The formats that can be read.
    private static let types: [String: TensorType] = ["F32": .f32, "F16": .f16, "BF16": .bf16]
    /// Bits of an element of the other formats.
    private static let otherBits: [String: Int] = [
        "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "F64": 64,
        "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6,
        "F6_E3M2": 6, "F4": 4,
    ]

    /// Reads and checks a header.
    ///
    /// - Parameters:
    ///   - file: the whole file.
    ///   - name: its path, for messages.
    ///   - fileIndex: its number among the files of a model.
    init(_ file: UnsafeRawBufferPointer, name: String, fileIndex: Int) throws(WeightsError) {
        self.name = name
        self.fileIndex = fileIndex
        guard file.count >= 8 else {
            throw WeightsError(
                path: name, offset: 0, reason: "not a safetensors file: \(file.count) bytes, where 8 hold a length")
        }
        let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
        guard (2...SafetensorsHeader.maximumHeaderBytes).contains(length) else {
            throw WeightsError(
                path: name, offset: 0,
                reason: "not a safetensors file: it begins with a header length of \(length) bytes; 2 to "
                    + "\(SafetensorsHeader.maximumHeaderBytes) are allowed")
        }
        guard length <= UInt64(file.count - 8) else {
            throw WeightsError(
                path: name, offset: 0,
                reason:
                    "the header has \(length) bytes, but \(file.count - 8) bytes are left; the file may be incomplete")
        }
        dataStart = 8 + Int(length)
        dataCount = file.count - dataStart
        guard file[8] == UInt8(ascii: "{") else {
            throw WeightsError(path: name, offset: 8, reason: "not a safetensors file: the header is no JSON object")
        }
        let header: JSONValue
        do throws(JSONError) {
            header = try JSONParser.parse(
                UnsafeRawBufferPointer(rebasing: file[8..<dataStart]),
                limits: JSONLimits(
                    maximumDepth: 8, maximumBytes: Int(length), maximumValues: SafetensorsHeader.maximumValues))
        } catch {
            throw WeightsError(
                path: name, offset: 8 + UInt64(error.offset), reason: "the header is not valid: \(error.reason)")
        }
        for (key, value) in header.object?.entries ?? [] {
            if key == SafetensorsHeader.metadataKey {
                try readMetadata(value)
            } else {
                try readTensor(key, value)
            }
        }
        try checkPlaces()
    }

    private func error(_ reason: String) -> WeightsError { WeightsError(path: name, reason: reason) }

    private mutating func readMetadata(_ value: JSONValue) throws(WeightsError) {
        guard let entries = value.object?.entries else {
            throw error("\(SafetensorsHeader.metadataKey) is of type \(value.typeName) instead of object")
        }
        for (key, value) in entries {
            guard let text = value.string else {
                throw error(
                    "\(SafetensorsHeader.metadataKey): \(quoted(key)) is of type \(value.typeName) instead of string")
            }
            metadata[key] = text
        }
    }

    private mutating func readTensor(_ key: String, _ value: JSONValue) throws(WeightsError) {
        let tensor = "the tensor \(quoted(key))"
        guard let fields = value.object else { throw error("\(tensor) is of type \(value.typeName) instead of object") }
        guard let format = fields["dtype"]?.string else { throw error("\(tensor) has no dtype, which is a string") }
        guard let shape = SafetensorsHeader.sizes(fields["shape"]) else {
            throw error("\(tensor) has no shape, which is a list of integers that are not negative")
        }
        guard let offsets = SafetensorsHeader.sizes(fields["data_offsets"]), offsets.count == 2 else {
            throw error("\(tensor) has no data_offsets, which are two integers that are not negative")
        }
        guard offsets[0] <= offsets[1], offsets[1] <= dataCount else {
            throw error(
                "\(tensor): data_offsets \(offsets[0]) to \(offsets[1]) are not in the data, which have \(dataCount) "
                    + "bytes; the file may be incomplete")
        }
        guard tensorIndex[key] == nil, refusals[key] == nil else { throw error("\(tensor) is there a second time") }
        let range = offsets[0]..<offsets[1]
        let type = SafetensorsHeader.types[format]
        if let bits = type.map({ 8 * $0.blockBytes }) ?? SafetensorsHeader.otherBits[format] {
            try checkSize(tensor, format: format, bits: bits, shape: shape, byteCount: range.count)
        }
        places.append((range, key))
        guard let type, (1...SafetensorsHeader.maximumDimensions).contains(shape.count), !shape.contains(0) else {
            refusals[key] = error(refusal(tensor, format: format, isReadable: type != nil, shape: shape))
            return
        }
        tensorIndex[key] = tensors.count
        tensors.append(
            TensorDescription(
                name: key, type: type, shape: shape.reversed(), offset: UInt64(dataStart + range.lowerBound),
                byteCount: range.count, fileIndex: fileIndex))
    }

    private func refusal(_ tensor: String, format: String, isReadable: Bool, shape: [Int]) -> String {
        if !isReadable { return "\(tensor) has the dtype \(quoted(format)); F32, F16 and BF16 are supported" }
        if shape.contains(0) { return "\(tensor) has no elements" }
        return "\(tensor) has \(shape.count) dimensions; 1 to \(SafetensorsHeader.maximumDimensions) are supported"
    }

    private func checkSize(
        _ tensor: String, format: String, bits: Int, shape: [Int], byteCount: Int
    ) throws(WeightsError) {
        var product = bits
        for length in shape {
            let (next, overflow) = product.multipliedReportingOverflow(by: length)
            guard !overflow else { throw error("\(tensor): the shape has more than 2^63 bits") }
            product = next
        }
        guard product.isMultiple(of: 8), product / 8 == byteCount else {
            throw error(
                "\(tensor): data_offsets span \(byteCount) bytes, but the shape takes \(product / 8) bytes of \(format)"
            )
        }
    }

    /// The data must be covered from the first byte to the last, each byte once.
    private mutating func checkPlaces() throws(WeightsError) {
        places.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
        var end = 0
        for (range, key) in places {
            guard range.lowerBound == end else {
                let fault = range.lowerBound < end ? "overlap those of another tensor" : "leave a hole before them"
                throw WeightsError(
                    path: name, offset: UInt64(dataStart + range.lowerBound),
                    reason:
                        "the tensor \(quoted(key)): data_offsets \(range.lowerBound) to \(range.upperBound) \(fault); "
                        + "the data so far end at \(end)")
            }
            end = range.upperBound
        }
        guard end == dataCount else {
            throw WeightsError(
                path: name, offset: UInt64(dataStart + end),
                reason: "\(dataCount - end) bytes follow the last tensor's data")
        }
        places = []
    }

    private static func sizes(_ value: JSONValue?) -> [Int]? {
        guard let elements = value?.array else { return nil }
        var sizes: [Int] = []
        for element in elements {
            guard let size = element.integer, size >= 0 else { return nil }
            sizes.append(Int(size))
        }
        return sizes
    }
}
