// Tandem — Apache-2.0

/// Finds the few members that matter in JSON, in one pass and without making values. It does not check what it passes
/// over: who takes the bytes does that.
struct JSONCursor: ~Escapable {
    private let bytes: Span<UInt8>
    /// Where the next thing begins.
    private(set) var position: Int

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>, at position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    /// Calls `body` for each member of the object that begins here, with the key's place between its quotes; `body` has
    /// to step over the value.
    ///
    /// - Returns: whether there was an object, and whole.
    @_lifetime(self: copy self)
    mutating func members(_ body: (inout JSONCursor, Range<Int>) -> Bool) -> Bool {
        guard take(UInt8(ascii: "{")) else { return false }
        if take(UInt8(ascii: "}")) { return true }
        while true {
            guard let key = string(), take(UInt8(ascii: ":")), body(&self, key) else { return false }
            if take(UInt8(ascii: "}")) { return true }
            guard take(UInt8(ascii: ",")) else { return false }
        }
    }

    /// Calls `body` for each element of the array that begins here; `body` has to step over the element.
    @_lifetime(self: copy self)
    mutating func elements(_ body: (inout JSONCursor) -> Bool) -> Bool {
        guard take(UInt8(ascii: "[")) else { return false }
        if take(UInt8(ascii: "]")) { return true }
        while true {
            guard body(&self) else { return false }
            if take(UInt8(ascii: "]")) { return true }
            guard take(UInt8(ascii: ",")) else { return false }
        }
    }

    /// Steps over a string.
    ///
    /// - Returns: its place between the quotes, escapes as they are; nil if no string begins here.
    @_lifetime(self: copy self)
    mutating func string() -> Range<Int>? {
        guard take(UInt8(ascii: "\"")) else { return nil }
        let start = position
        var index = start
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") {
                position = index + 1
                return start..<index
            }
            index += byte == UInt8(ascii: "\\") ? 2 : 1
        }
        position = bytes.count
        return nil
    }

    /// Steps over a value of any kind.
    ///
    /// - Returns: its place; nil if it is not whole.
    @_lifetime(self: copy self)
    mutating func value() -> Range<Int>? {
        skipSpace()
        let start = position
        var depth = 0
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                guard string() != nil else { return nil }
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                position += 1
                continue
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                // The end of what is around a number or a word.
                guard depth > 0 else { return start < position ? start..<position : nil }
                depth -= 1
                position += 1
            case UInt8(ascii: ","), 0x20, 0x09, 0x0A, 0x0D:
                guard depth > 0 else { return start < position ? start..<position : nil }
                position += 1
                continue
            default:
                position += 1
                continue
            }
            if depth == 0 { return start..<position }
        }
        return depth == 0 && start < position ? start..<position : nil
    }

    /// The byte that comes next, after white space.
    @_lifetime(self: copy self)
    mutating func peek() -> UInt8? {
        skipSpace()
        return position < bytes.count ? bytes[position] : nil
    }

    /// Whether only white space is left.
    @_lifetime(self: copy self)
    mutating func isAtEnd() -> Bool { peek() == nil }

    /// Whether the bytes there are these.
    func matches(_ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        return text.withUTF8Buffer { text in
            for (index, byte) in text.enumerated() where bytes[range.lowerBound + index] != byte { return false }
            return true
        }
    }

    /// The whole number there; nil if it is none, or too large.
    func integer(_ range: Range<Int>) -> Int? {
        guard (1...15).contains(range.count) else { return nil }
        var value = 0
        for index in range {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            value = value * 10 + Int(digit)
        }
        return value
    }

    @_lifetime(self: copy self)
    private mutating func take(_ byte: UInt8) -> Bool {
        guard peek() == byte else { return false }
        position += 1
        return true
    }

    @_lifetime(self: copy self)
    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }
}
