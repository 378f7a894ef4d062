// Tandem — Apache-2.0

import Foundation
import JSON
import Requests
import Testing

@testable import Gateway

/// What clients get of `/v1/responses`, to the byte.
@Suite struct ResponsesAnswerTests {
    private static let path = "/v1/responses"

    /// A response of the requests here, with what it repeats of them.
    struct Expected {
        var status = "completed"
        var output = ""
        var usage = "null"
        var instructions = "null"
        var limit = "null"
        var text = #"{"format":{"type":"text"}}"#
        var choice = #""auto""#
        var tools = "[]"
        var top = 0
        var error = "null"

        var json: String {
            let details = status == "incomplete" ? #"{"reason":"max_output_tokens"}"# : "null"
            return #"{"id":"resp_r","object":"response","created_at":77,"status":"\#(status)","background":false"#
                + #","completed_at":\#(status == "completed" ? "77" : "null"),"error":\#(error),"incomplete_details":\#(details)"#
                + #","instructions":\#(instructions),"max_output_tokens":\#(limit),"max_tool_calls":null,"model":"toy""#
                + #","output":[\#(output)],"parallel_tool_calls":true,"previous_response_id":null"#
                + #","prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null"#
                + #","service_tier":"default","store":false,"temperature":1.0,"text":\#(text)"#
                + #","tool_choice":\#(choice),"tools":\#(tools),"top_logprobs":\#(top),"top_p":1.0,"truncation":"disabled""#
                + #","usage":\#(usage),"user":null,"metadata":{}}"#
        }

        var begun: Expected {
            var begun = self
            (begun.status, begun.output, begun.usage) = ("in_progress", "", "null")
            return begun
        }
    }

    static func usage(_ input: Int, _ output: Int) -> String {
        #"{"input_tokens":\#(input),"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":0},"output_tokens":\#(output),"output_tokens_details":{"reasoning_tokens":0},"total_tokens":\#(input + output)}"#
    }

    private static func part(_ text: String, _ logProbabilities: String = "[]") -> String {
        #"{"type":"output_text","annotations":[],"logprobs":\#(logProbabilities),"text":"\#(text)"}"#
    }

    private static func message(_ index: Int, _ status: String, _ parts: String) -> String {
        #"{"id":"msg_r_\#(index)","type":"message","status":"\#(status)","role":"assistant","content":[\#(parts)]}"#
    }

    private static func call(_ index: Int, _ status: String, _ number: Int, _ arguments: String) -> String {
        #"{"id":"fc_r_\#(index)","type":"function_call","status":"\#(status)","call_id":"call_\#(number)","name":"f","arguments":"\#(arguments)"}"#
    }

    /// The events of a stream, of which `bodies` are the names and all members but the type and the number.
    private static func stream(_ bodies: [(name: String, rest: String)]) -> String {
        bodies.enumerated().map { number, body in
            "event: response.\(body.name)\ndata: {\"type\":\"response.\(body.name)\",\"sequence_number\":\(number),\(body.rest)}\n\n"
        }.joined()
    }

    /// The events of a text, a token each.
    private static func deltas(_ text: String) -> [(name: String, rest: String)] {
        text.map { ("output_text.delta", item("msg_r_0", 0, #""delta":"\#($0)","logprobs":[]"#)) }
    }

    private static func item(_ id: String, _ index: Int, _ rest: String, parts: Bool = true) -> String {
        #""item_id":"\#(id)","output_index":\#(index),"# + (parts ? #""content_index":0,"# : "") + rest
    }

    /// An engine whose answers end by themselves.
    private static func engine(_ pieces: [String], finish: FinishReason = .stop) -> MemoryEngine {
        MemoryEngine { request in
            var outputs = pieces.map { piece in
                SequenceOutput(
                    id: request.id, tokens: piece.ids,
                    logProbabilities: request.logProbabilities.map { top in
                        piece.ids.map { MemoryEngine.position($0, top: top) }
                    } ?? [])
            }
            let tokens = finish == .stop ? [TestModel.end] : []
            outputs.append(
                SequenceOutput(
                    id: request.id, tokens: tokens,
                    logProbabilities: request.logProbabilities.map { top in
                        tokens.map { MemoryEngine.position($0, top: top) }
                    } ?? [], finish: finish))
            return outputs
        }
    }

    // MARK: Text

    @Test func wholeText() async throws {
        try await MemoryBench.run([Self.engine(["he", "l\"lo"])]) { bench in
            let answer = try await bench.post(Self.path, #"{"input":"hi"}"#)
            #expect(answer.status == 200)
            var expected = Expected(usage: Self.usage(18, 7))
            expected.output = Self.message(0, "completed", Self.part(#"hel\"lo"#))
            #expect(answer.body == expected.json)
        }
    }

    @Test func tokensAreCounted() async throws {
        let engine = MemoryEngine(text: "a")
        try await MemoryBench.run([engine]) { bench in
            let answer = try await bench.post(Self.path + "/input_tokens", #"{"input":"hi","instructions":"b"}"#)
            #expect(answer.body == #"{"object":"response.input_tokens","input_tokens":27}"#)
            try await bench.expect("400 input", Self.path + "/input_tokens", "{}")
        }
        #expect(engine.requests.isEmpty)
    }

    @Test func streamedText() async throws {
        try await MemoryBench.run([Self.engine(["he", "llo"])]) { bench in
            let answer = try await bench.post(
                Self.path, #"{"input":"hi","stream":true,"instructions":"be \"brief\"","max_output_tokens":9}"#)
            #expect(answer.headers.contains("text/event-stream"))
            var expected = Expected(usage: Self.usage(36, 6), instructions: #""be \"brief\"""#, limit: "9")
            expected.output = Self.message(0, "completed", Self.part("hello"))
            let begun = #""response":"# + expected.begun.json
            #expect(
                answer.body
                    == Self.stream(
                        [
                            ("created", begun), ("in_progress", begun),
                            (
                                "output_item.added",
                                #""output_index":0,"item":\#(Self.message(0, "in_progress", ""))"#
                            ),
                            ("content_part.added", Self.item("msg_r_0", 0, #""part":\#(Self.part(""))"#)),
                        ] + Self.deltas("hello") + [
                            ("output_text.done", Self.item("msg_r_0", 0, #""text":"hello","logprobs":[]"#)),
                            ("content_part.done", Self.item("msg_r_0", 0, #""part":\#(Self.part("hello"))"#)),
                            ("output_item.done", #""output_index":0,"item":\#(expected.output)"#),
                            ("completed", #""response":"# + expected.json),
                        ]))
        }
    }

    @Test func textThatIsCut() async throws {
        try await MemoryBench.run([MemoryEngine(text: "hello")]) { bench in
            var expected = Expected(status: "incomplete", usage: Self.usage(18, 2), limit: "2")
            expected.output = Self.message(0, "incomplete", Self.part("he"))
            let whole = try await bench.post(Self.path, #"{"input":"hi","max_output_tokens":2}"#)
            #expect(whole.body == expected.json)
            let stream = try await bench.post(Self.path, #"{"input":"hi","max_output_tokens":2,"stream":true}"#)
            #expect(
                stream.body.hasSuffix(
                    "event: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"sequence_number\":9,\"response\":\(expected.json)}\n\n"
                ))
        }
    }

    @Test func noText() async throws {
        try await MemoryBench.run([Self.engine([])]) { bench in
            var expected = Expected(usage: Self.usage(18, 1))
            expected.output = Self.message(0, "completed", Self.part(""))
            #expect(try await bench.post(Self.path, #"{"input":"hi"}"#).body == expected.json)
            let stream = try await bench.post(Self.path, #"{"input":"hi","stream":true}"#)
            #expect(
                Self.names(stream.body) == [
                    "created", "in_progress", "output_item.added", "content_part.added", "output_text.done",
                    "content_part.done", "output_item.done", "completed",
                ])
            #expect(stream.body.hasSuffix(#""response":\#(expected.json)}"# + "\n\n"))
        }
    }

    private static func names(_ body: String) -> [String] {
        body.components(separatedBy: "\n").filter { $0.hasPrefix("event: response.") }.map { String($0.dropFirst(16)) }
    }

    @Test func logProbabilities() async throws {
        func entry(_ token: String, _ byte: Int, _ probability: String) -> String {
            #"{"token":"\#(token)","logprob":\#(probability),"bytes":[\#(byte)],"top_logprobs":[{"token":"a","logprob":-0.25,"bytes":[97]}]}"#
        }
        let end =
            #"{"token":"<|end|>","logprob":-1.5,"bytes":[60,124,101,110,100,124,62],"top_logprobs":[{"token":"a","logprob":-0.25,"bytes":[97]}]}"#
        try await MemoryBench.run([Self.engine(["a", "x"])]) { bench in
            let more = #","top_logprobs":1,"include":["message.output_text.logprobs","reasoning.encrypted_content"]}"#
            let all = [entry("a", 97, "-0.25"), entry("x", 120, "-1.5"), end].joined(separator: ",")
            var expected = Expected(usage: Self.usage(18, 3), top: 1)
            expected.output = Self.message(0, "completed", Self.part("ax", "[\(all)]"))
            #expect(try await bench.post(Self.path, #"{"input":"hi""# + more).body == expected.json)
            let stream = try await bench.post(Self.path, #"{"stream":true,"input":"hi""# + more)
            #expect(stream.body.hasSuffix(#""response":\#(expected.json)}"# + "\n\n"))
            let deltas = stream.body.components(separatedBy: "\n").filter { $0.contains(#"_text.delta","#) }
            let tails = [
                #""a","logprobs":[\#(entry("a", 97, "-0.25"))]}"#, #""x","logprobs":[\#(entry("x", 120, "-1.5"))]}"#,
                #""","logprobs":[\#(end)]}"#,
            ]
            #expect(deltas.map { $0.components(separatedBy: #""delta":"#).last } == tails)
        }
    }

    @Test func failuresEndTheStream() async throws {
        let engine = MemoryEngine { request in
            let text = SequenceOutput(id: request.id, tokens: "he".ids)
            return (request.resumeOffset == 0 ? [text] : []) + [SequenceOutput(id: request.id, finish: .failed)]
        }
        try await MemoryBench.run([engine]) { bench in
            let stream = try await bench.post(Self.path, #"{"input":"hi","stream":true}"#)
            #expect(Self.names(stream.body).suffix(2) == ["output_text.delta", "failed"])
            let last = try #require(stream.body.components(separatedBy: "data: ").last)
            let response = try TestModel.json(String(last.dropLast(2)))["response"]
            #expect(response["status"].string == "failed")
            #expect(response["error"]["code"].string == "server_error")
            #expect(response["error"]["message"].string?.isEmpty == false)
            #expect(response["output"][0]["status"].string == "incomplete")
            #expect(response["output"][0]["content"][0]["text"].string == "he")
            let whole = try await bench.post(Self.path, #"{"input":"hi"}"#)
            #expect(whole.status >= 500)
            #expect(whole.json["error"]["message"].string?.isEmpty == false)
        }
    }

    // MARK: Calls

    private static let template = "{% if tools %}T{% endif %}{{ messages[0].content }}<tool_call>"
    private static let tool = #"{"type":"function","name":"f","strict":true}"#
    private static let written = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>"

    private static func withoutIDs(_ text: String) -> String {
        numberingCallIDs(in: text, after: "\"call_id\":\"call_")
    }

    @Test func textAndCalls() async throws {
        let pieces = [
            "Well. ", "<tool_call>{\"name\": \"f\", \"arg", "uments\": {\"a\"", ": 1}", "}</tool_call>", Self.written,
        ]
        let arguments = #"{\"a\": 1}"#
        let engine = Self.engine(pieces)
        try await MemoryBench.run([engine], template: Self.template) { bench in
            var expected = Expected(tools: "[\(Self.tool)]")
            expected.usage = Self.usage(13, pieces.reduce(1) { $0 + $1.utf8.count })
            let items = [
                Self.message(0, "completed", Self.part("Well.")), Self.call(1, "completed", 1, arguments),
                Self.call(2, "completed", 2, arguments),
            ]
            expected.output = items.joined(separator: ",")
            let body = #"{"input":"q","tools":[\#(Self.tool)]"#
            let whole = try await bench.post(Self.path, body + "}")
            #expect(Self.withoutIDs(whole.body) == expected.json)
            let stream = try await bench.post(Self.path, body + #","stream":true}"#)
            let begun = #""response":"# + expected.begun.json
            // A token is a character, and a quotation mark is escaped.
            let deltas = ["{", #"\""#, "a", #"\""#, ":", " ", "1", "}"]
            func called(_ index: Int) -> [(name: String, rest: String)] {
                let id = "fc_r_\(index)"
                let opened = Self.call(index, "in_progress", index, "")
                return [("output_item.added", #""output_index":\#(index),"item":\#(opened)"#)]
                    + deltas.map {
                        (
                            "function_call_arguments.delta",
                            Self.item(id, index, #""delta":"\#($0)""#, parts: false)
                        )
                    } + [
                        (
                            "function_call_arguments.done",
                            Self.item(id, index, #""name":"f","arguments":"\#(arguments)""#, parts: false)
                        ),
                        ("output_item.done", #""output_index":\#(index),"item":\#(items[index])"#),
                    ]
            }
            #expect(
                Self.withoutIDs(stream.body)
                    == Self.stream(
                        [
                            ("created", begun), ("in_progress", begun),
                            (
                                "output_item.added",
                                #""output_index":0,"item":\#(Self.message(0, "in_progress", ""))"#
                            ),
                            ("content_part.added", Self.item("msg_r_0", 0, #""part":\#(Self.part(""))"#)),
                        ] + Self.deltas("Well.") + [
                            ("output_text.done", Self.item("msg_r_0", 0, #""text":"Well.","logprobs":[]"#)),
                            ("content_part.done", Self.item("msg_r_0", 0, #""part":\#(Self.part("Well."))"#)),
                            ("output_item.done", #""output_index":0,"item":\#(items[0])"#),
                        ] + called(1) + called(2)
                            + [("completed", #""response":"# + expected.json)]))
        }
        let request = try #require(engine.requests.first)
        #expect(request.tokens == "Tq<tool_call>".ids)
        #expect(request.grammar == nil)
    }

    /// A response of calls has no message, and log-probabilities of what the calls are made of are shown nowhere.
    @Test func onlyCalls() async throws {
        try await MemoryBench.run([Self.engine([Self.written])], template: Self.template) { bench in
            for stream in [false, true] {
                let answer = try await bench.post(
                    Self.path, #"{"input":"q","top_logprobs":1,"tools":[\#(Self.tool)],"stream":\#(stream)}"#)
                let last = try #require(answer.body.components(separatedBy: "data: ").last)
                let json = try TestModel.json(last)
                let response = stream ? json["response"] : json
                #expect(response["output"].array?.count == 1)
                #expect(response["output"][0]["type"].string == "function_call")
                #expect(response["status"].string == "completed")
                #expect(!answer.body.contains("logprob\""))
            }
        }
    }

    @Test func textBehindACallIsAnotherMessage() async throws {
        let engine = Self.engine(["a ", Self.written, " b"])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let answer = try await bench.post(Self.path, #"{"input":"q","tools":[\#(Self.tool)]}"#).json
            #expect(
                answer["output"].array?.map { $0["type"].string } == ["message", "function_call", "message"])
            #expect(answer["output"][2]["content"][0]["text"].string?.contains("b") == true)
            #expect(answer["output"][2]["id"].string == "msg_r_2")
        }
    }

    @Test func callsThatAreCut() async throws {
        let engine = Self.engine(["<tool_call>{\"name\": \"f\", \"arguments\": {\"a"], finish: .length)
        try await MemoryBench.run([engine], template: Self.template) { bench in
            let answer = try await bench.post(Self.path, #"{"input":"q","tools":[\#(Self.tool)]}"#)
            var expected = Expected(status: "incomplete", usage: Self.usage(13, 41), tools: "[\(Self.tool)]")
            expected.output = Self.call(0, "incomplete", 1, #"{\"a"#)
            #expect(Self.withoutIDs(answer.body) == expected.json)
        }
    }

    @Test func wantedCallsAreConstrained() async throws {
        let engine = Self.engine([Self.written])
        try await MemoryBench.run([engine], template: Self.template) { bench in
            for choice in [#""required""#, #"{"type":"function","name":"f"}"#] {
                let answer = try await bench.post(
                    Self.path, #"{"input":"q","tools":[\#(Self.tool)],"tool_choice":\#(choice)}"#)
                #expect(answer.body.contains(#""tool_choice":\#(choice),"#))
                #expect(answer.json["output"][0]["name"].string == "f")
            }
            let none = try await bench.post(Self.path, #"{"input":"q","tools":[\#(Self.tool)],"tool_choice":"none"}"#)
            #expect(none.json["output"][0]["type"].string == "message")
        }
        let requests = engine.requests
        #expect(requests.map { $0.grammar?.kind } == [.jsonSchema, .jsonSchema, nil])
        #expect(requests.map { $0.tokens.first } == ["T".ids[0], "T".ids[0], "q".ids[0]])
    }
}
