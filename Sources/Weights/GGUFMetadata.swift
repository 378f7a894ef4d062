// Tandem — Apache-2.0

/// The key-value pairs of a GGUF file. A typed look-up gives nil if the key is absent or its value is of another kind;
/// the subscript tells the two apart.
public struct GGUFMetadata: Sendable {
    /// The keys in file order.
    public private(set) var keys: [String] = []
    /// Where each key's pair stands in the file, in the order of ``keys``.
    private(set) var ranges: [Range<Int>] = []
    private var values: [String: GGUFValue] = [:]

    init() {}

    /// Adds a pair that stands at `range` of the file; false if the key is there already.
    mutating func add(_ key: String, _ value: GGUFValue, at range: Range<Int>) -> Bool {
        guard values.updateValue(value, forKey: key) == nil else { return false }
        keys.append(key)
        ranges.append(range)
        return true
    }

    /// The value of a key.
    public subscript(_ key: String) -> GGUFValue? { values[key] }

    /// A string.
    public func string(_ key: String) -> String? { values[key]?.string }
    /// An integer of any width that is not negative.
    public func unsigned(_ key: String) -> UInt64? { values[key]?.unsigned }
    /// An integer of any width that fits.
    public func integer(_ key: String) -> Int64? { values[key]?.integer }
    /// A floating-point number of either width, in single precision.
    public func float(_ key: String) -> Float? { values[key]?.float }
    /// A boolean.
    public func bool(_ key: String) -> Bool? { values[key]?.bool }
    /// An array of strings, decoded by this call.
    public func strings(_ key: String) -> [String]? { values[key]?.array?.strings }
    /// An array of integers of any width that all fit, decoded by this call.
    public func integers(_ key: String) -> [Int64]? { values[key]?.array?.integers }
    /// An array of floating-point numbers of either width, decoded by this call.
    public func floats(_ key: String) -> [Float]? { values[key]?.array?.floats }
}
