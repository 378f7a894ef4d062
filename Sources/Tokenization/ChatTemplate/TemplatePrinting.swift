// Tandem — Apache-2.0

extension TemplateValue {
    /// Python's `str`; nil for what has no text worth rendering.
    var text: String? {
        switch self {
        case .undefined: ""
        case .string(let text): text
        default: representation
        }
    }

    /// Python's `repr`.
    var representation: String? {
        switch self {
        case .undefined: return "Undefined"
        case .none: return "None"
        case .boolean(let value): return value ? "True" : "False"
        case .integer(let value): return String(value)
        case .number(let value): return PythonText.number(value)
        case .string(let text): return PythonText.quoted(text)
        case .list(let list):
            let parts = list.items.compactMap(\.representation)
            if list.isTuple { return "(" + parts.joined(separator: ", ") + (parts.count == 1 ? ",)" : ")") }
            return "[" + parts.joined(separator: ", ") + "]"
        case .mapping(let mapping):
            let parts = mapping.keys.compactMap { key in
                mapping[key]?.representation.map { PythonText.quoted(key) + ": " + $0 }
            }
            return "{" + parts.joined(separator: ", ") + "}"
        case .namespace, .loop, .function, .method, .macro: return nil
        }
    }
}

/// Python's `json.dumps`, as Hugging Face's `tojson` filter calls it.
struct TemplateJSON {
    var escapesNonASCII = false
    var sortsKeys = false
    /// Spaces for each level; nil for one line.
    var indent: Int?
    var itemSeparator = ", "
    var keySeparator = ": "

    /// - Returns: nil if some part is not JSON, or the text would be longer than a template may write.
    func text(of value: TemplateValue) -> String? {
        var result = ""
        return append(value, level: 0, to: &result) ? result : nil
    }

    private func append(_ value: TemplateValue, level: Int, to result: inout String) -> Bool {
        guard result.utf8.count <= TemplateLimits.outputBytes else { return false }
        switch value {
        case .none: result += "null"
        case .boolean(let value): result += value ? "true" : "false"
        case .integer(let value): result += String(value)
        case .number(let value):
            result +=
                value.isNaN
                ? "NaN" : value.isInfinite ? (value < 0 ? "-Infinity" : "Infinity") : PythonText.number(value)
        case .string(let text): appendQuoted(text, to: &result)
        case .list(let list):
            if list.items.isEmpty {
                result += "[]"
                return true
            }
            result += "["
            for (index, item) in list.items.enumerated() {
                beginItem(isFirst: index == 0, level: level + 1, to: &result)
                guard append(item, level: level + 1, to: &result) else { return false }
            }
            endItems(level: level, to: &result)
            result += "]"
        case .mapping(let mapping):
            if mapping.keys.isEmpty {
                result += "{}"
                return true
            }
            result += "{"
            let keys = sortsKeys ? mapping.keys.sorted(by: PythonText.precedes) : mapping.keys
            for (index, key) in keys.enumerated() {
                beginItem(isFirst: index == 0, level: level + 1, to: &result)
                appendQuoted(key, to: &result)
                result += keySeparator
                guard let item = mapping[key], append(item, level: level + 1, to: &result) else { return false }
            }
            endItems(level: level, to: &result)
            result += "}"
        case .undefined, .namespace, .loop, .function, .method, .macro: return false
        }
        return true
    }

    private func beginItem(isFirst: Bool, level: Int, to result: inout String) {
        if !isFirst { result += itemSeparator }
        if let indent { result += "\n" + String(repeating: " ", count: indent * level) }
    }

    private func endItems(level: Int, to result: inout String) {
        if let indent { result += "\n" + String(repeating: " ", count: indent * level) }
    }

    private func appendQuoted(_ text: String, to result: inout String) {
        result += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case "\u{08}": result += "\\b"
            case "\u{0C}": result += "\\f"
            default:
                if scalar.value < 32 || (escapesNonASCII && scalar.value > 126) {
                    // Python escapes DEL too when it escapes all but ASCII's printable characters.
                    for unit in String(scalar).utf16 {
                        let digits = String(unit, radix: 16)
                        result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
                    }
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        result += "\""
    }
}
