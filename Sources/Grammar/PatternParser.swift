// Tandem — Apache-2.0

/// Reads regular expressions: the part that describes regular languages, in the notation that Python, JavaScript and
/// RE2 share. `\d`, `\w` and `\s` mean ASCII.
struct PatternParser {
    enum Use {
        /// The whole text must match; `.` is any character but a line feed.
        case whole
        /// A match may lie anywhere in the text, as in JSON schemas; `.` is any character but a line terminator of
        /// ECMA-262, and `\s` is white space in its sense and in Python's.
        case search
    }

    /// An alternative, and whether it is bound to the text's ends.
    private struct Branch {
        var expression: Expression
        var atStart = false
        var atEnd = false
        /// Where an anchor stands, for messages.
        var anchor: Int?
    }

    private let scalars: [(value: UInt32, offset: Int)]
    private let byteCount: Int
    private let use: Use
    private var position = 0
    private var depth = 0

    /// The rules of a regular expression that a whole text must match.
    static func rules(_ text: String) throws(GrammarError) -> RuleSet {
        var rules = RuleSet()
        rules.root = rules.reserve(name: "root", place: "byte 0")
        rules.expressions[rules.root] = try expression(text, .whole)
        return rules
    }

    /// What texts match.
    static func expression(_ text: String, _ use: Use) throws(GrammarError) -> Expression {
        var parser = PatternParser(text, use)
        let branches = try parser.alternation()
        if parser.position < parser.scalars.count {
            throw parser.error(.malformed, "a parenthesis is closed here that was not opened")
        }
        guard use == .search else { return choice(branches.map(\.expression)) }
        let anything = Expression.repetition(.characters(.all), minimum: 0, maximum: nil)
        return choice(
            branches.map { branch in
                .sequence(
                    (branch.atStart ? [] : [anything]) + [branch.expression] + (branch.atEnd ? [] : [anything]))
            })
    }

    private init(_ text: String, _ use: Use) {
        var offset = 0
        scalars = text.unicodeScalars.map { scalar in
            defer { offset += UTF8.width(scalar) }
            return (scalar.value, offset)
        }
        byteCount = offset
        self.use = use
    }

    private static func choice(_ branches: [Expression]) -> Expression {
        branches.count == 1 ? branches[0] : .choice(branches)
    }

    // MARK: - Structure

    private mutating func alternation() throws(GrammarError) -> [Branch] {
        var branches = try branch()
        while take("|") { branches += try branch() }
        return branches
    }

    /// One alternative; several if it is nothing but a group with anchors in it.
    private mutating func branch() throws(GrammarError) -> [Branch] {
        var result = Branch(expression: .empty)
        var elements: [Expression] = []
        var inner: [Branch]?
        while let next = peek(), next != "|", next != ")" {
            let start = position
            if let inner, let anchor = inner.lazy.compactMap(\.anchor).first { throw misplaced(anchor) }
            if result.atEnd { throw misplaced(result.anchor ?? start) }
            switch next {
            case "^":
                position += 1
                guard elements.isEmpty, !result.atStart else { throw misplaced(start) }
                result.atStart = true
                result.anchor = start
                try refuseQuantifier()
            case "$":
                position += 1
                result.atEnd = true
                result.anchor = start
                try refuseQuantifier()
            case "(":
                let branches = try group()
                let quantified = try quantify(PatternParser.choice(branches.map(\.expression)))
                let anchor = branches.lazy.compactMap(\.anchor).first
                if let anchor {
                    guard quantified.isPlain, elements.isEmpty, !result.atStart else { throw misplaced(anchor) }
                    inner = branches
                }
                elements.append(quantified.expression)
            case "*", "+", "?":
                throw error(.malformed, "there is nothing before this to repeat")
            default:
                elements.append(try quantify(try atom()).expression)
            }
        }
        if let inner { return inner }
        result.expression = elements.count == 1 ? elements[0] : .sequence(elements)
        return [result]
    }

    private func misplaced(_ position: Int) -> GrammarError {
        error(
            .unsupported, "an anchor is understood only at the start or end of an alternative of the whole",
            at: position)
    }

    private mutating func group() throws(GrammarError) -> [Branch] {
        let start = position
        position += 1
        depth += 1
        defer { depth -= 1 }
        guard depth <= GrammarLimits.nesting else {
            throw error(.tooComplex, "groups nest deeper than \(GrammarLimits.nesting)", at: start)
        }
        if take("?") { try groupKind(start) }
        let branches = try alternation()
        guard take(")") else { throw error(.malformed, "the parenthesis is not closed", at: start) }
        return branches
    }

    /// Reads what stands behind `(?`.
    private mutating func groupKind(_ start: Int) throws(GrammarError) {
        if take(":") { return }
        let isNamed = take("P")
        if take("<"), peek() != "=", peek() != "!" {
            while let next = peek(), next != ">" {
                guard next == "_" || next.properties.isAlphabetic || ("0"..."9").contains(next) else { break }
                position += 1
            }
            guard take(">") else { throw error(.malformed, "the name of a group ends with >") }
            return
        }
        if isNamed { throw error(.unsupported, "references to groups are not regular and not supported", at: start) }
        switch position > 0 ? scalar(position - 1) : nil {
        case "<": throw error(.unsupported, "look-behind is not supported", at: start)
        default: break
        }
        switch peek() {
        case "=", "!": throw error(.unsupported, "look-ahead is not supported", at: start)
        case ">": throw error(.unsupported, "atomic groups are not supported", at: start)
        case "#": throw error(.unsupported, "comments are not supported", at: start)
        default: throw error(.unsupported, "flags inside of the expression are not supported", at: start)
        }
    }

    // MARK: - Quantifiers

    private mutating func quantify(
        _ expression: Expression
    ) throws(GrammarError) -> (expression: Expression, isPlain: Bool) {
        guard let (minimum, maximum) = try quantifier() else { return (expression, true) }
        // A lazy quantifier prefers other matches and describes the same texts.
        if !take("?"), peek() == "+" { throw error(.unsupported, "possessive quantifiers are not supported") }
        let start = position
        if try quantifier() != nil { throw error(.malformed, "a quantifier stands behind another", at: start) }
        return (.repetition(expression, minimum: minimum, maximum: maximum), false)
    }

    private mutating func quantifier() throws(GrammarError) -> (Int, Int?)? {
        if take("*") { return (0, nil) }
        if take("+") { return (1, nil) }
        if take("?") { return (0, 1) }
        let start = position
        guard take("{") else { return nil }
        if peek() == ",", let digit = scalar(position + 1), ("0"..."9").contains(digit) {
            throw error(.unsupported, "write {0,n} for {,n}", at: start)
        }
        // Braces that hold no counts stand for themselves.
        guard let minimum = try count() else {
            position = start
            return nil
        }
        var maximum: Int? = minimum
        if take(",") { maximum = try count() }
        guard take("}") else {
            position = start
            return nil
        }
        if let maximum, maximum < minimum { throw error(.malformed, "the counts are in the wrong order", at: start) }
        return (minimum, maximum)
    }

    private mutating func count() throws(GrammarError) -> Int? {
        let start = position
        var value: Int?
        while let digit = peek(), ("0"..."9").contains(digit) {
            value = min((value ?? 0) * 10 + Int(digit.value - 48), 1 << 40)
            position += 1
        }
        if let value, value > GrammarLimits.repetitions {
            throw error(.tooComplex, "the count is greater than \(GrammarLimits.repetitions)", at: start)
        }
        return value
    }

    private mutating func refuseQuantifier() throws(GrammarError) {
        let start = position
        if try quantifier() != nil { throw error(.malformed, "an anchor cannot be repeated", at: start) }
    }

    // MARK: - Characters

    private mutating func atom() throws(GrammarError) -> Expression {
        let start = position
        guard let next = advance() else { throw error(.malformed, "the expression ends too early") }
        switch next {
        case ".":
            let terminators: [ClosedRange<UInt32>] =
                use == .whole ? [10...10] : [10...10, 13...13, 0x2028...0x2029]
            return .characters(CodePointSet(terminators).inverted)
        case "[": return .characters(try characterClass(start))
        case "\\": return .characters(try escape(start, inClass: false).set)
        default: return .characters(CodePointSet(next.value))
        }
    }

    private mutating func characterClass(_ start: Int) throws(GrammarError) -> CodePointSet {
        let isNegated = take("^")
        if peek() == "]" { throw error(.unsupported, "a class does not begin with ]; write \\]") }
        var ranges: [ClosedRange<UInt32>] = []
        while true {
            let itemStart = position
            guard let next = advance() else { throw error(.malformed, "the class is not closed", at: start) }
            if next == "]" { break }
            if next == "[", peek() == ":" {
                throw error(.unsupported, "named classes are not supported; write ranges", at: itemStart)
            }
            let low = next == "\\" ? try escape(itemStart, inClass: true) : (CodePointSet(next.value), next.value)
            guard peek() == "-", let after = scalar(position + 1), after != "]" else {
                ranges += low.set.ranges
                continue
            }
            position += 2
            let highStart = position - 1
            let high = after == "\\" ? try escape(highStart, inClass: true) : (CodePointSet(after.value), after.value)
            guard let first = low.single, let last = high.single else {
                throw error(.malformed, "a range ends with a single character", at: itemStart)
            }
            guard first <= last else { throw error(.malformed, "the range is in the wrong order", at: itemStart) }
            ranges.append(first...last)
        }
        let set = CodePointSet(ranges)
        return isNegated ? set.inverted : set
    }

    /// Reads what stands behind a backslash.
    private mutating func escape(
        _ start: Int, inClass: Bool
    ) throws(GrammarError) -> (set: CodePointSet, single: UInt32?) {
        guard let letter = advance() else { throw error(.malformed, "the expression ends with a backslash", at: start) }
        func single(_ value: UInt32) -> (CodePointSet, UInt32?) { (CodePointSet(value), value) }
        let word = CodePointSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
        switch letter {
        case "d": return (CodePointSet([0x30...0x39]), nil)
        case "D": return (CodePointSet([0x30...0x39]).inverted, nil)
        case "w": return (word, nil)
        case "W": return (word.inverted, nil)
        case "s": return (whiteSpace, nil)
        case "S": return (whiteSpace.union(doubtfulWhiteSpace).inverted, nil)
        case "t": return single(9)
        case "n": return single(10)
        case "v": return single(11)
        case "f": return single(12)
        case "r": return single(13)
        case "0":
            if let digit = peek(), ("0"..."9").contains(digit) {
                throw error(.unsupported, "octal escapes are not supported; write \\x", at: start)
            }
            return single(0)
        case "1"..."9": throw error(.unsupported, "back-references are not supported", at: start)
        case "x": return single(try hexadecimal(2, start))
        case "u": return single(try unicode(start))
        case "U": return single(try scalarValue(try hexadecimal(8, start), start))
        case "b" where inClass: return single(8)
        case "b", "B": throw error(.unsupported, "word boundaries are not supported", at: start)
        case "A", "Z", "z":
            throw error(.unsupported, "use ^ and $ for the ends of the text; \\\(letter) is not supported", at: start)
        case "p", "P": throw error(.unsupported, "classes of Unicode properties are not supported", at: start)
        default:
            if ("a"..."z").contains(letter) || ("A"..."Z").contains(letter) {
                throw error(.malformed, "there is no escape \\\(letter)", at: start)
            }
            return single(letter.value)
        }
    }

    private var whiteSpace: CodePointSet {
        let ascii: [ClosedRange<UInt32>] = [9...13, 32...32]
        guard use == .search else { return CodePointSet(ascii) }
        return CodePointSet(
            ascii + [
                0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029, 0x202F...0x202F, 0x205F...0x205F,
                0x3000...0x3000,
            ])
    }

    /// White space to ECMA-262 or to Python, but not to both: neither `\s` nor `\S`.
    private var doubtfulWhiteSpace: CodePointSet {
        use == .search ? CodePointSet([0x1C...0x1F, 0x85...0x85, 0xFEFF...0xFEFF]) : .none
    }

    private mutating func unicode(_ start: Int) throws(GrammarError) -> UInt32 {
        if take("{") {
            var value: UInt32 = 0
            var count = 0
            while let digit = peek().flatMap(PatternParser.digit), count < 8 {
                value = value << 4 | digit
                count += 1
                position += 1
            }
            guard count > 0, take("}") else { throw error(.malformed, "\\u{ is followed by digits and }", at: start) }
            return try scalarValue(value, start)
        }
        let value = try hexadecimal(4, start)
        guard (0xD800...0xDBFF).contains(value), take("\\"), take("u") else { return try scalarValue(value, start) }
        let low = try hexadecimal(4, start)
        guard (0xDC00...0xDFFF).contains(low) else {
            throw error(.malformed, "the escape is half of a surrogate pair", at: start)
        }
        return 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
    }

    private func scalarValue(_ value: UInt32, _ start: Int) throws(GrammarError) -> UInt32 {
        guard Unicode.Scalar(value) != nil else {
            throw error(.malformed, "the escape does not stand for a character", at: start)
        }
        return value
    }

    private mutating func hexadecimal(_ count: Int, _ start: Int) throws(GrammarError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<count {
            guard let digit = peek().flatMap(PatternParser.digit) else {
                throw error(.malformed, "the escape has \(count) hexadecimal digits", at: start)
            }
            value = value << 4 | digit
            position += 1
        }
        return value
    }

    static func digit(_ scalar: Unicode.Scalar) -> UInt32? {
        switch scalar {
        case "0"..."9": scalar.value - 0x30
        case "a"..."f": scalar.value - 0x61 + 10
        case "A"..."F": scalar.value - 0x41 + 10
        default: nil
        }
    }

    // MARK: - Reading

    private func scalar(_ index: Int) -> Unicode.Scalar? {
        scalars.indices.contains(index) ? Unicode.Scalar(scalars[index].value) : nil
    }

    private func peek() -> Unicode.Scalar? { scalar(position) }

    private mutating func advance() -> Unicode.Scalar? {
        guard let next = peek() else { return nil }
        position += 1
        return next
    }

    private mutating func take(_ expected: Unicode.Scalar) -> Bool {
        guard peek() == expected else { return false }
        position += 1
        return true
    }

    private func error(_ kind: GrammarError.Kind, _ reason: String, at index: Int? = nil) -> GrammarError {
        let index = index ?? position
        let offset = scalars.indices.contains(index) ? scalars[index].offset : byteCount
        return GrammarError(kind: kind, place: "byte \(offset)", reason: reason)
    }
}
