// Tandem — Apache-2.0

/// Header fields in the order they were sent or added. Names are compared without regard to ASCII case.
public struct HTTPHeaders: Sendable, ExpressibleByDictionaryLiteral {
    /// One field line.
    public struct Field: Sendable, Equatable {
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// All fields, in order.
    public private(set) var fields: [Field]

    public init() {
        fields = []
    }

    public init(dictionaryLiteral elements: (String, String)...) {
        fields = elements.map { Field(name: $0.0, value: $0.1) }
    }

    init(fields: [Field]) {
        self.fields = fields
    }

    /// The value of the first field of this name.
    public subscript(name: String) -> String? {
        for index in fields.indices where isField(index, named: name) { return fields[index].value }
        return nil
    }

    /// Compares lengths first, which nearly always differ and cost nothing to look at.
    private func isField(_ index: Int, named name: String) -> Bool {
        fields[index].name.utf8.count == name.utf8.count && ASCII.equalIgnoringCase(fields[index].name, name)
    }

    /// The values of all fields of this name, in order.
    public func values(named name: String) -> [String] {
        var values: [String] = []
        for index in fields.indices where isField(index, named: name) { values.append(fields[index].value) }
        return values
    }

    /// The fields that pass on to the next connection: without those that concern one only (RFC 9110, section 7.6.1), the
    /// ones that these name, and others.
    public func passed(without others: [String]) -> HTTPHeaders {
        let named = list(named: "Connection")
        var passed = HTTPHeaders()
        passed.fields.reserveCapacity(fields.count + 3)
        for field in fields where !Self.isOfConnection(field.name) {
            guard !others.contains(where: { ASCII.equalIgnoringCase($0, field.name) }),
                !named.contains(where: { ASCII.equalIgnoringCase($0, field.name) })
            else { continue }
            passed.fields.append(field)
        }
        return passed
    }

    private static func isOfConnection(_ name: String) -> Bool {
        switch name.utf8.count {
        case 2: return ASCII.equalIgnoringCase(name, "te")
        case 6: return ASCII.equalIgnoringCase(name, "expect")
        case 7: return ASCII.equalIgnoringCase(name, "trailer") || ASCII.equalIgnoringCase(name, "upgrade")
        case 10: return ASCII.equalIgnoringCase(name, "connection") || ASCII.equalIgnoringCase(name, "keep-alive")
        case 14:
            return ASCII.equalIgnoringCase(name, "content-length") || ASCII.equalIgnoringCase(name, "http2-settings")
        case 16: return ASCII.equalIgnoringCase(name, "proxy-connection")
        case 17: return ASCII.equalIgnoringCase(name, "transfer-encoding")
        case 18: return ASCII.equalIgnoringCase(name, "proxy-authenticate")
        case 19: return ASCII.equalIgnoringCase(name, "proxy-authorization")
        default: return false
        }
    }

    /// Adds a field, beside others of the same name.
    public mutating func add(_ name: String, _ value: String) {
        fields.append(Field(name: name, value: value))
    }

    /// Adds a field in place of all others of the same name.
    public mutating func set(_ name: String, _ value: String) {
        fields.removeAll { ASCII.equalIgnoringCase($0.name, name) }
        add(name, value)
    }

    /// The comma-separated members of all fields of this name, without blanks and empty members.
    public func list(named name: String) -> [String] {
        values(named: name).flatMap { value in
            value.split(separator: ",").compactMap { member in
                let trimmed = ASCII.trimmingBlanks(member)
                return trimmed.isEmpty ? nil : String(trimmed)
            }
        }
    }
}

/// The parts of ASCII that HTTP needs.
enum ASCII {
    static func lowercased(_ byte: UInt8) -> UInt8 {
        byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
    }

    static func equalIgnoringCase(_ first: some StringProtocol, _ second: some StringProtocol) -> Bool {
        let (first, second) = (first.utf8, second.utf8)
        guard first.count == second.count else { return false }
        let inPlace = first.withContiguousStorageIfAvailable { first in
            second.withContiguousStorageIfAvailable { second in
                var index = 0
                while index < first.count, lowercased(first[index]) == lowercased(second[index]) { index += 1 }
                return index == first.count
            } ?? nil
        }
        return (inPlace ?? nil) ?? zip(first, second).allSatisfy { lowercased($0) == lowercased($1) }
    }

    static func all(_ text: String, _ isAllowed: (UInt8) -> Bool) -> Bool {
        text.utf8.withContiguousStorageIfAvailable { bytes in
            for byte in bytes where !isAllowed(byte) { return false }
            return true
        } ?? text.utf8.allSatisfy(isAllowed)
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

    static func hexadecimalValue(_ byte: UInt8) -> Int? {
        switch byte {
        case 0x30...0x39: Int(byte) - 0x30
        case 0x41...0x46: Int(byte) - 0x41 + 10
        case 0x61...0x66: Int(byte) - 0x61 + 10
        default: nil
        }
    }

    /// Whether a byte may stand in a token (RFC 9110, section 5.6.2).
    static func isTokenCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        case 0x21, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C, 0x7E: true
        default: false
        }
    }

    /// Whether a byte may stand in a field value: visible, blank, tab or beyond ASCII.
    static func isFieldValueCharacter(_ byte: UInt8) -> Bool {
        byte == 0x09 || (byte >= 0x20 && byte != 0x7F)
    }

    static func trimmingBlanks(_ text: Substring) -> Substring {
        var text = text
        while let first = text.utf8.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
        while let last = text.utf8.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
        return text
    }
}
