// Tandem — Apache-2.0

import JSON
import NIOCore
import Requests
import TestSupport
import Testing

@testable import Gateway

@Suite struct ProxyFieldsTests {
    private func fields(_ text: String) -> ProxyFields { ProxyFields(ByteBuffer(string: text)) }

    @Test func whatMatters() {
        let found = fields(
            #" { "messages" : [{"role":"user","content":"\"model\": \"no\""}], "model":"m\u0061", "x":{"stream":true},"#
                + #""stream":true,"max_tokens":7,"n": 3 ,"user":"u"}"#)
        #expect(found.model == "ma" && found.isStream && found.maximumTokens == 7 && found.choices == 3)
        #expect(found.sessionName == "u")
        #expect(fields(#"{"prompt_cache_key":"k","user":"v","session_id":"s"}"#).sessionName == "s")
        #expect(fields(#"{"user":["v"],"prompt_cache_key":""}"#).sessionName == nil)
        #expect(found.prompt?.lowerBound == 16)
        for (prompt, choices) in [
            (#""a""#, 2), (#"["a","b",  "c"]"#, 6), ("[1,2,3]", 2), ("[[1,2],[3]]", 4), ("[]", 2), ("null", 2),
        ] {
            #expect(fields(#"{"n":2,"prompt":\#(prompt)}"#).choices == choices, "\(prompt)")
        }
        #expect(fields(#"{"n":2,"input":["a","b"]}"#).choices == 2)
        #expect(fields(#"{"max_completion_tokens":9}"#).maximumTokens == 9)
        #expect(fields(#"{"model":null,"stream":false,"n":null}"#) == fields("{}"))
    }

    @Test(arguments: [
        "", "[]", "{", #"{"model""#, #"{"model":"#, #"{"model":"a"#, #"{"a":{"b":[1,2}"#, "nonsense", #"{"a" "b"}"#,
    ])
    func whatIsNoObjectSaysNothing(_ text: String) {
        #expect(fields(text).model == nil && !fields(text).isStream)
    }

    @Test(arguments: UInt64(1)...4) func anyBytesAreFine(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let seeds = #"{"model":"a\"b","messages":[{"x":[1,{"y":null}]}],"max_tokens":-1e5,"stream":true}"#
        for _ in 0..<500 {
            var bytes = Array(seeds.utf8)
            for _ in 0..<Int.random(in: 0...4, using: &generator) {
                let position = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[position] = Array(#"{}[]",:\ ax0"#.utf8).randomElement(using: &generator) ?? 0
                if Bool.random(using: &generator) { bytes.removeLast() }
            }
            _ = ProxyFields(ByteBuffer(bytes: bytes))
            var chunk = ProxyChunk()
            _ = chunk.read(bytes.span)
        }
    }

    @Test func equalBeginningsHaveEqualHashes() {
        let beginning = String(repeating: "0123456789abcdef", count: 40)
        func hashes(_ rest: String) -> [BlockHash] {
            let body = ByteBuffer(string: #"{"prompt":"\#(beginning)\#(rest)"}"#)
            let place = ProxyFields(body).prompt ?? 0..<0
            return PromptChunks.hashes(of: body, in: place, model: "m")
        }
        let (first, second) = (hashes(String(repeating: "x", count: 300)), hashes(String(repeating: "y", count: 300)))
        #expect(first.count == 3 && first.prefix(2) == second.prefix(2) && first[2] != second[2])
    }
}

@Suite struct ProxyEventsTests {
    private static func event(_ text: String, finish: String = "null", more: String = "") -> String {
        #"data: {"id":"a","created":5,"model":"m","choices":[{"index":0,"text":"\#(text)","finish_reason":\#(finish)\#(more)}]}"#
            + "\n\n"
    }

    /// What comes of bytes that come in pieces: events, text, tokens.
    private func run(
        _ bytes: [UInt8], pieces: [Int], record: ProxyRecord, merge: ProxyContinuation.Merge? = nil
    ) -> (events: String, tokens: Int, failure: String?) {
        let events = ProxyEvents(record: record, continuation: merge)
        var rest = bytes[...]
        var (passed, tokens, piece): ([UInt8], Int, Int) = ([], 0, 0)
        while !rest.isEmpty {
            let count = min(rest.count, pieces[piece % pieces.count])
            let batch = events.receive(ByteBuffer(bytes: rest.prefix(count)))
            passed += batch.events.map { Array($0.readableBytesView) } ?? []
            tokens += batch.tokens
            if let failure = batch.failure { return (String(decoding: passed, as: UTF8.self), tokens, failure) }
            rest = rest.dropFirst(count)
            piece += 1
        }
        return (String(decoding: passed, as: UTF8.self), tokens, nil)
    }

    @Test(arguments: UInt64(1)...6) func eventsPassUnchangedHoweverTheyCome(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let long = "long " + String(repeating: "x", count: 99)
        let texts = ["a", " b", "\\u00e4", "ö😀", "\\\"", "", "\\\\", long, "c", "d"]
        var stream = ": hello\n\n"
        for _ in 0..<30 { stream += Self.event(texts.randomElement(using: &generator) ?? "") }
        stream += Self.event("end", finish: #""stop""#) + "data: [DONE]\n\n"
        let bytes = Array(stream.utf8)
        let whole = ProxyRecord(kind: .completion, choices: 1)
        let expected = run(bytes, pieces: [bytes.count], record: whole)
        #expect(expected.events == stream)
        #expect(whole.isDone && whole.finishes == 1 && whole.finishReason == "stop" && whole.obstacle == nil)
        #expect(whole.id == "a" && whole.created == 5)
        for pieces in [[1], [2, 3], (0..<7).map { _ in Int.random(in: 1...300, using: &generator) }] {
            let record = ProxyRecord(kind: .completion, choices: 1)
            #expect(run(bytes, pieces: pieces, record: record) == expected)
            #expect(record.text == whole.text && record.tokens == whole.tokens)
        }
    }

    @Test func aPartialEventIsKeptBack() {
        let record = ProxyRecord(kind: .completion, choices: 1)
        let first = Self.event("a") + Self.event("b")
        let result = run(Array((first + Self.event("c").dropLast()).utf8), pieces: [.max], record: record)
        #expect(result.events == first && String(decoding: record.text, as: UTF8.self) == "ab" && record.tokens == 2)
    }

    @Test func linesMayEndWithCarriageReturns() {
        let record = ProxyRecord(kind: .other, choices: 1)
        let stream = "event: x\r\ndata: {}\r\n\r\ndata: [DONE]\r\n\r\n"
        for pieces in [[1], [4], [.max]] {
            record.isDone = false
            #expect(run(Array(stream.utf8), pieces: pieces, record: record).events == stream)
            #expect(record.isDone)
        }
    }

    @Test func whatCannotGoOnIsNoticed() {
        func obstacle(_ choice: String, kind: ProxyRecord.Kind = .chat) -> Obstacle? {
            let record = ProxyRecord(kind: kind, choices: 1)
            _ = run(Array(#"data: {"choices":[\#(choice)]}"#.utf8) + [10, 10], pieces: [.max], record: record)
            return record.obstacle
        }
        #expect(obstacle(#"{"index":0,"delta":{"content":"a","tool_calls":null}}"#) == nil)
        #expect(obstacle(#"{"index":0,"delta":{"tool_calls":[{"index":0}]}}"#) == .toolCalls)
        #expect(obstacle(#"{"index":0,"delta":{"reasoning_content":"x"}}"#) == .reasoning)
        #expect(obstacle(#"{"index":1,"delta":{"content":"x"}}"#) == .choices)
        #expect(obstacle(#"{"index":0,"text":"x","logprobs":{}}"#, kind: .completion) == .logProbabilities)
        let record = ProxyRecord(kind: .chat, choices: 1)
        _ = run(Array("data: what\n\n".utf8), pieces: [.max], record: record)
        #expect(record.obstacle == .format)
    }

    @Test func anErrorOfTheEngineIsKeptBackAndOneOfTheClientIsNot() {
        let record = ProxyRecord(kind: .completion, choices: 1)
        let died = #"data: {"error":{"message":"died","code":500}}"# + "\n\n"
        let result = run(Array((Self.event("a") + died).utf8), pieces: [.max], record: record)
        #expect(result.events == Self.event("a") && result.failure?.contains("died") == true)
        #expect(record.errorEvent.map { String(buffer: $0) } == died)
        let wrong = #"data: {"error":{"message":"wrong","code":400}}"# + "\n\n"
        #expect(run(Array(wrong.utf8), pieces: [.max], record: record).events == wrong)
    }

    @Test func aStreamThatGoesOnLooksLikeOne() throws {
        let record = ProxyRecord(kind: .chat, choices: 1)
        (record.id, record.created, record.tokens) = ("first", 3, 4)
        let stream =
            #"data: {"id":"second","created":9,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#
            + "\n\n" + #"data: {"id":"second","created":9,"choices":[{"index":0,"delta":{"content":"x"}}]}"# + "\n\n"
            + #"data: {"id":"second","created":9,"choices":[],"usage":{"prompt_tokens":14,"completion_tokens":6,"total_tokens":20}}"#
            + "\n\ndata: [DONE]\n\n"
        let expected =
            #"data: {"id":"first","created":3,"choices":[{"index":0,"delta":{"content":"x"}}]}"# + "\n\n"
            + #"data: {"id":"first","created":3,"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":10,"total_tokens":20}}"#
            + "\n\ndata: [DONE]\n\n"
        let merge = ProxyContinuation.Merge(tokens: 4, kind: .chat)
        #expect(run(Array(stream.utf8), pieces: [7], record: record, merge: merge).events == expected)
    }

    @Test func tokenIDsAreKept() {
        let record = ProxyRecord(kind: .completion, choices: 1)
        let stream =
            Self.event("a", more: #","token_ids":[4],"prompt_token_ids":[1,2]"#)
            + Self.event("b", more: #","token_ids":[5,6]"#) + Self.event("", more: #","token_ids":[7]"#)
        _ = run(Array(stream.utf8), pieces: [9], record: record)
        #expect(record.tokenIDs == [4, 5, 6, 7] && record.promptTokenIDs == [1, 2] && record.tokens == 4)
        // The text of the last one is still held back.
        #expect(record.usesTokenIDs && record.keptTokens == 3)
    }
}

@Suite struct ProxyContinuationTests {
    private func record(_ kind: ProxyRecord.Kind, text: String, tokens: Int) -> ProxyRecord {
        let record = ProxyRecord(kind: kind, choices: 1)
        record.text = Array(text.utf8)
        record.tokens = tokens
        record.hasContent = true
        record.hasAllTokenIDs = false
        return record
    }

    private func body(_ body: String, _ record: ProxyRecord) throws -> JSONValue? {
        guard case .go(let bytes, _) = ProxyContinuation.plan(ByteBuffer(string: body), record: record) else {
            return nil
        }
        return try JSONParser.parse(bytes.readableBytesView)
    }

    private func obstacle(_ body: String, _ record: ProxyRecord) -> String {
        switch ProxyContinuation.plan(ByteBuffer(string: body), record: record) {
        case .go: "goes on"
        case .ended: "ended"
        case .cannot(let obstacle): obstacle.rawValue
        }
    }

    @Test func completions() throws {
        let record = record(.completion, text: #" \"x\u00e4"#, tokens: 3)
        let text = try body(#"{"prompt":"ab","max_tokens":10,"min_tokens":2,"seed":1}"#, record)
        #expect(text?["prompt"].string == #"ab "xä"#)
        #expect(text?["max_tokens"] == .integer(7) && text?["min_tokens"] == .integer(0))
        #expect(text?["seed"] == .integer(1))
        #expect(try body(#"{"prompt":["ab"]}"#, record)?["prompt"].string == #"ab "xä"#)
        #expect(obstacle(#"{"prompt":[1,2]}"#, record) == "prompt_form")
        #expect(obstacle(#"{"prompt":["a","b"]}"#, record) == "prompt_form")
        #expect(obstacle(#"{"prompt":"ab","max_tokens":3}"#, record) == "ended")
        (record.tokenIDs, record.shownTokenIDs, record.hasAllTokenIDs) = ([7, 8, 9], 3, true)
        record.promptTokenIDs = [1]
        let expected = JSONValue.array([1, 7, 8, 9].map { .integer($0) })
        #expect(try body(#"{"prompt":"ab"}"#, record)?["prompt"] == expected)
        #expect(try body(#"{"prompt":[1]}"#, record)?["prompt"] == expected)
    }

    @Test func chats() throws {
        let record = record(.chat, text: "so", tokens: 1)
        let text = try body(#"{"messages":[{"role":"user","content":"q"}],"max_completion_tokens":4}"#, record)
        #expect(text?["messages"][1] == (try JSONParser.parse(#"{"role":"assistant","content":"so"}"#.utf8)))
        #expect(text?["continue_final_message"] == .bool(true) && text?["add_generation_prompt"] == .bool(false))
        #expect(text?["max_completion_tokens"] == .integer(3))
        let begun = try body(
            #"{"messages":[{"role":"assistant","content":"And "}],"continue_final_message":true}"#, record)
        #expect(begun?["messages"].array?.count == 1 && begun?["messages"][0]["content"].string == "And so")
    }

    /// Nothing but the beginning has come: the request goes as it was.
    @Test func beforeTheFirstWord() {
        let record = record(.chat, text: "", tokens: 0)
        guard case .go(let bytes, let merge) = ProxyContinuation.plan(ByteBuffer(string: #"{"a" : 1}"#), record: record)
        else {
            Issue.record("it does not go on")
            return
        }
        #expect(String(buffer: bytes) == #"{"a" : 1}"# && merge.tokens == 0)
    }

    @Test(arguments: [
        (#""best_of":2"#, "n"), (#""logprobs":0"#, "logprobs"), (#""logprobs":false"#, "goes on"),
        (#""prompt_logprobs":1"#, "logprobs"), (#""echo":true"#, "echo"),
        (#""response_format":{"type":"text"}"#, "goes on"),
        (#""response_format":{"type":"json_object"}"#, "structured_output"),
        (#""guided_regex":"a""#, "structured_output"),
        (#""structured_outputs":{}"#, "structured_output"), (#""grammar":null"#, "goes on"),
        (#""tool_choice":"auto""#, "goes on"), (#""tool_choice":"required""#, "structured_output"),
    ])
    func whatARequestAllows(_ field: String, _ expected: String) {
        #expect(obstacle("{\"prompt\":\"a\",\(field)}", record(.completion, text: "x", tokens: 1)) == expected)
    }
}
