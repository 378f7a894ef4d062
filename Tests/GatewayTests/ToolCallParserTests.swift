// Tandem — Apache-2.0

import JSON
import TestSupport
import Testing

@testable import Gateway

@Suite struct ToolCallParserTests {
    /// A whole text as calls and content.
    struct Parsed: Equatable, CustomStringConvertible {
        var content = ""
        var calls: [[String]] = []

        init(_ content: String = "", _ calls: [[String]] = []) {
            self.content = content
            self.calls = calls
        }

        var description: String { "\(content.debugDescription) \(calls)" }
    }

    static let tools: Set<String> = ["get_weather", "now", "search"]

    static func parser(_ format: ToolCallFormat, several: Bool = true) -> ToolCallParser {
        ToolCallParser(format: format, tools: tools, allowsSeveral: several, makeID: { "call_x" })
    }

    /// Feeds pieces and puts the deltas together as clients do.
    static func parse(_ pieces: [String], _ format: ToolCallFormat, several: Bool = true) -> Parsed {
        var parser = parser(format, several: several)
        var parsed = Parsed()
        for output in pieces.map({ parser.append($0) }) + [parser.finish()] {
            parsed.content += output.content
            for call in output.calls {
                if call.index == parsed.calls.count {
                    #expect(call.id == "call_x")
                    parsed.calls.append([call.name ?? "", call.arguments])
                } else {
                    #expect(call.index == parsed.calls.count - 1)
                    #expect(call.id == nil && call.name == nil)
                    parsed.calls[call.index][1] += call.arguments
                }
            }
        }
        #expect(parser.count == parsed.calls.count)
        return parsed
    }

    /// The whole, cut at each position, in single characters, and at random.
    static func check(_ text: String, _ format: ToolCallFormat, _ expected: Parsed) {
        #expect(parse([text], format) == expected, "\(text)")
        let scalars = Array(text.unicodeScalars)
        func piece(_ range: Range<Int>) -> String {
            var view = String.UnicodeScalarView()
            view.append(contentsOf: scalars[range])
            return String(view)
        }
        for position in 0...scalars.count {
            let pieces = [piece(0..<position), piece(position..<scalars.count)]
            let parsed = parse(pieces, format)
            #expect(parsed == expected, "\(pieces)")
        }
        let parsed = parse(scalars.map { String($0) }, format)
        #expect(parsed == expected, "single characters of \(text)")
        var random = SeededGenerator(seed: 5)
        for _ in 0..<20 {
            var pieces: [String] = []
            var start = 0
            while start < scalars.count {
                let end = min(scalars.count, start + Int.random(in: 1...9, using: &random))
                pieces.append(piece(start..<end))
                start = end
            }
            let parsed = parse(pieces, format)
            #expect(parsed == expected, "\(pieces)")
        }
    }

    static let weather = "{\"city\": \"San Francisco\", \"metric\": \"celsius\"}"

    static let hermes: [(String, Parsed)] = [
        (
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": \(weather)}\n</tool_call>",
            Parsed("", [["get_weather", weather]])
        ),
        (
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": \(weather)}</tool_call>",
            Parsed("", [["get_weather", weather]])
        ),
        // Arguments first, as the format's first publication has them.
        (
            "<tool_call>\n{\"arguments\": \(weather), \"name\": \"get_weather\"}\n</tool_call>\n",
            Parsed("", [["get_weather", weather]])
        ),
        (
            "Let me look.\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n"
                + "{\"name\": \"get_weather\", \"arguments\": \(weather)}\n</tool_call>",
            Parsed("Let me look.", [["now", "{}"], ["get_weather", weather]])
        ),
        (
            "<tool_call>{\"name\": \"a\", \"arguments\": {\"t\": \"</tool_call> } \\\" é 👨‍👩‍👧 \\u00e9\", \"n\": [1, -2.5e+3, {\"x\": null}]}}</tool_call>",
            Parsed(
                "", [["a", "{\"t\": \"</tool_call> } \\\" é 👨‍👩‍👧 \\u00e9\", \"n\": [1, -2.5e+3, {\"x\": null}]}"]])
        ),
        // Without arguments, and with a member more.
        ("<tool_call>\n{\"name\": \"now\"}\n</tool_call>", Parsed("", [["now", "{}"]])),
        ("<tool_call>\n{\"name\": \"now\", \"arguments\": null}\n</tool_call>", Parsed("", [["now", "{}"]])),
        (
            "<tool_call>\n{\"id\": 7, \"name\": \"now\", \"x\": [{}], \"arguments\": {} }\n</tool_call>",
            Parsed("", [["now", "{}"]])
        ),
        ("<tool_call>{\"name\":\"now\",\"arguments\":{},\"id\":12}</tool_call>", Parsed("", [["now", "{}"]])),
        // A list within the marks, as SmolLM2 writes it.
        (
            "<tool_call>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"search\", \"arguments\": {\"q\": 1}}]</tool_call>",
            Parsed("", [["now", "{}"], ["search", "{\"q\": 1}"]])
        ),
        // Without the closing mark.
        ("<tool_call>\n{\"name\": \"now\", \"arguments\": {}}", Parsed("", [["now", "{}"]])),
        (
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}",
            Parsed("", [["now", "{}"], ["now", "{}"]])
        ),
        // Text around.
        (" a <tool_call>{\"name\": \"now\"}</tool_call> b ", Parsed(" a b ", [["now", "{}"]])),
        (
            "<think>\nhm\n</think>\n\n<tool_call>{\"name\": \"now\"}</tool_call>",
            Parsed("<think>\nhm\n</think>", [["now", "{}"]])
        ),
        // No calls.
        ("", Parsed()), ("Hello!", Parsed("Hello!")), (" \n ", Parsed(" \n ")),
        // Without marks: at the start, of a tool on offer, with arguments.
        ("{\"name\": \"now\", \"arguments\": {}}", Parsed("", [["now", "{}"]])),
        (" {\"name\": \"search\", \"arguments\": {\"q\": 1}}\n", Parsed("", [["search", "{\"q\": 1}"]])),
        ("{\"name\": \"now\"}", Parsed("{\"name\": \"now\"}")),
        ("{\"name\": \"then\", \"arguments\": {}}", Parsed("{\"name\": \"then\", \"arguments\": {}}")),
        ("So: {\"name\": \"now\", \"arguments\": {}}", Parsed("So: {\"name\": \"now\", \"arguments\": {}}")),
        ("a < b <tool <tool_call", Parsed("a < b <tool <tool_call")),
        ("<tool_call>", Parsed("<tool_call>")), ("<tool_call>\n", Parsed("<tool_call>\n")),
        ("x <tool_call> y", Parsed("x <tool_call> y")),
        ("</tool_call>", Parsed("</tool_call>")),
        ("<<tool_call>{\"name\": \"now\"}", Parsed("<", [["now", "{}"]])),
        ("<tool_call><tool_call>{\"name\": \"now\"}", Parsed("<tool_call>", [["now", "{}"]])),
        // Malformed before it counts as a call: content.
        (
            "<tool_call>{\"name\": \"now\" \"arguments\": {}}</tool_call>",
            Parsed("<tool_call>{\"name\": \"now\" \"arguments\": {}}</tool_call>")
        ),
        ("<tool_call>{name: now}</tool_call>", Parsed("<tool_call>{name: now}</tool_call>")),
        ("<tool_call>{\"name\": \"\"}</tool_call>", Parsed("<tool_call>{\"name\": \"\"}</tool_call>")),
        ("<tool_call>{\"name\": 5}</tool_call>", Parsed("<tool_call>{\"name\": 5}</tool_call>")),
        ("<tool_call>{}</tool_call>", Parsed("<tool_call>{}</tool_call>")),
        ("<tool_call>{\"arguments\": {}}</tool_call>", Parsed("<tool_call>{\"arguments\": {}}</tool_call>")),
        (
            "<tool_call>{\"name\": \"now\", \"arguments\": \"x\"}</tool_call>",
            Parsed("<tool_call>{\"name\": \"now\", \"arguments\": \"x\"}</tool_call>")
        ),
        ("<tool_call>{\"name\": \"now\", \"argum", Parsed("<tool_call>{\"name\": \"now\", \"argum")),
        ("<tool_call>{\"arguments\": {\"a\": 1", Parsed("<tool_call>{\"arguments\": {\"a\": 1")),
        // Cut or malformed after that.
        ("<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": \"b", Parsed("", [["now", "{\"a\": \"b"]])),
        (
            "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 1,}}\n</tool_call>",
            Parsed("}}\n</tool_call>", [["now", "{\"a\": 1,"]])
        ),
        ("<tool_call>{\"name\": \"now\", \"arguments\": {}}}</tool_call>", Parsed("}</tool_call>", [["now", "{}"]])),
    ]

    static let llama: [(String, Parsed)] = [
        ("{\"name\": \"get_weather\", \"parameters\": \(weather)}", Parsed("", [["get_weather", weather]])),
        (
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": \(weather)}",
            Parsed("", [["get_weather", weather]])
        ),
        ("\n {\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}\n", Parsed("", [["now", "{}"]])),
        ("{\"name\": \"now\", \"arguments\": {}}", Parsed("", [["now", "{}"]])),
        ("{\"name\": \"now\"}", Parsed("", [["now", "{}"]])),
        (
            "{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"search\", \"parameters\": {\"q\": \";\"}}",
            Parsed("", [["now", "{}"], ["search", "{\"q\": \";\"}"]])
        ),
        (
            "<|python_tag|>{\"name\": \"now\", \"parameters\": {}};{\"name\": \"now\", \"parameters\": {}}<|python_tag|>{\"name\": \"now\"}",
            Parsed("", [["now", "{}"], ["now", "{}"], ["now", "{}"]])
        ),
        ("I see.<|python_tag|>{\"name\": \"now\", \"parameters\": {}}", Parsed("I see.", [["now", "{}"]])),
        // What only looks like one.
        ("{\"name\": \"Bob\", \"parameters\": {}}", Parsed("{\"name\": \"Bob\", \"parameters\": {}}")),
        (
            "The JSON is {\"name\": \"now\", \"parameters\": {}}",
            Parsed("The JSON is {\"name\": \"now\", \"parameters\": {}}")
        ),
        ("{\"name\": \"now\", \"parameters\": [1]}", Parsed("{\"name\": \"now\", \"parameters\": [1]}")),
        ("<|python_tag|>print(1)", Parsed("<|python_tag|>print(1)")),
        ("{\"name\": \"now\", \"parameters\": {}} and more", Parsed(" and more", [["now", "{}"]])),
        ("{\"name\": \"now\", \"parameters\": {}}; what", Parsed("; what", [["now", "{}"]])),
        ("{ }", Parsed("{ }")), ("{\"a\": {\"name\": \"now\"}}", Parsed("{\"a\": {\"name\": \"now\"}}")),
        ("[{\"name\": \"now\"}]", Parsed("[{\"name\": \"now\"}]")),
    ]

    static let mistral: [(String, Parsed)] = [
        (
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": \(weather)}]",
            Parsed("", [["get_weather", weather]])
        ),
        (
            "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}, \"id\": \"abcdefghi\"}, {\"arguments\": {\"q\": \"[]\"}, \"name\": \"search\"}]",
            Parsed("", [["now", "{}"], ["search", "{\"q\": \"[]\"}"]])
        ),
        ("[TOOL_CALLS]{\"name\": \"now\", \"arguments\": {}}", Parsed("", [["now", "{}"]])),
        ("Yes. [TOOL_CALLS][{\"name\": \"now\"}]", Parsed("Yes.", [["now", "{}"]])),
        ("[TOOL_CALLS][]", Parsed("[TOOL_CALLS][]")), ("[TOOL_CALLS][[]]", Parsed("[TOOL_CALLS][[]]")),
        ("[TOOL_CALLS]now[ARGS]{}", Parsed("", [["now", "{}"]])),
        (
            "I look. [TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS] \(weather)[TOOL_CALLS]now[ARGS]{\"a\": \"}[ARGS]\"}",
            Parsed("I look.", [["get_weather", weather], ["now", "{\"a\": \"}[ARGS]\"}"]])
        ),
        ("[TOOL_CALLS]now[ARGS]{\"a\": 1", Parsed("", [["now", "{\"a\": 1"]])),
        ("[TOOL_CALLS]now[ARGS]{\"a\": 1,}", Parsed("}", [["now", "{\"a\": 1,"]])),
        ("[TOOL_CALLS]now[ARGS]", Parsed("[TOOL_CALLS]now[ARGS]")),
        ("[TOOL_CALLS]now[ARGS]null", Parsed("[TOOL_CALLS]now[ARGS]null")),
        ("[TOOL_CALLS]now[ARGS] 5 {}", Parsed("[TOOL_CALLS]now[ARGS] 5 {}")),
        ("[TOOL_CALLS]now {}", Parsed("[TOOL_CALLS]now {}")), ("[TOOL_CALLS]now", Parsed("[TOOL_CALLS]now")),
        ("[1, 2] [TOOL_", Parsed("[1, 2] [TOOL_")),
        ("[TOOL_CALLS][{\"name\": \"now\"}, oops", Parsed(", oops", [["now", "{}"]])),
        ("[TOOL_CALLS][{\"name\": \"now\"}] bye", Parsed(" bye", [["now", "{}"]])),
    ]

    @Test func hermesCallsAreFoundHoweverTheTextIsCut() {
        for (text, expected) in Self.hermes { Self.check(text, .hermes, expected) }
    }

    @Test func llamaCallsAreFoundHoweverTheTextIsCut() {
        for (text, expected) in Self.llama { Self.check(text, .llama, expected) }
    }

    @Test func mistralCallsAreFoundHoweverTheTextIsCut() {
        for (text, expected) in Self.mistral { Self.check(text, .mistral, expected) }
    }

    @Test func argumentsComeInFragmentsAsTheyAreWritten() {
        var parser = Self.parser(.hermes)
        var outputs: [ToolCallOutput] = []
        for piece in [
            "<tool", "_call>\n{\"name\": \"no", "w\", \"arguments\"", ": {\"a\"", ": 1", "}", "}\n</tool_call>",
        ] {
            outputs.append(parser.append(piece))
        }
        func more(_ arguments: String) -> ToolCallOutput {
            ToolCallOutput(calls: [ToolCallDelta(index: 0, arguments: arguments)])
        }
        let first = ToolCallDelta(index: 0, id: "call_x", name: "now", arguments: "{\"a\"")
        let none = ToolCallOutput()
        #expect(outputs == [none, none, none, ToolCallOutput(calls: [first]), more(": 1"), more("}"), none])
        #expect(parser.finish() == none)
    }

    @Test func onlyTheFirstCallCountsWhereOneIsWanted() {
        let call = "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 1}}</tool_call>"
        for pieces in [[call + "\n" + call], [call, call], (call + call).map { String($0) }] {
            #expect(Self.parse(pieces, .hermes, several: false) == Parsed("", [["now", "{\"a\": 1}"]]))
        }
    }

    /// Whatever comes, nothing is lost but marks and white space, pieces do not matter, and what was whole is JSON.
    @Test func randomTextsAreNoTrouble() {
        var random = SeededGenerator(seed: 11)
        let fragments = [
            "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "{", "}", "[", "]", "\"name\"", ":", ",",
            ";",
            "now", "[ARGS]", "\"now\"", "\"arguments\"", "\"parameters\"", "{}", " ", "\n", "\"", "\\", "1", "-", "e",
            "tru", "true",
            "null",
            "é", "\u{301}", "<", "x", "{\"name\": \"now\", \"arguments\": {\"a\": \"b\"}}", "\u{0}",
        ]
        var found = 0
        for round in 0..<3000 {
            let format = ToolCallFormat.allCases[round % 3]
            let pieces = (0..<Int.random(in: 1...14, using: &random)).map { _ in
                fragments.randomElement(using: &random) ?? ""
            }
            let text = pieces.joined()
            let whole = Self.parse([text], format)
            let apart = Self.parse(pieces, format)
            #expect(whole == apart, "\(pieces)")
            let single = Self.parse(text.unicodeScalars.map { String($0) }, format)
            #expect(whole == single, "\(text)")
            found += whole.calls.count
            if whole.calls.isEmpty { #expect(whole.content.utf8.elementsEqual(text.utf8), "\(text)") }
        }
        #expect(found > 40)
    }

    @Test func deepArgumentsAreRefused() {
        let deep = String(repeating: "[", count: 100_000)
        let text = "<tool_call>{\"name\": \"now\", \"x\": \(deep)"
        #expect(Self.parse([text], .hermes) == Parsed(text))
    }

    @Test func formatsAreDetected() {
        func detect(_ template: String?, _ tokens: Set<String> = []) -> ToolCallFormat {
            ToolCallFormat.detect(template: template, hasToken: tokens.contains)
        }
        #expect(detect("…<tool_call>\\n{\"name\"…") == .hermes)
        #expect(detect("'[TOOL_CALLS]['") == .mistral)
        #expect(detect("<|start_header_id|> … '\"parameters\": '") == .llama)
        #expect(detect("<|start_header_id|>") == .hermes)
        #expect(detect(nil, ["<|python_tag|>"]) == .llama)
        #expect(detect("", ["[TOOL_CALLS]"]) == .mistral)
        #expect(detect("", ["<tool_call>", "<|python_tag|>"]) == .hermes)
        #expect(detect(nil) == .hermes)
    }

    @Test func idsHaveTheirForm() {
        var random = SeededGenerator(seed: 3)
        let id = ToolCallFormat.hermes.callID(using: &random)
        #expect(id.hasPrefix("call_") && id.utf8.count == 29)
        #expect(ToolCallFormat.mistral.callID(using: &random).utf8.count == 9)
        #expect(id != ToolCallFormat.hermes.callID(using: &random))
    }
}
