// Tandem — Apache-2.0

/// Reads grammars in the notation of llama.cpp.
///
///     root  ::= pair ("," pair)*     # a comment
///     pair  ::= [a-z]{1,8} "=" value
///     value ::= "true" | "false" | [^\x00-\x1F,=]+
///
/// A rule ends with its line, unless a parenthesis is open or the next line begins with `|`.
struct GBNFParser {
    private let scalars: [Unicode.Scalar]
    private var position = 0
    private var line = 1
    private var lineStart = 0
    private var depth = 0
    private var rules = RuleSet()
    private var numbers: [String: Int] = [:]
    private var isDefined: [Bool] = []

    /// The rules of a grammar; its root is the rule of that name.
    static func rules(_ text: String) throws(GrammarError) -> RuleSet {
        var parser = GBNFParser(text)
        return try parser.grammar()
    }

    private init(_ text: String) { scalars = Array(text.unicodeScalars) }

    // MARK: - Structure

    private mutating func grammar() throws(GrammarError) -> RuleSet {
        skipSpace(overLines: true)
        while peek() != nil {
            try definition()
            skipSpace(overLines: true)
        }
        guard let root = numbers["root"], isDefined[root] else {
            throw error(.malformed, "there is no rule `root`")
        }
        for rule in rules.expressions.indices where !isDefined[rule] {
            throw GrammarError(
                kind: .malformed, place: rules.places[rule], reason: "the rule `\(rules.names[rule])` is not defined")
        }
        rules.root = root
        rules.substituteSmallRules()
        return rules
    }

    private mutating func definition() throws(GrammarError) {
        let place = self.place
        guard let name = name() else { throw error(.malformed, "the name of a rule was expected") }
        skipSpace(overLines: false)
        guard take(":"), take(":"), take("=") else {
            throw error(.malformed, "::= was expected behind the rule's name")
        }
        let rule = try number(of: name, place)
        guard !isDefined[rule] else {
            throw GrammarError(kind: .malformed, place: place, reason: "the rule `\(name)` is defined a second time")
        }
        isDefined[rule] = true
        rules.places[rule] = place
        skipSpace(overLines: true)
        rules.expressions[rule] = try alternatives(isNested: false)
        guard peek() == nil || peek()?.isLineBreak == true else {
            throw error(.malformed, "the end of the rule was expected")
        }
    }

    private mutating func number(of name: String, _ place: String) throws(GrammarError) -> Int {
        if let known = numbers[name] { return known }
        guard numbers.count < GrammarLimits.rules else {
            throw error(.tooComplex, "there are more than \(GrammarLimits.rules) rules")
        }
        let rule = rules.reserve(name: name, place: place)
        numbers[name] = rule
        isDefined.append(false)
        return rule
    }

    private mutating func alternatives(isNested: Bool) throws(GrammarError) -> Expression {
        var branches = [try sequence(isNested)]
        while true {
            if !isNested { skipToContinuation() }
            guard take("|") else { break }
            skipSpace(overLines: true)
            branches.append(try sequence(isNested))
        }
        return branches.count == 1 ? branches[0] : .choice(branches)
    }

    /// Goes over line breaks if a line follows that begins with `|`.
    private mutating func skipToContinuation() {
        let (position, line, lineStart) = (self.position, self.line, self.lineStart)
        skipSpace(overLines: true)
        if peek() != "|" { (self.position, self.line, self.lineStart) = (position, line, lineStart) }
    }

    private mutating func sequence(_ isNested: Bool) throws(GrammarError) -> Expression {
        var elements: [Expression] = []
        while let next = peek(), let element = try element(next) {
            skipSpace(overLines: isNested)
            elements.append(try quantify(element, isNested))
        }
        return elements.count == 1 ? elements[0] : .sequence(elements)
    }

    /// What begins with a character; nil if nothing does.
    private mutating func element(_ next: Unicode.Scalar) throws(GrammarError) -> Expression? {
        switch next {
        case "\"": return try literal()
        case "[": return .characters(try characterClass())
        case ".":
            position += 1
            return .characters(.all)
        case "(":
            let start = place
            position += 1
            depth += 1
            defer { depth -= 1 }
            guard depth <= GrammarLimits.nesting else {
                throw error(.tooComplex, "groups nest deeper than \(GrammarLimits.nesting)")
            }
            skipSpace(overLines: true)
            let body = try alternatives(isNested: true)
            guard take(")") else {
                throw GrammarError(kind: .malformed, place: start, reason: "the parenthesis is not closed")
            }
            return body
        case "*", "+", "?", "{": throw error(.malformed, "there is nothing before this to repeat")
        case "<", "!": throw error(.unsupported, "tokens cannot be named; write their text")
        default:
            let place = self.place
            guard let name = name() else { return nil }
            return .rule(try number(of: name, place))
        }
    }

    /// Takes what repeats an element, with space before it; several of them count from the inside out.
    private mutating func quantify(_ element: Expression, _ isNested: Bool) throws(GrammarError) -> Expression {
        var result = element
        var count = 0
        while true {
            var minimum = 0
            var maximum: Int?
            if take("*") {
            } else if take("+") {
                minimum = 1
            } else if take("?") {
                maximum = 1
            } else if peek() == "{" {
                (minimum, maximum) = try counts()
            } else {
                return result
            }
            count += 1
            // More than a few are a mistake.
            guard count <= 4 else { throw error(.malformed, "too many quantifiers stand behind one another") }
            result = .repetition(result, minimum: minimum, maximum: maximum)
            skipSpace(overLines: isNested)
        }
    }

    private mutating func counts() throws(GrammarError) -> (Int, Int?) {
        position += 1
        skipSpace(overLines: false)
        guard let minimum = try count() else { throw error(.malformed, "a count was expected") }
        skipSpace(overLines: false)
        var maximum: Int? = minimum
        if take(",") {
            skipSpace(overLines: false)
            maximum = try count()
            skipSpace(overLines: false)
        }
        if let maximum, maximum < minimum { throw error(.malformed, "the counts are in the wrong order") }
        guard take("}") else { throw error(.malformed, "} was expected behind the counts") }
        return (minimum, maximum)
    }

    private mutating func count() throws(GrammarError) -> Int? {
        var value: Int?
        while let digit = peek(), ("0"..."9").contains(digit) {
            value = (value ?? 0) * 10 + Int(digit.value - 48)
            guard value ?? 0 <= GrammarLimits.repetitions else {
                throw error(.tooComplex, "the count is greater than \(GrammarLimits.repetitions)")
            }
            position += 1
        }
        return value
    }

    // MARK: - Characters

    private mutating func literal() throws(GrammarError) -> Expression {
        let start = place
        position += 1
        var text = String.UnicodeScalarView()
        while let next = advance() {
            if next == "\"" { return .literal(String(text)) }
            text.append(next == "\\" ? try escape() : next)
        }
        throw GrammarError(kind: .malformed, place: start, reason: "the literal is not closed")
    }

    private mutating func characterClass() throws(GrammarError) -> CodePointSet {
        let start = place
        position += 1
        let isNegated = take("^")
        var ranges: [ClosedRange<UInt32>] = []
        while let next = advance() {
            if next == "]" {
                let set = CodePointSet(ranges)
                return isNegated ? set.inverted : set
            }
            let low = next == "\\" ? try escape() : next
            var high = low
            if peek() == "-", position + 1 < scalars.count, scalars[position + 1] != "]" {
                position += 1
                guard let last = advance() else { break }
                high = last == "\\" ? try escape() : last
                guard low <= high else { throw error(.malformed, "the range is in the wrong order") }
            }
            ranges.append(low.value...high.value)
        }
        throw GrammarError(kind: .malformed, place: start, reason: "the class is not closed")
    }

    /// Reads what stands behind a backslash.
    private mutating func escape() throws(GrammarError) -> Unicode.Scalar {
        guard let letter = advance() else { throw error(.malformed, "the grammar ends with a backslash") }
        switch letter {
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "\\", "\"", "[", "]", "-", "^": return letter
        case "x": return try hexadecimal(2)
        case "u": return try hexadecimal(4)
        case "U": return try hexadecimal(8)
        default: throw error(.malformed, "there is no escape \\\(letter)")
        }
    }

    private mutating func hexadecimal(_ count: Int) throws(GrammarError) -> Unicode.Scalar {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = peek().flatMap(PatternParser.digit) else {
                throw error(.malformed, "the escape has \(count) hexadecimal digits")
            }
            value = value << 4 | digit
            position += 1
        }
        guard let scalar = Unicode.Scalar(value) else {
            throw error(.malformed, "the escape does not stand for a character")
        }
        return scalar
    }

    // MARK: - Reading

    private var place: String { "line \(line), column \(position - lineStart + 1)" }

    private func peek() -> Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

    private mutating func advance() -> Unicode.Scalar? {
        guard let next = peek() else { return nil }
        position += 1
        if next == "\n" {
            line += 1
            lineStart = position
        }
        return next
    }

    private mutating func take(_ expected: Unicode.Scalar) -> Bool {
        guard peek() == expected else { return false }
        position += 1
        return true
    }

    private mutating func name() -> String? {
        var text = String.UnicodeScalarView()
        while let next = peek(), next.isNamePart {
            text.append(next)
            position += 1
        }
        return text.isEmpty ? nil : String(text)
    }

    private mutating func skipSpace(overLines: Bool) {
        while let next = peek() {
            switch next {
            case " ", "\t": position += 1
            case "#": while let next = peek(), !next.isLineBreak { position += 1 }
            case "\r", "\n":
                guard overLines else { return }
                _ = advance()
            default: return
            }
        }
    }

    private func error(_ kind: GrammarError.Kind, _ reason: String) -> GrammarError {
        GrammarError(kind: kind, place: place, reason: reason)
    }
}

extension Unicode.Scalar {
    fileprivate var isLineBreak: Bool { self == "\n" || self == "\r" }

    fileprivate var isNamePart: Bool {
        ("a"..."z").contains(self) || ("A"..."Z").contains(self) || ("0"..."9").contains(self) || self == "-"
            || self == "_"
    }
}
