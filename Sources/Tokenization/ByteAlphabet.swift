// Tandem — Apache-2.0

/// The alphabet in which byte-level vocabularies are written: every byte is one printable character.
///
/// Source: `bytes_to_unicode` of GPT-2 (Radford et al., 2019). The printable bytes 33...126, 161...172 and 174...255
/// stand for themselves; the others, in order, are U+0100, U+0101 and so on.
enum ByteAlphabet {
    /// The code point of each byte.
    static let scalars: [UInt16] = {
        var next: UInt16 = 256
        return (0..<256).map { byte in
            if (33...126).contains(byte) || (161...172).contains(byte) || (174...255).contains(byte) {
                return UInt16(byte)
            }
            defer { next += 1 }
            return next
        }
    }()

    /// The byte of each code point below 324, or -1.
    static let bytes: [Int16] = {
        var table = [Int16](repeating: -1, count: 324)
        for (byte, scalar) in scalars.enumerated() { table[Int(scalar)] = Int16(byte) }
        return table
    }()

    /// Appends the bytes that `text` (UTF-8) stands for.
    ///
    /// - Returns: false, with nothing appended, if a character is not of the alphabet.
    static func decode(_ text: UnsafeBufferPointer<UInt8>, into result: inout [UInt8]) -> Bool {
        let start = result.count
        var index = 0
        bytes.withUnsafeBufferPointer { table in
            while index < text.count {
                let first = text[index]
                var scalar = Int(first)
                var length = 1
                if first >= 0x80 {
                    // The alphabet ends at U+0143: two UTF-8 bytes at most.
                    guard first & 0xE0 == 0xC0, index + 1 < text.count else { return }
                    scalar = Int(first & 0x1F) << 6 | Int(text[index + 1] & 0x3F)
                    length = 2
                }
                guard scalar < table.count, table[scalar] >= 0 else { return }
                result.append(UInt8(table[scalar]))
                index += length
            }
        }
        if index < text.count {
            result.removeSubrange(start...)
            return false
        }
        return true
    }

    /// The text that stands for `bytes`.
    static func encode(_ bytes: some Sequence<UInt8>) -> String {
        var text = String.UnicodeScalarView()
        for byte in bytes {
            if let scalar = Unicode.Scalar(scalars[Int(byte)]) { text.append(scalar) }
        }
        return String(text)
    }
}
