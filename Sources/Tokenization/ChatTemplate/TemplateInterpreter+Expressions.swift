// Tandem — Apache-2.0

/// The arguments of a call, evaluated.
struct TemplateCall {
    var positional: [TemplateValue] = []
    var keywords: [(name: String, value: TemplateValue)] = []
    let line: Int

    /// The argument at `index` or of this name.
    func value(_ index: Int, _ name: String) -> TemplateValue? {
        index < positional.count ? positional[index] : keywords.first { $0.name == name }?.value
    }

    /// A text argument; nil where it is left out or none.
    func string(_ index: Int, _ name: String) throws(ChatTemplateError) -> String? {
        switch value(index, name) {
        case nil, .some(.none): return nil
        case .string(let text): return text
        case .some(let other): throw failure("\(name) must be a str, not a \(other.typeName)")
        }
    }

    func integer(_ index: Int, _ name: String, default fallback: Int64) throws(ChatTemplateError) -> Int64 {
        switch value(index, name) {
        case nil, .some(.none): return fallback
        case .some(let other):
            if let value = other.integerLike { return value }
            throw failure("\(name) must be an int, not a \(other.typeName)")
        }
    }

    func failure(_ reason: String) -> ChatTemplateError {
        ChatTemplateError(kind: .evaluation, line: line, reason: reason)
    }
}

extension TemplateInterpreter {
    private func failure(_ reason: String, _ line: Int) -> ChatTemplateError {
        ChatTemplateError(kind: .evaluation, line: line, reason: reason)
    }

    /// The value of an expression. Recursion is bounded by `TemplateLimits.expressionHeight`; the cases with many local
    /// values are functions of their own, to keep the frame of this one small.
    mutating func evaluate(_ expression: TemplateExpression) throws(ChatTemplateError) -> TemplateValue {
        try charge(steps: 1, expression.line)
        try enter(expression.line)
        let value = try evaluateKind(expression)
        leave()
        return value
    }

    private mutating func evaluateKind(_ expression: TemplateExpression) throws(ChatTemplateError) -> TemplateValue {
        let line = expression.line
        switch expression.kind {
        case .none: return .none
        case .boolean(let value): return .boolean(value)
        case .integer(let value): return .integer(value)
        case .number(let value): return .number(value)
        case .string(let text): return .string(text)
        case .name(let name): return lookUp(name)
        case .list(let items, let isTuple): return try evaluateList(items, isTuple, line)
        case .mapping(let entries): return try evaluateMapping(entries, line)
        case .attribute(let base, let name): return try attribute(name, of: try evaluate(base), line)
        case .element(let base, let index):
            let value = try evaluate(base)
            return try element(try evaluate(index), of: value, line)
        case .slice(let base, let bounds): return try evaluateSlice(base, bounds, line)
        case .call(let base, let arguments): return try evaluateCall(base, arguments, line)
        case .filter(let base, let name, let arguments):
            let value = try evaluate(base)
            let call = try evaluate(arguments, line)
            return try TemplateFilters.apply(name, to: value, call, &self)
        case .test(let base, let name, let arguments):
            let value = try evaluate(base)
            return .boolean(try TemplateTests.apply(name, to: value, try evaluate(arguments, line), &self))
        case .not(let operand): return .boolean(!(try evaluate(operand)).isTrue)
        case .and(let left, let right):
            let value = try evaluate(left)
            return value.isTrue ? try evaluate(right) : value
        case .or(let left, let right):
            let value = try evaluate(left)
            return value.isTrue ? value : try evaluate(right)
        case .negative(let operand):
            return try arithmetic(.subtract, .integer(0), try defined(try evaluate(operand), line), line)
        case .positive(let operand):
            return try arithmetic(.add, .integer(0), try defined(try evaluate(operand), line), line)
        case .arithmetic(let operation, let left, let right):
            let value = try evaluate(left)
            return try arithmetic(operation, value, try evaluate(right), line)
        case .concatenation(let parts): return try evaluateConcatenation(parts, line)
        case .comparison(let first, let rest): return try evaluateComparison(first, rest, line)
        case .conditional(let value, let condition, let otherwise):
            if try evaluate(condition).isTrue { return try evaluate(value) }
            guard let otherwise else { return .undefined("the condition is false and there is no else") }
            return try evaluate(otherwise)
        }
    }

    private func defined(_ value: TemplateValue, _ line: Int) throws(ChatTemplateError) -> TemplateValue {
        if case .undefined(let reason) = value { throw failure(reason, line) }
        return value
    }

    private mutating func evaluate(
        _ arguments: TemplateArguments, _ line: Int
    ) throws(ChatTemplateError) -> TemplateCall {
        var call = TemplateCall(line: line)
        for argument in arguments.positional { call.positional.append(try evaluate(argument)) }
        for (name, argument) in arguments.keywords { call.keywords.append((name, try evaluate(argument))) }
        return call
    }

    private mutating func evaluateList(
        _ expressions: [TemplateExpression], _ isTuple: Bool, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        var items: [TemplateValue] = []
        for expression in expressions { items.append(try evaluate(expression)) }
        return try list(items, isTuple: isTuple, line)
    }

    private mutating func evaluateMapping(
        _ entries: [(key: TemplateExpression, value: TemplateExpression)], _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        var mapping = TemplateMapping()
        for entry in entries {
            guard case .string(let key) = try evaluate(entry.key) else {
                throw ChatTemplateError(
                    kind: .unsupported, line: line, reason: "a mapping key that is not a string is not supported")
            }
            try charge(reading: key, line)
            guard mapping.set(key, try evaluate(entry.value)) else { throw tooDeep(line) }
        }
        return .mapping(mapping)
    }

    private mutating func evaluateConcatenation(
        _ parts: [TemplateExpression], _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        var result = ""
        for part in parts {
            let value = try evaluate(part)
            guard let text = value.text else { throw failure("a \(value.typeName) is not text", line) }
            try charge(bytes: text.utf8.count, line)
            result += text
        }
        return .string(result)
    }

    // MARK: - Attributes and elements

    /// Jinja looks for a Python attribute first and for an element after it.
    func attribute(
        _ name: String, of value: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        switch value {
        case .undefined(let reason): throw failure(reason, line)
        case .mapping(let mapping):
            if TemplateMethods.ofMappings.contains(name) {
                return .method(TemplateMethod(receiver: value, name: name))
            }
            if let element = mapping[name] { return element }
        case .string:
            if TemplateMethods.ofStrings.contains(name) {
                return .method(TemplateMethod(receiver: value, name: name))
            }
        case .namespace(let namespace):
            if let attribute = namespace.attributes[name] { return attribute }
        case .loop(let loop):
            if let attribute = loop.attribute(name) { return attribute }
            if name == "cycle" { return .method(TemplateMethod(receiver: value, name: name)) }
        default: break
        }
        return .undefined("'\(value.typeName) object' has no attribute '\(name)'")
    }

    /// `value[index]`.
    mutating func element(
        _ index: TemplateValue, of value: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        if case .string(let key) = index { try charge(reading: key, line) }
        switch (value, index) {
        case (.undefined(let reason), _): throw failure(reason, line)
        case (.mapping(let mapping), .string(let key)):
            // An attribute of Python's dict is found after the elements.
            if let element = mapping[key] { return element }
            return try attribute(key, of: value, line)
        case (.list(let list), _):
            if let index = index.integerLike {
                return Self.position(index, list.items.count).map { list.items[$0] }
                    ?? .undefined("list index \(index) is out of range")
            }
        case (.string(let text), _):
            if let index = index.integerLike {
                try chargeScalars(of: text, line)
                let scalars = Array(text.unicodeScalars)
                return Self.position(index, scalars.count).map { .string(String(scalars[$0])) }
                    ?? .undefined("string index \(index) is out of range")
            }
        default: break
        }
        if case .string(let name) = index { return try attribute(name, of: value, line) }
        return .undefined("'\(value.typeName) object' has no such element")
    }

    private static func position(_ index: Int64, _ count: Int) -> Int? {
        let position = index < 0 ? index + Int64(count) : index
        return position >= 0 && position < Int64(count) ? Int(position) : nil
    }

    /// An array of scalars is four times as large as a text and takes longer than reading it.
    private mutating func chargeScalars(of text: String, _ line: Int) throws(ChatTemplateError) {
        try charge(steps: text.utf8.count / 8, line)
    }

    private mutating func evaluateSlice(
        _ base: TemplateExpression, _ bounds: [TemplateExpression?], _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        let value = try defined(try evaluate(base), line)
        var parts: [Int64?] = [nil, nil, nil]
        for (index, bound) in bounds.enumerated() {
            guard let bound else { continue }
            let part = try evaluate(bound)
            if case .none = part { continue }
            guard let number = part.integerLike else {
                throw failure("a slice index must be an int, not a \(part.typeName)", line)
            }
            parts[index] = number
        }
        switch value {
        case .list(let items):
            let indices = try sliceIndices(parts, items.items.count, line)
            return try list(indices.map { items.items[$0] }, isTuple: items.isTuple, line)
        case .string(let text):
            try chargeScalars(of: text, line)
            let scalars = Array(text.unicodeScalars)
            var result = String.UnicodeScalarView()
            for index in try sliceIndices(parts, scalars.count, line) { result.append(scalars[index]) }
            return try string(String(result), line)
        default:
            throw failure("'\(value.typeName)' object cannot be sliced", line)
        }
    }

    /// Python's `slice.indices`.
    private mutating func sliceIndices(
        _ parts: [Int64?], _ count: Int, _ line: Int
    ) throws(ChatTemplateError) -> StrideTo<Int> {
        let step = parts[2] ?? 1
        guard step != 0 else { throw failure("slice step cannot be zero", line) }
        let length = Int64(count)
        let lowest: Int64 = step > 0 ? 0 : -1
        let highest = step > 0 ? length : length - 1
        func clamp(_ bound: Int64) -> Int64 { min(max(bound < 0 ? bound + length : bound, lowest), highest) }
        let start = parts[0].map(clamp) ?? (step > 0 ? lowest : highest)
        let stop = parts[1].map(clamp) ?? (step > 0 ? highest : lowest)
        // Beyond the length every step is the same; clamped, it cannot overflow.
        let stride = min(max(step, -length - 1), length + 1)
        // All of these are between -1 and the length.
        let indices = Swift.stride(from: Int(start), to: Int(stop), by: Int(stride))
        try charge(steps: indices.underestimatedCount / 4, line)
        return indices
    }

    // MARK: - Operators

    private mutating func evaluateComparison(
        _ first: TemplateExpression, _ rest: [(TemplateComparison, TemplateExpression)], _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        var left = try evaluate(first)
        for (comparison, expression) in rest {
            let right = try evaluate(expression)
            guard try compare(comparison, left, right, line) else { return .boolean(false) }
            left = right
        }
        return .boolean(true)
    }

    mutating func compare(
        _ comparison: TemplateComparison, _ left: TemplateValue, _ right: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> Bool {
        switch comparison {
        case .equal, .notEqual:
            try chargeComparison(left, right, line)
            return TemplateValue.equal(left, right) == (comparison == .equal)
        case .isIn: return try contains(right, left, line)
        case .isNotIn: return !(try contains(right, left, line))
        case .less, .greater, .lessOrEqual, .greaterOrEqual: return try isOrdered(comparison, left, right, line)
        }
    }

    private mutating func chargeComparison(
        _ left: TemplateValue, _ right: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) {
        try charge(steps: min(left.size, right.size) / TemplateLimits.bytesPerStep, line)
    }

    private mutating func isOrdered(
        _ comparison: TemplateComparison, _ left: TemplateValue, _ right: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> Bool {
        try chargeComparison(left, right, line)
        switch comparison {
        case .less: return try precedes(left, right, line)
        case .greater: return try precedes(right, left, line)
        case .lessOrEqual: return try precedes(left, right, line) || TemplateValue.equal(left, right)
        default: return try precedes(right, left, line) || TemplateValue.equal(left, right)
        }
    }

    private func precedes(
        _ left: TemplateValue, _ right: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> Bool {
        if let left = left.integerLike, let right = right.integerLike { return left < right }
        if let left = left.numeric, let right = right.numeric { return left < right }
        if case .string(let left) = left, case .string(let right) = right { return PythonText.precedes(left, right) }
        _ = try (defined(left, line), defined(right, line))
        throw failure("'\(left.typeName)' and '\(right.typeName)' cannot be ordered", line)
    }

    private mutating func contains(
        _ container: TemplateValue, _ value: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> Bool {
        switch container {
        case .undefined: return false
        case .list(let list):
            try charge(steps: list.items.count + list.size / TemplateLimits.bytesPerStep, line)
            return list.items.contains { TemplateValue.equal($0, value) }
        case .mapping(let mapping):
            guard case .string(let key) = value else { return false }
            try charge(reading: key, line)
            return mapping[key] != nil
        case .string(let text):
            guard case .string(let needle) = value else {
                throw failure("'in <string>' requires string as left operand, not \(value.typeName)", line)
            }
            try chargeSearch(text, needle, line)
            return PythonText.contains(text, needle)
        default:
            throw failure("argument of type '\(container.typeName)' is not iterable", line)
        }
    }

    /// A search may compare each byte of one text with each of the other.
    mutating func chargeSearch(_ text: String, _ needle: String, _ line: Int) throws(ChatTemplateError) {
        let (work, overflow) = text.utf8.count.multipliedReportingOverflow(by: needle.utf8.count)
        try charge(steps: overflow ? .max : work / 1024, line)
    }

    private mutating func arithmetic(
        _ operation: TemplateOperator, _ left: TemplateValue, _ right: TemplateValue, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        if let a = left.integerLike, let b = right.integerLike { return try integers(operation, a, b, line) }
        if let a = left.numeric, let b = right.numeric { return try numbers(operation, a, b, line) }
        switch (operation, left, right) {
        case (.add, .string(let a), .string(let b)):
            try charge(bytes: a.utf8.count + b.utf8.count, line)
            return .string(a + b)
        case (.add, .list(let a), .list(let b)) where a.isTuple == b.isTuple:
            return try list(a.items + b.items, isTuple: a.isTuple, line)
        case (.multiply, .string(let text), .integer(let count)), (.multiply, .integer(let count), .string(let text)):
            let repetitions = Int(clamping: max(0, count))
            let (bytes, overflow) = text.utf8.count.multipliedReportingOverflow(by: repetitions)
            try charge(bytes: overflow ? .max : bytes, line)
            return .string(text.isEmpty ? "" : String(repeating: text, count: repetitions))
        default:
            _ = try (defined(left, line), defined(right, line))
            throw failure(
                "unsupported operand types for \(operation.rawValue): '\(left.typeName)' and '\(right.typeName)'", line)
        }
    }

    private func integers(
        _ operation: TemplateOperator, _ a: Int64, _ b: Int64, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        let result: (partialValue: Int64, overflow: Bool)
        switch operation {
        case .add: result = a.addingReportingOverflow(b)
        case .subtract: result = a.subtractingReportingOverflow(b)
        case .multiply: result = a.multipliedReportingOverflow(by: b)
        case .divide: return try numbers(.divide, Double(a), Double(b), line)
        case .floorDivide, .modulo:
            guard b != 0 else { throw failure("division by zero", line) }
            let quotient = a.dividedReportingOverflow(by: b)
            let remainder = a.remainderReportingOverflow(dividingBy: b).partialValue
            // Python rounds down, Swift towards zero.
            let adjusts = remainder != 0 && (remainder < 0) != (b < 0)
            if operation == .floorDivide {
                result = (adjusts ? quotient.partialValue - 1 : quotient.partialValue, quotient.overflow)
            } else {
                result = (adjusts ? remainder + b : remainder, false)
            }
        }
        guard !result.overflow else { throw failure("an integer is too large", line) }
        return .integer(result.partialValue)
    }

    private func numbers(
        _ operation: TemplateOperator, _ a: Double, _ b: Double, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        switch operation {
        case .add: return .number(a + b)
        case .subtract: return .number(a - b)
        case .multiply: return .number(a * b)
        case .divide, .floorDivide, .modulo:
            guard b != 0 else { throw failure("division by zero", line) }
            if operation == .divide { return .number(a / b) }
            let quotient = (a / b).rounded(.down)
            return .number(operation == .floorDivide ? quotient : a - quotient * b)
        }
    }

    // MARK: - Calls

    private mutating func evaluateCall(
        _ base: TemplateExpression, _ arguments: TemplateArguments, _ line: Int
    ) throws(ChatTemplateError) -> TemplateValue {
        let callee = try evaluate(base)
        let call = try evaluate(arguments, line)
        switch callee {
        case .function(let name): return try callFunction(name, call)
        case .method(let method): return try TemplateMethods.call(method, call, &self)
        case .macro(let macro): return try self.call(macro, call)
        case .undefined(let reason): throw failure(reason, line)
        default: throw failure("'\(callee.typeName)' object is not callable", line)
        }
    }

    static let functions = ["range", "namespace", "dict", "raise_exception"]

    private mutating func callFunction(_ name: String, _ call: TemplateCall) throws(ChatTemplateError) -> TemplateValue
    {
        switch name {
        case "raise_exception":
            throw ChatTemplateError(
                kind: .raised, line: call.line, reason: call.value(0, "message")?.text ?? "the template refuses")
        case "range": return try callRange(call)
        case "strftime_now":
            guard let now, let format = try call.string(0, "format") else {
                throw call.failure("strftime_now takes a format")
            }
            try charge(reading: format, call.line)
            guard let text = now.text(format: format) else {
                throw ChatTemplateError(
                    kind: .unsupported, line: call.line, reason: "the date format \(format) is not supported")
            }
            return try string(text, call.line)
        case "namespace":
            let namespace = TemplateNamespace()
            if case .mapping(let mapping)? = call.positional.first {
                try charge(steps: mapping.keys.count, call.line)
                for key in mapping.keys { namespace.attributes[key] = mapping[key] }
            }
            for (name, value) in call.keywords {
                guard value.isPlain else { throw tooDeep(call.line) }
                namespace.attributes[name] = value
            }
            return .namespace(namespace)
        default:
            var mapping = TemplateMapping()
            if case .mapping(let given)? = call.positional.first {
                // What is added makes a copy of it.
                try charge(steps: given.keys.count, call.line)
                mapping = given
            }
            for (name, value) in call.keywords {
                guard mapping.set(name, value) else { throw tooDeep(call.line) }
            }
            return .mapping(mapping)
        }
    }

    private mutating func callRange(_ call: TemplateCall) throws(ChatTemplateError) -> TemplateValue {
        var numbers: [Int64] = []
        for value in call.positional {
            guard let number = value.integerLike else {
                throw call.failure("range takes ints, not a \(value.typeName)")
            }
            numbers.append(number)
        }
        guard (1...3).contains(numbers.count) else { throw call.failure("range takes 1 to 3 arguments") }
        let start = numbers.count == 1 ? 0 : numbers[0]
        let stop = numbers.count == 1 ? numbers[0] : numbers[1]
        let step = numbers.count == 3 ? numbers[2] : 1
        guard step != 0 else { throw call.failure("range() arg 3 must not be zero") }
        var items: [TemplateValue] = []
        for value in Swift.stride(from: start, to: stop, by: Int64.Stride(step)) {
            guard items.count < TemplateLimits.rangeLength else {
                throw ChatTemplateError(
                    kind: .limit, line: call.line, reason: "range of more than \(TemplateLimits.rangeLength) elements")
            }
            items.append(.integer(value))
        }
        return try list(items, call.line)
    }
}
