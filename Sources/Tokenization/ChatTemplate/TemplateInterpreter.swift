// Tandem — Apache-2.0

/// Renders the statements of one template once. Expressions are in the extension beside this file.
struct TemplateInterpreter {
    private var scopes: [[String: TemplateValue]]
    private var output: [UInt8] = []
    private var steps = 0
    /// Statements and expressions within each other at this moment, those of called macros included.
    private var depth = 0
    private var intermediateBytes = 0

    private enum Flow { case normal, breaks, continues }

    /// The moment that templates may print; nil if they are to have none.
    let now: TemplateTime?

    init(globals: [String: TemplateValue], now: TemplateTime? = nil) {
        scopes = [globals]
        self.now = now
    }

    mutating func render(_ body: [TemplateStatement]) throws(ChatTemplateError) -> String {
        _ = try run(body)
        return String(decoding: output, as: UTF8.self)
    }

    // MARK: - Bounds

    mutating func charge(steps count: Int, _ line: Int) throws(ChatTemplateError) {
        let (sum, overflow) = steps.addingReportingOverflow(count)
        guard !overflow, sum <= TemplateLimits.steps else {
            throw ChatTemplateError(kind: .limit, line: line, reason: "rendering takes too many steps")
        }
        steps = sum
    }

    /// Goes one level deeper, until ``leave()``; an error ends the rendering, so that nothing need be undone.
    mutating func enter(_ line: Int) throws(ChatTemplateError) {
        guard depth < TemplateLimits.evaluationDepth else {
            throw ChatTemplateError(
                kind: .limit, line: line, reason: "statements, expressions and calls of macros nest too deeply")
        }
        depth += 1
    }

    mutating func leave() { depth -= 1 }

    /// More pieces of a text than this are too many.
    var remainingSteps: Int { TemplateLimits.steps - steps + 1 }

    mutating func charge(bytes count: Int, _ line: Int) throws(ChatTemplateError) {
        let (sum, overflow) = intermediateBytes.addingReportingOverflow(count)
        guard !overflow, count <= TemplateLimits.textBytes, sum <= TemplateLimits.intermediateBytes else {
            throw ChatTemplateError(kind: .limit, line: line, reason: "rendering makes too much text")
        }
        intermediateBytes = sum
    }

    /// Counts that a value is gone through, though nothing new of its size is made: long texts are not free to look at.
    mutating func charge(reading value: TemplateValue, _ line: Int) throws(ChatTemplateError) {
        try charge(steps: value.size / TemplateLimits.bytesPerStep, line)
    }

    mutating func charge(reading text: String, _ line: Int) throws(ChatTemplateError) {
        try charge(steps: text.utf8.count / TemplateLimits.bytesPerStep, line)
    }

    mutating func charge(reading call: TemplateCall, _ line: Int) throws(ChatTemplateError) {
        for value in call.positional { try charge(reading: value, line) }
        for (_, value) in call.keywords { try charge(reading: value, line) }
    }

    /// Counts a new string.
    mutating func string(_ text: String, _ line: Int) throws(ChatTemplateError) -> TemplateValue {
        try charge(bytes: text.utf8.count, line)
        return .string(text)
    }

    /// Counts a new list.
    mutating func list(
        _ items: [TemplateValue], isTuple: Bool = false, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        try charge(steps: items.count, line)
        guard let list = TemplateList(items, isTuple: isTuple) else { throw tooDeep(line) }
        return .list(list)
    }

    func tooDeep(_ line: Int) -> ChatTemplateError {
        ChatTemplateError(
            kind: .limit, line: line,
            reason: "a list or mapping is too large, nests too deeply, or holds a namespace or a function")
    }

    private mutating func write(_ text: String, _ line: Int) throws(ChatTemplateError) {
        guard output.count + text.utf8.count <= TemplateLimits.outputBytes else {
            throw ChatTemplateError(
                kind: .limit, line: line, reason: "more than \(TemplateLimits.outputBytes) bytes of output")
        }
        output.append(contentsOf: text.utf8)
    }

    // MARK: - Names

    func lookUp(_ name: String) -> TemplateValue {
        for scope in scopes.reversed() {
            if let value = scope[name] { return value }
        }
        return .undefined("'\(name)' is undefined")
    }

    /// Binds a name in the innermost scope.
    mutating func bind(_ name: String, _ value: TemplateValue) { scopes[scopes.count - 1][name] = value }

    private mutating func assign(
        _ target: TemplateTarget, _ value: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) {
        switch target {
        case .name(let name):
            bind(name, value)
        case .names(let names):
            let values = try elements(of: value, line)
            guard values.count == names.count else {
                throw ChatTemplateError(
                    kind: .evaluation, line: line, reason: "\(values.count) values for \(names.count) names")
            }
            for (name, value) in zip(names, values) { bind(name, value) }
        case .attribute(let name, let attribute):
            guard case .namespace(let namespace) = lookUp(name) else {
                throw ChatTemplateError(
                    kind: .evaluation, line: line, reason: "cannot assign an attribute of \(name): not a namespace")
            }
            guard value.isPlain else { throw tooDeep(line) }
            namespace.attributes[attribute] = value
        }
    }

    // MARK: - Statements

    private mutating func run(_ body: [TemplateStatement]) throws(ChatTemplateError) -> Flow {
        try enter(0)
        for statement in body {
            try charge(steps: 1, 0)
            let flow = try run(statement)
            if flow != .normal {
                leave()
                return flow
            }
        }
        leave()
        return .normal
    }

    private mutating func run(_ statement: TemplateStatement) throws(ChatTemplateError) -> Flow {
        switch statement {
        case .text(let text):
            try write(text, 0)
        case .output(let expression):
            let value = try evaluate(expression)
            guard let text = value.text else {
                throw ChatTemplateError(
                    kind: .evaluation, line: expression.line, reason: "a \(value.typeName) cannot be written")
            }
            try write(text, expression.line)
        case .conditional(let branches, let otherwise):
            for branch in branches where try evaluate(branch.condition).isTrue { return try run(branch.body) }
            return try run(otherwise)
        case .loop(let loop):
            try runLoop(loop)
        case .assignment(let target, let expression):
            try assign(target, try evaluate(expression), expression.line)
        case .capture(let target, let body, let line):
            try runCapture(target, body, line)
        case .block(let body):
            return try run(body)
        case .macro(let macro):
            bind(macro.name, .macro(macro))
        case .breakLoop:
            return .breaks
        case .continueLoop:
            return .continues
        }
        return .normal
    }

    private mutating func runCapture(
        _ target: TemplateTarget, _ body: [TemplateStatement], _ line: Int
    ) throws(ChatTemplateError) {
        scopes.append([:])
        let text = try captured(body, line)
        scopes.removeLast()
        try assign(target, text, line)
    }

    /// What the statements write.
    private mutating func captured(
        _ body: [TemplateStatement], _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        var outer: [UInt8] = []
        swap(&outer, &output)
        _ = try run(body)
        swap(&outer, &output)
        return try string(String(decoding: outer, as: UTF8.self), line)
    }

    /// Runs a macro: it sees its arguments and what the template has set outside of loops, as those are when it is
    /// called.
    mutating func call(_ macro: TemplateMacro, _ call: TemplateCall) throws(ChatTemplateError) -> TemplateValue {
        guard call.positional.count <= macro.parameters.count else {
            throw call.failure("macro '\(macro.name)' takes not more than \(macro.parameters.count) argument(s)")
        }
        for (name, _) in call.keywords where !macro.parameters.contains(where: { $0.name == name }) {
            throw call.failure("macro '\(macro.name)' takes no keyword argument '\(name)'")
        }
        let outer = scopes
        scopes = [outer[0], [:]]
        for (index, parameter) in macro.parameters.enumerated() {
            let isNamed = call.keywords.contains { $0.name == parameter.name }
            guard index >= call.positional.count || !isNamed else {
                throw call.failure("macro '\(macro.name)' got two values for the argument '\(parameter.name)'")
            }
            if let value = call.value(index, parameter.name) {
                bind(parameter.name, value)
            } else if let fallback = parameter.fallback {
                bind(parameter.name, try evaluate(fallback))
            } else {
                bind(parameter.name, .undefined("parameter '\(parameter.name)' was not provided"))
            }
        }
        let text = try captured(macro.body, call.line)
        scopes = outer
        return text
    }

    private mutating func runLoop(_ loop: TemplateLoopStatement) throws(ChatTemplateError) {
        let line = loop.sequence.line
        var items = try elements(of: try evaluate(loop.sequence), line)
        if let condition = loop.condition {
            var kept: [TemplateValue] = []
            for item in items {
                scopes.append([:])
                try assign(loop.target, item, line)
                if try evaluate(condition).isTrue { kept.append(item) }
                scopes.removeLast()
            }
            items = kept
        }
        if items.isEmpty {
            _ = try run(loop.otherwise)
            return
        }
        for (index, item) in items.enumerated() {
            try charge(steps: 1, line)
            // Assignments do not outlive a round.
            scopes.append(["loop": .loop(TemplateLoop(items: items, index: index))])
            try assign(loop.target, item, line)
            let flow = try run(loop.body)
            scopes.removeLast()
            if flow == .breaks { break }
        }
    }

    /// What filters go through that choose or change elements: nothing where the value is false, whatever it is.
    mutating func chosenElements(of value: TemplateValue, _ line: Int) throws(ChatTemplateError) -> [TemplateValue] {
        value.isTrue ? try elements(of: value, line) : []
    }

    /// What a loop over the value goes through.
    mutating func elements(of value: TemplateValue, _ line: Int) throws(ChatTemplateError) -> [TemplateValue] {
        switch value {
        case .undefined: return []
        case .list(let list): return list.items
        case .mapping(let mapping):
            try charge(steps: mapping.keys.count, line)
            return mapping.keys.map { .string($0) }
        case .string(let text):
            try charge(steps: text.utf8.count, line)
            return text.unicodeScalars.map { .string(String($0)) }
        default:
            throw ChatTemplateError(
                kind: .evaluation, line: line, reason: "'\(value.typeName)' object is not iterable")
        }
    }
}
