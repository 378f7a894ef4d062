// Tandem — Apache-2.0

import Foundation
import JSON
import TestSupport
import Testing

@testable import Tokenization

@Suite struct ChatTemplateTests {
    func render(_ source: String, messages: JSONValue = .array([]), extra: [String: JSONValue] = [:]) throws -> String {
        var variables = JSONObject()
        for name in extra.keys.sorted() { variables[name] = extra[name] }
        return try ChatTemplate(source: source).render(
            messages: messages, tools: nil, addGenerationPrompt: false, bosToken: "<s>", eosToken: "</s>",
            extra: variables)
    }

    func refusal(_ source: String, extra: [String: JSONValue] = [:]) -> ChatTemplateError? {
        #expect(throws: ChatTemplateError.self, "\(source.prefix(60))") { try render(source, extra: extra) }
    }

    @Test func unsupportedConstructsAreNamedWithTheirLine() {
        for tag in ["include 'x'", "import 'x' as y", "extends 'x'", "block b", "call m()", "raw", "with"] {
            let error = #expect(throws: ChatTemplateError.self) { try ChatTemplate(source: "a\n\n{% \(tag) %}") }
            #expect(error?.kind == .unsupported)
            #expect(error?.line == 3)
            #expect(error?.reason.contains(tag.prefix { $0.isLetter }) == true)
        }
        #expect(refusal("{{ 2 ** 3 }}")?.reason.contains("**") == true)
        #expect(refusal("{{ x|nosuch }}")?.reason.contains("nosuch") == true)
        #expect(refusal("{% for x in y recursive %}{% endfor %}")?.kind == .unsupported)
    }

    @Test func extraVariablesTakePrecedence() throws {
        #expect(try render("{{ x }}{{ bos_token }}", extra: ["x": .integer(1), "bos_token": .string("B")]) == "1B")
        #expect(try render("{{ strftime_now is defined }}") == "False")
    }

    @Test func textIsComparedByCodePoints() throws {
        let extra: [String: JSONValue] = ["a": .string("e\u{301}"), "b": .string("\u{E9}")]
        #expect(try render("{{ a == b }} {{ b in a }} {{ a|length }} {{ a[0] }}", extra: extra) == "False False 2 e")
        let flag: [String: JSONValue] = ["a": .string("\r\n")]
        #expect(try render("{{ a|length }}{{ a.split('\\n')|length }}", extra: flag) == "22")
    }

    /// As in Jinja, these take their first argument by position only.
    @Test func filtersOfItemsWantTheirFirstArgument() throws {
        for source in [
            "[' a ']|map(filter='trim')", "[' a ']|map", "[{}]|selectattr(attribute='a')", "[{}]|rejectattr",
        ] {
            #expect(refusal("{{ \(source)|list }}")?.kind == .evaluation)
        }
    }

    @Test func macrosSeeArgumentsDefaultsAndWhatIsSetOutside() throws {
        let source = "{% macro m(a, b='d', c=a) %}{{ a }}{{ b }}{{ c }}{{ x }}{% endmacro %}{% set x = 1 %}"
        #expect(
            try render(source + "{{ m(2) }} {{ m(2, c=3) }} {{ m() }} {% set x = 5 %}{{ m(b=4, a=2) }}")
                == "2d21 2d31 d1 2425")
        #expect(try render(source + "{% for x in [9] %}{{ m(2) }}{% endfor %}") == "2d21")
        #expect(
            try render("{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(9) }}")
                == "9876543210")
        for call in ["m(1, 2, 3, 4)", "m(d=1)", "m(1, a=1)"] {
            #expect(refusal(source + "{{ \(call) }}")?.kind == .evaluation)
        }
        #expect(refusal("{% macro m(a=1, b) %}{% endmacro %}")?.kind == .syntax)
        #expect(refusal("{% macro m() %}")?.kind == .syntax)
        #expect(refusal("{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}")?.kind == .syntax)
    }

    @Test func macrosThatCallThemselvesAreStopped() async {
        await onSmallStack {
            for source in [
                "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
                "{% macro f() %}{% if true %}{% for x in [1] %}{{ [f()] }}{% endfor %}{% endif %}{% endmacro %}{{ f() }}",
                "{% macro f(a=f()) %}{% endmacro %}{{ f() }}",
                "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
                "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(30) }}",
            ] {
                let error = #expect(throws: ChatTemplateError.self) {
                    try ChatTemplate(source: source).render(
                        messages: .null, tools: nil, addGenerationPrompt: false, bosToken: "", eosToken: "",
                        extra: JSONObject())
                }
                #expect(error?.kind == .limit)
            }
        }
    }

    /// Against Python's `datetime`, in the C locale.
    @Test(
        arguments: [
            (0, "Thu Jan  1 00:00:00 1970 001 70 12 AM 4 4"),
            (1_772_874_302, "Sat Mar  7 09:05:02 2026 066 26 09 AM 6 6"),
            (1_709_251_199, "Thu Feb 29 23:59:59 2024 060 24 11 PM 4 4"),
            (1_735_689_599, "Tue Dec 31 23:59:59 2024 366 24 11 PM 2 2"),
            (951_782_400, "Tue Feb 29 00:00:00 2000 060 00 12 AM 2 2"),
            (-1, "Wed Dec 31 23:59:59 1969 365 69 11 PM 3 3"),
            (4_107_542_400, "Mon Mar  1 00:00:00 2100 060 00 12 AM 1 1"),
            (1_735_732_800, "Wed Jan  1 12:00:00 2025 001 25 12 PM 3 3"),
        ] as [(Int64, String)]) func datesArePrintedAsByPython(seconds: Int64, expected: String)
    {
        #expect(
            TemplateTime(secondsSince1970: seconds).text(format: "%a %b %e %H:%M:%S %Y %j %y %I %p %w %u") == expected)
    }

    @Test func theDateIsKnownWhereItIsGiven() throws {
        func render(_ format: String) throws -> String {
            try ChatTemplate(source: "{{ strftime_now('\(format)') }}").render(
                messages: .null, tools: nil, addGenerationPrompt: false, bosToken: "", eosToken: "", now: 1_772_874_302,
                extra: JSONObject())
        }
        #expect(try render("%d %b %Y") == "07 Mar 2026")
        #expect(try render("%A, %-d. %B %Y, %-I:%M%%") == "Saturday, 7. March 2026, 9:05%")
        for bad in ["%", "%Q", "%-", "%E"] {
            let error = #expect(throws: ChatTemplateError.self) { try render(bad) }
            #expect(error?.kind == .unsupported)
        }
        for extreme in [Int64.min, .max] { _ = TemplateTime(secondsSince1970: extreme).text(format: "%c %j") }
    }

    @Test func generationBlocksRenderTheirContent() throws {
        #expect(try render("a{% generation %}b{% endgeneration %}c") == "abc")
    }

    @Test func raisedMessagesAreForTheSender() {
        let error = refusal("\n{{ raise_exception('no ' + 'system') }}")
        #expect(error == ChatTemplateError(kind: .raised, line: 2, reason: "no system"))
        #expect(error?.description == "no system")
    }

    // MARK: - Hostile templates

    /// Runs on a thread with a small stack, as an event loop or a worker may have.
    func onSmallStack(_ body: @escaping @Sendable () -> Void) async {
        await withCheckedContinuation { (done: CheckedContinuation<Void, Never>) in
            let thread = Thread {
                body()
                done.resume()
            }
            thread.stackSize = 512 << 10
            thread.start()
        }
    }

    static let deepSources: [String] = {
        func nest(_ open: String, _ middle: String, _ close: String, _ count: Int) -> String {
            String(repeating: open, count: count) + middle + String(repeating: close, count: count)
        }
        return [
            nest("{{ " + nest("(", "1", ")", 20000) + " }}", "", "", 1),
            "{{ " + nest("[", "", "]", 20000) + " }}",
            "{{ " + nest("{'a':", "1", "}", 20000) + " }}",
            "{{ " + nest("not ", "1", "", 20000) + " }}",
            "{{ " + nest("-", "1", "", 20000) + " }}",
            "{{ 1" + nest(" + 1", "", "", 20000) + " }}",
            "{{ 1" + nest("|string", "", "", 20000) + " }}",
            "{{ x" + nest(".y", "", "", 20000) + " }}",
            "{{ x" + nest("[0]", "", "", 20000) + " }}",
            "{{ x" + nest("()", "", "", 20000) + " }}",
            "{{ 1" + nest(" if 1 else 1", "", "", 20000) + " }}",
            "{{ x" + nest(" and x", "", "", 20000) + " }}",
            "{{ f(" + nest("f(", "", ")", 20000) + ") }}",
            nest("{% if 1 %}", "", "{% endif %}", 20000),
            nest("{% for a in [1] %}", "", "{% endfor %}", 20000),
            nest("{% set x %}", "", "{% endset %}", 20000),
            nest("{% generation %}", "", "{% endgeneration %}", 20000),
        ]
    }()

    @Test func deepTemplatesAreRefusedWithoutOverflow() async {
        await onSmallStack {
            for source in Self.deepSources {
                let error = #expect(throws: ChatTemplateError.self) { try ChatTemplate(source: source) }
                #expect(error?.kind == .limit, "\(source.prefix(30)): \(error.map(String.init(describing:)) ?? "")")
            }
        }
    }

    /// The deepest that is accepted renders on a small stack, too.
    @Test func theDeepestTemplateRendersOnASmallStack() async {
        await onSmallStack {
            let levels = TemplateLimits.nesting - 4
            let brackets = String(repeating: "[", count: levels) + "1" + String(repeating: "]", count: levels)
            let sum = "1" + String(repeating: " + 1", count: TemplateLimits.expressionHeight - 2)
            let blocks =
                String(repeating: "{% if 1 %}", count: levels) + "x" + String(repeating: "{% endif %}", count: levels)
            for (source, output) in [
                ("{{ \(brackets) }}", brackets), ("{{ \(sum) }}", "\(TemplateLimits.expressionHeight - 1)"),
                (blocks, "x"),
            ] {
                #expect(throws: Never.self) {
                    let text = try ChatTemplate(source: source).render(
                        messages: .null, tools: nil, addGenerationPrompt: false, bosToken: "", eosToken: "",
                        extra: JSONObject())
                    #expect(text == output)
                }
            }
        }
    }

    @Test func greedyTemplatesAreStopped() {
        let sources = [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s={}) %}{% for i in range(9999) %}{% set ns.s = {'a': ns.s} %}{% endfor %}",
            "{% set ns = namespace() %}{% set ns.self = ns %}",
            "{% set ns = namespace() %}{% set ns.list = [ns] %}",
            "{{ 'x' * 9223372036854775807 }}",
            "{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
            "{% set s = 'x' * 100000 %}{% for i in range(99999) %}{{ s }}{% endfor %}",
            "{% set s = 'x' * 100000 %}{% set l = [s] * 1 %}{{ range(99999)|join(s) }}",
            "{% set s = 'a' * 3000000 %}{{ (s + 'b') in s }}{% for i in range(999) %}{{ (s + 'b') in s }}{% endfor %}",
            "{{ [1]|tojson(indent=100000000) }}",
            "{% set s = 'a' * 10000000 %}{{ s|replace('a', '') }}",
            "{% set s = 'a' * 10000000 %}{{ s.split('a')|length }}",
            "{% set s = 'a' * 10000000 %}{{ s.count('a') }}",
            "{{ 'a' * 20000000 }}",
            "{{ range(0, 9223372036854775807, 1) }}",
            "{% set ns = namespace(s=[1]) %}{% for i in range(20) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
                + "{{ ns.s|tojson(indent=16) }}",
        ]
        for source in sources {
            let error = refusal(source)
            #expect(error?.kind == .limit || error?.kind == .evaluation, "\(source)")
        }
    }

    /// Expressions that go through a long text and make nothing of its size; without a bound each of these takes minutes.
    @Test(arguments: [
        "s < s", "s >= s", "s[0]", "s[0:1]", "s[-1:1:-1]", "s|length", "s.startswith(s)", "s.isdigit()",
        "(' ' * 3000000)|trim",
        "s|int",
        "{'a': 1}[s] is defined", "{'a': 1}.get(s)", "s in {'a': 1}", "[{}]|map(attribute=s)|list", "'a'.strip(s)",
        "s.removeprefix(s)", "s is lt(s)", "s.rstrip('b')|length",
    ]) func longTextsAreNotReadForever(expression: String) {
        let source =
            "{% set s = 'a' * 3000000 %}{% for i in range(99999) %}{% if \(expression) %}{% endif %}{% endfor %}"
        #expect(refusal(source)?.kind == .limit)
    }

    @Test func arithmeticAtTheEdgesIsAnError() {
        let big = "9223372036854775807"
        for source in [
            "\(big) + 1", "-\(big) - 2", "\(big) * 2", "(-\(big) - 1) // -1", "-(-\(big) - 1)", "1 / 0", "1.5 % 0",
            "(-\(big) - 1)|abs", "1 % 0", "9223372036854775808",
        ] {
            #expect(refusal("{{ \(source) }}") != nil)
        }
    }

    @Test func edgesOfNumbersAreNoTrap() throws {
        let big = "9223372036854775807"
        let values = [
            "(-\(big) - 1) % -1", "'abc'[-\(big) - 1:\(big):\(big)]", "'abc'[::-\(big) - 1]", "[1][\(big)]",
            "[1][-\(big) - 1] is defined", "range(\(big) - 1, \(big), \(big))|list", "1e308 * 10", "1e999|int",
            "'abc'.split('b', \(big))", "'aa'.replace('a', 'b', -\(big))", "\(big) is divisibleby(-1)",
            "(-\(big) - 1) is divisibleby(-1)",
        ]
        for value in values { _ = try render("{{ \(value) }}") }
    }

    /// Templates cut or changed at random are refused or rendered; that this returns is the test.
    @Test func damagedTemplatesDoNotTrap() throws {
        let source = Array(try Fixtures.data("templates/qwen2.5-instruct.jinja"))
        var random = SeededGenerator(seed: 17)
        let alphabet = Array("{}%#-+|()[]'\"\\.,:=~ \n01ab".utf8)
        var refused = 0
        for _ in 0..<600 {
            var damaged = source
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let index = Int.random(in: 0..<damaged.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: damaged.remove(at: index)
                case 1: damaged[index] = alphabet.randomElement(using: &random) ?? 0
                default: damaged.insert(alphabet.randomElement(using: &random) ?? 0, at: index)
                }
            }
            if Bool.random(using: &random) { damaged.removeLast(Int.random(in: 0..<damaged.count, using: &random)) }
            do { _ = try render(String(decoding: damaged, as: UTF8.self)) } catch is ChatTemplateError { refused += 1 }
        }
        #expect(refused > 100)
    }
}
