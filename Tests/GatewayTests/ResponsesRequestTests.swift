// Tandem — Apache-2.0

import JSON
import Requests
import Testing
import Tokenization

@testable import Gateway

@Suite struct ResponsesRequestTests {
    private static func read(_ body: String) throws -> ResponsesRequest {
        try ResponsesRequest(TestModel.json(body), vocabularySize: 258)
    }

    /// Which field a body is refused for; `-` if it is not.
    private static func fault(_ body: String) throws -> String {
        let value = try TestModel.json(body)
        do throws(APIError) {
            _ = try ResponsesRequest(value, vocabularySize: 258)
            return "-"
        } catch {
            #expect(error.status == 400)
            #expect(error.message.contains("`\(error.parameter ?? "-")`"), "\(error.message)")
            return error.parameter ?? "nil"
        }
    }

    private static func messages(_ input: String, _ more: String = "") throws -> String {
        let fields = try RequestFields(body: TestModel.json(#"{"input":\#(input)\#(more)}"#))
        var writer = JSONWriter()
        writer.value(.array(try ResponsesInput(fields).messages.map { .object($0) }))
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    // MARK: Input

    @Test func messagesAreThoseOfAChat() throws {
        #expect(try Self.messages(#""hi""#) == #"[{"role":"user","content":"hi"}]"#)
        #expect(
            try Self.messages(
                #"""
                [{"role":"developer","content":"d"},
                 {"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]},
                 {"id":"msg_1","type":"message","role":"assistant","status":"completed","phase":null,
                  "content":[{"type":"output_text","text":"c","annotations":[],"logprobs":[]},{"type":"refusal","refusal":"d"}]},
                 {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"},
                 {"role":"system","content":"e"}]
                """#, #","instructions":"i""#)
                == #"[{"role":"system","content":"i"},{"role":"system","content":"d"},"#
                + #"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"#
                + #"{"role":"assistant","content":"cd"},{"role":"system","content":"e"}]"#)
    }

    @Test func callsJoinTheMessageBeforeThem() throws {
        func call(_ id: String) -> String {
            #"{"type":"function_call","id":"fc_1","call_id":"\#(id)","name":"f","arguments":"{}","status":"completed"}"#
        }
        func result(_ id: String) -> String {
            #"{"type":"function_call_output","call_id":"\#(id)","output":"r"}"#
        }
        func called(_ id: String) -> String {
            #"{"id":"\#(id)","type":"function","function":{"name":"f","arguments":"{}"}}"#
        }
        func tool(_ id: String) -> String { #"{"role":"tool","content":"r","tool_call_id":"\#(id)"}"# }
        let said = #"{"role":"assistant","content":"s"}"#
        #expect(
            try Self.messages("[\(said),\(call("1")),\(call("2")),\(result("1")),\(result("2")),\(call("3"))]")
                == #"[{"role":"assistant","content":"s","tool_calls":[\#(called("1")),\#(called("2"))]},"#
                + #"\#(tool("1")),\#(tool("2")),{"role":"assistant","tool_calls":[\#(called("3"))]}]"#)
        // A message that a model wrote behind its call goes to the template with it; a second one is its own.
        #expect(
            try Self.messages("[\(call("1")),\(said),\(said),\(result("1"))]")
                == #"[{"role":"assistant","tool_calls":[\#(called("1"))],"content":"s"},\#(said),\#(tool("1"))]"#)
        #expect(
            try Self.messages(
                #"[\#(call("1")),{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"t"}]}]"#
            ).hasSuffix(#"{"role":"tool","content":[{"type":"text","text":"t"}],"tool_call_id":"1"}]"#))
    }

    @Test func itemsAtFaultAreNamed() throws {
        let user = #"{"role":"user","content":"a"}"#
        let call = #"{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}"#
        let cases: [(input: String, field: String)] = [
            ("1", "input"), ("null", "input"), ("[]", "input"), ("{}", "input"),
            (#"[{"type":"reasoning","summary":[]}]"#, "input"),
            (#"["a"]"#, "input[0]"), ("[\(user),3]", "input[1]"),
            ("[{}]", "input[0].type"), (#"[{"type":7}]"#, "input[0].type"),
            (#"[\#(user),\#(user),\#(user),{"type":"computer_call"}]"#, "input[3].type"),
            (#"[{"type":"item_reference","id":"msg_1"}]"#, "input[0].type"),
            (#"[{"type":"message","content":"a"}]"#, "input[0].role"),
            (#"[{"role":"tool","content":"a"}]"#, "input[0].role"), (#"[{"role":1}]"#, "input[0].role"),
            (#"[{"role":"user"}]"#, "input[0].content"), (#"[{"role":"user","content":4}]"#, "input[0].content"),
            (#"[{"role":"user","content":["a"]}]"#, "input[0].content[0]"),
            (#"[{"role":"user","content":[{"text":"a"}]}]"#, "input[0].content[0].type"),
            (
                #"[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image"}]}]"#,
                "input[0].content[1].type"
            ),
            (#"[{"role":"user","content":[{"type":"input_text"}]}]"#, "input[0].content[0].text"),
            (#"[{"role":"assistant","content":[{"type":"refusal","text":""}]}]"#, "input[0].content[0].refusal"),
            (#"[{"type":"function_call","name":"f","arguments":"{}"}]"#, "input[0].call_id"),
            (#"[{"type":"function_call","call_id":"","name":"f","arguments":"{}"}]"#, "input[0].call_id"),
            (#"[{"type":"function_call","call_id":"1","arguments":"{}"}]"#, "input[0].name"),
            (#"[{"type":"function_call","call_id":"1","name":"f"}]"#, "input[0].arguments"),
            (#"[{"type":"function_call","call_id":"1","name":"f","arguments":{}}]"#, "input[0].arguments"),
            ("[\(call),\(call)]", "input[1].call_id"),
            (#"[{"type":"function_call_output","output":"r"}]"#, "input[0].call_id"),
            (#"[\#(call),{"type":"function_call_output","call_id":"2","output":"r"}]"#, "input[1].call_id"),
            (#"[\#(call),{"type":"function_call_output","call_id":"1"}]"#, "input[1].output"),
            (#"[\#(call),{"type":"function_call_output","call_id":"1","output":{}}]"#, "input[1].output"),
            (
                #"[\#(call),{"type":"function_call_output","call_id":"1","output":[{"type":"input_file"}]}]"#,
                "input[1].output[0].type"
            ),
        ]
        for (input, field) in cases { #expect(try Self.fault(#"{"input":\#(input)}"#) == field, "\(input)") }
        #expect(try Self.fault("{}") == "input")
        #expect(try Self.fault(#"{"input":"a","instructions":[]}"#) == "instructions")
    }

    // MARK: Fields

    @Test func fieldsAreThoseOfAChat() throws {
        let request = try Self.read(
            #"""
            {"input":"a","model":"toy","max_output_tokens":7,"temperature":0,"top_p":0.5,"top_k":3,"min_p":0.25,"seed":4,
             "stop":["x"],"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"min_tokens":2,
             "logit_bias":{"97":5},"ignore_eos":true,"priority":2,"cache_salt":"s","top_logprobs":2,"stream":true,
             "text":{"format":{"type":"json_object"},"verbosity":"low"},"store":false,"background":false,
             "previous_response_id":null,"reasoning":{"effort":"low"},"service_tier":"auto","user":"u",
             "truncation":"disabled","include":[],"stream_options":{"include_obfuscation":false}}
            """#)
        var expected = GenerationRequest(kind: .chat, prompts: [])
        expected.sampling = SamplingParameters(
            temperature: 0, topK: 3, topP: 0.5, minP: 0.25, repetitionPenalty: 1.5, frequencyPenalty: -1,
            presencePenalty: 1, seed: 4)
        expected.logitBias = [TokenBias(token: 97, bias: 5)]
        expected.maximumNewTokens = 7
        expected.minimumNewTokens = 2
        expected.stop = ["x"]
        expected.ignoreEndOfSequence = true
        expected.structure = StructuredOutput(
            source: GrammarSource(kind: .jsonObject, text: ""), field: "text.format.type")
        expected.stream = true
        expected.logProbabilities = 2
        expected.addSpecialTokens = false
        expected.priority = 2
        expected.cacheSalt = "s"
        expected.session = "u"
        expected.requestedModel = "toy"
        expected.promptField = "input"
        #expect(request.generation == expected)
    }

    @Test func formatsBecomeGrammars() throws {
        let schema = #"{"type":"object","properties":{"a":{"type":"string"}}}"#
        let request = try Self.read(
            #"{"input":"a","text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":\#(schema)}}}"#)
        #expect(
            request.generation.structure
                == StructuredOutput(
                    source: GrammarSource(kind: .jsonSchema, text: schema), field: "text.format.schema"))
        #expect(try Self.read(#"{"input":"a","text":{"format":{"type":"text"}}}"#).generation.structure == nil)
        #expect(try Self.read(#"{"input":"a","guided_regex":"a"}"#).generation.structure?.field == "guided_regex")
    }

    @Test func fieldsAtFaultAreNamed() throws {
        let format = #""text":{"format":{"type":"json_schema","name":"n","schema":{}}}"#
        let cases: [(more: String, field: String)] = [
            (#""store":true"#, "store"), (#""store":"no""#, "store"), (#""background":true"#, "background"),
            (#""previous_response_id":"resp_1""#, "previous_response_id"),
            (#""conversation":"conv_1""#, "conversation"), (#""conversation":{"id":"c"}"#, "conversation"),
            (#""prompt":{"id":"p"}"#, "prompt"), (#""context_management":[]"#, "context_management"),
            (#""messages":[]"#, "messages"), (#""max_tokens":1"#, "max_tokens"),
            (#""response_format":{"type":"text"}"#, "response_format"), (#""logprobs":true"#, "logprobs"),
            (#""n":2"#, "n"), (#""max_output_tokens":0"#, "max_output_tokens"),
            (#""max_output_tokens":1.5"#, "max_output_tokens"), (#""temperature":3"#, "temperature"),
            (#""top_p":0"#, "top_p"), (#""top_logprobs":21"#, "top_logprobs"), (#""include":"a""#, "include"),
            (#""include":["message.output_text.logprobs","all"]"#, "include[1]"), (#""include":[1]"#, "include[0]"),
            (#""truncation":"some""#, "truncation"), (#""truncation":1"#, "truncation"), (#""text":1"#, "text"),
            (#""text":{"format":"json"}"#, "text.format"), (#""text":{"format":{}}"#, "text.format.type"),
            (#""text":{"format":{"type":"xml"}}"#, "text.format.type"),
            (#""text":{"format":{"type":"json_schema","schema":{}}}"#, "text.format.name"),
            (#""text":{"format":{"type":"json_schema","name":"n"}}"#, "text.format.schema"),
            (#""text":{"format":{"type":"json_schema","name":"n","schema":1}}"#, "text.format.schema"),
            (#""text":{"format":{"type":"json_schema","name":"n","strict":1,"schema":{}}}"#, "text.format.strict"),
            (#""text":{"verbosity":1}"#, "text.verbosity"), (#"\#(format),"guided_regex":"a""#, "guided_regex"),
            (#""metadata":[]"#, "metadata"), (#""metadata":{"a":1}"#, "metadata.a"),
            (#""metadata":{"\#(String(repeating: "k", count: 65))":"a"}"#, "metadata"),
            (#""metadata":{"a":"\#(String(repeating: "v", count: 513))"}"#, "metadata.a"),
            (#""metadata":{\#((0..<17).map { #""\#($0)":"""# }.joined(separator: ","))}"#, "metadata"),
            (#""reasoning":"low""#, "reasoning"), (#""user":1"#, "user"), (#""stream":1"#, "stream"),
            (#""stream_options":{}"#, "stream_options"),
            (#""stream":true,"stream_options":{"include_obfuscation":true}"#, "stream_options.include_obfuscation"),
            (#""return_token_ids":true"#, "return_token_ids"), (#""prompt_logprobs":1"#, "prompt_logprobs"),
            (#""prompt_cache_key":1"#, "prompt_cache_key"), (#""safety_identifier":1"#, "safety_identifier"),
            (#""max_tool_calls":0"#, "max_tool_calls"), (#""min_tokens":5,"max_output_tokens":4"#, "min_tokens"),
        ]
        for (more, field) in cases { #expect(try Self.fault(#"{"input":"a",\#(more)}"#) == field, "\(more)") }
    }

    // MARK: Tools

    private static func tool(_ name: String, _ more: String = "") -> String {
        #"{"type":"function","name":"\#(name)"\#(more)}"#
    }

    @Test func toolsAreThoseOfAChat() throws {
        let flat = Self.tool(
            "f", #","description":"d","parameters":{"type":"object"},"strict":null,"defer_loading":true"#)
        let nested =
            #"{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}"#
        let request = try Self.read(#"{"input":"a","tools":[\#(flat)],"parallel_tool_calls":false}"#)
        let chat = try ToolCallRequest.read(
            RequestFields(body: TestModel.json(#"{"tools":[\#(nested)],"parallel_tool_calls":false}"#)))
        #expect(request.generation.tools == chat)
        #expect(try Self.read(#"{"input":"a","tools":[\#(flat)],"tool_choice":"none"}"#).generation.tools == nil)
        let named = try Self.read(#"{"input":"a","tools":[\#(flat)],"tool_choice":{"type":"function","name":"f"}}"#)
        #expect(named.generation.tools?.choice == .named("f"))
    }

    @Test func toolsAtFaultAreNamed() throws {
        let f = Self.tool("f")
        let many = Array(repeating: f, count: 129).joined(separator: ",")
        let cases: [(more: String, field: String)] = [
            (#""tools":{}"#, "tools"), (#""tools":[1]"#, "tools[0]"), (#""tools":[\#(f),{}]"#, "tools[1].type"),
            (#""tools":[{"type":"web_search"}]"#, "tools[0].type"), (#""tools":[\#(many)]"#, "tools"),
            (#""tools":[{"type":"function","function":{"name":"f"}}]"#, "tools[0].name"),
            (#""tools":[\#(f),\#(Self.tool("a b"))]"#, "tools[1].name"), (#""tools":[\#(f),\#(f)]"#, "tools[1].name"),
            (#""tools":[\#(Self.tool("f", #","parameters":[]"#))]"#, "tools[0].parameters"),
            (#""tools":[\#(Self.tool("f", #","parameters":{"type":"array"}"#))]"#, "tools[0].parameters.type"),
            (#""tools":[\#(Self.tool("f", #","description":1"#))]"#, "tools[0].description"),
            (#""tools":[\#(Self.tool("f", #","strict":1"#))]"#, "tools[0].strict"),
            (#""tool_choice":"required""#, "tool_choice"), (#""tools":[\#(f)],"tool_choice":"any""#, "tool_choice"),
            (#""tools":[\#(f)],"tool_choice":1"#, "tool_choice"),
            (#""tools":[\#(f)],"tool_choice":{"type":"allowed_tools"}"#, "tool_choice.type"),
            (#""tools":[\#(f)],"tool_choice":{"type":"function"}"#, "tool_choice.name"),
            (#""tools":[\#(f)],"tool_choice":{"type":"function","name":"g"}"#, "tool_choice.name"),
            (#""parallel_tool_calls":1"#, "parallel_tool_calls"),
        ]
        for (more, field) in cases { #expect(try Self.fault(#"{"input":"a",\#(more)}"#) == field, "\(more)") }
    }

    // MARK: What depends on the model

    @Test func whatTheModelCannotDoIsRefused() async throws {
        try await MemoryBench.run([MemoryEngine(text: "a")]) { bench in
            let path = "/v1/responses"
            try await bench.expect("404 model", path, #"{"input":"a","model":"other"}"#)
            try await bench.expect("400 input", path, #"{"input":"\#(String(repeating: "a", count: 600))"}"#)
            try await bench.expect("400 input", path, #"{"input":"a","max_output_tokens":512}"#)
            try await bench.expect("400 -", path, "[]")
            try await bench.expect(
                "400 text.format.schema", path,
                #"{"input":"a","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"what"}}}}"#)
            try await bench.expect(
                "400 text.format.schema", path,
                #"{"input":"a","text":{"format":{"type":"json_schema","name":"n","schema":{}}},"tools":[\#(Self.tool("f"))],"tool_choice":"required"}"#
            )
            #expect(try await bench.get(path).status == 405)
            #expect(try await bench.get(path + "/resp_1").status == 404)
        }
        try await MemoryBench.run([MemoryEngine(text: "a")], template: nil) { bench in
            try await bench.expect("400 input", "/v1/responses", #"{"input":"a"}"#)
        }
        let refusing = "{{ raise_exception('no') }}"
        try await MemoryBench.run([MemoryEngine(text: "a")], template: refusing) { bench in
            try await bench.expect("400 input", "/v1/responses", #"{"input":"a"}"#)
        }
    }

    /// The context has 512 tokens; a byte is one.
    @Test func oldMessagesMayBeLeftOut() async throws {
        func message(_ role: String, _ letter: String, _ count: Int) -> String {
            #"{"role":"\#(role)","content":"\#(String(repeating: letter, count: count))"}"#
        }
        let engine = MemoryEngine(text: "a")
        let call = #"{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}"#
        let result = #"{"type":"function_call_output","call_id":"1","output":"r"}"#
        let input = [
            message("user", "a", 200), call, result, message("assistant", "b", 100), message("user", "c", 200),
            message("assistant", "d", 50), message("user", "e", 50),
        ].joined(separator: ",")
        try await MemoryBench.run([engine], template: "{% for m in messages %}{{ m.content }}{% endfor %}") { bench in
            let path = "/v1/responses"
            let body = #"{"input":[\#(input)],"instructions":"i""#
            try await bench.expect("400 input", path, body + "}")
            // Room for 412 tokens, then for 512 less a quarter, then for 82 and for 42.
            for more in [#","max_output_tokens":100"#, "", #","max_output_tokens":430"#] {
                try await bench.expect(nil, path, body + #","truncation":"auto"\#(more)}"#)
            }
            try await bench.expect("400 input", path, body + #","truncation":"auto","max_output_tokens":470}"#)
        }
        func run(_ letter: String, _ count: Int) -> String { String(repeating: letter, count: count) }
        let short = "i" + run("e", 50)
        let longer = "i" + run("c", 200) + run("d", 50) + run("e", 50)
        #expect(engine.requests.map(\.tokens) == [longer.ids, longer.ids, short.ids])
    }
}
