// Tandem — Apache-2.0

/// Expressions, from the loosest operator to the tightest, as in Jinja's grammar.
extension TemplateParser {
    private func node(_ kind: TemplateExpression.Kind, _ line: Int) throws(ChatTemplateError) -> TemplateExpression {
        let expression = TemplateExpression(kind, line: line)
        guard expression.height <= TemplateLimits.expressionHeight else {
            throw ChatTemplateError(
                kind: .limit, line: line,
                reason: "an expression of more than \(TemplateLimits.expressionHeight) levels")
        }
        return expression
    }

    /// `a, b` without brackets is a tuple.
    mutating func parseTuple(conditional: Bool = true) throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        let first = conditional ? try parseExpression() : try parseOr()
        guard current == .symbol(",") else { return first }
        var items = [first]
        while accept(.symbol(",")) {
            if endsTuple { break }
            items.append(conditional ? try parseExpression() : try parseOr())
        }
        return try node(.list(items, isTuple: true), start)
    }

    private var endsTuple: Bool {
        switch current {
        case .outputEnd, .tagEnd, .symbol(")"), .name("if"), .end: true
        default: false
        }
    }

    mutating func parseExpression() throws(ChatTemplateError) -> TemplateExpression {
        try nested { parser throws(ChatTemplateError) in
            let start = parser.line
            let value = try parser.parseOr()
            guard parser.accept(.name("if")) else { return value }
            let condition = try parser.parseOr()
            let otherwise = parser.accept(.name("else")) ? try parser.parseExpression() : nil
            let whole = try parser.node(.conditional(value, condition: condition, otherwise: otherwise), start)
            if parser.current == .name("if") { throw parser.unsupported("a chain of conditions without brackets") }
            return whole
        }
    }

    private mutating func parseOr() throws(ChatTemplateError) -> TemplateExpression {
        var left = try parseAnd()
        while current == .name("or") {
            let start = line
            advance()
            left = try node(.or(left, try parseAnd()), start)
        }
        return left
    }

    private mutating func parseAnd() throws(ChatTemplateError) -> TemplateExpression {
        var left = try parseNot()
        while current == .name("and") {
            let start = line
            advance()
            left = try node(.and(left, try parseNot()), start)
        }
        return left
    }

    private mutating func parseNot() throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        guard accept(.name("not")) else { return try parseComparison() }
        let operand = try nested { parser throws(ChatTemplateError) in try parser.parseNot() }
        return try node(.not(operand), start)
    }

    private mutating func parseComparison() throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        let first = try parseSum()
        var rest: [(TemplateComparison, TemplateExpression)] = []
        while true {
            if case .symbol(let symbol) = current, let comparison = TemplateComparison(rawValue: symbol) {
                advance()
                rest.append((comparison, try parseSum()))
            } else if accept(.name("in")) {
                rest.append((.isIn, try parseSum()))
            } else if current == .name("not"), peek() == .name("in") {
                advance()
                advance()
                rest.append((.isNotIn, try parseSum()))
            } else {
                return rest.isEmpty ? first : try node(.comparison(first, rest), start)
            }
        }
    }

    private mutating func parseSum() throws(ChatTemplateError) -> TemplateExpression {
        var left = try parseConcatenation()
        while case .symbol(let symbol) = current, symbol == "+" || symbol == "-",
            let operation = TemplateOperator(rawValue: symbol)
        {
            let start = line
            advance()
            left = try node(.arithmetic(operation, left, try parseConcatenation()), start)
        }
        return left
    }

    private mutating func parseConcatenation() throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        var parts = [try parseProduct()]
        while accept(.symbol("~")) { parts.append(try parseProduct()) }
        return parts.count == 1 ? parts[0] : try node(.concatenation(parts), start)
    }

    private mutating func parseProduct() throws(ChatTemplateError) -> TemplateExpression {
        var left = try parseUnary()
        while case .symbol(let symbol) = current {
            if symbol == "**" { throw unsupported("the operator **") }
            guard let operation = TemplateOperator(rawValue: symbol), symbol != "+", symbol != "-" else { break }
            let start = line
            advance()
            left = try node(.arithmetic(operation, left, try parseUnary()), start)
        }
        return left
    }

    /// Filters bind looser than a sign: `-1|abs` is `(-1)|abs`.
    private mutating func parseUnary(withFilters: Bool = true) throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        var operand: TemplateExpression
        if current == .symbol("-") || current == .symbol("+") {
            let isNegative = current == .symbol("-")
            advance()
            let inner = try nested { parser throws(ChatTemplateError) in try parser.parseUnary(withFilters: false) }
            operand = try node(isNegative ? .negative(inner) : .positive(inner), start)
        } else {
            operand = try parsePrimary()
        }
        operand = try parsePostfix(operand)
        return withFilters ? try parseFilters(operand) : operand
    }

    private mutating func parsePrimary() throws(ChatTemplateError) -> TemplateExpression {
        let start = line
        switch current {
        case .name(let name):
            advance()
            switch name {
            case "true", "True": return try node(.boolean(true), start)
            case "false", "False": return try node(.boolean(false), start)
            case "none", "None": return try node(.none, start)
            default:
                guard !Self.reserved.contains(name) else { throw failure("unexpected \(name)") }
                return try node(.name(name), start)
            }
        case .string(var text):
            advance()
            while case .string(let more) = current {
                text += more
                advance()
            }
            return try node(.string(text), start)
        case .integer(let value):
            advance()
            return try node(.integer(value), start)
        case .number(let value):
            advance()
            return try node(.number(value), start)
        case .symbol("("):
            advance()
            if accept(.symbol(")")) { return try node(.list([], isTuple: true), start) }
            let inner = try parseTuple()
            try expect(.symbol(")"))
            return inner
        case .symbol("["):
            advance()
            let items = try parseItems(until: "]")
            return try node(.list(items, isTuple: false), start)
        case .symbol("{"):
            advance()
            return try parseMapping(start)
        default:
            throw failure("unexpected \(Self.show(current))")
        }
    }

    private mutating func parseItems(until end: String) throws(ChatTemplateError) -> [TemplateExpression] {
        var items: [TemplateExpression] = []
        while !accept(.symbol(end)) {
            if !items.isEmpty {
                try expect(.symbol(","))
                if accept(.symbol(end)) { break }
            }
            items.append(try parseExpression())
        }
        return items
    }

    private mutating func parseMapping(_ start: Int) throws(ChatTemplateError) -> TemplateExpression {
        var entries: [(key: TemplateExpression, value: TemplateExpression)] = []
        while !accept(.symbol("}")) {
            if !entries.isEmpty {
                try expect(.symbol(","))
                if accept(.symbol("}")) { break }
            }
            let key = try parseExpression()
            try expect(.symbol(":"))
            entries.append((key, try parseExpression()))
        }
        return try node(.mapping(entries), start)
    }

    private mutating func parsePostfix(_ base: TemplateExpression) throws(ChatTemplateError) -> TemplateExpression {
        var base = base
        while true {
            let start = line
            if accept(.symbol(".")) {
                if case .integer(let index) = current {
                    advance()
                    base = try node(.element(base, try node(.integer(index), start)), start)
                } else {
                    base = try node(.attribute(base, try expectName()), start)
                }
            } else if accept(.symbol("[")) {
                base = try parseSubscript(base, start)
            } else if accept(.symbol("(")) {
                base = try node(.call(base, try parseArguments()), start)
            } else {
                return base
            }
        }
    }

    private mutating func parseSubscript(
        _ base: TemplateExpression, _ start: Int
    ) throws(ChatTemplateError) -> TemplateExpression {
        var bounds: [TemplateExpression?] = [nil]
        var colons = 0
        while !accept(.symbol("]")) {
            if accept(.symbol(":")) {
                colons += 1
                bounds.append(nil)
            } else if bounds[colons] == nil {
                bounds[colons] = try parseExpression()
            } else {
                throw failure("expected ], found \(Self.show(current))")
            }
        }
        guard colons <= 2 else { throw failure("a slice has three parts at most") }
        if colons > 0 { return try node(.slice(base, bounds), start) }
        guard let index = bounds[0] else { throw failure("a subscript is empty") }
        return try node(.element(base, index), start)
    }

    private mutating func parseArguments() throws(ChatTemplateError) -> TemplateArguments {
        var arguments = TemplateArguments()
        var isFirst = true
        while !accept(.symbol(")")) {
            if !isFirst {
                try expect(.symbol(","))
                if accept(.symbol(")")) { break }
            }
            isFirst = false
            if current == .symbol("*") || current == .symbol("**") { throw unsupported("spreading of arguments") }
            if case .name(let name) = current, peek() == .symbol("=") {
                advance()
                advance()
                arguments.keywords.append((name, try parseExpression()))
            } else {
                guard arguments.keywords.isEmpty else { throw failure("a positional argument after a named one") }
                arguments.positional.append(try parseExpression())
            }
        }
        return arguments
    }

    private mutating func parseFilters(_ base: TemplateExpression) throws(ChatTemplateError) -> TemplateExpression {
        var base = base
        while true {
            let start = line
            if accept(.symbol("|")) {
                let name = try expectName()
                guard TemplateFilters.names.contains(name) else { throw unsupported("the filter \(name)") }
                let arguments = accept(.symbol("(")) ? try parseArguments() : TemplateArguments()
                base = try node(.filter(base, name, arguments), start)
            } else if accept(.name("is")) {
                base = try parseTest(base, start)
            } else if accept(.symbol("(")) {
                base = try node(.call(base, try parseArguments()), start)
            } else {
                return base
            }
        }
    }

    private mutating func parseTest(
        _ base: TemplateExpression, _ start: Int
    ) throws(ChatTemplateError) -> TemplateExpression {
        let negated = accept(.name("not"))
        let name = try expectName()
        guard TemplateTests.names.contains(name) else { throw unsupported("the test \(name)") }
        var arguments = TemplateArguments()
        if accept(.symbol("(")) {
            arguments = try parseArguments()
        } else if beginsTestArgument {
            arguments.positional = [try parsePostfix(try parsePrimary())]
        }
        let test = try node(.test(base, name, arguments), start)
        return negated ? try node(.not(test), start) : test
    }

    /// A test may take one argument without brackets.
    private var beginsTestArgument: Bool {
        switch current {
        case .name(let name): !["else", "or", "and", "is", "if", "in", "not"].contains(name)
        case .string, .integer, .number, .symbol("["), .symbol("{"): true
        default: false
        }
    }
}
