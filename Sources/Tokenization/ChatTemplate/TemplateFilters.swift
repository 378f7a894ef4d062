// Tandem — Apache-2.0

/// Jinja's filters that templates use.
enum TemplateFilters {
    static let names = Set([
        "trim", "tojson", "length", "count", "upper", "lower", "capitalize", "default", "d", "join", "first", "last",
        "string", "items", "list", "map", "selectattr", "rejectattr", "replace", "reverse", "int", "float", "abs",
        "safe",
    ]).union(TemplateOrdering.names)

    static func apply(
        _ name: String, to value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        let line = call.line
        if case .string(let text) = value { try interpreter.charge(reading: text, line) }
        switch name {
        case "default", "d":
            let replacesFalse = call.value(1, "boolean")?.isTrue ?? false
            if case .undefined = value { return call.value(0, "default_value") ?? .string("") }
            return replacesFalse && !value.isTrue ? call.value(0, "default_value") ?? .string("") : value
        case "tojson": return try json(value, call, &interpreter)
        case "length", "count": return .integer(Int64(try length(value, call)))
        case "join": return try join(value, call, &interpreter)
        case "first", "last":
            let items = try interpreter.elements(of: value, line)
            return (name == "first" ? items.first : items.last) ?? .undefined("no \(name) item, sequence was empty")
        case "list": return try interpreter.list(try interpreter.elements(of: value, line), line)
        case "reverse":
            if case .string(let text) = value {
                return try interpreter.string(String(String.UnicodeScalarView(text.unicodeScalars.reversed())), line)
            }
            return try interpreter.list(try interpreter.elements(of: value, line).reversed(), line)
        case "items":
            if case .undefined = value { return try interpreter.list([], line) }
            guard case .mapping(let mapping) = value else { throw call.failure("can only get items of a mapping") }
            return try items(of: mapping, line, &interpreter)
        case "map": return try map(value, call, &interpreter)
        case "selectattr", "rejectattr": return try select(value, keeps: name == "selectattr", call, &interpreter)
        case "int", "float", "abs": return try number(name, value, call)
        default:
            return TemplateOrdering.names.contains(name)
                ? try TemplateOrdering.apply(name, to: value, call, &interpreter)
                : try text(name, value, call, &interpreter)
        }
    }

    /// The filters that work on the text of any value.
    private static func text(
        _ name: String, _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        guard let text = value.text else { throw call.failure("a \(value.typeName) is not text") }
        try interpreter.charge(reading: call, call.line)
        switch name {
        case "trim":
            let trimmed = PythonText.strip(text, try call.string(0, "chars"), leading: true, trailing: true)
            return try interpreter.string(trimmed, call.line)
        case "upper": return try interpreter.string(text.uppercased(), call.line)
        case "lower": return try interpreter.string(text.lowercased(), call.line)
        case "capitalize": return try interpreter.string(PythonText.capitalize(text), call.line)
        case "replace":
            guard let old = call.value(0, "old")?.text, let new = call.value(1, "new")?.text else {
                throw call.failure("replace takes two strings")
            }
            let limit = try call.integer(2, "count", default: -1)
            return try replace(text, old, new, limit: limit, call, &interpreter)
        default: return try interpreter.string(text, call.line)
        }
    }

    private static func length(_ value: TemplateValue, _ call: TemplateCall) throws(ChatTemplateError) -> Int {
        switch value {
        case .undefined: return 0
        case .string(let text): return text.unicodeScalars.count
        case .list(let list): return list.items.count
        case .mapping(let mapping): return mapping.keys.count
        default: throw call.failure("object of type '\(value.typeName)' has no len()")
        }
    }

    static func items(
        of mapping: TemplateMapping, _ line: Int, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        var pairs: [TemplateValue] = []
        for key in mapping.keys {
            guard let value = mapping[key] else { continue }
            pairs.append(try interpreter.list([.string(key), value], isTuple: true, line))
        }
        return try interpreter.list(pairs, line)
    }

    private static func json(
        _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        var writer = TemplateJSON()
        writer.escapesNonASCII = call.value(0, "ensure_ascii")?.isTrue ?? false
        let indent = try call.integer(1, "indent", default: -1)
        guard indent <= 16 else { throw call.failure("tojson indents by 16 at most") }
        if indent >= 0 {
            writer.indent = Int(indent)
            writer.itemSeparator = ","
        }
        if case .list(let separators)? = call.value(2, "separators") {
            guard separators.items.count == 2, case .string(let item) = separators.items[0],
                case .string(let key) = separators.items[1], item.utf8.count + key.utf8.count <= 16
            else { throw call.failure("separators are two short strings") }
            writer.itemSeparator = item
            writer.keySeparator = key
        }
        writer.sortsKeys = call.value(3, "sort_keys")?.isTrue ?? false
        try interpreter.charge(bytes: value.size, call.line)
        guard let text = writer.text(of: value) else {
            throw call.failure("a \(value.typeName) is not JSON serializable, or too large")
        }
        return try interpreter.string(text, call.line)
    }

    private static func join(
        _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        var parts: [String] = []
        let path = try call.string(1, "attribute")
        for item in try interpreter.elements(of: value, call.line) {
            let item =
                try path.map { path throws(ChatTemplateError) in try attribute(path, of: item, call, &interpreter) }
                ?? item
            guard let text = item.text else { throw call.failure("a \(item.typeName) is not text") }
            parts.append(text)
        }
        return try join(parts, call.value(0, "d")?.text ?? "", call, &interpreter)
    }

    static func join(
        _ parts: [String], _ separator: String, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        // Charged before it is made: the same long text may be joined many times.
        var total = 0
        for part in parts {
            total += part.utf8.count + separator.utf8.count
            guard total <= TemplateLimits.textBytes else { break }
        }
        try interpreter.charge(bytes: total, call.line)
        return .string(parts.joined(separator: separator))
    }

    /// `a.b.0`, as `map` and its like take it.
    static func attribute(
        _ path: String, of value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        try interpreter.charge(reading: path, call.line)
        var value = value
        for part in path.split(separator: ".", omittingEmptySubsequences: false) {
            let index = Int64(part).map { TemplateValue.integer($0) } ?? .string(String(part))
            value = try interpreter.element(index, of: value, call.line)
        }
        return value
    }

    private static func map(
        _ value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        var results: [TemplateValue] = []
        let items = try interpreter.chosenElements(of: value, call.line)
        if let path = try call.string(Int.max, "attribute") {
            for item in items {
                let result = try attribute(path, of: item, call, &interpreter)
                if case .undefined = result, let fallback = call.value(Int.max, "default") {
                    results.append(fallback)
                } else {
                    results.append(result)
                }
            }
        } else {
            guard case .string(let filter)? = call.positional.first, names.contains(filter) else {
                throw call.failure("map takes attribute= or the name of a filter")
            }
            guard filter != "map" else { throw call.failure("map of map") }
            var rest = call
            rest.positional.removeFirst()
            for item in items { results.append(try apply(filter, to: item, rest, &interpreter)) }
        }
        return try interpreter.list(results, call.line)
    }

    private static func select(
        _ value: TemplateValue, keeps: Bool, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        guard case .string(let path)? = call.positional.first else { throw call.failure("missing argument attribute") }
        let test = call.positional.count > 1 ? try call.string(1, "test") : nil
        var rest = call
        rest.positional.removeFirst(min(2, rest.positional.count))
        var results: [TemplateValue] = []
        for item in try interpreter.chosenElements(of: value, call.line) {
            let part = try attribute(path, of: item, call, &interpreter)
            let holds: Bool
            if let test {
                guard TemplateTests.names.contains(test) else { throw call.failure("no test named \(test)") }
                holds = try TemplateTests.apply(test, to: part, rest, &interpreter)
            } else {
                holds = part.isTrue
            }
            if holds == keeps { results.append(item) }
        }
        return try interpreter.list(results, call.line)
    }

    static func replace(
        _ text: String, _ old: String, _ new: String, limit: Int64, _ call: TemplateCall,
        _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        guard !old.isEmpty else { throw call.failure("replace of an empty string") }
        try interpreter.chargeSearch(text, old, call.line)
        let most = min(limit < 0 ? .max : Int(clamping: limit), interpreter.remainingSteps)
        let pieces = PythonText.split(text, by: old, limit: most)
        try interpreter.charge(steps: pieces.count, call.line)
        return try join(pieces, new, call, &interpreter)
    }

    private static func number(
        _ name: String, _ value: TemplateValue, _ call: TemplateCall
    ) throws(ChatTemplateError) -> TemplateValue {
        switch (name, value) {
        case ("abs", .number(let number)): return .number(number.magnitude)
        case ("abs", _):
            guard let integer = value.integerLike, integer != .min else {
                throw call.failure("abs of a \(value.typeName), or too large")
            }
            return .integer(abs(integer))
        case ("float", .string(let text)):
            return Double(trimmed(text)).map { .number($0) } ?? call.value(0, "default") ?? .number(0)
        case ("float", _): return value.numeric.map { .number($0) } ?? call.value(0, "default") ?? .number(0)
        case (_, .string(let text)):
            let text = trimmed(text)
            if let integer = Int64(text) { return .integer(integer) }
            return Double(text).flatMap(truncated) ?? call.value(0, "default") ?? .integer(0)
        case (_, .number(let number)): return truncated(number) ?? call.value(0, "default") ?? .integer(0)
        default: return value.integerLike.map { .integer($0) } ?? call.value(0, "default") ?? .integer(0)
        }
    }

    private static func trimmed(_ text: String) -> String {
        PythonText.strip(text, nil, leading: true, trailing: true)
    }

    private static func truncated(_ number: Double) -> TemplateValue? {
        number.magnitude < 9e18 ? .integer(Int64(number)) : nil
    }
}

/// Jinja's tests: what may follow `is`.
enum TemplateTests {
    static let names: Set<String> = [
        "defined", "undefined", "none", "boolean", "true", "false", "string", "mapping", "sequence", "iterable",
        "number", "integer", "float", "callable", "even", "odd", "divisibleby", "in", "eq", "equalto", "ne", "lt", "le",
        "gt", "ge", "lessthan", "greaterthan",
    ]

    private static let comparisons: [String: TemplateComparison] = [
        "in": .isIn, "eq": .equal, "equalto": .equal, "ne": .notEqual, "lt": .less, "lessthan": .less,
        "le": .lessOrEqual, "gt": .greater, "greaterthan": .greater, "ge": .greaterOrEqual,
    ]

    static func apply(
        _ name: String, to value: TemplateValue, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> Bool {
        if let comparison = comparisons[name] {
            guard let other = call.positional.first else { throw call.failure("the test \(name) takes a value") }
            return try interpreter.compare(comparison, value, other, call.line)
        }
        switch (name, value) {
        case ("defined", .undefined): return false
        case ("defined", _): return true
        case ("undefined", .undefined): return true
        case ("none", .none): return true
        case ("boolean", .boolean): return true
        case ("true", .boolean(let flag)): return flag
        case ("false", .boolean(let flag)): return !flag
        case ("string", .string): return true
        case ("mapping", .mapping): return true
        // Jinja's Undefined has a length and can be iterated.
        case ("sequence", .string), ("sequence", .list), ("sequence", .mapping), ("sequence", .undefined): return true
        case ("iterable", .string), ("iterable", .list), ("iterable", .mapping), ("iterable", .undefined): return true
        case ("number", .integer), ("number", .number), ("number", .boolean): return true
        case ("integer", .integer): return true
        case ("float", .number): return true
        case ("callable", .function), ("callable", .method): return true
        case ("even", _), ("odd", _), ("divisibleby", _):
            let divisor = name == "divisibleby" ? call.positional.first?.integerLike : 2
            guard let number = value.integerLike, let divisor, divisor != 0 else {
                throw call.failure("the test \(name) takes ints")
            }
            let remainder = number.remainderReportingOverflow(dividingBy: divisor).partialValue
            return (remainder == 0) != (name == "odd")
        default: return false
        }
    }
}
