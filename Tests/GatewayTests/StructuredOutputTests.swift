// Tandem — Apache-2.0

import JSON
import Requests
import Testing

@testable import Gateway

@Suite struct StructuredOutputTests {
    private func read(_ body: String) throws -> StructuredOutput? {
        try StructuredOutput.read(RequestFields(body: TestModel.json(body)))
    }

    private func refusal(_ body: String) throws -> String? {
        do {
            _ = try read(body)
            return nil
        } catch let error as APIError {
            #expect(error.status == 400)
            return error.parameter
        }
    }

    @Test(arguments: [
        "{}", #"{"response_format":{"type":"text"}}"#, #"{"response_format":null}"#, #"{"structured_outputs":{}}"#,
        #"{"guided_json":null,"grammar":null,"guided_json_object":false}"#,
        #"{"structured_outputs":{"json_object":false,"disable_any_whitespace":false}}"#,
    ])
    func freeText(body: String) throws {
        #expect(try read(body) == nil)
    }

    @Test(arguments: [
        (
            #"{"response_format":{"type":"json_object"}}"#, GrammarSource(kind: .jsonObject, text: ""),
            "response_format.type"
        ),
        (
            #"{"response_format":{"type":"json_object","schema":{"type":"object"}}}"#,
            GrammarSource(kind: .jsonSchema, text: #"{"type":"object"}"#), "response_format.schema"
        ),
        (
            #"{"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"b":1,"a":[2.5]}}}}"#,
            GrammarSource(kind: .jsonSchema, text: #"{"b":1,"a":[2.5]}"#), "response_format.json_schema.schema"
        ),
        (
            #"{"response_format":{"type":"json_schema","schema":true}}"#,
            GrammarSource(kind: .jsonSchema, text: "true"), "response_format.schema"
        ),
        (
            #"{"structured_outputs":{"json":{"type":"array"}}}"#,
            GrammarSource(kind: .jsonSchema, text: #"{"type":"array"}"#), "structured_outputs.json"
        ),
        (
            #"{"structured_outputs":{"json":"{\"type\": 1}"}}"#,
            GrammarSource(kind: .jsonSchema, text: #"{"type": 1}"#), "structured_outputs.json"
        ),
        (
            #"{"structured_outputs":{"regex":"a+"}}"#, GrammarSource(kind: .regularExpression, text: "a+"),
            "structured_outputs.regex"
        ),
        (
            #"{"structured_outputs":{"choice":["a","b\""]}}"#, GrammarSource(kind: .choice, text: #"["a","b\""]"#),
            "structured_outputs.choice"
        ),
        (
            #"{"structured_outputs":{"grammar":"root ::= \"a\""}}"#,
            GrammarSource(kind: .gbnf, text: #"root ::= "a""#), "structured_outputs.grammar"
        ),
        (
            #"{"structured_outputs":{"json_object":true}}"#, GrammarSource(kind: .jsonObject, text: ""),
            "structured_outputs.json_object"
        ),
        (#"{"guided_regex":"x"}"#, GrammarSource(kind: .regularExpression, text: "x"), "guided_regex"),
        (#"{"guided_json":{}}"#, GrammarSource(kind: .jsonSchema, text: "{}"), "guided_json"),
        (#"{"guided_choice":["a"]}"#, GrammarSource(kind: .choice, text: #"["a"]"#), "guided_choice"),
        (#"{"guided_grammar":"g"}"#, GrammarSource(kind: .gbnf, text: "g"), "guided_grammar"),
        (#"{"guided_json_object":true}"#, GrammarSource(kind: .jsonObject, text: ""), "guided_json_object"),
        (#"{"grammar":"g"}"#, GrammarSource(kind: .gbnf, text: "g"), "grammar"),
        (#"{"json_schema":{}}"#, GrammarSource(kind: .jsonSchema, text: "{}"), "json_schema"),
    ])
    func everyFieldBecomesASource(body: String, source: GrammarSource, field: String) throws {
        #expect(try read(body) == StructuredOutput(source: source, field: field))
    }

    @Test(arguments: [
        (#"{"response_format":5}"#, "response_format"), (#"{"response_format":{}}"#, "response_format.type"),
        (#"{"response_format":{"type":"poem"}}"#, "response_format.type"),
        (#"{"response_format":{"type":5}}"#, "response_format.type"),
        (#"{"response_format":{"type":"json_schema"}}"#, "response_format.json_schema"),
        (#"{"response_format":{"type":"json_schema","json_schema":{}}}"#, "response_format.json_schema.schema"),
        (
            #"{"response_format":{"type":"json_schema","json_schema":{"schema":"x"}}}"#,
            "response_format.json_schema.schema"
        ),
        (
            #"{"response_format":{"type":"json_schema","json_schema":{"name":5,"schema":{}}}}"#,
            "response_format.json_schema.name"
        ),
        (#"{"response_format":{"type":"json_object","schema":[]}}"#, "response_format.schema"),
        (#"{"structured_outputs":[]}"#, "structured_outputs"),
        (#"{"structured_outputs":{"regex":""}}"#, "structured_outputs.regex"),
        (#"{"structured_outputs":{"regex":5}}"#, "structured_outputs.regex"),
        (#"{"structured_outputs":{"choice":[]}}"#, "structured_outputs.choice"),
        (#"{"structured_outputs":{"choice":"a"}}"#, "structured_outputs.choice"),
        (#"{"structured_outputs":{"choice":[""]}}"#, "structured_outputs.choice"),
        (#"{"structured_outputs":{"choice":[5]}}"#, "structured_outputs.choice"),
        (#"{"structured_outputs":{"structural_tag":"x"}}"#, "structured_outputs.structural_tag"),
        (#"{"structured_outputs":{"disable_any_whitespace":true}}"#, "structured_outputs.disable_any_whitespace"),
        (#"{"structured_outputs":{"whitespace_pattern":" "}}"#, "structured_outputs.whitespace_pattern"),
        (#"{"guided_json":5}"#, "guided_json"), (#"{"guided_grammar":{}}"#, "guided_grammar"),
        (#"{"guided_whitespace_pattern":"x"}"#, "guided_whitespace_pattern"),
        (#"{"grammar":"g","json_schema":{}}"#, "grammar"),
        (#"{"response_format":{"type":"json_object"},"guided_regex":"a"}"#, "guided_regex"),
        (#"{"structured_outputs":{"regex":"a","choice":["a"]}}"#, "structured_outputs.choice"),
    ])
    func wrongFieldsAreNamed(body: String, field: String) throws {
        #expect(try refusal(body) == field)
    }

    @Test func sourcesAreBounded() throws {
        let long = String(repeating: "a", count: (256 << 10) + 1)
        #expect(try refusal(#"{"guided_regex":"\#(long)"}"#) == "guided_regex")
        let many = Array(repeating: "\"x\"", count: 4097).joined(separator: ",")
        #expect(try refusal(#"{"guided_choice":[\#(many)]}"#) == "guided_choice")
    }

    @Test func aSchemaThatIsNoJSONIsNamedWithItsPlace() throws {
        let structure = try #require(try read(#"{"guided_json":"{\"type\": "}"#))
        do throws(APIError) {
            try structure.check()
            Issue.record("not refused")
        } catch {
            #expect(error.status == 400 && error.parameter == "guided_json")
            #expect(error.message.hasPrefix("`guided_json` cannot be used: "))
        }
    }

    @Test func recentGrammarsAreBounded() {
        var recent = RecentGrammars(limit: 2, maximumBytes: 4)
        let sources = ["a", "b", "c"].map { GrammarSource(kind: .gbnf, text: $0) }
        for source in sources { recent.insert(source) }
        recent.insert(sources[2])
        #expect(sources.map { recent.contains($0) } == [false, true, true])
        let long = GrammarSource(kind: .gbnf, text: "abcde")
        recent.insert(long)
        #expect(!recent.contains(long) && recent.contains(sources[1]))
    }
}
