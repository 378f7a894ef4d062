// Tandem — Apache-2.0

import Testing

/// Ids of calls are random, 24 characters behind `mark`; each becomes its number in order of appearance.
func numberingCallIDs(in text: String, after mark: String) -> String {
    var result = ""
    var rest = Substring(text)
    var known: [Substring] = []
    while let found = rest.firstRange(of: mark) {
        result += rest[..<found.upperBound]
        let id = rest[found.upperBound...].prefix { $0 != "\"" }
        #expect(id.utf8.count == 24)
        if !known.contains(id) { known.append(id) }
        result += "\((known.firstIndex(of: id) ?? -1) + 1)"
        rest = rest[id.endIndex...]
    }
    return result + rest
}
