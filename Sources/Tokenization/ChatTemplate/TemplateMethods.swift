// Tandem — Apache-2.0

/// The methods of Python's `str` and `dict` that templates call.
enum TemplateMethods {
    static let ofStrings: Set<String> = [
        "strip", "lstrip", "rstrip", "startswith", "endswith", "split", "replace", "upper", "lower", "capitalize",
        "title", "join", "find", "count", "isdigit", "isspace", "removeprefix", "removesuffix",
    ]
    /// All attributes of `dict`, as they hide elements of the same name; those that change it are refused when called.
    static let ofMappings: Set<String> = [
        "items", "keys", "values", "get", "clear", "copy", "fromkeys", "pop", "popitem", "setdefault", "update",
    ]

    static func call(
        _ method: TemplateMethod, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        switch method.receiver {
        case .string(let text):
            try interpreter.charge(reading: text, call.line)
            try interpreter.charge(reading: call, call.line)
            return try ofString(text, method.name, call, &interpreter)
        case .mapping(let mapping):
            try interpreter.charge(reading: call, call.line)
            return try ofMapping(mapping, method.name, call, &interpreter)
        case .loop(let loop):
            guard !call.positional.isEmpty else { throw call.failure("cycle without values") }
            return call.positional[loop.index % call.positional.count]
        default: throw call.failure("'\(method.receiver.typeName)' object has no method \(method.name)")
        }
    }

    private static func ofMapping(
        _ mapping: TemplateMapping, _ name: String, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        switch name {
        case "get":
            guard case .string(let key)? = call.value(0, "key") else { return call.value(1, "default") ?? .none }
            return mapping[key] ?? call.value(1, "default") ?? .none
        case "items": return try TemplateFilters.items(of: mapping, call.line, &interpreter)
        case "keys": return try interpreter.list(mapping.keys.map { .string($0) }, call.line)
        case "values": return try interpreter.list(mapping.keys.compactMap { mapping[$0] }, call.line)
        case "copy": return .mapping(mapping)
        default: throw call.failure("the method \(name) of a dict may not be called: it changes the dict")
        }
    }

    private static func ofString(
        _ text: String, _ name: String, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        switch name {
        case "strip", "lstrip", "rstrip":
            let stripped = PythonText.strip(
                text, try call.string(0, "chars"), leading: name != "rstrip", trailing: name != "lstrip")
            return try interpreter.string(stripped, call.line)
        case "startswith": return .boolean(try matches(call) { PythonText.hasPrefix(text, $0) })
        case "endswith": return .boolean(try matches(call) { PythonText.hasSuffix(text, $0) })
        case "split": return try split(text, call, &interpreter)
        case "replace":
            return try TemplateFilters.replace(
                text, try required(call, 0, "old"), try required(call, 1, "new"),
                limit: try call.integer(2, "count", default: -1), call, &interpreter)
        case "upper": return try interpreter.string(text.uppercased(), call.line)
        case "lower": return try interpreter.string(text.lowercased(), call.line)
        case "capitalize": return try interpreter.string(PythonText.capitalize(text), call.line)
        case "join":
            guard let items = call.value(0, "iterable") else { throw call.failure("join takes an iterable") }
            var parts: [String] = []
            for item in try interpreter.elements(of: items, call.line) {
                guard case .string(let part) = item else {
                    throw call.failure("join takes strings, not a \(item.typeName)")
                }
                parts.append(part)
            }
            return try TemplateFilters.join(parts, text, call, &interpreter)
        case "find", "count":
            let needle = try required(call, 0, "sub")
            guard call.positional.count == 1, !needle.isEmpty else {
                throw call.failure("\(name) takes one string that is not empty")
            }
            try interpreter.chargeSearch(text, needle, call.line)
            let bytes = Array(text.utf8)
            let found = PythonText.occurrences(
                of: Array(needle.utf8), in: bytes, limit: name == "find" ? 1 : interpreter.remainingSteps)
            try interpreter.charge(steps: found.count, call.line)
            if name == "count" { return .integer(Int64(found.count)) }
            guard let offset = found.first else { return .integer(-1) }
            return .integer(Int64(String(decoding: bytes[..<offset], as: UTF8.self).unicodeScalars.count))
        case "isdigit":
            return .boolean(!text.isEmpty && text.unicodeScalars.allSatisfy { $0.properties.numericType == .decimal })
        case "isspace": return .boolean(!text.isEmpty && text.unicodeScalars.allSatisfy(PythonText.isSpace))
        case "removeprefix":
            let prefix = try required(call, 0, "prefix")
            let rest = PythonText.hasPrefix(text, prefix) ? text.utf8.dropFirst(prefix.utf8.count) : text.utf8[...]
            return try interpreter.string(String(decoding: rest, as: UTF8.self), call.line)
        case "removesuffix":
            let suffix = try required(call, 0, "suffix")
            let rest = PythonText.hasSuffix(text, suffix) ? text.utf8.dropLast(suffix.utf8.count) : text.utf8[...]
            return try interpreter.string(String(decoding: rest, as: UTF8.self), call.line)
        default:
            throw ChatTemplateError(
                kind: .unsupported, line: call.line, reason: "the string method \(name) is not supported")
        }
    }

    private static func required(_ call: TemplateCall, _ index: Int, _ name: String) throws(ChatTemplateError) -> String
    {
        guard let text = try call.string(index, name) else { throw call.failure("missing argument \(name)") }
        return text
    }

    /// `startswith` and `endswith` take a string or a tuple of them.
    private static func matches(
        _ call: TemplateCall, _ test: (String) -> Bool
    ) throws(ChatTemplateError) -> Bool {
        if case .list(let list)? = call.positional.first {
            for item in list.items {
                guard case .string(let text) = item else {
                    throw call.failure("expected strings, not a \(item.typeName)")
                }
                if test(text) { return true }
            }
            return false
        }
        return test(try required(call, 0, "prefix"))
    }

    private static func split(
        _ text: String, _ call: TemplateCall, _ interpreter: inout TemplateInterpreter
    ) throws(ChatTemplateError) -> TemplateValue {
        let maximum = try call.integer(1, "maxsplit", default: -1)
        let limit = min(maximum < 0 ? Int.max : Int(clamping: maximum), interpreter.remainingSteps)
        let pieces: [String]
        if let separator = try call.string(0, "sep") {
            guard !separator.isEmpty else { throw call.failure("empty separator") }
            try interpreter.chargeSearch(text, separator, call.line)
            pieces = PythonText.split(text, by: separator, limit: limit)
        } else {
            pieces = PythonText.splitAtSpace(text, limit: limit)
        }
        try interpreter.charge(bytes: text.utf8.count, call.line)
        return try interpreter.list(pieces.map { .string($0) }, call.line)
    }
}
