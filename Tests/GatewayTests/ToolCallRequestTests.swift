// Tandem — Apache-2.0

import Grammar
import JSON
import Requests
import Testing

@testable import Gateway

@Suite struct ToolCallRequestTests {
    private static func read(_ body: String) throws -> ToolCallRequest? {
        try ToolCallRequest.read(RequestFields(body: TestModel.json(body)))
    }

    private static func tool(_ name: String, _ parameters: String? = nil) -> String {
        let parameters = parameters.map { #","parameters":\#($0)"# } ?? ""
        return #"{"type":"function","function":{"name":"\#(name)"\#(parameters)}}"#
    }

    @Test func toolsAndChoicesAreRead() throws {
        #expect(try Self.read("{}") == nil)
        #expect(try Self.read(#"{"tools":[],"tool_choice":"auto"}"#) == nil)
        #expect(try Self.read(#"{"tools":null,"tool_choice":"none"}"#) == nil)
        let tools = #""tools":[\#(Self.tool("a")),\#(Self.tool("b", #"{"type":"object"}"#))]"#
        let auto = try #require(try Self.read("{\(tools)}"))
        #expect(auto.choice == .auto && auto.allowsSeveral && auto.isActive)
        #expect(auto.tools.map(\.name) == ["a", "b"])
        #expect(
            try auto.tools[0].parameters
                == #require(TestModel.json(#"{"type":"object","properties":{},"additionalProperties":false}"#).object))
        #expect(auto.tools[1].parameters == JSONObject(["type": .string("object")]))
        let none = try #require(try Self.read(#"{\#(tools),"tool_choice":"none","parallel_tool_calls":false}"#))
        #expect(none.choice == .none && !none.allowsSeveral && !none.isActive)
        let named = try Self.read(#"{\#(tools),"tool_choice":{"type":"function","function":{"name":"b"}}}"#)
        #expect(named?.choice == .named("b"))
        #expect(try Self.read(#"{\#(tools),"tool_choice":"required"}"#)?.choice == .required)
    }

    @Test func toolsAtFaultAreNamed() throws {
        let a = Self.tool("a")
        let long = String(repeating: "x", count: 65)
        let many = Array(repeating: a, count: 129).joined(separator: ",")
        let cases: [(String, String)] = [
            (#"{"tools":{}}"#, "tools"), (#"{"tools":[1]}"#, "tools[0]"), (#"{"tools":[\#(a),{}]}"#, "tools[1].type"),
            (#"{"tools":[{"type":"web_search"}]}"#, "tools[0].type"),
            (#"{"tools":[{"type":"function"}]}"#, "tools[0].function"),
            (#"{"tools":[{"type":"function","function":{}}]}"#, "tools[0].function.name"),
            (#"{"tools":[\#(a),\#(Self.tool("b")),\#(Self.tool("b c"))]}"#, "tools[2].function.name"),
            (#"{"tools":[\#(Self.tool(""))]}"#, "tools[0].function.name"),
            (#"{"tools":[\#(Self.tool(long))]}"#, "tools[0].function.name"),
            (#"{"tools":[\#(Self.tool("é"))]}"#, "tools[0].function.name"),
            (#"{"tools":[\#(a),\#(a)]}"#, "tools[1].function.name"),
            (#"{"tools":[\#(many)]}"#, "tools"),
            (#"{"tools":[\#(Self.tool("a", "[]"))]}"#, "tools[0].function.parameters"),
            (#"{"tools":[\#(Self.tool("a", #"{"type":"string"}"#))]}"#, "tools[0].function.parameters.type"),
            (
                #"{"tools":[{"type":"function","function":{"name":"a","description":1}}]}"#,
                "tools[0].function.description"
            ),
            (#"{"tools":[{"type":"function","function":{"name":"a","strict":1}}]}"#, "tools[0].function.strict"),
            (#"{"tool_choice":"required"}"#, "tool_choice"),
            (#"{"tools":[\#(a)],"tool_choice":"some"}"#, "tool_choice"),
            (#"{"tools":[\#(a)],"tool_choice":3}"#, "tool_choice"),
            (#"{"tools":[\#(a)],"tool_choice":{"type":"tool"}}"#, "tool_choice.type"),
            (#"{"tools":[\#(a)],"tool_choice":{"type":"function"}}"#, "tool_choice.function.name"),
            (
                #"{"tools":[\#(a)],"tool_choice":{"type":"function","function":{"name":"z"}}}"#,
                "tool_choice.function.name"
            ),
            (#"{"tools":[\#(a)],"parallel_tool_calls":1}"#, "parallel_tool_calls"),
        ]
        for (body, parameter) in cases {
            let error = #expect(throws: APIError.self, "\(body.prefix(100))") { try Self.read(body) }
            #expect(error?.parameter == parameter, "\(body.prefix(100))")
            #expect(error?.status == 400)
        }
    }

    // MARK: Grammars

    private static func source(_ more: String, _ format: ToolCallFormat) throws -> GrammarSource? {
        let one = Self.tool(
            "one", ##"{"type":"object","properties":{"x":{"$ref":"#/$defs/d"}},"$defs":{"d":{"type":"integer"}}}"##)
        let two = Self.tool("two", ##"{"properties":{"$ref":{"enum":[{"$ref":"#/no"}]}}}"##)
        let request = try #require(try read(#"{"tools":[\#(one),\#(two)]\#(more)}"#))
        return ToolCallGrammar.source(request, format: format)
    }

    @Test func aNamedFunctionFixesAllButTheArguments() throws {
        let choice = #","tool_choice":{"type":"function","function":{"name":"one"}}"#
        let schema = ##"{"type":"object","properties":{"x":{"$ref":"#/$defs/d"}},"$defs":{"d":{"type":"integer"}}}"##
        #expect(
            try Self.source(choice, .hermes)
                == GrammarSource(
                    kind: .jsonSchema, text: schema, prefix: "<tool_call>\n{\"name\": \"one\", \"arguments\": ",
                    suffix: "}\n</tool_call>"))
        #expect(
            try Self.source(choice, .llama)
                == GrammarSource(
                    kind: .jsonSchema, text: schema, prefix: "{\"name\": \"one\", \"parameters\": ", suffix: "}"))
        #expect(try Self.source("", .hermes) == nil)
        #expect(try Self.source(#","tool_choice":"none""#, .hermes) == nil)
    }

    @Test func oneOfSeveralIsChosenBySchema() throws {
        func call(_ name: String, _ key: String, _ schema: String) -> String {
            #"{"type":"object","properties":{"name":{"const":"\#(name)"},"\#(key)":\#(schema)},"required":["name","\#(key)"],"additionalProperties":false}"#
        }
        func calls(_ key: String, _ place: String) -> String {
            let one =
                ##"{"type":"object","properties":{"x":{"$ref":"\##(place)/0/properties/\##(key)/$defs/d"}},"$defs":{"d":{"type":"integer"}}}"##
            // A property of that name and a value are no references.
            let two = ##"{"properties":{"$ref":{"enum":[{"$ref":"#/no"}]}},"type":"object"}"##
            return call("one", key, one) + "," + call("two", key, two)
        }
        #expect(
            try Self.source(#","tool_choice":"required""#, .hermes)
                == GrammarSource(
                    kind: .jsonSchema, text: #"{"anyOf":[\#(calls("arguments", "#/anyOf"))]}"#, prefix: "<tool_call>\n",
                    suffix: "\n</tool_call>"))
        #expect(
            try Self.source(#","tool_choice":"required""#, .llama)
                == GrammarSource(kind: .jsonSchema, text: #"{"anyOf":[\#(calls("parameters", "#/anyOf"))]}"#))
        for (more, most) in [("", ""), (#","parallel_tool_calls":false"#, #""maxItems":1,"#)] {
            #expect(
                try Self.source(#","tool_choice":"required""# + more, .mistral)
                    == GrammarSource(
                        kind: .jsonSchema,
                        text:
                            #"{"type":"array","minItems":1,\#(most)"items":{"anyOf":[\#(calls("arguments", "#/items/anyOf"))]}}"#,
                        prefix: "[TOOL_CALLS]"))
        }
    }

    /// The sources are grammars, of calls and nothing else, and references within a tool's schema hold.
    @Test func grammarsAllowCallsOfTheirTools() throws {
        func match(_ choice: String, _ format: ToolCallFormat, _ text: String) throws -> Bool {
            try CompiledGrammar(#require(try Self.source(choice, format))).matches(text)
        }
        let named = #","tool_choice":{"type":"function","function":{"name":"one"}}"#
        let required = #","tool_choice":"required""#
        func hermes(_ call: String) -> String { "<tool_call>\n\(call)\n</tool_call>" }
        let cases: [(String, ToolCallFormat, String, Bool)] = [
            (named, .hermes, hermes(#"{"name": "one", "arguments": {"x": 12}}"#), true),
            (named, .hermes, hermes(#"{"name": "one", "arguments": {"x": "12"}}"#), false),
            (named, .hermes, hermes(#"{"name": "two", "arguments": {}}"#), false),
            (named, .llama, #"{"name": "one", "parameters": {"x": 1}}"#, true),
            (required, .hermes, hermes(#"{"name":"one","arguments":{"x":12}}"#), true),
            (required, .hermes, hermes(#"{"name": "two", "arguments": {}}"#), true),
            (required, .hermes, hermes(#"{"name": "one", "arguments": {"x": "12"}}"#), false),
            (required, .hermes, hermes(#"{"name": "three", "arguments": {}}"#), false),
            (required, .hermes, hermes(#"{"name": "two"}"#), false), (required, .hermes, "Hello", false),
            (required, .llama, #"{"name": "one", "parameters": {"x": 1}}"#, true),
            (
                required, .mistral,
                #"[TOOL_CALLS][{"name": "one", "arguments": {"x": 1}}, {"name": "two", "arguments": {}}]"#, true
            ),
            (required, .mistral, "[TOOL_CALLS][]", false),
        ]
        for (choice, format, text, expected) in cases {
            let matches = try match(choice, format, text)
            #expect(matches == expected, "\(format) \(text)")
        }
    }

    /// What the grammars allow is read as calls.
    @Test func whatGrammarsAllowIsRead() {
        for (format, text) in [
            (ToolCallFormat.hermes, "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"),
            (.hermes, "<tool_call>\n{\"name\":\"now\",\"arguments\":{}}\n</tool_call>"),
            (.llama, "{\"name\": \"now\", \"parameters\": {}}"),
            (.mistral, "[TOOL_CALLS][{\"name\":\"now\",\"arguments\":{}}]"),
        ] {
            ToolCallParserTests.check(text, format, ToolCallParserTests.Parsed("", [["now", "{}"]]))
        }
    }
}

extension JSONObject {
    fileprivate init(_ members: KeyValuePairs<String, JSONValue>) {
        self.init()
        for (key, value) in members { self[key] = value }
    }
}
