// Tandem — Apache-2.0

import TestSupport

/// Writes random templates that are mostly valid.
struct TemplateGrammar {
    static let filters = [
        "trim", "tojson", "length", "count", "upper", "lower", "capitalize", "default", "d", "join", "first", "last",
        "string", "items", "list", "map", "selectattr", "rejectattr", "replace", "reverse", "int", "float", "abs",
        "safe",
    ]
    static let tests = [
        "defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "boolean",
        "true", "false", "equalto", "odd", "even", "callable", "in",
    ]
    static let methods = [
        "get", "items", "keys", "values", "copy", "strip", "lstrip", "rstrip", "startswith", "endswith", "split",
        "replace", "upper", "lower", "capitalize", "join", "find", "count", "isdigit", "isspace", "removeprefix",
        "removesuffix", "title", "append", "format",
    ]
    static let names = [
        "messages", "message", "tools", "bos_token", "eos_token", "add_generation_prompt", "ns", "loop", "x", "y",
        "role",
        "content", "tool_calls", "function", "arguments", "name", "namespace", "range", "dict", "raise_exception",
        "strftime_now", "documents",
    ]

    /// Nodes that may still be written.
    private var budget = 40

    /// Values for some of the names, so that not everything is undefined.
    static func names(_ generator: inout SeededGenerator) -> String {
        guard generator.next() % 4 != 0 else { return "" }
        return
            "{% set ns = namespace(x=1) %}{% set message = messages[0] %}{% set x = ' a, b ' %}{% set y = [3, 'a'] %}"
    }

    /// A template.
    mutating func template(_ generator: inout SeededGenerator) -> String {
        statements(&generator, depth: 0)
    }

    /// A template that does something with a long text again and again.
    mutating func greedyTemplate(_ generator: inout SeededGenerator) -> String {
        budget = 12
        let count = pick(["1000", "1000000", "8000000"], &generator)
        return "{% set x = \(pick(["'a'", "' '", "'1'", "'é, '"], &generator)) * \(count) %}{% set name = x ~ x %}"
            + "{% for y in range(99999) %}{% if \(expression(&generator, depth: 3)) %}{{ y }}{% endif %}{% endfor %}"
    }

    private mutating func statements(_ generator: inout SeededGenerator, depth: Int) -> String {
        var text = ""
        for _ in 0..<Int.random(in: 1...4, using: &generator) where budget > 0 {
            text += statement(&generator, depth: depth)
        }
        return text
    }

    private mutating func statement(_ generator: inout SeededGenerator, depth: Int) -> String {
        budget -= 1
        let (open, close) = Bool.random(using: &generator) ? ("{%- ", " -%}") : ("{% ", " %}")
        guard depth < 4 else { return "{{ \(expression(&generator, depth: 2)) }}" }
        switch generator.next() % 10 {
        case 0: return pick(["text ", "\n", "  \n  ", "é☃", "<|im_start|>", "{", "}", "{# c #}"], &generator)
        case 1, 2, 3: return "{{ \(expression(&generator, depth: 3)) }}"
        case 4, 5:
            let body = statements(&generator, depth: depth + 1)
            let rest = generator.next() % 3 == 0 ? open + "else" + close + statements(&generator, depth: depth + 1) : ""
            return open + "if " + expression(&generator, depth: 2) + close + body + rest + open + "endif" + close
        case 6, 7:
            let target = pick(["message", "x", "x, y"], &generator)
            let condition = generator.next() % 4 == 0 ? " if " + expression(&generator, depth: 1) : ""
            let body = statements(&generator, depth: depth + 1)
            let leave = generator.next() % 5 == 0 ? open + pick(["break", "continue"], &generator) + close : ""
            return open + "for \(target) in " + iterable(&generator) + condition + close + body + leave + open
                + "endfor"
                + close
        case 8:
            let target = pick(["x", "y", "ns", "ns.x", "x, y", "messages"], &generator)
            return open + "set \(target) = " + expression(&generator, depth: 3) + close
        default:
            return open + "set x" + close + statements(&generator, depth: depth + 1) + open + "endset" + close
        }
    }

    private mutating func iterable(_ generator: inout SeededGenerator) -> String {
        switch generator.next() % 4 {
        case 0: expression(&generator, depth: 2)
        case 1: "range(\(Int.random(in: -2...12, using: &generator)))"
        case 2: pick(["messages", "messages[1:]", "tools", "message.content", "message.items()", "x"], &generator)
        default: "messages"
        }
    }

    /// An expression.
    mutating func expression(_ generator: inout SeededGenerator, depth: Int) -> String {
        budget -= 1
        guard depth > 0, budget > 0 else { return atom(&generator) }
        let inner = expression(&generator, depth: depth - 1)
        switch generator.next() % 14 {
        case 0: return atom(&generator)
        case 1, 2:
            let operation = pick(
                [
                    " + ", " - ", " * ", " / ", " // ", " % ", " ~ ", " == ", " != ", " < ", " <= ", " in ", " not in ",
                    " and ", " or ",
                ], &generator)
            return inner + operation + expression(&generator, depth: depth - 1)
        case 3: return pick(["not ", "-", "+"], &generator) + inner
        case 4, 5:
            let arguments = generator.next() % 2 == 0 ? "(" + expression(&generator, depth: depth - 1) + ")" : ""
            return inner + " | " + pick(Self.filters, &generator) + arguments
        case 6: return inner + pick([" is ", " is not "], &generator) + pick(Self.tests, &generator)
        case 7, 8: return inner + "." + pick(Self.methods, &generator) + "(" + self.arguments(&generator, depth) + ")"
        case 9: return inner + "." + pick(Self.names, &generator)
        case 10: return inner + "[" + expression(&generator, depth: depth - 1) + "]"
        case 11:
            return inner + "[" + bound(&generator) + ":" + bound(&generator) + pick(["", ":", ":-1", ":2"], &generator)
                + "]"
        case 12:
            return "(" + inner + " if " + expression(&generator, depth: depth - 1) + " else " + atom(&generator) + ")"
        default:
            return pick(["namespace", "dict", "range", "raise_exception"], &generator) + "("
                + self.arguments(&generator, depth) + ")"
        }
    }

    private mutating func arguments(_ generator: inout SeededGenerator, _ depth: Int) -> String {
        var list: [String] = []
        for _ in 0..<Int.random(in: 0...2, using: &generator) {
            let name = generator.next() % 4 == 0 ? pick(["x=", "indent=", "default=", "attribute="], &generator) : ""
            list.append(name + expression(&generator, depth: depth - 1))
        }
        return list.joined(separator: ", ")
    }

    private func bound(_ generator: inout SeededGenerator) -> String {
        pick(["", "0", "1", "-1", "2", "-9223372036854775808", "9223372036854775807"], &generator)
    }

    private func atom(_ generator: inout SeededGenerator) -> String {
        switch generator.next() % 8 {
        case 0:
            pick(
                [
                    "0", "1", "-1", "7", "2.5", "1e300", "9223372036854775807", "-9223372036854775807 - 1", "true",
                    "none",
                ],
                &generator)
        case 1, 2: pick(["'a'", "''", "'role'", "'content'", "'user'", "\"é\\n\"", "' , '", "'%s {}'"], &generator)
        case 3:
            pick(["[]", "[1, 2, 3]", "['a', 'b']", "{}", "{'a': 1}", "(1, 2)", "[messages]", "[[1], [2]]"], &generator)
        case 4: pick(["message['role']", "message.content", "messages[0]", "loop.index0", "loop.last"], &generator)
        default: pick(Self.names, &generator)
        }
    }

    private func pick(_ list: [String], _ generator: inout SeededGenerator) -> String {
        list.randomElement(using: &generator) ?? ""
    }
}
