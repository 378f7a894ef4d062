// Tandem — Apache-2.0

import JSON
import Requests
import Testing

@testable import Gateway

@Suite struct GenerationRequestTests {
    private func completion(_ text: String) throws -> GenerationRequest {
        try GenerationRequest.completion(TestModel.json(text), vocabularySize: 258)
    }

    private func chat(_ text: String) throws -> GenerationRequest {
        try GenerationRequest.chat(TestModel.json(text), vocabularySize: 258)
    }

    /// The error of a completion request, as `status parameter`.
    private func refusal(_ text: String) throws -> String? {
        let body = try TestModel.json(text)
        do throws(APIError) {
            _ = try GenerationRequest.completion(body, vocabularySize: 258)
            return nil
        } catch {
            return "\(error.status) \(error.parameter ?? "-")"
        }
    }

    @Test func defaultsAreThoseOfTheAPI() throws {
        let request = try completion(#"{"prompt":"hi","seed":3}"#)
        #expect(request.prompts == [.text("hi")])
        #expect(request.maximumNewTokens == 16)
        #expect(request.choices == 1)
        #expect(request.sampling == SamplingParameters(temperature: 1, seed: 3))
        #expect(!request.stream && !request.echo && request.logProbabilities == nil)
        #expect(try chat("{}").maximumNewTokens == nil)
    }

    @Test func nullMeansAbsent() throws {
        let request = try completion(
            """
            {"prompt":["hi"],"logprobs":null,"seed":null,"stop":null,"temperature":null,"max_tokens":null,"n":null,
             "stream":null,"stream_options":null,"logit_bias":null,"best_of":null,"suffix":null}
            """)
        #expect(request.maximumNewTokens == 16)
        #expect(request.sampling.temperature == 1)
    }

    @Test func promptsComeInFourForms() throws {
        #expect(try completion(#"{"prompt":["a","b"]}"#).prompts == [.text("a"), .text("b")])
        #expect(try completion(#"{"prompt":[1,2,257]}"#).prompts == [.tokens([1, 2, 257])])
        #expect(try completion(#"{"prompt":[[1],[2,3]]}"#).prompts == [.tokens([1]), .tokens([2, 3])])
    }

    @Test func theSeedIsDrawnWhenNoneIsGiven() throws {
        let seeds = try (0..<8).map { _ in try completion(#"{"prompt":"a"}"#).sampling.seed }
        #expect(Set(seeds).count > 1)
        #expect(try completion(#"{"prompt":"a","seed":-1}"#).sampling.seed == .max)
    }

    @Test(arguments: [
        (#"{}"#, "400 prompt"),
        (#"[]"#, "400 -"),
        (#"{"prompt":[]}"#, "400 prompt"),
        (#"{"prompt":[[]]}"#, "400 prompt"),
        (#"{"prompt":[258]}"#, "400 prompt"),
        (#"{"prompt":[-1]}"#, "400 prompt"),
        (#"{"prompt":[1,"a"]}"#, "400 prompt"),
        (#"{"prompt":{"a":1}}"#, "400 prompt"),
        (#"{"prompt":"a","max_tokens":0}"#, "400 max_tokens"),
        (#"{"prompt":"a","max_tokens":2.5}"#, "400 max_tokens"),
        (#"{"prompt":"a","max_tokens":-1}"#, "400 max_tokens"),
        (#"{"prompt":"a","max_tokens":"9"}"#, "400 max_tokens"),
        (#"{"prompt":"a","max_tokens":99999999999999999999}"#, "400 max_tokens"),
        (#"{"prompt":"a","temperature":2.1}"#, "400 temperature"),
        (#"{"prompt":"a","temperature":-0.1}"#, "400 temperature"),
        (#"{"prompt":"a","temperature":"hot"}"#, "400 temperature"),
        (#"{"prompt":"a","top_p":0}"#, "400 top_p"),
        (#"{"prompt":"a","top_p":1.01}"#, "400 top_p"),
        (#"{"prompt":"a","top_k":-2}"#, "400 top_k"),
        (#"{"prompt":"a","min_p":1.5}"#, "400 min_p"),
        (#"{"prompt":"a","n":0}"#, "400 n"),
        (#"{"prompt":"a","n":129}"#, "400 n"),
        (#"{"prompt":"a","seed":1.5}"#, "400 seed"),
        (#"{"prompt":"a","logprobs":21}"#, "400 logprobs"),
        (#"{"prompt":"a","logprobs":true}"#, "400 logprobs"),
        (#"{"prompt":"a","stop":5}"#, "400 stop"),
        (#"{"prompt":"a","stop":[""]}"#, "400 stop"),
        (#"{"prompt":"a","stop":["a",1]}"#, "400 stop"),
        (#"{"prompt":"a","stream":1}"#, "400 stream"),
        (#"{"prompt":"a","stream_options":{"include_usage":true}}"#, "400 stream_options"),
        (#"{"prompt":"a","stop_token_ids":[999]}"#, "400 stop_token_ids"),
        (#"{"prompt":"a","echo":"yes"}"#, "400 echo"),
    ])
    func wrongFieldsAreNamed(body: String, expected: String) throws {
        #expect(try refusal(body) == expected)
    }

    @Test(arguments: [
        #""presence_penalty":0"#, #""frequency_penalty":0.0"#, #""repetition_penalty":1"#, #""logit_bias":{}"#,
        #""min_tokens":0"#, #""best_of":1"#, #""suffix":"""#, #""return_token_ids":false"#,
        #""response_format":{"type":"text"}"#, #""prompt_logprobs":null"#,
    ])
    func neutralValuesChangeNothing(field: String) throws {
        let plain = try completion(#"{"prompt":"a","seed":1}"#)
        #expect(try completion(#"{"prompt":"a","seed":1,\#(field)}"#) == plain)
    }

    @Test func unknownFieldsAreIgnored() throws {
        #expect(try refusal(#"{"prompt":"a","some_future_thing":{"x":[1]}}"#) == nil)
    }

    @Test func chatCountsAndLogProbabilities() throws {
        #expect(try chat(#"{"max_tokens":5,"max_completion_tokens":7}"#).maximumNewTokens == 7)
        #expect(try chat(#"{"max_tokens":5}"#).maximumNewTokens == 5)
        #expect(try chat(#"{"logprobs":true}"#).logProbabilities == 0)
        #expect(try chat(#"{"logprobs":true,"top_logprobs":4}"#).logProbabilities == 4)
        #expect(throws: APIError.self) { try chat(#"{"top_logprobs":4}"#) }
        #expect(throws: APIError.self) { try chat(#"{"tools":[{"type":"function"}]}"#) }
        #expect(throws: Never.self) { try chat(#"{"tools":[],"tool_choice":"none"}"#) }
        #expect(throws: APIError.self) { try chat(#"{"max_tokens":0}"#) }
    }
}
