// Tandem — Apache-2.0

/// A piece of a template's source.
enum TemplateToken: Sendable, Equatable {
    case text(String)
    case outputBegin
    case outputEnd
    case tagBegin
    case tagEnd
    case name(String)
    case string(String)
    case integer(Int64)
    case number(Double)
    case symbol(String)
    case end
}

/// Splits a template as Jinja does with `trim_blocks` and `lstrip_blocks`, which is how Hugging Face renders.
struct TemplateLexer {
    private let source: [Unicode.Scalar]
    private var position = 0
    private var line = 1
    /// Whether the text that follows begins a line.
    private var lineStarting = true
    private(set) var tokens: [(token: TemplateToken, line: Int)] = []

    private enum Opening { case output, tag, comment }

    static func tokens(of source: String) throws(ChatTemplateError) -> [(token: TemplateToken, line: Int)] {
        guard source.utf8.count <= TemplateLimits.sourceBytes else {
            throw ChatTemplateError(
                kind: .limit, line: 0, reason: "more than \(TemplateLimits.sourceBytes) bytes of source")
        }
        var lexer = TemplateLexer(source)
        try lexer.run()
        return lexer.tokens
    }

    private init(_ text: String) {
        // Newlines of any kind are \n; one at the end of the source is not part of the template.
        var scalars: [Unicode.Scalar] = []
        var afterReturn = false
        for scalar in text.unicodeScalars {
            if scalar == "\n", afterReturn {
                afterReturn = false
                continue
            }
            afterReturn = scalar == "\r"
            scalars.append(afterReturn ? "\n" : scalar)
        }
        if scalars.last == "\n" { scalars.removeLast() }
        source = scalars
    }

    private func failure(_ reason: String) -> ChatTemplateError {
        ChatTemplateError(kind: .syntax, line: line, reason: reason)
    }

    private mutating func emit(_ token: TemplateToken) { tokens.append((token, line)) }

    private func peek(_ offset: Int = 0) -> Unicode.Scalar? {
        position + offset < source.count ? source[position + offset] : nil
    }

    private mutating func advance(_ count: Int = 1) {
        for _ in 0..<count where position < source.count {
            if source[position] == "\n" { line += 1 }
            position += 1
        }
    }

    private mutating func run() throws(ChatTemplateError) {
        while position < source.count {
            guard let opening = readText() else { break }
            switch opening {
            case .comment: try skipComment()
            case .output:
                emit(.outputBegin)
                try readExpression(closing: "}")
                emit(.outputEnd)
            case .tag:
                emit(.tagBegin)
                try readExpression(closing: "%")
                emit(.tagEnd)
            }
        }
        emit(.end)
    }

    /// Reads up to and including the next opening mark; nil if there is none.
    private mutating func readText() -> Opening? {
        let start = position
        var found = position
        var opening: Opening?
        while found + 1 < source.count {
            if source[found] == "{" {
                switch source[found + 1] {
                case "{": opening = .output
                case "%": opening = .tag
                case "#": opening = .comment
                default: break
                }
                if opening != nil { break }
            }
            found += 1
        }
        guard let opening else {
            emitText(start..<source.count)
            position = source.count
            return nil
        }
        var end = found
        let sign = found + 2 < source.count ? source[found + 2] : nil
        if sign == "-" {
            while end > start, PythonText.isSpace(source[end - 1]) { end -= 1 }
        } else if sign != "+", opening != .output {
            var lineStart = end
            while lineStart > start, source[lineStart - 1] != "\n" { lineStart -= 1 }
            if lineStart > start || lineStarting, source[lineStart..<end].allSatisfy(PythonText.isSpace) {
                end = lineStart
            }
        }
        emitText(start..<end)
        advance(found - start + (sign == "-" || sign == "+" ? 3 : 2))
        return opening
    }

    private mutating func emitText(_ range: Range<Int>) {
        if range.isEmpty { return }
        var text = String.UnicodeScalarView()
        text.append(contentsOf: source[range])
        emit(.text(String(text)))
    }

    private mutating func skipComment() throws(ChatTemplateError) {
        let opened = line
        let start = position
        while let scalar = peek() {
            if scalar == "#", peek(1) == "}" {
                close(sign: position > start ? source[position - 1] : "#", length: 2, trimsNewline: true)
                return
            }
            advance()
        }
        line = opened
        throw failure("a comment does not end")
    }

    /// Passes a closing mark of `length`, and the white space after it that its sign and kind take away.
    private mutating func close(sign: Unicode.Scalar?, length: Int, trimsNewline: Bool) {
        advance(length)
        if sign == "-" {
            while let scalar = peek(), PythonText.isSpace(scalar) { advance() }
        } else if sign != "+", trimsNewline, peek() == "\n" {
            advance()
        }
        lineStarting = position > 0 && source[position - 1] == "\n"
    }

    private mutating func readExpression(closing: Unicode.Scalar) throws(ChatTemplateError) {
        let opened = line
        var brackets: [Unicode.Scalar] = []
        let isTag = closing == "%"
        var isFirst = true
        while let scalar = peek() {
            if brackets.isEmpty {
                if scalar == closing, peek(1) == "}" { return close(sign: nil, length: 2, trimsNewline: isTag) }
                if scalar == "-" || (isTag && scalar == "+"), peek(1) == closing, peek(2) == "}" {
                    return close(sign: scalar, length: 3, trimsNewline: isTag)
                }
            }
            if PythonText.isSpace(scalar) {
                advance()
                continue
            }
            if let name = readName() {
                if isTag, isFirst, name == "raw" {
                    throw ChatTemplateError(kind: .unsupported, line: line, reason: "the tag raw is not supported")
                }
                emit(.name(name))
            } else if ("0"..."9").contains(scalar) {
                try readNumber()
            } else if scalar == "'" || scalar == "\"" {
                try readString(quote: scalar)
            } else {
                try readSymbol(scalar, &brackets)
            }
            isFirst = false
        }
        line = opened
        throw failure(isTag ? "a tag does not end" : "an output does not end")
    }

    private mutating func readName() -> String? {
        var name = ""
        while let scalar = peek(), scalar.isASCII, scalar == "_" || scalar.properties.isAlphabetic || isDigit(scalar) {
            if name.isEmpty, isDigit(scalar) { return nil }
            name.unicodeScalars.append(scalar)
            advance()
        }
        return name.isEmpty ? nil : name
    }

    private func isDigit(_ scalar: Unicode.Scalar?) -> Bool { scalar.map { ("0"..."9").contains($0) } ?? false }

    private mutating func readNumber() throws(ChatTemplateError) {
        var text = ""
        var isFloat = false
        func take(_ lexer: inout TemplateLexer) {
            if let scalar = lexer.peek(), scalar != "_" { text.unicodeScalars.append(scalar) }
            lexer.advance()
        }
        // `messages.0.content`: after a dot the digits are an attribute.
        let afterDot = tokens.last?.token == .symbol(".")
        while isDigit(peek()) || (peek() == "_" && isDigit(peek(1))) { take(&self) }
        if !afterDot, peek() == ".", isDigit(peek(1)) {
            isFloat = true
            take(&self)
            while isDigit(peek()) || (peek() == "_" && isDigit(peek(1))) { take(&self) }
        }
        let sign = peek(1) == "+" || peek(1) == "-"
        if !afterDot, peek() == "e" || peek() == "E", isDigit(peek(sign ? 2 : 1)) {
            isFloat = true
            take(&self)
            if sign { take(&self) }
            while isDigit(peek()) { take(&self) }
        }
        if isFloat, let value = Double(text) {
            emit(.number(value))
        } else if let value = Int64(text), text == "0" || !text.hasPrefix("0") || value == 0 {
            emit(.integer(value))
        } else {
            throw failure("\(text) is not a number, or too large")
        }
    }

    private mutating func readString(quote: Unicode.Scalar) throws(ChatTemplateError) {
        advance()
        var text = String.UnicodeScalarView()
        while let scalar = peek() {
            advance()
            if scalar == quote {
                emit(.string(String(text)))
                return
            }
            if scalar == "\\" { try readEscape(into: &text) } else { text.append(scalar) }
        }
        throw failure("a string does not end")
    }

    /// The escapes of Python's string literals. One that Python does not know stands for itself.
    private mutating func readEscape(into text: inout String.UnicodeScalarView) throws(ChatTemplateError) {
        guard let scalar = peek() else { throw failure("a string does not end") }
        advance()
        switch scalar {
        case "\n": break
        case "n": text.append("\n")
        case "t": text.append("\t")
        case "r": text.append("\r")
        case "b": text.append("\u{08}")
        case "f": text.append("\u{0C}")
        case "v": text.append("\u{0B}")
        case "a": text.append("\u{07}")
        case "\\", "'", "\"": text.append(scalar)
        case "x", "u", "U":
            let length = scalar == "x" ? 2 : scalar == "u" ? 4 : 8
            var digits = ""
            while digits.utf8.count < length, let digit = peek(), digit.isASCII, digit.properties.isASCIIHexDigit {
                digits.unicodeScalars.append(digit)
                advance()
            }
            guard digits.utf8.count == length, let value = UInt32(digits, radix: 16),
                let character = Unicode.Scalar(value)
            else { throw failure("\\\(scalar)\(digits) is not a character") }
            text.append(character)
        case "0"..."7":
            var value = scalar.value - 48
            var count = 1
            while count < 3, let digit = peek(), ("0"..."7").contains(digit) {
                value = value * 8 + digit.value - 48
                count += 1
                advance()
            }
            if let character = Unicode.Scalar(value) { text.append(character) }
        default:
            text.append("\\")
            text.append(scalar)
        }
    }

    private mutating func readSymbol(
        _ scalar: Unicode.Scalar, _ brackets: inout [Unicode.Scalar]
    ) throws(ChatTemplateError) {
        var symbol = String(scalar)
        if let next = peek(1), ["==", "!=", ">=", "<=", "//", "**"].contains(symbol + String(next)) {
            symbol += String(next)
        }
        switch scalar {
        case "(", "[", "{":
            brackets.append(scalar == "(" ? ")" : scalar == "[" ? "]" : "}")
        case ")", "]", "}":
            guard brackets.popLast() == scalar else { throw failure("unexpected \(symbol)") }
        case "+", "-", "*", "/", "%", "~", ".", ":", "|", ",", "<", ">", "=": break
        default:
            guard symbol == "!=" else { throw failure("unexpected character \(symbol)") }
        }
        emit(.symbol(symbol))
        advance(symbol.unicodeScalars.count)
    }
}
