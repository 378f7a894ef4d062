// Tandem — Apache-2.0

/// One pass over the bytes of a document, by recursive descent. The recursion is as deep as the limits allow.
struct JSONReader: ~Escapable {
    private let bytes: Span<UInt8>
    private let limits: JSONLimits
    private let maximumDepth: Int
    private var position = 0
    private var valueCount = 0
    /// Strings with escapes are put together here.
    private var scratch: [UInt8] = []

    /// Far from the end of any thread's stack, in debug builds and under sanitizers too.
    private static let greatestDepth = 512
    private static let maximumNumberBytes = 1024

    @_lifetime(copy bytes)
    init(_ bytes: Span<UInt8>, limits: JSONLimits) {
        self.bytes = bytes
        self.limits = limits
        maximumDepth = min(limits.maximumDepth, JSONReader.greatestDepth)
    }

    mutating func document() throws(JSONError) -> JSONValue {
        guard bytes.count <= limits.maximumBytes else {
            throw error("the input has \(bytes.count) bytes; \(limits.maximumBytes) are allowed", at: 0)
        }
        if bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF {
            throw error("a byte order mark is not allowed", at: 0)
        }
        skipWhitespace()
        let value = try value(depth: 0)
        skipWhitespace()
        guard position == bytes.count else { throw unexpected("the end of the input") }
        return value
    }

    // MARK: - Values

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        valueCount += 1
        guard valueCount <= limits.maximumValues else {
            throw error("there are more than \(limits.maximumValues) values")
        }
        guard let first = peek() else { throw unexpected("a value") }
        switch first {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "{"): return .object(try object(depth: depth + 1))
        case UInt8(ascii: "["): return .array(try array(depth: depth + 1))
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        case UInt8(ascii: "t"): return try literal("true", .bool(true))
        case UInt8(ascii: "f"): return try literal("false", .bool(false))
        case UInt8(ascii: "n"): return try literal("null", .null)
        default: throw unexpected("a value")
        }
    }

    private mutating func literal(_ word: String, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let start = position
        for byte in word.utf8 {
            guard take(byte) else { throw error("\(word) was expected", at: start) }
        }
        return value
    }

    private mutating func array(depth: Int) throws(JSONError) -> [JSONValue] {
        try enter(depth)
        var elements: [JSONValue] = []
        if take(UInt8(ascii: "]")) { return elements }
        while true {
            elements.append(try value(depth: depth))
            skipWhitespace()
            if take(UInt8(ascii: "]")) { return elements }
            guard take(UInt8(ascii: ",")) else { throw unexpected("a comma or the end of the array") }
            skipWhitespace()
        }
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONObject {
        try enter(depth)
        var object = JSONObject()
        if take(UInt8(ascii: "}")) { return object }
        while true {
            let start = position
            guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in quotation marks") }
            let key = try string()
            skipWhitespace()
            guard take(UInt8(ascii: ":")) else { throw unexpected("a colon") }
            skipWhitespace()
            guard object.insert(key, try value(depth: depth)) else {
                throw error("the key \(String(key.prefix(64)).debugDescription) stands here a second time", at: start)
            }
            skipWhitespace()
            if take(UInt8(ascii: "}")) { return object }
            guard take(UInt8(ascii: ",")) else { throw unexpected("a comma or the end of the object") }
            skipWhitespace()
        }
    }

    private mutating func enter(_ depth: Int) throws(JSONError) {
        guard depth <= maximumDepth else { throw error("arrays and objects nest deeper than \(maximumDepth)") }
        position += 1
        skipWhitespace()
    }

    // MARK: - Strings

    private mutating func string() throws(JSONError) -> String {
        position += 1
        var start = position
        try skipPlain()
        if peek() == UInt8(ascii: "\"") {
            defer { position += 1 }
            return String(copying: try validated(start..<position))
        }
        scratch.removeAll(keepingCapacity: true)
        while true {
            let run = try validated(start..<position)
            run.span.withUnsafeBufferPointer { scratch.append(contentsOf: $0) }
            if take(UInt8(ascii: "\"")) { return String(decoding: scratch, as: UTF8.self) }
            try escape()
            start = position
            try skipPlain()
        }
    }

    /// Goes to the next quotation mark or backslash.
    private mutating func skipPlain() throws(JSONError) {
        var end = position
        while end < bytes.count {
            let byte = bytes[end]
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                position = end
                return
            }
            guard byte >= 0x20 else {
                throw error("a control character in a string must be escaped", at: end)
            }
            end += 1
        }
        throw error("the input ends inside a string", at: bytes.count)
    }

    @_lifetime(copy self)
    private func validated(_ range: Range<Int>) throws(JSONError) -> UTF8Span {
        do throws(UTF8.ValidationError) {
            return try UTF8Span(validating: bytes.extracting(range))
        } catch {
            let offset = range.lowerBound + error.byteOffsets.lowerBound
            throw JSONError(offset: offset, reason: "a string is not valid UTF-8")
        }
    }

    /// Reads an escape from its backslash on and appends what it stands for.
    private mutating func escape() throws(JSONError) {
        let start = position
        position += 1
        guard let letter = peek() else { throw error("the input ends inside a string") }
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): scratch.append(letter)
        case UInt8(ascii: "b"): scratch.append(0x08)
        case UInt8(ascii: "f"): scratch.append(0x0C)
        case UInt8(ascii: "n"): scratch.append(0x0A)
        case UInt8(ascii: "r"): scratch.append(0x0D)
        case UInt8(ascii: "t"): scratch.append(0x09)
        case UInt8(ascii: "u"): try unicodeEscape(start)
        default: throw error("there is no such escape", at: start)
        }
    }

    private mutating func unicodeEscape(_ start: Int) throws(JSONError) {
        var code = try hexadecimal()
        if (0xD800...0xDBFF).contains(code) {
            guard take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
                throw error("the escape of a high surrogate stands alone", at: start)
            }
            let low = try hexadecimal()
            guard (0xDC00...0xDFFF).contains(low) else {
                throw error("the escape of a high surrogate is not followed by that of a low one", at: start)
            }
            code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(code) else {
            throw error("the escape of a low surrogate stands alone", at: start)
        }
        scratch.append(contentsOf: scalar.utf8)
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            let digit: UInt8
            switch peek() {
            case let byte? where (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte): digit = byte - 0x30
            case let byte? where (UInt8(ascii: "A")...UInt8(ascii: "F")).contains(byte): digit = byte - 0x41 + 10
            case let byte? where (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte): digit = byte - 0x61 + 10
            default: throw unexpected("one of four hexadecimal digits")
            }
            code = code << 4 | UInt32(digit)
            position += 1
        }
        return code
    }

    // MARK: - Numbers

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        let isNegative = take(UInt8(ascii: "-"))
        let first = position
        var magnitude: UInt64 = 0
        var fits = true
        while let digit = takeDigit() {
            let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            magnitude = sum
            fits = fits && !overflow && !carry
        }
        guard position > first else { throw unexpected("a digit") }
        guard bytes[first] != UInt8(ascii: "0") || position == first + 1 else {
            throw error("a number must not begin with a needless zero", at: start)
        }
        var isWhole = true
        if take(UInt8(ascii: ".")) {
            isWhole = false
            try digits()
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isWhole = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        if isWhole, fits {
            if isNegative, magnitude <= Int64.min.magnitude {
                return .integer(Int64(truncatingIfNeeded: 0 &- magnitude))
            }
            if let value = Int64(exactly: magnitude), !isNegative { return .integer(value) }
        }
        guard position - start <= JSONReader.maximumNumberBytes else {
            throw error("a number has more than \(JSONReader.maximumNumberBytes) characters", at: start)
        }
        let text = String(copying: try validated(start..<position))
        guard let value = Double(text), value.isFinite else {
            throw error("a number is too large for double precision", at: start)
        }
        return .number(value)
    }

    /// Steps over one digit at least.
    private mutating func digits() throws(JSONError) {
        guard takeDigit() != nil else { throw unexpected("a digit") }
        while takeDigit() != nil {}
    }

    // MARK: - Bytes

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < bytes.count, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func takeDigit() -> UInt8? {
        guard position < bytes.count else { return nil }
        let digit = bytes[position] &- UInt8(ascii: "0")
        guard digit < 10 else { return nil }
        position += 1
        return digit
    }

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private func error(_ reason: String, at offset: Int? = nil) -> JSONError {
        JSONError(offset: offset ?? position, reason: reason)
    }

    private func unexpected(_ expected: String) -> JSONError {
        guard let byte = peek() else { return error("the input ends where \(expected) was expected") }
        let found =
            (0x21...0x7E).contains(byte) ? "\"\(Unicode.Scalar(byte))\"" : "the byte 0x\(String(byte, radix: 16))"
        return error("\(found) stands where \(expected) was expected")
    }
}
