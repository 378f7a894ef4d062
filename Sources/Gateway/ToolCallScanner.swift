// Tandem — Apache-2.0

/// Follows a JSON object byte by byte and says where it ends, and where its members begin and end.
///
/// It accepts what RFC 8259 does, with a bounded depth. Text comes as valid UTF-8.
struct ToolCallScanner {
    /// What a byte meant.
    enum Event: Equatable {
        /// Nothing that a reader of members need know.
        case more
        /// First byte, a quotation mark, of the name of a member.
        case keyBegins
        /// Last byte, a quotation mark, of the name of a member.
        case keyEnds
        /// First byte of the value of a member.
        case valueBegins
        /// Last byte of the value of a member.
        case valueEnds
        /// The value of a member ended before this byte.
        case valueEnded
        /// The value of a member ended before this byte, and the object ends with it.
        case valueEndedAndObject
        /// Last byte of the object.
        case objectEnds
        /// The byte cannot stand here; the scanner is of no more use.
        case malformed
    }

    private enum State: Equatable {
        case start
        case value
        case firstKey
        case key
        case colon
        case afterValue
        case firstElement
        case string(isKey: Bool)
        case escape(isKey: Bool)
        case unicode(isKey: Bool, left: Int)
        case number(NumberState)
        case literal(Literal, matched: Int)
        case finished
    }

    private enum NumberState { case sign, zero, integer, point, fraction, exponent, exponentSign, exponentDigits }

    private enum Literal: String {
        case yes = "true"
        case no = "false"
        case null = "null"
    }

    static let maximumDepth = 64

    private var state = State.start
    /// The brackets that are open: whether each is of an object.
    private var isObject: [Bool] = []

    /// Whether the value of a member is under way.
    private(set) var isInMemberValue = false

    /// Takes one byte. White space before the object counts as part of it.
    mutating func take(_ byte: UInt8) -> Event {
        switch state {
        case .start:
            if Self.isSpace(byte) { return .more }
            guard byte == UInt8(ascii: "{") else { return .malformed }
            isObject = [true]
            state = .firstKey
            return .more
        case .firstKey, .key: return takeKey(byte)
        case .colon:
            if Self.isSpace(byte) { return .more }
            guard byte == UInt8(ascii: ":") else { return .malformed }
            state = .value
            return .more
        case .value, .firstElement: return takeValue(byte)
        case .afterValue: return takeAfterValue(byte)
        case .string(let isKey): return takeString(byte, isKey: isKey)
        case .escape(let isKey):
            switch byte {
            case UInt8(ascii: "u"): state = .unicode(isKey: isKey, left: 4)
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
                UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
                state = .string(isKey: isKey)
            default: return .malformed
            }
            return .more
        case .unicode(let isKey, let left):
            guard Self.isHexadecimal(byte) else { return .malformed }
            state = left == 1 ? .string(isKey: isKey) : .unicode(isKey: isKey, left: left - 1)
            return .more
        case .number(let number): return takeNumber(byte, number)
        case .literal(let literal, let matched):
            let text = Array(literal.rawValue.utf8)
            guard text[matched] == byte else { return .malformed }
            guard matched + 1 == text.count else {
                state = .literal(literal, matched: matched + 1)
                return .more
            }
            return valueEnds()
        case .finished: return .malformed
        }
    }

    private mutating func takeKey(_ byte: UInt8) -> Event {
        if Self.isSpace(byte) { return .more }
        if byte == UInt8(ascii: "}"), state == .firstKey { return close() }
        guard byte == UInt8(ascii: "\"") else { return .malformed }
        state = .string(isKey: true)
        return isObject.count == 1 ? .keyBegins : .more
    }

    private mutating func takeValue(_ byte: UInt8) -> Event {
        if Self.isSpace(byte) { return .more }
        if byte == UInt8(ascii: "]"), state == .firstElement { return close() }
        let begins = isObject.count == 1
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard isObject.count < Self.maximumDepth else { return .malformed }
            isObject.append(byte == UInt8(ascii: "{"))
            state = byte == UInt8(ascii: "{") ? .firstKey : .firstElement
        case UInt8(ascii: "\""): state = .string(isKey: false)
        case UInt8(ascii: "-"): state = .number(.sign)
        case UInt8(ascii: "0"): state = .number(.zero)
        case UInt8(ascii: "1")...UInt8(ascii: "9"): state = .number(.integer)
        case UInt8(ascii: "t"): state = .literal(.yes, matched: 1)
        case UInt8(ascii: "f"): state = .literal(.no, matched: 1)
        case UInt8(ascii: "n"): state = .literal(.null, matched: 1)
        default: return .malformed
        }
        guard begins else { return .more }
        isInMemberValue = true
        return .valueBegins
    }

    private mutating func takeAfterValue(_ byte: UInt8) -> Event {
        if Self.isSpace(byte) { return .more }
        let inObject = isObject.last ?? false
        switch byte {
        case UInt8(ascii: ","):
            state = inObject ? .key : .value
            return .more
        case UInt8(ascii: "}"): return inObject ? close() : .malformed
        case UInt8(ascii: "]"): return inObject ? .malformed : close()
        default: return .malformed
        }
    }

    private mutating func takeString(_ byte: UInt8, isKey: Bool) -> Event {
        switch byte {
        case UInt8(ascii: "\\"):
            state = .escape(isKey: isKey)
            return .more
        case UInt8(ascii: "\""):
            guard isKey else { return valueEnds() }
            state = .colon
            return isObject.count == 1 ? .keyEnds : .more
        default: return byte < 0x20 ? .malformed : .more
        }
    }

    private mutating func takeNumber(_ byte: UInt8, _ number: NumberState) -> Event {
        let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        let isExponent = byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E")
        switch number {
        case .sign where isDigit: state = .number(byte == UInt8(ascii: "0") ? .zero : .integer)
        case .integer where isDigit: break
        case .zero where byte == UInt8(ascii: "."), .integer where byte == UInt8(ascii: "."): state = .number(.point)
        case .zero where isExponent, .integer where isExponent, .fraction where isExponent: state = .number(.exponent)
        case .point where isDigit, .fraction where isDigit: state = .number(.fraction)
        case .exponent where byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-"): state = .number(.exponentSign)
        case .exponent where isDigit, .exponentSign where isDigit, .exponentDigits where isDigit:
            state = .number(.exponentDigits)
        case .zero, .integer, .fraction, .exponentDigits:
            // The number ended before this byte.
            state = .afterValue
            let endedMember = isObject.count == 1
            if endedMember { isInMemberValue = false }
            let event = takeAfterValue(byte)
            guard endedMember, event != .malformed else { return event }
            return event == .objectEnds ? .valueEndedAndObject : .valueEnded
        case .sign, .point, .exponent, .exponentSign: return .malformed
        }
        return .more
    }

    private mutating func close() -> Event {
        isObject.removeLast()
        guard isObject.isEmpty else { return valueEnds() }
        state = .finished
        return .objectEnds
    }

    /// A value ended with the byte at hand.
    private mutating func valueEnds() -> Event {
        state = .afterValue
        guard isObject.count == 1 else { return .more }
        isInMemberValue = false
        return .valueEnds
    }

    static func isSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
            || byte == UInt8(ascii: "\t")
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}
