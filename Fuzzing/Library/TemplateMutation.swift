// Tandem — Apache-2.0

import TestSupport

/// Changes to chat templates that leave most of them well formed.
enum TemplateMutation {
    private static let words: [String] =
        TemplateGrammar.filters + TemplateGrammar.tests + TemplateGrammar.methods + TemplateGrammar.names + [
            "{{", "}}", "{%", "%}", "{%-", "-%}", "{{-", "-}}", "{%+", "{#", "#}", "(", ")", "[", "]", "{", "}", ",",
            ":",
            ".", "|", "=", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "//", "%", "~", "**", " and ", " or ",
            " not ", " in ", " not in ", " is ", " is not ", " if ", " else ", " elif ", " endif ", " for ", " endfor ",
            " set ", " endset ", " break ", " continue ", " generation ", " endgeneration ", " macro ", " filter ",
            " raw ", " endraw ", " include ", " block ", "none", "true", "false", "''", "\"", "'", "\\", "\n", "\t",
            "0", "1", "-1", "2", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e308", "1e999",
            "0.0", "-0.0", "1_000", "[::0]", "[::-1]", "[1:]", "[:-1]", "[9223372036854775807:]", "loop.index",
            "loop.previtem", "loop.nextitem", "loop.last", "namespace(a=1)", "range(9)", "range(0,9,0)",
            "range(9223372036854775807)", "{% for x in y %}", "{% endfor %}", "{% if x %}", "{% endif %}",
            "{% set x = 1 %}", "{% set ns.a = x %}", "{% generation %}", "{% endgeneration %}", "\u{301}", "\u{0}", "𝄞",
            "\\u0041", "'\\ud800'", "'\\x'", "\u{2028}",
        ]

    static func mutate(_ input: inout [UInt8], _ other: [UInt8], _ generator: inout SeededGenerator) {
        let tokens = split(input)
        guard let index = tokens.indices.randomElement(using: &generator) else {
            input = other
            return
        }
        let token = tokens[index]
        switch generator.next() % 12 {
        case 0, 1: input.replaceSubrange(token, with: word(&generator))
        case 2: input.insert(contentsOf: word(&generator), at: token.lowerBound)
        case 3: input.removeSubrange(token)
        case 4, 5:
            let others = split(other)
            guard let chosen = others.randomElement(using: &generator) else { return }
            input.replaceSubrange(token, with: other[chosen])
        case 6:
            // Several tokens once more, somewhere else.
            let last = tokens[min(tokens.count - 1, index + Int.random(in: 0..<12, using: &generator))]
            let place = tokens.randomElement(using: &generator) ?? token
            input.insert(contentsOf: input[token.lowerBound..<last.upperBound], at: place.lowerBound)
        case 7:
            let last = tokens[min(tokens.count - 1, index + Int.random(in: 0..<12, using: &generator))]
            input.removeSubrange(token.lowerBound..<last.upperBound)
        case 8: repeatMany(&input, token, &generator)
        case 9:
            let others = split(other)
            guard let chosen = others.randomElement(using: &generator) else { return }
            input = Array(input[..<token.lowerBound] + other[chosen.lowerBound...])
        case 10:
            var grammar = TemplateGrammar()
            input.replaceSubrange(token, with: Array(grammar.expression(&generator, depth: 2).utf8))
        default:
            var grammar = TemplateGrammar()
            input.insert(contentsOf: Array(grammar.template(&generator).utf8), at: token.lowerBound)
        }
    }

    private static func word(_ generator: inout SeededGenerator) -> [UInt8] {
        Array((words.randomElement(using: &generator) ?? "").utf8)
    }

    /// Deep nesting and long chains.
    private static func repeatMany(_ input: inout [UInt8], _ token: Range<Int>, _ generator: inout SeededGenerator) {
        let count = [3, 31, 63, 64, 65, 127, 128, 129, 500, 3000].randomElement(using: &generator) ?? 3
        let pairs = [
            ("(", ")"), ("[", "]"), ("{'a':", "}"), ("not ", ""), ("-", ""), ("", "+1"), ("", "~'a'"), ("", "|trim"),
            ("", ".a"), ("", "[0]"), ("", " if a else b"), ("", " or a"), ("", " == 1"), ("{% if a %}", "{% endif %}"),
            ("{% for a in b %}", "{% endfor %}"), ("{{", "}}"), ("'a'", "'a'"), ("", " is defined"), ("a(", ")"),
        ]
        let (left, right) = pairs.randomElement(using: &generator) ?? ("(", ")")
        let piece =
            String(repeating: left, count: count) + String(decoding: input[token], as: UTF8.self)
            + String(repeating: right, count: count)
        input.replaceSubrange(token, with: Array(piece.utf8))
    }

    /// Words, runs of spaces, and single other characters; delimiters stay together.
    private static func split(_ input: [UInt8]) -> [Range<Int>] {
        var tokens: [Range<Int>] = []
        var position = 0
        while position < input.count {
            let start = position
            let kind = kind(input[start])
            position += 1
            while kind != 0, position < input.count, self.kind(input[position]) == kind, position - start < 40 {
                position += 1
            }
            tokens.append(start..<position)
        }
        return tokens
    }

    private static func kind(_ byte: UInt8) -> Int {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), 0x80...:
            1
        case UInt8(ascii: " "), UInt8(ascii: "\n"): 2
        case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "%"): 3
        default: 0
        }
    }
}
