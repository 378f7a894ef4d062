// Tandem — Apache-2.0

/// What a parser accepts at most.
public struct JSONLimits: Sendable, Equatable {
    /// How deep arrays and objects may nest: a plain value has depth 0, `[1]` has depth 1. At most 512 whatever is set,
    /// because values are read, compared and destroyed by recursion.
    public var maximumDepth: Int
    /// The longest input.
    public var maximumBytes: Int
    /// The most values in the whole input. A value takes up to some 90 bytes of memory, and as few as 2 of input.
    public var maximumValues: Int

    /// Creates limits.
    public init(maximumDepth: Int = 64, maximumBytes: Int = 64 << 20, maximumValues: Int = .max) {
        self.maximumDepth = maximumDepth
        self.maximumBytes = maximumBytes
        self.maximumValues = maximumValues
    }
}

/// A strict and bounded parser of JSON as RFC 8259 defines it.
///
/// Beyond the grammar it demands valid UTF-8 without byte order mark, keys that differ within an object, surrogate
/// escapes in pairs and numbers that are finite in double precision, and takes numbers of up to 1024 characters.
public enum JSONParser {
    /// Parses one value, with white space around it and nothing else.
    ///
    /// - Throws: ``JSONError`` with the offset of the first byte at fault.
    public static func parse(
        _ bytes: some Collection<UInt8>, limits: JSONLimits = JSONLimits()
    ) throws(JSONError) -> JSONValue {
        // Rethrowing closures lose the error's type; a result keeps it.
        let result = bytes.withContiguousStorageIfAvailable { run($0.span, limits) }
        return try (result ?? run(Array(bytes).span, limits)).get()
    }

    private static func run(_ bytes: Span<UInt8>, _ limits: JSONLimits) -> Result<JSONValue, JSONError> {
        Result { () throws(JSONError) in
            var reader = JSONReader(bytes, limits: limits)
            return try reader.document()
        }
    }
}
