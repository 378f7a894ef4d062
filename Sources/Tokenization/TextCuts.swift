// Tandem — Apache-2.0

/// Where a text can be cut in two before merging, because no token has these two characters side by side.
///
/// Vocabularies whose words are not split by a pattern would merge a whole text as one word otherwise.
struct TextCuts: Sendable {
    /// A set of hashes of pairs of characters. A pair that collides with another's hash is only not cut.
    private var bits = [UInt64](repeating: 0, count: 1 << (Self.logarithm - 6))

    private static let logarithm = 21

    init() {}

    /// Adds the pairs of a token.
    mutating func insert(_ token: ArraySlice<UInt8>) {
        var previous: UInt32?
        var index = token.startIndex
        while index < token.endIndex {
            let scalar = Self.scalar(of: token, at: &index)
            if let previous {
                let hash = Self.hash(previous, scalar)
                bits[hash >> 6] |= 1 << UInt64(hash & 63)
            }
            previous = scalar
        }
    }

    /// Calls `body` with the ranges between cuts, which cover the text.
    func forEachPart(of text: ArraySlice<UInt8>, cuttingBeforeSpaces: Bool, _ body: (Range<Int>) -> Void) {
        var index = text.startIndex
        guard index < text.endIndex else { return }
        var start = index
        var previous = Self.scalar(of: text, at: &index)
        while index < text.endIndex {
            let border = index
            let scalar = Self.scalar(of: text, at: &index)
            let hash = Self.hash(previous, scalar)
            if bits[hash >> 6] & 1 << UInt64(hash & 63) == 0
                || cuttingBeforeSpaces && scalar == UInt32(SpaceMark.space)
            {
                body(start..<border)
                start = border
            }
            previous = scalar
        }
        body(start..<text.endIndex)
    }

    /// The character at `index`, which is moved behind it. Malformed bytes give some value.
    @inline(__always)
    private static func scalar(of text: ArraySlice<UInt8>, at index: inout Int) -> UInt32 {
        let first = text[index]
        if first < 0x80 {
            index += 1
            return UInt32(first)
        }
        let end = min(index + ScalarClass.length(ofScalarStartingWith: first), text.endIndex)
        var value: UInt32 = 0
        while index < end {
            value = value << 8 | UInt32(text[index])
            index += 1
        }
        return value
    }

    @inline(__always)
    private static func hash(_ left: UInt32, _ right: UInt32) -> Int {
        let key = UInt64(left) << 32 | UInt64(right)
        return Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> UInt64(64 - logarithm))
    }
}
