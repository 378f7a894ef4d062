// Tandem — Apache-2.0

import HTTPCore
import JSON
import Requests
import Synchronization
import Testing

@testable import Gateway

/// What clients get of completions and chats, to the byte where the form matters.
@Suite struct GenerationAnswerTests {
    private static let head = #"{"id":"cmpl-r","object":"text_completion","created":77,"model":"toy","choices":["#
    private static let chatHead =
        #"{"id":"chatcmpl-r","object":"chat.completion","created":77,"model":"toy","choices":["#

    private static func usage(_ prompt: Int, _ completion: Int) -> String {
        #""usage":{"prompt_tokens":\#(prompt),"completion_tokens":\#(completion),"total_tokens":\#(prompt + completion),"prompt_tokens_details":{"cached_tokens":0}}"#
    }

    @Test func fieldsReachTheEngine() async throws {
        let engine = MemoryEngine(text: "hello")
        try await MemoryBench.run([engine]) { bench in
            let answer = try await bench.post(
                "/v1/completions",
                #"""
                {"prompt":"ab","seed":4,"presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.5,"min_tokens":2,
                 "logit_bias":{"97":5},"structured_outputs":{"choice":["hello"]},"priority":-3,"cache_salt":"s",
                 "prompt_logprobs":2,"stop_token_ids":[10]}
                """#)
            #expect(answer.status == 200)
        }
        let request = try #require(engine.requests.first)
        #expect(
            request
                == EngineRequest(
                    id: request.id, tokens: "ab".ids,
                    sampling: SamplingParameters(
                        temperature: 1, repetitionPenalty: 1.5, frequencyPenalty: -1, presencePenalty: 1, seed: 4),
                    maximumNewTokens: 16, stopTokens: [TestModel.end, 10], minimumNewTokens: 2,
                    logitBias: [TokenBias(token: 97, bias: 5)],
                    grammar: GrammarSource(kind: .choice, text: #"["hello"]"#), promptLogProbabilities: 2,
                    priority: -3, cacheSalt: "s"))
    }

    @Test func tokenIDsOfCompletions() async throws {
        try await MemoryBench.run([MemoryEngine(text: "cd")]) { bench in
            let whole = try await bench.post("/v1/completions", #"{"prompt":"ab","return_token_ids":true,"n":2}"#).body
            func choice(_ index: Int) -> String {
                #"{"index":\#(index),"text":"cd","logprobs":null,"finish_reason":"length","stop_reason":null,"prompt_token_ids":[97,98],"token_ids":[99,100]}"#
            }
            #expect(whole == Self.head + choice(0) + "," + choice(1) + "]," + Self.usage(2, 4) + "}")
            let events = try await bench.post(
                "/v1/completions", #"{"prompt":"ab","return_token_ids":true,"stream":true}"#
            ).events
            #expect(
                events == [
                    Self.head
                        + #"{"index":0,"text":"c","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":[97,98],"token_ids":[99]}]}"#,
                    Self.head
                        + #"{"index":0,"text":"d","logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":[100]}]}"#,
                    "[DONE]",
                ])
        }
    }

    /// A long prompt is computed in several steps, whose log-probabilities come before the first token.
    @Test func tokenIDsOfPromptsThatComeInParts() async throws {
        let engine = MemoryEngine { request in
            let parts = request.tokens.dropFirst().map {
                SequenceOutput(id: request.id, promptLogProbabilities: [MemoryEngine.position($0, top: 1)])
            }
            var token = MemoryEngine.outputs(request, text: "d".ids)
            token[0].promptLogProbabilities = []
            return parts + token
        }
        try await MemoryBench.run([engine]) { bench in
            let events = try await bench.post(
                "/v1/completions",
                #"{"prompt":"abc","echo":true,"logprobs":1,"return_token_ids":true,"stream":true}"#
            ).events
            #expect(events.map { $0.contains(#""prompt_token_ids":[97,98,99]"#) } == [true, false])
        }
    }

    /// Nothing but the answer itself keeps a request alive whose engine is done while its client takes nothing.
    @Test func answersOfSlowClientsAreWhole() async throws {
        let text = String(repeating: "abcdefgh", count: 40)
        // Every write fills it.
        func limit(_ limits: inout HTTPLimits) {
            limits.outboundHighWater = 1
            limits.outboundLowWater = 0
        }
        try await MemoryBench.run([MemoryEngine(text: text)], limits: limit) { bench in
            for count in [1, 3] {
                let answer = try await bench.post(
                    "/v1/completions", #"{"prompt":"ab","max_tokens":320,"n":\#(count),"stream":true}"#)
                #expect(answer.events.last == "[DONE]")
                let events = try answer.events.dropLast().map { try TestModel.json($0)["choices"][0] }
                for index in 0..<count {
                    let pieces = events.filter { $0["index"].integer == Int64(index) }.compactMap { $0["text"].string }
                    #expect(pieces.joined() == text)
                }
            }
        }
    }

    @Test func tokenIDsOfChats() async throws {
        let engine = MemoryEngine { MemoryEngine.outputs($0, text: "c".ids + [TestModel.end]) }
        try await MemoryBench.run([engine], template: "{{ messages[0].content }}") { bench in
            let body = #"{"messages":[{"role":"user","content":"ab"}],"return_token_ids":true"#
            let whole = try await bench.post("/v1/chat/completions", body + "}").body
            #expect(
                whole == Self.chatHead
                    + #"{"index":0,"message":{"role":"assistant","content":"c","refusal":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":[99,257]}],"#
                    + Self.usage(2, 2) + #","prompt_token_ids":[97,98]}"#)
            let chunk = Self.chatHead.replacing("chat.completion\"", with: "chat.completion.chunk\"")
            let events = try await bench.post("/v1/chat/completions", body + #","stream":true}"#).events
            #expect(
                events == [
                    chunk
                        + #"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":[97,98]}"#,
                    chunk
                        + #"{"index":0,"delta":{"content":"c"},"logprobs":null,"finish_reason":null,"token_ids":[99]}]}"#,
                    chunk
                        + #"{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":null,"token_ids":[257]}]}"#,
                    chunk + #"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}"#,
                    "[DONE]",
                ])
        }
    }

    private static let promptLogProbabilities =
        #""prompt_logprobs":[null,{"98":{"logprob":-2.0,"rank":2,"decoded_token":"b"},"97":{"logprob":-0.25,"rank":1,"decoded_token":"a"}},{"120":{"logprob":-1.5,"rank":null,"decoded_token":"x"},"97":{"logprob":-0.25,"rank":1,"decoded_token":"a"},"98":{"logprob":-2.0,"rank":2,"decoded_token":"b"}}]"#

    @Test func promptLogProbabilities() async throws {
        let engine = MemoryEngine(text: "c")
        try await MemoryBench.run([engine], template: "{{ messages[0].content }}") { bench in
            let whole = try await bench.post(
                "/v1/completions", #"{"prompt":[97,98,120],"prompt_logprobs":2,"n":2}"#
            ).body
            func choice(_ index: Int) -> String {
                #"{"index":\#(index),"text":"c","logprobs":null,"finish_reason":"length","stop_reason":null,"#
                    + Self.promptLogProbabilities + "}"
            }
            #expect(whole == Self.head + choice(0) + "," + choice(1) + "]," + Self.usage(3, 2) + "}")
            // One choice's are enough for the prompt.
            #expect(engine.requests.map(\.promptLogProbabilities).compactMap { $0 } == [2])
            let chat = try await bench.post(
                "/v1/chat/completions", #"{"messages":[{"role":"user","content":"abx"}],"prompt_logprobs":2}"#
            ).body
            #expect(chat.hasSuffix("]," + Self.usage(3, 1) + "," + Self.promptLogProbabilities + "}"))
        }
    }

    /// What is scored and what is shown of the prompt beside the choices may differ.
    @Test func echoAndPromptLogProbabilitiesTogether() async throws {
        let engine = MemoryEngine(text: "")
        try await MemoryBench.run([engine]) { bench in
            let json = try await bench.post(
                "/v1/completions",
                #"{"prompt":[[97,98],[98,120]],"echo":true,"logprobs":1,"prompt_logprobs":2,"max_tokens":0,"n":2}"#
            ).json
            #expect(engine.requests.map(\.promptLogProbabilities) == [2, 1, 2, 1])
            for index in 0..<4 {
                let choice = json["choices"][index]
                #expect(choice["text"] == .string(index < 2 ? "ab" : "bx"))
                let top = try #require(choice["logprobs"]["top_logprobs"][1].object)
                #expect(choice["logprobs"]["top_logprobs"][0] == .null)
                #expect(top.entries.map(\.key).sorted() == (index < 2 ? ["a", "b"] : ["a", "x"]))
                #expect(choice["prompt_logprobs"][1].object?.count == (index < 2 ? 2 : 3))
                #expect(choice["finish_reason"] == .string("length"))
            }
            #expect(json["usage"]["prompt_tokens"] == .integer(4))
            #expect(json["usage"]["completion_tokens"] == .integer(0))
        }
    }

    /// The second candidate is likeliest, then the fourth; all that was generated counts.
    @Test func theBestCandidatesAreGivenOut() async throws {
        let means: [Float] = [-3, -1, -4, -2]
        let engine = MemoryEngine { request in
            let choice = Int(request.sampling.choiceIndex)
            return (0..<2).map { index in
                let token = TokenID(97 + choice)
                return SequenceOutput(
                    id: request.id, tokens: [token],
                    logProbabilities: [
                        PositionLogProbabilities(
                            chosen: TokenLogProbability(token: token, logProbability: means[choice]), top: [])
                    ], finish: index == 1 ? .length : nil)
            }
        }
        try await MemoryBench.run([engine]) { bench in
            let json = try await bench.post("/v1/completions", #"{"prompt":["x","yz"],"n":2,"best_of":4}"#).json
            let texts = json["choices"].array?.compactMap { $0["text"].string }
            #expect(texts == ["bb", "dd", "bb", "dd"])
            #expect(json["choices"].array?.compactMap { $0["index"].integer } == [0, 1, 2, 3])
            #expect(json["choices"][0]["logprobs"] == .null)
            #expect(json["usage"]["completion_tokens"] == .integer(16))
            #expect(json["usage"]["prompt_tokens"] == .integer(3))
            #expect(engine.requests.allSatisfy { $0.logProbabilities == 0 })
        }
    }

    @Test func stopStringsWaitForTheLeastNumberOfTokens() async throws {
        let engine = MemoryEngine(text: "a.b.c.d")
        try await MemoryBench.run([engine]) { bench in
            var texts: [String?] = []
            for fields in [
                #""min_tokens":0"#, #""min_tokens":1"#, #""min_tokens":2"#,
                #""min_tokens":5,"include_stop_str_in_output":true"#,
            ] {
                let answer = try await bench.post("/v1/completions", #"{"prompt":"x","stop":["."],\#(fields)}"#)
                texts.append(answer.json["choices"][0]["text"].string)
            }
            #expect(texts == ["a", "a", "a.b", "a.b.c."])
        }
    }

    /// A step of several tokens goes on behind a stop string; another choice keeps the stream open.
    @Test func aChoiceOfAStreamEndsOnce() async throws {
        let engine = MemoryEngine { request in
            let ids = (request.sampling.choiceIndex == 0 ? "ab.cdef" : "xyz").ids
            return [SequenceOutput(id: request.id, tokens: ids, finish: .length)]
        }
        try await MemoryBench.run([engine]) { bench in
            let answer = try await bench.post(
                "/v1/completions",
                #"{"prompt":"q","n":2,"stop":["."],"stream":true,"stream_options":{"include_usage":true}}"#)
            let chunks = try answer.events.dropLast().map { try TestModel.json($0) }
            for (index, expected) in ["ab", "xyz"].enumerated() {
                let own = chunks.filter { $0["choices"][0]["index"].integer == Int64(index) }
                #expect(own.compactMap { $0["choices"][0]["text"].string }.joined() == expected)
                #expect(own.compactMap { $0["choices"][0]["finish_reason"].string } == [index == 0 ? "stop" : "length"])
            }
            #expect(chunks.last?["usage"]["completion_tokens"] == .integer(6))
        }
    }

    @Test func promptsAreCutToTheRoomThereIs() async throws {
        let engine = MemoryEngine(text: "c")
        try await MemoryBench.run([engine], configure: { $0.models[0].contextLength = 8 }) { bench in
            let body = #"{"prompt":"abcdefghijkl","max_tokens":3,"truncate_prompt_tokens":-1,"echo":true}"#
            let json = try await bench.post("/v1/completions", body).json
            #expect(json["choices"][0]["text"] == .string("hijklc"))
            #expect(engine.requests.first?.tokens == "hijkl".ids)
            let full = #"{"prompt":"ab","max_tokens":8,"truncate_prompt_tokens":-1}"#
            try await bench.expect("400 prompt", "/v1/completions", full)
            let chat = #"{"messages":[{"role":"user","content":"abcdefgh"}],"truncate_prompt_tokens":-1}"#
            #expect(try await bench.post("/v1/chat/completions", chat).status == 200)
            #expect(engine.requests.last?.tokens.count == 7)
        }
    }

    @Test func whatNeedsMoreRoomThanThereIsIsNamed() async throws {
        try await MemoryBench.run([MemoryEngine(text: "c")], configure: { $0.models[0].contextLength = 8 }) { bench in
            let chat = #"{"messages":[{"role":"user","content":""}],"min_tokens":9}"#
            try await bench.expect("400 messages", "/v1/chat/completions", chat)
        }
        try await MemoryBench.run(
            [MemoryEngine(text: "c")], template: "{{ messages[0].content }}",
            configure: { $0.models[0].contextLength = 8 }
        ) { bench in
            let chat = #"{"messages":[{"role":"user","content":"abc"}],"min_tokens":6}"#
            try await bench.expect("400 min_tokens", "/v1/chat/completions", chat)
            let huge = #"{"prompt":"a","max_tokens":2147483647,"min_tokens":2147483647}"#
            try await bench.expect("400 prompt", "/v1/completions", huge)
        }
    }

    @Test func answersThatWouldBeHugeAreRefused() async throws {
        try await MemoryBench.run([MemoryEngine(text: "")], configure: { $0.models[0].contextLength = 4096 }) { bench in
            let prompt = String(repeating: "a", count: 4000)
            let prompts = Array(repeating: "\"\(prompt)\"", count: 30).joined(separator: ",")
            let refusal = try await bench.refusal(
                "/v1/completions", #"{"prompt":[\#(prompts)],"max_tokens":1,"prompt_logprobs":20}"#)
            #expect(refusal == "400 prompt_logprobs")
            let echo = try await bench.refusal(
                "/v1/completions", #"{"prompt":"\#(prompt)","echo":true,"max_tokens":0,"logprobs":20,"n":30}"#)
            #expect(echo == "400 logprobs")
        }
    }

    @Test func grammarsAreCheckedBeforeAnEngineSeesThem() async throws {
        let engine = MemoryEngine(text: "c")
        try await MemoryBench.run([engine]) { bench in
            let broken = #"{"prompt":"a","guided_json":"{"}"#
            try await bench.expect("400 guided_json", "/v1/completions", broken)
            #expect(engine.requests.isEmpty)
            let sound = #"{"prompt":"a","guided_choice":["c","d"]}"#
            for _ in 0..<2 { #expect(try await bench.post("/v1/completions", sound).status == 200) }
            #expect(engine.requests.map(\.grammar?.kind) == [.choice, .choice])
        }
    }

    @Test func grammarsAreRefusedWithTheirPlace() async throws {
        try await MemoryBench.run([MemoryEngine(text: "c")]) { bench in
            for (field, source) in [("guided_regex", #""a(""#), ("grammar", #""root = 5""#)] {
                let answer = try await bench.post("/v1/completions", #"{"prompt":"a","\#(field)":\#(source)}"#)
                #expect(answer.status == 400)
                #expect(answer.json["error"]["param"] == .string(field))
                let message = answer.json["error"]["message"].string ?? ""
                #expect(message.contains("byte") || message.contains("line"), "\(message)")
            }
            let choices = (0..<4000).map { "\"choice number \($0)\"" }.joined(separator: ",")
            let prompts = Array(repeating: "\"x\"", count: 256).joined(separator: ",")
            let many = #"{"prompt":[\#(prompts)],"guided_choice":[\#(choices)]}"#
            try await bench.expect("400 guided_choice", "/v1/completions", many)
        }
    }

    /// Started in several turns, answered in order.
    @Test func manySequencesAreAnsweredInOrder() async throws {
        let engine = MemoryEngine { MemoryEngine.outputs($0, text: Array($0.tokens.prefix(2))) }
        try await MemoryBench.run([engine]) { bench in
            let prompts = (0..<1500).map { "[\($0 % 100 + 1),\($0 / 100 + 1)]" }.joined(separator: ",")
            let json = try await bench.post(
                "/v1/completions", #"{"prompt":[\#(prompts)],"return_token_ids":true}"#
            ).json
            let choices = try #require(json["choices"].array)
            #expect(choices.count == 1500)
            for (index, choice) in choices.enumerated() {
                let expected = [JSONValue.integer(Int64(index % 100 + 1)), .integer(Int64(index / 100 + 1))]
                #expect(choice["token_ids"] == .array(expected))
            }
            let load = try await bench.get("/load").body
            #expect(load == #"{"server_load":0}"#)
            let metrics = try await bench.get("/metrics").body
            #expect(metrics.contains("tandem_gateway_unfinished_sequences{model_name=\"toy\"} 0"))
        }
    }

    // MARK: Filling in the middle

    @Test func aSuffixIsPutBehindTheGap() async throws {
        let names = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"]
        let tokenizer = try TestModel.tokenizer(specials: names, addsBOS: true)
        let engine = MemoryEngine { MemoryEngine.outputs($0, text: "m".ids + [261]) }
        try await MemoryBench.run([engine], tokenizer: tokenizer) { bench in
            let body = #"{"prompt":["a<|fim_pad|>",[98]],"suffix":"z<|fim_pad|>","echo":true"#
            let json = try await bench.post("/v1/completions", body + "}").json
            let markup = "<|fim_pad|>".ids
            #expect(
                engine.requests.map(\.tokens) == [
                    [256, 258] + "a".ids + markup + [259] + "z".ids + markup + [260],
                    [256, 258] + "b".ids + [259] + "z".ids + markup + [260],
                ])
            #expect(engine.requests.allSatisfy { $0.stopTokens == [257, 261] })
            #expect(json["choices"][0]["text"] == .string("a<|fim_pad|>m"))
            #expect(json["choices"][1]["text"] == .string("bm"))
            #expect(json["choices"][0]["finish_reason"] == .string("stop"))
            #expect(json["choices"][0]["stop_reason"] == .null)
            try await bench.expect("400 logprobs", "/v1/completions", body + #","logprobs":1}"#)
            let short = #"{"prompt":"abcdef","suffix":"z","truncate_prompt_tokens":8,"echo":true}"#
            let cut = try await bench.post("/v1/completions", short).json
            #expect(engine.requests.last?.tokens == [256, 258] + "def".ids + [259] + "z".ids + [260])
            #expect(cut["choices"][0]["text"] == .string("defm"))
        }
    }

    /// A filter that is left out without a word filters nothing.
    @Test(arguments: [
        ("bad_words", "[\"a\"]", "[]"), ("allowed_token_ids", "[42]", "null"), ("use_beam_search", "true", "false"),
        ("thinking_token_budget", "5", "null"), ("return_tokens_as_token_ids", "true", "false"),
    ])
    func aFieldThatWouldChangeTheAnswerIsRefused(name: String, value: String, neutral: String) async throws {
        try await MemoryBench.run([MemoryEngine(text: "c")]) { bench in
            let completion = #"{"prompt":"a","\#(name)":"#
            try await bench.expect("400 \(name)", "/v1/completions", completion + value + "}")
            try await bench.expect(nil, "/v1/completions", completion + neutral + "}")
            let chat = #"{"messages":[{"role":"user","content":"a"}],"\#(name)":"#
            try await bench.expect("400 \(name)", "/v1/chat/completions", chat + value + "}")
        }
    }

    @Test func aModelThatCannotFillInTheMiddleSaysSo() async throws {
        try await MemoryBench.run([MemoryEngine(text: "c")]) { bench in
            let answer = try await bench.post("/v1/completions", #"{"prompt":"a","suffix":"z"}"#)
            #expect(answer.status == 400)
            #expect(answer.json["error"]["param"] == .string("suffix"))
            #expect(answer.json["error"]["code"] == .string("unsupported_parameter"))
            try await bench.expect("400 suffix", "/v1/completions", #"{"prompt":"a","suffix":5}"#)
            try await bench.expect(nil, "/v1/completions", #"{"prompt":"a","suffix":null}"#)
        }
    }

    @Test func tokenizerInformation() async throws {
        try await MemoryBench.run([MemoryEngine(text: "c")]) { bench in
            let info = try await bench.get("/tokenizer_info").body
            #expect(
                info
                    == #"{"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<|start|>","eos_token":"<|end|>","pad_token":"<|end|>","add_bos_token":false,"add_eos_token":false,"vocab_size":258,"model_max_length":512,"chat_template":null}"#
            )
            let load = try await bench.get("/load").body
            #expect(load == #"{"server_load":0}"#)
        }
    }
}
