// Tandem — Apache-2.0

/// Strings as Python sees them: sequences of code points, compared code point by code point.
///
/// Swift's own operations work on grapheme clusters and on canonical equivalence, which would render other text.
enum PythonText {
    /// `str.isspace`.
    static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return (9...13).contains(scalar.value) || (28...32).contains(scalar.value) }
        return scalar.properties.isWhitespace
    }

    static func equal(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }

    /// Code points and UTF-8 sort alike.
    static func precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }

    static func hasPrefix(_ text: String, _ prefix: String) -> Bool { text.utf8.starts(with: prefix.utf8) }

    static func hasSuffix(_ text: String, _ suffix: String) -> Bool {
        text.utf8.count >= suffix.utf8.count && text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
    }

    /// Strips white space, or the code points of `characters`.
    static func strip(_ text: String, _ characters: String?, leading: Bool, trailing: Bool) -> String {
        let set = characters.map { Set($0.unicodeScalars) }
        func isStripped(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? isSpace(scalar) }
        var scalars = Substring(text).unicodeScalars
        if leading { scalars = scalars.drop(while: isStripped) }
        if trailing {
            while let last = scalars.last, isStripped(last) { scalars.removeLast() }
        }
        return String(Substring(scalars))
    }

    /// The byte offsets at which `needle` (not empty) occurs, without overlap, `limit` of them at most.
    static func occurrences(of needle: [UInt8], in text: [UInt8], limit: Int = .max) -> [Int] {
        var found: [Int] = []
        var index = 0
        while index + needle.count <= text.count, found.count < limit {
            if text[index] == needle[0], text[index..<(index + needle.count)].elementsEqual(needle) {
                found.append(index)
                index += needle.count
            } else {
                index += 1
            }
        }
        return found
    }

    static func contains(_ text: String, _ needle: String) -> Bool {
        needle.isEmpty || !occurrences(of: Array(needle.utf8), in: Array(text.utf8), limit: 1).isEmpty
    }

    /// The pieces between the occurrences of `separator` (not empty).
    static func split(_ text: String, by separator: String, limit: Int) -> [String] {
        let bytes = Array(text.utf8)
        let needle = Array(separator.utf8)
        var pieces: [String] = []
        var start = 0
        for offset in occurrences(of: needle, in: bytes, limit: limit) {
            pieces.append(String(decoding: bytes[start..<offset], as: UTF8.self))
            start = offset + needle.count
        }
        pieces.append(String(decoding: bytes[start...], as: UTF8.self))
        return pieces
    }

    /// `str.split()`: the pieces between runs of white space; with a limit the last piece is the unsplit rest.
    static func splitAtSpace(_ text: String, limit: Int) -> [String] {
        var pieces: [String] = []
        var rest = Substring(text).unicodeScalars.drop(while: isSpace)
        while !rest.isEmpty {
            if pieces.count >= limit {
                pieces.append(String(Substring(rest)))
                break
            }
            let word = rest.prefix { !isSpace($0) }
            pieces.append(String(Substring(word)))
            rest = rest[word.endIndex...].drop(while: isSpace)
        }
        return pieces
    }

    static func capitalize(_ text: String) -> String {
        guard let first = text.unicodeScalars.first else { return text }
        let rest = text.unicodeScalars.dropFirst()
        return first.properties.titlecaseMapping + String(Substring(rest)).lowercased()
    }

    /// `repr(float)`: the shortest digits that round-trip, with an exponent below 1e-4 and from 1e16 on.
    static func number(_ value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if value == 0 { return value.sign == .minus ? "-0.0" : "0.0" }
        // Swift's description has the same digits; only its choice of notation differs.
        var digits = value.magnitude.description
        var exponent = 0
        if let mark = digits.firstIndex(of: "e") {
            exponent = Int(digits[digits.index(after: mark)...]) ?? 0
            digits = String(digits[..<mark])
        }
        let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
        var mantissa = Array((parts[0] + (parts.count > 1 ? parts[1] : "")).utf8)
        var point = parts[0].utf8.count + exponent
        let leadingZeros = mantissa.prefix { $0 == UInt8(ascii: "0") }.count
        mantissa.removeFirst(leadingZeros)
        point -= leadingZeros
        while mantissa.count > 1, mantissa.last == UInt8(ascii: "0") { mantissa.removeLast() }
        let text = String(decoding: mantissa, as: UTF8.self)
        let sign = value < 0 ? "-" : ""
        if point > 16 || point < -3 {
            let power = point - 1
            let fraction = text.utf8.count > 1 ? "." + text.dropFirst() : ""
            let padded = power.magnitude < 10 ? "0\(power.magnitude)" : "\(power.magnitude)"
            return sign + text.prefix(1) + fraction + "e" + (power < 0 ? "-" : "+") + padded
        }
        if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + text }
        if point >= text.utf8.count {
            return sign + text + String(repeating: "0", count: point - text.utf8.count) + ".0"
        }
        return sign + text.prefix(point) + "." + text.dropFirst(point)
    }

    /// `repr(str)`, for strings within printed lists.
    static func quoted(_ text: String) -> String {
        let quote: Unicode.Scalar = text.utf8.contains(39) && !text.utf8.contains(34) ? "\"" : "'"
        var result = String.UnicodeScalarView([quote])
        for scalar in text.unicodeScalars {
            switch scalar {
            case quote, "\\": result.append(contentsOf: ["\\", scalar])
            case "\n": result.append(contentsOf: "\\n".unicodeScalars)
            case "\r": result.append(contentsOf: "\\r".unicodeScalars)
            case "\t": result.append(contentsOf: "\\t".unicodeScalars)
            default:
                if scalar.value < 32 || (127..<160).contains(scalar.value) {
                    let digits = String(scalar.value, radix: 16)
                    result.append(contentsOf: ("\\x" + (digits.utf8.count < 2 ? "0" : "") + digits).unicodeScalars)
                } else {
                    result.append(scalar)
                }
            }
        }
        result.append(quote)
        return String(result)
    }
}
