// Tandem — Apache-2.0

/// The four classes of characters that the splitting patterns of byte-level tokenizers tell apart.
enum ScalarClass: UInt8 {
    /// `\p{L}`
    case letter
    /// `\p{N}`
    case number
    /// `\s`: the Unicode property White_Space.
    case whitespace
    /// None of the above.
    case other

    init(_ scalar: Unicode.Scalar) {
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            self = .letter
        case .decimalNumber, .letterNumber, .otherNumber: self = .number
        default: self = scalar.properties.isWhitespace ? .whitespace : .other
        }
    }

    private static let ascii: [ScalarClass] = (0..<128).map { ScalarClass(Unicode.Scalar(UInt8($0))) }

    /// The class of the character that each byte of `text` belongs to.
    ///
    /// - Parameter text: valid UTF-8 (malformed bytes count as `other`).
    static func classify(_ text: ArraySlice<UInt8>) -> [ScalarClass] {
        let table = ascii
        var classes = [ScalarClass]()
        classes.reserveCapacity(text.count)
        var index = text.startIndex
        while index < text.endIndex {
            let first = text[index]
            if first < 0x80 {
                classes.append(table[Int(first)])
                index += 1
                continue
            }
            let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
            var value = UInt32(first) & (length == 4 ? 0x07 : length == 3 ? 0x0F : 0x1F)
            let end = min(index + length, text.endIndex)
            for byte in text[(index + 1)..<end] { value = value << 6 | UInt32(byte & 0x3F) }
            let scalarClass = Unicode.Scalar(value).map(ScalarClass.init) ?? .other
            for _ in index..<end { classes.append(scalarClass) }
            index = end
        }
        return classes
    }
}

extension ScalarClass {
    /// The number of bytes of white space that `text` begins with.
    static func whitespaceAtStart(of text: ArraySlice<UInt8>) -> Int {
        var index = text.startIndex
        while index < text.endIndex {
            let end = min(index + length(ofScalarStartingWith: text[index]), text.endIndex)
            guard classify(text[index..<end]).first == .whitespace else { break }
            index = end
        }
        return index - text.startIndex
    }

    /// The number of bytes of white space that `text` ends with.
    static func whitespaceAtEnd(of text: ArraySlice<UInt8>) -> Int {
        var end = text.endIndex
        while end > text.startIndex {
            var start = end - 1
            while start > text.startIndex, text[start] & 0xC0 == 0x80 { start -= 1 }
            guard classify(text[start..<end]).first == .whitespace else { break }
            end = start
        }
        return text.endIndex - end
    }

    /// How many bytes a character has, from its first.
    @inline(__always)
    static func length(ofScalarStartingWith first: UInt8) -> Int {
        first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1
    }
}
