// Tandem — Apache-2.0

/// Parses the statements of a template; its expressions are in the extension beside this file.
struct TemplateParser {
    private let tokens: [(token: TemplateToken, line: Int)]
    private var position = 0
    private var nesting = 0
    private var loops = 0

    static func parse(_ source: String) throws(ChatTemplateError) -> [TemplateStatement] {
        var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: source))
        let (body, _) = try parser.parseBody(until: [], of: "")
        return body
    }

    private init(tokens: [(token: TemplateToken, line: Int)]) { self.tokens = tokens }

    // MARK: - Tokens

    var current: TemplateToken { tokens[position].token }
    var line: Int { tokens[position].line }

    func peek() -> TemplateToken { tokens[min(position + 1, tokens.count - 1)].token }

    mutating func advance() { position = min(position + 1, tokens.count - 1) }

    mutating func accept(_ token: TemplateToken) -> Bool {
        guard current == token else { return false }
        advance()
        return true
    }

    mutating func expect(_ token: TemplateToken) throws(ChatTemplateError) {
        guard accept(token) else { throw failure("expected \(Self.show(token)), found \(Self.show(current))") }
    }

    mutating func expectName() throws(ChatTemplateError) -> String {
        guard case .name(let name) = current else { throw failure("expected a name, found \(Self.show(current))") }
        advance()
        return name
    }

    func failure(_ reason: String) -> ChatTemplateError {
        ChatTemplateError(kind: .syntax, line: line, reason: reason)
    }

    func unsupported(_ what: String) -> ChatTemplateError {
        ChatTemplateError(kind: .unsupported, line: line, reason: "\(what) is not supported")
    }

    static func show(_ token: TemplateToken) -> String {
        switch token {
        case .text: "text"
        case .outputBegin: "{{"
        case .outputEnd: "}}"
        case .tagBegin: "{%"
        case .tagEnd: "%}"
        case .name(let name): name
        case .string: "a string"
        case .integer(let value): String(value)
        case .number(let value): String(value)
        case .symbol(let symbol): symbol
        case .end: "the end of the template"
        }
    }

    /// Runs `body` one level deeper.
    mutating func nested<Result>(
        _ body: (inout TemplateParser) throws(ChatTemplateError) -> Result
    ) throws(ChatTemplateError) -> Result {
        guard nesting < TemplateLimits.nesting else {
            throw ChatTemplateError(
                kind: .limit, line: line, reason: "nested more than \(TemplateLimits.nesting) levels deep")
        }
        nesting += 1
        defer { nesting -= 1 }
        return try body(&self)
    }

    // MARK: - Statements

    /// Parses up to a tag named in `endings`, whose name is passed and returned.
    private mutating func parseBody(
        until endings: [String], of opening: String
    ) throws(ChatTemplateError) -> ([TemplateStatement], String) {
        try nested { parser throws(ChatTemplateError) in try parser.parseStatements(until: endings, of: opening) }
    }

    private mutating func parseStatements(
        until endings: [String], of opening: String
    ) throws(ChatTemplateError) -> ([TemplateStatement], String) {
        var body: [TemplateStatement] = []
        while true {
            switch current {
            case .text(let text):
                advance()
                body.append(.text(text))
            case .outputBegin:
                advance()
                body.append(.output(try parseTuple()))
                try expect(.outputEnd)
            case .tagBegin:
                advance()
                let name = try expectName()
                if endings.contains(name) { return (body, name) }
                if let statement = try parseTag(name) { body.append(statement) }
            case .end:
                guard endings.isEmpty else { throw failure("\(opening) without \(endings.joined(separator: " or "))") }
                return (body, "")
            default:
                throw failure("unexpected \(Self.show(current))")
            }
        }
    }

    /// Jinja's tags that a chat template cannot use here, so that the refusal can name them.
    private static let unsupportedTags: Set<String> = [
        "call", "include", "import", "from", "extends", "block", "filter", "autoescape", "with", "do", "trans",
        "debug", "raw",
    ]

    private mutating func parseTag(_ name: String) throws(ChatTemplateError) -> TemplateStatement? {
        switch name {
        case "if": return try parseIf()
        case "for": return try parseFor()
        case "set": return try parseSet()
        case "macro": return try parseMacro()
        case "generation":
            // Marks what the assistant wrote, for training; it renders as its content.
            try expect(.tagEnd)
            let (body, _) = try parseBody(until: ["endgeneration"], of: "generation")
            try expect(.tagEnd)
            return .block(body)
        case "break", "continue":
            guard loops > 0 else { throw failure("\(name) outside a loop") }
            try expect(.tagEnd)
            return name == "break" ? .breakLoop : .continueLoop
        default:
            if Self.unsupportedTags.contains(name) { throw unsupported("the tag \(name)") }
            throw failure("unknown or misplaced tag \(name)")
        }
    }

    private mutating func parseIf() throws(ChatTemplateError) -> TemplateStatement {
        var branches: [(condition: TemplateExpression, body: [TemplateStatement])] = []
        while true {
            let condition = try parseTuple(conditional: false)
            try expect(.tagEnd)
            let (body, ending) = try parseBody(until: ["elif", "else", "endif"], of: "if")
            branches.append((condition, body))
            if ending == "elif" { continue }
            var otherwise: [TemplateStatement] = []
            try expect(.tagEnd)
            if ending == "else" {
                otherwise = try parseBody(until: ["endif"], of: "else").0
                try expect(.tagEnd)
            }
            return .conditional(branches, otherwise: otherwise)
        }
    }

    private mutating func parseFor() throws(ChatTemplateError) -> TemplateStatement {
        let target = try parseTarget(allowsAttribute: false)
        try expect(.name("in"))
        let sequence = try parseTuple(conditional: false)
        var condition: TemplateExpression?
        if accept(.name("if")) { condition = try parseExpression() }
        if current == .name("recursive") { throw unsupported("a recursive loop") }
        try expect(.tagEnd)
        loops += 1
        let (body, ending) = try parseBody(until: ["else", "endfor"], of: "for")
        loops -= 1
        try expect(.tagEnd)
        var otherwise: [TemplateStatement] = []
        if ending == "else" {
            otherwise = try parseBody(until: ["endfor"], of: "else").0
            try expect(.tagEnd)
        }
        return .loop(
            TemplateLoopStatement(
                target: target, sequence: sequence, condition: condition, body: body, otherwise: otherwise))
    }

    private mutating func parseSet() throws(ChatTemplateError) -> TemplateStatement {
        let start = line
        let target = try parseTarget(allowsAttribute: true)
        if accept(.symbol("=")) {
            let value = try parseTuple()
            try expect(.tagEnd)
            return .assignment(target, value)
        }
        if current == .symbol("|") { throw unsupported("a filter on a set block") }
        try expect(.tagEnd)
        let (body, _) = try parseBody(until: ["endset"], of: "set")
        try expect(.tagEnd)
        return .capture(target, body: body, line: start)
    }

    private mutating func parseMacro() throws(ChatTemplateError) -> TemplateStatement {
        let name = try expectTargetName()
        try expect(.symbol("("))
        var parameters: [(name: String, fallback: TemplateExpression?)] = []
        while !accept(.symbol(")")) {
            if !parameters.isEmpty { try expect(.symbol(",")) }
            let parameter = try expectTargetName()
            if accept(.symbol("=")) {
                parameters.append((parameter, try parseExpression()))
            } else {
                guard parameters.last?.fallback == nil else {
                    throw failure("\(parameter) has no default, but a parameter before it has one")
                }
                parameters.append((parameter, nil))
            }
        }
        try expect(.tagEnd)
        // A loop around the macro is not one that its body could leave.
        let outerLoops = loops
        loops = 0
        let (body, _) = try parseBody(until: ["endmacro"], of: "macro")
        loops = outerLoops
        try expect(.tagEnd)
        return .macro(TemplateMacro(name: name, parameters: parameters, body: body))
    }

    private mutating func parseTarget(allowsAttribute: Bool) throws(ChatTemplateError) -> TemplateTarget {
        let bracketed = accept(.symbol("("))
        let first = try expectTargetName()
        if allowsAttribute, accept(.symbol(".")) { return .attribute(first, try expectName()) }
        var names = [first]
        while accept(.symbol(",")) {
            if case .name(let name) = current, name != "in" { names.append(try expectTargetName()) }
        }
        if bracketed { try expect(.symbol(")")) }
        return names.count == 1 ? .name(first) : .names(names)
    }

    private mutating func expectTargetName() throws(ChatTemplateError) -> String {
        let name = try expectName()
        guard !Self.reserved.contains(name) else { throw failure("cannot assign to \(name)") }
        return name
    }

    static let reserved: Set<String> = [
        "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else",
    ]
}
