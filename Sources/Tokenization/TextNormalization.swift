// Tandem — Apache-2.0

// The standard library normalizes strings for comparing them, and offers the result to other libraries of the toolchain
// only. Its tables are those of `Unicode.Scalar.Properties`, and a second copy would have to be kept in step with them.
@_spi(_Unicode) import Swift

/// What is done to a text between special tokens before it is split.
struct TextNormalization: Sendable {
    /// Unicode's normalization form C.
    var formC = false
    /// U+2581 becomes a space, see `SpaceMark`.
    var mapsSpaceMarks = false
    /// A space goes before the text, unless it is empty.
    var prependsSpace = false

    /// - Parameter text: valid UTF-8.
    func apply(to text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var result = text
        if formC, let normalized = Self.formC(result) { result = normalized[...] }
        let hasMarks = mapsSpaceMarks && result.contains(SpaceMark.utf8[0])
        guard hasMarks || prependsSpace, !result.isEmpty else { return result }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(result.count + 1)
        if prependsSpace { bytes.append(SpaceMark.space) }
        if hasMarks {
            result.withUnsafeBufferPointer { SpaceMark.replace(in: $0, into: &bytes) }
        } else {
            bytes.append(contentsOf: result)
        }
        return bytes[...]
    }

    // MARK: - Form C

    /// The first byte of U+0300: below it every character is in form C and begins something new.
    private static let firstInteresting: UInt8 = 0xCC

    /// `text` in form C; nil if it is that already.
    ///
    /// - Parameter text: valid UTF-8.
    static func formC(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.contains(where: { $0 >= firstInteresting }) else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var changed = false
        // From one character below U+0300 that is followed by others to the next one below: nothing reaches across.
        var copied = text.startIndex
        var index = text.startIndex
        while index < text.endIndex {
            guard text[index] >= firstInteresting else {
                index += 1
                continue
            }
            var start = index
            if start > copied {
                start -= 1
                while start > copied, text[start] & 0xC0 == 0x80 { start -= 1 }
            }
            while index < text.endIndex, text[index] >= firstInteresting || text[index] & 0xC0 == 0x80 { index += 1 }
            result.append(contentsOf: text[copied..<start])
            let window = text[start..<index]
            if let normalized = normalize(window) {
                result.append(contentsOf: normalized)
                changed = true
            } else {
                result.append(contentsOf: window)
            }
            copied = index
        }
        guard changed else { return nil }
        result.append(contentsOf: text[copied...])
        return result
    }

    /// nil if nothing changes.
    private static func normalize(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        let string = String(decoding: text, as: UTF8.self)
        var span = string.utf8Span
        if span.checkForNFC(quickCheck: true) { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        for scalar in string._nfc { result.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter) }
        return result
    }
}
