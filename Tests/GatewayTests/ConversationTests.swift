// Tandem — Apache-2.0

import JSON
import Testing
import Tokenization

@testable import Gateway

@Suite struct ConversationTests {
    /// Writes what it is given.
    private static let plain = "{{ tools|tojson if tools }}|{{ messages|tojson }}"
    private static let readsParts = """
        {% for m in messages %}[{{ m.role }}]{% if m.content is string %}{{ m.content }}\
        {% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}
        """
    private static let unaware = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"

    private static func render(_ body: String, template: String = plain) throws -> String {
        let model = ServedModel(
            names: ["toy"], tokenizer: try TestModel.tokenizer(), chatTemplate: try ChatTemplate(source: template),
            contextLength: 512, created: 5)
        return try Conversation.render(TestModel.json(body), model: model, now: 1_772_874_302)
    }

    private static func refusal(_ body: String) throws -> String? {
        do {
            _ = try render(body)
            return nil
        } catch let error as APIError {
            #expect(error.status == 400)
            return error.parameter
        }
    }

    private static func messages(_ text: String) -> String { #"{"messages":["# + text + "]}" }
    private static let user = #"{"role":"user","content":"a"}"#
    private static let weather =
        #"{"type":"function","function":{"name":"get_weather","description":"d","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}"#

    @Test func messagesReachTheTemplateAsTransformersGivesThem() throws {
        let cases: [(String, String)] = [
            (Self.user, #"{"role": "user", "content": "a"}"#),
            (#"{"role":"developer","content":"a","name":null}"#, #"{"role": "system", "content": "a"}"#),
            (
                #"{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\": [1, 2.5]}"}},{"function":{"name":"g","arguments":""}}]}"#,
                #"{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5]}}}, {"function": {"name": "g", "arguments": {}}, "type": "function"}], "content": ""}"#
            ),
            // Objects are taken, too; what was cut stays text; an empty list is none.
            (
                #"{"role":"assistant","content":"x","tool_calls":[{"function":{"name":"f","arguments":{"b":1}}},{"function":{"name":"f","arguments":"{\"a\": "}}]}"#,
                #"{"role": "assistant", "content": "x", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1}}, "type": "function"}, {"function": {"name": "f", "arguments": "{\"a\": "}, "type": "function"}]}"#
            ),
            (#"{"role":"assistant","content":"x","tool_calls":[]}"#, #"{"role": "assistant", "content": "x"}"#),
            (
                #"{"role":"assistant","function_call":{"name":"f","arguments":"{}"}}"#,
                #"{"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}], "content": ""}"#
            ),
            (
                #"{"role":"tool","tool_call_id":"c","name":"f","content":[{"type":"text","text":"r"},{"type":"text","text":"s"}]}"#,
                #"{"role": "tool", "tool_call_id": "c", "name": "f", "content": "r\ns"}"#
            ),
            (#"{"role":"function","name":"f","content":"r"}"#, #"{"role": "tool", "name": "f", "content": "r"}"#),
            (
                #"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}],"reasoning":"hm"}"#,
                #"{"role": "assistant", "content": "no", "reasoning": "hm", "thinking": "hm", "reasoning_content": "hm"}"#
            ),
        ]
        for (message, expected) in cases {
            let text = try Self.render(Self.messages(message))
            #expect(text == "|[" + expected + "]")
        }
    }

    @Test func messagesAtFaultAreNamed() throws {
        let cases: [(String, String)] = [
            (#"{"role":"robot","content":"a"}"#, "messages[0].role"),
            (#"{"role":"user"}"#, "messages[0].content"), (#"{"role":"tool"}"#, "messages[0].content"),
            (
                #"{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}"#,
                "messages[0].content[0].type"
            ),
            (#"{"role":"user","content":[{"type":"text"}]}"#, "messages[0].content[0].text"),
            (#"{"role":"user","content":["a"]}"#, "messages[0].content[0]"),
            (#"{"role":"tool","content":"r","tool_call_id":3}"#, "messages[0].tool_call_id"),
            (#"{"role":"assistant","tool_calls":{}}"#, "messages[0].tool_calls"),
            (#"{"role":"assistant","tool_calls":[3]}"#, "messages[0].tool_calls[0]"),
            (#"{"role":"assistant","tool_calls":[{"type":"custom"}]}"#, "messages[0].tool_calls[0].type"),
            (#"{"role":"assistant","tool_calls":[{"type":"function"}]}"#, "messages[0].tool_calls[0].function"),
            (#"{"role":"assistant","tool_calls":[{"id":1,"function":{"name":"f"}}]}"#, "messages[0].tool_calls[0].id"),
            (
                #"{"role":"assistant","tool_calls":[{"function":{"arguments":"{}"}}]}"#,
                "messages[0].tool_calls[0].function.name"
            ),
            (
                #"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[1]}}]}"#,
                "messages[0].tool_calls[0].function.arguments"
            ),
            (
                #"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}],"function_call":{"name":"f"}}"#,
                "messages[0].function_call"
            ),
        ]
        for (message, parameter) in cases {
            let refused = try Self.refusal(Self.messages(message))
            #expect(refused == parameter, "\(message)")
        }
    }

    @Test func toolsReachTheTemplateUnlessTheyAreNotToBeUsed() throws {
        func body(_ more: String) -> String { #"{"messages":[\#(Self.user)],"tools":[\#(Self.weather)]\#(more)}"# }
        let tools =
            #"[{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]"#
        for more in ["", #","tool_choice":"auto""#, #","tool_choice":"required""#] {
            let text = try Self.render(body(more))
            #expect(text.hasPrefix(tools + "|"))
        }
        let none = try Self.render(body(#","tool_choice":"none""#))
        #expect(none.hasPrefix("|["))
        let empty = try Self.render(#"{"messages":[\#(Self.user)],"tools":[]}"#)
        #expect(empty.hasPrefix("|["))
    }

    @Test func partsStayAListWhereTheTemplateReadsThem() throws {
        let body = Self.messages(
            #"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#)
        #expect(try Self.render(body, template: Self.readsParts) == "[user]ab")
        #expect(try Self.render(body, template: Self.unaware) == "[user]a\nb")
    }

    @Test func theLastMessageMayBeContinued() throws {
        let template =
            "{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
        func body(_ content: String, _ more: String = "") -> String {
            #"{"messages":[\#(Self.user),{"role":"assistant","content":"\#(content)"}],"continue_final_message":true\#(more)}"#
        }
        #expect(try Self.render(body("b c "), template: template) == "<user>a</><assistant>b c ")
        let off = #","add_generation_prompt":false"#
        #expect(try Self.render(body("", off), template: template) == "<user>a</><assistant>")
        #expect(try Self.refusal(body("b", #","add_generation_prompt":true"#)) == "continue_final_message")
        let user = #"{"messages":[\#(Self.user)],"continue_final_message":true}"#
        #expect(try Self.refusal(user) == "continue_final_message")
        #expect(throws: APIError.self) { try Self.render(body("b"), template: "{{ messages|length }}") }
    }

    @Test func templatesKnowTheDate() throws {
        #expect(try Self.render(Self.messages(Self.user), template: "{{ strftime_now('%d %b %Y') }}") == "07 Mar 2026")
    }

    /// A template that knows no tools is told of them in the first message, and of calls and results as text.
    @Test func toolsAreSpelledOutForTemplatesThatDoNotReadThem() throws {
        let conversation = """
            {"role":"system","content":"S"},{"role":"user","content":"q"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\\"a\\": 1}"}},
             {"id":"2","function":{"name":"g","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"1","content":"r"},{"role":"tool","tool_call_id":"2","content":"s"},
            {"role":"user","content":"thanks"}
            """
        let rest = """
            [user]q[assistant]<tool_call>
            {"name": "f", "arguments": {"a":1}}
            </tool_call>
            <tool_call>
            {"name": "g", "arguments": {}}
            </tool_call>[user]<tool_response>
            r
            </tool_response>
            <tool_response>
            s
            </tool_response>[user]thanks
            """
        let without = try Self.render(Self.messages(conversation), template: Self.unaware)
        #expect(without == "[system]S" + rest)
        let body = #"{"messages":[\#(conversation)],"tools":[\#(Self.weather)]}"#
        let with = try Self.render(body, template: Self.unaware)
        #expect(with.hasPrefix("[system]S\n\nYou can call functions."))
        #expect(with.contains("\n" + Self.weather + "\n"))
        #expect(with.hasSuffix(rest))
        let alone = try Self.render(
            #"{"messages":[\#(Self.user)],"tools":[\#(Self.weather)]}"#, template: Self.unaware)
        #expect(alone.hasPrefix("[system]You can call functions.") && alone.hasSuffix("[user]a"))
    }
}
