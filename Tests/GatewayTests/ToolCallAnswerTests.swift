// Tandem — Apache-2.0

import JSON
import Requests
import Testing

@testable import Gateway

/// Calls of tools in whole answers and streams, to the byte.
@Suite struct ToolCallAnswerTests {
    private static let head =
        #"{"id":"chatcmpl-r","object":"chat.completion","created":77,"model":"toy","choices":["#
    private static let chunk = head.replacing("chat.completion\"", with: "chat.completion.chunk\"")
    private static let template = "{% if tools %}T{% endif %}{{ messages[0].content }}<tool_call>"
    private static let call = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>"

    private static func withoutIDs(_ text: String) -> String { numberingCallIDs(in: text, after: "\"call_") }

    private static func body(_ more: String = "") -> String {
        #"{"messages":[{"role":"user","content":"q"}],"tools":[{"type":"function","function":{"name":"f"}}]"# + more
            + "}"
    }

    /// Answers with the texts, an output each, then the end.
    private static func engine(_ pieces: [String], finish: FinishReason = .stop) -> MemoryEngine {
        MemoryEngine { request in
            var outputs = pieces.map { piece in
                SequenceOutput(
                    id: request.id, tokens: piece.ids,
                    logProbabilities: request.logProbabilities.map { top in
                        piece.ids.map { MemoryEngine.position($0, top: top) }
                    } ?? [])
            }
            outputs.append(
                SequenceOutput(
                    id: request.id, tokens: finish == .stop ? [TestModel.end] : [],
                    logProbabilities: finish == .stop
                        ? request.logProbabilities.map { [MemoryEngine.position(TestModel.end, top: $0)] } ?? [] : [],
                    finish: finish))
            return outputs
        }
    }

    private static func usage(_ prompt: Int, _ completion: Int) -> String {
        #""usage":{"prompt_tokens":\#(prompt),"completion_tokens":\#(completion),"total_tokens":\#(prompt + completion),"prompt_tokens_details":{"cached_tokens":0}}"#
    }

    @Test func wholeAnswersCarryCalls() async throws {
        let engine = Self.engine(["Well. ", Self.call, "\n", Self.call])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let answer = try await bench.post("/v1/chat/completions", Self.body())
            func call(_ id: Int) -> String {
                #"{"id":"call_\#(id)","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}"#
            }
            let count = 6 + 2 * Self.call.utf8.count + 1 + 1
            #expect(
                Self.withoutIDs(answer.body) == Self.head
                    + #"{"index":0,"message":{"role":"assistant","content":"Well.","refusal":null,"tool_calls":[\#(call(1)),\#(call(2))]},"logprobs":null,"finish_reason":"tool_calls","stop_reason":null}],"#
                    + Self.usage(13, count) + "}")
        }
        let request = try #require(engine.requests.first)
        #expect(request.tokens == "Tq<tool_call>".ids)
        #expect(request.grammar == nil)
    }

    @Test func onlyCallsMeansNoContent() async throws {
        try await MemoryBench.run([Self.engine([Self.call, Self.call])], template: Self.template) { bench in
            let several = try await bench.post("/v1/chat/completions", Self.body(#","n":2"#)).json
            for index in 0..<2 {
                let choice = several["choices"][index]
                #expect(choice["message"]["content"].isNull)
                #expect(choice["message"]["tool_calls"].array?.count == 2)
                #expect(choice["finish_reason"].string == "tool_calls")
            }
            let one = try await bench.post("/v1/chat/completions", Self.body(#","parallel_tool_calls":false"#)).json
            #expect(one["choices"][0]["message"]["tool_calls"].array?.count == 1)
        }
    }

    @Test func answersWithoutCallsAreText() async throws {
        try await MemoryBench.run([Self.engine(["{\"name\": ", "\"f\"} <tool"])], template: Self.template) { bench in
            let answer = try await bench.post("/v1/chat/completions", Self.body())
            #expect(
                answer.body.contains(
                    #""content":"{\"name\": \"f\"} <tool","refusal":null},"logprobs":null,"finish_reason":"stop""#))
        }
        // Not told of tools, the model is not looked at for calls.
        try await MemoryBench.run([Self.engine([Self.call])], template: Self.template) { bench in
            let answer = try await bench.post("/v1/chat/completions", Self.body(#","tool_choice":"none""#))
            #expect(answer.json["choices"][0]["message"]["content"].string == Self.call)
            #expect(answer.json["choices"][0]["finish_reason"].string == "stop")
        }
    }

    @Test func cutCallsEndAtTheLength() async throws {
        let engine = Self.engine(["<tool_call>{\"name\": \"f\", \"arguments\": {\"a"], finish: .length)
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let choice = try await bench.post("/v1/chat/completions", Self.body()).json["choices"][0]
            #expect(choice["finish_reason"].string == "length")
            #expect(choice["message"]["tool_calls"][0]["function"]["arguments"].string == "{\"a")
        }
    }

    @Test func streamsCarryNamesThenArguments() async throws {
        let engine = Self.engine([
            "Hi ", "<tool_call>{\"name\": \"f\", \"arg", "uments\": {\"a\"", ": 1}", "}</tool_call>",
        ])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let answer = try await bench.post(
                "/v1/chat/completions", Self.body(#","stream":true,"stream_options":{"include_usage":true}"#))
            func event(_ delta: String, _ finish: String = "null") -> String {
                Self.chunk
                    + #"{"index":0,"delta":{\#(delta)},"logprobs":null,"finish_reason":\#(finish)}],"usage":null}"#
            }
            // A chunk a token; the tokens of this tokenizer are characters.
            let first =
                #""tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{"}}]"#
            let rest = [#"\""#, "a", #"\""#, ":", " ", "1", "}"].map {
                event(#""tool_calls":[{"index":0,"function":{"arguments":"\#($0)"}}]"#)
            }
            let end = [
                event("", #""tool_calls","stop_reason":null"#),
                Self.chunk + "]," + Self.usage(13, 3 + Self.call.utf8.count + 1) + "}", "[DONE]",
            ]
            let text = [#""role":"assistant","content":"""#, #""content":"H""#, #""content":"i""#]
            #expect(answer.events.map(Self.withoutIDs) == text.map { event($0) } + [event(first)] + rest + end)
        }
    }

    /// Chunks that show log-probabilities and ids do so of every token, those of marks included.
    @Test func tokensOfCallsAreShownWhereAskedFor() async throws {
        let engine = Self.engine(["a", Self.call])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let more = #","stream":true,"logprobs":true,"return_token_ids":true"#
            let answer = try await bench.post("/v1/chat/completions", Self.body(more))
            var tokens: [Int64] = []
            var shown = 0
            for event in answer.events.dropLast() {
                let choice = try TestModel.json(event)["choices"][0]
                tokens += choice["token_ids"].array?.compactMap(\.integer) ?? []
                shown += choice["logprobs"]["content"].array?.count ?? 0
            }
            #expect(tokens == ("a" + Self.call).ids.map { Int64($0) } + [Int64(TestModel.end)])
            #expect(shown == tokens.count)
            let whole = try await bench.post("/v1/chat/completions", Self.body(#","logprobs":true"#)).json["choices"][0]
            #expect(whole["logprobs"]["content"].array?.count == tokens.count)
        }
    }

    @Test func forcedCallsHaveAGrammar() throws {
        func prepared(_ more: String) throws -> GenerationRequest {
            var request = try GenerationRequest.chat(TestModel.json(Self.body(more)), vocabularySize: 258)
            try request.prepareTools(
                for: ServedModel(
                    names: ["toy"], tokenizer: TestModel.tokenizer(), chatTemplate: nil, contextLength: 512, created: 5)
            )
            return request
        }
        let source = GrammarSource(
            kind: .jsonSchema, text: #"{"properties":{},"additionalProperties":false,"type":"object"}"#,
            prefix: "<tool_call>\n{\"name\": \"f\", \"arguments\": ", suffix: "}\n</tool_call>")
        let named = #","tool_choice":{"type":"function","function":{"name":"f"}}"#
        for more in [named, #","tool_choice":"required""#] {
            #expect(try prepared(more).structure == StructuredOutput(source: source, field: "tools"))
        }
        #expect(try prepared("").structure == nil)
        let format = #","response_format":{"type":"json_object"}"#
        #expect(try prepared(format).structure != nil)
        let error = #expect(throws: APIError.self) { try prepared(format + named) }
        #expect(error?.parameter == "response_format.type")
    }

    @Test func forcedCallsReachTheEngine() async throws {
        let engine = Self.engine(["<tool_call>\n{\"name\": \"f\", \"arguments\": {}", "}\n</tool_call>"])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let answer = try await bench.post("/v1/chat/completions", Self.body(#","tool_choice":"required""#)).json
            #expect(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].string == "{}")
            #expect(answer["choices"][0]["finish_reason"].string == "tool_calls")
            let bad =
                #"{"messages":[{"role":"user","content":"q"}],"tool_choice":"required","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"$ref":"nowhere"}}}}}]}"#
            try await bench.expect("400 tools", "/v1/chat/completions", bad)
        }
        #expect(engine.requests.count == 1)
        #expect(engine.requests.first?.grammar?.prefix == "<tool_call>\n{\"name\": \"f\", \"arguments\": ")
    }

    /// The grammar writes marks and arguments that stop strings would cut.
    @Test func aForcedCallIsCutByLengthAlone() async throws {
        let pieces = ["<tool_call>\n", "{\"name\": \"f\", \"arguments\": {\"city\": \"Paris\"}", "}\n</tool_call>"]
        let more = #","tool_choice":"required","stop":["\n","Paris"]"#
        try await MemoryBench.run([Self.engine(pieces)], template: Self.template) { bench in
            let choice = try await bench.post("/v1/chat/completions", Self.body(more)).json["choices"][0]
            #expect(choice["message"]["tool_calls"][0]["function"]["arguments"].string == #"{"city": "Paris"}"#)
            #expect(choice["finish_reason"].string == "tool_calls")
        }
        // Where there is room for the mark alone, there is nothing to show.
        let short = Self.engine(Array(pieces.prefix(1)), finish: .length)
        try await MemoryBench.run([short], template: Self.template) { bench in
            let choice = try await bench.post("/v1/chat/completions", Self.body(more)).json["choices"][0]
            #expect(choice["message"]["content"].string ?? "" == "")
            #expect(choice["finish_reason"].string == "length")
        }
        // A call that the model began of itself and a stop string cut is not whole.
        try await MemoryBench.run([Self.engine(pieces)], template: Self.template) { bench in
            let body = Self.body(#","stop":["Paris"]"#)
            let choice = try await bench.post("/v1/chat/completions", body).json["choices"][0]
            #expect(choice["message"]["tool_calls"][0]["function"]["arguments"].string == #"{"city": ""#)
            #expect(choice["finish_reason"].string == "stop")
        }
    }

    /// As OpenAI has it, an answer that had to be one call ends with `stop`.
    @Test func namedCallsJustStop() throws {
        for (choice, reason) in [
            (#"{"type":"function","function":{"name":"f"}}"#, "stop"), (#""required""#, "tool_calls"),
            (#""auto""#, "tool_calls"),
        ] {
            var request = try GenerationRequest.chat(
                TestModel.json(Self.body(#","tool_choice":\#(choice)"#)), vocabularySize: 258)
            request.toolCallFormat = .hermes
            var answer = ChoiceAnswer(
                request: request, prompt: [], tokenizer: try TestModel.tokenizer(), makeCallID: { "call_1" })
            answer.add(ChoiceDelta(text: Self.call, finish: ChoiceFinish(reason: "stop", stopReason: nil)))
            let piece = answer.take()
            #expect(piece.calls == [ToolCallDelta(index: 0, id: "call_1", name: "f", arguments: "{\"a\": 1}")])
            #expect(piece.finish?.reason == reason)
        }
    }

    @Test func toolsAtFaultAreRefused() async throws {
        try await MemoryBench.run([Self.engine([""])], template: Self.template) { bench in
            let message = #""messages":[{"role":"user","content":"q"}]"#
            try await bench.expect("400 tools[0].type", "/v1/chat/completions", #"{\#(message),"tools":[{}]}"#)
            try await bench.expect(
                "400 tool_choice", "/v1/chat/completions", #"{\#(message),"tool_choice":"required"}"#)
            try await bench.expect(
                "400 functions", "/v1/chat/completions", #"{\#(message),"functions":[{"name":"f"}]}"#)
            try await bench.expect("400 tools[0].type", "/tokenize", #"{\#(message),"tools":[{}]}"#)
        }
    }
}
