// Tandem — Apache-2.0

/// Reads a GGUF file from its first byte to the end of the tensor table, and places the tensors.
struct GGUFParser {
    private(set) var version: UInt32 = 0
    private(set) var alignment: UInt64 = 32
    private(set) var metadata = GGUFMetadata()
    private(set) var tensors: [TensorDescription] = []
    private(set) var tensorIndex: [String: Int] = [:]

    private let storage: FileBytes
    private let name: String

    /// Metadata keys are at most this long by the specification; tensor names are held to the same.
    private static let maximumNameBytes = 65_535
    private static let maximumDimensions: UInt32 = 4
    /// The specification bounds the alignment only from below.
    private static let alignments: ClosedRange<UInt64> = 8...(1 << 20)

    init(_ storage: FileBytes, name: String) {
        self.storage = storage
        self.name = name
    }

    mutating func parse() throws(WeightsError) {
        let storage = self.storage
        var cursor = GGUFCursor(storage.span, name: name)
        version = try GGUFParser.header(&cursor)
        // The smallest tensor entry: length and byte of the name, number of dimensions, one of them, type, offset.
        let tensorCount = try cursor.count(of: "tensors", minimumByteCount: 8 + 1 + 4 + 8 + 4 + 8)
        // The smallest pair: length and byte of the key, type, a value of one byte.
        let pairCount = try cursor.count(of: "metadata pairs", minimumByteCount: 8 + 1 + 4 + 1)
        try readMetadata(pairCount, &cursor)
        try readTensors(tensorCount, &cursor)
    }

    private static func header(_ cursor: inout GGUFCursor) throws(WeightsError) -> UInt32 {
        let magic: UInt32 = try cursor.integer("the magic number")
        guard magic == 0x4655_4747 else {
            let found = (0..<4).map { String((magic >> (8 * $0)) & 0xFF, radix: 16) }.joined(separator: " ")
            throw cursor.error("not a GGUF file: it begins with the bytes \(found) instead of \"GGUF\"", at: 0)
        }
        let version: UInt32 = try cursor.integer("the version")
        switch version {
        case 2, 3:
            return version
        case 1:
            throw cursor.error("GGUF version 1 is not supported; convert the file to version 3", at: 4)
        default:
            guard !(1...0xFFFF).contains(version.byteSwapped) else {
                throw cursor.error("big-endian GGUF is not supported; convert the file to little-endian", at: 4)
            }
            throw cursor.error("GGUF version \(version) is not supported; versions 2 and 3 are", at: 4)
        }
    }

    private static func name(
        _ what: String, _ cursor: inout GGUFCursor
    ) throws(WeightsError) -> String {
        let start = cursor.position
        let name = try cursor.string(what)
        guard (1...maximumNameBytes).contains(name.utf8.count) else {
            throw cursor.error("\(what) has \(name.utf8.count) bytes; 1 to \(maximumNameBytes) are allowed", at: start)
        }
        return name
    }

    // MARK: - Metadata

    private mutating func readMetadata(_ count: Int, _ cursor: inout GGUFCursor) throws(WeightsError) {
        let alignmentKey = "general.alignment"
        for _ in 0..<count {
            let start = cursor.position
            let key = try GGUFParser.name("a metadata key", &cursor)
            let type = try cursor.valueType("the type of \(quoted(key))")
            let valueStart = cursor.position
            let value = try cursor.value(type, depth: 0, storage: storage)
            guard metadata.add(key, value, at: start..<cursor.position) else {
                throw cursor.error("the metadata key \(quoted(key)) stands here a second time", at: start)
            }
            guard key == alignmentKey else { continue }
            guard let alignment = value.unsigned, GGUFParser.alignments.contains(alignment),
                alignment.nonzeroBitCount == 1
            else {
                let allowed = "\(GGUFParser.alignments.lowerBound) to \(GGUFParser.alignments.upperBound)"
                throw cursor.error("\(alignmentKey) must be a power of two from \(allowed)", at: valueStart)
            }
            self.alignment = alignment
        }
    }

    // MARK: - Tensors

    /// A tensor before the beginning of the data is known.
    private struct Entry {
        let name: String
        let type: TensorType
        let shape: [Int]
        let byteCount: Int
        /// From the beginning of the data.
        let offset: UInt64
        /// Where the offset stands in the file.
        let offsetPosition: Int
    }

    private mutating func readTensors(_ count: Int, _ cursor: inout GGUFCursor) throws(WeightsError) {
        var entries: [Entry] = []
        for index in 0..<count {
            let start = cursor.position
            let entry = try GGUFParser.entry(&cursor)
            guard tensorIndex.updateValue(index, forKey: entry.name) == nil else {
                throw cursor.error("the tensor \(quoted(entry.name)) stands here a second time", at: start)
            }
            entries.append(entry)
        }
        let fileSize = UInt64(storage.bytes.count)
        // No overflow: a position is below 2^63 and the alignment is bounded.
        let dataStart = (UInt64(cursor.position) + alignment - 1) & ~(alignment - 1)
        tensors.reserveCapacity(entries.count)
        for entry in entries {
            let tensor = "the tensor \(quoted(entry.name))"
            guard entry.offset.isMultiple(of: alignment) else {
                throw cursor.error(
                    "\(tensor) is at \(entry.offset), which is no multiple of the alignment \(alignment)",
                    at: entry.offsetPosition)
            }
            guard dataStart <= fileSize, entry.offset <= fileSize - dataStart,
                UInt64(entry.byteCount) <= fileSize - dataStart - entry.offset
            else {
                throw cursor.error(
                    "\(tensor) takes \(entry.byteCount) bytes at \(entry.offset) of the data, which begins at "
                        + "\(dataStart), but the file has only \(fileSize) bytes; it may be incomplete",
                    at: entry.offsetPosition)
            }
            tensors.append(
                TensorDescription(
                    name: entry.name, type: entry.type, shape: entry.shape, offset: dataStart + entry.offset,
                    byteCount: entry.byteCount))
        }
    }

    private static func entry(_ cursor: inout GGUFCursor) throws(WeightsError) -> Entry {
        let name = try name("a tensor name", &cursor)
        let tensor = "the tensor \(quoted(name))"
        let shapePosition = cursor.position
        let dimensions: UInt32 = try cursor.integer("the number of dimensions of \(tensor)")
        guard (1...maximumDimensions).contains(dimensions) else {
            throw cursor.error(
                "\(tensor) has \(dimensions) dimensions; 1 to \(maximumDimensions) are allowed", at: shapePosition)
        }
        var shape: [Int] = []
        var elements = 1
        for _ in 0..<dimensions {
            let position = cursor.position
            let dimension: UInt64 = try cursor.integer("the shape of \(tensor)")
            guard dimension > 0, let length = Int(exactly: dimension) else {
                throw cursor.error("\(tensor) has a dimension of \(dimension) elements", at: position)
            }
            let (product, overflow) = elements.multipliedReportingOverflow(by: length)
            guard !overflow else { throw cursor.error("\(tensor) has more than 2^63 elements", at: position) }
            elements = product
            shape.append(length)
        }
        let typePosition = cursor.position
        let code: UInt32 = try cursor.integer("the type of \(tensor)")
        guard let type = TensorType.ggufCode(code) else {
            let known = TensorType.ggmlName(code).map { "\($0) (code \(code))" } ?? "unknown (code \(code))"
            let supported = TensorType.all.map(\.name).joined(separator: ", ")
            throw cursor.error(
                "\(tensor) has the type \(known), which is not supported; supported are \(supported)", at: typePosition)
        }
        guard shape[0].isMultiple(of: type.blockElements) else {
            throw cursor.error(
                "\(tensor) has rows of \(shape[0]) elements, which are not whole \(type.name) blocks of "
                    + "\(type.blockElements)", at: shapePosition + 4)
        }
        let (byteCount, overflow) = (elements / type.blockElements).multipliedReportingOverflow(by: type.blockBytes)
        guard !overflow else { throw cursor.error("\(tensor) takes more than 2^63 bytes", at: shapePosition) }
        let offsetPosition = cursor.position
        let offset: UInt64 = try cursor.integer("the offset of \(tensor)")
        return Entry(
            name: name, type: type, shape: shape, byteCount: byteCount, offset: offset, offsetPosition: offsetPosition)
    }
}
